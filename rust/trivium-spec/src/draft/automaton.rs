//! A flat suffix automaton with counts over several texts, and cursors that follow new text.
//!
//! A state is a class of substrings with the same end positions; `count` is how many, `last_end` the
//! most recent. Appending a token is amortised O(1) edge operations (Blumer et al. 1985) plus one
//! walk up the suffix links to count the new end (mean depth 5 to 7 on text, capped at
//! [`COUNT_WALK`]; beyond the cap counts are lower bounds, which only costs draft quality).
//!
//! Layout, per token of text: 1.7 states of 24 bytes, 2 edges of 12 bytes in per-state lists, newest
//! first. Nearly every state has one edge, so a list is the fastest table; states with more than
//! [`LIST`] edges are also entered into one hash table keyed by (state, token).
//!
//! A [`Cursor`] is the longest suffix of the followed text that occurs in the automaton. It is moved
//! *before* its text is appended, so it never matches the open suffix itself; after an append a
//! clone may have split its state, which [`Automaton::settle`] repairs.

use rustc_hash::FxHashMap;
use trivium_core::TokenId;

/// Longest walk up the suffix links that counts a new end position.
pub const COUNT_WALK: usize = 256;

/// Edges of a state beyond which lookups go through the hash table.
const LIST: u32 = 4;

const NONE: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
struct State {
    len: u32,
    link: u32,
    count: u32,
    last_end: u32,
    first_edge: u32,
    degree: u32,
}

#[derive(Debug, Clone, Copy)]
struct Edge {
    token: TokenId,
    target: u32,
    next: u32,
}

/// Suffix automaton of all texts appended so far. State 0 is the empty string.
#[derive(Debug, Clone)]
pub struct Automaton {
    states: Vec<State>,
    edges: Vec<Edge>,
    table: FxHashMap<u64, u32>,
    last: u32,
    tokens: u32,
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
        let root = State { len: 0, link: NONE, count: 0, last_end: 0, first_edge: NONE, degree: 0 };
        Self {
            states: vec![root],
            edges: Vec::new(),
            table: FxHashMap::default(),
            last: 0,
            tokens: 0,
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

    /// Bytes held, hash table included.
    pub fn memory(&self) -> usize {
        self.states.capacity() * size_of::<State>()
            + self.edges.capacity() * size_of::<Edge>()
            + self.table.capacity() * 13
    }

    /// Starts another text: the next token follows nothing.
    pub fn separate(&mut self) {
        self.last = 0;
    }

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

    fn add_edge(&mut self, state: u32, token: TokenId, target: u32) {
        let e = self.edges.len() as u32;
        let s = &mut self.states[state as usize];
        self.edges.push(Edge { token, target, next: s.first_edge });
        s.first_edge = e;
        s.degree += 1;
        if s.degree == LIST + 1 {
            let mut i = e;
            while i != NONE {
                let edge = self.edges[i as usize];
                self.table.insert(key(state, edge.token), i);
                i = edge.next;
            }
        } else if s.degree > LIST {
            self.table.insert(key(state, token), e);
        }
    }

    fn copy_edges(&mut self, from: u32, to: u32) {
        // Oldest first, so that the copy's list has the same order.
        let mut list = Vec::new();
        let mut e = self.states[from as usize].first_edge;
        while e != NONE {
            let edge = self.edges[e as usize];
            list.push((edge.token, edge.target));
            e = edge.next;
        }
        for (token, target) in list.into_iter().rev() {
            self.add_edge(to, token, target);
        }
    }

    fn clone_state(&mut self, q: u32, len: u32) -> u32 {
        let clone = self.states.len() as u32;
        let old = self.states[q as usize];
        self.states.push(State { len, first_edge: NONE, degree: 0, ..old });
        self.copy_edges(q, clone);
        self.states[q as usize].link = clone;
        clone
    }

    /// Redirects edges `token -> q` to `clone` from `p` up the links.
    fn redirect(&mut self, mut p: u32, token: TokenId, q: u32, clone: u32) {
        while p != NONE {
            match self.edge_index(p, token) {
                Some(e) if self.edges[e].target == q => self.edges[e].target = clone,
                _ => break,
            }
            p = self.states[p as usize].link;
        }
    }

    /// Appends a token to the current text. Amortised O(1) edge operations.
    pub fn append(&mut self, token: TokenId) {
        let last = self.last;
        let len = self.states[last as usize].len + 1;
        let current = if let Some(q) = self.step(last, token) {
            // Only after a separator: the substring exists from an earlier text.
            if self.states[q as usize].len == len {
                q
            } else {
                let clone = self.clone_state(q, len);
                self.redirect(last, token, q, clone);
                clone
            }
        } else {
            let current = self.states.len() as u32;
            self.states.push(State {
                len,
                link: 0,
                count: 0,
                last_end: 0,
                first_edge: NONE,
                degree: 0,
            });
            let mut p = last;
            let mut next = None;
            while p != NONE {
                next = self.step(p, token);
                if next.is_some() {
                    break;
                }
                self.add_edge(p, token, current);
                p = self.states[p as usize].link;
            }
            let link = match next {
                None => 0,
                Some(q) => {
                    let want = self.states[p as usize].len + 1;
                    if self.states[q as usize].len == want {
                        q
                    } else {
                        let clone = self.clone_state(q, want);
                        self.redirect(p, token, q, clone);
                        clone
                    }
                }
            };
            self.states[current as usize].link = link;
            current
        };
        self.last = current;
        self.tokens += 1;
        let mut s = current;
        for _ in 0..COUNT_WALK {
            if s == 0 {
                break;
            }
            let state = &mut self.states[s as usize];
            state.count += 1;
            state.last_end = self.tokens;
            s = state.link;
        }
        self.states[0].count += 1;
    }

    /// Moves a cursor by one token of its text. Amortised O(1).
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
    pub fn shorter(&self, cursor: Cursor) -> Option<Cursor> {
        if cursor.state == 0 {
            return None;
        }
        let state = self.states[cursor.state as usize].link;
        Some(Cursor { state, len: self.states[state as usize].len })
    }

    /// Occurrences of a state's substrings (a lower bound for degenerate texts).
    pub fn count(&self, state: u32) -> u32 {
        self.states[state as usize].count
    }

    /// End of the most recent occurrence: tokens appended up to and with it.
    pub fn last_end(&self, state: u32) -> u32 {
        self.states[state as usize].last_end
    }

    /// Continuations of a state, newest edge first: token and state.
    pub fn children(&self, state: u32) -> impl Iterator<Item = (TokenId, u32)> + '_ {
        let mut e = self.states[state as usize].first_edge;
        std::iter::from_fn(move || {
            (e != NONE).then(|| {
                let edge = self.edges[e as usize];
                e = edge.next;
                (edge.token, edge.target)
            })
        })
    }
}

fn key(state: u32, token: TokenId) -> u64 {
    u64::from(state) << 32 | u64::from(token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ends(texts: &[Vec<u32>], needle: &[u32]) -> Vec<u32> {
        let mut base = 0;
        let mut out = Vec::new();
        for text in texts {
            for end in needle.len()..=text.len() {
                if &text[end - needle.len()..end] == needle {
                    out.push(base + end as u32);
                }
            }
            base += text.len() as u32;
        }
        out
    }

    fn find(a: &Automaton, needle: &[u32]) -> Option<u32> {
        needle.iter().try_fold(0, |s, &t| a.step(s, t))
    }

    fn check(a: &Automaton, texts: &[Vec<u32>]) {
        for text in texts {
            for start in 0..text.len() {
                for end in start + 1..=text.len() {
                    let needle = &text[start..end];
                    let want = ends(texts, needle);
                    let state = find(a, needle).expect("every substring has a state");
                    assert_eq!(a.count(state) as usize, want.len(), "{texts:?} {needle:?}");
                    assert_eq!(a.last_end(state), *want.last().unwrap(), "{texts:?} {needle:?}");
                }
            }
        }
    }

    #[test]
    fn all_short_texts_match_the_naive_counts_after_each_append() {
        for n in 1..=9usize {
            for bits in 0..1u32 << n {
                let text: Vec<u32> = (0..n).map(|i| bits >> i & 1).collect();
                let mut a = Automaton::new();
                for i in 0..n {
                    a.append(text[i]);
                    if i + 1 == n {
                        check(&a, &[text[..=i].to_vec()]);
                    }
                }
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

        #[test]
        fn wide_states_use_the_table(text in prop::collection::vec(0u32..40, 1..400)) {
            let mut a = Automaton::new();
            text.iter().for_each(|&t| a.append(t));
            for w in text.windows(2) {
                prop_assert!(find(&a, w).is_some());
            }
            let distinct: std::collections::BTreeSet<_> = text.iter().collect();
            prop_assert_eq!(a.children(0).count(), distinct.len());
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
