//! Lines at the bottom of a terminal that are drawn again in place, cut to its width.
//!
//! There is one at most: whatever else is written while it is up passes `above` it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The screen that is up now.
static UP: Mutex<Option<MultiProgress>> = Mutex::new(None);

fn up() -> MutexGuard<'static, Option<MultiProgress>> {
    UP.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes something that stays, above the lines if there are any.
pub(super) fn above<T>(write: impl FnOnce() -> T) -> T {
    match up().as_ref() {
        Some(lines) => lines.suspend(write),
        None => write(),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Out,
    Err,
}

/// See the module text.
#[derive(Debug)]
pub(super) struct Screen {
    all: MultiProgress,
    /// None after the end.
    lines: Mutex<Option<Vec<ProgressBar>>>,
}

impl Screen {
    /// A terminal at the other end is taken for granted.
    pub(super) fn new(stream: Stream) -> Screen {
        /// Each line that changes is drawn by itself.
        const DRAWS_PER_SECOND: u8 = 100;
        let target = match stream {
            Stream::Out => ProgressDrawTarget::stdout_with_hz(DRAWS_PER_SECOND),
            Stream::Err => ProgressDrawTarget::stderr_with_hz(DRAWS_PER_SECOND),
        };
        let all = MultiProgress::with_draw_target(target);
        *up() = Some(all.clone());
        Screen { all, lines: Mutex::new(Some(Vec::new())) }
    }

    /// These lines instead of the ones before.
    pub(super) fn show(&self, texts: &[String]) {
        let mut lines = self.lines();
        let Some(lines) = lines.as_mut() else { return };
        while lines.len() > texts.len() {
            if let Some(line) = lines.pop() {
                self.all.remove(&line);
            }
        }
        for (line, text) in lines.iter().zip(texts) {
            if line.message() != *text {
                line.set_message(text.clone());
            }
        }
        for text in texts.iter().skip(lines.len()) {
            let style = ProgressStyle::with_template("{wide_msg}");
            let style = style.unwrap_or_else(|_| ProgressStyle::default_spinner());
            let line = self.all.add(ProgressBar::no_length().with_style(style));
            line.set_message(text.clone());
            lines.push(line);
        }
    }

    fn lines(&self) -> MutexGuard<'_, Option<Vec<ProgressBar>>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing is left on the terminal, and nothing more comes.
    pub(super) fn close(&self) {
        let Some(lines) = self.lines().take() else { return };
        let mut up = up();
        lines.iter().for_each(|line| self.all.remove(line));
        // A terminal that is gone needs no cleaning.
        let _ = self.all.clear();
        *up = None;
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.close();
    }
}

/// Standard error for logs: each event is written as a whole.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Log;

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        above(|| std::io::stderr().lock().write(bytes))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
