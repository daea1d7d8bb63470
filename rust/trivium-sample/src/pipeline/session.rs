//! A pipeline along one text.
//!
//! The verbs are those of every per-sequence object: `commit`, `rollback`, `sync`, `fork`, `reset`,
//! `len`. State is the text and, with mirostat, the running target after every token; a fork shares
//! the text's base and nothing mutable.
//!
//! As a [`TargetLaw`] a session is what a verifier forks before a tree: `observe` appends a drafted
//! token, so penalties, n-gram masks and lengths advance along the path; `observe_drawn` also tells the
//! token's log-probability, which mirostat needs. A token of unknown probability leaves mirostat's
//! target where it was.

use super::{Detail, Drawn, Input, OnEmpty, Pipeline, Step};
use crate::history::History;
use crate::rules::{Hyper, Mirostat, Phase, SurpriseOn};
use std::sync::Arc;
use trivium_core::error::{Error, Result};
use trivium_core::law::PlainLaw;
use trivium_core::{Address, Draw, LogitsRow, ScaledRow, TargetLaw, TokenId};

/// State of a pipeline after a text.
#[derive(Debug, Clone)]
pub struct Session {
    pipeline: Arc<Pipeline>,
    history: History,
    seed: u64,
    branch: u32,
    /// Mirostat's target after the prompt and after each generated token; empty without mirostat.
    mu: Vec<f32>,
    /// Running `Σ ln Z_t` after the prompt and after each generated token; empty unless asked for,
    /// because a fork copies it.
    weights: Vec<f64>,
}

impl Session {
    /// Starts after a prompt. O(n log n).
    pub fn new(pipeline: Arc<Pipeline>, prompt: &[TokenId], seed: u64, branch: u32) -> Self {
        let history = History::new(prompt, &pipeline.ngrams());
        let mu = pipeline.mirostat().map(Mirostat::initial).into_iter().collect();
        Self { pipeline, history, seed, branch, mu, weights: Vec::new() }
    }

    /// Keeps the running `log_global_weight` from here on.
    #[must_use]
    pub fn weighed(mut self) -> Self {
        self.weights = vec![0.0; self.history.generated_len() + 1];
        self
    }

    /// `Σ ln Z_t` over the generated tokens: what turns the locally normalised law of texts into the
    /// global one. NaN after a token whose kept mass is unknown; None unless [`weighed`](Self::weighed).
    pub fn log_global_weight(&self) -> Option<f64> {
        self.weights.last().copied()
    }

    /// The pipeline.
    pub fn pipeline(&self) -> &Arc<Pipeline> {
        &self.pipeline
    }

    /// The text.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Tokens, prompt included.
    pub fn len(&self) -> usize {
        self.history.len()
    }

    /// Whether there is no token.
    pub fn is_empty(&self) -> bool {
        self.history.is_empty()
    }

    /// Mirostat's running target in bits.
    pub fn mu(&self) -> Option<f32> {
        self.mu.last().copied()
    }

    /// Checks that a verifier can serve this law.
    ///
    /// # Errors
    /// `Unsupported` for rules that need more than the target's own rows and log-probabilities.
    pub fn check_target(&self) -> Result<()> {
        let at = "in a pipeline of Speculator.start";
        if self.pipeline.needs_aux() {
            return Err(Error::unsupported(
                "self-debiasing",
                at,
                "verification has no rows of the biased prompts; fuse the rows before verify",
            ));
        }
        if self.pipeline.steps().iter().any(|s| matches!(s, Step::Diversity(_))) {
            return Err(Error::unsupported(
                "Hamming diversity",
                at,
                "verification knows no siblings; sample with peers instead",
            ));
        }
        if let OnEmpty::Eos(_) = self.pipeline.on_empty() {
            return Err(Error::unsupported(
                "on_empty with an end token",
                at,
                "it could break the constraint of a request; use \"error\" or \"unmask\"",
            ));
        }
        if self.pipeline.mirostat().is_some_and(|m| m.surprise_on == SurpriseOn::Full) {
            return Err(Error::unsupported(
                "mirostat with surprise_on=\"full\"",
                at,
                "verification reports log-probabilities of the kept law; use \"kept\"",
            ));
        }
        Ok(())
    }

    fn input<'a>(
        &'a self,
        logits: LogitsRow<'a>,
        allowed: Option<&'a [u32]>,
        hyper: Hyper,
        aux: &'a [LogitsRow<'a>],
    ) -> Input<'a> {
        Input {
            logits,
            allowed,
            history: &self.history,
            address: Address::new(self.seed, self.history.len() as u32, self.branch),
            mu: self.mu().unwrap_or(f32::NAN),
            hyper,
            aux,
            peers: &[],
        }
    }

    /// Draws the next token; the state stays.
    ///
    /// # Errors
    /// As [`Pipeline::process`].
    pub fn sample(
        &self,
        logits: LogitsRow<'_>,
        allowed: Option<&[u32]>,
        (hyper, aux): (Hyper, &[LogitsRow<'_>]),
        (draw, detail): (Draw, Detail),
        row: &mut ScaledRow,
    ) -> Result<Drawn> {
        self.pipeline.sample(&self.input(logits, allowed, hyper, aux), draw, detail, row)
    }

    /// Appends a token with its surprise in bits, as [`Drawn`] reports it; NaN where unknown.
    pub fn commit(&mut self, token: TokenId, surprise: f32) {
        self.append(token, surprise, f32::NAN);
    }

    /// Appends a token that [`sample`](Self::sample) drew.
    pub fn commit_drawn(&mut self, drawn: &Drawn) {
        self.append(drawn.token, drawn.surprise, drawn.ln_kept);
    }

    /// Appends a token with its log-probability under the processed law and the kept mass, as the
    /// host knows them; NaN where unknown.
    pub fn commit_known(&mut self, token: TokenId, log_prob: f32, ln_kept: f32) {
        self.append(token, self.pipeline.surprise(log_prob, 0.0), ln_kept);
    }

    fn append(&mut self, token: TokenId, surprise: f32, ln_kept: f32) {
        self.history.push(token);
        if let Some(&sum) = self.weights.last() {
            self.weights.push(sum + f64::from(ln_kept));
        }
        if let (Some(m), Some(&mu)) = (self.pipeline.mirostat(), self.mu.last()) {
            self.mu.push(if surprise.is_finite() { m.next(mu, surprise) } else { mu });
        }
    }

    /// Takes back the last `n` tokens.
    ///
    /// # Errors
    /// `StateMismatch` if fewer were generated; nothing changes.
    pub fn rollback(&mut self, n: usize) -> Result<()> {
        self.history.rollback(n)?;
        if !self.mu.is_empty() {
            self.mu.truncate(self.mu.len() - n);
        }
        if !self.weights.is_empty() {
            self.weights.truncate(self.weights.len() - n);
        }
        Ok(())
    }

    /// Back to the prompt.
    ///
    /// # Errors
    /// Never.
    pub fn reset(&mut self) -> Result<()> {
        self.rollback(self.history.generated_len())
    }

    /// Makes the text equal `tokens`: common prefix, roll back, extend (with unknown surprise).
    ///
    /// # Errors
    /// `InvalidInput` if `tokens` does not begin with the prompt; nothing changes.
    pub fn sync(&mut self, tokens: &[TokenId]) -> Result<()> {
        let shared = self.history.iter().zip(tokens).take_while(|(a, b)| a == *b).count();
        if shared < self.history.prompt_len() {
            return Err(Error::input("tokens", "do not begin with the prompt of this session"));
        }
        self.rollback(self.history.len() - shared)?;
        for &t in &tokens[shared..] {
            self.commit(t, f32::NAN);
        }
        Ok(())
    }
}

impl TargetLaw for Session {
    fn process(
        &self,
        logits: LogitsRow<'_>,
        allowed: Option<&[u32]>,
        out: &mut ScaledRow,
    ) -> Result<()> {
        self.pipeline.process(&self.input(logits, allowed, Hyper::default(), &[]), out)
    }

    fn observe(&mut self, token: TokenId) {
        self.commit(token, f32::NAN);
    }

    fn observe_drawn(&mut self, token: TokenId, log_prob: f32) {
        self.commit(token, self.pipeline.surprise(log_prob, 0.0));
    }

    fn forbids(&self, token: TokenId) -> bool {
        self.pipeline.steps().iter().any(|s| s.processor().forbids(token, &self.history))
    }

    fn has_masks(&self) -> bool {
        self.pipeline.steps().iter().any(|s| s.processor().phase() == Phase::Mask)
    }

    fn plain(&self) -> Option<PlainLaw> {
        // Rules with ids were checked against a row by the CPU's path, and have no plain form.
        self.pipeline.plain(&self.history, Hyper::default(), usize::MAX).ok().flatten()
    }

    fn fork(&self) -> Box<dyn TargetLaw> {
        Box::new(self.clone())
    }
}
