//! Adaptive-Consistency, Beta criterion: stop when the leader is the mode of the sampler with
//! posterior probability at least `C`.
//!
//! Aggarwal et al., "Let's Sample Step by Step: Adaptive-Consistency for Efficient Reasoning and
//! Coding with LLMs" (EMNLP 2023). With counts `a >= b` of the two best answers and a flat prior on
//! their split,
//!
//! ```text
//! P(a, b) = I_{1/2}(b + 1, a + 1) = 2^-N sum_{j <= a} C(N, j),   N = a + b + 1
//! Q(a, b) = 1 - P(a, b)           = 2^-N sum_{j <= b} C(N, j)
//! ```
//!
//! `P` grows in `a` and falls in `b`, so the rule is a table: stop iff `a >= need[b]`. The table
//! walks the boundary in `Q`, a sum of small positive terms, with
//!
//! ```text
//! Q(a + 1, b) = Q(a, b) - C(N, b) 2^-(N+1)        Q(a, b + 1) = Q(a, b) + C(N, b + 1) 2^-(N+1)
//! ```
//!
//! and decides within a part in 10^9 of the boundary by whole numbers: with `1 - C = m / 2^e`,
//! stop iff `2^e sum_{j <= b} C(N, j) <= m 2^N`. So `C` is exactly the double the caller wrote, and
//! `beta:0.9375` stops at (3, 0), where `P` is 15/16. Beyond `N` = 4,096 the sum in `f64` decides.
//!
//! The level is per look, not per run, and answers "is the leader the mode?", never "is it right?".

use crate::nat::Nat;

/// Largest `N` up to which the boundary is settled by whole numbers.
const EXACT: u32 = 4096;

/// Smallest leading counts at which the rule fires.
#[derive(Debug, Clone, PartialEq)]
pub struct BetaTable {
    need: Vec<u32>,
}

impl BetaTable {
    /// The table for level `C` in (0, 1) and a budget: rows that no `budget` ballots reach are left
    /// out. Time linear in the budget.
    pub fn new(level: f64, budget: u32) -> Self {
        // The complement is exact: 1 - C of a double in (0, 1) loses nothing above 1/2, and below it
        // every lead stops anyway.
        let tail = 1.0 - level;
        let mut need = Vec::new();
        // Q and C(N, b) / 2^N at the current point (a, b), N = a + b + 1.
        let (mut a, mut b, mut q, mut term) = (0u32, 0u32, 0.5, 0.5);
        loop {
            // The leader has at least as many ballots as the runner-up, so the walk starts there.
            while a < b.max(1) || !at_most(q, tail, a, b) {
                q -= term / 2.0;
                let n = f64::from(a + b + 1);
                term *= (n + 1.0) / (n + 1.0 - f64::from(b)) / 2.0;
                a += 1;
                if u64::from(a) + u64::from(b) > u64::from(budget) {
                    return Self { need };
                }
            }
            need.push(a);
            let n = f64::from(a + b + 1);
            b += 1;
            if b % 64 == 0 {
                (q, term) = tail_sum(a, b);
            } else {
                term *= (n + 1.0) / f64::from(b) / 2.0;
                // C(N, b+1) / 2^(N+1), from the new term C(N+1, b+1) / 2^(N+1) by Pascal's rule.
                q += term * (n + 1.0 - f64::from(b)) / (n + 1.0);
            }
        }
    }

    /// Whether counts `a >= b` stop.
    #[inline]
    pub fn stops(&self, a: u32, b: u32) -> bool {
        self.need.get(b as usize).is_some_and(|&need| a >= need)
    }

    /// Least number of further ballots until the rule can fire; `u32::MAX` if it cannot. The leader
    /// takes them all: any other key would need more.
    pub fn need(&self, a: u32, b: u32) -> u32 {
        self.need.get(b as usize).map_or(u32::MAX, |need| need.saturating_sub(a).max(1))
    }

    /// The table itself: `rows()[b]` is the smallest `a` that stops.
    pub fn rows(&self) -> &[u32] {
        &self.need
    }
}

/// Whether `Q(a, b) <= tail`, given `Q` to about 13 digits.
fn at_most(q: f64, tail: f64, a: u32, b: u32) -> bool {
    if (q - tail).abs() > 1e-9 * tail || a + b + 1 > EXACT {
        return q <= tail;
    }
    let n = a + b + 1;
    let (mut sum, mut term) = (Nat::from_u64(1), Nat::from_u64(1));
    for j in 1..=b {
        term.mul_add_small(n + 1 - j, 0);
        term.div_small(j);
        sum = sum.add(&term);
    }
    // A positive double is mantissa * 2^(exponent - 1075); the implied bit is set above subnormals.
    let bits = tail.to_bits();
    let exponent = (bits >> 52) as usize & 0x7ff;
    let mantissa = (bits & ((1 << 52) - 1)) | (u64::from(exponent > 0) << 52);
    sum.shl(1075 - exponent.max(1)) <= Nat::from_u64(mantissa).shl(n as usize)
}

/// `Q(a, b)` and `C(N, b) / 2^N` from scratch. Halvings are interleaved with the growth of the
/// coefficient so that nothing overflows.
fn tail_sum(a: u32, b: u32) -> (f64, f64) {
    let n = a + b + 1;
    let (mut term, mut halvings) = (1.0f64, n);
    for j in 1..=b {
        // Multiplied first: then every step is exact while the coefficient fits 53 bits.
        term = term * f64::from(n + 1 - j) / f64::from(j);
        while term > 1.0 && halvings > 0 {
            term /= 2.0;
            halvings -= 1;
        }
    }
    term *= (-f64::from(halvings)).exp2();
    let (mut sum, mut next) = (0.0, term);
    for j in (0..=b).rev() {
        sum += next;
        if next < sum * 1e-18 {
            break;
        }
        next = next * f64::from(j) / f64::from(n + 1 - j);
    }
    (sum, term)
}

/// Posterior probability that the leader, with `a` ballots, is a more probable answer of the sampler
/// than the runner-up, with `b`.
///
/// Time linear in `b`; relative error of the complement below 1e-12.
pub fn posterior(a: u32, b: u32) -> f64 {
    if a >= b { 1.0 - tail_sum(a, b).0 } else { tail_sum(b, a).0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn posteriors_have_their_published_values() {
        for (a, b, p) in [
            (0, 0, 0.5),
            (1, 0, 0.75),
            (2, 0, 0.875),
            (3, 0, 0.9375),
            (4, 0, 0.96875),
            (2, 1, 0.6875),
            (3, 1, 0.8125),
            (4, 1, 0.890_625),
            (5, 1, 0.9375),
            (6, 1, 0.964_843_75),
            (6, 2, 0.910_156_25),
            (7, 2, 0.945_312_5),
            (9, 1, 0.994_140_625),
            (5, 5, 0.5),
            (7, 4, 0.806_152_343_8),
            (20, 11, 0.944_907_917_408),
            (40, 30, 0.882_451_218_796),
        ] {
            assert!((posterior(a, b) - p).abs() < 1e-10, "({a}, {b}): {}", posterior(a, b));
            assert!((posterior(b, a) - (1.0 - p)).abs() < 1e-10, "({b}, {a})");
        }
        assert!((posterior(3000, 2900) - 0.903_6).abs() < 1e-3);
    }

    #[test]
    fn tables_have_their_published_rows() {
        for (level, rows) in [
            (0.90, [3, 5, 6, 8, 9, 11, 12, 13, 15, 16, 17, 19, 20]),
            (0.95, [4, 6, 8, 9, 11, 12, 14, 15, 17, 18, 19, 21, 22]),
            (0.975, [5, 7, 9, 11, 12, 14, 16, 17, 19, 20, 22, 23, 24]),
            (0.99, [6, 9, 11, 13, 14, 16, 18, 19, 21, 23, 24, 26, 27]),
            (0.999, [9, 12, 15, 17, 19, 21, 23, 25, 26, 28, 30, 31, 33]),
        ] {
            assert_eq!(BetaTable::new(level, 60).rows()[..13], rows, "{level}");
        }
    }

    /// Exact sums as fractions of 2^N in whole numbers.
    fn stops_exactly(level_num: u128, level_log2_den: u32, a: u32, b: u32) -> bool {
        let n = a + b + 1;
        let (mut sum, mut term) = (0u128, 1u128);
        for j in 0..=a {
            sum += term;
            term = term * u128::from(n - j) / u128::from(j + 1);
        }
        sum << level_log2_den >= level_num << n
    }

    #[test]
    fn attainable_levels_are_met_exactly() {
        // Every P(a, b) with N <= 30 is itself a level; the rule must fire there, and not just above.
        for a in 1..16u32 {
            for b in 0..a.min(14) {
                let level = posterior(a, b);
                let table = BetaTable::new(level, 60);
                assert!(table.stops(a, b), "({a}, {b})");
                let above = f64::from_bits(level.to_bits() + 1);
                assert!(!BetaTable::new(above, 60).stops(a, b), "({a}, {b})");
            }
        }
        for b in 0..12u32 {
            for a in b.max(1)..30 {
                let table = BetaTable::new(0.9375, 60);
                assert_eq!(table.stops(a, b), stops_exactly(15, 4, a, b), "({a}, {b})");
            }
        }
    }

    #[test]
    fn a_stop_at_one_level_implies_a_stop_at_lower_ones() {
        let tables: Vec<_> = [0.3, 0.6, 0.9, 0.95, 0.99].map(|c| BetaTable::new(c, 64)).into();
        for pair in tables.windows(2) {
            for a in 1..=64 {
                for b in 0..=a.min(64 - a) {
                    assert!(pair[0].stops(a, b) || !pair[1].stops(a, b), "({a}, {b})");
                }
            }
        }
    }

    #[test]
    fn long_tables_agree_with_fresh_sums() {
        let table = BetaTable::new(0.95, 20_000);
        assert!(table.rows().len() > 9_000);
        for (b, &a) in table.rows().iter().enumerate().step_by(97) {
            let b = b as u32;
            assert!(
                posterior(a, b) >= 0.95 - 1e-11 && posterior(a - 1, b) < 0.95 + 1e-11,
                "({a}, {b})"
            );
        }
    }
}
