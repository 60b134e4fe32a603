//! What the process takes of the machine: memory, processor time, file descriptors, threads.
//!
//! Stands beside the data path, read when somebody asks for the metrics or the status. All of it is in a few small files
//! below `/proc/self`, none of which grows with the connections; elsewhere than on Linux nothing is known.

use std::fs;

use super::metrics::Metrics;
use crate::clock::unix_now;

/// Ticks of processor time in a second, as Linux tells programs of it on every architecture that the gateway runs on.
const TICKS: f64 = 100.0;

/// What the process takes; none of what is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Usage {
    /// Bytes of memory that are in RAM.
    pub resident_bytes: Option<u64>,
    /// Bytes of address space.
    pub virtual_bytes: Option<u64>,
    /// Seconds of processor time, user and system.
    pub cpu_seconds: Option<f64>,
    /// Open file descriptors.
    pub open_fds: Option<u64>,
    /// File descriptors that may be open.
    pub max_fds: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
    /// Unix seconds of the start.
    pub started_at: Option<f64>,
}

impl Usage {
    /// Looks at the process.
    #[must_use]
    pub fn now() -> Self {
        let mut usage = Self::default();
        if let Ok(status) = fs::read_to_string("/proc/self/status") {
            usage.read_status(&status);
        }
        if let Ok(stat) = fs::read_to_string("/proc/self/stat") {
            usage.read_stat(&stat);
        }
        if let Ok(limits) = fs::read_to_string("/proc/self/limits") {
            usage.max_fds = max_open_files(&limits);
        }
        usage.open_fds = open_fds();
        usage
    }

    fn read_status(&mut self, status: &str) {
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        self.resident_bytes = number("VmRSS:").map(|kib| kib * 1024);
        self.virtual_bytes = number("VmSize:").map(|kib| kib * 1024);
        self.threads = number("Threads:");
    }

    fn read_stat(&mut self, stat: &str) {
        // The name, in parentheses, may have spaces and parentheses of its own; numbers count from behind it.
        let Some((_, behind)) = stat.rsplit_once(')') else {
            return;
        };
        let fields: Vec<&str> = behind.split_whitespace().collect();
        let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok().map(|t| t / TICKS);
        if let (Some(user), Some(system)) = (ticks(11), ticks(12)) {
            self.cpu_seconds = Some(user + system);
        }
        let uptime = fs::read_to_string("/proc/uptime").ok();
        let uptime = uptime.and_then(|text| text.split_whitespace().next()?.parse::<f64>().ok());
        if let (Some(uptime), Some(began)) = (uptime, ticks(19)) {
            self.started_at = Some((unix_now() as f64 - (uptime - began)).round());
        }
    }
}

fn max_open_files(limits: &str) -> Option<u64> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// How many file descriptors are open; since Linux 6.2 the directory's size is their number, so that none is looked at.
fn open_fds() -> Option<u64> {
    let directory = "/proc/self/fd";
    match fs::metadata(directory).ok()?.len() {
        0 => fs::read_dir(directory).ok().map(|fds| fds.count() as u64),
        // Unlike the list, the size does not have the descriptor that the list is read by.
        count => Some(count),
    }
}

/// Sets the metrics of the process.
pub(super) fn sample(metrics: &Metrics) {
    let usage = Usage::now();
    let set = |gauge: &prometheus::IntGauge, value: Option<u64>| {
        if let Some(value) = value {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        }
    };
    set(&metrics.process_resident_memory_bytes, usage.resident_bytes);
    set(&metrics.process_virtual_memory_bytes, usage.virtual_bytes);
    set(&metrics.process_open_fds, usage.open_fds);
    set(&metrics.process_max_fds, usage.max_fds);
    set(&metrics.process_threads, usage.threads);
    if let Some(now) = usage.cpu_seconds {
        let counted = metrics.process_cpu_seconds_total.get();
        metrics
            .process_cpu_seconds_total
            .inc_by((now - counted).max(0.0));
    }
    // Once: it is worked out from clocks that drift apart.
    if metrics.process_start_time_seconds.get() == 0.0
        && let Some(started_at) = usage.started_at
    {
        metrics.process_start_time_seconds.set(started_at);
    }
}
