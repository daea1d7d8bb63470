//! Rows of probability as verifiers read them.
//!
//! A law is weights over their sum: `p(t) = w(t) / Σ w`, weights f32 as hosts keep them, every sum
//! and product in f64. Nothing here normalises a row in place; residuals stay unnormalised and are
//! drawn from by their own sum.
//!
//! Sums run over strided partial sums, added by halves at the end: one fixed order, whatever the
//! number of threads. A residual that is drawn from once is never written down: the sums of its
//! blocks find the block, and that block is computed again.

use trivium_core::error::{Error, Result};
use trivium_core::numerics::BLOCK;
use trivium_core::{Chance, Purpose, TokenId, simd};

/// How far a row of probabilities may be from summing to one.
pub const SUM_TOLERANCE: f64 = 1e-3;

/// One law over the vocabulary.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    weights: &'a [f32],
    /// 1 / Σ weights.
    scale: f64,
}

impl<'a> Row<'a> {
    /// Weights with their sum, which must be positive and finite.
    pub fn new(weights: &'a [f32], total: f64) -> Self {
        Self { weights, scale: 1.0 / total }
    }

    /// Weights of any positive sum.
    pub fn of(weights: &'a [f32]) -> Self {
        Self::new(weights, sum(weights))
    }

    /// A row that a host claims to be probabilities.
    ///
    /// # Errors
    /// `InvalidInput` naming the row for NaN, infinite or negative entries and for sums that are
    /// not one within [`SUM_TOLERANCE`].
    pub fn checked(weights: &'a [f32], what: &'static str, row: usize) -> Result<Self> {
        Ok(Self::new(weights, Self::check(weights, what, row)?))
    }

    /// The sum of such a row.
    fn check(weights: &[f32], what: &'static str, row: usize) -> Result<f64> {
        let total = simd::row_sum(weights).unwrap_or(f64::NAN);
        if !total.is_finite() {
            let bad = weights.iter().position(|w| !(*w >= 0.0 && w.is_finite())).unwrap_or(0);
            return Err(Error::input(
                what,
                format!(
                    "row {row}: entry {bad} is {}; probabilities are finite and not negative",
                    weights[bad]
                ),
            ));
        }
        if (total - 1.0).abs() > SUM_TOLERANCE {
            return Err(Error::input(
                what,
                format!("row {row} sums to {total}; it must be a law (1 within {SUM_TOLERANCE})"),
            ));
        }
        Ok(total)
    }

    /// The unnormalised weights.
    pub fn weights(&self) -> &'a [f32] {
        self.weights
    }

    /// What makes weights probabilities.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// Probability of a token.
    #[inline]
    pub fn at(&self, token: TokenId) -> f64 {
        f64::from(self.weights[token as usize]) * self.scale
    }

    /// Natural log-probability of a token.
    pub fn log(&self, token: TokenId) -> f32 {
        self.at(token).ln() as f32
    }
}

/// Adds eight lanes of terms in the frozen order.
#[inline]
fn lanes(n: usize, mut term: impl FnMut(usize) -> f64) -> f64 {
    let mut acc = [0f64; 8];
    let whole = n - n % 8;
    let mut i = 0;
    while i < whole {
        for (l, a) in acc.iter_mut().enumerate() {
            *a += term(i + l);
        }
        i += 8;
    }
    for (l, a) in acc.iter_mut().enumerate().take(n - whole) {
        *a += term(whole + l);
    }
    let [a, b, c, d, e, f, g, h] = acc;
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

/// Σ w.
pub(crate) fn sum(weights: &[f32]) -> f64 {
    simd::row_sum(weights).unwrap_or(f64::NAN)
}

/// `Σ (a p - q)+`, one read of each row.
pub(crate) fn excess(a: f64, p: Row<'_>, q: Row<'_>) -> f64 {
    simd::row_excess(p.weights, a * p.scale, q.weights, q.scale)
}

/// A draw from `(a p - q)+`, one read of each row; `None` where it has no mass (p = q up to
/// rounding). `sums` is a buffer.
pub(crate) fn draw_excess(
    a: f64,
    p: Row<'_>,
    q: Row<'_>,
    index: u32,
    chance: &mut dyn Chance,
    sums: &mut Vec<f64>,
) -> Option<TokenId> {
    sums.clear();
    let (ps, qs) = (a * p.scale, q.scale);
    simd::excess_sums(p.weights, ps, q.weights, qs, sums);
    if sums.iter().sum::<f64>() <= 0.0 {
        return None;
    }
    let mut fill = |b: usize, out: &mut [f64; BLOCK]| {
        let (p, q) = (block(p.weights, b), block(q.weights, b));
        for ((o, &p), &q) in out.iter_mut().zip(p).zip(q) {
            *o = (f64::from(p) * ps - f64::from(q) * qs).max(0.0);
        }
        p.len()
    };
    Some(chance.categorical_blocks(index, Purpose::Residual, sums, &mut fill) as TokenId)
}

/// The weights of one block.
fn block(weights: &[f32], b: usize) -> &[f32] {
    &weights[b * BLOCK..weights.len().min((b + 1) * BLOCK)]
}

/// `Σ (a p - s)+` with `s` in f64.
pub(crate) fn excess64(a: f64, p: Row<'_>, s: &[f64]) -> f64 {
    let n = p.weights.len().min(s.len());
    let (pw, s, ps) = (&p.weights[..n], &s[..n], a * p.scale);
    lanes(n, |i| (f64::from(pw[i]) * ps - s[i]).max(0.0))
}

/// `out = (a p - q)+`; returns its sum.
pub(crate) fn residual(out: &mut Vec<f64>, a: f64, p: Row<'_>, q: Row<'_>) -> f64 {
    let n = p.weights.len().min(q.weights.len());
    out.clear();
    out.resize(n, 0.0);
    let (pw, qw) = (&p.weights[..n], &q.weights[..n]);
    let (ps, qs) = (a * p.scale, q.scale);
    let out = &mut out[..n];
    lanes(n, |i| {
        let r = (f64::from(pw[i]) * ps - f64::from(qw[i]) * qs).max(0.0);
        out[i] = r;
        r
    })
}

/// `r = (r ρ - s σ)+` in place; returns its sum.
pub(crate) fn subtract(r: &mut [f64], rho: f64, s: &[f64], sigma: f64) -> f64 {
    let n = r.len().min(s.len());
    let (r, s) = (&mut r[..n], &s[..n]);
    lanes(n, |i| {
        let x = (r[i] * rho - s[i] * sigma).max(0.0);
        r[i] = x;
        x
    })
}

/// `r = (r ρ - q)+` in place; returns its sum.
pub(crate) fn subtract_row(r: &mut [f64], rho: f64, q: Row<'_>) -> f64 {
    let n = r.len().min(q.weights.len());
    let (r, qw, qs) = (&mut r[..n], &q.weights[..n], q.scale);
    lanes(n, |i| {
        let x = (r[i] * rho - f64::from(qw[i]) * qs).max(0.0);
        r[i] = x;
        x
    })
}

/// The law as f64 probabilities; returns their sum.
pub(crate) fn widen(out: &mut Vec<f64>, row: Row<'_>) -> f64 {
    out.clear();
    out.extend(row.weights.iter().map(|&w| f64::from(w) * row.scale));
    lanes(out.len(), |i| out[i])
}

/// Sum of f64 weights.
pub(crate) fn sum64(x: &[f64]) -> f64 {
    lanes(x.len(), |i| x[i])
}

/// Where a verifier reads the laws of one request's tree. Nodes are local; `path` are the drafted
/// tokens from node 0 (excluded) to the node.
pub trait Laws {
    /// Width of the rows.
    fn vocab(&self) -> usize;

    /// The target law after `path`.
    ///
    /// # Errors
    /// As documented by the implementation.
    fn p(&mut self, node: usize, path: &[TokenId]) -> Result<Row<'_>>;

    /// The target law and the law that the children of `node` were drawn from.
    ///
    /// # Errors
    /// `InvalidInput` where there is no row of `q`; as [`p`](Self::p).
    fn both(&mut self, node: usize, path: &[TokenId]) -> Result<(Row<'_>, Row<'_>)>;

    /// The ordinary draw of the target at the absolute `index`, as the plain loop makes it, and its
    /// log-probability.
    ///
    /// # Errors
    /// As [`p`](Self::p).
    fn target(
        &mut self,
        node: usize,
        path: &[TokenId],
        index: u32,
        chance: &mut dyn Chance,
    ) -> Result<(TokenId, f32)>;
}

/// Rows of probabilities in memory.
#[derive(Debug, Clone)]
pub struct ProbRows<'a> {
    p: &'a [f32],
    q: Option<&'a [f32]>,
    vocab: usize,
    /// Whether rows must sum to one, or may be any weights.
    claimed: bool,
    /// Sums of the rows of `p` and `q` that were read, NaN where not: rules come back to rows.
    totals: [Vec<f64>; 2],
    /// Sums of the blocks of a row that is drawn from.
    sums: Vec<f64>,
}

impl<'a> ProbRows<'a> {
    /// Probabilities `[n, vocab]`; each row that is read is checked.
    ///
    /// # Errors
    /// `InvalidInput` for shapes that do not fit.
    pub fn new(p: &'a [f32], q: Option<&'a [f32]>, vocab: usize) -> Result<Self> {
        if vocab == 0 || !p.len().is_multiple_of(vocab) || q.is_some_and(|q| q.len() != p.len()) {
            return Err(Error::input(
                "rows",
                format!(
                    "{} target and {:?} draft entries are no rows of {vocab}",
                    p.len(),
                    q.map(<[f32]>::len)
                ),
            ));
        }
        let rows = vec![f64::NAN; p.len() / vocab];
        let totals = if q.is_some() { [rows.clone(), rows] } else { [rows, Vec::new()] };
        Ok(Self { p, q, vocab, claimed: true, totals, sums: Vec::new() })
    }

    /// Checks one row that a host claims to be probabilities.
    ///
    /// # Errors
    /// As [`Row::checked`].
    pub fn check(row: &[f32]) -> Result<()> {
        Row::check(row, "rows", 0).map(|_| ())
    }

    /// Weights of any positive sum: the oracle's rows.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn weights(p: &'a [f32], q: Option<&'a [f32]>, vocab: usize) -> Result<Self> {
        Ok(Self { claimed: false, ..Self::new(p, q, vocab)? })
    }

    /// Row `node` of `p`, or of `q`; summed and checked when it is read first.
    fn row(&mut self, rows: &'a [f32], of_p: bool, node: usize) -> Result<Row<'a>> {
        let what = if of_p { "p" } else { "q" };
        let row = rows.get(node * self.vocab..(node + 1) * self.vocab).ok_or_else(|| {
            Error::input(what, format!("has no row {node}; row i belongs to node i"))
        })?;
        let total = &mut self.totals[usize::from(!of_p)][node];
        if total.is_nan() {
            *total = if self.claimed { Row::check(row, what, node)? } else { sum(row) };
        }
        Ok(Row::new(row, *total))
    }
}

impl Laws for ProbRows<'_> {
    fn vocab(&self) -> usize {
        self.vocab
    }

    fn p(&mut self, node: usize, _path: &[TokenId]) -> Result<Row<'_>> {
        self.row(self.p, true, node)
    }

    fn both(&mut self, node: usize, _path: &[TokenId]) -> Result<(Row<'_>, Row<'_>)> {
        let q = self.q.ok_or_else(|| {
            Error::input(
                "q",
                "is missing; this verifier tests tokens against the law they came from",
            )
        })?;
        Ok((self.row(self.p, true, node)?, self.row(q, false, node)?))
    }

    fn target(
        &mut self,
        node: usize,
        _path: &[TokenId],
        index: u32,
        chance: &mut dyn Chance,
    ) -> Result<(TokenId, f32)> {
        let row = self.row(self.p, true, node)?;
        self.sums.clear();
        simd::block_totals(row.weights, &mut self.sums);
        let mut fill = |b: usize, out: &mut [f64; BLOCK]| {
            let weights = block(row.weights, b);
            out.iter_mut().zip(weights).for_each(|(o, &w)| *o = f64::from(w));
            weights.len()
        };
        let token = chance.categorical_blocks(index, Purpose::Cdf, &self.sums, &mut fill);
        Ok((token as TokenId, row.log(token as TokenId)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_are_no_laws_are_named() {
        for bad in [[0.5, f32::NAN], [0.5, -0.5], [0.5, f32::INFINITY], [0.5, 0.2], [0.0, 0.0]] {
            let e = Row::checked(&bad, "p", 7).unwrap_err().to_string();
            assert!(e.contains("row 7"), "{e}");
        }
        assert!(Row::checked(&[0.25, 0.75], "p", 0).is_ok());
    }

    #[test]
    fn sums_cover_every_tail() {
        for n in 0..40 {
            let p: Vec<f32> = (0..n).map(|i| i as f32 + 1.0).collect();
            let q: Vec<f32> = (0..n).map(|i| ((i * 7) % 5) as f32 + 0.5).collect();
            let want: f64 = p.iter().map(|&x| f64::from(x)).sum();
            assert!((sum(&p) - want).abs() < 1e-9);
            if n > 0 {
                let (p, q) = (Row::of(&p), Row::of(&q));
                let want: f64 = (0..n as u32).map(|t| (0.7 * p.at(t) - q.at(t)).max(0.0)).sum();
                let mut out = Vec::new();
                assert!((excess(0.7, p, q) - want).abs() < 1e-12);
                assert_eq!(residual(&mut out, 0.7, p, q), excess(0.7, p, q));
            }
        }
    }
}
