//! The walk's own copy of a token trie: 12 bytes a node, a cache line holds five.
//!
//! Depth-first, children after their parent; `end` skips a subtree. Nearly every node that ends a
//! token ends exactly one, so it is stored in the node; ids with equal bytes go to a side list.
//!
//! A flat trie is the whole vocabulary, what is left of a subtree of it after a slice was taken out,
//! or several subtrees joined. What a slice leaves untouched is not copied: a *link* stands for a
//! subtree of the whole trie. Nodes with many nodes below them are *big*: a walk that arrives there
//! may use a slice of that subtree instead of visiting it.

use crate::automata::dfa::Automaton;
use crate::automata::table::{DEAD, Row, StateId};
use crate::error::Result;
use rustc_hash::FxHashMap;
use trivium_core::{TokenId, Trie};

/// No token ends at the node.
const NONE: TokenId = TokenId::MAX;

/// Nodes below a big node, unless the vocabulary is small.
const BIG: usize = 4096;

/// More tokens of these bytes are in `more`.
const MANY: u8 = 1;
/// See the module comment.
const LARGE: u8 = 2;
/// The subtree is that of the whole trie.
const LINK: u8 = 4;
/// The children are indexed.
const FORKED: u8 = 8;

/// Children of a node from which on they are indexed; fewer are looked through.
const MOST_LISTED: usize = 8;

#[derive(Debug, Clone, Copy)]
struct Node {
    end: u32,
    token: TokenId,
    byte: u8,
    depth: u8,
    flags: u8,
}

/// What [`Flat::scan`] tells. Nodes are named as in the whole trie.
pub(crate) trait Visit {
    /// A token whose bytes are live, and the state behind it.
    fn token(&mut self, token: TokenId, state: StateId);
    /// A node with others below it, and the state there.
    fn inner(&mut self, node: usize, state: StateId) -> Result<()>;
    /// Does the subtree of a big node or declines. Its own tokens are already told.
    fn shortcut(&mut self, node: usize, state: StateId) -> Result<bool>;
}

/// See the module comment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flat {
    /// The first node is the root: its byte was read before the walk starts, its token is not set.
    nodes: Vec<Node>,
    /// (node, token) for the second and later tokens of a node, sorted.
    more: Vec<(u32, TokenId)>,
    /// Nodes of the whole trie; empty if this is the whole trie.
    origins: Vec<u32>,
    /// Children of nodes with many, by byte; of the whole trie only.
    forks: FxHashMap<u32, Box<[(u8, u32)]>>,
    /// Nodes below a big node, at least.
    big_from: usize,
    max_depth: usize,
}

impl Flat {
    /// A copy of `trie` in the layout of the walk.
    pub(crate) fn new(trie: &Trie) -> Self {
        let big_from = BIG.min(trie.len() / 8).max(1);
        let mut out = Self { max_depth: trie.max_depth(), big_from, ..Self::default() };
        out.nodes.reserve_exact(trie.len());
        for i in 0..trie.len() {
            let (first, rest) = match trie.tokens_at(i) {
                [] => (NONE, &[][..]),
                [first, rest @ ..] => (*first, rest),
            };
            out.more.extend(rest.iter().map(|&t| (i as u32, t)));
            let large = if trie.end(i) - i > big_from { LARGE } else { 0 };
            out.nodes.push(Node {
                end: trie.end(i) as u32,
                token: first,
                byte: trie.byte(i),
                depth: trie.depth(i) as u8,
                flags: large | if rest.is_empty() { 0 } else { MANY },
            });
        }
        for node in 0..out.nodes.len() {
            if out.children(node).nth(MOST_LISTED).is_some() {
                let children = out.children(node).map(|(byte, child)| (byte, child as u32));
                let children = children.collect();
                out.forks.insert(node as u32, children);
                out.nodes[node].flags |= FORKED;
            }
        }
        out
    }

    /// The child of a node by a byte.
    pub(crate) fn child(&self, node: usize, byte: u8) -> Option<usize> {
        if self.nodes[node].flags & FORKED == 0 {
            return self.children(node).find(|c| c.0 >= byte).filter(|c| c.0 == byte).map(|c| c.1);
        }
        let children = self.forks.get(&(node as u32))?;
        let at = children.binary_search_by_key(&byte, |c| c.0).ok()?;
        Some(children[at].1 as usize)
    }

    /// Number of nodes below a node.
    pub(crate) fn below(&self, node: usize) -> usize {
        self.nodes.get(node).map_or(0, |n| n.end as usize - node - 1)
    }

    /// Bytes held.
    pub(crate) fn memory(&self) -> usize {
        self.nodes.len() * size_of::<Node>()
            + self.more.len() * 8
            + self.origins.len() * 4
            + self.forks.values().map(|f| 32 + f.len() * 8).sum::<usize>()
    }

    /// One past the subtree of a node.
    pub(crate) fn end(&self, node: usize) -> usize {
        self.nodes[node].end as usize
    }

    /// Byte and depth of a node, whether tokens end there, and one past its subtree.
    #[inline]
    pub(crate) fn at(&self, node: usize) -> (u8, u8, bool, usize) {
        let n = self.nodes[node];
        (n.byte, n.depth, n.token != NONE, n.end as usize)
    }

    /// Appends the tokens that end at a node.
    pub(crate) fn tokens_into(&self, node: usize, out: &mut Vec<TokenId>) {
        self.each_token(node, |t| out.push(t));
    }

    pub(crate) fn each_token(&self, node: usize, mut tell: impl FnMut(TokenId)) {
        let n = self.nodes[node];
        if n.token != NONE {
            tell(n.token);
            if n.flags & MANY != 0 {
                self.more(node).for_each(tell);
            }
        }
    }

    fn more(&self, node: usize) -> impl Iterator<Item = TokenId> + '_ {
        let node = node as u32;
        let from = self.more.partition_point(|m| m.0 < node);
        self.more[from..].iter().take_while(move |m| m.0 == node).map(|m| m.1)
    }

    /// The children of a node with their bytes.
    pub(crate) fn children(&self, node: usize) -> impl Iterator<Item = (u8, usize)> + '_ {
        let end = self.end(node);
        let mut next = node + 1;
        std::iter::from_fn(move || {
            let at = next;
            (at < end).then(|| {
                next = self.end(at);
                (self.nodes[at].byte, at)
            })
        })
    }

    /// The trie of what stands below and at the given nodes of this one, which have the same byte;
    /// tokens that end alike share a node. Node 1 is where the parts were joined.
    pub(crate) fn merge(&self, parts: &[u32]) -> Self {
        let mut out = Self::default();
        out.nodes.push(Node { end: 0, token: NONE, byte: 0, depth: 0, flags: 0 });
        if let Some(&first) = parts.first() {
            let parts: Vec<usize> = parts.iter().map(|&n| n as usize).collect();
            out.join(self, &parts, self.nodes[first as usize].byte, 1);
        }
        out.nodes[0].end = out.nodes.len() as u32;
        out.nodes.shrink_to_fit();
        out
    }

    fn join(&mut self, from: &Self, parts: &[usize], byte: u8, depth: u8) {
        let at = self.nodes.len();
        self.max_depth = self.max_depth.max(depth.into());
        let mut tokens = Vec::new();
        for &node in parts {
            from.tokens_into(node, &mut tokens);
        }
        let token = tokens.first().copied().unwrap_or(NONE);
        self.more.extend(tokens.iter().skip(1).map(|&t| (at as u32, t)));
        let flags = if tokens.len() > 1 { MANY } else { 0 };
        self.nodes.push(Node { end: 0, token, byte, depth, flags });
        let mut below: Vec<(u8, usize)> = parts.iter().flat_map(|&n| from.children(n)).collect();
        below.sort_by_key(|c| c.0);
        for group in below.chunk_by(|a, b| a.0 == b.0) {
            let parts: Vec<usize> = group.iter().map(|c| c.1).collect();
            self.join(from, &parts, group[0].0, depth.saturating_add(1));
        }
        self.nodes[at].end = self.nodes.len() as u32;
    }

    /// Visits every node below `root` that keeps `automaton` alive from `start`, parents first.
    /// `whole` is the whole trie, into which links lead.
    pub(crate) fn scan(
        &self,
        whole: &Self,
        root: usize,
        (automaton, start): (&Automaton, StateId),
        visitor: &mut impl Visit,
    ) -> Result<()> {
        if start == DEAD || root >= self.nodes.len() {
            return Ok(());
        }
        let base = usize::from(self.nodes[root].depth);
        let mut path: Vec<(StateId, &Row)> =
            vec![(start, automaton.row(start)?); self.max_depth + 1];
        let end = self.end(root);
        let mut i = root + 1;
        while i < end {
            let node = self.nodes[i];
            let depth = usize::from(node.depth) - base;
            let (from, steps) = path[depth - 1];
            let to = steps[usize::from(node.byte)];
            if to == DEAD {
                i = node.end as usize;
                continue;
            }
            if node.token != NONE {
                visitor.token(node.token, to);
                if node.flags & MANY != 0 {
                    self.more(i).for_each(|t| visitor.token(t, to));
                }
            }
            if node.flags & (LARGE | LINK) != 0 {
                let origin = self.origins.get(i).map_or(i, |&o| o as usize);
                if node.flags & LARGE != 0 && visitor.shortcut(origin, to)? {
                    i = node.end as usize;
                    continue;
                }
                if node.flags & LINK != 0 {
                    if whole.below(origin) > 0 {
                        visitor.inner(origin, to)?;
                        whole.scan(whole, origin, (automaton, to), visitor)?;
                    }
                    i += 1;
                    continue;
                }
            }
            if node.end as usize > i + 1 {
                // Loops are common and need no look-up.
                path[depth] = (to, if to == from { steps } else { automaton.row(to)? });
                visitor.inner(self.origins.get(i).map_or(i, |&o| o as usize), to)?;
            }
            i += 1;
        }
        Ok(())
    }

    /// Splits the tokens below `root` of the whole trie: those that lead from `start` back to it are
    /// told to `keep`, all others are left in a trie; `None` if the former are fewer than `least`.
    ///
    /// One pass; a node that was read stays only if something below it does.
    pub(crate) fn split(
        &self,
        root: usize,
        automaton: &Automaton,
        least: usize,
        mut keep: impl FnMut(TokenId),
    ) -> Result<Option<Self>> {
        let start = automaton.start();
        let Some(top) = self.nodes.get(root).copied() else { return Ok(None) };
        let base = usize::from(top.depth);
        let mut count = 0;
        let mut out =
            Self { max_depth: self.max_depth, big_from: self.big_from, ..Self::default() };
        out.nodes.push(Node { token: NONE, flags: 0, depth: 0, ..top });
        out.origins.push(root as u32);
        let mut rows: Vec<&Row> = vec![automaton.row(start)?; self.max_depth + 1];
        // Nodes whose subtree is being read: (end here, index there).
        let mut open: Vec<(u32, usize)> = vec![(top.end, 0)];
        let mut i = root + 1;
        loop {
            while let Some(&(end, at)) = open.last()
                && end as usize <= i
            {
                open.pop();
                out.close(at);
            }
            if i >= top.end as usize {
                break;
            }
            let node = self.nodes[i];
            let depth = usize::from(node.depth) - base;
            let to = rows[depth - 1][usize::from(node.byte)];
            let at = out.nodes.len();
            let mut left = Node { depth: depth as u8, ..node };
            if to == DEAD {
                out.more_from(self, i, at);
                left.flags |= LINK;
                left.end = at as u32 + 1;
                out.nodes.push(left);
                out.origins.push(i as u32);
                i = node.end as usize;
                continue;
            }
            if node.token != NONE && to == start {
                self.each_token(i, |t| {
                    keep(t);
                    count += 1;
                });
                if node.end as usize == i + 1 {
                    i += 1;
                    continue;
                }
                left.token = NONE;
                left.flags &= !MANY;
            } else {
                out.more_from(self, i, at);
            }
            out.nodes.push(left);
            out.origins.push(i as u32);
            i += 1;
            if node.end as usize > i {
                rows[depth] = automaton.row(to)?;
                open.push((node.end, at));
            } else {
                out.close(at);
            }
        }
        out.nodes.shrink_to_fit();
        out.origins.shrink_to_fit();
        Ok((count >= least).then_some(out))
    }

    fn more_from(&mut self, from: &Self, node: usize, at: usize) {
        if from.nodes[node].flags & MANY != 0 {
            self.more.extend(from.more(node).map(|t| (at as u32, t)));
        }
    }

    /// Fixes the end of the node `at`, whose subtree is complete; drops it if it is empty.
    fn close(&mut self, at: usize) {
        let end = self.nodes.len();
        self.nodes[at].end = end as u32;
        if end - at <= self.big_from {
            self.nodes[at].flags &= !LARGE;
        }
        if end == at + 1 && at > 0 && self.nodes[at].token == NONE {
            self.nodes.pop();
            self.origins.pop();
        }
    }
}
