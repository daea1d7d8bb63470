//! Sets of numbers as lexemes, by arithmetic (no tables).
//!
//! A state is what was written so far: sign, digits `p` as a big integer, number `f` of fraction
//! digits. It lives iff some continuation lies in the set. With further digits the values
//! `[p, p+1)·10^s` are reachable (`s = -f`, or `s = k` after `k` more integer digits; with an exponent
//! any shift), intersected with the bounds; a divisor restricts them to the lattice `M·Z`, and so does
//! a cap on the digits. Then:
//!
//! ```text
//! an interval with inner points, no lattice     lives (what must not be is a discrete set)
//! a lattice                                     lives iff a multiple in the interval is not refused
//! ```
//!
//! In plain spelling states that cannot be told apart are one: all that matters of `p` is how it compares
//! with the leading digits of each constant, its remainders, and the number of digits up to the longest
//! constant. So `0 ≤ x < 10^6` has some fifty states, however many numbers are written.

use super::decimal::{Decimal, digits, pow10};
use super::expr::{Arena, EMPTY, Expr, ExprId, INF};
use super::print::{self, Print};
use crate::error::{Error, Result};
use num_bigint::{BigInt, BigUint};
use rustc_hash::FxHashMap;
use std::cmp::Ordering;
use std::sync::Arc;

/// Index of a state of some number.
pub(crate) type NumberId = u32;

/// Whether numbers are integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Whole {
    /// Both kinds.
    #[default]
    Any,
    /// Integers only.
    Integer,
    /// No integers.
    Fraction,
}

/// A set of numbers: the conjunction of its fields.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct NumberSet {
    /// Lower end, and whether it is excluded.
    pub(crate) low: Option<(Decimal, bool)>,
    /// Upper end, and whether it is excluded.
    pub(crate) high: Option<(Decimal, bool)>,
    pub(crate) whole: Whole,
    /// Positive values that must divide.
    pub(crate) divisors: Vec<Decimal>,
    /// Positive values that must not divide.
    pub(crate) non_divisors: Vec<Decimal>,
    pub(crate) excluded: Vec<Decimal>,
    /// Only these.
    pub(crate) finite: Option<Vec<Decimal>>,
}

/// How numbers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Notation {
    /// Every JSON spelling within exponents of ±308 and 400 digits; otherwise no exponent where
    /// anything is demanded of the value, and integers without fraction.
    pub(crate) any: bool,
    /// Most digits of the mantissa.
    pub(crate) digits: Option<u32>,
}

impl Notation {
    /// Every spelling of exponents up to ±308, however many zeros it has: what must not come again.
    pub(crate) const EVERY: Self = Self { any: true, digits: Some(u32::MAX) };
}

/// Largest magnitude of an exponent.
const MAX_EXP: i64 = 308;
/// Most digits with exponents.
const ANY_DIGITS: u64 = 400;
/// Further digits looked at where they are not capped; no constant has more.
const UNCAPPED: u64 = 20_000;
/// Digits of an exponent, leading zeros included.
const EXP_DIGITS: u32 = 3;
/// Multiples looked at before an answer is given up.
const MOST_MULTIPLES: usize = 10_000;

impl NumberSet {
    /// Whether a value lies in the set.
    pub(crate) fn contains(&self, v: &Decimal) -> bool {
        let above = self.low.as_ref().is_none_or(|(end, open)| v > end || (v == end && !open));
        let below = self.high.as_ref().is_none_or(|(end, open)| v < end || (v == end && !open));
        above
            && below
            && match self.whole {
                Whole::Any => true,
                Whole::Integer => v.e >= 0,
                Whole::Fraction => v.e < 0,
            }
            && self.divisors.iter().all(|d| v.is_multiple_of(d))
            && !self.non_divisors.iter().any(|d| v.is_multiple_of(d))
            && !self.excluded.contains(v)
            && self.finite.as_ref().is_none_or(|f| f.contains(v))
    }

    /// Whether no number satisfies the fields.
    ///
    /// # Errors
    /// `LimitExceeded` if too many multiples are refused one by one.
    pub(crate) fn is_empty(&self) -> Result<bool> {
        if let Some(finite) = &self.finite {
            return Ok(!finite.iter().any(|v| self.contains(v)));
        }
        let side = |negative| Machine::new(self, Notation::default(), negative).any_value(negative);
        Ok(!side(false)? && !side(true)?)
    }

    /// Whether nothing is demanded but perhaps that the value is an integer.
    fn is_free(&self) -> bool {
        self.low.is_none()
            && self.high.is_none()
            && self.whole != Whole::Fraction
            && self.divisors.is_empty()
            && self.non_divisors.is_empty()
            && self.excluded.is_empty()
            && self.finite.is_none()
    }
}

/// The set as it concerns the magnitudes of one sign.
#[derive(Debug)]
struct Machine {
    set: NumberSet,
    how: Notation,
    /// No magnitude lies in the interval.
    none: bool,
    low: (Decimal, bool),
    high: Option<(Decimal, bool)>,
    lattice: Option<Decimal>,
    /// Lattices that must be left out.
    nots: Vec<Decimal>,
    /// Magnitudes that must be left out, sorted.
    excluded: Vec<Decimal>,
    /// Constants that magnitudes are compared with.
    constants: Vec<Decimal>,
    /// Integer digits of the longest constant.
    whole_digits: u64,
    /// Fraction digits that matter.
    fraction_digits: u64,
    most_digits: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Phase {
    Start,
    Minus,
    /// A single leading zero.
    Zero,
    Int,
    /// After the point.
    Dot,
    Frac,
    /// After the `e`.
    Exp,
    /// After its sign.
    ExpSign,
    ExpDigits,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    machine: u32,
    negative: bool,
    phase: Phase,
    p: BigUint,
    whole: u32,
    fraction: u32,
    exp: i64,
    exp_negative: bool,
    exp_digits: u32,
}

/// What tells states apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Exact(State),
    /// With exponents: the order of magnitude, how the digits compare with each constant's, and how
    /// many zeros they end in. Everything else of `p` can only be read, not compared.
    Scaled {
        machine: u32,
        negative: bool,
        phase: Phase,
        used: u32,
        size: i64,
        tail: i64,
        order: Vec<(Ordering, usize)>,
        exp: (i64, bool, u32),
    },
    Plain {
        machine: u32,
        negative: bool,
        phase: Phase,
        whole: u64,
        fraction: u64,
        order: Vec<Ordering>,
        rests: Vec<Option<BigInt>>,
    },
}

/// All numbers of an arena.
#[derive(Debug, Clone, Default)]
pub(crate) struct Numbers {
    /// Positive and negative side of each set.
    machines: Vec<Arc<[Machine; 2]>>,
    sets: FxHashMap<(NumberSet, Notation), ExprId>,
    states: Vec<(State, bool)>,
    index: FxHashMap<Key, Option<NumberId>>,
}

impl Numbers {
    /// A fingerprint that does not depend on the arena.
    pub(super) fn print(&self, n: NumberId) -> Print {
        let (state, _) = &self.states[n as usize];
        let machine = &self.machines[state.machine as usize][0];
        let state = State { machine: 0, ..state.clone() };
        print::of_hash(&(&machine.set, machine.how, state))
    }

    /// Whether the text so far is a number of the set.
    pub(crate) fn accepts(&self, n: NumberId) -> bool {
        self.states.get(n as usize).is_some_and(|s| s.1)
    }
}

impl Machine {
    fn new(set: &NumberSet, how: Notation, negative: bool) -> Self {
        let zero = (Decimal::integer(0), false);
        let flip = |end: &Option<(Decimal, bool)>| end.as_ref().map(|(v, o)| (v.negated(), *o));
        let (low, high) = if negative {
            (flip(&set.high), flip(&set.low))
        } else {
            (set.low.clone(), set.high.clone())
        };
        let low = low.filter(|(v, _)| !v.is_negative()).unwrap_or(zero);
        let none =
            high.as_ref().is_some_and(|(v, open)| *v < low.0 || (*v == low.0 && (*open || low.1)));
        let one = Decimal::integer(1);
        let mut lattice: Option<Decimal> = None;
        let integer = (set.whole == Whole::Integer).then_some(&one);
        for d in set.divisors.iter().chain(integer) {
            lattice = Some(lattice.map_or_else(|| d.clone(), |l| l.lcm(d)));
        }
        let mut nots = set.non_divisors.clone();
        if set.whole == Whole::Fraction {
            nots.push(one);
        }
        let mut excluded: Vec<Decimal> = set
            .excluded
            .iter()
            .filter(|v| v.is_zero() || v.is_negative() == negative)
            .map(|v| if negative { v.negated() } else { v.clone() })
            .collect();
        excluded.sort_unstable();
        let mut constants: Vec<Decimal> = excluded.clone();
        constants.push(low.0.clone());
        constants.extend(high.iter().map(|h| h.0.clone()));
        let whole_digits = constants.iter().map(|c| digits(&truncated(c, 0))).max().unwrap_or(1);
        let fraction_digits = constants
            .iter()
            .chain(&lattice)
            .chain(&nots)
            .map(|c| c.e.min(0).unsigned_abs())
            .max()
            .unwrap_or(0);
        let most_digits = match (how.any, how.digits) {
            (true, Some(u32::MAX)) => None,
            (true, n) => Some(n.map_or(ANY_DIGITS, u64::from).min(ANY_DIGITS)),
            (false, n) => n.map(u64::from),
        };
        Self {
            set: set.clone(),
            how,
            none,
            low,
            high,
            lattice,
            nots,
            excluded,
            constants,
            whole_digits,
            fraction_digits,
            most_digits,
        }
    }

    /// Whether a fraction may be written.
    fn has_fraction(&self) -> bool {
        self.how.any || self.set.whole != Whole::Integer
    }

    /// Whether a magnitude lies in the set.
    fn contains(&self, v: &Decimal) -> bool {
        let (low, open) = &self.low;
        (v > low || (v == low && !open))
            && self.high.as_ref().is_none_or(|(h, open)| v < h || (v == h && !open))
            && self.lattice.as_ref().is_none_or(|l| v.is_multiple_of(l))
            && self.allowed(v)
    }

    /// Whether a magnitude is not one that must be left out.
    fn allowed(&self, v: &Decimal) -> bool {
        !self.nots.iter().any(|n| v.is_multiple_of(n)) && self.excluded.binary_search(v).is_err()
    }

    /// Whether any magnitude lies in the set; of negative numbers other than zero.
    fn any_value(&self, negative: bool) -> Result<bool> {
        if self.none {
            return Ok(false);
        }
        let low = if negative && self.low.0.is_zero() {
            (Decimal::integer(0), true)
        } else {
            self.low.clone()
        };
        self.some_between(&low, self.high.as_ref(), None)
    }

    /// Whether a magnitude of `[p, p+1)·10^s` with a granularity lies in the set.
    fn some_in(&self, p: &BigUint, s: i64, unit: Option<i64>) -> Result<bool> {
        let from = (Decimal::unsigned(p.clone(), s), false);
        let to = (Decimal::unsigned(p + 1u8, s), true);
        let low = if from.0 > self.low.0 { &from } else { &self.low };
        let high = match &self.high {
            Some(h) if h.0 < to.0 => h,
            _ => &to,
        };
        self.some_between(low, Some(high), unit)
    }

    fn some_between(
        &self,
        low: &(Decimal, bool),
        high: Option<&(Decimal, bool)>,
        unit: Option<i64>,
    ) -> Result<bool> {
        if let Some(high) = high
            && low.0 >= high.0
        {
            return Ok(low.0 == high.0 && !low.1 && !high.1 && self.contains(&low.0));
        }
        let lattice = match (&self.lattice, unit) {
            (Some(l), Some(e)) => l.lcm_power(e),
            (Some(l), None) => l.clone(),
            (None, Some(e)) => Decimal { m: 1.into(), e },
            // Between two different ends lie more decimals than any discrete set can refuse.
            (None, None) => return Ok(true),
        };
        // A refused lattice that contains this one leaves nothing.
        if self.nots.iter().any(|n| lattice.is_multiple_of(n)) {
            return Ok(false);
        }
        let (floor, exact) = low.0.div_floor(&lattice);
        let mut k = if exact && !low.1 { floor } else { floor + 1 };
        let last = high.map(|(h, open)| {
            let (floor, exact) = h.div_floor(&lattice);
            if exact && *open { floor - 1 } else { floor }
        });
        // The excluded values alone refuse no more than they are.
        let most = if self.nots.is_empty() { self.excluded.len() + 1 } else { MOST_MULTIPLES };
        let mut refused = 0;
        while refused < most {
            if last.as_ref().is_some_and(|last| k > *last) {
                return Ok(false);
            }
            if self.allowed(&Decimal::new(&k * &lattice.m, lattice.e)) {
                return Ok(true);
            }
            k += 1;
            refused += 1;
        }
        let most = most as u64;
        Err(Error::limit("multiples of a number that are refused", most + 1, most))
    }

    fn value(s: &State) -> Decimal {
        Decimal::unsigned(s.p.clone(), s.exp - i64::from(s.fraction))
    }

    fn accepts(&self, s: &State) -> bool {
        let complete = matches!(s.phase, Phase::Zero | Phase::Int | Phase::Frac | Phase::ExpDigits);
        complete && !self.none && self.contains(&Self::value(s))
    }

    /// Whether some continuation is accepted.
    fn lives(&self, s: &State) -> Result<bool> {
        if self.none {
            return Ok(false);
        }
        let used = u64::from(s.whole + s.fraction);
        let left = match self.most_digits {
            Some(most) if used > most => return Ok(false),
            most => most.map(|m| m - used),
        };
        match s.phase {
            Phase::Start => Ok(true),
            // In plain spelling a sign needs a number below zero; `-0` may then be written too.
            Phase::Minus => Ok(left != Some(0)
                && (self.any_value(true)? || (self.how.any && self.contains(&Self::value(s))))),
            Phase::Exp | Phase::ExpSign | Phase::ExpDigits => Ok(self.some_exponent(s)),
            Phase::Dot if left == Some(0) => Ok(false),
            _ if self.how.any => self.some_shift(s, left.unwrap_or(UNCAPPED)),
            Phase::Int => {
                let more =
                    |end: &Decimal| digits(&truncated(end, 0)).saturating_sub(s.whole.into());
                let most = self.high.as_ref().map_or_else(
                    || {
                        let step = self.lattice.as_ref().map_or(0, |l| digits(l.m.magnitude()));
                        let zeros = self.lattice.as_ref().map_or(0, |l| l.e.max(0) as u64);
                        more(&self.low.0) + step + zeros + self.nots.len() as u64 + 2
                    },
                    |h| more(&h.0),
                );
                for k in 0..=left.map_or(most, |l| l.min(most)) {
                    // Fraction digits that are left; integers are on a lattice anyway.
                    let unit = match left {
                        Some(l) if self.has_fraction() => Some(k as i64 - l as i64),
                        _ => None,
                    };
                    if self.some_in(&s.p, k as i64, unit)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Phase::Zero | Phase::Dot | Phase::Frac => {
                let f = i64::from(s.fraction);
                let fine = left.filter(|_| self.has_fraction());
                self.some_in(&s.p, -f, fine.map(|l| -f - l as i64))
            }
        }
    }

    /// Whether more digits and an exponent lead into the set.
    fn some_shift(&self, s: &State, left: u64) -> Result<bool> {
        let f = i64::from(s.fraction);
        let more = if s.phase == Phase::Int { left as i64 } else { 0 };
        let size = digits(&s.p) as i64 - i64::from(s.p.bits() == 0);
        let place = |v: &Decimal| digits(v.m.magnitude()) as i64 + v.e;
        // Shifts at which all magnitudes lie beyond an end are not looked at.
        let mut shifts = (-MAX_EXP, MAX_EXP + more);
        if !self.low.0.is_zero() {
            shifts.0 = shifts.0.max(place(&self.low.0) - 1 - size.max(1) + f);
        }
        if let Some((high, _)) = &self.high
            && size > 0
        {
            shifts.1 = shifts.1.min(place(high) + 1 - size + f);
        }
        // Values close to what is written are small, and mostly there is one.
        let near = f.clamp(shifts.0, shifts.1.max(shifts.0));
        let most = (shifts.1 - near).max(near - shifts.0);
        let around =
            (0..=most).flat_map(|d| if d == 0 { [near, i64::MAX] } else { [near + d, near - d] });
        for t in around.filter(|t| (shifts.0..=shifts.1).contains(t)) {
            if self.some_in(&s.p, t - f, Some(t - f - left as i64))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether an exponent that begins like this leads into the set.
    fn some_exponent(&self, s: &State) -> bool {
        let mut ranges: Vec<(i64, i64)> = Vec::new();
        let (mut lo, mut hi) = (s.exp.abs(), s.exp.abs());
        for _ in s.exp_digits..=EXP_DIGITS {
            if s.exp_digits > 0 || lo != hi {
                ranges.push((lo, hi.min(MAX_EXP)));
            }
            (lo, hi) = (lo * 10, hi * 10 + 9);
        }
        let signs: &[bool] = match s.phase {
            Phase::Exp => &[false, true],
            _ if s.exp_negative => &[true],
            _ => &[false],
        };
        let v = Decimal::unsigned(s.p.clone(), -i64::from(s.fraction));
        if v.is_zero() {
            return ranges.iter().any(|r| r.0 <= r.1) && self.contains(&v);
        }
        // Exponents at which the value lies beyond an end, or between the multiples of a power of
        // ten, are not looked at.
        let place = |v: &Decimal| digits(v.m.magnitude()) as i64 + v.e;
        let here = place(&v);
        let mut least = -MAX_EXP;
        if !self.low.0.is_zero() {
            least = least.max(place(&self.low.0) - here);
        }
        if let Some(lattice) = &self.lattice
            && lattice.m == BigInt::from(1)
        {
            least = least.max(lattice.e - v.e);
        }
        let most = match &self.high {
            Some((high, _)) if high.is_zero() => return false,
            Some((high, _)) => MAX_EXP.min(place(high) - here),
            None => MAX_EXP,
        };
        let reach = |e: i64| self.contains(&Decimal { m: v.m.clone(), e: v.e + e });
        signs.iter().any(|&negative| {
            ranges.iter().any(|&(lo, hi)| {
                let (lo, hi) = if negative { (-hi, -lo) } else { (lo, hi) };
                (lo.max(least)..=hi.min(most)).any(reach)
            })
        })
    }

    fn key(&self, s: &State) -> Key {
        if matches!(s.phase, Phase::Start | Phase::Minus) {
            return Key::Exact(s.clone());
        }
        if self.how.any {
            return self.scaled_key(s);
        }
        let f = u64::from(s.fraction);
        let in_fraction = matches!(s.phase, Phase::Dot | Phase::Frac);
        let order = self
            .constants
            .iter()
            .map(|c| {
                let head = if in_fraction {
                    truncated(c, f)
                } else {
                    let whole = truncated(c, 0);
                    let len = digits(&whole);
                    if u64::from(s.whole) > len {
                        return Ordering::Greater;
                    }
                    whole / pow10(len - u64::from(s.whole))
                };
                // A constant with digits left is still ahead of an equal prefix; one without is
                // passed by any digit but zero, which the number of digits tells.
                s.p.cmp(&head)
            })
            .collect();
        let rests = self
            .lattice
            .iter()
            .chain(&self.nots)
            .map(|l| {
                let places = l.e.min(0).unsigned_abs();
                let (kept, lost) = if f > places {
                    let cut = pow10(f - places);
                    (&s.p / &cut, &s.p % &cut)
                } else {
                    (s.p.clone(), BigUint::ZERO)
                };
                // With digits beyond the lattice's the value is no multiple any more.
                (lost == BigUint::ZERO).then(|| BigInt::from(kept) % l.scaled(l.e.min(0)))
            })
            .collect();
        let capped = self.most_digits.is_some();
        let clip = |n: u64, most: u64| if capped { n } else { n.min(most) };
        Key::Plain {
            machine: s.machine,
            negative: s.negative,
            phase: s.phase,
            whole: if in_fraction && !capped {
                0
            } else {
                clip(s.whole.into(), self.whole_digits + 1)
            },
            fraction: clip(f, self.fraction_digits + 1),
            order,
            rests,
        }
    }
}

impl Machine {
    /// The key with exponents. Lattices other than powers of ten need all of `p`.
    fn scaled_key(&self, s: &State) -> Key {
        let one = BigInt::from(1);
        let decimal = self.lattice.as_ref().is_none_or(|l| l.m == one);
        if !decimal || !self.nots.is_empty() {
            return Key::Exact(s.clone());
        }
        let zero = s.p.bits() == 0;
        let text = if zero { String::new() } else { s.p.to_string() };
        let kept = text.trim_end_matches('0');
        let order = self
            .constants
            .iter()
            .map(|c| {
                let c = c.m.magnitude().to_string();
                let n = text.len().min(c.len());
                match text[..n].cmp(&c[..n]) {
                    // One is the other's beginning: which, and how much of it was written.
                    Ordering::Equal => (kept.len().cmp(&c.len()), text.len().min(c.len() + 1)),
                    decided => (decided, usize::MAX),
                }
            })
            .collect();
        let fraction = i64::from(s.fraction);
        let zeros = (text.len() - kept.len()) as i64;
        Key::Scaled {
            machine: s.machine,
            negative: s.negative,
            phase: s.phase,
            used: if self.most_digits.is_some() { s.whole + s.fraction } else { 0 },
            size: if zero { i64::MIN } else { text.len() as i64 - fraction },
            // Fraction digits count for the granularity even where all digits are zero.
            tail: match (zero, &self.lattice, self.most_digits) {
                (false, Some(_), _) => zeros - fraction,
                (_, _, Some(_)) => -fraction,
                // Without a cap it tells where the first digit may still stand.
                (true, _, None) => -fraction.min(MAX_EXP + 1 + self.fraction_digits as i64),
                (false, None, None) => 0,
            },
            order,
            exp: (s.exp, s.exp_negative, s.exp_digits),
        }
    }
}

/// The magnitude of a constant with `places` fraction digits, the others cut off.
fn truncated(c: &Decimal, places: u64) -> BigUint {
    let up = c.e + places as i64;
    let m = c.m.magnitude();
    if up >= 0 { m * pow10(up as u64) } else { m / pow10(up.unsigned_abs()) }
}

impl Arena {
    /// The texts that denote a number of a set.
    ///
    /// # Errors
    /// `LimitExceeded` if too many multiples are refused one by one.
    pub(crate) fn number(&mut self, set: &NumberSet, how: Notation) -> Result<ExprId> {
        let key = (set.clone(), how);
        if let Some(&known) = self.numbers.sets.get(&key) {
            return Ok(known);
        }
        let plain = !how.any;
        let out = if let Some(finite) = &set.finite {
            let values: Vec<Decimal> = finite.iter().filter(|v| set.contains(v)).cloned().collect();
            if plain {
                let mut words = Vec::new();
                for v in &values {
                    self.spellings_of(v, &mut words);
                }
                self.union(&words)
            } else {
                let mut members = Vec::new();
                for v in values {
                    let end = Some((v, false));
                    let point = NumberSet { low: end.clone(), high: end, ..NumberSet::default() };
                    members.push(self.number(&point, how)?);
                }
                self.union(&members)
            }
        } else if set.is_free() && plain && how.digits.is_none() {
            self.free_number(set.whole == Whole::Integer)
        } else {
            let machine = self.numbers.machines.len() as u32;
            let sides = [Machine::new(set, how, false), Machine::new(set, how, true)];
            self.numbers.machines.push(Arc::new(sides));
            self.charge(1024 + set.excluded.len() * 256);
            let start = State {
                machine,
                negative: false,
                phase: Phase::Start,
                p: BigUint::ZERO,
                whole: 0,
                fraction: 0,
                exp: 0,
                exp_negative: false,
                exp_digits: 0,
            };
            // The start lives iff a step does; a number has at least one character.
            let id = self.numbers.states.len() as NumberId;
            self.numbers.states.push((start, false));
            if self.try_steps(id)?.is_empty() { EMPTY } else { self.intern(Expr::Number(id)) }
        };
        self.numbers.sets.insert(key, out);
        Ok(out)
    }

    /// Splits `e` into its sets of numbers by arithmetic, here without some values, and the rest.
    /// Unlike the difference of two expressions, this never searches for what is left.
    ///
    /// # Errors
    /// As [`number`](Self::number).
    pub(crate) fn numbers_without(
        &mut self,
        e: ExprId,
        values: &[Decimal],
    ) -> Result<(ExprId, ExprId)> {
        let members = match self.node(e) {
            Expr::Union(members) => members.to_vec(),
            _ => vec![e],
        };
        let mut sets = Vec::new();
        let mut others = Vec::new();
        for m in members {
            let Expr::Number(n) = *self.node(m) else {
                others.push(m);
                continue;
            };
            let state = &self.numbers.states[n as usize].0;
            if state.phase != Phase::Start {
                others.push(m);
                continue;
            }
            let machine = &self.numbers.machines[state.machine as usize][0];
            let (mut set, how) = (machine.set.clone(), machine.how);
            set.excluded.extend(values.iter().filter(|v| machine.set.contains(v)).cloned());
            set.excluded.sort_unstable();
            set.excluded.dedup();
            sets.push(self.number(&set, how)?);
        }
        Ok((self.union(&sets), self.union(&others)))
    }

    /// `-?(0|[1-9][0-9]*)`, for numbers with fraction and exponent.
    fn free_number(&mut self, integer: bool) -> ExprId {
        let digit = self.class(vec![(0x30, 0x39)]);
        let digits = self.repeat(digit, 0, INF);
        let some = self.repeat(digit, 1, INF);
        let first = self.class(vec![(0x31, 0x39)]);
        let large = self.concat(first, digits);
        let zero = self.literal("0");
        let whole = self.union(&[zero, large]);
        let minus = self.literal("-");
        let sign = self.repeat(minus, 0, 1);
        if integer {
            return self.concat(sign, whole);
        }
        let dot = self.literal(".");
        let fraction = self.concat(dot, some);
        let fraction = self.repeat(fraction, 0, 1);
        let e = self.class(vec![(0x45, 0x45), (0x65, 0x65)]);
        let signs = self.class(vec![(0x2b, 0x2b), (0x2d, 0x2d)]);
        let signs = self.repeat(signs, 0, 1);
        // Up to 308, so that every number is one in double precision, too.
        let short = self.repeat(digit, 1, 2);
        let two = self.repeat(digit, 2, 2);
        let low = self.class(vec![(0x30, 0x32)]);
        let low = self.concat(low, two);
        let last = self.class(vec![(0x30, 0x38)]);
        let thirty = self.literal("30");
        let last = self.concat(thirty, last);
        let power = self.union(&[short, low, last]);
        let exponent = self.sequence(&[e, signs, power]);
        let exponent = self.repeat(exponent, 0, 1);
        self.sequence(&[sign, whole, fraction, exponent])
    }

    /// The plain text of a value; where that is long, scientific texts too.
    fn spellings_of(&mut self, v: &Decimal, out: &mut Vec<ExprId>) {
        out.push(self.literal(&v.plain()));
        let mantissa = v.m.magnitude().to_string();
        let power = mantissa.len() as i64 - 1 + v.e;
        if v.is_zero() || (-5..16).contains(&power) {
            return;
        }
        let sign = if v.is_negative() { "-" } else { "" };
        let (head, tail) = mantissa.split_at(1);
        let dot = if tail.is_empty() { "" } else { "." };
        let exps: &[&str] = if power < 0 { &["e-", "E-"] } else { &["e", "E", "e+", "E+"] };
        for e in exps {
            let text = format!("{sign}{head}{dot}{tail}{e}{}", power.abs());
            out.push(self.literal(&text));
            if power.abs() < 10 {
                let text = format!("{sign}{head}{dot}{tail}{e}0{}", power.abs());
                out.push(self.literal(&text));
            }
        }
    }

    /// The live steps of a number; none if a budget is spent, which [`Arena::check`] then tells.
    pub(super) fn number_steps(&mut self, n: NumberId) -> Vec<(u8, u8, ExprId)> {
        self.try_steps(n).unwrap_or_else(|_| {
            self.exhaust();
            Vec::new()
        })
    }

    fn try_steps(&mut self, n: NumberId) -> Result<Vec<(u8, u8, ExprId)>> {
        let s = self.numbers.states[n as usize].0.clone();
        let sides = Arc::clone(&self.numbers.machines[s.machine as usize]);
        let mut out: Vec<(u8, u8, ExprId)> = Vec::new();
        for &byte in b"+-.0123456789Ee" {
            if let Some(next) = steps(&sides, &s, byte)
                && let Some(id) = self.number_state(next)?
            {
                let to = self.intern(Expr::Number(id));
                match out.last_mut() {
                    Some(l) if l.2 == to && l.1 + 1 == byte => l.1 = byte,
                    _ => out.push((byte, byte, to)),
                }
            }
        }
        Ok(out)
    }

    fn number_state(&mut self, s: State) -> Result<Option<NumberId>> {
        self.spend(20);
        let sides = Arc::clone(&self.numbers.machines[s.machine as usize]);
        let machine = &sides[usize::from(s.negative)];
        let key = machine.key(&s);
        if let Some(&known) = self.numbers.index.get(&key) {
            return Ok(known);
        }
        let id = if machine.lives(&s)? {
            let id = self.numbers.states.len() as NumberId;
            let accepts = machine.accepts(&s);
            self.charge(400 + s.p.bits() as usize / 4);
            self.numbers.states.push((s, accepts));
            Some(id)
        } else {
            None
        };
        self.numbers.index.insert(key, id);
        Ok(id)
    }
}

/// The state after a byte, as far as the grammar of numbers allows it.
fn steps(sides: &[Machine; 2], s: &State, byte: u8) -> Option<State> {
    let machine = &sides[usize::from(s.negative)];
    let mut to = s.clone();
    match (s.phase, byte) {
        (Phase::Start, b'-') => {
            to.negative = true;
            to.phase = Phase::Minus;
        }
        (Phase::Start | Phase::Minus, b'0') => {
            to.whole = 1;
            to.phase = Phase::Zero;
        }
        (Phase::Start | Phase::Minus | Phase::Int, b'0'..=b'9') => {
            to.p = &s.p * 10u8 + (byte - b'0');
            to.whole += 1;
            to.phase = Phase::Int;
        }
        (Phase::Zero | Phase::Int, b'.') if machine.has_fraction() => to.phase = Phase::Dot,
        (Phase::Dot | Phase::Frac, b'0'..=b'9') => {
            to.p = &s.p * 10u8 + (byte - b'0');
            to.fraction += 1;
            to.phase = Phase::Frac;
        }
        (Phase::Zero | Phase::Int | Phase::Frac, b'e' | b'E') if machine.how.any => {
            to.phase = Phase::Exp;
        }
        (Phase::Exp, b'+' | b'-') => {
            to.exp_negative = byte == b'-';
            to.phase = Phase::ExpSign;
        }
        (Phase::Exp | Phase::ExpSign | Phase::ExpDigits, b'0'..=b'9') => {
            let e = s.exp.abs() * 10 + i64::from(byte - b'0');
            to.exp_digits += 1;
            if e > MAX_EXP || to.exp_digits > EXP_DIGITS {
                return None;
            }
            to.exp = if s.exp_negative { -e } else { e };
            to.phase = Phase::ExpDigits;
        }
        _ => return None,
    }
    Some(to)
}

#[cfg(test)]
#[path = "number_tests.rs"]
mod tests;
