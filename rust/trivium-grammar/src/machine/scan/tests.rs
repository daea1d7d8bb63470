//! Scans with places against scans by the automaton.

use super::differ::differ;
use super::{Keys, Rests, Scan, Scanned};
use crate::automata::dfa::Automaton;
use crate::automata::expr::{Arena, ExprId, INF};
use crate::automata::markers::mark;
use crate::automata::spell::Spelling;
use crate::automata::table::DEAD;
use crate::limits::CompileLimits;
use crate::mask::index::{LONG, TokenIndex};
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
    for n in [29, 30, 31, 32, 33, 34, 40, 47] {
        for (unit, end) in [("a", ""), ("6", "\""), (" ", "\":"), ("\\u0061", "a\": "), ("ab", "")]
        {
            let token = format!("{}{end}", unit.repeat(n)).into_bytes();
            if token.len() < 256 {
                tokens.push(token);
            }
        }
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

    /// Where a length bound or refused texts were left out, tokens not named behave as with them.
    #[test]
    fn what_is_left_out_changes_only_named_tokens(
        kind in 0u8..4,
        refused in prop::collection::vec("[ab6 ]{0,9}", 0..4),
        least in 0u32..2,
        // Near the longest token that counts as short, and far from it.
        most in prop_oneof![32u32..40, 44u32..70],
        text in "([ab6]{1,3} ){0,2}[ab6]{0,3}",
        any in any::<bool>(),
    ) {
        thread_local!(static INDEX: Arc<TokenIndex> = index());
        let index = INDEX.with(Arc::clone);
        let mut arena = Arena::new(1 << 24);
        let class = arena.class(vec![(0x20, 0x7e)]);
        let word = arena.class(vec![(0x36, 0x36), (0x61, 0x62)]);
        let body = match kind {
            0 => arena.repeat(class, least, most),
            // Not in quotes: complete after every character.
            3 => arena.repeat(word, 1, INF),
            kind => {
                // Words with a blank between them; or texts whose end is far from some residuals.
                let blank = arena.class(vec![(0x20, 0x20)]);
                let words = arena.repeat(word, 1, INF);
                let tail = arena.literal(if kind == 1 { "a" } else { "a66b" });
                let both = arena.concat(words, blank);
                let many = arena.repeat(both, 0, 9);
                let pattern = arena.sequence(&[many, words, tail]);
                let bound = arena.of_length(least, most);
                arena.inter(&[pattern, bound])
            }
        };
        let how = if any { Spelling::Any } else { Spelling::Minimal };
        let refused: Vec<ExprId> = refused.iter().map(|t| arena.literal(t)).collect();
        let mut refused = arena.union(&refused);
        if kind == 3 && least == 1 {
            // With all that begins so.
            let more = arena.repeat(word, 0, INF);
            refused = arena.concat(refused, more);
        }
        let body = arena.minus(body, refused);
        let spelled = arena.spell(body, how);
        let quote = arena.literal("\"");
        let colon = arena.literal(":");
        let end = mark(&mut arena, colon, 0);
        let all = match kind {
            3 => mark(&mut arena, body, 0),
            _ => arena.sequence(&[spelled, quote, end]),
        };
        let automaton = Automaton::of(arena, CompileLimits::default(), None).unwrap();
        automaton.mark();
        let start = automaton.enter(all).unwrap();
        let state = automaton.walk(start, text.as_bytes()).unwrap();
        let mut loose = state;
        if let Some(whole) = automaton.unrefused(state).unwrap()
            && differ(&index, &automaton, state, whole).unwrap().is_some()
        {
            loose = whole;
        }
        loose = automaton.loosen(loose, LONG as u32).unwrap().map_or(loose, |l| l.0);
        prop_assume!(state != DEAD && loose != state);
        let found = Scanned::new(&index, &automaton, state).unwrap();
        // Whether the token lives, and how many of its bytes complete the lexeme.
        let read = |state, bytes: &[u8]| {
            let (mut at, mut complete) = (state, Vec::new());
            for (i, &b) in bytes.iter().enumerate() {
                at = automaton.row(at).unwrap()[usize::from(b)];
                if !automaton.markers(at).unwrap().is_empty() {
                    complete.push(i);
                }
            }
            (at != DEAD, complete)
        };
        for token in 0..index.vocab.len() as TokenId {
            let bytes = index.vocab.token(token);
            let (with, without) = (read(state, bytes), read(loose, bytes));
            if found.late.binary_search(&token).is_err() {
                prop_assert_eq!(with, without, "{:?}", String::from_utf8_lossy(bytes));
            } else if !found.open.contains(&token) {
                prop_assert_eq!(with, (false, Vec::new()));
            }
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
