//! What the CUDA half of the library finds on this machine.

use crate::errors::PyRes;
use crate::guard::guard;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

/// What of a device is shown: ordinal, name, compute capability, bytes of memory.
type Device = (i32, String, (i32, i32), usize);

/// The fields of `trivium_cuda::Doctor`, which exist in every build.
struct Found {
    driver_version: Option<i32>,
    devices: Vec<Device>,
    why_not: Option<String>,
    /// Whether the driver took the kernels on the first device that can run them.
    loads: bool,
    kernels_target: Option<&'static str>,
}

#[cfg(feature = "cuda")]
fn look() -> Found {
    let found = trivium_cuda::doctor();
    let able = found.devices.iter().find(|d| d.compute_capability >= (8, 0)).map(|d| d.ordinal);
    let refused = able.map(|d| match trivium_cuda::Context::primary(d) {
        Ok(_) => None,
        Err(trivium_core::Error::Device { detail, .. }) => Some(detail),
        Err(other) => Some(other.to_string()),
    });
    Found {
        loads: refused == Some(None),
        driver_version: found.driver_version,
        devices: found
            .devices
            .into_iter()
            .map(|d| (d.ordinal, d.name, d.compute_capability, d.memory))
            .collect(),
        why_not: found.why_not.or(refused.flatten()),
        kernels_target: Some(found.kernels_target),
    }
}

#[cfg(not(feature = "cuda"))]
fn look() -> Found {
    Found {
        driver_version: None,
        devices: Vec::new(),
        why_not: Some("this build has no CUDA kernels (feature `cuda`)".into()),
        loads: false,
        kernels_target: None,
    }
}

/// Looks for driver and devices and loads the kernels on the first device that can run them; never fails.
#[pyfunction]
pub(crate) fn cuda_doctor(py: Python<'_>) -> PyRes<Bound<'_, PyDict>> {
    let found = guard(py, || Ok(look()))?;
    let devices = PyList::empty(py);
    for (ordinal, name, capability, memory) in found.devices {
        let device = PyDict::new(py);
        device.set_item("ordinal", ordinal)?;
        device.set_item("name", name)?;
        device.set_item("compute_capability", capability)?;
        device.set_item("memory", memory)?;
        devices.append(device)?;
    }
    let out = PyDict::new(py);
    out.set_item("driver_version", found.driver_version)?;
    out.set_item("devices", devices)?;
    out.set_item("why_not", found.why_not)?;
    out.set_item("loads", found.loads)?;
    out.set_item("kernels_target", found.kernels_target)?;
    Ok(out)
}
