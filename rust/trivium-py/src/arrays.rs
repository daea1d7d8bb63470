//! Foreign arrays: numpy, torch and anything else with DLPack, read without copying.
//!
//! Invariants of this module, the only one here that reads foreign memory:
//! 1. A [`Foreign`] keeps the exporter's capsule alive, so its memory outlives every slice taken
//!    from it; the capsule is never consumed, its own destructor calls the deleter.
//! 2. A slice is only made after device, dtype, alignment and extent were checked.
//! 3. Writable slices are only made of memory whose exporter did not mark it read-only.
//!
//! Callers must not write to an array from another thread during a call, as with numpy itself.

#![allow(unsafe_code)] // see the invariants above

use crate::errors::{PyRes, input};
use half::{bf16, f16};
use numpy::{Element, PyArray1};
use pyo3::exceptions::{PyAttributeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyDict};
use std::ffi::{CStr, c_void};
use trivium_core::logits::{LogitsBatch, LogitsData};

#[repr(C)]
struct DLTensor {
    data: *mut c_void,
    device_type: i32,
    device_id: i32,
    ndim: i32,
    code: u8,
    bits: u8,
    lanes: u16,
    shape: *const i64,
    strides: *const i64,
    byte_offset: u64,
}

#[repr(C)]
struct DLManagedTensorVersioned {
    major: u32,
    minor: u32,
    manager_ctx: *mut c_void,
    deleter: *const c_void,
    flags: u64,
    tensor: DLTensor,
}

/// Memory the CPU can read: plain, page-locked for CUDA, page-locked for `ROCm`.
const HOST: [i32; 3] = [1, 3, 11];
const READ_ONLY: u64 = 1;
const VERSIONED: &CStr = c"dltensor_versioned";
const UNVERSIONED: &CStr = c"dltensor";

/// Element types that cross the border.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dtype {
    F16,
    Bf16,
    F32,
    F64,
    I32,
    I64,
    U32,
}

/// DLPack's (device type, ordinal) of an exporter; `None` for anything else.
pub(crate) fn device_of(
    object: &Bound<'_, PyAny>,
    what: &'static str,
) -> PyRes<Option<(i32, i32)>> {
    if !object.hasattr("__dlpack__")? {
        return Ok(None);
    }
    let device = object.call_method0("__dlpack_device__").and_then(|device| device.extract());
    device.map(Some).map_err(|e| input(object.py(), what, format!("names no device: {e}")))
}

/// One exported array: the host's, or a device's, of which only the address is used here.
pub(crate) struct Foreign<'py> {
    _capsule: Bound<'py, PyCapsule>,
    py: Python<'py>,
    what: &'static str,
    data: *mut u8,
    dtype: Dtype,
    shape: Vec<usize>,
    strides: Vec<isize>,
    /// Marked so by its exporter, or a copy that nobody would see written.
    read_only: bool,
}

impl<'py> Foreign<'py> {
    /// Exports `object`; lists and buffers go through `numpy.asarray` first.
    pub(crate) fn new(object: &Bound<'py, PyAny>, what: &'static str) -> PyRes<Self> {
        let py = object.py();
        let mut temporary = false;
        let object = if object.hasattr("__dlpack__")? {
            object.clone()
        } else {
            let array = py
                .import("numpy")?
                .call_method1("asarray", (object,))
                .map_err(|e| input(py, what, format!("cannot be read as an array: {e}")))?;
            // Buffers are viewed, anything else was copied.
            temporary = array.getattr("flags")?.getattr("owndata")?.extract()?;
            array
        };
        let device = device_of(&object, what)?.map_or(0, |d| d.0);
        if !HOST.contains(&device) {
            return Err(input(
                py,
                what,
                format!("is on DLPack device type {device}; this path takes CPU arrays (type 1)"),
            ));
        }
        let mut foreign = Self::export(&object, what, None)?;
        foreign.read_only |= temporary;
        Ok(foreign)
    }

    /// Exports an array in CUDA memory; its library orders what was written before `stream` goes on.
    #[cfg(feature = "cuda")]
    pub(crate) fn on_device(
        object: &Bound<'py, PyAny>,
        what: &'static str,
        stream: usize,
    ) -> PyRes<Self> {
        Self::export(object, what, Some(stream))
    }

    fn export(
        object: &Bound<'py, PyAny>,
        what: &'static str,
        stream: Option<usize>,
    ) -> PyRes<Self> {
        let py = object.py();
        let (old, new) = (PyDict::new(py), PyDict::new(py));
        if let Some(stream) = stream {
            old.set_item("stream", stream)?;
            new.set_item("stream", stream)?;
        }
        new.set_item("max_version", (1, 0))?;
        let capsule = match object.call_method("__dlpack__", (), Some(&new)) {
            Err(e) if e.is_instance_of::<PyTypeError>(py) => {
                object.call_method("__dlpack__", (), Some(&old))
            }
            other => other,
        }
        .map_err(|e| {
            if e.is_instance_of::<PyAttributeError>(py) {
                e
            } else {
                input(
                    py,
                    what,
                    format!("cannot be exported: {e} (detach it, or pass a writable copy)"),
                )
            }
        })?
        .cast_into::<PyCapsule>()
        .map_err(|e| input(py, what, format!("exports no capsule: {e}")))?;
        Self::from_capsule(capsule, what, stream.is_some())
    }

    fn from_capsule(
        capsule: Bound<'py, PyCapsule>,
        what: &'static str,
        on_device: bool,
    ) -> PyRes<Self> {
        let py = capsule.py();
        let versioned = capsule.is_valid_checked(Some(VERSIONED));
        let name = if versioned { VERSIONED } else { UNVERSIONED };
        let pointer = capsule.pointer_checked(Some(name)).map_err(|_| {
            input(py, what, "exports a capsule that was consumed, or is none of DLPack's")
        })?;
        // SAFETY: the name of the capsule states the type behind its pointer, and the capsule is
        // alive for as long as `Self` (invariant 1).
        let (tensor, flags) = unsafe {
            if versioned {
                let managed = pointer.cast::<DLManagedTensorVersioned>().as_ref();
                if managed.major != 1 {
                    return Err(input(py, what, format!("uses DLPack version {}", managed.major)));
                }
                (&managed.tensor, managed.flags)
            } else {
                (pointer.cast::<DLTensor>().as_ref(), 0)
            }
        };
        if HOST.contains(&tensor.device_type) == on_device {
            let why = format!(
                "exports memory of DLPack device type {}, which is not where it said it is",
                tensor.device_type
            );
            return Err(input(py, what, why));
        }
        let dtype = match (tensor.code, tensor.bits, tensor.lanes) {
            (2, 16, 1) => Dtype::F16,
            (4, 16, 1) => Dtype::Bf16,
            (2, 32, 1) => Dtype::F32,
            (2, 64, 1) => Dtype::F64,
            (0, 32, 1) => Dtype::I32,
            (0, 64, 1) => Dtype::I64,
            (1, 32, 1) => Dtype::U32,
            (code, bits, _) => {
                let kind = ["int", "uint", "float", "handle", "bfloat", "complex", "bool"]
                    .get(usize::from(code))
                    .unwrap_or(&"type");
                return Err(input(
                    py,
                    what,
                    format!(
                        "has dtype {kind}{bits}; float16, bfloat16, float32 and float64 are logits, int32 and int64 are ids or masks"
                    ),
                ));
            }
        };
        let ndim = usize::try_from(tensor.ndim).unwrap_or(0);
        // SAFETY: as below.
        if unsafe { (0..ndim).any(|i| *tensor.shape.add(i) < 0) } {
            return Err(input(py, what, "has a negative shape"));
        }
        // SAFETY: DLPack gives `ndim` entries behind `shape`, and behind `strides` unless null.
        let (shape, strides) = unsafe {
            let shape: Vec<usize> = (0..ndim).map(|i| *tensor.shape.add(i) as usize).collect();
            let strides = if tensor.strides.is_null() {
                let mut step = 1isize;
                let mut strides = vec![0; ndim];
                for i in (0..ndim).rev() {
                    strides[i] = step;
                    step = step.wrapping_mul(shape[i] as isize);
                }
                strides
            } else {
                (0..ndim).map(|i| *tensor.strides.add(i) as isize).collect()
            };
            (shape, strides)
        };
        // An address, of the device perhaps: not read through before it is known whose it is.
        let data = tensor.data.cast::<u8>().wrapping_add(tensor.byte_offset as usize);
        let read_only = flags & READ_ONLY != 0;
        Ok(Self { _capsule: capsule, py, what, data, dtype, shape, strides, read_only })
    }

    pub(crate) fn dtype(&self) -> Dtype {
        self.dtype
    }

    pub(crate) fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn complain<T>(&self, why: String) -> PyRes<T> {
        Err(input(self.py, self.what, why))
    }

    /// Elements from the first to one past the last of `rows` rows of the last axis, and the
    /// stride between rows.
    fn extent(&self) -> PyRes<(usize, usize, usize)> {
        let (rows, width, stride) = match (self.shape.as_slice(), self.strides.as_slice()) {
            (&[n], &[s]) => (1, n, if n <= 1 { 1 } else { s }),
            (&[r, n], &[rs, s]) => {
                if r > 1 && (rs < 0 || (rs as usize) < n) {
                    return self
                        .complain(format!("has overlapping or reversed rows (stride {rs})"));
                }
                (r, n, if n <= 1 { 1 } else { s })
            }
            (shape, _) => {
                return self.complain(format!("has shape {shape:?}; one or two axes are expected"));
            }
        };
        if stride != 1 {
            return self.complain(format!(
                "has stride {stride} along its last axis; it must be contiguous there"
            ));
        }
        let step = if self.shape.len() == 2 && rows > 1 { self.strides[0] as usize } else { width };
        Ok((rows, width, step))
    }

    /// Address, rows, width, stride and elements up to the end of the last row, of an array on a device.
    #[cfg(feature = "cuda")]
    pub(crate) fn device_extent(&self) -> PyRes<(u64, usize, usize, usize, usize)> {
        let (rows, width, step) = self.extent()?;
        let len = if rows == 0 || width == 0 {
            Some(0)
        } else {
            (rows - 1).checked_mul(step).and_then(|n| n.checked_add(width))
        };
        let Some(len) = len.filter(|n| n.checked_mul(8).is_some()) else {
            return self.complain(format!("has shape {:?}, which overflows", self.shape));
        };
        Ok((self.data as u64, rows, width, step, len))
    }

    /// Refuses what is not one row that may be written.
    #[cfg(feature = "cuda")]
    pub(crate) fn check_writable_row(&self) -> PyRes<()> {
        if self.shape.len() == 2 && self.shape[0] != 1 {
            return self.complain(format!("has shape {:?}; one row is expected", self.shape));
        }
        if self.read_only {
            return self.complain("is read-only, or no array".into());
        }
        Ok(())
    }

    /// The memory of all rows as one slice.
    ///
    /// # Safety
    /// `T` must be the type of [`dtype`](Self::dtype) (or of the same size and validity).
    unsafe fn slice<T>(&self) -> PyRes<(&[T], usize, usize, usize)> {
        let (rows, width, step) = self.extent()?;
        let len = if rows == 0 || width == 0 { 0 } else { (rows - 1) * step + width };
        if len == 0 {
            return Ok((&[], rows, width, step));
        }
        if !(self.data as usize).is_multiple_of(align_of::<T>()) {
            return self.complain("is not aligned to its element size".into());
        }
        // SAFETY: extent checked above, alignment just now, lifetime by invariant 1.
        Ok((unsafe { std::slice::from_raw_parts(self.data.cast::<T>(), len) }, rows, width, step))
    }

    /// Logits in f32, f16 or bf16: `[rows, vocab]`, or one row. f64 is refused here; see [`logits`].
    pub(crate) fn logits(&self) -> PyRes<LogitsBatch<'_>> {
        // SAFETY: the branch names the type of the dtype.
        let (data, rows, width, step) = unsafe {
            match self.dtype {
                Dtype::F32 => {
                    let (x, r, w, s) = self.slice::<f32>()?;
                    (LogitsData::F32(x), r, w, s)
                }
                Dtype::F16 => {
                    let (x, r, w, s) = self.slice::<f16>()?;
                    (LogitsData::F16(x), r, w, s)
                }
                Dtype::Bf16 => {
                    let (x, r, w, s) = self.slice::<bf16>()?;
                    (LogitsData::Bf16(x), r, w, s)
                }
                other => {
                    return self.complain(format!(
                        "has dtype {other:?}; float16, bfloat16 or float32 is expected"
                    ));
                }
            }
        };
        LogitsBatch::new(data, rows, width, step).map_err(|e| crate::errors::to_py(self.py, &e))
    }

    /// All elements of a one-dimensional integer array, any stride.
    pub(crate) fn integers(&self) -> PyRes<Vec<i64>> {
        let [n] = self.shape[..] else {
            return self.complain(format!("has shape {:?}; one axis is expected", self.shape));
        };
        if n == 0 {
            return Ok(Vec::new());
        }
        let size = if self.dtype == Dtype::I64 { 8 } else { 4 };
        if !(self.data as usize).is_multiple_of(size) {
            return self.complain("is not aligned to its element size".into());
        }
        let stride = self.strides[0];
        let at = |i: usize| i as isize * stride;
        #[allow(clippy::cast_ptr_alignment)] // checked above
        // SAFETY: dtype by branch, alignment checked, `n` elements at `stride` exist by DLPack.
        Ok(unsafe {
            match self.dtype {
                Dtype::I32 => {
                    (0..n).map(|i| i64::from(*self.data.cast::<i32>().offset(at(i)))).collect()
                }
                Dtype::U32 => {
                    (0..n).map(|i| i64::from(*self.data.cast::<u32>().offset(at(i)))).collect()
                }
                Dtype::I64 => (0..n).map(|i| *self.data.cast::<i64>().offset(at(i))).collect(),
                other => {
                    return self
                        .complain(format!("has dtype {other:?}; int32 or int64 is expected"));
                }
            }
        })
    }

    /// All elements of a two-dimensional integer array, row by row.
    pub(crate) fn integers_2d(&self) -> PyRes<Vec<i64>> {
        // SAFETY: the branch names the type of the dtype.
        let rows: Vec<i64> = unsafe {
            match self.dtype {
                Dtype::I32 => {
                    let (x, r, w, s) = self.slice::<i32>()?;
                    (0..r).flat_map(|i| x[i * s..i * s + w].iter().map(|&v| i64::from(v))).collect()
                }
                Dtype::I64 => {
                    let (x, r, w, s) = self.slice::<i64>()?;
                    (0..r).flat_map(|i| x[i * s..i * s + w].iter().copied()).collect()
                }
                other => {
                    return self
                        .complain(format!("has dtype {other:?}; int32 or int64 is expected"));
                }
            }
        };
        Ok(rows)
    }

    /// Packed mask words (int32 or uint32), `[rows, words]` or one row, contiguous, for writing.
    #[allow(clippy::mut_from_ref)] // the memory is the exporter's, not ours
    pub(crate) fn words_mut(&self) -> PyRes<(&mut [u32], usize)> {
        if !matches!(self.dtype, Dtype::I32 | Dtype::U32) {
            return self.complain(format!("has dtype {:?}; mask words are int32", self.dtype));
        }
        // SAFETY: int32 and uint32 share size and validity.
        let (x, rows, width, step) = unsafe { self.slice::<u32>()? };
        if self.read_only {
            return self.complain("is read-only, or no array".into());
        }
        if rows > 1 && step != width {
            return self.complain("must be contiguous".into());
        }
        // SAFETY: checked by `slice`; writable by invariant 3; no other slice of it is alive here.
        let words = unsafe { std::slice::from_raw_parts_mut(x.as_ptr().cast_mut(), x.len()) };
        Ok((words, width))
    }

    /// One row of logits for writing.
    pub(crate) fn row_mut(&self) -> PyRes<RowMut<'_>> {
        if self.shape.len() == 2 && self.shape[0] != 1 {
            return self.complain(format!("has shape {:?}; one row is expected", self.shape));
        }
        if self.read_only {
            return self.complain("is read-only, or no array".into());
        }
        // SAFETY: the branch names the type; writable by invariant 3.
        unsafe {
            Ok(match self.dtype {
                Dtype::F32 => RowMut::F32(as_mut(self.slice()?.0)),
                Dtype::F64 => RowMut::F64(as_mut(self.slice()?.0)),
                Dtype::F16 => RowMut::F16(as_mut(self.slice()?.0)),
                Dtype::Bf16 => RowMut::Bf16(as_mut(self.slice()?.0)),
                other => {
                    return self
                        .complain(format!("has dtype {other:?}; logits are floating point"));
                }
            })
        }
    }
}

/// # Safety
/// The memory must be writable and not otherwise borrowed.
#[allow(clippy::mut_from_ref)]
unsafe fn as_mut<T>(x: &[T]) -> &mut [T] {
    // SAFETY: the caller's promise; extent and alignment were checked when `x` was made.
    unsafe { std::slice::from_raw_parts_mut(x.as_ptr().cast_mut(), x.len()) }
}

/// One writable row of logits.
pub(crate) enum RowMut<'a> {
    F32(&'a mut [f32]),
    F64(&'a mut [f64]),
    F16(&'a mut [f16]),
    Bf16(&'a mut [bf16]),
}

/// Exports logits; float64 is rounded to float32 in a copy (the kernels compute in float32).
pub(crate) fn logits<'py>(object: &Bound<'py, PyAny>, what: &'static str) -> PyRes<Foreign<'py>> {
    let foreign = Foreign::new(object, what)?;
    if foreign.dtype() != Dtype::F64 {
        return Ok(foreign);
    }
    let py = object.py();
    let numpy = py.import("numpy")?;
    let array = if object.hasattr("__dlpack__")? {
        numpy.call_method1("from_dlpack", (object,))?
    } else {
        numpy.call_method1("asarray", (object,))?
    };
    Foreign::new(&array.call_method1("astype", ("float32",))?, what)
}

/// Token ids or indices from any integer array or list.
pub(crate) fn integers(object: &Bound<'_, PyAny>, what: &'static str) -> PyRes<Vec<i64>> {
    // A list of ints is the common case of the command line and of tests.
    if let Ok(list) = object.cast::<pyo3::types::PyList>() {
        return list
            .iter()
            .map(|x| x.extract())
            .collect::<PyResult<Vec<i64>>>()
            .map_err(|e| input(object.py(), what, format!("must hold integers: {e}")));
    }
    Foreign::new(object, what)?.integers()
}

/// A fresh numpy array that owns `data`.
pub(crate) fn array<'py, T: Element>(py: Python<'py>, data: Vec<T>) -> Bound<'py, PyArray1<T>> {
    PyArray1::from_vec(py, data)
}
