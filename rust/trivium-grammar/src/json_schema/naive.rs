//! Validation by definition: the slow twin of the algebra.
//!
//! Follows the standard keyword by keyword over a parsed value, shares nothing with the algebra but
//! the readers of JSON, of keywords and of patterns. Evaluated members and items are tracked as the
//! standard's annotations.

use super::check::inner;
use super::documents::Documents;
use super::error::Problem;
use super::expand::Formats;
use super::json::{JId, Json, Store};
use super::keywords::{self, Loc, Rule, kind};
use super::nodes::Language;
use super::options::Options;
use super::strings;
use crate::automata::expr::{Arena, ExprId};
use crate::error::{Error, Result};
use crate::limits::CompileLimits;
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Deepest chain of schemas.
const MAX_DEPTH: usize = 400;

/// What a schema looked at of one value.
#[derive(Debug, Clone, Default)]
struct Seen {
    keys: BTreeSet<Arc<str>>,
    items: BTreeSet<usize>,
}

/// A schema that values can be checked against.
#[derive(Debug)]
pub struct Validator {
    docs: Documents,
    formats: Formats,
    arena: Arena,
    languages: FxHashMap<Language, ExprId>,
    depth: usize,
}

type Env = BTreeMap<Arc<str>, Loc>;

impl Validator {
    /// Reads a schema.
    ///
    /// # Errors
    /// `InvalidSchema` if it is none.
    pub fn new(schema: &str, options: &Options) -> Result<Self> {
        let docs = Documents::new(schema, options.remotes.clone())?;
        Ok(Self {
            docs,
            formats: options.formats.clone(),
            arena: Arena::new(CompileLimits::default().max_bytes),
            languages: FxHashMap::default(),
            depth: 0,
        })
    }

    /// Reads every schema that can be reached and compiles its patterns and formats, so that what
    /// cannot be checked is found before any value.
    ///
    /// # Errors
    /// As compiling a schema.
    pub(super) fn prepare(&mut self) -> Result<()> {
        let mut known = BTreeSet::new();
        let mut todo = vec![self.docs.root];
        while let Some(at) = todo.pop() {
            if !known.insert(at) {
                continue;
            }
            let Some(rules) = keywords::read(&mut self.docs, at)? else { continue };
            for rule in rules.iter() {
                match rule {
                    Rule::Pattern(p) => {
                        self.matches(Language::Pattern(Arc::clone(p)), "")?;
                    }
                    Rule::Members { patterns, .. } => {
                        for (p, _) in patterns.iter() {
                            self.matches(Language::Pattern(Arc::clone(p)), "")?;
                        }
                    }
                    _ => {}
                }
                todo.extend(inner(rule));
                todo.extend(rule.in_place());
            }
        }
        Ok(())
    }

    /// Whether a JSON text is a value of the schema.
    ///
    /// # Errors
    /// `InvalidSchema` for a text that is no JSON and for broken schemas.
    pub fn is_valid(&mut self, value: &str) -> Result<bool> {
        let mut store = Store::default();
        let root = store.read(value).map_err(|m| Problem::malformed("the value", &m))?;
        let schema = self.docs.root;
        Ok(self.schema(schema, &store, root, &Env::new())?.is_some())
    }

    /// What was evaluated, or `None` if the value is invalid.
    fn schema(
        &mut self,
        at: Loc,
        store: &Store,
        value: JId,
        env: &Env,
    ) -> std::result::Result<Option<Seen>, Problem> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            self.depth = 0;
            let limit = MAX_DEPTH as u64;
            return Err(Error::limit("nesting of schemas", limit + 1, limit).into());
        }
        let mut inner = self.docs.resource(at).dynamic.clone();
        inner.extend(env.iter().map(|(k, v)| (Arc::clone(k), *v)));
        let out = match keywords::read(&mut self.docs, at)? {
            None => Ok(None),
            Some(rules) => self.rules(&rules, store, value, &inner),
        };
        self.depth = self.depth.saturating_sub(1);
        out
    }

    fn rules(
        &mut self,
        rules: &[Rule],
        store: &Store,
        value: JId,
        env: &Env,
    ) -> std::result::Result<Option<Seen>, Problem> {
        let mut seen = Seen::default();
        // `unevaluated*` come last, as the reader of keywords lists them.
        for rule in rules {
            match self.rule(rule, store, value, env, &seen)? {
                None => return Ok(None),
                Some(more) => {
                    seen.keys.extend(more.keys);
                    seen.items.extend(more.items);
                }
            }
        }
        Ok(Some(seen))
    }

    fn rule(
        &mut self,
        rule: &Rule,
        store: &Store,
        value: JId,
        env: &Env,
        before: &Seen,
    ) -> std::result::Result<Option<Seen>, Problem> {
        let mut seen = Seen::default();
        let here = store.get(value).clone();
        let count = |n: usize, min: u64, max: Option<u64>| {
            n as u64 >= min && max.is_none_or(|m| n as u64 <= m)
        };
        let ok = match (rule, &here) {
            (Rule::Kinds(bits), v) => {
                let bit = match v {
                    Json::Null => kind::NULL,
                    Json::Bool(_) => kind::BOOL,
                    Json::Number(n) if n.is_integer() => kind::INTEGER,
                    Json::Number(_) => kind::FRACTION,
                    Json::String(_) => kind::STRING,
                    Json::Array(_) => kind::ARRAY,
                    Json::Object(_) => kind::OBJECT,
                };
                bits & bit != 0
            }
            (Rule::OneOfValues(values), _) => {
                let text = store.canonical(value);
                values.iter().any(|&v| self.docs.store.canonical(v) == text)
            }
            (Rule::Bound { lower, at, open }, Json::Number(n)) => {
                (n == at && !open) || if *lower { n > at } else { n < at }
            }
            (Rule::MultipleOf(of), Json::Number(n)) => n.is_multiple_of(of),
            (Rule::Length(min, max), Json::String(s)) => count(s.chars().count(), *min, *max),
            (Rule::Pattern(p), Json::String(s)) => {
                self.matches(Language::Pattern(Arc::clone(p)), s)?
            }
            (Rule::Format(name), Json::String(s)) => {
                let asserted = match &self.formats {
                    Formats::Assert => strings::knows_format(name),
                    Formats::Annotate => false,
                    Formats::Only(names) => names.contains(&**name),
                };
                !asserted || self.matches(Language::Format(Arc::clone(name)), s)?
            }
            (Rule::Items { prefix, rest }, Json::Array(items)) => {
                for (i, &item) in items.iter().enumerate() {
                    let Some(at) = prefix.get(i).copied().or(*rest) else { continue };
                    if self.schema(at, store, item, env)?.is_none() {
                        return Ok(None);
                    }
                    seen.items.insert(i);
                }
                true
            }
            (Rule::Count(min, max), Json::Array(items)) => count(items.len(), *min, *max),
            (Rule::Contains { schema, min, max, evaluates }, Json::Array(items)) => {
                let mut n = 0;
                for (i, &item) in items.iter().enumerate() {
                    if self.schema(*schema, store, item, env)?.is_some() {
                        n += 1;
                        if *evaluates {
                            seen.items.insert(i);
                        }
                    }
                }
                count(n, *min, *max)
            }
            (Rule::Unique, Json::Array(items)) => {
                let texts: BTreeSet<String> = items.iter().map(|&i| store.canonical(i)).collect();
                texts.len() == items.len()
            }
            (Rule::Members { names, patterns, additional }, Json::Object(members)) => {
                for (key, v) in members {
                    let mut at: Vec<Loc> =
                        names.iter().filter(|n| n.0 == *key).map(|n| n.1).collect();
                    for (p, schema) in patterns.iter() {
                        if self.matches(Language::Pattern(Arc::clone(p)), key)? {
                            at.push(*schema);
                        }
                    }
                    if at.is_empty() {
                        at.extend(*additional);
                    }
                    for schema in at {
                        if self.schema(schema, store, *v, env)?.is_none() {
                            return Ok(None);
                        }
                        seen.keys.insert(Arc::clone(key));
                    }
                }
                true
            }
            (Rule::PropertyNames(schema), Json::Object(members)) => {
                for (key, _) in members {
                    let mut text = String::new();
                    super::json::quote(key, &mut text);
                    let mut inner = Store::default();
                    let name = inner.read(&text).map_err(|m| Problem::malformed("a key", &m))?;
                    if self.schema(*schema, &inner, name, env)?.is_none() {
                        return Ok(None);
                    }
                }
                true
            }
            (Rule::Required(names), Json::Object(_)) => {
                names.iter().all(|n| store.member(value, n).is_some())
            }
            (Rule::Size(min, max), Json::Object(members)) => count(members.len(), *min, *max),
            (Rule::DependentRequired(name, needs), Json::Object(_)) => {
                store.member(value, name).is_none()
                    || needs.iter().all(|n| store.member(value, n).is_some())
            }
            (Rule::DependentSchema(name, schema), Json::Object(_)) => {
                return if store.member(value, name).is_none() {
                    Ok(Some(seen))
                } else {
                    self.schema(*schema, store, value, env)
                };
            }
            (Rule::UnevaluatedItems(schema), Json::Array(items)) => {
                for (i, &item) in items.iter().enumerate() {
                    if !before.items.contains(&i)
                        && self.schema(*schema, store, item, env)?.is_none()
                    {
                        return Ok(None);
                    }
                    seen.items.insert(i);
                }
                true
            }
            (Rule::UnevaluatedProperties(schema), Json::Object(members)) => {
                for (key, v) in members {
                    if !before.keys.contains(key) && self.schema(*schema, store, *v, env)?.is_none()
                    {
                        return Ok(None);
                    }
                    seen.keys.insert(Arc::clone(key));
                }
                true
            }
            (
                Rule::AllOf(_)
                | Rule::AnyOf(_)
                | Rule::OneOf(_)
                | Rule::Not(_)
                | Rule::If { .. }
                | Rule::Ref(_)
                | Rule::DynamicRef(..),
                _,
            ) => return self.applicator(rule, store, value, env),
            _ => true,
        };
        Ok(ok.then_some(seen))
    }

    fn applicator(
        &mut self,
        rule: &Rule,
        store: &Store,
        value: JId,
        env: &Env,
    ) -> std::result::Result<Option<Seen>, Problem> {
        let list = match rule {
            Rule::AllOf(l) | Rule::AnyOf(l) | Rule::OneOf(l) => l.to_vec(),
            Rule::Ref(to) => return self.schema(*to, store, value, env),
            Rule::DynamicRef(to, name) => {
                let to = env.get(name).copied().unwrap_or(*to);
                return self.schema(to, store, value, env);
            }
            Rule::Not(schema) => {
                let inside = self.schema(*schema, store, value, env)?.is_some();
                return Ok((!inside).then(Seen::default));
            }
            Rule::If { test, then, otherwise } => {
                let test = self.schema(*test, store, value, env)?;
                let branch = if test.is_some() { then } else { otherwise };
                let mut seen = test.unwrap_or_default();
                if let Some(branch) = branch {
                    match self.schema(*branch, store, value, env)? {
                        None => return Ok(None),
                        Some(more) => {
                            seen.keys.extend(more.keys);
                            seen.items.extend(more.items);
                        }
                    }
                }
                return Ok(Some(seen));
            }
            _ => Vec::new(),
        };
        let mut seen = Seen::default();
        let mut valid = 0;
        for &s in &list {
            if let Some(more) = self.schema(s, store, value, env)? {
                valid += 1;
                seen.keys.extend(more.keys);
                seen.items.extend(more.items);
            }
        }
        let ok = match rule {
            Rule::AllOf(_) => valid == list.len(),
            Rule::AnyOf(_) => valid > 0,
            _ => valid == 1,
        };
        Ok(ok.then_some(seen))
    }

    fn matches(&mut self, language: Language, text: &str) -> std::result::Result<bool, Problem> {
        let e = if let Some(&e) = self.languages.get(&language) {
            e
        } else {
            let e = strings::language(&mut self.arena, &language)?;
            self.languages.insert(language, e);
            e
        };
        self.arena.refuel();
        Ok(self.arena.matches(e, text)?)
    }
}
