//! Where lexemes begin: those of cells, of JSON's punctuation, of keys declared and not.

use super::core::{Core, Cx};
use super::frame::{ArrayPlan, ObjectPlan};
use super::graph::{Array, Cell, NodeId, Object, Space};
use super::text::WrittenId;
use super::thread::{OFFER, Thread, intersects};
use crate::automata::expr::{Arena, ExprId};
use crate::automata::markers::mark;
use crate::automata::table::StateId;
use crate::error::{Error, Result};
use std::sync::Arc;

/// A cell made ready.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ready {
    Lexeme(StateId, ExprId),
    Object(u32),
    Array(u32),
    Rule(u32),
}

/// Lexemes of JSON's punctuation at one depth.
#[derive(Debug, Clone, Copy)]
pub(super) struct Marks {
    pub(super) open: [StateId; 2],
    pub(super) close_empty: [StateId; 2],
    pub(super) close: [StateId; 2],
    pub(super) comma: StateId,
}

impl Core {
    pub(super) fn enter(
        &mut self,
        cx: Cx<'_>,
        make: impl FnOnce(&mut Arena) -> ExprId,
    ) -> Result<StateId> {
        let expr = cx.automaton.with_arena(make)?;
        self.bytes += 32;
        cx.automaton.enter(expr)
    }

    pub(super) fn lexeme(&mut self, cx: Cx<'_>, expr: ExprId) -> Result<StateId> {
        if let Some(&q) = self.lexemes.get(&expr) {
            return Ok(q);
        }
        let q = self.enter(cx, |arena| mark(arena, expr, 0))?;
        self.lexemes.insert(expr, q);
        Ok(q)
    }

    pub(super) fn marks(&mut self, cx: Cx<'_>, depth: u32) -> Result<Marks> {
        let depth = if matches!(cx.program.layout.space, Space::Between(_)) { 0 } else { depth };
        if let Some(&known) = self.marks.get(&depth) {
            return Ok(known);
        }
        let space = cx.program.layout.space.clone();
        let mut make = |before: bool, text: &str, after: bool, inside: u32| {
            self.enter(cx, |arena| {
                let gap = |arena: &mut Arena, wanted: bool, depth: u32| match (&space, wanted) {
                    (_, false) => super::layout::literal(arena, ""),
                    (Space::Between(e), true) => *e,
                    (Space::Indent(n), true) => super::layout::line(arena, u32::from(*n) * depth),
                };
                let lead = gap(arena, before, inside);
                let tail = gap(arena, after, inside);
                let body = super::layout::literal(arena, text);
                let body = arena.concat(body, tail);
                let all = arena.concat(lead, body);
                mark(arena, all, 0)
            })
        };
        let lined = matches!(space, Space::Indent(_));
        let marks = Marks {
            open: [make(false, "{", true, depth + 1)?, make(false, "[", true, depth + 1)?],
            close_empty: if lined {
                [make(false, "{}", false, 0)?, make(false, "[]", false, 0)?]
            } else {
                [make(false, "}", false, 0)?, make(false, "]", false, 0)?]
            },
            close: [make(true, "}", false, depth)?, make(true, "]", false, depth)?],
            comma: make(!lined, ",", true, depth + 1)?,
        };
        self.marks.insert(depth, marks);
        Ok(marks)
    }

    /// The cells of a node, ready to enter.
    pub(super) fn ready(&mut self, cx: Cx<'_>, node: NodeId) -> Result<Arc<[Ready]>> {
        if let Some(known) = self.nodes.get(&node) {
            return Ok(Arc::clone(known));
        }
        let cells = match cx.program.nodes.get(node as usize) {
            Some(node) => node.cells.clone(),
            None => match &cx.program.source {
                Some(source) => cx.automaton.extend(|arena| source.node(arena, node))?.cells,
                None => return Err(Error::internal(format!("no node {node}"))),
            },
        };
        let mut out = Vec::with_capacity(cells.len());
        for cell in cells {
            out.push(match cell {
                Cell::Lexeme(e) => Ready::Lexeme(self.lexeme(cx, e)?, e),
                Cell::Rule(r) => Ready::Rule(cx.program.rules[r as usize]),
                Cell::Object(o) => Ready::Object(self.object(&o)),
                Cell::Array(a) => Ready::Array(self.array(&a)),
            });
        }
        self.bytes += 64 + out.len() * 8;
        let ready: Arc<[Ready]> = out.into();
        self.nodes.insert(node, Arc::clone(&ready));
        Ok(ready)
    }

    fn object(&mut self, spec: &Arc<Object>) -> u32 {
        // The plan keeps the declaration alive, so its address names it.
        let objects = &mut self.objects;
        *self.object_index.entry(Arc::as_ptr(spec) as usize).or_insert_with(|| {
            objects.push(Arc::new(ObjectPlan::new(Arc::clone(spec))));
            objects.len() as u32 - 1
        })
    }

    fn array(&mut self, spec: &Arc<Array>) -> u32 {
        let arrays = &mut self.arrays;
        *self.array_index.entry(Arc::as_ptr(spec) as usize).or_insert_with(|| {
            arrays.push(Arc::new(ArrayPlan::new(Arc::clone(spec))));
            arrays.len() as u32 - 1
        })
    }

    /// The expression of a key with the colon and what stands around it.
    fn key_part(&mut self, cx: Cx<'_>, plan: u32, member: u32) -> Result<ExprId> {
        if let Some(&e) = self.key_parts.get(&(plan, member)) {
            return Ok(e);
        }
        let spec = Arc::clone(&self.objects[plan as usize].spec);
        let layout = &cx.program.layout;
        let expr = cx.automaton.with_arena(|arena| {
            let n = spec.members.len();
            let key = match spec.members.get(member as usize) {
                Some(m) => (layout.key)(arena, &m.key, layout.escapes),
                None => spec.others[member as usize - n].keys,
            };
            let colon = super::layout::colon(arena, &layout.space);
            let colon = mark(arena, colon, member);
            arena.concat(key, colon)
        })?;
        self.key_parts.insert((plan, member), expr);
        self.bytes += 32;
        Ok(expr)
    }

    /// Where the keys of an object begin: those of a language of others, or all that are declared. One
    /// automaton serves whatever subset of them is offered.
    pub(super) fn key_state(
        &mut self,
        cx: Cx<'_>,
        plan: u32,
        other: Option<u32>,
    ) -> Result<StateId> {
        let key = (plan, other.unwrap_or(u32::MAX));
        if let Some(&q) = self.keys.get(&key) {
            return Ok(q);
        }
        let n = self.objects[plan as usize].spec.members.len() as u32;
        let wanted = other.map_or(0..n, |j| j..j + 1);
        let mut parts = Vec::with_capacity(wanted.len());
        for m in wanted {
            parts.push(self.key_part(cx, plan, m)?);
        }
        let q = self.enter(cx, |arena| arena.union(&parts))?;
        self.bytes += 48;
        self.keys.insert(key, q);
        Ok(q)
    }

    /// The shadow that stands for a set of declared keys.
    pub(super) fn offer(&mut self, members: &[u32]) -> u32 {
        let mut bits: Vec<u64> = Vec::new();
        for &m in members {
            let at = m as usize / 64;
            bits.resize(bits.len().max(at + 1), 0);
            bits[at] |= 1 << (m % 64);
        }
        if let Some(&known) = self.offer_index.get(&bits[..]) {
            return known;
        }
        let id = OFFER | self.offers.len() as u32;
        let bits: Arc<[u64]> = bits.into();
        self.bytes += 64 + bits.len() * 16;
        self.offers.push(Arc::clone(&bits));
        self.offer_index.insert(bits, id);
        id
    }

    /// The keys that a thread may complete, if not all that its state knows.
    pub(super) fn offered(&self, t: Thread) -> Option<&Arc<[u64]>> {
        t.is_offer().then(|| &self.offers[(t.shadow & !OFFER) as usize])
    }

    /// Whether a state can still complete one of the keys that a thread may complete.
    pub(super) fn serves(&mut self, cx: Cx<'_>, t: Thread, to: StateId) -> Result<bool> {
        if !self.reach.contains_key(&to) {
            let reach = cx.automaton.reach(to)?;
            self.bytes += 40;
            self.reach.insert(to, reach);
        }
        Ok(match (self.reach.get(&to), self.offered(t)) {
            (Some(reach), Some(offered)) => intersects(reach, offered),
            _ => true,
        })
    }

    /// Where the keys that may not be completed as undeclared ones begin; [`DEAD`] without any.
    pub(super) fn shadow(&mut self, cx: Cx<'_>, plan: u32, written: WrittenId) -> Result<StateId> {
        if let Some(&q) = self.shadows.get(&(plan, written)) {
            return Ok(q);
        }
        let spec = Arc::clone(&self.objects[plan as usize].spec);
        let keys = Arc::clone(&self.texts.written(written).keys);
        let layout = &cx.program.layout;
        let base = self.shadow_bases.get(&plan).copied();
        let (base, all) = cx.automaton.with_arena(|arena| {
            let mut any = |keys: &mut dyn Iterator<Item = &Arc<str>>| {
                let parts: Vec<ExprId> =
                    keys.map(|key| (layout.key)(arena, key, layout.escapes)).collect();
                arena.union(&parts)
            };
            let declared = &mut spec.members.iter().map(|m| &m.key).chain(&spec.forbidden);
            let base = base.unwrap_or_else(|| any(declared));
            let written = any(&mut keys.iter());
            (base, arena.union(&[base, written]))
        })?;
        self.shadow_bases.insert(plan, base);
        self.bytes += 48;
        let q = cx.automaton.enter(all)?;
        self.shadows.insert((plan, written), q);
        Ok(q)
    }

    /// Where a lexeme begins without the scalars of a set, each in all of its spellings.
    pub(super) fn without(
        &mut self,
        cx: Cx<'_>,
        q: StateId,
        expr: ExprId,
        used: WrittenId,
    ) -> Result<StateId> {
        let values = Arc::clone(&self.texts.written(used).keys);
        if values.is_empty() {
            return Ok(q);
        }
        if let Some(&known) = self.fresh.get(&(expr, used)) {
            return Ok(known);
        }
        let layout = &cx.program.layout;
        let lexeme = cx.automaton.extend(|arena| {
            let mut numbers = Vec::new();
            let mut parts = Vec::with_capacity(values.len());
            for value in &*values {
                // Containers are compared at their closing bracket.
                if value.starts_with(['{', '[']) {
                    continue;
                }
                match value.split_at(1) {
                    ("s", text) => parts.push((layout.key)(arena, text, layout.escapes)),
                    ("n", text) => numbers.push(super::layout::value(text)?),
                    (_, text) => parts.push(super::layout::literal(arena, text)),
                }
            }
            // By arithmetic where numbers are: nothing is searched for what is left.
            let (counted, expr) = arena.numbers_without(expr, &numbers)?;
            for number in numbers {
                parts.push(super::layout::number(arena, number)?);
            }
            let all = arena.union(&parts);
            let rest = arena.minus(expr, all);
            let rest = arena.union(&[counted, rest]);
            Ok(mark(arena, rest, 0))
        })?;
        let q = cx.automaton.enter(lexeme)?;
        self.bytes += 40;
        self.fresh.insert((expr, used), q);
        Ok(q)
    }
}
