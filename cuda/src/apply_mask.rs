//! The packed token mask onto logits in device memory: minus infinity where a bit is 0.
//!
//! Twin of [`trivium_core::mask::apply`], row by row and bit for bit. Kernel, layout and reasons:
//! `cuda/kernels/apply_mask.cu`. One thread owns 16 bytes of logits; blocks along x cover a row, blocks
//! along y the mask rows, and both loop when the grid is cut to the device's limits.
//!
//! [`ApplyMask::plan`] is everything the host decides: it validates the shapes and yields grid, block and
//! parameters. [`apply_mask`] hands that to the driver; the tests hand it to the CPU run of the kernel.

use crate::context::{Context, Stream};
use crate::plan::{LogitsRows, MAX_BLOCKS, MAX_Y, Plan, by_dtype, check_slice, small};
use crate::{DeviceSlice, Dtype};
use std::ffi::CStr;
use trivium_core::{Error, Result};

/// Entries of the kernel file, as the PTX names them.
pub(crate) const ENTRIES: &[&CStr] = &[c"apply_mask_f32", c"apply_mask_f16", c"apply_mask_bf16"];

/// Threads of a block.
const THREADS: u32 = 256;
/// Bytes of logits that one thread owns.
const CHUNK: u64 = 16;

/// What to mask, in memory of the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApplyMask {
    /// Logits, written in place; `len` counts elements of `dtype` from the address on.
    pub logits: DeviceSlice,
    /// Element type of the logits.
    pub dtype: Dtype,
    /// Packed masks, `rows` × `mask_words` words without padding.
    pub mask: DeviceSlice,
    /// int32 \[`rows`\]: mask row `r` is for logits row `row_indices[r]`. Distinct; an index outside the
    /// logits is skipped. `None`: mask row `r` is for logits row `r`.
    pub row_indices: Option<DeviceSlice>,
    /// Mask rows.
    pub rows: usize,
    /// Words of a mask row. Logits beyond them are forbidden.
    pub mask_words: usize,
    /// Logits rows.
    pub logits_rows: usize,
    /// Logits of a row; all of them are masked.
    pub vocab: usize,
    /// Elements from one logits row to the next. What lies between is not touched.
    pub stride: usize,
}

impl ApplyMask {
    /// Validates the shapes and decides the launch; `None` where there is nothing to do.
    ///
    /// # Errors
    /// `InvalidInput` if a buffer is too short, null or misaligned, rows overlap, or a number does not
    /// fit the kernel's types.
    pub fn plan(&self) -> Result<Option<Plan>> {
        let rows = small("rows", self.rows)?;
        let mask_words = small("mask_words", self.mask_words)?;
        let logits = LogitsRows {
            logits: self.logits,
            dtype: self.dtype,
            rows: self.logits_rows,
            vocab: self.vocab,
            stride: self.stride,
        };
        let (logits_rows, vocab) = logits.check()?;
        check_slice("mask", self.mask, self.rows.checked_mul(self.mask_words), 4)?;
        match self.row_indices {
            Some(indices) => check_slice("row_indices", indices, Some(self.rows), 4)?,
            None if self.rows > self.logits_rows => {
                let why =
                    format!("{rows} mask rows need row_indices into {logits_rows} logits rows");
                return Err(Error::input("rows", why));
            }
            None => {}
        }
        if rows == 0 || vocab == 0 || logits_rows == 0 {
            return Ok(None);
        }
        let chunks = u64::from(vocab).div_ceil(CHUNK / self.dtype.bytes());
        let y = rows.min(MAX_Y);
        let x = chunks.div_ceil(u64::from(THREADS)).min(u64::from((MAX_BLOCKS / y).max(1)));
        let plan = Plan::new(by_dtype(ENTRIES, self.dtype), [x as u32, y, 1], THREADS)
            .wide(self.logits.address)
            .wide(self.mask.address)
            .slice(self.row_indices)
            .word(rows)
            .word(vocab)
            .wide(self.stride as u64)
            .word(logits_rows)
            .word(mask_words);
        Ok(Some(plan))
    }
}

/// Enqueues the masking on `stream` and returns; allocates nothing on the device and waits for nothing.
///
/// # Errors
/// `InvalidInput` as [`ApplyMask::plan`]; `Device` if the driver refuses.
///
/// # Safety
/// `stream` is a live stream of `context`. The slices are memory of its device, of the length they
/// state, and stay allocated until the stream has run the launch; nothing else reads or writes the
/// logits meanwhile. Row indices within the logits are distinct.
pub unsafe fn apply_mask(context: &Context, stream: Stream, args: &ApplyMask) -> Result<()> {
    let Some(plan) = args.plan()? else {
        return Ok(());
    };
    // SAFETY: the plan matches its entry (tests run it on the compiled source, which refuses another number of
    // parameters); the caller vouches for stream and memory.
    unsafe { context.launch_all(stream, [plan]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> ApplyMask {
        ApplyMask {
            logits: DeviceSlice { address: 0x1000, len: 3 * 104 },
            dtype: Dtype::F16,
            mask: DeviceSlice { address: 0x8000, len: 12 },
            row_indices: None,
            rows: 3,
            mask_words: 4,
            logits_rows: 3,
            vocab: 100,
            stride: 104,
        }
    }

    #[test]
    fn plans_cover_every_chunk() {
        let plan = args().plan().unwrap().unwrap();
        assert_eq!((plan.grid, plan.block), ([1, 3, 1], [256, 1, 1]));
        let wide = ApplyMask { vocab: 128_256, stride: 128_256, ..args() };
        let wide = ApplyMask { logits: DeviceSlice { len: 3 * 128_256, ..wide.logits }, ..wide };
        assert_eq!(wide.plan().unwrap().unwrap().grid, [63, 3, 1]);
        let tall = ApplyMask { rows: 0, ..args() };
        assert_eq!(tall.plan(), Ok(None));
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let indices = Some(DeviceSlice { address: 0x40, len: 2 });
        let refused = |what: &str, args: ApplyMask| match args.plan() {
            Err(Error::InvalidInput { what: found, .. }) => assert_eq!(found, what),
            other => panic!("{what}: {other:?}"),
        };
        refused("stride", ApplyMask { stride: 99, ..args() });
        refused("logits", ApplyMask { stride: 110, ..args() });
        refused("logits", ApplyMask { stride: usize::MAX / 2, ..args() });
        refused("logits", ApplyMask { logits: DeviceSlice { address: 0, len: 312 }, ..args() });
        refused(
            "logits",
            ApplyMask { logits: DeviceSlice { address: 0x1001, len: 312 }, ..args() },
        );
        refused("mask", ApplyMask { mask_words: 5, ..args() });
        refused("mask", ApplyMask { mask: DeviceSlice { address: 0x8002, len: 12 }, ..args() });
        refused("rows", ApplyMask { logits_rows: 2, ..args() });
        refused("row_indices", ApplyMask { row_indices: indices, ..args() });
        refused("vocab", ApplyMask { vocab: 1 << 31, stride: 1 << 31, ..args() });
        // A mask of no words forbids everything and needs no memory.
        let none = ApplyMask { mask_words: 0, mask: DeviceSlice { address: 0, len: 0 }, ..args() };
        assert!(none.plan().unwrap().is_some());
    }
}
