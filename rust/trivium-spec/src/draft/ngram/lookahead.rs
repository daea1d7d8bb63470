//! The window of lookahead decoding: W guesses advance in parallel and leave n-grams behind.
//!
//! ```text
//!             column  0    1    2  ...  W-1
//! row 0        last   y01  y02      y0(W-1)     offsets 0 .. W-1
//! row 1        y10    y11  y12 ...  y1(W-1)     offsets 1 .. W
//! ...
//! row N-2                                       its arg-maxes are the next row
//! ```
//!
//! Node (l, i) stands l + i places behind the last committed token. It sees the committed text, row
//! 0 up to its column, and its own column above it. One pass over all rows gives W new tokens; each
//! column is then an n-gram of the model's own making: key row 0 at column i (column 0: the last
//! committed token), phrase rows 1..N-2 and the new token. The rows move up by one and row 0 loses
//! its first element with every committed token.
//!
//! Warm-up: row 0 starts with W + N - 3 tokens from the text, and each pass adds a row.
//!
//! "Break the Sequential Dependency of LLM Inference Using Lookahead Decoding". These nodes are never
//! verified: a host appends them behind the nodes of the draft tree, under [`Layout`], and hands
//! their arg-maxes to [`LookaheadWindow::harvest`]; the phrases enter a pool of the caller
//! (`lookahead` keeps its own from text and rejected drafts).

use trivium_core::TokenId;
use trivium_core::error::{Error, Result};

/// An n-gram that a column spelled: its key and its phrase of N - 1 tokens.
pub type Ngram = (TokenId, Vec<TokenId>);

/// Nodes to run behind the committed text, whose last token is not among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Token of each node, row by row.
    pub tokens: Vec<TokenId>,
    /// Distance of each node from the last committed token.
    pub offsets: Vec<u32>,
    /// Nodes that each node sees, itself included, as a square matrix; all see the committed text.
    pub mask: Vec<bool>,
    /// Nodes whose arg-max [`harvest`](LookaheadWindow::harvest) wants, in order. The first may be
    /// the row of the last committed token itself: then it is `None`.
    pub wanted: Vec<Option<usize>>,
}

/// Window state of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookaheadWindow {
    width: usize,
    levels: usize,
    /// Row 0 without its column 0, then the full rows.
    rows: Vec<Vec<TokenId>>,
}

impl LookaheadWindow {
    /// A window of `width` columns for n-grams of `ngram` tokens; `text` fills the first row, from
    /// positions that a generator of the caller's seed chooses.
    ///
    /// # Errors
    /// `InvalidInput` for n-grams below 3, no column or an empty text.
    pub fn new(width: usize, ngram: usize, text: &[TokenId], seed: u64) -> Result<Self> {
        if !(3..=64).contains(&ngram) || !(1..=1024).contains(&width) || text.is_empty() {
            return Err(Error::input(
                "window",
                "needs 3..=64 tokens an n-gram, 1..=1024 columns and a text to start from",
            ));
        }
        let key = [seed as u32, (seed >> 32) as u32];
        let draw = |i: usize| {
            text[trivium_core::rng::philox([i as u32, 0, 7, 0], key)[0] as usize % text.len()]
        };
        let first = (0..width + ngram - 3).map(draw).collect();
        Ok(Self { width, levels: ngram - 1, rows: vec![first] })
    }

    /// Whether all rows are filled, so that columns spell n-grams.
    pub fn is_warm(&self) -> bool {
        self.rows.len() == self.levels
    }

    /// Nodes of the next pass.
    pub fn layout(&self) -> Layout {
        let mut out = Layout {
            tokens: Vec::new(),
            offsets: Vec::new(),
            mask: Vec::new(),
            wanted: Vec::new(),
        };
        // (row, column) of each node; row 0 starts at column 1.
        let mut places = Vec::new();
        for (l, row) in self.rows.iter().enumerate() {
            for (i, &token) in row.iter().enumerate() {
                let column = if l == 0 { i + 1 } else { i };
                places.push((l, column));
                out.tokens.push(token);
                out.offsets.push((l + column) as u32);
            }
        }
        let n = places.len();
        out.mask = vec![false; n * n];
        for (a, &(l, i)) in places.iter().enumerate() {
            for (b, &(m, j)) in places.iter().enumerate() {
                out.mask[a * n + b] = if m == 0 { j <= i } else { m <= l && j == i };
            }
        }
        let last = self.rows.len() - 1;
        if last == 0 {
            out.wanted.push(None);
        }
        out.wanted.extend((0..n).filter(|&a| places[a].0 == last).map(Some));
        out
    }

    /// Takes the arg-maxes of the wanted nodes; gives the n-grams that the columns spell once the
    /// window is warm, `last` being the last committed token.
    ///
    /// # Errors
    /// `InvalidInput` unless there is one a wanted node; nothing changes.
    pub fn harvest(&mut self, last: TokenId, best: &[TokenId]) -> Result<Vec<Ngram>> {
        let want = self.rows.last().map_or(0, Vec::len) + usize::from(self.rows.len() == 1);
        if best.len() != want {
            return Err(Error::input(
                "best",
                format!("{} arg-maxes for {want} wanted nodes", best.len()),
            ));
        }
        if self.rows.len() < self.levels {
            // Warm-up: every row loses its first element, the new one is as long as its source.
            for row in &mut self.rows {
                row.remove(0);
            }
            let fresh = if self.rows.len() == 1 { best } else { &best[1..] };
            self.rows.push(fresh[..fresh.len().min(self.room())].to_vec());
            return Ok(Vec::new());
        }
        let columns = best.len().min(self.rows[0].len() + 1);
        let ngrams = (0..columns)
            .map(|i| {
                let key = if i == 0 { last } else { self.rows[0][i - 1] };
                let phrase =
                    self.rows[1..].iter().filter_map(|r| r.get(i)).chain(&best[i..=i]).copied();
                (key, phrase.collect::<Vec<_>>())
            })
            .filter(|(_, phrase)| phrase.len() == self.levels)
            .collect();
        let mut first = std::mem::take(&mut self.rows[1]);
        first.remove(0);
        self.rows.remove(0);
        self.rows[0] = first;
        self.rows.push(best.to_vec());
        Ok(ngrams)
    }

    /// Columns that a row added now may have: as many as the rows below will still need.
    fn room(&self) -> usize {
        self.width + self.levels - 1 - self.rows.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A symbolic model: the token after a chain is its chain written out, so that every n-gram
    /// shows which nodes it was made of.
    #[test]
    fn columns_spell_what_the_model_says_along_them() {
        // Next token of (a, b, ...) depends on the last token alone: t -> 2 t + 1 mod 101.
        let f = |t: u32| (2 * t + 1) % 101;
        let (w, n) = (5, 4);
        let mut window = LookaheadWindow::new(w, n, &[3, 7, 20], 9).unwrap();
        let mut last = 50;
        let mut passes = 0;
        for _ in 0..12 {
            let l = window.layout();
            let best: Vec<u32> =
                l.wanted.iter().map(|x| f(x.map_or(last, |i| l.tokens[i]))).collect();
            let warm = window.is_warm();
            let ngrams = window.harvest(last, &best).unwrap();
            if warm {
                assert_eq!(ngrams.len(), w);
                for (i, (_, phrase)) in ngrams.iter().enumerate() {
                    assert_eq!(phrase.len(), n - 1);
                    // Rows below the first hold what f said of the row above one pass before.
                    assert!(phrase.windows(2).all(|p| p[1] == f(p[0])), "column {i}: {phrase:?}");
                }
            } else {
                assert!(ngrams.is_empty());
                passes += 1;
            }
            last = f(last);
        }
        assert_eq!(passes, n - 2, "one pass a row");
        // With f of the last token alone the keys agree too, once the window is its own.
        let l = window.layout();
        let best: Vec<u32> = l.wanted.iter().map(|x| f(l.tokens[x.unwrap()])).collect();
        let ngrams = window.harvest(last, &best).unwrap();
        assert!(ngrams[1..].iter().all(|(key, phrase)| phrase[0] == f(*key)), "{ngrams:?}");
    }

    #[test]
    fn the_layout_of_a_warm_window() {
        let mut window = LookaheadWindow::new(3, 4, &[1], 0).unwrap();
        while !window.is_warm() {
            let wanted = window.layout().wanted.len();
            window.harvest(0, &vec![2; wanted]).unwrap();
        }
        let l = window.layout();
        // Row 0: columns 1, 2; rows 1 and 2: columns 0, 1, 2.
        assert_eq!(l.offsets, [1, 2, 1, 2, 3, 2, 3, 4]);
        let sees = |a: usize| (0..8).filter(|b| l.mask[a * 8 + b]).collect::<Vec<_>>();
        assert_eq!(sees(0), [0]);
        assert_eq!(sees(1), [0, 1]);
        assert_eq!(sees(2), [2], "column 0 hangs below the last committed token");
        assert_eq!(sees(3), [0, 3]);
        assert_eq!(sees(7), [0, 1, 4, 7]);
        assert_eq!(l.wanted, [Some(5), Some(6), Some(7)]);
        assert!(window.harvest(0, &[1]).is_err());
        assert!(LookaheadWindow::new(3, 2, &[1], 0).is_err());
        assert!(LookaheadWindow::new(3, 4, &[], 0).is_err());
    }
}
