//! The verifiers as pure functions over rows of probability, and the checks that prove them.

use crate::arrays::{array, integers, logits};
use crate::errors::{OrRaise, PyRes, input};
use crate::guard::{guard, lock};
use numpy::PyArray1;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use std::sync::Mutex;
use trivium_core::{Error, Keyed, LogitsRow, TokenId, ids};
use trivium_oracle::{check, lossy};
use trivium_spec::tree::{DraftLaw, Origin, Pruning, Role, TreeBatch};
use trivium_spec::verify::{
    EntropySwitch, LawTransform, ProbRows, RewardGate, VERIFIERS, Verifier, Work, divergence,
    verify_tree,
};

/// Roles of a mixed tree: 0 chosen, 1 drawn.
pub(crate) fn roles(object: Option<&Bound<'_, PyAny>>) -> PyRes<Vec<Role>> {
    let Some(object) = object else { return Ok(Vec::new()) };
    Ok(integers(object, "roles")?
        .into_iter()
        .map(|r| if r == 0 { Role::Chosen } else { Role::Drawn })
        .collect())
}

/// Parents of nodes from any integer array.
pub(crate) fn parents(py: Python<'_>, object: &Bound<'_, PyAny>) -> PyRes<Vec<i32>> {
    integers(object, "parents")?
        .into_iter()
        .map(|p| i32::try_from(p).map_err(|_| Error::input("parents", format!("{p} is no node"))))
        .collect::<Result<_, _>>()
        .or_raise(py)
}

pub(crate) fn matrix(object: &Bound<'_, PyAny>, what: &'static str) -> PyRes<(Vec<f32>, usize)> {
    let foreign = logits(object, what)?;
    let view = foreign.logits()?;
    let mut out = Vec::with_capacity(view.rows() * view.vocab());
    for i in 0..view.rows() {
        match view.row(i) {
            LogitsRow::F32(row) => out.extend_from_slice(row),
            half => half.extend_into(&mut out),
        }
    }
    Ok((out, view.vocab()))
}

type Emitted<'py> =
    (Bound<'py, PyArray1<i32>>, Bound<'py, PyArray1<i32>>, Bound<'py, PyArray1<f32>>);

/// Verify one tree of probability rows: emitted tokens, accepted nodes, log-probabilities.
///
/// `p` and `q` are float [n, vocab]; row `i` is the law of the children of node `i`. The noise is
/// that of `seed`, `branch` and the absolute `index` of the token that row 0 chooses.
#[pyfunction]
#[pyo3(name = "verify_tree", signature = (name, tokens, parents, p, q=None, law="point_mass", seed=0, index=1, *, branch=0, roles=None, pruning="none"))]
#[allow(clippy::too_many_arguments)] // keyword arguments of one Python function
pub(crate) fn verify_tree_py<'py>(
    py: Python<'py>,
    name: &str,
    tokens: &Bound<'py, PyAny>,
    parents: &Bound<'py, PyAny>,
    p: &Bound<'py, PyAny>,
    q: Option<&Bound<'py, PyAny>>,
    law: &str,
    seed: u64,
    index: u32,
    branch: u32,
    roles: Option<&Bound<'py, PyAny>>,
    pruning: &str,
) -> PyRes<Emitted<'py>> {
    let verifier: Verifier = name.parse().or_raise(py)?;
    let law: DraftLaw = law.parse().or_raise(py)?;
    let pruning: Pruning = pruning.parse().or_raise(py)?;
    verifier.check(law, pruning).or_raise(py)?;
    let (p, vocab) = matrix(p, "p")?;
    let q = q.map(|q| matrix(q, "q")).transpose()?;
    if q.as_ref().is_some_and(|q| q.1 != vocab) {
        return Err(input(py, "q", "has another width than p"));
    }
    let tokens: Vec<TokenId> = integers(tokens, "tokens")?
        .into_iter()
        .map(|t| ids::check_id(t, vocab))
        .collect::<Result<_, _>>()
        .or_raise(py)?;
    let parents = self::parents(py, parents)?;
    let roles = self::roles(roles)?;
    if p.len() != tokens.len() * vocab {
        return Err(input(py, "p", "must have one row a node"));
    }
    let walk = guard(py, || {
        let origin = Origin { law, pruning, roles: &roles };
        let cu = [0, tokens.len()];
        let len = [index as usize];
        let batch = TreeBatch::from_arrays(&tokens, &parents, &cu, &len, origin, vocab)?;
        let mut rows = ProbRows::new(&p, q.as_ref().map(|q| &q.0[..]), vocab)?;
        let mut chance = Keyed::new(seed, branch);
        verify_tree(verifier, &batch.tree(0), &mut rows, &mut chance, &mut Work::default())
    })?;
    Ok((
        array(py, walk.tokens.iter().map(|&t| t as i32).collect()),
        array(py, walk.nodes.iter().map(|&n| n as i32).collect()),
        array(py, walk.logprobs),
    ))
}

/// Whether drafts of `law`, pruned so, may be verified by `name` without bias.
#[pyfunction]
#[pyo3(signature = (name, law, pruning="none"))]
pub(crate) fn verifier_takes(py: Python<'_>, name: &str, law: &str, pruning: &str) -> PyRes<bool> {
    let verifier: Verifier = name.parse().or_raise(py)?;
    Ok(verifier.takes(law.parse().or_raise(py)?, pruning.parse().or_raise(py)?))
}

/// Names of the verifiers with their guarantees.
#[pyfunction]
pub(crate) fn verifiers() -> Vec<(&'static str, &'static str)> {
    VERIFIERS.iter().map(|v| (v.name(), v.guarantee().name())).collect()
}

/// Enumerate every verifier and lossy rule: [{name, guarantee, cases, worst_tv}]; a lossy rule's
/// `uncovered` is how much a distance exceeded what the rule reported.
#[pyfunction]
#[pyo3(signature = (quick=true))]
pub(crate) fn check_verifiers(py: Python<'_>, quick: bool) -> PyRes<Bound<'_, PyList>> {
    let out = PyList::empty(py);
    for report in guard(py, || Ok(check::check_verifiers(quick)))? {
        let row = PyDict::new(py);
        row.set_item("name", report.name)?;
        row.set_item("guarantee", report.guarantee)?;
        row.set_item("cases", report.cases)?;
        row.set_item("worst_tv", report.worst_tv)?;
        out.append(row)?;
    }
    for report in guard(py, || Ok(lossy::check_lossy(quick)))? {
        let row = PyDict::new(py);
        row.set_item("name", report.name)?;
        row.set_item("guarantee", "lossy")?;
        row.set_item("cases", report.cases)?;
        row.set_item("worst_tv", report.worst_tv)?;
        row.set_item("uncovered", report.uncovered.max(0.0))?;
        out.append(row)?;
    }
    Ok(out)
}

/// Plant every fault into every verifier: {made, survived, names}, names of the survivors.
#[pyfunction]
pub(crate) fn check_mutants(py: Python<'_>) -> PyRes<Bound<'_, PyDict>> {
    let mutants = guard(py, || Ok(check::check_mutants()))?;
    let out = PyDict::new(py);
    out.set_item("made", mutants.made)?;
    out.set_item("survived", mutants.survived.len())?;
    out.set_item("names", mutants.survived)?;
    Ok(out)
}

/// π of a law transform, row by row, and its total variation to `p`: ([n, vocab], [n]).
///
/// `name` is "contrastive" (beta, alpha), "cascade" (share), "defer" (below) or "reflective"
/// (weight).
#[pyfunction]
pub(crate) fn transform_rows<'py>(
    py: Python<'py>,
    name: &str,
    numbers: Vec<f64>,
    p: &Bound<'py, PyAny>,
    other: &Bound<'py, PyAny>,
) -> PyRes<(Bound<'py, PyArray1<f32>>, Bound<'py, PyArray1<f64>>)> {
    let transform = match (name, &numbers[..]) {
        ("contrastive", &[beta, alpha]) => LawTransform::Contrastive { beta, alpha },
        ("cascade", &[share]) => LawTransform::Cascade { share },
        ("defer", &[below]) => LawTransform::Defer { below },
        ("reflective", &[weight]) => LawTransform::Reflective { weight },
        _ => return Err(input(py, "transform", "is no transform with these numbers")),
    };
    let ((p, vocab), (other, width)) = (matrix(p, "p")?, matrix(other, "other")?);
    if p.len() != other.len() || vocab != width {
        return Err(input(py, "other", "has another shape than p"));
    }
    let (laws, apart) = guard(py, || {
        let (mut laws, mut apart, mut row) = (Vec::with_capacity(p.len()), Vec::new(), Vec::new());
        for (p, other) in p.chunks(vocab).zip(other.chunks(vocab)) {
            ProbRows::check(p)?;
            ProbRows::check(other)?;
            transform.apply(p, other, &mut row)?;
            apart.push(divergence(p, &row));
            let total: f64 = row.iter().map(|&w| f64::from(w)).sum();
            laws.extend(row.iter().map(|&w| (f64::from(w) / total) as f32));
        }
        Ok((laws, apart))
    })?;
    Ok((array(py, laws), array(py, apart)))
}

/// Steps of text kept by their reward.
#[pyclass(frozen, name = "RewardGate", module = "trivium._core")]
pub(crate) struct PyRewardGate(Mutex<RewardGate>);

#[pymethods]
impl PyRewardGate {
    #[new]
    fn new(delta: f64) -> Self {
        Self(Mutex::new(RewardGate::new(delta)))
    }

    fn accept(&self, py: Python<'_>, reward: f64) -> PyRes<bool> {
        if reward.is_nan() {
            return Err(input(py, "reward", "is NaN"));
        }
        guard(py, || Ok(lock(&self.0, "reward gate")?.accept(reward)))
    }

    #[getter]
    fn deviation(&self, py: Python<'_>) -> PyRes<f64> {
        guard(py, || Ok(lock(&self.0, "reward gate")?.deviation()))
    }
}

/// Which of two models writes the next token, by rolling entropy.
#[pyclass(frozen, name = "EntropySwitch", module = "trivium._core")]
pub(crate) struct PyEntropySwitch(Mutex<EntropySwitch>);

#[pymethods]
impl PyEntropySwitch {
    #[new]
    fn new(py: Python<'_>, window: usize, low: f64, high: f64) -> PyRes<Self> {
        Ok(Self(Mutex::new(EntropySwitch::new(window, low, high).or_raise(py)?)))
    }

    fn observe(&self, py: Python<'_>, entropy: f64) -> PyRes<bool> {
        if !entropy.is_finite() {
            return Err(input(py, "entropy", "is no finite number"));
        }
        guard(py, || Ok(lock(&self.0, "entropy switch")?.observe(entropy)))
    }

    #[getter]
    fn deviation(&self, py: Python<'_>) -> PyRes<f64> {
        guard(py, || Ok(lock(&self.0, "entropy switch")?.deviation()))
    }
}
