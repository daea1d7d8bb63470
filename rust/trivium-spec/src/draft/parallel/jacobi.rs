//! Jacobi iteration as a source: the target's answers at rejected drafts are the next drafts.
//!
//! ```text
//! window y_1..y_m;  y_i <- argmax p(. | x, y_<i) for all i at once
//! ```
//!
//! After iteration j the first j tokens are final, so m passes suffice and the fixed point is the
//! greedy text. Verification commits the prefix that agrees and one token more; what is left of the
//! iterate stands for the positions behind it.
//!
//! | name | window |
//! |---|---|
//! | `jacobi` | slides: always `window` positions from the first undecided one |
//! | `jacobi:mode=block` | Gauss-Seidel over blocks of `window`: the next block starts when one is done |
//! | `fastcot` | shrinks linearly from `window` to `final` over the first `over` new tokens |
//!
//! Positions without a guess are `init`: the newest continuation of the token before it in the text
//! (`ngram`), that token again (`repeat`), or nothing (`none`: the window ends there).
//!
//! Santilli et al., "Accelerating Transformer Inference for Translation via Parallel Decoding"
//! (2023); "Fast Chain-of-Thought: A Glance of Future from Parallel Decoding Leads to Answers
//! Faster" (2023), whose early answering from unverified tokens is not here: it is lossy. Answers
//! are arg-maxes, so at temperature 0 the fixed point is the text; in sampling they are guesses
//! like any other, which the verifier tests as point masses.

use crate::draft::options::Options;
use crate::draft::plan::{MAGNITUDES, Planned, Planner, Seen, Trie, magnitude};
use crate::draft::{RequestSource, Saved, Scope, SharedSource};
use rustc_hash::FxHashMap;
use trivium_core::TokenId;
use trivium_core::error::Result;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Init {
    Ngram,
    Repeat,
    None,
}

#[derive(Debug, Clone, Copy)]
struct Rule {
    window: usize,
    /// Window after `over` new tokens.
    last: usize,
    over: usize,
    block: bool,
    init: Init,
}

impl Rule {
    /// Positions to guess when `done` new tokens are committed.
    fn size(self, done: usize) -> usize {
        if self.block {
            return self.window - done % self.window;
        }
        let gone = self.window.abs_diff(self.last) * done.min(self.over) / self.over;
        if self.last <= self.window { self.window - gone } else { self.window + gone }
    }
}

/// The sources `jacobi` and `fastcot`.
#[derive(Debug)]
pub(crate) struct Jacobi {
    name: &'static str,
    rule: Rule,
}

impl Jacobi {
    pub(crate) fn parse(mut o: Options) -> Result<Self> {
        let fastcot = o.name() == "fastcot";
        let window = o.number("window", 8, 1..=1024)?;
        let mut rule = Rule { window, last: window, over: 1, block: false, init: Init::Ngram };
        if fastcot {
            rule.last = o.number("final", 4, 1..=1024)?;
            rule.over = o.number("over", 64, 1..=1 << 20)?;
        } else {
            rule.block = o.choice("mode", &["sliding", "block"])? == "block";
        }
        rule.init = match o.choice("init", &["ngram", "repeat", "none"])? {
            "repeat" => Init::Repeat,
            "none" => Init::None,
            _ => Init::Ngram,
        };
        o.done()?;
        Ok(Self { name: if fastcot { "fastcot" } else { "jacobi" }, rule })
    }
}

impl SharedSource for Jacobi {
    fn name(&self) -> &'static str {
        self.name
    }

    fn slots(&self) -> &'static [usize] {
        const { &[2 * MAGNITUDES as usize] }
    }

    fn open(&self, _scope: &Scope, text: &[TokenId]) -> Box<dyn RequestSource> {
        let window = Window {
            rule: self.rule,
            prompt: text.len(),
            guesses: Vec::new(),
            first: 0,
            newest: FxHashMap::default(),
            before: Vec::new(),
        };
        Planned::open(window, text)
    }

    fn memory(&self) -> usize {
        0
    }

    fn save(&self) -> Saved {
        Saved::new()
    }

    fn load(&self, _saved: &Saved) -> Result<()> {
        Ok(())
    }
}

#[derive(Debug, Clone)]
struct Window {
    rule: Rule,
    prompt: usize,
    /// Guesses for the absolute positions from `first` on.
    guesses: Vec<TokenId>,
    first: usize,
    /// Successor of a token's newest occurrence, and what it replaced, by position.
    newest: FxHashMap<TokenId, TokenId>,
    before: Vec<Option<TokenId>>,
}

impl Planner for Window {
    fn extend(&mut self, text: &[TokenId], from: usize) {
        for at in from..text.len() {
            let old = at.checked_sub(1).and_then(|p| self.newest.insert(text[p], text[at]));
            self.before.push(old);
        }
    }

    fn retract(&mut self, text: &[TokenId], left: usize) {
        for at in (left..text.len()).rev() {
            let Some(p) = at.checked_sub(1) else { break };
            match self.before.pop().flatten() {
                Some(old) => self.newest.insert(text[p], old),
                None => self.newest.remove(&text[p]),
            };
        }
        self.before.truncate(left);
    }

    fn observe(&mut self, text: &[TokenId], seen: &Seen<'_>) {
        // Row of the node at depth d answers position `start + d`; the root is at depth 0.
        let accepted = seen.rows.iter().filter(|r| r.1).count();
        let start = text.len().saturating_sub(accepted);
        let depth = |mut node: u32| {
            let mut d = 0;
            while node != 0 {
                node = seen.trie.node(node).parent;
                d += 1;
            }
            d
        };
        self.guesses.clear();
        self.first = text.len();
        let mut answers: Vec<(usize, TokenId)> = seen
            .rows
            .iter()
            .filter_map(|(node, _, ids)| Some((start + depth(*node), *ids.first()?)))
            .filter(|(position, _)| *position >= text.len())
            .collect();
        answers.sort_unstable();
        for (position, token) in answers {
            if position == self.first + self.guesses.len() {
                self.guesses.push(token);
            }
        }
    }

    fn plan(&mut self, text: &[TokenId], trie: &mut Trie) {
        let done = text.len().saturating_sub(self.prompt);
        let known: &[TokenId] = text
            .len()
            .checked_sub(self.first)
            .and_then(|skip| self.guesses.get(skip..))
            .unwrap_or(&[]);
        let mut last = text.last().copied();
        let mut at = 0;
        for depth in 0..self.rule.size(done) {
            let guess = known.get(depth).copied();
            let filler = || match self.rule.init {
                Init::None => None,
                Init::Repeat => last,
                Init::Ngram => self.newest.get(&last?).copied().or(last),
            };
            let Some(token) = guess.or_else(filler) else { return };
            let prior = if guess.is_some() { 0.4 } else { 0.15 };
            let feature = u16::from(guess.is_none()) * MAGNITUDES + magnitude(depth);
            let Some(next) = trie.add(at, token, prior, feature) else { return };
            at = next;
            last = Some(token);
        }
    }

    fn memory(&self) -> usize {
        self.guesses.capacity() * 4 + self.newest.capacity() * 9 + self.before.capacity() * 8
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draft::TopIds;
    use crate::draft::plan::testing::{drafts, follows_the_laws};

    fn source(text: &str) -> Jacobi {
        Jacobi::parse(Options::parse(text).unwrap()).unwrap()
    }

    /// Every deterministic next-token function of the last two tokens over two letters, and some
    /// over three: the text is the sequential one, a window is done in at most its length of
    /// passes, and the drafts are the iterates of the definition.
    #[test]
    fn the_fixed_point_is_the_greedy_text() {
        for code in 0..200u64 {
            let letters = if code < 16 { 2u64 } else { 3 };
            let mixed = code.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let f = |a: u32, b: u32| -> u32 {
                let i = u64::from(a) * letters + u64::from(b);
                if letters == 2 {
                    (code >> i & 1) as u32
                } else {
                    (mixed >> (2 * i + 8) & 3) as u32 % 3
                }
            };
            let m = 6;
            let s = source(&format!("jacobi:window={m};mode=block;init=repeat"));
            let mut text = vec![0, 1];
            let mut view = s.open(&Scope::default(), &text);
            let mut want = text.clone();
            for _ in 0..=3 * m {
                want.push(f(want[want.len() - 2], want[want.len() - 1]));
            }
            // The definition: iterate a block on its own.
            let mut iterate: Option<Vec<u32>> = None;
            for block in 0..3 {
                let end = 2 + m * (block + 1);
                let mut passes = 0;
                while text.len() < end {
                    passes += 1;
                    let last = *text.last().unwrap();
                    let path = drafts(view.as_mut(), last).pop().unwrap();
                    assert_eq!(path.len(), end - text.len());
                    if let Some(expected) = &iterate {
                        assert_eq!(&path, expected, "the iterate of the definition");
                    }
                    // One pass over text and draft, all positions at once.
                    let all = [&text[..], &path].concat();
                    let answers: Vec<u32> =
                        (text.len()..=all.len()).map(|i| f(all[i - 2], all[i - 1])).collect();
                    let same = answers.iter().zip(&path).take_while(|(a, b)| a == b).count();
                    let rows: Vec<TopIds> = (0..=path.len())
                        .map(|d| TopIds {
                            token: if d == 0 { last } else { path[d - 1] },
                            accepted: d <= same,
                            ids: vec![answers[d]],
                        })
                        .collect();
                    let new = &answers[..=same];
                    iterate = Some(answers[(same + 1).min(path.len())..path.len()].to_vec())
                        .filter(|i| !i.is_empty());
                    view.commit(new);
                    text.extend_from_slice(new);
                    view.observe_rows(&rows);
                }
                assert!(passes <= m, "{passes} passes for {m} tokens");
                iterate = None;
            }
            assert_eq!(text, want[..text.len()]);
        }
    }

    #[test]
    fn windows_slide_and_shrink() {
        let s = source("fastcot:window=6;final=2;over=4;init=repeat");
        let mut view = s.open(&Scope::default(), &[5]);
        let mut sizes = Vec::new();
        for _ in 0..6 {
            sizes.push(drafts(view.as_mut(), 5)[0].len());
            view.commit(&[5]);
        }
        assert_eq!(sizes, [6, 5, 4, 3, 2, 2]);
        let none = source("jacobi:init=none");
        assert!(crate::draft::plan::testing::draft_of(&none, &[1, 2]).is_empty());
    }

    #[test]
    fn per_request_laws() {
        for text in ["jacobi", "jacobi:init=repeat;window=3"] {
            follows_the_laws(&source(text), &[0, 1, 2, 0, 1, 2, 1, 1, 0, 1, 2, 0, 2, 1]);
        }
    }
}
