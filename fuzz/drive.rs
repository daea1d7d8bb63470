//! What is done with one hostile input: shared by the `cargo fuzz` targets beside it and by the random
//! driver on the stable toolchain (`rust/trivium-grammar/tests/random_driver.rs`), which CI runs.
//!
//! Every function takes arbitrary bytes and returns; it panics where a promise is broken:
//!
//! * a constructor gives a grammar or a typed error, never [`Core::Internal`];
//! * a mask and `commit` agree on every token; the mask by definition is the same bit for bit;
//! * a call that fails (a budget, a refused token) leaves the matcher as it was;
//! * rolling back and forking restore the mask.

use std::sync::{Arc, OnceLock};
use std::time::Duration;
use trivium_core::{Error as Core, SpecialToken, Vocabulary, mask};
use trivium_grammar::json_schema::{
    Additional, Escaping, MemberOrder, Numerals, OnUnsupported, Options, Whitespace,
};
use trivium_grammar::{CompileLimits, Dialect, Error, GrammarMask, Matcher, Syntax};

/// A kind of input: its name and what is done with it.
pub type Kind = (&'static str, fn(&[u8]));

/// The kinds of input.
pub const KINDS: [Kind; 4] =
    [("schema", schema), ("pattern", pattern), ("grammar", grammar), ("tokens", tokens)];

/// Small, so that a budget is a finding's end and not an hour.
fn limits() -> CompileLimits {
    CompileLimits {
        max_states: 20_000,
        max_bytes: 16 << 20,
        max_time: Duration::from_millis(500),
        mask_bytes: 1 << 20,
    }
}

/// Every byte, some pieces of JSON and of characters, two ends and a special token.
fn vocab() -> &'static Arc<Vocabulary> {
    static VOCAB: OnceLock<Arc<Vocabulary>> = OnceLock::new();
    VOCAB.get_or_init(|| {
        let mut tokens: Vec<Vec<u8>> = (0..=255u8).map(|b| vec![b]).collect();
        for piece in [
            "\":", "\",\"", "{\"", "\"}", "[[", "]]", "null", "true", "ab", "a\"", "\"a\"", ": 1",
            "0.", "e-", "\\u00", "\\ud83d", "\\\"", "  ", "\n\n", "é", "中a", "😀", "aaaa", "}]",
        ] {
            tokens.push(piece.into());
        }
        // A piece that begins and one that ends inside a character.
        tokens.extend([b"\xa9\"".to_vec(), b"a\xc3".to_vec(), b"\xf0\x9f".to_vec()]);
        let n = tokens.len() as u32;
        tokens.extend([vec![], vec![], vec![]]);
        let special = [SpecialToken { id: n, name: "<|x|>".into() }];
        match Vocabulary::new(&tokens, &special, &[n + 1, n + 2], Some(n as usize + 5)) {
            Ok(vocab) => Arc::new(vocab),
            Err(e) => panic!("{e}"),
        }
    })
}

/// The grammar, if the input makes one; panics at a defect.
fn settled(result: Result<GrammarMask, Error>) -> Option<GrammarMask> {
    match result {
        Ok(grammar) => Some(grammar),
        Err(Error::Core(Core::Internal { detail })) => panic!("a defect: {detail}"),
        // An error must say what is wrong.
        Err(e) => {
            assert!(e.to_string().len() > 10, "{e:?}");
            None
        }
    }
}

/// Bytes one after the other; zeros at the end.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn next(&mut self) -> usize {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first.into()
    }
}

/// A schema: a byte for the options, the text, and 16 bytes for a walk.
pub fn schema(data: &[u8]) {
    let (text, steps) = split(data);
    let mut r = Reader(steps);
    let o = r.next();
    let options = Options {
        order: [MemberOrder::Schema, MemberOrder::Any][o & 1],
        additional: [Additional::Spec, Additional::Closed][o >> 1 & 1],
        escapes: [Escaping::Minimal, Escaping::Any][o >> 2 & 1],
        numbers: [Numerals::Plain, Numerals::Any][o >> 3 & 1],
        on_unsupported: [OnUnsupported::Error, OnUnsupported::Relax][o >> 4 & 1],
        whitespace: match o >> 5 & 3 {
            0 => Whitespace::Flex,
            1 => Whitespace::Compact,
            2 => Whitespace::Any,
            _ => Whitespace::Indent(2),
        },
        max_cells: 2_000,
        ..Options::default()
    };
    // The front end takes text; bytes that are none are the caller's error.
    let text = String::from_utf8_lossy(text);
    if let Some(g) = settled(GrammarMask::json_schema(&text, vocab(), &options, limits())) {
        walk(&g, r.0);
    }
}

/// A pattern in one of the three dialects.
pub fn pattern(data: &[u8]) {
    let (text, steps) = split(data);
    let mut r = Reader(steps);
    let text = String::from_utf8_lossy(text);
    let o = r.next();
    let dialect = [Dialect::Rust, Dialect::Ecma, Dialect::Python][o % 3];
    if let Some(g) = settled(GrammarMask::regex(&text, vocab(), dialect, o & 4 == 0, limits())) {
        walk(&g, r.0);
    }
}

/// A grammar in one of the three syntaxes.
pub fn grammar(data: &[u8]) {
    let (text, steps) = split(data);
    let mut r = Reader(steps);
    let text = String::from_utf8_lossy(text);
    let syntax = [Syntax::Ebnf, Syntax::Gbnf, Syntax::Lark][r.next() % 3];
    if let Some(g) = settled(GrammarMask::grammar(&text, vocab(), syntax, None, limits())) {
        walk(&g, r.0);
    }
}

/// A token stream against one of a few fixed grammars.
pub fn tokens(data: &[u8]) {
    static ALL: OnceLock<Vec<GrammarMask>> = OnceLock::new();
    let all = ALL.get_or_init(|| {
        let schema = |text: &str, options: &Options| {
            GrammarMask::json_schema(text, vocab(), options, limits())
        };
        let any = Options {
            order: MemberOrder::Any,
            escapes: Escaping::Any,
            numbers: Numerals::Any,
            ..Options::default()
        };
        let tight = Options::default();
        [
            schema("{}", &tight),
            schema("{}", &any),
            schema(r#"{"uniqueItems":true,"items":{"type":["integer","string"]}}"#, &any),
            schema(
                r##"{"properties":{"a":{"$ref":"#"},"b":{"pattern":"^(ab)*$","maxLength":9}},
                "required":["b"],"patternProperties":{"^x":{"multipleOf":0.3}},"maxProperties":4}"##,
                &any,
            ),
            schema(r#"{"oneOf":[{"format":"date-time"},{"contains":{"const":1}},{"not":{}}]}"#, &tight),
            GrammarMask::regex(r"(?s).*\bab\b.*", vocab(), Dialect::Rust, true, limits()),
            GrammarMask::regex(r"(?=.*b)(a|é){0,99}b?", vocab(), Dialect::Ecma, true, limits()),
            GrammarMask::grammar(
                "root ::= root \"a\" root | \"(\" root \")\" | <|x|> | \"\"",
                vocab(),
                Syntax::Ebnf,
                None,
                limits(),
            ),
            GrammarMask::grammar(
                "start: (A | B)+ \"end\"\nA: /a+/\nB: /[ab]+b/\n%ignore / +/",
                vocab(),
                Syntax::Lark,
                None,
                limits(),
            ),
        ]
        .into_iter()
        .map(|g| g.unwrap_or_else(|e| panic!("{e}")))
        .collect()
    });
    let mut r = Reader(data);
    let at = r.next() % all.len();
    walk(&all[at], r.0);
}

/// The text of an input and the bytes of its walk, which stand in front.
fn split(data: &[u8]) -> (&[u8], &[u8]) {
    let at = data.len().min(24);
    (&data[at..], &data[..at])
}

/// Everything that can be seen of a matcher.
fn view(m: &Matcher) -> (Vec<u32>, Option<Vec<u32>>) {
    (m.tokens(), row(m))
}

/// The mask; `None` where a budget is spent.
fn row(m: &Matcher) -> Option<Vec<u32>> {
    let mut row = vec![u32::MAX; m.words()];
    let any = within(m.fill(&mut row))?;
    assert_eq!(any, row.iter().any(|&w| w != 0));
    Some(row)
}

/// The value, or `None` where a budget is spent; everything else is a defect.
fn within<T>(result: Result<T, Error>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(Error::Core(Core::LimitExceeded { .. })) => None,
        Err(e) => panic!("neither done nor out of budget: {e}"),
    }
}

/// Takes a walk through a grammar.
fn walk(g: &GrammarMask, steps: &[u8]) {
    let mut m = g.matcher();
    let mut r = Reader(steps);
    // An ambiguous grammar costs the cube of the length.
    for i in 0..steps.len().min(200) {
        let Some(row) = row(&m) else { return };
        if i % 8 == 3 {
            match m.mask_slow() {
                Ok(slow) => assert_eq!(row, slow, "the mask by definition after {:?}", m.tokens()),
                Err(e) => assert!(within::<()>(Err(e)).is_none()),
            }
        }
        let o = r.next();
        match o % 16 {
            // Any token, allowed or not.
            0..4 => {
                let token = (o * 7 + r.next()) as u32 % vocab().num_rows() as u32;
                let before = m.tokens();
                match m.commit(token) {
                    Ok(done) => assert_eq!(done, mask::get(&row, token), "token {token}"),
                    Err(Error::Core(Core::LimitExceeded { .. })) => {
                        assert_eq!(m.tokens(), before);
                        return;
                    }
                    // Ids that no token has.
                    Err(_) => assert_eq!(m.tokens(), before),
                }
            }
            4 => {
                let n = r.next() % (m.len() + 1);
                let before = view(&m);
                let tail = m.tokens()[m.len() - n..].to_vec();
                if within(m.rollback(n)).is_none() || within(m.commit_all(&tail)).is_none() {
                    return;
                }
                assert_eq!(view(&m), before, "back by {n} and forth");
            }
            5 => {
                let fork = m.fork();
                assert_eq!(view(&fork), view(&m));
            }
            6 => {
                let over = m.len() + 1;
                let before = view(&m);
                assert!(m.rollback(over).is_err());
                assert_eq!(view(&m), before);
            }
            7 if !m.is_finished() && m.dead_at().is_none() => {
                if let Some(forced) = within(m.forced_tokens()) {
                    let n = within(m.validate(&forced));
                    assert!(n.is_none_or(|n| n == forced.len()), "forced {forced:?}");
                }
            }
            _ => {
                let allowed: Vec<u32> = mask::iter(&row).collect();
                let Some(&token) = allowed.get(o * 31 % allowed.len().max(1)) else {
                    m.reset();
                    continue;
                };
                match m.commit(token) {
                    Ok(done) => assert!(done, "the mask allows {token}, commit does not"),
                    Err(e) => {
                        assert!(within::<()>(Err(e)).is_none());
                        return;
                    }
                }
            }
        }
    }
}
