//! From blocks of characters to transitions by byte.
//!
//! `Utf8Sequences` splits a range of code points into sequences of byte ranges, surrogates and
//! over-long forms excluded. In code-point order the sequences are sorted, and two that share a
//! first byte share the whole first range, so neighbours group into a trie whose inner nodes are the
//! states *inside* a character.

use super::table::StateId;
use crate::error::Result;
use regex_syntax::utf8::{Utf8Range, Utf8Sequences};

/// Transitions inside a character: byte ranges, sorted, with targets.
pub(crate) type Middle = Box<[(u8, u8, StateId)]>;

/// The sequences of `blocks` (sorted, disjoint) with their targets; ASCII apart.
pub(crate) fn split(
    blocks: &[(u32, u32, StateId)],
    mut ascii: impl FnMut(u8, u8, StateId),
) -> Vec<(Vec<Utf8Range>, StateId)> {
    let mut out = Vec::new();
    for &(lo, hi, target) in blocks {
        if lo < 0x80 {
            ascii(lo as u8, hi.min(0x7f) as u8, target);
        }
        if hi < 0x80 {
            continue;
        }
        // Ends may fall on surrogates, which are no characters.
        let lo = if (0xd800..0xe000).contains(&lo) { 0xe000 } else { lo.max(0x80) };
        let hi = if (0xd800..0xe000).contains(&hi) { 0xd7ff } else { hi };
        if let (Some(lo), Some(hi)) = (char::from_u32(lo), char::from_u32(hi))
            && lo <= hi
        {
            out.extend(Utf8Sequences::new(lo, hi).map(|s| (s.as_slice().to_vec(), target)));
        }
    }
    out
}

/// Groups sequences from byte `depth` on; `intern` gives the state of an inner node.
pub(crate) fn group(
    seqs: &[(Vec<Utf8Range>, StateId)],
    depth: usize,
    intern: &mut impl FnMut(Middle) -> Result<StateId>,
) -> Result<Vec<(u8, u8, StateId)>> {
    let mut out: Vec<(u8, u8, StateId)> = Vec::new();
    let mut i = 0;
    while i < seqs.len() {
        let range = seqs[i].0[depth];
        let same = seqs[i..].iter().take_while(|s| s.0[depth] == range).count();
        let target = if seqs[i].0.len() == depth + 1 {
            seqs[i].1
        } else {
            let inner = group(&seqs[i..i + same], depth + 1, intern)?;
            intern(inner.into())?
        };
        match out.last_mut() {
            Some(l) if l.2 == target && l.1 + 1 == range.start => l.1 = range.end,
            _ => out.push((range.start, range.end, target)),
        }
        i += same;
    }
    Ok(out)
}
