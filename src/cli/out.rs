//! Standard output and standard error: data to the one, words to the other.
//!
//! A reader that went away ends the output, never the work: a sync goes on without its pipe.

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use super::args::ColorWhen;
use super::screen::above;
use crate::text::{Paint, json_printable};

/// Where results go. Clones share it.
#[derive(Clone, Debug)]
pub struct Out {
    state: Arc<Mutex<State>>,
    color: bool,
}

#[derive(Debug)]
struct State {
    stdout: io::BufWriter<io::Stdout>,
    /// Set when nobody reads any more, or the disk behind a redirection is full.
    broken: Option<io::Error>,
}

impl Out {
    pub fn new(color: ColorWhen) -> Out {
        let stdout = io::stdout();
        let color = wants_color(color, stdout.is_terminal());
        let state = State { stdout: io::BufWriter::new(stdout), broken: None };
        Out { state: Arc::new(Mutex::new(state)), color }
    }

    /// One line. Names in it must have passed `text::printable`.
    pub fn line(&self, line: impl AsRef<str>) {
        self.write(line.as_ref().as_bytes());
        self.write(b"\n");
    }

    /// One line of JSON, visible at once: a script may be waiting for it.
    pub fn json(&self, value: &impl Serialize) {
        if let Ok(text) = serde_json::to_string(value) {
            self.line(json_printable(&text));
            self.flush();
        }
    }

    pub fn write(&self, bytes: &[u8]) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.broken.is_none()
            && let Err(error) = state.stdout.write_all(bytes)
        {
            state.broken = Some(error);
        }
    }

    pub fn flush(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.broken.is_none()
            && let Err(error) = state.stdout.flush()
        {
            state.broken = Some(error);
        }
    }

    /// The error that kept output from being written, unless it was only a closed pipe.
    pub fn finish(&self) -> io::Result<()> {
        self.flush();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match state.broken.take() {
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
            Some(_) | None => Ok(()),
        }
    }

    pub fn paint(&self, paint: Paint, text: &str) -> String {
        if !self.color {
            return text.to_owned();
        }
        format!("\u{1b}[{}m{text}\u{1b}[0m", paint.code())
    }
}

/// Whether the terminal can only write lines.
pub fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}

/// Whether a stream gets colours: the flag decides, then `NO_COLOR`, then the terminal.
pub fn wants_color(when: ColorWhen, is_terminal: bool) -> bool {
    let unwanted =
        || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) || is_dumb();
    match when {
        ColorWhen::Always => true,
        ColorWhen::Never => false,
        ColorWhen::Auto => is_terminal && !unwanted(),
    }
}

/// A line for a person, on standard error. Nobody listening is no reason to stop.
pub fn say(line: impl AsRef<str>) {
    let _ = above(|| writeln!(io::stderr().lock(), "{}", line.as_ref()));
}
