//! Context-free grammars: EBNF, GBNF and the Lark dialect, compiled for the machine.
//!
//! ```text
//! text --bnf, lark--> operators --rules--> productions --corner--> no left recursion --> graph
//! ```
//!
//! In EBNF and GBNF the language is that of the rules over characters; regular parts become lexemes,
//! so a grammar written character by character runs as fast as one written with terminals. In the
//! Lark dialect terminals are longest matches and `%ignore` text may stand behind each.
//!
//! | file | holds |
//! |---|---|
//! | [`ast`] | operators, the cursor, located errors |
//! | [`bnf`], [`lark`] | the two syntaxes |
//! | [`templates`] | templates of the Lark dialect, as rules of their own for each list of arguments |
//! | [`rules`] | names resolved, regular parts as lexemes, productions |
//! | [`corner`] | empty rules split off, left recursion removed, unproductive rules dropped |

mod ast;
mod bnf;
mod corner;
mod lark;
mod rules;
mod templates;

pub(crate) use rules::nonempty;

use crate::automata::expr::{Arena, ExprId};
use crate::error::Result;
use crate::limits::CompileLimits;
use crate::machine::graph::Graph;
use trivium_core::Vocabulary;

/// How a grammar is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Syntax {
    /// `name ::= alternatives`, scannerless.
    Ebnf,
    /// The same, as llama.cpp writes it.
    Gbnf,
    /// The dialect of the Lark parser generator: longest match, `%ignore`.
    Lark,
}

/// A compiled grammar: one lexeme if it is regular.
pub(crate) enum Compiled {
    Lexeme(Box<Arena>, ExprId),
    Graph(Box<Graph>),
}

/// Compiles a grammar, its lexemes into `arena`; the second result are warnings.
pub(crate) fn compile(
    text: &str,
    syntax: Syntax,
    start: Option<&str>,
    vocab: &Vocabulary,
    limits: &CompileLimits,
    arena: Arena,
) -> Result<(Compiled, Vec<String>)> {
    let source = match syntax {
        Syntax::Ebnf | Syntax::Gbnf => bnf::parse(text)?,
        Syntax::Lark => lark::parse(text)?,
    };
    rules::compile(text, &source, start, vocab, limits, arena)
}
