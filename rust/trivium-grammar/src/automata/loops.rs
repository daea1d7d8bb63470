//! Loops over one class of characters at the head of a residual: texts that need no walk.
//!
//! A loop says that every text of at most `max` characters of a class is a live continuation, and that
//! each can then be completed within `rest` characters. The second half is what carries loops through
//! a length interval: in `Y ∩ Σ{0,n}` the loops of `Y` hold for `n - rest` characters.

use super::charset::{self, Range};
use super::expr::{Arena, Expr, ExprId, INF};
use super::look::Ctx;
use super::spell;
use crate::error::Result;
use std::sync::Arc;

/// See the module comment.
pub(super) struct Loop {
    pub(super) set: Arc<[Range]>,
    pub(super) max: u32,
    rest: u64,
}

/// No bound on the completion is known.
const FAR: u64 = 1 << 40;

impl Arena {
    /// Length of a shortest text, as far as it is known to exist.
    fn reach(&self, e: ExprId) -> u64 {
        let known = self.lengths_known(e);
        if known.tight { known.min.into() } else { FAR }
    }

    /// The loops that a pure residual begins with.
    ///
    /// # Errors
    /// `LimitExceeded` over the arena's budget.
    pub(super) fn loops(&mut self, e: ExprId) -> Result<Vec<Loop>> {
        let mut out = Vec::new();
        // Residuals and what must at least follow them.
        let mut todo = vec![(e, 0u64)];
        let mut budget = 64; // loops hide near the head; wide unions are not searched through
        while let Some((e, then)) = todo.pop() {
            budget -= 1;
            if budget == 0 {
                break;
            }
            match self.node(e).clone() {
                Expr::Concat(h, t) => {
                    todo.push((h, then + self.reach(t)));
                    if self.nullable(h, Ctx::Other, Ctx::Other) {
                        todo.push((t, then));
                    }
                }
                Expr::Union(members) => {
                    for &m in members.iter().take(32) {
                        if self.is_plain(m) || self.is_live(m, Ctx::Other)? {
                            todo.push((m, then));
                        }
                    }
                }
                Expr::Repeat { body, min, max } => {
                    let class = match self.node(body) {
                        Expr::Class(c) => Some(*c),
                        Expr::Union(m) => m.iter().find_map(|&m| match self.node(m) {
                            Expr::Class(c) => Some(*c),
                            _ => None,
                        }),
                        _ => None,
                    };
                    let rounds = |n: u32| u64::from(n).saturating_mul(self.reach(body)).min(FAR);
                    match class {
                        Some(c) => out.push(Loop {
                            set: Arc::clone(self.classes.get(c)),
                            max,
                            rest: then + rounds(min),
                        }),
                        None => todo.push((body, then + rounds(min.saturating_sub(1)))),
                    }
                }
                Expr::Spell { inner, .. } => {
                    for l in self.loops(inner)? {
                        let set = charset::intersect(&l.set, &spell::RAW);
                        if !set.is_empty() {
                            out.push(Loop { set: set.into(), max: l.max, rest: FAR });
                        }
                    }
                }
                Expr::Inter(members) => {
                    self.loops_within(&members, &mut out)?;
                    self.loop_of_its_own(e, &mut out)?;
                }
                Expr::Not(_) => self.loop_of_its_own(e, &mut out)?,
                _ => {}
            }
        }
        Ok(out)
    }

    fn loop_of_its_own(&mut self, e: ExprId, out: &mut Vec<Loop>) -> Result<()> {
        if let Some((set, max)) = self.own_loop(e)? {
            out.push(Loop { set, max, rest: FAR });
        }
        Ok(())
    }

    /// The loops of `Y ∩ Σ{0,n}`.
    fn loops_within(&mut self, members: &[ExprId], out: &mut Vec<Loop>) -> Result<()> {
        let (interval, other) = match *members {
            [a, b] if self.length_interval(a).is_some() => (self.length_interval(a), b),
            [a, b] => (self.length_interval(b), a),
            _ => return Ok(()),
        };
        let Some((0, most)) = interval else { return Ok(()) };
        if !self.is_plain(other) {
            return Ok(());
        }
        for l in self.loops(other)? {
            let left = if most == INF { u64::from(INF) } else { u64::from(most) };
            let max = u64::from(l.max).min(left.saturating_sub(l.rest)) as u32;
            if max > 0 {
                out.push(Loop { set: l.set, max, rest: FAR });
            }
        }
        Ok(())
    }
}
