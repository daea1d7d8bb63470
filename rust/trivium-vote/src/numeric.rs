//! Special functions that several rules share.

use std::sync::OnceLock;

/// `ln Gamma(x)` for `x > 0`, relative error of `Gamma` below 1e-13: Lanczos with `g = 7`, nine terms.
pub(crate) fn ln_gamma(x: f64) -> f64 {
    const C: [f64; 9] = [
        0.999_999_999_999_809_9,
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    if x < 0.5 {
        let reflected = (std::f64::consts::PI * x).sin().abs();
        return (std::f64::consts::PI / reflected).ln() - ln_gamma(1.0 - x);
    }
    let x = x - 1.0;
    let sum = C.iter().enumerate().skip(1).fold(C[0], |sum, (i, c)| sum + c / (x + i as f64));
    let t = x + 7.5;
    0.5 * (2.0 * std::f64::consts::PI).ln() + (x + 0.5) * t.ln() - t + sum.ln()
}

/// `I_x(a, b)`, the regularised incomplete beta function for real arguments, by Lentz's continued
/// fraction; relative error about 1e-12.
pub(crate) fn incomplete_beta(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta(1.0 - x, b, a);
    }
    let front = ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (-x).ln_1p();
    let guard = |v: f64| if v.abs() < 1e-300 { 1e-300 } else { v };
    let (mut c, mut d) = (1.0, 1.0 / guard(1.0 - (a + b) * x / (a + 1.0)));
    let mut h = d;
    for m in 1..1000 {
        let m = f64::from(m);
        for numerator in [
            m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0)),
        ] {
            d = 1.0 / guard(1.0 + numerator * d);
            c = guard(1.0 + numerator / c);
            h *= c * d;
        }
        if (c * d - 1.0).abs() < 1e-15 {
            break;
        }
    }
    front.exp() * h / a
}

/// The `x` with `I_x(a, b) = p`, by bisection.
pub(crate) fn inverse_beta(p: f64, a: f64, b: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..80 {
        let middle = 0.5 * (low + high);
        if incomplete_beta(middle, a, b) < p { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

/// `P(Z > z)` of a standard normal variable, relative error below 1e-10 for `z` up to 30: a series
/// below 3, a continued fraction above.
pub(crate) fn normal_tail(z: f64) -> f64 {
    if z < 0.0 {
        return 1.0 - normal_tail(-z);
    }
    let density = (-0.5 * z * z).exp() / (2.0 * std::f64::consts::PI).sqrt();
    if z < 3.0 {
        let (mut term, mut sum, mut k) = (z, z, 1.0);
        while term > sum * 1e-17 && term > 0.0 {
            k += 2.0;
            term *= z * z / k;
            sum += term;
        }
        0.5 - density * sum
    } else {
        let fraction = (1..200).rev().fold(0.0, |f, k| f64::from(k) / (z + f));
        density / (z + fraction)
    }
}

/// Nodes and weights of 96-point Gauss-Legendre quadrature on `[-1, 1]`.
pub(crate) fn gauss_legendre_96() -> &'static [(f64, f64)] {
    static TABLE: OnceLock<Vec<(f64, f64)>> = OnceLock::new();
    TABLE.get_or_init(|| {
        const N: i32 = 96;
        let legendre = |x: f64| {
            let (mut p, mut q) = (1.0, 0.0);
            for k in 1..=N {
                let k = f64::from(k);
                (p, q) = (((2.0 * k - 1.0) * x * p - (k - 1.0) * q) / k, p);
            }
            (p, f64::from(N) * (x * p - q) / (x * x - 1.0))
        };
        (0..N)
            .map(|i| {
                let at = std::f64::consts::PI * (f64::from(i) + 0.75) / (f64::from(N) + 0.5);
                let mut x = at.cos();
                for _ in 0..20 {
                    let (p, slope) = legendre(x);
                    x -= p / slope;
                }
                let slope = legendre(x).1;
                (x, 2.0 / ((1.0 - x * x) * slope * slope))
            })
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        assert!((ln_gamma(5.0) - 24f64.ln()).abs() < 1e-13);
        assert!((ln_gamma(0.5) - std::f64::consts::PI.sqrt().ln()).abs() < 1e-13);
        assert!((incomplete_beta(0.5, 1.0, 4.0) - 0.9375).abs() < 1e-12);
        assert!((incomplete_beta(0.5, 12.0, 21.0) - 0.944_907_917_408).abs() < 1e-11);
        assert!((inverse_beta(0.05, 8.0, 3.0) - 0.493_098_699_0).abs() < 1e-9);
        assert!((normal_tail(1.959_963_984_540_054) - 0.025).abs() < 1e-13);
        assert!((normal_tail(4.472_135_955) / 3.872_108_2e-6 - 1.0).abs() < 1e-6);
        let table = gauss_legendre_96();
        assert!((table.iter().map(|t| t.1).sum::<f64>() - 2.0).abs() < 1e-13);
        assert!((table.iter().map(|t| t.1 * t.0 * t.0).sum::<f64>() - 2.0 / 3.0).abs() < 1e-13);
    }
}
