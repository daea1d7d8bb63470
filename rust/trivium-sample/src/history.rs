//! The tokens of one sequence as the rules see them: prompt and output, counts, n-gram followers.
//!
//! A verifier forks its law before every tree, so a fork must not cost the length of the text. The
//! text is an immutable shared *base* with what was computed of it (sorted counts, n-gram chains), and
//! a private tail of at most 64 tokens; a full tail moves into the base, which is copied only while a
//! fork still shares it. Rules look at both parts.
//!
//! N-gram index, one per n in use: positions chained by the hash of the n - 1 tokens before them.
//! A lookup walks one chain and verifies every hit, so collisions cost time, never correctness.

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use std::hash::{BuildHasher, BuildHasherDefault, Hasher};
use std::sync::Arc;
use trivium_core::TokenId;
use trivium_core::error::{Error, Result};

/// Tokens a tail may hold.
const TAIL: usize = 64;
const NONE: u32 = u32::MAX;

/// Which part of a sequence a rule looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Prompt and output.
    #[default]
    All,
    /// The output.
    Generated,
    /// The prompt.
    Prompt,
}

/// How often a token occurs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Count {
    token: TokenId,
    prompt: u32,
    generated: u32,
}

/// Chains of the positions that follow equal (n - 1)-grams.
#[derive(Debug, Clone, Default)]
struct Ngrams {
    n: usize,
    heads: FxHashMap<u64, u32>,
    /// Entry p: the previous position with the same hash as position p.
    previous: Vec<u32>,
}

fn hash(tokens: impl Iterator<Item = TokenId>) -> u64 {
    let mut hasher = BuildHasherDefault::<rustc_hash::FxHasher>::default().build_hasher();
    tokens.for_each(|t| hasher.write_u32(t));
    hasher.finish()
}

impl Ngrams {
    fn extend(&mut self, tokens: &[TokenId]) {
        for p in self.previous.len()..tokens.len() {
            let before = match (p + 1).checked_sub(self.n) {
                Some(start) => {
                    let key = hash(tokens[start..p].iter().copied());
                    self.heads.insert(key, p as u32).unwrap_or(NONE)
                }
                None => NONE,
            };
            self.previous.push(before);
        }
    }
}

#[derive(Debug, Clone, Default)]
struct Base {
    tokens: Vec<TokenId>,
    /// Ascending by token.
    counts: Vec<Count>,
    ngrams: Vec<Ngrams>,
}

impl Base {
    fn extend(&mut self, tokens: &[TokenId], prompt: bool) {
        self.tokens.extend_from_slice(tokens);
        let mut fresh = tokens.to_vec();
        fresh.sort_unstable();
        for group in fresh.chunk_by(|a, b| a == b) {
            let n = group.len() as u32;
            let place = self.counts.binary_search_by_key(&group[0], |c| c.token);
            let at = place.unwrap_or_else(|at| {
                self.counts.insert(at, Count { token: group[0], prompt: 0, generated: 0 });
                at
            });
            let count = &mut self.counts[at];
            if prompt {
                count.prompt += n;
            } else {
                count.generated += n;
            }
        }
        for index in &mut self.ngrams {
            index.extend(&self.tokens);
        }
    }
}

/// Prompt and output of one sequence.
#[derive(Debug, Clone, Default)]
pub struct History {
    base: Arc<Base>,
    tail: Vec<TokenId>,
    prompt_len: usize,
}

impl History {
    /// A sequence that begins with `prompt`; `ngrams` names the n that [`followers`](Self::followers)
    /// will be asked for. O(n log n).
    pub fn new(prompt: &[TokenId], ngrams: &[usize]) -> Self {
        let ngrams =
            ngrams.iter().filter(|&&n| n > 1).map(|&n| Ngrams { n, ..Ngrams::default() }).collect();
        let mut base = Base { ngrams, ..Base::default() };
        if prompt.len() > TAIL {
            // Many distinct tokens: counting a sorted copy is linear, inserting one by one is not.
            let mut sorted = prompt.to_vec();
            sorted.sort_unstable();
            base.counts.extend(sorted.chunk_by(|a, b| a == b).map(|g| Count {
                token: g[0],
                prompt: g.len() as u32,
                generated: 0,
            }));
            base.tokens.extend_from_slice(prompt);
            base.ngrams.iter_mut().for_each(|index| index.extend(prompt));
        } else {
            base.extend(prompt, true);
        }
        Self { base: Arc::new(base), tail: Vec::new(), prompt_len: prompt.len() }
    }

    /// Tokens, prompt included.
    pub fn len(&self) -> usize {
        self.base.tokens.len() + self.tail.len()
    }

    /// Whether there is no token.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tokens of the prompt.
    pub fn prompt_len(&self) -> usize {
        self.prompt_len
    }

    /// Tokens after the prompt.
    pub fn generated_len(&self) -> usize {
        self.len() - self.prompt_len
    }

    /// Token `i`, which must exist.
    fn at(&self, i: usize) -> TokenId {
        match i.checked_sub(self.base.tokens.len()) {
            None => self.base.tokens[i],
            Some(i) => self.tail[i],
        }
    }

    /// All tokens.
    pub fn iter(&self) -> impl Iterator<Item = TokenId> + '_ {
        self.base.tokens.iter().chain(&self.tail).copied()
    }

    /// Appends a token. Amortised O(1) plus the distinct tokens every 64.
    pub fn push(&mut self, token: TokenId) {
        self.tail.push(token);
        if self.tail.len() == TAIL {
            Arc::make_mut(&mut self.base).extend(&self.tail, false);
            self.tail.clear();
        }
    }

    /// Takes back the last `n` tokens: O(1) within the tail, O(len) beyond.
    ///
    /// # Errors
    /// `StateMismatch` if fewer were generated; nothing changes.
    pub fn rollback(&mut self, n: usize) -> Result<()> {
        if n > self.generated_len() {
            return Err(Error::state(
                "rollback",
                format!("at least {n} tokens after the prompt"),
                self.generated_len().to_string(),
            ));
        }
        if n <= self.tail.len() {
            self.tail.truncate(self.tail.len() - n);
            return Ok(());
        }
        let keep = self.len() - n;
        let ngrams: Vec<usize> = self.base.ngrams.iter().map(|g| g.n).collect();
        let tokens = &self.base.tokens[..keep];
        let mut fresh = Self::new(&tokens[..self.prompt_len], &ngrams);
        for chunk in tokens[self.prompt_len..].chunks(TAIL) {
            if chunk.len() == TAIL {
                Arc::make_mut(&mut fresh.base).extend(chunk, false);
            } else {
                fresh.tail.extend_from_slice(chunk);
            }
        }
        *self = fresh;
        Ok(())
    }

    /// Writes the last `n` tokens to `out`.
    pub(crate) fn last(&self, n: usize, out: &mut Vec<TokenId>) {
        self.range(self.len().saturating_sub(n), self.len(), out);
    }

    fn range(&self, start: usize, end: usize, out: &mut Vec<TokenId>) {
        out.clear();
        let split = self.base.tokens.len();
        out.extend_from_slice(&self.base.tokens[start.min(split)..end.min(split)]);
        out.extend_from_slice(&self.tail[start.max(split) - split..end.max(split) - split]);
    }

    /// Whether the text ends with these tokens.
    pub(crate) fn ends_with(&self, tokens: &[TokenId]) -> bool {
        let Some(start) = self.len().checked_sub(tokens.len()) else { return false };
        tokens.iter().enumerate().all(|(i, &t)| self.at(start + i) == t)
    }

    /// Writes each distinct token of the scope (its last `window` tokens) with its count to `out`,
    /// ascending. O(distinct), or O(w log w) with a window.
    pub(crate) fn counts(
        &self,
        scope: Scope,
        window: Option<usize>,
        buffer: &mut Vec<TokenId>,
        out: &mut Vec<(TokenId, u32)>,
    ) {
        out.clear();
        let (start, end) = match scope {
            Scope::All => (0, self.len()),
            Scope::Generated => (self.prompt_len, self.len()),
            Scope::Prompt => (0, self.prompt_len),
        };
        if let Some(w) = window
            && w < end - start
        {
            self.range(end - w, end, buffer);
            buffer.sort_unstable();
            out.extend(buffer.chunk_by(|a, b| a == b).map(|g| (g[0], g.len() as u32)));
            return;
        }
        buffer.clear();
        if scope != Scope::Prompt {
            buffer.extend_from_slice(&self.tail);
            buffer.sort_unstable();
        }
        let mut tail = buffer.chunk_by(|a, b| a == b).peekable();
        for c in &self.base.counts {
            while let Some(g) = tail.next_if(|g| g[0] < c.token) {
                out.push((g[0], g.len() as u32));
            }
            let more = tail.next_if(|g| g[0] == c.token).map_or(0, <[_]>::len) as u32;
            let count = more
                + match scope {
                    Scope::All => c.prompt + c.generated,
                    Scope::Generated => c.generated,
                    Scope::Prompt => c.prompt,
                };
            if count > 0 {
                out.push((c.token, count));
            }
        }
        out.extend(tail.map(|g| (g[0], g.len() as u32)));
    }

    /// Writes the tokens that followed an earlier occurrence of the last n - 1 tokens to `out`, in no
    /// order and with repetitions.
    pub(crate) fn followers(
        &self,
        n: usize,
        include_prompt: bool,
        prefix: &mut Vec<TokenId>,
        out: &mut Vec<TokenId>,
    ) {
        out.clear();
        let len = self.len();
        let first = if include_prompt { 0 } else { self.prompt_len };
        if n == 0 || len < first + n {
            return;
        }
        if n == 1 {
            self.range(first, len, out);
            return;
        }
        self.last(n - 1, prefix);
        // An n-gram that ends at position p starts at p + 1 - n.
        let matches = |p: usize| {
            p + 1 >= first + n
                && prefix.iter().enumerate().all(|(i, &t)| self.at(p + 1 - n + i) == t)
        };
        let indexed = self.base.tokens.len();
        match self.base.ngrams.iter().find(|g| g.n == n) {
            Some(index) => {
                let key = hash(prefix.iter().copied());
                let mut p = index.heads.get(&key).copied().unwrap_or(NONE);
                while p != NONE {
                    if matches(p as usize) {
                        out.push(self.base.tokens[p as usize]);
                    }
                    p = index.previous[p as usize];
                }
            }
            None => out.extend((n - 1..indexed).filter(|&p| matches(p)).map(|p| self.at(p))),
        }
        out.extend((indexed.max(n - 1)..len).filter(|&p| matches(p)).map(|p| self.at(p)));
    }
}

/// The slow twins: scans of the text.
#[cfg(test)]
mod naive {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    pub(super) fn counts(
        h: &[u32],
        prompt: usize,
        scope: Scope,
        window: Option<usize>,
    ) -> Vec<(u32, u32)> {
        let part = match scope {
            Scope::All => h,
            Scope::Generated => &h[prompt..],
            Scope::Prompt => &h[..prompt],
        };
        let part = &part[part.len() - window.unwrap_or(usize::MAX).min(part.len())..];
        let mut out = BTreeMap::new();
        part.iter().for_each(|&t| *out.entry(t).or_insert(0) += 1);
        out.into_iter().collect()
    }

    pub(super) fn followers(h: &[u32], n: usize) -> BTreeSet<u32> {
        let mut out = BTreeSet::new();
        if h.len() >= n {
            let prefix = &h[h.len() + 1 - n..];
            for gram in h.windows(n) {
                if &gram[..n - 1] == prefix {
                    out.insert(gram[n - 1]);
                }
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn equals_scans_along_commits_rollbacks_and_forks(
            prompt in prop::collection::vec(0u32..6, 0..150),
            moves in prop::collection::vec((0u8..8, 0u32..6, 0usize..90), 0..200),
            window in 0usize..100,
        ) {
            let mut h = History::new(&prompt, &[2, 3]);
            let mut text = prompt.clone();
            let mut forks = Vec::new();
            for (kind, token, n) in moves {
                if kind == 0 {
                    let n = n.min(text.len() - prompt.len());
                    h.rollback(n).unwrap();
                    text.truncate(text.len() - n);
                } else {
                    h.push(token);
                    text.push(token);
                }
                if kind == 1 {
                    forks.push((h.clone(), text.clone()));
                }
            }
            forks.push((h, text));
            let (mut a, mut b, mut ids) = (vec![], vec![], vec![]);
            for (h, text) in &forks {
                prop_assert_eq!(&h.iter().collect::<Vec<_>>(), text);
                for scope in [Scope::All, Scope::Generated, Scope::Prompt] {
                    for w in [None, Some(window), Some(0)] {
                        h.counts(scope, w, &mut a, &mut b);
                        prop_assert_eq!(&b, &naive::counts(text, prompt.len(), scope, w));
                    }
                }
                for n in 1..=5 {
                    for (include, part) in [(true, &text[..]), (false, &text[prompt.len()..])] {
                        h.followers(n, include, &mut a, &mut ids);
                        let got: std::collections::BTreeSet<u32> = ids.iter().copied().collect();
                        prop_assert_eq!(got, naive::followers(part, n), "n {} prompt {}", n, include);
                    }
                }
            }
        }
    }

    #[test]
    fn nothing_rolls_back_into_the_prompt() {
        let mut h = History::new(&[1, 2], &[]);
        h.push(3);
        assert!(matches!(h.rollback(2), Err(Error::StateMismatch { .. })));
        assert_eq!(h.len(), 3);
    }
}
