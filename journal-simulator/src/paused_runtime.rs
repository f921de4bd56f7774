//! The runtime of a run: a single thread, whose clock moves on only when all tasks wait.

/// Runs a simulation to its end on a runtime of its own, and returns its result. `seed` decides the jitter of waits,
/// which comes from the generator of this thread.
pub(crate) fn block_on<T>(seed: u64, simulation: impl Future<Output = T>) -> T {
    fastrand::seed(seed);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O needs nothing that could fail");
    runtime.block_on(simulation)
}
