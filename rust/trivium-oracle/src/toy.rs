//! Target models small enough to enumerate: a row of logits for every prefix.

use trivium_core::TokenId;
use trivium_core::rng::philox;

/// Shapes of rows, from easy to adversarial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Logits spread over a few nats.
    Peaked,
    /// All tokens equal.
    Flat,
    /// Zeros (`-inf` logits) among the rest, never all.
    Holes,
    /// One token has all the mass.
    OneHot,
    /// Ties between tokens.
    Tied,
    /// Probabilities down to the denormals of f32.
    Tiny,
}

/// All shapes.
pub const SHAPES: [Shape; 6] =
    [Shape::Peaked, Shape::Flat, Shape::Holes, Shape::OneHot, Shape::Tied, Shape::Tiny];

/// A table model: its row is a hash of the whole prefix, so nothing about it can be guessed.
#[derive(Debug, Clone, Copy)]
pub struct ToyModel {
    /// Vocabulary size.
    pub vocab: usize,
    /// Identity.
    pub seed: u32,
    /// What rows look like.
    pub shape: Shape,
}

impl ToyModel {
    /// Logits after `prefix`: O(prefix + vocab).
    pub fn logits(&self, prefix: &[TokenId]) -> Vec<f32> {
        let key = prefix.iter().fold([self.seed, 0x5bd1_e995], |key, &t| {
            let [a, b, ..] = philox([t, 1, 2, 3], key);
            [a, b]
        });
        let noise = |v: usize| philox([v as u32, 7, 7, 7], key)[0];
        let unit = |v: usize| f64::from(noise(v)) as f32 / u32::MAX as f32;
        let chosen = noise(self.vocab) as usize % self.vocab;
        (0..self.vocab)
            .map(|v| match self.shape {
                Shape::Peaked => 6.0 * unit(v),
                Shape::Flat => 0.0,
                Shape::Holes if v != chosen && noise(v) % 2 == 0 => f32::NEG_INFINITY,
                Shape::Holes => 2.0 * unit(v),
                Shape::OneHot if v == chosen => 3.0,
                Shape::OneHot => f32::NEG_INFINITY,
                Shape::Tied => f32::from(noise(v) as u8 % 2),
                Shape::Tiny if v == chosen => 0.0,
                Shape::Tiny => -80.0 - 20.0 * unit(v),
            })
            .collect()
    }
}
