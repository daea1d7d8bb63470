//! llama.cpp's lookup: three count tables and a significance gate.
//!
//! *Context* is this request's text, *dynamic* the tenant's finished texts, *static* a corpus
//! (bigram histories only). One token at a time, the longest history first, a token is drafted only
//! where its counts convince:
//!
//! ```text
//! best = argmax count(t) * (100 * static(t) if the corpus knows t, else 1)      lowest id on ties
//! draft it if total >= S[n] and 100 * count(best) >= P[n] * total
//!           n =      1   2   3   4
//! lax:      S =      2   2   1   1     context, and the corpus (at n = 2)
//!           P =     66  50  50  50
//! strict:   S =      4   3   2   2     dynamic
//!           P =     75  66  66  66
//! ```
//!
//! Integer arithmetic throughout, as in `common/ngram-cache.cpp`, whose ties follow a hash map's
//! order; ours have one.

use super::counts::{Counts, Followers, Generations};
use crate::draft::corpus::Corpus;
use crate::draft::options::Options;
use crate::draft::plan::{MAGNITUDES, Planned, Planner, Trie, magnitude};
use crate::draft::scoped::{Scoped, Shared};
use crate::draft::{RequestSource, Saved, Scope, SharedSource};
use std::sync::Arc;
use trivium_core::TokenId;
use trivium_core::error::{Error, Result};

/// Longest history of context and dynamic tables.
const LONGEST: usize = 4;
/// History of the static table.
const STATIC: usize = 2;

type Gate = [(u32, u64); LONGEST];

/// (sample size, percent) by length of history.
const LAX: Gate = [(2, 66), (2, 50), (1, 50), (1, 50)];
const STRICT: Gate = [(4, 75), (3, 66), (2, 66), (2, 66)];

/// Dynamic counts of one tenant.
#[derive(Debug)]
struct Dynamic(Generations);

impl Default for Dynamic {
    fn default() -> Self {
        Self(Generations::new(1, LONGEST))
    }
}

/// The source `ngram_cache`.
#[derive(Debug)]
pub(crate) struct LlamaCache {
    tenants: Scoped<Option<String>, Dynamic>,
    corpus: Arc<Counts>,
    num_tokens: usize,
    min_ngram: usize,
    max_bytes: usize,
    vocab: usize,
}

impl LlamaCache {
    pub(crate) fn parse(mut o: Options, vocab: usize, max_bytes: usize) -> Result<Self> {
        let mut corpus = Counts::new(STATIC, STATIC);
        if let Some(path) = o.text("corpus") {
            for document in Corpus::read(path.as_ref(), vocab)?.documents() {
                corpus.extend(document, 0);
            }
        }
        let this = Self {
            tenants: Scoped::default(),
            corpus: Arc::new(corpus),
            num_tokens: o.number("num_tokens", 16, 1..=1024)?,
            min_ngram: o.number("min_ngram", 1, 1..=LONGEST)?,
            max_bytes,
            vocab,
        };
        o.done()?;
        Ok(this)
    }
}

impl SharedSource for LlamaCache {
    fn name(&self) -> &'static str {
        "ngram_cache"
    }

    fn slots(&self) -> &'static [usize] {
        const { &[3 * LONGEST * MAGNITUDES as usize] }
    }

    fn open(&self, scope: &Scope, text: &[TokenId]) -> Box<dyn RequestSource> {
        let view = View {
            context: Counts::new(1, LONGEST),
            dynamic: self.tenants.get(&scope.tenant),
            corpus: self.corpus.clone(),
            num_tokens: self.num_tokens,
            min_ngram: self.min_ngram,
            max_bytes: self.max_bytes,
        };
        Planned::open(view, text)
    }

    fn memory(&self) -> usize {
        self.tenants.sum(|d| d.0.memory()) + self.corpus.memory()
    }

    fn save(&self) -> Saved {
        let triples = self.tenants.get(&None).read().0.triples();
        let mut flat = Vec::new();
        for (history, token, count) in triples {
            flat.push(history.len() as u32);
            flat.extend(history);
            flat.extend([token, count]);
        }
        Saved::from([("counts".into(), flat)])
    }

    fn load(&self, saved: &Saved) -> Result<()> {
        let damaged = || Error::input("store", "ngram_cache.counts is missing or damaged");
        let mut rest = saved.get("counts").map(Vec::as_slice).ok_or_else(damaged)?;
        let mut fresh = Generations::new(1, LONGEST);
        while let Some((&n, tail)) = rest.split_first() {
            let n = n as usize;
            let ok = (1..=LONGEST).contains(&n) && tail.len() >= n + 2;
            let sound = ok && tail[..=n].iter().all(|&t| (t as usize) < self.vocab);
            if !sound || tail[n + 1] == 0 {
                return Err(damaged());
            }
            fresh.insert(&tail[..n], tail[n], tail[n + 1], self.max_bytes);
            rest = &tail[n + 2..];
        }
        self.tenants.get(&None).write().0 = fresh;
        Ok(())
    }
}

#[derive(Debug, Clone)]
struct View {
    context: Counts,
    dynamic: Shared<Dynamic>,
    corpus: Arc<Counts>,
    num_tokens: usize,
    min_ngram: usize,
    max_bytes: usize,
}

/// The best successor if it passes the gate, and its share.
fn gate(row: &Followers, corpus: Option<&Followers>, at: (u32, u64)) -> Option<(TokenId, f32)> {
    let mut best = (0u64, 0u32, 0);
    for &(token, count) in &row.next {
        let weight = match corpus.map_or(0, |c| c.count(token)) {
            0 => 1,
            n => 100 * u64::from(n),
        };
        if u64::from(count) * weight > best.0 {
            best = (u64::from(count) * weight, count, token);
        }
    }
    let passes = row.total >= at.0 && 100 * u64::from(best.1) >= at.1 * u64::from(row.total);
    (best.1 > 0 && passes).then(|| (best.2, best.1 as f32 / row.total as f32))
}

impl View {
    /// Next token, its share, table (0 context, 1 dynamic, 2 static) and length of history.
    fn next(&self, text: &[TokenId]) -> Option<(TokenId, f32, usize, usize)> {
        let corpus = text.len().checked_sub(STATIC).and_then(|s| self.corpus.get(&text[s..]));
        let lengths = || (self.min_ngram..=LONGEST.min(text.len())).rev();
        for n in lengths() {
            let row = self.context.get(&text[text.len() - n..]);
            if let Some((t, share)) = row.and_then(|r| gate(r, corpus, LAX[n - 1])) {
                return Some((t, share, 0, n));
            }
        }
        let dynamic = self.dynamic.read();
        for n in lengths() {
            let row = dynamic.0.get(&text[text.len() - n..]);
            if let Some((t, share)) = row.and_then(|r| gate(&r, corpus, STRICT[n - 1])) {
                return Some((t, share, 1, n));
            }
        }
        let (t, share) = gate(corpus?, None, LAX[STATIC - 1])?;
        Some((t, share, 2, STATIC))
    }
}

impl Planner for View {
    fn extend(&mut self, text: &[TokenId], from: usize) {
        self.context.extend(text, from);
    }

    fn retract(&mut self, text: &[TokenId], left: usize) {
        self.context.retract(text, left);
    }

    fn plan(&mut self, text: &[TokenId], trie: &mut Trie) {
        if text.len() < STATIC {
            return;
        }
        let mut tail = text[text.len() - LONGEST.min(text.len())..].to_vec();
        let mut at = 0;
        for depth in 0..self.num_tokens {
            let Some((token, share, table, n)) = self.next(&tail) else { return };
            let feature = (table * LONGEST + n - 1) as u16 * MAGNITUDES + magnitude(depth);
            let Some(next) = trie.add(at, token, 0.8 * share, feature) else { return };
            at = next;
            tail.push(token);
        }
    }

    fn finish(&mut self, text: &[TokenId], _prompt_len: usize) {
        self.dynamic.write().0.ingest(text, self.max_bytes);
    }

    fn memory(&self) -> usize {
        self.context.memory()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draft::plan::testing::{draft_of, follows_the_laws};

    fn source() -> LlamaCache {
        LlamaCache::parse(Options::parse("ngram_cache").unwrap(), 100, 1 << 20).unwrap()
    }

    /// `llama_ngram_cache_draft` over plain scans, for a context alone.
    fn reference(text: &[u32], num_tokens: usize) -> Vec<u32> {
        let mut draft = Vec::new();
        while draft.len() < num_tokens && text.len() >= 2 {
            let all = [text, &draft].concat();
            let mut next = None;
            for n in (1..=4.min(all.len())).rev() {
                let history = &all[all.len() - n..];
                let mut counts = std::collections::BTreeMap::new();
                for i in n..text.len() {
                    if text[i - n..i] == *history {
                        *counts.entry(text[i]).or_insert(0u32) += 1;
                    }
                }
                let total: u32 = counts.values().sum();
                let best =
                    counts.iter().fold((0, 0), |b, (&t, &c)| if c > b.1 { (t, c) } else { b });
                let samples = [2, 2, 1, 1][n - 1];
                let percent = [66, 50, 50, 50][n - 1];
                if total > 0 && total >= samples && 100 * best.1 >= percent * total {
                    next = Some(best.0);
                    break;
                }
            }
            let Some(next) = next else { break };
            draft.push(next);
        }
        draft
    }

    #[test]
    fn equals_the_scanning_reference() {
        let s =
            LlamaCache::parse(Options::parse("ngram_cache:num_tokens=6").unwrap(), 100, 1 << 20);
        let s = s.unwrap();
        let (mut x, mut drafted) = (1u64, 0);
        for round in 0..2000 {
            let text: Vec<u32> = (0..2 + round % 19)
                .map(|_| {
                    x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (x >> 60) as u32 % (2 + round % 3)
                })
                .collect();
            let want = reference(&text, 6);
            let got = draft_of(&s, &text);
            assert_eq!(got.first().cloned().unwrap_or_default(), want, "{text:?}");
            drafted += want.len();
        }
        assert!(drafted > 2000);
    }

    /// The gate by its table: a unigram needs two samples and 66 %, a history of three one.
    #[test]
    fn counts_must_convince() {
        let s = source();
        assert!(draft_of(&s, &[1, 2, 1]).is_empty(), "one sample of 1, 2");
        assert_eq!(draft_of(&s, &[5, 6, 1, 5, 7, 2, 5, 6, 3, 5])[0][0], 6, "two of three");
        assert!(draft_of(&s, &[5, 6, 8, 5, 7, 9, 5, 6, 10, 5, 7, 11, 5]).is_empty(), "two of four");
        assert_eq!(draft_of(&s, &[1, 2, 3, 4, 5, 1, 2, 3])[0][..3], [4, 5, 1]);
    }

    #[test]
    fn the_dynamic_table_learns_at_finish_and_is_strict() {
        let s = source();
        let mut v = s.open(&Scope::default(), &[1, 2, 3, 4, 5]);
        assert!(draft_of(&s, &[9, 2, 3, 4]).is_empty());
        v.finish(&[1, 2, 3, 4, 5], 1);
        assert!(draft_of(&s, &[9, 2, 3, 4]).is_empty(), "one sample of a history of three");
        v.finish(&[1, 2, 3, 4, 5], 1);
        assert_eq!(draft_of(&s, &[9, 2, 3, 4]), [[5]]);
        let other = Scope { tenant: Some("b".into()), group: None };
        let mut view = s.open(&other, &[9, 2, 3, 4]);
        assert!(crate::draft::plan::testing::drafts(view.as_mut(), 4).is_empty());
        let t = source();
        t.load(&s.save()).unwrap();
        assert_eq!(draft_of(&t, &[9, 2, 3, 4]), [[5]]);
        assert!(t.load(&Saved::from([("counts".into(), vec![2, 1])])).is_err());
        assert_eq!(draft_of(&t, &[9, 2, 3, 4]), [[5]], "a refused file changes nothing");
    }

    #[test]
    fn the_corpus_weighs_and_fills_in() {
        let mut s = source();
        let mut corpus = Counts::new(STATIC, STATIC);
        for document in [&[1u32, 2, 7][..], &[1, 2, 7]] {
            corpus.extend(document, 0);
        }
        s.corpus = Arc::new(corpus);
        assert_eq!(draft_of(&s, &[1, 2]), [[7]], "two samples, all alike");
        // Context says 3 twice and 7 once after (1, 2) (2 of 3); the corpus weighs 7 by 200, and
        // 100 * 1 < 50 * 3: nothing at two; 2 -> alike at one; then the corpus alone.
        let text = [1, 2, 3, 1, 2, 7, 1, 2, 3, 8, 1, 2];
        assert_eq!(draft_of(&s, &text)[0][0], 7);
    }

    #[test]
    fn per_request_laws() {
        follows_the_laws(&source(), &[0, 1, 2, 0, 1, 2, 1, 1, 0, 1, 2, 0, 2, 1]);
    }
}
