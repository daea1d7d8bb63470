//! From what the sources say to one calibrated probability, learned online.
//!
//! A candidate token comes with *evidence*: in each [slot](Evidence) (a source in a role: the text's
//! longest match, a shorter match, the tenant's texts, the target's last ranking, ...) a situation.
//! Two stages, both trained after every verification on each drafted node whose parent was reached:
//!
//! 1. A table a slot turns the situation into an acceptance estimate: decayed counts under a Beta
//!    prior centred at the source's own guess.
//! 2. Estimates of several slots are mixed in the logistic domain (the mixing of strong text
//!    compressors: Mahoney, "Adaptive Weighing of Context Models for Lossless Data Compression",
//!    2005): `p = squash(sum of w_i stretch(p_i) + b)`, one weight vector for every set of slots that
//!    spoke, moved down the gradient of the coding cost.
//!
//! A last slope and shift in the logistic domain, shared by all sets and learned the same way but
//! faster (Platt, "Probabilistic Outputs for Support Vector Machines", 1999), corrects what all
//! estimates have in common: greedy text is accepted more surely than counts suggest and sampled text
//! less, and a tree costs before the tables have learned it.
//!
//! Sources that agree thus reinforce each other exactly as much as their record says, and the
//! product of the probabilities along a path is what the builder ranks nodes by. Nothing here can
//! change emitted text.

use rustc_hash::FxHashMap;
use std::collections::BTreeMap;
use trivium_core::numerics::{exp_neg, ln_positive};

/// Slots over all sources of a speculator.
pub const MAX_SLOTS: usize = 64;

/// Pieces of evidence that a candidate keeps.
pub const MAX_PIECES: usize = 12;

/// Weight of the source's own guess, in examples.
const PRIOR_WEIGHT: f32 = 6.0;
/// Examples after which a bucket's counts are halved.
const HORIZON: f32 = 2048.0;
/// Estimates stay this far from 0 and 1.
const EDGE: f32 = 1.0 / 512.0;
/// Step of the mixing weights.
const RATE: f32 = 0.02;
/// Step of the last stage, at first and after many examples.
const LAST_RATE: (f32, f32) = (0.1, 0.02);
/// Examples over which the last stage's step falls to half its excess.
const LAST_HALF: f32 = 100.0;
/// First weight of a slot beside a stronger one.
const NUDGE: f32 = 0.1;

/// What one slot says of a candidate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evidence {
    /// Index of the slot in the speculator.
    pub slot: u8,
    /// The situation, below the slot's number of features.
    pub feature: u16,
    /// The source's own guess.
    pub prior: f32,
}

impl Evidence {
    pub(crate) const NONE: Self = Self { slot: 0, feature: 0, prior: 0.0 };
}

/// Weights of a set of slots, one a slot in rising order, and the bias.
type Row = [f32; MAX_PIECES + 1];

/// Tables and weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Mixture {
    /// First situation of each slot in the tables, and their end.
    starts: Vec<u32>,
    /// By situation: `stretch` of the estimate, NaN before the first example.
    stretched: Vec<f32>,
    /// By situation: tried, accepted.
    counts: Vec<[f32; 2]>,
    /// Row of each set of slots that was seen, by its bits.
    sets: FxHashMap<u64, u32>,
    rows: Vec<Row>,
    /// Slope, shift and examples of the last stage.
    slope: f32,
    shift: f32,
    examples: f32,
}

fn stretch(p: f32) -> f32 {
    ln_positive(p) - ln_positive(1.0 - p)
}

fn squash(x: f32) -> f32 {
    let e = exp_neg(-x.abs());
    let tail = e / (1.0 + e);
    if x >= 0.0 { 1.0 - tail } else { tail }
}

/// Weights of a set before it has a record: the strongest slot (lowest index) is believed, the
/// others nudge.
const FIRST: Row = {
    let mut w = [NUDGE; MAX_PIECES + 1];
    w[0] = 1.0;
    w[MAX_PIECES] = 0.0;
    w
};

fn set_of(evidence: &[Evidence]) -> u64 {
    evidence.iter().fold(0, |set, e| set | 1 << e.slot)
}

/// Place of a slot among those of a set.
fn place(set: u64, slot: u8) -> usize {
    (set & ((1 << slot) - 1)).count_ones() as usize
}

impl Mixture {
    /// Empty tables; `features[slot]` situations each.
    pub fn new(features: &[usize]) -> Self {
        let mut starts = vec![0];
        let mut end = 0;
        for &n in features {
            end += n;
            starts.push(end as u32);
        }
        Self {
            starts,
            stretched: vec![f32::NAN; end],
            counts: vec![[0.0; 2]; end],
            sets: FxHashMap::default(),
            rows: Vec::new(),
            slope: 1.0,
            shift: 0.0,
            examples: 0.0,
        }
    }

    fn situation(&self, e: Evidence) -> usize {
        self.starts[usize::from(e.slot)] as usize + usize::from(e.feature)
    }

    /// Logistic of a slot's estimate: its record, or the source's guess where there is none.
    fn input(&self, e: Evidence) -> f32 {
        let recorded = self.stretched[self.situation(e)];
        if recorded.is_nan() { stretch(e.prior.clamp(EDGE, 1.0 - EDGE)) } else { recorded }
    }

    /// Probability that a candidate is accepted given that its parent was. At most one piece of
    /// evidence a slot, [`MAX_PIECES`] together; none at all gives 0.
    pub fn probability(&self, evidence: &[Evidence]) -> f32 {
        match evidence {
            [] => 0.0,
            _ => squash(self.slope * self.dot(evidence) + self.shift),
        }
    }

    fn dot(&self, evidence: &[Evidence]) -> f32 {
        let set = set_of(evidence);
        let w = self.sets.get(&set).map_or(&FIRST, |&row| &self.rows[row as usize]);
        let sum: f32 = evidence.iter().map(|&e| w[place(set, e.slot)] * self.input(e)).sum();
        (sum + w[MAX_PIECES]).clamp(-8.0, 8.0)
    }

    /// Learns from one drafted node whose parent was reached.
    pub fn record(&mut self, evidence: &[Evidence], accepted: bool) {
        if evidence.is_empty() {
            return;
        }
        let target = f32::from(u8::from(accepted));
        let dot = self.dot(evidence);
        let error = target - squash(dot);
        let last = target - squash(self.slope * dot + self.shift);
        let rate =
            LAST_RATE.1 + (LAST_RATE.0 - LAST_RATE.1) * LAST_HALF / (LAST_HALF + self.examples);
        self.examples = (self.examples + 1.0).min(1e6);
        self.slope = (self.slope + rate * last * dot).clamp(0.5, 3.0);
        self.shift = (self.shift + rate * last).clamp(-3.0, 3.0);
        let set = set_of(evidence);
        let fresh = self.rows.len() as u32;
        let row = *self.sets.entry(set).or_insert(fresh);
        if row == fresh {
            self.rows.push(FIRST);
        }
        for &e in evidence {
            let input = self.input(e);
            self.rows[row as usize][place(set, e.slot)] += RATE * error * input;
        }
        self.rows[row as usize][MAX_PIECES] += RATE * error;
        for &e in evidence {
            let at = self.situation(e);
            let [tried, good] = &mut self.counts[at];
            *tried += 1.0;
            *good += target;
            if *tried > HORIZON {
                *tried *= 0.5;
                *good *= 0.5;
            }
            let p = (*good + PRIOR_WEIGHT * e.prior) / (*tried + PRIOR_WEIGHT);
            self.stretched[at] = stretch(p.clamp(EDGE, 1.0 - EDGE));
        }
    }

    /// Tables then weights as bits for a file.
    pub(crate) fn save(&self) -> Vec<u32> {
        let shared = [self.slope, self.shift, self.examples];
        let tables = self.counts.iter().zip(&self.stretched).flat_map(|(c, &s)| [c[0], c[1], s]);
        let mut bits: Vec<u32> = shared.into_iter().chain(tables).map(f32::to_bits).collect();
        let sets: BTreeMap<u64, u32> = self.sets.iter().map(|(s, r)| (*s, *r)).collect();
        for (set, row) in sets {
            bits.extend([set as u32, (set >> 32) as u32]);
            bits.extend(self.rows[row as usize].map(f32::to_bits));
        }
        bits
    }

    /// Restores [`save`](Self::save); `None` if it does not fit these slots.
    pub(crate) fn restore(features: &[usize], bits: &[u32]) -> Option<Self> {
        let mut this = Self::new(features);
        let (shared, bits) = bits.split_at_checked(3)?;
        (this.slope, this.shift) = (f32::from_bits(shared[0]), f32::from_bits(shared[1]));
        this.examples = f32::from_bits(shared[2]);
        let sound = (0.5..=3.0).contains(&this.slope)
            && (-3.0..=3.0).contains(&this.shift)
            && (0.0..=1e6).contains(&this.examples);
        sound.then_some(())?;
        let (tables, weights) = bits.split_at_checked(3 * this.counts.len())?;
        for (at, c) in tables.chunks_exact(3).enumerate() {
            let [tried, accepted, stretched] = [c[0], c[1], c[2]].map(f32::from_bits);
            let sound = accepted >= 0.0
                && accepted <= tried
                && tried <= HORIZON
                && (stretched.is_finite() || tried == 0.0);
            sound.then_some(())?;
            this.counts[at] = [tried, accepted];
            this.stretched[at] = if tried == 0.0 { f32::NAN } else { stretched };
        }
        let rows = weights.chunks_exact(MAX_PIECES + 3);
        rows.remainder().is_empty().then_some(())?;
        let slots = features.len() as u32;
        for bits in rows {
            let set = u64::from(bits[0]) | u64::from(bits[1]) << 32;
            let row: Row = std::array::from_fn(|i| f32::from_bits(bits[i + 2]));
            let sound = row.iter().all(|x| x.is_finite())
                && u64::BITS - set.leading_zeros() <= slots
                && set.count_ones() as usize <= MAX_PIECES
                && this.sets.insert(set, this.rows.len() as u32).is_none();
            sound.then_some(())?;
            this.rows.push(row);
        }
        Some(this)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn e(slot: u8, feature: u16, prior: f32) -> Evidence {
        Evidence { slot, feature, prior }
    }

    #[test]
    fn a_lone_slot_is_believed_then_measured() {
        let mut m = Mixture::new(&[2, 1]);
        assert!((m.probability(&[e(0, 0, 0.3)]) - 0.3).abs() < 1e-5);
        assert_eq!(m.probability(&[]), 0.0);
        for i in 0..4000 {
            m.record(&[e(0, 0, 0.9)], i % 4 == 0);
        }
        assert!((m.probability(&[e(0, 0, 0.9)]) - 0.25).abs() < 0.03);
        assert!(
            (m.probability(&[e(0, 1, 0.9)]) - 0.9).abs() < 0.35,
            "other situations keep their guess"
        );
    }

    /// Two slots right half the time each, always right together: the pair must learn it.
    #[test]
    fn agreement_is_learned() {
        let mut m = Mixture::new(&[1, 1]);
        for i in 0..4000 {
            m.record(&[e(0, 0, 0.5)], i % 2 == 0);
            m.record(&[e(1, 0, 0.5)], i % 2 == 1);
            m.record(&[e(0, 0, 0.5), e(1, 0, 0.5)], true);
        }
        assert!(m.probability(&[e(0, 0, 0.5), e(1, 0, 0.5)]) > 0.95);
    }

    #[test]
    fn files_keep_tables_and_weights_and_refuse_damage() {
        let mut m = Mixture::new(&[3, 2]);
        m.record(&[e(0, 2, 0.5), e(1, 1, 0.1)], true);
        let saved = m.save();
        assert_eq!(Mixture::restore(&[3, 2], &saved).map(|m| m.save()), Some(saved.clone()));
        assert_eq!(Mixture::restore(&[3, 3], &saved), None);
        assert_eq!(Mixture::restore(&[3, 2], &saved[..saved.len() - 1]), None);
        let mut bad = saved.clone();
        bad[0] = f32::NAN.to_bits();
        assert_eq!(Mixture::restore(&[3, 2], &bad), None);
        assert_eq!(Mixture::restore(&[3, 2], &[]), None);
    }
}
