//! `trivium-store-2`: a safetensors file of U32 tensors and string metadata.
//!
//! Metadata holds the format, the configuration (`vocab_size`, `sources`, `max_nodes`, `max_depth`,
//! `max_bytes`, `policy`, `seed`), `vocabulary` (the digest of the vocabulary, hexadecimal, empty if
//! unknown) and `checksum` (FNV-1a of names, lengths and words, hexadecimal). Tensors are named
//! `source.array`: `suffix.lens` and `suffix.tokens` hold the finished texts, oldest first;
//! `recycle.tokens` and `recycle.rows` the rows; `mixture` the calibration. What is damaged, cut
//! short, of another format or of another vocabulary is refused, and a file is replaced only when the
//! new one is complete.

use crate::draft::Saved;
use crate::speculator::SpeculatorConfig;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::HashMap;
use std::path::Path;
use trivium_core::error::{Error, Result};

const FORMAT: &str = "trivium-store-2";

fn bad(why: impl std::fmt::Display) -> Error {
    Error::input("store", why.to_string())
}

/// FNV-1a over names, lengths and words: finds damage, not forgery.
fn checksum(saved: &Saved) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let mut mix = |bytes: &[u8]| {
        for &b in bytes {
            hash = (hash ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    for (name, data) in saved {
        mix(name.as_bytes());
        mix(&(data.len() as u64).to_le_bytes());
        data.iter().for_each(|x| mix(&x.to_le_bytes()));
    }
    format!("{hash:016x}")
}

pub(crate) fn write(
    path: &Path,
    config: &SpeculatorConfig,
    saved: &Saved,
    vocabulary: Option<u64>,
) -> Result<()> {
    let bytes: Vec<(String, usize, Vec<u8>)> = saved
        .iter()
        .map(|(k, v)| (k.clone(), v.len(), v.iter().flat_map(|x| x.to_le_bytes()).collect()))
        .collect();
    let tensors = bytes
        .iter()
        .map(|(k, n, b)| Ok((k.as_str(), TensorView::new(Dtype::U32, vec![*n], b).map_err(bad)?)))
        .collect::<Result<Vec<_>>>()?;
    let metadata: HashMap<String, String> = [
        ("format", FORMAT.to_owned()),
        ("vocab_size", config.vocab_size.to_string()),
        ("sources", config.sources.join(",")),
        ("max_nodes", config.max_nodes.to_string()),
        ("max_depth", config.max_depth.to_string()),
        ("max_bytes", config.max_bytes.to_string()),
        ("policy", config.policy.to_string()),
        ("seed", config.seed.to_string()),
        ("vocabulary", vocabulary.map_or_else(String::new, |v| format!("{v:016x}"))),
        ("checksum", checksum(saved)),
    ]
    .into_iter()
    .map(|(k, v)| (k.to_owned(), v))
    .collect();
    let raw = safetensors::serialize(tensors, Some(metadata)).map_err(bad)?;
    let failed = |e: std::io::Error| Error::input("path", format!("cannot be written: {e}"));
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    std::fs::write(&part, raw).map_err(failed)?;
    std::fs::rename(&part, path).map_err(failed)
}

/// Reads a file; with `vocabulary`, one that was made for it.
pub(crate) fn read(path: &Path, vocabulary: Option<u64>) -> Result<(SpeculatorConfig, Saved)> {
    let raw =
        std::fs::read(path).map_err(|e| Error::input("path", format!("cannot be read: {e}")))?;
    let (_, head) = SafeTensors::read_metadata(&raw).map_err(bad)?;
    let tensors = SafeTensors::deserialize(&raw).map_err(bad)?;
    let meta = head.metadata().clone().unwrap_or_default();
    let text =
        |name: &str| meta.get(name).ok_or_else(|| bad(format!("metadata {name} is missing")));
    if text("format")? != FORMAT {
        return Err(bad(format!("format {:?}, this version reads {FORMAT}", text("format")?)));
    }
    if let Some(want) = vocabulary.map(|v| format!("{v:016x}"))
        && *text("vocabulary")? != want
    {
        let found = match text("vocabulary")?.as_str() {
            "" => "no vocabulary in particular",
            other => other,
        };
        return Err(bad(format!("was made for {found}, not for the vocabulary {want}")));
    }
    let number = |name: &str| -> Result<u64> { text(name)?.parse().map_err(bad) };
    let config = SpeculatorConfig {
        vocab_size: number("vocab_size")? as usize,
        sources: text("sources")?.split(',').filter(|s| !s.is_empty()).map(Into::into).collect(),
        max_nodes: number("max_nodes")? as usize,
        max_depth: number("max_depth")? as usize,
        max_bytes: number("max_bytes")? as usize,
        policy: text("policy")?.parse()?,
        seed: number("seed")?,
    };
    let mut saved = Saved::new();
    for (name, tensor) in tensors.tensors() {
        if tensor.dtype() != Dtype::U32 {
            return Err(bad(format!("tensor {name} is not U32")));
        }
        let data: Vec<u32> = tensor
            .data()
            .chunks_exact(4)
            .map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]]))
            .collect();
        // Token arrays only ever hold ids of the vocabulary.
        if name.ends_with("suffix.tokens") {
            trivium_core::ids::check_ids(&data, config.vocab_size)?;
        }
        saved.insert(name, data);
    }
    if *text("checksum")? != checksum(&saved) {
        return Err(bad("the checksum does not fit the contents: the file is damaged"));
    }
    Ok((config, saved))
}
