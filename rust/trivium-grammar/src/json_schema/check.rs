//! What is found wrong before any text: a pass over all schemas that can be reached.
//!
//! Expansion is lazy, but errors must not be: every keyword, reference, pattern and format is read
//! here once, in time linear in the schema's size, and schemas that lead back to themselves without
//! looking into the value are refused.

use super::cells::{ArrCell, Unique};
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
pub(super) fn inner(rule: &Rule) -> Vec<Loc> {
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
            Rule::Unique => self.unique_rules += 1,
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
            for a in &cells.arrays {
                self.check_conditions(a.counted.len())?;
                if a.unique != Unique::Any {
                    self.compared += usize::from(self.compares_containers(a)?);
                }
            }
            for o in &cells.objects {
                self.check_conditions(o.counted.len())?;
            }
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
        if i < seen.len() {
            // Not all was looked at: what was not may compare containers.
            self.compared += self.unique_rules;
        }
        Ok(())
    }

    /// Whether items of an array that are compared may be arrays or objects.
    fn compares_containers(&mut self, array: &ArrCell) -> Result<bool, Problem> {
        if array.unique == Unique::SomeEqual {
            return Ok(true);
        }
        for node in array.prefix.iter().copied().chain([array.rest]) {
            let cells = self.cells(node)?;
            if !cells.arrays.is_empty() || !cells.objects.is_empty() {
                return Ok(true);
            }
        }
        Ok(!array.prefix.is_empty())
    }
}
