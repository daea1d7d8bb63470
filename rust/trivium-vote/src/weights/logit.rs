//! Reliabilities of sources, learned together: a conditional logit over the answers of a question.
//!
//! `McFadden`, "Conditional Logit Analysis of Qualitative Choice Behavior". Log-odds learned source by
//! source ([`reliability`](crate::weights::reliability)) treat sources as independent, so that ten
//! copies of one model count ten times. Here the weights are those under which the posterior stop
//! rule itself (temper 1) is most likely to name the right answer,
//!
//! ```text
//! P(k) = exp(s_k) / (1 + sum_j exp(s_j)),   s_k = sum of w_v over the sources v that voted for k
//! ```
//!
//! the 1 standing for an answer that nobody gave. What is maximised is the mean log-likelihood over
//! subsets of 3, 6, 10, 16 and all votes of each question, because the rule will look at few votes,
//! minus `ridge * |w - 0.4 w0|^2` with the log-odds `w0`: a source that was hardly seen keeps its
//! log-odds. The function is smooth; L-BFGS with analytic gradients needs some dozens of passes.

use crate::weights::reliability::{Labelled, learn};

/// Sizes of the subsets.
const SIZES: [usize; 5] = [3, 6, 10, 16, usize::MAX];
/// Steps remembered.
const MEMORY: usize = 8;
const MAX_STEPS: usize = 80;

/// One subset of a question's votes.
struct Row {
    /// `(source, key)`, keys numbered from 0 without gaps.
    votes: Vec<(u32, u32)>,
    /// By key.
    right: Vec<bool>,
}

/// Weights of sources, none negative, from labelled questions; `ridge` pulls them to the log-odds
/// that are learned source by source.
pub fn learn_jointly(questions: &[Labelled], num_sources: usize, ridge: f64) -> Vec<f64> {
    let prior: Vec<f64> = learn(questions, num_sources).iter().map(|w| 0.4 * w).collect();
    let rows = rows(questions, num_sources);
    let objective = |w: &[f64]| evaluate(&rows, w, &prior, ridge);
    let found = minimise(objective, prior.clone());
    found.into_iter().map(|w| if w.is_finite() { w.max(0.0) } else { 0.0 }).collect()
}

fn rows(questions: &[Labelled], num_sources: usize) -> Vec<Row> {
    let mut rows = Vec::new();
    // Which votes a subset holds must not matter much; the same ones every time.
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    for question in questions {
        let mut order: Vec<usize> = (0..question.votes.len()).collect();
        for size in SIZES {
            let size = size.min(order.len());
            for i in 0..size {
                let other = i + random(order.len() - i);
                order.swap(i, other);
            }
            let mut names: Vec<u32> = Vec::new();
            let mut votes = Vec::new();
            for &(source, key) in order[..size].iter().map(|&i| &question.votes[i]) {
                if let Some(key) = key
                    && (source as usize) < num_sources
                {
                    let known = names.iter().position(|name| *name == key);
                    let id = known.unwrap_or_else(|| {
                        names.push(key);
                        names.len() - 1
                    });
                    votes.push((source, id as u32));
                }
            }
            let right = |key: &u32| question.right.get(*key as usize) == Some(&true);
            if !votes.is_empty() {
                rows.push(Row { votes, right: names.iter().map(right).collect() });
            }
        }
    }
    rows
}

/// Penalised negative log-likelihood of a subset size and its gradient.
fn evaluate(rows: &[Row], w: &[f64], prior: &[f64], ridge: f64) -> (f64, Vec<f64>) {
    let share = 1.0 / SIZES.len() as f64;
    let mut value: f64 = w.iter().zip(prior).map(|(w, p)| ridge * (w - p).powi(2)).sum();
    let mut gradient: Vec<f64> = w.iter().zip(prior).map(|(w, p)| 2.0 * ridge * (w - p)).collect();
    let mut sums: Vec<f64> = Vec::new();
    for row in rows {
        sums.clear();
        sums.resize(row.right.len(), 0.0);
        for &(source, key) in &row.votes {
            sums[key as usize] += w[source as usize];
        }
        let top = sums.iter().copied().fold(0.0, f64::max);
        let unseen = (-top).exp();
        let (mut all, mut good) = (unseen, 0.0);
        for (sum, &right) in sums.iter_mut().zip(&row.right) {
            *sum = (*sum - top).exp();
            all += *sum;
            good += if right { *sum } else { 0.0 };
        }
        let answered = good > 0.0;
        value += share * (all / if answered { good } else { unseen }).ln();
        // P(k) - P(k | right), for each ballot of k.
        for &(source, key) in &row.votes {
            let e = sums[key as usize];
            let given = if answered && row.right[key as usize] { e / good } else { 0.0 };
            gradient[source as usize] += share * (e / all - given);
        }
    }
    (value, gradient)
}

/// L-BFGS with backtracking.
fn minimise(objective: impl Fn(&[f64]) -> (f64, Vec<f64>), start: Vec<f64>) -> Vec<f64> {
    let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
    let mut point = start;
    let (mut value, mut gradient) = objective(&point);
    let mut pairs: Vec<(Vec<f64>, Vec<f64>, f64)> = Vec::new();
    for _ in 0..MAX_STEPS {
        let mut step = gradient.clone();
        let mut scales = Vec::with_capacity(pairs.len());
        for (s, y, rho) in pairs.iter().rev() {
            let scale = rho * dot(s, &step);
            step.iter_mut().zip(y).for_each(|(step, y)| *step -= scale * y);
            scales.push(scale);
        }
        let gamma = pairs.last().map_or(0.01, |(_, y, rho)| 1.0 / (rho * dot(y, y)));
        step.iter_mut().for_each(|step| *step *= gamma);
        for ((s, y, rho), scale) in pairs.iter().zip(scales.iter().rev()) {
            let back = scale - rho * dot(y, &step);
            step.iter_mut().zip(s).for_each(|(step, s)| *step += back * s);
        }
        let slope = -dot(&step, &gradient);
        if slope >= 0.0 || !slope.is_finite() {
            break;
        }
        let mut length = 1.0;
        let mut found = None;
        for _ in 0..30 {
            let next: Vec<f64> = point.iter().zip(&step).map(|(p, s)| p - length * s).collect();
            let (v, g) = objective(&next);
            if v <= value + 1e-4 * length * slope {
                found = Some((next, v, g));
                break;
            }
            length *= 0.5;
        }
        let Some((next, v, g)) = found else { break };
        let s: Vec<f64> = next.iter().zip(&point).map(|(x, y)| x - y).collect();
        let y: Vec<f64> = g.iter().zip(&gradient).map(|(x, y)| x - y).collect();
        let curvature = dot(&s, &y);
        if curvature > 1e-12 {
            if pairs.len() == MEMORY {
                pairs.remove(0);
            }
            pairs.push((s, y, 1.0 / curvature));
        }
        let gain = value - v;
        (point, value, gradient) = (next, v, g);
        if gain < 1e-9 * (1.0 + value.abs()) {
            break;
        }
    }
    point
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Source 0 is right nine times of ten; sources 1 to 4 repeat each other and are right six times
    /// of ten.
    fn echo() -> Vec<Labelled> {
        (0..200u32)
            .map(|i| {
                let strong = u32::from(i % 10 == 0);
                let weak = if i % 5 < 3 { 0 } else { 2 };
                let votes = std::iter::once((0, Some(strong)))
                    .chain((1..5).map(|source| (source, Some(weak))))
                    .collect();
                Labelled { votes, num_keys: 3, right: vec![true, false, false] }
            })
            .collect()
    }

    #[test]
    fn copies_of_one_source_share_its_weight() {
        let apart = learn(&echo(), 5);
        assert!(apart[0] < apart[1] + apart[2] + apart[3] + apart[4], "{apart:?}");
        let joint = learn_jointly(&echo(), 5, 0.1);
        assert!(joint[0] > joint[1] + joint[2] + joint[3] + joint[4], "{joint:?}");
    }

    #[test]
    fn gradients_are_those_of_finite_differences() {
        let rows = rows(&echo()[..20], 5);
        let w = [0.7, 0.3, -0.2, 0.5, 0.1];
        let (_, gradient) = evaluate(&rows, &w, &[0.2; 5], 0.3);
        for i in 0..5 {
            let at = |h: f64| {
                let mut moved = w;
                moved[i] += h;
                evaluate(&rows, &moved, &[0.2; 5], 0.3).0
            };
            let slope = (at(1e-5) - at(-1e-5)) / 2e-5;
            assert!((slope - gradient[i]).abs() < 1e-6, "{i}: {slope} {}", gradient[i]);
        }
    }

    #[test]
    fn a_strong_pull_gives_the_log_odds_and_nothing_gives_zeros() {
        let prior = learn(&echo(), 5);
        let held = learn_jointly(&echo(), 5, 1e9);
        assert!(held.iter().zip(&prior).all(|(w, p)| (w - 0.4 * p).abs() < 1e-6));
        assert_eq!(learn_jointly(&[], 2, 0.3), [0.0, 0.0]);
    }
}
