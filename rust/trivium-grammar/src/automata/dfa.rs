//! The byte automaton of one grammar, determinised as far as texts reach.
//!
//! Invariant *D*: every state but [`DEAD`] has a finite completion ([`super::live`]). States inside a
//! character lead only to such states.
//!
//! Reading (`row`, `accepting`) takes no lock once a state was left before; extending takes one.

use super::charset::Range;
use super::expr::{Arena, EMPTY, ExprId};
use super::look::Ctx;
use super::loops::Loop;
use super::markers;
use super::print::{Print, mix};
use super::table::{DEAD, Info, Row, Run, StateId, Table};
use super::utf8::{NOWHERE, NodeId, Step, Steps, Templates};
use crate::error::{Error, Result};
use crate::limits::CompileLimits;
use rustc_hash::FxHashMap;
use std::sync::atomic::{AtomicBool, Ordering};
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
    states: Vec<Kind>,
    boundary: FxHashMap<Place, StateId>,
    middles: FxHashMap<(NodeId, Box<[StateId]>), StateId>,
    templates: Templates,
    /// Answers of [`Automaton::uniform`].
    uniform: FxHashMap<(StateId, Arc<[Range]>), Option<StateId>>,
    /// The byte by which a state without a row was left, and where it leads.
    passed: FxHashMap<StateId, (u8, StateId)>,
    /// Answers of [`Automaton::reach`].
    reach: FxHashMap<StateId, Arc<[u64]>>,
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
    /// The table holds lexemes that end in markers.
    marked: AtomicBool,
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
        limits: CompileLimits,
        deadline: Option<Instant>,
    ) -> Result<Self> {
        let mut this = Self::of(arena, limits, deadline)?;
        this.start = this.enter(expr)?;
        lock(&this.core)?.deadline = None;
        Ok(this)
    }

    /// An automaton without a start: one table of states for many expressions of one arena, each
    /// reached by [`enter`](Self::enter).
    pub(crate) fn of(
        arena: Arena,
        limits: CompileLimits,
        deadline: Option<Instant>,
    ) -> Result<Self> {
        let core = Core {
            arena,
            states: Vec::new(),
            boundary: FxHashMap::default(),
            middles: FxHashMap::default(),
            templates: Templates::default(),
            uniform: FxHashMap::default(),
            passed: FxHashMap::default(),
            reach: FxHashMap::default(),
            rows: 0,
            bytes: 0,
            deadline,
        };
        let this = Self {
            table: Table::new(limits.max_states),
            core: Mutex::new(core),
            limits,
            start: DEAD,
            marked: AtomicBool::new(false),
        };
        let dead = Info { accepting: false, markers: Box::default() };
        lock(&this.core)?.push(&this.table, &limits, Kind::Dead, dead)?;
        Ok(this)
    }

    /// The state at the start of `expr`; [`DEAD`] if no text matches. The same id for equal
    /// expressions.
    ///
    /// # Errors
    /// `LimitExceeded` over a budget.
    pub(crate) fn enter(&self, expr: ExprId) -> Result<StateId> {
        let mut core = lock(&self.core)?;
        core.arena.refuel();
        core.place(&self.table, &self.limits, (expr, Ctx::Edge))
    }

    /// Lets `work` extend the expressions, to [`enter`](Self::enter) what it makes.
    ///
    /// # Errors
    /// Those of `work`; `LimitExceeded` over a budget.
    pub(crate) fn extend<T>(&self, work: impl FnOnce(&mut Arena) -> Result<T>) -> Result<T> {
        let mut core = lock(&self.core)?;
        core.arena.refuel();
        let out = work(&mut core.arena)?;
        core.check(&self.limits)?;
        Ok(out)
    }

    /// Texts of characters of one class, each a live state: used to sort tokens by class.
    pub(crate) fn of_class(class: &Arc<[Range]>, limits: CompileLimits) -> Result<Self> {
        let mut arena = Arena::new(limits.max_bytes);
        let one = arena.class(class.to_vec());
        let all = arena.repeat(one, 0, super::expr::INF);
        Self::new(arena, all, limits, None)
    }

    /// The state of the empty text.
    pub(crate) fn start(&self) -> StateId {
        self.start
    }

    /// Whether the text that led here is in the language.
    pub(crate) fn accepting(&self, state: StateId) -> Result<bool> {
        Ok(self.table.info(state)?.accepting)
    }

    /// Lexemes that are complete at a state.
    pub(crate) fn markers(&self, state: StateId) -> Result<&[u32]> {
        Ok(&self.table.info(state)?.markers)
    }

    /// Whether expressions end in markers.
    pub(crate) fn has_markers(&self) -> bool {
        self.marked.load(Ordering::Relaxed)
    }

    /// The lexemes that some text may complete from a state, as bits; for expressions whose markers are
    /// small numbers.
    pub(crate) fn reach(&self, state: StateId) -> Result<Arc<[u64]>> {
        let mut core = lock(&self.core)?;
        if let Some(known) = core.reach.get(&state) {
            return Ok(Arc::clone(known));
        }
        let mut bits = Vec::new();
        // States inside a character lead to complete ones.
        let mut todo = vec![state];
        while let Some(s) = todo.pop() {
            match core.states.get(s as usize) {
                Some(Kind::Boundary(e, _)) => markers::reachable(&core.arena, *e, &mut bits),
                Some(Kind::Middle(_, targets)) => todo.extend(targets.iter()),
                _ => {}
            }
        }
        let bits: Arc<[u64]> = bits.into();
        core.bytes += 48 + bits.len() * 8;
        core.reach.insert(state, Arc::clone(&bits));
        Ok(bits)
    }

    /// The fingerprint of what may follow a state, and the marker that it does not speak of, because no
    /// other is there; `None` inside a character.
    pub(crate) fn print(&self, state: StateId) -> Result<Option<(Print, Option<u32>)>> {
        let core = lock(&self.core)?;
        Ok(match core.states.get(state as usize) {
            Some(&Kind::Boundary(e, ctx)) => {
                let sole = markers::sole(&core.arena, e);
                let [exact, blind] = core.arena.clipped_prints(e);
                let print = if sole.is_some() { mix(blind, 17) } else { exact };
                Some((mix(print, ctx as u128), sole))
            }
            _ => None,
        })
    }

    /// The only marker that texts lead to from a state.
    pub(crate) fn sole(&self, state: StateId) -> Result<Option<u32>> {
        let core = lock(&self.core)?;
        Ok(match core.states.get(state as usize) {
            Some(&Kind::Boundary(e, _)) => markers::sole(&core.arena, e),
            _ => None,
        })
    }

    /// Says that the expressions to come end in markers.
    pub(crate) fn mark(&self) {
        self.marked.store(true, Ordering::Relaxed);
    }

    /// Works on the arena.
    pub(crate) fn with_arena<T>(&self, work: impl FnOnce(&mut Arena) -> T) -> Result<T> {
        Ok(work(&mut lock(&self.core)?.arena))
    }

    /// Works on what may follow a state; `None` inside a character.
    pub(crate) fn with_residual<T>(
        &self,
        state: StateId,
        work: impl FnOnce(&Arena, ExprId) -> Option<T>,
    ) -> Result<Option<T>> {
        let core = lock(&self.core)?;
        Ok(match core.states.get(state as usize) {
            Some(&Kind::Boundary(e, _)) => work(&core.arena, e),
            _ => None,
        })
    }

    /// The state with the texts that a complement at its head refuses.
    pub(crate) fn unrefused(&self, state: StateId) -> Result<Option<StateId>> {
        let mut core = lock(&self.core)?;
        let Some(&Kind::Boundary(e, _)) = core.states.get(state as usize) else { return Ok(None) };
        if core.arena.is_plain(e) || !core.arena.is_pure(e) {
            return Ok(None);
        }
        core.check(&self.limits)?;
        core.arena.refuel();
        let Some(whole) = core.arena.unrefused(e) else { return Ok(None) };
        core.arena.check()?;
        let to = core.place(&self.table, &self.limits, (whole, Ctx::Other))?;
        Ok((to != DEAD && to != state).then_some(to))
    }

    /// The state without the length bound that it begins with, the bound and its slack; see
    /// [`super::loose`].
    pub(crate) fn loosen(&self, state: StateId, least: u32) -> Result<Option<(StateId, u32, u32)>> {
        let mut core = lock(&self.core)?;
        let Some(&Kind::Boundary(e, _)) = core.states.get(state as usize) else { return Ok(None) };
        if !core.arena.is_pure(e) {
            return Ok(None);
        }
        core.check(&self.limits)?;
        core.arena.refuel();
        let Some(loose) = core.arena.loosen(e, least)? else { return Ok(None) };
        core.arena.check()?;
        let to = core.place(&self.table, &self.limits, (loose.expr, Ctx::Other))?;
        Ok((to != DEAD).then_some((to, loose.room, loose.slack)))
    }

    /// The loop at a state, looked for when it is first asked for.
    pub(crate) fn run(&self, state: StateId) -> Result<Option<&Run>> {
        if let Some(known) = self.table.run(state) {
            return Ok(known.as_ref());
        }
        let run = {
            let mut core = lock(&self.core)?;
            core.arena.refuel();
            match core.states.get(state as usize) {
                Some(&Kind::Boundary(e, _)) if core.arena.is_pure(e) => core.find_run(e)?,
                _ => None,
            }
        };
        Ok(self.table.set_run(state, run)?.as_ref())
    }

    /// Where every character of a class leads, if all lead to one state ([`DEAD`] included).
    pub(crate) fn uniform(&self, state: StateId, class: &Arc<[Range]>) -> Result<Option<StateId>> {
        let mut core = lock(&self.core)?;
        let key = (state, Arc::clone(class));
        if let Some(&known) = core.uniform.get(&key) {
            return Ok(known);
        }
        core.arena.refuel();
        let found = core.uniform(&self.table, &self.limits, state, class)?;
        core.bytes += 64;
        core.uniform.insert(key, found);
        Ok(found)
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

    /// The state after one byte. A state that a text passes once gets no row: that costs more than
    /// following one byte.
    pub(crate) fn step(&self, state: StateId, byte: u8) -> Result<StateId> {
        if let Some(row) = self.table.row(state) {
            return Ok(row[usize::from(byte)]);
        }
        let mut core = lock(&self.core)?;
        if let Some(&(known, to)) = core.passed.get(&state) {
            if known == byte {
                return Ok(to);
            }
        } else if byte < 0x80
            && let Some(&Kind::Boundary(e, _)) = core.states.get(state as usize)
            && core.arena.is_pure(e)
        {
            core.check(&self.limits)?;
            core.arena.refuel();
            let rest = core.arena.derivative(e, byte.into());
            core.arena.check()?;
            let to = core.place(&self.table, &self.limits, (rest, Ctx::Other))?;
            core.bytes += 24;
            core.passed.insert(state, (byte, to));
            return Ok(to);
        }
        drop(core);
        Ok(self.expand(state)?[usize::from(byte)])
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
        self.arena.check()?;
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
        let place = self.arena.place(place.0, place.1);
        if place.0 == EMPTY {
            return Ok(DEAD);
        }
        if let Some(&id) = self.boundary.get(&place) {
            return Ok(id);
        }
        let id = if self.arena.is_live(place.0, place.1)? {
            let accepting = self.arena.accepts(place.0, place.1);
            let info = Info { accepting, markers: markers::of(&self.arena, place.0) };
            self.push(table, limits, Kind::Boundary(place.0, place.1), info)?
        } else {
            DEAD
        };
        self.boundary.insert(place, id);
        Ok(id)
    }

    /// The largest loop over one class that a pure residual begins with.
    fn find_run(&mut self, e: ExprId) -> Result<Option<Run>> {
        // Beyond 64 characters one more makes no difference to tokens.
        let rank =
            |l: &Loop| (l.max.min(64), l.set.iter().map(|r| u64::from(r.1 - r.0) + 1).sum::<u64>());
        let loops = self.arena.loops(e)?;
        let best = loops.into_iter().max_by_key(rank);
        Ok(best.map(|l| Run { class: l.set, max: l.max }))
    }

    fn expand(
        &mut self,
        table: &Table,
        limits: &CompileLimits,
        state: StateId,
    ) -> Result<Box<Row>> {
        self.check(limits)?;
        self.arena.refuel();
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

    /// See [`Automaton::uniform`].
    fn uniform(
        &mut self,
        table: &Table,
        limits: &CompileLimits,
        state: StateId,
        class: &[Range],
    ) -> Result<Option<StateId>> {
        let Some(&Kind::Boundary(e, ctx)) = self.states.get(state as usize) else {
            return Ok(None);
        };
        let cuts = self.arena.cuts(e, ctx);
        self.arena.check()?;
        let mut to = None;
        let mut inside = 0u64;
        for cut in &cuts {
            let shape = Arc::clone(self.arena.shape(cut.shape));
            let mut blocks: Vec<u32> = Vec::new();
            for r in class {
                let from = shape.intervals.partition_point(|i| i.1 < r.0);
                for &(lo, hi, block) in shape.intervals[from..].iter().take_while(|i| i.0 <= r.1) {
                    inside += u64::from(hi.min(r.1) - lo.max(r.0)) + 1;
                    if blocks.last() != Some(&block) {
                        blocks.push(block);
                    }
                }
            }
            blocks.sort_unstable();
            blocks.dedup();
            for block in blocks {
                let next = self.place(table, limits, (cut.rests[block as usize], cut.ctx))?;
                if *to.get_or_insert(next) != next {
                    return Ok(None);
                }
            }
        }
        let size: u64 = class.iter().map(|r| u64::from(r.1 - r.0) + 1).sum();
        // Characters in no block lead nowhere.
        Ok(match to {
            None => Some(DEAD),
            Some(to) if to == DEAD || inside == size => Some(to),
            Some(_) => None,
        })
    }

    /// The first bytes of the characters that may follow a place, and the states behind them.
    fn boundary_steps(
        &mut self,
        table: &Table,
        limits: &CompileLimits,
        place: Place,
    ) -> Result<(Steps, Box<[StateId]>)> {
        let cuts = self.arena.cuts(place.0, place.1);
        self.arena.check()?; // an arena that filled up on the way gave only a part
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
        let info = Info { accepting: false, markers: Box::default() };
        let id = self.push(table, limits, Kind::Middle(node, key.1.clone()), info)?;
        self.middles.insert(key, id);
        Ok(id)
    }
}
