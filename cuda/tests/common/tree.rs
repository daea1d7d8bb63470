//! Trees: random shapes, and the walk and the mask by their definitions.

use super::Noise;
use super::job::{Buffer, Job, Memory, read, write};
use trivium_cuda::{DeviceSlice, Kernel, TreeMask, TreeWalk, Trees};

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
