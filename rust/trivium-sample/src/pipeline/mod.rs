//! A pipeline: rules in order, as plain data.
//!
//! `Pipeline` serialises to JSON and back, hashes stably (the hash of its canonical JSON, a cache
//! key), and is shared by reference; [`Session`] adds what changes along a text. The law that a
//! speculative verifier serves is the session's, with penalties and masks advanced along the draft
//! path.
//!
//! The order matters: temperature and truncation do not commute. [`Order`] holds the canonical order
//! and those of three stacks.

mod empty;
mod order;
mod plain;
mod session;
mod step;

pub use empty::OnEmpty;
pub use order::Order;
pub use session::Session;
pub use step::Step;

use crate::history::History;
use crate::rules::{Context, Hyper, Mirostat, Phase, Row, Scratch, Temperature, remove_others};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use trivium_core::error::{Error, Result};
use trivium_core::numerics::log_sum_exp;
use trivium_core::{Address, Draw, LogitsRow, ScaledRow, TokenId};

/// Rules in the order in which they run.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pipeline {
    steps: Vec<Step>,
    #[serde(default, skip_serializing_if = "OnEmpty::is_error")]
    on_empty: OnEmpty,
}

/// One row and what its rules may read.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// The model's logits.
    pub logits: LogitsRow<'a>,
    /// Packed mask, applied before every rule.
    pub allowed: Option<&'a [u32]>,
    /// The tokens so far.
    pub history: &'a History,
    /// Noise of the token being chosen.
    pub address: Address,
    /// Mirostat's running target; NaN takes that of a new sequence.
    pub mu: f32,
    /// Values of this row.
    pub hyper: Hyper,
    /// Further rows of the host, for fusion.
    pub aux: &'a [LogitsRow<'a>],
    /// Tokens that siblings chose at this step, for diversity.
    pub peers: &'a [TokenId],
}

/// A drawn token and its logarithms.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Drawn {
    /// The token.
    pub token: TokenId,
    /// ln of its probability under the processed law.
    pub log_prob: f32,
    /// Before any rule and mask.
    pub log_prob_raw: f32,
    /// After fusion, before everything else.
    pub log_prob_fused: f32,
    /// ln `Z_t`: mass of the processed weights relative to the raw law, `Σ_kept p^(1/T)`. Their sum
    /// along a text is the `log_global_weight` that corrects local normalisation.
    pub ln_kept: f32,
    /// Surprise in bits, as mirostat measures it.
    pub surprise: f32,
}

/// Which law a reported log-probability is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogProbs {
    /// After every rule: the law that was drawn from.
    #[default]
    Processed,
    /// The model's own.
    Raw,
    /// After fusion with other rows; the raw one where no rule fuses.
    Fused,
}

impl Drawn {
    /// The log-probability under a law; NaN where [`Detail`] left it out.
    pub fn log_prob_of(&self, law: LogProbs) -> f32 {
        match law {
            LogProbs::Processed => self.log_prob,
            LogProbs::Raw => self.log_prob_raw,
            LogProbs::Fused => self.log_prob_fused,
        }
    }
}

/// What to compute besides the token and its processed log-probability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Detail {
    /// Nothing: the other fields are NaN.
    #[default]
    Fast,
    /// Everything: one more exponential a logit.
    Full,
}

/// Which rules run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// All.
    Whole,
    /// All but the masks.
    Unmasked,
    /// Those that combine rows.
    Fusion,
}

thread_local! {
    /// Buffers of the calling thread; after its first row of a width no call allocates.
    static BUFFERS: RefCell<(Scratch, Vec<f32>)> = RefCell::default();
}

/// Runs `f` with the thread's buffers; with fresh ones inside a call from within `f`.
pub(crate) fn with_scratch<T>(f: impl FnOnce(&mut Scratch, &mut Vec<f32>) -> T) -> T {
    BUFFERS.with(|b| match b.try_borrow_mut() {
        Ok(mut b) => {
            let (scratch, floats) = &mut *b;
            f(scratch, floats)
        }
        Err(_) => f(&mut Scratch::default(), &mut Vec::new()),
    })
}

impl Pipeline {
    /// Rules in the given order.
    ///
    /// # Errors
    /// `InvalidInput` for parameters out of range or more than one mirostat.
    pub fn new(steps: Vec<Step>) -> Result<Self> {
        for step in &steps {
            step.processor().check()?;
        }
        if steps.iter().filter(|s| matches!(s, Step::Mirostat(_))).count() > 1 {
            return Err(Error::input(
                "steps",
                "hold mirostat twice; a text has one running target",
            ));
        }
        Ok(Self { steps, on_empty: OnEmpty::Error })
    }

    /// With a policy for rows that the masks empty.
    #[must_use]
    pub fn with_on_empty(mut self, on_empty: OnEmpty) -> Self {
        self.on_empty = on_empty;
        self
    }

    /// What happens to rows that the masks empty.
    pub fn on_empty(&self) -> OnEmpty {
        self.on_empty
    }

    /// Rules sorted by an order; rules of one kind stay as given.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn ordered(mut steps: Vec<Step>, order: Order) -> Result<Self> {
        steps.sort_by_key(|s| order.rank(s));
        Self::new(steps)
    }

    /// Reads what [`to_json`](Self::to_json) wrote.
    ///
    /// # Errors
    /// `InvalidInput` naming the place.
    pub fn from_json(text: &str) -> Result<Self> {
        let read: Self = serde_json::from_str(text)
            .map_err(|e| Error::input("pipeline", format!("is not the JSON of one: {e}")))?;
        Ok(Self::new(read.steps)?.with_on_empty(read.on_empty))
    }

    /// Canonical JSON: every parameter, in a fixed order, without spaces.
    ///
    /// # Errors
    /// Never for a pipeline that was constructed.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|e| Error::Internal { detail: e.to_string() })
    }

    /// FNV-1a of the canonical JSON: equal for equal pipelines, on every machine and version that
    /// writes the same JSON.
    ///
    /// # Errors
    /// As [`to_json`](Self::to_json).
    pub fn stable_hash(&self) -> Result<u64> {
        Ok(self.to_json()?.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| {
            (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3)
        }))
    }

    /// The rules.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Whether some rule needs further rows of the host.
    pub fn needs_aux(&self) -> bool {
        self.steps.iter().any(|s| s.processor().phase() == Phase::Fusion)
    }

    /// The n of its n-gram rules.
    pub fn ngrams(&self) -> Vec<usize> {
        let mut all: Vec<usize> = self
            .steps
            .iter()
            .filter_map(|s| if let Step::NgramBlock(b) = s { Some(b.n) } else { None })
            .collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    pub(crate) fn mirostat(&self) -> Option<&Mirostat> {
        self.steps.iter().find_map(|s| if let Step::Mirostat(m) = s { Some(m) } else { None })
    }

    /// Processes one row. O(V) with a small constant, plus what the rules say.
    ///
    /// # Errors
    /// As `ScaledRow::load`; `StateMismatch` naming the mask that emptied the row; `OutOfVocabulary`
    /// for ids of rules beyond the row; `InvalidInput` for row values out of range or without a rule
    /// that reads them.
    pub fn process(&self, input: &Input<'_>, out: &mut ScaledRow) -> Result<()> {
        with_scratch(|scratch, _| self.run(input, out, scratch, Part::Whole).map(|_| ()))
    }

    /// Processes one row and draws from it.
    ///
    /// # Errors
    /// As [`process`](Self::process).
    pub fn sample(
        &self,
        input: &Input<'_>,
        draw: Draw,
        detail: Detail,
        row: &mut ScaledRow,
    ) -> Result<Drawn> {
        with_scratch(|scratch, floats| {
            let done = self.run(input, row, scratch, Part::Whole)?;
            let token = row.draw(draw, input.address);
            self.describe(input, row, token, done, detail, (scratch, floats))
        })
    }

    fn describe(
        &self,
        input: &Input<'_>,
        row: &mut ScaledRow,
        token: TokenId,
        (exponent, ln_share): (f64, f32),
        detail: Detail,
        (scratch, floats): (&mut Scratch, &mut Vec<f32>),
    ) -> Result<Drawn> {
        let log_prob = row.log_prob(token);
        let mut drawn = Drawn {
            token,
            log_prob,
            log_prob_raw: f32::NAN,
            log_prob_fused: f32::NAN,
            ln_kept: f32::NAN,
            surprise: self.surprise(log_prob, ln_share),
        };
        if detail == Detail::Fast {
            return Ok(drawn);
        }
        floats.clear();
        input.logits.extend_into(floats);
        let raw_total = log_sum_exp(floats);
        let raw = f64::from(floats[token as usize]) - raw_total;
        drawn.log_prob_raw = raw as f32;
        drawn.ln_kept = if row.is_greedy() {
            // T -> 0 keeps the arg-max of the law at T = 1.
            drawn.log_prob_raw
        } else if (f64::from(row.max()) * exponent).abs() < 1e30 {
            let total = f64::from(row.scaled()[token as usize]) - f64::from(log_prob);
            (total - exponent * raw_total) as f32
        } else {
            f32::NAN // the row was shifted to stay finite
        };
        drawn.log_prob_fused = drawn.log_prob_raw;
        if self.needs_aux() {
            let mut fused = ScaledRow::new();
            self.run(input, &mut fused, scratch, Part::Fusion)?;
            drawn.log_prob_fused = fused.log_prob(token);
        }
        Ok(drawn)
    }

    /// Surprise in bits of a token with this processed log-probability.
    pub(crate) fn surprise(&self, log_prob: f32, ln_share: f32) -> f32 {
        let full = self.mirostat().is_some_and(|m| m.surprise_on == crate::rules::SurpriseOn::Full);
        let ln = if full { log_prob + ln_share } else { log_prob };
        -ln / std::f32::consts::LN_2
    }

    /// The rules over one row, and the policy; returns 1 / T and ln of mirostat's share.
    fn run(
        &self,
        input: &Input<'_>,
        out: &mut ScaledRow,
        scratch: &mut Scratch,
        part: Part,
    ) -> Result<(f64, f32)> {
        self.check_row(input.hyper, input.logits.len())?;
        let done = self.pass(input, out, scratch, part);
        let (Err(Error::StateMismatch { .. }), Part::Whole) = (&done, part) else { return done };
        match self.on_empty {
            OnEmpty::Error => done,
            OnEmpty::Unmask => self.pass(input, out, scratch, Part::Unmasked),
            OnEmpty::Eos(token) => {
                out.load_raw(input.logits, None);
                if out.scaled()[token as usize].is_finite() {
                    remove_others(out.scaled_mut(), |t| t == token);
                    out.settle().map(|()| (1.0, 0.0))
                } else {
                    done
                }
            }
        }
        .map_err(|e| self.blame(e, input))
    }

    /// Some of the rules over one row.
    fn pass(
        &self,
        input: &Input<'_>,
        out: &mut ScaledRow,
        scratch: &mut Scratch,
        part: Part,
    ) -> Result<(f64, f32)> {
        let fusion_only = part == Part::Fusion;
        let mut first = 0;
        let mut exponent = 1.0;
        let dirty = match self.steps.first() {
            // One pass loads, divides and finds the maxima.
            Some(Step::Temperature(Temperature { temperature })) if !fusion_only => {
                let t = input.hyper.temperature.unwrap_or(*temperature);
                if self.steps.len() == 1 {
                    out.load_whole(input.logits, input.allowed, t)?;
                } else {
                    out.load(input.logits, input.allowed, t)?;
                }
                if !out.is_greedy() {
                    exponent /= f64::from(t);
                }
                first = 1;
                false
            }
            _ => {
                out.load_raw(input.logits, if fusion_only { None } else { input.allowed });
                true
            }
        };
        let mut row = Row { inner: out, dirty, exponent, ln_share: 0.0, scratch };
        let mu = match self.mirostat() {
            Some(m) if input.mu.is_nan() => m.initial(),
            _ => input.mu,
        };
        for (i, step) in self.steps.iter().enumerate().skip(first) {
            let rule = step.processor();
            let phase = rule.phase();
            let skip = match phase {
                Phase::Fusion => false,
                Phase::Mask => part != Part::Whole,
                // A point mass passes every truncation.
                Phase::Truncation => fusion_only || (!row.dirty && row.inner.is_greedy()),
                _ => fusion_only,
            };
            if skip {
                continue;
            }
            let context = Context {
                history: input.history,
                address: input.address,
                step: i as u32,
                mu,
                hyper: input.hyper,
                aux: input.aux,
                peers: input.peers,
            };
            rule.run(&mut row, &context)?;
        }
        row.law()?;
        Ok((row.exponent, row.ln_share))
    }

    /// Row values and ids of rules fit.
    fn check_row(&self, hyper: Hyper, width: usize) -> Result<()> {
        let has = |f: fn(&Step) -> bool| self.steps.iter().any(f);
        let absent = [
            (
                "temperature",
                hyper.temperature.is_some(),
                has(|s| matches!(s, Step::Temperature(_))),
            ),
            ("top_k", hyper.top_k.is_some(), has(|s| matches!(s, Step::TopK(_)))),
            ("top_p", hyper.top_p.is_some(), has(|s| matches!(s, Step::TopP(_)))),
            ("min_p", hyper.min_p.is_some(), has(|s| matches!(s, Step::MinP(_)))),
        ];
        for (name, given, present) in absent {
            if given && !present {
                let why =
                    "is given a row, but the pipeline has no such rule; add it with a default";
                return Err(Error::input(name, why));
            }
        }
        if hyper.top_p.is_some_and(|p| !(p > 0.0 && p <= 1.0)) {
            return Err(Error::input("top_p", "a row's value is outside (0, 1]"));
        }
        if hyper.min_p.is_some_and(|m| !(0.0..=1.0).contains(&m)) {
            return Err(Error::input("min_p", "a row's value is outside [0, 1]"));
        }
        let end = if let OnEmpty::Eos(t) = self.on_empty { Some(t) } else { None };
        match self.steps.iter().filter_map(|s| s.processor().max_token()).chain(end).max() {
            Some(t) if t as usize >= width => {
                Err(Error::OutOfVocabulary { token: i64::from(t), vocab: width })
            }
            _ => Ok(()),
        }
    }

    /// Names the mask that emptied a row.
    fn blame(&self, error: Error, input: &Input<'_>) -> Error {
        let Error::StateMismatch { what, expected, .. } = &error else { return error };
        let mut row = ScaledRow::new();
        row.load_raw(input.logits, input.allowed);
        let mut culprit = row.settle().is_err().then_some("the logits or the allowed mask");
        let mut scratch = Scratch::default();
        for (i, step) in self.steps.iter().enumerate() {
            if culprit.is_some() {
                break;
            }
            if step.processor().phase() != Phase::Mask {
                continue;
            }
            let mut r = Row {
                inner: &mut row,
                dirty: false,
                exponent: 1.0,
                ln_share: 0.0,
                scratch: &mut scratch,
            };
            let context = Context {
                history: input.history,
                address: input.address,
                step: i as u32,
                mu: input.mu,
                hyper: Hyper::default(),
                aux: &[],
                peers: &[],
            };
            let emptied = step.processor().run(&mut r, &context).is_err() || r.law().is_err();
            culprit = emptied.then_some(step.name());
        }
        Error::StateMismatch {
            what: what.clone(),
            expected: expected.clone(),
            found: format!("a row of all -inf, emptied by {}", culprit.unwrap_or("its rules")),
        }
    }
}
