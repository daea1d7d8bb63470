//! Templates of the Lark dialect: `sep{x, s}: x (s x)*`, used as `sep{NUMBER, ","}`.
//!
//! Every list of arguments makes a rule of its own, so a template that calls itself with its own
//! arguments is a recursive rule. One that calls itself with ever larger arguments has no end:
//! the number of rules made is bounded.

use super::ast::{Ast, Definition, located};
use crate::error::{Error, Result};
use rustc_hash::{FxHashMap, FxHashSet};

/// Rules that templates may make.
const MOST: usize = 10_000;
/// Characters of the arguments of one use.
const MOST_ARGUMENTS: usize = 2_000;

/// A rule with parameters.
#[derive(Debug, Clone)]
pub(super) struct Template {
    pub(super) rule: Definition,
    pub(super) parameters: Vec<String>,
}

/// Replaces every use of a template by a rule, which is added.
pub(super) fn expand(
    text: &str,
    rules: &mut Vec<Definition>,
    ignore: &mut [Ast],
    templates: &[Template],
) -> Result<()> {
    let mut by_name: FxHashMap<&str, &Template> = FxHashMap::default();
    for t in templates {
        let twice = by_name.insert(&t.rule.name, t).is_some();
        if twice || rules.iter().any(|r| r.name == t.rule.name) {
            let why = format!("rule {} is defined twice", t.rule.name);
            return Err(located(text, t.rule.at, why));
        }
    }
    let mut made: FxHashSet<String> = FxHashSet::default();
    let mut new: Vec<Definition> = Vec::new();
    for ast in rules.iter_mut().map(|r| &mut r.body).chain(ignore) {
        replace(text, ast, &by_name, &mut made, &mut new)?;
    }
    while let Some(mut rule) = new.pop() {
        replace(text, &mut rule.body, &by_name, &mut made, &mut new)?;
        rules.push(rule);
    }
    Ok(())
}

/// The uses in one expression, arguments first.
fn replace(
    text: &str,
    ast: &mut Ast,
    templates: &FxHashMap<&str, &Template>,
    made: &mut FxHashSet<String>,
    new: &mut Vec<Definition>,
) -> Result<()> {
    for part in ast.parts_mut() {
        replace(text, part, templates, made, new)?;
    }
    if let Ast::Name(name, at) = ast
        && templates.contains_key(name.as_str())
    {
        return Err(located(text, *at, format!("template {name} is used without arguments")));
    }
    let Ast::Call(name, arguments, at) = ast else { return Ok(()) };
    let Some(template) = templates.get(name.as_str()) else {
        return Err(located(text, *at, format!("template {name} is not defined")));
    };
    if arguments.len() != template.parameters.len() {
        let (has, wants) = (arguments.len(), template.parameters.len());
        return Err(located(text, *at, format!("{name} takes {wants} arguments, not {has}")));
    }
    // Where a name stands is no part of what it means.
    let key = format!("{name}{{{}}}", arguments.iter().map(shown).collect::<Vec<_>>().join(", "));
    if key.len() > MOST_ARGUMENTS {
        let (n, most) = (key.len() as u64, MOST_ARGUMENTS as u64);
        return Err(Error::limit("arguments of a template", n, most));
    }
    if made.insert(key.clone()) {
        if made.len() > MOST {
            return Err(Error::limit("rules made by templates", made.len() as u64, MOST as u64));
        }
        let mut rule = template.rule.clone();
        substitute(&mut rule.body, &template.parameters, arguments);
        rule.name.clone_from(&key);
        new.push(rule);
    }
    *ast = Ast::Name(key, *at);
    Ok(())
}

/// Parameters give way to arguments.
fn substitute(ast: &mut Ast, parameters: &[String], arguments: &[Ast]) {
    if let Ast::Name(name, _) = ast {
        if let Some(i) = parameters.iter().position(|p| p == name) {
            *ast = arguments[i].clone();
        }
        return;
    }
    for part in ast.parts_mut() {
        substitute(part, parameters, arguments);
    }
}

/// An argument without the places of its names.
fn shown(ast: &Ast) -> String {
    let list = |parts: &[Ast]| parts.iter().map(shown).collect::<Vec<_>>().join(",");
    match ast {
        Ast::Name(name, _) | Ast::Special(name, _) => name.clone(),
        Ast::Seq(parts) => format!("({})", list(parts)),
        Ast::Alt(parts) => format!("({})", parts.iter().map(shown).collect::<Vec<_>>().join("|")),
        Ast::Repeat(a, min, max) => format!("{}~{min}..{max:?}", shown(a)),
        Ast::Not(a) => format!("~{}", shown(a)),
        Ast::And(a, b) => format!("({}&{})", shown(a), shown(b)),
        Ast::Minus(a, b) => format!("({}-{})", shown(a), shown(b)),
        other => format!("{other:?}"),
    }
}
