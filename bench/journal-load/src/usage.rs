//! Memory and processor time of a process, as counted by the kernel.

use anyhow::{Context, Result};
use std::time::Duration;

/// `USER_HZ`, which is 100 on all platforms that we support.
const TICKS_PER_SECOND: u64 = 100;

/// The peak resident memory of a process, in MiB. `process` is an id or `self`.
pub fn peak_mb(process: &str) -> Result<f64> {
    let path = format!("/proc/{process}/status");
    let status = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kb = line.and_then(|line| line.split_whitespace().next());
    let kb: f64 = kb
        .with_context(|| format!("{path} has no VmHWM"))?
        .parse()?;
    Ok(kb / 1024.0)
}

/// Processor time of this process so far, in all threads.
pub fn processor_time() -> Result<Duration> {
    let path = "/proc/self/stat";
    let stat = std::fs::read_to_string(path).context(path)?;
    // The second field is the program's name in parentheses, which may contain spaces.
    let (_, fields) = stat
        .rsplit_once(')')
        .context("no name in /proc/self/stat")?;
    let mut ticks = 0;
    // Fields 14 and 15; the first field after the name is the third.
    for field in fields.split_whitespace().skip(11).take(2) {
        ticks += field.parse::<u64>()?;
    }
    Ok(Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND))
}
