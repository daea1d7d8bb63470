//! The exponential race over rows of logits in device memory: temperature, penalties, mask and noise in one read.
//!
//! Twins: `ScaledRow::draw_race` of trivium-core and the penalty rules of trivium-sample; the same tokens, always.
//! Kernel and reasons: `cuda/kernels/race.cu`. Two launches on one stream: blocks cover [`TILE`] tokens each and
//! leave their winners in a workspace, then one warp a row takes the best.
//!
//! Greedy rows (`factor` 0) race without noise, so eight winners of a greedy row are its eight best tokens: what
//! `recycle` feeds on. Eight winners of a noisy row are its first arrivals: draws without replacement, and the
//! drafts of a shared race.

use crate::DeviceSlice;
use crate::asked::AskedRows;
use crate::context::{Context, Stream};
use crate::plan::{MAX_BLOCKS, MAX_Y, Plan, by_dtype, check_slice};
use std::ffi::CStr;
use trivium_core::{Error, Result};

/// Entries of the kernel file, as the PTX names them.
pub(crate) const ENTRIES: &[&CStr] = &[
    c"race_1_f32",
    c"race_1_f16",
    c"race_1_bf16",
    c"race_8_f32",
    c"race_8_f16",
    c"race_8_bf16",
    c"race_merge",
];

/// Tokens that a block covers at a time.
pub const TILE: usize = 16_384;
/// Winners of a row at most.
pub const MAX_WINNERS: usize = 8;
const THREADS: u32 = 256;

/// A race of some rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Race {
    /// The rows; truncations are ignored.
    pub rows: AskedRows,
    /// Winners a row, 1 to [`MAX_WINNERS`].
    pub winners: usize,
    /// u64: scratch memory, [`workspace`](Self::workspace) words; need not be cleared.
    pub workspace: DeviceSlice,
    /// int32 \[rows, `winners`\]: ids, best first; -1 where there is none.
    pub tokens: DeviceSlice,
    /// f32 \[rows, `winners`\]: their keys (scaled logit plus noise).
    pub keys: DeviceSlice,
    /// u32 \[rows\]: 0, or why a row has no answer: 1 nothing is allowed, 2 an allowed logit is NaN or +inf, 4 its
    /// index lies outside the logits, 8 the temperature carries a logit beyond f32.
    pub status: DeviceSlice,
}

impl Race {
    fn kept(&self) -> usize {
        if self.winners == 1 { 1 } else { MAX_WINNERS }
    }

    fn blocks(&self) -> usize {
        let all = self.rows.logits.vocab.div_ceil(TILE).max(1);
        let y = self.rows.rows.clamp(1, MAX_Y as usize);
        all.min((MAX_BLOCKS as usize / y).max(1))
    }

    /// Words of scratch memory that this race needs.
    pub fn workspace(&self) -> usize {
        self.rows.rows.saturating_mul(self.blocks()).saturating_mul(self.kept() + 1)
    }

    /// Validates the shapes and decides the launches; `None` where there is nothing to do.
    ///
    /// # Errors
    /// `InvalidInput` if a buffer is too short, null or misaligned, rows overlap, or a number does not fit the
    /// kernel's types.
    pub fn plan(&self) -> Result<Option<[Plan; 2]>> {
        let rows = self.rows.check()?;
        if !(1..=MAX_WINNERS).contains(&self.winners) {
            let why = format!("{} is not from 1 to {MAX_WINNERS}", self.winners);
            return Err(Error::input("winners", why));
        }
        let answers = self.rows.rows.checked_mul(self.winners);
        check_slice("workspace", self.workspace, Some(self.workspace()), 8)?;
        check_slice("tokens", self.tokens, answers, 4)?;
        check_slice("keys", self.keys, answers, 4)?;
        check_slice("status", self.status, Some(self.rows.rows), 4)?;
        if rows == 0 {
            return Ok(None);
        }
        let (blocks, kept) = (self.blocks() as u32, self.kept() as u32);
        let entries = if kept == 1 { &ENTRIES[..3] } else { &ENTRIES[3..6] };
        let grid = [blocks, rows.min(MAX_Y), 1];
        let race = Plan::new(by_dtype(entries, self.rows.logits.dtype), grid, THREADS);
        let race = self.rows.numbers(self.rows.addresses(race).wide(self.workspace.address));
        let merge = Plan::new(ENTRIES[6], [rows.min(MAX_BLOCKS), 1, 1], 32)
            .wide(self.workspace.address)
            .wide(self.tokens.address)
            .wide(self.keys.address)
            .wide(self.status.address)
            .word(rows)
            .word(blocks)
            .word(kept)
            .word(self.winners as u32);
        Ok(Some([race, merge]))
    }
}

/// Enqueues the race on `stream` and returns; allocates nothing on the device and waits for nothing.
///
/// # Errors
/// `InvalidInput` as [`Race::plan`]; `Device` if the driver refuses.
///
/// # Safety
/// `stream` is a live stream of `context`. The slices are memory of its device, of the length they state, and stay
/// allocated until the stream has run the launches; nothing else writes them meanwhile. `seen` is what its
/// fields say.
pub unsafe fn race(context: &Context, stream: Stream, args: &Race) -> Result<()> {
    let Some(plans) = args.plan()? else {
        return Ok(());
    };
    // SAFETY: the caller's word; the plans match their entries (tests).
    unsafe { context.launch_all(stream, plans) }
}
