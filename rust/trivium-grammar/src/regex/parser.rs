//! The `ecma` and `python` dialects. Everything accepted means what ECMA-262 (in Unicode mode, with
//! the tolerance of its Annex B where that is unambiguous) or Python's `re` says it means.

use super::classes;
use super::tree::Tree;
use super::{Dialect, NEST_LIMIT};
use crate::automata::charset::{self, Range};
use crate::automata::expr::INF;
use crate::error::{Error, Result};
use regex_syntax::hir::Look;
use rustc_hash::FxHashMap;

#[derive(Debug, Clone, Copy, Default)]
#[allow(clippy::struct_excessive_bools)] // each is a letter of the syntax
struct Flags {
    ignore_case: bool,
    multi_line: bool,
    dot_all: bool,
    verbose: bool,
    ascii: bool,
}

pub(super) struct Parser<'a> {
    dialect: Dialect,
    chars: Vec<(usize, char)>,
    text: &'a str,
    at: usize,
    flags: Flags,
    groups: u32,
    names: FxHashMap<String, u32>,
    depth: u32,
    /// Bytes of classes made so far.
    spent: usize,
    budget: usize,
}

impl<'a> Parser<'a> {
    pub(super) fn new(text: &'a str, dialect: Dialect, budget: usize) -> Self {
        Self {
            dialect,
            chars: text.char_indices().collect(),
            text,
            at: 0,
            flags: Flags::default(),
            groups: 0,
            names: FxHashMap::default(),
            depth: 0,
            spent: 0,
            budget,
        }
    }

    pub(super) fn parse(mut self) -> Result<Tree> {
        let tree = self.alternation()?;
        if self.at < self.chars.len() {
            return Err(self.invalid(self.at, "unmatched )"));
        }
        self.check_references(&tree)?;
        Ok(tree)
    }

    fn python(&self) -> bool {
        self.dialect == Dialect::Python
    }

    fn offset(&self, at: usize) -> usize {
        self.chars.get(at).map_or(self.text.len(), |c| c.0)
    }

    fn invalid(&self, at: usize, why: impl Into<String>) -> Error {
        Error::InvalidGrammar { what: "pattern", offset: self.offset(at), why: why.into() }
    }

    fn unsupported(&self, at: usize, feature: &str, hint: &str) -> Error {
        Error::UnsupportedPattern {
            feature: feature.into(),
            at: format!("at byte {} of the pattern", self.offset(at)),
            hint: hint.into(),
        }
    }

    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).map(|c| c.1)
    }

    fn eat(&mut self, c: char) -> bool {
        let hit = self.peek() == Some(c);
        self.at += usize::from(hit);
        hit
    }

    fn eat_str(&mut self, s: &str) -> bool {
        let hit = self.text[self.offset(self.at)..].starts_with(s);
        if hit {
            self.at += s.chars().count();
        }
        hit
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek();
        self.at += usize::from(c.is_some());
        c
    }

    fn check_references(&self, tree: &Tree) -> Result<()> {
        if tree.any(&|t| matches!(t, Tree::Back(n, _) if *n > self.groups)) {
            return Err(self.invalid(0, "a back-reference to a group that does not exist"));
        }
        Ok(())
    }

    fn class(&mut self, ranges: Vec<Range>) -> Result<Tree> {
        let ranges = if self.flags.ignore_case { classes::fold(ranges) } else { ranges };
        self.spent += 64 + ranges.len() * 8;
        if self.spent > self.budget {
            return Err(Error::limit("max_bytes", self.spent as u64, self.budget as u64));
        }
        Ok(Tree::Class(ranges))
    }

    fn char(&mut self, c: u32) -> Result<Tree> {
        self.class(vec![(c, c)])
    }

    fn alternation(&mut self) -> Result<Tree> {
        self.depth += 1;
        if self.depth > NEST_LIMIT {
            return Err(Error::limit("pattern nesting", self.depth.into(), NEST_LIMIT.into()));
        }
        let mut members = vec![self.concatenation()?];
        while self.eat('|') {
            members.push(self.concatenation()?);
        }
        self.depth -= 1;
        Ok(if members.len() == 1 { members.swap_remove(0) } else { Tree::Alt(members) })
    }

    fn concatenation(&mut self) -> Result<Tree> {
        let mut parts = Vec::new();
        while let Some(c) = self.peek() {
            if c == '|' || c == ')' {
                break;
            }
            if self.flags.verbose && self.skip_verbose() {
                continue;
            }
            let from = self.at;
            let Some(atom) = self.atom()? else { continue };
            let quantified = self.quantifier(from, atom)?;
            parts.push(quantified);
        }
        Ok(match parts.len() {
            0 => Tree::Empty,
            1 => parts.swap_remove(0),
            _ => Tree::Cat(parts),
        })
    }

    fn skip_verbose(&mut self) -> bool {
        match self.peek() {
            Some(c) if c.is_ascii_whitespace() || c == '\u{b}' => self.at += 1,
            Some('#') => while self.next().is_some_and(|c| c != '\n') {},
            _ => return false,
        }
        true
    }

    fn quantifier(&mut self, from: usize, atom: Tree) -> Result<Tree> {
        while self.flags.verbose && self.skip_verbose() {}
        let at = self.at;
        let (min, max) = match self.peek() {
            Some('*') => (0, INF),
            Some('+') => (1, INF),
            Some('?') => (0, 1),
            Some('{') => match self.braces()? {
                Some(counts) => counts,
                None => return Ok(atom),
            },
            _ => return Ok(atom),
        };
        if self.peek() != Some('{') && self.at == at {
            self.at += 1;
        }
        let fixed = match atom {
            Tree::Look(_) | Tree::EndOrLastLine => self.chars[from].1 != '(',
            Tree::Behind { .. } => !self.python(),
            _ => false,
        };
        if fixed {
            return Err(self.invalid(from, "nothing to repeat"));
        }
        if max < min {
            return Err(self.invalid(at, "the bounds of a repetition are out of order"));
        }
        if self.peek() == Some('+') {
            return Err(if self.python() {
                self.unsupported(at, "a possessive quantifier", "use a plain one")
            } else {
                self.invalid(self.at, "nothing to repeat")
            });
        }
        self.eat('?'); // lazy: the language is the same
        if matches!(self.peek(), Some('*' | '+' | '?'))
            || (self.peek() == Some('{') && self.clone_braces())
        {
            return Err(self.invalid(self.at, "multiple repeat"));
        }
        Ok(Tree::Repeat { body: Box::new(atom), min, max })
    }

    /// Whether counts in braces stand here.
    fn clone_braces(&mut self) -> bool {
        let at = self.at;
        let hit = matches!(self.braces(), Ok(Some(_)));
        self.at = at;
        hit
    }

    /// `{m}`, `{m,}`, `{m,n}`, in Python `{,n}`; otherwise nothing is read: the brace is a character.
    fn braces(&mut self) -> Result<Option<(u32, u32)>> {
        let at = self.at;
        self.at += 1;
        let min = self.count()?;
        let counts = if self.eat(',') {
            let max = self.count()?;
            match (min, max) {
                (None, Some(max)) if self.python() => Some((0, max)),
                (None, _) => None,
                (Some(min), max) => Some((min, max.unwrap_or(INF))),
            }
        } else {
            min.map(|n| (n, n))
        };
        if counts.is_some() && self.eat('}') {
            return Ok(counts);
        }
        self.at = at;
        Ok(None)
    }

    fn count(&mut self) -> Result<Option<u32>> {
        let mut n: Option<u64> = None;
        while let Some(d) = self.peek().and_then(|c| c.to_digit(10)) {
            n = Some((n.unwrap_or(0) * 10 + u64::from(d)).min(1 << 40));
            self.at += 1;
        }
        match n {
            Some(n) if n >= u64::from(INF) => {
                Err(Error::limit("repetition count", n, u64::from(INF) - 1))
            }
            n => Ok(n.map(|n| n as u32)),
        }
    }

    /// `None` for what is only a setting or a comment.
    fn atom(&mut self) -> Result<Option<Tree>> {
        let at = self.at;
        let Some(c) = self.next() else { return Ok(Some(Tree::Empty)) };
        Ok(Some(match c {
            '(' => return self.group(at),
            '[' => self.set(at)?,
            '.' => {
                let not: &[Range] = match (self.flags.dot_all, self.python()) {
                    (true, _) => &[],
                    (_, true) => &[(0x0a, 0x0a)],
                    _ => &classes::LINE_ENDS,
                };
                self.class(charset::complement(not))?
            }
            '^' if self.flags.multi_line => self.line_start(),
            '^' => Tree::Look(Look::Start),
            '$' if self.flags.multi_line => self.line_end(),
            '$' if self.python() => Tree::EndOrLastLine,
            '$' => Tree::Look(Look::End),
            '\\' => self.escape(at)?,
            '*' | '+' | '?' => return Err(self.invalid(at, "nothing to repeat")),
            '{' if self.dialect == Dialect::Ecma => {
                self.at = at;
                if self.clone_braces() {
                    return Err(self.invalid(at, "nothing to repeat"));
                }
                self.at += 1;
                self.char(c.into())?
            }
            c => self.char(c.into())?,
        }))
    }

    fn line_start(&self) -> Tree {
        if self.python() {
            return Tree::Look(Look::StartLF);
        }
        let ends = Tree::Class(classes::LINE_ENDS.to_vec());
        let behind = Tree::Behind { negated: false, body: Box::new(ends) };
        Tree::Alt(vec![Tree::Look(Look::Start), behind])
    }

    fn line_end(&self) -> Tree {
        if self.python() {
            return Tree::Look(Look::EndLF);
        }
        let ends = Tree::Class(classes::LINE_ENDS.to_vec());
        let ahead = Tree::Ahead { negated: false, body: Box::new(ends) };
        Tree::Alt(vec![Tree::Look(Look::End), ahead])
    }

    fn close(&mut self, open: usize) -> Result<Tree> {
        let body = self.alternation()?;
        if !self.eat(')') {
            return Err(self.invalid(open, "a group that is not closed"));
        }
        Ok(body)
    }

    fn group(&mut self, open: usize) -> Result<Option<Tree>> {
        let saved = self.flags;
        let out = if !self.eat('?') {
            self.groups += 1;
            let n = self.groups;
            Tree::Group(n, Box::new(self.close(open)?))
        } else if self.eat(':') {
            self.close(open)?
        } else if self.eat('=') {
            Tree::Ahead { negated: false, body: Box::new(self.close(open)?) }
        } else if self.eat('!') {
            Tree::Ahead { negated: true, body: Box::new(self.close(open)?) }
        } else if self.eat_str("<=") {
            Tree::Behind { negated: false, body: Box::new(self.close(open)?) }
        } else if self.eat_str("<!") {
            Tree::Behind { negated: true, body: Box::new(self.close(open)?) }
        } else if self.eat_str(if self.python() { "P<" } else { "<" }) {
            let name = self.name(open, '>')?;
            self.groups += 1;
            let n = self.groups;
            if self.names.contains_key(&name) {
                return Err(self.invalid(open, format!("two groups are called {name:?}")));
            }
            self.names.insert(name, n);
            Tree::Group(n, Box::new(self.close(open)?))
        } else if self.python() && self.eat_str("P=") {
            let name = self.name(open, ')')?;
            let n = self.named(open, &name)?;
            Tree::Back(n, self.flags.ignore_case)
        } else if self.python() && self.eat('#') {
            loop {
                match self.next() {
                    Some(')') => return Ok(None),
                    Some(_) => {}
                    None => return Err(self.invalid(open, "a comment that is not closed")),
                }
            }
        } else if self.eat('>') {
            return Err(self.unsupported(open, "an atomic group", "use (?:...)"));
        } else if self.eat('(') {
            return Err(self.unsupported(open, "a conditional", "write both cases out"));
        } else {
            return self.setting(open, saved);
        };
        self.flags = saved;
        Ok(Some(out))
    }

    /// `(?i)`, `(?i:...)`, `(?i-s:...)`.
    fn setting(&mut self, open: usize, saved: Flags) -> Result<Option<Tree>> {
        let mut on = true;
        loop {
            match self.next() {
                Some('i') => self.flags.ignore_case = on,
                Some('m') => self.flags.multi_line = on,
                Some('s') => self.flags.dot_all = on,
                Some('x') if self.python() => self.flags.verbose = on,
                Some('a') if self.python() => self.flags.ascii = on,
                Some('u') if self.python() => self.flags.ascii = !on,
                Some('-') if on => on = false,
                Some(':') => {
                    let body = self.close(open)?;
                    self.flags = saved;
                    return Ok(Some(body));
                }
                // For the whole pattern, so only at its start. ECMA-262 has no such form, but
                // schemas written for other engines use it and it has no other meaning.
                Some(')') if open == 0 && on => return Ok(None),
                Some(')') => {
                    return Err(self.invalid(open, "flags not at the start of the pattern"));
                }
                _ => return Err(self.invalid(open, "an unknown kind of group")),
            }
        }
    }

    fn name(&mut self, open: usize, end: char) -> Result<String> {
        let mut name = String::new();
        loop {
            match self.next() {
                Some(c) if c == end => break,
                Some(c) if c.is_alphanumeric() || c == '_' || (c == '$' && !self.python()) => {
                    name.push(c);
                }
                _ => return Err(self.invalid(open, "a bad group name")),
            }
        }
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(self.invalid(open, "a bad group name"));
        }
        Ok(name)
    }

    fn named(&self, at: usize, name: &str) -> Result<u32> {
        self.names
            .get(name)
            .copied()
            .ok_or_else(|| self.invalid(at, format!("no group {name:?} before this place")))
    }

    fn escape(&mut self, at: usize) -> Result<Tree> {
        let Some(c) = self.peek() else {
            return Err(self.invalid(at, "a backslash at the end"));
        };
        if let Some(set) = self.set_escape(at)? {
            return self.class(set);
        }
        let word = |unicode: Look, ascii: Look, p: &Self| {
            Tree::Look(if p.python() && !p.flags.ascii { unicode } else { ascii })
        };
        match c {
            'b' => {
                self.at += 1;
                return Ok(word(Look::WordUnicode, Look::WordAscii, self));
            }
            'B' => {
                self.at += 1;
                return Ok(word(Look::WordUnicodeNegate, Look::WordAsciiNegate, self));
            }
            'A' if self.python() => {
                self.at += 1;
                return Ok(Tree::Look(Look::Start));
            }
            'Z' | 'z' if self.python() => {
                self.at += 1;
                return Ok(Tree::Look(Look::End));
            }
            'k' if !self.python() => {
                self.at += 1;
                if !self.eat('<') {
                    return Err(self.invalid(at, "\\k needs the name of a group"));
                }
                let name = self.name(at, '>')?;
                let n = self.named(at, &name)?;
                return Ok(Tree::Back(n, self.flags.ignore_case));
            }
            '1'..='9' => {
                let digits = |p: &Self, most: usize| -> String {
                    p.chars[p.at..]
                        .iter()
                        .take(most)
                        .map(|c| c.1)
                        .take_while(char::is_ascii_digit)
                        .collect()
                };
                let text = digits(self, 3);
                let octal =
                    text.len() == 3 && text.bytes().all(|b| b < b'8') && text.as_str() < "400";
                if !(self.python() && octal) {
                    let text = digits(self, 2);
                    self.at += text.len();
                    let n = text.parse().unwrap_or(u32::MAX);
                    return Ok(Tree::Back(n, self.flags.ignore_case));
                }
            }
            _ => {}
        }
        let c = self.char_escape(at)?;
        self.char(c)
    }

    /// `\d \w \s \p` and their opposites; nothing is read otherwise.
    fn set_escape(&mut self, at: usize) -> Result<Option<Vec<Range>>> {
        let Some(c) = self.peek() else { return Ok(None) };
        let unicode = self.python() && !self.flags.ascii;
        let set: Vec<Range> = match c.to_ascii_lowercase() {
            'd' if unicode => classes::property("Nd").unwrap_or_default(),
            'd' => classes::DIGIT.to_vec(),
            'w' if unicode => classes::python_word(),
            'w' => classes::WORD.to_vec(),
            's' if unicode => classes::PYTHON_SPACE.to_vec(),
            's' if self.python() => classes::ASCII_SPACE.to_vec(),
            's' => classes::ECMA_SPACE.to_vec(),
            'p' if !self.python() => {
                self.at += 1;
                if !self.eat('{') {
                    return Err(self.invalid(at, "\\p needs a property in braces"));
                }
                let from = self.offset(self.at);
                while self.next().is_some_and(|c| c != '}') {}
                let end = self.offset(self.at).saturating_sub(1).max(from);
                let name = &self.text[from..end];
                let set = classes::property(name)
                    .ok_or_else(|| self.invalid(at, format!("no Unicode property {name:?}")))?;
                return Ok(Some(if c == 'P' { charset::complement(&set) } else { set }));
            }
            _ => return Ok(None),
        };
        self.at += 1;
        Ok(Some(if c.is_ascii_uppercase() { charset::complement(&set) } else { set }))
    }

    fn hex(&mut self, at: usize, digits: usize) -> Result<u32> {
        let mut n = 0;
        for _ in 0..digits {
            let d = self.next().and_then(|c| c.to_digit(16));
            n = n * 16 + d.ok_or_else(|| self.invalid(at, "a hexadecimal digit is missing"))?;
        }
        Ok(n)
    }

    /// One character after a backslash; what `b` means inside a class is the caller's affair.
    fn char_escape(&mut self, at: usize) -> Result<u32> {
        let Some(c) = self.next() else { return Err(self.invalid(at, "a backslash at the end")) };
        Ok(match c {
            't' => 0x09,
            'n' => 0x0a,
            'v' => 0x0b,
            'f' => 0x0c,
            'r' => 0x0d,
            'a' if self.python() => 0x07,
            'c' if !self.python() => match self.next() {
                Some(l) if l.is_ascii_alphabetic() => u32::from(l) % 32,
                _ => return Err(self.invalid(at, "\\c needs a letter")),
            },
            'x' => self.hex(at, 2)?,
            'U' if self.python() => {
                let n = self.hex(at, 8)?;
                char::from_u32(n).map(u32::from).ok_or_else(|| self.invalid(at, "no character"))?
            }
            'u' => self.unicode(at)?,
            '0'..='7' if self.python() => {
                let mut n = u32::from(c) - 0x30;
                for _ in 0..2 {
                    match self.peek().and_then(|c| c.to_digit(8)) {
                        Some(d) => n = n * 8 + d,
                        None => break,
                    }
                    self.at += 1;
                }
                n
            }
            '0' if !self.peek().is_some_and(|c| c.is_ascii_digit()) => 0,
            c if c.is_ascii_alphanumeric() => {
                return Err(self.invalid(at, format!("unknown escape \\{c}")));
            }
            c => c.into(),
        })
    }

    fn unicode(&mut self, at: usize) -> Result<u32> {
        if !self.python() && self.eat('{') {
            let mut n: u32 = 0;
            let mut any = false;
            while let Some(d) = self.peek().and_then(|c| c.to_digit(16)) {
                n = n.saturating_mul(16).saturating_add(d);
                any = true;
                self.at += 1;
            }
            if !any || !self.eat('}') || n > charset::MAX {
                return Err(self.invalid(at, "a bad \\u{...}"));
            }
            return Ok(n);
        }
        let high = self.hex(at, 4)?;
        if (0xd800..0xdc00).contains(&high) {
            let here = self.at;
            if self.eat_str("\\u")
                && let Ok(low) = self.hex(at, 4)
                && (0xdc00..0xe000).contains(&low)
            {
                return Ok(0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00));
            }
            self.at = here;
        }
        Ok(high)
    }

    fn set(&mut self, open: usize) -> Result<Tree> {
        let negated = self.eat('^');
        let mut set: Vec<Range> = Vec::new();
        let mut first = true;
        loop {
            let at = self.at;
            let Some(c) = self.next() else {
                return Err(self.invalid(open, "a class that is not closed"));
            };
            if c == ']' && !(first && self.python()) {
                break;
            }
            first = false;
            let low = match self.member(c, at)? {
                Member::Set(s) => {
                    set.extend(s);
                    // Annex B: a hyphen beside a set is a character.
                    continue;
                }
                Member::Char(c) => c,
            };
            let dash = self.at;
            if !self.eat('-') {
                set.push((low, low));
                continue;
            }
            let Some(c) = self.peek().filter(|&c| c != ']') else {
                self.at = dash;
                set.push((low, low));
                continue;
            };
            let at = self.at;
            self.at += 1;
            match self.member(c, at)? {
                Member::Set(s) => {
                    if self.python() {
                        return Err(self.invalid(at, "a set cannot end a range"));
                    }
                    set.extend(s);
                    set.extend([(low, low), (0x2d, 0x2d)]);
                }
                Member::Char(high) if high < low => {
                    return Err(self.invalid(at, "a range out of order"));
                }
                Member::Char(high) => set.push((low, high)),
            }
        }
        let mut set = charset::normalize(set);
        if self.flags.ignore_case {
            set = classes::fold(set);
        }
        let set = if negated { charset::complement(&set) } else { set };
        // Folded before it was negated.
        let flags = self.flags;
        self.flags.ignore_case = false;
        let out = self.class(set);
        self.flags = flags;
        out
    }

    fn member(&mut self, c: char, at: usize) -> Result<Member> {
        if c != '\\' {
            return Ok(Member::Char(c.into()));
        }
        if let Some(set) = self.set_escape(at)? {
            return Ok(Member::Set(set));
        }
        match self.peek() {
            Some('b') => {
                self.at += 1;
                Ok(Member::Char(0x08))
            }
            // Python reads octal here; ECMA-262 allows no digits but 0.
            _ => Ok(Member::Char(self.char_escape(at)?)),
        }
    }
}

enum Member {
    Char(u32),
    Set(Vec<Range>),
}
