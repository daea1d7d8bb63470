//! Two engines side by side: a text is alive where both say so.
//!
//! The intersection of two context-free languages is not context-free, and whether it is empty cannot
//! be decided; so the masks are those of both, exactly, and a state that no text completes is not
//! ruled out (guarantee D is not proven). S and C hold as far as they do for both sides.
//!
//! A state is an interned pair of states, so the laws of matchers hold as for any engine.

use crate::automata::dfa::AutomatonSize;
use crate::automata::table::{DEAD, StateId};
use crate::engine::{Engine, Maker, next_serial};
use crate::error::{Error, Result};
use crate::grammar::{GrammarMask, Inner, Notes, Source};
use crate::limits::CompileLimits;
use crate::mask::cache::Mask;
use crate::mask::index::TokenIndex;
use crate::matcher::FINISHED;
use rustc_hash::FxHashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use trivium_core::{Error as Core, TokenId};

type Both = (StateId, StateId);

#[derive(Debug, Default)]
struct Table {
    ids: FxHashMap<Both, StateId>,
    list: Vec<Both>,
    masks: FxHashMap<StateId, Arc<Mask>>,
    mask_bytes: usize,
}

/// See the module comment.
#[derive(Debug)]
pub(crate) struct Pair {
    sides: [Engine; 2],
    index: Arc<TokenIndex>,
    table: Mutex<Table>,
    start: StateId,
    limits: CompileLimits,
    pub(crate) serial: u64,
}

impl Pair {
    fn new(sides: [Engine; 2], index: Arc<TokenIndex>, limits: CompileLimits) -> Self {
        let first = (sides[0].start(), sides[1].start());
        let serial = next_serial();
        let mut this = Self { sides, index, table: Mutex::default(), start: DEAD, limits, serial };
        let table = this.table.get_mut().unwrap_or_else(PoisonError::into_inner);
        table.list.push((DEAD, DEAD)); // number 0 is `DEAD`
        if first.0 != DEAD && first.1 != DEAD {
            this.start = table.id(first);
        }
        this
    }

    fn lock(&self) -> Result<MutexGuard<'_, Table>> {
        self.table.lock().map_err(|_| Error::internal("an earlier call panicked while pairing"))
    }

    fn at(&self, state: StateId) -> Result<Both> {
        Ok(self.lock()?.list[state as usize])
    }

    fn intern(&self, both: Both) -> Result<StateId> {
        match both {
            (FINISHED, FINISHED) => Ok(FINISHED),
            (DEAD | FINISHED, _) | (_, DEAD | FINISHED) => Ok(DEAD),
            _ => Ok(self.lock()?.id(both)),
        }
    }

    pub(crate) fn start(&self) -> StateId {
        self.start
    }

    pub(crate) fn accepting(&self, state: StateId) -> Result<bool> {
        let (a, b) = self.at(state)?;
        Ok(self.sides[0].accepting(a)? && self.sides[1].accepting(b)?)
    }

    pub(crate) fn step(&self, state: StateId, token: TokenId) -> Result<StateId> {
        let (a, b) = self.at(state)?;
        match self.sides[0].step(a, token)? {
            DEAD => Ok(DEAD),
            a => self.intern((a, self.sides[1].step(b, token)?)),
        }
    }

    pub(crate) fn walk(&self, state: StateId, bytes: &[u8]) -> Result<StateId> {
        let (a, b) = self.at(state)?;
        self.intern((self.sides[0].walk(a, bytes)?, self.sides[1].walk(b, bytes)?))
    }

    pub(crate) fn next_bytes(&self, state: StateId) -> Result<Vec<u8>> {
        let (a, b) = self.at(state)?;
        let other = self.sides[1].next_bytes(b)?;
        let mut bytes = self.sides[0].next_bytes(a)?;
        bytes.retain(|b| other.contains(b));
        Ok(bytes)
    }

    pub(crate) fn cached(&self, state: StateId) -> Result<Option<Arc<Mask>>> {
        Ok(self.lock()?.masks.get(&state).cloned())
    }

    pub(crate) fn mask(&self, state: StateId) -> Result<Arc<Mask>> {
        if let Some(mask) = self.cached(state)? {
            return Ok(mask);
        }
        let (a, b) = self.at(state)?;
        let (mut row, mut other) = (vec![0u32; self.index.words()], vec![0u32; self.index.words()]);
        self.sides[0].mask(a)?.write(&mut row);
        self.sides[1].mask(b)?.write(&mut other);
        row.iter_mut().zip(&other).for_each(|(x, y)| *x &= y);
        let mask = Arc::new(Mask::of_row(&row));
        let mut table = self.lock()?;
        if table.mask_bytes > self.limits.mask_bytes {
            table.masks.clear();
            table.mask_bytes = 0;
        }
        // A row that is not sparse stands in a layer of its own.
        table.mask_bytes += mask.memory() + 4 * row.len();
        table.masks.insert(state, Arc::clone(&mask));
        Ok(mask)
    }

    pub(crate) fn mask_slow(&self, state: StateId) -> Result<Vec<u32>> {
        let (a, b) = self.at(state)?;
        let mut row = self.sides[0].mask_slow(a)?;
        let other = self.sides[1].mask_slow(b)?;
        row.iter_mut().zip(&other).for_each(|(x, y)| *x &= y);
        Ok(row)
    }

    /// See [`Engine::max_bytes`].
    pub(crate) fn max_bytes(&self) -> usize {
        self.limits.max_bytes
    }

    pub(crate) fn is_retired(&self) -> bool {
        let full = self.table.lock().is_ok_and(|t| t.list.len() > self.limits.max_states);
        full || self.sides.iter().any(Engine::is_retired)
    }

    pub(crate) fn masks(&self) -> (usize, usize) {
        self.table.lock().map_or((0, 0), |t| (t.masks.len(), t.mask_bytes))
    }

    pub(crate) fn size(&self) -> Result<AutomatonSize> {
        let (a, b) = (self.sides[0].size()?, self.sides[1].size()?);
        let own = self.lock()?.list.len();
        Ok(AutomatonSize {
            states: own + a.states + b.states,
            expanded: a.expanded + b.expanded,
            bytes: own * 32 + a.bytes + b.bytes,
        })
    }
}

impl Table {
    fn id(&mut self, both: Both) -> StateId {
        let next = self.list.len() as StateId;
        *self.ids.entry(both).or_insert_with(|| {
            self.list.push(both);
            next
        })
    }
}

/// Two grammars, and the pair that new matchers use.
#[derive(Debug)]
pub(crate) struct PairMaker {
    sides: [Arc<Inner>; 2],
    limits: CompileLimits,
    pair: Mutex<Arc<Pair>>,
}

impl PairMaker {
    fn new(sides: [Arc<Inner>; 2], limits: CompileLimits) -> Self {
        let pair = Mutex::new(Arc::new(Self::fresh(&sides, limits)));
        Self { sides, limits, pair }
    }

    fn fresh(sides: &[Arc<Inner>; 2], limits: CompileLimits) -> Pair {
        let engines = [sides[0].engine(), sides[1].engine()];
        Pair::new(engines, Arc::clone(&sides[0].index), limits)
    }

    /// The pair for new texts, fresh if the last one is full.
    pub(crate) fn pair(&self) -> Arc<Pair> {
        let mut pair = self.pair.lock().unwrap_or_else(PoisonError::into_inner);
        if pair.is_retired() {
            *pair = Arc::new(Self::fresh(&self.sides, self.limits));
        }
        Arc::clone(&pair)
    }
}

impl GrammarMask {
    /// The texts of both, whatever they are made of; a state that no text completes is not ruled out,
    /// and `report` says so. For regular grammars [`and`](Self::and) rules it out.
    ///
    /// # Errors
    /// `InvalidInput` for different vocabularies; `UnsupportedPattern` for a grammar with a checker.
    pub fn both(a: &Self, b: &Self, limits: CompileLimits) -> Result<Self> {
        if !Arc::ptr_eq(a.vocab(), b.vocab()) {
            return Err(Core::input("both", "grammars over different vocabularies").into());
        }
        for side in [a, b] {
            side.check_combines("both")?;
        }
        let mut notes = Notes::default();
        for of in [a.notes(), b.notes()] {
            notes.relaxed.extend_from_slice(&of.relaxed);
            notes.incomplete.extend_from_slice(&of.incomplete);
            notes.unproven.extend_from_slice(&of.unproven);
            notes.warnings.extend_from_slice(&of.warnings);
        }
        let why = "both sides are masked, none is made the other's: a text may be begun that no text \
                   completes";
        notes.unproven.push(why.to_owned());
        notes.warnings.push(why.to_owned());
        let text = format!("{}, {}", a.text(), b.text());
        let sides = [a.shared(), b.shared()];
        let index = Arc::clone(&sides[0].index);
        let source = Source { kind: "both", text, notes, recipe: None };
        Ok(Self::of_maker(Maker::Pair(PairMaker::new(sides, limits)), index, source))
    }
}
