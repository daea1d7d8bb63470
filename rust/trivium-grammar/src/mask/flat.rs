//! The walk's own copy of a token trie: 16 bytes a node, one cache line holds four.
//!
//! Depth-first, children after their parent; `end` skips a subtree. Nearly every node that ends a
//! token ends exactly one, so it is stored in the node; ids with equal bytes go to a side list.

use crate::automata::dfa::Automaton;
use crate::automata::table::{DEAD, Row, StateId};
use crate::error::Result;
use trivium_core::{TokenId, Trie, mask};

/// No token ends at the node.
const NONE: TokenId = TokenId::MAX;

#[derive(Debug, Clone, Copy)]
struct Node {
    end: u32,
    token: TokenId,
    byte: u8,
    depth: u8,
    /// More tokens of these bytes are in `more`.
    many: bool,
}

/// See the module comment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flat {
    nodes: Vec<Node>,
    /// (node, token) for the second and later tokens of a node, sorted.
    more: Vec<(u32, TokenId)>,
    tokens: usize,
    max_depth: usize,
}

impl Flat {
    /// A copy of `trie` in the layout of the walk.
    pub(crate) fn new(trie: &Trie) -> Self {
        let mut out = Self { max_depth: trie.max_depth(), ..Self::default() };
        out.nodes.reserve_exact(trie.len());
        for i in 0..trie.len() {
            let (first, rest) = match trie.tokens_at(i) {
                [] => (NONE, &[][..]),
                [first, rest @ ..] => (*first, rest),
            };
            out.tokens += usize::from(first != NONE) + rest.len();
            out.more.extend(rest.iter().map(|&t| (i as u32, t)));
            out.nodes.push(Node {
                end: trie.end(i) as u32,
                token: first,
                byte: trie.byte(i),
                depth: trie.depth(i) as u8,
                many: !rest.is_empty(),
            });
        }
        out
    }

    /// Number of tokens.
    pub(crate) fn tokens(&self) -> usize {
        self.tokens
    }

    /// Bytes held.
    pub(crate) fn memory(&self) -> usize {
        self.nodes.len() * size_of::<Node>() + self.more.len() * 8
    }

    fn more(&self, node: usize) -> impl Iterator<Item = TokenId> + '_ {
        let node = node as u32;
        let from = self.more.partition_point(|m| m.0 < node);
        self.more[from..].iter().take_while(move |m| m.0 == node).map(|m| m.1)
    }

    /// Visits every node with a token that `automaton` can read from `start` and the state there.
    #[inline]
    fn visit(
        &self,
        automaton: &Automaton,
        start: StateId,
        mut hit: impl FnMut(usize, &Node, StateId),
    ) -> Result<()> {
        if start == DEAD || self.nodes.is_empty() {
            return Ok(());
        }
        let mut rows: Vec<&Row> = vec![automaton.row(start)?; self.max_depth + 1];
        let mut i = 1;
        while let Some(node) = self.nodes.get(i) {
            let depth = usize::from(node.depth);
            let to = rows[depth - 1][usize::from(node.byte)];
            if to == DEAD {
                i = node.end as usize;
                continue;
            }
            if node.token != NONE {
                hit(i, node, to);
            }
            i += 1;
            if node.end as usize > i {
                rows[depth] = automaton.row(to)?;
            }
        }
        Ok(())
    }

    /// Sets the bit of every token whose bytes keep `automaton` alive from `start`.
    pub(crate) fn walk(
        &self,
        automaton: &Automaton,
        start: StateId,
        row: &mut [u32],
    ) -> Result<()> {
        self.visit(automaton, start, |i, node, _| {
            mask::set(row, node.token);
            if node.many {
                self.more(i).for_each(|t| mask::set(row, t));
            }
        })
    }

    /// Splits off the tokens that lead from `start` back to `start` and satisfy `keep` (bytes read
    /// as a depth-indexed path): their mask, their number, and the trie of all others.
    pub(crate) fn split(
        &self,
        automaton: &Automaton,
        start: StateId,
        words: usize,
        mut keep: impl FnMut(TokenId) -> bool,
    ) -> Result<(Vec<u32>, usize, Self)> {
        let mut row = vec![0; words];
        let mut taken = vec![false; self.nodes.len()];
        let mut count = 0;
        self.visit(automaton, start, |i, node, to| {
            if to == start && keep(node.token) {
                taken[i] = true;
                count += 1;
                mask::set(&mut row, node.token);
                if node.many {
                    for t in self.more(i) {
                        count += 1;
                        mask::set(&mut row, t);
                    }
                }
            }
        })?;
        Ok((row, count, self.without(&taken)))
    }

    /// The trie of the tokens at nodes that are not `taken`.
    fn without(&self, taken: &[bool]) -> Self {
        // left[i]: nodes before i that still end a token; kept[i]: nodes before i that stay.
        let mut left = vec![0u32; self.nodes.len() + 1];
        for (i, n) in self.nodes.iter().enumerate() {
            left[i + 1] = left[i] + u32::from(n.token != NONE && !taken[i]);
        }
        let stays = |i: usize| i == 0 || left[self.nodes[i].end as usize] > left[i];
        let mut kept = vec![0u32; self.nodes.len() + 1];
        for i in 0..self.nodes.len() {
            kept[i + 1] = kept[i] + u32::from(stays(i));
        }
        let mut out = Self { max_depth: self.max_depth, ..Self::default() };
        for (i, n) in self.nodes.iter().enumerate() {
            if !stays(i) {
                continue;
            }
            let mut node = Node { end: kept[n.end as usize], ..*n };
            if taken[i] {
                node.token = NONE;
                node.many = false;
            } else if node.many {
                out.more.extend(self.more(i).map(|t| (kept[i], t)));
            }
            out.nodes.push(node);
        }
        out.tokens = out.more.len() + out.nodes.iter().filter(|n| n.token != NONE).count();
        out
    }
}
