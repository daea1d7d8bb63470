//! What followed each n-gram, how often: the count tables of llama.cpp, ADED and interpolated models.
//!
//! A table subtracts what it added, so a request's own table rolls back exactly; tables that
//! requests share forget by generation ([`Generations`]).

use rustc_hash::FxHashMap;
use trivium_core::TokenId;

/// Longest history.
pub(crate) const MAX_HISTORY: usize = 6;

/// Padded with [`TokenId::MAX`], which is no token.
type Gram = [TokenId; MAX_HISTORY];

fn gram(history: &[TokenId]) -> Gram {
    let mut g = [TokenId::MAX; MAX_HISTORY];
    g[..history.len()].copy_from_slice(history);
    g
}

/// Successors of one history.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Followers {
    /// Sum of the counts.
    pub(crate) total: u32,
    /// Token and count, in order of token.
    pub(crate) next: Vec<(TokenId, u32)>,
}

impl Followers {
    fn add(&mut self, token: TokenId, n: u32) {
        self.total += n;
        match self.next.binary_search_by_key(&token, |x| x.0) {
            Ok(at) => self.next[at].1 += n,
            Err(at) => self.next.insert(at, (token, n)),
        }
    }

    fn subtract(&mut self, token: TokenId) {
        if let Ok(at) = self.next.binary_search_by_key(&token, |x| x.0) {
            self.total -= 1;
            self.next[at].1 -= 1;
            if self.next[at].1 == 0 {
                self.next.remove(at);
            }
        }
    }

    /// Count of one token.
    pub(crate) fn count(&self, token: TokenId) -> u32 {
        self.next.binary_search_by_key(&token, |x| x.0).map_or(0, |at| self.next[at].1)
    }
}

/// Counts for histories of `lengths` tokens.
#[derive(Debug, Clone)]
pub(crate) struct Counts {
    lengths: (usize, usize),
    rows: FxHashMap<Gram, Followers>,
    entries: usize,
}

impl Counts {
    /// Histories of `shortest..=longest` tokens.
    pub(crate) fn new(shortest: usize, longest: usize) -> Self {
        debug_assert!(shortest <= longest && longest <= MAX_HISTORY);
        Self { lengths: (shortest, longest), rows: FxHashMap::default(), entries: 0 }
    }

    fn histories<'a>(
        &self,
        text: &'a [TokenId],
        at: usize,
    ) -> impl Iterator<Item = &'a [TokenId]> + use<'a> {
        (self.lengths.0..=self.lengths.1.min(at)).map(move |n| &text[at - n..at])
    }

    /// Counts `text[from..]`, each token after the histories before it.
    pub(crate) fn extend(&mut self, text: &[TokenId], from: usize) {
        for at in from..text.len() {
            for h in self.histories(text, at) {
                let row = self.rows.entry(gram(h)).or_default();
                let before = row.next.len();
                row.add(text[at], 1);
                self.entries += row.next.len() - before;
            }
        }
    }

    /// Undoes [`extend`](Self::extend).
    pub(crate) fn retract(&mut self, text: &[TokenId], left: usize) {
        for at in (left..text.len()).rev() {
            for h in self.histories(text, at) {
                let Some(row) = self.rows.get_mut(&gram(h)) else { continue };
                let before = row.next.len();
                row.subtract(text[at]);
                self.entries -= before - row.next.len();
                if row.total == 0 {
                    self.rows.remove(&gram(h));
                }
            }
        }
    }

    pub(crate) fn get(&self, history: &[TokenId]) -> Option<&Followers> {
        self.rows.get(&gram(history))
    }

    pub(crate) fn memory(&self) -> usize {
        self.rows.capacity() * (size_of::<(Gram, Followers)>() + 1) + self.entries * 12
    }

    /// Bytes after another token at most.
    pub(super) fn grown(&self) -> usize {
        let more = self.lengths.1 - self.lengths.0 + 1;
        let table = if self.rows.len() + more <= self.rows.capacity() {
            self.rows.capacity()
        } else {
            2 * self.rows.capacity() + 2 * more
        };
        table * (size_of::<(Gram, Followers)>() + 1) + (self.entries + more) * 12
    }

    /// All triples (history, token, count), sorted: for files.
    pub(crate) fn triples(&self) -> Vec<(Vec<TokenId>, TokenId, u32)> {
        #[allow(clippy::iter_over_hash_type)] // sorted below
        let mut out: Vec<_> = self
            .rows
            .iter()
            .flat_map(|(g, f)| {
                let h: Vec<TokenId> = g.iter().copied().filter(|&t| t != TokenId::MAX).collect();
                f.next.iter().map(move |&(t, n)| (h.clone(), t, n))
            })
            .collect();
        out.sort_unstable();
        out
    }

    /// Adds `n` to one count.
    pub(crate) fn insert(&mut self, history: &[TokenId], token: TokenId, n: u32) {
        let row = self.rows.entry(gram(history)).or_default();
        let before = row.next.len();
        row.add(token, n);
        self.entries += row.next.len() - before;
    }
}

/// Two tables, the newer one growing: when it holds half of the bytes, it replaces the older.
#[derive(Debug, Clone)]
pub(crate) struct Generations {
    lengths: (usize, usize),
    new: Counts,
    old: Counts,
}

impl Generations {
    pub(crate) fn new(shortest: usize, longest: usize) -> Self {
        let empty = Counts::new(shortest, longest);
        Self { lengths: (shortest, longest), new: empty.clone(), old: empty }
    }

    /// Counts a text within `max_bytes`; a long one may age like several.
    pub(crate) fn ingest(&mut self, text: &[TokenId], max_bytes: usize) {
        for at in 0..text.len() {
            if !self.makes_room(max_bytes) {
                return;
            }
            let from = at.saturating_sub(self.lengths.1);
            self.new.extend(&text[from..=at], at - from);
        }
    }

    /// Starts a generation where the newer one is full; false where the bytes hold not even a token.
    fn makes_room(&mut self, max_bytes: usize) -> bool {
        if self.new.grown() > max_bytes / 2 {
            let fresh = Counts::new(self.lengths.0, self.lengths.1);
            if fresh.grown() > max_bytes / 2 {
                return false;
            }
            self.old = std::mem::replace(&mut self.new, fresh);
        }
        true
    }

    /// Successors of a history in both generations.
    pub(crate) fn get(&self, history: &[TokenId]) -> Option<Followers> {
        match (self.new.get(history), self.old.get(history)) {
            (None, None) => None,
            (Some(one), None) | (None, Some(one)) => Some(one.clone()),
            (Some(a), Some(b)) => {
                let mut sum = a.clone();
                b.next.iter().for_each(|&(t, n)| sum.add(t, n));
                Some(sum)
            }
        }
    }

    pub(crate) fn memory(&self) -> usize {
        self.new.memory() + self.old.memory()
    }

    /// Contents, as triples.
    pub(crate) fn triples(&self) -> Vec<(Vec<TokenId>, TokenId, u32)> {
        let mut all = self.old.clone();
        for (h, t, n) in self.new.triples() {
            all.insert(&h, t, n);
        }
        all.triples()
    }

    /// Adds `n` to one count, within `max_bytes`.
    pub(crate) fn insert(&mut self, history: &[TokenId], token: TokenId, n: u32, max_bytes: usize) {
        if self.makes_room(max_bytes) {
            self.new.insert(history, token, n);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn naive(text: &[u32], history: &[u32], token: u32) -> u32 {
        let n = history.len();
        (n..text.len()).filter(|&i| text[i - n..i] == *history && text[i] == token).count() as u32
    }

    proptest! {
        #[test]
        fn equals_a_scan_along_commits_and_rollbacks(
            steps in prop::collection::vec((prop::collection::vec(0u32..3, 0..6), 0usize..5), 1..10)
        ) {
            let mut c = Counts::new(1, 3);
            let mut text = Vec::new();
            for (add, remove) in steps {
                let from = text.len();
                text.extend(add);
                c.extend(&text, from);
                let left = text.len().saturating_sub(remove);
                c.retract(&text, left);
                text.truncate(left);
                let mut entries = 0;
                for n in 1..=3u32 {
                    for code in 0..3u32.pow(n) {
                        let h: Vec<u32> = (0..n).map(|i| code / 3u32.pow(i) % 3).collect();
                        let row = c.get(&h).cloned().unwrap_or_default();
                        for t in 0..3 {
                            prop_assert_eq!(row.count(t), naive(&text, &h, t));
                        }
                        prop_assert_eq!(row.total, row.next.iter().map(|x| x.1).sum::<u32>());
                        entries += row.next.len();
                    }
                }
                prop_assert_eq!(c.entries, entries);
            }
        }
    }

    #[test]
    fn generations_count_across_pieces_and_forget() {
        let text: Vec<u32> = (0..5000).map(|i| i % 7).collect();
        let mut g = Generations::new(1, 2);
        g.ingest(&text, 1 << 20);
        assert_eq!(g.get(&[0, 1]).unwrap().count(2), naive(&text, &[0, 1], 2));
        for i in 0..200u32 {
            let text: Vec<u32> = (0..1000).map(|j| i * 1000 + j).collect();
            g.ingest(&text, 1 << 18);
            assert!(g.memory() <= 1 << 18);
        }
        assert!(g.get(&[0, 1]).is_none(), "the first text is gone");
        assert!(g.get(&[199_998]).is_some());
    }
}
