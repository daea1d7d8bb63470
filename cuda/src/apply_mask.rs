//! The packed token mask onto logits in device memory: minus infinity where a bit is 0.
//!
//! Twin of [`trivium_core::mask::apply`], row by row and bit for bit. Kernel, layout and reasons:
//! `cuda/kernels/apply_mask.cu`. One thread owns 16 bytes of logits; blocks along x cover a row, blocks
//! along y the mask rows, and both loop when the grid is cut to the device's limits.
//!
//! `ApplyMask::plan` is everything the host decides: it validates the shapes and yields grid, block and
//! parameters. [`Context::enqueue`](crate::Context::enqueue) hands that to the driver; the tests hand it to the CPU
//! run of the kernel.

use crate::plan::{
    Kernel, LogitsRows, MAX_BLOCKS, MAX_Y, Plan, by_dtype, check_indices, check_slice, small,
};
use crate::{DeviceSlice, Dtype};
use std::ffi::CStr;
use trivium_core::Result;

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

impl Kernel for ApplyMask {
    fn plan(&self) -> Result<Vec<Plan>> {
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
        check_indices(self.row_indices, rows, logits_rows)?;
        if rows == 0 || vocab == 0 || logits_rows == 0 {
            return Ok(Vec::new());
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
        Ok(vec![plan])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trivium_core::Error;

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
        let plan = args().plan().unwrap().remove(0);
        assert_eq!((plan.grid, plan.block), ([1, 3, 1], [256, 1, 1]));
        let wide = ApplyMask { vocab: 128_256, stride: 128_256, ..args() };
        let wide = ApplyMask { logits: DeviceSlice { len: 3 * 128_256, ..wide.logits }, ..wide };
        assert_eq!(wide.plan().unwrap()[0].grid, [63, 3, 1]);
        let tall = ApplyMask { rows: 0, ..args() };
        assert_eq!(tall.plan(), Ok(Vec::new()));
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
        assert_eq!(none.plan().unwrap().len(), 1);
    }
}
