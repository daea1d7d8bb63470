//! Whether a container can be filled so that its counted conditions hold.
//!
//! Every member or item is one of its place's alternatives, each of which meets some conditions. The
//! search runs over places in order; its state is how many members and how many of each condition
//! there are so far, as far as it matters.

use super::plan::{ArrPlan, Bounds, Choice, ObjPlan};
use crate::automata::expr::INF;
use rustc_hash::FxHashSet;

/// States looked at before the answer is taken to be yes; then completability is not proven.
const MAX_STATES: usize = 100_000;

/// The count beyond which more makes no difference.
fn cap((min, max): Bounds) -> u32 {
    if max == INF { min } else { max.saturating_add(1).max(min) }
}

struct Search<'a> {
    conditions: &'a [Bounds],
    size: Bounds,
}

type State = (u32, Vec<u32>);

impl Search<'_> {
    fn start(&self) -> State {
        (0, vec![0; self.conditions.len()])
    }

    fn take(&self, (count, met): &State, bits: u8) -> Option<State> {
        let count = (count + 1).min(cap(self.size));
        if count > self.size.1 {
            return None;
        }
        let mut next = met.clone();
        for (i, &c) in self.conditions.iter().enumerate() {
            if bits >> i & 1 == 1 {
                next[i] = (next[i] + 1).min(cap(c));
                if next[i] > c.1 {
                    return None;
                }
            }
        }
        Some((count, next))
    }

    fn done(&self, (count, met): &State) -> bool {
        *count >= self.size.0 && self.conditions.iter().zip(met).all(|(c, &n)| n >= c.0)
    }

    /// States after one place.
    fn step(&self, from: &FxHashSet<State>, values: &[Choice], required: bool) -> FxHashSet<State> {
        let mut out = if required { FxHashSet::default() } else { from.clone() };
        let mut from: Vec<&State> = from.iter().collect();
        from.sort_unstable();
        for state in from {
            out.extend(values.iter().filter_map(|v| self.take(state, v.1)));
        }
        out
    }

    /// Whether any number of further places leads to an end.
    fn closes(&self, from: FxHashSet<State>, values: &[Choice]) -> bool {
        let mut todo: Vec<State> = from.iter().cloned().collect();
        todo.sort_unstable();
        let mut seen = from;
        while let Some(state) = todo.pop() {
            if self.done(&state) || seen.len() > MAX_STATES {
                return true;
            }
            for v in values {
                if let Some(next) = self.take(&state, v.1)
                    && seen.insert(next.clone())
                {
                    todo.push(next);
                }
            }
        }
        false
    }
}

/// Whether some object follows a plan, whose children are inhabited.
pub(crate) fn object(plan: &ObjPlan) -> bool {
    let search = Search { conditions: &plan.conditions, size: (plan.min, plan.max) };
    if plan.conditions.is_empty() {
        let must = plan.members.iter().filter(|m| m.required).count() as u64;
        let most = if plan.classes.is_empty() { plan.members.len() as u64 } else { u64::MAX };
        return must <= u64::from(plan.max) && u64::from(plan.min) <= most && plan.min <= plan.max;
    }
    let mut states = FxHashSet::default();
    states.insert(search.start());
    for m in &plan.members {
        states = search.step(&states, &m.values, m.required);
        if states.len() > MAX_STATES {
            return true;
        }
    }
    let more: Vec<Choice> = plan.classes.iter().flat_map(|c| c.values.iter().copied()).collect();
    search.closes(states, &more)
}

/// Whether some array follows a plan, whose children are inhabited.
pub(crate) fn array(plan: &ArrPlan) -> bool {
    let search = Search { conditions: &plan.conditions, size: (plan.min, plan.max) };
    let places = plan.prefix.len() as u32;
    if plan.conditions.is_empty() {
        return plan.min <= plan.max && (!plan.rest.is_empty() || plan.min <= places);
    }
    let mut states = FxHashSet::default();
    states.insert(search.start());
    for values in &plan.prefix {
        if search.closes(states.clone(), &[]) {
            return true;
        }
        states = search.step(&states, values, true);
    }
    search.closes(states, &plan.rest)
}
