//! Every decimal of up to three digits before and after the point, against integers.

use super::*;
use crate::automata::look::Ctx;
use crate::automata::tests::Random;

/// A set in thousandths, for the oracle.
#[derive(Debug, Clone, Default)]
struct Thousandths {
    low: Option<(i64, bool)>,
    high: Option<(i64, bool)>,
    whole: Whole,
    divisors: Vec<i64>,
    non_divisors: Vec<i64>,
    excluded: Vec<i64>,
}

impl Thousandths {
    fn random(r: &mut Random) -> Self {
        // Hundredths, so that an open end is never a neighbour of the finest decimal.
        let value = |r: &mut Random| match r.below(4) {
            0 => r.below(21) as i64 * 1000 - 10_000,
            1 => r.below(1999) as i64 * 1000 - 999_000,
            2 => r.below(200) as i64 * 10 - 1000,
            _ => r.below(20) as i64 * 100 - 1000,
        };
        let end = |r: &mut Random| (r.below(3) > 0).then(|| (value(r), r.below(2) == 0));
        let (mut low, mut high) = (end(r), end(r));
        if let (Some(a), Some(b)) = (low, high)
            && a.0 > b.0
        {
            (low, high) = (Some(b), Some(a));
        }
        let some = |r: &mut Random, n: usize, most: usize| -> Vec<i64> {
            let list = [10, 20, 50, 100, 250, 300, 500, 1000, 2000, 3000, 5000, 7000];
            (0..r.below(n)).map(|_| list[r.below(most)]).collect()
        };
        Self {
            low,
            high,
            whole: [Whole::Any, Whole::Any, Whole::Integer, Whole::Fraction][r.below(4)],
            divisors: some(r, 2, 12),
            non_divisors: some(r, 2, 12),
            excluded: (0..r.below(4)).map(|_| value(r)).collect(),
        }
    }

    fn holds(&self, v: i64) -> bool {
        self.low.is_none_or(|(e, open)| v > e || (v == e && !open))
            && self.high.is_none_or(|(e, open)| v < e || (v == e && !open))
            && match self.whole {
                Whole::Any => true,
                Whole::Integer => v % 1000 == 0,
                Whole::Fraction => v % 1000 != 0,
            }
            && self.divisors.iter().all(|d| v % d == 0)
            && !self.non_divisors.iter().any(|d| v % d == 0)
            && !self.excluded.contains(&v)
    }

    fn set(&self) -> NumberSet {
        let d = |v: i64| Decimal::new(v.into(), -3);
        NumberSet {
            low: self.low.map(|(v, o)| (d(v), o)),
            high: self.high.map(|(v, o)| (d(v), o)),
            whole: self.whole,
            divisors: self.divisors.iter().map(|&v| d(v)).collect(),
            non_divisors: self.non_divisors.iter().map(|&v| d(v)).collect(),
            excluded: self.excluded.iter().map(|&v| d(v)).collect(),
            finite: None,
        }
    }
}

/// Numbers of the magnitudes below 1000, by thousandths, and how many lie below each.
struct Table {
    sums: Vec<u32>,
    /// Whether numbers of every greater magnitude hold, too: far out a set repeats itself.
    beyond: bool,
}

impl Table {
    fn new(set: &Thousandths, negative: bool) -> Self {
        let mut sums = vec![0];
        let mut sum = 0;
        for v in 0..1_000_000 {
            sum += u32::from(set.holds(if negative { -v } else { v }));
            sums.push(sum);
        }
        let period = set.divisors.iter().chain(&set.non_divisors).fold(1000, |l, &d| lcm(l, d));
        // Bounds and exclusions lie within 1000.
        let far = period * (1_000_000 / period + 1);
        let beyond = (far..far + period).any(|v| set.holds(if negative { -v } else { v }));
        Self { sums, beyond }
    }

    fn any(&self, from: usize, to: usize) -> bool {
        self.sums[to] > self.sums[from]
    }
}

fn lcm(a: i64, b: i64) -> i64 {
    let (mut x, mut y) = (a, b);
    while y != 0 {
        (x, y) = (y, x % y);
    }
    a / x * b
}

struct Walk {
    arena: Arena,
    steps: FxHashMap<ExprId, Vec<(u8, u8, ExprId)>>,
}

impl Walk {
    fn step(&mut self, e: ExprId, byte: u8) -> ExprId {
        let Expr::Number(n) = *self.arena.node(e) else { return EMPTY };
        if !self.steps.contains_key(&e) {
            self.arena.refuel();
            let steps = self.arena.try_steps(n).unwrap();
            self.steps.insert(e, steps);
        }
        let hit = self.steps[&e].iter().find(|s| (s.0..=s.1).contains(&byte));
        hit.map_or(EMPTY, |s| s.2)
    }

    fn accepts(&self, e: ExprId) -> bool {
        self.arena.accepts(e, Ctx::Edge)
    }
}

/// All prefixes of numbers with at most `whole` and `fraction` digits after a sign; whether the
/// set is of the kind judged here.
fn check(set: &Thousandths, whole: u32, fraction: u32) -> bool {
    let mut arena = Arena::new(1 << 28);
    let start = arena.number(&set.set(), Notation::default()).unwrap();
    // A set of everything is an expression over bytes: `chosen_cases` judges those.
    if start != EMPTY && !matches!(arena.node(start), Expr::Number(_)) {
        return false;
    }
    let mut walk = Walk { arena, steps: FxHashMap::default() };
    let tables = [Table::new(set, false), Table::new(set, true)];
    // Sets without a short member tell nothing here.
    let below_zero = tables[1].any(1, 1_000_000);
    let fractions = set.whole != Whole::Integer;
    for negative in [false, true] {
        let table = &tables[usize::from(negative)];
        let first = if negative { walk.step(start, b'-') } else { start };
        if negative {
            assert!(first != EMPTY || !below_zero, "{set:?}: no sign");
            if first == EMPTY || !below_zero {
                continue;
            }
        }
        // (state, p, integer digits, fraction digits, text)
        let mut todo =
            vec![(first, 0usize, 0u32, 0u32, if negative { "-" } else { "" }.to_owned())];
        while let Some((e, p, n, f, text)) = todo.pop() {
            for byte in b"0123456789".iter().copied() {
                let leading_zero = p == 0 && n == 1 && f == 0;
                if leading_zero || (f == 0 && n == whole) {
                    break;
                }
                let to = walk.step(e, byte);
                let q = p * 10 + usize::from(byte - b'0');
                let m = n + 1;
                let text = format!("{text}{}", char::from(byte));
                let most = if q == 0 { m } else { 3 };
                // Enough further digits reach any number of the set's far part.
                let mut lives = q > 0 && table.beyond;
                for k in 0..=(most - m) {
                    let scale = 10usize.pow(k) * 1000;
                    lives |= table.any(q * scale, (q + 1) * scale);
                }
                assert_eq!(to != EMPTY, lives, "{set:?} {text:?}");
                assert_eq!(walk.accepts(to), table.any(q * 1000, q * 1000 + 1), "{set:?} {text:?}");
                if to != EMPTY {
                    todo.push((to, q, m, 0, text));
                }
            }
            if n == 0 || e == EMPTY {
                continue;
            }
            // The point, then its digits depth first.
            let dot = walk.step(e, b'.');
            let lives = fractions && table.any(p * 1000, (p + 1) * 1000);
            assert_eq!(dot != EMPTY, lives, "{set:?} {text:?}.");
            let mut below = vec![(dot, p, 0u32, format!("{text}."))];
            while let Some((e, p, f, text)) = below.pop() {
                if e == EMPTY || f == fraction {
                    continue;
                }
                for byte in b"0123456789".iter().copied() {
                    let to = walk.step(e, byte);
                    let q = p * 10 + usize::from(byte - b'0');
                    let text = format!("{text}{}", char::from(byte));
                    let unit = 10usize.pow(2 - f);
                    let lives = table.any(q * unit, (q + 1) * unit);
                    assert_eq!(to != EMPTY, lives, "{set:?} {text:?}");
                    assert_eq!(
                        walk.accepts(to),
                        table.any(q * unit, q * unit + 1),
                        "{set:?} {text:?}"
                    );
                    below.push((to, q, f + 1, text));
                }
            }
        }
    }
    true
}

#[test]
fn all_short_decimals() {
    let mut random = Random(3);
    let judged = (0..24).filter(|_| check(&Thousandths::random(&mut random), 2, 2)).count();
    assert!(judged > 18, "{judged}");
}

#[test]
fn all_decimals_of_three_and_three_digits() {
    let mut random = Random(11);
    // The last digits are judged by membership, one place before by completions.
    let judged = (0..200).filter(|_| check(&Thousandths::random(&mut random), 3, 2)).count();
    assert!(judged > 150, "{judged}");
}

fn set(low: Option<(&str, bool)>, high: Option<(&str, bool)>, whole: Whole) -> NumberSet {
    let end = |e: Option<(&str, bool)>| e.map(|(v, o)| (Decimal::parse(v).unwrap(), o));
    NumberSet { low: end(low), high: end(high), whole, ..NumberSet::default() }
}

fn language(s: &NumberSet, how: Notation) -> (Arena, ExprId) {
    let mut a = Arena::new(1 << 28);
    let e = a.number(s, how).unwrap();
    (a, e)
}

#[test]
fn chosen_cases() {
    let plain = Notation::default();
    let table: &[(NumberSet, &[&str], &[&str])] = &[
        (
            set(Some(("-4", false)), Some(("4", false)), Whole::Any),
            &["-0.5", "4", "-4", "4.0", "0", "-0", "3.999"],
            &["4.1", "-4.01", "04", "1e0", "+1", ".5", "5", "1."],
        ),
        (
            set(Some(("1", false)), Some(("5", false)), Whole::Integer),
            &["1", "5"],
            &["5.7", "0", "6", "1.0", "10", "-1"],
        ),
        (
            set(Some(("0", true)), None, Whole::Any),
            &["0.1", "0.0001", "5", "100000"],
            &["0", "0.0", "-1", "-0"],
        ),
        (
            set(None, Some(("-10", true)), Whole::Integer),
            &["-11", "-100"],
            &["-10", "-1", "0", "11"],
        ),
        (set(Some(("0", false)), None, Whole::Any), &["0", "17.25"], &["-0", "-1"]),
        (
            set(Some(("1e20", false)), Some(("1e20", false)), Whole::Any),
            &["100000000000000000000", "100000000000000000000.00"],
            &["1e20", "99999999999999999999"],
        ),
        (
            NumberSet { divisors: vec![Decimal::parse("0.01").unwrap()], ..NumberSet::default() },
            &["0", "1.25", "-3.1", "7.000", "12.340"],
            &["1.255", "0.001"],
        ),
        (
            NumberSet {
                divisors: vec![Decimal::parse("1e-8").unwrap()],
                low: Some((Decimal::integer(0), false)),
                ..NumberSet::default()
            },
            &["12391239123", "0.00000001"],
            &["0.000000001"],
        ),
        (
            NumberSet {
                divisors: vec![Decimal::integer(6), Decimal::integer(4)],
                ..set(Some(("1", false)), Some(("30", false)), Whole::Integer)
            },
            &["12", "24"],
            &["6", "4", "36", "0"],
        ),
        (
            NumberSet {
                finite: Some(vec![
                    Decimal::parse("1.50").unwrap(),
                    Decimal::integer(-2),
                    Decimal::parse("1e20").unwrap(),
                ]),
                ..NumberSet::default()
            },
            &["1.5", "-2", "1e20", "1e+20", "1E20", "100000000000000000000"],
            &["1", "2", "1.50", "1.6"],
        ),
        (
            set(None, None, Whole::Any),
            &["0", "-1.5e10", "1E-5", "12", "1e308"],
            &["01", "1e309", "1.", "-", ""],
        ),
    ];
    for (s, yes, no) in table {
        let (mut a, e) = language(s, plain);
        for t in *yes {
            assert!(a.matches(e, t).unwrap(), "{s:?} {t}");
        }
        for t in *no {
            assert!(!a.matches(e, t).unwrap(), "{s:?} {t}");
        }
    }
}

#[test]
fn any_notation_is_decided_by_the_value() {
    let any = Notation { any: true, digits: None };
    let sets = [
        set(Some(("0", true)), Some(("1", false)), Whole::Any),
        set(Some(("1", false)), Some(("5", false)), Whole::Integer),
        NumberSet {
            divisors: vec![Decimal::parse("0.5").unwrap()],
            ..set(None, Some(("10", false)), Whole::Any)
        },
        set(Some(("120", false)), Some(("120", false)), Whole::Any),
        set(Some(("1e-300", false)), Some(("2e-300", false)), Whole::Any),
    ];
    let mut random = Random(9);
    for s in &sets {
        let (mut a, e) = language(s, any);
        for _ in 0..60 {
            let mut text = String::new();
            if random.below(4) == 0 {
                text.push('-');
            }
            text.push_str(["0", "1", "12", "5", "120", "3"][random.below(6)]);
            if random.below(2) == 0 {
                text.push_str([".0", ".5", ".25", ".000"][random.below(4)]);
            }
            if random.below(2) == 0 {
                text.push_str(["e0", "E1", "e-1", "e+2", "e-300", "e-02"][random.below(6)]);
            }
            a.refuel();
            let want = s.contains(&Decimal::parse(&text).unwrap());
            assert_eq!(a.matches(e, &text).unwrap(), want, "{s:?} {text}");
            // A prefix of a member lives, and what lives can be completed.
            if want {
                let mut here = a.place(e, Ctx::Edge);
                for c in text.chars() {
                    here = a.derive(here.0, here.1, c.into()).unwrap();
                    assert_ne!(here.0, EMPTY);
                }
            }
        }
    }
}

#[test]
fn states_with_exponents_are_joined_only_where_nothing_tells_them_apart() {
    let any = Notation { any: true, digits: None };
    for c in ["9007199254740992", "9000", "90042", "1005", "100500", "0.1002", "10.01", "0"] {
        // One arena, so that all prefixes of a set meet in one table.
        for whole in [Whole::Any, Whole::Integer] {
            let v = Decimal::parse(c).unwrap();
            if whole == Whole::Integer && c.contains('.') {
                continue;
            }
            let (mut a, e) = language(&set(Some((c, false)), Some((c, false)), whole), any);
            let (mut up, above) = language(&set(Some((c, false)), None, whole), any);
            for other in [
                "9007",
                "9000",
                "90",
                "900",
                "9007199254740993",
                "1000",
                "10.0",
                "10.1",
                "100",
                "1005",
                "1050",
                "100500.0",
                "0.1",
                "0.10020",
                "0.1003",
                "90042",
                "0.0",
                "1e3",
                "9e3",
                "90071992547409920e-1",
                "9.0042e4",
                "1",
                c,
            ] {
                a.refuel();
                up.refuel();
                let o = Decimal::parse(other).unwrap();
                assert_eq!(a.matches(e, other).unwrap(), o == v, "{c}: {other}");
                let fits = o >= v && (whole == Whole::Any || o.e >= 0);
                assert_eq!(up.matches(above, other).unwrap(), fits, "from {c}: {other}");
            }
        }
    }
}

#[test]
fn what_lives_can_be_completed() {
    let mut random = Random(21);
    for round in 0..16 {
        let thousandths = Thousandths::random(&mut random);
        let how = Notation { any: round % 8 == 0, digits: [None, Some(4), Some(9)][round % 3] };
        let (mut a, e) = language(&thousandths.set(), how);
        if e == EMPTY {
            continue;
        }
        for _ in 0..8 {
            // A random walk, then the shortest way out.
            let mut here = e;
            for _ in 0..random.below(8) {
                let Expr::Number(n) = *a.node(here) else { break };
                a.refuel();
                let steps = a.try_steps(n).unwrap();
                if steps.is_empty() {
                    break;
                }
                here = steps[random.below(steps.len())].2;
            }
            let mut seen = vec![here];
            let mut at = 0;
            while !a.accepts(seen[at], Ctx::Edge) {
                let Expr::Number(n) = *a.node(seen[at]) else { break };
                a.refuel();
                for s in a.try_steps(n).unwrap() {
                    if !seen.contains(&s.2) {
                        seen.push(s.2);
                    }
                }
                at += 1;
                assert!(at < seen.len(), "{thousandths:?} {how:?}: a dead end");
                if at > 60 {
                    break;
                }
            }
        }
    }
}

#[test]
fn states_are_few() {
    let s = set(Some(("0", false)), Some(("1000000", true)), Whole::Any);
    let (mut a, e) = language(&s, Notation::default());
    let mut random = Random(1);
    for _ in 0..2000 {
        let text = format!("{}.{}", random.below(1_000_000), random.below(1_000_000));
        a.refuel();
        assert!(a.matches(e, &text).unwrap());
    }
    assert!(a.numbers.states.len() < 100, "{}", a.numbers.states.len());
    assert!(!set(Some(("1", true)), Some(("2", true)), Whole::Any).is_empty().unwrap());
    assert!(set(Some(("1", true)), Some(("2", true)), Whole::Integer).is_empty().unwrap());
    let refused = NumberSet {
        divisors: vec![Decimal::integer(6)],
        non_divisors: vec![Decimal::integer(3)],
        ..NumberSet::default()
    };
    assert!(refused.is_empty().unwrap());
}
