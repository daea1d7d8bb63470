//! Complements of keywords: the cells of what breaks one rule.

use super::super::cells::{ArrCell, Cells, Counted, KeyLang, NumCell, ObjCell, StrCell, Unique};
use super::super::error::Problem;
use super::super::keywords::{Loc, Rule, kind};
use super::super::nodes::{EnvId, NodeId, Nodes};
use super::{Algebra, Asked, Mode};
use std::sync::Arc;

impl Algebra {
    pub(super) fn not_rule(&mut self, at: Loc, env: EnvId, rule: &Rule) -> Result<Cells, Problem> {
        // What is outside holds only values of the kind that a rule speaks of.
        let numbers = |cells| Cells { numbers: cells, ..Cells::none() };
        let strings = |cells| Cells { strings: cells, ..Cells::none() };
        let arrays = |cells| Cells { arrays: cells, ..Cells::none() };
        let objects = |cells| Cells { objects: cells, ..Cells::none() };
        Ok(match rule {
            Rule::Kinds(bits) => Cells::of_kinds(kind::ALL & !*bits),
            Rule::OneOfValues(values) => self.none_of_values(values)?,
            Rule::Bound { lower, at, open } => {
                let end = Some((at.clone(), !*open));
                let mut cell = NumCell::any();
                *(if *lower { &mut cell.high } else { &mut cell.low }) = end;
                numbers(vec![cell])
            }
            Rule::MultipleOf(of) => {
                numbers(vec![NumCell { non_divisors: [of.clone()].into(), ..NumCell::any() }])
            }
            Rule::Length(min, max) => {
                let short = min.checked_sub(1).map(|m| StrCell { max: Some(m), ..StrCell::any() });
                let long =
                    max.and_then(|m| m.checked_add(1)).map(|min| StrCell { min, ..StrCell::any() });
                strings(short.into_iter().chain(long).collect())
            }
            Rule::Pattern(_) | Rule::Format(_) => match self.language(at, rule)? {
                Asked::Language(l) => {
                    strings(vec![StrCell { languages: [(l, false)].into(), ..StrCell::any() }])
                }
                Asked::Nothing => Cells::none(),
                // What is dropped must not take strings away here either.
                Asked::Relaxed => strings(vec![StrCell::any()]),
            },
            Rule::Items { prefix, rest } => {
                let mut out = Vec::new();
                for (i, &schema) in prefix.iter().enumerate() {
                    let node = self.schema(schema, env)?;
                    let wrong = self.nodes.complement(node);
                    if wrong != Nodes::NONE {
                        let mut places = vec![Nodes::ANY; i];
                        places.push(wrong);
                        let min = i as u64 + 1;
                        out.push(ArrCell { prefix: places, min, ..ArrCell::any() });
                    }
                }
                if let Some(rest) = rest {
                    let node = self.schema(*rest, env)?;
                    let wrong = self.nodes.complement(node);
                    out.extend(some_item(prefix.len(), wrong));
                }
                arrays(out)
            }
            Rule::Count(min, max) => {
                let few = min.checked_sub(1).map(|m| ArrCell { max: Some(m), ..ArrCell::any() });
                let many =
                    max.and_then(|m| m.checked_add(1)).map(|min| ArrCell { min, ..ArrCell::any() });
                arrays(few.into_iter().chain(many).collect())
            }
            Rule::Contains { schema, min, max, .. } => {
                let node = self.schema(*schema, env)?;
                let mut out = Vec::new();
                if let Some(m) = min.checked_sub(1) {
                    out.extend(self.between(node, 0, Some(m)));
                }
                if let Some(m) = max.and_then(|m| m.checked_add(1)) {
                    out.extend(self.between(node, m, None));
                }
                arrays(out)
            }
            Rule::Unique => {
                arrays(vec![ArrCell { unique: Unique::SomeEqual, min: 2, ..ArrCell::any() }])
            }
            Rule::Members { names, patterns, additional } => {
                let group = self.group(at, env, names, patterns, *additional)?;
                let mut out = Vec::new();
                for (name, node) in &group.names {
                    let wrong = self.nodes.complement(*node);
                    if wrong != Nodes::NONE {
                        let here = ObjCell::other(KeyLang::Name(Arc::clone(name)), wrong);
                        out.push(ObjCell {
                            required: [Arc::clone(name)].into(),
                            listed: vec![Arc::clone(name)],
                            ..here
                        });
                    }
                }
                for (pattern, node) in &group.patterns {
                    let wrong = self.nodes.complement(*node);
                    if wrong != Nodes::NONE {
                        out.push(some_member(KeyLang::Pattern(*pattern), wrong));
                    }
                }
                let wrong = self.nodes.complement(group.rest);
                if wrong != Nodes::NONE {
                    let keys: Arc<[KeyLang]> = group
                        .names
                        .iter()
                        .map(|n| KeyLang::Name(Arc::clone(&n.0)))
                        .chain(group.patterns.iter().map(|p| KeyLang::Pattern(p.0)))
                        .collect();
                    let keys = if keys.is_empty() { KeyLang::All } else { KeyLang::NotAny(keys) };
                    out.push(some_member(keys, wrong));
                }
                objects(out)
            }
            Rule::PropertyNames(schema) => {
                let node = self.schema(*schema, env)?;
                let wrong = self.nodes.complement(node);
                objects(vec![some_member(KeyLang::Strings(wrong), Nodes::ANY)])
            }
            Rule::Required(names) => objects(
                names
                    .iter()
                    .map(|n| ObjCell::other(KeyLang::Name(Arc::clone(n)), Nodes::NONE))
                    .collect(),
            ),
            Rule::Size(min, max) => {
                let few = min.checked_sub(1).map(|m| ObjCell { max: Some(m), ..ObjCell::any() });
                let many =
                    max.and_then(|m| m.checked_add(1)).map(|min| ObjCell { min, ..ObjCell::any() });
                objects(few.into_iter().chain(many).collect())
            }
            Rule::DependentRequired(name, needs) => objects(
                needs
                    .iter()
                    .filter(|n| *n != name)
                    .map(|n| {
                        let missing = ObjCell::other(KeyLang::Name(Arc::clone(n)), Nodes::NONE);
                        let with = ObjCell::with(name);
                        ObjCell { others: missing.others, ..with }
                    })
                    .collect(),
            ),
            Rule::DependentSchema(name, schema) => {
                let outside = self.sub(*schema, env, true, Mode::Plain)?;
                self.meet(&objects(vec![ObjCell::with(name)]), &outside)?
            }
            Rule::AllOf(list) => {
                let mut out = Cells::none();
                for &s in list.iter() {
                    let cells = self.sub(s, env, true, Mode::Plain)?;
                    out.join((*cells).clone());
                }
                out
            }
            Rule::AnyOf(list) => self.none_of(list, env)?,
            Rule::OneOf(list) => {
                let mut out = self.none_of(list, env)?;
                for (i, &a) in list.iter().enumerate() {
                    for &b in &list[i + 1..] {
                        let a = self.sub(a, env, false, Mode::Plain)?;
                        let b = self.sub(b, env, false, Mode::Plain)?;
                        out.join(self.meet(&a, &b)?);
                        self.check(&out)?;
                    }
                }
                out
            }
            Rule::Not(schema) => (*self.sub(*schema, env, false, Mode::Plain)?).clone(),
            Rule::If { test, then, otherwise } => {
                let mut out = Cells::none();
                for (part, negative) in [(then, false), (otherwise, true)] {
                    if let Some(part) = part {
                        let test = self.sub(*test, env, negative, Mode::Plain)?;
                        let wrong = self.sub(*part, env, true, Mode::Plain)?;
                        out.join(self.meet(&test, &wrong)?);
                    }
                }
                out
            }
            Rule::Ref(to) => (*self.sub(*to, env, true, Mode::Plain)?).clone(),
            Rule::DynamicRef(to, name) => {
                let to = self.dynamic(*to, name, env);
                (*self.sub(to, env, true, Mode::Plain)?).clone()
            }
            // Integers written with a fraction are not given back by a complement; `unevaluated*` is
            // the caller's.
            Rule::PlainIntegers | Rule::UnevaluatedItems(_) | Rule::UnevaluatedProperties(_) => {
                Cells::none()
            }
        })
    }
}

/// Arrays with an item in a node from a place on.
pub(super) fn some_item(from: usize, node: NodeId) -> Vec<ArrCell> {
    match node {
        Nodes::NONE => Vec::new(),
        Nodes::ANY => vec![ArrCell { min: from as u64 + 1, ..ArrCell::any() }],
        node => vec![ArrCell {
            min: from as u64 + 1,
            counted: vec![Counted { what: from, node, min: 1, max: None }],
            ..ArrCell::any()
        }],
    }
}

/// Objects with a member whose key lies in `keys` and whose value lies in a node.
pub(super) fn some_member(keys: KeyLang, node: NodeId) -> ObjCell {
    let min = 1;
    match (&keys, node) {
        (KeyLang::All, Nodes::ANY) => ObjCell { min, ..ObjCell::any() },
        _ => ObjCell {
            min,
            counted: vec![Counted { what: keys, node, min: 1, max: None }],
            ..ObjCell::any()
        },
    }
}
