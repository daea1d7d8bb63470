//! The compiled grammar: immutable to its users, shared by all of its matchers.

use crate::automata::dfa::{Automaton, AutomatonSize};
use crate::automata::expr::{Arena, EMPTY};
use crate::automata::table::{DEAD, StateId};
use crate::cfg::{self, Compiled, Syntax};
use crate::checker::Checker;
use crate::combine::{Recipe, Rules};
use crate::engine::{Engine, Lexeme, Maker};
use crate::error::{Error, Result};
use crate::limits::{CompileLimits, MOST_STATES};
use crate::machine::Machine;
use crate::machine::graph::Graph;
use crate::mask::index::TokenIndex;
use crate::matcher::Matcher;
use crate::regex::Dialect;
use crate::watch;
use rustc_hash::FxHashSet;
use std::sync::Arc;
use std::time::Instant;
use trivium_core::{Error as Core, Vocabulary};

/// What a grammar was made from.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) kind: &'static str,
    pub(crate) text: String,
    pub(crate) notes: Notes,
    /// What to combine it with others by; `None` if that is not served.
    pub(crate) recipe: Option<Recipe>,
}

/// What a front end has to say of its guarantees; it lists every reason as a warning, too.
#[derive(Debug, Clone, Default)]
pub(crate) struct Notes {
    /// What was dropped: the texts need not satisfy it (guarantee S).
    pub(crate) relaxed: Vec<String>,
    /// Texts that are refused although they satisfy the grammar (guarantee C).
    pub(crate) incomplete: Vec<String>,
    /// Why a dead end is not ruled out (guarantee D).
    pub(crate) unproven: Vec<String>,
    /// What the user should know.
    pub(crate) warnings: Vec<String>,
}

/// States that a search for a completion looks at.
const MAX_SEARCH: usize = 200_000;

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) index: Arc<TokenIndex>,
    pub(crate) maker: Arc<Maker>,
    pub(crate) source: Source,
    /// Who may forbid more than the engine does.
    pub(crate) checker: Option<Arc<dyn Checker>>,
}

impl Inner {
    pub(crate) fn vocab(&self) -> &Arc<Vocabulary> {
        &self.index.vocab
    }

    /// The engine for new texts.
    pub(crate) fn engine(&self) -> Engine {
        self.maker.engine()
    }
}

/// What a grammar guarantees and what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The front end: `regex` or `choices`.
    pub kind: &'static str,
    /// Every text that may end is in the language.
    pub sound: bool,
    /// Every text of the language is reachable, by every tokenisation.
    pub complete: bool,
    /// From every reachable state a finite completion exists *in tokens*. False if the vocabulary
    /// lacks single bytes: completions then exist as bytes, but are not proven to be spellable.
    pub no_dead_end: bool,
    /// What was weakened; empty for regular expressions.
    pub relaxed: Vec<String>,
    /// What the user should know.
    pub warnings: Vec<String>,
    /// The automaton so far.
    pub automaton: AutomatonSize,
    /// Number and bytes of cached masks.
    pub masks: (usize, usize),
    /// Number and bytes of the vocabulary's slices, shared with other grammars.
    pub slices: (usize, usize),
}

/// How far a text gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Bytes read before the first that no text of the language has there.
    pub accepted: usize,
    /// Whether the whole prefix was read.
    pub viable: bool,
    /// Whether the part read is a complete text.
    pub accepting: bool,
    /// Ranges of bytes that may follow the part read.
    pub next_bytes: Vec<(u8, u8)>,
}

/// A compiled grammar over one vocabulary. Cloning shares it.
///
/// Compiling costs time proportional to the pattern; states and masks are made when texts reach
/// them, and kept for all matchers.
#[derive(Debug, Clone)]
pub struct GrammarMask {
    inner: Arc<Inner>,
}

impl GrammarMask {
    /// A grammar from a regular expression: the whole text must match (`full`), or contain a match.
    ///
    /// # Errors
    /// `InvalidGrammar` with an offset; `UnsupportedPattern` for dialects and constructs that are not
    /// served; `Unsatisfiable` if no text matches; `LimitExceeded` over a budget.
    pub fn regex(
        pattern: &str,
        vocab: &Arc<Vocabulary>,
        dialect: Dialect,
        full: bool,
        limits: CompileLimits,
    ) -> Result<Self> {
        let recipe = Recipe::Pattern { text: pattern.into(), dialect, full };
        let kind = if full { "regex" } else { "regex search" };
        Self::of_recipe(recipe, kind, pattern.to_owned(), vocab, limits)
    }

    /// A context-free grammar. `start`: the rule of the whole text; by default `root`, `start`, or the
    /// first.
    ///
    /// Compiling costs time proportional to the grammar, and the square of the size of a group of
    /// left-recursive rules.
    ///
    /// # Errors
    /// `InvalidGrammar` with line and column; `UnsupportedPattern`; `Unsatisfiable` if the start
    /// matches no text; `LimitExceeded` over a budget.
    pub fn grammar(
        text: &str,
        vocab: &Arc<Vocabulary>,
        syntax: Syntax,
        start: Option<&str>,
        limits: CompileLimits,
    ) -> Result<Self> {
        watch::within(&limits, || Self::of_rules(text, vocab, syntax, start, limits))
    }

    fn of_rules(
        text: &str,
        vocab: &Arc<Vocabulary>,
        syntax: Syntax,
        start: Option<&str>,
        limits: CompileLimits,
    ) -> Result<Self> {
        let deadline = Instant::now().checked_add(limits.max_time);
        let arena = Arena::new(limits.max_bytes);
        let (compiled, warnings) = cfg::compile(text, syntax, start, vocab, &limits, arena)?;
        let recipe = Recipe::Rules(Arc::new(Rules {
            text: text.into(),
            syntax,
            start: start.map(Into::into),
            vocab: Arc::clone(vocab),
            regular: matches!(compiled, Compiled::Lexeme(..)),
        }));
        let mut notes = Notes { warnings, ..Notes::default() };
        match compiled {
            Compiled::Lexeme(arena, expr) => {
                let text = text.to_owned();
                let source = Source { kind: "grammar", text, notes, recipe: Some(recipe) };
                Self::build(*arena, expr, vocab, source, limits, deadline)
            }
            Compiled::Graph(graph) => {
                if syntax == Syntax::Lark {
                    let why = "longest match: a terminal may take what the next one needs";
                    notes.unproven.push(why.into());
                }
                let text = text.to_owned();
                Self::of_graph(*graph, vocab, "grammar", text, limits, notes, Some(recipe))
            }
        }
    }

    /// A grammar of exactly the given texts.
    ///
    /// # Errors
    /// `Unsatisfiable` for an empty list; `LimitExceeded` over a budget.
    pub fn choices<S: AsRef<str>>(
        texts: &[S],
        vocab: &Arc<Vocabulary>,
        limits: CompileLimits,
    ) -> Result<Self> {
        let texts: Vec<String> = texts.iter().map(|t| t.as_ref().to_owned()).collect();
        let text = format!("{} texts", texts.len());
        Self::of_recipe(Recipe::Choices(texts.into()), "choices", text, vocab, limits)
    }

    #[allow(clippy::too_many_arguments)] // the parts of a grammar, named at the two callers
    pub(crate) fn of_expression(
        arena: Arena,
        expr: u32,
        vocab: &Arc<Vocabulary>,
        kind: &'static str,
        text: String,
        recipe: Recipe,
        limits: CompileLimits,
        deadline: Option<Instant>,
    ) -> Result<Self> {
        let source = Source { kind, text, notes: Notes::default(), recipe: Some(recipe) };
        Self::build(arena, expr, vocab, source, limits, deadline)
    }

    /// What it was made from.
    pub(crate) fn recipe(&self) -> Option<&Recipe> {
        self.inner.source.recipe.as_ref()
    }

    pub(crate) fn notes(&self) -> &Notes {
        &self.inner.source.notes
    }

    pub(crate) fn kind(&self) -> &'static str {
        self.inner.source.kind
    }

    pub(crate) fn text(&self) -> &str {
        &self.inner.source.text
    }

    fn build(
        arena: Arena,
        expr: u32,
        vocab: &Arc<Vocabulary>,
        source: Source,
        limits: CompileLimits,
        deadline: Option<Instant>,
    ) -> Result<Self> {
        if limits.max_states > MOST_STATES {
            let why = format!("{} is above {MOST_STATES}", limits.max_states);
            return Err(Core::input("max_states", why).into());
        }
        if deadline.is_some_and(|d| Instant::now() > d) {
            let ms = limits.max_time.as_millis() as u64;
            return Err(Error::limit("max_ms", ms + 1, ms));
        }
        if arena.memory() > limits.max_bytes {
            let (value, budget) = (arena.memory() as u64, limits.max_bytes as u64);
            return Err(Error::limit("max_bytes", value, budget));
        }
        let none = expr == EMPTY;
        let automaton = Automaton::new(arena, expr, limits, deadline)?;
        if none || automaton.start() == DEAD {
            return Err(Error::Unsatisfiable {
                what: format!("{} {:?}", source.kind, source.text),
                why: "its parts exclude each other, or there are none".into(),
            });
        }
        let index = TokenIndex::of(vocab)?;
        let lexeme = Lexeme::new(Arc::clone(&index), automaton, limits.mask_bytes);
        Ok(Self::of_maker(Maker::Lexeme(Arc::new(lexeme)), index, source))
    }

    pub(crate) fn of_inner(inner: Inner) -> Self {
        Self { inner: Arc::new(inner) }
    }

    /// What its matchers share.
    pub(crate) fn shared(&self) -> Arc<Inner> {
        Arc::clone(&self.inner)
    }

    pub(crate) fn of_maker(maker: Maker, index: Arc<TokenIndex>, source: Source) -> Self {
        let maker = Arc::new(maker);
        Self::of_inner(Inner { index, maker, source, checker: None })
    }

    /// A grammar from a graph that a front end made.
    pub(crate) fn of_graph(
        graph: Graph,
        vocab: &Arc<Vocabulary>,
        kind: &'static str,
        text: String,
        limits: CompileLimits,
        notes: Notes,
        recipe: Option<Recipe>,
    ) -> Result<Self> {
        let index = TokenIndex::of(vocab)?;
        let machine = Machine::new(graph, &index, limits)?;
        if machine.run().start() == DEAD {
            return Err(Error::Unsatisfiable {
                what: kind.to_owned(),
                why: "its parts exclude each other, or there are none".into(),
            });
        }
        let source = Source { kind, text, notes, recipe };
        Ok(Self::of_maker(Maker::Machine(machine), index, source))
    }

    /// A matcher at the empty text. O(1).
    pub fn matcher(&self) -> Matcher {
        Matcher::new(Arc::clone(&self.inner), self.inner.engine())
    }

    /// The vocabulary.
    pub fn vocab(&self) -> &Arc<Vocabulary> {
        self.inner.vocab()
    }

    /// Whether a whole text is in the language.
    ///
    /// # Errors
    /// `LimitExceeded` over a budget.
    pub fn matches(&self, text: &[u8]) -> Result<bool> {
        let engine = self.inner.engine();
        let end = engine.walk(engine.start(), text)?;
        if end == DEAD || !engine.accepting(end)? {
            return Ok(false);
        }
        match &self.inner.checker {
            None => Ok(true),
            Some(checker) => {
                let judged = checker.closers().is_some() || checker.allows(text, false)?;
                Ok(judged && checker.allows(text, true)?)
            }
        }
    }

    /// How far `prefix` gets and what may follow.
    ///
    /// # Errors
    /// `LimitExceeded` over a budget.
    pub fn explain(&self, prefix: &[u8]) -> Result<Explanation> {
        let engine = self.inner.engine();
        let mut state = engine.start();
        let mut accepted = 0;
        let judge = self.inner.checker.as_ref().filter(|c| c.closers().is_none());
        for &b in prefix {
            let next = engine.walk(state, &[b])?;
            if next == DEAD {
                break;
            }
            if let Some(checker) = judge
                && !checker.allows(&prefix[..=accepted], false)?
            {
                break;
            }
            state = next;
            accepted += 1;
        }
        let mut next_bytes: Vec<(u8, u8)> = Vec::new();
        for b in engine.next_bytes(state)? {
            match next_bytes.last_mut() {
                Some(l) if l.1.checked_add(1) == Some(b) => l.1 = b,
                _ => next_bytes.push((b, b)),
            }
        }
        Ok(Explanation {
            accepted,
            viable: accepted == prefix.len(),
            accepting: engine.accepting(state)?
                && match &self.inner.checker {
                    Some(checker) => checker.allows(&prefix[..accepted], true)?,
                    None => true,
                },
            next_bytes,
        })
    }

    /// A shortest text of the language that begins with `prefix`; `None` if there is none,
    /// or none without special tokens. The witness of guarantee D, found breadth first.
    ///
    /// # Errors
    /// `LimitExceeded` over a budget: the search makes the states it looks at.
    pub fn completion(&self, prefix: &[u8]) -> Result<Option<Vec<u8>>> {
        self.check_combines("completion")?; // states do not tell what a checker allows
        let engine = self.inner.engine();
        let start = engine.walk(engine.start(), prefix)?;
        if start == DEAD {
            return Ok(None);
        }
        let mut seen: Vec<(StateId, usize, u8)> = vec![(start, usize::MAX, 0)];
        let mut known: FxHashSet<StateId> = FxHashSet::default();
        known.insert(start);
        let mut i = 0;
        while let Some(&(state, ..)) = seen.get(i) {
            if engine.accepting(state)? {
                let mut tail = Vec::new();
                let mut at = i;
                while let Some(&(_, from, byte)) = seen.get(at)
                    && from != usize::MAX
                {
                    tail.push(byte);
                    at = from;
                }
                let text = prefix.iter().copied().chain(tail.into_iter().rev()).collect();
                return Ok(Some(text));
            }
            if seen.len() > MAX_SEARCH {
                return Err(Error::limit("completion", seen.len() as u64, MAX_SEARCH as u64));
            }
            for b in engine.next_bytes(state)? {
                let to = engine.walk(state, &[b])?;
                if to != DEAD && known.insert(to) {
                    seen.push((to, i, b));
                }
            }
            i += 1;
        }
        match engine {
            // only a special token leads on, or the two of a pair part later
            Engine::Machine(_) | Engine::Pair(_) => Ok(None),
            Engine::Lexeme(_) => Err(Error::internal("a live state without a completion")),
        }
    }

    /// Guarantees and sizes.
    ///
    /// # Errors
    /// `Internal` if an earlier call panicked.
    pub fn report(&self) -> Result<Report> {
        let spells = self.inner.index.spells_all;
        let notes = &self.inner.source.notes;
        let mut warnings = notes.warnings.clone();
        if !spells {
            warnings.push(
                "the vocabulary lacks tokens for some single bytes: a text may not be spellable"
                    .to_owned(),
            );
        }
        let engine = self.inner.engine();
        Ok(Report {
            kind: self.inner.source.kind,
            sound: notes.relaxed.is_empty(),
            complete: notes.incomplete.is_empty(),
            no_dead_end: spells && notes.unproven.is_empty(),
            relaxed: notes.relaxed.clone(),
            warnings,
            automaton: engine.size()?,
            masks: engine.masks(),
            slices: self.inner.index.slices(),
        })
    }
}
