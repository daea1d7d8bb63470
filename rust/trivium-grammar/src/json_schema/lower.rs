//! From nodes to the machine: spelled lexemes, objects and arrays, made when a text reaches them.

use super::cells::{Cells, Unique as CellUnique, scalar};
use super::error::Problem;
use super::expand::Algebra;
use super::feasible;
use super::nodes::{NodeId, Nodes};
use super::options::{Escaping, MemberOrder, Options};
use super::plan::{ArrPlan, Choice, ObjPlan};
use crate::automata::expr::{Arena, EMPTY, ExprId};
use crate::automata::spell::Spelling;
use crate::error::{Error, Result};
use crate::machine::graph::{
    Alternative, Array, Cell, Condition, Escapes, Member, Node, NodeSource, Object, Order, Others,
    UNBOUNDED, Unique,
};
use std::sync::{Arc, Mutex};

/// Nodes of one schema, on demand.
#[derive(Debug)]
pub(crate) struct Source {
    algebra: Mutex<Algebra>,
    options: Options,
}

impl Source {
    pub(crate) fn new(algebra: Algebra, options: Options) -> Self {
        Self { algebra: Mutex::new(algebra), options }
    }
}

impl NodeSource for Source {
    fn node(&self, arena: &mut Arena, id: NodeId) -> Result<Node> {
        let mut algebra = self
            .algebra
            .lock()
            .map_err(|_| Error::internal("an earlier call panicked while expanding"))?;
        Ok(algebra.lower(arena, id, &self.options)?)
    }
}

/// A key with its quotes, as it may be spelled.
pub(crate) fn key(arena: &mut Arena, text: &str, escapes: Escapes) -> ExprId {
    let body = arena.literal(text);
    let how = match escapes {
        Escapes::Minimal => Spelling::Minimal,
        Escapes::Any => Spelling::Any,
    };
    quoted(arena, body, how)
}

/// Decoded strings as texts.
fn quoted(arena: &mut Arena, decoded: ExprId, how: Spelling) -> ExprId {
    let body = arena.spell(decoded, how);
    let quote = arena.literal("\"");
    arena.sequence(&[quote, body, quote])
}

fn spelling(options: &Options) -> Spelling {
    match options.escapes {
        Escaping::Minimal => Spelling::Minimal,
        Escaping::Any => Spelling::Any,
    }
}

fn alternatives(choices: &[Choice]) -> Vec<Alternative> {
    choices.iter().map(|&(value, counts)| Alternative { value, counts }).collect()
}

fn conditions(bounds: &[(u32, u32)]) -> Vec<Condition> {
    bounds.iter().map(|&(min, max)| Condition { min, max }).collect()
}

fn object(plan: &ObjPlan, keys: &[ExprId], order: Order) -> Object {
    Object {
        members: plan
            .members
            .iter()
            .map(|m| Member {
                key: Arc::clone(&m.key),
                required: m.required,
                values: alternatives(&m.values),
            })
            .collect(),
        forbidden: plan.forbidden.clone(),
        others: plan
            .classes
            .iter()
            .zip(keys)
            .map(|(c, &keys)| Others { keys, values: alternatives(&c.values) })
            .collect(),
        min: plan.min,
        max: plan.max,
        conditions: conditions(&plan.conditions),
        order,
    }
}

fn array(plan: &ArrPlan) -> Array {
    Array {
        prefix: plan.prefix.iter().map(|v| alternatives(v)).collect(),
        rest: alternatives(&plan.rest),
        min: plan.min,
        max: plan.max,
        conditions: conditions(&plan.conditions),
        unique: match plan.unique {
            CellUnique::Any => Unique::Any,
            CellUnique::Distinct => Unique::Distinct,
            CellUnique::SomeEqual => Unique::Repeated,
        },
    }
}

/// Whether some array follows a plan, whose children are inhabited.
pub(crate) fn array_completable(algebra: &mut Algebra, plan: &ArrPlan) -> Result<bool, Problem> {
    if !feasible::array(plan) {
        return Ok(false);
    }
    match plan.unique {
        CellUnique::Any => Ok(true),
        CellUnique::Distinct => algebra.distinct(plan),
        CellUnique::SomeEqual => {
            let n = plan.prefix.len();
            let places = |i: usize| plan.prefix.get(i).unwrap_or(&plan.rest).clone();
            let last = (n + 2).min(plan.max as usize);
            for i in 0..last {
                for j in i + 1..last {
                    for &(a, _) in &places(i) {
                        for &(b, _) in &places(j) {
                            let both = algebra.nodes.meet(a, b);
                            if both != Nodes::NONE && algebra.cells(both).map(|c| !c.is_none())? {
                                return Ok(true);
                            }
                        }
                    }
                }
            }
            Ok(false)
        }
    }
}

impl Algebra {
    /// The machine's node.
    pub(crate) fn lower(
        &mut self,
        arena: &mut Arena,
        id: NodeId,
        options: &Options,
    ) -> Result<Node, Problem> {
        let cells: Arc<Cells> = self.cells(id)?;
        let mut out = Vec::new();
        let mut words = Vec::new();
        for (bit, word) in
            [(scalar::NULL, "null"), (scalar::FALSE, "false"), (scalar::TRUE, "true")]
        {
            if cells.scalars & bit != 0 {
                words.push(arena.literal(word));
            }
        }
        // Lexemes of a node that begin alike are one lexeme: there is nothing to tell them apart for.
        for c in &cells.numbers {
            words.push(super::numbers::lower(arena, c, options)?);
        }
        let mut strings = Vec::new();
        for c in &cells.strings {
            strings.push(super::strings::cell(arena, self.nodes.languages(), c)?);
        }
        let strings = arena.union(&strings);
        if strings != EMPTY && !arena.is_empty(strings)? {
            words.push(quoted(arena, strings, spelling(options)));
        }
        let words = arena.union(&words);
        if words != EMPTY {
            out.push(Cell::Lexeme(words));
        }
        for c in &cells.arrays {
            if let Some(plan) = self.array_plan(c, &mut |a, n| a.inhabited(n))?
                && array_completable(self, &plan)?
            {
                out.push(Cell::Array(Arc::new(array(&plan))));
            }
        }
        let order = match options.order {
            MemberOrder::Schema => Order::Schema,
            MemberOrder::Any => Order::Any,
        };
        for c in &cells.objects {
            let Some(plan) = self.object_plan(c, &mut |a, n| a.inhabited(n))? else { continue };
            if !feasible::object(&plan) {
                continue;
            }
            let mut keys = Vec::with_capacity(plan.classes.len());
            for class in &plan.classes {
                let decoded = self.class_keys(arena, &class.keys)?;
                keys.push(quoted(arena, decoded, spelling(options)));
            }
            out.push(Cell::Object(Arc::new(object(&plan, &keys, order))));
        }
        Ok(Node { cells: out })
    }
}

/// Keeps the machine's bound in one place.
const _: () = assert!(UNBOUNDED == crate::automata::expr::INF);
