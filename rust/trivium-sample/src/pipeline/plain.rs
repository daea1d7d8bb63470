//! A pipeline as numbers: what device kernels can apply in one read of a row.

use super::{Pipeline, Step};
use crate::history::History;
use crate::rules::{Hyper, Scratch};
use trivium_core::error::Result;
use trivium_core::law::{PlainLaw, SeenToken};

impl Pipeline {
    /// The pipeline after `history` in the form that device kernels apply, for a row of `width` logits. `None` where a
    /// rule has no such form or the rules stand in another order: repetition, frequency, temperature, top-k with its
    /// equals, top-p, min-p, each at most once.
    ///
    /// # Errors
    /// As [`process`](Self::process) for values of the row and ids of rules.
    pub fn plain(&self, history: &History, hyper: Hyper, width: usize) -> Result<Option<PlainLaw>> {
        self.check_row(hyper, width)?;
        let mut law = PlainLaw::default();
        let mut scratch = Scratch::default();
        let mut last = 0;
        for step in self.steps() {
            let place = match step {
                Step::Repetition(_) => 1,
                Step::Frequency(_) => 2,
                Step::Temperature(_) => 3,
                Step::TopK(_) => 4,
                Step::TopP(_) => 5,
                Step::MinP(_) => 6,
                _ => return Ok(None),
            };
            if place <= last {
                return Ok(None);
            }
            last = place;
            match step {
                Step::Repetition(r) => {
                    law.repetition = r.penalty;
                    if r.penalty != 1.0 {
                        let Scratch { pairs, tokens, .. } = &mut scratch;
                        history.counts(r.scope, r.window, tokens, pairs);
                        law.seen.extend(pairs.iter().map(|&(token, _)| SeenToken {
                            token,
                            count: 0,
                            repeated: true,
                        }));
                    }
                }
                Step::Frequency(f) => {
                    (law.frequency, law.presence) = (f.frequency, f.presence);
                    if f.frequency != 0.0 || f.presence != 0.0 {
                        let Scratch { pairs, tokens, .. } = &mut scratch;
                        history.counts(f.scope, f.window, tokens, pairs);
                        law.seen.extend(pairs.iter().map(|&(token, count)| SeenToken {
                            token,
                            count,
                            repeated: false,
                        }));
                    }
                }
                Step::Temperature(t) => {
                    law.temperature = hyper.temperature.unwrap_or(t.temperature);
                    // An error of the row, and the CPU's to name.
                    if !(0.0..f32::INFINITY).contains(&law.temperature) {
                        return Ok(None);
                    }
                }
                Step::TopK(k) if !k.ties => return Ok(None),
                Step::TopK(k) => law.top_k = hyper.top_k.unwrap_or(k.k),
                Step::TopP(p) => law.top_p = hyper.top_p.unwrap_or(p.p),
                Step::MinP(m) => law.min_p = hyper.min_p.unwrap_or(m.m),
                _ => return Ok(None),
            }
        }
        // The two rules' lists into one, ascending and distinct.
        law.seen.sort_unstable_by_key(|s| s.token);
        law.seen.dedup_by(|next, kept| {
            let same = next.token == kept.token;
            if same {
                kept.count += next.count;
                kept.repeated |= next.repeated;
            }
            same
        });
        Ok(Some(law))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::{Detail, Input};
    use proptest::prelude::*;
    use trivium_core::{Address, Draw, ScaledRow};

    /// The law by its definition, over a plain vector: what a kernel does.
    fn apply(law: &PlainLaw, logits: &[f32]) -> Vec<f32> {
        let mut z = logits.to_vec();
        for s in &law.seen {
            let Some(x) = z.get_mut(s.token as usize).filter(|x| x.is_finite()) else { continue };
            if s.repeated {
                *x = if *x < 0.0 { *x * law.repetition } else { *x / law.repetition };
            }
            if s.count > 0 {
                *x -= s.count as f32 * law.frequency + law.presence;
            }
        }
        z
    }

    proptest! {
        #[test]
        fn a_plain_law_is_the_pipeline(
            logits in prop::collection::vec(-6f32..6.0, 4..40),
            text in prop::collection::vec(0u32..44, 0..30), prompt in 0usize..20,
            (repetition, frequency, presence) in (0.6f32..2.0, 0f32..0.5, 0f32..0.5),
            window in prop::option::of(1usize..9), (temperature, top_k, seed) in (0.3f32..2.0, 0usize..9, 0u64..99),
        ) {
            let prompt = prompt.min(text.len());
            let window = window.map_or("null".into(), |w| w.to_string());
            let pipeline = Pipeline::from_json(&format!(
                r#"{{"steps":[{{"rule":"repetition","penalty":{repetition},"window":{window}}},
                {{"rule":"frequency","frequency":{frequency},"presence":{presence}}},
                {{"rule":"temperature","temperature":{temperature}}},{{"rule":"top_k","k":{top_k}}}]}}"#
            )).unwrap();
            let mut history = History::new(&text[..prompt], &[]);
            text[prompt..].iter().for_each(|&t| history.push(t));
            let law = pipeline.plain(&history, Hyper::default(), logits.len()).unwrap().unwrap();
            let input = Input {
                logits: (&logits[..]).into(), allowed: None, history: &history,
                address: Address::new(seed, 7, 0), mu: f32::NAN, hyper: Hyper::default(), aux: &[], peers: &[],
            };
            let mut row = ScaledRow::new();
            let want = pipeline.sample(&input, Draw::Cdf, Detail::Fast, &mut row).unwrap();
            let z = apply(&law, &logits);
            let rest = Pipeline::from_json(&format!(
                r#"{{"steps":[{{"rule":"temperature","temperature":{temperature}}},{{"rule":"top_k","k":{top_k}}}]}}"#
            )).unwrap();
            let found = rest.sample(
                &Input { logits: (&z[..]).into(), ..input }, Draw::Cdf, Detail::Fast, &mut row).unwrap();
            prop_assert_eq!((want.token, want.log_prob), (found.token, found.log_prob));
        }
    }

    #[test]
    fn what_has_no_form_says_so() {
        let plain = |json: &str| {
            let p = Pipeline::from_json(json).unwrap();
            p.plain(&History::new(&[], &[]), Hyper::default(), 9).map(|l| l.is_some())
        };
        assert_eq!(plain(r#"{"steps":[]}"#), Ok(true));
        assert_eq!(plain(r#"{"steps":[{"rule":"dry","multiplier":0.8}]}"#), Ok(false));
        let k = r#"{"rule":"top_k","k":3}"#;
        assert_eq!(plain(&format!(r#"{{"steps":[{k}]}}"#)), Ok(true));
        // llama.cpp's order, the same rule twice, and exactly k.
        let t = r#"{"rule":"temperature","temperature":0.5}"#;
        assert_eq!(plain(&format!(r#"{{"steps":[{k},{t}]}}"#)), Ok(false));
        assert_eq!(plain(&format!(r#"{{"steps":[{t},{t}]}}"#)), Ok(false));
        assert_eq!(plain(r#"{"steps":[{"rule":"top_k","k":3,"ties":false}]}"#), Ok(false));
        let p = Pipeline::from_json(&format!(r#"{{"steps":[{t}]}}"#)).unwrap();
        let hyper = Hyper { top_p: Some(0.5), ..Hyper::default() };
        assert!(p.plain(&History::new(&[], &[]), hyper, 9).is_err(), "no rule reads it");
    }
}
