//! The four sampling parameters every stack has, as a [`TargetLaw`].

use crate::pipeline::with_scratch;
use crate::rules::{apply_min_p, apply_top_k, apply_top_p};
use trivium_core::error::{Error, Result};
use trivium_core::law::PlainLaw;
use trivium_core::{LogitsRow, ScaledRow, TargetLaw, TokenId};

/// Temperature and truncation of one request. Plain data; defaults are neutral.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Params {
    /// Below `1e-5`: greedy, lowest id on ties.
    pub temperature: f32,
    /// 0: off.
    pub top_k: usize,
    /// 1: off. Evaluated on what top-k kept, renormalised.
    pub top_p: f32,
    /// 0: off.
    pub min_p: f32,
}

impl Default for Params {
    fn default() -> Self {
        Self { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0 }
    }
}

impl Params {
    /// Checks the ranges.
    ///
    /// # Errors
    /// `InvalidInput` naming the parameter and its range.
    pub fn check(self) -> Result<Self> {
        let range = |what: &str, x: f32, ok: bool, range: &str| {
            if ok { Ok(()) } else { Err(Error::input(what, format!("{x} is outside {range}"))) }
        };
        let t = self.temperature;
        range("temperature", t, (0.0..f32::INFINITY).contains(&t), "[0, inf)")?;
        range("top_p", self.top_p, self.top_p > 0.0 && self.top_p <= 1.0, "(0, 1]")?;
        range("min_p", self.min_p, (0.0..=1.0).contains(&self.min_p), "[0, 1]")?;
        Ok(self)
    }

    /// Whether nothing of a row of this width is truncated.
    fn is_whole(self, width: usize) -> bool {
        (self.top_k == 0 || self.top_k >= width) && self.top_p >= 1.0 && self.min_p <= 0.0
    }
}

impl TargetLaw for Params {
    fn process(
        &self,
        logits: LogitsRow<'_>,
        allowed: Option<&[u32]>,
        out: &mut ScaledRow,
    ) -> Result<()> {
        if self.is_whole(logits.len()) {
            return out.load_whole(logits, allowed, self.temperature);
        }
        out.load(logits, allowed, self.temperature)?;
        if out.is_greedy() {
            return Ok(()); // every truncation keeps the arg-max
        }
        with_scratch(|scratch, _| {
            apply_top_k(out, self.top_k, true, scratch)?;
            apply_top_p(out, self.top_p, scratch)?;
            apply_min_p(out, self.min_p, scratch)
        })
    }

    fn observe(&mut self, _token: TokenId) {}

    fn is_stateless(&self) -> bool {
        true
    }

    fn plain(&self) -> Option<PlainLaw> {
        let Self { temperature, top_k, top_p, min_p } = *self;
        Some(PlainLaw { temperature, top_k, top_p, min_p, ..PlainLaw::default() })
    }

    fn fork(&self) -> Box<dyn TargetLaw> {
        Box::new(*self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use trivium_core::mask;

    fn kept(p: &[f64], params: Params) -> Vec<u32> {
        let logits: Vec<f32> = p.iter().map(|x| x.ln() as f32).collect();
        let mut row = ScaledRow::new();
        params.process((&logits[..]).into(), None, &mut row).unwrap();
        ids(&row)
    }

    fn ids(row: &ScaledRow) -> Vec<u32> {
        (0..row.scaled().len() as u32)
            .filter(|&i| row.scaled()[i as usize] > f32::NEG_INFINITY)
            .collect()
    }

    const FIXTURE: [f64; 5] = [0.5, 0.25, 0.15, 0.07, 0.03];

    #[test]
    fn the_fixture_of_the_specification() {
        let n = Params::default();
        assert_eq!(kept(&FIXTURE, Params { top_k: 2, ..n }), [0, 1]);
        assert_eq!(kept(&FIXTURE, Params { top_p: 0.8, ..n }), [0, 1, 2]);
        assert_eq!(kept(&FIXTURE, Params { min_p: 0.2, ..n }), [0, 1, 2]);
        // Temperature first: T = 2 flattens the law, so top-p .8 needs a fourth token.
        assert_eq!(kept(&FIXTURE, Params { temperature: 2.0, top_p: 0.8, ..n }), [0, 1, 2, 3]);
        // Top-k first: top-p sees the renormalised top-k law.
        assert_eq!(kept(&FIXTURE, Params { top_k: 2, top_p: 0.6, ..n }), [0]);
        assert_eq!(kept(&[0.25; 4], Params { top_k: 2, ..n }), [0, 1, 2, 3]);
        assert_eq!(kept(&[0.25; 4], Params { top_p: 0.5, ..n }), [0, 1]);
    }

    /// By the definitions, in f64 over a full sort.
    fn naive(logits: &[f32], params: Params) -> Vec<u32> {
        let mut order: Vec<usize> =
            (0..logits.len()).filter(|&i| logits[i] > f32::NEG_INFINITY).collect();
        let z = |i: usize| f64::from(logits[i]) / f64::from(params.temperature);
        order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
        let top = z(order[0]);
        if params.top_k > 0 && params.top_k < order.len() {
            let kth = logits[order[params.top_k - 1]];
            order.retain(|&i| logits[i] >= kth);
        }
        let total: f64 = order.iter().map(|&i| (z(i) - top).exp()).sum();
        let mut mass = 0.0;
        let mut keep = Vec::new();
        for &i in &order {
            if params.top_p < 1.0 && mass >= f64::from(params.top_p) * total {
                break;
            }
            mass += (z(i) - top).exp();
            if (z(i) - top).exp() >= f64::from(params.min_p) {
                keep.push(i as u32);
            }
        }
        keep.sort_unstable();
        keep
    }

    proptest! {
        #[test]
        fn truncation_equals_its_twin(
            logits in prop::collection::vec(
                prop_oneof![6 => -8f32..8.0, 1 => Just(f32::NEG_INFINITY)], 1..300),
            top_k in 0usize..20, top_p in 0.05f32..1.0, min_p in 0f32..0.5, temperature in 0.2f32..3.0,
            shift in -10f32..10.0,
        ) {
            prop_assume!(logits.iter().any(|x| x.is_finite()));
            let params = Params { temperature, top_k, top_p, min_p };
            let mut row = ScaledRow::new();
            params.process((&logits[..]).into(), None, &mut row).unwrap();
            let got = ids(&row);
            // Boundaries within float noise may go either way: compare with a nudge on both sides.
            let nudge = |e: f32| naive(&logits, Params {
                top_p: (top_p + e).min(1.0), min_p: (min_p * (1.0 - e)).max(0.0), ..params });
            let (small, large) = (nudge(-1e-5), nudge(1e-5));
            prop_assert!(small.iter().all(|t| got.contains(t)), "{small:?} {got:?}");
            prop_assert!(got.iter().all(|t| large.contains(t)), "{got:?} {large:?}");
            prop_assert!(got.contains(&row.argmax()));
            let moved: Vec<f32> = logits.iter().map(|x| x + shift).collect();
            let mut other = ScaledRow::new();
            params.process((&moved[..]).into(), None, &mut other).unwrap();
            prop_assert!(ids(&other).len().abs_diff(got.len()) <= 1);
        }

        #[test]
        fn the_mask_comes_first(
            logits in prop::collection::vec(-8f32..8.0, 40), word: u32, top_k in 1usize..5,
        ) {
            prop_assume!(word != 0);
            let mut row = ScaledRow::new();
            Params { top_k, ..Params::default() }
                .process((&logits[..]).into(), Some(&[word]), &mut row).unwrap();
            let got = ids(&row);
            prop_assert!(got.iter().all(|&t| mask::get(&[word], t)));
            prop_assert!(got.len() >= top_k.min(word.count_ones() as usize));
        }
    }

    #[test]
    fn ranges_are_checked() {
        let n = Params::default();
        assert!(n.check().is_ok());
        for bad in [
            Params { temperature: -1.0, ..n },
            Params { temperature: f32::NAN, ..n },
            Params { top_p: 0.0, ..n },
            Params { top_p: 1.5, ..n },
            Params { min_p: -0.1, ..n },
            Params { min_p: f32::NAN, ..n },
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }
}
