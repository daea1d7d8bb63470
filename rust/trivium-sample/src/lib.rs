//! The processed law: mask, temperature, truncation.
//!
//! One file a rule. Every rule keeps a set of tokens of a [`ScaledRow`](trivium_core::ScaledRow) and
//! writes `-inf` elsewhere; the draw itself is core's, so truncation never changes the noise a token
//! sees. Order: mask, temperature, top-k, top-p, min-p (the order of transformers). The rules do not
//! commute with temperature; top-k and top-p do not commute with each other.
//!
//! Invariants, property-tested: the kept set is never empty and contains the arg-max; a shift of all
//! logits changes nothing; neutral parameters are the identity.

#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod min_p;
mod params;
mod top_k;
mod top_p;

pub use min_p::min_p;
pub use params::Params;
pub use top_k::top_k;
pub use top_p::top_p;
