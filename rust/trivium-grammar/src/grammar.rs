//! The compiled grammar: immutable to its users, shared by all of its matchers.

use crate::automata::dfa::{Automaton, AutomatonSize};
use crate::automata::expr::{Arena, EMPTY};
use crate::automata::table::{DEAD, StateId};
use crate::cfg::{self, Compiled, Syntax};
use crate::combine::{Recipe, Rules};
use crate::error::{Error, Result};
use crate::limits::{CompileLimits, MOST_STATES};
use crate::machine::Machine;
use crate::machine::graph::Graph;
use crate::machine::run::Run;
use crate::mask::cache::{Mask, MaskCache};
use crate::mask::index::TokenIndex;
use crate::mask::{compute, compute_slow};
use crate::matcher::{FINISHED, Matcher};
use crate::regex::Dialect;
use rustc_hash::FxHashSet;
use std::sync::Arc;
use std::time::Instant;
use trivium_core::{Error as Core, TokenId, Vocabulary};

/// What a grammar was made from.
#[derive(Debug)]
struct Source {
    kind: &'static str,
    text: String,
    notes: Notes,
    /// What to combine it with others by.
    recipe: Option<Recipe>,
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

/// A grammar that is one lexeme: its automaton is the recogniser.
#[derive(Debug)]
pub(crate) struct Lexeme {
    index: Arc<TokenIndex>,
    automaton: Automaton,
    cache: MaskCache,
}

/// What states are numbers of. A matcher holds one for as long as it holds states.
#[derive(Debug, Clone)]
pub(crate) enum Engine {
    /// One automaton.
    Lexeme(Arc<Lexeme>),
    /// One run of the machine.
    Machine(Arc<Run>),
}

impl Engine {
    /// The state of the empty text.
    pub(crate) fn start(&self) -> StateId {
        match self {
            Self::Lexeme(l) => l.automaton.start(),
            Self::Machine(run) => run.start(),
        }
    }

    /// Whether a live state's text may end.
    pub(crate) fn accepting(&self, state: StateId) -> Result<bool> {
        match self {
            Self::Lexeme(l) => l.automaton.accepting(state),
            Self::Machine(run) => run.accepting(state),
        }
    }

    /// The state after a token of the vocabulary in a live state; [`DEAD`] if it is not allowed.
    pub(crate) fn step(&self, state: StateId, token: TokenId) -> Result<StateId> {
        match self {
            Self::Lexeme(l) => {
                let vocab = &l.index.vocab;
                if vocab.is_eos(token) {
                    return Ok(if l.automaton.accepting(state)? { FINISHED } else { DEAD });
                }
                match vocab.token(token) {
                    [] => Ok(DEAD),
                    bytes => l.automaton.walk(state, bytes),
                }
            }
            Self::Machine(run) => run.step(state, token),
        }
    }

    /// The state after bytes.
    pub(crate) fn walk(&self, state: StateId, bytes: &[u8]) -> Result<StateId> {
        match self {
            Self::Lexeme(l) => l.automaton.walk(state, bytes),
            Self::Machine(_) if state == DEAD => Ok(DEAD),
            Self::Machine(run) => run.walk(state, bytes),
        }
    }

    /// The bytes that keep a live state alive, ascending.
    pub(crate) fn next_bytes(&self, state: StateId) -> Result<Vec<u8>> {
        match self {
            Self::Lexeme(l) => {
                let row = l.automaton.row(state)?;
                Ok((0..=255).filter(|&b| row[usize::from(b)] != DEAD).collect())
            }
            Self::Machine(run) => run.next_bytes(state),
        }
    }

    /// The mask of a live state, from the cache or computed and kept.
    pub(crate) fn mask(&self, state: StateId) -> Result<Arc<Mask>> {
        match self {
            Self::Lexeme(l) => {
                if let Some(mask) = l.cache.get(state)? {
                    return Ok(mask);
                }
                let mask = Arc::new(compute(&l.index, &l.automaton, state)?);
                l.cache.put(state, Arc::clone(&mask))?;
                Ok(mask)
            }
            Self::Machine(run) => run.mask(state),
        }
    }

    /// The mask of a live state if it is at hand.
    pub(crate) fn cached(&self, state: StateId) -> Result<Option<Arc<Mask>>> {
        match self {
            Self::Lexeme(l) => l.cache.get(state),
            Self::Machine(run) => run.cached(state),
        }
    }

    /// The mask by definition, without caches.
    pub(crate) fn mask_slow(&self, state: StateId) -> Result<Vec<u32>> {
        match self {
            Self::Lexeme(l) => compute_slow(&l.index, &l.automaton, state),
            Self::Machine(run) => run.mask_slow(state),
        }
    }

    /// Whether the states should be given up for those of a fresh engine.
    pub(crate) fn is_retired(&self) -> bool {
        matches!(self, Self::Machine(run) if run.is_retired())
    }

    /// Tells engines apart.
    pub(crate) fn address(&self) -> usize {
        match self {
            Self::Lexeme(l) => Arc::as_ptr(l) as usize,
            Self::Machine(run) => Arc::as_ptr(run) as usize,
        }
    }

    fn masks(&self) -> (usize, usize) {
        match self {
            Self::Lexeme(l) => l.cache.size(),
            Self::Machine(run) => run.masks(),
        }
    }

    fn size(&self) -> Result<AutomatonSize> {
        match self {
            Self::Lexeme(l) => l.automaton.size(),
            Self::Machine(run) => run.size(),
        }
    }
}

/// How engines are made.
#[derive(Debug)]
enum Maker {
    Lexeme(Arc<Lexeme>),
    Machine(Machine),
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) index: Arc<TokenIndex>,
    maker: Maker,
    source: Source,
}

impl Inner {
    pub(crate) fn vocab(&self) -> &Arc<Vocabulary> {
        &self.index.vocab
    }

    /// The engine for new texts.
    pub(crate) fn engine(&self) -> Engine {
        match &self.maker {
            Maker::Lexeme(l) => Engine::Lexeme(Arc::clone(l)),
            Maker::Machine(m) => Engine::Machine(m.run()),
        }
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
        let deadline = Instant::now().checked_add(limits.max_time);
        let recipe = Recipe::Pattern { text: pattern.into(), dialect, full };
        let mut arena = Arena::new(limits.max_bytes);
        let expr = recipe.lower(&mut arena, &limits)?;
        let kind = if full { "regex" } else { "regex search" };
        let text = pattern.to_owned();
        Self::of_expression(arena, expr, vocab, kind, text, recipe, limits, deadline)
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
        let deadline = Instant::now().checked_add(limits.max_time);
        let mut arena = Arena::new(limits.max_bytes);
        let texts: Vec<String> = texts.iter().map(|t| t.as_ref().to_owned()).collect();
        let text = format!("{} texts", texts.len());
        let recipe = Recipe::Choices(texts.into());
        let expr = recipe.lower(&mut arena, &limits)?;
        Self::of_expression(arena, expr, vocab, "choices", text, recipe, limits, deadline)
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
        let cache = MaskCache::new(limits.mask_bytes);
        let lexeme = Arc::new(Lexeme { index: Arc::clone(&index), automaton, cache });
        Ok(Self { inner: Arc::new(Inner { index, maker: Maker::Lexeme(lexeme), source }) })
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
        Ok(Self { inner: Arc::new(Inner { index, maker: Maker::Machine(machine), source }) })
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
        Ok(end != DEAD && engine.accepting(end)?)
    }

    /// How far `prefix` gets and what may follow.
    ///
    /// # Errors
    /// `LimitExceeded` over a budget.
    pub fn explain(&self, prefix: &[u8]) -> Result<Explanation> {
        let engine = self.inner.engine();
        let mut state = engine.start();
        let mut accepted = 0;
        for &b in prefix {
            let next = engine.walk(state, &[b])?;
            if next == DEAD {
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
            accepting: engine.accepting(state)?,
            next_bytes,
        })
    }

    /// A shortest text of the language that begins with `prefix`; `None` if there is none,
    /// or none without special tokens. The witness of guarantee D, found breadth first.
    ///
    /// # Errors
    /// `LimitExceeded` over a budget: the search makes the states it looks at.
    pub fn completion(&self, prefix: &[u8]) -> Result<Option<Vec<u8>>> {
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
            Engine::Machine(_) => Ok(None), // only a special token leads on
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
