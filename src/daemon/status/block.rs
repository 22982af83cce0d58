//! What a person watches while it works: sums, and a line for each transfer. Text only; who shows it
//! cuts lines to the width of the screen.

use std::cmp::Reverse;

use super::text::{headline, sums};
use super::{Direction, PairStatus, State, Transfer};
use crate::text::{counted, printable, size};

/// Transfers that are shown one by one.
const TRANSFERS_MAX: usize = 8;

/// The lines of one pair: never none.
pub fn block(pair: &PairStatus) -> Vec<String> {
    let mut lines = vec![format!("{}: {}", printable(&pair.name), parts(pair).join("  "))];
    lines.extend(savings(pair));
    lines.extend(transfers(pair));
    lines
}

/// All of it in one line, for a log.
pub fn one_line(pair: &PairStatus) -> String {
    let mut all = parts(pair);
    all.extend(savings(pair).map(|saved| saved.trim_start().to_owned()));
    if !pair.transfers.is_empty() {
        all.push(counted(pair.transfers.len() as u64, "transfer"));
    }
    format!("{}: {}", printable(&pair.name), all.join("  "))
}

fn parts(pair: &PairStatus) -> Vec<String> {
    let mut parts = vec![headline(pair)];
    if pair.failed_total > 0 && pair.state != State::Idle {
        parts.push(format!("{} failed", pair.failed_total));
    }
    let is_moving = pair.state == State::Syncing || !pair.transfers.is_empty();
    parts.extend(is_moving.then(|| sums(pair)));
    parts
}

/// What people with drives that know all content already look for.
fn savings(pair: &PairStatus) -> Option<String> {
    let (files, bytes) = (pair.totals.files_instant, pair.totals.bytes_instant);
    (files > 0).then(|| format!("  instant: {}, {} saved", counted(files, "file"), size(bytes)))
}

/// The largest first: they are the ones that one waits for.
pub(super) fn transfers(pair: &PairStatus) -> Vec<String> {
    let mut sorted: Vec<&Transfer> = pair.transfers.iter().collect();
    sorted.sort_by_key(|transfer| Reverse(transfer.total));
    let mut lines: Vec<String> = sorted.iter().take(TRANSFERS_MAX).map(|t| line(t)).collect();
    let more = pair.transfers.len().saturating_sub(TRANSFERS_MAX);
    if more > 0 {
        lines.push(format!("    and {more} more"));
    }
    lines
}

fn line(transfer: &Transfer) -> String {
    let arrow = match transfer.direction {
        Direction::Up => "↑",
        Direction::Down => "↓",
    };
    let (done, total) = (transfer.done.min(transfer.total), transfer.total);
    let percent = (u128::from(done) * 100).checked_div(u128::from(total)).unwrap_or(100);
    let of = format!("{} / {}", size(done), size(total));
    format!("  {arrow} {percent:>3}%  {of:>23}  {}", printable(&transfer.path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::daemon::status::Progress;
    use crate::plan::Mode;

    fn photos() -> PairStatus {
        let mut pair =
            PairStatus::new("photos".to_owned(), Mode::TwoWay, "/p".to_owned(), Timestamp(0));
        pair.state = State::Syncing;
        pair.progress = Some(Progress {
            done: 37,
            total: 212,
            bytes_done: 1200 << 20,
            bytes_total: 9800 << 20,
        });
        pair.rate.up_bps = 412 << 10;
        pair.eta_s = Some(22_200);
        pair
    }

    fn transfer(path: &str, direction: Direction, done: u64, total: u64) -> Transfer {
        Transfer { path: path.to_owned(), direction, done, total }
    }

    #[test]
    fn the_block_has_sums_savings_and_a_line_for_each_transfer() {
        let mut pair = photos();
        (pair.totals.files_instant, pair.totals.bytes_instant) = (118, 4300 << 20);
        pair.failed_total = 2;
        pair.transfers = vec![
            transfer("empty", Direction::Up, 0, 0),
            transfer("video/a.mp4", Direction::Up, 600 << 20, 800 << 20),
            transfer("notes.md", Direction::Down, 5000, 4000),
        ];
        let expected = "\
photos: Syncing 37/212  2 failed  1.2 GiB / 9.6 GiB  ↑ 412.0 KiB/s  ETA 6h 10m
  instant: 118 files, 4.2 GiB saved
  ↑  75%    600.0 MiB / 800.0 MiB  video/a.mp4
  ↓ 100%        3.9 KiB / 3.9 KiB  notes.md
  ↑ 100%                0 B / 0 B  empty";
        assert_eq!(block(&pair).join("\n"), expected);
        let line = "photos: Syncing 37/212  2 failed  1.2 GiB / 9.6 GiB  ↑ 412.0 KiB/s  \
                    ETA 6h 10m  instant: 118 files, 4.2 GiB saved  3 transfers";
        assert_eq!(one_line(&pair), line);
    }

    #[test]
    fn a_pair_at_rest_is_one_line() {
        let mut pair = photos();
        (pair.state, pair.progress) = (State::Idle, None);
        pair.remote.listing_complete = true;
        assert_eq!(block(&pair), ["photos: Up to date"]);
    }

    #[test]
    fn many_transfers_are_counted_and_the_largest_of_them_named() {
        let mut pair = photos();
        let small = |n: u64| transfer(&format!("s{n}"), Direction::Up, 0, n);
        pair.transfers = (0..20).map(small).collect();
        let lines = block(&pair);
        assert_eq!(lines.len(), 10);
        assert!(lines[1].ends_with("s19") && lines[9].ends_with("and 12 more"), "{lines:?}");
    }

    // SE-24, NM-15
    #[test]
    fn a_name_cannot_command_the_terminal() {
        let mut pair = photos();
        pair.name = "a\rb".to_owned();
        pair.transfers = vec![transfer("x\u{1b}[2J\ny\u{202e}", Direction::Up, 1, 2)];
        for line in block(&pair) {
            assert!(!line.chars().any(|c| c.is_control() || c == '\u{202e}'), "{line:?}");
        }
        assert!(!one_line(&pair).contains('\r'));
    }
}
