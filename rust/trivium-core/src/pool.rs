//! The library's own threads: few, because the host's tokenizers and schedulers run on the same
//! cores, and none at all until a batch is large enough.
//!
//! `TRIVIUM_NUM_THREADS` sets their number; it is read once. The default is half the cores, at
//! most eight. No result depends on it: work is split by request or by row, and nothing is summed
//! across threads.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// How many threads batch calls use.
pub fn num_threads() -> usize {
    static NUM: OnceLock<usize> = OnceLock::new();
    *NUM.get_or_init(|| {
        #[allow(clippy::disallowed_methods)] // the one place
        let set = std::env::var("TRIVIUM_NUM_THREADS").ok().and_then(|n| n.trim().parse().ok());
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        set.unwrap_or_else(|| (cores / 2).min(8)).clamp(1, 256)
    })
}

/// Pools by process: the threads of a pool do not survive `fork`, so a child builds its own and
/// leaves the parent's alone.
static POOLS: Mutex<Vec<(u32, Arc<rayon::ThreadPool>)>> = Mutex::new(Vec::new());

fn pool() -> Option<Arc<rayon::ThreadPool>> {
    let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
    let process = std::process::id();
    if let Some((_, pool)) = pools.iter().find(|p| p.0 == process) {
        return Some(pool.clone());
    }
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(num_threads())
        .thread_name(|i| format!("trivium-{i}"))
        .build()
        .ok()?;
    let pool = Arc::new(pool);
    pools.push((process, pool.clone()));
    Some(pool)
}

/// `f` of every index below `n`, in order of index. One thread unless `parallel`, more than one
/// thread is allowed and the pool could be started.
pub fn map<T: Send>(n: usize, parallel: bool, f: impl Fn(usize) -> T + Sync) -> Vec<T> {
    use rayon::iter::{IntoParallelIterator, ParallelIterator};
    if parallel
        && n > 1
        && num_threads() > 1
        && let Some(pool) = pool()
    {
        return pool.install(|| (0..n).into_par_iter().map(&f).collect());
    }
    (0..n).map(f).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_by_index() {
        let want: Vec<usize> = (0..500).map(|i| i * i).collect();
        assert_eq!(map(500, true, |i| i * i), want);
        assert_eq!(map(500, false, |i| i * i), want);
        assert!(num_threads() >= 1);
    }
}
