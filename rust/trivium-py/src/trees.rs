//! Templates, builders over drafter rows, and what hosts read of their trees.

use crate::arrays::{array, integers};
use crate::errors::{OrRaise, PyRes, input};
use crate::guard::{attached, guard, lock};
use crate::verify::{matrix, parents};
use numpy::{PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::sync::Mutex;
use trivium_core::{Address, Error, Keyed, TokenId, ids};
use trivium_spec::control::ControlSpec;
use trivium_spec::tree::Role;
use trivium_spec::tree::build::dyspec::DySpecOptions;
use trivium_spec::tree::build::{
    Agreement, BUILDERS, Beam, Builder, Chain, DraftTree, DySpec, OptTree, PpdTables, Sequoia,
    StateSpacePlan, StochasticBeam, Template, Templated, TreeBuilder, merge, merge_attention,
    merged_kind, prune_by_draft, rows_of,
};
use trivium_spec::verify::{Row, Verifier};

/// A fixed tree shape: the parent of each node and its rank among the parent's candidates.
#[pyclass(frozen, name = "Template", module = "trivium.trees")]
pub(crate) struct PyTemplate {
    inner: Template,
}

#[pymethods]
impl PyTemplate {
    /// From parents (node 0 has -1) and ranks.
    #[new]
    fn new(py: Python<'_>, parents: &Bound<'_, PyAny>, ranks: &Bound<'_, PyAny>) -> PyRes<Self> {
        let parents = self::parents(py, parents)?;
        let ranks = integers(ranks, "ranks")?
            .into_iter()
            .map(|r| u16::try_from(r).map_err(|_| Error::input("ranks", format!("{r} is no rank"))))
            .collect::<Result<Vec<_>, _>>()
            .or_raise(py)?;
        Ok(Self { inner: Template::new(&parents, &ranks).or_raise(py)? })
    }

    /// Medusa's form: rank paths from the root; every prefix of a path is a path too.
    #[staticmethod]
    fn from_choices(py: Python<'_>, choices: Vec<Vec<u16>>) -> PyRes<Self> {
        Ok(Self { inner: Template::from_choices(&choices).or_raise(py)? })
    }

    /// `n` drafted nodes in a row.
    #[staticmethod]
    fn chain(py: Python<'_>, n: usize) -> PyRes<Self> {
        let n = n.min(trivium_spec::MAX_NODES);
        Ok(Self { inner: Template::chain(n).or_raise(py)? })
    }

    /// Every combination of the first `widths[level]` ranks.
    #[staticmethod]
    fn cartesian(py: Python<'_>, widths: Vec<usize>) -> PyRes<Self> {
        Ok(Self { inner: Template::cartesian(&widths).or_raise(py)? })
    }

    /// From the number of children of each node, breadth first.
    #[staticmethod]
    fn from_child_counts(py: Python<'_>, counts: Vec<usize>) -> PyRes<Self> {
        Ok(Self { inner: Template::from_child_counts(&counts).or_raise(py)? })
    }

    /// The best shape of `max_nodes` nodes for acceptance `table[depth][rank]`.
    #[staticmethod]
    fn from_acceptance(py: Python<'_>, table: Vec<Vec<f64>>, max_nodes: usize) -> PyRes<Self> {
        let inner = guard(py, || Template::from_acceptance(&table, max_nodes))?;
        Ok(Self { inner })
    }

    fn __len__(&self) -> usize {
        self.inner.len()
    }

    /// Parent of each node, -1 for node 0: int32 [n].
    #[getter]
    fn parents<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<i32>> {
        array(py, self.inner.parents().to_vec())
    }

    /// Rank of each node among its parent's candidates: int32 [n].
    #[getter]
    fn ranks<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<i32>> {
        array(py, self.inner.ranks().iter().map(|&r| i32::from(r)).collect())
    }

    /// Depth of each node: int32 [n].
    #[getter]
    fn depths<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<i32>> {
        array(py, self.inner.depths().iter().map(|&d| i32::from(d)).collect())
    }

    /// Nodes of each depth.
    fn level_sizes(&self) -> Vec<usize> {
        self.inner.level_sizes()
    }

    /// Expected tokens of a step under acceptance `table[depth][rank]`.
    fn expected(&self, table: Vec<Vec<f64>>) -> f64 {
        self.inner.values(&table).iter().sum()
    }

    /// Fill the shape where all nodes of a level share a ranking: `levels[d]` are the best tokens for
    /// depth `d + 1`. Nodes beyond a ranking are left out with everything below them.
    fn by_level(&self, py: Python<'_>, last: TokenId, levels: Vec<Vec<TokenId>>) -> PyDraftTree {
        let inner = py.detach(|| self.inner.by_level(last, &levels));
        PyDraftTree { inner, kind: Builder::Template, q: None }
    }
}

/// Sequoia's solved programme.
#[pyclass(frozen, name = "Sequoia", module = "trivium.trees")]
pub(crate) struct PySequoia {
    inner: Sequoia,
}

#[pymethods]
impl PySequoia {
    /// Solve for acceptance by rank, trees of up to `max_nodes` nodes and `max_depth` levels.
    #[new]
    fn new(
        py: Python<'_>,
        acceptance: Vec<f64>,
        max_nodes: usize,
        max_depth: usize,
    ) -> PyRes<Self> {
        Ok(Self { inner: guard(py, || Sequoia::solve(&acceptance, max_nodes, max_depth))? })
    }

    /// Expected tokens of the best tree of exactly `nodes` nodes and at most `depth` levels; -inf
    /// where there is none.
    fn expected(&self, nodes: usize, depth: usize) -> f64 {
        self.inner.expected(nodes, depth)
    }

    /// The best tree of at most `nodes` nodes and `depth` drafted levels.
    fn shape(&self, nodes: usize, depth: usize) -> PyTemplate {
        PyTemplate { inner: self.inner.shape(nodes, depth) }
    }

    /// The (nodes, depth, expected tokens, time a token) of least time a token, for measured
    /// `costs` (nodes, time of a target pass) and the drafter's time a level.
    fn best_size(
        &self,
        py: Python<'_>,
        costs: Vec<(usize, f64)>,
        draft_time: f64,
    ) -> PyRes<(usize, usize, f64, f64)> {
        let s = self.inner.best_size(&costs, draft_time).or_raise(py)?;
        Ok((s.nodes, s.depth, s.expected, s.time_per_token))
    }
}

/// A drafted tree with how it came about.
#[pyclass(frozen, name = "DraftTree", module = "trivium.trees")]
pub(crate) struct PyDraftTree {
    inner: DraftTree,
    kind: Builder,
    /// Rows as they were pushed, of drawn trees.
    q: Option<(Vec<f32>, usize)>,
}

#[pymethods]
impl PyDraftTree {
    /// A tree of a store: tokens, parents (node 0 has -1) and scores, which children do not raise.
    #[staticmethod]
    fn from_arrays(
        py: Python<'_>,
        tokens: &Bound<'_, PyAny>,
        parents: &Bound<'_, PyAny>,
        values: Vec<f64>,
    ) -> PyRes<Self> {
        let vocab = i32::MAX as usize;
        let tokens: Vec<TokenId> = integers(tokens, "tokens")?
            .into_iter()
            .map(|t| ids::check_id(t, vocab))
            .collect::<Result<_, _>>()
            .or_raise(py)?;
        let parents = self::parents(py, parents)?;
        trivium_spec::tree::validate(&tokens, &parents, vocab).or_raise(py)?;
        if values.len() != tokens.len() || values.iter().any(|v| !(0.0..=1.0).contains(v)) {
            return Err(input(py, "values", "needs a probability a node"));
        }
        let mut inner = DraftTree::root(tokens[0]);
        for i in 1..tokens.len() {
            inner.add(parents[i] as usize, tokens[i], values[i], Role::Chosen);
        }
        Ok(Self { inner, kind: Builder::Heap, q: None })
    }

    fn __len__(&self) -> usize {
        self.inner.len()
    }

    /// Token of each node: int32 [n].
    #[getter]
    fn tokens<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<i32>> {
        array(py, self.inner.tokens.iter().map(|&t| t as i32).collect())
    }

    /// Parent of each node, -1 for node 0: int32 [n].
    #[getter]
    fn parents<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<i32>> {
        array(py, self.inner.parents.clone())
    }

    /// Depth of each node: int32 [n].
    #[getter]
    fn depths<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<i32>> {
        array(py, self.inner.depths.iter().map(|&d| i32::from(d)).collect())
    }

    /// Estimated probability that each node is reached: float64 [n].
    #[getter]
    fn values<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f64>> {
        array(py, self.inner.values.clone())
    }

    /// Whether each node was drawn: bool [n].
    #[getter]
    fn drawn<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<bool>> {
        array(py, self.inner.roles.iter().map(|r| *r == Role::Drawn).collect())
    }

    /// Name of the builder.
    #[getter]
    fn builder(&self) -> &'static str {
        self.kind.name()
    }

    /// How tokens were chosen.
    #[getter]
    fn law(&self) -> &'static str {
        self.kind.law().name()
    }

    /// What was taken away.
    #[getter]
    fn pruning(&self) -> &'static str {
        self.kind.pruning().name()
    }

    /// Draft rows node by node: float32 [n, vocab], or None for trees that were not drawn.
    #[getter]
    fn q<'py>(&self, py: Python<'py>) -> PyRes<Option<Bound<'py, PyArray2<f32>>>> {
        let Some((pushed, vocab)) = &self.q else { return Ok(None) };
        let rows = py.detach(|| rows_of(&self.inner, pushed, *vocab));
        Ok(Some(array(py, rows).reshape([self.inner.len(), *vocab])?))
    }

    /// Expected tokens of a step, by the tree's own values.
    #[getter]
    fn expected(&self) -> f64 {
        self.inner.expected()
    }
}

struct State {
    builder: Box<dyn TreeBuilder>,
    chance: Keyed,
    pushed: Vec<f32>,
}

/// A builder that asks for drafter rows level by level; see `trivium.trees`.
#[pyclass(frozen, name = "TreeBuilder", module = "trivium.trees")]
pub(crate) struct PyTreeBuilder {
    kind: Builder,
    vocab: usize,
    state: Mutex<State>,
}

#[pymethods]
impl PyTreeBuilder {
    #[new]
    #[pyo3(signature = (kind, last, vocab_size, *, seed=0, index=1, branch=0, verifier="auto",
        template=None, max_nodes=64, max_depth=10, top_k=10, widths=Vec::new(), delta=0.5,
        threshold=0.0, width=8, policy="fixed:4"))]
    fn new(
        py: Python<'_>,
        kind: &str,
        last: i64,
        vocab_size: usize,
        seed: u64,
        index: u32,
        branch: u32,
        verifier: &str,
        template: Option<&PyTemplate>,
        max_nodes: usize,
        max_depth: usize,
        top_k: usize,
        widths: Vec<usize>,
        delta: f64,
        threshold: f64,
        width: usize,
        policy: &str,
    ) -> PyRes<Self> {
        let kind: Builder = kind.parse().or_raise(py)?;
        // "auto" never asks where drafts came from, "law" takes what fits.
        if !matches!(verifier, "auto" | "law") {
            let verifier: Verifier = verifier.parse().or_raise(py)?;
            kind.check(verifier).or_raise(py)?;
        }
        let v = vocab_size;
        let last = ids::check_id(last, v).or_raise(py)?;
        let noise = Address::new(seed, index, branch);
        let build = || -> Result<Box<dyn TreeBuilder>, Error> {
            let shape = || {
                let missing = || Error::input("template", format!("{:?} needs one", kind.name()));
                template.map(|t| &t.inner).ok_or_else(missing)
            };
            let slots = |drawn| DySpecOptions { max_nodes, max_depth, threshold, drawn };
            Ok(match kind {
                Builder::Template
                | Builder::Sequoia
                | Builder::RsdC
                | Builder::IidPaths
                | Builder::GreedyPlusOne => {
                    Box::new(Templated::new(kind, shape()?, last, v, index)?)
                }
                Builder::OptTree => Box::new(OptTree::new(last, v, max_nodes, max_depth, delta)?),
                Builder::Eagle2 => Box::new(Beam::eagle2(last, v, top_k, max_depth, max_nodes)?),
                Builder::LongSpec => Box::new(Beam::longspec(last, v, &widths)?),
                Builder::DySpec => Box::new(DySpec::new(last, v, index, slots(true))?),
                Builder::DySpecChosen => Box::new(DySpec::new(last, v, index, slots(false))?),
                Builder::RsdS => Box::new(StochasticBeam::new(last, v, width, max_depth, noise)?),
                Builder::Chain | Builder::ChainChosen => {
                    let control: ControlSpec = policy.parse()?;
                    let drawn = kind == Builder::Chain;
                    let controller = control.build();
                    Box::new(Chain::new(last, v, max_depth, noise, drawn, controller))
                }
                Builder::Ppd | Builder::Heap | Builder::Rasd | Builder::RasdDrawn => {
                    return Err(Error::unsupported(
                        format!("building {:?} from rows", kind.name()),
                        "in trees",
                        "ppd fills templates, heap is Speculator.propose, rasd is trees.merge",
                    ));
                }
            })
        };
        let state = State {
            builder: build().or_raise(py)?,
            chance: Keyed::new(seed, branch),
            pushed: Vec::new(),
        };
        Ok(Self { kind, vocab: v, state: Mutex::new(state) })
    }

    /// Name of the builder.
    #[getter]
    fn name(&self) -> &'static str {
        self.kind.name()
    }

    /// Nodes whose rows are needed next, in this order; empty when done: int32 [f].
    #[getter]
    fn frontier<'py>(&self, py: Python<'py>) -> PyRes<Bound<'py, PyArray1<i32>>> {
        let nodes = attached(py, || {
            let state = lock(&self.state, "builder")?;
            Ok(state.builder.frontier().iter().map(|&n| n as i32).collect::<Vec<_>>())
        })?;
        Ok(array(py, nodes))
    }

    /// The nodes so far; their numbers stay until `finish`.
    fn tree(&self, py: Python<'_>) -> PyRes<PyDraftTree> {
        let inner = attached(py, || Ok(lock(&self.state, "builder")?.builder.tree().clone()))?;
        Ok(PyDraftTree { inner, kind: self.kind, q: None })
    }

    /// Tokens from node 0 (excluded) to a node: int32 [depth].
    fn path<'py>(&self, py: Python<'py>, node: usize) -> PyRes<Bound<'py, PyArray1<i32>>> {
        let path = attached(py, || {
            let state = lock(&self.state, "builder")?;
            let tree = state.builder.tree();
            if node >= tree.len() {
                return Err(Error::input("node", format!("{node} of {}", tree.len())));
            }
            Ok(tree.path(node).into_iter().map(|t| t as i32).collect::<Vec<_>>())
        })?;
        Ok(array(py, path))
    }

    /// Take one row a frontier node: float [f, vocab], weights of any positive sums.
    fn push(&self, py: Python<'_>, rows: &Bound<'_, PyAny>) -> PyRes<()> {
        let (rows, width) = matrix(rows, "rows")?;
        if width != self.vocab {
            return Err(input(py, "rows", format!("have {width} columns, not {}", self.vocab)));
        }
        guard(py, || {
            let State { builder, chance, pushed } = &mut *lock(&self.state, "builder")?;
            builder.push(&rows, chance)?;
            if self.kind.law().is_sampled() {
                pushed.extend_from_slice(&rows);
            }
            Ok(())
        })
    }

    /// The tree to verify.
    fn finish(&self, py: Python<'_>) -> PyRes<PyDraftTree> {
        let (inner, q) = guard(py, || {
            let state = lock(&self.state, "builder")?;
            let q = self.kind.law().is_sampled().then(|| (state.pushed.clone(), self.vocab));
            Ok((state.builder.finish(), q))
        })?;
        Ok(PyDraftTree { inner, kind: self.kind, q })
    }
}

/// Names of the builders with the law and the pruning of their trees.
#[pyfunction]
pub(crate) fn builders() -> Vec<(&'static str, &'static str, &'static str)> {
    BUILDERS.iter().map(|b| (b.name(), b.law().name(), b.pruning().name())).collect()
}

/// Whether `verifier` decides trees of `builder` without bias.
#[pyfunction]
pub(crate) fn builder_takes(py: Python<'_>, builder: &str, verifier: &str) -> PyRes<bool> {
    let builder: Builder = builder.parse().or_raise(py)?;
    Ok(matches!(verifier, "auto" | "law") || builder.suits(verifier.parse().or_raise(py)?))
}

/// Lay a store's tree over a drafted one and keep the best nodes.
#[pyfunction]
pub(crate) fn merge_trees(
    py: Python<'_>,
    base: &PyDraftTree,
    over: &PyDraftTree,
    agreement: &str,
    max_nodes: usize,
) -> PyRes<PyDraftTree> {
    let agreement = match agreement {
        "max" => Agreement::Max,
        "noisy_or" => Agreement::NoisyOr,
        other => {
            return Err(input(
                py,
                "agreement",
                format!("{other:?} is neither \"max\" nor \"noisy_or\""),
            ));
        }
    };
    let kind = merged_kind(base.kind).or_raise(py)?;
    let inner = guard(py, || merge(&base.inner, &over.inner, agreement, max_nodes))?;
    Ok(PyDraftTree { inner, kind, q: base.q.clone() })
}

/// Keep the branches of a store's tree whose first token is among the drafter's `top_k`.
#[pyfunction]
#[pyo3(name = "prune_by_draft")]
pub(crate) fn prune_by_draft_py(
    py: Python<'_>,
    tree: &PyDraftTree,
    q: &Bound<'_, PyAny>,
    top_k: usize,
) -> PyRes<PyDraftTree> {
    let (q, _) = matrix(q, "q")?;
    let inner = guard(py, || prune_by_draft(&tree.inner, Row::checked(&q, "q", 0)?, top_k))?;
    Ok(PyDraftTree { inner, kind: tree.kind, q: None })
}

fn ppd_dict<'py>(py: Python<'py>, tables: PpdTables) -> PyRes<Bound<'py, PyDict>> {
    let out = PyDict::new(py);
    out.set_item("expected", tables.expected)?;
    out.set_item("stationary", tables.stationary)?;
    let states = tables
        .states
        .into_iter()
        .map(|s| -> PyRes<Bound<'py, PyDict>> {
            let d = PyDict::new(py);
            d.set_item("size", s.size())?;
            d.set_item("template", PyTemplate { inner: s.template })?;
            d.set_item("prompts", s.prompts)?;
            d.set_item("expected", s.expected)?;
            d.set_item("next", s.next)?;
            Ok(d)
        })
        .collect::<PyRes<Vec<_>>>()?;
    out.set_item("states", states)?;
    Ok(out)
}

/// PPD's trees of all states for passes of `size` tokens.
#[pyfunction]
pub(crate) fn ppd_solve<'py>(
    py: Python<'py>,
    accuracy: Vec<Vec<f64>>,
    size: usize,
) -> PyRes<Bound<'py, PyDict>> {
    let tables = guard(py, || PpdTables::solve(&accuracy, size))?;
    ppd_dict(py, tables)
}

/// The size among timed ones that yields most tokens a time, and its trees.
#[pyfunction]
pub(crate) fn ppd_best_size<'py>(
    py: Python<'py>,
    accuracy: Vec<Vec<f64>>,
    costs: Vec<(usize, f64)>,
) -> PyRes<(usize, Bound<'py, PyDict>)> {
    let (size, tables) = guard(py, || PpdTables::best_size(&accuracy, &costs))?;
    Ok((size, ppd_dict(py, tables)?))
}

/// A tree laid out for hosts with a recurrent state.
#[pyclass(frozen, name = "StateSpacePlan", module = "trivium.trees")]
pub(crate) struct PyStateSpacePlan {
    inner: StateSpacePlan,
}

#[pymethods]
impl PyStateSpacePlan {
    #[new]
    fn new(py: Python<'_>, parents: &Bound<'_, PyAny>) -> PyRes<Self> {
        let parents = self::parents(py, parents)?;
        Ok(Self { inner: StateSpacePlan::new(&parents).or_raise(py)? })
    }

    /// Chains that cover every node once: (node whose state it starts from, -1 the committed one;
    /// its nodes), in an order in which states are there when they are needed.
    #[getter]
    fn chains(&self) -> Vec<(i32, Vec<usize>)> {
        self.inner.chains().to_vec()
    }

    /// Packed ancestors, self included: uint64 [n, ceil(n / 64)].
    #[getter]
    fn mask_words<'py>(&self, py: Python<'py>) -> PyRes<Bound<'py, PyArray2<u64>>> {
        let (words, width) = self.inner.mask_words();
        array(py, words.to_vec()).reshape([self.inner.parents().len(), width])
    }

    /// Sums of log A along paths: float64 [n, channels] in and out.
    fn cumulative<'py>(
        &self,
        py: Python<'py>,
        log_a: PyReadonlyArray2<'py, f64>,
    ) -> PyRes<Bound<'py, PyArray2<f64>>> {
        let channels = log_a.as_array().ncols();
        let log_a: Vec<f64> = log_a.as_array().iter().copied().collect();
        let out = attached(py, || self.inner.cumulative(&log_a, channels))?;
        array(py, out).reshape([self.inner.parents().len(), channels])
    }

    /// States of all nodes of `h = A h(parent) + B`: float64 [n, channels]; `h0` float64 [channels].
    fn scan<'py>(
        &self,
        py: Python<'py>,
        log_a: PyReadonlyArray2<'py, f64>,
        b: PyReadonlyArray2<'py, f64>,
        h0: PyReadonlyArray1<'py, f64>,
    ) -> PyRes<Bound<'py, PyArray2<f64>>> {
        let h0: Vec<f64> = h0.as_array().iter().copied().collect();
        let log_a: Vec<f64> = log_a.as_array().iter().copied().collect();
        let b: Vec<f64> = b.as_array().iter().copied().collect();
        let out = guard(py, || self.inner.scan(&log_a, &b, &h0))?;
        array(py, out).reshape([self.inner.parents().len(), h0.len()])
    }
}

/// Merge two partial attentions of the same queries by log-sum-exp.
#[pyfunction]
#[pyo3(name = "merge_attention")]
pub(crate) fn merge_attention_py<'py>(
    py: Python<'py>,
    first: PyReadonlyArray2<'py, f32>,
    first_lse: PyReadonlyArray1<'py, f32>,
    second: PyReadonlyArray2<'py, f32>,
    second_lse: PyReadonlyArray1<'py, f32>,
) -> PyRes<(Bound<'py, PyArray2<f32>>, Bound<'py, PyArray1<f32>>)> {
    let shape = [first.as_array().nrows(), first.as_array().ncols()];
    let flat = |a: &PyReadonlyArray2<'_, f32>| a.as_array().iter().copied().collect::<Vec<f32>>();
    let line = |a: &PyReadonlyArray1<'_, f32>| a.as_array().iter().copied().collect::<Vec<f32>>();
    let (o1, l1) = (flat(&first), line(&first_lse));
    let (o2, l2) = (flat(&second), line(&second_lse));
    let (out, lse) = guard(py, || merge_attention((&o1, &l1), (&o2, &l2)))?;
    Ok((array(py, out).reshape(shape)?, array(py, lse)))
}
