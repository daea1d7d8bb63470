//! Self-debiasing: lowers tokens that a prompt asking for the bias makes more likely.
//!
//! Schick, Udupa, Schütze, "Self-Diagnosis and Self-Debiasing: A Proposal for Reducing Corpus-Based
//! Bias in NLP" (TACL 2021):
//!
//! ```text
//! p' ∝ p max(exp(-lambda max(0, p_b - p)), eps),   p_b the largest over the biased rows
//! ```
//!
//! In logits: `z' = z + max(-lambda max(0, p_b - p), ln eps)`. The biased rows come from the host with
//! every call (`aux`); a verifier that has no such rows refuses a pipeline with this rule.

use super::{Context, Phase, Processor, Row, Scratch, range};
use serde::{Deserialize, Serialize};
use trivium_core::error::{Error, Result};
use trivium_core::numerics::{exp_neg, log_sum_exp};

/// Parameters of self-debiasing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelfDebias {
    /// lambda; 0 is neutral.
    #[serde(default = "fifty")]
    pub decay: f32,
    /// The smallest factor.
    #[serde(default = "hundredth")]
    pub epsilon: f32,
}

fn fifty() -> f32 {
    50.0
}

fn hundredth() -> f32 {
    0.01
}

impl Processor for SelfDebias {
    fn phase(&self) -> Phase {
        Phase::Fusion
    }

    fn check(&self) -> Result<()> {
        range("decay", self.decay, (0.0..f32::INFINITY).contains(&self.decay), "[0, inf)")?;
        range("epsilon", self.epsilon, self.epsilon > 0.0 && self.epsilon <= 1.0, "(0, 1]")
    }

    fn run(&self, row: &mut Row<'_>, context: &Context<'_>) -> Result<()> {
        if self.decay == 0.0 {
            return Ok(());
        }
        if context.aux.is_empty() {
            return Err(Error::input("aux", "self-debiasing needs the rows of the biased prompts"));
        }
        let width = row.width();
        let (logits, Scratch { floats, .. }) = row.edit();
        // Largest biased probability of each token, behind it one biased row at a time.
        floats.clear();
        floats.resize(width, 0.0);
        for aux in context.aux {
            if aux.len() != width {
                let why = format!("has {} logits, the row {width}", aux.len());
                return Err(Error::input("aux", why));
            }
            aux.extend_into(floats);
            let (best, biased) = floats.split_at_mut(width);
            let lse = log_sum_exp(biased);
            if lse.is_nan() || lse.is_infinite() {
                return Err(Error::input("aux", "holds NaN or +inf, or nothing is left"));
            }
            for (b, &z) in best.iter_mut().zip(biased.iter()) {
                *b = b.max(exp_neg(((f64::from(z) - lse) as f32).min(0.0)));
            }
            floats.truncate(width);
        }
        let lse = log_sum_exp(logits);
        let floor = self.epsilon.ln();
        for (z, &biased) in logits.iter_mut().zip(floats.iter()) {
            let p = exp_neg(((f64::from(*z) - lse) as f32).min(0.0));
            *z += (-self.decay * (biased - p).max(0.0)).max(floor);
        }
        Ok(())
    }

    fn is_neutral(&self) -> bool {
        self.decay == 0.0 || self.epsilon == 1.0
    }
}
