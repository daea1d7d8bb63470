//! What further ballots are worth to a decision: the marginals of a shared budget.
//!
//! Damani et al., "Learning How Hard to Think: Input-Adaptive Allocation of LM Computation", spend a
//! budget greedily by predicted gains, made non-increasing by averaging adjacent ones. Where nothing
//! predicts the gain of a sample, the tally does: with counts `a >= b`, `r` traces outstanding and a
//! flat prior on the two leaders, let `P` be the probability that the leader leads at the end of the
//! budget. After `m` more ballots the better of the two is chosen, so that `m` ballots are worth
//!
//! ```text
//! V(m) = E max(P_m, 1 - P_m) - max(P, 1 - P)      V(r) = 1 - P (ties count half)
//! ```
//!
//! `V` never falls, but a single ballot is worth nothing where it cannot turn the lead; its least
//! concave majorant pays each ballot its part of the best batch that it belongs to.

/// Ballots that are looked ahead at most.
pub const HORIZON: u32 = 256;

/// `V(0), ..., V(r)` for counts `a >= b` and `r` traces outstanding, at most [`HORIZON`]. Quadratic
/// in `r`: 2 us for 40.
pub fn values(a: u32, b: u32, rest: u32) -> Vec<f64> {
    let r = rest.min(HORIZON) as usize;
    let (a, b) = (f64::from(a), f64::from(b));
    // `ends[x]`: the leader leads at the end, given that it got `x` of the first `m`.
    let mut rows: Vec<Vec<f64>> = Vec::with_capacity(r + 1);
    let last = (0..=r).map(|x| {
        let gap = a + x as f64 - b - (r - x) as f64;
        if gap > 0.0 { 1.0 } else { f64::from(u8::from(gap == 0.0)) / 2.0 }
    });
    rows.push(last.collect());
    for m in (0..r).rev() {
        let after = &rows[rows.len() - 1];
        let hit = |x: usize| (a + 1.0 + x as f64) / (a + b + 2.0 + m as f64);
        rows.push((0..=m).map(|x| hit(x) * after[x + 1] + (1.0 - hit(x)) * after[x]).collect());
    }
    rows.reverse();
    let better = |p: f64| p.max(1.0 - p);
    let now = better(rows[0][0]);
    // The law of `x` after `m` ballots.
    let mut law = vec![1.0];
    let mut worth = Vec::with_capacity(r + 1);
    for (m, row) in rows.iter().enumerate() {
        let mean: f64 = law.iter().zip(row).map(|(w, &p)| w * better(p)).sum();
        worth.push((mean - now).max(0.0));
        let mut next = vec![0.0; m + 2];
        for (x, w) in law.iter().enumerate() {
            let hit = (a + 1.0 + x as f64) / (a + b + 2.0 + m as f64);
            next[x + 1] += w * hit;
            next[x] += w * (1.0 - hit);
        }
        law = next;
    }
    worth
}

/// Increments of the least concave majorant of a sequence: what each further step is worth, made
/// non-increasing by averaging adjacent increments.
pub fn marginals(values: &[f64]) -> Vec<f64> {
    let mut blocks: Vec<(f64, usize)> = Vec::new();
    for pair in values.windows(2) {
        blocks.push((pair[1] - pair[0], 1));
        while let [.., (x, m), (y, n)] = blocks[..]
            && y * m as f64 >= x * n as f64
        {
            blocks.pop();
            blocks.pop();
            blocks.push((x + y, m + n));
        }
    }
    blocks.iter().flat_map(|&(sum, num)| std::iter::repeat_n(sum / num as f64, num)).collect()
}

/// What the ballot after `flying` others that are on their way is worth.
pub fn next_ballot(a: u32, b: u32, rest: u32, flying: u32) -> f64 {
    marginals(&values(a, b, rest)).get(flying as usize).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stops::predictive;
    use proptest::prelude::*;

    /// Walks every sequence of ballots.
    fn walk(a: u32, b: u32, left: u32, stop: u32) -> f64 {
        if left == stop {
            let (x, y) = (a.max(b), a.min(b));
            // After `m` ballots the better one is chosen by its chance to lead at the end.
            return if left == 0 {
                if x > y { 1.0 } else { 0.5 }
            } else {
                predictive::confidence(x, y, left, 1.0)
            };
        }
        let hit = f64::from(a + 1) / f64::from(a + b + 2);
        hit * walk(a + 1, b, left - 1, stop) + (1.0 - hit) * walk(a, b + 1, left - 1, stop)
    }

    proptest! {
        #[test]
        fn values_are_those_of_every_sequence(a in 0u32..8, b in 0u32..8, rest in 1u32..10) {
            prop_assume!(a >= b);
            let found = values(a, b, rest);
            prop_assert_eq!(found.len() as u32, rest + 1);
            let now = walk(a, b, rest, rest);
            for (m, value) in (0u32..).zip(&found) {
                let twin = walk(a, b, rest, rest - m) - now;
                prop_assert!((value - twin).abs() < 1e-9, "{m}: {value} {twin}");
            }
        }

        #[test]
        fn marginals_are_the_least_concave_majorant(
            steps in prop::collection::vec(0.0f64..1.0, 1..12),
        ) {
            let mut values = vec![0.0];
            for step in steps {
                values.push(values[values.len() - 1] + step);
            }
            let found = marginals(&values);
            prop_assert!(found.windows(2).all(|pair| pair[0] >= pair[1] - 1e-12));
            let mut sum = 0.0;
            for (m, marginal) in found.iter().enumerate() {
                sum += marginal;
                // The twin: the best chord over `m + 1`.
                let chords = (0..=m + 1).flat_map(|i| (m + 1..values.len()).map(move |j| (i, j)));
                let at = chords.map(|(i, j)| {
                    if i == j { values[i] } else {
                        let part = (m + 1 - i) as f64 / (j - i) as f64;
                        values[i] + part * (values[j] - values[i])
                    }
                });
                let hull = at.fold(f64::NEG_INFINITY, f64::max);
                prop_assert!((sum - hull).abs() < 1e-9, "{sum} {hull}");
            }
        }
    }

    #[test]
    fn near_ties_are_worth_more_than_clear_leads() {
        assert!(next_ballot(5, 5, 30, 0) > next_ballot(9, 1, 30, 0));
        assert!(next_ballot(9, 1, 30, 0) > next_ballot(20, 0, 20, 0));
        assert_eq!(next_ballot(5, 2, 2, 0), 0.0);
        assert!(next_ballot(5, 5, 30, 0) >= next_ballot(5, 5, 30, 3));
        assert_eq!(next_ballot(5, 5, 30, 30), 0.0);
    }
}
