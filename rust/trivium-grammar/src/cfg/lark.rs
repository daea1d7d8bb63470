//! The dialect of the Lark parser generator: rules in lower case, terminals in upper case, longest
//! match.

use super::ast::{Ast, Cursor, Definition, Source};
use super::templates::{self, Template};
use crate::error::Result;
use std::collections::BTreeMap;

/// Terminals of the library module `common`, in the same dialect.
const COMMON: &str = r#"
DIGIT: "0".."9"
HEXDIGIT: "a".."f" | "A".."F" | DIGIT
INT: DIGIT+
SIGNED_INT: ["+" | "-"] INT
DECIMAL: INT "." INT? | "." INT
_EXPONENT: ("e" | "E") SIGNED_INT
FLOAT: INT _EXPONENT | DECIMAL _EXPONENT?
SIGNED_FLOAT: ["+" | "-"] FLOAT
NUMBER: FLOAT | INT
SIGNED_NUMBER: ["+" | "-"] NUMBER
ESCAPED_STRING: /"([^"\\\n]|\\[^\n])*"/
LCASE_LETTER: "a".."z"
UCASE_LETTER: "A".."Z"
LETTER: UCASE_LETTER | LCASE_LETTER
WORD: LETTER+
CNAME: ("_" | LETTER) ("_" | LETTER | DIGIT)*
WS_INLINE: (" " | /\t/)+
WS: /[ \t\f\r\n]/+
CR: /\r/
LF: /\n/
NEWLINE: (CR? LF)+
SH_COMMENT: /#[^\n]*/
CPP_COMMENT: /\/\/[^\n]*/
C_COMMENT: "/*" /([^*]|\*+[^*\/])*\*+\//
SQL_COMMENT: /--[^\n]*/
"#;

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn is_terminal(name: &str) -> bool {
    let mut letters = name.trim_start_matches('_').chars();
    letters.next().is_some_and(char::is_uppercase)
}

/// Reads a grammar.
pub(super) fn parse(text: &str) -> Result<Source> {
    let mut out = read(text)?;
    templates::expand(text, &mut out.rules, &mut out.ignore, &out.templates)?;
    let library = read(COMMON)?;
    // What imported terminals are made of comes along, under names that no grammar can write.
    let mut wanted: Vec<String> = Vec::new();
    for (alias, (name, at)) in std::mem::take(&mut out.imports) {
        if !library.rules.iter().any(|r| r.name == name) {
            return Err(super::ast::located(text, at, format!("common.{name} is not known")));
        }
        let body = Ast::Name(format!("common.{name}"), at);
        out.rules.push(Definition { name: alias, at, terminal: true, priority: 0, body });
        wanted.push(name);
    }
    let mut done = 0;
    while let Some(name) = wanted.get(done).cloned() {
        done += 1;
        let Some(rule) = library.rules.iter().find(|r| r.name == name) else { continue };
        if out.rules.iter().any(|r| r.name == format!("common.{name}")) {
            continue;
        }
        let mut rule = rule.clone();
        rename(&mut rule.body, &mut wanted);
        rule.name = format!("common.{name}");
        out.rules.push(rule);
    }
    Ok(Source { rules: out.rules, ignore: out.ignore, longest: true })
}

fn rename(ast: &mut Ast, wanted: &mut Vec<String>) {
    match ast {
        Ast::Name(name, _) => {
            wanted.push(name.clone());
            *name = format!("common.{name}");
        }
        Ast::Seq(parts) | Ast::Alt(parts) => {
            for part in parts {
                rename(part, wanted);
            }
        }
        Ast::Repeat(a, ..) | Ast::Not(a) => rename(a, wanted),
        Ast::And(a, b) | Ast::Minus(a, b) => {
            rename(a, wanted);
            rename(b, wanted);
        }
        _ => {}
    }
}

#[derive(Default)]
struct Read {
    rules: Vec<Definition>,
    templates: Vec<Template>,
    ignore: Vec<Ast>,
    imports: BTreeMap<String, (String, usize)>,
}

fn read(text: &str) -> Result<Read> {
    let mut c = Cursor::new(text);
    let mut out = Read::default();
    loop {
        lines(&mut c);
        if c.rest().is_empty() {
            return Ok(out);
        }
        if c.eat("%") {
            directive(&mut c, &mut out)?;
            continue;
        }
        c.take(|x| x == '?' || x == '!');
        let at = c.at;
        let name = c.take(is_name).to_owned();
        if name.is_empty() {
            return c.fail("a rule is expected: name: ...");
        }
        let mut parameters = None;
        if c.eat("{") {
            let mut names = Vec::new();
            loop {
                c.take(|x| x.is_whitespace() || x == ',');
                if c.eat("}") {
                    break;
                }
                let name = c.take(is_name).to_owned();
                if name.is_empty() {
                    return c.fail("the name of a parameter is expected");
                }
                names.push(name);
            }
            parameters = Some(names);
        }
        if c.rest().starts_with('[') {
            return c.fail("attributes of rules ([max_tokens=...]) are not served; bound the text by a repetition");
        }
        let mut priority = 0;
        if c.eat(".") {
            let minus = c.eat("-");
            priority = i64::from(c.number()?);
            if minus {
                priority = -priority;
            }
        }
        blank(&mut c);
        if !c.eat(":") {
            return c.fail("a colon is expected");
        }
        let body = alternatives(&mut c)?;
        let terminal = is_terminal(&name);
        let rule = Definition { name, at, terminal, priority, body };
        match parameters {
            Some(parameters) => out.templates.push(Template { rule, parameters }),
            None => out.rules.push(rule),
        }
    }
}

fn directive(c: &mut Cursor<'_>, out: &mut Read) -> Result<()> {
    let at = c.at;
    match c.take(is_name) {
        "ignore" => {
            out.ignore.push(alternatives(c)?);
            Ok(())
        }
        "import" => {
            blank(c);
            if !c.eat("common") {
                return c.fail("only %import common.NAME is served");
            }
            if c.eat(".") {
                let at = c.at;
                let name = c.take(is_name).to_owned();
                blank(c);
                let alias = if c.eat("->") {
                    blank(c);
                    c.take(is_name).to_owned()
                } else {
                    name.clone()
                };
                out.imports.insert(alias, (name, at));
                return Ok(());
            }
            blank(c);
            if !c.eat("(") {
                return c.fail("a dot or a list of names is expected");
            }
            loop {
                c.take(|x| x.is_whitespace() || x == ',');
                if c.eat(")") {
                    return Ok(());
                }
                let at = c.at;
                let name = c.take(is_name).to_owned();
                if name.is_empty() {
                    return c.fail("a name is expected");
                }
                out.imports.insert(name.clone(), (name, at));
            }
        }
        "declare" => c.fail("a declared terminal has no text; define it"),
        "override" | "extend" => {
            c.fail("nothing of another grammar is imported that could be changed; write the rule")
        }
        other => {
            let why = format!("%{other} is not supported");
            c.at = at;
            c.fail(why)
        }
    }
}

/// White space within a line.
fn blank(c: &mut Cursor<'_>) {
    c.take(|x| x == ' ' || x == '\t' || x == '\r');
}

/// White space, comments and line breaks.
fn lines(c: &mut Cursor<'_>) {
    loop {
        c.take(char::is_whitespace);
        if c.rest().starts_with("//") || c.rest().starts_with('#') {
            c.take(|x| x != '\n');
        } else {
            return;
        }
    }
}

/// To the next item of a rule: over a line break only if an alternative follows, or inside a group.
fn next(c: &mut Cursor<'_>) {
    blank(c);
    if c.rest().starts_with("//") || c.rest().starts_with('#') {
        c.take(|x| x != '\n');
    }
    let from = c.at;
    lines(c);
    if c.depth == 0 && !c.rest().starts_with('|') && c.text[from..c.at].contains('\n') {
        c.at = from;
    }
}

fn alternatives(c: &mut Cursor<'_>) -> Result<Ast> {
    let mut parts = vec![sequence(c)?];
    loop {
        next(c);
        if !c.eat("|") {
            return Ok(Ast::alt(parts));
        }
        parts.push(sequence(c)?);
    }
}

fn sequence(c: &mut Cursor<'_>) -> Result<Ast> {
    let mut parts = Vec::new();
    loop {
        next(c);
        if c.eat("->") {
            blank(c);
            c.take(is_name);
            next(c);
        }
        match c.peek() {
            None | Some('|' | ')' | ']' | '}' | ',' | '\n') => return Ok(Ast::seq(parts)),
            Some(_) => {}
        }
        let mut item = repeated(c)?;
        let mut height = 0;
        loop {
            blank(c);
            if !c.eat("&") {
                break;
            }
            blank(c);
            Cursor::pile(&mut height)?;
            item = Ast::And(Box::new(item), Box::new(repeated(c)?));
        }
        parts.push(item);
    }
}

fn repeated(c: &mut Cursor<'_>) -> Result<Ast> {
    if c.eat("~") {
        blank(c);
        let inner = c.nest(repeated)?;
        return Ok(Ast::Not(Box::new(inner)));
    }
    let mut item = atom(c)?;
    let mut height = 0;
    loop {
        let (min, max) = if let Some(counts) = c.star() {
            counts
        } else {
            let from = c.at;
            blank(c);
            if !c.eat("~") {
                c.at = from;
                return Ok(item);
            }
            blank(c);
            let min = c.number()?;
            let max = if c.eat("..") { c.number()? } else { min };
            if max < min {
                return c.fail(format!("~{min}..{max} has no count"));
            }
            (min, Some(max))
        };
        Cursor::pile(&mut height)?;
        item = Ast::Repeat(Box::new(item), min, max);
    }
}

fn atom(c: &mut Cursor<'_>) -> Result<Ast> {
    let at = c.at;
    if let Some(special) = c.special()? {
        return Ok(special);
    }
    if c.eat("%json") {
        blank(c);
        return Ok(Ast::Json(c.braces(true)?.to_owned()));
    }
    match c.bump() {
        Some('"') => {
            let text = c.quoted('"')?;
            if c.eat("..") {
                if !c.eat("\"") {
                    return c.fail("the end of a range is expected");
                }
                let end = c.quoted('"')?;
                let (mut a, mut b) = (text.chars(), end.chars());
                return match (a.next(), a.next(), b.next(), b.next()) {
                    (Some(lo), None, Some(hi), None) if lo <= hi => {
                        Ok(Ast::Class(vec![(lo.into(), hi.into())]))
                    }
                    _ => c.fail("a range is between two characters in order"),
                };
            }
            let any_case = c.any_case(is_name);
            Ok(Ast::Text(text, any_case))
        }
        Some('/') => c.pattern(),
        Some(open @ ('(' | '[')) => {
            let inner = c.nest(alternatives)?;
            c.depth += 1;
            next(c);
            c.depth -= 1;
            if !c.eat(if open == '(' { ")" } else { "]" }) {
                return c.fail("a closing bracket is expected");
            }
            Ok(if open == '(' { inner } else { Ast::Repeat(Box::new(inner), 0, Some(1)) })
        }
        Some(first) if is_name(first) => {
            c.at = at;
            let name = c.take(is_name).to_owned();
            if c.eat("{") {
                let mut arguments = Vec::new();
                loop {
                    arguments.push(c.nest(alternatives)?);
                    c.take(char::is_whitespace);
                    if c.eat("}") {
                        return Ok(Ast::Call(name, arguments, at));
                    }
                    if !c.eat(",") {
                        return c.fail("a comma or a closing brace is expected");
                    }
                }
            }
            Ok(Ast::Name(name, at))
        }
        _ => {
            c.at = at;
            c.fail("a text, a pattern, a name or a bracket is expected")
        }
    }
}
