//! Text that the grammar leaves no choice about.
//!
//! `forced_bytes` is the longest common prefix of all completions: while the state does not accept
//! and exactly one byte is live, append it. Liveness makes this exact, and keeps a cycle of forced
//! bytes from existing.
//!
//! Tokens for those bytes are a *proposal*: a verifier checks them against the masked law, so a poor
//! tokenisation costs acceptance, never correctness. The last boundaries are left to the model where
//! a longer allowed token would span the end of the forced text.

use crate::automata::table::{DEAD, StateId};
use crate::error::Result;
use crate::matcher::{FINISHED, Matcher, need_live};
use trivium_core::{TokenId, Trie};

/// Forced bytes followed at a time.
const MAX_FORCED: usize = 4096;

impl Matcher {
    /// The bytes every completion begins with, at most 4,096 of them; empty where the text may end.
    ///
    /// # Errors
    /// `StateMismatch` on a dead matcher; `LimitExceeded` over a budget.
    pub fn forced_bytes(&self) -> Result<Vec<u8>> {
        Ok(self.forced(MAX_FORCED)?.0)
    }

    fn forced(&self, length: usize) -> Result<(Vec<u8>, StateId)> {
        need_live(self, "forced bytes")?;
        let engine = &self.engine;
        let mut state = self.state();
        let mut out = Vec::new();
        while state != FINISHED && out.len() < length && !engine.accepting(state)? {
            let Some(byte) = engine.only_byte(state)? else { break };
            out.push(byte);
            state = engine.walk(state, &[byte])?;
        }
        Ok((out, state))
    }

    /// Tokens that spell the forced bytes by greedy longest match, up to the first boundary that a
    /// longer allowed token could cross. Meant as a draft, not to be committed unseen.
    ///
    /// # Errors
    /// As [`forced_bytes`](Self::forced_bytes).
    pub fn forced_tokens(&self) -> Result<Vec<TokenId>> {
        self.spell(MAX_FORCED, MAX_FORCED)
    }

    /// The first of [`forced_tokens`](Self::forced_tokens), looking only as far as the longest token.
    ///
    /// # Errors
    /// As [`forced_bytes`](Self::forced_bytes).
    pub(crate) fn forced_token(&self) -> Result<Option<TokenId>> {
        if self.dead_at().is_some() {
            return Ok(None);
        }
        Ok(self.spell(self.vocab().trie().max_depth(), 1)?.first().copied())
    }

    /// At most `count` tokens for at most `length` forced bytes.
    fn spell(&self, length: usize, count: usize) -> Result<Vec<TokenId>> {
        let (bytes, end) = self.forced(length)?;
        let trie = self.vocab().trie();
        let mut out = Vec::new();
        let mut at = 0;
        while at < bytes.len() && out.len() < count {
            if at > 0 && self.spans_the_end(trie, &bytes[at..], end)? {
                break;
            }
            let mut node = 0;
            let mut best = None;
            for (i, &b) in bytes[at..].iter().enumerate() {
                let Some(child) = trie.child(node, b) else { break };
                node = child;
                if let Some(&token) = trie.tokens_at(node).first() {
                    best = Some((token, at + i + 1));
                }
            }
            // Not even one token may span the end: if one does, the model chooses it.
            match best {
                Some((token, next)) if at > 0 || !self.spans_the_end(trie, &bytes, end)? => {
                    out.push(token);
                    at = next;
                }
                _ => break,
            }
        }
        Ok(out)
    }

    /// The forced bytes, and for each whether a token could begin there that goes on beyond all of
    /// them: a tokenisation of forced text is certain only up to the first such place where one of
    /// its tokens begins.
    ///
    /// # Errors
    /// As [`forced_bytes`](Self::forced_bytes).
    pub fn forced_edges(&self) -> Result<(Vec<u8>, Vec<bool>)> {
        let (bytes, end) = self.forced(MAX_FORCED)?;
        let trie = self.vocab().trie();
        let open = (0..bytes.len())
            .map(|at| self.spans_the_end(trie, &bytes[at..], end))
            .collect::<Result<_>>()?;
        Ok((bytes, open))
    }

    /// Whether a token has `rest` as a proper prefix and the grammar allows its continuation.
    fn spans_the_end(&self, trie: &Trie, rest: &[u8], end: StateId) -> Result<bool> {
        if rest.len() >= trie.max_depth() {
            return Ok(false);
        }
        let Some(top) = rest.iter().try_fold(0, |n, &b| trie.child(n, b)) else {
            return Ok(false);
        };
        // Walk the subtree below `rest` from the state after it.
        let mut states = vec![end; trie.max_depth() + 1];
        let mut node = top + 1;
        while node < trie.end(top) {
            let depth = trie.depth(node);
            let to = self.engine.walk(states[depth - 1], &[trie.byte(node)])?;
            if to == DEAD {
                node = trie.end(node);
                continue;
            }
            if !trie.tokens_at(node).is_empty() {
                return Ok(true);
            }
            states[depth] = to;
            node += 1;
        }
        Ok(false)
    }
}
