//! How a Python matcher becomes a constraint of a request.

use crate::errors::{PyRes, input};
use crate::grammar::PyMatcher;
use crate::sampling::PyHeal;
use pyo3::prelude::*;
use trivium_core::Constraint;

/// A fork of the matcher behind `object`.
pub(crate) fn of(object: &Bound<'_, PyAny>) -> PyRes<Box<dyn Constraint>> {
    let py = object.py();
    // The public class holds the extension's object.
    let core = object.getattr("_core").unwrap_or_else(|_| object.clone());
    if let Ok(heal) = core.cast::<PyHeal>() {
        return heal.get().constraint(py);
    }
    match core.cast::<PyMatcher>() {
        Ok(matcher) => matcher.get().constraint(py),
        Err(_) => Err(input(py, "constraint", "must be a trivium matcher, as g.matcher() returns")),
    }
}
