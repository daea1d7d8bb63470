//! Hash-consed regular expressions with smart constructors.
//!
//! The constructors apply identities that keep residuals few:
//!
//! ```text
//! ∅X = ∅   εX = X   X{a,b}X{c,d} = X{a+c,b+d}   (X{a,b}){c,d} = X{ac,bd} for a ≤ 1
//! union: flat, sorted, one class, X{a,b}T ∪ X{c,d}T = X{min,max}T when the intervals touch,
//!        T dropped beside X{0,n}T, ε dropped beside a nullable member, Σ* absorbs all
//! ```
//!
//! Counted repetitions stay symbolic, so `X{0,1000000}` costs one node until a text counts down,
//! and the interval rule keeps a union of neighbouring counts one node.
//!
//! Concatenations lean right. No function here recurses along a chain, only into heads, whose depth
//! the parser's nesting limit bounds.

use super::charset::{self, ClassId, Classes, Range};
use super::derive::Shapes;
use super::look::{self, At, Ctx};
use regex_syntax::hir::Look;
use rustc_hash::FxHashMap;
use std::cell::RefCell;

/// Index of an expression.
pub(crate) type ExprId = u32;

/// The language without any text.
pub(crate) const EMPTY: ExprId = 0;
/// The language of the empty text.
pub(crate) const EPSILON: ExprId = 1;
/// No upper bound on a repetition.
pub(crate) const INF: u32 = u32::MAX;

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Expr {
    Empty,
    Epsilon,
    Class(ClassId),
    Look(At),
    Concat(ExprId, ExprId),
    Union(Box<[ExprId]>),
    Repeat { body: ExprId, min: u32, max: u32 },
}

/// Bits that say which predicates occur below a node; none means *pure*.
pub(crate) mod looks {
    /// The start of the text.
    pub(crate) const START: u8 = 1;
    /// The end of the text.
    pub(crate) const END: u8 = 2;
    /// Any predicate that asks for the previous character.
    pub(crate) const OTHER: u8 = 4;
}

#[derive(Debug, Clone, Copy)]
struct Facts {
    /// Whether the empty text matches wherever it stands; exact for pure nodes.
    nullable: bool,
    looks: u8,
}

/// All expressions of one grammar.
#[derive(Debug)]
pub(crate) struct Arena {
    nodes: Vec<Expr>,
    facts: Vec<Facts>,
    index: FxHashMap<Expr, ExprId>,
    pub(crate) classes: Classes,
    pub(crate) shapes: Shapes,
    started: FxHashMap<ExprId, ExprId>,
    /// Answers of [`Arena::nullable`] for nodes with predicates.
    nullable: RefCell<FxHashMap<(ExprId, Ctx, Ctx), bool>>,
    top: ExprId,
    bytes: usize,
    budget: usize,
}

impl Arena {
    /// `budget`: bytes after which derivatives stop half-way; the owner refuses to go on then.
    pub(crate) fn new(budget: usize) -> Self {
        let mut arena = Self {
            nodes: Vec::new(),
            facts: Vec::new(),
            index: FxHashMap::default(),
            classes: Classes::default(),
            shapes: Shapes::default(),
            started: FxHashMap::default(),
            nullable: RefCell::default(),
            top: EMPTY,
            bytes: 0,
            budget,
        };
        arena.intern(Expr::Empty);
        arena.intern(Expr::Epsilon);
        let any = arena.class(vec![(0, charset::MAX)]);
        arena.top = arena.repeat(any, 0, INF);
        arena
    }

    /// Every text.
    pub(crate) fn top(&self) -> ExprId {
        self.top
    }

    pub(crate) fn node(&self, e: ExprId) -> &Expr {
        &self.nodes[e as usize]
    }

    /// Predicates below a node.
    pub(crate) fn looks(&self, e: ExprId) -> u8 {
        self.facts[e as usize].looks
    }

    /// Whether a node is free of predicates.
    pub(crate) fn is_pure(&self, e: ExprId) -> bool {
        self.looks(e) == 0
    }

    /// Bytes held, approximately.
    pub(crate) fn memory(&self) -> usize {
        self.bytes + self.nullable.borrow().len() * 24
    }

    /// Whether more is held than the budget allows.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes > self.budget
    }

    /// Counts bytes held on the arena's behalf.
    pub(crate) fn charge(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    fn intern(&mut self, node: Expr) -> ExprId {
        if let Some(&id) = self.index.get(&node) {
            return id;
        }
        let facts = self.facts_of(&node);
        let extra = match &node {
            Expr::Union(m) => m.len() * 8,
            Expr::Class(c) => self.classes.get(*c).len() * 8,
            _ => 0,
        };
        self.bytes += 80 + extra;
        let id = self.nodes.len() as ExprId;
        self.nodes.push(node.clone());
        self.facts.push(facts);
        self.index.insert(node, id);
        id
    }

    fn facts_of(&self, node: &Expr) -> Facts {
        let f = |e: ExprId| self.facts[e as usize];
        match node {
            Expr::Empty | Expr::Class(_) => Facts { nullable: false, looks: 0 },
            Expr::Epsilon => Facts { nullable: true, looks: 0 },
            Expr::Look(At(look)) => Facts {
                nullable: false,
                looks: match look {
                    Look::Start => looks::START,
                    Look::End => looks::END,
                    _ => looks::OTHER,
                },
            },
            Expr::Concat(a, b) => Facts {
                nullable: f(*a).nullable && f(*b).nullable,
                looks: f(*a).looks | f(*b).looks,
            },
            Expr::Union(members) => {
                members.iter().fold(Facts { nullable: false, looks: 0 }, |acc, &m| Facts {
                    nullable: acc.nullable || f(m).nullable,
                    looks: acc.looks | f(m).looks,
                })
            }
            Expr::Repeat { body, min, .. } => {
                Facts { nullable: *min == 0 || f(*body).nullable, looks: f(*body).looks }
            }
        }
    }

    /// One character of a normalised set.
    pub(crate) fn class(&mut self, ranges: Vec<Range>) -> ExprId {
        if ranges.is_empty() {
            return EMPTY;
        }
        let id = self.classes.intern(ranges);
        self.intern(Expr::Class(id))
    }

    /// A predicate.
    pub(crate) fn look(&mut self, look: Look) -> ExprId {
        self.intern(Expr::Look(At(look)))
    }

    /// `head` then `tail`.
    pub(crate) fn concat(&mut self, head: ExprId, tail: ExprId) -> ExprId {
        match (head, tail) {
            (EMPTY, _) | (_, EMPTY) => return EMPTY,
            (EPSILON, x) | (x, EPSILON) => return x,
            _ => {}
        }
        match *self.node(head) {
            // After the end only the empty text follows.
            Expr::Look(At(Look::End)) if self.is_pure(tail) => {
                return if self.facts[tail as usize].nullable { head } else { EMPTY };
            }
            Expr::Repeat { body, min, max } => {
                let (next, rest) = match *self.node(tail) {
                    Expr::Concat(h, t) => (h, t),
                    _ => (tail, EPSILON),
                };
                if let Expr::Repeat { body: b, min: m, max: n } = *self.node(next)
                    && b == body
                    && let Some((lo, hi)) = add_counts((min, max), (m, n))
                {
                    let both = self.repeat(body, lo, hi);
                    return self.concat(both, rest);
                }
            }
            _ => {}
        }
        self.intern(Expr::Concat(head, tail))
    }

    /// `body` from `min` to `max` times.
    pub(crate) fn repeat(&mut self, body: ExprId, min: u32, max: u32) -> ExprId {
        let min = if self.facts[body as usize].nullable { 0 } else { min };
        match (body, min, max) {
            (_, _, 0) | (EPSILON, _, _) | (EMPTY, 0, _) => return EPSILON,
            (EMPTY, _, _) => return EMPTY,
            (_, 1, 1) => return body,
            _ => {}
        }
        if let Expr::Repeat { body: inner, min: a, max: b } = *self.node(body)
            && a <= 1
            && let Some(hi) = if b == INF || max == INF {
                Some(INF)
            } else {
                b.checked_mul(max).filter(|&x| x != INF)
            }
        {
            return self.repeat(inner, a * min, hi);
        }
        self.intern(Expr::Repeat { body, min, max })
    }

    /// Any of `members`.
    pub(crate) fn union(&mut self, members: &[ExprId]) -> ExprId {
        if let [one] = members {
            return *one;
        }
        let mut flat = Vec::with_capacity(members.len());
        for &m in members {
            match self.node(m) {
                Expr::Empty => {}
                Expr::Union(inner) => flat.extend_from_slice(inner),
                _ => flat.push(m),
            }
        }
        flat.sort_unstable();
        flat.dedup();
        if flat.len() > 1 {
            if flat.binary_search(&self.top).is_ok() {
                return self.top;
            }
            self.join_classes(&mut flat);
            self.join_repeats(&mut flat);
            if flat.contains(&EPSILON)
                && flat.iter().any(|&m| m != EPSILON && self.facts[m as usize].nullable)
            {
                flat.retain(|&m| m != EPSILON);
            }
        }
        match flat[..] {
            [] => EMPTY,
            [one] => one,
            _ => self.intern(Expr::Union(flat.into())),
        }
    }

    /// Replaces several classes by their union.
    fn join_classes(&mut self, flat: &mut Vec<ExprId>) {
        let classes = flat.iter().filter(|&&m| matches!(self.node(m), Expr::Class(_))).count();
        if classes < 2 {
            return;
        }
        let mut ranges = Vec::new();
        flat.retain(|&m| match self.nodes[m as usize] {
            Expr::Class(c) => {
                ranges.extend_from_slice(self.classes.get(c));
                false
            }
            _ => true,
        });
        let joined = self.class(charset::normalize(ranges));
        flat.push(joined);
        flat.sort_unstable();
    }

    /// Joins `X{a,b}T` and `X{c,d}T` whose intervals touch; drops `T` beside `X{0,n}T`.
    fn join_repeats(&mut self, flat: &mut Vec<ExprId>) {
        let view = |nodes: &[Expr], m: ExprId| match nodes[m as usize] {
            Expr::Repeat { body, min, max } => Some((body, EPSILON, min, max)),
            Expr::Concat(h, t) => match nodes[h as usize] {
                Expr::Repeat { body, min, max } => Some((body, t, min, max)),
                _ => None,
            },
            _ => None,
        };
        let mut counted: Vec<(ExprId, ExprId, u32, u32)> =
            flat.iter().filter_map(|&m| view(&self.nodes, m)).collect();
        if counted.is_empty() {
            return;
        }
        counted.sort_unstable();
        let mut joined: Vec<(ExprId, ExprId, u32, u32)> = Vec::with_capacity(counted.len());
        for (body, tail, min, max) in counted {
            // The tail alone is zero times the body.
            let min = if min == 1 && flat.binary_search(&tail).is_ok() { 0 } else { min };
            match joined.last_mut() {
                Some(l) if l.0 == body && l.1 == tail && min <= l.3.saturating_add(1) => {
                    l.2 = l.2.min(min);
                    l.3 = l.3.max(max);
                }
                _ => joined.push((body, tail, min, max)),
            }
        }
        let mut covered: Vec<ExprId> =
            joined.iter().filter(|j| j.2 == 0 && j.1 != EPSILON).map(|j| j.1).collect();
        covered.sort_unstable();
        let is_covered = |e: &ExprId| covered.binary_search(e).is_ok();
        flat.retain(|m| view(&self.nodes, *m).is_none() && !is_covered(m));
        for (body, tail, min, max) in joined {
            // A counted tail of another group is covered in the same way.
            let repeat = self.repeat(body, min, max);
            let e = self.concat(repeat, tail);
            if !is_covered(&e) {
                flat.push(e);
            }
        }
        flat.sort_unstable();
        flat.dedup();
    }

    /// Whether the empty text matches between two neighbours. Remembered, since many residuals
    /// share their tails.
    pub(crate) fn nullable(&self, e: ExprId, prev: Ctx, next: Ctx) -> bool {
        if self.is_pure(e) {
            return self.facts[e as usize].nullable;
        }
        let key = (e, prev, next);
        if let Some(&known) = self.nullable.borrow().get(&key) {
            return known;
        }
        let answer = self.nullable_now(e, prev, next);
        self.nullable.borrow_mut().insert(key, answer);
        answer
    }

    fn nullable_now(&self, mut e: ExprId, prev: Ctx, next: Ctx) -> bool {
        loop {
            if self.is_pure(e) {
                return self.facts[e as usize].nullable;
            }
            match *self.node(e) {
                Expr::Look(At(l)) => return look::holds(l, prev, next),
                Expr::Concat(h, t) => {
                    if !self.nullable(h, prev, next) {
                        return false;
                    }
                    e = t;
                }
                Expr::Union(ref m) => return m.iter().any(|&m| self.nullable(m, prev, next)),
                Expr::Repeat { min: 0, .. } => return true,
                Expr::Repeat { body, .. } => e = body,
                Expr::Empty | Expr::Epsilon | Expr::Class(_) => return false,
            }
        }
    }

    /// The same language once the start of the text lies behind: `Start` can no longer hold.
    pub(crate) fn after_start(&mut self, e: ExprId) -> ExprId {
        if self.looks(e) & looks::START == 0 {
            return e;
        }
        if let Some(&done) = self.started.get(&e) {
            return done;
        }
        let out = match self.node(e).clone() {
            Expr::Look(_) => EMPTY,
            Expr::Concat(..) => {
                let mut heads = Vec::new();
                let mut tail = e;
                while let Expr::Concat(h, t) = *self.node(tail) {
                    heads.push(h);
                    tail = t;
                }
                let mut out = self.after_start(tail);
                for h in heads.into_iter().rev() {
                    let h = self.after_start(h);
                    out = self.concat(h, out);
                }
                out
            }
            Expr::Union(members) => {
                let members: Vec<_> = members.iter().map(|&m| self.after_start(m)).collect();
                self.union(&members)
            }
            Expr::Repeat { body, min, max } => {
                let body = self.after_start(body);
                self.repeat(body, min, max)
            }
            Expr::Empty | Expr::Epsilon | Expr::Class(_) => e,
        };
        self.started.insert(e, out);
        out
    }
}

/// Sum of two counts; `None` if it does not fit.
fn add_counts(a: (u32, u32), b: (u32, u32)) -> Option<(u32, u32)> {
    let min = a.0.checked_add(b.0)?;
    let max =
        if a.1 == INF || b.1 == INF { INF } else { a.1.checked_add(b.1).filter(|&x| x != INF)? };
    Some((min, max))
}
