//! What masks need of a vocabulary, shared by every grammar over it in the process.

use super::flat::Flat;
use super::slice::{self, Slice};
use crate::automata::charset::Range;
use crate::automata::table::Run;
use crate::error::{Error, Result};
use rustc_hash::FxHashMap;
use std::sync::{Arc, Mutex, OnceLock, RwLock, Weak};
use trivium_core::{Vocabulary, mask};

/// Bytes of slices kept for one vocabulary.
const SLICE_BYTES: usize = 96 << 20;

type Key = (Arc<[Range]>, u32);

#[derive(Debug, Default)]
struct Slices {
    /// `None`: looked at and found not worth keeping.
    map: FxHashMap<Key, Option<Arc<Slice>>>,
    bytes: usize,
}

/// The walkable trie of a vocabulary and its slices.
#[derive(Debug)]
pub(crate) struct TokenIndex {
    pub(crate) vocab: Arc<Vocabulary>,
    pub(crate) flat: Flat,
    /// Whether every byte is a token, so that every text can be spelled.
    pub(crate) spells_all: bool,
    slices: RwLock<Slices>,
}

impl TokenIndex {
    /// The index of `vocab`, shared with grammars that hold one already.
    pub(crate) fn of(vocab: &Arc<Vocabulary>) -> Result<Arc<Self>> {
        static KNOWN: OnceLock<Mutex<Vec<Weak<TokenIndex>>>> = OnceLock::new();
        let mut known = KNOWN
            .get_or_init(Mutex::default)
            .lock()
            .map_err(|_| Error::internal("an earlier call panicked while indexing"))?;
        known.retain(|w| w.strong_count() > 0);
        if let Some(index) =
            known.iter().filter_map(Weak::upgrade).find(|i| Arc::ptr_eq(&i.vocab, vocab))
        {
            return Ok(index);
        }
        let trie = vocab.trie();
        let index = Arc::new(Self {
            vocab: Arc::clone(vocab),
            flat: Flat::new(trie),
            spells_all: (0..=255)
                .all(|b| trie.child(0, b).is_some_and(|n| !trie.tokens_at(n).is_empty())),
            slices: RwLock::default(),
        });
        known.push(Arc::downgrade(&index));
        Ok(index)
    }

    /// Words of a mask row.
    pub(crate) fn words(&self) -> usize {
        mask::words(self.vocab.num_rows())
    }

    /// The slice for a loop, made at the first call; `None` if walking everything is as good.
    pub(crate) fn slice(&self, run: &Run) -> Result<Option<Arc<Slice>>> {
        let Some(bound) = slice::bound(run.max, self.vocab.trie().max_depth()) else {
            return Ok(None);
        };
        let key: Key = (Arc::clone(&run.class), bound);
        let poisoned = |_| Error::internal("an earlier call panicked while slicing");
        if let Some(known) = self
            .slices
            .read()
            .map_err(|_| Error::internal("an earlier call panicked"))?
            .map
            .get(&key)
        {
            return Ok(known.clone());
        }
        let made =
            Slice::new(&self.vocab, &self.flat, &run.class, bound, self.words())?.map(Arc::new);
        let mut slices = self.slices.write().map_err(poisoned)?;
        let bytes = made.as_ref().map_or(64, |s| s.memory()) + key.0.len() * 8;
        if slices.bytes + bytes > SLICE_BYTES {
            *slices = Slices::default();
        }
        slices.bytes += bytes;
        slices.map.insert(key, made.clone());
        Ok(made)
    }

    /// Number and bytes of the slices kept.
    pub(crate) fn slices(&self) -> (usize, usize) {
        self.slices
            .read()
            .map_or((0, 0), |s| (s.map.values().filter(|v| v.is_some()).count(), s.bytes))
    }
}
