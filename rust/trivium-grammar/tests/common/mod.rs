//! Small vocabularies, random patterns and brute force for the tests of this crate.
#![allow(dead_code)]

use proptest::prelude::*;
use regex_syntax::hir::Hir;
use std::sync::Arc;
use trivium_core::{SpecialToken, Vocabulary};
use trivium_grammar::{CompileLimits, Dialect, GrammarMask, naive};

/// All texts over `alphabet` of at most `len` characters.
pub(crate) fn texts(alphabet: &[char], len: usize) -> Vec<String> {
    let mut out = vec![String::new()];
    let mut from = 0;
    for _ in 0..len {
        let to = out.len();
        for i in from..to {
            for c in alphabet {
                out.push(format!("{}{c}", out[i]));
            }
        }
        from = to;
    }
    out
}

/// Regular tokens, then one special token, two ends of sequence and one padding id.
pub(crate) fn vocab(tokens: &[&[u8]]) -> Arc<Vocabulary> {
    let mut all: Vec<Vec<u8>> = tokens.iter().map(|t| t.to_vec()).collect();
    let n = all.len() as u32;
    all.extend(std::iter::repeat_n(Vec::new(), 4));
    let special = [
        SpecialToken { id: n, name: "<s>".into() },
        SpecialToken { id: n + 1, name: "</s>".into() },
        SpecialToken { id: n + 2, name: "<end>".into() },
    ];
    // One more logit than tokens, and a row that ends inside a word.
    Arc::new(Vocabulary::new(&all, &special, &[n + 1, n + 2], Some(n as usize + 5)).unwrap())
}

/// The 256 single bytes and two words: everything can be spelled.
pub(crate) fn byte_vocab() -> Arc<Vocabulary> {
    let bytes: Vec<[u8; 1]> = (0..=255).map(|b| [b]).collect();
    let mut tokens: Vec<&[u8]> = bytes.iter().map(|b| &b[..]).collect();
    tokens.extend([&b"ab"[..], b"\n\xc3"]);
    vocab(&tokens)
}

pub(crate) fn regex(pattern: &str, vocab: &Arc<Vocabulary>, full: bool) -> GrammarMask {
    GrammarMask::regex(pattern, vocab, Dialect::Rust, full, CompileLimits::default())
        .unwrap_or_else(|e| panic!("{pattern}: {e}"))
}

/// The mask of `prefix` by brute force: a token is allowed iff some text of `language` begins with
/// the prefix and the token. Complete only for completions as short as the list.
pub(crate) fn brute_mask(language: &[String], prefix: &[u8], vocab: &Vocabulary) -> Vec<u32> {
    (0..vocab.num_rows() as u32)
        .filter(|&t| {
            if vocab.is_eos(t) {
                return language.iter().any(|w| w.as_bytes() == prefix);
            }
            let mut longer = prefix.to_vec();
            longer.extend_from_slice(vocab.token(t));
            longer.len() > prefix.len()
                && language.iter().any(|w| w.as_bytes().starts_with(&longer))
        })
        .collect()
}

pub(crate) fn language(hir: &Hir, full: bool, all: &[String]) -> Vec<String> {
    all.iter().filter(|t| naive::matches(hir, t, full)).cloned().collect()
}

/// Random patterns over `a`, `b`, a line feed and two non-ASCII letters, predicates included.
pub(crate) fn pattern() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        6 => Just("a".to_owned()),
        4 => Just("b".to_owned()),
        2 => Just("é".to_owned()),
        1 => Just("中".to_owned()),
        1 => Just(r"\n".to_owned()),
        2 => Just(".".to_owned()),
        1 => Just("[^a]".to_owned()),
        1 => Just("[bé]".to_owned()),
        1 => Just(r"\w".to_owned()),
        1 => Just(r"\W".to_owned()),
        1 => Just(String::new()),
        1 => prop_oneof![
            Just("^"), Just("$"), Just(r"\A"), Just(r"\z"), Just(r"\b"), Just(r"\B"),
            Just("(?m:^)"), Just("(?m:$)"), Just(r"(?-u:\b)"), Just("(?Rm:^)"), Just("(?Rm:$)"),
            Just(r"\b{start}"), Just(r"\b{end}"),
        ].prop_map(str::to_owned),
    ];
    leaf.prop_recursive(4, 12, 3, |inner| {
        prop_oneof![
            3 => prop::collection::vec(inner.clone(), 2..4).prop_map(|v| v.concat()),
            2 => prop::collection::vec(inner.clone(), 2..4)
                .prop_map(|v| format!("(?:{})", v.join("|"))),
            2 => (inner, 0usize..8).prop_map(|(x, q)| {
                let q = ["*", "+", "?", "{2}", "{1,3}", "{2,}", "*?", "{0,2}?"][q];
                format!("(?:{x}){q}")
            }),
        ]
    })
}
