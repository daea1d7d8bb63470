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

/// The ballots of one question.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    counts: Vec<u32>,
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
        let key = key.min(self.counts.len() as u32);
        if key as usize == self.counts.len() {
            self.counts.push(0);
        }
        self.counts[key as usize] += 1;
        self.cast += 1;
        self.seen += 1;
        self.streak = if self.last == key { self.streak + 1 } else { 1 };
        self.last = key;
        let count = self.counts[key as usize];
        if self.cast == 1 || (key == self.leader && self.best > 0) {
            (self.leader, self.best) = (key, count);
        } else if count > self.best || (count == self.best && key < self.leader) {
            self.second = self.best;
            (self.leader, self.best) = (key, count);
        } else if count > self.second {
            self.second = count;
        }
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
        self.counts.len()
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
        &self.counts
    }

    /// How many keys share the leader's count.
    pub fn num_tied(&self) -> usize {
        self.counts.iter().filter(|&&count| count == self.best && count > 0).count()
    }

    /// Whether the leader wins every tie that `rest` further ballots, all for one rival, could make.
    ///
    /// Linear in the number of keys.
    pub fn leader_wins_ties(&self) -> bool {
        let rival = self.counts.iter().position(|&count| count == self.second && count < self.best);
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
    fn ties_go_to_the_oldest_key() {
        assert_eq!(of(&[0, 1, 1, 0]).leader(), Some(0));
        assert_eq!(of(&[0, 1, 1]).leader(), Some(1));
        assert_eq!(of(&[0, 1, 2, 2, 1]).leader(), Some(1));
        assert_eq!(of(&[]).leader(), None);
    }

    proptest! {
        #[test]
        fn the_top_two_agree_with_a_full_scan(raw in prop::collection::vec(0u32..6, 0..60)) {
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
    }
}
