//! Keywords as constructions: the cells of one rule.

use super::super::cells::{
    ArrCell, Cells, Counted, Group, KeyLang, NumCell, ObjCell, StrCell, Unique,
};
use super::super::error::Problem;
use super::super::keywords::{Loc, Rule};
use super::super::nodes::{EnvId, Language, NodeId, Nodes};
use super::{Algebra, Asked, Mode};
use std::sync::Arc;

impl Algebra {
    pub(super) fn rule(
        &mut self,
        at: Loc,
        env: EnvId,
        rule: &Rule,
        mode: Mode,
    ) -> Result<Cells, Problem> {
        let keeps = mode != Mode::Plain;
        Ok(match rule {
            Rule::Kinds(bits) => Cells::of_kinds(*bits),
            Rule::PlainIntegers => Cells::numbers(vec![NumCell { plain: true, ..NumCell::any() }]),
            Rule::OneOfValues(values) => self.one_of_values(values),
            Rule::Bound { lower, at, open } => {
                let end = Some((at.clone(), *open));
                let mut cell = NumCell::any();
                *(if *lower { &mut cell.low } else { &mut cell.high }) = end;
                Cells::numbers(vec![cell])
            }
            Rule::MultipleOf(of) => {
                Cells::numbers(vec![NumCell { divisors: [of.clone()].into(), ..NumCell::any() }])
            }
            Rule::Length(min, max) => {
                Cells::strings(vec![StrCell { min: *min, max: *max, ..StrCell::any() }])
            }
            Rule::Pattern(_) | Rule::Format(_) => match self.language(at, rule)? {
                Asked::Language(l) => Cells::strings(vec![StrCell {
                    languages: [(l, true)].into(),
                    ..StrCell::any()
                }]),
                Asked::Nothing | Asked::Relaxed => Cells::all(),
            },
            Rule::Items { prefix, rest } => {
                let nodes = self.all_schemas(prefix, env)?;
                let tail = match rest {
                    Some(rest) => self.schema(*rest, env)?,
                    None => Nodes::ANY,
                };
                let mut cell = ArrCell { prefix: nodes, rest: tail, ..ArrCell::any() };
                if keeps {
                    cell.evaluated.prefix = prefix.len();
                    cell.evaluated.all = rest.is_some();
                }
                // Normalises places that cannot be filled.
                let all = Cells { arrays: vec![ArrCell::any()], ..Cells::none() };
                let mut met = all.meet(&Cells::arrays(vec![cell]), &mut self.nodes);
                met.join(Cells::arrays(Vec::new()));
                met
            }
            Rule::Count(min, max) => {
                Cells::arrays(vec![ArrCell { min: *min, max: *max, ..ArrCell::any() }])
            }
            Rule::Contains { schema, min, max, evaluates } => {
                let node = self.schema(*schema, env)?;
                let mut cells = self.between(node, *min, *max);
                if keeps && *evaluates {
                    for cell in &mut cells {
                        cell.evaluated.matching.insert(node);
                    }
                }
                Cells::arrays(cells)
            }
            Rule::Unique => {
                Cells::arrays(vec![ArrCell { unique: Unique::Distinct, ..ArrCell::any() }])
            }
            Rule::Members { names, patterns, additional } => {
                let group = self.group(at, env, names, patterns, *additional)?;
                let mut cell = ObjCell { groups: vec![Arc::clone(&group)], ..ObjCell::any() };
                if keeps {
                    if additional.is_some() {
                        cell.evaluated.insert(KeyLang::All);
                    } else {
                        let names = names.iter().map(|n| KeyLang::Name(Arc::clone(&n.0)));
                        let patterns = group.patterns.iter().map(|p| KeyLang::Pattern(p.0));
                        cell.evaluated.extend(names.chain(patterns));
                    }
                }
                Cells::objects(vec![cell])
            }
            Rule::PropertyNames(schema) => {
                let node = self.schema(*schema, env)?;
                let wrong = self.nodes.complement(node);
                Cells::objects(vec![ObjCell::other(KeyLang::Strings(wrong), Nodes::NONE)])
            }
            Rule::Required(names) => Cells::objects(vec![ObjCell {
                required: names.iter().cloned().collect(),
                listed: names.to_vec(),
                ..ObjCell::any()
            }]),
            Rule::Size(min, max) => {
                Cells::objects(vec![ObjCell { min: *min, max: *max, ..ObjCell::any() }])
            }
            Rule::DependentRequired(name, needs) => {
                let absent = ObjCell::other(KeyLang::Name(Arc::clone(name)), Nodes::NONE);
                let mut present = ObjCell::with(name);
                for n in needs.iter() {
                    if present.required.insert(Arc::clone(n)) {
                        present.listed.push(Arc::clone(n));
                    }
                }
                Cells::objects(vec![absent, present])
            }
            Rule::DependentSchema(name, schema) => {
                let absent = ObjCell::other(KeyLang::Name(Arc::clone(name)), Nodes::NONE);
                let mut out = Cells::objects(vec![absent]);
                let inside = self.sub(*schema, env, false, mode)?;
                let with = Cells { objects: vec![ObjCell::with(name)], ..Cells::none() };
                out.join(self.meet(&with, &inside)?);
                out
            }
            Rule::AllOf(list) => {
                let mut out = Cells::all();
                for &s in list.iter() {
                    let cells = self.sub(s, env, false, mode)?;
                    out = self.meet(&out, &cells)?;
                }
                out
            }
            Rule::AnyOf(list) => self.any_of(list, env, mode)?,
            Rule::OneOf(list) => self.one_of(list, env, mode)?,
            Rule::Not(schema) => (*self.sub(*schema, env, true, Mode::Plain)?).clone(),
            Rule::If { test, then, otherwise } => {
                if then.is_none() && otherwise.is_none() && !keeps {
                    return Ok(Cells::all());
                }
                let mut yes = (*self.sub(*test, env, false, mode)?).clone();
                if let Some(then) = then {
                    let then = self.sub(*then, env, false, mode)?;
                    yes = self.meet(&yes, &then)?;
                }
                let mut no = (*self.sub(*test, env, true, Mode::Plain)?).clone();
                if let Some(otherwise) = otherwise {
                    let otherwise = self.sub(*otherwise, env, false, mode)?;
                    no = self.meet(&no, &otherwise)?;
                }
                yes.join(no);
                yes
            }
            Rule::Ref(to) => (*self.sub(*to, env, false, mode)?).clone(),
            Rule::DynamicRef(to, name) => {
                let to = self.dynamic(*to, name, env);
                (*self.sub(to, env, false, mode)?).clone()
            }
            Rule::UnevaluatedItems(_) | Rule::UnevaluatedProperties(_) => Cells::all(),
        })
    }

    pub(super) fn all_schemas(&mut self, list: &[Loc], env: EnvId) -> Result<Vec<NodeId>, Problem> {
        list.iter().map(|&s| self.schema(s, env)).collect()
    }

    pub(super) fn group(
        &mut self,
        at: Loc,
        env: EnvId,
        names: &[(Arc<str>, Loc)],
        patterns: &[(Arc<str>, Loc)],
        additional: Option<Loc>,
    ) -> Result<Arc<Group>, Problem> {
        let names: Box<[(Arc<str>, NodeId)]> = names
            .iter()
            .map(|(n, s)| Ok((Arc::clone(n), self.schema(*s, env)?)))
            .collect::<Result<_, Problem>>()?;
        let patterns = patterns
            .iter()
            .map(|(p, s)| {
                self.check_pattern(at, "patternProperties", p)?;
                let language = self.nodes.language(Language::Pattern(Arc::clone(p)));
                Ok((language, self.schema(*s, env)?))
            })
            .collect::<Result<_, Problem>>()?;
        let rest = match additional {
            Some(s) => self.schema(s, env)?,
            None if self.closed && !names.is_empty() => Nodes::NONE,
            None => Nodes::ANY,
        };
        Ok(Arc::new(Group::new(names, patterns, rest)))
    }

    /// Arrays with so many items in a node.
    pub(super) fn between(&mut self, node: NodeId, min: u64, max: Option<u64>) -> Vec<ArrCell> {
        if max.is_some_and(|m| m < min) {
            return Vec::new();
        }
        match (node, min, max) {
            (_, 0, None) | (Nodes::NONE, 0, _) => vec![ArrCell::any()],
            (Nodes::NONE, ..) => Vec::new(),
            (Nodes::ANY, min, max) => vec![ArrCell { min, max, ..ArrCell::any() }],
            (node, 0, Some(0)) => {
                let rest = self.nodes.complement(node);
                vec![ArrCell { rest, ..ArrCell::any() }]
            }
            (node, min, max) => {
                let counted = vec![Counted { what: 0, node, min, max }];
                vec![ArrCell { min, counted, ..ArrCell::any() }]
            }
        }
    }
}
