//! Budgets of one grammar. All are finite by default; each has its own error.

use std::time::Duration;

/// What compiling a grammar and using it may cost.
///
/// Passing `max_states` or `max_bytes` later, during generation, is a `LimitExceeded` too: the call
/// fails and the matcher stays where it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompileLimits {
    /// Automaton states ever created, those inside a UTF-8 character included; at most 2^24.
    pub max_states: usize,
    /// Bytes of expressions, states and transition rows (about 1 kB an expanded state).
    pub max_bytes: usize,
    /// Time of the constructor. Generation never reads a clock.
    pub max_time: Duration,
    /// Bytes of masks kept for states met before; beyond it the least recent go.
    pub mask_bytes: usize,
}

/// Largest `max_states`: the table of states is a directory of fixed size.
pub(crate) const MOST_STATES: usize = 1 << 24;

impl Default for CompileLimits {
    fn default() -> Self {
        Self {
            max_states: 100_000,
            max_bytes: 64 << 20,
            max_time: Duration::from_secs(2),
            mask_bytes: 64 << 20,
        }
    }
}
