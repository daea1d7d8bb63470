//! Speculative Jacobi windows: the target drafts for itself, all positions at once.
//!
//! ```text
//! window z_1..z_W, z_i drawn from q_i; one pass gives p_i = p(. | x, z_<i)
//! left to right: accept z_i with min(1, p_i / q_i); at the first rejection emit y ~ (p_i - q_i)+
//! every position behind it is drafted again for the next pass, and p_i becomes its q_i
//!   independent: z ~ p_i       coupled: keep z_i with min(1, p_i / q_i), else z ~ (p_i - q_i)+
//!   kept: z_i stays, and so does q_i
//! ```
//!
//! "Accelerating Auto-regressive Text-to-Image Generation with Training-free Speculative Jacobi
//! Decoding" (independent) and "MC-SJD: Maximal Coupling Speculative Jacobi Decoding for
//! Autoregressive Visual Generation Acceleration" (coupled). All three are exact; keeping the token
//! while claiming the new law is not: token and law travel as a pair.
//!
//! [`FrozenWindow`] is our own simplification: under a race with noise fixed by position the next
//! token is a function of its prefix, so plain Jacobi iteration works on sampling, stores no law
//! and emits the plain race's text.
//!
//! Noise: the tests of an iteration, and its drafts, are addressed by the first undecided position
//! and count up (see [`Drafter`](crate::tree::Drafter)): it is decided in this iteration.

use super::row::{self, Row};
use trivium_core::error::{Error, Result};
use trivium_core::{Chance, Purpose, TokenId};

/// What becomes of drafts behind the first rejection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(clippy::manual_non_exhaustive)] // the hidden one is a fault that the oracle plants
pub enum Redraft {
    /// A fresh draw from the fresh law.
    Independent,
    /// The maximal coupling of the old token with the fresh law.
    Coupled,
    /// Token and law stay as they are.
    Kept,
    /// Planted: the token stays and claims the fresh law. Biased; for the oracle alone.
    #[doc(hidden)]
    Claimed,
}

/// A window of drafts and the laws that they were drawn from.
#[derive(Debug, Clone)]
pub struct JacobiWindow {
    vocab: usize,
    redraft: Redraft,
    tokens: Vec<TokenId>,
    laws: Vec<Vec<f32>>,
    work: Vec<f64>,
}

impl JacobiWindow {
    /// An empty window.
    pub fn new(vocab: usize, redraft: Redraft) -> Self {
        Self { vocab, redraft, tokens: Vec::new(), laws: Vec::new(), work: Vec::new() }
    }

    /// The drafts, left to right.
    pub fn tokens(&self) -> &[TokenId] {
        &self.tokens
    }

    /// Appends a position drawn from `q` (weights): the initialiser's law.
    ///
    /// # Errors
    /// `InvalidInput` for a row of another width or without mass.
    pub fn extend(&mut self, q: &[f32], start: u32, chance: &mut dyn Chance) -> Result<()> {
        if q.len() != self.vocab || row::sum(q) <= 0.0 {
            return Err(Error::input("q", "is no law over the vocabulary"));
        }
        let token = draw(&mut self.work, Row::of(q), start, chance);
        self.tokens.push(token);
        self.laws.push(q.to_vec());
        Ok(())
    }

    /// One iteration with the target rows of every position (weights `[window, vocab]`). Returns
    /// the emitted tokens; what is left of the window was drafted again.
    ///
    /// # Errors
    /// `InvalidInput` for rows that do not fit the window.
    pub fn iterate(
        &mut self,
        p: &[f32],
        start: u32,
        chance: &mut dyn Chance,
    ) -> Result<Vec<TokenId>> {
        let len = self.tokens.len();
        if p.len() != len * self.vocab || p.chunks(self.vocab).any(|r| row::sum(r) <= 0.0) {
            return Err(Error::input("p", format!("must be {len} laws of {}", self.vocab)));
        }
        let mut out = Vec::new();
        for i in 0..len {
            let fresh = Row::of(&p[i * self.vocab..(i + 1) * self.vocab]);
            let old = Row::of(&self.laws[i]);
            let z = self.tokens[i];
            if chance.bernoulli(start, Purpose::Accept, fresh.at(z), old.at(z)) {
                out.push(z);
                continue;
            }
            let mass = row::residual(&mut self.work, 1.0, fresh, old);
            // No mass: p = q up to rounding, and the rejection was rounding too.
            out.push(if mass > 0.0 {
                chance.categorical(start, Purpose::Residual, &self.work) as TokenId
            } else {
                z
            });
            break;
        }
        let gone = out.len();
        self.tokens.drain(..gone);
        self.laws.drain(..gone);
        for i in 0..self.tokens.len() {
            let at = (i + gone) * self.vocab;
            self.redraft_at(i, &p[at..at + self.vocab], start, chance);
        }
        Ok(out)
    }

    fn redraft_at(&mut self, i: usize, weights: &[f32], start: u32, chance: &mut dyn Chance) {
        let fresh = Row::of(weights);
        let old = Row::of(&self.laws[i]);
        let z = self.tokens[i];
        match self.redraft {
            Redraft::Kept => return,
            Redraft::Claimed => {}
            Redraft::Independent => {
                self.tokens[i] = draw(&mut self.work, fresh, start, chance);
            }
            Redraft::Coupled => {
                if !chance.bernoulli(start, Purpose::Draft, fresh.at(z), old.at(z))
                    && row::residual(&mut self.work, 1.0, fresh, old) > 0.0
                {
                    self.tokens[i] =
                        chance.categorical(start, Purpose::Draft, &self.work) as TokenId;
                }
            }
        }
        self.laws[i].copy_from_slice(weights);
    }
}

fn draw(work: &mut Vec<f64>, q: Row<'_>, start: u32, chance: &mut dyn Chance) -> TokenId {
    row::widen(work, q);
    chance.categorical(start, Purpose::Draft, work) as TokenId
}

/// A window under frozen race noise: no laws, path-lossless.
#[derive(Debug, Clone, Default)]
pub struct FrozenWindow {
    tokens: Vec<TokenId>,
}

impl FrozenWindow {
    /// A window of first guesses, of any origin.
    pub fn new(guesses: &[TokenId]) -> Self {
        Self { tokens: guesses.to_vec() }
    }

    /// The drafts, left to right.
    pub fn tokens(&self) -> &[TokenId] {
        &self.tokens
    }

    /// Appends a guess.
    pub fn push(&mut self, guess: TokenId) {
        self.tokens.push(guess);
    }

    /// One iteration with the ordinary draw at every position (row `i` given the drafts before
    /// it): emits the prefix that equals the draws and the first draw that differs, keeps the
    /// other draws as guesses.
    ///
    /// # Errors
    /// `InvalidInput` unless there is one draw a position.
    pub fn iterate(&mut self, winners: &[TokenId]) -> Result<Vec<TokenId>> {
        if winners.len() != self.tokens.len() {
            return Err(Error::input(
                "winners",
                format!("{} draws for {} positions", winners.len(), self.tokens.len()),
            ));
        }
        let same = winners.iter().zip(&self.tokens).take_while(|(a, b)| a == b).count();
        let emitted = winners[..winners.len().min(same + 1)].to_vec();
        self.tokens = winners[emitted.len()..].to_vec();
        Ok(emitted)
    }
}
