//! Draws by inverse CDF over rows of logits in device memory, with and without top-k, top-p and min-p.
//!
//! Twins: `ScaledRow::draw_cdf` of trivium-core and the truncations of trivium-sample; the same tokens, always.
//! Kernel and reasons: `cuda/kernels/cdf.cu`. Two launches on one stream, three where rows are truncated.

use crate::DeviceSlice;
use crate::asked::AskedRows;
use crate::plan::{Kernel, MAX_BLOCKS, MAX_Y, Plan, by_dtype, check_slice};
use std::ffi::CStr;
use trivium_core::Result;

/// Entries of the kernel file, as the PTX names them.
pub(crate) const ENTRIES: &[&CStr] = &[
    c"cdf_weigh_f32",
    c"cdf_weigh_f16",
    c"cdf_weigh_bf16",
    c"cdf_pick_f32",
    c"cdf_pick_f16",
    c"cdf_pick_bf16",
    c"cdf_floor_f32",
    c"cdf_floor_f16",
    c"cdf_floor_bf16",
    c"cdf_score_f32",
    c"cdf_score_f16",
    c"cdf_score_bf16",
];

/// Tokens that one warp weighs: trivium-core's frozen block.
const BLOCK: usize = trivium_core::numerics::BLOCK;
const WEIGH_THREADS: u32 = 256;
const FLOOR_THREADS: u32 = 512;
/// Words of scratch memory a block of tokens leaves.
const PART_WORDS: usize = 2;

/// A draw of one token a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CdfDraw {
    /// The rows.
    pub rows: AskedRows,
    /// Whether some row asks for a truncation; where none does, nothing is spent on it.
    pub truncate: bool,
    /// u64: scratch memory, [`workspace`](Self::workspace) words; need not be cleared.
    pub workspace: DeviceSlice,
    /// Whether `tokens` are given, by a race between the launches, and only their log-probabilities are asked for.
    pub given: bool,
    /// int32 \[rows\]: the drawn ids; -1 where there is none. Read where they are given.
    pub tokens: DeviceSlice,
    /// f32 \[rows\]: their log-probabilities under the processed law, within 1e-5.
    pub log_probs: DeviceSlice,
    /// u32 \[rows\]: as [`Race::status`](crate::race::Race::status). Not written where tokens are given.
    pub status: DeviceSlice,
}

impl CdfDraw {
    fn blocks(&self) -> usize {
        self.rows.rows.logits.vocab.div_ceil(BLOCK)
    }

    /// Words of scratch memory that this draw needs: block sums, then floors.
    pub fn workspace(&self) -> usize {
        let parts = self.rows.rows.rows.saturating_mul(self.blocks()).saturating_mul(PART_WORDS);
        parts.saturating_add(if self.truncate { self.rows.rows.rows } else { 0 })
    }

    /// Where the second launch leaves the floors of truncated rows, u64 \[rows\].
    pub fn floors(&self) -> Option<DeviceSlice> {
        let sums = (self.rows.rows.rows * self.blocks() * PART_WORDS) as u64;
        self.truncate.then_some(DeviceSlice {
            address: self.workspace.address + 8 * sums,
            len: self.rows.rows.rows,
        })
    }
}

impl Kernel for CdfDraw {
    fn plan(&self) -> Result<Vec<Plan>> {
        let rows = self.rows.check()?;
        check_slice("workspace", self.workspace, Some(self.workspace()), 8)?;
        check_slice("tokens", self.tokens, Some(self.rows.rows.rows), 4)?;
        check_slice("log_probs", self.log_probs, Some(self.rows.rows.rows), 4)?;
        if !self.given {
            check_slice("status", self.status, Some(self.rows.rows.rows), 4)?;
        }
        if rows == 0 {
            return Ok(Vec::new());
        }
        let parts = self.workspace.address;
        let floors = self.floors();
        let entry = |kind: usize| by_dtype(&ENTRIES[3 * kind..], self.rows.rows.logits.dtype);
        let with_rows = |plan: Plan| self.rows.rows.numbers(self.rows.addresses(plan));
        let y = rows.min(MAX_Y);
        let warps = (self.blocks() as u32).div_ceil(WEIGH_THREADS / 32).max(1);
        let x = warps.min((MAX_BLOCKS / y).max(1));
        let one_a_row = [rows.min(MAX_BLOCKS), 1, 1];
        let mut plans = Vec::with_capacity(3);
        if let Some(floors) = floors {
            let floor = Plan::new(entry(2), one_a_row, FLOOR_THREADS);
            plans.push(with_rows(floor).wide(parts).wide(floors.address));
        }
        let weigh = Plan::new(entry(0), [x, y, 1], WEIGH_THREADS);
        plans.push(with_rows(weigh).slice(floors).wide(parts));
        let last = Plan::new(entry(if self.given { 3 } else { 1 }), one_a_row, 32);
        let last = with_rows(last)
            .slice(floors)
            .wide(parts)
            .wide(self.tokens.address)
            .wide(self.log_probs.address);
        plans.push(if self.given { last } else { last.wide(self.status.address) });
        Ok(plans)
    }
}
