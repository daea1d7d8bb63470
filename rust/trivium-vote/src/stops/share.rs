//! Share of the weight: `DeepConf`'s consensus stop.
//!
//! Fu et al., "Deep Think with Confidence": stop when `beta = W_1 / sum W >= tau`, after a warm-up
//! of 16 traces. As a rule on shares it needs that least number of ballots.

/// Whether the best of `weights` holds the share `tau` of the total.
pub fn stops(weights: &[f64], cast: u32, tau: f64, least: u32) -> bool {
    let total: f64 = weights.iter().sum();
    let best = weights.iter().copied().fold(0.0, f64::max);
    cast >= least && total > 0.0 && best >= tau * total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consensus_has_its_published_values() {
        assert!(stops(&[9.6, 0.4], 16, 0.95, 16));
        assert!(!stops(&[9.4, 0.6], 16, 0.95, 16));
        assert!(!stops(&[9.6, 0.4], 15, 0.95, 16));
        assert!(!stops(&[], 20, 0.95, 16));
    }
}
