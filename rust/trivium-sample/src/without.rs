//! Gumbel-top-k: k tokens without replacement, in order.
//!
//! Kool, van Hoof, Welling, "Stochastic Beams and Where to Find Them: The Gumbel-Top-k Trick for
//! Sampling Sequences Without Replacement" (ICML 2019). The k largest `z_v + g_v` are an ordered
//! sample from the law of Plackett and Luce, `P(i_1..i_k) = Π p_{i_j} / (1 - Σ_{l<j} p_{i_l})`. The
//! noise is the race's, so the first token is the one the race draws, and tokens of k are the first of
//! those of k + 1.
//!
//! With kappa the (k+1)-th largest key, token i is included with probability
//! `q_i = 1 - exp(-exp(phi_i - kappa))` given kappa, which makes `Σ_S p_i / q_i f(i)` unbiased.

use trivium_core::numerics::{gumbel, log_sum_exp};
use trivium_core::{Address, ScaledRow, TokenId};

/// One token of an ordered sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ranked {
    /// The token.
    pub token: TokenId,
    /// ln of its probability under the law.
    pub log_prob: f32,
    /// Its perturbed log-probability, `ln p + g`.
    pub key: f32,
    /// ln of its inclusion probability given the threshold; 0 where everything is included.
    pub log_inclusion: f32,
}

/// The `k` tokens of the largest keys, best first; fewer where the law has fewer. O(V) expected.
pub fn sample(row: &mut ScaledRow, k: usize, address: Address, out: &mut Vec<Ranked>) {
    out.clear();
    let log_total = f64::from(row.max()) + row.total().ln();
    if row.is_greedy() {
        let token = row.argmax();
        out.extend((k > 0).then_some(Ranked {
            token,
            log_prob: 0.0,
            key: 0.0,
            log_inclusion: 0.0,
        }));
        return;
    }
    // One more than asked for: its key is the threshold.
    let mut best: Vec<(f32, TokenId)> = Vec::with_capacity(k.saturating_add(1).min(1 << 16));
    let mut visit = |token: TokenId, x: f32, word: u32| {
        let key = x + gumbel(word);
        // Lowest id first among equals, as in the race.
        if best.len() <= k || best.last().is_some_and(|b| key > b.0) {
            let at = best.partition_point(|b| b.0 >= key);
            best.insert(at, (key, token));
            best.truncate(k + 1);
        }
    };
    if let Some(kept) = row.kept() {
        for &t in kept {
            visit(t, row.scaled()[t as usize], address.race_word(t));
        }
    } else {
        for (block, chunk) in row.scaled().chunks(4).enumerate() {
            if chunk.iter().all(|&x| x == f32::NEG_INFINITY) {
                continue;
            }
            let words = address.block(trivium_core::Purpose::Race, block as u32);
            for (lane, (&x, &w)) in chunk.iter().zip(&words).enumerate() {
                if x > f32::NEG_INFINITY {
                    visit((block * 4 + lane) as TokenId, x, w);
                }
            }
        }
    }
    let kappa = best.get(k).map(|b| f64::from(b.0) - log_total);
    out.extend(best.iter().take(k).map(|&(key, token)| {
        let phi = f64::from(row.scaled()[token as usize]) - log_total;
        Ranked {
            token,
            log_prob: phi as f32,
            key: (f64::from(key) - log_total) as f32,
            log_inclusion: kappa.map_or(0.0, |kappa| log_inclusion(phi - kappa) as f32),
        }
    }));
}

/// ln(1 - exp(-exp(d))); for very negative d it is d to first order.
fn log_inclusion(d: f64) -> f64 {
    if d < -30.0 { d } else { (-(-d.exp()).exp_m1()).ln() }
}

/// ln of the probability that an ordered sample is `tokens`; `-inf` where it cannot be.
pub fn log_prob(row: &ScaledRow, tokens: &[TokenId]) -> f64 {
    let total = log_sum_exp(row.scaled());
    let mut left = 1.0;
    let mut sum = 0.0;
    for (j, &t) in tokens.iter().enumerate() {
        let x = row.scaled().get(t as usize).copied().unwrap_or(f32::NEG_INFINITY);
        if tokens[..j].contains(&t) || x == f32::NEG_INFINITY {
            return f64::NEG_INFINITY;
        }
        let phi = f64::from(x) - total;
        sum += phi - f64::ln(left);
        left -= phi.exp();
        left = left.max(f64::MIN_POSITIVE);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use trivium_core::Draw;

    const P: [f64; 5] = [0.5, 0.25, 0.15, 0.07, 0.03];

    fn row() -> ScaledRow {
        let logits: Vec<f32> = P.iter().map(|p| p.ln() as f32).collect();
        let mut r = ScaledRow::new();
        r.load((&logits[..]).into(), None, 1.0).unwrap();
        r
    }

    /// Golden inclusion probabilities of decoding.md 2, from the law by enumeration.
    #[test]
    fn the_law_gives_the_golden_inclusion_probabilities() {
        let r = row();
        let mut inclusion = [0.0; 5];
        for i in 0..5u32 {
            for j in 0..5u32 {
                let p = log_prob(&r, &[i, j]).exp();
                inclusion[i as usize] += p;
                inclusion[j as usize] += p;
            }
        }
        for (got, want) in
            inclusion.iter().zip([0.808_000, 0.570_667, 0.365_929, 0.177_851, 0.077_552])
        {
            assert!((got - want).abs() < 2e-6, "{inclusion:?}");
        }
    }

    /// Chi-square over the 20 ordered pairs (19 degrees of freedom; 90 has p < 1e-10), and the
    /// unbiased estimator of a sum.
    #[test]
    fn pairs_follow_plackett_luce() {
        let mut r = row();
        let n = 60_000u32;
        let mut counts = [[0u32; 5]; 5];
        let mut out = Vec::new();
        let f = [1.0, -2.0, 3.0, 5.0, 11.0];
        let truth: f64 = P.iter().zip(f).map(|(p, f)| p * f).sum();
        let mut estimate = 0.0;
        for i in 0..n {
            sample(&mut r, 2, Address::new(5, i, 0), &mut out);
            counts[out[0].token as usize][out[1].token as usize] += 1;
            estimate += out
                .iter()
                .map(|x| f64::from(x.log_prob - x.log_inclusion).exp() * f[x.token as usize])
                .sum::<f64>();
        }
        let mut chi = 0.0;
        for i in 0..5u32 {
            for j in (0..5u32).filter(|&j| j != i) {
                let want = log_prob(&r, &[i, j]).exp() * f64::from(n);
                chi += (f64::from(counts[i as usize][j as usize]) - want).powi(2) / want;
            }
        }
        assert!(chi < 90.0, "{chi}");
        assert!((estimate / f64::from(n) - truth).abs() < 0.05, "{}", estimate / f64::from(n));
    }

    proptest! {
        #[test]
        fn the_first_is_the_race_and_k_nests(
            logits in prop::collection::vec(
                prop_oneof![6 => -8f32..8.0, 1 => Just(f32::NEG_INFINITY), 2 => Just(1.0)], 1..300),
            seed: u64, k in 1usize..20,
        ) {
            prop_assume!(logits.iter().any(|x| x.is_finite()));
            let mut r = ScaledRow::new();
            r.load((&logits[..]).into(), None, 1.0).unwrap();
            let a = Address::new(seed, 9, 0);
            let (mut small, mut large) = (vec![], vec![]);
            sample(&mut r, k, a, &mut small);
            sample(&mut r, k + 1, a, &mut large);
            prop_assert_eq!(small[0].token, r.draw(Draw::Race, a));
            let ids = |v: &[Ranked]| v.iter().map(|x| x.token).collect::<Vec<_>>();
            prop_assert_eq!(ids(&small), &ids(&large)[..small.len()]);
            prop_assert_eq!(small.len(), k.min(logits.iter().filter(|x| x.is_finite()).count()));
            prop_assert!(log_prob(&r, &ids(&small)).is_finite());
        }
    }
}
