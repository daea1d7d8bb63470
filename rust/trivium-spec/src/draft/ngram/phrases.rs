//! Phrase pools: a token, and the phrases that were seen after it.
//!
//! A pool maps a token to at most G phrases of N - 1 tokens, the least recently seen leaving first.
//! Three feeders: the window of lookahead decoding (`LookaheadWindow`), the
//! request's own text, and the target's answers on rejected drafts, wherever consecutive ones
//! agree (rows that verification produced anyway).
//!
//! | name | proposes | pool |
//! |---|---|---|
//! | `lookahead` | below the last committed token | the request's |
//! | `ouroboros` | below every node, so phrases lengthen other sources' drafts | and the tenant's |
//!
//! "Break the Sequential Dependency of LLM Inference Using Lookahead Decoding" and "Ouroboros:
//! Speculative Decoding with Large Model Enhanced Drafting". Two faults of the released code have
//! no counterpart: the last token of a guess is verified like the others, and the history is the
//! committed text.

use super::index::NgramIndex;
use crate::draft::options::Options;
use crate::draft::plan::{MAGNITUDES, Shape, magnitude};
use crate::draft::scoped::{Scoped, Shared};
use crate::draft::{Candidate, Candidates, RequestSource, Saved, Scope, SharedSource, TopIds};
use rustc_hash::FxHashMap;
use trivium_core::TokenId;
use trivium_core::error::{Error, Result};

/// Occurrences of a token in the text that are looked at.
const SCANNED: usize = 256;

/// A token's phrases, least recently seen first.
#[derive(Debug, Clone)]
pub struct PhrasePool {
    len: usize,
    per_key: usize,
    phrases: FxHashMap<TokenId, Vec<Phrase>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Phrase {
    tokens: Box<[TokenId]>,
    /// Length of the request's text when it was learned.
    born: usize,
}

impl PhrasePool {
    /// Phrases of `len` tokens, at most `per_key` a key.
    pub fn new(len: usize, per_key: usize) -> Self {
        Self { len, per_key, phrases: FxHashMap::default() }
    }

    /// A phrase was seen after `key`; one of another length is ignored.
    pub fn insert(&mut self, key: TokenId, tokens: &[TokenId], born: usize) {
        if tokens.len() != self.len {
            return;
        }
        let list = self.phrases.entry(key).or_default();
        if let Some(at) = list.iter().position(|p| *p.tokens == *tokens) {
            let phrase = list.remove(at);
            list.push(phrase);
            return;
        }
        if list.len() == self.per_key {
            list.remove(0);
        }
        list.push(Phrase { tokens: tokens.into(), born });
    }

    /// The target corrected a phrase: it is rewritten where it stands, or dropped if the corrected
    /// one is known.
    pub fn correct(&mut self, key: TokenId, old: &[TokenId], new: &[TokenId]) {
        let Some(list) = self.phrases.get_mut(&key) else { return };
        let Some(at) = list.iter().position(|p| *p.tokens == *old) else { return };
        if old == new || new.len() != self.len {
            return;
        }
        if list.iter().any(|p| *p.tokens == *new) {
            list.remove(at);
        } else {
            list[at].tokens = new.into();
        }
    }

    /// Phrases after `key`, most recently seen first.
    pub fn get(&self, key: TokenId) -> impl Iterator<Item = &[TokenId]> {
        self.phrases.get(&key).into_iter().flatten().rev().map(|p| &*p.tokens)
    }

    /// Forgets what was learned at a text longer than `left`.
    fn forget(&mut self, left: usize) {
        self.phrases.retain(|_, list| {
            list.retain(|p| p.born <= left);
            !list.is_empty()
        });
    }

    /// Bytes held.
    pub fn memory(&self) -> usize {
        self.phrases.capacity() * 33 + self.phrases.len() * self.key_bytes()
    }

    /// Bytes of a full key.
    fn key_bytes(&self) -> usize {
        self.per_key * (size_of::<Phrase>() + 4 * self.len)
    }

    /// Bytes with one key more.
    fn grown(&self) -> usize {
        let table = if self.phrases.len() < self.phrases.capacity() {
            self.phrases.capacity()
        } else {
            2 * self.phrases.capacity() + 4
        };
        table * 33 + (self.phrases.len() + 1) * self.key_bytes()
    }
}

/// Two pools, the newer one growing: when it holds half of the bytes, it replaces the older.
#[derive(Debug, Clone)]
struct Generations {
    new: PhrasePool,
    old: PhrasePool,
    max_bytes: usize,
}

impl Generations {
    fn new(rule: Rule) -> Self {
        let empty = PhrasePool::new(rule.len, rule.guesses);
        Self { new: empty.clone(), old: empty, max_bytes: rule.max_bytes }
    }

    /// A phrase was seen after `key`; ignored where the bytes hold not even one.
    fn insert(&mut self, key: TokenId, tokens: &[TokenId]) {
        if !self.new.phrases.contains_key(&key) && self.new.grown() > self.max_bytes / 2 {
            let fresh = PhrasePool::new(self.new.len, self.new.per_key);
            if fresh.grown() > self.max_bytes / 2 {
                return;
            }
            self.old = std::mem::replace(&mut self.new, fresh);
        }
        self.new.insert(key, tokens, 0);
    }

    /// Phrases after `key`, most recently seen first.
    fn get(&self, key: TokenId) -> impl Iterator<Item = &[TokenId]> {
        self.new.get(key).chain(self.old.get(key))
    }

    /// Takes a pool's phrases.
    fn absorb(&mut self, pool: &PhrasePool) {
        let mut keys: Vec<_> = pool.phrases.iter().collect();
        keys.sort_unstable_by_key(|k| *k.0);
        for (&key, list) in keys {
            list.iter().for_each(|p| self.insert(key, &p.tokens));
        }
    }

    fn memory(&self) -> usize {
        self.new.memory() + self.old.memory()
    }
}

#[derive(Debug, Clone, Copy)]
struct Rule {
    /// Length of a phrase.
    len: usize,
    guesses: usize,
    from_text: bool,
    rejected: bool,
    everywhere: bool,
    max_bytes: usize,
}

#[derive(Debug, Default)]
struct Tenant(Option<Generations>);

/// The sources `lookahead` and `ouroboros`.
#[derive(Debug)]
pub(crate) struct Phrases {
    rule: Rule,
    tenants: Scoped<Option<String>, Tenant>,
    vocab: usize,
}

impl Phrases {
    pub(crate) fn parse(mut o: Options, vocab: usize, max_bytes: usize) -> Result<Self> {
        let everywhere = o.name() == "ouroboros";
        let rule = Rule {
            len: o.number("ngram", if everywhere { 7 } else { 5 }, 2..=64)? - 1,
            guesses: o.number("guesses", if everywhere { 3 } else { 7 }, 1..=256)?,
            from_text: o.choice("text", &["yes", "no"])? == "yes",
            rejected: o.choice("rejected", &["yes", "no"])? == "yes",
            everywhere,
            max_bytes,
        };
        o.done()?;
        Ok(Self { rule, tenants: Scoped::default(), vocab })
    }
}

impl SharedSource for Phrases {
    fn name(&self) -> &'static str {
        if self.rule.everywhere { "ouroboros" } else { "lookahead" }
    }

    fn slots(&self) -> &'static [usize] {
        const { &[3 * (MAGNITUDES * MAGNITUDES) as usize] }
    }

    fn open(&self, scope: &Scope, text: &[TokenId]) -> Box<dyn RequestSource> {
        let mut view = View {
            rule: self.rule,
            text: Vec::new(),
            index: NgramIndex::new(1),
            pool: PhrasePool::new(self.rule.len, self.rule.guesses),
            tenant: self.tenants.get(&scope.tenant),
            shape: Shape::default(),
            nodes: Vec::new(),
        };
        view.commit(text);
        Box::new(view)
    }

    fn memory(&self) -> usize {
        self.tenants.sum(|t| t.0.as_ref().map_or(0, Generations::memory))
    }

    fn save(&self) -> Saved {
        let tenant = self.tenants.get(&None);
        let tenant = tenant.read();
        let mut flat = Vec::new();
        if let Some(pools) = &tenant.0 {
            for pool in [&pools.old, &pools.new] {
                let mut keys: Vec<_> = pool.phrases.iter().collect();
                keys.sort_unstable_by_key(|k| *k.0);
                for (&key, list) in keys {
                    for phrase in list {
                        flat.push(key);
                        flat.extend_from_slice(&phrase.tokens);
                    }
                }
            }
        }
        Saved::from([("phrases".into(), flat)])
    }

    fn load(&self, saved: &Saved) -> Result<()> {
        let sound = |flat: &&Vec<u32>| {
            flat.len().is_multiple_of(self.rule.len + 1)
                && flat.iter().all(|&t| (t as usize) < self.vocab)
        };
        let flat = saved.get("phrases").filter(sound).ok_or_else(|| {
            Error::input("store", format!("{}.phrases is missing or damaged", self.name()))
        })?;
        let mut pools = Generations::new(self.rule);
        for row in flat.chunks_exact(self.rule.len + 1) {
            pools.insert(row[0], &row[1..]);
        }
        self.tenants.get(&None).write().0 = Some(pools);
        Ok(())
    }
}

/// Where a node stands: in phrases of three origins (pool, text, tenant) that its path follows.
type Place = Vec<(u8, u16, std::sync::Arc<[TokenId]>)>;

#[derive(Debug, Clone)]
struct View {
    rule: Rule,
    text: Vec<TokenId>,
    index: NgramIndex,
    pool: PhrasePool,
    tenant: Shared<Tenant>,
    shape: Shape,
    nodes: Vec<Place>,
}

impl View {
    /// Phrases after a token: origin, tokens done, phrase.
    fn after(&self, key: TokenId) -> Place {
        let n = self.rule.guesses;
        let mut out: Place = self.pool.get(key).map(|p| (0, 0, p.into())).collect();
        if self.rule.from_text {
            let gram = [key];
            for end in self.index.ends(&self.text, &gram).take(SCANNED) {
                if out.len() >= n {
                    break;
                }
                let end = end as usize;
                let Some(p) = self.text.get(end..end + self.rule.len) else { continue };
                if !out.iter().any(|(_, _, known)| **known == *p) {
                    out.push((1, 0, p.into()));
                }
            }
        }
        if self.rule.everywhere
            && let Some(pools) = &self.tenant.read().0
        {
            for p in pools.get(key) {
                if out.len() >= n {
                    break;
                }
                if !out.iter().any(|(_, _, known)| **known == *p) {
                    out.push((2, 0, p.into()));
                }
            }
        }
        out
    }
}

impl RequestSource for View {
    fn commit(&mut self, tokens: &[TokenId]) {
        let from = self.text.len();
        self.text.extend_from_slice(tokens);
        self.index.extend(&self.text, from);
    }

    fn rollback(&mut self, left: &[TokenId], _n: usize) {
        self.index.retract(&self.text, left.len());
        self.text.truncate(left.len());
        self.pool.forget(left.len());
    }

    fn observe_rows(&mut self, rows: &[TopIds]) {
        let Some(nodes) = self.shape.nodes_of(rows).filter(|_| self.rule.rejected) else { return };
        let mut best: FxHashMap<usize, (TokenId, bool)> = FxHashMap::default();
        for (row, &node) in rows.iter().zip(&nodes) {
            if let Some(&id) = row.ids.first() {
                best.insert(node, (id, row.accepted));
            }
        }
        let born = self.text.len();
        for (row, &node) in rows.iter().zip(&nodes) {
            // A phrase that was verified becomes what the target would have said along it.
            let mut path = Vec::new();
            let mut at = node;
            while path.len() < self.rule.len
                && let Some(parent) = self.shape.parent(at)
            {
                path.push(at);
                at = parent;
            }
            path.reverse();
            if path.len() == self.rule.len {
                let answer = |n: usize| best.get(&n).map(|b| b.0);
                let old: Vec<TokenId> = path.iter().map(|&n| self.shape.token(n)).collect();
                let above = std::iter::once(at).chain(path.iter().copied()).take(path.len());
                let new: Option<Vec<TokenId>> = above.map(answer).collect();
                if let Some(new) = new {
                    self.pool.correct(self.shape.token(at), &old, &new);
                }
            }
            // A rejected tail: answers that follow from each other are a phrase of their own.
            if row.accepted || path.len() < self.rule.len.saturating_sub(1) {
                continue;
            }
            let tail = &path[path.len() + 1 - self.rule.len..];
            let answers: Option<Vec<TokenId>> =
                tail.iter().map(|n| best.get(n).map(|b| b.0)).collect();
            let (Some(answers), Some(&first)) = (answers, tail.first()) else { continue };
            let agree = tail.iter().skip(1).zip(&answers).all(|(&n, &a)| self.shape.token(n) == a);
            let rejected = best.get(&first).is_some_and(|b| !b.1);
            let before = self.shape.parent(first).and_then(|p| best.get(&p));
            // The phrase starts with the answer before the tail, if the tail follows from it.
            if let Some(&(start, _)) = before
                && agree
                && rejected
                && start == self.shape.token(first)
                && let Some(parent) = self.shape.parent(first)
            {
                let phrase = [&[start][..], &answers].concat();
                self.pool.insert(self.shape.token(parent), &phrase[..self.rule.len], born);
            }
        }
    }

    fn fork(&self) -> Box<dyn RequestSource> {
        Box::new(self.clone())
    }

    fn root(&mut self, last: TokenId) {
        self.shape.root(last);
        self.nodes.clear();
        self.nodes.push(self.after(last));
    }

    fn node(&mut self, parent: usize, token: TokenId) {
        self.shape.node(parent, token);
        let mut place: Place = self.nodes[parent]
            .iter()
            .filter(|(_, done, p)| p.get(usize::from(*done)) == Some(&token))
            .map(|(origin, done, p)| (*origin, done + 1, p.clone()))
            .collect();
        if self.rule.everywhere {
            place.extend(self.after(token));
        }
        self.nodes.push(place);
    }

    fn candidates(&mut self, node: usize, _depth: usize, out: &mut Candidates) {
        for (rank, (origin, done, phrase)) in self.nodes[node].iter().enumerate() {
            let Some(&token) = phrase.get(usize::from(*done)) else { continue };
            let feature = (u16::from(*origin) * MAGNITUDES + magnitude(rank)) * MAGNITUDES
                + magnitude(usize::from(*done));
            let prior = if *done > 0 { 0.6 } else { 0.3 / (1.0 + rank as f32) };
            out.push(Candidate { token, slot: 0, feature, prior });
        }
    }

    fn finish(&mut self, text: &[TokenId], _prompt_len: usize) {
        if !self.rule.everywhere {
            return;
        }
        let mut tenant = self.tenant.write();
        let rule = self.rule;
        let pools = tenant.0.get_or_insert_with(|| Generations::new(rule));
        pools.absorb(&self.pool);
        for window in text.windows(rule.len + 1) {
            pools.insert(window[0], &window[1..]);
        }
    }

    fn memory(&self) -> usize {
        self.index.memory() + self.text.capacity() * 4 + self.pool.memory() + self.shape.memory()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draft::plan::testing::{draft_of, drafts, follows_the_laws};

    fn source(text: &str) -> Phrases {
        Phrases::parse(Options::parse(text).unwrap(), 100, 1 << 20).unwrap()
    }

    #[test]
    fn the_least_recently_seen_phrase_leaves() {
        let mut p = PhrasePool::new(2, 3);
        for phrase in [[1, 1], [2, 2], [3, 3], [1, 1], [4, 4]] {
            p.insert(9, &phrase, 0);
        }
        p.insert(9, &[5], 0);
        assert_eq!(p.get(9).collect::<Vec<_>>(), [[4, 4], [1, 1], [3, 3]]);
        p.correct(9, &[1, 1], &[7, 8]);
        assert_eq!(p.get(9).collect::<Vec<_>>(), [[4, 4], [7, 8], [3, 3]]);
        p.correct(9, &[3, 3], &[7, 8]);
        assert_eq!(p.get(9).collect::<Vec<_>>(), [[4, 4], [7, 8]]);
        assert!(p.get(8).next().is_none());
    }

    #[test]
    fn the_text_feeds_guesses_newest_first() {
        let s = source("lookahead:ngram=3;guesses=2");
        let text = [1, 2, 3, 1, 4, 5, 1, 2, 3, 1, 6, 7, 1];
        let mut got = draft_of(&s, &text);
        got.sort();
        assert_eq!(got, [vec![2, 3], vec![6, 7]]);
        assert!(draft_of(&source("lookahead:text=no"), &text).is_empty());
    }

    /// Rejected tail 5 -> 6 -> 7 whose answers say 6, 7, 8 after 5: a phrase, though the target went
    /// elsewhere at the root.
    #[test]
    fn agreeing_answers_on_a_rejected_tail_become_a_phrase() {
        let s = source("lookahead:ngram=4;text=no");
        let mut v = s.open(&Scope::default(), &[1]);
        v.root(1);
        v.node(0, 5);
        v.node(1, 6);
        v.node(2, 7);
        let row = |token, accepted, id| TopIds { token, accepted, ids: vec![id] };
        v.commit(&[2]);
        v.observe_rows(&[row(1, true, 2), row(5, false, 6), row(6, false, 7), row(7, false, 8)]);
        v.commit(&[5]);
        assert_eq!(drafts(v.as_mut(), 5), [vec![6, 7, 8]]);
        v.rollback(&[1], 2);
        v.commit(&[5]);
        assert!(drafts(v.as_mut(), 5).is_empty(), "rolled back with the text it came from");
    }

    /// Phrases lengthen the drafts of other sources, and the tenant's are learned at finish.
    #[test]
    fn ouroboros_continues_any_node() {
        let s = source("ouroboros:ngram=3");
        s.open(&Scope::default(), &[1]).finish(&[1, 2, 3, 4], 1);
        let mut v = s.open(&Scope::default(), &[9]);
        v.root(9);
        v.node(0, 1);
        let mut out = Candidates::default();
        v.candidates(1, 1, &mut out);
        assert_eq!(out.tokens(), [2]);
        let t = source("ouroboros:ngram=3");
        t.load(&s.save()).unwrap();
        assert_eq!(draft_of(&t, &[1])[0][..2], [2, 3]);
        assert!(t.load(&Saved::from([("phrases".into(), vec![1, 2])])).is_err());
    }

    #[test]
    fn per_request_laws() {
        for text in ["lookahead:ngram=3", "ouroboros:ngram=3;guesses=2"] {
            follows_the_laws(&source(text), &[0, 1, 2, 0, 1, 2, 1]);
        }
    }
}
