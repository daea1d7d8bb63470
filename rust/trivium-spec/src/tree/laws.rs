//! How drafted tokens were chosen, and the one code path that chooses them.
//!
//! A verifier of sampled drafts is exact only against the law that the tokens were really drawn
//! from: truncation, removal of earlier siblings and what happens when the support runs out are
//! part of it. Sources that own a draft row draw here, and so does the oracle when it enumerates.
//!
//! Noise: all draws of one step use the address of the step's first undecided position, counting
//! up. Noise addressed by the drafted token's own position would be read again by the next step
//! when a path-level verifier (block, traversal, GBV) looked beyond the tokens it emitted, and
//! that look conditions it.

use crate::verify::Row;
use std::str::FromStr;
use trivium_core::error::{Error, Result};
use trivium_core::{Address, Chance, Purpose, TokenId, numerics};

/// How drafted tokens were chosen. A verifier states which laws it accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DraftLaw {
    /// Chosen without randomness that the verifier shares: stores, top-k lists.
    PointMass,
    /// Siblings are independent draws from the parent's row of `q`; repeated draws are repeated
    /// nodes, in draw order.
    IidQ,
    /// Siblings drawn from `q` one after the other, each removed and the rest renormalised; no
    /// more once the support is exhausted. Node order is draw order.
    WithoutReplacementQ,
    /// As without replacement; once the support is exhausted, uniformly over the unseen tokens.
    WithoutReplacementThenUniform,
    /// The most likely tokens of `q`, then (last sibling) one draw from the rest.
    GreedyPlusOne,
    /// A draw and the most likely token, in the order `(draw, top)`, or `(top, draw of the rest)`
    /// when the first draw was the top: the sparse pair of SpecHub.
    SpecHub,
    /// First arrivals of the request's own race noise.
    Race,
    /// Each node says whether it was [`Role::Chosen`] or [`Role::Drawn`]; drawn siblings come
    /// from the row of `q` without replacement (independent draws merged at their first
    /// appearance follow the same rule).
    Mixed,
}

/// All laws, in the order of the table of legal pairs.
pub const DRAFT_LAWS: [DraftLaw; 8] = [
    DraftLaw::PointMass,
    DraftLaw::Race,
    DraftLaw::IidQ,
    DraftLaw::WithoutReplacementQ,
    DraftLaw::WithoutReplacementThenUniform,
    DraftLaw::GreedyPlusOne,
    DraftLaw::SpecHub,
    DraftLaw::Mixed,
];

impl DraftLaw {
    /// The name that Python uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::PointMass => "point_mass",
            Self::IidQ => "iid",
            Self::WithoutReplacementQ => "without_replacement",
            Self::WithoutReplacementThenUniform => "without_replacement_then_uniform",
            Self::GreedyPlusOne => "greedy_plus_one",
            Self::SpecHub => "spechub",
            Self::Race => "race",
            Self::Mixed => "mixed",
        }
    }

    /// Whether some tokens were drawn with randomness that a ratio test must know the law of.
    pub fn is_sampled(self) -> bool {
        !matches!(self, Self::PointMass | Self::Race)
    }
}

impl FromStr for DraftLaw {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        DRAFT_LAWS.into_iter().find(|l| l.name() == name).ok_or_else(|| {
            let names: Vec<_> = DRAFT_LAWS.iter().map(|l| l.name()).collect();
            Error::unsupported(
                format!("draft law {name:?}"),
                "in a tree",
                format!("the laws are {}", names.join(", ")),
            )
        })
    }
}

/// How one node of a [`DraftLaw::Mixed`] tree was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Without randomness.
    Chosen,
    /// Drawn from the row of `q`.
    Drawn,
}

/// What was taken away from a drafted tree before it is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Pruning {
    /// Nothing; the shape was fixed.
    #[default]
    None,
    /// Whether a token is drawn depends on rows of `q`, history and tokens already drawn, never on
    /// the token itself: stop before drawing, or stop after *including* the token.
    Shape,
    /// Drawn tokens were dropped by looking at them: by probability, by score, by a budget of the
    /// best.
    Identity,
    /// The latest arrivals of a race were dropped.
    Arrival,
}

/// All prunings, in the order of the table of legal pairs.
pub const PRUNINGS: [Pruning; 4] =
    [Pruning::None, Pruning::Shape, Pruning::Identity, Pruning::Arrival];

impl Pruning {
    /// The name that Python uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Shape => "shape",
            Self::Identity => "identity",
            Self::Arrival => "arrival",
        }
    }
}

impl FromStr for Pruning {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        PRUNINGS.into_iter().find(|p| p.name() == name).ok_or_else(|| {
            Error::unsupported(
                format!("pruning {name:?}"),
                "in a tree",
                "the prunings are none, shape, identity, arrival",
            )
        })
    }
}

/// Buffers of [`Drafter`]; reused from node to node.
#[derive(Debug, Default)]
struct Buffers {
    q: Vec<f64>,
    top: Vec<TokenId>,
}

/// Draws children by a law.
#[derive(Debug, Default)]
pub struct Drafter {
    buffers: Buffers,
}

impl Drafter {
    /// An empty drafter.
    pub fn new() -> Self {
        Self::default()
    }

    /// The children of one node: at most `n` tokens from the row `q`, appended to `out` in draw
    /// order. `start` is the absolute index of the step's first undecided token, whatever the
    /// depth of the node. [`DraftLaw::Mixed`] takes half of `n` (rounded down) as the most likely
    /// tokens and draws the rest from `q`; a token that is both stands where it was drawn.
    ///
    /// # Errors
    /// `InvalidInput` for [`DraftLaw::Race`], which draws from scaled logits:
    /// [`race_arrivals`].
    pub fn children(
        &mut self,
        law: DraftLaw,
        n: usize,
        q: Row<'_>,
        start: u32,
        chance: &mut dyn Chance,
        out: &mut Vec<(TokenId, Role)>,
    ) -> Result<()> {
        let Buffers { q: work, top } = &mut self.buffers;
        work.clear();
        work.extend(q.weights().iter().map(|&w| f64::from(w)));
        let mut draw = |work: &mut [f64], remove: bool| {
            let any = work.iter().any(|&w| w > 0.0);
            any.then(|| {
                let t = chance.categorical(start, Purpose::Draft, work);
                if remove {
                    work[t] = 0.0;
                }
                t as TokenId
            })
        };
        match law {
            DraftLaw::Race => {
                return Err(Error::input("law", "race drafts are arrivals over scaled logits"));
            }
            DraftLaw::PointMass => {
                most_likely(q.weights(), n, top);
                out.extend(top.iter().map(|&t| (t, Role::Chosen)));
            }
            DraftLaw::IidQ => {
                for _ in 0..n {
                    out.extend(draw(work, false).map(|t| (t, Role::Drawn)));
                }
            }
            DraftLaw::WithoutReplacementQ => {
                for _ in 0..n {
                    out.extend(draw(work, true).map(|t| (t, Role::Drawn)));
                }
            }
            DraftLaw::WithoutReplacementThenUniform => {
                let first = out.len();
                for _ in 0..n {
                    if !work.iter().any(|&w| w > 0.0) {
                        for (t, w) in work.iter_mut().enumerate() {
                            let seen = out[first..].iter().any(|o| o.0 as usize == t);
                            *w = if seen { 0.0 } else { 1.0 };
                        }
                    }
                    out.extend(draw(work, true).map(|t| (t, Role::Drawn)));
                }
            }
            DraftLaw::Mixed => {
                let first = out.len();
                most_likely(q.weights(), n / 2, top);
                out.extend(top.iter().map(|&t| (t, Role::Chosen)));
                for _ in n / 2..n {
                    if let Some(t) = draw(work, true) {
                        if let Some(at) = out[first..].iter().position(|o| o.0 == t) {
                            out.remove(first + at);
                        }
                        out.push((t, Role::Drawn));
                    }
                }
            }
            DraftLaw::GreedyPlusOne => {
                let chosen = n.saturating_sub(1);
                most_likely(q.weights(), chosen, top);
                for &t in top.iter() {
                    work[t as usize] = 0.0;
                    out.push((t, Role::Chosen));
                }
                for _ in chosen..n {
                    out.extend(draw(work, true).map(|t| (t, Role::Drawn)));
                }
            }
            DraftLaw::SpecHub => {
                most_likely(q.weights(), 1, top);
                let Some(&a) = top.first() else { return Ok(()) };
                let Some(first) = draw(work, false) else { return Ok(()) };
                out.push((first, Role::Drawn));
                if first == a {
                    work[a as usize] = 0.0;
                    out.extend(draw(work, false).map(|t| (t, Role::Drawn)));
                } else {
                    out.push((a, Role::Drawn));
                }
                out.truncate(out.len().min(n.max(2)));
            }
        }
        Ok(())
    }
}

/// The `n` largest positive weights, best first, lowest id on ties.
pub(crate) fn most_likely(weights: &[f32], n: usize, out: &mut Vec<TokenId>) {
    numerics::top_k(weights, n, out);
    out.retain(|&t| weights[t as usize] > 0.0);
}

/// The first `n` arrivals of the race at `address` over scaled logits (`-inf`: does not run), in
/// order of arrival. The first one is [`ScaledRow::draw_race`](trivium_core::ScaledRow::draw_race)
/// bit for bit.
pub fn race_arrivals(scaled: &[f32], address: Address, n: usize, out: &mut Vec<TokenId>) {
    out.clear();
    if n == 0 {
        return;
    }
    let mut keys: Vec<f32> = Vec::with_capacity(n + 1);
    for (block, chunk) in scaled.chunks(4).enumerate() {
        let floor = if keys.len() == n { keys[n - 1] } else { f32::NEG_INFINITY };
        let best = chunk.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        // The noise is at most 22.88: skip blocks that cannot arrive in time.
        if best == f32::NEG_INFINITY || best + 22.9 < floor {
            continue;
        }
        let words = address.block(Purpose::Race, block as u32);
        for (lane, (&x, &w)) in chunk.iter().zip(&words).enumerate() {
            let key = x + numerics::gumbel(w);
            if x == f32::NEG_INFINITY || (keys.len() == n && key <= keys[n - 1]) {
                continue;
            }
            // An equal later key stays behind.
            let at = keys.partition_point(|&k| k >= key);
            keys.insert(at, key);
            out.insert(at, (block * 4 + lane) as TokenId);
            keys.truncate(n);
            out.truncate(n);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use trivium_core::{Keyed, ScaledRow};

    #[test]
    fn names_round_trip() {
        for law in DRAFT_LAWS {
            assert_eq!(law.name().parse::<DraftLaw>().unwrap(), law);
        }
        for p in PRUNINGS {
            assert_eq!(p.name().parse::<Pruning>().unwrap(), p);
        }
        assert!("softmax".parse::<DraftLaw>().is_err());
    }

    #[test]
    fn exhausted_supports_stop_or_go_uniform() {
        let q = [0.0, 0.5, 0.5, 0.0];
        let mut d = Drafter::new();
        for seed in 0..50 {
            let mut out = Vec::new();
            let mut c = Keyed::new(seed, 0);
            d.children(DraftLaw::WithoutReplacementQ, 4, Row::of(&q), 0, &mut c, &mut out).unwrap();
            assert_eq!(out.len(), 2);
            out.clear();
            let law = DraftLaw::WithoutReplacementThenUniform;
            d.children(law, 4, Row::of(&q), 0, &mut c, &mut out).unwrap();
            let mut tokens: Vec<_> = out.iter().map(|o| o.0).collect();
            assert!(tokens[..2].iter().all(|t| [1, 2].contains(t)));
            tokens.sort_unstable();
            assert_eq!(tokens, [0, 1, 2, 3]);
        }
    }

    proptest! {
        #[test]
        fn arrivals_are_the_race(
            logits in prop::collection::vec(
                prop_oneof![8 => -8f32..8.0, 1 => Just(f32::NEG_INFINITY), 1 => Just(0.0)], 1..90),
            seed: u64, index: u32, n in 1usize..9,
        ) {
            prop_assume!(logits.iter().any(|x| x.is_finite()));
            let address = Address::new(seed, index, 0);
            let mut row = ScaledRow::new();
            row.load((&logits[..]).into(), None, 1.0).unwrap();
            let mut got = Vec::new();
            race_arrivals(row.scaled(), address, n, &mut got);
            prop_assert_eq!(got[0], row.draw_race(address));
            let key = |t: u32| logits[t as usize] + numerics::gumbel(address.race_word(t));
            let mut want: Vec<u32> =
                (0..logits.len() as u32).filter(|&t| logits[t as usize].is_finite()).collect();
            want.sort_by(|&a, &b| key(b).total_cmp(&key(a)).then(a.cmp(&b)));
            want.truncate(n);
            prop_assert_eq!(got, want);
        }
    }
}
