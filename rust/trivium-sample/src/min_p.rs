//! Min-p: keep tokens with `p >= m * p_max`, that is `z >= z_max + ln m`.
//!
//! Nguyen et al., "Turning Up the Heat: Min-p Sampling for Creative and Coherent LLM Outputs"
//! (ICLR 2025). Needs no normalisation, so it commutes with the other truncations.

use trivium_core::ScaledRow;

/// Applies min-p; `m <= 0` keeps everything, the maximum always stays. O(V).
pub fn min_p(row: &mut ScaledRow, m: f32) {
    if m <= 0.0 {
        return;
    }
    let threshold = row.max() + m.min(1.0).ln();
    for x in row.scaled_mut() {
        if *x < threshold {
            *x = f32::NEG_INFINITY;
        }
    }
}
