//! The most frequent tokens of a text, kept while it grows.
//!
//! Where no context matches, a drafter has nothing better than the unigram law; its top tokens are
//! right often enough to be worth nodes that would otherwise stay empty.

use super::Candidate;
use rustc_hash::FxHashMap;
use trivium_core::TokenId;

/// Tokens kept.
pub(crate) const TOP: usize = 12;

/// Situations: rank by order of magnitude of the share.
pub(crate) const FEATURES: usize = TOP * 8;

/// Counts of all tokens and the [`TOP`] largest, newest first among equals.
#[derive(Debug, Clone, Default)]
pub(crate) struct Frequent {
    counts: FxHashMap<TokenId, u32>,
    top: Vec<(u32, TokenId)>,
    total: u32,
}

impl Frequent {
    /// Counts one token: O([`TOP`]).
    pub(crate) fn add(&mut self, token: TokenId) {
        let count = self.counts.entry(token).or_insert(0);
        *count += 1;
        self.total += 1;
        let count = *count;
        let at = match self.top.iter().position(|t| t.1 == token) {
            Some(at) => at,
            None if self.top.len() < TOP => {
                self.top.push((0, token));
                self.top.len() - 1
            }
            None if count >= self.top[TOP - 1].0 => TOP - 1,
            None => return,
        };
        self.top[at] = (count, token);
        let place = self.top[..at].partition_point(|t| t.0 > count);
        self.top[place..=at].rotate_right(1);
    }

    /// The kept tokens as candidates of `slot`.
    pub(crate) fn candidates(&self, slot: u8, out: &mut Vec<Candidate>) {
        for (rank, &(count, token)) in self.top.iter().enumerate() {
            let share = count as f32 / (self.total as f32 + 8.0);
            // 1/2, 1/4, ... 1/128 and below.
            let magnitude = ((1.0 / share).log2() as usize).min(7);
            let feature = (rank * 8 + magnitude) as u16;
            out.push(Candidate { token, slot, feature, prior: share * 0.5 });
        }
    }

    /// Bytes held.
    pub(crate) fn memory(&self) -> usize {
        self.counts.capacity() * 9 + self.top.capacity() * 8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_largest_counts() {
        let mut f = Frequent::default();
        let mut counts = [0u32; 40];
        let mut x = 1u32;
        for _ in 0..5000 {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let token = ((x >> 16) % 40) * ((x >> 24) % 40) / 40;
            f.add(token);
            counts[token as usize] += 1;
        }
        let mut want = counts;
        want.sort_unstable_by(|a, b| b.cmp(a));
        let got: Vec<u32> = f.top.iter().map(|t| t.0).collect();
        assert_eq!(got, want[..TOP]);
        assert!(f.top.iter().all(|&(n, t)| counts[t as usize] == n));
    }
}
