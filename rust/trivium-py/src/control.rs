//! Controllers of draft length for hosts that run a drafter.

use crate::errors::{OrRaise, PyRes, input};
use crate::guard::{attached, lock};
use crate::verify::matrix;
use pyo3::prelude::*;
use std::sync::Mutex;
use trivium_core::{Address, Error};
use trivium_spec::control::{
    CONTROLS, ControlSpec, Controller, DraftCtx, Feedback, Hedge, QSummary, Reached, StepCtx,
    best_length, pearl_gamma, spec_branch_gamma, ucb_radius,
};
use trivium_spec::policy::CostModel;

/// Names of the controllers that `policy=` takes.
#[pyfunction]
pub(crate) fn control_names() -> Vec<&'static str> {
    CONTROLS.to_vec()
}

/// PEARL's chunk: drafts that fit into one target pass.
#[pyfunction]
#[pyo3(name = "pearl_gamma")]
pub(crate) fn pearl_gamma_py(target_time: f64, draft_time: f64) -> usize {
    pearl_gamma(target_time, draft_time)
}

/// SpecBranch's chain length of least time a token, for acceptance `alpha` and `c` drafts a target
/// pass.
#[pyfunction]
#[pyo3(name = "spec_branch_gamma", signature = (alpha, c, max=32))]
pub(crate) fn spec_branch_gamma_py(alpha: f64, c: f64, max: usize) -> usize {
    spec_branch_gamma(alpha, c, max.min(trivium_spec::MAX_NODES))
}

/// The (length, rate) of most tokens a time: `acceptance[d]` at depth `d + 1`, `times[n]` of a step
/// of `n` drafts, one more entry than `acceptance`.
#[pyfunction]
#[pyo3(name = "best_length")]
pub(crate) fn best_length_py(
    py: Python<'_>,
    acceptance: Vec<f64>,
    times: Vec<f64>,
) -> PyRes<(usize, f64)> {
    if times.len() != acceptance.len() + 1 || !times.iter().all(|t| *t > 0.0) {
        return Err(input(py, "times", "needs a positive time for every length from 0 on"));
    }
    Ok(best_length(&acceptance, |n| times[n]))
}

/// Weights over experts whose losses are all known; see `trivium.control`.
#[pyclass(frozen, name = "Hedge", module = "trivium.control")]
pub(crate) struct PyHedge {
    inner: Mutex<Hedge>,
}

#[pymethods]
impl PyHedge {
    #[new]
    fn new(py: Python<'_>, experts: usize) -> PyRes<Self> {
        Ok(Self { inner: Mutex::new(Hedge::new(experts).or_raise(py)?) })
    }

    /// Weights of the next round; they add up to 1.
    fn weights(&self, py: Python<'_>) -> PyRes<Vec<f64>> {
        attached(py, || Ok(lock(&self.inner, "hedge")?.weights()))
    }

    /// Count a round: a loss in [0, 1] an expert.
    fn update(&self, py: Python<'_>, losses: Vec<f64>) -> PyRes<()> {
        attached(py, || lock(&self.inner, "hedge")?.update(&losses))
    }
}

/// UCBSpec's radius of an arm.
#[pyfunction]
#[pyo3(name = "ucb_radius")]
pub(crate) fn ucb_radius_py(pulls: f64, round: f64, arms: usize, longest: f64, delta: f64) -> f64 {
    ucb_radius(pulls, round, arms, longest, delta)
}

struct State {
    controller: Box<dyn Controller>,
    cost: CostModel,
}

/// One request's controller; see `trivium.control`.
#[pyclass(frozen, name = "Controller", module = "trivium.control")]
pub(crate) struct PyController {
    spec: ControlSpec,
    state: Mutex<State>,
}

/// A row of the drafter, or its two numbers.
fn summary(
    py: Python<'_>,
    q: Option<&Bound<'_, PyAny>>,
    top: Option<f64>,
    entropy: Option<f64>,
) -> PyRes<QSummary> {
    match (q, top, entropy) {
        (Some(q), None, None) => QSummary::of_weights(&matrix(q, "q")?.0).or_raise(py),
        (None, Some(top), entropy) if (0.0..=1.0).contains(&top) => {
            Ok(QSummary { top, entropy: entropy.unwrap_or(0.0) })
        }
        _ => Err(input(py, "q", "give either a row of probabilities or top= and entropy=")),
    }
}

#[pymethods]
impl PyController {
    #[new]
    fn new(py: Python<'_>, policy: &str) -> PyRes<Self> {
        let spec: ControlSpec = policy.parse().or_raise(py)?;
        let state = State { controller: spec.build(), cost: CostModel::default() };
        Ok(Self { spec, state: Mutex::new(state) })
    }

    /// Name and parameters.
    #[getter]
    fn policy(&self) -> String {
        self.spec.to_string()
    }

    /// Most tokens to draft in the step whose first undecided token has absolute index `index`.
    #[pyo3(signature = (*, seed=0, index=1, branch=0, requests=1))]
    fn length(
        &self,
        py: Python<'_>,
        seed: u64,
        index: u32,
        branch: u32,
        requests: usize,
    ) -> PyRes<usize> {
        attached(py, || {
            let state = lock(&self.state, "controller")?;
            let noise = Address::new(seed, index, branch);
            let step = StepCtx { noise, cost: Some(&state.cost), requests };
            Ok(state.controller.length(step))
        })
    }

    /// Whether to draft another token of the law `q` behind `position` tokens.
    #[pyo3(signature = (position, q=None, *, top=None, entropy=None, survival=1.0, seed=0, index=1, branch=0))]
    fn before_sample(
        &self,
        py: Python<'_>,
        position: usize,
        q: Option<&Bound<'_, PyAny>>,
        top: Option<f64>,
        entropy: Option<f64>,
        survival: f64,
        seed: u64,
        index: u32,
        branch: u32,
    ) -> PyRes<bool> {
        let q = summary(py, q, top, entropy)?;
        let ctx = DraftCtx { position, survival, noise: Address::new(seed, index, branch) };
        attached(py, || Ok(lock(&self.state, "controller")?.controller.before_sample(ctx, q)))
    }

    /// Whether to go on behind an included token of draft probability `p`, the `position`-th (from
    /// 1), which came from `q`.
    #[pyo3(signature = (position, p, q=None, *, top=None, entropy=None, survival=1.0, seed=0, index=1, branch=0))]
    fn after_include(
        &self,
        py: Python<'_>,
        position: usize,
        p: f64,
        q: Option<&Bound<'_, PyAny>>,
        top: Option<f64>,
        entropy: Option<f64>,
        survival: f64,
        seed: u64,
        index: u32,
        branch: u32,
    ) -> PyRes<bool> {
        let q = summary(py, q, top, entropy)?;
        let ctx = DraftCtx { position, survival, noise: Address::new(seed, index, branch) };
        attached(py, || Ok(lock(&self.state, "controller")?.controller.after_include(ctx, q, p)))
    }

    /// Calibrated acceptance of a drafted token of draft probability `p`.
    fn calibrated(&self, py: Python<'_>, p: f64) -> PyRes<f64> {
        attached(py, || Ok(lock(&self.state, "controller")?.controller.calibrated(p)))
    }

    /// Learn from a verified step. `path` has one (top, entropy, p, accepted) a reached place.
    #[pyo3(signature = (*, allowed, drafted, accepted, depth=None, cost=None, path=Vec::new()))]
    fn report(
        &self,
        py: Python<'_>,
        allowed: usize,
        drafted: usize,
        accepted: usize,
        depth: Option<usize>,
        cost: Option<f64>,
        path: Vec<(f64, f64, f64, bool)>,
    ) -> PyRes<()> {
        let depth = depth.unwrap_or(drafted);
        if accepted > depth || depth > drafted || cost.is_some_and(|c| c.is_nan() || c <= 0.0) {
            return Err(input(
                py,
                "accepted",
                format!("{accepted} of depth {depth} of {drafted} drafts, cost {cost:?}"),
            ));
        }
        let path: Vec<Reached> = path
            .into_iter()
            .map(|(top, entropy, p, accepted)| Reached {
                q: QSummary { top, entropy },
                p,
                accepted,
            })
            .collect();
        attached(py, || {
            let feedback = Feedback { allowed, drafted, depth, accepted, cost, path: &path };
            lock(&self.state, "controller")?.controller.report(&feedback);
            Ok(())
        })
    }

    /// Report that a pass over `nodes` nodes took `seconds`.
    fn observe_forward(&self, py: Python<'_>, nodes: usize, seconds: f64) -> PyRes<()> {
        attached(py, || {
            lock(&self.state, "controller")?.cost.observe(nodes, seconds);
            Ok(())
        })
    }

    /// An independent copy.
    fn fork(&self, py: Python<'_>) -> PyRes<Self> {
        self.copied(py, |c| c.fork())
    }

    /// A controller for another request: what was learned stays, what followed one text does not.
    fn fresh(&self, py: Python<'_>) -> PyRes<Self> {
        self.copied(py, |c| c.fresh())
    }

    fn __repr__(&self) -> String {
        format!("Controller({:?})", self.spec.to_string())
    }
}

impl PyController {
    fn copied(
        &self,
        py: Python<'_>,
        f: impl FnOnce(&dyn Controller) -> Box<dyn Controller>,
    ) -> PyRes<Self> {
        let state = attached(py, || {
            let state = lock(&self.state, "controller")?;
            Ok::<_, Error>(State { controller: f(&*state.controller), cost: state.cost.clone() })
        })?;
        Ok(Self { spec: self.spec, state: Mutex::new(state) })
    }
}
