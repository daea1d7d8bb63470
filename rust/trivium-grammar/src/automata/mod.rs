//! Regular languages over characters, served as a lazily built byte automaton.
//!
//! ```text
//! expression  --partial derivative by a class of characters-->  expression
//! state       =  expression + kind of the previous character    (at a character boundary)
//!             |  what may follow inside a UTF-8 character
//! ```
//!
//! An expression is the language of texts that may still follow (a residual), hash-consed, so equal
//! residuals are one state and nothing is built that no text reaches. Expressions without position
//! predicates, intersections and complements are empty only if they are [`expr::EMPTY`]: smart
//! constructors remove what cannot match, so *live* is a comparison of ids. With them liveness is
//! searched for once a state ([`live`]).
//!
//! | module | holds |
//! |---|---|
//! | [`expr`], [`boolean`], [`facts`] | nodes, smart constructors, what is known of a node at once |
//! | [`derive`], [`live`] | derivatives, liveness, emptiness, inclusion, lengths |
//! | [`spell`], [`number`] | the JSON spelling of a language of texts, numbers by arithmetic |
//! | [`loops`], [`loose`] | classes that a residual loops over, length bounds that are far away |
//! | [`look`], [`charset`], [`utf8`] | position predicates, sets of characters, bytes of characters |
//! | [`dfa`], [`table`] | the lazily built automaton over bytes |

pub(crate) mod boolean;
pub(crate) mod charset;
pub(crate) mod decimal;
pub(crate) mod derive;
pub(crate) mod dfa;
pub(crate) mod expr;
pub(crate) mod facts;
pub(crate) mod live;
pub(crate) mod look;
pub(crate) mod loops;
pub(crate) mod loose;
pub(crate) mod markers;
pub(crate) mod number;
pub(crate) mod print;
pub(crate) mod spell;
pub(crate) mod table;
pub(crate) mod utf8;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::format_collect)]
mod tests;
