//! Goldens of the specification, laws that hold for every pipeline, and sessions along a text.

#![allow(clippy::unwrap_used)] // helpers of tests

use proptest::prelude::*;
use std::sync::Arc;
use trivium_core::{Address, Draw, Error, LogitsRow, ScaledRow, TargetLaw};
use trivium_sample::rules::{
    Allow, BadWords, Diversity, Dry, Dynatemp, EncoderNgram, EncoderRepetition, Epsilon, Eta,
    Forced, Forgetting, Frequency, LengthDecay, LogitBias, MinLength, MinP, Mirostat, Momentum,
    NgramBlock, Phase, Repetition, Rpg, SelfDebias, SequenceBias, Suppress, SurpriseOn,
    Temperature, TopH, TopK, TopNSigma, TopP, Typical, Xtc,
};
use trivium_sample::{
    Detail, History, Hyper, Input, LogProbs, OnEmpty, Order, Pipeline, Scope, Session, Step,
};

const P: [f64; 5] = [0.5, 0.25, 0.15, 0.07, 0.03];

fn ln(p: &[f64]) -> Vec<f32> {
    p.iter().map(|p| p.ln() as f32).collect()
}

fn input<'a>(logits: &'a [f32], history: &'a History) -> Input<'a> {
    Input {
        logits: logits.into(),
        allowed: None,
        history,
        address: Address::new(1, history.len() as u32, 0),
        mu: f32::NAN,
        hyper: Hyper::default(),
        aux: &[],
        peers: &[],
    }
}

fn process(step: impl Into<Step>, logits: &[f32], history: &History) -> ScaledRow {
    let p = Pipeline::new(vec![step.into()]).unwrap();
    let mut row = ScaledRow::new();
    p.process(&input(logits, history), &mut row).unwrap();
    row
}

fn ids(row: &ScaledRow) -> Vec<u32> {
    (0..row.scaled().len() as u32)
        .filter(|&t| row.scaled()[t as usize] > f32::NEG_INFINITY)
        .collect()
}

fn kept(step: impl Into<Step>) -> Vec<u32> {
    ids(&process(step, &ln(&P), &History::default()))
}

fn top_k(k: usize) -> TopK {
    TopK { k, ties: true }
}

fn mirostat(version: u8, tau: f32) -> Mirostat {
    Mirostat { version, tau, eta: 0.1, m: 100, surprise_on: SurpriseOn::Kept }
}

#[test]
fn truncations_of_the_fixture() {
    assert_eq!(kept(top_k(2)), [0, 1]);
    assert_eq!(kept(TopP { p: 0.8 }), [0, 1, 2]);
    assert_eq!(kept(MinP { m: 0.2 }), [0, 1, 2]);
    for (mass, want) in [(0.2, &[1][..]), (0.7, &[0, 1]), (0.85, &[0, 1, 2])] {
        assert_eq!(kept(Typical { mass, ties: false }), want, "{mass}");
    }
    assert_eq!(kept(Epsilon { epsilon: 0.05 }), [0, 1, 2, 3]);
    assert_eq!(kept(Eta { epsilon: 0.1 }), [0, 1, 2]);
    assert_eq!(kept(Eta { epsilon: 0.05 }), [0, 1, 2, 3]);
    assert_eq!(kept(TopH { h: 0.6, cap: 100 }), [0, 1]);
    assert_eq!(kept(TopNSigma { n: 1.0 }), [0, 1]);
    assert_eq!(kept(Xtc { probability: 1.0, threshold: 0.1 }), [2, 3, 4]);
    assert_eq!(kept(Xtc { probability: 0.0, threshold: 0.1 }), [0, 1, 2, 3, 4]);
    // Top-p is not idempotent: the renormalised {0, 1, 2} gives {0, 1}.
    let twice = Pipeline::new(vec![TopP { p: 0.8 }.into(), TopP { p: 0.8 }.into()]).unwrap();
    let mut row = ScaledRow::new();
    twice.process(&input(&ln(&P), &History::default()), &mut row).unwrap();
    assert_eq!(ids(&row), [0, 1]);
}

#[test]
fn temperature_and_truncation_do_not_commute() {
    let steps = || vec![Temperature { temperature: 2.0 }.into(), TopP { p: 0.8 }.into()];
    let history = History::default();
    let mut row = ScaledRow::new();
    Pipeline::ordered(steps(), Order::Canonical)
        .unwrap()
        .process(&input(&ln(&P), &history), &mut row)
        .unwrap();
    assert_eq!(ids(&row), [0, 1, 2, 3]);
    let p = row.probabilities();
    Pipeline::ordered(steps(), Order::LlamaCpp)
        .unwrap()
        .process(&input(&ln(&P), &history), &mut row)
        .unwrap();
    assert_eq!(ids(&row), [0, 1, 2]);
    for (got, want) in p.iter().zip([0.3480, 0.2460, 0.1906, 0.1302]) {
        assert!((got * 0.9148 - want).abs() < 2e-4, "{p:?}");
    }
}

#[test]
fn mirostat_traces() {
    let m = mirostat(2, 3.0);
    assert_eq!(m.initial(), 6.0);
    assert!((m.next(6.0, 2.0) - 6.1).abs() < 1e-6);
    assert!((m.next(6.0, 5.058_9) - 5.794_11).abs() < 1e-5);
    let logits = ln(&P);
    let history = History::default();
    let p = Pipeline::new(vec![m.into()]).unwrap();
    let mut row = ScaledRow::new();
    for (mu, want) in [(6.0, 5), (5.794_1, 5), (2.5, 2), (0.5, 1)] {
        p.process(&Input { mu, ..input(&logits, &history) }, &mut row).unwrap();
        assert_eq!(ids(&row).len(), want, "{mu}");
    }
    let p1 = Pipeline::new(vec![mirostat(1, 3.0).into()]).unwrap();
    for (mu, low, high) in [(0.01, 1, 1), (1.0, 1, 3), (20.0, 5, 5)] {
        p1.process(&Input { mu, ..input(&logits, &history) }, &mut row).unwrap();
        assert!((low..=high).contains(&ids(&row).len()), "{mu} {:?}", ids(&row));
    }
    // A flat law has no slope: everything stays.
    p1.process(&Input { mu: 6.0, ..input(&[0.0; 7], &history) }, &mut row).unwrap();
    assert_eq!(ids(&row).len(), 7);
}

/// On a constant law the long-run mean surprise approaches tau, when it is reachable.
#[test]
fn mirostat_reaches_its_target() {
    let logits: Vec<f32> = (0..200).map(|i| -((i + 2) as f32).ln() * 1.1).collect();
    for (version, tau) in [(1, 2.0), (2, 2.0), (2, 3.0), (1, 3.0)] {
        let p = Arc::new(Pipeline::new(vec![mirostat(version, tau).into()]).unwrap());
        let mut s = Session::new(p, &[], 7, 0);
        let mut row = ScaledRow::new();
        let n = 3000;
        let mut sum = 0.0;
        for i in 0..n {
            let none = (Hyper::default(), &[][..]);
            let d = s
                .sample((&logits[..]).into(), None, none, (Draw::Cdf, Detail::Fast), &mut row)
                .unwrap();
            if i >= n / 2 {
                sum += f64::from(d.surprise);
            }
            s.commit(d.token, d.surprise);
        }
        let mean = sum / f64::from(n / 2);
        assert!((mean - f64::from(tau)).abs() < 0.15, "version {version}: {mean} for {tau}");
    }
}

fn z_after(step: impl Into<Step>, history: &[u32], generated: usize) -> Vec<f32> {
    let (prompt, output) = history.split_at(history.len() - generated);
    let mut h = History::new(prompt, &[]);
    output.iter().for_each(|&t| h.push(t));
    process(step, &[1.0, -1.0, 0.5, 2.0, -3.0], &h).scaled().to_vec()
}

#[test]
fn penalties() {
    let r = |window, scope| Repetition { penalty: 2.0, scope, window };
    assert_eq!(z_after(r(None, Scope::All), &[0, 1, 0], 1), [0.5, -2.0, 0.5, 2.0, -3.0]);
    assert_eq!(z_after(r(Some(1), Scope::All), &[1, 0], 1), [0.5, -1.0, 0.5, 2.0, -3.0]);
    assert_eq!(z_after(r(None, Scope::Prompt), &[1, 0], 1), [1.0, -2.0, 0.5, 2.0, -3.0]);
    let f = Frequency { frequency: 0.5, presence: 0.25, scope: Scope::Generated, window: None };
    assert_eq!(z_after(f, &[0, 3, 3, 0], 3), [0.25, -1.0, 0.5, 0.75, -3.0]);
    let forget =
        |window, length| Forgetting { penalty: 2.0, window, length, target: 4, eos: vec![4] };
    assert_eq!(z_after(forget(1, 0.0), &[0, 1, 3], 2), [1.0, -1.0, 0.5, 1.0, -3.0]);
    assert_eq!(z_after(forget(0, 0.0), &[0, 1, 3], 2), [1.0, -1.0, 0.5, 2.0, -3.0]);
    assert_eq!(z_after(forget(0, 1.0), &[0, 1, 3], 2), [1.0, -1.0, 0.5, 2.0, -3.5]);
    // A window as long as the output is the classical penalty.
    let classical = Repetition { penalty: 2.0, scope: Scope::Generated, window: None };
    assert_eq!(z_after(forget(9, 0.0), &[0, 1, 3], 2), z_after(classical, &[0, 1, 3], 2));
    let decay = LengthDecay { start: 1, factor: 2.0, eos: vec![3, 4] };
    assert_eq!(z_after(decay, &[0, 0, 0], 3), [1.0, -1.0, 0.5, 8.0, 6.0]);
    let bias = LogitBias { bias: vec![(1, 2.0), (3, -1.0)] };
    assert_eq!(z_after(bias, &[], 0), [1.0, 1.0, 0.5, 1.0, -3.0]);
    let sequence =
        SequenceBias { bias: vec![(vec![0, 1], 2.0), (vec![2], 1.0), (vec![1, 3], 9.0)] };
    assert_eq!(z_after(sequence, &[0], 0), [1.0, 1.0, 1.5, 2.0, -3.0]);
}

#[test]
fn dry_goldens() {
    let dry = Dry { multiplier: 0.8, base: 1.75, allowed: 2, window: 1024, breakers: vec![] };
    let moved = |d: &Dry, h: &[u32]| -> Vec<f32> {
        z_after(d.clone(), h, h.len())
            .iter()
            .zip([1.0f32, -1.0, 0.5, 2.0, -3.0])
            .map(|(a, b)| ((b - a) * 1e4).round() / 1e4)
            .collect()
    };
    // a b c a b: c follows.
    assert_eq!(moved(&dry, &[0, 1, 2, 0, 1]), [0.0, 0.0, 0.8, 0.0, 0.0]);
    // x a b c x a b.
    assert_eq!(moved(&dry, &[3, 0, 1, 2, 3, 0, 1]), [0.0, 0.0, 1.4, 0.0, 0.0]);
    // A breaker inside the match cuts it.
    let broken = Dry { breakers: vec![0], ..dry.clone() };
    assert_eq!(moved(&broken, &[3, 0, 1, 2, 3, 0, 1]), [0.0; 5]);
    assert_eq!(moved(&Dry { multiplier: 0.0, ..dry }, &[0, 1, 2, 0, 1]), [0.0; 5]);
}

/// DRY by its definition, O(n²).
fn naive_dry(d: &Dry, history: &[u32], z: &mut [f32]) {
    let h = &history[history.len().saturating_sub(d.window)..];
    let limit = h.iter().rev().take_while(|t| !d.breakers.contains(t)).count();
    let mut best = std::collections::BTreeMap::new();
    for i in 0..h.len() {
        let common = h[..i].iter().rev().zip(h.iter().rev()).take_while(|(a, b)| a == b).count();
        let length = common.min(limit);
        if length >= d.allowed {
            let b: &mut usize = best.entry(h[i]).or_default();
            *b = length.max(*b);
        }
    }
    for (t, length) in best {
        let penalty = f64::from(d.multiplier) * f64::from(d.base).powi((length - d.allowed) as i32);
        z[t as usize] = (f64::from(z[t as usize]) - penalty) as f32;
    }
}

#[test]
fn momentum_resists_circles() {
    let logits = ln(&P);
    let choose = |m: &Momentum, text: &[u32]| {
        let row = process(m.clone(), &logits, &History::new(text, &[]));
        assert_eq!(ids(&row).len(), 1);
        ids(&row)[0]
    };
    let m = Momentum::default();
    // .5 - .2 R(1) = .3 against the unseen .25: greedy still.
    assert_eq!(choose(&m, &[0]), 0);
    // The second copy of 0 0 has l = 2: .5 - .4 against .25.
    assert_eq!(choose(&m, &[0, 0]), 1);
    // Both seen once: .3, .05, and the unseen .15.
    assert_eq!(choose(&m, &[0, 1]), 0);
    // 3 0 1 3 0: the token 1 would make a repetition of three, 0 one of one token.
    assert_eq!(choose(&m, &[3, 0, 1, 3, 0]), 0);
    // A greedy token that the text does not hold is chosen whatever the others are.
    assert_eq!(choose(&m, &[1, 2, 3]), 0);
    // R = 0 and alpha = 0 and one candidate are greedy.
    for m in [
        Momentum { resistance: vec![0.0; 6], ..m.clone() },
        Momentum { alpha: 0.0, ..m.clone() },
        Momentum { k: 1, ..m.clone() },
    ] {
        assert_eq!(choose(&m, &[0, 0, 0, 0]), 0);
    }
    // Infinite resistance from the first token on: never a seen one while an unseen one is left.
    let strict = Momentum { resistance: vec![0.0], ..m.clone() };
    assert_eq!(choose(&strict, &[0, 1]), 2);
    assert_eq!(choose(&strict, &[0, 1, 2, 3, 4]), 0);
    // Without the prompt nothing was seen.
    assert_eq!(choose(&Momentum { include_prompt: false, ..m }, &[0, 0]), 0);
}

/// Momentum by its definition.
fn naive_momentum(m: &Momentum, text: &[u32], z: &[f32]) -> u32 {
    let total: f64 = z.iter().map(|&z| f64::from(z).exp()).sum();
    let mut order: Vec<usize> = (0..z.len()).filter(|&t| z[t].is_finite()).collect();
    order.sort_by(|&a, &b| z[b].total_cmp(&z[a]));
    if !text.contains(&(order[0] as u32)) {
        return order[0] as u32;
    }
    let mut best = (f64::NEG_INFINITY, order[0]);
    for &t in order.iter().take(m.k) {
        let whole: Vec<u32> = text.iter().copied().chain([t as u32]).collect();
        let length = (1..=text.len())
            .filter(|&n| text.windows(n).any(|w| *w == whole[whole.len() - n..]))
            .max()
            .unwrap_or(0)
            .min(m.cap);
        let r = m.resistance.get(length).map_or(f64::INFINITY, |&r| f64::from(r));
        let score = f64::from(z[t]).exp() / total - f64::from(m.alpha) * r;
        if score > best.0 {
            best = (score, t);
        }
    }
    best.1 as u32
}

#[test]
fn rpg_counts_copies() {
    let rpg = Rpg { eos: vec![4], ..Rpg::default() };
    let (less, more) = (0.9f32.ln(), -(0.8f32.ln()));
    // a b three times: a would start the fourth.
    let got = z_after(rpg.clone(), &[0, 1, 0, 1, 0, 1], 6);
    assert_eq!(got, [1.0 + 3.0 * less, -1.0, 0.5, 2.0, -3.0 + 3.0 * more]);
    // The prompt does not count unless it is asked for, and two copies are the least.
    assert_eq!(z_after(rpg.clone(), &[0, 1, 0, 1], 1), [1.0, -1.0, 0.5, 2.0, -3.0]);
    let all = Rpg { include_prompt: true, ..rpg.clone() };
    let got = z_after(all, &[0, 1, 0, 1], 1);
    assert_eq!(got, [1.0 + 2.0 * less, -1.0, 0.5, 2.0, -3.0 + 2.0 * more]);
    // Tokens 0 and 2 are one symbol: a b c b is twice the same pattern, and both are less likely.
    let classes = Rpg { symbols: vec![0, 1, 0, 1, 2], ..rpg.clone() };
    let got = z_after(classes, &[0, 1, 2, 1], 4);
    assert_eq!(got[..4], [1.0 + 2.0 * less, -1.0, 0.5 + 2.0 * less, 2.0]);
    let neutral = Rpg { factor: 1.0, eos_factor: 1.0, ..rpg };
    assert_eq!(z_after(neutral, &[0, 0, 0], 3), [1.0, -1.0, 0.5, 2.0, -3.0]);
}

#[test]
fn rules_over_an_encoder_and_siblings() {
    let r = EncoderRepetition { penalty: 2.0, tokens: vec![0, 1] };
    assert_eq!(z_after(r, &[], 0), [2.0, -0.5, 0.5, 2.0, -3.0]);
    let n = |n| EncoderNgram { n, tokens: vec![0, 1, 2, 0, 3] };
    let mask =
        |s: EncoderNgram, text: &[u32]| ids(&process(s, &[0.0; 5], &History::new(text, &[])));
    assert_eq!(mask(n(2), &[4, 0]), [0, 2, 4]);
    assert_eq!(mask(n(3), &[4, 0]), [0, 1, 2, 3, 4]);
    assert_eq!(mask(n(1), &[]), [4]);
    assert_eq!(mask(n(9), &[0]), [0, 1, 2, 3, 4]);
    assert!(Step::from(n(2)).processor().forbids(1, &History::new(&[0], &[])));
    let p = Pipeline::new(vec![Diversity { penalty: 0.5 }.into()]).unwrap();
    let (mut row, history) = (ScaledRow::new(), History::default());
    let x = input(&[1.0, -1.0, 0.5], &history);
    p.process(&Input { peers: &[2, 0, 2, 9], ..x }, &mut row).unwrap();
    assert_eq!(row.scaled(), [0.5, -1.0, -0.5]);
    p.process(&x, &mut row).unwrap();
    assert_eq!(row.scaled(), [1.0, -1.0, 0.5]);
}

#[test]
fn policies_for_empty_rows() {
    let steps = || -> Vec<Step> {
        vec![
            Suppress { tokens: vec![0, 1], begin_only: false }.into(),
            Allow { tokens: vec![0, 1] }.into(),
            LogitBias { bias: vec![(1, 1.0)] }.into(),
        ]
    };
    let with = |policy| Pipeline::new(steps()).unwrap().with_on_empty(policy);
    let (mut row, history) = (ScaledRow::new(), History::default());
    let logits = ln(&[0.5, 0.3, 0.2]);
    let e = with(OnEmpty::Error).process(&input(&logits, &history), &mut row).unwrap_err();
    assert!(matches!(&e, Error::StateMismatch { found, .. } if found.contains("allow")), "{e}");
    // Without the masks, but with everything else.
    with(OnEmpty::Unmask).process(&input(&logits, &history), &mut row).unwrap();
    assert_eq!(row.scaled(), [logits[0], logits[1] + 1.0, logits[2]]);
    // The call's own mask holds.
    let allowed = Some(&[0b100u32][..]);
    with(OnEmpty::Unmask)
        .process(&Input { allowed, ..input(&logits, &history) }, &mut row)
        .unwrap();
    assert_eq!(ids(&row), [2]);
    let x = Input { allowed: Some(&[0]), ..input(&logits, &history) };
    assert!(with(OnEmpty::Unmask).process(&x, &mut row).is_err());
    // The end token, with the model's probability of it as the kept mass.
    let end = with(OnEmpty::Eos(2));
    let d = end.sample(&x, Draw::Cdf, Detail::Full, &mut row).unwrap();
    assert_eq!((d.token, d.log_prob), (2, 0.0));
    assert!((d.log_prob_raw - 0.2f32.ln()).abs() < 1e-6);
    assert!((d.ln_kept - d.log_prob_raw).abs() < 1e-6);
    // A row that the model spoiled stays an error; so does an end beyond the row.
    for policy in [OnEmpty::Error, OnEmpty::Unmask, OnEmpty::Eos(2)] {
        let dead = [0.0, f32::NEG_INFINITY, f32::NEG_INFINITY];
        let only = Pipeline::new(vec![Allow { tokens: vec![1, 2] }.into()]).unwrap();
        let done = only.with_on_empty(policy).process(&input(&dead, &history), &mut row);
        assert_eq!(done.is_err(), policy != OnEmpty::Unmask, "{policy:?}");
        let p = Pipeline::default().with_on_empty(policy);
        assert!(p.process(&input(&[f32::NEG_INFINITY; 3], &history), &mut row).is_err());
        assert!(p.process(&input(&[f32::NAN, 0.0, 0.0], &history), &mut row).is_err());
        assert_eq!(Pipeline::from_json(&p.to_json().unwrap()).unwrap(), p);
    }
    assert!(with(OnEmpty::Eos(3)).process(&input(&logits, &history), &mut row).is_err());
    assert_eq!(
        with(OnEmpty::Unmask).to_json().unwrap().rsplit(',').next(),
        Some("\"on_empty\":\"unmask\"}")
    );
    assert!(with(OnEmpty::Error).to_json().unwrap().ends_with("]}"));
}

/// The running weight of a session: local samples weighted by it have the global law, exactly.
#[test]
fn sessions_sum_the_kept_masses() {
    let first = ln(&[0.6, 0.4]);
    let second = [ln(&[0.9, 0.1]), ln(&[0.5, 0.5])];
    let p = Arc::new(Pipeline::new(vec![Temperature { temperature: 0.5 }.into()]).unwrap());
    let none = (Hyper::default(), &[][..]);
    let mut row = ScaledRow::new();
    let mut found = std::collections::BTreeMap::new();
    for seed in 0..60 {
        let mut s = Session::new(p.clone(), &[], seed, 0).weighed();
        let full = (Draw::Cdf, Detail::Full);
        let a = s.sample((&first[..]).into(), None, none, full, &mut row).unwrap();
        s.commit_drawn(&a);
        let z = &second[a.token as usize];
        let b = s.sample((&z[..]).into(), None, none, full, &mut row).unwrap();
        s.commit_drawn(&b);
        let weight = s.log_global_weight().unwrap();
        // Unnormalised global weight of the text: product of p^(1/T).
        let local = f64::from(a.log_prob + b.log_prob);
        found.insert((a.token, b.token), (local, weight));
        // Back and forth, and a fork.
        let mut fork = s.clone();
        fork.rollback(1).unwrap();
        assert!((fork.log_global_weight().unwrap() - f64::from(a.ln_kept)).abs() < 1e-9);
        fork.commit_known(b.token, b.log_prob, b.ln_kept);
        assert_eq!(fork.log_global_weight(), Some(weight));
        fork.commit(0, f32::NAN);
        assert!(fork.log_global_weight().unwrap().is_nan());
        fork.rollback(3).unwrap();
        assert_eq!(fork.log_global_weight(), Some(0.0));
        assert_eq!(b.log_prob_of(LogProbs::Fused), b.log_prob_of(LogProbs::Raw));
    }
    // (a, 1) is rare locally; its weight follows from the others' total all the same.
    let total = 0.7772 + 0.1066 * 2.0;
    let kept: Vec<_> = found.iter().filter(|(k, _)| **k != (0, 1)).collect();
    assert_eq!(kept.len(), 3, "{found:?}");
    let mass: f64 = kept.iter().map(|(_, (l, w))| (l + w).exp()).sum();
    for (text, (local, weight)) in kept {
        let want = if text.0 == 0 { 0.7772 } else { 0.1066 };
        assert!(((local + weight).exp() / mass * total - want).abs() < 1e-4, "{text:?}");
    }
    assert_eq!(Session::new(p, &[], 0, 0).log_global_weight(), None);
}

#[test]
fn hard_masks_and_who_emptied_the_row() {
    let h = |t: &[u32]| History::new(t, &[]);
    let mask = |s: Step, history: &[u32]| ids(&process(s, &[0.0; 5], &h(history)));
    assert_eq!(mask(Allow { tokens: vec![1, 3] }.into(), &[]), [1, 3]);
    assert_eq!(mask(Suppress { tokens: vec![1, 3], begin_only: false }.into(), &[]), [0, 2, 4]);
    let bad = BadWords { words: vec![vec![2], vec![0, 1], vec![4, 3]] };
    assert_eq!(mask(bad.into(), &[0]), [0, 3, 4]);
    assert_eq!(mask(Forced { at: vec![(0, 3)] }.into(), &[1]), [3]);
    let least = MinLength { new_tokens: 1, total: 0, eos: vec![4] };
    assert_eq!(mask(least.into(), &[]), [0, 1, 2, 3]);
    let ngram = |n, include_prompt| NgramBlock { n, include_prompt };
    assert_eq!(mask(ngram(2, true).into(), &[0, 1, 0, 2, 0]), [0, 3, 4]);
    assert_eq!(mask(ngram(2, false).into(), &[0, 1, 0, 2, 0]), [0, 1, 2, 3, 4]);
    assert_eq!(mask(ngram(1, true).into(), &[0, 1]), [2, 3, 4]);
    assert_eq!(mask(ngram(9, true).into(), &[0, 1]), [0, 1, 2, 3, 4]);

    let p = Pipeline::new(vec![
        Suppress { tokens: vec![0, 1], begin_only: false }.into(),
        Allow { tokens: vec![0, 1] }.into(),
        top_k(1).into(),
    ])
    .unwrap();
    let e = p.process(&input(&[0.0; 3], &History::default()), &mut ScaledRow::new()).unwrap_err();
    assert!(matches!(&e, Error::StateMismatch { found, .. } if found.contains("allow")), "{e}");
    let none = Pipeline::default();
    let dead = [f32::NEG_INFINITY; 3];
    let e = none.process(&input(&dead, &History::default()), &mut ScaledRow::new()).unwrap_err();
    assert!(e.to_string().contains("the logits or the allowed mask"), "{e}");
    let e = Pipeline::new(vec![Allow { tokens: vec![7] }.into()])
        .unwrap()
        .process(&input(&[0.0; 3], &History::default()), &mut ScaledRow::new())
        .unwrap_err();
    assert!(matches!(e, Error::OutOfVocabulary { token: 7, vocab: 3 }));
}

#[test]
fn self_debiasing_follows_its_formula() {
    let biased = ln(&[0.1, 0.6, 0.1, 0.1, 0.1]);
    let other = ln(&[0.2, 0.2, 0.2, 0.2, 0.2]);
    let logits = ln(&P);
    let history = History::default();
    let p = Pipeline::new(vec![SelfDebias { decay: 5.0, epsilon: 0.01 }.into()]).unwrap();
    let aux = [LogitsRow::from(&biased[..]), LogitsRow::from(&other[..])];
    let mut row = ScaledRow::new();
    p.process(&Input { aux: &aux, ..input(&logits, &history) }, &mut row).unwrap();
    let worst = [0.2, 0.6, 0.2, 0.2, 0.2];
    let weights: Vec<f64> = P
        .iter()
        .zip(worst)
        .map(|(p, b): (&f64, f64)| p * (-5.0 * (b - p).max(0.0)).exp().max(0.01))
        .collect();
    let total: f64 = weights.iter().sum();
    for (got, want) in row.probabilities().iter().zip(&weights) {
        assert!((got - want / total).abs() < 1e-6);
    }
    let e = p.process(&input(&logits, &history), &mut row).unwrap_err();
    assert!(matches!(e, Error::InvalidInput { .. }));
    let drawn = p
        .sample(&Input { aux: &aux, ..input(&logits, &history) }, Draw::Cdf, Detail::Full, &mut row)
        .unwrap();
    let t = drawn.token as usize;
    assert!((f64::from(drawn.log_prob_raw) - P[t].ln()).abs() < 1e-6);
    assert!((f64::from(drawn.log_prob_fused) - (weights[t] / total).ln()).abs() < 1e-6);
}

/// The golden of local normalisation: reweighted local samples have the global law.
#[test]
fn kept_mass_corrects_local_normalisation() {
    let first = ln(&[0.6, 0.4]);
    let second = [ln(&[0.9, 0.1]), ln(&[0.5, 0.5])];
    let p = Pipeline::new(vec![Temperature { temperature: 0.5 }.into()]).unwrap();
    let history = History::default();
    let law = |logits: &[f32]| {
        let mut row = ScaledRow::new();
        let d = p.sample(&input(logits, &history), Draw::Cdf, Detail::Full, &mut row).unwrap();
        (row.probabilities(), f64::from(d.ln_kept))
    };
    let (p1, z1) = law(&first);
    let mut local = vec![];
    let mut global = vec![];
    for a in 0..2 {
        let (p2, z2) = law(&second[a]);
        for p in p2 {
            local.push(p1[a] * p);
            global.push(p1[a] * p * (z1 + z2).exp());
        }
    }
    let total: f64 = global.iter().sum();
    let close = |a: &[f64], b: [f64; 4]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 6e-5);
    assert!(close(&local, [0.6839, 0.0084, 0.1538, 0.1538]), "{local:?}");
    let global: Vec<f64> = global.iter().map(|g| g / total).collect();
    assert!(close(&global, [0.7772, 0.0096, 0.1066, 0.1066]), "{global:?}");
    // Truncation: the kept mass itself, within [P, 1] for nucleus.
    let nucleus = Pipeline::new(vec![TopP { p: 0.8 }.into()]).unwrap();
    let mut row = ScaledRow::new();
    let d = nucleus.sample(&input(&ln(&P), &history), Draw::Race, Detail::Full, &mut row).unwrap();
    assert!((f64::from(d.ln_kept).exp() - 0.9).abs() < 1e-6);
}

#[test]
fn row_values_equal_scalar_pipelines() {
    let steps = |t, k, p, m| {
        Pipeline::new(vec![
            Temperature { temperature: t }.into(),
            top_k(k).into(),
            TopP { p }.into(),
            MinP { m }.into(),
        ])
        .unwrap()
    };
    let neutral = steps(1.0, 0, 1.0, 0.0);
    let logits: Vec<f32> = (0..300).map(|i| ((i * 37) % 101) as f32 * 0.1).collect();
    let history = History::default();
    for (t, k, p, m) in [(0.7, 40, 0.9, 0.05), (1.0, 0, 1.0, 0.0), (0.0, 3, 0.5, 0.1)] {
        let hyper = Hyper { temperature: Some(t), top_k: Some(k), top_p: Some(p), min_p: Some(m) };
        let (mut a, mut b) = (ScaledRow::new(), ScaledRow::new());
        let x = input(&logits, &history);
        let one = neutral.sample(&Input { hyper, ..x }, Draw::Cdf, Detail::Fast, &mut a).unwrap();
        let two = steps(t, k, p, m).sample(&x, Draw::Cdf, Detail::Fast, &mut b).unwrap();
        assert_eq!((one.token, one.log_prob.to_bits()), (two.token, two.log_prob.to_bits()));
        assert_eq!(a.scaled(), b.scaled());
    }
    let hyper = Hyper { top_p: Some(0.5), ..Hyper::default() };
    let e = Pipeline::default()
        .process(&Input { hyper, ..input(&logits, &history) }, &mut ScaledRow::new())
        .unwrap_err();
    assert!(matches!(e, Error::InvalidInput { .. }));
}

// ---- laws over random rules, rows and histories ----------------------------------------------

fn step() -> impl Strategy<Value = Step> {
    let eos = || vec![2u32];
    prop_oneof![
        (0usize..12, any::<bool>()).prop_map(|(k, ties)| TopK { k, ties }.into()),
        (0.05f32..=1.0).prop_map(|p| TopP { p }.into()),
        (0f32..1.0).prop_map(|m| MinP { m }.into()),
        (0.05f32..=1.0, any::<bool>()).prop_map(|(mass, ties)| Typical { mass, ties }.into()),
        (0f32..0.3).prop_map(|epsilon| Epsilon { epsilon }.into()),
        (0f32..0.3).prop_map(|epsilon| Eta { epsilon }.into()),
        (0.05f32..1.0, 1usize..9).prop_map(|(h, cap)| TopH { h, cap }.into()),
        (0f32..2.5).prop_map(|n| TopNSigma { n }.into()),
        (0f32..=1.0, 0.01f32..=0.5).prop_map(|(probability, threshold)| Xtc {
            probability,
            threshold
        }
        .into()),
        (0.2f32..3.0).prop_map(|temperature| Temperature { temperature }.into()),
        (0f32..1.0, 1f32..2.0, 0.3f32..2.0).prop_map(|(low, high, exponent)| Dynatemp {
            low,
            high,
            exponent
        }
        .into()),
        (1u8..=2, 0.5f32..6.0).prop_map(|(v, tau)| mirostat(v, tau).into()),
        (0.5f32..2.0, prop::option::of(0usize..9)).prop_map(|(penalty, window)| Repetition {
            penalty,
            scope: Scope::All,
            window
        }
        .into()),
        (-1f32..1.0, -1f32..1.0).prop_map(|(frequency, presence)| {
            Frequency { frequency, presence, scope: Scope::Generated, window: None }.into()
        }),
        (0f32..2.0, 1usize..3).prop_map(|(multiplier, allowed)| {
            Dry { multiplier, base: 1.75, allowed, window: 40, breakers: vec![1] }.into()
        }),
        (2usize..5).prop_map(|n| NgramBlock { n, include_prompt: true }.into()),
        prop::collection::vec((0u32..4, -3f32..3.0), 0..4)
            .prop_map(|bias| LogitBias { bias }.into()),
        (0usize..9)
            .prop_map(move |new_tokens| { MinLength { new_tokens, total: 0, eos: eos() }.into() }),
        (0f32..0.6, 1usize..7, 1usize..7, 1usize..8).prop_map(|(alpha, k, cap, table)| {
            let resistance = (0..table).map(|r| r as f32).collect();
            Momentum { alpha, k, cap, resistance, include_prompt: true }.into()
        }),
        (0.5f32..=1.0, any::<bool>()).prop_map(|(factor, classes)| {
            let symbols = if classes { vec![0, 1, 0, 1] } else { vec![] };
            Rpg { factor, eos: vec![2], include_prompt: true, symbols, ..Rpg::default() }.into()
        }),
        (0.5f32..2.0)
            .prop_map(|penalty| EncoderRepetition { penalty, tokens: vec![0, 3, 500] }.into()),
        (1usize..4).prop_map(|n| EncoderNgram { n, tokens: vec![0, 1, 2, 1, 0] }.into()),
        (0f32..1.0).prop_map(|penalty| Diversity { penalty }.into()),
        (0f32..2.0).prop_map(move |length| {
            Forgetting { penalty: 1.3, window: 5, length, target: 9, eos: eos() }.into()
        }),
    ]
}

fn pipeline() -> impl Strategy<Value = Pipeline> {
    prop::collection::vec(step(), 0..6).prop_map(|mut steps| {
        let mut seen = false;
        steps.retain(|s| {
            let again = matches!(s, Step::Mirostat(_)) && seen;
            seen |= matches!(s, Step::Mirostat(_));
            !again
        });
        Pipeline::new(steps).unwrap()
    })
}

fn logits() -> impl Strategy<Value = Vec<f32>> {
    let value = prop_oneof![
        10 => -12f32..12.0,
        2 => (-3i8..3).prop_map(f32::from),
        2 => Just(f32::NEG_INFINITY),
        1 => Just(1e-41f32),
        1 => Just(-1e38f32),
    ];
    prop_oneof![
        8 => prop::collection::vec(value, 6..400),
        1 => Just(vec![1e38f32, 1e38, -3.0, f32::NEG_INFINITY, 0.0, 1.0]),
        1 => prop::collection::vec(Just(2.5f32), 6..200),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Nothing is resurrected, nothing empties, the draw is kept, logarithms are finite.
    #[test]
    fn every_pipeline_keeps_the_contract(
        p in pipeline(), logits in logits(), text in prop::collection::vec(0u32..6, 0..120),
        seed: u64, race: bool,
    ) {
        prop_assume!(logits.iter().any(|x| x.is_finite()));
        let history = History::new(&text, &p.ngrams());
        let x = Input { address: Address::new(seed, 3, 0), ..input(&logits, &history) };
        let mut row = ScaledRow::new();
        let draw = if race { Draw::Race } else { Draw::Cdf };
        match p.sample(&x, draw, Detail::Full, &mut row) {
            Err(Error::StateMismatch { found, .. }) => {
                prop_assert!(p.steps().iter().any(|s| s.processor().phase() == Phase::Mask), "{found}");
            }
            Err(e) => prop_assert!(false, "{e}"),
            Ok(d) => {
                let t = d.token as usize;
                prop_assert!(row.scaled()[t] > f32::NEG_INFINITY);
                prop_assert!(d.log_prob.is_finite() && d.log_prob <= 1e-6);
                for (a, b) in logits.iter().zip(row.scaled()) {
                    prop_assert!(*a > f32::NEG_INFINITY || *b == f32::NEG_INFINITY);
                }
                let sum: f64 = row.probabilities().iter().sum();
                prop_assert!((sum - 1.0).abs() < 1e-5);
                // A second run, and a run through JSON, gives the same bits.
                let again = Pipeline::from_json(&p.to_json().unwrap()).unwrap();
                prop_assert_eq!(&again, &p);
                prop_assert_eq!(again.stable_hash().unwrap(), p.stable_hash().unwrap());
                let mut other = ScaledRow::new();
                let e = again.sample(&x, draw, Detail::Full, &mut other).unwrap();
                prop_assert_eq!((d.token, d.log_prob.to_bits()), (e.token, e.log_prob.to_bits()));
                prop_assert_eq!(row.scaled(), other.scaled());
            }
        }
    }

    /// A shift of all logits moves no truncation (away from boundaries, hence small integers).
    #[test]
    fn truncations_ignore_a_shift_and_names(
        s in step(), raw in prop::collection::vec(-4i8..5, 6..60), shift in -8i8..8, turn in 0usize..60,
    ) {
        prop_assume!(s.processor().phase() == Phase::Truncation);
        // Distinct values: ties may go by id.
        let logits: Vec<f32> = raw.iter().enumerate()
            .map(|(i, &x)| f32::from(x) * 0.5 + i as f32 * 0.007_812_5).collect();
        let history = History::default();
        let base = process(s.clone(), &logits, &history);
        let moved: Vec<f32> = logits.iter().map(|x| x + f32::from(shift)).collect();
        prop_assert_eq!(ids(&process(s.clone(), &moved, &history)), ids(&base));
        let n = logits.len();
        let turned: Vec<f32> = (0..n).map(|i| logits[(i + turn) % n]).collect();
        let mut back: Vec<u32> = ids(&process(s, &turned, &history)).iter()
            .map(|&t| ((t as usize + turn) % n) as u32).collect();
        back.sort_unstable();
        prop_assert_eq!(back, ids(&base));
    }

    /// Larger budgets keep supersets.
    #[test]
    fn truncations_are_monotone(logits in prop::collection::vec(-6f32..6.0, 1..200), a in 0.05f32..1.0, b in 0.05f32..1.0, k in 1usize..20, more in 0usize..20) {
        let (small, large) = (a.min(b), a.max(b));
        let h = History::default();
        let sub = |x: Step, y: Step| {
            let (x, y) = (ids(&process(x, &logits, &h)), ids(&process(y, &logits, &h)));
            x.iter().all(|t| y.contains(t))
        };
        // All of these keep the arg-max, the lowest id of equals; XTC and typical need not.
        let best = logits.iter().copied().fold(f32::MIN, f32::max);
        for s in [
            Step::from(top_k(k)), TopP { p: small }.into(), MinP { m: large }.into(), Epsilon { epsilon: large * 0.9 }.into(),
            Eta { epsilon: large * 0.9 }.into(), TopH { h: small, cap: 100 }.into(), TopNSigma { n: small }.into(),
            mirostat(1, 2.0).into(), mirostat(2, 2.0).into(), Momentum::default().into(),
        ] {
            let name = s.name();
            prop_assert!(ids(&process(s, &logits, &h)).iter().any(|&t| logits[t as usize] == best), "{name}");
        }
        let ok = sub(top_k(k).into(), top_k(k + more).into());
        prop_assert!(ok);
        let ok = sub(TopP { p: small }.into(), TopP { p: large }.into());
        prop_assert!(ok);
        let ok = sub(MinP { m: large }.into(), MinP { m: small }.into());
        prop_assert!(ok);
        let ok = sub(Epsilon { epsilon: large * 0.9 }.into(), Epsilon { epsilon: small * 0.9 }.into());
        prop_assert!(ok);
        let ok = sub(TopH { h: small, cap: 100 }.into(), TopH { h: large, cap: 100 }.into());
        prop_assert!(ok);
        let ok = sub(TopNSigma { n: small }.into(), TopNSigma { n: large }.into());
        prop_assert!(ok);
        let ok = sub(Typical { mass: small, ties: false }.into(), Typical { mass: large, ties: false }.into());
        prop_assert!(ok);
        // Idempotent: these three.
        for s in [Step::from(top_k(k)), MinP { m: small }.into()] {
            let once = process(s.clone(), &logits, &h).scaled().to_vec();
            let twice = process(s, &once, &h);
            prop_assert_eq!(&once[..], twice.scaled());
        }
    }

    /// Neutral parameters leave the row bit for bit.
    #[test]
    fn neutral_parameters_are_the_identity(logits in logits(), text in prop::collection::vec(0u32..6, 0..30)) {
        prop_assume!(logits.iter().any(|x| x.is_finite()));
        let h = History::new(&text, &[]);
        let neutral: Vec<Step> = vec![
            top_k(0).into(), TopP { p: 1.0 }.into(), MinP { m: 0.0 }.into(),
            Typical { mass: 1.0, ties: false }.into(), Epsilon { epsilon: 0.0 }.into(),
            Eta { epsilon: 0.0 }.into(), Xtc { probability: 0.0, threshold: 0.1 }.into(),
            Temperature { temperature: 1.0 }.into(), Dynatemp { low: 1.0, high: 1.0, exponent: 1.0 }.into(),
            Repetition { penalty: 1.0, scope: Scope::All, window: None }.into(),
            Frequency { frequency: 0.0, presence: 0.0, scope: Scope::All, window: None }.into(),
            Forgetting { penalty: 1.0, window: 100, length: 0.0, target: 0, eos: vec![] }.into(),
            Dry { multiplier: 0.0, base: 1.75, allowed: 2, window: 9, breakers: vec![] }.into(),
            LogitBias { bias: vec![] }.into(), SequenceBias { bias: vec![] }.into(),
            LengthDecay { start: 0, factor: 1.0, eos: vec![] }.into(),
            SelfDebias { decay: 0.0, epsilon: 0.01 }.into(),
            Rpg { factor: 1.0, eos_factor: 1.0, eos: vec![1], ..Rpg::default() }.into(),
            EncoderRepetition { penalty: 1.0, tokens: vec![1, 2] }.into(),
            EncoderNgram { n: 3, tokens: vec![1, 2] }.into(), Diversity { penalty: 0.0 }.into(),
            Suppress { tokens: vec![], begin_only: false }.into(), BadWords { words: vec![] }.into(),
            Forced { at: vec![] }.into(), MinLength { new_tokens: 0, total: 0, eos: vec![] }.into(),
        ];
        for s in &neutral {
            prop_assert!(s.processor().is_neutral(), "{}", s.name());
            let row = process(s.clone(), &logits, &h);
            prop_assert_eq!(row.scaled(), &logits[..], "{}", s.name());
        }
        let all = Pipeline::new(neutral).unwrap();
        let mut row = ScaledRow::new();
        all.process(&input(&logits, &h), &mut row).unwrap();
        prop_assert_eq!(row.scaled(), &logits[..]);
    }

    #[test]
    fn momentum_equals_its_definition(
        text in prop::collection::vec(0u32..8, 0..60),
        z in prop::collection::vec(prop_oneof![9 => -3f32..3.0, 1 => Just(f32::NEG_INFINITY)], 8),
        alpha in 0f32..0.4, k in 1usize..9, cap in 1usize..7, table in 1usize..8,
    ) {
        prop_assume!(z.iter().any(|z| z.is_finite()));
        let resistance = (0..table).map(|r| 0.5 * r as f32).collect();
        let m = Momentum { alpha: alpha + 0.01, k, cap, resistance, include_prompt: true };
        let want = naive_momentum(&m, &text, &z);
        prop_assert_eq!(ids(&process(m, &z, &History::new(&text, &[]))), [want]);
    }

    #[test]
    fn dry_equals_its_definition(
        h in prop::collection::vec(0u32..4, 0..60), allowed in 1usize..4, window in 1usize..50,
        breaker in prop::option::of(0u32..4), multiplier in 0.1f32..2.0,
    ) {
        let d = Dry { multiplier, base: 1.75, allowed, window, breakers: breaker.into_iter().collect() };
        let mut want = [1.0f32, -1.0, 0.5, 2.0, -3.0];
        naive_dry(&d, &h, &mut want);
        let got = z_after(d, &h, h.len() / 2);
        for (a, b) in got.iter().zip(want) {
            prop_assert!((a - b).abs() <= 1e-5 * b.abs().max(1.0), "{got:?} {want:?}");
        }
    }

    /// Forks, rollbacks and fresh sessions fed with the same text agree bit for bit.
    #[test]
    fn sessions_depend_on_the_text_alone(
        p in pipeline(), logits in logits(), prompt in prop::collection::vec(0u32..6, 0..80),
        path in prop::collection::vec((0u32..6, -9f32..0.0), 1..80), extra in prop::collection::vec(0u32..6, 0..70),
        seed: u64,
    ) {
        prop_assume!(logits.iter().any(|x| x.is_finite()));
        let p = Arc::new(p);
        let mut a = Session::new(p.clone(), &prompt, seed, 1);
        let mut b = Session::new(p.clone(), &prompt, seed, 1);
        for &(t, lp) in &path {
            a.observe_drawn(t, lp);
            b.observe_drawn(t, lp);
        }
        extra.iter().for_each(|&t| b.observe(t));
        b.rollback(extra.len()).unwrap();
        let c = a.clone();
        extra.iter().for_each(|&t| a.observe(t));
        a.rollback(extra.len()).unwrap();
        let (mut x, mut y) = (ScaledRow::new(), ScaledRow::new());
        let first = c.process((&logits[..]).into(), None, &mut x);
        for s in [&a, &b] {
            prop_assert_eq!(s.mu().map(f32::to_bits), c.mu().map(f32::to_bits));
            let second = s.fork().process((&logits[..]).into(), None, &mut y);
            prop_assert_eq!(&first, &second);
            if first.is_ok() {
                prop_assert_eq!(x.scaled(), y.scaled());
            }
        }
        let mut s = a.clone();
        s.sync(&prompt).unwrap();
        s.reset().unwrap();
        prop_assert_eq!(s.len(), prompt.len());
        if !prompt.is_empty() {
            prop_assert!(s.sync(&[9]).is_err());
        }
    }

    /// XTC's coin has its probability over positions and belongs to the position alone.
    #[test]
    fn xtc_coins_belong_to_positions(seed: u64) {
        let p = Pipeline::new(vec![Xtc { probability: 0.3, threshold: 0.1 }.into()]).unwrap();
        let (logits, history) = (ln(&P), History::default());
        let mut row = ScaledRow::new();
        let mut hits = 0;
        for i in 0..600 {
            let x = Input { address: Address::new(seed, i, 0), ..input(&logits, &history) };
            p.process(&x, &mut row).unwrap();
            let n = ids(&row).len();
            prop_assert!(n == 3 || n == 5);
            hits += i32::from(n == 3);
        }
        // 600 coins at 0.3: 10 sigma is 112.
        prop_assert!((hits - 180).abs() < 112);
    }
}

#[test]
fn bad_parameters_are_named() {
    let bad: Vec<Step> = vec![
        Temperature { temperature: -1.0 }.into(),
        Temperature { temperature: f32::NAN }.into(),
        TopP { p: 0.0 }.into(),
        MinP { m: 1.5 }.into(),
        Typical { mass: 0.0, ties: false }.into(),
        Epsilon { epsilon: 1.0 }.into(),
        Xtc { probability: 0.5, threshold: 0.6 }.into(),
        Mirostat { version: 3, ..mirostat(1, 5.0) }.into(),
        Repetition { penalty: 0.0, scope: Scope::All, window: None }.into(),
        Dry { multiplier: 1.0, base: 0.5, allowed: 2, window: 9, breakers: vec![] }.into(),
        NgramBlock { n: 0, include_prompt: true }.into(),
        LogitBias { bias: vec![(0, f32::NEG_INFINITY)] }.into(),
        BadWords { words: vec![vec![]] }.into(),
        Allow { tokens: vec![] }.into(),
        TopH { h: 0.0, cap: 100 }.into(),
        TopNSigma { n: f32::NAN }.into(),
        Momentum { alpha: -0.1, ..Momentum::default() }.into(),
        Momentum { k: 0, ..Momentum::default() }.into(),
        Momentum { resistance: vec![f32::INFINITY], ..Momentum::default() }.into(),
        Rpg { factor: 0.0, ..Rpg::default() }.into(),
        Rpg { least: 1, ..Rpg::default() }.into(),
        EncoderRepetition { penalty: 1.5, tokens: vec![2, 2] }.into(),
        EncoderNgram { n: 0, tokens: vec![1] }.into(),
        Diversity { penalty: f32::NAN }.into(),
    ];
    for step in bad {
        let name = step.name();
        let e = Pipeline::new(vec![step]).unwrap_err();
        assert!(matches!(e, Error::InvalidInput { .. }), "{name}: {e}");
    }
    let two = vec![mirostat(1, 5.0).into(), mirostat(2, 5.0).into()];
    assert!(Pipeline::new(two).is_err());
    for text in [
        "",
        "{}",
        "{\"steps\":[{\"rule\":\"top_q\"}]}",
        "{\"steps\":[{\"rule\":\"top_p\"}]}",
        "{\"steps\":[{\"rule\":\"top_p\",\"p\":0.5,\"q\":1}]}",
        "{\"steps\":[{\"rule\":\"top_p\",\"p\":2}]}",
    ] {
        assert!(matches!(Pipeline::from_json(text), Err(Error::InvalidInput { .. })), "{text}");
    }
}

#[test]
fn json_is_frozen() {
    let p = Pipeline::ordered(
        vec![
            TopP { p: 0.9 }.into(),
            Temperature { temperature: 0.7 }.into(),
            Repetition { penalty: 1.1, scope: Scope::All, window: None }.into(),
        ],
        Order::Canonical,
    )
    .unwrap();
    let text = p.to_json().unwrap();
    assert_eq!(
        text,
        "{\"steps\":[{\"rule\":\"repetition\",\"penalty\":1.1,\"scope\":\"all\",\"window\":null},\
         {\"rule\":\"temperature\",\"temperature\":0.7},{\"rule\":\"top_p\",\"p\":0.9}]}"
    );
    assert_eq!(
        p.stable_hash().unwrap(),
        text.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| {
            (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
        })
    );
}
