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

use super::Candidates;
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;
use trivium_core::numerics::{exp_neg, ln_positive};

/// Slots over all sources of a speculator.
pub const MAX_SLOTS: usize = 64;

/// Pieces of evidence that a candidate keeps.
pub const MAX_PIECES: usize = 12;

/// Sets of slots with weights of their own; later ones share those of their strongest slot.
const MAX_SETS: usize = 4096;

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
    /// By row: a weight a slot, then the bias. The first rows, one a slot, are what sets whose
    /// strongest slot it is begin with.
    weights: Vec<f32>,
    /// Slope, shift and examples of the last stage.
    slope: f32,
    shift: f32,
    examples: f32,
}

/// Where the weights of the sets that came up last begin; of one state of a mixture.
#[derive(Debug)]
pub(crate) struct RowCache([(u64, usize); CACHED]);

const CACHED: usize = 64;

impl Default for RowCache {
    fn default() -> Self {
        Self([(0, 0); CACHED]) // no candidate has an empty set
    }
}

impl RowCache {
    #[inline]
    fn get(&mut self, set: u64, find: impl FnOnce() -> usize) -> usize {
        let hash = set.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58;
        let entry = &mut self.0[hash as usize % CACHED];
        if entry.0 != set {
            *entry = (set, find());
        }
        entry.1
    }
}

#[inline]
fn stretch(p: f32) -> f32 {
    ln_positive(p) - ln_positive(1.0 - p)
}

#[inline]
fn squash(x: f32) -> f32 {
    let e = exp_neg(-x.abs());
    let tail = e / (1.0 + e);
    if x >= 0.0 { 1.0 - tail } else { tail }
}

#[inline]
fn set_of(evidence: &[Evidence]) -> u64 {
    evidence.iter().fold(0, |set, e| set | 1 << e.slot)
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
        let slots = features.len();
        let mut weights = Vec::with_capacity(slots * (slots + 1));
        for strongest in 0..slots {
            weights.extend((0..=slots).map(|slot| match slot {
                _ if slot == slots => 0.0, // the bias
                _ if slot == strongest => 1.0,
                _ => NUDGE,
            }));
        }
        Self {
            starts,
            stretched: vec![f32::NAN; end],
            counts: vec![[0.0; 2]; end],
            sets: FxHashMap::default(),
            weights,
            slope: 1.0,
            shift: 0.0,
            examples: 0.0,
        }
    }

    #[inline]
    fn situation(&self, e: Evidence) -> usize {
        self.starts[usize::from(e.slot)] as usize + usize::from(e.feature)
    }

    /// Logistic of a slot's estimate: its record, or the source's guess where there is none.
    #[inline]
    fn input(&self, e: Evidence) -> f32 {
        let recorded = self.stretched[self.situation(e)];
        if recorded.is_nan() { stretch(e.prior.clamp(EDGE, 1.0 - EDGE)) } else { recorded }
    }

    fn slots(&self) -> usize {
        self.starts.len() - 1
    }

    /// Where the weights of a set of slots begin; before it has a record the strongest slot (the
    /// lowest) is believed and the others nudge.
    fn row_start(&self, set: u64) -> usize {
        let width = self.slots() + 1;
        let first = set.trailing_zeros() as usize * width;
        self.sets.get(&set).map_or(first, |&row| row as usize * width)
    }

    fn row(&self, set: u64) -> &[f32] {
        let at = self.row_start(set);
        &self.weights[at..=at + self.slots()]
    }

    #[inline(always)] // called for every candidate of every node
    #[allow(clippy::inline_always)]
    fn dot(&self, row: &[f32], evidence: &[Evidence]) -> f32 {
        let mut sum = row[row.len() - 1];
        for &e in evidence {
            sum += row[usize::from(e.slot)] * self.input(e);
        }
        sum.clamp(-8.0, 8.0)
    }

    /// Probability that a candidate is accepted given that its parent was. At most one piece of
    /// evidence a slot, [`MAX_PIECES`] together; none at all gives 0.
    pub fn probability(&self, evidence: &[Evidence]) -> f32 {
        match evidence {
            [] => 0.0,
            _ => squash(self.slope * self.dot(self.row(set_of(evidence)), evidence) + self.shift),
        }
    }

    /// [`probability`](Self::probability) of every candidate.
    pub(crate) fn estimates(
        &self,
        candidates: &Candidates,
        rows: &mut RowCache,
        out: &mut Vec<f32>,
    ) {
        out.clear();
        let width = self.slots() + 1;
        for said in candidates.said() {
            let at = rows.get(said.slots, || self.row_start(said.slots));
            out.push(self.dot(&self.weights[at..at + width], said.pieces()));
        }
        for x in out {
            *x = squash(self.slope * *x + self.shift);
        }
    }

    /// Learns from one drafted node whose parent was reached.
    pub fn record(&mut self, evidence: &[Evidence], accepted: bool) {
        if evidence.is_empty() {
            return;
        }
        let target = f32::from(u8::from(accepted));
        let set = set_of(evidence);
        let dot = self.dot(self.row(set), evidence);
        let error = target - squash(dot);
        let last = target - squash(self.slope * dot + self.shift);
        let rate =
            LAST_RATE.1 + (LAST_RATE.0 - LAST_RATE.1) * LAST_HALF / (LAST_HALF + self.examples);
        self.examples = (self.examples + 1.0).min(1e6);
        self.slope = (self.slope + rate * last * dot).clamp(0.5, 3.0);
        self.shift = (self.shift + rate * last).clamp(-3.0, 3.0);
        let row = self.own_row(set);
        for &e in evidence {
            let input = self.input(e);
            self.weights[row + usize::from(e.slot)] += RATE * error * input;
        }
        let bias = row + self.slots();
        self.weights[bias] += RATE * error;
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

    /// Where the weights of a set begin; it gets a row of its own while there is room.
    fn own_row(&mut self, set: u64) -> usize {
        let width = self.slots() + 1;
        let first = set.trailing_zeros() as usize * width;
        if self.sets.len() == MAX_SETS && !self.sets.contains_key(&set) {
            return first;
        }
        let fresh = self.weights.len() / width;
        let row = *self.sets.entry(set).or_insert(fresh as u32) as usize * width;
        if row == self.weights.len() {
            self.weights.extend_from_within(first..first + width);
        }
        row
    }

    /// Tables then weights as bits for a file.
    pub(crate) fn save(&self) -> Vec<u32> {
        let shared = [self.slope, self.shift, self.examples];
        let tables = self.counts.iter().zip(&self.stretched).flat_map(|(c, &s)| [c[0], c[1], s]);
        let mut bits: Vec<u32> = shared.into_iter().chain(tables).map(f32::to_bits).collect();
        let sets: BTreeMap<u64, u32> = self.sets.iter().map(|(s, r)| (*s, *r)).collect();
        for (set, row) in sets {
            bits.extend([set as u32, (set >> 32) as u32]);
            let width = self.slots() + 1;
            let row = &self.weights[row as usize * width..][..width];
            bits.extend(row.iter().map(|w| w.to_bits()));
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
        let rows = weights.chunks_exact(this.slots() + 3);
        rows.remainder().is_empty().then_some(())?;
        for bits in rows {
            let set = u64::from(bits[0]) | u64::from(bits[1]) << 32;
            let row = bits[2..].iter().map(|&w| f32::from_bits(w));
            let sound = row.clone().all(f32::is_finite)
                && set != 0
                && (u64::BITS - set.leading_zeros()) as usize <= this.slots()
                && !this.sets.contains_key(&set)
                && this.sets.len() < MAX_SETS;
            sound.then_some(())?;
            let at = this.own_row(set);
            this.weights.truncate(at);
            this.weights.extend(row);
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

    /// Whatever sets of slots come up, the tables stay bounded and files of them load.
    #[test]
    fn sets_without_room_share_the_weights_of_their_strongest_slot() {
        let features = [1; 16];
        let mut m = Mixture::new(&features);
        for set in 1..1u32 << 13 {
            let said: Vec<Evidence> =
                (0..13).filter(|s| set >> s & 1 == 1).take(12).map(|s| e(s, 0, 0.5)).collect();
            m.record(&said, set % 3 == 0);
            assert!((0.0..=1.0).contains(&m.probability(&said)));
        }
        assert_eq!(m.sets.len(), MAX_SETS);
        assert_eq!(m.weights.len(), (MAX_SETS + 16) * 17);
        let saved = m.save();
        let again = Mixture::restore(&features, &saved).map(|m| m.save());
        assert!(again == Some(saved));
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
