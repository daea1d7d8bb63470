//! Languages of strings: patterns, formats, lengths and exclusions as one expression.
//!
//! Expressions are over *decoded* characters; the spelling in JSON is applied when a node is lowered.
//! Conditions (is it empty, does it hold a word) are decided in an arena of the algebra's own;
//! nothing of it reaches the machine's.

use super::cells::{LangId, StrCell};
use super::nodes::Language;
use crate::automata::expr::{Arena, EMPTY, ExprId, INF};
use crate::error::{Error, Result};
use crate::limits::CompileLimits;
use crate::regex::{Dialect, ecma, formats};
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// Whether strings of a format are a known language.
pub(crate) fn knows_format(name: &str) -> bool {
    formats::is_known(name)
}

/// Whether a pattern is one that can be compiled.
pub(crate) fn check_pattern(pattern: &str) -> Result<()> {
    let mut arena = Arena::new(CompileLimits::default().max_bytes);
    search(&mut arena, pattern).map(drop)
}

/// Texts that a pattern is found in. What the ECMA dialect does not know (`(?i)` at the start, `\\A`,
/// `(?P<name>...)`) means what it means in Python, whose validators such patterns come from.
fn search(arena: &mut Arena, pattern: &str) -> Result<ExprId> {
    let ecma = ecma::lower(arena, pattern, false);
    if let Err(Error::InvalidGrammar { .. } | Error::UnsupportedPattern { .. }) = ecma {
        let limits = CompileLimits::default();
        let python = crate::regex::compile(arena, pattern, Dialect::Python, false, &limits);
        if python.is_ok() {
            return python;
        }
    }
    ecma
}

/// The expression of a language.
pub(crate) fn language(arena: &mut Arena, language: &Language) -> Result<ExprId> {
    match language {
        Language::Pattern(p) => search(arena, p),
        Language::Format(name) => formats::lower(arena, name),
    }
}

fn clip(n: u64) -> u32 {
    n.min(u64::from(INF) - 1) as u32
}

/// The decoded strings of a cell.
pub(crate) fn cell(arena: &mut Arena, languages: &[Language], cell: &StrCell) -> Result<ExprId> {
    let mut parts = Vec::new();
    for &(id, inside) in &cell.languages {
        let e = language(arena, &languages[id as usize])?;
        parts.push(if inside { e } else { arena.not(e) });
    }
    if let Some(finite) = &cell.finite {
        let mut words = Vec::new();
        for word in finite.iter() {
            let mut inside = true;
            for &e in &parts {
                inside = inside && arena.matches(e, word)?;
            }
            if inside {
                words.push(arena.literal(word));
            }
        }
        return Ok(arena.union(&words));
    }
    if cell.min > 0 || cell.max.is_some() {
        let max = cell.max.map_or(INF, clip);
        parts.push(arena.of_length(clip(cell.min), max));
    }
    if !cell.excluded.is_empty() {
        let words: Vec<_> = cell.excluded.iter().map(|w| arena.literal(w)).collect();
        let words = arena.union(&words);
        parts.push(arena.not(words));
    }
    Ok(match parts[..] {
        [] => arena.top(),
        [one] => one,
        _ => arena.inter(&parts),
    })
}

/// Decisions about languages, remembered.
#[derive(Debug)]
pub(crate) struct Strings {
    pub(crate) arena: Arena,
    languages: FxHashMap<LangId, ExprId>,
    matches: FxHashMap<(LangId, Arc<str>), bool>,
    empty: FxHashMap<StrCell, bool>,
}

impl Strings {
    pub(crate) fn new(limits: &CompileLimits) -> Self {
        Self {
            arena: Arena::new(limits.max_bytes),
            languages: FxHashMap::default(),
            matches: FxHashMap::default(),
            empty: FxHashMap::default(),
        }
    }

    /// The expression of a language in this arena.
    pub(crate) fn language(&mut self, id: LangId, all: &[Language]) -> Result<ExprId> {
        if let Some(&known) = self.languages.get(&id) {
            return Ok(known);
        }
        let e = language(&mut self.arena, &all[id as usize])?;
        self.languages.insert(id, e);
        Ok(e)
    }

    /// Whether a language holds a word.
    pub(crate) fn matches(
        &mut self,
        id: LangId,
        all: &[Language],
        word: &Arc<str>,
    ) -> Result<bool> {
        let key = (id, Arc::clone(word));
        if let Some(&known) = self.matches.get(&key) {
            return Ok(known);
        }
        let e = self.language(id, all)?;
        self.arena.refuel();
        let answer = self.arena.matches(e, word)?;
        self.matches.insert(key, answer);
        Ok(answer)
    }

    /// Whether no string lies in a cell.
    pub(crate) fn is_empty(&mut self, all: &[Language], of: &StrCell) -> Result<bool> {
        if of.languages.is_empty() && of.finite.is_none() && of.excluded.is_empty() {
            return Ok(of.max.is_some_and(|m| m < of.min));
        }
        if let Some(&known) = self.empty.get(of) {
            return Ok(known);
        }
        self.arena.refuel();
        let e = cell(&mut self.arena, all, of)?;
        let answer = self.arena.is_empty(e)?;
        self.empty.insert(of.clone(), answer);
        Ok(answer)
    }

    /// Both, without making trivial intersections.
    pub(crate) fn both(&mut self, a: ExprId, b: ExprId) -> ExprId {
        let top = self.arena.top();
        match (a, b) {
            (EMPTY, _) | (_, EMPTY) => EMPTY,
            (a, b) if a == top || a == b => b,
            (a, b) if b == top => a,
            (a, b) => self.arena.inter(&[a, b]),
        }
    }
}
