//! One file a rule. Every rule is plain data with one trait, [`Processor`].
//!
//! A rule reads a [`Row`] and a [`Context`] and writes to the row alone; what changes from token to
//! token (history, mirostat's target) is in the context, so a rule itself has no state, forks for
//! free and serialises as its parameters.
//!
//! Invariants, property-tested over all rules: a removed token stays removed; a truncation never
//! empties the row; a shift of all logits changes no truncation; neutral parameters are the identity.

use crate::history::History;
use trivium_core::error::{Error, Result};
use trivium_core::{Address, LogitsRow, ScaledRow, TokenId};

mod allow;
mod bad_words;
mod bias;
mod diversity;
mod dry;
mod dynatemp;
mod encoder;
mod epsilon;
mod eta;
mod forced;
mod forgetting;
mod frequency;
mod length_decay;
mod min_length;
mod min_p;
mod mirostat;
mod momentum;
mod ngram;
mod prefix;
mod repetition;
mod rpg;
mod self_debias;
mod suppress;
mod temperature;
mod top_h;
mod top_k;
mod top_n_sigma;
mod top_p;
mod typical;
mod xtc;

pub use allow::Allow;
pub use bad_words::{BadWords, SequenceBias};
pub use bias::LogitBias;
pub use diversity::Diversity;
pub use dry::Dry;
pub use dynatemp::Dynatemp;
pub use encoder::{EncoderNgram, EncoderRepetition};
pub use epsilon::Epsilon;
pub use eta::Eta;
pub use forced::Forced;
pub use forgetting::Forgetting;
pub use frequency::Frequency;
pub use length_decay::LengthDecay;
pub use min_length::MinLength;
pub use min_p::MinP;
pub use mirostat::{Mirostat, SurpriseOn};
pub use momentum::Momentum;
pub use ngram::NgramBlock;
pub use repetition::Repetition;
pub use rpg::Rpg;
pub use self_debias::SelfDebias;
pub use suppress::Suppress;
pub use temperature::Temperature;
pub use top_h::TopH;
pub use top_k::TopK;
pub use top_n_sigma::TopNSigma;
pub use top_p::TopP;
pub use typical::Typical;
pub use xtc::Xtc;

pub(crate) use dry::z_function;
pub(crate) use min_p::apply as apply_min_p;
pub(crate) use prefix::{Candidate, fixed};
pub(crate) use top_k::apply as apply_top_k;
pub(crate) use top_p::apply as apply_top_p;

/// What a rule does, which says when it may be skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Combines the row with other rows of the host.
    Fusion,
    /// Removes tokens whatever their logits; may empty the row.
    Mask,
    /// Edits logits.
    Edit,
    /// Divides the row.
    Temperature,
    /// Keeps a set that is never empty. A point mass passes unchanged.
    Truncation,
}

/// A logits processor.
pub trait Processor: Send + Sync + std::fmt::Debug {
    /// What it does.
    fn phase(&self) -> Phase;

    /// Checks the parameters.
    ///
    /// # Errors
    /// `InvalidInput` naming the parameter and its range.
    fn check(&self) -> Result<()>;

    /// Processes one row.
    ///
    /// # Errors
    /// As `ScaledRow::load`; `InvalidInput` if something that the rule needs is absent.
    fn run(&self, row: &mut Row<'_>, context: &Context<'_>) -> Result<()>;

    /// Whether the rule removes `token` after this history, whatever the logits.
    fn forbids(&self, token: TokenId, history: &History) -> bool {
        let _ = (token, history);
        false
    }

    /// The largest token id among the parameters.
    fn max_token(&self) -> Option<TokenId> {
        None
    }

    /// Whether the parameters leave every row as it is.
    fn is_neutral(&self) -> bool {
        false
    }
}

/// Values of a row that replace those of its pipeline: what AutoDeco's heads predict a token.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Hyper {
    /// Replaces the temperature.
    pub temperature: Option<f32>,
    /// Replaces k.
    pub top_k: Option<usize>,
    /// Replaces p.
    pub top_p: Option<f32>,
    /// Replaces m.
    pub min_p: Option<f32>,
}

/// What a rule may read besides the row.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The tokens so far.
    pub history: &'a History,
    /// Noise of the token being chosen.
    pub address: Address,
    /// Number of the rule in its pipeline: the draw number of its own coins.
    pub step: u32,
    /// Mirostat's running target, in bits.
    pub mu: f32,
    /// Values of this row.
    pub hyper: Hyper,
    /// Further rows of the host, for fusion.
    pub aux: &'a [LogitsRow<'a>],
    /// Tokens that siblings chose at this step.
    pub peers: &'a [TokenId],
}

/// Buffers of the rules, reused from row to row.
#[derive(Debug, Default)]
pub struct Scratch {
    pub(crate) ids: Vec<TokenId>,
    pub(crate) floats: Vec<f32>,
    pub(crate) candidates: Vec<Candidate>,
    pub(crate) tokens: Vec<TokenId>,
    pub(crate) lengths: Vec<u32>,
    pub(crate) pairs: Vec<(TokenId, u32)>,
}

/// A row on its way through a pipeline.
#[derive(Debug)]
pub struct Row<'a> {
    pub(crate) inner: &'a mut ScaledRow,
    /// Edited since it was settled.
    pub(crate) dirty: bool,
    /// 1 / T so far.
    pub(crate) exponent: f64,
    /// ln of the share that mirostat kept.
    pub(crate) ln_share: f32,
    pub(crate) scratch: &'a mut Scratch,
}

impl Row<'_> {
    /// Number of logits.
    pub fn width(&self) -> usize {
        self.inner.scaled().len()
    }

    /// The settled law, and the buffers.
    ///
    /// # Errors
    /// As `ScaledRow::settle`.
    pub(crate) fn law(&mut self) -> Result<(&mut ScaledRow, &mut Scratch)> {
        if self.dirty {
            self.inner.settle()?;
            self.dirty = false;
        }
        Ok((self.inner, self.scratch))
    }

    /// The logits, to be edited; buffers beside them.
    pub(crate) fn edit(&mut self) -> (&mut [f32], &mut Scratch) {
        self.dirty = true;
        (self.inner.scaled_mut(), self.scratch)
    }
}

/// Applies `f` to the logit of a token that is left; the result stays finite if the logit was.
pub(crate) fn change(logits: &mut [f32], token: TokenId, f: impl FnOnce(f32) -> f32) {
    // Ids beyond the row (padding in a history) cannot be drawn and need no penalty.
    if let Some(z) = logits.get_mut(token as usize)
        && z.is_finite()
    {
        *z = f(*z).clamp(f32::MIN, f32::MAX);
    }
}

/// Removes a token.
pub(crate) fn remove(logits: &mut [f32], token: TokenId) {
    if let Some(z) = logits.get_mut(token as usize) {
        *z = f32::NEG_INFINITY;
    }
}

/// Removes every token but those that are flagged by `keep`.
pub(crate) fn remove_others(logits: &mut [f32], keep: impl Fn(TokenId) -> bool) {
    for (t, z) in logits.iter_mut().enumerate() {
        if !keep(t as TokenId) {
            *z = f32::NEG_INFINITY;
        }
    }
}

/// A range check with the usual message.
pub(crate) fn range(what: &str, value: impl std::fmt::Display, ok: bool, want: &str) -> Result<()> {
    if ok { Ok(()) } else { Err(Error::input(what, format!("{value} is outside {want}"))) }
}

/// Whether x lies in the closed interval; NaN does not.
pub(crate) fn within(x: f32, low: f32, high: f32) -> bool {
    (low..=high).contains(&x)
}
