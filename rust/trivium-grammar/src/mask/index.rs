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

/// Node of the trie, bound, class.
type Key = (u32, u32, Arc<[Range]>);

/// What is known of a slice.
#[derive(Debug, Clone)]
enum Entry {
    /// Asked for once: walking costs less than slicing, and many loops are met only once.
    Once,
    /// Not worth keeping.
    Useless,
    Made(Arc<Slice>),
}

#[derive(Debug, Default)]
struct Slices {
    map: FxHashMap<Key, Entry>,
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

    /// The slice for a loop that begins at a node of the trie, made when it is asked for again; `None`
    /// if walking is as good.
    pub(crate) fn slice(&self, node: u32, run: &Run) -> Result<Option<Arc<Slice>>> {
        let trie = self.vocab.trie();
        let depth = trie.depth(node as usize);
        let Some(bound) = slice::bound(run.max, trie.max_depth() - depth) else {
            return Ok(None);
        };
        let key: Key = (node, bound, Arc::clone(&run.class));
        let known = self.slices.read().map_err(|_| poisoned())?.map.get(&key).cloned();
        match known {
            Some(Entry::Made(slice)) => return Ok(Some(slice)),
            Some(Entry::Useless) => return Ok(None),
            Some(Entry::Once) => {}
            None => {
                self.keep(key, Entry::Once)?;
                return Ok(None);
            }
        }
        let at = (node as usize, depth);
        let made = Slice::new(&self.vocab, &self.flat, at, &run.class, bound, self.words())?;
        let made = made.map(Arc::new);
        self.keep(key, made.clone().map_or(Entry::Useless, Entry::Made))?;
        Ok(made)
    }

    fn keep(&self, key: Key, entry: Entry) -> Result<()> {
        let mut slices = self.slices.write().map_err(|_| poisoned())?;
        let bytes = match &entry {
            Entry::Once => 64 + key.2.len() * 8,
            Entry::Useless => 0,
            Entry::Made(slice) => slice.memory(),
        };
        if slices.bytes + bytes > SLICE_BYTES {
            *slices = Slices::default();
        }
        slices.bytes += bytes;
        slices.map.insert(key, entry);
        Ok(())
    }

    /// Number and bytes of the slices kept.
    pub(crate) fn slices(&self) -> (usize, usize) {
        self.slices.read().map_or((0, 0), |s| {
            (s.map.values().filter(|v| matches!(v, Entry::Made(_))).count(), s.bytes)
        })
    }
}

fn poisoned() -> Error {
    Error::internal("an earlier call panicked while slicing")
}
