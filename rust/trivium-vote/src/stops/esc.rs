//! ESC: draw windows of `W` traces, stop after a window whose answers all agree.
//!
//! Li et al., "Escape Sky-high Cost: Early-stopping Self-Consistency for Multi-step Reasoning"
//! (ICLR 2024). A trace without a ballot breaks a window. Under the reference's name the window's
//! answer wins; live, the leader of everything drawn does, which costs the same and agrees with the
//! full vote more often.
//!
//! The control scheme predicts the price from the proportions `p` of a first window. With
//! `q = sum p_i^W` and `m = floor(L / W)` windows,
//!
//! ```text
//! E[samples] = W ( sum_{j=0}^{m-2} q (1-q)^j (j+1) + (1-q)^{m-1} m )
//! P(wrong window) = sum_{i>=2} p_i^W,   over the run: times (1 - (1-q)^m) / q
//! ```
//!
//! The published risk uses a normal tail instead ([`affected_normal`]), poor at small windows.

use crate::numeric::normal_tail;
use crate::tally::Tally;

/// Whether a window of `window` traces has just ended unanimous.
pub fn stops(tally: &Tally, window: u32) -> bool {
    tally.num_seen().is_multiple_of(window) && tally.streak().is_some_and(|(_, run)| run >= window)
}

/// Least number of further traces until a window can end unanimous.
pub fn need(tally: &Tally, window: u32) -> u32 {
    let inside = tally.num_seen() % window;
    let unbroken = tally.streak().map_or(0, |(_, run)| run) >= inside;
    if unbroken { window - inside } else { 2 * window - inside }
}

/// Expected number of samples for answer proportions `p`, windows of `window` and a budget.
pub fn expected_samples(p: &[f64], window: u32, budget: u32) -> f64 {
    let q: f64 = p.iter().map(|p| p.powi(window as i32)).sum();
    let windows = (budget / window).max(1);
    let mut sum = 0.0;
    let mut miss = 1.0;
    for j in 0..windows - 1 {
        sum += q * miss * f64::from(j + 1);
        miss *= 1.0 - q;
    }
    f64::from(window) * (sum + miss * f64::from(windows))
}

/// Probability that a window is unanimous for an answer other than the first: per window, and over
/// a run of `floor(budget / window)` windows.
pub fn affected(p: &[f64], window: u32, budget: u32) -> (f64, f64) {
    let power = |p: &f64| p.powi(window as i32);
    let q: f64 = p.iter().map(power).sum();
    let wrong: f64 = p.iter().skip(1).map(power).sum();
    let windows = (budget / window).max(1) as i32;
    let run = if q > 0.0 { wrong * (1.0 - (1.0 - q).powi(windows)) / q } else { 0.0 };
    (wrong, run)
}

/// The published approximation of [`affected`] per window, by a normal tail.
pub fn affected_normal(p: &[f64], window: u32) -> f64 {
    let w = f64::from(window);
    let tail = |&p: &f64| {
        let spread = (w * p * (1.0 - p)).sqrt();
        if spread > 0.0 { normal_tail((w - w * p) / spread) } else { 0.0 }
    };
    p.iter().skip(1).map(tail).sum()
}

/// The window and the expected samples of least cost among `windows` whose risk over the run stays
/// within `risk`; none if none does.
pub fn control(p: &[f64], windows: &[u32], budget: u32, risk: f64) -> Option<(u32, f64)> {
    (windows.iter().filter(|&&w| w > 0 && w <= budget && affected(p, w, budget).1 <= risk))
        .map(|&w| (w, expected_samples(p, w, budget)))
        .min_by(|x, y| x.1.total_cmp(&y.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_control_scheme_has_its_published_values() {
        for (p, expected) in [
            (&[1.0][..], 5.0),
            (&[0.8, 0.2], 14.609_959_242_939_695),
            (&[0.6, 0.4], 29.625_875_817_222_16),
            (&[0.4, 0.3, 0.3], 37.948_652_214_516_27),
        ] {
            assert!((expected_samples(p, 5, 40) - expected).abs() < 1e-11, "{p:?}");
        }
        for (p, normal, window, run) in [
            ([0.8, 0.2], 3.872_108_2e-6, 3.2e-4, 9.350_4e-4),
            ([0.6, 0.4], 0.003_084_949_7, 0.010_24, 0.060_673_8),
        ] {
            assert!((affected_normal(&p, 5) / normal - 1.0).abs() < 1e-6);
            let (one, all) = affected(&p, 5, 40);
            assert!((one - window).abs() < 1e-15 && (all - run).abs() < 1e-7, "{one} {all}");
        }
        assert_eq!(control(&[0.8, 0.2], &[4, 5, 8], 40, 1e-3).map(|c| c.0), Some(5));
        assert_eq!(control(&[0.5, 0.5], &[4, 5, 8], 40, 1e-9), None);
    }

    #[test]
    fn a_window_is_judged_at_its_end_and_broken_by_an_abstention() {
        let mut tally = Tally::default();
        for key in [0, 1, 1, 1, 1] {
            tally.cast(key);
        }
        assert!(!stops(&tally, 5) && !stops(&tally, 4));
        assert_eq!((need(&tally, 5), need(&tally, 4)), (5, 3));
        (0..5).for_each(|_| tally.cast(1));
        assert!(stops(&tally, 5));
        let mut tally = Tally::default();
        tally.cast(0);
        tally.abstain();
        assert_eq!(need(&tally, 3), 4);
        tally.cast(0);
        assert!(!stops(&tally, 3));
    }
}
