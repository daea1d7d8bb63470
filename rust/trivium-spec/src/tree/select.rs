//! Fewer nodes of grown trees, with other scores: what is left keeps its evidence.
//!
//! RASD lets a draft model judge what stores retrieved: branches that it finds unlikely go, the
//! others are scored on its scale. The stores go on learning from the nodes that stay.

use super::TreeBatch;
use trivium_core::error::{Error, Result};

impl TreeBatch {
    /// The batch without the nodes that `keep` leaves out, nor anything below them; scores are
    /// replaced. Node 0s stay.
    ///
    /// # Errors
    /// `InvalidInput` unless there is one entry a node; `Unsupported` for drawn drafts: leaving one
    /// out for what it is would bias the text.
    pub fn select(&self, keep: &[bool], scores: &[f32]) -> Result<Self> {
        if keep.len() != self.num_nodes() || scores.len() != self.num_nodes() {
            return Err(Error::input(
                "keep, scores",
                format!("{} and {} for {} nodes", keep.len(), scores.len(), self.num_nodes()),
            ));
        }
        if let Some(law) = self.law.filter(|l| l.is_sampled()) {
            return Err(Error::unsupported(
                format!("leaving out drafts of law {:?}", law.name()),
                "by what they are",
                "bound their shape before they are drawn",
            ));
        }
        let mut out = Self { law: self.law, pruning: self.pruning, ..Self::new() };
        out.lens.clone_from(&self.lens);
        out.owners.clone_from(&self.owners);
        for b in 0..self.len() {
            let span = self.span(b);
            let first = span.start;
            let start = out.tokens.len();
            let mut place: Vec<Option<i32>> = Vec::with_capacity(span.len());
            for node in span {
                let parent = match self.parents[node] {
                    p if p < 0 => Some(-1),
                    p if keep[node] => place[p as usize],
                    _ => None,
                };
                place.push(parent.map(|_| (out.tokens.len() - start) as i32));
                let Some(parent) = parent else { continue };
                out.tokens.push(self.tokens[node]);
                out.parents.push(parent);
                out.depths.push(self.depths[node]);
                out.scores.push(scores[node]);
                out.evidence.extend_from_slice(self.evidence_of(node));
                out.evidence_ends.push(out.evidence.len() as u32);
            }
            debug_assert!(self.cu_nodes[b] == first);
            out.cu_nodes.push(out.tokens.len());
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::DraftLaw;

    #[test]
    fn what_is_left_out_goes_with_all_below_it() {
        let (tokens, parents) = ([9, 1, 2, 3, 4, 9, 3], [-1, 0, 1, 0, 3, -1, 0]);
        let batch =
            TreeBatch::from_arrays(&tokens, &parents, &[0, 5, 7], &[4, 7], DraftLaw::PointMass, 10)
                .unwrap();
        let scores = [1.0, 0.5, 0.4, 0.3, 0.2, 1.0, 0.1];
        let keep = [true, false, true, true, true, false, true];
        let b = batch.select(&keep, &scores).unwrap();
        assert_eq!(b.tokens(), [9, 3, 4, 9, 3]);
        assert_eq!(b.parents(), [-1, 0, 1, -1, 0]);
        assert_eq!(b.depths(), [0, 1, 2, 0, 1]);
        assert_eq!(b.scores(), [1.0, 0.3, 0.2, 1.0, 0.1]);
        assert_eq!(b.cu_nodes(), [0, 3, 5]);
        assert_eq!(b.positions(), [3, 4, 5, 6, 7]);
        assert!(batch.select(&keep[1..], &scores).is_err());
        let drawn =
            TreeBatch::from_arrays(&[1, 2], &[-1, 0], &[0, 2], &[3], DraftLaw::IidQ, 10).unwrap();
        assert!(drawn.select(&[true; 2], &[1.0; 2]).is_err());
    }
}
