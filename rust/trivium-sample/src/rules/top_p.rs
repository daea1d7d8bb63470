//! Top-p: keep the smallest set of most probable tokens whose mass reaches `p`.
//!
//! Holtzman et al., "The Curious Case of Neural Text Degeneration" (ICLR 2020). The token that
//! crosses the threshold is kept; equals enter by token id. The mass of a token is its f32 weight in
//! fixed point, so the set does not depend on an order of summation; weights below 2^-42 of the best
//! count nothing, and where they alone could reach `p` everything is kept.
//!
//! After the pass that sums the row, only a head of it is touched: tokens within 4, 8, 16, ... nats
//! of the best, until they hold the mass.

use super::prefix::{FIXED, last_of_prefix};
use super::{Candidate, Context, Phase, Processor, Row, Scratch, fixed, range};
use serde::{Deserialize, Serialize};
use trivium_core::ScaledRow;
use trivium_core::error::Result;
use trivium_core::numerics::exp_neg;

/// Parameters of top-p.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopP {
    /// p; 1 is neutral.
    pub p: f32,
}

impl Processor for TopP {
    fn phase(&self) -> Phase {
        Phase::Truncation
    }

    fn check(&self) -> Result<()> {
        range("top_p", self.p, self.p > 0.0 && self.p <= 1.0, "(0, 1]")
    }

    fn run(&self, row: &mut Row<'_>, context: &Context<'_>) -> Result<()> {
        let (law, scratch) = row.law()?;
        apply(law, context.hyper.top_p.unwrap_or(self.p), scratch)
    }

    fn is_neutral(&self) -> bool {
        self.p >= 1.0
    }
}

/// Nats below the best at which a weight is nothing in fixed point.
const REACH: f32 = 30.0;

/// Applies top-p to a settled row; `p >= 1` keeps everything. One exponential a token left, and one
/// more a token of the head.
pub(crate) fn apply(row: &mut ScaledRow, p: f32, scratch: &mut Scratch) -> Result<()> {
    if p >= 1.0 {
        return Ok(());
    }
    let target = ((f64::from(p.max(0.0)) * row.total() * FIXED).ceil() as u64).max(1);
    let Scratch { ids, candidates, .. } = scratch;
    // A total of many times the best weight is a broad head: no use in starting at the top.
    let narrow = row.kept().is_none() && row.total() < 64.0;
    let mut depth = if narrow { 4.0 } else { REACH };
    loop {
        ids.clear();
        row.collect_at_least((row.max() - depth).max(f32::MIN), ids);
        let (scaled, max) = (row.scaled(), row.max());
        let key = |token: u32| max - scaled[token as usize];
        let weigh = |&token: &u32| {
            // Plus zero: both zeros are one place in the order.
            let logit = scaled[token as usize] + 0.0;
            let weight = fixed(f64::from(exp_neg(logit - max)));
            Candidate { key: key(token), logit, token, weight }
        };
        if let Some(last) = last_of_prefix(ids, key, weigh, target, depth, candidates) {
            ids.retain(|&t| {
                let x = scaled[t as usize];
                x > last.logit || (x == last.logit && t <= last.token)
            });
            return row.keep(ids);
        }
        if depth >= REACH {
            return Ok(());
        }
        depth = (depth * 2.0).min(REACH);
    }
}
