//! Verification where the rows are: what a device must be asked for, and the walk over its answers.
//!
//! Sampled-verify and the race need one token a row. So a host with rows in device memory asks a kernel for the
//! target's token of every row ([`Speculator::asks`]), each under the mask, history and noise that the row has on its
//! path, and only ids and log-probabilities come back for the walk ([`Speculator::verify_drawn`]). The walk is the
//! one of [`verify_rows`](Speculator::verify_rows), so the decision is the same wherever the rows are. Rows behind a
//! forbidden or finished token are asked for like any other; no walk comes to them.

use super::batch::VerifierChoice;
use super::kind::Verifier;
use super::row::{Laws, Row};
use super::sampled::{RECYCLE_ALL, to_top_ids};
use super::walk::{Work, verify_tree};
use super::{Verified, Walk};
use crate::draft::TopIds;
use crate::request::Request;
use crate::speculator::{Speculator, check};
use crate::tree::TreeBatch;
use std::sync::Arc;
use trivium_core::error::{Error, Result};
use trivium_core::law::PlainLaw;
use trivium_core::{Address, Chance, Constraint, Draw, Keyed, TargetLaw, TokenId, ids, mask};

/// The draw of one row's target token.
#[derive(Debug, Clone)]
pub struct NodeAsk {
    /// Noise of the token being chosen.
    pub address: Address,
    /// How the law becomes a token.
    pub draw: Draw,
    /// The law after the node's path.
    pub law: Arc<PlainLaw>,
    /// Packed mask after the node's path; `None` allows all.
    pub allowed: Option<Vec<u32>>,
}

/// Which test a device makes of the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceRule {
    /// None: the target's own draw decides, and the host walks.
    Drawn,
    /// Token by token against `q`.
    Token,
    /// The block against `q`.
    Block,
}

/// What a device drew, one entry a row of the batch.
#[derive(Debug, Clone, Copy)]
pub struct Drawn<'a> {
    /// The token; negative where the device found none.
    pub tokens: &'a [i32],
    /// Its natural log-probability under the law.
    pub log_probs: &'a [f32],
    /// Best ids of each row before any law, `k` a row, -1 padded; empty: not asked for.
    pub top_ids: &'a [i32],
    /// Best ids a row.
    pub k: usize,
}

/// Rows of which only the drawn token is known.
struct DrawnLaws<'a> {
    drawn: Drawn<'a>,
    first: usize,
    vocab: usize,
    /// The walk came to a row without a token.
    none: bool,
}

impl Laws for DrawnLaws<'_> {
    fn vocab(&self) -> usize {
        self.vocab
    }

    fn p(&mut self, _node: usize, _path: &[TokenId]) -> Result<Row<'_>> {
        Err(Error::Internal { detail: "a rule asked for a row that stayed on the device".into() })
    }

    fn both(&mut self, node: usize, path: &[TokenId]) -> Result<(Row<'_>, Row<'_>)> {
        Err(self.p(node, path).err().unwrap_or_else(super::logits::missing_q))
    }

    fn target(
        &mut self,
        node: usize,
        _path: &[TokenId],
        _index: u32,
        _chance: &mut dyn Chance,
    ) -> Result<(TokenId, f32)> {
        let row = self.first + node;
        let token = TokenId::try_from(self.drawn.tokens[row]);
        if let Some(token) = token.ok().filter(|&t| (t as usize) < self.vocab) {
            return Ok((token, self.drawn.log_probs[row]));
        }
        self.none = true;
        Err(Error::Internal { detail: format!("row {row} has no token") })
    }
}

impl Speculator {
    /// What a device must draw for each row of a batch; `None` where a rule reads more than the drawn tokens, or a
    /// law has no plain form: then the rows themselves are needed.
    ///
    /// # Errors
    /// As [`verify_rows`](Self::verify_rows) for shapes and verifiers; limits of constraints.
    pub fn asks(
        &self,
        batch: &TreeBatch,
        requests: &[&mut Request],
        laws: &[Box<dyn TargetLaw>],
        (rows, width): (usize, usize),
        choice: VerifierChoice,
    ) -> Result<Option<(DeviceRule, Vec<NodeAsk>)>> {
        check(batch, requests, rows)?;
        self.check_width(width, laws.len(), requests.len())?;
        let accepted = if choice == VerifierChoice::Law { self.accepted() } else { 0.0 };
        let mut asks = Vec::with_capacity(batch.num_nodes());
        let mut rule = None;
        for (b, request) in requests.iter().enumerate() {
            let here = match batch.resolve(b, choice, request.draw, accepted)? {
                Verifier::Sampled | Verifier::Race => DeviceRule::Drawn,
                // Rows behind the end of a constraint would bear on the tests, and siblings are an error to name.
                _ if request.constraint.is_some() || batch.tree(b).has_siblings() => {
                    return Ok(None);
                }
                Verifier::Token => DeviceRule::Token,
                Verifier::Block => DeviceRule::Block,
                _ => return Ok(None),
            };
            // One launch, one rule; and chains of one draw.
            if *rule.get_or_insert(here) != here
                || (here != DeviceRule::Drawn && request.draw != requests[0].draw)
            {
                return Ok(None);
            }
            let law = request.law.as_deref().unwrap_or(laws[b].as_ref());
            if !ask_request(batch, b, request, law, &mut asks)? {
                return Ok(None);
            }
        }
        Ok(Some((rule.unwrap_or(DeviceRule::Drawn), asks)))
    }

    /// Takes the chains that a device verified: request `b` committed `tokens[cu_tokens[b]..cu_tokens[b + 1]]`, its
    /// accepted drafts and one more. `top_ids` as in [`Drawn`].
    ///
    /// # Errors
    /// As [`verify_rows`](Self::verify_rows); `InvalidInput` for offsets that are none.
    pub fn verify_chains(
        &self,
        batch: &TreeBatch,
        requests: &[&mut Request],
        cu_tokens: &[i32],
        drawn: Drawn<'_>,
    ) -> Result<Verified> {
        check(batch, requests, batch.num_nodes())?;
        let vocab = self.config().vocab_size;
        let mut out = Verified { logprobs: Some(Vec::new()), ..Verified::new() };
        for b in 0..requests.len() {
            let offsets = cu_tokens.get(b..b + 2).unwrap_or(&[0, 0]);
            let (begin, end) = (offsets[0] as usize, offsets[1] as usize);
            let lists = (drawn.tokens.get(begin..end), drawn.log_probs.get(begin..end));
            let (tokens, log_probs) = match lists {
                (Some(t), Some(l)) if !t.is_empty() && t.len() <= batch.span(b).len() => (t, l),
                _ => return Err(Error::input("cu_tokens", "are no offsets of committed tokens")),
            };
            let checked = tokens.iter().map(|&t| ids::check_id(i64::from(t), vocab));
            let walk = Walk {
                nodes: (1..tokens.len()).collect(),
                tokens: checked.collect::<Result<_>>()?,
                logprobs: log_probs.to_vec(),
            };
            let tops = tops_of(batch, b, &walk, drawn, vocab);
            out.push(batch, b, walk, tops);
        }
        Ok(out)
    }

    /// Whether some source learns from the best ids of rows.
    pub fn wants_top_ids(&self) -> bool {
        self.config().sources.iter().any(|s| crate::draft::learns_from_rows(s))
    }

    /// Walks the trees over the tokens of [`asks`](Self::asks); `None` where a walk came to a row without a token, of
    /// which the row itself says why.
    ///
    /// # Errors
    /// As [`verify_rows`](Self::verify_rows).
    pub fn verify_drawn(
        &self,
        batch: &TreeBatch,
        requests: &[&mut Request],
        drawn: Drawn<'_>,
    ) -> Result<Option<Verified>> {
        let rows = drawn.tokens.len();
        check(batch, requests, rows)?;
        if drawn.log_probs.len() != rows
            || (!drawn.top_ids.is_empty() && drawn.top_ids.len() != rows * drawn.k)
        {
            return Err(Error::input("drawn", "has lists of several lengths"));
        }
        let vocab = self.config().vocab_size;
        let mut out = Verified { logprobs: Some(Vec::new()), ..Verified::new() };
        let mut work = Work::default();
        for (b, request) in requests.iter().enumerate() {
            let span = batch.span(b);
            let mut laws = DrawnLaws { drawn, first: span.start, vocab, none: false };
            let mut chance = Keyed::new(request.seed, request.branch);
            let walk =
                verify_tree(Verifier::Sampled, &batch.tree(b), &mut laws, &mut chance, &mut work);
            let mut walk: Walk = match walk {
                Err(_) if laws.none => return Ok(None),
                other => other?,
            };
            walk.cut(request.constraint.as_deref())?;
            let tops = tops_of(batch, b, &walk, drawn, vocab);
            out.push(batch, b, walk, tops);
        }
        Ok(Some(out))
    }
}

/// Best ids of the rows that recycling learns from.
fn tops_of(
    batch: &TreeBatch,
    b: usize,
    walk: &Walk,
    drawn: Drawn<'_>,
    vocab: usize,
) -> Vec<TopIds> {
    if drawn.top_ids.is_empty() {
        return Vec::new();
    }
    let all = batch.span(b).len() * vocab <= RECYCLE_ALL;
    to_top_ids(batch, b, &walk.nodes, all, |row| {
        let ids = &drawn.top_ids[row * drawn.k..(row + 1) * drawn.k];
        ids.iter().map_while(|&t| TokenId::try_from(t).ok()).collect()
    })
}

/// Asks for the rows of one request; `false` where its law has no plain form somewhere.
fn ask_request(
    batch: &TreeBatch,
    b: usize,
    request: &Request,
    law: &dyn TargetLaw,
    asks: &mut Vec<NodeAsk>,
) -> Result<bool> {
    let span = batch.span(b);
    let start = batch.lens[b];
    let Some(first) = law.plain() else { return Ok(false) };
    let first = Arc::new(first);
    // What each node's children need: law and constraint after its path. Parents come first.
    let mut laws: Vec<Option<Box<dyn TargetLaw>>> = Vec::with_capacity(span.len());
    let mut constraints: Vec<Option<Box<dyn Constraint>>> = Vec::with_capacity(span.len());
    for row in span.clone() {
        let node = row - span.start;
        let token = batch.tokens[row];
        let parent = (node > 0).then(|| batch.parents[row] as usize);
        let law_here = match parent {
            Some(parent) if !law.is_stateless() => {
                let mut along = laws[parent].as_deref().unwrap_or(law).fork();
                along.observe(token);
                Some(along)
            }
            _ => None,
        };
        let plain = match &law_here {
            None => first.clone(),
            Some(along) => match along.plain() {
                Some(plain) => Arc::new(plain),
                None => return Ok(false),
            },
        };
        let mut allowed = None;
        let mut constraint = None;
        if let Some(own) = request.constraint.as_deref() {
            let mut along = match parent {
                None => Some(own.fork()),
                Some(parent) => constraints[parent].as_deref().map(Constraint::fork),
            };
            // Behind a forbidden or a final token no walk looks.
            if parent.is_some()
                && let Some(c) = &mut along
                && (c.is_finished() || !c.commit(token)?)
            {
                along = None;
            }
            if let Some(c) = along.as_deref().filter(|c| node == 0 || !c.is_finished()) {
                let mut words = vec![0; mask::words(c.num_rows())];
                c.fill(&mut words)?;
                allowed = Some(words);
            }
            constraint = along;
        }
        asks.push(NodeAsk {
            address: Address::new(
                request.seed,
                (start + batch.depths[row] as usize) as u32,
                request.branch,
            ),
            draw: request.draw,
            law: plain,
            allowed,
        });
        laws.push(law_here);
        constraints.push(constraint);
    }
    Ok(true)
}
