//! Oracles 5 and 6 on random schemas: what the masks let through is valid, what is valid is let through.
//!
//! The judge is the validator by definition. A walk takes random allowed bytes, then a short way
//! out; a state without any allowed byte is a dead end, which only comparing containers may have.
#![allow(clippy::unwrap_used)]

use proptest::test_runner::{Config, TestRunner};
use std::sync::Arc;
use trivium_core::Vocabulary;
use trivium_grammar::json_schema::{
    Escaping, MemberOrder, Numerals, Options, Whitespace, naive::Validator,
};
use trivium_grammar::{CompileLimits, Error, GrammarMask};

#[path = "common/schemas.rs"]
mod schemas;
use schemas::{Dice, VALUES, schema};

/// Bytes of a way out that are tried.
const STEPS: usize = 120;

fn bytes() -> Arc<Vocabulary> {
    let mut tokens: Vec<Vec<u8>> = (0..=255u8).map(|b| vec![b]).collect();
    tokens.push(Vec::new());
    Arc::new(Vocabulary::new(&tokens, &[], &[256], None).unwrap())
}

fn compiled(text: &str, vocab: &Arc<Vocabulary>, options: &Options) -> Option<GrammarMask> {
    match GrammarMask::json_schema(text, vocab, options, CompileLimits::default()) {
        Ok(grammar) => Some(grammar),
        Err(Error::Unsatisfiable { .. } | Error::UnsupportedSchema { .. }) => None,
        Err(e) => panic!("{e} for {text}"),
    }
}

/// Members of every object in the order that the text has, but of arrays and objects as values.
fn judge(text: &str, vocab: &Arc<Vocabulary>, d: &mut Dice) {
    let free = Options {
        order: MemberOrder::Any,
        escapes: Escaping::Any,
        numbers: Numerals::Any,
        ..Options::default()
    };
    let mut validator = Validator::new(text, &free).unwrap();
    let grammar = compiled(text, vocab, &free);
    for value in VALUES {
        let want = validator.is_valid(value).unwrap();
        let got = grammar.as_ref().is_some_and(|g| g.matches(value.as_bytes()).unwrap());
        // A schema may be refused as too many combinations; it is never empty then.
        if grammar.is_some() || matches_refused(text, vocab, &free) {
            assert_eq!(got, want, "{value} in {text}");
        }
    }
    let tight = Options { whitespace: Whitespace::Compact, ..Options::default() };
    let Some(grammar) = compiled(text, vocab, &tight) else { return };
    let proven = grammar.report().unwrap().no_dead_end;
    for _ in 0..4 {
        let mut prefix: Vec<u8> = Vec::new();
        for _ in 0..d.roll(24) {
            let next = grammar.explain(&prefix).unwrap().next_bytes;
            if next.is_empty() {
                break;
            }
            let (lo, hi) = next[d.roll(next.len() as u64) as usize];
            prefix.push(lo + d.roll(u64::from(hi - lo) + 1) as u8);
        }
        let mut ended = false;
        for _ in 0..STEPS {
            let here = grammar.explain(&prefix).unwrap();
            ended = here.accepting;
            if ended {
                break;
            }
            let Some(&(first, _)) = here.next_bytes.first() else {
                let prefix = String::from_utf8_lossy(&prefix);
                assert!(!proven, "dead end after {prefix} in {text}");
                break;
            };
            let inside = |b: u8| here.next_bytes.iter().any(|r| (r.0..=r.1).contains(&b));
            prefix.push(
                b"}]\":,0129.eE-abnull".iter().copied().find(|&b| inside(b)).unwrap_or(first),
            );
        }
        if ended {
            let done = String::from_utf8(prefix).unwrap();
            assert!(validator.is_valid(&done).unwrap(), "{done} of {text}");
        }
    }
}

/// Whether a schema that was not compiled is empty rather than refused.
fn matches_refused(text: &str, vocab: &Arc<Vocabulary>, options: &Options) -> bool {
    matches!(
        GrammarMask::json_schema(text, vocab, options, CompileLimits::default()),
        Err(Error::Unsatisfiable { .. })
    )
}

fn run(cases: u32) {
    let vocab = bytes();
    let mut runner =
        TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    runner
        .run(&proptest::prelude::any::<u64>(), |seed| {
            let mut d = Dice(seed);
            let depth = 1 + d.roll(3) as u32;
            let text = schema(&mut d, depth);
            judge(&text, &vocab, &mut d);
            judge(&format!("{{\"not\":{text}}}"), &vocab, &mut d);
            Ok(())
        })
        .unwrap();
}

/// What must not come again is taken out of a set of numbers by arithmetic: nothing is searched.
#[test]
fn unique_numbers_cost_no_search() {
    let vocab = bytes();
    for numbers in [Numerals::Plain, Numerals::Any] {
        let options = Options { order: MemberOrder::Any, numbers, ..Options::default() };
        for item in [
            r#"{"type":["string","integer"]}"#,
            r#"{"type":"integer","exclusiveMaximum":1.5}"#,
            r#"{"type":"number","minimum":-1,"multipleOf":0.5}"#,
            "{}",
        ] {
            let text = format!(
                r#"{{"items":{item},"uniqueItems":true,"contains":{{"minimum":1.0,"maximum":1}}}}"#
            );
            let g = compiled(&text, &vocab, &options).unwrap();
            let mut cases = vec![
                ("[1,0,-1]".to_owned(), true),
                ("[1,1]".to_owned(), false),
                ("[0,1,-0.0]".to_owned(), false),
            ];
            if numbers == Numerals::Plain {
                // Beyond the digits that spellings with exponents have.
                let zeros = "0".repeat(405);
                cases.push((format!("[1,1.{zeros}]"), false));
                cases.push((format!("[0,1,-0.{zeros}]"), false));
                cases.push((format!("[0,1,1.{zeros}1]"), item == "{}"));
            }
            for (value, unique) in cases {
                assert_eq!(g.matches(value.as_bytes()).unwrap(), unique, "{value} in {text}");
            }
        }
    }
}

/// A number too long to compare is refused with the limit, as soon as something is compared with it.
#[test]
#[ignore = "half a minute: every prefix of a number is compared"]
fn endless_unique_numbers_meet_a_limit() {
    let options = Options::default();
    let g = compiled(r#"{"uniqueItems":true}"#, &bytes(), &options).unwrap();
    let got = g.matches(format!("[1{},1", "0".repeat(10_001)).as_bytes());
    let limit = matches!(got, Err(Error::Core(trivium_core::Error::LimitExceeded { .. })));
    assert!(limit, "{got:?}");
}

#[test]
fn masks_are_the_validator() {
    run(120);
}

#[test]
#[ignore = "minutes: run with --ignored"]
fn masks_are_the_validator_at_length() {
    run(20_000);
}
