//! `number`: equal when the rationals are equal.
//!
//! A spelling is cleaned (currency, thousands commas, thin spaces, the typographic minus, simple
//! LaTeX), then cut into stand-alone numbers by one scan:
//!
//! ```text
//! number   = sign? ( mixed | fraction | decimal )  percent?
//! mixed    = digits ' '+ digits '/' digits
//! fraction = decimal ' '* '/' ' '* digits
//! decimal  = (digits | 1-3 digits (',' 3 digits)+) ('.' digits)? exponent?  |  '.' digits exponent?
//! exponent = [eE] sign? digits  |  ' '* [x*×·] ' '* '10^' '{'? sign? digits '}'?
//! ```
//!
//! A minus between two operands is a subtraction, not a sign; a digit inside a word (`n_5`), a
//! date (`1/2/2020`) and a version (`1.2.3`) are no numbers. An answer is then read as, in this
//! order: a number with nothing but units after it; the only number after the last `=`; the only
//! number there is, unless it is an operand (`marbles - 10`). Anything else is ambiguous or symbolic
//! and abstains unless a fallback is set.
//!
//! The key is the reduced fraction `p/q`, or `p`. A number beyond 4,096 bits or beyond `10^64` keeps
//! its cleaned spelling as key (`S:1e400`), so that a tower of powers costs nothing.

use super::rational::{MAX_BITS, MAX_EXPONENT, Rational};
use super::{Fallback, Percent};
use crate::nat::Nat;

/// A compiled `number` key.
#[derive(Debug, Clone, Copy)]
pub(super) struct NumberKey {
    percent: Percent,
    fallback: Fallback,
}

/// One number of a cleaned text: the bytes it covers, its sign included. Its key is worked out on
/// demand, since only one number of a text becomes the answer.
#[derive(Debug, Clone)]
struct Token {
    scan: Scan,
    start: usize,
    end: usize,
}

impl NumberKey {
    pub(super) fn new(percent: Percent, fallback: Fallback) -> Self {
        Self { percent, fallback }
    }

    /// The key of an answer that stands alone.
    pub(super) fn key(self, raw: &str) -> Option<String> {
        if let Some(spelling) = raw.strip_prefix("S:") {
            return self.key(spelling).filter(|key| key.starts_with("S:"));
        }
        let text = clean(raw);
        let text = text.trim();
        let tokens = tokens(text);
        if let Some(token) = tokens.first().filter(|t| t.start == 0 && is_unit(&text[t.end..])) {
            return self.value(text, token);
        }
        if let Some(at) = text.rfind(['=', '≈']) {
            let mut after = tokens.iter().filter(|token| token.start > at);
            if let (Some(only), None) = (after.next(), after.next()) {
                return self.value(text, only);
            }
        }
        match (tokens.as_slice(), self.fallback) {
            ([only], Fallback::Off) if is_operand(text, only) => None,
            ([only], _) | ([only, ..], Fallback::First) | ([.., only], Fallback::Last) => {
                self.value(text, only)
            }
            _ => None,
        }
    }

    /// The key of a text that is nothing but a number and perhaps its unit.
    pub(super) fn bare(self, text: &str) -> Option<(String, &str)> {
        let cleaned = clean(text.trim());
        let cleaned = cleaned.trim();
        let tokens = tokens(cleaned);
        let token = tokens.first().filter(|t| t.start == 0 && is_unit(&cleaned[t.end..]))?;
        Some((self.value(cleaned, token)?, text.trim()))
    }

    /// The first or last number of a text, where that is asked for. The answer as written is its
    /// line, since offsets of the cleaned text are not those of `text`.
    pub(super) fn fallback(self, text: &str) -> Option<(String, &str)> {
        let number = |line: &str| {
            let cleaned = clean(line);
            let tokens = tokens(&cleaned);
            let first = self.fallback == Fallback::First;
            let token = if first { tokens.first() } else { tokens.last() };
            token.and_then(|token| self.value(&cleaned, token))
        };
        let mut lines = text.lines();
        let found = match self.fallback {
            Fallback::Off => None,
            Fallback::First => lines.find_map(|line| Some((number(line)?, line))),
            Fallback::Last => lines.rev().find_map(|line| Some((number(line)?, line))),
        };
        found.map(|(key, line)| (key, line.trim()))
    }

    fn value(self, text: &str, token: &Token) -> Option<String> {
        token.scan.key(text.as_bytes(), self.percent)
    }
}

/// The numbers of a cleaned text.
fn tokens(text: &str) -> Vec<Token> {
    let mut out = Vec::new();
    let mut at = 0;
    let bytes = text.as_bytes();
    while at < bytes.len() {
        if !starts_number(bytes, at) {
            at += 1;
            continue;
        }
        if in_word(text, at) {
            at = skip_word(bytes, at);
            continue;
        }
        let scan = Scan::at(bytes, at);
        let (start, end) = (sign(bytes, at).map_or(at, |(start, _)| start), scan.end);
        if !scan.broken {
            out.push(Token { scan, start, end });
        }
        at = end;
    }
    out
}

/// Whether a number starts at `at`: a digit, or a point before a digit.
fn starts_number(bytes: &[u8], at: usize) -> bool {
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    digit(at) || (bytes[at] == b'.' && digit(at + 1))
}

/// Whether what stands before `at` makes a digit part of a name.
fn in_word(text: &str, at: usize) -> bool {
    text[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '.')
}

fn skip_word(bytes: &[u8], mut at: usize) -> usize {
    while bytes.get(at).is_some_and(|&b| b.is_ascii_alphanumeric() || b == b'_' || b == b'.') {
        at += 1;
    }
    at
}

/// The pieces of one number, as ranges of the text.
#[derive(Debug, Default, Clone)]
struct Scan {
    /// The whole part of a mixed number.
    whole: Option<(usize, usize)>,
    /// Digits, commas and at most one point.
    digits: (usize, usize),
    /// The power of ten, if written.
    exponent: Option<i64>,
    /// The denominator.
    den: Option<(usize, usize)>,
    percent: bool,
    /// Whether this run of digits is something other than a number.
    broken: bool,
    end: usize,
}

impl Scan {
    fn at(bytes: &[u8], start: usize) -> Self {
        let mut scan = Self::default();
        let mut at = decimal(bytes, start);
        scan.digits = (start, at);
        if let Some((value, end)) = exponent(bytes, at) {
            scan.exponent = Some(value);
            at = end;
        }
        if let Some(den) = denominator(bytes, at) {
            scan.den = Some(den);
            at = den.1;
        } else if scan.exponent.is_none() && bytes[start..at].iter().all(u8::is_ascii_digit) {
            // `w a/b`: a whole number, spaces, a fraction of whole numbers.
            let next = skip_spaces(bytes, at);
            let top = run(bytes, next);
            if next > at
                && top > next
                && let Some(den) = denominator(bytes, top)
            {
                scan.whole = Some(scan.digits);
                scan.digits = (next, top);
                scan.den = Some(den);
                at = den.1;
            }
        }
        let follows = |at: usize| bytes.get(at).copied().unwrap_or(b' ');
        // A further point, stroke or digit group shows a version, a date, a malformed number.
        let continued =
            matches!(follows(at), b'.' | b'/' | b',') && follows(at + 1).is_ascii_digit();
        if continued && (follows(at) != b',' || bytes[scan.digits.0..at].contains(&b',')) {
            scan.broken = true;
            while matches!(follows(at), b'.' | b'/' | b',' | b'0'..=b'9') {
                at += 1;
            }
        } else if follows(at) == b'_' {
            scan.broken = true;
            at = skip_word(bytes, at);
        }
        let next = skip_spaces(bytes, at);
        if follows(next) == b'%' {
            scan.percent = true;
            at = next + 1;
        }
        scan.end = at;
        scan
    }

    fn key(&self, bytes: &[u8], percent: Percent) -> Option<String> {
        let at = self.whole.unwrap_or(self.digits).0;
        let negative = sign(bytes, at).is_some_and(|(_, negative)| negative);
        if let Some(value) = self.value(bytes, negative, percent) {
            return value.map(|value| value.to_string());
        }
        let sign = if negative { "-" } else { "" };
        let spelled = bytes[at..self.end].iter().filter(|b| !matches!(b, b',' | b' '));
        let spelled: Vec<u8> = spelled.map(u8::to_ascii_lowercase).collect();
        Some(format!("S:{sign}{}", String::from_utf8_lossy(&spelled)))
    }

    /// The value: `None` if it is too large for a rational, `Some(None)` if it has none (`1/0`).
    #[expect(clippy::option_option, reason = "two kinds of absence with different consequences")]
    fn value(&self, bytes: &[u8], negative: bool, percent: Percent) -> Option<Option<Rational>> {
        // log2(10) < 4, so a quarter of the bits is a safe number of digits.
        const MAX_DIGITS: usize = MAX_BITS / 4;
        let digits = &bytes[self.digits.0..self.digits.1];
        let den = self.den.map(|(start, end)| &bytes[start..end]);
        let whole = self.whole.map(|(start, end)| &bytes[start..end]);
        let longest = [Some(digits), den, whole].into_iter().flatten().map(<[u8]>::len).max()?;
        let exponent = self.exponent.unwrap_or(0);
        if longest > MAX_DIGITS || exponent.unsigned_abs() > u64::from(MAX_EXPONENT) {
            return None;
        }
        let point = digits.iter().position(|&b| b == b'.');
        let decimals = point.map_or(0, |point| digits.len() - point - 1);
        let mut num = Nat::from_digits(digits.iter().copied());
        let mut low = den.map_or_else(|| Nat::from_u64(1), |d| Nat::from_digits(d.iter().copied()));
        let power = exponent - decimals as i64;
        let side = if power >= 0 { &mut num } else { &mut low };
        side.scale_ten(power.unsigned_abs() as u32);
        if low.is_zero() {
            return Some(None);
        }
        let mut value = Rational::new(negative, num, low)?;
        if let Some(whole) = whole {
            value = value.plus_whole(negative, &Nat::from_digits(whole.iter().copied()))?;
        }
        if self.percent && percent == Percent::Scale {
            value = value.percent()?;
        }
        if self.den.is_none() {
            let significant = digits.iter().filter(|b| b.is_ascii_digit());
            value = value.without_noise(significant.skip_while(|&&b| b == b'0').count())?;
        }
        Some(Some(value))
    }
}

/// The sign before `at`: its offset and whether it is a minus. A sign touches its number, or opens
/// the text, and does not follow an operand.
fn sign(bytes: &[u8], at: usize) -> Option<(usize, bool)> {
    let mut sign = at.checked_sub(1)?;
    while sign > 0 && bytes[sign] == b' ' {
        sign -= 1;
    }
    let negative = match bytes[sign] {
        b'-' => true,
        b'+' => false,
        _ => return None,
    };
    let opens = bytes[..sign].iter().all(|&b| b == b' ');
    let touches = sign + 1 == at;
    let operand =
        |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b')' | b']' | b'}' | b'_' | b'%');
    let free = sign == 0 || !operand(&bytes[sign - 1]);
    (opens || (touches && free)).then_some((sign, negative))
}

fn run(bytes: &[u8], mut at: usize) -> usize {
    while bytes.get(at).is_some_and(u8::is_ascii_digit) {
        at += 1;
    }
    at
}

fn skip_spaces(bytes: &[u8], mut at: usize) -> usize {
    while bytes.get(at) == Some(&b' ') {
        at += 1;
    }
    at
}

/// End of the digits, thousands groups and decimals at `at`.
fn decimal(bytes: &[u8], at: usize) -> usize {
    let mut end = run(bytes, at);
    if (1..=3).contains(&(end - at)) {
        // Groups are joined by commas throughout or by spaces throughout.
        let mark = bytes.get(end).copied().unwrap_or(0);
        let mut next = end;
        while matches!(mark, b',' | b' ')
            && bytes.get(next) == Some(&mark)
            && run(bytes, next + 1) == next + 4
        {
            next += 4;
        }
        // `2 345/7` is a mixed number.
        if mark == b',' || bytes.get(skip_spaces(bytes, next)) != Some(&b'/') {
            end = next;
        }
    }
    if bytes.get(end) == Some(&b'.') && bytes.get(end + 1).is_some_and(u8::is_ascii_digit) {
        end = run(bytes, end + 1);
    }
    end
}

fn exponent(bytes: &[u8], at: usize) -> Option<(i64, usize)> {
    let signed = |at: usize| {
        let start = at + usize::from(matches!(bytes.get(at), Some(b'+' | b'-')));
        let end = run(bytes, start);
        let value =
            std::str::from_utf8(&bytes[start..end]).ok().filter(|digits| !digits.is_empty())?;
        let value = value.parse::<i64>().unwrap_or(i64::MAX);
        Some((if bytes[at] == b'-' { -value } else { value }, end))
    };
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        let (value, end) = signed(at + 1)?;
        return (!bytes.get(end).is_some_and(u8::is_ascii_alphabetic)).then_some((value, end));
    }
    let times = skip_spaces(bytes, at);
    if !matches!(bytes.get(times), Some(b'x' | b'*')) {
        return None;
    }
    let base = skip_spaces(bytes, times + 1);
    let power = bytes.get(base..)?.strip_prefix(b"10^")?;
    let start = bytes.len() - power.len();
    let (value, end) = signed(start + usize::from(power.first() == Some(&b'{')))?;
    Some((value, end + usize::from(bytes.get(end) == Some(&b'}'))))
}

fn denominator(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let stroke = skip_spaces(bytes, at);
    if bytes.get(stroke) != Some(&b'/') {
        return None;
    }
    let start = skip_spaces(bytes, stroke + 1);
    let end = run(bytes, start);
    (end > start).then_some((start, end))
}

/// Whether only units may follow: letters, signs and full stops, no further digit or operator.
fn is_unit(rest: &str) -> bool {
    rest.chars().all(|c| c.is_alphabetic() || c.is_whitespace() || ".,;:!?\"'`)]}°%²³".contains(c))
}

/// Whether a number is part of a formula: an operator stands beside it that is neither the stroke of
/// a unit (`5/hour`) nor a hyphen (`5-minute`).
fn is_operand(text: &str, token: &Token) -> bool {
    let operator = |c: char| "+-*/^<>÷".contains(c);
    let before = text[..token.start].trim_end().ends_with(operator);
    let mut after = text[token.end..].trim_start().chars();
    let glued = !text[token.end..].starts_with(' ');
    match after.next() {
        Some('/' | '-') if glued => before || !after.next().is_some_and(char::is_alphabetic),
        Some(c) => before || operator(c),
        None => before,
    }
}

/// Replaces decoration: see the module comment.
fn clean(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(c) = rest.chars().next() {
        if c == '\\' {
            rest = latex(rest, &mut out);
            continue;
        }
        if let Some(after) = rest.strip_prefix("{,}") {
            out.push(',');
            rest = after;
            continue;
        }
        rest = &rest[c.len_utf8()..];
        match c {
            '\u{2212}' | '\u{2013}' => out.push('-'),
            '\u{d7}' | '\u{b7}' | '\u{22c5}' => out.push('*'),
            '\u{2044}' | '\u{2215}' => out.push('/'),
            '$' | '£' | '€' | '¥' => currency(&mut out),
            '*' if rest.starts_with('*') => {
                rest = &rest[1..];
            }
            '"' | '`' => {}
            '½' => out.push_str(" 1/2"),
            '¼' => out.push_str(" 1/4"),
            '¾' => out.push_str(" 3/4"),
            '⅓' => out.push_str(" 1/3"),
            '⅔' => out.push_str(" 2/3"),
            c if c.is_whitespace() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// A currency sign separates, except that `-$5` is `-5`.
fn currency(out: &mut String) {
    if !out.ends_with(['-', '+']) {
        out.push(' ');
    }
}

/// Handles one backslash at the front of `rest`; returns what is left.
fn latex<'a>(rest: &'a str, out: &mut String) -> &'a str {
    const WRAPPERS: &[&str] = &["text", "mathrm", "textbf", "mathbf", "mbox", "left", "right"];
    let after = &rest[1..];
    let len = after.bytes().take_while(u8::is_ascii_alphabetic).count();
    let (word, tail) = after.split_at(len);
    match word {
        "" => {
            let mut chars = tail.chars();
            match chars.next() {
                Some('$') => currency(out),
                Some('%') => out.push('%'),
                Some(',' | '!' | ';' | ':' | ' ') => out.push(' '),
                Some(other) => out.extend(['\\', other]),
                None => out.push('\\'),
            }
            chars.as_str()
        }
        "frac" | "dfrac" | "tfrac" => {
            if let Some((num, den, left)) = fraction(tail) {
                if out.ends_with(|c: char| c.is_ascii_digit()) {
                    out.push(' ');
                }
                out.push_str(num);
                out.push('/');
                out.push_str(den);
                left
            } else {
                out.push_str("\\frac");
                tail
            }
        }
        "times" | "cdot" => {
            out.push('*');
            tail
        }
        "approx" => {
            out.push('≈');
            tail
        }
        word if WRAPPERS.contains(&word) => {
            out.push(' ');
            tail.trim_start().strip_prefix('{').unwrap_or(tail)
        }
        word => {
            out.push('\\');
            out.push_str(word);
            tail
        }
    }
}

/// `{a}{b}` or two digits, as the arguments of a fraction of whole numbers.
fn fraction(tail: &str) -> Option<(&str, &str, &str)> {
    let argument = |text: &'_ str| -> Option<(usize, usize, usize)> {
        let lead = text.len() - text.trim_start().len();
        let body = &text[lead..];
        if let Some(inner) = body.strip_prefix('{') {
            let end = inner.find('}')?;
            let whole = end > 0 && inner[..end].bytes().all(|b| b.is_ascii_digit());
            whole.then_some((lead + 1, lead + 1 + end, lead + end + 2))
        } else {
            body.bytes().next()?.is_ascii_digit().then_some((lead, lead + 1, lead + 1))
        }
    };
    let (start, end, next) = argument(tail)?;
    let (num, rest) = (&tail[start..end], &tail[next..]);
    let (start, end, next) = argument(rest)?;
    Some((num, &rest[start..end], &rest[next..]))
}

#[cfg(test)]
mod tests;
