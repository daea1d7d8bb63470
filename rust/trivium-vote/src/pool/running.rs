//! Events of running traces: tokens, texts, early answers, steps, forks.

use super::{Action, Handle, TokenBatch, Voter};
use crate::keys::Said;
use crate::question::{Ballot, Question, Reason};
use crate::slab::slot_of;
use crate::watch::{Probing, Token, Verdict};
use std::sync::Arc;
use trivium_core::{Error, Result};

/// Most events one call may carry.
const MAX_ROWS: usize = 1 << 24;

impl Voter {
    /// Adds one engine step's tokens to the statistics of their traces. Constant time a token.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for slices of unequal length, unknown questions and traces, and
    /// log-probabilities, confidences or entropies that are not numbers (a log-probability of −∞ is
    /// one); [`Error::StateMismatch`] for traces that have ended. No row counts then.
    pub fn tokens(&mut self, batch: TokenBatch<'_>) -> Result<Vec<Action>> {
        self.check_tokens(batch)?;
        let policy = Arc::clone(&self.policy);
        let watched = self.watched || !batch.entropies.is_empty();
        let mut actions = Vec::new();
        let (mut i, rows) = (0, batch.questions.len());
        while i < rows {
            let (from, handle) = (i, batch.questions[i] as Handle);
            let Some(question) = self.questions.get_mut(handle) else { break };
            // Rows of one question in a row, up to the first that asks for something.
            let mut asks = None;
            while i < rows && batch.questions[i] as Handle == handle && asks.is_none() {
                let trace = batch.traces[i] as u32;
                // A trace pruned in this very call gets no more of its tokens.
                if actions.is_empty() || question.running(i64::from(trace)).is_ok() {
                    let at = |values: &[f64]| values.get(i).copied();
                    let token = Token {
                        id: batch.ids.get(i).map(|&id| id as u32),
                        logprob: at(batch.logprobs).unwrap_or(0.0),
                        conf: at(batch.confs).unwrap_or(0.0),
                        entropy: at(batch.entropies),
                    };
                    let verdict = if watched {
                        question.watch_token(trace, token, &policy)
                    } else {
                        question.add_token(trace, token);
                        Verdict::Go
                    };
                    asks = (verdict != Verdict::Go).then_some((trace, verdict));
                }
                i += 1;
            }
            if let Some(schedule) = &mut self.schedule {
                schedule.tokens += (i - from) as u64;
            }
            match asks {
                Some((trace, Verdict::Fork)) => self.fork_uncertain(handle, trace, &mut actions),
                Some((trace, _)) => {
                    let Some(question) = self.questions.get_mut(handle) else { break };
                    let change = question.cancel(trace);
                    actions.push(Action::Cancel { question: handle, traces: vec![trace] });
                    self.follow(handle, change, 1, &mut actions);
                }
                None => {}
            }
            if batch.questions.get(i).map(|&next| next as Handle) != Some(handle) {
                self.after_tokens(handle, &mut actions);
            }
        }
        self.grant_slots(&mut actions);
        Ok(actions)
    }

    fn check_tokens(&self, batch: TokenBatch<'_>) -> Result<()> {
        let rows = batch.questions.len();
        if rows > MAX_ROWS {
            return Err(Error::input("tokens", format!("{rows} rows are more than {MAX_ROWS}")));
        }
        if batch.traces.len() != rows {
            let why = format!("{} rows for {rows} questions", batch.traces.len());
            return Err(Error::input("traces", why));
        }
        let finite = [
            ("logprobs", batch.logprobs, f64::NEG_INFINITY),
            ("confs", batch.confs, f64::NEG_INFINITY),
            ("entropies", batch.entropies, 0.0),
        ];
        for (what, values, least) in finite {
            if !values.is_empty() && values.len() != rows {
                return Err(Error::input(what, format!("{} rows for {rows} tokens", values.len())));
            }
            // Without a branch a value, so that it takes a fraction of a nanosecond; NaN is not good.
            let good = |v: f64| v >= least && v < f64::INFINITY;
            let all = values.iter().fold(true, |all, &v| all & good(v));
            if let Some(row) = values.iter().position(|&v| !all && !good(v)) {
                let (q, t) = (batch.questions[row], batch.traces[row]);
                let why = format!("{} in row {row}, trace {t} of question {q}", values[row]);
                return Err(Error::input(what, why));
            }
        }
        if !batch.ids.is_empty() && batch.ids.len() != rows {
            return Err(Error::input("ids", format!("{} rows for {rows} tokens", batch.ids.len())));
        }
        let mut known: Option<(i64, &Question)> = None;
        for (&question, &trace) in batch.questions.iter().zip(batch.traces) {
            let found = match known {
                Some((same, found)) if same == question => found,
                _ => self.get(question)?,
            };
            known = Some((question, found));
            found.running(trace)?;
        }
        Ok(())
    }

    /// What a question asks for once its tokens of one call are in.
    fn after_tokens(&mut self, handle: Handle, actions: &mut Vec<Action>) {
        let Some(question) = self.questions.get_mut(handle) else { return };
        if question.max_tokens().is_some() {
            let change = question.spend();
            if change.decided {
                self.follow(handle, change, 0, actions);
                return;
            }
        }
        if self.policy.prune.cover.is_none() {
            return;
        }
        let Some(question) = self.questions.get_mut(handle) else { return };
        let covered = question.sweep();
        if covered.is_empty() {
            return;
        }
        actions.push(Action::Cancel { question: handle, traces: covered.clone() });
        for trace in covered {
            let Some(question) = self.questions.get_mut(handle) else { return };
            // A decision in between has cancelled the others.
            if question.running(i64::from(trace)).is_ok() && !question.is_done() {
                let change = question.cancel(trace);
                self.follow(handle, change, 1, actions);
            }
        }
    }

    /// Forks a trace where its policy wants that and the budget allows it.
    fn fork_uncertain(&mut self, handle: Handle, trace: u32, actions: &mut Vec<Action>) {
        let Some(question) = self.questions.get_mut(handle) else { return };
        let num = question.may_fork();
        if num > 0
            && let Ok(fork) = self.fork_as(handle, trace, num)
        {
            actions.push(fork);
        }
    }

    fn fork_as(&mut self, handle: Handle, trace: u32, num: u32) -> Result<Action> {
        let missing = || Error::input("question", format!("{handle} is not open"));
        let question = self.questions.get_mut(handle).ok_or_else(missing)?;
        let (first, num) = question.fork(trace, num)?;
        if let Some(schedule) = &mut self.schedule {
            schedule.launched(slot_of(handle), num);
        }
        Ok(Action::Fork { question: handle, trace, first, num })
    }

    /// Continues a running trace in `num` further ones, which the host starts from what it has
    /// written so far. Under the weight `leaf` they share its weight with it.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for an unknown question or trace, beyond the budget, and under rules
    /// that take ballots for independent draws; [`Error::StateMismatch`] for a trace that has ended.
    pub fn fork(&mut self, question: i64, trace: i64, num: u32) -> Result<Vec<Action>> {
        let trace = self.get(question)?.running(trace)?;
        Ok(vec![self.fork_as(question as Handle, trace, num)?])
    }

    /// Adds text of a running trace. Under `finish_on_answer` a trace whose answer is marked and
    /// whole is finished with it, and cancelled.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for an unknown question or trace; [`Error::StateMismatch`] for a trace
    /// that has ended.
    pub fn text(&mut self, question: i64, trace: i64, chunk: &str) -> Result<Vec<Action>> {
        let found = self.get(question)?;
        let trace = found.running(trace)?;
        let handle = question as Handle;
        if !self.policy.config.finish_on_answer || found.is_done() {
            return Ok(Vec::new());
        }
        found.check_stats(trace, &found.stats(trace))?;
        let ballot = self.questions.get_mut(handle).and_then(|q| q.add_text(trace, chunk));
        Ok(self.finish_early(handle, trace, ballot))
    }

    /// Adds an early answer of a running trace, or the answer of a denoising step; see
    /// [`crate::watch`].
    ///
    /// # Errors
    /// As for [`Voter::text`], and without `probe`.
    pub fn probe(&mut self, question: i64, trace: i64, said: Said<'_>) -> Result<Vec<Action>> {
        let found = self.get(question)?;
        let trace = found.running(trace)?;
        let handle = question as Handle;
        let Some(rule) = self.policy.probe else {
            let why = "needs a voter made with probe=\"provisional\" or \"temporal\"";
            return Err(Error::input("probe", why));
        };
        if found.is_done() {
            return Ok(Vec::new());
        }
        let mut stats = found.stats(trace);
        if matches!(rule, Probing::Temporal(..)) {
            // What the steps will make of it.
            stats.given.confidence = Some(1.0);
        }
        found.check_stats(trace, &stats)?;
        let keyed = self.policy.key.read(said, false);
        let key = keyed.as_ref().map(|keyed| keyed.key.as_str());
        let ballot = self.questions.get_mut(handle).and_then(|q| q.add_probe(trace, key, rule));
        Ok(self.finish_early(handle, trace, ballot))
    }

    /// Ends a running trace whose answer is known.
    fn finish_early(&mut self, handle: Handle, trace: u32, ballot: Option<Ballot>) -> Vec<Action> {
        let mut actions = Vec::new();
        let Some(ballot) = ballot else { return actions };
        let temporal = matches!(self.policy.probe, Some(Probing::Temporal(..)));
        let Some(question) = self.questions.get_mut(handle) else { return actions };
        let mut stats = question.stats(trace);
        if temporal {
            stats.given.confidence = question.temporal(trace).map(|(_, confidence)| confidence);
        }
        let change = question.end(trace, Reason::Stop, Some(ballot), stats);
        actions.push(Action::Cancel { question: handle, traces: vec![trace] });
        self.follow(handle, change, 1, &mut actions);
        self.grant_slots(&mut actions);
        actions
    }

    /// Adds the reward of a step of a running trace; a step below `accept` is to be written again
    /// and does not count.
    ///
    /// # Errors
    /// As for [`Voter::text`], and [`Error::InvalidInput`] for a reward that is not finite.
    pub fn segment(&mut self, question: i64, trace: i64, reward: f64) -> Result<Vec<Action>> {
        let found = self.get(question)?;
        let trace = found.running(trace)?;
        if !reward.is_finite() {
            let why = format!("{reward} is not finite, trace {trace} of question {:?}", found.id());
            return Err(Error::input("reward", why));
        }
        let handle = question as Handle;
        let Some(question) = self.questions.get_mut(handle) else { return Ok(Vec::new()) };
        if question.add_step(trace, reward) {
            return Ok(Vec::new());
        }
        Ok(vec![Action::Regenerate { question: handle, trace }])
    }
}
