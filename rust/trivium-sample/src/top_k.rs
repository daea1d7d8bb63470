//! Top-k: keep every token at or above the k-th largest logit.
//!
//! Fan, Lewis, Dauphin, "Hierarchical Neural Story Generation" (ACL 2018). Ties at the k-th value are
//! all kept, as transformers does, so that the set does not depend on an order of equals.

use trivium_core::ScaledRow;

/// Applies top-k; `k = 0` or `k >= V` keeps everything. O(V) expected.
pub fn top_k(row: &mut ScaledRow, k: usize, scratch: &mut Vec<f32>) {
    if k == 0 || k >= row.scaled().len() {
        return;
    }
    scratch.clear();
    scratch.extend_from_slice(row.scaled());
    let (_, threshold, _) = scratch.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
    let threshold = *threshold;
    for x in row.scaled_mut() {
        if *x < threshold {
            *x = f32::NEG_INFINITY;
        }
    }
}
