//! From a parsed pattern to an expression, look-around and back-references included.
//!
//! Lowering goes from right to left and knows what follows (`tail`). Where that is *all* that follows,
//! conditions on the rest of the text become intersections at once,
//!
//! ```text
//! (?=X) C  =  XΣ* ∩ C       (?!X) C  =  C ∖ XΣ*       $ C  =  ε ∩ C
//! ```
//!
//! so most patterns end up without any predicate. Inside a loop what follows is not known yet; there the
//! condition stays a node that derivatives discharge. Look-behind `(?<=X)` carries the residual of
//! `Σ*X`, derived by every character.
//!
//! A back-reference is expanded: the pattern becomes the union over the texts of its group, at most
//! [`MOST_TEXTS`] altogether.

use super::classes;
use super::strip_start;
use super::tree::Tree;
use crate::automata::expr::{Arena, EMPTY, EPSILON, ExprId, looks};
use crate::error::{Error, Result};
use regex_syntax::hir::Look;
use rustc_hash::FxHashMap;

/// Assignments of texts to groups that are referred to.
const MOST_TEXTS: usize = 64;

fn unsupported(feature: &str, hint: &str) -> Error {
    Error::UnsupportedPattern {
        feature: feature.into(),
        at: "in the pattern".into(),
        hint: hint.into(),
    }
}

struct Lowering<'a> {
    arena: &'a mut Arena,
    /// What groups that are referred to match.
    texts: FxHashMap<u32, String>,
}

/// The texts that match as a whole (`full`), or contain a match.
pub(super) fn lower(arena: &mut Arena, tree: &Tree, full: bool) -> Result<ExprId> {
    let mut referred = Vec::new();
    references(tree, &mut referred);
    let assignments = assign(arena, tree, &referred)?;
    let mut members = Vec::with_capacity(assignments.len());
    for texts in assignments {
        let mut lowering = Lowering { arena: &mut *arena, texts };
        let tail = if full { EPSILON } else { lowering.arena.top() };
        let e = lowering.before(tree, tail, true)?;
        arena.check()?;
        members.push(if full { strip_start(arena, e) } else { after_anything(arena, e) });
    }
    let out = arena.union(&members);
    arena.check()?;
    Ok(out)
}

/// `Σ*e`, with the start of the text resolved.
fn after_anything(arena: &mut Arena, e: ExprId) -> ExprId {
    let top = arena.top();
    if arena.looks(e) & looks::START == 0 {
        return arena.concat(top, e);
    }
    let first = strip_start(arena, e);
    let later = arena.after_start(e);
    let some = arena.of_length(1, crate::automata::expr::INF);
    let later = arena.concat(some, later);
    arena.union(&[first, later])
}

fn references(tree: &Tree, out: &mut Vec<u32>) {
    if let Tree::Back(n, _) = tree
        && !out.contains(n)
    {
        out.push(*n);
    }
    tree.children().iter().for_each(|c| references(c, out));
}

/// All ways to fix the texts of the groups that are referred to.
fn assign(arena: &mut Arena, tree: &Tree, referred: &[u32]) -> Result<Vec<FxHashMap<u32, String>>> {
    let mut out: Vec<FxHashMap<u32, String>> = vec![FxHashMap::default()];
    for &n in referred {
        let Some(body) = once(tree, n) else {
            return Err(unsupported(
                "a back-reference to a group inside a loop, an alternative or a look-around",
                "write the cases out",
            ));
        };
        if body.looks() || body.any(&|t| matches!(t, Tree::Back(..))) {
            return Err(unsupported(
                "a back-reference to a group with look-around or back-references",
                "write the cases out",
            ));
        }
        if body.any(&|t| matches!(t, Tree::Group(m, _) if referred.contains(m))) {
            return Err(unsupported("back-references to nested groups", "write the cases out"));
        }
        let mut lowering = Lowering { arena: &mut *arena, texts: FxHashMap::default() };
        let e = lowering.before(body, EPSILON, false)?;
        let words = arena.finite_words(e, MOST_TEXTS)?;
        let Some(words) = words.filter(|w| w.len() * out.len() <= MOST_TEXTS) else {
            return Err(unsupported(
                "a back-reference to a group of more than 64 texts",
                "the language would not be regular, or too large",
            ));
        };
        out = out
            .iter()
            .flat_map(|texts| {
                words.iter().map(|w| {
                    let mut texts = texts.clone();
                    texts.insert(n, w.clone());
                    texts
                })
            })
            .collect();
    }
    Ok(out)
}

/// The body of group `n`, if every match passes it exactly once.
fn once(tree: &Tree, n: u32) -> Option<&Tree> {
    match tree {
        Tree::Group(m, body) if *m == n => Some(body),
        Tree::Group(_, body) | Tree::Repeat { body, min: 1, max: 1 } => once(body, n),
        Tree::Cat(parts) => {
            // A reference before its group would mean something else.
            let at = parts.iter().position(|p| once(p, n).is_some())?;
            let before =
                parts[..at].iter().any(|p| p.any(&|t| matches!(t, Tree::Back(m, _) if *m == n)));
            if before { None } else { once(&parts[at], n) }
        }
        _ => None,
    }
}

/// Whether the empty text can match, conditions met.
fn can_be_empty(tree: &Tree) -> bool {
    match tree {
        Tree::Class(_) => false,
        Tree::Cat(parts) => parts.iter().all(can_be_empty),
        Tree::Alt(parts) => parts.iter().any(can_be_empty),
        Tree::Repeat { body, min, .. } => *min == 0 || can_be_empty(body),
        Tree::Group(_, body) => can_be_empty(body),
        _ => true,
    }
}

impl Lowering<'_> {
    /// `tree` followed by `tail`; `whole` if nothing else follows.
    fn before(&mut self, tree: &Tree, tail: ExprId, whole: bool) -> Result<ExprId> {
        if self.arena.spend(1) {
            self.arena.check()?;
        }
        Ok(match tree {
            Tree::Empty => tail,
            Tree::Class(ranges) => {
                let class = self.arena.class(ranges.clone());
                self.arena.concat(class, tail)
            }
            Tree::Cat(parts) => {
                let mut e = tail;
                for part in parts.iter().rev() {
                    e = self.before(part, e, whole)?;
                }
                e
            }
            Tree::Alt(parts) if whole && tree.looks() => {
                let mut members = Vec::with_capacity(parts.len());
                for part in parts {
                    members.push(self.before(part, tail, true)?);
                }
                self.arena.union(&members)
            }
            Tree::Alt(parts) => {
                let mut members = Vec::with_capacity(parts.len());
                for part in parts {
                    members.push(self.before(part, EPSILON, false)?);
                }
                let any = self.arena.union(&members);
                self.arena.concat(any, tail)
            }
            Tree::Repeat { body, min: 0, max: 1 } if whole && body.looks() => {
                let with = self.before(body, tail, true)?;
                self.arena.union(&[tail, with])
            }
            Tree::Repeat { body, min, max } => {
                if *min > 1
                    && can_be_empty(body)
                    && body.any(&|t| matches!(t, Tree::Ahead { .. } | Tree::EndOrLastLine))
                {
                    return Err(unsupported(
                        "a counted loop whose body is empty where a look-ahead holds",
                        "move the look-ahead out of the loop",
                    ));
                }
                let body = self.before(body, EPSILON, false)?;
                let repeat = self.arena.repeat(body, *min, *max);
                self.arena.concat(repeat, tail)
            }
            Tree::Group(n, body) => match self.texts.get(n).cloned() {
                Some(text) => self.text(&text, false, tail),
                None => self.before(body, tail, whole)?,
            },
            Tree::Back(n, ignore_case) => {
                let text = self.texts.get(n).cloned().unwrap_or_default();
                self.text(&text, *ignore_case, tail)
            }
            Tree::Look(Look::End) if whole && self.arena.is_pure(tail) => {
                self.arena.inter(&[EPSILON, tail])
            }
            Tree::Look(look) => {
                let look = self.arena.look(*look);
                self.arena.concat(look, tail)
            }
            Tree::EndOrLastLine => {
                let line = self.arena.literal("\n");
                let rest = self.arena.repeat(line, 0, 1);
                self.demand(rest, tail, whole)
            }
            Tree::Ahead { negated, body } => {
                let top = self.arena.top();
                let mut rest = self.before(body, top, true)?;
                if *negated {
                    rest = self.arena.not(rest);
                }
                self.demand(rest, tail, whole)
            }
            Tree::Behind { negated, body } => {
                let body = self.before(body, EPSILON, false)?;
                let mut read = after_anything(self.arena, body);
                if !self.arena.is_pure(read) {
                    return Err(unsupported(
                        "a look-behind with position predicates or look-around inside",
                        "use characters only",
                    ));
                }
                if *negated {
                    read = self.arena.not(read);
                }
                let behind = self.arena.behind(read);
                self.arena.concat(behind, tail)
            }
        })
    }

    /// `tail`, if all that follows is a text of `rest`.
    fn demand(&mut self, rest: ExprId, tail: ExprId, whole: bool) -> ExprId {
        if whole {
            return self.arena.inter(&[rest, tail]);
        }
        let ahead = self.arena.ahead(rest);
        if ahead == EMPTY { EMPTY } else { self.arena.concat(ahead, tail) }
    }

    fn text(&mut self, text: &str, ignore_case: bool, tail: ExprId) -> ExprId {
        let mut e = tail;
        for c in text.chars().rev() {
            let one = vec![(c.into(), c.into())];
            let class = self.arena.class(if ignore_case { classes::fold(one) } else { one });
            e = self.arena.concat(class, e);
        }
        e
    }
}
