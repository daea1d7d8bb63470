//! Id and keys of one question, in one allocation.
//!
//! ```text
//! id | trace length raw key answer | trace length raw key answer | ...
//! ```
//!
//! Each entry holds the first trace of a key, the key and the answer as that trace wrote it (nothing
//! where both are the same). A few keys are told apart by comparing them; more of them have an index.

use crate::log::{put_int, take_int};
use crate::tally::KeyId;
use hashbrown::HashTable;
use rustc_hash::FxHasher;
use std::hash::Hasher;

/// Keys that are told apart by comparing them with each other.
const FEW: usize = 8;

/// One key of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Named<'a> {
    /// Its first trace.
    pub(crate) trace: u32,
    pub(crate) key: &'a str,
    /// The answer as the first trace wrote it.
    pub(crate) raw: &'a str,
}

/// Where the entries of many keys stand, and their numbers by hash.
#[derive(Debug, Clone, Default)]
struct Index {
    starts: Vec<usize>,
    table: HashTable<KeyId>,
}

/// See the module comment.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    text: Vec<u8>,
    index: Option<Box<Index>>,
    id: u32,
    num: u32,
}

pub(crate) fn hash(name: &str) -> u64 {
    let mut hasher = FxHasher::default();
    hasher.write(name.as_bytes());
    hasher.finish()
}

impl Names {
    pub(crate) fn new(id: &str) -> Self {
        Self { text: id.as_bytes().to_vec(), index: None, id: id.len() as u32, num: 0 }
    }

    /// Id of the question.
    pub(crate) fn id(&self) -> &str {
        utf8(&self.text[..self.id as usize])
    }

    /// Number of a key.
    pub(crate) fn find(&self, key: &str) -> Option<KeyId> {
        if let Some(index) = &self.index {
            let same = |&id: &KeyId| self.read(index.starts[id as usize]).0.key == key;
            return index.table.find(hash(key), same).copied();
        }
        let mut at = self.id as usize;
        for id in 0..self.num {
            let (found, next) = self.bytes(at);
            if found == key.as_bytes() {
                return Some(id);
            }
            at = next;
        }
        None
    }

    /// Adds a key that [`Names::find`] does not find; returns its number.
    pub(crate) fn push(&mut self, trace: u32, key: &str, raw: &str) -> KeyId {
        let (id, start) = (self.num, self.text.len());
        put_int(&mut self.text, u64::from(trace));
        put_int(&mut self.text, key.len() as u64);
        put_int(&mut self.text, if raw == key { 0 } else { raw.len() as u64 + 1 });
        self.text.extend(key.as_bytes());
        if raw != key {
            self.text.extend(raw.as_bytes());
        }
        self.num += 1;
        if self.index.is_none() && self.num as usize > FEW {
            let mut index = Index::default();
            let mut at = self.id as usize;
            for _ in 0..self.num {
                index.starts.push(at);
                at = self.bytes(at).1;
            }
            self.index = Some(Box::new(index));
            (0..self.num).for_each(|id| self.enter(id));
        } else if let Some(index) = &mut self.index {
            index.starts.push(start);
            self.enter(id);
        }
        id
    }

    fn enter(&mut self, id: KeyId) {
        let Some(mut index) = self.index.take() else { return };
        let of = |id: KeyId| hash(self.read(index.starts[id as usize]).0.key);
        let own = of(id);
        // Borrowed apart from `index`, whose table is being changed.
        let starts = &index.starts;
        let again = |&id: &KeyId| hash(self.read(starts[id as usize]).0.key);
        index.table.insert_unique(own, id, again);
        self.index = Some(index);
    }

    /// A key by number.
    pub(crate) fn get(&self, key: KeyId) -> Option<Named<'_>> {
        if key >= self.num {
            return None;
        }
        let start = match &self.index {
            Some(index) => index.starts[key as usize],
            None => (0..key).fold(self.id as usize, |at, _| self.bytes(at).1),
        };
        Some(self.read(start).0)
    }

    fn read(&self, at: usize) -> (Named<'_>, usize) {
        let (trace, at) = take_int(&self.text, at);
        let (len, at) = take_int(&self.text, at);
        let (raw, at) = take_int(&self.text, at);
        let end = at + len as usize;
        let key = &self.text[at..end];
        let next = end + raw.saturating_sub(1) as usize;
        let raw = if raw == 0 { key } else { &self.text[end..next] };
        (Named { trace: trace as u32, key: utf8(key), raw: utf8(raw) }, next)
    }

    /// The key of an entry and the end of the entry.
    fn bytes(&self, at: usize) -> (&[u8], usize) {
        let (_, at) = take_int(&self.text, at);
        let (len, at) = take_int(&self.text, at);
        let (raw, at) = take_int(&self.text, at);
        let end = at + len as usize;
        (&self.text[at..end], end + raw.saturating_sub(1) as usize)
    }

    /// Bytes held outside of this value.
    pub(crate) fn memory(&self) -> usize {
        let index = |index: &Index| {
            size_of::<Index>()
                + index.starts.capacity() * size_of::<usize>()
                + index.table.allocation_size()
        };
        self.text.capacity() + self.index.as_deref().map_or(0, index)
    }
}

/// What was a `str` when it was stored.
fn utf8(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn names_are_a_map_and_a_list(keys in prop::collection::vec("[a-e\u{e9}]{0,2}", 0..40)) {
            let mut names = Names::new("the question");
            let mut twin: Vec<(u32, String, String)> = Vec::new();
            for (trace, key) in keys.iter().enumerate() {
                let raw = if trace % 2 == 0 { key.clone() } else { format!("{key}.") };
                let known = twin.iter().position(|(_, name, _)| name == key);
                prop_assert_eq!(names.find(key), known.map(|id| id as KeyId));
                if known.is_none() {
                    prop_assert_eq!(names.push(trace as u32, key, &raw), twin.len() as KeyId);
                    twin.push((trace as u32, key.clone(), raw));
                }
            }
            prop_assert_eq!(names.id(), "the question");
            for (id, (trace, key, raw)) in twin.iter().enumerate() {
                prop_assert_eq!(names.get(id as KeyId), Some(Named { trace: *trace, key, raw }));
            }
            prop_assert_eq!(names.get(twin.len() as KeyId), None);
        }
    }
}
