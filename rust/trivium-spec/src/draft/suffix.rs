//! Suffix drafting: continue as the longest suffix of the text continued before.
//!
//! Sources: SuffixDecoding (arXiv 2411.04975) and SAM-Decoding (arXiv 2411.10666) for the idea; the
//! store is a suffix automaton with counts and one moving cursor a text (see
//! [`automaton`](super::automaton)), so a match costs amortised O(1) a token instead of a re-walk.
//! Three stores are followed at once: the request's own text, the finished texts of its group, and
//! a ring of generations of the tenant's finished texts. An automaton cannot delete; the ring
//! forgets by dropping its oldest generation.
//!
//! At a node the candidates are the children of the matched state and of up to [`ORDERS`] states up
//! its suffix links. The estimate of a child is `count / (sum of sibling counts + escape)`, halved for
//! a shorter match; counts of the open suffix itself never enter, because only states with a
//! continuation have children.

use super::automaton::{Automaton, Cursor};
use super::frequent::{self, Frequent};
use super::{Candidate, RequestSource, Saved, Scope, SharedSource};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use trivium_core::TokenId;
use trivium_core::error::{Error, Result};

/// Match lengths tried at a node: the longest and those up its suffix links.
const ORDERS: usize = 4;
/// Edges of a state that are looked at, newest first.
const SCAN: usize = 32;
/// Children of a state that become candidates.
const CHILDREN: usize = 8;
/// Tokens before a text's start that a cursor into a shared store is warmed with, and that a
/// finished text brings along as context.
const CONTEXT: usize = 64;
/// Generations of a tenant's ring.
const GENERATIONS: usize = 8;
/// Groups whose store is kept; the oldest goes first.
const GROUPS: usize = 256;
/// Measured bytes a token of text, rounded up: turns a byte budget into a token budget.
const BYTES_PER_TOKEN: usize = 100;

/// Finished texts of one scope, in generations of bounded size.
#[derive(Debug, Default)]
struct Ring {
    generations: VecDeque<(u64, Automaton)>,
    /// The texts themselves, for files: one list a generation.
    texts: VecDeque<Vec<Vec<TokenId>>>,
    frequent: Frequent,
    next_id: u64,
}

impl Ring {
    fn ingest(&mut self, text: &[TokenId], limit: usize) {
        let full = self.generations.back().is_none_or(|(_, a)| a.len() + text.len() > limit);
        if full {
            self.generations.push_back((self.next_id, Automaton::new()));
            self.texts.push_back(Vec::new());
            self.next_id += 1;
            if self.generations.len() > GENERATIONS {
                self.generations.pop_front();
                self.texts.pop_front();
            }
        }
        // A text longer than a generation keeps its end.
        let text = &text[text.len().saturating_sub(limit)..];
        if let (Some((_, a)), Some(texts)) = (self.generations.back_mut(), self.texts.back_mut()) {
            a.separate();
            for &t in text {
                a.append(t);
                self.frequent.add(t);
            }
            texts.push(text.to_vec());
        }
    }

    fn get(&self, id: u64) -> Option<&Automaton> {
        self.generations.iter().find(|(i, _)| *i == id).map(|(_, a)| a)
    }

    fn memory(&self) -> usize {
        let automata: usize = self.generations.iter().map(|(_, a)| a.memory()).sum();
        automata
            + self.frequent.memory()
            + self.texts.iter().flatten().map(|t| t.len() * 4).sum::<usize>()
    }
}

type Shared = Arc<RwLock<Ring>>;

/// The suffix source of a speculator.
#[derive(Debug)]
pub struct Suffix {
    tenants: Mutex<BTreeMap<Option<String>, Shared>>,
    groups: Mutex<VecDeque<(Scope, Shared)>>,
    /// Tokens of one generation.
    limit: usize,
}

impl Suffix {
    /// A source whose shared stores hold about `max_bytes` a tenant.
    pub fn new(max_bytes: usize) -> Self {
        let limit = (max_bytes / BYTES_PER_TOKEN / GENERATIONS).max(1);
        Self { tenants: Mutex::default(), groups: Mutex::default(), limit }
    }

    fn tenant(&self, name: Option<&String>) -> Shared {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        tenants.entry(name.cloned()).or_default().clone()
    }

    fn group(&self, scope: &Scope) -> Option<Shared> {
        scope.group.as_ref()?;
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, ring)) = groups.iter().find(|(s, _)| s == scope) {
            return Some(ring.clone());
        }
        if groups.len() == GROUPS {
            groups.pop_front();
        }
        let ring = Shared::default();
        groups.push_back((scope.clone(), ring.clone()));
        Some(ring)
    }
}

impl SharedSource for Suffix {
    fn name(&self) -> &'static str {
        "suffix"
    }

    fn slots(&self) -> &'static [usize] {
        &SLOTS
    }

    fn open(&self, scope: &Scope, text: &[TokenId]) -> Box<dyn RequestSource> {
        let mut view = View {
            local: Automaton::new(),
            frequent: Frequent::default(),
            cursor: Cursor::default(),
            shared: self.group(scope).into_iter().map(|r| (1, r)).collect(),
            follows: Vec::new(),
            tail: Vec::new(),
            nodes: Vec::new(),
            width: 1,
            limit: self.limit,
        };
        view.shared.push((2, self.tenant(scope.tenant.as_ref())));
        view.commit(text);
        Box::new(view)
    }

    fn memory(&self) -> usize {
        let tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        let groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        tenants.values().chain(groups.iter().map(|(_, r)| r)).map(|r| read(r).memory()).sum()
    }

    fn save(&self) -> Saved {
        let ring = self.tenant(None);
        let ring = read(&ring);
        let texts: Vec<&Vec<TokenId>> = ring.texts.iter().flatten().collect();
        Saved::from([
            ("lens".into(), texts.iter().map(|t| t.len() as u32).collect()),
            ("tokens".into(), texts.iter().flat_map(|t| t.iter().copied()).collect()),
        ])
    }

    fn load(&self, saved: &Saved) -> Result<()> {
        let part = |name: &str| {
            saved
                .get(name)
                .ok_or_else(|| Error::input("store", format!("suffix.{name} is missing")))
        };
        let (lens, tokens) = (part("lens")?, part("tokens")?);
        if lens.iter().map(|&n| u64::from(n)).sum::<u64>() != tokens.len() as u64 {
            return Err(Error::input("store", "suffix.lens does not add up to suffix.tokens"));
        }
        let mut ring = Ring::default();
        let mut at = 0;
        for &n in lens {
            ring.ingest(&tokens[at..at + n as usize], self.limit);
            at += n as usize;
        }
        let shared = self.tenant(None);
        *shared.write().unwrap_or_else(PoisonError::into_inner) = ring;
        Ok(())
    }
}

fn read(ring: &Shared) -> std::sync::RwLockReadGuard<'_, Ring> {
    ring.read().unwrap_or_else(PoisonError::into_inner)
}

/// A cursor into one generation of a shared ring.
#[derive(Debug, Clone, Copy)]
struct Follow {
    ring: usize,
    generation: u64,
    cursor: Cursor,
}

#[derive(Debug, Clone)]
struct View {
    local: Automaton,
    frequent: Frequent,
    cursor: Cursor,
    /// (store kind, ring): kind 1 is the group, 2 the tenant.
    shared: Vec<(u8, Shared)>,
    follows: Vec<Follow>,
    /// The last tokens of the text, to warm cursors of new generations.
    tail: Vec<TokenId>,
    /// Cursors of the tree's nodes, `width` a node: local first, then one a follow.
    nodes: Vec<Cursor>,
    width: usize,
    limit: usize,
}

impl View {
    /// Follows the generations that exist now.
    fn refresh(&mut self) {
        let mut follows = Vec::with_capacity(self.follows.len());
        for (r, (_, ring)) in self.shared.iter().enumerate() {
            for (id, automaton) in &read(ring).generations {
                let known = self.follows.iter().find(|f| f.ring == r && f.generation == *id);
                let cursor = known.map_or_else(
                    || self.tail.iter().fold(Cursor::default(), |c, &t| automaton.advance(c, t)),
                    |f| f.cursor,
                );
                follows.push(Follow { ring: r, generation: *id, cursor });
            }
        }
        self.follows = follows;
    }
}

impl RequestSource for View {
    fn commit(&mut self, tokens: &[TokenId]) {
        for &t in tokens {
            self.cursor = self.local.advance(self.cursor, t);
            self.local.append(t);
            self.frequent.add(t);
            self.cursor = self.local.settle(self.cursor);
        }
        for f in &mut self.follows {
            match read(&self.shared[f.ring].1).get(f.generation) {
                Some(a) => f.cursor = tokens.iter().fold(f.cursor, |c, &t| a.advance(c, t)),
                None => f.cursor = Cursor::default(),
            }
        }
        self.tail.extend_from_slice(&tokens[tokens.len().saturating_sub(CONTEXT)..]);
        let surplus = self.tail.len().saturating_sub(CONTEXT);
        self.tail.drain(..surplus);
        self.nodes.clear();
    }

    fn rollback(&mut self, left: &[TokenId], _n: usize) {
        // Automata cannot forget: rebuild, amortised 0.5 microseconds a token of the text.
        self.local = Automaton::new();
        self.frequent = Frequent::default();
        self.cursor = Cursor::default();
        self.follows.clear();
        self.tail.clear();
        self.commit(left);
    }

    fn fork(&self) -> Box<dyn RequestSource> {
        Box::new(self.clone())
    }

    fn root(&mut self, _last: TokenId) {
        self.refresh();
        self.width = 1 + self.follows.len();
        self.nodes.clear();
        self.nodes.push(self.cursor);
        self.nodes.extend(self.follows.iter().map(|f| f.cursor));
    }

    fn node(&mut self, parent: usize, token: TokenId) {
        let from = parent * self.width;
        let local = self.local.advance(self.nodes[from], token);
        self.nodes.push(local);
        for (i, f) in self.follows.iter().enumerate() {
            let cursor = self.nodes[from + 1 + i];
            let next = read(&self.shared[f.ring].1)
                .get(f.generation)
                .map_or_else(Cursor::default, |a| a.advance(cursor, token));
            self.nodes.push(next);
        }
    }

    fn candidates(&self, node: usize, depth: usize, out: &mut Vec<Candidate>) {
        let from = node * self.width;
        continuations(&self.local, self.nodes[from], 0, out);
        for (i, f) in self.follows.iter().enumerate() {
            let (kind, ring) = &self.shared[f.ring];
            if let Some(a) = read(ring).get(f.generation) {
                continuations(a, self.nodes[from + 1 + i], *kind, out);
            }
        }
        if depth < 2 {
            self.frequent.candidates(6, out);
            for (kind, ring) in &self.shared {
                if *kind == 2 {
                    read(ring).frequent.candidates(7, out);
                }
            }
        }
    }

    fn finish(&mut self, text: &[TokenId], prompt_len: usize) {
        let start = prompt_len.saturating_sub(CONTEXT);
        for (_, ring) in &self.shared {
            let mut ring = ring.write().unwrap_or_else(PoisonError::into_inner);
            ring.ingest(&text[start..], self.limit);
        }
    }

    fn memory(&self) -> usize {
        self.local.memory() + self.frequent.memory() + self.nodes.capacity() * size_of::<Cursor>()
    }
}

/// Candidates of one store at one cursor: slot `kind` from the longest match, `3 + kind` from the
/// longest of the shorter ones that names the token.
fn continuations(a: &Automaton, cursor: Cursor, kind: u8, out: &mut Vec<Candidate>) {
    let start = out.len();
    let mut at = Some(a.settle(cursor));
    let mut order = 0;
    while let Some(c) = at {
        if c.len == 0 || order == ORDERS {
            break;
        }
        let slot = if order > 0 { 3 + kind } else { kind };
        let mut best: [(u32, u32, TokenId); CHILDREN] = [(0, 0, 0); CHILDREN];
        let mut total = 0u32;
        let mut newest = 0;
        for (token, child) in a.children(c.state).take(SCAN) {
            let entry = (a.count(child), a.last_end(child), token);
            total += entry.0;
            newest = newest.max(entry.1);
            // Insertion into a short list: most states have one or two children.
            let mut place = CHILDREN;
            while place > 0 && best[place - 1] < entry {
                place -= 1;
            }
            if place < CHILDREN {
                best[place..].rotate_right(1);
                best[place] = entry;
            }
        }
        for (rank, &(count, end, token)) in best.iter().enumerate().take_while(|(_, b)| b.0 > 0) {
            if out[start..].iter().any(|seen| seen.token == token && seen.slot == slot) {
                continue;
            }
            let place = u16::from(rank > 0) * 2 + u16::from(end < newest);
            let share = count as f32 / (total as f32 + escape(c.len));
            let prior = if order == 0 { share } else { 0.5 * share };
            let feature = feature(c.len, count as f32 / total as f32, total, place);
            out.push(Candidate { token, slot, feature, prior });
        }
        at = a.shorter(c);
        order += 1;
    }
}

/// Evidence set aside for continuations never seen: less the longer the match.
fn escape(len: u32) -> f32 {
    match len {
        0..=1 => 1.5,
        2 => 1.0,
        3..=4 => 0.6,
        5..=8 => 0.3,
        _ => 0.15,
    }
}

const FEATURES: usize = 8 * 6 * 3 * 4;

/// Longest match in three stores, shorter ones, frequent tokens of the text and of the tenant:
/// strongest first, as the mixture expects.
const SLOTS: [usize; 8] = {
    let mut slots = [FEATURES; 8];
    slots[6] = frequent::FEATURES;
    slots[7] = frequent::FEATURES;
    slots
};

/// Bucket of (match length, share, evidence, rank and recency).
fn feature(len: u32, share: f32, total: u32, place: u16) -> u16 {
    let length = match len {
        0..=1 => 0,
        2 => 1,
        3..=4 => 2,
        5..=8 => 3,
        9..=16 => 4,
        17..=32 => 5,
        33..=64 => 6,
        _ => 7,
    };
    let share = match share {
        s if s < 0.1 => 0,
        s if s < 0.25 => 1,
        s if s < 0.5 => 2,
        s if s < 0.75 => 3,
        s if s < 1.0 => 4,
        _ => 5,
    };
    let evidence = match total {
        0..=1 => 0,
        2..=3 => 1,
        _ => 2,
    };
    ((length * 6 + share) * 3 + evidence) * 4 + place
}

#[cfg(test)]
mod tests {
    use super::*;

    fn best(view: &mut dyn RequestSource, last: TokenId) -> Vec<TokenId> {
        view.root(last);
        let mut out = Vec::new();
        view.candidates(0, 0, &mut out);
        out.retain(|c| c.slot < 6); // matches only, not the frequent tokens
        out.sort_by(|a, b| b.prior.total_cmp(&a.prior));
        let mut seen = Vec::new();
        for c in out {
            if !seen.contains(&c.token) {
                seen.push(c.token);
            }
        }
        seen
    }

    #[test]
    fn follows_the_longest_match_first() {
        let s = Suffix::new(1 << 20);
        // "1 2 3 4" once, "9 2 3 5" once: after "1 2 3" the longer context says 4.
        let mut v = s.open(&Scope::default(), &[1, 2, 3, 4, 9, 2, 3, 5, 1, 2, 3]);
        assert_eq!(best(v.as_mut(), 3), [4, 5]);
    }

    #[test]
    fn finished_texts_serve_later_requests_of_the_same_tenant_only() {
        let s = Suffix::new(1 << 20);
        let scope = |t: &str| Scope { tenant: Some(t.into()), group: None };
        let mut a = s.open(&scope("a"), &[1, 2, 3]);
        a.commit(&[4, 5]);
        let mut live = s.open(&scope("a"), &[2, 3]);
        assert_eq!(best(live.as_mut(), 3), [] as [u32; 0]);
        a.finish(&[1, 2, 3, 4, 5], 3);
        assert_eq!(best(live.as_mut(), 3), [4]);
        live.commit(&[4]);
        assert_eq!(best(live.as_mut(), 4), [5]);
        let mut other = s.open(&scope("b"), &[2, 3]);
        assert_eq!(best(other.as_mut(), 3), [] as [u32; 0]);
    }

    #[test]
    fn the_ring_is_bounded_and_forgets_the_oldest() {
        let s = Suffix::new(BYTES_PER_TOKEN * GENERATIONS * 10);
        for i in 0..100u32 {
            let mut v = s.open(&Scope::default(), &[1000 + i]);
            v.finish(&[1000 + i, 1, 2, 3, 4, 5], 1);
        }
        assert!(s.memory() < 200 * BYTES_PER_TOKEN);
        let mut old = s.open(&Scope::default(), &[1000]);
        assert!(best(old.as_mut(), 1000).is_empty());
        let mut new = s.open(&Scope::default(), &[1099]);
        assert_eq!(best(new.as_mut(), 1099), [1]);
    }

    #[test]
    fn rollback_and_fork_restore_the_proposals() {
        let s = Suffix::new(1 << 20);
        let text = [1, 2, 3, 1, 2, 4, 1, 2];
        let mut v = s.open(&Scope::default(), &text);
        let before = best(v.as_mut(), 2);
        let mut f = v.fork();
        f.commit(&[9, 1, 2, 9, 1, 2, 9]);
        v.commit(&[3, 3, 3]);
        v.rollback(&text, 3);
        assert_eq!(best(v.as_mut(), 2), before);
        assert_eq!(best(f.as_mut(), 9), [1]);
    }

    #[test]
    fn save_and_load_keep_the_texts() {
        let s = Suffix::new(1 << 20);
        s.open(&Scope::default(), &[1]).finish(&[1, 2, 3], 1);
        let saved = s.save();
        let t = Suffix::new(1 << 20);
        t.load(&saved).unwrap();
        assert_eq!(best(t.open(&Scope::default(), &[2]).as_mut(), 2), [3]);
        let mut bad = saved.clone();
        bad.insert("lens".into(), vec![7]);
        assert!(t.load(&bad).is_err());
        assert!(t.load(&Saved::new()).is_err());
    }
}
