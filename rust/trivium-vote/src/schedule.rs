//! Who is launched first, where traces in flight or in all are scarce.
//!
//! | policy | first |
//! |---|---|
//! | `free` | nothing is scarce: every question launches what it wants |
//! | `fifo` | the question that was opened first |
//! | `deadline` | the earliest deadline, then the order of opening |
//! | `difficulty` | the most difficult; its first wave is what questions of its difficulty needed |
//! | `marginal` | the question to which one more ballot is worth most ([`crate::worth`]) |
//!
//! Ranks live in one heap with at most one valid entry a question; an entry is outdated by raising
//! the question's version. A pop or push takes `O(log Q)`, amortised over outdated entries, of which
//! there are never more than three times as many as questions.

use crate::calibrate::isotonic;
use crate::question::Question;
use crate::spec::unknown;
use crate::worth::{self, HORIZON};
use rustc_hash::FxHashMap;
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use trivium_core::Result;

/// Which questions go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Nothing is scarce.
    Free,
    /// By order of opening.
    Fifo,
    /// By deadline.
    Deadline,
    /// By difficulty, the hardest first.
    Difficulty,
    /// By what one more ballot is worth.
    Marginal,
}

impl Order {
    const ALL: [(&'static str, Self); 5] = [
        ("free", Self::Free),
        ("fifo", Self::Fifo),
        ("deadline", Self::Deadline),
        ("difficulty", Self::Difficulty),
        ("marginal", Self::Marginal),
    ];

    /// Reads a name.
    ///
    /// # Errors
    /// [`trivium_core::Error::InvalidInput`] listing the names.
    pub fn parse(name: &str) -> Result<Self> {
        let found = Self::ALL.iter().find(|(text, _)| *text == name).map(|(_, order)| *order);
        found.ok_or_else(|| unknown("pool", name, &Self::ALL.map(|(text, _)| text), &[]))
    }
}

/// A rank in the heap: the largest goes first.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Rank {
    key: f64,
    /// Order of opening.
    turn: u64,
    slot: u32,
    version: u32,
}

impl Eq for Rank {}
impl PartialOrd for Rank {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Rank {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key.total_cmp(&other.key).then(other.turn.cmp(&self.turn))
    }
}

/// What ranks one question.
#[derive(Debug, Clone, Copy)]
struct Ticket {
    /// Minus the deadline, or the difficulty.
    key: f64,
    /// Predicted chance that a sample succeeds, where the host knows one; else not a number.
    chance: f64,
    turn: u64,
    version: u32,
    queued: bool,
    /// Traces in flight.
    flying: u32,
}

/// Samples that questions of known difficulty took, and what follows for others.
#[derive(Debug, Clone, Default)]
struct Experience {
    /// Difficulty and samples of the last decided questions.
    seen: Vec<(f64, f64)>,
    /// How many were ever seen.
    num: usize,
    /// The fit, by difficulty.
    fit: Vec<(f64, f64)>,
}

/// Decided questions that predictions rest on.
const REMEMBERED: usize = 256;

impl Experience {
    fn note(&mut self, difficulty: f64, samples: u32) {
        let entry = (difficulty, f64::from(samples));
        if self.seen.len() < REMEMBERED {
            self.seen.push(entry);
        } else {
            self.seen[self.num % REMEMBERED] = entry;
        }
        self.num += 1;
        if self.num.is_multiple_of(16) {
            let mut sorted = self.seen.clone();
            sorted.sort_by(|x, y| x.0.total_cmp(&y.0));
            let (scores, samples): (Vec<f64>, Vec<f64>) = sorted.into_iter().unzip();
            let fitted = isotonic(&scores, &samples);
            self.fit = scores.into_iter().zip(fitted).collect();
        }
    }

    /// Samples that a question of this difficulty is expected to take.
    fn predict(&self, difficulty: f64) -> Option<u32> {
        let after = self.fit.partition_point(|(d, _)| *d <= difficulty);
        let (_, samples) = *self.fit.get(after.saturating_sub(1))?;
        Some(samples.round() as u32)
    }
}

/// The ranks of all questions of a pool.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    order: Order,
    heap: BinaryHeap<Rank>,
    tickets: Vec<Ticket>,
    /// Valid entries of the heap.
    valid: usize,
    turn: u64,
    slots: u64,
    total: u64,
    total_tokens: u64,
    pub(crate) flying: u64,
    launched: u64,
    pub(crate) tokens: u64,
    worths: FxHashMap<(u32, u32, u32), Box<[f64]>>,
    experience: Experience,
}

impl Schedule {
    pub(crate) fn new(config: &crate::spec::VoterConfig, order: Order) -> Self {
        Self {
            order,
            heap: BinaryHeap::new(),
            tickets: Vec::new(),
            valid: 0,
            turn: 0,
            slots: config.slots.map_or(u64::MAX, u64::from),
            total: config.total.unwrap_or(u64::MAX),
            total_tokens: config.total_tokens.unwrap_or(u64::MAX),
            flying: 0,
            launched: 0,
            tokens: 0,
            worths: FxHashMap::default(),
            experience: Experience::default(),
        }
    }

    /// Enters a question that has just been opened.
    pub(crate) fn open(
        &mut self,
        slot: u32,
        rank: Option<f64>,
        chance: Option<f64>,
    ) -> Option<u32> {
        let key = match (self.order, rank) {
            (Order::Deadline, Some(deadline)) => -deadline,
            (Order::Deadline | Order::Difficulty, None) => f64::NEG_INFINITY,
            (Order::Difficulty, Some(difficulty)) => difficulty,
            _ => 0.0,
        };
        let at = slot as usize;
        let version = self.tickets.get(at).map_or(0, |old| old.version.wrapping_add(1));
        let ticket = Ticket {
            key,
            chance: chance.unwrap_or(f64::NAN),
            turn: self.turn,
            version,
            queued: false,
            flying: 0,
        };
        self.turn += 1;
        if at == self.tickets.len() {
            self.tickets.push(ticket);
        } else if let Some(old) = self.tickets.get_mut(at) {
            *old = ticket;
        }
        let known = self.order == Order::Difficulty && key.is_finite();
        if known { self.experience.predict(key) } else { None }
    }

    /// Whether no trace can be launched any more, ever.
    pub(crate) fn spent(&self) -> bool {
        self.launched >= self.total || self.tokens >= self.total_tokens
    }

    fn room(&self) -> u64 {
        if self.spent() {
            0
        } else {
            (self.slots - self.flying.min(self.slots)).min(self.total - self.launched)
        }
    }

    /// Ranks a question anew after something happened to it.
    pub(crate) fn rank(&mut self, slot: u32, question: &Question) {
        let Some(ticket) = self.tickets.get(slot as usize).copied() else { return };
        let wants = question.wants() > 0;
        let moves = self.order == Order::Marginal;
        if ticket.queued && wants && !moves {
            return;
        }
        self.outdate(slot);
        if !wants {
            return;
        }
        let key = if moves { self.worth(&ticket, question) } else { ticket.key };
        let Some(ticket) = self.tickets.get_mut(slot as usize) else { return };
        ticket.queued = true;
        self.valid += 1;
        self.heap.push(Rank { key, turn: ticket.turn, slot, version: ticket.version });
        if self.heap.len() > 64 + 4 * self.valid {
            let tickets = &self.tickets;
            self.heap.retain(|rank| {
                let ticket = &tickets[rank.slot as usize];
                ticket.queued && ticket.version == rank.version
            });
        }
    }

    fn outdate(&mut self, slot: u32) {
        let Some(ticket) = self.tickets.get_mut(slot as usize) else { return };
        if ticket.queued {
            ticket.queued = false;
            self.valid -= 1;
        }
        ticket.version = ticket.version.wrapping_add(1);
    }

    fn worth(&mut self, ticket: &Ticket, question: &Question) -> f64 {
        if ticket.chance.is_finite() {
            return ticket.chance * (1.0 - ticket.chance).powi(question.launched() as i32);
        }
        let (a, b) = question.top_two();
        let rest = (question.budget() - question.counted()).min(HORIZON);
        let flying = question.launched() - question.counted();
        if self.worths.len() > 1 << 16 {
            self.worths.clear();
        }
        let known = self
            .worths
            .entry((a, b, rest))
            .or_insert_with(|| worth::marginals(&worth::values(a, b, rest)).into_boxed_slice());
        known.get(flying as usize).copied().unwrap_or(0.0)
    }

    /// The question that goes first, and how many traces it may launch.
    pub(crate) fn next(&mut self) -> Option<(u32, u32)> {
        let room = self.room();
        if room == 0 {
            return None;
        }
        while let Some(rank) = self.heap.pop() {
            let ticket = &mut self.tickets[rank.slot as usize];
            if ticket.queued && ticket.version == rank.version {
                ticket.queued = false;
                ticket.version = ticket.version.wrapping_add(1);
                self.valid -= 1;
                let most = if self.order == Order::Marginal { 1 } else { room };
                return Some((rank.slot, most.min(u64::from(u32::MAX)) as u32));
            }
        }
        None
    }

    /// Takes all questions that wait for a launch off the heap, by order of rank.
    pub(crate) fn take_waiting(&mut self) -> Vec<u32> {
        let ranks = std::mem::take(&mut self.heap).into_sorted_vec();
        let mut waiting = Vec::new();
        for rank in ranks.into_iter().rev() {
            let ticket = &mut self.tickets[rank.slot as usize];
            if ticket.queued && ticket.version == rank.version {
                ticket.queued = false;
                waiting.push(rank.slot);
            }
        }
        self.valid = 0;
        waiting
    }

    /// Books launches.
    pub(crate) fn launched(&mut self, slot: u32, num: u32) {
        self.flying += u64::from(num);
        self.launched += u64::from(num);
        self.tickets[slot as usize].flying += num;
    }

    /// Books the end of a running trace, or of all of a question.
    pub(crate) fn landed(&mut self, slot: u32, all: bool) {
        let ticket = &mut self.tickets[slot as usize];
        let num = if all { ticket.flying } else { ticket.flying.min(1) };
        ticket.flying -= num;
        self.flying -= u64::from(num);
    }

    /// Traces of a question in flight.
    pub(crate) fn flying_of(&self, slot: u32) -> u32 {
        self.tickets[slot as usize].flying
    }

    /// Learns from a decided question.
    pub(crate) fn decided(&mut self, slot: u32, samples: u32) {
        let key = self.tickets[slot as usize].key;
        if self.order == Order::Difficulty && key.is_finite() {
            self.experience.note(key, samples);
        }
    }

    /// Drops a question.
    pub(crate) fn forget(&mut self, slot: u32) {
        self.landed(slot, true);
        self.outdate(slot);
    }

    /// Bytes held.
    pub(crate) fn memory(&self) -> usize {
        let worths: usize = {
            // A sum does not depend on the order of iteration.
            #[allow(clippy::iter_over_hash_type)]
            self.worths.values().map(|row| row.len() * size_of::<f64>()).sum()
        };
        self.heap.capacity() * size_of::<Rank>()
            + self.tickets.capacity() * size_of::<Ticket>()
            + worths
            + self.worths.capacity() * size_of::<((u32, u32, u32), Box<[f64]>)>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn experience_is_monotone_and_bounded() {
        let mut experience = Experience::default();
        assert_eq!(experience.predict(0.5), None);
        for i in 0..1000u32 {
            let difficulty = f64::from(i % 100) / 100.0;
            experience.note(difficulty, 4 + (difficulty * 30.0) as u32);
        }
        assert_eq!(experience.seen.len(), REMEMBERED);
        let said: Vec<_> = (0..10).map(|i| experience.predict(f64::from(i) / 10.0)).collect();
        assert!(said.windows(2).all(|pair| pair[0] <= pair[1]), "{said:?}");
        assert!(said[0] < Some(8) && said[9] > Some(24), "{said:?}");
    }
}
