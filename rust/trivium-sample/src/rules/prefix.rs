//! The smallest prefix of an order whose mass reaches a target, without sorting the row.
//!
//! Candidates carry a key (ascending order) and a weight in fixed point. Integers add up to the same
//! sum in every order, so the answer is the definition's whatever way it is found: keys fall into
//! buckets, whole buckets are taken while they fit, and only the bucket that crosses the target is
//! sorted. Equal keys are ordered by logit, best first, then by id.

use std::cmp::Ordering;
use trivium_core::TokenId;

/// A token with its place in an order.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Candidate {
    /// Ascending, not negative.
    pub(crate) key: f32,
    /// Its logit.
    pub(crate) logit: f32,
    /// Its id.
    pub(crate) token: TokenId,
    /// Its weight, [`fixed`].
    pub(crate) weight: u64,
}

/// A weight in `[0, 1]` with 42 bits behind the point: 2^22 of them add up without overflow.
pub(crate) fn fixed(weight: f64) -> u64 {
    (weight * FIXED) as u64
}

/// One in fixed point.
pub(crate) const FIXED: f64 = (1u64 << 42) as f64;

const BUCKETS: usize = 512;
/// Below this, sorting everything is cheaper.
const SMALL: usize = 96;

fn order(a: &Candidate, b: &Candidate) -> Ordering {
    a.key.total_cmp(&b.key).then(b.logit.total_cmp(&a.logit)).then(a.token.cmp(&b.token))
}

/// Partitions `all` so that the first n candidates are the smallest prefix with `target` of weight
/// (all of them, if they have less); returns n. With `ties`, equals of the last one join.
pub(crate) fn smallest_prefix(all: &mut [Candidate], target: u64, range: f32, ties: bool) -> usize {
    let (start, end, before) =
        if all.len() <= SMALL { (0, all.len(), 0) } else { crossing_bucket(all, target, range) };
    all[start..end].sort_unstable_by(order);
    let mut mass = before;
    let mut n = end;
    for (i, c) in all[start..end].iter().enumerate() {
        mass += c.weight;
        if mass >= target {
            n = start + i + 1;
            break;
        }
    }
    if ties && n > 0 {
        let last = all[n - 1].key;
        // A bucket holds all equals of a key.
        n += all[n..end].iter().take_while(|c| c.key == last).count();
    }
    n
}

/// Moves the candidates of lower buckets to the front and those of the crossing bucket behind them.
fn crossing_bucket(all: &mut [Candidate], target: u64, range: f32) -> (usize, usize, u64) {
    let scale = BUCKETS as f32 / range.max(f32::MIN_POSITIVE);
    let bucket = |c: &Candidate| ((c.key * scale) as usize).min(BUCKETS - 1);
    let mut mass = [0u64; BUCKETS];
    for c in all.iter() {
        mass[bucket(c)] += c.weight;
    }
    let mut before = 0;
    let mut crossing = BUCKETS - 1;
    for (b, &m) in mass.iter().enumerate() {
        if before + m >= target {
            crossing = b;
            break;
        }
        if b < BUCKETS - 1 {
            before += m;
        }
    }
    let mut start = 0;
    for i in 0..all.len() {
        if bucket(&all[i]) < crossing {
            all.swap(start, i);
            start += 1;
        }
    }
    let mut end = start;
    for i in start..all.len() {
        if bucket(&all[i]) == crossing {
            all.swap(end, i);
            end += 1;
        }
    }
    (start, end, before)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition: sort, add, stop.
    fn naive(all: &[Candidate], target: u64, ties: bool) -> Vec<TokenId> {
        let mut all = all.to_vec();
        all.sort_by(order);
        let mut mass = 0;
        let mut kept = Vec::new();
        let mut last = None;
        for c in all {
            if mass >= target && !kept.is_empty() && !(ties && last == Some(c.key)) {
                break;
            }
            mass += c.weight;
            last = Some(c.key);
            kept.push(c.token);
        }
        kept.sort_unstable();
        kept
    }

    proptest! {
        #[test]
        fn equals_the_definition(
            keys in prop::collection::vec((0f32..9.0, 0u8..3), 1..700), share in 0f64..1.1,
            range in 0.5f32..20.0, ties: bool,
        ) {
            let mut all: Vec<Candidate> = keys.iter().enumerate().map(|(i, &(k, coarse))| {
                let key = if coarse > 0 { k.floor() } else { k };
                Candidate { key, logit: -key, token: i as u32, weight: fixed(f64::from((-key).exp())) }
            }).collect();
            let total: u64 = all.iter().map(|c| c.weight).sum();
            let target = ((total as f64 * share) as u64).max(1);
            let want = naive(&all, target, ties);
            let n = smallest_prefix(&mut all, target, range, ties);
            let mut got: Vec<TokenId> = all[..n].iter().map(|c| c.token).collect();
            got.sort_unstable();
            prop_assert_eq!(got, want);
        }
    }
}
