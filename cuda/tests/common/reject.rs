//! Chains drawn from a law: what they are, and the answer of trivium-spec's verifiers over the processed rows.

use super::Noise;
use super::cdf::{CdfJob, Choice};
use super::job::{Buffer, Job, Memory, read, write};
use super::rows::Rows;
use trivium_core::{Chance, Draw, Keyed, Result, ScaledRow, TokenId};
use trivium_cuda::{
    AskedRow, ChainRule, DeviceSlice, Dtype, Kernel, LogitsRows, Plan, RejectChains, TargetDraw,
};
use trivium_spec::tree::DraftLaw;
use trivium_spec::verify::{Laws, Row, Tree, Verifier, Work, verify_tree};

/// Largest absolute difference of a log-probability.
const BOUND: f32 = 1e-5;

/// A batch of chains over the rows of a draw.
#[derive(Debug, Clone)]
pub struct ChainJob {
    /// The rows, in place; as many as there are nodes.
    pub draw: CdfJob,
    /// Nodes of each request, node 0 included.
    pub sizes: Vec<usize>,
    pub rule: ChainRule,
    /// A row of `q` that is no law, or a token without mass, in some request.
    pub broken_q: bool,
    /// Launch one block whatever the plan says: the kernel's loop over requests must cover the rest.
    pub one_block: bool,
}

impl ChainJob {
    fn seed_of(&self, b: usize) -> (u64, u32) {
        (self.draw.rows.seed ^ (b as u64) << 9, b as u32)
    }

    fn spans(&self) -> Vec<std::ops::Range<usize>> {
        let mut begin = 0;
        self.sizes
            .iter()
            .map(|n| {
                begin += n;
                begin - n..begin
            })
            .collect()
    }

    /// What row `r` is asked: the rows' law at the chain's own addresses.
    fn asked(&self, b: usize, depth: usize, r: usize) -> AskedRow {
        let (seed, branch) = self.seed_of(b);
        AskedRow { seed, index: 40 + depth as u32, branch, ..self.draw.rows.row(r).asked }
    }

    /// Draft probabilities, near the target's, some of them 0.
    fn q(&self, logits: &[u32]) -> Vec<f32> {
        let mut noise = Noise(self.draw.rows.seed ^ 0xABCD);
        let vocab = self.draw.rows.vocab;
        // A good drafter and a poor one.
        let power = [0.7, 0.2][(self.draw.rows.seed / 2 % 2) as usize];
        let mut q = Vec::new();
        for r in 0..self.draw.rows.rows() {
            let row = self.draw.rows.penalised(logits, r).map(|(_, row)| row);
            let row = row.unwrap_or_else(|_| vec![0.0; vocab]);
            let max = row.iter().copied().fold(f32::MIN, f32::max);
            let mut weights: Vec<f64> = row
                .iter()
                .map(|x| {
                    let near =
                        f64::from((x - max).max(-30.0) * power) + f64::from(noise.next() % 5) * 0.3;
                    if noise.next().is_multiple_of(9) { 0.0 } else { near.exp() }
                })
                .collect();
            if weights.iter().sum::<f64>() == 0.0 {
                weights[0] = 1.0;
            }
            let total: f64 = weights.iter().sum();
            q.extend(weights.iter().map(|w| (w / total) as f32));
        }
        if self.broken_q {
            match self.draw.rows.seed % 4 {
                0 => q[vocab / 2] = f32::NAN,
                // The sum stays one.
                1 => {
                    q[0] += q[vocab / 3] + 0.25;
                    q[vocab / 3] = -0.25;
                }
                2 => q[..vocab].iter_mut().for_each(|w| *w *= 0.9),
                _ => {} // a draft without mass: see `tokens`
            }
        }
        q
    }

    /// Node 0s are anything; drafts are drawn from `q`, but for one without mass where that is asked for.
    fn tokens(&self, q: &[f32]) -> Vec<u32> {
        let mut noise = Noise(self.draw.rows.seed ^ 0x77);
        let vocab = self.draw.rows.vocab;
        let mut tokens = vec![0; self.draw.rows.rows()];
        for span in self.spans() {
            for node in span.clone().skip(1) {
                let row = &q[(node - 1) * vocab..node * vocab];
                let u = noise.next() as f32 / 4.3e9;
                let mut sum = 0.0;
                let drawn = row.iter().position(|w| {
                    sum += w;
                    sum > u
                });
                let any = || row.iter().position(|w| *w > 0.0).unwrap_or(0);
                tokens[node] = drawn.unwrap_or_else(any) as u32;
            }
        }
        let massless = (0..vocab).find(|&t| q[t] == 0.0);
        if let (true, 3, Some(t)) = (self.broken_q, self.draw.rows.seed % 4, massless)
            && self.sizes[0] > 1
        {
            tokens[1] = t as u32;
        }
        tokens
    }

    fn args(&self, at: &[u64]) -> RejectChains {
        let nodes = self.draw.rows.rows();
        let slice = |i: usize, len: usize| DeviceSlice { address: at[i], len };
        let target = match self.draw.choice {
            Choice::Race => TargetDraw::Race(self.draw.race(at)),
            _ => TargetDraw::Cdf(self.draw.args(at)),
        };
        let vocab = self.draw.rows.vocab;
        let mut args = RejectChains {
            target,
            q: LogitsRows {
                logits: slice(13, nodes * vocab),
                dtype: Dtype::F32,
                rows: nodes,
                vocab,
                stride: vocab,
            },
            tokens: slice(14, nodes),
            cu_nodes: slice(15, self.sizes.len() + 1),
            requests: self.sizes.len(),
            rule: self.rule,
            workspace: slice(16, 0),
            tokens_out: slice(17, nodes),
            log_probs_out: slice(18, nodes),
            counts: slice(19, self.sizes.len()),
            status: slice(20, self.sizes.len()),
        };
        args.workspace.len = args.workspace();
        args
    }
}

/// The rows of one request, processed on the CPU.
struct ChainLaws<'a> {
    job: &'a ChainJob,
    logits: &'a [u32],
    q: &'a [f32],
    first: usize,
    row: ScaledRow,
    weights: Vec<f32>,
}

impl ChainLaws<'_> {
    fn load(&mut self, node: usize) -> Result<()> {
        let law = self.job.draw.law(self.logits, self.first + node);
        self.row = law
            .map_err(|status| trivium_core::Error::input("row", format!("has status {status}")))?;
        Ok(())
    }
}

impl Laws for ChainLaws<'_> {
    fn vocab(&self) -> usize {
        self.job.draw.rows.vocab
    }

    fn p(&mut self, node: usize, _: &[TokenId]) -> Result<Row<'_>> {
        self.load(node)?;
        let total = self.row.weights_into(&mut self.weights);
        Ok(Row::new(&self.weights, total))
    }

    fn both(&mut self, node: usize, _: &[TokenId]) -> Result<(Row<'_>, Row<'_>)> {
        self.load(node)?;
        let total = self.row.weights_into(&mut self.weights);
        let (vocab, r) = (self.job.draw.rows.vocab, self.first + node);
        let q = Row::checked(&self.q[r * vocab..(r + 1) * vocab], "q", r)?;
        Ok((Row::new(&self.weights, total), q))
    }

    fn target(
        &mut self,
        node: usize,
        _: &[TokenId],
        index: u32,
        chance: &mut dyn Chance,
    ) -> Result<(TokenId, f32)> {
        self.load(node)?;
        let draw = if self.job.draw.choice == Choice::Race { Draw::Race } else { Draw::Cdf };
        let token = chance.target(index, draw, &mut self.row);
        Ok((token, self.row.log_prob(token)))
    }
}

impl Job for ChainJob {
    fn buffers(&self) -> Vec<Buffer> {
        let (nodes, requests) = (self.draw.rows.rows(), self.sizes.len());
        let q = self.q(&self.draw.rows.logits());
        let mut buffers = self.draw.buffers();
        let mut asked = Vec::new();
        for (b, span) in self.spans().into_iter().enumerate() {
            let first = span.start;
            asked.extend(span.flat_map(|r| self.asked(b, r - first, r).words()));
        }
        buffers[3] = read(c"asked", Memory::U64(asked));
        let mut cu = vec![0i32];
        self.spans().iter().for_each(|s| cu.push(s.end as i32));
        buffers.extend([
            read(c"q", Memory::f32(&q)),
            read(c"drafts", Memory::U32(self.tokens(&q))),
            read(c"cu_nodes", Memory::i32(&cu)),
            write(c"sums", Memory::U64(vec![u64::MAX; self.args(&[8; 21]).workspace.len])),
            write(c"tokens_out", Memory::U32(vec![0xDEAD; nodes])),
            write(c"log_probs_out", Memory::U32(vec![0xDEAD; nodes])),
            write(c"counts", Memory::U32(vec![0xDEAD; requests])),
            write(c"chain status", Memory::U32(vec![0xDEAD; requests])),
        ]);
        buffers
    }

    fn kernel(&self, at: &[u64]) -> Box<dyn Kernel> {
        Box::new(self.args(at))
    }

    fn plans(&self, at: &[u64]) -> Vec<Plan> {
        let mut plans = self.kernel(at).plan().unwrap();
        if self.one_block
            && let Some(last) = plans.last_mut()
        {
            last.grid = [1, 1, 1];
        }
        plans
    }

    fn check(&self, after: &[Buffer]) -> std::result::Result<(), String> {
        let logits = self.draw.rows.logits();
        let q = self.q(&logits);
        let tokens = self.tokens(&q);
        let (found, log_probs) = (after[17].memory.i32s(), after[18].memory.f32s());
        let (counts, status) = (after[19].memory.i32s(), after[20].memory.u32s());
        let rule = match self.rule {
            ChainRule::Token => Verifier::Token,
            ChainRule::Block => Verifier::Block,
        };
        for (b, span) in self.spans().into_iter().enumerate() {
            let parents: Vec<i32> = (-1..span.len() as i32 - 1).collect();
            let tree = Tree {
                tokens: &tokens[span.clone()],
                parents: &parents,
                roles: &[],
                law: DraftLaw::IidQ,
                start: 40,
                bonus: true,
            };
            let mut laws = ChainLaws {
                job: self,
                logits: &logits,
                q: &q,
                first: span.start,
                row: ScaledRow::new(),
                weights: Vec::new(),
            };
            let (seed, branch) = self.seed_of(b);
            let mut chance = Keyed::new(seed, branch);
            let walk = verify_tree(rule, &tree, &mut laws, &mut chance, &mut Work::default());
            let Ok(walk) = walk else {
                if counts[b] != -1 || status[b] == 0 {
                    let why = format!("request {b}: count {}, status {}", counts[b], status[b]);
                    return Err(format!("{why}, the twin refuses it"));
                }
                continue;
            };
            if (counts[b], status[b]) != (walk.nodes.len() as i32, 0) {
                let (count, status) = (counts[b], status[b]);
                let want = walk.nodes.len();
                return Err(format!("request {b}: {count} with status {status}, the twin {want}"));
            }
            for (i, (&token, &log_prob)) in walk.tokens.iter().zip(&walk.logprobs).enumerate() {
                let at = span.start + i;
                let apart = (log_probs[at] - log_prob).abs();
                if found[at] != token.cast_signed()
                    || (log_probs[at] != log_prob && (apart > BOUND || apart.is_nan()))
                {
                    return Err(format!(
                        "request {b}, token {i}: {:?}, the twin has {:?}",
                        (found[at], log_probs[at]),
                        (token, log_prob)
                    ));
                }
            }
        }
        Ok(())
    }

    fn seed(&self) -> u64 {
        self.draw.rows.seed
    }
}

/// Chains around every border, of both rules and draws.
pub fn chain_jobs() -> Vec<ChainJob> {
    let mut jobs = Vec::new();
    for (i, &vocab) in [1usize, 7, 31, 33, 255, 257, 600].iter().enumerate() {
        for k in 0..if vocab == 1 { 2 } else { 22 } {
            let seed = (i * 23 + k) as u64;
            let sizes = [vec![12], vec![5, 1], vec![3, 1, 9], vec![9, 8]][(i + k / 3) % 4].clone();
            let rows = Rows {
                // Planted bugs are compiled for bf16.
                dtype: [Dtype::F32, Dtype::Bf16, Dtype::F16, Dtype::Bf16][k % 4],
                vocab,
                padding: [0, 3, 8][(i + k) % 3],
                lead: k % 9,
                logits_rows: sizes.iter().sum(),
                indices: None,
                mask_words: (k % 5 == 4).then(|| trivium_core::mask::words(vocab)),
                seen: (k % 4 == 3).then_some(20),
                spread: [1, 4][k / 2 % 2],
                broken: k == 12 || k == 15,
                seed,
            };
            let choice = if k % 4 < 2 { Choice::Cdf } else { Choice::Race };
            jobs.push(ChainJob {
                draw: CdfJob { rows, truncate: k % 6 == 5, choice, one_block: false },
                sizes,
                rule: if (i + k / 2) % 2 == 0 { ChainRule::Token } else { ChainRule::Block },
                broken_q: k % 8 == 5,
                one_block: seed.is_multiple_of(3),
            });
        }
    }
    // Flat rows and long chains: paths of weight below one that are kept and end, whose residual is no plain one.
    for seed in 1_000..1_008 {
        let rows = Rows {
            dtype: Dtype::Bf16,
            vocab: 40,
            padding: 0,
            lead: 0,
            logits_rows: 60,
            indices: None,
            mask_words: None,
            seen: None,
            spread: 1,
            broken: false,
            seed,
        };
        jobs.push(ChainJob {
            draw: CdfJob { rows, truncate: false, choice: Choice::Cdf, one_block: false },
            sizes: vec![10; 6],
            rule: ChainRule::Block,
            broken_q: false,
            one_block: false,
        });
    }
    jobs
}

impl ChainJob {
    /// Vocabularies of real models.
    pub fn large() -> Vec<Self> {
        [(50_257, ChainRule::Block, vec![3, 1]), (128_256, ChainRule::Token, vec![2])]
            .into_iter()
            .map(|(vocab, rule, sizes)| Self {
                draw: CdfJob {
                    rows: Rows {
                        dtype: Dtype::Bf16,
                        vocab,
                        padding: 3,
                        lead: 1,
                        logits_rows: sizes.iter().sum(),
                        indices: None,
                        mask_words: None,
                        seen: Some(30),
                        spread: 20,
                        broken: false,
                        seed: vocab as u64,
                    },
                    truncate: false,
                    choice: Choice::Cdf,
                    one_block: false,
                },
                sizes,
                rule,
                broken_q: false,
                one_block: false,
            })
            .collect()
    }
}
