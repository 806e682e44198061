//! Durations of one thing done many times, and what /proc says of a process's memory.

use std::time::Duration;

/// Durations.
#[derive(Default)]
pub(crate) struct Sample(Vec<Duration>);

impl Sample {
    pub(crate) fn add(&mut self, duration: Duration) {
        self.0.push(duration);
    }

    fn at(&self, share: f64) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        sorted.get(((sorted.len().saturating_sub(1)) as f64 * share) as usize).copied().unwrap_or_default()
    }

    pub(crate) fn median(&self) -> Duration {
        self.at(0.5)
    }

    pub(crate) fn print(&self, what: &str) {
        println!("{what:<66} {} {}", shown(self.median()), shown(self.at(0.99)));
    }

    pub(crate) fn print_beside(&self, what: &str, bare: &Self) {
        println!("{what:<66} {} {} {:>7.2}x", shown(self.median()), shown(self.at(0.99)), self.median().as_secs_f64() / bare.median().as_secs_f64());
    }
}

fn shown(duration: Duration) -> String {
    let micros = duration.as_secs_f64() * 1e6;
    if micros < 1000.0 { format!("{micros:>7.0} µs") } else { format!("{:>7.1} ms", micros / 1000.0) }
}

/// Proportional set size: shared pages are divided among those who share them.
pub(crate) fn pss_kib(pid: i64) -> u64 {
    field(&format!("/proc/{pid}/smaps_rollup"), "Pss:")
}

/// Resident set size.
pub(crate) fn rss_kib(pid: i64) -> u64 {
    field(&format!("/proc/{pid}/status"), "VmRSS:")
}

fn field(file: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
