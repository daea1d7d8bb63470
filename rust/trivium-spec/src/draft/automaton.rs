//! A flat suffix automaton with counts over several texts, and cursors that follow new text.
//!
//! A state is a class of substrings with the same end positions; `count` is how many. Appending a
//! token is amortised O(1) edge operations (Blumer et al. 1985) plus one walk up the suffix links to
//! count the new end and its edges (mean depth 5 to 7 on text, capped at [`COUNT_WALK`]; beyond the
//! cap counts are lower bounds, which only costs draft quality).
//!
//! What a drafter asks of a state is its most frequent continuations, so counts stand beside the
//! edges and no lookup touches a child. A state of at most [`LIST`] edges keeps them in a list, the
//! last used first. A wider one (a few in a hundred) is entered into a hash table keyed by (state,
//! token) and keeps its [`TOP`] most frequent continuations sorted while counts grow.
//!
//! Layout, per token of text: 1.6 states of 24 bytes, 2 edges of 16 bytes, and the wide states. With
//! growth by eighths about 85 bytes a token.
//!
//! A [`Cursor`] is the longest suffix of the followed text that occurs in the automaton. It is moved
//! *before* its text is appended, so it never matches the open suffix itself; after an append a
//! clone may have split its state, which [`Automaton::settle`] repairs.

use super::undo::Journal;
use rustc_hash::FxHashMap;
use trivium_core::TokenId;

/// Longest walk up the suffix links that counts a new end position.
pub const COUNT_WALK: usize = 256;

/// Edges of a state beyond which lookups go through the hash table.
const LIST: u32 = NARROW as u32;

/// Most continuations of a narrow state.
pub const NARROW: usize = 8;

/// Continuations that a wide state keeps sorted.
pub const TOP: usize = 12;

const NONE: u32 = u32::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State {
    len: u32,
    link: u32,
    count: u32,
    first_edge: u32,
    degree: u32,
    /// Index into the sorted continuations, for wide states.
    wide: u32,
}

impl State {
    fn new(len: u32) -> Self {
        Self { len, link: 0, count: 0, first_edge: NONE, degree: 0, wide: NONE }
    }
}

/// `count` is kept for states of at most [`LIST`] edges; wide states have [`Wide`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Edge {
    token: TokenId,
    target: u32,
    count: u32,
    next: u32,
}

/// One continuation of a state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Child {
    /// Occurrences of the state's longest string followed by the token.
    pub count: u32,
    /// The token.
    pub token: TokenId,
    /// The state it leads to.
    pub state: u32,
}

/// What follows a state, most frequent first; among equals the one seen last.
#[derive(Debug, Clone, Copy)]
pub struct Continuations<'a> {
    /// All of a narrow state, the [`TOP`] most frequent of a wide one.
    pub list: &'a [Child],
    /// Index of the one seen last; beyond the list if it is not in it.
    pub newest: usize,
    /// Occurrences that they are shares of: without the open end of a text in a narrow state.
    pub total: u32,
}

/// The most frequent continuations of a wide state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Children {
    list: [Child; TOP],
    len: u8,
    /// Index of the one seen last, `u8::MAX` if it is not in the list.
    newest: u8,
}

impl Default for Children {
    fn default() -> Self {
        Self { list: [Child::default(); TOP], len: 0, newest: u8::MAX }
    }
}

impl Children {
    /// Most frequent first; among equals the one seen last.
    #[inline]
    fn as_slice(&self) -> &[Child] {
        &self.list[..usize::from(self.len)]
    }

    /// Enters a continuation that now has `child.count` occurrences and is the newest.
    fn bump(&mut self, child: Child) {
        let n = usize::from(self.len);
        let mut at = match self.as_slice().iter().position(|c| c.token == child.token) {
            Some(at) => at,
            None if n < TOP => {
                self.len += 1;
                n
            }
            None if self.list[TOP - 1].count <= child.count => TOP - 1,
            None => {
                self.newest = u8::MAX;
                return;
            }
        };
        while at > 0 && self.list[at - 1].count <= child.count {
            self.list[at] = self.list[at - 1];
            at -= 1;
        }
        self.list[at] = child;
        self.newest = at as u8;
    }

    /// Enters an older continuation: behind its equals.
    #[inline]
    fn insert_older(&mut self, child: Child) {
        let n = usize::from(self.len);
        let at = self.as_slice().partition_point(|c| c.count >= child.count);
        if at == TOP {
            return;
        }
        let end = n.min(TOP - 1);
        self.list.copy_within(at..end, at + 1);
        self.list[at] = child;
        self.len = (n + 1).min(TOP) as u8;
        if self.newest != u8::MAX && usize::from(self.newest) >= at {
            self.newest =
                if usize::from(self.newest) + 1 < TOP { self.newest + 1 } else { u8::MAX };
        }
    }
}

/// Suffix automaton of all texts appended so far. State 0 is the empty string.
#[derive(Debug, Clone)]
pub struct Automaton {
    pub(super) states: Vec<State>,
    pub(super) edges: Vec<Edge>,
    pub(super) wide: Vec<Children>,
    pub(super) table: FxHashMap<u64, u32>,
    pub(super) last: u32,
    pub(super) tokens: u32,
    pub(super) journal: Option<Box<Journal>>,
}

/// The longest suffix of some text that occurs in an automaton: its state and its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cursor {
    /// State of the match.
    pub state: u32,
    /// Length of the match; at most `len` of the state, more than `len` of its link.
    pub len: u32,
}

impl Default for Automaton {
    fn default() -> Self {
        Self::new()
    }
}

impl Automaton {
    /// The automaton of no text.
    pub fn new() -> Self {
        Self {
            states: vec![State { link: NONE, ..State::new(0) }],
            edges: Vec::new(),
            wide: Vec::new(),
            table: FxHashMap::default(),
            last: 0,
            tokens: 0,
            journal: None,
        }
    }

    /// Tokens appended, over all texts.
    pub fn len(&self) -> usize {
        self.tokens as usize
    }

    /// Whether nothing was appended.
    pub fn is_empty(&self) -> bool {
        self.tokens == 0
    }

    /// Bytes held, hash table and journal included.
    pub fn memory(&self) -> usize {
        self.states.capacity() * size_of::<State>()
            + self.edges.capacity() * size_of::<Edge>()
            + self.wide.capacity() * size_of::<Children>()
            + table_bytes(self.table.capacity())
            + self.journal.as_ref().map_or(0, |j| j.memory())
    }

    /// Bytes that appending `tokens` tokens may add at most.
    pub(super) fn growth(&self, tokens: usize) -> usize {
        let vector = |len: usize, capacity: usize, each: usize, item: usize| {
            let need = len + tokens * each;
            if need <= capacity { 0 } else { (need + step(need) - capacity) * item }
        };
        let entries = self.table.len() + tokens * 4;
        vector(self.states.len(), self.states.capacity(), 2, size_of::<State>())
            + vector(self.edges.len(), self.edges.capacity(), 4, size_of::<Edge>())
            + vector(self.wide.len() + tokens / 4, self.wide.capacity(), 0, size_of::<Children>())
            + table_bytes(entries).saturating_sub(table_bytes(self.table.capacity()))
    }

    /// Starts another text: the next token follows nothing.
    pub fn separate(&mut self) {
        self.last = 0;
    }

    /// From now on the last `capacity` appends can be undone.
    pub fn keep_journal(&mut self, capacity: usize) {
        self.journal = Some(Box::new(Journal::new(capacity)));
    }

    #[inline]
    fn edge_index(&self, state: u32, token: TokenId) -> Option<usize> {
        let s = &self.states[state as usize];
        if s.degree > LIST {
            return self.table.get(&key(state, token)).map(|&e| e as usize);
        }
        let mut e = s.first_edge;
        while e != NONE {
            let edge = &self.edges[e as usize];
            if edge.token == token {
                return Some(e as usize);
            }
            e = edge.next;
        }
        None
    }

    /// The state after `token`, if that substring occurs.
    #[inline]
    pub fn step(&self, state: u32, token: TokenId) -> Option<u32> {
        self.edge_index(state, token).map(|e| self.edges[e].target)
    }

    fn state_mut(&mut self, state: u32) -> &mut State {
        if let Some(j) = &mut self.journal {
            j.state(state, self.states[state as usize]);
        }
        &mut self.states[state as usize]
    }

    fn edge_mut(&mut self, edge: usize) -> &mut Edge {
        if let Some(j) = &mut self.journal {
            j.edge(edge as u32, self.edges[edge]);
        }
        &mut self.edges[edge]
    }

    fn wide_mut(&mut self, wide: u32) -> &mut Children {
        if let Some(j) = &mut self.journal {
            j.wide(wide, &self.wide[wide as usize]);
        }
        &mut self.wide[wide as usize]
    }

    fn enter(&mut self, state: u32, token: TokenId, edge: u32) {
        self.table.insert(key(state, token), edge);
        if let Some(j) = &mut self.journal {
            j.entered(key(state, token));
        }
    }

    fn push_state(&mut self, state: State) -> u32 {
        grow_by_eighths(&mut self.states);
        self.states.push(state);
        self.states.len() as u32 - 1
    }

    fn add_edge(&mut self, state: u32, token: TokenId, target: u32, count: u32) {
        let e = self.edges.len() as u32;
        let s = self.state_mut(state);
        let next = s.first_edge;
        s.first_edge = e;
        s.degree += 1;
        let degree = s.degree;
        grow_by_eighths(&mut self.edges);
        self.edges.push(Edge { token, target, count, next });
        if degree == LIST + 1 {
            self.widen(state);
        } else if degree > LIST {
            self.enter(state, token, e);
        }
    }

    /// Turns the list of a state into table entries and sorted continuations.
    fn widen(&mut self, state: u32) {
        let mut children = Children::default();
        let mut e = self.states[state as usize].first_edge;
        while e != NONE {
            let edge = self.edges[e as usize];
            self.enter(state, edge.token, e);
            children.insert_older(Child {
                count: edge.count,
                token: edge.token,
                state: edge.target,
            });
            e = edge.next;
        }
        grow_by_eighths(&mut self.wide);
        self.wide.push(children);
        self.states[state as usize].wide = self.wide.len() as u32 - 1; // journalled by `add_edge`
    }

    fn clone_state(&mut self, q: u32, len: u32) -> u32 {
        let old = self.states[q as usize];
        let clone = self.push_state(State { count: old.count, link: old.link, ..State::new(len) });
        // Oldest first, so that the copy's list has the same order.
        let mut list = Vec::new();
        let mut e = old.first_edge;
        while e != NONE {
            let edge = self.edges[e as usize];
            list.push((edge.token, edge.target));
            e = edge.next;
        }
        for (token, target) in list.into_iter().rev() {
            let count = self.states[target as usize].count;
            self.add_edge(clone, token, target, count);
        }
        if old.wide != NONE {
            // The sorted list holds what the table's order of entry does not: use and frequency.
            let wide = self.states[clone as usize].wide;
            self.wide[wide as usize] = self.wide[old.wide as usize];
        }
        self.state_mut(q).link = clone;
        clone
    }

    /// Redirects edges `token -> q` to `clone` from `p` up the links.
    fn redirect(&mut self, mut p: u32, token: TokenId, q: u32, clone: u32) {
        while p != NONE {
            match self.edge_index(p, token) {
                Some(e) if self.edges[e].target == q => self.edge_mut(e).target = clone,
                _ => break,
            }
            let State { wide, link, .. } = self.states[p as usize];
            if wide != NONE
                && let Some(at) =
                    self.wide[wide as usize].as_slice().iter().position(|c| c.state == q)
            {
                self.wide_mut(wide).list[at].state = clone;
            }
            p = link;
        }
    }

    /// The state of the current text with one more token, its link set.
    fn extend(&mut self, token: TokenId) -> u32 {
        let last = self.last;
        let len = self.states[last as usize].len + 1;
        if let Some(q) = self.step(last, token) {
            // Only after a separator: the substring exists from an earlier text.
            if self.states[q as usize].len == len {
                return q;
            }
            let clone = self.clone_state(q, len);
            self.redirect(last, token, q, clone);
            return clone;
        }
        let current = self.push_state(State::new(len));
        let mut p = last;
        let mut next = None;
        while p != NONE {
            next = self.step(p, token);
            if next.is_some() {
                break;
            }
            self.add_edge(p, token, current, 0);
            p = self.states[p as usize].link;
        }
        if let Some(q) = next {
            let want = self.states[p as usize].len + 1;
            let link = if self.states[q as usize].len == want {
                q
            } else {
                let clone = self.clone_state(q, want);
                self.redirect(p, token, q, clone);
                clone
            };
            self.states[current as usize].link = link;
        }
        current
    }

    /// Appends a token to the current text. Amortised O(1) edge operations.
    pub fn append(&mut self, token: TokenId) {
        if let Some(mut journal) = self.journal.take() {
            journal.begin(self);
            self.journal = Some(journal);
        }
        let last = self.last;
        let current = self.extend(token);
        self.last = current;
        self.tokens += 1;
        let mut s = current;
        for _ in 0..COUNT_WALK {
            if s == 0 {
                break;
            }
            let state = self.state_mut(s);
            state.count += 1;
            s = state.link;
        }
        self.state_mut(0).count += 1;
        self.count_edges(last, current, token);
    }

    /// Counts the edges `token` from the states of the old text's suffixes.
    fn count_edges(&mut self, last: u32, current: u32, token: TokenId) {
        let (mut p, mut s) = (last, current);
        for _ in 0..COUNT_WALK {
            let State { len, link, first_edge, wide, .. } = self.states[p as usize];
            // The state of p's strings followed by the token.
            loop {
                let up = self.states[s as usize].link;
                if up == NONE || self.states[up as usize].len <= len {
                    break;
                }
                s = up;
            }
            let count = self.states[s as usize].count;
            if wide == NONE {
                let (mut e, mut before) = (first_edge, NONE);
                while self.edges[e as usize].token != token {
                    before = e;
                    e = self.edges[e as usize].next;
                }
                let edge = self.edge_mut(e as usize);
                edge.count = count;
                if before != NONE {
                    let next = edge.next;
                    edge.next = first_edge;
                    self.edge_mut(before as usize).next = next;
                    self.state_mut(p).first_edge = e;
                }
            } else {
                self.wide_mut(wide).bump(Child { count, token, state: s });
            }
            if p == 0 {
                break;
            }
            p = link;
        }
    }

    /// Moves a cursor by one token of its text. Amortised O(1).
    #[inline]
    pub fn advance(&self, cursor: Cursor, token: TokenId) -> Cursor {
        let Cursor { mut state, mut len } = self.settle(cursor);
        loop {
            if let Some(next) = self.step(state, token) {
                return Cursor { state: next, len: len + 1 };
            }
            if state == 0 {
                return Cursor::default();
            }
            state = self.states[state as usize].link;
            len = self.states[state as usize].len;
        }
    }

    /// The same match after appends that may have split its state.
    #[inline]
    pub fn settle(&self, mut cursor: Cursor) -> Cursor {
        while cursor.state != 0 {
            let link = self.states[cursor.state as usize].link;
            if cursor.len > self.states[link as usize].len {
                break;
            }
            cursor.state = link;
        }
        cursor
    }

    /// The next shorter match with other end positions; `None` at the empty string.
    #[inline]
    pub fn shorter(&self, cursor: Cursor) -> Option<Cursor> {
        if cursor.state == 0 {
            return None;
        }
        let state = self.states[cursor.state as usize].link;
        Some(Cursor { state, len: self.states[state as usize].len })
    }

    /// Occurrences of a state's substrings (a lower bound for degenerate texts).
    #[inline]
    pub fn count(&self, state: u32) -> u32 {
        self.states[state as usize].count
    }

    /// What follows a state; that of a narrow one is collected in `buffer`.
    #[inline]
    pub fn continuations<'a>(
        &'a self,
        state: u32,
        buffer: &'a mut [Child; NARROW],
    ) -> Continuations<'a> {
        let s = &self.states[state as usize];
        if s.wide != NONE {
            let wide = &self.wide[s.wide as usize];
            let newest = usize::from(wide.newest);
            return Continuations { list: wide.as_slice(), newest, total: s.count };
        }
        let (mut n, mut newest, mut total) = (0, 0, 0);
        let mut e = s.first_edge;
        while e != NONE {
            let edge = &self.edges[e as usize];
            let child = Child { count: edge.count, token: edge.token, state: edge.target };
            // The list is in order of use: behind its equals.
            let mut at = n;
            while at > 0 && buffer[(at - 1) % NARROW].count < child.count {
                buffer[at % NARROW] = buffer[(at - 1) % NARROW];
                at -= 1;
            }
            buffer[at % NARROW] = child;
            newest += usize::from(n > 0 && at <= newest);
            total += child.count;
            n += 1;
            e = edge.next;
        }
        Continuations { list: &buffer[..n.min(NARROW)], newest, total }
    }
}

fn key(state: u32, token: TokenId) -> u64 {
    u64::from(state) << 32 | u64::from(token)
}

/// Growth by an eighth of large arrays: a store of a bounded number of bytes wastes few of them.
fn grow_by_eighths<T>(v: &mut Vec<T>) {
    if v.len() == v.capacity() {
        v.reserve_exact(step(v.len()));
    }
}

/// Items by which an array of `len` grows.
fn step(len: usize) -> usize {
    if len < 1024 { len.max(16) } else { (len / 8).max(1024) }
}

/// Bytes of a hash table that holds `capacity` entries at seven eighths: 16 an entry, one to find it.
fn table_bytes(capacity: usize) -> usize {
    if capacity == 0 { 0 } else { (capacity * 8 / 7).next_power_of_two() * 17 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ends(texts: &[Vec<u32>], needle: &[u32]) -> usize {
        texts.iter().map(|t| t.windows(needle.len()).filter(|w| *w == needle).count()).sum()
    }

    fn find(a: &Automaton, needle: &[u32]) -> Option<u32> {
        needle.iter().try_fold(0, |s, &t| a.step(s, t))
    }

    /// Every substring has a state with its count, and the state's continuations have theirs.
    fn check(a: &Automaton, texts: &[Vec<u32>]) {
        for text in texts {
            for start in 0..text.len() {
                for end in start..=text.len() {
                    let needle = &text[start..end];
                    let state = find(a, needle).expect("every substring has a state");
                    if !needle.is_empty() {
                        assert_eq!(a.count(state) as usize, ends(texts, needle), "{needle:?}");
                    }
                    check_children(a, texts, needle, state);
                }
            }
        }
    }

    fn check_children(a: &Automaton, texts: &[Vec<u32>], needle: &[u32], state: u32) {
        let mut buffer = Default::default();
        let Continuations { list: got, newest: last, total } = a.continuations(state, &mut buffer);
        let mut want = std::collections::BTreeMap::new();
        let mut newest = None;
        for text in texts {
            for w in text.windows(needle.len() + 1) {
                if w[..needle.len()] == *needle {
                    *want.entry(w[needle.len()]).or_insert(0usize) += 1;
                    newest = Some(w[needle.len()]);
                }
            }
        }
        assert_eq!(got.len(), want.len().min(TOP), "{texts:?} {needle:?}");
        assert!(got.windows(2).all(|w| w[0].count >= w[1].count), "{texts:?} {needle:?} {got:?}");
        for (rank, c) in got.iter().enumerate() {
            assert_eq!(want[&c.token], c.count as usize, "{texts:?} {needle:?}");
            assert_eq!(a.step(state, c.token), Some(c.state));
            assert_eq!(rank == last, newest == Some(c.token), "{texts:?} {needle:?}");
        }
        let least = got.last().map_or(0, |c| c.count as usize);
        let out = want.iter().filter(|(t, _)| got.iter().all(|c| c.token != **t));
        assert!(out.into_iter().all(|(_, &n)| n <= least), "{texts:?} {needle:?}");
        if want.len() <= NARROW {
            assert_eq!(total as usize, want.values().sum::<usize>());
        } else {
            assert_eq!(total, a.count(state));
        }
    }

    #[test]
    fn all_short_texts_match_the_naive_counts() {
        for n in 1..=9usize {
            for bits in 0..1u32 << n {
                let text: Vec<u32> = (0..n).map(|i| bits >> i & 1).collect();
                let mut a = Automaton::new();
                text.iter().for_each(|&t| a.append(t));
                check(&a, &[text]);
            }
        }
    }

    /// Length of the longest suffix of `text[..n]` that occurs ending before `n`.
    fn longest_earlier_suffix(text: &[u32], n: usize) -> usize {
        (0..n).rev().find(|&l| (l..n).any(|end| text[end - l..end] == text[n - l..n])).unwrap_or(0)
    }

    proptest! {
        #[test]
        fn several_texts_match_the_naive_counts(
            texts in prop::collection::vec(prop::collection::vec(0u32..3, 1..12), 1..5),
        ) {
            let mut a = Automaton::new();
            for text in &texts {
                a.separate();
                text.iter().for_each(|&t| a.append(t));
            }
            check(&a, &texts);
            prop_assert!(find(&a, &[9]).is_none());
        }

        #[test]
        fn wide_states_match_the_naive_counts(
            texts in prop::collection::vec(prop::collection::vec(0u32..18, 1..90), 1..4),
        ) {
            let mut a = Automaton::new();
            for text in &texts {
                a.separate();
                text.iter().for_each(|&t| a.append(t));
            }
            let tokens: std::collections::BTreeSet<u32> = texts.iter().flatten().copied().collect();
            check_children(&a, &texts, &[], 0);
            for t in tokens {
                check_children(&a, &texts, &[t], find(&a, &[t]).unwrap());
            }
        }

        #[test]
        fn a_cursor_is_the_longest_earlier_suffix(text in prop::collection::vec(0u32..3, 1..60)) {
            let mut a = Automaton::new();
            let mut c = Cursor::default();
            for (i, &t) in text.iter().enumerate() {
                c = a.advance(c, t);
                prop_assert_eq!(c.len as usize, longest_earlier_suffix(&text, i + 1));
                a.append(t);
                c = a.settle(c);
                // The state still means the matched string.
                let needle = &text[i + 1 - c.len as usize..=i];
                prop_assert_eq!(find(&a, needle), Some(c.state));
            }
        }
    }

    #[test]
    fn degenerate_text_stays_linear() {
        let mut a = Automaton::new();
        let mut c = Cursor::default();
        for _ in 0..20_000 {
            c = a.advance(c, 7);
            a.append(7);
            c = a.settle(c);
        }
        assert_eq!(c.len, 19_999);
        assert!(a.memory() < 20_000 * 100);
    }
}
