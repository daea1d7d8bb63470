//! What is found wrong before any text: a pass over all schemas that can be reached.
//!
//! Expansion is lazy, but errors must not be: every keyword, reference, pattern and format is read
//! here once, in time linear in the schema's size, and schemas that lead back to themselves without
//! looking into the value are refused.

use super::error::Problem;
use super::expand::Algebra;
use super::keywords::{Loc, Rule};
use super::nodes::NodeId;
use rustc_hash::{FxHashMap, FxHashSet};

/// Nodes that are expanded at once; later ones when a text reaches them.
const EAGER_NODES: usize = 256;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    Open,
    Done,
}

/// Schemas of members, items and names.
fn inner(rule: &Rule) -> Vec<Loc> {
    match rule {
        Rule::Items { prefix, rest } => prefix.iter().copied().chain(*rest).collect(),
        Rule::Contains { schema, .. }
        | Rule::PropertyNames(schema)
        | Rule::UnevaluatedItems(schema)
        | Rule::UnevaluatedProperties(schema) => vec![*schema],
        Rule::Members { names, patterns, additional } => {
            names.iter().chain(patterns.iter()).map(|n| n.1).chain(*additional).collect()
        }
        _ => Vec::new(),
    }
}

impl Algebra {
    /// Reads everything that can be reached from the root.
    pub(crate) fn check_all(&mut self) -> Result<(), Problem> {
        let mut marks: FxHashMap<Loc, Mark> = FxHashMap::default();
        let mut values = vec![self.docs.root];
        while let Some(start) = values.pop() {
            // Depth first along schemas of the same value; `None` closes one.
            let mut todo = vec![(start, false)];
            while let Some((at, leaving)) = todo.pop() {
                if leaving {
                    marks.insert(at, Mark::Done);
                    continue;
                }
                match marks.get(&at) {
                    Some(Mark::Done) => continue,
                    Some(Mark::Open) => {
                        let why = "a cycle of schemas applied to the same value";
                        return Err(Problem::invalid(&self.docs, at, "$ref", why));
                    }
                    None => {}
                }
                marks.insert(at, Mark::Open);
                todo.push((at, true));
                let Some(rules) = self.rules(at)? else { continue };
                for rule in rules.iter() {
                    self.check_rule(at, rule)?;
                    values.extend(inner(rule));
                    todo.extend(rule.in_place().into_iter().map(|l| (l, false)));
                }
            }
        }
        Ok(())
    }

    fn check_rule(&mut self, at: Loc, rule: &Rule) -> Result<(), Problem> {
        match rule {
            Rule::Pattern(_) | Rule::Format(_) => drop(self.language(at, rule)?),
            Rule::Members { patterns, .. } => {
                for (p, _) in patterns.iter() {
                    self.check_pattern(at, "patternProperties", p)?;
                }
            }
            // The machine does not compare items yet.
            Rule::Unique if !self.relax => {
                let why = "comparing items";
                let hint = "use on_unsupported=\"relax\" and check the answer";
                return Err(Problem::unsupported(&self.docs, at, "uniqueItems", why, hint));
            }
            Rule::Unique => {
                let path = self.docs.store.pointer(at);
                self.relaxed.push((path, "uniqueItems".into(), "items are not compared".into()));
            }
            _ => {}
        }
        Ok(())
    }

    /// Expands the first nodes, so that combinations that are too many are found now.
    pub(crate) fn expand_some(&mut self, root: NodeId) -> Result<(), Problem> {
        let mut seen = vec![root];
        let mut i = 0;
        let mut known: FxHashSet<NodeId> = FxHashSet::default();
        while i < seen.len() && i < EAGER_NODES {
            let cells = self.cells(seen[i])?;
            i += 1;
            let children =
                cells.arrays.iter().flat_map(|a| a.prefix.iter().copied().chain([a.rest])).chain(
                    cells.objects.iter().flat_map(|o| {
                        o.groups.iter().flat_map(|g| {
                            g.names
                                .iter()
                                .map(|n| n.1)
                                .chain(g.patterns.iter().map(|p| p.1))
                                .chain([g.rest])
                        })
                    }),
                );
            for child in children {
                if known.insert(child) {
                    seen.push(child);
                }
            }
        }
        Ok(())
    }
}
