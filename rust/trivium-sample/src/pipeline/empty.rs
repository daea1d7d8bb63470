//! What to do with a row that the masks emptied.

use serde::{Deserialize, Serialize};
use trivium_core::TokenId;

/// The policy of a pipeline for a row of which its masks leave nothing.
///
/// A row that the model itself (or a NaN) spoiled is an error under every policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnEmpty {
    /// A typed error that names the mask.
    #[default]
    Error,
    /// The law is a point mass on this token, whatever the masks say of it. An error if the model
    /// gives the token no mass.
    Eos(TokenId),
    /// The row is processed without the masks of rules; the mask of the call still holds.
    Unmask,
}

impl OnEmpty {
    /// Whether it is the default, which JSON leaves out.
    #[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
    pub(crate) fn is_error(&self) -> bool {
        *self == Self::Error
    }
}
