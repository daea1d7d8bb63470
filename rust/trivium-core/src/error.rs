//! The error type that crosses crates: variants grouped by what a caller can do about them.
//!
//! Messages are lower case, contain the offending value and the bound, and end with a hint where
//! the caller can act. The Python binding maps each variant to one exception class and copies the
//! fields onto it, so nobody parses text.

/// Shorthand for results with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call was refused. The object called is as it was before the call.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An argument is malformed: wrong shape, dtype, range or content.
    #[error("{what}: {why}")]
    InvalidInput {
        /// The argument.
        what: String,
        /// What is wrong with it, and what would be right.
        why: String,
    },
    /// A well-formed request that this library does not serve, or would serve wrongly.
    #[error("{feature} is not supported {at}: {hint}")]
    Unsupported {
        /// The construct.
        feature: String,
        /// Where it stands: a path in a schema, an offset in a pattern, a pair of options.
        at: String,
        /// What to do instead.
        hint: String,
    },
    /// A finite budget was exhausted.
    #[error("limit {limit} exceeded: {value} > {budget}")]
    LimitExceeded {
        /// Name of the limit, as spelled in the constructor.
        limit: &'static str,
        /// What was needed, as far as it was counted.
        value: u64,
        /// What was allowed.
        budget: u64,
    },
    /// A token id outside the vocabulary.
    #[error("token {token} is outside the vocabulary of {vocab}")]
    OutOfVocabulary {
        /// The id as given.
        token: i64,
        /// Number of valid ids.
        vocab: usize,
    },
    /// A token that the grammar does not allow at this position.
    #[error("token {token} is not allowed at position {position}")]
    RejectedToken {
        /// The id.
        token: u32,
        /// Number of tokens committed before it.
        position: usize,
    },
    /// The call does not fit the state of the object: rolled back too far, a tree of another prefix.
    #[error("{what}: expected {expected}, found {found}")]
    StateMismatch {
        /// The operation.
        what: String,
        /// The state it needs.
        expected: String,
        /// The state it met.
        found: String,
    },
    /// A device or its driver refused.
    #[error("device error {code}: {detail}")]
    Device {
        /// The driver's code, or -1 where there is no driver.
        code: i32,
        /// The driver's words.
        detail: String,
    },
    /// A defect of this library.
    #[error("internal error: {detail}; please report it")]
    Internal {
        /// What was observed.
        detail: String,
    },
}

impl Error {
    /// An [`Error::InvalidInput`] from anything that prints.
    pub fn input(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::InvalidInput { what: what.into(), why: why.into() }
    }

    /// An [`Error::StateMismatch`] from anything that prints.
    pub fn state(
        what: impl Into<String>,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Self::StateMismatch { what: what.into(), expected: expected.into(), found: found.into() }
    }

    /// An [`Error::Unsupported`] from anything that prints.
    pub fn unsupported(
        feature: impl Into<String>,
        at: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self::Unsupported { feature: feature.into(), at: at.into(), hint: hint.into() }
    }
}
