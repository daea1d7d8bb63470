//! The vocabulary as a flat trie in depth-first order.
//!
//! Node `i` has a byte, the end of its subtree, and the tokens that end at it. Children follow
//! their parent, so a mask is one forward scan: step the automaton on the node's byte; if it dies
//! jump to the end of the subtree, else set the node's bits and go on. 6 bytes and one offset a
//! node, no pointers: the 274,520 nodes of the Llama 3 vocabulary take 2.7 MB.

use crate::ids::TokenId;

/// Flat depth-first trie over token byte strings. Immutable, shared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trie {
    /// Byte on the edge into node `i`; node 0 is the root and its byte is meaningless.
    bytes: Vec<u8>,
    /// One past the last node of the subtree of `i`.
    ends: Vec<u32>,
    /// Depth of node `i` in bytes; the root is 0.
    depths: Vec<u8>,
    /// Tokens that end at node `i`: `tokens[starts[i]..starts[i + 1]]`.
    starts: Vec<u32>,
    tokens: Vec<TokenId>,
    max_depth: usize,
}

impl Trie {
    /// Builds the trie of `(bytes, id)` pairs; empty strings are left out.
    ///
    /// O(total bytes) after sorting. Strings longer than 255 bytes are left out too (returned by
    /// no vocabulary met in practice; [`crate::Vocabulary`] refuses them).
    pub fn new<'a>(tokens: impl IntoIterator<Item = (&'a [u8], TokenId)>) -> Self {
        let mut sorted: Vec<(&[u8], TokenId)> =
            tokens.into_iter().filter(|(b, _)| !b.is_empty() && b.len() <= 255).collect();
        sorted.sort_unstable();
        let mut trie = Self {
            bytes: vec![0],
            ends: vec![0],
            depths: vec![0],
            starts: vec![0],
            tokens: Vec::with_capacity(sorted.len()),
            max_depth: 0,
        };
        let mut path: Vec<u32> = vec![0]; // node of each depth of the previous string
        let mut previous: &[u8] = &[];
        for (bytes, id) in sorted {
            let shared = bytes.iter().zip(previous).take_while(|(a, b)| a == b).count();
            for &node in &path[shared + 1..] {
                trie.ends[node as usize] = trie.bytes.len() as u32;
            }
            path.truncate(shared + 1);
            for (d, &b) in bytes.iter().enumerate().skip(shared) {
                path.push(trie.bytes.len() as u32);
                trie.starts.push(trie.tokens.len() as u32);
                trie.bytes.push(b);
                trie.ends.push(0);
                trie.depths.push(d as u8 + 1);
            }
            trie.max_depth = trie.max_depth.max(bytes.len());
            trie.tokens.push(id);
            previous = bytes;
        }
        for node in path {
            trie.ends[node as usize] = trie.bytes.len() as u32;
        }
        trie.starts.push(trie.tokens.len() as u32);
        trie
    }

    /// Number of nodes, the root included.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether only the root exists.
    pub fn is_empty(&self) -> bool {
        self.len() <= 1
    }

    /// Length in bytes of the longest token.
    pub fn max_depth(&self) -> usize {
        self.max_depth
    }

    /// Byte on the edge into a node.
    #[inline]
    pub fn byte(&self, node: usize) -> u8 {
        self.bytes[node]
    }

    /// Depth of a node in bytes.
    #[inline]
    pub fn depth(&self, node: usize) -> usize {
        usize::from(self.depths[node])
    }

    /// One past the subtree of a node.
    #[inline]
    pub fn end(&self, node: usize) -> usize {
        self.ends[node] as usize
    }

    /// Tokens that end at a node.
    #[inline]
    pub fn tokens_at(&self, node: usize) -> &[TokenId] {
        &self.tokens[self.starts[node] as usize..self.starts[node + 1] as usize]
    }

    /// Tokens that end inside the subtree of a node, the node included.
    #[inline]
    pub fn tokens_below(&self, node: usize) -> &[TokenId] {
        &self.tokens[self.starts[node] as usize..self.starts[self.end(node)] as usize]
    }

    /// The child of `node` by `byte`: O(children).
    pub fn child(&self, node: usize, byte: u8) -> Option<usize> {
        let end = self.end(node);
        let mut child = node + 1;
        while child < end {
            if self.bytes[child] == byte {
                return Some(child);
            }
            child = self.end(child);
        }
        None
    }

    /// Bytes held.
    pub fn memory(&self) -> usize {
        self.bytes.len() * 2 + (self.ends.len() + self.starts.len() + self.tokens.len()) * 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn collect(trie: &Trie) -> Vec<(Vec<u8>, TokenId)> {
        let mut out = Vec::new();
        let mut path: Vec<u8> = Vec::new();
        for node in 1..trie.len() {
            path.truncate(trie.depth(node) - 1);
            path.push(trie.byte(node));
            out.extend(trie.tokens_at(node).iter().map(|&t| (path.clone(), t)));
        }
        out
    }

    proptest! {
        #[test]
        fn holds_exactly_the_tokens_in_order(
            mut tokens in prop::collection::vec(prop::collection::vec(0u8..4, 1..6), 0..60),
        ) {
            let pairs: Vec<_> = tokens.iter().enumerate().map(|(i, b)| (b.as_slice(), i as u32)).collect();
            let trie = Trie::new(pairs.iter().copied());
            let mut want: Vec<(Vec<u8>, u32)> =
                pairs.iter().map(|(b, i)| (b.to_vec(), *i)).collect();
            want.sort();
            prop_assert_eq!(collect(&trie), want);
            prop_assert_eq!(trie.end(0), trie.len());
            prop_assert_eq!(trie.tokens_below(0).len(), tokens.len());
            for node in 0..trie.len() {
                prop_assert!(trie.end(node) > node && trie.end(node) <= trie.len());
            }
            tokens.sort();
            for t in &tokens {
                let node = t.iter().try_fold(0, |n, &b| trie.child(n, b));
                prop_assert!(node.is_some_and(|n| !trie.tokens_at(n).is_empty()));
            }
            prop_assert_eq!(trie.child(0, 9), None);
        }
    }
}
