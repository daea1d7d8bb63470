//! The primary context of a device, with the committed PTX loaded into it.
//!
//! Invariants:
//! * one [`Context`] a device and process, never released: the primary context is the one that `PyTorch`,
//!   `CuPy` and the runtime API use, so their memory and streams are valid in it, and nothing of theirs is
//!   ever destroyed from here;
//! * a module is loaded when the context is made, so a launch never compiles;
//! * the context that was current on the calling thread is current again after every call.

use crate::driver::guarded;
use cudarc::driver::{DriverError, result, sys};
use std::collections::BTreeMap;
use std::ffi::{CStr, c_void};
use std::sync::{Mutex, PoisonError};
use trivium_core::{Error, Result};

pub(crate) const APPLY_MASK_PTX: &str = concat!(include_str!("../ptx/apply_mask.ptx"), "\0");

/// The architecture that the committed PTX declares.
pub(crate) fn kernels_target() -> &'static str {
    APPLY_MASK_PTX
        .lines()
        .find_map(|line| line.strip_prefix(".target "))
        .unwrap_or("unknown")
        .trim()
}

/// A stream of the caller: its raw handle, such as `torch.cuda.current_stream().cuda_stream`.
///
/// 0 is the legacy default stream, 1 and 2 the driver's names for the legacy and the per-thread one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stream(pub usize);

/// A device on which kernels can be launched. Shared by all threads, lives as long as the process.
#[derive(Debug)]
pub struct Context {
    ordinal: i32,
    handle: sys::CUcontext,
    functions: BTreeMap<&'static CStr, sys::CUfunction>,
}

// SAFETY: the fields are handles that the driver documents as usable from every thread; they are set
// when the value is made, before it is shared, and never change.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

impl Context {
    /// The context of device `ordinal`. The first call of a device retains its primary context and loads
    /// the kernels (the driver compiles them for the device, or finds them in its cache); later calls
    /// look it up.
    ///
    /// # Errors
    /// `Device` without a driver or such a device, or if the driver refuses the kernels.
    pub fn primary(ordinal: i32) -> Result<&'static Self> {
        static ALL: Mutex<BTreeMap<i32, &'static Context>> = Mutex::new(BTreeMap::new());
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get(&ordinal) {
            return Ok(known);
        }
        let context = &*Box::leak(Box::new(Self::load(ordinal)?));
        all.insert(ordinal, context);
        Ok(context)
    }

    fn load(ordinal: i32) -> Result<Self> {
        guarded(|| {
            let device = result::device::get(ordinal)?;
            // SAFETY: `device` comes from the driver. The reference taken is never given back on
            // success, and given back below on failure.
            let context = unsafe { result::primary_ctx::retain(device)? };
            let functions = with_current(context, || {
                // SAFETY: the image is text that ends in a zero byte, as PTX must; the module stays
                // loaded for the life of the process, and its functions with it. The names end in a
                // zero byte by their type.
                unsafe {
                    let module = result::module::load_data(APPLY_MASK_PTX.as_ptr().cast())?;
                    crate::apply_mask::ENTRIES
                        .iter()
                        .map(|&name| {
                            let mut function = std::ptr::null_mut();
                            sys::cuModuleGetFunction(&raw mut function, module, name.as_ptr())
                                .result()?;
                            Ok((name, function))
                        })
                        .collect()
                }
            });
            match functions {
                Ok(functions) => Ok(Self { ordinal, handle: context, functions }),
                Err(error) => {
                    // SAFETY: releases the one reference retained above.
                    unsafe { result::primary_ctx::release(device)? };
                    Err(error)
                }
            }
        })
    }

    /// Number of the device.
    pub fn ordinal(&self) -> i32 {
        self.ordinal
    }

    /// Runs driver calls with this context current, for tests and callers that own device memory.
    ///
    /// # Errors
    /// `Device` if a call fails or panics.
    pub fn enter<T>(&self, calls: impl FnOnce() -> Result<T, DriverError>) -> Result<T> {
        guarded(|| with_current(self.handle, calls))
    }

    /// Enqueues `launch` on `stream` and returns at once.
    ///
    /// # Errors
    /// `Device` if the driver refuses; a fault of the kernel itself surfaces at the caller's next
    /// synchronisation, as always on a stream.
    ///
    /// # Safety
    /// `stream` is a live stream of this context. Every address among the parameters is device memory
    /// of it, valid until the stream has run the launch, and as long as the kernel's contract asks.
    pub(crate) unsafe fn launch(&self, stream: Stream, launch: &mut Launch<'_>) -> Result<()> {
        let Some(&function) = self.functions.get(launch.entry) else {
            return Err(Error::Internal { detail: format!("no kernel {:?}", launch.entry) });
        };
        let [gx, gy, gz] = launch.grid;
        let [bx, by, bz] = launch.block;
        self.enter(|| {
            // SAFETY: the function belongs to a module of this context, which is current; the driver
            // copies the parameters out of `params` before it returns; the rest is the caller's word.
            unsafe {
                result::launch_kernel(
                    function,
                    (gx, gy, gz),
                    (bx, by, bz),
                    0,
                    stream.0 as sys::CUstream,
                    launch.params,
                )
            }
        })
    }
}

/// One kernel launch as the driver takes it.
#[derive(Debug)]
pub(crate) struct Launch<'a> {
    /// Name of the kernel.
    pub(crate) entry: &'static CStr,
    /// Blocks along x, y, z.
    pub(crate) grid: [u32; 3],
    /// Threads of a block along x, y, z.
    pub(crate) block: [u32; 3],
    /// One pointer a parameter.
    pub(crate) params: &'a mut [*mut c_void],
}

/// Runs `calls` with `context` current and puts back what was current before, also after an error.
fn with_current<T>(
    context: sys::CUcontext,
    calls: impl FnOnce() -> Result<T, DriverError>,
) -> Result<T, DriverError> {
    struct Restore(sys::CUcontext);
    impl Drop for Restore {
        fn drop(&mut self) {
            // SAFETY: the handle is what the driver said was current on this thread, or null, which
            // means none. A failure leaves our context current: harmless, and no place to report it.
            let _ = unsafe { sys::cuCtxSetCurrent(self.0) };
        }
    }
    let before = result::ctx::get_current()?;
    if before == Some(context) {
        return calls();
    }
    let _restore = Restore(before.unwrap_or(std::ptr::null_mut()));
    // SAFETY: `context` is a primary context that this process retains.
    unsafe { result::ctx::set_current(context)? };
    calls()
}
