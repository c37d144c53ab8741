//! Waiting with a deadline.

use std::time::Duration;

/// How long anything may take on a busy machine. Nothing needs that long; it only ends what hangs.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// Calls `condition` again and again until it returns `Some`. At the deadline, panics and names what it waited for.
pub async fn until<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(found) = condition().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let found = tokio::time::timeout(DEADLINE, asking).await;
    found.unwrap_or_else(|_| panic!("waited {DEADLINE:?} in vain until {what}"))
}

/// Returns what `work` returns; panics at the deadline.
pub async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, work).await.expect("the test hangs")
}
