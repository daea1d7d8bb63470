//! Speculative decoding: draft stores, token trees, lossless verification.
//!
//! Three orthogonal pieces. [`draft`] sources propose candidates for a node of a growing tree; the
//! builder in [`tree`] keeps the nodes most likely to be reached, over all sources and requests at
//! once; [`verify`] walks the tree along the tokens the target itself chooses. Nothing here calls a
//! model.
//!
//! The default verifier is *path-lossless*: with one seed the text is the same with and without
//! speculation, whatever is drafted, because every token is the ordinary draw at its absolute
//! position and drafts only decide how many of them one forward pass yields.

#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod calibration;
pub mod control;
pub mod draft;
mod file;
pub mod policy;
mod request;
mod speculator;
pub mod tree;
pub mod verify;

pub use calibration::{BINS, Bin, Calibration};
pub use draft::Scope;
pub use request::{Request, RequestOptions};
pub use speculator::{MAX_NODES, Policy, Speculator, SpeculatorConfig, Stats};
pub use tree::{DraftLaw, TreeBatch};
pub use verify::Verified;
