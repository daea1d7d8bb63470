//! Target laws other than the model's own: "quality-changing" methods as laws that every verifier
//! of this module then serves exactly.
//!
//! ```text
//! contrastive: π ∝ p^(1+β) / a^β where p >= α max p, 0 elsewhere     (a: amateur, untruncated)
//! cascade:     π = (1 - r) q + r p, r from (p, q) at that position
//! reflective:  π ∝ p^(1-w) f^w       (f: the row after a reflection prompt)
//! ```
//!
//! "Speculative Contrastive Decoding", "Faster Cascades via Speculative Decoding", "Think Before
//! You Accept: Semantic Reflective Verification for Faster Speculative Decoding". Verification is
//! exact with respect to π; [`Row`](super::Row)s of π are weights of any sum. Two rows are needed
//! at every position that emits: where the second one is missing after a fully accepted path, emit
//! no bonus ([`Tree::bonus`](super::Tree)); taking the target's own row there would change the law.
//! Reflective verification is a lossy rule of the model's law: [`divergence`] says by how much.

use trivium_core::error::{Error, Result};

/// A law made of two rows of probabilities.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum LawTransform {
    /// Speculative contrastive decoding.
    Contrastive {
        /// Strength of the contrast.
        beta: f64,
        /// Plausibility: share of the largest probability that a token needs.
        alpha: f64,
    },
    /// Speculative cascade with a fixed deferral: the share of the target.
    Cascade {
        /// Share of the target, in [0, 1].
        share: f64,
    },
    /// Cascade that defers to the target where the draft's confidence is below.
    Defer {
        /// Largest draft probability below which the target's law is taken.
        below: f64,
    },
    /// Geometric mixture with the row after a reflection prompt.
    Reflective {
        /// Weight of the reflective row, in [0, 1].
        weight: f64,
    },
}

impl LawTransform {
    /// The weights of π at one position, from the target's and the other row's.
    ///
    /// # Errors
    /// `InvalidInput` for rows of different widths, parameters out of range, or a π without mass.
    pub fn apply(self, p: &[f32], other: &[f32], out: &mut Vec<f32>) -> Result<()> {
        if p.len() != other.len() {
            return Err(Error::input("rows", format!("{} and {} wide", p.len(), other.len())));
        }
        let unit = |what: &str, x: f64| {
            if (0.0..=1.0).contains(&x) {
                Ok(())
            } else {
                Err(Error::input(what, format!("{x} is outside 0..=1")))
            }
        };
        let (sp, so) = (super::row::sum(p), super::row::sum(other));
        let pairs = p.iter().zip(other).map(|(&a, &b)| (f64::from(a) / sp, f64::from(b) / so));
        out.clear();
        match self {
            Self::Contrastive { beta, alpha } => {
                unit("alpha", alpha)?;
                if !(0.0..f64::INFINITY).contains(&beta) {
                    return Err(Error::input("beta", format!("{beta} is not from 0 up")));
                }
                let floor = alpha * f64::from(p.iter().fold(0f32, |a, &b| a.max(b))) / sp;
                let logs: Vec<f64> = pairs
                    .map(|(p, a)| {
                        if p > 0.0 && p >= floor {
                            // An amateur without mass would make the contrast infinite.
                            (1.0 + beta) * p.ln() - beta * a.max(1e-30).ln()
                        } else {
                            f64::NEG_INFINITY
                        }
                    })
                    .collect();
                let top = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                out.extend(logs.iter().map(|l| (l - top).exp() as f32));
            }
            Self::Cascade { share } => {
                unit("share", share)?;
                out.extend(pairs.map(|(p, q)| ((1.0 - share) * q + share * p) as f32));
            }
            Self::Defer { below } => {
                let best = f64::from(other.iter().fold(0f32, |a, &b| a.max(b))) / so;
                out.extend(pairs.map(|(p, q)| if best < below { p } else { q } as f32));
            }
            Self::Reflective { weight } => {
                unit("weight", weight)?;
                out.extend(pairs.map(|(p, f)| (p.powf(1.0 - weight) * f.powf(weight)) as f32));
            }
        }
        let total = super::row::sum(out);
        if !(total > 0.0 && total.is_finite()) {
            return Err(Error::state("transform", "a law with mass", format!("sum {total}")));
        }
        Ok(())
    }
}

/// Total variation between two rows of weights: what serving one instead of the other costs at
/// this position.
pub fn divergence(p: &[f32], other: &[f32]) -> f64 {
    super::row::excess(1.0, super::Row::of(p), super::Row::of(other))
}
