//! Races: what they are asked, and the answer of `trivium_core`'s draw.

use super::job::{Buffer, Job, Memory, write};
use super::rows::{Rows, any_rows, large_rows};
use trivium_core::Address;
use trivium_core::numerics::gumbel;
use trivium_cuda::{DeviceSlice, Kernel, Plan, Race};

/// A race.
#[derive(Debug, Clone)]
pub struct RaceJob {
    pub rows: Rows,
    pub winners: usize,
    /// Launch one block a row whatever the plan says: the kernel's loops must cover the rest.
    pub one_block: bool,
}

impl RaceJob {
    /// What row `r` must answer: status, and (key, token) best first.
    fn expected(&self, logits: &[u32], r: usize) -> (u32, Vec<(f32, u32)>) {
        let (asked, row) = match self.rows.penalised(logits, r) {
            Ok(row) => row,
            Err(status) => return (status, Vec::new()),
        };
        let address = Address::new(asked.seed, asked.index, asked.branch);
        let mut keys: Vec<(f32, u32)> = row
            .iter()
            .enumerate()
            .filter(|(_, x)| **x > f32::NEG_INFINITY)
            .map(|(t, &x)| {
                let t = t as u32;
                match asked.factor {
                    0.0 => (x + 0.0, t),
                    f => ((if f == 1.0 { x } else { x * f }) + gumbel(address.race_word(t)), t),
                }
            })
            .collect();
        keys.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        keys.truncate(self.winners);
        (0, keys)
    }

    fn args(&self, at: &[u64]) -> Race {
        let rows = self.rows.rows();
        let slice = |i: usize, len: usize| DeviceSlice { address: at[i], len };
        let mut race = Race {
            rows: self.rows.args(at),
            floors: None,
            winners: self.winners,
            workspace: DeviceSlice { address: at[7], len: 0 },
            tokens: slice(8, rows * self.winners),
            keys: slice(9, rows * self.winners),
            status: slice(10, rows),
        };
        race.workspace.len = race.workspace();
        race
    }
}

impl Job for RaceJob {
    fn buffers(&self) -> Vec<Buffer> {
        let mut buffers = self.rows.buffers();
        let answers = vec![0xDEAD; self.rows.rows() * self.winners];
        buffers.extend([
            // Not cleared, as the contract says.
            write(c"workspace", Memory::U64(vec![u64::MAX; self.args(&[8; 11]).workspace.len])),
            write(c"tokens", Memory::U32(answers.clone())),
            write(c"keys", Memory::U32(answers)),
            write(c"status", Memory::U32(vec![77; self.rows.rows()])),
        ]);
        buffers
    }

    fn plans(&self, at: &[u64]) -> Vec<Plan> {
        let mut plans = self.args(at).plan().unwrap();
        if self.one_block {
            // The workspace then holds one part a row, and the merge is told so.
            let mut args = self.args(at);
            args.rows.rows.logits.vocab = args.rows.rows.logits.vocab.min(1);
            let merge = args.plan().unwrap()[1].clone();
            plans[0].grid = [1, 1, 1];
            plans[1] = merge;
        }
        plans
    }

    fn kernel(&self, at: &[u64]) -> Box<dyn Kernel> {
        Box::new(self.args(at))
    }

    fn check(&self, after: &[Buffer]) -> Result<(), String> {
        let logits = self.rows.logits();
        let (tokens, keys) = (after[8].memory.i32s(), after[9].memory.u32s());
        for r in 0..self.rows.rows() {
            let (status, best) = self.expected(&logits, r);
            if after[10].memory.u32s()[r] != status {
                return Err(format!(
                    "row {r}: status {}, not {status}",
                    after[10].memory.u32s()[r]
                ));
            }
            for k in 0..self.winners {
                let at = r * self.winners + k;
                let (key, token) =
                    best.get(k).map_or((f32::NEG_INFINITY, -1), |b| (b.0, b.1.cast_signed()));
                if (tokens[at], keys[at]) != (token, key.to_bits()) {
                    let found = f32::from_bits(keys[at]);
                    return Err(format!(
                        "row {r}, winner {k}: token {} with key {found}, the twin has {token} with {key}",
                        tokens[at]
                    ));
                }
            }
        }
        Ok(())
    }

    fn seed(&self) -> u64 {
        self.rows.seed
    }
}

/// Races around every border.
pub fn race_jobs() -> Vec<RaceJob> {
    any_rows(&[(1, 4), (31, 12), (33, 12), (4_099, 4), (16_384, 2), (16_385, 2), (33_001, 2)])
        .into_iter()
        .enumerate()
        .map(|(i, rows)| RaceJob {
            winners: [1, 8][i % 2],
            one_block: rows.vocab > 30_000 || rows.seed % 3 == 0,
            rows,
        })
        .collect()
}

/// Vocabularies of real models.
pub fn large_race_jobs() -> Vec<RaceJob> {
    let job = |(i, rows)| RaceJob { rows, winners: [1, 1, 8][i], one_block: false };
    large_rows().into_iter().enumerate().map(job).collect()
}
