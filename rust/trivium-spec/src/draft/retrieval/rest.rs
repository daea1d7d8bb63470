//! REST: continuations of the longest suffix of the text that occurs in a corpus.
//!
//! For spans from the longest down, the last n tokens are looked up in a suffix array; the first span
//! with a match decides. Its continuations form a trie whose nodes count how often they follow, and
//! the `choices` most frequent prefixes of at most `depth` tokens are the draft.
//!
//! The published code counts up to 5000 rows of the match, an arbitrary slice where there are more.
//! Here the interval of a prefix *is* its count, so a best-first heap over intervals gives the exact
//! most frequent prefixes with a few binary searches each. Documents are kept apart, and a miss
//! drafts nothing.
//!
//! He et al., "REST: Retrieval-Based Speculative Decoding" (2023). Ties: the shorter prefix, then
//! the lower tokens.

use super::datastore::{Datastore, Interval};
use super::rasd::Retrieved;
use crate::draft::options::Options;
use crate::draft::plan::{MAGNITUDES, Planned, Planner, Trie, magnitude};
use crate::draft::{RequestSource, Saved, Scope, SharedSource};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use trivium_core::TokenId;
use trivium_core::error::{Error, Result};

#[derive(Debug, Clone, Copy)]
struct Rule {
    longest: usize,
    shortest: usize,
    choices: usize,
    depth: usize,
    vocab: usize,
}

/// The source `rest`.
#[derive(Debug)]
pub(crate) struct Rest {
    store: Arc<Datastore>,
    rule: Rule,
}

impl Rest {
    pub(crate) fn parse(mut o: Options, vocab: usize, max_bytes: usize) -> Result<Self> {
        let path = o.text("corpus").ok_or_else(|| {
            Error::input("sources", "rest needs corpus=, a file that build_corpus wrote")
        })?;
        let rule = Rule {
            longest: o.number("max_ngram", 16, 1..=64)?,
            shortest: o.number("min_ngram", 2, 1..=64)?,
            choices: o.number("choices", 64, 1..=1024)?,
            depth: o.number("num_tokens", 10, 1..=64)?,
            vocab,
        };
        let max_memory = match o.choice("store", &["auto", "disk", "memory"])? {
            "disk" => 0,
            "memory" => usize::MAX,
            _ => max_bytes,
        };
        o.done()?;
        Ok(Self { store: Arc::new(Datastore::open(path.as_ref(), vocab, max_memory)?), rule })
    }
}

impl SharedSource for Rest {
    fn name(&self) -> &'static str {
        "rest"
    }

    fn slots(&self) -> &'static [usize] {
        const { &[(MAGNITUDES * MAGNITUDES * SHARES) as usize] }
    }

    fn open(&self, _scope: &Scope, text: &[TokenId]) -> Box<dyn RequestSource> {
        Planned::open(View { store: self.store.clone(), rule: self.rule }, text)
    }

    fn memory(&self) -> usize {
        self.store.memory()
    }

    fn save(&self) -> Saved {
        Saved::new()
    }

    fn load(&self, _saved: &Saved) -> Result<()> {
        Ok(())
    }
}

/// Steps of a share.
const SHARES: u16 = 4;

#[derive(Debug, Clone)]
struct View {
    store: Arc<Datastore>,
    rule: Rule,
}

/// A prefix on the heap: most frequent, then shallow, then oldest.
type Entry = (usize, Reverse<usize>, Reverse<usize>);

/// The most frequent continuations of `text`, and the length of its match.
fn retrieve(store: &Datastore, rule: Rule, text: &[TokenId]) -> (Retrieved, usize) {
    let mut out = Retrieved::default();
    let spans = (rule.shortest..=rule.longest.min(text.len())).rev();
    let found = spans.into_iter().find_map(|n| Some((store.find(&text[text.len() - n..])?, n)));
    let Some((interval, n)) = found else { return (out, 0) };
    // Candidate prefixes: token, parent node in the result, interval.
    let mut pending: Vec<(TokenId, u32, Interval)> = Vec::new();
    let mut heap: BinaryHeap<Entry> = BinaryHeap::new();
    let push = |pending: &mut Vec<_>, heap: &mut BinaryHeap<Entry>, from, node, depth| {
        store.children(from, |t, child| {
            if (t as usize) < rule.vocab {
                heap.push((child.count(), Reverse(depth), Reverse(pending.len())));
                pending.push((t, node, child));
            }
        });
    };
    push(&mut pending, &mut heap, interval, 0, 1);
    while out.len() < rule.choices {
        let Some((count, Reverse(depth), Reverse(i))) = heap.pop() else { break };
        let (token, parent, child) = pending[i];
        let node = out.push(parent, token, count as u32);
        if depth < rule.depth {
            push(&mut pending, &mut heap, child, node, depth + 1);
        }
    }
    out.total = interval.count() as u32;
    (out, n)
}

impl Planner for View {
    fn extend(&mut self, _text: &[TokenId], _from: usize) {}

    fn retract(&mut self, _text: &[TokenId], _left: usize) {}

    fn plan(&mut self, text: &[TokenId], trie: &mut Trie) {
        let (found, n) = retrieve(&self.store, self.rule, text);
        let mut at = vec![0];
        for node in 1..=found.len() {
            let parent = found.parents[node] as usize;
            let above = if parent == 0 { found.total } else { found.counts[parent] };
            let share = found.counts[node] as f32 / above as f32;
            let step = match share {
                s if s < 0.2 => 0,
                s if s < 0.5 => 1,
                s if s < 0.9 => 2,
                _ => 3,
            };
            let size = (above.ilog2() as u16 / 2).min(MAGNITUDES - 1);
            let feature = (magnitude(n) * MAGNITUDES + size) * SHARES + step;
            let known = 1.0 - 0.5 / (above as f32 + 0.5);
            match trie.add(at[parent], found.tokens[node], share * known, feature) {
                Some(id) => at.push(id),
                None => return,
            }
        }
    }

    fn memory(&self) -> usize {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::super::datastore::{build, tests::temporary};
    use super::*;
    use crate::draft::plan::testing::{draft_of, follows_the_laws};
    use std::collections::BTreeMap;

    fn documents(seed: u64) -> Vec<Vec<u32>> {
        let mut x = seed;
        (0..5)
            .map(|i| {
                (0..30 + i)
                    .map(|_| {
                        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        (x >> 61) as u32 % 3
                    })
                    .collect()
            })
            .collect()
    }

    /// Count every prefix of every continuation, as the paper does, over all rows.
    fn naive(documents: &[Vec<u32>], text: &[u32], rule: Rule) -> BTreeMap<Vec<u32>, usize> {
        for n in (rule.shortest..=rule.longest.min(text.len())).rev() {
            let gram = &text[text.len() - n..];
            let mut counts = BTreeMap::new();
            let mut hit = false;
            for d in documents {
                for end in n..=d.len() {
                    if d[end - n..end] == *gram {
                        hit = true;
                        for to in end + 1..=d.len().min(end + rule.depth) {
                            *counts.entry(d[end..to].to_vec()).or_insert(0) += 1;
                        }
                    }
                }
            }
            if hit {
                return counts;
            }
        }
        BTreeMap::new()
    }

    #[test]
    fn the_heap_finds_the_most_frequent_prefixes() {
        let path = temporary("rest.safetensors");
        for seed in 0..6 {
            let docs = documents(seed);
            build(docs.iter().map(Vec::as_slice), 3, &path).unwrap();
            let store = Datastore::open(&path, 3, 0).unwrap();
            for choices in [1, 5, 24, 300] {
                let rule = Rule { longest: 6, shortest: 1, choices, depth: 4, vocab: 3 };
                for code in 0..81u32 {
                    let text: Vec<u32> = (0..4).map(|i| code / 3u32.pow(i) % 3).collect();
                    let (got, _) = retrieve(&store, rule, &text);
                    let counts = naive(&docs, &text, rule);
                    let mut want: Vec<usize> = counts.values().copied().collect();
                    want.sort_unstable_by(|a, b| b.cmp(a));
                    want.truncate(choices);
                    let mut have = Vec::new();
                    for node in 1..=got.len() {
                        assert_eq!(counts.get(&got.path(node)), Some(&(got.counts[node] as usize)));
                        assert!((got.parents[node] as usize) < node);
                        have.push(got.counts[node] as usize);
                    }
                    assert_eq!(have, want, "{text:?}");
                }
            }
        }
    }

    #[test]
    fn drafts_stay_within_documents() {
        let path = temporary("borders.safetensors");
        build([&[1u32, 2][..], &[3, 4], &[1, 2]], 5, &path).unwrap();
        let o = Options::parse(&format!("rest:min_ngram=1;corpus={}", path.display())).unwrap();
        let s = Rest::parse(o, 5, 1 << 20).unwrap();
        assert_eq!(draft_of(&s, &[0, 1]), [[2]]);
        assert!(draft_of(&s, &[1, 2]).is_empty(), "3 belongs to another document");
        follows_the_laws(&s, &[1, 2, 3, 4, 1, 2, 1]);
        assert!(Rest::parse(Options::parse("rest").unwrap(), 5, 0).is_err());
    }
}
