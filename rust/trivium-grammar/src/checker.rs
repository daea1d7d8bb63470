//! Checkers: user code, or a validator, that may forbid more than a grammar does.
//!
//! A checker reads the whole text, so it is asked per text, not per state, and its answers are not
//! cached in masks. It only ever *removes* tokens: what ends is accepted by both (guarantee S), what
//! both accept stays reachable (C), and a text after which nothing is left is possible (D is not
//! proven): the mask is then a [`Error::DeadEnd`](crate::Error::DeadEnd), which says how far to roll
//! back.

use crate::automata::table::{DEAD, StateId};
use crate::error::{Error, Result};
use crate::grammar::{GrammarMask, Inner, Source};
use crate::matcher::{FINISHED, Matcher};
use std::fmt::Debug;
use std::sync::Arc;
use trivium_core::{Error as Core, TokenId, mask};

/// Who is asked beside the grammar.
///
/// Answers must not change, and a refused prefix stays refused however it goes on.
pub trait Checker: Debug + Send + Sync {
    /// Whether `text` may end here (`complete`), or be gone on with.
    ///
    /// # Errors
    /// Whatever the checker meets; the call on the matcher fails and the matcher stays as it was.
    fn allows(&self, text: &[u8], complete: bool) -> Result<bool>;

    /// Last bytes of texts after which only the end may follow, if the checker judges complete texts
    /// alone: a token that completes such a text is refused with it. `None`: it judges prefixes.
    fn closers(&self) -> Option<&[u8]> {
        None
    }

    /// Tokens tested for one mask at most.
    fn max_tests(&self) -> usize;
}

/// Places looked at for one with another choice.
const MAX_LOOK_BACK: usize = 256;

impl GrammarMask {
    /// The same grammar with a checker beside it; `why` says in the report what is not proven.
    ///
    /// # Errors
    /// `UnsupportedPattern` if it has one already.
    pub fn with_checker(
        &self,
        checker: Arc<dyn Checker>,
        kind: &'static str,
        why: String,
    ) -> Result<Self> {
        self.check_combines("with_checker")?;
        let mut notes = self.notes().clone();
        notes.unproven.push(why.clone());
        notes.warnings.push(why);
        let inner = self.shared();
        let text = self.text().to_owned();
        let source = Source { kind, text, notes, recipe: None };
        let (index, maker) = (Arc::clone(&inner.index), Arc::clone(&inner.maker));
        Ok(Self::of_inner(Inner { index, maker, source, checker: Some(checker) }))
    }

    /// Refuses grammars with a checker, which reads whole texts.
    pub(crate) fn check_combines(&self, what: &str) -> Result<()> {
        if self.shared().checker.is_some() {
            return Err(Error::UnsupportedPattern {
                feature: "combining a grammar that has a checker".into(),
                at: format!("in {what}"),
                hint: "combine the grammars first and add the checker last".into(),
            });
        }
        Ok(())
    }
}

/// What a checker says of texts that begin as one matcher's does.
pub(crate) struct Checked<'a> {
    matcher: &'a Matcher,
    checker: &'a dyn Checker,
}

impl Matcher {
    /// The checker beside the grammar.
    pub(crate) fn checked(&self) -> Option<Checked<'_>> {
        let checker = self.grammar.checker.as_deref()?;
        Some(Checked { matcher: self, checker })
    }

    /// The text of all tokens; only a checker reads it.
    pub(crate) fn text(&self) -> Vec<u8> {
        self.text_of(&self.tokens())
    }
}

impl Checked<'_> {
    /// Whether a token that the grammar allows after `text`, leading to `next`, may stay. `text` is
    /// extended by it.
    pub(crate) fn permits(
        &self,
        text: &mut Vec<u8>,
        next: StateId,
        token: TokenId,
    ) -> Result<bool> {
        if next == FINISHED {
            return self.checker.allows(text, true);
        }
        let bytes = self.matcher.vocab().token(token);
        text.extend_from_slice(bytes);
        match self.checker.closers() {
            None => self.checker.allows(text, false),
            Some(closers) if bytes.last().is_some_and(|b| closers.contains(b)) => {
                let engine = &self.matcher.engine;
                let closed = engine.accepting(next)? && engine.next_bytes(next)?.is_empty();
                Ok(!closed || self.checker.allows(text, true)?)
            }
            Some(_) => Ok(true),
        }
    }

    /// Takes out of a row, the engine's of `state` after `text`, what the checker forbids; whether
    /// any token is left.
    pub(crate) fn filter(&self, state: StateId, text: &[u8], row: &mut [u32]) -> Result<bool> {
        let ends = self.matcher.engine.accepting(state)? && self.checker.allows(text, true)?;
        if !ends {
            self.matcher.vocab().eos().iter().for_each(|&t| clear(row, t));
        }
        match self.checker.closers() {
            Some(closers) => self.filter_closers(closers, state, text, row)?,
            None => self.filter_prefixes(text, row)?,
        }
        Ok(row.iter().any(|&w| w != 0))
    }

    fn count(&self, tests: &mut usize) -> Result<()> {
        *tests += 1;
        let most = self.checker.max_tests();
        if *tests > most {
            return Err(Error::limit("max_tests", most as u64 + 1, most as u64));
        }
        Ok(())
    }

    /// Tests the tokens that may complete the text.
    fn filter_closers(
        &self,
        closers: &[u8],
        state: StateId,
        text: &[u8],
        row: &mut [u32],
    ) -> Result<()> {
        let (vocab, engine) = (self.matcher.vocab(), &self.matcher.engine);
        let mut longer = text.to_vec();
        let mut tests = 0;
        for token in mask::iter(row).collect::<Vec<_>>() {
            let last = vocab.token(token).last();
            if vocab.is_eos(token) || !last.is_some_and(|b| closers.contains(b)) {
                continue;
            }
            self.count(&mut tests)?;
            longer.truncate(text.len());
            let next = engine.step(state, token)?;
            if next == DEAD || !self.permits(&mut longer, next, token)? {
                clear(row, token);
            }
        }
        Ok(())
    }

    /// Tests every text that a token makes, once; what begins with a refused one is refused with it.
    fn filter_prefixes(&self, text: &[u8], row: &mut [u32]) -> Result<()> {
        let vocab = self.matcher.vocab();
        let trie = vocab.trie();
        let mut longer = text.to_vec();
        let mut tests = 0;
        let mut node = 1;
        while node < trie.len() {
            let Some(&token) = trie.tokens_at(node).iter().find(|&&t| is_set(row, t)) else {
                node += 1;
                continue;
            };
            self.count(&mut tests)?;
            longer.truncate(text.len());
            longer.extend_from_slice(vocab.token(token));
            if self.checker.allows(&longer, false)? {
                node += 1;
            } else {
                trie.tokens_below(node).iter().for_each(|&t| clear(row, t));
                node = trie.end(node);
            }
        }
        Ok(())
    }

    /// The error of a text that nothing may follow.
    pub(crate) fn dead_end(&self, text: &[u8]) -> Error {
        let shown = String::from_utf8_lossy(&text[text.len().saturating_sub(40)..]).into_owned();
        Error::DeadEnd {
            why: format!("the checker refuses every token after ...{shown:?}"),
            rollback_to: self.last_choice().unwrap_or(0),
        }
    }

    /// The last place where another token was allowed.
    fn last_choice(&self) -> Result<usize> {
        let mut back = self.matcher.fork();
        let mut row = vec![0u32; self.matcher.words()];
        for _ in 0..self.matcher.len().min(MAX_LOOK_BACK) {
            back.rollback(1)?;
            back.fill(&mut row)?;
            if row.iter().map(|w| w.count_ones()).sum::<u32>() > 1 {
                return Ok(back.len());
            }
        }
        Ok(0)
    }
}

fn clear(row: &mut [u32], token: TokenId) {
    row[token as usize >> 5] &= !(1 << (token & 31));
}

fn is_set(row: &[u32], token: TokenId) -> bool {
    row[token as usize >> 5] >> (token & 31) & 1 != 0
}

/// What a checker's own failure is.
pub fn failed(why: impl Into<String>) -> Error {
    Core::input("checker", why).into()
}
