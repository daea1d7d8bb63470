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

mod end;
mod outcome;
mod trace;

pub use end::{End, Reason, StopCause};
pub use outcome::{Cost, Outcome, TallyRow};
pub(crate) use trace::{Ballot, Event, Given, Trace, TraceStats, fnv};

use crate::spec::{Latency, Policy, Ties};
use crate::stops::{Fired, Rule, Stops, Weighted, first_finish};
use crate::tally::{KeyId, Tally};
use crate::weights::conf::{Groups, percentile};
use crate::weights::{self, BallotStats, Weight};
use rustc_hash::FxHashMap;
use std::sync::Arc;
use trivium_core::{Error, Result};

/// Traces that run to their end before pruning begins.
const WARM_UP: u32 = 16;

/// What changed: traces to launch or to cancel, and whether the vote has just been decided.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) cancel: Vec<u32>,
    pub(crate) decided: bool,
}

/// Single ballots and what they weigh.
#[derive(Debug, Clone, Default)]
struct Weighing {
    /// Counted ballots in order: key and trace.
    ballots: Vec<(KeyId, u32)>,
    /// Their weights, and sums by key; empty under the weight `one`.
    weights: Vec<f64>,
    sums: Vec<f64>,
}

/// Keys that are told apart by comparing them with each other.
const FEW_KEYS: usize = 8;

/// One question of a pool.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    pub(crate) id: Arc<str>,
    pub(crate) budget: u32,
    pub(crate) seed: u64,
    /// Traces up to the last that was heard of: at most `launched`.
    pub(crate) traces: Vec<Trace>,
    /// Traces that the host knows about.
    launched: u32,
    pub(crate) events: Vec<Event>,
    policy: Arc<Policy>,
    stops: Arc<Stops>,
    tally: Tally,
    /// Keys by name, once there are more than a few to compare with.
    keys: Option<Box<FxHashMap<Box<str>, KeyId>>>,
    /// First trace of each key: its representative.
    firsts: Vec<u32>,
    /// Traces counted: the prefix of launch order the tally stands for.
    counted: u32,
    num_none: u32,
    /// For policies that read single ballots.
    weighing: Option<Box<Weighing>>,
    /// Least group confidence of traces after the warm-up.
    floor: Option<f64>,
    /// What a stop elected in place of the leader.
    elected: Option<KeyId>,
    /// Traces to have been launched by now; `traces.len()` of them the host knows about.
    target: u32,
    stop: Option<StopCause>,
}

impl Question {
    pub(crate) fn new(
        id: Arc<str>,
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
            launched: 0,
            events: Vec::new(),
            policy,
            stops,
            tally: Tally::default(),
            keys: None,
            firsts: Vec::new(),
            counted: 0,
            num_none: 0,
            weighing: None,
            floor: None,
            elected: None,
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
            Latency::Factor(_) if self.policy.arrival => rest.min(self.started() - self.counted),
            Latency::Factor(exponent) => {
                let need = f64::from(self.stops.need(&self.tally, rest));
                let (a, n) = (f64::from(self.tally.top_two().0), f64::from(self.tally.num_cast()));
                let hit = (a + 1.0) / (n + 2.0);
                (need / hit.powf(exponent)).ceil().min(f64::from(rest)) as u32
            }
        };
        // Waves are launched whole.
        let whole = (self.counted + flying).next_multiple_of(self.policy.wave);
        self.target = self.target.max(whole.min(self.budget.max(self.counted + flying)));
    }

    /// Traces to start under rules on the order of finishing: the budget where none says.
    fn started(&self) -> u32 {
        let of = |rule: &Rule| match *rule {
            Rule::FirstFinish { finishes, of, .. } | Rule::LastFinish { finishes, of } => {
                if of > 0 { of } else { first_finish::started(finishes) }
            }
            _ => self.budget,
        };
        let most = self.policy.rules.iter().map(of).max().unwrap_or(self.budget);
        most.min(self.budget).max(self.counted)
    }

    /// The budget, or what an order-of-finishing rule starts.
    fn limit(&self) -> u32 {
        if self.policy.arrival { self.started() } else { self.budget }
    }

    /// Traces that the host has not been told to launch yet: the first and how many. They count as
    /// launched from now on.
    pub(crate) fn take_launch(&mut self) -> Option<(u32, u32)> {
        let first = self.launched;
        if self.is_done() || self.target <= first {
            return None;
        }
        let num = self.target - first;
        self.launched = self.target;
        self.events.push(Event::Launch(num));
        Some((first, num))
    }

    /// A trace that may still receive tokens or its end.
    pub(crate) fn running(&self, trace: i64) -> Result<u32> {
        let known = u32::try_from(trace).ok().filter(|&t| t < self.launched);
        match known.map(|t| (t, self.traces.get(t as usize))) {
            None => {
                let num = self.launched;
                let hint = if num == 0 { "; fetch the first launches before" } else { "" };
                let id = &self.id;
                let why =
                    format!("{trace} of question {id:?} is not one of the {num} launched{hint}");
                Err(Error::input("trace", why))
            }
            Some((_, Some(Trace { ended: Some(_), .. }))) => Err(Error::state(
                format!("trace {trace} of question {:?}", self.id),
                "a running trace",
                "one that has ended",
            )),
            Some((trace, _)) => Ok(trace),
        }
    }

    /// A launched trace, made when it is first heard of.
    pub(crate) fn touch(&mut self, trace: u32) -> &mut Trace {
        let len = trace as usize + 1;
        if self.traces.len() < len {
            self.traces.resize_with(len, Trace::default);
        }
        &mut self.traces[trace as usize]
    }

    /// Statistics of a launched trace.
    pub(crate) fn stats(&self, trace: u32) -> TraceStats {
        self.traces.get(trace as usize).map(Trace::stats).unwrap_or_default()
    }

    /// Adds one token to the statistics of a trace that [`Question::running`] has checked; whether
    /// the trace falls below the floor of pruning, which then cancels it.
    pub(crate) fn add_token(&mut self, trace: u32, logprob: f64, conf: f64) -> bool {
        let reads_groups =
            self.policy.floor.is_some() || matches!(self.policy.weight, Weight::DeepConf(_));
        let window = self.policy.config.window;
        let floor = self.floor;
        let entry = self.touch(trace);
        entry.add(logprob, conf);
        if !reads_groups {
            return false;
        }
        let groups = entry.groups.get_or_insert_with(|| Box::new(Groups::new(window)));
        let group = groups.push(conf);
        trace >= WARM_UP && matches!((group, floor), (Some(group), Some(floor)) if group < floor)
    }

    /// Traces below the floor end by themselves: as cancelled, without a ballot.
    pub(crate) fn prune(&mut self, trace: u32) -> Change {
        let stats = self.stats(trace);
        self.end(trace, Reason::Cancelled, None, stats)
    }

    /// Ends a trace that [`Question::running`] has checked, and counts what has become countable.
    pub(crate) fn end(
        &mut self,
        trace: u32,
        reason: Reason,
        ballot: Option<Ballot>,
        stats: TraceStats,
    ) -> Change {
        let reads = self.policy.weight != Weight::One || self.policy.floor.is_some();
        let entry = self.touch(trace);
        let groups = entry.groups.take();
        let mut stats = stats;
        if reads && stats.given.confidence.is_none() {
            let mean = stats.sum_conf / stats.num_tokens.max(1) as f64;
            let gathered = groups.map_or(mean, |groups| groups.lowest());
            stats.given.confidence = (stats.num_tokens > 0).then_some(gathered);
        }
        *entry = Trace::ended(reason, ballot, stats);
        self.events.push(Event::Finish(trace));
        if self.is_done() {
            return Change::default();
        }
        if self.policy.floor.is_some() && self.floor.is_none() {
            self.set_floor();
        }
        if self.policy.arrival {
            self.count(trace);
            return self.decision();
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

    /// Sets the floor of pruning once the warm-up traces have all ended.
    fn set_floor(&mut self) {
        let warm = WARM_UP.min(self.budget) as usize;
        let Some(first) = self.traces.get(..warm) else { return };
        if first.iter().any(|trace| trace.ended.is_none()) {
            return;
        }
        let lows: Vec<f64> =
            first.iter().filter_map(|trace| trace.stats().given.confidence).collect();
        let eta = self.policy.floor.unwrap_or(10.0);
        if !lows.is_empty() {
            self.floor = Some(percentile(&lows, 100.0 - eta));
        }
    }

    fn count(&mut self, trace: u32) {
        self.counted += 1;
        match &self.traces[trace as usize].ballot {
            None => {
                self.num_none += 1;
                self.tally.abstain();
            }
            Some(ballot) => {
                let known = self.key_of(&ballot.key);
                let key = known.unwrap_or(self.firsts.len() as KeyId);
                if known.is_none() {
                    let name = ballot.key.clone();
                    self.firsts.push(trace);
                    self.learn_key(name, key);
                }
                self.tally.cast(key);
                if self.policy.weight != Weight::One || self.policy.reads_ballots() {
                    self.weighing.get_or_insert_default().ballots.push((key, trace));
                    self.weigh();
                }
            }
        }
        let rest = self.limit().saturating_sub(self.counted);
        let fired = if self.policy.weight == Weight::One {
            self.stops.check(&self.tally, rest)
        } else {
            let bound = self.policy.weight.bound();
            let weights = self.weighing.as_ref().map_or(&[][..], |w| &w.weights);
            let weighted = Weighted { sums: self.sums(), kappa: weights::kappa(weights), bound };
            self.stops.check_weighted(&self.tally, weighted, rest)
        };
        let judged = rest == 0 || self.counted.is_multiple_of(self.policy.wave);
        let fired = fired.filter(|_| judged);
        let waits = self.policy.ties == Ties::More && rest > 0 && self.tied().len() > 1;
        self.stop = match fired {
            _ if waits => None,
            Some(Fired::Locked) if rest > 0 || self.policy.rules.contains(&Rule::Locked) => {
                Some(StopCause::Locked)
            }
            Some(Fired::Rule(rule)) => Some(StopCause::Rule(rule)),
            _ if rest == 0 => Some(StopCause::Budget),
            _ => None,
        };
        if let (Some(fired), Some(_)) = (fired, self.stop)
            && self.policy.weight == Weight::One
        {
            let elected = self.stops.elects(fired, &self.tally);
            self.elected = elected.filter(|&key| Some(key) != self.tally.leader());
        }
        let last = self.policy.rules.iter().find_map(|rule| match rule {
            Rule::LastFinish { finishes, .. } => Some(*finishes as usize),
            _ => None,
        });
        if let (Some(finishes), Some(_)) = (last, self.stop) {
            let ballots = self.weighing.as_ref().map_or(&[][..], |w| &w.ballots);
            let skip = ballots.len().saturating_sub(finishes);
            self.elected = first_finish::majority(ballots[skip..].iter().map(|(key, _)| *key));
        }
        if self.stop.is_none() {
            self.aim();
        }
    }

    /// Weighs all ballots anew. What a scheme lacks was checked when the trace ended.
    fn weigh(&mut self) {
        if self.policy.weight == Weight::One {
            return;
        }
        let Some(weighing) = &self.weighing else { return };
        let keys: Vec<u32> = weighing.ballots.iter().map(|(key, _)| *key).collect();
        let stats: Vec<BallotStats> =
            weighing.ballots.iter().map(|&(_, trace)| self.ballot_stats(trace)).collect();
        let log_odds = &self.policy.config.log_odds;
        let floor = self.floor;
        let mut weights = (self.policy.weight.weigh(&keys, &stats, log_odds))
            .unwrap_or_else(|_| vec![1.0; keys.len()]);
        if let Some(floor) = floor {
            // Warm-up traces below the floor are left out of the vote, too.
            for (weight, stats) in weights.iter_mut().zip(&stats) {
                if stats.confidence.is_some_and(|conf| conf < floor) {
                    *weight = 0.0;
                }
            }
        }
        let sums = weights::sums(&keys, &weights);
        if let Some(weighing) = &mut self.weighing {
            (weighing.sums, weighing.weights) = (sums, weights);
        }
    }

    fn ballot_stats(&self, trace: u32) -> BallotStats {
        let stats = self.stats(trace);
        let ballot = self.traces.get(trace as usize).and_then(|entry| entry.ballot.as_ref());
        let path = ballot.map_or(0, |ballot| ballot.path);
        BallotStats {
            sum_logprob: stats.sum_logprob,
            num_tokens: stats.num_tokens,
            confidence: stats.given.confidence,
            entropy: stats.given.entropy,
            reward: stats.given.reward,
            source: stats.given.source,
            weight: stats.given.weight,
            path,
        }
    }

    /// Whether the policy can weigh a ballot with these statistics.
    pub(crate) fn check_stats(&self, stats: &TraceStats) -> Result<()> {
        if matches!(self.policy.weight, Weight::One) {
            return Ok(());
        }
        let gathered = (stats.num_tokens > 0).then_some(0.0);
        let ballot = BallotStats {
            sum_logprob: stats.sum_logprob,
            num_tokens: stats.num_tokens,
            confidence: stats.given.confidence.or(gathered),
            entropy: stats.given.entropy,
            reward: stats.given.reward,
            source: stats.given.source,
            weight: stats.given.weight,
            path: 0,
        };
        self.policy.weight.weigh(&[0], &[ballot], &self.policy.config.log_odds).map(drop)
    }

    /// Number of a key that has a ballot.
    fn key_of(&self, name: &str) -> Option<KeyId> {
        if let Some(keys) = &self.keys {
            return keys.get(name).copied();
        }
        let spelled = |&first: &u32| {
            let ballot = self.traces.get(first as usize).and_then(|trace| trace.ballot.as_ref());
            ballot.is_some_and(|ballot| &*ballot.key == name)
        };
        self.firsts.iter().position(spelled).map(|key| key as KeyId)
    }

    /// Notes a new key, whose first trace is the last of `firsts`.
    fn learn_key(&mut self, name: Box<str>, key: KeyId) {
        if let Some(keys) = &mut self.keys {
            keys.insert(name, key);
        } else if self.firsts.len() > FEW_KEYS {
            let ballot = |&first: &u32| self.traces.get(first as usize)?.ballot.as_ref();
            let names = self.firsts.iter().filter_map(ballot).map(|ballot| ballot.key.clone());
            self.keys = Some(Box::new(names.zip(0..).collect()));
        }
    }

    /// Weight by key; empty under the weight `one`.
    fn sums(&self) -> &[f64] {
        self.weighing.as_ref().map_or(&[], |weighing| &weighing.sums)
    }

    fn decision(&mut self) -> Change {
        if !self.is_done() {
            return Change::default();
        }
        let ended = |&t: &u32| self.traces.get(t as usize).is_some_and(|t| t.ended.is_some());
        let cancel: Vec<u32> = (0..self.launched).filter(|t| !ended(t)).collect();
        Change { cancel, decided: true }
    }

    /// Bytes held, roughly.
    pub(crate) fn memory(&self) -> usize {
        let entry = size_of::<(Box<str>, KeyId)>();
        let weighing = |w: &Weighing| {
            size_of::<Weighing>()
                + w.ballots.capacity() * size_of::<(KeyId, u32)>()
                + (w.weights.capacity() + w.sums.capacity()) * size_of::<f64>()
        };
        size_of::<Self>()
            + self.id.len()
            + self.traces.capacity() * size_of::<Trace>()
            + self.traces.iter().map(Trace::memory).sum::<usize>()
            + self.events.capacity() * size_of::<Event>()
            + self.tally.memory()
            + self.keys.as_ref().map_or(0, |keys| keys.capacity() * entry)
            + self.firsts.capacity() * size_of::<u32>()
            + self.weighing.as_deref().map_or(0, weighing)
    }
}
