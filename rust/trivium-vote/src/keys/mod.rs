//! Keys: when two spellings are one answer.
//!
//! A key maps what a trace said to `Option<key>`; equal answers get equal bytes, and an answer that
//! no rule can read gets none (an abstention: paid for, no ballot, never an error). The pipeline is
//! `extract -> normalise -> key`; every step is total, takes time linear in the text, uses no
//! backtracking and no recursion, and is capped: texts longer than [`MAX_TEXT`] keep their tail.
//!
//! | name | reads | equal when |
//! |---|---|---|
//! | `text` | the whole answer | the trimmed bytes are equal |
//! | `number` | numbers with signs, commas, currency, percent, fractions, exponents | the rationals are equal |
//! | `latex` | mathematical answers | their values are equal, else their spelling |
//! | `python`, `json` | literals, JSON texts | their canonical forms are equal |
//! | `word`, `bool`, `date` | phrases, truth values, dates | the normal forms are equal |
//! | `set:K`, `multiset:K`, `seq:K` | lists of answers of key K | the elements' keys are, in order under `seq` |
//! | `choice` | one letter of a set, or the text of a listed option | the letters are equal |

mod choice;
mod extract;
mod latex;
mod literal;
mod number;
mod plain;
mod rational;
mod text;

use trivium_core::{Error, Result};

/// Bytes of one text that are looked at; of a longer text, the last ones.
pub const MAX_TEXT: usize = 64 * 1024;

/// What a trace said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said<'a> {
    /// The whole output of the trace: the answer is extracted first.
    Text(&'a str),
    /// The answer alone, as a grammar or the host cut it out.
    Answer(&'a str),
    /// Nothing that could be an answer: a refusal, an error, a cut.
    Nothing,
}

/// Which stand-alone item to take where several stand and no marker tells which is the answer.
///
/// Off by default: it turns unfinished reasoning into votes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fallback {
    /// None: the trace abstains.
    #[default]
    Off,
    /// The first number or letter.
    First,
    /// The last number or letter.
    Last,
}

/// What a per cent sign means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Percent {
    /// Decoration: `10%` is 10.
    #[default]
    Strip,
    /// A hundredth: `10%` is 1/10.
    Scale,
}

/// Settings of a key. Every key has all of them and ignores those it has no use for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyOptions {
    /// Markers that precede an answer inside a text, each with an optional closing mark; the last
    /// occurrence of any of them counts. `None` stands for [`KeyOptions::default_delimiters`]
    /// under `number` and `choice`, and for the whole text under `text`.
    pub delimiters: Option<Vec<(String, Option<String>)>>,
    /// What to do where several candidates stand.
    pub fallback: Fallback,
    /// What a per cent sign means under `number`.
    pub percent: Percent,
    /// The letters of `choice`, in ASCII.
    pub letters: String,
    /// The texts of the options of `choice`, in the order of the letters; may be empty. Under `json`
    /// what the key overlooks: `NAME` or `ignore:NAME` (members, wherever they stand), `only:PATH`,
    /// `round:PATH:DIGITS`, `unordered:PATH`; paths are member names joined by dots.
    pub options: Vec<String>,
}

impl Default for KeyOptions {
    fn default() -> Self {
        Self {
            delimiters: None,
            fallback: Fallback::Off,
            percent: Percent::Strip,
            letters: "ABCDE".to_owned(),
            options: Vec::new(),
        }
    }
}

impl KeyOptions {
    /// The markers used where none are given. Their case is ignored.
    pub fn default_delimiters() -> Vec<(String, Option<String>)> {
        let mut list = vec![("<answer>".to_owned(), Some("</answer>".to_owned()))];
        list.extend(["####", "answer is", "answer:"].map(|mark| (mark.to_owned(), None)));
        list
    }
}

/// An answer with its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyed {
    /// The canonical form. Reading it as an answer gives the same key again.
    pub key: String,
    /// The answer as it was written.
    pub raw: String,
}

/// A compiled key: immutable and shared.
#[derive(Debug, Clone)]
pub struct Key {
    name: &'static str,
    kind: Kind,
    delimiters: Vec<(String, Option<String>)>,
    options: KeyOptions,
}

#[derive(Debug, Clone)]
enum Kind {
    Text,
    Number(number::NumberKey),
    Choice(choice::ChoiceKey),
    Latex,
    Python,
    Json(literal::JsonRules),
    Word,
    Bool,
    Date,
    /// Elements of another key; whether to sort them, whether to drop repetitions.
    List(Box<Key>, bool, bool),
}

impl Key {
    /// The names that [`Key::new`] knows.
    pub const NAMES: &[&str] = &[
        "text",
        "number",
        "choice",
        "latex",
        "python",
        "json",
        "word",
        "bool",
        "date",
        "set:KEY",
        "multiset:KEY",
        "seq:KEY",
    ];

    /// Compiles a key by name.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a name that is specified but not built, [`Error::InvalidInput`]
    /// for any other name and for options that contradict each other; both list what exists.
    pub fn new(name: &str, options: KeyOptions) -> Result<Self> {
        if let Some((list, inner)) = name.split_once(':')
            && let Some(found) = ["set", "multiset", "seq"].iter().position(|n| *n == list)
            && !inner.contains(':')
        {
            let inner = Self::new(inner, options.clone())?;
            let name = ["set", "multiset", "seq"][found];
            let kind = Kind::List(Box::new(inner), found < 2, found == 0);
            return Self::finish(name, kind, options);
        }
        let (name, kind) = match name {
            "text" => ("text", Kind::Text),
            "number" => {
                let rule = number::NumberKey::new(options.percent, options.fallback);
                ("number", Kind::Number(rule))
            }
            "choice" => ("choice", Kind::Choice(choice::ChoiceKey::new(&options)?)),
            "latex" => ("latex", Kind::Latex),
            "python" => ("python", Kind::Python),
            "json" => ("json", Kind::Json(literal::JsonRules::new(&options.options)?)),
            "word" => ("word", Kind::Word),
            "bool" => ("bool", Kind::Bool),
            "date" => ("date", Kind::Date),
            other => return Err(crate::spec::unknown("key", other, Self::NAMES, &[])),
        };
        Self::finish(name, kind, options)
    }

    fn finish(name: &'static str, kind: Kind, options: KeyOptions) -> Result<Self> {
        let delimiters = match (&options.delimiters, &kind) {
            (Some(list), _) => list.clone(),
            (None, Kind::Text | Kind::Json(_) | Kind::Python) => Vec::new(),
            (None, _) => KeyOptions::default_delimiters(),
        };
        if delimiters
            .iter()
            .any(|(open, close)| open.is_empty() || close.as_ref().is_some_and(String::is_empty))
        {
            return Err(Error::input("delimiters", "an empty string marks nothing"));
        }
        Ok(Self { name, kind, delimiters, options })
    }

    /// The name this key was made by.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The options this key was made with.
    pub fn options(&self) -> &KeyOptions {
        &self.options
    }

    /// The key of what a trace said; `cut` says that the text ended at a length limit, so that an
    /// answer that runs into its end may be incomplete and does not count.
    pub fn read(&self, said: Said<'_>, cut: bool) -> Option<Keyed> {
        match said {
            Said::Nothing => None,
            Said::Answer(answer) => self.read_answer(tail(answer)),
            Said::Text(text) => self.read_text(tail(text), cut),
        }
    }

    /// The key of the answer that an unfinished text has marked and written whole: nothing of what
    /// follows can extend it.
    pub fn marked(&self, text: &str) -> Option<Keyed> {
        // A full stop at the end may be a decimal point.
        let text = tail(text);
        let text = text.strip_suffix('.').unwrap_or(text);
        match extract::span(text, &self.delimiters, true) {
            extract::Found::Span(span) => self.read_answer(span),
            _ => None,
        }
    }

    /// The key of an answer that stands alone.
    pub fn of(&self, answer: &str) -> Option<String> {
        self.read(Said::Answer(answer), false).map(|keyed| keyed.key)
    }

    fn read_answer(&self, answer: &str) -> Option<Keyed> {
        let raw = answer.trim();
        let key = match &self.kind {
            Kind::Text => text::key(raw),
            Kind::Number(rule) => rule.key(raw),
            Kind::Choice(rule) => rule.key(raw),
            Kind::Latex => latex::key(raw),
            Kind::Python => literal::python(raw),
            Kind::Json(rules) => literal::json(raw, rules),
            Kind::Word => plain::word(raw),
            Kind::Bool => plain::boolean(raw),
            Kind::Date => plain::date(raw),
            Kind::List(key, sort, unique) => list(raw, key, *sort, *unique),
        }?;
        Some(Keyed { key, raw: raw.to_owned() })
    }

    fn read_text(&self, text: &str, cut: bool) -> Option<Keyed> {
        let whole = matches!(self.kind, Kind::Text | Kind::Json(_) | Kind::Python);
        if whole && self.delimiters.is_empty() {
            return if cut { None } else { self.read_answer(text) };
        }
        match extract::span(text, &self.delimiters, cut) {
            extract::Found::Span(span) => self.read_answer(span),
            extract::Found::Truncated => None,
            extract::Found::Nothing if cut => None,
            extract::Found::Nothing => {
                let bare = match &self.kind {
                    Kind::Number(rule) => rule.bare(text).or_else(|| rule.fallback(text)),
                    Kind::Choice(rule) => rule.bare(text).or_else(|| rule.fallback(text)),
                    _ => return None,
                }?;
                Some(Keyed { key: bare.0, raw: bare.1.to_owned() })
            }
        }
    }
}

/// Elements of a list between commas, semicolons or lines, with or without brackets; none if any
/// element has no key.
fn list(raw: &str, key: &Key, sort: bool, unique: bool) -> Option<String> {
    let body =
        raw.trim().trim_start_matches(['[', '{', '(']).trim_end_matches([']', '}', ')', '.']);
    let parts = body.split([',', ';', '\n']).map(str::trim).filter(|part| !part.is_empty());
    let part = |part: &str| key.of(part.trim_matches(['"', '\'']));
    let mut keys: Vec<String> = parts.map(part).collect::<Option<_>>()?;
    if sort {
        keys.sort_unstable();
    }
    if unique {
        keys.dedup();
    }
    (!keys.is_empty()).then(|| keys.join(", "))
}

/// The last [`MAX_TEXT`] bytes, from a character boundary on.
fn tail(text: &str) -> &str {
    let mut start = text.len().saturating_sub(MAX_TEXT);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_list_what_exists() {
        let unknown = Key::new("nubmer", KeyOptions::default()).unwrap_err();
        assert!(matches!(unknown, Error::InvalidInput { .. }), "{unknown}");
        assert!(unknown.to_string().contains("text, number, choice"), "{unknown}");
        assert!(Key::new("set:set:number", KeyOptions::default()).is_err());
    }

    #[test]
    fn lists_compare_their_elements() {
        let of = |name: &str, raw: &str| Key::new(name, KeyOptions::default()).unwrap().of(raw);
        assert_eq!(of("set:number", "[2, 1.0, 1]"), of("set:number", "1;2"));
        assert_ne!(of("multiset:number", "2,1,1"), of("multiset:number", "1,2"));
        assert_ne!(of("seq:number", "2,1"), of("seq:number", "1,2"));
        assert_eq!(of("seq:word", "\"The Cat\", dog"), Some("the cat, dog".into()));
        assert_eq!(of("set:number", "1, x"), None);
        assert_eq!(of("set:number", "[]"), None);
    }

    #[test]
    fn long_texts_keep_their_tail() {
        let key = Key::new("number", KeyOptions::default()).unwrap();
        let text = format!("{} The answer is 14.", "é".repeat(MAX_TEXT));
        assert_eq!(key.read(Said::Text(&text), false).unwrap().key, "14");
        assert!(tail(&text).len() <= MAX_TEXT);
    }

    #[test]
    fn an_unfinished_text_shows_whole_answers_only() {
        let key = Key::new("number", KeyOptions::default()).unwrap();
        let read = |text| key.marked(text).map(|k| k.key);
        for text in ["The answer is 5", "The answer is 5.", "5", "x = 5. So", r"\boxed{5", "", "."]
        {
            assert_eq!(read(text), None, "{text}");
        }
        for text in ["The answer is 5. ", "answer: 5\n", r"\boxed{5}", r"\boxed{5}. I check:"] {
            assert_eq!(read(text), Some("5".into()), "{text}");
        }
        assert_eq!(read("The answer is 5.2\n"), Some("26/5".into()));
    }

    #[test]
    fn a_cut_text_never_votes_with_a_truncated_answer() {
        let key = Key::new("number", KeyOptions::default()).unwrap();
        let read = |text, cut| key.read(Said::Text(text), cut).map(|k| k.key);
        assert_eq!(read("The answer is 1", true), None);
        assert_eq!(read("The answer is 14.", true), Some("14".into()));
        assert_eq!(read("The answer is 14\nso", true), Some("14".into()));
        assert_eq!(read(r"\boxed{3} and \boxed{14", true), None);
        assert_eq!(read("14", true), None);
        let text = Key::new("text", KeyOptions::default()).unwrap();
        assert_eq!(text.read(Said::Text("abc"), true), None);
        assert_eq!(text.read(Said::Text(" abc\n"), false).unwrap().key, "abc");
    }
}
