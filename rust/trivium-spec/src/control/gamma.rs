//! Beta variates from counter-based noise: a ratio of two gamma variates by Marsaglia and Tsang.

use trivium_core::{Address, Purpose};

/// Uniforms of [`Purpose::Control`] at one address, counting up from a draw number.
#[derive(Debug, Clone, Copy)]
pub struct Uniforms {
    noise: Address,
    at: u32,
}

impl Uniforms {
    /// From draw number `first` on.
    pub fn new(noise: Address, first: u32) -> Self {
        Self { noise, at: first }
    }

    /// In (0, 1).
    pub fn uniform(&mut self) -> f64 {
        let u = self.noise.uniform(Purpose::Control, self.at);
        self.at = self.at.wrapping_add(1);
        u.max(1e-300)
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// A gamma variate of positive shape; below one by the power of a uniform.
    pub fn gamma(&mut self, shape: f64) -> f64 {
        if shape < 1.0 {
            let boost = self.uniform().powf(1.0 / shape);
            return self.gamma(shape + 1.0) * boost;
        }
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let v = (1.0 + c * x).powi(3);
            if v > 0.0 && self.uniform().ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                return d * v;
            }
        }
    }

    /// A beta variate of positive parameters.
    pub fn beta(&mut self, a: f64, b: f64) -> f64 {
        let (x, y) = (self.gamma(a), self.gamma(b));
        if x + y > 0.0 { x / (x + y) } else { 0.5 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean and variance of Beta(a, b): 20,000 fixed draws, bounds of 6.5 standard errors (below
    /// 1e-10 a bound; the variance's standard error is at most that of a variable in [0, 1/4]).
    #[test]
    fn beta_variates_have_their_moments() {
        const N: u32 = 20_000;
        for (a, b) in [(1.0, 1.0), (0.3, 0.7), (8.0, 2.0), (40.0, 60.0)] {
            let draws: Vec<f64> =
                (0..N).map(|i| Uniforms::new(Address::new(3, i, 0), 0).beta(a, b)).collect();
            let n = f64::from(N);
            let (m, v): (f64, f64) = (a / (a + b), a * b / ((a + b) * (a + b) * (a + b + 1.0)));
            let mean = draws.iter().sum::<f64>() / n;
            let var = draws.iter().map(|x| (x - m) * (x - m)).sum::<f64>() / n;
            assert!((mean - m).abs() < 6.5 * (v / n).sqrt(), "{a} {b}: {mean}");
            assert!((var - v).abs() < 6.5 * (v * 0.25 / n).sqrt(), "{a} {b}: {var} {v}");
        }
    }
}
