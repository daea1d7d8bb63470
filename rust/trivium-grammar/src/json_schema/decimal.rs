//! Exact decimals: `±digits · 10^exp`, the values of JSON numbers.
//!
//! Normalised, so that equal values are equal bits: no zero digit at either end, zero has no digits
//! and no sign. Digits are kept as such, since bounds and divisors are compared digit by digit.

use std::cmp::Ordering;
use std::fmt;

/// Largest magnitude of a decimal's exponent; a schema beyond it is refused.
const MAX_EXP: i64 = 4_096;
/// Most digits of a decimal.
const MAX_DIGITS: usize = 4_096;

/// An exact decimal number.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Decimal {
    negative: bool,
    digits: Box<[u8]>,
    exp: i64,
}

impl Decimal {
    /// The value of a JSON number; `None` if the text is none or the value is out of range.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, exp) = match rest.find(['e', 'E']) {
            Some(at) => (&rest[..at], rest[at + 1..].parse::<i64>().ok()?),
            None => (rest, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        if whole.is_empty() || whole.len() + fraction.len() > MAX_DIGITS {
            return None;
        }
        let digits: Vec<u8> =
            whole.bytes().chain(fraction.bytes()).map(|b| b.wrapping_sub(b'0')).collect();
        if digits.iter().any(|&d| d > 9) {
            return None;
        }
        Self::new(negative, &digits, exp.checked_sub(fraction.len() as i64)?)
    }

    /// `±digits · 10^exp`, normalised; `None` out of range.
    pub(crate) fn new(negative: bool, digits: &[u8], exp: i64) -> Option<Self> {
        let first = digits.iter().position(|&d| d != 0).unwrap_or(digits.len());
        let last = digits.iter().rposition(|&d| d != 0).map_or(first, |i| i + 1);
        if first == last {
            return Some(Self::default());
        }
        let exp = exp.checked_add((digits.len() - last) as i64)?;
        let digits: Box<[u8]> = digits[first..last].into();
        let ok = exp.abs() <= MAX_EXP && digits.len() <= MAX_DIGITS;
        ok.then_some(Self { negative, digits, exp })
    }

    /// Whether the value is an integer.
    pub(crate) fn is_integer(&self) -> bool {
        self.exp >= 0
    }

    /// Whether the value is zero.
    pub(crate) fn is_zero(&self) -> bool {
        self.digits.is_empty()
    }

    /// Whether the value is below zero.
    pub(crate) fn is_negative(&self) -> bool {
        self.negative
    }

    /// The value as a count, if it is one.
    pub(crate) fn to_u64(&self) -> Option<u64> {
        if self.negative || self.exp < 0 || self.digits.len() as i64 + self.exp > 19 {
            return None;
        }
        let mut n: u64 = 0;
        for &d in &self.digits {
            n = n.checked_mul(10)?.checked_add(u64::from(d))?;
        }
        (0..self.exp).try_fold(n, |n, _| n.checked_mul(10))
    }

    /// Whether the value is an integral multiple of `of`, which is not zero.
    pub(crate) fn is_multiple_of(&self, of: &Self) -> bool {
        if self.is_zero() {
            return true;
        }
        if of.is_zero() || self.exp < of.exp {
            // 10^(of.exp − exp) > 1 would have to divide a number that does not end in zero.
            return false;
        }
        let mut rest: Vec<u8> = Vec::new();
        let zeros = std::iter::repeat_n(&0, (self.exp - of.exp) as usize);
        for &d in self.digits.iter().chain(zeros) {
            if !(rest.is_empty() && d == 0) {
                rest.push(d);
            }
            while !less(&rest, &of.digits) {
                subtract(&mut rest, &of.digits);
            }
        }
        rest.is_empty()
    }

    /// The sign, the digits before and after the point, both without superfluous zeros.
    pub(crate) fn parts(&self) -> (bool, Vec<u8>, Vec<u8>) {
        let point = self.digits.len() as i64 + self.exp;
        let mut whole = Vec::new();
        let mut fraction = Vec::new();
        if point <= 0 {
            fraction.resize((-point) as usize, 0);
        }
        for (i, &d) in self.digits.iter().enumerate() {
            if (i as i64) < point { whole.push(d) } else { fraction.push(d) }
        }
        while (whole.len() as i64) < point {
            whole.push(0);
        }
        (self.negative, whole, fraction)
    }
}

/// `a < b` for digit strings without leading zeros.
fn less(a: &[u8], b: &[u8]) -> bool {
    (a.len(), a) < (b.len(), b)
}

/// `a -= b` for `a ≥ b`, without leading zeros.
fn subtract(a: &mut Vec<u8>, b: &[u8]) {
    let mut borrow = 0;
    for i in 0..a.len() {
        let at = a.len() - 1 - i;
        let minus = b.len().checked_sub(i + 1).map_or(0, |j| b[j]) + borrow;
        borrow = u8::from(a[at] < minus);
        a[at] = a[at] + 10 * borrow - minus;
    }
    let first = a.iter().position(|&d| d != 0).unwrap_or(a.len());
    a.drain(..first);
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        let size = |d: &Self| d.digits.len() as i64 + d.exp;
        let magnitude = |a: &Self, b: &Self| {
            (!a.is_zero(), if a.is_zero() { 0 } else { size(a) }, &a.digits).cmp(&(
                !b.is_zero(),
                if b.is_zero() { 0 } else { size(b) },
                &b.digits,
            ))
        };
        match (self.negative, other.negative) {
            (false, true) => Ordering::Greater,
            (true, false) => Ordering::Less,
            (false, false) => magnitude(self, other),
            (true, true) => magnitude(other, self),
        }
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (negative, whole, fraction) = self.parts();
        let text = |digits: &[u8]| digits.iter().map(|&d| char::from(b'0' + d)).collect::<String>();
        let sign = if negative { "-" } else { "" };
        let whole = if whole.is_empty() { "0".to_owned() } else { text(&whole) };
        if fraction.is_empty() {
            write!(f, "{sign}{whole}")
        } else {
            write!(f, "{sign}{whole}.{}", text(&fraction))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn d(text: &str) -> Decimal {
        Decimal::parse(text).unwrap()
    }

    #[test]
    fn equal_values_are_equal() {
        for (a, b) in [("1.0", "1"), ("-0", "0"), ("1e2", "100"), ("0.10", "1E-1"), ("0e9", "0")] {
            assert_eq!(d(a), d(b), "{a} {b}");
        }
        assert_eq!(d("-12.50").to_string(), "-12.5");
        assert_eq!(d("0.001").to_string(), "0.001");
        assert_eq!(d("1200").to_string(), "1200");
        assert!(Decimal::parse("1e99999").is_none() && Decimal::parse("").is_none());
    }

    #[test]
    fn order_and_divisibility_agree_with_integers() {
        for a in -60i64..60 {
            for b in -60i64..60 {
                let (x, y) = (d(&format!("{a}e-1")), d(&format!("{b}e-1")));
                assert_eq!(x.cmp(&y), a.cmp(&b), "{a} {b}");
                if b > 0 {
                    assert_eq!(x.is_multiple_of(&y), a % b == 0, "{a} {b}");
                }
            }
        }
        assert!(d("1e308").is_multiple_of(&d("0.123456789")).eq(&false));
        assert!(
            d("0.0075").is_multiple_of(&d("0.0001")) && !d("0.00751").is_multiple_of(&d("0.0001"))
        );
        assert_eq!(d("12e3").to_u64(), Some(12_000));
        assert_eq!(d("1.5").to_u64(), None);
    }
}
