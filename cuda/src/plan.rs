//! One launch as the host decided it, and the checks that all launches share.
//!
//! Parameters are kept in slots of eight bytes, so a plan is plain data: the driver takes a pointer to each
//! and reads as many bytes as the parameter has. On the machines that CUDA runs on the low bytes come first.

use crate::{DeviceSlice, Dtype};
use std::ffi::{CStr, c_void};
use trivium_core::{Error, Result};

/// Parameters of a kernel at most.
const SLOTS: usize = 32;

/// Blocks of a launch at most; the kernels loop over what is left.
pub(crate) const MAX_BLOCKS: u32 = 1 << 16;
/// Blocks along y at most: a limit of the device.
pub(crate) const MAX_Y: u32 = 65_535;

/// A kernel launch: what the driver gets, and what the CPU run of the kernel gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Name of the kernel.
    pub entry: &'static CStr,
    /// Blocks along x, y, z.
    pub grid: [u32; 3],
    /// Threads of a block along x, y, z.
    pub block: [u32; 3],
    slots: [u64; SLOTS],
    len: usize,
}

impl Plan {
    /// A launch of `entry` without parameters yet.
    pub(crate) fn new(entry: &'static CStr, grid: [u32; 3], threads: u32) -> Self {
        Self { entry, grid, block: [threads, 1, 1], slots: [0; SLOTS], len: 0 }
    }

    /// Appends an address or a 64-bit number.
    pub(crate) fn wide(mut self, value: u64) -> Self {
        debug_assert!(self.len < SLOTS, "a kernel has at most {SLOTS} parameters");
        self.slots[self.len] = value;
        self.len += 1;
        self
    }

    /// Appends an address, null for `None`.
    pub(crate) fn slice(self, slice: Option<DeviceSlice>) -> Self {
        self.wide(slice.map_or(0, |s| s.address))
    }

    /// Appends a 32-bit number.
    pub(crate) fn word(self, value: u32) -> Self {
        self.wide(u64::from(value))
    }

    /// Calls `f` with one pointer a parameter, as the driver takes them, into this plan.
    pub fn with_params<R>(&mut self, f: impl FnOnce(&mut [*mut c_void]) -> R) -> R {
        let mut pointers = [std::ptr::null_mut(); SLOTS];
        for (pointer, slot) in pointers.iter_mut().zip(&mut self.slots) {
            *pointer = std::ptr::from_mut(slot).cast();
        }
        f(&mut pointers[..self.len])
    }
}

/// Work that is one or more launches, in their order.
pub trait Kernel {
    /// Validates the shapes and decides the launches; none where there is nothing to do.
    ///
    /// # Errors
    /// `InvalidInput` if a buffer is too short, null or misaligned, rows overlap, or a number does not fit the
    /// kernels' types.
    fn plan(&self) -> Result<Vec<Plan>>;
}

/// Rows of logits in memory of the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogitsRows {
    /// The memory; `len` counts elements of `dtype` from the address on.
    pub logits: DeviceSlice,
    /// Element type.
    pub dtype: Dtype,
    /// Rows.
    pub rows: usize,
    /// Logits of a row.
    pub vocab: usize,
    /// Elements from one row to the next.
    pub stride: usize,
}

impl LogitsRows {
    /// Rows and vocabulary as the kernels count.
    pub(crate) fn check(&self) -> Result<(u32, u32)> {
        let rows = small("logits_rows", self.rows)?;
        let vocab = small("vocab", self.vocab)?;
        if self.rows > 1 && self.stride < self.vocab {
            let why = format!("{} is less than the {} logits of a row", self.stride, self.vocab);
            return Err(Error::input("stride", why));
        }
        let extent = match self.rows {
            0 => Some(0),
            n => (n - 1).checked_mul(self.stride).and_then(|x| x.checked_add(self.vocab)),
        };
        check_slice("logits", self.logits, extent, self.dtype.bytes())?;
        Ok((rows, vocab))
    }
}

/// Some of these rows, in any order, under masks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaskedRows {
    /// Logits, only read.
    pub logits: LogitsRows,
    /// Rows asked about.
    pub rows: usize,
    /// int32 \[`rows`\]: the logits row of each; `None`: row `r` is logits row `r`.
    pub row_indices: Option<DeviceSlice>,
    /// Packed masks, `rows` × `mask_words`; `None` allows all.
    pub mask: Option<DeviceSlice>,
    /// Words of a mask row. Logits beyond them are forbidden.
    pub mask_words: usize,
}

impl MaskedRows {
    /// Every row, nothing masked.
    pub fn all(logits: LogitsRows) -> Self {
        Self { logits, rows: logits.rows, row_indices: None, mask: None, mask_words: 0 }
    }

    /// Rows as the kernels count.
    pub(crate) fn check(&self) -> Result<u32> {
        let (logits_rows, _) = self.logits.check()?;
        let rows = small("rows", self.rows)?;
        small("mask_words", self.mask_words)?;
        check_indices(self.row_indices, rows, logits_rows)?;
        check_some("mask", self.mask, self.rows.checked_mul(self.mask_words), 4)?;
        Ok(rows)
    }

    /// The numbers, in the order of every kernel.
    pub(crate) fn numbers(&self, plan: Plan) -> Plan {
        plan.wide(self.logits.stride as u64)
            .word(self.rows as u32)
            .word(self.logits.vocab as u32)
            .word(self.logits.rows as u32)
            .word(self.mask_words as u32)
    }
}

/// Indices of `rows` rows, or as many logits rows.
pub(crate) fn check_indices(
    indices: Option<DeviceSlice>,
    rows: u32,
    logits_rows: u32,
) -> Result<()> {
    match indices {
        Some(indices) => check_slice("row_indices", indices, Some(rows as usize), 4),
        None if rows > logits_rows => {
            let why = format!("{rows} rows need row_indices into {logits_rows} logits rows");
            Err(Error::input("rows", why))
        }
        None => Ok(()),
    }
}

/// The kernels count in 32 bits and rely on sums of two such numbers not wrapping.
pub(crate) fn small(what: &str, value: usize) -> Result<u32> {
    i32::try_from(value).map(i32::cast_unsigned).map_err(|_| {
        Error::input(what, format!("{value} is more than the {} a kernel can count", i32::MAX))
    })
}

/// `need` elements of `bytes` bytes each, aligned; `None`: more than can be counted.
pub(crate) fn check_slice(
    what: &str,
    slice: DeviceSlice,
    need: Option<usize>,
    bytes: u64,
) -> Result<()> {
    match need {
        Some(need) if need <= slice.len => {}
        Some(need) => {
            return Err(Error::input(what, format!("{} elements, {need} are needed", slice.len)));
        }
        None => return Err(Error::input(what, "the shape overflows")),
    }
    if need != Some(0) && (slice.address == 0 || !slice.address.is_multiple_of(bytes)) {
        let why = format!("address {:#x} is not a multiple of {bytes}", slice.address);
        return Err(Error::input(what, why));
    }
    Ok(())
}

/// The same where the slice may be absent.
pub(crate) fn check_some(
    what: &str,
    slice: Option<DeviceSlice>,
    need: Option<usize>,
    bytes: u64,
) -> Result<()> {
    slice.map_or(Ok(()), |slice| check_slice(what, slice, need, bytes))
}

/// The entry for a dtype out of its three, f32 first, then f16, bf16.
pub(crate) fn by_dtype(entries: &[&'static CStr], dtype: Dtype) -> &'static CStr {
    match dtype {
        Dtype::F32 => entries[0],
        Dtype::F16 => entries[1],
        Dtype::Bf16 => entries[2],
    }
}
