//! Context-free grammars against their definition: a chart over productions decides membership and
//! viable prefixes, symbol by symbol (oracle 2), for random grammars with left recursion, empty rules
//! and ambiguity.

#![allow(clippy::unwrap_used, clippy::format_collect)]

use proptest::prelude::*;
use std::collections::BTreeSet;
use std::sync::Arc;
use trivium_core::{SpecialToken, TokenId, Vocabulary, mask};
use trivium_grammar::{CompileLimits, Error, GrammarMask, Syntax};

/// Grammar over `a`, `b`, `c`: productions of nonterminals `0..n`; upper-case letters are nonterminals.
#[derive(Debug, Clone)]
struct Rules(Vec<Vec<Vec<Sym>>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Sym {
    T(u8),
    N(usize),
}

impl Rules {
    fn text(&self) -> String {
        let name = |i: usize| format!("r{i}");
        let mut out = String::new();
        for (i, all) in self.0.iter().enumerate() {
            let alternatives: Vec<String> = all
                .iter()
                .map(|p| {
                    let symbols: Vec<String> = p
                        .iter()
                        .map(|s| match s {
                            Sym::T(t) => format!("\"{}\"", char::from(*t)),
                            Sym::N(n) => name(*n),
                        })
                        .collect();
                    if symbols.is_empty() { "\"\"".into() } else { symbols.join(" ") }
                })
                .collect();
            out += &[&name(i), " ::= ", &alternatives.join(" | "), "\n"].concat();
        }
        out
    }

    /// `derives[n]`: texts of at most `len` characters of nonterminal `n`, and whether all of their
    /// proper extensions are cut off there; a plain fixpoint.
    fn texts(&self, len: usize) -> Vec<BTreeSet<Vec<u8>>> {
        let mut sets: Vec<BTreeSet<Vec<u8>>> = vec![BTreeSet::new(); self.0.len()];
        loop {
            let mut grown = false;
            for i in 0..self.0.len() {
                for p in &self.0[i] {
                    let mut texts: BTreeSet<Vec<u8>> = BTreeSet::from([Vec::new()]);
                    for s in p {
                        let mut next = BTreeSet::new();
                        for t in &texts {
                            match s {
                                Sym::T(c) if t.len() < len => {
                                    let mut t = t.clone();
                                    t.push(*c);
                                    next.insert(t);
                                }
                                Sym::T(_) => {}
                                Sym::N(n) => {
                                    for tail in &sets[*n] {
                                        if t.len() + tail.len() <= len {
                                            next.insert([&t[..], tail].concat());
                                        }
                                    }
                                }
                            }
                        }
                        texts = next;
                    }
                    for t in texts {
                        grown |= sets[i].insert(t);
                    }
                }
            }
            if !grown {
                return sets;
            }
        }
    }
}

/// Earley items (rule, production, dot, from), by definition: whether `text` is a viable prefix and
/// whether it is a text.
fn earley(rules: &Rules, productive: &[bool], text: &[u8]) -> (bool, bool) {
    type Item = (usize, usize, usize, usize);
    let usable = |p: &Vec<Sym>| p.iter().all(|s| !matches!(s, Sym::N(n) if !productive[*n]));
    let mut chart: Vec<BTreeSet<Item>> = vec![BTreeSet::new(); text.len() + 1];
    for (j, p) in rules.0[0].iter().enumerate() {
        if usable(p) {
            chart[0].insert((0, j, 0, 0));
        }
    }
    for at in 0..=text.len() {
        loop {
            let mut new: Vec<Item> = Vec::new();
            for &(r, j, dot, from) in &chart[at] {
                match rules.0[r][j].get(dot) {
                    Some(Sym::N(n)) => {
                        for (k, p) in rules.0[*n].iter().enumerate() {
                            if usable(p) {
                                new.push((*n, k, 0, at));
                            }
                        }
                        // Completed at once: an empty text of the nonterminal.
                        for (k, p) in rules.0[*n].iter().enumerate() {
                            if chart[at].contains(&(*n, k, p.len(), at)) {
                                new.push((r, j, dot + 1, from));
                            }
                        }
                    }
                    Some(Sym::T(_)) => {}
                    None => {
                        for &(r2, j2, dot2, from2) in &chart[from] {
                            if rules.0[r2][j2].get(dot2) == Some(&Sym::N(r)) {
                                new.push((r2, j2, dot2 + 1, from2));
                            }
                        }
                    }
                }
            }
            let before = chart[at].len();
            chart[at].extend(new);
            if chart[at].len() == before {
                break;
            }
        }
        if at < text.len() {
            let next: Vec<Item> = chart[at]
                .iter()
                .filter(|i| rules.0[i.0][i.1].get(i.2) == Some(&Sym::T(text[at])))
                .map(|i| (i.0, i.1, i.2 + 1, i.3))
                .collect();
            chart[at + 1].extend(next);
        }
    }
    let last = &chart[text.len()];
    let whole = last.iter().any(|i| i.0 == 0 && i.3 == 0 && i.2 == rules.0[0][i.1].len());
    (!last.is_empty(), whole)
}

fn productive(rules: &Rules) -> Vec<bool> {
    let mut out = vec![false; rules.0.len()];
    loop {
        let mut grown = false;
        for i in 0..rules.0.len() {
            let some =
                rules.0[i].iter().any(|p| p.iter().all(|s| !matches!(s, Sym::N(n) if !out[*n])));
            grown |= some && !std::mem::replace(&mut out[i], some);
        }
        if !grown {
            return out;
        }
    }
}

fn vocab() -> Arc<Vocabulary> {
    let mut tokens: Vec<Vec<u8>> = ["a", "b", "c", "ab", "ba", "aa", "abc", "cab", "bb", "aab"]
        .iter()
        .map(|t| t.as_bytes().to_vec())
        .collect();
    tokens.push(Vec::new());
    Arc::new(Vocabulary::new(&tokens, &[], &[10], None).unwrap())
}

fn rules() -> impl Strategy<Value = Rules> {
    let symbol = |n: usize| {
        prop_oneof![(0usize..3).prop_map(|i| Sym::T(b"abc"[i])), (0..n).prop_map(Sym::N)]
    };
    (1usize..6).prop_flat_map(move |n| {
        let production = prop::collection::vec(symbol(n), 0..4);
        let all = prop::collection::vec(production, 1..4);
        prop::collection::vec(all, n).prop_map(Rules)
    })
}

fn compile(text: &str, vocab: &Arc<Vocabulary>) -> Result<GrammarMask, Error> {
    GrammarMask::grammar(text, vocab, Syntax::Ebnf, Some("r0"), CompileLimits::default())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn masks_are_those_of_the_definition(rules in rules(), picks in prop::collection::vec(0usize..99, 6)) {
        let vocab = vocab();
        let productive = productive(&rules);
        let grammar = match compile(&rules.text(), &vocab) {
            Ok(g) => g,
            Err(Error::Unsatisfiable { .. }) => {
                prop_assert!(!productive[0]);
                return Ok(());
            }
            Err(e) => return Err(TestCaseError::fail(format!("{e} in\n{}", rules.text()))),
        };
        let mut m = grammar.matcher();
        let mut text: Vec<u8> = Vec::new();
        for pick in picks {
            let mut row = vec![0u32; m.words()];
            m.fill(&mut row).unwrap();
            let mut want: Vec<TokenId> = Vec::new();
            for t in 0..10u32 {
                let next = [&text[..], vocab.token(t)].concat();
                if earley(&rules, &productive, &next).0 {
                    want.push(t);
                }
            }
            if earley(&rules, &productive, &text).1 {
                want.push(10);
            }
            let got: Vec<TokenId> = mask::iter(&row).collect();
            prop_assert_eq!(&got, &want, "after {:?} in\n{}", String::from_utf8_lossy(&text), rules.text());
            prop_assert_eq!(m.mask_slow().unwrap(), row);
            // D: a live text can go on or end.
            prop_assert!(!got.is_empty());
            let token = got[pick % got.len()];
            prop_assert!(m.commit(token).unwrap());
            if token == 10 {
                break;
            }
            text.extend_from_slice(vocab.token(token));
        }
    }

    #[test]
    fn membership_is_that_of_the_definition(rules in rules()) {
        let Ok(grammar) = compile(&rules.text(), &vocab()) else { return Ok(()) };
        let texts = &rules.texts(4)[0];
        let mut all: Vec<Vec<u8>> = vec![Vec::new()];
        for len in 0..4 {
            let longer: Vec<Vec<u8>> = all
                .iter()
                .filter(|t| t.len() == len)
                .flat_map(|t| b"abc".map(|c| [&t[..], &[c]].concat()))
                .collect();
            all.extend(longer);
        }
        for t in all {
            let text = String::from_utf8_lossy(&t).into_owned();
            prop_assert_eq!(grammar.matches(&t).unwrap(), texts.contains(&t), "{} in\n{}", text, rules.text());
        }
    }
}

fn bytes() -> Arc<Vocabulary> {
    let mut tokens: Vec<Vec<u8>> = (0..=255u8).map(|b| vec![b]).collect();
    tokens.extend([
        b"if".to_vec(),
        b"ifx".to_vec(),
        b"((".to_vec(),
        b"))".to_vec(),
        b" x".to_vec(),
    ]);
    let special = [SpecialToken { id: 261, name: "<|call|>".into() }];
    tokens.push(Vec::new());
    tokens.push(Vec::new());
    Arc::new(Vocabulary::new(&tokens, &special, &[262], None).unwrap())
}

fn grammar(text: &str, syntax: Syntax) -> GrammarMask {
    GrammarMask::grammar(text, &bytes(), syntax, None, CompileLimits::default()).unwrap()
}

#[test]
fn deep_nesting_needs_no_stack() {
    let g = grammar("root ::= \"(\" root \")\" | \"x\"", Syntax::Ebnf);
    let n = 100_000;
    let text = "(".repeat(n) + "x" + &")".repeat(n);
    assert!(g.matches(text.as_bytes()).unwrap());
    assert!(!g.matches(&text.as_bytes()[..text.len() - 1]).unwrap());
    let mut m = g.matcher();
    for _ in 0..n / 2 {
        assert!(m.commit(258).unwrap());
    }
    let mut row = vec![0u32; m.words()];
    m.fill(&mut row).unwrap();
    let allowed: Vec<u32> = mask::iter(&row).collect();
    assert_eq!(allowed, [u32::from(b'('), u32::from(b'x'), 258]);
}

#[test]
fn lists_are_read_in_constant_space() {
    for text in [
        "root ::= root \",\" item | item\nitem ::= [a-z]+ | \"(\" root \")\"",
        "root ::= item \",\" root | item\nitem ::= [a-z]+ | \"(\" root \")\"",
    ] {
        let g = grammar(text, Syntax::Gbnf);
        let mut m = g.matcher();
        for _ in 0..1_000 {
            assert_eq!(m.commit_all(&[u32::from(b'a'), u32::from(b',')]).unwrap(), 2);
        }
        let few = g.report().unwrap().automaton.states;
        for _ in 0..1_000 {
            assert_eq!(m.commit_all(&[u32::from(b'a'), u32::from(b',')]).unwrap(), 2);
        }
        assert_eq!(g.report().unwrap().automaton.states, few);
    }
}

#[test]
fn terminals_are_longest_matches() {
    // What a terminal can take it takes, as far as the terminals of its place go: where only `if` may
    // stand, `ifx` is two of them.
    let g = grammar("start: \"if\" NAME\nNAME: /[a-z]+/\n%ignore \" \"", Syntax::Lark);
    assert!(g.matches(b"ifx").unwrap());
    let text = "start: \"if\" NAME | NAME \"!\"\nNAME: /[a-z]+/\n%ignore \" \"";
    let g = grammar(text, Syntax::Lark);
    for (text, ok) in [
        ("if x", true),
        ("ifx", false),
        ("ifx !", true),
        ("if", false),
        ("if  abc ", true),
        (" if x", false),
        ("if x y", false),
        ("if!", false),
    ] {
        assert_eq!(g.matches(text.as_bytes()).unwrap(), ok, "{text}");
    }
    let mut m = g.matcher();
    for token in [256, 260, 32] {
        let mut row = vec![0u32; m.words()];
        m.fill(&mut row).unwrap();
        assert_eq!(row, m.mask_slow().unwrap());
        assert!(mask::iter(&row).any(|t| t == token));
        assert!(m.commit(token).unwrap());
    }
    assert!(m.is_accepting().unwrap());
}

#[test]
fn templates_are_rules_of_their_arguments() {
    let text = r#"
        start: list{NUMBER, ","} | list{word{"a"}, ";"} | "(" nest{"x"} ")"
        list{item, mark}: item (mark item)*
        word{letter}: letter+ "!"
        nest{t}: t | "<" nest{t} ">"
        NUMBER: /[0-9]+/
    "#;
    let g = grammar(text, Syntax::Lark);
    for (text, wanted) in [
        ("1,22,3", true),
        ("aa!;a!", true),
        ("(<<x>>)", true),
        ("x", false),
        ("1;2", false),
        ("aa!,a!", false),
        ("(<x>>)", false),
        ("1,", false),
    ] {
        assert_eq!(g.matches(text.as_bytes()).unwrap(), wanted, "{text}");
    }
}

#[test]
fn keywords_come_before_names() {
    let g = grammar(
        "start: stmt+\nstmt: \"if\" NAME \";\" | NAME \"=\" NUMBER \";\"\n%import common.CNAME -> NAME\n%import common.NUMBER\n%import common.WS\n%ignore WS\n",
        Syntax::Lark,
    );
    for (text, ok) in [
        ("if x; y = 1.5;", true),
        ("iffy=2;", true),
        ("if=2;", false),
        ("x = 1", false),
        ("x\n=\t1 ;\n", true),
    ] {
        assert_eq!(g.matches(text.as_bytes()).unwrap(), ok, "{text}");
    }
}

#[test]
fn special_tokens_are_symbols() {
    let g = grammar("root ::= \"a\" <|call|> (\"b\" root)? | <[261]> \"c\"", Syntax::Ebnf);
    let mut m = g.matcher();
    assert_eq!(m.commit_all(&[97, 261, 98, 261, 99, 262]).unwrap(), 6);
    m.reset();
    let mut row = vec![0u32; m.words()];
    m.fill(&mut row).unwrap();
    assert_eq!(mask::iter(&row).collect::<Vec<_>>(), [97, 261]);
    // The same text in ordinary tokens is not the symbol.
    assert!(!g.matches(b"a<|call|>").unwrap());
}

#[test]
fn schemas_are_parts_of_grammars() {
    let g = grammar(
        "root ::= (\"call \" args \"\\n\")+\nargs ::= %json {\"type\": \"object\", \"properties\": {\"x\": {\"type\": \"integer\"}}, \"required\": [\"x\"], \"additionalProperties\": false} | \"(\" args \")\"",
        Syntax::Ebnf,
    );
    assert!(g.matches(b"call {\"x\": 1}\ncall ({\"x\": 22})\n").unwrap());
    assert!(!g.matches(b"call {\"y\": 1}\n").unwrap());
}

#[test]
fn mistakes_are_located() {
    let vocab = bytes();
    let fail = |text: &str, syntax| {
        GrammarMask::grammar(text, &vocab, syntax, None, CompileLimits::default())
            .map(drop)
            .unwrap_err()
            .to_string()
    };
    for (text, syntax, part) in [
        ("root ::= \"a\" b\nc ::= \"d\"", Syntax::Ebnf, "line 1, column 14: b is not defined"),
        ("root ::= \"a\n", Syntax::Ebnf, "is not closed"),
        (
            "root ::= \"a\"\nroot ::= \"b\"",
            Syntax::Gbnf,
            "line 2, column 1: rule root is defined twice",
        ),
        ("root ::= root \"a\"", Syntax::Ebnf, "matches no text"),
        ("start: A\nA: B\nB: A \"x\"", Syntax::Lark, "line 2, column 1"),
        ("start: A\nA: /x*/", Syntax::Lark, "empty text"),
        ("start: a{b}\nb: \"x\"", Syntax::Lark, "line 1, column 8: template a is not defined"),
        ("start: a{b}\na{x, y}: x y\nb: \"x\"", Syntax::Lark, "takes 2 arguments, not 1"),
        ("start: a\na{x}: x", Syntax::Lark, "without arguments"),
        ("start: a{\"x\"}\na{x}: a{x \"x\"} | x", Syntax::Lark, "template"),
        ("start: \"a\"\n%declare B", Syntax::Lark, "line 2, column 9"),
        ("start: \"a\"\n%override b: \"c\"", Syntax::Lark, "line 2"),
        ("start[max_tokens=3]: /a+/", Syntax::Lark, "line 1, column 6: attributes"),
        ("root ::= b & \"a\"\nb ::= \"(\" b \")\" | \"a\"", Syntax::Ebnf, "column 10"),
        ("root ::= <|nothing|>", Syntax::Ebnf, "no special token"),
        ("", Syntax::Ebnf, "no rule"),
    ] {
        let got = fail(text, syntax);
        assert!(got.contains(part), "{text:?}: {got}");
    }
    let deep = format!("root ::= {}\"a\"{}", "(".repeat(100_000), ")".repeat(100_000));
    assert!(fail(&deep, Syntax::Ebnf).contains("nesting"));
    let long: String =
        (0..20_000).map(|i| format!("r{i} ::= r{} \"a\" | \"b\" r{i} \"c\"\n", i + 1)).collect();
    let chained = compile(&(long + "r20000 ::= \"x\""), &vocab);
    assert!(chained.is_ok(), "{:?}", chained.err());
    let warned = grammar("root ::= \"a\" | b \"x\" root\nb ::= b \"c\"\nd ::= \"e\"", Syntax::Ebnf);
    let warnings = warned.report().unwrap().warnings;
    assert!(warnings.iter().any(|w| w.contains("rule d is not used")), "{warnings:?}");
    assert!(warnings.iter().any(|w| w.contains("rule b matches no text")), "{warnings:?}");
}
