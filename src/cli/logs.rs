//! Logs to standard error, as text or JSON; to the system's journal with its priorities.

use std::fmt;
use std::io::IsTerminal;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::args::{ColorWhen, Global, LogFormat};
use super::out::wants_color;
use super::screen;

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
    let color = if global.log_format == LogFormat::Json || is_journal() {
        ColorWhen::Never
    } else {
        global.color
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter(global, configured))
        .with_writer(screen::Log::default)
        .with_ansi(wants_color(color, std::io::stderr().is_terminal()))
        .with_target(false);
    // Both fail only if somebody else started logging, or ended it: then there is nothing to do.
    match global.log_format {
        LogFormat::Text if is_journal() => {
            let plain = tracing_subscriber::fmt::format().without_time().with_level(false);
            let builder = builder.event_format(Prioritised(plain.with_target(false)));
            let builder = builder.with_filter_reloading();
            let handle = builder.reload_handle();
            let _ = builder.try_init();
            Log(Box::new(move |filter| drop(handle.reload(filter))))
        }
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

/// Whether standard error is the journal's, which adds the time and takes the priority from the line.
fn is_journal() -> bool {
    let Ok(stat) = rustix::fs::fstat(std::io::stderr()) else { return false };
    let ours = format!("{}:{}", stat.st_dev, stat.st_ino);
    std::env::var("JOURNAL_STREAM").is_ok_and(|stream| stream == ours)
}

/// Puts the priority of the system's log before each line.
struct Prioritised<F>(F);

impl<S, N, F> FormatEvent<S, N> for Prioritised<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let priority = match *event.metadata().level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            Level::DEBUG | Level::TRACE => 7,
        };
        write!(writer, "<{priority}>")?;
        self.0.format_event(context, writer, event)
    }
}
