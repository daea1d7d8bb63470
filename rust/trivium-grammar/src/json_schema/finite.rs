//! Nodes with few values: which values those are.
//!
//! Asked where different items are required: an array of five different items of a node with three
//! values does not exist. Values are canonical texts.

use super::cells::{ArrCell, NumCell, ObjCell, Unique, Whole};
use super::decimal::Decimal;
use super::error::Problem;
use super::expand::Algebra;
use super::json::quote;
use super::nodes::{NodeId, Nodes};
use super::plan::ArrPlan;
use std::collections::BTreeSet;

/// Values beyond which a node is taken for infinite.
const MANY: usize = 256;
/// Nesting that is looked into.
const DEPTH: usize = 4;
/// Places of an array whose values are matched.
const PLACES: usize = 128;

type Values = Option<BTreeSet<String>>;

fn few(values: BTreeSet<String>) -> Values {
    (values.len() <= MANY).then_some(values)
}

/// The integers of an interval, if they are few.
fn integers(cell: &NumCell) -> Values {
    if let Some(finite) = &cell.finite {
        return few(finite.iter().map(ToString::to_string).collect());
    }
    if cell.whole != Whole::Integer {
        return None;
    }
    let ends = |d: &Decimal| d.to_string().parse::<f64>().ok();
    let low = ends(&cell.low.as_ref()?.0)?.floor();
    let high = ends(&cell.high.as_ref()?.0)?.ceil();
    if !(low.abs() < 1e15 && high.abs() < 1e15) || high - low > (4 * MANY) as f64 {
        return None;
    }
    let inside = (low as i64..=high as i64)
        .filter_map(|n| Decimal::parse(&n.to_string()))
        .filter(|n| cell.contains(n));
    few(inside.map(|n| n.to_string()).collect())
}

impl Algebra {
    /// The values of a node, if they are few.
    pub(crate) fn values(&mut self, node: NodeId, depth: usize) -> Result<Values, Problem> {
        if node == Nodes::NONE {
            return Ok(Some(BTreeSet::new()));
        }
        if node == Nodes::ANY || depth > DEPTH {
            return Ok(None);
        }
        let cells = self.cells(node)?;
        let mut out = BTreeSet::new();
        for (bit, word) in [(1u8, "null"), (2, "false"), (4, "true")] {
            if cells.scalars & bit != 0 {
                out.insert(word.to_owned());
            }
        }
        for c in &cells.numbers {
            let Some(values) = integers(c) else { return Ok(None) };
            out.extend(values);
        }
        for c in &cells.strings {
            let e = super::strings::cell(&mut self.strings.arena, self.nodes.languages(), c)?;
            self.strings.arena.refuel();
            let Some(words) = self.strings.arena.finite_words(e, MANY)? else { return Ok(None) };
            for word in words {
                let mut text = String::new();
                quote(&word, &mut text);
                out.insert(text);
            }
        }
        for c in &cells.arrays {
            let Some(values) = self.arrays(c, depth)? else { return Ok(None) };
            out.extend(values);
        }
        for c in &cells.objects {
            let Some(values) = self.objects(c, depth)? else { return Ok(None) };
            out.extend(values);
        }
        Ok(few(out))
    }

    /// Arrays whose places all have few values and whose number is bounded; conditions only take
    /// values away, so those that count are not looked at closely.
    fn arrays(&mut self, cell: &ArrCell, depth: usize) -> Result<Values, Problem> {
        if !cell.counted.is_empty() || cell.unique == Unique::SomeEqual {
            return Ok(None);
        }
        let places = match cell.max {
            Some(m) if m <= 16 => m as usize,
            _ if cell.rest == Nodes::NONE => cell.prefix.len(),
            _ => return Ok(None),
        };
        let mut out = BTreeSet::new();
        let mut so_far: Vec<Vec<String>> = vec![Vec::new()];
        for i in 0..=places {
            if i as u64 >= cell.min {
                out.extend(so_far.iter().map(|items| format!("[{}]", items.join(","))));
            }
            if i == places || out.len() > MANY {
                break;
            }
            let Some(here) = self.values(cell.item(i), depth + 1)? else { return Ok(None) };
            let mut next = Vec::new();
            for items in &so_far {
                for v in &here {
                    if cell.unique == Unique::Distinct && items.contains(v) {
                        continue;
                    }
                    let mut items = items.clone();
                    items.push(v.clone());
                    next.push(items);
                }
            }
            if next.len() > MANY {
                return Ok(None);
            }
            so_far = next;
        }
        Ok(few(out))
    }

    fn objects(&mut self, cell: &ObjCell, depth: usize) -> Result<Values, Problem> {
        if !cell.counted.is_empty() {
            return Ok(None);
        }
        let Some(mut plan) = self.object_plan(cell, &mut |a, n| a.inhabited(n))? else {
            return Ok(Some(BTreeSet::new()));
        };
        if !plan.classes.is_empty() || plan.members.len() > 16 {
            return Ok(None);
        }
        plan.members.sort_by(|a, b| a.key.cmp(&b.key));
        let mut so_far: Vec<Vec<String>> = vec![Vec::new()];
        for m in &plan.members {
            let mut next = if m.required { Vec::new() } else { so_far.clone() };
            for &(node, _) in &m.values {
                let Some(here) = self.values(node, depth + 1)? else { return Ok(None) };
                for members in &so_far {
                    for v in &here {
                        let mut text = String::new();
                        quote(&m.key, &mut text);
                        let mut members = members.clone();
                        members.push(format!("{text}:{v}"));
                        next.push(members);
                    }
                }
            }
            if next.len() > MANY {
                return Ok(None);
            }
            so_far = next;
        }
        let size = plan.min as usize..=plan.max as usize;
        let fits = so_far.iter().filter(|m| size.contains(&m.len()));
        Ok(few(fits.map(|m| format!("{{{}}}", m.join(","))).collect()))
    }

    /// Whether the least number of places can be filled with different values.
    pub(crate) fn distinct(&mut self, plan: &ArrPlan) -> Result<bool, Problem> {
        let mut places: Vec<BTreeSet<String>> = Vec::new();
        for i in 0..(plan.min as usize).min(PLACES) {
            let choices = plan.prefix.get(i).unwrap_or(&plan.rest);
            let mut here = Some(BTreeSet::new());
            for &(node, _) in choices {
                here = match (here, self.values(node, 0)?) {
                    (Some(mut all), Some(more)) => {
                        all.extend(more);
                        Some(all)
                    }
                    _ => None,
                };
            }
            // An infinite place takes whatever the others leave.
            places.extend(here);
        }
        if places
            .first()
            .is_some_and(|first| places.iter().all(|p| p == first) && (plan.min as usize) > PLACES)
        {
            return Ok(false);
        }
        let mut owner: std::collections::BTreeMap<String, usize> =
            std::collections::BTreeMap::new();
        Ok((0..places.len()).all(|i| place(i, &places, &mut owner, &mut BTreeSet::new())))
    }
}

/// Finds place `i` a value, moving others if need be.
fn place(
    i: usize,
    places: &[BTreeSet<String>],
    owner: &mut std::collections::BTreeMap<String, usize>,
    tried: &mut BTreeSet<String>,
) -> bool {
    for v in &places[i] {
        if !tried.insert(v.clone()) {
            continue;
        }
        let free = match owner.get(v).copied() {
            None => true,
            Some(other) => place(other, places, owner, tried),
        };
        if free {
            owner.insert(v.clone(), i);
            return true;
        }
    }
    false
}
