//! Exact rationals of bounded size: the value of a number's spelling.
//!
//! A spelling `digits * 10^exponent / denominator` becomes a reduced fraction; small ones by machine
//! integers, large ones by [`Nat`]. Nothing is rounded on the way, so `0.1 + 0.2`-like surprises
//! cannot occur, with one deliberate exception, [`Rational::without_noise`].

use crate::nat::Nat;

/// Largest size of numerator or denominator in bits.
pub(super) const MAX_BITS: usize = 4096;
/// Largest power of ten in scientific notation.
pub(super) const MAX_EXPONENT: u32 = 64;

/// A sign and a reduced fraction of two natural numbers, the second not zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rational {
    negative: bool,
    num: Nat,
    den: Nat,
}

impl Rational {
    /// The reduced fraction, without a sign for zero; none if `den` is zero or either is too large.
    pub(super) fn new(negative: bool, num: Nat, den: Nat) -> Option<Self> {
        if den.is_zero() || num.bits() > MAX_BITS || den.bits() > MAX_BITS {
            return None;
        }
        let divisor = if den.is_one() { Nat::from_u64(1) } else { num.gcd(&den) };
        let (num, den) = if divisor.is_one() {
            (num, den)
        } else {
            (num.div_rem(&divisor).0, den.div_rem(&divisor).0)
        };
        Some(Self { negative: negative && !num.is_zero(), num, den })
    }

    /// Adds `whole` to the size, keeping the sign: `-1 1/2` is `-(1 + 1/2)`.
    pub(super) fn plus_whole(self, negative: bool, whole: &Nat) -> Option<Self> {
        let num = self.num.add(&whole.mul(&self.den));
        Self::new(negative, num, self.den)
    }

    /// A hundredth.
    pub(super) fn percent(self) -> Option<Self> {
        let mut den = self.den;
        den.mul_add_small(100, 0);
        Self::new(self.negative, self.num, den)
    }

    /// Drops what looks like the noise of floating point: a denominator above `10^6` is rounded to
    /// six decimals (halves to even), so that `12.0000000001` is 12.
    ///
    /// Numbers below a thousandth that are written with at most nine of `digits` significant digits
    /// stay exact: rounding them would make `3e-9` and `5e-8` equal.
    pub(super) fn without_noise(self, digits: usize) -> Option<Self> {
        const MILLION: u32 = 1_000_000;
        let million = Nat::from_u64(u64::from(MILLION));
        let mut thousand = self.num.clone();
        thousand.mul_add_small(1000, 0);
        if self.den <= million || (thousand < self.den && digits <= 9) {
            return Some(self);
        }
        let mut scaled = self.num.clone();
        scaled.mul_add_small(MILLION, 0);
        let (mut rounded, mut rest) = scaled.div_rem(&self.den);
        rest.mul_add_small(2, 0);
        let odd = rounded.clone().div_small(2) == 1;
        if rest > self.den || (rest == self.den && odd) {
            rounded = rounded.add(&Nat::from_u64(1));
        }
        Self::new(self.negative, rounded, million)
    }
}

impl std::fmt::Display for Rational {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sign = if self.negative { "-" } else { "" };
        write!(f, "{sign}{}", self.num)?;
        if self.den.is_one() { Ok(()) } else { write!(f, "/{}", self.den) }
    }
}
