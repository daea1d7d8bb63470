//! Token ids and the one place where foreign integers become ids.

use crate::error::{Error, Result};

/// A token of the target vocabulary. `-1` exists only in arrays at the border of the library.
pub type TokenId = u32;

/// Checks one foreign integer.
///
/// # Errors
/// [`Error::OutOfVocabulary`] if it is negative or not below `vocab`.
#[inline]
pub fn check_id(token: i64, vocab: usize) -> Result<TokenId> {
    if token >= 0 && (token as u64) < vocab as u64 {
        Ok(token as TokenId)
    } else {
        Err(Error::OutOfVocabulary { token, vocab })
    }
}

/// Checks ids that are already unsigned.
///
/// # Errors
/// [`Error::OutOfVocabulary`] naming the first id that is not below `vocab`.
pub fn check_ids(tokens: &[TokenId], vocab: usize) -> Result<()> {
    match tokens.iter().find(|&&t| t as usize >= vocab) {
        None => Ok(()),
        Some(&t) => Err(Error::OutOfVocabulary { token: i64::from(t), vocab }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_checked_at_both_ends() {
        assert_eq!(check_id(0, 1), Ok(0));
        assert_eq!(check_id(1, 1), Err(Error::OutOfVocabulary { token: 1, vocab: 1 }));
        assert_eq!(check_id(-1, 9), Err(Error::OutOfVocabulary { token: -1, vocab: 9 }));
        assert_eq!(check_ids(&[3, 9, 10], 9), Err(Error::OutOfVocabulary { token: 9, vocab: 9 }));
    }
}
