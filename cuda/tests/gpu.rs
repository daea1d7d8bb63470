//! The launch code on a driver: on a device where there is one, and always on a stand-in.
//!
//! * `on_the_device` runs the committed PTX and compares with the twin. Without a driver or a device
//!   it is skipped: it says `skipped: ...` with the reason, past the harness's capture. With
//!   `TRIVIUM_REQUIRE_GPU` set, a skip is a failure.
//! * `on_the_stand_in` runs that same test in a process of its own, in which a library of the shim takes
//!   the driver's name. So everything but the PTX's instructions is tested without a device.
//! * `with_a_broken_driver` does so with a library that has no symbol.
#![allow(unsafe_code, clippy::unwrap_used, reason = "tests, with device memory")]

mod common;

use common::cdf::{cdf_jobs, large_cdf_jobs};
use common::job::{Buffer, Job, Memory};
use common::race::{large_race_jobs, race_jobs};
use common::reject::chain_jobs;
use common::row_stat::stat_jobs;
use common::tree::{pack_jobs, tree_jobs};
use common::{Case, Data, Element, difference, fixed_cases, large_cases, say, skip};
use cudarc::driver::{DriverError, result};
use half::{bf16, f16};
use std::process::Command;
use trivium_core::Error;
use trivium_cuda::{Context, Stream, doctor, is_available};
use trivium_cuda_shim::FAKE_DRIVERS;

/// Device memory with a copy of `data`; leaked if a later step fails, which fails the test.
fn upload<T: Copy>(data: &[T]) -> Result<u64, DriverError> {
    // SAFETY: the allocation is as long as the copy; one byte where there is nothing to copy.
    unsafe {
        let address = result::malloc_sync(size_of_val(data).max(1))?;
        result::memcpy_htod_sync(address, data)?;
        Ok(address)
    }
}

fn run<T: Element>(context: &'static Context, case: &Case) -> Result<(), String> {
    let Data { mut logits, mask, expected } = case.data::<T>();
    let indices = case.indices.clone().unwrap_or_default();
    let (at_logits, at_mask, at_indices, stream) = context
        .enter(|| {
            let stream = result::stream::create(result::stream::StreamKind::NonBlocking)?;
            Ok((upload(&logits)?, upload(&mask)?, upload(&indices)?, stream))
        })
        .map_err(|e| e.to_string())?;
    let args = case.args(T::DTYPE, at_logits, at_mask, case.indices.as_ref().map(|_| at_indices));
    // SAFETY: stream and memory were made above in this context and are freed below.
    unsafe { context.enqueue(Stream(stream as usize), &args) }.map_err(|e| e.to_string())?;
    context
        .enter(|| {
            // SAFETY: as above; the stream is idle before its memory is read and freed.
            unsafe {
                result::stream::synchronize(stream)?;
                result::memcpy_dtoh_sync(&mut logits, at_logits)?;
                for address in [at_logits, at_mask, at_indices] {
                    result::free_sync(address)?;
                }
                result::stream::destroy(stream)
            }
        })
        .map_err(|e| e.to_string())?;
    difference(&logits, &expected).map_or(Ok(()), Err)
}

/// Runs a job on the device by the public entry.
fn run_job(context: &'static Context, job: &dyn Job) -> Result<(), String> {
    let mut buffers = job.buffers();
    let upload_all = |b: &Buffer| match &b.memory {
        Memory::U8(v) => upload(v),
        Memory::U16(v) => upload(v),
        Memory::U32(v) => upload(v),
        Memory::U64(v) => upload(v),
    };
    let (at, stream) = context
        .enter(|| {
            let stream = result::stream::create(result::stream::StreamKind::NonBlocking)?;
            Ok((buffers.iter().map(upload_all).collect::<Result<Vec<_>, _>>()?, stream))
        })
        .map_err(|e| e.to_string())?;
    // SAFETY: stream and memory were made above in this context and are freed below.
    unsafe { context.enqueue(Stream(stream as usize), &*job.kernel(&at)) }
        .map_err(|e| e.to_string())?;
    context
        .enter(|| {
            // SAFETY: as above; the stream is idle before its memory is read and freed.
            unsafe {
                result::stream::synchronize(stream)?;
                for (buffer, &address) in buffers.iter_mut().zip(&at) {
                    match &mut buffer.memory {
                        Memory::U8(v) => result::memcpy_dtoh_sync(v, address)?,
                        Memory::U16(v) => result::memcpy_dtoh_sync(v, address)?,
                        Memory::U32(v) => result::memcpy_dtoh_sync(v, address)?,
                        Memory::U64(v) => result::memcpy_dtoh_sync(v, address)?,
                    }
                    result::free_sync(address)?;
                }
                result::stream::destroy(stream)
            }
        })
        .map_err(|e| e.to_string())?;
    job.check(&buffers)
}

#[test]
fn on_the_device() {
    if !is_available() {
        let why = doctor().why_not.unwrap_or_else(|| "no reason found".into());
        assert!(std::env::var_os("TRIVIUM_REQUIRE_GPU").is_none(), "a GPU is required: {why}");
        skip(&format!("on a device: {why}"));
        return;
    }
    let found = doctor();
    assert_eq!(found.why_not, None);
    assert!(found.driver_version.is_some_and(|v| v >= 12_000));
    let context = Context::primary(0).unwrap();
    assert!(std::ptr::eq(context, Context::primary(0).unwrap()), "loaded once");
    // This thread has no current context, and the library leaves none behind.
    assert_eq!(result::ctx::get_current(), Ok(None));
    let mut cases = 0;
    for case in fixed_cases().iter().chain(&large_cases()) {
        assert_eq!(run::<f32>(context, case), Ok(()), "f32, {case:?}");
        assert_eq!(run::<f16>(context, case), Ok(()), "f16, {case:?}");
        assert_eq!(run::<bf16>(context, case), Ok(()), "bf16, {case:?}");
        cases += 3;
    }
    let (races, draws) = (race_jobs(), cdf_jobs());
    let (stats, (walks, masks)) = (stat_jobs(), tree_jobs());
    let (packs, chains) = (pack_jobs(), chain_jobs());
    // The stand-in runs a few of each: the kernels have their own tests on the CPU.
    let on_cpu = found.devices[0].name.contains("stand-in");
    let step = if on_cpu { 9 } else { 1 };
    let jobs = races
        .iter()
        .map(|j| j as &dyn Job)
        .chain(draws.iter().map(|j| j as &dyn Job))
        .chain(stats.iter().map(|j| j as &dyn Job))
        .chain(walks.iter().map(|j| j as &dyn Job))
        .chain(masks.iter().map(|j| j as &dyn Job))
        .chain(packs.iter().map(|j| j as &dyn Job))
        .chain(chains.iter().map(|j| j as &dyn Job))
        .step_by(step);
    for job in jobs {
        assert_eq!(run_job(context, job), Ok(()), "{job:?}");
        cases += 1;
    }
    if !on_cpu {
        for job in large_race_jobs() {
            assert_eq!(run_job(context, &job), Ok(()), "{job:?}");
            cases += 1;
        }
        for job in large_cdf_jobs() {
            assert_eq!(run_job(context, &job), Ok(()), "{job:?}");
            cases += 1;
        }
    }
    assert_eq!(result::ctx::get_current(), Ok(None));
    assert!(matches!(Context::primary(4096), Err(Error::Device { code: 101, .. })));
    say(&format!("device test: {cases} cases equal to the twin on {}", found.devices[0].name));
}

#[test]
fn without_a_driver_every_entry_is_an_error() {
    if !is_available() {
        assert!(matches!(Context::primary(0), Err(Error::Device { .. })));
        assert!(doctor().why_not.is_some());
    }
}

/// Runs one test of this file with another driver library; returns what it wrote.
fn rerun(test: &str, folder: &str) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env("LD_LIBRARY_PATH", folder)
        .env_remove("TRIVIUM_REQUIRE_GPU")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{}\n{text}", String::from_utf8_lossy(&output.stdout));
    text
}

#[test]
fn on_the_stand_in() {
    let Some((working, _)) = FAKE_DRIVERS else {
        return skip("stand-in driver: no C++ compiler with -fsanitize=thread");
    };
    let text = rerun("on_the_device", working);
    assert!(text.contains("equal to the twin on stand-in (CPU shim)"), "{text}");
}

#[test]
fn with_a_broken_driver() {
    let Some((_, broken)) = FAKE_DRIVERS else {
        return skip("broken driver: no C++ compiler with -fsanitize=thread");
    };
    let text = rerun("on_the_device", broken);
    assert!(text.contains("skipped: on a device: Missing symbol"), "{text}");
    rerun("without_a_driver_every_entry_is_an_error", broken);
}
