//! Verification of one tree: the walk that all token-level rules share, and the entry point.
//!
//! A token-level rule is a random map from the children of a node to one token `y` whose law, over
//! the law of the children, is the target's. The walk emits `y` and moves to the child that carries
//! it, if one does; that a test rejected something is never a reason to stop. The children of the
//! child were drawn without looking at why `y` was chosen, so the argument repeats.
//!
//! Independent draws may repeat a token. Repeated siblings are one place in the text: the walk
//! stands on the whole group, and the children of every member are the draws at that place.

use super::fault::{Faults, Mutation};
use super::kind::Verifier;
use super::row::{Laws, Row};
use super::{Walk, block, gbv, greedy_plus_one, k_seq, mixed, multi_round, recursive, rejection};
use super::{spechub, traversal};
use crate::tree::{DraftLaw, Role};
use trivium_core::error::{Error, Result};
use trivium_core::{Chance, Purpose, TokenId};

/// One request's tree as a verifier reads it.
#[derive(Debug, Clone, Copy)]
pub struct Tree<'a> {
    /// Token of each node; node 0 is the last committed one.
    pub tokens: &'a [TokenId],
    /// Parent of each node, -1 for node 0, parents first.
    pub parents: &'a [i32],
    /// Roles under [`DraftLaw::Mixed`]; empty otherwise.
    pub roles: &'a [Role],
    /// How the tokens were chosen.
    pub law: DraftLaw,
    /// Absolute index of the token that row 0 chooses: the committed length.
    pub start: u32,
    /// Whether a fully accepted path is followed by one more token. Without it the row of a leaf
    /// is never read (a target law that the host cannot evaluate there).
    pub bonus: bool,
}

impl Tree<'_> {
    pub(crate) fn has_siblings(&self) -> bool {
        self.parents.iter().enumerate().skip(1).any(|(i, p)| *p + 1 != i as i32)
    }
}

/// Buffers of a verification; a second one of the same width allocates nothing.
#[derive(Debug, Default)]
pub struct Work {
    /// A residual law.
    pub(crate) r: Vec<f64>,
    /// A draft law with tokens removed.
    pub(crate) s: Vec<f64>,
    /// Group of nodes that the walk stands on, and the next one.
    group: Vec<usize>,
    next: Vec<usize>,
    /// Children of the group, their tokens and roles, in draw order.
    pub(crate) nodes: Vec<usize>,
    pub(crate) draws: Vec<TokenId>,
    roles: Vec<Role>,
    pub(crate) path: super::path::Work,
}

/// What a rule decided at a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    /// This token.
    Token(TokenId),
    /// The ordinary draw of the target: no drawn child to test, or nothing left to draw from.
    Target,
}

/// What a rule sees at a node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Site<'a> {
    /// Tokens of the children in draw order, repetitions included.
    pub(crate) draws: &'a [TokenId],
    pub(crate) p: Row<'a>,
    pub(crate) q: Row<'a>,
    /// Absolute index of the token being chosen.
    pub(crate) index: u32,
}

/// The tests of one node.
pub(crate) struct Tests<'a, F> {
    pub(crate) chance: &'a mut dyn Chance,
    pub(crate) index: u32,
    pub(crate) faults: &'a F,
    /// Largest acceptance so far, for the planted reuse of noise.
    top: f64,
}

impl<'a, F: Faults> Tests<'a, F> {
    pub(crate) fn new(chance: &'a mut dyn Chance, index: u32, faults: &'a F) -> Self {
        Self { chance, index, faults, top: 0.0 }
    }

    /// True with probability `min(1, r / s)`.
    pub(crate) fn accept(&mut self, r: f64, s: f64) -> bool {
        let (mut num, mut den) = (r, s);
        if self.faults.has(Mutation::SwapTest) {
            (num, den) = (s, r.max(f64::MIN_POSITIVE));
        }
        if self.faults.has(Mutation::SoftTest) {
            (num, den) = ((r / s).sqrt(), 1.0);
        }
        if self.faults.has(Mutation::ReuseNoise) {
            // The same uniform again: it is known to lie above every ratio tested before.
            let ratio = (r / s).min(1.0);
            let left = 1.0 - self.top;
            (num, den) = ((ratio - self.top).max(0.0), left.max(f64::MIN_POSITIVE));
            self.top = self.top.max(ratio);
        }
        self.chance.bernoulli(self.index, Purpose::Accept, num, den)
    }

    /// A draw from unnormalised weights.
    pub(crate) fn draw(&mut self, weights: &[f64]) -> Choice {
        Choice::Token(self.chance.categorical(self.index, Purpose::Residual, weights) as TokenId)
    }

    /// The end of a node: a draw from the residual `work.r` of sum `mass`.
    pub(crate) fn finish(&mut self, site: &Site<'_>, mass: f64, work: &mut Work) -> Choice {
        if self.faults.has(Mutation::TargetResidual) {
            return Choice::Target;
        }
        if self.faults.has(Mutation::DraftResidual) {
            super::row::widen(&mut work.r, site.q);
            return self.draw(&work.r);
        }
        // No mass: p = q up to rounding.
        if mass > 0.0 { self.draw(&work.r) } else { Choice::Target }
    }

    /// A draw from `(p - q)+` as the end of a node, nothing written down.
    pub(crate) fn residual_draw(&mut self, site: &Site<'_>, work: &mut Work) -> Choice {
        let planted = [Mutation::SwapResidual, Mutation::TargetResidual, Mutation::DraftResidual];
        if planted.into_iter().any(|m| self.faults.has(m)) {
            let mass = self.residual(site, work);
            return self.finish(site, mass, work);
        }
        let Site { p, q, index, .. } = *site;
        super::row::draw_excess(1.0, p, q, index, self.chance, &mut work.r)
            .map_or(Choice::Target, Choice::Token)
    }

    /// `work.r = (p - q)+`, or its planted twin.
    pub(crate) fn residual(&self, site: &Site<'_>, work: &mut Work) -> f64 {
        if self.faults.has(Mutation::SwapResidual) {
            return super::row::residual(&mut work.r, 1.0, site.q, site.p);
        }
        super::row::residual(&mut work.r, 1.0, site.p, site.q)
    }
}

/// Verifies one tree by a rule. The pair of rule and law must be legal
/// ([`Verifier::check`]); rows are read on the walked path only.
///
/// # Errors
/// `Unsupported` for a pair outside the table or siblings under a chain rule; `InvalidInput` for a
/// drawn token of draft probability 0, roles that do not fit, or rows that are no laws.
pub fn verify_tree(
    verifier: Verifier,
    tree: &Tree<'_>,
    laws: &mut dyn Laws,
    chance: &mut dyn Chance,
    work: &mut Work,
) -> Result<Walk> {
    verify_with_faults(verifier, tree, laws, chance, work, &super::fault::Exact)
}

/// As [`verify_tree`] with faults planted: the oracle's entry.
///
/// # Errors
/// As [`verify_tree`].
pub fn verify_with_faults<F: Faults>(
    verifier: Verifier,
    tree: &Tree<'_>,
    laws: &mut dyn Laws,
    chance: &mut dyn Chance,
    work: &mut Work,
    faults: &F,
) -> Result<Walk> {
    verifier.check(tree.law, crate::tree::Pruning::None)?;
    if tree.law == DraftLaw::Mixed && tree.roles.len() != tree.tokens.len() {
        return Err(Error::input(
            "roles",
            format!("{} for {} nodes of a mixed tree", tree.roles.len(), tree.tokens.len()),
        ));
    }
    if !verifier.takes_siblings() && tree.has_siblings() {
        return Err(Error::unsupported(
            format!("verifier {:?}", verifier.name()),
            format!("for drafts of law {:?} with siblings", tree.law.name()),
            "it verifies a chain; traversal, multi_round or gbv take trees",
        ));
    }
    match verifier {
        Verifier::Block => block::verify(tree, laws, chance, work, faults),
        Verifier::Traversal => traversal::verify(tree, laws, chance, work, faults),
        Verifier::Gbv => gbv::verify(tree, laws, chance, work, faults),
        _ => token_walk(verifier, tree, laws, chance, work, faults),
    }
}

/// Collects the children of the group the walk stands on.
fn children(tree: &Tree<'_>, work: &mut Work) {
    work.nodes.clear();
    work.draws.clear();
    work.roles.clear();
    let first = work.group.first().copied().unwrap_or(0);
    for node in first + 1..tree.tokens.len() {
        if work.group.contains(&(tree.parents[node] as usize)) {
            work.nodes.push(node);
            work.draws.push(tree.tokens[node]);
            work.roles.push(match tree.law {
                DraftLaw::PointMass => Role::Chosen,
                DraftLaw::Mixed => tree.roles[node],
                _ => Role::Drawn,
            });
        }
    }
}

/// A drawn token that its law cannot produce: the wrong row, or the wrong law.
pub(crate) fn no_mass(node: usize, token: TokenId) -> Error {
    Error::input(
        "q",
        format!(
            "node {node} carries token {token}, which its parent's row of q gives probability 0; \
             pass the row that the token was drawn from"
        ),
    )
}

fn check_mass(tree: &Tree<'_>, q: Row<'_>, work: &Work) -> Result<()> {
    let last = work.draws.len().saturating_sub(1);
    for (i, &x) in work.draws.iter().enumerate() {
        let drawn = match tree.law {
            DraftLaw::PointMass | DraftLaw::Race | DraftLaw::WithoutReplacementThenUniform => false,
            DraftLaw::GreedyPlusOne => i == last,
            DraftLaw::SpecHub => i == 0,
            _ => work.roles[i] == Role::Drawn,
        };
        if drawn && q.at(x) <= 0.0 {
            return Err(no_mass(work.nodes[i], x));
        }
    }
    Ok(())
}

fn token_walk<F: Faults>(
    verifier: Verifier,
    tree: &Tree<'_>,
    laws: &mut dyn Laws,
    chance: &mut dyn Chance,
    work: &mut Work,
    faults: &F,
) -> Result<Walk> {
    let mut walk = Walk::default();
    let (mut node, mut parent) = (0, 0);
    work.group.clear();
    work.group.push(0);
    loop {
        let index = tree.start + walk.tokens.len() as u32;
        children(tree, work);
        if work.nodes.is_empty() && !tree.bonus {
            return Ok(walk);
        }
        let choice = decide(
            verifier,
            tree,
            laws,
            chance,
            work,
            faults,
            (node, parent),
            index,
            &walk.tokens,
        )?;
        let (token, log_prob) = match choice {
            (Choice::Token(t), lp) => (t, lp),
            (Choice::Target, _) => {
                let row = if faults.has(Mutation::ParentRow) { parent } else { node };
                laws.target(row, &walk.tokens, index, chance)?
            }
        };
        walk.tokens.push(token);
        walk.logprobs.push(log_prob);
        let (tokens, nodes) = (&work.draws, &work.nodes);
        work.next.clear();
        work.next.extend(tokens.iter().zip(nodes).filter(|(t, _)| **t == token).map(|(_, &n)| n));
        std::mem::swap(&mut work.group, &mut work.next);
        let Some(&next) = work.group.first() else { return Ok(walk) };
        walk.nodes.push(next);
        (parent, node) = (node, next);
    }
}

#[allow(clippy::too_many_arguments)] // the state of one walk, split by borrow
fn decide<F: Faults>(
    verifier: Verifier,
    tree: &Tree<'_>,
    laws: &mut dyn Laws,
    chance: &mut dyn Chance,
    work: &mut Work,
    faults: &F,
    (node, parent): (usize, usize),
    index: u32,
    path: &[TokenId],
) -> Result<(Choice, f32)> {
    let target = Ok((Choice::Target, f32::NAN));
    if faults.has(Mutation::SkipFirstTest)
        && path.is_empty()
        && let Some(&x) = work.draws.first()
    {
        return Ok((Choice::Token(x), 0.0));
    }
    let tested = match verifier {
        Verifier::Sampled | Verifier::Race => faults.has(Mutation::FreshDraw),
        Verifier::Mixed => work.roles.contains(&Role::Drawn) || faults.has(Mutation::ChosenAsDrawn),
        _ => true,
    };
    if work.draws.is_empty() || !tested {
        return target;
    }
    // The planted off-by-one row is copied: only the oracle comes here.
    let wrong: Vec<f32> = if faults.has(Mutation::ParentRow) {
        laws.p(parent, path)?.weights().to_vec()
    } else {
        Vec::new()
    };
    let (mut p, q) = laws.both(node, path)?;
    if !wrong.is_empty() {
        p = Row::of(&wrong);
    }
    check_mass(tree, q, work)?;
    let mut draws = std::mem::take(&mut work.draws);
    let kept = draws.clone_from_faults(faults, p);
    let mut tests = Tests::new(chance, index, faults);
    let site = Site { draws: kept.as_deref().unwrap_or(&draws), p, q, index };
    let choice = match verifier {
        Verifier::Sampled | Verifier::Race => fresh_draw(&site, &mut tests, work),
        Verifier::Token => rejection::decide(&site, &mut tests, work),
        Verifier::MultiRound => multi_round::decide(&site, &mut tests, work),
        Verifier::KSeq => k_seq::decide(&site, &mut tests, work),
        Verifier::Recursive => recursive::decide(&site, false, &mut tests, work),
        Verifier::Sequoia => recursive::decide(&site, true, &mut tests, work),
        Verifier::GreedyPlusOne => greedy_plus_one::decide(&site, &mut tests, work),
        Verifier::SpecHub => spechub::decide(&site, &mut tests, work),
        _ => {
            let roles = std::mem::take(&mut work.roles);
            let choice = mixed::decide(&site, &roles, &mut tests, work);
            work.roles = roles;
            choice
        }
    };
    let log_prob = match choice {
        Choice::Token(t) => p.log(t),
        Choice::Target => f32::NAN,
    };
    std::mem::swap(&mut work.draws, &mut draws);
    Ok((choice, log_prob))
}

/// The planted faults that change which siblings are tested, before any rule.
trait Tamper {
    fn clone_from_faults<F: Faults>(&self, faults: &F, p: Row<'_>) -> Option<Vec<TokenId>>;
}

impl Tamper for Vec<TokenId> {
    #[inline]
    fn clone_from_faults<F: Faults>(&self, faults: &F, p: Row<'_>) -> Option<Vec<TokenId>> {
        let least = |better: bool| {
            (0..self.len()).min_by(|&a, &b| {
                let (x, y) = (p.at(self[a]), p.at(self[b]));
                if better { y.total_cmp(&x) } else { x.total_cmp(&y) }
            })
        };
        if faults.has(Mutation::PruneByIdentity) && self.len() > 1 {
            let drop = least(false)?;
            return Some(
                self.iter().enumerate().filter(|(i, _)| *i != drop).map(|(_, &t)| t).collect(),
            );
        }
        if faults.has(Mutation::BestSibling) {
            return Some(vec![self[least(true)?]]);
        }
        if faults.has(Mutation::ReverseOrder) {
            return Some(self.iter().rev().copied().collect());
        }
        None
    }
}

/// The planted fault of REST and Medusa: every candidate row gets a draw of its own.
fn fresh_draw<F: Faults>(site: &Site<'_>, tests: &mut Tests<'_, F>, work: &mut Work) -> Choice {
    for &x in site.draws {
        if tests.chance.bernoulli(site.index, Purpose::Accept, site.p.at(x), 1.0) {
            return Choice::Token(x);
        }
    }
    super::row::widen(&mut work.r, site.p);
    tests.draw(&work.r)
}
