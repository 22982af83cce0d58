//! What moves, in a status: taken from the meter, which knows it at any moment.

use super::{
    DaemonStatus, Direction, PairStatus, Pending, Progress, Rate, State, Totals, Transfer,
};
use crate::engine::Activity;
use crate::exec::meter::{Reading, Running};
use crate::tree::Side;

impl PairStatus {
    /// Takes in what the pair's meter shows.
    pub fn take_reading(&mut self, reading: &Reading) {
        self.rate = Rate { up_bps: reading.up_bps, down_bps: reading.down_bps };
        self.transfers = reading.running.iter().map(transfer).collect();
        let totals = &mut self.totals;
        (totals.bytes_up, totals.bytes_down) = (reading.moved.sent, reading.moved.received);
        totals.bytes_instant = reading.moved.instant;
        totals.files_instant = reading.moved.instant_files;
        totals.bytes_hashed = reading.moved.hashed;
        if let Some(progress) = &mut self.progress {
            let (done, left) = (reading.done, reading.left);
            *progress = Progress { bytes_done: done, bytes_total: done + left, ..*progress };
        }
        // While it still looks around, or waits, what is left may be anything.
        self.eta_s = reading.eta_s.filter(|_| self.state == State::Syncing);
    }
}

impl DaemonStatus {
    /// Without what changes all the time while something moves.
    #[must_use]
    pub fn without_motion(&self) -> DaemonStatus {
        let mut still = self.clone();
        for pair in &mut still.pairs {
            (pair.rate, pair.eta_s, pair.progress) = (Rate::default(), None, None);
            (pair.pending, pair.totals) = (Pending::default(), Totals::default());
            pair.transfers.clear();
        }
        still
    }
}

impl From<Activity> for State {
    fn from(activity: Activity) -> State {
        match activity {
            Activity::Looking => State::Scanning,
            Activity::Waiting => State::Waiting,
            Activity::Syncing | Activity::Resting => State::Syncing,
        }
    }
}

impl From<crate::engine::Pending> for Pending {
    fn from(pending: crate::engine::Pending) -> Pending {
        let crate::engine::Pending { upload, download, delete, moves, bytes, .. } = pending;
        Pending { upload, download, delete, moves, bytes }
    }
}

fn transfer(running: &Running) -> Transfer {
    let direction = match running.to {
        Side::Remote => Direction::Up,
        Side::Local => Direction::Down,
    };
    let path = running.path.as_str().to_owned();
    Transfer { path, direction, done: running.done, total: running.total }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::exec::meter::Moved;
    use crate::plan::Mode;

    fn syncing() -> PairStatus {
        let mut pair =
            PairStatus::new("docs".to_owned(), Mode::TwoWay, "/d".to_owned(), Timestamp(0));
        pair.state = State::Syncing;
        pair.progress = Some(Progress { done: 3, total: 9, ..Progress::default() });
        pair
    }

    #[test]
    fn a_reading_fills_what_moves_and_leaves_the_counts_of_operations_alone() {
        let mut pair = syncing();
        let moved = Moved { sent: 7, received: 8, instant: 9, instant_files: 1, hashed: 10 };
        let reading =
            Reading { moved, up_bps: 5, done: 30, left: 70, eta_s: Some(14), ..Reading::default() };
        pair.take_reading(&reading);
        let progress = Progress { done: 3, total: 9, bytes_done: 30, bytes_total: 100 };
        assert_eq!((pair.progress, pair.eta_s), (Some(progress), Some(14)));
        assert_eq!((pair.rate.up_bps, pair.rate.down_bps), (5, 0));
        assert_eq!((pair.totals.bytes_up, pair.totals.bytes_down), (7, 8));
        assert_eq!((pair.totals.bytes_instant, pair.totals.bytes_hashed), (9, 10));
        pair.take_reading(&Reading { moved, ..Reading::default() });
        assert_eq!((pair.rate, pair.eta_s), (Rate::default(), None));
        assert_eq!(pair.totals.bytes_up, 7);
    }

    #[test]
    fn nothing_is_foretold_of_a_pair_that_still_looks_around() {
        let mut pair = syncing();
        pair.state = State::Scanning;
        pair.take_reading(&Reading { eta_s: Some(1), ..Reading::default() });
        assert_eq!(pair.eta_s, None);
    }
}
