//! One run of a program: interned states, their successors and their masks.
//!
//! A run only grows. When it passes its budget it is *retired*: the grammar starts a fresh one, and a
//! matcher that holds the old one moves over at its next commit by reading its tokens again. So state
//! ids stay valid as long as somebody holds the run, memory is bounded by the runs in use, and no
//! text is refused for its length.

use super::core::{Core, Cx};
use super::program::{Program, Read};
use super::scan::{Keys, Rests, Scan, is_greedy};
use super::text;
use super::thread::{END, Exit, SPECIAL, Thread, holds, intersects};
use crate::automata::dfa::{Automaton, AutomatonSize};
use crate::automata::expr::Arena;
use crate::automata::table::{DEAD, StateId};
use crate::error::{Error, Result};
use crate::limits::CompileLimits;
use crate::mask::cache::{Layer, Mask, Op};
use crate::mask::flat::Flat;
use crate::mask::index::TokenIndex;
use crate::mask::words::{Purpose, Words};
use rustc_hash::FxHashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use trivium_core::TokenId;

/// After an end-of-sequence token; the same number as the matcher's.
use crate::matcher::FINISHED;

/// Remembered steps; beyond it they are forgotten.
const MAX_STEPS: usize = 1 << 16;

#[derive(Debug)]
struct State {
    threads: Arc<[Thread]>,
    accepting: bool,
    mask: Option<Arc<Mask>>,
}

#[derive(Debug)]
struct Inside {
    core: Core,
    states: Vec<State>,
    index: FxHashMap<Arc<[Thread]>, StateId>,
    steps: FxHashMap<(StateId, TokenId), StateId>,
    scans: FxHashMap<StateId, (Arc<Scan>, Option<u32>)>,
    bad: FxHashMap<StateId, Arc<[TokenId]>>,
    keys: FxHashMap<StateId, Arc<Keys>>,
    /// Threads at each depth of a walk; kept for their capacity.
    levels: Vec<Vec<Thread>>,
    bytes: usize,
    mask_bytes: usize,
    masks: usize,
}

/// See the module comment.
#[derive(Debug)]
pub(crate) struct Run {
    program: Arc<Program>,
    index: Arc<TokenIndex>,
    automaton: Automaton,
    inside: Mutex<Inside>,
    limits: CompileLimits,
    start: StateId,
    retired: AtomicBool,
    /// The number of this engine.
    pub(crate) serial: u64,
}

impl Run {
    pub(crate) fn new(
        program: Arc<Program>,
        index: Arc<TokenIndex>,
        limits: CompileLimits,
    ) -> Result<Self> {
        let arena = program.arena.lock().map_err(|_| Error::internal("an arena is damaged"))?;
        let automaton = Automaton::of(arena.clone(), limits, None)?;
        drop(arena);
        automaton.mark();
        let inside = Inside {
            core: Core::new(),
            states: Vec::new(),
            index: FxHashMap::default(),
            steps: FxHashMap::default(),
            scans: FxHashMap::default(),
            bad: FxHashMap::default(),
            keys: FxHashMap::default(),
            levels: Vec::new(),
            bytes: 0,
            mask_bytes: 0,
            masks: 0,
        };
        let mut this = Self {
            program,
            index,
            automaton,
            inside: Mutex::new(inside),
            limits,
            start: DEAD,
            retired: AtomicBool::new(false),
            serial: crate::engine::next_serial(),
        };
        let start = {
            let cx = this.cx();
            let mut inside = this.lock()?;
            let dead = inside.intern(cx, Vec::new())?;
            debug_assert_eq!(dead, DEAD);
            let first = inside.core.start(cx)?;
            inside.intern(cx, first.threads.to_vec())?
        };
        this.start = start;
        Ok(this)
    }

    fn cx(&self) -> Cx<'_> {
        Cx { program: &self.program, automaton: &self.automaton, index: &self.index }
    }

    fn lock(&self) -> Result<MutexGuard<'_, Inside>> {
        self.inside.lock().map_err(|_| Error::internal("an earlier call panicked while reading"))
    }

    /// Whether a fresh run should take over.
    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }

    /// The state of the empty text; [`DEAD`] if there is none.
    pub(crate) fn start(&self) -> StateId {
        self.start
    }

    pub(crate) fn accepting(&self, state: StateId) -> Result<bool> {
        Ok(self.lock()?.states[state as usize].accepting)
    }

    /// The state after a token that is neither dead nor finished.
    pub(crate) fn step(&self, state: StateId, token: TokenId) -> Result<StateId> {
        let cx = self.cx();
        let mut inside = self.lock()?;
        if let Some(&to) = inside.steps.get(&(state, token)) {
            return Ok(to);
        }
        let to = inside.step(cx, state, token)?;
        if inside.steps.len() >= MAX_STEPS {
            inside.steps.clear();
        }
        inside.steps.insert((state, token), to);
        if inside.memory() > self.limits.max_bytes || self.automaton_is_full()? {
            self.retired.store(true, Ordering::Relaxed);
        }
        Ok(to)
    }

    fn automaton_is_full(&self) -> Result<bool> {
        let size = self.automaton.size()?;
        Ok(size.bytes > self.limits.max_bytes / 2 || size.states > self.limits.max_states / 2)
    }

    /// The state after bytes.
    pub(crate) fn walk(&self, state: StateId, bytes: &[u8]) -> Result<StateId> {
        let cx = self.cx();
        self.lock()?.walk(cx, state, bytes)
    }

    /// The bytes that keep a state alive.
    pub(crate) fn next_bytes(&self, state: StateId) -> Result<Vec<u8>> {
        let cx = self.cx();
        let mut inside = self.lock()?;
        let threads = Arc::clone(&inside.states[state as usize].threads);
        let mut out = Vec::new();
        for b in 0..=255 {
            let mut after = Vec::new();
            for &t in &*threads {
                inside.core.advance(cx, t, b, &mut after)?;
            }
            if !after.is_empty() {
                out.push(b);
            }
        }
        Ok(out)
    }

    /// The byte that must follow in a live state, if only one may. Text is tried first: where there
    /// is a choice two bytes answer.
    pub(crate) fn only_byte(&self, state: StateId) -> Result<Option<u8>> {
        let cx = self.cx();
        let mut inside = self.lock()?;
        let threads = Arc::clone(&inside.states[state as usize].threads);
        let mut only = None;
        let mut after = Vec::new();
        for b in (0x20..=0x7f).chain(0..0x20).chain(0x80..=0xff) {
            after.clear();
            for &t in &*threads {
                inside.core.advance(cx, t, b, &mut after)?;
            }
            if !after.is_empty() && only.replace(b).is_some() {
                return Ok(None);
            }
        }
        Ok(only)
    }

    /// The mask of a live state if it is at hand.
    pub(crate) fn cached(&self, state: StateId) -> Result<Option<Arc<Mask>>> {
        Ok(self.lock()?.states[state as usize].mask.clone())
    }

    /// The mask of a live state.
    pub(crate) fn mask(&self, state: StateId) -> Result<Arc<Mask>> {
        let cx = self.cx();
        let mut inside = self.lock()?;
        if let Some(mask) = &inside.states[state as usize].mask {
            return Ok(Arc::clone(mask));
        }
        let mask = inside.mask(cx, state)?;
        if inside.mask_bytes > self.limits.mask_bytes {
            inside.forget_masks();
        }
        Ok(mask)
    }

    /// The mask by definition: every token alone, no caches of masks.
    pub(crate) fn mask_slow(&self, state: StateId) -> Result<Vec<u32>> {
        let cx = self.cx();
        let vocab = &self.index.vocab;
        let mut inside = self.lock()?;
        let mut row = vec![0; self.index.words()];
        for token in 0..vocab.len() as TokenId {
            if inside.allows(cx, state, token)? {
                trivium_core::mask::set(&mut row, token);
            }
        }
        Ok(row)
    }

    /// Number and bytes of masks kept.
    pub(crate) fn masks(&self) -> (usize, usize) {
        self.lock().map_or((0, 0), |i| (i.masks, i.mask_bytes))
    }

    /// States of texts and of lexemes, and bytes held.
    pub(crate) fn size(&self) -> Result<AutomatonSize> {
        let inside = self.lock()?;
        let lexemes = self.automaton.size()?;
        Ok(AutomatonSize {
            states: inside.states.len() + lexemes.states,
            expanded: lexemes.expanded,
            bytes: inside.memory() + lexemes.bytes,
        })
    }
}

impl Inside {
    fn memory(&self) -> usize {
        self.bytes + self.core.memory() + self.steps.len() * 20
    }

    fn intern(&mut self, cx: Cx<'_>, mut threads: Vec<Thread>) -> Result<StateId> {
        self.core.normalize(&mut threads);
        if let Some(&known) = self.index.get(&threads[..]) {
            return Ok(known);
        }
        let id = self.states.len() as StateId;
        if id == FINISHED - 1 {
            return Err(Error::limit("states", id.into(), id.into()));
        }
        let mut accepting = threads.contains(&END);
        for t in threads.iter().filter(|t| t.reads_text()) {
            let markers = cx.automaton.markers(t.q)?;
            if is_greedy(markers) {
                for m in Core::best(cx, markers) {
                    accepting |= self.core.exit(cx, t.stack, m, text::NONE)?.threads.contains(&END);
                }
            }
        }
        let threads: Arc<[Thread]> = threads.into();
        self.bytes += 120 + size_of_val(&*threads);
        self.states.push(State { threads: Arc::clone(&threads), accepting, mask: None });
        self.index.insert(threads, id);
        Ok(id)
    }

    fn step(&mut self, cx: Cx<'_>, state: StateId, token: TokenId) -> Result<StateId> {
        let vocab = &cx.index.vocab;
        if vocab.is_eos(token) && self.states[state as usize].accepting {
            return Ok(FINISHED);
        }
        match vocab.token(token) {
            [] => {
                let after = self.special(cx, state, token)?;
                self.intern(cx, after)
            }
            bytes if !vocab.is_eos(token) => self.walk(cx, state, bytes),
            _ => Ok(DEAD),
        }
    }

    /// The threads after a special token.
    fn special(&mut self, cx: Cx<'_>, state: StateId, token: TokenId) -> Result<Vec<Thread>> {
        let threads = Arc::clone(&self.states[state as usize].threads);
        let mut out = Vec::new();
        for t in self.at_rest(cx, &threads)? {
            if t.q == SPECIAL
                && let Read::Special(ids) = &cx.program.steps[t.shadow as usize].read
                && ids.contains(&token)
            {
                out.extend_from_slice(&self.core.exit_special(cx, t.shadow, t.stack)?.threads);
            }
        }
        Ok(out)
    }

    /// The threads and, where a longest-match terminal is complete, those behind it.
    fn at_rest(&mut self, cx: Cx<'_>, threads: &[Thread]) -> Result<Vec<Thread>> {
        let mut all = threads.to_vec();
        for t in threads.iter().filter(|t| t.reads_text()) {
            let markers = cx.automaton.markers(t.q)?;
            if is_greedy(markers) {
                for m in Core::best(cx, markers) {
                    let exit = self.core.exit(cx, t.stack, m, text::NONE)?;
                    all.extend_from_slice(&exit.threads);
                }
            }
        }
        Ok(all)
    }

    fn walk(&mut self, cx: Cx<'_>, state: StateId, bytes: &[u8]) -> Result<StateId> {
        let threads = self.after(cx, state, bytes)?;
        self.intern(cx, threads)
    }

    /// The threads after bytes.
    fn after(&mut self, cx: Cx<'_>, state: StateId, bytes: &[u8]) -> Result<Vec<Thread>> {
        let mut now = self.states[state as usize].threads.to_vec();
        let mut next = Vec::new();
        for &b in bytes {
            // One thread inside a lexeme needs no more than its row.
            if let [t] = &mut now[..]
                && t.reads_text()
                && t.shadow == DEAD
                && t.text == text::NONE
            {
                let to = cx.automaton.step(t.q, b)?;
                if to != DEAD && cx.automaton.markers(to)?.is_empty() {
                    t.q = to;
                    continue;
                }
            }
            next.clear();
            for &t in &now {
                self.core.advance(cx, t, b, &mut next)?;
            }
            self.core.normalize(&mut next);
            std::mem::swap(&mut now, &mut next);
            if now.is_empty() {
                break;
            }
        }
        Ok(now)
    }

    fn allows(&mut self, cx: Cx<'_>, state: StateId, token: TokenId) -> Result<bool> {
        let vocab = &cx.index.vocab;
        if vocab.is_eos(token) && self.states[state as usize].accepting {
            return Ok(true);
        }
        match vocab.token(token) {
            [] => Ok(!self.special(cx, state, token)?.is_empty()),
            bytes => Ok(!vocab.is_eos(token) && !self.after(cx, state, bytes)?.is_empty()),
        }
    }

    // ---- masks -----------------------------------------------------------------------------------

    fn forget_masks(&mut self) {
        for state in &mut self.states {
            state.mask = None;
        }
        self.mask_bytes = 0;
        self.masks = 0;
    }

    fn mask(&mut self, cx: Cx<'_>, state: StateId) -> Result<Arc<Mask>> {
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
        // What each may read, and what it must not complete.
        let mut parts: Vec<(Arc<Layer>, Vec<TokenId>, Arc<[TokenId]>)> = Vec::new();
        for &t in &shadowed {
            let mut set = Vec::new();
            let (scan, sole) = self.scan(cx, t.q)?;
            self.cross(cx, (&scan.rests, sole), t, &mut set, &mut open)?;
            set.sort_unstable();
            parts.push((Arc::clone(&scan.inner), set, self.bad(cx, t.shadow)?));
        }
        // A token that one must not complete may be another's.
        let mut clear: Vec<TokenId> = parts.iter().flat_map(|p| p.2.iter().copied()).collect();
        if parts.len() > 1 && parts.iter().any(|p| p.2 != parts[0].2) {
            clear.sort_unstable();
            clear.dedup();
            clear.retain(|&token| {
                !parts.iter().any(|(layer, set, bad)| {
                    bad.binary_search(&token).is_err()
                        && (set.binary_search(&token).is_ok() || layer.holds(token))
                })
            });
        } else {
            clear.truncate(parts.first().map_or(0, |p| p.2.len()));
        }
        for (layer, set, _) in parts {
            ops.push(Op::Layer(layer));
            if !set.is_empty() {
                ops.push(Op::Set(set.into()));
            }
        }
        if !clear.is_empty() {
            ops.push(Op::Clear(clear.into()));
        }
        let mut set = Vec::new();
        for &t in &plain {
            // Where one key is left its scan is shared; among several each has its tokens.
            if let Some(offered) = self.core.offered(t).cloned()
                && cx.automaton.sole(t.q)?.is_none()
            {
                let keys = self.keys(cx, t.q)?;
                self.cross(cx, (&keys.rests, None), t, &mut set, &mut open)?;
                for (reach, tokens) in &keys.inner {
                    if intersects(reach, &offered) {
                        set.extend_from_slice(tokens);
                    }
                }
                continue;
            }
            let (scan, sole) = self.scan(cx, t.q)?;
            self.cross(cx, (&scan.rests, sole), t, &mut set, &mut open)?;
            if !scan.inner.is_empty() {
                ops.push(Op::Layer(Arc::clone(&scan.inner)));
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

    fn scan(&mut self, cx: Cx<'_>, q: StateId) -> Result<(Arc<Scan>, Option<u32>)> {
        if let Some(known) = self.scans.get(&q) {
            return Ok(known.clone());
        }
        let scan = cx.index.scan(cx.automaton, q)?;
        self.bytes += 32;
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
