//! Coarse stamps, wrong clocks, and times far from now.

use std::time::{Duration, SystemTime};

use crate::habits::{Habits, Stamps};
use crate::rig::{Rig, await_tick};

/// A disk whose stamps are so coarse that a whole run fits between two of them.
fn coarse(clock_ahead: i64) -> Habits {
    let step = Duration::from_secs(1);
    Habits { stamps: Stamps { step, no_change_time: true, clock_ahead }, ..Habits::default() }
}

fn stamps(step: Duration) -> Habits {
    Habits { stamps: Stamps { step, ..Stamps::default() }, ..Habits::default() }
}

// FK-27
/// Writes, syncs, and writes another text of the same length on the disk as soon as the first one has
/// arrived, within one tick of it. Tries until all of it is so quick. What was written last arrives
/// in that very run.
fn edited_within_the_tick(rig: &Rig, first: impl Fn(&Rig, &str)) {
    let step = rig.habits().stamps.step;
    for nth in 0..10 {
        let name = format!("n{nth}");
        await_tick(step);
        first(rig, &name);
        let mut is_quick = false;
        rig.sync_meanwhile(|rig| {
            rig.disk().await_path(&name);
            rig.other().await_path(&name);
            let before = rig.disk().mtime(&name);
            rig.disk().write(&name, format!("them-{nth}"));
            is_quick = rig.disk().mtime(&name) == before;
        })
        .exits(0);
        if !is_quick {
            continue;
        }
        assert_eq!(rig.disk().text(&name), format!("them-{nth}"), "the edit stays");
        assert_eq!(rig.other().text(&name), format!("them-{nth}"), "the edit arrives");
        // It would show now that an edit was missed: the next one would replace it.
        rig.other().write(&name, format!("ours-{nth} again"));
        rig.sync().exits(0);
        rig.pair().assert_equal();
        rig.rests(0);
        return;
    }
    panic!("no edit came within a tick of {step:?}");
}

/// The disk got the file from the program.
fn written_by_the_program(rig: &mut Rig) {
    edited_within_the_tick(rig, |rig, name| {
        rig.other().write(name, format!("ours-{}", &name[1..]));
    });
}

/// The disk got the file from a user of its own.
fn written_on_the_disk(rig: &mut Rig) {
    edited_within_the_tick(rig, |rig, name| {
        rig.disk().write(name, format!("ours-{}", &name[1..]));
    });
}

on_either_side!(an_edit_within_the_tick_of_a_transfer_arrives, coarse(0), written_by_the_program);
on_either_side!(a_second_edit_within_a_tick_arrives, coarse(0), written_on_the_disk);
on_either_side!(a_second_edit_arrives_from_a_clock_behind, coarse(-10), written_on_the_disk);
on_either_side!(a_second_edit_arrives_from_a_clock_ahead, coarse(10), written_on_the_disk);

/// The program puts a file there with a time that is the disk's present, and long ago (or yet to
/// come) by our clock. An edit gets that very time.
fn put_into_the_disks_present(rig: &mut Rig) {
    let step = rig.habits().stamps.step;
    for nth in 0..10 {
        let name = format!("n{nth}");
        await_tick(step);
        rig.disk().write("probe", format!("{nth}"));
        let now = rig.disk().mtime("probe");
        rig.other().write(&name, format!("ours-{nth}")).set_mtime(&name, now);
        let mut is_quick = false;
        rig.sync_meanwhile(|rig| {
            rig.disk().await_path(&name);
            rig.disk().write(&name, format!("them-{nth}"));
            is_quick = rig.disk().mtime(&name) == now;
        })
        .exits(0);
        if !is_quick {
            continue;
        }
        assert_eq!(rig.other().text(&name), format!("them-{nth}"), "the edit arrives");
        rig.rests(0);
        return;
    }
    panic!("no edit came within a tick of {step:?}");
}

on_either_side!(
    an_edit_in_the_present_of_a_clock_behind_arrives,
    coarse(-10),
    put_into_the_disks_present
);

// ---- far from now --------------------------------------------------------------------------------

fn seconds_from_1970(time: SystemTime) -> i64 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_secs()).unwrap(),
        Err(error) => -i64::try_from(error.duration().as_secs()).unwrap(),
    }
}

fn in_ten_years() -> i64 {
    seconds_from_1970(SystemTime::now()) + 10 * 365 * 86_400
}

/// As a camera with a wrong clock makes them.
fn files_from_the_future(rig: &mut Rig) {
    for (side, name) in [(rig.other(), "from-other"), (rig.disk(), "from-disk")] {
        side.write(name, format!("{name:>5000}")).touch(name, in_ten_years());
    }
    rig.sync().exits(0);
    rig.pair().assert_equal();
    await_tick(rig.habits().stamps.step);
    // What was just written may be looked at once more.
    rig.sync().exits(0);
    rig.mounted().bytes_read();
    for _ in 0..2 {
        let run = rig.sync().exits(0);
        assert!(run.ops.is_empty(), "{run}");
        assert_eq!(rig.mounted().bytes_read(), 0, "known contents are not read again: {run}");
    }
    rig.disk().write("from-disk", "short");
    rig.sync().exits(0);
    rig.pair().assert_equal();
    rig.rests(0);
}

on_either_side!(
    files_from_the_future_are_read_once,
    stamps(Duration::from_nanos(1)),
    files_from_the_future
);
on_either_side!(
    files_from_the_future_are_read_once_where_stamps_are_coarse,
    Habits::sshfs(),
    files_from_the_future
);
on_either_side!(
    files_from_the_future_are_read_once_where_the_clock_is_behind,
    Habits { stamps: Stamps { clock_ahead: -3600, ..Stamps::default() }, ..Habits::default() },
    files_from_the_future
);

/// The time arrives, or the file is named as one whose time cannot be kept.
fn times_arrive(rig: &Rig, times: &[i64]) {
    for (nth, seconds) in times.iter().enumerate() {
        rig.other().write(&format!("o{nth}"), "o").touch(&format!("o{nth}"), *seconds);
        rig.disk().write(&format!("d{nth}"), "d").touch(&format!("d{nth}"), *seconds);
    }
    let run = rig.sync();
    for (nth, seconds) in times.iter().enumerate() {
        for name in [format!("o{nth}"), format!("d{nth}")] {
            let [local, remote] =
                rig.pair().both().map(|side| seconds_from_1970(side.mtime(&name)));
            let said = run.err.contains(&name)
                || rig.skipped().iter().any(|(path, _)| *path == name)
                || run.ops.iter().any(|op| op.path == name && op.error.is_some());
            assert!(
                (local == *seconds && remote == *seconds) || said,
                "{name} of {seconds}: {local} here, {remote} there: {run}"
            );
        }
    }
    rig.pair().assert_equal();
    rig.rests(run.exit);
}

on_either_side!(a_time_before_1970_survives, stamps(Duration::from_nanos(1)), |rig| {
    times_arrive(rig, &[-86_400, -1, 0, -2_000_000_000]);
});
on_either_side!(a_time_before_1970_survives_where_stamps_are_coarse, Habits::sshfs(), |rig| {
    times_arrive(rig, &[-86_400, -1, 0]);
});
// 2300 and 2400: nanoseconds since 1970 do not fit into 64 bits.
on_either_side!(a_time_after_2262_survives_or_is_said, stamps(Duration::from_nanos(1)), |rig| {
    times_arrive(rig, &[10_413_792_000, 13_569_465_600]);
});

/// What the disk cuts off a time is no edit.
fn cut_times_are_no_edits(rig: &mut Rig) {
    let time = SystemTime::UNIX_EPOCH + Duration::new(1_700_000_001, 987_654_321);
    for name in ["a", "b"] {
        rig.other().write(name, name).set_mtime(name, time);
    }
    rig.sync().exits(0);
    assert_eq!(rig.other().mtime("a"), time, "the user's file keeps its time");
    rig.rests(0);
    rig.remount();
    rig.rests(0);
}

on_either_side!(a_time_that_the_disk_cuts_is_no_edit, coarse(0), cut_times_are_no_edits);
on_either_side!(a_time_that_a_stick_cuts_is_no_edit, Habits::fat(), cut_times_are_no_edits);
