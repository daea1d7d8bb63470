//! How often a text uses each token.
//!
//! Open addressing at most half full: one comparison a look-up, where the automaton's table would take a
//! hash and two dependent reads. A token that was taken back keeps its place with a count of 0.

use trivium_core::TokenId;

/// No token: ids are below 2^31.
const FREE: TokenId = TokenId::MAX;

/// Counts by token.
#[derive(Debug, Clone, Default)]
pub(super) struct Uses {
    /// A power of two of them, or none.
    slots: Vec<(TokenId, u32)>,
    distinct: usize,
}

impl Uses {
    /// Where the token stands, or the free place that ends its search.
    #[inline]
    fn place(&self, token: TokenId) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = token.wrapping_mul(0x9e37_79b1) as usize >> 7;
        loop {
            at &= mask;
            let found = self.slots[at].0;
            if found == token || found == FREE {
                return at;
            }
            at += 1;
        }
    }

    /// Times that a token was [added](Self::add) and not removed.
    #[inline]
    pub(super) fn count(&self, token: TokenId) -> u32 {
        if self.slots.is_empty() { 0 } else { self.slots[self.place(token)].1 }
    }

    /// Counts one use.
    pub(super) fn add(&mut self, token: TokenId) {
        if 2 * (self.distinct + 1) > self.slots.len() {
            let room = (2 * self.slots.len()).max(64);
            let old = std::mem::replace(&mut self.slots, vec![(FREE, 0); room]);
            for entry in old.into_iter().filter(|e| e.0 != FREE) {
                let at = self.place(entry.0);
                self.slots[at] = entry;
            }
        }
        let at = self.place(token);
        self.distinct += usize::from(self.slots[at].0 == FREE);
        self.slots[at] = (token, self.slots[at].1 + 1);
    }

    /// Takes one use back.
    pub(super) fn remove(&mut self, token: TokenId) {
        if !self.slots.is_empty() {
            let at = self.place(token);
            self.slots[at].1 = self.slots[at].1.saturating_sub(1);
        }
    }

    /// Bytes held.
    pub(super) fn memory(&self) -> usize {
        self.slots.capacity() * size_of::<(TokenId, u32)>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        /// Additions and removals in any order count as a map does.
        #[test]
        fn counts_equal_those_of_a_map(
            uses in prop::collection::vec((0u32..90, prop::bool::weighted(0.7)), 0..400),
        ) {
            let mut u = Uses::default();
            let mut map = BTreeMap::<u32, u32>::new();
            prop_assert_eq!(u.count(3), 0);
            for (token, more) in uses {
                let token = token * 1_048_573; // far apart and clashing
                if more {
                    u.add(token);
                    *map.entry(token).or_default() += 1;
                } else {
                    u.remove(token);
                    map.entry(token).and_modify(|n| *n = n.saturating_sub(1));
                }
            }
            for t in 0..100 {
                let token = t * 1_048_573;
                prop_assert_eq!(u.count(token), map.get(&token).copied().unwrap_or(0));
            }
        }
    }
}
