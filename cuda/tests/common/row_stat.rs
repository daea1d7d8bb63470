//! Row statistics: shapes, contents, and sums in f64.

use super::job::{Buffer, Job, Memory, read, write};
use super::{Noise, narrow, widen};
use trivium_core::mask;
use trivium_cuda::row_stat::TILE;
use trivium_cuda::{DeviceSlice, Dtype, Kernel, LogitsRows, MaskedRows, Plan, RowStat};

/// Largest difference of ln Σ and of the entropy from the sums in f64: absolute.
const BOUND: f64 = 1e-4;

/// Statistics of some rows; contents follow from `seed`.
#[derive(Debug, Clone)]
pub struct StatJob {
    pub dtype: Dtype,
    pub vocab: usize,
    pub padding: usize,
    pub lead: usize,
    pub rows: usize,
    pub mask_words: Option<usize>,
    pub factors: bool,
    /// Standard width of the logits; 0 makes all of them equal.
    pub spread: f32,
    pub broken: bool,
    /// Launch one block a row whatever the plan says: the kernel's loops must cover the rest.
    pub one_block: bool,
    pub seed: u64,
}

impl StatJob {
    fn stride(&self) -> usize {
        self.vocab + self.padding
    }

    fn logits(&self) -> Vec<u32> {
        let mut noise = Noise(self.seed);
        let mut bits: Vec<u32> = (0..self.lead + self.rows * self.stride() + 9)
            .map(|_| {
                let u = noise.next() as f32 / 4.3e9 - 0.5;
                let x = if noise.next().is_multiple_of(16) {
                    f32::NEG_INFINITY
                } else {
                    u * u * u * 8.0 * self.spread
                };
                narrow(x, self.dtype)
            })
            .collect();
        if self.broken {
            for row in 0..self.rows {
                let begin = self.lead + row * self.stride();
                match row % 3 {
                    0 => bits[begin + self.vocab / 2] = narrow(f32::NAN, self.dtype),
                    1 => {
                        bits[begin..begin + self.vocab].fill(narrow(f32::NEG_INFINITY, self.dtype));
                    }
                    _ => {}
                }
            }
        }
        bits
    }

    fn mask(&self) -> Vec<u32> {
        let mut noise = Noise(!self.seed);
        (0..self.mask_words.unwrap_or(0) * self.rows).map(|_| noise.next() | noise.next()).collect()
    }

    fn factor(&self, r: usize) -> f32 {
        if self.factors { [1.0, 0.5, 1.5][r % 3] } else { 1.0 }
    }

    fn args(&self, at: &[u64]) -> RowStat {
        let rows = self.rows;
        let slice = |i: usize, len: usize| DeviceSlice { address: at[i], len };
        let logits = LogitsRows {
            logits: DeviceSlice {
                address: at[0] + self.lead as u64 * self.dtype.bytes(),
                len: rows * self.stride() + 9,
            },
            dtype: self.dtype,
            rows,
            vocab: self.vocab,
            stride: self.stride(),
        };
        let mut args = RowStat {
            rows: MaskedRows {
                logits,
                rows,
                row_indices: None,
                mask: self.mask_words.map(|w| slice(1, rows * w)),
                mask_words: self.mask_words.unwrap_or(0),
            },
            factors: self.factors.then(|| slice(2, rows)),
            workspace: DeviceSlice { address: at[3], len: 0 },
            ids: slice(4, 2 * rows),
            values: slice(5, 4 * rows),
            status: slice(6, rows),
        };
        args.workspace.len = args.workspace();
        args
    }
}

impl Job for StatJob {
    fn buffers(&self) -> Vec<Buffer> {
        let factors: Vec<f32> = (0..self.rows).map(|r| self.factor(r)).collect();
        vec![
            read(c"logits", super::store(&self.logits(), self.dtype)),
            read(c"mask", Memory::U32(self.mask())),
            read(c"factors", Memory::f32(&factors)),
            write(c"workspace", Memory::U64(vec![u64::MAX; self.args(&[8; 7]).workspace.len])),
            write(c"ids", Memory::U32(vec![0xDEAD; 2 * self.rows])),
            write(c"values", Memory::U32(vec![0xDEAD; 4 * self.rows])),
            write(c"status", Memory::U32(vec![77; self.rows])),
        ]
    }

    fn plans(&self, at: &[u64]) -> Vec<Plan> {
        let mut plans = self.args(at).plan().unwrap();
        if self.one_block {
            let mut args = self.args(at);
            args.rows.logits.vocab = 1;
            plans[0].grid = [1, 1, 1];
            plans[1] = args.plan().unwrap()[1].clone();
        }
        plans
    }

    fn kernel(&self, at: &[u64]) -> Box<dyn Kernel> {
        Box::new(self.args(at))
    }

    fn check(&self, after: &[Buffer]) -> Result<(), String> {
        let (logits, masks) = (self.logits(), self.mask());
        let (ids, values) = (after[4].memory.i32s(), after[5].memory.f32s());
        for r in 0..self.rows {
            let begin = self.lead + r * self.stride();
            let mut row: Vec<f32> =
                logits[begin..begin + self.vocab].iter().map(|&b| widen(b, self.dtype)).collect();
            if let Some(words) = self.mask_words {
                mask::apply(&masks[r * words..][..words], &mut row);
            }
            let factor = self.factor(r);
            row.iter_mut().for_each(|x| *x *= factor);
            let bad = row.iter().any(|x| x.is_nan() || *x == f32::INFINITY);
            let mut order: Vec<usize> =
                (0..row.len()).filter(|&t| !bad && row[t] > f32::NEG_INFINITY).collect();
            order.sort_by(|&a, &b| row[b].partial_cmp(&row[a]).unwrap().then(a.cmp(&b)));
            let status = if bad { 2 } else { u32::from(order.is_empty()) };
            if after[6].memory.u32s()[r] != status {
                return Err(format!("row {r}: status {}, not {status}", after[6].memory.u32s()[r]));
            }
            for k in 0..2 {
                let (id, z) = order.get(k).map_or((-1, f32::NEG_INFINITY), |&t| (t as i32, row[t]));
                if ids[2 * r + k] != id || values[4 * r + k] != z {
                    let found = (ids[2 * r + k], values[4 * r + k]);
                    return Err(format!(
                        "row {r}, best {k}: {found:?}, the twin has {:?}",
                        (id, z)
                    ));
                }
            }
            if let Some(&first) = order.first() {
                let max = f64::from(row[first]);
                let weights = order.iter().map(|&t| (f64::from(row[t]) - max, 1.0));
                let (mut sum, mut weighted) = (0.0, 0.0);
                for (d, _) in weights {
                    sum += d.exp();
                    weighted += d * d.exp();
                }
                let (ln_sum, entropy) = (sum.ln(), sum.ln() - weighted / sum);
                for (what, at, exact) in [("ln sum", 2, ln_sum), ("entropy", 3, entropy)] {
                    let found = f64::from(values[4 * r + at]);
                    if (found - exact).abs() > BOUND {
                        return Err(format!("row {r}: {what} {found}, exactly {exact}"));
                    }
                }
            }
        }
        Ok(())
    }

    fn seed(&self) -> u64 {
        self.seed
    }
}

/// Shapes around every border.
pub fn stat_jobs() -> Vec<StatJob> {
    let mut jobs = Vec::new();
    for (i, &vocab) in [1, 2, 31, 33, 257, 4_099, 16_385, 50_257].iter().enumerate() {
        for (j, dtype) in [Dtype::F32, Dtype::F16, Dtype::Bf16].into_iter().enumerate() {
            jobs.push(StatJob {
                dtype,
                vocab,
                padding: [0, 5, 8][(i + j) % 3],
                lead: (i + 2 * j) % 4,
                rows: 3,
                mask_words: (j != 1).then(|| mask::words(vocab).max(2) - (j / 2)),
                factors: (i + j) % 2 == 0,
                spread: [30.0, 6.0, 0.0][(i + j) % 3],
                broken: (i + j) % 4 == 3,
                one_block: vocab > TILE && j == 2,
                seed: (i * 8 + j) as u64,
            });
        }
    }
    jobs
}
