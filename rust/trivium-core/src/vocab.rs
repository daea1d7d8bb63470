//! A vocabulary: the bytes of every token id, which ids are symbols rather than text, which end a
//! sequence, and how wide the logits are.
//!
//! Stored as `trivium-vocab-1`, a plain safetensors file: `offsets` U32 `[n + 1]`, `bytes` U8,
//! `flags` U8 `[n]` (0 regular, 1 special: its bytes are its name, 2 padding), and string metadata.

use crate::error::{Error, Result};
use crate::ids::TokenId;
use crate::trie::Trie;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;

const FORMAT: &str = "trivium-vocab-1";
const REGULAR: u8 = 0;
const SPECIAL: u8 = 1;
const PADDING: u8 = 2;

/// Longest token accepted, in bytes: the trie stores depths in a byte.
pub const MAX_TOKEN_BYTES: usize = 255;

/// A token that is a symbol, not text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecialToken {
    /// Its id.
    pub id: TokenId,
    /// Its name, for example `<|im_end|>`.
    pub name: String,
}

/// Token bytes, special tokens, end-of-sequence ids and logits width. Immutable, shared.
#[derive(Debug)]
pub struct Vocabulary {
    offsets: Vec<u32>,
    bytes: Vec<u8>,
    flags: Vec<u8>,
    eos: Vec<TokenId>,
    num_rows: usize,
    metadata: BTreeMap<String, String>,
    trie: OnceLock<Trie>,
    digest: u64,
}

impl Vocabulary {
    /// Builds a vocabulary from the bytes of each id.
    ///
    /// `special` names symbols; their entry in `tokens` is ignored. Ids with empty bytes that are
    /// not special are padding. `num_rows` (default: number of tokens) is the logits width; ids
    /// from the tokenizer's length up to it exist in the logits and are never allowed.
    ///
    /// # Errors
    /// `InvalidInput` for an empty vocabulary, a token longer than [`MAX_TOKEN_BYTES`], or
    /// `num_rows` below the number of tokens; `OutOfVocabulary` for an `eos` or special id outside.
    pub fn new<B: AsRef<[u8]>>(
        tokens: &[B],
        special: &[SpecialToken],
        eos: &[TokenId],
        num_rows: Option<usize>,
    ) -> Result<Self> {
        let n = tokens.len();
        if n == 0 {
            return Err(Error::input("tokens", "a vocabulary needs at least one token"));
        }
        let names: BTreeMap<TokenId, &str> =
            special.iter().map(|s| (s.id, s.name.as_str())).collect();
        crate::ids::check_ids(eos, n)?;
        crate::ids::check_ids(&names.keys().copied().collect::<Vec<_>>(), n)?;
        let mut offsets = Vec::with_capacity(n + 1);
        let mut bytes = Vec::new();
        let mut flags = Vec::with_capacity(n);
        offsets.push(0);
        for (i, token) in tokens.iter().enumerate() {
            let (b, flag) = match names.get(&(i as TokenId)) {
                Some(name) => (name.as_bytes(), SPECIAL),
                None if token.as_ref().is_empty() => (&[][..], PADDING),
                None => (token.as_ref(), REGULAR),
            };
            if b.len() > MAX_TOKEN_BYTES && flag == REGULAR {
                return Err(Error::input(
                    "tokens",
                    format!(
                        "token {i} has {} bytes, at most {MAX_TOKEN_BYTES} are served",
                        b.len()
                    ),
                ));
            }
            bytes.extend_from_slice(b);
            let end = u32::try_from(bytes.len())
                .map_err(|_| Error::input("tokens", "all tokens together exceed 4 GiB"))?;
            offsets.push(end);
            flags.push(flag);
        }
        Self::assemble(offsets, bytes, flags, eos.to_vec(), num_rows, BTreeMap::new())
    }

    fn assemble(
        offsets: Vec<u32>,
        bytes: Vec<u8>,
        flags: Vec<u8>,
        mut eos: Vec<TokenId>,
        num_rows: Option<usize>,
        metadata: BTreeMap<String, String>,
    ) -> Result<Self> {
        let n = flags.len();
        let num_rows = num_rows.unwrap_or(n);
        if num_rows < n {
            return Err(Error::input(
                "num_rows",
                format!("{num_rows} is below the {n} tokens; it is the width of the logits"),
            ));
        }
        eos.sort_unstable();
        eos.dedup();
        let mut digest = Fnv::default();
        for o in &offsets {
            digest.write(&o.to_le_bytes());
        }
        digest.write(&bytes);
        digest.write(&flags);
        for e in &eos {
            digest.write(&e.to_le_bytes());
        }
        let digest = digest.0;
        Ok(Self { offsets, bytes, flags, eos, num_rows, metadata, trie: OnceLock::new(), digest })
    }

    /// Number of token ids.
    pub fn len(&self) -> usize {
        self.flags.len()
    }

    /// Never true: an empty vocabulary cannot be built.
    pub fn is_empty(&self) -> bool {
        self.flags.is_empty()
    }

    /// Width of the logits.
    pub fn num_rows(&self) -> usize {
        self.num_rows
    }

    /// End-of-sequence ids, ascending.
    pub fn eos(&self) -> &[TokenId] {
        &self.eos
    }

    /// Whether an id ends a sequence.
    pub fn is_eos(&self, token: TokenId) -> bool {
        self.eos.binary_search(&token).is_ok()
    }

    /// Whether an id is a symbol.
    pub fn is_special(&self, token: TokenId) -> bool {
        self.flags.get(token as usize) == Some(&SPECIAL)
    }

    /// The text bytes of a token; empty for special tokens, padding and ids outside.
    pub fn token(&self, token: TokenId) -> &[u8] {
        if self.flags.get(token as usize) == Some(&REGULAR) { self.entry(token) } else { &[] }
    }

    /// The name of a special token.
    pub fn special_name(&self, token: TokenId) -> Option<&str> {
        self.is_special(token).then(|| std::str::from_utf8(self.entry(token)).unwrap_or(""))
    }

    /// Special tokens, ascending by id.
    pub fn special(&self) -> impl Iterator<Item = SpecialToken> + '_ {
        (0..self.len() as TokenId).filter_map(|id| {
            self.special_name(id).map(|name| SpecialToken { id, name: name.to_owned() })
        })
    }

    fn entry(&self, token: TokenId) -> &[u8] {
        let i = token as usize;
        &self.bytes[self.offsets[i] as usize..self.offsets[i + 1] as usize]
    }

    /// The trie of the regular tokens that do not end a sequence, built at the first call.
    pub fn trie(&self) -> &Trie {
        self.trie.get_or_init(|| {
            Trie::new(
                (0..self.len() as TokenId).filter(|&t| !self.is_eos(t)).map(|t| (self.token(t), t)),
            )
        })
    }

    /// The text of a sequence of ids; special tokens contribute nothing.
    ///
    /// # Errors
    /// `OutOfVocabulary` for an id outside.
    pub fn decode(&self, tokens: &[TokenId]) -> Result<Vec<u8>> {
        crate::ids::check_ids(tokens, self.len())?;
        Ok(tokens.iter().flat_map(|&t| self.token(t)).copied().collect())
    }

    /// 64-bit FNV-1a of ids, bytes, flags and end ids: stores refuse a file of another vocabulary.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// String metadata of the file it came from.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Reads a `trivium-vocab-1` file.
    ///
    /// # Errors
    /// `InvalidInput` if it cannot be read or is damaged.
    pub fn load(path: &Path) -> Result<Self> {
        let raw = std::fs::read(path)
            .map_err(|e| Error::input("path", format!("cannot read the vocabulary: {e}")))?;
        Self::from_bytes(&raw)
    }

    /// Parses the contents of a `trivium-vocab-1` file.
    ///
    /// # Errors
    /// `InvalidInput` if it is damaged.
    pub fn from_bytes(raw: &[u8]) -> Result<Self> {
        let bad = |why: String| Error::input("vocabulary file", why);
        let (_, head) = SafeTensors::read_metadata(raw).map_err(|e| bad(e.to_string()))?;
        let tensors = SafeTensors::deserialize(raw).map_err(|e| bad(e.to_string()))?;
        let part = |name: &str, dtype: Dtype| -> Result<&[u8]> {
            let t = tensors.tensor(name).map_err(|e| bad(e.to_string()))?;
            if t.dtype() != dtype || t.shape().len() != 1 {
                return Err(bad(format!("tensor {name} is not one-dimensional {dtype:?}")));
            }
            Ok(t.data())
        };
        let offsets: Vec<u32> = part("offsets", Dtype::U32)?
            .chunks_exact(4)
            .map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]]))
            .collect();
        let bytes = part("bytes", Dtype::U8)?.to_vec();
        let flags = part("flags", Dtype::U8)?.to_vec();
        let metadata: BTreeMap<String, String> = head
            .metadata()
            .as_ref()
            .map(|m| m.iter().map(|(k, v)| (k.clone(), v.clone())).collect())
            .unwrap_or_default();
        let n = flags.len();
        if n == 0 || offsets.len() != n + 1 || offsets[0] != 0 || offsets[n] as usize != bytes.len()
        {
            return Err(bad(format!(
                "{n} flags, {} offsets and {} bytes do not fit together",
                offsets.len(),
                bytes.len()
            )));
        }
        if let Some(i) = (0..n).find(|&i| offsets[i] > offsets[i + 1]) {
            return Err(bad(format!("offset {} is below offset {i}", i + 1)));
        }
        if let Some(i) = (0..n).find(|&i| {
            flags[i] > PADDING
                || (flags[i] == REGULAR && (offsets[i + 1] - offsets[i]) as usize > MAX_TOKEN_BYTES)
        }) {
            return Err(bad(format!("token {i} has an unknown flag or is too long")));
        }
        let eos: Vec<TokenId> = match metadata.get("eos") {
            Some(text) => serde_json::from_str(text).map_err(|e| bad(format!("eos: {e}")))?,
            None => Vec::new(),
        };
        crate::ids::check_ids(&eos, n)?;
        let num_rows = match metadata.get("num_rows") {
            Some(text) => Some(text.parse().map_err(|e| bad(format!("num_rows: {e}")))?),
            None => None,
        };
        Self::assemble(offsets, bytes, flags, eos, num_rows, metadata)
    }

    /// The file contents of [`save`](Self::save).
    ///
    /// # Errors
    /// `Internal` if the writer refuses, which valid vocabularies never cause.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let fail = |e: String| Error::Internal { detail: e };
        let offsets: Vec<u8> = self.offsets.iter().flat_map(|o| o.to_le_bytes()).collect();
        let view = |dtype, len, data| {
            TensorView::new(dtype, vec![len], data).map_err(|e| fail(e.to_string()))
        };
        let tensors = [
            ("offsets", view(Dtype::U32, self.offsets.len(), &offsets)?),
            ("bytes", view(Dtype::U8, self.bytes.len(), &self.bytes)?),
            ("flags", view(Dtype::U8, self.flags.len(), &self.flags)?),
        ];
        let mut metadata = self.metadata.clone();
        let eos: Vec<String> = self.eos.iter().map(ToString::to_string).collect();
        metadata.insert("format".into(), FORMAT.into());
        metadata.insert("n_vocab".into(), self.len().to_string());
        metadata.insert("eos".into(), format!("[{}]", eos.join(", ")));
        metadata.insert("num_rows".into(), self.num_rows.to_string());
        safetensors::serialize(tensors, Some(metadata.into_iter().collect()))
            .map_err(|e| fail(e.to_string()))
    }

    /// Writes a `trivium-vocab-1` file.
    ///
    /// # Errors
    /// `InvalidInput` if the path cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        std::fs::write(path, self.to_bytes()?)
            .map_err(|e| Error::input("path", format!("cannot write the vocabulary: {e}")))
    }
}

/// 64-bit FNV-1a: small, stable across machines; not for adversaries.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for &b in bytes {
            self.0 = (self.0 ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Vocabulary {
        let special = [SpecialToken { id: 2, name: "<end>".into() }];
        Vocabulary::new(&[&b"a"[..], b"ab", b"", b"", b"\xff"], &special, &[2], Some(40)).unwrap()
    }

    #[test]
    fn symbols_are_not_text() {
        let v = small();
        assert_eq!(v.token(1), b"ab");
        assert_eq!(v.token(2), b"");
        assert_eq!(v.special_name(2), Some("<end>"));
        assert_eq!(v.token(3), b"");
        assert_eq!(v.token(99), b"");
        assert_eq!(v.decode(&[0, 2, 4]).unwrap(), b"a\xff");
        assert_eq!(v.trie().tokens_below(0), [0, 1, 4]);
    }

    #[test]
    fn file_round_trip_keeps_everything() {
        let v = small();
        let w = Vocabulary::from_bytes(&v.to_bytes().unwrap()).unwrap();
        assert_eq!(w.digest(), v.digest());
        assert_eq!((w.num_rows(), w.eos()), (40, &[2][..]));
        assert_eq!(w.special_name(2), Some("<end>"));
    }

    #[test]
    fn damage_is_an_error_not_a_panic() {
        let raw = small().to_bytes().unwrap();
        for cut in 0..raw.len() {
            assert!(Vocabulary::from_bytes(&raw[..cut]).is_err());
        }
        for i in 0..raw.len() {
            let mut bad = raw.clone();
            bad[i] ^= 0x55;
            drop(Vocabulary::from_bytes(&bad)); // any result but a panic
        }
    }

    #[test]
    fn bad_input_is_named() {
        assert!(Vocabulary::new::<&[u8]>(&[], &[], &[], None).is_err());
        assert!(Vocabulary::new(&[b"a"], &[], &[1], None).is_err());
        assert!(Vocabulary::new(&[b"a", b"b"], &[], &[0], Some(1)).is_err());
        assert!(Vocabulary::new(&[vec![0u8; 256]], &[], &[], None).is_err());
    }
}
