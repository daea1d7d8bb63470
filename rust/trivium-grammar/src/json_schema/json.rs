//! JSON texts of schemas as an arena: values are ids, order of members and exact numbers are kept.
//!
//! An own reader, because a schema's meaning depends on what general ones lose: the order of
//! members, the digits of numbers and each value's place (for references and messages). Nesting is
//! bounded, so everything that recurses over a value is bounded too.

use super::decimal::Decimal;
use rustc_hash::{FxHashMap, FxHashSet};
use std::fmt::Write as _;
use std::sync::Arc;

/// Index of a value.
pub(crate) type JId = u32;

/// Deepest nesting of arrays and objects.
pub(crate) const MAX_DEPTH: usize = 256;

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Number(Decimal),
    String(Arc<str>),
    Array(Vec<JId>),
    /// Members in order; of equal keys the last one counts, in the place of the first.
    Object(Vec<(Arc<str>, JId)>),
}

/// Where a value stands in its parent.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Root,
    Key(Arc<str>),
    Index(usize),
}

/// What is wrong with a text, and the byte where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Malformed {
    pub(crate) offset: usize,
    pub(crate) why: String,
    pub(crate) too_deep: bool,
}

/// Values of one or more documents.
#[derive(Debug, Default)]
pub(crate) struct Store {
    values: Vec<Json>,
    places: Vec<(JId, Step)>,
    keys: FxHashSet<Arc<str>>,
    /// Members by key of objects with many.
    by_key: FxHashMap<JId, FxHashMap<Arc<str>, usize>>,
}

/// Members up to which an object is looked through.
const FEW_MEMBERS: usize = 16;

impl Store {
    /// Reads one document.
    pub(crate) fn read(&mut self, text: &str) -> Result<JId, Malformed> {
        let mut reader = Reader { store: self, bytes: text.as_bytes(), text, at: 0 };
        reader.blank();
        let root = reader.value(0)?;
        reader.blank();
        if reader.at < text.len() {
            return Err(reader.wrong("text after the value"));
        }
        Ok(root)
    }

    /// A value.
    pub(crate) fn get(&self, id: JId) -> &Json {
        &self.values[id as usize]
    }

    /// Number of values read.
    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    /// A member of an object.
    pub(crate) fn member(&self, id: JId, key: &str) -> Option<JId> {
        match self.get(id) {
            Json::Object(members) if members.len() > FEW_MEMBERS => {
                let &at = self.by_key.get(&id)?.get(key)?;
                Some(members[at].1)
            }
            Json::Object(members) => members.iter().find(|m| &*m.0 == key).map(|m| m.1),
            _ => None,
        }
    }

    /// A member that is a string.
    pub(crate) fn text(&self, id: JId, key: &str) -> Option<Arc<str>> {
        match self.get(self.member(id, key)?) {
            Json::String(s) => Some(Arc::clone(s)),
            _ => None,
        }
    }

    /// The value that holds this one, and the step from there.
    pub(crate) fn place(&self, id: JId) -> &(JId, Step) {
        &self.places[id as usize]
    }

    /// The place of a value as a JSON pointer into its document, `#` for the root.
    pub(crate) fn pointer(&self, id: JId) -> String {
        let mut steps = Vec::new();
        let mut at = id;
        loop {
            let (parent, step) = self.place(at);
            match step {
                Step::Root => break,
                Step::Key(key) => steps.push(key.replace('~', "~0").replace('/', "~1")),
                Step::Index(i) => steps.push(i.to_string()),
            }
            at = *parent;
        }
        let mut out = "#".to_owned();
        for step in steps.iter().rev() {
            out.push('/');
            out.push_str(step);
        }
        out
    }

    fn push(&mut self, value: Json) -> JId {
        let id = self.values.len() as JId;
        self.values.push(value);
        self.places.push((id, Step::Root));
        id
    }

    fn intern(&mut self, text: String) -> Arc<str> {
        if let Some(known) = self.keys.get(text.as_str()) {
            return Arc::clone(known);
        }
        let text: Arc<str> = text.into();
        self.keys.insert(Arc::clone(&text));
        text
    }

    /// A text equal for equal values: members sorted, numbers normalised.
    pub(crate) fn canonical(&self, id: JId) -> String {
        let mut out = String::new();
        self.canonical_into(id, &mut out);
        out
    }

    fn canonical_into(&self, id: JId, out: &mut String) {
        match self.get(id) {
            Json::Null => out.push_str("null"),
            Json::Bool(b) => drop(write!(out, "{b}")),
            Json::Number(n) => drop(write!(out, "{n}")),
            Json::String(s) => quote(s, out),
            Json::Array(items) => {
                out.push('[');
                for (i, &item) in items.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    self.canonical_into(item, out);
                }
                out.push(']');
            }
            Json::Object(members) => {
                let mut sorted: Vec<_> = members.iter().collect();
                sorted.sort();
                out.push('{');
                for (i, (key, value)) in sorted.into_iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    quote(key, out);
                    out.push(':');
                    self.canonical_into(*value, out);
                }
                out.push('}');
            }
        }
    }
}

/// Appends a string in quotes with the fewest escapes.
pub(crate) fn quote(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c < ' ' => drop(write!(out, "\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}

struct Reader<'a> {
    store: &'a mut Store,
    bytes: &'a [u8],
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn wrong(&self, why: impl Into<String>) -> Malformed {
        Malformed { offset: self.at, why: why.into(), too_deep: false }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn blank(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn take(&mut self, b: u8) -> bool {
        let is = self.peek() == Some(b);
        self.at += usize::from(is);
        is
    }

    fn value(&mut self, depth: usize) -> Result<JId, Malformed> {
        match self.peek() {
            Some(b'{' | b'[') if depth == MAX_DEPTH => Err(Malformed {
                too_deep: true,
                ..self.wrong(format!("nested deeper than {MAX_DEPTH}"))
            }),
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => {
                let text = self.string()?;
                let text = self.store.intern(text);
                Ok(self.store.push(Json::String(text)))
            }
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(_) => {
                for (word, value) in
                    [("null", Json::Null), ("true", Json::Bool(true)), ("false", Json::Bool(false))]
                {
                    if self.text[self.at..].starts_with(word) {
                        self.at += word.len();
                        return Ok(self.store.push(value));
                    }
                }
                Err(self.wrong("expected a JSON value"))
            }
            None => Err(self.wrong("the text ends where a value is expected")),
        }
    }

    fn array(&mut self, depth: usize) -> Result<JId, Malformed> {
        let id = self.store.push(Json::Null);
        let mut items = Vec::new();
        self.at += 1;
        self.blank();
        if !self.take(b']') {
            loop {
                self.blank();
                let item = self.value(depth + 1)?;
                self.store.places[item as usize] = (id, Step::Index(items.len()));
                items.push(item);
                self.blank();
                if self.take(b']') {
                    break;
                }
                if !self.take(b',') {
                    return Err(self.wrong("expected , or ]"));
                }
            }
        }
        self.store.values[id as usize] = Json::Array(items);
        Ok(id)
    }

    fn object(&mut self, depth: usize) -> Result<JId, Malformed> {
        let id = self.store.push(Json::Null);
        let mut members: Vec<(Arc<str>, JId)> = Vec::new();
        let mut index: FxHashMap<Arc<str>, usize> = FxHashMap::default();
        self.at += 1;
        self.blank();
        if !self.take(b'}') {
            loop {
                self.blank();
                if self.peek() != Some(b'"') {
                    return Err(self.wrong("expected a member's name"));
                }
                let key = self.string()?;
                let key = self.store.intern(key);
                self.blank();
                if !self.take(b':') {
                    return Err(self.wrong("expected :"));
                }
                self.blank();
                let value = self.value(depth + 1)?;
                self.store.places[value as usize] = (id, Step::Key(Arc::clone(&key)));
                let next = members.len();
                let slot = *index.entry(Arc::clone(&key)).or_insert(next);
                if slot == next {
                    members.push((key, value));
                } else {
                    members[slot].1 = value;
                }
                self.blank();
                if self.take(b'}') {
                    break;
                }
                if !self.take(b',') {
                    return Err(self.wrong("expected , or }"));
                }
            }
        }
        if members.len() > FEW_MEMBERS {
            self.store.by_key.insert(id, index);
        }
        self.store.values[id as usize] = Json::Object(members);
        Ok(id)
    }

    fn digits(&mut self) -> Result<(), Malformed> {
        let from = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at == from { Err(self.wrong("expected a digit")) } else { Ok(()) }
    }

    fn number(&mut self) -> Result<JId, Malformed> {
        let from = self.at;
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            if !self.take(b'+') {
                self.take(b'-');
            }
            self.digits()?;
        }
        let value = Decimal::parse(&self.text[from..self.at]).ok_or_else(|| Malformed {
            offset: from,
            why: "a number beyond 4,096 digits".into(),
            too_deep: true,
        })?;
        Ok(self.store.push(Json::Number(value)))
    }

    fn hex(&mut self) -> Result<u32, Malformed> {
        let digits = self
            .text
            .get(self.at..self.at + 4)
            .filter(|h| h.bytes().all(|b| b.is_ascii_hexdigit()));
        let Some(digits) = digits else { return Err(self.wrong("expected four hex digits")) };
        self.at += 4;
        u32::from_str_radix(digits, 16).map_err(|_| self.wrong("expected four hex digits"))
    }

    fn string(&mut self) -> Result<String, Malformed> {
        self.at += 1;
        let mut out = String::new();
        loop {
            let from = self.at;
            while let Some(b) = self.peek()
                && b != b'"'
                && b != b'\\'
                && b >= 0x20
            {
                self.at += 1;
            }
            out.push_str(&self.text[from..self.at]);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => self.at += 1,
                Some(_) => return Err(self.wrong("a control character in a string")),
                None => return Err(self.wrong("the text ends inside a string")),
            }
            let escape = self.peek();
            self.at += 1;
            out.push(match escape {
                Some(c @ (b'"' | b'\\' | b'/')) => char::from(c),
                Some(b'b') => '\u{8}',
                Some(b'f') => '\u{c}',
                Some(b'n') => '\n',
                Some(b'r') => '\r',
                Some(b't') => '\t',
                Some(b'u') => {
                    let mut code = self.hex()?;
                    if (0xd800..0xdc00).contains(&code) && self.text[self.at..].starts_with("\\u") {
                        self.at += 2;
                        let low = self.hex()?;
                        if (0xdc00..0xe000).contains(&low) {
                            code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
                        }
                    }
                    char::from_u32(code)
                        .ok_or_else(|| self.wrong("a lone surrogate, which no text contains"))?
                }
                _ => return Err(self.wrong("an unknown escape")),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_canonically() {
        let mut store = Store::default();
        let id = store.read(r#" {"b": [1.0, 1e2, "\u00e9\ud83d\ude00\n"], "a": {}, "b": [true]} "#);
        assert_eq!(store.canonical(id.unwrap()), r#"{"a":{},"b":[true]}"#);
        let id = store.read(r#"["\u00e9\ud83d\ude00\n", -0.50]"#).unwrap();
        assert_eq!(store.canonical(id), "[\"é😀\\u000a\",-0.5]");
        let inner = store.read(r#"{"a/b": [0, {"~": 1}]}"#).unwrap();
        let Some(at) = store.member(inner, "a/b") else { panic!() };
        let Json::Array(items) = store.get(at) else { panic!() };
        let leaf = store.member(items[1], "~").unwrap();
        assert_eq!(store.pointer(leaf), "#/a~1b/1/~0");
    }

    #[test]
    fn refuses_what_is_no_json() {
        let bad = [
            "",
            "[1,]",
            "{\"a\"}",
            "01",
            "1.",
            "\"\\ud800\"",
            "\"\u{0}\"",
            "nul",
            "[] []",
            "\"\\x\"",
            "-",
        ];
        for text in bad {
            assert!(Store::default().read(text).is_err(), "{text:?}");
        }
        let deep = "[".repeat(100_000);
        assert!(Store::default().read(&deep).unwrap_err().too_deep);
    }
}
