//! What Prometheus's clients tell of every process, read from `/proc` when it is asked for.

use std::fs;
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge};

/// Kernel ticks per second in `/proc/<pid>/stat`: 100 on every Linux that etcd runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// The `process_*` and `os_fd_*` metrics. Linux only; elsewhere they stay at zero.
pub struct ProcessMetrics {
    cpu_seconds: Counter,
    gauges: Gauges,
    page_bytes: f64,
}

struct Gauges {
    open_fds: Gauge,
    max_fds: Gauge,
    start_time_seconds: Gauge,
    virtual_memory_bytes: Gauge,
    virtual_memory_max_bytes: Gauge,
    resident_memory_bytes: Gauge,
    network_receive_bytes: Gauge,
    network_transmit_bytes: Gauge,
    os_fd_used: Gauge,
    os_fd_limit: Gauge,
}

fn gauge(name: &str, help: &str) -> Gauge {
    Gauge::new(name, help).expect("names of this file are well-formed")
}

impl Default for ProcessMetrics {
    fn default() -> ProcessMetrics {
        let cpu_help = "Total user and system CPU time spent in seconds.";
        let gauges = Gauges {
            open_fds: gauge("process_open_fds", "Number of open file descriptors."),
            max_fds: gauge("process_max_fds", "Maximum number of open file descriptors."),
            start_time_seconds: gauge(
                "process_start_time_seconds",
                "Start time of the process since unix epoch in seconds.",
            ),
            virtual_memory_bytes: gauge("process_virtual_memory_bytes", "Virtual memory size in bytes."),
            virtual_memory_max_bytes: gauge(
                "process_virtual_memory_max_bytes",
                "Maximum amount of virtual memory available in bytes.",
            ),
            resident_memory_bytes: gauge("process_resident_memory_bytes", "Resident memory size in bytes."),
            network_receive_bytes: gauge(
                "process_network_receive_bytes_total",
                "Number of bytes received by the process over the network.",
            ),
            network_transmit_bytes: gauge(
                "process_network_transmit_bytes_total",
                "Number of bytes sent by the process over the network.",
            ),
            os_fd_used: gauge("os_fd_used", "The number of used file descriptors."),
            os_fd_limit: gauge("os_fd_limit", "The file descriptor limit."),
        };
        let cpu_seconds =
            Counter::new("process_cpu_seconds_total", cpu_help).expect("names of this file are well-formed");
        ProcessMetrics { cpu_seconds, gauges, page_bytes: rustix::param::page_size() as f64 }
    }
}

impl Gauges {
    fn all(&self) -> [&Gauge; 10] {
        [
            &self.open_fds,
            &self.max_fds,
            &self.start_time_seconds,
            &self.virtual_memory_bytes,
            &self.virtual_memory_max_bytes,
            &self.resident_memory_bytes,
            &self.network_receive_bytes,
            &self.network_transmit_bytes,
            &self.os_fd_used,
            &self.os_fd_limit,
        ]
    }
}

impl ProcessMetrics {
    fn refresh(&self) {
        self.read_stat();
        self.read_network();
        let open = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count) as f64;
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        let limit = limit.current.map_or(0.0, |limit| limit as f64);
        let memory = rustix::process::getrlimit(rustix::process::Resource::As);
        self.gauges.open_fds.set(open);
        self.gauges.os_fd_used.set(open);
        self.gauges.max_fds.set(limit);
        self.gauges.os_fd_limit.set(limit);
        // No limit is the largest number, as Go's client has it.
        self.gauges.virtual_memory_max_bytes.set(memory.current.unwrap_or(u64::MAX) as f64);
    }

    fn read_stat(&self) {
        let Ok(stat) = fs::read_to_string("/proc/self/stat") else { return };
        // The command's name stands in parentheses and may hold anything; what follows is numbers.
        let Some((_, rest)) = stat.rsplit_once(')') else { return };
        let fields: Vec<f64> = rest.split_whitespace().map(|field| field.parse().unwrap_or(0.0)).collect();
        let field = |number: usize| fields.get(number - 3).copied().unwrap_or(0.0);
        let cpu = (field(14) + field(15)) / TICKS_PER_SECOND;
        self.cpu_seconds.inc_by((cpu - self.cpu_seconds.get()).max(0.0));
        self.gauges.start_time_seconds.set(boot_time().as_secs_f64() + field(22) / TICKS_PER_SECOND);
        self.gauges.virtual_memory_bytes.set(field(23));
        self.gauges.resident_memory_bytes.set(field(24) * self.page_bytes);
    }

    fn read_network(&self) {
        let Ok(text) = fs::read_to_string("/proc/self/net/netstat") else { return };
        let mut lines = text.lines().filter(|line| line.starts_with("IpExt:"));
        let (Some(names), Some(values)) = (lines.next(), lines.next()) else { return };
        let values: Vec<&str> = values.split_whitespace().collect();
        for (at, name) in names.split_whitespace().enumerate() {
            let value = values.get(at).and_then(|value| value.parse().ok()).unwrap_or(0.0);
            match name {
                "InOctets" => self.gauges.network_receive_bytes.set(value),
                "OutOctets" => self.gauges.network_transmit_bytes.set(value),
                _ => {}
            }
        }
    }
}

/// When the machine started, since 1970.
fn boot_time() -> Duration {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let seconds = stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok());
    Duration::from_secs(seconds.unwrap_or(0))
}

impl Collector for ProcessMetrics {
    fn desc(&self) -> Vec<&Desc> {
        let gauges = self.gauges.all();
        self.cpu_seconds.desc().into_iter().chain(gauges.into_iter().flat_map(Gauge::desc)).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.refresh();
        let gauges = self.gauges.all();
        self.cpu_seconds.collect().into_iter().chain(gauges.into_iter().flat_map(Gauge::collect)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory_time_and_files() {
        let metrics = ProcessMetrics::default();
        metrics.refresh();
        assert!(metrics.gauges.resident_memory_bytes.get() > 1e5);
        assert!(metrics.gauges.open_fds.get() >= 3.0);
        assert!(metrics.gauges.max_fds.get() >= metrics.gauges.open_fds.get());
        assert!(metrics.gauges.start_time_seconds.get() > 1.6e9);
        assert_eq!(metrics.desc().len(), metrics.collect().len());
    }
}
