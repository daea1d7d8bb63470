//! What masks need of a vocabulary, shared by every grammar over it in the process.

use super::flat::Flat;
use super::slice::Slice;
use crate::automata::charset::Range;
use crate::automata::dfa::Automaton;
use crate::automata::print::Print;
use crate::automata::table::{Run, StateId};
use crate::error::{Error, Result};
use crate::machine::scan::Scan;
use rustc_hash::FxHashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, RwLock};
use trivium_core::{TokenId, Vocabulary, mask};

/// Bytes of slices kept for one vocabulary.
const SLICE_BYTES: usize = 96 << 20;

/// Node of the trie, class.
type Key = (u32, Arc<[Range]>);

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
    /// Characters of each token, as far as they begin in it.
    chars: OnceLock<Vec<u8>>,
    /// Tokens of more than [`LONG`] bytes.
    long: OnceLock<Box<[TokenId]>>,
    /// Scans of residuals met before, by whatever grammar.
    scans: Mutex<Scans>,
    /// Bytes that kept scans grew by.
    grown: AtomicUsize,
}

/// Tokens with more bytes are few: some hundred of a vocabulary of 128,000.
pub(crate) const LONG: usize = 32;

/// Bytes of scans kept for one vocabulary.
const SCAN_BYTES: usize = 24 << 20;

#[derive(Debug, Default)]
struct Scans {
    map: FxHashMap<Print, Arc<Scan>>,
    bytes: usize,
}

impl TokenIndex {
    /// The index of `vocab`, shared with grammars that hold one already.
    pub(crate) fn of(vocab: &Arc<Vocabulary>) -> Result<Arc<Self>> {
        // An index lives as long as its vocabulary: the next grammar finds what the last one left.
        static KNOWN: OnceLock<Mutex<Vec<Arc<TokenIndex>>>> = OnceLock::new();
        let mut known = KNOWN
            .get_or_init(Mutex::default)
            .lock()
            .map_err(|_| Error::internal("an earlier call panicked while indexing"))?;
        known.retain(|i| Arc::strong_count(i) > 1 || Arc::strong_count(&i.vocab) > 1);
        if let Some(index) = known.iter().find(|i| Arc::ptr_eq(&i.vocab, vocab)) {
            return Ok(Arc::clone(index));
        }
        let trie = vocab.trie();
        let index = Arc::new(Self {
            vocab: Arc::clone(vocab),
            flat: Flat::new(trie),
            spells_all: (0..=255)
                .all(|b| trie.child(0, b).is_some_and(|n| !trie.tokens_at(n).is_empty())),
            slices: RwLock::default(),
            chars: OnceLock::new(),
            long: OnceLock::new(),
            scans: Mutex::default(),
            grown: AtomicUsize::new(0),
        });
        known.push(Arc::clone(&index));
        Ok(index)
    }

    /// Tokens of more than [`LONG`] bytes, ascending.
    pub(crate) fn long_tokens(&self) -> &[TokenId] {
        self.long.get_or_init(|| {
            let all = 0..self.vocab.len() as TokenId;
            all.filter(|&t| self.vocab.token(t).len() > LONG).collect()
        })
    }

    /// Words of a mask row.
    pub(crate) fn words(&self) -> usize {
        mask::words(self.vocab.num_rows())
    }

    /// The slice for a loop that begins at a node of the trie, made when it is asked for again; `None`
    /// if walking is as good.
    pub(crate) fn slice(&self, node: u32, run: &Run) -> Result<Option<Arc<Slice>>> {
        if run.max < 2 {
            return Ok(None);
        }
        let key: Key = (node, Arc::clone(&run.class));
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
        let chars = self.chars.get_or_init(|| {
            let count = |t| self.vocab.token(t).iter().filter(|&&b| b & 0xc0 != 0x80).count() as u8;
            (0..self.vocab.len() as TokenId).map(count).collect()
        });
        let before = self.path(node as usize).iter().filter(|&&b| b & 0xc0 != 0x80).count() as u8;
        let at = (node as usize, before);
        let made = Slice::new(&self.flat, at, &run.class, chars, self.words())?;
        let made = made.map(Arc::new);
        self.keep(key, made.clone().map_or(Entry::Useless, Entry::Made))?;
        Ok(made)
    }

    /// The scan of a state, shared with every grammar that meets an equal residual; and the state's only
    /// marker, which stands for those that the scan names.
    pub(crate) fn scan(
        &self,
        automaton: &Automaton,
        state: StateId,
    ) -> Result<(Arc<Scan>, Option<u32>)> {
        let (print, sole) = match automaton.print(state)? {
            Some((print, sole)) => (Some(print), sole),
            None => (None, None),
        };
        if let Some(print) = print {
            let scans = self.scans.lock().map_err(|_| poisoned())?;
            if let Some(known) = scans.map.get(&print) {
                return Ok((Arc::clone(known), sole));
            }
        }
        let scan = Arc::new(Scan::new(self, automaton, state)?);
        if let Some(print) = print {
            let mut scans = self.scans.lock().map_err(|_| poisoned())?;
            let bytes = scan.memory();
            if scans.bytes + self.grown.load(Ordering::Relaxed) + bytes > SCAN_BYTES {
                *scans = Scans::default();
                self.grown.store(0, Ordering::Relaxed);
            }
            scans.bytes += bytes;
            scans.map.insert(print, Arc::clone(&scan));
        }
        Ok((scan, sole))
    }

    /// Counts bytes that a kept scan grew by.
    pub(crate) fn grow(&self, bytes: usize) {
        self.grown.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes before a node of the trie.
    pub(crate) fn depth(&self, node: usize) -> usize {
        self.vocab.trie().depth(node)
    }

    /// The bytes that lead to a node of the trie.
    fn path(&self, node: usize) -> Vec<u8> {
        let trie = self.vocab.trie();
        let mut out = vec![0; trie.depth(node)];
        let mut at = node;
        let mut left = out.len();
        // Parents stand before their children: the nearest node above at each smaller depth.
        while left > 0 {
            if trie.depth(at) == left {
                left -= 1;
                out[left] = trie.byte(at);
            }
            at = at.saturating_sub(1);
        }
        out
    }

    fn keep(&self, key: Key, entry: Entry) -> Result<()> {
        let mut slices = self.slices.write().map_err(|_| poisoned())?;
        let bytes = match &entry {
            Entry::Once => 64 + key.1.len() * 8,
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
