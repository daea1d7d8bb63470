//! The one map from typed errors to `trivium.errors`.
//!
//! The exception classes live in Python, where their double inheritance reads naturally; fields
//! are copied onto the exception so that no caller parses a message.

use pyo3::prelude::*;
use pyo3::types::PyDict;
use trivium_core::Error;

/// Result of an exported function.
pub(crate) type PyRes<T> = PyResult<T>;

/// Builds `trivium.errors.<class>(message)` with attributes.
pub(crate) fn raise(
    py: Python<'_>,
    class: &str,
    message: &str,
    fields: &Bound<'_, PyDict>,
) -> PyErr {
    let build = || -> PyResult<PyErr> {
        let value = py.import("trivium.errors")?.getattr(class)?.call1((message,))?;
        for (name, field) in fields {
            value.setattr(name.cast::<pyo3::types::PyString>()?, field)?;
        }
        Ok(PyErr::from_value(value))
    };
    build().unwrap_or_else(|e| e)
}

/// The exception of a core error.
pub(crate) fn to_py(py: Python<'_>, error: &Error) -> PyErr {
    let fields = PyDict::new(py);
    let class = match error {
        Error::InvalidInput { what, why } => {
            drop(fields.set_item("what", what));
            drop(fields.set_item("why", why));
            "InputError"
        }
        Error::Unsupported { feature, at, hint } => {
            drop(fields.set_item("feature", feature));
            drop(fields.set_item("at", at));
            drop(fields.set_item("hint", hint));
            "UnsupportedError"
        }
        Error::LimitExceeded { limit, value, budget } => {
            drop(fields.set_item("limit", limit));
            drop(fields.set_item("value", value));
            drop(fields.set_item("budget", budget));
            "LimitError"
        }
        Error::OutOfVocabulary { token, vocab } => {
            drop(fields.set_item("token", token));
            drop(fields.set_item("vocab", vocab));
            "TokenError"
        }
        Error::RejectedToken { token, position } => {
            drop(fields.set_item("token", token));
            drop(fields.set_item("position", position));
            "TokenError"
        }
        Error::StateMismatch { what, expected, found } => {
            drop(fields.set_item("what", what));
            drop(fields.set_item("expected", expected));
            drop(fields.set_item("found", found));
            "StateError"
        }
        Error::Device { code, detail } => {
            drop(fields.set_item("code", code));
            drop(fields.set_item("detail", detail));
            "DeviceError"
        }
        _ => "InternalError",
    };
    raise(py, class, &error.to_string(), &fields)
}

/// `InputError` in one line.
pub(crate) fn input(py: Python<'_>, what: &str, why: impl Into<String>) -> PyErr {
    to_py(py, &Error::input(what, why))
}

/// Errors of a `Result` become exceptions.
pub(crate) trait OrRaise<T> {
    /// As `?`, with the interpreter at hand.
    fn or_raise(self, py: Python<'_>) -> PyRes<T>;
}

impl<T> OrRaise<T> for Result<T, Error> {
    fn or_raise(self, py: Python<'_>) -> PyRes<T> {
        self.map_err(|e| to_py(py, &e))
    }
}
