//! Hostile input, sentence by sentence: deep nesting, cyclic references, exponential patterns, schemas of a
//! megabyte, NUL bytes and lone surrogates. Each ends as a grammar or as a typed error, within the
//! time limit (times what a busy machine and an unoptimised build may take) and a bound of memory, which
//! a counting allocator measures. Random input: `random_driver.rs`.
#![allow(clippy::unwrap_used, clippy::format_collect, unsafe_code, missing_docs)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use trivium_core::{Error as Core, Vocabulary};
use trivium_grammar::json_schema::{Escaping, MemberOrder, Options};
use trivium_grammar::{CompileLimits, Dialect, Error, GrammarMask, Syntax};

/// Counts the bytes that are held, and the most that were.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = HELD.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller's promises are the system allocator's demands.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One at a time: the counts are the process's.
static ALONE: Mutex<()> = Mutex::new(());

/// Time a constructor may take by its own limit.
const MAX_TIME: Duration = Duration::from_secs(2);
/// Budget of bytes of a grammar.
const MAX_BYTES: usize = 64 << 20;

fn limits() -> CompileLimits {
    CompileLimits { max_time: MAX_TIME, max_bytes: MAX_BYTES, ..CompileLimits::default() }
}

fn bytes() -> Arc<Vocabulary> {
    let mut tokens: Vec<Vec<u8>> = (0..=255u8).map(|b| vec![b]).collect();
    tokens.push(Vec::new());
    Arc::new(Vocabulary::new(&tokens, &[], &[256], None).unwrap())
}

/// Runs a constructor and then `prefix` through what it made; says how it ended.
fn judge(
    name: &str,
    size: usize,
    make: impl FnOnce(&Arc<Vocabulary>) -> Result<GrammarMask, Error>,
    prefix: &[u8],
) -> &'static str {
    let vocab = bytes();
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let before = HELD.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    let started = Instant::now();
    let made = make(&vocab);
    let took = started.elapsed();
    let end = match made {
        Ok(g) => {
            let mut m = g.matcher();
            for &b in prefix {
                match m.commit(b.into()) {
                    Ok(true) => {}
                    Ok(false) | Err(Error::Core(Core::LimitExceeded { .. })) => break,
                    Err(e) => panic!("{name}: {e}"),
                }
            }
            let mut row = vec![0; m.words()];
            assert!(
                matches!(m.fill(&mut row), Ok(_) | Err(Error::Core(Core::LimitExceeded { .. }))),
                "{name}"
            );
            "accepted"
        }
        Err(Error::Core(Core::Internal { detail })) => panic!("{name}: a defect: {detail}"),
        Err(Error::Core(Core::LimitExceeded { .. })) => "limit",
        Err(Error::Unsatisfiable { .. }) => "empty",
        Err(Error::UnsupportedPattern { .. } | Error::UnsupportedSchema { .. }) => "unsupported",
        Err(_) => "invalid",
    };
    // A busy machine and an unoptimised build: ten times the limit.
    assert!(took < MAX_TIME * 10, "{name} took {took:?} to end as {end}");
    let most = MOST.load(Ordering::Relaxed) - before;
    // The budget is of one arena as it counts itself. There are three (conditions are decided in one,
    // the second is compiled, a run extends a copy), and tables double when they grow.
    let bound = 8 * MAX_BYTES + 60 * size;
    assert!(most < bound, "{name} held {} MB to end as {end}", most >> 20);
    end
}

fn schema(name: &str, text: &str, prefix: &[u8]) -> &'static str {
    let any = Options { order: MemberOrder::Any, escapes: Escaping::Any, ..Options::default() };
    let made = |options: Options| {
        judge(name, text.len(), |v| GrammarMask::json_schema(text, v, &options, limits()), prefix)
    };
    let first = made(Options::default());
    let second = made(any);
    let limited = first == "limit" || second == "limit";
    assert!(limited || second == first, "{name}: the order of members changes the verdict");
    first
}

fn pattern(name: &str, text: &str, dialect: Dialect) -> &'static str {
    let found = |full| {
        judge(
            name,
            text.len(),
            |v| GrammarMask::regex(text, v, dialect, full, limits()),
            &b"a".repeat(300),
        )
    };
    found(false);
    found(true)
}

fn grammar(name: &str, text: &str, syntax: Syntax) -> &'static str {
    judge(
        name,
        text.len(),
        |v| GrammarMask::grammar(text, v, syntax, None, limits()),
        &b"a".repeat(40),
    )
}

const DIALECTS: [Dialect; 3] = [Dialect::Rust, Dialect::Ecma, Dialect::Python];
const SYNTAXES: [Syntax; 3] = [Syntax::Ebnf, Syntax::Gbnf, Syntax::Lark];
const DEEP: usize = 100_000;

/// "Deep nesting (100,000 brackets)", in every text that is parsed.
#[test]
fn deep_nesting_is_an_error_and_no_overflow() {
    let n = DEEP;
    for (open, close) in [
        ("[", "]"),
        ("{\"not\":", "}"),
        ("{\"items\":", "}"),
        ("{\"anyOf\":[", "]}"),
        ("{\"a\":", "}"),
        ("{\"const\":[", "]}"),
    ] {
        let text = format!("{}1{}", open.repeat(n), close.repeat(n));
        assert_ne!(schema("nested schema", &text, b""), "accepted", "{open}");
        // Not closed either.
        assert_ne!(schema("open schema", &open.repeat(n), b""), "accepted", "{open}");
    }
    for dialect in DIALECTS {
        for (open, close) in [("(", ")"), ("(?:", ")*"), ("[", "]"), ("(?=", ")"), ("(a|", ")")] {
            let text = format!("{}a{}", open.repeat(n), close.repeat(n));
            let end = pattern("nested pattern", &text, dialect);
            // Inside an ECMA or Python class a bracket is a character.
            assert!(end != "accepted" || open == "[", "{open} in {dialect:?}");
            pattern("open pattern", &open.repeat(n), dialect);
        }
        pattern("stars", &format!("a{}", "*".repeat(n)), dialect);
        pattern("counts", &format!("a{}", "{2}".repeat(n)), dialect);
    }
    for syntax in SYNTAXES {
        let is = if syntax == Syntax::Lark { ":" } else { "::=" };
        for (open, close) in [("(", ")"), ("~", ""), ("(\"a\" | ", ")*"), ("\"a\" & (", ")")] {
            let text = format!("root {is} {}\"a\"{}", open.repeat(n), close.repeat(n));
            assert_ne!(grammar("nested grammar", &text, syntax), "accepted", "{open}");
            grammar("open grammar", &format!("root {is} {}", open.repeat(n)), syntax);
        }
        let schema = format!("root {is} %json {}", "{\"not\":".repeat(n) + "{}" + &"}".repeat(n));
        assert_ne!(grammar("nested %json", &schema, syntax), "accepted");
        let stars = format!("root {is} \"a\"{}", "*".repeat(n));
        grammar("starred grammar", &stars, syntax);
        // A chain of rules is as deep as it is long, and is no nesting.
        let chain: String = (0..20_000)
            .map(|i| format!("r{i} {is} \"a\" r{} \"b\"\n", i + 1))
            .chain([format!("r20000 {is} \"c\"\n")])
            .collect();
        let end = grammar("chain of rules", &chain, syntax);
        assert!(matches!(end, "accepted" | "limit"), "{end} for a chain in {syntax:?}");
    }
}

/// The same in a text that is *read*: no depth limit but memory, and the way back is open.
#[test]
fn deep_texts_are_read() {
    let vocab = bytes();
    let open = vec![u32::from(b'['); DEEP];
    let bracket = "root ::= \"[\" root \"]\" | \"\"";
    for (name, max_bytes) in [("small", MAX_BYTES / 4), ("large", 1 << 30)] {
        let limits = CompileLimits { max_bytes, ..limits() };
        for g in [
            GrammarMask::json_schema("{}", &vocab, &Options::default(), limits),
            GrammarMask::grammar(bracket, &vocab, Syntax::Ebnf, None, limits),
        ] {
            let g = g.unwrap();
            let mut m = g.matcher();
            let mut row = vec![0; m.words()];
            match m.commit_all(&open) {
                Ok(n) => {
                    assert_eq!(n, DEEP);
                    assert!(m.fill(&mut row).unwrap());
                    assert_eq!(m.commit_all(&vec![u32::from(b']'); DEEP]).unwrap(), DEEP);
                    assert!(m.is_accepting().unwrap());
                }
                // Only memory bounds the depth, and then the state before is usable.
                Err(e) => {
                    let limit = matches!(e, Error::Core(Core::LimitExceeded { .. }));
                    assert!(limit && name == "small", "{e}");
                    while m.commit(b'['.into()).is_ok_and(|done| done) {}
                    assert!(m.len() > 1_000, "{}", m.len());
                    assert!(m.fill(&mut row).unwrap());
                }
            }
            m.rollback(m.len()).unwrap();
            assert!(m.is_empty() && !m.commit(b']'.into()).unwrap());
        }
    }
}

/// "Cyclic references."
#[test]
fn cyclic_references_end() {
    for (text, want) in [
        (r##"{"$ref":"#"}"##, "invalid"),
        (r##"{"allOf":[{"$ref":"#"}]}"##, "invalid"),
        (r##"{"not":{"$ref":"#"}}"##, "invalid"),
        (r##"{"anyOf":[{"$ref":"#/anyOf/1"},{"$ref":"#/anyOf/0"}]}"##, "invalid"),
        (
            r##"{"$defs":{"a":{"$ref":"#/$defs/b"},"b":{"$ref":"#/$defs/a"}},"$ref":"#/$defs/a"}"##,
            "invalid",
        ),
        (r##"{"$dynamicAnchor":"x","$dynamicRef":"#x"}"##, "invalid"),
        (r##"{"if":{"$ref":"#"},"then":false}"##, "invalid"),
        (r##"{"dependentSchemas":{"a":{"$ref":"#"}},"type":"object"}"##, "invalid"),
        // With progress they are recursion.
        (r##"{"items":{"$ref":"#"}}"##, "accepted"),
        (r##"{"required":["a"],"properties":{"a":{"$ref":"#"}},"type":"object"}"##, "empty"),
        (r##"{"properties":{"a":{"not":{"$ref":"#"}}},"type":"object"}"##, "accepted"),
        (r##"{"$ref":"#/$ref"}"##, "invalid"),
    ] {
        assert_eq!(schema(text, text, b"[[[{"), want, "{text}");
    }
    for (text, want) in [
        ("root ::= root", "empty"),
        ("root ::= a\na ::= b\nb ::= a | \"x\" a", "empty"),
        ("root ::= root root | \"\" | root \"a\"", "accepted"),
        ("root ::= (root*)* | \"a\"", "accepted"),
        ("root ::= a\na ::= b a | \"\"\nb ::= a b | \"\" | \"a\"", "accepted"),
    ] {
        assert_eq!(grammar(text, text, Syntax::Ebnf), want, "{text}");
    }
    assert_eq!(grammar("terminals", "start: A\nA: B\nB: A", Syntax::Lark), "invalid");
}

/// "Exponential regexes."
#[test]
fn exponential_patterns_end() {
    let long = "(?:".repeat(12) + "a{9}" + &"){9}".repeat(12);
    let ands = "(?=.*a)(?=.*b)(?=.*c)(?=.*d)(?=.*e)(?=.*f)(?=.*g)(?=.*h)(?=.*i).{9,}";
    for text in [
        "(?:a|a)*b",
        "(?:(?:a*)*)*b",
        "(?:a?){500}a{500}",
        "(?:.*a){25}",
        "[ab]*a[ab]{60}",
        "[ab]*a[ab]{4000}",
        "(?:a{1,1000}){1,1000}b",
        "(?:(?:a{0,1000}){0,1000}){0,1000}",
        "(?:a|ab|abc|b|bc|c)*(?:[^a]|a[^b]|ab[^c])*{3}",
        "(?:[a-z]+[a-z]+)+[0-9]{3,90000}",
        "(?i:\\w{1,400}\\s?){1,400}",
        &long,
    ] {
        for dialect in DIALECTS {
            pattern(text, text, dialect);
        }
    }
    for dialect in [Dialect::Ecma, Dialect::Python] {
        for text in [
            ands,
            "(?:(?=a|b)(?!c)[a-d]){0,300}",
            "(a|b)(c|d)(e|f)(g|h)(i|j)(k|l)(m|n)\\1\\2\\3\\4\\5\\6\\7",
            "(?<=(?:a|b){30})x",
            "(?:(?<=a.{20})b|a|c)*",
            "(?!(?!(?!(?!(?:a|aa)*b))))a*",
        ] {
            pattern(text, text, dialect);
        }
    }
    for text in [
        "root ::= ((((\"a\" | \"b\"){1000}){1000}){1000}){1000}",
        "root ::= (root{900}){900} | \"a\"",
        "root ::= ~(~(~([ab]* \"a\" [ab]{40}) [ab]*) \"b\")",
    ] {
        grammar(text, text, Syntax::Ebnf);
    }
    // Combinations of a schema multiply: refused by the budget of cells.
    let parts: Vec<String> = (0..14)
        .map(|i| {
            format!(
                r#"{{"oneOf":[{{"minimum":{i}}},{{"pattern":"a{i}"}},{{"required":["k{i}"]}}]}}"#
            )
        })
        .collect();
    let text = format!(r#"{{"allOf":[{}]}}"#, parts.join(","));
    schema("multiplied", &text, b"");
    let not: Vec<String> = (0..40)
        .map(|i| format!(r#"{{"not":{{"properties":{{"k{i}":{{"type":"null"}}}}}}}}"#))
        .collect();
    schema("negated", &format!(r#"{{"allOf":[{}]}}"#, not.join(",")), b"");
    let doubled: String = (1..60)
        .map(|i| {
            format!(
                r##""d{i}":{{"allOf":[{{"$ref":"#/$defs/d{0}"}},{{"$ref":"#/$defs/d{0}"}}]}},"##,
                i - 1
            )
        })
        .collect();
    let text = format!(r##"{{"$defs":{{{doubled}"d0":{{"minimum":1}}}},"$ref":"#/$defs/d59"}}"##);
    schema("doubled", &text, b"1");
}

/// "1 MB schemas", of every shape; and texts of a megabyte that are none.
#[test]
#[ignore = "ten seconds of optimised code; a sixteenth of it runs always"]
fn megabytes_are_read_or_refused() {
    large(1 << 20);
}

#[test]
fn large_texts_are_read_or_refused() {
    large(1 << 16);
}

fn large(mega: usize) {
    let list = |part: &dyn Fn(usize) -> String| {
        let mut parts = Vec::new();
        let mut size = 0;
        while size < mega {
            let part = part(parts.len());
            size += part.len() + 1;
            parts.push(part);
        }
        parts.join(",")
    };
    let members = list(&|i| format!(r#""key{i}":{{"type":"string","maxLength":{i}}}"#));
    let wide =
        format!(r#"{{"type":"object","properties":{{{members}}},"additionalProperties":false}}"#);
    schema("wide object", &wide, b"{\"key1\":\"a");
    schema("enum", &format!(r#"{{"enum":[{}]}}"#, list(&|i| format!("\"value{i}\""))), b"\"value1");
    let branches = list(&|i| {
        format!(
            r#"{{"properties":{{"kind":{{"const":"k{i}"}},"v":{{"type":"integer"}}}},"required":["kind"]}}"#
        )
    });
    schema("anyOf", &format!(r#"{{"type":"object","anyOf":[{branches}]}}"#), b"{");
    schema(
        "prefixItems",
        &format!(r#"{{"prefixItems":[{}]}}"#, list(&|i| format!(r#"{{"minimum":{i}}}"#))),
        b"[1,",
    );
    let defs = list(&|i| format!(r##""d{i}":{{"items":{{"$ref":"#/$defs/d{}"}}}}"##, i + 1));
    schema(
        "definitions",
        &format!(r##"{{"$defs":{{{defs}}},"items":{{"$ref":"#/$defs/d0"}}}}"##),
        b"[",
    );
    schema(
        "required",
        &format!(r#"{{"type":"object","required":[{}]}}"#, list(&|i| format!("\"r{i}\""))),
        b"{",
    );
    let keys = list(&|i| format!(r#""^a{i}":{{"type":"null"}}"#));
    schema("patterns", &format!(r#"{{"patternProperties":{{{keys}}}}}"#), b"{\"a1");
    schema("description", &format!(r#"{{"description":"{}"}}"#, "x".repeat(mega)), b"{");
    schema("constant", &format!(r#"{{"const":"{}"}}"#, "x".repeat(mega)), b"\"xxx");
    schema("pattern", &format!(r#"{{"pattern":"{}"}}"#, "ab?".repeat(mega / 3)), b"\"aaa");
    schema("number", &format!(r#"{{"minimum":{}}}"#, "9".repeat(mega)), b"9");
    schema("exponent", r#"{"minimum":1e-999999999999,"multipleOf":1e999999999}"#, b"9");
    schema("a string", &format!("\"{}", "x".repeat(mega)), b"");
    schema("blanks", &" ".repeat(mega), b"");
    for dialect in DIALECTS {
        pattern("literal", &"a".repeat(mega), dialect);
        pattern("alternatives", &vec!["ab"; mega / 3].join("|"), dialect);
        pattern("classes", &r"[\p{L}\d]".repeat(mega / 9), dialect);
        pattern("optional", &"a?".repeat(mega / 2), dialect);
    }
    for syntax in SYNTAXES {
        let is = if syntax == Syntax::Lark { ":" } else { "::=" };
        let rules: String = (0..mega / 16).map(|i| format!("r{i} {is} \"{i}\"\n")).collect();
        grammar("many rules", &rules, syntax);
        grammar("long literal", &format!("root {is} \"{}\"", "a".repeat(mega)), syntax);
        grammar(
            "alternatives",
            &format!("root {is} {}", vec!["\"ab\""; mega / 5].join("|")),
            syntax,
        );
        grammar("names", &"a".repeat(mega), syntax);
        grammar("noise", &"~&|-(".repeat(mega / 5), syntax);
    }
}

/// "NUL bytes, lone surrogates."
#[test]
fn odd_characters_are_characters_or_errors() {
    for (text, want) in [
        ("\0", "invalid"),
        ("{\"a\0\":1}", "invalid"),
        (r#"{"const":"a\u0000b"}"#, "accepted"),
        (r#"{"properties":{"\u0000":{"const":"\u0000"}},"required":["\u0000"]}"#, "accepted"),
        // No text holds a lone surrogate, so nothing can equal one.
        (r#"{"const":"\ud800"}"#, "invalid"),
        (r#"{"enum":["\udc00\ud800"]}"#, "invalid"),
        (r#"{"properties":{"\ud800x":{}}}"#, "invalid"),
        (r#"{"const":"\ud83d\ude00"}"#, "accepted"),
        (r#"{"pattern":"\u0000"}"#, "accepted"),
        (r#"{"pattern":"\\ud800"}"#, "empty"),
        ("\u{feff}{}", "invalid"),
        ("{\"const\":\"\u{ffff}\u{10ffff}\"}", "accepted"),
    ] {
        let end = schema(text, text, b"\"a");
        // What a lone surrogate means is one of two: no text at all, or an error where it stands.
        let fits = end == want || (text.contains("\\ud800") && end != "accepted");
        assert!(fits || text.contains("pattern"), "{end}, not {want}, for {text:?}");
    }
    for dialect in DIALECTS {
        for text in ["\0", "a\0+", "[\0-\u{10ffff}]", r"\x00", "\u{feff}", "[^\0]"] {
            assert_eq!(pattern(text, text, dialect), "accepted", "{text:?}");
        }
        for text in [r"\ud800", r"[\ud800-\udfff]", r"\udc00\ud800", r"\u{d800}", r"\x{d800}"] {
            pattern(text, text, dialect);
        }
    }
    for syntax in SYNTAXES {
        let is = if syntax == Syntax::Lark { ":" } else { "::=" };
        for text in ["\"\\x00\"", "\"\0\"", "/\0/"] {
            assert_eq!(grammar(text, &format!("root {is} {text}"), syntax), "accepted", "{text:?}");
        }
        for text in ["\"\\ud800\"", "\0", "\"\\uDFFF\"", "\"\\UFFFFFFFF\""] {
            assert_eq!(grammar(text, &format!("root {is} {text}"), syntax), "invalid", "{text:?}");
        }
    }
}
