//! Rejection for continuous tokens: laws with densities instead of rows.
//!
//! ```text
//! accept x ~ q with min(1, p(x) / q(x)); else thin: draw y ~ p, keep it with (1 - q(y) / p(y))+
//! ```
//!
//! "Continuous Speculative Decoding for Autoregressive Image Generation". The thinned draw has the
//! law `(p - q)+ / TV(p, q)` and takes `1 / TV` tries on average. Densities must be normalised and
//! of the law that was really drawn from (the release drops the normalisers, tempers by 42 and
//! returns zeros after 100 tries). Deviation: after `max_tries` the last draw from `p` is returned
//! and [`Thinned::capped`] says so; the law is then off by at most the probability of that.

use trivium_core::{Chance, Purpose};

/// What was emitted for a continuous token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thinned<T> {
    /// The token.
    pub value: T,
    /// Whether it is the draft.
    pub accepted: bool,
    /// Draws from `p` that the residual took.
    pub tries: u32,
    /// Whether the tries ran out: the value is then a plain draw from `p`.
    pub capped: bool,
}

/// The two log-densities at a point, and draws from the target.
pub trait Density {
    /// A continuous token.
    type Token;

    /// Natural logarithms of the target's and the draft's density.
    fn log_densities(&self, x: &Self::Token) -> (f64, f64);

    /// A draw from the target.
    fn draw(&mut self, chance: &mut dyn Chance) -> Self::Token;
}

/// Whether a draft of these log-densities is accepted. A draft of density 0 under `p` never is.
pub fn accept_density(log_p: f64, log_q: f64, index: u32, chance: &mut dyn Chance) -> bool {
    chance.bernoulli(index, Purpose::Accept, (log_p - log_q).min(0.0).exp(), 1.0)
}

/// Verifies one continuous token.
pub fn verify_density<D: Density>(
    draft: D::Token,
    law: &mut D,
    max_tries: u32,
    index: u32,
    chance: &mut dyn Chance,
) -> Thinned<D::Token> {
    let (p, q) = law.log_densities(&draft);
    if accept_density(p, q, index, chance) {
        return Thinned { value: draft, accepted: true, tries: 0, capped: false };
    }
    let mut tries = 1;
    loop {
        let value = law.draw(chance);
        let (p, q) = law.log_densities(&value);
        let keep = -(q - p).min(0.0).exp_m1();
        if chance.bernoulli(index, Purpose::Residual, keep, 1.0) {
            return Thinned { value, accepted: false, tries, capped: false };
        }
        if tries >= max_tries {
            return Thinned { value, accepted: false, tries, capped: true };
        }
        tries += 1;
    }
}
