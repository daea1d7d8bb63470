//! Draws by inverse CDF over rows of logits in device memory, with and without top-k, top-p and min-p.
//!
//! Twins: `ScaledRow::draw_cdf` of trivium-core and the truncations of trivium-sample; the same tokens, always.
//! Kernel and reasons: `cuda/kernels/cdf.cu`. Two launches on one stream, three where rows are truncated.

use crate::DeviceSlice;
use crate::asked::AskedRows;
use crate::context::{Context, Stream};
use crate::plan::{MAX_BLOCKS, MAX_Y, Plan, by_dtype, check_slice};
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
    /// int32 \[rows\]: the drawn ids; -1 where there is none.
    pub tokens: DeviceSlice,
    /// f32 \[rows\]: their log-probabilities under the processed law, within 1e-5.
    pub log_probs: DeviceSlice,
    /// u32 \[rows\]: as [`Race::status`](crate::race::Race::status).
    pub status: DeviceSlice,
}

impl CdfDraw {
    fn blocks(&self) -> usize {
        self.rows.logits.vocab.div_ceil(BLOCK)
    }

    /// Words of scratch memory that this draw needs: block sums, then floors.
    pub fn workspace(&self) -> usize {
        let parts = self.rows.rows.saturating_mul(self.blocks()).saturating_mul(PART_WORDS);
        parts.saturating_add(if self.truncate { self.rows.rows } else { 0 })
    }

    /// Validates the shapes and decides the launches, the first one `None` without truncation; `None` where there
    /// is nothing to do.
    ///
    /// # Errors
    /// `InvalidInput` if a buffer is too short, null or misaligned, rows overlap, or a number does not fit the
    /// kernel's types.
    pub fn plan(&self) -> Result<Option<(Option<Plan>, [Plan; 2])>> {
        let rows = self.rows.check()?;
        check_slice("workspace", self.workspace, Some(self.workspace()), 8)?;
        check_slice("tokens", self.tokens, Some(self.rows.rows), 4)?;
        check_slice("log_probs", self.log_probs, Some(self.rows.rows), 4)?;
        check_slice("status", self.status, Some(self.rows.rows), 4)?;
        if rows == 0 {
            return Ok(None);
        }
        let parts = self.workspace.address;
        let sums = (self.rows.rows * self.blocks() * PART_WORDS) as u64;
        let floors = if self.truncate { parts + 8 * sums } else { 0 };
        let entry = |kind: usize| by_dtype(&ENTRIES[3 * kind..], self.rows.logits.dtype);
        let with_rows = |plan: Plan| self.rows.numbers(self.rows.addresses(plan));
        let y = rows.min(MAX_Y);
        let warps = (self.blocks() as u32).div_ceil(WEIGH_THREADS / 32).max(1);
        let x = warps.min((MAX_BLOCKS / y).max(1));
        let weigh =
            with_rows(Plan::new(entry(0), [x, y, 1], WEIGH_THREADS)).wide(floors).wide(parts);
        let one_a_row = [rows.min(MAX_BLOCKS), 1, 1];
        let pick = with_rows(Plan::new(entry(1), one_a_row, 32))
            .wide(floors)
            .wide(parts)
            .wide(self.tokens.address)
            .wide(self.log_probs.address)
            .wide(self.status.address);
        let floor = self.truncate.then(|| {
            with_rows(Plan::new(entry(2), one_a_row, FLOOR_THREADS)).wide(parts).wide(floors)
        });
        Ok(Some((floor, [weigh, pick])))
    }
}

/// Enqueues the draw on `stream` and returns; allocates nothing on the device and waits for nothing.
///
/// # Errors
/// `InvalidInput` as [`CdfDraw::plan`]; `Device` if the driver refuses.
///
/// # Safety
/// As [`race`](crate::race::race()).
pub unsafe fn cdf_draw(context: &Context, stream: Stream, args: &CdfDraw) -> Result<()> {
    let Some((floor, plans)) = args.plan()? else {
        return Ok(());
    };
    // SAFETY: the caller's word; the plans match their entries (tests).
    unsafe {
        if let Some(floor) = floor {
            context.launch_all(stream, [floor])?;
        }
        context.launch_all(stream, plans)
    }
}
