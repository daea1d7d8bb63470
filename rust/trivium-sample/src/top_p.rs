//! Top-p: keep the smallest set of most probable tokens whose mass reaches `p`.
//!
//! Holtzman et al., "The Curious Case of Neural Text Degeneration" (ICLR 2020). The token that
//! crosses the threshold is kept; equals enter by token id.

use trivium_core::numerics::exp_neg;
use trivium_core::{ScaledRow, TokenId};

/// Applies top-p to the law as it stands; `p >= 1` keeps everything. Expected O(V): only a growing
/// head of the row is ever sorted.
pub fn top_p(row: &mut ScaledRow, p: f32, scratch: &mut Vec<(f32, TokenId)>) {
    if p >= 1.0 {
        return;
    }
    let target = f64::from(p.max(0.0)) * row.total();
    let max = row.max();
    scratch.clear();
    scratch.extend(
        row.scaled()
            .iter()
            .enumerate()
            .filter(|(_, x)| **x > f32::NEG_INFINITY)
            .map(|(i, &x)| (x, i as TokenId)),
    );
    let order = |a: &(f32, TokenId), b: &(f32, TokenId)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
    let n = scratch.len();
    let mut sorted = 0;
    let mut mass = 0.0;
    let mut head = 64;
    let kept = 'grow: loop {
        let end = head.min(n);
        if end < n {
            scratch[sorted..].select_nth_unstable_by(end - sorted, order);
        }
        scratch[sorted..end].sort_unstable_by(order);
        for (i, &(x, _)) in scratch[sorted..end].iter().enumerate() {
            mass += f64::from(exp_neg(x - max));
            if mass >= target {
                break 'grow sorted + i + 1;
            }
        }
        if end == n {
            break n;
        }
        sorted = end;
        head *= 8;
    };
    // Everything ordered behind the last kept token goes.
    let Some(&(last, last_id)) = scratch.get(kept.saturating_sub(1)) else { return };
    for (i, x) in row.scaled_mut().iter_mut().enumerate() {
        if *x < last || (*x == last && i as TokenId > last_id) {
            *x = f32::NEG_INFINITY;
        }
    }
}
