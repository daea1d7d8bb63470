//! Locally typical sampling: tokens by `|-ln p - H|`, smallest prefix with mass `tau`.
//!
//! Meister, Pimentel, Wiher, Cotterell, "Locally Typical Sampling" (TACL 2023). With
//! `d = z - z_max` and `m = E[d]` the deviation is `|m - d|`: no logarithm of p is needed. It may drop
//! the arg-max. Equals of the last deviation are kept with `ties`, as transformers does.

use super::prefix::{FIXED, last_of_prefix, order};
use super::{Candidate, Context, Phase, Processor, Row, Scratch, fixed, range};
use serde::{Deserialize, Serialize};
use trivium_core::error::Result;
use trivium_core::numerics::exp_neg;

/// Parameters of typical sampling.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Typical {
    /// tau; 1 is neutral, 0.9 is usual.
    pub mass: f32,
    /// Keep all equals of the last deviation.
    #[serde(default)]
    pub ties: bool,
}

impl Processor for Typical {
    fn phase(&self) -> Phase {
        Phase::Truncation
    }

    fn check(&self) -> Result<()> {
        range("typical", self.mass, self.mass > 0.0 && self.mass <= 1.0, "(0, 1]")
    }

    fn run(&self, row: &mut Row<'_>, _context: &Context<'_>) -> Result<()> {
        if self.is_neutral() {
            return Ok(());
        }
        let (law, Scratch { ids, candidates, .. }) = row.law()?;
        let m = law.moments();
        let mean = m.weighted / m.mass;
        let target = ((f64::from(self.mass) * m.mass * FIXED).ceil() as u64).max(1);
        ids.clear();
        // Weights below are zero: they can neither help nor be drawn.
        law.collect_at_least((law.max() - 87.0).max(f32::MIN), ids);
        let (scaled, max) = (law.scaled(), law.max());
        let key = |t: u32| (mean - f64::from(scaled[t as usize] - max)).abs() as f32;
        let weigh = |&token: &u32| {
            // Plus zero: both zeros are one place in the order.
            let logit = scaled[token as usize] + 0.0;
            let weight = fixed(f64::from(exp_neg(logit - max)));
            Candidate { key: key(token), logit, token, weight }
        };
        if let Some(last) = last_of_prefix(ids, key, weigh, target, 87.0, candidates) {
            ids.retain(|t| {
                let c = weigh(t);
                (self.ties && c.key == last.key) || order(&c, &last).is_le()
            });
        }
        law.keep(ids)
    }

    fn is_neutral(&self) -> bool {
        self.mass >= 1.0
    }
}
