//! Grammars as they are written: rules over texts, classes, names and operators.

use crate::automata::charset::Range;
use crate::error::{Error, Result};

/// Deepest nesting of parentheses.
pub(super) const MAX_NESTING: usize = 250;
/// Largest count of a repetition over rules; over characters any count will do.
pub(super) const MAX_COUNT: u32 = 1_000_000;

/// An expression of a rule.
#[derive(Debug, Clone)]
pub(super) enum Ast {
    /// A literal text, perhaps of any case.
    Text(String, bool),
    Class(Vec<Range>),
    /// A pattern and its flags.
    Pattern(String, String),
    /// A rule or terminal, by name, and where the name stands.
    Name(String, usize),
    /// A template with arguments, and where its name stands; gone once a grammar was read.
    Call(String, Vec<Ast>, usize),
    /// Special tokens by name.
    Special(String, usize),
    /// Special tokens by id: listed, or all but those listed.
    Ids(Vec<(u32, u32)>, bool),
    /// A JSON schema.
    Json(String),
    Seq(Vec<Ast>),
    Alt(Vec<Ast>),
    Repeat(Box<Ast>, u32, Option<u32>),
    /// Texts of both; texts of the first and not the second; all other texts.
    And(Box<Ast>, Box<Ast>),
    Minus(Box<Ast>, Box<Ast>),
    Not(Box<Ast>),
}

impl Ast {
    pub(super) fn seq(mut parts: Vec<Self>) -> Self {
        if parts.len() == 1 { parts.swap_remove(0) } else { Self::Seq(parts) }
    }

    pub(super) fn alt(mut parts: Vec<Self>) -> Self {
        if parts.len() == 1 { parts.swap_remove(0) } else { Self::Alt(parts) }
    }

    /// The parts of a node, to change.
    pub(super) fn parts_mut(&mut self) -> Vec<&mut Self> {
        match self {
            Self::Seq(p) | Self::Alt(p) | Self::Call(_, p, _) => p.iter_mut().collect(),
            Self::Repeat(a, ..) | Self::Not(a) => vec![a],
            Self::And(a, b) | Self::Minus(a, b) => vec![a, b],
            _ => Vec::new(),
        }
    }

    /// The parts of a node.
    pub(super) fn parts(&self) -> Vec<&Self> {
        match self {
            Self::Seq(p) | Self::Alt(p) | Self::Call(_, p, _) => p.iter().collect(),
            Self::Repeat(a, ..) | Self::Not(a) => vec![a],
            Self::And(a, b) | Self::Minus(a, b) => vec![a, b],
            _ => Vec::new(),
        }
    }
}

/// One rule or terminal.
#[derive(Debug, Clone)]
pub(super) struct Definition {
    pub(super) name: String,
    /// Byte offset of the name.
    pub(super) at: usize,
    /// Read as one longest match.
    pub(super) terminal: bool,
    pub(super) priority: i64,
    pub(super) body: Ast,
}

/// A grammar.
#[derive(Debug, Clone, Default)]
pub(super) struct Source {
    pub(super) rules: Vec<Definition>,
    /// What may stand between terminals; only in longest-match grammars.
    pub(super) ignore: Vec<Ast>,
    /// Terminals are longest matches.
    pub(super) longest: bool,
}

/// A cursor over a grammar's text.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    pub(super) text: &'a str,
    pub(super) at: usize,
    pub(super) depth: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0, depth: 0 }
    }

    pub(super) fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub(super) fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    /// Takes a text if it comes next.
    pub(super) fn eat(&mut self, text: &str) -> bool {
        let found = self.rest().starts_with(text);
        if found {
            self.at += text.len();
        }
        found
    }

    /// Takes characters while they fit.
    pub(super) fn take(&mut self, fits: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c| !fits(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    pub(super) fn fail<T>(&self, why: impl Into<String>) -> Result<T> {
        Err(located(self.text, self.at, why))
    }

    /// One level deeper.
    pub(super) fn nest<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.depth += 1;
        if self.depth > MAX_NESTING {
            return Err(Error::limit("nesting", self.depth as u64, MAX_NESTING as u64));
        }
        let out = work(self);
        self.depth -= 1;
        out
    }

    /// The counts of `*`, `+` or `?`, if one comes next.
    pub(super) fn star(&mut self) -> Option<(u32, Option<u32>)> {
        let counts = match self.peek()? {
            '*' => (0, None),
            '+' => (1, None),
            '?' => (0, Some(1)),
            _ => return None,
        };
        self.at += 1;
        Some(counts)
    }

    /// Takes the `i` behind a text of any case, which is no beginning of a name.
    pub(super) fn any_case(&mut self, is_name: impl Fn(char) -> bool) -> bool {
        let mut after = self.rest().chars();
        let found = after.next() == Some('i') && !after.next().is_some_and(is_name);
        self.at += usize::from(found);
        found
    }

    /// Counts operators that pile up on one item, each a level of its expression.
    pub(super) fn pile(height: &mut usize) -> Result<()> {
        *height += 1;
        if *height > MAX_NESTING {
            return Err(Error::limit("nesting", *height as u64, MAX_NESTING as u64));
        }
        Ok(())
    }

    pub(super) fn number(&mut self) -> Result<u32> {
        let digits = self.take(|c| c.is_ascii_digit());
        match digits.parse::<u32>() {
            Ok(n) if n <= MAX_COUNT => Ok(n),
            Ok(_) => self.fail(format!("a count above {MAX_COUNT}")),
            Err(_) => self.fail("a number is expected"),
        }
    }

    /// Reads an escape whose backslash was read.
    pub(super) fn escape(&mut self) -> Result<char> {
        let Some(c) = self.bump() else { return self.fail("the text ends in an escape") };
        let digits = match c {
            'n' => return Ok('\n'),
            'r' => return Ok('\r'),
            't' => return Ok('\t'),
            'b' => return Ok('\u{8}'),
            'f' => return Ok('\u{c}'),
            '0' => return Ok('\0'),
            'x' => 2,
            'u' => 4,
            'U' => 8,
            c if c.is_ascii_alphanumeric() => return self.fail(format!("\\{c} is no escape")),
            c => return Ok(c),
        };
        let code = self.rest().get(..digits).and_then(|h| u32::from_str_radix(h, 16).ok());
        let Some(c) = code.and_then(char::from_u32) else {
            return self.fail(format!("{digits} hexadecimal digits of a character are expected"));
        };
        self.at += digits;
        Ok(c)
    }

    /// A quoted text whose opening quote was read.
    pub(super) fn quoted(&mut self, quote: char) -> Result<String> {
        let mut out = String::new();
        loop {
            match self.bump() {
                None => return self.fail("a text is not closed"),
                Some(c) if c == quote => return Ok(out),
                Some('\\') => out.push(self.escape()?),
                Some(c) => out.push(c),
            }
        }
    }

    /// A class whose opening bracket was read.
    pub(super) fn class(&mut self) -> Result<Vec<Range>> {
        let negated = self.eat("^");
        let mut ranges: Vec<Range> = Vec::new();
        loop {
            let lo = match self.bump() {
                None => return self.fail("a class is not closed"),
                Some(']') => break,
                Some('\\') => self.escape()?,
                Some(c) => c,
            };
            let mut hi = lo;
            if self.rest().starts_with('-') && !self.rest().starts_with("-]") {
                self.at += 1;
                hi = match self.bump() {
                    None => return self.fail("a class is not closed"),
                    Some('\\') => self.escape()?,
                    Some(c) => c,
                };
                if hi < lo {
                    return self.fail(format!("the range {lo:?}-{hi:?} is empty"));
                }
            }
            ranges.push((lo.into(), hi.into()));
        }
        let ranges = crate::automata::charset::normalize(ranges);
        Ok(if negated { crate::automata::charset::complement(&ranges) } else { ranges })
    }

    /// `/pattern/flags` whose opening slash was read.
    pub(super) fn pattern(&mut self) -> Result<Ast> {
        let from = self.at;
        let mut class = false;
        loop {
            match self.bump() {
                None | Some('\n') => return self.fail("a pattern is not closed"),
                Some('\\') => drop(self.bump()),
                Some('[') => class = true,
                Some(']') => class = false,
                Some('/') if !class => break,
                Some(_) => {}
            }
        }
        let pattern = self.text[from..self.at - 1].replace("\\/", "/");
        let flags = self.take(|c| c.is_ascii_alphabetic()).to_owned();
        Ok(Ast::Pattern(pattern, flags))
    }

    /// A balanced `{...}` whose opening brace comes next; its text with the braces. Those in texts
    /// between quotes do not count, if there are texts.
    pub(super) fn braces(&mut self, texts: bool) -> Result<&'a str> {
        let from = self.at;
        if !self.rest().starts_with('{') {
            return self.fail("a brace is expected");
        }
        let mut depth = 0usize;
        let mut text = false;
        loop {
            match self.bump() {
                None => return self.fail("a brace is not closed"),
                Some('\\') => drop(self.bump()),
                Some('"') if texts => text = !text,
                Some('{') if !text => depth += 1,
                Some('}') if !text => {
                    depth -= 1;
                    if depth == 0 {
                        return Ok(&self.text[from..self.at]);
                    }
                }
                Some(_) => {}
            }
        }
    }

    /// `<|name|>` or `<[ids]>`, if one comes next.
    pub(super) fn special(&mut self) -> Result<Option<Ast>> {
        let at = self.at;
        if self.eat("<[") {
            let negated = self.eat("^");
            let mut ids = Vec::new();
            loop {
                self.take(|c| c == ' ' || c == ',');
                if self.eat("]>") {
                    return Ok(Some(Ast::Ids(ids, negated)));
                }
                let digits = self.take(|c| c.is_ascii_digit());
                let Ok(lo) = digits.parse::<u32>() else {
                    return self.fail("ids of tokens are expected");
                };
                let hi = if self.eat("-") {
                    let digits = self.take(|c| c.is_ascii_digit());
                    match digits.parse::<u32>() {
                        Ok(hi) if hi >= lo => hi,
                        _ => return self.fail("the end of a range of ids is expected"),
                    }
                } else {
                    lo
                };
                ids.push((lo, hi));
            }
        }
        if self.rest().starts_with('<') {
            let rest = self.rest();
            let end = rest.find('>').filter(|&e| !rest[..e].contains(char::is_whitespace));
            let Some(end) = end else { return self.fail("a special token is expected") };
            let name = rest[..=end].to_owned();
            self.at += end + 1;
            return Ok(Some(Ast::Special(name, at)));
        }
        Ok(None)
    }
}

/// An error at a byte of a grammar's text.
pub(super) fn located(text: &str, at: usize, why: impl Into<String>) -> Error {
    let at = (0..=at.min(text.len())).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
    let (line, column) = place(text, at);
    let why = format!("line {line}, column {column}: {}", why.into());
    Error::InvalidGrammar { what: "grammar", offset: at, why }
}

/// Line and column of a byte, from 1.
pub(super) fn place(text: &str, at: usize) -> (usize, usize) {
    let before = &text[..at.min(text.len())];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |l| l.chars().count()) + 1;
    (line, column)
}
