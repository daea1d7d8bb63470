//! The `ecma` and `python` dialects on cases derived by hand from their documents. Random patterns
//! are compared with Python's `re` in `tests/python/property/test_grammar_dialects.py`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::byte_vocab;
use trivium_grammar::{CompileLimits, Dialect, GrammarMask};

/// Pattern, texts it is found in, texts it is not found in.
type Case = (&'static str, &'static [&'static str], &'static [&'static str]);

fn check(dialect: Dialect, full: bool, cases: &[Case]) {
    let vocab = byte_vocab();
    for (pattern, yes, no) in cases {
        let g = GrammarMask::regex(pattern, &vocab, dialect, full, CompileLimits::default())
            .unwrap_or_else(|e| panic!("{pattern}: {e}"));
        for t in *yes {
            assert!(g.matches(t.as_bytes()).unwrap(), "{pattern} on {t:?}");
        }
        for t in *no {
            assert!(!g.matches(t.as_bytes()).unwrap(), "{pattern} on {t:?}");
        }
        // No dead end: what follows any prefix of a match can be completed.
        for t in *yes {
            for i in 0..=t.len() {
                assert!(g.completion(&t.as_bytes()[..i]).unwrap().is_some(), "{pattern} {t:?} {i}");
            }
        }
    }
}

#[test]
fn ecma_searches_as_json_schema_asks() {
    check(
        Dialect::Ecma,
        false,
        &[
            ("a", &["a", "xax"], &["", "b"]),
            ("^a", &["a", "ab"], &["ba", "\na"]),
            ("a$", &["a", "ba"], &["ab", "a\n"]),
            ("^a|b$", &["ax", "xb"], &["xax", "bx"]),
            (r"^\d+$", &["1", "42"], &["\u{665}", "", "1\n"]),
            (r"^\D$", &["\u{665}", "x", "\n"], &["1"]),
            (r"^\w$", &["_", "a", "9"], &["é", "-"]),
            (r"^\W$", &["é", "-", "\u{1f600}"], &["a"]),
            (
                r"^\s$",
                &["\t", "\u{b}", "\u{feff}", "\u{3000}", "\u{2029}", "\u{1680}"],
                &["\u{200b}", "\u{85}", "\u{180e}", "\u{1c}"],
            ),
            (r"^\S$", &["\u{85}", "x"], &["\u{a0}"]),
            ("^.$", &["a", "\u{85}", "😀"], &["\n", "\r", "\u{2028}", "\u{2029}", "ab"]),
            (r"^\cA\x41\u0042\u{43}\0$", &["\u{1}ABC\0"], &["AABC\0"]),
            (r"^\ud83d\ude00$", &["😀"], &["x"]),
            (r"^[\ud83d\ude00-\ud83d\ude02]$", &["😁"], &["😃"]),
            ("^[^]$", &["\n", "x"], &[""]),
            ("[]|b", &["b"], &["a", ""]),
            (r"^\/\-\.$", &["/-."], &["/-x"]),
            (r"^[\w-.]+$", &["a-._"], &["+"]),
            (r"^[a\]\-b]+$", &["a]-b"], &["\\"]),
            (r"^[\b]$", &["\u{8}"], &["b"]),
            (r"^\p{Letter}+$", &["aé中"], &["1", ""]),
            (r"^\p{Script=Greek}\P{Lu}$", &["αb"], &["αB", "ab"]),
            ("^a{,2}$", &["a{,2}"], &["a", "aa"]),
            ("^x{$", &["x{"], &["x"]),
            ("^{}]$", &["{}]"], &["{}"]),
            (r"\bfoo\b", &["foo", "a foo!", "éfoo"], &["foobar", "_foo"]),
            (r"^(?!foo).*$", &["fo", "bar", ""], &["foo", "foobar"]),
            (
                r"^(?=.*\d)(?=.*[a-z]).{4,6}$",
                &["abc1", "1234ab"],
                &["abcd", "1234", "a1", "abcdef1"],
            ),
            (r"^((?!ab).)*$", &["ba", "aaa", ""], &["ab", "xxab", "abab"]),
            (r"(?<=\$)\d", &["$1", "x$9"], &["1", "$x"]),
            (r"(?<!\$)\b\d+$", &["1", "x 22"], &["$1"]),
            (r#"^(["'])[^"']*\1$"#, &["\"a\"", "''"], &["\"a'", "a"]),
            (r"^(?<q>a|b)x\k<q>$", &["axa", "bxb"], &["axb"]),
            ("(?i)straße", &["STRAßE", "Straẞe"], &["strasse"]),
            ("^(?i:k)z$", &["Kz", "\u{212a}z"], &["KZ"]),
            ("^$", &[""], &["a"]),
            ("", &["", "x"], &[]),
            ("^a*?b??$", &["", "aab"], &["bb"]),
        ],
    );
}

#[test]
fn python_matches_in_full() {
    check(
        Dialect::Python,
        true,
        &[
            (r"a$\n?", &["a", "a\n"], &["a\n\n"]),
            (r"\Aa\Z", &["a"], &["a\n"]),
            (r"\d", &["\u{665}", "1"], &["²"]),
            (r"(?a)\d", &["1"], &["\u{665}"]),
            (r"\w", &["é", "²", "_"], &["-", "\u{301}"]),
            (r"\s", &["\u{1c}", "\u{85}"], &["\u{feff}", "\u{200b}"]),
            (".", &["\r", "\u{2028}"], &["\n"]),
            ("(?s).", &["\n"], &[""]),
            ("a{,2}", &["", "aa"], &["a{,2}"]),
            (r"(?P<x>a|b)-(?P=x)", &["a-a"], &["a-b"]),
            (r"(?x) a b # c", &["ab"], &["a b"]),
            (r"a(?#comment)b", &["ab"], &["a"]),
            (r"\101\x42\u0043\U0001F600", &["ABC😀"], &["ABC"]),
            (r"[]a]", &["]", "a"], &["b"]),
            (r"(?m:^a$\n)*", &["a\na\n", ""], &["a"]),
        ],
    );
}
