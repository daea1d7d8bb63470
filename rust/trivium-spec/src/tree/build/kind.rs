//! The builders by name, with the law of their tokens and what they take away.
//!
//! ```text
//!                  law                                pruning    why
//! template         point_mass                         none       shape fixed beforehand
//! ppd              point_mass                         none       shape fixed by the state
//! heap             point_mass                         identity   the best nodes of all stores
//! opt_tree         point_mass                         identity   the best nodes by their own value
//! eagle2           point_mass                         identity   beam, then rerank
//! longspec         point_mass                         identity   the best nodes of each level
//! dyspec_chosen    point_mass                         identity   the best nodes by their own value
//! rasd             point_mass                         identity   retrieved and chosen nodes, cut
//! chain_chosen     point_mass                         shape      the controller's stop
//! chain            iid                                shape      the controller's stop
//! sequoia          without_replacement_then_uniform   none       shape fixed beforehand
//! rsd_c            without_replacement                none       shape fixed beforehand
//! iid_paths        iid                                none       shape fixed beforehand
//! greedy_plus_one  greedy_plus_one                    none       shape fixed beforehand
//! dyspec           without_replacement                shape      a slot is drawn for what is known before
//! rsd_s            without_replacement                shape      arrival times, not identities
//! rasd_drawn       mixed                              shape      only retrieved nodes are cut
//! ```
//!
//! Which verifiers take such trees is [`Verifier::takes`]'s table.

use super::DraftTree;
use crate::tree::{DraftLaw, Origin, Pruning};
use crate::verify::{VERIFIERS, Verifier};
use std::str::FromStr;
use trivium_core::error::{Error, Result};

/// A way to build trees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Builder {
    /// One token after the other, drawn, until a controller stops.
    Chain,
    /// The same with the most likely tokens.
    ChainChosen,
    /// A fixed shape filled with the best candidates of each row.
    Template,
    /// PPD's tree of one state.
    Ppd,
    /// The speculator's own heap over stores.
    Heap,
    /// OPT-Tree's layers.
    OptTree,
    /// EAGLE-2's beam and rerank.
    Eagle2,
    /// LongSpec's level widths.
    LongSpec,
    /// DySpec's heap with the best tokens instead of draws.
    DySpecChosen,
    /// RASD's merge of retrieved nodes into a chosen tree.
    Rasd,
    /// Sequoia's shape, drawn without replacement, uniform behind the support.
    Sequoia,
    /// RSD with constant branching.
    RsdC,
    /// Independent draws in a fixed shape.
    IidPaths,
    /// The most likely tokens and one draw, in a fixed shape.
    GreedyPlusOne,
    /// DySpec's heap of slots, drawn.
    DySpec,
    /// RSD's stochastic beam.
    RsdS,
    /// RASD's merge into a drawn tree.
    RasdDrawn,
}

/// All builders, in the order of the table.
pub const BUILDERS: [Builder; 17] = [
    Builder::ChainChosen,
    Builder::Chain,
    Builder::Template,
    Builder::Ppd,
    Builder::Heap,
    Builder::OptTree,
    Builder::Eagle2,
    Builder::LongSpec,
    Builder::DySpecChosen,
    Builder::Rasd,
    Builder::Sequoia,
    Builder::RsdC,
    Builder::IidPaths,
    Builder::GreedyPlusOne,
    Builder::DySpec,
    Builder::RsdS,
    Builder::RasdDrawn,
];

impl Builder {
    /// The name that Python uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Chain => "chain",
            Self::ChainChosen => "chain_chosen",
            Self::Template => "template",
            Self::Ppd => "ppd",
            Self::Heap => "heap",
            Self::OptTree => "opt_tree",
            Self::Eagle2 => "eagle2",
            Self::LongSpec => "longspec",
            Self::DySpecChosen => "dyspec_chosen",
            Self::Rasd => "rasd",
            Self::Sequoia => "sequoia",
            Self::RsdC => "rsd_c",
            Self::IidPaths => "iid_paths",
            Self::GreedyPlusOne => "greedy_plus_one",
            Self::DySpec => "dyspec",
            Self::RsdS => "rsd_s",
            Self::RasdDrawn => "rasd_drawn",
        }
    }

    /// How its tokens are chosen.
    pub fn law(self) -> DraftLaw {
        match self {
            Self::ChainChosen
            | Self::Template
            | Self::Ppd
            | Self::Heap
            | Self::OptTree
            | Self::Eagle2
            | Self::LongSpec
            | Self::DySpecChosen
            | Self::Rasd => DraftLaw::PointMass,
            Self::Sequoia => DraftLaw::WithoutReplacementThenUniform,
            Self::RsdC | Self::DySpec | Self::RsdS => DraftLaw::WithoutReplacementQ,
            Self::IidPaths | Self::Chain => DraftLaw::IidQ,
            Self::GreedyPlusOne => DraftLaw::GreedyPlusOne,
            Self::RasdDrawn => DraftLaw::Mixed,
        }
    }

    /// What it takes away.
    pub fn pruning(self) -> Pruning {
        match self {
            Self::Template
            | Self::Ppd
            | Self::Sequoia
            | Self::RsdC
            | Self::IidPaths
            | Self::GreedyPlusOne => Pruning::None,
            Self::Heap
            | Self::OptTree
            | Self::Eagle2
            | Self::LongSpec
            | Self::DySpecChosen
            | Self::Rasd => Pruning::Identity,
            Self::Chain | Self::ChainChosen | Self::DySpec | Self::RsdS | Self::RasdDrawn => {
                Pruning::Shape
            }
        }
    }

    /// How a tree of this builder came about.
    pub fn origin(self, tree: &DraftTree) -> Origin<'_> {
        let roles = if self.law() == DraftLaw::Mixed { &tree.roles[..] } else { &[] };
        Origin { law: self.law(), pruning: self.pruning(), roles }
    }

    /// Whether `verifier` decides its trees without bias.
    pub fn suits(self, verifier: Verifier) -> bool {
        verifier.takes(self.law(), self.pruning())
    }

    /// Refuses a verifier that would bias its trees.
    ///
    /// # Errors
    /// `Unsupported` naming the builder and the verifier.
    pub fn check(self, verifier: Verifier) -> Result<()> {
        if self.suits(verifier) {
            return Ok(());
        }
        let legal: Vec<_> =
            VERIFIERS.iter().filter(|v| self.suits(**v)).map(|v| v.name()).collect();
        Err(Error::unsupported(
            format!("builder {:?} with verifier {:?}", self.name(), verifier.name()),
            format!("drafts of law {:?}, pruning {:?}", self.law().name(), self.pruning().name()),
            format!(
                "the text would be biased; verifiers of such trees are auto, law, {}",
                legal.join(", ")
            ),
        ))
    }
}

impl FromStr for Builder {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        BUILDERS.into_iter().find(|b| b.name() == name).ok_or_else(|| {
            let names: Vec<_> = BUILDERS.iter().map(|b| b.name()).collect();
            Error::unsupported(
                format!("tree builder {name:?}"),
                "in trees",
                format!("the builders are {}", names.join(", ")),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_every_builder_has_a_verifier() {
        for b in BUILDERS {
            assert_eq!(b.name().parse::<Builder>().unwrap(), b);
            assert!(b.suits(Verifier::Sampled), "{b:?}: membership never asks");
        }
        assert!("bfs".parse::<Builder>().is_err());
    }

    #[test]
    fn illegal_pairs_name_both() {
        let mut refused = 0;
        for b in BUILDERS {
            for v in VERIFIERS {
                match b.check(v) {
                    Ok(()) => assert!(v.takes(b.law(), b.pruning())),
                    Err(e) => {
                        refused += 1;
                        let text = e.to_string();
                        assert!(matches!(e, Error::Unsupported { .. }));
                        assert!(text.contains(b.name()) && text.contains(v.name()), "{text}");
                    }
                }
            }
        }
        // A tree cut by looking at drawn tokens is refused wherever a ratio test would read it.
        assert!(!Verifier::Recursive.takes(DraftLaw::WithoutReplacementQ, Pruning::Identity));
        assert!(!Verifier::Gbv.takes(Builder::DySpec.law(), Builder::DySpec.pruning()));
        assert!(refused > 80);
    }
}
