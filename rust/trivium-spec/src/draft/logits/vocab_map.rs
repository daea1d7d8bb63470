//! From a draft model's vocabulary to the target's: shared tokens (TLI) and pruned heads (VocabTrim).
//!
//! *Token-level intersection*: tokens of equal bytes are one token. The draft law is restricted to
//! the intersection and renormalised, drawn from and verified on target ids; it is 0 outside.
//! Several draft ids with the same bytes add up; of several target ids the lowest stands for all.
//!
//! *VocabTrim*: the draft's head keeps the rows of the tokens that the target uses most; the law
//! over them, put in its places, is a law over the vocabulary. EAGLE-3's `d2t` table is the same
//! device.
//!
//! Both are lossless under every verifier because the law that is drawn from is the law that is
//! told. "Accelerating LLM Inference with Lossless Speculative Decoding Algorithms for Heterogeneous
//! Vocabularies"; "VOCABTRIM: Vocabulary Pruning for Efficient Speculative Decoding in LLMs".

use rustc_hash::FxHashMap;
use trivium_core::TokenId;
use trivium_core::error::{Error, Result};

/// No counterpart.
const NONE: TokenId = TokenId::MAX;

/// Target id of every draft id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VocabMap {
    to_target: Vec<TokenId>,
    to_draft: Vec<TokenId>,
}

impl VocabMap {
    /// The intersection of two vocabularies by the bytes of their tokens; empty ones (control
    /// tokens, padding) have no counterpart.
    ///
    /// # Errors
    /// `InvalidInput` if nothing is shared.
    pub fn intersection<T: AsRef<[u8]>>(draft: &[T], target: &[T]) -> Result<Self> {
        let mut first: FxHashMap<&[u8], TokenId> = FxHashMap::default();
        for (id, bytes) in target.iter().enumerate().filter(|(_, b)| !b.as_ref().is_empty()) {
            first.entry(bytes.as_ref()).or_insert(id as TokenId);
        }
        let to_target =
            draft.iter().map(|b| first.get(b.as_ref()).copied().unwrap_or(NONE)).collect();
        Self::new(to_target, target.len())
    }

    /// Keeps the `k` most counted target tokens (lower ids on ties) and those of `keep`: row `i` of
    /// the trimmed head is the `i`-th of them in order of id.
    ///
    /// # Errors
    /// `InvalidInput` if nothing is kept or `keep` names no token.
    pub fn trim(counts: &[u64], k: usize, keep: &[TokenId]) -> Result<Self> {
        let vocab = counts.len();
        if let Some(&bad) = keep.iter().find(|&&t| t as usize >= vocab) {
            return Err(Error::input(
                "keep",
                format!("{bad} is outside the vocabulary of {vocab}"),
            ));
        }
        let mut order: Vec<TokenId> = (0..vocab as TokenId).collect();
        order.sort_by_key(|&t| (std::cmp::Reverse(counts[t as usize]), t));
        let mut kept: Vec<TokenId> = order[..k.min(vocab)].iter().chain(keep).copied().collect();
        kept.sort_unstable();
        kept.dedup();
        Self::new(kept, vocab)
    }

    /// From a table: target id of every draft id, `TokenId::MAX` for none.
    ///
    /// # Errors
    /// `InvalidInput` for ids beyond `target_size`, or if nothing is mapped.
    pub fn new(to_target: Vec<TokenId>, target_size: usize) -> Result<Self> {
        let mut to_draft = vec![NONE; target_size];
        for (d, &t) in to_target.iter().enumerate().filter(|(_, t)| **t != NONE) {
            let slot = to_draft.get_mut(t as usize).ok_or_else(|| {
                Error::input("map", format!("{t} is outside the vocabulary of {target_size}"))
            })?;
            if *slot == NONE {
                *slot = d as TokenId;
            }
        }
        if to_draft.iter().all(|&d| d == NONE) {
            return Err(Error::input("map", "the vocabularies share no token"));
        }
        Ok(Self { to_target, to_draft })
    }

    /// Target id of each draft id.
    pub fn to_target(&self) -> &[TokenId] {
        &self.to_target
    }

    /// Draft id of each target id (the lowest).
    pub fn to_draft(&self) -> &[TokenId] {
        &self.to_draft
    }

    /// Target tokens that the draft can say.
    pub fn len(&self) -> usize {
        self.to_draft.iter().filter(|d| **d != NONE).count()
    }

    /// Never true: a map maps something.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The draft law on target ids, normalised: O(both vocabularies).
    ///
    /// # Errors
    /// `InvalidInput` for a row of another width, `StateMismatch` if the shared tokens have no mass.
    pub fn law(&self, q: &[f32]) -> Result<Vec<f32>> {
        if q.len() != self.to_target.len() {
            return Err(Error::input(
                "q",
                format!("{} entries for a draft vocabulary of {}", q.len(), self.to_target.len()),
            ));
        }
        let mut sums = vec![0f64; self.to_draft.len()];
        for (&t, &w) in self.to_target.iter().zip(q).filter(|(t, _)| **t != NONE) {
            sums[t as usize] += f64::from(w);
        }
        let total: f64 = sums.iter().sum();
        if !(total > 0.0 && total.is_finite()) {
            return Err(Error::state("q", "mass on a shared token", total.to_string()));
        }
        Ok(sums.iter().map(|&s| (s / total) as f32).collect())
    }

    /// The draft's text for a target text, up to the first token that it cannot say.
    pub fn draft_text(&self, text: &[TokenId]) -> Vec<TokenId> {
        let id = |&t: &TokenId| self.to_draft.get(t as usize).copied().unwrap_or(NONE);
        text.iter().map(id).take_while(|&d| d != NONE).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_bytes_are_one_token_and_laws_add_up() {
        let draft: [&[u8]; 5] = [b"a", b"\xe2", b" b", b"", b"a"];
        let target: [&[u8]; 4] = [b" b", b"a", b"c", b""];
        let m = VocabMap::intersection(&draft, &target).unwrap();
        assert_eq!(m.to_target(), [1, NONE, 0, NONE, 1]);
        assert_eq!(m.to_draft(), [2, 0, NONE, NONE]);
        assert_eq!(m.len(), 2);
        let q = m.law(&[0.1, 0.4, 0.2, 0.2, 0.1]).unwrap();
        assert_eq!(q, [0.5, 0.5, 0.0, 0.0]);
        assert!(m.law(&[0.0, 0.5, 0.0, 0.5, 0.0]).is_err());
        assert!(m.law(&[1.0]).is_err());
        assert_eq!(m.draft_text(&[1, 0, 2, 1]), [0, 2]);
        assert!(VocabMap::intersection(&[b"x"], &[b"y"]).is_err());
    }

    #[test]
    fn trimming_keeps_the_counted_and_the_named() {
        let m = VocabMap::trim(&[5, 0, 9, 5, 1], 2, &[4]).unwrap();
        assert_eq!(m.to_target(), [0, 2, 4]);
        assert_eq!(m.law(&[0.5, 0.25, 0.25]).unwrap(), [0.5, 0.0, 0.25, 0.0, 0.25]);
        assert!(VocabMap::trim(&[1], 1, &[1]).is_err());
        assert!(VocabMap::trim(&[], 1, &[]).is_err());
        assert!(VocabMap::new(vec![9], 3).is_err());
    }
}
