//! The states of an automaton: append-only, read without a lock.
//!
//! A state is an id, a few facts fixed when it is created, and a row of 256 transitions filled in
//! when it is first left. Slots live in chunks that never move, each behind a `OnceLock`, so readers
//! share `&Row` for as long as they hold the automaton while another thread appends.

use super::charset::Range;
use crate::error::{Error, Result};
use std::sync::{Arc, OnceLock};

/// A state of one automaton.
pub(crate) type StateId = u32;

/// No continuation exists.
pub(crate) const DEAD: StateId = 0;

/// Transitions by byte.
pub(crate) type Row = [StateId; 256];

const CHUNK: usize = 256;

/// A loop over one class at this state: every text of at most `max` characters of `class` is a live
/// continuation.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) class: Arc<[Range]>,
    pub(crate) max: u32,
}

/// What is known of a state without leaving it.
#[derive(Debug, Clone)]
pub(crate) struct Info {
    pub(crate) accepting: bool,
    /// Markers that the text read so far may end in: lexemes that are complete here.
    pub(crate) markers: Box<[u32]>,
}

#[derive(Debug, Default)]
struct Slot {
    info: OnceLock<Info>,
    row: OnceLock<Box<Row>>,
    run: OnceLock<Option<Run>>,
}

type Chunk = Box<[Slot]>;

/// See the module comment.
#[derive(Debug)]
pub(crate) struct Table {
    chunks: Box<[OnceLock<Chunk>]>,
}

impl Table {
    pub(crate) fn new(max_states: usize) -> Self {
        Self { chunks: (0..=max_states / CHUNK).map(|_| OnceLock::new()).collect() }
    }

    fn slot(&self, state: StateId) -> Option<&Slot> {
        let i = state as usize;
        self.chunks.get(i / CHUNK)?.get()?.get(i % CHUNK)
    }

    /// Publishes the facts of a new state.
    pub(crate) fn publish(&self, state: StateId, info: Info) -> Result<()> {
        let i = state as usize;
        let chunk = self
            .chunks
            .get(i / CHUNK)
            .ok_or_else(|| Error::internal("a state beyond the table"))?
            .get_or_init(|| (0..CHUNK).map(|_| Slot::default()).collect());
        chunk[i % CHUNK].info.set(info).map_err(|_| Error::internal("a state was published twice"))
    }

    /// Facts of a state that was published.
    pub(crate) fn info(&self, state: StateId) -> Result<&Info> {
        self.slot(state)
            .and_then(|s| s.info.get())
            .ok_or_else(|| Error::internal("a state that was never published"))
    }

    /// The transitions of a state, if they were filled in.
    #[inline]
    pub(crate) fn row(&self, state: StateId) -> Option<&Row> {
        self.slot(state)?.row.get().map(|r| &**r)
    }

    /// The loop at a state, if it was looked for.
    pub(crate) fn run(&self, state: StateId) -> Option<&Option<Run>> {
        self.slot(state)?.run.get()
    }

    /// Keeps the loop at a state; the first writer wins.
    pub(crate) fn set_run(&self, state: StateId, run: Option<Run>) -> Result<&Option<Run>> {
        let slot = self.slot(state).ok_or_else(|| Error::internal("a loop of no state"))?;
        Ok(slot.run.get_or_init(|| run))
    }

    /// Fills in the transitions of a state; the first writer wins.
    pub(crate) fn set_row(&self, state: StateId, row: Box<Row>) -> Result<&Row> {
        let slot = self.slot(state).ok_or_else(|| Error::internal("a row of no state"))?;
        Ok(slot.row.get_or_init(|| row))
    }
}
