//! Plans: what an object or array cell means for each key and place.
//!
//! A key is decided by the *predicates* that the cell's constraints ask of it (patterns, strings of a
//! node). Declared names are decided one by one; the others fall into classes of keys with the same
//! answers. A class that holds few words is declared word by word, so that what is left is infinite.
//!
//! Counted conditions split the values of a member or item into alternatives by which conditions
//! they meet.

use super::cells::{ArrCell, Counted, KeyLang, ObjCell, Unique};
use super::error::Problem;
use super::expand::Algebra;
use super::nodes::{NodeId, Nodes};
use crate::automata::expr::{Arena, EMPTY, ExprId, INF};
use rustc_hash::FxHashSet;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Words of a class that are declared one by one.
const FEW: usize = 64;
/// Conditions of one cell.
const MAX_CONDITIONS: usize = 8;
/// Classes of undeclared keys.
const MAX_CLASSES: usize = 256;

/// A question about a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Pred {
    Language(u32),
    Strings(NodeId),
}

/// A value's node and the conditions it meets, as bits.
pub(crate) type Choice = (NodeId, u8);

/// Answers that a class of keys has in common.
pub(crate) type Answers = Vec<(Pred, bool)>;

/// A condition's bounds.
pub(crate) type Bounds = (u32, u32);

#[derive(Debug)]
pub(crate) struct PlanMember {
    pub(crate) key: Arc<str>,
    pub(crate) required: bool,
    pub(crate) values: Vec<Choice>,
}

/// Undeclared keys with one set of answers.
#[derive(Debug)]
pub(crate) struct PlanClass {
    pub(crate) keys: Vec<(Pred, bool)>,
    pub(crate) values: Vec<Choice>,
}

/// An object cell, key by key.
#[derive(Debug)]
pub(crate) struct ObjPlan {
    pub(crate) members: Vec<PlanMember>,
    pub(crate) forbidden: Vec<Arc<str>>,
    pub(crate) classes: Vec<PlanClass>,
    pub(crate) min: u32,
    pub(crate) max: u32,
    pub(crate) conditions: Vec<Bounds>,
}

/// An array cell, place by place.
#[derive(Debug)]
pub(crate) struct ArrPlan {
    pub(crate) prefix: Vec<Vec<Choice>>,
    pub(crate) rest: Vec<Choice>,
    pub(crate) min: u32,
    pub(crate) max: u32,
    pub(crate) conditions: Vec<Bounds>,
    pub(crate) unique: Unique,
}

/// Asks whether a node has a value.
pub(crate) type Ask<'a> = dyn FnMut(&mut Algebra, NodeId) -> Result<bool, Problem> + 'a;

fn clip(n: u64) -> u32 {
    n.min(u64::from(INF) - 1) as u32
}

fn bounds<K>(c: &Counted<K>) -> Bounds {
    (clip(c.min), c.max.map_or(INF, clip))
}

/// Predicates below a set of keys, and the names in it.
fn gather(keys: &KeyLang, preds: &mut BTreeSet<Pred>, names: &mut Vec<Arc<str>>) {
    match keys {
        KeyLang::All => {}
        KeyLang::Name(k) => names.push(Arc::clone(k)),
        KeyLang::Pattern(l) => drop(preds.insert(Pred::Language(*l))),
        KeyLang::Strings(n) => drop(preds.insert(Pred::Strings(*n))),
        KeyLang::NotAny(list) => list.iter().for_each(|k| gather(k, preds, names)),
    }
}

/// Whether a key lies in a set; `name` is `None` for an undeclared key.
fn holds(keys: &KeyLang, name: Option<&str>, truth: &dyn Fn(Pred) -> bool) -> bool {
    match keys {
        KeyLang::All => true,
        KeyLang::Name(k) => name == Some(&**k),
        KeyLang::Pattern(l) => truth(Pred::Language(*l)),
        KeyLang::Strings(n) => truth(Pred::Strings(*n)),
        KeyLang::NotAny(list) => !list.iter().any(|k| holds(k, name, truth)),
    }
}

impl Algebra {
    /// The expression of a predicate, over decoded characters.
    pub(crate) fn pred(&mut self, arena: &mut Arena, pred: Pred) -> Result<ExprId, Problem> {
        match pred {
            Pred::Language(l) => {
                Ok(super::strings::language(arena, &self.nodes.languages()[l as usize])?)
            }
            Pred::Strings(node) => {
                let cells = self.cells(node)?;
                let mut parts = Vec::new();
                for cell in &cells.strings {
                    parts.push(super::strings::cell(arena, self.nodes.languages(), cell)?);
                }
                Ok(arena.union(&parts))
            }
        }
    }

    /// The keys of a class, over decoded characters.
    pub(crate) fn class_keys(
        &mut self,
        arena: &mut Arena,
        keys: &[(Pred, bool)],
    ) -> Result<ExprId, Problem> {
        let mut parts = Vec::new();
        for &(pred, inside) in keys {
            let e = self.pred(arena, pred)?;
            parts.push(if inside { e } else { arena.not(e) });
        }
        Ok(match parts[..] {
            [] => arena.top(),
            [one] => one,
            _ => arena.inter(&parts),
        })
    }

    /// Whether a name answers a predicate with yes.
    fn test(&mut self, pred: Pred, name: &Arc<str>) -> Result<bool, Problem> {
        match pred {
            Pred::Language(l) => Ok(self.strings.matches(l, self.nodes.languages(), name)?),
            Pred::Strings(node) => {
                let cells = self.cells(node)?;
                for cell in &cells.strings {
                    if self.string_in(cell, name)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
        }
    }

    /// Whether a string lies in a cell.
    pub(crate) fn string_in(
        &mut self,
        cell: &super::cells::StrCell,
        text: &Arc<str>,
    ) -> Result<bool, Problem> {
        if !cell.admits(text) {
            return Ok(false);
        }
        for &(l, inside) in &cell.languages {
            if self.strings.matches(l, self.nodes.languages(), text)? != inside {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The node of a member's value.
    fn value_of(
        &mut self,
        cell: &ObjCell,
        name: Option<&str>,
        truth: &dyn Fn(Pred) -> bool,
    ) -> NodeId {
        let mut node = Nodes::ANY;
        for group in &cell.groups {
            let mut found = false;
            if let Some(name) = name
                && let Some(n) = group.name(name)
            {
                node = self.nodes.meet(node, n);
                found = true;
            }
            for &(l, n) in &group.patterns {
                if truth(Pred::Language(l)) {
                    node = self.nodes.meet(node, n);
                    found = true;
                }
            }
            if !found {
                node = self.nodes.meet(node, group.rest);
            }
        }
        for (keys, n) in &cell.others {
            if holds(keys, name, truth) {
                node = self.nodes.meet(node, *n);
            }
        }
        node
    }

    /// The node of a required or declared member.
    pub(crate) fn member(&mut self, cell: &ObjCell, name: &Arc<str>) -> Result<NodeId, Problem> {
        let (preds, _) = asked(cell);
        let answers = self.answers(&preds, name)?;
        Ok(self.value_of(cell, Some(name), &|p| answers.contains(&p)))
    }

    /// Indices of the conditions that speak of a key.
    pub(crate) fn conditions_of(
        &mut self,
        cell: &ObjCell,
        name: &Arc<str>,
    ) -> Result<Vec<usize>, Problem> {
        let (preds, _) = asked(cell);
        let answers = self.answers(&preds, name)?;
        let found = conditions(cell, Some(name), &|p| answers.contains(&p));
        Ok(found.into_iter().map(|c| usize::from(c.0)).collect())
    }

    fn answers(
        &mut self,
        preds: &BTreeSet<Pred>,
        name: &Arc<str>,
    ) -> Result<FxHashSet<Pred>, Problem> {
        let mut out = FxHashSet::default();
        for &p in preds {
            if self.test(p, name)? {
                out.insert(p);
            }
        }
        Ok(out)
    }

    /// Classes of keys by their answers; empty ones are left out.
    fn classes(&mut self, preds: &BTreeSet<Pred>) -> Result<Vec<(Answers, ExprId)>, Problem> {
        let top = self.strings.arena.top();
        let mut out = vec![(Vec::new(), top)];
        for &p in preds {
            let e = match p {
                Pred::Language(l) => self.strings.language(l, self.nodes.languages())?,
                Pred::Strings(node) => {
                    // Expanded before the arena is lent out: expanding may need it.
                    self.cells(node)?;
                    let mut arena = std::mem::replace(&mut self.strings.arena, Arena::new(1 << 20));
                    let e = self.pred(&mut arena, p);
                    self.strings.arena = arena;
                    e?
                }
            };
            let not = self.strings.arena.not(e);
            let mut next = Vec::with_capacity(out.len() + 1);
            for (keys, language) in out {
                for (part, inside) in [(e, true), (not, false)] {
                    let both = self.strings.both(language, part);
                    self.strings.arena.refuel();
                    if both != EMPTY && !self.strings.arena.is_empty(both)? {
                        let mut keys: Vec<(Pred, bool)> = keys.clone();
                        keys.push((p, inside));
                        next.push((keys, both));
                    }
                }
            }
            if next.len() > MAX_CLASSES {
                let at = self.docs.root;
                let why = "too many overlapping patterns of keys";
                let hint = "write fewer or disjoint patternProperties";
                return Err(Problem::unsupported(&self.docs, at, "patternProperties", why, hint));
            }
            out = next;
        }
        Ok(out)
    }

    /// The alternatives of a value: by which of `conditions` (bit, node) it meets.
    fn choices(
        &mut self,
        node: NodeId,
        conditions: &[(u8, NodeId)],
        ask: &mut Ask<'_>,
    ) -> Result<Vec<Choice>, Problem> {
        let mut out: Vec<Choice> = Vec::new();
        if node == Nodes::NONE {
            return Ok(out);
        }
        let mut parts = vec![(node, 0u8)];
        for &(bit, condition) in conditions {
            let outside = self.nodes.complement(condition);
            let mut next = Vec::new();
            for (n, bits) in parts {
                let yes = self.nodes.meet(n, condition);
                let no = self.nodes.meet(n, outside);
                if yes != Nodes::NONE {
                    next.push((yes, bits | 1 << bit));
                }
                if no != Nodes::NONE {
                    next.push((no, bits));
                }
            }
            parts = next;
        }
        for (n, bits) in parts {
            if ask(self, n)? {
                out.push((n, bits));
            }
        }
        Ok(out)
    }

    pub(crate) fn check_conditions(&self, n: usize) -> Result<(), Problem> {
        if n > MAX_CONDITIONS {
            let at = self.docs.root;
            let why = format!("{n} counted conditions on one container");
            let hint = "use fewer contains, or fewer negations";
            return Err(Problem::unsupported(&self.docs, at, "contains", &why, hint));
        }
        Ok(())
    }

    /// The plan of an object cell; `None` if it is seen to be empty.
    pub(crate) fn object_plan(
        &mut self,
        cell: &ObjCell,
        ask: &mut Ask<'_>,
    ) -> Result<Option<ObjPlan>, Problem> {
        self.check_conditions(cell.counted.len())?;
        let (preds, mentioned) = asked(cell);
        let mut order: Vec<Arc<str>> = Vec::new();
        let mut known: FxHashSet<Arc<str>> = FxHashSet::default();
        let names = cell.groups.iter().flat_map(|g| g.names.iter().map(|n| &n.0));
        for name in names.chain(&cell.listed).chain(&mentioned) {
            if known.insert(Arc::clone(name)) {
                order.push(Arc::clone(name));
            }
        }
        let classes = self.classes(&preds)?;
        let mut infinite = Vec::new();
        for (keys, language) in classes {
            if !keys.is_empty() {
                self.strings.arena.refuel();
                if let Some(words) = self.strings.arena.finite_words(language, FEW)? {
                    for word in words {
                        let word: Arc<str> = word.into();
                        if known.insert(Arc::clone(&word)) {
                            order.push(word);
                        }
                    }
                    continue;
                }
            }
            infinite.push(keys);
        }
        let mut plan = ObjPlan {
            members: Vec::new(),
            forbidden: Vec::new(),
            classes: Vec::new(),
            min: clip(cell.min),
            max: cell.max.map_or(INF, clip),
            conditions: cell.counted.iter().map(bounds).collect(),
        };
        for keys in infinite {
            let truth = |p: Pred| keys.contains(&(p, true));
            let node = self.value_of(cell, None, &truth);
            let asked: Vec<(u8, NodeId)> = conditions(cell, None, &truth);
            let values = self.choices(node, &asked, ask)?;
            if !values.is_empty() {
                plan.classes.push(PlanClass { keys, values });
            }
        }
        for key in order {
            let answers = self.answers(&preds, &key)?;
            let truth = |p: Pred| answers.contains(&p);
            let node = self.value_of(cell, Some(&key), &truth);
            let asked = conditions(cell, Some(&key), &truth);
            let values = self.choices(node, &asked, ask)?;
            let required = cell.required.contains(&key);
            if values.is_empty() {
                if required {
                    return Ok(None);
                }
                plan.forbidden.push(key);
            } else {
                plan.members.push(PlanMember { key, required, values });
            }
        }
        Ok(Some(plan))
    }

    /// The plan of an array cell; `None` if it is seen to be empty.
    pub(crate) fn array_plan(
        &mut self,
        cell: &ArrCell,
        ask: &mut Ask<'_>,
    ) -> Result<Option<ArrPlan>, Problem> {
        self.check_conditions(cell.counted.len())?;
        // A condition that starts later makes the places before it special.
        let start = cell.counted.iter().map(|c| c.what).max().unwrap_or(0);
        let places = cell.prefix.len().max(start);
        let mut plan = ArrPlan {
            prefix: Vec::new(),
            rest: Vec::new(),
            min: clip(cell.min),
            max: cell.max.map_or(INF, clip),
            conditions: cell.counted.iter().map(bounds).collect(),
            unique: cell.unique,
        };
        for i in 0..=places {
            if plan.max as usize <= i {
                break;
            }
            let asked: Vec<(u8, NodeId)> = cell
                .counted
                .iter()
                .enumerate()
                .filter(|c| c.1.what <= i)
                .map(|(bit, c)| (bit as u8, c.node))
                .collect();
            let values = self.choices(cell.item(i), &asked, ask)?;
            if i == places {
                plan.rest = values;
            } else if values.is_empty() {
                plan.max = plan.max.min(i as u32);
                break;
            } else {
                plan.prefix.push(values);
            }
        }
        if plan.rest.is_empty() {
            plan.max = plan.max.min(plan.prefix.len() as u32);
        }
        Ok((plan.min <= plan.max).then_some(plan))
    }
}

/// The predicates that a cell asks of keys, and names it mentions outside its groups.
fn asked(cell: &ObjCell) -> (BTreeSet<Pred>, Vec<Arc<str>>) {
    let mut preds = BTreeSet::new();
    let mut names = Vec::new();
    for group in &cell.groups {
        preds.extend(group.patterns.iter().map(|p| Pred::Language(p.0)));
    }
    for (keys, _) in &cell.others {
        gather(keys, &mut preds, &mut names);
    }
    for c in &cell.counted {
        gather(&c.what, &mut preds, &mut names);
    }
    (preds, names)
}

/// The conditions that speak of a key.
fn conditions(
    cell: &ObjCell,
    name: Option<&str>,
    truth: &dyn Fn(Pred) -> bool,
) -> Vec<(u8, NodeId)> {
    cell.counted
        .iter()
        .enumerate()
        .filter(|(_, c)| holds(&c.what, name, truth))
        .map(|(bit, c)| (bit as u8, c.node))
        .collect()
}
