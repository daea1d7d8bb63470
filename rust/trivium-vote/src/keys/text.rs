//! `text`: an answer is its own bytes, without the white space around it. Case, inner spacing and
//! punctuation count, so two answers are equal only when they are spelled alike.

/// The key of a trimmed answer; none where nothing is left.
pub(super) fn key(raw: &str) -> Option<String> {
    (!raw.is_empty()).then(|| raw.to_owned())
}
