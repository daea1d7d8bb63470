//! Races: shapes, contents, and the answer of `trivium_core`'s draw.

use super::job::{Buffer, Job, Memory, read, write};
use super::{Noise, narrow, widen};
use trivium_core::numerics::gumbel;
use trivium_core::{Address, mask};
use trivium_cuda::{
    Context, DeviceSlice, Dtype, LogitsRows, Plan, Race, RaceRow, Seen, Stream, race,
};

/// A race; contents follow from `seed`.
#[derive(Debug, Clone)]
pub struct RaceJob {
    pub dtype: Dtype,
    pub vocab: usize,
    pub padding: usize,
    pub lead: usize,
    pub logits_rows: usize,
    pub indices: Option<Vec<i32>>,
    /// Words of a mask row.
    pub mask_words: Option<usize>,
    /// Largest number of tokens that a row has seen; `None`: no penalties.
    pub seen: Option<usize>,
    pub winners: usize,
    /// Logits are multiples of a half between -`spread` and `spread`: ties are common.
    pub spread: i32,
    /// A row with a NaN, one with +inf, one of all -inf where this is set.
    pub broken: bool,
    /// Launch one block a row whatever the plan says: the kernel's loops must cover the rest.
    pub one_block: bool,
    pub seed: u64,
}

struct Row {
    asked: RaceRow,
    seen: Vec<(u32, u32)>,
    mask: Vec<u32>,
}

impl RaceJob {
    pub fn rows(&self) -> usize {
        self.indices.as_ref().map_or(self.logits_rows, Vec::len)
    }

    fn stride(&self) -> usize {
        self.vocab + self.padding
    }

    /// All logits, as bits of the dtype, with lead and padding.
    fn logits(&self) -> Vec<u32> {
        let mut noise = Noise(self.seed);
        let half_steps = (4 * self.spread + 1).cast_unsigned();
        let mut bits: Vec<u32> = (0..self.lead + self.logits_rows * self.stride() + 9)
            .map(|_| {
                let step = (noise.next() % half_steps).cast_signed() - 2 * self.spread;
                let x = match noise.next() % 16 {
                    0 => f32::NEG_INFINITY,
                    1 => -0.0,
                    _ => step as f32 * 0.5,
                };
                narrow(x, self.dtype)
            })
            .collect();
        if self.broken {
            for row in 0..self.logits_rows {
                let begin = self.lead + row * self.stride();
                let at = begin + noise.next() as usize % self.vocab;
                match row % 4 {
                    0 => bits[at] = narrow(f32::NAN, self.dtype),
                    1 => bits[at] = narrow(f32::INFINITY, self.dtype),
                    2 => {
                        bits[begin..begin + self.vocab].fill(narrow(f32::NEG_INFINITY, self.dtype));
                    }
                    _ => {}
                }
            }
        }
        bits
    }

    fn row(&self, r: usize) -> Row {
        let mut noise = Noise(self.seed ^ (r as u64 + 1) << 40);
        let temperature = [1.0, 0.0, 0.7, 1.3][(r + noise.0 as usize) % 4];
        let asked = RaceRow {
            seed: u64::from(noise.next()) << 32 | u64::from(noise.next()),
            index: noise.next(),
            branch: noise.next() % 3,
            factor: if temperature == 0.0 { 0.0 } else { 1.0 / temperature },
            repetition: if noise.next().is_multiple_of(2) { 1.25 } else { 1.0 },
            frequency: if noise.next().is_multiple_of(2) { 0.25 } else { 0.0 },
            presence: if noise.next().is_multiple_of(2) { 0.5 } else { 0.0 },
        };
        let mut seen: Vec<(u32, u32)> =
            (0..self.seen.map_or(0, |n| noise.next() as usize % (n + 1)))
                // Some beyond the vocabulary: a history may hold padding ids.
                .map(|_| (noise.next() % (self.vocab as u32 + 3), 1 + noise.next() % 5))
                .collect();
        seen.sort_unstable();
        seen.dedup_by_key(|s| s.0);
        let mask = (0..self.mask_words.unwrap_or(0))
            .map(|_| match noise.next() % 4 {
                0 => 0,
                1 => u32::MAX,
                2 => noise.next() & noise.next() & noise.next(),
                _ => noise.next(),
            })
            .collect();
        Row { asked, seen, mask }
    }

    /// What row `r` must answer: status, and (key, token) best first.
    fn expected(&self, logits: &[u32], r: usize) -> (u32, Vec<(f32, u32)>) {
        let source = self.indices.as_ref().map_or(r as i32, |i| i[r]);
        let Some(source) = usize::try_from(source).ok().filter(|&s| s < self.logits_rows) else {
            return (4, Vec::new());
        };
        let Row { asked, seen, mask } = self.row(r);
        let begin = self.lead + source * self.stride();
        let mut row: Vec<f32> =
            logits[begin..begin + self.vocab].iter().map(|&b| widen(b, self.dtype)).collect();
        if self.mask_words.is_some() {
            mask::apply(&mask, &mut row);
        }
        if row.iter().any(|x| x.is_nan() || *x == f32::INFINITY) {
            return (2, Vec::new());
        }
        // As trivium_sample's repetition and frequency rules.
        for (token, count) in seen {
            let Some(z) = row.get_mut(token as usize).filter(|z| z.is_finite()) else { continue };
            if asked.repetition != 1.0 {
                *z = if *z < 0.0 { *z * asked.repetition } else { *z / asked.repetition };
            }
            *z -= count as f32 * asked.frequency + asked.presence;
        }
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
        (u32::from(keys.is_empty()), keys)
    }

    fn args(&self, at: &[u64]) -> Race {
        let rows = self.rows();
        let slice = |i: usize, len: usize| DeviceSlice { address: at[i], len };
        let seen: usize = (0..rows).map(|r| self.row(r).seen.len()).sum();
        let mut race = Race {
            logits: LogitsRows {
                logits: DeviceSlice {
                    address: at[0] + self.lead as u64 * self.dtype.bytes(),
                    len: self.logits_rows * self.stride() + 9,
                },
                dtype: self.dtype,
                rows: self.logits_rows,
                vocab: self.vocab,
                stride: self.stride(),
            },
            rows,
            row_indices: self.indices.as_ref().map(|_| slice(1, rows)),
            mask: self.mask_words.map(|w| slice(2, rows * w)),
            mask_words: self.mask_words.unwrap_or(0),
            asked: slice(3, rows),
            seen: self.seen.map(|_| Seen {
                starts: slice(4, rows + 1),
                tokens: slice(5, seen),
                counts: slice(6, seen),
            }),
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
        let rows: Vec<Row> = (0..self.rows()).map(|r| self.row(r)).collect();
        let logits = self.logits();
        let asked = rows.iter().flat_map(|Row { asked: a, .. }| {
            let pair = |low: u32, high: u32| u64::from(high) << 32 | u64::from(low);
            [
                a.seed,
                pair(a.index, a.branch),
                pair(a.factor.to_bits(), a.repetition.to_bits()),
                pair(a.frequency.to_bits(), a.presence.to_bits()),
            ]
        });
        let mut starts = vec![0];
        for row in &rows {
            starts.push(starts[starts.len() - 1] + row.seen.len() as i32);
        }
        let seen: Vec<(u32, u32)> = rows.iter().flat_map(|r| r.seen.clone()).collect();
        let answers = vec![0xDEAD; self.rows() * self.winners];
        vec![
            read(c"logits", super::store(&logits, self.dtype)),
            read(c"row_indices", Memory::i32(self.indices.as_deref().unwrap_or_default())),
            read(c"mask", Memory::U32(rows.iter().flat_map(|r| r.mask.clone()).collect())),
            read(c"asked", Memory::U64(asked.collect())),
            read(c"seen.starts", Memory::i32(&starts)),
            read(c"seen.tokens", Memory::U32(seen.iter().map(|s| s.0).collect())),
            read(c"seen.counts", Memory::U32(seen.iter().map(|s| s.1).collect())),
            // Not cleared, as the contract says.
            write(c"workspace", Memory::U64(vec![u64::MAX; self.args(&[8; 11]).workspace.len])),
            write(c"tokens", Memory::U32(answers.clone())),
            write(c"keys", Memory::U32(answers)),
            write(c"status", Memory::U32(vec![77; self.rows()])),
        ]
    }

    fn plans(&self, at: &[u64]) -> Vec<Plan> {
        let mut plans = Vec::from(self.args(at).plan().unwrap().unwrap());
        if self.one_block {
            // The workspace then holds one part a row, and the merge is told so.
            let mut args = self.args(at);
            args.logits.vocab = args.logits.vocab.min(1);
            let merge = args.plan().unwrap().unwrap()[1].clone();
            plans[0].grid = [1, 1, 1];
            plans[1] = merge;
        }
        plans
    }

    unsafe fn enqueue(
        &self,
        context: &Context,
        stream: Stream,
        at: &[u64],
    ) -> trivium_core::Result<()> {
        // SAFETY: the caller's word.
        unsafe { race(context, stream, &self.args(at)) }
    }

    fn check(&self, after: &[Buffer]) -> Result<(), String> {
        let logits = self.logits();
        let (tokens, keys) = (after[8].memory.i32s(), after[9].memory.u32s());
        for r in 0..self.rows() {
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
        self.seed
    }
}

/// Shapes around every border; what else a job has is drawn, so that no two properties go together.
pub fn race_jobs() -> Vec<RaceJob> {
    let mut noise = Noise(7);
    let mut pick = |n: u32| (noise.next() % n) as usize;
    let mut jobs = Vec::new();
    for (vocab, times) in
        [(1, 2), (31, 6), (33, 6), (4_099, 2), (16_384, 1), (16_385, 1), (33_001, 1)]
    {
        for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
            for winners in [1, 8] {
                for _ in 0..times {
                    let words = mask::words(vocab);
                    jobs.push(RaceJob {
                        dtype,
                        vocab,
                        padding: [0, 3, 8][pick(3)],
                        lead: pick(9),
                        logits_rows: 4,
                        indices: [None, Some(vec![2, 0, -1, 3, 2]), Some(vec![1, 4, 3])][pick(3)]
                            .clone(),
                        mask_words: [None, Some(words), Some(words - 1), Some(words + 1)][pick(4)],
                        seen: [None, Some(40), Some(700)][pick(3)],
                        winners,
                        spread: [40, 3][pick(2)],
                        broken: pick(4) == 0,
                        one_block: vocab > 30_000 || pick(2) == 0,
                        seed: jobs.len() as u64,
                    });
                }
            }
        }
    }
    jobs
}

/// Vocabularies of real models.
pub fn large_race_jobs() -> Vec<RaceJob> {
    [(50_257, Dtype::F16, 1), (128_256, Dtype::F32, 1), (128_256, Dtype::Bf16, 8)]
        .into_iter()
        .map(|(vocab, dtype, winners)| RaceJob {
            dtype,
            vocab,
            padding: 3,
            lead: 0,
            logits_rows: 2,
            indices: None,
            mask_words: Some(mask::words(vocab)),
            seen: Some(300),
            winners,
            spread: 30,
            broken: false,
            one_block: false,
            seed: vocab as u64,
        })
        .collect()
}
