//! The slow twin: what a regular expression means, read off its definition.
//!
//! `ends(e, text, i)` is the set of positions where a match of `e` that starts at `i` can end;
//! predicates look at the neighbours in the *whole* text. No automaton, no derivative, no bytes:
//! positions are characters. Exponential nowhere, but cubic; for tests.

use crate::automata::charset::{self, Range};
use crate::automata::look::{self, Ctx};
use regex_syntax::hir::{Class, Hir, HirKind, Look};
use std::collections::BTreeSet;

/// A text as the twin reads it.
struct Text<'a> {
    chars: Vec<char>,
    word: &'a [Range],
}

impl Text<'_> {
    fn kind(&self, c: char) -> Ctx {
        match c {
            '\n' => Ctx::Lf,
            '\r' => Ctx::Cr,
            '0'..='9' | 'A'..='Z' | 'a'..='z' | '_' => Ctx::Word,
            c if charset::contains(self.word, c.into()) => Ctx::UniWord,
            _ => Ctx::Other,
        }
    }

    fn holds(&self, look: Look, at: usize) -> bool {
        let before = at.checked_sub(1).and_then(|i| self.chars.get(i));
        let kind = |c: Option<&char>| c.map_or(Ctx::Edge, |&c| self.kind(c));
        look::holds(look, kind(before), kind(self.chars.get(at)))
    }

    fn ends(&self, e: &Hir, starts: &BTreeSet<usize>) -> BTreeSet<usize> {
        let step = |accept: &dyn Fn(u32) -> bool| {
            starts
                .iter()
                .filter(|&&i| self.chars.get(i).is_some_and(|&c| accept(c.into())))
                .map(|i| i + 1)
                .collect()
        };
        match e.kind() {
            HirKind::Empty => starts.clone(),
            HirKind::Literal(text) => {
                let text: Vec<char> = String::from_utf8_lossy(&text.0).chars().collect();
                starts
                    .iter()
                    .filter(|&&i| self.chars[i..].starts_with(&text))
                    .map(|i| i + text.len())
                    .collect()
            }
            HirKind::Class(Class::Unicode(class)) => step(&|c| {
                class.iter().any(|r| (u32::from(r.start())..=u32::from(r.end())).contains(&c))
            }),
            HirKind::Class(Class::Bytes(class)) => step(&|c| {
                class.iter().any(|r| (u32::from(r.start())..=u32::from(r.end())).contains(&c))
            }),
            HirKind::Look(look) => {
                starts.iter().copied().filter(|&i| self.holds(*look, i)).collect()
            }
            HirKind::Capture(c) => self.ends(&c.sub, starts),
            HirKind::Concat(parts) => {
                parts.iter().fold(starts.clone(), |from, part| self.ends(part, &from))
            }
            HirKind::Alternation(parts) => {
                parts.iter().flat_map(|part| self.ends(part, starts)).collect()
            }
            HirKind::Repetition(r) => {
                // Round `k` from all positions of round `k - 1`; stop when rounds repeat.
                let mut out = BTreeSet::new();
                let mut here = starts.clone();
                let mut seen: Vec<BTreeSet<usize>> = Vec::new();
                let mut k = 0u32;
                loop {
                    if k >= r.min {
                        out.extend(&here);
                    }
                    if here.is_empty() || r.max == Some(k) || (k >= r.min && seen.contains(&here)) {
                        return out;
                    }
                    seen.push(here.clone());
                    here = self.ends(&r.sub, &here);
                    k += 1;
                }
            }
        }
    }
}

/// Whether `text` is in the language of `hir`: matched as a whole, or containing a match.
///
/// # Example
/// ```
/// let hir = regex_syntax::parse("a|b+").unwrap();
/// assert!(trivium_grammar::naive::matches(&hir, "bb", true));
/// assert!(!trivium_grammar::naive::matches(&hir, "xbb", true));
/// assert!(trivium_grammar::naive::matches(&hir, "xbb", false));
/// ```
pub fn matches(hir: &Hir, text: &str, full: bool) -> bool {
    let class = regex_syntax::parse(r"\w").ok();
    let word: Vec<Range> = match class.as_ref().map(Hir::kind) {
        Some(HirKind::Class(Class::Unicode(c))) => {
            c.iter().map(|r| (r.start().into(), r.end().into())).collect()
        }
        _ => Vec::new(),
    };
    let text = Text { chars: text.chars().collect(), word: &word };
    let all = text.chars.len();
    let starts = if full { BTreeSet::from([0]) } else { (0..=all).collect() };
    let ends = text.ends(hir, &starts);
    if full { ends.contains(&all) } else { !ends.is_empty() }
}
