//! What length policies and schedules ask of rows of logits in device memory, in one read: the two best, the sum of
//! exponentials, the entropy.
//!
//! Twin: `simd::moments` of trivium-core and a scan; ids equal, sums within 1e-5. Kernel and reasons:
//! `cuda/kernels/row_stat.cu`. Two launches on one stream, as in [`race`](crate::race).

use crate::DeviceSlice;
use crate::plan::{Kernel, MAX_BLOCKS, MAX_Y, MaskedRows, Plan, by_dtype, check_slice, check_some};
use std::ffi::CStr;
use trivium_core::Result;

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
    /// The rows.
    pub rows: MaskedRows,
    /// f32 \[rows\]: one over the temperature; `None`: 1.
    pub factors: Option<DeviceSlice>,
    /// u64: scratch memory, [`workspace`](Self::workspace) words; need not be cleared.
    pub workspace: DeviceSlice,
    /// int32 \[rows, 2\]: the two best ids; -1 where there is none.
    pub ids: DeviceSlice,
    /// f32 \[rows, 4\]: their scaled logits, ln Σ e^(z - max), entropy in nats.
    pub values: DeviceSlice,
    /// u32 \[rows\]: as [`Race::status`](crate::race::Race::status).
    pub status: DeviceSlice,
}

impl RowStat {
    fn blocks(&self) -> usize {
        let all = self.rows.logits.vocab.div_ceil(TILE).max(1);
        let y = self.rows.rows.clamp(1, MAX_Y as usize);
        all.min((MAX_BLOCKS as usize / y).max(1))
    }

    /// Words of scratch memory that this needs.
    pub fn workspace(&self) -> usize {
        self.rows.rows.saturating_mul(self.blocks()).saturating_mul(PART_WORDS)
    }
}

impl Kernel for RowStat {
    fn plan(&self) -> Result<Vec<Plan>> {
        let rows = self.rows.check()?;
        check_some("factors", self.factors, Some(self.rows.rows), 4)?;
        check_slice("workspace", self.workspace, Some(self.workspace()), 8)?;
        check_slice("ids", self.ids, self.rows.rows.checked_mul(2), 4)?;
        check_slice("values", self.values, self.rows.rows.checked_mul(4), 4)?;
        check_slice("status", self.status, Some(self.rows.rows), 4)?;
        if rows == 0 {
            return Ok(Vec::new());
        }
        let blocks = self.blocks() as u32;
        let entry = by_dtype(&ENTRIES[..3], self.rows.logits.dtype);
        let stat = Plan::new(entry, [blocks, rows.min(MAX_Y), 1], THREADS)
            .wide(self.rows.logits.logits.address)
            .slice(self.rows.row_indices)
            .slice(self.rows.mask)
            .slice(self.factors)
            .wide(self.workspace.address);
        let stat = self.rows.numbers(stat);
        let grid = [rows.div_ceil(MERGE_THREADS).min(MAX_BLOCKS), 1, 1];
        let merge = Plan::new(ENTRIES[3], grid, MERGE_THREADS)
            .wide(self.workspace.address)
            .wide(self.ids.address)
            .wide(self.values.address)
            .wide(self.status.address)
            .word(rows)
            .word(blocks);
        Ok(vec![stat, merge])
    }
}
