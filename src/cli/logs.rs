//! Logs to standard error, as text or JSON.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use super::args::{ColorWhen, Global, LogFormat};
use super::out::wants_color;

/// The log of this process, whose level can be changed.
pub(super) struct Log(Box<dyn Fn(EnvFilter) + Send + Sync>);

impl Log {
    /// Another level from now on, unless the command line names one.
    pub(super) fn set(&self, global: &Global, configured: Option<&str>) {
        (self.0)(filter(global, configured));
    }
}

/// `configured` is the level of a daemon for which the command line names none.
fn filter(global: &Global, configured: Option<&str>) -> EnvFilter {
    let level = match (global.quiet, global.verbose) {
        (true, _) => "error",
        (false, 0) => configured.unwrap_or("warn"),
        (false, 1) => "info",
        (false, 2) => "debug",
        (false, _) => "trace",
    };
    // Libraries below us log request headers and SQL at their finer levels.
    let own = format!("warn,foldsync={level}");
    EnvFilter::try_new(own).unwrap_or_default()
}

/// Starts logging. A second call in one process has no effect.
pub(super) fn start(global: &Global, configured: Option<&str>) -> Log {
    let color = if global.log_format == LogFormat::Json { ColorWhen::Never } else { global.color };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter(global, configured))
        .with_writer(std::io::stderr)
        .with_ansi(wants_color(color, std::io::stderr().is_terminal()))
        .with_target(false);
    // Both fail only if somebody else started logging, or ended it: then there is nothing to do.
    match global.log_format {
        LogFormat::Text => {
            let builder = builder.with_filter_reloading();
            let handle = builder.reload_handle();
            let _ = builder.try_init();
            Log(Box::new(move |filter| drop(handle.reload(filter))))
        }
        LogFormat::Json => {
            let builder = builder.json().flatten_event(true).with_filter_reloading();
            let handle = builder.reload_handle();
            let _ = builder.try_init();
            Log(Box::new(move |filter| drop(handle.reload(filter))))
        }
    }
}
