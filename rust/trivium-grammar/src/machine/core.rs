//! Threads and what may follow them: the recogniser.
//!
//! ```text
//! advance(thread, byte):   one look-up in the lexeme's row; where a lexeme is complete, exits
//! exit(stack, marker):     what may follow a completed lexeme: fresh threads, remembered
//! ```
//!
//! A lexeme of the scannerless kind is left by every accepting prefix: the exits are spawned when the
//! accepting state is reached. A longest-match terminal is left only by a byte that no terminal of
//! its place can take, so its exits are taken together with that byte (or with the end of the text).
//! All terminals that are allowed in a place are read by one automaton, their union.

use super::container::{Frame, Registers};
use super::frame::{ArrayPlan, ObjectPlan, Phase};
use super::graph::NodeId;
use super::lexeme::{Marks, Ready};
use super::program::{Program, Read};
use super::scan::is_greedy;
use super::stack::{BOTTOM, StackId, Stacks, Symbol};
use super::text::{self, TextId, Texts, WrittenId};
use super::thread::{END, Exit, SPECIAL, Thread, holds};
use crate::automata::dfa::Automaton;
use crate::automata::expr::ExprId;
use crate::automata::markers::mark;
use crate::automata::table::{DEAD, StateId};
use crate::error::{Error, Result};
use crate::mask::index::TokenIndex;
use rustc_hash::{FxHashMap, FxHashSet};
use std::sync::Arc;

/// What does not change while reading.
#[derive(Clone, Copy)]
pub(super) struct Cx<'a> {
    pub(super) program: &'a Program,
    pub(super) automaton: &'a Automaton,
    pub(super) index: &'a TokenIndex,
}

/// Steps of one closure before it is given up: only a grammar that calls itself without reading
/// gets there.
const MAX_CLOSURE: usize = 1 << 20;

pub(super) enum Work {
    Place(u32, StackId),
    Node(NodeId, StackId, u32),
    /// A node without the values of a set.
    Fresh(NodeId, StackId, u32, WrittenId),
    /// A node whose value is remembered.
    Recorded(NodeId, StackId, u32),
    Return(StackId),
}

#[derive(Default)]
pub(super) struct Builder {
    pub(super) threads: Vec<Thread>,
    /// Terminals of this place: (terminal, edge, below).
    pub(super) terminals: Vec<(u32, Symbol, StackId)>,
    pub(super) seen: FxHashSet<(u32, StackId)>,
    pub(super) work: Vec<Work>,
    pub(super) uncertain: bool,
}

/// Everything that is made while texts are read.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) stacks: Stacks,
    pub(super) texts: Texts,
    pub(super) frames: Vec<Frame>,
    pub(super) frame_index: FxHashMap<Frame, u32>,
    pub(super) objects: Vec<Arc<ObjectPlan>>,
    pub(super) object_index: FxHashMap<usize, u32>,
    pub(super) arrays: Vec<Arc<ArrayPlan>>,
    pub(super) array_index: FxHashMap<usize, u32>,
    pub(super) nodes: FxHashMap<NodeId, Arc<[Ready]>>,
    pub(super) lexemes: FxHashMap<ExprId, StateId>,
    pub(super) places: FxHashMap<Box<[u32]>, StateId>,
    /// Where the declared keys of an object begin, and those of a language of others.
    pub(super) keys: FxHashMap<(u32, u32), StateId>,
    pub(super) offers: Vec<Arc<[u64]>>,
    pub(super) offer_index: FxHashMap<Arc<[u64]>, u32>,
    pub(super) reach: FxHashMap<StateId, Arc<[u64]>>,
    pub(super) key_parts: FxHashMap<(u32, u32), ExprId>,
    pub(super) shadows: FxHashMap<(u32, WrittenId), StateId>,
    /// Declared and forbidden keys of a plan.
    pub(super) shadow_bases: FxHashMap<u32, ExprId>,
    pub(super) fresh: FxHashMap<(ExprId, WrittenId), StateId>,
    pub(super) marks: FxHashMap<u32, Marks>,
    pub(super) exits: FxHashMap<(StackId, u32, TextId), Arc<Exit>>,
    pub(super) bytes: usize,
}

impl Core {
    pub(super) fn new() -> Self {
        Self {
            stacks: Stacks::new(),
            texts: Texts::new(),
            frames: Vec::new(),
            frame_index: FxHashMap::default(),
            objects: Vec::new(),
            object_index: FxHashMap::default(),
            arrays: Vec::new(),
            array_index: FxHashMap::default(),
            nodes: FxHashMap::default(),
            lexemes: FxHashMap::default(),
            places: FxHashMap::default(),
            keys: FxHashMap::default(),
            offers: Vec::new(),
            offer_index: FxHashMap::default(),
            reach: FxHashMap::default(),
            key_parts: FxHashMap::default(),
            shadows: FxHashMap::default(),
            shadow_bases: FxHashMap::default(),
            fresh: FxHashMap::default(),
            marks: FxHashMap::default(),
            exits: FxHashMap::default(),
            bytes: 0,
        }
    }

    /// Bytes held, approximately.
    pub(super) fn memory(&self) -> usize {
        self.bytes + self.stacks.memory() + self.texts.memory()
    }

    /// The threads of the empty text.
    pub(super) fn start(&mut self, cx: Cx<'_>) -> Result<Arc<Exit>> {
        let mut b = Builder::default();
        b.work.push(Work::Node(cx.program.start, BOTTOM, 0));
        self.close(cx, &mut b)?;
        Ok(Arc::new(Exit { threads: b.threads.into(), uncertain: false }))
    }

    /// What may follow lexeme `marker` on a set of stacks, its text being `text`.
    pub(super) fn exit(
        &mut self,
        cx: Cx<'_>,
        stack: StackId,
        marker: u32,
        text: TextId,
    ) -> Result<Arc<Exit>> {
        let key = (stack, marker, text);
        if let Some(known) = self.exits.get(&key) {
            return Ok(Arc::clone(known));
        }
        let mut b = Builder::default();
        let entries = Arc::clone(self.stacks.entries(stack));
        for &(symbol, below) in &*entries {
            self.follow(cx, symbol, below, Some(marker), text, &mut b)?;
        }
        self.close(cx, &mut b)?;
        let exit = Arc::new(Exit { threads: b.threads.into(), uncertain: b.uncertain });
        if text <= text::UNKNOWN {
            self.bytes += 100 + size_of_val(&*exit.threads);
            self.exits.insert(key, Arc::clone(&exit));
        }
        Ok(exit)
    }

    /// What may follow a special token that step `step` reads.
    pub(super) fn exit_special(&mut self, cx: Cx<'_>, step: u32, below: StackId) -> Result<Exit> {
        let mut b = Builder::default();
        b.work.push(Work::Place(cx.program.steps[step as usize].to, below));
        self.close(cx, &mut b)?;
        Ok(Exit { threads: b.threads.into(), uncertain: b.uncertain })
    }

    /// Does what a symbol on top says; `marker` is that of the lexeme read, if one was.
    fn follow(
        &mut self,
        cx: Cx<'_>,
        symbol: Symbol,
        below: StackId,
        marker: Option<u32>,
        text: TextId,
        b: &mut Builder,
    ) -> Result<()> {
        match symbol {
            Symbol::End => b.threads.push(END),
            Symbol::Position(p) => b.work.push(Work::Place(p, below)),
            Symbol::Edge(e) => {
                let step = &cx.program.steps[e as usize];
                if let Read::Terminal(t) = step.read
                    && marker == Some(Program::marker(t))
                {
                    b.work.push(Work::Place(step.to, below));
                }
            }
            Symbol::Frame(f) => self.in_frame(cx, f, below, marker.unwrap_or(0), text, b)?,
        }
        Ok(())
    }

    /// Follows all that needs no text.
    fn close(&mut self, cx: Cx<'_>, b: &mut Builder) -> Result<()> {
        let mut done = 0;
        while let Some(work) = b.work.pop() {
            done += 1;
            if done > MAX_CLOSURE {
                return Err(Error::limit("closure", done as u64, MAX_CLOSURE as u64));
            }
            match work {
                Work::Place(p, below) => {
                    if b.seen.insert((p, below)) {
                        self.at_place(cx, p, below, b)?;
                    }
                }
                Work::Node(n, below, depth) => {
                    self.at_node(cx, n, below, depth, (None, false), b)?;
                }
                Work::Fresh(n, below, depth, used) => {
                    self.at_node(cx, n, below, depth, (Some(used), true), b)?;
                }
                Work::Recorded(n, below, depth) => {
                    self.at_node(cx, n, below, depth, (None, true), b)?;
                }
                Work::Return(stack) => {
                    let entries = Arc::clone(self.stacks.entries(stack));
                    for &(symbol, below) in &*entries {
                        self.follow(cx, symbol, below, None, text::NONE, b)?;
                    }
                }
            }
        }
        if !b.terminals.is_empty() {
            self.join_terminals(cx, b)?;
        }
        self.normalize(&mut b.threads);
        Ok(())
    }

    fn at_place(&mut self, cx: Cx<'_>, p: u32, below: StackId, b: &mut Builder) -> Result<()> {
        let place = cx.program.places[p as usize];
        if place.last {
            b.work.push(Work::Return(below));
        }
        for e in place.first_edge..place.end_edge {
            let step = &cx.program.steps[e as usize];
            let then = |stacks: &mut Stacks| {
                if cx.program.returns(step.to) {
                    below
                } else {
                    stacks.push(Symbol::Position(step.to), below)
                }
            };
            match &step.read {
                Read::Lexeme(expr) => {
                    let q = self.lexeme(cx, *expr)?;
                    let stack = then(&mut self.stacks);
                    b.threads.push(Thread::plain(q, stack));
                }
                Read::Terminal(t) => b.terminals.push((*t, Symbol::Edge(e), below)),
                Read::Special(_) => {
                    let text = text::NONE;
                    b.threads.push(Thread { q: SPECIAL, shadow: e, text, stack: below });
                }
                Read::Rule(first) => {
                    let stack = then(&mut self.stacks);
                    b.work.push(Work::Place(*first, stack));
                }
                Read::Node(n) => {
                    let stack = then(&mut self.stacks);
                    b.work.push(Work::Node(*n, stack, 0));
                }
            }
        }
        Ok(())
    }

    fn at_node(
        &mut self,
        cx: Cx<'_>,
        n: NodeId,
        below: StackId,
        depth: u32,
        (used, remember): (Option<WrittenId>, bool),
        b: &mut Builder,
    ) -> Result<()> {
        for &cell in &*self.ready(cx, n)? {
            match cell {
                Ready::Lexeme(q, expr) => {
                    let (q, text) = match used {
                        None if remember => (q, text::START),
                        None => (q, text::NONE),
                        Some(used) => {
                            b.uncertain |= self.texts.written(used).unknown;
                            (self.without(cx, q, expr, used)?, text::START)
                        }
                    };
                    b.threads.push(Thread { q, shadow: DEAD, text, stack: below });
                }
                Ready::Rule(p) => b.work.push(Work::Place(p, below)),
                Ready::Object(plan) => {
                    let members = self.objects[plan as usize].open();
                    let registers = Registers::Object { plan, members, written: 0 };
                    let record = remember.then(Arc::default);
                    let frame = Frame { registers, phase: Phase::Open, depth, record };
                    self.open(cx, frame, 0, below, b)?;
                }
                Ready::Array(plan) => {
                    let items = self.arrays[plan as usize].open();
                    let registers = Registers::Array { plan, items, used: 0 };
                    let record = remember.then(Arc::default);
                    let frame = Frame { registers, phase: Phase::Open, depth, record };
                    self.open(cx, frame, 1, below, b)?;
                }
            }
        }
        Ok(())
    }

    /// One automaton for all terminals of a place.
    fn join_terminals(&mut self, cx: Cx<'_>, b: &mut Builder) -> Result<()> {
        let mut kinds: Vec<u32> = b.terminals.iter().map(|t| t.0).collect();
        kinds.sort_unstable();
        kinds.dedup();
        let q = if let Some(&q) = self.places.get(&kinds[..]) {
            q
        } else {
            let expr = cx.automaton.with_arena(|arena| {
                let parts: Vec<ExprId> = kinds
                    .iter()
                    .map(|&t| mark(arena, cx.program.terminals[t as usize].0, Program::marker(t)))
                    .collect();
                arena.union(&parts)
            })?;
            let q = cx.automaton.enter(expr)?;
            self.places.insert(kinds.into(), q);
            q
        };
        let mut entries = b.terminals.drain(..).map(|t| (t.1, t.2)).collect();
        let stack = self.stacks.of(&mut entries);
        b.threads.push(Thread::plain(q, stack));
        Ok(())
    }

    /// Sorts threads and joins those that differ in their stacks alone.
    pub(super) fn normalize(&mut self, threads: &mut Vec<Thread>) {
        threads.retain(|t| t.q != DEAD || *t == END);
        if threads.len() < 2 {
            return;
        }
        threads.sort_unstable();
        let mut kept = 0;
        for i in 1..threads.len() {
            let (a, t) = (threads[kept], threads[i]);
            if (a.q, a.shadow, a.text) == (t.q, t.shadow, t.text) {
                threads[kept].stack = self.stacks.union(a.stack, t.stack);
            } else {
                kept += 1;
                threads[kept] = t;
            }
        }
        threads.truncate(kept + 1);
    }

    /// The lexeme's marker that counts where it is left; several only if nothing decides.
    pub(super) fn best<'m>(cx: Cx<'_>, markers: &'m [u32]) -> impl Iterator<Item = u32> + 'm {
        let greedy = is_greedy(markers);
        let rank = |m: u32| {
            let t = m.wrapping_sub(Program::marker(0)) as usize;
            cx.program.terminals.get(t).map_or(0, |t| t.1)
        };
        let best = if greedy { markers.iter().map(|&m| rank(m)).max() } else { None };
        let keep: Vec<bool> =
            markers.iter().map(|&m| best.is_none_or(|best| rank(m) == best)).collect();
        markers.iter().zip(keep).filter(|m| m.1).map(|m| *m.0)
    }

    /// Appends what becomes of a thread by a byte. True if a key was completed that may or may not
    /// be one written before.
    pub(super) fn advance(
        &mut self,
        cx: Cx<'_>,
        t: Thread,
        byte: u8,
        out: &mut Vec<Thread>,
    ) -> Result<bool> {
        if !t.reads_text() {
            return Ok(false);
        }
        let to = cx.automaton.step(t.q, byte)?;
        if to == DEAD {
            let markers = cx.automaton.markers(t.q)?;
            let mut uncertain = false;
            if is_greedy(markers) {
                for marker in Self::best(cx, markers) {
                    let exit = self.exit(cx, t.stack, marker, text::NONE)?;
                    for &next in &exit.threads {
                        uncertain |= self.advance(cx, next, byte, out)?;
                    }
                }
            }
            return Ok(uncertain);
        }
        let mut next = Thread { q: to, ..t };
        if t.is_offer() {
            if !self.serves(cx, t, to)? {
                return Ok(false);
            }
        } else if t.shadow != DEAD {
            next.shadow = cx.automaton.step(t.shadow, byte)?;
            if next.shadow != DEAD && cx.automaton.accepting(next.shadow)? {
                return Ok(false);
            }
        }
        next.text = self.texts.push(t.text, byte);
        out.push(next);
        let markers = cx.automaton.markers(to)?;
        // The key may be the one written before that is not known. (Every quote but the first is
        // taken for the closing one.)
        let mut uncertain = t.text == text::UNKNOWN && byte == b'"';
        if !markers.is_empty() && !is_greedy(markers) {
            for &marker in markers {
                if self.offered(t).is_some_and(|set| !holds(set, marker)) {
                    continue;
                }
                let exit = self.exit(cx, next.stack, marker, next.text)?;
                out.extend_from_slice(&exit.threads);
                uncertain |= exit.uncertain;
            }
        }
        Ok(uncertain)
    }
}
