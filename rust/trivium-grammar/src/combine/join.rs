//! Combinations with a side that is not regular: a small rule automaton whose edges call the sides.
//!
//! ```text
//! a | b                 0 --a--> 1    0 --b--> 1
//! a.then(b)             0 --a--> 1 --b--> 2
//! after(t, g)           0 --free text up to t--> 1 --g--> 2
//! free_text_with(t: g)  0 --free text up to t--> 1 --g--> 0    0 --free text to the end--> 2
//! ```
//!
//! All sides share one arena: rules are compiled into it again, the nodes of schemas are made on demand
//! in whatever arena asks ([`Sources`]), and neighbouring regular sides are one lexeme. So the
//! combination is one machine, and nothing switches at a trigger but a state.
//!
//! Free text holds no special token, so before a special trigger it is any text.

use super::{Recipe, Rules, Trigger, predicates, up_to};
use crate::automata::expr::{Arena, ExprId};
use crate::cfg::{self, Compiled, Syntax};
use crate::error::{Error, Result};
use crate::json_schema::{self, Options};
use crate::limits::CompileLimits;
use crate::machine::graph::{
    Cell, Edge, Graph, Label, Layout, Node, NodeSource, PosId, Position, Rule, RuleId,
};
use crate::machine::sources::{self, Sources};
use std::sync::Arc;

/// Whether longest matches may hide texts of the combination: terminals that meet in one place rule
/// each other out, and one that ends where the next side begins may take what that side needs.
pub(super) fn hides_texts(recipe: &Recipe) -> bool {
    match recipe {
        Recipe::Or(parts) => {
            parts.iter().map(longest).sum::<usize>() > 1 || parts.iter().any(hides_texts)
        }
        Recipe::Then(parts) => parts.iter().any(|p| longest(p) > 0),
        Recipe::Islands { islands, .. } => islands.iter().any(|i| longest(&i.1) > 0),
        Recipe::After { then, .. } => hides_texts(then),
        _ => false,
    }
}

/// Longest-match grammars in a combination.
fn longest(recipe: &Recipe) -> usize {
    match recipe {
        Recipe::Rules(rules) => usize::from(rules.syntax == Syntax::Lark && !rules.regular),
        Recipe::Or(parts) | Recipe::Then(parts) => parts.iter().map(longest).sum(),
        Recipe::Islands { islands, .. } => islands.iter().map(|i| longest(&i.1)).sum(),
        Recipe::After { then, .. } => longest(then),
        _ => 0,
    }
}

/// Whether the free texts up to the triggers of islands may be read by one automaton instead of one a
/// trigger: as terminals, which are left where none of them can go on. That is where a trigger ends,
/// since the first to end is what a free text goes up to, unless terminals of something else begin in
/// the same place.
fn joins_triggers(recipe: &Recipe) -> bool {
    match recipe {
        Recipe::Islands { islands, .. } => islands.iter().all(|(trigger, island)| {
            let plain = match island {
                Recipe::Schema(_) => true,
                Recipe::Rules(rules) => rules.regular || rules.syntax != Syntax::Lark,
                other => other.is_regular(),
            };
            plain && trigger.text().is_some()
        }),
        Recipe::After { then, .. } => joins_triggers(then),
        _ => false,
    }
}

/// The graph of a combination.
pub(super) fn graph(recipe: &Recipe, limits: &CompileLimits) -> Result<Graph> {
    let mut join = Join {
        limits,
        arena: Arena::new(limits.max_bytes),
        rules: Vec::new(),
        sources: Vec::new(),
        layout: None,
        joint: joins_triggers(recipe),
    };
    let start = join.part(recipe)?;
    join.arena.check()?;
    join.finish(start)
}

struct Join<'a> {
    limits: &'a CompileLimits,
    arena: Arena,
    /// Each with the source that its nodes are of.
    rules: Vec<(Rule, u32)>,
    sources: Vec<Arc<dyn NodeSource>>,
    /// How all JSON is spelled.
    layout: Option<(Options, Layout)>,
    /// Whether the free texts up to each trigger are one automaton.
    joint: bool,
}

/// The last position of the rules that [`Join`] makes.
const END: PosId = 1;

/// A rule without edges: its start and its end.
fn frame() -> Rule {
    let end = Position { last: true, edges: Vec::new() };
    Rule { positions: vec![Position::default(), end] }
}

fn edge(rule: &mut Rule, from: PosId, label: Label, to: PosId) {
    rule.positions[from as usize].edges.push(Edge { label, to });
}

fn fresh(rule: &mut Rule) -> PosId {
    rule.positions.push(Position::default());
    rule.positions.len() as PosId - 1
}

impl Join<'_> {
    fn add(&mut self, rule: Rule) -> RuleId {
        self.rules.push((rule, 0));
        self.rules.len() as RuleId - 1
    }

    /// A rule of the recipe's texts.
    fn part(&mut self, recipe: &Recipe) -> Result<RuleId> {
        if recipe.is_regular() {
            let mut rule = frame();
            let expr = self.regular(recipe)?;
            self.lexeme(&mut rule, 0, expr, END)?;
            return Ok(self.add(rule));
        }
        match recipe {
            Recipe::Rules(rules) => self.rules(rules),
            Recipe::Schema(schema) => {
                self.spell(&schema.options)?;
                self.sources.push(Arc::clone(&schema.source));
                let mut rule = frame();
                edge(&mut rule, 0, Label::Node(schema.root), END);
                self.rules.push((rule, self.sources.len() as u32 - 1));
                Ok(self.rules.len() as RuleId - 1)
            }
            Recipe::Or(parts) => {
                let mut rule = frame();
                let (regular, others): (Vec<_>, Vec<_>) =
                    parts.iter().partition(|p| p.is_regular());
                let regular =
                    regular.into_iter().map(|p| self.regular(p)).collect::<Result<Vec<_>>>()?;
                let all = self.arena.union(&regular);
                self.lexeme(&mut rule, 0, all, END)?;
                for part in others {
                    let part = self.part(part)?;
                    edge(&mut rule, 0, Label::Rule(part), END);
                }
                Ok(self.add(rule))
            }
            Recipe::Then(parts) => {
                let mut rule = frame();
                let mut at = 0;
                let chunks = parts.chunk_by(|a, b| a.is_regular() && b.is_regular());
                let n = chunks.clone().count();
                for (i, chunk) in chunks.enumerate() {
                    let part = match chunk {
                        [one] => self.part(one)?,
                        many => self.part(&Recipe::Then(many.into()))?,
                    };
                    let to = if i + 1 == n { END } else { fresh(&mut rule) };
                    edge(&mut rule, at, Label::Rule(part), to);
                    at = to;
                }
                Ok(self.add(rule))
            }
            Recipe::After { trigger, then } => {
                let mut rule = frame();
                let met = fresh(&mut rule);
                let texts: Vec<&str> = trigger.text().into_iter().collect();
                self.free(&mut rule, trigger, &texts, met)?;
                let then = self.part(then)?;
                edge(&mut rule, met, Label::Rule(then), END);
                Ok(self.add(rule))
            }
            Recipe::Islands { islands, stop } => {
                let mut rule = frame();
                let stop = stop.as_deref();
                let texts: Vec<&str> =
                    islands.iter().filter_map(|i| i.0.text()).chain(stop).collect();
                for (trigger, island) in islands.iter() {
                    let met = fresh(&mut rule);
                    self.free(&mut rule, trigger, &texts, met)?;
                    let island = self.part(island)?;
                    edge(&mut rule, met, Label::Rule(island), 0);
                }
                if self.joint {
                    for e in rule.positions.iter_mut().flat_map(|p| &mut p.edges) {
                        if let Label::Lexeme(expr) = e.label
                            && e.to != END
                        {
                            e.label = Label::Terminal { expr, priority: 0 };
                        }
                    }
                }
                let tail = match stop {
                    Some(stop) => up_to(&mut self.arena, stop, &texts),
                    None => self.without(&texts),
                };
                self.lexeme(&mut rule, 0, tail, END)?;
                let start = &rule.positions[0];
                if !start.last && start.edges.iter().all(|e| e.to != END) {
                    return Err(Error::Unsatisfiable {
                        what: format!("free text up to {:?}", stop.unwrap_or_default()),
                        why: "it contains a trigger, which comes first".into(),
                    });
                }
                Ok(self.add(rule))
            }
            _ => Err(Error::internal("a combination of grammars that needs regular ones")),
        }
    }

    /// The expression of a regular side.
    fn regular(&mut self, recipe: &Recipe) -> Result<ExprId> {
        let expr = recipe.lower(&mut self.arena, self.limits)?;
        if self.arena.is_pure(expr) { Ok(expr) } else { Err(predicates()) }
    }

    /// Steps over a regular language.
    fn lexeme(&mut self, rule: &mut Rule, from: PosId, expr: ExprId, to: PosId) -> Result<()> {
        if self.arena.accepts(expr, crate::automata::look::Ctx::Edge) {
            if to != END {
                return Err(Error::internal("an empty step inside a rule"));
            }
            rule.positions[from as usize].last = true;
        }
        let some = cfg::nonempty(&mut self.arena, expr);
        if !self.arena.is_empty(some)? {
            edge(rule, from, Label::Lexeme(some), to);
        }
        Ok(())
    }

    /// Free texts that contain none of `texts`.
    fn without(&mut self, texts: &[&str]) -> ExprId {
        let words: Vec<ExprId> = texts.iter().map(|t| self.arena.literal(t)).collect();
        let any = self.arena.union(&words);
        let top = self.arena.top();
        let some = self.arena.sequence(&[top, any, top]);
        self.arena.not(some)
    }

    /// Free text up to a trigger, from the start of a rule.
    fn free(&mut self, rule: &mut Rule, trigger: &Trigger, all: &[&str], to: PosId) -> Result<()> {
        match trigger {
            Trigger::Text(text) => {
                let expr = up_to(&mut self.arena, text, all);
                self.lexeme(rule, 0, expr, to)
            }
            Trigger::Special(ids) => {
                let before = fresh(rule);
                let free = self.without(all);
                let some = cfg::nonempty(&mut self.arena, free);
                edge(rule, 0, Label::Lexeme(some), before);
                for from in [0, before] {
                    edge(rule, from, Label::Special(Arc::clone(ids)), to);
                }
                Ok(())
            }
        }
    }

    /// The rules of a context-free grammar, behind those that are here.
    fn rules(&mut self, rules: &Rules) -> Result<RuleId> {
        let Rules { text, syntax, start, vocab, .. } = rules;
        let arena = std::mem::replace(&mut self.arena, Arena::new(0));
        let start = start.as_deref();
        let (compiled, _) = cfg::compile(text, *syntax, start, vocab, self.limits, arena)?;
        let Compiled::Graph(graph) = compiled else {
            return Err(Error::internal("a grammar became regular"));
        };
        self.arena = graph.arena;
        if let Some(source) = graph.source {
            self.spell(&Options::default())?;
            self.sources.push(source);
        }
        let [Cell::Rule(start)] = graph.nodes[graph.start as usize].cells[..] else {
            return Err(Error::internal("a grammar without a start rule"));
        };
        let first = self.rules.len() as RuleId;
        let source = (self.sources.len() as u32).saturating_sub(1);
        for mut rule in graph.rules {
            for e in rule.positions.iter_mut().flat_map(|p| &mut p.edges) {
                if let Label::Rule(r) = &mut e.label {
                    *r += first;
                }
            }
            self.rules.push((rule, source));
        }
        Ok(first + start)
    }

    /// Settles how JSON is spelled.
    fn spell(&mut self, options: &Options) -> Result<()> {
        match &self.layout {
            None => {
                let layout = json_schema::layout(&mut self.arena, options, self.limits)?;
                self.layout = Some((options.clone(), layout));
                Ok(())
            }
            Some((o, _)) if o.whitespace == options.whitespace && o.escapes == options.escapes => {
                Ok(())
            }
            Some(_) => Err(Error::UnsupportedPattern {
                feature: "combining JSON with different white space or escapes".into(),
                at: "in a combination".into(),
                hint: "give all schemas one whitespace= and one escapes=; %json parts have the \
                       defaults"
                    .into(),
            }),
        }
    }

    fn finish(mut self, start: RuleId) -> Result<Graph> {
        if self.layout.is_none() {
            self.spell(&Options::default())?;
        }
        let Some((_, layout)) = self.layout else {
            return Err(Error::internal("a graph without a layout"));
        };
        let n = self.sources.len() as u32;
        let mut rules = Vec::with_capacity(self.rules.len());
        for (mut rule, source) in self.rules {
            for e in rule.positions.iter_mut().flat_map(|p| &mut p.edges) {
                if let Label::Node(id) = &mut e.label {
                    *id = sources::number(*id, source, n);
                }
            }
            rules.push(rule);
        }
        let source: Option<Arc<dyn NodeSource>> =
            if n == 0 { None } else { Some(Arc::new(Sources::new(self.sources))) };
        let nodes = vec![Node { cells: vec![Cell::Rule(start)] }];
        Ok(Graph { arena: self.arena, nodes, source, rules, start: 0, layout })
    }
}
