//! What is known of an expression the moment it is made, from its parts.

use super::expr::{Arena, Expr, INF, looks};
use super::look::{self, At};
use regex_syntax::hir::Look;

/// Deepest nesting; every function that follows the structure recurses at most so often.
pub(crate) const MAX_DEPTH: u16 = 1000;

/// Lengths of the texts of a pure expression, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lengths {
    /// No text is shorter.
    pub(crate) min: u32,
    /// No text is longer; [`INF`] without a bound.
    pub(crate) max: u32,
    /// A text of `min` characters exists.
    pub(crate) tight: bool,
    /// A text of every length from `min` to `max` exists.
    pub(crate) dense: bool,
}

impl Lengths {
    const ANY: Self = Self { min: 0, max: INF, tight: false, dense: false };
    const ONE: Self = Self::exact(1);

    const fn exact(n: u32) -> Self {
        Self { min: n, max: n, tight: true, dense: true }
    }

    fn then(self, b: Self) -> Self {
        Self {
            min: self.min.saturating_add(b.min).min(INF - 1),
            max: self.max.saturating_add(b.max),
            tight: self.tight && b.tight,
            dense: self.dense && b.dense,
        }
    }

    fn or(self, b: Self) -> Self {
        let (low, high) = if self.min <= b.min { (self, b) } else { (b, self) };
        Self {
            min: low.min,
            max: self.max.max(b.max),
            tight: low.tight || (high.min == low.min && high.tight),
            dense: self.dense && b.dense && high.min <= low.max.saturating_add(1),
        }
    }

    fn times(self, min: u32, max: u32) -> Self {
        let all = |n: u32, k: u32| match (n, k) {
            (0, _) | (_, 0) => 0,
            (INF, _) | (_, INF) => INF,
            (n, k) => n.saturating_mul(k),
        };
        let low = all(self.min, min).min(INF - 1);
        // `k` and `k + 1` rounds leave no length out, for the least `k` and so for all.
        let joined = u64::from(self.min) * (u64::from(min) + 1)
            <= u64::from(self.max).saturating_mul(min.into()).saturating_add(1);
        Self {
            min: low,
            max: all(self.max, max),
            tight: min == 0 || self.tight,
            dense: self.dense && (joined || min == max),
        }
    }
}

/// See the module comment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts {
    /// Whether the empty text matches wherever it stands; exact for pure nodes.
    pub(crate) nullable: bool,
    pub(crate) looks: u8,
    pub(crate) plain: bool,
    pub(crate) lengths: Lengths,
    pub(crate) depth: u16,
}

fn asks(look: Look) -> u8 {
    match look {
        Look::Start => looks::START,
        Look::End => looks::END,
        Look::StartLF | Look::EndLF | Look::StartCRLF | Look::EndCRLF => looks::LINE,
        l if look::is_unicode(l) => looks::WORD | looks::UNI_WORD,
        _ => looks::WORD,
    }
}

impl Arena {
    pub(super) fn facts_of(&self, node: &Expr) -> Facts {
        let f = |e: u32| self.facts(e);
        let leaf = |nullable, lengths| Facts { nullable, looks: 0, plain: true, lengths, depth: 0 };
        match node {
            Expr::Empty => {
                leaf(false, Lengths { min: INF - 1, max: 0, tight: false, dense: false })
            }
            Expr::Epsilon => leaf(true, Lengths::exact(0)),
            Expr::Class(_) => leaf(false, Lengths::ONE),
            Expr::Number(n) => leaf(self.numbers.accepts(*n), Lengths::ANY),
            Expr::Look(At(look)) => {
                Facts { looks: asks(*look), plain: false, ..leaf(false, Lengths::ANY) }
            }
            // A chain leans right and is followed by loops: its tail adds no depth, and is not even
            // entered behind a head that must consume.
            Expr::Concat(a, b) => {
                let (a, b) = (f(*a), f(*b));
                let entered = a.nullable || !a.plain || !b.plain;
                Facts {
                    nullable: a.nullable && b.nullable,
                    looks: a.looks | b.looks,
                    plain: a.plain && b.plain,
                    lengths: a.lengths.then(b.lengths),
                    depth: (a.depth + 1).max(if entered { b.depth } else { 0 }),
                }
            }
            Expr::Union(members) => self.fold(members, false, |a, b| a || b, Lengths::or),
            Expr::Inter(members) => {
                let both = |a: Lengths, b: Lengths| Lengths {
                    min: a.min.max(b.min),
                    max: a.max.min(b.max),
                    tight: false,
                    dense: false,
                };
                let all = self.fold(members, true, |a, b| a && b, both);
                Facts { plain: false, ..all }
            }
            Expr::Repeat { body, min, max } => {
                let b = f(*body);
                Facts {
                    nullable: *min == 0 || b.nullable,
                    looks: b.looks,
                    plain: b.plain,
                    lengths: b.lengths.times(*min, *max),
                    depth: b.depth + 1,
                }
            }
            Expr::Not(x) => {
                let x = f(*x);
                Facts {
                    nullable: !x.nullable && x.looks == 0,
                    looks: x.looks,
                    plain: false,
                    lengths: Lengths::ANY,
                    depth: x.depth + 1,
                }
            }
            Expr::Ahead(x) => {
                let x = f(*x);
                let looks = x.looks | looks::AHEAD;
                Facts { looks, plain: false, depth: x.depth + 1, ..leaf(false, Lengths::ANY) }
            }
            Expr::Behind(x) => {
                let x = f(*x);
                let looks = x.looks | looks::BEHIND;
                Facts { looks, plain: false, depth: x.depth + 1, ..leaf(false, Lengths::ANY) }
            }
            // Predicates of the decoded text are its own: the spelled text is pure.
            Expr::Spell { inner, ctx, .. } => {
                let x = f(*inner);
                Facts {
                    nullable: self.nullable(*inner, *ctx, look::Ctx::Edge),
                    looks: 0,
                    plain: false,
                    lengths: Lengths { min: x.lengths.min, ..Lengths::ANY },
                    depth: x.depth + 1,
                }
            }
        }
    }

    fn fold(
        &self,
        members: &[u32],
        start: bool,
        nullable: impl Fn(bool, bool) -> bool,
        lengths: impl Fn(Lengths, Lengths) -> Lengths,
    ) -> Facts {
        let mut out: Option<Facts> = None;
        for &m in members {
            let m = self.facts(m);
            out = Some(match out {
                None => Facts { depth: m.depth + 1, nullable: nullable(start, m.nullable), ..m },
                Some(a) => Facts {
                    nullable: nullable(a.nullable, m.nullable),
                    looks: a.looks | m.looks,
                    plain: a.plain && m.plain,
                    lengths: lengths(a.lengths, m.lengths),
                    depth: a.depth.max(m.depth + 1),
                },
            });
        }
        // Unions and intersections have at least two members.
        out.unwrap_or(Facts {
            nullable: start,
            looks: 0,
            plain: true,
            lengths: Lengths::ANY,
            depth: 0,
        })
    }
}
