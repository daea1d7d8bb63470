//! The committed tokens of a matcher and the state after each: a vector with cheap forks.
//!
//! Full blocks are immutable and shared; the tail is owned. Push and pop are O(1) amortised, a fork
//! copies one pointer a block and at most one block of entries.

use crate::automata::table::StateId;
use std::sync::Arc;
use trivium_core::TokenId;

const BLOCK: usize = 128;

/// A token and the state after it.
pub(crate) type Entry = (TokenId, StateId);

/// See the module comment.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    blocks: Vec<Arc<[Entry; BLOCK]>>,
    tail: Vec<Entry>,
}

impl History {
    pub(crate) fn len(&self) -> usize {
        self.blocks.len() * BLOCK + self.tail.len()
    }

    pub(crate) fn push(&mut self, entry: Entry) {
        if self.tail.len() == BLOCK
            && let Ok(block) = <[Entry; BLOCK]>::try_from(&self.tail[..])
        {
            self.blocks.push(Arc::new(block));
            self.tail.clear();
        }
        self.tail.push(entry);
    }

    pub(crate) fn last(&self) -> Option<Entry> {
        self.tail.last().or_else(|| self.blocks.last().and_then(|b| b.last())).copied()
    }

    pub(crate) fn get(&self, i: usize) -> Option<Entry> {
        match self.blocks.get(i / BLOCK) {
            Some(block) => Some(block[i % BLOCK]),
            None => self.tail.get(i - self.blocks.len() * BLOCK).copied(),
        }
    }

    /// Keeps the first `len` entries.
    pub(crate) fn truncate(&mut self, len: usize) {
        if len >= self.blocks.len() * BLOCK {
            self.tail.truncate(len - self.blocks.len() * BLOCK);
            return;
        }
        self.tail.clear();
        if let Some(cut) = self.blocks.get(len / BLOCK) {
            self.tail.extend_from_slice(&cut[..len % BLOCK]);
        }
        self.blocks.truncate(len / BLOCK);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Entry> + '_ {
        self.blocks.iter().flat_map(|b| b.iter()).chain(&self.tail).copied()
    }

    /// Length of the longest common prefix with `tokens`.
    pub(crate) fn common_prefix(&self, tokens: &[TokenId]) -> usize {
        self.iter().zip(tokens).take_while(|(e, t)| e.0 == **t).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn behaves_like_a_vector(steps in prop::collection::vec((0usize..400, any::<bool>()), 1..20)) {
            let mut history = History::default();
            let mut want: Vec<Entry> = Vec::new();
            for (n, push) in steps {
                let before = history.clone();
                let was = want.clone();
                if push {
                    for i in 0..n as u32 {
                        history.push((i, i * 2));
                        want.push((i, i * 2));
                    }
                } else {
                    let len = want.len().saturating_sub(n);
                    history.truncate(len);
                    want.truncate(len);
                }
                prop_assert_eq!(history.len(), want.len());
                prop_assert_eq!(history.last(), want.last().copied());
                prop_assert!(history.iter().eq(want.iter().copied()));
                prop_assert_eq!(history.get(want.len()), None);
                for i in (0..want.len()).step_by(37) {
                    prop_assert_eq!(history.get(i), want.get(i).copied());
                }
                prop_assert!(before.iter().eq(was)); // a fork shares nothing mutable
            }
        }
    }
}
