//! Whether the masked positions of a canvas can be filled so that the whole is in a language.
//!
//! A diffusion model fills positions in any order, so what is known is words with gaps between them.
//! The canvas is a nondeterministic automaton over bytes, `A`; a grammar is rules over lexemes, `G`.
//! Their intersection is saturated from the start: `(rule, p)` is a rule begun in state `p` of `A`,
//! and it *returns* in every state in which a text of the rule can end.
//!
//! ```text
//! item (rule, p, x, q):  begun at p, position x of the rule is reached at q
//! x is last              (rule, p) returns q; all who wait for it go on at q
//! edge  x --lexeme--> y  item (rule, p, y, q') for every q' that a text of the lexeme leads q to
//! edge  x --rule r--> y  waits for (r, q); item (rule, p, y, q') for every q' that it returns
//! nonempty               iff (start, first state) returns an accepting state
//! ```
//!
//! This is the closure of triples of the intersection of a context-free language with a regular one
//! (Bar-Hillel, Perles and Shamir), top down, so only what a text from the left can reach is made. A
//! lexeme crosses words and gaps by a search over (state of the lexeme, state of `A`); no word has to be
//! split into lexemes beforehand. Time O(items · edges), space O(items), items at most rules' positions
//! times the square of the states of `A`.
//!
//! How a gap of `k` positions is read is a choice of precision, see [`Lengths`].

use crate::automata::dfa::Automaton;
use crate::automata::expr::ExprId;
use crate::automata::table::{DEAD, StateId};
use crate::combine;
use crate::error::{Error, Result};
use crate::grammar::GrammarMask;
use crate::limits::CompileLimits;
use crate::machine::graph::{Cell, Graph, Label, Node, NodeId, Rule, RuleId};
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::VecDeque;
use std::sync::Arc;
use trivium_core::{Error as Core, TokenId, Vocabulary};

/// How masked positions are read. What is refused cannot be filled under any of these; what passes can
/// be filled for certain under `Exact`, and under `Free` if gaps may have any length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lengths {
    /// Neighbouring masked positions are any text.
    Free,
    /// They are a text of at least one byte a position and, in gaps of at most 64 bytes, at most the
    /// longest token's.
    Bytes,
    /// Each is one token of the vocabulary: a copy of its trie a position.
    Exact,
}

/// Longest gap in bytes whose upper bound is kept: each byte is a state.
const LONGEST_CHAIN: usize = 64;

/// A grammar ready to be intersected with canvases. Immutable but for states of its lexemes.
#[derive(Debug)]
pub struct Canvas {
    vocab: Arc<Vocabulary>,
    rules: Vec<Rule>,
    nodes: Vec<Node>,
    lexemes: Automaton,
    start: Vec<Call>,
    limits: CompileLimits,
    max_items: usize,
}

/// What a text can be of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Rule(RuleId),
    Lexeme(ExprId),
}

impl Canvas {
    /// Prepares a grammar; `max_items` bounds the memory of one question.
    ///
    /// # Errors
    /// `UnsupportedPattern` for JSON Schema, `%json`, Lark's longest match and checkers;
    /// `LimitExceeded` over a budget.
    pub fn new(grammar: &GrammarMask, limits: CompileLimits, max_items: usize) -> Result<Self> {
        grammar.check_combines("canvas")?;
        let Some(recipe) = grammar.recipe() else { return Err(unsupported(grammar.kind())) };
        let Graph { arena, nodes, rules, start, .. } = combine::graph_of(recipe, &limits)?;
        let lexemes = Automaton::of(arena, limits, None)?;
        let vocab = Arc::clone(grammar.vocab());
        let mut this = Self { vocab, start: Vec::new(), rules, nodes, lexemes, limits, max_items };
        this.start = this.node(start)?;
        // What is not served is told now.
        for edge in this.rules.iter().flat_map(|r| &r.positions).flat_map(|p| &p.edges) {
            match &edge.label {
                Label::Terminal { .. } => return Err(unsupported("Lark, with its longest match,")),
                Label::Node(n) => drop(this.node(*n)?),
                Label::Lexeme(_) | Label::Special(_) | Label::Rule(_) => {}
            }
        }
        Ok(this)
    }

    fn node(&self, id: NodeId) -> Result<Vec<Call>> {
        let Some(node) = self.nodes.get(id as usize) else {
            return Err(unsupported("JSON"));
        };
        let calls = node.cells.iter().map(|cell| match cell {
            Cell::Lexeme(e) => Ok(Call::Lexeme(*e)),
            Cell::Rule(r) => Ok(Call::Rule(*r)),
            Cell::Object(_) | Cell::Array(_) => Err(unsupported("JSON")),
        });
        calls.collect()
    }

    /// Whether the masked positions (`None`) can be filled. The text ends at the first end of sequence,
    /// behind which nothing else stands, or with the canvas; with `open` it may go on behind it.
    ///
    /// # Errors
    /// `OutOfVocabulary`; `LimitExceeded` over a budget.
    pub fn completable(
        &self,
        tokens: &[Option<TokenId>],
        lengths: Lengths,
        open: bool,
    ) -> Result<bool> {
        let paths = Paths::new(&self.vocab, tokens, lengths, open, self.limits.max_states)?;
        let mut search = Search {
            canvas: self,
            paths: &paths,
            begun: Vec::new(),
            ids: FxHashMap::default(),
            items: FxHashSet::default(),
            todo: Vec::new(),
            crossed: FxHashMap::default(),
            next: FxHashMap::default(),
        };
        search.run()
    }
}

fn unsupported(what: &str) -> Error {
    Error::UnsupportedPattern {
        feature: format!("{what} under any order of unmasking"),
        at: "in canvas".into(),
        hint: "patterns, choices, EBNF and GBNF rules and their combinations are served".into(),
    }
}

/// The canvas as an automaton over bytes.
#[derive(Debug, Default)]
struct Paths {
    states: Vec<Place>,
}

#[derive(Debug, Default, Clone)]
struct Place {
    /// The text may end here.
    last: bool,
    bytes: Vec<(u8, u32)>,
    /// Where any byte leads.
    any: Vec<u32>,
    /// Where these special tokens lead.
    special: Vec<(TokenId, u32)>,
    /// Where every special token leads.
    any_special: Vec<u32>,
    /// Where nothing leads.
    free: Vec<u32>,
}

impl Paths {
    fn new(
        vocab: &Vocabulary,
        tokens: &[Option<TokenId>],
        lengths: Lengths,
        open: bool,
        max_states: usize,
    ) -> Result<Self> {
        for &token in tokens.iter().flatten() {
            if token as usize >= vocab.num_rows() {
                let (token, vocab) = (i64::from(token), vocab.num_rows());
                return Err(Core::OutOfVocabulary { token, vocab }.into());
            }
        }
        let is_end = |t: &Option<TokenId>| t.is_some_and(|t| vocab.is_eos(t));
        // Only masked positions and ends stand from here on, so the text may end at any of them.
        let tail = tokens.iter().rposition(|t| t.is_some() && !is_end(t)).map_or(0, |i| i + 1);
        let mut this = Self::default();
        let mut here = this.push();
        let mut at = 0;
        while at < tokens.len() {
            this.states[here as usize].last = at >= tail;
            if this.states.len() > max_states {
                let (value, budget) = (this.states.len() as u64, max_states as u64);
                return Err(Error::limit("max_states", value, budget));
            }
            here = match tokens[at] {
                Some(token) => {
                    at += 1;
                    this.word(vocab, here, token)
                }
                None if lengths == Lengths::Exact => {
                    at += 1;
                    this.token(vocab, here)
                }
                None => {
                    let run = tokens[at..].iter().take_while(|t| t.is_none()).count();
                    let ends = at >= tail;
                    at += run;
                    this.gap(vocab, here, run, lengths, ends)
                }
            };
        }
        this.states[here as usize].last = true;
        if open && !tokens.iter().any(is_end) {
            let state = &mut this.states[here as usize];
            state.any.push(here);
            state.any_special.push(here);
        }
        Ok(this)
    }

    fn push(&mut self) -> u32 {
        self.states.push(Place::default());
        self.states.len() as u32 - 1
    }

    /// A known token; padding and ends lead nowhere.
    fn word(&mut self, vocab: &Vocabulary, from: u32, token: TokenId) -> u32 {
        let to = self.push();
        if vocab.is_special(token) && !vocab.is_eos(token) {
            self.states[from as usize].special.push((token, to));
        } else if (token as usize) < vocab.len() && !vocab.is_eos(token) {
            let mut here = from;
            let bytes = vocab.token(token);
            for (i, &b) in bytes.iter().enumerate() {
                let next = if i + 1 == bytes.len() { to } else { self.push() };
                self.states[here as usize].bytes.push((b, next));
                here = next;
            }
        }
        to
    }

    /// One masked position: any token, by a copy of the trie.
    fn token(&mut self, vocab: &Vocabulary, from: u32) -> u32 {
        let to = self.push();
        let trie = vocab.trie();
        let mut path = vec![from];
        for node in 1..trie.end(0) {
            path.truncate(trie.depth(node));
            let (parent, byte) = (path[path.len() - 1], trie.byte(node));
            if !trie.tokens_at(node).is_empty() {
                self.states[parent as usize].bytes.push((byte, to));
            }
            if trie.end(node) > node + 1 {
                let own = self.push();
                self.states[parent as usize].bytes.push((byte, own));
                path.push(own);
            } else {
                path.push(to); // nothing below it is read
            }
        }
        self.states[from as usize].any_special.push(to);
        to
    }

    /// A gap of several masked positions, as text.
    fn gap(
        &mut self,
        vocab: &Vocabulary,
        from: u32,
        run: usize,
        lengths: Lengths,
        ends: bool,
    ) -> u32 {
        if lengths == Lengths::Free {
            let inside = self.push();
            let to = self.push();
            let state = &mut self.states[inside as usize];
            state.last = ends;
            state.any.push(inside);
            state.any_special.push(inside);
            state.free.push(to);
            self.states[from as usize].free.push(inside);
            return to;
        }
        let longest = vocab.trie().max_depth().max(1);
        let most = run.saturating_mul(longest);
        let chain = if most <= LONGEST_CHAIN { most } else { run };
        let to = self.push();
        let states: Vec<u32> = (0..=chain).map(|_| self.push()).collect();
        self.states[from as usize].free.push(states[0]);
        for (read, &state) in states.iter().enumerate() {
            let further = states.get(read + 1).copied();
            let place = &mut self.states[state as usize];
            place.last = ends;
            if read >= run {
                place.free.push(to);
            }
            match further {
                Some(next) => place.any.push(next),
                None if most > LONGEST_CHAIN => place.any.push(state),
                None => {}
            }
            // A special token is a position without bytes: it takes the place of one to `longest`.
            let last = (read + longest).min(chain);
            place.any_special.extend(&states[(read + 1).min(chain)..=last]);
        }
        to
    }
}

/// A call that was begun.
#[derive(Debug)]
struct Begun {
    rule: RuleId,
    returns: Vec<u32>,
    known: FxHashSet<u32>,
    /// Who goes on, and where: call and position.
    waiting: Vec<(u32, u32)>,
    waits: FxHashSet<(u32, u32)>,
}

/// Call, position of its rule, state of the canvas.
type Item = (u32, u32, u32);

struct Search<'a> {
    canvas: &'a Canvas,
    paths: &'a Paths,
    begun: Vec<Begun>,
    ids: FxHashMap<(RuleId, u32), u32>,
    items: FxHashSet<Item>,
    todo: Vec<Item>,
    /// Where the texts of a lexeme lead.
    crossed: FxHashMap<(ExprId, u32), Arc<[u32]>>,
    /// The states after any byte.
    next: FxHashMap<StateId, Arc<[StateId]>>,
}

impl Search<'_> {
    fn run(&mut self) -> Result<bool> {
        for &start in &self.canvas.start {
            match start {
                Call::Lexeme(e) => {
                    if self.cross(e, 0)?.iter().any(|&q| self.may_end(q)) {
                        return Ok(true);
                    }
                }
                Call::Rule(rule) => {
                    let top = self.begin(rule, 0)?;
                    while let Some(item) = self.todo.pop() {
                        self.step(item)?;
                        let found = &self.begun[top as usize].returns;
                        if found.iter().any(|&q| self.may_end(q)) {
                            return Ok(true);
                        }
                    }
                }
            }
        }
        Ok(false)
    }

    /// Whether the text may end in a state, or where nothing leads from it.
    fn may_end(&self, state: u32) -> bool {
        self.free(state).iter().any(|&q| self.paths.states[q as usize].last)
    }

    /// A state and those that nothing leads to.
    fn free(&self, state: u32) -> Vec<u32> {
        let mut all = vec![state];
        let mut i = 0;
        while let Some(&q) = all.get(i) {
            for &to in &self.paths.states[q as usize].free {
                if !all.contains(&to) {
                    all.push(to);
                }
            }
            i += 1;
        }
        all
    }

    fn begin(&mut self, rule: RuleId, at: u32) -> Result<u32> {
        if let Some(&id) = self.ids.get(&(rule, at)) {
            return Ok(id);
        }
        let id = self.begun.len() as u32;
        self.begun.push(Begun {
            rule,
            returns: Vec::new(),
            known: FxHashSet::default(),
            waiting: Vec::new(),
            waits: FxHashSet::default(),
        });
        self.ids.insert((rule, at), id);
        self.add((id, 0, at))?;
        Ok(id)
    }

    fn add(&mut self, item: Item) -> Result<()> {
        if self.items.insert(item) {
            if self.items.len() > self.canvas.max_items {
                let most = self.canvas.max_items as u64;
                return Err(Error::limit("max_items", most + 1, most));
            }
            self.todo.push(item);
        }
        Ok(())
    }

    fn step(&mut self, (call, position, at): Item) -> Result<()> {
        let canvas = self.canvas;
        let rule = self.begun[call as usize].rule;
        let place = &canvas.rules[rule as usize].positions[position as usize];
        if place.last {
            self.give_back(call, at)?;
        }
        for edge in &place.edges {
            match &edge.label {
                Label::Lexeme(e) => {
                    for &q in &*self.cross(*e, at)? {
                        self.add((call, edge.to, q))?;
                    }
                }
                Label::Rule(r) => self.call((call, edge.to), *r, at)?,
                Label::Node(n) => {
                    for of in canvas.node(*n)? {
                        match of {
                            Call::Rule(r) => self.call((call, edge.to), r, at)?,
                            Call::Lexeme(e) => {
                                for &q in &*self.cross(e, at)? {
                                    self.add((call, edge.to, q))?;
                                }
                            }
                        }
                    }
                }
                Label::Special(ids) => {
                    for q in self.free(at) {
                        let place = &self.paths.states[q as usize];
                        let known = place.special.iter().filter(|s| ids.contains(&s.0));
                        let to: Vec<u32> =
                            known.map(|s| s.1).chain(place.any_special.iter().copied()).collect();
                        for q in to {
                            self.add((call, edge.to, q))?;
                        }
                    }
                }
                Label::Terminal { .. } => return Err(Error::internal("a terminal of a canvas")),
            }
        }
        Ok(())
    }

    /// `waiter` goes on wherever rule `r`, begun at `at`, returns.
    fn call(&mut self, waiter: (u32, u32), r: RuleId, at: u32) -> Result<()> {
        let id = self.begin(r, at)?;
        let begun = &mut self.begun[id as usize];
        if begun.waits.insert(waiter) {
            begun.waiting.push(waiter);
            for q in begun.returns.clone() {
                self.add((waiter.0, waiter.1, q))?;
            }
        }
        Ok(())
    }

    fn give_back(&mut self, call: u32, at: u32) -> Result<()> {
        let begun = &mut self.begun[call as usize];
        if begun.known.insert(at) {
            begun.returns.push(at);
            for (waiter, position) in begun.waiting.clone() {
                self.add((waiter, position, at))?;
            }
        }
        Ok(())
    }

    /// The states that the texts of a lexeme lead to.
    fn cross(&mut self, lexeme: ExprId, from: u32) -> Result<Arc<[u32]>> {
        if let Some(known) = self.crossed.get(&(lexeme, from)) {
            return Ok(Arc::clone(known));
        }
        let lexemes = &self.canvas.lexemes;
        let start = lexemes.enter(lexeme)?;
        let mut ends = Vec::new();
        let mut known: FxHashSet<(StateId, u32)> = FxHashSet::default();
        let mut todo = VecDeque::new();
        if start != DEAD {
            known.insert((start, from));
            todo.push_back((start, from));
        }
        while let Some((state, at)) = todo.pop_front() {
            if lexemes.accepting(state)? && !ends.contains(&at) {
                ends.push(at);
            }
            if known.len() > self.canvas.max_items {
                let most = self.canvas.max_items as u64;
                return Err(Error::limit("max_items", most + 1, most));
            }
            let place = &self.paths.states[at as usize];
            let mut reached: Vec<(StateId, u32)> = place.free.iter().map(|&q| (state, q)).collect();
            let row = lexemes.row(state)?;
            reached.extend(place.bytes.iter().map(|&(b, q)| (row[usize::from(b)], q)));
            if !place.any.is_empty() {
                let next = self.next.entry(state).or_insert_with(|| {
                    let mut next: Vec<StateId> = row.to_vec();
                    next.sort_unstable();
                    next.dedup();
                    next.into()
                });
                for &q in &place.any {
                    reached.extend(next.iter().map(|&s| (s, q)));
                }
            }
            for (s, q) in reached {
                if s != DEAD && known.insert((s, q)) {
                    todo.push_back((s, q));
                }
            }
        }
        let ends: Arc<[u32]> = ends.into();
        self.crossed.insert((lexeme, from), Arc::clone(&ends));
        Ok(ends)
    }
}
