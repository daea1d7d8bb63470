//! What hosts with a recurrent state need of a tree: STree's contract, and LongSpec's two-part
//! attention.
//!
//! A linear recurrence `h_i = A_i h_parent(i) + B_i` runs over all nodes of a tree in one pass once
//! the sums along paths are known:
//!
//! ```text
//! cum[i] = cum[parent(i)] + log A_i,   decay(j -> i) = exp(cum[i] - cum[j]),  j an ancestor or i
//! h_i = exp(cum[i]) h_committed + Σ over j on the path to i of decay(j -> i) B_j
//! ```
//!
//! with the ancestor bitmap in place of the triangular mask. "STree: Speculative Tree Decoding for
//! Hybrid State-Space Models". After a step the state is rebuilt by replaying the accepted path
//! (`kv_gather` lists its nodes). Such a host cannot branch by copying caches, so the plan also
//! gives the tree as chains that each start at a stored state, for hosts without the tree scan.
//!
//! LongSpec runs the nodes against the committed text without a mask and against each other with the
//! bitmap, and merges by log-sum-exp: [`merge_attention`].

use crate::tree::mask_words;
use trivium_core::error::{Error, Result};

/// A tree laid out for a recurrence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateSpacePlan {
    parents: Vec<i32>,
    words: Vec<u64>,
    width: usize,
    /// Nodes in chains: first node of each, with the node whose state it starts from (-1: the
    /// committed state).
    chains: Vec<(i32, Vec<usize>)>,
}

impl StateSpacePlan {
    /// Plans one tree: parents local, node 0 with -1.
    ///
    /// # Errors
    /// `InvalidInput` for parents that do not come before their children.
    pub fn new(parents: &[i32]) -> Result<Self> {
        let ok = parents.first() == Some(&-1)
            && parents.iter().enumerate().skip(1).all(|(i, &p)| p >= 0 && (p as usize) < i);
        if !ok {
            return Err(Error::input("parents", "must start with -1 and come before children"));
        }
        let words = mask_words(parents);
        let width = parents.len().div_ceil(64);
        // A chain goes on to its node's first child; every other child starts a chain.
        let mut first_child = vec![usize::MAX; parents.len()];
        for i in (1..parents.len()).rev() {
            first_child[parents[i] as usize] = i;
        }
        let mut chains = Vec::new();
        for i in 0..parents.len() {
            if i > 0 && first_child[parents[i] as usize] == i {
                continue;
            }
            let mut chain = vec![i];
            let mut at = first_child[i];
            while at != usize::MAX {
                chain.push(at);
                at = first_child[at];
            }
            chains.push((parents[i], chain));
        }
        Ok(Self { parents: parents.to_vec(), words, width, chains })
    }

    /// Parents as given.
    pub fn parents(&self) -> &[i32] {
        &self.parents
    }

    /// Ancestor bitmap, self included: `[n, words a row]`.
    pub fn mask_words(&self) -> (&[u64], usize) {
        (&self.words, self.width)
    }

    /// Chains that cover every node once: the node whose state a chain starts from (-1: the
    /// committed state) and its nodes. Earlier chains hold what later ones start from.
    pub fn chains(&self) -> &[(i32, Vec<usize>)] {
        &self.chains
    }

    /// Whether `j` is `i` or an ancestor of it.
    pub fn attends(&self, i: usize, j: usize) -> bool {
        self.words[i * self.width + j / 64] >> (j % 64) & 1 == 1
    }

    /// Sums of `log A` along paths, channel by channel: `log_a` and result are `[n, channels]`.
    ///
    /// # Errors
    /// `InvalidInput` for another size.
    pub fn cumulative(&self, log_a: &[f64], channels: usize) -> Result<Vec<f64>> {
        if log_a.len() != self.parents.len() * channels {
            return Err(Error::input(
                "log_a",
                format!("{} entries for {} nodes", log_a.len(), self.parents.len()),
            ));
        }
        let mut out = log_a.to_vec();
        for (i, &p) in self.parents.iter().enumerate().skip(1) {
            for c in 0..channels {
                out[i * channels + c] += out[p as usize * channels + c];
            }
        }
        Ok(out)
    }

    /// States of all nodes: `h[i] = exp(cum[i]) h0 + Σ_j decay(j -> i) b[j]`, `[n, channels]` each,
    /// `h0` `[channels]`. The definition, O(n · depth · channels); kernels of hosts replace it.
    ///
    /// # Errors
    /// `InvalidInput` for another size.
    pub fn scan(&self, log_a: &[f64], b: &[f64], h0: &[f64]) -> Result<Vec<f64>> {
        let channels = h0.len();
        let cum = self.cumulative(log_a, channels)?;
        if b.len() != cum.len() {
            return Err(Error::input("b", format!("{} entries, log_a has {}", b.len(), cum.len())));
        }
        let mut out = vec![0.0; cum.len()];
        for i in 0..self.parents.len() {
            for c in 0..channels {
                let at = |j: usize| cum[j * channels + c];
                let mut h = at(i).exp() * h0[c];
                let mut j = i as i32;
                while j >= 0 {
                    let node = j as usize;
                    h += (at(i) - at(node)).exp() * b[node * channels + c];
                    j = self.parents[node];
                }
                out[i * channels + c] = h;
            }
        }
        Ok(out)
    }
}

/// Merges two partial attentions of the same queries: outputs `[queries, dim]` with the natural
/// log-sum-exp of each query's scores. A part of no keys has log-sum-exp minus infinity.
///
/// # Errors
/// `InvalidInput` for sizes that differ, or a query that attends to nothing in either part.
pub fn merge_attention(a: (&[f32], &[f32]), b: (&[f32], &[f32])) -> Result<(Vec<f32>, Vec<f32>)> {
    let queries = a.1.len();
    if a.0.len() != b.0.len()
        || b.1.len() != queries
        || queries == 0
        || !a.0.len().is_multiple_of(queries)
    {
        return Err(Error::input("parts", "both parts need the same queries and dimension"));
    }
    let dim = a.0.len() / queries;
    let (mut out, mut lse) = (Vec::with_capacity(a.0.len()), Vec::with_capacity(queries));
    for i in 0..queries {
        let (x, y) = (f64::from(a.1[i]), f64::from(b.1[i]));
        let top = x.max(y);
        if top == f64::NEG_INFINITY || top.is_nan() {
            return Err(Error::input("parts", format!("query {i} attends to nothing")));
        }
        let (wx, wy) = ((x - top).exp(), (y - top).exp());
        let total = wx + wy;
        for d in i * dim..(i + 1) * dim {
            // A part of no keys may hold anything.
            let part = |w: f64, o: f32| if w > 0.0 { w * f64::from(o) } else { 0.0 };
            out.push(((part(wx, a.0[d]) + part(wy, b.0[d])) / total) as f32);
        }
        lse.push((top + total.ln()) as f32);
    }
    Ok((out, lse))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The tree scan is the recurrence along every path, and so are the chains.
        #[test]
        fn the_scan_is_the_recurrence(
            up in prop::collection::vec(0usize..100, 0..20),
            seed in prop::collection::vec(-1.0f64..1.0, 90),
        ) {
            let parents: Vec<i32> = std::iter::once(-1)
                .chain(up.iter().enumerate().map(|(i, &u)| (u % (i + 1)) as i32))
                .collect();
            let (n, channels) = (parents.len(), 2);
            let plan = StateSpacePlan::new(&parents).unwrap();
            let log_a: Vec<f64> = (0..n * channels).map(|i| seed[i] - 0.5).collect();
            let b: Vec<f64> = (0..n * channels).map(|i| seed[i + 40]).collect();
            let h0 = [seed[88], seed[89]];
            let got = plan.scan(&log_a, &b, &h0).unwrap();
            // Chain by chain, one recurrence step a node.
            let mut want = vec![f64::NAN; n * channels];
            for (from, nodes) in plan.chains() {
                let mut h: Vec<f64> = match usize::try_from(*from) {
                    Ok(p) => want[p * channels..(p + 1) * channels].to_vec(),
                    Err(_) => h0.to_vec(),
                };
                prop_assert!(h.iter().all(|x| x.is_finite()), "a chain starts from a known state");
                for &i in nodes {
                    for c in 0..channels {
                        h[c] = log_a[i * channels + c].exp() * h[c] + b[i * channels + c];
                    }
                    want[i * channels..(i + 1) * channels].copy_from_slice(&h);
                }
            }
            for (g, w) in got.iter().zip(&want) {
                prop_assert!((g - w).abs() < 1e-9 * (1.0 + w.abs()), "{g} {w}");
            }
            for i in 0..n {
                for j in 0..n {
                    let mut at = i as i32;
                    while at > j as i32 {
                        at = parents[at as usize];
                    }
                    prop_assert_eq!(plan.attends(i, j), at == j as i32);
                }
            }
        }

        /// Two parts merge to the full softmax.
        #[test]
        fn parts_merge_to_full_attention(
            scores in prop::collection::vec(-6.0f32..6.0, 2..12), cut in 0usize..12,
        ) {
            let cut = cut.min(scores.len());
            let value = |k: usize| (k as f32).sin();
            let part = |range: std::ops::Range<usize>| {
                let top = range.clone().map(|k| scores[k]).fold(f32::NEG_INFINITY, f32::max);
                let z: f32 = range.clone().map(|k| (scores[k] - top).exp()).sum();
                let o: f32 = range.map(|k| (scores[k] - top).exp() * value(k)).sum();
                (vec![o / z], vec![top + z.ln()])
            };
            let full = part(0..scores.len());
            let (a, b) = (part(0..cut), part(cut..scores.len()));
            let (o, l) = merge_attention((&a.0, &a.1), (&b.0, &b.1)).unwrap();
            prop_assert!((o[0] - full.0[0]).abs() < 1e-5 && (l[0] - full.1[0]).abs() < 1e-5);
        }
    }

    #[test]
    fn bad_plans_are_refused() {
        assert!(StateSpacePlan::new(&[-1, 1]).is_err());
        assert!(StateSpacePlan::new(&[]).is_err());
        let plan = StateSpacePlan::new(&[-1, 0, 0]).unwrap();
        assert_eq!(plan.chains(), [(-1, vec![0, 1]), (0, vec![2])]);
        assert!(plan.scan(&[0.0; 3], &[0.0; 2], &[0.0]).is_err());
        let nothing = (&[0.0f32][..], &[f32::NEG_INFINITY][..]);
        assert!(merge_attention(nothing, nothing).is_err());
    }
}
