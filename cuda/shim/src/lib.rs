//! Runs the CUDA sources of trivium on the CPU, unchanged, under a checker.
//!
//! No machine of the project's builds has a GPU, so this is how a kernel is tested there. The build
//! script compiles each `.cu` file with the C++ compiler; every thread of a block becomes a fibre; the
//! order in which fibres and blocks run is drawn from a seed; and every access to memory passes a
//! shadow memory that finds races, stray, misaligned and uninitialised accesses (`cpp/shadow.cpp`).
//! A launch takes the very grid and parameter array that the driver would get.
//!
//! What this cannot show: speed, and faults of the PTX or of the driver. Ordering through atomics or
//! fences is not modelled. Where no C++ compiler is found, [`BUILT`] is false and nothing can run.

#![deny(missing_docs)]
#![allow(unsafe_code, reason = "kernels compiled as C++ are called")]

use std::ffi::c_void;
use std::marker::PhantomData;

/// Whether a C++ compiler was found when this crate was built.
pub const BUILT: bool = cfg!(shim_built);

/// Every kernel with every variant compiled; the empty variant is the source as it is.
pub const VARIANTS: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/variants.rs"));

/// Folders with a library under the CUDA driver's name: one that runs launches in the shim
/// (`cpp/fake_driver.cpp`), one that lacks every symbol. A process finds one if it is started with the
/// folder in `LD_LIBRARY_PATH`. `None` where nothing was built.
pub const FAKE_DRIVERS: Option<(&str, &str)> = include!(concat!(env!("OUT_DIR"), "/drivers.rs"));

/// The memory that a launch may touch.
///
/// Addresses handed out stay valid while the buffers are borrowed.
#[derive(Debug, Default)]
pub struct Buffers<'a> {
    regions: Vec<Region>,
    borrowed: PhantomData<&'a mut ()>,
}

/// As `ShimRegion` in `cpp/internal.h`.
#[derive(Debug)]
#[repr(C)]
struct Region {
    begin: usize,
    bytes: usize,
    granule: u32,
    writable: u32,
    name: *const std::ffi::c_char,
}

impl<'a> Buffers<'a> {
    /// No memory.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets the kernel read `data`; a write is a finding. Returns its address.
    pub fn read_only<T: Copy>(&mut self, name: &'static std::ffi::CStr, data: &'a [T]) -> u64 {
        self.add(name, data.as_ptr() as usize, size_of_val(data), size_of::<T>(), false)
    }

    /// Lets the kernel read and write `data`. Races are looked for element by element.
    pub fn writable<T: Copy>(&mut self, name: &'static std::ffi::CStr, data: &'a mut [T]) -> u64 {
        self.add(name, data.as_mut_ptr() as usize, size_of_val(data), size_of::<T>(), true)
    }

    fn add(
        &mut self,
        name: &'static std::ffi::CStr,
        begin: usize,
        bytes: usize,
        granule: usize,
        writable: bool,
    ) -> u64 {
        let (granule, writable) = (granule as u32, u32::from(writable));
        self.regions.push(Region { begin, bytes, granule, writable, name: name.as_ptr() });
        begin as u64
    }
}

/// Why a launch on the CPU was not clean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The crate was built without a C++ compiler.
    NotBuilt,
    /// No such kernel, variant or number of parameters was compiled.
    NoSuchKernel,
    /// What the checker saw, a line each: the kind, a colon, the circumstances. The kinds are `race`,
    /// `out-of-bounds`, `read-only`, `misaligned`, `uninitialised`, `warp` and `deadlock`.
    Findings(String),
}

/// Runs `kernel` in `variant` over `grid` blocks of `block` threads.
///
/// `seed` fixes the order of blocks and, between two synchronisations, of threads. Launches of one
/// process run one after another.
///
/// # Errors
/// [`Fault`]; the buffers may be partly written.
///
/// # Safety
/// `params` holds one pointer for each parameter of the kernel, to a value of that parameter's type.
/// Addresses among them are checked against `buffers` when the kernel uses them.
pub unsafe fn launch(
    kernel: &str,
    variant: &str,
    grid: [u32; 3],
    block: [u32; 3],
    seed: u64,
    buffers: &Buffers<'_>,
    params: &mut [*mut c_void],
) -> Result<(), Fault> {
    #[cfg(not(shim_built))]
    {
        let _ = (kernel, variant, grid, block, seed, &buffers.regions, params);
        Err(Fault::NotBuilt)
    }
    #[cfg(shim_built)]
    {
        // SAFETY: the caller vouches for `params`.
        unsafe { native::launch(kernel, variant, grid, block, seed, &buffers.regions, params) }
    }
}

#[cfg(shim_built)]
mod native {
    use super::{Fault, Region, c_void};
    use std::ffi::{CStr, CString, c_char};
    use std::sync::{Mutex, PoisonError};

    unsafe extern "C" {
        fn shim_launch(
            kernel: *const c_char,
            variant: *const c_char,
            grid: *const u32,
            block: *const u32,
            seed: u64,
            regions: *const Region,
            region_count: usize,
            params: *mut *mut c_void,
            param_count: usize,
            text: *mut c_char,
            capacity: usize,
        ) -> i32;
    }

    /// The scheduler and the shared memory of kernels are process-wide.
    static RUNNING: Mutex<()> = Mutex::new(());

    pub(super) unsafe fn launch(
        kernel: &str,
        variant: &str,
        grid: [u32; 3],
        block: [u32; 3],
        seed: u64,
        regions: &[Region],
        params: &mut [*mut c_void],
    ) -> Result<(), Fault> {
        let (Ok(kernel), Ok(variant)) = (CString::new(kernel), CString::new(variant)) else {
            return Err(Fault::NoSuchKernel);
        };
        let mut text = vec![0u8; 4096];
        let _turn = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: every pointer is to a live local or argument of the length passed with it, the lock
        // keeps launches apart, and the caller vouches for what `params` points at.
        let findings = unsafe {
            shim_launch(
                kernel.as_ptr(),
                variant.as_ptr(),
                grid.as_ptr(),
                block.as_ptr(),
                seed,
                regions.as_ptr(),
                regions.len(),
                params.as_mut_ptr(),
                params.len(),
                text.as_mut_ptr().cast(),
                text.len(),
            )
        };
        match findings {
            0 => Ok(()),
            1.. => {
                let text = CStr::from_bytes_until_nul(&text).unwrap_or_default();
                Err(Fault::Findings(text.to_string_lossy().into_owned()))
            }
            _ => Err(Fault::NoSuchKernel),
        }
    }
}
