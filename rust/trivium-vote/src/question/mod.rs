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
//!
//! A question without weights is 168 bytes, its keys and its log apart: ten thousand of them are
//! open at a time.

mod count;
mod end;
mod names;
mod outcome;
mod running;
mod trace;

pub(crate) use end::Stop;
pub use end::{End, Reason, StopCause};
pub(crate) use names::hash;
pub use outcome::{Cost, Outcome, TallyRow};
pub(crate) use trace::{Ballot, Given, Said, Trace, TraceStats, fnv};

use crate::log::Recorder;
use crate::spec::{Latency, Policy, Shared};
use crate::stops::{Rule, first_finish};
use crate::tally::{KeyId, Tally};
use crate::weights::BallotStats;
use names::Names;
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use trace::Ended;
use trivium_core::{Error, Result};

/// What changed: traces that the voter finished or cancelled, traces that a decision cancels, and
/// whether the vote has just been decided.
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
    /// What their weights read, and their answers where they are not their keys' first.
    stats: Vec<BallotStats>,
    raws: Vec<Option<Box<str>>>,
    /// Their weights, and sums by key; empty under the weight `one`.
    weights: Vec<f64>,
    sums: Vec<f64>,
    /// Which paths survived the last fit of reasoning pruning.
    kept: Vec<bool>,
}

/// What few questions have.
#[derive(Debug, Clone, Default)]
struct Extra {
    /// Seed, where it is not the policy's.
    seed: Option<u64>,
    /// For policies that read single ballots.
    weighing: Weighing,
    /// Lowest group confidences of the traces of the warm-up, and the floor that they set.
    warm: Vec<(u32, Option<f64>)>,
    floor: Option<f64>,
    /// What a stop elected in place of the leader.
    elected: Option<KeyId>,
    /// Key of trace 0, for the tie rule `greedy`.
    greedy: Option<KeyId>,
    /// Sums of log-probabilities and tokens by key, for the tie rule `weight`.
    means: Vec<(f64, u64)>,
    /// Largest number of tokens, where it is not the policy's.
    max_tokens: Option<u64>,
    /// Logarithms of the numbers of branches of forked traces.
    branches: FxHashMap<u32, f64>,
    /// Tokens since the last sweep of the token cover.
    since_sweep: u64,
}

/// One question of a pool.
#[allow(
    clippy::box_collection,
    reason = "most questions have neither; 8 bytes each in place of 24"
)]
#[derive(Debug, Clone)]
pub(crate) struct Question {
    names: Names,
    shared: Arc<Shared>,
    /// Its log, if it keeps one.
    record: Option<Box<Vec<u8>>>,
    /// Traces from `base` on, up to the last that was heard of.
    window: Option<Box<VecDeque<Trace>>>,
    extra: Option<Box<Extra>>,
    tally: Tally,
    /// Tokens of the traces that have ended.
    tokens: u64,
    /// Traces below it have ended and left the window.
    base: u32,
    /// Traces that the host knows about.
    launched: u32,
    /// Traces to have been launched by now.
    target: u32,
    /// Traces that ended as cancelled.
    cancelled: u32,
    /// Traces that ended by themselves and were not counted.
    late: u32,
    stop: Stop,
}

impl Question {
    pub(crate) fn new(
        id: &str,
        seed: Option<u64>,
        max_tokens: Option<u64>,
        shared: Arc<Shared>,
    ) -> Self {
        let extra = (seed.is_some() || max_tokens.is_some())
            .then(|| Box::new(Extra { seed, max_tokens, ..Extra::default() }));
        let record = shared.policy.config.log.then(Box::default);
        let mut question = Self {
            names: Names::new(id),
            shared,
            record,
            window: None,
            extra,
            tally: Tally::default(),
            tokens: 0,
            base: 0,
            launched: 0,
            target: 0,
            cancelled: 0,
            late: 0,
            stop: Stop::Running,
        };
        question.aim();
        question
    }

    pub(crate) fn id(&self) -> &str {
        self.names.id()
    }

    pub(crate) fn policy(&self) -> &Policy {
        &self.shared.policy
    }

    pub(crate) fn budget(&self) -> u32 {
        self.shared.budget
    }

    pub(crate) fn seed(&self) -> u64 {
        let own = self.extra.as_ref().and_then(|extra| extra.seed);
        own.unwrap_or(self.policy().config.seed)
    }

    pub(crate) fn max_tokens(&self) -> Option<u64> {
        let own = self.extra.as_ref().and_then(|extra| extra.max_tokens);
        own.or(self.policy().config.max_tokens)
    }

    pub(crate) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// What the pool knew when this question was opened.
    pub(crate) fn shares(&self) -> &[u8] {
        self.shared.stops.shares().unwrap_or_default()
    }

    /// Whether later questions may learn from the tally.
    pub(crate) fn teaches(&self) -> bool {
        self.shared.stops.shares().is_some()
    }

    pub(crate) fn is_done(&self) -> bool {
        self.stop != Stop::Running
    }

    /// Its events so far, as bytes of a log.
    pub(crate) fn events(&self) -> Option<&[u8]> {
        self.record.as_ref().map(|record| record.as_slice())
    }

    fn extra(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    fn recorder(&mut self) -> Option<Recorder<'_>> {
        self.record.as_deref_mut().map(Recorder)
    }

    /// Traces counted: the prefix of launch order the tally stands for.
    pub(crate) fn counted(&self) -> u32 {
        self.tally.num_seen()
    }

    /// Counts of the leader and the runner-up.
    pub(crate) fn top_two(&self) -> (u32, u32) {
        self.tally.top_two()
    }

    /// Raises the number of launches to what launch control asks for.
    fn aim(&mut self) {
        let counted = self.counted();
        let rest = self.budget() - counted;
        let policy = &self.shared.policy;
        let flying = match policy.config.latency {
            Latency::Max => rest,
            Latency::Factor(_) if policy.arrival => rest.min(self.started() - counted),
            Latency::Factor(exponent) => {
                let need = f64::from(self.shared.stops.need(&self.tally, rest));
                let (a, n) = (f64::from(self.tally.top_two().0), f64::from(self.tally.num_cast()));
                let hit = (a + 1.0) / (n + 2.0);
                (need / hit.powf(exponent)).ceil().min(f64::from(rest)) as u32
            }
        };
        // Waves are launched whole.
        let whole = (counted + flying).next_multiple_of(policy.wave);
        self.target = self.target.max(whole.min(self.budget().max(counted + flying)));
    }

    /// Asks for more traces than launch control does at first.
    pub(crate) fn expect(&mut self, traces: u32) {
        self.target = self.target.max(traces.min(self.budget()));
    }

    /// Traces to start under rules on the order of finishing: the budget where none says.
    fn started(&self) -> u32 {
        let of = |rule: Rule| match rule {
            Rule::FirstFinish { finishes, of, .. } | Rule::LastFinish { finishes, of } => {
                if of > 0 { of } else { first_finish::started(finishes) }
            }
            _ => self.budget(),
        };
        let most = self.policy().all_rules().map(of).max().unwrap_or(self.budget());
        most.min(self.budget()).max(self.counted())
    }

    /// The budget, or what an order-of-finishing rule starts.
    fn limit(&self) -> u32 {
        if self.policy().arrival { self.started() } else { self.budget() }
    }

    /// How many launches the question waits for.
    pub(crate) fn wants(&self) -> u32 {
        if self.is_done() { 0 } else { self.target.saturating_sub(self.launched) }
    }

    /// Number of traces launched.
    pub(crate) fn launched(&self) -> u32 {
        self.launched
    }

    /// Launches at most `most` of the traces that the host has not been told of: the first and how
    /// many. They count as launched from now on.
    pub(crate) fn take_launch(&mut self, most: u32) -> Option<(u32, u32)> {
        let (first, num) = (self.launched, self.wants().min(most));
        if num == 0 {
            return None;
        }
        self.launched += num;
        if let Some(mut record) = self.recorder() {
            record.launch(num);
        }
        Some((first, num))
    }

    /// Launches traces as a log says, whatever the policy wants.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] beyond the budget or after the decision.
    pub(crate) fn grant(&mut self, num: u32) -> Result<()> {
        if self.is_done() || num == 0 || num > self.budget() - self.launched {
            return Err(Error::input("log", format!("launches {num} traces that cannot be")));
        }
        self.target = self.target.max(self.launched + num);
        self.take_launch(num);
        Ok(())
    }

    /// A trace that may still receive tokens or its end.
    pub(crate) fn running(&self, trace: i64) -> Result<u32> {
        let known = u32::try_from(trace).ok().filter(|&t| t < self.launched);
        let Some(trace) = known else {
            let num = self.launched;
            let hint = if num == 0 { "; fetch the first launches before" } else { "" };
            let id = self.id();
            let why = format!("{trace} of question {id:?} is not one of the {num} launched{hint}");
            return Err(Error::input("trace", why));
        };
        if trace < self.base || self.get(trace).is_some_and(|trace| trace.ended.is_some()) {
            return Err(Error::state(
                format!("trace {trace} of question {:?}", self.id()),
                "a running trace",
                "one that has ended",
            ));
        }
        Ok(trace)
    }

    /// A trace of the window that was heard of.
    fn get(&self, trace: u32) -> Option<&Trace> {
        self.window.as_ref()?.get(trace.checked_sub(self.base)? as usize)
    }

    /// A trace that runs, made when it is first heard of; callers have checked that it does.
    pub(crate) fn touch(&mut self, trace: u32) -> &mut Trace {
        let at = trace.saturating_sub(self.base) as usize;
        let window = self.window.get_or_insert_default();
        if window.len() <= at {
            window.resize_with(at + 1, Trace::default);
        }
        &mut window[at]
    }

    /// Statistics of a trace that runs.
    pub(crate) fn stats(&self, trace: u32) -> TraceStats {
        self.get(trace).map(Trace::stats).unwrap_or_default()
    }

    /// Ends a trace that [`Question::running`] has checked, and counts what has become countable.
    pub(crate) fn end(
        &mut self,
        trace: u32,
        reason: Reason,
        ballot: Option<Ballot>,
        mut stats: TraceStats,
    ) -> Change {
        self.gather(trace, &mut stats);
        if let Some(record) = self.record.as_deref_mut() {
            let paths = self.shared.policy.reads_paths();
            Recorder(record).finish(trace, reason, &stats, ballot.as_ref(), paths);
        }
        self.tokens += stats.num_tokens;
        self.cancelled += u32::from(reason == Reason::Cancelled);
        let natural = matches!(reason, Reason::Stop | Reason::Length);
        let ended = Ended { reason, ballot, given: stats.given };
        if self.is_done() {
            self.late += u32::from(natural);
            self.store(trace, Ended { ballot: None, ..ended }, &stats);
            self.forget_ended();
            return Change::default();
        }
        self.warm_up(trace, stats.given.confidence);
        if self.policy().arrival {
            self.count(trace, ended, &stats);
            self.store(trace, Ended { reason, ballot: None, given: Given::default() }, &stats);
            self.forget_ended();
            self.check_tokens();
            return self.decision();
        }
        if trace == self.counted() {
            self.count(trace, ended, &stats);
            self.base += 1;
            if let Some(window) = &mut self.window {
                window.pop_front();
            }
            while self.stop == Stop::Running {
                let front = self.window.as_mut().and_then(|window| window.front_mut());
                let Some(ended) = front.and_then(|trace| trace.ended.take()) else { break };
                let stats = TraceStats { given: ended.given, ..self.stats(self.base) };
                self.count(self.base, *ended, &stats);
                self.base += 1;
                if let Some(window) = &mut self.window {
                    window.pop_front();
                }
            }
            if self.window.as_ref().is_some_and(|window| window.is_empty()) {
                self.window = None;
            }
        } else {
            self.store(trace, ended, &stats);
        }
        self.check_late();
        self.check_tokens();
        self.decision()
    }

    fn store(&mut self, trace: u32, ended: Ended, stats: &TraceStats) {
        if trace >= self.base {
            *self.touch(trace) = Trace::ended(ended, stats);
        }
    }

    /// Drops traces that have ended from the front of the window.
    fn forget_ended(&mut self) {
        let Some(window) = &mut self.window else { return };
        while window.front().is_some_and(|trace| trace.ended.is_some()) {
            window.pop_front();
            self.base += 1;
        }
        if window.is_empty() {
            self.window = None;
        }
    }

    /// Decides the vote with what has been counted.
    pub(crate) fn close(&mut self, why: &StopCause) -> Change {
        if self.is_done() {
            return Change::default();
        }
        self.stop = Stop::of_host(why);
        let stop = self.stop;
        if let Some(mut record) = self.recorder() {
            record.close(stop);
        }
        self.decision()
    }

    /// What a decision that has just been made cancels.
    fn decision(&mut self) -> Change {
        if !self.is_done() {
            return Change::default();
        }
        self.count_late();
        let ended = |&t: &u32| self.get(t).is_some_and(|trace| trace.ended.is_some());
        let cancel: Vec<u32> = (self.base..self.launched).filter(|t| !ended(t)).collect();
        let natural = |trace: &&Trace| {
            let reason = trace.ended.as_ref().map(|ended| ended.reason);
            matches!(reason, Some(Reason::Stop | Reason::Length))
        };
        if !self.policy().arrival {
            let window = self.window.as_deref();
            self.late += window.map_or(0, |window| window.iter().filter(natural).count()) as u32;
        }
        self.forget_ended();
        Change { cancel, decided: true }
    }

    /// Bytes held, roughly.
    pub(crate) fn memory(&self) -> usize {
        let weighing = |w: &Weighing| {
            w.ballots.capacity() * size_of::<(KeyId, u32)>()
                + w.stats.capacity() * size_of::<BallotStats>()
                + w.raws.capacity() * size_of::<Option<Box<str>>>()
                + w.raws.iter().flatten().map(|raw| raw.len()).sum::<usize>()
                + (w.weights.capacity() + w.sums.capacity()) * size_of::<f64>()
                + w.kept.capacity()
        };
        let extra = |extra: &Extra| {
            size_of::<Extra>()
                + weighing(&extra.weighing)
                + extra.warm.capacity() * size_of::<(u32, Option<f64>)>()
                + extra.means.capacity() * size_of::<(f64, u64)>()
                + extra.branches.capacity() * size_of::<(u32, f64)>()
        };
        let window = |window: &VecDeque<Trace>| {
            size_of::<VecDeque<Trace>>()
                + window.capacity() * size_of::<Trace>()
                + window.iter().map(Trace::memory).sum::<usize>()
        };
        size_of::<Self>()
            + self.names.memory()
            + self.record.as_ref().map_or(0, |record| size_of::<Vec<u8>>() + record.capacity())
            + self.window.as_deref().map_or(0, window)
            + self.tally.memory()
            + self.extra.as_deref().map_or(0, extra)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_168_bytes() {
        assert_eq!(size_of::<Question>(), 168);
    }
}
