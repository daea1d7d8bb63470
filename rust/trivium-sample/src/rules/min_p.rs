//! Min-p: keep tokens with `p >= m * p_max`, that is `z >= z_max + ln m`.
//!
//! Nguyen et al., "Turning Up the Heat: Min-p Sampling for Creative and Coherent LLM Outputs"
//! (ICLR 2025). Needs no normalisation, so it commutes with the other truncations.

use super::{Context, Phase, Processor, Row, Scratch, range, within};
use serde::{Deserialize, Serialize};
use trivium_core::ScaledRow;
use trivium_core::error::Result;

/// Parameters of min-p.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MinP {
    /// m; 0 is neutral.
    pub m: f32,
}

impl Processor for MinP {
    fn phase(&self) -> Phase {
        Phase::Truncation
    }

    fn check(&self) -> Result<()> {
        range("min_p", self.m, within(self.m, 0.0, 1.0), "[0, 1]")
    }

    fn run(&self, row: &mut Row<'_>, context: &Context<'_>) -> Result<()> {
        let (law, scratch) = row.law()?;
        apply(law, context.hyper.min_p.unwrap_or(self.m), scratch)
    }

    fn is_neutral(&self) -> bool {
        self.m <= 0.0
    }
}

/// Applies min-p to a settled row; `m <= 0` keeps everything, the maximum always stays.
pub(crate) fn apply(row: &mut ScaledRow, m: f32, scratch: &mut Scratch) -> Result<()> {
    if m <= 0.0 {
        return Ok(());
    }
    keep_from(row, row.max() + m.min(1.0).ln(), scratch)
}

/// Keeps the tokens at or above a floor; the arg-max always.
pub(crate) fn keep_from(row: &mut ScaledRow, floor: f32, scratch: &mut Scratch) -> Result<()> {
    scratch.ids.clear();
    row.collect_at_least(floor.max(f32::MIN).min(row.max()), &mut scratch.ids);
    row.keep(&scratch.ids)
}
