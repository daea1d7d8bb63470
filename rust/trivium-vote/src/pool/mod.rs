//! Many questions behind one event interface.
//!
//! A question is opened, its launches are fetched, its traces' tokens and ends are reported, and
//! each report answers with the actions it causes. Questions do not influence each other, so the
//! interleaving of their events is irrelevant; within one question the order of *finishing* is, too
//! (see [`question`](crate::question)).
//!
//! Every call checks all of its arguments before it changes anything.

mod ends;
mod running;

use crate::question::{Change, Outcome, Question, StopCause};
use crate::schedule::{Order, Schedule};
use crate::slab::{Slab, slot_of};
use crate::spec::{MAX_ID, Policy, Shared, VoterConfig, check_budget};
use crate::stops::best::Known;
use crate::watch::Watch;
use rustc_hash::FxHashMap;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
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
    /// Continue a running trace in further traces, which begin with what it has written so far.
    Fork {
        /// The question.
        question: Handle,
        /// The trace that is continued.
        trace: u32,
        /// The first new trace.
        first: u32,
        /// How many.
        num: u32,
    },
    /// Write the last step of this trace again, by the larger model: its reward is too low.
    Regenerate {
        /// The question.
        question: Handle,
        /// The trace.
        trace: u32,
    },
    /// Stop these running traces: their ballots cannot matter any more, or are known already.
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
    /// Budget in tokens; the pool's by default.
    pub max_tokens: Option<u64>,
    /// When the answer is due, in the host's time: ranks under `deadline`, and [`Voter::expire`].
    pub deadline: Option<f64>,
    /// How hard the question looks, in any unit: ranks under `difficulty`.
    pub difficulty: Option<f64>,
    /// Predicted chance that one sample succeeds: ranks under `marginal`, in place of the tally.
    pub chance: Option<f64>,
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
    /// Token ids; empty if unknown.
    pub ids: &'a [i64],
    /// Entropies of the tokens' laws; empty if unknown.
    pub entropies: &'a [f64],
}

impl<'a> TokenBatch<'a> {
    /// Tokens of which nothing is known but whose they are.
    pub fn new(questions: &'a [i64], traces: &'a [i64]) -> Self {
        Self { questions, traces, logprobs: &[], confs: &[], ids: &[], entropies: &[] }
    }
}

/// A deadline of an open question.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Due(f64, Handle);

impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0).then(self.1.cmp(&other.1))
    }
}

/// A pool of questions under one policy.
#[derive(Debug, Clone)]
pub struct Voter {
    policy: Arc<Policy>,
    /// Rule tables by budget.
    shared: FxHashMap<u32, Arc<Shared>>,
    questions: Slab,
    /// Questions with launches that the host has not fetched, where nothing is scarce.
    waiting: VecDeque<Handle>,
    /// Who goes first, where something is.
    schedule: Option<Box<Schedule>>,
    due: BinaryHeap<Reverse<Due>>,
    /// Whether tokens are more than counted.
    watched: bool,
    /// Launches come from a log.
    granted: bool,
    /// What the questions that have ended taught, and what it comes to.
    known: Known,
    shares: Vec<u8>,
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
        let ranked = policy.pool != Order::Free;
        let schedule = ranked.then(|| Box::new(Schedule::new(&policy.config, policy.pool)));
        let watched = Watch::reads_tokens(&policy);
        Self {
            policy,
            shared: FxHashMap::default(),
            questions: Slab::default(),
            waiting: VecDeque::new(),
            schedule,
            due: BinaryHeap::new(),
            watched,
            granted: false,
            known: Known::default(),
            shares: Vec::new(),
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
        check_open(&options)?;
        if id.len() > MAX_ID {
            return Err(Error::input("id", format!("{} bytes are more than {MAX_ID}", id.len())));
        }
        if self.questions.find(id).is_some() {
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
        if self.shared.len() > 1024 {
            self.shared.clear();
        }
        let shared = self.shared.entry(budget).or_insert_with(|| {
            let (policy, stops) = (Arc::clone(policy), policy.stops(budget));
            Arc::new(Shared { policy, stops, budget })
        });
        if let Some(stops) = shared.stops.knowing(&self.shares) {
            *shared = Arc::new(Shared { policy: Arc::clone(policy), stops, budget });
        }
        let seed = options.seed.filter(|seed| *seed != policy.config.seed);
        let tokens = options.max_tokens.filter(|most| Some(*most) != policy.config.max_tokens);
        let mut question = Question::new(id, seed, tokens, Arc::clone(shared));
        let rank = match self.policy.pool {
            Order::Deadline => options.deadline,
            _ => options.difficulty,
        };
        let handle = if let Some(schedule) = &mut self.schedule {
            let slot = self.questions.next_slot();
            if let Some(wave) = schedule.open(slot, rank, options.chance) {
                question.expect(wave);
            }
            let handle = self.questions.insert(question);
            if let Some(question) = self.questions.get(handle as i64) {
                schedule.rank(slot, question);
            }
            handle
        } else {
            let handle = self.questions.insert(question);
            self.waiting.push_back(handle);
            handle
        };
        if let Some(deadline) = options.deadline {
            self.due.push(Reverse(Due(deadline, handle)));
        }
        Ok(handle)
    }

    /// The handle of an open question.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for an id that is not open.
    pub fn find(&self, id: &str) -> Result<Handle> {
        let found = self.questions.find(id);
        found.ok_or_else(|| Error::input("question", format!("{id:?} is not open")))
    }

    /// The id of an open question.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for an unknown question.
    pub fn id(&self, question: i64) -> Result<&str> {
        Ok(self.get(question)?.id())
    }

    /// Launches of questions opened since the last call, in the order of opening; under a pool that
    /// ranks questions, what its limits allow now. Launches that an event causes are returned by the
    /// event.
    pub fn launches(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        while let Some(handle) = self.waiting.pop_front() {
            self.launch_own(handle, &mut actions);
        }
        self.grant_slots(&mut actions);
        actions
    }

    /// The first launches of one question, if [`Voter::launches`] has not returned them; under a
    /// pool that ranks questions, what its limits allow now, for any question.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for an unknown question.
    pub fn launch(&mut self, question: i64) -> Result<Vec<Action>> {
        self.get(question)?;
        let handle = question as Handle;
        self.unqueue(handle);
        let mut actions = Vec::new();
        self.launch_own(handle, &mut actions);
        self.grant_slots(&mut actions);
        Ok(actions)
    }

    /// Launches what a question wants, where nothing is scarce.
    fn launch_own(&mut self, handle: Handle, actions: &mut Vec<Action>) {
        if self.schedule.is_some() || self.granted {
            return;
        }
        let Some(question) = self.questions.get_mut(handle) else { return };
        if let Some((first, num)) = question.take_launch(u32::MAX) {
            actions.push(Action::Launch { question: handle, first, num });
        }
    }

    /// Gives free slots to the questions that go first.
    fn grant_slots(&mut self, actions: &mut Vec<Action>) {
        let Some(schedule) = &mut self.schedule else { return };
        let mut places: FxHashMap<Handle, usize> = FxHashMap::default();
        while let Some((slot, most)) = schedule.next() {
            let handle = self.questions.handle(slot);
            let Some(question) = self.questions.get_mut(handle) else { continue };
            if let Some((from, more)) = question.take_launch(most) {
                schedule.launched(slot, more);
                let place = *places.entry(handle).or_insert(actions.len());
                match actions.get_mut(place) {
                    // Grants of one call follow each other in the question's numbering.
                    Some(Action::Launch { num, .. }) => *num += more,
                    _ => actions.push(Action::Launch { question: handle, first: from, num: more }),
                }
            }
            schedule.rank(slot, question);
        }
        self.close_spent(actions);
    }

    /// Closes what waits in vain, once the pool's budget is spent.
    fn close_spent(&mut self, actions: &mut Vec<Action>) {
        let Some(schedule) = &mut self.schedule else { return };
        if !schedule.spent() {
            return;
        }
        for slot in schedule.take_waiting() {
            let handle = self.questions.handle(slot);
            let Some(question) = self.questions.get_mut(handle) else { continue };
            if schedule.flying_of(slot) > 0 {
                // Ranked, and asked, again when one of them ends.
                continue;
            }
            let change = question.close(&StopCause::Pool);
            decided(handle, question, change, actions);
        }
    }

    /// After an event of a question: what it decided, what it wants, and who goes next.
    fn follow(&mut self, handle: Handle, change: Change, landed: u32, actions: &mut Vec<Action>) {
        let Some(question) = self.questions.get_mut(handle) else { return };
        let done = change.decided;
        if done && question.teaches() {
            self.known.observe(question.tally());
            self.shares = self.known.shares();
        }
        decided(handle, question, change, actions);
        if let Some(schedule) = &mut self.schedule {
            let slot = slot_of(handle);
            (0..landed).for_each(|_| schedule.landed(slot, false));
            if done {
                schedule.landed(slot, true);
                schedule.decided(slot, question.counted());
            }
            schedule.rank(slot, question);
        } else {
            self.launch_own(handle, actions);
        }
    }

    fn unqueue(&mut self, handle: Handle) {
        if self.waiting.back() == Some(&handle) {
            self.waiting.pop_back();
        } else {
            self.waiting.retain(|&waiting| waiting != handle);
        }
    }

    /// Drops a question and everything it holds.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for an unknown question.
    pub fn forget(&mut self, question: i64) -> Result<()> {
        self.get(question)?;
        let handle = question as Handle;
        if let Some(schedule) = &mut self.schedule {
            schedule.forget(slot_of(handle));
        }
        self.questions.remove(handle);
        self.unqueue(handle);
        // Deadlines of questions that are gone are dropped before they outnumber the others.
        if self.due.len() > 64 + 4 * self.questions.len() {
            let questions = &self.questions;
            self.due.retain(|Reverse(due)| questions.get(due.1 as i64).is_some());
        }
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
    /// [`Error::InvalidInput`] for an unknown question, [`Error::StateMismatch`] where no log is kept.
    pub fn log(&self, question: i64) -> Result<Vec<u8>> {
        crate::log::write(self.get(question)?)
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
        self.questions.memory()
            + self.waiting.capacity() * size_of::<Handle>()
            + self.due.capacity() * size_of::<Reverse<Due>>()
            + self.schedule.as_ref().map_or(0, |schedule| schedule.memory())
    }

    /// Number of questions held.
    pub fn len(&self) -> usize {
        self.questions.len()
    }

    /// Whether the pool holds no question.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Handles of all questions held, by slot.
    pub fn handles(&self) -> impl Iterator<Item = Handle> {
        self.questions.handles()
    }

    /// Sets what the pool knew when a question was opened, for a replay.
    pub(crate) fn recall(&mut self, shares: Vec<u8>) {
        self.shares = shares;
    }

    /// Lets launches come from [`Voter::grant`] alone, as a replay does.
    pub(crate) fn launch_by_grant(&mut self) {
        self.granted = true;
        self.waiting.clear();
    }

    /// Launches traces of a question, for a replay.
    pub(crate) fn grant(&mut self, question: i64, num: u32) -> Result<()> {
        self.get(question)?;
        self.questions.get_mut(question as Handle).map_or(Ok(()), |question| question.grant(num))
    }

    /// How many launches a question waits for.
    pub(crate) fn wants(&self, question: i64) -> Result<u32> {
        Ok(self.get(question)?.wants())
    }

    /// Checks that a question has a key of this number.
    pub(crate) fn check_key(&self, question: i64, key: u32) -> Result<()> {
        self.get(question)?.check_key(key)
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
        if let Some(question) = self.questions.get_mut(question as Handle) {
            question.touch(trace).set_sums(logprob, conf);
        }
    }

    fn get(&self, question: i64) -> Result<&Question> {
        let found = self.questions.get(question);
        found.ok_or_else(|| Error::input("question", format!("{question} is not open")))
    }
}

/// Checks what a question is ranked by.
fn check_open(options: &OpenOptions) -> Result<()> {
    for (what, value) in [("deadline", options.deadline), ("difficulty", options.difficulty)] {
        if value.is_some_and(|value| !value.is_finite()) {
            return Err(Error::input(what, "is not finite"));
        }
    }
    if options.chance.is_some_and(|chance| !(0.0..=1.0).contains(&chance)) {
        return Err(Error::input("chance", "is not in [0, 1]"));
    }
    if options.max_tokens == Some(0) {
        return Err(Error::input("max_tokens", "0 allow nothing; at least 1 is needed"));
    }
    Ok(())
}

/// What a change asks of the host.
fn decided(handle: Handle, question: &Question, change: Change, actions: &mut Vec<Action>) {
    if !change.cancel.is_empty() {
        actions.push(Action::Cancel { question: handle, traces: change.cancel });
    }
    if change.decided {
        let outcome = Box::new(question.outcome());
        actions.push(Action::Done { question: handle, outcome });
    }
}
