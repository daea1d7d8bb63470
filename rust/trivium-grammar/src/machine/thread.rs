//! Threads: the ways to read the text so far.

use super::stack::{BOTTOM, StackId};
use super::text::{self, TextId};
use crate::automata::table::{DEAD, StateId};

/// A way to read the text so far. Sorted and merged by all but the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Thread {
    /// State of the lexeme; [`DEAD`] at the end of the text; [`SPECIAL`] before a special token.
    pub(super) q: StateId,
    /// State in the keys that may not be completed, or [`DEAD`]; the declared keys that may be, as
    /// [`OFFER`] and a number; the step before a special token.
    pub(super) shadow: StateId,
    /// What was read of a key that must be remembered.
    pub(super) text: TextId,
    /// What to do when the lexeme is complete.
    pub(super) stack: StackId,
}

/// Lexeme state of a thread that waits for a special token.
pub(super) const SPECIAL: StateId = StateId::MAX;

/// Bit of a shadow that names a set of declared keys.
pub(super) const OFFER: u32 = 1 << 31;

/// The text may end.
pub(super) const END: Thread = Thread { q: DEAD, shadow: DEAD, text: text::NONE, stack: BOTTOM };

impl Thread {
    pub(super) fn plain(q: StateId, stack: StackId) -> Self {
        Self { q, shadow: DEAD, text: text::NONE, stack }
    }

    /// Whether only some of the lexemes that its state knows may be completed.
    pub(super) fn is_offer(self) -> bool {
        self.q != SPECIAL && self.shadow & OFFER != 0
    }

    pub(super) fn reads_text(self) -> bool {
        self.q != DEAD && self.q != SPECIAL
    }
}

/// What may follow a completed lexeme.
#[derive(Debug)]
pub(super) struct Exit {
    pub(super) threads: Box<[Thread]>,
    /// A key begins after one that is not known: whether they may be equal is open.
    pub(super) uncertain: bool,
}

/// Whether two sets of bits share one.
pub(super) fn intersects(a: &[u64], b: &[u64]) -> bool {
    a.iter().zip(b).any(|(x, y)| x & y != 0)
}

/// Whether a bit is set.
pub(super) fn holds(bits: &[u64], at: u32) -> bool {
    bits.get(at as usize / 64).is_some_and(|w| w >> (at % 64) & 1 == 1)
}
