//! Times, ratios, CPU seconds and memory.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Throughput of ours and of the peer, measured one after the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pair {
    pub(crate) ours: f64,
    pub(crate) theirs: f64,
}

pub(crate) fn mib_per_second(bytes: u64, seconds: f64) -> f64 {
    bytes as f64 / f64::from(1 << 20) / seconds
}

pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Medians of both, and the median of the pairs' ratios with the least and the greatest.
pub(crate) fn row(pairs: &[Pair]) -> String {
    let of = |value: fn(&Pair) -> f64| pairs.iter().map(value).collect::<Vec<_>>();
    let ratios = of(|pair| pair.ours / pair.theirs);
    let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    let most = ratios.iter().copied().fold(0.0, f64::max);
    format!(
        "{:.0} | {:.0} | {:.2} ({least:.2} to {most:.2})",
        median(&of(|pair| pair.ours)),
        median(&of(|pair| pair.theirs)),
        median(&ratios)
    )
}

/// CPU seconds by process.
#[derive(Debug, Default, Clone)]
pub(crate) struct Usage(pub(crate) BTreeMap<String, f64>);

impl Usage {
    /// Adds what was used between two readings.
    pub(crate) fn add(&mut self, before: &Self, after: &Self) {
        for (name, seconds) in &after.0 {
            let used = seconds - before.0.get(name).copied().unwrap_or_default();
            *self.0.entry(name.clone()).or_default() += used;
        }
    }
}

/// Watches processes: their CPU on demand, their memory all the time.
#[derive(Debug)]
pub(crate) struct Watch {
    processes: Vec<(String, u32)>,
    peaks: Arc<Mutex<BTreeMap<String, u64>>>,
    ended: Arc<AtomicBool>,
}

impl Watch {
    #[expect(clippy::disallowed_methods, reason = "a thread of its own samples at a fixed pace")]
    pub(crate) fn start(processes: Vec<(String, u32)>) -> Self {
        let watch = Self { processes, peaks: Arc::default(), ended: Arc::default() };
        let (processes, peaks, ended) = (watch.processes.clone(), watch.peaks.clone(), watch.ended.clone());
        std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                for (name, pid) in &processes {
                    let now = rss_anon_kib(*pid).unwrap_or_default();
                    let mut peaks = peaks.lock().expect("nobody panics with it");
                    let peak = peaks.entry(name.clone()).or_default();
                    *peak = now.max(*peak);
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        watch
    }

    /// The largest anonymous memory of each process so far, in KiB.
    pub(crate) fn peaks(&self) -> BTreeMap<String, u64> {
        self.peaks.lock().expect("nobody panics with it").clone()
    }

    /// CPU seconds of each process so far.
    pub(crate) fn cpu(&self) -> Usage {
        Usage(self.processes.iter().map(|(name, pid)| (name.clone(), cpu_seconds(*pid).unwrap_or_default())).collect())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

fn rss_anon_kib(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// CPU seconds of this process, and of those that it started and that have ended.
#[allow(dead_code, reason = "not every benchmark that shares this file is a process of its own")]
pub(crate) fn own_cpu_seconds() -> f64 {
    ticks("self", 4).unwrap_or(f64::NAN)
}

fn cpu_seconds(pid: u32) -> Option<f64> {
    ticks(&pid.to_string(), 2)
}

/// User and system time are the fields 14 and 15 of a process, 16 and 17 are those of its children.
fn ticks(process: &str, fields: usize) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name, which may hold anything, ends at the last parenthesis.
    let found: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: f64 = found.get(11..11 + fields)?.iter().filter_map(|field| field.parse::<f64>().ok()).sum();
    Some(ticks / rustix::param::clock_ticks_per_second() as f64)
}
