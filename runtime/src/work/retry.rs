use std::time::Duration;

use contract::Timestamp;
use settings::RetrySettings;

/// How long to wait after attempt number `attempt` (from 1): doubled each time, capped, with full jitter over the upper
/// half, so that files that failed together do not come back together. `jitter` is a random number from 0 to 1. The
/// pause that the remote asked for (`at_least`) is the minimum, up to the cap.
pub(super) fn delay(settings: &RetrySettings, attempt: u32, jitter: f64, at_least: Option<Duration>) -> Duration {
    let cap = Duration::from_millis(settings.max_ms);
    let doubled = settings.first_ms.saturating_mul(1_u64.checked_shl(attempt.saturating_sub(1)).unwrap_or(u64::MAX));
    let span = Duration::from_millis(doubled).min(cap);
    let jittered = span.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0);
    jittered.max(at_least.unwrap_or_default().min(cap))
}

/// Whether attempt number `attempt` (from 1) at a phase that was asked for at `queued` was the last, if it failed at `now`.
pub(super) fn is_last(settings: &RetrySettings, attempt: u32, queued: Timestamp, now: Timestamp) -> bool {
    attempt >= settings.attempts || now >= queued.after(Duration::from_secs(settings.max_age_seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> RetrySettings {
        RetrySettings { first_ms: 1000, max_ms: 60_000, attempts: 5, max_age_seconds: 3600 }
    }

    #[test]
    fn doubles_up_to_the_cap() {
        let spans: Vec<u64> = (1..9).map(|n| delay(&settings(), n, 1.0, None).as_secs()).collect();
        assert_eq!(spans, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(delay(&settings(), u32::MAX, 1.0, None).as_secs(), 60);
    }

    #[test]
    fn jitter_halves_at_most() {
        assert_eq!(delay(&settings(), 2, 0.0, None).as_millis(), 1000);
    }

    #[test]
    fn the_last_attempt_is_so_by_count_or_by_age() {
        let queued = Timestamp::from_millis(1_000_000);
        let last = |attempt, seconds| is_last(&settings(), attempt, queued, queued.after(Duration::from_secs(seconds)));
        assert_eq!([last(4, 0), last(5, 0), last(1, 3599), last(1, 3600)], [false, true, false, true]);
    }

    #[test]
    fn the_remote_sets_the_minimum_up_to_the_cap() {
        let asked = |secs| delay(&settings(), 1, 0.5, Some(Duration::from_secs(secs))).as_secs();
        assert_eq!((asked(30), asked(600)), (30, 60));
    }
}
