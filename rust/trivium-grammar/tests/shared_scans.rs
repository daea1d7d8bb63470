//! What one grammar or state leaves in the process serves another only if both mean the same.
//!
//! `a*b{400}` with a bound on the length: every `a` uses room that the `b`s need, so counts far above the
//! longest token decide which tokens fit. Masks are compared with their definition, which shares nothing.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use trivium_core::{Vocabulary, mask};
use trivium_grammar::json_schema::Options;
use trivium_grammar::{CompileLimits, GrammarMask};

/// The bytes, and runs of `a` and `b` as long as tokens can be.
fn vocab() -> Arc<Vocabulary> {
    let mut tokens: Vec<Vec<u8>> = (0..=255u8).map(|b| vec![b]).collect();
    for n in [2, 3, 5, 8, 16, 31, 32, 33, 64, 100, 255] {
        tokens.extend([b"a".repeat(n), b"b".repeat(n)]);
        tokens.push([&b"b".repeat(n - 1)[..], b"\""].concat());
    }
    let eos = tokens.len() as u32;
    tokens.push(Vec::new());
    Arc::new(Vocabulary::new(&tokens, &[], &[eos], None).unwrap())
}

/// After each number of `a`s: the mask is the one by definition.
fn check(schema: &str, vocab: &Arc<Vocabulary>, most: usize, ascending: bool) {
    let limits = CompileLimits::default();
    let grammar = GrammarMask::json_schema(schema, vocab, &Options::default(), limits).unwrap();
    for i in 0..=most {
        let k = if ascending { i } else { most - i };
        let mut m = grammar.matcher();
        for b in [&b"\""[..], &b"a".repeat(k)].concat() {
            assert!(m.commit(u32::from(b)).unwrap(), "{k} in {schema}");
        }
        let mut row = vec![0u32; m.words()];
        m.fill(&mut row).unwrap();
        let show = |row: &[u32]| {
            let text = |t| String::from_utf8_lossy(vocab.token(t)).into_owned();
            mask::iter(row).map(text).collect::<Vec<_>>()
        };
        assert_eq!(show(&row), show(&m.mask_slow().unwrap()), "{k} in {schema}");
    }
}

/// Lengths that two grammars allow.
const MOST: [usize; 2] = [440, 500];

fn both_orders(schema: impl Fn(usize) -> String) {
    for lengths in [MOST, [MOST[1], MOST[0]]] {
        for ascending in [true, false] {
            let vocab = vocab();
            for most in lengths {
                check(&schema(most), &vocab, most.min(440) - 400, ascending);
            }
        }
    }
}

#[test]
fn length_bounds_above_the_longest_token() {
    both_orders(|n| format!(r#"{{"type":"string","pattern":"^a*b{{400}}$","maxLength":{n}}}"#));
}

#[test]
fn counts_that_a_length_bound_compares() {
    both_orders(|n| {
        let least = 840 - n;
        format!(r#"{{"type":"string","pattern":"^a*b{{{least}}}$","maxLength":440}}"#)
    });
}

#[test]
fn complements_in_unions() {
    both_orders(|n| {
        let least = n + 1;
        format!(
            r#"{{"type":"string","anyOf":[{{"pattern":"^a*b{{400}}$","not":{{"pattern":"^[ab]{{{least},}}$"}}}},{{"pattern":"^zz$"}}]}}"#
        )
    });
}
