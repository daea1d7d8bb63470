//! Random and mutated input for every parser and for token streams, on the stable toolchain: oracle 15.
//!
//! Half of the inputs are mutations of texts that mean something (bytes changed, pieces of a dictionary
//! put in, parts repeated, cut or taken from another text), half are strings of dictionary pieces
//! or bytes. What is done with one, and what must hold, is in `fuzz/drive.rs`. CI runs a fixed share;
//! `TRIVIUM_FUZZ_SECONDS=3600 cargo test --profile thin -p trivium-grammar --test random_driver -- --ignored
//! --nocapture` searches on, with other numbers each time.
#![allow(clippy::unwrap_used, missing_docs)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

#[path = "../../../fuzz/drive.rs"]
#[allow(unreachable_pub)] // it is a library to the fuzz targets
mod drive;

#[path = "common/schemas.rs"]
mod schemas;
use schemas::Dice;

/// Texts to start from, by kind.
const SEEDS: [&[&str]; 4] = [
    &[
        r##"{"$defs":{"t":{"properties":{"l":{"$ref":"#/$defs/t"},"v":{"type":"integer"}}}},"$ref":"#/$defs/t"}"##,
        r#"{"type":"object","properties":{"a":{"enum":[1,"x",null,{"b":[2.50]}]},"é":{"const":"\ud83d\ude00"}},"required":["a"],"additionalProperties":false}"#,
        r#"{"anyOf":[{"type":"string","pattern":"^[a-z]{2,5}$","minLength":3},{"minimum":-1.5,"exclusiveMaximum":2e3,"multipleOf":0.25}]}"#,
        r#"{"oneOf":[{"items":{"type":"string"},"uniqueItems":true},{"contains":{"const":1},"minContains":2,"maxContains":3}]}"#,
        r#"{"not":{"patternProperties":{"^a|b$":{"type":"null"}},"propertyNames":{"maxLength":3}},"minProperties":1}"#,
        r#"{"allOf":[{"if":{"required":["k"]},"then":{"dependentRequired":{"k":["l"]}},"else":{"maxItems":2}}],"unevaluatedProperties":false}"#,
        r#"{"$schema":"http://json-schema.org/draft-04/schema#","items":[{"format":"date"},{}],"additionalItems":false,"minimum":3,"exclusiveMinimum":true}"#,
        r##"{"$dynamicAnchor":"n","prefixItems":[{"$dynamicRef":"#n"}],"unevaluatedItems":{"format":"ipv6"}}"##,
        "true",
    ],
    &[
        r"^(?:[a-f]{2,}|\d+\.\w*)+?$",
        r"(?i)\bfoo(?=bar)(?!x)|(?<=a)b(?<!c)",
        r"(a|b)\1{3}[^\]\\a-z&&\W]",
        r"\p{Lu}\P{Greek}\u{1f600}\x41\cA[\b]\0",
        r"(?P<n>a)(?P=n)(?s-i:.)\A\Z$",
        r"((a*)*)*b{1000}[[:alpha:]--[aeiou]]",
    ],
    &[
        "root ::= item (\",\" item)* # list\nitem ::= [a-z]+ | \"\\u00e9\"i | '(' root ')'",
        "root ::= e\ne ::= e \"+\" e | e e | \"\" | [^\\n]{2,3}\nx ::= x | <|x|> | <[1-3,5]>",
        "start: (NAME | /[0-9]+/i | \"if\" start \"fi\")~1..3\nNAME.2: /[a-z]+/ & ~\"if\"\n%ignore /\\s+/\n%import common.INT -> I",
        "root ::= %json {\"type\":\"object\"} | %regex {a+} - \"aa\" | ~\"b\" & .{2}",
        "?start: expr\nexpr: expr \"*\" atom -> mul | atom\n!atom: [\"-\"] DIGIT | \"a\"..\"f\"\n%import common (DIGIT, WS)",
    ],
    &["aa", "[1,1.0,\"a\"]", "{\"b\":\"abab\",\"a\":{\"b\":\"\"},\"xy\":0.9}"],
];

/// Pieces that mean something somewhere.
const PIECES: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "(",
    ")",
    "\"",
    "'",
    "\\",
    "/",
    "|",
    "*",
    "+",
    "?",
    "{2,3}",
    "{0,4000000000}",
    "{,9}",
    "~",
    "&",
    "-",
    "^",
    "$",
    ".",
    ",",
    ":",
    "#",
    "%",
    "<",
    ">",
    "::=",
    "->",
    "\n",
    "\0",
    "\u{feff}",
    "é",
    "\u{10ffff}",
    "\\ud800",
    "\\u0000",
    "\\p{L}",
    "\\b",
    "(?=",
    "(?!",
    "(?<=",
    "(?<!",
    "(?:",
    "(?i)",
    "(?P<a>",
    "\\1",
    "\\k<a>",
    "[^",
    "[]",
    "[a-",
    "&&",
    "--",
    "null",
    "true",
    "false",
    "-0",
    "1e308",
    "1e-400",
    "0.1",
    "9999999999999999999999",
    "\"type\":",
    "\"object\"",
    "\"$ref\":\"#\"",
    "\"$ref\":\"#/a\"",
    "\"not\":{",
    "\"anyOf\":[",
    "\"allOf\":[",
    "\"oneOf\":[",
    "\"items\":",
    "\"pattern\":\"",
    "\"enum\":[",
    "\"multipleOf\":",
    "\"minLength\":",
    "\"maxItems\":",
    "\"uniqueItems\":true",
    "\"properties\":{",
    "\"required\":[",
    "\"format\":\"email\"",
    "\"$id\":\"x\"",
    "\"unevaluatedItems\":",
    "%ignore ",
    "%json {",
    "%regex {",
    "%import common.",
    "%declare ",
    "~1..9",
    "start:",
    "root ::=",
    "<|x|>",
    "<[0-999]>",
    "@choices(a)",
    "a",
    "b",
    "0",
    " ",
];

/// One input of a kind.
fn input(d: &mut Dice, kind: usize) -> Vec<u8> {
    let mut head: Vec<u8> = (0..24).map(|_| d.roll(256) as u8).collect();
    let seeds = SEEDS[kind];
    let mut text: Vec<u8> = match d.roll(10) {
        0 => (0..d.roll(200)).map(|_| d.roll(256) as u8).collect(),
        1..4 => (0..d.roll(30)).flat_map(|_| d.pick(PIECES).bytes()).collect(),
        4 if kind == 0 => schemas::schema(d, 3).into_bytes(),
        _ => d.pick(seeds).as_bytes().to_vec(),
    };
    for _ in 0..d.roll(6) {
        let at = d.roll(text.len() as u64 + 1) as usize;
        let to = (at + d.roll(20) as usize).min(text.len());
        match d.roll(6) {
            0 if at < text.len() => text[at] = d.roll(256) as u8,
            1 => {
                text.drain(at..to);
            }
            2 => {
                let part: Vec<u8> = text[at..to].repeat(1 + d.roll(30) as usize);
                text.splice(at..at, part);
            }
            3 => {
                let other = d.pick(seeds).as_bytes();
                let from = d.roll(other.len() as u64) as usize;
                text.splice(at..to, other[from..].iter().copied());
            }
            _ => {
                text.splice(at..at, d.pick(PIECES).bytes());
            }
        }
    }
    head.extend(text);
    head
}

/// One input; the message names it if a promise is broken.
fn check(kind: usize, data: &[u8], slowest: &mut Duration) {
    let (name, run) = drive::KINDS[kind];
    let started = Instant::now();
    let outcome = catch_unwind(AssertUnwindSafe(|| run(data)));
    let took = started.elapsed();
    assert!(outcome.is_ok(), "{name}: {:?}", data.escape_ascii().to_string());
    if took > *slowest {
        *slowest = took;
    }
    // Half a second of compiling and two dozen steps within a budget; the rest is a busy machine.
    assert!(took < Duration::from_mins(1), "{name} took {took:?}: {}", data.escape_ascii());
}

#[test]
fn random_input_is_answered() {
    let (mut d, mut slowest) = (Dice(20), Duration::ZERO);
    for i in 0..8_000 {
        check(i % 4, &input(&mut d, i % 4), &mut slowest);
    }
}

#[test]
#[ignore = "a minute, or TRIVIUM_FUZZ_SECONDS"]
fn random_input_is_answered_at_length() {
    #[allow(clippy::disallowed_methods)] // a test's own setting
    let seconds = std::env::var("TRIVIUM_FUZZ_SECONDS").map_or(60, |s| s.parse().unwrap());
    let seed = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    let (mut d, mut slowest, started) = (Dice(seed), [Duration::ZERO; 4], Instant::now());
    let mut done = 0;
    while started.elapsed() < Duration::from_secs(seconds) {
        check(done % 4, &input(&mut d, done % 4), &mut slowest[done % 4]);
        done += 1;
    }
    #[allow(clippy::print_stdout)]
    {
        println!("{done} inputs from seed {seed}; slowest of each kind {slowest:?}");
    }
}
