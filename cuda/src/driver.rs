//! The driver as a source of typed errors: found or not, and every call guarded.
//!
//! The driver library is opened at the first call. cudarc panics where the library or one of its
//! symbols is missing, so [`is_available`] looks for the library before anything else is asked, and
//! `guarded` turns a panic that still happens into [`Error::Device`]: a driver older than the symbols
//! used, or a broken installation, must not take a server down.

use cudarc::driver::{DriverError, result, sys};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use trivium_core::{Error, Result};

/// Code of errors that do not come from the driver: there is none, or it cannot be called.
pub const NO_DRIVER: i32 = -1;

/// Runs driver calls; a missing driver, a driver error and a panic become [`Error::Device`].
///
/// # Errors
/// [`Error::Device`].
pub(crate) fn guarded<T>(calls: impl FnOnce() -> Result<T, DriverError>) -> Result<T> {
    initialised().clone()?;
    unguarded(calls)
}

fn unguarded<T>(calls: impl FnOnce() -> Result<T, DriverError>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(calls)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(device_error(error)),
        Err(panic) => {
            let detail = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("the driver layer panicked");
            Err(no_driver(detail))
        }
    }
}

pub(crate) fn no_driver(detail: impl Into<String>) -> Error {
    Error::Device { code: NO_DRIVER, detail: detail.into() }
}

fn device_error(error: DriverError) -> Error {
    // Asking the driver for the text of a code is itself a driver call.
    let text = catch_unwind(AssertUnwindSafe(|| {
        error.error_string().map(|s| s.to_string_lossy().into_owned()).ok()
    }));
    let detail = text.ok().flatten().unwrap_or_else(|| format!("{:?}", error.0));
    Error::Device { code: error.0 as i32, detail }
}

/// Looks for the library and initialises the driver, once a process; the outcome is kept, also a bad one.
fn initialised() -> &'static Result<()> {
    static OUTCOME: OnceLock<Result<()>> = OnceLock::new();
    OUTCOME.get_or_init(|| {
        // SAFETY: opening the library runs its initialisers; it is the system's CUDA driver, looked
        // for by the names under which drivers install it.
        let present = catch_unwind(|| unsafe { sys::is_culib_present() }).unwrap_or(false);
        if !present {
            return Err(no_driver("no CUDA driver library was found"));
        }
        unguarded(result::init)
    })
}

/// Whether a driver was found and reports at least one device. Asks the system once, then costs one
/// driver call.
pub fn is_available() -> bool {
    guarded(result::device::get_count).is_ok_and(|n| n > 0)
}

/// One device, as its driver describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Number by which the driver knows it.
    pub ordinal: i32,
    /// Marketing name.
    pub name: String,
    /// Compute capability; the kernels need 8.0.
    pub compute_capability: (i32, i32),
    /// Memory in bytes.
    pub memory: usize,
}

/// What was found, for a person who asks why the GPU is or is not used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doctor {
    /// Version of the driver's interface, such as 12040 for 12.4; `None` without a driver.
    pub driver_version: Option<i32>,
    /// Every device of the driver.
    pub devices: Vec<DeviceInfo>,
    /// Why kernels cannot run; `None` where at least one device can run them.
    pub why_not: Option<String>,
    /// Target of the committed kernels, as their text declares it, such as `sm_80`.
    pub kernels_target: &'static str,
}

/// Looks for driver and devices. Never fails and never starts work on a device.
pub fn doctor() -> Doctor {
    let mut found = Doctor {
        driver_version: None,
        devices: Vec::new(),
        why_not: None,
        kernels_target: crate::context::kernels_target(),
    };
    let seen = guarded(|| {
        let mut version = 0;
        // SAFETY: the driver is initialised and writes one integer to the address of a live one.
        unsafe { sys::cuDriverGetVersion(&raw mut version) }.result()?;
        found.driver_version = Some(version);
        for ordinal in 0..result::device::get_count()? {
            found.devices.push(describe(ordinal)?);
        }
        Ok(())
    });
    found.why_not = match seen {
        Err(Error::Device { detail, .. }) => Some(detail),
        Err(other) => Some(other.to_string()),
        Ok(()) if found.devices.is_empty() => Some("the driver reports no device".into()),
        Ok(()) if found.devices.iter().all(|d| d.compute_capability < (8, 0)) => {
            Some("no device has compute capability 8.0, which the kernels need".into())
        }
        Ok(()) => None,
    };
    found
}

fn describe(ordinal: i32) -> Result<DeviceInfo, DriverError> {
    use sys::CUdevice_attribute::{
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR as MAJOR,
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR as MINOR,
    };
    let device = result::device::get(ordinal)?;
    // SAFETY: `device` was returned by the driver for this ordinal in the line above.
    let (major, minor, memory) = unsafe {
        (
            result::device::get_attribute(device, MAJOR)?,
            result::device::get_attribute(device, MINOR)?,
            result::device::total_mem(device)?,
        )
    };
    let name = result::device::get_name(device)?;
    Ok(DeviceInfo { ordinal, name, compute_capability: (major, minor), memory })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_the_driver_layer_is_an_error() {
        let error = unguarded(|| -> Result<(), DriverError> { panic!("missing symbol") });
        assert_eq!(error, Err(no_driver("missing symbol")));
    }

    #[test]
    fn doctor_explains_what_is_missing() {
        let found = doctor();
        assert_eq!(found.kernels_target, "sm_80");
        assert_eq!(
            found.why_not.is_some(),
            found.devices.iter().all(|d| d.compute_capability < (8, 0))
        );
        if !is_available() {
            assert!(found.devices.is_empty());
            assert!(matches!(guarded(|| Ok(())), Ok(()) | Err(Error::Device { .. })));
        }
    }
}
