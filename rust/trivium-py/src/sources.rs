//! What draft sources are built from.

use crate::arrays::integers;
use crate::errors::{OrRaise, PyRes};
use crate::guard::guard;
use pyo3::prelude::*;
use std::path::PathBuf;
use trivium_core::{TokenId, ids};
use trivium_spec::draft::retrieval;

/// Writes documents and their suffix array to a file.
#[pyfunction]
#[pyo3(signature = (path, documents, vocab_size))]
pub(crate) fn build_corpus(
    py: Python<'_>,
    path: PathBuf,
    documents: Vec<Bound<'_, PyAny>>,
    vocab_size: usize,
) -> PyRes<()> {
    let documents = documents
        .iter()
        .map(|d| -> PyRes<Vec<TokenId>> {
            let raw = integers(d, "documents")?;
            raw.iter().map(|&t| ids::check_id(t, vocab_size)).collect::<Result<_, _>>().or_raise(py)
        })
        .collect::<PyRes<Vec<_>>>()?;
    guard(py, || retrieval::build(documents.iter().map(Vec::as_slice), vocab_size, &path))
}
