//! What length policies and schedules ask of rows of logits in device memory, in one read: the two best, the sum of
//! exponentials, the entropy.
//!
//! Twin: `simd::moments` of trivium-core and a scan; ids equal, sums within 1e-5. Kernel and reasons:
//! `cuda/kernels/row_stat.cu`. Two launches on one stream, as in [`race`](crate::race).

use crate::DeviceSlice;
use crate::context::{Context, Stream};
use crate::plan::{LogitsRows, MAX_BLOCKS, MAX_Y, Plan, by_dtype, check_slice, check_some, small};
use std::ffi::CStr;
use trivium_core::{Error, Result};

/// Entries of the kernel file, as the PTX names them.
pub(crate) const ENTRIES: &[&CStr] =
    &[c"row_stat_f32", c"row_stat_f16", c"row_stat_bf16", c"row_stat_merge"];

/// Tokens that a block covers at a time.
pub const TILE: usize = 16_384;
/// Words of scratch memory a block leaves.
const PART_WORDS: usize = 5;
const THREADS: u32 = 256;
const MERGE_THREADS: u32 = 128;

/// Statistics of `rows` rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowStat {
    /// Logits, only read.
    pub logits: LogitsRows,
    /// Rows asked about.
    pub rows: usize,
    /// int32 \[`rows`\]: the logits row of each; `None`: row `r` is logits row `r`.
    pub row_indices: Option<DeviceSlice>,
    /// Packed masks, `rows` × `mask_words`; `None` allows all.
    pub mask: Option<DeviceSlice>,
    /// Words of a mask row. Logits beyond them are forbidden.
    pub mask_words: usize,
    /// f32 \[`rows`\]: one over the temperature; `None`: 1.
    pub factors: Option<DeviceSlice>,
    /// u64: scratch memory, [`workspace`](Self::workspace) words; need not be cleared.
    pub workspace: DeviceSlice,
    /// int32 \[`rows`, 2\]: the two best ids; -1 where there is none.
    pub ids: DeviceSlice,
    /// f32 \[`rows`, 4\]: their scaled logits, ln Σ e^(z - max), entropy in nats.
    pub values: DeviceSlice,
    /// u32 \[`rows`\]: as [`Race::status`](crate::race::Race::status).
    pub status: DeviceSlice,
}

impl RowStat {
    fn blocks(&self) -> usize {
        let all = self.logits.vocab.div_ceil(TILE).max(1);
        let y = self.rows.clamp(1, MAX_Y as usize);
        all.min((MAX_BLOCKS as usize / y).max(1))
    }

    /// Words of scratch memory that this needs.
    pub fn workspace(&self) -> usize {
        self.rows.saturating_mul(self.blocks()).saturating_mul(PART_WORDS)
    }

    /// Validates the shapes and decides the launches; `None` where there is nothing to do.
    ///
    /// # Errors
    /// `InvalidInput` if a buffer is too short, null or misaligned, rows overlap, or a number does not fit the
    /// kernel's types.
    pub fn plan(&self) -> Result<Option<[Plan; 2]>> {
        let (logits_rows, vocab) = self.logits.check()?;
        let rows = small("rows", self.rows)?;
        let mask_words = small("mask_words", self.mask_words)?;
        match self.row_indices {
            Some(indices) => check_slice("row_indices", indices, Some(self.rows), 4)?,
            None if rows > logits_rows => {
                let why = format!("{rows} rows need row_indices into {logits_rows} logits rows");
                return Err(Error::input("rows", why));
            }
            None => {}
        }
        check_some("mask", self.mask, self.rows.checked_mul(self.mask_words), 4)?;
        check_some("factors", self.factors, Some(self.rows), 4)?;
        check_slice("workspace", self.workspace, Some(self.workspace()), 8)?;
        check_slice("ids", self.ids, self.rows.checked_mul(2), 4)?;
        check_slice("values", self.values, self.rows.checked_mul(4), 4)?;
        check_slice("status", self.status, Some(self.rows), 4)?;
        if rows == 0 {
            return Ok(None);
        }
        let blocks = self.blocks() as u32;
        let entry = by_dtype(&ENTRIES[..3], self.logits.dtype);
        let stat = Plan::new(entry, [blocks, rows.min(MAX_Y), 1], THREADS)
            .wide(self.logits.logits.address)
            .slice(self.row_indices)
            .slice(self.mask)
            .slice(self.factors)
            .wide(self.workspace.address)
            .wide(self.logits.stride as u64)
            .word(rows)
            .word(vocab)
            .word(logits_rows)
            .word(mask_words);
        let grid = [rows.div_ceil(MERGE_THREADS).min(MAX_BLOCKS), 1, 1];
        let merge = Plan::new(ENTRIES[3], grid, MERGE_THREADS)
            .wide(self.workspace.address)
            .wide(self.ids.address)
            .wide(self.values.address)
            .wide(self.status.address)
            .word(rows)
            .word(blocks);
        Ok(Some([stat, merge]))
    }
}

/// Enqueues the statistics on `stream` and returns; allocates nothing on the device and waits for nothing.
///
/// # Errors
/// `InvalidInput` as [`RowStat::plan`]; `Device` if the driver refuses.
///
/// # Safety
/// As [`race`](crate::race::race()), without `seen`.
pub unsafe fn row_stat(context: &Context, stream: Stream, args: &RowStat) -> Result<()> {
    let Some(plans) = args.plan()? else {
        return Ok(());
    };
    // SAFETY: the caller's word; the plans match their entries (tests).
    unsafe { context.launch_all(stream, plans) }
}
