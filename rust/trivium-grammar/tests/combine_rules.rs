//! Combinations with sides that are not regular, against enumerated languages.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{brute_mask, byte_vocab, regex, texts, vocab};
use std::sync::Arc;
use trivium_core::{Vocabulary, mask};
use trivium_grammar::json_schema::{Options, Whitespace};
use trivium_grammar::{CompileLimits, Error, GrammarMask, Matcher, Syntax, Trigger};

fn limits() -> CompileLimits {
    CompileLimits::default()
}

fn small() -> Arc<Vocabulary> {
    vocab(&[
        b"a", b"b", b"[", b"]", b"1", b",", b"<", b">", b"ab", b"<>", b">[", b"1]", b"][", b"b[",
    ])
}

fn json(schema: &str, vocab: &Arc<Vocabulary>) -> GrammarMask {
    let options = Options { whitespace: Whitespace::Compact, ..Options::default() };
    GrammarMask::json_schema(schema, vocab, &options, limits()).unwrap()
}

/// At most three ones in brackets, and its texts.
fn ones(vocab: &Arc<Vocabulary>) -> (GrammarMask, Vec<String>) {
    let g = json(r#"{"type": "array", "items": {"const": 1}, "maxItems": 3}"#, vocab);
    (g, ["[]", "[1]", "[1,1]", "[1,1,1]"].map(String::from).to_vec())
}

/// `aⁿbⁿ`, which no automaton reads, and its texts as far as the tests look.
fn pairs(vocab: &Arc<Vocabulary>) -> (GrammarMask, Vec<String>) {
    let text = r#"root ::= "a" root "b" | """#;
    let g = GrammarMask::grammar(text, vocab, Syntax::Ebnf, None, limits()).unwrap();
    (g, (0..9).map(|n| "a".repeat(n) + &"b".repeat(n)).collect())
}

/// `a*[1]?`, regular.
fn plain(vocab: &Arc<Vocabulary>) -> (GrammarMask, Vec<String>) {
    let texts = (0..14).flat_map(|n| ["", "1"].map(|end| "a".repeat(n) + end)).collect();
    (regex("a*1?", vocab, true), texts)
}

fn product(a: &[String], b: &[String]) -> Vec<String> {
    a.iter().flat_map(|x| b.iter().map(move |y| format!("{x}{y}"))).collect()
}

fn ids(m: &Matcher) -> Vec<u32> {
    let mut row = vec![0u32; m.words()];
    m.fill(&mut row).unwrap();
    assert_eq!(row, m.mask_slow().unwrap(), "after {:?}", m.tokens());
    mask::iter(&row).collect()
}

/// Every mask of every text that is short enough (`deep`, in bytes) is the enumerated one.
fn check(g: &GrammarMask, language: &[String], deep: impl Fn(&str) -> bool) {
    let vocab = g.vocab();
    let mut todo = vec![g.matcher()];
    let mut met = 0;
    while let Some(m) = todo.pop() {
        let mut prefix = Vec::new();
        m.tokens().iter().for_each(|&t| prefix.extend(vocab.token(t)));
        let near: Vec<String> =
            language.iter().filter(|t| t.as_bytes().starts_with(&prefix)).cloned().collect();
        let found = ids(&m);
        assert_eq!(found, brute_mask(&near, &prefix, vocab), "after {prefix:?}");
        assert_eq!(m.is_accepting().unwrap(), near.iter().any(|t| t.as_bytes() == prefix));
        met += 1;
        for t in found.into_iter().filter(|&t| !vocab.is_eos(t)) {
            let mut longer = prefix.clone();
            longer.extend(vocab.token(t));
            if deep(std::str::from_utf8(&longer).unwrap()) {
                let mut next = m.fork();
                assert!(next.commit(t).unwrap());
                todo.push(next);
            }
        }
    }
    assert!(met > 10, "{met} masks");
}

#[test]
fn unions_and_sequences_are_those_of_the_languages() {
    let vocab = small();
    let sides = [ones(&vocab), pairs(&vocab), plain(&vocab)];
    for (a, x) in &sides {
        for (b, y) in &sides {
            let or = GrammarMask::or(&[a, b], limits()).unwrap();
            check(&or, &[&x[..], y].concat(), |t| t.len() <= 5);
            let then = GrammarMask::then(&[a, b], limits()).unwrap();
            check(&then, &product(x, y), |t| t.len() <= 5);
        }
    }
}

#[test]
fn combinations_nest() {
    let vocab = small();
    let [(a, x), (b, y), (c, z)] = [ones(&vocab), pairs(&vocab), plain(&vocab)];
    let end = regex("<>", &vocab, true);
    let or = GrammarMask::or(&[&a, &b, &c], limits()).unwrap();
    let g = GrammarMask::then(&[&or, &end, &end, &or, &b], limits()).unwrap();
    let all = [x, y.clone(), z].concat();
    let ends: Vec<String> = all.iter().map(|t| format!("{t}<><>")).collect();
    let language = product(&product(&ends, &all), &y);
    check(&g, &language, |t| t.len() <= 3 || t.starts_with("[]<><>") && t.len() <= 9);
    for t in ["[1]<><>aabb", "ab<><>[]ab", "<><>"] {
        assert!(g.matches(t.as_bytes()).unwrap(), "{t}");
    }
    for t in ["[1]<>aabb", "ab<><>[]abb", ""] {
        assert!(!g.matches(t.as_bytes()).unwrap(), "{t}");
    }
}

/// Texts of some characters that do not hold the trigger before their end.
fn before(trigger: &str, len: usize) -> Vec<String> {
    let all = texts(&['a', '[', ']', '1', '<', '>'], len).into_iter();
    let mut out: Vec<String> = all.map(|t| t + trigger).collect();
    out.retain(|t| t.find(trigger) == Some(t.len() - trigger.len()));
    out
}

#[test]
fn a_trigger_starts_what_is_not_regular() {
    let vocab = vocab(&[b"a", b"[", b"]", b"1", b"<", b">", b"<>", b">[", b"1]", b"a<", b">[1"]);
    let g = json(r#"{"type": "array", "items": {"const": 1}, "maxItems": 1}"#, &vocab);
    let inner = ["[]", "[1]"].map(String::from);
    let after = GrammarMask::after("<>", &g, limits()).unwrap();
    check(&after, &product(&before("<>", 5), &inner), |t| t.len() <= 2 || t.contains("<>"));

    let nested = r#"root ::= "[" root "]" | "1""#;
    let g = GrammarMask::grammar(nested, &vocab, Syntax::Gbnf, None, limits()).unwrap();
    let islands = GrammarMask::free_text_with(&[("<", &g)], None, limits()).unwrap();
    let stopped = GrammarMask::free_text_with(&[("<", &g)], Some(">"), limits()).unwrap();
    let inner: Vec<String> =
        (0..5).map(|n| format!("{}1{}", "[".repeat(n), "]".repeat(n))).collect();
    let free = |t: &str| !t.contains(['<', '>']);
    for t in texts(&['[', ']', '1', '<', '>', 'a'], 6) {
        // Islands by definition: the text falls apart at the triggers.
        let reads = |body: &str, also: char| {
            let mut pieces = body.split('<');
            let head = pieces.next().unwrap_or("");
            !head.contains(also)
                && pieces.all(|p| {
                    (0..=p.len())
                        .any(|i| inner.contains(&p[..i].to_owned()) && !p[i..].contains(also))
                })
        };
        assert_eq!(islands.matches(t.as_bytes()).unwrap(), reads(&t, '\0'), "{t}");
        let want = t.strip_suffix('>').is_some_and(|body| reads(body, '>'));
        assert_eq!(stopped.matches(t.as_bytes()).unwrap(), want, "{t}");
        let ends = stopped.completion(t.as_bytes()).unwrap();
        assert!(!free(&t) || ends.is_some());
    }
}

/// A draft tree across the trigger: rows are those of matchers that took the path.
#[test]
fn drafts_and_rollbacks_cross_the_trigger() {
    let vocab = byte_vocab();
    let schema = r#"{"type": "object", "properties": {"n": {"type": "integer"}},
        "required": ["n"], "additionalProperties": false}"#;
    let g = GrammarMask::after("</think>", &json(schema, &vocab), limits()).unwrap();
    let mut m = g.matcher();
    let head: Vec<u32> = b"so {\"n\" is 4 </thi".iter().map(|&b| b.into()).collect();
    assert_eq!(m.commit_all(&head).unwrap(), head.len());
    // The last committed token, then two paths: through the trigger, and back into free text.
    let mut tokens = vec![0];
    let mut parents = vec![-1];
    for path in [&b"nk>{\"n\":-4}"[..], b"nk{\"n\":"] {
        for (i, &b) in path.iter().enumerate() {
            parents.push(if i == 0 { 0 } else { tokens.len() as i32 - 1 });
            tokens.push(b.into());
        }
    }
    let stride = m.words();
    let mut rows = vec![0u32; stride * tokens.len()];
    let alive = m.fill_tree(&parents, &tokens, &mut rows, stride).unwrap();
    assert!(alive.iter().all(|&a| a));
    for at in 0..tokens.len() {
        let mut path = Vec::new();
        let mut up = at;
        while up > 0 {
            path.push(tokens[up]);
            up = parents[up] as usize;
        }
        path.reverse();
        let mut alone = g.matcher();
        alone.commit_all(&[&head[..], &path].concat()).unwrap();
        assert_eq!(
            mask::iter(&rows[at * stride..(at + 1) * stride]).collect::<Vec<_>>(),
            ids(&alone),
            "{path:?}"
        );
    }
    // Through the trigger and back, thrice.
    let free = ids(&m);
    let path: Vec<u32> = b"nk>{\"n\":-4}".iter().map(|&b| b.into()).collect();
    for _ in 0..3 {
        assert_eq!(m.commit_all(&path).unwrap(), path.len());
        assert!(m.is_accepting().unwrap() && ids(&m).iter().all(|&t| vocab.is_eos(t)));
        m.rollback(path.len() - 3).unwrap();
        assert_eq!(m.forced_bytes().unwrap(), b"{\"n\":");
        m.rollback(3).unwrap();
        assert_eq!(ids(&m), free);
    }
}

#[test]
fn a_special_token_is_a_trigger() {
    let vocab = small();
    let special = vocab.special().find(|s| s.name == "<s>").unwrap().id;
    let (g, _) = ones(&vocab);
    let trigger = Trigger::Special([special].into());
    for side in [&g, &regex("\\[\\]", &vocab, true)] {
        let after = GrammarMask::after(trigger.clone(), side, limits()).unwrap();
        let mut m = after.matcher();
        let free: Vec<u32> = (0..14).chain([special]).collect();
        for t in [0, 6, 9] {
            assert_eq!(ids(&m), free);
            assert!(m.commit(t).unwrap() && !m.is_accepting().unwrap());
        }
        // No text alone gets past a special token.
        assert_eq!(after.completion(b"a").unwrap(), None);
        assert!(m.commit(special).unwrap());
        assert_eq!(ids(&m), [2]);
        assert!(m.commit(2).unwrap() && m.commit(3).unwrap() && m.is_accepting().unwrap());
        m.rollback(3).unwrap();
        assert_eq!(ids(&m), free);
    }
    // With a trigger that is text, and the end anywhere in free text.
    let (pairs, _) = pairs(&vocab);
    let both = [(trigger, &g), (Trigger::from("<"), &pairs)];
    let g = GrammarMask::free_text_with(&both, None, limits()).unwrap();
    let mut m = g.matcher();
    let outside = ids(&m);
    // Every token of text but "<>", whose ">" cannot stand behind its trigger; both ends.
    assert_eq!(outside.len(), 14 + 1 + 2);
    assert_eq!(m.commit_all(&[special, 2, 4]).unwrap(), 3);
    assert_eq!(ids(&m), [3, 5, 12]); // "]", ",", "]["
}

#[test]
fn longest_match_beside_others_says_what_it_hides() {
    let vocab = byte_vocab();
    let lark =
        |text: &str| GrammarMask::grammar(text, &vocab, Syntax::Lark, None, limits()).unwrap();
    let word = lark("start: W start | W\nW: /[a-z]+/\n%ignore \" \"");
    let list = lark("start: \"[\" start \"]\" | \"x\"");
    let json = json(r#"{"type": "array", "maxItems": 1}"#, &vocab);
    let exact = GrammarMask::or(&[&word, &json], limits()).unwrap();
    assert!(exact.report().unwrap().complete);
    for (t, yes) in [("ab cd", true), ("[[]]", true), ("ab []", false), ("", false)] {
        assert_eq!(exact.matches(t.as_bytes()).unwrap(), yes, "{t}");
    }
    let after = GrammarMask::after("!", &word, limits()).unwrap();
    assert!(after.report().unwrap().complete && after.matches(b"A![x !ab cd").is_ok());
    assert!(after.matches(b"A[x] !ab cd").unwrap() && !after.matches(b"A !").unwrap());
    for g in [
        GrammarMask::then(&[&word, &json], limits()).unwrap(),
        GrammarMask::or(&[&word, &list], limits()).unwrap(),
    ] {
        let report = g.report().unwrap();
        assert!(!report.complete && report.sound && !report.no_dead_end, "{report:?}");
    }
    assert!(GrammarMask::or(&[&word, &list], limits()).unwrap().matches(b"[[x]]").unwrap());
}

#[test]
fn what_cannot_be_combined_is_refused() {
    let vocab = byte_vocab();
    let list = json(r#"{"type": "array"}"#, &vocab);
    let plain = regex("a", &vocab, true);
    let refused = |made: trivium_grammar::Result<GrammarMask>, word: &str| {
        let e = made.unwrap_err();
        assert!(matches!(e, Error::UnsupportedPattern { .. }), "{e}");
        assert!(e.to_string().contains(word), "{e}");
    };
    refused(GrammarMask::and(&[&plain, &list], limits()), "not regular");
    refused(GrammarMask::not(&list, limits()), "not regular");
    let or = GrammarMask::or(&[&plain, &list], limits()).unwrap();
    refused(GrammarMask::and(&[&plain, &or], limits()), "not regular");
    refused(GrammarMask::or(&[&regex("\\ba", &vocab, true), &list], limits()), "seam");
    let flex =
        GrammarMask::json_schema("{\"const\": 1}", &vocab, &Options::default(), limits()).unwrap();
    refused(GrammarMask::or(&[&flex, &list], limits()), "white space");
    for bad in [Trigger::from(""), Trigger::Special([].into()), Trigger::Special([97].into())] {
        assert!(GrammarMask::after(bad, &list, limits()).is_err());
    }
    let eos = vocab.special().find(|s| vocab.is_eos(s.id)).unwrap().id;
    assert!(GrammarMask::after(Trigger::Special([eos].into()), &list, limits()).is_err());
    // A regular grammar of rules is regular.
    let rules = GrammarMask::grammar("root ::= [a-c]+", &vocab, Syntax::Ebnf, None, limits());
    let and = GrammarMask::and(&[&rules.unwrap(), &plain], limits()).unwrap();
    assert!(and.matches(b"a").unwrap() && !and.matches(b"b").unwrap());
}

/// Schemas keep apart, whatever their number; `%json` parts too.
#[test]
fn many_schemas_in_one_run() {
    let vocab = byte_vocab();
    let part = |i: usize| {
        let schema = format!(
            r#"{{"type": "object", "properties": {{"k{i}": {{"type": "array", "items":
            {{"enum": [{i}, null]}}}}}}, "required": ["k{i}"], "additionalProperties": false}}"#
        );
        GrammarMask::json_schema(&schema, &vocab, &Options::default(), limits()).unwrap()
    };
    let mut parts: Vec<GrammarMask> = (0..30).map(part).collect();
    let text = r#"root ::= "(" root ")" | %json {"enum": [["x"], ["y"]]} | %json {"const": 77}"#;
    parts.push(GrammarMask::grammar(text, &vocab, Syntax::Ebnf, None, limits()).unwrap());
    let all: Vec<&GrammarMask> = parts.iter().collect();
    let or = GrammarMask::or(&all, limits()).unwrap();
    let then = GrammarMask::then(&[&parts[3], &parts[30], &parts[7]], limits()).unwrap();
    for i in 0..30 {
        assert!(or.matches(format!("{{\"k{i}\": [{i}, null]}}").as_bytes()).unwrap());
        assert!(!or.matches(format!("{{\"k{i}\": [{}]}}", i + 1).as_bytes()).unwrap());
    }
    assert!(or.matches(b"((77))").unwrap() && or.matches(b"([\"y\"])").unwrap());
    assert!(!or.matches(b"(78)").unwrap() && !or.matches(b"(77").unwrap());
    assert!(then.matches(br#"{"k3":[3]}(["x"]){"k7":[null,7]}"#).unwrap());
    assert!(!then.matches(br#"{"k3":[7]}(["x"]){"k7":[null,7]}"#).unwrap());
}

/// A vocabulary large enough for slices: walks through free text, triggers, JSON and rules.
#[test]
fn slices_change_no_mask_behind_a_trigger() {
    let mut x = 5u64;
    let mut random = |n: usize| {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (x >> 33) as usize % n
    };
    let pieces = ["a", "<", ">", "<>", "{", "}", "\"", "\"a\"", ":", "1", ",", "(", ")", "\u{e9}"];
    let tokens: Vec<Vec<u8>> = (0..2500)
        .map(|_| (0..=random(5)).map(|_| pieces[random(pieces.len())]).collect::<String>().into())
        .collect();
    let vocab = vocab(&tokens.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let object = json(r#"{"type": "object", "additionalProperties": {"type": "integer"}}"#, &vocab);
    let text = r#"root ::= "(" root ")" | [a1]+"#;
    let rules = GrammarMask::grammar(text, &vocab, Syntax::Ebnf, None, limits()).unwrap();
    let or = GrammarMask::or(&[&object, &rules], limits()).unwrap();
    for g in [
        GrammarMask::after("<>", &or, limits()).unwrap(),
        GrammarMask::free_text_with(&[("<", &or), (">", &rules)], None, limits()).unwrap(),
    ] {
        let (mut m, mut inside) = (g.matcher(), 0);
        for step in 0..160 {
            let ids: Vec<u32> = ids(&m).into_iter().filter(|&t| !vocab.is_eos(t)).collect();
            inside += usize::from(ids.len() < 1000);
            // Towards the triggers, which are rare.
            let telling: Vec<u32> =
                ids.iter().copied().filter(|&t| vocab.token(t).contains(&b'<')).collect();
            let from = if telling.is_empty() || step % 3 == 0 { &ids } else { &telling };
            if from.is_empty() || step % 12 == 11 {
                m.reset();
            } else {
                assert!(m.commit(from[random(from.len())]).unwrap());
            }
        }
        assert!(inside > 20, "{inside} masks behind a trigger");
    }
}

/// Where a text may stand between islands: positions after each way to read free text up to a first
/// trigger and then its island.
fn reads_islands(text: &str, islands: &[(&str, &[String])], stop: Option<&str>) -> bool {
    let triggers: Vec<&str> = islands.iter().map(|i| i.0).chain(stop).collect();
    let mut open = vec![0];
    let mut seen = std::collections::BTreeSet::from([0]);
    while let Some(at) = open.pop() {
        let rest = &text[at..];
        let first = (0..=rest.len()).find(|&e| triggers.iter().any(|t| rest[..e].ends_with(t)));
        match first {
            None if stop.is_none() => return true,
            None => {}
            Some(e) => {
                if stop.is_some_and(|s| rest[..e].ends_with(s)) && e == rest.len() {
                    return true;
                }
                for (trigger, inner) in islands {
                    if rest[..e].ends_with(trigger) {
                        for t in inner.iter().filter(|t| rest[e..].starts_with(t.as_str())) {
                            let next = at + e + t.len();
                            if seen.insert(next) {
                                open.push(next);
                            }
                        }
                    }
                }
            }
        }
    }
    false
}

/// Triggers that end in each other, begin with each other and meet islands that contain them.
#[test]
fn many_triggers_are_read_together() {
    let vocab = vocab(&[b"a", b"b", b"[", b"]", b"1", b"ab", b"b[", b"ba", b"1]", b"]a", b"aab["]);
    let (ones, inner) = ones(&vocab);
    let (pairs, ab) = pairs(&vocab);
    let (plain, a1) = plain(&vocab);
    let sets: [&[(&str, &GrammarMask, &[String])]; 4] = [
        &[("ab", &ones, &inner), ("b", &pairs, &ab), ("aa", &plain, &a1)],
        &[("ba", &ones, &inner), ("aba", &pairs, &ab)],
        &[("a", &pairs, &ab), ("ab", &ones, &inner), ("1", &ones, &inner)],
        &[("[a", &ones, &inner), ("]a", &plain, &a1), ("1a", &pairs, &ab)],
    ];
    for (islands, stop) in sets.iter().flat_map(|s| [(s, None), (s, Some("]")), (s, Some("bb"))]) {
        let given: Vec<(&str, &GrammarMask)> = islands.iter().map(|i| (i.0, i.1)).collect();
        let meant: Vec<(&str, &[String])> = islands.iter().map(|i| (i.0, i.2)).collect();
        let g = match GrammarMask::free_text_with(&given, stop, limits()) {
            Ok(g) => g,
            Err(e) => {
                // "b" comes before the end of "bb", always.
                assert!(matches!(e, Error::Unsatisfiable { .. }), "{e}");
                assert!(meant.iter().any(|i| i.0 == "b") && stop == Some("bb"));
                continue;
            }
        };
        let all = texts(&['a', 'b', '[', '1', ']'], 6);
        let read: Vec<bool> = all.iter().map(|t| reads_islands(t, &meant, stop)).collect();
        for (t, &want) in all.iter().zip(&read) {
            assert_eq!(g.matches(t.as_bytes()).unwrap(), want, "{t:?} {meant:?} {stop:?}");
        }
        // Masks are those of the definition, in every token, along every short text.
        for t in all.iter().filter(|t| t.len() <= 3) {
            let mut m = g.matcher();
            let tokens: Vec<u32> = t
                .bytes()
                .map(|b| (0..vocab.len() as u32).find(|&i| vocab.token(i) == [b]).unwrap())
                .collect();
            let alive = m.commit_all(&tokens).unwrap() == tokens.len();
            if alive {
                ids(&m);
                assert!(g.completion(t.as_bytes()).unwrap().is_some(), "{t:?}");
            }
            // What goes on within the texts enumerated is alive.
            let goes_on = all.iter().zip(&read).any(|(u, &r)| r && u.starts_with(t.as_str()));
            assert!(alive || !goes_on, "{t:?} {meant:?} {stop:?}");
        }
    }
}
