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
//! Under an intersection or a complement the pairs must not overlap, so there each member's
//! derivatives are made disjoint first and then laid over each other:
//!
//! ```text
//! heads(X ∩ Y) = (C ∩ D, X_C ∩ Y_D)       heads(¬X) = (C, ¬X_C), (rest, Σ*)
//! ```
//!
//! Look-ahead is not consumed but asked of *everything that follows*: where `X` matches the empty text
//! under a condition, what follows is intersected with it ([`Arena::condition`]). Look-behind carries
//! its own automaton's residual, which every character derives ([`Arena::shift`]).
//!
//! A sweep over the classes' ends then cuts the code points into blocks with one set of classes
//! each (a [`Shape`], remembered, since neighbouring residuals ask for the same classes); a block
//! leads to the union of its rests. Where `X` matches the empty text only because of a
//! predicate, earlier rounds of `X{m,n}` may have been empty too, so the rest is `X{0,n-1}`.

use super::charset::{self, ClassId, Range};
use super::expr::{Arena, EMPTY, EPSILON, Expr, ExprId, INF, looks};
use super::look::Ctx;
use rustc_hash::{FxHashMap, FxHashSet};
use std::sync::Arc;

/// Neighbours of the position, or `None` for a pure expression, which does not ask.
pub(crate) type Between = Option<(Ctx, Ctx)>;

/// The characters of one kind, and the predicates that tell the kinds apart; `None` for all characters.
pub(super) type Within<'a> = Option<(&'a [Range], u8)>;

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

/// Sorted classes, and the kind of characters among those that some predicates tell apart.
type ShapeKey = (Box<[ClassId]>, Option<(Ctx, u8)>);

/// Shapes by sorted classes and kind.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shapes {
    all: Vec<Arc<Shape>>,
    index: FxHashMap<ShapeKey, ShapeId>,
}

/// Disjoint classes and what follows a character of each; characters of no class are dead.
pub(crate) type Blocks = Arc<[(ClassId, ExprId)]>;

/// Pairs (class, rest) under construction, each (residual, rest) once, so that shared tails are
/// not walked again.
#[derive(Default)]
struct Heads {
    /// The first few; a search through them is faster than hashing.
    first: Vec<(ExprId, ExprId)>,
    others: FxHashSet<(ExprId, ExprId)>,
    out: Vec<(ClassId, ExprId)>,
}

impl Heads {
    /// Whether the pair is new.
    fn insert(&mut self, pair: (ExprId, ExprId)) -> bool {
        if self.first.contains(&pair) {
            return false;
        }
        if self.first.len() < 16 {
            self.first.push(pair);
            return true;
        }
        self.others.insert(pair)
    }
}

/// A position: its neighbours and the characters that may come next.
#[derive(Clone, Copy)]
struct Here<'a> {
    at: Between,
    within: Within<'a>,
    ctx: Ctx,
}

impl Arena {
    /// Appends the pairs (class, rest followed by `then`) of the texts in which `e` consumes. Stops
    /// when the arena is full.
    fn heads(&mut self, e: ExprId, then: ExprId, here: Here<'_>, to: &mut Heads) {
        let mut e = e;
        loop {
            if self.spend(1) || !to.insert((e, then)) {
                return;
            }
            match *self.node(e) {
                Expr::Empty | Expr::Epsilon | Expr::Look(_) | Expr::Ahead(_) | Expr::Behind(_) => {
                    return;
                }
                Expr::Class(c) => {
                    to.out.push((c, then));
                    return;
                }
                Expr::Concat(h, t) => {
                    let rest = self.concat(t, then);
                    if rest != EMPTY {
                        self.heads(h, rest, here, to);
                    }
                    if self.looks(h) & looks::AHEAD != 0 {
                        let condition = self.condition(h, here.at);
                        if condition != self.top() {
                            self.heads_under(condition, t, then, here, to);
                            return;
                        }
                    } else if !self.nullable_at(h, here.at) {
                        return;
                    }
                    e = t;
                }
                Expr::Union(ref members) => {
                    for m in members.clone() {
                        self.heads(m, then, here, to);
                    }
                    return;
                }
                Expr::Repeat { body, min, max } => {
                    let min =
                        if self.nullable_at(body, here.at) { 0 } else { min.saturating_sub(1) };
                    let less = self.repeat(body, min, if max == INF { INF } else { max - 1 });
                    let rest = self.concat(less, then);
                    if rest != EMPTY {
                        self.heads(body, rest, here, to);
                    }
                    return;
                }
                Expr::Inter(ref members) => {
                    let members = members.clone();
                    for (class, rest) in self.inter_heads(&members, here) {
                        let rest = self.append(rest, then);
                        to.out.push((class, rest));
                    }
                    return;
                }
                Expr::Not(x) => {
                    for (class, rest) in self.not_heads(x, here) {
                        let rest = self.append(rest, then);
                        to.out.push((class, rest));
                    }
                    return;
                }
                Expr::Spell { inner, ctx, how } => {
                    for (class, rest) in self.spelled_heads(inner, ctx, how) {
                        let rest = self.append(rest, then);
                        to.out.push((class, rest));
                    }
                    return;
                }
                Expr::Number(n) => {
                    for (lo, hi, to_number) in self.number_steps(n) {
                        let class = self.classes.intern(vec![(lo.into(), hi.into())]);
                        let rest = self.concat(to_number, then);
                        to.out.push((class, rest));
                    }
                    return;
                }
            }
        }
    }

    /// What all that follows must be where `e` matches the empty text; ∅ if it cannot.
    fn condition(&mut self, e: ExprId, at: Between) -> ExprId {
        if self.looks(e) & looks::AHEAD == 0 {
            return if self.nullable_at(e, at) { self.top() } else { EMPTY };
        }
        match self.node(e).clone() {
            Expr::Ahead(x) => x,
            Expr::Concat(h, t) => {
                let both = [self.condition(h, at), self.condition(t, at)];
                self.inter(&both)
            }
            Expr::Union(members) => {
                let any: Vec<_> = members.iter().map(|&m| self.condition(m, at)).collect();
                self.union(&any)
            }
            Expr::Repeat { min: 0, .. } => self.top(),
            Expr::Repeat { body, .. } => self.condition(body, at),
            // Made only of everything that follows: nothing stands behind them.
            _ => {
                if self.nullable_at(e, at) {
                    self.top()
                } else {
                    EMPTY
                }
            }
        }
    }

    /// The pairs of `e` before `then` where the text from here on is one of `condition`.
    fn heads_under(
        &mut self,
        condition: ExprId,
        e: ExprId,
        then: ExprId,
        here: Here<'_>,
        to: &mut Heads,
    ) {
        if condition == EMPTY {
            return;
        }
        let mut free = Heads::default();
        self.heads(e, then, here, &mut free);
        let blocks = self.disjoint(condition, here.at, here.within, here.ctx);
        for (class, rest) in free.out {
            for &(under, left) in blocks.iter() {
                if self.spend(1) {
                    return;
                }
                let both = charset::intersect(self.classes.get(class), self.classes.get(under));
                let rest = self.inter(&[rest, left]);
                if !both.is_empty() && rest != EMPTY {
                    to.out.push((self.classes.intern(both), rest));
                }
            }
        }
    }

    fn inter_heads(&mut self, members: &[ExprId], here: Here<'_>) -> Vec<(ClassId, ExprId)> {
        // A length interval has every character in one class: the other's blocks stay as they are.
        if let [a, b] = *members {
            for (interval, other) in [(a, b), (b, a)] {
                let Some((min, max)) = self.length_interval(interval) else { continue };
                let less = if max == INF { INF } else { max - 1 };
                let left = self.of_length(min.saturating_sub(1), less);
                let blocks = self.disjoint(other, here.at, here.within, here.ctx);
                let mut out = Vec::with_capacity(blocks.len());
                for &(class, rest) in blocks.iter() {
                    let rest = self.inter(&[rest, left]);
                    if self.spend(1) {
                        return Vec::new();
                    }
                    if rest != EMPTY {
                        out.push((class, rest));
                    }
                }
                return out;
            }
        }
        let mut acc: Vec<(Arc<[Range]>, Vec<ExprId>)> = Vec::new();
        for (i, &m) in members.iter().enumerate() {
            let blocks = self.disjoint(m, here.at, here.within, here.ctx);
            if i == 0 {
                acc =
                    blocks.iter().map(|b| (Arc::clone(self.classes.get(b.0)), vec![b.1])).collect();
                continue;
            }
            let mut next = Vec::with_capacity(acc.len());
            for (set, rests) in acc {
                for &(class, rest) in blocks.iter() {
                    if self.spend(1) {
                        return Vec::new();
                    }
                    let both = charset::intersect(&set, self.classes.get(class));
                    if !both.is_empty() {
                        let mut rests = rests.clone();
                        rests.push(rest);
                        next.push((both.into(), rests));
                    }
                }
            }
            acc = next;
        }
        let mut out = Vec::with_capacity(acc.len());
        for (set, rests) in acc {
            let rest = self.inter(&rests);
            if rest != EMPTY {
                out.push((self.classes.intern(set.to_vec()), rest));
            }
        }
        out
    }

    fn not_heads(&mut self, x: ExprId, here: Here<'_>) -> Vec<(ClassId, ExprId)> {
        let blocks = self.disjoint(x, here.at, here.within, here.ctx);
        let mut out = Vec::with_capacity(blocks.len() + 1);
        let mut known = Vec::new();
        for &(class, rest) in blocks.iter() {
            known.extend_from_slice(self.classes.get(class));
            let rest = self.not(rest);
            if rest != EMPTY {
                out.push((class, rest));
            }
        }
        let others = charset::complement(&charset::normalize(known));
        if !others.is_empty() {
            out.push((self.classes.intern(others), self.top()));
        }
        out
    }

    /// The derivatives of `e` by disjoint classes, dead ones left out.
    pub(super) fn disjoint(
        &mut self,
        e: ExprId,
        at: Between,
        within: Within<'_>,
        ctx: Ctx,
    ) -> Blocks {
        let pure = self.is_pure(e);
        if pure && let Some(known) = self.blocks.get(&e) {
            return Arc::clone(known);
        }
        let cut = if pure {
            self.cut(e, None, None, Ctx::Other, false)
        } else {
            self.cut(e, at, within, ctx, false)
        };
        let shape = Arc::clone(self.shape(cut.shape));
        let mut sets: FxHashMap<ExprId, Vec<Range>> = FxHashMap::default();
        let mut order = Vec::new();
        for &(lo, hi, block) in &shape.intervals {
            let rest = cut.rests[block as usize];
            if rest == EMPTY {
                continue;
            }
            sets.entry(rest)
                .or_insert_with(|| {
                    order.push(rest);
                    Vec::new()
                })
                .push((lo, hi));
        }
        let blocks: Blocks = order
            .into_iter()
            .filter_map(|rest| {
                let set = sets.remove(&rest)?;
                Some((self.classes.intern(charset::normalize(set)), rest))
            })
            .collect();
        if pure && !self.is_full() {
            self.charge(32 + blocks.len() * 8);
            self.blocks.insert(e, Arc::clone(&blocks));
        }
        blocks
    }

    /// The derivatives of `e` after a character of kind `prev`.
    pub(crate) fn cuts(&mut self, e: ExprId, prev: Ctx) -> Vec<Cut> {
        if self.is_pure(e) {
            return vec![self.cut(e, None, None, Ctx::Other, true)];
        }
        let asks = self.looks(e) & looks::KINDS;
        let kinds = self.kinds.of(asks);
        kinds
            .sets()
            .iter()
            .map(|(next, set)| self.cut(e, Some((prev, *next)), Some((set, asks)), *next, true))
            .collect()
    }

    /// What follows one character after a pure expression's start.
    pub(crate) fn derivative(&mut self, e: ExprId, c: u32) -> ExprId {
        let mut heads = Heads::default();
        self.heads(e, EPSILON, Here { at: None, within: None, ctx: Ctx::Other }, &mut heads);
        let mut after: Vec<ExprId> = heads
            .out
            .iter()
            .filter(|p| charset::contains(self.classes.get(p.0), c))
            .map(|p| p.1)
            .collect();
        after.sort_unstable();
        after.dedup();
        let rest = self.union(&after);
        self.after_start(rest)
    }

    /// `outermost`: not below an intersection or a complement, whose look-behind is shifted with
    /// that of everything around them.
    fn cut(
        &mut self,
        e: ExprId,
        at: Between,
        within: Within<'_>,
        ctx: Ctx,
        outermost: bool,
    ) -> Cut {
        let mut heads = Heads::default();
        self.heads(e, EPSILON, Here { at, within, ctx }, &mut heads);
        let mut pairs = heads.out;
        // Residuals of look-behind, and their derivatives.
        let behind: Vec<(ExprId, Blocks)> = if !outermost || self.looks(e) & looks::BEHIND == 0 {
            Vec::new()
        } else {
            let residuals = self.behind_residuals(e);
            residuals.into_iter().map(|r| (r, self.disjoint(r, at, within, ctx))).collect()
        };
        let mut classes: Vec<ClassId> = pairs.iter().map(|p| p.0).collect();
        classes.extend(behind.iter().flat_map(|(_, blocks)| blocks.iter().map(|b| b.0)));
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
            let mut rest = self.union(&after);
            if !behind.is_empty() {
                let held = |class| block.iter().any(|&i| classes[i as usize] == class);
                let steps: FxHashMap<ExprId, ExprId> = behind
                    .iter()
                    .map(|(r, blocks)| {
                        (*r, blocks.iter().find(|b| held(b.0)).map_or(EMPTY, |b| b.1))
                    })
                    .collect();
                rest = self.shift(rest, &steps, &mut FxHashMap::default());
            }
            rests.push(self.after_start(rest));
        }
        Cut { shape, rests, ctx }
    }

    /// The distinct residuals of look-behind below a node.
    fn behind_residuals(&self, e: ExprId) -> Vec<ExprId> {
        let mut out = Vec::new();
        let mut seen = FxHashSet::default();
        let mut todo = vec![e];
        while let Some(e) = todo.pop() {
            if self.looks(e) & looks::BEHIND == 0 || !seen.insert(e) {
                continue;
            }
            match self.node(e) {
                Expr::Behind(r) => out.push(*r),
                Expr::Concat(a, b) => todo.extend([*a, *b]),
                Expr::Union(m) | Expr::Inter(m) => todo.extend_from_slice(m),
                Expr::Repeat { body: x, .. } | Expr::Not(x) | Expr::Ahead(x) => todo.push(*x),
                _ => {}
            }
        }
        out.sort_unstable();
        out.dedup();
        out
    }

    /// The same expression one character on: look-behind has read it.
    fn shift(
        &mut self,
        e: ExprId,
        steps: &FxHashMap<ExprId, ExprId>,
        done: &mut FxHashMap<ExprId, ExprId>,
    ) -> ExprId {
        if self.looks(e) & looks::BEHIND == 0 || self.spend(1) {
            return e;
        }
        if let Some(&known) = done.get(&e) {
            return known;
        }
        let out = match self.node(e).clone() {
            Expr::Behind(r) => self.behind(steps.get(&r).copied().unwrap_or(EMPTY)),
            Expr::Concat(..) => {
                let mut heads = Vec::new();
                let mut tail = e;
                while let Expr::Concat(h, t) = *self.node(tail) {
                    heads.push(h);
                    tail = t;
                }
                let mut out = self.shift(tail, steps, done);
                for h in heads.into_iter().rev() {
                    let h = self.shift(h, steps, done);
                    out = self.concat(h, out);
                }
                out
            }
            Expr::Union(m) => {
                let m: Vec<_> = m.iter().map(|&m| self.shift(m, steps, done)).collect();
                self.union(&m)
            }
            Expr::Inter(m) => {
                let m: Vec<_> = m.iter().map(|&m| self.shift(m, steps, done)).collect();
                self.inter(&m)
            }
            Expr::Repeat { body, min, max } => {
                let body = self.shift(body, steps, done);
                self.repeat(body, min, max)
            }
            Expr::Not(x) => {
                let x = self.shift(x, steps, done);
                self.not(x)
            }
            Expr::Ahead(x) => {
                let x = self.shift(x, steps, done);
                self.ahead(x)
            }
            _ => e,
        };
        done.insert(e, out);
        out
    }

    pub(crate) fn shape(&self, id: ShapeId) -> &Arc<Shape> {
        &self.shapes.all[id as usize]
    }

    /// The shape of sorted classes among the characters of one kind.
    fn shape_of(&mut self, classes: &[ClassId], within: Within<'_>, ctx: Ctx) -> ShapeId {
        let key = (classes.into(), within.map(|(_, asks)| (ctx, asks)));
        if let Some(&known) = self.shapes.index.get(&key) {
            return known;
        }
        let shape = self.sweep(classes, within);
        self.spend(shape.intervals.len());
        self.charge(shape.intervals.len() * 12 + shape.blocks.len() * 32 + classes.len() * 4);
        let id = self.shapes.all.len() as ShapeId;
        self.shapes.all.push(Arc::new(shape));
        self.shapes.index.insert(key, id);
        id
    }

    fn sweep(&self, classes: &[ClassId], within: Within<'_>) -> Shape {
        let mut starts: Vec<(u32, u32, u32)> = Vec::new();
        for (i, &class) in classes.iter().enumerate() {
            let ranges = self.classes.get(class);
            let cut = within.map(|(set, _)| charset::intersect(ranges, set));
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
            // Surrogates are no characters.
            let lo = if (0xd800..0xe000).contains(&lo) { 0xe000 } else { lo };
            let hi = if (0xd800..0xe000).contains(&hi) { 0xd7ff } else { hi };
            if lo > hi {
                continue;
            }
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
