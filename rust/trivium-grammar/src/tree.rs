//! Masks of a draft tree in one call.
//!
//! States are immutable ids, so nothing is rolled back between siblings: the state of a node is the
//! parent's stepped by the node's token, and equal states share one cached mask.

use crate::automata::table::{DEAD, StateId};
use crate::checker::Checked;
use crate::error::Result;
use crate::matcher::{FINISHED, Matcher};
use trivium_core::{Error as Core, TokenId};

impl Matcher {
    /// Fills row `i` with the mask *after* node `i` and says which nodes are reachable.
    ///
    /// Node 0 is the last committed token: it is not stepped (`tokens[0]` is not read), row 0 is the
    /// matcher's own mask and `alive[0]` is true. A node whose token is not allowed, and everything
    /// below it, is dead: an all-zero row. `out` holds `stride` words a node.
    ///
    /// # Errors
    /// `InvalidInput` unless `parents[0] = -1` and `0 <= parents[i] < i` and the shapes agree;
    /// `OutOfVocabulary`; `LimitExceeded`. The matcher does not change; on an error `out` is
    /// unspecified.
    pub fn fill_tree(
        &self,
        parents: &[i32],
        tokens: &[TokenId],
        out: &mut [u32],
        stride: usize,
    ) -> Result<Vec<bool>> {
        let n = parents.len();
        let bad = |what: &str, why: String| Err(Core::input(what, why).into());
        if tokens.len() != n {
            return bad("tokens", format!("{} tokens for {n} parents", tokens.len()));
        }
        if stride < self.words() || out.len() != n * stride {
            let why = format!(
                "{} words with {stride} a row; {n} nodes need {} words each",
                out.len(),
                self.words()
            );
            return bad("out", why);
        }
        let mut states = Vec::with_capacity(n);
        for (i, (&parent, &token)) in parents.iter().zip(tokens).enumerate() {
            if i == 0 {
                if parent != -1 {
                    return bad("parents", format!("parents[0] is {parent}, must be -1"));
                }
                states.push(self.state());
                continue;
            }
            if parent < 0 || parent as usize >= i {
                let why = format!("parents[{i}] is {parent}, must be from 0 to {}", i - 1);
                return bad("parents", why);
            }
            states.push(self.step(states[parent as usize], token)?);
        }
        if let Some(checked) = self.checked() {
            self.fill_checked_tree(&checked, (parents, tokens), &mut states, out, stride)?;
        } else {
            for (&state, row) in states.iter().zip(out.chunks_exact_mut(stride.max(1))) {
                self.fill_state(state, row)?;
            }
        }
        Ok(states.iter().enumerate().map(|(i, &s)| i == 0 || s != DEAD).collect())
    }

    /// The same under a checker: every node has a text. A node after which nothing may follow gets
    /// an empty row; it is the walk that meets the dead end.
    fn fill_checked_tree(
        &self,
        checked: &Checked<'_>,
        (parents, tokens): (&[i32], &[TokenId]),
        states: &mut [StateId],
        out: &mut [u32],
        stride: usize,
    ) -> Result<()> {
        let mut texts: Vec<Vec<u8>> = Vec::with_capacity(states.len());
        for i in 0..states.len() {
            let mut text = match usize::try_from(parents[i]) {
                Err(_) => self.text(),
                Ok(parent) => {
                    if states[parent] == DEAD {
                        states[i] = DEAD;
                    }
                    texts[parent].clone()
                }
            };
            if i > 0 && states[i] != DEAD && !checked.permits(&mut text, states[i], tokens[i])? {
                states[i] = DEAD;
            }
            let row = &mut out[i * stride..][..stride];
            match states[i] {
                DEAD | FINISHED => row.fill(0),
                state => drop(self.fill_checked(checked, state, &text, row)?),
            }
            texts.push(text);
        }
        Ok(())
    }
}
