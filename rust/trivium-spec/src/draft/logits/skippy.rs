//! S3D: how many middle layers to skip and how many mask tokens to append.
//!
//! The draft is one pass over the text and m mask tokens in which s of L layers are skipped; all m
//! tokens come out of it at once. With α[s][j] the measured chance that mask token j is accepted
//! once those before it were, and `extra` the cost of a mask token in passes,
//!
//! ```text
//! tokens = 1 + sum over i <= m of α[s][1] ... α[s][i];   cost = 1 + (L - s) / L + m extra
//! ```
//!
//! and the best rate decides; m = 0 (no draft pass: cost 1) is plain decoding. "S3D: A Simple and
//! Cost-Effective Self-Speculative Decoding Scheme for Low-Memory GPUs".

use trivium_core::error::{Error, Result};

/// Layers to skip, mask tokens, tokens a pass. `acceptance[i]` belongs to `skips[i]`.
///
/// # Errors
/// `InvalidInput` for tables that do not fit, probabilities outside 0..=1, skips above the layers.
pub fn skippy(
    layers: usize,
    skips: &[usize],
    acceptance: &[Vec<f64>],
    extra: f64,
) -> Result<(usize, usize, f64)> {
    let sound = skips.len() == acceptance.len()
        && skips.iter().all(|&s| s < layers)
        && acceptance.iter().flatten().all(|a| (0.0..=1.0).contains(a))
        && extra >= 0.0;
    if !sound {
        return Err(Error::input(
            "acceptance",
            "needs one row of probabilities for each number of skipped layers",
        ));
    }
    let mut best = (0, 0, 1.0);
    for (&s, row) in skips.iter().zip(acceptance) {
        let (mut path, mut tokens) = (1.0, 1.0);
        for (m, a) in row.iter().enumerate() {
            path *= a;
            tokens += path;
            let cost = 1.0 + (layers - s) as f64 / layers as f64 + (m + 1) as f64 * extra;
            if tokens / cost > best.2 {
                best = (s, m + 1, tokens / cost);
            }
        }
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_rate_wins_and_plain_decoding_is_one_of_them() {
        // Skipping nothing drafts well but costs two passes; skipping 6 of 8 costs 1.25.
        let table = [vec![0.9, 0.9, 0.9], vec![0.8, 0.7, 0.5]];
        let (s, m, rate) = skippy(8, &[0, 6], &table, 0.0).unwrap();
        assert_eq!((s, m), (6, 3));
        assert!((rate - (1.0 + 0.8 + 0.56 + 0.28) / 1.25).abs() < 1e-12);
        assert_eq!(skippy(8, &[0, 6], &table, 0.4).unwrap().1, 2, "2.36 / 2.05 before 1.8 / 1.65");
        assert_eq!(skippy(8, &[6], &[vec![0.1]], 0.0).unwrap(), (0, 0, 1.0));
        assert!(skippy(8, &[8], &[vec![0.1]], 0.0).is_err());
        assert!(skippy(8, &[1], &[vec![1.1]], 0.0).is_err());
    }
}
