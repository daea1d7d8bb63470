//! Values that are listed, and what patterns and formats ask of strings.

use super::super::cells::{ArrCell, Cells, Group, KeyLang, NumCell, ObjCell, StrCell, scalar};
use super::super::error::Problem;
use super::super::json::{JId, Json};
use super::super::keywords::{Loc, Rule};
use super::super::nodes::{Atom, Language, Nodes};
use super::{Algebra, Asked, Formats};
use crate::error::Error;
use std::collections::BTreeSet;
use std::sync::Arc;

impl Algebra {
    /// What a pattern or format asks of a string.
    pub(crate) fn language(&mut self, at: Loc, rule: &Rule) -> Result<Asked, Problem> {
        match rule {
            Rule::Pattern(p) => match self.check_pattern(at, "pattern", p) {
                Ok(()) => {
                    Ok(Asked::Language(self.nodes.language(Language::Pattern(Arc::clone(p)))))
                }
                Err(Problem::Unsupported { path, keyword, reason, .. }) if self.relax => {
                    let entry = (path, keyword, reason);
                    if !self.relaxed.contains(&entry) {
                        self.relaxed.push(entry);
                    }
                    Ok(Asked::Relaxed)
                }
                Err(e) => Err(e),
            },
            Rule::Format(name) => {
                let wanted = match &self.formats {
                    Formats::Assert => true,
                    Formats::Annotate => false,
                    Formats::Only(names) => names.contains(&**name),
                };
                if !wanted {
                    return Ok(Asked::Nothing);
                }
                if super::super::strings::knows_format(name) {
                    let language = Language::Format(Arc::clone(name));
                    return Ok(Asked::Language(self.nodes.language(language)));
                }
                if matches!(self.formats, Formats::Only(_)) {
                    let hint = "leave it out of formats, or write a pattern";
                    let why = format!("{name:?}, which is no known format,");
                    return Err(Problem::unsupported(&self.docs, at, "format", &why, hint));
                }
                self.unknown_formats.insert(Arc::clone(name));
                Ok(Asked::Nothing)
            }
            _ => Ok(Asked::Nothing),
        }
    }

    pub(crate) fn check_pattern(
        &mut self,
        at: Loc,
        keyword: &str,
        pattern: &Arc<str>,
    ) -> Result<(), Problem> {
        if self.checked.contains(pattern) {
            return Ok(());
        }
        super::super::strings::check_pattern(pattern).map_err(|e| match e {
            Error::InvalidGrammar { why, offset, .. } => Problem::invalid(
                &self.docs,
                at,
                keyword,
                &format!("the pattern {pattern:?}, at byte {offset}: {why}"),
            ),
            Error::UnsupportedPattern { feature, hint, .. } => {
                Problem::unsupported(&self.docs, at, keyword, &feature, &hint)
            }
            other => Problem::Other(other),
        })?;
        self.checked.insert(Arc::clone(pattern));
        Ok(())
    }

    /// Exactly one value.
    pub(super) fn value(&mut self, value: JId) -> Cells {
        self.one_of_values(&[value])
    }

    pub(super) fn one_of_values(&mut self, values: &[JId]) -> Cells {
        let mut out = Cells::none();
        let mut numbers = BTreeSet::new();
        let mut strings: BTreeSet<Arc<str>> = BTreeSet::new();
        for &v in values {
            match self.docs.store.get(v).clone() {
                Json::Null => out.scalars |= scalar::NULL,
                Json::Bool(true) => out.scalars |= scalar::TRUE,
                Json::Bool(false) => out.scalars |= scalar::FALSE,
                Json::Number(n) => drop(numbers.insert(n)),
                Json::String(s) => drop(strings.insert(s)),
                Json::Array(items) => {
                    let n = items.len() as u64;
                    let prefix =
                        items.iter().map(|&i| self.nodes.of_atom(Atom::Value(i), false)).collect();
                    let max = Some(n);
                    let rest = Nodes::NONE;
                    out.arrays.push(ArrCell { prefix, rest, min: n, max, ..ArrCell::any() });
                }
                Json::Object(members) => {
                    let names: Box<[_]> = members
                        .iter()
                        .map(|(k, v)| (Arc::clone(k), self.nodes.of_atom(Atom::Value(*v), false)))
                        .collect();
                    let group = Group::new(names, Box::default(), Nodes::NONE);
                    out.objects.push(ObjCell {
                        groups: vec![Arc::new(group)],
                        required: members.iter().map(|m| Arc::clone(&m.0)).collect(),
                        listed: members.iter().map(|m| Arc::clone(&m.0)).collect(),
                        ..ObjCell::any()
                    });
                }
            }
        }
        if !numbers.is_empty() {
            out.numbers.push(NumCell::finite(numbers));
        }
        if !strings.is_empty() {
            out.strings.push(StrCell::finite(strings));
        }
        out
    }

    pub(super) fn none_of_values(&mut self, values: &[JId]) -> Result<Cells, Problem> {
        let mut out = Cells::all();
        let mut numbers = NumCell::any();
        let mut strings = StrCell::any();
        let mut nested = Vec::new();
        for &v in values {
            match self.docs.store.get(v) {
                Json::Null => out.scalars &= !scalar::NULL,
                Json::Bool(true) => out.scalars &= !scalar::TRUE,
                Json::Bool(false) => out.scalars &= !scalar::FALSE,
                Json::Number(n) => drop(numbers.excluded.insert(n.clone())),
                Json::String(s) => drop(strings.excluded.insert(Arc::clone(s))),
                Json::Array(_) | Json::Object(_) => nested.push(v),
            }
        }
        out.numbers = vec![numbers];
        out.strings = vec![strings];
        for v in nested {
            let cells = self.not_value(v)?;
            out = self.meet(&out, &cells)?;
        }
        Ok(out)
    }

    /// Every other value.
    pub(super) fn not_value(&mut self, value: JId) -> Result<Cells, Problem> {
        match self.docs.store.get(value).clone() {
            Json::Array(items) => {
                let n = items.len() as u64;
                let mut out = Vec::new();
                if let Some(less) = n.checked_sub(1) {
                    out.push(ArrCell { max: Some(less), ..ArrCell::any() });
                }
                out.push(ArrCell { min: n + 1, ..ArrCell::any() });
                for (i, &item) in items.iter().enumerate() {
                    let mut prefix = vec![Nodes::ANY; i];
                    prefix.push(self.nodes.of_atom(Atom::Value(item), true));
                    out.push(ArrCell { prefix, min: n, max: Some(n), ..ArrCell::any() });
                }
                Ok(Cells::arrays(out))
            }
            Json::Object(members) => {
                let mut out = Vec::new();
                for (name, value) in &members {
                    let name = KeyLang::Name(Arc::clone(name));
                    out.push(ObjCell::other(name.clone(), Nodes::NONE));
                    let wrong = self.nodes.of_atom(Atom::Value(*value), true);
                    out.push(ObjCell {
                        required: members.iter().map(|m| Arc::clone(&m.0)).collect(),
                        listed: members.iter().map(|m| Arc::clone(&m.0)).collect(),
                        ..ObjCell::other(name, wrong)
                    });
                }
                out.push(ObjCell { min: members.len() as u64 + 1, ..ObjCell::any() });
                Ok(Cells::objects(out))
            }
            _ => self.none_of_values(&[value]),
        }
    }
}
