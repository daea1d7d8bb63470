//! Drafted chains in device memory, verified against the law they were drawn from: token by token, or as a block.
//!
//! Twins: the verifiers `token` and `block` of trivium-spec; the same tests, residual draws and noise. Kernel and
//! reasons: `cuda/kernels/reject.cu`. One launch behind those of the target's own draws.

use crate::asked::AskedRows;
use crate::cdf::CdfDraw;
use crate::plan::{Kernel, LogitsRows, MAX_BLOCKS, Plan, by_dtype, check_slice, small};
use crate::race::RaceDraw;
use crate::{DeviceSlice, Dtype};
use std::ffi::CStr;
use trivium_core::{Error, Result};

/// Entries of the kernel file, as the PTX names them.
pub(crate) const ENTRIES: &[&CStr] =
    &[c"reject_chains_f32", c"reject_chains_f16", c"reject_chains_bf16"];

/// Tokens that one warp weighs: trivium-core's frozen block.
const BLOCK: usize = trivium_core::numerics::BLOCK;
const THREADS: u32 = 256;

/// Which test decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainRule {
    /// Each token by itself (Leviathan et al., Chen et al.).
    Token = 0,
    /// The whole block ("Block Verification Accelerates Speculative Decoding").
    Block = 1,
}

/// The target's own draw of every row.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::large_enum_variant, reason = "one a call, and plain data as every kernel")]
pub enum TargetDraw {
    /// By inverse CDF.
    Cdf(CdfDraw),
    /// By race.
    Race(RaceDraw),
}

impl TargetDraw {
    /// Where its tokens, log-probabilities and status stand.
    pub fn cdf(&self) -> &CdfDraw {
        match self {
            Self::Cdf(cdf) => cdf,
            Self::Race(race) => &race.cdf,
        }
    }
}

impl Kernel for TargetDraw {
    fn plan(&self) -> Result<Vec<Plan>> {
        match self {
            Self::Cdf(cdf) => cdf.plan(),
            Self::Race(race) => race.plan(),
        }
    }
}

/// Verification of a batch of chains, CSR: request `b` owns nodes and rows `cu_nodes[b]` to `cu_nodes[b + 1]`, node
/// `i + 1` is the child of node `i`, node 0 is the last committed token.
#[derive(Debug, Clone, Copy)]
pub struct RejectChains {
    /// Law and noise of each node's row, and where the target's own draw goes; its rows are the nodes, in order.
    pub target: TargetDraw,
    /// f32 rows of draft probabilities: row `i` is the law that the child of node `i` was drawn from.
    pub q: LogitsRows,
    /// int32 \[nodes\]: the drafted tokens.
    pub tokens: DeviceSlice,
    /// int32 \[`requests` + 1\], ascending from 0 to the nodes.
    pub cu_nodes: DeviceSlice,
    /// Requests.
    pub requests: usize,
    /// Which test decides.
    pub rule: ChainRule,
    /// f64: scratch memory, [`workspace`](Self::workspace) words; need not be cleared.
    pub workspace: DeviceSlice,
    /// int32 \[nodes\], out: committed tokens of a request from its first node's place on.
    pub tokens_out: DeviceSlice,
    /// f32 \[nodes\], out: their log-probabilities under the processed law.
    pub log_probs_out: DeviceSlice,
    /// int32 \[`requests`\], out: drafts accepted, one fewer than tokens committed; -1 where status is not 0.
    pub counts: DeviceSlice,
    /// u32 \[`requests`\], out: 0, or what a row that the walk read was: as [`Race::status`](crate::Race::status), 16 a
    /// row of `q` is no law, 32 a drafted token has no mass under it, 64 the target's own draw is missing.
    pub status: DeviceSlice,
}

impl RejectChains {
    fn rows(&self) -> &AskedRows {
        &self.target.cdf().rows
    }

    fn thread_blocks(&self) -> usize {
        self.requests.min(MAX_BLOCKS as usize)
    }

    /// Words of scratch memory that this needs.
    pub fn workspace(&self) -> usize {
        self.thread_blocks().saturating_mul(self.rows().rows.logits.vocab.div_ceil(BLOCK))
    }
}

impl Kernel for RejectChains {
    fn plan(&self) -> Result<Vec<Plan>> {
        let rows = self.rows().rows;
        let nodes = rows.rows;
        let requests = small("requests", self.requests)?;
        let (q_rows, q_vocab) = self.q.check()?;
        if self.q.dtype != Dtype::F32 || q_rows as usize != nodes {
            return Err(Error::input("q", format!("{q_rows} rows; {nodes} of float32 are needed")));
        }
        if q_vocab as usize != rows.logits.vocab {
            return Err(Error::input("q", "has another width than the logits"));
        }
        for (what, slice) in [
            ("tokens", self.tokens),
            ("tokens_out", self.tokens_out),
            ("log_probs_out", self.log_probs_out),
        ] {
            check_slice(what, slice, Some(nodes), 4)?;
        }
        check_slice("cu_nodes", self.cu_nodes, self.requests.checked_add(1), 4)?;
        check_slice("counts", self.counts, Some(self.requests), 4)?;
        check_slice("status", self.status, Some(self.requests), 4)?;
        check_slice("workspace", self.workspace, Some(self.workspace()), 8)?;
        let mut plans = self.target.plan()?;
        if requests == 0 || nodes == 0 {
            return Ok(plans);
        }
        let cdf = self.target.cdf();
        let entry = by_dtype(ENTRIES, rows.logits.dtype);
        let grid = [self.thread_blocks() as u32, 1, 1];
        let plan = self.rows().addresses(Plan::new(entry, grid, THREADS));
        let plan = rows
            .numbers(plan)
            .slice(cdf.floors())
            .wide(self.q.logits.address)
            .wide(self.q.stride as u64)
            .wide(self.tokens.address)
            .wide(self.cu_nodes.address)
            .wide(cdf.tokens.address)
            .wide(cdf.log_probs.address)
            .wide(self.workspace.address)
            .wide(self.tokens_out.address)
            .wide(self.log_probs_out.address)
            .wide(self.counts.address)
            .wide(self.status.address)
            .word(requests)
            .word(self.rule as u32);
        plans.push(plan);
        Ok(plans)
    }
}
