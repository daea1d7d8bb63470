//! `Pipeline` and `Sampler`: the processed law, row by row and along a text.

use crate::arrays::{Foreign, array, integers, logits};
use crate::device::{self, Ask, OnDevice, Place, place, to_host};
use crate::errors::{OrRaise, PyRes, input};
use crate::guard::{attached, guard, lock};
use crate::vocab::PyVocabulary;
use numpy::{PyArray1, PyArray2, PyArrayMethods};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::sync::{Arc, Mutex};
use trivium_core::logits::LogitsBatch;
use trivium_core::{
    Address, Constraint, Draw, Error, LogitsRow, ScaledRow, TargetLaw, TokenId, Vocabulary, ids,
};
use trivium_sample::heal::{self, Heal};
use trivium_sample::{
    Detail, Drawn, History, Hyper, Input, LogProbs, Order, Pipeline, Session, maxima, repeat,
    without,
};

/// One (temperature, `top_k`, `top_p`, `min_p`) a row.
type HyperRow = (Option<f32>, Option<usize>, Option<f32>, Option<f32>);
type Floats<'py> = Bound<'py, PyArray1<f32>>;
type Ints<'py> = Bound<'py, PyArray1<i32>>;

pub(crate) fn draw_by_name(py: Python<'_>, name: &str) -> PyRes<Draw> {
    match name {
        "cdf" => Ok(Draw::Cdf),
        "race" => Ok(Draw::Race),
        other => Err(input(py, "draw", format!("{other:?} is neither \"cdf\" nor \"race\""))),
    }
}

fn logprobs_by_name(py: Python<'_>, name: &str) -> PyRes<LogProbs> {
    match name {
        "processed" => Ok(LogProbs::Processed),
        "raw" => Ok(LogProbs::Raw),
        "fused" => Ok(LogProbs::Fused),
        other => {
            let why = format!("{other:?} is none of \"processed\", \"raw\" and \"fused\"");
            Err(input(py, "logprobs", why))
        }
    }
}

fn tokens_of(object: &Bound<'_, PyAny>, what: &'static str) -> PyRes<Vec<TokenId>> {
    // The width is that of the rows; ids beyond them cannot be drawn and are harmless in a history.
    let raw = integers(object, what)?;
    raw.iter()
        .map(|&t| ids::check_id(t, i32::MAX as usize))
        .collect::<Result<_, _>>()
        .or_raise(object.py())
}

/// Packed mask words of one row for all, or of every row.
struct Allowed {
    words: Vec<u32>,
    width: usize,
}

impl Allowed {
    fn new(object: Option<&Bound<'_, PyAny>>, rows: usize, vocab: usize) -> PyRes<Option<Self>> {
        let Some(object) = object else { return Ok(None) };
        let py = object.py();
        let foreign = Foreign::new(object, "allowed")?;
        let width = foreign.shape().last().copied().unwrap_or(0);
        let raw = foreign.integers_2d()?;
        let count = raw.len().checked_div(width).unwrap_or(0);
        if (count != 1 && count != rows) || width < vocab.div_ceil(32) {
            let why = format!(
                "is int32 {:?}; [{}] or [{rows}, {}] words are expected",
                foreign.shape(),
                vocab.div_ceil(32),
                vocab.div_ceil(32)
            );
            return Err(input(py, "allowed", why));
        }
        Ok(Some(Self { words: raw.into_iter().map(|w| w as u32).collect(), width }))
    }

    fn row(&self, i: usize) -> &[u32] {
        let start = if self.words.len() == self.width { 0 } else { i * self.width };
        &self.words[start..start + self.width]
    }
}

fn hyper_of(row: Option<&HyperRow>) -> Hyper {
    row.map_or_else(Hyper::default, |&(temperature, top_k, top_p, min_p)| Hyper {
        temperature,
        top_k,
        top_p,
        min_p,
    })
}

/// The rows of a call, owned or borrowed from the caller's arrays.
struct Rows {
    seeds: Vec<u64>,
    indices: Vec<u32>,
    branches: Vec<u32>,
    histories: Vec<History>,
    hyper: Vec<HyperRow>,
    allowed: Option<Allowed>,
    peers: Vec<Vec<TokenId>>,
}

impl Rows {
    fn check(&self, py: Python<'_>, rows: usize) -> PyRes<()> {
        for (what, len) in [
            ("seed", self.seeds.len()),
            ("index", self.indices.len()),
            ("branch", self.branches.len()),
            ("history", self.histories.len()),
        ] {
            if len != rows {
                return Err(input(py, what, format!("{len} values for {rows} rows")));
            }
        }
        if !self.hyper.is_empty() && self.hyper.len() != rows {
            return Err(input(py, "hyper", format!("{} values for {rows} rows", self.hyper.len())));
        }
        if !self.peers.is_empty() && self.peers.len() != rows {
            return Err(input(py, "peers", format!("{} lists for {rows} rows", self.peers.len())));
        }
        Ok(())
    }

    fn input<'a>(&'a self, i: usize, row: LogitsRow<'a>, aux: &'a [LogitsRow<'a>]) -> Input<'a> {
        Input {
            logits: row,
            allowed: self.allowed.as_ref().map(|a| a.row(i)),
            history: &self.histories[i],
            address: Address::new(self.seeds[i], self.indices[i], self.branches[i]),
            mu: f32::NAN,
            hyper: hyper_of(self.hyper.get(i)),
            aux,
            peers: self.peers.get(i).map_or(&[], Vec::as_slice),
        }
    }
}

/// Names the row in an error.
fn at_row(error: Error, row: usize, rows: usize) -> Error {
    if rows == 1 {
        return error;
    }
    match error {
        Error::InvalidInput { what, why } => {
            Error::InvalidInput { what, why: format!("row {row}: {why}") }
        }
        Error::StateMismatch { what, expected, found } => {
            Error::StateMismatch { what: format!("{what} of row {row}"), expected, found }
        }
        other => other,
    }
}

/// Auxiliary rows as they are given: one array a prompt, `[rows, vocab]` each.
fn aux_of<'py>(objects: &[Bound<'py, PyAny>]) -> PyRes<Vec<Foreign<'py>>> {
    objects.iter().map(|o| logits(o, "aux")).collect()
}

fn aux_rows<'a>(
    batches: &[LogitsBatch<'a>],
    i: usize,
    rows: usize,
) -> Result<Vec<LogitsRow<'a>>, Error> {
    batches
        .iter()
        .map(|b| {
            if b.rows() == rows {
                Ok(b.row(i))
            } else {
                Err(Error::input("aux", format!("has {} rows, the logits {rows}", b.rows())))
            }
        })
        .collect()
}

/// The details of drawn tokens as arrays: raw, fused, kept mass, surprise.
fn details<'py>(
    py: Python<'py>,
    drawn: &[Drawn],
) -> (Floats<'py>, Floats<'py>, Floats<'py>, Floats<'py>) {
    let column = |f: fn(&Drawn) -> f32| array(py, drawn.iter().map(f).collect());
    (
        column(|d| d.log_prob_raw),
        column(|d| d.log_prob_fused),
        column(|d| d.ln_kept),
        column(|d| d.surprise),
    )
}

/// Logits processors in order, as plain data.
#[pyclass(frozen, name = "Pipeline", module = "trivium._core")]
pub(crate) struct PyPipeline {
    pub(crate) inner: Arc<Pipeline>,
    row: Mutex<ScaledRow>,
}

impl PyPipeline {
    /// Runs `f` with the pipeline's row; with a fresh one when another thread has it.
    fn with_row<T>(&self, f: impl FnOnce(&mut ScaledRow) -> Result<T, Error>) -> Result<T, Error> {
        match self.row.try_lock() {
            Ok(mut row) => f(&mut row),
            Err(_) => f(&mut ScaledRow::new()),
        }
    }
}

#[pymethods]
impl PyPipeline {
    #[new]
    fn new(py: Python<'_>, json: &str, order: Option<&str>) -> PyRes<Self> {
        let inner = attached(py, || {
            let read = Pipeline::from_json(json)?;
            match order {
                None => Ok(read),
                Some(name) => {
                    let order = Order::by_name(name).ok_or_else(|| {
                        Error::unsupported(
                            format!("order {name:?}"),
                            "in Pipeline",
                            "the orders are canonical, transformers, llama.cpp and vllm",
                        )
                    })?;
                    let sorted = Pipeline::ordered(read.steps().to_vec(), order)?;
                    Ok(sorted.with_on_empty(read.on_empty()))
                }
            }
        })?;
        Ok(Self { inner: Arc::new(inner), row: Mutex::default() })
    }

    fn to_json(&self, py: Python<'_>) -> PyRes<String> {
        attached(py, || self.inner.to_json())
    }

    fn stable_hash(&self, py: Python<'_>) -> PyRes<u64> {
        attached(py, || self.inner.stable_hash())
    }

    #[allow(clippy::too_many_arguments)] // one Python method
    fn sample<'py>(
        &self,
        py: Python<'py>,
        rows: &Bound<'py, PyAny>,
        seeds: Vec<u64>,
        indices: Vec<u32>,
        branches: Vec<u32>,
        draw: &str,
        histories: Vec<Bound<'py, PyAny>>,
        prompt_lens: Vec<usize>,
        allowed: Option<&Bound<'py, PyAny>>,
        hyper: Vec<HyperRow>,
        aux: Vec<Bound<'py, PyAny>>,
        peers: Vec<Bound<'py, PyAny>>,
        detail: bool,
    ) -> PyRes<(Ints<'py>, Floats<'py>, Option<(Floats<'py>, Floats<'py>, Floats<'py>, Floats<'py>)>)>
    {
        let draw = draw_by_name(py, draw)?;
        let call = |shape: (usize, usize)| {
            let (seeds, indices) = (seeds.clone(), indices.clone());
            let (branches, hyper) = (branches.clone(), hyper.clone());
            self.rows(
                py,
                shape,
                seeds,
                indices,
                branches,
                &histories,
                &prompt_lens,
                allowed,
                hyper,
                &peers,
            )
        };
        let why = match place(rows, "logits")? {
            Place::Host => None,
            Place::Copy(why) => Some(why),
            Place::Device(device) => {
                let on = device.on;
                let call = call((on.rows(), on.vocab()))?;
                let whole = detail || !aux.is_empty() || !peers.is_empty();
                let tried = guard(py, || {
                    if whole { Ok(None) } else { self.sample_on_device(&on, &call, draw) }
                })?;
                if let Some((tokens, log_probs)) = tried {
                    return Ok((array(py, tokens), array(py, log_probs), None));
                }
                Some("a rule of the pipeline, or details, read whole rows".into())
            }
        };
        let rows = match why {
            None => rows.clone(),
            Some(why) => to_host(rows, "logits", &why)?,
        };
        let foreign = logits(&rows, "logits")?;
        let view = foreign.logits()?;
        let aux = aux_of(&aux)?;
        let aux = aux.iter().map(Foreign::logits).collect::<PyRes<Vec<_>>>()?;
        let rows = call((view.rows(), view.vocab()))?;
        let detail_of = if detail { Detail::Full } else { Detail::Fast };
        let n = view.rows();
        let drawn = guard(py, || {
            self.with_row(|row| {
                (0..n)
                    .map(|i| {
                        let aux = aux_rows(&aux, i, n)?;
                        let x = rows.input(i, view.row(i), &aux);
                        self.inner.sample(&x, draw, detail_of, row).map_err(|e| at_row(e, i, n))
                    })
                    .collect::<Result<Vec<_>, _>>()
            })
        })?;
        Ok((
            array(py, drawn.iter().map(|d| d.token as i32).collect()),
            array(py, drawn.iter().map(|d| d.log_prob).collect()),
            detail.then(|| details(py, &drawn)),
        ))
    }

    #[allow(clippy::too_many_arguments)] // one Python method
    fn process<'py>(
        &self,
        py: Python<'py>,
        rows: &Bound<'py, PyAny>,
        seeds: Vec<u64>,
        indices: Vec<u32>,
        branches: Vec<u32>,
        histories: Vec<Bound<'py, PyAny>>,
        prompt_lens: Vec<usize>,
        allowed: Option<&Bound<'py, PyAny>>,
        hyper: Vec<HyperRow>,
        aux: Vec<Bound<'py, PyAny>>,
        peers: Vec<Bound<'py, PyAny>>,
    ) -> PyRes<Bound<'py, PyArray2<f32>>> {
        let foreign = logits(rows, "logits")?;
        let view = foreign.logits()?;
        let aux = aux_of(&aux)?;
        let aux = aux.iter().map(Foreign::logits).collect::<PyRes<Vec<_>>>()?;
        let rows = self.rows(
            py,
            (view.rows(), view.vocab()),
            seeds,
            indices,
            branches,
            &histories,
            &prompt_lens,
            allowed,
            hyper,
            &peers,
        )?;
        let n = view.rows();
        let out = guard(py, || {
            self.with_row(|row| {
                let mut out = Vec::with_capacity(n * view.vocab());
                for i in 0..n {
                    let aux = aux_rows(&aux, i, n)?;
                    self.inner
                        .process(&rows.input(i, view.row(i), &aux), row)
                        .map_err(|e| at_row(e, i, n))?;
                    if row.is_greedy() {
                        row.keep(&[row.argmax()])?;
                    }
                    out.extend_from_slice(row.scaled());
                }
                Ok(out)
            })
        })?;
        array(py, out).reshape([n, view.vocab()])
    }

    #[allow(clippy::too_many_arguments)] // one Python method
    fn sample_without<'py>(
        &self,
        py: Python<'py>,
        row: &Bound<'py, PyAny>,
        k: usize,
        seed: u64,
        index: u32,
        branch: u32,
        history: Bound<'py, PyAny>,
        prompt_len: usize,
        allowed: Option<&Bound<'py, PyAny>>,
    ) -> PyRes<(Ints<'py>, Floats<'py>, Floats<'py>, Floats<'py>)> {
        let foreign = logits(row, "logits")?;
        let view = foreign.logits()?;
        if view.rows() != 1 {
            return Err(input(py, "logits", format!("has {} rows; one is expected", view.rows())));
        }
        let rows = self.rows(
            py,
            (view.rows(), view.vocab()),
            vec![seed],
            vec![index],
            vec![branch],
            &[history],
            &[prompt_len],
            allowed,
            Vec::new(),
            &[],
        )?;
        let ranked = guard(py, || {
            self.with_row(|row| {
                let x = rows.input(0, view.row(0), &[]);
                self.inner.process(&x, row)?;
                let mut out = Vec::new();
                without::sample(row, k, x.address, &mut out);
                Ok(out)
            })
        })?;
        Ok((
            array(py, ranked.iter().map(|r| r.token as i32).collect()),
            array(py, ranked.iter().map(|r| r.log_prob).collect()),
            array(py, ranked.iter().map(|r| r.key).collect()),
            array(py, ranked.iter().map(|r| r.log_inclusion).collect()),
        ))
    }

    fn start(
        &self,
        py: Python<'_>,
        prompt: &Bound<'_, PyAny>,
        seed: u64,
        branch: u32,
        draw: &str,
        logprobs: &str,
        weighed: bool,
    ) -> PyRes<PySampler> {
        let draw = draw_by_name(py, draw)?;
        let logprobs = logprobs_by_name(py, logprobs)?;
        let prompt = tokens_of(prompt, "prompt_ids")?;
        let session = guard(py, || {
            let session = Session::new(self.inner.clone(), &prompt, seed, branch);
            Ok(if weighed { session.weighed() } else { session })
        })?;
        let full = weighed || logprobs != LogProbs::Processed;
        let detail = if full { Detail::Full } else { Detail::Fast };
        let inner = Mutex::new((session, ScaledRow::new()));
        Ok(PySampler { inner, draw, logprobs, detail })
    }
}

impl PyPipeline {
    #[allow(clippy::too_many_arguments)] // the arguments of its callers
    fn rows(
        &self,
        py: Python<'_>,
        (count, vocab): (usize, usize),
        seeds: Vec<u64>,
        indices: Vec<u32>,
        branches: Vec<u32>,
        histories: &[Bound<'_, PyAny>],
        prompt_lens: &[usize],
        allowed: Option<&Bound<'_, PyAny>>,
        hyper: Vec<HyperRow>,
        peers: &[Bound<'_, PyAny>],
    ) -> PyRes<Rows> {
        let peers = peers.iter().map(|p| tokens_of(p, "peers")).collect::<PyRes<Vec<_>>>()?;
        let ngrams = self.inner.ngrams();
        let histories = histories
            .iter()
            .enumerate()
            .map(|(i, h)| {
                let tokens = tokens_of(h, "history")?;
                let split = prompt_lens.get(i).copied().unwrap_or(0);
                if split > tokens.len() {
                    let why = format!("{split} is beyond the {} tokens of history", tokens.len());
                    return Err(input(py, "prompt_len", why));
                }
                let mut history = History::new(&tokens[..split], &ngrams);
                tokens[split..].iter().for_each(|&t| history.push(t));
                Ok(history)
            })
            .collect::<PyRes<Vec<_>>>()?;
        let allowed = Allowed::new(allowed, count, vocab)?;
        let rows = Rows { seeds, indices, branches, histories, hyper, allowed, peers };
        rows.check(py, count)?;
        Ok(rows)
    }

    /// Draws where the rows are: tokens and log-probabilities; `None` where the CPU must decide or name a fault.
    fn sample_on_device(
        &self,
        on: &OnDevice,
        rows: &Rows,
        draw: Draw,
    ) -> Result<Option<(Vec<i32>, Vec<f32>)>, Error> {
        let mut laws = Vec::with_capacity(on.rows());
        for i in 0..on.rows() {
            let hyper = hyper_of(rows.hyper.get(i));
            let law = self.inner.plain(&rows.histories[i], hyper, on.vocab());
            match law.map_err(|e| at_row(e, i, on.rows()))? {
                Some(law) => laws.push(law),
                None => return Ok(None),
            }
        }
        let asks: Vec<Ask<'_>> = laws
            .iter()
            .enumerate()
            .map(|(i, law)| Ask {
                address: Address::new(rows.seeds[i], rows.indices[i], rows.branches[i]),
                draw,
                law,
                allowed: rows.allowed.as_ref().map(|a| a.row(i)),
            })
            .collect();
        let answers = device::draw(on, &asks, false)?;
        let sound = answers.tokens.iter().all(|&t| t >= 0);
        Ok(sound.then_some((answers.tokens, answers.log_probs)))
    }
}

/// A pipeline along one text.
#[pyclass(frozen, name = "Sampler", module = "trivium.sampling")]
pub(crate) struct PySampler {
    inner: Mutex<(Session, ScaledRow)>,
    draw: Draw,
    logprobs: LogProbs,
    detail: Detail,
}

impl PySampler {
    fn with<T>(
        &self,
        py: Python<'_>,
        f: impl FnOnce(&mut Session) -> Result<T, Error>,
    ) -> PyRes<T> {
        attached(py, || f(&mut lock(&self.inner, "sampler")?.0))
    }
}

#[pymethods]
impl PySampler {
    /// Draw the next token and append it: (token, log-probability, of the processed law unless
    /// `Pipeline.start` was told otherwise).
    ///
    /// `logits` is one row; `allowed` int32 words, 1 = allowed. O(vocab).
    #[pyo3(signature = (logits, allowed=None))]
    fn step(
        &self,
        py: Python<'_>,
        logits: &Bound<'_, PyAny>,
        allowed: Option<&Bound<'_, PyAny>>,
    ) -> PyRes<(u32, f32)> {
        let drawn = self.draw_one(py, logits, allowed, true)?;
        Ok((drawn.token, drawn.log_prob_of(self.logprobs)))
    }

    /// Draw the next token without appending it: (token, log-probability). `step` would draw the
    /// same one.
    #[pyo3(signature = (logits, allowed=None))]
    fn sample(
        &self,
        py: Python<'_>,
        logits: &Bound<'_, PyAny>,
        allowed: Option<&Bound<'_, PyAny>>,
    ) -> PyRes<(u32, f32)> {
        let drawn = self.draw_one(py, logits, allowed, false)?;
        Ok((drawn.token, drawn.log_prob_of(self.logprobs)))
    }

    /// Append tokens that the host chose; `logprobs` (under the processed law) advance mirostat,
    /// `ln_kept` the global weight. Without them the one stays and the other becomes NaN.
    #[pyo3(signature = (tokens, logprobs=None, ln_kept=None))]
    fn commit(
        &self,
        py: Python<'_>,
        tokens: &Bound<'_, PyAny>,
        logprobs: Option<Vec<f32>>,
        ln_kept: Option<Vec<f32>>,
    ) -> PyRes<()> {
        let tokens = tokens_of(tokens, "tokens")?;
        for (what, given) in [("logprobs", &logprobs), ("ln_kept", &ln_kept)] {
            if given.as_ref().is_some_and(|l| l.len() != tokens.len()) {
                return Err(input(py, what, format!("must be {} numbers", tokens.len())));
            }
        }
        self.with(py, |s| {
            for (i, &t) in tokens.iter().enumerate() {
                let at = |known: &Option<Vec<f32>>| known.as_ref().map_or(f32::NAN, |l| l[i]);
                s.commit_known(t, at(&logprobs), at(&ln_kept));
            }
            Ok(())
        })
    }

    /// Take back the last `n` tokens; not into the prompt (`StateError`).
    fn rollback(&self, py: Python<'_>, n: usize) -> PyRes<()> {
        self.with(py, |s| s.rollback(n))
    }

    /// Make the text equal `tokens` (prompt included): common prefix, roll back, extend.
    fn sync(&self, py: Python<'_>, tokens: &Bound<'_, PyAny>) -> PyRes<()> {
        let tokens = tokens_of(tokens, "tokens")?;
        self.with(py, |s| s.sync(&tokens))
    }

    /// Back to the prompt.
    fn reset(&self, py: Python<'_>) -> PyRes<()> {
        self.with(py, Session::reset)
    }

    /// An independent copy with the same seed and branch.
    fn fork(&self, py: Python<'_>) -> PyRes<Self> {
        let session = self.with(py, |s| Ok(s.clone()))?;
        let inner = Mutex::new((session, ScaledRow::new()));
        Ok(Self { inner, draw: self.draw, logprobs: self.logprobs, detail: self.detail })
    }

    fn __len__(&self, py: Python<'_>) -> PyRes<usize> {
        self.with(py, |s| Ok(s.len()))
    }

    /// The text, prompt included: int32 array.
    #[getter]
    fn tokens<'py>(&self, py: Python<'py>) -> PyRes<Ints<'py>> {
        let tokens = self.with(py, |s| Ok(s.history().iter().map(|t| t as i32).collect()))?;
        Ok(array(py, tokens))
    }

    /// Mirostat's running target in bits, or None.
    #[getter]
    fn mu(&self, py: Python<'_>) -> PyRes<Option<f32>> {
        self.with(py, |s| Ok(s.mu()))
    }

    /// Sum of ln Z_t over the generated tokens, or None unless `start(weighed=True)`; NaN after a
    /// token whose kept mass is unknown.
    #[getter]
    fn log_global_weight(&self, py: Python<'_>) -> PyRes<Option<f64>> {
        self.with(py, |s| Ok(s.log_global_weight()))
    }
}

impl PySampler {
    fn draw_one(
        &self,
        py: Python<'_>,
        row: &Bound<'_, PyAny>,
        allowed: Option<&Bound<'_, PyAny>>,
        append: bool,
    ) -> PyRes<Drawn> {
        let foreign = logits(row, "logits")?;
        let view = foreign.logits()?;
        if view.rows() != 1 {
            return Err(input(py, "logits", format!("has {} rows; one is expected", view.rows())));
        }
        let allowed = Allowed::new(allowed, 1, view.vocab())?;
        guard(py, || {
            let mut state = lock(&self.inner, "sampler")?;
            let (session, scaled) = &mut *state;
            let drawn = session.sample(
                view.row(0),
                allowed.as_ref().map(|a| a.row(0)),
                (Hyper::default(), &[]),
                (self.draw, self.detail),
                scaled,
            )?;
            if append {
                session.commit_drawn(&drawn);
            }
            Ok(drawn)
        })
    }
}

/// Allows the tokens that are compatible with given bytes, then everything.
#[pyclass(frozen, name = "Heal", module = "trivium.sampling")]
pub(crate) struct PyHeal {
    inner: Mutex<Heal>,
}

impl PyHeal {
    pub(crate) fn constraint(&self, py: Python<'_>) -> PyRes<Box<dyn Constraint>> {
        attached(py, || Ok(lock(&self.inner, "heal")?.fork()))
    }
}

#[pymethods]
impl PyHeal {
    #[new]
    fn new(vocab: &Bound<'_, PyAny>, bytes: &[u8]) -> PyRes<Self> {
        Ok(Self { inner: Mutex::new(Heal::new(vocab_of(vocab)?, bytes)) })
    }

    /// Write the packed row of allowed next tokens: int32 words, 1 = allowed.
    fn fill(&self, py: Python<'_>, row: &Bound<'_, PyAny>) -> PyRes<()> {
        let foreign = Foreign::new(row, "row")?;
        let (words, width) = foreign.words_mut()?;
        attached(py, || {
            let heal = lock(&self.inner, "heal")?;
            if words.len() != width || width != heal.num_rows().div_ceil(32) {
                let want = heal.num_rows().div_ceil(32);
                return Err(Error::input("row", format!("has {width} words; {want} are expected")));
            }
            heal.fill(words)
        })
    }

    /// Advance by one token; False (and no change) if it is not allowed.
    fn commit(&self, py: Python<'_>, token: i64) -> PyRes<bool> {
        attached(py, || {
            let mut heal = lock(&self.inner, "heal")?;
            let width = heal.num_rows();
            heal.commit(ids::check_id(token, width)?)
        })
    }

    /// Take back the last `n` tokens.
    fn rollback(&self, py: Python<'_>, n: usize) -> PyRes<()> {
        attached(py, || lock(&self.inner, "heal")?.rollback(n))
    }

    /// An independent copy.
    fn fork(&self, py: Python<'_>) -> PyRes<Self> {
        attached(py, || Ok(Self { inner: Mutex::new(lock(&self.inner, "heal")?.clone()) }))
    }

    fn __len__(&self, py: Python<'_>) -> PyRes<usize> {
        attached(py, || Ok(lock(&self.inner, "heal")?.len()))
    }

    /// Bytes that are still to come.
    #[getter]
    fn remaining<'py>(&self, py: Python<'py>) -> PyRes<Bound<'py, PyBytes>> {
        let rest = attached(py, || Ok(lock(&self.inner, "heal")?.remaining().to_vec()))?;
        Ok(PyBytes::new(py, &rest))
    }
}

fn vocab_of(object: &Bound<'_, PyAny>) -> PyRes<Arc<Vocabulary>> {
    let core = object.getattr("_core").unwrap_or_else(|_| object.clone());
    match core.cast::<PyVocabulary>() {
        Ok(vocab) => Ok(vocab.get().inner.clone()),
        Err(_) => Err(input(object.py(), "vocab", "must be a trivium.Vocabulary")),
    }
}

/// Number of prompt tokens up to the last boundary that no token of the vocabulary can cross.
#[pyfunction]
pub(crate) fn back_off(
    py: Python<'_>,
    vocab: &Bound<'_, PyAny>,
    prompt: &Bound<'_, PyAny>,
) -> PyRes<usize> {
    let vocab = vocab_of(vocab)?;
    let prompt = tokens_of(prompt, "prompt_ids")?;
    guard(py, || Ok(heal::back_off(&vocab, &prompt)))
}

/// All covers of `data`: (tokens, ln probability); `law(path)` gives log-probabilities.
#[pyfunction]
pub(crate) fn covers(
    py: Python<'_>,
    vocab: &Bound<'_, PyAny>,
    data: &[u8],
    law: &Bound<'_, PyAny>,
    max_covers: usize,
) -> PyRes<Vec<(Vec<TokenId>, f64)>> {
    let vocab = vocab_of(vocab)?;
    let mut raised = None;
    let found = heal::covers(&vocab, data, max_covers, &mut |path| {
        law.call1((path.to_vec(),)).and_then(|row| row.extract::<Vec<f64>>()).map_err(|e| {
            raised = Some(e);
            Error::input("law", "raised")
        })
    });
    match raised {
        Some(e) => Err(e),
        None => found.or_raise(py),
    }
}

/// (copies, symbols a copy) at the end of a sequence.
#[pyfunction]
pub(crate) fn repeats(py: Python<'_>, symbols: &Bound<'_, PyAny>) -> PyRes<(usize, usize)> {
    let symbols = tokens_of(symbols, "symbols")?;
    guard(py, || {
        let found = repeat::repeats(&symbols);
        Ok((found.count, found.period))
    })
}

/// Perturbed log-probabilities of children under their parent's.
#[pyfunction]
pub(crate) fn conditional_maxima<'py>(
    py: Python<'py>,
    logprobs: Vec<f64>,
    maximum: f64,
    seed: u64,
    index: u32,
    branch: u32,
) -> PyRes<Bound<'py, PyArray1<f64>>> {
    if !maximum.is_finite() {
        return Err(input(py, "maximum", format!("{maximum} is not finite")));
    }
    if logprobs.iter().any(|x| x.is_nan() || *x == f64::INFINITY) {
        return Err(input(py, "logprobs", "hold NaN or +inf"));
    }
    let mut out = Vec::new();
    maxima::conditional(&logprobs, maximum, Address::new(seed, index, branch), &mut out);
    Ok(array(py, out))
}

/// The target law of a request that starts with this pipeline.
pub(crate) fn law_of(
    object: &Bound<'_, PyAny>,
    prompt: &[TokenId],
    seed: u64,
    branch: u32,
) -> PyRes<Box<dyn TargetLaw>> {
    let py = object.py();
    // The public class holds the extension's object.
    let core = object.getattr("_core").unwrap_or_else(|_| object.clone());
    let Ok(pipeline) = core.cast::<PyPipeline>() else {
        return Err(input(py, "pipeline", "must be a trivium.sampling.Pipeline"));
    };
    let session = Session::new(pipeline.get().inner.clone(), prompt, seed, branch);
    session.check_target().or_raise(py)?;
    Ok(Box::new(session))
}
