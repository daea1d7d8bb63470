//! Masks of the machine against their definition, on JSON values built by hand.

use super::graph::{
    Alternative, Array, Cell, Condition, Escapes, Graph, Layout, Member, Node, Object, Order,
    Others, Space, UNBOUNDED, Unique,
};
use super::layout::literal;
use crate::automata::expr::{Arena, ExprId, INF};
use crate::grammar::{GrammarMask, Notes};
use crate::limits::CompileLimits;
use std::sync::{Arc, OnceLock};
use trivium_core::Vocabulary;

fn quoted(arena: &mut Arena, key: &str, _: Escapes) -> ExprId {
    literal(arena, &format!("\"{key}\""))
}

/// Strings without escapes.
fn string(arena: &mut Arena) -> ExprId {
    let body = arena.class(vec![(0x20, 0x21), (0x23, 0x5b), (0x5d, 0x10_ffff)]);
    let all = arena.repeat(body, 0, INF);
    let quote = literal(arena, "\"");
    let tail = arena.concat(all, quote);
    arena.concat(quote, tail)
}

fn digits(arena: &mut Arena) -> ExprId {
    let digit = arena.class(vec![(0x30, 0x39)]);
    arena.repeat(digit, 1, INF)
}

/// One vocabulary for all tests: what one grammar leaves in the process serves the next.
fn vocab() -> Arc<Vocabulary> {
    static VOCAB: OnceLock<Arc<Vocabulary>> = OnceLock::new();
    Arc::clone(VOCAB.get_or_init(make_vocab))
}

fn make_vocab() -> Arc<Vocabulary> {
    let mut tokens: Vec<Vec<u8>> = (0..=255u8).map(|b| vec![b]).collect();
    for t in [
        "{\"",
        "\":",
        "\": ",
        "\",",
        "\", \"",
        "\"}",
        "}}",
        "},",
        "[]",
        "{}",
        "a\":",
        "\"a\"",
        "\"a\":1,\"b\"",
        "ab",
        "\"ab",
        "\"ab\"",
        "1,",
        "12",
        "1,\"a\":",
        "a\":1,\"a\"",
        "x\":1,\"x\":",
        "x\":1,\"y\":",
        " \"",
        "  ",
        "]]",
        "],[",
        "1]",
        "true",
        "null",
        "é",
        "\"é",
        "{\"a\":{\"a\":",
    ] {
        tokens.push(t.into());
    }
    let eos = tokens.len() as u32;
    tokens.push(Vec::new());
    Arc::new(Vocabulary::new(&tokens, &[], &[eos], None).unwrap())
}

fn graph(make: impl FnOnce(&mut Arena) -> Vec<Node>, space: u32) -> Graph {
    let mut arena = Arena::new(1 << 24);
    let nodes = make(&mut arena);
    let blank = arena.class(vec![(0x20, 0x20)]);
    let gap = arena.repeat(blank, 0, space);
    Graph {
        arena,
        nodes,
        source: None,
        rules: Vec::new(),
        start: 0,
        layout: Layout { space: Space::Between(gap), key: quoted, escapes: Escapes::Minimal },
    }
}

fn grammar(graph: Graph) -> GrammarMask {
    let (limits, notes) = (CompileLimits::default(), Notes::default());
    GrammarMask::of_graph(graph, &vocab(), "test", String::new(), limits, notes, None).unwrap()
}

fn alt(values: &[u32]) -> Vec<Alternative> {
    values.iter().map(|&v| v.into()).collect()
}

fn member(key: &str, required: bool, values: &[u32]) -> Member {
    Member { key: key.into(), required, values: alt(values) }
}

/// Any JSON of strings without escapes, digits, and `null`.
fn any_json(arena: &mut Arena) -> Vec<Node> {
    let text = string(arena);
    let number = digits(arena);
    let null = literal(arena, "null");
    let object = Object {
        members: Vec::new(),
        forbidden: Vec::new(),
        others: vec![Others { keys: text, values: alt(&[0]) }],
        min: 0,
        max: UNBOUNDED,
        conditions: Vec::new(),
        order: Order::Any,
    };
    let array = Array {
        prefix: Vec::new(),
        rest: alt(&[0]),
        min: 0,
        max: UNBOUNDED,
        conditions: Vec::new(),
        unique: Unique::Any,
    };
    let cells = vec![
        Cell::Lexeme(text),
        Cell::Lexeme(number),
        Cell::Lexeme(null),
        Cell::Object(Arc::new(object)),
        Cell::Array(Arc::new(array)),
    ];
    vec![Node { cells }]
}

/// Random walks by mask: the mask equals its definition at every step.
fn check(grammar: &GrammarMask, seed: u64, walks: usize) -> usize {
    let mut state = seed | 1;
    let mut random = move |n: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % n as u64) as usize
    };
    let mut ended = 0;
    for _ in 0..walks {
        let mut m = grammar.matcher();
        for _ in 0..24 {
            let mut row = vec![0u32; m.words()];
            m.fill(&mut row).unwrap();
            let slow = m.mask_slow().unwrap();
            let text =
                String::from_utf8_lossy(&m.vocab().decode(&m.tokens()).unwrap()).into_owned();
            let show = |r: &[u32]| {
                trivium_core::mask::iter(r)
                    .map(|t| String::from_utf8_lossy(m.vocab().token(t)).into_owned())
                    .collect::<Vec<_>>()
            };
            assert_eq!(show(&row), show(&slow), "after {text:?}");
            let tokens: Vec<u32> = trivium_core::mask::iter(&row).collect();
            assert!(!tokens.is_empty(), "dead end after {text:?}");
            // Long tokens first: they cross the most.
            let long: Vec<u32> = tokens.iter().copied().filter(|&t| t >= 256).collect();
            let from = if long.is_empty() || random(3) == 0 { &tokens } else { &long };
            let token = from[random(from.len())];
            assert!(m.commit(token).unwrap());
            if m.is_finished() {
                ended += 1;
                break;
            }
        }
    }
    ended
}

#[test]
fn any_value() {
    let g = grammar(graph(any_json, 1));
    for (text, ok) in [
        (r#"{"a":1,"b":[1, 2,{"c":null}]}"#, true),
        (r#"{"a":1,"a":2}"#, false),
        (r#"{"a":{"a":1},"b":{"a":1}}"#, true),
        ("[]", true),
        ("[1,]", false),
        ("12", true),
        ("{ }", true),
    ] {
        assert_eq!(g.matches(text.as_bytes()).unwrap(), ok, "{text}");
    }
    assert!(check(&g, 7, 60) > 0);
}

#[test]
fn members_in_order_and_in_any() {
    for order in [Order::Schema, Order::Any] {
        let g = grammar(graph(
            |arena| {
                let mut nodes = any_json(arena);
                let number = digits(arena);
                let text = string(arena);
                nodes.insert(
                    0,
                    Node {
                        cells: vec![Cell::Object(Arc::new(Object {
                            members: vec![
                                member("a", false, &[2]),
                                member("b", true, &[2]),
                                member("ab", false, &[2]),
                            ],
                            forbidden: vec!["no".into()],
                            others: vec![Others { keys: text, values: alt(&[2]) }],
                            min: 2,
                            max: 3,
                            conditions: Vec::new(),
                            order,
                        }))],
                    },
                );
                nodes[1] = Node { cells: Vec::new() };
                nodes.push(Node { cells: vec![Cell::Lexeme(number)] });
                nodes
            },
            1,
        ));
        let any = order == Order::Any;
        for (text, ok) in [
            (r#"{"a":1,"b":2}"#, true),
            (r#"{"b":1,"a":2}"#, any),
            (r#"{"b":1}"#, false),
            (r#"{"b":1,"no":2}"#, false),
            (r#"{"b":1,"nob":2}"#, true),
            (r#"{"b":1,"x":2,"x":3}"#, false),
            (r#"{"b":1,"x":2,"y":3}"#, true),
            (r#"{"x":1,"b":2}"#, any),
            (r#"{"a":1,"b":1,"ab":1,"x":1}"#, false),
            (r#"{"a":1,"x":1,"y":1}"#, false),
        ] {
            assert_eq!(g.matches(text.as_bytes()).unwrap(), ok, "{order:?} {text}");
        }
        assert!(check(&g, 11, 60) > 0);
    }
}

#[test]
fn arrays_with_counts() {
    let g = grammar(graph(
        |arena| {
            let one = literal(arena, "1");
            let other = literal(arena, "2");
            let array = Array {
                prefix: vec![alt(&[1])],
                rest: vec![
                    Alternative { value: 1, counts: 1 },
                    Alternative { value: 2, counts: 0 },
                ],
                min: 3,
                max: 4,
                conditions: vec![Condition { min: 1, max: 2 }],
                unique: Unique::Any,
            };
            vec![
                Node { cells: vec![Cell::Array(Arc::new(array))] },
                Node { cells: vec![Cell::Lexeme(one)] },
                Node { cells: vec![Cell::Lexeme(other)] },
            ]
        },
        1,
    ));
    for (text, ok) in [
        ("[1,1,2]", true),
        ("[1,2,2]", false),
        ("[1,2,2,1]", true),
        ("[1,2,2,2]", false),
        ("[1,1,1,1]", false),
        ("[1,1]", false),
        ("[2,1,1]", false),
    ] {
        assert_eq!(g.matches(text.as_bytes()).unwrap(), ok, "{text}");
    }
    assert!(check(&g, 3, 40) > 0);
}

#[test]
fn what_one_grammar_leaves_serves_the_next() {
    // The same keys at other places: their residuals are alike but for the marker at the end.
    for keys in [["a", "b", "ab"], ["b", "ab", "a"], ["ab", "x", "b"]] {
        let g = grammar(graph(
            |arena| {
                let number = digits(arena);
                let text = string(arena);
                let members = keys.iter().map(|k| member(k, *k == "b", &[1])).collect();
                let object = Object {
                    members,
                    forbidden: Vec::new(),
                    others: vec![Others { keys: text, values: alt(&[2]) }],
                    min: 0,
                    max: UNBOUNDED,
                    conditions: Vec::new(),
                    order: Order::Any,
                };
                vec![
                    Node { cells: vec![Cell::Object(Arc::new(object))] },
                    Node { cells: vec![Cell::Lexeme(number)] },
                    Node { cells: vec![Cell::Lexeme(text)] },
                ]
            },
            1,
        ));
        assert!(g.matches(br#"{"b":1,"ab":2,"q":"s"}"#).unwrap());
        assert!(!g.matches(br#"{"b":"s"}"#).unwrap());
        check(&g, 5, 30);
    }
}
