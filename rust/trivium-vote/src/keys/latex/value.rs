//! Values of expressions: exact rationals, real constants, by recursive descent.

use super::MAX_DEPTH;

#[derive(Debug, Clone, Copy)]
enum Value {
    Exact(i128, i128),
    Real(f64),
}

pub(super) fn value(text: &str) -> Option<String> {
    let chars: Vec<char> = text.chars().collect();
    let mut parser = Parser { chars: &chars, at: 0, depth: 0 };
    let value = parser.sum()?;
    parser.space();
    if parser.at < chars.len() {
        return None;
    }
    match value {
        Value::Exact(p, 1) => Some(format!("Q:{p}")),
        Value::Exact(p, q) => Some(format!("Q:{p}/{q}")),
        Value::Real(x) if x.is_finite() => Some(format!("R:{}", ten_digits(x))),
        Value::Real(_) => None,
    }
}

/// A real number rounded to ten significant digits, in plain or scientific notation.
fn ten_digits(x: f64) -> String {
    let rounded: f64 = format!("{x:.9e}").parse().unwrap_or(x);
    format!("{rounded}")
}

fn gcd(mut a: i128, mut b: i128) -> i128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a.abs().max(1)
}

impl Value {
    fn ratio(p: i128, q: i128) -> Option<Self> {
        if q == 0 || p == i128::MIN || q == i128::MIN {
            return None;
        }
        let d = gcd(p, q) * q.signum();
        Some(Self::Exact(p / d, q / d))
    }

    fn real(self) -> f64 {
        match self {
            Self::Exact(p, q) => p as f64 / q as f64,
            Self::Real(x) => x,
        }
    }

    fn add(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::Exact(a, b), Self::Exact(c, d)) => {
                let p = a.checked_mul(d)?.checked_add(c.checked_mul(b)?)?;
                Self::ratio(p, b.checked_mul(d)?)
            }
            _ => Some(Self::Real(self.real() + other.real())),
        }
    }

    fn neg(self) -> Self {
        match self {
            Self::Exact(p, q) => Self::Exact(-p, q),
            Self::Real(x) => Self::Real(-x),
        }
    }

    fn mul(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::Exact(0, _), _) | (_, Self::Exact(0, _)) => Some(Self::Exact(0, 1)),
            (Self::Exact(a, b), Self::Exact(c, d)) => {
                Self::ratio(a.checked_mul(c)?, b.checked_mul(d)?)
            }
            _ => Some(Self::Real(self.real() * other.real())),
        }
    }

    fn div(self, other: Self) -> Option<Self> {
        match other {
            Self::Exact(p, q) => self.mul(Self::ratio(q, p)?),
            Self::Real(x) if x != 0.0 => Some(Self::Real(self.real() / x)),
            Self::Real(_) => None,
        }
    }

    fn pow(self, exponent: Self) -> Option<Self> {
        let Self::Exact(n, 1) = exponent else {
            if let Self::Exact(1, 2) = exponent {
                return self.root(2);
            }
            let x = self.real().powf(exponent.real());
            return (exponent.real().abs() <= 64.0 && x.is_finite()).then_some(Self::Real(x));
        };
        if n.abs() > 64 {
            return None;
        }
        let mut power = Self::Exact(1, 1);
        for _ in 0..n.abs() {
            power = power.mul(self)?;
        }
        if n < 0 { Self::Exact(1, 1).div(power) } else { Some(power) }
    }

    fn root(self, n: i128) -> Option<Self> {
        if let Self::Exact(p, q) = self
            && (p >= 0 || n % 2 == 1)
        {
            let exact = |x: i128| {
                let guess = (x.abs() as f64).powf(1.0 / n as f64).round() as i128 * x.signum();
                let power = guess.checked_pow(u32::try_from(n).ok()?)?;
                (power == x).then_some(guess)
            };
            if let (Some(p), Some(q)) = (exact(p), exact(q)) {
                return Self::ratio(p, q);
            }
        }
        let x = self.real();
        (x >= 0.0 && n > 0).then(|| Self::Real(x.powf(1.0 / n as f64)))
    }
}

struct Parser<'a> {
    chars: &'a [char],
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn space(&mut self) {
        while self.chars.get(self.at).is_some_and(|c| c.is_whitespace()) {
            self.at += 1;
        }
    }

    fn peek(&mut self) -> Option<char> {
        self.space();
        self.chars.get(self.at).copied()
    }

    fn eat(&mut self, text: &str) -> bool {
        self.space();
        let end = self.at + text.chars().count();
        let found =
            self.chars.get(self.at..end).is_some_and(|c| c.iter().copied().eq(text.chars()));
        if found {
            self.at = end;
        }
        found
    }

    fn sum(&mut self) -> Option<Value> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return None;
        }
        let mut total = self.product()?;
        loop {
            if self.eat("+") {
                total = total.add(self.product()?)?;
            } else if self.eat("-") {
                total = total.add(self.product()?.neg())?;
            } else {
                self.depth -= 1;
                return Some(total);
            }
        }
    }

    fn product(&mut self) -> Option<Value> {
        let mut negative = false;
        loop {
            if self.eat("-") {
                negative = !negative;
            } else if !self.eat("+") {
                break;
            }
        }
        let mut total = self.power()?;
        loop {
            if self.eat("*") {
                total = total.mul(self.signed_power()?)?;
            } else if self.eat("/") {
                total = total.div(self.signed_power()?)?;
            } else if self.starts_factor() {
                let mixed = self.mixed();
                let next = self.power()?;
                // `1\frac{1}{2}` and `1 1/2` are mixed numbers.
                total = match (total, next) {
                    (Value::Exact(whole, 1), Value::Exact(p, q)) if mixed && whole >= 0 => {
                        if q == 1 {
                            if !self.eat("/") {
                                return None;
                            }
                            let part = Value::Exact(p, 1).div(self.power()?)?;
                            total.add(part)?
                        } else {
                            total.add(Value::Exact(p, q))?
                        }
                    }
                    _ => total.mul(next)?,
                };
            } else {
                return Some(if negative { total.neg() } else { total });
            }
        }
    }

    fn signed_power(&mut self) -> Option<Value> {
        if self.eat("-") { self.power().map(Value::neg) } else { self.power() }
    }

    /// Whether a digit comes before and a fraction or, after a space, a number comes next.
    fn mixed(&self) -> bool {
        let before = self.chars[..self.at].iter().rev().find(|c| !c.is_whitespace());
        let next = self.chars.get(self.at..self.at + 5);
        let digit = |c: Option<&char>| c.is_some_and(char::is_ascii_digit);
        digit(before)
            && (next.is_some_and(|c| c.iter().collect::<String>() == "\\frac")
                || digit(self.chars.get(self.at)))
    }

    fn starts_factor(&mut self) -> bool {
        match self.peek() {
            Some('(' | '{' | '\\' | 'e') => true,
            Some('s') => self.word("sqrt"),
            Some('p') => self.word("pi"),
            Some(c) => c.is_ascii_digit(),
            None => false,
        }
    }

    fn word(&self, word: &str) -> bool {
        let end = self.at + word.len();
        self.chars.get(self.at..end).is_some_and(|c| c.iter().copied().eq(word.chars()))
    }

    fn power(&mut self) -> Option<Value> {
        let base = self.atom()?;
        if !self.eat("^") {
            return Some(base);
        }
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return None;
        }
        // `2^10` takes the whole number: LaTeX takes one digit, answers mean the number.
        let exponent = self.signed_power()?;
        self.depth -= 1;
        base.pow(exponent)
    }

    fn group(&mut self) -> Option<Value> {
        if self.eat("{") {
            let value = self.sum()?;
            return self.eat("}").then_some(value);
        }
        if self.peek()?.is_ascii_digit() {
            let digit = i128::from(self.chars[self.at].to_digit(10)?);
            self.at += 1;
            return Some(Value::Exact(digit, 1));
        }
        self.atom()
    }

    fn atom(&mut self) -> Option<Value> {
        let first = self.peek()?;
        self.depth += 1;
        let value = if self.depth > 4 * MAX_DEPTH { None } else { self.atom_at(first) };
        self.depth -= 1;
        value
    }

    fn atom_at(&mut self, first: char) -> Option<Value> {
        if first.is_ascii_digit() || first == '.' {
            return self.number();
        }
        if self.eat("(") {
            let value = self.sum()?;
            return self.eat(")").then_some(value);
        }
        if self.eat("{") {
            let value = self.sum()?;
            return self.eat("}").then_some(value);
        }
        if self.eat("\\frac") {
            let p = self.group()?;
            return p.div(self.group()?);
        }
        if self.eat("\\sqrt") || self.eat("sqrt") {
            let mut n = 2;
            if self.eat("[") {
                let Value::Exact(degree @ 1..=64, 1) = self.sum()? else { return None };
                n = degree;
                if !self.eat("]") {
                    return None;
                }
            }
            let parenthesised = self.peek() == Some('(');
            let inner = if parenthesised { self.atom()? } else { self.group()? };
            return inner.root(n);
        }
        if self.eat("\\pi") || self.eat("pi") {
            return Some(Value::Real(std::f64::consts::PI));
        }
        if first == 'e' {
            let next = self.chars.get(self.at + 1);
            if next.is_none_or(|c| !c.is_alphanumeric()) {
                self.at += 1;
                return Some(Value::Real(std::f64::consts::E));
            }
        }
        None
    }

    fn number(&mut self) -> Option<Value> {
        let (mut p, mut q, mut point, mut any) = (0i128, 1i128, false, false);
        while let Some(&c) = self.chars.get(self.at) {
            if let Some(digit) = c.to_digit(10) {
                p = p.checked_mul(10)?.checked_add(i128::from(digit))?;
                if point {
                    q = q.checked_mul(10)?;
                }
                any = true;
            } else if c == '.'
                && !point
                && self.chars.get(self.at + 1).is_some_and(char::is_ascii_digit)
            {
                point = true;
            } else {
                break;
            }
            self.at += 1;
        }
        any.then(|| Value::ratio(p, q)).flatten()
    }
}
