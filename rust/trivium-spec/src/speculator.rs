//! The speculator: shared stores, calibration and cost, over requests that the caller owns.

use crate::calibration::Calibration;
use crate::control::steering::Steering;
use crate::control::{ControlSpec, Controller, StepCtx};
use crate::draft::mixture::{MAX_SLOTS, Mixture};
use crate::draft::{RequestSource, Saved, SharedSource, TopIds, by_name};
use crate::policy::CostModel;
use crate::request::{Request, RequestOptions};
use crate::tree::TreeBatch;
use crate::tree::builder::{Limits, Scratch, grow};
use crate::verify::{Label, Rows, SampledIds, Verified, VerifierChoice, sampled};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use trivium_core::error::{Error, Result};
use trivium_core::logits::LogitsBatch;
use trivium_core::{Address, Chance, TargetLaw, TokenId, ids};

/// How the size of a tree is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Policy {
    /// The prefix that the host's timings say pays best; the whole budget until there are timings.
    #[default]
    Auto,
    /// The whole budget.
    Full,
    /// What a controller chooses within the budget.
    Control(ControlSpec),
}

impl std::fmt::Display for Policy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Full => f.write_str("full"),
            Self::Control(spec) => spec.fmt(f),
        }
    }
}

impl std::str::FromStr for Policy {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(Self::Auto),
            "full" => Ok(Self::Full),
            other => other.parse().map(Self::Control),
        }
    }
}

/// Configuration, plain data.
#[derive(Debug, Clone, PartialEq)]
pub struct SpeculatorConfig {
    /// Width of the logits; ids are below it.
    pub vocab_size: usize,
    /// Names of draft sources; empty drafts nothing.
    pub sources: Vec<String>,
    /// Largest tree of a request, node 0 counted.
    pub max_nodes: usize,
    /// Deepest drafted node.
    pub max_depth: usize,
    /// Tree size policy.
    pub policy: Policy,
    /// Seed of requests that bring none.
    pub seed: u64,
    /// Bytes of shared text stores a tenant.
    pub max_bytes: usize,
}

/// Counters since construction.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stats {
    /// Committed verifications, one a request and step.
    pub steps: u64,
    /// Tokens committed by them.
    pub tokens: u64,
    /// Drafted nodes verified.
    pub drafted: u64,
    /// Of these, accepted.
    pub accepted: u64,
    /// By source name: nodes whose parent was reached, and how many were accepted. Under `constraint`
    /// those that spell text which the requests' constraints force.
    pub sources: BTreeMap<String, (u64, u64)>,
    /// See `sources`; it is there once it is not 0.
    constraint: (u64, u64),
    /// Estimates against outcomes.
    pub calibration: Calibration,
}

#[derive(Debug)]
struct Learned {
    /// Shared with proposals in progress; copied only if one is.
    mixture: Arc<Mixture>,
    /// As the mixture.
    cost: Arc<CostModel>,
    /// Without the counts by source.
    stats: Stats,
    /// Counts of [`Stats::sources`] by index.
    by_source: Vec<(u64, u64)>,
    /// What later requests start from.
    control: Option<Box<dyn Controller>>,
}

/// Shared stores and what was learned about them. `Send + Sync`; requests are separate.
#[derive(Debug)]
pub struct Speculator {
    config: SpeculatorConfig,
    sources: Vec<Box<dyn SharedSource>>,
    /// First slot of each source in the mixture.
    first_slots: Vec<u8>,
    learned: Mutex<Learned>,
    next_id: AtomicU64,
    /// Working memory of proposals that are not running.
    idle: Mutex<Vec<Scratch>>,
}

/// Largest budget of a tree: parents are small integers in every consumer.
pub const MAX_NODES: usize = 4096;

impl Speculator {
    /// Builds the stores.
    ///
    /// # Errors
    /// `InvalidInput` for budgets out of range, `Unsupported` for unknown sources.
    pub fn new(config: SpeculatorConfig) -> Result<Self> {
        let range = |what: &str, x: usize, low: usize, high: usize| {
            if (low..=high).contains(&x) {
                Ok(())
            } else {
                Err(Error::input(what, format!("{x} is outside {low}..={high}")))
            }
        };
        range("vocab_size", config.vocab_size, 1, i32::MAX as usize)?;
        range("max_nodes", config.max_nodes, 1, MAX_NODES)?;
        range("max_depth", config.max_depth, 0, MAX_NODES)?;
        let mut sources = config
            .sources
            .iter()
            .map(|name| by_name(name, config.vocab_size, config.max_bytes))
            .collect::<Result<Vec<_>>>()?;
        let names: Vec<&str> = sources.iter().map(|s| s.name()).collect();
        sources.iter_mut().for_each(|s| s.beside(&names));
        let features = features(&sources);
        range("sources (slots)", features.len(), 0, MAX_SLOTS)?;
        let mut first_slots = Vec::with_capacity(sources.len());
        let mut slot = 0;
        for source in &sources {
            first_slots.push(slot);
            slot += source.slots().len() as u8;
        }
        first_slots.push(slot); // the constraint speaks last
        let control = match config.policy {
            Policy::Control(spec) => Some(spec.build()),
            Policy::Auto | Policy::Full => None,
        };
        let by_source = vec![(0, 0); sources.len()];
        Ok(Self {
            config,
            sources,
            first_slots,
            learned: Mutex::new(Learned {
                mixture: Arc::new(Mixture::new(&features)),
                cost: Arc::default(),
                stats: Stats::default(),
                by_source,
                control,
            }),
            next_id: AtomicU64::new(1),
            idle: Mutex::default(),
        })
    }

    /// The configuration.
    pub fn config(&self) -> &SpeculatorConfig {
        &self.config
    }

    fn learned(&self) -> MutexGuard<'_, Learned> {
        self.learned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Scratch>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fresh_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Starts a request on its prompt: about 0.5 microseconds a token.
    ///
    /// # Errors
    /// `InvalidInput` for an empty prompt or a constraint of another width, `OutOfVocabulary`.
    pub fn start(&self, prompt: &[TokenId], options: RequestOptions) -> Result<Request> {
        if prompt.is_empty() {
            return Err(Error::input(
                "prompt_ids",
                "is empty; node 0 is the last committed token, so start with one (for example bos)",
            ));
        }
        ids::check_ids(prompt, self.config.vocab_size)?;
        if let Some(c) = &options.constraint
            && c.num_rows() != self.config.vocab_size
        {
            return Err(Error::input(
                "constraint",
                format!(
                    "masks {} logits, the speculator has {}; set num_rows of its vocabulary",
                    c.num_rows(),
                    self.config.vocab_size
                ),
            ));
        }
        Ok(Request {
            id: self.fresh_id(),
            tokens: prompt.to_vec(),
            prompt_len: prompt.len(),
            seed: options.seed.unwrap_or(self.config.seed),
            branch: options.branch,
            draw: options.draw,
            sources: self.sources.iter().map(|s| s.open(&options.scope, prompt)).collect(),
            constraint: options.constraint,
            initial_law: options.law.as_ref().map(|l| l.fork()),
            law: options.law,
            logprobs: Vec::new(),
            cap: usize::MAX,
            steering: Steering::new(self.learned().control.as_ref().map(|c| c.fresh())),
            vocab: self.config.vocab_size,
            finished: false,
        })
    }

    /// An independent copy of a request.
    pub fn fork(&self, request: &Request) -> Request {
        request.fork_as(self.fresh_id())
    }

    /// Grows one tree a request, together at most `max_total` nodes (node 0s counted).
    ///
    /// # Errors
    /// `StateMismatch` for finished requests, `InvalidInput` if `max_total` leaves no node 0 to
    /// some request; limits of constraints.
    pub fn propose(
        &self,
        requests: &mut [&mut Request],
        max_total: Option<usize>,
    ) -> Result<TreeBatch> {
        for r in requests.iter() {
            r.check_open()?;
        }
        let max_total = max_total.unwrap_or(usize::MAX);
        if max_total < requests.len() {
            return Err(Error::input(
                "max_total",
                format!("{max_total} is below the {} requests; each has node 0", requests.len()),
            ));
        }
        let limits = Limits {
            max_nodes: self.config.max_nodes,
            max_depth: self.config.max_depth,
            max_total,
        };
        let (mixture, cost) = {
            let learned = self.learned();
            (learned.mixture.clone(), learned.cost.clone())
        };
        let load = requests.len();
        let most = max_total.min(load.saturating_mul(self.config.max_nodes));
        let probe = cost.probe(load, most).map(|n| n - load);
        let cut = (self.config.policy == Policy::Auto).then_some((&*cost, probe));
        for r in requests.iter_mut() {
            let noise = Address::new(r.seed, r.tokens.len() as u32, r.branch);
            r.cap = r
                .steering
                .begin(r.tokens.len(), StepCtx { noise, cost: Some(&cost), requests: load });
        }
        let mut scratch = self.idle().pop().unwrap_or_default();
        let batch = grow(requests, (&mixture, &self.first_slots), limits, cut, &mut scratch);
        self.idle().push(scratch);
        batch
    }

    /// Verifies ids that the host sampled, one a row (-1: not computed).
    ///
    /// # Errors
    /// `StateMismatch` if the walk reaches a row of -1 or a request changed since `propose`;
    /// `InvalidInput` for wrong shapes; `OutOfVocabulary`.
    pub fn verify_ids(
        &self,
        batch: &TreeBatch,
        requests: &[&mut Request],
        sampled_ids: &[i64],
        top_ids: Option<(&[i64], usize)>,
    ) -> Result<Verified> {
        check(batch, requests, sampled_ids.len())?;
        let vocab = self.config.vocab_size;
        if let Some((flat, k)) = top_ids {
            if flat.len() != batch.num_nodes() * k {
                return Err(Error::input(
                    "top_ids",
                    format!("{} ids for {} rows", flat.len(), batch.num_nodes()),
                ));
            }
            if let Some(&bad) = flat.iter().find(|&&t| t != -1 && ids::check_id(t, vocab).is_err())
            {
                return Err(Error::OutOfVocabulary { token: bad, vocab });
            }
        }
        let mut out = Verified::new();
        for (b, request) in requests.iter().enumerate() {
            let mut rows = SampledIds { ids: sampled_ids, vocab };
            let tops = |nodes: &[usize]| match top_ids {
                Some((flat, k)) if k > 0 => host_top_ids(batch, b, nodes, flat, k),
                _ => Vec::new(),
            };
            let constraint = request.constraint.as_deref();
            sampled::verify_request(batch, b, &mut rows, tops, constraint, &mut out)?;
        }
        Ok(out)
    }

    /// Verifies logits: the law of each request (its own, or `laws[b]`) is applied along the path
    /// and drawn with the request's noise.
    ///
    /// # Errors
    /// As [`verify_ids`](Self::verify_ids), and for rows with NaN, +inf or nothing allowed.
    pub fn verify_logits(
        &self,
        batch: &TreeBatch,
        requests: &[&mut Request],
        logits: LogitsBatch<'_>,
        laws: &[Box<dyn TargetLaw>],
    ) -> Result<Verified> {
        let rows = Rows { logits, q: None, laws };
        self.verify_rows(batch, requests, rows, VerifierChoice::Auto)
    }

    /// As [`verify_logits`](Self::verify_logits) with the randomness given, one a request: the
    /// entry by which the oracle walks every outcome.
    ///
    /// # Errors
    /// As [`verify_logits`](Self::verify_logits).
    pub fn verify_with(
        &self,
        batch: &TreeBatch,
        requests: &[&mut Request],
        logits: LogitsBatch<'_>,
        laws: &[Box<dyn TargetLaw>],
        chances: &mut [&mut dyn Chance],
    ) -> Result<Verified> {
        let rows = Rows { logits, q: None, laws };
        self.verify_rows_with(batch, requests, rows, VerifierChoice::Auto, chances)
    }

    /// Commits a verification: text, stores, constraints, calibration, statistics.
    ///
    /// # Errors
    /// `StateMismatch` if a request changed since, `RejectedToken` if a constraint refuses an id
    /// that the host sampled. Nothing changes then.
    pub fn commit(&self, out: &Verified, requests: &mut [&mut Request]) -> Result<()> {
        if out.len() != requests.len() {
            return Err(Error::input(
                "out",
                format!("holds {} requests, {} given", out.len(), requests.len()),
            ));
        }
        for (b, r) in requests.iter().enumerate() {
            sampled::check_owner(out.lens[b], out.owners[b], r)?;
        }
        for b in 0..requests.len() {
            if let Err(e) = requests[b].constrain(out.tokens_of(b)) {
                for (done, r) in requests[..b].iter_mut().enumerate() {
                    if let Some(c) = &mut r.constraint {
                        c.rollback(out.tokens_of(done).len())?;
                    }
                }
                return Err(e);
            }
        }
        for (b, r) in requests.iter_mut().enumerate() {
            r.apply(out.tokens_of(b), out.logprobs_of(b));
            for source in &mut r.sources {
                source.observe_rows(&out.rows[b]);
            }
        }
        let mut learned = self.learned();
        let Learned { mixture, stats, by_source, cost, control } = &mut *learned;
        let share = control.as_ref().and_then(|_| cost.time(out.drafted + out.len()));
        let share = share.map(|t| t / out.len() as f64);
        for (b, r) in requests.iter_mut().enumerate() {
            // Trees of the host's own have no owner and no step to report.
            if out.owners[b] != 0 {
                let path = &out.kv_gather[out.cu_tokens[b]..out.cu_tokens[b + 1]];
                let nodes = path.get(1..).unwrap_or_default();
                let accepted = out.num_accepted[b];
                r.steering.report(out.lens[b], nodes, accepted, share, control.as_mut());
            }
        }
        let mixture = Arc::make_mut(mixture);
        let mut start = 0;
        for &Label { end, accepted, estimate } in &out.labels {
            let evidence = &out.evidence[start..end as usize];
            start = end as usize;
            if evidence.is_empty() {
                continue; // a forced token, or a tree of the host's own
            }
            mixture.record(evidence, accepted);
            stats.calibration.record(estimate, accepted);
            let slots = evidence.iter().fold(0u64, |set, e| set | 1 << e.slot);
            for ((source, &first), entry) in
                self.sources.iter().zip(&self.first_slots).zip(&mut *by_source)
            {
                let own = ((1u64 << source.slots().len()) - 1) << first;
                if slots & own != 0 {
                    entry.0 += 1;
                    entry.1 += u64::from(accepted);
                }
            }
            if let Some(&last) = self.first_slots.last()
                && slots >> last & 1 != 0
            {
                stats.constraint.0 += 1;
                stats.constraint.1 += u64::from(accepted);
            }
        }
        stats.steps += out.len() as u64;
        stats.tokens += out.tokens.len() as u64;
        stats.drafted += out.drafted as u64;
        stats.accepted += out.accepted as u64;
        Ok(())
    }

    /// Counts the host's time for one forward pass over `nodes` nodes.
    pub fn observe_forward(&self, nodes: usize, seconds: f64) {
        Arc::make_mut(&mut self.learned().cost).observe(nodes, seconds);
    }

    /// Counters since construction.
    pub fn stats(&self) -> Stats {
        let learned = self.learned();
        let seen = self.sources.iter().zip(&learned.by_source).filter(|(_, c)| c.0 > 0);
        let mut sources: BTreeMap<_, _> = seen.map(|(s, &c)| (s.name().to_owned(), c)).collect();
        if learned.stats.constraint.0 > 0 {
            sources.insert("constraint".into(), learned.stats.constraint);
        }
        Stats { sources, ..learned.stats.clone() }
    }

    /// Bytes of the shared stores, by source.
    pub fn memory(&self) -> BTreeMap<String, usize> {
        self.sources.iter().map(|s| (s.name().to_owned(), s.memory())).collect()
    }

    /// Writes the stores of the anonymous tenant and the calibration to a safetensors file, marked
    /// with the digest of the vocabulary.
    ///
    /// # Errors
    /// `InvalidInput` if the file cannot be written.
    pub fn save(&self, path: &Path, vocabulary: Option<u64>) -> Result<()> {
        crate::file::write(path, &self.config, &self.saved(), vocabulary)
    }

    fn saved(&self) -> Saved {
        let learned = self.learned();
        let mut all = Saved::new();
        for source in &self.sources {
            for (name, data) in source.save() {
                all.insert(format!("{}.{name}", source.name()), data);
            }
        }
        all.insert("mixture".into(), learned.mixture.save());
        all
    }

    /// Reads a file of [`save`](Self::save) into a new speculator; with `vocabulary`, only one that
    /// was made for it.
    ///
    /// # Errors
    /// `InvalidInput` if it is damaged, of another format or of another vocabulary.
    pub fn load(path: &Path, vocabulary: Option<u64>) -> Result<Self> {
        let (config, saved) = crate::file::read(path, vocabulary)?;
        let this = Self::new(config)?;
        for source in &this.sources {
            source.load(&part(&saved, source.name()))?;
        }
        let bits = saved.get("mixture").map_or(&[][..], Vec::as_slice);
        let mixture = Mixture::restore(&features(&this.sources), bits)
            .ok_or_else(|| Error::input("store", "mixture does not fit this version's sources"))?;
        this.learned().mixture = Arc::new(mixture);
        Ok(this)
    }

    /// Takes the texts of a file of [`save`](Self::save) as static ones: every tenant's requests that
    /// start from now on draft from them, and nothing changes them. Replaces earlier ones.
    ///
    /// # Errors
    /// As [`load`](Self::load), and for a file of another vocabulary size; nothing changes.
    pub fn attach(&self, path: &Path, vocabulary: Option<u64>) -> Result<()> {
        let (config, saved) = crate::file::read(path, vocabulary)?;
        if config.vocab_size != self.config.vocab_size {
            return Err(Error::input(
                "store",
                format!(
                    "was made for {} ids, this speculator has {}",
                    config.vocab_size, self.config.vocab_size
                ),
            ));
        }
        for source in &self.sources {
            let own = part(&saved, source.name());
            if !own.is_empty() {
                source.attach(&own)?;
            }
        }
        Ok(())
    }
}

/// Arrays of one source.
fn part(saved: &Saved, source: &str) -> Saved {
    let prefix = format!("{source}.");
    let own = saved.iter();
    own.filter_map(|(k, v)| Some((k.strip_prefix(&prefix)?.to_owned(), v.clone()))).collect()
}

/// Situations of every slot over all sources, and the one of text that a constraint forces.
fn features(sources: &[Box<dyn SharedSource>]) -> Vec<usize> {
    sources.iter().flat_map(|s| s.slots()).copied().chain([1]).collect()
}

/// A batch fits its requests: one tree each, one row a node, no request changed since.
pub(crate) fn check(batch: &TreeBatch, requests: &[&mut Request], rows: usize) -> Result<()> {
    if batch.len() != requests.len() {
        return Err(Error::input(
            "batch",
            format!("holds {} trees for {} requests", batch.len(), requests.len()),
        ));
    }
    if rows != batch.num_nodes() {
        return Err(Error::input(
            "rows",
            format!("{rows} rows for {} nodes; row i belongs to node i", batch.num_nodes()),
        ));
    }
    for (b, r) in requests.iter().enumerate() {
        sampled::check_owner(batch.lens[b], batch.owners[b], r)?;
    }
    Ok(())
}

/// Rows of best ids that the host brought; -1 pads.
fn host_top_ids(
    batch: &TreeBatch,
    b: usize,
    nodes: &[usize],
    flat: &[i64],
    k: usize,
) -> Vec<TopIds> {
    let span = batch.span(b);
    span.clone()
        .map(|row| TopIds {
            token: batch.tokens[row],
            accepted: row == span.start || nodes.contains(&(row - span.start)),
            ids: flat[row * k..(row + 1) * k]
                .iter()
                .take_while(|&&t| t >= 0)
                .take(crate::draft::RANKS)
                .map(|&t| t as TokenId)
                .collect(),
        })
        .collect()
}

// Requests are handed to a pool by hosts.
const _: fn() = || {
    fn sendable<T: Send + Sync>() {}
    sendable::<Speculator>();
    sendable::<Request>();
    sendable::<Box<dyn RequestSource>>();
};
