//! Masks of many sequences in one call.
//!
//! Rows are independent, so the batch is the loop, cut among threads when there is enough to
//! compute. Masks that are cached cost less than starting a thread; only misses count.

use crate::automata::table::DEAD;
use crate::error::{Error, Result};
use crate::matcher::{FINISHED, Matcher};
use trivium_core::Error as Core;

/// Masks to compute before `threads = None` uses more than one.
const PARALLEL_MISSES: usize = 8;

/// Fills row `rows[i]` of `out` (row `i` without `rows`) with the mask of matcher `i`; other rows
/// stay as they are. `out` holds `stride` words a row. The matchers may be of different grammars.
///
/// `threads`: how many to use; `None` decides by the number of masks that are not cached.
///
/// # Errors
/// `InvalidInput` if shapes disagree, or a row is named twice or outside; `LimitExceeded`. On an
/// error rows may or may not be written; no matcher changes.
pub fn fill_batch(
    matchers: &[&Matcher],
    out: &mut [u32],
    stride: usize,
    rows: Option<&[usize]>,
    threads: Option<usize>,
) -> Result<()> {
    let bad = |what: &str, why: String| Err(Core::input(what, why).into());
    let available = out.len().checked_div(stride).unwrap_or(0);
    if let Some(rows) = rows
        && rows.len() != matchers.len()
    {
        return bad("rows", format!("{} rows for {} matchers", rows.len(), matchers.len()));
    }
    let mut free: Vec<Option<&mut [u32]>> =
        if stride == 0 { Vec::new() } else { out.chunks_exact_mut(stride).map(Some).collect() };
    let mut jobs: Vec<(&Matcher, &mut [u32])> = Vec::with_capacity(matchers.len());
    for (i, &matcher) in matchers.iter().enumerate() {
        let r = rows.map_or(i, |rows| rows[i]);
        let Some(slot) = free.get_mut(r) else {
            return bad("rows", format!("row {r} of {available}"));
        };
        let Some(row) = slot.take() else {
            return bad("rows", format!("row {r} is named twice"));
        };
        matcher.check_row(row)?;
        jobs.push((matcher, row));
    }
    let threads = match threads {
        Some(n) => n,
        None => automatic(&jobs)?,
    };
    let threads = threads.clamp(1, jobs.len().max(1));
    if threads == 1 {
        return run(&mut jobs);
    }
    let share = jobs.len().div_ceil(threads);
    std::thread::scope(|scope| {
        let workers: Vec<_> =
            jobs.chunks_mut(share).map(|part| scope.spawn(move || run(part))).collect();
        let results: Vec<Result<()>> = workers
            .into_iter()
            .map(|w| w.join().unwrap_or_else(|_| Err(Error::internal("a fill panicked"))))
            .collect();
        results.into_iter().collect()
    })
}

fn run(jobs: &mut [(&Matcher, &mut [u32])]) -> Result<()> {
    jobs.iter_mut().try_for_each(|(m, row)| m.fill_here(row).map(drop))
}

/// One thread unless enough different masks are missing.
fn automatic(jobs: &[(&Matcher, &mut [u32])]) -> Result<usize> {
    let mut missing = Vec::new();
    for (m, _) in jobs {
        let state = m.state();
        if state != DEAD && state != FINISHED && m.engine.cached(state)?.is_none() {
            missing.push((m.engine.address(), state));
        }
    }
    missing.sort_unstable();
    missing.dedup();
    if missing.len() < PARALLEL_MISSES {
        return Ok(1);
    }
    // Serving stacks run tokenizers and schedulers on the same cores: half of them, at most 8.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Ok((cores / 2).clamp(1, 8))
}
