//! Predictive stop: the leader will probably still lead when the budget is spent.
//!
//! Own. The user asked for the majority of `L` traces, not for the mode: with counts `a >= b` and
//! `m` traces outstanding, all of them taken to go to the two leaders, the leader gets
//! `X ~ BetaBinomial(m, a + s, b + s)` of them, and
//!
//! ```text
//! P(a, b, m) = P(a + X > b + m - X) + 1/2 P(a + X = b + m - X)
//! ```
//!
//! At `m = 0` it is `[a > b]`, beyond `a - b > m` it is 1, so it contains `locked`; for `m -> inf` it
//! is the Beta rule. `s` is the prior weight of each side, 1 unless given.

/// Largest budget whose table is made; beyond it each question is answered afresh.
const MAX_TABLE: u32 = 128;

/// The rule compiled for a budget.
#[derive(Debug, Clone, PartialEq)]
pub struct PredictiveTable {
    level: f64,
    prior: f64,
    budget: u32,
    /// `need[m * (budget / 2 + 1) + b]`.
    need: Vec<u16>,
}

impl PredictiveTable {
    /// The rule for a level in (0, 1), prior weight above 0, and a budget.
    pub fn new(level: f64, prior: f64, budget: u32) -> Self {
        let mut table = Self { level, prior, budget, need: Vec::new() };
        if budget <= MAX_TABLE {
            let width = budget / 2 + 1;
            for m in 0..=budget {
                for b in 0..width {
                    let top = (budget - m).saturating_sub(b);
                    let (mut low, mut high) = (b.max(1), top + 1);
                    while low < high {
                        let middle = low.midpoint(high);
                        if confidence(middle, b, m, prior) >= level {
                            high = middle;
                        } else {
                            low = middle + 1;
                        }
                    }
                    let found = if low > top { u16::MAX } else { low as u16 };
                    table.need.push(found);
                }
            }
        }
        table
    }

    /// Whether counts `a >= b` stop with `rest` traces outstanding.
    pub fn stops(&self, a: u32, b: u32, rest: u32) -> bool {
        if a == 0 {
            return false;
        }
        match self.entry(b, rest) {
            Some(need) => a >= u32::from(need),
            None => confidence(a, b, rest, self.prior) >= self.level,
        }
    }

    /// Least number of further ballots until the rule can fire, were they all for the leader.
    pub fn need(&self, a: u32, b: u32, rest: u32) -> u32 {
        let fires = |d: &u32| self.stops(a + d, b, rest - d);
        if self.need.is_empty() && rest > 2048 {
            return 1;
        }
        (1..=rest).find(fires).unwrap_or(rest)
    }

    fn entry(&self, b: u32, rest: u32) -> Option<u16> {
        let width = self.budget / 2 + 1;
        (b < width && rest <= self.budget)
            .then(|| self.need.get((rest * width + b) as usize).copied())
            .flatten()
    }
}

/// `P(a, b, m)` with prior weight `s`. Linear in `m`.
pub fn confidence(a: u32, b: u32, m: u32, s: f64) -> f64 {
    if m == 0 {
        return f64::from(u8::from(a > b));
    }
    if a > b + m {
        return 1.0;
    }
    let (af, bf, mf) = (f64::from(a) + s, f64::from(b) + s, f64::from(m));
    // pmf(x + 1) / pmf(x) = (m - x) (a + s + x) / ((x + 1) (b + s + m - x - 1)); summed from the mode.
    let ratio = |x: f64| (mf - x) * (af + x) / ((x + 1.0) * (bf + mf - x - 1.0));
    let double = b + m - a.min(b + m);
    let (tie, above) = (double.is_multiple_of(2), double / 2);
    let score = |x: u32| match x.cmp(&above) {
        std::cmp::Ordering::Less => 0.0,
        std::cmp::Ordering::Equal => f64::from(u8::from(tie)) / 2.0,
        std::cmp::Ordering::Greater => 1.0,
    };
    let mode = ((mf * af / (af + bf)).round() as u32).min(m);
    let (mut total, mut won) = (1.0, score(mode));
    let mut term = 1.0;
    for x in mode..m {
        term *= ratio(f64::from(x));
        total += term;
        won += term * score(x + 1);
    }
    term = 1.0;
    for x in (0..mode).rev() {
        term /= ratio(f64::from(x));
        total += term;
        won += term * score(x);
    }
    won / total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_have_their_published_values() {
        for (a, b, m, p) in [
            (3, 0, 37, 0.946_529_080_7),
            (4, 0, 36, 0.976_078_799_2),
            (5, 2, 33, 0.881_040_515_2),
            (12, 8, 20, 0.891_640_199_9),
            (10, 8, 3, 0.892_857_142_9),
        ] {
            assert!((confidence(a, b, m, 1.0) - p).abs() < 1e-9, "({a}, {b}, {m})");
        }
        let far = confidence(7, 3, 1_000_000, 1.0);
        assert!((far - super::super::beta::posterior(7, 3)).abs() < 1e-3);
        assert_eq!(confidence(5, 1, 3, 1.0), 1.0);
        assert_eq!((confidence(5, 5, 0, 1.0), confidence(6, 5, 0, 1.0)), (0.0, 1.0));
    }

    #[test]
    fn boundaries_have_their_published_values() {
        for (level, rows) in [
            (0.95, [4, 5, 7, 8, 10, 11, 12, 13, 14, 15, 16, 17, 17]),
            (0.99, [6, 8, 9, 11, 12, 13, 14, 15, 16, 17, 18, 18, 19]),
        ] {
            let table = PredictiveTable::new(level, 1.0, 40);
            for (b, need) in rows.into_iter().enumerate() {
                let b = b as u32;
                let found = (b..=40 - b).find(|&a| table.stops(a, b, 40 - a - b));
                assert_eq!(found, Some(need), "{level} {b}");
            }
        }
    }
}
