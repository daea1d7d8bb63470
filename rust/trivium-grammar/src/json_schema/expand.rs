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

mod applicators;
mod complement;
mod rule;
mod values;

use super::cells::{Cells, EvaluatedItems};
use super::documents::Documents;
use super::error::Problem;
use super::inhabited::Inhabited;
use super::keywords::{self, Loc, Rule, Rules};
use super::nodes::{Atom, EnvId, Literal, NodeId, Nodes};
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
