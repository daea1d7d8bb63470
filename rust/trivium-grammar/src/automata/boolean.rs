//! Intersection, complement and difference, with the identities that keep residuals few.
//!
//! ```text
//! X ∩ ∅ = ∅   X ∩ Σ* = X   X ∩ ¬X = ∅   ¬¬X = X   ¬X ∩ ¬Y = ¬(X ∪ Y)
//! ε ∩ X = ε or ∅                C ∩ D: one class          C{a,b} ∩ D{c,d} = (C∩D){max,min}
//! ∅ if no length is possible    Σ{a,b} drops out where it says nothing
//! ```
//!
//! An intersection has at most one complement and at most one length interval `Σ{a,b}`.

use super::charset;
use super::expr::{Arena, EMPTY, EPSILON, Expr, ExprId, INF, looks};

impl Arena {
    /// Every text that `e` does not match.
    pub(crate) fn not(&mut self, e: ExprId) -> ExprId {
        match *self.node(e) {
            Expr::Empty => self.top(),
            Expr::Not(x) => x,
            _ if e == self.top() => EMPTY,
            _ => self.intern(Expr::Not(e)),
        }
    }

    /// The texts of `a` that are not texts of `b`.
    pub(crate) fn minus(&mut self, a: ExprId, b: ExprId) -> ExprId {
        let b = self.not(b);
        self.inter(&[a, b])
    }

    /// Zero-width: all that follows is a text of `e`.
    pub(crate) fn ahead(&mut self, e: ExprId) -> ExprId {
        match e {
            EMPTY => EMPTY,
            e if e == self.top() => EPSILON,
            e => self.intern(Expr::Ahead(e)),
        }
    }

    /// Zero-width: `e`, derived by all that was read from the start of the text, is nullable.
    pub(crate) fn behind(&mut self, e: ExprId) -> ExprId {
        match e {
            EMPTY => EMPTY,
            e if e == self.top() => EPSILON,
            e => self.intern(Expr::Behind(e)),
        }
    }

    /// `C` and its counts, if `e` is a counted class.
    pub(super) fn counted_class(&self, e: ExprId) -> Option<(u32, u32, u32)> {
        match *self.node(e) {
            Expr::Class(c) => Some((c, 1, 1)),
            Expr::Repeat { body, min, max } => match *self.node(body) {
                Expr::Class(c) => Some((c, min, max)),
                _ => None,
            },
            _ => None,
        }
    }

    /// The interval, if `e` is `Σ{a,b}`.
    pub(super) fn length_interval(&self, e: ExprId) -> Option<(u32, u32)> {
        let (class, min, max) = self.counted_class(e)?;
        (self.classes.get(class)[..] == [(0, charset::MAX)]).then_some((min, max))
    }

    /// Texts that all `members` match.
    pub(crate) fn inter(&mut self, members: &[ExprId]) -> ExprId {
        if let [one] = members {
            return *one;
        }
        let mut flat: Vec<ExprId> = Vec::with_capacity(members.len());
        let mut refused: Vec<ExprId> = Vec::new();
        for &m in members {
            match self.node(m) {
                Expr::Empty => return EMPTY,
                Expr::Inter(inner) => {
                    for &m in inner {
                        match self.node(m) {
                            Expr::Not(x) => refused.push(*x),
                            _ => flat.push(m),
                        }
                    }
                }
                Expr::Not(x) => refused.push(*x),
                _ if m == self.top() => {}
                _ => flat.push(m),
            }
        }
        self.spend(flat.len() + refused.len());
        if !refused.is_empty() {
            let any = self.union(&refused);
            let none = self.not(any);
            match none {
                EMPTY => return EMPTY,
                x if x == self.top() => {}
                x => flat.push(x),
            }
        }
        self.join_counted(&mut flat);
        flat.sort_unstable();
        flat.dedup();
        if flat.contains(&EMPTY) {
            return EMPTY;
        }
        if flat.contains(&EPSILON) && flat.iter().all(|&m| self.is_pure(m)) {
            let all = flat.iter().all(|&m| self.facts(m).nullable);
            return if all { EPSILON } else { EMPTY };
        }
        for &m in &flat {
            if let Expr::Not(x) = *self.node(m)
                && flat.binary_search(&x).is_ok()
            {
                return EMPTY;
            }
        }
        if flat.iter().all(|&m| self.looks(m) & looks::AHEAD == 0) {
            let min = flat.iter().map(|&m| self.lengths_known(m).min).max().unwrap_or(0);
            let max = flat.iter().map(|&m| self.lengths_known(m).max).min().unwrap_or(INF);
            if min > max {
                return EMPTY;
            }
        }
        match flat[..] {
            [] => self.top(),
            [one] => one,
            _ => self.intern(Expr::Inter(flat.into())),
        }
    }

    /// Joins the counted classes of an intersection, and drops a length interval that holds anyway.
    fn join_counted(&mut self, flat: &mut Vec<ExprId>) {
        let mut joined: Option<(Vec<charset::Range>, u32, u32)> = None;
        let mut interval: Option<(u32, u32)> = None;
        for &m in flat.iter() {
            if let Some((min, max)) = self.length_interval(m) {
                let known = interval.unwrap_or((0, INF));
                interval = Some((known.0.max(min), known.1.min(max)));
            } else if let Some((class, min, max)) = self.counted_class(m) {
                let set = self.classes.get(class);
                joined = Some(match joined {
                    None => (set.to_vec(), min, max),
                    Some((other, a, b)) => {
                        (charset::intersect(&other, set), a.max(min), b.min(max))
                    }
                });
            }
        }
        if joined.is_none() && interval.is_none() {
            return;
        }
        flat.retain(|&m| self.counted_class(m).is_none());
        if let Some((set, mut min, mut max)) = joined {
            if let Some((a, b)) = interval.take() {
                (min, max) = (min.max(a), max.min(b));
            }
            let e = if min > max {
                EMPTY
            } else if set.is_empty() {
                if min == 0 { EPSILON } else { EMPTY }
            } else {
                let class = self.class(set);
                self.repeat(class, min, max)
            };
            flat.push(e);
        }
        if let Some((min, max)) = interval {
            let holds = flat.iter().any(|&m| {
                let l = self.lengths_known(m);
                self.is_pure(m) && min <= l.min && l.max <= max
            });
            if min > max {
                flat.push(EMPTY);
            } else if !holds || flat.is_empty() {
                let e = self.of_length(min, max);
                flat.push(e);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities() {
        let mut a = Arena::new(1 << 20);
        let x = a.literal("ab");
        let y = a.literal("abc");
        let (nx, ny) = (a.not(x), a.not(y));
        assert_eq!(a.not(nx), x);
        assert_eq!(a.inter(&[x, nx]), EMPTY);
        assert_eq!(a.union(&[x, nx]), a.top());
        assert_eq!(a.inter(&[x, y]), EMPTY);
        let either = a.union(&[x, y]);
        let neither = a.not(either);
        assert_eq!(a.inter(&[nx, ny]), neither);
        let class = a.class(vec![(97, 122)]);
        let word = a.repeat(class, 1, INF);
        let short = a.of_length(0, 9);
        let both = a.repeat(class, 1, 9);
        assert_eq!(a.inter(&[word, short]), both);
        assert_eq!(a.inter(&[both, short]), both);
        assert_eq!(a.inter(&[word, EPSILON]), EMPTY);
    }
}
