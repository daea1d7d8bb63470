//! `GrammarMask`: which tokens keep a text inside a language, exactly, at every step.
//!
//! ```text
//! pattern --regex--> residual expression --automata--> byte automaton, built as texts reach it
//!                                              |
//! vocabulary --trie--> mask of a state  <--mask--+        matcher = vector of state ids
//! ```
//!
//! Three guarantees, printed by [`Report`]: **S** every text that may end is in the language, **C**
//! every text of the language is reachable by every tokenisation, **D** from every state a finite
//! completion exists (as bytes; as tokens if the vocabulary spells every byte).
//!
//! ```
//! use std::sync::Arc;
//! use trivium_core::{Vocabulary, mask};
//! use trivium_grammar::{CompileLimits, Dialect, GrammarMask};
//!
//! let vocab = Arc::new(Vocabulary::new(&["a", "b", "ab", ""], &[], &[3], None)?);
//! let grammar =
//!     GrammarMask::regex("(ab)+", &vocab, Dialect::Rust, true, CompileLimits::default())?;
//! let mut matcher = grammar.matcher();
//! let mut row = [0];
//! matcher.fill(&mut row)?;
//! assert_eq!(mask::iter(&row).collect::<Vec<_>>(), [0, 2]); // "a", "ab"
//! assert!(matcher.commit(2)? && matcher.is_accepting()?);
//! # Ok::<(), trivium_grammar::Error>(())
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`regex`] | the `rust` dialect, lowered from `regex-syntax` |
//! | `automata` | hash-consed residuals, derivatives, the lazy byte automaton |
//! | `mask` | walks, slices by character class, the mask cache |
//! | [`json_schema`] | schemas as a set algebra, lowered to the machine |
//! | [`matcher`], `tree`, `batch`, `forced` | the per-sequence object and what is asked of it |
//! | `combine`, `pair`, [`checker`] | grammars of grammars, two side by side, user code beside one |
//! | `canvas` | masked positions of diffusion models against rules |
//! | `engine`, `watch` | what states are numbers of; deadlines and cancel flags of constructors |
//! | [`naive`] | the slow twin: membership by definition |

#![forbid(unsafe_code)]
#![deny(missing_docs)]

#[allow(dead_code)] // the operators serve front ends that are being built
mod automata;
mod batch;
mod canvas;
mod cfg;
pub mod checker;
mod choices;
mod combine;
mod engine;
mod error;
mod forced;
mod grammar;
mod history;
pub mod json_schema;
mod limits;
mod machine;
mod mask;
pub mod matcher;
pub mod naive;
mod pair;
#[allow(dead_code)] // see automata
pub mod regex;
mod tree;
mod watch;

pub use automata::dfa::AutomatonSize;
pub use batch::fill_batch;
pub use canvas::{Canvas, Lengths};
pub use cfg::Syntax;
pub use checker::Checker;
pub use combine::{Phrases, Trigger};
pub use error::{Error, Result};
pub use grammar::{Explanation, GrammarMask, Report};
pub use limits::CompileLimits;
pub use mask::cache::Word;
pub use matcher::Matcher;
pub use regex::Dialect;
pub use watch::{Cancel, cancellable};
