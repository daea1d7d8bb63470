//! Grammars made of grammars.

use crate::errors::{PyRes, to_py};
use crate::grammar::{Budgets, PyGrammarMask};
use crate::vocab::PyVocabulary;
use pyo3::prelude::*;
use trivium_core::Error as Core;
use trivium_core::TokenId;
use trivium_grammar::{GrammarMask, Phrases, Trigger};

/// `and`, `or`, `then` of any number of grammars, `not` of one.
#[pyfunction]
pub(crate) fn combine_grammars(
    py: Python<'_>,
    how: &str,
    parts: Vec<PyRef<'_, PyGrammarMask>>,
    budgets: Budgets,
) -> PyRes<PyGrammarMask> {
    let parts: Vec<GrammarMask> = parts.iter().map(|p| p.inner.clone()).collect();
    let make = match (how, &parts[..]) {
        ("and", _) => GrammarMask::and,
        ("or", _) => GrammarMask::or,
        ("then", _) => GrammarMask::then,
        ("both", [_, _]) => {
            |parts: &[&GrammarMask], limits| GrammarMask::both(parts[0], parts[1], limits)
        }
        ("not", [_]) => |parts: &[&GrammarMask], limits| GrammarMask::not(parts[0], limits),
        _ => return Err(to_py(py, &Core::input("how", format!("{how:?} of {}", parts.len())))),
    };
    let inner = budgets.compile(py, move |limits| {
        let parts: Vec<&GrammarMask> = parts.iter().collect();
        make(&parts, limits)
    })?;
    Ok(PyGrammarMask { inner })
}

/// Texts with phrases that must and phrases that must not occur.
#[pyfunction]
pub(crate) fn phrase_grammar(
    py: Python<'_>,
    must: Vec<Vec<String>>,
    never: Vec<String>,
    ignore_case: bool,
    whole_words: bool,
    vocab: &PyVocabulary,
    budgets: Budgets,
) -> PyRes<PyGrammarMask> {
    let phrases = Phrases { must, never, ignore_case, whole_words };
    let inner =
        budgets.compile(py, |limits| GrammarMask::phrases(phrases, &vocab.inner, limits))?;
    Ok(PyGrammarMask { inner })
}

/// A text, or ids of special tokens.
#[derive(FromPyObject)]
pub(crate) enum PyTrigger {
    Text(String),
    Special(Vec<TokenId>),
}

impl From<PyTrigger> for Trigger {
    fn from(trigger: PyTrigger) -> Self {
        match trigger {
            PyTrigger::Text(text) => Self::Text(text.into()),
            PyTrigger::Special(ids) => Self::Special(ids.into()),
        }
    }
}

/// Free text up to a trigger, then a grammar.
#[pyfunction]
pub(crate) fn after_trigger(
    py: Python<'_>,
    trigger: PyTrigger,
    then: &PyGrammarMask,
    budgets: Budgets,
) -> PyRes<PyGrammarMask> {
    let inner = budgets.compile(py, |limits| GrammarMask::after(trigger, &then.inner, limits))?;
    Ok(PyGrammarMask { inner })
}

/// Free text with islands.
#[pyfunction]
pub(crate) fn island_grammar(
    py: Python<'_>,
    islands: Vec<(PyTrigger, PyRef<'_, PyGrammarMask>)>,
    stop: Option<&str>,
    budgets: Budgets,
) -> PyRes<PyGrammarMask> {
    let islands: Vec<(Trigger, GrammarMask)> =
        islands.into_iter().map(|(t, g)| (t.into(), g.inner.clone())).collect();
    let inner = budgets.compile(py, move |limits| {
        let islands: Vec<(Trigger, &GrammarMask)> =
            islands.iter().map(|(t, g)| (t.clone(), g)).collect();
        GrammarMask::free_text_with(&islands, stop, limits)
    })?;
    Ok(PyGrammarMask { inner })
}

/// The pieces of a source text.
#[pyfunction]
pub(crate) fn span_grammar(
    py: Python<'_>,
    source: &str,
    words: bool,
    max_words: Option<u32>,
    vocab: &PyVocabulary,
    budgets: Budgets,
) -> PyRes<PyGrammarMask> {
    let inner = budgets
        .compile(py, |limits| GrammarMask::spans(source, words, max_words, &vocab.inner, limits))?;
    Ok(PyGrammarMask { inner })
}
