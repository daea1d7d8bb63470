//! `latex`: mathematical answers, equal when their values are, else when they are spelled alike.
//!
//! Own, after the ways in which evaluation scripts disagree (Kydlicek, "Math-Verify"). Two stages.
//! The spelling is normalised: delimiters, spacing, `\left`, units, degree and per cent signs,
//! `\text{..}` and its like go; `\frac34` and `\sqrt3` get braces; a leading `x =` goes. Then a
//! recursive descent over `+ - * / ^ \frac \sqrt \pi e` and implicit products evaluates it:
//!
//! ```text
//! Q:3/4            an exact rational of 128-bit parts
//! R:3.464101615    a real constant, rounded to 10 significant digits
//! S:..             neither: the normalised spelling without white space
//! (..) [..)        a tuple or interval of keys, in order; \{..\} and bare lists: a set, sorted
//! ```
//!
//! No symbolic algebra: exponents stop at 64, nesting at 64, and what would be larger is spelling.

const MAX_DEPTH: usize = 64;
/// Longer answers are no mathematics: they are compared by spelling.
const MAX_BYTES: usize = 1024;
const UNITS: &[&str] = &[
    "cm", "mm", "km", "m", "ft", "feet", "foot", "inches", "inch", "in", "miles", "mile", "units",
    "unit", "dollars", "cents", "degrees", "degree", "hours", "hour", "minutes", "minute",
    "seconds", "second", "days", "day", "mph", "kg", "g", "lbs", "pounds", "square", "cubic",
    "meters", "metres", "percent", "years", "weeks", "points", "people", "ways",
];

/// The key of a trimmed answer; none where nothing is left.
pub(super) fn key(raw: &str) -> Option<String> {
    if let Some(rest) = raw.strip_prefix("R:") {
        return rest.parse::<f64>().ok().filter(|x| x.is_finite()).map(|_| raw.to_owned());
    }
    let raw = ["Q:", "S:"].iter().find_map(|tag| raw.strip_prefix(tag)).unwrap_or(raw);
    if raw.len() > MAX_BYTES {
        return Some(format!("S:{}", raw.split_whitespace().collect::<String>()));
    }
    let plain = normalise(raw);
    if plain.is_empty() {
        return None;
    }
    Some(compound(&plain, 0))
}

/// The normalised spelling: LaTeX without what does not change the value.
fn normalise(raw: &str) -> String {
    let mut text = raw.replace('\u{2212}', "-").replace("\\\\", "\u{1}").replace('~', " ");
    for gone in [
        "\\left",
        "\\right",
        "\\displaystyle",
        "\\qquad",
        "\\quad",
        "\\,",
        "\\;",
        "\\!",
        "\\:",
        "\\ ",
        "\\(",
        "\\)",
        "\\[",
        "\\]",
        "^{\\circ}",
        "^\\circ",
        "\\degree",
        "\u{b0}",
        "\\%",
        "%",
        "\\$",
        "$",
        "\\bigl",
        "\\bigr",
        "\\Big",
        "\\big",
    ] {
        if text.contains(gone) {
            text = text.replace(gone, if gone.ends_with("quad") { " " } else { "" });
        }
    }
    for (from, to) in [
        ("\\dfrac", "\\frac"),
        ("\\tfrac", "\\frac"),
        ("\\cfrac", "\\frac"),
        ("\\cdot", "*"),
        ("\\times", "*"),
        ("\\div", "/"),
        ("\\leqslant", "<="),
        ("\\geqslant", ">="),
        ("\\leq", "<="),
        ("\\geq", ">="),
        ("\\le", "<="),
        ("\\ge", ">="),
        ("\u{2264}", "<="),
        ("\u{2265}", ">="),
        ("\\lt", "<"),
        ("\\gt", ">"),
        ("\\ne", "!="),
        ("\u{3c0}", "\\pi"),
        ("\u{221a}", "\\sqrt"),
        ("\u{221e}", "\\infty"),
        ("\u{b1}", "\\pm"),
        ("\\lbrace", "\\{"),
        ("\\rbrace", "\\}"),
    ] {
        if text.contains(from) {
            text = text.replace(from, to);
        }
    }
    for name in [
        "\\textbf",
        "\\textit",
        "\\text",
        "\\mathrm",
        "\\mathbf",
        "\\mbox",
        "\\operatorname",
        "\\boxed",
        "\\fbox",
    ] {
        text = unwrap(&text, name);
    }
    let mut text = text.trim().trim_end_matches('.').trim().to_owned();
    // A leading name: `x =`, `f(x) =`, `x \in`.
    for mark in ["=", "\\in"] {
        let sides: Vec<&str> = text.split(mark).collect();
        if let [name, value] = sides[..] {
            let name = name.trim();
            let inner = name.strip_suffix("(x)").unwrap_or(name);
            let is_name = !inner.is_empty()
                && inner.len() <= 2
                && inner.bytes().all(|b| b.is_ascii_alphabetic());
            if is_name && !value.starts_with("fty") && !name.ends_with(['<', '>', '!']) {
                text = value.trim().to_owned();
            }
        }
    }
    text = subscripts(&text);
    // Trailing units after a digit or a brace.
    while let Some((head, word)) = split_last_word(&text) {
        let base = word.trim_end_matches(['^', '2', '3', '{', '}']);
        if UNITS.contains(&base.to_ascii_lowercase().as_str())
            && head.ends_with(|c: char| c.is_ascii_digit() || c == '}' || c == ')')
        {
            text = head.to_owned();
        } else {
            break;
        }
    }
    text
}

/// Cuts a trailing word off; the rest is trimmed.
fn split_last_word(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_end();
    let power = text.trim_end_matches(['^', '2', '3', '{', '}']);
    let power = if power.ends_with(|c: char| c.is_ascii_alphabetic()) { power } else { text };
    let start = power.trim_end_matches(|c: char| c.is_ascii_alphabetic()).len();
    let head = &text[..start];
    (start < power.len() && !head.ends_with('\\')).then(|| (head.trim_end(), &text[start..]))
}

/// `name{body}` becomes ` body `.
fn unwrap(text: &str, name: &str) -> String {
    let mut rest = text;
    let mut out = String::new();
    while let Some(at) = rest.find(name) {
        out.push_str(&rest[..at]);
        let after = rest[at + name.len()..].trim_start();
        match braced(after) {
            Some((body, tail)) => {
                out.push(' ');
                out.push_str(body);
                out.push(' ');
                rest = tail;
            }
            None => rest = after,
        }
    }
    out.push_str(rest);
    out
}

/// Splits `{body}tail`.
fn braced(text: &str) -> Option<(&str, &str)> {
    let mut depth = 0;
    for (i, b) in text.bytes().enumerate() {
        match b {
            b'{' => depth += 1,
            b'}' if depth == 1 => return Some((&text[1..i], &text[i + 1..])),
            b'}' => depth -= 1,
            _ if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

/// `_{8}` becomes `_8`.
fn subscripts(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("_{") {
        out.push_str(&rest[..=at]);
        match braced(&rest[at + 1..]) {
            Some((body, tail)) if body.bytes().all(|b| b.is_ascii_alphanumeric()) => {
                out.push_str(body);
                rest = tail;
            }
            _ => {
                out.push('{');
                rest = &rest[at + 2..];
            }
        }
    }
    out.push_str(rest);
    out
}

/// Key of a normalised spelling: lists and relations first, then a value, then the spelling.
fn compound(text: &str, depth: usize) -> String {
    let text = text.trim();
    let spelled =
        || format!("S:{}", text.split_whitespace().collect::<String>().replace('\u{1}', "\\\\"));
    if depth > 4 {
        return spelled();
    }
    if let Some(number) = thousands(text) {
        return value(&number).unwrap_or_else(spelled);
    }
    let set = text.strip_prefix("\\{").and_then(|t| t.strip_suffix("\\}"));
    if let Some(body) = set
        && let Some(parts) = split(body)
    {
        return format!("{{{}}}", sorted(&parts, depth));
    }
    let (first, last) = (text.chars().next(), text.chars().last());
    if let (Some(open @ ('(' | '[')), Some(close @ (')' | ']'))) = (first, last)
        && text.len() > 2
        && let Some(parts) = split(&text[1..text.len() - 1])
        && parts.len() > 1
        && closes_last(text)
    {
        let keys: Vec<String> = parts.iter().map(|part| compound(part, depth + 1)).collect();
        return format!("{open}{}{close}", keys.join(","));
    }
    if let Some(inner) = text.strip_prefix('(').and_then(|t| t.strip_suffix(')'))
        && !inner.is_empty()
        && inner.trim().bytes().all(|b| b.is_ascii_alphabetic())
    {
        return compound(inner, depth + 1);
    }
    if let Some(parts) = split(text)
        && parts.len() > 1
    {
        return format!("{{{}}}", sorted(&parts, depth));
    }
    if let Some((a, b)) = text.split_once("\\pm") {
        let sides = [format!("{a}+{b}"), format!("{a}-{b}")];
        if value(&sides[0]).is_some() {
            let sides: Vec<&str> = sides.iter().map(String::as_str).collect();
            return format!("{{{}}}", sorted(&sides, depth));
        }
    }
    if let Some(chain) = relation(text, depth) {
        return chain;
    }
    value(text).unwrap_or_else(spelled)
}

fn sorted(parts: &[&str], depth: usize) -> String {
    let mut keys: Vec<String> = parts.iter().map(|part| compound(part, depth + 1)).collect();
    keys.sort_unstable();
    keys.dedup();
    keys.join(",")
}

/// Whether the first bracket is closed by the last character.
fn closes_last(text: &str) -> bool {
    let mut depth = 0i32;
    for (i, b) in text.bytes().enumerate() {
        match b {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return i + 1 == text.len();
        }
    }
    false
}

/// Splits at commas outside brackets; none where brackets do not match or a part is empty.
fn split(text: &str) -> Option<Vec<&str>> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0i32, 0);
    for (i, b) in text.bytes().enumerate() {
        match b {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth -= 1,
            b',' | b';' if depth == 0 => {
                parts.push(text[start..i].trim());
                start = i + 1;
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    let last = parts.len() - 1;
    if let Some(stripped) = parts[last].strip_prefix("and ") {
        parts[last] = stripped;
    }
    (depth == 0 && parts.iter().all(|part| !part.is_empty())).then_some(parts)
}

/// `10,000` without its commas.
fn thousands(text: &str) -> Option<String> {
    let body = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = body.split_once('.').unwrap_or((body, "0"));
    let mut groups = whole.split(',');
    let first = groups.next()?;
    let digits = |g: &str| !g.is_empty() && g.bytes().all(|b| b.is_ascii_digit());
    let mut rest = groups.peekable();
    rest.peek()?;
    let good = digits(first)
        && first.len() <= 3
        && digits(fraction)
        && rest.all(|g| g.len() == 3 && digits(g));
    good.then(|| text.replace(',', ""))
}

/// A chain of relations with keyed sides.
fn relation(text: &str, depth: usize) -> Option<String> {
    let mut out = String::new();
    let mut rest = text;
    let mut any = false;
    loop {
        let found = rest.find(['<', '>', '=', '!']);
        let Some(at) = found else { break };
        let sign = if rest[at + 1..].starts_with('=') { 2 } else { 1 };
        let side = rest[..at].trim();
        if side.is_empty() || rest.len() <= at + sign {
            return None;
        }
        out.push_str(&compound(side, depth + 3));
        out.push_str(&rest[at..at + sign]);
        rest = &rest[at + sign..];
        any = true;
    }
    any.then(|| out + &compound(rest.trim(), depth + 3))
}

#[derive(Debug, Clone, Copy)]
enum Value {
    Exact(i128, i128),
    Real(f64),
}

fn value(text: &str) -> Option<String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_answers_have_equal_keys() {
        for (x, y) in [
            ("\\frac{3}{4}", "0.75"),
            ("\\dfrac34", "0.75"),
            ("2\\sqrt3", "\\sqrt{12}"),
            ("\\frac{\\pi}{2}", "\\pi/2"),
            ("(1,2)", "(1, 2)"),
            ("1,2", "2, 1"),
            ("\\text{(A)}", "A"),
            ("10^\\circ", "10"),
            ("x=5", "5"),
            ("10,000", "10000"),
            ("27_{8}", "27_8"),
            ("1 1/2", "3/2"),
            ("1\\frac{1}{2}", "3/2"),
            ("\\$32", "32"),
            ("5\\text{ cm}", "5"),
            ("3\\sqrt2", "3sqrt(2)"),
            ("2 \\pm 1", "1,3"),
            ("\\left( 1, 2 \\right]", "(1,2]"),
            ("f(x)=\\frac{1}{2}", "0.5"),
            ("2^{10}", "1024"),
            ("\\{1,2\\}", "\\{2,1\\}"),
        ] {
            assert_eq!(key(x), key(y), "{x} {y}");
        }
    }

    #[test]
    fn different_answers_have_different_keys() {
        for (x, y) in [
            ("(1,2)", "(2,1)"),
            ("[0,1)", "(0,1)"),
            ("1/3", "0.333"),
            ("1,2", "12"),
            ("x<2", "x>2"),
            ("A", "AA"),
            ("10%", "0.1"),
        ] {
            assert_ne!(key(x), key(y), "{x} {y}");
        }
    }

    #[test]
    fn hostile_answers_are_spelling() {
        let tower = key("5^(5^(5^5))").unwrap();
        assert!(tower.starts_with("S:"), "{tower}");
        let deep = "(".repeat(60_000);
        assert!(key(&deep).is_some());
        assert!(key(&"{".repeat(5000)).is_some());
        assert!(key(&"9".repeat(5000)).is_some());
        assert!(key(&"\\sqrt".repeat(9000)).is_some());
        assert!(key(&"\\frac".repeat(9000)).is_some());
        assert!(key(&"^-".repeat(9000)).is_some());
        assert_eq!((key(""), key("$$")), (None, None));
        for text in ["\\frac{1}{0}", "\\sqrt{-1}", "\\text{", "_{", "x=", "<", "a<", "1<2<3", "é^2"]
        {
            drop(key(text));
        }
    }
}
