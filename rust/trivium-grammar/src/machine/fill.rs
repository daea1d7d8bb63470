//! The mask of a state from what its threads may read.
//!
//! ```text
//! M(threads) = ⋃ inner(q) \ bad(shadow)  ∪  { x·u : x completes the lexeme, u goes on after it }
//! ```
//!
//! `inner` and the rests `u` are the vocabulary's ([`super::scan`]); whether `u` goes on is read off by
//! walking the trie of rests with the threads behind the lexeme.

use super::core::{Core, Cx};
use super::program::Read;
use super::run::Inside;
use super::scan::{Keys, Rests, Scan, Scanned};
use super::text;
use super::thread::{Exit, SPECIAL, Thread, holds, intersects};
use crate::automata::expr::Arena;
use crate::automata::table::{DEAD, StateId};
use crate::error::Result;
use crate::mask::cache::{Layer, Mask, Op};
use crate::mask::flat::Flat;
use crate::mask::words::{Purpose, Words};
use std::sync::Arc;
use trivium_core::TokenId;

/// What one thread may read, and what it must not complete; the lists are sorted.
struct Part {
    layer: Arc<Layer>,
    set: Vec<TokenId>,
    bad: Arc<[TokenId]>,
}

impl Inside {
    pub(super) fn forget_masks(&mut self) {
        for state in &mut self.states {
            state.mask = None;
        }
        self.mask_bytes = 0;
        self.masks = 0;
    }

    pub(super) fn mask(&mut self, cx: Cx<'_>, state: StateId) -> Result<Arc<Mask>> {
        let threads = Arc::clone(&self.states[state as usize].threads);
        // What was read of a key matters only if the same token completes a second one.
        let mut alike: Vec<Thread> = threads.to_vec();
        for t in &mut alike {
            t.text = t.text.min(text::UNKNOWN);
        }
        let common = if alike[..] == threads[..] { state } else { self.intern(cx, alike)? };
        if let Some(mask) = self.states[common as usize].mask.clone() {
            self.states[state as usize].mask = Some(Arc::clone(&mask));
            return Ok(mask);
        }
        let (mask, exact) = self.compute(cx, state, &threads)?;
        let mask = Arc::new(mask);
        self.mask_bytes += mask.memory();
        self.masks += 1;
        if exact {
            self.states[common as usize].mask = Some(Arc::clone(&mask));
        }
        self.states[state as usize].mask = Some(Arc::clone(&mask));
        Ok(mask)
    }

    /// The mask of threads; false if it holds for this state alone, not for all that differ in the
    /// text of a key.
    fn compute(&mut self, cx: Cx<'_>, state: StateId, threads: &[Thread]) -> Result<(Mask, bool)> {
        let words = cx.index.words();
        let mut open = Vec::new();
        let mut ops = Vec::new();
        let (shadowed, plain): (Vec<Thread>, Vec<Thread>) = threads
            .iter()
            .filter(|t| t.reads_text())
            .partition(|t| t.shadow != DEAD && !t.is_offer());
        let mut parts: Vec<Part> = Vec::new();
        let mut others = Vec::new();
        for &t in shadowed.iter().chain(&plain) {
            // Among several declared keys each has its tokens; where one is left its scan is shared.
            if t.is_offer() && cx.automaton.sole(t.q)?.is_none() {
                others.push((t, None));
                continue;
            }
            let Scanned { scan, sole, late, open: tried } = self.scan(cx, t.q)?;
            if late.is_empty() && (t.shadow == DEAD || t.is_offer()) {
                others.push((t, Some((scan, sole))));
                continue;
            }
            let mut set = Vec::new();
            self.cross(cx, (&scan.rests, sole), t, &mut set, &mut open)?;
            set.sort_unstable();
            open.extend_from_slice(&tried);
            let bad = if t.shadow == DEAD || t.is_offer() {
                late
            } else if late.is_empty() {
                self.bad(cx, t.shadow)?
            } else {
                let mut both = [&*self.bad(cx, t.shadow)?, &*late].concat();
                both.sort_unstable();
                both.into()
            };
            parts.push(Part { layer: Arc::clone(&scan.inner), set, bad });
        }
        // A token that one must not complete may be another's.
        let mut clear: Vec<TokenId> = parts.iter().flat_map(|p| p.bad.iter().copied()).collect();
        if parts.len() > 1 && parts.iter().any(|p| p.bad != parts[0].bad) {
            clear.sort_unstable();
            clear.dedup();
            clear.retain(|&token| {
                !parts.iter().any(|p| {
                    p.bad.binary_search(&token).is_err()
                        && (p.set.binary_search(&token).is_ok() || p.layer.holds(token))
                })
            });
        } else {
            clear.truncate(parts.first().map_or(0, |p| p.bad.len()));
        }
        for Part { layer, set, .. } in parts {
            ops.push(Op::Layer(layer));
            if !set.is_empty() {
                ops.push(Op::Set(set.into()));
            }
        }
        if !clear.is_empty() {
            ops.push(Op::Clear(clear.into()));
        }
        let mut set = Vec::new();
        for (t, scan) in others {
            if let Some((scan, sole)) = scan {
                self.cross(cx, (&scan.rests, sole), t, &mut set, &mut open)?;
                if !scan.inner.is_empty() {
                    ops.push(Op::Layer(Arc::clone(&scan.inner)));
                }
                continue;
            }
            let keys = self.keys(cx, t.q)?;
            self.cross(cx, (&keys.rests, None), t, &mut set, &mut open)?;
            let Some(offered) = self.core.offered(t) else { continue };
            for (reach, tokens) in &keys.inner {
                if intersects(reach, offered) {
                    set.extend_from_slice(tokens);
                }
            }
        }
        for t in self.at_rest(cx, threads)? {
            if t.q == SPECIAL
                && let Read::Special(ids) = &cx.program.steps[t.shadow as usize].read
            {
                set.extend_from_slice(ids);
            }
        }
        if self.states[state as usize].accepting {
            set.extend_from_slice(cx.index.vocab.eos());
        }
        let exact = open.is_empty();
        open.sort_unstable();
        open.dedup();
        for token in open {
            if self.allows(cx, state, token)? {
                set.push(token);
            }
        }
        set.sort_unstable();
        set.dedup();
        if !set.is_empty() {
            ops.push(Op::Set(set.into()));
        }
        Ok((Mask::steps(ops, words), exact))
    }

    fn scan(&mut self, cx: Cx<'_>, q: StateId) -> Result<Scanned> {
        if let Some(known) = self.scans.get(&q) {
            return Ok(known.clone());
        }
        let scan = Scanned::new(cx.index, cx.automaton, q)?;
        self.bytes += 64 + 4 * (scan.late.len() + scan.open.len());
        self.scans.insert(q, scan.clone());
        Ok(scan)
    }

    fn keys(&mut self, cx: Cx<'_>, q: StateId) -> Result<Arc<Keys>> {
        if let Some(known) = self.keys.get(&q) {
            return Ok(Arc::clone(known));
        }
        let keys = Arc::new(Keys::new(cx.index, cx.automaton, q)?);
        self.bytes += 64 + keys.memory();
        self.keys.insert(q, Arc::clone(&keys));
        Ok(keys)
    }

    /// Tokens that complete a key which may not be completed.
    fn bad(&mut self, cx: Cx<'_>, shadow: StateId) -> Result<Arc<[TokenId]>> {
        if let Some(known) = self.bad.get(&shadow) {
            return Ok(Arc::clone(known));
        }
        let mut out = Vec::new();
        let flat = &cx.index.flat;
        let words = |arena: &Arena, e| Words::new(flat, arena, e, Purpose::Ends);
        if let Some(words) = cx.automaton.with_residual(shadow, words)? {
            for node in words.ends {
                (node as usize..flat.end(node as usize))
                    .for_each(|n| flat.tokens_into(n, &mut out));
            }
            return Ok(self.keep_bad(shadow, out));
        }
        let mut path = vec![shadow; 257];
        let mut i = 1;
        while i < flat.end(0) {
            let (byte, depth, ends, end) = flat.at(i);
            let to = cx.automaton.row(path[usize::from(depth) - 1])?[usize::from(byte)];
            if to == DEAD {
                i = end;
                continue;
            }
            if cx.automaton.accepting(to)? {
                (i..end).for_each(|n| flat.tokens_into(n, &mut out));
                i = end;
                continue;
            }
            debug_assert!(!ends || depth > 0);
            path[usize::from(depth)] = to;
            i += 1;
        }
        Ok(self.keep_bad(shadow, out))
    }

    fn keep_bad(&mut self, shadow: StateId, mut tokens: Vec<TokenId>) -> Arc<[TokenId]> {
        tokens.sort_unstable();
        let out: Arc<[TokenId]> = tokens.into();
        self.bytes += 40 + out.len() * 4;
        self.bad.insert(shadow, Arc::clone(&out));
        out
    }

    /// Appends the tokens that complete a thread's lexeme and go on after it; to `open` those that
    /// may complete one key twice.
    fn cross(
        &mut self,
        cx: Cx<'_>,
        (rests, sole): (&[Rests], Option<u32>),
        t: Thread,
        set: &mut Vec<TokenId>,
        open: &mut Vec<TokenId>,
    ) -> Result<()> {
        for rests in rests {
            let mut exits: Vec<Arc<Exit>> = Vec::new();
            let markers = sole.as_ref().map_or(&*rests.markers, std::slice::from_ref);
            for m in Core::best(cx, markers) {
                if self.core.offered(t).is_some_and(|set| !holds(set, m)) {
                    continue;
                }
                exits.push(self.core.exit(cx, t.stack, m, t.text.min(text::UNKNOWN))?);
            }
            let mut first: Vec<Thread> =
                exits.iter().flat_map(|e| e.threads.iter().copied()).collect();
            first.retain(|t| t.reads_text());
            if first.is_empty() {
                continue;
            }
            let doubt = exits.iter().any(|e| e.uncertain);
            let mut wanted = |byte: u8| -> Result<bool> {
                for t in &first {
                    if cx.automaton.row(t.q)?[usize::from(byte)] != DEAD {
                        return Ok(true);
                    }
                }
                Ok(false)
            };
            let mut walk = |flat: &Flat, top: usize| {
                self.cross_trie(cx, (flat, top), &first, doubt, set, open)
            };
            Scan::each(cx.index, rests, &mut wanted, &mut walk)?;
        }
        Ok(())
    }

    /// Walks the subtree of a node, its own byte first, from threads.
    fn cross_trie(
        &mut self,
        cx: Cx<'_>,
        (flat, top): (&Flat, usize),
        first: &[Thread],
        doubt: bool,
        set: &mut Vec<TokenId>,
        open: &mut Vec<TokenId>,
    ) -> Result<()> {
        let mut levels = std::mem::take(&mut self.levels);
        if levels.is_empty() {
            levels.push(Vec::new());
        }
        levels[0].clear();
        levels[0].extend_from_slice(first);
        let mut doubts = [false; 257];
        doubts[0] = doubt;
        let (_, base, ..) = flat.at(top);
        let end = flat.end(top);
        let mut i = top;
        while i < end {
            let (byte, depth, ends, below) = flat.at(i);
            let level = usize::from(depth - base);
            if levels.len() < level + 2 {
                levels.push(Vec::new());
            }
            let (before, after) = levels.split_at_mut(level + 1);
            let to = &mut after[0];
            to.clear();
            let mut doubt = doubts[level];
            for &t in &before[level] {
                doubt |= self.core.advance(cx, t, byte, to)?;
            }
            if to.len() > 1 {
                self.core.normalize(to);
            }
            if to.is_empty() {
                i = below;
                continue;
            }
            doubts[level + 1] = doubt;
            if ends {
                flat.tokens_into(i, if doubt { open } else { set });
            }
            i += 1;
        }
        self.levels = levels;
        Ok(())
    }
}
