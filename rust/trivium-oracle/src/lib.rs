//! The machine that checks claims: slow, exact and obvious.
//!
//! [`enumerate`] walks every random outcome of a decision procedure and adds up its law; [`toy`]
//! has target models small enough for that; [`laws`] holds every per-sequence object to the same
//! three laws. "Lossless" in this project means that a test here compared two laws and they were
//! equal to 1e-12, or two texts and they were the same.

#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod check;
pub mod closed;
pub mod enumerate;
pub mod grown;
pub mod laws;
pub mod lossy;
pub mod pairs;
pub mod protocol;
pub mod race;
pub mod toy;

pub use enumerate::{Law, law_of, total_variation};
