//! ADED: a tri-gram table, nudged towards the text, explored for the tree worth verifying.
//!
//! `weight(a, b -> c)` starts from a corpus (the 12 heaviest successors of a pair, as probabilities)
//! and grows with the text: each search adds 0.04 for every tri-gram among the last 16 tokens, up
//! to 3. One occurrence is thus counted in up to 14 searches. We make that a function of the text,
//! as if one search were made a token, so that drafts do not depend on how tokens were grouped into
//! steps and roll back exactly.
//!
//! - `search=heap` (default): with the table as a Markov model the best tree of n nodes is the n
//!   heaviest path products, found exactly in O(n log n);
//! - `search=mcts`: the paper's Monte-Carlo tree search: 150 iterations of PUCT
//!   `W/N_c + (32 + ln((N + 9)/8)) P_c √N / (1 + N_c)`, expansion, a rollout to depth 4 by weight,
//!   reward `1 + Σ weights`; the 24 most visited sentences, each with one greedy token more. Its
//!   randomness is addressed by the text.
//!
//! "Adaptive Draft-Verification for Efficient Large Language Model Decoding" (2024). Deviations: the
//! release verifies samples with REST's biased rule; here any verifier of point masses applies.

use super::counts::Counts;
use crate::draft::corpus::Corpus;
use crate::draft::options::Options;
use crate::draft::plan::{MAGNITUDES, Planned, Planner, Trie, magnitude};
use crate::draft::{RequestSource, Saved, Scope, SharedSource};
use rustc_hash::FxHashMap;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use trivium_core::TokenId;
use trivium_core::error::Result;
use trivium_core::rng::philox;

/// Successors of a pair that a corpus keeps.
const KEPT: usize = 12;
/// Tokens that a search looks back, and what it adds a tri-gram.
const WINDOW: usize = 16;
const NUDGE: f32 = 0.04;
const CAP: f32 = 3.0;
/// Rollouts and sentences.
const DEPTH: usize = 4;
const SENTENCES: usize = 24;

/// Successors of pairs, by weight.
type Table = FxHashMap<(TokenId, TokenId), Vec<(TokenId, f32)>>;

#[derive(Debug, Clone, Copy)]
struct Rule {
    num_tokens: usize,
    iterations: usize,
    mcts: bool,
}

/// The source `aded`.
#[derive(Debug)]
pub(crate) struct Aded {
    table: Arc<Table>,
    rule: Rule,
}

impl Aded {
    pub(crate) fn parse(mut o: Options, vocab: usize) -> Result<Self> {
        let mut table = Table::default();
        if let Some(path) = o.text("corpus") {
            let mut counts = Counts::new(2, 2);
            for document in Corpus::read(path.as_ref(), vocab)?.documents() {
                counts.extend(document, 0);
            }
            table = heaviest(&counts);
        }
        let rule = Rule {
            num_tokens: o.number("num_tokens", 64, 1..=1024)?,
            iterations: o.number("iterations", 150, 1..=10_000)?,
            mcts: o.choice("search", &["heap", "mcts"])? == "mcts",
        };
        o.done()?;
        Ok(Self { table: Arc::new(table), rule })
    }
}

/// Shares of the most frequent successors.
fn heaviest(counts: &Counts) -> Table {
    let mut table = Table::default();
    for (history, token, _) in counts.triples() {
        table.entry((history[0], history[1])).or_default().push((token, 0.0));
    }
    #[allow(clippy::iter_over_hash_type)] // every entry on its own
    for (&(a, b), row) in &mut table {
        let Some(f) = counts.get(&[a, b]) else { continue };
        row.iter_mut().for_each(|(t, w)| *w = f.count(*t) as f32 / f.total as f32);
        row.sort_by(|x, y| y.1.total_cmp(&x.1).then(x.0.cmp(&y.0)));
        row.truncate(KEPT);
    }
    table
}

impl SharedSource for Aded {
    fn name(&self) -> &'static str {
        "aded"
    }

    fn slots(&self) -> &'static [usize] {
        const { &[4 * MAGNITUDES as usize] }
    }

    fn open(&self, _scope: &Scope, text: &[TokenId]) -> Box<dyn RequestSource> {
        let view = View { table: self.table.clone(), rule: self.rule, seen: Counts::new(2, 2) };
        Planned::open(view, text)
    }

    fn memory(&self) -> usize {
        self.table.len() * 40 + self.table.values().map(|r| r.capacity() * 8).sum::<usize>()
    }

    fn save(&self) -> Saved {
        Saved::new()
    }

    fn load(&self, _saved: &Saved) -> Result<()> {
        Ok(())
    }
}

#[derive(Debug, Clone)]
struct View {
    table: Arc<Table>,
    rule: Rule,
    seen: Counts,
}

impl View {
    /// Successors of a pair with their weights, heaviest first, lower ids on ties.
    fn successors(&self, text: &[TokenId], a: TokenId, b: TokenId) -> Vec<(TokenId, f32)> {
        let mut row = self.table.get(&(a, b)).cloned().unwrap_or_default();
        if let Some(f) = self.seen.get(&[a, b]) {
            for &(t, count) in &f.next {
                let mut searches = count as usize * (WINDOW - 2);
                // The newest occurrences have been searched over less often.
                let from = text.len().saturating_sub(WINDOW - 2).max(2);
                for end in from..text.len() {
                    if text[end - 2..=end] == [a, b, t] {
                        searches -= WINDOW - 2 - (text.len() - end);
                    }
                }
                let at = row.iter().position(|x| x.0 == t).unwrap_or_else(|| {
                    row.push((t, 0.0));
                    row.len() - 1
                });
                row[at].1 = (row[at].1 + NUDGE * searches as f32).min(CAP);
            }
        }
        row.sort_by(|x, y| y.1.total_cmp(&x.1).then(x.0.cmp(&y.0)));
        row
    }

    /// The heaviest path products. Weights above 1 (they are not probabilities) are divided by
    /// their row's sum, so that no child outweighs its parent.
    fn heap(&self, text: &[TokenId], trie: &mut Trie) {
        let mut heap = BinaryHeap::new();
        let mut order = 0u32;
        let mut push =
            |heap: &mut BinaryHeap<_>, pair: (TokenId, TokenId), at: u32, p: f32, depth: usize| {
                for (t, share) in shares(&self.successors(text, pair.0, pair.1)) {
                    heap.push(((p * share).to_bits(), Reverse(order), t, at, pair.1, depth));
                    order += 1;
                }
            };
        let n = text.len();
        push(&mut heap, (text[n - 2], text[n - 1]), 0, 1.0, 0);
        while trie.has_room_in(self.rule.num_tokens) {
            let Some((p, _, t, at, before, depth)) = heap.pop() else { return };
            let p = f32::from_bits(p);
            let above = if at == 0 { 1.0 } else { trie.node(at).prior };
            let Some(next) = trie.add(at, t, p, 0) else { return };
            debug_assert!(p <= above + 1e-6);
            // Deep trees of certain successors end where the builder's depth would.
            if depth < 32 {
                push(&mut heap, (before, t), next, p, depth + 1);
            }
        }
    }

    /// Sentences by visits of a Monte-Carlo tree search.
    fn mcts(&self, text: &[TokenId], trie: &mut Trie) {
        let mut tree = Search::new(self, text);
        for i in 0..self.rule.iterations {
            tree.iterate(i as u32);
        }
        for sentence in tree.sentences() {
            let mut all = text[text.len() - 2..].to_vec();
            all.extend(&sentence);
            let greedy = self.successors(text, all[all.len() - 2], all[all.len() - 1]);
            let tail = greedy.first().map(|g| g.0);
            let path: Vec<TokenId> = sentence.into_iter().chain(tail).collect();
            let mut at = 0;
            for &t in &path {
                if trie.child(at, t).is_none() && !trie.has_room_in(self.rule.num_tokens) {
                    return;
                }
                let Some(next) = trie.add(at, t, 0.0, 0) else { return };
                at = next;
            }
        }
    }
}

/// Weights as probabilities: divided by their sum where that exceeds 1.
fn shares(row: &[(TokenId, f32)]) -> Vec<(TokenId, f32)> {
    let sum: f32 = row.iter().map(|x| x.1).sum::<f32>().max(1.0);
    row.iter().map(|&(t, w)| (t, w / sum)).collect()
}

/// A node of the search.
struct Visit {
    pair: (TokenId, TokenId),
    weight: f32,
    visits: f32,
    reward: f32,
    children: Vec<usize>,
    parent: usize,
    depth: usize,
}

struct Search<'a> {
    view: &'a View,
    text: &'a [TokenId],
    nodes: Vec<Visit>,
    key: [u32; 2],
}

impl<'a> Search<'a> {
    fn new(view: &'a View, text: &'a [TokenId]) -> Self {
        let pair = (text[text.len() - 2], text[text.len() - 1]);
        let root = Visit {
            pair,
            weight: 0.0,
            visits: 0.0,
            reward: 0.0,
            children: Vec::new(),
            parent: 0,
            depth: 0,
        };
        Self { view, text, nodes: vec![root], key: [pair.0 ^ text.len() as u32, pair.1] }
    }

    fn iterate(&mut self, iteration: u32) {
        // Select.
        let mut at = 0;
        while !self.nodes[at].children.is_empty() {
            let n = self.nodes[at].visits;
            let score = |c: &usize| {
                let c = &self.nodes[*c];
                let mean = if c.visits > 0.0 { c.reward / c.visits } else { 0.0 };
                mean + (32.0 + ((n + 9.0) / 8.0).ln()) * c.weight * n.sqrt() / (1.0 + c.visits)
            };
            let children = &self.nodes[at].children;
            let mut best = children[0];
            for c in &children[1..] {
                if score(c) > score(&best) {
                    best = *c;
                }
            }
            at = best;
        }
        // Expand.
        if self.nodes[at].depth < DEPTH {
            let Visit { pair, depth, .. } = self.nodes[at];
            for (t, w) in self.view.successors(self.text, pair.0, pair.1) {
                let child = Visit {
                    pair: (pair.1, t),
                    weight: w,
                    visits: 0.0,
                    reward: 0.0,
                    children: Vec::new(),
                    parent: at,
                    depth: depth + 1,
                };
                self.nodes.push(child);
                let id = self.nodes.len() - 1;
                self.nodes[at].children.push(id);
            }
        }
        // Roll out by weight.
        let mut reward = 1.0;
        let (mut pair, mut depth) = (self.nodes[at].pair, self.nodes[at].depth);
        while depth < DEPTH {
            let row = self.view.successors(self.text, pair.0, pair.1);
            let sum: f32 = row.iter().map(|x| x.1).sum();
            if sum <= 0.0 {
                break;
            }
            let word = philox([iteration, depth as u32, 7, 0], self.key)[0];
            let mut u = word as f32 / u32::MAX as f32 * sum;
            let drawn = row.iter().find(|x| {
                u -= x.1;
                u < 0.0
            });
            let &(t, w) = drawn.unwrap_or(&row[row.len() - 1]);
            reward += w;
            pair = (pair.1, t);
            depth += 1;
        }
        // Back-propagate, with the weights of the selected path.
        let mut n = at;
        while n != 0 {
            reward += self.nodes[n].weight;
            n = self.nodes[n].parent;
        }
        let mut n = at;
        loop {
            self.nodes[n].visits += 1.0;
            self.nodes[n].reward += reward;
            if n == 0 {
                break;
            }
            n = self.nodes[n].parent;
        }
    }

    /// Paths that end at the search's depth or where the table does, most visited first.
    fn sentences(&self) -> Vec<Vec<TokenId>> {
        let mut ends: Vec<usize> = (1..self.nodes.len())
            .filter(|&n| {
                let unvisited = |c: &usize| self.nodes[*c].visits == 0.0;
                let v = &self.nodes[n];
                v.visits > 0.0 && (v.depth == DEPTH || v.children.iter().all(unvisited))
            })
            .collect();
        ends.sort_by(|&a, &b| {
            self.nodes[b].visits.total_cmp(&self.nodes[a].visits).then(a.cmp(&b))
        });
        ends.truncate(SENTENCES);
        ends.into_iter()
            .map(|mut n| {
                let mut path = Vec::new();
                while n != 0 {
                    path.push(self.nodes[n].pair.1);
                    n = self.nodes[n].parent;
                }
                path.reverse();
                path
            })
            .collect()
    }
}

impl Planner for View {
    fn extend(&mut self, text: &[TokenId], from: usize) {
        self.seen.extend(text, from);
    }

    fn retract(&mut self, text: &[TokenId], left: usize) {
        self.seen.retract(text, left);
    }

    fn plan(&mut self, text: &[TokenId], trie: &mut Trie) {
        if text.len() < 2 {
            return;
        }
        if self.rule.mcts {
            self.mcts(text, trie);
        } else {
            self.heap(text, trie);
        }
        // The estimate of a node given its parent, from the table.
        trie.describe(|path| {
            let before = [&text[text.len() - 2..], path].concat();
            let (token, pair) = (before[before.len() - 1], &before[before.len() - 3..]);
            let row = self.successors(text, pair[0], pair[1]);
            let share = shares(&row).iter().find(|x| x.0 == token).map_or(0.0, |x| x.1);
            let step = match share {
                s if s < 0.1 => 0,
                s if s < 0.3 => 1,
                s if s < 0.7 => 2,
                _ => 3,
            };
            (share, step * MAGNITUDES + magnitude(path.len() - 1))
        });
    }

    fn memory(&self) -> usize {
        self.seen.memory()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draft::plan::testing::{draft_of, follows_the_laws};
    use proptest::prelude::*;

    fn source(text: &str) -> Aded {
        Aded::parse(Options::parse(text).unwrap(), 100).unwrap()
    }

    /// The weights of the release, literally: a search a token.
    fn nudged(text: &[u32]) -> FxHashMap<[u32; 3], f32> {
        let mut w = FxHashMap::default();
        for now in 3..=text.len() {
            for t in text[now.saturating_sub(WINDOW)..now].windows(3) {
                let e: &mut f32 = w.entry([t[0], t[1], t[2]]).or_insert(0.0);
                *e = (*e + NUDGE).min(CAP);
            }
        }
        w
    }

    fn view(text: &[u32]) -> View {
        let rule = Rule { num_tokens: 64, iterations: 150, mcts: false };
        let mut v = View { table: Arc::default(), rule, seen: Counts::new(2, 2) };
        v.extend(text, 0);
        v
    }

    proptest! {
        #[test]
        fn weights_are_those_of_a_search_a_token(text in prop::collection::vec(0u32..3, 3..60)) {
            let v = view(&text);
            let want = nudged(&text);
            let mut seen = 0;
            for a in 0..3 {
                for b in 0..3 {
                    for (c, w) in v.successors(&text, a, b) {
                        prop_assert!((w - want[&[a, b, c]]).abs() < 1e-4);
                        seen += 1;
                    }
                }
            }
            prop_assert_eq!(seen, want.len());
        }

        /// The heap's nodes are the heaviest of all paths up to length 5, by brute force.
        #[test]
        fn the_heap_finds_the_heaviest_paths(
            text in prop::collection::vec(0u32..3, 3..40), n in 1usize..9
        ) {
            let v = view(&text);
            let s = source(&format!("aded:num_tokens={n}"));
            let product = |path: &[u32]| -> f32 {
                let all = [&text[text.len() - 2..], path].concat();
                all.windows(3).map(|t| {
                    let row = shares(&v.successors(&text, t[0], t[1]));
                    row.iter().find(|x| x.0 == t[2]).map_or(0.0, |x| x.1)
                }).product()
            };
            let mut all: Vec<Vec<u32>> = vec![vec![]];
            let mut products = Vec::new();
            for _ in 0..n {
                all = all.iter().flat_map(|p| (0..3).map(move |t| [&p[..], &[t]].concat())).collect();
                all.retain(|p| product(p) > 0.0);
                products.extend(all.iter().map(|p| product(p)));
                if all.len() > 700 { break; }
            }
            products.sort_by(|x, y| y.total_cmp(x));
            products.truncate(n);
            let mut got: Vec<f32> = Vec::new();
            let mut prefixes = std::collections::BTreeSet::new();
            for path in draft_of(&s, &text) {
                for end in 1..=path.len() {
                    if prefixes.insert(path[..end].to_vec()) {
                        got.push(product(&path[..end]));
                    }
                }
            }
            got.sort_by(|x, y| y.total_cmp(x));
            prop_assert_eq!(got.len(), products.len());
            for (a, b) in got.iter().zip(&products) {
                prop_assert!((a - b).abs() < 1e-5, "{:?} {:?}", got, products);
            }
        }
    }

    #[test]
    fn the_search_visits_once_an_iteration_and_is_repeatable() {
        let text: Vec<u32> = (0..60).map(|i| i * i % 5).collect();
        let v = view(&text);
        let visits = || {
            let mut s = Search::new(&v, &text);
            (0..150).for_each(|i| s.iterate(i));
            assert_eq!(s.nodes[0].visits, 150.0);
            for n in &s.nodes {
                let below: f32 = n.children.iter().map(|&c| s.nodes[c].visits).sum();
                assert!(n.depth == DEPTH || below <= n.visits);
            }
            assert!(s.sentences().iter().all(|p| p.len() <= DEPTH));
            s.nodes.iter().map(|n| n.visits).collect::<Vec<_>>()
        };
        assert_eq!(visits(), visits());
        let (m, h) = (source("aded:search=mcts"), source("aded"));
        let paths = draft_of(&m, &text);
        assert!(!paths.is_empty() && paths.iter().all(|p| p.len() <= DEPTH + 1));
        assert_eq!(paths[0][0], draft_of(&h, &text)[0][0], "both start with the likeliest");
    }

    #[test]
    fn a_corpus_gives_the_first_weights() {
        let mut counts = Counts::new(2, 2);
        counts.extend(&[1, 2, 3, 1, 2, 3, 1, 2, 4], 0);
        let table = heaviest(&counts);
        assert_eq!(table[&(1, 2)], [(3, 2.0 / 3.0), (4, 1.0 / 3.0)]);
        let rule = Rule { num_tokens: 1, iterations: 1, mcts: false };
        let s = Aded { table: Arc::new(table), rule };
        assert_eq!(draft_of(&s, &[1, 2]), [[3]]);
        assert!(draft_of(&s, &[1]).is_empty(), "one token has no pair");
    }

    #[test]
    fn per_request_laws() {
        for text in ["aded", "aded:search=mcts;iterations=20"] {
            follows_the_laws(&source(text), &[0, 1, 2, 0, 1, 2, 1, 1, 0, 1, 2, 0, 2, 1]);
        }
    }
}
