//! JSON Schema's dialect.

use super::Dialect;
use crate::automata::expr::{Arena, ExprId};
use crate::error::Result;
use crate::limits::CompileLimits;

/// The texts that match a pattern as a whole (`full`), or contain a match, as `pattern` asks.
///
/// # Errors
/// `InvalidGrammar` with the offset; `UnsupportedPattern`; `LimitExceeded` over a budget.
pub(crate) fn lower(arena: &mut Arena, pattern: &str, full: bool) -> Result<ExprId> {
    super::compile(arena, pattern, Dialect::Ecma, full, &CompileLimits::default())
}
