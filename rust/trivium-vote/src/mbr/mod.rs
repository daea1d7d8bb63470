//! Minimum Bayes risk: of several free-form candidates, the one that agrees best with the others.
//!
//! Eikema and Aziz, "Sampling-Based Approximations to Minimum Bayes Risk Decoding for Neural Machine
//! Translation": `argmax_h sum_r w_r u(h, r)` with the candidates themselves as references. Equal
//! texts are one candidate of larger weight, which changes nothing but the cost. `u(h, h)` takes
//! part; ties go to the earliest text.
//!
//! | utility | `u(h, r)` | file |
//! |---|---|---|
//! | `chrf` | character n-grams 1 to 6, sacreBLEU's semantics, 0 to 100 | [`planes`] |
//! | `bleu` | sentence BLEU of 13a tokens, effective order, exponential smoothing | [`planes`] |
//! | `rouge_1`, `rouge_2` | F1 of token n-grams | [`planes`] |
//! | `token_f1` | multiset overlap `2 m / (h + r)` of words | [`planes`] |
//! | `jaccard`, `ucs` | shared words over all words of the pair, of the set | [`planes`] |
//! | `rouge_l` | F1 of the longest common subsequence of words | [`sequence`] |
//! | `edit` | `1 - lev(h, r) / max(h, r)` of characters | [`sequence`] |
//! | `exact` | equality | here |

pub mod planes;
pub mod prune;
pub mod sequence;

use rustc_hash::FxHashMap;
use trivium_core::{Error, Result};

/// Largest number of candidates.
pub const MAX_TEXTS: usize = 16_384;

/// A utility.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Utility {
    /// Equality: the majority.
    Exact,
    /// Edit distance.
    Edit,
    /// Overlap of words.
    TokenF1,
    /// Character n-grams.
    ChrF,
    /// Sentence BLEU.
    Bleu,
    /// F1 of word n-grams of this order.
    Rouge(usize),
    /// Longest common subsequence.
    RougeL,
    /// Shared words over all words of the pair.
    Jaccard,
    /// Shared words over all words of the candidates.
    Ucs,
}

impl Utility {
    /// All utilities with their names.
    pub const ALL: [(&'static str, Self); 10] = [
        ("chrf", Self::ChrF),
        ("bleu", Self::Bleu),
        ("rouge_1", Self::Rouge(1)),
        ("rouge_2", Self::Rouge(2)),
        ("rouge_l", Self::RougeL),
        ("token_f1", Self::TokenF1),
        ("edit", Self::Edit),
        ("jaccard", Self::Jaccard),
        ("ucs", Self::Ucs),
        ("exact", Self::Exact),
    ];

    /// Reads a name.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] listing the names.
    pub fn parse(name: &str) -> Result<Self> {
        let found = Self::ALL.iter().find(|(text, _)| *text == name);
        found.map(|(_, utility)| *utility).ok_or_else(|| {
            crate::spec::unknown("utility", name, &Self::ALL.map(|(text, _)| text), &[])
        })
    }
}

/// Candidates prepared for one utility.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// First index of each distinct text.
    firsts: Vec<usize>,
    /// Distinct text of each text.
    distinct: Vec<usize>,
    weights: Vec<f64>,
    kernel: Kernel,
}

#[derive(Debug, Clone)]
enum Kernel {
    Exact,
    Planes(planes::Planes),
    Sequence(sequence::Texts),
}

impl Prepared {
    /// Prepares texts; `weights` are 1 where empty.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for an empty list and weights that do not fit;
    /// [`Error::LimitExceeded`] beyond [`MAX_TEXTS`].
    pub fn new(texts: &[&str], weights: &[f64], utility: Utility) -> Result<Self> {
        if texts.is_empty() {
            return Err(Error::input("texts", "an empty list has no best text"));
        }
        if texts.len() > MAX_TEXTS {
            let (value, budget) = (texts.len() as u64, MAX_TEXTS as u64);
            return Err(Error::LimitExceeded { limit: "texts", value, budget });
        }
        if !weights.is_empty() && weights.len() != texts.len() {
            let why = format!("{} weights for {} texts", weights.len(), texts.len());
            return Err(Error::input("weights", why));
        }
        if let Some(bad) = weights.iter().find(|w| !w.is_finite() || **w < 0.0) {
            return Err(Error::input("weights", format!("{bad} is not a finite weight from 0 on")));
        }
        let mut known: FxHashMap<&str, usize> = FxHashMap::default();
        let (mut firsts, mut distinct, mut sums) = (Vec::new(), Vec::new(), Vec::new());
        for (i, &text) in texts.iter().enumerate() {
            let id = *known.entry(text).or_insert_with(|| {
                firsts.push(i);
                sums.push(0.0);
                firsts.len() - 1
            });
            sums[id] += weights.get(i).copied().unwrap_or(1.0);
            distinct.push(id);
        }
        let unique: Vec<&str> = firsts.iter().map(|&i| texts[i]).collect();
        let kernel = match utility {
            Utility::Exact => Kernel::Exact,
            Utility::Edit => Kernel::Sequence(sequence::Texts::characters(&unique)),
            Utility::RougeL => Kernel::Sequence(sequence::Texts::words(&unique)),
            _ => Kernel::Planes(planes::Planes::new(&unique, utility)),
        };
        Ok(Self { firsts, distinct, weights: sums, kernel })
    }

    /// Number of distinct texts.
    pub fn num_distinct(&self) -> usize {
        self.firsts.len()
    }

    /// `u(h, r)` and `u(r, h)` of two distinct texts.
    pub fn both(&self, h: usize, r: usize) -> (f64, f64) {
        match &self.kernel {
            Kernel::Exact => (f64::from(u8::from(h == r)), f64::from(u8::from(h == r))),
            Kernel::Planes(planes) => planes.both(h, r),
            Kernel::Sequence(texts) => {
                let u = texts.utility(h, r);
                (u, u)
            }
        }
    }

    /// Weight of a distinct text as a reference.
    pub fn weight(&self, distinct: usize) -> f64 {
        self.weights[distinct]
    }

    /// Mean utility of every text, all pairs: quadratic in the number of distinct texts.
    pub fn scores(&self) -> Vec<f64> {
        let n = self.firsts.len();
        let mut sums = vec![0.0; n];
        for h in 0..n {
            sums[h] += self.weights[h] * self.both(h, h).0;
            for r in h + 1..n {
                let (forth, back) = self.both(h, r);
                sums[h] += self.weights[r] * forth;
                sums[r] += self.weights[h] * back;
            }
        }
        self.spread(&sums)
    }

    /// Mean scores by text from sums by distinct text.
    fn spread(&self, sums: &[f64]) -> Vec<f64> {
        let total: f64 = self.weights.iter().sum();
        let mean = |sum: f64| if total > 0.0 { sum / total } else { 0.0 };
        self.distinct.iter().map(|&d| mean(sums[d])).collect()
    }

    /// The first text of a distinct text.
    pub fn first(&self, distinct: usize) -> usize {
        self.firsts[distinct]
    }
}

/// The index of the best text and all mean scores.
///
/// # Errors
/// Those of [`Prepared::new`].
pub fn mbr(texts: &[&str], weights: &[f64], utility: Utility) -> Result<(usize, Vec<f64>)> {
    let scores = Prepared::new(texts, weights, utility)?.scores();
    let best = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    Ok((scores.iter().position(|&s| s == best).unwrap_or(0), scores))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn edit_elects_the_published_text() {
        let (best, scores) = mbr(&["kitten", "sitting", "mitten"], &[], Utility::Edit).unwrap();
        assert_eq!(best, 0);
        for (score, expected) in scores.iter().zip([0.801_587, 0.714_286, 0.801_587]) {
            assert!((score - expected).abs() < 1e-6);
        }
    }

    #[test]
    fn errors_name_what_is_wrong() {
        assert!(mbr(&[], &[], Utility::ChrF).is_err());
        assert!(mbr(&["a"], &[1.0, 2.0], Utility::ChrF).is_err());
        assert!(mbr(&["a"], &[f64::NAN], Utility::ChrF).is_err());
        assert!(Utility::parse("comet").unwrap_err().to_string().contains("chrf"));
    }

    proptest! {
        #[test]
        fn duplicates_are_weights_and_exact_is_the_majority(
            words in prop::collection::vec("[ab ]{0,4}", 1..12),
        ) {
            let texts: Vec<&str> = words.iter().map(String::as_str).collect();
            for (_, utility) in Utility::ALL {
                let (_, scores) = mbr(&texts, &[], utility).unwrap();
                let twice: Vec<&str> = texts.iter().chain(&texts).copied().collect();
                let (_, again) = mbr(&twice, &[], utility).unwrap();
                for (x, y) in scores.iter().zip(&again) {
                    // `ucs` counts words of the set, which stay the same.
                    prop_assert!((x - y).abs() < 1e-9, "{utility:?} {x} {y}");
                }
            }
            let (best, _) = mbr(&texts, &[], Utility::Exact).unwrap();
            let most = texts.iter().map(|t| texts.iter().filter(|u| *u == t).count()).max();
            prop_assert_eq!(texts.iter().filter(|t| **t == texts[best]).count(), most.unwrap());
        }
    }
}
