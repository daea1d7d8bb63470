//! The fixed texts of JSON as expressions.

use super::graph::Space;
use crate::automata::decimal::Decimal;
use crate::automata::expr::{Arena, EPSILON, ExprId};
use crate::automata::number::{Notation, NumberSet};
use crate::error::{Error, Result};

/// One text.
pub(crate) fn literal(arena: &mut Arena, text: &str) -> ExprId {
    let mut out = EPSILON;
    for c in text.chars().rev() {
        let class = arena.class(vec![(c.into(), c.into())]);
        out = arena.concat(class, out);
    }
    out
}

/// A line feed and blanks.
pub(super) fn line(arena: &mut Arena, blanks: u32) -> ExprId {
    let blank = arena.class(vec![(0x20, 0x20)]);
    let all = arena.repeat(blank, blanks, blanks);
    let feed = arena.class(vec![(0x0a, 0x0a)]);
    arena.concat(feed, all)
}

/// A colon and the white space around it.
pub(super) fn colon(arena: &mut Arena, space: &Space) -> ExprId {
    match space {
        Space::Between(gap) => {
            let colon = literal(arena, ":");
            let after = arena.concat(colon, *gap);
            arena.concat(*gap, after)
        }
        Space::Indent(_) => literal(arena, ": "),
    }
}

/// The value of a number that was written.
///
/// # Errors
/// `LimitExceeded` if it has more digits than are compared.
pub(super) fn value(text: &str) -> Result<Decimal> {
    let most = crate::automata::decimal::MAX_DIGITS as u64;
    Decimal::parse(text)
        .ok_or_else(|| Error::limit("digits of a number that is compared", text.len() as u64, most))
}

/// Every spelling of a number.
pub(super) fn number(arena: &mut Arena, value: Decimal) -> Result<ExprId> {
    let end = Some((value, false));
    let set = NumberSet { low: end.clone(), high: end, ..NumberSet::default() };
    arena.number(&set, Notation::EVERY)
}
