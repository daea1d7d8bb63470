//! A corpus with its suffix array, in memory or read from disk as it is searched.
//!
//! The file is [`trivium-corpus-1`](crate::draft::Corpus). A search touches O(log n) places of it,
//! so a store far larger than memory serves from the page cache. Every position read from disk is
//! checked before it is used: a damaged file costs drafts, never more.

use super::suffix_array::suffix_array;
use crate::draft::corpus::{Corpus, check_head, check_starts, words};
use safetensors::tensor::{Dtype, Metadata};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use trivium_core::TokenId;
use trivium_core::error::{Error, Result};

/// Indexes documents into a file: O(n log² n).
///
/// # Errors
/// `OutOfVocabulary`; `InvalidInput` if the file cannot be written.
pub fn build<'a>(
    documents: impl IntoIterator<Item = &'a [TokenId]>,
    vocab: usize,
    path: &Path,
) -> Result<()> {
    let corpus = Corpus::new(documents, vocab)?;
    let suffixes = suffix_array(corpus.tokens(), corpus.starts());
    corpus.write(path, vocab, Some(&suffixes))
}

fn bad(why: impl std::fmt::Display) -> Error {
    Error::input("corpus", why.to_string())
}

/// An array of words.
#[derive(Debug)]
enum Words {
    Memory(Vec<u32>),
    Disk { file: File, offset: u64, len: usize },
}

impl Words {
    fn len(&self) -> usize {
        match self {
            Self::Memory(v) => v.len(),
            Self::Disk { len, .. } => *len,
        }
    }

    /// Reads words from `at` on into `out`; how many there were.
    fn read(&self, at: usize, out: &mut [u32]) -> usize {
        let n = out.len().min(self.len().saturating_sub(at));
        match self {
            Self::Memory(v) => out[..n].copy_from_slice(&v[at..at + n]),
            Self::Disk { file, offset, .. } => {
                let mut raw = [0u8; 4 * CHUNK];
                for (i, part) in out[..n].chunks_mut(CHUNK).enumerate() {
                    let raw = &mut raw[..4 * part.len()];
                    let from = offset + 4 * (at + i * CHUNK) as u64;
                    if read_at(file, raw, from).is_err() {
                        return 0;
                    }
                    part.iter_mut().zip(words(raw)).for_each(|(o, w)| *o = w);
                }
            }
        }
        n
    }
}

const CHUNK: usize = 64;

#[cfg(unix)]
fn read_at(file: &File, out: &mut [u8], at: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, out, at)
}

#[cfg(not(unix))]
fn read_at(file: &File, out: &mut [u8], at: u64) -> std::io::Result<()> {
    use std::io::Seek;
    // A handle of its own, because seeking moves the one that threads share.
    let mut own = file.try_clone()?;
    own.seek(std::io::SeekFrom::Start(at))?;
    own.read_exact(out)
}

/// A searchable corpus.
#[derive(Debug)]
pub(crate) struct Datastore {
    tokens: Words,
    suffixes: Words,
    starts: Vec<u32>,
}

/// Suffixes that begin with some string of `depth` tokens: a range of the array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Interval {
    pub(crate) low: usize,
    pub(crate) high: usize,
    pub(crate) depth: usize,
}

impl Interval {
    pub(crate) fn count(self) -> usize {
        self.high - self.low
    }
}

impl Datastore {
    /// Opens a file; into memory if its arrays take at most `max_memory` bytes.
    ///
    /// # Errors
    /// `InvalidInput` for a file that is cut, foreign, without suffix array or of another
    /// vocabulary.
    pub(crate) fn open(path: &Path, vocab: usize, max_memory: usize) -> Result<Self> {
        let cannot = |e: std::io::Error| bad(format!("{} cannot be read: {e}", path.display()));
        let mut file = File::open(path).map_err(cannot)?;
        let size = file.metadata().map_err(cannot)?.len();
        let mut head = vec![0u8; 8];
        file.read_exact(&mut head).map_err(cannot)?;
        let n = u64::from_le_bytes(std::array::from_fn(|i| head[i]));
        if n > size.saturating_sub(8) || n > 1 << 20 {
            return Err(bad("is no safetensors file"));
        }
        head.resize(8 + n as usize, 0);
        file.read_exact(&mut head[8..]).map_err(cannot)?;
        // The crate's own reader wants the whole file in memory.
        let meta: Metadata = serde_json::from_slice(&head[8..]).map_err(bad)?;
        check_head(meta.metadata().as_ref(), vocab)?;
        let part = |name: &str| -> Result<(u64, usize)> {
            let info = meta.info(name).ok_or_else(|| bad(format!("tensor {name} is missing")))?;
            let (from, to) = info.data_offsets;
            let end = 8 + n + to as u64;
            if info.dtype != Dtype::U32 || end > size || to < from {
                return Err(bad(format!("tensor {name} is cut or not U32")));
            }
            Ok((8 + n + from as u64, (to - from) / 4))
        };
        let open = |name: &str, memory: bool| -> Result<Words> {
            let (offset, len) = part(name)?;
            let file = file.try_clone().map_err(cannot)?;
            let disk = Words::Disk { file, offset, len };
            if !memory {
                return Ok(disk);
            }
            let mut all = vec![0; len];
            if disk.read(0, &mut all) == len { Ok(Words::Memory(all)) } else { Err(bad("is cut")) }
        };
        let memory = 8 * part("tokens")?.1 <= max_memory;
        let (tokens, suffixes) = (open("tokens", memory)?, open("suffixes", memory)?);
        let Words::Memory(starts) = open("starts", true)? else { return Err(bad("is cut")) };
        if suffixes.len() != tokens.len() {
            return Err(bad("the suffix array does not fit the tokens"));
        }
        check_starts(&starts, tokens.len())?;
        Ok(Self { tokens, suffixes, starts })
    }

    /// End of the document of a position.
    fn end_of(&self, position: usize) -> usize {
        let next = self.starts.partition_point(|&s| s as usize <= position);
        self.starts.get(next).map_or(self.tokens.len(), |&s| s as usize)
    }

    /// Tokens of suffix `i` from `skip` on, up to the end of its document; how many.
    fn suffix(&self, i: usize, skip: usize, out: &mut [TokenId]) -> usize {
        let mut position = [0];
        if self.suffixes.read(i, &mut position) == 0 {
            return 0;
        }
        let position = position[0] as usize;
        if position >= self.tokens.len() {
            return 0;
        }
        let room = self.end_of(position).saturating_sub(position + skip).min(out.len());
        self.tokens.read(position + skip, &mut out[..room])
    }

    /// First index in `low..high` for which `before` is false.
    fn bisect(mut low: usize, mut high: usize, mut before: impl FnMut(usize) -> bool) -> usize {
        while low < high {
            let middle = usize::midpoint(low, high);
            if before(middle) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// Suffixes that begin with `gram`.
    pub(crate) fn find(&self, gram: &[TokenId]) -> Option<Interval> {
        let mut buffer = vec![0; gram.len()];
        let n = self.suffixes.len();
        let low = Self::bisect(0, n, |i| {
            let len = self.suffix(i, 0, &mut buffer);
            buffer[..len] < *gram
        });
        let high = Self::bisect(low, n, |i| {
            let len = self.suffix(i, 0, &mut buffer);
            buffer[..len] == *gram
        });
        (low < high).then_some(Interval { low, high, depth: gram.len() })
    }

    /// What follows an interval's string: tokens and their intervals, in order of token.
    pub(crate) fn children(&self, parent: Interval, mut each: impl FnMut(TokenId, Interval)) {
        let token = |i: usize| {
            let mut t = [0];
            (self.suffix(i, parent.depth, &mut t) > 0).then_some(t[0])
        };
        // Suffixes that end here come first.
        let mut at = Self::bisect(parent.low, parent.high, |i| token(i).is_none());
        while at < parent.high {
            let Some(t) = token(at) else { return };
            let next = Self::bisect(at, parent.high, |i| token(i).is_some_and(|x| x <= t));
            if next == at {
                return; // out of order: damaged
            }
            each(t, Interval { low: at, high: next, depth: parent.depth + 1 });
            at = next;
        }
    }

    pub(crate) fn memory(&self) -> usize {
        let of = |w: &Words| if let Words::Memory(v) = w { 4 * v.len() } else { 0 };
        of(&self.tokens) + of(&self.suffixes) + 4 * self.starts.len()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::path::PathBuf;

    pub(crate) fn temporary(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("trivium-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder.join(name)
    }

    #[test]
    fn memory_and_disk_find_what_a_scan_finds() {
        let documents: [&[u32]; 4] = [&[0, 1, 0, 1, 2], &[1, 2, 0], &[2], &[0, 1, 0]];
        let path = temporary("datastore.safetensors");
        build(documents, 3, &path).unwrap();
        for max_memory in [0, 1 << 20] {
            let d = Datastore::open(&path, 3, max_memory).unwrap();
            assert_eq!(d.memory() > 100, max_memory > 0);
            for n in 1..4u32 {
                for code in 0..3u32.pow(n) {
                    let gram: Vec<u32> = (0..n).map(|i| code / 3u32.pow(i) % 3).collect();
                    let naive = |g: &[u32]| -> usize {
                        documents
                            .iter()
                            .map(|d| d.windows(g.len()).filter(|w| *w == g).count())
                            .sum()
                    };
                    let found = d.find(&gram);
                    assert_eq!(found.map_or(0, Interval::count), naive(&gram));
                    let mut seen = 0;
                    if let Some(interval) = found {
                        d.children(interval, |t, child| {
                            let longer = [&gram[..], &[t]].concat();
                            assert_eq!(child.count(), naive(&longer));
                            seen += 1;
                        });
                    }
                    let want = (0..3).filter(|&t| naive(&[&gram[..], &[t]].concat()) > 0).count();
                    assert_eq!(seen, want);
                }
            }
        }
    }

    #[test]
    fn damaged_files_are_refused_or_harmless() {
        let path = temporary("damaged.safetensors");
        build([&[0u32, 1, 2, 0, 1][..]], 3, &path).unwrap();
        let raw = std::fs::read(&path).unwrap();
        for cut in [0, 4, 9, raw.len() / 2, raw.len() - 1] {
            std::fs::write(&path, &raw[..cut]).unwrap();
            assert!(Datastore::open(&path, 3, 1 << 20).is_err(), "cut at {cut}");
        }
        std::fs::write(&path, &raw).unwrap();
        assert!(Datastore::open(&path, 4, 0).is_err(), "another vocabulary");
        for at in raw.len() - 60..raw.len() {
            let mut wrong = raw.clone();
            wrong[at] ^= 0xff;
            std::fs::write(&path, &wrong).unwrap();
            for memory in [0, 1 << 20] {
                if let Ok(d) = Datastore::open(&path, 3, memory) {
                    for gram in [&[0u32, 1][..], &[2], &[1]] {
                        if let Some(i) = d.find(gram) {
                            d.children(i, |_, _| {});
                        }
                    }
                }
            }
        }
        Corpus::new([&[1u32][..]], 3).unwrap().write(&path, 3, None).unwrap();
        let e = Datastore::open(&path, 3, 0).unwrap_err();
        assert!(e.to_string().contains("suffixes"));
    }
}
