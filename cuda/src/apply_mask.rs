//! The packed token mask onto logits in device memory: minus infinity where a bit is 0.
//!
//! Twin of [`trivium_core::mask::apply`], row by row and bit for bit. Kernel, layout and reasons:
//! `cuda/kernels/apply_mask.cu`. One thread owns 16 bytes of logits; blocks along x cover a row, blocks
//! along y the mask rows, and both loop when the grid is cut to the device's limits.
//!
//! [`ApplyMask::plan`] is everything the host decides: it validates the shapes and yields grid, block and
//! parameters. [`apply_mask`] hands that to the driver; the tests hand it to the CPU run of the kernel.

use crate::context::{Context, Launch, Stream};
use crate::{DeviceSlice, Dtype};
use std::ffi::{CStr, c_void};
use trivium_core::{Error, Result};

/// Entries of the kernel file, as the PTX names them.
pub(crate) const ENTRIES: &[&CStr] = &[c"apply_mask_f32", c"apply_mask_f16", c"apply_mask_bf16"];

/// Threads of a block.
const THREADS: u32 = 256;
/// Bytes of logits that one thread owns.
const CHUNK: u64 = 16;
/// Blocks of a launch at most; the kernel loops over what is left.
const MAX_BLOCKS: u32 = 1 << 16;
/// Blocks along y at most: a limit of the device.
const MAX_Y: u32 = 65_535;

/// What to mask, in memory of the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApplyMask {
    /// Logits, written in place; `len` counts elements of `dtype` from the address on.
    pub logits: DeviceSlice,
    /// Element type of the logits.
    pub dtype: Dtype,
    /// Packed masks, `rows` × `mask_words` words without padding.
    pub mask: DeviceSlice,
    /// int32 \[`rows`\]: mask row `r` is for logits row `row_indices[r]`. Distinct; an index outside the
    /// logits is skipped. `None`: mask row `r` is for logits row `r`.
    pub row_indices: Option<DeviceSlice>,
    /// Mask rows.
    pub rows: usize,
    /// Words of a mask row. Logits beyond them are forbidden.
    pub mask_words: usize,
    /// Logits rows.
    pub logits_rows: usize,
    /// Logits of a row; all of them are masked.
    pub vocab: usize,
    /// Elements from one logits row to the next. What lies between is not touched.
    pub stride: usize,
}

/// The launch that an [`ApplyMask`] amounts to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Name of the kernel.
    pub entry: &'static CStr,
    /// Blocks along x, y, z.
    pub grid: [u32; 3],
    /// Threads of a block along x, y, z.
    pub block: [u32; 3],
    params: Params,
}

/// Parameters of the kernel, in its order and types.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Params {
    logits: u64,
    mask: u64,
    row_indices: u64,
    rows: u32,
    vocab: u32,
    stride: u64,
    logits_rows: u32,
    mask_words: u32,
}

impl Plan {
    /// One pointer a parameter, as the driver takes them, into this plan.
    pub fn params(&mut self) -> [*mut c_void; 8] {
        let p = &mut self.params;
        [
            (&raw mut p.logits).cast(),
            (&raw mut p.mask).cast(),
            (&raw mut p.row_indices).cast(),
            (&raw mut p.rows).cast(),
            (&raw mut p.vocab).cast(),
            (&raw mut p.stride).cast(),
            (&raw mut p.logits_rows).cast(),
            (&raw mut p.mask_words).cast(),
        ]
    }
}

impl ApplyMask {
    /// Validates the shapes and decides the launch; `None` where there is nothing to do.
    ///
    /// # Errors
    /// `InvalidInput` if a buffer is too short, null or misaligned, rows overlap, or a number does not
    /// fit the kernel's types.
    pub fn plan(&self) -> Result<Option<Plan>> {
        let rows = small("rows", self.rows)?;
        let vocab = small("vocab", self.vocab)?;
        let mask_words = small("mask_words", self.mask_words)?;
        let logits_rows = small("logits_rows", self.logits_rows)?;
        if self.logits_rows > 1 && self.stride < self.vocab {
            let why = format!("{} is less than the {} logits of a row", self.stride, self.vocab);
            return Err(Error::input("stride", why));
        }
        let extent = match self.logits_rows {
            0 => Some(0),
            n => (n - 1).checked_mul(self.stride).and_then(|x| x.checked_add(self.vocab)),
        };
        check_slice("logits", self.logits, extent, self.dtype.bytes())?;
        check_slice("mask", self.mask, self.rows.checked_mul(self.mask_words), 4)?;
        match self.row_indices {
            Some(indices) => check_slice("row_indices", indices, Some(self.rows), 4)?,
            None if self.rows > self.logits_rows => {
                let why =
                    format!("{rows} mask rows need row_indices into {logits_rows} logits rows");
                return Err(Error::input("rows", why));
            }
            None => {}
        }
        if rows == 0 || vocab == 0 || logits_rows == 0 {
            return Ok(None);
        }
        let chunks = u64::from(vocab).div_ceil(CHUNK / self.dtype.bytes());
        let y = rows.min(MAX_Y);
        let x = chunks.div_ceil(u64::from(THREADS)).min(u64::from((MAX_BLOCKS / y).max(1)));
        let entry = match self.dtype {
            Dtype::F32 => ENTRIES[0],
            Dtype::F16 => ENTRIES[1],
            Dtype::Bf16 => ENTRIES[2],
        };
        let params = Params {
            logits: self.logits.address,
            mask: self.mask.address,
            row_indices: self.row_indices.map_or(0, |s| s.address),
            rows,
            vocab,
            stride: self.stride as u64,
            logits_rows,
            mask_words,
        };
        Ok(Some(Plan { entry, grid: [x as u32, y, 1], block: [THREADS, 1, 1], params }))
    }
}

/// Enqueues the masking on `stream` and returns; allocates nothing on the device and waits for nothing.
///
/// # Errors
/// `InvalidInput` as [`ApplyMask::plan`]; `Device` if the driver refuses.
///
/// # Safety
/// `stream` is a live stream of `context`. The slices are memory of its device, of the length they
/// state, and stay allocated until the stream has run the launch; nothing else reads or writes the
/// logits meanwhile. Row indices within the logits are distinct.
pub unsafe fn apply_mask(context: &Context, stream: Stream, args: &ApplyMask) -> Result<()> {
    let Some(mut plan) = args.plan()? else {
        return Ok(());
    };
    let (entry, grid, block) = (plan.entry, plan.grid, plan.block);
    let mut params = plan.params();
    // SAFETY: `params` matches the entry (tests run the same plan on the compiled source, which
    // refuses another number of parameters); the caller vouches for stream and memory.
    unsafe { context.launch(stream, &mut Launch { entry, grid, block, params: &mut params }) }
}

/// The kernel counts in 32 bits and relies on sums of two such numbers not wrapping.
fn small(what: &str, value: usize) -> Result<u32> {
    i32::try_from(value).map(i32::cast_unsigned).map_err(|_| {
        Error::input(what, format!("{value} is more than the {} a kernel can count", i32::MAX))
    })
}

fn check_slice(what: &str, slice: DeviceSlice, need: Option<usize>, bytes: u64) -> Result<()> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> ApplyMask {
        ApplyMask {
            logits: DeviceSlice { address: 0x1000, len: 3 * 104 },
            dtype: Dtype::F16,
            mask: DeviceSlice { address: 0x8000, len: 12 },
            row_indices: None,
            rows: 3,
            mask_words: 4,
            logits_rows: 3,
            vocab: 100,
            stride: 104,
        }
    }

    #[test]
    fn plans_cover_every_chunk() {
        let plan = args().plan().unwrap().unwrap();
        assert_eq!((plan.grid, plan.block), ([1, 3, 1], [256, 1, 1]));
        let wide = ApplyMask { vocab: 128_256, stride: 128_256, ..args() };
        let wide = ApplyMask { logits: DeviceSlice { len: 3 * 128_256, ..wide.logits }, ..wide };
        assert_eq!(wide.plan().unwrap().unwrap().grid, [63, 3, 1]);
        let tall = ApplyMask { rows: 0, ..args() };
        assert_eq!(tall.plan(), Ok(None));
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let indices = Some(DeviceSlice { address: 0x40, len: 2 });
        let refused = |what: &str, args: ApplyMask| match args.plan() {
            Err(Error::InvalidInput { what: found, .. }) => assert_eq!(found, what),
            other => panic!("{what}: {other:?}"),
        };
        refused("stride", ApplyMask { stride: 99, ..args() });
        refused("logits", ApplyMask { stride: 110, ..args() });
        refused("logits", ApplyMask { stride: usize::MAX / 2, ..args() });
        refused("logits", ApplyMask { logits: DeviceSlice { address: 0, len: 312 }, ..args() });
        refused(
            "logits",
            ApplyMask { logits: DeviceSlice { address: 0x1001, len: 312 }, ..args() },
        );
        refused("mask", ApplyMask { mask_words: 5, ..args() });
        refused("mask", ApplyMask { mask: DeviceSlice { address: 0x8002, len: 12 }, ..args() });
        refused("rows", ApplyMask { logits_rows: 2, ..args() });
        refused("row_indices", ApplyMask { row_indices: indices, ..args() });
        refused("vocab", ApplyMask { vocab: 1 << 31, stride: 1 << 31, ..args() });
        // A mask of no words forbids everything and needs no memory.
        let none = ApplyMask { mask_words: 0, mask: DeviceSlice { address: 0, len: 0 }, ..args() };
        assert!(none.plan().unwrap().is_some());
    }
    /// The PTX is what a device runs, so its parameters are compared and not only the source's.
    #[test]
    fn the_ptx_takes_the_parameters_that_a_plan_passes() {
        for entry in ENTRIES {
            let head = format!(".entry {}(", entry.to_str().unwrap());
            let (_, rest) = crate::context::APPLY_MASK_PTX.split_once(&head).unwrap();
            let list = rest.split_once(')').unwrap().0;
            let kinds: Vec<&str> =
                list.lines().filter_map(|l| l.split_whitespace().nth(1)).collect();
            assert_eq!(kinds, [".u64", ".u64", ".u64", ".u32", ".u32", ".u64", ".u32", ".u32"]);
        }
    }
}
