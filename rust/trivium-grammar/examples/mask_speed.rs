//! Mask latencies on a real vocabulary: `cargo run --profile thin -p trivium-grammar --example
//! mask_speed -- VOCAB.safetensors`.
//!
//! For each pattern: time to the first mask of a new grammar, then the masks along a text, first as
//! new states and then from the cache. Medians and maxima in microseconds.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;
use trivium_core::{TokenId, Vocabulary};
use trivium_grammar::{CompileLimits, Dialect, GrammarMask};

/// Greedy longest-match tokens of a text.
fn tokens(vocab: &Vocabulary, text: &str) -> Vec<TokenId> {
    let trie = vocab.trie();
    let (mut out, mut rest) = (Vec::new(), text.as_bytes());
    while !rest.is_empty() {
        let (mut node, mut best) = (0, (0, 1));
        for (i, &b) in rest.iter().enumerate() {
            let Some(child) = trie.child(node, b) else { break };
            node = child;
            if let Some(&t) = trie.tokens_at(node).first() {
                best = (t, i + 1);
            }
        }
        out.push(best.0);
        rest = &rest[best.1..];
    }
    out
}

fn main() {
    let path =
        std::env::args().nth(1).map_or_else(|| PathBuf::from("vocab.safetensors"), PathBuf::from);
    let vocab = Arc::new(Vocabulary::load(&path).unwrap());
    let t = Instant::now();
    vocab.trie();
    println!("trie {:.1} ms", t.elapsed().as_secs_f64() * 1e3);
    let keep =
        GrammarMask::regex("a", &vocab, Dialect::Rust, true, CompileLimits::default()).unwrap();
    let cases = [
        ("date", r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])", "2024-02-29"),
        ("email", r"[a-z0-9._%+-]+@[a-z0-9.-]+\.[a-z]{2,}", "some.person+tag@mail.example.org"),
        ("string", r#"[^"\\]*"#, "The quick brown fox, jumps over the lazy dog; naïve café."),
        ("quoted", r#""([^"\\]|\\["\\/bfnrt])*""#, "\"a quoted \\\"string\\\" with 日本語 text\""),
        ("bounded", r#""[^"\\]{0,200}""#, "\"The quick brown fox jumps over the lazy dog\""),
        ("counted", r"(?:a|b|c){1,1000}", "abcabcabccbabca"),
        ("words", r"(\w+ ){0,100}\w+", "any words at all follow one another here"),
        ("any", r"(?s).*", "anything\ngoes"),
    ];
    println!(
        "{:8} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "pattern", "first us", "new p50", "new max", "seen p50", "states"
    );
    for (name, pattern, text) in cases {
        let ids = tokens(&vocab, text);
        let mut row = vec![0u32; vocab.num_rows().div_ceil(32)];
        let mut first = Vec::new();
        let (mut new, mut seen) = (Vec::new(), Vec::new());
        let mut states = 0;
        for round in 0..15 {
            let t = Instant::now();
            let g =
                GrammarMask::regex(pattern, &vocab, Dialect::Rust, true, CompileLimits::default())
                    .unwrap();
            let mut m = g.matcher();
            m.fill(&mut row).unwrap();
            let us = t.elapsed().as_secs_f64() * 1e6;
            if round == 0 {
                print!("{name:8} (first ever {us:.0} us) ");
            } else {
                first.push(us);
            }
            for times in [&mut new, &mut seen] {
                m.reset();
                for &id in &ids {
                    let ok = m.commit(id).unwrap();
                    assert!(ok, "{name}: {:?}", String::from_utf8_lossy(vocab.token(id)));
                    let t = Instant::now();
                    m.fill(&mut row).unwrap();
                    times.push(t.elapsed().as_secs_f64() * 1e6);
                }
            }
            states = g.report().unwrap().automaton.states;
        }
        for v in [&mut first, &mut new, &mut seen] {
            v.sort_by(f64::total_cmp);
        }
        println!(
            "{:9.1} {:9.2} {:9.1} {:9.3} {states:9}",
            first[first.len() / 2],
            new[new.len() / 2],
            new[new.len() - 1],
            seen[seen.len() / 2],
        );
    }
    println!("slices {:?}", keep.report().unwrap().slices);
}
