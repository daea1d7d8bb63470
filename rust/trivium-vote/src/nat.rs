//! Natural numbers of any size, as far as exact keys and exact stop rules need them.
//!
//! Digits are 32-bit words, least significant first, without leading zeros, so that equal numbers
//! have equal words and zero has none. Division shifts and subtracts: one step costs one pass over
//! the words, and Euclid's algorithm takes about as many steps in total as its arguments have bits.
//! At the largest size in use (4,096 bits) a greatest common divisor stays below a millisecond.

use std::cmp::Ordering;

/// A natural number.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Nat(Vec<u32>);

impl Nat {
    /// Zero.
    pub(crate) const ZERO: Self = Self(Vec::new());

    /// A number that fits a machine word.
    pub(crate) fn from_u64(value: u64) -> Self {
        Self::trimmed(vec![value as u32, (value >> 32) as u32])
    }

    /// A number from ASCII digits; anything else in `digits` is skipped.
    pub(crate) fn from_digits(digits: impl IntoIterator<Item = u8>) -> Self {
        let mut out = Self::ZERO;
        for digit in digits.into_iter().filter(u8::is_ascii_digit) {
            out.mul_add_small(10, u32::from(digit - b'0'));
        }
        out
    }

    fn trimmed(mut words: Vec<u32>) -> Self {
        while words.last() == Some(&0) {
            words.pop();
        }
        Self(words)
    }

    /// Whether this is zero.
    pub(crate) fn is_zero(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this is one.
    pub(crate) fn is_one(&self) -> bool {
        self.0 == [1]
    }

    /// Number of significant bits; 0 for zero.
    pub(crate) fn bits(&self) -> usize {
        self.0.last().map_or(0, |top| self.0.len() * 32 - top.leading_zeros() as usize)
    }

    /// Multiplies by `factor` and adds `term`, in place.
    pub(crate) fn mul_add_small(&mut self, factor: u32, term: u32) {
        let mut carry = u64::from(term);
        for word in &mut self.0 {
            carry += u64::from(*word) * u64::from(factor);
            *word = carry as u32;
            carry >>= 32;
        }
        if carry > 0 {
            self.0.push(carry as u32);
        }
        *self = Self::trimmed(std::mem::take(&mut self.0));
    }

    /// Divides by `divisor` (not zero) in place and returns the remainder.
    pub(crate) fn div_small(&mut self, divisor: u32) -> u32 {
        let mut rest = 0u64;
        for word in self.0.iter_mut().rev() {
            rest = (rest << 32) | u64::from(*word);
            *word = (rest / u64::from(divisor)) as u32;
            rest %= u64::from(divisor);
        }
        *self = Self::trimmed(std::mem::take(&mut self.0));
        rest as u32
    }

    /// Multiplies by `10^exponent`, in place.
    pub(crate) fn scale_ten(&mut self, exponent: u32) {
        for _ in 0..exponent {
            self.mul_add_small(10, 0);
        }
    }

    /// The product.
    pub(crate) fn mul(&self, other: &Self) -> Self {
        let mut out = vec![0u32; self.0.len() + other.0.len()];
        for (i, &x) in self.0.iter().enumerate() {
            let mut carry = 0u64;
            for (j, &y) in other.0.iter().enumerate() {
                carry += u64::from(out[i + j]) + u64::from(x) * u64::from(y);
                out[i + j] = carry as u32;
                carry >>= 32;
            }
            out[i + other.0.len()] = carry as u32;
        }
        Self::trimmed(out)
    }

    /// The sum.
    pub(crate) fn add(&self, other: &Self) -> Self {
        let mut carry = 0u64;
        let mut out = Vec::with_capacity(self.0.len().max(other.0.len()) + 1);
        for i in 0..self.0.len().max(other.0.len()) {
            carry += u64::from(self.0.get(i).copied().unwrap_or(0));
            carry += u64::from(other.0.get(i).copied().unwrap_or(0));
            out.push(carry as u32);
            carry >>= 32;
        }
        out.push(carry as u32);
        Self::trimmed(out)
    }

    /// Subtracts a number that is not larger, in place.
    fn sub(&mut self, other: &Self) {
        let mut borrow = 0i64;
        for (i, word) in self.0.iter_mut().enumerate() {
            let value = i64::from(*word) - i64::from(other.0.get(i).copied().unwrap_or(0)) - borrow;
            borrow = i64::from(value < 0);
            *word = (value + (borrow << 32)) as u32;
        }
        debug_assert_eq!(borrow, 0, "the subtrahend is not larger");
        *self = Self::trimmed(std::mem::take(&mut self.0));
    }

    /// The number shifted up by `bits`.
    pub(crate) fn shl(&self, bits: usize) -> Self {
        let (words, bits) = (bits / 32, bits % 32);
        let mut out = vec![0u32; words];
        let mut carry = 0u64;
        for &word in &self.0 {
            carry |= u64::from(word) << bits;
            out.push(carry as u32);
            carry >>= 32;
        }
        out.push(carry as u32);
        Self::trimmed(out)
    }

    fn shr_one(&mut self) {
        let mut carry = 0u32;
        for word in self.0.iter_mut().rev() {
            let next = *word << 31;
            *word = (*word >> 1) | carry;
            carry = next;
        }
        *self = Self::trimmed(std::mem::take(&mut self.0));
    }

    /// Quotient and remainder by a number that is not zero.
    pub(crate) fn div_rem(&self, divisor: &Self) -> (Self, Self) {
        let mut rest = self.clone();
        if *self < *divisor {
            return (Self::ZERO, rest);
        }
        let steps = self.bits() - divisor.bits();
        let mut shifted = divisor.shl(steps);
        let mut quotient = vec![0u32; steps / 32 + 1];
        for step in (0..=steps).rev() {
            if rest >= shifted {
                rest.sub(&shifted);
                quotient[step / 32] |= 1 << (step % 32);
            }
            shifted.shr_one();
        }
        (Self::trimmed(quotient), rest)
    }

    /// The greatest common divisor.
    pub(crate) fn gcd(&self, other: &Self) -> Self {
        let (mut x, mut y) = (self.clone(), other.clone());
        while !y.is_zero() {
            let rest = x.div_rem(&y).1;
            x = std::mem::replace(&mut y, rest);
        }
        x
    }
}

impl Ord for Nat {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.0.len().cmp(&other.0.len()))
            .then_with(|| self.0.iter().rev().cmp(other.0.iter().rev()))
    }
}

impl PartialOrd for Nat {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl std::fmt::Display for Nat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut rest = self.clone();
        let mut groups = Vec::new();
        while !rest.is_zero() {
            groups.push(rest.div_small(1_000_000_000));
        }
        write!(f, "{}", groups.pop().unwrap_or(0))?;
        groups.iter().rev().try_for_each(|group| write!(f, "{group:09}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn nat(value: u128) -> Nat {
        Nat::from_digits(value.to_string().into_bytes())
    }

    proptest! {
        #[test]
        fn agrees_with_machine_integers(x in any::<u64>(), y in 1u64.., z in any::<u128>(), s in 0usize..40) {
            let (x, y) = (u128::from(x), u128::from(y));
            prop_assert_eq!(nat(x).mul(&nat(y)), nat(x * y));
            prop_assert_eq!(nat(x).add(&nat(y)), nat(x + y));
            prop_assert_eq!(nat(z).div_rem(&nat(y)), (nat(z / y), nat(z % y)));
            prop_assert_eq!(nat(x).cmp(&nat(y)), x.cmp(&y));
            prop_assert_eq!(nat(x).shl(s), nat(x << s));
            prop_assert_eq!(nat(z).to_string(), z.to_string());
            prop_assert_eq!(nat(z).bits(), 128 - z.leading_zeros() as usize);
            let g = nat(x).gcd(&nat(y));
            prop_assert!(nat(x).div_rem(&g).1.is_zero() && nat(y).div_rem(&g).1.is_zero());
        }
    }

    #[test]
    fn large_numbers_divide_back() {
        let x = Nat::from_digits(b"9".repeat(1200));
        let y = Nat::from_digits(b"7".repeat(700));
        assert_eq!(x.mul(&y).div_rem(&y), (x.clone(), Nat::ZERO));
        assert_eq!(x.mul(&y).gcd(&y), y);
        assert_eq!(x.to_string(), "9".repeat(1200));
        assert_eq!(Nat::ZERO.to_string(), "0");
        assert_eq!(Nat::from_u64(1 << 40).bits(), 41);
    }
}
