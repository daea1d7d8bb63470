//! What reads texts: one automaton, one run of the machine, or two engines side by side. States are
//! numbers of an engine; a matcher holds one for as long as it holds states.

use crate::automata::dfa::{Automaton, AutomatonSize};
use crate::automata::table::{DEAD, StateId};
use crate::error::Result;
use crate::machine::Machine;
use crate::machine::run::Run;
use crate::mask::cache::{Mask, MaskCache};
use crate::mask::index::TokenIndex;
use crate::mask::{compute, compute_slow};
use crate::matcher::FINISHED;
use crate::pair::{Pair, PairMaker};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use trivium_core::TokenId;

/// A grammar that is one lexeme: its automaton is the recogniser.
#[derive(Debug)]
pub(crate) struct Lexeme {
    index: Arc<TokenIndex>,
    automaton: Automaton,
    cache: MaskCache,
    serial: u64,
}

impl Lexeme {
    pub(crate) fn new(index: Arc<TokenIndex>, automaton: Automaton, mask_bytes: usize) -> Self {
        Self { index, automaton, cache: MaskCache::new(mask_bytes), serial: next_serial() }
    }
}

/// What states are numbers of. A matcher holds one for as long as it holds states.
#[derive(Debug, Clone)]
pub(crate) enum Engine {
    /// One automaton.
    Lexeme(Arc<Lexeme>),
    /// One run of the machine.
    Machine(Arc<Run>),
    /// Two engines side by side.
    Pair(Arc<Pair>),
}

impl Engine {
    /// The state of the empty text.
    pub(crate) fn start(&self) -> StateId {
        match self {
            Self::Lexeme(l) => l.automaton.start(),
            Self::Machine(run) => run.start(),
            Self::Pair(pair) => pair.start(),
        }
    }

    /// Whether a live state's text may end.
    pub(crate) fn accepting(&self, state: StateId) -> Result<bool> {
        match self {
            Self::Lexeme(l) => l.automaton.accepting(state),
            Self::Machine(run) => run.accepting(state),
            Self::Pair(pair) => pair.accepting(state),
        }
    }

    /// The state after a token of the vocabulary in a live state; [`DEAD`] if it is not allowed.
    pub(crate) fn step(&self, state: StateId, token: TokenId) -> Result<StateId> {
        match self {
            Self::Lexeme(l) => {
                let vocab = &l.index.vocab;
                if vocab.is_eos(token) {
                    return Ok(if l.automaton.accepting(state)? { FINISHED } else { DEAD });
                }
                match vocab.token(token) {
                    [] => Ok(DEAD),
                    bytes => l.automaton.walk(state, bytes),
                }
            }
            Self::Machine(run) => run.step(state, token),
            Self::Pair(pair) => pair.step(state, token),
        }
    }

    /// The state after bytes.
    pub(crate) fn walk(&self, state: StateId, bytes: &[u8]) -> Result<StateId> {
        match self {
            Self::Lexeme(l) => l.automaton.walk(state, bytes),
            Self::Machine(_) | Self::Pair(_) if state == DEAD => Ok(DEAD),
            Self::Machine(run) => run.walk(state, bytes),
            Self::Pair(pair) => pair.walk(state, bytes),
        }
    }

    /// The bytes that keep a live state alive, ascending.
    pub(crate) fn next_bytes(&self, state: StateId) -> Result<Vec<u8>> {
        match self {
            Self::Lexeme(l) => {
                let row = l.automaton.row(state)?;
                Ok((0..=255).filter(|&b| row[usize::from(b)] != DEAD).collect())
            }
            Self::Machine(run) => run.next_bytes(state),
            Self::Pair(pair) => pair.next_bytes(state),
        }
    }

    /// The byte that must follow in a live state, if only one may.
    pub(crate) fn only_byte(&self, state: StateId) -> Result<Option<u8>> {
        match self {
            Self::Machine(run) => run.only_byte(state),
            Self::Lexeme(_) | Self::Pair(_) => Ok(match self.next_bytes(state)?[..] {
                [byte] => Some(byte),
                _ => None,
            }),
        }
    }

    /// The mask of a live state, from the cache or computed and kept.
    pub(crate) fn mask(&self, state: StateId) -> Result<Arc<Mask>> {
        if is_slow() {
            return Ok(Arc::new(Mask::of_row(&self.mask_slow(state)?)));
        }
        match self {
            Self::Lexeme(l) => {
                if let Some(mask) = l.cache.get(state)? {
                    return Ok(mask);
                }
                let mask = Arc::new(compute(&l.index, &l.automaton, state)?);
                l.cache.put(state, Arc::clone(&mask))?;
                Ok(mask)
            }
            Self::Machine(run) => run.mask(state),
            Self::Pair(pair) => pair.mask(state),
        }
    }

    /// The mask of a live state if it is at hand.
    pub(crate) fn cached(&self, state: StateId) -> Result<Option<Arc<Mask>>> {
        if is_slow() {
            return Ok(None);
        }
        match self {
            Self::Lexeme(l) => l.cache.get(state),
            Self::Machine(run) => run.cached(state),
            Self::Pair(pair) => pair.cached(state),
        }
    }

    /// The mask by definition, without caches.
    pub(crate) fn mask_slow(&self, state: StateId) -> Result<Vec<u32>> {
        match self {
            Self::Lexeme(l) => compute_slow(&l.index, &l.automaton, state),
            Self::Machine(run) => run.mask_slow(state),
            Self::Pair(pair) => pair.mask_slow(state),
        }
    }

    /// Whether the states should be given up for those of a fresh engine.
    pub(crate) fn is_retired(&self) -> bool {
        match self {
            Self::Lexeme(_) => false,
            Self::Machine(run) => run.is_retired(),
            Self::Pair(pair) => pair.is_retired(),
        }
    }

    /// Bytes after which it is retired; without a bound where it never is.
    pub(crate) fn max_bytes(&self) -> usize {
        match self {
            Self::Lexeme(_) => usize::MAX,
            Self::Machine(run) => run.max_bytes(),
            Self::Pair(pair) => pair.max_bytes(),
        }
    }

    /// Tells engines apart.
    pub(crate) fn address(&self) -> usize {
        match self {
            Self::Lexeme(l) => Arc::as_ptr(l) as usize,
            Self::Machine(run) => Arc::as_ptr(run) as usize,
            Self::Pair(pair) => Arc::as_ptr(pair) as usize,
        }
    }

    /// The engine's number, never given twice in a process: with it a state id is one of its kind.
    pub(crate) fn serial(&self) -> u64 {
        match self {
            Self::Lexeme(l) => l.serial,
            Self::Machine(run) => run.serial,
            Self::Pair(pair) => pair.serial,
        }
    }

    pub(crate) fn masks(&self) -> (usize, usize) {
        match self {
            Self::Lexeme(l) => l.cache.size(),
            Self::Machine(run) => run.masks(),
            Self::Pair(pair) => pair.masks(),
        }
    }

    pub(crate) fn size(&self) -> Result<AutomatonSize> {
        match self {
            Self::Lexeme(l) => l.automaton.size(),
            Self::Machine(run) => run.size(),
            Self::Pair(pair) => pair.size(),
        }
    }
}

/// How engines are made.
#[derive(Debug)]
pub(crate) enum Maker {
    Lexeme(Arc<Lexeme>),
    Machine(Machine),
    Pair(PairMaker),
}

impl Maker {
    /// The engine for new texts.
    pub(crate) fn engine(&self) -> Engine {
        match self {
            Self::Lexeme(l) => Engine::Lexeme(Arc::clone(l)),
            Self::Machine(m) => Engine::Machine(m.run()),
            Self::Pair(pair) => Engine::Pair(pair.pair()),
        }
    }
}

/// The next engine's number.
pub(crate) fn next_serial() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Whether `TRIVIUM_MASK_SLOW` is set to something but 0: every mask is then computed by definition,
/// one token alone after the other, and none is kept. For finding defects. Read once.
pub(crate) fn is_slow() -> bool {
    static SLOW: OnceLock<bool> = OnceLock::new();
    *SLOW.get_or_init(|| {
        #[allow(clippy::disallowed_methods)] // the one place
        let set = std::env::var("TRIVIUM_MASK_SLOW");
        set.is_ok_and(|v| !matches!(v.trim(), "" | "0"))
    })
}
