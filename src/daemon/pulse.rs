//! Notices that the wall clock and the time that we were awake differ: the computer slept, or
//! somebody set the clock.

use std::time::Duration;

use tokio::time::Instant;

use crate::clock::Timestamp;

/// More than a clock is ever slewed between two beats.
const JUMP_MIN: Duration = Duration::from_secs(10);
/// So often it should be asked; a sleep is noticed that long after its end.
pub(super) const BEAT: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub(super) struct Pulse {
    wall: Timestamp,
    awake: Instant,
}

impl Pulse {
    pub(super) fn new(wall: Timestamp) -> Pulse {
        Pulse { wall, awake: Instant::now() }
    }

    /// Whether the wall clock has jumped since the last call, forth or back.
    pub(super) fn jumped(&mut self, wall: Timestamp) -> bool {
        let expected = self.wall.plus(self.awake.elapsed());
        *self = Pulse::new(wall);
        wall.since(expected).max(expected.since(wall)) >= JUMP_MIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // WA-16
    #[test]
    fn a_jump_forth_or_back_is_noticed_once_and_the_course_of_time_is_none() {
        let at = |seconds| Timestamp::from_seconds(seconds);
        let mut pulse = Pulse::new(at(1000));
        assert!(!pulse.jumped(at(1002)));
        assert!(pulse.jumped(at(1002 + 3 * 3600)));
        assert!(!pulse.jumped(at(1003 + 3 * 3600)));
        assert!(pulse.jumped(at(1003)));
        assert!(!pulse.jumped(at(1003)));
    }
}
