//! Counts by key, with the leader and the runner-up kept current.
//!
//! Keys are numbered in the order in which their first ballot was cast. Ballots are cast in launch
//! order, so among keys with equal counts the smallest number is the one whose first ballot has the
//! lowest launch index: the tie rule `first`.
//!
//! A ballot that raises key `k` to `c` changes at most the two best counts `a >= b`:
//!
//! ```text
//! k leads:                                     a = c
//! c > a, or c = a and k is older than leader:  b = a, leader = k, a = c
//! c > b:                                       b = c
//! ```
//!
//! Keeping the incumbent at equality would be wrong: of the ballots B A A B, `first` elects B.

/// Number of a key, in order of first appearance.
pub type KeyId = u32;

/// Keys that are counted in place.
const FEW: usize = 6;

/// The ballots of one question.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Counts of the first keys, so that most questions touch one line of memory.
    few: [u32; FEW],
    /// All counts, once there are more keys; boxed, so that a tally is 64 bytes.
    #[allow(clippy::box_collection, reason = "8 bytes in place of 24")]
    many: Option<Box<Vec<u32>>>,
    num_keys: u32,
    leader: KeyId,
    best: u32,
    second: u32,
    cast: u32,
    seen: u32,
    last: KeyId,
    streak: u32,
}

impl Tally {
    /// Casts a ballot for a key; a number equal to [`Tally::num_keys`] makes a new key. Larger
    /// numbers count as the new key too, so that the numbering has no gaps.
    ///
    /// Constant time.
    pub fn cast(&mut self, key: KeyId) {
        let key = key.min(self.num_keys);
        if key == self.num_keys {
            self.grow();
        }
        let counts = self.many.as_deref_mut().map_or(&mut self.few[..], Vec::as_mut_slice);
        counts[key as usize] += 1;
        let count = counts[key as usize];
        self.cast += 1;
        self.seen += 1;
        self.streak = if self.last == key { self.streak + 1 } else { 1 };
        self.last = key;
        if self.cast == 1 || (key == self.leader && self.best > 0) {
            (self.leader, self.best) = (key, count);
        } else if count > self.best || (count == self.best && key < self.leader) {
            self.second = self.best;
            (self.leader, self.best) = (key, count);
        } else if count > self.second {
            self.second = count;
        }
    }

    /// Makes room for one more key.
    fn grow(&mut self) {
        self.num_keys += 1;
        if let Some(many) = &mut self.many {
            many.push(0);
        } else if self.num_keys as usize > FEW {
            let mut many = self.few.to_vec();
            many.push(0);
            self.many = Some(Box::new(many));
        }
    }

    /// Joins key `from` into key `into`: its ballots count for `into`, and it keeps none. The rest is
    /// as if they had been one key from the start, but for the streak.
    ///
    /// Linear in the number of keys.
    pub fn merge(&mut self, into: KeyId, from: KeyId) {
        if into == from || into.max(from) >= self.num_keys {
            return;
        }
        let (into, from) = (into.min(from), into.max(from));
        let counts = self.many.as_deref_mut().map_or(&mut self.few[..], Vec::as_mut_slice);
        counts[into as usize] += std::mem::take(&mut counts[from as usize]);
        if self.last == from {
            self.last = into;
        }
        (self.leader, self.best, self.second) = (0, 0, 0);
        for key in 0..self.num_keys {
            let count = self.counts()[key as usize];
            if count > self.best {
                (self.leader, self.second, self.best) = (key, self.best, count);
            } else {
                self.second = self.second.max(count);
            }
        }
    }

    /// Bytes held outside of this value.
    pub(crate) fn memory(&self) -> usize {
        let of = |many: &Vec<u32>| size_of::<Vec<u32>>() + many.capacity() * size_of::<u32>();
        self.many.as_deref().map_or(0, of)
    }

    /// Counts a trace without a ballot: it ends every streak.
    pub fn abstain(&mut self) {
        self.seen += 1;
        self.streak = 0;
    }

    /// Number of traces counted, those without a ballot included.
    pub fn num_seen(&self) -> u32 {
        self.seen
    }

    /// The key of the last trace and how many traces in a row, up to the last, voted for it; none if
    /// the last trace cast no ballot.
    pub fn streak(&self) -> Option<(KeyId, u32)> {
        (self.streak > 0).then_some((self.last, self.streak))
    }

    /// Number of distinct keys.
    pub fn num_keys(&self) -> usize {
        self.num_keys as usize
    }

    /// Number of ballots.
    pub fn num_cast(&self) -> u32 {
        self.cast
    }

    /// The key with most ballots, the oldest of them on ties; none before the first ballot.
    pub fn leader(&self) -> Option<KeyId> {
        (self.cast > 0).then_some(self.leader)
    }

    /// Counts of the leader and of the runner-up, 0 where there is none.
    pub fn top_two(&self) -> (u32, u32) {
        (self.best, self.second)
    }

    /// Ballots by key.
    pub fn counts(&self) -> &[u32] {
        self.many.as_deref().map_or_else(|| &self.few[..self.num_keys as usize], Vec::as_slice)
    }

    /// How many keys share the leader's count.
    pub fn num_tied(&self) -> usize {
        self.counts().iter().filter(|&&count| count == self.best && count > 0).count()
    }

    /// Whether the leader wins every tie that `rest` further ballots, all for one rival, could make.
    ///
    /// Linear in the number of keys.
    pub fn leader_wins_ties(&self) -> bool {
        let rival =
            self.counts().iter().position(|&count| count == self.second && count < self.best);
        match rival {
            _ if self.cast == 0 => false,
            // At equal counts the leader is the oldest already.
            None => self.second == self.best || self.second == 0,
            Some(oldest) => self.leader < oldest as KeyId,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(keys: &[KeyId]) -> Tally {
        let mut tally = Tally::default();
        for &key in keys {
            tally.cast(key);
        }
        tally
    }

    #[test]
    fn a_tally_is_one_line_of_memory() {
        assert_eq!(size_of::<Tally>(), 64);
    }

    #[test]
    fn ties_go_to_the_oldest_key() {
        assert_eq!(of(&[0, 1, 1, 0]).leader(), Some(0));
        assert_eq!(of(&[0, 1, 1]).leader(), Some(1));
        assert_eq!(of(&[0, 1, 2, 2, 1]).leader(), Some(1));
        assert_eq!(of(&[]).leader(), None);
    }

    proptest! {
        #[test]
        fn the_top_two_agree_with_a_full_scan(raw in prop::collection::vec(0u32..9, 0..60)) {
            let mut tally = Tally::default();
            for &key in &raw {
                tally.cast(key);
                let mut sorted = tally.counts().to_vec();
                sorted.sort_unstable_by(|x, y| y.cmp(x));
                let best = sorted[0];
                let second = sorted.get(1).copied().unwrap_or(0);
                prop_assert_eq!(tally.top_two(), (best, second));
                let first = tally.counts().iter().position(|&count| count == best);
                prop_assert_eq!(tally.leader().map(|key| key as usize), first);
            }
            prop_assert_eq!(tally.num_cast() as usize, raw.len());
        }

        #[test]
        fn merged_tallies_are_those_of_merged_keys(
            raw in prop::collection::vec(0u32..9, 1..60),
            pair in (0u32..9, 0u32..9),
        ) {
            // Keys numbered by first appearance, before and after the merge.
            let mut names: Vec<u32> = Vec::new();
            for key in &raw {
                if !names.contains(key) {
                    names.push(*key);
                }
            }
            let id = |name: u32| names.iter().position(|n| *n == name).map(|i| i as u32);
            let keys: Vec<u32> = raw.iter().filter_map(|&key| id(key)).collect();
            let (Some(x), Some(y)) = (id(pair.0), id(pair.1)) else { return Ok(()) };
            let mut merged = of(&keys);
            merged.merge(x, y);
            let (low, high) = (x.min(y), x.max(y));
            // The gap that the merged key leaves is closed in the direct run.
            let joined = |key: u32| if key == high { low } else { key };
            let close = |key: u32| if key > high && low != high { key - 1 } else { key };
            let direct = of(&keys.iter().map(|&key| close(joined(key))).collect::<Vec<_>>());
            prop_assert_eq!(merged.top_two(), direct.top_two());
            prop_assert_eq!(merged.leader().map(close), direct.leader());
        }
    }
}
