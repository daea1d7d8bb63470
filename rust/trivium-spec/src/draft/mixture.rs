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

use trivium_core::numerics::{exp_neg, ln_positive};

/// Slots over all sources of a speculator.
pub const MAX_SLOTS: usize = 10;

/// Weight of the source's own guess, in examples.
const PRIOR_WEIGHT: f32 = 6.0;
/// Examples after which a bucket's counts are halved.
const HORIZON: f32 = 2048.0;
/// Estimates stay this far from 0 and 1.
const EDGE: f32 = 1.0 / 512.0;
/// Step of the mixing weights.
const RATE: f32 = 0.02;
/// Step of the last stage.
const LAST_RATE: f32 = 0.08;
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

/// Tables and weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Mixture {
    /// By slot and situation.
    tables: Vec<Vec<Bucket>>,
    /// Weights and bias by set of slots; a set starts when it is first seen.
    weights: Vec<Option<Box<[f32; MAX_SLOTS + 1]>>>,
    /// Slope and shift of the last stage.
    slope: f32,
    shift: f32,
}

/// Record of one situation.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Bucket {
    tried: f32,
    accepted: f32,
    /// `stretch` of the estimate, kept here because every proposal reads it many times.
    stretched: f32,
}

impl Bucket {
    fn update(&mut self, prior: f32) {
        let p = (self.accepted + PRIOR_WEIGHT * prior) / (self.tried + PRIOR_WEIGHT);
        self.stretched = stretch(p.clamp(EDGE, 1.0 - EDGE));
    }
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
fn initial(set: usize) -> [f32; MAX_SLOTS + 1] {
    let mut w = [0.0; MAX_SLOTS + 1];
    let mut first = true;
    for (i, w) in w.iter_mut().take(MAX_SLOTS).enumerate() {
        if set >> i & 1 == 1 {
            *w = if first { 1.0 } else { NUDGE };
            first = false;
        }
    }
    w
}

fn set_of(evidence: &[Evidence]) -> usize {
    evidence.iter().fold(0, |set, e| set | 1 << e.slot)
}

impl Mixture {
    /// Empty tables; `features[slot]` situations each.
    pub fn new(features: &[usize]) -> Self {
        Self {
            tables: features.iter().map(|&n| vec![Bucket::default(); n]).collect(),
            weights: vec![None; 1 << features.len().min(MAX_SLOTS)],
            slope: 1.0,
            shift: 0.0,
        }
    }

    /// Logistic of a slot's estimate: its record, or the source's guess where there is none.
    fn stretched(&self, e: Evidence) -> f32 {
        let bucket = &self.tables[usize::from(e.slot)][usize::from(e.feature)];
        if bucket.tried > 0.0 { bucket.stretched } else { stretch(e.prior.clamp(EDGE, 1.0 - EDGE)) }
    }

    /// Probability that a candidate is accepted given that its parent was. At most one piece of
    /// evidence a slot; none at all gives 0.
    pub fn probability(&self, evidence: &[Evidence]) -> f32 {
        match evidence {
            [] => 0.0,
            _ => squash(self.slope * self.dot(evidence) + self.shift),
        }
    }

    fn dot(&self, evidence: &[Evidence]) -> f32 {
        let set = set_of(evidence);
        let fresh;
        let w = if let Some(w) = &self.weights[set] {
            &**w
        } else {
            fresh = initial(set);
            &fresh
        };
        let sum: f32 = evidence.iter().map(|&e| w[usize::from(e.slot)] * self.stretched(e)).sum();
        (sum + w[MAX_SLOTS]).clamp(-8.0, 8.0)
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
        self.slope = (self.slope + LAST_RATE * last * dot).clamp(0.5, 3.0);
        self.shift = (self.shift + LAST_RATE * last).clamp(-3.0, 3.0);
        let set = set_of(evidence);
        let mut w = self.weights[set].take().unwrap_or_else(|| Box::new(initial(set)));
        for &e in evidence {
            w[usize::from(e.slot)] += RATE * error * self.stretched(e);
        }
        w[MAX_SLOTS] += RATE * error;
        self.weights[set] = Some(w);
        for &e in evidence {
            let bucket = &mut self.tables[usize::from(e.slot)][usize::from(e.feature)];
            bucket.tried += 1.0;
            bucket.accepted += target;
            if bucket.tried > HORIZON {
                bucket.tried *= 0.5;
                bucket.accepted *= 0.5;
            }
            bucket.update(e.prior);
        }
    }

    /// Tables then weights as bits for a file.
    pub(crate) fn save(&self) -> Vec<u32> {
        let tables = self
            .tables
            .iter()
            .flatten()
            .flat_map(|b| [b.tried, b.accepted, b.stretched].map(f32::to_bits));
        let sets = self.weights.iter().enumerate().filter_map(|(s, w)| Some((s, w.as_ref()?)));
        let weights =
            sets.flat_map(|(s, w)| std::iter::once(s as u32).chain(w.iter().map(|x| x.to_bits())));
        let shared = [self.slope, self.shift].map(f32::to_bits);
        shared.into_iter().chain(tables).chain(weights).collect()
    }

    /// Restores [`save`](Self::save); `None` if it does not fit these slots.
    pub(crate) fn restore(features: &[usize], bits: &[u32]) -> Option<Self> {
        let mut this = Self::new(features);
        let (shared, bits) = bits.split_at_checked(2)?;
        (this.slope, this.shift) = (f32::from_bits(shared[0]), f32::from_bits(shared[1]));
        let sound = (0.5..=3.0).contains(&this.slope) && (-3.0..=3.0).contains(&this.shift);
        sound.then_some(())?;
        let (tables, weights) = bits.split_at_checked(3 * features.iter().sum::<usize>())?;
        for (bucket, c) in this.tables.iter_mut().flatten().zip(tables.chunks_exact(3)) {
            let [tried, accepted, stretched] = [c[0], c[1], c[2]].map(f32::from_bits);
            *bucket = Bucket { tried, accepted, stretched };
            let sound =
                accepted >= 0.0 && accepted <= tried && tried <= HORIZON && stretched.is_finite();
            sound.then_some(())?;
        }
        let rows = weights.chunks_exact(MAX_SLOTS + 2);
        rows.remainder().is_empty().then_some(())?;
        for row in rows {
            let w: [f32; MAX_SLOTS + 1] = std::array::from_fn(|i| f32::from_bits(row[i + 1]));
            w.iter().all(|x| x.is_finite()).then_some(())?;
            *this.weights.get_mut(row[0] as usize)? = Some(Box::new(w));
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
        assert_eq!(Mixture::restore(&[3, 2], &saved), Some(m));
        assert_eq!(Mixture::restore(&[3, 3], &saved), None);
        assert_eq!(Mixture::restore(&[3, 2], &saved[..saved.len() - 1]), None);
        let mut bad = saved.clone();
        bad[0] = f32::NAN.to_bits();
        assert_eq!(Mixture::restore(&[3, 2], &bad), None);
        assert_eq!(Mixture::restore(&[3, 2], &[]), None);
    }
}
