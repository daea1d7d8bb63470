//! First Finish Search and its peers: the vote of the first `K` traces to finish, or of the last.
//!
//! Agarwal et al., "First Finish Search: Efficient Test-Time Scaling in Large Language Models":
//! shorter traces of reasoning models are more often right, so `N` are started and the first `K` to
//! end decide. Elsewhere length says something else (it names the model in an ensemble), so `K` of
//! `N` and the last `K` are peers. A trace without a ballot is no finish; under `compat`, as the
//! published replays have it, it is. Finishes within one report count by launch index.

use crate::tally::{KeyId, Tally};

/// How many traces are started for `K` finishes where nothing is said: a power of two, at least 4
/// and twice `K`.
pub fn started(finishes: u32) -> u32 {
    finishes.saturating_mul(2).max(4).checked_next_power_of_two().unwrap_or(u32::MAX)
}

/// Whether enough traces have finished; traces are counted as they finish.
pub fn stops(tally: &Tally, finishes: u32, compat: bool) -> bool {
    let done = if compat { tally.num_seen() } else { tally.num_cast() };
    done >= finishes
}

/// Replays the rule where all lengths are known: the majority of the `finishes` shortest of the
/// traces, ties to the shorter.
pub fn replay(
    keys: &[Option<KeyId>],
    lengths: &[u64],
    finishes: u32,
    compat: bool,
) -> Option<KeyId> {
    let mut order: Vec<usize> = (0..keys.len()).filter(|&i| compat || keys[i].is_some()).collect();
    order.sort_by_key(|&i| (lengths.get(i).copied().unwrap_or(0), i));
    order.truncate(finishes as usize);
    majority(order.into_iter().filter_map(|i| keys[i]))
}

/// Replays the last `finishes` to finish.
pub fn replay_last(keys: &[Option<KeyId>], lengths: &[u64], finishes: u32) -> Option<KeyId> {
    let mut order: Vec<usize> = (0..keys.len()).filter(|&i| keys[i].is_some()).collect();
    order.sort_by_key(|&i| (lengths.get(i).copied().unwrap_or(0), i));
    let skip = order.len().saturating_sub(finishes as usize);
    majority(order.into_iter().skip(skip).filter_map(|i| keys[i]))
}

/// The most frequent key, the first seen on ties.
pub fn majority(keys: impl Iterator<Item = KeyId>) -> Option<KeyId> {
    let mut counts: Vec<(KeyId, u32)> = Vec::new();
    for key in keys {
        match counts.iter_mut().find(|(known, _)| *known == key) {
            Some((_, count)) => *count += 1,
            None => counts.push((key, 1)),
        }
    }
    let best = counts.iter().map(|c| c.1).max()?;
    counts.into_iter().find(|c| c.1 == best).map(|c| c.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_decide() {
        let lengths = [7, 3, 9, 3];
        let all = [Some(0), Some(1), Some(2), Some(3)];
        assert_eq!(replay(&all, &lengths, 1, false), Some(1));
        assert_eq!(replay(&all, &lengths, 2, false), Some(1));
        let silent = [Some(0), None, Some(2), Some(3)];
        assert_eq!(replay(&silent, &lengths, 1, false), Some(3));
        assert_eq!(replay(&silent, &lengths, 1, true), None);
        assert_eq!(replay(&all[..1], &lengths[..1], 1, false), Some(0));
        assert_eq!(replay_last(&all, &lengths, 1), Some(2));
        assert_eq!((started(1), started(2), started(3)), (4, 4, 8));
    }
}
