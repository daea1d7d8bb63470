//! Trees from rows of a draft law: one builder a file.
//!
//! The stores of [`draft`](crate::draft) grow their trees on one heap (`tree/builder.rs`). The
//! builders here serve hosts that run a drafter: a builder names the nodes whose rows it needs next
//! ([`frontier`](TreeBuilder::frontier)), the host runs its drafter once on all of them and hands
//! the rows back ([`push`](TreeBuilder::push)), until the frontier is empty.
//!
//! | file | shape from | children |
//! |:--|:--|:--|
//! | [`chain`] | a [controller](crate::control) | drawn, or chosen |
//! | [`templated`] | a [`Template`]: choices, chain, Cartesian product, [`sequoia`]'s programme | any law |
//! | [`beam`] | EAGLE-2's beam and rerank, OPT-Tree's layers, LongSpec's widths | chosen |
//! | [`dyspec`] | a heap of slots | drawn without replacement, or chosen |
//! | [`stochastic_beam`] | arrival times of whole sequences | drawn without replacement |
//! | [`merge`] | a tree of stores laid over a drafted one | as they came |
//! | [`ppd`] | states of guess rows | chosen |
//!
//! Every builder declares how its tokens come about and what it takes away
//! ([`Builder::law`], [`Builder::pruning`]); [`Builder::check`] refuses verifiers that would bias
//! such trees, naming both, before anything is drafted.

pub mod beam;
pub mod chain;
pub mod dyspec;
mod kind;
pub mod merge;
pub mod ppd;
pub mod sequoia;
pub mod state_space;
pub mod stochastic_beam;
mod template;
pub mod templated;

pub use beam::{Beam, OptTree};
pub use chain::Chain;
pub use dyspec::DySpec;
pub use kind::{BUILDERS, Builder};
pub use merge::{Agreement, merge, merged_kind, prune_by_draft};
pub use ppd::{PpdState, PpdTables};
pub use sequoia::{HardwareSize, Sequoia};
pub use state_space::{StateSpacePlan, merge_attention};
pub use stochastic_beam::StochasticBeam;
pub use template::Template;
pub use templated::Templated;

use super::{Origin, Role};
use crate::verify::{Row, Verifier};
use trivium_core::error::{Error, Result};
use trivium_core::{Chance, TokenId, simd};

/// A tree as arrays; node 0 is the last committed token.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DraftTree {
    /// Token of each node.
    pub tokens: Vec<TokenId>,
    /// Parent of each node, -1 for node 0.
    pub parents: Vec<i32>,
    /// Depth of each node.
    pub depths: Vec<u16>,
    /// Estimated probability that the path to the node is accepted; never above its parent's.
    pub values: Vec<f64>,
    /// How each node was chosen.
    pub roles: Vec<Role>,
    /// Which pushed row the node's children came from; -1 where none was asked for.
    pub rows: Vec<i32>,
}

impl DraftTree {
    /// Node 0 alone.
    pub fn root(last: TokenId) -> Self {
        Self {
            tokens: vec![last],
            parents: vec![-1],
            depths: vec![0],
            values: vec![1.0],
            roles: vec![Role::Chosen],
            rows: vec![-1],
        }
    }

    /// Number of nodes, node 0 counted.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Never true for a tree with node 0.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Adds a child.
    pub fn add(&mut self, parent: usize, token: TokenId, value: f64, role: Role) -> usize {
        self.tokens.push(token);
        self.parents.push(parent as i32);
        self.depths.push(self.depths[parent] + 1);
        self.values.push(value.min(self.values[parent]));
        self.roles.push(role);
        self.rows.push(-1);
        self.len() - 1
    }

    /// Tokens below node 0 down to `node`.
    pub fn path(&self, node: usize) -> Vec<TokenId> {
        let mut path = Vec::with_capacity(usize::from(self.depths[node]));
        let mut n = node;
        while n != 0 {
            path.push(self.tokens[n]);
            n = self.parents[n] as usize;
        }
        path.reverse();
        path
    }

    /// Expected number of tokens of a step: one, and every node with its value.
    pub fn expected(&self) -> f64 {
        self.values.iter().sum()
    }

    /// The nodes of `keep`, which is ascending, starts with 0 and is closed under parents.
    #[must_use]
    pub fn select(&self, keep: &[usize]) -> Self {
        let mut new = vec![-1; self.len()];
        let mut out = Self::default();
        for (at, &node) in keep.iter().enumerate() {
            new[node] = at as i32;
            out.tokens.push(self.tokens[node]);
            out.parents.push(if node == 0 { -1 } else { new[self.parents[node] as usize] });
            out.depths.push(self.depths[node]);
            out.values.push(self.values[node]);
            out.roles.push(self.roles[node]);
            out.rows.push(self.rows[node]);
        }
        out
    }

    /// The `n` nodes of highest value (node 0 is one), ties in favour of the earlier node: closed
    /// under parents, because a child comes later and is worth no more.
    pub fn best(&self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.sort_by(|&a, &b| self.values[b].total_cmp(&self.values[a]).then(a.cmp(&b)));
        order.truncate(n.max(1));
        order.sort_unstable();
        order
    }
}

/// A builder that asks for rows level by level.
pub trait TreeBuilder: Send {
    /// What it builds, with its law and pruning.
    fn kind(&self) -> Builder;

    /// Nodes of [`tree`](Self::tree) whose rows it needs next, in this order; empty when done.
    fn frontier(&self) -> &[usize];

    /// The nodes so far; their numbers stay.
    fn tree(&self) -> &DraftTree;

    /// Takes one row a frontier node: weights `[frontier, vocab]` of any positive sums, after the
    /// drafter's own temperature and truncation.
    ///
    /// # Errors
    /// `InvalidInput` for a wrong shape, NaN, infinite or negative entries, rows of no mass, or when
    /// no row was asked for; nothing changes then.
    fn push(&mut self, rows: &[f32], chance: &mut dyn Chance) -> Result<()>;

    /// The tree to verify: what is built so far, after the final cut.
    fn finish(&self) -> DraftTree {
        self.tree().clone()
    }

    /// How the tree came about, for [`TreeBatch::from_arrays`](crate::TreeBatch::from_arrays).
    fn origin<'a>(&self, tree: &'a DraftTree) -> Origin<'a> {
        self.kind().origin(tree)
    }
}

/// Checks pushed rows; the sum of each.
pub(crate) fn sums(rows: &[f32], frontier: usize, vocab: usize) -> Result<Vec<f64>> {
    if frontier == 0 {
        return Err(Error::state("builder", "a frontier that waits for rows", "a finished tree"));
    }
    if rows.len() != frontier * vocab {
        return Err(Error::input(
            "rows",
            format!("{} entries for {frontier} frontier nodes of {vocab}", rows.len()),
        ));
    }
    rows.chunks_exact(vocab)
        .enumerate()
        .map(|(i, row)| match simd::row_sum(row) {
            Some(total) if total > 0.0 && total.is_finite() => Ok(total),
            _ => Err(Error::input(
                "rows",
                format!("row {i} is no law: entries finite and not negative, with some mass"),
            )),
        })
        .collect()
}

/// The row of one frontier node among checked rows.
pub(crate) fn row<'a>(rows: &'a [f32], sums: &[f64], vocab: usize, i: usize) -> Row<'a> {
    Row::new(&rows[i * vocab..(i + 1) * vocab], sums[i])
}

/// Checks budgets that count node 0.
pub(crate) fn budget(what: &'static str, n: usize, low: usize) -> Result<usize> {
    if (low..=crate::MAX_NODES).contains(&n) {
        Ok(n)
    } else {
        Err(Error::input(what, format!("{n} is outside {low}..={}", crate::MAX_NODES)))
    }
}

/// Draft rows node by node, `[n, vocab]`, as verifiers of drawn trees read them. A node without
/// children of its own carries one-hot row 0, which nothing reads.
pub fn rows_of(tree: &DraftTree, pushed: &[f32], vocab: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(tree.len() * vocab);
    for &r in &tree.rows {
        let row = usize::try_from(r).ok().and_then(|r| pushed.get(r * vocab..(r + 1) * vocab));
        if let Some(row) = row {
            out.extend_from_slice(row);
        } else {
            out.push(1.0);
            out.extend(std::iter::repeat_n(0.0, vocab.saturating_sub(1)));
        }
    }
    out
}

/// Refuses a verifier that would bias the trees of a builder, before anything is drafted.
///
/// # Errors
/// `Unsupported` naming the builder, its law and pruning, and the verifier.
pub fn pair(builder: Builder, verifier: Verifier) -> Result<(Builder, Verifier)> {
    builder.check(verifier).map(|()| (builder, verifier))
}
