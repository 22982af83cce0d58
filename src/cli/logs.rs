//! Logs to standard error, as text or JSON.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use super::args::{ColorWhen, Global, LogFormat};
use super::out::wants_color;
use super::screen::Log;

/// Starts logging. A second call in one process has no effect. `configured` is the level of a daemon
/// for which the command line names none.
pub(super) fn start(global: &Global, configured: Option<&str>) {
    let level = match (global.quiet, global.verbose) {
        (true, _) => "error",
        (false, 0) => configured.unwrap_or("warn"),
        (false, 1) => "info",
        (false, 2) => "debug",
        (false, _) => "trace",
    };
    // Libraries below us log request headers and SQL at their finer levels.
    let own = format!("warn,foldsync={level}");
    let filter = EnvFilter::try_new(own).unwrap_or_default();
    let color = if global.log_format == LogFormat::Json { ColorWhen::Never } else { global.color };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(Log::default)
        .with_ansi(wants_color(color, std::io::stderr().is_terminal()))
        .with_target(false);
    // Fails only if somebody started logging before.
    let _ = match global.log_format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}
