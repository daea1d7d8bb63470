//! The two-component Weibull mixture behind reasoning pruning.
//!
//! Zhou et al., "Bridging Internal Probability and Self-Consistency for Effective and Efficient LLM
//! Reasoning" (RPC). The probabilities `p` of the paths of one question are modelled by
//!
//! ```text
//! f(x) = w f(x; k1, l1) + (1 - w) f(x; k2, l2)     f(x; k, l) = (k/l) (x/l)^(k-1) exp(-(x/l)^k)
//! ```
//!
//! with `w` in [0.2, 0.8], by maximum likelihood from `(0.5, 1, 1, 1.5, 2)`; component 1 is the one
//! with the larger mean `l Gamma(1 + 1/k)`. The likelihood has several maxima (and no bound where
//! probabilities repeat: `k` is kept below 1,000), so the fit descends twice, from the published
//! start and from the two halves of the sorted sample, and keeps the better: BFGS on the logarithms
//! of the parameters, `w` through a logistic, with analytic gradients.

use crate::numeric::ln_gamma;

/// A fitted mixture; component 1 has the larger mean.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mixture {
    /// Weight of component 1.
    pub w: f64,
    /// Shape and scale of component 1.
    pub first: (f64, f64),
    /// Shape and scale of component 2.
    pub second: (f64, f64),
    /// Negative log-likelihood.
    pub objective: f64,
}

const MAX_LN_SHAPE: f64 = 6.907_755;
const MIN_LN: f64 = -4.605_17;

impl Mixture {
    /// Fits probabilities in `(0, 1]`; none with fewer than three distinct values or where no finite
    /// fit is found.
    pub fn fit(p: &[f64]) -> Option<Self> {
        let logs: Vec<f64> = p.iter().map(|p| p.max(1e-300).ln()).collect();
        let mut sorted = logs.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let distinct = 1 + sorted.windows(2).filter(|pair| pair[0] != pair[1]).count();
        if p.is_empty() || distinct < 3 {
            return None;
        }
        let published = [0.0, 0.0, 0.0, 1.5f64.ln(), 2f64.ln()];
        let (low, high) = sorted.split_at(sorted.len() / 2);
        let half = |logs: &[f64]| {
            let mean = logs.iter().sum::<f64>() / logs.len() as f64;
            let var = logs.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / logs.len() as f64;
            // The logarithm of a Weibull variable has variance pi^2 / (6 k^2).
            let shape = (1.282_55 / var.sqrt().max(1e-3)).ln();
            [shape.clamp(MIN_LN, 6.0), mean + 0.577_2 / shape.exp()]
        };
        let (l, h) = (half(low), half(high));
        let starts = [published, [0.0, h[0], h[1], l[0], l[1]]];
        let fits = starts.map(|start| descend(&logs, start));
        let (objective, t) = fits.into_iter().min_by(|x, y| x.0.total_cmp(&y.0))?;
        if !objective.is_finite() {
            return None;
        }
        let (w, one, two) = (weight(t[0]), (t[1].exp(), t[2].exp()), (t[3].exp(), t[4].exp()));
        let mean = |(k, l): (f64, f64)| l * ln_gamma(1.0 + 1.0 / k).exp();
        Some(if mean(one) >= mean(two) {
            Self { w, first: one, second: two, objective }
        } else {
            Self { w: 1.0 - w, first: two, second: one, objective }
        })
    }

    /// Whether `x` is more likely of the component with the smaller mean.
    pub fn is_low(&self, x: f64) -> bool {
        let log =
            |(k, l): (f64, f64), w: f64| w.ln() + log_density(x.max(1e-300).ln(), k, l.ln()).0;
        log(self.first, self.w) < log(self.second, 1.0 - self.w)
    }
}

/// Which paths survive: those not `(low component and below the mean)`.
pub fn keep(p: &[f64]) -> Vec<bool> {
    let Some(fit) = Mixture::fit(p) else { return vec![true; p.len()] };
    let mean = p.iter().sum::<f64>() / p.len() as f64;
    p.iter().map(|&p| !(p < mean && fit.is_low(p))).collect()
}

fn weight(t: f64) -> f64 {
    0.2 + 0.6 / (1.0 + (-t).exp())
}

/// Log-density at `ln x`, and `z = (x / l)^k`.
fn log_density(x: f64, k: f64, ln_l: f64) -> (f64, f64) {
    let u = x - ln_l;
    let z = (k * u).exp();
    (k.ln() - x + k * u - z, z)
}

/// Negative log-likelihood and its gradient.
fn evaluate(logs: &[f64], t: &[f64; 5]) -> (f64, [f64; 5]) {
    let (k, m) = ([t[1].exp(), t[3].exp()], [t[2], t[4]]);
    let s = 1.0 / (1.0 + (-t[0]).exp());
    let w = 0.2 + 0.6 * s;
    let (lw, slope) = ([w.ln(), (1.0 - w).ln()], 0.6 * s * (1.0 - s));
    let ln_k = [t[1], t[3]];
    let (mut sum, mut product, mut g) = (0.0, 1.0f64, [0.0; 5]);
    for &x in logs {
        let mut log = [0.0; 2];
        let mut by = [[0.0; 2]; 2];
        for c in 0..2 {
            let ku = k[c] * (x - m[c]);
            let z = ku.min(700.0).exp();
            log[c] = lw[c] + ln_k[c] - x + ku - z;
            // Derivatives by ln k and by ln l.
            by[c] = [1.0 + ku * (1.0 - z), k[c] * (z - 1.0)];
        }
        // One of the two is 1.
        let top = log[0].max(log[1]);
        let less = (log[0].min(log[1]) - top).exp();
        let e = if log[0] >= log[1] { [1.0, less] } else { [less, 1.0] };
        let total = 1.0 + less;
        sum -= top;
        // Each factor is in [1, 2]: one logarithm for many of them.
        product *= total;
        if product > 1e280 {
            sum -= product.ln();
            product = 1.0;
        }
        let r = [e[0] / total, e[1] / total];
        g[0] -= slope * (r[0] / w - r[1] / (1.0 - w));
        for c in 0..2 {
            g[1 + 2 * c] -= r[c] * by[c][0];
            g[2 + 2 * c] -= r[c] * by[c][1];
        }
    }
    sum -= product.ln();
    // The bounds on the shapes, softly: beyond them the gradient points back.
    for i in [1, 3] {
        let over = (t[i] - MAX_LN_SHAPE).max(0.0) + (t[i] - MIN_LN).min(0.0);
        sum += 10.0 * over * over;
        g[i] += 20.0 * over;
    }
    (sum, g)
}

/// BFGS with backtracking.
fn descend(logs: &[f64], start: [f64; 5]) -> (f64, [f64; 5]) {
    let mut t = start;
    let (mut f, mut g) = evaluate(logs, &t);
    let identity = || {
        let mut h = [[0.0; 5]; 5];
        (0..5).for_each(|i| h[i][i] = 1.0 / logs.len() as f64);
        h
    };
    let mut h = identity();
    let dot = |x: &[f64; 5], y: &[f64; 5]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
    for _ in 0..200 {
        let mut step = [0.0; 5];
        for i in 0..5 {
            step[i] = -dot(&h[i], &g);
        }
        let mut slope = dot(&step, &g);
        if slope >= 0.0 || !slope.is_finite() {
            h = identity();
            step = g.map(|g| -g / logs.len() as f64);
            slope = dot(&step, &g);
        }
        let longest = step.iter().fold(0.0f64, |m, s| m.max(s.abs()));
        let mut scale = (2.0 / longest).min(1.0);
        let (mut next, mut found) = (t, None);
        for _ in 0..30 {
            for i in 0..5 {
                next[i] = t[i] + scale * step[i];
            }
            let (value, gradient) = evaluate(logs, &next);
            if value <= f + 1e-4 * scale * slope {
                found = Some((value, gradient));
                break;
            }
            scale *= 0.5;
        }
        let Some((value, gradient)) = found else { break };
        let mut s = [0.0; 5];
        let mut y = [0.0; 5];
        for i in 0..5 {
            s[i] = next[i] - t[i];
            y[i] = gradient[i] - g[i];
        }
        let gain = f - value;
        (t, f, g) = (next, value, gradient);
        let sy = dot(&s, &y);
        if sy > 1e-12 {
            let mut hy = [0.0; 5];
            for i in 0..5 {
                hy[i] = dot(&h[i], &y);
            }
            let yhy = dot(&y, &hy);
            for i in 0..5 {
                for j in 0..5 {
                    h[i][j] +=
                        (1.0 + yhy / sy) * s[i] * s[j] / sy - (hy[i] * s[j] + s[i] * hy[j]) / sy;
                }
            }
        }
        if gain < 1e-7 * (1.0 + f.abs()) {
            break;
        }
    }
    (f, t)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGS: [f64; 10] = [-0.10, -0.12, -0.45, -0.50, -0.48, -0.52, -0.11, -0.60, -0.47, -0.10];

    #[test]
    fn the_fit_has_its_published_values() {
        let p = LOGS.map(f64::exp);
        let fit = Mixture::fit(&p).unwrap();
        assert!(fit.objective <= -21.064_95 + 1e-4, "{fit:?}");
        assert!((fit.w - 0.4).abs() < 1e-3, "{fit:?}");
        assert!((fit.first.1 - 0.901_57).abs() < 1e-4 && (fit.second.1 - 0.617_56).abs() < 1e-4);
        assert!((fit.second.0 - 29.553_91).abs() < 0.05, "{fit:?}");
        let kept: Vec<usize> =
            keep(&p).iter().enumerate().filter(|(_, keep)| **keep).map(|(i, _)| i).collect();
        assert_eq!(kept, [0, 1, 6, 9]);
    }

    #[test]
    fn samples_without_two_modes_lose_nothing() {
        assert_eq!(keep(&[0.5, 0.5, 0.5]), [true; 3]);
        assert_eq!(keep(&[0.5]), [true]);
        assert_eq!(keep(&[]), [true; 0]);
        assert_eq!(keep(&[0.0, 0.0, 1.0]), [true; 3]);
    }
}
