//! Draft trees in device memory: verification from one sampled id a node, and the attention mask.
//!
//! Twins: the sampled-verify walk of trivium-spec and its tree masks; every integer equal. Kernels and reasons:
//! `cuda/kernels/tree.cu`. After [`race`](crate::race) over all rows, [`TreeWalk`] verifies a batch without a logit
//! leaving the device: two launches, then one.

use crate::DeviceSlice;
use crate::plan::{Kernel, MAX_BLOCKS, MAX_Y, Plan, check_slice, check_some, small};
use std::ffi::CStr;
use trivium_core::{Error, Result};

/// Entries of the kernel file, as the PTX names them.
pub(crate) const ENTRIES: &[&CStr] = &[c"tree_walk", c"tree_mask", c"tree_pack"];

const MASK_THREADS: u32 = 128;
const PACK_THREADS: u32 = 256;

/// A batch of trees, CSR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trees {
    /// Requests.
    pub requests: usize,
    /// Nodes of all requests, node 0 of each included.
    pub nodes: usize,
    /// int32 \[`nodes`\]: parents, local to the request; node 0 has -1, others have a smaller node.
    pub parents: DeviceSlice,
    /// int32 \[`requests` + 1\]: where each request's nodes begin; ascending from 0 to `nodes`.
    pub cu_nodes: DeviceSlice,
}

impl Trees {
    fn check(&self) -> Result<u32> {
        small("nodes", self.nodes)?;
        check_slice("parents", self.parents, Some(self.nodes), 4)?;
        check_slice("cu_nodes", self.cu_nodes, self.requests.checked_add(1), 4)?;
        small("requests", self.requests)
    }
}

/// Verification of a batch by ids: the longest path of drafts that equal what was sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeWalk {
    /// The trees.
    pub trees: Trees,
    /// int32 \[`nodes`\]: the drafted tokens.
    pub tokens: DeviceSlice,
    /// int32 \[`nodes`\]: the id sampled from each row; -1: not computed.
    pub sampled: DeviceSlice,
    /// f32 \[`nodes`\]: log-probability of each sampled id; `None`: none are asked for.
    pub log_probs: Option<DeviceSlice>,
    /// f32 \[`nodes`\], out: those of the committed tokens, beside them. Not written without `log_probs`.
    pub log_probs_out: DeviceSlice,
    /// int32 \[`nodes`\], out: committed tokens of a request from its first node's place on.
    pub tokens_out: DeviceSlice,
    /// int32 \[`nodes`\], out: nodes whose cache entries stay, node 0 first.
    pub kv_gather: DeviceSlice,
    /// int32 \[`requests`\], out: drafts accepted, one fewer than tokens committed; -1 where status is not 0.
    pub counts: DeviceSlice,
    /// u32 \[`requests`\], out: 0, or 1 if the walk came to a row that was not sampled.
    pub status: DeviceSlice,
}

impl Kernel for TreeWalk {
    fn plan(&self) -> Result<Vec<Plan>> {
        let requests = self.trees.check()?;
        for (what, slice) in [
            ("tokens", self.tokens),
            ("sampled", self.sampled),
            ("tokens_out", self.tokens_out),
            ("kv_gather", self.kv_gather),
        ] {
            check_slice(what, slice, Some(self.trees.nodes), 4)?;
        }
        if self.log_probs.is_some() {
            check_some("log_probs", self.log_probs, Some(self.trees.nodes), 4)?;
            check_slice("log_probs_out", self.log_probs_out, Some(self.trees.nodes), 4)?;
        }
        check_slice("counts", self.counts, Some(self.trees.requests), 4)?;
        check_slice("status", self.status, Some(self.trees.requests), 4)?;
        if requests == 0 {
            return Ok(Vec::new());
        }
        let plan = Plan::new(ENTRIES[0], [requests.min(MAX_BLOCKS), 1, 1], 32)
            .wide(self.tokens.address)
            .wide(self.trees.parents.address)
            .wide(self.trees.cu_nodes.address)
            .wide(self.sampled.address)
            .slice(self.log_probs)
            .wide(self.tokens_out.address)
            .wide(self.kv_gather.address)
            .wide(self.log_probs_out.address)
            .wide(self.counts.address)
            .wide(self.status.address)
            .word(requests);
        Ok(vec![plan])
    }
}

/// What walks left, without gaps: what a host gathers its cache by, and reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreePack {
    /// Requests.
    pub requests: usize,
    /// Nodes of all requests.
    pub nodes: usize,
    /// int32 \[`requests` + 1\]: as [`Trees::cu_nodes`].
    pub cu_nodes: DeviceSlice,
    /// int32 \[`requests`\]: drafts accepted; -1 has no tokens.
    pub counts: DeviceSlice,
    /// int32 \[`nodes`\]: committed tokens of a request from its first node's place on.
    pub tokens: DeviceSlice,
    /// int32 \[`nodes`\]: nodes of the paths, likewise; `None`: chains.
    pub gather: Option<DeviceSlice>,
    /// f32 \[`nodes`\]: log-probabilities, likewise.
    pub log_probs: Option<DeviceSlice>,
    /// int32 \[`requests` + 1\], out: offsets into what follows.
    pub cu_tokens: DeviceSlice,
    /// int32 \[`nodes`\], out: the tokens.
    pub tokens_out: DeviceSlice,
    /// int32 \[`nodes`\], out: local nodes whose cache entries stay, node 0 first.
    pub gather_out: Option<DeviceSlice>,
    /// int32 \[`nodes`\], out: the same as rows of the batch.
    pub rows_out: Option<DeviceSlice>,
    /// f32 \[`nodes`\], out: log-probabilities.
    pub log_probs_out: Option<DeviceSlice>,
}

impl Kernel for TreePack {
    fn plan(&self) -> Result<Vec<Plan>> {
        let requests = small("requests", self.requests)?;
        small("nodes", self.nodes)?;
        let (nodes, offsets) = (Some(self.nodes), self.requests.checked_add(1));
        check_slice("cu_nodes", self.cu_nodes, offsets, 4)?;
        check_slice("counts", self.counts, Some(self.requests), 4)?;
        check_slice("tokens", self.tokens, nodes, 4)?;
        check_some("gather", self.gather, nodes, 4)?;
        check_some("log_probs", self.log_probs, nodes, 4)?;
        check_slice("cu_tokens", self.cu_tokens, offsets, 4)?;
        check_slice("tokens_out", self.tokens_out, nodes, 4)?;
        check_some("gather_out", self.gather_out, nodes, 4)?;
        check_some("rows_out", self.rows_out, nodes, 4)?;
        check_some("log_probs_out", self.log_probs_out, nodes, 4)?;
        if self.log_probs_out.is_some() && self.log_probs.is_none() {
            return Err(Error::input("log_probs", "are asked for and not given"));
        }
        let plan = Plan::new(ENTRIES[2], [1, 1, 1], PACK_THREADS)
            .wide(self.cu_nodes.address)
            .wide(self.counts.address)
            .wide(self.tokens.address)
            .slice(self.gather)
            .slice(self.log_probs)
            .wide(self.cu_tokens.address)
            .wide(self.tokens_out.address)
            .slice(self.gather_out)
            .slice(self.rows_out)
            .slice(self.log_probs_out)
            .word(requests);
        Ok(vec![plan])
    }
}

/// The attention mask of a batch: ancestors and the node itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeMask {
    /// The trees.
    pub trees: Trees,
    /// Columns of the mask: at least the nodes of the largest tree, or what lies beyond is cut off.
    pub width: usize,
    /// bool (one byte each) \[`nodes`, `width`\], out.
    pub out: DeviceSlice,
}

impl Kernel for TreeMask {
    fn plan(&self) -> Result<Vec<Plan>> {
        let requests = self.trees.check()?;
        let width = small("width", self.width)?;
        if width == 0 && self.trees.nodes > 0 {
            return Err(Error::input("width", "a mask needs a column"));
        }
        check_slice("out", self.out, self.trees.nodes.checked_mul(self.width), 1)?;
        if self.trees.nodes == 0 || requests == 0 {
            return Ok(Vec::new());
        }
        let x = width.div_ceil(MASK_THREADS).min(MAX_BLOCKS);
        let plan = Plan::new(ENTRIES[1], [x, requests.min(MAX_Y), 1], MASK_THREADS)
            .wide(self.trees.parents.address)
            .wide(self.trees.cu_nodes.address)
            .wide(self.out.address)
            .word(requests)
            .word(width);
        Ok(vec![plan])
    }
}
