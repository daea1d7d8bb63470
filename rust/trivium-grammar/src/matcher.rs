//! The per-sequence object: what was committed, and what may come next.
//!
//! A matcher is a vector of state ids, one a token, and a pointer to the grammar. Rolling back drops
//! entries, without limit; a fork shares full blocks of the vector. Nothing is ever recomputed.
//!
//! Two states are not the automaton's: *finished* after an end-of-sequence token, and *dead* after
//! [`Matcher::sync`] was shown a token that the grammar does not allow. Both give an all-zero row
//! and refuse tokens; both are left by `rollback`, `sync` or `reset`.

use crate::automata::table::{DEAD, StateId};
use crate::checker::Checked;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::grammar::Inner;
use crate::history::History;
use crate::mask::cache::Word;
use std::sync::Arc;
use trivium_core::mask::MaskedLogit;
use trivium_core::{Constraint, Error as Core, TokenId, Vocabulary, mask, numerics};

/// After an end-of-sequence token.
pub(crate) const FINISHED: StateId = StateId::MAX;

/// One sequence under a grammar.
#[derive(Debug, Clone)]
pub struct Matcher {
    pub(crate) grammar: Arc<Inner>,
    /// Whose states the history holds.
    pub(crate) engine: Engine,
    history: History,
    /// Index of the first token that was not allowed.
    dead_at: Option<usize>,
    /// Length at which the text alone filled half an engine, and the bytes it took.
    full_at: Option<(usize, usize)>,
}

impl Matcher {
    pub(crate) fn new(grammar: Arc<Inner>, engine: Engine) -> Self {
        Self { grammar, engine, history: History::default(), dead_at: None, full_at: None }
    }

    /// Leaves an engine that is full for a fresh one, by reading the tokens again. A text that fills
    /// half an engine alone is at its limit: it would be read again for ever shorter gains.
    fn renew(&mut self) -> Result<()> {
        if !self.engine.is_retired() {
            return Ok(());
        }
        let fresh = Self::new(Arc::clone(&self.grammar), self.grammar.engine());
        if fresh.engine.address() == self.engine.address() {
            return Ok(());
        }
        let most = fresh.engine.max_bytes() / 2;
        if let Some((len, bytes)) = self.full_at
            && self.len() >= len
        {
            return Err(Error::limit("max_bytes / 2 for one text", bytes as u64, most as u64));
        }
        let before = fresh.engine.size()?.bytes;
        let mut history = History::default();
        let mut state = fresh.engine.start();
        for (token, _) in self.history.iter() {
            state = fresh.step(state, token)?;
            history.push((token, state));
        }
        let grown = fresh.engine.size()?.bytes.saturating_sub(before);
        if grown > most {
            self.full_at = Some((self.len(), grown));
            return Err(Error::limit("max_bytes / 2 for one text", grown as u64, most as u64));
        }
        self.engine = fresh.engine;
        self.history = history;
        self.full_at = None;
        Ok(())
    }

    /// The vocabulary.
    pub fn vocab(&self) -> &Arc<Vocabulary> {
        self.grammar.vocab()
    }

    /// Words of a mask row.
    pub fn words(&self) -> usize {
        self.grammar.index.words()
    }

    /// Number of tokens held, those after the matcher died included.
    pub fn len(&self) -> usize {
        self.history.len()
    }

    /// Whether no token is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The tokens held.
    pub fn tokens(&self) -> Vec<TokenId> {
        self.history.iter().map(|e| e.0).collect()
    }

    /// Index of the first token that the grammar does not allow, if [`sync`](Self::sync) met one.
    pub fn dead_at(&self) -> Option<usize> {
        self.dead_at
    }

    /// Whether an end-of-sequence token was committed.
    pub fn is_finished(&self) -> bool {
        self.state() == FINISHED
    }

    /// Whether the text so far is in the language; true after the end of sequence, too.
    ///
    /// # Errors
    /// `Internal` only.
    pub fn is_accepting(&self) -> Result<bool> {
        match self.state() {
            FINISHED => Ok(true),
            DEAD => Ok(false),
            state => Ok(self.engine.accepting(state)?
                && match &self.grammar.checker {
                    Some(checker) => checker.allows(&self.text(), true)?,
                    None => true,
                }),
        }
    }

    /// A number for what may follow: matchers of one grammar with equal numbers go on alike, and the
    /// number is never given to anything else in this process. Under a checker, which reads whole
    /// texts, and for texts that are dead there is none.
    pub fn state_id(&self) -> Option<u128> {
        if self.grammar.checker.is_some() || self.dead_at.is_some() {
            return None;
        }
        Some(u128::from(self.engine.serial()) << 32 | u128::from(self.state()))
    }

    /// The text of tokens; empty without a checker, which alone reads it.
    pub(crate) fn text_of(&self, tokens: &[TokenId]) -> Vec<u8> {
        let mut text = Vec::new();
        if self.grammar.checker.is_some() {
            let vocab = self.vocab();
            for &t in tokens.iter().filter(|&&t| !vocab.is_eos(t)) {
                text.extend_from_slice(vocab.token(t));
            }
        }
        text
    }

    pub(crate) fn state(&self) -> StateId {
        self.history.last().map_or_else(|| self.engine.start(), |e| e.1)
    }

    /// The state after `token` in `state`; [`DEAD`] if it is not allowed.
    pub(crate) fn step(&self, state: StateId, token: TokenId) -> Result<StateId> {
        let vocab = self.vocab();
        if token as usize >= vocab.num_rows() {
            let (token, vocab) = (i64::from(token), vocab.num_rows());
            return Err(Core::OutOfVocabulary { token, vocab }.into());
        }
        if state == DEAD || state == FINISHED {
            return Ok(DEAD);
        }
        if token as usize >= vocab.len() {
            return Ok(DEAD);
        }
        self.engine.step(state, token)
    }

    /// Advances by one token; `false` (and no change) if it is not allowed.
    ///
    /// # Errors
    /// `OutOfVocabulary` for an id beyond the logits; `LimitExceeded` over a budget. No change.
    pub fn commit(&mut self, token: TokenId) -> Result<bool> {
        self.renew()?;
        let next = self.step(self.state(), token)?;
        if next == DEAD || !self.permits(next, token)? {
            return Ok(false);
        }
        self.history.push((token, next));
        Ok(true)
    }

    /// What a checker says of a token that the grammar allows.
    fn permits(&self, next: StateId, token: TokenId) -> Result<bool> {
        match self.checked() {
            Some(checked) => checked.permits(&mut self.text(), next, token),
            None => Ok(true),
        }
    }

    /// Advances by tokens up to the first that is not allowed; the number accepted.
    ///
    /// # Errors
    /// As [`commit`](Self::commit); then nothing was accepted.
    pub fn commit_all(&mut self, tokens: &[TokenId]) -> Result<usize> {
        let before = self.len();
        for (i, &token) in tokens.iter().enumerate() {
            match self.commit(token) {
                Ok(true) => {}
                Ok(false) => return Ok(i),
                Err(e) => {
                    self.history.truncate(before);
                    return Err(e);
                }
            }
        }
        Ok(tokens.len())
    }

    /// Takes back the last `n` tokens. O(n / 128), no limit.
    ///
    /// # Errors
    /// `StateMismatch` if fewer are held; nothing changes.
    pub fn rollback(&mut self, n: usize) -> Result<()> {
        let len = self.len().checked_sub(n).ok_or_else(|| {
            let held = format!("{} tokens", self.len());
            Core::state("rollback", format!("at least {n} tokens"), held)
        })?;
        self.cut(len);
        Ok(())
    }

    /// Back to the empty text.
    pub fn reset(&mut self) {
        self.cut(0);
    }

    fn cut(&mut self, len: usize) {
        self.history.truncate(len);
        self.dead_at = self.dead_at.filter(|&d| d < len);
    }

    /// Makes the matcher stand after exactly `tokens`: rolls back to the longest common prefix and
    /// extends. Returns how many leading tokens the grammar allows.
    ///
    /// Tokens that are not allowed are no error: hosts show drafts before they are verified. The
    /// matcher is then dead from [`dead_at`](Self::dead_at) on; it remembers the remaining tokens so
    /// that `len` and a later `rollback` count as the host counts.
    ///
    /// O(length) comparisons, work only for the difference.
    ///
    /// # Errors
    /// `OutOfVocabulary` or `LimitExceeded`; the matcher is as it was.
    pub fn sync(&mut self, tokens: &[TokenId]) -> Result<usize> {
        self.renew()?;
        let common = self.history.common_prefix(tokens);
        let mut new = Vec::with_capacity(tokens.len() - common);
        let mut state = match common.checked_sub(1).and_then(|i| self.history.get(i)) {
            Some((_, state)) => state,
            None => self.engine.start(),
        };
        let mut text = self.text_of(&tokens[..common]);
        for &token in &tokens[common..] {
            state = self.step(state, token)?;
            if state != DEAD
                && let Some(checked) = self.checked()
                && !checked.permits(&mut text, state, token)?
            {
                state = DEAD;
            }
            new.push((token, state));
        }
        self.cut(common);
        for entry in new {
            if entry.1 == DEAD && self.dead_at.is_none() {
                self.dead_at = Some(self.len());
            }
            self.history.push(entry);
        }
        Ok(self.dead_at.unwrap_or(tokens.len()))
    }

    /// An independent copy. O(length / 128).
    #[must_use]
    pub fn fork(&self) -> Self {
        self.clone()
    }

    /// Whether `token` may come next.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn allows(&self, token: TokenId) -> Result<bool> {
        let next = self.step(self.state(), token)?;
        Ok(next != DEAD && self.permits(next, token)?)
    }

    /// How many of `tokens` could be committed, without committing them.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn validate(&self, tokens: &[TokenId]) -> Result<usize> {
        let mut state = self.state();
        let mut text = self.text_of(&self.checked().map_or_else(Vec::new, |_| self.tokens()));
        for (i, &token) in tokens.iter().enumerate() {
            state = self.step(state, token)?;
            if state == DEAD {
                return Ok(i);
            }
            if let Some(checked) = self.checked()
                && !checked.permits(&mut text, state, token)?
            {
                return Ok(i);
            }
        }
        Ok(tokens.len())
    }

    /// Writes the whole row: bit `t & 31` of word `t >> 5` is set iff token `t` may come next; words
    /// beyond the vocabulary are zero. Returns whether any token is allowed.
    ///
    /// # Errors
    /// `InvalidInput` if the row is too short; `LimitExceeded` over a budget.
    pub fn fill<W: Word>(&self, row: &mut [W]) -> Result<bool> {
        self.check_row(row)?;
        self.fill_here(row)
    }

    /// [`fill`](Self::fill) of a row that is long enough.
    pub(crate) fn fill_here<W: Word>(&self, row: &mut [W]) -> Result<bool> {
        let state = self.state();
        match self.checked() {
            Some(checked) if state != DEAD && state != FINISHED => {
                let text = self.text();
                let mut bits = vec![0u32; self.words()];
                if !self.fill_checked(&checked, state, &text, &mut bits)? {
                    return Err(checked.dead_end(&text));
                }
                row.fill(W::from_bits(0));
                row.iter_mut().zip(&bits).for_each(|(to, &b)| *to = W::from_bits(b));
                Ok(true)
            }
            _ => self.fill_state(state, row),
        }
    }

    /// The row of a live state after `text` under a checker; whether any token is left.
    pub(crate) fn fill_checked(
        &self,
        checked: &Checked<'_>,
        state: StateId,
        text: &[u8],
        row: &mut [u32],
    ) -> Result<bool> {
        Ok(self.fill_state(state, row)? && checked.filter(state, text, row)?)
    }

    /// [`fill`](Self::fill) if that takes no more than a copy; `None` (and no change) if the mask
    /// has to be computed.
    ///
    /// # Errors
    /// `InvalidInput` if the row is too short.
    pub fn fill_cached<W: Word>(&self, row: &mut [W]) -> Result<Option<bool>> {
        self.check_row(row)?;
        if self.checked().is_some() {
            return Ok(None);
        }
        let state = self.state();
        if state == DEAD || state == FINISHED {
            return self.fill_state(state, row).map(Some);
        }
        Ok(self.engine.cached(state)?.map(|mask| {
            mask.write(row);
            !mask.is_empty()
        }))
    }

    pub(crate) fn check_row<W>(&self, row: &[W]) -> Result<()> {
        if row.len() < self.words() {
            let (rows, words) = (self.vocab().num_rows(), self.words());
            let why = format!("{} words; {rows} logits need {words}", row.len());
            return Err(Core::input("row", why).into());
        }
        Ok(())
    }

    /// Writes the row of any state, which is long enough; whether any token is allowed.
    pub(crate) fn fill_state<W: Word>(&self, state: StateId, row: &mut [W]) -> Result<bool> {
        if state == DEAD || state == FINISHED {
            row.fill(W::from_bits(0));
            return Ok(false);
        }
        let mask = self.engine.mask(state)?;
        mask.write(row);
        Ok(!mask.is_empty())
    }

    /// The row of the current state by definition: every token alone, no caches. For tests.
    ///
    /// # Errors
    /// As [`fill`](Self::fill).
    pub fn mask_slow(&self) -> Result<Vec<u32>> {
        match self.state() {
            DEAD | FINISHED => Ok(vec![0; self.words()]),
            state => {
                let mut row = self.engine.mask_slow(state)?;
                if let Some(checked) = self.checked() {
                    checked.filter(state, &self.text(), &mut row)?;
                }
                Ok(row)
            }
        }
    }

    /// Writes minus infinity into every logit that is not allowed and returns the natural log of the
    /// probability that was kept; minus infinity if nothing was. Logits beyond the vocabulary are
    /// forbidden.
    ///
    /// # Errors
    /// `InvalidInput` for a short row or a NaN or `+inf` logit; the row is then unchanged.
    pub fn apply<T: MaskedLogit + Into<f64>>(&self, logits: &mut [T]) -> Result<f64> {
        let rows = self.vocab().num_rows();
        if logits.len() < rows {
            let why = format!("{} logits; the vocabulary has {rows}", logits.len());
            return Err(Core::input("logits", why).into());
        }
        let mut row = vec![0u32; self.words()];
        self.fill(&mut row)?;
        let mut wide: Vec<f32> = Vec::with_capacity(logits.len());
        for (i, &x) in logits.iter().enumerate() {
            let x: f64 = x.into();
            if x.is_nan() || x == f64::INFINITY {
                return Err(Core::input("logits", format!("logit {i} is {x}")).into());
            }
            wide.push(x as f32);
        }
        let max = wide.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let kept = if max == f32::NEG_INFINITY {
            f64::NEG_INFINITY
        } else {
            let all = numerics::sum_exp(&wide, max);
            mask::apply(&row, &mut wide);
            let best = wide.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            // Relative to the best kept logit: far below the best of all, exp would round to zero.
            if best == f32::NEG_INFINITY {
                f64::NEG_INFINITY
            } else {
                f64::from(best) - f64::from(max) + (numerics::sum_exp(&wide, best) / all).ln()
            }
        };
        mask::apply(&row, logits);
        Ok(kept.min(0.0))
    }
}

impl Constraint for Matcher {
    fn num_rows(&self) -> usize {
        self.vocab().num_rows()
    }

    fn fill(&self, row: &mut [u32]) -> trivium_core::Result<()> {
        Self::fill(self, row)?;
        Ok(())
    }

    fn commit(&mut self, token: TokenId) -> trivium_core::Result<bool> {
        // A verifier may hold ids of a wider model: they are not allowed, not a mistake.
        if token as usize >= self.vocab().num_rows() {
            return Ok(false);
        }
        Ok(Self::commit(self, token)?)
    }

    fn rollback(&mut self, n: usize) -> trivium_core::Result<()> {
        Ok(Self::rollback(self, n)?)
    }

    fn len(&self) -> usize {
        Self::len(self)
    }

    fn likely(&self) -> Option<TokenId> {
        // What cannot be told costs a draft, not the text.
        self.forced_token().ok().flatten()
    }

    fn is_finished(&self) -> bool {
        self.is_finished()
    }

    fn fork(&self) -> Box<dyn Constraint> {
        Box::new(self.clone())
    }
}

impl From<Matcher> for Box<dyn Constraint> {
    fn from(matcher: Matcher) -> Self {
        Box::new(matcher)
    }
}

/// What an operation that needs a live matcher says of a dead one.
pub(crate) fn need_live(matcher: &Matcher, what: &str) -> Result<()> {
    match matcher.dead_at() {
        None => Ok(()),
        Some(at) => {
            let found = format!("token {at} is outside the grammar");
            Err(Error::from(Core::state(what, "a text inside the grammar", found)))
        }
    }
}
