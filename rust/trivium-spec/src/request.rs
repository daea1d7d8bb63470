//! One request: its committed tokens, its view of every source, its constraint and its noise.
//!
//! The laws of every per-sequence object hold for it: `commit` then `rollback` is the identity on
//! committed text, output and local proposals; `sync` equals `reset` and `commit`; a `fork` shares
//! nothing mutable. Its length counts the prompt, and nothing rolls back into the prompt.

use crate::control::steering::Steering;
use crate::draft::{RequestSource, Scope};
use trivium_core::error::{Error, Result};
use trivium_core::{Constraint, Draw, TargetLaw, TokenId, ids};

/// What may be set when a request starts.
#[derive(Default)]
pub struct RequestOptions {
    /// Who may share its drafts.
    pub scope: Scope,
    /// Seed of its noise; `None` takes the speculator's.
    pub seed: Option<u64>,
    /// Trace number among sibling samples of one seed.
    pub branch: u32,
    /// How laws become tokens.
    pub draw: Draw,
    /// Mask along its output; it starts where the prompt ends.
    pub constraint: Option<Box<dyn Constraint>>,
    /// Its processed law; `None` takes the parameters of each `verify` call.
    pub law: Option<Box<dyn TargetLaw>>,
}

/// A sequence being decoded.
pub struct Request {
    pub(crate) id: u64,
    pub(crate) tokens: Vec<TokenId>,
    pub(crate) prompt_len: usize,
    pub(crate) seed: u64,
    pub(crate) branch: u32,
    pub(crate) draw: Draw,
    pub(crate) sources: Vec<Box<dyn RequestSource>>,
    pub(crate) constraint: Option<Box<dyn Constraint>>,
    pub(crate) law: Option<Box<dyn TargetLaw>>,
    pub(crate) initial_law: Option<Box<dyn TargetLaw>>,
    /// Log-probabilities of the committed output, NaN where unknown; kept where there is a law.
    pub(crate) logprobs: Vec<f32>,
    /// Most nodes of the tree being proposed, node 0 counted.
    pub(crate) cap: usize,
    /// How long to draft; learned, so no part of the text.
    pub(crate) steering: Steering,
    pub(crate) vocab: usize,
    pub(crate) finished: bool,
}

impl Request {
    /// Identity within its speculator.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Committed tokens, prompt included.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Never true: a request has a prompt.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Length of the prompt.
    pub fn prompt_len(&self) -> usize {
        self.prompt_len
    }

    /// Committed tokens, prompt included.
    pub fn tokens(&self) -> &[TokenId] {
        &self.tokens
    }

    /// Seed of its noise.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Bytes held by this request.
    pub fn memory(&self) -> usize {
        self.tokens.capacity() * 4 + self.sources.iter().map(|s| s.memory()).sum::<usize>()
    }

    pub(crate) fn check_open(&self) -> Result<()> {
        if self.finished {
            return Err(Error::state("request", "an open request", "a finished one"));
        }
        Ok(())
    }

    /// Appends tokens that the host chose.
    ///
    /// # Errors
    /// `OutOfVocabulary`; `RejectedToken` if the constraint refuses one; `StateMismatch` after
    /// `finish`. Nothing changes then.
    pub fn commit(&mut self, tokens: &[TokenId]) -> Result<()> {
        self.check_open()?;
        ids::check_ids(tokens, self.vocab)?;
        self.constrain(tokens)?;
        self.apply(tokens, None);
        Ok(())
    }

    /// Advances the constraint, all or nothing.
    pub(crate) fn constrain(&mut self, tokens: &[TokenId]) -> Result<()> {
        let position = self.tokens.len();
        let Some(constraint) = &mut self.constraint else { return Ok(()) };
        for (i, &token) in tokens.iter().enumerate() {
            if !constraint.commit(token)? {
                constraint.rollback(i)?;
                return Err(Error::RejectedToken { token, position: position + i });
            }
        }
        Ok(())
    }

    /// Whether it has a law of its own, which then decides alone.
    pub fn has_law(&self) -> bool {
        self.law.is_some()
    }

    /// Everything but the constraint; `logprobs` where the tokens were drawn from the law.
    pub(crate) fn apply(&mut self, tokens: &[TokenId], logprobs: Option<&[f32]>) {
        self.tokens.extend_from_slice(tokens);
        for source in &mut self.sources {
            source.commit(tokens);
        }
        if let Some(law) = &mut self.law {
            for (i, &t) in tokens.iter().enumerate() {
                let log_prob = logprobs.map_or(f32::NAN, |l| l[i]);
                law.observe_drawn(t, log_prob);
                self.logprobs.push(log_prob);
            }
        }
    }

    /// Takes back the last `n` tokens.
    ///
    /// # Errors
    /// `StateMismatch` if fewer were committed after the prompt; nothing changes.
    pub fn rollback(&mut self, n: usize) -> Result<()> {
        self.check_open()?;
        let committed = self.tokens.len() - self.prompt_len;
        if n > committed {
            return Err(Error::state(
                "rollback",
                format!("at least {n} tokens after the prompt"),
                committed.to_string(),
            ));
        }
        if n == 0 {
            return Ok(());
        }
        if let Some(constraint) = &mut self.constraint {
            constraint.rollback(n)?;
        }
        self.tokens.truncate(self.tokens.len() - n);
        for source in &mut self.sources {
            source.rollback(&self.tokens, n);
        }
        if let Some(initial) = &self.initial_law {
            let mut law = initial.fork();
            self.logprobs.truncate(self.tokens.len() - self.prompt_len);
            for (&t, &log_prob) in self.tokens[self.prompt_len..].iter().zip(&self.logprobs) {
                law.observe_drawn(t, log_prob);
            }
            self.law = Some(law);
        }
        Ok(())
    }

    /// Back to the prompt.
    ///
    /// # Errors
    /// `StateMismatch` after `finish`.
    pub fn reset(&mut self) -> Result<()> {
        self.rollback(self.tokens.len() - self.prompt_len)
    }

    /// Makes the committed text equal `tokens` (prompt included): common prefix, roll back, extend.
    ///
    /// # Errors
    /// `InvalidInput` if `tokens` does not begin with the prompt; as [`commit`](Self::commit)
    /// otherwise, and then the text is as before.
    pub fn sync(&mut self, tokens: &[TokenId]) -> Result<()> {
        self.check_open()?;
        ids::check_ids(tokens, self.vocab)?;
        if !tokens.starts_with(&self.tokens[..self.prompt_len]) {
            return Err(Error::input(
                "tokens",
                "do not begin with the prompt of this request; start another one",
            ));
        }
        let shared = tokens.iter().zip(&self.tokens).take_while(|(a, b)| a == b).count();
        let removed = self.tokens[shared..].to_vec();
        self.rollback(removed.len())?;
        if let Err(e) = self.commit(&tokens[shared..]) {
            self.commit(&removed)?;
            return Err(e);
        }
        Ok(())
    }

    /// An independent copy with identity `id`; it keeps seed and branch.
    pub(crate) fn fork_as(&self, id: u64) -> Self {
        Self {
            id,
            tokens: self.tokens.clone(),
            prompt_len: self.prompt_len,
            seed: self.seed,
            branch: self.branch,
            draw: self.draw,
            sources: self.sources.iter().map(|s| s.fork()).collect(),
            constraint: self.constraint.as_ref().map(|c| c.fork()),
            law: self.law.as_ref().map(|l| l.fork()),
            initial_law: self.initial_law.as_ref().map(|l| l.fork()),
            logprobs: self.logprobs.clone(),
            cap: self.cap,
            steering: self.steering.fork(),
            vocab: self.vocab,
            finished: self.finished,
        }
    }

    /// Ends the request; with `keep`, shared stores learn from its text. A second call is harmless.
    pub fn finish(&mut self, keep: bool) {
        if !self.finished && keep {
            for source in &mut self.sources {
                source.finish(&self.tokens, self.prompt_len);
            }
        }
        self.finished = true;
    }
}
