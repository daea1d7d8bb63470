//! The recommended rule without side information: optimal stopping under a law of answers that is
//! learned from the votes of earlier questions.
//!
//! Own. Disagreeing with the full vote costs [`PRICE`] samples, and backward induction weighs that
//! against the price of looking further. The state is `(a, b, c, o, r)`: ballots for the leader, the
//! second, the third and all other keys, and traces outstanding;
//!
//! ```text
//! W_r = P(the leader wins the full vote)     W_0 = 1
//! V_r = min( PRICE * (1 - W_r),  1 + E[V_{r-1}] ),   V_0 = 0,   stop where the first is smaller
//! ```
//!
//! What the next ballot is, only the law of answers tells ([`law`]). Three equal answers are nearly
//! safe on one set of questions and one in fifteen of them wrong on another, and nothing in the
//! ballots of one question says which. So the law is a mixture of *types*, one fitted to each
//! development set, and a pool learns their weights from the tallies of the questions that have
//! ended ([`Known`], empirical Bayes: no labels, sources or texts). Stopping early does not bias
//! that: the chance to have stopped there does not depend on the type.
//!
//! A question uses what its pool knew when it was opened, and its log holds it. Ties are known: the
//! tables differ by whether the leader is the older key. Beyond a budget of [`MAX_BUDGET`] the rule
//! [`urn`](super::urn) stands in.

mod law;
mod learn;

pub use learn::Known;

use crate::stops::urn::UrnTable;
use crate::tally::Tally;
use law::{Laws, laws};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Price of disagreeing with the full vote, in samples.
pub const PRICE: f64 = 530.0;
/// Largest budget that is tabulated.
pub const MAX_BUDGET: u32 = 40;
/// How far [`BestTable::need`] looks ahead.
const AHEAD: usize = 3;
/// Tables kept; a table takes 0.3 MB, 0.8 MB once it has been asked how far a stop is.
const KEPT: usize = 48;

/// The rule under one law of answers, for all budgets up to [`MAX_BUDGET`].
#[derive(Debug)]
pub struct BestTable {
    /// Weights of the types; equal ones if empty.
    shares: Vec<u8>,
    /// Bit `r` of `2 * state + leader is older`: stop with `r` traces outstanding.
    stop: Vec<u64>,
    /// Bit `r` of `state`, by number of ballots: whether that many can lead to a stop.
    near: OnceLock<[Vec<u64>; AHEAD]>,
}

/// Tables by weights of types.
static TABLES: Mutex<BTreeMap<Vec<u8>, Arc<BestTable>>> = Mutex::new(BTreeMap::new());

impl BestTable {
    /// The table for weights of types, equal ones if there are none. Made once a process, in some
    /// milliseconds; the first call computes the laws of all types (a tenth of a second).
    pub fn shared(shares: &[u8]) -> Arc<Self> {
        let locked = || TABLES.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(table) = locked().get(shares) {
            return Arc::clone(table);
        }
        let table = Arc::new(Self::new(shares));
        let mut tables = locked();
        if tables.len() >= KEPT {
            tables.clear();
        }
        tables.insert(shares.to_vec(), Arc::clone(&table));
        table
    }

    fn new(shares: &[u8]) -> Self {
        let laws = laws();
        let law = laws.mix(shares);
        let steps = laws.steps(&law);
        let num = laws.states.len();
        let mut stop = vec![1u64; 2 * num];
        // By role: who leads now, and who is second.
        let (mut value, mut wins) = (vec![0.0; 2 * num], [vec![1.0; 2 * num], vec![0.0; 2 * num]]);
        let (mut new_value, mut new_wins) = (value.clone(), wins.clone());
        for rest in 1..=MAX_BUDGET as usize {
            for (state, step) in steps.iter().enumerate() {
                if laws.size(state) + rest > MAX_BUDGET as usize {
                    continue;
                }
                for older in [0, 1] {
                    let here = 2 * state + older;
                    let mut after = law.none * value[here];
                    let mut win = [law.none * wins[0][here], law.none * wins[1][here]];
                    for go in step {
                        let p = (1.0 - law.none) * go.probability;
                        let to = 2 * go.state + go.older[older];
                        after += p * value[to];
                        for role in [0, 1] {
                            if let Some(then) = go.role[older][role] {
                                win[role] += p * wins[then][to];
                            }
                        }
                    }
                    let now = if state == 0 { f64::INFINITY } else { PRICE * (1.0 - win[0]) };
                    new_value[here] = now.min(1.0 + after);
                    (new_wins[0][here], new_wins[1][here]) = (win[0], win[1]);
                    stop[here] |= u64::from(now <= 1.0 + after) << rest;
                }
            }
            std::mem::swap(&mut value, &mut new_value);
            std::mem::swap(&mut wins, &mut new_wins);
        }
        stop[0] = 0;
        stop[1] = 0;
        Self { shares: shares.to_vec(), stop, near: OnceLock::new() }
    }

    /// Weights of the types, empty where they are equal.
    pub fn shares(&self) -> &[u8] {
        &self.shares
    }

    fn at(&self, state: usize, rest: u32, older: bool) -> bool {
        self.stop[2 * state + usize::from(older)] >> rest & 1 == 1
    }
}

/// Whether some sequence of `1..=AHEAD` ballots or abstentions leads to a stop, whoever is older.
fn near(laws: &Laws, stop: &[u64]) -> [Vec<u64>; AHEAD] {
    let mut last: Vec<u64> = stop.chunks(2).map(|pair| pair[0] | pair[1]).collect();
    std::array::from_fn(|_| {
        let next = (0..last.len()).map(|state| {
            // Transitions of probability 0 under the law happen all the same.
            let to = laws.targets(state).into_iter().flatten();
            to.chain([state]).fold(0, |bits, to| bits | last[to] << 1)
        });
        last = next.collect();
        last.clone()
    })
}

/// The rule as a question holds it.
#[derive(Debug, Clone)]
pub struct Best {
    table: Arc<BestTable>,
    /// For budgets beyond [`MAX_BUDGET`].
    far: Option<Arc<UrnTable>>,
}

impl Best {
    /// The rule for a budget, of a pool that knows nothing yet.
    pub fn new(budget: u32) -> Self {
        let far = (budget > MAX_BUDGET).then(|| Arc::new(UrnTable::new(budget)));
        Self { table: BestTable::shared(&[]), far }
    }

    /// The rule of a pool with these weights of types.
    #[must_use]
    pub fn knowing(&self, shares: &[u8]) -> Self {
        if shares == self.table.shares || self.far.is_some() {
            return self.clone();
        }
        Self { table: BestTable::shared(shares), far: None }
    }

    /// Weights of the types.
    pub fn shares(&self) -> &[u8] {
        self.table.shares()
    }

    /// Whether to stop with `rest` traces outstanding. Linear in the number of keys.
    pub fn stops(&self, tally: &Tally, rest: u32) -> bool {
        if let Some(far) = &self.far {
            return far.stops(tally, rest);
        }
        let Some(state) = state(tally) else { return false };
        // More than the budget, where a host overstates what is outstanding.
        if rest == 0 || tally.num_cast() + rest > MAX_BUDGET {
            return rest == 0 && state > 0;
        }
        self.table.at(state, rest, tally.leader_wins_ties())
    }

    /// A number of further ballots below which no sequence of them stops.
    pub fn need(&self, tally: &Tally, rest: u32) -> u32 {
        if let Some(far) = &self.far {
            return far.need(tally, rest);
        }
        let (Some(state), true) = (state(tally), tally.num_cast() + rest <= MAX_BUDGET) else {
            return 1;
        };
        let near = self.table.near.get_or_init(|| near(laws(), &self.table.stop));
        let first = near.iter().position(|bits| bits[state] >> rest & 1 == 1);
        first.map_or(AHEAD as u32 + 1, |ahead| ahead as u32 + 1)
    }
}

/// The state that a tally is in, if it is tabulated.
fn state(tally: &Tally) -> Option<usize> {
    if tally.num_cast() > MAX_BUDGET {
        return None;
    }
    let (a, b) = tally.top_two();
    // The third count: once the first two have been met, the largest of the others.
    let (mut firsts, mut seconds, mut third) = (1, u32::from(a != b), 0);
    firsts += u32::from(a == b);
    for &count in tally.counts() {
        if count == a && firsts > 0 {
            firsts -= 1;
        } else if count == b && seconds > 0 {
            seconds -= 1;
        } else {
            third = third.max(count);
        }
    }
    let others = tally.num_cast() - a - b - third;
    Some(laws().index([a, b, third, others].map(|count| count as usize)))
}

#[cfg(test)]
mod tests;
