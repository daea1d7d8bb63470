//! Optimal stopping of one question by itself, under a simple model.
//!
//! Own. A fixed level of confidence spends its errors badly: near the end of the budget one more
//! look is nearly free, at the beginning it is the first of many. So the price is fixed instead.
//! Disagreeing with the full vote costs [`PRICE`] samples. The state is `(a, b, o, r)`: ballots for
//! the leader, for the runner-up, for all other keys, and traces outstanding. The next ballot goes
//! to them with probabilities proportional to `a - d`, `b - d`, `(1 - d/2) o + t`, as in a Pitman-Yor
//! urn, where a rival without ballots counts `t / 4`; and backward induction gives
//!
//! ```text
//! W_r = P(leader of the two at the end)      W_0 = [a > b], a tie to the older key
//! V_r = min( PRICE * P(wrong now),  1 + E[V_{r-1}] ),   V_0 = 0,   stop where the first is smaller
//! ```
//!
//! Ties are known: the tables differ by whether the leader is the older key, so that the rule
//! contains the tie-aware `locked`. Traces without a ballot only shorten `r`. Beyond a budget of
//! [`MAX_BUDGET`] the predictive rule stands in.

use crate::stops::predictive::PredictiveTable;
use crate::tally::Tally;

/// Price of disagreeing with the full vote, in samples.
pub const PRICE: f64 = 640.0;
/// Discount of a key that has ballots.
pub const DISCOUNT: f64 = 0.2;
/// Prior weight of all keys not seen.
pub const NEW: f64 = 4.0;
/// Largest budget that is tabulated.
pub const MAX_BUDGET: u32 = 64;

/// The rule compiled for a budget.
#[derive(Debug, Clone, PartialEq)]
pub struct UrnTable {
    budget: u32,
    /// Whether to stop, a bit a state: `2 * index + leader is older`.
    stop: Vec<u64>,
    far: Option<PredictiveTable>,
}

impl UrnTable {
    /// The rule for a budget. Time and memory grow with its fourth power, 0.3 million states at 40.
    pub fn new(budget: u32) -> Self {
        if budget > MAX_BUDGET {
            let far = Some(PredictiveTable::new(0.99, 0.25, budget));
            return Self { budget, stop: Vec::new(), far };
        }
        let n = budget as usize + 1;
        let mut table = Self { budget, stop: vec![0; (2 * n * n * n * n).div_ceil(64)], far: None };
        for older in [false, true] {
            table.induce(n, older);
        }
        table
    }

    fn induce(&mut self, n: usize, older: bool) {
        let at = |a: usize, b: usize, o: usize| (a * n + b) * n + o;
        let tie = f64::from(u8::from(older));
        let mut wins = vec![0.0; n * n * n];
        let mut value = vec![0.0; n * n * n];
        for a in 0..n {
            for b in 0..n - a {
                for o in 0..n - a - b {
                    wins[at(a, b, o)] = match a.cmp(&b) {
                        std::cmp::Ordering::Greater => 1.0,
                        std::cmp::Ordering::Equal => tie,
                        std::cmp::Ordering::Less => 0.0,
                    };
                }
            }
        }
        for rest in 1..n {
            // In place: a state reads only states with one ballot more, which come later.
            for a in 0..n - rest {
                for b in 0..n - rest - a {
                    for o in 0..n - rest - a - b {
                        let (p, q) = (urn(a), urn(b));
                        let u = o as f64 * (1.0 - DISCOUNT / 2.0) + NEW;
                        let total = p + q + u;
                        let next = [at(a + 1, b, o), at(a, b + 1, o), at(a, b, o + 1)];
                        let mean = |of: &[f64]| {
                            (p * of[next[0]] + q * of[next[1]] + u * of[next[2]]) / total
                        };
                        let (win, go_on) = (mean(&wins), 1.0 + mean(&value));
                        let leads = a > b || (a == b && older);
                        let stop = PRICE * if leads { 1.0 - win } else { win };
                        let here = at(a, b, o);
                        (wins[here], value[here]) = (win, stop.min(go_on));
                        if stop <= go_on {
                            let bit = 2 * (rest * n * n * n + here) + usize::from(older);
                            self.stop[bit / 64] |= 1 << (bit % 64);
                        }
                    }
                }
            }
        }
    }

    /// Whether to stop with `rest` traces outstanding.
    pub fn stops(&self, tally: &Tally, rest: u32) -> bool {
        let (a, b) = tally.top_two();
        self.at(a, b, tally.num_cast() - a - b, rest, tally.leader_wins_ties())
    }

    fn at(&self, a: u32, b: u32, others: u32, rest: u32, older: bool) -> bool {
        if a == 0 {
            return false;
        }
        if let Some(far) = &self.far {
            return far.stops(a, b, rest);
        }
        if rest == 0 {
            return true;
        }
        if a + b + others + rest > self.budget {
            return false;
        }
        let n = self.budget as usize + 1;
        let [a, b, o, rest] = [a, b, others, rest].map(|x| x as usize);
        let bit = 2 * (rest * n * n * n + (a * n + b) * n + o) + usize::from(older);
        self.stop[bit / 64] >> (bit % 64) & 1 == 1
    }

    /// Least number of further ballots until the rule can fire: the leader takes them all and, to be
    /// on the safe side, wins ties.
    pub fn need(&self, tally: &Tally, rest: u32) -> u32 {
        let (a, b) = tally.top_two();
        if let Some(far) = &self.far {
            return far.need(a, b, rest);
        }
        let others = tally.num_cast() - a - b;
        let fires = |&d: &u32| self.at(a + d, b, others, rest - d, true);
        (1..=rest).find(fires).unwrap_or(rest)
    }
}

/// Weight of a key with `count` ballots in the urn.
fn urn(count: usize) -> f64 {
    if count == 0 { NEW / 4.0 } else { count as f64 - DISCOUNT }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_contains_the_tie_aware_lock() {
        let table = UrnTable::new(20);
        for a in 1..=20u32 {
            for b in 0..=a.min(20 - a) {
                for rest in 0..=20 - a - b {
                    for older in [false, true] {
                        let locked = a - b > rest || (a - b == rest && older);
                        assert!(!locked || table.at(a, b, 0, rest, older), "{a} {b} {rest}");
                    }
                }
            }
        }
    }

    #[test]
    fn it_looks_longer_where_looking_is_cheap() {
        let table = UrnTable::new(40);
        let first = (1..40).find(|&a| table.at(a, 0, 0, 40 - a, true));
        assert!((3..=7).contains(&first.unwrap()), "{first:?}");
        // A lead of two with two traces left is worth a look, unless ties are safe.
        assert!(!table.at(19, 18, 0, 3, true) && table.at(20, 17, 0, 3, true));
        assert!(UrnTable::new(200).at(12, 0, 0, 188, true));
    }
}
