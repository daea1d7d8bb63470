//! JSON Schema: from a schema's text to nodes of the machine.
//!
//! ```text
//! text --json--> values --documents--> resources, references --keywords--> rules
//!      --expand--> cells (a set algebra closed under ∪ ∩ ¬) --plan, lower--> objects, arrays, lexemes
//! ```
//!
//! A schema is a set of JSON *values*. Every keyword and its complement is a construction in the
//! algebra of [`cells`], so every Boolean combination is exact; which *texts* spell a value is decided
//! when a node is lowered, by the [`Options`]. Nodes are expanded when a text reaches them, so the
//! cost of compiling is reading the schema once.
//!
//! | file | holds |
//! |---|---|
//! | `json`, `decimal`, `uri` | values, exact numbers, addresses |
//! | `documents` | resources, anchors, references |
//! | `keywords` | one schema object as rules, whatever dialect |
//! | `nodes`, `cells`, `expand` | the algebra |
//! | `inhabited`, `finite` | emptiness, and nodes with few values |
//! | `strings`, `numbers` | lexemes of scalar cells |
//! | `plan`, `feasible`, `lower` | objects and arrays as the machine wants them |
//! | `check` | what is found wrong before any text |
//! | [`naive`] | the slow twin: validation by definition |

mod cells;
mod check;
mod decimal;
mod documents;
mod error;
mod expand;
mod feasible;
mod finite;
mod inhabited;
mod json;
mod keywords;
mod lower;
mod metaschema;
pub mod naive;
mod nodes;
mod numbers;
mod options;
mod plan;
mod shadow;
mod strings;
mod uri;
mod value;

pub use options::{
    Additional, Escaping, Formats, MemberOrder, Numerals, OnUnsupported, Options, Whitespace,
};

use crate::automata::expr::{Arena, ExprId, INF};
use crate::combine::{Recipe, Schema};
use crate::error::{Error, Result};
use crate::grammar::Notes;
use crate::limits::CompileLimits;
use crate::machine::graph::{Escapes, Graph, Layout, Space};
use crate::regex::Dialect;
use documents::Documents;
use error::Problem;
use expand::Algebra;
use std::sync::Arc;

/// Most white space between two tokens under [`Whitespace::Flex`].
const FLEX: u32 = 64;

fn blanks(arena: &mut Arena, max: u32) -> ExprId {
    let one = arena.class(vec![(0x09, 0x0a), (0x0d, 0x0d), (0x20, 0x20)]);
    arena.repeat(one, 0, max)
}

/// Whether a value lies in a schema, as the algebra has it, and whether any value does. For tests: the
/// machine is not asked.
///
/// # Errors
/// As compiling a schema; `InvalidSchema` for a value that is no JSON.
#[doc(hidden)]
pub fn contains(schema: &str, options: &Options, values: &[&str]) -> Result<(bool, Vec<bool>)> {
    let limits = CompileLimits::default();
    let docs = Documents::new(schema, options.remotes.clone())?;
    let relax = options.on_unsupported == OnUnsupported::Relax;
    let mut algebra =
        Algebra::new(docs, options.formats.clone(), options.max_cells, relax, &limits);
    let root = algebra.root()?;
    algebra.expand_some(root)?;
    let inhabited = algebra.inhabited(root)?;
    let mut out = Vec::with_capacity(values.len());
    for value in values {
        let mut store = json::Store::default();
        let value = store.read(value).map_err(|m| Problem::malformed("the value", &m))?;
        out.push(algebra.contains(root, &store, value)?);
    }
    Ok((inhabited, out))
}

/// Compiles a schema for the machine.
pub(crate) fn compile(
    text: &str,
    options: &Options,
    limits: &CompileLimits,
) -> Result<(Graph, Notes)> {
    Ok(build(text, options, limits)?)
}

fn build(text: &str, options: &Options, limits: &CompileLimits) -> Result<(Graph, Notes), Problem> {
    let docs = Documents::new(text, options.remotes.clone())?;
    let relax = options.on_unsupported == OnUnsupported::Relax;
    let mut algebra = Algebra::new(docs, options.formats.clone(), options.max_cells, relax, limits);
    algebra.closed = options.additional == Additional::Closed;
    algebra.check_all()?;
    let root = algebra.root()?;
    algebra.expand_some(root)?;
    if !algebra.inhabited(root)? {
        let why = "its requirements contradict each other".into();
        return Err(Problem::Unsatisfiable { path: "#".into(), why });
    }
    let mut arena = Arena::new(limits.max_bytes);
    let layout = layout(&mut arena, options, limits)?;
    let mut notes = Notes::default();
    for (path, keyword, reason) in &algebra.relaxed {
        notes.relaxed.push(format!("{path}, {keyword}: {reason}"));
    }
    for format in &algebra.unknown_formats {
        notes.warnings.push(format!("format {format:?} is unknown and not asserted"));
    }
    if algebra.compared > 0 {
        notes.unproven.push(
            "uniqueItems: an item may be begun so that only one that was there completes it"
                .to_owned(),
        );
    }
    if let Some(digits) = options.digits {
        notes.incomplete.push(format!("numbers have at most {digits} digits"));
    }
    let said = [&notes.incomplete, &notes.unproven].into_iter().flatten().cloned();
    notes.warnings.extend(said.collect::<Vec<_>>());
    let source = lower::Source::new(algebra, options.clone());
    let graph = Graph {
        arena,
        nodes: Vec::new(),
        source: Some(Arc::new(source)),
        rules: Vec::new(),
        start: root,
        layout,
    };
    Ok((graph, notes))
}

/// What stands around the tokens of JSON under the options.
pub(crate) fn layout(
    arena: &mut Arena,
    options: &Options,
    limits: &CompileLimits,
) -> Result<Layout> {
    let space = match &options.whitespace {
        Whitespace::Flex => Space::Between(blanks(arena, FLEX)),
        Whitespace::Any => Space::Between(blanks(arena, INF)),
        Whitespace::Compact => Space::Between(crate::automata::expr::EPSILON),
        Whitespace::Indent(n) => Space::Indent(*n),
        Whitespace::Pattern(pattern) => {
            let e = crate::regex::compile(arena, pattern, Dialect::Rust, true, limits)?;
            let all = blanks(arena, INF);
            if !arena.includes(all, e)? {
                return Err(Error::InvalidGrammar {
                    what: "whitespace",
                    offset: 0,
                    why: "it matches characters that are no white space of JSON".into(),
                });
            }
            Space::Between(e)
        }
    };
    let escapes = match options.escapes {
        Escaping::Minimal => Escapes::Minimal,
        Escaping::Any => Escapes::Any,
    };
    Ok(Layout { space, key: lower::key, escapes })
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        match problem {
            Problem::Invalid { path, keyword, why } => Self::InvalidSchema { path, keyword, why },
            Problem::Unsupported { path, keyword, reason, hint } => {
                Self::UnsupportedSchema { path, keyword, reason, hint }
            }
            Problem::Unsatisfiable { path, why } => {
                Self::Unsatisfiable { what: format!("the schema at {path}"), why }
            }
            Problem::Other(error) => error,
        }
    }
}

impl crate::GrammarMask {
    /// A grammar from a JSON Schema: the texts are the JSON values that satisfy it, as the options
    /// let them be spelled.
    ///
    /// Reading costs time linear in the schema; what its keywords say of a member or item is worked
    /// out when a text gets there.
    ///
    /// # Errors
    /// `InvalidSchema` for a text that is no schema, with its path; `UnsupportedSchema` for what is not
    /// enforced, with path, keyword, reason and hint; `Unsatisfiable` if no value satisfies it;
    /// `LimitExceeded` over a budget.
    pub fn json_schema(
        schema: &str,
        vocab: &Arc<trivium_core::Vocabulary>,
        options: &Options,
        limits: CompileLimits,
    ) -> Result<Self> {
        crate::watch::within(&limits, || {
            let (graph, notes) = compile(schema, options, &limits)?;
            let source = graph.source.clone().map(|source| {
                let (root, options) = (graph.start, options.clone());
                Recipe::Schema(Arc::new(Schema { source, root, options }))
            });
            Self::of_graph(graph, vocab, "json schema", schema.to_owned(), limits, notes, source)
        })
    }
}
