//! The stores against plain scans of the texts, under random interleavings of requests, rollbacks,
//! forks, evictions, saves and loads.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Debug, Clone)]
enum Op {
    Open { tenant: u8, group: u8, prompt: Vec<TokenId> },
    Commit { view: usize, tokens: Vec<TokenId> },
    Rollback { view: usize, n: usize },
    Fork { view: usize },
    Finish { view: usize },
    SaveAndLoad,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let tokens = |most| prop::collection::vec(0u32..4, 1..most);
    let op = prop_oneof![
        2 => (0u8..2, 0u8..3, tokens(12))
            .prop_map(|(tenant, group, prompt)| Op::Open { tenant, group, prompt }),
        6 => (0usize..4, tokens(20)).prop_map(|(view, tokens)| Op::Commit { view, tokens }),
        2 => (0usize..4, 1usize..12).prop_map(|(view, n)| Op::Rollback { view, n }),
        1 => (0usize..4).prop_map(|view| Op::Fork { view }),
        2 => (0usize..4).prop_map(|view| Op::Finish { view }),
        1 => Just(Op::SaveAndLoad),
    ];
    prop::collection::vec(op, 1..40)
}

/// A request as the definition sees it.
#[derive(Clone)]
struct Plain {
    view: View,
    text: Vec<TokenId>,
    prompt_len: usize,
    scope: Scope,
}

/// How often each token follows `needle` in the texts.
fn next_counts<'a>(
    texts: impl IntoIterator<Item = &'a [TokenId]>,
    needle: &[TokenId],
) -> BTreeMap<TokenId, u32> {
    let mut out = BTreeMap::new();
    for text in texts {
        for w in text.windows(needle.len() + 1) {
            if w[..needle.len()] == *needle {
                *out.entry(w[needle.len()]).or_insert(0) += 1;
            }
        }
    }
    out
}

fn occurs(texts: &[Vec<TokenId>], needle: &[TokenId]) -> bool {
    needle.is_empty() || texts.iter().any(|t| t.windows(needle.len()).any(|w| w == needle))
}

/// The continuations of a cursor are those of the string it stands for.
fn check_cursor(a: &Automaton, cursor: Cursor, text: &[TokenId], texts: &[Vec<TokenId>]) {
    let c = a.settle(cursor);
    let needle = &text[text.len() - c.len as usize..];
    assert!(occurs(texts, needle), "{needle:?} is not in {texts:?}");
    let mut buffer = Default::default();
    let got = a.continuations(c.state, &mut buffer).list;
    let got: BTreeMap<TokenId, u32> = got.iter().map(|c| (c.token, c.count)).collect();
    let want = next_counts(texts.iter().map(Vec::as_slice), needle);
    assert_eq!(got, want, "after {needle:?} in {texts:?}");
}

/// Every cursor of a request at its root, and one step below it.
fn check(p: &mut Plain) {
    let own = p.text.clone();
    let longest = (0..own.len())
        .rev()
        .find(|&l| l == 0 || own[..own.len() - 1].windows(l).any(|w| *w == own[own.len() - l..]));
    p.view.root(0);
    assert_eq!(p.view.cursor.len as usize, longest.unwrap_or(0), "{own:?}");
    check_cursor(&p.view.local, p.view.cursor, &own, std::slice::from_ref(&own));
    p.view.node(0, 1);
    p.view.candidates(1, 1, &mut Candidates::default());
    let width = 1 + p.view.follows.len();
    let below = [own.as_slice(), &[1]].concat();
    for (i, f) in p.view.follows.iter().enumerate() {
        let ring = read(&p.view.stores[f.store].ring);
        let g = ring.generations().iter().find(|g| g.id == f.generation).expect("it is followed");
        check_cursor(&g.automaton, p.view.cursors[1 + i], &own, &g.texts());
        check_cursor(&g.automaton, p.view.cursors[width + 1 + i], &below, &g.texts());
    }
}

/// A new request finds the longest match of its last tokens in every generation.
fn check_new(p: &mut Plain) {
    p.view.root(0);
    let tail = &p.text[p.text.len().saturating_sub(CONTEXT)..];
    for f in &p.view.follows {
        let ring = read(&p.view.stores[f.store].ring);
        let g = ring.generations().iter().find(|g| g.id == f.generation).expect("it is followed");
        let fits = |l: &usize| occurs(&g.texts(), &tail[tail.len() - l..]);
        let want = (0..=tail.len()).rev().find(fits);
        assert_eq!(Some(g.automaton.settle(f.cursor).len as usize), want);
    }
}

fn key(scope: &Scope, of_group: bool) -> Scope {
    Scope { tenant: scope.tenant.clone(), group: scope.group.clone().filter(|_| of_group) }
}

fn run(ops: Vec<Op>, max_bytes: usize) {
    let mut store = Suffix::new(max_bytes);
    let mut live: Vec<Plain> = Vec::new();
    // All that each ring was ever given, in order.
    let mut given: BTreeMap<Scope, Vec<TokenId>> = BTreeMap::new();
    for op in ops {
        match op {
            Op::Open { tenant, group, prompt } => {
                let scope = Scope {
                    tenant: (tenant > 0).then(|| "t".into()),
                    group: (group > 0).then(|| group.to_string()),
                };
                let view = store.view(&scope, &prompt);
                let mut plain = Plain { view, prompt_len: prompt.len(), text: prompt, scope };
                check_new(&mut plain);
                live.push(plain);
            }
            Op::Commit { view, tokens } => {
                if let Some(p) = live.get_mut(view) {
                    p.text.extend(&tokens);
                    p.view.commit(&tokens);
                }
            }
            Op::Rollback { view, n } => {
                if let Some(p) = live.get_mut(view) {
                    let n = n.min(p.text.len() - p.prompt_len);
                    p.text.truncate(p.text.len() - n);
                    p.view.rollback(&p.text, n);
                    check_new(p);
                }
            }
            Op::Fork { view } => {
                if let Some(p) = live.get(view) {
                    live.push(p.clone());
                }
            }
            Op::Finish { view } => {
                if view < live.len() {
                    let mut p = live.remove(view);
                    p.view.finish(&p.text, p.prompt_len);
                    let kept = &p.text[p.prompt_len.saturating_sub(CONTEXT)..];
                    given.entry(key(&p.scope, false)).or_default().extend(kept);
                    if p.scope.group.is_some() {
                        given.entry(key(&p.scope, true)).or_default().extend(kept);
                    }
                }
            }
            Op::SaveAndLoad => {
                // Only the anonymous tenant's texts live in files; open requests end with their store.
                let saved = store.save();
                store = Suffix::new(max_bytes);
                store.load(&saved).expect("what was saved loads");
                live.clear();
                given.retain(|scope, _| *scope == Scope::default());
            }
        }
        live.iter_mut().for_each(check);
        for (scope, all) in &given {
            let ring = match &scope.group {
                None => store.tenant(scope.tenant.as_ref()),
                Some(_) => store.group(scope).expect("it has a group"),
            };
            let ring = read(&ring);
            assert!(ring.memory() <= max_bytes);
            let (_, tokens) = ring.texts();
            assert!(all.ends_with(&tokens), "the oldest texts go first, and whole parts of them");
            assert!(max_bytes < 1 << 20 || tokens == *all, "nothing is lost while there is room");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(160))]

    #[test]
    fn interleavings_match_plain_scans(ops in ops()) {
        run(ops, 1 << 24);
    }

    #[test]
    fn evictions_match_plain_scans(ops in ops(), max_bytes in 4_000usize..60_000) {
        run(ops, max_bytes);
    }
}
