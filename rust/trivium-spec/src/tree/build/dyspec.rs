//! DySpec: the slot most likely to be reached is filled next.
//!
//! ```text
//! slot (v, R, w): the next child of v comes from the rest R of q_v; w = estimated probability that
//!                 this slot decides
//! pop the largest w; y ~ R; push (y, q_y, w R(y)) and (v, R without y, w (1 - R(y)))
//! ```
//!
//! "DySpec: Faster Speculative Decoding with Dynamic Token Tree Structure". Whether a slot is filled
//! depends on `w`, which is known before its token is drawn: [`Pruning::Shape`], and siblings are
//! draws without replacement in draw order, so recursive rejection is exact. In the chosen form
//! `y = argmax R` and slots are ordered by the value `w R(y)` of the node they would add, which
//! gives OPT-Tree's set. With `threshold > 0` the layered form asks for all rows it needs at once:
//! every slot of at least the threshold is filled, and the number of drafter passes is the depth.
//! What would break it: dropping a drawn child, or cutting the drawn tree by value.
//!
//! [`Pruning::Shape`]: crate::tree::Pruning::Shape

use super::{Builder, DraftTree, TreeBuilder, budget, sums};
use crate::tree::Role;
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use trivium_core::error::{Error, Result};
use trivium_core::{Chance, Purpose, TokenId};

#[derive(Debug, PartialEq)]
struct Slot {
    /// What the heap orders by.
    key: f64,
    /// Probability that the slot decides.
    w: f64,
    node: usize,
    /// Siblings already there.
    before: usize,
}

impl Eq for Slot {}

impl Ord for Slot {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key
            .total_cmp(&other.key)
            .then_with(|| (other.node, other.before).cmp(&(self.node, self.before)))
    }
}

impl PartialOrd for Slot {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Budgets of [`DySpec`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DySpecOptions {
    /// Nodes, node 0 counted.
    pub max_nodes: usize,
    /// Drafted levels.
    pub max_depth: usize,
    /// Slots below are not filled; 0 fills to the budget, one row at a time.
    pub threshold: f64,
    /// Draw tokens (true) or take the most likely (false).
    pub drawn: bool,
}

/// The builder.
#[derive(Debug)]
pub struct DySpec {
    options: DySpecOptions,
    vocab: usize,
    start: u32,
    tree: DraftTree,
    heap: BinaryHeap<Slot>,
    /// Remaining weights of each node's row, where it is known, and their sum.
    rest: Vec<Option<(Vec<f64>, f64)>>,
    frontier: Vec<usize>,
    pushed: usize,
}

impl DySpec {
    /// A builder below the last committed token; `start` is the absolute index of the first
    /// undecided token.
    ///
    /// # Errors
    /// `InvalidInput` for budgets out of range or a threshold outside [0, 1).
    pub fn new(last: TokenId, vocab: usize, start: u32, options: DySpecOptions) -> Result<Self> {
        budget("max_nodes", options.max_nodes, 1)?;
        if !(0.0..1.0).contains(&options.threshold) {
            return Err(Error::input(
                "threshold",
                format!("{} is outside [0, 1)", options.threshold),
            ));
        }
        let mut this = Self {
            options,
            vocab,
            start,
            tree: DraftTree::root(last),
            heap: BinaryHeap::new(),
            rest: vec![None],
            frontier: Vec::new(),
            pushed: 0,
        };
        if options.max_nodes > 1 && options.max_depth > 0 {
            this.heap.push(Slot { key: 1.0, w: 1.0, node: 0, before: 0 });
            this.frontier = vec![0];
        }
        Ok(this)
    }

    /// The slot behind `before` children of a node whose row is known.
    fn open(&mut self, node: usize, before: usize, w: f64) {
        let key = match &self.rest[node] {
            Some((_, total)) if *total <= 0.0 => return,
            Some((rest, total)) if !self.options.drawn => {
                w * rest.iter().copied().fold(0.0, f64::max) / total
            }
            _ => w,
        };
        if w > 0.0 {
            self.heap.push(Slot { key, w, node, before });
        }
    }

    /// Fills slots until a row is missing or the budget is spent.
    fn fill(&mut self, chance: &mut dyn Chance) {
        let layered = self.options.threshold > 0.0;
        let mut waiting = Vec::new();
        self.frontier.clear();
        while self.tree.len() < self.options.max_nodes {
            let Some(slot) = self.heap.pop() else { break };
            if slot.key < self.options.threshold {
                self.heap.clear();
                break;
            }
            let Some((rest, total)) = &mut self.rest[slot.node] else {
                self.frontier.push(slot.node);
                waiting.push(slot);
                if layered {
                    continue;
                }
                break;
            };
            let token = if self.options.drawn {
                chance.categorical(self.start, Purpose::Draft, rest)
            } else {
                // The lowest id on ties, as everywhere.
                (0..rest.len()).fold(0, |best, t| if rest[t] > rest[best] { t } else { best })
            };
            let share = rest[token] / *total;
            rest[token] = 0.0;
            // Summed anew: a difference of rounded sums would not vanish with the last token.
            *total = rest.iter().sum();
            let role = if self.options.drawn { Role::Drawn } else { Role::Chosen };
            let (node, w) = (slot.node, slot.w);
            let child = self.tree.add(node, token as TokenId, w * share, role);
            self.rest.push(None);
            if usize::from(self.tree.depths[child]) < self.options.max_depth {
                self.open(child, 0, w * share);
            }
            self.open(node, slot.before + 1, w * (1.0 - share));
        }
        if self.tree.len() >= self.options.max_nodes {
            self.frontier.clear();
        }
        self.frontier.sort_unstable();
        self.heap.extend(waiting);
    }
}

impl TreeBuilder for DySpec {
    fn kind(&self) -> Builder {
        if self.options.drawn { Builder::DySpec } else { Builder::DySpecChosen }
    }

    fn frontier(&self) -> &[usize] {
        &self.frontier
    }

    fn tree(&self) -> &DraftTree {
        &self.tree
    }

    fn push(&mut self, rows: &[f32], chance: &mut dyn Chance) -> Result<()> {
        let sums = sums(rows, self.frontier.len(), self.vocab)?;
        for (i, &node) in self.frontier.iter().enumerate() {
            let row = &rows[i * self.vocab..(i + 1) * self.vocab];
            self.tree.rows[node] = (self.pushed + i) as i32;
            let rest: Vec<f64> = row.iter().map(|&w| f64::from(w) / sums[i]).collect();
            let total = rest.iter().sum();
            self.rest[node] = Some((rest, total));
        }
        self.pushed += sums.len();
        // A slot that waited was ordered by w; in the chosen form its node is known now.
        for slot in std::mem::take(&mut self.heap) {
            self.open(slot.node, slot.before, slot.w);
        }
        self.fill(chance);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::beam::tests::{all_paths, paths, run, toy};
    use super::*;
    use crate::verify::Row;
    use proptest::prelude::*;

    fn options(max_nodes: usize, threshold: f64, drawn: bool) -> DySpecOptions {
        DySpecOptions { max_nodes, max_depth: 3, threshold, drawn }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        /// The chosen form is the best set of nodes, by brute force over all paths.
        #[test]
        fn chosen_slots_give_the_best_nodes(seed: u32, n in 1usize..12) {
            let mut b = DySpec::new(0, 3, 0, options(n, 0.0, false)).unwrap();
            let got = run(&mut b, seed, 3);
            let mut want: Vec<_> =
                all_paths(seed, 3, 3).into_iter().take(n).map(|p| p.1).collect();
            want.sort();
            prop_assert_eq!(paths(&got), want);
        }

        /// A slow replay of the drawn tree: every filled slot was the largest one open.
        #[test]
        fn drawn_slots_are_filled_in_order(seed: u32, n in 2usize..10) {
            let mut b = DySpec::new(0, 4, 0, options(n, 0.0, true)).unwrap();
            let got = run(&mut b, seed, 4);
            prop_assert_eq!(got.len(), n);
            // Open slots: (w, node, tokens taken).
            let mut open: Vec<(f64, usize, Vec<u32>)> = vec![(1.0, 0, vec![])];
            for child in 1..n {
                let best = open.iter().map(|s| s.0).fold(0.0, f64::max);
                let parent = got.parents[child] as usize;
                let at = open.iter().position(|s| s.1 == parent).unwrap();
                let (w, _, mut taken) = open.remove(at);
                prop_assert!((w - best).abs() < 1e-12);
                let row = toy(seed, 4, &got.path(parent));
                let q = Row::of(&row);
                let rest: f64 = (0..4).filter(|t| !taken.contains(t)).map(|t| q.at(t)).sum();
                let share = q.at(got.tokens[child]) / rest;
                prop_assert!(!taken.contains(&got.tokens[child]));
                taken.push(got.tokens[child]);
                if taken.len() < 4 {
                    open.push((w * (1.0 - share), parent, taken));
                }
                if got.depths[child] < 3 {
                    open.push((w * share, child, vec![]));
                }
            }
        }

        /// The layered form fills every slot above the threshold in as many passes as levels.
        #[test]
        fn layers_ask_once_a_level(seed: u32, threshold in 0.05f64..0.5) {
            let mut b = DySpec::new(0, 4, 0, options(4000, threshold, false)).unwrap();
            let mut chance = trivium_core::Keyed::new(1, 0);
            let mut passes = 0;
            while !b.frontier().is_empty() {
                let rows: Vec<f32> =
                    b.frontier().iter().flat_map(|&n| toy(seed, 4, &b.tree().path(n))).collect();
                b.push(&rows, &mut chance).unwrap();
                passes += 1;
            }
            prop_assert!(passes <= 3);
            let mut want: Vec<_> = all_paths(seed, 4, 3)
                .into_iter()
                .filter(|p| p.0 >= threshold || p.1.is_empty())
                .map(|p| p.1)
                .collect();
            want.sort();
            prop_assert_eq!(paths(&b.finish()), want);
        }
    }

    #[test]
    fn an_exhausted_support_ends_a_node() {
        let mut b = DySpec::new(0, 3, 0, options(10, 0.0, true)).unwrap();
        let mut chance = trivium_core::Keyed::new(1, 0);
        while !b.frontier().is_empty() {
            let rows = [0.0f32, 1.0, 0.0].repeat(b.frontier().len());
            b.push(&rows, &mut chance).unwrap();
        }
        assert_eq!(b.finish().parents, [-1, 0, 1, 2], "one child a node, three levels");
        assert!(DySpec::new(0, 3, 0, options(10, 1.0, true)).is_err());
    }
}
