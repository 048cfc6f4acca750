//! What the metrics of every program have in common: the process itself, and the buckets of
//! histograms.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Buckets of work inside the process, in seconds.
pub const FAST: [f64; 12] =
    [1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.05, 0.25];

/// Buckets of what a miner waits for, in seconds.
pub const ANSWER: [f64; 16] = [
    0.00025, 0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25, 0.5, 1.0, 2.0,
    4.0, 8.0,
];

/// Buckets of what an operator waits for, in seconds.
pub const SLOW: [f64; 12] = [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

/// The conventional `process_…` metrics, read from `/proc` when they are asked for.
#[derive(Debug)]
pub struct Process;

impl Collector for Process {
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

/// `sysconf(_SC_PAGESIZE)` on the machines that Seam runs on.
const PAGE_BYTES: u64 = 4_096;

/// `sysconf(_SC_CLK_TCK)`: 100 on Linux, whatever the kernel's own tick.
const TICKS_PER_SECOND: u64 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_of_this_process_is_plausible() {
        let files: Vec<_> = (0..100).map(|_| std::fs::File::open("/proc/self/stat")).collect();
        let usage = Usage::read();
        assert!(files.iter().all(Result::is_ok));
        assert!((100..1_000).contains(&usage.open_fds), "{usage:?}");
        assert!(usage.max_fds >= usage.open_fds);
        assert!((1 << 20..1 << 40).contains(&usage.resident_bytes), "{usage:?}");
        assert!((0.0..3_600.0).contains(&usage.cpu_seconds), "{usage:?}");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        // `btime` and start are each rounded to a second.
        assert!(usage.started <= now.as_secs() + 2 && usage.started + 3_600 > now.as_secs());
    }
}
