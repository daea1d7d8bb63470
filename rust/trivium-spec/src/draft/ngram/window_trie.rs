//! SGLang's n-gram trie: windows of recent text with counts and recency, in a pool of fixed size.
//!
//! Every substring of at most `max_depth` tokens is a node; its count is how often it occurred, its
//! age when it last did. When the pool is full the least recently used *leaf* goes: a node is touched
//! after its descendants, so the oldest node is one. The text's own windows and the tenant's
//! finished texts are two tries of one kind.
//!
//! Anchors are the nodes that the last `min_match..=max_match` tokens lead to. They are searched
//! anew each step (at most `max_match` walks), which no eviction can invalidate. Two builders write
//! the draft, at most `num_tokens` nodes over all anchors, longest first:
//!
//! - `recency`: breadth-first, children by age; breadth falls from `max_breadth` at the shortest
//!   match to `min_breadth` at the longest, and by one step a level;
//! - `frequency`: a heap by the product of `count / sum of the counts of the kept children`, of which
//!   there are at most `max_breadth`.
//!
//! SGLang's `NGRAM` speculative method. Its external corpus is [`rest`](crate::draft::retrieval)
//! here.

use crate::draft::options::Options;
use crate::draft::plan::{MAGNITUDES, Planned, Planner, Trie, magnitude};
use crate::draft::scoped::{Scoped, Shared};
use crate::draft::{RequestSource, Saved, Scope, SharedSource};
use rustc_hash::FxHashMap;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use trivium_core::TokenId;
use trivium_core::error::{Error, Result};

/// Tokens of a request's text that its own trie holds, at least; at most twice as many.
const RECENT: usize = 1024;
/// Measured bytes of a node with its table entries, rounded up.
const NODE_BYTES: usize = 120;

#[derive(Debug, Clone)]
struct Node {
    token: TokenId,
    parent: u32,
    count: u32,
    /// When it was touched last; larger is newer.
    age: u64,
    children: Vec<u32>,
}

/// Substrings of texts.
#[derive(Debug, Clone)]
struct Windows {
    nodes: Vec<Node>,
    free: Vec<u32>,
    edges: FxHashMap<(u32, TokenId), u32>,
    /// Nodes by age.
    ages: BTreeMap<u64, u32>,
    clock: u64,
    capacity: usize,
}

impl Windows {
    fn new(capacity: usize) -> Self {
        let root = Node { token: 0, parent: 0, count: 0, age: 0, children: Vec::new() };
        Self {
            nodes: vec![root],
            free: Vec::new(),
            edges: FxHashMap::default(),
            ages: BTreeMap::new(),
            clock: 0,
            capacity,
        }
    }

    fn len(&self) -> usize {
        self.ages.len()
    }

    fn walk(&self, gram: &[TokenId]) -> Option<u32> {
        gram.iter().try_fold(0, |at, &t| self.edges.get(&(at, t)).copied())
    }

    /// Counts the substrings that end with the last of `window`, at most `depth` tokens each.
    fn insert(&mut self, window: &[TokenId], depth: usize) {
        // Earlier starts first: what starts later is newer.
        for n in (1..=depth.min(window.len())).rev() {
            let gram = &window[window.len() - n..];
            // The path above exists unless the pool was too small to keep it.
            let Some(parent) = self.walk(&gram[..n - 1]) else { continue };
            let known = self.edges.get(&(parent, gram[n - 1])).copied();
            let node = if let Some(node) = known {
                node
            } else {
                if self.len() >= self.capacity && !self.evict(parent) {
                    return;
                }
                self.add(parent, gram[n - 1])
            };
            self.nodes[node as usize].count += 1;
            let mut at = node;
            while at != 0 {
                self.touch(at);
                at = self.nodes[at as usize].parent;
            }
        }
    }

    fn add(&mut self, parent: u32, token: TokenId) -> u32 {
        let fresh = Node { token, parent, count: 0, age: 0, children: Vec::new() };
        let id = if let Some(id) = self.free.pop() {
            self.nodes[id as usize] = fresh;
            id
        } else {
            self.nodes.push(fresh);
            self.nodes.len() as u32 - 1
        };
        self.edges.insert((parent, token), id);
        self.nodes[parent as usize].children.push(id);
        id
    }

    fn touch(&mut self, node: u32) {
        self.clock += 1;
        let old = std::mem::replace(&mut self.nodes[node as usize].age, self.clock);
        self.ages.remove(&old);
        self.ages.insert(self.clock, node);
    }

    /// Drops the oldest leaf, unless the path that is being inserted needs it.
    fn evict(&mut self, keep: u32) -> bool {
        let oldest = self
            .ages
            .iter()
            .map(|(_, &n)| n)
            .find(|&n| n != keep && self.nodes[n as usize].children.is_empty());
        let Some(leaf) = oldest else { return false };
        let Node { token, parent, age, .. } = self.nodes[leaf as usize];
        self.ages.remove(&age);
        self.edges.remove(&(parent, token));
        self.nodes[parent as usize].children.retain(|&c| c != leaf);
        self.free.push(leaf);
        true
    }

    fn memory(&self) -> usize {
        self.len() * NODE_BYTES
    }
}

#[derive(Debug, Clone, Copy)]
struct Rule {
    depth: usize,
    min_match: usize,
    max_match: usize,
    min_breadth: usize,
    max_breadth: usize,
    num_tokens: usize,
    frequency: bool,
    capacity: usize,
}

#[derive(Debug, Default)]
struct Tenant(Option<Windows>);

/// The source `trie`.
#[derive(Debug)]
pub(crate) struct WindowTrie {
    rule: Rule,
    tenants: Scoped<Option<String>, Tenant>,
    vocab: usize,
}

impl WindowTrie {
    pub(crate) fn parse(mut o: Options, vocab: usize, max_bytes: usize) -> Result<Self> {
        let rule = Rule {
            depth: o.number("max_depth", 18, 2..=64)?,
            min_match: o.number("min_match", 1, 1..=63)?,
            max_match: o.number("max_match", 12, 1..=63)?,
            min_breadth: o.number("min_breadth", 1, 1..=64)?,
            max_breadth: o.number("max_breadth", 10, 1..=64)?,
            num_tokens: o.number("num_tokens", 12, 1..=1024)?,
            frequency: o.choice("order", &["recency", "frequency"])? == "frequency",
            capacity: (max_bytes / NODE_BYTES).max(64),
        };
        o.done()?;
        if rule.min_match > rule.max_match
            || rule.max_match >= rule.depth
            || rule.min_breadth > rule.max_breadth
        {
            return Err(Error::input(
                "sources",
                "trie: needs min_match <= max_match < max_depth and min_breadth <= max_breadth",
            ));
        }
        Ok(Self { rule, tenants: Scoped::default(), vocab })
    }
}

impl SharedSource for WindowTrie {
    fn name(&self) -> &'static str {
        "trie"
    }

    fn slots(&self) -> &'static [usize] {
        const { &[2 * (MAGNITUDES * MAGNITUDES) as usize] }
    }

    fn open(&self, scope: &Scope, text: &[TokenId]) -> Box<dyn RequestSource> {
        let view = View {
            rule: self.rule,
            own: Windows::new(usize::MAX),
            base: 0,
            tenant: self.tenants.get(&scope.tenant),
        };
        Planned::open(view, text)
    }

    fn memory(&self) -> usize {
        self.tenants.sum(|t| t.0.as_ref().map_or(0, Windows::memory))
    }

    /// Nodes oldest first, so that loading restores the order of recency: parent, token, count.
    fn save(&self) -> Saved {
        let tenant = self.tenants.get(&None);
        let tenant = tenant.read();
        let Some(w) = &tenant.0 else { return Saved::from([("nodes".into(), Vec::new())]) };
        let order: Vec<u32> = w.ages.values().copied().collect();
        let rank: FxHashMap<u32, u32> =
            order.iter().enumerate().map(|(i, &n)| (n, i as u32 + 1)).collect();
        let flat = order.iter().flat_map(|n| {
            let n = &w.nodes[*n as usize];
            [rank.get(&n.parent).copied().unwrap_or(0), n.token, n.count]
        });
        Saved::from([("nodes".into(), flat.collect())])
    }

    fn load(&self, saved: &Saved) -> Result<()> {
        let damaged = || Error::input("store", "trie.nodes is missing or damaged");
        let flat = saved.get("nodes").ok_or_else(damaged)?;
        let rows: Vec<&[u32]> = flat.chunks_exact(3).collect();
        // Parents are newer than their children, so they follow them.
        let sound = flat.len().is_multiple_of(3)
            && rows.iter().enumerate().all(|(i, r)| {
                let parent = r[0] as usize;
                (parent == 0 || (parent > i + 1 && parent <= rows.len()))
                    && (r[1] as usize) < self.vocab
            });
        if !sound {
            return Err(damaged());
        }
        let mut w = Windows::new(self.rule.capacity);
        let mut id = vec![0; rows.len() + 1];
        for (i, r) in rows.iter().enumerate().rev() {
            let parent = id[r[0] as usize];
            if w.edges.contains_key(&(parent, r[1])) {
                return Err(damaged());
            }
            id[i + 1] = w.add(parent, r[1]);
            w.nodes[id[i + 1] as usize].count = r[2];
        }
        id[1..].iter().for_each(|&n| w.touch(n));
        while w.len() > w.capacity && w.evict(0) {}
        self.tenants.get(&None).write().0 = Some(w);
        Ok(())
    }
}

#[derive(Debug, Clone)]
struct View {
    rule: Rule,
    /// Windows of `text[base..]`.
    own: Windows,
    base: usize,
    tenant: Shared<Tenant>,
}

impl View {
    fn rebuild(&mut self, text: &[TokenId]) {
        self.own = Windows::new(usize::MAX);
        self.base = (text.len() / RECENT).saturating_sub(1) * RECENT;
        for end in self.base + 1..=text.len() {
            self.own.insert(&text[self.base..end], self.rule.depth);
        }
    }
}

impl Planner for View {
    fn extend(&mut self, text: &[TokenId], from: usize) {
        let base = (text.len() / RECENT).saturating_sub(1) * RECENT;
        if base != self.base {
            return self.rebuild(text);
        }
        for end in from + 1..=text.len() {
            self.own.insert(&text[self.base..end], self.rule.depth);
        }
    }

    fn retract(&mut self, text: &[TokenId], left: usize) {
        // Ages cannot be taken back: at most twice RECENT tokens are inserted again.
        self.rebuild(&text[..left]);
    }

    fn plan(&mut self, text: &[TokenId], trie: &mut Trie) {
        let tenant = self.tenant.read();
        for n in (self.rule.min_match..=self.rule.max_match.min(text.len())).rev() {
            // A longer match goes first, wherever it is.
            for (origin, windows) in [Some(&self.own), tenant.0.as_ref()].into_iter().enumerate() {
                let Some(windows) = windows else { continue };
                let Some(anchor) = windows.walk(&text[text.len() - n..]) else { continue };
                let describe = |share: f32, depth: usize| {
                    let feature =
                        (origin as u16 * MAGNITUDES + magnitude(n)) * MAGNITUDES + magnitude(depth);
                    (0.9 * share, feature)
                };
                if self.rule.frequency {
                    by_frequency(self.rule, windows, anchor, trie, &describe);
                } else {
                    by_recency(self.rule, windows, anchor, n, trie, &describe);
                }
            }
        }
    }

    fn finish(&mut self, text: &[TokenId], _prompt_len: usize) {
        let Rule { depth, capacity, .. } = self.rule;
        let mut tenant = self.tenant.write();
        let windows = tenant.0.get_or_insert_with(|| Windows::new(capacity));
        for end in 1..=text.len() {
            windows.insert(&text[end.saturating_sub(depth)..end], depth);
        }
    }

    fn memory(&self) -> usize {
        self.own.memory()
    }
}

type Describe<'a> = &'a dyn Fn(f32, usize) -> (f32, u16);

fn by_recency(
    rule: Rule,
    w: &Windows,
    anchor: u32,
    n: usize,
    trie: &mut Trie,
    describe: Describe<'_>,
) {
    let span = (rule.max_match - rule.min_match + 1) as f32;
    let step = (rule.max_breadth - rule.min_breadth) as f32 / span;
    let breadth = (rule.max_match - n) as f32 * step + rule.min_breadth as f32;
    let mut queue = VecDeque::from([(anchor, 0, breadth, 0)]);
    while let Some((node, at, breadth, depth)) = queue.pop_front() {
        let mut children = w.nodes[node as usize].children.clone();
        children.sort_unstable_by_key(|&c| Reverse(w.nodes[c as usize].age));
        let total: u32 = children.iter().map(|&c| w.nodes[c as usize].count).sum();
        for c in children.into_iter().take((breadth as usize).max(1)) {
            let child = &w.nodes[c as usize];
            let (prior, feature) = describe(child.count as f32 / total as f32, depth);
            if trie.child(at, child.token).is_none() && trie.len() >= rule.num_tokens {
                return;
            }
            let Some(next) = trie.add(at, child.token, prior, feature) else { return };
            queue.push_back((c, next, breadth - step, depth + 1));
        }
    }
}

fn by_frequency(rule: Rule, w: &Windows, anchor: u32, trie: &mut Trie, describe: Describe<'_>) {
    // (probability, order, node, trie parent, its share, depth); a probability is not negative, so
    // its bits are in its order.
    let mut heap = BinaryHeap::new();
    let mut order = 0u32;
    let mut push = |heap: &mut BinaryHeap<_>, node: u32, at: u32, p: f32, depth: usize| {
        let mut children = w.nodes[node as usize].children.clone();
        children.sort_unstable_by_key(|&c| {
            let n = &w.nodes[c as usize];
            (Reverse(n.count), Reverse(n.age))
        });
        children.truncate(rule.max_breadth);
        let total: u32 = children.iter().map(|&c| w.nodes[c as usize].count).sum();
        for c in children {
            let share = w.nodes[c as usize].count as f32 / total as f32;
            heap.push(((p * share).to_bits(), Reverse(order), c, at, share.to_bits(), depth));
            order += 1;
        }
    };
    push(&mut heap, anchor, 0, 1.0, 0);
    while let Some((p, _, node, at, share, depth)) = heap.pop() {
        let token = w.nodes[node as usize].token;
        if trie.child(at, token).is_none() && trie.len() >= rule.num_tokens {
            return;
        }
        let (prior, feature) = describe(f32::from_bits(share), depth);
        let Some(next) = trie.add(at, token, prior, feature) else { return };
        push(&mut heap, node, next, f32::from_bits(p), depth + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draft::plan::testing::{draft_of, follows_the_laws};
    use proptest::prelude::*;

    fn source(text: &str) -> WindowTrie {
        WindowTrie::parse(Options::parse(text).unwrap(), 100, 1 << 20).unwrap()
    }

    /// All nodes as strings with their counts.
    fn strings(w: &Windows) -> BTreeMap<Vec<u32>, u32> {
        w.ages
            .values()
            .map(|&id| {
                let (mut at, mut path) = (id, Vec::new());
                while at != 0 {
                    path.push(w.nodes[at as usize].token);
                    at = w.nodes[at as usize].parent;
                }
                path.reverse();
                (path, w.nodes[id as usize].count)
            })
            .collect()
    }

    proptest! {
        /// With room, the trie is a dictionary of substrings; without, it keeps parents of what it
        /// keeps, within its capacity, and never the oldest leaf before a newer one.
        #[test]
        fn equals_a_dictionary_of_substrings(
            texts in prop::collection::vec(prop::collection::vec(0u32..3, 1..25), 1..5),
            capacity in 5usize..60,
        ) {
            let depth = 4;
            let (mut all, mut few) = (Windows::new(usize::MAX), Windows::new(capacity));
            let mut want: BTreeMap<Vec<u32>, u32> = BTreeMap::new();
            for text in &texts {
                for end in 1..=text.len() {
                    all.insert(&text[..end], depth);
                    few.insert(&text[..end], depth);
                    for n in 1..=depth.min(end) {
                        *want.entry(text[end - n..end].to_vec()).or_insert(0) += 1;
                    }
                }
            }
            prop_assert_eq!(&strings(&all), &want);
            for gram in want.keys() {
                prop_assert!(all.walk(gram).is_some());
            }
            let kept = strings(&few);
            prop_assert!(few.len() <= capacity && kept.len() == few.len());
            for (s, n) in &kept {
                prop_assert!(*n <= want[s]);
                prop_assert!(s.len() == 1 || kept.contains_key(&s[..s.len() - 1]));
            }
            // A parent is never older than its child.
            for (&age, &n) in &few.ages {
                let parent = few.nodes[n as usize].parent;
                prop_assert!(parent == 0 || few.nodes[parent as usize].age > age);
            }
        }
    }

    #[test]
    fn recency_and_frequency_order_the_children() {
        let text = [1, 2, 1, 2, 1, 3, 1, 4, 1];
        let narrow = "min_match=1;max_match=1;max_breadth=2;min_breadth=2";
        let got = |order: &str| {
            let s = source(&format!("trie:{narrow};num_tokens=2;order={order}"));
            let mut firsts: Vec<u32> = draft_of(&s, &text).iter().map(|p| p[0]).collect();
            firsts.dedup();
            firsts
        };
        assert_eq!(got("recency"), [4, 3], "newest first");
        // 2 twice of the kept (2, 4): 2/3; then 2 -> 1 always: 2/3 before 4 at 1/3.
        assert_eq!(got("frequency"), [2]);
    }

    #[test]
    fn longer_matches_are_narrower_and_come_first() {
        let s = source("trie:num_tokens=4;max_breadth=3;max_match=3;order=recency");
        // After (5, 6): 7; after 6 alone also 8, 9.
        let text = [5, 6, 7, 0, 6, 8, 0, 6, 9, 0, 5, 6];
        let paths = draft_of(&s, &text);
        assert_eq!(paths[0][0], 7);
        assert!(paths.iter().map(Vec::len).sum::<usize>() >= 4);
    }

    #[test]
    fn the_tenant_learns_at_finish_and_files_keep_it() {
        let s = source("trie");
        assert!(draft_of(&s, &[1, 2]).is_empty());
        s.open(&Scope::default(), &[1]).finish(&[1, 2, 3, 4], 1);
        assert_eq!(draft_of(&s, &[1, 2]), [[3, 4]]);
        let t = source("trie");
        t.load(&s.save()).unwrap();
        assert_eq!(draft_of(&t, &[1, 2]), [[3, 4]]);
        assert_eq!(t.save(), s.save());
        for bad in [vec![1], vec![9, 1, 1], vec![0, 100, 1], vec![0, 1, 1, 0, 1, 1]] {
            assert!(t.load(&Saved::from([("nodes".into(), bad)])).is_err());
        }
        let small = WindowTrie::parse(Options::parse("trie").unwrap(), 1 << 20, 64 * 120).unwrap();
        for i in 0..50 {
            let text: Vec<u32> = (0..100).map(|j| i * 100 + j).collect();
            small.open(&Scope::default(), &[1]).finish(&text, 1);
            assert!(small.memory() <= 64 * 120);
        }
    }

    #[test]
    fn per_request_laws() {
        for text in ["trie", "trie:order=frequency;num_tokens=5"] {
            follows_the_laws(&source(text), &[0, 1, 2, 0, 1, 2, 1, 1, 0, 1, 2, 0, 2, 1]);
        }
        let mut long: Vec<u32> = (0..2100u32).map(|i| i * i % 7).collect();
        let s = source("trie");
        let mut v = s.open(&Scope::default(), &long);
        v.commit(&[1, 2, 3]);
        v.rollback(&long, 3);
        let last = long[long.len() - 1];
        assert_eq!(
            crate::draft::plan::testing::drafts(v.as_mut(), last),
            draft_of(&s, &long),
            "a rebuilt trie is that of the text"
        );
        long.truncate(5);
    }
}
