//! Schemas beside each other: `anyOf`, `oneOf`, their complements, and `unevaluated*` around them.

use super::super::cells::{ArrCell, Cells, KeyLang, ObjCell};
use super::super::error::Problem;
use super::super::keywords::{Loc, Rule};
use super::super::nodes::{EnvId, NodeId, Nodes};
use super::complement::{some_item, some_member};
use super::{Algebra, MAX_OPEN, Mode, evaluates};
use std::sync::Arc;

impl Algebra {
    /// Applies `unevaluated*` to cells that know what was evaluated; or leaves those that break it.
    pub(super) fn unevaluated(
        &mut self,
        cells: Cells,
        env: EnvId,
        rule: &Rule,
        violated: bool,
    ) -> Result<Cells, Problem> {
        let mut out = Cells::none();
        match rule {
            Rule::UnevaluatedProperties(schema) => {
                let node = self.schema(*schema, env)?;
                let wrong = self.nodes.complement(node);
                for cell in &cells.objects {
                    let keys = if cell.evaluated.is_empty() {
                        KeyLang::All
                    } else {
                        KeyLang::NotAny(cell.evaluated.iter().cloned().collect())
                    };
                    let here = if violated {
                        some_member(keys, wrong)
                    } else {
                        ObjCell::other(keys, node)
                    };
                    let mut one = Cells::none();
                    one.objects.push(cell.clone());
                    let here = Cells { objects: vec![here], ..Cells::none() };
                    let mut met = self.meet(&one, &here)?;
                    for o in &mut met.objects {
                        o.evaluated = [KeyLang::All].into();
                    }
                    out.join(met);
                }
                if !violated {
                    out.join(Cells { objects: Vec::new(), ..cells });
                }
            }
            Rule::UnevaluatedItems(schema) => {
                let node = self.schema(*schema, env)?;
                for cell in &cells.arrays {
                    if cell.evaluated.all {
                        if !violated {
                            out.arrays.push(cell.clone());
                        }
                        continue;
                    }
                    let mut members: Vec<NodeId> =
                        cell.evaluated.matching.iter().copied().collect();
                    members.push(node);
                    let allowed = self.nodes.union(members);
                    let from = cell.evaluated.prefix;
                    let here = if violated {
                        let wrong = self.nodes.complement(allowed);
                        some_item(from, wrong)
                    } else {
                        vec![ArrCell {
                            prefix: vec![Nodes::ANY; from],
                            rest: allowed,
                            ..ArrCell::any()
                        }]
                    };
                    let one = Cells { arrays: vec![cell.clone()], ..Cells::none() };
                    let here = Cells { arrays: here, ..Cells::none() };
                    let mut met = self.meet(&one, &here)?;
                    for a in &mut met.arrays {
                        a.evaluated.all = true;
                    }
                    out.join(met);
                }
                if !violated {
                    out.join(Cells { arrays: Vec::new(), ..cells });
                }
            }
            _ => {}
        }
        Ok(out)
    }

    pub(super) fn any_of(
        &mut self,
        list: &[Loc],
        env: EnvId,
        mode: Mode,
    ) -> Result<Cells, Problem> {
        let mut out = Cells::none();
        if mode == Mode::Plain {
            for &s in list {
                let cells = self.sub(s, env, false, mode)?;
                out.join((*cells).clone());
                self.check(&out)?;
            }
            return Ok(out);
        }
        let mut parts = Vec::new();
        for &s in list {
            let yes = self.sub(s, env, false, mode)?;
            let no = if mode == Mode::Exact {
                self.sub(s, env, true, Mode::Plain)?
            } else {
                Arc::new(Cells::all())
            };
            parts.push((yes, no));
        }
        let open = parts.iter().filter(|p| evaluates(&p.0)).count();
        if open > MAX_OPEN {
            let at = self.open.last().copied().unwrap_or(self.docs.root);
            let why = format!("{open} branches may evaluate members beside unevaluated*");
            let hint = "write additionalProperties or items: false in the branches";
            return Err(Problem::unsupported(&self.docs, at, "anyOf", &why, hint));
        }
        // Subsets of successful branches; the empty one is dropped at the end.
        let mut subsets = vec![(Cells::all(), false)];
        for (yes, no) in &parts {
            let mut next = Vec::new();
            for (cells, any) in &subsets {
                let with = self.meet(cells, yes)?;
                if !with.is_none() {
                    next.push((with, true));
                }
                let without = self.meet(cells, no)?;
                if !without.is_none() {
                    next.push((without, *any));
                }
            }
            if next.len() > self.max_cells {
                return Err(self.too_many());
            }
            subsets = next;
        }
        for (cells, any) in subsets {
            if any {
                out.join(cells);
            }
        }
        self.check(&out)?;
        Ok(out)
    }

    pub(super) fn none_of(&mut self, list: &[Loc], env: EnvId) -> Result<Cells, Problem> {
        let mut out = Cells::all();
        for &s in list {
            let cells = self.sub(s, env, true, Mode::Plain)?;
            out = self.meet(&out, &cells)?;
            out = self.prune(out)?;
        }
        Ok(out)
    }

    pub(super) fn one_of(
        &mut self,
        list: &[Loc],
        env: EnvId,
        mode: Mode,
    ) -> Result<Cells, Problem> {
        let mut plain = Vec::with_capacity(list.len());
        for &s in list {
            plain.push(self.sub(s, env, false, Mode::Plain)?);
        }
        let mut out = Cells::none();
        for (i, &s) in list.iter().enumerate() {
            let mut here = (*self.sub(s, env, false, mode)?).clone();
            for (j, &other) in list.iter().enumerate() {
                if i == j || here.is_none() {
                    continue;
                }
                let both = self.meet(&plain[i], &plain[j])?;
                if self.prune(both)?.is_none() {
                    continue;
                }
                let outside = self.sub(other, env, true, Mode::Plain)?;
                here = self.meet(&here, &outside)?;
                here = self.prune(here)?;
            }
            out.join(here);
            self.check(&out)?;
        }
        Ok(out)
    }
}
