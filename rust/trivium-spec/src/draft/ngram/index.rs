//! Every n-gram of a growing text: where it first and last ended, how often, and the chain between.
//!
//! The one machine behind prompt lookup, n-gram caches, phrase pools and sibling consensus, which
//! differ in which match they take and how much must follow it. A token costs one table entry an
//! order; a look-up is O(n) however long the text, against O(text) of the scanning references.
//!
//! Keys are hashes, so every answer is compared with the text; a collision is answered by a scan.

use rustc_hash::FxHashMap;
use trivium_core::TokenId;

/// Occurrences of one n-gram; ends count tokens up to and with its last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ends {
    pub(crate) first: u32,
    pub(crate) last: u32,
    pub(crate) count: u32,
}

#[derive(Debug, Clone, Default)]
struct Order {
    grams: FxHashMap<u64, Ends>,
    /// By end - 1: the end of the occurrence before, 0 if there is none.
    previous: Vec<u32>,
}

/// Index of the n-grams of one text for n in `1..=orders`.
#[derive(Debug, Clone)]
pub(crate) struct NgramIndex {
    orders: Vec<Order>,
}

/// Hash of an n-gram; lengths are kept apart by their tables.
pub(crate) fn key(gram: &[TokenId]) -> u64 {
    gram.iter().fold(0x9e37_79b9_7f4a_7c15, |h: u64, &t| {
        let x = (h ^ u64::from(t)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x ^ (x >> 29)
    })
}

impl NgramIndex {
    pub(crate) fn new(orders: usize) -> Self {
        Self { orders: vec![Order::default(); orders] }
    }

    /// Counts the n-grams that end with `text[end - 1]`.
    pub(crate) fn push(&mut self, text: &[TokenId], end: usize) {
        for (i, order) in self.orders.iter_mut().enumerate() {
            let mut before = 0;
            if end > i {
                let entry = order.grams.entry(key(&text[end - i - 1..end])).or_insert(Ends {
                    first: end as u32,
                    last: 0,
                    count: 0,
                });
                before = std::mem::replace(&mut entry.last, end as u32);
                entry.count += 1;
            }
            order.previous.push(before);
        }
    }

    /// Undoes [`push`](Self::push) of the last token.
    pub(crate) fn pop(&mut self, text: &[TokenId], end: usize) {
        for (i, order) in self.orders.iter_mut().enumerate() {
            let before = order.previous.pop().unwrap_or(0);
            if end > i {
                let k = key(&text[end - i - 1..end]);
                if before == 0 {
                    order.grams.remove(&k);
                } else if let Some(entry) = order.grams.get_mut(&k) {
                    entry.last = before;
                    entry.count -= 1;
                }
            }
        }
    }

    /// Counts `text[from..]`.
    pub(crate) fn extend(&mut self, text: &[TokenId], from: usize) {
        for end in from + 1..=text.len() {
            self.push(text, end);
        }
    }

    /// Forgets `text[left..]`.
    pub(crate) fn retract(&mut self, text: &[TokenId], left: usize) {
        for end in (left + 1..=text.len()).rev() {
            self.pop(text, end);
        }
    }

    /// Occurrences of `gram` in the indexed `text`.
    pub(crate) fn find(&self, text: &[TokenId], gram: &[TokenId]) -> Option<Ends> {
        let n = gram.len();
        let ends = *self.orders.get(n.checked_sub(1)?)?.grams.get(&key(gram))?;
        let same = |end: u32| &text[end as usize - n..end as usize] == gram;
        if same(ends.first) && same(ends.last) { Some(ends) } else { scan(text, gram) }
    }

    /// Ends of `gram`, newest first.
    pub(crate) fn ends<'a>(
        &'a self,
        text: &'a [TokenId],
        gram: &'a [TokenId],
    ) -> impl Iterator<Item = u32> + 'a {
        let n = gram.len();
        let order = n.checked_sub(1).and_then(|i| self.orders.get(i));
        let mut at = order.and_then(|o| o.grams.get(&key(gram))).map_or(0, |e| e.last);
        std::iter::from_fn(move || {
            let end = at;
            at = order.filter(|_| end > 0).map_or(0, |o| o.previous[end as usize - 1]);
            (end > 0).then_some(end)
        })
        .filter(move |&end| &text[end as usize - n..end as usize] == gram)
    }

    pub(crate) fn memory(&self) -> usize {
        let order = |o: &Order| {
            o.grams.capacity() * (size_of::<(u64, Ends)>() + 1) + o.previous.capacity() * 4
        };
        self.orders.iter().map(order).sum()
    }
}

/// The definition.
fn scan(text: &[TokenId], gram: &[TokenId]) -> Option<Ends> {
    let n = gram.len();
    let mut ends =
        text.windows(n).enumerate().filter(|(_, w)| *w == gram).map(|(i, _)| (i + n) as u32);
    let first = ends.next()?;
    let (count, last) = ends.fold((1, first), |(c, _), e| (c + 1, e));
    Some(Ends { first, last, count })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn equals_a_scan_along_commits_and_rollbacks(
            steps in prop::collection::vec((prop::collection::vec(0u32..3, 0..6), 0usize..5), 1..12)
        ) {
            let mut index = NgramIndex::new(4);
            let mut text = Vec::new();
            for (add, remove) in steps {
                let from = text.len();
                text.extend(add);
                index.extend(&text, from);
                let left = text.len().saturating_sub(remove);
                index.retract(&text, left);
                text.truncate(left);
                for n in 1..=4usize {
                    for gram in text.windows(n) {
                        prop_assert_eq!(index.find(&text, gram), scan(&text, gram));
                        let ends: Vec<u32> = index.ends(&text, gram).collect();
                        let want: Vec<u32> = (n..=text.len()).rev()
                            .filter(|&e| &text[e - n..e] == gram).map(|e| e as u32).collect();
                        prop_assert_eq!(ends, want);
                    }
                }
                prop_assert_eq!(index.find(&text, &[9, 9]), None);
            }
        }
    }
}
