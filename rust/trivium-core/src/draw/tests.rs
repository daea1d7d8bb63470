//! Draws against their twins and the law; bad rows.

use super::*;
use crate::rng::Address;
use proptest::prelude::*;

fn row(logits: &[f32]) -> ScaledRow {
    let mut r = ScaledRow::new();
    r.load(logits.into(), None, 1.0).unwrap();
    r
}

fn logit() -> impl Strategy<Value = f32> {
    prop_oneof![8 => -20f32..20.0, 1 => Just(f32::NEG_INFINITY), 1 => Just(0.0)]
}

proptest! {
    #[test]
    fn draws_equal_their_twins(
        logits in prop::collection::vec(logit(), 1..700), seed: u64, index: u32, u in 0f64..1.0,
    ) {
        prop_assume!(logits.iter().any(|x| x.is_finite()));
        let mut r = row(&logits);
        for u in [u, 0.0, 1.0 - f64::EPSILON / 2.0] {
            let t = r.draw_cdf(u);
            prop_assert_eq!(t, naive::draw_cdf(&logits, u));
            prop_assert!(logits[t as usize] > f32::NEG_INFINITY);
        }
        let a = Address::new(seed, index, 0);
        prop_assert_eq!(r.draw_race(a), naive::draw_race(&logits, a));
    }
}

proptest! {
    /// A sparse row is its dense twin in every sum and draw, bit for bit.
    #[test]
    fn sparse_rows_equal_dense_ones(
        logits in prop::collection::vec(logit(), 1..900), keep in prop::collection::vec(0u8..6, 900),
        again in prop::collection::vec(0u8..12, 900), seed: u64, u in 0f64..1.0,
        temperature in 0.2f32..3.0,
    ) {
        prop_assume!(logits.iter().any(|x| x.is_finite()));
        let mut r = row(&logits);
        let mut dense = logits.clone();
        for chosen in [keep, again] {
            let ids: Vec<u32> = (0..logits.len() as u32)
                .filter(|&t| chosen[t as usize] == 0 && r.scaled()[t as usize] > f32::NEG_INFINITY)
                .collect();
            prop_assume!(!ids.is_empty());
            r.keep(&ids).unwrap();
            for (t, x) in dense.iter_mut().enumerate() {
                if !ids.contains(&(t as u32)) {
                    *x = f32::NEG_INFINITY;
                }
            }
            if let Some(kept) = r.kept() {
                prop_assert_eq!(kept, &ids[..]);
            }
        }
        let mut d = row(&dense);
        r.rescale(temperature).unwrap();
        d.rescale(temperature).unwrap();
        prop_assert_eq!(r.scaled(), d.scaled());
        prop_assert_eq!((r.max(), r.argmax()), (d.max(), d.argmax()));
        prop_assert_eq!(r.total().to_bits(), d.total().to_bits());
        prop_assert_eq!(r.moments(), d.moments());
        prop_assert_eq!(r.draw_cdf(u), d.draw_cdf(u));
        let a = Address::new(seed, 3, 1);
        prop_assert_eq!(r.draw_race(a), d.draw_race(a));
        let (mut a, mut b) = (vec![], vec![]);
        r.collect_at_least(-2.0, &mut a);
        d.collect_at_least(-2.0, &mut b);
        prop_assert_eq!(a, b);
    }
}

#[test]
fn temperatures_do_not_overflow() {
    let mut r = ScaledRow::new();
    for allowed in [None, Some(&[7u32][..])] {
        r.load((&[1e38f32, 1e38, -1e38][..]).into(), allowed, 1e-3).unwrap();
        assert_eq!(r.probabilities(), [0.5, 0.5, 0.0]);
    }
    r.load((&[1e38f32, f32::NAN][..]).into(), None, 0.1).unwrap_err();
    r.load((&[f32::INFINITY, 0.0][..]).into(), None, 0.1).unwrap_err();
}

/// Chi-square on 5 tokens, both draws; 12.0 sigma of a chi-square with 4 degrees: p < 1e-9.
#[test]
fn draws_follow_the_law() {
    let p = [0.5f64, 0.25, 0.15, 0.07, 0.03];
    let logits: Vec<f32> = p.iter().map(|x| x.ln() as f32).collect();
    for draw in [Draw::Cdf, Draw::Race] {
        let mut r = row(&logits);
        let n = 40_000u32;
        let mut counts = [0u32; 5];
        for i in 0..n {
            counts[r.draw(draw, Address::new(11, i, 0)) as usize] += 1;
        }
        let chi: f64 = p
            .iter()
            .zip(counts)
            .map(|(p, c)| (f64::from(c) - p * f64::from(n)).powi(2) / (p * f64::from(n)))
            .sum();
        assert!(chi < 48.0, "{draw:?} {counts:?} {chi}");
    }
}

#[test]
fn bad_rows_are_typed_errors() {
    let mut r = ScaledRow::new();
    for bad in [f32::NAN, f32::INFINITY] {
        let e = r.load((&[0.0, bad][..]).into(), None, 1.0).unwrap_err();
        assert!(matches!(e, Error::InvalidInput { .. }), "{e}");
    }
    let e = r.load((&[f32::NEG_INFINITY; 3][..]).into(), None, 1.0).unwrap_err();
    assert!(matches!(e, Error::StateMismatch { .. }));
    let e = r.load((&[1.0, 2.0][..]).into(), Some(&[0]), 0.0).unwrap_err();
    assert!(matches!(e, Error::StateMismatch { .. }));
    assert!(r.load((&[1.0][..]).into(), None, f32::NAN).is_err());
    assert!(r.load((&[1.0][..]).into(), None, -1.0).is_err());
    r.load((&[1.0, 5.0][..]).into(), Some(&[1]), 0.0).unwrap();
    assert_eq!((r.argmax(), r.log_prob(0), r.log_prob(1)), (0, 0.0, f32::NEG_INFINITY));
}
