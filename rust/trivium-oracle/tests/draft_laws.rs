//! Drafts whose law is made by a map or by another decoder: exact, by enumeration.
//!
//! A draft model of another vocabulary (token-level intersection, string-level rejection), one with a
//! pruned head, and one that is itself accelerated by a cheaper drafter. In each the token is drawn by
//! the code that a host would call, verified against the law that the map states, and the law of the
//! text must be that of the target to 1e-12.

#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

use trivium_core::{Chance, Purpose, TokenId};
use trivium_oracle::check::{extend, target};
use trivium_oracle::enumerate::Law;
use trivium_oracle::pairs::Pair;
use trivium_oracle::toy::{SHAPES, ToyModel};
use trivium_oracle::{law_of, total_variation};
use trivium_spec::DraftLaw;
use trivium_spec::draft::logits::{VocabMap, first_token_law};
use trivium_spec::verify::{ProbRows, Tree, Verifier, Work, verify_tree};

const START: u32 = 7;

/// Logits as weights.
fn weights(model: &ToyModel, prefix: &[TokenId]) -> Vec<f32> {
    model.logits(prefix).iter().map(|&x| x.exp()).collect()
}

/// Draws a token after a path; also the law that it is said to be drawn from.
type Draft<'a> = &'a mut dyn FnMut(&[TokenId], &mut dyn Chance) -> (TokenId, Vec<f32>);

/// One step: a chain of `gamma` tokens from `draft`, verified; the text extended by the target to `gamma + 1` tokens.
fn distance(model: &ToyModel, verifier: Verifier, gamma: usize, draft: Draft<'_>) -> f64 {
    let vocab = model.vocab;
    let law: Law<Vec<TokenId>> = law_of(|chance| {
        let (mut tokens, mut parents) = (vec![0], vec![-1]);
        let (mut p, mut q) = (weights(model, &[]), Vec::new());
        for i in 0..gamma {
            let path = tokens[1..].to_vec();
            let (token, row) = draft(&path, chance);
            tokens.push(token);
            parents.push(i as i32);
            q.extend(row);
            p.extend(weights(model, &tokens[1..]));
        }
        q.extend(vec![1.0; vocab]);
        let tree = Tree {
            tokens: &tokens,
            parents: &parents,
            roles: &[],
            law: DraftLaw::IidQ,
            start: START,
            bonus: true,
        };
        let mut rows = ProbRows::weights(&p, Some(&q), vocab).unwrap();
        verify_tree(verifier, &tree, &mut rows, chance, &mut Work::default()).unwrap().tokens
    });
    let extend_by = |law: Law<Vec<TokenId>>| {
        let mut out: Law<Vec<TokenId>> = Law::new();
        let mut todo: Vec<(Vec<TokenId>, f64)> = law.into_iter().collect();
        while let Some((text, m)) = todo.pop() {
            if text.len() > gamma {
                *out.entry(text[..=gamma].to_vec()).or_insert(0.0) += m;
                continue;
            }
            let w = weights(model, &text);
            let sum: f64 = w.iter().map(|&x| f64::from(x)).sum();
            for (t, &x) in w.iter().enumerate().filter(|(_, x)| **x > 0.0) {
                let longer = [&text[..], &[t as TokenId]].concat();
                todo.push((longer, m * f64::from(x) / sum));
            }
        }
        out
    };
    let want = extend_by(Law::from([(Vec::new(), 1.0)]));
    total_variation(&want, &extend_by(law))
}

fn draw(row: &[f32], chance: &mut dyn Chance) -> TokenId {
    let w: Vec<f64> = row.iter().map(|&x| f64::from(x)).collect();
    chance.categorical(START, Purpose::Draft, &w) as TokenId
}

const EXACT: f64 = 1e-12;

#[test]
fn token_level_intersection_is_lossless() {
    // |I| = 2 of four and four, with two draft spellings of one target token.
    let map =
        VocabMap::intersection(&[&b"x"[..], b"b", b"a", b"b"], &[&b"a"[..], b"b", b"c", b"d"])
            .unwrap();
    assert_eq!(map.len(), 2);
    for shape in SHAPES {
        for seed in 0..4 {
            let model = ToyModel { vocab: 4, seed, shape };
            let small = ToyModel { vocab: 4, seed: seed + 50, shape: SHAPES[0] };
            for verifier in [Verifier::Token, Verifier::Block] {
                let tv = distance(&model, verifier, 2, &mut |path, chance| {
                    let q = map.law(&weights(&small, path)).unwrap();
                    (draw(&q, chance), q)
                });
                assert!(tv < EXACT, "{verifier:?} {model:?}: {tv}");
            }
        }
    }
}

#[test]
fn a_trimmed_head_is_lossless() {
    let map = VocabMap::trim(&[9, 1, 4, 0], 2, &[3]).unwrap();
    for seed in 0..6 {
        let model = ToyModel { vocab: 4, seed, shape: SHAPES[seed as usize] };
        let small = ToyModel { vocab: 3, seed: seed + 50, shape: SHAPES[0] };
        for verifier in [Verifier::Token, Verifier::Block] {
            let tv = distance(&model, verifier, 2, &mut |path, chance| {
                let q = map.law(&weights(&small, path)).unwrap();
                (draw(&q, chance), q)
            });
            assert!(tv < EXACT, "{verifier:?} {model:?}: {tv}");
        }
    }
}

const LETTERS: [&str; 2] = ["a", "b"];
const WORDS: [&str; 4] = ["a", "b", "ab", "ba"];

/// Letters of a text of target tokens.
fn spell(path: &[TokenId]) -> Vec<TokenId> {
    let text: String = path.iter().map(|&t| WORDS[t as usize]).collect();
    text.bytes().map(|c| TokenId::from(c == b'b')).collect()
}

/// The proposal is the first target token of a text that the draft wrote letter by letter. Its letters
/// have probabilities in 64ths, so that the law of a token, in 4096ths, is told exactly in f32.
#[test]
fn string_level_rejection_is_lossless() {
    for seed in 0..6 {
        let model = ToyModel { vocab: 4, seed, shape: SHAPES[seed as usize] };
        let small = ToyModel { vocab: 2, seed: seed + 50, shape: SHAPES[0] };
        let letter = |text: &[TokenId]| -> Vec<f64> {
            let w = weights(&small, text);
            let a = (64.0 * w[0] / (w[0] + w[1])).round().clamp(1.0, 63.0);
            vec![f64::from(a) / 64.0, f64::from(64.0 - a) / 64.0]
        };
        let tv = distance(&model, Verifier::Token, 2, &mut |path, chance| {
            let before = spell(path);
            let mut next = |t: &[TokenId]| letter(&[&before[..], t].concat());
            // The text is really drawn, letter by letter; the first token is read off it.
            let mut text = Vec::new();
            for _ in 0..2 {
                text.push(chance.categorical(START, Purpose::Draft, &next(&text)) as TokenId);
            }
            let token = match text[..] {
                [0, 1] => 2,
                [1, 0] => 3,
                [first, _] => first,
                _ => unreachable!(),
            };
            let psi = first_token_law(&LETTERS, &WORDS, &mut next, 100).unwrap();
            assert!((psi.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            assert!(psi.iter().all(|&x| f64::from(x as f32) == x), "told without rounding");
            (token, psi.iter().map(|&x| x as f32).collect())
        });
        assert!(tv < EXACT, "{model:?}: {tv}");
        // The published shorthand, "the text starts with t", is no law and is caught.
        let tv = distance(&model, Verifier::Token, 1, &mut |_, chance| {
            let q = weights(&small, &[]);
            let t = draw(&q, chance);
            let s: f32 = q.iter().sum();
            (t, vec![q[0] / s, q[1] / s, 0.5 * q[0] / s, 0.5 * q[1] / s])
        });
        let spread = model.shape == SHAPES[0];
        assert!(tv > 1e-3 || !spread, "a wrong psi must be caught: {tv}");
    }
}

/// As hosts do it: the law is computed for any letters, rounded to f32, and drawn from as it is told.
#[test]
fn a_string_law_that_is_drawn_from_as_told_is_lossless() {
    for seed in 0..6 {
        let model = ToyModel { vocab: 4, seed, shape: SHAPES[seed as usize] };
        let small = ToyModel { vocab: 2, seed: seed + 50, shape: SHAPES[seed as usize % 3] };
        for verifier in [Verifier::Token, Verifier::Block] {
            let tv = distance(&model, verifier, 2, &mut |path, chance| {
                let before = spell(path);
                let mut next = |t: &[TokenId]| -> Vec<f64> {
                    weights(&small, &[&before[..], t].concat()).iter().map(|&x| x.into()).collect()
                };
                let psi = first_token_law(&LETTERS, &WORDS, &mut next, 100).unwrap();
                let q: Vec<f32> = psi.iter().map(|&x| x as f32).collect();
                (draw(&q, chance), q)
            });
            assert!(tv < EXACT, "{verifier:?} {model:?}: {tv}");
        }
    }
}

/// Staged: the draft model's own tokens come from speculative decoding with a bigram-like drafter;
/// they are exact draws from it, so the outer test against its law is exact.
#[test]
fn staged_speculation_is_lossless() {
    for seed in 0..6 {
        let vocab = 2;
        let model = ToyModel { vocab, seed, shape: SHAPES[seed as usize] };
        let middle = ToyModel { vocab, seed: seed + 50, shape: SHAPES[0] };
        let guess = [0.6f32, 0.4];
        // Tokens of the middle model in stock, of one drafted chain.
        let mut stock: Vec<TokenId> = Vec::new();
        let tv = distance(&model, Verifier::Token, 2, &mut |path, chance| {
            if path.is_empty() {
                stock.clear();
            }
            if stock.len() <= path.len() {
                // Inner step: two guesses, verified against the middle model.
                let guesses = [draw(&guess, chance), draw(&guess, chance)];
                let base = stock.clone();
                let at = |n: usize| weights(&middle, &[&base[..], &guesses[..n]].concat());
                let p = [at(0), at(1), at(2)].concat();
                let q = [guess, guess, [1.0, 1.0]].concat();
                let tree = Tree {
                    tokens: &[0, guesses[0], guesses[1]],
                    parents: &[-1, 0, 1],
                    roles: &[],
                    law: DraftLaw::IidQ,
                    start: START,
                    bonus: true,
                };
                let mut rows = ProbRows::weights(&p, Some(&q), vocab).unwrap();
                let inner =
                    verify_tree(Verifier::Token, &tree, &mut rows, chance, &mut Work::default());
                stock.extend(inner.unwrap().tokens);
            }
            (stock[path.len()], weights(&middle, path))
        });
        assert!(tv < EXACT, "{model:?}: {tv}");
    }
}

/// The same maps over rows that are exact in f32: 1e-12.
#[test]
fn exact_in_constant_rows() {
    let map = VocabMap::trim(&[9, 1, 4, 0], 2, &[3]).unwrap();
    let q = map.law(&[0.25, 0.25, 0.5]).unwrap();
    assert_eq!(q, [0.25, 0.0, 0.25, 0.5]);
    let pair = Pair::constant(&[0.125, 0.5, 0.25, 0.125], &q);
    for verifier in [Verifier::Token, Verifier::Block] {
        let law = law_of(|chance| {
            let first = draw(&q, chance);
            let second = draw(&q, chance);
            let p: Vec<f32> = [0.125, 0.5, 0.25, 0.125].repeat(3);
            let tree = Tree {
                tokens: &[0, first, second],
                parents: &[-1, 0, 1],
                roles: &[],
                law: DraftLaw::IidQ,
                start: START,
                bonus: true,
            };
            let rows_q = q.repeat(3);
            let mut rows = ProbRows::new(&p, Some(&rows_q), 4).unwrap();
            verify_tree(verifier, &tree, &mut rows, chance, &mut Work::default()).unwrap().tokens
        });
        assert!(total_variation(&target(&pair, 3), &extend(&pair, law, 3)) < 1e-12);
    }
}
