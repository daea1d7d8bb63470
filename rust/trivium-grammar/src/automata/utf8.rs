//! From blocks of characters to transitions by byte.
//!
//! `Utf8Sequences` splits a range of code points into sequences of byte ranges, surrogates and
//! over-long forms excluded. In code-point order the sequences are sorted, and two that share a
//! first byte share the whole first range, so neighbours group into a trie whose inner nodes are the
//! places *inside* a character.
//!
//! Which bytes lead where does not depend on the targets, only on which blocks have equal ones. So
//! the trie is a *template* over numbered targets, built once a shape and pattern of equal targets;
//! a state inside a character is a template node and its targets, made when a text gets there.
//! `\w` has 770 ranges and 150 inner nodes: rebuilding them for each count of `\w{0,64}` would
//! dominate everything else.

use super::derive::ShapeId;
use regex_syntax::utf8::{Utf8Sequence, Utf8Sequences};
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// Index of an inner node.
pub(crate) type NodeId = u32;

/// Where a byte leads; numbers index the targets of the node or template it stands in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    /// To a target: the character is complete.
    Target(u32),
    /// To an inner node, which sees these of the targets.
    Inner(NodeId, Box<[u32]>),
}

/// Byte ranges, sorted, and where they lead.
pub(crate) type Steps = Arc<[(u8, u8, Step)]>;

/// No text continues with a block.
pub(crate) const NOWHERE: u32 = u32::MAX;

/// Shapes side by side, and the number of each block's target ([`NOWHERE`] without one).
pub(crate) type Pattern = (Box<[ShapeId]>, Box<[u32]>);

/// All templates of an automaton.
#[derive(Debug, Default)]
pub(crate) struct Templates {
    nodes: Vec<Steps>,
    index: FxHashMap<Steps, NodeId>,
    known: FxHashMap<Pattern, Steps>,
    bytes: usize,
}

impl Templates {
    /// The steps of an inner node.
    pub(crate) fn node(&self, id: NodeId) -> &Steps {
        &self.nodes[id as usize]
    }

    /// Bytes held, approximately.
    pub(crate) fn memory(&self) -> usize {
        self.bytes
    }

    /// The first steps of a pattern, whose ranges with target numbers `ranges` gives, sorted.
    pub(crate) fn root(
        &mut self,
        pattern: Pattern,
        ranges: impl FnOnce() -> Vec<(u32, u32, u32)>,
    ) -> Steps {
        if let Some(known) = self.known.get(&pattern) {
            return Arc::clone(known);
        }
        let mut sequences: Vec<(Utf8Sequence, u32)> = Vec::new();
        for (lo, hi, target) in ranges() {
            // Ends may fall on surrogates, which are no characters.
            let lo = if (0xd800..0xe000).contains(&lo) { 0xe000 } else { lo };
            let hi = if (0xd800..0xe000).contains(&hi) { 0xd7ff } else { hi };
            if let (Some(lo), Some(hi)) = (char::from_u32(lo), char::from_u32(hi))
                && lo <= hi
            {
                sequences.extend(Utf8Sequences::new(lo, hi).map(|s| (s, target)));
            }
        }
        let steps: Steps = self.group(&sequences, 0).into();
        self.bytes += steps.len() * 48 + pattern.1.len() * 4 + 64;
        self.known.insert(pattern, Arc::clone(&steps));
        steps
    }

    /// Groups sorted sequences from byte `depth` on.
    fn group(&mut self, sequences: &[(Utf8Sequence, u32)], depth: usize) -> Vec<(u8, u8, Step)> {
        let mut out: Vec<(u8, u8, Step)> = Vec::new();
        let mut i = 0;
        while let Some((first, target)) = sequences.get(i) {
            let range = first.as_slice()[depth];
            let rest = &sequences[i..];
            let same = rest.iter().take_while(|s| s.0.as_slice()[depth] == range).count();
            let step = if first.len() == depth + 1 {
                Step::Target(*target)
            } else {
                let inner = self.group(&rest[..same], depth + 1);
                self.inner(inner)
            };
            match out.last_mut() {
                Some(l) if l.2 == step && l.1 + 1 == range.start => l.1 = range.end,
                _ => out.push((range.start, range.end, step)),
            }
            i += same;
        }
        out
    }

    /// An inner node with its own numbering of targets, in order of appearance, so that nodes of
    /// different templates are shared.
    fn inner(&mut self, mut steps: Vec<(u8, u8, Step)>) -> Step {
        let mut sees: Vec<u32> = Vec::new();
        let mut number = |target: &mut u32| {
            let at = sees.iter().position(|s| s == target).unwrap_or_else(|| {
                sees.push(*target);
                sees.len() - 1
            });
            *target = at as u32;
        };
        for (_, _, step) in &mut steps {
            match step {
                Step::Target(t) => number(t),
                Step::Inner(_, targets) => targets.iter_mut().for_each(&mut number),
            }
        }
        let steps: Steps = steps.into();
        let id = if let Some(&id) = self.index.get(&steps) {
            id
        } else {
            let id = self.nodes.len() as NodeId;
            self.bytes += steps.len() * 48 + 64;
            self.nodes.push(Arc::clone(&steps));
            self.index.insert(steps, id);
            id
        };
        Step::Inner(id, sees.into())
    }
}
