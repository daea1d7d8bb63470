//! `GrammarMask` and `Matcher`: token masks from regular expressions.
//!
//! A matcher sits behind a `Mutex` that is only ever tried: a second thread on the same matcher gets
//! `StateError`. Masks that are cached are copied attached, about 0.2 microseconds; everything that
//! may compute runs detached.

use crate::arrays::{Foreign, RowMut, array, integers};
use crate::device::{self, Place, place, to_host};
use crate::errors::{PyRes, raise, to_py};
use crate::guard::{attached, guard, lock};
use crate::vocab::PyVocabulary;
use numpy::{PyArray1, PyArrayMethods};
use pyo3::marker::Ungil;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use trivium_core::{Constraint, Error as Core, TokenId, ids};
use trivium_grammar::{
    Cancel, Checker, CompileLimits, Dialect, Error, GrammarMask, Matcher, Syntax, cancellable,
    checker, fill_batch,
};

/// The exception of a grammar error: the subclasses that grammars add, the core's otherwise.
fn grammar_error(py: Python<'_>, error: &Error) -> PyErr {
    let fields = PyDict::new(py);
    let set = |name: &str, value: &str| drop(fields.set_item(name, value));
    let class = match error {
        Error::InvalidGrammar { what, offset, why } => {
            set("what", what);
            set("why", why);
            drop(fields.set_item("offset", offset));
            "InvalidGrammar"
        }
        Error::Unsatisfiable { what, why } => {
            set("what", what);
            set("why", why);
            "UnsatisfiableError"
        }
        Error::UnsupportedPattern { feature, at, hint } => {
            set("feature", feature);
            set("at", at);
            set("hint", hint);
            "UnsupportedPattern"
        }
        Error::InvalidSchema { path, keyword, why } => {
            set("path", path);
            set("keyword", keyword);
            set("why", why);
            "InvalidSchema"
        }
        Error::UnsupportedSchema { path, keyword, reason, hint } => {
            set("path", path);
            set("keyword", keyword);
            set("reason", reason);
            set("hint", hint);
            "UnsupportedSchema"
        }
        Error::Core(Core::LimitExceeded { limit, value, budget }) => {
            set("limit", limit);
            drop(fields.set_item("value", value));
            drop(fields.set_item("budget", budget));
            if *limit == "cancelled" { "Cancelled" } else { "LimitExceeded" }
        }
        Error::DeadEnd { why, rollback_to } => {
            set("why", why);
            drop(fields.set_item("rollback_to", rollback_to));
            "DeadEnd"
        }
        Error::Core(core) => return to_py(py, core),
        other => return to_py(py, &Core::from(other.clone())),
    };
    raise(py, class, &error.to_string(), &fields)
}

type Outcome<T> = trivium_grammar::Result<T>;

/// Runs `work` detached.
pub(crate) fn detached<T: Send>(
    py: Python<'_>,
    work: impl FnOnce() -> Outcome<T> + Ungil + Send,
) -> PyRes<T> {
    guard(py, move || Ok(work()))?.map_err(|e| grammar_error(py, &e))
}

/// Runs short `work` attached.
fn quick<T>(py: Python<'_>, work: impl FnOnce() -> Outcome<T>) -> PyRes<T> {
    attached(py, || Ok(work()))?.map_err(|e| grammar_error(py, &e))
}

/// Budgets as they cross the border: states, bytes, milliseconds, bytes of masks, and the flag that
/// ends the constructor.
#[derive(FromPyObject)]
pub(crate) struct Budgets(usize, usize, u64, usize, Option<Py<PyCancel>>);

impl Budgets {
    /// Runs a constructor detached, under these budgets.
    pub(crate) fn compile<T: Send>(
        self,
        py: Python<'_>,
        work: impl FnOnce(CompileLimits) -> Outcome<T> + Ungil + Send,
    ) -> PyRes<T> {
        let Self(max_states, max_bytes, max_ms, mask_bytes, cancel) = self;
        let max_time = Duration::from_millis(max_ms);
        let limits = CompileLimits { max_states, max_bytes, max_time, mask_bytes };
        match cancel.map(|c| c.get().inner.clone()) {
            Some(cancel) => detached(py, move || cancellable(&cancel, || work(limits))),
            None => detached(py, move || work(limits)),
        }
    }
}

/// A flag that ends constructors from another thread.
#[pyclass(frozen, name = "Cancel", module = "trivium._core")]
#[derive(Default)]
pub(crate) struct PyCancel {
    inner: Cancel,
}

#[pymethods]
impl PyCancel {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    fn set(&self) {
        self.inner.set();
    }

    fn is_set(&self) -> bool {
        self.inner.is_set()
    }
}

/// A Python callable ``check(text: bytes, complete: bool)``; what is false refuses.
#[derive(Debug)]
struct CallableChecker {
    check: Py<PyAny>,
    max_tests: usize,
}

impl Checker for CallableChecker {
    fn allows(&self, text: &[u8], complete: bool) -> Outcome<bool> {
        Python::attach(|py| {
            let answer = self.check.call1(py, (PyBytes::new(py, text), complete));
            let answer = answer.and_then(|a| Ok(a.is_none(py) || a.is_truthy(py)?));
            answer.map_err(|e| checker::failed(format!("raised {e}")))
        })
    }

    fn max_tests(&self) -> usize {
        self.max_tests
    }
}

/// Bytes accepted, whether accepting there, ranges of bytes that may follow.
type Explained = (usize, bool, Vec<(u8, u8)>);

/// A compiled grammar.
#[pyclass(frozen, name = "GrammarMask", module = "trivium._core")]
pub(crate) struct PyGrammarMask {
    pub(crate) inner: GrammarMask,
}

#[pymethods]
impl PyGrammarMask {
    #[staticmethod]
    fn regex(
        py: Python<'_>,
        pattern: &str,
        vocab: &PyVocabulary,
        dialect: &str,
        full: bool,
        budgets: Budgets,
    ) -> PyRes<Self> {
        let dialect = match dialect {
            "rust" => Dialect::Rust,
            "ecma" => Dialect::Ecma,
            "python" => Dialect::Python,
            other => {
                let why = format!("{other:?} is not rust, ecma or python");
                return Err(to_py(py, &Core::input("dialect", why)));
            }
        };
        let inner = budgets.compile(py, |limits| {
            GrammarMask::regex(pattern, &vocab.inner, dialect, full, limits)
        })?;
        Ok(Self { inner })
    }

    #[staticmethod]
    fn grammar(
        py: Python<'_>,
        text: &str,
        vocab: &PyVocabulary,
        syntax: &str,
        start: Option<&str>,
        budgets: Budgets,
    ) -> PyRes<Self> {
        let syntax = match syntax {
            "ebnf" => Syntax::Ebnf,
            "gbnf" => Syntax::Gbnf,
            "lark" => Syntax::Lark,
            other => {
                let why = format!("{other:?} is not ebnf, gbnf or lark");
                return Err(to_py(py, &Core::input("syntax", why)));
            }
        };
        let inner = budgets.compile(py, |limits| {
            GrammarMask::grammar(text, &vocab.inner, syntax, start, limits)
        })?;
        Ok(Self { inner })
    }

    #[staticmethod]
    #[allow(clippy::needless_pass_by_value)] // pyo3 hands over what it extracted
    fn choices(
        py: Python<'_>,
        texts: Vec<String>,
        vocab: &PyVocabulary,
        budgets: Budgets,
    ) -> PyRes<Self> {
        let inner =
            budgets.compile(py, |limits| GrammarMask::choices(&texts, &vocab.inner, limits))?;
        Ok(Self { inner })
    }

    #[staticmethod]
    fn json_schema(
        py: Python<'_>,
        schema: &str,
        vocab: &PyVocabulary,
        options: &Bound<'_, PyDict>,
        budgets: Budgets,
    ) -> PyRes<Self> {
        let options = crate::schema::options(py, options)?;
        let inner = budgets.compile(py, |limits| {
            GrammarMask::json_schema(schema, &vocab.inner, &options, limits)
        })?;
        Ok(Self { inner })
    }

    /// This grammar with a whole schema checked where a value is complete.
    fn shadowed_by(
        &self,
        py: Python<'_>,
        schema: &str,
        options: &Bound<'_, PyDict>,
        why: String,
    ) -> PyRes<Self> {
        let options = crate::schema::options(py, options)?;
        let inner = detached(py, || self.inner.shadowed_by(schema, &options, why))?;
        Ok(Self { inner })
    }

    /// This grammar with a callable beside it.
    fn checked_by(&self, py: Python<'_>, check: Py<PyAny>, max_tests: usize) -> PyRes<Self> {
        let checker = Arc::new(CallableChecker { check, max_tests });
        let why = "a checker may refuse every token that the grammar allows".to_owned();
        let inner = quick(py, || self.inner.with_checker(checker, "checked", why))?;
        Ok(Self { inner })
    }

    fn matcher(&self) -> PyMatcher {
        PyMatcher::new(self.inner.matcher())
    }

    fn matches(&self, py: Python<'_>, text: &[u8]) -> PyRes<bool> {
        detached(py, || self.inner.matches(text))
    }

    fn explain(&self, py: Python<'_>, prefix: &[u8]) -> PyRes<Explained> {
        let e = detached(py, || self.inner.explain(prefix))?;
        Ok((e.accepted, e.accepting, e.next_bytes))
    }

    fn completion<'py>(
        &self,
        py: Python<'py>,
        prefix: &[u8],
    ) -> PyRes<Option<Bound<'py, PyBytes>>> {
        let text = detached(py, || self.inner.completion(prefix))?;
        Ok(text.map(|t| PyBytes::new(py, &t)))
    }

    fn report<'py>(&self, py: Python<'py>) -> PyRes<Bound<'py, PyDict>> {
        let r = quick(py, || self.inner.report())?;
        let out = PyDict::new(py);
        out.set_item("kind", r.kind)?;
        out.set_item("sound", r.sound)?;
        out.set_item("complete", r.complete)?;
        out.set_item("no_dead_end", r.no_dead_end)?;
        out.set_item("relaxed", r.relaxed)?;
        out.set_item("warnings", r.warnings)?;
        out.set_item("states", r.automaton.states)?;
        out.set_item("expanded", r.automaton.expanded)?;
        out.set_item("automaton_bytes", r.automaton.bytes)?;
        out.set_item("masks", r.masks.0)?;
        out.set_item("mask_bytes", r.masks.1)?;
        out.set_item("slices", r.slices.0)?;
        out.set_item("slice_bytes", r.slices.1)?;
        Ok(out)
    }
}

/// One sequence under a grammar.
#[pyclass(frozen, name = "Matcher", module = "trivium._core")]
pub(crate) struct PyMatcher {
    inner: Mutex<Matcher>,
}

impl PyMatcher {
    fn new(matcher: Matcher) -> Self {
        Self { inner: Mutex::new(matcher) }
    }

    fn lock(&self, py: Python<'_>) -> PyRes<MutexGuard<'_, Matcher>> {
        lock(&self.inner, "matcher").map_err(|e| to_py(py, &e))
    }

    /// An independent copy for a verifier.
    pub(crate) fn constraint(&self, py: Python<'_>) -> PyRes<Box<dyn Constraint>> {
        Ok(self.lock(py)?.fork().into())
    }
}

/// Ids below the logits width.
fn token_ids(py: Python<'_>, tokens: &Bound<'_, PyAny>, width: usize) -> PyRes<Vec<TokenId>> {
    integers(tokens, "tokens")?
        .into_iter()
        .map(|t| ids::check_id(t, width).map_err(|e| to_py(py, &e)))
        .collect()
}

#[pymethods]
impl PyMatcher {
    fn __len__(&self, py: Python<'_>) -> PyRes<usize> {
        Ok(self.lock(py)?.len())
    }

    fn tokens<'py>(&self, py: Python<'py>) -> PyRes<Bound<'py, PyArray1<i32>>> {
        let tokens = self.lock(py)?.tokens();
        Ok(array(py, tokens.into_iter().map(u32::cast_signed).collect()))
    }

    fn words(&self, py: Python<'_>) -> PyRes<usize> {
        Ok(self.lock(py)?.words())
    }

    fn is_accepting(&self, py: Python<'_>) -> PyRes<bool> {
        let m = self.lock(py)?;
        quick(py, || m.is_accepting())
    }

    fn is_finished(&self, py: Python<'_>) -> PyRes<bool> {
        Ok(self.lock(py)?.is_finished())
    }

    fn dead_at(&self, py: Python<'_>) -> PyRes<Option<usize>> {
        Ok(self.lock(py)?.dead_at())
    }

    fn commit_one(&self, py: Python<'_>, token: i64) -> PyRes<bool> {
        let mut m = self.lock(py)?;
        let token = ids::check_id(token, m.vocab().num_rows()).map_err(|e| to_py(py, &e))?;
        quick(py, || m.commit(token))
    }

    fn commit_many(&self, py: Python<'_>, tokens: &Bound<'_, PyAny>) -> PyRes<usize> {
        let mut m = self.lock(py)?;
        let tokens = token_ids(py, tokens, m.vocab().num_rows())?;
        let m = &mut *m;
        detached(py, || m.commit_all(&tokens))
    }

    fn rollback(&self, py: Python<'_>, n: usize) -> PyRes<()> {
        let mut m = self.lock(py)?;
        quick(py, || m.rollback(n))
    }

    fn reset(&self, py: Python<'_>) -> PyRes<()> {
        self.lock(py)?.reset();
        Ok(())
    }

    fn sync(&self, py: Python<'_>, tokens: &Bound<'_, PyAny>) -> PyRes<usize> {
        let mut m = self.lock(py)?;
        let tokens = token_ids(py, tokens, m.vocab().num_rows())?;
        let m = &mut *m;
        detached(py, || m.sync(&tokens))
    }

    fn fork(&self, py: Python<'_>) -> PyRes<Self> {
        Ok(Self::new(self.lock(py)?.fork()))
    }

    fn allows(&self, py: Python<'_>, token: i64) -> PyRes<bool> {
        let m = self.lock(py)?;
        let token = ids::check_id(token, m.vocab().num_rows()).map_err(|e| to_py(py, &e))?;
        quick(py, || m.allows(token))
    }

    fn validate(&self, py: Python<'_>, tokens: &Bound<'_, PyAny>) -> PyRes<usize> {
        let m = self.lock(py)?;
        let tokens = token_ids(py, tokens, m.vocab().num_rows())?;
        let m = &*m;
        detached(py, || m.validate(&tokens))
    }

    fn fill(&self, py: Python<'_>, row: &Bound<'_, PyAny>) -> PyRes<bool> {
        let m = self.lock(py)?;
        let m = &*m;
        // The common case without the detour over DLPack.
        if let Ok(numpy) = row.cast::<PyArray1<i32>>()
            && let Ok(mut borrowed) = numpy.try_readwrite()
            && let Ok(words) = borrowed.as_slice_mut()
        {
            return match quick(py, || m.fill_cached(words))? {
                Some(any) => Ok(any),
                None => detached(py, || m.fill(words)),
            };
        }
        let foreign = Foreign::new(row, "row")?;
        let (words, width) = foreign.words_mut()?;
        if words.len() != width {
            let why = format!("has shape {:?}; one row is expected", foreign.shape());
            return Err(to_py(py, &Core::input("row", why)));
        }
        detached(py, || m.fill(words))
    }

    fn apply(&self, py: Python<'_>, logits: &Bound<'_, PyAny>) -> PyRes<f64> {
        let m = self.lock(py)?;
        let m = &*m;
        match place(logits, "logits")? {
            Place::Host => apply_on_host(py, m, logits),
            Place::Copy(why) => {
                let host = to_host(logits, "logits", &why)?;
                let kept = apply_on_host(py, m, &host)?;
                py.import("trivium._device")?.call_method1("write_back", (logits, host))?;
                Ok(kept)
            }
            Place::Device(device) => {
                device.one_row_for_writing()?;
                let on = device.on;
                detached(py, || {
                    let rows = m.vocab().num_rows();
                    if on.vocab() < rows {
                        let why = format!("{} logits; the vocabulary has {rows}", on.vocab());
                        return Err(Core::input("logits", why).into());
                    }
                    let mut words = vec![0; m.words()];
                    m.fill(&mut words)?;
                    Ok(device::apply(&on, &words)?)
                })
            }
        }
    }

    fn forced_bytes<'py>(&self, py: Python<'py>) -> PyRes<Bound<'py, PyBytes>> {
        let m = self.lock(py)?;
        let m = &*m;
        Ok(PyBytes::new(py, &detached(py, || m.forced_bytes())?))
    }

    fn forced_edges<'py>(&self, py: Python<'py>) -> PyRes<(Bound<'py, PyBytes>, Vec<bool>)> {
        let m = self.lock(py)?;
        let m = &*m;
        let (bytes, open) = detached(py, || m.forced_edges())?;
        Ok((PyBytes::new(py, &bytes), open))
    }

    fn state_id(&self, py: Python<'_>) -> PyRes<Option<u128>> {
        Ok(self.lock(py)?.state_id())
    }

    fn forced_tokens<'py>(&self, py: Python<'py>) -> PyRes<Bound<'py, PyArray1<i32>>> {
        let m = self.lock(py)?;
        let m = &*m;
        let tokens = detached(py, || m.forced_tokens())?;
        Ok(array(py, tokens.into_iter().map(u32::cast_signed).collect()))
    }

    fn fill_tree<'py>(
        &self,
        py: Python<'py>,
        parents: &Bound<'py, PyAny>,
        tokens: &Bound<'py, PyAny>,
        out: &Bound<'py, PyAny>,
    ) -> PyRes<Bound<'py, PyArray1<bool>>> {
        let m = self.lock(py)?;
        let m = &*m;
        let parents: Vec<i32> = integers(parents, "parents")?
            .into_iter()
            .map(|p| i32::try_from(p).unwrap_or(i32::MIN))
            .collect();
        let mut tokens = integers(tokens, "tokens")?;
        if let Some(first) = tokens.first_mut() {
            *first = 0; // node 0 is not stepped: whatever the host holds there is not read
        }
        let width = m.vocab().num_rows();
        let tokens = tokens
            .into_iter()
            .map(|t| ids::check_id(t, width).map_err(|e| to_py(py, &e)))
            .collect::<PyRes<Vec<_>>>()?;
        let foreign = Foreign::new(out, "out")?;
        let (words, stride) = foreign.words_mut()?;
        let need = parents.len() * stride;
        if words.len() < need {
            let why = format!("has shape {:?}; {} rows are needed", foreign.shape(), parents.len());
            return Err(to_py(py, &Core::input("out", why)));
        }
        let words = &mut words[..need];
        let alive = detached(py, || m.fill_tree(&parents, &tokens, words, stride))?;
        Ok(array(py, alive))
    }
}

fn apply_on_host(py: Python<'_>, m: &Matcher, logits: &Bound<'_, PyAny>) -> PyRes<f64> {
    let foreign = Foreign::new(logits, "logits")?;
    let row = foreign.row_mut()?;
    detached(py, || match row {
        RowMut::F32(x) => m.apply(x),
        RowMut::F64(x) => m.apply(x),
        RowMut::F16(x) => m.apply(x),
        RowMut::Bf16(x) => m.apply(x),
    })
}

/// Masks of many matchers in one call.
#[pyfunction]
#[pyo3(name = "fill_batch")]
#[allow(clippy::needless_pass_by_value)] // as above
pub(crate) fn fill_batch_py(
    py: Python<'_>,
    matchers: Vec<PyRef<'_, PyMatcher>>,
    out: &Bound<'_, PyAny>,
    rows: Option<&Bound<'_, PyAny>>,
    threads: Option<usize>,
) -> PyRes<()> {
    // A matcher may stand in several rows; it is locked once.
    let mut place: BTreeMap<usize, usize> = BTreeMap::new();
    let mut locked: Vec<MutexGuard<'_, Matcher>> = Vec::with_capacity(matchers.len());
    let mut order = Vec::with_capacity(matchers.len());
    for m in &matchers {
        let m: &PyMatcher = m;
        let key = &raw const *m as usize;
        let at = if let Some(&at) = place.get(&key) {
            at
        } else {
            locked.push(m.lock(py)?);
            place.insert(key, locked.len() - 1);
            locked.len() - 1
        };
        order.push(at);
    }
    let refs: Vec<&Matcher> = order.iter().map(|&at| &*locked[at]).collect();
    let rows: Option<Vec<usize>> = match rows {
        None => None,
        Some(rows) => Some(
            integers(rows, "rows")?
                .into_iter()
                .map(|r| {
                    usize::try_from(r)
                        .map_err(|_| to_py(py, &Core::input("rows", format!("row {r}"))))
                })
                .collect::<PyRes<_>>()?,
        ),
    };
    let foreign = Foreign::new(out, "out")?;
    let (words, stride) = foreign.words_mut()?;
    detached(py, || fill_batch(&refs, words, stride, rows.as_deref(), threads))
}
