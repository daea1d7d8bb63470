//! Length bounds that no short text meets.
//!
//! In `Y ∩ Σ{0,m}` every count of characters makes residuals of its own, although a token of few
//! characters lives in it exactly if it lives in `Y`: as long as `k + D ≤ m`, where `k` is the number of
//! characters read and `D` the most that any residual of `Y` is away from a match. So the
//! vocabulary may be sorted in `Y` once, for all `m`; only tokens longer than `m - D` must be looked at
//! again. `X{0,m}` without other conditions is `X*` in the same way, with `D = 0`.
//!
//! Only strings are loosened: what follows begins with a quote, so that the characters of a token
//! without quotes and backslashes are those of the string.

use super::charset::Range;
use super::expr::{Arena, EMPTY, Expr, ExprId, INF};
use super::look::Ctx;
use crate::error::Result;
use rustc_hash::FxHashMap;

const QUOTE: [Range; 1] = [(0x22, 0x22)];
const BACKSLASH: [Range; 1] = [(0x5c, 0x5c)];

/// Residuals looked at for `D`.
const MOST: usize = 512;

/// A residual without its bound.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Loose {
    pub(crate) expr: ExprId,
    /// The bound: characters that may still come.
    pub(crate) room: u32,
    /// `D` of the module comment.
    pub(crate) slack: u32,
}

impl Arena {
    /// The residual without the length bound that it begins with, if that is at least `least`.
    ///
    /// # Errors
    /// `LimitExceeded` over the arena's budget.
    pub(crate) fn loosen(&mut self, e: ExprId, least: u32) -> Result<Option<Loose>> {
        let Some((head, tail)) = self.apart(e) else { return Ok(None) };
        let next = match *self.node(tail) {
            Expr::Concat(h, _) => h,
            _ => tail,
        };
        if !self.is_class(next, &QUOTE) {
            return Ok(None);
        }
        match self.node(head).clone() {
            Expr::Repeat { body, min, max }
                if max != INF && max >= least && self.is_one_character(body) =>
            {
                let head = self.repeat(body, min, INF);
                let expr = self.concat(head, tail);
                Ok(Some(Loose { expr, room: max, slack: 0 }))
            }
            Expr::Spell { inner, how, .. } if self.is_pure(inner) => {
                let Expr::Inter(members) = self.node(inner).clone() else { return Ok(None) };
                let [a, b] = *members else { return Ok(None) };
                let (bound, other) = match (self.length_interval(a), self.length_interval(b)) {
                    (Some(bound), None) => (bound, b),
                    (None, Some(bound)) => (bound, a),
                    _ => return Ok(None),
                };
                let (min, room) = bound;
                if min > 1 || room == INF || room < least {
                    return Ok(None);
                }
                let Some(slack) = self.furthest(other)? else { return Ok(None) };
                let inner = if min == 0 {
                    other
                } else {
                    let some = self.of_length(1, INF);
                    self.inter(&[other, some])
                };
                let head = self.spell(inner, how);
                let expr = self.concat(head, tail);
                Ok((room >= least + slack).then_some(Loose { expr, room, slack }))
            }
            _ => Ok(None),
        }
    }

    /// The residual without the complement in its head, if there is one.
    pub(crate) fn unrefused(&mut self, e: ExprId) -> Option<ExprId> {
        let (head, tail) = self.apart(e)?;
        let whole = match self.node(head).clone() {
            Expr::Spell { inner, how, .. } if self.is_pure(inner) => {
                let inner = self.uncut(inner)?;
                self.spell(inner, how)
            }
            _ => self.uncut(head)?,
        };
        Some(self.append(whole, tail))
    }

    /// The first link of a chain and the rest.
    fn apart(&mut self, e: ExprId) -> Option<(ExprId, ExprId)> {
        let Expr::Concat(head, tail) = *self.node(e) else { return None };
        if !matches!(self.node(head), Expr::Concat(..)) {
            return Some((head, tail));
        }
        let flat = self.append(head, tail);
        match *self.node(flat) {
            Expr::Concat(head, tail) => Some((head, tail)),
            _ => None,
        }
    }

    fn uncut(&mut self, e: ExprId) -> Option<ExprId> {
        match self.node(e).clone() {
            Expr::Not(_) => Some(self.top()),
            Expr::Inter(members) => {
                let others: Vec<ExprId> = members
                    .iter()
                    .copied()
                    .filter(|&m| !matches!(self.node(m), Expr::Not(_)))
                    .collect();
                (others.len() < members.len() && !others.is_empty()).then(|| self.inter(&others))
            }
            _ => None,
        }
    }

    /// `head` then `tail`, leaning right where `head` is a short chain, so that residuals that were
    /// put together in different ways are one.
    pub(super) fn append(&mut self, head: ExprId, tail: ExprId) -> ExprId {
        let mut heads = Vec::new();
        let mut last = head;
        while let Expr::Concat(h, t) = *self.node(last) {
            heads.push(h);
            last = t;
            if heads.len() > 4 {
                return self.concat(head, tail);
            }
        }
        let out = self.concat(last, tail);
        heads.into_iter().rev().fold(out, |tail, head| self.concat(head, tail))
    }

    fn is_class(&self, e: ExprId, set: &[Range]) -> bool {
        matches!(self.node(e), Expr::Class(c) if self.classes.get(*c)[..] == *set)
    }

    /// Whether the texts of `e` are single characters and escapes.
    fn is_one_character(&self, e: ExprId) -> bool {
        let escape = |m: ExprId| match *self.node(m) {
            Expr::Concat(h, _) => self.is_plain(m) && self.is_class(h, &BACKSLASH),
            _ => false,
        };
        match self.node(e) {
            Expr::Class(c) => !super::charset::contains(self.classes.get(*c), 0x5c),
            Expr::Union(members) => members.iter().all(|&m| {
                escape(m)
                    || matches!(self.node(m), Expr::Class(c)
                        if !super::charset::contains(self.classes.get(*c), 0x5c))
            }),
            _ => false,
        }
    }

    /// The most characters that a live residual of a pure expression is away from a match; `None` if
    /// there are too many residuals.
    fn furthest(&mut self, e: ExprId) -> Result<Option<u32>> {
        if let Some(&known) = self.furthest.get(&e) {
            return Ok(known);
        }
        let mut states = vec![e];
        let mut index: FxHashMap<ExprId, usize> = FxHashMap::from_iter([(e, 0)]);
        let mut back: Vec<Vec<usize>> = vec![Vec::new()];
        let mut next = 0;
        while next < states.len() && states.len() <= MOST {
            for &(_, to) in self.disjoint(states[next], None, None, Ctx::Other).iter() {
                if to == EMPTY {
                    continue;
                }
                let at = *index.entry(to).or_insert_with(|| {
                    states.push(to);
                    back.push(Vec::new());
                    states.len() - 1
                });
                back[at].push(next);
            }
            self.check()?;
            next += 1;
        }
        let found = (next == states.len()).then(|| {
            // Breadth first from the matches, backwards; what is not reached is dead.
            let mut seen = vec![false; states.len()];
            let mut layer: Vec<usize> =
                (0..states.len()).filter(|&i| self.facts(states[i]).nullable).collect();
            layer.iter().for_each(|&i| seen[i] = true);
            let mut distance = 0;
            loop {
                let mut before = Vec::new();
                for &at in layer.iter().flat_map(|&i| &back[i]) {
                    if !std::mem::replace(&mut seen[at], true) {
                        before.push(at);
                    }
                }
                if before.is_empty() {
                    return distance;
                }
                distance += 1;
                layer = before;
            }
        });
        self.charge(32);
        self.furthest.insert(e, found);
        Ok(found)
    }
}
