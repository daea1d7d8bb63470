//! Running traces: tokens, texts, early answers and steps, and what they cause.

use super::trace::{Ballot, Given, Said, TraceStats};
use super::{Change, Question, Reason};
use crate::cover;
use crate::spec::Policy;
use crate::watch::{Probing, Token, Verdict, Watch};
use crate::weights::Weight;
use crate::weights::conf::percentile;
use std::sync::Arc;
use trivium_core::{Error, Result};

/// Traces that run to their end before pruning by confidence begins.
const WARM_UP: u32 = 16;
/// Traces from which on a token that nearly all of them have says nothing.
const SHARED_BY: usize = 4;

impl Question {
    /// Adds one token to the sums of a trace that [`Question::running`] has checked.
    pub(crate) fn add_token(&mut self, trace: u32, token: Token) {
        self.touch(trace).add(token.logprob, token.conf);
    }

    /// The same where more is watched of running traces; what the token asks for.
    pub(crate) fn watch_token(&mut self, trace: u32, token: Token, policy: &Policy) -> Verdict {
        let floor = self.extra.as_ref().and_then(|extra| extra.floor).filter(|_| trace >= WARM_UP);
        let entry = self.touch(trace);
        entry.add(token.logprob, token.conf);
        let watch = entry.watch.get_or_insert_with(|| Box::new(Watch::new(policy)));
        let verdict = watch.token(token, policy, floor);
        if policy.prune.cover.is_some() {
            self.extra().since_sweep += 1;
        }
        verdict
    }

    /// What is watched of a running trace.
    pub(crate) fn watch(&mut self, trace: u32) -> &mut Watch {
        let shared = Arc::clone(&self.shared);
        let entry = self.touch(trace);
        entry.watch.get_or_insert_with(|| Box::new(Watch::new(&shared.policy)))
    }

    /// Ends a running trace without a ballot.
    pub(crate) fn cancel(&mut self, trace: u32) -> Change {
        let stats = self.stats(trace);
        self.end(trace, Reason::Cancelled, None, stats)
    }

    /// Running traces that the tokens of the others cover, once in a while.
    pub(crate) fn sweep(&mut self) -> Vec<u32> {
        let Some(rule) = self.policy().prune.cover else { return Vec::new() };
        let base = self.base;
        let Some(window) = self.window.as_deref_mut() else { return Vec::new() };
        let live = window.iter_mut().enumerate().filter(|(_, trace)| trace.ended.is_none());
        let mut rows: Vec<(u32, &mut Watch)> = live
            .filter_map(|(at, trace)| Some((base + at as u32, &mut **trace.watch.as_mut()?)))
            .collect();
        let since = self.extra.as_ref().map_or(0, |extra| extra.since_sweep);
        if rows.len() < 2 || since < u64::from(rule.every) * rows.len() as u64 {
            return Vec::new();
        }
        let mut sets: Vec<Vec<u32>> = Vec::new();
        let mut confidences = Vec::new();
        for (_, watch) in &mut rows {
            let mut set: Vec<u32> = watch.seen.iter().flatten().copied().collect();
            set.sort_unstable();
            sets.push(set);
            confidences.push(watch.recent_confidence());
        }
        if sets.len() >= SHARED_BY {
            cover::drop_common(&mut sets, 0.9);
        }
        let kept = cover::keep(&sets, &confidences, rule.gamma, rule.keep as usize);
        let traces: Vec<u32> = rows.iter().map(|(trace, _)| *trace).collect();
        self.extra().since_sweep = 0;
        let covered = (0..traces.len()).filter(|i| kept.binary_search(i).is_err());
        covered.map(|i| traces[i]).collect()
    }

    /// Adds text of a running trace; its answer, if that is marked and whole.
    pub(crate) fn add_text(&mut self, trace: u32, chunk: &str) -> Option<Ballot> {
        let shared = Arc::clone(&self.shared);
        let keyed = shared.policy.key.marked(self.watch(trace).text(chunk))?;
        Some(Ballot { key: self.said(&keyed.key), raw: Some(keyed.raw.into()), path: 0 })
    }

    /// Adds an early answer; a ballot, if it finishes the trace.
    pub(crate) fn add_probe(
        &mut self,
        trace: u32,
        key: Option<&str>,
        rule: Probing,
    ) -> Option<Ballot> {
        let name = self.watch(trace).probe(key, rule)?;
        Some(Ballot { key: self.said(&name), raw: None, path: 0 })
    }

    /// The ballot of a trace that ended without an answer of its own: the winner of its steps.
    pub(crate) fn temporal(&self, trace: u32) -> Option<(Ballot, f64)> {
        let rule = self.policy().probe?;
        let (name, confidence) = self.get(trace)?.watch.as_ref()?.temporal(rule)?;
        Some((Ballot { key: self.said(&name), raw: None, path: 0 }, confidence))
    }

    /// Adds the reward of a step; whether the step stays.
    pub(crate) fn add_step(&mut self, trace: u32, reward: f64) -> bool {
        let stays = self.policy().config.accept.is_none_or(|least| reward >= least);
        if stays {
            self.watch(trace).step(reward);
        }
        stays
    }

    /// A key as ballots hold it.
    pub(crate) fn said(&self, key: &str) -> Said {
        self.names.find(key).map_or_else(|| Said::New(key.into()), Said::Known)
    }

    /// Whether a ballot says what its key's first ballot said.
    pub(crate) fn is_first_answer(&self, said: &Said, raw: &str) -> bool {
        match said {
            Said::Known(key) => self.names.get(*key).is_some_and(|named| named.raw == raw),
            Said::New(name) => **name == *raw,
        }
    }

    /// Checks that a ballot may name a key by this number.
    pub(crate) fn check_key(&self, key: u32) -> Result<()> {
        let known = self.names.get(key).is_some();
        known.then_some(()).ok_or_else(|| Error::input("key", format!("{key} is not known")))
    }

    /// Stops the vote if its tokens are spent.
    pub(crate) fn spend(&mut self) -> Change {
        let was = self.is_done();
        self.check_tokens();
        if was { Change::default() } else { self.decision() }
    }

    /// Forks a running trace: `num` more traces that share what it has written so far.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] under rules that take ballots for independent draws, and beyond the
    /// budget.
    pub(crate) fn fork(&mut self, trace: u32, num: u32) -> Result<(u32, u32)> {
        let policy = self.policy();
        if let Some(rule) = policy.sequential_test().filter(|_| !policy.config.unchecked) {
            let why =
                format!("contradicts \"{rule}\": branches are no independent draws; use share");
            return Err(Error::input("fork", why));
        }
        if self.is_done() {
            return Err(Error::state("fork", "an open question", "one that is decided"));
        }
        if num == 0 || num > self.budget() - self.launched {
            let left = self.budget() - self.launched;
            return Err(Error::input("fork", format!("{num} branches; {left} traces are left")));
        }
        let first = self.launched;
        self.launched += num;
        self.target = self.target.max(self.launched);
        let branches = &mut self.extra().branches;
        let ln = branches.get(&trace).copied().unwrap_or(0.0) + f64::from(num + 1).ln();
        branches.insert(trace, ln);
        branches.extend((first..first + num).map(|child| (child, ln)));
        if let Some(mut record) = self.recorder() {
            record.fork(trace, num);
        }
        Ok((first, num))
    }

    /// How many branches the policy's fork rule may still add.
    pub(crate) fn may_fork(&self) -> u32 {
        let wanted = self.policy().fork.map_or(0, |rule| rule.branches);
        if self.is_done() { 0 } else { wanted.min(self.budget() - self.launched) }
    }

    /// Completes an ending trace's statistics by what was gathered of it.
    pub(super) fn complete(&self, trace: u32, stats: &mut TraceStats) {
        let policy = self.policy();
        let watch = self.get(trace).and_then(|trace| trace.watch.as_deref());
        let Given { confidence, entropy, reward, .. } = &mut stats.given;
        if let Some(watch) = watch {
            *entropy = entropy.or(watch.entropy());
            *reward = reward.or(watch.reward(policy.steps));
            *confidence = confidence.or(watch.confidence(policy.weight));
        }
        let reads = policy.weighs() || policy.prune.floor.is_some();
        if reads && confidence.is_none() && stats.num_tokens > 0 {
            *confidence = Some(match policy.weight {
                Weight::Soft(crate::weights::Soft::Prod) => stats.sum_logprob.exp(),
                _ => stats.sum_conf / stats.num_tokens as f64,
            });
        }
    }

    /// [`Question::complete`], and the watch of the trace ends.
    pub(super) fn gather(&mut self, trace: u32, stats: &mut TraceStats) {
        self.complete(trace, stats);
    }

    /// Notes the confidence of a trace of the warm-up, and sets the floor after the last of them.
    pub(super) fn warm_up(&mut self, trace: u32, confidence: Option<f64>) {
        let Some(eta) = self.policy().prune.floor else { return };
        let warm = WARM_UP.min(self.budget());
        if trace >= warm {
            return;
        }
        let extra = self.extra();
        extra.warm.push((trace, confidence));
        if extra.warm.len() == warm as usize {
            extra.warm.sort_unstable_by_key(|(trace, _)| *trace);
            let lows: Vec<f64> = extra.warm.iter().filter_map(|(_, low)| *low).collect();
            extra.floor = (!lows.is_empty()).then(|| percentile(&lows, 100.0 - eta));
        }
    }

    /// Tokens of all traces, as far as they were reported.
    pub(crate) fn num_tokens(&self) -> u64 {
        let running =
            |trace: &super::Trace| if trace.ended.is_some() { 0 } else { trace.num_tokens() };
        self.tokens + self.window.as_deref().map_or(0, |w| w.iter().map(running).sum())
    }

    /// Last early answers of running traces.
    pub(super) fn last_probes(&self) -> impl Iterator<Item = &str> {
        let window = self.window.iter().flat_map(|window| window.iter());
        let running = window.filter(|trace| trace.ended.is_none());
        running.filter_map(|trace| trace.watch.as_ref()?.last_probe())
    }
}
