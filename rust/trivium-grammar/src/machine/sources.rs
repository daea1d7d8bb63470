//! Several sources of nodes in one graph, numbered apart.

use super::graph::{Array, Cell, Node, NodeId, NodeSource, Object, Others};
use crate::automata::expr::Arena;
use crate::error::{Error, Result};
use std::sync::Arc;

/// Node `id` of source `which` of `n`. Node 0 is the graph's own.
pub(crate) fn number(id: NodeId, which: u32, n: u32) -> NodeId {
    id.saturating_mul(n).saturating_add(which).saturating_add(1)
}

/// The nodes of several sources.
#[derive(Debug)]
pub(crate) struct Sources {
    list: Box<[Arc<dyn NodeSource>]>,
}

impl Sources {
    pub(crate) fn new(list: impl IntoIterator<Item = Arc<dyn NodeSource>>) -> Self {
        Self { list: list.into_iter().collect() }
    }
}

impl NodeSource for Sources {
    fn node(&self, arena: &mut Arena, id: NodeId) -> Result<Node> {
        if id == NodeId::MAX {
            // Numbers saturate: this one may stand for several.
            return Err(Error::limit("nodes", id.into(), u64::from(id) - 1));
        }
        let n = self.list.len() as NodeId;
        let (id, which) = ((id - 1) / n, (id - 1) % n);
        let mut node = self.list[which as usize].node(arena, id)?;
        let map = |id: NodeId| number(id, which, n);
        for cell in &mut node.cells {
            match cell {
                Cell::Object(o) => {
                    let mut object = Object::clone(o);
                    let members = object.members.iter_mut().map(|m| &mut m.values);
                    let others = object.others.iter_mut().map(|o: &mut Others| &mut o.values);
                    members.chain(others).flatten().for_each(|v| v.value = map(v.value));
                    *o = Arc::new(object);
                }
                Cell::Array(a) => {
                    let mut array = Array::clone(a);
                    let places = array.prefix.iter_mut().chain(std::iter::once(&mut array.rest));
                    places.flatten().for_each(|v| v.value = map(v.value));
                    *a = Arc::new(array);
                }
                Cell::Lexeme(_) | Cell::Rule(_) => {}
            }
        }
        Ok(node)
    }
}
