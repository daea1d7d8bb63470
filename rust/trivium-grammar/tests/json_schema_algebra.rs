//! Oracle 7: the set algebra of JSON Schema against validation by definition.
//!
//! Random schemas over a small world and a fixed pool of values: membership in the algebra is the
//! validator's verdict, for a schema, its complement and intersections; a schema that is said to be
//! empty holds no value of the pool.
#![allow(clippy::unwrap_used)]

use proptest::test_runner::{Config, TestRunner};
use trivium_grammar::json_schema::{Options, contains, naive::Validator};

#[path = "common/schemas.rs"]
mod schemas;
use schemas::{Dice, VALUES, schema};

fn agree(text: &str) {
    let options = Options::default();
    let mut validator = Validator::new(text, &options).unwrap();
    match contains(text, &options, VALUES) {
        Ok((inhabited, got)) => {
            for (value, got) in VALUES.iter().zip(got) {
                let want = validator.is_valid(value).unwrap();
                assert_eq!(got, want, "{value} in {text}");
                assert!(inhabited || !want, "{text} holds {value} and is said to be empty");
            }
        }
        Err(e) => assert!(
            e.to_string().contains("too many") || e.to_string().contains("conditions"),
            "{e} for {text}"
        ),
    }
}

fn run(cases: u32) {
    let mut runner =
        TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    runner
        .run(&proptest::prelude::any::<u64>(), |seed| {
            let mut d = Dice(seed);
            let (a, b) = (schema(&mut d, 3), schema(&mut d, 2));
            agree(&a);
            agree(&format!("{{\"not\":{a}}}"));
            agree(&format!("{{\"allOf\":[{a},{b}]}}"));
            agree(&format!("{{\"allOf\":[{a},{{\"not\":{b}}}]}}"));
            Ok(())
        })
        .unwrap();
}

#[test]
fn algebra_is_the_validator() {
    run(300);
}

#[test]
#[ignore = "minutes: run with --ignored"]
fn algebra_is_the_validator_at_length() {
    run(30_000);
}
