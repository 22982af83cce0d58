//! How well changes are noticed: what a person reads in the status, and what he can do about it.

use std::path::Path;

/// The watcher does not see everything; the rest is found by looking at intervals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Degraded {
    Polling { reason: PollingReason },
}

/// Why polling is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PollingReason {
    /// `max_user_watches` is used up.
    WatchLimit,
    /// `max_user_instances` is used up: nothing is watched at all.
    InstanceLimit,
    /// A file system that tells nothing about what other computers do.
    FileSystem(&'static str),
    /// The thread that reads the events ended.
    Died,
    /// Anything else, in the system's words.
    Unavailable(String),
}

impl std::fmt::Display for PollingReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            PollingReason::WatchLimit => f.write_str("inotify limit reached"),
            PollingReason::InstanceLimit => f.write_str("inotify instance limit reached"),
            PollingReason::FileSystem(name) => {
                write!(f, "{name} tells nothing about changes by others")
            }
            PollingReason::Died => f.write_str("the file watcher ended"),
            PollingReason::Unavailable(why) => write!(f, "the file watcher does not work: {why}"),
        }
    }
}

/// A moment of a watcher.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchState {
    /// Folders with a watch.
    pub watched: usize,
    /// Folders that should have one and are polled.
    pub unwatched: usize,
    pub degraded: Option<Degraded>,
    /// Events since the start.
    pub events: u64,
    /// How often events were lost and everything was looked at.
    pub overflows: u64,
    /// How often the source of events was replaced.
    pub restarts: u64,
}

/// More than this is the default of current kernels.
const WATCHES_WANTED_MIN: u64 = 524_288;

impl WatchState {
    /// The command that lifts the limit, if a limit is the reason.
    pub fn advice(&self) -> Option<String> {
        let Some(Degraded::Polling { reason }) = &self.degraded else { return None };
        match reason {
            PollingReason::WatchLimit => {
                let folders = u64::try_from(self.watched + self.unwatched).unwrap_or(u64::MAX / 4);
                let wanted = (folders * 2).next_power_of_two().max(WATCHES_WANTED_MIN);
                Some(format!("sysctl fs.inotify.max_user_watches={wanted}"))
            }
            PollingReason::InstanceLimit => {
                Some("sysctl fs.inotify.max_user_instances=1024".to_owned())
            }
            PollingReason::FileSystem(_) | PollingReason::Died | PollingReason::Unavailable(_) => {
                None
            }
        }
    }
}

/// The name of a file system on which changes can happen without an event.
#[cfg(target_os = "linux")]
pub(super) fn silent_file_system(root: &Path) -> Option<&'static str> {
    const SILENT: [(u64, &str); 13] = [
        (0x6969, "NFS"),
        (0x517B, "SMB"),
        (0xFE53_4D42, "SMB"),
        (0xFF53_4D42, "CIFS"),
        (0x6573_5546, "FUSE"),
        (0x0102_1997, "9p"),
        (0x00C3_6400, "Ceph"),
        (0x5346_414F, "AFS"),
        (0x7375_7245, "Coda"),
        (0x0BD0_0BD0, "Lustre"),
        (0x786F_4256, "vboxsf"),
        (0x7C7C_6673, "prl_fs"),
        (0xBACB_ACBC, "vmhgfs"),
    ];
    let magic = rustix::fs::statfs(root).ok()?.f_type;
    // Some of the numbers are negative where the field is a signed 32-bit one.
    let magic = (magic as u64) & 0xFFFF_FFFF;
    SILENT.iter().find(|(known, _)| *known == magic).map(|(_, name)| *name)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn silent_file_system(_root: &Path) -> Option<&'static str> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    // WA-02
    #[test]
    fn at_the_limit_the_advice_is_the_line_to_run() {
        let degraded = |reason| WatchState {
            watched: 400_000,
            unwatched: 100_000,
            degraded: Some(Degraded::Polling { reason }),
            ..WatchState::default()
        };
        assert_eq!(
            degraded(PollingReason::WatchLimit).advice().unwrap(),
            "sysctl fs.inotify.max_user_watches=1048576"
        );
        assert!(degraded(PollingReason::InstanceLimit).advice().unwrap().contains("instances"));
        assert_eq!(degraded(PollingReason::FileSystem("NFS")).advice(), None);
        assert_eq!(WatchState::default().advice(), None);
    }
}
