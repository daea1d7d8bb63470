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
use crate::cdf::CdfDraw;
use crate::plan::{Kernel, MAX_BLOCKS, MAX_Y, Plan, by_dtype, check_slice, check_some};
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
    /// The rows; truncations are what `floors` says of them.
    pub rows: AskedRows,
    /// u64 \[rows\]: what [`CdfDraw::floors`](crate::cdf::CdfDraw::floors) found; `None`: all run.
    pub floors: Option<DeviceSlice>,
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
        let all = self.rows.rows.logits.vocab.div_ceil(TILE).max(1);
        let y = self.rows.rows.rows.clamp(1, MAX_Y as usize);
        all.min((MAX_BLOCKS as usize / y).max(1))
    }

    /// Words of scratch memory that this race needs.
    pub fn workspace(&self) -> usize {
        self.rows.rows.rows.saturating_mul(self.blocks()).saturating_mul(self.kept() + 1)
    }
}

impl Kernel for Race {
    fn plan(&self) -> Result<Vec<Plan>> {
        let rows = self.rows.check()?;
        if !(1..=MAX_WINNERS).contains(&self.winners) {
            let why = format!("{} is not from 1 to {MAX_WINNERS}", self.winners);
            return Err(Error::input("winners", why));
        }
        let answers = self.rows.rows.rows.checked_mul(self.winners);
        check_slice("workspace", self.workspace, Some(self.workspace()), 8)?;
        check_some("floors", self.floors, Some(self.rows.rows.rows), 8)?;
        check_slice("tokens", self.tokens, answers, 4)?;
        check_slice("keys", self.keys, answers, 4)?;
        check_slice("status", self.status, Some(self.rows.rows.rows), 4)?;
        if rows == 0 {
            return Ok(Vec::new());
        }
        let (blocks, kept) = (self.blocks() as u32, self.kept() as u32);
        let entries = if kept == 1 { &ENTRIES[..3] } else { &ENTRIES[3..6] };
        let grid = [blocks, rows.min(MAX_Y), 1];
        let race = Plan::new(by_dtype(entries, self.rows.rows.logits.dtype), grid, THREADS);
        let race = self.rows.addresses(race).wide(self.workspace.address);
        let race = self.rows.rows.numbers(race).slice(self.floors);
        let merge = Plan::new(ENTRIES[6], [rows.min(MAX_BLOCKS), 1, 1], 32)
            .wide(self.workspace.address)
            .wide(self.tokens.address)
            .wide(self.keys.address)
            .wide(self.status.address)
            .word(rows)
            .word(blocks)
            .word(kept)
            .word(self.winners as u32);
        Ok(vec![race, merge])
    }
}

/// A race over the truncated law, with the log-probability of its winner: what `draw="race"` is.
#[derive(Debug, Clone, Copy)]
pub struct RaceDraw {
    /// Floors and sums of the rows; its tokens are given.
    pub cdf: CdfDraw,
    /// One winner a row, in the tokens of `cdf`; its floors are those of `cdf`.
    pub race: Race,
}

impl Kernel for RaceDraw {
    fn plan(&self) -> Result<Vec<Plan>> {
        if !self.cdf.given || self.race.winners != 1 || self.race.tokens != self.cdf.tokens {
            return Err(Error::input("tokens", "of the race are not those that are scored"));
        }
        let mut plans = self.cdf.plan()?;
        let score = plans.pop();
        plans.extend(self.race.plan()?);
        plans.extend(score);
        Ok(plans)
    }
}
