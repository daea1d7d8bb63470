//! Mirostat: keeps the surprise of the text near a target `tau`, in bits.
//!
//! Basu et al., "Mirostat: A Neural Text Decoding Algorithm that Directly Controls Perplexity" (ICLR
//! 2021), as llama.cpp computes it. The running target `mu` starts at `2 tau`; after each token with
//! surprise `S = -log2 p` it moves: `mu -= eta (S - tau)`.
//!
//! ```text
//! version 1: t_i = ln((i+2)/(i+1)), b_i = ln(p_i/p_{i+1}) over the m best; s = Σ t b / Σ t²
//!            e = s - 1;  k = (e 2^mu / (1 - V^-e))^(1/s);  keep the k best
//! version 2: keep tokens with -log2 p <= mu, at least the best
//! ```
//!
//! `S` is measured on the law after truncation (`kept`, llama.cpp's) or before it (`full`). `mu` is
//! state of the sequence, not of the rule: it advances with the token that was drawn and its
//! probability, along a draft path as along the text, and needs no noise.

use super::{Context, Phase, Processor, Row, Scratch, range, top_k};
use serde::{Deserialize, Serialize};
use trivium_core::ScaledRow;
use trivium_core::error::Result;

/// Where the surprise of a drawn token is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SurpriseOn {
    /// On the law after truncation.
    #[default]
    Kept,
    /// On the law before mirostat's own truncation.
    Full,
}

/// Parameters of mirostat.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mirostat {
    /// 1 or 2.
    pub version: u8,
    /// Target surprise in bits.
    #[serde(default = "five")]
    pub tau: f32,
    /// Learning rate.
    #[serde(default = "tenth")]
    pub eta: f32,
    /// Tokens that the first version fits its exponent on.
    #[serde(default = "hundred")]
    pub m: usize,
    /// Where surprise is measured.
    #[serde(default)]
    pub surprise_on: SurpriseOn,
}

fn five() -> f32 {
    5.0
}

fn tenth() -> f32 {
    0.1
}

fn hundred() -> usize {
    100
}

impl Mirostat {
    /// The running target of a new sequence.
    pub fn initial(&self) -> f32 {
        2.0 * self.tau
    }

    /// The running target after a token of this surprise.
    pub fn next(&self, mu: f32, surprise: f32) -> f32 {
        mu - self.eta * (surprise - self.tau)
    }
}

impl Processor for Mirostat {
    fn phase(&self) -> Phase {
        Phase::Truncation
    }

    fn check(&self) -> Result<()> {
        range("version", self.version, (1..=2).contains(&self.version), "1..=2")?;
        range("tau", self.tau, (0.0..f32::INFINITY).contains(&self.tau), "[0, inf)")?;
        range("eta", self.eta, (0.0..f32::INFINITY).contains(&self.eta), "[0, inf)")?;
        range("m", self.m, self.m >= 2, "2..")
    }

    fn run(&self, row: &mut Row<'_>, context: &Context<'_>) -> Result<()> {
        let (law, scratch) = row.law()?;
        let before = f64::from(law.max()) + law.total().ln();
        if self.version == 1 {
            let k = rank(law, self.m, context.mu, scratch);
            top_k::apply(law, k, false, scratch)?;
        } else {
            // p >= 2^-mu.
            let floor = before - f64::from(context.mu) * std::f64::consts::LN_2;
            super::min_p::keep_from(law, floor as f32, scratch)?;
        }
        let after = f64::from(law.max()) + law.total().ln();
        row.ln_share = (after - before) as f32;
        Ok(())
    }
}

/// The first version's k, from the slope of the m best tokens on a Zipf plot.
fn rank(row: &ScaledRow, m: usize, mu: f32, scratch: &mut Scratch) -> usize {
    let Scratch { ids, floats, .. } = scratch;
    ids.clear();
    row.collect_at_least(f32::MIN, ids);
    floats.clear();
    floats.extend(ids.iter().map(|&t| row.scaled()[t as usize]));
    let m = m.min(floats.len());
    if m < 2 {
        return 1;
    }
    if m < floats.len() {
        floats.select_nth_unstable_by(m - 1, |a, b| b.total_cmp(a));
    }
    floats.truncate(m);
    floats.sort_unstable_by(|a, b| b.total_cmp(a));
    let (mut tb, mut tt) = (0.0, 0.0);
    for (i, pair) in floats.windows(2).enumerate() {
        let t = ((i as f64 + 2.0) / (i as f64 + 1.0)).ln();
        tb += t * (f64::from(pair[0]) - f64::from(pair[1]));
        tt += t * t;
    }
    let s = tb / tt;
    let e = s - 1.0;
    let width = row.scaled().len() as f64;
    // e / (1 - V^-e) tends to 1 / ln V.
    let ratio = if e.abs() < 1e-9 { 1.0 / width.ln() } else { e / (1.0 - width.powf(-e)) };
    let k = (ratio * f64::from(mu).exp2()).powf(1.0 / s);
    // NaN (a flat law, s = 0) and infinities keep everything.
    if k < width { (k as usize).max(1) } else { row.scaled().len() }
}
