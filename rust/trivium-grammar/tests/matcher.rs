//! The laws of the per-sequence object: commit, rollback, sync, fork, reset, trees, batches, ends.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{byte_vocab, pattern, regex, vocab};
use proptest::prelude::*;
use std::sync::Arc;
use trivium_core::{Constraint, Error as Core, Vocabulary, mask};
use trivium_grammar::{CompileLimits, Dialect, Error, GrammarMask, Matcher, fill_batch};

const TOKENS: &[&[u8]] = &[b"a", b"b", b"ab", b"a", b"\xc3", b"\xa9", b"a\xc3", b"\n"];
const EOS: u32 = 9;
const END: u32 = 10;

fn row(m: &Matcher) -> Vec<u32> {
    let mut row = vec![u32::MAX; m.words()];
    let any = m.fill(&mut row).unwrap();
    assert_eq!(any, row.iter().any(|&w| w != 0));
    row
}

/// Everything that can be seen of a matcher.
fn view(m: &Matcher) -> (Vec<u32>, Vec<u32>, bool, bool, Option<usize>) {
    (m.tokens(), row(m), m.is_accepting().unwrap(), m.is_finished(), m.dead_at())
}

fn grammar(p: &str, vocab: &Arc<Vocabulary>) -> Option<GrammarMask> {
    match GrammarMask::regex(p, vocab, Dialect::Rust, true, CompileLimits::default()) {
        Ok(g) => Some(g),
        Err(Error::Unsatisfiable { .. }) => None,
        Err(e) => panic!("{p}: {e}"),
    }
}

fn tokens() -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(prop_oneof![8 => 0u32..8, 1 => 8u32..13], 0..7)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_laws_hold(p in pattern(), a in tokens(), b in tokens(), cut in 0usize..7) {
        let vocab = vocab(TOKENS);
        let Some(g) = grammar(&p, &vocab) else { return Ok(()) };
        let mut m = g.matcher();
        let n = m.commit_all(&a).unwrap();
        prop_assert_eq!(m.len(), n);
        prop_assert_eq!(g.matcher().validate(&a).unwrap(), n);
        let before = view(&m);

        // commit(x); rollback(len(x)) is the identity; the number accepted is where it stops.
        let more = m.commit_all(&b).unwrap();
        if let Some(&refused) = b.get(more) {
            prop_assert!(!m.allows(refused).unwrap() && !m.commit(refused).unwrap());
            prop_assert!(!mask::get(&row(&m), refused));
        }
        for &t in &b[..more] {
            prop_assert!(!vocab.is_special(t) || vocab.is_eos(t));
        }
        m.rollback(more).unwrap();
        prop_assert_eq!(&view(&m), &before);
        let too_far = matches!(m.rollback(n + 1), Err(Error::Core(Core::StateMismatch { .. })));
        prop_assert!(too_far);
        prop_assert_eq!(&view(&m), &before);

        // A fork shares nothing mutable.
        let mut f = m.fork();
        f.sync(&b).unwrap();
        prop_assert_eq!(&view(&m), &before);

        // sync(x) from any state equals reset and commit, up to the first refused token.
        let mut s = m.fork();
        let k = s.sync(&b).unwrap();
        prop_assert_eq!(s.tokens(), b.clone());
        let mut fresh = g.matcher();
        prop_assert_eq!(fresh.commit_all(&b).unwrap(), k);
        if k == b.len() {
            prop_assert_eq!(view(&s), view(&fresh));
        } else {
            prop_assert_eq!(s.dead_at(), Some(k));
            prop_assert!(row(&s).iter().all(|&w| w == 0));
            prop_assert!(!s.commit(0).unwrap());
            // Rolling back over the refused token, or syncing to a good prefix, revives.
            let mut t = s.fork();
            t.rollback(b.len() - k).unwrap();
            prop_assert_eq!(view(&t), view(&fresh));
            s.sync(&b[..k]).unwrap();
            prop_assert_eq!(view(&s), view(&fresh));
        }
        let cut = cut.min(b.len());
        s.sync(&b[..cut]).unwrap();
        prop_assert_eq!(s.len(), cut);
        s.sync(&a).unwrap();
        let mut want = g.matcher();
        want.sync(&a).unwrap();
        prop_assert_eq!(view(&s), view(&want));
        s.reset();
        prop_assert_eq!(view(&s), view(&g.matcher()));
    }

    #[test]
    fn a_tree_equals_its_paths(
        p in pattern(),
        prefix in tokens(),
        nodes in prop::collection::vec((any::<prop::sample::Index>(), 0u32..13), 0..12),
    ) {
        let vocab = vocab(TOKENS);
        let Some(g) = grammar(&p, &vocab) else { return Ok(()) };
        let mut m = g.matcher();
        m.sync(&prefix).unwrap();
        let mut parents = vec![-1];
        let mut toks = vec![12];
        for (parent, token) in nodes {
            parents.push(parent.index(parents.len()) as i32);
            toks.push(token);
        }
        let before = view(&m);
        let stride = m.words() + 1;
        let mut out = vec![u32::MAX; stride * parents.len()];
        let alive = m.fill_tree(&parents, &toks, &mut out, stride).unwrap();
        prop_assert_eq!(view(&m), before);
        for i in 0..parents.len() {
            let mut path = Vec::new();
            let mut at = i;
            while at != 0 {
                path.push(toks[at]);
                at = parents[at] as usize;
            }
            path.reverse();
            let mut f = m.fork();
            let ok = f.commit_all(&path).unwrap() == path.len();
            prop_assert_eq!(alive[i], ok);
            let want = if ok { row(&f) } else { vec![0; m.words()] };
            prop_assert_eq!(&out[i * stride..][..m.words()], &want[..]);
            prop_assert_eq!(out[i * stride + m.words()], 0);
        }
    }

    #[test]
    fn a_batch_equals_the_loop(
        sequences in prop::collection::vec((0usize..3, tokens()), 0..20),
        threads in prop_oneof![Just(None), (1usize..4).prop_map(Some)],
    ) {
        let vocab = vocab(TOKENS);
        let grammars = ["(a|b|é)*", "a*b", r"(?m)^a$\n?"].map(|p| regex(p, &vocab, true));
        let matchers: Vec<Matcher> = sequences
            .iter()
            .map(|(g, tokens)| {
                let mut m = grammars[*g].matcher();
                m.sync(tokens).unwrap();
                m
            })
            .collect();
        let refs: Vec<&Matcher> = matchers.iter().collect();
        let n = refs.len();
        let rows: Vec<usize> = (0..n).map(|i| (n - 1 - i) * 2).collect();
        let mut out = vec![7; n * 2];
        fill_batch(&refs, &mut out, 1, Some(&rows), threads).unwrap();
        for (i, m) in matchers.iter().enumerate() {
            prop_assert_eq!(out[rows[i]], row(m)[0]);
            prop_assert_eq!(out[rows[i] + 1], 7); // rows that are not named stay
        }
    }
}

#[test]
fn ends_of_sequence_close_the_text_until_it_is_reopened() {
    let vocab = vocab(TOKENS);
    let g = regex("ab?", &vocab, true);
    let mut m = g.matcher();
    assert!(!m.commit(EOS).unwrap());
    assert!(m.commit(0).unwrap());
    assert!(m.is_accepting().unwrap());
    assert!(mask::get(&row(&m), EOS) && mask::get(&row(&m), END) && mask::get(&row(&m), 1));
    let open = view(&m);
    assert!(m.commit(END).unwrap());
    assert!(m.is_finished() && m.is_accepting().unwrap());
    assert_eq!(row(&m), [0]);
    for t in 0..13 {
        assert!(!m.commit(t).unwrap());
    }
    m.rollback(1).unwrap();
    assert_eq!(view(&m), open);
    assert_eq!(m.commit_all(&[1, EOS]).unwrap(), 2);
    m.reset();
    assert!(!m.is_finished() && m.is_empty());
}

#[test]
fn special_and_padding_ids_are_never_allowed() {
    let vocab = vocab(TOKENS);
    let g = regex("(?s).*", &vocab, true);
    let mut m = g.matcher();
    let allowed: Vec<u32> = mask::iter(&row(&m)).collect();
    assert_eq!(allowed, [0, 1, 2, 3, 4, 6, 7, EOS, END]);
    for t in [8, 11, 12] {
        assert!(!m.commit(t).unwrap());
    }
    assert!(matches!(
        m.commit(13),
        Err(Error::Core(Core::OutOfVocabulary { token: 13, vocab: 13 }))
    ));
    assert!(m.commit_all(&[0, 1, 13]).is_err());
    assert!(m.is_empty());
    assert!(m.sync(&[0, 13]).is_err());
    assert!(m.is_empty());
}

#[test]
fn apply_masks_in_place_and_returns_the_kept_mass() {
    let vocab = vocab(TOKENS);
    let m = regex("ab*", &vocab, true).matcher();
    let mut logits = vec![0f32; 14];
    let kept = m.apply(&mut logits).unwrap();
    let allowed: Vec<usize> = (0..14).filter(|&i| logits[i] == 0.0).collect();
    assert_eq!(allowed, [0, 2, 3]);
    assert!((kept - (3.0f64 / 14.0).ln()).abs() < 1e-6, "{kept}");
    let mut low = vec![100f64; 13];
    low[0] = -700.0;
    low[2] = f64::NEG_INFINITY;
    low[3] = f64::NEG_INFINITY;
    let kept = m.apply(&mut low).unwrap();
    assert!((kept - (-800.0 - 10f64.ln())).abs() < 1e-3, "{kept}");
    let mut half = vec![half::f16::ZERO; 13];
    assert!(m.apply(&mut half).unwrap() < 0.0);
    let mut nan = vec![f32::NAN; 13];
    assert!(m.apply(&mut nan).is_err());
    assert!(m.apply(&mut [0f32; 12]).is_err());
    let mut dead = m.fork();
    dead.sync(&[1]).unwrap();
    let mut logits = vec![1f32; 13];
    assert_eq!(dead.apply(&mut logits).unwrap(), f64::NEG_INFINITY);
    assert!(logits.iter().all(|&x| x == f32::NEG_INFINITY));
}

#[test]
fn forced_bytes_are_the_common_prefix_of_all_completions() {
    let vocab = byte_vocab();
    for (p, want) in [
        ("hello world", "hello world"),
        ("(abc|abd)e", "ab"),
        ("é|è", "\u{c3}"),
        ("x?", ""),
        ("a(b|)", "a"),
        ("(ab){3}c*", "ababab"),
    ] {
        let m = regex(p, &vocab, true).matcher();
        let want: Vec<u8> = if p == "é|è" { vec![0xc3] } else { want.bytes().collect() };
        assert_eq!(m.forced_bytes().unwrap(), want, "{p}");
        let tokens = m.forced_tokens().unwrap();
        assert!(want.starts_with(&vocab.decode(&tokens).unwrap()), "{p}: {tokens:?}");
        let mut n = m.fork();
        assert_eq!(n.commit_all(&tokens).unwrap(), tokens.len());
    }
    // "ab" is a token: greedy takes it, but a final "a" is left where "ab" could follow.
    let m = regex("ababa[bc]", &vocab, true).matcher();
    assert_eq!(m.forced_tokens().unwrap(), [256, 256]);
    let m = regex("ababac", &vocab, true).matcher();
    assert_eq!(m.forced_tokens().unwrap(), [256, 256, u32::from(b'a'), u32::from(b'c')]);
    let long = regex("a{100000}", &vocab, true).matcher();
    assert_eq!(long.forced_bytes().unwrap().len(), 4096);
    let mut dead = m.fork();
    dead.sync(&[0]).unwrap();
    assert!(matches!(dead.forced_bytes(), Err(Error::Core(Core::StateMismatch { .. }))));
}

#[test]
fn shapes_are_checked() {
    let vocab = vocab(TOKENS);
    let m = regex("a*", &vocab, true).matcher();
    let input = |r: Result<_, Error>| matches!(r, Err(Error::Core(Core::InvalidInput { .. })));
    assert!(input(m.fill::<u32>(&mut []).map(drop)));
    let mut out = [0; 4];
    assert!(input(m.fill_tree(&[0], &[0], &mut out[..1], 1).map(drop)));
    assert!(input(m.fill_tree(&[-1, 1], &[0, 0], &mut out[..2], 1).map(drop)));
    assert!(input(m.fill_tree(&[-1, -1], &[0, 0], &mut out[..2], 1).map(drop)));
    assert!(input(m.fill_tree(&[-1, 0], &[0], &mut out[..2], 1).map(drop)));
    assert!(input(m.fill_tree(&[-1, 0], &[0, 0], &mut out[..1], 1).map(drop)));
    assert!(m.fill_tree(&[-1, 0], &[0, 13], &mut out[..2], 1).is_err());
    assert_eq!(m.fill_tree(&[], &[], &mut [], 1).unwrap(), Vec::<bool>::new());
    assert!(input(fill_batch(&[&m, &m], &mut out, 1, Some(&[1, 1]), None)));
    assert!(input(fill_batch(&[&m], &mut out, 1, Some(&[4]), None)));
    assert!(input(fill_batch(&[&m], &mut out, 1, Some(&[]), None)));
    assert!(input(fill_batch(&[&m], &mut out, 0, None, None)));
}

#[test]
fn a_verifier_sees_a_constraint() {
    let vocab = vocab(TOKENS);
    let mut c: Box<dyn Constraint> = regex("ab", &vocab, true).matcher().into();
    assert_eq!(c.num_rows(), 13);
    assert!(c.commit(0).unwrap() && !c.commit(0).unwrap() && !c.commit(99).unwrap());
    let mut f = c.fork();
    assert!(f.commit(1).unwrap() && f.commit(EOS).unwrap());
    assert_eq!((c.len(), f.len()), (1, 3));
    assert!(c.rollback(2).is_err());
    c.rollback(1).unwrap();
    assert!(c.is_empty());
    let mut r = [u32::MAX];
    c.fill(&mut r).unwrap();
    assert_eq!(r, [0b1101]);
}

#[test]
fn masks_survive_eviction_and_threads() {
    let vocab = byte_vocab();
    let limits = CompileLimits { mask_bytes: 600, ..CompileLimits::default() };
    let p = "(?:a|b){0,40}c";
    let g = GrammarMask::regex(p, &vocab, Dialect::Rust, true, limits).unwrap();
    std::thread::scope(|scope| {
        for k in 0..4u32 {
            let mut m = g.matcher();
            scope.spawn(move || {
                for round in 0..3 {
                    for i in 0..40 {
                        assert!(m.commit(u32::from(b'a') + (i + k + round) % 2).unwrap());
                        assert_eq!(row(&m), m.mask_slow().unwrap());
                    }
                    m.reset();
                }
            });
        }
    });
    let (count, bytes) = g.report().unwrap().masks;
    assert!(count > 0 && bytes <= 600, "{count} masks, {bytes} bytes");
}
