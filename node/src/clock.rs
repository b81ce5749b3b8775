//! The one place that reads the machine's clocks.

use std::{
    sync::LazyLock,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use headwater_protocol::Time;

/// All times of one process count from the same instant, so that several nodes in one
/// process can be compared.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Time since the process started, as the protocol core counts it.
#[must_use]
pub fn now() -> Time {
    Time::from_micros(u64::try_from(START.elapsed().as_micros()).unwrap_or(u64::MAX))
}

/// Milliseconds since 1970.
#[must_use]
pub fn unix_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Sleeps until a time of [`now`]; for ever when there is none.
pub async fn sleep_until(at: Option<Time>) {
    match at {
        Some(at) => tokio::time::sleep_until((*START + at.since(Time::default())).into()).await,
        None => std::future::pending().await,
    }
}

/// Blocks the thread until a time of [`now`]: for threads that pace media.
#[expect(
    clippy::disallowed_methods,
    reason = "pacing media is waiting for a time and nothing else"
)]
pub fn block_until(at: Time) {
    let left = at.since(now());
    if !left.is_zero() {
        std::thread::sleep(left);
    }
}
