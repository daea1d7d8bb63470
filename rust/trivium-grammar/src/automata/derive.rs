//! Derivatives: what may follow after one character.
//!
//! Partial derivatives (Antimirov) list, for a residual, pairs *(class of the next character, rest)*:
//!
//! ```text
//! heads(C)      = (C, ε)          heads(X ∪ Y) = heads(X), heads(Y)
//! heads(X Y)    = heads(X)·Y, and heads(Y) if X is nullable here
//! heads(X{m,n}) = heads(X)·X{m-1,n-1}
//! ```
//!
//! A sweep over the classes' ends then cuts the code points into blocks with one set of classes
//! each (a [`Shape`], remembered, since neighbouring residuals ask for the same classes); a block
//! leads to the union of its rests. Where `X` matches the empty text only because of a
//! predicate, earlier rounds of `X{m,n}` may have been empty too, so the rest is `X{0,n-1}`.

use super::charset::{self, ClassId, Range};
use super::expr::{Arena, EMPTY, EPSILON, Expr, ExprId, INF};
use super::look::{Ctx, Kinds};
use rustc_hash::{FxHashMap, FxHashSet};
use std::sync::Arc;

/// Neighbours of the position, or `None` for a pure expression, which does not ask.
pub(crate) type Between = Option<(Ctx, Ctx)>;

/// Index of a [`Shape`].
pub(crate) type ShapeId = u32;

/// How a set of classes cuts the characters (of one kind) into blocks.
#[derive(Debug)]
pub(crate) struct Shape {
    /// Ranges and their block, sorted; characters of no class are left out.
    pub(crate) intervals: Box<[(u32, u32, u32)]>,
    /// Indices of the classes that a block lies in.
    blocks: Box<[Box<[u32]>]>,
}

/// The derivatives by all characters of one kind.
#[derive(Debug)]
pub(crate) struct Cut {
    pub(crate) shape: ShapeId,
    /// What follows a character of each block.
    pub(crate) rests: Vec<ExprId>,
    /// Kind of the characters, as far as the rests ask for it.
    pub(crate) ctx: Ctx,
}

/// Shapes by sorted classes and kind.
#[derive(Debug, Default)]
pub(crate) struct Shapes {
    all: Vec<Arc<Shape>>,
    index: FxHashMap<(Box<[ClassId]>, Option<Ctx>), ShapeId>,
}

impl Arena {
    fn nullable_at(&self, e: ExprId, at: Between) -> bool {
        let (prev, next) = at.unwrap_or((Ctx::Other, Ctx::Other));
        self.nullable(e, prev, next)
    }

    /// Appends the pairs (class, rest followed by `then`) of `e`; each (residual, rest) once, so
    /// shared tails are not walked again. Stops when the arena is full.
    fn heads(
        &mut self,
        e: ExprId,
        then: ExprId,
        at: Between,
        seen: &mut FxHashSet<(ExprId, ExprId)>,
        out: &mut Vec<(ClassId, ExprId)>,
    ) {
        let mut e = e;
        loop {
            if self.is_full() || !seen.insert((e, then)) {
                return;
            }
            match *self.node(e) {
                Expr::Empty | Expr::Epsilon | Expr::Look(_) => return,
                Expr::Class(c) => {
                    out.push((c, then));
                    return;
                }
                Expr::Concat(h, t) => {
                    let rest = self.concat(t, then);
                    if rest != EMPTY {
                        self.heads(h, rest, at, seen, out);
                    }
                    if !self.nullable_at(h, at) {
                        return;
                    }
                    e = t;
                }
                Expr::Union(ref members) => {
                    for m in members.clone() {
                        self.heads(m, then, at, seen, out);
                    }
                    return;
                }
                Expr::Repeat { body, min, max } => {
                    let min = if self.nullable_at(body, at) { 0 } else { min.saturating_sub(1) };
                    let less = self.repeat(body, min, if max == INF { INF } else { max - 1 });
                    let rest = self.concat(less, then);
                    if rest != EMPTY {
                        self.heads(body, rest, at, seen, out);
                    }
                    return;
                }
            }
        }
    }

    /// The derivatives of `e` after a character of kind `prev`.
    pub(crate) fn cuts(&mut self, e: ExprId, prev: Ctx, kinds: &Kinds) -> Vec<Cut> {
        if self.is_pure(e) {
            return vec![self.cut(e, None, None, Ctx::Other)];
        }
        kinds
            .sets()
            .iter()
            .map(|(next, set)| self.cut(e, Some((prev, *next)), Some(set), *next))
            .collect()
    }

    fn cut(&mut self, e: ExprId, at: Between, within: Option<&[Range]>, ctx: Ctx) -> Cut {
        let mut pairs = Vec::new();
        self.heads(e, EPSILON, at, &mut FxHashSet::default(), &mut pairs);
        let mut classes: Vec<ClassId> = pairs.iter().map(|p| p.0).collect();
        classes.sort_unstable();
        classes.dedup();
        pairs.sort_unstable();
        let shape = self.shape_of(&classes, within, ctx);
        let known = Arc::clone(self.shape(shape));
        let mut rests = Vec::with_capacity(known.blocks.len());
        for block in &known.blocks {
            let mut after = Vec::new();
            for &i in block {
                let class = classes[i as usize];
                let from = pairs.partition_point(|p| p.0 < class);
                after.extend(pairs[from..].iter().take_while(|p| p.0 == class).map(|p| p.1));
            }
            after.sort_unstable();
            after.dedup();
            let rest = self.union(&after);
            rests.push(self.after_start(rest));
        }
        Cut { shape, rests, ctx }
    }

    pub(crate) fn shape(&self, id: ShapeId) -> &Arc<Shape> {
        &self.shapes.all[id as usize]
    }

    /// The shape of sorted classes among the characters of one kind.
    fn shape_of(&mut self, classes: &[ClassId], within: Option<&[Range]>, ctx: Ctx) -> ShapeId {
        let key = (classes.into(), within.map(|_| ctx));
        if let Some(&known) = self.shapes.index.get(&key) {
            return known;
        }
        let shape = self.sweep(classes, within);
        self.charge(shape.intervals.len() * 12 + shape.blocks.len() * 32 + classes.len() * 4);
        let id = self.shapes.all.len() as ShapeId;
        self.shapes.all.push(Arc::new(shape));
        self.shapes.index.insert(key, id);
        id
    }

    fn sweep(&self, classes: &[ClassId], within: Option<&[Range]>) -> Shape {
        let mut starts: Vec<(u32, u32, u32)> = Vec::new();
        for (i, &class) in classes.iter().enumerate() {
            let ranges = self.classes.get(class);
            let cut = within.map(|set| charset::intersect(ranges, set));
            let ranges = cut.as_deref().unwrap_or(ranges);
            starts.extend(ranges.iter().map(|r| (r.0, r.1, i as u32)));
        }
        starts.sort_unstable();
        let mut cuts: Vec<u32> = starts.iter().flat_map(|s| [s.0, s.1 + 1]).collect();
        cuts.sort_unstable();
        cuts.dedup();
        let mut index: FxHashMap<Box<[u32]>, u32> = FxHashMap::default();
        let mut blocks: Vec<Box<[u32]>> = Vec::new();
        let mut intervals: Vec<(u32, u32, u32)> = Vec::new();
        let mut active: Vec<(u32, u32)> = Vec::new();
        let mut next = 0;
        for (i, &lo) in cuts.iter().enumerate() {
            active.retain(|a| a.1 >= lo);
            while next < starts.len() && starts[next].0 == lo {
                active.push((starts[next].2, starts[next].1));
                next += 1;
            }
            if active.is_empty() {
                continue;
            }
            let hi = cuts[i + 1] - 1; // an active range ends at a later cut
            active.sort_unstable();
            let key: Box<[u32]> = active.iter().map(|a| a.0).collect();
            let block = *index.entry(key).or_insert_with_key(|key| {
                blocks.push(key.clone());
                blocks.len() as u32 - 1
            });
            match intervals.last_mut() {
                Some(l) if l.2 == block && l.1 + 1 == lo => l.1 = hi,
                _ => intervals.push((lo, hi, block)),
            }
        }
        Shape { intervals: intervals.into(), blocks: blocks.into() }
    }
}
