//! Options of a JSON Schema as they cross the border: names that Python has checked, or a typed error.

use crate::errors::{PyRes, to_py};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use trivium_core::Error as Core;
use trivium_grammar::json_schema::{
    Additional, Escaping, Formats, MemberOrder, Numerals, OnUnsupported, Options, Whitespace,
};

fn unknown<T>(py: Python<'_>, option: &str, value: &str, known: &str) -> PyRes<T> {
    Err(to_py(py, &Core::input(option, format!("{value:?} is not {known}"))))
}

fn text(options: &Bound<'_, PyDict>, key: &str) -> PyResult<String> {
    match options.get_item(key)? {
        Some(value) => value.extract(),
        None => Ok(String::new()),
    }
}

/// Reads the options that `GrammarMask.json_schema` passes.
pub(crate) fn options(py: Python<'_>, given: &Bound<'_, PyDict>) -> PyRes<Options> {
    let order = match text(given, "order")?.as_str() {
        "schema" => MemberOrder::Schema,
        "any" => MemberOrder::Any,
        other => return unknown(py, "order", other, "schema or any"),
    };
    let mut out = Options { order, ..Options::default() };
    out.additional = match text(given, "additional")?.as_str() {
        "spec" => Additional::Spec,
        "closed" => Additional::Closed,
        other => return unknown(py, "additional", other, "spec or closed"),
    };
    out.escapes = match text(given, "escapes")?.as_str() {
        "minimal" => Escaping::Minimal,
        "any" => Escaping::Any,
        other => return unknown(py, "escapes", other, "minimal or any"),
    };
    out.numbers = match text(given, "numbers")?.as_str() {
        "plain" => Numerals::Plain,
        "any" => Numerals::Any,
        other => return unknown(py, "numbers", other, "plain or any"),
    };
    out.on_unsupported = match text(given, "on_unsupported")?.as_str() {
        "error" => OnUnsupported::Error,
        "relax" => OnUnsupported::Relax,
        other => return unknown(py, "on_unsupported", other, "error or relax"),
    };
    if let Some(space) = given.get_item("whitespace")? {
        out.whitespace = if let Ok(n) = space.extract::<u8>() {
            Whitespace::Indent(n)
        } else {
            match space.extract::<String>()?.as_str() {
                "flex" => Whitespace::Flex,
                "compact" => Whitespace::Compact,
                "any" => Whitespace::Any,
                pattern => Whitespace::Pattern(pattern.to_owned()),
            }
        };
    }
    if let Some(formats) = given.get_item("formats")? {
        out.formats = if let Ok(name) = formats.extract::<String>() {
            match name.as_str() {
                "assert" => Formats::Assert,
                "annotate" => Formats::Annotate,
                other => return unknown(py, "formats", other, "assert, annotate or names"),
            }
        } else {
            Formats::Only(formats.extract::<Vec<String>>()?.into_iter().collect::<BTreeSet<_>>())
        };
    }
    if let Some(remotes) = given.get_item("remotes")? {
        let remotes: BTreeMap<String, String> = remotes.extract()?;
        out.remotes = remotes.into_iter().map(|(k, v)| (k, Arc::from(v))).collect();
    }
    if let Some(digits) = given.get_item("digits")? {
        out.digits = digits.extract()?;
    }
    if let Some(cells) = given.get_item("max_cells")? {
        out.max_cells = cells.extract()?;
    }
    Ok(out)
}
