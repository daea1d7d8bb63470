//! Markers: which of several lexemes an automaton has completed.
//!
//! A lexeme `L` is entered as `L·m`, where `m` is a character beyond Unicode. No text holds it, so a
//! residual that begins with `m` says: lexeme `m` is complete here.

use super::charset;
use super::expr::{Arena, EMPTY, EPSILON, Expr, ExprId};
use super::look::Ctx;
use rustc_hash::FxHashSet;

pub(crate) const FIRST: u32 = charset::MAX + 1;

/// First marker of longest-match terminals; those below are left by every accepting prefix.
pub(crate) const TERMINALS: u32 = 1 << 20;

/// The expression `lexeme` followed by its marker.
pub(crate) fn mark(arena: &mut Arena, lexeme: ExprId, marker: u32) -> ExprId {
    arena.marked = true;
    let m = arena.class(vec![(FIRST + marker, FIRST + marker)]);
    arena.concat(lexeme, m)
}

/// The markers that an expression may begin with, ascending.
pub(super) fn of(arena: &Arena, expr: ExprId) -> Box<[u32]> {
    if !arena.marked || expr == EMPTY || expr == EPSILON {
        return Box::default();
    }
    let mut out = Vec::new();
    let mut todo = vec![expr];
    let mut seen = FxHashSet::default(); // chains of unions share their tails
    while let Some(e) = todo.pop() {
        if matches!(arena.node(e), Expr::Union(_)) && !seen.insert(e) {
            continue;
        }
        match arena.node(e) {
            Expr::Class(c) => {
                // A marker's class is cut into single markers only where it was joined with others.
                for r in arena.classes.get(*c).iter().filter(|r| r.0 >= FIRST) {
                    out.extend((r.0..=r.1).map(|m| m - FIRST));
                }
            }
            Expr::Concat(h, t) if arena.nullable(*h, Ctx::Other, Ctx::Edge) => todo.push(*t),
            Expr::Union(members) => todo.extend(members.iter()),
            _ => {}
        }
    }
    out.sort_unstable();
    out.dedup();
    out.into()
}

/// The markers that some text may lead to, as bits.
pub(super) fn reachable(arena: &Arena, expr: ExprId, out: &mut Vec<u64>) {
    let mut todo = vec![expr];
    let mut seen = FxHashSet::default();
    while let Some(mut e) = todo.pop() {
        // Markers stand last.
        while let Expr::Concat(_, t) = arena.node(e) {
            e = *t;
        }
        match arena.node(e) {
            Expr::Class(c) => {
                for r in arena.classes.get(*c).iter().filter(|r| r.0 >= FIRST) {
                    for m in (r.0 - FIRST..=r.1 - FIRST).map(|m| m as usize) {
                        if out.len() <= m / 64 {
                            out.resize(m / 64 + 1, 0);
                        }
                        out[m / 64] |= 1 << (m % 64);
                    }
                }
            }
            Expr::Union(members) if seen.insert(e) => todo.extend(members.iter()),
            _ => {}
        }
    }
}

/// The marker that every text leads to, if there is but one.
pub(crate) fn sole(arena: &Arena, expr: ExprId) -> Option<u32> {
    let mut found = None;
    let mut todo = vec![expr];
    let mut steps = 0;
    while let Some(mut e) = todo.pop() {
        while let Expr::Concat(_, t) = arena.node(e) {
            e = *t;
        }
        steps += 1;
        match arena.node(e) {
            Expr::Class(c) => match &**arena.classes.get(*c) {
                [(lo, hi)] if *lo >= FIRST && lo == hi => {
                    if found.is_some_and(|m| m != lo - FIRST) {
                        return None;
                    }
                    found = Some(lo - FIRST);
                }
                _ => return None,
            },
            Expr::Union(members) if steps < 64 => todo.extend(members.iter()),
            _ => return None,
        }
    }
    found
}
