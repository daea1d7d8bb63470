//! From schemas to cells: every keyword is a construction in the algebra, and so is its complement.
//!
//! ```text
//! schema  = ∩ rules                ¬schema = ∪ ¬rules
//! anyOf   = ∪ S_i                  ¬anyOf  = ∩ ¬S_i
//! oneOf   = ∪_i S_i ∩ ⋂ {¬S_j : S_j meets S_i}
//! if      = (I ∩ T) ∪ (¬I ∩ E)     ¬if     = (I ∩ ¬T) ∪ (¬I ∩ ¬E)
//! items   = every item in S        ¬items  = some item in ¬S     (a counted condition)
//! ```
//!
//! Only schemas applied to the *same* value are expanded here; those of members and items stay nodes.
//! A cycle of the former never looks at the value and is refused.
//!
//! **Unevaluated.** With `unevaluated*` in a schema its cells carry which keys and items the
//! schemas beside it looked at. Success of more branches only evaluates more, so for the schema
//! itself the subsets of successful branches need not exclude the others ([`Mode::Evaluated`]); for
//! its complement they must ([`Mode::Exact`]).

use super::cells::{
    ArrCell, Cells, Counted, EvaluatedItems, Group, KeyLang, NumCell, ObjCell, StrCell, Unique,
    scalar,
};
use super::documents::Documents;
use super::error::Problem;
use super::inhabited::Inhabited;
use super::json::{JId, Json};
use super::keywords::{self, Loc, Rule, Rules, kind};
use super::nodes::{Atom, EnvId, Language, Literal, NodeId, Nodes};
use super::strings::Strings;
use crate::error::Error;
use crate::limits::CompileLimits;
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Deepest chain of schemas applied to the same value.
const MAX_IN_PLACE: usize = 160;
/// Branches of one `anyOf` beside `unevaluated*` whose subsets are listed.
const MAX_OPEN: usize = 8;

/// What cells say of evaluated members and items.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Mode {
    /// Nothing.
    Plain,
    /// At least these are evaluated.
    Evaluated,
    /// Exactly these are evaluated.
    Exact,
}

/// What a keyword asks of a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// To lie in a language.
    Language(u32),
    /// Nothing: an annotation.
    Nothing,
    /// More than is enforced, and the user knows.
    Relaxed,
}

/// Which formats are asserted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Formats {
    /// All that are known.
    Assert,
    /// None.
    Annotate,
    /// These; an unknown name among them is refused.
    Only(BTreeSet<String>),
}

/// Expansion of nodes, with everything remembered.
#[derive(Debug)]
pub(crate) struct Algebra {
    pub(crate) docs: Documents,
    pub(crate) nodes: Nodes,
    rules: FxHashMap<Loc, Rules>,
    known: FxHashMap<(Literal, Mode), Arc<Cells>>,
    of_node: FxHashMap<NodeId, Arc<Cells>>,
    /// Schemas being expanded, outermost first.
    open: Vec<Loc>,
    pub(crate) strings: Strings,
    pub(crate) inhabited: Inhabited,
    /// How deep emptiness probes are nested.
    pub(crate) probing: usize,
    pub(crate) formats: Formats,
    pub(crate) max_cells: usize,
    /// What is not enforced because the user said so: (path, keyword, reason).
    pub(crate) relaxed: Vec<(String, String, String)>,
    pub(crate) relax: bool,
    /// `uniqueItems` rules, and arrays among the first nodes whose comparison is not planned ahead.
    pub(crate) unique_rules: usize,
    pub(crate) compared: usize,
    /// Patterns that can be compiled.
    checked: FxHashSet<Arc<str>>,
    /// Undeclared members are refused where a schema is silent.
    pub(crate) closed: bool,
    /// Formats that are annotations because nobody knows them.
    pub(crate) unknown_formats: BTreeSet<Arc<str>>,
}

impl Algebra {
    pub(crate) fn new(
        docs: Documents,
        formats: Formats,
        max_cells: usize,
        relax: bool,
        limits: &CompileLimits,
    ) -> Self {
        Self {
            docs,
            nodes: Nodes::new(),
            rules: FxHashMap::default(),
            known: FxHashMap::default(),
            of_node: FxHashMap::default(),
            open: Vec::new(),
            strings: Strings::new(limits),
            inhabited: Inhabited::default(),
            probing: 0,
            formats,
            max_cells,
            relaxed: Vec::new(),
            relax,
            unique_rules: 0,
            compared: 0,
            checked: FxHashSet::default(),
            closed: false,
            unknown_formats: BTreeSet::new(),
        }
    }

    /// The node of the whole schema.
    pub(crate) fn root(&mut self) -> Result<NodeId, Problem> {
        let root = self.docs.root;
        self.schema(root, 0)
    }

    pub(crate) fn rules(&mut self, at: Loc) -> Result<Rules, Problem> {
        if let Some(known) = self.rules.get(&at) {
            return Ok(known.clone());
        }
        crate::watch::poll()?;
        let rules = keywords::read(&mut self.docs, at)?;
        self.rules.insert(at, rules.clone());
        Ok(rules)
    }

    /// The environment inside a schema.
    fn enter(&mut self, at: Loc, env: EnvId) -> EnvId {
        if !self.docs.any_dynamic {
            return 0;
        }
        let resource = self.docs.resource_id(at) as usize;
        self.nodes.enter(env, &self.docs.resources[resource].dynamic)
    }

    /// The node of a schema. Trivial schemas, and chains of lone references, are seen through.
    pub(crate) fn schema(&mut self, at: Loc, env: EnvId) -> Result<NodeId, Problem> {
        let (mut at, mut env) = (at, env);
        for _ in 0..MAX_IN_PLACE {
            env = self.enter(at, env);
            match self.rules(at)? {
                None => return Ok(Nodes::NONE),
                Some(rules) => match rules[..] {
                    [] => return Ok(Nodes::ANY),
                    [Rule::Ref(to)] => at = to,
                    _ => break,
                },
            }
        }
        Ok(self.nodes.of_atom(Atom::Schema(at, env), false))
    }

    /// The cells of a node.
    pub(crate) fn cells(&mut self, node: NodeId) -> Result<Arc<Cells>, Problem> {
        if let Some(known) = self.of_node.get(&node) {
            return Ok(Arc::clone(known));
        }
        let literals = Arc::clone(self.nodes.literals(node));
        // A node is another value: what is open around it is no cycle.
        let outer = std::mem::take(&mut self.open);
        let cells = self.all_of(&literals);
        self.open = outer;
        let cells = cells?;
        self.of_node.insert(node, Arc::clone(&cells));
        Ok(cells)
    }

    fn all_of(&mut self, literals: &[Literal]) -> Result<Arc<Cells>, Problem> {
        let mut out: Option<Arc<Cells>> = None;
        for &literal in literals {
            let cells = self.literal(literal, Mode::Plain)?;
            out = Some(match out {
                None => cells,
                Some(so_far) => Arc::new(self.meet(&so_far, &cells)?),
            });
        }
        Ok(out.unwrap_or_else(|| Arc::new(Cells::all())))
    }

    /// Intersection within the budget.
    fn meet(&mut self, a: &Cells, b: &Cells) -> Result<Cells, Problem> {
        let products = a.numbers.len() * b.numbers.len()
            + a.strings.len() * b.strings.len()
            + a.arrays.len() * b.arrays.len()
            + a.objects.len() * b.objects.len();
        if products > self.max_cells.saturating_mul(16) {
            return Err(self.too_many());
        }
        crate::watch::poll()?;
        let out = a.meet(b, &mut self.nodes);
        self.check(&out)?;
        Ok(out)
    }

    fn check(&self, cells: &Cells) -> Result<(), Problem> {
        if cells.len() > self.max_cells { Err(self.too_many()) } else { Ok(()) }
    }

    fn too_many(&self) -> Problem {
        let at = self.open.last().copied().unwrap_or(self.docs.root);
        Problem::unsupported(
            &self.docs,
            at,
            "",
            &format!("too many combinations: more than max_cells = {}", self.max_cells),
            "raise max_cells, or write disjoint alternatives",
        )
    }

    fn literal(&mut self, literal: Literal, mode: Mode) -> Result<Arc<Cells>, Problem> {
        if let Some(known) = self.known.get(&(literal, mode)) {
            return Ok(Arc::clone(known));
        }
        let negative = literal & 1 != 0;
        let cells = match self.nodes.atom_of(literal).clone() {
            Atom::Schema(at, env) => {
                if self.open.contains(&at) {
                    let why = "a cycle of schemas applied to the same value";
                    return Err(Problem::invalid(&self.docs, at, "$ref", why));
                }
                if self.open.len() >= MAX_IN_PLACE {
                    return Err(Error::limit(
                        "nesting of schemas applied to the same value",
                        MAX_IN_PLACE as u64 + 1,
                        MAX_IN_PLACE as u64,
                    )
                    .into());
                }
                self.open.push(at);
                let cells =
                    if negative { self.negative(at, env) } else { self.positive(at, env, mode) };
                self.open.pop();
                cells?
            }
            Atom::Value(value) if negative => self.not_value(value)?,
            Atom::Value(value) => self.value(value),
            Atom::Union(members) => {
                let mut out = if negative { Cells::all() } else { Cells::none() };
                for &m in &members {
                    if negative {
                        let m = self.nodes.complement(m);
                        let cells = self.same_value(m, Mode::Plain)?;
                        out = self.meet(&out, &cells)?;
                    } else {
                        let cells = self.same_value(m, Mode::Plain)?;
                        out.join((*cells).clone());
                    }
                }
                out
            }
        };
        let cells = Arc::new(cells);
        self.known.insert((literal, mode), Arc::clone(&cells));
        Ok(cells)
    }

    /// The cells of a node that is applied to the value at hand.
    fn same_value(&mut self, node: NodeId, mode: Mode) -> Result<Arc<Cells>, Problem> {
        let literals = Arc::clone(self.nodes.literals(node));
        if let [one] = literals[..] {
            return self.literal(one, mode);
        }
        let mut out = Cells::all();
        for &l in literals.iter() {
            let cells = self.literal(l, mode)?;
            out = self.meet(&out, &cells)?;
        }
        Ok(Arc::new(out))
    }

    /// A schema applied to the value at hand, or its complement.
    fn sub(
        &mut self,
        at: Loc,
        env: EnvId,
        negative: bool,
        mode: Mode,
    ) -> Result<Arc<Cells>, Problem> {
        let node = self.in_place(at, env)?;
        let node = if negative { self.nodes.complement(node) } else { node };
        self.same_value(node, if negative { Mode::Plain } else { mode })
    }

    /// The node of a schema in place. Unlike [`Self::schema`] it keeps references, so that cycles
    /// are seen.
    fn in_place(&mut self, at: Loc, env: EnvId) -> Result<NodeId, Problem> {
        let env = self.enter(at, env);
        Ok(match self.rules(at)? {
            None => Nodes::NONE,
            Some(rules) if rules.is_empty() => Nodes::ANY,
            Some(_) => self.nodes.of_atom(Atom::Schema(at, env), false),
        })
    }

    /// The anchor that a dynamic reference means in an environment.
    fn dynamic(&self, to: Loc, name: &str, env: EnvId) -> Loc {
        self.nodes.env(env).get(name).copied().unwrap_or(to)
    }

    fn positive(&mut self, at: Loc, env: EnvId, mode: Mode) -> Result<Cells, Problem> {
        let Some(rules) = self.rules(at)? else { return Ok(Cells::none()) };
        let unevaluated =
            |r: &&Rule| matches!(r, Rule::UnevaluatedItems(_) | Rule::UnevaluatedProperties(_));
        let has = rules.iter().any(|r| unevaluated(&r));
        let inner = if has && mode == Mode::Plain { Mode::Evaluated } else { mode };
        let mut out = Cells::all();
        for rule in rules.iter().filter(|r| !unevaluated(r)) {
            let cells = self.rule(at, env, rule, inner)?;
            out = self.meet(&out, &cells)?;
        }
        for rule in rules.iter().filter(unevaluated) {
            out = self.unevaluated(out, env, rule, false)?;
        }
        if mode == Mode::Plain && has {
            forget(&mut out);
        }
        Ok(out)
    }

    fn negative(&mut self, at: Loc, env: EnvId) -> Result<Cells, Problem> {
        let Some(rules) = self.rules(at)? else { return Ok(Cells::all()) };
        let mut out = Cells::none();
        for rule in rules.iter() {
            let cells = match rule {
                Rule::UnevaluatedItems(_) | Rule::UnevaluatedProperties(_) => {
                    let mut rest = Cells::all();
                    for other in rules.iter() {
                        if !matches!(
                            other,
                            Rule::UnevaluatedItems(_) | Rule::UnevaluatedProperties(_)
                        ) {
                            let cells = self.rule(at, env, other, Mode::Exact)?;
                            rest = self.meet(&rest, &cells)?;
                        }
                    }
                    let mut cells = self.unevaluated(rest, env, rule, true)?;
                    forget(&mut cells);
                    cells
                }
                _ => self.not_rule(at, env, rule)?,
            };
            out.join(cells);
            self.check(&out)?;
        }
        Ok(out)
    }

    /// Applies `unevaluated*` to cells that know what was evaluated; or leaves those that break it.
    fn unevaluated(
        &mut self,
        cells: Cells,
        env: EnvId,
        rule: &Rule,
        violated: bool,
    ) -> Result<Cells, Problem> {
        let mut out = Cells::none();
        match rule {
            Rule::UnevaluatedProperties(schema) => {
                let node = self.schema(*schema, env)?;
                let wrong = self.nodes.complement(node);
                for cell in &cells.objects {
                    let keys = if cell.evaluated.is_empty() {
                        KeyLang::All
                    } else {
                        KeyLang::NotAny(cell.evaluated.iter().cloned().collect())
                    };
                    let here = if violated {
                        some_member(keys, wrong)
                    } else {
                        ObjCell::other(keys, node)
                    };
                    let mut one = Cells::none();
                    one.objects.push(cell.clone());
                    let here = Cells { objects: vec![here], ..Cells::none() };
                    let mut met = self.meet(&one, &here)?;
                    for o in &mut met.objects {
                        o.evaluated = [KeyLang::All].into();
                    }
                    out.join(met);
                }
                if !violated {
                    out.join(Cells { objects: Vec::new(), ..cells });
                }
            }
            Rule::UnevaluatedItems(schema) => {
                let node = self.schema(*schema, env)?;
                for cell in &cells.arrays {
                    if cell.evaluated.all {
                        if !violated {
                            out.arrays.push(cell.clone());
                        }
                        continue;
                    }
                    let mut members: Vec<NodeId> =
                        cell.evaluated.matching.iter().copied().collect();
                    members.push(node);
                    let allowed = self.nodes.union(members);
                    let from = cell.evaluated.prefix;
                    let here = if violated {
                        let wrong = self.nodes.complement(allowed);
                        some_item(from, wrong)
                    } else {
                        vec![ArrCell {
                            prefix: vec![Nodes::ANY; from],
                            rest: allowed,
                            ..ArrCell::any()
                        }]
                    };
                    let one = Cells { arrays: vec![cell.clone()], ..Cells::none() };
                    let here = Cells { arrays: here, ..Cells::none() };
                    let mut met = self.meet(&one, &here)?;
                    for a in &mut met.arrays {
                        a.evaluated.all = true;
                    }
                    out.join(met);
                }
                if !violated {
                    out.join(Cells { arrays: Vec::new(), ..cells });
                }
            }
            _ => {}
        }
        Ok(out)
    }

    fn rule(&mut self, at: Loc, env: EnvId, rule: &Rule, mode: Mode) -> Result<Cells, Problem> {
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

    fn not_rule(&mut self, at: Loc, env: EnvId, rule: &Rule) -> Result<Cells, Problem> {
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

    fn all_schemas(&mut self, list: &[Loc], env: EnvId) -> Result<Vec<NodeId>, Problem> {
        list.iter().map(|&s| self.schema(s, env)).collect()
    }

    fn group(
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
        Ok(Arc::new(Group { names, patterns, rest }))
    }

    /// Arrays with so many items in a node.
    fn between(&mut self, node: NodeId, min: u64, max: Option<u64>) -> Vec<ArrCell> {
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

    fn any_of(&mut self, list: &[Loc], env: EnvId, mode: Mode) -> Result<Cells, Problem> {
        let mut out = Cells::none();
        if mode == Mode::Plain {
            for &s in list {
                let cells = self.sub(s, env, false, mode)?;
                out.join((*cells).clone());
                self.check(&out)?;
            }
            return Ok(out);
        }
        let mut parts = Vec::new();
        for &s in list {
            let yes = self.sub(s, env, false, mode)?;
            let no = if mode == Mode::Exact {
                self.sub(s, env, true, Mode::Plain)?
            } else {
                Arc::new(Cells::all())
            };
            parts.push((yes, no));
        }
        let open = parts.iter().filter(|p| evaluates(&p.0)).count();
        if open > MAX_OPEN {
            let at = self.open.last().copied().unwrap_or(self.docs.root);
            let why = format!("{open} branches may evaluate members beside unevaluated*");
            let hint = "write additionalProperties or items: false in the branches";
            return Err(Problem::unsupported(&self.docs, at, "anyOf", &why, hint));
        }
        // Subsets of successful branches; the empty one is dropped at the end.
        let mut subsets = vec![(Cells::all(), false)];
        for (yes, no) in &parts {
            let mut next = Vec::new();
            for (cells, any) in &subsets {
                let with = self.meet(cells, yes)?;
                if !with.is_none() {
                    next.push((with, true));
                }
                let without = self.meet(cells, no)?;
                if !without.is_none() {
                    next.push((without, *any));
                }
            }
            if next.len() > self.max_cells {
                return Err(self.too_many());
            }
            subsets = next;
        }
        for (cells, any) in subsets {
            if any {
                out.join(cells);
            }
        }
        self.check(&out)?;
        Ok(out)
    }

    fn none_of(&mut self, list: &[Loc], env: EnvId) -> Result<Cells, Problem> {
        let mut out = Cells::all();
        for &s in list {
            let cells = self.sub(s, env, true, Mode::Plain)?;
            out = self.meet(&out, &cells)?;
            out = self.prune(out)?;
        }
        Ok(out)
    }

    fn one_of(&mut self, list: &[Loc], env: EnvId, mode: Mode) -> Result<Cells, Problem> {
        let mut plain = Vec::with_capacity(list.len());
        for &s in list {
            plain.push(self.sub(s, env, false, Mode::Plain)?);
        }
        let mut out = Cells::none();
        for (i, &s) in list.iter().enumerate() {
            let mut here = (*self.sub(s, env, false, mode)?).clone();
            for (j, &other) in list.iter().enumerate() {
                if i == j || here.is_none() {
                    continue;
                }
                let both = self.meet(&plain[i], &plain[j])?;
                if self.prune(both)?.is_none() {
                    continue;
                }
                let outside = self.sub(other, env, true, Mode::Plain)?;
                here = self.meet(&here, &outside)?;
                here = self.prune(here)?;
            }
            out.join(here);
            self.check(&out)?;
        }
        Ok(out)
    }

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
                if super::strings::knows_format(name) {
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
        super::strings::check_pattern(pattern).map_err(|e| match e {
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
    fn value(&mut self, value: JId) -> Cells {
        self.one_of_values(&[value])
    }

    fn one_of_values(&mut self, values: &[JId]) -> Cells {
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
                    let group = Group { names, patterns: Box::default(), rest: Nodes::NONE };
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

    fn none_of_values(&mut self, values: &[JId]) -> Result<Cells, Problem> {
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
    fn not_value(&mut self, value: JId) -> Result<Cells, Problem> {
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

/// Arrays with an item in a node from a place on.
fn some_item(from: usize, node: NodeId) -> Vec<ArrCell> {
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
fn some_member(keys: KeyLang, node: NodeId) -> ObjCell {
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

fn evaluates(cells: &Cells) -> bool {
    cells.objects.iter().any(|o| !o.evaluated.is_empty())
        || cells.arrays.iter().any(|a| a.evaluated != EvaluatedItems::default())
}

/// Drops what was evaluated, so that equal cells are equal.
fn forget(cells: &mut Cells) {
    for o in &mut cells.objects {
        o.evaluated.clear();
    }
    for a in &mut cells.arrays {
        a.evaluated = EvaluatedItems::default();
    }
}
