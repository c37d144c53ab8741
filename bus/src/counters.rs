use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How much a service has done since it started. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Counters(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    running: AtomicU64,
    jobs: AtomicU64,
    unreadable: AtomicU64,
    logins_failed: AtomicU64,
}

/// A job that is counted as running until this is dropped.
#[derive(Debug)]
pub struct Running(Counters);

impl Counters {
    /// Counts a job that begins.
    pub fn job(&self) -> Running {
        self.0.running.fetch_add(1, Ordering::Relaxed);
        self.0.jobs.fetch_add(1, Ordering::Relaxed);
        Running(self.clone())
    }

    /// Counts a message that could not be read.
    pub fn unreadable(&self) {
        self.0.unreadable.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a login with a wrong name or password, or of a disabled user.
    pub fn login_failed(&self) {
        self.0.logins_failed.fetch_add(1, Ordering::Relaxed);
    }

    /// Jobs that are running.
    pub fn jobs_running(&self) -> u64 {
        self.0.running.load(Ordering::Relaxed)
    }

    /// Jobs that were begun.
    pub fn jobs_begun(&self) -> u64 {
        self.0.jobs.load(Ordering::Relaxed)
    }

    /// Messages that could not be read.
    pub fn messages_unreadable(&self) -> u64 {
        self.0.unreadable.load(Ordering::Relaxed)
    }

    /// Logins that failed.
    pub fn logins_failed(&self) -> u64 {
        self.0.logins_failed.load(Ordering::Relaxed)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}
