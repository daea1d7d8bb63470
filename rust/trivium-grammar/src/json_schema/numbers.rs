//! Numbers: cells as lexemes.

use super::cells::{End, NumCell, Whole};
use super::decimal::Decimal;
use super::error::Problem;
use super::options::{Numerals, Options};
use crate::automata::decimal::Decimal as Exact;
use crate::automata::expr::{Arena, ExprId};
use crate::automata::number::{Notation, NumberSet, Whole as ExactWhole};
use crate::error::Error;

fn exact(d: &Decimal) -> Result<Exact, Problem> {
    Exact::parse(&d.to_string()).ok_or_else(|| Error::internal("a decimal out of range").into())
}

fn all<'a>(from: impl IntoIterator<Item = &'a Decimal>) -> Result<Vec<Exact>, Problem> {
    from.into_iter().map(exact).collect()
}

fn set(cell: &NumCell) -> Result<NumberSet, Problem> {
    let end = |e: &End| match e {
        Some((at, open)) => exact(at).map(|at| Some((at, *open))),
        None => Ok(None),
    };
    Ok(NumberSet {
        low: end(&cell.low)?,
        high: end(&cell.high)?,
        whole: match cell.whole {
            Whole::Any => ExactWhole::Any,
            Whole::Integer => ExactWhole::Integer,
            Whole::Fraction => ExactWhole::Fraction,
        },
        divisors: all(&cell.divisors)?,
        non_divisors: all(&cell.non_divisors)?,
        excluded: all(&cell.excluded)?,
        finite: cell.finite.as_ref().map(|f| all(f.iter())).transpose()?,
    })
}

/// The texts of a cell's numbers.
pub(crate) fn lower(
    arena: &mut Arena,
    cell: &NumCell,
    options: &Options,
) -> Result<ExprId, Problem> {
    let set = set(cell)?;
    // Without demands the plain notation already has every spelling.
    let free = set == NumberSet::default();
    let any = options.numbers == Numerals::Any && !cell.plain && !free;
    Ok(arena.number(&set, Notation { any, digits: options.digits })?)
}

/// Whether some number lies in a cell.
pub(crate) fn lives(cell: &NumCell) -> Result<bool, Problem> {
    if cell.finite.is_some() {
        return Ok(true);
    }
    if (NumCell { whole: Whole::Any, plain: false, ..cell.clone() }) == NumCell::any() {
        return Ok(true);
    }
    Ok(!set(cell)?.is_empty()?)
}
