//! From operators to productions: names resolved, regular parts as lexemes.

use super::Compiled;
use super::ast::{Ast, Definition, Source, located, place};
use super::corner::{self, Production, Symbol};
use crate::automata::expr::{Arena, EMPTY, EPSILON, Expr, ExprId, INF};
use crate::error::{Error, Result};
use crate::json_schema;
use crate::limits::CompileLimits;
use crate::machine::graph::{
    Cell, Edge, Escapes, Graph, Label, Layout, Node, NodeId, NodeSource, Position, Rule, Space,
};
use crate::machine::sources::{self, Sources};
use crate::regex::{self, Dialect};
use rustc_hash::FxHashMap;
use std::sync::Arc;
use std::time::Instant;
use trivium_core::{TokenId, Vocabulary};

/// Nonterminals and productions of one grammar.
const MAX_RULES: usize = 200_000;

/// Warnings of one kind that are listed.
const MOST_WARNINGS: usize = 100;

/// What a terminal of the productions reads.
#[derive(Debug, Clone)]
enum Term {
    Lexeme(ExprId),
    Terminal(ExprId, i64),
    Special(Arc<[TokenId]>),
    Node(NodeId),
}

struct Compiler<'a> {
    text: &'a str,
    source: &'a Source,
    vocab: &'a Vocabulary,
    limits: &'a CompileLimits,
    deadline: Option<Instant>,
    arena: Arena,
    /// Rules by name.
    names: FxHashMap<&'a str, usize>,
    /// Expressions of regular rules.
    regular: Vec<Option<ExprId>>,
    terms: Vec<Term>,
    /// Productions of each nonterminal; the rules come first.
    productions: Vec<Vec<Production>>,
    sources: Vec<(Arc<dyn NodeSource>, NodeId)>,
    key: Option<fn(&mut Arena, &str, Escapes) -> ExprId>,
    ignore: Option<u32>,
}

/// See [`super::compile`].
pub(super) fn compile(
    text: &str,
    source: &Source,
    start: Option<&str>,
    vocab: &Vocabulary,
    limits: &CompileLimits,
    arena: Arena,
) -> Result<(Compiled, Vec<String>)> {
    let mut this = Compiler {
        text,
        source,
        vocab,
        limits,
        deadline: Instant::now().checked_add(limits.max_time),
        arena,
        names: FxHashMap::default(),
        regular: vec![None; source.rules.len()],
        terms: Vec::new(),
        productions: Vec::new(),
        sources: Vec::new(),
        key: None,
        ignore: None,
    };
    for (i, rule) in source.rules.iter().enumerate() {
        if this.names.insert(&rule.name, i).is_some() {
            return Err(located(text, rule.at, format!("rule {} is defined twice", rule.name)));
        }
    }
    let start = this.start(start)?;
    this.check_names()?;
    this.find_regular()?;
    if !source.longest
        && let Some(expr) = this.regular[start]
    {
        let warnings = this.unreachable(start);
        return Ok((Compiled::Lexeme(Box::new(this.arena), expr), warnings));
    }
    let mut warnings = this.unreachable(start);
    this.produce()?;
    let grammar = corner::prepare(std::mem::take(&mut this.productions), start as u32, MAX_RULES)?;
    for (i, &n) in grammar.unproductive.iter().enumerate() {
        if i >= MOST_WARNINGS && n as usize != start {
            continue;
        }
        let Some(rule) = source.rules.get(n as usize) else { continue };
        let why = format!("rule {} matches no text", rule.name);
        if n as usize == start {
            return Err(Error::Unsatisfiable { what: "grammar".into(), why });
        }
        let (line, column) = place(text, rule.at);
        warnings.push(format!("line {line}, column {column}: {why} and is left out"));
    }
    this.check()?;
    Ok((Compiled::Graph(Box::new(this.graph(&grammar))), warnings))
}

impl<'a> Compiler<'a> {
    fn start(&self, start: Option<&str>) -> Result<usize> {
        if let Some(name) = start {
            return self.names.get(name).copied().ok_or_else(|| {
                located(self.text, 0, format!("the start rule {name} is not defined"))
            });
        }
        let found = ["root", "start"].iter().find_map(|n| self.names.get(n).copied());
        match found {
            Some(i) => Ok(i),
            None if !self.source.rules.is_empty() => Ok(0),
            None => Err(located(self.text, 0, "the grammar has no rule")),
        }
    }

    fn check(&self) -> Result<()> {
        self.arena.check()?;
        if self.deadline.is_some_and(|d| Instant::now() > d) {
            let ms = self.limits.max_time.as_millis() as u64;
            return Err(Error::limit("max_ms", ms + 1, ms));
        }
        Ok(())
    }

    fn check_names(&self) -> Result<()> {
        let ignored = self.source.ignore.iter();
        for ast in self.source.rules.iter().map(|r| &r.body).chain(ignored) {
            let mut todo = vec![ast];
            while let Some(ast) = todo.pop() {
                if let Ast::Name(name, at) = ast
                    && !self.names.contains_key(name.as_str())
                {
                    return Err(located(self.text, *at, format!("{name} is not defined")));
                }
                todo.extend(ast.parts());
            }
        }
        Ok(())
    }

    fn references(&self, ast: &Ast) -> Vec<usize> {
        let mut out = Vec::new();
        let mut todo = vec![ast];
        while let Some(ast) = todo.pop() {
            if let Ast::Name(name, _) = ast {
                out.extend(self.names.get(name.as_str()));
            }
            todo.extend(ast.parts());
        }
        out
    }

    /// Warnings for rules that the start does not need.
    fn unreachable(&self, start: usize) -> Vec<String> {
        let mut seen = vec![false; self.source.rules.len()];
        let mut todo = vec![start];
        for ast in &self.source.ignore {
            todo.extend(self.references(ast));
        }
        while let Some(i) = todo.pop() {
            if !std::mem::replace(&mut seen[i], true) {
                todo.extend(self.references(&self.source.rules[i].body));
            }
        }
        let rules = self.source.rules.iter().zip(seen);
        let mut unused = rules.filter(|(r, seen)| !seen && !r.name.starts_with("common."));
        let mut out: Vec<String> = unused
            .by_ref()
            .take(MOST_WARNINGS)
            .map(|(r, _)| {
                let (line, column) = place(self.text, r.at);
                format!("line {line}, column {column}: rule {} is not used", r.name)
            })
            .collect();
        match unused.count() {
            0 => {}
            n => out.push(format!("{n} more rules are not used")),
        }
        out
    }

    /// Expressions of the rules that do not need a stack, in the order of their references.
    fn find_regular(&mut self) -> Result<()> {
        let n = self.source.rules.len();
        let mut users: Vec<Vec<usize>> = vec![Vec::new(); n];
        let mut open: Vec<usize> = vec![0; n];
        for (i, rule) in self.source.rules.iter().enumerate() {
            for r in self.references(&rule.body) {
                users[r].push(i);
                open[i] += 1;
            }
        }
        let mut ready: Vec<usize> = (0..n).filter(|&i| open[i] == 0).collect();
        while let Some(i) = ready.pop() {
            let rule: &'a Definition = &self.source.rules[i];
            let wanted = !self.source.longest || rule.terminal;
            if wanted && self.is_regular(&rule.body) {
                let expr = self.expr(&rule.body)?;
                self.regular[i] = Some(expr);
                self.check()?;
                for &user in &users[i] {
                    open[user] -= 1;
                    if open[user] == 0 {
                        ready.push(user);
                    }
                }
            }
        }
        for (i, rule) in self.source.rules.iter().enumerate() {
            if rule.terminal && self.regular[i].is_none() {
                let why = format!("terminal {} calls itself or a rule", rule.name);
                return Err(located(self.text, rule.at, why));
            }
        }
        Ok(())
    }

    /// Whether an expression exists, given those of the rules known so far.
    fn is_regular(&self, ast: &Ast) -> bool {
        let mut todo = vec![ast];
        while let Some(ast) = todo.pop() {
            match ast {
                Ast::Name(name, _) => {
                    let known = self.names.get(name.as_str()).and_then(|&i| self.regular[i]);
                    if known.is_none() {
                        return false;
                    }
                }
                Ast::Special(..) | Ast::Ids(..) | Ast::Json(_) | Ast::Call(..) => return false,
                _ => todo.extend(ast.parts()),
            }
        }
        true
    }

    /// The expression of a regular part.
    fn expr(&mut self, ast: &Ast) -> Result<ExprId> {
        Ok(match ast {
            Ast::Text(text, false) => self.arena.literal(text),
            Ast::Text(text, true) => {
                let mut parts = Vec::new();
                for c in text.chars() {
                    let folded = c.to_lowercase().chain(c.to_uppercase());
                    let ranges = folded.map(|c| (c.into(), c.into())).collect();
                    parts.push(self.arena.class(crate::automata::charset::normalize(ranges)));
                }
                self.arena.sequence(&parts)
            }
            Ast::Class(ranges) => self.arena.class(ranges.clone()),
            Ast::Pattern(pattern, flags) => self.pattern(pattern, flags)?,
            Ast::Name(name, _) => self
                .names
                .get(name.as_str())
                .and_then(|&i| self.regular[i])
                .ok_or_else(|| Error::internal("a rule without an expression"))?,
            Ast::Seq(parts) => {
                let parts = parts.iter().map(|p| self.expr(p)).collect::<Result<Vec<_>>>()?;
                self.arena.sequence(&parts)
            }
            Ast::Alt(parts) => {
                let parts = parts.iter().map(|p| self.expr(p)).collect::<Result<Vec<_>>>()?;
                self.arena.union(&parts)
            }
            Ast::Repeat(inner, min, max) => {
                let inner = self.expr(inner)?;
                self.arena.repeat(inner, *min, max.unwrap_or(INF))
            }
            Ast::And(a, b) => {
                let both = [self.expr(a)?, self.expr(b)?];
                self.arena.inter(&both)
            }
            Ast::Minus(a, b) => {
                let (a, b) = (self.expr(a)?, self.expr(b)?);
                self.arena.minus(a, b)
            }
            Ast::Not(a) => {
                let a = self.expr(a)?;
                self.arena.not(a)
            }
            Ast::Special(..) | Ast::Ids(..) | Ast::Json(_) | Ast::Call(..) => {
                return Err(Error::internal("a special token inside a lexeme"));
            }
        })
    }

    fn pattern(&mut self, pattern: &str, flags: &str) -> Result<ExprId> {
        let known: String = flags.chars().filter(|c| "imsx".contains(*c)).collect();
        let text =
            if known.is_empty() { pattern.to_owned() } else { format!("(?{known}){pattern}") };
        let dialect = if self.source.longest { Dialect::Python } else { Dialect::Rust };
        let found = match regex::compile(&mut self.arena, &text, dialect, true, self.limits) {
            Err(Error::UnsupportedPattern { feature, .. }) if feature.starts_with("dialect") => {
                regex::compile(&mut self.arena, &text, Dialect::Rust, true, self.limits)
            }
            other => other,
        };
        let expr = match found {
            Err(Error::InvalidGrammar { why, .. }) => {
                let at = self.text.find(pattern).unwrap_or(0);
                return Err(located(self.text, at, format!("in the pattern: {why}")));
            }
            other => other?,
        };
        if !self.arena.is_pure(expr) {
            return Err(Error::UnsupportedPattern {
                feature: "a position predicate inside a terminal".into(),
                at: format!("in {pattern:?}"),
                hint: "write what stands around it as part of the grammar".into(),
            });
        }
        Ok(expr)
    }

    // ---- productions -----------------------------------------------------------------------------

    fn fresh(&mut self, productions: Vec<Production>) -> Result<u32> {
        if self.productions.len() >= MAX_RULES {
            let n = MAX_RULES as u64;
            return Err(Error::limit("max_rules", n + 1, n));
        }
        self.productions.push(productions);
        Ok(self.productions.len() as u32 - 1)
    }

    fn term(&mut self, term: Term) -> Symbol {
        self.terms.push(term);
        Symbol::Term(self.terms.len() as u32 - 1)
    }

    fn produce(&mut self) -> Result<()> {
        self.productions = vec![Vec::new(); self.source.rules.len()];
        if self.source.longest && !self.source.ignore.is_empty() {
            let ignored = self.fresh(Vec::new())?;
            let mut productions = vec![Vec::new()];
            for ast in &self.source.ignore {
                if !self.is_regular(ast) {
                    return Err(self.not_regular(ast, "%ignore"));
                }
                let expr = self.expr(ast)?;
                let expr = nonempty(&mut self.arena, expr);
                let term = self.term(Term::Terminal(expr, rank(-1, false, 0, 0)));
                productions.push(vec![term, Symbol::Rule(ignored)]);
            }
            self.productions[ignored as usize] = productions;
            self.ignore = Some(ignored);
        }
        for i in 0..self.source.rules.len() {
            let rule: &'a Definition = &self.source.rules[i];
            if !self.source.longest || !rule.terminal {
                self.productions[i] = self.alternatives(&rule.body)?;
                self.check()?;
            }
        }
        Ok(())
    }

    /// The productions of an expression.
    fn alternatives(&mut self, ast: &Ast) -> Result<Vec<Production>> {
        if !self.source.longest && self.is_regular(ast) {
            let expr = self.expr(ast)?;
            return self.lexeme(expr);
        }
        match ast {
            Ast::Alt(parts) => {
                let (regular, others): (Vec<&Ast>, Vec<&Ast>) =
                    parts.iter().partition(|p| !self.source.longest && self.is_regular(p));
                let mut out = Vec::new();
                if !regular.is_empty() {
                    let all = regular.iter().map(|p| self.expr(p)).collect::<Result<Vec<_>>>()?;
                    let all = self.arena.union(&all);
                    out.extend(self.lexeme(all)?);
                }
                for part in others {
                    out.extend(self.alternatives(part)?);
                }
                Ok(out)
            }
            _ => Ok(vec![self.sequence(ast)?]),
        }
    }

    fn lexeme(&mut self, expr: ExprId) -> Result<Vec<Production>> {
        if self.arena.is_empty(expr)? {
            return Ok(Vec::new());
        }
        let mut out = Vec::new();
        if self.arena.accepts(expr, crate::automata::look::Ctx::Edge) {
            out.push(Vec::new());
        }
        let expr = nonempty(&mut self.arena, expr);
        if expr != EMPTY && !self.arena.is_empty(expr)? {
            out.push(vec![self.term(Term::Lexeme(expr))]);
        }
        Ok(out)
    }

    /// One production for an expression; alternatives get a nonterminal of their own.
    fn sequence(&mut self, ast: &Ast) -> Result<Production> {
        if !self.source.longest && self.is_regular(ast) {
            let mut productions = self.alternatives(ast)?;
            if productions.len() == 1 {
                return Ok(productions.swap_remove(0));
            }
            return Ok(vec![Symbol::Rule(self.fresh(productions)?)]);
        }
        match ast {
            Ast::Seq(parts) => {
                let mut out = Vec::new();
                let mut i = 0;
                while i < parts.len() {
                    // Neighbours that need no stack are one lexeme.
                    let run = parts[i..]
                        .iter()
                        .take_while(|p| !self.source.longest && self.is_regular(p))
                        .count();
                    if run > 0 {
                        let all = Ast::Seq(parts[i..i + run].to_vec());
                        out.extend(self.sequence(&all)?);
                        i += run;
                    } else {
                        out.extend(self.sequence(&parts[i])?);
                        i += 1;
                    }
                }
                Ok(out)
            }
            Ast::Alt(_) => {
                let productions = self.alternatives(ast)?;
                Ok(vec![Symbol::Rule(self.fresh(productions)?)])
            }
            Ast::Repeat(inner, min, max) => self.repeat(inner, *min, *max),
            Ast::Name(name, _) => {
                let i = self.names.get(name.as_str()).copied().unwrap_or(0);
                match (self.regular[i], self.source.longest) {
                    (Some(expr), true) => {
                        let rule: &'a Definition = &self.source.rules[i];
                        let (literal, length) = shape(&rule.body);
                        let rank = rank(rule.priority, literal, length, i);
                        self.terminal(expr, rank, rule.at)
                    }
                    _ => Ok(vec![Symbol::Rule(i as u32)]),
                }
            }
            Ast::Special(name, at) => {
                let ids: Vec<TokenId> = self
                    .vocab
                    .special()
                    .filter(|s| s.name == *name || format!("<{}>", s.name) == *name)
                    .map(|s| s.id)
                    .collect();
                if ids.is_empty() {
                    let why = format!("the vocabulary has no special token {name}");
                    return Err(located(self.text, *at, why));
                }
                Ok(vec![self.term(Term::Special(ids.into()))])
            }
            Ast::Ids(ranges, negated) => {
                let listed = |t: u32| ranges.iter().any(|r| (r.0..=r.1).contains(&t));
                let ids: Vec<TokenId> = (0..self.vocab.len() as TokenId)
                    .filter(|&t| self.vocab.is_special(t) && listed(t) != *negated)
                    .collect();
                Ok(vec![self.term(Term::Special(ids.into()))])
            }
            Ast::Json(schema) => {
                let options = json_schema::Options::default();
                let (graph, _) = json_schema::compile(schema, &options, self.limits)?;
                let Some(source) = graph.source else {
                    return Err(Error::internal("a schema without nodes"));
                };
                self.key = Some(graph.layout.key);
                self.sources.push((source, graph.start));
                let at = self.sources.len() as NodeId - 1;
                Ok(vec![self.term(Term::Node(at))])
            }
            _ => {
                // A terminal without a name.
                if !self.is_regular(ast) {
                    return Err(self.not_regular(ast, "&, - or ~"));
                }
                let expr = self.expr(ast)?;
                let (literal, length) = shape(ast);
                self.terminal(expr, rank(0, literal, length, usize::MAX), 0)
            }
        }
    }

    /// Operators on terminals take regular parts; which part is none.
    fn not_regular(&self, ast: &Ast, of: &str) -> Error {
        let mut todo = vec![ast];
        let mut at = None;
        let mut what = format!("a part of {of} that is not regular");
        while let Some(ast) = todo.pop() {
            match ast {
                Ast::Name(name, place) => {
                    let known = self.names.get(name.as_str()).and_then(|&i| self.regular[i]);
                    if known.is_none() {
                        what = format!("{name}, which is not regular, as a part of {of}");
                        at = Some(*place);
                    }
                }
                Ast::Special(name, place) => {
                    what = format!("the token {name} as a part of {of}");
                    at = Some(*place);
                }
                _ => todo.extend(ast.parts()),
            }
        }
        let at = at.map_or("in the grammar".to_owned(), |at| {
            let (line, column) = place(self.text, at);
            format!("at line {line}, column {column}")
        });
        let hint = "write both sides as patterns or terminals".into();
        Error::UnsupportedPattern { feature: what, at, hint }
    }

    /// A terminal of a longest-match grammar and what may be ignored behind it.
    fn terminal(&mut self, expr: ExprId, rank: i64, at: usize) -> Result<Production> {
        if expr == EPSILON || self.arena.accepts(expr, crate::automata::look::Ctx::Edge) {
            return Err(located(self.text, at, "a terminal matches the empty text"));
        }
        let mut out = vec![self.term(Term::Terminal(expr, rank))];
        out.extend(self.ignore.map(Symbol::Rule));
        Ok(out)
    }

    fn repeat(&mut self, inner: &Ast, min: u32, max: Option<u32>) -> Result<Production> {
        const MOST: u32 = 10_000;
        if min.max(max.unwrap_or(0)) > MOST {
            return Err(Error::limit("repetitions of a rule", u64::from(min), u64::from(MOST)));
        }
        let alternatives = self.alternatives(inner)?;
        let one = match &alternatives[..] {
            [one] => one.clone(),
            _ => vec![Symbol::Rule(self.fresh(alternatives)?)],
        };
        let mut out: Production = Vec::new();
        for _ in 0..min {
            out.extend_from_slice(&one);
        }
        match max {
            None => {
                let again = self.fresh(Vec::new())?;
                let mut more = one;
                more.push(Symbol::Rule(again));
                self.productions[again as usize] = vec![Vec::new(), more];
                out.push(Symbol::Rule(again));
            }
            Some(max) => {
                let mut rest = None;
                for _ in min..max {
                    let mut more = one.clone();
                    more.extend(rest.map(Symbol::Rule));
                    rest = Some(self.fresh(vec![Vec::new(), more])?);
                }
                out.extend(rest.map(Symbol::Rule));
            }
        }
        Ok(out)
    }

    // ---- graph -----------------------------------------------------------------------------------

    fn graph(mut self, grammar: &corner::Grammar) -> Graph {
        let mut rules = Vec::with_capacity(grammar.rules.len());
        for rule in &grammar.rules {
            rules.push(self.rule(rule));
        }
        let nodes = vec![Node { cells: vec![Cell::Rule(grammar.start)] }];
        let blank = self.arena.class(vec![(0x09, 0x0a), (0x0d, 0x0d), (0x20, 0x20)]);
        let gap = self.arena.repeat(blank, 0, 64);
        let source: Option<Arc<dyn NodeSource>> = if self.sources.is_empty() {
            None
        } else {
            Some(Arc::new(Sources::new(self.sources.into_iter().map(|s| s.0))))
        };
        let key = self.key.unwrap_or(|arena, _, _| arena.literal(""));
        let layout = Layout { space: Space::Between(gap), key, escapes: Escapes::Minimal };
        Graph { arena: self.arena, nodes, source, rules, start: 0, layout }
    }

    /// A rule's productions as a tree that shares beginnings.
    fn rule(&self, rule: &corner::Ready) -> Rule {
        let mut positions = vec![Position { last: rule.empty, edges: Vec::new() }];
        let mut known: FxHashMap<(u32, Symbol), u32> = FxHashMap::default();
        let end = 1;
        positions.push(Position { last: true, edges: Vec::new() });
        for production in &rule.productions {
            let mut at = 0;
            for (i, &symbol) in production.iter().enumerate() {
                let last = i + 1 == production.len();
                // The last step leads to the common end, unless the same beginning goes on.
                if last {
                    let to = known.get(&(at, symbol)).copied();
                    match to {
                        Some(to) => positions[to as usize].last = true,
                        None => {
                            positions[at as usize].edges.push(self.edge(symbol, end));
                        }
                    }
                    continue;
                }
                at = if let Some(&to) = known.get(&(at, symbol)) {
                    to
                } else {
                    let to = positions.len() as u32;
                    positions.push(Position::default());
                    positions[at as usize].edges.push(self.edge(symbol, to));
                    known.insert((at, symbol), to);
                    to
                };
            }
            if production.is_empty() {
                positions[0].last = true;
            }
        }
        Rule { positions }
    }

    fn edge(&self, symbol: Symbol, to: u32) -> Edge {
        let label = match symbol {
            Symbol::Rule(r) => Label::Rule(r),
            Symbol::Term(t) => match &self.terms[t as usize] {
                Term::Lexeme(e) => Label::Lexeme(*e),
                Term::Terminal(expr, priority) => {
                    Label::Terminal { expr: *expr, priority: *priority }
                }
                Term::Special(ids) => Label::Special(Arc::clone(ids)),
                Term::Node(n) => {
                    let root = self.sources[*n as usize].1;
                    Label::Node(sources::number(root, *n, self.sources.len() as NodeId))
                }
            },
        };
        Edge { label, to }
    }
}

/// The same texts without the empty one.
pub(crate) fn nonempty(arena: &mut Arena, e: ExprId) -> ExprId {
    if !arena.accepts(e, crate::automata::look::Ctx::Edge) {
        return e;
    }
    match arena.node(e).clone() {
        Expr::Union(members) => {
            let members: Vec<ExprId> = members.iter().map(|&m| nonempty(arena, m)).collect();
            arena.union(&members)
        }
        Expr::Repeat { body, max, .. } => {
            let body = nonempty(arena, body);
            arena.repeat(body, 1, max)
        }
        Expr::Epsilon => EMPTY,
        _ => {
            let some = arena.of_length(1, INF);
            arena.inter(&[e, some])
        }
    }
}

/// Whether a terminal is a literal text, and how long it is written.
fn shape(ast: &Ast) -> (bool, usize) {
    match ast {
        Ast::Text(text, _) => (true, text.chars().count()),
        Ast::Pattern(p, _) => (false, p.chars().count()),
        other => (false, other.parts().iter().map(|p| shape(p).1).sum()),
    }
}

/// Terminals by priority, then literals before patterns, longer ones first, by order of definition.
fn rank(priority: i64, literal: bool, length: usize, order: usize) -> i64 {
    let order = (1 << 18) - 1 - order.min((1 << 18) - 1) as i64;
    let length = length.min((1 << 18) - 1) as i64;
    priority.clamp(-(1 << 20), 1 << 20) << 38 | i64::from(literal) << 37 | length << 18 | order
}
