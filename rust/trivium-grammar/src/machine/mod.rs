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

#[expect(dead_code, reason = "the front ends that use it land separately")]
pub(crate) mod graph;
