//! Policies of sources that bring logits.

use crate::arrays::integers;
use crate::errors::{OrRaise, PyRes};
use crate::guard::lock;
use pyo3::prelude::*;
use std::sync::Mutex;
use trivium_core::{Error, TokenId, ids};
use trivium_spec::draft::logits as policy;
use trivium_spec::draft::ngram;

fn tokens(py: Python<'_>, object: &Bound<'_, PyAny>, what: &'static str) -> PyRes<Vec<TokenId>> {
    let raw = integers(object, what)?;
    raw.iter().map(|&t| ids::check_id(t, i32::MAX as usize)).collect::<Result<_, _>>().or_raise(py)
}

/// Search for the sub-layers that a self-drafting model skips; see `trivium.drafting`.
#[pyclass(frozen, name = "LayerSetSearch", module = "trivium.drafting")]
pub(crate) struct PyLayerSetSearch(Mutex<policy::LayerSetSearch>);

#[pymethods]
impl PyLayerSetSearch {
    #[new]
    #[pyo3(signature = (layers, *, ratio=0.45, period=25, max_iterations=1000, patience=300, target=0.95, seed=0))]
    fn new(
        py: Python<'_>,
        layers: usize,
        ratio: f64,
        period: usize,
        max_iterations: usize,
        patience: usize,
        target: f64,
        seed: u64,
    ) -> PyRes<Self> {
        let search = policy::LayerSetSearch::new(layers, ratio, period, seed).or_raise(py)?;
        Ok(Self(Mutex::new(search.with_limits(max_iterations, patience, target))))
    }

    /// The set to score next, one bool a sub-layer, True = skipped; None once the search has ended.
    fn next_candidate(&self, py: Python<'_>) -> PyRes<Option<Vec<bool>>> {
        let mut search = lock(&self.0, "search").or_raise(py)?;
        Ok(search.next_candidate().map(<[bool]>::to_vec))
    }

    /// The score of the last candidate; larger is better.
    fn report(&self, py: Python<'_>, score: f64) -> PyRes<()> {
        lock(&self.0, "search").and_then(|mut s| s.report(score)).or_raise(py)
    }

    /// The best set so far and its score, or None.
    #[getter]
    fn best(&self, py: Python<'_>) -> PyRes<Option<(Vec<bool>, f64)>> {
        let search = lock(&self.0, "search").or_raise(py)?;
        Ok(search.best().map(|(s, v)| (s.to_vec(), v)))
    }

    /// Candidates scored.
    #[getter]
    fn iterations(&self, py: Python<'_>) -> PyRes<usize> {
        Ok(lock(&self.0, "search").or_raise(py)?.iterations())
    }
}

/// CLaSp's dynamic programme over layers; see `trivium.drafting`.
#[pyclass(frozen, name = "LayerDp", module = "trivium.drafting")]
pub(crate) struct PyLayerDp(Mutex<policy::LayerDp>);

#[pymethods]
impl PyLayerDp {
    #[new]
    fn new(py: Python<'_>, layers: usize, skips: usize) -> PyRes<Self> {
        Ok(Self(Mutex::new(policy::LayerDp::new(layers, skips).or_raise(py)?)))
    }

    /// One layer: similarities, for m skipped layers, of the vector that ran through it and of the
    /// copy from m - 1; gives for each m whether the copy stays.
    fn layer(&self, py: Python<'_>, run: Vec<f64>, copy: Vec<f64>) -> PyRes<Vec<bool>> {
        let mut dp = lock(&self.0, "programme").or_raise(py)?;
        dp.layer(&run, &copy).map(<[bool]>::to_vec).or_raise(py)
    }

    /// The layers to skip, in order.
    fn skip_set(&self, py: Python<'_>) -> PyRes<Vec<usize>> {
        lock(&self.0, "programme").and_then(|d| d.skip_set()).or_raise(py)
    }
}

/// DEL's choice of exit layer and draft length; see `trivium.drafting`.
#[pyclass(frozen, name = "ExitChooser", module = "trivium.drafting")]
pub(crate) struct PyExitChooser(Mutex<policy::ExitChooser>);

#[pymethods]
impl PyExitChooser {
    #[new]
    #[pyo3(signature = (layers, exits, *, max_depth=8, decay=0.95))]
    fn new(
        py: Python<'_>,
        layers: usize,
        exits: Vec<usize>,
        max_depth: usize,
        decay: f64,
    ) -> PyRes<Self> {
        let exit = policy::ExitChooser::new(layers, &exits, max_depth, decay).or_raise(py)?;
        Ok(Self(Mutex::new(exit)))
    }

    /// One verification: by exit, whether it would have drafted each verified token, and its
    /// confidences (or none).
    #[pyo3(signature = (hit, confidence=vec![]))]
    fn observe(&self, py: Python<'_>, hit: Vec<Vec<bool>>, confidence: Vec<Vec<f64>>) -> PyRes<()> {
        lock(&self.0, "exits").and_then(|mut e| e.observe(&hit, &confidence)).or_raise(py)
    }

    /// Exit layer, draft length (0: do not draft) and confidence threshold.
    fn choose(&self, py: Python<'_>) -> PyRes<(usize, usize, f64)> {
        Ok(lock(&self.0, "exits").or_raise(py)?.choose())
    }
}

/// KNN-SSD's index of prompts; see `trivium.drafting`.
#[pyclass(frozen, name = "AnchorIndex", module = "trivium.drafting")]
pub(crate) struct PyAnchorIndex(Mutex<policy::AnchorIndex>);

#[pymethods]
impl PyAnchorIndex {
    #[new]
    #[pyo3(signature = (width, *, metric="cosine", capacity=4096))]
    fn new(py: Python<'_>, width: usize, metric: &str, capacity: usize) -> PyRes<Self> {
        let metric = match metric {
            "cosine" => policy::Metric::Cosine,
            "l2" => policy::Metric::L2,
            other => {
                let why = format!("{other:?} is neither \"cosine\" nor \"l2\"");
                return Err(Error::input("metric", why)).or_raise(py);
            }
        };
        Ok(Self(Mutex::new(policy::AnchorIndex::new(width, metric, capacity).or_raise(py)?)))
    }

    /// Add an anchor with the number of its layer set.
    fn insert(&self, py: Python<'_>, vector: Vec<f32>, label: u32) -> PyRes<u64> {
        lock(&self.0, "index").and_then(|mut i| i.insert(&vector, label)).or_raise(py)
    }

    /// The k nearest: number, label, distance.
    fn nearest(&self, py: Python<'_>, vector: Vec<f32>, k: usize) -> PyRes<Vec<(u64, u32, f64)>> {
        lock(&self.0, "index").and_then(|i| i.nearest(&vector, k)).or_raise(py)
    }

    /// The label that the k nearest vote for, or None without anchors.
    #[pyo3(signature = (vector, k=1, *, weighted=false))]
    fn vote(
        &self,
        py: Python<'_>,
        vector: Vec<f32>,
        k: usize,
        weighted: bool,
    ) -> PyRes<Option<u32>> {
        lock(&self.0, "index").and_then(|i| i.vote(&vector, k, weighted)).or_raise(py)
    }

    fn __len__(&self, py: Python<'_>) -> PyRes<usize> {
        Ok(lock(&self.0, "index").or_raise(py)?.len())
    }
}

/// Target id of every draft id; see `trivium.drafting`.
#[pyclass(frozen, name = "VocabMap", module = "trivium.drafting")]
pub(crate) struct PyVocabMap(policy::VocabMap);

#[pymethods]
impl PyVocabMap {
    /// The intersection of two vocabularies (bytes of their tokens; empty: no counterpart).
    #[staticmethod]
    fn intersection(py: Python<'_>, draft: Vec<Vec<u8>>, target: Vec<Vec<u8>>) -> PyRes<Self> {
        Ok(Self(policy::VocabMap::intersection(&draft, &target).or_raise(py)?))
    }

    /// The k most counted target tokens, and those to keep whatever their count.
    #[staticmethod]
    #[pyo3(signature = (counts, k, keep=vec![]))]
    fn trim(py: Python<'_>, counts: Vec<u64>, k: usize, keep: Vec<u32>) -> PyRes<Self> {
        Ok(Self(policy::VocabMap::trim(&counts, k, &keep).or_raise(py)?))
    }

    /// Target id of each draft id, -1 for none.
    #[getter]
    fn to_target(&self) -> Vec<i64> {
        let id = |&t: &TokenId| if t == TokenId::MAX { -1 } else { i64::from(t) };
        self.0.to_target().iter().map(id).collect()
    }

    /// The draft law on target ids, normalised.
    fn law(&self, py: Python<'_>, q: Vec<f32>) -> PyRes<Vec<f32>> {
        self.0.law(&q).or_raise(py)
    }

    /// The draft's ids of a target text, up to the first token that it cannot say.
    fn draft_text(&self, py: Python<'_>, text: &Bound<'_, PyAny>) -> PyRes<Vec<u32>> {
        Ok(self.0.draft_text(&tokens(py, text, "text")?))
    }

    fn __len__(&self) -> usize {
        self.0.len()
    }
}

/// What to distil a draft from; see `trivium.drafting`.
#[pyclass(frozen, name = "ReplayBuffer", module = "trivium.drafting")]
pub(crate) struct PyReplayBuffer(Mutex<policy::ReplayBuffer>);

#[pymethods]
impl PyReplayBuffer {
    #[new]
    #[pyo3(signature = (capacity=4096, *, interval=64, drop=0.8, seed=0))]
    fn new(capacity: usize, interval: usize, drop: f64, seed: u64) -> Self {
        Self(Mutex::new(policy::ReplayBuffer::new(capacity, interval, drop, seed)))
    }

    /// Offer a position of a text that the host can find by `context`.
    /// Gives the context and position that are held no longer, maybe these.
    fn push(
        &self,
        py: Python<'_>,
        context: u64,
        position: u32,
        accepted: bool,
    ) -> PyRes<Option<(u64, u32)>> {
        let sample = policy::Sample { context, position, accepted };
        let gone = lock(&self.0, "buffer").or_raise(py)?.push(sample);
        Ok(gone.map(|s| (s.context, s.position)))
    }

    /// A request ended with this share of its drafts accepted.
    fn finish(&self, py: Python<'_>, acceptance: f64) -> PyRes<()> {
        lock(&self.0, "buffer").or_raise(py)?.finish(acceptance);
        Ok(())
    }

    /// Whether the draft should be updated now.
    #[getter]
    fn is_due(&self, py: Python<'_>) -> PyRes<bool> {
        Ok(lock(&self.0, "buffer").or_raise(py)?.is_due())
    }

    /// Take all samples, rejected ones first: context, position, accepted.
    fn drain(&self, py: Python<'_>) -> PyRes<Vec<(u64, u32, bool)>> {
        let all = lock(&self.0, "buffer").or_raise(py)?.drain();
        Ok(all.into_iter().map(|s| (s.context, s.position, s.accepted)).collect())
    }

    fn __len__(&self, py: Python<'_>) -> PyRes<usize> {
        Ok(lock(&self.0, "buffer").or_raise(py)?.len())
    }
}

/// Which draft serves a class of requests; see `trivium.drafting`.
#[pyclass(frozen, name = "DraftRouter", module = "trivium.drafting")]
pub(crate) struct PyDraftRouter(Mutex<policy::DraftRouter>);

#[pymethods]
impl PyDraftRouter {
    #[new]
    #[pyo3(signature = (drafts, *, range=1.0))]
    fn new(py: Python<'_>, drafts: usize, range: f64) -> PyRes<Self> {
        Ok(Self(Mutex::new(policy::DraftRouter::new(drafts, range).or_raise(py)?)))
    }

    /// The draft for a request of a class.
    fn choose(&self, py: Python<'_>, class_: &str) -> PyRes<usize> {
        Ok(lock(&self.0, "router").or_raise(py)?.choose(class_))
    }

    /// What a draft earned for it, within 0..=range.
    fn report(&self, py: Python<'_>, class_: &str, draft: usize, reward: f64) -> PyRes<()> {
        lock(&self.0, "router").and_then(|mut r| r.report(class_, draft, reward)).or_raise(py)
    }
}

/// Interpolated n-gram model that scores candidates; see `trivium.drafting`.
#[pyclass(frozen, name = "NgramScorer", module = "trivium.drafting")]
pub(crate) struct PyNgramScorer(Mutex<ngram::NgramScorer>);

#[pymethods]
impl PyNgramScorer {
    #[new]
    #[pyo3(signature = (weights=ngram::WEIGHTS, *, max_bytes=268_435_456))]
    fn new(py: Python<'_>, weights: [f64; 6], max_bytes: usize) -> PyRes<Self> {
        Ok(Self(Mutex::new(ngram::NgramScorer::new(weights, max_bytes).or_raise(py)?)))
    }

    /// Count a text.
    fn add(&self, py: Python<'_>, text: &Bound<'_, PyAny>) -> PyRes<()> {
        let text = tokens(py, text, "text")?;
        lock(&self.0, "scorer").and_then(|mut s| s.add(&text)).or_raise(py)
    }

    /// Scores of candidates after a history, with the target's log-probabilities.
    #[pyo3(signature = (history, candidates, log_probs, *, alpha=0.5))]
    fn score(
        &self,
        py: Python<'_>,
        history: &Bound<'_, PyAny>,
        candidates: &Bound<'_, PyAny>,
        log_probs: Vec<f64>,
        alpha: f64,
    ) -> PyRes<Vec<f64>> {
        let (h, c) = (tokens(py, history, "history")?, tokens(py, candidates, "candidates")?);
        if c.len() != log_probs.len() {
            let why = format!("{} for {} candidates", log_probs.len(), c.len());
            return Err(Error::input("log_probs", why)).or_raise(py);
        }
        Ok(lock(&self.0, "scorer").or_raise(py)?.score(&h, &c, &log_probs, alpha))
    }
}

/// S3D: layers to skip, mask tokens to append, tokens a pass.
#[pyfunction]
#[pyo3(signature = (layers, skips, acceptance, extra=0.0))]
pub(crate) fn skippy(
    py: Python<'_>,
    layers: usize,
    skips: Vec<usize>,
    acceptance: Vec<Vec<f64>>,
    extra: f64,
) -> PyRes<(usize, usize, f64)> {
    policy::skippy(layers, &skips, &acceptance, extra).or_raise(py)
}

/// SLEM: what a re-encoded draft has behind the committed window.
#[pyfunction]
pub(crate) fn seam(
    py: Python<'_>,
    window: &Bound<'_, PyAny>,
    encoded: &Bound<'_, PyAny>,
) -> PyRes<Vec<u32>> {
    let (window, encoded) = (tokens(py, window, "window")?, tokens(py, encoded, "encoded")?);
    Ok(policy::seam(&window, &encoded).to_vec())
}

/// SLRS: the law of the first target token of a text that a draft of another vocabulary writes.
#[pyfunction]
pub(crate) fn first_token_law(
    py: Python<'_>,
    draft: Vec<Vec<u8>>,
    target: Vec<Vec<u8>>,
    following: &Bound<'_, PyAny>,
    max_texts: usize,
) -> PyRes<Vec<f64>> {
    let mut failed = None;
    let mut next = |ids: &[TokenId]| -> Vec<f64> {
        let row = following.call1((ids.to_vec(),)).and_then(|row| row.extract::<Vec<f64>>());
        row.unwrap_or_else(|e| {
            failed = Some(e);
            Vec::new() // refused as a row of another width, so the walk ends here
        })
    };
    let law = policy::first_token_law(&draft, &target, &mut next, max_texts);
    match failed {
        Some(e) => Err(e),
        None => law.or_raise(py),
    }
}

/// Phrases seen after a token; see `trivium.drafting`.
#[pyclass(frozen, name = "PhrasePool", module = "trivium.drafting")]
pub(crate) struct PyPhrasePool(Mutex<ngram::PhrasePool>);

#[pymethods]
impl PyPhrasePool {
    #[new]
    fn new(py: Python<'_>, length: usize, guesses: usize) -> PyRes<Self> {
        if !(1..=64).contains(&length) || !(1..=1024).contains(&guesses) {
            let why = format!("length {length} and guesses {guesses} are outside 1..=64, 1..=1024");
            return Err(Error::input("length, guesses", why)).or_raise(py);
        }
        Ok(Self(Mutex::new(ngram::PhrasePool::new(length, guesses))))
    }

    /// A phrase was seen after `key`; one of another length is ignored.
    fn insert(&self, py: Python<'_>, key: u32, phrase: Vec<u32>) -> PyRes<()> {
        lock(&self.0, "pool").or_raise(py)?.insert(key, &phrase, 0);
        Ok(())
    }

    /// Phrases after `key`, most recently seen first.
    fn get(&self, py: Python<'_>, key: u32) -> PyRes<Vec<Vec<u32>>> {
        Ok(lock(&self.0, "pool").or_raise(py)?.get(key).map(<[u32]>::to_vec).collect())
    }

    /// Bytes held.
    #[getter]
    fn memory(&self, py: Python<'_>) -> PyRes<usize> {
        Ok(lock(&self.0, "pool").or_raise(py)?.memory())
    }
}

/// The window of lookahead decoding; see `trivium.drafting`.
#[pyclass(frozen, name = "LookaheadWindow", module = "trivium.drafting")]
pub(crate) struct PyLookaheadWindow(Mutex<ngram::LookaheadWindow>);

/// Tokens, distances from the last committed token, flat square mask, wanted nodes (-1: its row).
type PyLayout = (Vec<u32>, Vec<u32>, Vec<bool>, Vec<i64>);

#[pymethods]
impl PyLookaheadWindow {
    #[new]
    #[pyo3(signature = (width, ngram, text, *, seed=0))]
    fn new(
        py: Python<'_>,
        width: usize,
        ngram: usize,
        text: &Bound<'_, PyAny>,
        seed: u64,
    ) -> PyRes<Self> {
        let text = tokens(py, text, "text")?;
        let window = ngram::LookaheadWindow::new(width, ngram, &text, seed).or_raise(py)?;
        Ok(Self(Mutex::new(window)))
    }

    /// Whether all rows are filled.
    #[getter]
    fn is_warm(&self, py: Python<'_>) -> PyRes<bool> {
        Ok(lock(&self.0, "window").or_raise(py)?.is_warm())
    }

    /// Nodes of the next pass: tokens, distances from the last committed token, mask, wanted nodes.
    fn layout(&self, py: Python<'_>) -> PyRes<PyLayout> {
        let l = lock(&self.0, "window").or_raise(py)?.layout();
        let wanted = l.wanted.iter().map(|w| w.map_or(-1, |i| i as i64)).collect();
        Ok((l.tokens, l.offsets, l.mask, wanted))
    }

    /// Take the most likely tokens of the wanted nodes; the n-grams that the columns spell.
    fn harvest(&self, py: Python<'_>, last: u32, best: Vec<u32>) -> PyRes<Vec<(u32, Vec<u32>)>> {
        lock(&self.0, "window").and_then(|mut w| w.harvest(last, &best)).or_raise(py)
    }
}
