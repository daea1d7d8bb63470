//! Liveness: whether some text completes a residual, and how long such texts are.
//!
//! A plain residual lives unless it is ∅. Chains, unions and loops live as their parts do. Only
//! intersections, complements and position predicates need a search over residuals, those that seem
//! nearest to a match first, until one is met that is known to live or that matches the empty text.
//! Every answer is kept, and every search spends the arena's work.
//!
//! A length interval beside other conditions, `Y ∩ Σ{m,n}`, is not searched length by length. If `Y`
//! has few residuals, the sets of residuals after 0, 1, 2, … characters repeat soon, and with them
//! the lengths of its texts: a [`Unary`] language. Otherwise a residual at distance `d` that leads to
//! itself and is `e` characters from a match gives texts of *every* length from `d + e`, which mostly is
//! enough. `minLength: 100000` beside a pattern costs a search of the pattern's states only.

use super::charset::Range;
use super::derive::Between;
use super::expr::{Arena, EMPTY, Expr, ExprId, INF, looks};
use super::look::Ctx;
use crate::error::Result;
use rustc_hash::{FxHashMap, FxHashSet};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

/// Lengths of the texts of a residual, found by search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// Length of a shortest text; `None` if there is none.
    pub(crate) shortest: Option<u32>,
    /// Texts of every length from here on exist.
    pub(crate) all_from: Option<u32>,
    /// Which lengths exist, if that was found.
    unary: Option<Unary>,
}

/// A set of lengths: from `lead` on it has the period `exists.len() - lead`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Unary {
    exists: Vec<bool>,
    lead: usize,
}

impl Unary {
    fn meets(&self, min: u32, max: u32) -> bool {
        let period = self.exists.len() - self.lead;
        // One period behind `min` and `lead` shows every length there is.
        let last = (max as usize).min((min as usize).max(self.lead) + period);
        (min as usize..=last).any(|n| {
            let n = if n < self.lead { n } else { self.lead + (n - self.lead) % period };
            self.exists[n]
        })
    }
}

/// Residuals looked at for the lengths of a language.
const LENGTH_SEARCH: usize = 512;

/// Lengths looked at before the sets of residuals repeat.
const MOST_LENGTHS: usize = 4096;

impl Arena {
    /// Forgets the kind of the previous character where nothing asks for it.
    pub(crate) fn place(&self, e: ExprId, ctx: Ctx) -> (ExprId, Ctx) {
        let asks = self.looks(e);
        let relevant = (asks & looks::START != 0 && ctx == Ctx::Edge) || asks & looks::KINDS != 0;
        (e, if relevant { ctx } else { Ctx::Other })
    }

    /// Whether the empty text completes a place.
    pub(crate) fn accepts(&self, e: ExprId, ctx: Ctx) -> bool {
        self.nullable(e, ctx, Ctx::Edge)
    }

    /// Whether some text completes a place.
    ///
    /// # Errors
    /// `LimitExceeded` if the search spends the arena's budget.
    pub(crate) fn is_live(&mut self, e: ExprId, ctx: Ctx) -> Result<bool> {
        if e == EMPTY {
            return Ok(false);
        }
        let (e, ctx) = self.place(e, ctx);
        if self.is_plain(e) {
            return Ok(true);
        }
        if let Some(&known) = self.live.get(&(e, ctx)) {
            return Ok(known);
        }
        let alive = if self.is_pure(e) { self.pure_is_live(e)? } else { self.search(e, ctx)? };
        self.check()?;
        self.live.insert((e, ctx), alive);
        self.charge(24);
        Ok(alive)
    }

    fn pure_is_live(&mut self, e: ExprId) -> Result<bool> {
        let mut e = e;
        loop {
            self.spend(1);
            match self.node(e).clone() {
                _ if self.is_plain(e) => return Ok(e != EMPTY),
                _ if self.facts(e).nullable => return Ok(true),
                Expr::Concat(h, t) => {
                    if !self.is_live(h, Ctx::Other)? {
                        return Ok(false);
                    }
                    e = t;
                }
                Expr::Union(members) => {
                    for m in members {
                        if self.is_live(m, Ctx::Other)? {
                            return Ok(true);
                        }
                    }
                    return Ok(false);
                }
                Expr::Repeat { body, .. } => return self.is_live(body, Ctx::Other),
                Expr::Spell { inner, ctx, .. } => return self.is_live(inner, ctx),
                Expr::Inter(members) => {
                    return match self.interval_is_live(&members)? {
                        Some(answer) => Ok(answer),
                        None => self.search(e, Ctx::Other),
                    };
                }
                _ => return self.search(e, Ctx::Other),
            }
        }
    }

    /// `Y ∩ C{m,n}` without counting; `None` if only a search can tell.
    fn interval_is_live(&mut self, members: &[ExprId]) -> Result<Option<bool>> {
        // A counted class `C{m,n}` is `C* ∩ Σ{m,n}`.
        let counted = members.iter().enumerate().find_map(|(i, &m)| {
            self.counted_class(m).filter(|c| (c.1, c.2) != (0, INF)).map(|c| (i, c))
        });
        let Some((at, (class, min, max))) = counted else { return Ok(None) };
        let set = self.classes.get(class).to_vec();
        let class = self.class(set);
        let mut others = members.to_vec();
        others[at] = self.repeat(class, 0, INF);
        let rest = self.inter(&others);
        if rest == EMPTY {
            return Ok(Some(false));
        }
        let known = self.lengths_known(rest);
        if known.dense {
            return Ok(Some(known.min.max(min) <= known.max.min(max)));
        }
        let found = self.lengths(rest)?;
        if let Some(unary) = &found.unary {
            return Ok(Some(unary.meets(min, max)));
        }
        let Some(shortest) = found.shortest else { return Ok(Some(false)) };
        if shortest > max {
            return Ok(Some(false));
        }
        if shortest >= min || found.all_from.is_some_and(|all| all <= max) {
            return Ok(Some(true));
        }
        Ok(None)
    }

    /// Lengths of a pure residual's texts.
    ///
    /// # Errors
    /// As [`is_live`](Self::is_live).
    pub(crate) fn lengths(&mut self, e: ExprId) -> Result<Arc<Found>> {
        let known = self.lengths_known(e);
        if e == EMPTY {
            return Ok(Arc::new(Found { shortest: None, all_from: None, unary: None }));
        }
        if known.tight && known.dense {
            let all_from = (known.max == INF).then_some(known.min);
            return Ok(Arc::new(Found { shortest: Some(known.min), all_from, unary: None }));
        }
        if let Some(found) = self.lengths.get(&e) {
            return Ok(Arc::clone(found));
        }
        let found = Arc::new(self.search_lengths(e)?);
        self.check()?;
        self.charge(64 + found.unary.as_ref().map_or(0, |u| u.exists.len()));
        self.lengths.insert(e, Arc::clone(&found));
        Ok(found)
    }

    fn search_lengths(&mut self, e: ExprId) -> Result<Found> {
        // Breadth first: `edges[i]` leads from residual `i`; a residual may be dead.
        let mut states = vec![e];
        let mut index: FxHashMap<ExprId, usize> = FxHashMap::default();
        index.insert(e, 0);
        let mut depth = vec![0u32];
        let mut edges: Vec<Vec<usize>> = Vec::new();
        let mut shortest = None;
        let mut next = 0;
        while next < states.len() && (shortest.is_none() || states.len() < LENGTH_SEARCH) {
            let here = states[next];
            if shortest.is_none() && self.facts(here).nullable {
                shortest = Some(depth[next]);
            }
            let mut out = Vec::new();
            for (_, to) in self.disjoint(here, None, None, Ctx::Other).iter() {
                let i = *index.entry(*to).or_insert_with(|| {
                    states.push(*to);
                    depth.push(depth[next] + 1);
                    states.len() - 1
                });
                out.push(i);
            }
            self.check()?;
            edges.push(out);
            next += 1;
        }
        let Some(shortest) = shortest else {
            return Ok(Found { shortest: None, all_from: None, unary: None });
        };
        let complete = next == states.len();
        let accepting: Vec<bool> = states.iter().map(|&e| self.facts(e).nullable).collect();
        // Distance to a match, backwards over the residuals that were left.
        let mut back: Vec<Vec<usize>> = vec![Vec::new(); states.len()];
        for (from, out) in edges.iter().enumerate() {
            for &to in out {
                back[to].push(from);
            }
        }
        let mut to_match = vec![u32::MAX; states.len()];
        let mut todo: Vec<usize> = (0..states.len()).filter(|&i| accepting[i]).collect();
        todo.iter().for_each(|&i| to_match[i] = 0);
        let mut at = 0;
        while let Some(&i) = todo.get(at) {
            for &p in &back[i] {
                if to_match[p] == u32::MAX {
                    to_match[p] = to_match[i] + 1;
                    todo.push(p);
                }
            }
            at += 1;
        }
        let all_from = (0..edges.len())
            .filter(|&i| to_match[i] != u32::MAX && edges[i].contains(&i))
            .map(|i| depth[i] + to_match[i])
            .min();
        let unary = if complete { self.unary(&edges, &accepting) } else { None };
        Ok(Found { shortest: Some(shortest), all_from, unary })
    }

    /// The lengths of the texts of a whole graph of residuals that starts at the first.
    fn unary(&mut self, edges: &[Vec<usize>], accepting: &[bool]) -> Option<Unary> {
        let mut known: FxHashMap<Vec<u64>, usize> = FxHashMap::default();
        let mut exists = Vec::new();
        let words = edges.len().div_ceil(64);
        let mut set = vec![0u64; words];
        set[0] = 1;
        let members = |set: &[u64]| -> Vec<usize> {
            (0..edges.len()).filter(|&i| set[i / 64] >> (i % 64) & 1 == 1).collect()
        };
        while exists.len() < MOST_LENGTHS {
            let here = members(&set);
            if let Some(&lead) = known.get(&set) {
                return Some(Unary { exists, lead });
            }
            known.insert(set, exists.len());
            exists.push(here.iter().any(|&i| accepting[i]));
            set = vec![0; words];
            for i in here {
                if self.spend(edges[i].len() / 16) {
                    return None;
                }
                edges[i].iter().for_each(|&to| set[to / 64] |= 1 << (to % 64));
            }
        }
        None
    }

    /// The class of characters that lead a pure residual to itself, counts aside, and how many of
    /// them keep it alive.
    pub(super) fn own_loop(&mut self, e: ExprId) -> Result<Option<(Arc<[Range]>, u32)>> {
        if !self.is_pure(e) {
            return Ok(None);
        }
        let mut whole = e;
        let mut max = INF;
        if let Expr::Inter(members) = self.node(e).clone() {
            let counted = members.iter().position(|&m| {
                self.counted_class(m).is_some_and(|(_, min, max)| (min, max) != (0, INF))
            });
            if let Some(at) = counted
                && let Some((class, _, n)) = self.counted_class(members[at])
            {
                let set = self.classes.get(class).to_vec();
                let class = self.class(set);
                let mut others = members.to_vec();
                others[at] = self.repeat(class, 0, INF);
                whole = self.inter(&others);
                let Some(shortest) = self.lengths(whole)?.shortest else { return Ok(None) };
                max = if n == INF { INF } else { n.saturating_sub(shortest) };
            }
        }
        let blocks = self.disjoint(whole, None, None, Ctx::Other);
        self.check()?;
        let own = blocks.iter().find(|b| b.1 == whole && max > 0);
        Ok(own.map(|b| (Arc::clone(self.classes.get(b.0)), max)))
    }

    /// How far a place seems to be from a match: the members of an intersection each still need
    /// their shortest text, and what helps one of them mostly does not hurt the others.
    fn distance(&self, e: ExprId) -> u64 {
        match self.node(e) {
            Expr::Inter(members) => {
                members.iter().map(|&m| u64::from(self.lengths_known(m).min)).sum()
            }
            _ => self.lengths_known(e).min.into(),
        }
    }

    /// Over places, those that seem nearest to a match first.
    fn search(&mut self, e: ExprId, ctx: Ctx) -> Result<bool> {
        let mut seen = vec![(e, ctx)];
        let mut from = vec![usize::MAX];
        let mut known: FxHashSet<(ExprId, Ctx)> = FxHashSet::default();
        known.insert((e, ctx));
        let mut first = true;
        let mut open = BinaryHeap::from([(Reverse(self.distance(e)), Reverse(0))]);
        while let Some((_, Reverse(next))) = open.pop() {
            let (e, ctx) = seen[next];
            let whole = std::mem::take(&mut first);
            let alive = match self.live.get(&(e, ctx)) {
                Some(&answer) => Some(answer),
                None if self.is_plain(e) || self.accepts(e, ctx) => Some(true),
                // What is made of parts lives as they do; an intersection may know its lengths.
                None if !whole && self.is_pure(e) => match self.node(e).clone() {
                    Expr::Inter(members) => self.interval_is_live(&members)?,
                    Expr::Not(_) => None,
                    _ => Some(self.is_live(e, ctx)?),
                },
                None => None,
            };
            if alive == Some(true) {
                let mut i = next;
                while i != usize::MAX {
                    self.live.insert(seen[i], true);
                    i = from[i];
                }
                return Ok(true);
            }
            if alive.is_none() {
                for (rest, ctx) in self.followers(e, ctx)? {
                    let to = self.place(rest, ctx);
                    if known.insert(to) {
                        open.push((Reverse(self.distance(to.0)), Reverse(seen.len())));
                        seen.push(to);
                        from.push(next);
                    }
                }
            }
        }
        self.charge(seen.len() * 24);
        for place in seen {
            self.live.insert(place, false);
        }
        Ok(false)
    }

    /// The places one character further.
    fn followers(&mut self, e: ExprId, ctx: Ctx) -> Result<Vec<(ExprId, Ctx)>> {
        let out = if self.is_pure(e) {
            let pairs = self.disjoint(e, None, None, Ctx::Other);
            pairs.iter().map(|p| (p.1, Ctx::Other)).collect()
        } else {
            let cuts = self.cuts(e, ctx);
            cuts.iter()
                .flat_map(|cut| cut.rests.iter().map(|&r| (r, cut.ctx)))
                .filter(|p| p.0 != EMPTY)
                .collect()
        };
        self.check()?;
        Ok(out)
    }

    /// Whether no text matches.
    ///
    /// # Errors
    /// As [`is_live`](Self::is_live).
    pub(crate) fn is_empty(&mut self, e: ExprId) -> Result<bool> {
        Ok(!self.is_live(e, Ctx::Edge)?)
    }

    /// Whether every text of `b` is one of `a`.
    ///
    /// # Errors
    /// As [`is_live`](Self::is_live).
    pub(crate) fn includes(&mut self, a: ExprId, b: ExprId) -> Result<bool> {
        let left = self.minus(b, a);
        self.is_empty(left)
    }

    /// Whether a text matches.
    ///
    /// # Errors
    /// `LimitExceeded` over the arena's budget.
    pub(crate) fn matches(&mut self, e: ExprId, text: &str) -> Result<bool> {
        let mut here = self.place(e, Ctx::Edge);
        for c in text.chars() {
            here = self.derive(here.0, here.1, c.into())?;
            if here.0 == EMPTY {
                return Ok(false);
            }
        }
        Ok(self.accepts(here.0, here.1))
    }

    /// The place after one character.
    ///
    /// # Errors
    /// `LimitExceeded` over the arena's budget.
    pub(crate) fn derive(&mut self, e: ExprId, ctx: Ctx, c: u32) -> Result<(ExprId, Ctx)> {
        for cut in self.cuts(e, ctx) {
            let shape = Arc::clone(self.shape(cut.shape));
            let i = shape.intervals.partition_point(|r| r.1 < c);
            if let Some(&(lo, _, block)) = shape.intervals.get(i)
                && lo <= c
            {
                self.check()?;
                return Ok(self.place(cut.rests[block as usize], cut.ctx));
            }
        }
        self.check()?;
        Ok((EMPTY, Ctx::Other))
    }

    /// The texts, if there are at most `most` of them; shortest first, then by code points.
    ///
    /// # Errors
    /// As [`is_live`](Self::is_live).
    pub(crate) fn finite_words(&mut self, e: ExprId, most: usize) -> Result<Option<Vec<String>>> {
        let mut out = Vec::new();
        let mut layer = vec![(self.place(e, Ctx::Edge), String::new())];
        while !layer.is_empty() {
            let mut next = Vec::new();
            for ((e, ctx), text) in layer {
                if !self.is_live(e, ctx)? {
                    continue;
                }
                if self.accepts(e, ctx) {
                    out.push(text.clone());
                }
                let mut steps: Vec<(char, (ExprId, Ctx))> = Vec::new();
                for cut in self.cuts(e, ctx) {
                    let shape = Arc::clone(self.shape(cut.shape));
                    for &(lo, hi, block) in &shape.intervals {
                        let to = self.place(cut.rests[block as usize], cut.ctx);
                        if to.0 == EMPTY || !self.is_live(to.0, to.1)? {
                            continue;
                        }
                        let chars = (lo..=hi).filter_map(char::from_u32);
                        steps.extend(chars.take(most + 1).map(|c| (c, to)));
                        if steps.len() + next.len() > most {
                            return Ok(None);
                        }
                    }
                }
                self.check()?;
                steps.sort_unstable_by_key(|s| s.0);
                next.extend(steps.into_iter().map(|(c, to)| (to, format!("{text}{c}"))));
            }
            // Distinct live prefixes: each is the beginning of a text of its own.
            if out.len() + next.len() > most {
                return Ok(None);
            }
            layer = next;
        }
        Ok(Some(out))
    }

    pub(super) fn nullable_at(&self, e: ExprId, at: Between) -> bool {
        let (prev, next) = at.unwrap_or((Ctx::Other, Ctx::Other));
        self.nullable(e, prev, next)
    }
}
