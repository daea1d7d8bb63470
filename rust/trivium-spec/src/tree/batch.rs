//! Trees of several requests as flat arrays with offsets: no padding, no row read for another.

use super::{DraftLaw, Pruning, Role, export, validate_siblings};
use crate::draft::mixture::Evidence;
use trivium_core::TokenId;
use trivium_core::error::{Error, Result};

/// Trees of a batch. Node arrays have `cu_nodes[b]` entries; `parents` are local to a request.
#[derive(Debug, Clone, Default)]
pub struct TreeBatch {
    pub(crate) tokens: Vec<TokenId>,
    pub(crate) parents: Vec<i32>,
    pub(crate) depths: Vec<u16>,
    pub(crate) scores: Vec<f32>,
    /// Evidence for node `i`: `evidence[evidence_ends[i - 1]..evidence_ends[i]]`.
    pub(crate) evidence: Vec<Evidence>,
    pub(crate) evidence_ends: Vec<u32>,
    pub(crate) cu_nodes: Vec<usize>,
    /// Committed length of each request when the tree was built.
    pub(crate) lens: Vec<usize>,
    /// Identity of each request; 0 for trees of the host's own.
    pub(crate) owners: Vec<u64>,
    pub(crate) law: Option<DraftLaw>,
    pub(crate) pruning: Pruning,
    /// One a node under [`DraftLaw::Mixed`], else empty.
    pub(crate) roles: Vec<Role>,
}

/// How a host's own trees came about.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// How tokens were chosen.
    pub law: DraftLaw,
    /// What was taken away afterwards.
    pub pruning: Pruning,
    /// Under [`DraftLaw::Mixed`], how each node was chosen (node 0 counts as chosen).
    pub roles: &'a [Role],
}

impl From<DraftLaw> for Origin<'_> {
    fn from(law: DraftLaw) -> Self {
        Self { law, pruning: Pruning::None, roles: &[] }
    }
}

impl TreeBatch {
    pub(crate) fn new() -> Self {
        Self { cu_nodes: vec![0], law: Some(DraftLaw::PointMass), ..Self::default() }
    }

    /// Room for so many nodes.
    pub(crate) fn reserve(&mut self, nodes: usize) {
        self.tokens.reserve(nodes);
        self.parents.reserve(nodes);
        self.depths.reserve(nodes);
        self.scores.reserve(nodes);
        self.evidence_ends.reserve(nodes);
        self.evidence.reserve(4 * nodes);
    }

    /// A host's own trees. `lens` are the committed lengths of the requests. Under
    /// [`DraftLaw::IidQ`] siblings may repeat a token, one node a draw.
    ///
    /// # Errors
    /// `InvalidInput` for offsets or roles that do not fit or a malformed tree, `OutOfVocabulary`.
    pub fn from_arrays<'a>(
        tokens: &[TokenId],
        parents: &[i32],
        cu_nodes: &[usize],
        lens: &[usize],
        origin: impl Into<Origin<'a>>,
        vocab: usize,
    ) -> Result<Self> {
        let Origin { law, pruning, roles } = origin.into();
        let mixed = law == DraftLaw::Mixed;
        if roles.len() != if mixed { tokens.len() } else { 0 } {
            return Err(Error::input(
                "roles",
                format!(
                    "{} for {} nodes of law {:?}; mixed trees say how each node was chosen",
                    roles.len(),
                    tokens.len(),
                    law.name()
                ),
            ));
        }
        let fits = cu_nodes.first() == Some(&0)
            && cu_nodes.last() == Some(&tokens.len())
            && cu_nodes.windows(2).all(|w| w[0] < w[1])
            && cu_nodes.len() == lens.len() + 1;
        if !fits {
            return Err(Error::input(
                "cu_nodes",
                format!(
                    "offsets must rise from 0 to {} in {} steps, one a request",
                    tokens.len(),
                    lens.len()
                ),
            ));
        }
        let mut batch = Self::new();
        batch.law = Some(law);
        batch.pruning = pruning;
        batch.roles = roles.to_vec();
        for (b, w) in cu_nodes.windows(2).enumerate() {
            let span = w[0]..w[1];
            let parents = parents.get(span.clone()).unwrap_or(&[]);
            let depths =
                validate_siblings(&tokens[span.clone()], parents, vocab, law == DraftLaw::IidQ)?;
            batch.tokens.extend_from_slice(&tokens[span]);
            batch.parents.extend_from_slice(parents);
            batch.depths.extend(depths);
            batch.lens.push(lens[b]);
            batch.owners.push(0);
            batch.cu_nodes.push(batch.tokens.len());
        }
        batch.scores = vec![f32::NAN; batch.tokens.len()];
        batch.evidence_ends = vec![0; batch.tokens.len()];
        Ok(batch)
    }

    /// Number of requests.
    pub fn len(&self) -> usize {
        self.lens.len()
    }

    /// Whether the batch has no request.
    pub fn is_empty(&self) -> bool {
        self.lens.is_empty()
    }

    /// Nodes of all requests.
    pub fn num_nodes(&self) -> usize {
        self.tokens.len()
    }

    /// Token of each node; node 0 of a request is its last committed token.
    pub fn tokens(&self) -> &[TokenId] {
        &self.tokens
    }

    /// Parent of each node within its request, -1 for node 0.
    pub fn parents(&self) -> &[i32] {
        &self.parents
    }

    /// Depth of each node; node 0 has 0.
    pub fn depths(&self) -> &[u16] {
        &self.depths
    }

    /// Estimated probability that the path to a node is accepted; 1 for node 0.
    pub fn scores(&self) -> &[f32] {
        &self.scores
    }

    /// Offsets of the requests, `len + 1` entries.
    pub fn cu_nodes(&self) -> &[usize] {
        &self.cu_nodes
    }

    /// Absolute position of each node: committed length - 1 + depth.
    pub fn positions(&self) -> Vec<i32> {
        (0..self.len())
            .flat_map(|b| {
                let base = self.lens[b] as i32 - 1;
                self.depths[self.span(b)].iter().map(move |&d| base + i32::from(d))
            })
            .collect()
    }

    /// Node range of request `b`.
    pub fn span(&self, b: usize) -> std::ops::Range<usize> {
        self.cu_nodes[b]..self.cu_nodes[b + 1]
    }

    /// Ancestor matrix `[N, width]`, `width` the most nodes of a request; columns are local nodes.
    pub fn attention_mask(&self) -> (Vec<bool>, usize) {
        let width = (0..self.len()).map(|b| self.span(b).len()).max().unwrap_or(0);
        let mut out = Vec::with_capacity(self.num_nodes() * width);
        for b in 0..self.len() {
            export::ancestors(&self.parents[self.span(b)], width, &mut out);
        }
        (out, width)
    }

    /// What the sources said of a node (global index).
    pub(crate) fn evidence_of(&self, node: usize) -> &[Evidence] {
        let end = self.evidence_ends[node] as usize;
        let start = if node == 0 { 0 } else { self.evidence_ends[node - 1] as usize };
        &self.evidence[start..end]
    }
}
