//! Every exported call that does work runs here: interpreter released, panics caught.
//!
//! A panic would reach Python as `PanicException`, which `except Exception` in a server does not
//! catch. [`guard`] turns it into `InternalError`. An object that panicked while locked is poisoned
//! and says so at its next use; other objects are untouched.

use crate::errors::{PyRes, to_py};
use pyo3::marker::Ungil;
use pyo3::prelude::*;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, TryLockError};
use trivium_core::{Error, Result};

/// Runs `work` detached from the interpreter.
pub(crate) fn guard<T: Send>(
    py: Python<'_>,
    work: impl FnOnce() -> Result<T> + Ungil + Send,
) -> PyRes<T> {
    py.detach(|| caught(work)).map_err(|e| to_py(py, &e))
}

/// Runs short `work` (below about 10 microseconds) attached.
pub(crate) fn attached<T>(py: Python<'_>, work: impl FnOnce() -> Result<T>) -> PyRes<T> {
    caught(work).map_err(|e| to_py(py, &e))
}

fn caught<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let detail = panic
            .downcast_ref::<&str>()
            .map(ToString::to_string)
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "panic without a message".into());
        Err(Error::Internal { detail })
    })
}

/// Locks a per-sequence object: two threads on one object are a caller's bug, not a deadlock.
pub(crate) fn lock<'a, T>(object: &'a Mutex<T>, name: &str) -> Result<MutexGuard<'a, T>> {
    object.try_lock().map_err(|e| match e {
        TryLockError::WouldBlock => {
            Error::state(name, "one thread at a time", "a call in progress on another thread")
        }
        TryLockError::Poisoned(_) => {
            Error::state(name, "an intact object", "one that failed with an internal error")
        }
    })
}
