//! Time limit and cancel flag of the constructor that runs on this thread.
//!
//! A constructor runs on one thread from start to end, so its deadline and its flag are that
//! thread's, and no signature carries them. They are polled where budgets are checked. Generation
//! polls neither: outside of a constructor a poll is one read of a thread-local flag.

use crate::error::{Error, Result};
use crate::limits::CompileLimits;
use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// A flag that ends constructors, from any thread. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Ends the constructors that watch it, those yet to come included.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was set.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

thread_local! {
    static ACTIVE: Cell<bool> = const { Cell::new(false) };
    /// When the outermost constructor must be done, and its budget in milliseconds.
    static DEADLINE: Cell<Option<(Instant, u64)>> = const { Cell::new(None) };
    static FLAG: RefCell<Option<Cancel>> = const { RefCell::new(None) };
}

/// Takes a setting back when its scope ends, by a panic too.
struct Undo<F: FnMut()>(F);

impl<F: FnMut()> Drop for Undo<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Runs constructors so that `cancel` ends them: they return `LimitExceeded` of the limit
/// `cancelled`.
pub fn cancellable<T>(cancel: &Cancel, work: impl FnOnce() -> T) -> T {
    let before = FLAG.replace(Some(cancel.clone()));
    let _undo = Undo(|| drop(FLAG.replace(before.clone())));
    work()
}

/// Runs a constructor under its time limit; one inside another is under the outer one's.
pub(crate) fn within<T>(limits: &CompileLimits, work: impl FnOnce() -> Result<T>) -> Result<T> {
    if ACTIVE.get() {
        return work();
    }
    let ms = limits.max_time.as_millis() as u64;
    DEADLINE.set(Instant::now().checked_add(limits.max_time).map(|d| (d, ms)));
    ACTIVE.set(true);
    let _undo = Undo(|| ACTIVE.set(false));
    poll()?;
    work()
}

/// Fails where the constructor on this thread is late or cancelled.
pub(crate) fn poll() -> Result<()> {
    if ACTIVE.get() { poll_active() } else { Ok(()) }
}

#[cold]
fn poll_active() -> Result<()> {
    if FLAG.with_borrow(|f| f.as_ref().is_some_and(Cancel::is_set)) {
        return Err(Error::limit("cancelled", 1, 0));
    }
    match DEADLINE.get() {
        Some((deadline, ms)) if Instant::now() > deadline => {
            Err(Error::limit("max_ms", ms + 1, ms))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn limits(ms: u64) -> CompileLimits {
        CompileLimits { max_time: Duration::from_millis(ms), ..CompileLimits::default() }
    }

    #[test]
    fn scopes_end_and_nest() {
        assert!(poll().is_ok());
        let late = within(&limits(0), || {
            while poll().is_ok() {}
            within(&limits(1_000_000), poll)
        });
        assert!(late.is_err(), "the outer limit holds inside");
        assert!(poll().is_ok(), "and ends with its scope");
        let flag = Cancel::default();
        flag.set();
        let ended = cancellable(&flag, || within(&limits(1_000_000), poll));
        assert!(ended.is_err_and(|e| e.to_string().contains("cancelled")));
        assert!(within(&limits(1_000_000), poll).is_ok());
        let panicked = std::panic::catch_unwind(|| {
            drop(within(&limits(1_000_000), || -> Result<()> { panic!("inside") }));
        });
        assert!(panicked.is_err() && !ACTIVE.get());
    }
}
