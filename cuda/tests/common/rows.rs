//! Rows of logits with masks, histories and parameters: contents for races and draws by inverse CDF.

use super::job::{Buffer, Memory, read};
use super::{Noise, narrow, widen};
use trivium_core::mask;
use trivium_cuda::{
    AskedRow, AskedRows, DeviceSlice, Dtype, LogitsRows, MaskedRows, NOT_REPEATED, Seen,
};

/// Rows; contents follow from `seed`.
#[derive(Debug, Clone)]
pub struct Rows {
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
    /// Logits are multiples of a half between -`spread` and `spread`: ties are common.
    pub spread: i32,
    /// A row with a NaN, one with +inf, one of all -inf where this is set.
    pub broken: bool,
    pub seed: u64,
}

/// What belongs to one row of a launch.
pub struct Row {
    pub asked: AskedRow,
    pub seen: Vec<(u32, u32)>,
    pub mask: Vec<u32>,
}

impl Rows {
    pub fn rows(&self) -> usize {
        self.indices.as_ref().map_or(self.logits_rows, Vec::len)
    }

    fn stride(&self) -> usize {
        self.vocab + self.padding
    }

    /// All logits, as bits of the dtype, with lead and padding.
    pub fn logits(&self) -> Vec<u32> {
        let mut noise = Noise(self.seed);
        let half_steps = (4 * self.spread + 1).cast_unsigned();
        let mut bits: Vec<u32> = (0..self.lead + self.logits_rows * self.stride() + 9)
            .map(|i| {
                // Half of the rows fall off, so that blocks differ in their best.
                let block = (i.wrapping_sub(self.lead) % self.stride() / 256) as f32;
                let slope = if self.seed % 2 == 1 { block * -0.25 } else { 0.0 };
                let step = (noise.next() % half_steps).cast_signed() - 2 * self.spread;
                let x = match noise.next() % 16 {
                    0 => f32::NEG_INFINITY,
                    1 => -0.0,
                    _ => step as f32 * 0.5 + slope,
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

    pub fn row(&self, r: usize) -> Row {
        let mut noise = Noise(self.seed ^ (r as u64 + 1) << 40);
        let temperature = [1.0, 0.0, 0.7, 1.3][(r + noise.0 as usize) % 4];
        let asked = AskedRow {
            seed: u64::from(noise.next()) << 32 | u64::from(noise.next()),
            index: noise.next(),
            branch: noise.next() % 3,
            factor: if temperature == 0.0 { 0.0 } else { 1.0 / temperature },
            repetition: if noise.next().is_multiple_of(2) { 1.25 } else { 1.0 },
            frequency: if noise.next().is_multiple_of(2) { 0.25 } else { 0.0 },
            presence: if noise.next().is_multiple_of(2) { 0.5 } else { 0.0 },
            top_k: [0, 1, 3, 40][noise.next() as usize % 4],
            top_p: [1.0, 0.9, 0.3, 0.999_999][noise.next() as usize % 4],
            ln_min_p: [f32::NEG_INFINITY, -3.0, 0.0, -12.5][noise.next() as usize % 4],
            reserved: 0,
        };
        let mut seen: Vec<(u32, u32)> =
            (0..self.seen.map_or(0, |n| noise.next() as usize % (n + 1)))
                // Some beyond the vocabulary: a history may hold padding ids.
                .map(|_| {
                    let flag = if noise.next().is_multiple_of(3) { NOT_REPEATED } else { 0 };
                    (noise.next() % (self.vocab as u32 + 3), (noise.next() % 5) | flag)
                })
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

    /// Row `r` as the CPU has it before the temperature: mask and penalties applied. `Err` is its status.
    pub fn penalised(&self, logits: &[u32], r: usize) -> Result<(AskedRow, Vec<f32>), u32> {
        let source = self.indices.as_ref().map_or(r as i32, |i| i[r]);
        let source = usize::try_from(source).ok().filter(|&s| s < self.logits_rows).ok_or(4u32)?;
        let Row { asked, seen, mask } = self.row(r);
        let begin = self.lead + source * self.stride();
        let mut row: Vec<f32> =
            logits[begin..begin + self.vocab].iter().map(|&b| widen(b, self.dtype)).collect();
        if self.mask_words.is_some() {
            mask::apply(&mask, &mut row);
        }
        if row.iter().any(|x| x.is_nan() || *x == f32::INFINITY) {
            return Err(2);
        }
        // As trivium_sample's repetition and frequency rules.
        for (token, count) in seen {
            let Some(z) = row.get_mut(token as usize).filter(|z| z.is_finite()) else { continue };
            // A count of 0 and the flag: the two rules may look at different parts of a text.
            if asked.repetition != 1.0 && count & NOT_REPEATED == 0 {
                *z = if *z < 0.0 { *z * asked.repetition } else { *z / asked.repetition };
            }
            let count = count & !NOT_REPEATED;
            if count > 0 && (asked.frequency != 0.0 || asked.presence != 0.0) {
                *z -= count as f32 * asked.frequency + asked.presence;
            }
        }
        if row.iter().all(|&x| x == f32::NEG_INFINITY) {
            return Err(1);
        }
        Ok((asked, row))
    }

    /// The first seven buffers of a job.
    pub fn buffers(&self) -> Vec<Buffer> {
        let rows: Vec<Row> = (0..self.rows()).map(|r| self.row(r)).collect();
        let logits = self.logits();
        let mut starts = vec![0];
        for row in &rows {
            starts.push(starts[starts.len() - 1] + row.seen.len() as i32);
        }
        let seen: Vec<(u32, u32)> = rows.iter().flat_map(|r| r.seen.clone()).collect();
        vec![
            read(c"logits", super::store(&logits, self.dtype)),
            read(c"row_indices", Memory::i32(self.indices.as_deref().unwrap_or_default())),
            read(c"mask", Memory::U32(rows.iter().flat_map(|r| r.mask.clone()).collect())),
            read(c"asked", Memory::U64(rows.iter().flat_map(|r| r.asked.words()).collect())),
            read(c"seen.starts", Memory::i32(&starts)),
            read(c"seen.tokens", Memory::U32(seen.iter().map(|s| s.0).collect())),
            read(c"seen.counts", Memory::U32(seen.iter().map(|s| s.1).collect())),
        ]
    }

    /// The rows, for buffers at these addresses.
    pub fn args(&self, at: &[u64]) -> AskedRows {
        let rows = self.rows();
        let slice = |i: usize, len: usize| DeviceSlice { address: at[i], len };
        let seen: usize = (0..rows).map(|r| self.row(r).seen.len()).sum();
        let logits = LogitsRows {
            logits: DeviceSlice {
                address: at[0] + self.lead as u64 * self.dtype.bytes(),
                len: self.logits_rows * self.stride() + 9,
            },
            dtype: self.dtype,
            rows: self.logits_rows,
            vocab: self.vocab,
            stride: self.stride(),
        };
        AskedRows {
            rows: MaskedRows {
                logits,
                rows,
                row_indices: self.indices.as_ref().map(|_| slice(1, rows)),
                mask: self.mask_words.map(|w| slice(2, rows * w)),
                mask_words: self.mask_words.unwrap_or(0),
            },
            asked: slice(3, rows),
            seen: self.seen.map(|_| Seen {
                starts: slice(4, rows + 1),
                tokens: slice(5, seen),
                counts: slice(6, seen),
            }),
        }
    }
}

/// Shapes around every border; what else rows have is drawn, so that no two properties go together.
pub fn any_rows(shapes: &[(usize, usize)]) -> Vec<Rows> {
    let mut noise = Noise(7);
    let mut pick = |n: u32| (noise.next() % n) as usize;
    let mut all = Vec::new();
    for &(vocab, times) in shapes {
        for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
            for _ in 0..times {
                let words = mask::words(vocab);
                all.push(Rows {
                    dtype,
                    vocab,
                    padding: [0, 3, 8][pick(3)],
                    lead: pick(9),
                    logits_rows: 4,
                    indices: [None, Some(vec![2, 0, -1, 3, 2]), Some(vec![1, 4, 3])][pick(3)]
                        .clone(),
                    mask_words: [None, Some(words), Some(words - 1), Some(words + 1)][pick(4)],
                    seen: [None, Some(40), Some(700)][pick(3)],
                    spread: [40, 3][pick(2)],
                    broken: pick(4) == 0,
                    seed: all.len() as u64,
                });
            }
        }
    }
    all
}

/// Vocabularies of real models.
pub fn large_rows() -> Vec<Rows> {
    [(50_257, Dtype::F16), (128_256, Dtype::F32), (128_256, Dtype::Bf16)]
        .into_iter()
        .map(|(vocab, dtype)| Rows {
            dtype,
            vocab,
            padding: 3,
            lead: 0,
            logits_rows: 2,
            indices: None,
            mask_words: Some(mask::words(vocab)),
            seen: Some(300),
            spread: 30,
            broken: false,
            seed: vocab as u64,
        })
        .collect()
}
