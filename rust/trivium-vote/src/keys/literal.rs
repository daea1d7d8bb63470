//! `python` and `json`: values, equal when they print alike in canonical form.
//!
//! Own; JSON after RFC 8785 (JSON Canonicalization Scheme) but with numbers as exact rationals. A
//! Python answer is read as a literal (numbers, strings, `None`, `True`, `False`, tuples, lists,
//! sets, dicts, nested to depth 64): sets and dicts are sorted by key bytes, `1`, `1.0` and `True`
//! stay distinct. What is no literal is compared as text with its white space collapsed. In JSON
//! `1`, `1.0` and `1e0` agree, the order of members does not matter, and a repeated member makes
//! the answer none. [`JsonRules`] leave members out, round numbers and take arrays for sets.

use super::number::NumberKey;
use super::{Fallback, Percent};
use trivium_core::{Error, Result};

/// What a JSON key overlooks. Paths are member names joined by dots; arrays do not count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct JsonRules {
    /// Members left out wherever they stand.
    ignore: Vec<String>,
    /// Where there are any: the paths that count, with all below them.
    only: Vec<String>,
    /// Digits after the point of numbers at a path.
    round: Vec<(String, usize)>,
    /// Arrays whose order does not matter.
    unordered: Vec<String>,
}

impl JsonRules {
    /// Reads `NAME` or `ignore:NAME`, `only:PATH`, `round:PATH:DIGITS`, `unordered:PATH`.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for digits that are no number up to 15.
    pub(super) fn new(options: &[String]) -> Result<Self> {
        let mut rules = Self::default();
        for option in options {
            match option.split_once(':') {
                Some(("only", path)) => rules.only.push(path.to_owned()),
                Some(("unordered", path)) => rules.unordered.push(path.to_owned()),
                Some(("round", rest)) => {
                    let parsed = rest.rsplit_once(':').and_then(|(path, digits)| {
                        Some((path.to_owned(), digits.parse().ok().filter(|d| *d <= 15)?))
                    });
                    rules.round.push(parsed.ok_or_else(|| {
                        Error::input("round", format!("{rest:?} is not PATH:DIGITS, at most 15"))
                    })?);
                }
                Some(("ignore", name)) => rules.ignore.push(name.to_owned()),
                _ => rules.ignore.push(option.clone()),
            }
        }
        Ok(rules)
    }

    fn counts(&self, path: &str) -> bool {
        let inside = |inner: &str, outer: &str| {
            inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        self.only.is_empty() || self.only.iter().any(|o| inside(path, o) || inside(o, path))
    }
}

const MAX_DEPTH: usize = 64;

/// The key of a Python answer.
pub(super) fn python(raw: &str) -> Option<String> {
    let bytes: Vec<char> = raw.chars().collect();
    let rules = JsonRules::default();
    let mut reader =
        Reader { chars: &bytes, at: 0, json: false, rules: &rules, path: String::new() };
    let value = reader.value(0).filter(|_| reader.at_end());
    let text = || raw.split_whitespace().collect::<Vec<_>>().join(" ");
    Some(value.unwrap_or_else(text)).filter(|key| !key.is_empty())
}

/// The key of a JSON answer; none where it is no JSON.
pub(super) fn json(raw: &str, rules: &JsonRules) -> Option<String> {
    let chars: Vec<char> = raw.chars().collect();
    let mut reader = Reader { chars: &chars, at: 0, json: true, rules, path: String::new() };
    reader.value(0).filter(|_| reader.at_end())
}

struct Reader<'a> {
    chars: &'a [char],
    at: usize,
    json: bool,
    rules: &'a JsonRules,
    /// Path of the value being read, without arrays.
    path: String,
}

impl Reader<'_> {
    fn peek(&mut self) -> Option<char> {
        while self.chars.get(self.at).is_some_and(|c| c.is_whitespace()) {
            self.at += 1;
        }
        self.chars.get(self.at).copied()
    }

    fn at_end(&mut self) -> bool {
        self.peek().is_none()
    }

    fn eat(&mut self, c: char) -> bool {
        let found = self.peek() == Some(c);
        self.at += usize::from(found);
        found
    }

    fn value(&mut self, depth: usize) -> Option<String> {
        if depth > MAX_DEPTH {
            return None;
        }
        match self.peek()? {
            '[' => {
                let mut items = self.items('[', ']', depth)?.0;
                if self.rules.unordered.contains(&self.path) {
                    items.sort_unstable();
                }
                Some(format!("[{}]", items.join(",")))
            }
            '{' => self.braces(depth),
            '(' if !self.json => {
                let (items, comma) = self.items('(', ')', depth)?;
                match (items.len(), comma) {
                    (1, false) => items.into_iter().next(),
                    (1, true) => Some(format!("({},)", items[0])),
                    _ => Some(format!("({})", items.join(","))),
                }
            }
            '"' => self.string('"').map(|text| quote(&text)),
            '\'' if !self.json => self.string('\'').map(|text| quote(&text)),
            c if c.is_ascii_alphabetic() => self.name(),
            _ => self.number(),
        }
    }

    fn items(&mut self, open: char, close: char, depth: usize) -> Option<(Vec<String>, bool)> {
        let (mut items, mut comma) = (Vec::new(), false);
        if !self.eat(open) {
            return None;
        }
        while !self.eat(close) {
            if !items.is_empty() && !comma {
                return None;
            }
            items.push(self.value(depth + 1)?);
            comma = self.eat(',');
            if comma && self.json && self.peek() == Some(close) {
                return None;
            }
        }
        Some((items, comma))
    }

    fn braces(&mut self, depth: usize) -> Option<String> {
        let mut members: Vec<(String, Option<String>)> = Vec::new();
        let mut items: Vec<String> = Vec::new();
        let mut comma = true;
        self.at += 1;
        while !self.eat('}') {
            if !comma {
                return None;
            }
            let name = self.value(depth + 1)?;
            if self.eat(':') {
                let above = self.path.len();
                if self.json {
                    let dot = if above == 0 { "" } else { "." };
                    self.path.extend([dot, name.trim_matches('"')]);
                }
                let value = self.value(depth + 1);
                let counts = self.rules.counts(&self.path);
                self.path.truncate(above);
                let value = value?;
                members.push((name, if counts { Some(value) } else { None }));
            } else {
                items.push(name);
            }
            comma = self.eat(',');
            if comma && self.json && self.peek() == Some('}') {
                return None;
            }
        }
        if self.json && (!items.is_empty() || members.iter().any(|m| !m.0.starts_with('"'))) {
            return None;
        }
        if !items.is_empty() {
            if !members.is_empty() {
                return None;
            }
            items.sort_unstable();
            items.dedup();
            return Some(format!("{{{}}}", items.join(",")));
        }
        // In Python the last of equal keys wins; in JSON they make the answer ambiguous.
        members.sort_by(|x, y| x.0.cmp(&y.0));
        if self.json && members.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return None;
        }
        let mut out: Vec<String> = Vec::new();
        for (i, (name, value)) in members.iter().enumerate() {
            let replaced = members.get(i + 1).is_some_and(|next| next.0 == *name);
            let ignored = self.rules.ignore.iter().any(|ignored| quote(ignored) == *name);
            if let (Some(value), false) = (value, replaced || ignored) {
                out.push(format!("{name}:{value}"));
            }
        }
        Some(format!("{{{}}}", out.join(",")))
    }

    fn name(&mut self) -> Option<String> {
        let start = self.at;
        while self.chars.get(self.at).is_some_and(|c| c.is_ascii_alphanumeric() || *c == '_') {
            self.at += 1;
        }
        let word: String = self.chars[start..self.at].iter().collect();
        let known: &[&str] =
            if self.json { &["true", "false", "null"] } else { &["True", "False", "None"] };
        if !self.json && word == "set" && self.eat('(') && self.eat(')') {
            return Some("set()".to_owned());
        }
        known.contains(&word.as_str()).then_some(word)
    }

    fn number(&mut self) -> Option<String> {
        let start = self.at;
        let part = |c: &char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | 'e' | 'E' | '_');
        while self.chars.get(self.at).is_some_and(part) {
            self.at += 1;
        }
        let text: String = self.chars[start..self.at].iter().filter(|c| **c != '_').collect();
        let digits = text.trim_start_matches(['+', '-']);
        if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') || text.len() > 400 {
            return None;
        }
        let parsed: f64 = text.parse().ok()?;
        let whole = digits.bytes().all(|b| b.is_ascii_digit());
        let rule = self.rules.round.iter().find(|(path, _)| *path == self.path);
        if let (true, Some(&(_, digits))) = (self.json, rule) {
            let rounded = format!("{parsed:.digits$}");
            return NumberKey::new(Percent::Strip, Fallback::Off).key(&rounded);
        }
        if !self.json && !whole {
            return parsed.is_finite().then(|| format!("{parsed:?}"));
        }
        NumberKey::new(Percent::Strip, Fallback::Off).key(&text)
    }

    fn string(&mut self, quote: char) -> Option<String> {
        self.at += 1;
        let mut out = String::new();
        loop {
            let c = *self.chars.get(self.at)?;
            self.at += 1;
            if c == quote {
                return Some(out);
            }
            if c != '\\' {
                out.push(c);
                continue;
            }
            let escaped = *self.chars.get(self.at)?;
            self.at += 1;
            match escaped {
                'n' => out.push('\n'),
                't' => out.push('\t'),
                'r' => out.push('\r'),
                'b' => out.push('\u{8}'),
                'f' => out.push('\u{c}'),
                'u' | 'x' => {
                    let len = if escaped == 'u' { 4 } else { 2 };
                    let high = self.hex(len)?;
                    let pair = (0xd800..0xdc00).contains(&high)
                        && self.chars.get(self.at..self.at + 2) == Some(&['\\', 'u']);
                    let code = if pair {
                        self.at += 2;
                        let low = self.hex(4)?.checked_sub(0xdc00)?;
                        0x1_0000 + ((high - 0xd800) << 10) + low
                    } else {
                        high
                    };
                    out.push(char::from_u32(code)?);
                }
                '\\' | '\'' | '"' | '/' => out.push(escaped),
                _ if self.json => return None,
                other => out.extend(['\\', other]),
            }
        }
    }

    fn hex(&mut self, len: usize) -> Option<u32> {
        let digits = self.chars.get(self.at..self.at + len)?;
        self.at += len;
        u32::from_str_radix(&digits.iter().collect::<String>(), 16).ok()
    }
}

/// A string in double quotes with the fewest escapes.
fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if u32::from(c) < 0x20 => out.extend(format!("\\u{:04x}", u32::from(c)).chars()),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_equal_whatever_its_spelling() {
        let json = |text: &str, options: &[&str]| {
            let options: Vec<String> = options.iter().map(ToString::to_string).collect();
            json(text, &JsonRules::new(&options).unwrap())
        };
        let same = |x: &str, y: &str| assert_eq!(json(x, &[]), json(y, &[]), "{x} {y}");
        same(r#"{"a": 1, "b": [1.0, true]}"#, r#"{ "b":[1e0,true],"a":1.00 }"#);
        same(r#""\u00e9\n""#, "\"é\\n\"");
        same(r#""\ud83d\ude00""#, "\"\u{1f600}\"");
        assert_ne!(json("[1,2]", &[]), json("[2,1]", &[]));
        for bad in [r#"{"a":1,"a":2}"#, "[1,]", "{a:1}", "[1", "", "nul", r#""\q""#, "{'a':1}"] {
            assert_eq!(json(bad, &[]), None, "{bad}");
        }
        let ignore = ["id"];
        assert_eq!(json(r#"{"id": 7, "x": 1}"#, &ignore), json(r#"{"x": 1, "id": 8}"#, &ignore));
        assert_eq!(json(&"[".repeat(60_000), &[]), None);
        let (x, y) =
            (r#"{"a":{"p":1.234,"t":[3,1]},"z":1}"#, r#"{"a":{"p":1.2341,"t":[1,3]},"z":2}"#);
        assert_ne!(json(x, &[]), json(y, &[]));
        let rules = ["only:a", "round:a.p:2", "unordered:a.t"];
        assert_eq!(json(x, &rules), json(y, &rules));
        assert_eq!(json(x, &rules), Some(r#"{"a":{"p":123/100,"t":[1,3]}}"#.into()));
        assert_ne!(json(x, &rules[..2]), json(y, &rules[..2]));
        assert_eq!(json(x, &["only:a.p", "round:a.p:2"]), json(y, &["only:a.p", "round:a.p:2"]));
        assert!(JsonRules::new(&["round:a:x".to_owned()]).is_err());
    }

    #[test]
    fn python_literals_are_equal_whatever_their_spelling() {
        let same = |x: &str, y: &str| assert_eq!(python(x), python(y), "{x} {y}");
        same("{3, 1, 2}", "{1,2,3}");
        same("['a', \"b\"]", "[ 'a','b' ]");
        same("{'x': 1, 'y': (1,)}", "{'y':(1,),'x':1}");
        same("(1)", "1");
        same("x  +  1", "x + 1");
        for (x, y) in [("1", "1.0"), ("1", "True"), ("(1,)", "(1)"), ("[1]", "(1,)"), ("'1'", "1")]
        {
            assert_ne!(python(x), python(y), "{x} {y}");
        }
        assert_eq!(python(" "), None);
        assert!(python(&"(".repeat(60_000)).is_some());
    }
}
