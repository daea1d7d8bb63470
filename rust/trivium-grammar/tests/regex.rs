//! Languages and masks against the slow twin, `regex-automata`, and brute force.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{brute_mask, byte_vocab, language, pattern, regex, texts, vocab};
use proptest::prelude::*;
use trivium_core::mask;
use trivium_grammar::{CompileLimits, Dialect, Error, GrammarMask, naive};

const PATTERNS: &[&str] = &[
    "",
    "a",
    "ab",
    "a|b",
    "a*",
    "(a|b)*abb",
    "a?b?a?",
    "(ab|a)(bc|c)?",
    "a{2,3}",
    "(a{0,2}b){1,2}",
    "(?:aa|b){2,}",
    ".*",
    "[^a]+",
    "(a|ab)(c|bcd)*",
    "a*?b",
    "(?s).",
    "^a$",
    "^a|b$",
    "(^a)*",
    "a$b|b",
    "^^a",
    r"\Aa*\z",
    r"(?m)^a$",
    r"(?m)(^a$\n)*",
    r"a\b.b",
    r"\b",
    r"\B",
    r"\ba\b|b",
    r"(a\b|b)+",
    r"(?:\b|a){2}",
    r"(?:\b|a){3}b",
    r"(?R)(?m)^a$\r?\n?",
    r"é|e\u{301}",
    "é+",
    "[é-ü]{2}",
    "(?i)ab",
    "(?:a{0,3}){0,2}",
    "(?:a{1,2}){2,3}",
    "(?:a*)*",
    "(?:a|)+b",
    r"a\z|b\zb",
    r"(?:^|b)a",
    "(?:a$)?b?",
];

const ALPHABET: &[char] = &['a', 'b', '\n', 'é'];

fn oracle(pattern: &str, full: bool) -> regex_automata::meta::Regex {
    let text = if full { format!(r"\A(?:{pattern})\z") } else { pattern.to_owned() };
    regex_automata::meta::Regex::new(&text).unwrap()
}

#[test]
fn languages_equal_both_oracles() {
    let vocab = vocab(&[b"a"]);
    let all = texts(ALPHABET, 5);
    for p in PATTERNS {
        let hir = trivium_grammar::regex::parse(p, &CompileLimits::default()).unwrap();
        for full in [true, false] {
            let other = oracle(p, full);
            let ours = GrammarMask::regex(p, &vocab, Dialect::Rust, full, CompileLimits::default());
            for t in &all {
                let want = naive::matches(&hir, t, full);
                assert_eq!(other.is_match(t), want, "twin and regex-automata: {p:?} {full} {t:?}");
                let got = ours.as_ref().is_ok_and(|g| g.matches(t.as_bytes()).unwrap());
                assert_eq!(got, want, "{p:?} full={full} on {t:?}");
            }
        }
    }
}

/// Tokens that end inside a character, span several, and share their bytes.
const TOKENS: &[&[u8]] = &[b"a", b"b", b"ab", b"a", b"\xc3", b"\xa9", b"a\xc3", b"\xa9b"];

/// Every prefix reachable by at most three tokens: the mask is the set of tokens with a completion.
fn check_masks(p: &str, full: bool) {
    let vocab = vocab(TOKENS);
    let limits = CompileLimits::default();
    let hir = trivium_grammar::regex::parse(p, &limits).unwrap();
    let short = language(&hir, full, &texts(ALPHABET, 5));
    let grammar = match GrammarMask::regex(p, &vocab, Dialect::Rust, full, limits) {
        Ok(g) => g,
        Err(Error::Unsatisfiable { .. }) => {
            assert!(short.is_empty(), "{p:?} has {short:?}");
            return;
        }
        Err(e) => panic!("{p:?}: {e}"),
    };
    let mut todo = vec![(grammar.matcher(), Vec::<u8>::new())];
    while let Some((m, prefix)) = todo.pop() {
        let mut row = vec![u32::MAX; m.words() + 1];
        m.fill(&mut row).unwrap();
        let got: Vec<u32> = mask::iter(&row).collect();
        assert_eq!(
            got,
            mask::iter(&m.mask_slow().unwrap()).collect::<Vec<_>>(),
            "{p:?} {prefix:?}"
        );
        let brute = brute_mask(&short, &prefix, &vocab);
        for t in &brute {
            assert!(got.contains(t), "{p:?} after {prefix:?}: token {t} has a completion");
        }
        for &t in got.iter().filter(|&&t| !vocab.is_eos(t)) {
            let mut longer = prefix.clone();
            longer.extend_from_slice(vocab.token(t));
            assert!(!vocab.token(t).is_empty());
            if !brute.contains(&t) {
                let text = grammar.completion(&longer).unwrap().expect("a dead end");
                let text = String::from_utf8(text).expect("UTF-8");
                assert!(naive::matches(&hir, &text, full), "{p:?}: {text:?} is no match");
            }
            if m.len() < 3 {
                let mut next = m.fork();
                assert!(next.commit(t).unwrap());
                todo.push((next, longer));
            }
        }
    }
}

#[test]
fn masks_list_the_tokens_with_a_completion() {
    for p in PATTERNS {
        check_masks(p, true);
        check_masks(p, false);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, max_shrink_iters: 400, ..ProptestConfig::default() })]

    #[test]
    fn random_patterns_have_the_language_of_the_twin(p in pattern(), full in any::<bool>()) {
        let vocab = vocab(&[b"a"]);
        let limits = CompileLimits::default();
        let hir = trivium_grammar::regex::parse(&p, &limits).unwrap();
        let other = oracle(&p, full);
        let ours = GrammarMask::regex(&p, &vocab, Dialect::Rust, full, limits);
        prop_assert!(matches!(ours, Ok(_) | Err(Error::Unsatisfiable { .. })), "{:?}", ours);
        for t in texts(&['a', 'b', '\n', 'é', '\r'], 4) {
            let want = naive::matches(&hir, &t, full);
            prop_assert_eq!(other.is_match(&t), want, "oracles differ on {:?}", &t);
            let got = ours.as_ref().is_ok_and(|g| g.matches(t.as_bytes()).unwrap());
            prop_assert_eq!(got, want, "{:?}", &t);
        }
    }

    #[test]
    fn random_patterns_have_exact_masks(p in pattern(), full in any::<bool>()) {
        check_masks(&p, full);
    }
}

#[test]
fn tokenisation_does_not_matter() {
    let vocab = vocab(TOKENS);
    let g = regex("(é|ab)*b?", &vocab, true);
    let rows: Vec<Vec<u32>> = [&[2u32, 4, 5][..], &[0, 1, 4, 5], &[3, 1, 4, 5]]
        .iter()
        .map(|tokens| {
            let mut m = g.matcher();
            assert_eq!(m.commit_all(tokens).unwrap(), tokens.len());
            let mut row = vec![0; m.words()];
            m.fill(&mut row).unwrap();
            row
        })
        .collect();
    assert!(rows.windows(2).all(|w| w[0] == w[1]));
}

#[test]
fn choices_are_exactly_the_texts() {
    let vocab = vocab(TOKENS);
    let list = ["ab", "abb", "", "b", "aé", "ab"];
    let g = GrammarMask::choices(&list, &vocab, CompileLimits::default()).unwrap();
    for t in texts(ALPHABET, 4) {
        assert_eq!(g.matches(t.as_bytes()).unwrap(), list.contains(&t.as_str()), "{t:?}");
    }
    let none: [&str; 0] = [];
    let e = GrammarMask::choices(&none, &vocab, CompileLimits::default()).unwrap_err();
    assert!(matches!(e, Error::Unsatisfiable { .. }));
    let long: Vec<String> = (0..2000).map(|i| format!("{i:0>500}")).collect();
    let g = GrammarMask::choices(&long, &vocab, CompileLimits::default()).unwrap();
    assert!(g.matches(long[1234].as_bytes()).unwrap());
}

#[test]
fn large_counts_cost_nothing_until_they_are_counted() {
    let vocab = vocab(TOKENS);
    for p in ["(a|b|é){1,1000000}", "(?:ab|a|b){0,1000000}", "((a{0,9999}b){0,9999}){0,9999}"] {
        let g = regex(p, &vocab, true);
        let mut m = g.matcher();
        for _ in 0..50 {
            assert!(m.commit(2).unwrap(), "{p}");
        }
        assert!(m.is_accepting().unwrap(), "{p}");
        assert!(g.report().unwrap().automaton.states < 1000, "{p}: {:?}", g.report());
    }
    let g = regex("a{0,1000}", &vocab, true);
    assert!(g.matches("a".repeat(1000).as_bytes()).unwrap());
    assert!(!g.matches("a".repeat(1001).as_bytes()).unwrap());
}

#[test]
fn budgets_are_typed_errors_and_leave_the_matcher_usable() {
    let vocab = vocab(TOKENS);
    let limits = CompileLimits { max_states: 40, ..CompileLimits::default() };
    let g = GrammarMask::regex("(a|b)*a(a|b){12}", &vocab, Dialect::Rust, true, limits).unwrap();
    let mut m = g.matcher();
    let mut failed = None;
    for i in 0..200 {
        let (before, len) = (m.is_accepting().unwrap(), m.len());
        match m.commit(u32::from(i32::count_ones(i * 37).is_multiple_of(2))) {
            Ok(ok) => assert!(ok),
            Err(e) => {
                assert_eq!((m.is_accepting().unwrap(), m.len()), (before, len));
                failed = Some(e);
                break;
            }
        }
    }
    let core: trivium_core::Error = failed.expect("40 states cannot be enough").into();
    assert!(
        matches!(core, trivium_core::Error::LimitExceeded { limit: "max_states", budget: 40, .. }),
        "{core}"
    );
    m.reset();
    assert!(m.commit(0).unwrap());

    let tiny = CompileLimits { max_bytes: 20_000, ..CompileLimits::default() };
    let e = GrammarMask::regex(r"\w\w\w\w", &vocab, Dialect::Rust, true, tiny).unwrap_err();
    assert!(e.to_string().contains("max_bytes"), "{e}");
    let late = CompileLimits { max_time: std::time::Duration::ZERO, ..CompileLimits::default() };
    let slow = r"(?:(?:a|b)*a(?:a|b){9}\b\B)c";
    let e = GrammarMask::regex(slow, &vocab, Dialect::Rust, true, late).unwrap_err();
    assert!(e.to_string().contains("max_ms"), "{e}");
    let wide = CompileLimits { max_states: usize::MAX, ..CompileLimits::default() };
    let e = GrammarMask::regex("a", &vocab, Dialect::Rust, true, wide).unwrap_err();
    assert!(e.to_string().contains("max_states"), "{e}");
    let deep = format!("{}a{}", "(".repeat(5000), ")".repeat(5000));
    let e = GrammarMask::regex(&deep, &vocab, Dialect::Rust, true, CompileLimits::default());
    assert!(e.unwrap_err().to_string().contains("nesting"));
}

#[test]
fn bad_patterns_are_named_with_their_offset() {
    let vocab = vocab(TOKENS);
    let make = |p: &str, d| GrammarMask::regex(p, &vocab, d, true, CompileLimits::default());
    assert!(matches!(
        make("ab(c", Dialect::Rust).unwrap_err(),
        Error::InvalidGrammar { what: "pattern", offset: 2, .. }
    ));
    for p in ["(?=a)b", r"(a)\1", "*a", r"(?-u:\xff)", "a{3,2}", "[b-a]", r"\p{nope}"] {
        assert!(matches!(make(p, Dialect::Rust).unwrap_err(), Error::InvalidGrammar { .. }), "{p}");
    }
    for p in ["[a&&b]", r"a\bb", "a^b", "$a", r"a\Ab"] {
        assert!(matches!(make(p, Dialect::Rust).unwrap_err(), Error::Unsatisfiable { .. }), "{p}");
    }
    for d in [Dialect::Ecma, Dialect::Python] {
        for p in
            ["(", "a)", "[a", "a**", "*a", "a{3,2}", "[b-a]", r"(a)\2", r"\q", "(?<=a", "(?z)a"]
        {
            let e = make(p, d).unwrap_err();
            assert!(matches!(e, Error::InvalidGrammar { .. }), "{d:?} {p}: {e}");
        }
        for p in ["(?>a)", r"(a|b*)\1", r"(?:(a)|b)\1", r"(?<=a\b)b"] {
            let e = make(p, d).unwrap_err();
            assert!(matches!(e, Error::UnsupportedPattern { .. }), "{d:?} {p}: {e}");
        }
    }
    let e = make("a++", Dialect::Python).unwrap_err();
    assert!(matches!(e, Error::UnsupportedPattern { .. }), "{e}");
}

/// Depth of recursion does not grow with the text, nor with the length of a pattern.
#[test]
fn deep_and_long_patterns_fit_the_stack() {
    let vocab = vocab(TOKENS);
    let nested = format!("{}a{}", "(?:".repeat(80), "b?)*".repeat(80));
    let counted = format!("{}a{}", "(?:b?".repeat(45), "){0,9}".repeat(45));
    let long = "a?b?".repeat(20_000);
    let looks = r"(?:\b|a)".repeat(5_000);
    for p in [nested, counted, long, looks] {
        let m = GrammarMask::regex(&p, &vocab, Dialect::Rust, true, CompileLimits::default())
            .map(|g| g.matcher());
        match m {
            Ok(mut m) => {
                for i in 0..60 {
                    if let Err(e) = m.commit(i % 2) {
                        assert!(e.to_string().contains("max_"), "{e}");
                        break;
                    }
                }
            }
            Err(e) => assert!(e.to_string().contains("max_"), "{e}"),
        }
    }
}

/// Random driver over pattern text and tokens: any answer but a panic, and bounded work.
#[test]
fn random_text_never_panics() {
    let vocab = byte_vocab();
    let pieces = [
        "a",
        "b",
        "é",
        "(",
        ")",
        "(?:",
        "|",
        "*",
        "+",
        "?",
        "{2}",
        "{0,3}",
        "{1000}",
        "[",
        "]",
        "^",
        "$",
        r"\b",
        r"\w",
        r"\x00",
        ".",
        "-",
        "(?i)",
        "(?m)",
        "(?s-u)",
        r"\pL",
        "&&",
        "~",
        "\n",
        "\\",
        "{9999999999}",
        "{4294967295}",
        r"\b{start-half}",
    ];
    let limits = CompileLimits {
        max_states: 2000,
        max_bytes: 4 << 20,
        max_time: std::time::Duration::from_millis(200),
        ..CompileLimits::default()
    };
    let mut x = 0x9e37_79b9_u64;
    let mut random = |n: usize| {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (x >> 33) as usize % n
    };
    let mut compiled = 0;
    for _ in 0..1500 {
        let p: String = (0..=random(9)).map(|_| pieces[random(pieces.len())]).collect();
        let full = random(2) == 0;
        let Ok(g) = GrammarMask::regex(&p, &vocab, Dialect::Rust, full, limits) else { continue };
        compiled += 1;
        let mut m = g.matcher();
        for _ in 0..6 {
            let mut row = vec![0; m.words()];
            match m.fill(&mut row) {
                Ok(any) => assert!(any, "dead end of {p:?} after {:?}", m.tokens()),
                Err(e) => {
                    assert!(e.to_string().contains("max_"), "{p:?}: {e}");
                    break;
                }
            }
            let ids: Vec<u32> = mask::iter(&row).collect();
            let t = ids[random(ids.len())];
            assert!(m.commit(t).unwrap());
            if m.is_finished() {
                break;
            }
        }
    }
    assert!(compiled > 300, "only {compiled} patterns compiled");
}

/// Loops at the root and behind other text, over a vocabulary large enough for slices below nodes.
#[test]
fn slices_change_no_mask() {
    let mut x = 7u64;
    let mut random = |n: usize| {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (x >> 33) as usize % n
    };
    let pieces = ["a", "b", "c", " ", " a", "é", "中", "\"", "1", "\u{1f600}", "ab"];
    let tokens: Vec<Vec<u8>> = (0..3000)
        .map(|_| {
            let text: String = (0..=random(9)).map(|_| pieces[random(pieces.len())]).collect();
            let cut = if random(8) == 0 { random(3).min(text.len() - 1) } else { 0 };
            text.as_bytes()[..text.len() - cut].to_vec()
        })
        .collect();
    let vocab = vocab(&tokens.iter().map(Vec::as_slice).collect::<Vec<_>>());
    for p in [
        "(?s).*",
        r#"[^"]*"#,
        r#""[^"]*""#,
        r"\w+( \w+)*",
        r"(\w+ ){0,9}\w+",
        "[a-c ]{0,5}é?",
        "[a-c]{0,7}[a-cé ]{3,}",
        "(?:[ab]|é1)*c",
        r"( [a-c]{0,6}){1,3}",
        r"(?:\b\w+\b|[ é])*",
    ] {
        let g = regex(p, &vocab, true);
        let mut m = g.matcher();
        for step in 0..40 {
            let mut row = vec![0; m.words()];
            m.fill(&mut row).unwrap();
            assert_eq!(row, m.mask_slow().unwrap(), "{p} after {:?}", m.tokens());
            let ids: Vec<u32> = mask::iter(&row).filter(|&t| !vocab.is_eos(t)).collect();
            if ids.is_empty() || step % 13 == 12 {
                m.reset();
            } else {
                assert!(m.commit(ids[random(ids.len())]).unwrap());
            }
        }
    }
}
