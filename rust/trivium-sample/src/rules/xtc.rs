//! XTC (exclude top choices): with probability `q`, of the tokens with `p >= t` remove all but the
//! least likely.
//!
//! Weidmann, "Exclude Top Choices (XTC): A sampler that boosts creativity". At least two such tokens
//! must exist, hence `t <= 1/2`. Among equals the highest id stays.
//!
//! The coin is scalar `1024 + step` of purpose 8 at the position of the token being chosen: a
//! function of seed, position and branch, never of what was drafted. The law of a position given its
//! coin is therefore fixed, and speculation stays path-lossless; the law over seeds is the mixture.

use super::{Context, Phase, Processor, Row, Scratch, range, within};
use serde::{Deserialize, Serialize};
use trivium_core::Purpose;
use trivium_core::error::Result;

/// Parameters of XTC.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Xtc {
    /// q; 0 is neutral.
    pub probability: f32,
    /// t, at most 1/2.
    #[serde(default = "tenth")]
    pub threshold: f32,
}

fn tenth() -> f32 {
    0.1
}

/// First draw number of purpose 8 that rules use; stop rules count from 0.
pub(crate) const COIN: u32 = 1024;

impl Processor for Xtc {
    fn phase(&self) -> Phase {
        Phase::Truncation
    }

    fn check(&self) -> Result<()> {
        range("probability", self.probability, within(self.probability, 0.0, 1.0), "[0, 1]")?;
        let t = self.threshold;
        range("threshold", t, t > 0.0 && t <= 0.5, "(0, 0.5]")
    }

    fn run(&self, row: &mut Row<'_>, context: &Context<'_>) -> Result<()> {
        let coin = context.address.uniform(Purpose::Control, COIN + context.step);
        if coin >= f64::from(self.probability) {
            return Ok(());
        }
        let (law, Scratch { ids, tokens: top, .. }) = row.law()?;
        let floor = f64::from(law.max()) + law.total().ln() + f64::from(self.threshold).ln();
        top.clear();
        law.collect_at_least((floor as f32).max(f32::MIN), top);
        if top.len() < 2 {
            return Ok(());
        }
        let logit = |t: u32| law.scaled()[t as usize];
        let stays = top.iter().copied().reduce(|a, b| if logit(b) <= logit(a) { b } else { a });
        ids.clear();
        law.collect_at_least(f32::MIN, ids);
        ids.retain(|t| Some(*t) == stays || top.binary_search(t).is_err());
        law.keep(ids)
    }

    fn is_neutral(&self) -> bool {
        self.probability == 0.0
    }
}
