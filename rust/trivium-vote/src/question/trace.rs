//! What a question keeps of its traces: as little as the policy and the replay log read.
//!
//! A running trace of which nothing has been reported takes no memory; one that has ended without
//! statistics of its own takes 56 bytes and its answer.

use crate::question::end::Reason;
use crate::weights::conf::Groups;

/// Statistics of one trace.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct TraceStats {
    pub(crate) num_tokens: u64,
    pub(crate) sum_logprob: f64,
    pub(crate) sum_conf: f64,
    pub(crate) given: Given,
}

/// What the host said of a trace beyond its tokens, and what was gathered for the weight.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Given {
    pub(crate) reward: Option<f64>,
    pub(crate) confidence: Option<f64>,
    pub(crate) entropy: Option<f64>,
    pub(crate) source: Option<u32>,
    pub(crate) weight: Option<f64>,
}

/// A ballot before it is counted: the key and the answer as written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ballot {
    pub(crate) key: Box<str>,
    pub(crate) raw: Box<str>,
    /// Hash of the whole text: equal texts are one path.
    pub(crate) path: u64,
}

/// FNV-1a, for what must not depend on the hasher of a map.
pub(crate) fn fnv(start: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(start, |hash, &b| (hash ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

/// One trace.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trace {
    num_tokens: u64,
    sum_logprob: f64,
    sum_conf: f64,
    /// Boxed, because most traces have none of it.
    given: Option<Box<Given>>,
    /// Group confidences, for policies that read them.
    pub(crate) groups: Option<Box<Groups>>,
    pub(crate) ballot: Option<Box<Ballot>>,
    pub(crate) ended: Option<Reason>,
}

impl Trace {
    /// A trace that has ended.
    pub(crate) fn ended(reason: Reason, ballot: Option<Ballot>, stats: TraceStats) -> Self {
        let TraceStats { num_tokens, sum_logprob, sum_conf, given } = stats;
        let given = (given != Given::default()).then(|| Box::new(given));
        let ballot = ballot.map(Box::new);
        Self { num_tokens, sum_logprob, sum_conf, given, groups: None, ballot, ended: Some(reason) }
    }

    /// Adds a token.
    pub(crate) fn add(&mut self, logprob: f64, conf: f64) {
        self.num_tokens += 1;
        self.sum_logprob += logprob;
        self.sum_conf += conf;
    }

    /// Replaces what tokens added up to, for a replay.
    pub(crate) fn set_sums(&mut self, logprob: f64, conf: f64) {
        (self.sum_logprob, self.sum_conf) = (logprob, conf);
    }

    /// Its statistics.
    pub(crate) fn stats(&self) -> TraceStats {
        TraceStats {
            num_tokens: self.num_tokens,
            sum_logprob: self.sum_logprob,
            sum_conf: self.sum_conf,
            given: self.given.as_deref().copied().unwrap_or_default(),
        }
    }

    /// Bytes held outside of this value.
    pub(crate) fn memory(&self) -> usize {
        let ballot = |b: &Ballot| size_of::<Ballot>() + b.key.len() + b.raw.len();
        self.given.as_ref().map_or(0, |_| size_of::<Given>())
            + self.groups.as_ref().map_or(0, |g| size_of::<Groups>() + g.memory())
            + self.ballot.as_deref().map_or(0, ballot)
    }
}

/// What happened, in order: enough, with the traces, to replay the question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// The host was told to launch this many more traces.
    Launch(u32),
    /// This trace ended.
    Finish(u32),
    /// The host closed the question.
    Close,
}
