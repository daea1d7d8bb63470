//! Top-k: keep every token at or above the k-th largest logit.
//!
//! Fan, Lewis, Dauphin, "Hierarchical Neural Story Generation" (ACL 2018). Ties at the k-th value are
//! all kept, as transformers does, so that the set does not depend on an order of equals; `ties =
//! false` keeps exactly k, lowest ids first, as llama.cpp does.
//!
//! The row is read once: the k-th largest *chunk maximum* is a lower bound of the k-th largest value
//! (k chunks hold a value at or above it), so only chunks that reach it are looked into again.

use super::{Context, Phase, Processor, Row, Scratch};
use serde::{Deserialize, Serialize};
use trivium_core::ScaledRow;
use trivium_core::error::Result;

/// Parameters of top-k.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopK {
    /// k; 0 is neutral.
    pub k: usize,
    /// Keep all equals of the k-th value.
    #[serde(default = "yes")]
    pub ties: bool,
}

fn yes() -> bool {
    true
}

impl Processor for TopK {
    fn phase(&self) -> Phase {
        Phase::Truncation
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }

    fn run(&self, row: &mut Row<'_>, context: &Context<'_>) -> Result<()> {
        let (law, scratch) = row.law()?;
        apply(law, context.hyper.top_k.unwrap_or(self.k), self.ties, scratch)
    }

    fn is_neutral(&self) -> bool {
        self.k == 0
    }
}

/// The k-th largest of some values; they are reordered.
fn kth(values: &mut [f32], k: usize) -> f32 {
    *values.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a)).1
}

/// Applies top-k to a settled row; 0 keeps everything. O(V / 64 + kept) where the row is fresh.
pub(crate) fn apply(
    row: &mut ScaledRow,
    k: usize,
    ties: bool,
    scratch: &mut Scratch,
) -> Result<()> {
    let left = row.kept().map_or(row.scaled().len(), <[_]>::len);
    if k == 0 || k >= left {
        return Ok(());
    }
    let Scratch { ids, floats, .. } = scratch;
    let mut floor = f32::MIN;
    if let Some(maxima) = row.chunk_maxima()
        && k <= maxima.len()
    {
        floats.clear();
        floats.extend_from_slice(maxima);
        floor = kth(floats, k).max(f32::MIN);
    }
    ids.clear();
    row.collect_at_least(floor, ids);
    if ids.len() <= k {
        return row.keep(ids);
    }
    let scaled = row.scaled();
    floats.clear();
    floats.extend(ids.iter().map(|&t| scaled[t as usize]));
    let threshold = kth(floats, k);
    if ties {
        ids.retain(|&t| scaled[t as usize] >= threshold);
    } else {
        let above = ids.iter().filter(|&&t| scaled[t as usize] > threshold).count();
        let mut room = k - above;
        ids.retain(|&t| {
            let x = scaled[t as usize];
            let equal = x == threshold && room > 0;
            room -= usize::from(equal);
            x > threshold || equal
        });
    }
    row.keep(ids)
}
