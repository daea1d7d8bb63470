//! `Speculator`, `Request`, `TreeBatch` and `Verified`.

use crate::arrays::{Foreign, array, integers, logits};
use crate::device::{self, Ask, OnDevice, Place, place, same_device, to_host};
use crate::errors::{OrRaise, PyRes, input};
use crate::guard::{attached, guard, lock};
use numpy::{PyArray1, PyArray2, PyArrayMethods};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use trivium_core::{Constraint, Draw, Error, TargetLaw, TokenId, ids};
use trivium_sample::Params;
use trivium_spec::tree::{self, DraftLaw};
use trivium_spec::verify::{DeviceRule, Drawn, LossyRule, Rows, VerifierChoice};
use trivium_spec::{
    Policy, Request, RequestOptions, Scope, Speculator, SpeculatorConfig, TreeBatch, Verified,
};

fn token_ids(
    py: Python<'_>,
    object: &Bound<'_, PyAny>,
    what: &'static str,
    vocab: usize,
) -> PyRes<Vec<TokenId>> {
    let raw = integers(object, what)?;
    raw.iter().map(|&t| ids::check_id(t, vocab)).collect::<Result<Vec<_>, _>>().or_raise(py)
}

/// One sequence being decoded; made by `Speculator.start`.
///
/// `len(request)` counts committed tokens, prompt included. `commit`, `rollback`, `sync`, `fork` and
/// `reset` follow the laws of every per-sequence object of the library. One thread at a time.
#[pyclass(frozen, name = "Request", module = "trivium")]
pub(crate) struct PyRequest {
    spec: Arc<Speculator>,
    inner: Mutex<Request>,
}

impl PyRequest {
    fn locked(&self) -> Result<MutexGuard<'_, Request>, Error> {
        lock(&self.inner, "request")
    }
}

#[pymethods]
impl PyRequest {
    /// Append tokens that the host chose.
    ///
    /// Raises `TokenError` for ids outside the vocabulary or refused by the constraint; nothing
    /// changes then. About a microsecond a token.
    fn commit(&self, py: Python<'_>, tokens: &Bound<'_, PyAny>) -> PyRes<()> {
        let tokens = token_ids(py, tokens, "tokens", self.spec.config().vocab_size)?;
        guard(py, || self.locked()?.commit(&tokens))
    }

    /// Take back the last `n` tokens; not into the prompt (`StateError`).
    fn rollback(&self, py: Python<'_>, n: usize) -> PyRes<()> {
        guard(py, || self.locked()?.rollback(n))
    }

    /// Make the committed text equal `tokens` (prompt included): common prefix, roll back, extend.
    fn sync(&self, py: Python<'_>, tokens: &Bound<'_, PyAny>) -> PyRes<()> {
        let tokens = token_ids(py, tokens, "tokens", self.spec.config().vocab_size)?;
        guard(py, || self.locked()?.sync(&tokens))
    }

    /// An independent copy with the same seed and branch.
    fn fork(&self, py: Python<'_>) -> PyRes<Self> {
        let inner = guard(py, || Ok(self.spec.fork(&*self.locked()?)))?;
        Ok(Self { spec: self.spec.clone(), inner: Mutex::new(inner) })
    }

    /// Back to the prompt.
    fn reset(&self, py: Python<'_>) -> PyRes<()> {
        guard(py, || self.locked()?.reset())
    }

    /// End the request; with `keep`, shared stores learn from its text.
    #[pyo3(signature = (keep=true))]
    fn finish(&self, py: Python<'_>, keep: bool) -> PyRes<()> {
        guard(py, || {
            self.locked()?.finish(keep);
            Ok(())
        })
    }

    fn __len__(&self, py: Python<'_>) -> PyRes<usize> {
        attached(py, || Ok(self.locked()?.len()))
    }

    /// Committed tokens, prompt included: int32 array.
    #[getter]
    fn tokens<'py>(&self, py: Python<'py>) -> PyRes<Bound<'py, PyArray1<i32>>> {
        let tokens = attached(py, || Ok(signed(self.locked()?.tokens())))?;
        Ok(array(py, tokens))
    }

    /// Length of the prompt.
    #[getter]
    fn prompt_len(&self, py: Python<'_>) -> PyRes<usize> {
        attached(py, || Ok(self.locked()?.prompt_len()))
    }

    /// Seed of the noise.
    #[getter]
    fn seed(&self, py: Python<'_>) -> PyRes<u64> {
        attached(py, || Ok(self.locked()?.seed()))
    }

    /// Bytes held by this request.
    fn memory(&self, py: Python<'_>) -> PyRes<usize> {
        attached(py, || Ok(self.locked()?.memory()))
    }
}

fn signed(tokens: &[TokenId]) -> Vec<i32> {
    tokens.iter().map(|&t| t as i32).collect()
}

fn offsets(cu: &[usize]) -> Vec<i32> {
    cu.iter().map(|&x| x as i32).collect()
}

/// Draft trees of a batch as flat arrays; node 0 of each request is its last committed token.
///
/// Row `i` of the target's logits belongs to node `i` and predicts its children.
#[pyclass(frozen, name = "TreeBatch", module = "trivium")]
pub(crate) struct PyTreeBatch {
    inner: TreeBatch,
    requests: Vec<Py<PyRequest>>,
}

#[pymethods]
impl PyTreeBatch {
    /// Trees that the host built: `tokens`, `parents` int [N], `cu_nodes` int [B + 1], one tree a
    /// request; `parents` are local to a request. `law` says how tokens were chosen, `pruning` what
    /// was taken away afterwards, `roles` (0 chosen, 1 drawn) how each node of a mixed tree came in.
    #[staticmethod]
    #[pyo3(signature = (tokens, parents, cu_nodes, *, requests, law="point_mass", pruning="none", roles=None))]
    #[allow(clippy::too_many_arguments)] // keyword arguments of one Python method
    fn from_arrays(
        py: Python<'_>,
        tokens: &Bound<'_, PyAny>,
        parents: &Bound<'_, PyAny>,
        cu_nodes: &Bound<'_, PyAny>,
        requests: Vec<Py<PyRequest>>,
        law: &str,
        pruning: &str,
        roles: Option<&Bound<'_, PyAny>>,
    ) -> PyRes<Self> {
        let law: DraftLaw = law.parse().or_raise(py)?;
        let pruning = pruning.parse().or_raise(py)?;
        let roles = crate::verify::roles(roles)?;
        let Some(first) = requests.first() else {
            return Err(input(py, "requests", "is empty"));
        };
        let vocab = first.get().spec.config().vocab_size;
        let tokens = token_ids(py, tokens, "tokens", vocab)?;
        let parents = crate::verify::parents(py, parents)?;
        let cu: Vec<usize> = integers(cu_nodes, "cu_nodes")?
            .into_iter()
            .map(|p| {
                usize::try_from(p).map_err(|_| Error::input("cu_nodes", format!("{p} is negative")))
            })
            .collect::<Result<_, _>>()
            .or_raise(py)?;
        let inner = attached(py, || {
            let lens = requests
                .iter()
                .map(|r| Ok(r.get().locked()?.len()))
                .collect::<Result<Vec<_>, Error>>()?;
            let origin = tree::Origin { law, pruning, roles: &roles };
            TreeBatch::from_arrays(&tokens, &parents, &cu, &lens, origin, vocab)
        })?;
        Ok(Self { inner, requests })
    }

    /// The trees with paths of another drafter hung in: `tokens`, `parents` int [M], `cu_nodes` int
    /// [B + 1], one tree a request whose node 0 stands for that of this batch; `scores` float [M]
    /// is the probability that each node is reached (NaN: unknown). A path shares the nodes that it
    /// coincides with; those keep what the stores said of them. `law` is "point_mass" or "race".
    #[pyo3(signature = (tokens, parents, cu_nodes, scores, *, law="point_mass"))]
    fn graft(
        &self,
        py: Python<'_>,
        tokens: &Bound<'_, PyAny>,
        parents: &Bound<'_, PyAny>,
        cu_nodes: Vec<usize>,
        scores: Vec<f32>,
        law: &str,
    ) -> PyRes<Self> {
        let law: DraftLaw = law.parse().or_raise(py)?;
        let Some(first) = self.requests.first() else {
            return Err(input(py, "requests", "is empty"));
        };
        let vocab = first.get().spec.config().vocab_size;
        let tokens = token_ids(py, tokens, "tokens", vocab)?;
        let parents = crate::verify::parents(py, parents)?;
        let paths = tree::Paths {
            tokens: &tokens,
            parents: &parents,
            scores: &scores,
            cu_nodes: &cu_nodes,
        };
        let inner = self.inner.graft(paths, law, vocab).or_raise(py)?;
        Ok(Self { inner, requests: self.requests.iter().map(|r| r.clone_ref(py)).collect() })
    }

    /// The batch without the nodes that `keep` leaves out, nor anything below them, and with other
    /// scores; what is left keeps what the stores said of it.
    fn select(&self, py: Python<'_>, keep: Vec<bool>, scores: Vec<f32>) -> PyRes<Self> {
        let inner = self.inner.select(&keep, &scores).or_raise(py)?;
        Ok(Self { inner, requests: self.requests.iter().map(|r| r.clone_ref(py)).collect() })
    }

    fn __len__(&self) -> usize {
        self.inner.len()
    }

    /// Token of each node: int32 [N].
    #[getter]
    fn tokens<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<i32>> {
        array(py, signed(self.inner.tokens()))
    }

    /// Parent of each node within its request, -1 for node 0: int32 [N].
    #[getter]
    fn parents<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<i32>> {
        array(py, self.inner.parents().to_vec())
    }

    /// Depth of each node, 0 for node 0: int32 [N].
    #[getter]
    fn depths<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<i32>> {
        array(py, self.inner.depths().iter().map(|&d| i32::from(d)).collect())
    }

    /// Absolute position of each node: int32 [N].
    #[getter]
    fn positions<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<i32>> {
        array(py, self.inner.positions())
    }

    /// Offsets of the requests: int32 [B + 1].
    #[getter]
    fn cu_nodes<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<i32>> {
        array(py, offsets(self.inner.cu_nodes()))
    }

    /// Calibrated probability that each node is reached: float32 [N].
    #[getter]
    fn scores<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f32>> {
        array(py, self.inner.scores().to_vec())
    }

    /// The requests, in order.
    #[getter]
    fn requests(&self, py: Python<'_>) -> Vec<Py<PyRequest>> {
        self.requests.iter().map(|r| r.clone_ref(py)).collect()
    }

    /// Ancestor matrix, self included: bool [N, most nodes of a request], columns local.
    fn attention_mask<'py>(&self, py: Python<'py>) -> PyRes<Bound<'py, PyArray2<bool>>> {
        let (mask, width) = self.inner.attention_mask();
        array(py, mask).reshape([self.inner.num_nodes(), width])
    }

    /// Packed ancestors: uint64 [N, ceil(most nodes of a request / 64)], bit `j` = local node `j`.
    fn mask_words<'py>(&self, py: Python<'py>) -> PyRes<Bound<'py, PyArray2<u64>>> {
        let spans: Vec<_> = (0..self.inner.len()).map(|b| self.inner.span(b)).collect();
        let width = spans.iter().map(|s| s.len().div_ceil(64)).max().unwrap_or(0);
        let mut out = vec![0u64; self.inner.num_nodes() * width];
        for span in spans {
            let own = span.len().div_ceil(64);
            let words = tree::mask_words(&self.inner.parents()[span.clone()]);
            for (node, row) in span.zip(words.chunks_exact(own.max(1))) {
                out[node * width..node * width + own].copy_from_slice(row);
            }
        }
        array(py, out).reshape([self.inner.num_nodes(), width])
    }

    /// First-child and next-sibling tables, -1 where none: two int64 [N] arrays of local nodes, as
    /// SGLang and XGrammar read them.
    fn links<'py>(
        &self,
        py: Python<'py>,
    ) -> (Bound<'py, PyArray1<i64>>, Bound<'py, PyArray1<i64>>) {
        let (mut token, mut sibling) = (Vec::new(), Vec::new());
        for b in 0..self.inner.len() {
            let links = tree::links(&self.inner.parents()[self.inner.span(b)]);
            token.extend(links.next_token);
            sibling.extend(links.next_sibling);
        }
        (array(py, token), array(py, sibling))
    }

    /// Root-to-leaf paths of one request: int32 [leaves, depth + 1] of local nodes, padded with -1.
    fn paths<'py>(&self, py: Python<'py>, request: usize) -> PyRes<Bound<'py, PyArray2<i32>>> {
        if request >= self.inner.len() {
            return Err(input(py, "request", format!("{request} of {}", self.inner.len())));
        }
        let span = self.inner.span(request);
        let (paths, width) =
            tree::root_paths(&self.inner.parents()[span.clone()], &self.inner.depths()[span]);
        let rows = paths.len() / width;
        array(py, paths).reshape([rows, width])
    }
}

/// What a verification decided; pass it to `Speculator.commit`.
///
/// Emitted tokens of request `b` are `tokens[cu_tokens[b]:cu_tokens[b + 1]]`: its accepted drafts
/// and one more.
#[pyclass(frozen, name = "Verified", module = "trivium")]
pub(crate) struct PyVerified {
    inner: Mutex<Verified>,
    requests: Vec<Py<PyRequest>>,
}

impl PyVerified {
    fn with<T>(
        &self,
        py: Python<'_>,
        f: impl FnOnce(&mut Verified) -> Result<T, Error>,
    ) -> PyRes<T> {
        attached(py, || f(&mut *lock(&self.inner, "verification")?))
    }
}

#[pymethods]
impl PyVerified {
    fn __len__(&self) -> usize {
        self.requests.len()
    }

    /// Emitted tokens of all requests: int32 [T].
    #[getter]
    fn tokens<'py>(&self, py: Python<'py>) -> PyRes<Bound<'py, PyArray1<i32>>> {
        Ok(array(py, self.with(py, |v| Ok(signed(v.tokens())))?))
    }

    /// Offsets into `tokens`, `logprobs` and `kv_gather`: int32 [B + 1].
    #[getter]
    fn cu_tokens<'py>(&self, py: Python<'py>) -> PyRes<Bound<'py, PyArray1<i32>>> {
        Ok(array(py, self.with(py, |v| Ok(offsets(v.cu_tokens())))?))
    }

    /// Accepted drafts of each request: int32 [B].
    #[getter]
    fn num_accepted<'py>(&self, py: Python<'py>) -> PyRes<Bound<'py, PyArray1<i32>>> {
        Ok(array(py, self.with(py, |v| Ok(offsets(v.num_accepted())))?))
    }

    /// Natural log-probability of each emitted token under the processed law: float32 [T], or
    /// None where ids were verified.
    #[getter]
    fn logprobs<'py>(&self, py: Python<'py>) -> PyRes<Option<Bound<'py, PyArray1<f32>>>> {
        Ok(self.with(py, |v| Ok(v.logprobs().map(<[f32]>::to_vec)))?.map(|lp| array(py, lp)))
    }

    /// Under a lossy rule, a bound on the total variation between each request's emitted text and
    /// the target's law: float32 [B]; None under every other verifier, which has none.
    #[getter]
    fn deviation<'py>(&self, py: Python<'py>) -> PyRes<Option<Bound<'py, PyArray1<f32>>>> {
        Ok(self.with(py, |v| Ok(v.deviation().map(<[f32]>::to_vec)))?.map(|d| array(py, d)))
    }

    /// Local node rows whose cache entries stay, node 0 first: int32 [T].
    #[getter]
    fn kv_gather<'py>(&self, py: Python<'py>) -> PyRes<Bound<'py, PyArray1<i32>>> {
        Ok(array(py, self.with(py, |v| Ok(v.kv_gather().to_vec()))?))
    }

    /// Keep the first `n` tokens of request `i`; before `commit`.
    fn truncate(&self, py: Python<'_>, i: usize, n: usize) -> PyRes<()> {
        self.with(py, |v| v.truncate(i, n))
    }
}

/// Locks every request; one that stands twice is the caller's bug.
fn lock_all<'a>(requests: &'a [Py<PyRequest>]) -> Result<Vec<MutexGuard<'a, Request>>, Error> {
    requests.iter().map(|r| r.get().locked()).collect()
}

/// Draws the target's token of every row where the rows are, and walks over the answers; `None` where the rows
/// themselves are needed.
fn verify_on_device(
    spec: &Speculator,
    batch: &TreeBatch,
    requests: &[&mut Request],
    laws: &[Box<dyn TargetLaw>],
    (on, q): (&OnDevice, Option<&OnDevice>),
    choice: VerifierChoice,
) -> Result<Option<Verified>, Error> {
    let Some((rule, asks)) = spec.asks(batch, requests, laws, (on.rows(), on.vocab()), choice)?
    else {
        return Ok(None);
    };
    let asks: Vec<Ask<'_>> = asks
        .iter()
        .map(|a| Ask {
            address: a.address,
            draw: a.draw,
            law: &a.law,
            allowed: a.allowed.as_deref(),
        })
        .collect();
    let tops = spec.wants_top_ids();
    if rule == DeviceRule::Drawn {
        let answers = device::draw(on, &asks, tops)?;
        return spec.verify_drawn(batch, requests, drawn(&answers));
    }
    let shape = (batch.num_nodes(), on.vocab());
    let fits = |q: &&OnDevice| q.is_float32() && q.goes_with(on) && (q.rows(), q.vocab()) == shape;
    let Some(q) = q.filter(fits) else { return Ok(None) };
    let tokens: Vec<i32> = batch.tokens().iter().map(|&t| t as i32).collect();
    let mut cu = vec![0i32];
    cu.extend((0..batch.len()).map(|b| batch.span(b).end as i32));
    let chains = (&tokens[..], &cu[..], rule == DeviceRule::Block);
    let Some((cu_tokens, answers)) = device::verify_chains(on, q, &asks, chains, tops)? else {
        return Ok(None);
    };
    spec.verify_chains(batch, requests, &cu_tokens, drawn(&answers)).map(Some)
}

fn drawn(answers: &device::Answers) -> Drawn<'_> {
    let device::Answers { tokens, log_probs, top_ids } = answers;
    Drawn { tokens, log_probs, top_ids, k: device::TOP_IDS }
}

/// The stores, calibration and cost model behind `trivium.Speculator`.
#[pyclass(frozen, name = "Speculator", module = "trivium._core")]
pub(crate) struct PySpeculator {
    inner: Arc<Speculator>,
}

impl PySpeculator {
    fn own(&self, py: Python<'_>, requests: &[Py<PyRequest>]) -> PyRes<()> {
        match requests.iter().position(|r| !Arc::ptr_eq(&r.get().spec, &self.inner)) {
            None => Ok(()),
            Some(i) => {
                Err(input(py, "requests", format!("request {i} belongs to another speculator")))
            }
        }
    }
}

#[pymethods]
impl PySpeculator {
    #[new]
    #[allow(clippy::too_many_arguments)] // keyword arguments of one Python constructor
    fn new(
        py: Python<'_>,
        vocab_size: usize,
        sources: Vec<String>,
        max_nodes: usize,
        max_depth: usize,
        policy: &str,
        seed: u64,
        max_bytes: usize,
    ) -> PyRes<Self> {
        let policy: Policy = policy.parse().or_raise(py)?;
        let config =
            SpeculatorConfig { vocab_size, sources, max_nodes, max_depth, policy, seed, max_bytes };
        Ok(Self { inner: Arc::new(guard(py, || Speculator::new(config))?) })
    }

    #[staticmethod]
    fn load(py: Python<'_>, path: PathBuf, vocabulary: Option<u64>) -> PyRes<Self> {
        Ok(Self { inner: Arc::new(guard(py, || Speculator::load(&path, vocabulary))?) })
    }

    fn save(&self, py: Python<'_>, path: PathBuf, vocabulary: Option<u64>) -> PyRes<()> {
        guard(py, || self.inner.save(&path, vocabulary))
    }

    fn attach(&self, py: Python<'_>, path: PathBuf, vocabulary: Option<u64>) -> PyRes<()> {
        guard(py, || self.inner.attach(&path, vocabulary))
    }

    #[getter]
    fn config<'py>(&self, py: Python<'py>) -> PyRes<Bound<'py, PyDict>> {
        let c = self.inner.config();
        let out = PyDict::new(py);
        out.set_item("vocab_size", c.vocab_size)?;
        out.set_item("sources", c.sources.clone())?;
        out.set_item("max_nodes", c.max_nodes)?;
        out.set_item("max_depth", c.max_depth)?;
        out.set_item("policy", c.policy.to_string())?;
        out.set_item("seed", c.seed)?;
        out.set_item("max_bytes", c.max_bytes)?;
        Ok(out)
    }

    #[allow(clippy::too_many_arguments)] // keyword arguments of one Python method
    fn start(
        &self,
        py: Python<'_>,
        prompt: &Bound<'_, PyAny>,
        group: Option<String>,
        tenant: Option<String>,
        seed: Option<u64>,
        branch: u32,
        draw: &str,
        constraint: Option<&Bound<'_, PyAny>>,
        pipeline: Option<&Bound<'_, PyAny>>,
    ) -> PyRes<PyRequest> {
        let draw = match draw {
            "cdf" => Draw::Cdf,
            "race" => Draw::Race,
            other => {
                return Err(input(
                    py,
                    "draw",
                    format!("{other:?} is neither \"cdf\" nor \"race\""),
                ));
            }
        };
        let constraint: Option<Box<dyn Constraint>> =
            constraint.map(|c| crate::constraint::of(c)).transpose()?;
        let prompt = token_ids(py, prompt, "prompt_ids", self.inner.config().vocab_size)?;
        let law = pipeline
            .map(|p| {
                let seed = seed.unwrap_or(self.inner.config().seed);
                crate::sampling::law_of(p, &prompt, seed, branch)
            })
            .transpose()?;
        let options =
            RequestOptions { scope: Scope { tenant, group }, seed, branch, draw, constraint, law };
        let inner = guard(py, || self.inner.start(&prompt, options))?;
        Ok(PyRequest { spec: self.inner.clone(), inner: Mutex::new(inner) })
    }

    fn propose(
        &self,
        py: Python<'_>,
        requests: Vec<Py<PyRequest>>,
        max_total: Option<usize>,
    ) -> PyRes<PyTreeBatch> {
        self.own(py, &requests)?;
        let inner = guard(py, || {
            let mut guards = lock_all(&requests)?;
            let mut views: Vec<&mut Request> = guards.iter_mut().map(|g| &mut **g).collect();
            self.inner.propose(&mut views, max_total)
        })?;
        Ok(PyTreeBatch { inner, requests })
    }

    fn verify_ids(
        &self,
        py: Python<'_>,
        batch: &PyTreeBatch,
        sampled: &Bound<'_, PyAny>,
        top_ids: Option<&Bound<'_, PyAny>>,
    ) -> PyRes<PyVerified> {
        self.own(py, &batch.requests)?;
        let sampled = integers(sampled, "sampled")?;
        let top = top_ids
            .map(|t| -> PyRes<_> {
                let t = Foreign::new(t, "top_ids")?;
                let [rows, k] = t.shape()[..] else {
                    return Err(input(py, "top_ids", "must be int [N, k]"));
                };
                let flat = t.integers_2d()?;
                debug_assert_eq!(flat.len(), rows * k);
                Ok((flat, k))
            })
            .transpose()?;
        let inner = guard(py, || {
            let mut guards = lock_all(&batch.requests)?;
            let views: Vec<&mut Request> = guards.iter_mut().map(|g| &mut **g).collect();
            let top = top.as_ref().map(|(flat, k)| (&flat[..], *k));
            self.inner.verify_ids(&batch.inner, &views, &sampled, top)
        })?;
        Ok(PyVerified {
            inner: Mutex::new(inner),
            requests: batch.requests.iter().map(|r| r.clone_ref(py)).collect(),
        })
    }

    /// `params` has one (temperature, top_k, top_p, min_p) a request. `verifier` is "auto", "law" or
    /// a name; `lossy` is a rule that is not lossless, its name and numbers, and then decides alone.
    #[pyo3(signature = (batch, rows, params, q=None, verifier="auto", lossy=None))]
    #[allow(clippy::too_many_arguments)] // keyword arguments of one Python method
    fn verify_logits(
        &self,
        py: Python<'_>,
        batch: &PyTreeBatch,
        rows: &Bound<'_, PyAny>,
        params: Vec<(f32, usize, f32, f32)>,
        q: Option<&Bound<'_, PyAny>>,
        verifier: &str,
        lossy: Option<(String, Vec<f64>)>,
    ) -> PyRes<PyVerified> {
        self.own(py, &batch.requests)?;
        let choice: VerifierChoice = verifier.parse().or_raise(py)?;
        let lossy = lossy.map(|(name, numbers)| LossyRule::named(&name, &numbers));
        let lossy = lossy.transpose().or_raise(py)?;
        let neutral: Vec<bool> = params.iter().map(|p| *p == (1.0, 0, 1.0, 0.0)).collect();
        let laws = params
            .into_iter()
            .map(|(temperature, top_k, top_p, min_p)| {
                let p = Params { temperature, top_k, top_p, min_p }.check()?;
                Ok(Box::new(p) as Box<dyn TargetLaw>)
            })
            .collect::<Result<Vec<_>, Error>>()
            .or_raise(py)?;
        let plain = |views: &[&mut Request]| match views
            .iter()
            .zip(&neutral)
            .position(|(r, n)| r.has_law() && !n)
        {
            None => Ok(()),
            Some(b) => Err(Error::input(
                "temperature",
                format!("request {b} started with a pipeline, which decides alone"),
            )),
        };
        let verified = |inner| PyVerified {
            inner: Mutex::new(inner),
            requests: batch.requests.iter().map(|r| r.clone_ref(py)).collect(),
        };
        let why = match place(rows, "logits")? {
            Place::Host => None,
            Place::Copy(why) => Some(why),
            Place::Device(device) => {
                if let Some(q) = q {
                    same_device(q, "q", &device)?;
                }
                let on = device.on;
                // Draft probabilities are held for the call, as the rows are.
                let q_rows = match q.map(|q| place(q, "q")).transpose()? {
                    Some(Place::Device(q)) => Some(q),
                    _ => None,
                };
                let q_on = q_rows.as_ref().map(|q| q.on);
                let tried = guard(py, || {
                    let mut guards = lock_all(&batch.requests)?;
                    let views: Vec<&mut Request> = guards.iter_mut().map(|g| &mut **g).collect();
                    plain(&views)?;
                    if lossy.is_some() {
                        return Ok(None);
                    }
                    let on = (&on, q_on.as_ref());
                    verify_on_device(&self.inner, &batch.inner, &views, &laws, on, choice)
                })?;
                if let Some(inner) = tried {
                    return Ok(verified(inner));
                }
                Some(format!("verifier {verifier:?} or a law of this call reads whole rows"))
            }
        };
        let (rows, q) = match (why, q) {
            (None, q) => (rows.clone(), q.cloned()),
            (Some(why), q) => {
                (to_host(rows, "logits", &why)?, q.map(|q| to_host(q, "q", &why)).transpose()?)
            }
        };
        let draft = q.as_ref().map(|q| logits(q, "q")).transpose()?;
        let q = draft.as_ref().map(Foreign::logits).transpose()?;
        let foreign = logits(&rows, "logits")?;
        let view = foreign.logits()?;
        let inner = guard(py, || {
            let mut guards = lock_all(&batch.requests)?;
            let views: Vec<&mut Request> = guards.iter_mut().map(|g| &mut **g).collect();
            plain(&views)?;
            let rows = Rows { logits: view, q, laws: &laws };
            match lossy {
                Some(rule) => self.inner.verify_lossy(&batch.inner, &views, rows, rule),
                None => self.inner.verify_rows(&batch.inner, &views, rows, choice),
            }
        })?;
        Ok(verified(inner))
    }

    fn commit(&self, py: Python<'_>, out: &PyVerified) -> PyRes<()> {
        self.own(py, &out.requests)?;
        guard(py, || {
            let verified = lock(&out.inner, "verification")?;
            let mut guards = lock_all(&out.requests)?;
            let mut views: Vec<&mut Request> = guards.iter_mut().map(|g| &mut **g).collect();
            self.inner.commit(&verified, &mut views)
        })
    }

    fn observe_forward(&self, nodes: usize, seconds: f64) {
        self.inner.observe_forward(nodes, seconds);
    }

    fn stats<'py>(&self, py: Python<'py>) -> PyRes<Bound<'py, PyDict>> {
        let s = self.inner.stats();
        let out = PyDict::new(py);
        out.set_item("steps", s.steps)?;
        out.set_item("tokens", s.tokens)?;
        out.set_item("drafted", s.drafted)?;
        out.set_item("accepted", s.accepted)?;
        let sources = PyDict::new(py);
        for (name, (tried, accepted)) in s.sources {
            let row = PyDict::new(py);
            row.set_item("tried", tried)?;
            row.set_item("accepted", accepted)?;
            sources.set_item(name, row)?;
        }
        out.set_item("sources", sources)?;
        let bins = s.calibration.bins();
        let calibration = PyDict::new(py);
        calibration.set_item("error", s.calibration.error())?;
        calibration.set_item("tried", bins.iter().map(|b| b.tried).collect::<Vec<_>>())?;
        calibration.set_item("expected", bins.iter().map(|b| b.expected).collect::<Vec<_>>())?;
        calibration.set_item("accepted", bins.iter().map(|b| b.accepted).collect::<Vec<_>>())?;
        out.set_item("calibration", calibration)?;
        Ok(out)
    }

    fn memory<'py>(&self, py: Python<'py>) -> PyRes<Bound<'py, PyDict>> {
        let out = PyDict::new(py);
        let mut total = 0;
        for (name, bytes) in guard(py, || Ok(self.inner.memory()))? {
            total += bytes;
            out.set_item(name, bytes)?;
        }
        out.set_item("total", total)?;
        Ok(out)
    }
}
