//! How long to draft: one controller a file.
//!
//! A controller bounds the drafted tokens of the next step ([`Controller::length`]) and may stop
//! within it by two hooks. Both are legal by construction. [`before_sample`](Controller::before_sample)
//! sees the law that the next token would be drawn from and never the token;
//! [`after_include`](Controller::after_include) sees the token and decides what comes behind it, the
//! token itself being in the draft already. A rule that drops a token for what it is cannot be
//! written, and it would bias every verifier that tests drawn drafts (the oracle plants one).
//! Choices use past rounds and noise of [`Purpose::Control`](trivium_core::Purpose), so no verifier
//! is biased by them.
//!
//! | name | controller | source |
//! |:--|:--|:--|
//! | `fixed` | [`Fixed`] | |
//! | `heuristic`, `constant` | [`Schedule`] | assisted generation of transformers |
//! | `confidence`, `kangaroo`, `swift` | [`Confidence`] | Kangaroo, SWIFT |
//! | `draft_verify` | [`DraftVerify`] | Draft & Verify |
//! | `svip` | [`Svip`] | SVIP |
//! | `specdec++` | [`SpecDecPp`] | SpecDec++ |
//! | `disco` | [`Disco`] | DISCO |
//! | `ucb`, `ucb_rate` | [`Ucb`] | BanditSpec |
//! | `exp3` | [`Exp3`] | BanditSpec |
//! | `thompson` | [`Thompson`] | EESD |
//! | `pearl` | [`PearlLength`] | PEARL |
//! | `adaptive` | [`BestLength`] | cost model |
//!
//! State is learned, not text: `rollback` of a request leaves it.

mod best_length;
pub mod calibrator;
mod confidence;
mod disco;
mod entropy;
mod exp3;
pub mod gamma;
mod hedge;
mod parallel;
mod schedule;
mod spec;
pub(crate) mod steering;
pub mod store;
mod survival;
mod switch;
mod thompson;
mod ucb;

pub use best_length::{BestLength, best_length, log_linear};
pub use calibrator::Calibrator;
pub use confidence::{Confidence, DraftVerify};
pub use disco::Disco;
pub use entropy::Svip;
pub use exp3::Exp3;
pub use hedge::{Hedge, tokens_by_source};
pub use parallel::{PearlLength, pearl_gamma, spec_branch_gamma, spec_branch_time};
pub use schedule::{Fixed, Schedule};
pub use spec::{Arms, CONTROLS, ControlSpec, MAX_ARMS};
pub use survival::SpecDecPp;
pub use switch::Switch;
pub use thompson::Thompson;
pub use ucb::{Ucb, ucb_radius};

use crate::policy::CostModel;
use trivium_core::Address;
use trivium_core::error::{Error, Result};

/// What is known of the law that a drafted token comes from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QSummary {
    /// Largest probability.
    pub top: f64,
    /// Entropy in nats.
    pub entropy: f64,
}

impl QSummary {
    /// Of a row of weights: O(vocab).
    ///
    /// # Errors
    /// `InvalidInput` if the row is no law.
    pub fn of_weights(weights: &[f32]) -> Result<Self> {
        let total = trivium_core::simd::row_sum(weights).unwrap_or(f64::NAN);
        if !(total > 0.0 && total.is_finite()) {
            return Err(Error::input(
                "row",
                "is no law: entries finite and not negative, some mass",
            ));
        }
        let (mut top, mut entropy) = (0f64, 0.0);
        for &w in weights {
            let p = f64::from(w) / total;
            top = top.max(p);
            if p > 0.0 {
                entropy -= p * p.ln();
            }
        }
        Ok(Self { top, entropy: entropy.max(0.0) })
    }

    /// Of the candidates that stores know, whose estimates leave some mass for all other tokens.
    /// That rest counts as one token: the entropy is a lower bound.
    pub fn of_candidates(estimates: impl Iterator<Item = f64>) -> Self {
        let (mut top, mut entropy, mut sum) = (0f64, 0.0, 0.0);
        for p in estimates.filter(|p| *p > 0.0) {
            top = top.max(p);
            entropy -= p * p.ln();
            sum += p;
        }
        let rest = 1.0 - sum;
        if rest > 0.0 {
            entropy -= rest * rest.ln();
        }
        Self { top, entropy: entropy.max(0.0) }
    }
}

/// Where on a drafted path a decision falls.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DraftCtx {
    /// Before a token: tokens drafted on the path so far. Behind one: the same, it counted.
    pub position: usize,
    /// Product of the acceptance estimates of those tokens.
    pub survival: f64,
    /// Noise of the step's first undecided position.
    pub noise: Address,
}

/// What a controller may ask before a step.
#[derive(Debug, Clone, Copy)]
pub struct StepCtx<'a> {
    /// Noise of the step's first undecided position.
    pub noise: Address,
    /// The host's timings.
    pub cost: Option<&'a CostModel>,
    /// Requests that share the pass.
    pub requests: usize,
}

impl StepCtx<'_> {
    /// A step of one request without timings.
    pub fn alone(noise: Address) -> Self {
        Self { noise, cost: None, requests: 1 }
    }
}

/// One reached place of a verified draft.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reached {
    /// The law its children came from.
    pub q: QSummary,
    /// Draft probability of the child that was accepted, else of the likeliest one there.
    pub p: f64,
    /// Whether a child was accepted.
    pub accepted: bool,
}

/// What became of one step of one request.
#[derive(Debug, Clone, Copy)]
pub struct Feedback<'a> {
    /// What [`Controller::length`] had said.
    pub allowed: usize,
    /// Drafted nodes.
    pub drafted: usize,
    /// Deepest drafted node.
    pub depth: usize,
    /// Accepted drafts.
    pub accepted: usize,
    /// Time of the step, this request's share; where it was told.
    pub cost: Option<f64>,
    /// Places that had drafted children and were reached, from the root down.
    pub path: &'a [Reached],
}

impl Feedback<'_> {
    /// Whether a drafted token was tested and refused.
    pub fn rejected(&self) -> bool {
        self.accepted < self.depth
    }
}

/// Decides how long to draft. Everything but [`report`](Self::report) is a pure function of what
/// was reported and of noise, so a step proposed twice is the same step.
pub trait Controller: Send + Sync + std::fmt::Debug {
    /// Most tokens to draft in the next step.
    fn length(&self, _step: StepCtx<'_>) -> usize {
        usize::MAX
    }

    /// Whether to draft another token, of the law `q`, behind `ctx.position` tokens.
    fn before_sample(&self, _ctx: DraftCtx, _q: QSummary) -> bool {
        true
    }

    /// Whether to go on behind a token of draft probability `p` that came from `q` and is included.
    fn after_include(&self, _ctx: DraftCtx, _q: QSummary, _p: f64) -> bool {
        true
    }

    /// Acceptance estimate of a drafted token of draft probability `p`.
    fn calibrated(&self, p: f64) -> f64 {
        p
    }

    /// Learns from a verified step.
    fn report(&mut self, _feedback: &Feedback<'_>) {}

    /// An independent copy, state included.
    fn fork(&self) -> Box<dyn Controller>;

    /// A controller for another request: what was learned stays, what followed one text does not.
    fn fresh(&self) -> Box<dyn Controller> {
        self.fork()
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    pub(crate) fn at(position: usize, survival: f64) -> DraftCtx {
        DraftCtx { position, survival, noise: Address::new(0, 0, 0) }
    }

    pub(crate) fn q(top: f64, entropy: f64) -> QSummary {
        QSummary { top, entropy }
    }

    pub(crate) fn told(allowed: usize, depth: usize, accepted: usize) -> Feedback<'static> {
        Feedback { allowed, drafted: depth, depth, accepted, cost: None, path: &[] }
    }

    #[test]
    fn summaries_are_the_definition() {
        let s = QSummary::of_weights(&[1.0, 2.0, 0.0, 1.0]).unwrap();
        assert!((s.top - 0.5).abs() < 1e-12);
        assert!((s.entropy - (0.5 * 2f64.ln() + 0.5 * 4f64.ln())).abs() < 1e-12);
        assert_eq!(QSummary::of_weights(&[0.0, 3.0]).unwrap(), q(1.0, 0.0));
        for bad in [&[][..], &[0.0], &[f32::NAN], &[-1.0, 2.0]] {
            assert!(QSummary::of_weights(bad).is_err());
        }
        let s = QSummary::of_candidates([0.5, 0.25].into_iter());
        assert!((s.entropy - (0.5 * 2f64.ln() + 0.5 * 4f64.ln())).abs() < 1e-12);
        assert_eq!(QSummary::of_candidates(std::iter::empty()), q(0.0, 0.0));
    }
}
