//! Sets of stacks, hash-consed.
//!
//! A set is the list of its top symbols, each with the set of what lies below: a trie read from the
//! top, shared from the bottom. Equal sets are equal ids (up to [`MERGE_DEPTH`]), so threads that
//! differ only in what happens after a common return are one thread; that is what bounds ambiguity.
//! Nothing here depends on the position in the text.

use rustc_hash::FxHashMap;
use std::sync::Arc;

/// Index of a set of stacks.
pub(crate) type StackId = u32;

/// A symbol on a stack: what to do when the lexeme or call above it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Symbol {
    /// The text is complete.
    End,
    /// Go on at a position.
    Position(u32),
    /// A terminal was read: go on where this edge leads, if it is the edge's terminal.
    Edge(u32),
    /// Go on in a frame.
    Frame(u32),
}

/// A top symbol and what lies below.
pub(crate) type Entry = (Symbol, StackId);

/// The set of the one stack that holds [`Symbol::End`] alone.
pub(crate) const BOTTOM: StackId = 1;

/// Unions look this deep for equal symbols; below, a set may list a symbol twice, which costs
/// time and no text.
const MERGE_DEPTH: usize = 128;

/// All sets of one run.
#[derive(Debug)]
pub(crate) struct Stacks {
    sets: Vec<Arc<[Entry]>>,
    index: FxHashMap<Arc<[Entry]>, StackId>,
    unions: FxHashMap<(StackId, StackId), StackId>,
    bytes: usize,
}

impl Stacks {
    pub(crate) fn new() -> Self {
        let mut this = Self {
            sets: Vec::new(),
            index: FxHashMap::default(),
            unions: FxHashMap::default(),
            bytes: 0,
        };
        this.intern(&[]);
        this.intern(&[(Symbol::End, 0)]);
        this
    }

    fn intern(&mut self, entries: &[Entry]) -> StackId {
        if let Some(&id) = self.index.get(entries) {
            return id;
        }
        let id = self.sets.len() as StackId;
        let set: Arc<[Entry]> = entries.into();
        self.bytes += 80 + size_of_val(entries);
        self.sets.push(Arc::clone(&set));
        self.index.insert(set, id);
        id
    }

    /// Bytes held, approximately.
    pub(crate) fn memory(&self) -> usize {
        self.bytes + self.unions.len() * 24
    }

    /// The tops of a set.
    pub(crate) fn entries(&self, set: StackId) -> &Arc<[Entry]> {
        &self.sets[set as usize]
    }

    /// Every stack of `below` with `top` on it.
    pub(crate) fn push(&mut self, top: Symbol, below: StackId) -> StackId {
        self.intern(&[(top, below)])
    }

    /// The set of several tops.
    pub(crate) fn of(&mut self, entries: &mut Vec<Entry>) -> StackId {
        self.merge(entries, MERGE_DEPTH)
    }

    /// The stacks of both.
    pub(crate) fn union(&mut self, a: StackId, b: StackId) -> StackId {
        self.union_at(a, b, MERGE_DEPTH)
    }

    fn union_at(&mut self, a: StackId, b: StackId, depth: usize) -> StackId {
        if a == b || b == 0 {
            return a;
        }
        if a == 0 {
            return b;
        }
        let key = (a.min(b), a.max(b));
        if let Some(&known) = self.unions.get(&key) {
            return known;
        }
        let mut all: Vec<Entry> = self.sets[a as usize].to_vec();
        all.extend_from_slice(&self.sets[b as usize]);
        let id = self.merge(&mut all, depth);
        self.unions.insert(key, id);
        id
    }

    fn merge(&mut self, all: &mut Vec<Entry>, depth: usize) -> StackId {
        all.sort_unstable();
        all.dedup();
        if depth > 0 {
            let mut kept = 0;
            for i in 0..all.len() {
                if kept > 0 && all[kept - 1].0 == all[i].0 {
                    all[kept - 1].1 = self.union_at(all[kept - 1].1, all[i].1, depth - 1);
                } else {
                    all[kept] = all[i];
                    kept += 1;
                }
            }
            all.truncate(kept);
        }
        self.intern(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_sets_are_equal_ids() {
        let mut s = Stacks::new();
        let (p, q) = (Symbol::Position(1), Symbol::Position(2));
        let a = s.push(p, BOTTOM);
        let b = s.push(q, BOTTOM);
        let pa = s.push(p, a);
        let pb = s.push(p, b);
        let both = s.union(pa, pb);
        let ab = s.union(b, a);
        assert_eq!(s.push(p, ab), both);
        assert_eq!(s.union(both, pa), both);
        assert_eq!(s.union(0, a), a);
    }

    #[test]
    fn deep_unions_end() {
        let mut s = Stacks::new();
        let p = Symbol::Position(7);
        let (mut a, mut b) = (BOTTOM, s.push(p, BOTTOM));
        for _ in 0..100_000 {
            a = s.push(p, a);
            b = s.push(p, b);
        }
        let bottom = s.push(p, 0);
        assert_ne!(s.union(a, b), bottom);
    }
}
