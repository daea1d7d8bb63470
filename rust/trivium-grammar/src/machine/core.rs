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

use super::frame::{ArrayPlan, Items, Members, ObjectPlan, Phase};
use super::graph::{Alternative, Array, Cell, NodeId, Object, Space, Unique};
use super::program::{Program, Read};
use super::scan::is_greedy;
use super::stack::{BOTTOM, StackId, Stacks, Symbol};
use super::text::{self, TextId, Texts, WrittenId};
use crate::automata::dfa::Automaton;
use crate::automata::expr::{Arena, ExprId};
use crate::automata::markers::mark;
use crate::automata::table::{DEAD, StateId};
use crate::error::{Error, Result};
use crate::mask::index::TokenIndex;
use rustc_hash::{FxHashMap, FxHashSet};
use std::sync::Arc;

/// A way to read the text so far. Sorted and merged by all but the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Thread {
    /// State of the lexeme; [`DEAD`] at the end of the text; [`SPECIAL`] before a special token.
    pub(super) q: StateId,
    /// State in the keys that may not be completed, or [`DEAD`]; the declared keys that may be, as
    /// [`OFFER`] and a number; the step before a special token.
    pub(super) shadow: StateId,
    /// What was read of a key that must be remembered.
    pub(super) text: TextId,
    /// What to do when the lexeme is complete.
    pub(super) stack: StackId,
}

/// Lexeme state of a thread that waits for a special token.
pub(super) const SPECIAL: StateId = StateId::MAX;

/// Bit of a shadow that names a set of declared keys.
pub(super) const OFFER: u32 = 1 << 31;

/// The text may end.
pub(super) const END: Thread = Thread { q: DEAD, shadow: DEAD, text: text::NONE, stack: BOTTOM };

impl Thread {
    fn plain(q: StateId, stack: StackId) -> Self {
        Self { q, shadow: DEAD, text: text::NONE, stack }
    }

    /// Whether only some of the lexemes that its state knows may be completed.
    pub(super) fn is_offer(self) -> bool {
        self.q != SPECIAL && self.shadow & OFFER != 0
    }

    pub(super) fn reads_text(self) -> bool {
        self.q != DEAD && self.q != SPECIAL
    }
}

/// What may follow a completed lexeme.
#[derive(Debug)]
pub(super) struct Exit {
    pub(super) threads: Box<[Thread]>,
    /// A key begins after one that is not known: whether they may be equal is open.
    pub(super) uncertain: bool,
}

/// A container that is being read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Frame {
    registers: Registers,
    phase: Phase,
    depth: u32,
    /// What was read, if the container is compared with others when it is complete.
    record: Option<Arc<Record>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Registers {
    Object { plan: u32, members: Members, written: WrittenId },
    Array { plan: u32, items: Items, used: WrittenId },
}

/// Stands for "two items were equal" in the set of an array's items.
const REPEATED: &str = "*";

/// A container so far, as canonical texts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Record {
    /// Keys (empty in arrays) and values.
    parts: Vec<(Arc<str>, Arc<str>)>,
    key: Arc<str>,
    /// A part is not known.
    unknown: bool,
}

impl Record {
    fn at_key(record: Option<&Arc<Self>>, key: Option<&str>) -> Option<Arc<Self>> {
        let mut new = (**record?).clone();
        match key {
            Some(key) => new.key = key.into(),
            None => new.unknown = true,
        }
        Some(Arc::new(new))
    }

    fn with(&self, value: Option<&str>) -> Self {
        let mut new = self.clone();
        match value {
            Some(value) => new.parts.push((std::mem::take(&mut new.key), value.into())),
            None => new.unknown = true,
        }
        new
    }

    /// The value as canonical JSON, members sorted.
    fn text(&self, object: bool) -> Option<String> {
        if self.unknown {
            return None;
        }
        let mut parts: Vec<String> = Vec::with_capacity(self.parts.len());
        for (key, value) in &self.parts {
            parts.push(if object {
                format!("{}:{}", text::quoted(key), text::canonical(value))
            } else {
                text::canonical(value)
            });
        }
        if object {
            parts.sort_unstable();
        }
        let (open, close) = if object { ('{', '}') } else { ('[', ']') };
        Some(format!("{open}{}{close}", parts.join(",")))
    }
}

/// A cell made ready.
#[derive(Debug, Clone, Copy)]
enum Ready {
    Lexeme(StateId, ExprId),
    Object(u32),
    Array(u32),
    Rule(u32),
}

/// Lexemes of JSON's punctuation at one depth.
#[derive(Debug, Clone, Copy)]
struct Marks {
    open: [StateId; 2],
    close_empty: [StateId; 2],
    close: [StateId; 2],
    comma: StateId,
}

/// Whether two sets of bits share one.
pub(super) fn intersects(a: &[u64], b: &[u64]) -> bool {
    a.iter().zip(b).any(|(x, y)| x & y != 0)
}

/// Whether a bit is set.
pub(super) fn holds(bits: &[u64], at: u32) -> bool {
    bits.get(at as usize / 64).is_some_and(|w| w >> (at % 64) & 1 == 1)
}

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

enum Work {
    Place(u32, StackId),
    Node(NodeId, StackId, u32),
    /// A node without the values of a set.
    Fresh(NodeId, StackId, u32, WrittenId),
    /// A node whose value is remembered.
    Recorded(NodeId, StackId, u32),
    Return(StackId),
}

#[derive(Default)]
struct Builder {
    threads: Vec<Thread>,
    /// Terminals of this place: (terminal, edge, below).
    terminals: Vec<(u32, Symbol, StackId)>,
    seen: FxHashSet<(u32, StackId)>,
    work: Vec<Work>,
    uncertain: bool,
}

/// Everything that is made while texts are read.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) stacks: Stacks,
    pub(super) texts: Texts,
    frames: Vec<Frame>,
    frame_index: FxHashMap<Frame, u32>,
    objects: Vec<Arc<ObjectPlan>>,
    object_index: FxHashMap<usize, u32>,
    arrays: Vec<Arc<ArrayPlan>>,
    array_index: FxHashMap<usize, u32>,
    nodes: FxHashMap<NodeId, Arc<[Ready]>>,
    lexemes: FxHashMap<ExprId, StateId>,
    places: FxHashMap<Box<[u32]>, StateId>,
    /// Where the declared keys of an object begin, and those of a language of others.
    keys: FxHashMap<(u32, u32), StateId>,
    offers: Vec<Arc<[u64]>>,
    offer_index: FxHashMap<Arc<[u64]>, u32>,
    reach: FxHashMap<StateId, Arc<[u64]>>,
    key_parts: FxHashMap<(u32, u32), ExprId>,
    shadows: FxHashMap<(u32, WrittenId), StateId>,
    fresh: FxHashMap<(ExprId, WrittenId), StateId>,
    marks: FxHashMap<u32, Marks>,
    exits: FxHashMap<(StackId, u32, TextId), Arc<Exit>>,
    bytes: usize,
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
        let to = cx.automaton.row(t.q)?[usize::from(byte)];
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
            next.shadow = cx.automaton.row(t.shadow)?[usize::from(byte)];
            if next.shadow != DEAD && cx.automaton.accepting(next.shadow)? {
                return Ok(false);
            }
        }
        next.text = self.texts.push(t.text, byte);
        out.push(next);
        let markers = cx.automaton.markers(to)?;
        let mut uncertain = false;
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

    // ---- lexemes ---------------------------------------------------------------------------------

    fn enter(&mut self, cx: Cx<'_>, make: impl FnOnce(&mut Arena) -> ExprId) -> Result<StateId> {
        let expr = cx.automaton.with_arena(make)?;
        self.bytes += 32;
        cx.automaton.enter(expr)
    }

    fn lexeme(&mut self, cx: Cx<'_>, expr: ExprId) -> Result<StateId> {
        if let Some(&q) = self.lexemes.get(&expr) {
            return Ok(q);
        }
        let q = self.enter(cx, |arena| mark(arena, expr, 0))?;
        self.lexemes.insert(expr, q);
        Ok(q)
    }

    fn marks(&mut self, cx: Cx<'_>, depth: u32) -> Result<Marks> {
        let depth = if matches!(cx.program.layout.space, Space::Between(_)) { 0 } else { depth };
        if let Some(&known) = self.marks.get(&depth) {
            return Ok(known);
        }
        let space = cx.program.layout.space.clone();
        let mut make = |before: bool, text: &str, after: bool, inside: u32| {
            self.enter(cx, |arena| {
                let gap = |arena: &mut Arena, wanted: bool, depth: u32| match (&space, wanted) {
                    (_, false) => super::layout::literal(arena, ""),
                    (Space::Between(e), true) => *e,
                    (Space::Indent(n), true) => super::layout::line(arena, u32::from(*n) * depth),
                };
                let lead = gap(arena, before, inside);
                let tail = gap(arena, after, inside);
                let body = super::layout::literal(arena, text);
                let body = arena.concat(body, tail);
                let all = arena.concat(lead, body);
                mark(arena, all, 0)
            })
        };
        let lined = matches!(space, Space::Indent(_));
        let marks = Marks {
            open: [make(false, "{", true, depth + 1)?, make(false, "[", true, depth + 1)?],
            close_empty: if lined {
                [make(false, "{}", false, 0)?, make(false, "[]", false, 0)?]
            } else {
                [make(false, "}", false, 0)?, make(false, "]", false, 0)?]
            },
            close: [make(true, "}", false, depth)?, make(true, "]", false, depth)?],
            comma: make(!lined, ",", true, depth + 1)?,
        };
        self.marks.insert(depth, marks);
        Ok(marks)
    }

    /// The cells of a node, ready to enter.
    fn ready(&mut self, cx: Cx<'_>, node: NodeId) -> Result<Arc<[Ready]>> {
        if let Some(known) = self.nodes.get(&node) {
            return Ok(Arc::clone(known));
        }
        let cells = match cx.program.nodes.get(node as usize) {
            Some(node) => node.cells.clone(),
            None => match &cx.program.source {
                Some(source) => cx.automaton.extend(|arena| source.node(arena, node))?.cells,
                None => return Err(Error::internal(format!("no node {node}"))),
            },
        };
        let mut out = Vec::with_capacity(cells.len());
        for cell in cells {
            out.push(match cell {
                Cell::Lexeme(e) => Ready::Lexeme(self.lexeme(cx, e)?, e),
                Cell::Rule(r) => Ready::Rule(cx.program.rules[r as usize]),
                Cell::Object(o) => Ready::Object(self.object(&o)),
                Cell::Array(a) => Ready::Array(self.array(&a)),
            });
        }
        self.bytes += 64 + out.len() * 8;
        let ready: Arc<[Ready]> = out.into();
        self.nodes.insert(node, Arc::clone(&ready));
        Ok(ready)
    }

    fn object(&mut self, spec: &Arc<Object>) -> u32 {
        // The plan keeps the declaration alive, so its address names it.
        let objects = &mut self.objects;
        *self.object_index.entry(Arc::as_ptr(spec) as usize).or_insert_with(|| {
            objects.push(Arc::new(ObjectPlan::new(Arc::clone(spec))));
            objects.len() as u32 - 1
        })
    }

    fn array(&mut self, spec: &Arc<Array>) -> u32 {
        let arrays = &mut self.arrays;
        *self.array_index.entry(Arc::as_ptr(spec) as usize).or_insert_with(|| {
            arrays.push(Arc::new(ArrayPlan::new(Arc::clone(spec))));
            arrays.len() as u32 - 1
        })
    }

    /// The expression of a key with the colon and what stands around it.
    fn key_part(&mut self, cx: Cx<'_>, plan: u32, member: u32) -> Result<ExprId> {
        if let Some(&e) = self.key_parts.get(&(plan, member)) {
            return Ok(e);
        }
        let spec = Arc::clone(&self.objects[plan as usize].spec);
        let layout = &cx.program.layout;
        let expr = cx.automaton.with_arena(|arena| {
            let n = spec.members.len();
            let key = match spec.members.get(member as usize) {
                Some(m) => (layout.key)(arena, &m.key, layout.escapes),
                None => spec.others[member as usize - n].keys,
            };
            let colon = super::layout::colon(arena, &layout.space);
            let colon = mark(arena, colon, member);
            arena.concat(key, colon)
        })?;
        self.key_parts.insert((plan, member), expr);
        self.bytes += 32;
        Ok(expr)
    }

    /// Where the keys of an object begin: those of a language of others, or all that are declared. One
    /// automaton serves whatever subset of them is offered.
    fn key_state(&mut self, cx: Cx<'_>, plan: u32, other: Option<u32>) -> Result<StateId> {
        let key = (plan, other.unwrap_or(u32::MAX));
        if let Some(&q) = self.keys.get(&key) {
            return Ok(q);
        }
        let n = self.objects[plan as usize].spec.members.len() as u32;
        let wanted = other.map_or(0..n, |j| j..j + 1);
        let mut parts = Vec::with_capacity(wanted.len());
        for m in wanted {
            parts.push(self.key_part(cx, plan, m)?);
        }
        let q = self.enter(cx, |arena| arena.union(&parts))?;
        self.bytes += 48;
        self.keys.insert(key, q);
        Ok(q)
    }

    /// The shadow that stands for a set of declared keys.
    fn offer(&mut self, members: &[u32]) -> u32 {
        let mut bits: Vec<u64> = Vec::new();
        for &m in members {
            let at = m as usize / 64;
            bits.resize(bits.len().max(at + 1), 0);
            bits[at] |= 1 << (m % 64);
        }
        if let Some(&known) = self.offer_index.get(&bits[..]) {
            return known;
        }
        let id = OFFER | self.offers.len() as u32;
        let bits: Arc<[u64]> = bits.into();
        self.bytes += 64 + bits.len() * 16;
        self.offers.push(Arc::clone(&bits));
        self.offer_index.insert(bits, id);
        id
    }

    /// The keys that a thread may complete, if not all that its state knows.
    pub(super) fn offered(&self, t: Thread) -> Option<&Arc<[u64]>> {
        t.is_offer().then(|| &self.offers[(t.shadow & !OFFER) as usize])
    }

    /// Whether a state can still complete one of the keys that a thread may complete.
    fn serves(&mut self, cx: Cx<'_>, t: Thread, to: StateId) -> Result<bool> {
        if !self.reach.contains_key(&to) {
            let reach = cx.automaton.reach(to)?;
            self.bytes += 40;
            self.reach.insert(to, reach);
        }
        Ok(match (self.reach.get(&to), self.offered(t)) {
            (Some(reach), Some(offered)) => intersects(reach, offered),
            _ => true,
        })
    }

    /// Where the keys that may not be completed as undeclared ones begin; [`DEAD`] without any.
    fn shadow(&mut self, cx: Cx<'_>, plan: u32, written: WrittenId) -> Result<StateId> {
        if let Some(&q) = self.shadows.get(&(plan, written)) {
            return Ok(q);
        }
        let spec = Arc::clone(&self.objects[plan as usize].spec);
        let keys = Arc::clone(&self.texts.written(written).keys);
        let layout = &cx.program.layout;
        let q = self.enter(cx, |arena| {
            let parts: Vec<ExprId> = spec
                .members
                .iter()
                .map(|m| &m.key)
                .chain(&spec.forbidden)
                .chain(&*keys)
                .map(|key| (layout.key)(arena, key, layout.escapes))
                .collect();
            arena.union(&parts)
        })?;
        self.shadows.insert((plan, written), q);
        Ok(q)
    }

    /// Where a lexeme begins without the scalars of a set, each in all of its spellings.
    fn without(
        &mut self,
        cx: Cx<'_>,
        q: StateId,
        expr: ExprId,
        used: WrittenId,
    ) -> Result<StateId> {
        let values = Arc::clone(&self.texts.written(used).keys);
        if values.is_empty() {
            return Ok(q);
        }
        if let Some(&known) = self.fresh.get(&(expr, used)) {
            return Ok(known);
        }
        let layout = &cx.program.layout;
        let lexeme = cx.automaton.extend(|arena| {
            let mut parts = Vec::with_capacity(values.len());
            for value in &*values {
                // Containers are compared at their closing bracket.
                if value.starts_with(['{', '[']) {
                    continue;
                }
                parts.push(match value.split_at(1) {
                    ("s", text) => (layout.key)(arena, text, layout.escapes),
                    ("n", text) => super::layout::number(arena, text)?,
                    (_, text) => super::layout::literal(arena, text),
                });
            }
            let all = arena.union(&parts);
            let rest = arena.minus(expr, all);
            Ok(mark(arena, rest, 0))
        })?;
        let q = cx.automaton.enter(lexeme)?;
        self.bytes += 40;
        self.fresh.insert((expr, used), q);
        Ok(q)
    }

    // ---- frames ----------------------------------------------------------------------------------

    fn frame(&mut self, frame: Frame) -> Symbol {
        if let Some(&id) = self.frame_index.get(&frame) {
            return Symbol::Frame(id);
        }
        let id = self.frames.len() as u32;
        self.bytes += 240;
        self.frames.push(frame.clone());
        self.frame_index.insert(frame, id);
        Symbol::Frame(id)
    }

    fn may_close(&self, r: &Registers) -> bool {
        match r {
            Registers::Object { plan, members, .. } => {
                self.objects[*plan as usize].may_close(members)
            }
            Registers::Array { plan, items, .. } => self.arrays[*plan as usize].may_close(items),
        }
    }

    /// What an array asks of equal items.
    fn compares(&self, r: &Registers) -> Unique {
        match r {
            Registers::Array { plan, .. } => self.arrays[*plan as usize].spec.unique,
            Registers::Object { .. } => Unique::Any,
        }
    }

    /// Remembers the value that was read, where it is asked for.
    fn keep(&mut self, frame: &mut Frame, text: TextId) {
        if text == text::NONE {
            return;
        }
        let value = self.texts.value(text);
        let unique = self.compares(&frame.registers);
        if let Registers::Array { used, .. } = &mut frame.registers
            && unique != Unique::Any
        {
            let known = |v: &String| self.texts.written(*used).keys.iter().any(|k| **k == **v);
            *used = match &value {
                // One pair of equal items is enough: nothing else needs to be remembered.
                Some(v) if unique == Unique::Repeated && known(v) => {
                    self.texts.add(0, Some(REPEATED))
                }
                _ if self.texts.written(*used).keys.iter().any(|k| **k == *REPEATED) => *used,
                _ => self.texts.add(*used, value.as_deref()),
            };
        }
        if let Some(record) = &mut frame.record {
            *record = Arc::new(record.with(value.as_deref()));
        }
    }

    /// The closing bracket, if it may come: not where that makes an item that was there before.
    fn offer_close(
        &mut self,
        frame: &Frame,
        q: StateId,
        kind: usize,
        whole: bool,
        below: StackId,
        b: &mut Builder,
    ) {
        if !self.may_close(&frame.registers) {
            return;
        }
        if let Registers::Array { used, .. } = &frame.registers
            && self.compares(&frame.registers) == Unique::Repeated
        {
            let written = self.texts.written(*used);
            b.uncertain |= written.unknown;
            if !written.unknown && written.keys.iter().all(|k| **k != *REPEATED) {
                return;
            }
        }
        let Some(record) = &frame.record else {
            b.threads.push(Thread::plain(q, below));
            return;
        };
        let value = record.text(kind == 0);
        let mut entries: Vec<_> = self.stacks.entries(below).to_vec();
        let before = entries.len();
        entries.retain(|&(symbol, _)| match symbol {
            Symbol::Frame(f) => {
                let parent = &self.frames[f as usize].registers;
                let Registers::Array { used, .. } = parent else { return true };
                if self.compares(parent) != Unique::Distinct {
                    return true;
                }
                let written = self.texts.written(*used);
                b.uncertain |= written.unknown || value.is_none();
                value.as_ref().is_none_or(|v| written.keys.iter().all(|k| **k != **v))
            }
            _ => true,
        });
        let stack = if entries.len() == before { below } else { self.stacks.of(&mut entries) };
        if entries.is_empty() {
            return;
        }
        // The bracket itself is read next, or all of it where one lexeme holds both.
        let text = match &value {
            None => text::UNKNOWN,
            Some(_) if whole => text::START,
            Some(v) => v.bytes().take(v.len() - 1).fold(text::START, |t, b| self.texts.push(t, b)),
        };
        b.threads.push(Thread { q, shadow: DEAD, text, stack });
    }

    fn may_go_on(&self, r: &Registers) -> bool {
        match r {
            Registers::Object { plan, members, .. } => {
                let plan = &self.objects[*plan as usize];
                !plan.offered(members).is_empty()
                    || (0..plan.spec.others.len()).any(|j| plan.offers_other(members, j))
            }
            Registers::Array { plan, items, .. } => {
                self.arrays[*plan as usize].offered(items).next().is_some()
            }
        }
    }

    /// The opening bracket.
    fn open(
        &mut self,
        cx: Cx<'_>,
        frame: Frame,
        kind: usize,
        below: StackId,
        b: &mut Builder,
    ) -> Result<()> {
        let marks = self.marks(cx, frame.depth)?;
        let lined = matches!(cx.program.layout.space, Space::Indent(_));
        if lined {
            self.offer_close(&frame, marks.close_empty[kind], kind, true, below, b);
        }
        if !lined || self.may_go_on(&frame.registers) {
            let symbol = self.frame(frame);
            let stack = self.stacks.push(symbol, below);
            b.threads.push(Thread::plain(marks.open[kind], stack));
        }
        Ok(())
    }

    /// What a frame does after the lexeme or value above it.
    fn in_frame(
        &mut self,
        cx: Cx<'_>,
        id: u32,
        below: StackId,
        marker: u32,
        text: TextId,
        b: &mut Builder,
    ) -> Result<()> {
        let mut frame = self.frames[id as usize].clone();
        let marks = self.marks(cx, frame.depth)?;
        let kind = usize::from(matches!(frame.registers, Registers::Array { .. }));
        match frame.phase {
            Phase::Value => {
                self.keep(&mut frame, text);
                self.offer_close(&frame, marks.close[kind], kind, false, below, b);
                if self.may_go_on(&frame.registers) {
                    let distinct =
                        matches!(frame.registers, Registers::Array { used, .. } if used > 0);
                    let next = self.frame(Frame { phase: Phase::Comma, ..frame });
                    let stack = self.stacks.push(next, below);
                    // All values may be used up.
                    if !distinct || !self.exit(cx, stack, 0, text::NONE)?.threads.is_empty() {
                        b.threads.push(Thread::plain(marks.comma, stack));
                    }
                }
            }
            Phase::Open | Phase::Comma => {
                let lined = matches!(cx.program.layout.space, Space::Indent(_));
                let first = frame.phase == Phase::Open;
                if first && !lined {
                    self.offer_close(&frame, marks.close_empty[kind], kind, false, below, b);
                }
                match &frame.registers {
                    Registers::Object { .. } => self.offer_keys(cx, frame, below, b)?,
                    Registers::Array { plan, items, used } => {
                        let (plan_id, used) = (*plan, *used);
                        let plan = Arc::clone(&self.arrays[plan_id as usize]);
                        for v in plan.offered(items) {
                            let items = plan.take(items, v.counts);
                            let registers = Registers::Array { plan: plan_id, items, used };
                            let record = frame.record.clone();
                            self.value(v, registers, frame.depth, record, below, b);
                        }
                    }
                }
            }
            Phase::Key => self.after_key(&frame, below, marker, text, b),
        }
        Ok(())
    }

    fn offer_keys(
        &mut self,
        cx: Cx<'_>,
        frame: Frame,
        below: StackId,
        b: &mut Builder,
    ) -> Result<()> {
        let Registers::Object { plan: plan_id, ref members, written } = frame.registers else {
            return Ok(());
        };
        let plan = Arc::clone(&self.objects[plan_id as usize]);
        let offered = plan.offered(members);
        let others: Vec<u32> = (0..plan.spec.others.len())
            .filter(|&j| plan.offers_other(members, j))
            .map(|j| (plan.spec.members.len() + j) as u32)
            .collect();
        let symbol = self.frame(Frame { phase: Phase::Key, ..frame });
        let stack = self.stacks.push(symbol, below);
        if !offered.is_empty() {
            let q = self.key_state(cx, plan_id, None)?;
            let shadow = self.offer(&offered);
            b.threads.push(Thread { q, shadow, text: text::NONE, stack });
        }
        // The closing quote alone may be what a key not known forbids.
        b.uncertain |= !others.is_empty() && self.texts.written(written).unknown;
        for j in others {
            let q = self.key_state(cx, plan_id, Some(j))?;
            let shadow = self.shadow(cx, plan_id, written)?;
            b.threads.push(Thread { q, shadow, text: text::START, stack });
        }
        Ok(())
    }

    fn after_key(
        &mut self,
        frame: &Frame,
        below: StackId,
        marker: u32,
        text: TextId,
        b: &mut Builder,
    ) {
        let Registers::Object { plan: plan_id, ref members, written } = frame.registers else {
            return;
        };
        let plan = Arc::clone(&self.objects[plan_id as usize]);
        let n = plan.spec.members.len() as u32;
        if let Some(member) = plan.spec.members.get(marker as usize) {
            for &v in &member.values {
                let members = plan.take(members, marker as usize, v.counts);
                if plan.is_open(&members) {
                    let registers = Registers::Object { plan: plan_id, members, written };
                    let record = Record::at_key(frame.record.as_ref(), Some(&member.key));
                    self.value(v, registers, frame.depth, record, below, b);
                }
            }
        } else if let Some(others) = plan.spec.others.get((marker - n) as usize) {
            let key = self.texts.key(text);
            let written = self.texts.add(written, key.as_deref());
            for &v in &others.values {
                let members = plan.take_other(members, v.counts);
                if plan.is_open(&members) {
                    let registers = Registers::Object { plan: plan_id, members, written };
                    let record = Record::at_key(frame.record.as_ref(), key.as_deref());
                    self.value(v, registers, frame.depth, record, below, b);
                }
            }
        }
    }

    fn value(
        &mut self,
        v: Alternative,
        registers: Registers,
        depth: u32,
        record: Option<Arc<Record>>,
        below: StackId,
        b: &mut Builder,
    ) {
        let recorded = record.is_some() || self.compares(&registers) == Unique::Repeated;
        let distinct = match &registers {
            Registers::Array { plan, used, .. } => {
                let unique = self.arrays[*plan as usize].spec.unique;
                (unique == Unique::Distinct).then_some(*used)
            }
            Registers::Object { .. } => None,
        };
        let symbol = self.frame(Frame { registers, phase: Phase::Value, depth, record });
        let stack = self.stacks.push(symbol, below);
        b.work.push(match distinct {
            None if recorded => Work::Recorded(v.value, stack, depth + 1),
            None => Work::Node(v.value, stack, depth + 1),
            Some(used) => Work::Fresh(v.value, stack, depth + 1, used),
        });
    }
}
