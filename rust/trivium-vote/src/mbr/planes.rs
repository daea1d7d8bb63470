//! Exact n-gram utilities by bit planes.
//!
//! Own, for Popovic, "chrF: character n-gram F-score for automatic MT evaluation", Papineni et al.,
//! "BLEU: a Method for Automatic Evaluation of Machine Translation", and Lin, "ROUGE: A Package for
//! Automatic Evaluation of Summaries". All of them need clipped matches of n-gram counts. A candidate
//! is a row of bits, one for each pair (n-gram, copy number t) with count above t, so that the
//! matches of two candidates are
//!
//! ```text
//! m_n = popcount(row_i AND row_j)     over the words of order n
//! ```
//!
//! Pairs that occur in one candidate alone match nothing else and are left out; a candidate against
//! itself matches its totals. One intersection serves both directions.

use super::Utility;
use rustc_hash::FxHashMap;

/// Candidates as rows of bits.
#[derive(Debug, Clone)]
pub struct Planes {
    utility: Utility,
    /// Words of a row by order: `bounds[n] .. bounds[n + 1]`.
    bounds: Vec<usize>,
    rows: Vec<u64>,
    /// Totals by row and order.
    totals: Vec<u32>,
    /// Number of distinct n-grams over all candidates.
    vocabulary: usize,
    /// Tokens of each candidate, for brevity.
    lengths: Vec<usize>,
}

impl Planes {
    /// Builds the rows for a utility on n-grams.
    pub fn new(texts: &[&str], utility: Utility) -> Self {
        let (orders, distinct_only) = match utility {
            Utility::ChrF => (1..=6, false),
            Utility::Bleu => (1..=4, false),
            Utility::Rouge(n) => (n..=n, false),
            Utility::Jaccard | Utility::Ucs => (1..=1, true),
            _ => (1..=1, false),
        };
        let mut symbols: FxHashMap<String, u32> = FxHashMap::default();
        let mut intern = |word: &str| {
            let next = symbols.len() as u32;
            *symbols.entry(word.to_owned()).or_insert(next)
        };
        let sequences: Vec<Vec<u32>> = texts
            .iter()
            .map(|text| match utility {
                Utility::ChrF => {
                    text.chars().filter(|c| !c.is_whitespace()).map(u32::from).collect()
                }
                Utility::Bleu => tokens_13a(text).iter().map(|word| intern(word)).collect(),
                _ => text.split_whitespace().map(&mut intern).collect(),
            })
            .collect();
        let num = texts.len();
        let mut bounds = vec![0];
        let mut planes: Vec<(Vec<(u32, u32)>, usize)> = Vec::new();
        let mut totals = vec![0u32; num * orders.clone().count()];
        let num_orders = orders.clone().count();
        let mut vocabulary = 0;
        for (place, n) in orders.enumerate() {
            let mut ids: FxHashMap<&[u32], u32> = FxHashMap::default();
            // Occurrences as (candidate, gram), then counted by sorting.
            let mut bits: Vec<(u32, u32, u32)> = Vec::new();
            for (i, sequence) in sequences.iter().enumerate() {
                let mut grams: Vec<u32> = Vec::new();
                for gram in sequence.windows(n) {
                    let next = ids.len() as u32;
                    grams.push(*ids.entry(gram).or_insert(next));
                }
                grams.sort_unstable();
                let mut copy = 0;
                for (k, &gram) in grams.iter().enumerate() {
                    copy = if k > 0 && grams[k - 1] == gram { copy + 1 } else { 0 };
                    if copy == 0 || !distinct_only {
                        bits.push((gram, copy, i as u32));
                        totals[i * num_orders + place] += 1;
                    }
                }
            }
            vocabulary += ids.len();
            bits.sort_unstable();
            let mut set: Vec<(u32, u32)> = Vec::new();
            let mut next = 0u32;
            let mut start = 0;
            while start < bits.len() {
                let same =
                    |bit: &&(u32, u32, u32)| (bit.0, bit.1) == (bits[start].0, bits[start].1);
                let len = bits[start..].iter().take_while(same).count();
                if len > 1 {
                    set.extend(bits[start..start + len].iter().map(|bit| (bit.2, next)));
                    next += 1;
                }
                start += len;
            }
            let words = (next as usize).div_ceil(64);
            bounds.push(bounds[place] + words);
            planes.push((set, bounds[place]));
        }
        let width = bounds[num_orders];
        let mut rows = vec![0u64; num * width];
        for (set, first) in planes {
            for (i, bit) in set {
                rows[i as usize * width + first + bit as usize / 64] |= 1 << (bit % 64);
            }
        }
        let lengths = sequences.iter().map(Vec::len).collect();
        Self { utility, bounds, rows, totals, vocabulary, lengths }
    }

    fn totals(&self, i: usize) -> &[u32] {
        let orders = self.bounds.len() - 1;
        &self.totals[i * orders..(i + 1) * orders]
    }

    /// Utilities in both directions.
    pub fn both(&self, h: usize, r: usize) -> (f64, f64) {
        let orders = self.bounds.len() - 1;
        let width = self.bounds[orders];
        let (x, y) =
            (&self.rows[h * width..(h + 1) * width], &self.rows[r * width..(r + 1) * width]);
        let (p, q) = (self.totals(h), self.totals(r));
        let mut matches = [0u32; 6];
        for (n, pair) in self.bounds.windows(2).enumerate() {
            matches[n] = if h == r {
                p[n]
            } else {
                let words = x[pair[0]..pair[1]].iter().zip(&y[pair[0]..pair[1]]);
                words.map(|(x, y)| (x & y).count_ones()).sum()
            };
        }
        let matches = &matches[..orders];
        match self.utility {
            Utility::ChrF => (chrf(matches, p, q), chrf(matches, q, p)),
            Utility::Bleu => {
                let (a, b) = (self.lengths[h], self.lengths[r]);
                (bleu(matches, p, a, b), bleu(matches, q, b, a))
            }
            Utility::Jaccard => {
                let union = p[0] + q[0] - matches[0];
                let u = if union == 0 { 1.0 } else { f64::from(matches[0]) / f64::from(union) };
                (u, u)
            }
            Utility::Ucs => {
                let u = f64::from(matches[0]) / (self.vocabulary.max(1) as f64);
                (u, u)
            }
            _ => {
                let total = p[0] + q[0];
                let u =
                    if total == 0 { 1.0 } else { 2.0 * f64::from(matches[0]) / f64::from(total) };
                (u, u)
            }
        }
    }
}

/// chrF from matches and totals by order: plain means of precision and recall over the orders that
/// both texts have, `beta` = 2.
fn chrf(matches: &[u32], h: &[u32], r: &[u32]) -> f64 {
    let (mut p, mut q, mut orders) = (0.0, 0.0, 0.0);
    for n in 0..matches.len() {
        if h[n] > 0 && r[n] > 0 {
            p += f64::from(matches[n]) / f64::from(h[n]);
            q += f64::from(matches[n]) / f64::from(r[n]);
            orders += 1.0;
        }
    }
    if p + q == 0.0 {
        return 0.0;
    }
    (p, q) = (p / orders, q / orders);
    100.0 * 5.0 * p * q / (4.0 * p + q)
}

/// Sentence BLEU: effective order, each order without a match halves its smoothed count again.
fn bleu(matches: &[u32], totals: &[u32], len: usize, reference: usize) -> f64 {
    let (mut logs, mut orders, mut smooth) = (0.0, 0.0, 1.0);
    for (&m, &total) in matches.iter().zip(totals) {
        if total == 0 {
            break;
        }
        orders += 1.0;
        logs += if m > 0 {
            (f64::from(m) / f64::from(total)).ln()
        } else {
            smooth *= 2.0;
            (1.0 / (smooth * f64::from(total))).ln()
        };
    }
    if orders == 0.0 || matches[0] == 0 {
        return 0.0;
    }
    let brevity = if len < reference { 1.0 - reference as f64 / len as f64 } else { 0.0 };
    100.0 * (brevity + logs / orders).exp()
}

/// Words as the `13a` tokeniser of machine translation cuts them.
fn tokens_13a(text: &str) -> Vec<String> {
    let text = text.replace("<skipped>", "").replace("-\n", "").replace('\n', " ");
    let mut plain = text;
    if plain.contains('&') {
        for (entity, mark) in [("&quot;", "\""), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">")] {
            plain = plain.replace(entity, mark);
        }
    }
    let chars: Vec<char> = plain.chars().collect();
    let digit = |c: Option<&char>| c.is_some_and(char::is_ascii_digit);
    let mut out = String::with_capacity(plain.len() * 2);
    for (i, &c) in chars.iter().enumerate() {
        let before = if i > 0 { chars.get(i - 1) } else { None };
        let after = chars.get(i + 1);
        let alone = match c {
            '{'..='~' | '['..='`' | ' '..='&' | '('..='+' | ':'..='@' | '/' => true,
            '.' | ',' => !digit(before) || !digit(after),
            '-' => digit(before),
            _ => false,
        };
        if alone {
            out.push(' ');
            out.push(c);
            out.push(' ');
        } else {
            out.push(c);
        }
    }
    out.split_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pair(utility: Utility, h: &str, r: &str) -> f64 {
        Planes::new(&[h, r], utility).both(0, 1).0
    }

    #[test]
    fn utilities_have_their_published_values() {
        for (h, r, expected) in [
            ("The cat sat on the mat.", "The fat cat sat on the mat.", 74.631_905),
            ("The cat sat on the hat.", "A cat sat on a mat.", 50.721_828),
            ("a", "b", 0.0),
            ("ab", "abc", 63.636_364),
        ] {
            let found = pair(Utility::ChrF, h, r);
            assert!((found - expected).abs() < 1e-6, "{h} {r} {found}");
        }
        let (h, r) = ("the cat sat on the mat", "the fat cat sat on the mat");
        assert!((pair(Utility::Bleu, h, r) - 67.318_213_82).abs() < 1e-8);
        assert!((pair(Utility::Bleu, "the cat", "the cat sat") - 60.653_066_0).abs() < 1e-6);
        assert!((pair(Utility::TokenF1, h, r) - 0.923_076_923).abs() < 1e-9);
        let three = Planes::new(&["a b c", "a b d", "x y z"], Utility::Ucs);
        assert!((three.both(0, 1).0 - 2.0 / 7.0).abs() < 1e-12);
        assert_eq!(three.both(0, 2).0, 0.0);
    }

    #[test]
    fn words_are_cut_as_13a_cuts_them() {
        assert_eq!(
            tokens_13a("Hello, world-1.5 (a/b) 3-4."),
            ["Hello", ",", "world-1.5", "(", "a", "/", "b", ")", "3", "-", "4", "."]
        );
    }

    /// chrF by counting n-grams in maps.
    fn direct(h: &str, r: &str) -> f64 {
        let plain = |t: &str| t.chars().filter(|c| !c.is_whitespace()).collect::<Vec<char>>();
        let (h, r) = (plain(h), plain(r));
        let (mut m, mut p, mut q) = ([0u32; 6], [0u32; 6], [0u32; 6]);
        for n in 1..=6 {
            let count = |t: &[char]| {
                let mut map: FxHashMap<Vec<char>, u32> = FxHashMap::default();
                t.windows(n).for_each(|g| *map.entry(g.to_vec()).or_default() += 1);
                map
            };
            let (x, y) = (count(&h), count(&r));
            p[n - 1] = x.values().sum();
            q[n - 1] = y.values().sum();
            m[n - 1] = x.iter().map(|(g, &c)| c.min(y.get(g).copied().unwrap_or(0))).sum();
        }
        chrf(&m, &p, &q)
    }

    proptest! {
        #[test]
        fn planes_agree_with_the_direct_formula(
            texts in prop::collection::vec("[ab c\u{e9}\u{1f600}]{0,12}", 1..6),
        ) {
            let list: Vec<&str> = texts.iter().map(String::as_str).collect();
            let planes = Planes::new(&list, Utility::ChrF);
            for h in 0..list.len() {
                for r in 0..list.len() {
                    let (forth, back) = planes.both(h, r);
                    prop_assert!((forth - direct(list[h], list[r])).abs() < 1e-9);
                    prop_assert!((back - direct(list[r], list[h])).abs() < 1e-9);
                }
            }
        }
    }
}
