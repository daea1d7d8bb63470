//! Exact decimals as a big integer and a power of ten, for the arithmetic of [`super::number`].

use num_bigint::{BigInt, BigUint, Sign};
use std::cmp::Ordering;

/// Largest magnitude of an exponent; a number beyond it is refused.
const MAX_EXP: i64 = 10_000;
/// Most digits.
pub(crate) const MAX_DIGITS: usize = 10_000;

/// `m · 10^e`; `m` does not end in zero, so equal values are equal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Decimal {
    pub(super) m: BigInt,
    pub(super) e: i64,
}

/// `10^n`.
pub(super) fn pow10(n: u64) -> BigUint {
    BigUint::from(10u8).pow(u32::try_from(n).unwrap_or(u32::MAX))
}

/// Number of decimal digits; 1 for zero.
pub(super) fn digits(n: &BigUint) -> u64 {
    // log10(2^bits) bounds the length from both sides by one.
    let bits = n.bits();
    let guess = (bits.saturating_sub(1) * 30_103 / 100_000).max(1);
    let mut d = guess;
    while *n >= pow10(d) {
        d += 1;
    }
    d
}

impl Decimal {
    pub(super) fn new(m: BigInt, e: i64) -> Self {
        let (mut m, mut e) = (m, e);
        if m.sign() == Sign::NoSign {
            return Self { m, e: 0 };
        }
        let ten = BigInt::from(10);
        loop {
            let q = &m / &ten;
            if &q * &ten != m {
                return Self { m, e };
            }
            m = q;
            e += 1;
        }
    }

    /// The value of a JSON number; `None` if the text is none, or of absurd size.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (mantissa, exp) = match text.find(['e', 'E']) {
            Some(at) => (&text[..at], text[at + 1..].parse::<i64>().ok()?),
            None => (text, 0),
        };
        let (negative, body) = match mantissa.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, mantissa),
        };
        let (whole, fraction) = body.split_once('.').unwrap_or((body, ""));
        if whole.is_empty() || whole.len() + fraction.len() > MAX_DIGITS || exp.abs() > MAX_EXP {
            return None;
        }
        let all: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
        let m = BigUint::parse_bytes(&all, 10).filter(|_| all.iter().all(u8::is_ascii_digit))?;
        let sign = if negative { Sign::Minus } else { Sign::Plus };
        Some(Self::new(BigInt::from_biguint(sign, m), exp - fraction.len() as i64))
    }

    /// An integer.
    pub(crate) fn integer(n: i64) -> Self {
        Self::new(n.into(), 0)
    }

    pub(super) fn unsigned(m: BigUint, e: i64) -> Self {
        Self::new(m.into(), e)
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.m.sign() == Sign::NoSign
    }

    pub(crate) fn is_negative(&self) -> bool {
        self.m.sign() == Sign::Minus
    }

    pub(crate) fn negated(&self) -> Self {
        Self { m: -&self.m, e: self.e }
    }

    /// `self · 10^-e` as an integer, for `e` at most the exponent.
    pub(super) fn scaled(&self, e: i64) -> BigInt {
        &self.m * BigInt::from(pow10((self.e - e).max(0) as u64))
    }

    /// Whether the value is an integral multiple of `of`; of zero only zero is one.
    pub(crate) fn is_multiple_of(&self, of: &Self) -> bool {
        if self.is_zero() || of.is_zero() {
            return self.is_zero();
        }
        let e = self.e.min(of.e);
        (self.scaled(e) % of.scaled(e)).sign() == Sign::NoSign
    }

    /// The least positive common multiple of two positive values.
    pub(super) fn lcm(&self, other: &Self) -> Self {
        let e = self.e.min(other.e);
        let (a, b) = (self.scaled(e), other.scaled(e));
        let (mut x, mut y) = (a.clone(), b.clone());
        while y.sign() != Sign::NoSign {
            (x, y) = (y.clone(), x % y);
        }
        Self::new(a / x * b, e)
    }

    /// The least positive common multiple of a positive value and `10^e`.
    pub(super) fn lcm_power(&self, e: i64) -> Self {
        if e <= self.e {
            return self.clone();
        }
        // 10^(e - self.e), less what it shares with `m`.
        let k = (e - self.e) as u64;
        let shared = |prime: u8| {
            let (mut m, mut n) = (self.m.magnitude().clone(), 0);
            while n < k && &m % prime == BigUint::ZERO {
                m /= prime;
                n += 1;
            }
            n
        };
        let missing = |prime: u8| BigUint::from(prime).pow((k - shared(prime)) as u32);
        let factor = BigInt::from(missing(2) * missing(5));
        Self::new(&self.m * factor, self.e)
    }

    /// Rounded down, and whether nothing was lost: `self / unit`.
    pub(super) fn div_floor(&self, unit: &Self) -> (BigInt, bool) {
        let e = self.e.min(unit.e);
        let (a, b) = (self.scaled(e), unit.scaled(e));
        let q = &a / &b;
        let exact = &q * &b == a;
        let below = !exact && a.sign() == Sign::Minus;
        (if below { q - 1 } else { q }, exact)
    }

    /// The text without an exponent.
    pub(crate) fn plain(&self) -> String {
        let sign = if self.is_negative() { "-" } else { "" };
        let body = self.m.magnitude().to_string();
        if self.e >= 0 {
            return format!("{sign}{body}{}", "0".repeat(self.e as usize));
        }
        let point = body.len() as i64 + self.e;
        if point > 0 {
            let (whole, fraction) = body.split_at(point as usize);
            format!("{sign}{whole}.{fraction}")
        } else {
            format!("{sign}0.{}{body}", "0".repeat(point.unsigned_abs() as usize))
        }
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        let e = self.e.min(other.e);
        self.scaled(e).cmp(&other.scaled(e))
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_exact() {
        let d = |t: &str| Decimal::parse(t).unwrap();
        for (a, b) in [("1.0", "1"), ("-0", "0"), ("1e2", "100"), ("0.10", "1E-1"), ("0e9", "0")] {
            assert_eq!(d(a), d(b));
        }
        for t in ["0", "-12.5", "0.001", "1200", "-0.5", "10.01"] {
            assert_eq!(d(t).plain(), t);
        }
        assert!(d("-1") < d("-0.5") && d("0.1") < d("0.11") && d("1e3") > d("999.9"));
        assert!(d("0.3").is_multiple_of(&d("0.1")) && !d("0.35").is_multiple_of(&d("0.1")));
        assert_eq!(d("0.4").lcm(&d("0.6")), d("1.2"));
        for m in ["7", "20", "0.25", "8", "125", "0.0004"] {
            for e in -6..6 {
                assert_eq!(d(m).lcm_power(e), d(m).lcm(&Decimal::new(1.into(), e)), "{m} {e}");
            }
        }
        assert_eq!(d("-7").div_floor(&d("2")), (BigInt::from(-4), false));
        for t in ["", "-", ".5", "1e99999999", "+1", "1 ", "0x1", "1.-5"] {
            assert!(Decimal::parse(t).is_none(), "{t}");
        }
        for n in [0u64, 1, 9, 10, 99, 100, 12345, 1 << 60] {
            assert_eq!(digits(&n.into()), n.to_string().len() as u64);
        }
    }
}
