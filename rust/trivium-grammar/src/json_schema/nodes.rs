//! Nodes: hash-consed conjunctions of schemas and complements of schemas.
//!
//! ```text
//! atom    = a schema in an environment of dynamic anchors | one value | a union of nodes
//! literal = an atom or its complement
//! node    = a set of literals: the values that lie in all of them
//! ```
//!
//! A schema has finitely many places, so recursion through `$ref` gives finitely many nodes. A node
//! costs nothing until [`super::expand`] is asked for its cells.

use super::cells::LangId;
use super::json::JId;
use super::keywords::Loc;
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Index of a node.
pub(crate) type NodeId = u32;
/// Index of an atom.
pub(crate) type AtomId = u32;
/// Index of an environment; 0 has no anchors.
pub(crate) type EnvId = u32;

/// See the module comment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Atom {
    Schema(Loc, EnvId),
    Value(JId),
    Union(Box<[NodeId]>),
}

/// An atom, or its complement if the lowest bit is set.
pub(crate) type Literal = u32;

/// A language of strings.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Language {
    /// A search pattern, in the ECMA dialect.
    Pattern(Arc<str>),
    /// A known format.
    Format(Arc<str>),
}

/// All nodes of one grammar.
#[derive(Debug)]
pub(crate) struct Nodes {
    sets: Vec<Arc<[Literal]>>,
    index: FxHashMap<Arc<[Literal]>, NodeId>,
    atoms: Vec<Atom>,
    atom_index: FxHashMap<Atom, AtomId>,
    met: FxHashMap<(NodeId, NodeId), NodeId>,
    languages: Vec<Language>,
    language_index: FxHashMap<Language, LangId>,
    envs: Vec<BTreeMap<Arc<str>, Loc>>,
    env_index: FxHashMap<BTreeMap<Arc<str>, Loc>, EnvId>,
}

impl Nodes {
    /// Every value.
    pub(crate) const ANY: NodeId = 0;
    /// No value, known without looking.
    pub(crate) const NONE: NodeId = 1;

    pub(crate) fn new() -> Self {
        let mut this = Self {
            sets: Vec::new(),
            index: FxHashMap::default(),
            atoms: Vec::new(),
            atom_index: FxHashMap::default(),
            met: FxHashMap::default(),
            languages: Vec::new(),
            language_index: FxHashMap::default(),
            envs: vec![BTreeMap::new()],
            env_index: FxHashMap::default(),
        };
        this.env_index.insert(BTreeMap::new(), 0);
        this.set(Vec::new());
        // The empty union.
        let none = this.atom(Atom::Union(Box::default()));
        this.set(vec![none << 1]);
        this
    }

    fn set(&mut self, mut literals: Vec<Literal>) -> NodeId {
        literals.sort_unstable();
        literals.dedup();
        if literals.len() > 1 && literals.windows(2).any(|w| w[0] ^ 1 == w[1]) {
            return Self::NONE;
        }
        let literals: Arc<[Literal]> = literals.into();
        if let Some(&id) = self.index.get(&literals) {
            return id;
        }
        let id = self.sets.len() as NodeId;
        self.sets.push(Arc::clone(&literals));
        self.index.insert(literals, id);
        id
    }

    /// The literals of a node.
    pub(crate) fn literals(&self, node: NodeId) -> &Arc<[Literal]> {
        &self.sets[node as usize]
    }

    pub(crate) fn atom(&mut self, atom: Atom) -> AtomId {
        if let Some(&id) = self.atom_index.get(&atom) {
            return id;
        }
        let id = self.atoms.len() as AtomId;
        self.atoms.push(atom.clone());
        self.atom_index.insert(atom, id);
        id
    }

    pub(crate) fn atom_of(&self, literal: Literal) -> &Atom {
        &self.atoms[(literal >> 1) as usize]
    }

    /// The node of an atom, or of its complement.
    pub(crate) fn of_atom(&mut self, atom: Atom, negative: bool) -> NodeId {
        let id = self.atom(atom);
        self.set(vec![id << 1 | u32::from(negative)])
    }

    /// Values in both nodes.
    pub(crate) fn meet(&mut self, a: NodeId, b: NodeId) -> NodeId {
        match (a, b) {
            (Self::NONE, _) | (_, Self::NONE) => return Self::NONE,
            (Self::ANY, x) | (x, Self::ANY) => return x,
            (a, b) if a == b => return a,
            _ => {}
        }
        let key = (a.min(b), a.max(b));
        if let Some(&known) = self.met.get(&key) {
            return known;
        }
        let all = self.literals(a).iter().chain(self.literals(b).iter()).copied().collect();
        let out = self.set(all);
        self.met.insert(key, out);
        out
    }

    /// Every value outside the node.
    pub(crate) fn complement(&mut self, node: NodeId) -> NodeId {
        match node {
            Self::ANY => return Self::NONE,
            Self::NONE => return Self::ANY,
            _ => {}
        }
        let literals = Arc::clone(self.literals(node));
        if let [one] = literals[..] {
            return self.set(vec![one ^ 1]);
        }
        let members = literals.iter().map(|&l| self.set(vec![l ^ 1])).collect();
        self.union(members)
    }

    /// Values in any of the nodes.
    pub(crate) fn union(&mut self, mut members: Vec<NodeId>) -> NodeId {
        members.sort_unstable();
        members.dedup();
        members.retain(|&m| m != Self::NONE);
        if members.first() == Some(&Self::ANY) {
            return Self::ANY;
        }
        match members[..] {
            [] => Self::NONE,
            [one] => one,
            _ => self.of_atom(Atom::Union(members.into()), false),
        }
    }

    pub(crate) fn language(&mut self, language: Language) -> LangId {
        if let Some(&id) = self.language_index.get(&language) {
            return id;
        }
        let id = self.languages.len() as LangId;
        self.languages.push(language.clone());
        self.language_index.insert(language, id);
        id
    }

    pub(crate) fn languages(&self) -> &[Language] {
        &self.languages
    }

    pub(crate) fn env(&self, env: EnvId) -> &BTreeMap<Arc<str>, Loc> {
        &self.envs[env as usize]
    }

    /// An environment with the anchors of a resource that is entered; outer ones stay.
    pub(crate) fn enter(&mut self, env: EnvId, anchors: &BTreeMap<Arc<str>, Loc>) -> EnvId {
        if anchors.keys().all(|k| self.env(env).contains_key(k)) {
            return env;
        }
        let mut all = anchors.clone();
        all.extend(self.env(env).iter().map(|(k, v)| (Arc::clone(k), *v)));
        if let Some(&id) = self.env_index.get(&all) {
            return id;
        }
        let id = self.envs.len() as EnvId;
        self.envs.push(all.clone());
        self.env_index.insert(all, id);
        id
    }
}
