//! Many questions behind one event interface.
//!
//! A question is opened, its launches are fetched, its traces' tokens and ends are reported, and
//! each report answers with the actions it causes. Questions do not influence each other, so the
//! interleaving of their events is irrelevant; within one question the order of *finishing* is, too
//! (see [`question`](crate::question)).
//!
//! Every call checks all of its arguments before it changes anything.

use crate::keys::Said;
use crate::question::{Ballot, Change, End, Given, Outcome, Question, Reason, fnv};
use crate::spec::{MAX_ID, Policy, VoterConfig, check_budget};
use crate::stops::Stops;
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use trivium_core::{Error, Result};

/// Largest number of questions a pool holds; [`Voter::forget`] makes room.
pub const MAX_QUESTIONS: usize = 1 << 20;

/// Names a question of a pool; never reused by it.
pub type Handle = u64;

/// What the host is asked to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Start traces `first .. first + num` of a question.
    Launch {
        /// The question.
        question: Handle,
        /// The first trace.
        first: u32,
        /// How many.
        num: u32,
    },
    /// Stop these running traces: their ballots cannot matter any more.
    Cancel {
        /// The question.
        question: Handle,
        /// The traces, ascending.
        traces: Vec<u32>,
    },
    /// The vote is decided.
    Done {
        /// The question.
        question: Handle,
        /// Its result.
        outcome: Box<Outcome>,
    },
}

/// What [`Voter::open`] may set for one question.
#[derive(Debug, Clone, Copy, Default)]
pub struct OpenOptions {
    /// Budget in traces; the pool's by default.
    pub budget: Option<u32>,
    /// Seed; the pool's by default.
    pub seed: Option<u64>,
}

/// The tokens of one engine step, one row a token; all slices have equal length.
#[derive(Debug, Clone, Copy)]
pub struct TokenBatch<'a> {
    /// Handles of the questions.
    pub questions: &'a [i64],
    /// Traces within their questions.
    pub traces: &'a [i64],
    /// Log-probabilities of the tokens; empty if unknown.
    pub logprobs: &'a [f64],
    /// Token confidences; empty if unknown.
    pub confs: &'a [f64],
}

/// A pool of questions under one policy.
#[derive(Debug, Clone)]
pub struct Voter {
    policy: Arc<Policy>,
    /// Rule tables by budget.
    stops: FxHashMap<u32, Arc<Stops>>,
    questions: FxHashMap<Handle, Question>,
    names: FxHashMap<Arc<str>, Handle>,
    next: Handle,
    /// Questions with launches that the host has not fetched.
    waiting: VecDeque<Handle>,
}

impl Voter {
    /// A pool without questions.
    ///
    /// # Errors
    /// Those of [`Policy::new`].
    pub fn new(config: VoterConfig) -> Result<Self> {
        Ok(Self::from_policy(Arc::new(Policy::new(config)?)))
    }

    /// A pool under a compiled policy.
    pub fn from_policy(policy: Arc<Policy>) -> Self {
        Self {
            policy,
            stops: FxHashMap::default(),
            questions: FxHashMap::default(),
            names: FxHashMap::default(),
            next: 0,
            waiting: VecDeque::new(),
        }
    }

    /// The policy of all questions.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Opens a question. Its first launches are returned by [`Voter::launches`].
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for an id that is too long or in use and for a budget of 0;
    /// [`Error::LimitExceeded`] for a budget or a number of questions beyond the limits.
    pub fn open(&mut self, id: &str, options: OpenOptions) -> Result<Handle> {
        let budget = options.budget.unwrap_or(self.policy.config.budget);
        check_budget(budget)?;
        if id.len() > MAX_ID {
            return Err(Error::input("id", format!("{} bytes are more than {MAX_ID}", id.len())));
        }
        if self.names.contains_key(id) {
            return Err(Error::input("id", format!("question {id:?} is open already")));
        }
        if self.questions.len() >= MAX_QUESTIONS {
            return Err(Error::LimitExceeded {
                limit: "questions",
                value: self.questions.len() as u64 + 1,
                budget: MAX_QUESTIONS as u64,
            });
        }
        let policy = &self.policy;
        // A table a budget; a host that varies budgets without end starts over.
        if self.stops.len() > 1024 {
            self.stops.clear();
        }
        let stops = self.stops.entry(budget).or_insert_with(|| Arc::new(policy.stops(budget)));
        let seed = options.seed.unwrap_or(policy.config.seed);
        let id: Arc<str> = id.into();
        let question =
            Question::new(Arc::clone(&id), budget, seed, Arc::clone(policy), Arc::clone(stops));
        let handle = self.next;
        self.next += 1;
        self.names.insert(id, handle);
        self.questions.insert(handle, question);
        self.waiting.push_back(handle);
        Ok(handle)
    }

    /// The handle of an open question.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for an id that is not open.
    pub fn find(&self, id: &str) -> Result<Handle> {
        let found = self.names.get(id).copied();
        found.ok_or_else(|| Error::input("question", format!("{id:?} is not open")))
    }

    /// Launches of questions opened since the last call, in the order of opening. Launches that a
    /// finished trace causes are returned by [`Voter::finish`] itself.
    pub fn launches(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        while let Some(handle) = self.waiting.pop_front() {
            if let Some(question) = self.questions.get_mut(&handle) {
                actions.extend(launch(handle, question));
            }
        }
        actions
    }

    /// The first launches of one question, if [`Voter::launches`] has not returned them.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for an unknown question.
    pub fn launch(&mut self, question: i64) -> Result<Vec<Action>> {
        self.get(question)?;
        let handle = question as Handle;
        self.unqueue(handle);
        let question = self.questions.get_mut(&handle);
        Ok(question.and_then(|question| launch(handle, question)).into_iter().collect())
    }

    fn unqueue(&mut self, handle: Handle) {
        if self.waiting.back() == Some(&handle) {
            self.waiting.pop_back();
        } else {
            self.waiting.retain(|&waiting| waiting != handle);
        }
    }

    /// Adds one engine step's tokens to the statistics of their traces. Constant time a token.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for slices of unequal length, unknown questions and traces, and
    /// log-probabilities or confidences that are not numbers (−∞ is one); [`Error::StateMismatch`]
    /// for traces that have ended. No row counts then.
    pub fn tokens(&mut self, batch: TokenBatch<'_>) -> Result<Vec<Action>> {
        let rows = batch.questions.len();
        if batch.traces.len() != rows {
            let why = format!("{} rows for {rows} questions", batch.traces.len());
            return Err(Error::input("traces", why));
        }
        for (what, values) in [("logprobs", batch.logprobs), ("confs", batch.confs)] {
            if !values.is_empty() && values.len() != rows {
                return Err(Error::input(what, format!("{} rows for {rows} tokens", values.len())));
            }
            if let Some(row) = values.iter().position(|v| v.is_nan() || *v == f64::INFINITY) {
                let (q, t) = (batch.questions[row], batch.traces[row]);
                let why = format!("{} in row {row}, trace {t} of question {q}", values[row]);
                return Err(Error::input(what, why));
            }
        }
        let row = |i: usize| (batch.questions[i], batch.traces[i]);
        for (question, trace) in (0..rows).map(row) {
            self.get(question)?.running(trace)?;
        }
        let mut actions = Vec::new();
        for i in 0..rows {
            let (handle, trace) = row(i);
            let at = |values: &[f64]| values.get(i).copied().unwrap_or(0.0);
            let handle = handle as Handle;
            if let Some(question) = self.questions.get_mut(&handle)
                // A trace pruned in this very call gets no more of its tokens.
                && question.running(trace).is_ok()
                && question.add_token(trace as u32, at(batch.logprobs), at(batch.confs))
            {
                let change = question.prune(trace as u32);
                actions.push(Action::Cancel { question: handle, traces: vec![trace as u32] });
                actions.extend(decided(handle, question, change));
                actions.extend(launch(handle, question));
            }
        }
        Ok(actions)
    }

    /// Ends a trace; an answer that the key cannot read is an abstention, not an error.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for an unknown question or trace and for statistics that are not
    /// finite; [`Error::StateMismatch`] for a trace that has ended already.
    pub fn finish(&mut self, question: i64, trace: i64, end: End<'_>) -> Result<Vec<Action>> {
        let trace = self.get(question)?.running(trace)?;
        let voteless = matches!(end.reason, Reason::Cancelled | Reason::Error);
        let keyed = if voteless {
            None
        } else {
            self.policy.key.read(end.said, end.reason == Reason::Length)
        };
        let whole = match end.said {
            Said::Text(text) | Said::Answer(text) => text,
            Said::Nothing => "",
        };
        let path = fnv(0xcbf2_9ce4_8422_2325, whole.as_bytes());
        let ballot =
            keyed.map(|keyed| Ballot { key: keyed.key.into(), raw: keyed.raw.into(), path });
        self.finish_with(question, trace, end, ballot)
    }

    /// Ends many traces that finished by themselves, one after the other, under a weight that reads
    /// nothing but answers.
    ///
    /// # Errors
    /// Those of [`Voter::finish`], and [`Error::InvalidInput`] for a trace that stands twice and for a
    /// weight that reads statistics. Nothing counts then.
    pub fn finish_batch(&mut self, ends: &[(i64, i64, Said<'_>)]) -> Result<Vec<Action>> {
        let mut seen = rustc_hash::FxHashSet::default();
        for &(question, trace, _) in ends {
            let known = self.get(question)?;
            known.running(trace)?;
            known.check_stats(&known.stats(trace as u32))?;
            if !seen.insert((question, trace)) {
                let why = format!("{trace} of question {:?} ends twice", known.id);
                return Err(Error::input("trace", why));
            }
        }
        let mut actions = Vec::new();
        for &(question, trace, said) in ends {
            actions.extend(self.finish(question, trace, End::new(said))?);
        }
        Ok(actions)
    }

    /// Ends a trace whose ballot is known.
    pub(crate) fn finish_with(
        &mut self,
        question: i64,
        trace: u32,
        end: End<'_>,
        ballot: Option<Ballot>,
    ) -> Result<Vec<Action>> {
        let mut stats = self.get(question)?.stats(trace);
        for (what, value) in [
            ("sum_logprob", end.sum_logprob),
            ("reward", end.reward),
            ("confidence", end.confidence),
            ("entropy", end.entropy),
            ("weight", end.weight),
        ] {
            if let Some(value) = value.filter(|value| !value.is_finite()) {
                let id = &self.get(question)?.id;
                let why = format!("{value} is not finite, trace {trace} of question {id:?}");
                return Err(Error::input(what, why));
            }
        }
        stats.sum_logprob = end.sum_logprob.unwrap_or(stats.sum_logprob);
        stats.num_tokens = end.num_tokens.unwrap_or(stats.num_tokens);
        stats.given = Given {
            reward: end.reward,
            confidence: end.confidence,
            entropy: end.entropy,
            source: end.source,
            weight: end.weight,
        };
        if ballot.is_some() {
            self.get(question)?.check_stats(&stats)?;
        }
        let handle = question as Handle;
        let Some(question) = self.questions.get_mut(&handle) else { return Ok(Vec::new()) };
        let change = question.end(trace, end.reason, ballot, stats);
        let mut actions = decided(handle, question, change);
        actions.extend(launch(handle, question));
        Ok(actions)
    }

    /// Decides a question with what has been counted; nothing happens if it is decided already.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for an unknown question.
    pub fn close(&mut self, question: i64) -> Result<Vec<Action>> {
        self.get(question)?;
        let handle = question as Handle;
        let Some(question) = self.questions.get_mut(&handle) else { return Ok(Vec::new()) };
        let change = question.close();
        Ok(decided(handle, question, change))
    }

    /// Drops a question and everything it holds.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for an unknown question.
    pub fn forget(&mut self, question: i64) -> Result<()> {
        let id = self.get(question)?.id.clone();
        self.names.remove(&id);
        self.questions.remove(&(question as Handle));
        self.unqueue(question as Handle);
        Ok(())
    }

    /// The state of a question's vote; final once [`Outcome::stop`] is set.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for an unknown question.
    pub fn result(&self, question: i64) -> Result<Outcome> {
        Ok(self.get(question)?.outcome())
    }

    /// The events of a question as bytes that [`Voter::replay`] understands.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for an unknown question.
    pub fn log(&self, question: i64) -> Result<Vec<u8>> {
        Ok(crate::log::write(self.get(question)?))
    }

    /// Runs a log again and returns the result it leads to.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for bytes that are no log, are damaged, or whose launches this version
    /// does not reproduce; the errors of [`Policy::new`] for the policy it names.
    pub fn replay(data: &[u8]) -> Result<Outcome> {
        crate::log::replay(data)
    }

    /// Bytes held, roughly.
    pub fn memory(&self) -> usize {
        // A sum does not depend on the order of iteration.
        let questions: usize = self.questions.values().map(Question::memory).sum();
        questions + self.names.len() * (size_of::<(Arc<str>, Handle)>() + 16 + size_of::<Handle>())
    }

    /// Number of questions held.
    pub fn len(&self) -> usize {
        self.questions.len()
    }

    /// Whether the pool holds no question.
    pub fn is_empty(&self) -> bool {
        self.questions.is_empty()
    }

    /// Checks a question and a running trace of it.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for an unknown question or trace; [`Error::StateMismatch`] for a trace
    /// that has ended.
    pub fn running(&self, question: i64, trace: i64) -> Result<u32> {
        self.get(question)?.running(trace)
    }

    /// Sets what tokens have added up to, for a replay.
    pub(crate) fn set_sums(&mut self, question: i64, trace: u32, logprob: f64, conf: f64) {
        if let Some(question) = self.questions.get_mut(&(question as Handle)) {
            question.touch(trace).set_sums(logprob, conf);
        }
    }

    fn get(&self, question: i64) -> Result<&Question> {
        let found = Handle::try_from(question).ok().and_then(|handle| self.questions.get(&handle));
        found.ok_or_else(|| Error::input("question", format!("{question} is not open")))
    }
}

fn launch(handle: Handle, question: &mut Question) -> Option<Action> {
    let (first, num) = question.take_launch()?;
    Some(Action::Launch { question: handle, first, num })
}

fn decided(handle: Handle, question: &Question, change: Change) -> Vec<Action> {
    let mut actions = Vec::new();
    if !change.cancel.is_empty() {
        actions.push(Action::Cancel { question: handle, traces: change.cancel });
    }
    if change.decided {
        let outcome = Box::new(question.outcome());
        actions.push(Action::Done { question: handle, outcome });
    }
    actions
}
