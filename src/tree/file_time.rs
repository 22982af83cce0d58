//! Times of files as one number each, also those that nanoseconds in 64 bits cannot hold.
//!
//! Up to 146 years around 1970 the number is nanoseconds since the epoch. Beyond, where file systems
//! still go (to 2446 and further), it is whole seconds past that mark: such times keep their order, and
//! their seconds make the round trip.

/// About 146 years, in nanoseconds.
const FINE_MAX: i64 = 1 << 62;
const NS: i64 = 1_000_000_000;

/// From seconds and nanoseconds since the epoch.
pub fn pack(seconds: i64, nanoseconds: i64) -> i64 {
    let fine = seconds.checked_mul(NS).and_then(|ns| ns.checked_add(nanoseconds));
    match fine.filter(|ns| (-FINE_MAX..FINE_MAX).contains(ns)) {
        Some(ns) => ns,
        None if seconds >= 0 => FINE_MAX.saturating_add(seconds),
        None => (-FINE_MAX).saturating_add(seconds),
    }
}

/// To seconds and nanoseconds since the epoch.
pub fn unpack(time: i64) -> (i64, i64) {
    match time {
        coarse if coarse >= FINE_MAX => (coarse - FINE_MAX, 0),
        coarse if coarse < -FINE_MAX => (coarse + FINE_MAX, 0),
        ns => (ns.div_euclid(NS), ns.rem_euclid(NS)),
    }
}

/// In nanoseconds since the epoch; the last that there are for what lies beyond.
pub fn nanoseconds(time: i64) -> i64 {
    let (seconds, fraction) = unpack(time);
    seconds.saturating_mul(NS).saturating_add(fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_make_the_round_trip_and_keep_their_order() {
        let year = 31_556_952;
        let times = [
            (i64::MIN / 4, 0),
            (-2_000 * year, 0),
            (-150 * year, 0),
            (-100 * year, 5),
            (-1, 999_999_999),
            (0, 0),
            (1, 1),
            (140 * year, 7),
            (330 * year, 0),
            (10_000 * year, 0),
        ];
        let packed = times.map(|(s, ns)| pack(s, ns));
        assert_eq!(packed.map(unpack), times);
        assert!(packed.is_sorted());
        assert_eq!(nanoseconds(pack(330 * year, 0)), i64::MAX);
        assert_eq!(nanoseconds(pack(-1, 0)), -NS);
    }

    #[test]
    fn the_fraction_of_a_time_far_away_is_given_up() {
        assert_eq!(unpack(pack(20_000_000_000, 999)), (20_000_000_000, 0));
    }
}
