//! What the vocabulary can do in one lexeme state, whatever stands around it.
//!
//! ```text
//! inner(q)     = { t : δ*(q, t) is live }                 the whole token inside the lexeme
//! rest(q, m)   = { u : x·u is a token, δ*(q, x) completes lexeme m, x ≠ ε, u ≠ ε }
//! ```
//!
//! Both depend on the residual language of `q` only. Tokens `x·u` with equal `u` act alike in every
//! context, so the rests are kept as tries over `u` that carry all of their tokens: 1,301 tokens of
//! the Llama 3 vocabulary hold the closing quote of a string, with 575 different rests. The tries are
//! made one first byte at a time, when a context first asks: after white space nearly every token
//! may follow, and few contexts want more than a quote or a bracket.
//!
//! Tokens that a slice sets are in `inner`, so their rests are not needed.

use crate::automata::dfa::Automaton;
use crate::automata::table::{DEAD, StateId};
use crate::error::Result;
use crate::mask::cache::Layer;
use crate::mask::flat::{Flat, Visit};
use crate::mask::index::TokenIndex;
use crate::mask::slice::Slice;
use rustc_hash::FxHashMap;
use std::sync::{Arc, OnceLock};
use trivium_core::TokenId;

/// First marker of longest-match terminals; those below are left by every accepting prefix.
pub(super) const TERMINALS: u32 = 1 << 20;

/// Whether a state's markers are those of longest-match terminals.
pub(super) fn is_greedy(markers: &[u32]) -> bool {
    markers.first().is_some_and(|&m| m >= TERMINALS)
}

/// A trie that nodes belong to.
#[derive(Debug, Clone)]
enum Home {
    Whole,
    Slice(Arc<Slice>),
}

impl Home {
    fn flat<'a>(&'a self, index: &'a TokenIndex) -> &'a Flat {
        match self {
            Self::Whole => &index.flat,
            Self::Slice(slice) => &slice.rest,
        }
    }
}

/// The rests that begin with one byte.
#[derive(Debug)]
struct Bucket {
    byte: u8,
    /// Nodes whose byte is this one, and their tries.
    parts: Vec<(u16, u32)>,
    merged: OnceLock<Flat>,
}

/// The rests after one set of lexemes.
#[derive(Debug)]
pub(super) struct Rests {
    pub(super) markers: Box<[u32]>,
    buckets: Vec<Bucket>,
}

/// See the module comment.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) inner: Arc<Layer>,
    homes: Vec<Home>,
    pub(super) rests: Vec<Rests>,
}

impl Scan {
    /// Scans the vocabulary from a state.
    pub(super) fn new(index: &TokenIndex, automaton: &Automaton, state: StateId) -> Result<Self> {
        let mut scanner = Scanner {
            index,
            automaton,
            slices: Vec::new(),
            tokens: Vec::new(),
            homes: vec![Home::Whole],
            home: 0,
            rests: FxHashMap::default(),
        };
        // A longest-match terminal that is complete already is left by a byte that it cannot take.
        if is_greedy(automaton.markers(state)?) {
            scanner.leave(&index.flat, 0, state)?;
        }
        if !scanner.sliced(0, state)? {
            index.flat.scan(automaton, state, &mut scanner)?;
        }
        let Scanner { slices, tokens, homes, rests, .. } = scanner;
        let mut rests: Vec<Rests> = rests
            .into_iter()
            .map(|(markers, buckets)| {
                let mut buckets: Vec<Bucket> = buckets
                    .into_iter()
                    .map(|(byte, parts)| Bucket { byte, parts, merged: OnceLock::new() })
                    .collect();
                buckets.sort_unstable_by_key(|b| b.byte);
                Rests { markers, buckets }
            })
            .collect();
        rests.sort_unstable_by(|a, b| a.markers.cmp(&b.markers));
        let rows = slices.iter().map(Arc::clone).collect();
        let inner = Arc::new(Layer::new(rows, tokens, index.words()));
        Ok(Self { inner, homes, rests })
    }

    /// Calls `walk` with each trie of rests whose first byte `wanted` accepts: the trie and the node
    /// of that byte.
    pub(super) fn each(
        &self,
        index: &TokenIndex,
        rests: &Rests,
        wanted: &mut dyn FnMut(u8) -> Result<bool>,
        walk: &mut dyn FnMut(&Flat, usize) -> Result<()>,
    ) -> Result<()> {
        for bucket in &rests.buckets {
            if !wanted(bucket.byte)? {
                continue;
            }
            if let [(home, node)] = bucket.parts[..] {
                walk(self.homes[usize::from(home)].flat(index), node as usize)?;
                continue;
            }
            let merged = bucket.merged.get_or_init(|| {
                let parts: Vec<(&Flat, usize)> = bucket
                    .parts
                    .iter()
                    .map(|&(h, n)| (self.homes[usize::from(h)].flat(index), n as usize))
                    .collect();
                Flat::merge(&parts)
            });
            walk(merged, 1)?;
        }
        Ok(())
    }

    /// Bytes held, approximately; tries made later are not counted.
    pub(super) fn memory(&self) -> usize {
        let rests: usize =
            self.rests.iter().flat_map(|r| &r.buckets).map(|b| 80 + 12 * b.parts.len()).sum();
        200 + self.inner.memory() + rests
    }
}

type Buckets = FxHashMap<u8, Vec<(u16, u32)>>;

struct Scanner<'a> {
    index: &'a TokenIndex,
    automaton: &'a Automaton,
    slices: Vec<Arc<Slice>>,
    tokens: Vec<TokenId>,
    homes: Vec<Home>,
    home: u16,
    rests: FxHashMap<Box<[u32]>, Buckets>,
}

impl Scanner<'_> {
    /// Sets the tokens below a node of the whole trie by its slice and scans the others.
    fn sliced(&mut self, node: u32, state: StateId) -> Result<bool> {
        let Some(run) = self.automaton.run(state)? else { return Ok(false) };
        if self.homes.len() > usize::from(u16::MAX) {
            return Ok(false);
        }
        let Some(slice) = self.index.slice(node, run)? else { return Ok(false) };
        self.slices.push(Arc::clone(&slice));
        self.homes.push(Home::Slice(Arc::clone(&slice)));
        let outside = std::mem::replace(&mut self.home, self.homes.len() as u16 - 1);
        slice.rest.scan(self.automaton, state, self)?;
        self.home = outside;
        Ok(true)
    }

    fn leave(&mut self, flat: &Flat, node: usize, state: StateId) -> Result<()> {
        let markers = self.automaton.markers(state)?;
        let row = is_greedy(markers).then(|| self.automaton.row(state)).transpose()?;
        if !self.rests.contains_key(markers) {
            self.rests.insert(markers.into(), Buckets::default());
        }
        let Some(buckets) = self.rests.get_mut(markers) else { return Ok(()) };
        for (byte, child) in flat.children(node) {
            if row.is_none_or(|r| r[usize::from(byte)] == DEAD) {
                buckets.entry(byte).or_default().push((self.home, child as u32));
            }
        }
        Ok(())
    }
}

impl Visit for Scanner<'_> {
    fn token(&mut self, token: TokenId) {
        self.tokens.push(token);
    }

    fn inner(&mut self, flat: &Flat, node: usize, state: StateId) -> Result<()> {
        if self.automaton.markers(state)?.is_empty() {
            return Ok(());
        }
        self.leave(flat, node, state)
    }

    fn shortcut(&mut self, node: u32, state: StateId) -> Result<bool> {
        // The slice leaves out the node itself, where the lexeme may be complete.
        if !self.automaton.markers(state)?.is_empty() {
            return Ok(false);
        }
        self.sliced(node, state)
    }
}
