//! Why a grammar or a call on a matcher was refused.
//!
//! The variants that only grammars have stand here, everything else is `trivium-core`'s error. Each
//! converts into the core error of the same kind, so a verifier that holds a `dyn Constraint` sees
//! one type.

use trivium_core::Error as Core;

/// Shorthand for results with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a grammar or a call was refused. The object called is as it was before the call.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text of a grammar cannot be read.
    #[error("{what} at byte {offset}: {why}")]
    InvalidGrammar {
        /// What was being read, for example `pattern`.
        what: &'static str,
        /// Byte offset into that text.
        offset: usize,
        /// What is wrong there.
        why: String,
    },
    /// No text satisfies the grammar.
    #[error("{what} matches no text: {why}")]
    Unsatisfiable {
        /// The grammar.
        what: String,
        /// The cause, as far as it is known.
        why: String,
    },
    /// The grammar is well-formed but uses a construct that is not served.
    #[error("{feature} is not supported {at}: {hint}")]
    UnsupportedPattern {
        /// The construct.
        feature: String,
        /// Where it stands.
        at: String,
        /// What to do instead.
        hint: String,
    },
    /// The text is no JSON Schema.
    #[error("invalid schema at {path}{}: {why}", keyword_of(.keyword))]
    InvalidSchema {
        /// JSON pointer of the schema, `#` for the whole.
        path: String,
        /// The keyword, empty if there is none.
        keyword: String,
        /// What is wrong there.
        why: String,
    },
    /// The schema uses a keyword, or a combination, that is not enforced.
    #[error("{path}{}: {reason} is not supported: {hint}", keyword_of(.keyword))]
    UnsupportedSchema {
        /// JSON pointer of the schema, `#` for the whole.
        path: String,
        /// The keyword, empty if it is a combination.
        keyword: String,
        /// Why it is not enforced.
        reason: String,
        /// What to do instead.
        hint: String,
    },
    /// A checker refuses whatever the grammar allows.
    #[error("dead end: {why}; roll back to {rollback_to} tokens")]
    DeadEnd {
        /// Where and by whom.
        why: String,
        /// Tokens up to the last place where another one was allowed.
        rollback_to: usize,
    },
    /// Everything that is not particular to grammars: limits, token ids, states, arguments.
    #[error(transparent)]
    Core(#[from] Core),
}

fn keyword_of(keyword: &str) -> String {
    if keyword.is_empty() { String::new() } else { format!(", {keyword}") }
}

impl Error {
    /// A budget is exhausted.
    pub(crate) fn limit(limit: &'static str, value: u64, budget: u64) -> Self {
        Core::LimitExceeded { limit, value, budget }.into()
    }

    /// A defect of this library.
    pub(crate) fn internal(detail: impl Into<String>) -> Self {
        Core::Internal { detail: detail.into() }.into()
    }
}

impl From<Error> for Core {
    fn from(error: Error) -> Self {
        match error {
            Error::Core(e) => e,
            Error::UnsupportedPattern { feature, at, hint } => {
                Self::Unsupported { feature, at, hint }
            }
            Error::InvalidGrammar { what, offset, why } => {
                Self::InvalidInput { what: format!("{what} at byte {offset}"), why }
            }
            Error::InvalidSchema { path, why, .. } => {
                Self::InvalidInput { what: format!("schema at {path}"), why }
            }
            Error::UnsupportedSchema { path, keyword, reason, hint } => Self::Unsupported {
                feature: reason,
                at: format!("at {path}{}", keyword_of(&keyword)),
                hint,
            },
            Error::DeadEnd { why, rollback_to } => Self::StateMismatch {
                what: "mask".into(),
                expected: format!("a token, after a roll back to {rollback_to}"),
                found: why,
            },
            Error::Unsatisfiable { what, why } => {
                Self::InvalidInput { what, why: format!("matches no text: {why}") }
            }
        }
    }
}
