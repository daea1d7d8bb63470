//! Finished texts that requests share, bounded in bytes.
//!
//! An automaton cannot delete, so a store is a ring of generations: texts enter the newest, and the
//! oldest is dropped whole, in O(1), when the bytes are spent. A text that does not fit what is left
//! of a generation continues in the next one.

use super::automaton::Automaton;
use trivium_core::TokenId;

/// Generations of a full ring: what a drop forgets is one of these.
pub(crate) const GENERATIONS: usize = 4;

/// Bytes that a generation may grow by between two looks at its size.
const SLACK_TOKENS: usize = 16;

/// Texts of one age and their automaton.
#[derive(Debug)]
pub(crate) struct Generation {
    /// Unique within the ring, rising.
    pub(crate) id: u64,
    pub(crate) automaton: Automaton,
    /// The texts, for files: lengths and tokens.
    lens: Vec<u32>,
    tokens: Vec<TokenId>,
}

impl Generation {
    fn new(id: u64) -> Self {
        Self { id, automaton: Automaton::new(), lens: Vec::new(), tokens: Vec::new() }
    }

    /// The texts, each whole or the part that fitted.
    #[cfg(test)]
    pub(crate) fn texts(&self) -> Vec<Vec<TokenId>> {
        let mut rest = self.tokens.as_slice();
        let mut take = |n: &u32| {
            let (text, after) = rest.split_at(*n as usize);
            rest = after;
            text.to_vec()
        };
        self.lens.iter().map(&mut take).collect()
    }

    pub(crate) fn memory(&self) -> usize {
        self.automaton.memory() + (self.lens.capacity() + self.tokens.capacity()) * 4
    }
}

/// Finished texts of one scope.
#[derive(Debug)]
pub(crate) struct Ring {
    generations: Vec<Generation>,
    next_id: u64,
    max_bytes: usize,
}

impl Ring {
    /// A ring of at most `max_bytes`; one that is too small for any text stays empty.
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self { generations: Vec::new(), next_id: 0, max_bytes }
    }

    /// Learns a text.
    pub(crate) fn ingest(&mut self, text: &[TokenId]) {
        let limit = self.max_bytes / GENERATIONS;
        let mut rest = text;
        while !rest.is_empty() {
            let fits =
                |g: &Generation| limit.checked_sub(g.memory()).is_some_and(|left| left >= room(g));
            if !self.generations.last().is_some_and(fits) {
                let fresh = Generation::new(self.next_id);
                if !fits(&fresh) {
                    return;
                }
                if self.generations.len() == GENERATIONS {
                    self.generations.remove(0);
                }
                self.generations.push(fresh);
                self.next_id += 1;
            }
            let Some(newest) = self.generations.last_mut() else { return };
            newest.automaton.separate();
            let mut taken = 0;
            while taken < rest.len() && (taken % SLACK_TOKENS != 0 || fits(newest)) {
                newest.automaton.append(rest[taken]);
                taken += 1;
            }
            if newest.tokens.capacity() - newest.tokens.len() < taken {
                newest.tokens.reserve_exact(taken.max(newest.tokens.len() / 8));
            }
            newest.tokens.extend_from_slice(&rest[..taken]);
            newest.lens.push(taken as u32);
            rest = &rest[taken..];
        }
    }

    /// Oldest first.
    pub(crate) fn generations(&self) -> &[Generation] {
        &self.generations
    }

    /// Changes whenever generations come or go.
    pub(crate) fn version(&self) -> u64 {
        self.next_id
    }

    /// A generation by its id.
    pub(crate) fn get(&self, id: u64) -> Option<&Automaton> {
        let first = self.generations.first()?.id;
        Some(&self.generations.get(id.checked_sub(first)? as usize)?.automaton)
    }

    pub(crate) fn memory(&self) -> usize {
        self.generations.iter().map(Generation::memory).sum()
    }

    /// Lengths and tokens of all texts, oldest first.
    pub(crate) fn texts(&self) -> (Vec<u32>, Vec<TokenId>) {
        let lens = self.generations.iter().flat_map(|g| &g.lens).copied().collect();
        let tokens = self.generations.iter().flat_map(|g| &g.tokens).copied().collect();
        (lens, tokens)
    }
}

/// Bytes that the next [`SLACK_TOKENS`] tokens may take at most: growth by eighths and new entries.
fn room(g: &Generation) -> usize {
    g.automaton.growth(SLACK_TOKENS) + SLACK_TOKENS * 8 + g.tokens.len() / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_bounded_and_the_oldest_texts_go() {
        for max_bytes in [0, 1000, 100_000, 1_000_000] {
            let mut ring = Ring::new(max_bytes);
            let mut x = 1u32;
            for i in 0..40 {
                let text: Vec<u32> = (0..1000)
                    .map(|_| {
                        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                        i * 100 + (x >> 24)
                    })
                    .collect();
                ring.ingest(&text);
                assert!(ring.memory() <= max_bytes, "{} > {max_bytes}", ring.memory());
            }
            assert!(
                max_bytes < 100_000 || ring.memory() > max_bytes / 3,
                "the bytes are used: {}",
                ring.memory()
            );
            assert!(ring.generations().iter().all(|g| ring.get(g.id).is_some()));
            assert!(ring.get(ring.next_id).is_none());
        }
    }

    #[test]
    fn a_text_longer_than_a_generation_continues_in_the_next() {
        let mut ring = Ring::new(400_000);
        let text: Vec<u32> = (0..1500).collect();
        ring.ingest(&text);
        assert!(ring.generations().len() > 1);
        let (lens, tokens) = ring.texts();
        assert_eq!(tokens, text);
        assert_eq!(lens.iter().sum::<u32>(), 1500);
    }
}
