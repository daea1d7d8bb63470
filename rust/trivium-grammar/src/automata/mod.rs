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
//! predicates are empty only if they are [`expr::EMPTY`]: smart constructors remove what cannot
//! match, so *live* is a comparison of ids. With predicates (`\b`, multi-line `^`) liveness is
//! searched for once a state ([`dfa`]).

pub(crate) mod charset;
pub(crate) mod derive;
pub(crate) mod dfa;
pub(crate) mod expr;
pub(crate) mod look;
pub(crate) mod table;
pub(crate) mod utf8;
