//! The resources that a process uses, as Linux shows them.

use crate::connections;
use anyhow::{Context, Result};
use std::{
    collections::BTreeMap,
    fs,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};

/// Time between two samples of a peak.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(100);
/// The reason why no lock is poisoned.
const UNPOISONED: &str = "no holder of this lock panics";

/// The number of threads of a process.
pub fn threads(process: u32) -> Result<usize> {
    entries(&format!("/proc/{process}/task"))
}

/// The number of open descriptors of a process.
pub fn descriptors(process: u32) -> Result<usize> {
    entries(&format!("/proc/{process}/fd"))
}

/// A value in the status of a process, in bytes, by its name in `/proc/<process>/status`, such as `VmHWM`.
pub fn memory_bytes(process: u32, name: &str) -> Result<usize> {
    let path = format!("/proc/{process}/status");
    let status = fs::read_to_string(&path).with_context(|| path.clone())?;
    let mut lines = status.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kilobytes = value.and_then(|value| value.trim().strip_suffix(" kB"));
    let kilobytes = kilobytes.with_context(|| format!("{path} has no {name}"))?;
    Ok(kilobytes.trim().parse::<usize>()? * 1024)
}

fn entries(folder: &str) -> Result<usize> {
    Ok(fs::read_dir(folder)
        .with_context(|| folder.to_owned())?
        .count())
}

/// The greatest use of a process so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peak {
    /// Threads.
    pub threads: usize,
    /// Open descriptors.
    pub descriptors: usize,
    /// Established connections to each port.
    pub connections: BTreeMap<u16, usize>,
}

impl Peak {
    /// Raises each number that is lower than the present one.
    fn raise(&mut self, now: Self) {
        self.threads = self.threads.max(now.threads);
        self.descriptors = self.descriptors.max(now.descriptors);
        for (port, count) in now.connections {
            let known = self.connections.entry(port).or_default();
            *known = count.max(*known);
        }
    }

    fn now(process: u32, ports: &[u16]) -> Result<Self> {
        let connections = ports
            .iter()
            .map(|port| Ok((*port, connections::established(process, *port)?)));
        Ok(Self {
            threads: threads(process)?,
            descriptors: descriptors(process)?,
            connections: connections.collect::<Result<_>>()?,
        })
    }
}

/// Samples the use of a process until it ends.
#[derive(Debug)]
pub struct PeakSampler {
    peak: Arc<Mutex<Peak>>,
    sampling: JoinHandle<()>,
}

impl PeakSampler {
    /// Begins to sample the threads and descriptors of a process, and its connections to these ports.
    pub fn start(process: u32, ports: Vec<u16>) -> Self {
        let peak = Arc::<Mutex<Peak>>::default();
        let raised = peak.clone();
        let sampling = tokio::spawn(async move {
            let mut samples = interval(SAMPLE_INTERVAL);
            samples.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                samples.tick().await;
                // An error: the process has ended.
                let Ok(now) = Peak::now(process, &ports) else {
                    return;
                };
                raised.lock().expect(UNPOISONED).raise(now);
            }
        });
        Self { peak, sampling }
    }

    /// The greatest use in all samples so far.
    pub fn peak(&self) -> Peak {
        self.peak.lock().expect(UNPOISONED).clone()
    }
}

impl Drop for PeakSampler {
    fn drop(&mut self) {
        self.sampling.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_use_of_this_process_is_found() {
        let process = std::process::id();
        assert!(threads(process).unwrap() > 0);
        // Standard input, output and error.
        assert!(descriptors(process).unwrap() >= 3);
        let (peak, now) = (
            memory_bytes(process, "VmHWM").unwrap(),
            memory_bytes(process, "RssAnon").unwrap(),
        );
        assert!(0 < now && now <= peak, "{now} bytes, {peak} at the peak");
        assert!(memory_bytes(process, "Rss").is_err());
    }

    #[test]
    fn a_peak_keeps_the_greatest_value_of_each_number() {
        let sample = |threads, descriptors, connections| Peak {
            threads,
            descriptors,
            connections: BTreeMap::from([(9092, connections)]),
        };
        let mut peak = Peak::default();
        for now in [sample(5, 1, 3), sample(2, 9, 7), sample(4, 4, 1)] {
            peak.raise(now);
        }
        assert_eq!(peak, sample(5, 9, 7));
    }
}
