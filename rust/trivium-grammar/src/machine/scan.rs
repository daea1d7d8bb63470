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

mod differ;

use crate::automata::dfa::Automaton;
use crate::automata::expr::Arena;
pub(super) use crate::automata::markers::TERMINALS;
use crate::automata::table::{DEAD, StateId};
use crate::error::Result;
use crate::mask::cache::Layer;
use crate::mask::flat::{Flat, Visit};
use crate::mask::index::{LONG, TokenIndex};
use crate::mask::slice::Slice;
use crate::mask::sliced;
use crate::mask::words::{Children, Purpose, Words};
use differ::differ;
use std::sync::{Arc, OnceLock};
use trivium_core::TokenId;

/// Whether a state's markers are those of longest-match terminals.
pub(super) fn is_greedy(markers: &[u32]) -> bool {
    markers.first().is_some_and(|&m| m >= TERMINALS)
}

/// The rests that begin with one byte.
#[derive(Debug)]
struct Bucket {
    byte: u8,
    /// Nodes of the whole trie whose byte is this one.
    parts: Vec<u32>,
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
pub(crate) struct Scan {
    pub(super) inner: Arc<Layer>,
    pub(super) rests: Vec<Rests>,
    late: OnceLock<Box<[Late]>>,
}

/// A long token in a state whose length bound was loosened. With at least `sure` characters of room (and
/// the slack) the bound makes no difference; with less than `need` the token does not fit.
#[derive(Debug, Clone, Copy)]
struct Late {
    token: TokenId,
    sure: u32,
    need: u32,
}

/// The scan of a state, perhaps that of the state without its length bound.
#[derive(Debug, Clone)]
pub(super) struct Scanned {
    pub(super) scan: Arc<Scan>,
    pub(super) sole: Option<u32>,
    /// Tokens that the bound may refuse, sorted; and those of them that have to be tried.
    pub(super) late: Arc<[TokenId]>,
    pub(super) open: Arc<[TokenId]>,
}

impl Scanned {
    pub(super) fn new(index: &TokenIndex, automaton: &Automaton, state: StateId) -> Result<Self> {
        if let Some(whole) = automaton.unrefused(state)?
            && let Some((mut late, mut open)) = differ(index, automaton, state, whole)?
        {
            let all = Self::bounded(index, automaton, whole)?;
            late.extend_from_slice(&all.late);
            late.sort_unstable();
            late.dedup();
            open.extend_from_slice(&all.open);
            return Ok(Self { late: late.into(), open: open.into(), ..all });
        }
        Self::bounded(index, automaton, state)
    }

    /// The scan of a state, without its length bound if that is far away.
    fn bounded(index: &TokenIndex, automaton: &Automaton, state: StateId) -> Result<Self> {
        let Some((loose, room, slack)) = automaton.loosen(state, LONG as u32)? else {
            let (scan, sole) = index.scan(automaton, state)?;
            return Ok(Self { scan, sole, late: Arc::from([]), open: Arc::from([]) });
        };
        let (scan, sole) = index.scan(automaton, loose)?;
        let known = if let Some(known) = scan.late.get() {
            known
        } else {
            let found = Late::all(index, automaton, loose)?;
            index.grow(found.len() * size_of::<Late>());
            scan.late.get_or_init(|| found)
        };
        let late = || known.iter().filter(|l| l.sure.saturating_add(slack) > room);
        let open = late().filter(|l| l.need <= room).map(|l| l.token).collect();
        let late = late().map(|l| l.token).collect();
        Ok(Self { scan, sole, late, open })
    }
}

impl Late {
    /// The long tokens that live in a state, or complete a lexeme in it.
    fn all(index: &TokenIndex, automaton: &Automaton, state: StateId) -> Result<Box<[Self]>> {
        let mut out = Vec::new();
        for &token in index.long_tokens() {
            let bytes = index.vocab.token(token);
            let (mut at, mut read, mut complete) = (state, 0, false);
            for &b in bytes {
                let to = automaton.row(at)?[usize::from(b)];
                if to == DEAD {
                    break;
                }
                (at, read) = (to, read + 1);
                complete |= !automaton.markers(at)?.is_empty();
            }
            if read < bytes.len() && !complete {
                continue;
            }
            // The characters of a token that is all string are counted, otherwise its bytes.
            let raw = !bytes.iter().any(|b| matches!(b, b'"' | b'\\'));
            let chars = bytes.iter().filter(|&&b| b & 0xc0 != 0x80).count() as u32;
            let (sure, need) =
                if raw && read == bytes.len() { (chars, chars) } else { (read as u32, 0) };
            out.push(Self { token, sure, need });
        }
        Ok(out.into())
    }
}

impl Scan {
    /// Scans the vocabulary from a state.
    pub(crate) fn new(index: &TokenIndex, automaton: &Automaton, state: StateId) -> Result<Self> {
        let words = |arena: &Arena, e| Words::new(&index.flat, arena, e, Purpose::Scan);
        if let Some(words) = automaton.with_residual(state, words)? {
            let tokens = words.tokens.into_iter().map(|t| t.1).collect();
            let inner = Arc::new(Layer::new(Vec::new(), tokens, index.words()));
            let rests = rests(words.rests);
            return Ok(Self { inner, rests, late: OnceLock::new() });
        }
        Self::walked(index, automaton, state)
    }

    /// The same by the automaton.
    fn walked(index: &TokenIndex, automaton: &Automaton, state: StateId) -> Result<Self> {
        let mut scanner =
            Scanner { index, automaton, slices: Vec::new(), tokens: Vec::new(), rests: Vec::new() };
        // A longest-match terminal that is complete already is left by a byte that it cannot take.
        if is_greedy(automaton.markers(state)?) {
            scanner.leave(0, state)?;
        }
        if !scanner.shortcut(0, state)? {
            index.flat.scan(&index.flat, 0, (automaton, state), &mut scanner)?;
        }
        let Scanner { slices, tokens, rests, .. } = scanner;
        let inner = Arc::new(Layer::new(slices, tokens, index.words()));
        Ok(Self { inner, rests: self::rests(rests), late: OnceLock::new() })
    }

    /// Calls `walk` with each trie of rests whose first byte `wanted` accepts: the trie and the node
    /// of that byte.
    pub(super) fn each(
        index: &TokenIndex,
        rests: &Rests,
        wanted: &mut dyn FnMut(u8) -> Result<bool>,
        walk: &mut dyn FnMut(&Flat, usize) -> Result<()>,
    ) -> Result<()> {
        for bucket in &rests.buckets {
            if !wanted(bucket.byte)? {
                continue;
            }
            if let [node] = bucket.parts[..] {
                walk(&index.flat, node as usize)?;
            } else {
                let make = || {
                    let merged = index.flat.merge(&bucket.parts);
                    index.grow(merged.memory());
                    merged
                };
                walk(bucket.merged.get_or_init(make), 1)?;
            }
        }
        Ok(())
    }

    /// Bytes held, approximately; tries made later are not counted.
    pub(crate) fn memory(&self) -> usize {
        200 + self.inner.memory() + memory(&self.rests)
    }
}

/// Rests by markers, from the children of nodes where those are complete.
fn rests(found: Vec<(Box<[u32]>, Children)>) -> Vec<Rests> {
    found
        .into_iter()
        .map(|(markers, mut children)| {
            children.sort_unstable();
            let buckets = children
                .chunk_by(|a, b| a.0 == b.0)
                .map(|group| Bucket {
                    byte: group[0].0,
                    parts: group.iter().map(|c| c.1).collect(),
                    merged: OnceLock::new(),
                })
                .collect();
            Rests { markers, buckets }
        })
        .collect()
}

/// Bytes of rests, approximately.
fn memory(rests: &[Rests]) -> usize {
    rests.iter().flat_map(|r| &r.buckets).map(|b| 80 + 4 * b.parts.len()).sum()
}

struct Scanner<'a> {
    index: &'a TokenIndex,
    automaton: &'a Automaton,
    slices: Vec<(Arc<Slice>, usize)>,
    tokens: Vec<TokenId>,
    /// By markers: children of nodes where they are complete.
    rests: Vec<(Box<[u32]>, Children)>,
}

impl Scanner<'_> {
    fn leave(&mut self, node: usize, state: StateId) -> Result<()> {
        let markers = self.automaton.markers(state)?;
        let row = is_greedy(markers).then(|| self.automaton.row(state)).transpose()?;
        let at = self.rests.iter().position(|r| *r.0 == *markers).unwrap_or_else(|| {
            self.rests.push((markers.into(), Vec::new()));
            self.rests.len() - 1
        });
        let children = self.index.flat.children(node);
        let left = children.filter(|c| row.is_none_or(|r| r[usize::from(c.0)] == DEAD));
        self.rests[at].1.extend(left.map(|(byte, child)| (byte, child as u32)));
        Ok(())
    }
}

impl Visit for Scanner<'_> {
    fn token(&mut self, token: TokenId, _: StateId) {
        self.tokens.push(token);
    }

    fn inner(&mut self, node: usize, state: StateId) -> Result<()> {
        if self.automaton.markers(state)?.is_empty() {
            return Ok(());
        }
        self.leave(node, state)
    }

    fn shortcut(&mut self, node: usize, state: StateId) -> Result<bool> {
        // The slice leaves out the node itself, where the lexeme may be complete.
        if node != 0 && !self.automaton.markers(state)?.is_empty() {
            return Ok(false);
        }
        let Some(found) = sliced(self.index, self.automaton, node, state)? else {
            return Ok(false);
        };
        self.tokens.extend_from_slice(&found.tokens);
        if let Some(row) = found.row {
            self.slices.push((Arc::clone(&found.slice), row));
        }
        let whole = &self.index.flat;
        found.slice.rest.scan(whole, 0, (self.automaton, state), self)?;
        Ok(true)
    }
}

/// Tokens inside keys, and the keys (as bits) that they leave possible.
pub(super) type Inner = (Arc<[u64]>, Box<[TokenId]>);

/// What the vocabulary can do in the declared keys of an object, of which some are offered.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) inner: Vec<Inner>,
    pub(super) rests: Vec<Rests>,
}

impl Keys {
    pub(super) fn new(index: &TokenIndex, automaton: &Automaton, state: StateId) -> Result<Self> {
        let words = |arena: &Arena, e| Words::new(&index.flat, arena, e, Purpose::ByMarker);
        if let Some(words) = automaton.with_residual(state, words)? {
            let mut tokens = words.tokens;
            tokens.sort_unstable();
            tokens.dedup();
            let inner = tokens
                .chunk_by(|a, b| a.0 == b.0)
                .map(|group| {
                    let key = group[0].0 as usize;
                    let mut bits = vec![0u64; key / 64 + 1];
                    bits[key / 64] = 1 << (key % 64);
                    (bits.into(), group.iter().map(|t| t.1).collect())
                })
                .collect();
            return Ok(Self { inner, rests: rests(words.rests) });
        }
        let mut ends = Ends::default();
        index.flat.scan(&index.flat, 0, (automaton, state), &mut ends)?;
        ends.found.sort_unstable();
        let mut inner = Vec::new();
        for group in ends.found.chunk_by(|a, b| a.0 == b.0) {
            let tokens = group.iter().map(|e| e.1).collect();
            inner.push((automaton.reach(group[0].0)?, tokens));
        }
        Ok(Self { inner, rests: Scan::walked(index, automaton, state)?.rests })
    }

    /// Bytes held, approximately.
    pub(super) fn memory(&self) -> usize {
        let tokens: usize = self.inner.iter().map(|i| 64 + 4 * i.1.len()).sum();
        tokens + memory(&self.rests)
    }
}

/// Tokens by the state behind them.
#[derive(Debug, Default)]
struct Ends {
    found: Vec<(StateId, TokenId)>,
}

impl Visit for Ends {
    fn token(&mut self, token: TokenId, state: StateId) {
        self.found.push((state, token));
    }

    fn inner(&mut self, _: usize, _: StateId) -> Result<()> {
        Ok(())
    }

    fn shortcut(&mut self, _: usize, _: StateId) -> Result<bool> {
        Ok(false)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
