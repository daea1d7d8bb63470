//! Scans with places against scans by the automaton.

use super::{Keys, Rests, Scan};
use crate::automata::dfa::Automaton;
use crate::automata::expr::{Arena, ExprId, INF};
use crate::automata::markers::mark;
use crate::automata::spell::Spelling;
use crate::limits::CompileLimits;
use crate::mask::index::TokenIndex;
use crate::mask::words::{Purpose, Words};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use trivium_core::{TokenId, Vocabulary};

fn index() -> Arc<TokenIndex> {
    let mut tokens: Vec<Vec<u8>> = (0..=255u8).map(|b| vec![b]).collect();
    // Every text of up to four of these, so that tokens cross all ends of keys.
    let alphabet = [b'a', b'b', b'"', b':', b' ', b'\\', b'u', b'0', b'1', b'6'];
    let mut last: Vec<Vec<u8>> = vec![Vec::new()];
    for _ in 0..4 {
        last = last.iter().flat_map(|t| alphabet.map(|b| [&t[..], &[b]].concat())).collect();
        // Some are left out, so that the trie has gaps; some are there twice.
        let kept = last.iter().enumerate().filter(|(i, _)| i % 7 != 3);
        tokens.extend(kept.map(|t| t.1.clone()));
        tokens.extend(last.iter().step_by(13).cloned());
    }
    let eos = tokens.len() as TokenId;
    tokens.push(Vec::new());
    let vocab = Vocabulary::new(&tokens, &[], &[eos], None).unwrap();
    TokenIndex::of(&Arc::new(vocab)).unwrap()
}

/// By markers: the children of the trie where a rest begins.
fn sets(rests: &[Rests]) -> BTreeMap<Vec<u32>, Vec<u32>> {
    let mut out: BTreeMap<Vec<u32>, Vec<u32>> = BTreeMap::new();
    for r in rests {
        let nodes = out.entry(r.markers.to_vec()).or_default();
        nodes.extend(r.buckets.iter().flat_map(|b| b.parts.iter()));
        nodes.sort_unstable();
    }
    out
}

fn tokens(scan: &Scan, words: usize) -> Vec<TokenId> {
    let mut row = vec![0u32; words];
    scan.inner.write(&mut row, true);
    trivium_core::mask::iter(&row).collect()
}

/// Keys, constants and counted digits, spelled, with the white space of JSON around a colon.
fn lexeme(arena: &mut Arena, shape: &(u8, String, u32), marker: u32) -> ExprId {
    let (kind, text, n) = shape;
    let quote = arena.literal("\"");
    let body = match kind % 3 {
        0 => arena.literal(text),
        1 => {
            let digit = arena.class(vec![(0x30, 0x31), (0x36, 0x36)]);
            arena.repeat(digit, n / 2, *n)
        }
        _ => {
            let word = arena.literal(text);
            arena.repeat(word, 1, if *n > 4 { INF } else { *n })
        }
    };
    let how = if n % 2 == 0 { Spelling::Any } else { Spelling::Minimal };
    let body = arena.spell(body, how);
    let blank = arena.class(vec![(0x20, 0x20)]);
    let gap = arena.repeat(blank, 0, 3);
    let colon = arena.literal(":");
    let all = arena.sequence(&[quote, body, quote, gap, colon, gap]);
    mark(arena, all, marker)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn places_and_automaton_agree(
        shapes in prop::collection::vec((0u8..3, "[ab\"16 ]{1,4}", 1u32..6), 1..5),
        text in prop::collection::vec(prop::sample::select(b"\"ab16\\u0:  ".to_vec()), 0..6),
    ) {
        thread_local!(static INDEX: Arc<TokenIndex> = index());
        let index = INDEX.with(Arc::clone);
        let mut arena = Arena::new(1 << 24);
        let members: Vec<ExprId> =
            shapes.iter().enumerate().map(|(i, s)| lexeme(&mut arena, s, i as u32)).collect();
        let all = arena.union(&members);
        let automaton = Automaton::of(arena, CompileLimits::default(), None).unwrap();
        automaton.mark();
        let mut state = automaton.enter(all).unwrap();
        for &b in &text {
            let by_row = automaton.row(state).unwrap()[usize::from(b)];
            if by_row == 0 {
                break;
            }
            state = by_row;
        }
        let places = |arena: &Arena, e| Words::new(&index.flat, arena, e, Purpose::Scan);
        let fast = automaton.with_residual(state, places).unwrap();
        prop_assume!(fast.is_some());
        let fast = Scan::new(&index, &automaton, state).unwrap();
        let slow = Scan::walked(&index, &automaton, state).unwrap();
        prop_assert_eq!(tokens(&fast, index.words()), tokens(&slow, index.words()));
        prop_assert_eq!(sets(&fast.rests), sets(&slow.rests));
        // Offered one by one, every key has the tokens that lead to it.
        let keys = Keys::new(&index, &automaton, state).unwrap();
        prop_assert_eq!(sets(&keys.rests), sets(&slow.rests));
        for m in 0..shapes.len() as u32 {
            let mut found: Vec<TokenId> = keys
                .inner
                .iter()
                .filter(|(reach, _)| super::super::thread::holds(reach, m))
                .flat_map(|i| i.1.to_vec())
                .collect();
            found.sort_unstable();
            found.dedup();
            let want: Vec<TokenId> = tokens(&slow, index.words())
                .into_iter()
                .filter(|&t| {
                    let to = automaton.walk(state, index.vocab.token(t)).unwrap();
                    super::super::thread::holds(&automaton.reach(to).unwrap(), m)
                })
                .collect();
            prop_assert_eq!(found, want, "key {}", m);
        }
    }

    /// One byte at a time without rows leads to the state that the row names.
    #[test]
    fn steps_and_rows_agree(
        shapes in prop::collection::vec((0u8..3, "[ab\"16 ]{1,4}", 1u32..6), 1..4),
        text in prop::collection::vec(prop::sample::select(b"\"ab16\\u0:  ".to_vec()), 0..9),
    ) {
        let mut arena = Arena::new(1 << 24);
        let members: Vec<ExprId> =
            shapes.iter().enumerate().map(|(i, s)| lexeme(&mut arena, s, i as u32)).collect();
        let all = arena.union(&members);
        let automaton = Automaton::of(arena, CompileLimits::default(), None).unwrap();
        automaton.mark();
        let mut state = automaton.enter(all).unwrap();
        for &b in &text {
            let to = automaton.step(state, b).unwrap();
            prop_assert_eq!(automaton.step(state, b).unwrap(), to);
            prop_assert_eq!(automaton.row(state).unwrap()[usize::from(b)], to);
            state = to;
        }
    }
}
