//! What a pool knows about the type of its questions.

use super::law::laws;
use super::{MAX_BUDGET, state};
use crate::tally::Tally;

/// Log-likelihoods are whole numbers of this fraction of a nat, so that the order in which questions
/// end does not matter.
const SCALE: f64 = 64.0;
/// Weights of types are multiples of one part in this.
const UNITS: f64 = 8.0;
/// Strength of the prior on a question's rate of abstentions.
const SPREAD: f64 = 5.0;
/// One question moves no log-likelihood by more, in nats.
const FLOOR: f64 = -600.0;

/// Log-likelihood of each type, from the tallies of the questions that have ended. Looked at, as a
/// new table is some milliseconds of work, when a half more of them have ended: 1, 2, 3, 5, 8, 12, ...
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Known {
    /// By type; empty before the first question ends.
    scores: Vec<i64>,
    /// The scores at the last look.
    seen: Vec<i64>,
    /// Questions that have ended, and those at the last look.
    ended: [i64; 2],
}

impl Known {
    /// Restores what [`Known::to_list`] returned; nothing is known from any other list.
    pub fn from_list(list: &[i64]) -> Self {
        if list.is_empty() || list.len() != 2 * laws().num_types() + 2 {
            return Self::default();
        }
        let (scores, rest) = list.split_at(laws().num_types());
        let (seen, ended) = rest.split_at(laws().num_types());
        Self { scores: scores.to_vec(), seen: seen.to_vec(), ended: [ended[0], ended[1]] }
    }

    /// What is known as a list of numbers, empty before the first question has ended.
    pub fn to_list(&self) -> Vec<i64> {
        if self.scores.is_empty() {
            return Vec::new();
        }
        [&self.scores[..], &self.seen, &self.ended].concat()
    }

    /// Learns from the tally at which a question ended. Tallies of more than [`MAX_BUDGET`] traces
    /// teach nothing.
    pub fn observe(&mut self, tally: &Tally) {
        let (num, none) = (tally.num_cast(), tally.num_seen() - tally.num_cast());
        let Some(state) = state(tally).filter(|_| num + none <= MAX_BUDGET) else { return };
        let laws = laws();
        let mut values: Vec<f64> = laws.logs(state).collect();
        for (value, &rate) in values.iter_mut().zip(laws.rates()) {
            let (yes, no) = (SPREAD * rate, SPREAD * (1.0 - rate));
            *value += (0..none).map(|i| (yes + f64::from(i)).ln()).sum::<f64>();
            *value += (0..num).map(|i| (no + f64::from(i)).ln()).sum::<f64>();
        }
        let best = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        self.scores.resize(values.len(), 0);
        for (score, value) in self.scores.iter_mut().zip(values) {
            let gain = SCALE * (value - best).max(FLOOR);
            *score = score.saturating_add(gain.round() as i64);
        }
        self.ended[0] = self.ended[0].saturating_add(1);
        if 2 * self.ended[0] >= 3 * self.ended[1] {
            self.seen.clone_from(&self.scores);
            self.ended[1] = self.ended[0];
        }
    }

    /// Weights of the types in eighths, as of the last look; empty, which stands for equal ones, before the first
    /// question has ended. Largest remainders are rounded up, the first of equal ones.
    pub fn shares(&self) -> Vec<u8> {
        let Some(best) = self.seen.iter().copied().max() else { return Vec::new() };
        let weigh = |&score: &i64| ((score - best) as f64 / SCALE).exp();
        let weights: Vec<f64> = self.seen.iter().map(weigh).collect();
        let total: f64 = weights.iter().sum();
        let exact: Vec<f64> = weights.iter().map(|w| UNITS * w / total).collect();
        let mut shares: Vec<u8> = exact.iter().map(|x| x.floor() as u8).collect();
        let mut order: Vec<usize> = (0..exact.len()).collect();
        order.sort_by(|&i, &j| exact[j].fract().total_cmp(&exact[i].fract()));
        let given: u32 = shares.iter().map(|&x| u32::from(x)).sum();
        for &i in order.iter().take((UNITS as u32).saturating_sub(given) as usize) {
            shares[i] += 1;
        }
        shares
    }
}
