//! Every outcome of a random procedure, with its probability.
//!
//! The procedure draws through [`Chance`]; the [`Enumerator`] answers from a script of branches and
//! extends it depth first: each run follows one path of the decision tree, its probability is the
//! product of the branch probabilities, and the next run takes the next branch of the last choice
//! that has one. Branches of probability 0 are never taken. The race cannot be enumerated (its noise
//! is one row); race rules are proved by bit equality with the plain sampler instead.

use std::collections::BTreeMap;
use trivium_core::{Address, Chance, Purpose};

/// Outcome to probability.
pub type Law<K> = BTreeMap<K, f64>;

/// One choice of the current run.
#[derive(Debug, Clone)]
struct Choice {
    /// Probabilities of its branches.
    weights: Vec<f64>,
    taken: usize,
}

impl Choice {
    fn next(&self) -> Option<usize> {
        (self.taken + 1..self.weights.len()).find(|&i| self.weights[i] > 0.0)
    }
}

/// [`Chance`] that takes one branch of every choice and remembers which.
#[derive(Debug, Default)]
pub struct Enumerator {
    script: Vec<Choice>,
    depth: usize,
    probability: f64,
}

impl Enumerator {
    fn choose(&mut self, weights: &[f64]) -> usize {
        let total: f64 = weights.iter().sum();
        assert!(total > 0.0 && total.is_finite(), "a choice needs mass, got {weights:?}");
        if self.depth == self.script.len() {
            let taken = weights.iter().position(|&w| w > 0.0).unwrap_or(0);
            let weights = weights.iter().map(|w| w / total).collect();
            self.script.push(Choice { weights, taken });
        }
        let choice = &self.script[self.depth];
        assert_eq!(
            choice.weights.len(),
            weights.len(),
            "the procedure is not a function of chance"
        );
        self.depth += 1;
        self.probability *= choice.weights[choice.taken];
        choice.taken
    }

    /// Moves to the next path; false when all were walked.
    fn advance(&mut self) -> bool {
        while let Some(mut last) = self.script.pop() {
            if let Some(next) = last.next() {
                last.taken = next;
                self.script.push(last);
                return true;
            }
        }
        false
    }
}

impl Chance for Enumerator {
    fn bernoulli(&mut self, _index: u32, _purpose: Purpose, num: f64, den: f64) -> bool {
        assert!(den > 0.0 && num >= 0.0, "bernoulli({num}, {den})");
        let p = (num / den).min(1.0);
        self.choose(&[p, 1.0 - p]) == 0
    }

    fn categorical(&mut self, _index: u32, _purpose: Purpose, weights: &[f64]) -> usize {
        self.choose(weights)
    }

    fn row(&mut self, _index: u32) -> Address {
        panic!("a race cannot be enumerated; compare it with the plain sampler bit by bit");
    }
}

/// The law of a procedure: runs it once for every path of its decision tree.
///
/// # Panics
/// If the procedure races, draws from no mass, or is not a function of its chance.
pub fn law_of<K: Ord>(mut run: impl FnMut(&mut Enumerator) -> K) -> Law<K> {
    let mut law = Law::new();
    let mut chance = Enumerator::default();
    loop {
        chance.depth = 0;
        chance.probability = 1.0;
        let outcome = run(&mut chance);
        *law.entry(outcome).or_insert(0.0) += chance.probability;
        chance.script.truncate(chance.depth);
        if !chance.advance() {
            return law;
        }
    }
}

/// Half the sum of absolute differences.
pub fn total_variation<K: Ord>(a: &Law<K>, b: &Law<K>) -> f64 {
    let only_b: f64 = b.iter().filter(|(k, _)| !a.contains_key(k)).map(|(_, p)| p).sum();
    let shared: f64 = a.iter().map(|(k, p)| (p - b.get(k).copied().unwrap_or(0.0)).abs()).sum();
    f64::midpoint(shared, only_b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_two_step_procedure_has_its_product_law() {
        let law = law_of(|c| {
            let a = c.categorical(0, Purpose::Cdf, &[1.0, 0.0, 3.0]);
            let b = a == 2 && c.bernoulli(1, Purpose::Accept, 1.0, 5.0);
            (a, b)
        });
        let want = Law::from([((0, false), 0.25), ((2, true), 0.15), ((2, false), 0.6)]);
        assert!(total_variation(&law, &want) < 1e-15, "{law:?}");
        assert_eq!(law.len(), 3, "impossible branches are not walked");
    }

    #[test]
    fn distance_counts_outcomes_of_either_side() {
        let a = Law::from([(1, 0.5), (2, 0.5)]);
        let b = Law::from([(2, 0.5), (3, 0.5)]);
        assert_eq!(total_variation(&a, &b), 0.5);
    }
}
