//! Grammars made of grammars: `&`, `|`, `~`, `-`, `then`, phrases, islands in free text, spans.
//!
//! A regular grammar keeps its [`Recipe`]: what it was asked to be, a few words however large its
//! automaton has grown. Combining makes a recipe of recipes and lowers it into an arena of its own, so
//! every combination is exact and has the guarantees of a pattern: `a & b` is one automaton, not two
//! masks that might agree on no token.

use crate::automata::expr::{Arena, EPSILON, ExprId, INF};
use crate::automata::look::word_class;
use crate::error::{Error, Result};
use crate::grammar::GrammarMask;
use crate::limits::CompileLimits;
use crate::regex::{self, Dialect};
use regex_syntax::hir::Look;
use std::sync::Arc;
use trivium_core::{Error as Core, Vocabulary};

/// A regular language as it was asked for.
#[derive(Debug, Clone)]
pub(crate) enum Recipe {
    Pattern { text: Arc<str>, dialect: Dialect, full: bool },
    Choices(Arc<[String]>),
    And(Arc<[Recipe]>),
    Or(Arc<[Recipe]>),
    Then(Arc<[Recipe]>),
    Not(Arc<Recipe>),
    Phrases(Arc<Phrases>),
    Islands { islands: Arc<[(String, Recipe)]>, stop: Option<Arc<str>> },
    After { trigger: Arc<str>, then: Arc<Recipe> },
    Spans { source: Arc<str>, words: bool, max_words: Option<u32> },
}

/// Phrases that a text must or must not contain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Phrases {
    /// Each group must occur: one of its phrases, at any place.
    pub must: Vec<Vec<String>>,
    /// None of these may occur.
    pub never: Vec<String>,
    /// Whether case is ignored (simple case folding).
    pub ignore_case: bool,
    /// Whether a phrase counts only where no word character touches it from outside.
    pub whole_words: bool,
}

impl Recipe {
    pub(crate) fn lower(&self, arena: &mut Arena, limits: &CompileLimits) -> Result<ExprId> {
        let list = |arena: &mut Arena, parts: &[Self]| {
            parts.iter().map(|p| p.lower(arena, limits)).collect::<Result<Vec<_>>>()
        };
        let out = match self {
            Self::Pattern { text, dialect, full } => {
                regex::compile(arena, text, *dialect, *full, limits)?
            }
            Self::Choices(texts) => crate::choices::lower(arena, texts),
            Self::And(parts) => {
                let parts = list(arena, parts)?;
                arena.inter(&parts)
            }
            Self::Or(parts) => {
                let parts = list(arena, parts)?;
                arena.union(&parts)
            }
            Self::Then(parts) => {
                let parts = list(arena, parts)?;
                if parts.iter().any(|&p| !arena.is_pure(p)) {
                    return Err(predicates());
                }
                arena.sequence(&parts)
            }
            Self::Not(part) => {
                let part = part.lower(arena, limits)?;
                arena.not(part)
            }
            Self::Phrases(phrases) => phrases.lower(arena),
            Self::Islands { islands, stop } => {
                islands_in_text(arena, islands, stop.as_deref(), limits)?
            }
            Self::After { trigger, then } => {
                let then = then.lower(arena, limits)?;
                if !arena.is_pure(then) {
                    return Err(predicates());
                }
                let free = up_to(arena, trigger, &[trigger]);
                arena.concat(free, then)
            }
            Self::Spans { source, words, max_words } => spans(arena, source, *words, *max_words),
        };
        arena.check()?;
        Ok(out)
    }
}

fn predicates() -> Error {
    Error::UnsupportedPattern {
        feature: "a sequence of grammars with position predicates".into(),
        at: "in then".into(),
        hint: "write one pattern: \\b, ^ and $ would have to see across the seam".into(),
    }
}

impl Phrases {
    fn lower(&self, arena: &mut Arena) -> ExprId {
        let mut members = Vec::with_capacity(self.must.len() + 1);
        for group in &self.must {
            members.push(self.somewhere(arena, group));
        }
        if !self.never.is_empty() {
            let some = self.somewhere(arena, &self.never);
            members.push(arena.not(some));
        }
        match members[..] {
            [] => arena.top(),
            [one] => one,
            _ => arena.inter(&members),
        }
    }

    /// The texts with one of the phrases at any place.
    fn somewhere(&self, arena: &mut Arena, phrases: &[String]) -> ExprId {
        let phrases: Vec<ExprId> = phrases.iter().map(|p| self.phrase(arena, p)).collect();
        let any = arena.union(&phrases);
        let top = arena.top();
        arena.sequence(&[top, any, top])
    }

    fn phrase(&self, arena: &mut Arena, text: &str) -> ExprId {
        let mut e = EPSILON;
        let is_word = |c: Option<char>| {
            c.is_some_and(|c| crate::automata::charset::contains(word_class(), c.into()))
        };
        if self.whole_words && is_word(text.chars().next_back()) {
            e = arena.look(Look::WordEndHalfUnicode);
        }
        for c in text.chars().rev() {
            let one = vec![(c.into(), c.into())];
            let class = arena.class(if self.ignore_case { regex::fold(one) } else { one });
            e = arena.concat(class, e);
        }
        if self.whole_words && is_word(text.chars().next()) {
            let start = arena.look(Look::WordStartHalfUnicode);
            e = arena.concat(start, e);
        }
        e
    }
}

/// Texts that end with `trigger` and in which no other of `all` ends earlier.
fn up_to(arena: &mut Arena, trigger: &str, all: &[&str]) -> ExprId {
    let words: Vec<ExprId> = all.iter().map(|t| arena.literal(t)).collect();
    let any = arena.union(&words);
    let top = arena.top();
    let more = arena.of_length(1, INF);
    let early = arena.sequence(&[top, any, more]);
    let trigger = arena.literal(trigger);
    let ends = arena.concat(top, trigger);
    arena.minus(ends, early)
}

/// Free text in which each trigger starts its island, up to `stop` or the end.
fn islands_in_text(
    arena: &mut Arena,
    islands: &[(String, Recipe)],
    stop: Option<&str>,
    limits: &CompileLimits,
) -> Result<ExprId> {
    let all: Vec<&str> = islands.iter().map(|i| i.0.as_str()).chain(stop).collect();
    let mut parts = Vec::with_capacity(islands.len());
    for (trigger, island) in islands {
        let free = up_to(arena, trigger, &all);
        let island = island.lower(arena, limits)?;
        if !arena.is_pure(island) {
            return Err(predicates());
        }
        parts.push(arena.concat(free, island));
    }
    let any = arena.union(&parts);
    let rounds = arena.repeat(any, 0, INF);
    let tail = if let Some(stop) = stop {
        up_to(arena, stop, &all)
    } else {
        let words: Vec<ExprId> = all.iter().map(|t| arena.literal(t)).collect();
        let some = arena.union(&words);
        let top = arena.top();
        let some = arena.sequence(&[top, some, top]);
        arena.not(some)
    };
    Ok(arena.concat(rounds, tail))
}

/// The non-empty pieces of a text: a residual is the set of places that the piece can have reached.
fn spans(arena: &mut Arena, source: &str, words: bool, max_words: Option<u32>) -> ExprId {
    let chars: Vec<char> = source.chars().collect();
    let is_word = |i: usize| {
        chars.get(i).is_some_and(|&c| crate::automata::charset::contains(word_class(), c.into()))
    };
    // With whole words a piece neither begins nor ends inside one.
    let cuts = |i: usize| !words || i == 0 || i == chars.len() || !(is_word(i - 1) && is_word(i));
    let mut starts = Vec::new();
    let mut rest = EPSILON;
    for i in (0..chars.len()).rev() {
        let c = chars[i].into();
        let class = arena.class(vec![(c, c)]);
        let from_here = arena.concat(class, rest);
        if cuts(i) {
            starts.push(from_here);
        }
        rest = if cuts(i) { arena.union(&[EPSILON, from_here]) } else { from_here };
        if arena.spend(1) {
            break;
        }
    }
    let all = arena.union(&starts);
    let Some(most) = max_words else { return all };
    let word = arena.class(word_class().to_vec());
    let other = crate::automata::charset::complement(word_class());
    let other = arena.class(other);
    let run = arena.repeat(word, 1, INF);
    let gap = arena.repeat(other, 1, INF);
    let pair = arena.concat(run, gap);
    let lead = arena.repeat(other, 0, INF);
    let pairs = arena.repeat(pair, 0, most.saturating_sub(1).min(INF - 1));
    let last = if most == 0 { EPSILON } else { arena.repeat(run, 0, 1) };
    let trail = arena.repeat(other, 0, INF);
    let counted = arena.sequence(&[lead, pairs, last, trail]);
    arena.inter(&[all, counted])
}

impl GrammarMask {
    /// A grammar of a recipe.
    fn of_recipe(
        recipe: Recipe,
        kind: &'static str,
        text: String,
        vocab: &Arc<Vocabulary>,
        limits: CompileLimits,
    ) -> Result<Self> {
        let deadline = std::time::Instant::now().checked_add(limits.max_time);
        let mut arena = Arena::new(limits.max_bytes);
        let expr = recipe.lower(&mut arena, &limits)?;
        Self::of_expression(arena, expr, vocab, kind, text, recipe, limits, deadline)
    }

    fn parts(parts: &[&Self], what: &'static str) -> Result<(Arc<[Recipe]>, String)> {
        let Some(first) = parts.first() else {
            return Err(Core::input(what, "no grammar").into());
        };
        let mut recipes = Vec::with_capacity(parts.len());
        let mut texts = Vec::with_capacity(parts.len());
        for part in parts {
            if !Arc::ptr_eq(part.vocab(), first.vocab()) {
                return Err(Core::input(what, "grammars over different vocabularies").into());
            }
            let Some(recipe) = part.recipe() else {
                return Err(Error::UnsupportedPattern {
                    feature: format!("combining a grammar that is not regular ({})", part.kind()),
                    at: format!("in {what}"),
                    hint: "regex, choices, phrases, spans and their combinations are regular"
                        .into(),
                });
            };
            recipes.push(recipe.clone());
            texts.push(part.text().to_owned());
        }
        Ok((recipes.into(), texts.join(", ")))
    }

    /// The texts of all `parts`.
    ///
    /// # Errors
    /// `UnsupportedPattern` for a part that is not regular; `InvalidInput` for different vocabularies;
    /// `Unsatisfiable` if no text is left; `LimitExceeded` over a budget.
    pub fn and(parts: &[&Self], limits: CompileLimits) -> Result<Self> {
        let (recipes, text) = Self::parts(parts, "and")?;
        Self::of_recipe(Recipe::And(recipes), "and", text, parts[0].vocab(), limits)
    }

    /// The texts of any of `parts`.
    ///
    /// # Errors
    /// As [`and`](Self::and).
    pub fn or(parts: &[&Self], limits: CompileLimits) -> Result<Self> {
        let (recipes, text) = Self::parts(parts, "or")?;
        Self::of_recipe(Recipe::Or(recipes), "or", text, parts[0].vocab(), limits)
    }

    /// A text of each of `parts`, one after the other.
    ///
    /// # Errors
    /// As [`and`](Self::and); `UnsupportedPattern` where predicates would see across a seam.
    pub fn then(parts: &[&Self], limits: CompileLimits) -> Result<Self> {
        let (recipes, text) = Self::parts(parts, "then")?;
        Self::of_recipe(Recipe::Then(recipes), "then", text, parts[0].vocab(), limits)
    }

    /// Every text that is not one of `part`.
    ///
    /// # Errors
    /// As [`and`](Self::and).
    pub fn not(part: &Self, limits: CompileLimits) -> Result<Self> {
        let (recipes, text) = Self::parts(&[part], "not")?;
        let recipe = Recipe::Not(Arc::new(recipes[0].clone()));
        Self::of_recipe(recipe, "not", text, part.vocab(), limits)
    }

    /// Texts that contain all that they must and nothing that they must not. All tokenisations are
    /// covered: a phrase is one of characters, however tokens cut it.
    ///
    /// # Errors
    /// `InvalidInput` for an empty phrase or group; `Unsatisfiable`; `LimitExceeded` over a budget.
    pub fn phrases(
        phrases: Phrases,
        vocab: &Arc<Vocabulary>,
        limits: CompileLimits,
    ) -> Result<Self> {
        let mut all = phrases.must.iter().flatten().chain(&phrases.never);
        if all.any(String::is_empty) || phrases.must.iter().any(Vec::is_empty) {
            return Err(Core::input("phrases", "an empty phrase or group").into());
        }
        let text = format!("{} must, {} never", phrases.must.len(), phrases.never.len());
        Self::of_recipe(Recipe::Phrases(Arc::new(phrases)), "phrases", text, vocab, limits)
    }

    /// Free text up to the first `trigger`, then a text of `then`.
    ///
    /// # Errors
    /// As [`then`](Self::then); `InvalidInput` for an empty trigger.
    pub fn after(trigger: &str, then: &Self, limits: CompileLimits) -> Result<Self> {
        if trigger.is_empty() {
            return Err(Core::input("trigger", "an empty text").into());
        }
        let (recipes, _) = Self::parts(&[then], "after")?;
        let recipe = Recipe::After { trigger: trigger.into(), then: Arc::new(recipes[0].clone()) };
        Self::of_recipe(recipe, "after", trigger.to_owned(), then.vocab(), limits)
    }

    /// Free text in which every trigger is followed by a text of its grammar, any number of times; it
    /// ends with the first `stop` outside of an island, or anywhere outside of one.
    ///
    /// # Errors
    /// As [`after`](Self::after); `InvalidInput` without any island.
    pub fn free_text_with(
        islands: &[(&str, &Self)],
        stop: Option<&str>,
        limits: CompileLimits,
    ) -> Result<Self> {
        if islands.iter().any(|i| i.0.is_empty()) || stop.is_some_and(str::is_empty) {
            return Err(Core::input("trigger", "an empty text").into());
        }
        let grammars: Vec<&Self> = islands.iter().map(|i| i.1).collect();
        let (recipes, _) = Self::parts(&grammars, "free_text_with")?;
        let text = islands.iter().map(|i| i.0).collect::<Vec<_>>().join(", ");
        let vocab = grammars[0].vocab();
        let islands: Vec<(String, Recipe)> =
            islands.iter().zip(recipes.iter()).map(|(i, r)| (i.0.to_owned(), r.clone())).collect();
        let recipe = Recipe::Islands { islands: islands.into(), stop: stop.map(Into::into) };
        Self::of_recipe(recipe, "free text", text, vocab, limits)
    }

    /// The non-empty pieces of a source text; with `words` they begin and end where words do, with
    /// `max_words` they hold at most so many.
    ///
    /// Memory is about 250 bytes a character of the source; a state costs as much time as the piece
    /// so far has places in the source.
    ///
    /// # Errors
    /// `Unsatisfiable` for an empty source; `LimitExceeded` over a budget.
    pub fn spans(
        source: &str,
        words: bool,
        max_words: Option<u32>,
        vocab: &Arc<Vocabulary>,
        limits: CompileLimits,
    ) -> Result<Self> {
        let recipe = Recipe::Spans { source: source.into(), words, max_words };
        let text = format!("{} characters", source.chars().count());
        Self::of_recipe(recipe, "spans", text, vocab, limits)
    }
}
