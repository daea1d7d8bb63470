//! Verification of a batch: requests of any tree sizes, each on its own rows, without padding.
//!
//! Requests are independent: own tree, own rows, own noise. A batch gives what its requests would
//! give alone, in any order and on any number of threads ("BASS: Batched Attention-optimized
//! Speculative Sampling" and "EMS-SD: Efficient Multi-sample Speculative Decoding for Accelerating
//! Large Language Models" ask for the layout; here it is the offsets of
//! [`TreeBatch`](crate::TreeBatch), and `kv_gather` lists the rows to keep).

use super::kind::Verifier;
use super::logits::{LogitLaws, RowScratch, Side};
use super::lossy::LossyRule;
use super::walk::{Tree, Work, verify_tree};
use super::{Verified, Walk, gbv, sampled};
use crate::draft::{TopIds, learns_from_rows};
use crate::request::Request;
use crate::speculator::{Speculator, check};
use crate::tree::{DraftLaw, Role, TreeBatch};
use std::cell::RefCell;
use std::str::FromStr;
use trivium_core::error::{Error, Result};
use trivium_core::logits::LogitsBatch;
use trivium_core::{Chance, Draw, Keyed, TargetLaw, TokenId, pool};

/// Rows times vocabulary from which a batch goes to the pool: below, waking threads costs more.
const PARALLEL: usize = 1 << 20;

/// Which verifier a call uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum VerifierChoice {
    /// The path promise: the ordinary draw of the target decides.
    #[default]
    Auto,
    /// The law promise: the rule that accepts most, by the drafts' law and shape and by the past.
    Law,
    /// This one.
    Rule(Verifier),
}

impl FromStr for VerifierChoice {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "auto" => Ok(Self::Auto),
            "law" => Ok(Self::Law),
            other => other.parse().map(Self::Rule),
        }
    }
}

/// Buffers of one thread; a few rows.
#[derive(Default)]
struct Scratch {
    rows: RowScratch,
    work: Work,
    tops: (Vec<f32>, Vec<TokenId>),
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// The rows of a verification.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    /// Target logits, one row a node.
    pub logits: LogitsBatch<'a>,
    /// Draft probabilities: row `i` is the law that the children of node `i` were drawn from.
    pub q: Option<LogitsBatch<'a>>,
    /// Law of each request that has none of its own.
    pub laws: &'a [Box<dyn TargetLaw>],
}

/// One request of a batch.
#[derive(Clone, Copy)]
struct Job<'a> {
    tree: Tree<'a>,
    verifier: Verifier,
    first: usize,
    side: Side<'a>,
}

impl TreeBatch {
    /// The tree of request `b` as a verifier reads it.
    pub fn tree(&self, b: usize) -> Tree<'_> {
        let span = self.span(b);
        Tree {
            tokens: &self.tokens[span.clone()],
            parents: &self.parents[span.clone()],
            roles: self.roles.get(span).unwrap_or(&[]),
            law: self.law.unwrap_or(DraftLaw::PointMass),
            start: self.lens[b] as u32,
            bonus: true,
        }
    }

    /// The rule for request `b`. `accepted`: drafts accepted a step so far.
    pub(crate) fn resolve(
        &self,
        b: usize,
        choice: VerifierChoice,
        draw: Draw,
        accepted: f64,
    ) -> Result<Verifier> {
        let law = self.law.unwrap_or(DraftLaw::PointMass);
        let verifier = match choice {
            VerifierChoice::Auto => Verifier::Sampled,
            VerifierChoice::Law => {
                let tree = self.tree(b);
                let paths = gbv::paths(tree.parents);
                let depth = paths.as_ref().and_then(|p| p.first()).map_or(1, Vec::len);
                let share = accepted / depth as f64;
                Verifier::choose(law, tree.has_siblings(), paths.map(|p| p.len()), share)
            }
            VerifierChoice::Rule(v) => v,
        };
        // The race of `choose` is sampled-verify where the request does not race.
        if verifier == Verifier::Race && draw != Draw::Race {
            if choice == VerifierChoice::Law {
                return Ok(Verifier::Sampled);
            }
            return Err(Error::unsupported(
                "verifier \"race\"",
                "for a request with draw \"cdf\"",
                "the text of a request depends on its draw alone: start it with draw=\"race\"",
            ));
        }
        verifier.check(law, self.pruning)?;
        Ok(verifier)
    }

    /// Every drawn token must have mass under the row it was drawn from.
    fn check_drawn(&self, q: &LogitsBatch<'_>) -> Result<()> {
        let law = self.law.unwrap_or(DraftLaw::PointMass);
        if !matches!(law, DraftLaw::IidQ | DraftLaw::WithoutReplacementQ | DraftLaw::Mixed) {
            return Ok(());
        }
        for b in 0..self.len() {
            let span = self.span(b);
            for node in span.clone().skip(1) {
                let drawn = law != DraftLaw::Mixed || self.roles[node] == Role::Drawn;
                let row = span.start + self.parents[node] as usize;
                let token = self.tokens[node];
                if drawn && !q.row(row).get(token as usize).is_some_and(|w| w > 0.0) {
                    return Err(super::walk::no_mass(node - span.start, token));
                }
            }
        }
        Ok(())
    }
}

impl Speculator {
    /// Verifies logits, and drafts against `q` where the verifier asks for it. Only rows on the
    /// walked path are read.
    ///
    /// # Errors
    /// `Unsupported` if the verifier would bias drafts of the batch's law; `InvalidInput` for wrong
    /// shapes, rows that are no laws, a missing `q`, a drawn token of draft probability 0;
    /// `StateMismatch` if a request changed since `propose` or a row allows nothing.
    pub fn verify_rows(
        &self,
        batch: &TreeBatch,
        requests: &[&mut Request],
        rows: Rows<'_>,
        choice: VerifierChoice,
    ) -> Result<Verified> {
        let jobs = self.jobs(batch, requests, &rows, choice)?;
        let noise: Vec<Keyed> = requests.iter().map(|r| Keyed::new(r.seed, r.branch)).collect();
        let recycles = self.config().sources.iter().any(|s| learns_from_rows(s));
        let work = batch.num_nodes() * rows.logits.vocab();
        let walks = pool::map(batch.len(), work >= PARALLEL, |b| {
            let mut chance = noise[b];
            run(batch, b, &jobs[b], &rows, &mut chance, recycles)
        });
        collect(batch, walks)
    }

    /// As [`verify_rows`](Self::verify_rows) with the randomness given, one a request: the entry by
    /// which the oracle walks every outcome.
    ///
    /// # Errors
    /// As [`verify_rows`](Self::verify_rows).
    pub fn verify_rows_with(
        &self,
        batch: &TreeBatch,
        requests: &[&mut Request],
        rows: Rows<'_>,
        choice: VerifierChoice,
        chances: &mut [&mut dyn Chance],
    ) -> Result<Verified> {
        let jobs = self.jobs(batch, requests, &rows, choice)?;
        if chances.len() != requests.len() {
            return Err(Error::input("chances", "one a request"));
        }
        let recycles = self.config().sources.iter().any(|s| learns_from_rows(s));
        let walks = jobs
            .iter()
            .zip(chances)
            .enumerate()
            .map(|(b, (job, chance))| run(batch, b, job, &rows, *chance, recycles))
            .collect();
        collect(batch, walks)
    }

    /// Verifies drafts chosen without chance by a rule that is *not* lossless;
    /// [`Verified::deviation`] says how far the text may be from the target's law.
    ///
    /// # Errors
    /// As [`verify_rows`](Self::verify_rows); `Unsupported` for drawn drafts.
    pub fn verify_lossy(
        &self,
        batch: &TreeBatch,
        requests: &[&mut Request],
        rows: Rows<'_>,
        rule: LossyRule,
    ) -> Result<Verified> {
        if let Some(law) = batch.law.filter(|l| l.is_sampled()) {
            return Err(Error::unsupported(
                "a lossy rule",
                format!("for drafts of law {:?}", law.name()),
                "lossy rules judge drafts chosen without chance (\"point_mass\")",
            ));
        }
        // Only confident prefixes ask the drafter; the others judge whatever was drafted.
        let q = rows.q.filter(|_| matches!(rule, LossyRule::Confident { .. }));
        let rows = Rows { q: None, ..rows };
        if let Some(q) = &q
            && (q.rows() != batch.num_nodes() || q.vocab() != self.config().vocab_size)
        {
            return Err(Error::input(
                "q",
                format!("has shape [{}, {}]; row i belongs to node i", q.rows(), q.vocab()),
            ));
        }
        let jobs = self.jobs(batch, requests, &rows, VerifierChoice::Auto)?;
        let mut deviations = Vec::with_capacity(jobs.len());
        let mut walks = Vec::with_capacity(jobs.len());
        for (job, r) in jobs.iter().zip(requests) {
            let mut chance = Keyed::new(r.seed, r.branch);
            let mut out = SCRATCH.with_borrow_mut(|s| {
                let mut laws = LogitLaws::new(rows.logits, q, job.first, job.side, &mut s.rows);
                rule.verify(&job.tree, &mut laws, &mut chance)
            })?;
            out.walk.cut(job.side.constraint)?;
            deviations.push(out.deviation as f32);
            walks.push(Ok((out.walk, Vec::new())));
        }
        Ok(Verified { deviation: Some(deviations), ..collect(batch, walks)? })
    }

    pub(crate) fn check_width(&self, width: usize, laws: usize, requests: usize) -> Result<()> {
        let vocab = self.config().vocab_size;
        if width == vocab && laws == requests {
            return Ok(());
        }
        Err(Error::input(
            "logits",
            format!(
                "are {width} wide with {laws} laws for {requests} requests, the speculator has {vocab}"
            ),
        ))
    }

    fn jobs<'a>(
        &self,
        batch: &'a TreeBatch,
        requests: &'a [&mut Request],
        rows: &'a Rows<'_>,
        choice: VerifierChoice,
    ) -> Result<Vec<Job<'a>>> {
        check(batch, requests, rows.logits.rows())?;
        let vocab = self.config().vocab_size;
        self.check_width(rows.logits.vocab(), rows.laws.len(), requests.len())?;
        if let Some(q) = &rows.q {
            if q.rows() != batch.num_nodes() || q.vocab() != vocab {
                return Err(Error::input(
                    "q",
                    format!(
                        "has shape [{}, {}]; row i belongs to node i: [{}, {vocab}]",
                        q.rows(),
                        q.vocab(),
                        batch.num_nodes()
                    ),
                ));
            }
            batch.check_drawn(q)?;
        }
        let accepted = if choice == VerifierChoice::Law { self.accepted() } else { 0.0 };
        requests
            .iter()
            .enumerate()
            .map(|(b, r)| {
                let verifier = batch.resolve(b, choice, r.draw, accepted)?;
                if verifier.needs_q() && rows.q.is_none() && batch.law != Some(DraftLaw::PointMass)
                {
                    return Err(super::logits::missing_q());
                }
                let law = r.law.as_deref().unwrap_or(rows.laws[b].as_ref());
                let side = Side { law, constraint: r.constraint.as_deref(), draw: r.draw };
                Ok(Job { tree: batch.tree(b), verifier, first: batch.span(b).start, side })
            })
            .collect()
    }

    /// Accepted drafts a step of a request so far; infinite before the first. A step commits one
    /// token more than it accepts.
    pub(crate) fn accepted(&self) -> f64 {
        let stats = self.stats();
        let steps = stats.tokens.saturating_sub(stats.accepted);
        if steps == 0 { f64::INFINITY } else { stats.accepted as f64 / steps as f64 }
    }
}

fn run(
    batch: &TreeBatch,
    b: usize,
    job: &Job<'_>,
    rows: &Rows<'_>,
    chance: &mut dyn Chance,
    recycles: bool,
) -> Result<(Walk, Vec<TopIds>)> {
    SCRATCH.with_borrow_mut(|scratch| {
        let Scratch { rows: row_scratch, work, tops } = scratch;
        let mut laws = LogitLaws::new(rows.logits, rows.q, job.first, job.side, row_scratch);
        let mut walk = verify_tree(job.verifier, &job.tree, &mut laws, chance, work)?;
        walk.cut(job.side.constraint)?;
        let tops = if recycles {
            sampled::top_ids(batch, b, &walk.nodes, &rows.logits, tops)
        } else {
            Vec::new()
        };
        Ok((walk, tops))
    })
}

fn collect(batch: &TreeBatch, walks: Vec<Result<(Walk, Vec<TopIds>)>>) -> Result<Verified> {
    let mut out = Verified { logprobs: Some(Vec::new()), ..Verified::new() };
    for (b, walk) in walks.into_iter().enumerate() {
        let (walk, tops) = walk?;
        out.push(batch, b, walk, tops);
    }
    Ok(out)
}
