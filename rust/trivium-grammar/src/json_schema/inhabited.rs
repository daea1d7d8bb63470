//! Emptiness: a least fixpoint over nodes.
//!
//! A node is inhabited iff some cell is, assuming inhabited children. Answers that are still open
//! count as *no*; rounds go on until none changes. So an object that requires itself is empty, and a
//! list of itself is not, since it may be `[]`.
//!
//! While schemas are being expanded a *probe* asks less: it looks a few levels deep and says *maybe*
//! beyond. Cells that a probe refutes are dropped early, which keeps products small; the exact answer
//! comes later.

use super::cells::{ArrCell, Cells, ObjCell, Unique};
use super::error::Problem;
use super::expand::Algebra;
use super::nodes::{NodeId, Nodes};
use super::plan::Ask;
use rustc_hash::FxHashMap;

/// Levels that a probe looks down.
const PROBE: usize = 2;

/// What is known of nodes.
#[derive(Debug, Default)]
pub(crate) struct Inhabited {
    known: FxHashMap<NodeId, bool>,
}

impl Algebra {
    /// Whether some value lies in a node.
    pub(crate) fn inhabited(&mut self, node: NodeId) -> Result<bool, Problem> {
        match node {
            Nodes::ANY => return Ok(true),
            Nodes::NONE => return Ok(false),
            _ => {}
        }
        if let Some(&known) = self.inhabited.known.get(&node) {
            return Ok(known);
        }
        // Nodes whose answer is open, in the order they were met.
        let mut open = vec![node];
        let mut listed: FxHashMap<NodeId, bool> = FxHashMap::default();
        listed.insert(node, false);
        loop {
            let mut changed = false;
            let mut i = 0;
            while i < open.len() {
                let here = open[i];
                i += 1;
                if self.inhabited.known.contains_key(&here) {
                    continue;
                }
                let before = open.len();
                let cells = self.cells(here)?;
                let mut met: Vec<NodeId> = Vec::new();
                let yes = self.any_cell(&cells, &mut |a, n| {
                    Ok(match n {
                        Nodes::ANY => true,
                        Nodes::NONE => false,
                        n => a.inhabited.known.get(&n).copied().unwrap_or_else(|| {
                            met.push(n);
                            false
                        }),
                    })
                })?;
                if yes {
                    self.inhabited.known.insert(here, true);
                    changed = true;
                    if here == node {
                        return Ok(true);
                    }
                    continue;
                }
                for n in met {
                    if listed.insert(n, false).is_none() {
                        open.push(n);
                    }
                }
                changed |= open.len() > before;
            }
            if !changed {
                break;
            }
        }
        for n in open {
            self.inhabited.known.entry(n).or_insert(false);
        }
        Ok(self.inhabited.known.get(&node).copied().unwrap_or(false))
    }

    fn any_cell(&mut self, cells: &Cells, ask: &mut Ask<'_>) -> Result<bool, Problem> {
        if cells.scalars != 0 {
            return Ok(true);
        }
        for c in &cells.strings {
            if !self.strings.is_empty(self.nodes.languages(), c)? {
                return Ok(true);
            }
        }
        for c in &cells.numbers {
            if super::numbers::lives(c)? {
                return Ok(true);
            }
        }
        for c in &cells.arrays {
            if self.array_lives(c, ask)? {
                return Ok(true);
            }
        }
        for c in &cells.objects {
            if self.object_lives(c, ask)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(crate) fn array_lives(
        &mut self,
        cell: &ArrCell,
        ask: &mut Ask<'_>,
    ) -> Result<bool, Problem> {
        if cell.min == 0 && cell.counted.is_empty() && cell.unique != Unique::SomeEqual {
            return Ok(true);
        }
        match self.array_plan(cell, ask)? {
            None => Ok(false),
            Some(plan) => super::lower::array_completable(self, &plan),
        }
    }

    pub(crate) fn object_lives(
        &mut self,
        cell: &ObjCell,
        ask: &mut Ask<'_>,
    ) -> Result<bool, Problem> {
        for name in &cell.listed {
            let node = self.member(cell, name)?;
            if !ask(self, node)? {
                return Ok(false);
            }
        }
        if cell.counted.is_empty() && cell.min <= cell.required.len() as u64 {
            return Ok(true);
        }
        match self.object_plan(cell, ask)? {
            None => Ok(false),
            Some(plan) => Ok(super::feasible::object(&plan)),
        }
    }

    /// Whether a probe does not refute a node.
    fn may_live(&mut self, node: NodeId) -> Result<bool, Problem> {
        match node {
            Nodes::ANY => return Ok(true),
            Nodes::NONE => return Ok(false),
            _ => {}
        }
        if let Some(&known) = self.inhabited.known.get(&node) {
            return Ok(known);
        }
        if self.probing >= PROBE {
            return Ok(true);
        }
        self.probing += 1;
        let answer = match self.cells(node) {
            Ok(cells) => self.any_cell(&cells, &mut |a, n| a.may_live(n)),
            Err(e) => Err(e),
        };
        self.probing -= 1;
        answer
    }

    /// Drops cells that a probe refutes.
    pub(crate) fn prune(&mut self, mut cells: Cells) -> Result<Cells, Problem> {
        let mut ask = |a: &mut Self, n: NodeId| a.may_live(n);
        let mut kept = Vec::with_capacity(cells.strings.len());
        for c in std::mem::take(&mut cells.strings) {
            if !self.strings.is_empty(self.nodes.languages(), &c)? {
                kept.push(c);
            }
        }
        cells.strings = kept;
        let mut kept = Vec::with_capacity(cells.numbers.len());
        for c in std::mem::take(&mut cells.numbers) {
            if super::numbers::lives(&c)? {
                kept.push(c);
            }
        }
        cells.numbers = kept;
        let mut kept = Vec::with_capacity(cells.arrays.len());
        for c in std::mem::take(&mut cells.arrays) {
            if self.array_lives(&c, &mut ask)? {
                kept.push(c);
            }
        }
        cells.arrays = kept;
        let mut kept = Vec::with_capacity(cells.objects.len());
        for c in std::mem::take(&mut cells.objects) {
            if self.object_lives(&c, &mut ask)? {
                kept.push(c);
            }
        }
        cells.objects = kept;
        Ok(cells)
    }
}
