//! Grammars made of grammars: `&`, `|`, `~`, `-`, `then`, phrases, islands in free text, spans.
//!
//! A regular grammar keeps its [`Recipe`]: what it was asked to be, a few words however large its
//! automaton has grown. Combining makes a recipe of recipes and lowers it into an arena of its own, so
//! every combination is exact and has the guarantees of a pattern: `a & b` is one automaton, not two
//! masks that might agree on no token. Unions, sequences and islands of other grammars are rules of the
//! machine ([`join`]).

mod join;

use crate::automata::expr::{Arena, EPSILON, ExprId, INF};
use crate::automata::look::word_class;
use crate::cfg::{self, Compiled, Syntax};
use crate::error::{Error, Result};
use crate::grammar::{GrammarMask, Notes};
use crate::json_schema::Options;
use crate::limits::CompileLimits;
use crate::machine::graph::{Graph, NodeId, NodeSource};
use crate::regex::{self, Dialect};
use crate::watch;
use regex_syntax::hir::Look;
use std::sync::Arc;
use trivium_core::{Error as Core, TokenId, Vocabulary};

/// A language as it was asked for.
#[derive(Debug, Clone)]
pub(crate) enum Recipe {
    Pattern { text: Arc<str>, dialect: Dialect, full: bool },
    Choices(Arc<[String]>),
    And(Arc<[Recipe]>),
    Or(Arc<[Recipe]>),
    Then(Arc<[Recipe]>),
    Not(Arc<Recipe>),
    Phrases(Arc<Phrases>),
    Islands { islands: Arc<[(Trigger, Recipe)]>, stop: Option<Arc<str>> },
    After { trigger: Trigger, then: Arc<Recipe> },
    Spans { source: Arc<str>, words: bool, max_words: Option<u32> },
    Rules(Arc<Rules>),
    Schema(Arc<Schema>),
}

/// A grammar of rules as it was asked for.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) text: String,
    pub(crate) syntax: Syntax,
    pub(crate) start: Option<String>,
    pub(crate) vocab: Arc<Vocabulary>,
    /// Whether it is one lexeme.
    pub(crate) regular: bool,
}

/// A schema, read: its nodes can be made in any arena.
#[derive(Debug)]
pub(crate) struct Schema {
    pub(crate) source: Arc<dyn NodeSource>,
    pub(crate) root: NodeId,
    pub(crate) options: Options,
}

/// What ends free text and starts a grammar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trigger {
    /// These characters, however tokens cut them.
    Text(Arc<str>),
    /// One of these special tokens.
    Special(Arc<[TokenId]>),
}

impl From<&str> for Trigger {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl Trigger {
    fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Special(_) => None,
        }
    }

    fn check(&self, vocab: &Vocabulary) -> Result<()> {
        let why = match self {
            Self::Text(text) if text.is_empty() => "an empty text".into(),
            Self::Special(ids) if ids.is_empty() => "no token".into(),
            Self::Special(ids) => {
                let wrong = ids.iter().find(|&&t| !vocab.is_special(t) || vocab.is_eos(t));
                let Some(t) = wrong else { return Ok(()) };
                format!("token {t} is not special or ends the text; give a trigger's text")
            }
            Self::Text(_) => return Ok(()),
        };
        Err(Core::input("trigger", why).into())
    }

    fn name(&self) -> String {
        match self {
            Self::Text(text) => text.to_string(),
            Self::Special(ids) => format!("{ids:?}"),
        }
    }
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
    pub(crate) fn is_regular(&self) -> bool {
        match self {
            Self::Rules(rules) => rules.regular,
            Self::Schema(_) => false,
            Self::And(parts) | Self::Or(parts) | Self::Then(parts) => {
                parts.iter().all(Self::is_regular)
            }
            Self::Not(part) => part.is_regular(),
            Self::After { trigger, then } => trigger.text().is_some() && then.is_regular(),
            Self::Islands { islands, .. } => {
                islands.iter().all(|i| i.0.text().is_some() && i.1.is_regular())
            }
            Self::Pattern { .. } | Self::Choices(_) | Self::Phrases(_) | Self::Spans { .. } => true,
        }
    }

    /// The expression of a regular recipe.
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
                let trigger = trigger.text().ok_or_else(not_regular)?;
                let free = up_to(arena, trigger, &[trigger]);
                arena.concat(free, then)
            }
            Self::Rules(rules) => {
                let Rules { text, syntax, start, vocab, .. } = &**rules;
                let own = std::mem::replace(arena, Arena::new(0));
                match cfg::compile(text, *syntax, start.as_deref(), vocab, limits, own)?.0 {
                    Compiled::Lexeme(compiled, expr) => {
                        *arena = *compiled;
                        expr
                    }
                    Compiled::Graph(_) => return Err(not_regular()),
                }
            }
            Self::Schema(_) => return Err(not_regular()),
            Self::Spans { source, words, max_words } => spans(arena, source, *words, *max_words),
        };
        arena.check()?;
        Ok(out)
    }
}

/// The rules of any recipe, those of a lexeme for a regular one.
pub(crate) fn graph_of(recipe: &Recipe, limits: &CompileLimits) -> Result<Graph> {
    join::graph(recipe, limits)
}

fn not_regular() -> Error {
    Error::internal("an expression of a grammar that is not regular")
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
    islands: &[(Trigger, Recipe)],
    stop: Option<&str>,
    limits: &CompileLimits,
) -> Result<ExprId> {
    let all: Vec<&str> = islands.iter().filter_map(|i| i.0.text()).chain(stop).collect();
    let mut parts = Vec::with_capacity(islands.len());
    for (trigger, island) in islands {
        let trigger = trigger.text().ok_or_else(not_regular)?;
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
    pub(crate) fn of_recipe(
        recipe: Recipe,
        kind: &'static str,
        text: String,
        vocab: &Arc<Vocabulary>,
        limits: CompileLimits,
    ) -> Result<Self> {
        watch::within(&limits, || {
            let deadline = std::time::Instant::now().checked_add(limits.max_time);
            let mut arena = Arena::new(limits.max_bytes);
            let expr = recipe.lower(&mut arena, &limits)?;
            Self::of_expression(arena, expr, vocab, kind, text, recipe, limits, deadline)
        })
    }

    /// A grammar of a recipe whose parts need not be regular.
    fn of_parts(
        recipe: Recipe,
        kind: &'static str,
        text: String,
        parts: &[&Self],
        limits: CompileLimits,
    ) -> Result<Self> {
        let vocab = parts[0].vocab();
        if recipe.is_regular() {
            return Self::of_recipe(recipe, kind, text, vocab, limits);
        }
        let mut notes = Notes::default();
        for part in parts {
            let of = part.notes();
            notes.relaxed.extend_from_slice(&of.relaxed);
            notes.incomplete.extend_from_slice(&of.incomplete);
            notes.unproven.extend_from_slice(&of.unproven);
            notes.warnings.extend_from_slice(&of.warnings);
        }
        if join::hides_texts(&recipe) {
            let why = "longest match: terminals of one side look across its ends".to_owned();
            if !notes.incomplete.contains(&why) {
                notes.incomplete.push(why.clone());
                notes.warnings.push(why);
            }
        }
        watch::within(&limits, || {
            let graph = join::graph(&recipe, &limits)?;
            Self::of_graph(graph, vocab, kind, text, limits, notes, Some(recipe))
        })
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
            part.check_combines(what)?;
            let Some(recipe) = part.recipe() else {
                return Err(Error::UnsupportedPattern {
                    feature: format!("combining a grammar of kind {}", part.kind()),
                    at: format!("in {what}"),
                    hint: "combine its parts first".into(),
                });
            };
            recipes.push(recipe.clone());
            texts.push(part.text().to_owned());
        }
        Ok((recipes.into(), texts.join(", ")))
    }

    fn regular_parts(parts: &[&Self], what: &'static str) -> Result<(Arc<[Recipe]>, String)> {
        let found = Self::parts(parts, what)?;
        if let Some(i) = found.0.iter().position(|r| !r.is_regular()) {
            return Err(Error::UnsupportedPattern {
                feature: format!("combining a grammar that is not regular ({})", parts[i].kind()),
                at: format!("in {what}"),
                hint: "regex, choices, phrases, spans and their combinations are regular; any \
                       grammar can stand in |, then, after and free_text_with"
                    .into(),
            });
        }
        Ok(found)
    }

    /// The texts of all `parts`.
    ///
    /// # Errors
    /// `UnsupportedPattern` for a part that is not regular; `InvalidInput` for different vocabularies;
    /// `Unsatisfiable` if no text is left; `LimitExceeded` over a budget.
    pub fn and(parts: &[&Self], limits: CompileLimits) -> Result<Self> {
        let (recipes, text) = Self::regular_parts(parts, "and")?;
        Self::of_recipe(Recipe::And(recipes), "and", text, parts[0].vocab(), limits)
    }

    /// The texts of any of `parts`, regular or not.
    ///
    /// # Errors
    /// `InvalidInput` for different vocabularies; `UnsupportedPattern` for JSON in different spellings,
    /// or position predicates beside a part that is not regular; `LimitExceeded` over a budget.
    pub fn or(parts: &[&Self], limits: CompileLimits) -> Result<Self> {
        let (recipes, text) = Self::parts(parts, "or")?;
        Self::of_parts(Recipe::Or(recipes), "or", text, parts, limits)
    }

    /// A text of each of `parts`, regular or not, one after the other.
    ///
    /// # Errors
    /// As [`or`](Self::or); `UnsupportedPattern` where predicates would see across a seam.
    pub fn then(parts: &[&Self], limits: CompileLimits) -> Result<Self> {
        let (recipes, text) = Self::parts(parts, "then")?;
        Self::of_parts(Recipe::Then(recipes), "then", text, parts, limits)
    }

    /// Every text that is not one of `part`.
    ///
    /// # Errors
    /// As [`and`](Self::and).
    pub fn not(part: &Self, limits: CompileLimits) -> Result<Self> {
        let (recipes, text) = Self::regular_parts(&[part], "not")?;
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
    /// As [`then`](Self::then); `InvalidInput` for an empty trigger, or a token that is not special or
    /// ends the text.
    pub fn after(trigger: impl Into<Trigger>, then: &Self, limits: CompileLimits) -> Result<Self> {
        let trigger = trigger.into();
        trigger.check(then.vocab())?;
        let (recipes, _) = Self::parts(&[then], "after")?;
        let text = trigger.name();
        let recipe = Recipe::After { trigger, then: Arc::new(recipes[0].clone()) };
        Self::of_parts(recipe, "after", text, &[then], limits)
    }

    /// Free text in which every trigger is followed by a text of its grammar, any number of times; it
    /// ends with the first `stop` outside of an island, or anywhere outside of one.
    ///
    /// # Errors
    /// As [`after`](Self::after); `InvalidInput` without any island.
    pub fn free_text_with<T: Into<Trigger> + Clone>(
        islands: &[(T, &Self)],
        stop: Option<&str>,
        limits: CompileLimits,
    ) -> Result<Self> {
        if stop.is_some_and(str::is_empty) {
            return Err(Core::input("stop", "an empty text").into());
        }
        let grammars: Vec<&Self> = islands.iter().map(|i| i.1).collect();
        let (recipes, _) = Self::parts(&grammars, "free_text_with")?;
        let triggers = islands.iter().map(|i| i.0.clone().into());
        let islands: Vec<(Trigger, Recipe)> = triggers.zip(recipes.iter().cloned()).collect();
        islands.iter().try_for_each(|i| i.0.check(grammars[0].vocab()))?;
        let text = islands.iter().map(|i| i.0.name()).collect::<Vec<_>>().join(", ");
        let recipe = Recipe::Islands { islands: islands.into(), stop: stop.map(Into::into) };
        Self::of_parts(recipe, "free text", text, &grammars, limits)
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
