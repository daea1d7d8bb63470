//! Borrowed views of logits in f32, f16 or bf16: one row, or rows with a stride.

use crate::error::{Error, Result};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

/// One row of logits. `len` is the logits width, which may exceed the tokenizer's vocabulary.
#[derive(Debug, Clone, Copy)]
pub enum LogitsRow<'a> {
    /// IEEE single precision.
    F32(&'a [f32]),
    /// IEEE half precision.
    F16(&'a [f16]),
    /// bfloat16.
    Bf16(&'a [bf16]),
}

impl LogitsRow<'_> {
    /// Number of logits.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(x) => x.len(),
            Self::F16(x) => x.len(),
            Self::Bf16(x) => x.len(),
        }
    }

    /// Whether the row holds no logit.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Logit `i` as f32.
    pub fn get(&self, i: usize) -> Option<f32> {
        match self {
            Self::F32(x) => x.get(i).copied(),
            Self::F16(x) => x.get(i).map(|v| v.to_f32()),
            Self::Bf16(x) => x.get(i).map(|v| v.to_f32()),
        }
    }

    /// Appends every logit as f32 to `out`, in one read of the row.
    pub fn extend_into(&self, out: &mut Vec<f32>) {
        match self {
            Self::F32(x) => out.extend_from_slice(x),
            Self::F16(x) => {
                let start = out.len();
                out.resize(start + x.len(), 0.0);
                x.convert_to_f32_slice(&mut out[start..]);
            }
            Self::Bf16(x) => out.extend(x.iter().map(|v| v.to_f32())),
        }
    }
}

impl<'a> From<&'a [f32]> for LogitsRow<'a> {
    fn from(row: &'a [f32]) -> Self {
        Self::F32(row)
    }
}

/// The element storage of a [`LogitsBatch`].
#[derive(Debug, Clone, Copy)]
pub enum LogitsData<'a> {
    /// IEEE single precision.
    F32(&'a [f32]),
    /// IEEE half precision.
    F16(&'a [f16]),
    /// bfloat16.
    Bf16(&'a [bf16]),
}

/// `rows` rows of `vocab` logits, `stride` elements apart.
#[derive(Debug, Clone, Copy)]
pub struct LogitsBatch<'a> {
    data: LogitsData<'a>,
    rows: usize,
    vocab: usize,
    stride: usize,
}

impl<'a> LogitsBatch<'a> {
    /// Views `data` as `rows` rows of `vocab`, `stride` elements from row to row.
    ///
    /// # Errors
    /// `InvalidInput` if the last row does not end inside `data`, or `stride < vocab` with several
    /// rows.
    pub fn new(data: LogitsData<'a>, rows: usize, vocab: usize, stride: usize) -> Result<Self> {
        let len = match data {
            LogitsData::F32(x) => x.len(),
            LogitsData::F16(x) => x.len(),
            LogitsData::Bf16(x) => x.len(),
        };
        let end = rows
            .checked_sub(1)
            .map_or(Some(0), |r| r.checked_mul(stride).and_then(|x| x.checked_add(vocab)));
        if end.is_none_or(|e| e > len) || (rows > 1 && stride < vocab) {
            return Err(Error::input(
                "logits",
                format!("{rows} rows of {vocab} with stride {stride} do not fit {len} elements"),
            ));
        }
        Ok(Self { data, rows, vocab, stride })
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Logits a row.
    pub fn vocab(&self) -> usize {
        self.vocab
    }

    /// Row `i`, which must be below [`rows`](Self::rows).
    pub fn row(&self, i: usize) -> LogitsRow<'a> {
        debug_assert!(i < self.rows);
        let span = i * self.stride..i * self.stride + self.vocab;
        match self.data {
            LogitsData::F32(x) => LogitsRow::F32(&x[span]),
            LogitsData::F16(x) => LogitsRow::F16(&x[span]),
            LogitsData::Bf16(x) => LogitsRow::Bf16(&x[span]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_follow_the_stride() {
        let data: Vec<f32> = (0..11).map(|i| i as f32).collect();
        let batch = LogitsBatch::new(LogitsData::F32(&data), 3, 3, 4).unwrap();
        let mut out = Vec::new();
        batch.row(2).extend_into(&mut out);
        assert_eq!(out, [8.0, 9.0, 10.0]);
        assert!(LogitsBatch::new(LogitsData::F32(&data), 3, 4, 4).is_err());
        assert!(LogitsBatch::new(LogitsData::F32(&data), 2, 4, 3).is_err());
        assert!(LogitsBatch::new(LogitsData::F32(&data), usize::MAX, 4, usize::MAX).is_err());
    }

    #[test]
    fn half_rows_widen_exactly() {
        let h = [f16::from_f32(0.5), f16::NEG_INFINITY];
        let b = [bf16::from_f32(-3.0)];
        assert_eq!(LogitsRow::F16(&h).get(0), Some(0.5));
        assert_eq!(LogitsRow::F16(&h).get(1), Some(f32::NEG_INFINITY));
        assert_eq!(LogitsRow::Bf16(&b).get(0), Some(-3.0));
        assert_eq!(LogitsRow::Bf16(&b).get(1), None);
    }
}
