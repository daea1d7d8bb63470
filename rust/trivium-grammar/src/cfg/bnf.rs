//! EBNF and GBNF: `name ::= alternatives`, characters all the way down.

use super::ast::{Ast, Cursor, Definition, Source};
use crate::automata::charset;
use crate::error::Result;

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '-'
}

/// Reads a grammar. `gbnf`: a line break ends a rule unless a parenthesis is open.
pub(super) fn parse(text: &str) -> Result<Source> {
    let mut c = Cursor::new(text);
    let mut rules = Vec::new();
    loop {
        blank(&mut c);
        if c.rest().is_empty() {
            break;
        }
        let at = c.at;
        let Some(name) = head(&mut c) else {
            return c.fail("a rule is expected: name ::= ...");
        };
        let body = alternatives(&mut c)?;
        blank(&mut c);
        c.eat(";");
        rules.push(Definition { name, at, terminal: false, priority: 0, body });
    }
    Ok(Source { rules, ignore: Vec::new(), longest: false })
}

fn blank(c: &mut Cursor<'_>) {
    loop {
        c.take(char::is_whitespace);
        if !c.rest().starts_with('#') {
            return;
        }
        c.take(|c| c != '\n');
    }
}

/// The name of a rule and `::=`; the cursor stays where it is if they do not come next.
fn head(c: &mut Cursor<'_>) -> Option<String> {
    let from = c.at;
    let name = c.take(is_name).to_owned();
    blank(c);
    if !name.is_empty() && c.eat("::=") {
        return Some(name);
    }
    c.at = from;
    None
}

fn alternatives(c: &mut Cursor<'_>) -> Result<Ast> {
    let mut parts = vec![sequence(c)?];
    loop {
        blank(c);
        if !c.eat("|") {
            return Ok(Ast::alt(parts));
        }
        parts.push(sequence(c)?);
    }
}

fn sequence(c: &mut Cursor<'_>) -> Result<Ast> {
    let mut parts = Vec::new();
    loop {
        blank(c);
        match c.peek() {
            None | Some('|' | ')' | ';') => return Ok(Ast::seq(parts)),
            Some(_) => {}
        }
        // The next rule begins where a name is followed by `::=`.
        let from = c.at;
        let next = head(c).is_some();
        c.at = from;
        if next {
            return Ok(Ast::seq(parts));
        }
        let mut item = repeated(c)?;
        let mut height = 0;
        loop {
            blank(c);
            if c.eat("&") {
                blank(c);
                Cursor::pile(&mut height)?;
                item = Ast::And(Box::new(item), Box::new(repeated(c)?));
            } else if c.rest().starts_with("- ") {
                c.at += 2;
                blank(c);
                Cursor::pile(&mut height)?;
                item = Ast::Minus(Box::new(item), Box::new(repeated(c)?));
            } else {
                break;
            }
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
        } else if c.eat("{") {
            let counts = counts(c)?;
            if !c.eat("}") {
                return c.fail("a closing brace is expected");
            }
            counts
        } else {
            return Ok(item);
        };
        Cursor::pile(&mut height)?;
        item = Ast::Repeat(Box::new(item), min, max);
    }
}

fn counts(c: &mut Cursor<'_>) -> Result<(u32, Option<u32>)> {
    blank(c);
    let min = if c.rest().starts_with(',') { 0 } else { c.number()? };
    blank(c);
    if !c.eat(",") {
        return Ok((min, Some(min)));
    }
    blank(c);
    if c.rest().starts_with('}') {
        return Ok((min, None));
    }
    let max = c.number()?;
    blank(c);
    if max < min {
        return c.fail(format!("{{{min},{max}}} has no count"));
    }
    Ok((min, Some(max)))
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
    if c.eat("%regex") {
        blank(c);
        let text = c.braces(false)?;
        return Ok(Ast::Pattern(text[1..text.len() - 1].trim().to_owned(), String::new()));
    }
    match c.bump() {
        Some(q @ ('"' | '\'')) => {
            let text = c.quoted(q)?;
            let any_case = q == '"' && c.any_case(is_name);
            Ok(Ast::Text(text, any_case))
        }
        Some('[') => Ok(Ast::Class(c.class()?)),
        Some('.') => Ok(Ast::Class(vec![(0, charset::MAX)])),
        Some('/') => c.pattern(),
        Some('(') => {
            let inner = c.nest(alternatives)?;
            blank(c);
            if !c.eat(")") {
                return c.fail("a closing parenthesis is expected");
            }
            Ok(inner)
        }
        Some(first) if is_name(first) => {
            c.at = at;
            let name = c.take(is_name).to_owned();
            Ok(Ast::Name(name, at))
        }
        _ => {
            c.at = at;
            c.fail("a text, a class, a name or a parenthesis is expected")
        }
    }
}
