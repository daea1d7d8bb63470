//! Draft protocols: how trees are drawn. They draw through `trivium_spec::tree::Drafter`, the code
//! path of production sources, because the protocol is part of the law that a verifier undoes.

use crate::pairs::Pair;
use trivium_core::{Chance, TokenId};
use trivium_spec::tree::{DraftLaw, Drafter, Role};
use trivium_spec::verify::Row;

/// The shape that a protocol aims for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    /// So many children at each level; repeated draws are nodes of their own.
    Branching(Vec<usize>),
    /// So many paths from node 0, each of so many tokens, unmerged.
    Paths(usize, usize),
}

/// When a branch ends early.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Stop {
    /// Never.
    Never,
    /// Before a draw, if the largest draft probability is below.
    Before(f64),
    /// After including a token whose draft probability is below.
    After(f64),
}

/// How trees are drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Protocol {
    /// The law of siblings.
    pub law: DraftLaw,
    /// The shape aimed for.
    pub shape: Shape,
    /// The stop rule.
    pub stop: Stop,
    /// Mixed trees: whether drawn siblings come from `q` off the chosen ones.
    pub off: bool,
}

/// A drawn tree with the rows that it was drawn from.
#[derive(Debug, Clone, Default)]
pub struct Drafted {
    /// Token of each node.
    pub tokens: Vec<TokenId>,
    /// Parent of each node.
    pub parents: Vec<i32>,
    /// Role of each node.
    pub roles: Vec<Role>,
    /// Draft weights of each node's children, as drawn from: `[n, vocab]`.
    pub q: Vec<f32>,
    /// Target weights of each node: `[n, vocab]`.
    pub p: Vec<f32>,
    /// Path of each node, node 0 excluded.
    paths: Vec<Vec<TokenId>>,
}

impl Drafted {
    fn root(pair: &Pair) -> Self {
        let mut this = Self::default();
        this.push(pair, 0, -1, Role::Chosen, Vec::new());
        this
    }

    fn push(
        &mut self,
        pair: &Pair,
        token: TokenId,
        parent: i32,
        role: Role,
        path: Vec<TokenId>,
    ) -> usize {
        let (p, q) = pair.rows(&path);
        self.tokens.push(token);
        self.parents.push(parent);
        self.roles.push(role);
        self.p.extend_from_slice(&p);
        self.q.extend_from_slice(&q);
        self.paths.push(path);
        self.tokens.len() - 1
    }
}

impl Protocol {
    /// A protocol without stop rule.
    pub fn new(law: DraftLaw, shape: Shape) -> Self {
        Self { law, shape, stop: Stop::Never, off: false }
    }

    /// The largest depth.
    pub fn depth(&self) -> usize {
        match &self.shape {
            Shape::Branching(levels) => levels.len(),
            Shape::Paths(_, len) => *len,
        }
    }

    /// Draws a tree. `start` is the absolute index of the first undecided token.
    ///
    /// # Panics
    /// For race drafts, which are not drawn from `q`.
    pub fn draft(&self, pair: &Pair, start: u32, chance: &mut dyn Chance) -> Drafted {
        let mut out = Drafted::root(pair);
        let mut drafter = Drafter::new();
        match &self.shape {
            Shape::Branching(levels) => {
                let mut level = vec![0];
                for &n in levels {
                    let mut next = Vec::new();
                    for node in level {
                        next.extend(self.grow(
                            pair,
                            &mut out,
                            node,
                            n,
                            start,
                            &mut drafter,
                            chance,
                        ));
                    }
                    level = next;
                }
            }
            Shape::Paths(k, len) => {
                for _ in 0..*k {
                    let mut node = 0;
                    for _ in 0..*len {
                        let new = self.grow(pair, &mut out, node, 1, start, &mut drafter, chance);
                        let Some(&next) = new.first() else { break };
                        node = next;
                    }
                }
            }
        }
        out
    }

    /// Draws children of a node; returns those below which drafting goes on.
    #[allow(clippy::too_many_arguments)] // one tree under construction
    fn grow(
        &self,
        pair: &Pair,
        out: &mut Drafted,
        node: usize,
        n: usize,
        start: u32,
        drafter: &mut Drafter,
        chance: &mut dyn Chance,
    ) -> Vec<usize> {
        let path = out.paths[node].clone();
        let v = pair.vocab;
        let mut row = out.q[node * v..(node + 1) * v].to_vec();
        let total: f64 = row.iter().map(|&w| f64::from(w)).sum();
        let share = |w: f32| f64::from(w) / total;
        let best = row.iter().copied().fold(0f32, f32::max);
        if let Stop::Before(limit) = self.stop
            && share(best) < limit
        {
            return Vec::new();
        }
        let mut children = Vec::new();
        let mut draw = |law, n, row: &[f32], children: &mut Vec<(TokenId, Role)>| {
            drafter
                .children(law, n, Row::of(row), start, chance, children)
                .unwrap_or_else(|e| panic!("{e}"));
        };
        if self.law == DraftLaw::Mixed && self.off {
            draw(DraftLaw::PointMass, n / 2, &row, &mut children);
            for &(t, _) in &children {
                row[t as usize] = 0.0;
            }
            if row.iter().any(|&w| w > 0.0) {
                draw(DraftLaw::WithoutReplacementQ, n - n / 2, &row, &mut children);
                out.q[node * v..(node + 1) * v].copy_from_slice(&row);
            }
        } else {
            draw(self.law, n, &row, &mut children);
        }
        let mut next = Vec::new();
        for (token, role) in children {
            let child = [&path[..], &[token]].concat();
            let id = out.push(pair, token, node as i32, role, child);
            let ends =
                matches!(self.stop, Stop::After(limit) if share(row[token as usize]) < limit);
            if !ends {
                next.push(id);
            }
        }
        next
    }
}
