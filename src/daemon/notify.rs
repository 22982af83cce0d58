//! What systemd is told: ready, reloading, stopping, alive, and the status line.
//!
//! Without a service manager every call does nothing. A manager that cannot be reached is no reason
//! to stop.

use std::time::Duration;

use sd_notify::NotifyState;

use crate::text::printable;

/// Characters of a status line; more would not fit a terminal.
const STATUS_MAX: usize = 200;

/// The service manager, as the daemon's loop sees it.
#[derive(Debug, Default)]
pub struct ServiceManager {
    status: String,
}

impl ServiceManager {
    /// How often `alive` must be called, if the manager watches at all: twice in its limit.
    pub fn watchdog_interval() -> Option<Duration> {
        sd_notify::watchdog_enabled().map(|limit| limit / 2)
    }

    /// Configuration and databases are open. Not: in sync.
    pub fn ready(&mut self, status: &str) {
        let status = self.changed(status);
        send(&[Some(NotifyState::Ready), status.as_deref().map(NotifyState::Status)]);
    }

    /// `ready` must follow.
    pub fn reloading(&mut self) {
        // A manager that waits for the end of a reload wants to know when it began.
        let began = NotifyState::monotonic_usec_now().ok();
        send(&[Some(NotifyState::Reloading), began]);
    }

    pub fn stopping(&mut self) {
        send(&[Some(NotifyState::Stopping)]);
    }

    /// From the loop that does the work, so that a stuck loop is noticed.
    pub fn alive(&mut self) {
        send(&[Some(NotifyState::Watchdog)]);
    }

    /// One line for `systemctl status`; said only when it is a new one.
    pub fn status(&mut self, status: &str) {
        if let Some(status) = self.changed(status) {
            send(&[Some(NotifyState::Status(&status))]);
        }
    }

    /// The line as it is sent, if it is not the last one. A line end in it would be a message of
    /// its own.
    fn changed(&mut self, status: &str) -> Option<String> {
        let line: String = printable(status).chars().take(STATUS_MAX).collect();
        if line == self.status {
            return None;
        }
        self.status.clone_from(&line);
        Some(line)
    }
}

fn send(states: &[Option<NotifyState<'_>>]) {
    let states: Vec<NotifyState<'_>> = states.iter().flatten().cloned().collect();
    if let Err(error) = sd_notify::notify(&states) {
        tracing::debug!(%error, "the service manager could not be told");
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::process::Command;

    use super::*;

    const SPEAKER: &str = "daemon::notify::tests::speaks_to_the_manager_of_its_environment";

    // Run by the test below, with a manager in the environment; without one it says nothing.
    #[test]
    fn speaks_to_the_manager_of_its_environment() {
        let mut manager = ServiceManager::default();
        manager.ready("docs: Up to date");
        manager.status("docs: Up to date");
        manager.status("a\nREADY=1\u{1b}");
        manager.reloading();
        manager.alive();
        manager.stopping();
        let wanted = std::env::var_os("NOTIFY_SOCKET").map(|_| Duration::from_secs(60));
        assert_eq!(ServiceManager::watchdog_interval(), wanted);
    }

    #[test]
    fn the_manager_hears_each_message_once_and_a_status_cannot_fake_one() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let run = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", SPEAKER])
            .env("NOTIFY_SOCKET", &path)
            .env("WATCHDOG_USEC", "120000000")
            .env_remove("WATCHDOG_PID")
            .output()
            .unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stdout));
        socket.set_nonblocking(true).unwrap();
        let mut heard = Vec::new();
        let mut buffer = [0u8; 1000];
        while let Ok(length) = socket.recv(&mut buffer) {
            heard.push(String::from_utf8(buffer[..length].to_vec()).unwrap());
        }
        assert_eq!(heard[0], "READY=1\nSTATUS=docs: Up to date\n");
        assert_eq!(heard[1], "STATUS=a\\nREADY=1\\u{1b}\n");
        assert!(heard[2].starts_with("RELOADING=1\nMONOTONIC_USEC="), "{heard:?}");
        assert_eq!(heard[3..], ["WATCHDOG=1\n", "STOPPING=1\n"]);
    }
}
