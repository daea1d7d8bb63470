//! Undo journal of an automaton: what the last appends overwrote.
//!
//! Appends only push states, edges and wide lists, enter keys into the table, and overwrite a few
//! old entries. A mark an append holds the lengths, and the entries since the mark the old values;
//! undoing restores them in reverse order and truncates. About 20 entries a token, kept for a bounded
//! number of appends; a request that rolls back further rebuilds.

use super::automaton::{Automaton, Children, Edge, State};
use std::collections::VecDeque;

#[derive(Debug, Clone)]
enum Old {
    State(u32, State),
    Edge(u32, Edge),
    Wide(u32, Box<Children>),
    Entered(u64),
}

/// The automaton before an append.
#[derive(Debug, Clone, Copy)]
struct Mark {
    states: u32,
    edges: u32,
    wide: u32,
    last: u32,
    /// Entries that this append has written.
    entries: u32,
}

/// The last appends of an automaton, newest last.
#[derive(Debug, Clone)]
pub(super) struct Journal {
    marks: VecDeque<Mark>,
    entries: VecDeque<Old>,
    capacity: usize,
}

impl Journal {
    /// A journal of at most `capacity` appends.
    pub(super) fn new(capacity: usize) -> Self {
        Self { marks: VecDeque::new(), entries: VecDeque::new(), capacity }
    }

    /// Bytes held.
    pub(super) fn memory(&self) -> usize {
        self.marks.capacity() * size_of::<Mark>() + self.entries.capacity() * size_of::<Old>()
    }

    /// Starts the record of one append.
    pub(super) fn begin(&mut self, a: &Automaton) {
        if self.marks.len() >= self.capacity
            && let Some(oldest) = self.marks.pop_front()
        {
            self.entries.drain(..oldest.entries as usize);
        }
        self.marks.push_back(Mark {
            states: a.states.len() as u32,
            edges: a.edges.len() as u32,
            wide: a.wide.len() as u32,
            last: a.last,
            entries: 0,
        });
    }

    fn push(&mut self, old: Old) {
        if let Some(mark) = self.marks.back_mut() {
            mark.entries += 1;
            self.entries.push_back(old);
        }
    }

    fn is_old(&self, index: u32, count: fn(&Mark) -> u32) -> bool {
        self.marks.back().is_some_and(|m| index < count(m))
    }

    pub(super) fn state(&mut self, index: u32, old: State) {
        if self.is_old(index, |m| m.states) {
            self.push(Old::State(index, old));
        }
    }

    pub(super) fn edge(&mut self, index: u32, old: Edge) {
        if self.is_old(index, |m| m.edges) {
            self.push(Old::Edge(index, old));
        }
    }

    pub(super) fn wide(&mut self, index: u32, old: &Children) {
        if self.is_old(index, |m| m.wide) {
            self.push(Old::Wide(index, Box::new(*old)));
        }
    }

    pub(super) fn entered(&mut self, key: u64) {
        self.push(Old::Entered(key));
    }
}

impl Automaton {
    /// Takes back the last `n` appends; false if the journal does not reach that far, and then
    /// nothing changes.
    pub fn undo(&mut self, n: usize) -> bool {
        let Some(mut journal) = self.journal.take() else { return n == 0 };
        let reaches = n <= journal.marks.len();
        for _ in 0..if reaches { n } else { 0 } {
            let Some(mark) = journal.marks.pop_back() else { break };
            for _ in 0..mark.entries {
                match journal.entries.pop_back() {
                    Some(Old::State(i, old)) => self.states[i as usize] = old,
                    Some(Old::Edge(i, old)) => self.edges[i as usize] = old,
                    Some(Old::Wide(i, old)) => self.wide[i as usize] = *old,
                    Some(Old::Entered(key)) => drop(self.table.remove(&key)),
                    None => {}
                }
            }
            self.states.truncate(mark.states as usize);
            self.edges.truncate(mark.edges as usize);
            self.wide.truncate(mark.wide as usize);
            self.last = mark.last;
            self.tokens -= 1;
        }
        self.journal = Some(journal);
        reaches
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn same(a: &Automaton, b: &Automaton) -> bool {
        a.states == b.states
            && a.edges == b.edges
            && a.wide == b.wide
            && a.table == b.table
            && (a.last, a.tokens) == (b.last, b.tokens)
    }

    proptest! {
        /// Undoing restores every array, bit for bit, at every length.
        #[test]
        fn undo_is_the_exact_inverse(
            head in prop::collection::vec(0u32..14, 0..60),
            tail in prop::collection::vec(0u32..14, 1..40),
            keep in 1usize..50,
        ) {
            let mut a = Automaton::new();
            head.iter().for_each(|&t| a.append(t));
            a.keep_journal(keep);
            let mut before = vec![a.clone()];
            for &t in &tail {
                a.append(t);
                before.push(a.clone());
            }
            prop_assert!(!a.undo(tail.len().min(keep) + 1), "further than it reaches");
            prop_assert!(same(&a, before.last().unwrap()));
            for back in 1..=tail.len().min(keep) {
                prop_assert!(a.undo(1));
                prop_assert!(same(&a, &before[tail.len() - back]));
            }
            let left = before.len() - 1 - tail.len().min(keep);
            for (i, &t) in tail.iter().enumerate().skip(left) {
                a.append(t);
                prop_assert!(same(&a, &before[i + 1]));
            }
        }
    }
}
