//! How long a remote may take.

use std::time::Duration;

/// How often progress is checked per idle timeout, so a timeout comes at most an eighth late. Checks are counted, not
/// time: a process that was frozen for a minute has checked once.
const CHECKS: u32 = 8;

/// The least bytes a second, over two idle timeouts (by default a minute): a remote that takes or gives less would hold
/// a slot for days. It is so low that the parts of six deliveries can share a line of 5 KB a second.
const LEAST_RATE: u64 = 256;

/// How many idle timeouts a question may take in all (by default ten minutes), however lively the remote is meanwhile.
/// S3 says of the completion of an upload that it may take several minutes.
pub(super) const QUESTION: u32 = 20;

/// What has been moved between a remote and us.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moved {
    /// Bytes so far.
    pub(super) bytes: u64,
    /// Whether the remote is to move more. If not, we wait only for its answer, and no rate is expected.
    pub(super) more: bool,
}

/// Returns why a remote is given up: it was silent for `idle`, which means that it moved fewer than `least` bytes, or
/// was slower than [`LEAST_RATE`]. `look` says what was moved; `None` while the remote waits for us, which does not
/// count.
pub(super) async fn runs_out(idle: Duration, least: u64, mut look: impl FnMut() -> Option<Moved>) -> String {
    let (mut quiet, mut seen) = (0, 0);
    let (mut checked, mut from) = (0, 0);
    loop {
        tokio::time::sleep(idle / CHECKS).await;
        let Some(Moved { bytes, more }) = look() else {
            (quiet, checked) = (0, 0);
            continue;
        };
        if checked == 0 {
            from = from.max(bytes);
        }
        (quiet, seen) = if bytes >= seen + least { (0, bytes) } else { (quiet + 1, seen) };
        if quiet == CHECKS {
            return format!("neither took bytes nor answered for {idle:?}");
        }
        checked = if more { checked + 1 } else { 0 };
        if checked > 2 * CHECKS {
            let (moved, time) = (bytes.saturating_sub(from), 2 * idle);
            if u128::from(moved) * 1000 < u128::from(LEAST_RATE) * time.as_millis() {
                return format!("too slow: only {moved} bytes in {time:?}");
            }
            checked = 0;
        }
    }
}

/// Why a question is given up while its answer is still on its way.
pub(super) fn overdue(idle: Duration) -> String {
    format!("not answered within {:?}", idle * QUESTION)
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(30);

    /// How long a remote that moves so many bytes in each check is tolerated, and why it is given up.
    async fn borne(moves: impl Fn(u64) -> Option<u64>, more: bool) -> Option<(u64, String)> {
        let (mut bytes, mut check) = (0, 0);
        let began = tokio::time::Instant::now();
        let look = || {
            check += 1;
            moves(check).map(|moved| {
                bytes += moved;
                Moved { bytes, more }
            })
        };
        let why = tokio::time::timeout(100 * IDLE, runs_out(IDLE, 1, look)).await.ok()?;
        Some((began.elapsed().as_secs(), why))
    }

    #[tokio::test(start_paused = true)]
    async fn a_remote_is_given_up_when_it_is_silent_or_slow() {
        assert_eq!(borne(|_| Some(0), true).await, Some((30, "neither took bytes nor answered for 30s".into())));
        assert_eq!(borne(|_| Some(0), false).await, Some((30, "neither took bytes nor answered for 30s".into())));
        // Silent after a while.
        let (after, why) = borne(|check| Some(if check <= 16 { 10_000 } else { 0 }), true).await.unwrap();
        assert_eq!((after, &*why), (90, "neither took bytes nor answered for 30s"));
        // A byte a second, for ever.
        let (after, why) = borne(|_| Some(4), true).await.unwrap();
        assert!(after <= 70 && why == "too slow: only 64 bytes in 60s", "{after}: {why}");
        // One that is slow but fast enough, one that waits for us, and one that is no longer to move anything.
        assert_eq!(borne(|_| Some(1_000), true).await, None);
        assert_eq!(borne(|_| None, true).await, None);
        assert_eq!(borne(|_| Some(1), false).await, None);
    }
}
