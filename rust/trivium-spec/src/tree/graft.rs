//! Paths of another drafter hung into grown trees.
//!
//! A path follows the tree while tokens coincide; the rest hangs below the deepest common node, at
//! the end of the node arrays, so parents stay in front. Nodes of the tree keep their evidence: the
//! stores go on learning from what happens to them.

use super::{DraftLaw, TreeBatch, validate};
use trivium_core::TokenId;
use trivium_core::error::{Error, Result};

/// Trees to hang in, one a request, node 0 the root that both share.
#[derive(Debug, Clone, Copy)]
pub struct Paths<'a> {
    /// Token of each node; that of a root is not read.
    pub tokens: &'a [TokenId],
    /// Parent of each node within its request.
    pub parents: &'a [i32],
    /// Probability that the path to a node is accepted.
    pub scores: &'a [f32],
    /// Offsets of the requests.
    pub cu_nodes: &'a [usize],
}

impl TreeBatch {
    /// The batch with `paths` hung in; `law` says how their tokens were chosen. Where a node is in
    /// both, the better score stays.
    ///
    /// # Errors
    /// `InvalidInput` for malformed paths; `Unsupported` for drawn ones: their siblings in the tree
    /// would bias a test against `q`, and only trees of one law state how they came about.
    pub fn graft(&self, paths: Paths<'_>, law: DraftLaw, vocab: usize) -> Result<Self> {
        if law.is_sampled() || self.law.is_some_and(DraftLaw::is_sampled) {
            return Err(Error::unsupported(
                format!("drafts of law {:?}", law.name()),
                "hung into a tree of other drafts",
                "bring drawn drafts as a tree of their own (from_arrays), with q",
            ));
        }
        let Paths { tokens, parents, scores, cu_nodes } = paths;
        let fits = cu_nodes.len() == self.cu_nodes.len()
            && cu_nodes.first() == Some(&0)
            && cu_nodes.windows(2).all(|w| w[0] < w[1])
            && cu_nodes.last() == Some(&tokens.len())
            && parents.len() == tokens.len()
            && scores.len() == tokens.len();
        if !fits {
            return Err(Error::input("paths", "need one tree a request, node 0 counted"));
        }
        let mut out = Self { law: Some(law), ..Self::new() };
        if law == DraftLaw::PointMass {
            out.law = self.law;
        }
        out.pruning = self.pruning;
        out.lens.clone_from(&self.lens);
        out.owners.clone_from(&self.owners);
        for b in 0..self.len() {
            let span = self.span(b);
            let own = cu_nodes[b]..cu_nodes[b + 1];
            validate(&tokens[own.clone()], &parents[own.clone()], vocab)?;
            let start = out.tokens.len();
            out.tokens.extend_from_slice(&self.tokens[span.clone()]);
            out.parents.extend_from_slice(&self.parents[span.clone()]);
            out.depths.extend_from_slice(&self.depths[span.clone()]);
            out.scores.extend_from_slice(&self.scores[span.clone()]);
            for node in span {
                out.evidence.extend_from_slice(self.evidence_of(node));
                out.evidence_ends.push(out.evidence.len() as u32);
            }
            let mut place = vec![0usize; own.len()];
            for i in 1..own.len() {
                let (token, score) = (tokens[own.start + i], scores[own.start + i]);
                let parent = place[parents[own.start + i] as usize];
                let known = (start + parent + 1..out.tokens.len())
                    .find(|&c| out.parents[c] as usize == parent && out.tokens[c] == token);
                place[i] = if let Some(c) = known {
                    out.scores[c] = out.scores[c].max(score);
                    c - start
                } else {
                    out.tokens.push(token);
                    out.parents.push(parent as i32);
                    out.depths.push(out.depths[start + parent] + 1);
                    out.scores.push(score);
                    out.evidence_ends.push(out.evidence.len() as u32);
                    out.tokens.len() - 1 - start
                };
            }
            out.cu_nodes.push(out.tokens.len());
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch() -> TreeBatch {
        let (tokens, parents) = ([9, 1, 2, 9, 3], [-1, 0, 1, -1, 0]);
        TreeBatch::from_arrays(&tokens, &parents, &[0, 3, 5], &[4, 7], DraftLaw::PointMass, 10)
            .unwrap()
    }

    #[test]
    fn paths_share_what_is_there_and_hang_the_rest() {
        let paths = Paths {
            tokens: &[0, 1, 5, 2, 0, 4],
            parents: &[-1, 0, 1, 1, -1, 0],
            scores: &[1.0, 0.9, 0.3, 0.2, 1.0, 0.5],
            cu_nodes: &[0, 4, 6],
        };
        let b = batch().graft(paths, DraftLaw::Race, 10).unwrap();
        assert_eq!(b.tokens(), [9, 1, 2, 5, 9, 3, 4]);
        assert_eq!(b.parents(), [-1, 0, 1, 1, -1, 0, 0]);
        assert_eq!(b.depths(), [0, 1, 2, 2, 0, 1, 1]);
        assert_eq!(b.cu_nodes(), [0, 4, 7]);
        assert_eq!((b.scores()[1], b.scores()[3]), (0.9, 0.3));
        assert_eq!(b.law, Some(DraftLaw::Race));
        assert_eq!(b.positions(), [3, 4, 5, 5, 6, 7, 7]);
    }

    #[test]
    fn drawn_or_malformed_paths_are_refused() {
        let one = |parents: &'static [i32], cu_nodes: &'static [usize]| Paths {
            tokens: &[0, 1, 0, 1],
            parents,
            scores: &[1.0; 4],
            cu_nodes,
        };
        let sound = one(&[-1, 0, -1, 0], &[0, 2, 4]);
        assert!(batch().graft(sound, DraftLaw::PointMass, 10).is_ok());
        assert!(batch().graft(sound, DraftLaw::IidQ, 10).is_err());
        assert!(batch().graft(one(&[-1, 1, -1, 0], &[0, 2, 4]), DraftLaw::Race, 10).is_err());
        assert!(batch().graft(one(&[-1, 0, 0, 0], &[0, 4]), DraftLaw::Race, 10).is_err());
        assert!(batch().graft(sound, DraftLaw::PointMass, 1).is_err());
    }
}
