//! The compiled grammar: immutable to its users, shared by all of its matchers.

use crate::automata::dfa::{Automaton, AutomatonSize};
use crate::automata::expr::{Arena, EMPTY};
use crate::automata::table::{DEAD, StateId};
use crate::error::{Error, Result};
use crate::limits::{CompileLimits, MOST_STATES};
use crate::mask::cache::{Mask, MaskCache};
use crate::mask::index::TokenIndex;
use crate::mask::{compute, compute_slow};
use crate::matcher::Matcher;
use crate::regex::{self, Dialect};
use rustc_hash::FxHashSet;
use std::sync::Arc;
use std::time::Instant;
use trivium_core::{Error as Core, Vocabulary};

/// What a grammar was made from.
#[derive(Debug)]
struct Source {
    kind: &'static str,
    text: String,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) index: Arc<TokenIndex>,
    pub(crate) automaton: Automaton,
    cache: MaskCache,
    source: Source,
}

impl Inner {
    pub(crate) fn vocab(&self) -> &Arc<Vocabulary> {
        &self.index.vocab
    }

    /// The mask of a live state, from the cache or computed and kept.
    pub(crate) fn mask(&self, state: StateId) -> Result<Arc<Mask>> {
        if let Some(mask) = self.cache.get(state)? {
            return Ok(mask);
        }
        let mask = Arc::new(compute(&self.index, &self.automaton, state)?);
        self.cache.put(state, Arc::clone(&mask))?;
        Ok(mask)
    }

    /// The mask of a live state if it is at hand.
    pub(crate) fn cached(&self, state: StateId) -> Result<Option<Arc<Mask>>> {
        self.cache.get(state)
    }

    pub(crate) fn mask_slow(&self, state: StateId) -> Result<Vec<u32>> {
        compute_slow(&self.index, &self.automaton, state)
    }
}

/// What a grammar guarantees and what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The front end: `regex` or `choices`.
    pub kind: &'static str,
    /// Every text that may end is in the language.
    pub sound: bool,
    /// Every text of the language is reachable, by every tokenisation.
    pub complete: bool,
    /// From every reachable state a finite completion exists *in tokens*. False if the vocabulary
    /// lacks single bytes: completions then exist as bytes, but are not proven to be spellable.
    pub no_dead_end: bool,
    /// What was weakened; empty for regular expressions.
    pub relaxed: Vec<String>,
    /// What the user should know.
    pub warnings: Vec<String>,
    /// The automaton so far.
    pub automaton: AutomatonSize,
    /// Number and bytes of cached masks.
    pub masks: (usize, usize),
    /// Number and bytes of the vocabulary's slices, shared with other grammars.
    pub slices: (usize, usize),
}

/// How far a text gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Bytes read before the first that no text of the language has there.
    pub accepted: usize,
    /// Whether the whole prefix was read.
    pub viable: bool,
    /// Whether the part read is a complete text.
    pub accepting: bool,
    /// Ranges of bytes that may follow the part read.
    pub next_bytes: Vec<(u8, u8)>,
}

/// A compiled grammar over one vocabulary. Cloning shares it.
///
/// Compiling costs time proportional to the pattern; states and masks are made when texts reach
/// them, and kept for all matchers.
#[derive(Debug, Clone)]
pub struct GrammarMask {
    inner: Arc<Inner>,
}

impl GrammarMask {
    /// A grammar from a regular expression: the whole text must match (`full`), or contain a match.
    ///
    /// # Errors
    /// `InvalidGrammar` with an offset; `UnsupportedPattern` for dialects and constructs that are not
    /// served; `Unsatisfiable` if no text matches; `LimitExceeded` over a budget.
    pub fn regex(
        pattern: &str,
        vocab: &Arc<Vocabulary>,
        dialect: Dialect,
        full: bool,
        limits: CompileLimits,
    ) -> Result<Self> {
        let deadline = Instant::now().checked_add(limits.max_time);
        let mut arena = Arena::new(limits.max_bytes);
        let expr = regex::compile(&mut arena, pattern, dialect, full, &limits)?;
        let kind = if full { "regex" } else { "regex search" };
        let source = Source { kind, text: pattern.to_owned() };
        Self::build(arena, expr, vocab, source, limits, deadline)
    }

    /// A grammar of exactly the given texts.
    ///
    /// # Errors
    /// `Unsatisfiable` for an empty list; `LimitExceeded` over a budget.
    pub fn choices<S: AsRef<str>>(
        texts: &[S],
        vocab: &Arc<Vocabulary>,
        limits: CompileLimits,
    ) -> Result<Self> {
        let deadline = Instant::now().checked_add(limits.max_time);
        let mut arena = Arena::new(limits.max_bytes);
        let expr = crate::choices::lower(&mut arena, texts);
        let source = Source { kind: "choices", text: format!("{} texts", texts.len()) };
        Self::build(arena, expr, vocab, source, limits, deadline)
    }

    fn build(
        arena: Arena,
        expr: u32,
        vocab: &Arc<Vocabulary>,
        source: Source,
        limits: CompileLimits,
        deadline: Option<Instant>,
    ) -> Result<Self> {
        if limits.max_states > MOST_STATES {
            let why = format!("{} is above {MOST_STATES}", limits.max_states);
            return Err(Core::input("max_states", why).into());
        }
        if deadline.is_some_and(|d| Instant::now() > d) {
            let ms = limits.max_time.as_millis() as u64;
            return Err(Error::limit("max_ms", ms + 1, ms));
        }
        if arena.memory() > limits.max_bytes {
            let (value, budget) = (arena.memory() as u64, limits.max_bytes as u64);
            return Err(Error::limit("max_bytes", value, budget));
        }
        let none = expr == EMPTY;
        let automaton = Automaton::new(arena, expr, limits, deadline)?;
        if none || automaton.start() == DEAD {
            return Err(Error::Unsatisfiable {
                what: format!("{} {:?}", source.kind, source.text),
                why: "its parts exclude each other, or there are none".into(),
            });
        }
        let index = TokenIndex::of(vocab)?;
        let cache = MaskCache::new(limits.mask_bytes);
        Ok(Self { inner: Arc::new(Inner { index, automaton, cache, source }) })
    }

    /// A matcher at the empty text. O(1).
    pub fn matcher(&self) -> Matcher {
        Matcher::new(Arc::clone(&self.inner))
    }

    /// The vocabulary.
    pub fn vocab(&self) -> &Arc<Vocabulary> {
        self.inner.vocab()
    }

    /// Whether a whole text is in the language.
    ///
    /// # Errors
    /// `LimitExceeded` over a budget.
    pub fn matches(&self, text: &[u8]) -> Result<bool> {
        let automaton = &self.inner.automaton;
        automaton.accepting(automaton.walk(automaton.start(), text)?)
    }

    /// How far `prefix` gets and what may follow.
    ///
    /// # Errors
    /// `LimitExceeded` over a budget.
    pub fn explain(&self, prefix: &[u8]) -> Result<Explanation> {
        let automaton = &self.inner.automaton;
        let mut state = automaton.start();
        let mut accepted = 0;
        for &b in prefix {
            let next = automaton.row(state)?[usize::from(b)];
            if next == DEAD {
                break;
            }
            state = next;
            accepted += 1;
        }
        let row = automaton.row(state)?;
        let mut next_bytes: Vec<(u8, u8)> = Vec::new();
        for b in (0..=255u8).filter(|&b| row[usize::from(b)] != DEAD) {
            match next_bytes.last_mut() {
                Some(l) if l.1.checked_add(1) == Some(b) => l.1 = b,
                _ => next_bytes.push((b, b)),
            }
        }
        Ok(Explanation {
            accepted,
            viable: accepted == prefix.len(),
            accepting: automaton.accepting(state)?,
            next_bytes,
        })
    }

    /// A shortest text of the language that begins with `prefix`; `None` if there is none. The
    /// witness of guarantee D, found breadth first.
    ///
    /// # Errors
    /// `LimitExceeded` over a budget: the search makes the states it looks at.
    pub fn completion(&self, prefix: &[u8]) -> Result<Option<Vec<u8>>> {
        let automaton = &self.inner.automaton;
        let start = automaton.walk(automaton.start(), prefix)?;
        if start == DEAD {
            return Ok(None);
        }
        let mut seen: Vec<(StateId, usize, u8)> = vec![(start, usize::MAX, 0)];
        let mut known: FxHashSet<StateId> = FxHashSet::default();
        known.insert(start);
        let mut i = 0;
        while let Some(&(state, ..)) = seen.get(i) {
            if automaton.accepting(state)? {
                let mut tail = Vec::new();
                let mut at = i;
                while let Some(&(_, from, byte)) = seen.get(at)
                    && from != usize::MAX
                {
                    tail.push(byte);
                    at = from;
                }
                let text = prefix.iter().copied().chain(tail.into_iter().rev()).collect();
                return Ok(Some(text));
            }
            let row = automaton.row(state)?;
            for b in 0..=255u8 {
                let to = row[usize::from(b)];
                if to != DEAD && known.insert(to) {
                    seen.push((to, i, b));
                }
            }
            i += 1;
        }
        Err(Error::internal("a live state without a completion"))
    }

    /// Guarantees and sizes.
    ///
    /// # Errors
    /// `Internal` if an earlier call panicked.
    pub fn report(&self) -> Result<Report> {
        let spells = self.inner.index.spells_all;
        let warnings = if spells {
            Vec::new()
        } else {
            vec![
                "the vocabulary lacks tokens for some single bytes: a text may not be spellable"
                    .to_owned(),
            ]
        };
        Ok(Report {
            kind: self.inner.source.kind,
            sound: true,
            complete: true,
            no_dead_end: spells,
            relaxed: Vec::new(),
            warnings,
            automaton: self.inner.automaton.size()?,
            masks: self.inner.cache.size(),
            slices: self.inner.index.slices(),
        })
    }
}
