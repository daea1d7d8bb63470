//! A chain whose length a controller decides token by token.
//!
//! ```text
//! row q arrives; before_sample(q) refuses: end.  else x ~ q (or arg max), x is in the chain;
//! after_include(q, q(x)) refuses: end
//! ```
//!
//! The controller sees a token only once it is in, so whatever it decides the chain has
//! [`Pruning::Shape`](crate::tree::Pruning::Shape) at most.

use super::{Builder, DraftTree, TreeBuilder, row, sums};
use crate::control::{Controller, DraftCtx, QSummary, StepCtx};
use crate::tree::Role;
use crate::tree::laws::most_likely;
use trivium_core::error::Result;
use trivium_core::{Address, Chance, Purpose, TokenId};

/// The builder.
#[derive(Debug)]
pub struct Chain {
    vocab: usize,
    noise: Address,
    drawn: bool,
    controller: Box<dyn Controller>,
    most: usize,
    tree: DraftTree,
    /// Product of calibrated acceptance.
    survival: f64,
    frontier: Vec<usize>,
    laws: Vec<QSummary>,
}

impl Chain {
    /// A chain below the last committed token, at most `max_depth` tokens. `noise` addresses the
    /// first undecided token. `drawn`: tokens are drawn from the rows, else the most likely taken.
    pub fn new(
        last: TokenId,
        vocab: usize,
        max_depth: usize,
        noise: Address,
        drawn: bool,
        controller: Box<dyn Controller>,
    ) -> Self {
        let most =
            controller.length(StepCtx::alone(noise)).min(max_depth).min(crate::MAX_NODES - 1);
        Self {
            vocab,
            noise,
            drawn,
            controller,
            most,
            tree: DraftTree::root(last),
            survival: 1.0,
            frontier: if most > 0 { vec![0] } else { Vec::new() },
            laws: Vec::new(),
        }
    }

    /// Law of each token drawn or refused, from the first on.
    pub fn laws(&self) -> &[QSummary] {
        &self.laws
    }

    /// Most tokens that the controller allowed.
    pub fn allowed(&self) -> usize {
        self.most
    }
}

impl TreeBuilder for Chain {
    fn kind(&self) -> Builder {
        if self.drawn { Builder::Chain } else { Builder::ChainChosen }
    }

    fn frontier(&self) -> &[usize] {
        &self.frontier
    }

    fn tree(&self) -> &DraftTree {
        &self.tree
    }

    fn push(&mut self, rows: &[f32], chance: &mut dyn Chance) -> Result<()> {
        let sums = sums(rows, self.frontier.len(), self.vocab)?;
        let q = row(rows, &sums, self.vocab, 0);
        let law = QSummary::of_weights(q.weights())?;
        let node = self.tree.len() - 1;
        self.frontier.clear();
        self.laws.push(law);
        self.tree.rows[node] = node as i32;
        let at = DraftCtx { position: node, survival: self.survival, noise: self.noise };
        if !self.controller.before_sample(at, law) {
            return Ok(());
        }
        let (token, role) = if self.drawn {
            let weights: Vec<f64> = q.weights().iter().map(|&w| f64::from(w)).collect();
            let t = chance.categorical(self.noise.index, Purpose::Draft, &weights);
            (t as TokenId, Role::Drawn)
        } else {
            let mut top = Vec::new();
            most_likely(q.weights(), 1, &mut top);
            (top[0], Role::Chosen)
        };
        let p = q.at(token);
        self.survival *= self.controller.calibrated(p);
        let child = self.tree.add(node, token, self.survival, role);
        let at = DraftCtx { position: child, survival: self.survival, ..at };
        if child < self.most && self.controller.after_include(at, law, p) {
            self.frontier.push(child);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::beam::tests::run;
    use super::*;
    use crate::control::{Confidence, Fixed};

    #[test]
    fn the_unsure_token_stays() {
        let noise = Address::new(1, 0, 0);
        for seed in 0..50 {
            let rule = Confidence { threshold: 0.6, max: 6 };
            let mut c = Chain::new(0, 4, 10, noise, false, Box::new(rule));
            let tree = run(&mut c, seed, 4);
            let laws = c.laws();
            assert_eq!(laws.len(), tree.len() - 1, "every row that was asked for gave a token");
            assert!(laws[..laws.len() - 1].iter().all(|q| q.top >= 0.6));
            assert!(tree.len() == 7 || laws[laws.len() - 1].top < 0.6);
        }
        let mut none = Chain::new(0, 4, 10, noise, true, Box::new(Fixed(0)));
        assert_eq!(run(&mut none, 0, 4).len(), 1);
        let mut long = Chain::new(0, 4, 3, noise, true, Box::new(Fixed(9)));
        assert_eq!(run(&mut long, 0, 4).parents, [-1, 0, 1, 2]);
    }
}
