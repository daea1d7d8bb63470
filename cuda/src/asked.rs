//! What the rows of a launch ask for, and the rows themselves: shared by races and draws by inverse CDF.

use crate::DeviceSlice;
use crate::plan::{MaskedRows, Plan, check_slice};
use trivium_core::{Error, Result};

/// What one row asks for: 48 bytes, as the device reads them.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C)]
pub struct AskedRow {
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
    /// Top-k, equals of the k-th kept; 0 keeps all.
    pub top_k: u32,
    /// Top-p; 1 keeps all.
    pub top_p: f32,
    /// ln of min-p; -inf keeps all.
    pub ln_min_p: f32,
    /// Zero.
    pub reserved: u32,
}

impl AskedRow {
    /// A draw at an address: temperature 1, nothing penalised, nothing truncated.
    pub const fn new(seed: u64, index: u32, branch: u32) -> Self {
        Self {
            seed,
            index,
            branch,
            factor: 1.0,
            repetition: 1.0,
            frequency: 0.0,
            presence: 0.0,
            top_k: 0,
            top_p: 1.0,
            ln_min_p: f32::NEG_INFINITY,
            reserved: 0,
        }
    }

    /// The row as six little-endian words, for a buffer that is copied to the device.
    pub const fn words(&self) -> [u64; 6] {
        const fn pair(low: u32, high: u32) -> u64 {
            (high as u64) << 32 | low as u64
        }
        [
            self.seed,
            pair(self.index, self.branch),
            pair(self.factor.to_bits(), self.repetition.to_bits()),
            pair(self.frequency.to_bits(), self.presence.to_bits()),
            pair(self.top_k, self.top_p.to_bits()),
            pair(self.ln_min_p.to_bits(), self.reserved),
        ]
    }
}

/// Tokens that rows have seen, CSR over the asked rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// int32 \[rows + 1\], ascending from 0.
    pub starts: DeviceSlice,
    /// int32: ids, ascending and distinct within a row; ids beyond the vocabulary are ignored.
    pub tokens: DeviceSlice,
    /// int32: how often the frequency penalty counts each, which may be 0, or-ed with [`NOT_REPEATED`] where the
    /// repetition penalty passes it by.
    pub counts: DeviceSlice,
}

/// Of a count in [`Seen::counts`]: the repetition penalty does not touch this token.
pub const NOT_REPEATED: u32 = 1 << 30;

/// Rows of logits with what is asked of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AskedRows {
    /// The rows.
    pub rows: MaskedRows,
    /// [`AskedRow`] \[`rows`\]; `len` counts rows.
    pub asked: DeviceSlice,
    /// What penalties act on; `None`: nothing was seen.
    pub seen: Option<Seen>,
}

impl AskedRows {
    /// Rows as the kernels count.
    pub(crate) fn check(&self) -> Result<u32> {
        let count = self.rows.rows;
        let rows = self.rows.check()?;
        check_slice("asked", self.asked, Some(count), 8)?;
        if let Some(seen) = self.seen {
            check_slice("seen.starts", seen.starts, Some(count + 1), 4)?;
            if seen.tokens.len != seen.counts.len {
                let why = format!("{} counts for {} tokens", seen.counts.len, seen.tokens.len);
                return Err(Error::input("seen.counts", why));
            }
            check_slice("seen.tokens", seen.tokens, Some(seen.tokens.len), 4)?;
            check_slice("seen.counts", seen.counts, Some(seen.tokens.len), 4)?;
        }
        Ok(rows)
    }

    /// The addresses, in the order of every kernel.
    pub(crate) fn addresses(&self, plan: Plan) -> Plan {
        plan.wide(self.rows.logits.logits.address)
            .slice(self.rows.row_indices)
            .slice(self.rows.mask)
            .wide(self.asked.address)
            .slice(self.seen.map(|s| s.starts))
            .slice(self.seen.map(|s| s.tokens))
            .slice(self.seen.map(|s| s.counts))
    }
}
