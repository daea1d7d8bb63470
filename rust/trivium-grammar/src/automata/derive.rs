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
//! A sweep over the classes' ends then cuts the code points into blocks with one set of rests each;
//! a block leads to the union of its rests. Where `X` matches the empty text only because of a
//! predicate, earlier rounds of `X{m,n}` may have been empty too, so the rest is `X{0,n-1}`.

use super::charset::{self, ClassId, Range};
use super::expr::{Arena, EMPTY, EPSILON, Expr, ExprId, INF};
use super::look::{Ctx, Kinds};
use rustc_hash::FxHashMap;

/// Neighbours of the position, or `None` for a pure expression, which does not ask.
pub(crate) type Between = Option<(Ctx, Ctx)>;

/// A block of characters and where it leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) range: Range,
    pub(crate) rest: ExprId,
    /// Kind of the characters of the block, as far as `rest` asks for it.
    pub(crate) ctx: Ctx,
}

impl Arena {
    fn nullable_at(&self, e: ExprId, at: Between) -> bool {
        let (prev, next) = at.unwrap_or((Ctx::Other, Ctx::Other));
        self.nullable(e, prev, next)
    }

    /// Appends the pairs (class, rest followed by `then`) of `e`.
    fn heads(&mut self, e: ExprId, then: ExprId, at: Between, out: &mut Vec<(ClassId, ExprId)>) {
        let mut e = e;
        loop {
            match *self.node(e) {
                Expr::Empty | Expr::Epsilon | Expr::Look(_) => return,
                Expr::Class(c) => {
                    out.push((c, then));
                    return;
                }
                Expr::Concat(h, t) => {
                    let rest = self.concat(t, then);
                    if rest != EMPTY {
                        self.heads(h, rest, at, out);
                    }
                    if !self.nullable_at(h, at) {
                        return;
                    }
                    e = t;
                }
                Expr::Union(ref members) => {
                    for m in members.clone() {
                        self.heads(m, then, at, out);
                    }
                    return;
                }
                Expr::Repeat { body, min, max } => {
                    let min = if self.nullable_at(body, at) { 0 } else { min.saturating_sub(1) };
                    let less = self.repeat(body, min, if max == INF { INF } else { max - 1 });
                    let rest = self.concat(less, then);
                    e = body;
                    if rest == EMPTY {
                        return;
                    }
                    return self.heads(e, rest, at, out);
                }
            }
        }
    }

    /// The blocks of `e` after a character of kind `prev`, sorted; characters without a block lead
    /// nowhere.
    pub(crate) fn blocks(&mut self, e: ExprId, prev: Ctx, kinds: &Kinds) -> Vec<Block> {
        let mut out = Vec::new();
        if self.is_pure(e) {
            let mut pairs = Vec::new();
            self.heads(e, EPSILON, None, &mut pairs);
            self.sweep(&pairs, None, Ctx::Other, &mut out);
        } else {
            for (next, set) in kinds.sets() {
                let mut pairs = Vec::new();
                self.heads(e, EPSILON, Some((prev, *next)), &mut pairs);
                self.sweep(&pairs, Some(set), *next, &mut out);
            }
            out.sort_unstable_by_key(|b| b.range);
        }
        out
    }

    /// Cuts the classes of `pairs`, restricted to `within`, into blocks.
    fn sweep(
        &mut self,
        pairs: &[(ClassId, ExprId)],
        within: Option<&[Range]>,
        ctx: Ctx,
        out: &mut Vec<Block>,
    ) {
        let mut starts: Vec<(u32, u32, ExprId)> = Vec::new();
        for &(class, rest) in pairs {
            let ranges = self.classes.get(class);
            match within {
                None => starts.extend(ranges.iter().map(|r| (r.0, r.1, rest))),
                Some(set) => starts
                    .extend(charset::intersect(ranges, set).into_iter().map(|r| (r.0, r.1, rest))),
            }
        }
        starts.sort_unstable();
        let mut cuts: Vec<u32> = starts.iter().flat_map(|s| [s.0, s.1 + 1]).collect();
        cuts.sort_unstable();
        cuts.dedup();
        let mut memo: FxHashMap<Vec<ExprId>, ExprId> = FxHashMap::default();
        let mut active: Vec<(u32, ExprId)> = Vec::new();
        let mut next = 0;
        let first = out.len();
        for (i, &lo) in cuts.iter().enumerate() {
            active.retain(|a| a.0 >= lo);
            while next < starts.len() && starts[next].0 == lo {
                active.push((starts[next].1, starts[next].2));
                next += 1;
            }
            if active.is_empty() {
                continue;
            }
            let hi = cuts[i + 1] - 1; // an active range ends at a later cut
            let rest = if let [(_, one)] = active[..] {
                one
            } else {
                let mut key: Vec<ExprId> = active.iter().map(|a| a.1).collect();
                key.sort_unstable();
                key.dedup();
                if let Some(&known) = memo.get(&key) {
                    known
                } else {
                    let rest = self.union(&key);
                    memo.insert(key, rest);
                    rest
                }
            };
            let rest = self.after_start(rest);
            if rest == EMPTY {
                continue;
            }
            match out[first..].last_mut() {
                Some(b) if b.rest == rest && b.range.1 + 1 == lo => b.range.1 = hi,
                _ => out.push(Block { range: (lo, hi), rest, ctx }),
            }
        }
    }
}
