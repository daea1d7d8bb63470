//! CUDA kernels of trivium: committed PTX, and launches on a stream of the caller.
//!
//! Building needs neither a toolkit nor a driver, so there is one build and no `cfg` at any call site:
//! where no driver is found, every entry returns [`Error::Device`](trivium_core::Error::Device) and
//! [`doctor`] says why.
//!
//! | module | holds |
//! |---|---|
//! | [`driver`] | is there a driver, which devices; errors and panics of the driver layer as values |
//! | [`context`] | [`Context`]: the primary context of a device with the kernels loaded, once a process |
//! | [`apply_mask`] | the packed token mask onto logits in device memory |
//! | [`asked`] | what rows ask for: address of noise, temperature, penalties, truncation |
//! | [`cdf`] | draws by inverse CDF, with top-k, top-p, min-p |
//! | [`race`] | draws by race, first arrivals, the best ids: temperature, penalties, mask in one read |
//! | [`row_stat`] | the two best logits, sum of exponentials, entropy |
//! | [`reject`] | token and block verification of drawn chains, residual included |
//! | [`tree`] | verification by sampled ids, its answers packed, attention masks |
//! | [`rows`], [`scratch`] | calls that answer in host memory, and their device memory |
//! | [`plan`] | a launch as plain data, the checks of shapes |
//!
//! Rules of every launch. Memory and stream belong to the caller: nothing is allocated, freed, copied
//! or waited for, and no stream is created. Shapes are validated on the host before the driver is
//! asked. A kernel has a twin with identical integers (`docs/cuda.md` has the bounds of sums); its `.cu` source runs against
//! that twin on the CPU (`cuda/shim`), the PTX where a device exists (`tests/gpu.rs`).
//!
//! Unsafe code stands in [`driver`] and [`context`] only; launches and transfers are `unsafe` because their caller
//! vouches for device addresses.

#![deny(missing_docs)]
#![allow(unsafe_code, reason = "a driver is called through its C interface; see above")]

pub mod apply_mask;
pub mod asked;
pub mod cdf;
pub mod context;
pub mod driver;
pub mod plan;
pub mod race;
pub mod reject;
pub mod row_stat;
pub mod rows;
pub mod scratch;
pub mod tree;

pub use apply_mask::ApplyMask;
pub use asked::{AskedRow, AskedRows, NOT_REPEATED, Seen};
pub use cdf::CdfDraw;
pub use context::{Context, Stream};
pub use driver::{DeviceInfo, Doctor, doctor, is_available};
pub use plan::{Kernel, LogitsRows, MaskedRows, Plan};
pub use race::{Race, RaceDraw};
pub use reject::{ChainRule, RejectChains, TargetDraw};
pub use row_stat::RowStat;
pub use rows::{RowAnswer, RowAsk};
pub use scratch::Call;
pub use tree::{TreeMask, TreePack, TreeWalk, Trees};

/// The element type of logits in device memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dtype {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// bfloat16.
    Bf16,
}

impl Dtype {
    /// Bytes of one element.
    pub const fn bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }
}

/// Borrowed device memory: where it begins and how many elements it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceSlice {
    /// Address on the device.
    pub address: u64,
    /// Number of elements, of the type that the parameter asks for.
    pub len: usize,
}
