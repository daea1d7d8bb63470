//! What a question keeps of a trace that runs, or that has ended before an earlier one: what the
//! policy reads. A trace that is counted leaves its ballot in the tally and its line in the log.

use crate::question::end::Reason;
use crate::tally::KeyId;
use crate::watch::Watch;

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

/// The key of a ballot that is not counted yet.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Said {
    /// One that a counted ballot has.
    Known(KeyId),
    /// Its canonical form.
    New(Box<str>),
}

/// A ballot before it is counted.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ballot {
    pub(crate) key: Said,
    /// The answer as written; none where it is that of the key's first ballot.
    pub(crate) raw: Option<Box<str>>,
    /// Hash of the whole text: equal texts are one path.
    pub(crate) path: u64,
}

/// FNV-1a, for what must not depend on the hasher of a map.
pub(crate) fn fnv(start: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(start, |hash, &b| (hash ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

/// How a trace ended, until it is counted.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ended {
    pub(crate) reason: Reason,
    pub(crate) ballot: Option<Ballot>,
    pub(crate) given: Given,
}

/// One trace.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trace {
    num_tokens: u64,
    sum_logprob: f64,
    sum_conf: f64,
    /// What policies about running traces read.
    pub(crate) watch: Option<Box<Watch>>,
    pub(crate) ended: Option<Box<Ended>>,
}

impl Trace {
    /// A trace that has ended.
    pub(crate) fn ended(ended: Ended, stats: &TraceStats) -> Self {
        Self {
            num_tokens: stats.num_tokens,
            sum_logprob: stats.sum_logprob,
            sum_conf: stats.sum_conf,
            watch: None,
            ended: Some(Box::new(ended)),
        }
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

    /// Number of its tokens.
    pub(crate) fn num_tokens(&self) -> u64 {
        self.num_tokens
    }

    /// Its statistics.
    pub(crate) fn stats(&self) -> TraceStats {
        TraceStats {
            num_tokens: self.num_tokens,
            sum_logprob: self.sum_logprob,
            sum_conf: self.sum_conf,
            given: self.ended.as_ref().map(|ended| ended.given).unwrap_or_default(),
        }
    }

    /// Bytes held outside of this value.
    pub(crate) fn memory(&self) -> usize {
        let text = |said: &Said| match said {
            Said::Known(_) => 0,
            Said::New(key) => key.len(),
        };
        let ballot = |b: &Ballot| text(&b.key) + b.raw.as_ref().map_or(0, |raw| raw.len());
        let ended = |e: &Ended| size_of::<Ended>() + e.ballot.as_ref().map_or(0, ballot);
        self.watch.as_deref().map_or(0, |watch| size_of::<Watch>() + watch.memory())
            + self.ended.as_deref().map_or(0, ended)
    }
}
