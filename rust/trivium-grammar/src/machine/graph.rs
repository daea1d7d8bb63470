//! What front ends hand to the machine: nodes for values, rules for context-free grammars.
//!
//! ```text
//! Node  = union of cells, any number of which may go on side by side
//! Cell  = a lexeme, an object, an array, another node, a rule
//! Rule  = a small automaton over edges {lexeme, special tokens, call of a rule or a node}
//! ```
//!
//! A lexeme is a regular language of *characters as they are spelled in the text*; its expression
//! lives in the arena of the graph. Objects and arrays are not rules: their `2^n` subsets of members,
//! counts and seen keys are registers of a frame, expanded while a text is read.
//!
//! The front end promises what keeps guarantee D: every node it names is *inhabited* (some text
//! matches), and so is every alternative of a member or an item. What is empty is left out before.
//! Nodes may be given all at once (`Graph::nodes`) or on demand ([`NodeSource`]).

use crate::automata::expr::{Arena, ExprId, INF};
use crate::error::Result;
use std::fmt::Debug;
use std::sync::Arc;
use trivium_core::TokenId;

/// Index of a node: one of [`Graph::nodes`], or, from its length on, a number that the
/// [`NodeSource`] gave out.
pub(crate) type NodeId = u32;

/// Index of a rule.
pub(crate) type RuleId = u32;

/// Index of a position in a rule.
pub(crate) type PosId = u32;

/// Bit set of the counted conditions that a value meets; bit `i` is condition `i` of its container.
pub(crate) type Counts = u8;

/// No upper bound of a count.
pub(crate) const UNBOUNDED: u32 = INF;

/// A compiled grammar, before any text.
#[derive(Debug)]
pub(crate) struct Graph {
    /// The expressions of all lexemes.
    pub(crate) arena: Arena,
    /// Nodes known from the start.
    pub(crate) nodes: Vec<Node>,
    /// Nodes made when a text first reaches them.
    pub(crate) source: Option<Arc<dyn NodeSource>>,
    /// Rules of context-free parts.
    pub(crate) rules: Vec<Rule>,
    /// The whole text.
    pub(crate) start: NodeId,
    /// What stands between the tokens of JSON, and how keys are spelled.
    pub(crate) layout: Layout,
}

/// Makes nodes when a text first reaches them. May be asked for the same node again (after the
/// machine dropped what it had built): keep no `ExprId` across calls, the arena may be another one.
pub(crate) trait NodeSource: Debug + Send + Sync {
    /// The node of a number that an earlier node named.
    fn node(&self, arena: &mut Arena, id: NodeId) -> Result<Node>;
}

/// A set of texts: the union of its cells.
#[derive(Debug, Clone, Default)]
pub(crate) struct Node {
    pub(crate) cells: Vec<Cell>,
}

/// One part of a node.
#[derive(Debug, Clone)]
pub(crate) enum Cell {
    /// A regular language of spelled texts: `null`, a number, a string with its quotes. Not nullable,
    /// no white space around it.
    Lexeme(ExprId),
    /// A JSON object.
    Object(Arc<Object>),
    /// A JSON array.
    Array(Arc<Array>),
    /// A context-free rule.
    Rule(RuleId),
}

/// A value under a member or item: its node, and the counted conditions that it meets. Alternatives
/// of one place are read side by side, so those with different counts must be disjoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Alternative {
    pub(crate) value: NodeId,
    pub(crate) counts: Counts,
}

impl From<NodeId> for Alternative {
    fn from(value: NodeId) -> Self {
        Self { value, counts: 0 }
    }
}

/// A counted condition: how many members or items meet it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Condition {
    pub(crate) min: u32,
    pub(crate) max: u32,
}

/// A set of JSON objects.
///
/// A text has each key once, declared or not. At a key the machine offers the declared keys that may
/// still come and, for the rest, the languages of `others`.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    /// Declared keys in the schema's order: each different, none of them empty of alternatives. A
    /// required key without a value makes the whole cell empty; the front end drops such cells. An
    /// optional key that no value satisfies belongs to `forbidden`.
    pub(crate) members: Vec<Member>,
    /// Keys (decoded) that may not occur although a language of `others` has them.
    pub(crate) forbidden: Vec<Arc<str>>,
    /// Undeclared keys: pairwise disjoint languages. The machine subtracts declared, forbidden and
    /// already written keys itself, so these may contain them.
    pub(crate) others: Vec<Others>,
    /// Least number of members.
    pub(crate) min: u32,
    /// Largest number of members, or [`UNBOUNDED`].
    pub(crate) max: u32,
    /// At most 8.
    pub(crate) conditions: Vec<Condition>,
    /// Declared keys in the order of `members`, then the others; or all in any order.
    pub(crate) order: Order,
}

/// Order of an object's members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Order {
    /// Declared members as declared, undeclared ones after them.
    #[default]
    Schema,
    /// Any order.
    Any,
}

/// A declared member.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    /// Decoded.
    pub(crate) key: Arc<str>,
    pub(crate) required: bool,
    pub(crate) values: Vec<Alternative>,
}

/// Undeclared members.
#[derive(Debug, Clone)]
pub(crate) struct Others {
    /// Spelled keys with their quotes; an infinite language, or one whose words are all declared
    /// nowhere and whose number bounds nothing (`min` is met without them).
    pub(crate) keys: ExprId,
    pub(crate) values: Vec<Alternative>,
}

/// A set of JSON arrays.
#[derive(Debug, Clone)]
pub(crate) struct Array {
    /// Alternatives of the first places.
    pub(crate) prefix: Vec<Vec<Alternative>>,
    /// Alternatives of every later place; empty if there is none.
    pub(crate) rest: Vec<Alternative>,
    /// Least number of items.
    pub(crate) min: u32,
    /// Largest number of items, or [`UNBOUNDED`].
    pub(crate) max: u32,
    /// At most 8.
    pub(crate) conditions: Vec<Condition>,
    /// What is asked of equal items.
    pub(crate) unique: Unique,
}

/// What is asked of equal items of an array.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Unique {
    /// Nothing.
    #[default]
    Any,
    /// All items differ.
    Distinct,
    /// Two items are equal.
    Repeated,
}

/// What stands around the tokens of JSON.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub(crate) space: Space,
    /// The spelled language of one decoded key, with its quotes.
    pub(crate) key: fn(&mut Arena, &str, Escapes) -> ExprId,
    pub(crate) escapes: Escapes,
}

/// White space between the tokens of JSON: none before the value or after it.
#[derive(Debug, Clone)]
pub(crate) enum Space {
    /// The same everywhere; nullable or not.
    Between(ExprId),
    /// Line feeds and `n` blanks a level, one blank after a colon.
    Indent(u8),
}

/// How characters of strings may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Escapes {
    /// Short escapes, and `\u00XX` for other control characters.
    #[default]
    Minimal,
    /// Also `\uXXXX` for every character.
    Any,
}

/// A rule of a context-free grammar: an automaton over its positions.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rule {
    /// Position 0 is the start.
    pub(crate) positions: Vec<Position>,
}

/// A place in a rule.
#[derive(Debug, Clone, Default)]
pub(crate) struct Position {
    /// The rule may end here.
    pub(crate) last: bool,
    pub(crate) edges: Vec<Edge>,
}

/// A step between two positions of a rule.
#[derive(Debug, Clone)]
pub(crate) struct Edge {
    pub(crate) label: Label,
    /// Position in the same rule.
    pub(crate) to: PosId,
}

/// What an edge reads.
#[derive(Debug, Clone)]
pub(crate) enum Label {
    /// A regular text, not nullable. Left by every accepting prefix.
    Lexeme(ExprId),
    /// A terminal of a longest-match grammar: left only where no terminal that is allowed in this
    /// place can go on. Of equal texts the higher priority wins.
    Terminal { expr: ExprId, priority: i64 },
    /// One of these special tokens.
    Special(Arc<[TokenId]>),
    /// A text of a rule.
    Rule(RuleId),
    /// A text of a node.
    Node(NodeId),
}
