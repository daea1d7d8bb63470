//! `Vocabulary`.

use crate::arrays::integers;
use crate::errors::{OrRaise, PyRes};
use crate::guard::{attached, guard};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::path::PathBuf;
use std::sync::Arc;
use trivium_core::{SpecialToken, TokenId, Vocabulary, ids};

/// Token bytes, special tokens, end ids and logits width.
#[pyclass(frozen, name = "Vocabulary", module = "trivium._core")]
pub(crate) struct PyVocabulary {
    pub(crate) inner: Arc<Vocabulary>,
}

#[pymethods]
impl PyVocabulary {
    #[new]
    fn new(
        py: Python<'_>,
        tokens: Vec<Vec<u8>>,
        eos: Vec<i64>,
        special: Vec<(i64, String)>,
        num_rows: Option<usize>,
    ) -> PyRes<Self> {
        let n = tokens.len();
        let eos = eos
            .into_iter()
            .map(|t| ids::check_id(t, n))
            .collect::<Result<Vec<_>, _>>()
            .or_raise(py)?;
        let special = special
            .into_iter()
            .map(|(id, name)| Ok(SpecialToken { id: ids::check_id(id, n)?, name }))
            .collect::<Result<Vec<_>, _>>()
            .or_raise(py)?;
        let inner = guard(py, || Vocabulary::new(&tokens, &special, &eos, num_rows))?;
        Ok(Self { inner: Arc::new(inner) })
    }

    #[staticmethod]
    fn load(py: Python<'_>, path: PathBuf) -> PyRes<Self> {
        Ok(Self { inner: Arc::new(guard(py, || Vocabulary::load(&path))?) })
    }

    fn save(&self, py: Python<'_>, path: PathBuf) -> PyRes<()> {
        guard(py, || self.inner.save(&path))
    }

    /// Reads the contents of a saved file.
    #[staticmethod]
    fn from_bytes(py: Python<'_>, data: &[u8]) -> PyRes<Self> {
        Ok(Self { inner: Arc::new(guard(py, || Vocabulary::from_bytes(data))?) })
    }

    /// The contents of a saved file.
    fn to_bytes<'py>(&self, py: Python<'py>) -> PyRes<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &guard(py, || self.inner.to_bytes())?))
    }

    fn __len__(&self) -> usize {
        self.inner.len()
    }

    #[getter]
    fn num_rows(&self) -> usize {
        self.inner.num_rows()
    }

    #[getter]
    fn eos(&self) -> Vec<TokenId> {
        self.inner.eos().to_vec()
    }

    #[getter]
    fn special(&self) -> Vec<(TokenId, String)> {
        self.inner.special().map(|s| (s.id, s.name)).collect()
    }

    #[getter]
    fn digest(&self) -> u64 {
        self.inner.digest()
    }

    fn token<'py>(&self, py: Python<'py>, token: i64) -> PyRes<Bound<'py, PyBytes>> {
        let id = ids::check_id(token, self.inner.len()).or_raise(py)?;
        Ok(PyBytes::new(py, self.inner.token(id)))
    }

    fn decode<'py>(
        &self,
        py: Python<'py>,
        tokens: &Bound<'py, PyAny>,
    ) -> PyRes<Bound<'py, PyBytes>> {
        let tokens = integers(tokens, "tokens")?;
        let bytes = attached(py, || {
            let n = self.inner.len();
            let ids = tokens.iter().map(|&t| ids::check_id(t, n)).collect::<Result<Vec<_>, _>>()?;
            self.inner.decode(&ids)
        })?;
        Ok(PyBytes::new(py, &bytes))
    }
}
