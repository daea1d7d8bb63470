//! Sets of code points: sorted, disjoint, non-adjacent closed ranges, interned.

use rustc_hash::FxHashMap;
use std::sync::Arc;

/// A closed range of code points.
pub(crate) type Range = (u32, u32);

/// Index of an interned set.
pub(crate) type ClassId = u32;

/// The largest code point.
pub(crate) const MAX: u32 = 0x0010_ffff;

/// Sorts and joins ranges.
pub(crate) fn normalize(mut ranges: Vec<Range>) -> Vec<Range> {
    ranges.sort_unstable();
    let mut out: Vec<Range> = Vec::with_capacity(ranges.len());
    for (lo, hi) in ranges {
        match out.last_mut() {
            Some(last) if lo <= last.1.saturating_add(1) => last.1 = last.1.max(hi),
            _ => out.push((lo, hi)),
        }
    }
    out
}

/// The part of `a` that lies in `b`; both normalised.
pub(crate) fn intersect(a: &[Range], b: &[Range]) -> Vec<Range> {
    let (mut i, mut j) = (0, 0);
    let mut out = Vec::new();
    while i < a.len() && j < b.len() {
        let lo = a[i].0.max(b[j].0);
        let hi = a[i].1.min(b[j].1);
        if lo <= hi {
            out.push((lo, hi));
        }
        if a[i].1 < b[j].1 {
            i += 1;
        } else {
            j += 1;
        }
    }
    out
}

/// Everything outside `a`, which is normalised.
pub(crate) fn complement(a: &[Range]) -> Vec<Range> {
    let mut out = Vec::with_capacity(a.len() + 1);
    let mut next = 0;
    for &(lo, hi) in a {
        if lo > next {
            out.push((next, lo - 1));
        }
        next = hi + 1;
    }
    if next <= MAX {
        out.push((next, MAX));
    }
    out
}

/// Whether a code point lies in a normalised set.
pub(crate) fn contains(a: &[Range], c: u32) -> bool {
    let i = a.partition_point(|r| r.1 < c);
    a.get(i).is_some_and(|r| r.0 <= c)
}

/// Surrogates are no characters. A set that has both their neighbours has them too, any other set has
/// none: so `.` is one range, equal sets are equal lists, and no set consists of surrogates only.
fn tidy(ranges: Vec<Range>) -> Vec<Range> {
    const FIRST: u32 = 0xd800;
    const LAST: u32 = 0xdfff;
    if ranges.iter().all(|r| r.1 < FIRST - 1 || LAST + 1 < r.0 || (r.0 < FIRST && r.1 > LAST)) {
        return ranges;
    }
    let mut out: Vec<Range> = Vec::with_capacity(ranges.len() + 1);
    for (lo, hi) in ranges {
        if lo < FIRST {
            out.push((lo, hi.min(FIRST - 1)));
        }
        if hi > LAST {
            let lo = lo.max(LAST + 1);
            match out.last_mut() {
                Some(last) if lo == LAST + 1 && last.1 == FIRST - 1 => last.1 = hi,
                _ => out.push((lo, hi)),
            }
        }
    }
    out
}

/// Interned sets.
#[derive(Debug, Clone, Default)]
pub(crate) struct Classes {
    sets: Vec<Arc<[Range]>>,
    index: FxHashMap<Arc<[Range]>, ClassId>,
}

impl Classes {
    /// The id of a normalised set.
    pub(crate) fn intern(&mut self, ranges: Vec<Range>) -> ClassId {
        let ranges = tidy(ranges);
        let set: Arc<[Range]> = ranges.into();
        if let Some(&id) = self.index.get(&set) {
            return id;
        }
        let id = self.sets.len() as ClassId;
        self.sets.push(Arc::clone(&set));
        self.index.insert(set, id);
        id
    }

    /// The ranges of a set.
    pub(crate) fn get(&self, id: ClassId) -> &Arc<[Range]> {
        &self.sets[id as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn algebra_on_small_sets() {
        assert_eq!(normalize(vec![(5, 6), (1, 2), (3, 3), (6, 9)]), [(1, 3), (5, 9)]);
        assert_eq!(intersect(&[(1, 5), (8, 9)], &[(0, 1), (4, 8)]), [(1, 1), (4, 5), (8, 8)]);
        assert_eq!(complement(&[(0, 3), (7, MAX)]), [(4, 6)]);
        assert_eq!(complement(&[]), [(0, MAX)]);
        assert_eq!(tidy(vec![(0, 0xd7ff), (0xe000, MAX)]), [(0, MAX)]);
        assert_eq!(tidy(vec![(0xd800, MAX)]), [(0xe000, MAX)]);
        assert_eq!(tidy(vec![(0xd000, 0xd900), (0xda00, 0xdfff)]), [(0xd000, 0xd7ff)]);
        assert!(contains(&[(1, 3), (5, 9)], 5) && !contains(&[(1, 3), (5, 9)], 4));
    }
}
