//! The primary context of a device, with the committed PTX loaded into it.
//!
//! Invariants:
//! * one [`Context`] a device and process, never released: the primary context is the one that `PyTorch`,
//!   `CuPy` and the runtime API use, so their memory and streams are valid in it, and nothing of theirs is
//!   ever destroyed from here;
//! * a module is loaded when the context is made, so a launch never compiles;
//! * the context that was current on the calling thread is current again after every call.

use crate::driver::guarded;
use crate::plan::Kernel;
use cudarc::driver::{DriverError, result, sys};
use std::collections::BTreeMap;
use std::ffi::CStr;
use std::sync::{Mutex, PoisonError};
use trivium_core::{Error, Result};

/// The committed PTX, each with the entries it holds.
pub(crate) const MODULES: &[(&str, &[&CStr])] = &[
    (concat!(include_str!("../ptx/apply_mask.ptx"), "\0"), crate::apply_mask::ENTRIES),
    (concat!(include_str!("../ptx/cdf.ptx"), "\0"), crate::cdf::ENTRIES),
    (concat!(include_str!("../ptx/race.ptx"), "\0"), crate::race::ENTRIES),
    (concat!(include_str!("../ptx/reject.ptx"), "\0"), crate::reject::ENTRIES),
    (concat!(include_str!("../ptx/row_stat.ptx"), "\0"), crate::row_stat::ENTRIES),
    (concat!(include_str!("../ptx/tree.ptx"), "\0"), crate::tree::ENTRIES),
];

/// The architecture that the committed PTX declares.
pub(crate) fn kernels_target() -> &'static str {
    MODULES[0].0.lines().find_map(|line| line.strip_prefix(".target ")).unwrap_or("unknown").trim()
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
                let mut functions = BTreeMap::new();
                for &(image, entries) in MODULES {
                    // SAFETY: the image is text that ends in a zero byte, as PTX must; the module stays
                    // loaded for the life of the process, and its functions with it. The names end in a
                    // zero byte by their type.
                    unsafe {
                        let module = result::module::load_data(image.as_ptr().cast())?;
                        for &name in entries {
                            let mut function = std::ptr::null_mut();
                            sys::cuModuleGetFunction(&raw mut function, module, name.as_ptr())
                                .result()?;
                            functions.insert(name, function);
                        }
                    }
                }
                Ok(functions)
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

    /// Refuses an address range that is no memory of this device, so that an exporter's wrong word is an error and not
    /// a fault of the whole context.
    ///
    /// # Errors
    /// `InvalidInput` naming `what`.
    pub fn check_memory(&self, what: &str, address: u64, bytes: usize) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        for at in [address, address.saturating_add(bytes as u64 - 1)] {
            let mut ordinal = -1i32;
            let found = self.enter(|| {
                let attribute = sys::CUpointer_attribute::CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL;
                // SAFETY: the driver writes one integer to the address of a live one and reads nothing at `at`.
                unsafe { sys::cuPointerGetAttribute((&raw mut ordinal).cast(), attribute, at) }
                    .result()
            });
            if found.is_err() || ordinal != self.ordinal {
                let why = format!("address {at:#x} is no memory of CUDA device {}", self.ordinal);
                return Err(Error::input(what, why));
            }
        }
        Ok(())
    }

    /// Runs driver calls with this context current, for tests and callers that own device memory.
    ///
    /// # Errors
    /// `Device` if a call fails or panics.
    pub fn enter<T>(&self, calls: impl FnOnce() -> Result<T, DriverError>) -> Result<T> {
        guarded(|| with_current(self.handle, calls))
    }

    /// Enqueues a kernel's launches on `stream`, in their order, and returns at once; allocates nothing on the device
    /// and waits for nothing.
    ///
    /// # Errors
    /// `InvalidInput` as [`Kernel::plan`]; `Device` if the driver refuses. A fault of a kernel itself surfaces at the
    /// caller's next synchronisation, as always on a stream.
    ///
    /// # Safety
    /// `stream` is a live stream of this context. The slices of the kernel are memory of its device, of the length
    /// they state, and stay allocated until the stream has run the launches; nothing else writes them meanwhile, and
    /// they hold what their fields say.
    pub unsafe fn enqueue(&self, stream: Stream, kernel: &dyn Kernel) -> Result<()> {
        let mut plans = kernel.plan()?;
        for plan in &plans {
            if !self.functions.contains_key(plan.entry) {
                return Err(Error::Internal { detail: format!("no kernel {:?}", plan.entry) });
            }
        }
        self.enter(|| {
            for plan in &mut plans {
                let function = self.functions[plan.entry];
                let ([gx, gy, gz], [bx, by, bz]) = (plan.grid, plan.block);
                // SAFETY: the function belongs to a module of this context, which is current; plans match their
                // entries (tests); the driver copies the parameters out of the plan before it returns; the rest is
                // the caller's word.
                plan.with_params(|params| unsafe {
                    let stream = stream.0 as sys::CUstream;
                    result::launch_kernel(function, (gx, gy, gz), (bx, by, bz), 0, stream, params)
                })?;
            }
            Ok(())
        })
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The PTX is what a device runs, so its parameters are compared and not only the source's: 8 bytes for
    /// addresses and strides, 4 for counts.
    fn kinds(entry: &CStr) -> String {
        let head = format!(".entry {}(", entry.to_str().unwrap());
        let (_, rest) =
            MODULES.iter().find_map(|(ptx, _)| ptx.split_once(&head)).unwrap_or_default();
        let list = rest.split_once(')').unwrap_or_default().0;
        list.lines()
            .filter_map(|l| l.split_whitespace().nth(1))
            .map(|kind| match kind {
                ".u64" => '8',
                ".u32" => '4',
                _ => '?',
            })
            .collect()
    }

    #[test]
    fn the_ptx_takes_the_parameters_that_plans_pass() {
        for &(_, entries) in MODULES {
            for &entry in entries {
                let name = entry.to_str().unwrap();
                let expected = match name {
                    n if n.starts_with("apply_mask") => "88844844",
                    n if n.starts_with("cdf_pick") => "88888888444488888",
                    n if n.starts_with("cdf_score") => "8888888844448888",
                    n if n.starts_with("cdf") => "88888888444488",
                    "race_merge" => "88884444",
                    n if n.starts_with("race") => "88888888844448",
                    "row_stat_merge" => "888844",
                    n if n.starts_with("row_stat") => "8888884444",
                    "tree_walk" | "tree_pack" => "88888888884",
                    n if n.starts_with("reject") => "88888888444488888888888844",
                    "tree_mask" => "88844",
                    n => panic!("{n} is not in this table"),
                };
                assert_eq!(kinds(entry), expected, "{name}");
            }
        }
    }
}
