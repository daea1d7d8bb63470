//! Suffix drafting: continue as the longest suffix of the text continued before.
//!
//! Sources: SuffixDecoding (arXiv 2411.04975) and SAM-Decoding (arXiv 2411.10666) for the idea; the
//! store is a suffix automaton with counts and one moving cursor a text (see
//! [`automaton`](super::automaton)), so a match costs amortised O(1) a token instead of a re-walk.
//! Four stores are followed at once: the request's own text, the finished texts of its group and of
//! its tenant, each a [ring](super::ring) bounded in bytes, and static texts that everyone shares.
//!
//! At a node the candidates are the most frequent continuations of the matched state and of up to
//! [`ORDERS`] - 1 states up its suffix links, and near the root those of the empty match. The estimate
//! of one is `count / (count of the state + escape)`, halved for a shorter match. Each token also
//! carries how often the request's own text has used it: a topic repeats its words.

use super::automaton::{Automaton, Child, Continuations, Cursor, NARROW, TOP};
use super::candidates::Candidates;
use super::ring::Ring;
use super::uses::Uses;
use super::{RequestSource, Saved, Scope, SharedSource};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use trivium_core::TokenId;
use trivium_core::error::{Error, Result};

/// Match lengths tried at a node: the longest and those up its suffix links.
const ORDERS: usize = 3;
/// Continuations of a match that become candidates.
const CHILDREN: usize = 8;
/// Levels of the tree that also ask the empty match.
const EMPTY_LEVELS: usize = 1;
/// Tokens before a text's start that a cursor into a shared store is warmed with, and that a
/// finished text brings along as context.
const CONTEXT: usize = 64;
/// Tokens that rollback takes back without rebuilding.
const UNDO: usize = 256;
/// Groups and tenants whose stores are kept; the ones opened longest ago go first.
const GROUPS: usize = 256;
const TENANTS: usize = 1024;

/// Where a store's texts come from; the index of its slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Local = 0,
    Group = 1,
    Tenant = 2,
    Static = 3,
}

/// First slot of shorter matches, of the empty match (own text, others) and of the own use.
const SHORTER: u8 = 4;
const EMPTY: u8 = 8;
const USE: u8 = 10;

const SHARES: u16 = 6;
const FEATURES: usize = 8 * SHARES as usize * 3 * 4;
const EMPTY_FEATURES: usize = TOP * 8;
const USE_FEATURES: usize = 8 * 7 * 14;

/// Longest match in four stores, shorter ones, the empty match, own use: strongest first, as the
/// mixture expects.
const SLOTS: [usize; 11] = {
    let mut slots = [FEATURES; 11];
    slots[EMPTY as usize] = EMPTY_FEATURES;
    slots[EMPTY as usize + 1] = EMPTY_FEATURES;
    slots[USE as usize] = USE_FEATURES;
    slots
};

type Shared = Arc<RwLock<Ring>>;

fn read(ring: &Shared) -> RwLockReadGuard<'_, Ring> {
    ring.read().unwrap_or_else(PoisonError::into_inner)
}

/// The suffix source of a speculator.
#[derive(Debug)]
pub struct Suffix {
    tenants: Mutex<VecDeque<(Option<String>, Shared)>>,
    groups: Mutex<VecDeque<(Scope, Shared)>>,
    fixed: Shared,
    max_bytes: usize,
}

impl Suffix {
    /// A source whose shared stores hold at most `max_bytes`: three quarters for the texts of each
    /// tenant, the rest for all groups in flight; static texts have as much of their own.
    pub fn new(max_bytes: usize) -> Self {
        Self {
            tenants: Mutex::default(),
            groups: Mutex::default(),
            fixed: Arc::new(RwLock::new(Ring::new(max_bytes))),
            max_bytes,
        }
    }

    fn tenant(&self, name: Option<&String>) -> Shared {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        recent(&mut tenants, &name.cloned(), TENANTS, self.max_bytes / 4 * 3)
    }

    fn view(&self, scope: &Scope, text: &[TokenId]) -> View {
        let store = |kind, ring: Shared| Store { kind, ring, version: u64::MAX };
        let mut view = View {
            local: Automaton::new(),
            cursor: Cursor::default(),
            past: VecDeque::new(),
            uses: Uses::default(),
            stores: self.group(scope).into_iter().map(|r| store(Kind::Group, r)).collect(),
            follows: Vec::new(),
            tail: Vec::new(),
            nodes: Vec::new(),
            cursors: Vec::new(),
            buffer: [Child::default(); NARROW],
        };
        view.stores.push(store(Kind::Tenant, self.tenant(scope.tenant.as_ref())));
        if !read(&self.fixed).generations().is_empty() {
            view.stores.push(store(Kind::Static, self.fixed.clone()));
        }
        view.append(text, false);
        view.local.keep_journal(UNDO);
        view
    }

    fn group(&self, scope: &Scope) -> Option<Shared> {
        scope.group.as_ref()?;
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        let ring = recent(&mut groups, scope, GROUPS, self.max_bytes / 8);
        // The groups opened longest ago go, until this one may fill its share.
        let mut bytes: usize = groups.iter().map(|(_, r)| read(r).memory()).sum();
        while bytes > self.max_bytes / 8 && groups.len() > 1 {
            bytes -= groups.pop_front().map_or(0, |(_, r)| read(&r).memory());
        }
        Some(ring)
    }
}

/// The ring of a key, moved to the end of a queue of the most recently opened ones.
fn recent<K: Clone + PartialEq>(
    queue: &mut VecDeque<(K, Shared)>,
    key: &K,
    limit: usize,
    max_bytes: usize,
) -> Shared {
    let found = queue.iter().position(|(k, _)| k == key).and_then(|at| queue.remove(at));
    let (key, ring) =
        found.unwrap_or_else(|| (key.clone(), Arc::new(RwLock::new(Ring::new(max_bytes)))));
    if queue.len() == limit {
        queue.pop_front();
    }
    queue.push_back((key, ring.clone()));
    ring
}

impl SharedSource for Suffix {
    fn name(&self) -> &'static str {
        "suffix"
    }

    fn slots(&self) -> &'static [usize] {
        &SLOTS
    }

    fn open(&self, scope: &Scope, text: &[TokenId]) -> Box<dyn RequestSource> {
        Box::new(self.view(scope, text))
    }

    fn memory(&self) -> usize {
        let tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        let groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        let rings = tenants.iter().map(|(_, r)| r).chain(groups.iter().map(|(_, r)| r));
        rings.chain([&self.fixed]).map(|r| read(r).memory()).sum()
    }

    fn save(&self) -> Saved {
        let (lens, tokens) = read(&self.tenant(None)).texts();
        Saved::from([("lens".into(), lens), ("tokens".into(), tokens)])
    }

    fn load(&self, saved: &Saved) -> Result<()> {
        let ring = restore(saved, self.max_bytes)?;
        *self.tenant(None).write().unwrap_or_else(PoisonError::into_inner) = ring;
        Ok(())
    }

    fn attach(&self, saved: &Saved) -> Result<()> {
        let ring = restore(saved, self.max_bytes)?;
        *self.fixed.write().unwrap_or_else(PoisonError::into_inner) = ring;
        Ok(())
    }
}

/// A ring of saved texts.
fn restore(saved: &Saved, max_bytes: usize) -> Result<Ring> {
    let part = |name: &str| {
        saved.get(name).ok_or_else(|| Error::input("store", format!("suffix.{name} is missing")))
    };
    let (lens, tokens) = (part("lens")?, part("tokens")?);
    if lens.iter().map(|&n| u64::from(n)).sum::<u64>() != tokens.len() as u64 {
        return Err(Error::input("store", "suffix.lens does not add up to suffix.tokens"));
    }
    let mut ring = Ring::new(max_bytes);
    let mut rest = tokens.as_slice();
    for &n in lens {
        let (text, after) = rest.split_at(n as usize);
        ring.ingest(text);
        rest = after;
    }
    Ok(ring)
}

/// A shared ring that a request follows.
#[derive(Debug, Clone)]
struct Store {
    kind: Kind,
    ring: Shared,
    /// Version of the ring when its generations were last looked up.
    version: u64,
}

/// A cursor into one generation of a shared ring.
#[derive(Debug, Clone, Copy)]
struct Follow {
    store: usize,
    generation: u64,
    cursor: Cursor,
}

/// A node of the tree being grown.
#[derive(Debug, Clone, Copy)]
struct Node {
    parent: u32,
    token: TokenId,
    /// Whether its cursors stand.
    moved: bool,
}

#[derive(Debug, Clone)]
struct View {
    local: Automaton,
    cursor: Cursor,
    /// The last tokens and the cursors before them, newest last.
    past: VecDeque<(Cursor, TokenId)>,
    uses: Uses,
    stores: Vec<Store>,
    /// By store; within one the newest generation first.
    follows: Vec<Follow>,
    /// The last tokens of the text, to warm cursors of new generations.
    tail: Vec<TokenId>,
    nodes: Vec<Node>,
    /// Cursors of the nodes, `1 + follows` a node: local first. A node's cursors move when its
    /// continuations are first asked for: most nodes are leaves.
    cursors: Vec<Cursor>,
    /// Working memory of a look-up.
    buffer: [Child; NARROW],
}

impl View {
    fn append(&mut self, tokens: &[TokenId], remember: bool) {
        for &t in tokens {
            if remember {
                if self.past.len() == UNDO {
                    self.past.pop_front();
                }
                self.past.push_back((self.cursor, t));
            }
            self.uses.add(t);
            self.cursor = self.local.advance(self.cursor, t);
            self.local.append(t);
            self.cursor = self.local.settle(self.cursor);
        }
        for f in &mut self.follows {
            f.cursor = read(&self.stores[f.store].ring)
                .get(f.generation)
                .map_or_else(Cursor::default, |a| follow(a, f.cursor, tokens));
        }
        self.tail.extend_from_slice(&tokens[tokens.len().saturating_sub(CONTEXT)..]);
        let surplus = self.tail.len().saturating_sub(CONTEXT);
        self.tail.drain(..surplus);
        self.nodes.clear();
    }

    /// Follows the generations that exist now.
    fn refresh(&mut self) {
        let stale = |s: &Store| read(&s.ring).version() != s.version;
        if !self.stores.iter().any(stale) {
            return;
        }
        let old = std::mem::take(&mut self.follows);
        for (store, s) in self.stores.iter_mut().enumerate() {
            let ring = read(&s.ring);
            s.version = ring.version();
            for g in ring.generations().iter().rev() {
                let known = old.iter().find(|f| f.store == store && f.generation == g.id);
                let cursor = known.map_or_else(
                    || follow(&g.automaton, Cursor::default(), &self.tail),
                    |f| f.cursor,
                );
                self.follows.push(Follow { store, generation: g.id, cursor });
            }
        }
    }
}

/// A cursor after more tokens of its text.
fn follow(a: &Automaton, from: Cursor, tokens: &[TokenId]) -> Cursor {
    tokens.iter().fold(from, |c, &t| a.advance(c, t))
}

impl RequestSource for View {
    fn commit(&mut self, tokens: &[TokenId]) {
        self.append(tokens, true);
    }

    fn rollback(&mut self, left: &[TokenId], n: usize) {
        self.follows.clear();
        self.stores.iter_mut().for_each(|s| s.version = u64::MAX);
        self.nodes.clear();
        if n <= self.past.len() && self.local.undo(n) {
            let kept = self.past.len() - n;
            self.cursor = self.past.get(kept).map_or(self.cursor, |p| p.0);
            self.past.drain(kept..).for_each(|(_, t)| self.uses.remove(t));
            self.tail = left[left.len().saturating_sub(CONTEXT)..].to_vec();
        } else {
            // Beyond the journal: rebuild, amortised a quarter of a microsecond a token.
            self.local = Automaton::new();
            self.cursor = Cursor::default();
            self.past.clear();
            self.uses = Uses::default();
            self.tail.clear();
            self.append(left, false);
            self.local.keep_journal(UNDO);
        }
    }

    fn fork(&self) -> Box<dyn RequestSource> {
        Box::new(self.clone())
    }

    fn root(&mut self, last: TokenId) {
        self.refresh();
        self.nodes.clear();
        self.nodes.push(Node { parent: 0, token: last, moved: true });
        self.cursors.clear();
        self.cursors.push(self.cursor);
        self.cursors.extend(self.follows.iter().map(|f| f.cursor));
    }

    fn node(&mut self, parent: usize, token: TokenId) {
        self.nodes.push(Node { parent: parent as u32, token, moved: false });
    }

    fn candidates(&mut self, node: usize, depth: usize, out: &mut Candidates) {
        let Node { parent, token, moved } = self.nodes[node];
        let width = 1 + self.follows.len();
        let (own, above) = (node * width, parent as usize * width);
        if self.cursors.len() < own + width {
            self.cursors.resize((own + width).max(self.nodes.len() * width), Cursor::default());
        }
        let buffer = &mut self.buffer;
        // The parent was asked before: its cursors stand.
        if !moved {
            self.cursors[own] = self.local.advance(self.cursors[above], token);
        }
        continuations(&self.local, self.cursors[own], Kind::Local, buffer, out);
        for (i, f) in self.follows.iter().enumerate() {
            let store = &self.stores[f.store];
            let ring = read(&store.ring);
            let Some(a) = ring.get(f.generation) else { continue };
            if !moved {
                self.cursors[own + 1 + i] = a.advance(self.cursors[above + 1 + i], token);
            }
            continuations(a, self.cursors[own + 1 + i], store.kind, buffer, out);
        }
        self.nodes[node].moved = true;
        if depth < EMPTY_LEVELS {
            frequent(&self.local, EMPTY, out);
            for f in &self.follows {
                let store = &self.stores[f.store];
                if store.kind == Kind::Tenant
                    && let Some(a) = read(&store.ring).get(f.generation)
                {
                    frequent(a, EMPTY + 1, out);
                }
            }
        }
        own_use(&self.uses, self.local.len(), out);
    }

    fn finish(&mut self, text: &[TokenId], prompt_len: usize) {
        let start = prompt_len.saturating_sub(CONTEXT);
        for store in self.stores.iter().filter(|s| s.kind != Kind::Static) {
            let mut ring = store.ring.write().unwrap_or_else(PoisonError::into_inner);
            ring.ingest(&text[start..]);
        }
    }

    fn memory(&self) -> usize {
        self.local.memory()
            + self.past.capacity() * size_of::<(Cursor, TokenId)>()
            + self.cursors.capacity() * size_of::<Cursor>()
            + self.uses.memory()
            + self.nodes.capacity() * size_of::<Node>()
            + self.follows.capacity() * size_of::<Follow>()
    }
}

/// Continuations of one store at one cursor: slot `kind` from the longest match, [`SHORTER`]` + kind`
/// from the longest of the shorter ones that names the token.
fn continuations(
    a: &Automaton,
    cursor: Cursor,
    kind: Kind,
    buffer: &mut [Child; NARROW],
    out: &mut Candidates,
) {
    let mut at = a.settle(cursor);
    let mut slot = kind as u8;
    let mut belief = 1.0;
    // The children of one state are distinct: without earlier ones nothing is named twice.
    let mut first = out.tokens().is_empty();
    for _ in 0..ORDERS {
        if at.len == 0 {
            break;
        }
        let Continuations { list, newest, total } = a.continuations(at.state, buffer);
        let weight = belief / (total as f32 + escape(at.len));
        let common = (out.floor() * total as f32) as u32;
        let situation = (length_class(at.len) * SHARES * 3 + evidence_class(total)) * 4;
        for (rank, child) in list[..list.len().min(CHILDREN)].iter().enumerate() {
            let known = if first { None } else { out.position(child.token) };
            if known.is_none() && child.count < common {
                continue;
            }
            let place = u16::from(rank > 0) * 2 + u16::from(rank != newest);
            let feature = situation + share_class(child.count, total) * 12 + place;
            let prior = child.count as f32 * weight;
            match known {
                Some(named) => out.piece(named, slot, feature, prior),
                None => out.enter(child.token, slot, feature, prior),
            }
        }
        let Some(shorter) = a.shorter(at) else { break };
        at = shorter;
        slot = SHORTER + kind as u8;
        belief = 0.5;
        first = false;
    }
}

/// The most frequent tokens of a store: right often enough to be worth nodes that would otherwise
/// stay empty.
fn frequent(a: &Automaton, slot: u8, out: &mut Candidates) {
    let total = a.len() as u32 + 8;
    let mut buffer = [Child::default(); NARROW];
    for (rank, child) in a.continuations(0, &mut buffer).list.iter().enumerate() {
        // Shares above 1/2, 1/4, ... 1/64 and below.
        let magnitude = (total / child.count.max(1)).ilog2().min(7);
        let feature = (rank * 8) as u16 + magnitude as u16;
        out.say(child.token, slot, feature, 0.5 * child.count as f32 / total as f32);
    }
}

/// How often the own text, of `size` tokens, has used each token, beside the strongest slot that
/// named it.
fn own_use(uses: &Uses, size: usize, out: &mut Candidates) {
    let bits = (usize::BITS - size.leading_zeros()).min(13) as u16;
    let share = 1.0 / (size as f32 + 50.0);
    out.say_of_each(USE, |strongest, token| {
        let count = uses.count(token).min(17);
        let class = USE_CLASS[count as usize] + 7 * strongest.min(7) as u16;
        (class * 14 + bits, (count as f32 + 0.05) * share)
    });
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

/// Class of a number of uses, below 7: 0, 1, 2, 3-4, 5-8, 9-16 and more.
const USE_CLASS: [u16; 18] = [0, 1, 2, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 5, 5, 5, 5, 6];

/// Class of a match length, below 8.
fn length_class(len: u32) -> u16 {
    match len {
        0..=1 => 0,
        2 => 1,
        3..=4 => 2,
        5..=8 => 3,
        9..=16 => 4,
        17..=32 => 5,
        33..=64 => 6,
        _ => 7,
    }
}

/// Class of the share `count / total`, below [`SHARES`]: the bounds it reaches of 1/10, 1/4, 1/2, 3/4 and
/// 1.
fn share_class(count: u32, total: u32) -> u16 {
    if count >= total {
        return 5;
    }
    let (c, t) = (u64::from(count), u64::from(total));
    u16::from(10 * c >= t)
        + u16::from(4 * c >= t)
        + u16::from(2 * c >= t)
        + u16::from(4 * c >= 3 * t)
}

/// Class of the amount of evidence, below 3.
fn evidence_class(total: u32) -> u16 {
    match total {
        0..=1 => 0,
        2..=3 => 1,
        _ => 2,
    }
}

#[cfg(test)]
mod oracle;

#[cfg(test)]
mod tests {
    use super::super::Candidate;
    use super::*;

    fn best(view: &mut dyn RequestSource, last: TokenId) -> Vec<TokenId> {
        view.root(last);
        let mut merged = Candidates::default();
        view.candidates(0, 0, &mut merged);
        // Matches only, not the frequent tokens.
        let mut out: Vec<Candidate> = merged.iter().filter(|c| c.slot < EMPTY).collect();
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
        let s = Suffix::new(60_000);
        for i in 0..1000u32 {
            let mut v = s.open(&Scope::default(), &[1000 + i]);
            v.finish(&[1000 + i, 1, 2, 3, 4, 5], 1);
        }
        assert!(s.memory() <= 60_000);
        let mut old = s.open(&Scope::default(), &[1000]);
        assert!(best(old.as_mut(), 1000).is_empty());
        let mut new = s.open(&Scope::default(), &[1999]);
        assert_eq!(best(new.as_mut(), 1999), [1]);
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
