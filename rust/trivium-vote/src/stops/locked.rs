//! `locked`: stop when no completion of the budget can change the winner. Lossless.
//!
//! With counts `a >= b` of the two best keys and `r` traces outstanding, a rival gains at most `r`:
//! the leader is safe once `a - b > r`, the strict form. Under ties to the oldest key it is also
//! safe at `a - b = r` if it is older than every rival that could draw level, the tie-aware form.
//! Both hold whatever share of the outstanding traces abstains.

use crate::tally::Tally;

/// `a - b > rest`.
pub fn strict(tally: &Tally, rest: u32) -> bool {
    let (a, b) = tally.top_two();
    a - b > rest
}

/// [`strict`], or `a - b = rest` and the leader wins the tie.
pub fn tie_aware(tally: &Tally, rest: u32) -> bool {
    let (a, b) = tally.top_two();
    a - b > rest || (a - b == rest && tally.leader_wins_ties())
}

/// Least number of further traces until either form can hold: each one closes the gap by at most 2,
/// by adding to the leader and by no longer being outstanding.
pub fn need(tally: &Tally, rest: u32) -> u32 {
    let (a, b) = tally.top_two();
    rest.saturating_sub(a - b).div_ceil(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_forty_twenty_one_lock_strictly() {
        let mut tally = Tally::default();
        (0..20).for_each(|_| tally.cast(0));
        assert!(!strict(&tally, 20) && tie_aware(&tally, 20));
        tally.cast(0);
        assert!(strict(&tally, 19));
    }

    /// Every sequence of up to ten traces over three keys and abstention: a lock never errs, and
    /// the tie-aware form is the earliest that never errs.
    #[test]
    fn locks_agree_with_every_completion() {
        fn walk(path: &mut Vec<Option<u32>>, tally: &Tally, budget: usize) -> Vec<Option<u32>> {
            let rest = (budget - path.len()) as u32;
            let mut winners: Vec<Option<u32>> = Vec::new();
            if rest == 0 {
                winners.push(tally.leader());
            } else {
                for key in [None, Some(0), Some(1), Some(2)] {
                    if key.is_some_and(|key| key as usize > tally.num_keys()) {
                        continue;
                    }
                    let mut next = tally.clone();
                    if let Some(key) = key {
                        next.cast(key);
                    }
                    path.push(key);
                    for winner in walk(path, &next, budget) {
                        if !winners.contains(&winner) {
                            winners.push(winner);
                        }
                    }
                    path.pop();
                }
            }
            let fixed = winners == [tally.leader()] && tally.num_cast() > 0;
            assert_eq!(tie_aware(tally, rest), fixed, "{path:?} of {budget}");
            assert!(!strict(tally, rest) || fixed);
            winners
        }
        for budget in 1..=8 {
            walk(&mut Vec::new(), &Tally::default(), budget);
        }
    }
}
