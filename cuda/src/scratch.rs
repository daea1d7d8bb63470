//! Device memory for calls that answer in host memory.
//!
//! A [`Call`] borrows a slab of the context's pool, copies what its kernels need, collects their answers and gives the
//! slab back. All of it happens on one stream of the caller, and the call ends with that stream's synchronisation:
//! numbers in host memory cannot be had without. After the first call of a size nothing is allocated.
//!
//! Invariants:
//! * a slab goes back to the pool only when the stream has passed everything that was enqueued on it; where the
//!   stream's end cannot be waited for, the slab is leaked and never reused;
//! * the pool holds at most [`POOL_BYTES`] a device, the rest is freed.

use crate::DeviceSlice;
use crate::context::{Context, Stream};
use crate::plan::Kernel;
use cudarc::driver::result;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use trivium_core::{Error, Result};

/// Bytes of idle slabs that a device keeps.
pub const POOL_BYTES: usize = 256 << 20;
/// Smallest slab.
const LEAST: usize = 1 << 20;
/// Every piece begins at a multiple of this.
const ALIGN: usize = 256;

/// A type whose every bit pattern is a value.
pub trait Plain: Copy + Default + sealed::Sealed {}
mod sealed {
    pub trait Sealed {}
}
macro_rules! plain {
    ($($t:ty)*) => { $(impl sealed::Sealed for $t {} impl Plain for $t {})* };
}
plain! { u8 i32 u32 f32 u64 }

/// An allocation of the device.
#[derive(Debug)]
struct Slab {
    address: u64,
    bytes: usize,
}

/// Idle slabs, by device.
static IDLE: Mutex<BTreeMap<i32, Vec<Slab>>> = Mutex::new(BTreeMap::new());

/// Bytes of idle slabs of all devices.
pub fn idle_bytes() -> usize {
    let idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
    idle.values().flatten().map(|s| s.bytes).sum()
}

/// The largest idle slab of a device.
fn take(ordinal: i32) -> Option<Slab> {
    let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
    let slabs = idle.get_mut(&ordinal)?;
    let at = (0..slabs.len()).max_by_key(|&i| slabs[i].bytes)?;
    Some(slabs.swap_remove(at))
}

/// Gives a slab back; `false` where the pool is full.
fn put(ordinal: i32, slab: Slab) -> Option<Slab> {
    let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
    let slabs = idle.entry(ordinal).or_default();
    if slabs.iter().map(|s| s.bytes).sum::<usize>() + slab.bytes > POOL_BYTES {
        return Some(slab);
    }
    slabs.push(slab);
    None
}

/// One call: scratch memory, uploads and answers on one stream.
#[derive(Debug)]
pub struct Call {
    context: &'static Context,
    stream: Stream,
    /// The last one is being filled, those before it were too small.
    slabs: Vec<Slab>,
    used: usize,
    /// Something may be running.
    enqueued: bool,
}

impl Call {
    /// A call on a stream of the caller.
    pub fn new(context: &'static Context, stream: Stream) -> Self {
        Self { context, stream, slabs: Vec::new(), used: 0, enqueued: false }
    }

    /// Room for `len` elements of type `T`, uninitialised, until the call ends.
    ///
    /// # Errors
    /// `Device` if the device has no memory left.
    pub fn reserve<T: Plain>(&mut self, len: usize) -> Result<DeviceSlice> {
        let bytes = len
            .checked_mul(size_of::<T>())
            .and_then(|b| b.max(1).checked_next_multiple_of(ALIGN))
            .ok_or_else(|| Error::input("rows", "the shape overflows"))?;
        if self.slabs.last().is_none_or(|s| s.bytes - self.used < bytes) {
            let pooled = if self.slabs.is_empty() { take(self.context.ordinal()) } else { None };
            let slab = match pooled {
                Some(slab) if slab.bytes >= bytes => slab,
                small => {
                    if let Some(small) = small {
                        self.free(&small)?;
                    }
                    // Room for as much again: the next call of this size finds one slab.
                    let held = self.slabs.iter().map(|s| s.bytes).sum::<usize>();
                    let bytes = (2 * (held + bytes)).max(LEAST);
                    // SAFETY: not zero bytes; the memory belongs to this call until it is pooled or freed.
                    let address = self.context.enter(|| unsafe { result::malloc_sync(bytes) })?;
                    Slab { address, bytes }
                }
            };
            self.slabs.push(slab);
            self.used = 0;
        }
        let base = self.slabs.last().map_or(0, |s| s.address);
        let slice = DeviceSlice { address: base + self.used as u64, len };
        self.used += bytes;
        Ok(slice)
    }

    /// Copies `data` to the device.
    ///
    /// # Errors
    /// As [`reserve`](Self::reserve).
    pub fn upload<T: Plain>(&mut self, data: &[T]) -> Result<DeviceSlice> {
        let slice = self.reserve::<T>(data.len())?;
        if !data.is_empty() {
            self.enqueued = true;
            // SAFETY: the slice was reserved for this length. The host's memory is pageable, of which the driver makes
            // its own copy before it returns.
            self.context.enter(|| unsafe {
                result::memcpy_htod_async(slice.address, data, self.stream.0 as _)
            })?;
        }
        Ok(slice)
    }

    /// Enqueues a kernel.
    ///
    /// # Errors
    /// As [`Context::enqueue`].
    ///
    /// # Safety
    /// As [`Context::enqueue`]; slices of this call are alive.
    pub unsafe fn enqueue(&mut self, kernel: &dyn Kernel) -> Result<()> {
        self.enqueued = true;
        // SAFETY: the caller's word.
        unsafe { self.context.enqueue(self.stream, kernel) }
    }

    /// The contents of a slice, after everything enqueued before.
    ///
    /// # Errors
    /// `Device` if the copy fails, or anything that ran before it.
    ///
    /// # Safety
    /// The slice holds values of type `T` by then.
    pub unsafe fn download<T: Plain>(&mut self, slice: DeviceSlice) -> Result<Vec<T>> {
        let mut out = vec![T::default(); slice.len];
        if !out.is_empty() {
            self.enqueued = true;
            // SAFETY: the caller's word; `out` outlives the copy, which is waited for here.
            self.context.enter(|| unsafe {
                result::memcpy_dtoh_async(&mut out, slice.address, self.stream.0 as _)?;
                result::stream::synchronize(self.stream.0 as _)
            })?;
            self.enqueued = false;
        }
        Ok(out)
    }

    /// Waits for the stream and gives the memory back.
    ///
    /// # Errors
    /// `Device` if anything on the stream failed.
    pub fn finish(mut self) -> Result<()> {
        self.wait()
    }

    fn wait(&mut self) -> Result<()> {
        if self.enqueued {
            // SAFETY: the stream is alive by the contract of what was enqueued.
            self.context.enter(|| unsafe { result::stream::synchronize(self.stream.0 as _) })?;
            self.enqueued = false;
        }
        Ok(())
    }

    fn free(&self, slab: &Slab) -> Result<()> {
        // SAFETY: allocated here, and nothing enqueued uses it any more.
        self.context.enter(|| unsafe { result::free_sync(slab.address) })
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.wait().is_err() {
            return; // leaked: see the invariants
        }
        let slabs = std::mem::take(&mut self.slabs);
        let last = slabs.len().saturating_sub(1);
        for (i, slab) in slabs.into_iter().enumerate() {
            // Those that were too small would be taken and freed at the next call.
            let left = if i == last { put(self.context.ordinal(), slab) } else { Some(slab) };
            if let Some(slab) = left {
                drop(self.free(&slab)); // no place to report it
            }
        }
    }
}
