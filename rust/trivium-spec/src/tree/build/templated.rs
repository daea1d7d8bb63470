//! A fixed shape filled level by level, by any law.
//!
//! A node of the template with b children takes b tokens of its parent's row: the b most likely by
//! rank (chosen: EAGLE-1, Token Recycling), or b draws in order, and then a rank is a draw number
//! (RSD-C; Sequoia, whose programme sizes the shape). Where the support of a row runs out the
//! missing children fall away with everything below them: a fact of the row, not of any token.

use super::{Builder, DraftTree, Template, TreeBuilder, row, sums};
use crate::tree::{DraftLaw, Drafter, Role};
use crate::verify::Row;
use trivium_core::error::{Error, Result};
use trivium_core::{Chance, TokenId};

/// Fills a [`Template`].
#[derive(Debug)]
pub struct Templated {
    kind: Builder,
    vocab: usize,
    start: u32,
    /// Children of each template node.
    children: Vec<Vec<(usize, u16)>>,
    tree: DraftTree,
    /// Template node of each tree node.
    places: Vec<usize>,
    frontier: Vec<usize>,
    pushed: usize,
    drafter: Drafter,
}

impl Templated {
    /// Fills `template` below the last committed token by the law of `kind`. `start` is the
    /// absolute index of the first undecided token.
    ///
    /// # Errors
    /// `Unsupported` for builders that have no template; `InvalidInput` where ranks of drawn
    /// siblings are not 0, 1, 2, ... in order.
    pub fn new(
        kind: Builder,
        template: &Template,
        last: TokenId,
        vocab: usize,
        start: u32,
    ) -> Result<Self> {
        let fixed = matches!(
            kind,
            Builder::Template
                | Builder::Sequoia
                | Builder::RsdC
                | Builder::IidPaths
                | Builder::GreedyPlusOne
        );
        if !fixed {
            return Err(Error::unsupported(
                format!("builder {:?}", kind.name()),
                "on a template",
                "it chooses its own shape",
            ));
        }
        let children = template.children();
        let in_order =
            children.iter().all(|c| c.iter().enumerate().all(|(i, x)| usize::from(x.1) == i));
        if kind != Builder::Template && !in_order {
            return Err(Error::input(
                "template",
                "ranks of drawn siblings are draw numbers 0, 1, ..",
            ));
        }
        let mut this = Self {
            kind,
            vocab,
            start,
            children,
            tree: DraftTree::root(last),
            places: vec![0],
            frontier: Vec::new(),
            pushed: 0,
            drafter: Drafter::new(),
        };
        this.frontier = this.waiting(0);
        Ok(this)
    }

    /// Tree nodes from `first` on whose place has children.
    fn waiting(&self, first: usize) -> Vec<usize> {
        (first..self.tree.len()).filter(|&n| !self.children[self.places[n]].is_empty()).collect()
    }

    fn fill(&mut self, node: usize, q: Row<'_>, chance: &mut dyn Chance) -> Result<()> {
        let children = std::mem::take(&mut self.children[self.places[node]]);
        let want = children.iter().map(|c| usize::from(c.1) + 1).max().unwrap_or(0);
        let mut got = Vec::new();
        self.drafter.children(self.kind.law(), want, q, self.start, chance, &mut got)?;
        let drawn = self.kind.law() != DraftLaw::PointMass;
        for (place, rank) in children {
            let Some(&(token, role)) = got.get(usize::from(rank)) else { continue };
            let role = if drawn { role } else { Role::Chosen };
            self.tree.add(node, token, self.tree.values[node] * q.at(token), role);
            self.places.push(place);
        }
        Ok(())
    }
}

impl TreeBuilder for Templated {
    fn kind(&self) -> Builder {
        self.kind
    }

    fn frontier(&self) -> &[usize] {
        &self.frontier
    }

    fn tree(&self) -> &DraftTree {
        &self.tree
    }

    fn push(&mut self, rows: &[f32], chance: &mut dyn Chance) -> Result<()> {
        let sums = sums(rows, self.frontier.len(), self.vocab)?;
        let first = self.tree.len();
        for (i, node) in std::mem::take(&mut self.frontier).into_iter().enumerate() {
            self.tree.rows[node] = (self.pushed + i) as i32;
            self.fill(node, row(rows, &sums, self.vocab, i), chance)?;
        }
        self.pushed += sums.len();
        self.frontier = self.waiting(first);
        Ok(())
    }
}
