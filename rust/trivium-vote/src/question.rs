//! One question: its traces, its tally, its launch control and its result.
//!
//! Everything that decides is a function of launch order. Finished traces wait until all earlier
//! ones have ended; then they are counted one at a time, and after each one
//!
//! ```text
//! stop?   asked with the tally of the prefix 0..j and the L - j traces outstanding
//! launch  max(launched, j + min(L - j, ceil(d / p^g)))   with d = need(tally), see `Latency`
//! ```
//!
//! so that winner, tally, stop and number of launches are the same for every order of finishing.
//! What does depend on timing is kept apart: how many traces had to be cancelled, how many ended
//! too late to count, and how many tokens were paid for.

use crate::keys::Said;
use crate::spec::{Latency, Policy};
use crate::stops::{Fired, Rule, Stops, beta};
use crate::tally::{KeyId, Tally};
use rustc_hash::FxHashMap;
use std::sync::Arc;
use trivium_core::{Error, Result};

/// Why a trace ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It finished by itself.
    Stop,
    /// It met a length limit: an answer that runs into the end of its text does not count.
    Length,
    /// It was cancelled: no ballot.
    Cancelled,
    /// It failed: no ballot.
    Error,
}

impl Reason {
    /// All reasons with their names.
    pub const ALL: [(&'static str, Self); 4] = [
        ("stop", Self::Stop),
        ("length", Self::Length),
        ("cancelled", Self::Cancelled),
        ("error", Self::Error),
    ];

    /// Reads a name.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] listing the names.
    pub fn parse(name: &str) -> Result<Self> {
        let found = Self::ALL.iter().find(|(text, _)| *text == name);
        let names = || Self::ALL.map(|(text, _)| text).join(", ");
        found.map(|(_, reason)| *reason).ok_or_else(|| {
            Error::input("reason", format!("{name:?} is unknown; choose one of: {}", names()))
        })
    }
}

/// How a trace ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct End<'a> {
    /// What it said.
    pub said: Said<'a>,
    /// Why it ended.
    pub reason: Reason,
    /// Sum of its tokens' log-probabilities, overriding what was gathered.
    pub sum_logprob: Option<f64>,
    /// Number of its tokens, overriding what was counted.
    pub num_tokens: Option<u64>,
    /// A reward, kept for rules that read it.
    pub reward: Option<f64>,
}

impl<'a> End<'a> {
    /// A trace that finished by itself.
    pub fn new(said: Said<'a>) -> Self {
        Self { said, reason: Reason::Stop, sum_logprob: None, num_tokens: None, reward: None }
    }
}

/// Why a vote stopped.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum StopCause {
    /// A stop rule fired.
    Rule(Rule),
    /// No completion of the budget could change the winner.
    Locked,
    /// Every trace of the budget has ended.
    Budget,
    /// The host closed the question.
    Closed,
}

impl std::fmt::Display for StopCause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Rule(rule) => write!(f, "rule:{rule}"),
            Self::Locked => f.write_str("locked"),
            Self::Budget => f.write_str("budget"),
            Self::Closed => f.write_str("cancelled"),
        }
    }
}

/// One row of a result's tally.
#[derive(Debug, Clone, PartialEq)]
pub struct TallyRow {
    /// The key.
    pub key: String,
    /// Its ballots.
    pub count: u32,
    /// Their weight.
    pub weight: f64,
}

/// What a vote has cost. The first depends on launch order alone, the others on timing too: by the
/// time a stop is noticed, more traces may be running.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// Traces counted, abstentions included: the prefix of launch order that the decision rests on.
    /// This is what published savings count.
    pub samples: u32,
    /// Traces launched: all are paid for.
    pub launched: u32,
    /// Traces cancelled by the decision or by the host.
    pub cancelled: u32,
    /// Traces that ended by themselves but too late to be counted.
    pub late: u32,
    /// Tokens of all traces, as far as they were reported.
    pub tokens: u64,
}

/// The state of a vote, final once `stop` is set.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Id of the question.
    pub question: String,
    /// The winning key; none if no trace cast a ballot.
    pub winner: Option<String>,
    /// The representative's answer as it was written: the first ballot for the winner.
    pub answer: Option<String>,
    /// The representative's trace.
    pub trace: Option<u32>,
    /// Posterior probability that the winner is the most probable answer of the sampler: not that it
    /// is correct. None without a winner.
    pub p_mode: Option<f64>,
    /// Share of the ballots that the winner has, 0 without any.
    pub share: f64,
    /// Lead over the runner-up as a share of the ballots.
    pub margin: f64,
    /// Keys by falling weight, the older first on ties.
    pub tally: Vec<TallyRow>,
    /// Number of keys that share the winner's count, itself included.
    pub num_tied: u32,
    /// Ballots cast.
    pub num_cast: u32,
    /// Counted traces without a ballot.
    pub num_none: u32,
    /// Why the vote stopped; none while it runs.
    pub stop: Option<StopCause>,
    /// What it cost so far.
    pub cost: Cost,
    /// Name of the policy.
    pub policy: String,
    /// Seed of the question.
    pub seed: u64,
}

/// Running statistics of one trace.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct TraceStats {
    pub(crate) num_tokens: u64,
    pub(crate) sum_logprob: f64,
    pub(crate) sum_conf: f64,
    pub(crate) reward: Option<f64>,
}

/// A ballot before it is counted: the key and the answer as written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ballot {
    pub(crate) key: String,
    pub(crate) raw: String,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Trace {
    pub(crate) stats: TraceStats,
    pub(crate) ended: Option<Reason>,
    pub(crate) ballot: Option<Ballot>,
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

/// What changed: traces to launch or to cancel, and whether the vote has just been decided.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) cancel: Vec<u32>,
    pub(crate) decided: bool,
}

/// One question of a pool.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    pub(crate) id: String,
    pub(crate) budget: u32,
    pub(crate) seed: u64,
    pub(crate) traces: Vec<Trace>,
    pub(crate) events: Vec<Event>,
    policy: Arc<Policy>,
    stops: Arc<Stops>,
    tally: Tally,
    keys: FxHashMap<Box<str>, KeyId>,
    /// First trace of each key: its representative.
    firsts: Vec<u32>,
    /// Traces counted: the prefix of launch order the tally stands for.
    counted: u32,
    num_none: u32,
    /// Traces to have been launched by now; `traces.len()` of them the host knows about.
    target: u32,
    stop: Option<StopCause>,
}

impl Question {
    pub(crate) fn new(
        id: String,
        budget: u32,
        seed: u64,
        policy: Arc<Policy>,
        stops: Arc<Stops>,
    ) -> Self {
        let mut question = Self {
            id,
            budget,
            seed,
            traces: Vec::new(),
            events: Vec::new(),
            policy,
            stops,
            tally: Tally::default(),
            keys: FxHashMap::default(),
            firsts: Vec::new(),
            counted: 0,
            num_none: 0,
            target: 0,
            stop: None,
        };
        question.aim();
        question
    }

    pub(crate) fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    pub(crate) fn is_done(&self) -> bool {
        self.stop.is_some()
    }

    /// Raises the number of launches to what launch control asks for.
    fn aim(&mut self) {
        let rest = self.budget - self.counted;
        let flying = match self.policy.config.latency {
            Latency::Max => rest,
            Latency::Factor(exponent) => {
                let need = f64::from(self.stops.need(&self.tally, rest));
                let (a, n) = (f64::from(self.tally.top_two().0), f64::from(self.tally.num_cast()));
                let hit = (a + 1.0) / (n + 2.0);
                (need / hit.powf(exponent)).ceil().min(f64::from(rest)) as u32
            }
        };
        self.target = self.target.max(self.counted + flying);
    }

    /// Traces that the host has not been told to launch yet: the first and how many. They count as
    /// launched from now on.
    pub(crate) fn take_launch(&mut self) -> Option<(u32, u32)> {
        let first = self.traces.len() as u32;
        if self.is_done() || self.target <= first {
            return None;
        }
        let num = self.target - first;
        self.traces.resize_with(self.target as usize, Trace::default);
        self.events.push(Event::Launch(num));
        Some((first, num))
    }

    /// A trace that may still receive tokens or its end.
    pub(crate) fn running(&self, trace: i64) -> Result<u32> {
        let found = u32::try_from(trace).ok().and_then(|t| Some((t, self.traces.get(t as usize)?)));
        match found {
            None => {
                let num = self.traces.len();
                let hint = if num == 0 { "; fetch the first launches before" } else { "" };
                let id = &self.id;
                let why =
                    format!("{trace} of question {id:?} is not one of the {num} launched{hint}");
                Err(Error::input("trace", why))
            }
            Some((_, Trace { ended: Some(_), .. })) => Err(Error::state(
                format!("trace {trace} of question {:?}", self.id),
                "a running trace",
                "one that has ended",
            )),
            Some((trace, _)) => Ok(trace),
        }
    }

    /// Adds one token to the statistics of a trace that [`Question::running`] has checked.
    pub(crate) fn add_token(&mut self, trace: u32, logprob: f64, conf: f64) {
        let stats = &mut self.traces[trace as usize].stats;
        stats.num_tokens += 1;
        stats.sum_logprob += logprob;
        stats.sum_conf += conf;
    }

    /// Ends a trace that [`Question::running`] has checked, and counts what has become countable.
    pub(crate) fn end(
        &mut self,
        trace: u32,
        reason: Reason,
        ballot: Option<Ballot>,
        stats: TraceStats,
    ) -> Change {
        let entry = &mut self.traces[trace as usize];
        *entry = Trace { stats, ended: Some(reason), ballot };
        self.events.push(Event::Finish(trace));
        if self.is_done() {
            return Change::default();
        }
        while self.stop.is_none() && self.counted < self.traces.len() as u32 {
            let next = self.counted;
            if self.traces[next as usize].ended.is_none() {
                break;
            }
            self.count(next);
        }
        self.decision()
    }

    /// Decides the vote with what has been counted.
    pub(crate) fn close(&mut self) -> Change {
        if self.is_done() {
            return Change::default();
        }
        self.events.push(Event::Close);
        self.stop = Some(StopCause::Closed);
        self.decision()
    }

    fn count(&mut self, trace: u32) {
        self.counted += 1;
        match &self.traces[trace as usize].ballot {
            None => self.num_none += 1,
            Some(ballot) => {
                let known = self.keys.get(ballot.key.as_str()).copied();
                let key = known.unwrap_or(self.firsts.len() as KeyId);
                if known.is_none() {
                    self.keys.insert(ballot.key.as_str().into(), key);
                    self.firsts.push(trace);
                }
                self.tally.cast(key);
            }
        }
        let rest = self.budget - self.counted;
        self.stop = match self.stops.check(&self.tally, rest) {
            Some(Fired::Locked) if rest > 0 || self.policy.rules.contains(&Rule::Locked) => {
                Some(StopCause::Locked)
            }
            Some(Fired::Rule(rule)) => Some(StopCause::Rule(rule)),
            _ if rest == 0 => Some(StopCause::Budget),
            _ => None,
        };
        if self.stop.is_none() {
            self.aim();
        }
    }

    fn decision(&mut self) -> Change {
        if !self.is_done() {
            return Change::default();
        }
        let open = |(_, trace): &(usize, &Trace)| trace.ended.is_none();
        let cancel: Vec<u32> =
            self.traces.iter().enumerate().filter(open).map(|(i, _)| i as u32).collect();
        Change { cancel, decided: true }
    }

    pub(crate) fn outcome(&self) -> Outcome {
        let (a, b) = self.tally.top_two();
        let cast = self.tally.num_cast();
        let share_of =
            |count: u32| if cast == 0 { 0.0 } else { f64::from(count) / f64::from(cast) };
        let first = self.tally.leader().map(|key| self.firsts[key as usize]);
        let ballot = first.and_then(|trace| self.traces[trace as usize].ballot.as_ref());
        let name =
            |&trace: &u32| self.traces[trace as usize].ballot.as_ref().map(|b| b.key.clone());
        let mut tally: Vec<TallyRow> = (self.firsts.iter().zip(self.tally.counts()))
            .filter_map(|(trace, &count)| {
                Some(TallyRow { key: name(trace)?, count, weight: f64::from(count) })
            })
            .collect();
        // Stable, so that the older key stays first on ties.
        tally.sort_by_key(|row| std::cmp::Reverse(row.count));
        let (traces, counted) = (self.traces.as_slice(), self.counted as usize);
        let late = |t: &&Trace| matches!(t.ended, Some(Reason::Stop | Reason::Length));
        let done = self.is_done();
        let cancelled = |t: &&Trace| match t.ended {
            Some(reason) => reason == Reason::Cancelled,
            None => done,
        };
        Outcome {
            question: self.id.clone(),
            winner: ballot.map(|ballot| ballot.key.clone()),
            answer: ballot.map(|ballot| ballot.raw.clone()),
            trace: first,
            p_mode: first.map(|_| beta::posterior(a, b)),
            share: share_of(a),
            margin: share_of(a - b),
            tally,
            num_tied: self.tally.num_tied() as u32,
            num_cast: cast,
            num_none: self.num_none,
            stop: self.stop,
            cost: Cost {
                samples: self.counted,
                launched: traces.len() as u32,
                cancelled: traces.iter().filter(cancelled).count() as u32,
                late: if done { traces[counted..].iter().filter(late).count() as u32 } else { 0 },
                tokens: traces.iter().map(|trace| trace.stats.num_tokens).sum(),
            },
            policy: self.policy.name(),
            seed: self.seed,
        }
    }

    /// Bytes held, roughly.
    pub(crate) fn memory(&self) -> usize {
        let ballots = self.traces.iter().filter_map(|trace| trace.ballot.as_ref());
        size_of::<Self>()
            + self.id.capacity()
            + self.traces.capacity() * size_of::<Trace>()
            + self.events.capacity() * size_of::<Event>()
            + ballots.map(|b| b.key.capacity() * 2 + b.raw.capacity()).sum::<usize>()
            + self.keys.capacity() * size_of::<(Box<str>, KeyId)>()
            + self.firsts.capacity() * size_of::<u32>()
    }
}
