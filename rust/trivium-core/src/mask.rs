//! Packed token masks: the layout shared by vLLM, SGLang, XGrammar and llguidance.
//!
//! Token `t` is bit `t & 31` of word `t >> 5`, least significant bit first; 1 = allowed. Arrays
//! cross the Python border as int32 with the same bits. Bits beyond the vocabulary are written 0
//! and ignored on input.

use crate::ids::TokenId;
use half::{bf16, f16};

/// Words of a row that covers `num_rows` logits.
#[inline]
pub const fn words(num_rows: usize) -> usize {
    num_rows.div_ceil(32)
}

/// Whether `token` is allowed. Tokens beyond the row are not.
#[inline]
pub fn get(row: &[u32], token: TokenId) -> bool {
    row.get(token as usize >> 5).is_some_and(|w| w >> (token & 31) & 1 == 1)
}

/// Allows `token`; ignored beyond the row.
#[inline]
pub fn set(row: &mut [u32], token: TokenId) {
    if let Some(w) = row.get_mut(token as usize >> 5) {
        *w |= 1 << (token & 31);
    }
}

/// Forbids `token`; ignored beyond the row.
#[inline]
pub fn clear(row: &mut [u32], token: TokenId) {
    if let Some(w) = row.get_mut(token as usize >> 5) {
        *w &= !(1 << (token & 31));
    }
}

/// Allows exactly the first `num_rows` tokens.
pub fn fill_ones(row: &mut [u32], num_rows: usize) {
    for (i, w) in row.iter_mut().enumerate() {
        let left = num_rows.saturating_sub(i * 32);
        *w = if left >= 32 { u32::MAX } else { (1u32 << left) - 1 };
    }
}

/// Number of allowed tokens.
pub fn count(row: &[u32]) -> usize {
    row.iter().map(|w| w.count_ones() as usize).sum()
}

/// Allowed tokens, ascending.
pub fn iter(row: &[u32]) -> impl Iterator<Item = TokenId> + '_ {
    row.iter().enumerate().flat_map(|(i, &w)| {
        std::iter::successors((w != 0).then_some(w), |w| {
            let rest = w & (w - 1);
            (rest != 0).then_some(rest)
        })
        .map(move |w| (i as u32) << 5 | w.trailing_zeros())
    })
}

/// A logit that can be set to minus infinity.
pub trait MaskedLogit: Copy {
    /// Minus infinity of the type.
    const NEG_INF: Self;
}

impl MaskedLogit for f32 {
    const NEG_INF: Self = f32::NEG_INFINITY;
}
impl MaskedLogit for f64 {
    const NEG_INF: Self = f64::NEG_INFINITY;
}
impl MaskedLogit for f16 {
    const NEG_INF: Self = f16::NEG_INFINITY;
}
impl MaskedLogit for bf16 {
    const NEG_INF: Self = bf16::NEG_INFINITY;
}

/// Writes minus infinity where the mask forbids; logits beyond the mask are always forbidden.
///
/// One pass over the mask, logits touched only where a bit is 0.
pub fn apply<T: MaskedLogit>(row: &[u32], logits: &mut [T]) {
    let mut chunks = logits.chunks_exact_mut(32);
    let mut words = row.iter();
    for chunk in &mut chunks {
        match words.next() {
            Some(&u32::MAX) => {}
            None | Some(0) => chunk.fill(T::NEG_INF),
            Some(&w) => mask_chunk(w, chunk),
        }
    }
    mask_chunk(words.next().copied().unwrap_or(0), chunks.into_remainder());
}

fn mask_chunk<T: MaskedLogit>(word: u32, chunk: &mut [T]) {
    for (bit, x) in chunk.iter_mut().enumerate() {
        if word >> bit & 1 == 0 {
            *x = T::NEG_INF;
        }
    }
}

/// The slow twin of [`apply`], one token at a time; the kernels are tested against it too.
pub mod naive {
    use super::{MaskedLogit, TokenId, get};

    /// As [`super::apply`].
    pub fn apply<T: MaskedLogit>(row: &[u32], logits: &mut [T]) {
        for (t, x) in logits.iter_mut().enumerate() {
            if !get(row, t as TokenId) {
                *x = T::NEG_INF;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fill_ones_leaves_the_tail_clear() {
        for n in [0, 1, 31, 32, 33, 64, 95] {
            let mut row = vec![7; words(n) + 1];
            fill_ones(&mut row, n);
            assert_eq!(count(&row), n);
            assert_eq!(iter(&row).collect::<Vec<_>>(), (0..n as u32).collect::<Vec<_>>());
        }
    }

    proptest! {
        #[test]
        fn apply_equals_its_twin(
            row in prop::collection::vec(prop_oneof![Just(0), Just(u32::MAX), any::<u32>()], 0..6),
            n in 0usize..200,
        ) {
            let logits: Vec<f32> = (0..n).map(|i| i as f32).collect();
            let (mut a, mut b) = (logits.clone(), logits);
            apply(&row, &mut a);
            naive::apply(&row, &mut b);
            prop_assert_eq!(a, b);
        }
    }
}
