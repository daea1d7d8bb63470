//! Top-H: of the best tokens keep the longest run whose share of the entropy stays within `h`.
//!
//! Baghaei Potraghloo et al., "Top-H Decoding: Adapting the Creativity and Coherence with Bounded
//! Entropy in Text Generation". Tokens enter by probability while the sum of `-p ln p` is at most
//! `h H`; the first always does. As in transformers, law and entropy are those of the `cap` best
//! tokens, renormalised.

use super::{Context, Phase, Processor, Row, Scratch, range, top_k};
use serde::{Deserialize, Serialize};
use trivium_core::error::Result;
use trivium_core::numerics::exp_neg;

/// Parameters of top-H.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopH {
    /// h, the share of the entropy that may be spent; 0.4 is usual.
    pub h: f32,
    /// Most tokens looked at.
    #[serde(default = "hundred")]
    pub cap: usize,
}

fn hundred() -> usize {
    100
}

impl Processor for TopH {
    fn phase(&self) -> Phase {
        Phase::Truncation
    }

    fn check(&self) -> Result<()> {
        range("top_h", self.h, self.h > 0.0 && self.h <= 1.0, "(0, 1]")?;
        range("cap", self.cap, self.cap > 0, "1..")
    }

    fn run(&self, row: &mut Row<'_>, _context: &Context<'_>) -> Result<()> {
        let (law, scratch) = row.law()?;
        top_k::apply(law, self.cap, false, scratch)?;
        let Scratch { ids, .. } = scratch;
        ids.clear();
        law.collect_at_least(f32::MIN, ids);
        let (scaled, max) = (law.scaled(), law.max());
        let logit = |t: u32| scaled[t as usize];
        ids.sort_unstable_by(|&a, &b| super::prefix::ascending(logit(b), logit(a)).then(a.cmp(&b)));
        let total: f64 = ids.iter().map(|&t| f64::from(exp_neg(logit(t) - max))).sum();
        let term = |t: u32| {
            let d = logit(t) - max;
            let p = f64::from(exp_neg(d)) / total;
            if p > 0.0 { p * (total.ln() - f64::from(d)) } else { 0.0 }
        };
        let entropy: f64 = ids.iter().map(|&t| term(t)).sum();
        let budget = entropy * f64::from(self.h);
        let mut spent = 0.0;
        let n = ids
            .iter()
            .take_while(|&&t| {
                spent += term(t);
                spent <= budget
            })
            .count();
        ids.truncate(n.max(1));
        ids.sort_unstable();
        law.keep(ids)
    }
}
