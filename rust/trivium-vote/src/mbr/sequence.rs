//! Utilities on whole sequences: edit distance and longest common subsequence.
//!
//! Myers, "A Fast Bit-Vector Algorithm for Approximate String Matching Based on Dynamic Programming",
//! in one machine word; two rows of dynamic programming beyond it. Hyyro, "Bit-Parallel LCS-length
//! Computation Revisited", in as many words as it takes.

use rustc_hash::FxHashMap;

/// Texts as sequences of symbols.
#[derive(Debug, Clone)]
pub struct Texts {
    sequences: Vec<Vec<u32>>,
    subsequence: bool,
}

impl Texts {
    /// Characters, for `edit`.
    pub fn characters(texts: &[&str]) -> Self {
        let sequences = texts.iter().map(|t| t.chars().map(u32::from).collect()).collect();
        Self { sequences, subsequence: false }
    }

    /// Words, for `rouge_l`.
    pub fn words(texts: &[&str]) -> Self {
        let mut ids: FxHashMap<&str, u32> = FxHashMap::default();
        let mut sequences = Vec::new();
        for text in texts {
            let mut sequence = Vec::new();
            for word in text.split_whitespace() {
                let next = ids.len() as u32;
                sequence.push(*ids.entry(word).or_insert(next));
            }
            sequences.push(sequence);
        }
        Self { sequences, subsequence: true }
    }

    /// `1 - lev / max` or the F1 of the longest common subsequence; 1 for two empty texts.
    pub fn utility(&self, h: usize, r: usize) -> f64 {
        let (x, y) = (&self.sequences[h], &self.sequences[r]);
        let longest = x.len().max(y.len());
        if longest == 0 || x == y {
            return 1.0;
        }
        if self.subsequence {
            2.0 * common(x, y) as f64 / (x.len() + y.len()) as f64
        } else {
            1.0 - distance(x, y) as f64 / longest as f64
        }
    }
}

fn masks(x: &[u32], words: usize) -> FxHashMap<u32, Vec<u64>> {
    let mut masks: FxHashMap<u32, Vec<u64>> = FxHashMap::default();
    for (i, &symbol) in x.iter().enumerate() {
        masks.entry(symbol).or_insert_with(|| vec![0; words])[i / 64] |= 1 << (i % 64);
    }
    masks
}

/// Length of the longest common subsequence.
pub fn common(x: &[u32], y: &[u32]) -> usize {
    let words = x.len().div_ceil(64);
    let masks = masks(x, words);
    let mut v = vec![u64::MAX; words];
    for symbol in y {
        let Some(mask) = masks.get(symbol) else { continue };
        let mut carry = false;
        for (v, m) in v.iter_mut().zip(mask) {
            let (sum, over) = v.overflowing_add(*v & m);
            let (sum, again) = sum.overflowing_add(u64::from(carry));
            carry = over || again;
            *v = sum | (*v & !m);
        }
    }
    (0..x.len()).filter(|i| v[i / 64] >> (i % 64) & 1 == 0).count()
}

/// Levenshtein distance.
pub fn distance(x: &[u32], y: &[u32]) -> usize {
    let (x, y) = if x.len() <= y.len() { (x, y) } else { (y, x) };
    if x.is_empty() {
        return y.len();
    }
    if x.len() > 64 {
        return by_rows(x, y);
    }
    let masks = masks(x, 1);
    let top = 1u64 << (x.len() - 1);
    let (mut plus, mut minus, mut score) = (u64::MAX, 0u64, x.len());
    for symbol in y {
        let equal = masks.get(symbol).map_or(0, |mask| mask[0]);
        let xv = equal | minus;
        let xh = (((equal & plus).wrapping_add(plus)) ^ plus) | equal;
        let (mut up, mut down) = (minus | !(xh | plus), plus & xh);
        score += usize::from(up & top != 0);
        score -= usize::from(down & top != 0);
        up = up << 1 | 1;
        down <<= 1;
        plus = down | !(xv | up);
        minus = up & xv;
    }
    score
}

fn by_rows(x: &[u32], y: &[u32]) -> usize {
    let mut row: Vec<usize> = (0..=x.len()).collect();
    for (j, b) in y.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = j + 1;
        for (i, a) in x.iter().enumerate() {
            let best = (row[i].min(row[i + 1]) + 1).min(diagonal + usize::from(a != b));
            diagonal = std::mem::replace(&mut row[i + 1], best);
        }
    }
    row[x.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rouge_l_has_its_published_value() {
        let texts = Texts::words(&["the cat sat on the mat", "the fat cat sat on the mat", ""]);
        assert!((texts.utility(0, 1) - 0.923_076_923).abs() < 1e-9);
        assert_eq!((texts.utility(0, 2), texts.utility(2, 2)), (0.0, 1.0));
    }

    fn slow_common(x: &[u32], y: &[u32]) -> usize {
        let mut row = vec![0; y.len() + 1];
        for a in x {
            let mut diagonal = 0;
            for (j, b) in y.iter().enumerate() {
                let best = if a == b { diagonal + 1 } else { row[j].max(row[j + 1]) };
                diagonal = std::mem::replace(&mut row[j + 1], best);
            }
        }
        row[y.len()]
    }

    proptest! {
        #[test]
        fn bits_agree_with_tables(
            x in prop::collection::vec(0u32..4, 0..150),
            y in prop::collection::vec(0u32..4, 0..150),
        ) {
            prop_assert_eq!(distance(&x, &y), by_rows(&x, &y));
            prop_assert_eq!(common(&x, &y), slow_common(&x, &y));
        }
    }
}
