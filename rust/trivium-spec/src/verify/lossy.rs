//! Rules that are not lossless: another type, asked for by name, each with its error reported.
//!
//! A [`LossyRule`] decides by properties of the target's row that are not its law, so what it emits
//! has another law than the target. How far: at a node whose candidate `c` is taken for sure, the
//! emitted token's law given the text so far is a point, at total variation `1 - p(c)` from `p`.
//! The sum over accepted tokens bounds the total variation of the whole text (chain rule) and is
//! returned as [`LossyWalk::deviation`]; where nothing is accepted the ordinary draw decides and
//! adds nothing.
//!
//! ```text
//! typical:   p(c) > min(ε, α exp(-H(p)))          longest accepted path, ties by Σ ln p
//! threshold: p(c) >= single, or the children's p up to c sum to acc
//! top_k:     c is among the k most likely
//! distance:  |c - argmax p| <= epsilon, for ids in the order of what they mean (intensities)
//! min_block: the first l tokens of a draft, whatever p says; behind them the most likely
//! confident: q(c) >= alpha, q being the drafter's own law at that place
//! ```
//!
//! No rule takes a token that a constraint or truncation has left without probability. Where the law
//! is a point (temperature 0) its other tokens count as possible for distance, `min_block` and
//! confident: relaxing greedy decoding is what they are for.
//!
//! "Medusa: Simple LLM Inference Acceleration Framework with Multiple Decoding Heads" (typical;
//! ε = 0.3, α = 0.09 as released), serving stacks' acceptance thresholds, "Blockwise Parallel
//! Decoding for Deep Autoregressive Models" (`top_k`, distance, `min_block`), "Decoding at the Speed
//! of Thought: Harnessing Parallel Decoding of Lexical Units for LLMs" (confident: the leading tokens
//! that the model was sure of are a lexical unit). Deviation from Medusa's release: the first token
//! behind the accepted path is drawn, not taken greedily, and the path without nucleus works.
//!
//! Two rules work on more than a token: [`RewardGate`] ("Reward-Guided Speculative Decoding for
//! Efficient LLM Reasoning") accepts a drafted step by its reward, and [`EntropySwitch`] ("Entropy
//! Adaptive Decoding: Dynamic Model Switching for Efficient Inference") hands the text to a smaller
//! model where a rolling mean entropy is low. Both count what they let through.

use super::Walk;
use super::row::{Laws, Row};
use super::walk::Tree;
use std::collections::VecDeque;
use std::str::FromStr;
use trivium_core::error::{Error, Result};
use trivium_core::{Chance, TokenId};

/// A rule that changes the law of the text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum LossyRule {
    /// Medusa's typical acceptance.
    Typical {
        /// Hard threshold.
        epsilon: f64,
        /// Factor of `exp(-H)`.
        alpha: f64,
    },
    /// Acceptance thresholds of serving stacks; both 1 is lossless for no law but a point.
    Threshold {
        /// A child of at least this probability is taken.
        single: f64,
        /// So is the child at which the siblings' probabilities add up to this.
        acc: f64,
    },
    /// Relaxed blockwise decoding: a child among the most likely `k` is taken.
    TopK {
        /// How many.
        k: usize,
    },
    /// Relaxed blockwise decoding for ordinal tokens: a child near the most likely one is taken.
    Distance {
        /// Largest difference of ids.
        epsilon: u32,
    },
    /// Relaxed blockwise decoding: blocks of at least this many tokens are taken.
    MinBlock {
        /// Tokens.
        length: usize,
    },
    /// Lexical units: the tokens that the drafter was sure of; needs `q`.
    Confident {
        /// Smallest draft probability.
        alpha: f64,
    },
}

impl LossyRule {
    /// A rule by name with its numbers in the order of its fields; the released ones where none are
    /// given.
    ///
    /// # Errors
    /// `Unsupported` for an unknown name; `InvalidInput` for numbers that do not fit.
    pub fn named(name: &str, numbers: &[f64]) -> Result<Self> {
        let rule: Self = name.parse()?;
        let bad = |why: &str| Err(Error::input("lossy", format!("{name}{numbers:?}: {why}")));
        let whole = |x: f64, least: f64| {
            if x >= least && x.fract() == 0.0 && x < 4e9 {
                Ok(x)
            } else {
                Err(Error::input(
                    "lossy",
                    format!("{name}: {x} is no whole number from {least} up"),
                ))
            }
        };
        match (rule, numbers) {
            (rule, []) => Ok(rule),
            (Self::Typical { .. }, &[epsilon, alpha]) => {
                if !(0.0..=1.0).contains(&epsilon) || !(0.0..=1.0).contains(&alpha) {
                    return bad("epsilon and alpha are in [0, 1]");
                }
                Ok(Self::Typical { epsilon, alpha })
            }
            (Self::Threshold { .. }, &[single, acc]) => {
                if !(0.0..=1.0).contains(&single) || !(0.0..=1.0).contains(&acc) {
                    return bad("single and acc are in [0, 1]");
                }
                Ok(Self::Threshold { single, acc })
            }
            (Self::TopK { .. }, &[k]) => {
                if !(k >= 1.0 && k.fract() == 0.0 && k < 4e9) {
                    return bad("k is a whole number from 1 up");
                }
                Ok(Self::TopK { k: k as usize })
            }
            (Self::Distance { .. }, &[x]) => Ok(Self::Distance { epsilon: whole(x, 0.0)? as u32 }),
            (Self::MinBlock { .. }, &[x]) => Ok(Self::MinBlock { length: whole(x, 1.0)? as usize }),
            (Self::Confident { .. }, &[alpha]) => {
                if !(0.0..=1.0).contains(&alpha) {
                    return bad("alpha is in [0, 1]");
                }
                Ok(Self::Confident { alpha })
            }
            _ => bad("another number of parameters"),
        }
    }
}

impl FromStr for LossyRule {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "typical" | "medusa_typical" => Ok(Self::Typical { epsilon: 0.3, alpha: 0.09 }),
            "threshold" => Ok(Self::Threshold { single: 0.5, acc: 0.9 }),
            "top_k" | "relaxed" => Ok(Self::TopK { k: 3 }),
            "distance" => Ok(Self::Distance { epsilon: 2 }),
            "min_block" => Ok(Self::MinBlock { length: 2 }),
            "confident" => Ok(Self::Confident { alpha: 0.9 }),
            other => Err(Error::unsupported(
                format!("lossy rule {other:?}"),
                "in verify",
                "the lossy rules are typical, threshold, top_k, distance, min_block, confident",
            )),
        }
    }
}

/// What a lossy rule emitted, and how far from the target's law.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LossyWalk {
    /// Accepted nodes and emitted tokens.
    pub walk: Walk,
    /// Bound on the total variation between the emitted text's law and the target's.
    pub deviation: f64,
}

impl LossyRule {
    /// Whether child `c` at `depth` is taken; `before`: probability of the siblings listed before it,
    /// `sure`: that of `c` under the drafter.
    fn takes(self, p: Row<'_>, c: TokenId, before: f64, depth: usize, sure: f64) -> bool {
        let pc = p.at(c);
        let best = || {
            let w = p.weights();
            (0..w.len()).fold(0, |b, t| if w[t] > w[b] { t } else { b }) as TokenId
        };
        let possible = || pc > 0.0 || p.at(best()) >= 1.0;
        match self {
            Self::Distance { epsilon } => possible() && c.abs_diff(best()) <= epsilon,
            Self::MinBlock { length } => (depth <= length && possible()) || c == best(),
            Self::Confident { alpha } => possible() && sure >= alpha,
            Self::Typical { epsilon, alpha } => {
                let entropy: f64 = (0..p.weights().len() as u32)
                    .map(|t| p.at(t))
                    .filter(|&x| x > 0.0)
                    .map(|x| -x * x.ln())
                    .sum();
                pc > epsilon.min(alpha * (-entropy).exp())
            }
            Self::Threshold { single, acc } => pc > 0.0 && (pc >= single || before + pc >= acc),
            Self::TopK { k } => {
                let better = p.weights().iter().filter(|w| **w > p.weights()[c as usize]).count();
                pc > 0.0 && better < k
            }
        }
    }

    /// Walks a tree. Reads the rows of every accepted node.
    ///
    /// # Errors
    /// As the rows' own.
    pub fn verify(
        self,
        tree: &Tree<'_>,
        laws: &mut dyn Laws,
        chance: &mut dyn Chance,
    ) -> Result<LossyWalk> {
        // Best accepted path: the deepest, then the most likely.
        let n = tree.tokens.len();
        let mut paths: Vec<Option<(Vec<usize>, f64, f64)>> = vec![None; n];
        paths[0] = Some((Vec::new(), 0.0, 0.0));
        let mut best = 0;
        for node in 0..n {
            let Some((nodes, sum, lost)) = paths[node].clone() else { continue };
            let key = |i: usize, paths: &[Option<(Vec<usize>, f64, f64)>]| {
                paths[i].as_ref().map_or((0, 0.0), |p| (p.0.len(), p.1))
            };
            let (a, b) = (key(node, &paths), key(best, &paths));
            if a.0 > b.0 || (a.0 == b.0 && a.1 > b.1) {
                best = node;
            }
            let children: Vec<usize> =
                (node + 1..n).filter(|&c| tree.parents[c] as usize == node).collect();
            if children.is_empty() {
                continue;
            }
            let path: Vec<TokenId> = nodes.iter().map(|&i| tree.tokens[i]).collect();
            let (p, q) = if matches!(self, Self::Confident { .. }) {
                let (p, q) = laws.both(node, &path)?;
                (p, Some(q))
            } else {
                (laws.p(node, &path)?, None)
            };
            let mut before = 0.0;
            for c in children {
                let token = tree.tokens[c];
                let sure = q.map_or(1.0, |q| q.at(token));
                if self.takes(p, token, before, nodes.len() + 1, sure) {
                    let pc = p.at(token);
                    let next = [&nodes[..], &[c]].concat();
                    paths[c] = Some((next, sum + pc.ln(), lost + 1.0 - pc));
                }
                before += p.at(token);
            }
        }
        let Some((nodes, _, deviation)) = paths.swap_remove(best) else {
            return Ok(LossyWalk::default());
        };
        let mut walk = Walk::default();
        for (i, &node) in nodes.iter().enumerate() {
            let parent = if i == 0 { 0 } else { nodes[i - 1] };
            let log_prob = laws.p(parent, &walk.tokens)?.log(tree.tokens[node]);
            walk.tokens.push(tree.tokens[node]);
            walk.logprobs.push(log_prob);
        }
        walk.nodes = nodes;
        if tree.bonus {
            let index = tree.start + walk.tokens.len() as u32;
            let (token, lp) = laws.target(best, &walk.tokens, index, chance)?;
            walk.tokens.push(token);
            walk.logprobs.push(lp);
        }
        Ok(LossyWalk { walk, deviation: deviation.min(1.0) })
    }
}

/// Steps of text accepted by a reward model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RewardGate {
    /// Smallest reward of an accepted step.
    pub delta: f64,
    accepted: u64,
    seen: u64,
}

impl RewardGate {
    /// Accepts steps of reward at least `delta` (0.7 as released).
    pub fn new(delta: f64) -> Self {
        Self { delta, accepted: 0, seen: 0 }
    }

    /// Whether the drafted step stays; otherwise the target writes it.
    pub fn accept(&mut self, reward: f64) -> bool {
        let yes = reward >= self.delta;
        self.seen += 1;
        self.accepted += u64::from(yes);
        yes
    }

    /// Share of steps that the draft model wrote: bounds the total variation of a step's law.
    pub fn deviation(&self) -> f64 {
        if self.seen == 0 { 0.0 } else { self.accepted as f64 / self.seen as f64 }
    }
}

/// Switching between two models by rolling entropy.
#[derive(Debug, Clone, PartialEq)]
pub struct EntropySwitch {
    window: VecDeque<f64>,
    len: usize,
    low: f64,
    high: f64,
    small: bool,
    by_small: u64,
    seen: u64,
}

impl EntropySwitch {
    /// Mean entropy in nats over `len` tokens: below `low` the small model writes, above `high` the
    /// large one, in between nothing changes.
    ///
    /// # Errors
    /// `InvalidInput` for an empty window or `low > high`.
    pub fn new(len: usize, low: f64, high: f64) -> Result<Self> {
        if len == 0 || low.is_nan() || high.is_nan() || low > high {
            return Err(Error::input("entropy", format!("window {len}, low {low}, high {high}")));
        }
        let window = VecDeque::with_capacity(len);
        Ok(Self { window, len, low, high, small: false, by_small: 0, seen: 0 })
    }

    /// Counts the entropy of the row that the last token came from; true if the small model writes
    /// the next one.
    pub fn observe(&mut self, entropy: f64) -> bool {
        self.seen += 1;
        self.by_small += u64::from(self.small);
        if self.window.len() == self.len {
            self.window.pop_front();
        }
        self.window.push_back(entropy);
        if self.window.len() == self.len {
            let mean = self.window.iter().sum::<f64>() / self.len as f64;
            if mean < self.low {
                self.small = true;
            } else if mean > self.high {
                self.small = false;
            }
        }
        self.small
    }

    /// Share of tokens that the small model wrote: bounds the mean total variation of a token.
    pub fn deviation(&self) -> f64 {
        if self.seen == 0 { 0.0 } else { self.by_small as f64 / self.seen as f64 }
    }
}
