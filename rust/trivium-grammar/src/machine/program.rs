//! A graph made ready to run: rules flattened, terminals numbered. Immutable.

use super::graph::{Graph, Label, Layout, Node, NodeId, NodeSource, Rule};
use super::scan::TERMINALS;
use crate::automata::expr::{Arena, ExprId};
use rustc_hash::FxHashMap;
use std::sync::{Arc, Mutex};
use trivium_core::TokenId;

/// A position: whether the rule may end, and its edges.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) last: bool,
    pub(super) first_edge: u32,
    pub(super) end_edge: u32,
}

/// What an edge reads.
#[derive(Debug, Clone)]
pub(super) enum Read {
    Lexeme(ExprId),
    /// A terminal by number.
    Terminal(u32),
    Special(Arc<[TokenId]>),
    /// A rule by its first position.
    Rule(u32),
    Node(NodeId),
}

#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) read: Read,
    /// Position over all rules.
    pub(super) to: u32,
}

/// See the module comment.
#[derive(Debug)]
pub(crate) struct Program {
    /// The expressions as the front end left them; every run works on a copy.
    pub(super) arena: Mutex<Arena>,
    pub(super) nodes: Vec<Node>,
    pub(super) source: Option<Arc<dyn NodeSource>>,
    pub(super) places: Vec<Place>,
    pub(super) steps: Vec<Step>,
    /// First position of each rule.
    pub(super) rules: Vec<u32>,
    /// Expression and priority of each terminal.
    pub(super) terminals: Vec<(ExprId, i64)>,
    pub(super) start: NodeId,
    pub(super) layout: Layout,
}

impl Program {
    pub(crate) fn new(graph: Graph) -> Self {
        let Graph { arena, nodes, source, rules, start, layout } = graph;
        let mut firsts = Vec::with_capacity(rules.len());
        let mut next = 0;
        for rule in &rules {
            firsts.push(next);
            next += rule.positions.len() as u32;
        }
        let mut this = Self {
            arena: Mutex::new(arena),
            nodes,
            source,
            places: Vec::with_capacity(next as usize),
            steps: Vec::new(),
            rules: firsts,
            terminals: Vec::new(),
            start,
            layout,
        };
        let mut known: FxHashMap<(ExprId, i64), u32> = FxHashMap::default();
        for (i, rule) in rules.iter().enumerate() {
            this.flatten(rule, this.rules[i], &mut known);
        }
        this
    }

    fn flatten(&mut self, rule: &Rule, first: u32, known: &mut FxHashMap<(ExprId, i64), u32>) {
        for position in &rule.positions {
            let first_edge = self.steps.len() as u32;
            for edge in &position.edges {
                let read = match &edge.label {
                    Label::Lexeme(e) => Read::Lexeme(*e),
                    Label::Terminal { expr, priority } => {
                        let key = (*expr, *priority);
                        Read::Terminal(*known.entry(key).or_insert_with(|| {
                            self.terminals.push(key);
                            self.terminals.len() as u32 - 1
                        }))
                    }
                    Label::Special(ids) => Read::Special(Arc::clone(ids)),
                    Label::Rule(r) => Read::Rule(self.rules[*r as usize]),
                    Label::Node(n) => Read::Node(*n),
                };
                self.steps.push(Step { read, to: first + edge.to });
            }
            let end_edge = self.steps.len() as u32;
            self.places.push(Place { last: position.last, first_edge, end_edge });
        }
    }

    /// Whether a position can only return: a call that leads to it is a jump.
    pub(super) fn returns(&self, place: u32) -> bool {
        let p = self.places[place as usize];
        p.last && p.first_edge == p.end_edge
    }

    /// The marker of a terminal.
    pub(super) fn marker(terminal: u32) -> u32 {
        TERMINALS + terminal
    }
}
