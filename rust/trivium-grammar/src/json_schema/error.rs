//! What is wrong with a schema, before it becomes an error of the crate.

use super::documents::Documents;
use super::json::{JId, Malformed};
use crate::error::Error;

/// Why a schema was not compiled.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Problem {
    /// The text is no schema.
    Invalid { path: String, keyword: String, why: String },
    /// A keyword, or a combination, that is not enforced.
    Unsupported { path: String, keyword: String, reason: String, hint: String },
    /// No value satisfies it.
    Unsatisfiable { path: String, why: String },
    /// Limits, and whatever another part of the crate says.
    Other(Error),
}

impl Problem {
    pub(crate) fn malformed(document: &str, m: &Malformed) -> Self {
        if m.too_deep {
            return Self::Other(Error::limit(
                "schema nesting",
                super::json::MAX_DEPTH as u64 + 1,
                super::json::MAX_DEPTH as u64,
            ));
        }
        let path = if document.is_empty() { "#".to_owned() } else { document.to_owned() };
        let why = format!("{} at byte {}", m.why, m.offset);
        Self::Invalid { path, keyword: String::new(), why }
    }

    pub(crate) fn invalid(docs: &Documents, at: JId, keyword: &str, why: &str) -> Self {
        Self::Invalid { path: docs.store.pointer(at), keyword: keyword.into(), why: why.into() }
    }

    pub(crate) fn unsupported(
        docs: &Documents,
        at: JId,
        keyword: &str,
        reason: &str,
        hint: &str,
    ) -> Self {
        Self::Unsupported {
            path: docs.store.pointer(at),
            keyword: keyword.into(),
            reason: reason.into(),
            hint: hint.into(),
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}
