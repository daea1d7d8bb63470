//! Patterns as residual expressions.
//!
//! The `rust` dialect is parsed by `regex-syntax` and lowered here; the `ecma` and `python` dialects
//! have a parser ([`parser`]) and a lowering ([`lower`]) of their own, with look-around and
//! back-references to groups of few strings.
//!
//! The language of a pattern is what `regex` would match from the first to the last character
//! (`full`), or what contains a match (`Σ* P Σ*`). Lazy quantifiers match the same texts as greedy
//! ones and groups only group. Predicates that are true because they stand at an end of a full
//! match (`^abc$`) are removed here; all others stay, as `End` in front of anything that must
//! consume is already ∅.

mod classes;
mod cost;
pub(crate) mod ecma;
pub(crate) mod formats;
mod lower;
mod parser;
mod tree;

pub(crate) use classes::fold;

use crate::automata::charset::Range;
use crate::automata::expr::{Arena, EMPTY, EPSILON, Expr, ExprId, INF};
use crate::automata::look::At;
use crate::error::{Error, Result};
use crate::limits::CompileLimits;
use regex_syntax::ast;
use regex_syntax::hir::translate::TranslatorBuilder;
use regex_syntax::hir::{Class, Hir, HirKind, Look};

/// Nesting the parser accepts; bounds the recursion of everything after it.
const NEST_LIMIT: u32 = 250;

/// How a pattern is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dialect {
    /// The syntax of the `regex` crate, Unicode on.
    #[default]
    Rust,
    /// ECMA-262, as JSON Schema uses it.
    Ecma,
    /// Python's `re` for `str`.
    Python,
}

/// Parses a pattern of the `rust` dialect.
///
/// # Errors
/// `InvalidGrammar` with the offset; `LimitExceeded` where its classes alone pass the byte budget or
/// groups nest too deeply.
pub fn parse(pattern: &str, limits: &CompileLimits) -> Result<Hir> {
    let syntax =
        |offset: usize, why: String| Error::InvalidGrammar { what: "pattern", offset, why };
    let tree =
        ast::parse::ParserBuilder::new().nest_limit(NEST_LIMIT).build().parse(pattern).map_err(
            |e| match e.kind() {
                ast::ErrorKind::NestLimitExceeded(n) => {
                    Error::limit("pattern nesting", u64::from(*n) + 1, u64::from(*n))
                }
                kind => syntax(e.span().start.offset, hint(&kind.to_string(), e.kind())),
            },
        )?;
    cost::check(&tree, limits)?;
    TranslatorBuilder::new()
        .utf8(true)
        .build()
        .translate(pattern, &tree)
        .map_err(|e| syntax(e.span().start.offset, e.kind().to_string()))
}

/// Says what to do about constructs people try.
fn hint(message: &str, kind: &ast::ErrorKind) -> String {
    match kind {
        ast::ErrorKind::UnsupportedLookAround => {
            format!("{message}; rewrite the pattern without look-around")
        }
        ast::ErrorKind::UnsupportedBackreference => {
            format!("{message}; the language would not be regular")
        }
        _ => message.to_owned(),
    }
}

/// The texts of a pattern: matched as a whole (`full`), or containing a match.
///
/// # Errors
/// As [`parse`]; `UnsupportedPattern` for a construct that is not served.
pub(crate) fn compile(
    arena: &mut Arena,
    pattern: &str,
    dialect: Dialect,
    full: bool,
    limits: &CompileLimits,
) -> Result<ExprId> {
    if dialect != Dialect::Rust {
        let tree = parser::Parser::new(pattern, dialect, limits.max_bytes).parse()?;
        return lower::lower(arena, &tree, full);
    }
    let hir = parse(pattern, limits)?;
    lower(arena, &hir, full)
}

/// The residual of a whole pattern.
fn lower(arena: &mut Arena, hir: &Hir, full: bool) -> Result<ExprId> {
    let tail = if full { EPSILON } else { arena.top() };
    let expr = lower_before(arena, hir, tail)?;
    let expr = if full { expr } else { arena.concat(arena.top(), expr) };
    let expr = strip_end(arena, expr);
    Ok(strip_start(arena, expr))
}

fn ranges(class: &regex_syntax::hir::ClassUnicode) -> Vec<Range> {
    class.iter().map(|r| (u32::from(r.start()), u32::from(r.end()))).collect()
}

/// `hir` followed by `tail`.
///
/// Knowing the tail lets `End` cancel what cannot follow; alternations are multiplied out only where
/// a predicate may need that.
fn lower_before(arena: &mut Arena, hir: &Hir, tail: ExprId) -> Result<ExprId> {
    let expr = match hir.kind() {
        HirKind::Empty => EPSILON,
        HirKind::Literal(text) => {
            let text = std::str::from_utf8(&text.0).map_err(|_| Error::UnsupportedPattern {
                feature: "a literal that is not UTF-8".into(),
                at: format!("in {:?}", text.0),
                hint: "texts are UTF-8; write characters".into(),
            })?;
            let mut expr = tail;
            for c in text.chars().rev() {
                let one = arena.class(vec![(u32::from(c), u32::from(c))]);
                expr = arena.concat(one, expr);
            }
            return Ok(expr);
        }
        HirKind::Class(Class::Unicode(class)) => {
            let ranges = ranges(class);
            arena.class(ranges)
        }
        HirKind::Class(Class::Bytes(class)) => {
            if class.iter().any(|r| r.end() > 0x7f) {
                return Err(Error::UnsupportedPattern {
                    feature: "a class of bytes beyond ASCII".into(),
                    at: format!("in {class:?}"),
                    hint: "texts are UTF-8; leave out (?-u)".into(),
                });
            }
            arena.class(class.iter().map(|r| (r.start().into(), r.end().into())).collect())
        }
        HirKind::Look(look) => arena.look(*look),
        HirKind::Repetition(r) => {
            let max = match r.max {
                None => INF,
                Some(INF) => {
                    return Err(Error::limit("repetition count", INF.into(), u64::from(INF) - 1));
                }
                Some(n) => n,
            };
            let body = lower_before(arena, &r.sub, EPSILON)?;
            arena.repeat(body, r.min, max)
        }
        HirKind::Capture(c) => return lower_before(arena, &c.sub, tail),
        HirKind::Concat(parts) => {
            let mut expr = tail;
            for part in parts.iter().rev() {
                expr = lower_before(arena, part, expr)?;
            }
            return Ok(expr);
        }
        HirKind::Alternation(parts) => {
            // Only before the very end: elsewhere unions would nest as deep as the pattern is long.
            let last = tail == EPSILON || tail == arena.top();
            let looks = !hir.properties().look_set().is_empty();
            let inside = if last && looks { tail } else { EPSILON };
            let members =
                parts.iter().map(|p| lower_before(arena, p, inside)).collect::<Result<Vec<_>>>()?;
            let any = arena.union(&members);
            if inside == tail {
                return Ok(any);
            }
            any
        }
    };
    Ok(arena.concat(expr, tail))
}

/// Removes predicates that hold because the text ends there.
fn strip_end(arena: &mut Arena, e: ExprId) -> ExprId {
    if arena.is_pure(e) {
        return e;
    }
    match arena.node(e).clone() {
        Expr::Look(At(Look::End | Look::EndLF | Look::EndCRLF)) => EPSILON,
        Expr::Union(members) => {
            let members: Vec<_> = members.iter().map(|&m| strip_end(arena, m)).collect();
            arena.union(&members)
        }
        Expr::Concat(..) => {
            let mut heads = Vec::new();
            let mut last = e;
            while let Expr::Concat(h, t) = *arena.node(last) {
                heads.push(h);
                last = t;
            }
            let mut out = strip_end(arena, last);
            for h in heads.into_iter().rev() {
                let h = if out == EPSILON { strip_end(arena, h) } else { h };
                out = arena.concat(h, out);
            }
            out
        }
        _ => e,
    }
}

/// Removes predicates that hold because the text starts there.
fn strip_start(arena: &mut Arena, e: ExprId) -> ExprId {
    if arena.is_pure(e) {
        return e;
    }
    match arena.node(e).clone() {
        Expr::Look(At(Look::Start | Look::StartLF | Look::StartCRLF)) => EPSILON,
        Expr::Union(members) => {
            let members: Vec<_> = members.iter().map(|&m| strip_start(arena, m)).collect();
            arena.union(&members)
        }
        Expr::Concat(h, t) => {
            let head = strip_start(arena, h);
            if head == EPSILON {
                return strip_start(arena, t);
            }
            if head == EMPTY { EMPTY } else { arena.concat(head, t) }
        }
        Expr::Inter(members) => {
            let members: Vec<_> = members.iter().map(|&m| strip_start(arena, m)).collect();
            arena.inter(&members)
        }
        Expr::Not(x) => {
            let x = strip_start(arena, x);
            arena.not(x)
        }
        _ => e,
    }
}
