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
//! Intersection and complement are nodes like the others ([`super::boolean`]); a *plain* expression has
//! neither, and matches something unless it is [`EMPTY`].
//!
//! Counted repetitions stay symbolic, so `X{0,1000000}` costs one node until a text counts down,
//! and the interval rule keeps a union of neighbouring counts one node.
//!
//! Concatenations lean right. No function here recurses along a chain, only into heads, whose depth
//! the parser's nesting limit bounds.

use super::charset::{self, ClassId, Classes, Range};
use super::derive::{Blocks, Shapes};
use super::facts::{Facts, Lengths, MAX_DEPTH};
use super::look::{self, At, Ctx, KindSets};
use super::number::{NumberId, Numbers};
use super::print::Prints;
use super::spell::{Spelling, Spellings};
use crate::error::{Error, Result};
use regex_syntax::hir::Look;
use rustc_hash::FxHashMap;
use std::cell::RefCell;
use std::sync::Arc;

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
    Repeat {
        body: ExprId,
        min: u32,
        max: u32,
    },
    /// Texts of all members; at least two, sorted, at most one of them a complement.
    Inter(Box<[ExprId]>),
    /// Every text but those of the member.
    Not(ExprId),
    /// The empty text, where all that follows is a text of the member (look-ahead).
    Ahead(ExprId),
    /// The empty text, where the member, derived by all that was read, is nullable (look-behind).
    Behind(ExprId),
    /// Texts of the member, each character by one of its spellings; `ctx` is the kind of the decoded
    /// character before.
    Spell {
        inner: ExprId,
        ctx: Ctx,
        how: Spelling,
    },
    /// The rest of a number, by arithmetic.
    Number(NumberId),
}

/// Bits that say which predicates occur below a node; none means *pure*.
pub(crate) mod looks {
    /// The start of the text.
    pub(crate) const START: u8 = 1;
    /// The end of the text.
    pub(crate) const END: u8 = 2;
    /// Predicates that ask whether a neighbour is a line feed or a carriage return.
    pub(crate) const LINE: u8 = 4;
    /// Predicates that ask whether a neighbour is a word character.
    pub(crate) const WORD: u8 = 8;
    /// The same for Unicode words.
    pub(crate) const UNI_WORD: u8 = 16;
    /// Predicates on the kind of the previous character.
    pub(crate) const KINDS: u8 = LINE | WORD | UNI_WORD;
    /// Look-ahead.
    pub(crate) const AHEAD: u8 = 32;
    /// Look-behind.
    pub(crate) const BEHIND: u8 = 64;
}

/// All expressions of one grammar.
#[derive(Debug, Clone)]
pub(crate) struct Arena {
    pub(super) nodes: Vec<Expr>,
    facts: Vec<Facts>,
    /// Fingerprints with every count as it is.
    pub(super) prints: Vec<Prints>,
    /// Fingerprints with clipped counts, where they differ.
    pub(super) clipped: FxHashMap<ExprId, Prints>,
    index: FxHashMap<Expr, ExprId>,
    pub(crate) classes: Classes,
    pub(crate) shapes: Shapes,
    pub(crate) kinds: KindSets,
    pub(crate) numbers: Numbers,
    pub(crate) spellings: Spellings,
    /// Disjoint derivatives of pure expressions under intersections and complements.
    pub(super) blocks: FxHashMap<ExprId, Blocks>,
    /// Places whose liveness was searched.
    pub(super) live: FxHashMap<(ExprId, Ctx), bool>,
    /// Lengths of pure expressions that had to be searched for.
    pub(super) lengths: FxHashMap<ExprId, Arc<super::live::Found>>,
    /// Answers of [`Arena::loosen`]'s search.
    pub(super) furthest: FxHashMap<ExprId, Option<u32>>,
    started: FxHashMap<ExprId, ExprId>,
    /// Answers of [`Arena::nullable`] for nodes with predicates.
    nullable: RefCell<FxHashMap<(ExprId, Ctx, Ctx), bool>>,
    top: ExprId,
    bytes: usize,
    budget: usize,
    /// Units of work since [`Arena::refuel`], and the most.
    work: u64,
    fuel: u64,
    too_deep: bool,
    /// Whether a lexeme was marked.
    pub(super) marked: bool,
}

/// Bytes of a node: its parts in three lists and an index, which double when they grow.
const NODE_BYTES: usize = 192;

/// Bytes of an entry of `clipped`.
const CLIPPED_BYTES: usize = 96;

/// Work between two calls of [`Arena::refuel`]; a unit is some hundred nanoseconds.
pub(crate) const FUEL: u64 = 3_000_000;

impl Arena {
    /// `budget`: bytes after which derivatives stop half-way; the owner refuses to go on then.
    pub(crate) fn new(budget: usize) -> Self {
        let mut arena = Self {
            nodes: Vec::new(),
            facts: Vec::new(),
            prints: Vec::new(),
            clipped: FxHashMap::default(),
            index: FxHashMap::default(),
            classes: Classes::default(),
            shapes: Shapes::default(),
            kinds: KindSets::default(),
            numbers: Numbers::default(),
            spellings: Spellings::default(),
            blocks: FxHashMap::default(),
            live: FxHashMap::default(),
            lengths: FxHashMap::default(),
            furthest: FxHashMap::default(),
            started: FxHashMap::default(),
            nullable: RefCell::default(),
            top: EMPTY,
            bytes: 0,
            budget,
            work: 0,
            fuel: FUEL,
            too_deep: false,
            marked: false,
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

    /// Whether a node matches something as soon as it is not [`EMPTY`]: free of predicates,
    /// intersections and complements.
    pub(crate) fn is_plain(&self, e: ExprId) -> bool {
        self.facts[e as usize].plain
    }

    /// What is known of the lengths of a pure node's texts without a search.
    pub(crate) fn lengths_known(&self, e: ExprId) -> Lengths {
        self.facts[e as usize].lengths
    }

    pub(super) fn facts(&self, e: ExprId) -> Facts {
        self.facts[e as usize]
    }

    /// Bytes held, approximately.
    pub(crate) fn memory(&self) -> usize {
        self.bytes + self.nullable.borrow().len() * 24
    }

    /// Whether a budget is spent: derivatives are then partial and must not be used.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes > self.budget || self.work > self.fuel || self.too_deep
    }

    /// The budget that is spent, if one is.
    pub(crate) fn check(&self) -> Result<()> {
        crate::watch::poll()?;
        if self.memory() > self.budget {
            return Err(Error::limit("max_bytes", self.memory() as u64, self.budget as u64));
        }
        if self.work > self.fuel {
            return Err(Error::limit("work of one step", self.work, self.fuel));
        }
        if self.too_deep {
            return Err(Error::limit("nesting", u64::from(MAX_DEPTH) + 1, MAX_DEPTH.into()));
        }
        Ok(())
    }

    /// Allows the next step its work.
    pub(crate) fn refuel(&mut self) {
        self.work = 0;
    }

    /// Gives up the step at hand.
    pub(super) fn exhaust(&mut self) {
        self.work = self.fuel + 1;
    }

    /// Counts units of work; whether a budget is spent.
    pub(crate) fn spend(&mut self, units: usize) -> bool {
        self.work += units as u64;
        self.is_full()
    }

    /// Counts bytes held on the arena's behalf.
    pub(crate) fn charge(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    pub(super) fn intern(&mut self, node: Expr) -> ExprId {
        if let Some(&id) = self.index.get(&node) {
            return id;
        }
        // Over the budget nothing is added: what is made is wrong, and `check` says so from then on.
        if self.bytes > self.budget {
            return EMPTY;
        }
        let facts = self.facts_of(&node);
        if facts.depth > MAX_DEPTH {
            self.too_deep = true;
            return EMPTY;
        }
        let extra = match &node {
            Expr::Union(m) | Expr::Inter(m) => m.len() * 8,
            Expr::Class(c) => self.classes.get(*c).len() * 8,
            _ => 0,
        };
        self.bytes += NODE_BYTES + extra;
        let id = self.nodes.len() as ExprId;
        self.print(id, &node);
        if self.clipped.contains_key(&id) {
            self.bytes += CLIPPED_BYTES;
        }
        self.nodes.push(node.clone());
        self.facts.push(facts);
        self.index.insert(node, id);
        id
    }

    /// One character of a normalised set.
    pub(crate) fn class(&mut self, ranges: Vec<Range>) -> ExprId {
        if ranges.is_empty() {
            return EMPTY;
        }
        let id = self.classes.intern(ranges);
        if self.classes.get(id).is_empty() {
            return EMPTY;
        }
        self.intern(Expr::Class(id))
    }

    /// Exactly this text.
    pub(crate) fn literal(&mut self, text: &str) -> ExprId {
        let mut out = EPSILON;
        for c in text.chars().rev() {
            let one = self.class(vec![(c.into(), c.into())]);
            out = self.concat(one, out);
        }
        out
    }

    /// `parts` one after the other.
    pub(crate) fn sequence(&mut self, parts: &[ExprId]) -> ExprId {
        parts.iter().rev().fold(EPSILON, |tail, &head| self.concat(head, tail))
    }

    /// Every text of `min` to `max` characters.
    pub(crate) fn of_length(&mut self, min: u32, max: u32) -> ExprId {
        let any = self.class(vec![(0, charset::MAX)]);
        self.repeat(any, min, max)
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
        self.work += flat.len() as u64;
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
            if flat
                .iter()
                .any(|&m| matches!(self.node(m), Expr::Not(x) if flat.binary_search(x).is_ok()))
            {
                return self.top;
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
                Expr::Inter(ref m) => return m.iter().all(|&m| self.nullable(m, prev, next)),
                Expr::Not(x) => return !self.nullable(x, prev, next),
                // What follows is the empty text, or the question is whether no character is needed
                // here, which `Arena::condition` answers.
                Expr::Ahead(x) => return next == Ctx::Edge && self.nullable(x, prev, next),
                Expr::Behind(x) => return self.nullable(x, prev, next),
                Expr::Spell { inner, ctx, .. } => return self.nullable(inner, ctx, Ctx::Edge),
                Expr::Number(n) => return self.numbers.accepts(n),
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
            Expr::Look(At(Look::Start)) => EMPTY,
            Expr::Inter(members) => {
                let members: Vec<_> = members.iter().map(|&m| self.after_start(m)).collect();
                self.inter(&members)
            }
            Expr::Not(x) => {
                let x = self.after_start(x);
                self.not(x)
            }
            Expr::Ahead(x) => {
                let x = self.after_start(x);
                self.ahead(x)
            }
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
            // A spelled text has its own start, which lies where its context says.
            Expr::Look(_)
            | Expr::Empty
            | Expr::Epsilon
            | Expr::Class(_)
            | Expr::Behind(_)
            | Expr::Spell { .. }
            | Expr::Number(_) => e,
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
