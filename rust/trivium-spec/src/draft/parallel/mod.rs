//! The target drafts for itself: what it said of positions that it was not sure to reach.
//!
//! Jacobi iteration and its relatives run the model over guesses and take its answers as the next
//! guesses. Under verification that is a source like any other: the answers at rejected nodes.

mod jacobi;

pub(crate) use jacobi::Jacobi;
