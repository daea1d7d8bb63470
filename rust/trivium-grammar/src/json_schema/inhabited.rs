//! Emptiness: a least fixpoint over nodes.
//!
//! A node is inhabited iff some cell is, assuming inhabited children. Answers that are still open
//! count as *no*; rounds go on until none changes. So an object that requires itself is empty, and a
//! list of itself is not, since it may be `[]`. A child not met before is asked at once: an object
//! with many required members needs one look and not one for each member.
//!
//! While schemas are being expanded a *probe* asks less: it looks a few levels deep and says *maybe*
//! beyond. Cells that a probe refutes are dropped early, which keeps products small; the exact answer
//! comes later.

use super::cells::{ArrCell, Cells, ObjCell, Unique};
use super::error::Problem;
use super::expand::Algebra;
use super::nodes::{NodeId, Nodes};
use super::plan::Ask;
use rustc_hash::{FxHashMap, FxHashSet};

/// Levels that a probe looks down.
const PROBE: usize = 2;

/// Levels of children that are asked at once; deeper ones wait for their turn.
const AT_ONCE: usize = 32;

/// Nodes met while one answer is sought.
#[derive(Default)]
struct Search {
    met: FxHashSet<NodeId>,
    /// Those whose answer is open, in the order they were left.
    open: Vec<NodeId>,
}

/// What is known of nodes.
#[derive(Debug, Default)]
pub(crate) struct Inhabited {
    known: FxHashMap<NodeId, bool>,
    /// Times that the cells of a node were looked through.
    looks: usize,
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
        let mut search = Search { met: [node].into_iter().collect(), open: vec![node] };
        loop {
            let before = (search.open.len(), self.inhabited.known.len());
            let mut i = 0;
            while i < search.open.len() {
                let here = search.open[i];
                i += 1;
                if !self.inhabited.known.contains_key(&here)
                    && self.lives(here, &mut search, 0)?
                    && here == node
                {
                    return Ok(true);
                }
            }
            if before == (search.open.len(), self.inhabited.known.len()) {
                break;
            }
        }
        for n in search.open {
            self.inhabited.known.entry(n).or_insert(false);
        }
        Ok(self.inhabited.known.get(&node).copied().unwrap_or(false))
    }

    /// Whether a node is seen to be inhabited while open answers count as *no*.
    fn lives(&mut self, node: NodeId, search: &mut Search, depth: usize) -> Result<bool, Problem> {
        crate::watch::poll()?;
        self.inhabited.looks += 1;
        let cells = self.cells(node)?;
        let yes = self.any_cell(&cells, &mut |a, n| {
            match n {
                Nodes::ANY => return Ok(true),
                Nodes::NONE => return Ok(false),
                _ => {}
            }
            if let Some(&known) = a.inhabited.known.get(&n) {
                return Ok(known);
            }
            if !search.met.insert(n) {
                return Ok(false);
            }
            if depth < AT_ONCE && a.lives(n, search, depth + 1)? {
                return Ok(true);
            }
            search.open.push(n);
            Ok(false)
        })?;
        if yes {
            self.inhabited.known.insert(node, true);
        }
        Ok(yes)
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::documents::Documents;
    use super::super::options::Formats;
    use super::*;
    use crate::limits::CompileLimits;
    use std::collections::BTreeMap;

    /// Whether a schema is inhabited, and the looks that it took.
    fn ask(schema: &str) -> (bool, usize) {
        let docs = Documents::new(schema, BTreeMap::new()).unwrap();
        let limits = CompileLimits::default();
        let mut algebra = Algebra::new(docs, Formats::Assert, 10_000, false, &limits);
        let root = algebra.root().unwrap();
        (algebra.inhabited(root).unwrap(), algebra.inhabited.looks)
    }

    #[test]
    fn members_are_looked_at_once() {
        const N: usize = 500;
        let list = |f: &dyn Fn(usize) -> String| (0..N).map(f).collect::<Vec<_>>().join(",");
        let members = list(&|i| format!(r##""m{i}": {{"$ref": "#/$defs/d{i}"}}"##));
        let defs = list(&|i| format!(r#""d{i}": {{"type": "string", "minLength": {i}}}"#));
        let names = list(&|i| format!(r#""m{i}""#));
        let schema = format!(
            r#"{{"type": "object", "properties": {{{members}}}, "required": [{names}],
                "$defs": {{{defs}}}}}"#
        );
        assert_eq!(ask(&schema), (true, N + 1));
    }

    #[test]
    fn chains_deeper_than_what_is_asked_at_once() {
        const N: usize = 5 * AT_ONCE;
        let chain = |last: &str| {
            let link = |i| {
                format!(
                    r##""d{i}": {{"type": "object", "required": ["a"],
                        "properties": {{"a": {{"$ref": "#/$defs/d{}"}}}}}}"##,
                    i + 1
                )
            };
            let links = (0..N).map(link).collect::<Vec<_>>().join(",");
            ask(&format!(r##"{{"$ref": "#/$defs/d0", "$defs": {{{links}, "d{N}": {last}}}}}"##)).0
        };
        assert!(chain(r#"{"type": "null"}"#));
        assert!(!chain("false"));
        // Back to the start: no text ends.
        assert!(!chain(r##"{"type": "array", "items": {"$ref": "#/$defs/d0"}, "minItems": 1}"##));
        assert!(chain(r##"{"type": "array", "items": {"$ref": "#/$defs/d0"}}"##));
    }
}
