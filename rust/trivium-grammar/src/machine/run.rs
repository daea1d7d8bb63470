//! One run of a program: interned states, their successors and their masks.
//!
//! A run only grows. When it passes its budget it is *retired*: the grammar starts a fresh one, and a
//! matcher that holds the old one moves over at its next commit by reading its tokens again. So state
//! ids stay valid as long as somebody holds the run, memory is bounded by the runs in use, and no
//! text is refused for its length.

use super::core::{Core, Cx};
use super::program::{Program, Read};
use super::scan::{Keys, Scanned, is_greedy};
use super::text;
use super::thread::{END, SPECIAL, Thread};
use crate::automata::dfa::{Automaton, AutomatonSize};
use crate::automata::table::{DEAD, StateId};
use crate::error::{Error, Result};
use crate::limits::CompileLimits;
use crate::mask::cache::Mask;
use crate::mask::index::TokenIndex;
use rustc_hash::FxHashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use trivium_core::TokenId;

/// After an end-of-sequence token; the same number as the matcher's.
use crate::matcher::FINISHED;

/// Remembered steps; beyond it they are forgotten.
const MAX_STEPS: usize = 1 << 16;

#[derive(Debug)]
pub(super) struct State {
    pub(super) threads: Arc<[Thread]>,
    pub(super) accepting: bool,
    pub(super) mask: Option<Arc<Mask>>,
}

#[derive(Debug)]
pub(super) struct Inside {
    pub(super) core: Core,
    pub(super) states: Vec<State>,
    pub(super) index: FxHashMap<Arc<[Thread]>, StateId>,
    pub(super) steps: FxHashMap<(StateId, TokenId), StateId>,
    /// Bytes that must follow, by state.
    only: FxHashMap<StateId, Option<u8>>,
    pub(super) scans: FxHashMap<StateId, Scanned>,
    pub(super) bad: FxHashMap<StateId, Arc<[TokenId]>>,
    pub(super) keys: FxHashMap<StateId, Arc<Keys>>,
    /// Threads at each depth of a walk; kept for their capacity.
    pub(super) levels: Vec<Vec<Thread>>,
    pub(super) bytes: usize,
    pub(super) mask_bytes: usize,
    pub(super) masks: usize,
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
            only: FxHashMap::default(),
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

    /// Bytes after which it is retired.
    pub(crate) fn max_bytes(&self) -> usize {
        self.limits.max_bytes
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

    /// The byte that must follow in a live state, if only one may; remembered. Text is tried first:
    /// where there is a choice two bytes answer.
    pub(crate) fn only_byte(&self, state: StateId) -> Result<Option<u8>> {
        let cx = self.cx();
        let mut inside = self.lock()?;
        if let Some(&known) = inside.only.get(&state) {
            return Ok(known);
        }
        let threads = Arc::clone(&inside.states[state as usize].threads);
        let mut only = None;
        let mut after = Vec::new();
        for b in (0x20..=0x7f).chain(0..0x20).chain(0x80..=0xff) {
            after.clear();
            for &t in &*threads {
                inside.core.advance(cx, t, b, &mut after)?;
            }
            if !after.is_empty() && only.replace(b).is_some() {
                only = None;
                break;
            }
        }
        if inside.only.len() >= MAX_STEPS {
            inside.only.clear();
        }
        inside.only.insert(state, only);
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
        self.bytes + self.core.memory() + self.steps.len() * 20 + self.only.len() * 12
    }

    pub(super) fn intern(&mut self, cx: Cx<'_>, mut threads: Vec<Thread>) -> Result<StateId> {
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
    pub(super) fn at_rest(&mut self, cx: Cx<'_>, threads: &[Thread]) -> Result<Vec<Thread>> {
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

    pub(super) fn allows(&mut self, cx: Cx<'_>, state: StateId, token: TokenId) -> Result<bool> {
        let vocab = &cx.index.vocab;
        if vocab.is_eos(token) && self.states[state as usize].accepting {
            return Ok(true);
        }
        match vocab.token(token) {
            [] => Ok(!self.special(cx, state, token)?.is_empty()),
            bytes => Ok(!vocab.is_eos(token) && !self.after(cx, state, bytes)?.is_empty()),
        }
    }
}
