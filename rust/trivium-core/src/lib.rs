//! What every part of trivium shares: token ids, vocabularies and their trie, packed masks, views
//! of logits, counter-based noise, the two draws, and typed errors.
//!
//! Nothing here knows how tokens are drafted, constrained or voted on. The crate has no dependency
//! on a sibling, does no logging and never reads a clock.
//!
//! | module | holds |
//! |---|---|
//! | [`error`] | [`Error`], the one type that crosses crates and becomes a Python exception |
//! | [`vocab`], [`trie`] | [`Vocabulary`] (bytes per id) and its depth-first flat [`Trie`] |
//! | [`mask`] | packed masks: bit `t & 31` of word `t >> 5` |
//! | [`logits`] | [`LogitsRow`]: one row of f32, f16 or bf16 |
//! | [`numerics`] | exponential, log-sum-exp, arg-max and top-k with fixed order and ties |
//! | [`simd`] | passes over a row, compiled for AVX2 too, with the same bits |
//! | [`rng`] | Philox4x32-10 and the public address of every random number |
//! | [`draw`] | [`ScaledRow`] and the draws `cdf` and `race` over it |
//! | [`chance`] | [`Chance`]: the only source of randomness a decision procedure may use |
//! | [`constraint`], [`law`] | the traits by which masks and target laws reach a verifier |
//! | [`pool`] | the library's threads; the one place that reads the environment |

#![deny(unsafe_code)] // allowed in `simd` alone
#![deny(missing_docs)]

pub mod chance;
pub mod constraint;
pub mod draw;
pub mod error;
pub mod ids;
pub mod law;
pub mod logits;
pub mod mask;
pub mod numerics;
pub mod pool;
pub mod rng;
pub mod simd;
pub mod trie;
pub mod vocab;

pub use chance::{Chance, Keyed};
pub use constraint::{Constraint, Unconstrained};
pub use draw::{Draw, ScaledRow};
pub use error::{Error, Result};
pub use ids::TokenId;
pub use law::TargetLaw;
pub use logits::LogitsRow;
pub use rng::{Address, Purpose};
pub use trie::Trie;
pub use vocab::{SpecialToken, Vocabulary};
