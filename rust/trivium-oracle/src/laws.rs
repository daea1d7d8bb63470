//! The laws of every per-sequence object, checked by one harness.
//!
//! 1. `commit(a); rollback(len(a))` is the identity.
//! 2. `sync(x)` from any state equals `reset(); commit(x)`.
//! 3. `fork()` shares nothing mutable.
//! 4. An operation that fails changes nothing.
//!
//! "Equal" means equal by [`Sequence::observe`], which should return everything a caller can see.

use std::fmt::Debug;

/// An object that follows one sequence of tokens.
#[allow(clippy::len_without_is_empty)] // the harness only counts
pub trait Sequence: Sized {
    /// What a caller can see of it.
    type View: PartialEq + Debug;

    /// Appends tokens, all or nothing; false if refused.
    fn commit(&mut self, tokens: &[u32]) -> bool;
    /// Takes back tokens; false if refused.
    fn rollback(&mut self, n: usize) -> bool;
    /// Back to the start.
    fn reset(&mut self);
    /// Makes the state equal to the sequence; false if refused.
    fn sync(&mut self, tokens: &[u32]) -> bool;
    /// An independent copy.
    #[must_use]
    fn fork(&self) -> Self;
    /// Tokens since the start.
    fn len(&self) -> usize;
    /// Everything a caller can see.
    fn observe(&mut self) -> Self::View;
}

/// Checks all laws of an object around two token sequences.
///
/// # Panics
/// With the law's number, if one is broken.
pub fn check<S: Sequence>(mut object: S, first: &[u32], second: &[u32]) {
    let start = object.observe();
    let accepted = object.commit(first);
    let before = object.observe();
    if accepted {
        assert_eq!(object.len(), first.len(), "len counts commits");
    } else {
        assert_eq!(before, start, "law 4: a refused commit changes nothing");
    }

    // Law 1.
    if object.commit(second) {
        assert!(object.rollback(second.len()), "law 1: rollback of a commit");
    }
    assert_eq!(object.observe(), before, "law 1");

    // Law 4: rolling back too far.
    let len = object.len();
    assert!(!object.rollback(len + 1), "law 4: rollback past the start is refused");
    assert_eq!(object.observe(), before, "law 4");

    // Law 3, both directions.
    let mut copy = object.fork();
    assert_eq!(copy.observe(), before, "law 3: a fork looks alike");
    copy.commit(second);
    assert_eq!(object.observe(), before, "law 3: the fork's commit is its own");
    let forked = copy.observe();
    object.commit(second);
    object.rollback(object.len());
    assert_eq!(copy.observe(), forked, "law 3: the original's changes are its own");

    // Law 2, from the fork's state and from a fresh one.
    let synced = copy.sync(second);
    let mut fresh = object.fork();
    fresh.reset();
    assert_eq!(fresh.observe(), start, "reset goes back to the start");
    assert_eq!(fresh.commit(second), synced, "law 2: sync accepts what commit accepts");
    if synced {
        assert_eq!(copy.observe(), fresh.observe(), "law 2");
    } else {
        assert_eq!(copy.observe(), forked, "law 4: a refused sync changes nothing");
    }
}
