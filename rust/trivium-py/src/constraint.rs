//! How a Python matcher becomes a constraint of a request.

use crate::errors::{PyRes, input};
use pyo3::prelude::*;
use trivium_core::Constraint;

/// A fork of the matcher behind `object`.
pub(crate) fn of(object: &Bound<'_, PyAny>) -> PyRes<Box<dyn Constraint>> {
    Err(input(object.py(), "constraint", "must be a trivium matcher, as g.matcher() returns"))
}
