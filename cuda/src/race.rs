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
use crate::context::{Context, Stream};
use crate::plan::{LogitsRows, MAX_BLOCKS, MAX_Y, Plan, by_dtype, check_slice, check_some, small};
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

/// What one row asks for: 32 bytes, as the device reads them.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C)]
pub struct RaceRow {
    /// The request's seed.
    pub seed: u64,
    /// Absolute index, prompt included, of the token being chosen.
    pub index: u32,
    /// Trace number among sibling samples.
    pub branch: u32,
    /// One over the temperature; 0 is greedy.
    pub factor: f32,
    /// Repetition penalty of tokens seen; 1 is none.
    pub repetition: f32,
    /// Frequency penalty; 0 is none.
    pub frequency: f32,
    /// Presence penalty; 0 is none.
    pub presence: f32,
}

/// Tokens that rows have seen, CSR over the asked rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// int32 \[rows + 1\], ascending from 0.
    pub starts: DeviceSlice,
    /// int32: ids, ascending and distinct within a row; ids beyond the vocabulary are ignored.
    pub tokens: DeviceSlice,
    /// int32: how often each occurred.
    pub counts: DeviceSlice,
}

/// A race of `rows` rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Race {
    /// Logits, only read.
    pub logits: LogitsRows,
    /// Rows that race.
    pub rows: usize,
    /// int32 \[`rows`\]: the logits row of each; `None`: row `r` is logits row `r`.
    pub row_indices: Option<DeviceSlice>,
    /// Packed masks, `rows` × `mask_words`; `None` allows all.
    pub mask: Option<DeviceSlice>,
    /// Words of a mask row. Logits beyond them are forbidden.
    pub mask_words: usize,
    /// [`RaceRow`] \[`rows`\]; `len` counts rows.
    pub asked: DeviceSlice,
    /// What penalties act on; `None`: nothing was seen.
    pub seen: Option<Seen>,
    /// Winners a row, 1 to [`MAX_WINNERS`].
    pub winners: usize,
    /// u64: scratch memory, [`workspace`](Self::workspace) words; need not be cleared.
    pub workspace: DeviceSlice,
    /// int32 \[`rows`, `winners`\]: ids, best first; -1 where there is none.
    pub tokens: DeviceSlice,
    /// f32 \[`rows`, `winners`\]: their keys (scaled logit plus noise).
    pub keys: DeviceSlice,
    /// u32 \[`rows`\]: 0, or why a row has no answer: 1 nothing is allowed, 2 an allowed logit is NaN or +inf, 4 its
    /// index lies outside the logits, 8 the temperature carries a logit beyond f32.
    pub status: DeviceSlice,
}

impl Race {
    fn kept(&self) -> usize {
        if self.winners == 1 { 1 } else { MAX_WINNERS }
    }

    fn blocks(&self) -> usize {
        let all = self.logits.vocab.div_ceil(TILE).max(1);
        let y = self.rows.clamp(1, MAX_Y as usize);
        all.min((MAX_BLOCKS as usize / y).max(1))
    }

    /// Words of scratch memory that this race needs.
    pub fn workspace(&self) -> usize {
        self.rows.saturating_mul(self.blocks()).saturating_mul(self.kept() + 1)
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
        if !(1..=MAX_WINNERS).contains(&self.winners) {
            let why = format!("{} is not from 1 to {MAX_WINNERS}", self.winners);
            return Err(Error::input("winners", why));
        }
        match self.row_indices {
            Some(indices) => check_slice("row_indices", indices, Some(self.rows), 4)?,
            None if rows > logits_rows => {
                let why = format!("{rows} rows need row_indices into {logits_rows} logits rows");
                return Err(Error::input("rows", why));
            }
            None => {}
        }
        check_some("mask", self.mask, self.rows.checked_mul(self.mask_words), 4)?;
        check_slice("asked", self.asked, Some(self.rows), 8)?;
        if let Some(seen) = self.seen {
            check_slice("seen.starts", seen.starts, Some(self.rows + 1), 4)?;
            if seen.tokens.len != seen.counts.len {
                let why = format!("{} counts for {} tokens", seen.counts.len, seen.tokens.len);
                return Err(Error::input("seen.counts", why));
            }
            check_slice("seen.tokens", seen.tokens, Some(seen.tokens.len), 4)?;
            check_slice("seen.counts", seen.counts, Some(seen.tokens.len), 4)?;
        }
        let answers = self.rows.checked_mul(self.winners);
        check_slice("workspace", self.workspace, Some(self.workspace()), 8)?;
        check_slice("tokens", self.tokens, answers, 4)?;
        check_slice("keys", self.keys, answers, 4)?;
        check_slice("status", self.status, Some(self.rows), 4)?;
        if rows == 0 {
            return Ok(None);
        }
        let (blocks, kept) = (self.blocks() as u32, self.kept() as u32);
        let entries = if kept == 1 { &ENTRIES[..3] } else { &ENTRIES[3..6] };
        let grid = [blocks, rows.min(MAX_Y), 1];
        let race = Plan::new(by_dtype(entries, self.logits.dtype), grid, THREADS)
            .wide(self.logits.logits.address)
            .slice(self.row_indices)
            .slice(self.mask)
            .wide(self.asked.address)
            .slice(self.seen.map(|s| s.starts))
            .slice(self.seen.map(|s| s.tokens))
            .slice(self.seen.map(|s| s.counts))
            .wide(self.workspace.address)
            .wide(self.logits.stride as u64)
            .word(rows)
            .word(vocab)
            .word(logits_rows)
            .word(mask_words);
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
