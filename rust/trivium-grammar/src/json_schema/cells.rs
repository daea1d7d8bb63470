//! Cells: conjunctions of requirements on one kind of value.
//!
//! A set of values is a union of cells ([`Cells`]). Intersection multiplies, and drops a pair as soon
//! as it is seen to be empty; union appends. Children are [`NodeId`]s, sets of values that are
//! expanded when somebody looks inside.

use super::decimal::Decimal;
use super::keywords::kind;
use super::nodes::{NodeId, Nodes};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A language over characters: index into [`Nodes::languages`].
pub(crate) type LangId = u32;

/// Whether numbers are integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Whole {
    Any,
    Integer,
    Fraction,
}

/// One end of an interval, and whether the end itself is excluded.
pub(crate) type End = Option<(Decimal, bool)>;

/// Numbers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct NumCell {
    pub(crate) low: End,
    pub(crate) high: End,
    pub(crate) whole: Whole,
    /// Integers are written without fraction, whatever the spelling (draft 4's integers).
    pub(crate) plain: bool,
    pub(crate) divisors: BTreeSet<Decimal>,
    pub(crate) non_divisors: BTreeSet<Decimal>,
    pub(crate) excluded: BTreeSet<Decimal>,
    /// Exactly these, which satisfy all of the above.
    pub(crate) finite: Option<Arc<BTreeSet<Decimal>>>,
}

/// Strings.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct StrCell {
    pub(crate) min: u64,
    pub(crate) max: Option<u64>,
    /// Languages, and whether the string lies in them.
    pub(crate) languages: BTreeSet<(LangId, bool)>,
    pub(crate) excluded: BTreeSet<Arc<str>>,
    /// Exactly these, as far as they satisfy `languages` (everything else was checked).
    pub(crate) finite: Option<Arc<BTreeSet<Arc<str>>>>,
}

/// So many items from `from` on (or members with keys in a language) satisfy `node`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Counted<K> {
    pub(crate) what: K,
    pub(crate) node: NodeId,
    pub(crate) min: u64,
    pub(crate) max: Option<u64>,
}

/// What is asked of equal items.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Unique {
    Any,
    /// No two items are equal.
    Distinct,
    /// Some two items are equal.
    SomeEqual,
}

/// Items that in-place schemas have looked at.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct EvaluatedItems {
    pub(crate) prefix: usize,
    pub(crate) all: bool,
    pub(crate) matching: BTreeSet<NodeId>,
}

/// Arrays.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ArrCell {
    pub(crate) prefix: Vec<NodeId>,
    pub(crate) rest: NodeId,
    pub(crate) min: u64,
    pub(crate) max: Option<u64>,
    pub(crate) counted: Vec<Counted<usize>>,
    pub(crate) unique: Unique,
    pub(crate) evaluated: EvaluatedItems,
}

/// A set of keys.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum KeyLang {
    All,
    Name(Arc<str>),
    Pattern(LangId),
    /// Strings of a node.
    Strings(NodeId),
    /// None of these.
    NotAny(Arc<[KeyLang]>),
}

/// The members rule of one schema: a key takes the nodes of its name and of every pattern it
/// matches, or `rest` if there is none.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Group {
    pub(crate) names: Box<[(Arc<str>, NodeId)]>,
    pub(crate) patterns: Box<[(LangId, NodeId)]>,
    pub(crate) rest: NodeId,
    /// Places in `names`, sorted by name; empty where looking through is as fast.
    sorted: Box<[u32]>,
}

/// Names up to which they are looked through.
const FEW_NAMES: usize = 8;

impl Group {
    /// `names` are distinct.
    pub(crate) fn new(
        names: Box<[(Arc<str>, NodeId)]>,
        patterns: Box<[(LangId, NodeId)]>,
        rest: NodeId,
    ) -> Self {
        let mut sorted = Vec::new();
        if names.len() > FEW_NAMES {
            sorted.extend(0..names.len() as u32);
            sorted.sort_unstable_by_key(|&i| &*names[i as usize].0);
        }
        Self { names, patterns, rest, sorted: sorted.into() }
    }

    /// The node of a name, if it is among the names.
    pub(crate) fn name(&self, name: &str) -> Option<NodeId> {
        if self.sorted.is_empty() {
            return self.names.iter().find(|n| &*n.0 == name).map(|n| n.1);
        }
        let at = self.sorted.binary_search_by_key(&name, |&i| &self.names[i as usize].0).ok()?;
        Some(self.names[self.sorted[at] as usize].1)
    }
}

/// Objects.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ObjCell {
    pub(crate) groups: Vec<Arc<Group>>,
    /// Further constraints: members with keys here have values there.
    pub(crate) others: Vec<(KeyLang, NodeId)>,
    pub(crate) required: BTreeSet<Arc<str>>,
    /// Required names in the order the schema lists them.
    pub(crate) listed: Vec<Arc<str>>,
    pub(crate) min: u64,
    pub(crate) max: Option<u64>,
    pub(crate) counted: Vec<Counted<KeyLang>>,
    pub(crate) evaluated: BTreeSet<KeyLang>,
}

/// A union of cells of every kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cells {
    /// Of [`scalar`].
    pub(crate) scalars: u8,
    pub(crate) numbers: Vec<NumCell>,
    pub(crate) strings: Vec<StrCell>,
    pub(crate) arrays: Vec<ArrCell>,
    pub(crate) objects: Vec<ObjCell>,
}

/// Values that are one word, as bits.
pub(crate) mod scalar {
    pub(crate) const NULL: u8 = 1;
    pub(crate) const FALSE: u8 = 2;
    pub(crate) const TRUE: u8 = 4;
}

fn most(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

impl NumCell {
    pub(crate) fn any() -> Self {
        Self {
            low: None,
            high: None,
            whole: Whole::Any,
            plain: false,
            divisors: BTreeSet::new(),
            non_divisors: BTreeSet::new(),
            excluded: BTreeSet::new(),
            finite: None,
        }
    }

    pub(crate) fn finite(values: BTreeSet<Decimal>) -> Self {
        Self { finite: Some(Arc::new(values)), ..Self::any() }
    }

    /// Whether a number lies in the cell.
    pub(crate) fn contains(&self, n: &Decimal) -> bool {
        if let Some(finite) = &self.finite {
            return finite.contains(n);
        }
        self.low.as_ref().is_none_or(|(end, open)| n > end || (n == end && !open))
            && self.high.as_ref().is_none_or(|(end, open)| n < end || (n == end && !open))
            && match self.whole {
                Whole::Any => true,
                Whole::Integer => n.is_integer(),
                Whole::Fraction => !n.is_integer(),
            }
            && self.divisors.iter().all(|d| n.is_multiple_of(d))
            && !self.non_divisors.iter().any(|d| n.is_multiple_of(d))
            && !self.excluded.contains(n)
    }

    fn meet(&self, other: &Self) -> Option<Self> {
        if let Some((finite, rest)) = match (&self.finite, &other.finite) {
            (Some(f), _) => Some((f, other)),
            (_, Some(f)) => Some((f, self)),
            _ => None,
        } {
            let kept: BTreeSet<_> = finite.iter().filter(|n| rest.contains(n)).cloned().collect();
            let plain = self.plain || other.plain;
            return (!kept.is_empty()).then(|| Self { plain, ..Self::finite(kept) });
        }
        let whole = match (self.whole, other.whole) {
            (Whole::Any, w) | (w, Whole::Any) => w,
            (a, b) if a == b => a,
            _ => return None,
        };
        // At equal ends the open one is the stricter.
        let low = match (&self.low, &other.low) {
            (Some(a), Some(b)) => Some(a.max(b).clone()),
            (a, b) => a.clone().or_else(|| b.clone()),
        };
        let high = match (&self.high, &other.high) {
            (Some(a), Some(b)) => {
                Some(if (&a.0, !a.1) <= (&b.0, !b.1) { a.clone() } else { b.clone() })
            }
            (a, b) => a.clone().or_else(|| b.clone()),
        };
        let cell = Self {
            low,
            high,
            whole,
            plain: self.plain || other.plain,
            divisors: &self.divisors | &other.divisors,
            non_divisors: &self.non_divisors | &other.non_divisors,
            excluded: &self.excluded | &other.excluded,
            finite: None,
        };
        if let (Some((low, a)), Some((high, b))) = (&cell.low, &cell.high) {
            if low > high || (low == high && (*a || *b)) {
                return None;
            }
            if low == high {
                let plain = cell.plain;
                return cell
                    .contains(low)
                    .then(|| Self { plain, ..Self::finite([low.clone()].into()) });
            }
        }
        if cell.divisors.iter().any(|d| cell.non_divisors.contains(d)) {
            return None;
        }
        Some(cell)
    }
}

impl StrCell {
    pub(crate) fn any() -> Self {
        Self {
            min: 0,
            max: None,
            languages: BTreeSet::new(),
            excluded: BTreeSet::new(),
            finite: None,
        }
    }

    pub(crate) fn finite(values: BTreeSet<Arc<str>>) -> Self {
        Self { finite: Some(Arc::new(values)), ..Self::any() }
    }

    /// Whether lengths and exclusions admit a string; languages are not asked.
    pub(crate) fn admits(&self, text: &Arc<str>) -> bool {
        let len = text.chars().count() as u64;
        len >= self.min
            && self.max.is_none_or(|m| len <= m)
            && !self.excluded.contains(text)
            && self.finite.as_ref().is_none_or(|f| f.contains(text))
    }

    fn meet(&self, other: &Self) -> Option<Self> {
        let languages: BTreeSet<(LangId, bool)> = &self.languages | &other.languages;
        if languages.iter().any(|&(l, inside)| inside && languages.contains(&(l, false))) {
            return None;
        }
        if let Some((finite, rest)) = match (&self.finite, &other.finite) {
            (Some(f), _) => Some((f, other)),
            (_, Some(f)) => Some((f, self)),
            _ => None,
        } {
            let kept: BTreeSet<_> = finite.iter().filter(|s| rest.admits(s)).cloned().collect();
            return (!kept.is_empty()).then(|| Self { languages, ..Self::finite(kept) });
        }
        let (min, max) = (self.min.max(other.min), most(self.max, other.max));
        if max.is_some_and(|m| min > m) {
            return None;
        }
        Some(Self { min, max, languages, excluded: &self.excluded | &other.excluded, finite: None })
    }
}

impl ArrCell {
    pub(crate) fn any() -> Self {
        Self {
            prefix: Vec::new(),
            rest: Nodes::ANY,
            min: 0,
            max: None,
            counted: Vec::new(),
            unique: Unique::Any,
            evaluated: EvaluatedItems::default(),
        }
    }

    /// The node of the item at `i`.
    pub(crate) fn item(&self, i: usize) -> NodeId {
        self.prefix.get(i).copied().unwrap_or(self.rest)
    }

    fn meet(&self, other: &Self, nodes: &mut Nodes) -> Option<Self> {
        let unique = match (self.unique, other.unique) {
            (Unique::Any, u) | (u, Unique::Any) => u,
            (a, b) if a == b => a,
            _ => return None,
        };
        let n = self.prefix.len().max(other.prefix.len());
        let mut prefix: Vec<NodeId> =
            (0..n).map(|i| nodes.meet(self.item(i), other.item(i))).collect();
        let rest = nodes.meet(self.rest, other.rest);
        let min = self.min.max(other.min);
        let mut max = most(self.max, other.max);
        if let Some(i) = prefix.iter().position(|&p| p == Nodes::NONE) {
            max = most(max, Some(i as u64));
            prefix.truncate(i);
        } else if rest == Nodes::NONE {
            max = most(max, Some(n as u64));
        }
        if max.is_some_and(|m| min > m) {
            return None;
        }
        let mut counted = self.counted.clone();
        for c in &other.counted {
            if !counted.contains(c) {
                counted.push(c.clone());
            }
        }
        let evaluated = EvaluatedItems {
            prefix: self.evaluated.prefix.max(other.evaluated.prefix),
            all: self.evaluated.all || other.evaluated.all,
            matching: &self.evaluated.matching | &other.evaluated.matching,
        };
        Some(Self { prefix, rest, min, max, counted, unique, evaluated })
    }
}

impl ObjCell {
    pub(crate) fn any() -> Self {
        Self {
            groups: Vec::new(),
            others: Vec::new(),
            required: BTreeSet::new(),
            listed: Vec::new(),
            min: 0,
            max: None,
            counted: Vec::new(),
            evaluated: BTreeSet::new(),
        }
    }

    /// Objects with a member.
    pub(crate) fn with(name: &Arc<str>) -> Self {
        Self { required: [Arc::clone(name)].into(), listed: vec![Arc::clone(name)], ..Self::any() }
    }

    /// Objects whose members with keys in `keys` have values in `node`.
    pub(crate) fn other(keys: KeyLang, node: NodeId) -> Self {
        Self { others: vec![(keys, node)], ..Self::any() }
    }

    /// The nodes that a named member's value lies in, as far as names alone say: patterns are not
    /// asked. An upper bound of the member's set.
    pub(crate) fn named(&self, name: &str, nodes: &mut Nodes) -> NodeId {
        let mut node = Nodes::ANY;
        for group in &self.groups {
            if let Some(n) = group.name(name) {
                node = nodes.meet(node, n);
            } else if group.patterns.is_empty() {
                node = nodes.meet(node, group.rest);
            }
        }
        for (keys, n) in &self.others {
            match keys {
                KeyLang::All => node = nodes.meet(node, *n),
                KeyLang::Name(k) if &**k == name => node = nodes.meet(node, *n),
                _ => {}
            }
        }
        node
    }

    fn meet(&self, other: &Self, nodes: &mut Nodes) -> Option<Self> {
        let (min, max) = (self.min.max(other.min), most(self.max, other.max));
        let mut cell = self.clone();
        (cell.min, cell.max) = (min, max);
        for g in &other.groups {
            if !cell.groups.contains(g) {
                cell.groups.push(Arc::clone(g));
            }
        }
        for o in &other.others {
            if !cell.others.contains(o) {
                cell.others.push(o.clone());
            }
        }
        for name in &other.listed {
            if cell.required.insert(Arc::clone(name)) {
                cell.listed.push(Arc::clone(name));
            }
        }
        for c in &other.counted {
            if !cell.counted.contains(c) {
                cell.counted.push(c.clone());
            }
        }
        cell.evaluated.extend(other.evaluated.iter().cloned());
        if max.is_some_and(|m| m < min.max(cell.required.len() as u64)) {
            return None;
        }
        for (keys, node) in &cell.others {
            if let (KeyLang::Name(k), Nodes::NONE) = (keys, *node)
                && cell.required.contains(k)
            {
                return None;
            }
        }
        let changed = cell.required.len() > self.required.len()
            || cell.groups.len() > self.groups.len()
            || cell.others.len() > self.others.len();
        if changed {
            for name in &cell.listed {
                if cell.named(name, nodes) == Nodes::NONE {
                    return None;
                }
            }
        }
        Some(cell)
    }
}

impl Cells {
    /// No value.
    pub(crate) fn none() -> Self {
        Self {
            scalars: 0,
            numbers: Vec::new(),
            strings: Vec::new(),
            arrays: Vec::new(),
            objects: Vec::new(),
        }
    }

    /// Every value.
    pub(crate) fn all() -> Self {
        Self::of_kinds(kind::ALL)
    }

    /// All values of some kinds.
    pub(crate) fn of_kinds(kinds: u8) -> Self {
        let mut out = Self::none();
        if kinds & kind::NULL != 0 {
            out.scalars |= scalar::NULL;
        }
        if kinds & kind::BOOL != 0 {
            out.scalars |= scalar::TRUE | scalar::FALSE;
        }
        let whole = match kinds & kind::NUMBER {
            kind::NUMBER => Some(Whole::Any),
            kind::INTEGER => Some(Whole::Integer),
            kind::FRACTION => Some(Whole::Fraction),
            _ => None,
        };
        out.numbers.extend(whole.map(|whole| NumCell { whole, ..NumCell::any() }));
        if kinds & kind::STRING != 0 {
            out.strings.push(StrCell::any());
        }
        if kinds & kind::ARRAY != 0 {
            out.arrays.push(ArrCell::any());
        }
        if kinds & kind::OBJECT != 0 {
            out.objects.push(ObjCell::any());
        }
        out
    }

    /// Numbers as given, all values of other kinds.
    pub(crate) fn numbers(cells: Vec<NumCell>) -> Self {
        Self { numbers: cells, ..Self::of_kinds(kind::ALL & !kind::NUMBER) }
    }

    /// Strings as given, all values of other kinds.
    pub(crate) fn strings(cells: Vec<StrCell>) -> Self {
        Self { strings: cells, ..Self::of_kinds(kind::ALL & !kind::STRING) }
    }

    /// Arrays as given, all values of other kinds.
    pub(crate) fn arrays(cells: Vec<ArrCell>) -> Self {
        Self { arrays: cells, ..Self::of_kinds(kind::ALL & !kind::ARRAY) }
    }

    /// Objects as given, all values of other kinds.
    pub(crate) fn objects(cells: Vec<ObjCell>) -> Self {
        Self { objects: cells, ..Self::of_kinds(kind::ALL & !kind::OBJECT) }
    }

    /// Number of cells.
    pub(crate) fn len(&self) -> usize {
        self.numbers.len() + self.strings.len() + self.arrays.len() + self.objects.len()
    }

    /// Whether nothing is left, as far as is seen.
    pub(crate) fn is_none(&self) -> bool {
        self.scalars == 0 && self.len() == 0
    }

    /// Union.
    pub(crate) fn join(&mut self, other: Self) {
        self.scalars |= other.scalars;
        append(&mut self.numbers, other.numbers, |c| *c == NumCell::any(), |_| false);
        append(&mut self.strings, other.strings, |c| *c == StrCell::any(), |_| false);
        append(
            &mut self.arrays,
            other.arrays,
            |c| *c == ArrCell::any(),
            |c| c.evaluated != EvaluatedItems::default(),
        );
        append(
            &mut self.objects,
            other.objects,
            |c| *c == ObjCell::any(),
            |c| !c.evaluated.is_empty(),
        );
    }

    /// Intersection.
    pub(crate) fn meet(&self, other: &Self, nodes: &mut Nodes) -> Self {
        Self {
            scalars: self.scalars & other.scalars,
            numbers: product(&self.numbers, &other.numbers, NumCell::meet),
            strings: absorb(product(&self.strings, &other.strings, StrCell::meet)),
            arrays: product(&self.arrays, &other.arrays, |a, b| a.meet(b, nodes)),
            objects: product(&self.objects, &other.objects, |a, b| a.meet(b, nodes)),
        }
    }
}

/// Appends the cells that are new. One that has everything stands for all, unless others `know` what
/// was evaluated.
fn append<T: PartialEq>(
    to: &mut Vec<T>,
    from: Vec<T>,
    everything: impl Fn(&T) -> bool,
    know: impl Fn(&T) -> bool,
) {
    for cell in from {
        // Unions of many cells are rarely repetitive; looking back a little finds what repeats.
        if !to.iter().rev().take(64).any(|c| *c == cell) {
            to.push(cell);
        }
    }
    if to.len() > 1
        && let Some(at) = to.iter().position(&everything)
        && !to.iter().any(know)
    {
        to.swap(0, at);
        to.truncate(1);
    }
}

/// Cells of strings up to which those inside others are looked for.
const ABSORBED: usize = 512;

/// Drops cells that are plainly inside another: they ask for the same and more.
fn absorb(cells: Vec<StrCell>) -> Vec<StrCell> {
    if cells.len() < 2 || cells.len() > ABSORBED {
        return cells;
    }
    let inside = |a: &StrCell, b: &StrCell| {
        b.finite.is_none()
            && a.min >= b.min
            && b.max.is_none_or(|m| a.max.is_some_and(|n| n <= m))
            && b.languages.is_subset(&a.languages)
            && b.excluded.is_subset(&a.excluded)
    };
    let keep: Vec<bool> = cells
        .iter()
        .enumerate()
        .map(|(i, a)| {
            // Of two equal cells the first stays.
            !cells.iter().enumerate().any(|(j, b)| i != j && inside(a, b) && (a != b || j < i))
        })
        .collect();
    cells.into_iter().zip(keep).filter(|c| c.1).map(|c| c.0).collect()
}

fn product<T: PartialEq + Clone>(
    a: &[T],
    b: &[T],
    mut meet: impl FnMut(&T, &T) -> Option<T>,
) -> Vec<T> {
    let mut out: Vec<T> = Vec::new();
    for x in a {
        for y in b {
            if let Some(z) = meet(x, y)
                && !out.iter().rev().take(64).any(|c| *c == z)
            {
                out.push(z);
            }
        }
    }
    out
}
