//! What the process itself uses, read from `/proc` when it is asked for.

use std::fmt;
use std::path::Path;

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// The conventional `process_…` metrics.
#[derive(Debug)]
pub(super) struct Collector;

impl prometheus_client::collector::Collector for Collector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let usage = Usage::read();
        let gauges = [
            ("process_resident_memory_bytes", "Resident memory", usage.resident_bytes),
            ("process_open_fds", "Open file descriptors", usage.open_fds),
            ("process_max_fds", "Limit of file descriptors", usage.max_fds),
            ("process_start_time_seconds", "Start, in Unix time", usage.started),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(value as i64);
            let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(metric)?;
        }
        let cpu = ConstCounter::new(usage.cpu_seconds);
        let metric = encoder.encode_descriptor(
            "process_cpu_seconds",
            "CPU time, user and system",
            None,
            cpu.metric_type(),
        )?;
        cpu.encode(metric)
    }
}

/// One reading.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Resident memory.
    pub resident_bytes: u64,
    /// Open file descriptors.
    pub open_fds: u64,
    /// Their limit.
    pub max_fds: u64,
    /// Start, in Unix seconds.
    pub started: u64,
    /// User and system time.
    pub cpu_seconds: f64,
}

impl Usage {
    /// Reads `/proc/self`; what cannot be read is 0.
    #[must_use]
    pub fn read() -> Self {
        let file =
            |name: &str| std::fs::read_to_string(format!("/proc/{name}")).unwrap_or_default();
        let stat = file("self/stat");
        // The command's name is in parentheses and may hold anything: fields count from behind it.
        let fields: Vec<u64> = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .map(|field| field.parse().unwrap_or(0))
            .collect();
        let field = |number: usize| fields.get(number - 3).copied().unwrap_or(0);
        let booted = file("stat")
            .lines()
            .find_map(|line| line.strip_prefix("btime ").and_then(|text| text.parse::<u64>().ok()))
            .unwrap_or(0);
        let limits = file("self/limits");
        let max_fds = limits
            .lines()
            .find_map(|line| line.strip_prefix("Max open files"))
            .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
            .unwrap_or(0);
        Self {
            resident_bytes: field(24) * PAGE_BYTES,
            open_fds: std::fs::read_dir("/proc/self/fd").map_or(0, |dir| dir.count() as u64),
            max_fds,
            started: booted + field(22) / TICKS_PER_SECOND,
            cpu_seconds: (field(14) + field(15)) as f64 / TICKS_PER_SECOND as f64,
        }
    }
}

/// Bytes that are free where `path` is, for a process without privileges; 0 if it cannot be told.
#[must_use]
pub fn disk_free_bytes(path: &Path) -> u64 {
    rustix::fs::statvfs(path).map_or(0, |stat| stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// `sysconf(_SC_PAGESIZE)` on the machines that Seam runs on.
const PAGE_BYTES: u64 = 4_096;

/// `sysconf(_SC_CLK_TCK)`: 100 on Linux, whatever the kernel's own tick.
const TICKS_PER_SECOND: u64 = 100;
