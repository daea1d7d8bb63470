//! KNN-SSD: the stored prompts nearest to a new one say which layer set to use.
//!
//! Offline, prompts of several domains are run, their last hidden states stored with the layer set
//! that suits their cluster; online, the k nearest anchors vote. Brute force: O(anchors · width), a
//! few thousand anchors at most. "KNN-SSD: Enabling Dynamic Self-Speculative Decoding via Nearest
//! Neighbor Layer Set Optimization".

use trivium_core::error::{Error, Result};

/// How near two vectors are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// One minus the cosine.
    Cosine,
    /// Euclidean.
    L2,
}

/// Labelled vectors of one width; the oldest leaves when it is full.
#[derive(Debug, Clone)]
pub struct AnchorIndex {
    width: usize,
    metric: Metric,
    capacity: usize,
    anchors: Vec<(u64, u32, Vec<f32>)>,
    next: u64,
}

impl AnchorIndex {
    /// An empty index.
    ///
    /// # Errors
    /// `InvalidInput` for a width or a capacity of 0.
    pub fn new(width: usize, metric: Metric, capacity: usize) -> Result<Self> {
        if width == 0 || capacity == 0 {
            return Err(Error::input("width, capacity", "must be positive"));
        }
        Ok(Self { width, metric, capacity, anchors: Vec::new(), next: 0 })
    }

    fn check(&self, vector: &[f32]) -> Result<()> {
        if vector.len() != self.width || vector.iter().any(|x| !x.is_finite()) {
            return Err(Error::input("vector", format!("need {} finite numbers", self.width)));
        }
        Ok(())
    }

    /// Adds an anchor; gives its number.
    ///
    /// # Errors
    /// `InvalidInput` for another width or a number that is not finite.
    pub fn insert(&mut self, vector: &[f32], label: u32) -> Result<u64> {
        self.check(vector)?;
        if self.anchors.len() == self.capacity {
            self.anchors.remove(0);
        }
        self.anchors.push((self.next, label, vector.to_vec()));
        self.next += 1;
        Ok(self.next - 1)
    }

    /// Anchors held.
    pub fn len(&self) -> usize {
        self.anchors.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.anchors.is_empty()
    }

    fn distance(&self, a: &[f32], b: &[f32]) -> f64 {
        let sum = |f: fn(f64, f64) -> f64| -> f64 {
            a.iter().zip(b).map(|(&x, &y)| f(f64::from(x), f64::from(y))).sum()
        };
        match self.metric {
            Metric::L2 => sum(|x, y| (x - y) * (x - y)).sqrt(),
            Metric::Cosine => {
                let norm = (sum(|x, _| x * x) * sum(|_, y| y * y)).sqrt();
                if norm > 0.0 { 1.0 - sum(|x, y| x * y) / norm } else { 1.0 }
            }
        }
    }

    /// The `k` nearest anchors: number, label, distance; nearest first, older first on ties.
    ///
    /// # Errors
    /// As [`insert`](Self::insert).
    pub fn nearest(&self, vector: &[f32], k: usize) -> Result<Vec<(u64, u32, f64)>> {
        self.check(vector)?;
        let mut all: Vec<_> =
            self.anchors.iter().map(|(i, l, v)| (*i, *l, self.distance(vector, v))).collect();
        all.sort_by(|a, b| a.2.total_cmp(&b.2).then(a.0.cmp(&b.0)));
        all.truncate(k);
        Ok(all)
    }

    /// The label that the `k` nearest vote for, weighed by `1 / (distance + 1e-9)` where `weighted`;
    /// the nearer label on ties. `None` without anchors.
    ///
    /// # Errors
    /// As [`insert`](Self::insert).
    pub fn vote(&self, vector: &[f32], k: usize, weighted: bool) -> Result<Option<u32>> {
        let near = self.nearest(vector, k)?;
        let weight = |d: f64| if weighted { 1.0 / (d + 1e-9) } else { 1.0 };
        let votes =
            |label: u32| -> f64 { near.iter().filter(|n| n.1 == label).map(|n| weight(n.2)).sum() };
        let mut best: Option<(u32, f64)> = None;
        for n in &near {
            if best.is_none_or(|b| votes(n.1) > b.1) {
                best = Some((n.1, votes(n.1)));
            }
        }
        Ok(best.map(|b| b.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_those_of_a_full_sort_and_vote() {
        for metric in [Metric::L2, Metric::Cosine] {
            let mut index = AnchorIndex::new(3, metric, 50).unwrap();
            let point = |i: u32| -> Vec<f32> {
                let b = trivium_core::rng::philox([i, 0, 0, 0], [4, 5]);
                b[..3].iter().map(|&x| (x >> 8) as f32 / 1e7 - 0.8).collect()
            };
            for i in 0..60 {
                index.insert(&point(i), i % 4).unwrap();
            }
            assert_eq!(index.len(), 50);
            for q in 100..120 {
                let near = index.nearest(&point(q), 7).unwrap();
                assert!(near.windows(2).all(|w| w[0].2 <= w[1].2));
                assert!(near.iter().all(|n| n.0 >= 10), "the oldest ten are gone");
                let worst = near[6].2;
                let closer =
                    (10..60).filter(|&i| index.distance(&point(q), &point(i)) < worst).count();
                assert!(closer <= 6);
            }
        }
    }

    #[test]
    fn votes_are_counted_or_weighed() {
        let mut index = AnchorIndex::new(1, Metric::L2, 9).unwrap();
        assert_eq!(index.vote(&[0.0], 3, false).unwrap(), None);
        for (x, label) in [(0.1, 1), (1.0, 2), (1.1, 2)] {
            index.insert(&[x], label).unwrap();
        }
        assert_eq!(index.vote(&[0.0], 3, false).unwrap(), Some(2));
        assert_eq!(index.vote(&[0.0], 3, true).unwrap(), Some(1));
        assert!(index.insert(&[f32::NAN], 0).is_err() && index.insert(&[0.0, 1.0], 0).is_err());
    }
}
