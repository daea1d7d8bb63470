//! CLaSp's dynamic programme: skip M of L layers so that the hidden state stays close.
//!
//! After a verification the full model's hidden states h*_1 .. h*_L at the last accepted token are
//! known. State (ℓ, m) holds one hidden vector after ℓ layers, m of them skipped:
//!
//! ```text
//! g[ℓ + 1, m] = the closer to h*_{ℓ+1} of  f_{ℓ+1}(g[ℓ, m])   (the layer runs)
//!                                     and  g[ℓ, m - 1]        (the layer is skipped)
//! ```
//!
//! closeness being cosine similarity. The host evaluates one layer on M + 1 vectors at a time and
//! reports both similarities; here are the decisions, L (M + 1) bits, and the way back from (L, M).
//! One vector a state makes it a heuristic: the best set of a prefix need not be part of the best
//! set. "CLaSp: In-Context Layer Skip for Self-Speculative Decoding".

use trivium_core::error::{Error, Result};

/// Decisions so far.
#[derive(Debug, Clone)]
pub struct LayerDp {
    layers: usize,
    skips: usize,
    /// By layer and m: whether the better way to (ℓ, m) skips layer ℓ.
    skipped: Vec<Vec<bool>>,
}

impl LayerDp {
    /// Skip `skips` of `layers` layers.
    ///
    /// # Errors
    /// `InvalidInput` unless at least one layer runs.
    pub fn new(layers: usize, skips: usize) -> Result<Self> {
        if skips >= layers {
            return Err(Error::input("skips", format!("{skips} of {layers} layers leave none")));
        }
        Ok(Self { layers, skips, skipped: Vec::with_capacity(layers) })
    }

    /// The next layer: `run[m]` and `copy[m]`, m in 0..=M, are the similarities to h* of f(g[ℓ, m])
    /// and of g[ℓ, m - 1]. States that no choice of layers reaches are ignored whatever they say.
    /// Returns for every m whether g[ℓ + 1, m] is the copy; on ties the layer runs.
    ///
    /// # Errors
    /// `InvalidInput` for wrong lengths or NaN in a reachable state, `StateMismatch` after the last
    /// layer. Nothing changes then.
    pub fn layer(&mut self, run: &[f64], copy: &[f64]) -> Result<&[bool]> {
        let done = self.skipped.len();
        if done == self.layers {
            return Err(Error::state("layer", "a layer that is left", "all are done"));
        }
        if run.len() != self.skips + 1 || copy.len() != self.skips + 1 {
            return Err(Error::input("similarities", format!("need {} a layer", self.skips + 1)));
        }
        let mut row = vec![false; self.skips + 1];
        for (m, choice) in row.iter_mut().enumerate() {
            // (ℓ, m) is reachable iff m <= ℓ.
            let (runs, copies) = (m <= done, m >= 1 && m <= done + 1);
            let nan = (runs && run[m].is_nan()) || (copies && copy[m].is_nan());
            if nan {
                return Err(Error::input("similarities", format!("NaN at m = {m}")));
            }
            *choice = copies && (!runs || copy[m] > run[m]);
        }
        self.skipped.push(row);
        Ok(&self.skipped[done])
    }

    /// The layers to skip, in order.
    ///
    /// # Errors
    /// `StateMismatch` before the last layer.
    pub fn skip_set(&self) -> Result<Vec<usize>> {
        if self.skipped.len() != self.layers {
            return Err(Error::state(
                "skip_set",
                format!("{} layers", self.layers),
                self.skipped.len().to_string(),
            ));
        }
        let mut m = self.skips;
        let mut out = Vec::with_capacity(m);
        for layer in (0..self.layers).rev() {
            if self.skipped[layer][m] {
                out.push(layer);
                m -= 1;
            }
        }
        out.reverse();
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: usize = 4;
    type V = [f64; D];

    fn noise(i: u32, seed: u32) -> f64 {
        f64::from(trivium_core::rng::philox([i, 1, 2, 3], [seed, 9])[0]) / f64::from(u32::MAX) - 0.5
    }

    /// Layers as in a residual network: x + a small non-linear function of x.
    fn layer(seed: u32, l: usize, x: V) -> V {
        std::array::from_fn(|i| {
            let sum: f64 = (0..D).map(|j| noise((l * 16 + i * 4 + j) as u32, seed) * x[j]).sum();
            x[i] + (2.0 * sum).tanh()
        })
    }

    fn cosine(a: V, b: V) -> f64 {
        let dot = |x: V, y: V| x.iter().zip(y).map(|(a, b)| a * b).sum::<f64>();
        dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
    }

    /// The recurrence, recursively: the vector of (ℓ, m) and its skipped layers.
    fn direct(seed: u32, x: V, full: &[V], l: usize, m: usize) -> Option<(V, Vec<usize>)> {
        if m > l {
            return None;
        }
        if l == 0 {
            return Some((x, vec![]));
        }
        let run = direct(seed, x, full, l - 1, m).map(|(v, s)| (layer(seed, l - 1, v), s));
        let copy =
            m.checked_sub(1).and_then(|m| direct(seed, x, full, l - 1, m)).map(|(v, mut s)| {
                s.push(l - 1);
                (v, s)
            });
        match (run, copy) {
            (Some(r), Some(c)) => {
                let near = |v: &V| cosine(*v, full[l - 1]);
                Some(if near(&c.0) > near(&r.0) { c } else { r })
            }
            (r, c) => r.or(c),
        }
    }

    #[test]
    fn equals_the_recurrence_and_stays_below_brute_force() {
        for seed in 0..60 {
            let (layers, skips) = (6, 1 + seed as usize % 4);
            let x: V = std::array::from_fn(|i| noise(i as u32, seed + 1000));
            let mut full = Vec::new();
            (0..layers).fold(x, |v, l| {
                full.push(layer(seed, l, v));
                full[l]
            });
            let mut dp = LayerDp::new(layers, skips).unwrap();
            let mut states: Vec<Option<V>> = vec![None; skips + 1];
            states[0] = Some(x);
            for (l, &h) in full.iter().enumerate() {
                let ran: Vec<Option<V>> =
                    states.iter().map(|s| s.map(|v| layer(seed, l, v))).collect();
                let near = |v: Option<V>| v.map_or(f64::NAN, |v| cosine(v, h));
                let run: Vec<f64> = ran.iter().map(|v| near(*v)).collect();
                let copy: Vec<f64> =
                    (0..=skips).map(|m| near(m.checked_sub(1).and_then(|m| states[m]))).collect();
                let choice = dp.layer(&run, &copy).unwrap().to_vec();
                states =
                    (0..=skips).map(|m| if choice[m] { states[m - 1] } else { ran[m] }).collect();
            }
            let got = dp.skip_set().unwrap();
            let (vector, want) = direct(seed, x, &full, layers, skips).unwrap();
            assert_eq!(got, want);
            assert_eq!(states[skips], Some(vector));
            // No set of that size reaches further than the best of all.
            let reached = cosine(vector, full[layers - 1]);
            let best = (0u32..1 << layers)
                .filter(|s| s.count_ones() as usize == skips)
                .map(|s| {
                    let v = (0..layers)
                        .fold(x, |v, l| if s >> l & 1 == 1 { v } else { layer(seed, l, v) });
                    cosine(v, full[layers - 1])
                })
                .fold(f64::NEG_INFINITY, f64::max);
            assert!(reached <= best + 1e-12);
        }
    }

    #[test]
    fn wrong_calls_change_nothing() {
        let mut dp = LayerDp::new(2, 1).unwrap();
        assert!(dp.skip_set().is_err());
        assert!(dp.layer(&[1.0], &[1.0]).is_err());
        assert!(dp.layer(&[f64::NAN, 0.0], &[0.0, 0.0]).is_err());
        dp.layer(&[1.0, f64::NAN], &[f64::NAN, 0.5]).unwrap();
        dp.layer(&[1.0, 0.9], &[f64::NAN, 0.8]).unwrap();
        assert_eq!(dp.skip_set().unwrap(), [0]);
        assert!(dp.layer(&[1.0, 1.0], &[1.0, 1.0]).is_err());
        assert!(LayerDp::new(2, 2).is_err());
    }
}
