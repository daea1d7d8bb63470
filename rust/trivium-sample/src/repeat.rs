//! How often a sequence of symbols repeats its end.
//!
//! A suffix has period `d` when every symbol of it but the first `d` equals the one `d` before. With
//! `L(d)` the length of the longest suffix of period `d`, it holds `floor(L(d) / d)` copies of its
//! last `d` symbols, and [`Repeats`] is the period with the most copies. Symbols may be tokens, classes
//! of tokens, or the stream of a host's incremental parser.

use crate::rules::z_function;

/// The period under which the end of a sequence repeats most often.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Repeats {
    /// Copies in a row; 1 where nothing repeats, 0 of an empty sequence.
    pub count: usize,
    /// Symbols a copy. Of several periods with this count the longest, which explains the most text.
    pub period: usize,
}

/// Counts the copies at the end of `symbols`. O(n).
pub fn repeats(symbols: &[u32]) -> Repeats {
    let mut reversed: Vec<u32> = symbols.to_vec();
    reversed.reverse();
    of_reversed(&reversed, &mut Vec::new())
}

/// As [`repeats`], of a sequence given last symbol first.
pub(crate) fn of_reversed(reversed: &[u32], lengths: &mut Vec<u32>) -> Repeats {
    z_function(reversed, lengths);
    let mut best = Repeats::default();
    for period in 1..=reversed.len() {
        // The sequence and its shift by the period agree on so many symbols.
        let agree = lengths.get(period).map_or(0, |&z| z as usize);
        let count = 1 + agree / period;
        if count >= best.count {
            best = Repeats { count, period };
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Compares whole copies, one by one.
    fn naive(s: &[u32]) -> Repeats {
        let mut best = Repeats::default();
        for period in 1..=s.len() {
            let last = &s[s.len() - period..];
            let count = s.rchunks(period).take_while(|copy| *copy == last).count();
            if count >= best.count {
                best = Repeats { count, period };
            }
        }
        best
    }

    #[test]
    fn goldens() {
        assert_eq!(repeats(&[0, 1, 0, 1, 0, 1]), Repeats { count: 3, period: 2 });
        assert_eq!(repeats(&[7, 0, 1, 0, 1, 0]), Repeats { count: 2, period: 2 });
        assert_eq!(repeats(&[5, 5, 5, 5]), Repeats { count: 4, period: 1 });
        assert_eq!(repeats(&[9, 0, 0, 9, 0, 0]), Repeats { count: 2, period: 3 });
        assert_eq!(repeats(&[]), Repeats { count: 0, period: 0 });
        assert_eq!(repeats(&[1, 2, 3]).count, 1);
    }

    proptest! {
        #[test]
        fn repeats_equal_brute_force(s in prop::collection::vec(0u32..3, 0..40)) {
            prop_assert_eq!(repeats(&s), naive(&s));
        }
    }
}
