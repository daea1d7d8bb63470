//! Membership: whether a value lies in a node, by its cells alone.

use super::cells::{ArrCell, Cells, ObjCell, Unique, scalar};
use super::error::Problem;
use super::expand::Algebra;
use super::json::{JId, Json, Store};
use super::nodes::{NodeId, Nodes};
use std::sync::Arc;

impl Algebra {
    /// Whether a value lies in a node.
    pub(crate) fn contains(
        &mut self,
        node: NodeId,
        store: &Store,
        value: JId,
    ) -> Result<bool, Problem> {
        match node {
            Nodes::ANY => return Ok(true),
            Nodes::NONE => return Ok(false),
            _ => {}
        }
        let cells: Arc<Cells> = self.cells(node)?;
        match store.get(value) {
            Json::Null => Ok(cells.scalars & scalar::NULL != 0),
            Json::Bool(false) => Ok(cells.scalars & scalar::FALSE != 0),
            Json::Bool(true) => Ok(cells.scalars & scalar::TRUE != 0),
            Json::Number(n) => Ok(cells.numbers.iter().any(|c| c.contains(n))),
            Json::String(s) => {
                for c in &cells.strings {
                    if self.string_in(c, s)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Json::Array(items) => {
                for c in &cells.arrays {
                    if self.array_in(c, store, items)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Json::Object(members) => {
                for c in &cells.objects {
                    if self.object_in(c, store, members)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
        }
    }

    fn array_in(&mut self, cell: &ArrCell, store: &Store, items: &[JId]) -> Result<bool, Problem> {
        let n = items.len() as u64;
        if n < cell.min || cell.max.is_some_and(|m| n > m) {
            return Ok(false);
        }
        if cell.unique != Unique::Any {
            let mut texts: Vec<String> = items.iter().map(|&i| store.canonical(i)).collect();
            texts.sort_unstable();
            let repeated = texts.windows(2).any(|w| w[0] == w[1]);
            if repeated != (cell.unique == Unique::SomeEqual) {
                return Ok(false);
            }
        }
        for (i, &item) in items.iter().enumerate() {
            if !self.contains(cell.item(i), store, item)? {
                return Ok(false);
            }
        }
        for c in &cell.counted {
            let mut n = 0;
            for &item in items.iter().skip(c.what) {
                n += u64::from(self.contains(c.node, store, item)?);
            }
            if n < c.min || c.max.is_some_and(|m| n > m) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn object_in(
        &mut self,
        cell: &ObjCell,
        store: &Store,
        members: &[(Arc<str>, JId)],
    ) -> Result<bool, Problem> {
        let n = members.len() as u64;
        if n < cell.min || cell.max.is_some_and(|m| n > m) {
            return Ok(false);
        }
        if !cell.required.iter().all(|r| members.iter().any(|m| m.0 == *r)) {
            return Ok(false);
        }
        let mut counts = vec![0u64; cell.counted.len()];
        for (key, value) in members {
            let node = self.member(cell, key)?;
            if !self.contains(node, store, *value)? {
                return Ok(false);
            }
            for bit in self.conditions_of(cell, key)? {
                let c = &cell.counted[bit];
                counts[bit] += u64::from(self.contains(c.node, store, *value)?);
            }
        }
        Ok(cell.counted.iter().zip(counts).all(|(c, n)| n >= c.min && c.max.is_none_or(|m| n <= m)))
    }
}
