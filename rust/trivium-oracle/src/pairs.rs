//! Pairs of laws, target and draft, for every prefix: random, adversarial and constant.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use trivium_core::TokenId;
use trivium_core::rng::philox;

/// How the two laws of a prefix are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Dirichlet with concentration 0.3: peaked.
    Dirichlet03,
    /// Dirichlet with concentration 1: anywhere on the simplex.
    Dirichlet10,
    /// `p = q`.
    Equal,
    /// `p = q` up to the rounding of f32 weights: `q` is a multiple.
    Rescaled,
    /// Supports that do not meet.
    Disjoint,
    /// Zeros in `p`, never all.
    HolesInP,
    /// Zeros in `q`, never all.
    HolesInQ,
    /// One token has all of `p`.
    OneHotP,
    /// One token has all of `q`.
    OneHotQ,
    /// `p = (1/n, ...)`, `q` in two levels: ties everywhere.
    Tied,
    /// `p / q` equal for all tokens but one.
    EqualRatios,
    /// Weights down to the denormals of f32, on either side.
    Denormal,
}

/// All families.
pub const FAMILIES: [Family; 12] = [
    Family::Dirichlet10,
    Family::Dirichlet03,
    Family::Equal,
    Family::Rescaled,
    Family::Disjoint,
    Family::HolesInP,
    Family::HolesInQ,
    Family::OneHotP,
    Family::OneHotQ,
    Family::Tied,
    Family::EqualRatios,
    Family::Denormal,
];

/// A stream of uniforms from a key.
struct Uniforms {
    key: [u32; 2],
    at: u32,
}

impl Uniforms {
    /// In (0, 1).
    fn next(&mut self) -> f64 {
        self.at += 1;
        (f64::from(philox([self.at, 3, 1, 4], self.key)[0]) + 0.5) / 4_294_967_296.0
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * self.next().ln()).sqrt() * (std::f64::consts::TAU * self.next()).cos()
    }

    /// Marsaglia and Tsang's gamma variate; shapes below one by the power of a uniform.
    fn gamma(&mut self, shape: f64) -> f64 {
        if shape < 1.0 {
            let boost = self.next().powf(1.0 / shape);
            return self.gamma(shape + 1.0) * boost;
        }
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let v = (1.0 + c * x).powi(3);
            if v > 0.0 && self.next().ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                return d * v;
            }
        }
    }
}

/// Rows of weights, shared.
pub type RowRc = Rc<[f32]>;

/// A pair of models over one vocabulary.
#[derive(Debug)]
pub struct Pair {
    /// Vocabulary size.
    pub vocab: usize,
    make: Make,
    cache: RefCell<BTreeMap<Vec<TokenId>, (RowRc, RowRc)>>,
}

#[derive(Debug, Clone)]
enum Make {
    Hashed { seed: u32, family: Family },
    Constant(RowRc, RowRc),
}

impl Pair {
    /// Laws that depend on the whole prefix.
    pub fn hashed(vocab: usize, seed: u32, family: Family) -> Self {
        Self { vocab, make: Make::Hashed { seed, family }, cache: RefCell::default() }
    }

    /// The same two laws everywhere, as weights of any sum.
    pub fn constant(p: &[f32], q: &[f32]) -> Self {
        let make = Make::Constant(p.into(), q.into());
        Self { vocab: p.len(), make, cache: RefCell::default() }
    }

    /// Target and draft weights after a prefix.
    pub fn rows(&self, prefix: &[TokenId]) -> (RowRc, RowRc) {
        match &self.make {
            Make::Constant(p, q) => (p.clone(), q.clone()),
            Make::Hashed { seed, family } => {
                if let Some(rows) = self.cache.borrow().get(prefix) {
                    return rows.clone();
                }
                let (p, q) = hashed(self.vocab, *seed, *family, prefix);
                let rows: (RowRc, RowRc) = (p.into(), q.into());
                self.cache.borrow_mut().insert(prefix.to_vec(), rows.clone());
                rows
            }
        }
    }

    /// Target probabilities after a prefix, in f64.
    pub fn p(&self, prefix: &[TokenId]) -> Vec<f64> {
        normalised(&self.rows(prefix).0)
    }

    /// Draft probabilities after a prefix, in f64.
    pub fn q(&self, prefix: &[TokenId]) -> Vec<f64> {
        normalised(&self.rows(prefix).1)
    }
}

/// Weights over their sum.
pub fn normalised(weights: &[f32]) -> Vec<f64> {
    let total: f64 = weights.iter().map(|&w| f64::from(w)).sum();
    weights.iter().map(|&w| f64::from(w) / total).collect()
}

fn hashed(vocab: usize, seed: u32, family: Family, prefix: &[TokenId]) -> (Vec<f32>, Vec<f32>) {
    let key = prefix.iter().fold([seed, 0x9e37_79b9], |key, &t| {
        let [a, b, ..] = philox([t, 5, 6, 7], key);
        [a, b]
    });
    let mut u = Uniforms { key, at: 0 };
    let mut dirichlet = |a: f64| -> Vec<f32> {
        let x: Vec<f64> = (0..vocab).map(|_| u.gamma(a)).collect();
        let total: f64 = x.iter().sum();
        x.iter().map(|x| (x / total) as f32).collect()
    };
    let (mut p, mut q) = match family {
        Family::Dirichlet03 => (dirichlet(0.3), dirichlet(0.3)),
        _ => (dirichlet(1.0), dirichlet(1.0)),
    };
    let chosen = philox([1, 2, 3, 4], key)[0] as usize % vocab;
    let one_hot = |row: &mut Vec<f32>| {
        row.fill(0.0);
        row[chosen] = 1.0;
    };
    let holes = |row: &mut Vec<f32>, salt: u32| {
        for (t, w) in row.iter_mut().enumerate() {
            if t != chosen && philox([t as u32, salt, 0, 0], key)[0].is_multiple_of(2) {
                *w = 0.0;
            }
        }
    };
    match family {
        Family::Dirichlet03 | Family::Dirichlet10 => {}
        Family::Equal => q.clone_from(&p),
        Family::Rescaled => q = p.iter().map(|w| w * 0.3).collect(),
        Family::Disjoint => {
            for t in 0..vocab {
                if (t + chosen).is_multiple_of(2) { p[t] = 0.0 } else { q[t] = 0.0 }
            }
        }
        Family::HolesInP => holes(&mut p, 8),
        Family::HolesInQ => holes(&mut q, 9),
        Family::OneHotP => one_hot(&mut p),
        Family::OneHotQ => one_hot(&mut q),
        Family::Tied => {
            p.fill(1.0);
            for (t, w) in q.iter_mut().enumerate() {
                *w = if (t + chosen).is_multiple_of(2) { 2.0 } else { 1.0 };
            }
        }
        Family::EqualRatios => {
            q.clone_from(&p);
            q[chosen] = 0.25 * p[chosen] + 0.1;
        }
        Family::Denormal => {
            for t in 0..vocab {
                if t != chosen {
                    p[t] *= 1e-38;
                }
                if !t.is_multiple_of(2) && t != chosen {
                    q[t] *= 1e-43;
                }
            }
        }
    }
    // A support can vanish in f32: keep every row a law.
    if p.iter().all(|&w| w == 0.0) {
        p[chosen] = 1.0;
    }
    if q.iter().all(|&w| w == 0.0) {
        q[(chosen + 1) % vocab] = 1.0;
    }
    (p, q)
}
