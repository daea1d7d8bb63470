//! Rows in CUDA memory: from a foreign array to what the kernels take, and to the host where they cannot serve it.
//!
//! The capsule of the array lives in [`DeviceRows`] for the whole call, which ends with a synchronisation of the
//! caller's stream; so its memory is there as long as anything of ours runs. The `unsafe` here is that word to the
//! launches; no device address is read through.
#![allow(unsafe_code)] // see above

#[cfg(feature = "cuda")]
pub(crate) use with_kernels::{DeviceRows, OnDevice, apply, draw, verify_chains};
#[cfg(not(feature = "cuda"))]
pub(crate) use without_kernels::{DeviceRows, OnDevice, apply, draw, verify_chains};

use crate::arrays::{Foreign, device_of};
use crate::errors::{PyRes, input};
use pyo3::prelude::*;
use trivium_core::law::PlainLaw;
use trivium_core::{Address, Draw};

/// The draw of one row's token.
pub(crate) struct Ask<'a> {
    pub(crate) address: Address,
    pub(crate) draw: Draw,
    pub(crate) law: &'a PlainLaw,
    /// Packed mask; `None` allows all.
    pub(crate) allowed: Option<&'a [u32]>,
}

/// What came of it, one entry a row.
pub(crate) struct Answers {
    /// -1 where the row has none: the CPU's path names the reason.
    pub(crate) tokens: Vec<i32>,
    pub(crate) log_probs: Vec<f32>,
    /// Best ids a row, [`TOP_IDS`] each, if they were asked for.
    pub(crate) top_ids: Vec<i32>,
}

/// Best ids a row.
pub(crate) const TOP_IDS: usize = 8;

/// DLPack's types of memory that CUDA kernels read: a device's own, and managed.
const CUDA: [i32; 2] = [2, 13];

/// Where an array is.
pub(crate) enum Place<'py> {
    /// The CPU's path reads it, or refuses it.
    Host,
    /// In device memory that kernels can read.
    Device(DeviceRows<'py>),
    /// On a device, but no kernel can serve it: the reason.
    Copy(String),
}

/// Looks where an array is and takes hold of it if kernels can serve it.
pub(crate) fn place<'py>(object: &Bound<'py, PyAny>, what: &'static str) -> PyRes<Place<'py>> {
    match device_of(object, what)? {
        Some((kind, ordinal)) if CUDA.contains(&kind) => DeviceRows::take(object, what, ordinal),
        _ => Ok(Place::Host),
    }
}

/// Refuses an array that is not on the same device as the rows.
pub(crate) fn same_device(
    object: &Bound<'_, PyAny>,
    what: &'static str,
    rows: &DeviceRows<'_>,
) -> PyRes<()> {
    match device_of(object, what)? {
        Some((kind, ordinal)) if CUDA.contains(&kind) && ordinal == rows.ordinal() => Ok(()),
        other => {
            let here = match other {
                Some((kind, ordinal)) if CUDA.contains(&kind) => format!("CUDA device {ordinal}"),
                Some((kind, _)) if kind != 1 => format!("DLPack device type {kind}"),
                _ => "the host".into(),
            };
            let why = format!("is on {here}, the logits are on CUDA device {}", rows.ordinal());
            Err(input(object.py(), what, why))
        }
    }
}

/// An array whose rows the CPU's path can read: itself, or a copy with one warning.
pub(crate) fn to_host<'py>(
    object: &Bound<'py, PyAny>,
    what: &'static str,
    why: &str,
) -> PyRes<Bound<'py, PyAny>> {
    match device_of(object, what)? {
        Some((kind, _)) if CUDA.contains(&kind) => {
            object.py().import("trivium._device")?.call_method1("to_host", (object, why))
        }
        _ => Ok(object.clone()),
    }
}

/// The stream on which the caller uses an array.
fn stream_of(object: &Bound<'_, PyAny>) -> PyRes<usize> {
    object.py().import("trivium._device")?.call_method1("stream", (object,))?.extract()
}

#[cfg(feature = "cuda")]
mod with_kernels {
    use super::{Answers, Ask, Bound, Foreign, Place, PyAny, PyRes, TOP_IDS, input, stream_of};
    use crate::arrays::Dtype;
    use crate::errors::{OrRaise, to_py};
    use crate::guard::guard;
    use trivium_core::{Error, Result};
    use trivium_cuda::rows::Chains;
    use trivium_cuda::{Call, ChainRule, Context, DeviceSlice, LogitsRows, RowAsk, Stream};

    const _: () = assert!(TOP_IDS == trivium_cuda::race::MAX_WINNERS);

    /// Rows of logits in device memory, held for a call.
    pub(crate) struct DeviceRows<'py> {
        foreign: Foreign<'py>,
        pub(crate) on: OnDevice,
    }

    /// Where and what they are, for the part of a call that runs detached.
    #[derive(Clone, Copy)]
    pub(crate) struct OnDevice {
        context: &'static Context,
        stream: Stream,
        pub(crate) logits: LogitsRows,
    }

    impl<'py> DeviceRows<'py> {
        pub(super) fn take(
            object: &Bound<'py, PyAny>,
            what: &'static str,
            ordinal: i32,
        ) -> PyRes<Place<'py>> {
            let py = object.py();
            // The first call of a device compiles the kernels for it: seconds, and other threads go on.
            let context = match guard(py, || Ok(Context::primary(ordinal)))? {
                Ok(context) => context,
                Err(Error::Device { detail, .. }) => return Ok(Place::Copy(detail)),
                Err(other) => return Err(to_py(py, &other)),
            };
            let stream = stream_of(object)?;
            let foreign = Foreign::on_device(object, what, stream)?;
            let dtype = match foreign.dtype() {
                Dtype::F32 => trivium_cuda::Dtype::F32,
                Dtype::F16 => trivium_cuda::Dtype::F16,
                Dtype::Bf16 => trivium_cuda::Dtype::Bf16,
                Dtype::F64 => {
                    return Ok(Place::Copy("kernels read float32, float16, bfloat16".into()));
                }
                other => {
                    let why =
                        format!("has dtype {other:?}; float16, bfloat16 or float32 is expected");
                    return Err(input(py, what, why));
                }
            };
            let (address, rows, vocab, stride, len) = foreign.device_extent()?;
            let bytes = len * dtype.bytes() as usize;
            context.check_memory(what, address, bytes).or_raise(py)?;
            let logits =
                LogitsRows { logits: DeviceSlice { address, len }, dtype, rows, vocab, stride };
            let on = OnDevice { context, stream: Stream(stream), logits };
            Ok(Place::Device(DeviceRows { foreign, on }))
        }

        pub(crate) fn ordinal(&self) -> i32 {
            self.on.context.ordinal()
        }

        /// Refuses memory that its exporter marked read-only, and more than one row.
        pub(crate) fn one_row_for_writing(&self) -> PyRes<()> {
            self.foreign.check_writable_row()
        }
    }

    impl OnDevice {
        pub(crate) fn rows(&self) -> usize {
            self.logits.rows
        }

        pub(crate) fn vocab(&self) -> usize {
            self.logits.vocab
        }

        /// Whether kernels can test against these rows.
        pub(crate) fn is_float32(&self) -> bool {
            self.logits.dtype == trivium_cuda::Dtype::F32
        }

        /// Whether both are used on one stream of one device.
        pub(crate) fn goes_with(&self, other: &Self) -> bool {
            self.stream == other.stream && self.context.ordinal() == other.context.ordinal()
        }
    }

    /// Draws a token of every row, and finds its best ids if they are asked for.
    pub(crate) fn draw(on: &OnDevice, asks: &[Ask<'_>], top_ids: bool) -> Result<Answers> {
        let asks = rows(asks);
        let mut call = Call::new(on.context, on.stream);
        // SAFETY: the exporter's memory, checked and held by the caller's `DeviceRows`; the stream is the one that its
        // library uses for it; the call ends with the stream's synchronisation.
        let (drawn, top_ids) = unsafe {
            let drawn = trivium_cuda::rows::draw(&mut call, &on.logits, &asks)?;
            let top_ids = if top_ids {
                trivium_cuda::rows::top_ids(&mut call, &on.logits)?
            } else {
                Vec::new()
            };
            (drawn, top_ids)
        };
        call.finish()?;
        Ok(Answers {
            tokens: drawn.iter().map(|d| if d.status == 0 { d.token } else { -1 }).collect(),
            log_probs: drawn.iter().map(|d| d.log_prob).collect(),
            top_ids,
        })
    }

    /// Verifies chains (tokens, offsets of requests, whether as a block): offsets of the committed tokens with them;
    /// `None` where a row that a walk read is no law.
    pub(crate) fn verify_chains(
        on: &OnDevice,
        q: &OnDevice,
        asks: &[Ask<'_>],
        (tokens, cu_nodes, block): (&[i32], &[i32], bool),
        top_ids: bool,
    ) -> Result<Option<(Vec<i32>, Answers)>> {
        let rule = if block { ChainRule::Block } else { ChainRule::Token };
        let chains = Chains { q: q.logits, tokens, cu_nodes, rule };
        let mut call = Call::new(on.context, on.stream);
        // SAFETY: as above, for both arrays: `q` is of the same device, and used on the same stream.
        let (found, top_ids) = unsafe {
            let found =
                trivium_cuda::rows::verify_chains(&mut call, &on.logits, &rows(asks), &chains)?;
            let top_ids = if top_ids {
                trivium_cuda::rows::top_ids(&mut call, &on.logits)?
            } else {
                Vec::new()
            };
            (found, top_ids)
        };
        call.finish()?;
        let Some(cu_tokens) = found.cu_tokens else { return Ok(None) };
        let answers = Answers { tokens: found.tokens, log_probs: found.log_probs, top_ids };
        Ok(Some((cu_tokens, answers)))
    }

    fn rows<'a>(asks: &[Ask<'a>]) -> Vec<RowAsk<'a>> {
        let row = |(row, ask): (usize, &Ask<'a>)| {
            let &Ask { address, draw, law, allowed } = ask;
            RowAsk { row, address, draw, law, allowed }
        };
        asks.iter().enumerate().map(row).collect()
    }

    /// Masks a row in place; the mass that was kept.
    pub(crate) fn apply(on: &OnDevice, words: &[u32]) -> Result<f64> {
        let mut call = Call::new(on.context, on.stream);
        // SAFETY: as above; the memory may be written (checked), and nobody else uses it during a call.
        let kept = unsafe { trivium_cuda::rows::apply(&mut call, &on.logits, words)? };
        call.finish()?;
        Ok(kept)
    }
}

#[cfg(not(feature = "cuda"))]
mod without_kernels {
    use super::{Answers, Ask, Bound, Place, PyAny, PyRes};
    use std::convert::Infallible;
    use std::marker::PhantomData;
    use trivium_core::Result;

    /// None is ever made.
    pub(crate) struct DeviceRows<'py> {
        pub(crate) on: OnDevice,
        py: PhantomData<&'py ()>,
    }

    /// None is ever made.
    #[derive(Clone, Copy)]
    pub(crate) struct OnDevice(Infallible);

    impl<'py> DeviceRows<'py> {
        pub(super) fn take(
            _object: &Bound<'py, PyAny>,
            _what: &'static str,
            _ordinal: i32,
        ) -> PyRes<Place<'py>> {
            Ok(Place::Copy("this build has no CUDA kernels (feature `cuda`)".into()))
        }

        pub(crate) fn ordinal(&self) -> i32 {
            match self.on.0 {}
        }

        pub(crate) fn one_row_for_writing(&self) -> PyRes<()> {
            let _ = self.py;
            match self.on.0 {}
        }
    }

    impl OnDevice {
        pub(crate) fn rows(&self) -> usize {
            match self.0 {}
        }

        pub(crate) fn vocab(&self) -> usize {
            match self.0 {}
        }

        pub(crate) fn is_float32(&self) -> bool {
            match self.0 {}
        }

        pub(crate) fn goes_with(&self, _other: &Self) -> bool {
            match self.0 {}
        }
    }

    pub(crate) fn draw(on: &OnDevice, _asks: &[Ask<'_>], _top_ids: bool) -> Result<Answers> {
        match on.0 {}
    }

    pub(crate) fn verify_chains(
        on: &OnDevice,
        _q: &OnDevice,
        _asks: &[Ask<'_>],
        _chains: (&[i32], &[i32], bool),
        _top_ids: bool,
    ) -> Result<Option<(Vec<i32>, Answers)>> {
        match on.0 {}
    }

    pub(crate) fn apply(on: &OnDevice, _words: &[u32]) -> Result<f64> {
        match on.0 {}
    }
}
