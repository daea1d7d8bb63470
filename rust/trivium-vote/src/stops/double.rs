//! Doubling with a supermajority: look after 2, 4, 8, ... traces, stop when the leader's share of
//! them reaches `S`.
//!
//! Own description of public sampling loops. A 2-0 start passes every share, so that live use looks
//! after 4 traces first; under the reference's name it looks after 2. Kept as a yardstick: it is
//! dominated by the Beta rule at every cost.

use crate::tally::Tally;

/// Whether the rule looks now and finds the share; `least` is the first look.
pub fn stops(tally: &Tally, share: f64, least: u32) -> bool {
    let seen = tally.num_seen();
    seen >= least
        && seen.is_power_of_two()
        && f64::from(tally.top_two().0) >= share * f64::from(seen)
        && tally.num_cast() > 0
}

/// Traces until the next look.
pub fn need(tally: &Tally, least: u32) -> u32 {
    let seen = tally.num_seen();
    (seen + 1).next_power_of_two().max(least) - seen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_double() {
        let mut tally = Tally::default();
        let mut looks = Vec::new();
        for _ in 0..20 {
            tally.cast(0);
            if stops(&tally, 0.75, 2) {
                looks.push(tally.num_seen());
            }
        }
        assert_eq!(looks, [2, 4, 8, 16]);
        assert_eq!((need(&tally, 2), need(&Tally::default(), 4)), (12, 4));
    }
}
