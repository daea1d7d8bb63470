//! The byte automaton of one grammar, determinised as far as texts reach.
//!
//! Invariant *D*: every state but [`DEAD`] has a finite completion. A pure residual other than ∅ has
//! one by construction; one with predicates is admitted only after a search found an accepting state
//! (the answer is kept for every state on the way). States inside a character lead only to admitted
//! states.
//!
//! Reading (`row`, `accepting`) takes no lock once a state was left before; extending takes one.

use super::charset::Range;
use super::derive::Cut;
use super::expr::{Arena, EMPTY, Expr, ExprId, looks};
use super::look::{Ctx, Kinds};
use super::table::{DEAD, Info, Row, Run, StateId, Table};
use super::utf8::{NOWHERE, NodeId, Step, Steps, Templates};
use crate::error::{Error, Result};
use crate::limits::CompileLimits;
use rustc_hash::{FxHashMap, FxHashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

/// A residual and the kind of the character before it.
type Place = (ExprId, Ctx);

#[derive(Debug, Clone)]
enum Kind {
    Dead,
    Boundary(ExprId, Ctx),
    /// Inside a character: a template node and its targets.
    Middle(NodeId, Box<[StateId]>),
}

/// What extending needs.
#[derive(Debug)]
struct Core {
    arena: Arena,
    kinds: Kinds,
    states: Vec<Kind>,
    boundary: FxHashMap<Place, StateId>,
    middles: FxHashMap<(NodeId, Box<[StateId]>), StateId>,
    templates: Templates,
    /// Places with predicates whose liveness was searched.
    live: FxHashMap<Place, bool>,
    rows: usize,
    bytes: usize,
    deadline: Option<Instant>,
}

/// A lazily built deterministic automaton over bytes; shared, append-only.
#[derive(Debug)]
pub(crate) struct Automaton {
    table: Table,
    core: Mutex<Core>,
    limits: CompileLimits,
    start: StateId,
}

/// Sizes for reports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AutomatonSize {
    /// States created so far.
    pub states: usize,
    /// States whose transitions were needed so far.
    pub expanded: usize,
    /// Bytes held.
    pub bytes: usize,
}

impl Automaton {
    /// The automaton of `expr`. `start` is [`DEAD`] if no text matches.
    pub(crate) fn new(
        arena: Arena,
        expr: ExprId,
        kinds: Kinds,
        limits: CompileLimits,
        deadline: Option<Instant>,
    ) -> Result<Self> {
        let core = Core {
            arena,
            kinds,
            states: Vec::new(),
            boundary: FxHashMap::default(),
            middles: FxHashMap::default(),
            templates: Templates::default(),
            live: FxHashMap::default(),
            rows: 0,
            bytes: 0,
            deadline,
        };
        let mut this =
            Self { table: Table::new(limits.max_states), core: Mutex::new(core), limits, start: 0 };
        {
            let mut core = lock(&this.core)?;
            core.push(&this.table, &limits, Kind::Dead, Info { accepting: false, run: None })?;
            this.start = core.place(&this.table, &limits, (expr, Ctx::Edge))?;
            core.deadline = None;
        }
        Ok(this)
    }

    /// Texts of characters of one class, each a live state: used to sort tokens by class.
    pub(crate) fn of_class(class: &Arc<[Range]>, limits: CompileLimits) -> Result<Self> {
        let mut arena = Arena::new(limits.max_bytes);
        let one = arena.class(class.to_vec());
        let all = arena.repeat(one, 0, super::expr::INF);
        Self::new(arena, all, Kinds::default(), limits, None)
    }

    /// The state of the empty text.
    pub(crate) fn start(&self) -> StateId {
        self.start
    }

    /// Whether the text that led here is in the language.
    pub(crate) fn accepting(&self, state: StateId) -> Result<bool> {
        Ok(self.table.info(state)?.accepting)
    }

    /// The loop at a state.
    pub(crate) fn run(&self, state: StateId) -> Result<Option<&Run>> {
        Ok(self.table.info(state)?.run.as_ref())
    }

    /// The transitions of a state.
    #[inline]
    pub(crate) fn row(&self, state: StateId) -> Result<&Row> {
        match self.table.row(state) {
            Some(row) => Ok(row),
            None => self.expand(state),
        }
    }

    /// The state after `bytes`.
    pub(crate) fn walk(&self, mut state: StateId, bytes: &[u8]) -> Result<StateId> {
        for &b in bytes {
            if state == DEAD {
                break;
            }
            state = self.row(state)?[usize::from(b)];
        }
        Ok(state)
    }

    #[cold]
    fn expand(&self, state: StateId) -> Result<&Row> {
        let mut core = lock(&self.core)?;
        if let Some(row) = self.table.row(state) {
            return Ok(row);
        }
        let row = core.expand(&self.table, &self.limits, state)?;
        core.rows += 1;
        core.bytes += size_of::<Row>();
        self.table.set_row(state, row)
    }

    /// Current sizes.
    pub(crate) fn size(&self) -> Result<AutomatonSize> {
        let core = lock(&self.core)?;
        Ok(AutomatonSize {
            states: core.states.len(),
            expanded: core.rows,
            bytes: core.bytes + core.arena.memory() + core.templates.memory(),
        })
    }
}

fn lock(core: &Mutex<Core>) -> Result<MutexGuard<'_, Core>> {
    core.lock().map_err(|_| Error::internal("an earlier call panicked while extending"))
}

impl Core {
    fn check(&self, limits: &CompileLimits) -> Result<()> {
        let bytes = self.bytes + self.arena.memory() + self.templates.memory();
        if bytes > limits.max_bytes {
            return Err(Error::limit("max_bytes", bytes as u64, limits.max_bytes as u64));
        }
        if let Some(deadline) = self.deadline
            && Instant::now() > deadline
        {
            let ms = limits.max_time.as_millis() as u64;
            return Err(Error::limit("max_ms", ms + 1, ms));
        }
        Ok(())
    }

    fn push(
        &mut self,
        table: &Table,
        limits: &CompileLimits,
        kind: Kind,
        info: Info,
    ) -> Result<StateId> {
        let id = self.states.len();
        if id > limits.max_states {
            return Err(Error::limit("max_states", id as u64, limits.max_states as u64));
        }
        let extra = match &kind {
            Kind::Middle(_, targets) => targets.len() * 8,
            _ => 0,
        };
        table.publish(id as StateId, info)?;
        self.bytes += 120 + extra;
        self.states.push(kind);
        Ok(id as StateId)
    }

    /// The state of a place, made if it is new; [`DEAD`] if nothing completes it.
    fn place(&mut self, table: &Table, limits: &CompileLimits, place: Place) -> Result<StateId> {
        let place = self.normal(place);
        if place.0 == EMPTY {
            return Ok(DEAD);
        }
        if let Some(&id) = self.boundary.get(&place) {
            return Ok(id);
        }
        let id = if self.is_live(limits, place)? {
            let run = if self.arena.is_pure(place.0) { self.find_run(place.0) } else { None };
            let info = Info { accepting: self.accepts(place), run };
            self.push(table, limits, Kind::Boundary(place.0, place.1), info)?
        } else {
            DEAD
        };
        self.boundary.insert(place, id);
        Ok(id)
    }

    /// Forgets the kind of the previous character where nothing asks for it.
    fn normal(&self, (e, ctx): Place) -> Place {
        let asks = self.arena.looks(e);
        let relevant = asks & looks::OTHER != 0 || (asks & looks::START != 0 && ctx == Ctx::Edge);
        (e, if relevant { ctx } else { Ctx::Other })
    }

    fn accepts(&self, (e, ctx): Place) -> bool {
        self.arena.nullable(e, ctx, Ctx::Edge)
    }

    fn cuts(&mut self, (e, ctx): Place) -> Vec<Cut> {
        self.arena.cuts(e, ctx, &self.kinds)
    }

    /// Whether some text completes a place.
    fn is_live(&mut self, limits: &CompileLimits, place: Place) -> Result<bool> {
        if self.arena.is_pure(place.0) {
            return Ok(place.0 != EMPTY);
        }
        if let Some(&known) = self.live.get(&place) {
            return Ok(known);
        }
        // Breadth first; `from[i]` is the place that led to `seen[i]`.
        let mut seen = vec![place];
        let mut from = vec![usize::MAX];
        let mut known: FxHashSet<Place> = FxHashSet::default();
        known.insert(place);
        let mut next = 0;
        while next < seen.len() {
            let here = seen[next];
            let alive = match self.live.get(&here) {
                Some(&answer) => answer,
                None => self.arena.is_pure(here.0) || self.accepts(here),
            };
            if alive {
                let mut i = next;
                while i != usize::MAX {
                    self.live.insert(seen[i], true);
                    i = from[i];
                }
                return Ok(true);
            }
            if self.live.get(&here) != Some(&false) {
                if seen.len() > limits.max_states {
                    return Err(Error::limit(
                        "max_states",
                        seen.len() as u64,
                        limits.max_states as u64,
                    ));
                }
                self.check(limits)?;
                let cuts = self.cuts(here);
                self.check(limits)?;
                for cut in cuts {
                    for rest in cut.rests {
                        let to = self.normal((rest, cut.ctx));
                        if rest != EMPTY && known.insert(to) {
                            seen.push(to);
                            from.push(next);
                        }
                    }
                }
            }
            next += 1;
        }
        self.bytes += seen.len() * 24;
        for place in seen {
            self.live.insert(place, false);
        }
        Ok(false)
    }

    /// The largest loop over one class that a pure residual begins with.
    fn find_run(&self, e: ExprId) -> Option<Run> {
        let mut best: Option<(u32, u64, &Arc<[Range]>)> = None;
        let mut todo = vec![e];
        let mut budget = 64; // loops hide near the head; wide unions are not searched through
        while let Some(e) = todo.pop() {
            budget -= 1;
            if budget == 0 {
                break;
            }
            match self.arena.node(e) {
                Expr::Concat(h, t) => {
                    todo.push(*h);
                    if self.arena.nullable(*h, Ctx::Other, Ctx::Other) {
                        todo.push(*t);
                    }
                }
                Expr::Union(members) => todo.extend(members.iter().take(32)),
                Expr::Repeat { body, max, .. } => {
                    let class = match self.arena.node(*body) {
                        Expr::Class(c) => Some(*c),
                        Expr::Union(m) => m.iter().find_map(|&m| match self.arena.node(m) {
                            Expr::Class(c) => Some(*c),
                            _ => None,
                        }),
                        _ => None,
                    };
                    match class {
                        Some(c) => {
                            let set = self.arena.classes.get(c);
                            let size = set.iter().map(|r| u64::from(r.1 - r.0) + 1).sum();
                            // Beyond 64 characters one more makes no difference to tokens.
                            let rank = ((*max).min(64), size);
                            if best.is_none_or(|b| (b.0.min(64), b.1) < rank) {
                                best = Some((*max, size, set));
                            }
                        }
                        None => todo.push(*body),
                    }
                }
                Expr::Empty | Expr::Epsilon | Expr::Class(_) | Expr::Look(_) => {}
            }
        }
        best.map(|(max, _, class)| Run { class: Arc::clone(class), max })
    }

    fn expand(
        &mut self,
        table: &Table,
        limits: &CompileLimits,
        state: StateId,
    ) -> Result<Box<Row>> {
        self.check(limits)?;
        let kind = self
            .states
            .get(state as usize)
            .cloned()
            .ok_or_else(|| Error::internal("a transition out of no state"))?;
        let (steps, targets) = match kind {
            Kind::Dead => (Arc::from([]), Box::default()),
            Kind::Middle(node, targets) => (Arc::clone(self.templates.node(node)), targets),
            Kind::Boundary(e, ctx) => self.boundary_steps(table, limits, (e, ctx))?,
        };
        let mut row: Box<Row> = Box::new([DEAD; 256]);
        for (lo, hi, step) in &*steps {
            let to = match step {
                Step::Target(t) => targets[*t as usize],
                Step::Inner(node, sees) => {
                    let sees = sees.iter().map(|&t| targets[t as usize]).collect();
                    self.middle(table, limits, *node, sees)?
                }
            };
            row[usize::from(*lo)..=usize::from(*hi)].fill(to);
        }
        Ok(row)
    }

    /// The first bytes of the characters that may follow a place, and the states behind them.
    fn boundary_steps(
        &mut self,
        table: &Table,
        limits: &CompileLimits,
        place: Place,
    ) -> Result<(Steps, Box<[StateId]>)> {
        let cuts = self.cuts(place);
        self.check(limits)?; // an arena that filled up on the way gave only a part
        let mut targets: Vec<StateId> = Vec::new();
        let mut numbers: FxHashMap<StateId, u32> = FxHashMap::default();
        let mut of_block: Vec<u32> = Vec::new();
        for cut in &cuts {
            for &rest in &cut.rests {
                let to = self.place(table, limits, (rest, cut.ctx))?;
                of_block.push(if to == DEAD {
                    NOWHERE
                } else {
                    *numbers.entry(to).or_insert_with(|| {
                        targets.push(to);
                        targets.len() as u32 - 1
                    })
                });
            }
        }
        let shapes: Box<[_]> = cuts.iter().map(|c| c.shape).collect();
        let arena = &self.arena;
        let numbered = of_block.clone();
        let steps = self.templates.root((shapes, of_block.into()), || {
            let mut ranges: Vec<(u32, u32, u32)> = Vec::new();
            let mut first = 0;
            for cut in &cuts {
                for &(lo, hi, block) in &arena.shape(cut.shape).intervals {
                    match numbered[first + block as usize] {
                        NOWHERE => {}
                        target => ranges.push((lo, hi, target)),
                    }
                }
                first += cut.rests.len();
            }
            ranges.sort_unstable();
            ranges.dedup_by(|b, a| {
                let joins = a.2 == b.2 && a.1 + 1 == b.0;
                if joins {
                    a.1 = b.1;
                }
                joins
            });
            ranges
        });
        Ok((steps, targets.into()))
    }

    fn middle(
        &mut self,
        table: &Table,
        limits: &CompileLimits,
        node: NodeId,
        targets: Box<[StateId]>,
    ) -> Result<StateId> {
        let key = (node, targets);
        if let Some(&id) = self.middles.get(&key) {
            return Ok(id);
        }
        let info = Info { accepting: false, run: None };
        let id = self.push(table, limits, Kind::Middle(node, key.1.clone()), info)?;
        self.middles.insert(key, id);
        Ok(id)
    }
}
