//! `trivium-corpus-1`: documents for stores that are built once, in one safetensors file.
//!
//! Tensors, all U32: `tokens`, the documents one after the other; `starts`, where each begins;
//! `suffixes` (optional), the suffix array that REST searches. Metadata: `format`, `vocab_size`.
//! Nothing that is built from it ever crosses from one document to the next.

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::HashMap;
use std::path::Path;
use trivium_core::TokenId;
use trivium_core::error::{Error, Result};
use trivium_core::ids;

pub(crate) const FORMAT: &str = "trivium-corpus-1";

/// Documents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Corpus {
    tokens: Vec<TokenId>,
    starts: Vec<u32>,
}

fn bad(why: impl std::fmt::Display) -> Error {
    Error::input("corpus", why.to_string())
}

impl Corpus {
    /// Documents of a vocabulary; empty ones are left out.
    ///
    /// # Errors
    /// `OutOfVocabulary`; `LimitExceeded` beyond 2^31 tokens.
    pub fn new<'a>(
        documents: impl IntoIterator<Item = &'a [TokenId]>,
        vocab: usize,
    ) -> Result<Self> {
        let mut this = Self::default();
        for d in documents.into_iter().filter(|d| !d.is_empty()) {
            ids::check_ids(d, vocab)?;
            this.starts.push(this.tokens.len() as u32);
            this.tokens.extend_from_slice(d);
            if this.tokens.len() > i32::MAX as usize {
                return Err(bad("holds more than 2^31 tokens"));
            }
        }
        Ok(this)
    }

    /// The documents.
    pub fn documents(&self) -> impl Iterator<Item = &[TokenId]> {
        let ends = self.starts.iter().skip(1).copied().chain([self.tokens.len() as u32]);
        self.starts.iter().zip(ends).map(|(&a, b)| &self.tokens[a as usize..b as usize])
    }

    /// All tokens.
    pub(crate) fn tokens(&self) -> &[TokenId] {
        &self.tokens
    }

    /// Where each document begins.
    pub(crate) fn starts(&self) -> &[u32] {
        &self.starts
    }

    /// Writes the file, with its suffix array where it has one.
    ///
    /// # Errors
    /// `InvalidInput` if the file cannot be written.
    pub fn write(&self, path: &Path, vocab: usize, suffixes: Option<&[u32]>) -> Result<()> {
        let bytes = |v: &[u32]| v.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
        let mut parts = vec![
            ("tokens", self.tokens.len(), bytes(&self.tokens)),
            ("starts", self.starts.len(), bytes(&self.starts)),
        ];
        if let Some(s) = suffixes {
            parts.push(("suffixes", s.len(), bytes(s)));
        }
        let tensors = parts
            .iter()
            .map(|(k, n, b)| Ok((*k, TensorView::new(Dtype::U32, vec![*n], b).map_err(bad)?)))
            .collect::<Result<Vec<_>>>()?;
        let metadata = HashMap::from([
            ("format".to_owned(), FORMAT.to_owned()),
            ("vocab_size".to_owned(), vocab.to_string()),
        ]);
        let raw = safetensors::serialize(tensors, Some(metadata)).map_err(bad)?;
        std::fs::write(path, raw)
            .map_err(|e| Error::input("path", format!("cannot be written: {e}")))
    }

    /// Reads the documents of a file.
    ///
    /// # Errors
    /// `InvalidInput` for a file that is damaged, of another format or another vocabulary.
    pub fn read(path: &Path, vocab: usize) -> Result<Self> {
        let raw = std::fs::read(path).map_err(|e| {
            Error::input("corpus", format!("{} cannot be read: {e}", path.display()))
        })?;
        let (_, head) = SafeTensors::read_metadata(&raw).map_err(bad)?;
        check_head(head.metadata().as_ref(), vocab)?;
        let tensors = SafeTensors::deserialize(&raw).map_err(bad)?;
        let part = |name: &str| -> Result<Vec<u32>> {
            let t = tensors.tensor(name).map_err(bad)?;
            if t.dtype() != Dtype::U32 {
                return Err(bad(format!("tensor {name} is not U32")));
            }
            Ok(words(t.data()))
        };
        let this = Self { tokens: part("tokens")?, starts: part("starts")? };
        ids::check_ids(&this.tokens, vocab)?;
        check_starts(&this.starts, this.tokens.len())?;
        Ok(this)
    }
}

pub(crate) fn words(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect()
}

/// Documents begin at 0, in order, and none is empty.
pub(crate) fn check_starts(starts: &[u32], len: usize) -> Result<()> {
    let ordered = starts.windows(2).all(|w| w[0] < w[1]);
    let first = starts.first().copied();
    let fits = starts.last().is_none_or(|&s| (s as usize) < len) && first.unwrap_or(0) == 0;
    if ordered && fits && first.is_some() == (len > 0) {
        Ok(())
    } else {
        Err(bad("starts do not fit the tokens"))
    }
}

pub(crate) fn check_head(meta: Option<&HashMap<String, String>>, vocab: usize) -> Result<()> {
    let text = |name: &str| meta.and_then(|m| m.get(name)).map(String::as_str);
    if text("format") != Some(FORMAT) {
        return Err(bad(format!("format {:?}, this version reads {FORMAT}", text("format"))));
    }
    if text("vocab_size") != Some(&*vocab.to_string()) {
        return Err(bad(format!(
            "is for a vocabulary of {}, the speculator has {vocab}",
            text("vocab_size").unwrap_or("unknown size")
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_round_trip_and_damage_is_refused() {
        let folder = std::env::temp_dir().join(format!("trivium-corpus-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("c.safetensors");
        let c = Corpus::new([&[1u32, 2, 3][..], &[], &[4]], 5).unwrap();
        assert_eq!(c.documents().collect::<Vec<_>>(), [&[1, 2, 3][..], &[4]]);
        c.write(&path, 5, None).unwrap();
        assert_eq!(Corpus::read(&path, 5).unwrap(), c);
        assert!(Corpus::read(&path, 6).unwrap_err().to_string().contains("vocabulary of 5"));
        let raw = std::fs::read(&path).unwrap();
        std::fs::write(&path, &raw[..raw.len() - 3]).unwrap();
        assert!(Corpus::read(&path, 5).is_err());
        std::fs::write(&path, b"junk").unwrap();
        assert!(Corpus::read(&path, 5).is_err());
        assert!(Corpus::new([&[9u32][..]], 5).is_err());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
