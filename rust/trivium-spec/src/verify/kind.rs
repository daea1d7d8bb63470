//! Which verifier may decide which drafts: the table of legal pairs.
//!
//! ```text
//!                          sampled race token block multi k_seq recur sequo gr+1 hub trav gbv mixed
//! point_mass                  x     x                                                          x
//! race                        x     x
//! iid                         x     .    c     c     x     x     x     x              x    x    x
//! without_replacement         x     .    c     c                 x     x              x         x
//! ... then uniform            x     .                                  x
//! greedy_plus_one             x     .                                        x
//! spechub                     x     .                                             x
//! mixed                       x     .                                                           x
//! ```
//!
//! `x` legal, `c` legal for trees without siblings (a chain). Point-mass and race drafts bear any
//! pruning, because nothing the verifier does is conditioned on why a token was drafted. Drawn
//! drafts bear [`Pruning::Shape`], except under GBV, whose law of the selected path needs paths of
//! one length; no rejection rule bears [`Pruning::Identity`]. Sampled-verify and the race bear
//! everything: they never ask where a draft came from.
//!
//! A pair outside the table is an `UnsupportedError` naming both when it is asked for, before any
//! row is read.

use crate::tree::{DraftLaw, Pruning};
use std::str::FromStr;
use trivium_core::error::{Error, Result};

/// A lossless verifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verifier {
    /// The ordinary draw of the target decides; path-lossless.
    Sampled,
    /// The ordinary draw by the request's race, which the drafts shared; path-lossless.
    Race,
    /// Token-level rejection on a chain (Leviathan et al., Chen et al.).
    Token,
    /// Block verification of a chain.
    Block,
    /// SpecInfer's multi-round rejection of independent siblings.
    MultiRound,
    /// SpecTr's k-SEQ.
    KSeq,
    /// Recursive rejection of siblings drawn without replacement (RSD).
    Recursive,
    /// The same, uniform once the draft support is exhausted (Sequoia).
    Sequoia,
    /// The most likely tokens and one draw.
    GreedyPlusOne,
    /// SpecHub's sparse transport.
    SpecHub,
    /// Traversal verification, bottom-up.
    Traversal,
    /// Greedy multi-path block verification.
    Gbv,
    /// Chosen and drawn siblings at one node.
    Mixed,
}

/// All verifiers, in the order of the table.
pub const VERIFIERS: [Verifier; 13] = [
    Verifier::Sampled,
    Verifier::Race,
    Verifier::Token,
    Verifier::Block,
    Verifier::MultiRound,
    Verifier::KSeq,
    Verifier::Recursive,
    Verifier::Sequoia,
    Verifier::GreedyPlusOne,
    Verifier::SpecHub,
    Verifier::Traversal,
    Verifier::Gbv,
    Verifier::Mixed,
];

/// How strong a verifier's promise is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Guarantee {
    /// The seeded text is the plain loop's.
    Path,
    /// The text has the law of the plain loop.
    Law,
}

impl Guarantee {
    /// The name that reports use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Law => "law",
        }
    }
}

/// GBV gains where the drafter is mediocre and loses where it is good: against traversal, for two
/// paths and drafters of every quality, the sign of the mean gain changes between 0.87 and 0.92 of
/// the path accepted (enumerated: `the_choice_between_path_rules_gains`).
const MEDIOCRE: f64 = 0.88;

impl Verifier {
    /// The name that Python uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sampled => "sampled",
            Self::Race => "race",
            Self::Token => "token",
            Self::Block => "block",
            Self::MultiRound => "multi_round",
            Self::KSeq => "k_seq",
            Self::Recursive => "recursive",
            Self::Sequoia => "sequoia",
            Self::GreedyPlusOne => "greedy_plus_one",
            Self::SpecHub => "spechub",
            Self::Traversal => "traversal",
            Self::Gbv => "gbv",
            Self::Mixed => "mixed",
        }
    }

    /// What it promises.
    pub fn guarantee(self) -> Guarantee {
        match self {
            Self::Sampled | Self::Race => Guarantee::Path,
            _ => Guarantee::Law,
        }
    }

    /// Whether it reads rows of `q`.
    pub fn needs_q(self) -> bool {
        !matches!(self, Self::Sampled | Self::Race)
    }

    /// Whether it takes trees with siblings.
    pub fn takes_siblings(self) -> bool {
        !matches!(self, Self::Token | Self::Block)
    }

    /// Whether drafts of this law, pruned so, may be verified by this rule.
    pub fn takes(self, law: DraftLaw, pruning: Pruning) -> bool {
        use DraftLaw as L;
        let law_fits = match self {
            Self::Sampled => true,
            // Only with drafts of the same race, or of no randomness, does the race gain anything;
            // drafts drawn from `q` go to sampled-verify, which is the same walk.
            Self::Race => matches!(law, L::Race | L::PointMass),
            Self::Token | Self::Block | Self::Traversal => {
                matches!(law, L::IidQ | L::WithoutReplacementQ)
            }
            Self::MultiRound | Self::KSeq | Self::Gbv => law == L::IidQ,
            Self::Recursive => matches!(law, L::IidQ | L::WithoutReplacementQ),
            Self::Sequoia => {
                matches!(law, L::IidQ | L::WithoutReplacementQ | L::WithoutReplacementThenUniform)
            }
            Self::GreedyPlusOne => law == L::GreedyPlusOne,
            Self::SpecHub => law == L::SpecHub,
            Self::Mixed => {
                matches!(law, L::Mixed | L::PointMass | L::IidQ | L::WithoutReplacementQ)
            }
        };
        let pruning_fits = match pruning {
            Pruning::None => true,
            Pruning::Shape => self != Self::Gbv,
            Pruning::Identity => self.guarantee() == Guarantee::Path || law == L::PointMass,
            Pruning::Arrival => self.guarantee() == Guarantee::Path && law == L::Race,
        };
        law_fits && pruning_fits
    }

    /// Checks [`takes`](Self::takes).
    ///
    /// # Errors
    /// `Unsupported` naming the law, the pruning and the verifier.
    pub fn check(self, law: DraftLaw, pruning: Pruning) -> Result<()> {
        if self.takes(law, pruning) {
            return Ok(());
        }
        let legal: Vec<_> =
            VERIFIERS.iter().filter(|v| v.takes(law, pruning)).map(|v| v.name()).collect();
        Err(Error::unsupported(
            format!("verifier {:?}", self.name()),
            format!("for drafts of law {:?} with pruning {:?}", law.name(), pruning.name()),
            format!("the text would be biased; verifiers of such drafts are {}", legal.join(", ")),
        ))
    }

    /// The rule of `verifier="law"`: the one that accepts most, chosen by the law, the shape and
    /// the past only. `siblings`: whether the tree has any; `paths`: the number of equal-length
    /// paths if it is such a bundle; `acceptance`: drafts accepted a step so far, as a share of the
    /// tree's depth.
    pub fn choose(law: DraftLaw, siblings: bool, paths: Option<usize>, acceptance: f64) -> Self {
        use DraftLaw as L;
        match law {
            L::PointMass => Self::Sampled,
            L::Race => Self::Race,
            L::IidQ | L::WithoutReplacementQ if !siblings => Self::Block,
            L::IidQ if paths.is_some_and(|k| k <= 4) && acceptance < MEDIOCRE => Self::Gbv,
            L::IidQ | L::WithoutReplacementQ => Self::Traversal,
            L::WithoutReplacementThenUniform => Self::Sequoia,
            L::GreedyPlusOne => Self::GreedyPlusOne,
            L::SpecHub => Self::SpecHub,
            L::Mixed => Self::Mixed,
        }
    }
}

impl FromStr for Verifier {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        VERIFIERS.into_iter().find(|v| v.name() == name).ok_or_else(|| {
            let names: Vec<_> = VERIFIERS.iter().map(|v| v.name()).collect();
            Error::unsupported(
                format!("verifier {name:?}"),
                "in Speculator",
                format!("the verifiers are auto, law, {}", names.join(", ")),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{DRAFT_LAWS, PRUNINGS};

    /// The table of the module comment, one row a law, in the order of [`VERIFIERS`].
    const TABLE: [(&str, &str); 8] = [
        ("point_mass", "xx..........x"),
        ("race", "xx..........."),
        ("iid", "x.xxxxxx..xxx"),
        ("without_replacement", "x.xx..xx..x.x"),
        ("without_replacement_then_uniform", "x......x....."),
        ("greedy_plus_one", "x.......x...."),
        ("spechub", "x........x..."),
        ("mixed", "x...........x"),
    ];

    #[test]
    fn every_pair_is_as_the_table_says() {
        let mut legal = 0;
        for (law, row) in DRAFT_LAWS.into_iter().zip(TABLE) {
            assert_eq!(law.name(), row.0);
            for (verifier, mark) in VERIFIERS.into_iter().zip(row.1.chars()) {
                for pruning in PRUNINGS {
                    let path = verifier.guarantee() == Guarantee::Path;
                    let pruned = match pruning {
                        Pruning::None => true,
                        Pruning::Shape => verifier != Verifier::Gbv,
                        Pruning::Identity => path || law == DraftLaw::PointMass,
                        Pruning::Arrival => path && law == DraftLaw::Race,
                    };
                    let want = mark == 'x' && pruned;
                    assert_eq!(
                        verifier.takes(law, pruning),
                        want,
                        "{law:?} {pruning:?} {verifier:?}"
                    );
                    match verifier.check(law, pruning) {
                        Ok(()) => legal += 1,
                        Err(e) => {
                            let text = e.to_string();
                            assert!(matches!(e, Error::Unsupported { .. }));
                            for name in [verifier.name(), law.name(), pruning.name()] {
                                assert!(text.contains(&format!("{name:?}")), "{text}");
                            }
                        }
                    }
                }
            }
        }
        assert!(legal > 50);
    }

    #[test]
    fn the_choice_is_always_legal() {
        for law in DRAFT_LAWS {
            for siblings in [false, true] {
                for paths in [None, Some(1), Some(2), Some(9)] {
                    for acceptance in [0.1, 0.9] {
                        let v = Verifier::choose(law, siblings, paths, acceptance);
                        assert!(v.takes(law, Pruning::None));
                        assert!(!siblings || v.takes_siblings());
                    }
                }
            }
        }
    }

    #[test]
    fn names_round_trip() {
        for v in VERIFIERS {
            assert_eq!(v.name().parse::<Verifier>().unwrap(), v);
        }
        assert!("best".parse::<Verifier>().is_err());
    }
}
