//! The walk's own copy of a token trie: 16 bytes a node, one cache line holds four.
//!
//! Depth-first, children after their parent; `end` skips a subtree. Nearly every node that ends a
//! token ends exactly one, so it is stored in the node; ids with equal bytes go to a side list.
//!
//! A flat trie is either the whole vocabulary or what is left of a subtree of it after a slice was
//! taken out. Nodes with many nodes below them are *big*: a walk that arrives there may use a slice
//! of that subtree instead of visiting it. They are named by their node in the whole trie.

use crate::automata::dfa::Automaton;
use crate::automata::table::{DEAD, Row, StateId};
use crate::error::Result;
use trivium_core::{TokenId, Trie, mask};

/// No token ends at the node.
const NONE: TokenId = TokenId::MAX;

/// Nodes below a big node, unless the vocabulary is small.
const BIG: usize = 4096;

/// Does the subtree of a big node (named as in the whole trie) from a state, or declines.
pub(crate) type Shortcut<'a> = dyn FnMut(u32, StateId, &mut [u32]) -> Result<bool> + 'a;

#[derive(Debug, Clone, Copy)]
struct Node {
    end: u32,
    token: TokenId,
    byte: u8,
    depth: u8,
    /// More tokens of these bytes are in `more`.
    many: bool,
    big: bool,
}

/// What [`Flat::scan`] tells.
pub(crate) trait Visit {
    /// A token whose bytes are live.
    fn token(&mut self, token: TokenId);
    /// A node with others below it, and the state there.
    fn inner(&mut self, flat: &Flat, node: usize, state: StateId) -> Result<()>;
    /// Does the subtree of a big node (named as in the whole trie) or declines. Its own tokens are
    /// already told.
    fn shortcut(&mut self, node: u32, state: StateId) -> Result<bool>;
}

/// See the module comment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flat {
    /// The first node is the root: its byte was read before the walk starts, its token is not set.
    nodes: Vec<Node>,
    /// (node, token) for the second and later tokens of a node, sorted.
    more: Vec<(u32, TokenId)>,
    /// (node, node of the whole trie) of big nodes, sorted.
    big: Vec<(u32, u32)>,
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
            let big = trie.end(i) - i > big_from;
            if big {
                out.big.push((i as u32, i as u32));
            }
            out.nodes.push(Node {
                end: trie.end(i) as u32,
                token: first,
                byte: trie.byte(i),
                depth: trie.depth(i) as u8,
                many: !rest.is_empty(),
                big,
            });
        }
        out
    }

    /// Number of nodes below a node.
    pub(crate) fn below(&self, node: usize) -> usize {
        self.nodes.get(node).map_or(0, |n| n.end as usize - node - 1)
    }

    /// Bytes held.
    pub(crate) fn memory(&self) -> usize {
        self.nodes.len() * size_of::<Node>() + (self.more.len() + self.big.len()) * 8
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
        let n = self.nodes[node];
        if n.token != NONE {
            out.push(n.token);
            if n.many {
                out.extend(self.more(node));
            }
        }
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

    /// The trie of what stands below and at the given nodes, which have the same byte; tokens that
    /// end alike share a node. Node 1 is where the parts were joined.
    pub(crate) fn merge(parts: &[(&Self, usize)]) -> Self {
        let mut out = Self::default();
        out.nodes.push(Node { end: 0, token: NONE, byte: 0, depth: 0, many: false, big: false });
        if let Some(&(flat, node)) = parts.first() {
            out.join(parts, flat.nodes[node].byte, 1);
        }
        out.nodes[0].end = out.nodes.len() as u32;
        out.nodes.shrink_to_fit();
        out
    }

    fn join(&mut self, parts: &[(&Self, usize)], byte: u8, depth: u8) {
        let at = self.nodes.len();
        self.max_depth = self.max_depth.max(depth.into());
        let mut tokens = Vec::new();
        for (flat, node) in parts {
            flat.tokens_into(*node, &mut tokens);
        }
        let token = tokens.first().copied().unwrap_or(NONE);
        self.more.extend(tokens.iter().skip(1).map(|&t| (at as u32, t)));
        self.nodes.push(Node { end: 0, token, byte, depth, many: tokens.len() > 1, big: false });
        let mut below: Vec<(u8, &Self, usize)> = parts
            .iter()
            .flat_map(|&(flat, node)| flat.children(node).map(move |(b, c)| (b, flat, c)))
            .collect();
        below.sort_by_key(|c| c.0);
        for group in below.chunk_by(|a, b| a.0 == b.0) {
            let parts: Vec<(&Self, usize)> = group.iter().map(|c| (c.1, c.2)).collect();
            self.join(&parts, group[0].0, depth.saturating_add(1));
        }
        self.nodes[at].end = self.nodes.len() as u32;
    }

    fn more(&self, node: usize) -> impl Iterator<Item = TokenId> + '_ {
        let node = node as u32;
        let from = self.more.partition_point(|m| m.0 < node);
        self.more[from..].iter().take_while(move |m| m.0 == node).map(|m| m.1)
    }

    fn set(&self, i: usize, node: &Node, row: &mut [u32]) {
        mask::set(row, node.token);
        if node.many {
            self.more(i).for_each(|t| mask::set(row, t));
        }
    }

    /// Sets the bit of every token whose bytes keep `automaton` alive from `start`. At a big node
    /// `shortcut` may do the subtree instead and say so.
    pub(crate) fn walk(
        &self,
        automaton: &Automaton,
        start: StateId,
        row: &mut [u32],
        shortcut: &mut Shortcut<'_>,
    ) -> Result<()> {
        if start == DEAD || self.nodes.len() < 2 {
            return Ok(());
        }
        // State and row at each depth; `path` above its current depth is stale and not read.
        let mut path: Vec<(StateId, &Row)> =
            vec![(start, automaton.row(start)?); self.max_depth + 1];
        let mut i = 1;
        while let Some(node) = self.nodes.get(i) {
            let depth = usize::from(node.depth);
            let (from, steps) = path[depth - 1];
            let to = steps[usize::from(node.byte)];
            if to == DEAD {
                i = node.end as usize;
                continue;
            }
            if node.token != NONE {
                self.set(i, node, row);
            }
            if node.big
                && let Ok(at) = self.big.binary_search_by_key(&(i as u32), |b| b.0)
                && shortcut(self.big[at].1, to, row)?
            {
                i = node.end as usize;
                continue;
            }
            i += 1;
            if node.end as usize > i {
                // Loops are common and need no look-up.
                path[depth] = (to, if to == from { steps } else { automaton.row(to)? });
            }
        }
        Ok(())
    }

    /// Visits every node that keeps `automaton` alive from `start`, parents first. At a big node the
    /// visitor may do the subtree itself.
    pub(crate) fn scan(
        &self,
        automaton: &Automaton,
        start: StateId,
        visitor: &mut impl Visit,
    ) -> Result<()> {
        if start == DEAD || self.nodes.len() < 2 {
            return Ok(());
        }
        let mut path: Vec<(StateId, &Row)> =
            vec![(start, automaton.row(start)?); self.max_depth + 1];
        let mut i = 1;
        while let Some(node) = self.nodes.get(i) {
            let depth = usize::from(node.depth);
            let (from, steps) = path[depth - 1];
            let to = steps[usize::from(node.byte)];
            if to == DEAD {
                i = node.end as usize;
                continue;
            }
            if node.token != NONE {
                visitor.token(node.token);
                if node.many {
                    self.more(i).for_each(|t| visitor.token(t));
                }
            }
            if node.big
                && let Ok(at) = self.big.binary_search_by_key(&(i as u32), |b| b.0)
                && visitor.shortcut(self.big[at].1, to)?
            {
                i = node.end as usize;
                continue;
            }
            if node.end as usize > i + 1 {
                // Loops are common and need no look-up.
                path[depth] = (to, if to == from { steps } else { automaton.row(to)? });
                visitor.inner(self, i, to)?;
            }
            i += 1;
        }
        Ok(())
    }

    /// Splits the tokens below `root`: those that lead from `start` back to `start` and satisfy
    /// `keep` as a mask, all others as a trie; `None` if the former are fewer than `least`.
    ///
    /// One pass: dead subtrees are copied whole, a node that was read stays only if something below
    /// it does.
    pub(crate) fn split(
        &self,
        root: usize,
        automaton: &Automaton,
        words: usize,
        least: usize,
        mut keep: impl FnMut(TokenId) -> bool,
    ) -> Result<Option<(Vec<u32>, Self)>> {
        let start = automaton.start();
        let Some(top) = self.nodes.get(root).copied() else { return Ok(None) };
        let mut row = vec![0; words];
        let mut count = 0;
        let mut out =
            Self { max_depth: self.max_depth, big_from: self.big_from, ..Self::default() };
        out.nodes.reserve((top.end as usize - root) / 2);
        out.nodes.push(Node { token: NONE, many: false, big: false, ..top });
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
            let depth = usize::from(node.depth);
            let to = rows[depth - 1][usize::from(node.byte)];
            if to == DEAD {
                out.copy(self, i);
                i = node.end as usize;
                continue;
            }
            let at = out.nodes.len();
            let mut left = Node { big: false, ..node };
            if node.token != NONE && to == start && keep(node.token) {
                self.set(i, &node, &mut row);
                count += 1;
                if node.end as usize == i + 1 {
                    i += 1;
                    continue;
                }
                left.token = NONE;
                left.many = false;
            } else if node.many {
                out.more.extend(self.more(i).map(|t| (at as u32, t)));
            }
            if node.big {
                out.big.push((at as u32, i as u32));
                left.big = true;
            }
            out.nodes.push(left);
            i += 1;
            if node.end as usize > i {
                rows[depth] = automaton.row(to)?;
                open.push((node.end, at));
            } else {
                out.close(at);
            }
        }
        out.nodes.shrink_to_fit();
        Ok((count >= least).then_some((row, out)))
    }

    /// Fixes the end of the node `at`, whose subtree is complete; drops it if it is empty.
    fn close(&mut self, at: usize) {
        let end = self.nodes.len();
        self.nodes[at].end = end as u32;
        // Still big? Big nodes inside were closed before, so its entry is the last.
        if self.nodes[at].big && end - at <= self.big_from {
            self.nodes[at].big = false;
            self.big.pop();
        }
        if end == at + 1 && at > 0 && self.nodes[at].token == NONE {
            self.nodes.pop();
        }
    }

    /// Appends the subtree `i` of `from` as it is.
    fn copy(&mut self, from: &Self, i: usize) {
        let end = from.nodes[i].end as usize;
        let shift = (self.nodes.len() as u32).wrapping_sub(i as u32);
        self.nodes.extend(
            from.nodes[i..end].iter().map(|n| Node { end: n.end.wrapping_add(shift), ..*n }),
        );
        let within = |list: &[(u32, u32)]| {
            let a = list.partition_point(|m| (m.0 as usize) < i);
            a..a + list[a..].partition_point(|m| (m.0 as usize) < end)
        };
        let moved = |m: &(u32, u32)| (m.0.wrapping_add(shift), m.1);
        self.more.extend(from.more[within(&from.more)].iter().map(moved));
        self.big.extend(from.big[within(&from.big)].iter().map(moved));
    }
}
