//! What draft sources are built from.

use crate::arrays::{Foreign, integers, logits};
use crate::errors::{OrRaise, PyRes, input};
use crate::guard::guard;
use pyo3::prelude::*;
use std::path::PathBuf;
use trivium_core::{Chance, Keyed, Purpose, TokenId, ids};
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

/// Draw one draft token from a law `q` (float [vocab], weights) with the noise of purpose 7.
///
/// All draws of a step use the address of its first undecided position `start`; `count` says how
/// many came before.
#[pyfunction]
#[pyo3(signature = (q, seed, start, count, branch=0))]
pub(crate) fn draw_draft(
    py: Python<'_>,
    q: &Bound<'_, PyAny>,
    seed: u64,
    start: u32,
    count: usize,
    branch: u32,
) -> PyRes<usize> {
    let foreign: Foreign<'_> = logits(q, "q")?;
    let view = foreign.logits()?;
    if view.rows() != 1 || count > 4096 {
        return Err(input(py, "q", "must be one row, of at most 4096 draws a step"));
    }
    let mut row = Vec::new();
    view.row(0).extend_into(&mut row);
    let weights: Vec<f64> = row.iter().map(|&w| f64::from(w)).collect();
    let sum: f64 = weights.iter().sum();
    if weights.iter().any(|w| !w.is_finite() || *w < 0.0) || sum <= 0.0 {
        return Err(input(py, "q", "is no law: weights must be finite, at least 0, not all 0"));
    }
    let mut chance = Keyed::new(seed, branch);
    for _ in 0..count {
        chance.bernoulli(start, Purpose::Draft, 0.0, 1.0);
    }
    Ok(chance.categorical(start, Purpose::Draft, &weights))
}
