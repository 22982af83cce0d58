//! Time, behind a trait, so that the simulator can own it.
//!
//! Nothing else in the library reads a clock or sleeps.

use std::time::Duration;

use async_trait::async_trait;

/// Wall time in nanoseconds since the epoch. It may jump in either direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub i64);

impl Timestamp {
    pub fn from_seconds(seconds: i64) -> Timestamp {
        Timestamp(seconds.saturating_mul(1_000_000_000))
    }

    pub fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000_000)
    }

    pub fn plus(self, duration: Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)))
    }

    /// Zero if `earlier` is later.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_nanos(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// RFC 3339, in UTC, to the second.
    pub fn rfc3339(self) -> String {
        jiff::Timestamp::from_second(self.seconds()).unwrap_or(jiff::Timestamp::MIN).to_string()
    }

    /// `YYYYMMDD-HHMMSS`, in UTC: the form used in names.
    pub fn compact(self) -> String {
        let at = jiff::Timestamp::from_second(self.seconds()).unwrap_or(jiff::Timestamp::MIN);
        at.to_zoned(jiff::tz::TimeZone::UTC).strftime("%Y%m%d-%H%M%S").to_string()
    }
}

/// How long the computer has been running. Unlike wall time it never jumps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uptime {
    /// Names the start of the computer from which it is counted.
    pub boot: String,
    /// Also those in which it slept.
    pub seconds: u64,
}

#[async_trait]
pub trait Clock: Send + Sync + 'static {
    fn now(&self) -> Timestamp;
    /// `None` where nothing is known but the wall time.
    fn uptime(&self) -> Option<Uptime> {
        None
    }
    async fn sleep(&self, duration: Duration);
}

/// The computer's clock and tokio's timer.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Timestamp(since.map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX)))
    }

    fn uptime(&self) -> Option<Uptime> {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let uptime = std::fs::read_to_string("/proc/uptime").ok()?;
        let seconds = uptime.split(['.', ' ']).next()?.parse().ok()?;
        Some(Uptime { boot: boot.trim().to_owned(), seconds })
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}
