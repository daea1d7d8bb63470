//! The machine: context-free grammars and JSON values read byte by byte, as interned states.
//!
//! ```text
//! thread = (lexeme state, shadow, capture, stack)     state = interned sorted list of threads
//! stack  = hash-consed set of stacks: {(symbol on top, set of stacks below)}
//! ```
//!
//! A *lexeme* is one automaton state of the graph's single byte automaton; its expression ends in a
//! marker that says which lexeme was completed. When a marker is reached the symbol on top of the
//! stack says what may follow: a position of a rule, or the frame of an object or an array, whose
//! registers (members seen, counts, keys written) are hash-consed values. So two texts that may go on
//! alike are one state, whatever their tokens; a matcher is a vector of state ids, rolling back is
//! dropping ids, and masks are shared between all texts, trees and batches that meet in a state.
//!
//! | file | holds |
//! |---|---|
//! | [`graph`] | what front ends hand over |
//! | [`program`] | the same, flattened |
//! | [`sources`] | schemas beside each other in one graph |
//! | [`stack`], [`frame`], [`text`] | stacks, registers, keys: hash-consed |
//! | [`thread`] | one way to read the text so far |
//! | [`core`] | closures, exits, steps: the recogniser |
//! | [`lexeme`], [`container`] | where lexemes begin, what brackets, commas and keys lead to |
//! | [`scan`] | what the vocabulary can do in one lexeme state |
//! | [`run`], [`fill`] | states and steps, masks |

mod container;
mod core;
mod fill;
mod frame;
pub(crate) mod graph;
pub(crate) mod layout;
mod lexeme;
pub(crate) mod program;
pub(crate) mod run;
pub(crate) mod scan;
pub(crate) mod sources;
mod stack;
mod text;
mod thread;

use crate::error::Result;
use crate::limits::CompileLimits;
use crate::mask::index::TokenIndex;
use graph::Graph;
use program::Program;
use run::Run;
use std::sync::{Arc, Mutex, PoisonError};

/// A compiled graph and the run that new matchers use.
#[derive(Debug)]
pub(crate) struct Machine {
    program: Arc<Program>,
    index: Arc<TokenIndex>,
    limits: CompileLimits,
    run: Mutex<Arc<Run>>,
}

impl Machine {
    pub(crate) fn new(
        graph: Graph,
        index: &Arc<TokenIndex>,
        limits: CompileLimits,
    ) -> Result<Self> {
        let program = Arc::new(Program::new(graph));
        let run = Run::new(Arc::clone(&program), Arc::clone(index), limits)?;
        let run = Mutex::new(Arc::new(run));
        Ok(Self { program, index: Arc::clone(index), limits, run })
    }

    /// The run for new texts, fresh if the last one is full.
    pub(crate) fn run(&self) -> Arc<Run> {
        let mut run = self.run.lock().unwrap_or_else(PoisonError::into_inner);
        if run.is_retired() {
            let program = Arc::clone(&self.program);
            // What could be started once can be started again; if not, the old run goes on.
            if let Ok(fresh) = Run::new(program, Arc::clone(&self.index), self.limits) {
                *run = Arc::new(fresh);
            }
        }
        Arc::clone(&run)
    }
}

#[cfg(test)]
mod tests;
