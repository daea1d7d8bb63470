use super::super::{Key, KeyOptions, Said};
use super::*;

fn key_with(options: KeyOptions) -> Key {
    Key::new("number", options).unwrap()
}

fn key() -> Key {
    key_with(KeyOptions::default())
}

#[test]
fn spellings_of_one_number_agree() {
    let key = key();
    for (expected, spellings) in [
        (
            "14",
            &[
                "14",
                "14.",
                " 14 ",
                "14.0",
                "$14",
                "14 apples",
                "+14",
                "0014",
                "**14**",
                "28/2",
                "14 cm.",
                "\"14\"",
                "1.4e1",
                "1.4 x 10^1",
                r"1.4 \times 10^{1}",
                "140E-1",
                "The two have 14 acres.",
                "x = 14",
                "9 + 5 = 14 hours",
                r"\$14",
                r"14\text{ cm}",
                "$14$",
                "14$",
                "14th",
                r"\left(14\right)",
                r"14\%",
                "14,",
                "(14)",
            ][..],
        ),
        (
            "1/2",
            &[
                "1/2",
                "0.5",
                ".5",
                "0.50",
                r"\frac{1}{2}",
                r"\frac12",
                r"\dfrac{2}{4}",
                "½",
                "5e-1",
                "1 / 2",
                "4/8",
            ],
        ),
        ("-1/2", &["-1/2", "-0.5", "\u{2212}0.5", "-$0.50", "$-0.50", "- 0.5", "-.5", "= -0.5"]),
        (
            "10000",
            &[
                "10,000",
                "10000",
                "$10,000.00",
                "10 000",
                "10\u{2009}000",
                "1e4",
                "10{,}000",
                "10,000 km",
            ],
        ),
        ("3/2", &["1 1/2", "1.5", r"1\frac{1}{2}", "1½", "3/2"]),
        ("-3/2", &["-1 1/2", "-1.5"]),
        ("10", &["10%", "10", r"10\%", "10 %"]),
        ("0", &["-1.1368683772161603e-13", "0", "-0", "0.0", "-0.00", "0/5"]),
        ("12", &["12.0000000001", "11.9999999999"]),
        ("1000000", &["1,000,000", "1000000", "1 000 000"]),
        ("13/4", &["2 5/4", "3.25"]),
    ] {
        for spelling in spellings {
            assert_eq!(key.of(spelling).as_deref(), Some(expected), "{spelling:?}");
        }
    }
}

#[test]
fn different_numbers_differ() {
    let key = key();
    for (x, y) in [
        ("1/3", "0.333"),
        ("10%", "0.1"),
        ("5", "-5"),
        ("3e-9", "5e-8"),
        ("0.1", "0.10001"),
        ("2 345/7", "2345/7"),
    ] {
        assert_ne!(key.of(x), key.of(y), "{x} and {y}");
        assert!(key.of(x).is_some() && key.of(y).is_some(), "{x} and {y}");
    }
}

#[test]
fn what_is_no_single_number_abstains() {
    let key = key();
    for raw in [
        "",
        " ",
        "none",
        "1,2",
        "1/0",
        "5-10",
        "13-6",
        "80 - 60",
        "3:30",
        "1.2.3",
        "1/2/2020",
        "1,234,56",
        "n_5",
        "x2",
        "Indeterminate",
        "86, 42",
        "(1, 2)",
        "$",
        "-",
        ".",
        "/",
        "\\",
        "e5",
        "5^(5^(5^5))",
        "∞",
        "NaN",
        "4 * 5",
        "marbles - 10",
        "2*nancy",
        "13 - helene",
        "x / 3",
        "3 ^ n",
        "12,34",
        "5_000",
    ] {
        assert_eq!(key.of(raw), None, "{raw:?}");
    }
}

#[test]
fn large_numbers_keep_their_spelling() {
    let key = key();
    assert_eq!(key.of("1e400").as_deref(), Some("S:1e400"));
    assert_eq!(key.of("-1E400").as_deref(), Some("S:-1e400"));
    assert_eq!(key.of("S:1e400").as_deref(), Some("S:1e400"));
    assert_eq!(key.of("S:14"), None);
    let digits = "7".repeat(2000);
    assert_eq!(key.of(&digits), Some(format!("S:{digits}")));
    let digits = "7".repeat(1000);
    assert_eq!(key.of(&digits), Some(digits.clone()));
    assert_eq!(key.of("1e64").map(|k| k.len()), Some(65));
}

#[test]
fn options_change_percent_and_ambiguity() {
    let scale = key_with(KeyOptions { percent: Percent::Scale, ..KeyOptions::default() });
    assert_eq!(scale.of("10%").as_deref(), Some("1/10"));
    assert_eq!(scale.of("10").as_deref(), Some("10"));
    let first = key_with(KeyOptions { fallback: Fallback::First, ..KeyOptions::default() });
    let last = key_with(KeyOptions { fallback: Fallback::Last, ..KeyOptions::default() });
    assert_eq!(first.of("86, 42").as_deref(), Some("86"));
    assert_eq!(last.of("86, 42").as_deref(), Some("42"));
    let text = "first 3\nthen 4 and 5\nend";
    assert_eq!(
        last.read(Said::Text(text), false).map(|k| (k.key, k.raw)),
        Some(("5".into(), "then 4 and 5".into()))
    );
    assert_eq!(first.read(Said::Text(text), false).map(|k| k.key), Some("3".into()));
}

#[test]
fn texts_are_read_after_a_marker() {
    let read = |text| key().read(Said::Text(text), false).map(|found| found.key);
    assert_eq!(read("3 + 4 = 7. 7 * 2 = 14. The answer is 14."), Some("14".into()));
    assert_eq!(read("so the answer is $1,200.50 a week.\n"), Some("2401/2".into()));
    assert_eq!(read(r"thus \boxed{\frac{1}{2}}"), Some("1/2".into()));
    assert_eq!(read("#### 12"), Some("12".into()));
    assert_eq!(read("14"), Some("14".into()));
    assert_eq!(read("I counted 3 and then 4"), None);
    assert_eq!(read("I counted 3"), None);
    assert_eq!(read("The answer is unknown."), None);
}

#[test]
fn regression_a_line_shown_by_fallback_reads_back_to_its_key() {
    let last = key_with(KeyOptions { fallback: Fallback::Last, ..KeyOptions::default() });
    let found = last.read(Said::Text("a = 3, b: 4 5\n"), false).unwrap();
    assert_eq!(last.of(&found.raw), Some(found.key));
}
