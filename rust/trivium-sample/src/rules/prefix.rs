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
/// Up to here, sorting everything is cheaper.
const SMALL: usize = 96;

/// Ascending order of numbers in which -0 equals 0, as it does in every comparison of logits.
pub(crate) fn ascending(a: f32, b: f32) -> Ordering {
    (a + 0.0).total_cmp(&(b + 0.0))
}

/// The order in which tokens enter.
pub(crate) fn order(a: &Candidate, b: &Candidate) -> Ordering {
    ascending(a.key, b.key).then(ascending(b.logit, a.logit)).then(a.token.cmp(&b.token))
}

/// The last token of the smallest prefix with `target` of weight among `ids`; `None` if they have
/// less. `key` is the candidate's. Keys lie between 0 and about `range`; beyond it they are merely slower. `buffer` holds the
/// bucket that crosses.
pub(crate) fn last_of_prefix(
    ids: &[TokenId],
    key: impl Fn(TokenId) -> f32,
    weigh: impl Fn(&TokenId) -> Candidate,
    target: u64,
    range: f32,
    buffer: &mut Vec<Candidate>,
) -> Option<Candidate> {
    buffer.clear();
    let mut mass = 0;
    if ids.len() <= SMALL {
        buffer.extend(ids.iter().map(weigh));
    } else {
        let scale = BUCKETS as f32 / range.max(f32::MIN_POSITIVE);
        let bucket = |key: f32| ((key * scale) as usize).min(BUCKETS - 1);
        let mut sums = [0u64; BUCKETS];
        for c in ids.iter().map(&weigh) {
            sums[bucket(c.key)] += c.weight;
        }
        let crossing = sums.iter().position(|&m| {
            mass += m;
            mass >= target
        })?;
        mass -= sums[crossing];
        buffer.extend(ids.iter().filter(|&&t| bucket(key(t)) == crossing).map(&weigh));
    }
    buffer.sort_unstable_by(order);
    buffer.iter().copied().find(|c| {
        mass += c.weight;
        mass >= target
    })
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
            let all: Vec<Candidate> = keys.iter().enumerate().map(|(i, &(k, coarse))| {
                let key = if coarse > 0 { k.floor() } else { k };
                Candidate { key, logit: -key, token: i as u32, weight: fixed(f64::from((-key).exp())) }
            }).collect();
            let total: u64 = all.iter().map(|c| c.weight).sum();
            let target = ((total as f64 * share) as u64).max(1);
            let want = naive(&all, target, ties);
            let ids: Vec<TokenId> = (0..all.len() as u32).collect();
            let last = last_of_prefix(
                &ids, |t| all[t as usize].key, |&t| all[t as usize], target, range, &mut Vec::new());
            let got: Vec<TokenId> = ids.into_iter().filter(|&t| {
                let c = all[t as usize];
                last.is_none_or(|l| order(&c, &l).is_le() || (ties && c.key == l.key))
            }).collect();
            prop_assert_eq!(got, want);
        }
    }
}
