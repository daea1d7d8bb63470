//! Cases for the mask kernel: shapes, contents and the twin's answer, for whatever runs the kernel.
#![allow(
    unreachable_pub,
    dead_code,
    clippy::struct_field_names,
    clippy::unwrap_used,
    reason = "tests; shared by binaries, which use parts of it"
)]

pub mod cdf;
pub mod job;
pub mod race;
pub mod reject;
pub mod row_stat;
pub mod rows;
pub mod tree;

use half::{bf16, f16};
use proptest::prelude::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use trivium_core::mask::{self, MaskedLogit};
use trivium_cuda::{ApplyMask, DeviceSlice, Dtype};

/// The bits of a number in a dtype.
pub fn narrow(x: f32, dtype: Dtype) -> u32 {
    match dtype {
        Dtype::F32 => x.to_bits(),
        Dtype::F16 => u32::from(f16::from_f32(x).to_bits()),
        Dtype::Bf16 => u32::from(bf16::from_f32(x).to_bits()),
    }
}

/// The number that bits of a dtype stand for.
pub fn widen(bits: u32, dtype: Dtype) -> f32 {
    match dtype {
        Dtype::F32 => f32::from_bits(bits),
        Dtype::F16 => f16::from_bits(bits as u16).to_f32(),
        Dtype::Bf16 => bf16::from_bits(bits as u16).to_f32(),
    }
}

/// Logits as memory of their dtype.
pub fn store(bits: &[u32], dtype: Dtype) -> job::Memory {
    match dtype {
        Dtype::F32 => job::Memory::U32(bits.to_vec()),
        Dtype::F16 | Dtype::Bf16 => job::Memory::U16(bits.iter().map(|&b| b as u16).collect()),
    }
}

/// Writes a line past the capture of the test harness.
pub fn say(line: &str) {
    use std::io::Write as _;
    // A test does not fail because nobody listens.
    drop(writeln!(std::io::stderr(), "\n{line}"));
}

/// Says that a test is skipped, why, and how many of this binary have been.
pub fn skip(why: &str) {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed) + 1;
    say(&format!("skipped: {why} (test number {count} of this binary to be skipped)"));
}

/// A logit type with its bits: equality of NaNs counts too.
pub trait Element: MaskedLogit {
    const DTYPE: Dtype;
    fn from_bits(bits: u32) -> Self;
    fn bits(self) -> u32;
}

impl Element for f32 {
    const DTYPE: Dtype = Dtype::F32;
    fn from_bits(bits: u32) -> Self {
        Self::from_bits(bits)
    }
    fn bits(self) -> u32 {
        self.to_bits()
    }
}
impl Element for f16 {
    const DTYPE: Dtype = Dtype::F16;
    fn from_bits(bits: u32) -> Self {
        Self::from_bits(bits as u16)
    }
    fn bits(self) -> u32 {
        u32::from(self.to_bits())
    }
}
impl Element for bf16 {
    const DTYPE: Dtype = Dtype::Bf16;
    fn from_bits(bits: u32) -> Self {
        Self::from_bits(bits as u16)
    }
    fn bits(self) -> u32 {
        u32::from(self.to_bits())
    }
}

/// A shape; contents follow from `seed`.
#[derive(Debug, Clone)]
pub struct Case {
    pub vocab: usize,
    /// Elements between the rows.
    pub padding: usize,
    /// Elements before the first row: decides the alignment of the logits.
    pub lead: usize,
    pub logits_rows: usize,
    pub mask_words: usize,
    /// Of the mask rows; `None`: one a logits row.
    pub indices: Option<Vec<i32>>,
    /// Launch one block whatever the plan says: the kernel's loops must cover the rest.
    pub one_block: bool,
    pub seed: u64,
}

/// Buffers of a case, padding and canaries included, and the twin's answer.
pub struct Data<T> {
    pub logits: Vec<T>,
    pub mask: Vec<u32>,
    pub expected: Vec<u32>,
}

/// Elements behind the last row that nobody may touch.
const CANARY: usize = 9;

impl Case {
    pub fn rows(&self) -> usize {
        self.indices.as_ref().map_or(self.logits_rows, Vec::len)
    }

    fn stride(&self) -> usize {
        self.vocab + self.padding
    }

    pub fn data<T: Element>(&self) -> Data<T> {
        let mut noise = Noise(self.seed);
        let len = self.lead + self.logits_rows * self.stride() + CANARY;
        let logits: Vec<T> = (0..len).map(|_| T::from_bits(noise.next())).collect();
        let mask: Vec<u32> = (0..self.rows() * self.mask_words)
            .map(|_| match noise.next() % 4 {
                0 => 0,
                1 => u32::MAX,
                2 => noise.next() & noise.next() & noise.next(),
                _ => noise.next(),
            })
            .collect();
        let mut expected = logits.clone();
        for r in 0..self.rows() {
            let target = self.indices.as_ref().map_or(r as i32, |i| i[r]);
            if let Some(target) = usize::try_from(target).ok().filter(|&t| t < self.logits_rows) {
                let begin = self.lead + target * self.stride();
                let row = &mut expected[begin..begin + self.vocab];
                mask::apply(&mask[r * self.mask_words..][..self.mask_words], row);
            }
        }
        Data { logits, mask, expected: expected.into_iter().map(T::bits).collect() }
    }

    /// The arguments, for buffers of [`Self::data`] at these addresses.
    pub fn args(&self, dtype: Dtype, logits: u64, mask: u64, indices: Option<u64>) -> ApplyMask {
        let rows = self.rows();
        let len = self.logits_rows * self.stride() + CANARY;
        ApplyMask {
            logits: DeviceSlice { address: logits + self.lead as u64 * dtype.bytes(), len },
            dtype,
            mask: DeviceSlice { address: mask, len: rows * self.mask_words },
            row_indices: indices.map(|address| DeviceSlice { address, len: rows }),
            rows,
            mask_words: self.mask_words,
            logits_rows: self.logits_rows,
            vocab: self.vocab,
            stride: self.stride(),
        }
    }
}

/// Where the result differs from the twin's, in words; `None` where it does not.
pub fn difference<T: Element>(found: &[T], expected: &[u32]) -> Option<String> {
    let at = found.iter().zip(expected).position(|(a, &b)| a.bits() != b)?;
    Some(format!("element {at} is {:#x}, the twin has {:#x}", found[at].bits(), expected[at]))
}

/// Splitmix64: contents need variety, not quality.
pub struct Noise(pub u64);
impl Noise {
    pub fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        ((z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB) >> 32) as u32
    }
}

/// Shapes around every border the kernel has, each with every alignment.
pub fn fixed_cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (seed, &vocab) in [1, 7, 8, 31, 32, 33, 64, 95, 257].iter().enumerate() {
        for lead in 0..8 {
            let words = mask::words(vocab);
            cases.push(Case {
                vocab,
                padding: [0, 1, 5, 8][lead % 4],
                lead,
                logits_rows: 3,
                mask_words: [words, words - 1, words + 2][lead % 3],
                indices: [None, Some(vec![2, 0]), Some(vec![1, -1, 3, 0])][(lead / 2) % 3].clone(),
                one_block: lead % 2 == 1,
                seed: (seed * 8 + lead) as u64,
            });
        }
    }
    cases
}

/// Vocabularies of real models, with a stride that is not a multiple of 16 bytes.
pub fn large_cases() -> Vec<Case> {
    [(50_257, 0, None), (128_256, 3, Some(vec![1]))]
        .into_iter()
        .map(|(vocab, padding, indices)| Case {
            vocab,
            padding,
            lead: 0,
            logits_rows: 2,
            mask_words: mask::words(vocab),
            indices,
            one_block: false,
            seed: vocab as u64,
        })
        .collect()
}

prop_compose! {
    /// Any shape: odd vocabularies and strides, masks narrower and wider, rows permuted or left out.
    pub fn any_case()(
        vocab in prop_oneof![
            8 => 1usize..600,
            4 => prop::sample::select(vec![1usize, 31, 32, 33, 63, 65, 1023, 1025]),
            1 => prop::sample::select(vec![50_257usize, 128_256]),
        ],
        logits_rows in 0usize..4,
    )(
        vocab in Just(vocab),
        logits_rows in Just(logits_rows),
        padding in prop_oneof![Just(0usize), 1usize..70],
        lead in 0usize..9,
        mask_words in mask::words(vocab).saturating_sub(3)..=mask::words(vocab) + 2,
        indices in prop::option::of(
            (Just((-1..=logits_rows as i32).collect::<Vec<_>>()).prop_shuffle(), 0usize..6)
        ),
        one_block in any::<bool>(),
        seed in any::<u64>(),
    ) -> Case {
        let indices = indices.map(|(mut all, keep)| {
            all.truncate(keep);
            all
        });
        let one_block = one_block && vocab < 2_000;
        Case { vocab, padding, lead, logits_rows, mask_words, indices, one_block, seed }
    }
}
