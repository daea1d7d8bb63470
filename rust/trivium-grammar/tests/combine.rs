//! Combinations of grammars against their definitions, over all short texts.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{byte_vocab, pattern, regex, texts, vocab};
use proptest::prelude::*;
use std::sync::Arc;
use trivium_core::mask;
use trivium_grammar::{CompileLimits, Dialect, Error, GrammarMask, Phrases};

const ALPHABET: &[char] = &['a', 'b', '\n', 'é'];

fn limits() -> CompileLimits {
    CompileLimits::default()
}

/// The language is `want`, and no mask on the way to a text leads into a dead end.
fn check(made: trivium_grammar::Result<GrammarMask>, all: &[String], want: impl Fn(&str) -> bool) {
    let g = match made {
        Ok(g) => g,
        Err(Error::Unsatisfiable { .. }) => {
            assert!(!all.iter().any(|t| want(t)), "claimed to be empty");
            return;
        }
        Err(e) => panic!("{e}"),
    };
    for t in all {
        assert_eq!(g.matches(t.as_bytes()).unwrap(), want(t), "{t:?}");
    }
    let mut m = g.matcher();
    for step in 0..4 {
        let mut row = vec![0u32; m.words()];
        assert!(m.fill(&mut row).unwrap(), "a dead end after {:?}", m.tokens());
        assert_eq!(row, m.mask_slow().unwrap());
        let ids: Vec<u32> = mask::iter(&row).filter(|&t| !m.vocab().is_eos(t)).collect();
        for &t in ids.iter().step_by(ids.len() / 8 + 1) {
            let mut prefix: Vec<u8> = Vec::new();
            m.tokens().iter().chain([&t]).for_each(|&t| prefix.extend(m.vocab().token(t)));
            let text = g.completion(&prefix).unwrap().expect("a dead end");
            assert!(g.matches(&text).unwrap());
        }
        let Some(&t) = ids.get(step % ids.len().max(1)) else { break };
        assert!(m.commit(t).unwrap());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn set_operations(a in pattern(), b in pattern(), full in any::<bool>()) {
        let vocab = byte_vocab();
        let all = texts(ALPHABET, 4);
        let make = |p: &str| GrammarMask::regex(p, &vocab, Dialect::Rust, full, limits());
        let (Ok(x), Ok(y)) = (make(&a), make(&b)) else { return Ok(()) };
        let holds = |g: &GrammarMask, t: &str| g.matches(t.as_bytes()).unwrap();
        check(GrammarMask::and(&[&x, &y], limits()), &all, |t| holds(&x, t) && holds(&y, t));
        check(GrammarMask::or(&[&x, &y], limits()), &all, |t| holds(&x, t) || holds(&y, t));
        check(GrammarMask::not(&x, limits()), &all, |t| !holds(&x, t));
        let both = GrammarMask::then(&[&x, &y], limits());
        if !matches!(both, Err(Error::UnsupportedPattern { .. })) {
            let parts = |t: &str| {
                (0..=t.len())
                    .filter(|&i| t.is_char_boundary(i))
                    .any(|i| holds(&x, &t[..i]) && holds(&y, &t[i..]))
            };
            check(both, &all, parts);
        }
    }
}

#[test]
fn difference_and_nesting() {
    let vocab = byte_vocab();
    let word = regex("[a-z]+", &vocab, true);
    let keywords = GrammarMask::choices(&["if", "else"], &vocab, limits()).unwrap();
    let not = GrammarMask::not(&keywords, limits()).unwrap();
    let names = GrammarMask::and(&[&word, &not], limits()).unwrap();
    for (t, yes) in [("if", false), ("iff", true), ("else", false), ("els", true), ("", false)] {
        assert_eq!(names.matches(t.as_bytes()).unwrap(), yes, "{t}");
    }
    let none = GrammarMask::and(&[&keywords, &names], limits()).unwrap_err();
    assert!(matches!(none, Error::Unsatisfiable { .. }), "{none}");
    let other = byte_vocab();
    let e = GrammarMask::and(&[&word, &regex("a", &other, true)], limits()).unwrap_err();
    assert!(e.to_string().contains("different vocabularies"), "{e}");
}

#[test]
fn phrases_occur_or_do_not() {
    let vocab = vocab(&[b"a", b"b", b"ab", b"ba", b"aa", b"bb", b" "]);
    let all = texts(&['a', 'b', ' '], 6);
    let make = |must: &[&[&str]], never: &[&str]| {
        let own = |l: &[&str]| l.iter().map(|&s| s.to_owned()).collect::<Vec<_>>();
        let phrases = Phrases {
            must: must.iter().map(|g| own(g)).collect(),
            never: own(never),
            ..Phrases::default()
        };
        GrammarMask::phrases(phrases, &vocab, limits())
    };
    check(make(&[], &["ab", "bb"]), &all, |t| !t.contains("ab") && !t.contains("bb"));
    check(make(&[&["ab"], &["ba"]], &[]), &all, |t| t.contains("ab") && t.contains("ba"));
    check(make(&[&["aab", "bba"]], &["aba"]), &all, |t| {
        (t.contains("aab") || t.contains("bba")) && !t.contains("aba")
    });
    assert!(matches!(make(&[&["xab"]], &["a"]), Err(Error::Unsatisfiable { .. })));
    assert!(make(&[&[]], &[]).is_err() && make(&[], &[""]).is_err());

    let vocab = byte_vocab();
    let phrases = Phrases {
        never: vec!["Cat".into()],
        ignore_case: true,
        whole_words: true,
        ..Phrases::default()
    };
    let g = GrammarMask::phrases(phrases, &vocab, limits()).unwrap();
    for (t, yes) in
        [("cat", false), ("a CAT.", false), ("cats", true), ("concat", true), ("", true)]
    {
        assert_eq!(g.matches(t.as_bytes()).unwrap(), yes, "{t}");
    }
}

#[test]
fn many_forbidden_phrases_stay_small() {
    let vocab = byte_vocab();
    let never: Vec<String> = (0..500).map(|i| format!("word{i:03}x")).collect();
    let phrases = Phrases { never, ..Phrases::default() };
    let g = GrammarMask::phrases(phrases, &vocab, limits()).unwrap();
    assert!(g.matches("a word499 word499y".as_bytes()).unwrap());
    assert!(!g.matches("a word499x".as_bytes()).unwrap());
    assert!(g.report().unwrap().automaton.states < 100);
}

/// Free text, then an island, as often as triggers come.
fn free(t: &str, stop: Option<&str>, inner: &dyn Fn(&str) -> bool) -> bool {
    let first = |t: &str, w: &str| t.find(w).map(|i| i + w.len());
    let (next, end) = (first(t, "<"), stop.and_then(|s| first(t, s)));
    match (next, end) {
        (None, Some(end)) => end == t.len(),
        (None, None) => stop.is_none(),
        (Some(next), Some(end)) if end < next => end == t.len(),
        (Some(next), _) => {
            (next..=t.len()).any(|i| inner(&t[next..i]) && free(&t[i..], stop, inner))
        }
    }
}

#[test]
fn islands_start_at_their_triggers() {
    let vocab = vocab(&[b"a", b"b", b"ab", b"<", b">", b"<>"]);
    let all = texts(&['a', 'b', '<', '>'], 6);
    let inner = regex("b*a", &vocab, true);
    let is_inner = |t: &str| t.strip_suffix('a').is_some_and(|h| h.chars().all(|c| c == 'b'));
    check(GrammarMask::after("<>", &inner, limits()), &all, |t| {
        t.split_once("<>").is_some_and(|(_, rest)| is_inner(rest))
    });
    for stop in [None, Some(">>")] {
        check(GrammarMask::free_text_with(&[("<", &inner)], stop, limits()), &all, |t| {
            free(t, stop, &is_inner)
        });
    }
    assert!(GrammarMask::free_text_with(&[("<", &inner)][..0], None, limits()).is_err());
    assert!(GrammarMask::after("", &inner, limits()).is_err());
}

#[test]
fn spans_are_the_pieces_of_the_source() {
    let vocab = vocab(&[b"a", b"b", b"ab", b" ", b" a", b"\xc3", b"\xa9"]);
    let source = "ab a é ba";
    let all = texts(&['a', 'b', ' ', 'é'], 5);
    let make = |words, most| GrammarMask::spans(source, words, most, &vocab, limits());
    check(make(false, None), &all, |t| !t.is_empty() && source.contains(t));
    let whole = |t: &str| {
        !t.is_empty()
            && source.match_indices(t).any(|(i, _)| {
                let word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
                let (head, tail) = (&source[..i], &source[i + t.len()..]);
                let inside = |a: Option<char>, b: Option<char>| word(a) && word(b);
                !inside(head.chars().next_back(), t.chars().next())
                    && !inside(t.chars().next_back(), tail.chars().next())
            })
    };
    check(make(true, None), &all, whole);
    check(make(true, Some(1)), &all, |t| whole(t) && t.split_whitespace().count() <= 1);
    assert!(matches!(
        GrammarMask::spans("", false, None, &vocab, limits()),
        Err(Error::Unsatisfiable { .. })
    ));
    let long: String = (0..20_000u32).map(|i| char::from(b'a' + (i * i % 23) as u8)).collect();
    let g = GrammarMask::spans(&long, false, None, &byte_vocab(), limits()).unwrap();
    assert!(g.matches(&long.as_bytes()[7000..7300]).unwrap());
}

#[test]
fn a_special_vocabulary_is_shared_not_copied() {
    let vocab = byte_vocab();
    let a = regex("a", &vocab, true);
    let or = GrammarMask::or(&[&a, &regex("b", &vocab, true)], limits()).unwrap();
    assert!(Arc::ptr_eq(or.vocab(), &vocab));
}

/// Loops under length intervals and complements, over a vocabulary large enough for slices.
#[test]
fn slices_change_no_mask_of_a_combination() {
    let mut x = 11u64;
    let mut random = |n: usize| {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (x >> 33) as usize % n
    };
    let pieces = ["a", "b", "c", "-", "ab", "\u{e9}", "1", ".", "cab"];
    let tokens: Vec<Vec<u8>> = (0..2500)
        .map(|_| (0..=random(7)).map(|_| pieces[random(pieces.len())]).collect::<String>().into())
        .collect();
    let vocab = vocab(&tokens.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let make = |p: &str| regex(p, &vocab, true);
    let never = |p: &str| GrammarMask::not(&regex(p, &vocab, false), limits()).unwrap();
    for (x, y) in [
        (make("[a-c]+(-[a-c]+)*"), make("(?s).{0,20}")),
        (make("[a-c]([a-c1]{0,9}[a-c])?(\\.[a-c]([a-c1]{0,9}[a-c])?)*"), make("(?s).{0,17}")),
        (make("(?s).{3,30}"), never("cab")),
        (make("[a-c]{0,8}(-[a-c]{2,5}){2,4}"), make("(?s).{0,24}")),
        (make("([a-c]{1,4}-){3,}1"), make("(?s).{0,25}")),
        (never("ab1|c\\.c"), never("-a")),
    ] {
        let g = GrammarMask::and(&[&x, &y], limits()).unwrap();
        let mut m = g.matcher();
        for step in 0..60 {
            let mut row = vec![0; m.words()];
            m.fill(&mut row).unwrap();
            assert_eq!(row, m.mask_slow().unwrap(), "after {:?}", m.tokens());
            let ids: Vec<u32> = mask::iter(&row).filter(|&t| !vocab.is_eos(t)).collect();
            if ids.is_empty() || step % 9 == 8 {
                m.reset();
            } else {
                assert!(m.commit(ids[random(ids.len())]).unwrap());
            }
        }
    }
}
