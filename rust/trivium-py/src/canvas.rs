//! Canvases of diffusion models against a grammar.

use crate::arrays::integers;
use crate::errors::{PyRes, to_py};
use crate::grammar::{Budgets, PyGrammarMask, detached};
use pyo3::prelude::*;
use trivium_core::{Error as Core, ids};
use trivium_grammar::{Canvas, Lengths};

/// A grammar ready to be asked about canvases.
#[pyclass(frozen, name = "Canvas", module = "trivium._core")]
pub(crate) struct PyCanvas {
    inner: Canvas,
    width: usize,
    lengths: Lengths,
}

#[pymethods]
impl PyCanvas {
    #[new]
    fn new(
        py: Python<'_>,
        grammar: &PyGrammarMask,
        lengths: &str,
        max_items: usize,
        budgets: Budgets,
    ) -> PyRes<Self> {
        let lengths = match lengths {
            "free" => Lengths::Free,
            "bytes" => Lengths::Bytes,
            "exact" => Lengths::Exact,
            other => {
                let why = format!("{other:?} is not free, bytes or exact");
                return Err(to_py(py, &Core::input("lengths", why)));
            }
        };
        let width = grammar.inner.vocab().num_rows();
        let inner = budgets.compile(py, |limits| Canvas::new(&grammar.inner, limits, max_items))?;
        Ok(Self { inner, width, lengths })
    }

    fn completable(&self, py: Python<'_>, tokens: &Bound<'_, PyAny>, open: bool) -> PyRes<bool> {
        let tokens = integers(tokens, "tokens")?
            .into_iter()
            .map(|t| match t {
                -1 => Ok(None),
                t => ids::check_id(t, self.width).map(Some).map_err(|e| to_py(py, &e)),
            })
            .collect::<PyRes<Vec<_>>>()?;
        detached(py, || self.inner.completable(&tokens, self.lengths, open))
    }
}
