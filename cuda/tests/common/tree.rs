//! Trees: random shapes, and the walk and the mask by their definitions.

use super::Noise;
use super::job::{Buffer, Job, Memory, read, write};
use trivium_cuda::{DeviceSlice, Kernel, TreeMask, TreePack, TreeWalk, Trees};

/// Random trees, CSR.
#[derive(Debug, Clone)]
pub struct Forest {
    pub parents: Vec<i32>,
    pub tokens: Vec<i32>,
    pub sampled: Vec<i32>,
    pub cu_nodes: Vec<i32>,
}

impl Forest {
    /// Trees of these sizes over a few tokens, so that paths are long; `unsampled`: some rows have no id.
    pub fn new(sizes: &[usize], unsampled: bool, seed: u64) -> Self {
        let mut noise = Noise(seed);
        let mut forest =
            Self { parents: vec![], tokens: vec![], sampled: vec![], cu_nodes: vec![0] };
        for &size in sizes {
            for node in 0..size as i32 {
                // Mostly long chains, with siblings that differ.
                let parent = match node {
                    0 => -1,
                    n if noise.next() % 4 < 3 => n - 1,
                    n => (noise.next() % n.cast_unsigned()).cast_signed(),
                };
                let begin = forest.cu_nodes[forest.cu_nodes.len() - 1] as usize;
                let taken: Vec<i32> = (begin..forest.parents.len())
                    .filter(|&i| node > 0 && forest.parents[i] == parent)
                    .map(|i| forest.tokens[i])
                    .collect();
                let first = (noise.next() % 5).cast_signed();
                let token = (first..first + 300).find(|t| !taken.contains(t)).unwrap();
                forest.parents.push(parent);
                forest.tokens.push(token);
                let blank = unsampled && noise.next().is_multiple_of(6);
                forest.sampled.push(if blank { -1 } else { (noise.next() % 6).cast_signed() });
            }
            forest.cu_nodes.push(forest.parents.len() as i32);
        }
        // Let most rows sample one of their children.
        for window in forest.cu_nodes.clone().windows(2) {
            for i in window[0] + 1..window[1] {
                let parent = (window[0] + forest.parents[i as usize]) as usize;
                if forest.sampled[parent] >= 0 && noise.next() % 4 < 3 {
                    forest.sampled[parent] = forest.tokens[i as usize];
                }
            }
        }
        forest
    }

    fn trees(&self, parents: u64, cu_nodes: u64) -> Trees {
        let (requests, nodes) = (self.cu_nodes.len() - 1, self.parents.len());
        Trees {
            requests,
            nodes,
            parents: DeviceSlice { address: parents, len: nodes },
            cu_nodes: DeviceSlice { address: cu_nodes, len: requests + 1 },
        }
    }
}

/// Verification of a forest.
#[derive(Debug, Clone)]
pub struct WalkJob(pub Forest, pub u64);

impl WalkJob {
    fn args(&self, at: &[u64]) -> TreeWalk {
        let forest = &self.0;
        let nodes = forest.parents.len();
        let requests = forest.cu_nodes.len() - 1;
        let slice = |i: usize, len: usize| DeviceSlice { address: at[i], len };
        TreeWalk {
            trees: forest.trees(at[1], at[2]),
            tokens: slice(0, nodes),
            sampled: slice(3, nodes),
            // Every other walk is asked for them.
            log_probs: self.1.is_multiple_of(2).then(|| slice(8, nodes)),
            log_probs_out: slice(9, nodes),
            tokens_out: slice(4, nodes),
            kv_gather: slice(5, nodes),
            counts: slice(6, requests),
            status: slice(7, requests),
        }
    }
}

impl Job for WalkJob {
    fn buffers(&self) -> Vec<Buffer> {
        let forest = &self.0;
        let (nodes, requests) = (forest.parents.len(), forest.cu_nodes.len() - 1);
        vec![
            read(c"tokens", Memory::i32(&forest.tokens)),
            read(c"parents", Memory::i32(&forest.parents)),
            read(c"cu_nodes", Memory::i32(&forest.cu_nodes)),
            read(c"sampled", Memory::i32(&forest.sampled)),
            write(c"tokens_out", Memory::U32(vec![0xDEAD; nodes])),
            write(c"kv_gather", Memory::U32(vec![0xDEAD; nodes])),
            write(c"counts", Memory::U32(vec![0xDEAD; requests])),
            write(c"status", Memory::U32(vec![0xDEAD; requests])),
            read(c"log_probs", Memory::U32((0..nodes as u32).map(|i| i * 3).collect())),
            write(c"log_probs_out", Memory::U32(vec![0xDEAD; nodes])),
        ]
    }

    fn kernel(&self, at: &[u64]) -> Box<dyn Kernel> {
        Box::new(self.args(at))
    }

    fn check(&self, after: &[Buffer]) -> Result<(), String> {
        let forest = &self.0;
        for (b, window) in forest.cu_nodes.windows(2).enumerate() {
            let (begin, end) = (window[0] as usize, window[1] as usize);
            let (mut node, mut path, mut out) = (0, vec![0], vec![]);
            let status = loop {
                let token = forest.sampled[begin + node];
                out.push(token);
                if token < 0 {
                    break 1;
                }
                let next = (begin..end).find(|&i| {
                    forest.parents[i] == node as i32 && forest.tokens[i] == token && i > begin
                });
                let Some(next) = next else { break 0 };
                node = next - begin;
                path.push(node as i32);
            };
            let count = if status == 0 { path.len() as i32 - 1 } else { -1 };
            let found = (after[6].memory.i32s()[b], after[7].memory.u32s()[b]);
            if found != (count, status) {
                return Err(format!("request {b}: {found:?}, the twin has {:?}", (count, status)));
            }
            if self.1.is_multiple_of(2) {
                let want: Vec<u32> =
                    path.iter().map(|&n| 3 * (begin as u32 + n.cast_unsigned())).collect();
                let found = &after[9].memory.u32s()[begin..begin + path.len()];
                if found != want {
                    return Err(format!("request {b}: log-probabilities {found:?}, not {want:?}"));
                }
            }
            let from = |i: usize, n: usize| after[i].memory.i32s()[begin..begin + n].to_vec();
            if from(4, out.len()) != out || from(5, path.len()) != path {
                return Err(format!(
                    "request {b}: {:?}, the twin has {path:?}",
                    from(5, path.len())
                ));
            }
        }
        Ok(())
    }

    fn seed(&self) -> u64 {
        self.1
    }
}

/// Answers of walks over trees of these sizes, packed; some requests have none.
#[derive(Debug, Clone)]
pub struct PackJob {
    pub sizes: Vec<usize>,
    /// A chain's walk, which gathers nothing and has no log-probabilities.
    pub chain: bool,
    pub seed: u64,
}

impl PackJob {
    fn counts(&self) -> Vec<i32> {
        let mut noise = Noise(self.seed);
        let count = |&n: &usize| match noise.next() % 5 {
            0 => -1,
            _ => (noise.next() % n as u32).cast_signed(),
        };
        self.sizes.iter().map(count).collect()
    }

    fn cu_nodes(&self) -> Vec<i32> {
        let mut cu = vec![0];
        self.sizes.iter().for_each(|&n| cu.push(cu[cu.len() - 1] + n as i32));
        cu
    }

    fn nodes(&self) -> usize {
        self.sizes.iter().sum()
    }
}

impl Job for PackJob {
    fn buffers(&self) -> Vec<Buffer> {
        let (nodes, requests) = (self.nodes(), self.sizes.len());
        let blank = || Memory::U32(vec![0xDEAD; nodes]);
        let table = |k: u32| Memory::U32((0..nodes as u32).map(|i| k + 7 * i).collect());
        vec![
            read(c"cu_nodes", Memory::i32(&self.cu_nodes())),
            read(c"counts", Memory::i32(&self.counts())),
            read(c"tokens", table(1)),
            read(c"gather", table(2)),
            read(c"log_probs", table(3)),
            write(c"cu_tokens", Memory::U32(vec![0xDEAD; requests + 1])),
            write(c"tokens_out", blank()),
            write(c"gather_out", blank()),
            write(c"rows_out", blank()),
            write(c"log_probs_out", blank()),
        ]
    }

    fn kernel(&self, at: &[u64]) -> Box<dyn Kernel> {
        let (nodes, requests) = (self.nodes(), self.sizes.len());
        let slice = |i: usize, len: usize| DeviceSlice { address: at[i], len };
        let tree = |i: usize| (!self.chain).then(|| slice(i, nodes));
        Box::new(TreePack {
            requests,
            nodes,
            cu_nodes: slice(0, requests + 1),
            counts: slice(1, requests),
            tokens: slice(2, nodes),
            gather: tree(3),
            log_probs: tree(4),
            cu_tokens: slice(5, requests + 1),
            tokens_out: slice(6, nodes),
            gather_out: tree(7),
            rows_out: Some(slice(8, nodes)),
            log_probs_out: tree(9),
        })
    }

    fn check(&self, after: &[Buffer]) -> Result<(), String> {
        let (mut cu, mut lists) = (vec![0], [vec![], vec![], vec![], vec![]]);
        for (b, &count) in self.counts().iter().enumerate() {
            let begin = self.cu_nodes()[b];
            for i in 0..=count {
                let at = (begin + i).cast_unsigned();
                let node = if self.chain { i } else { (2 + 7 * at).cast_signed() };
                lists[0].push(1 + 7 * at);
                lists[1].push(node.cast_unsigned());
                lists[2].push((begin + node).cast_unsigned());
                lists[3].push(3 + 7 * at);
            }
            cu.push(lists[0].len() as i32);
        }
        if after[5].memory.i32s() != cu {
            return Err(format!("offsets {:?}, not {cu:?}", after[5].memory.i32s()));
        }
        for (k, list) in lists.into_iter().enumerate() {
            let mut want = list;
            if self.chain && k % 2 == 1 {
                want.clear(); // not asked for
            }
            want.resize(self.nodes(), 0xDEAD);
            if after[6 + k].memory.u32s() != want {
                return Err(format!("list {k}: {:?}, not {want:?}", after[6 + k].memory));
            }
        }
        Ok(())
    }

    fn seed(&self) -> u64 {
        self.seed
    }
}

/// Requests around every border of the scan.
pub fn pack_jobs() -> Vec<PackJob> {
    [1usize, 2, 31, 33, 256, 257, 600]
        .into_iter()
        .enumerate()
        .map(|(i, n)| PackJob {
            sizes: (0..n).map(|b| 1 + (b * 13 + i) % if n < 9 { 70 } else { 5 }).collect(),
            chain: i % 2 == 1,
            seed: i as u64,
        })
        .collect()
}

/// The attention mask of a forest, this wide.
#[derive(Debug, Clone)]
pub struct MaskJob(pub Forest, pub usize, pub u64);

impl MaskJob {
    fn args(&self, at: &[u64]) -> TreeMask {
        let out = DeviceSlice { address: at[2], len: self.0.parents.len() * self.1 };
        TreeMask { trees: self.0.trees(at[0], at[1]), width: self.1, out }
    }
}

impl Job for MaskJob {
    fn buffers(&self) -> Vec<Buffer> {
        vec![
            read(c"parents", Memory::i32(&self.0.parents)),
            read(c"cu_nodes", Memory::i32(&self.0.cu_nodes)),
            write(c"out", Memory::U8(vec![7; self.0.parents.len() * self.1])),
        ]
    }

    fn kernel(&self, at: &[u64]) -> Box<dyn Kernel> {
        Box::new(self.args(at))
    }

    fn check(&self, after: &[Buffer]) -> Result<(), String> {
        let Memory::U8(out) = &after[2].memory else { return Err("not bytes".into()) };
        for window in self.0.cu_nodes.windows(2) {
            for i in window[0]..window[1] {
                let mut expected = vec![0; self.1];
                let mut at = i - window[0];
                while at >= 0 {
                    if let Some(x) = expected.get_mut(at as usize) {
                        *x = 1;
                    }
                    at = self.0.parents[(window[0] + at) as usize];
                }
                if out[i as usize * self.1..][..self.1] != expected {
                    return Err(format!("node {i} attends to other nodes"));
                }
            }
        }
        Ok(())
    }

    fn seed(&self) -> u64 {
        self.2
    }
}

/// Shapes around every border.
pub fn tree_jobs() -> (Vec<WalkJob>, Vec<MaskJob>) {
    let sizes: [&[usize]; 6] =
        [&[1], &[2, 1], &[33, 3, 64], &[31, 32, 34], &[200, 1, 1, 7], &[5; 40]];
    let walks = sizes
        .iter()
        .enumerate()
        .flat_map(|(i, s)| (0..6).map(move |k| (i as u64 * 8 + k, s)))
        .map(|(seed, s)| WalkJob(Forest::new(s, seed % 2 == 1, seed), seed))
        .collect();
    let masks = sizes
        .iter()
        .enumerate()
        .map(|(i, s)| MaskJob(Forest::new(s, false, i as u64), [200, 16, 64][i % 3], i as u64))
        .collect();
    (walks, masks)
}
