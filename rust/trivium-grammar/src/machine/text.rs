//! Texts of keys while they are read, and sets of keys that were written.

use crate::automata::decimal::Decimal;
use rustc_hash::FxHashMap;
use std::fmt::Write as _;
use std::sync::Arc;

/// Index of a text; a list of bytes that shares its beginning with others.
pub(super) type TextId = u32;

/// Nobody asks for this text.
pub(super) const NONE: TextId = 0;
/// A text that the reader does not know: masks treat all prefixes of a key alike.
pub(super) const UNKNOWN: TextId = 1;
/// The text without bytes.
pub(super) const START: TextId = 2;
/// The same of a key after one that is not known; with a byte it is [`UNKNOWN`].
pub(super) const UNREAD: TextId = 3;

/// Index of a set of keys.
pub(super) type WrittenId = u32;

/// Keys that were written, beside declared ones.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Written {
    /// Sorted.
    pub(super) keys: Arc<[Arc<str>]>,
    /// Another key was written that is not known.
    pub(super) unknown: bool,
}

/// All texts and sets of one run.
#[derive(Debug)]
pub(super) struct Texts {
    cells: Vec<(TextId, u8)>,
    index: FxHashMap<(TextId, u8), TextId>,
    written: Vec<Written>,
    sets: FxHashMap<Written, WrittenId>,
    bytes: usize,
}

impl Texts {
    pub(super) fn new() -> Self {
        let none = Written::default();
        Self {
            cells: vec![(NONE, 0); 4],
            index: FxHashMap::default(),
            written: vec![none.clone()],
            sets: FxHashMap::from_iter([(none, 0)]),
            bytes: 0,
        }
    }

    pub(super) fn memory(&self) -> usize {
        self.bytes + self.cells.len() * 28
    }

    /// A text with one byte more.
    pub(super) fn push(&mut self, text: TextId, byte: u8) -> TextId {
        match text {
            NONE => return NONE,
            UNKNOWN | UNREAD => return UNKNOWN,
            _ => {}
        }
        *self.index.entry((text, byte)).or_insert_with(|| {
            self.cells.push((text, byte));
            self.cells.len() as TextId - 1
        })
    }

    fn bytes(&self, mut text: TextId) -> Vec<u8> {
        let mut bytes = Vec::new();
        while text > START {
            let (before, byte) = self.cells[text as usize];
            bytes.push(byte);
            text = before;
        }
        bytes.reverse();
        bytes
    }

    /// A name of the value that a text spells, its kind first; equal values have equal names. Containers
    /// come as canonical texts, perhaps with white space before the last bracket. `None` if the text
    /// is not known.
    pub(super) fn value(&self, text: TextId) -> Option<String> {
        if text < START {
            return None;
        }
        let bytes = self.bytes(text);
        match bytes.first()? {
            b'"' => Some(format!("s{}", decode(&bytes[1..])?)),
            b'-' | b'0'..=b'9' => {
                let text = String::from_utf8(bytes).ok()?;
                Some(
                    Decimal::parse(&text).map_or(format!("n{text}"), |d| format!("n{}", d.plain())),
                )
            }
            b'{' | b'[' => {
                let text = String::from_utf8(bytes).ok()?;
                let (inside, bracket) = text.split_at(text.len() - 1);
                Some(format!("{}{bracket}", inside.trim_end_matches([' ', '\t', '\n', '\r'])))
            }
            _ => Some(format!("l{}", String::from_utf8(bytes).ok()?)),
        }
    }

    /// The decoded key that a text spells, if it holds one.
    pub(super) fn key(&self, text: TextId) -> Option<String> {
        let bytes = self.bytes(text);
        let from = bytes.iter().position(|&b| b == b'"')?;
        decode(&bytes[from + 1..])
    }

    pub(super) fn written(&self, set: WrittenId) -> &Written {
        &self.written[set as usize]
    }

    /// A set with one key more; `None` for one that is not known.
    pub(super) fn add(&mut self, set: WrittenId, key: Option<&str>) -> WrittenId {
        let mut new = self.written[set as usize].clone();
        match key {
            None => new.unknown = true,
            Some(key) => {
                let at = new.keys.partition_point(|k| **k < *key);
                let mut keys = new.keys.to_vec();
                keys.insert(at, key.into());
                new.keys = keys.into();
            }
        }
        if let Some(&id) = self.sets.get(&new) {
            return id;
        }
        let id = self.written.len() as WrittenId;
        self.bytes += 100 + new.keys.len() * 16 + key.map_or(0, str::len);
        self.written.push(new.clone());
        self.sets.insert(new, id);
        id
    }
}

/// The canonical JSON of a value's name.
pub(super) fn canonical(name: &str) -> String {
    match name.split_at_checked(1) {
        Some(("s", text)) => quoted(text),
        Some(("n" | "l", text)) => text.to_owned(),
        _ => name.to_owned(),
    }
}

/// A string in quotes.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c < ' ' => drop(write!(out, "\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The string that JSON text spells up to its closing quote; `None` if it is cut short.
fn decode(mut text: &[u8]) -> Option<String> {
    let mut out: Vec<u8> = Vec::new();
    let hex = |text: &[u8]| u32::from_str_radix(std::str::from_utf8(text.get(..4)?).ok()?, 16).ok();
    loop {
        let (&byte, rest) = text.split_first()?;
        text = rest;
        match byte {
            b'"' => return String::from_utf8(out).ok(),
            b'\\' => {
                let (&escape, rest) = text.split_first()?;
                text = rest;
                let c = match escape {
                    b'n' => '\n',
                    b'r' => '\r',
                    b't' => '\t',
                    b'b' => '\u{8}',
                    b'f' => '\u{c}',
                    b'u' => {
                        let mut code = hex(text)?;
                        text = &text[4..];
                        if (0xd800..0xdc00).contains(&code) && text.starts_with(b"\\u") {
                            let low = hex(&text[2..])?;
                            code = 0x1_0000 + ((code - 0xd800) << 10) + low.wrapping_sub(0xdc00);
                            text = &text[6..];
                        }
                        char::from_u32(code)?
                    }
                    other => char::from(other),
                };
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_decoded() {
        let mut t = Texts::new();
        let mut id = START;
        for &b in br#" "a\u00e9\ud83d\ude00\n" : "# {
            id = t.push(id, b);
        }
        assert_eq!(t.key(id).as_deref(), Some("aé😀\n"));
        assert_eq!(t.push(NONE, 5), NONE);
        assert_eq!(t.push(UNKNOWN, 5), UNKNOWN);
        let one = t.add(0, Some("b"));
        let two = t.add(one, Some("a"));
        let other = t.add(0, Some("a"));
        assert_eq!(t.add(other, Some("b")), two);
        assert!(
            t.written(t.sets[&Written { unknown: false, ..t.written(two).clone() }]).keys.len()
                == 2
        );
    }
}
