//! Rows of logits as laws: what a host hands over, processed along the drafted path.
//!
//! Penalties and masks see the path's tokens as if they were committed. Walks go forward except in
//! traversal, so one copy of the law and the constraint follows the path and is made anew only when
//! the walk turns back. Only rows that a rule asks for are read.

use super::row::{Laws, Row};
use trivium_core::error::{Error, Result};
use trivium_core::logits::LogitsBatch;
use trivium_core::{Chance, Constraint, Draw, LogitsRow, ScaledRow, TargetLaw, TokenId, mask};

/// Buffers of [`LogitLaws`], reused from row to row and from call to call.
#[derive(Debug, Default)]
pub(crate) struct RowScratch {
    row: ScaledRow,
    words: Vec<u32>,
    p: Vec<f32>,
    q: Vec<f32>,
    /// Stands for rows behind the end of a constraint.
    flat: Vec<f32>,
    /// Tokens of the path last asked for, each with its log-probability where it was drawn.
    trail: Vec<(TokenId, f32)>,
}

/// What belongs to one request.
#[derive(Clone, Copy)]
pub(crate) struct Side<'a> {
    pub(crate) law: &'a dyn TargetLaw,
    pub(crate) constraint: Option<&'a dyn Constraint>,
    pub(crate) draw: Draw,
}

/// Law and constraint after the first `len` tokens of the trail.
struct Along {
    law: Box<dyn TargetLaw>,
    constraint: Option<Box<dyn Constraint>>,
    len: usize,
}

/// The rows of one request.
pub(crate) struct LogitLaws<'a> {
    logits: LogitsBatch<'a>,
    q: Option<LogitsBatch<'a>>,
    /// Row of the request's node 0.
    first: usize,
    side: Side<'a>,
    scratch: &'a mut RowScratch,
    along: Option<Along>,
    /// Length of the path whose row is in the scratch.
    loaded: Option<usize>,
}

impl<'a> LogitLaws<'a> {
    pub(crate) fn new(
        logits: LogitsBatch<'a>,
        q: Option<LogitsBatch<'a>>,
        first: usize,
        side: Side<'a>,
        scratch: &'a mut RowScratch,
    ) -> Self {
        scratch.trail.clear();
        Self { logits, q, first, side, scratch, along: None, loaded: None }
    }

    /// Brings the trail to `path`.
    fn follow(&mut self, path: &[TokenId]) {
        let RowScratch { trail, row, .. } = &mut *self.scratch;
        let shared = trail.iter().zip(path).take_while(|(a, b)| a.0 == **b).count();
        if shared < trail.len() {
            trail.truncate(shared);
            if self.along.as_ref().is_some_and(|a| a.len > shared) {
                self.along = None;
            }
            if self.loaded.is_some_and(|n| n > shared) {
                self.loaded = None;
            }
        }
        for &token in &path[trail.len()..] {
            // Rules read a node's row before they go below it.
            let known = self.loaded == Some(trail.len());
            let log_prob = if known { row.log_prob(token) } else { f32::NAN };
            trail.push((token, log_prob));
        }
        self.loaded = Some(path.len());
    }

    /// Processes the row of `node` into the scratch.
    fn load(&mut self, node: usize, path: &[TokenId]) -> Result<()> {
        // Without history there is nothing to follow; before the first token nothing yet: the
        // request's own objects will do.
        let plain = self.side.constraint.is_none() && self.side.law.is_stateless();
        if !plain {
            self.follow(path);
        }
        let row = self.first + node;
        let RowScratch { row: scaled, words, flat, trail, .. } = &mut *self.scratch;
        let along = match &mut self.along {
            None if plain || path.is_empty() => None,
            slot => {
                let side = self.side;
                let along = slot.get_or_insert_with(|| Along {
                    law: side.law.fork(),
                    constraint: side.constraint.map(Constraint::fork),
                    len: 0,
                });
                for &(token, log_prob) in &trail[along.len..] {
                    along.law.observe_drawn(token, log_prob);
                    if let Some(c) = &mut along.constraint
                        && !c.is_finished()
                        && !c.commit(token)?
                    {
                        // Rules stop at tokens of probability 0 before they read further rows.
                        return Err(Error::Internal {
                            detail: format!("row {row} stands behind a forbidden token"),
                        });
                    }
                    along.len += 1;
                }
                Some(along)
            }
        };
        let (law, constraint) = match along {
            None => (self.side.law, self.side.constraint),
            Some(a) => (&*a.law, a.constraint.as_deref()),
        };
        let allowed = match constraint {
            None => None,
            Some(c) if !path.is_empty() && c.is_finished() => {
                // Behind the end there is no law; whatever is drawn here is cut off the walk.
                flat.clear();
                flat.resize(self.logits.vocab(), 0.0);
                return scaled.load(LogitsRow::F32(flat), None, 1.0);
            }
            Some(c) => {
                words.resize(mask::words(c.num_rows().max(self.logits.vocab())), 0);
                words.fill(0);
                c.fill(&mut words[..mask::words(c.num_rows())])?;
                Some(&words[..])
            }
        };
        law.process(self.logits.row(row), allowed, scaled).map_err(|e| at_row(e, row))
    }
}

impl Laws for LogitLaws<'_> {
    fn vocab(&self) -> usize {
        self.logits.vocab()
    }

    fn p(&mut self, node: usize, path: &[TokenId]) -> Result<Row<'_>> {
        self.scratch.row.will_draw(false);
        self.load(node, path)?;
        let RowScratch { row, p, .. } = &mut *self.scratch;
        let total = row.weights_into(p);
        Ok(Row::new(p, total))
    }

    fn both(&mut self, node: usize, path: &[TokenId]) -> Result<(Row<'_>, Row<'_>)> {
        let rows = self.q.ok_or_else(missing_q)?;
        self.scratch.row.will_draw(false);
        self.load(node, path)?;
        let RowScratch { row, p, q, .. } = &mut *self.scratch;
        let total = row.weights_into(p);
        let at = self.first + node;
        let weights = match rows.row(at) {
            LogitsRow::F32(row) => row,
            half => {
                q.clear();
                half.extend_into(q);
                &q[..]
            }
        };
        Ok((Row::new(p, total), Row::checked(weights, "q", at)?))
    }

    fn target(
        &mut self,
        node: usize,
        path: &[TokenId],
        index: u32,
        chance: &mut dyn Chance,
    ) -> Result<(TokenId, f32)> {
        self.scratch.row.will_draw(true);
        self.load(node, path)?;
        let row = &mut self.scratch.row;
        let token = chance.target(index, self.side.draw, row);
        Ok((token, row.log_prob(token)))
    }
}

/// A rule that tests against `q` was given none.
pub(crate) fn missing_q() -> Error {
    Error::input(
        "q",
        "is missing; this verifier tests tokens against the law they were drawn from: pass the \
         draft's rows, or use verifier=\"auto\"",
    )
}

/// Names the row in errors about its contents.
fn at_row(error: Error, row: usize) -> Error {
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
