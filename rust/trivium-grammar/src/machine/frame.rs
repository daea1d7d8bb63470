//! Frames: the registers of an object or an array that is being read, as hash-consed values.
//!
//! The state of an object is not a place in an expanded grammar but: which declared members came (in
//! the schema's order an index, otherwise a bit set), how many members there are, how many meet each
//! condition, which undeclared keys were written. Counters stop where they stop mattering, so a long
//! array without a bound walks through finitely many frames.
//!
//! A step is offered only if the container can still be completed after it (guarantee D). Without
//! counted conditions that is two inequalities; with them, a search over (next declared member or
//! place, count, counters), which the order of members does not enlarge: what is still to come may be
//! taken in the order of declaration.

use super::graph::{Alternative, Array, Condition, Object, Order, UNBOUNDED};
use rustc_hash::FxHashSet;
use std::sync::Arc;

/// What a container waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    /// The bracket was read: a member, an item or the closing bracket.
    Open,
    /// A comma was read: a member or an item.
    Comma,
    /// A key is being read.
    Key,
    /// A value is being read.
    Value,
}

/// Registers of an object.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Members {
    /// Every declared member below was taken or passed over.
    pub(super) next: u32,
    /// Declared members taken, from `next` on: in the schema's order none.
    pub(super) seen: Arc<[u64]>,
    /// Members so far, as far as it matters.
    pub(super) count: u32,
    /// Members so far that meet each condition, as far as it matters.
    pub(super) met: Met,
}

/// Counters of conditions.
pub(super) type Met = Arc<[u32]>;

fn bump(conditions: &[Condition], met: &Met, counts: u8) -> Met {
    if counts == 0 || conditions.is_empty() {
        return Arc::clone(met);
    }
    conditions
        .iter()
        .zip(&**met)
        .enumerate()
        .map(|(i, (c, &n))| if counts >> i & 1 == 1 { (n + 1).min(cap(c.min, c.max)) } else { n })
        .collect()
}

/// The count from which on more makes no difference.
fn cap(min: u32, max: u32) -> u32 {
    if max == UNBOUNDED { min } else { max.saturating_add(1).max(min) }
}

fn within(conditions: &[Condition], met: &[u32]) -> bool {
    conditions.iter().zip(met).all(|(c, &n)| n <= c.max)
}

fn done(conditions: &[Condition], met: &[u32]) -> bool {
    conditions.iter().zip(met).all(|(c, &n)| c.min <= n && n <= c.max)
}

fn fresh(conditions: &[Condition]) -> Met {
    vec![0; conditions.len()].into()
}

/// A place to fill, for the search: what may stand there, whether something must.
struct Slot<'a> {
    values: &'a [Alternative],
    required: bool,
}

/// Whether the rest can be filled: `slots` in order, then any number of `more`, so that the total
/// count lies between the bounds and all conditions hold. Gives up as "yes" after many steps.
fn fillable(
    conditions: &[Condition],
    slots: &[Slot<'_>],
    more: &[Alternative],
    (min, max): (u32, u32),
    (count, met): (u32, &Met),
) -> bool {
    const STEPS: usize = 20_000;
    let cap = cap(min, max);
    let mut known: FxHashSet<(usize, u32, Met)> = FxHashSet::default();
    let mut todo = vec![(0, count, Arc::clone(met))];
    while let Some((at, count, met)) = todo.pop() {
        if count > max || !within(conditions, &met) || !known.insert((at, count, Arc::clone(&met)))
        {
            continue;
        }
        let end = at == slots.len();
        if (end && min <= count && done(conditions, &met)) || known.len() > STEPS {
            return true;
        }
        let values = if end { more } else { slots[at].values };
        if !end && !slots[at].required {
            todo.push((at + 1, count, Arc::clone(&met)));
        }
        let next = if end { at } else { at + 1 };
        for v in values {
            todo.push((next, (count + 1).min(cap), bump(conditions, &met, v.counts)));
        }
    }
    false
}

/// An object with what is derived from its declaration once.
#[derive(Debug)]
pub(super) struct ObjectPlan {
    pub(super) spec: Arc<Object>,
    /// Required members from a declared member on.
    required_from: Box<[u32]>,
}

impl ObjectPlan {
    pub(super) fn new(spec: Arc<Object>) -> Self {
        let mut from = vec![0; spec.members.len() + 1];
        for (i, m) in spec.members.iter().enumerate().rev() {
            from[i] = from[i + 1] + u32::from(m.required);
        }
        Self { spec, required_from: from.into() }
    }

    pub(super) fn open(&self) -> Members {
        let met = fresh(&self.spec.conditions);
        Members { next: 0, seen: Arc::from([]), count: 0, met }
    }

    fn seen(f: &Members, k: usize) -> bool {
        f.seen.get(k / 64).is_some_and(|w| w >> (k % 64) & 1 == 1)
    }

    /// Declared members that can no longer come are those before `next` and those seen.
    fn open_members<'a>(&'a self, f: &'a Members) -> impl Iterator<Item = usize> + 'a {
        (f.next as usize..self.spec.members.len()).filter(|&k| !Self::seen(f, k))
    }

    fn missing(&self, f: &Members) -> u32 {
        let from = self.required_from[f.next as usize];
        if f.seen.is_empty() {
            return from;
        }
        let seen = (f.next as usize..self.spec.members.len())
            .filter(|&k| self.spec.members[k].required && Self::seen(f, k))
            .count();
        from - seen as u32
    }

    /// Whether the object can be completed from here.
    fn completable(&self, f: &Members) -> bool {
        let spec = &self.spec;
        if !within(&spec.conditions, &f.met) {
            return false;
        }
        if spec.conditions.is_empty() {
            let least = f.count + self.missing(f);
            let most = if spec.others.is_empty() {
                f.count + self.open_members(f).count() as u32
            } else {
                UNBOUNDED
            };
            return least <= spec.max && spec.min <= most;
        }
        let slots: Vec<Slot<'_>> = self
            .open_members(f)
            .map(|k| Slot { values: &spec.members[k].values, required: spec.members[k].required })
            .collect();
        let more: Vec<Alternative> =
            spec.others.iter().flat_map(|o| o.values.iter().copied()).collect();
        fillable(&spec.conditions, &slots, &more, (spec.min, spec.max), (f.count, &f.met))
    }

    /// Whether the closing bracket may come.
    pub(super) fn may_close(&self, f: &Members) -> bool {
        f.count >= self.spec.min
            && f.count <= self.spec.max
            && self.missing(f) == 0
            && done(&self.spec.conditions, &f.met)
    }

    fn count(&self, f: &Members) -> u32 {
        (f.count + 1).min(cap(self.spec.min, self.spec.max))
    }

    /// The registers after member `k` with a value that meets `counts`.
    pub(super) fn take(&self, f: &Members, k: usize, counts: u8) -> Members {
        let n = self.spec.members.len();
        let count = self.count(f);
        let met = bump(&self.spec.conditions, &f.met, counts);
        if self.spec.order == Order::Schema {
            return Members { next: k as u32 + 1, seen: Arc::from([]), count, met };
        }
        let mut seen: Vec<u64> = f.seen.to_vec();
        seen.resize(seen.len().max(k / 64 + 1), 0);
        seen[k / 64] |= 1 << (k % 64);
        let mut next = f.next as usize;
        while next < n && seen.get(next / 64).is_some_and(|w| w >> (next % 64) & 1 == 1) {
            seen[next / 64] &= !(1 << (next % 64));
            next += 1;
        }
        while seen.last() == Some(&0) {
            seen.pop();
        }
        Members { next: next as u32, seen: seen.into(), count, met }
    }

    /// The registers after an undeclared member.
    pub(super) fn take_other(&self, f: &Members, counts: u8) -> Members {
        let next =
            if self.spec.order == Order::Schema { self.spec.members.len() as u32 } else { f.next };
        let met = bump(&self.spec.conditions, &f.met, counts);
        Members { next, seen: Arc::clone(&f.seen), count: self.count(f), met }
    }

    /// The declared members that may come now, ascending.
    pub(super) fn offered(&self, f: &Members) -> Vec<u32> {
        let spec = &self.spec;
        let ordered = spec.order == Order::Schema;
        let missing = self.missing(f);
        let open: Vec<usize> = self.open_members(f).collect();
        let endless = !spec.others.is_empty();
        let mut out = Vec::new();
        for (i, &k) in open.iter().enumerate() {
            let m = &spec.members[k];
            let fits = if spec.conditions.is_empty() {
                // As `completable` after `take`, without making the registers.
                let must = if ordered {
                    self.required_from[k + 1]
                } else {
                    missing - u32::from(m.required)
                };
                let left = if ordered { open.len() - i - 1 } else { open.len() - 1 };
                let most = if endless { UNBOUNDED } else { f.count + 1 + left as u32 };
                f.count + 1 + must <= spec.max && spec.min <= most
            } else {
                m.values.iter().any(|v| self.completable(&self.take(f, k, v.counts)))
            };
            if fits {
                out.push(k as u32);
            }
            if m.required && ordered {
                break;
            }
        }
        out
    }

    /// Whether undeclared member language `j` may come now.
    pub(super) fn offers_other(&self, f: &Members, j: usize) -> bool {
        if self.spec.order == Order::Schema && self.missing(f) > 0 {
            return false;
        }
        let values = &self.spec.others[j].values;
        values.iter().any(|v| self.completable(&self.take_other(f, v.counts)))
    }

    /// Whether the registers after a member leave a way to the end.
    pub(super) fn is_open(&self, f: &Members) -> bool {
        self.completable(f)
    }
}

/// Registers of an array: items so far, and how many meet each condition.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Items {
    pub(super) count: u32,
    pub(super) met: Met,
}

/// An array and the point from which on all places are alike.
#[derive(Debug)]
pub(super) struct ArrayPlan {
    pub(super) spec: Arc<Array>,
    cap: u32,
}

impl ArrayPlan {
    pub(super) fn new(spec: Arc<Array>) -> Self {
        let cap = cap(spec.min, spec.max).max(spec.prefix.len() as u32);
        Self { spec, cap }
    }

    pub(super) fn open(&self) -> Items {
        Items { count: 0, met: fresh(&self.spec.conditions) }
    }

    /// What may stand at the next place, whether or not the array can be completed then.
    fn values(&self, f: &Items) -> &[Alternative] {
        self.spec.prefix.get(f.count as usize).map_or(&self.spec.rest, |v| v)
    }

    /// The registers after an item that meets `counts`.
    pub(super) fn take(&self, f: &Items, counts: u8) -> Items {
        let met = bump(&self.spec.conditions, &f.met, counts);
        Items { count: (f.count + 1).min(self.cap), met }
    }

    fn completable(&self, f: &Items) -> bool {
        let spec = &self.spec;
        if f.count > spec.max || !within(&spec.conditions, &f.met) {
            return false;
        }
        let end = spec.prefix.iter().position(Vec::is_empty).unwrap_or(spec.prefix.len());
        let open = end == spec.prefix.len() && !spec.rest.is_empty();
        if spec.conditions.is_empty() {
            return open || spec.min as usize <= end.max(f.count as usize);
        }
        let from = end.min(f.count as usize);
        let slots: Vec<Slot<'_>> =
            spec.prefix[from..end].iter().map(|v| Slot { values: v, required: false }).collect();
        // A place may be left out only if all later ones are: the search skips to the end there.
        let more: &[Alternative] = if open { &spec.rest } else { &[] };
        (0..=slots.len()).any(|n| {
            let tail: &[Alternative] = if n == slots.len() { more } else { &[] };
            let head: Vec<Slot<'_>> =
                slots[..n].iter().map(|s| Slot { values: s.values, required: true }).collect();
            fillable(&spec.conditions, &head, tail, (spec.min, spec.max), (f.count, &f.met))
        })
    }

    /// Whether the closing bracket may come.
    pub(super) fn may_close(&self, f: &Items) -> bool {
        f.count >= self.spec.min && f.count <= self.spec.max && done(&self.spec.conditions, &f.met)
    }

    /// The alternatives of the next item that leave a way to the end.
    pub(super) fn offered<'a>(&'a self, f: &'a Items) -> impl Iterator<Item = Alternative> + 'a {
        self.values(f).iter().copied().filter(|v| self.completable(&self.take(f, v.counts)))
    }
}
