//! `Voter`: a pool of questions, one-off votes over lists, and replays of recorded keys.

use crate::errors::{OrRaise, PyRes, input};
use crate::guard::{attached, guard, lock};
use numpy::{PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::{PyBytes, PyDict};
use std::sync::Mutex;
use trivium_core::{Error, Result};
use trivium_vote::{
    Abstain, Action, End, Fallback, KeyOptions, Latency, OpenOptions, Outcome, Percent, Reason,
    Recorded, Replay, Said, TokenBatch, VoterConfig, stops::best::Known,
    weights::reliability::Labelled,
};

/// Configuration as it crosses the border; names and ranges are checked by the crate.
#[allow(clippy::struct_excessive_bools, reason = "options by name")]
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Config {
    key: String,
    delimiters: Option<Vec<(String, Option<String>)>>,
    fallback: String,
    percent: String,
    letters: String,
    options: Vec<String>,
    weight: String,
    log_odds: Vec<f64>,
    window: u32,
    prune: Vec<String>,
    finish_on_answer: bool,
    probe: Option<String>,
    steps: String,
    accept: Option<f64>,
    fork: Option<String>,
    count_late: bool,
    max_tokens: Option<u64>,
    pool: String,
    slots: Option<u32>,
    total: Option<u64>,
    total_tokens: Option<u64>,
    log: bool,
    unchecked: bool,
    abstain: (f64, f64, u32, f64),
    stop: Vec<String>,
    budget: u32,
    ties: String,
    seed: u64,
    order: String,
    latency: Option<f64>,
    bare: bool,
}

impl Config {
    fn build(self) -> Result<VoterConfig> {
        let fallback = match self.fallback.as_str() {
            "off" => Fallback::Off,
            "first" => Fallback::First,
            "last" => Fallback::Last,
            other => {
                return Err(Error::input(
                    "fallback",
                    format!("{other:?} is not off, first or last"),
                ));
            }
        };
        let percent = match self.percent.as_str() {
            "strip" => Percent::Strip,
            "scale" => Percent::Scale,
            other => {
                return Err(Error::input("percent", format!("{other:?} is not strip or scale")));
            }
        };
        Ok(VoterConfig {
            key: self.key,
            key_options: KeyOptions {
                delimiters: self.delimiters,
                fallback,
                percent,
                letters: self.letters,
                options: self.options,
            },
            weight: self.weight,
            log_odds: self.log_odds,
            window: self.window,
            prune: self.prune,
            finish_on_answer: self.finish_on_answer,
            probe: self.probe,
            steps: self.steps,
            accept: self.accept,
            fork: self.fork,
            count_late: self.count_late,
            max_tokens: self.max_tokens,
            pool: self.pool,
            slots: self.slots,
            total: self.total,
            total_tokens: self.total_tokens,
            log: self.log,
            unchecked: self.unchecked,
            abstain: Abstain {
                min_share: self.abstain.0,
                min_margin: self.abstain.1,
                min_ballots: self.abstain.2,
                min_cast_rate: 1.0 - self.abstain.3,
            },
            stop: self.stop,
            budget: self.budget,
            ties: self.ties,
            seed: self.seed,
            order: self.order,
            latency: self.latency.map_or(Latency::Max, Latency::Factor),
            bare: self.bare,
        })
    }
}

fn said<'a>(text: Option<&'a str>, answer: Option<&'a str>) -> Said<'a> {
    match (text, answer) {
        (Some(text), _) => Said::Text(text),
        (None, Some(answer)) => Said::Answer(answer),
        (None, None) => Said::Nothing,
    }
}

fn outcome<'py>(py: Python<'py>, outcome: &Outcome) -> PyRes<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    let tally: Vec<_> = outcome.tally.iter().map(|r| (r.key.as_str(), r.count, r.weight)).collect();
    let cost = outcome.cost;
    dict.set_item("question", &outcome.question)?;
    dict.set_item("winner", outcome.winner.as_deref())?;
    dict.set_item("answer", outcome.answer.as_deref())?;
    dict.set_item("trace", outcome.trace)?;
    dict.set_item("p_mode", outcome.p_mode)?;
    dict.set_item("share", outcome.share)?;
    dict.set_item("margin", outcome.margin)?;
    dict.set_item("tally", tally)?;
    dict.set_item("num_tied", outcome.num_tied)?;
    dict.set_item("tied", outcome.tied.clone())?;
    dict.set_item("abstain_reason", outcome.abstained)?;
    dict.set_item("p_final", outcome.p_final)?;
    dict.set_item("entropy", outcome.entropy)?;
    dict.set_item("num_cast", outcome.num_cast)?;
    dict.set_item("num_none", outcome.num_none)?;
    dict.set_item("stop_reason", outcome.stop.as_ref().map(ToString::to_string))?;
    dict.set_item("provisional", outcome.provisional.clone())?;
    dict.set_item("cost", (cost.samples, cost.launched, cost.cancelled, cost.late, cost.tokens))?;
    dict.set_item("policy", &outcome.policy)?;
    dict.set_item("seed", outcome.seed)?;
    Ok(dict)
}

/// Actions with the ids of their questions.
type Named = Vec<(Action, String)>;

fn named(voter: &trivium_vote::Voter, actions: Vec<Action>) -> Named {
    let with_id = |action: Action| {
        let (Action::Launch { question, .. }
        | Action::Fork { question, .. }
        | Action::Regenerate { question, .. }
        | Action::Cancel { question, .. }
        | Action::Done { question, .. }) = &action;
        let id = voter.id(*question as i64).unwrap_or_default().to_owned();
        (action, id)
    };
    actions.into_iter().map(with_id).collect()
}

fn actions<'py>(py: Python<'py>, actions: &Named) -> PyRes<Vec<Bound<'py, PyAny>>> {
    let one = |(action, id): &(Action, String)| -> PyRes<Bound<'py, PyAny>> {
        Ok(match action {
            Action::Launch { question, first, num } => {
                ("launch", *question, id, (*first, *num)).into_pyobject(py)?.into_any()
            }
            Action::Fork { question, trace, first, num } => {
                ("fork", *question, id, (*trace, *first, *num)).into_pyobject(py)?.into_any()
            }
            Action::Regenerate { question, trace } => {
                ("regenerate", *question, id, *trace).into_pyobject(py)?.into_any()
            }
            Action::Cancel { question, traces } => {
                ("cancel", *question, id, traces.clone()).into_pyobject(py)?.into_any()
            }
            Action::Done { question, outcome: result } => {
                ("done", *question, id, outcome(py, result)?).into_pyobject(py)?.into_any()
            }
        })
    };
    actions.iter().map(one).collect()
}

fn floats<'a>(
    py: Python<'_>,
    what: &str,
    array: Option<&'a PyReadonlyArray1<'_, f64>>,
) -> PyRes<&'a [f64]> {
    let Some(array) = array else { return Ok(&[]) };
    array.as_slice().map_err(|_| input(py, what, "must be contiguous"))
}

/// Ballots as source and key, number of keys, right keys.
type LabelledQuestion = (Vec<(u32, Option<u32>)>, u32, Vec<u32>);

fn labelled(questions: Vec<LabelledQuestion>) -> Vec<Labelled> {
    let read = |(votes, num_keys, right): LabelledQuestion| Labelled {
        votes,
        num_keys,
        right: (0..num_keys).map(|key| right.contains(&key)).collect(),
    };
    questions.into_iter().map(read).collect()
}

/// A pool of questions under one policy.
#[pyclass(frozen, name = "Voter", module = "trivium._core")]
pub(crate) struct PyVoter {
    inner: Mutex<trivium_vote::Voter>,
}

impl PyVoter {
    fn with<T>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut trivium_vote::Voter) -> Result<T>,
    ) -> PyRes<T> {
        attached(py, || work(&mut *lock(&self.inner, "voter")?))
    }

    /// An event and the actions it causes.
    fn event<'py>(
        &self,
        py: Python<'py>,
        work: impl FnOnce(&mut trivium_vote::Voter) -> Result<Vec<Action>>,
    ) -> PyRes<Vec<Bound<'py, PyAny>>> {
        let done = self.with(py, |voter| {
            let done = work(voter)?;
            Ok(named(voter, done))
        })?;
        actions(py, &done)
    }
}

#[pymethods]
impl PyVoter {
    #[new]
    fn new(py: Python<'_>, config: Config) -> PyRes<Self> {
        let inner = guard(py, || trivium_vote::Voter::new(config.build()?))?;
        Ok(Self { inner: Mutex::new(inner) })
    }

    #[allow(clippy::too_many_arguments)] // what a question may have of its own
    fn open(
        &self,
        py: Python<'_>,
        id: &str,
        budget: Option<u32>,
        seed: Option<u64>,
        max_tokens: Option<u64>,
        deadline: Option<f64>,
        difficulty: Option<f64>,
        chance: Option<f64>,
    ) -> PyRes<u64> {
        let options = OpenOptions { budget, seed, max_tokens, deadline, difficulty, chance };
        self.with(py, |voter| voter.open(id, options))
    }

    fn id(&self, py: Python<'_>, question: i64) -> PyRes<String> {
        self.with(py, |voter| voter.id(question).map(str::to_owned))
    }

    fn fork<'py>(
        &self,
        py: Python<'py>,
        question: i64,
        trace: i64,
        num: u32,
    ) -> PyRes<Vec<Bound<'py, PyAny>>> {
        self.event(py, |voter| voter.fork(question, trace, num))
    }

    fn text<'py>(
        &self,
        py: Python<'py>,
        question: i64,
        trace: i64,
        chunk: &str,
    ) -> PyRes<Vec<Bound<'py, PyAny>>> {
        self.event(py, |voter| voter.text(question, trace, chunk))
    }

    fn probe<'py>(
        &self,
        py: Python<'py>,
        question: i64,
        trace: i64,
        text: Option<&str>,
        answer: Option<&str>,
    ) -> PyRes<Vec<Bound<'py, PyAny>>> {
        self.event(py, |voter| voter.probe(question, trace, said(text, answer)))
    }

    fn segment<'py>(
        &self,
        py: Python<'py>,
        question: i64,
        trace: i64,
        reward: f64,
    ) -> PyRes<Vec<Bound<'py, PyAny>>> {
        self.event(py, |voter| voter.segment(question, trace, reward))
    }

    fn expire<'py>(&self, py: Python<'py>, now: f64) -> PyRes<Vec<Bound<'py, PyAny>>> {
        self.event(py, |voter| voter.expire(now))
    }

    fn find(&self, py: Python<'_>, id: &str) -> PyRes<u64> {
        self.with(py, |voter| voter.find(id))
    }

    fn launches<'py>(&self, py: Python<'py>) -> PyRes<Vec<Bound<'py, PyAny>>> {
        self.event(py, |voter| Ok(voter.launches()))
    }

    fn launch<'py>(&self, py: Python<'py>, question: i64) -> PyRes<Vec<Bound<'py, PyAny>>> {
        self.event(py, |voter| voter.launch(question))
    }

    #[allow(clippy::needless_pass_by_value)] // how pyo3 hands over arrays
    fn tokens<'py>(
        &self,
        py: Python<'py>,
        questions: PyReadonlyArray1<'py, i64>,
        traces: PyReadonlyArray1<'py, i64>,
        logprobs: Option<PyReadonlyArray1<'py, f64>>,
        confs: Option<PyReadonlyArray1<'py, f64>>,
        ids: Option<PyReadonlyArray1<'py, i64>>,
        entropies: Option<PyReadonlyArray1<'py, f64>>,
    ) -> PyRes<Vec<Bound<'py, PyAny>>> {
        let whole = |what, array| floats(py, what, array);
        let (logprobs, confs) = (whole("lps", logprobs.as_ref())?, whole("conf", confs.as_ref())?);
        let entropies = whole("entropy", entropies.as_ref())?;
        let bad = |_| input(py, "qs, ts, ids", "must be contiguous");
        let (questions, traces) =
            (questions.as_slice().map_err(bad)?, traces.as_slice().map_err(bad)?);
        let ids = ids.as_ref().map_or(Ok(&[][..]), |ids| ids.as_slice().map_err(bad))?;
        let batch = TokenBatch { questions, traces, logprobs, confs, ids, entropies };
        let inner = &self.inner;
        let done = guard(py, || {
            let voter = &mut *lock(inner, "voter")?;
            let done = voter.tokens(batch)?;
            Ok(named(voter, done))
        })?;
        actions(py, &done)
    }

    #[allow(clippy::too_many_arguments)] // one event with its fields
    fn finish<'py>(
        &self,
        py: Python<'py>,
        question: i64,
        trace: i64,
        text: Option<&str>,
        answer: Option<&str>,
        reason: &str,
        sum_logprob: Option<f64>,
        num_tokens: Option<u64>,
        reward: Option<f64>,
        confidence: Option<f64>,
        entropy: Option<f64>,
        source: Option<u32>,
        weight: Option<f64>,
    ) -> PyRes<Vec<Bound<'py, PyAny>>> {
        let reason = Reason::parse(reason).or_raise(py)?;
        let said = said(text, answer);
        let end = End {
            said,
            reason,
            sum_logprob,
            num_tokens,
            reward,
            confidence,
            entropy,
            source,
            weight,
        };
        self.event(py, |voter| voter.finish(question, trace, end))
    }

    #[allow(clippy::needless_pass_by_value)] // how pyo3 hands over arrays
    fn finish_batch<'py>(
        &self,
        py: Python<'py>,
        questions: PyReadonlyArray1<'py, i64>,
        traces: PyReadonlyArray1<'py, i64>,
        said: Vec<Option<PyBackedStr>>,
        whole: bool,
    ) -> PyRes<Vec<Bound<'py, PyAny>>> {
        let bad = |_| input(py, "qs, ts", "must be contiguous");
        let (questions, traces) =
            (questions.as_slice().map_err(bad)?, traces.as_slice().map_err(bad)?);
        if questions.len() != traces.len() || questions.len() != said.len() {
            return Err(input(py, "qs, ts", "need one entry an answer"));
        }
        self.event(py, |voter| {
            let list: Vec<_> = (said.iter().enumerate())
                .map(|(i, text)| {
                    let said = match text.as_deref() {
                        None => Said::Nothing,
                        Some(text) if whole => Said::Text(text),
                        Some(text) => Said::Answer(text),
                    };
                    (questions[i], traces[i], said)
                })
                .collect();
            voter.finish_batch(&list)
        })
    }

    fn close<'py>(&self, py: Python<'py>, question: i64) -> PyRes<Vec<Bound<'py, PyAny>>> {
        self.event(py, |voter| voter.close(question))
    }

    fn forget(&self, py: Python<'_>, question: i64) -> PyRes<()> {
        self.with(py, |voter| voter.forget(question))
    }

    fn result<'py>(&self, py: Python<'py>, question: i64) -> PyRes<Bound<'py, PyDict>> {
        outcome(py, &self.with(py, |voter| voter.result(question))?)
    }

    fn log<'py>(&self, py: Python<'py>, question: i64) -> PyRes<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &self.with(py, |voter| voter.log(question))?))
    }

    #[staticmethod]
    fn replay<'py>(py: Python<'py>, data: &[u8]) -> PyRes<Bound<'py, PyDict>> {
        outcome(py, &guard(py, || trivium_vote::Voter::replay(data))?)
    }

    fn key_of(
        &self,
        py: Python<'_>,
        text: Option<&str>,
        answer: Option<&str>,
        cut: bool,
    ) -> PyRes<Option<String>> {
        self.with(py, |voter| {
            Ok(voter.policy().key().read(said(text, answer), cut).map(|keyed| keyed.key))
        })
    }

    /// Raises unless a trace is running.
    fn check_running(&self, py: Python<'_>, question: i64, trace: i64) -> PyRes<()> {
        self.with(py, |voter| voter.running(question, trace).map(drop))
    }

    /// The best of free-form candidates by minimum Bayes risk: its index, mean scores (or, pruned, the
    /// best one's score alone), and the number of utilities evaluated.
    #[staticmethod]
    #[allow(clippy::needless_pass_by_value)] // owned, so that the interpreter can be released
    fn mbr(
        py: Python<'_>,
        texts: Vec<String>,
        weights: Vec<f64>,
        utility: &str,
        pruning: Option<(f64, u32, usize, u64)>,
    ) -> PyRes<(usize, Vec<f64>, usize)> {
        use trivium_vote::mbr::{Prepared, Utility, mbr as exact, prune};
        guard(py, || {
            let list: Vec<&str> = texts.iter().map(String::as_str).collect();
            let utility = Utility::parse(utility)?;
            match pruning {
                None => {
                    let (best, scores) = exact(&list, &weights, utility)?;
                    Ok((best, scores, list.len() * list.len()))
                }
                Some((alpha, resamples, references, seed)) => {
                    let how = prune::Pruning { alpha, resamples, references, seed };
                    let found = prune::prune(&Prepared::new(&list, &weights, utility)?, how);
                    Ok((found.best, vec![found.score], found.calls))
                }
            }
        })
    }

    /// Expected accuracy of votes over `k` random samples of a question, by `k`.
    #[staticmethod]
    #[allow(clippy::needless_pass_by_value)] // how pyo3 hands over lists
    fn majority_at(gold: u32, others: Vec<u32>, none: u32, ks: Vec<u32>) -> Vec<f64> {
        ks.iter().map(|&k| trivium_vote::calibrate::majority_at(gold, &others, none, k)).collect()
    }

    #[staticmethod]
    #[allow(clippy::needless_pass_by_value)] // how pyo3 hands over lists
    fn allocate(chances: Vec<f64>, budget: u32) -> Vec<u32> {
        trivium_vote::calibrate::allocate(&chances, budget)
    }

    #[staticmethod]
    #[allow(clippy::needless_pass_by_value)] // how pyo3 hands over lists
    fn isotonic(scores: Vec<f64>, labels: Vec<f64>) -> Vec<f64> {
        trivium_vote::calibrate::isotonic(&scores, &labels)
    }

    #[staticmethod]
    #[allow(clippy::needless_pass_by_value)] // how pyo3 hands over lists
    fn controlled_threshold(
        labelled: Vec<(f64, bool)>,
        candidates: Vec<f64>,
        target: f64,
        delta: f64,
    ) -> Option<f64> {
        trivium_vote::calibrate::controlled_threshold(&labelled, &candidates, target, delta)
    }

    /// Winner, sums by key and whether no remaining step can change the winner, of denoising steps.
    #[staticmethod]
    #[allow(clippy::needless_pass_by_value)] // how pyo3 hands over lists
    fn temporal_vote(
        keys: Vec<Option<u32>>,
        steps: usize,
        weight: &str,
        alpha: f64,
    ) -> (Option<u32>, Vec<(u32, f64)>, bool) {
        use trivium_vote::temporal::{StepWeight, sums, vote};
        let weight = match weight {
            "fixed" => StepWeight::Fixed,
            "linear" => StepWeight::Linear,
            _ => StepWeight::Exponential(alpha),
        };
        let (winner, decided) = vote(&keys, steps, weight);
        (winner, sums(&keys, steps, weight), decided)
    }

    #[staticmethod]
    #[allow(clippy::needless_pass_by_value)] // how pyo3 hands over lists
    fn temporal_entropy(keys: Vec<Option<u32>>) -> (f64, f64) {
        trivium_vote::temporal::entropy(&keys)
    }

    #[staticmethod]
    #[allow(clippy::needless_pass_by_value)] // how pyo3 hands over lists
    fn token_cover(
        sets: Vec<Vec<u32>>,
        confidences: Vec<f64>,
        gamma: f64,
        k_min: usize,
    ) -> Vec<usize> {
        trivium_vote::cover::keep(&sets, &confidences, gamma, k_min)
    }

    /// Expected samples, risk over the run and published risk of a window.
    #[staticmethod]
    #[allow(clippy::needless_pass_by_value)] // how pyo3 hands over lists
    fn window_cost(shares: Vec<f64>, window: u32, budget: u32) -> (f64, f64, f64) {
        use trivium_vote::stops::esc::{affected, affected_normal, expected_samples};
        let samples = expected_samples(&shares, window, budget);
        (samples, affected(&shares, window, budget).1, affected_normal(&shares, window))
    }

    /// Weights of sources from labelled questions `(ballots, number of keys, right keys)`, learned
    /// jointly.
    #[staticmethod]
    fn learn_jointly(
        py: Python<'_>,
        questions: Vec<LabelledQuestion>,
        sources: usize,
        ridge: f64,
    ) -> PyRes<Vec<f64>> {
        guard(py, || {
            let questions = labelled(questions);
            Ok(trivium_vote::weights::logit::learn_jointly(&questions, sources, ridge))
        })
    }

    /// Weights of sources from votes alone, by expectation-maximisation.
    #[staticmethod]
    fn learn_unlabelled(
        py: Python<'_>,
        questions: Vec<LabelledQuestion>,
        sources: usize,
        rounds: u32,
    ) -> PyRes<Vec<f64>> {
        guard(py, || {
            let questions = labelled(questions);
            Ok(trivium_vote::weights::reliability::learn_unlabelled(&questions, sources, rounds))
        })
    }

    /// `G(y | correct)` and `D(correct | y)` at the equilibrium.
    #[staticmethod]
    #[allow(clippy::needless_pass_by_value)] // how pyo3 hands over lists
    fn consensus_game(
        correct: Vec<f64>,
        incorrect: Vec<f64>,
        verdict: Vec<f64>,
        eta: f64,
        prior: f64,
        rounds: u32,
    ) -> (Vec<f64>, Vec<f64>) {
        let end = trivium_vote::game::play(&correct, &incorrect, &verdict, eta, prior, rounds);
        (end.generator, end.discriminator)
    }

    fn memory(&self, py: Python<'_>) -> PyRes<usize> {
        self.with(py, |voter| Ok(voter.memory()))
    }

    fn __len__(&self) -> PyRes<usize> {
        Python::attach(|py| self.with(py, |voter| Ok(voter.len())))
    }
}

/// The majority of a list of answers.
#[pyfunction]
#[pyo3(name = "vote")]
#[allow(clippy::needless_pass_by_value)] // owned, so that the interpreter can be released
pub(crate) fn vote_list(
    py: Python<'_>,
    answers: Vec<Option<String>>,
    config: Config,
) -> PyRes<Bound<'_, PyDict>> {
    let result = guard(py, || {
        let said: Vec<_> = answers.iter().map(|answer| said(None, answer.as_deref())).collect();
        trivium_vote::vote(&said, config.build()?)
    })?;
    outcome(py, &result)
}

type Table<'py> = Bound<'py, PyArray2<i64>>;

/// Winners (-1: none) and samples used, `[policies, rows]`, of policies on recorded votes: keys
/// `[rows, traces]` in launch order (-1: abstention), and statistics of the same shape by name. Rows
/// are orders of one question; `known` is what the call for the question before returned as the last
/// value, empty for the first: what each policy has learned in each order.
#[pyfunction]
#[allow(clippy::needless_pass_by_value)] // how pyo3 hands over arrays
pub(crate) fn replay_keys<'py>(
    py: Python<'py>,
    keys: PyReadonlyArray2<'py, i64>,
    rules: Vec<String>,
    budget: u32,
    statistics: std::collections::BTreeMap<String, PyReadonlyArray2<'py, f64>>,
    known: Vec<Vec<i64>>,
) -> PyRes<(Table<'py>, Table<'py>, Vec<Vec<i64>>)> {
    let [rows, width] = [keys.as_array().nrows(), keys.as_array().ncols()];
    let flat = keys.as_slice().map_err(|_| input(py, "keys", "must be contiguous"))?;
    let mut named: Vec<(&str, &[f64])> = Vec::new();
    for (name, array) in &statistics {
        let whole = array.as_slice().map_err(|_| input(py, name, "must be contiguous"))?;
        if whole.len() != rows * width {
            return Err(input(py, name, "needs the shape of keys"));
        }
        named.push((name, whole));
    }
    let shape = [rules.len(), rows];
    let (winners, used, known) = guard(py, || {
        let policies =
            rules.iter().map(|rule| Replay::new(rule, budget)).collect::<Result<Vec<_>>>()?;
        let mut results = (Vec::new(), Vec::new(), Vec::new());
        let keys: Vec<_> = flat.iter().map(|&key| u32::try_from(key).ok()).collect();
        for policy in policies {
            for row in 0..rows {
                let span = row * width..(row + 1) * width;
                let of = |name: &str| {
                    let found = named.iter().find(|(known, _)| *known == name);
                    found.map_or(&[][..], |(_, values)| &values[span.clone()])
                };
                let record = Recorded {
                    keys: &keys[span.clone()],
                    lengths: of("n"),
                    logprobs: of("lp"),
                    tokens: of("nt"),
                    rewards: of("r"),
                    odds: of("odds"),
                    learned: of("learned"),
                    paths: of("v"),
                };
                let before = known.get(results.2.len()).map_or(&[][..], Vec::as_slice);
                let mut learned = Known::from_list(before);
                let (winner, used) = policy.run_knowing(record, &mut learned)?;
                results.2.push(learned.to_list());
                results.0.push(winner.map_or(-1, i64::from));
                results.1.push(i64::from(used));
            }
        }
        Ok(results)
    })?;
    let array = |data| PyArray1::from_vec(py, data).reshape(shape);
    Ok((array(winners)?, array(used)?, known))
}
