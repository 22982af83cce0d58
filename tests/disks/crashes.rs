//! Runs that are killed at a rename or a removal on the disk, before it is plugged in again and shows
//! other numbers. What the killed run left in its stage must not be taken for something else by the
//! number that it has now.

use crate::habits::{Habits, Numbers, Operation};
use crate::rig::Rig;

/// So many renames or removals of a run are met one after another.
const STEPS: usize = 12;

fn killed_at_every(rig: &mut Rig, operation: Operation) {
    for path in ["a", "d/b", "d/c", "e/f"] {
        rig.other().write(path, format!("{path} of the beginning"));
    }
    rig.sync_to_rest().exits(0);
    let mut killed = 0;
    for step in 0..STEPS {
        let here = format!("here {step}");
        rig.other().write("a", format!("a {here}")).replace("d/b", format!("b {here}"));
        rig.other().write(&format!("new {step}"), format!("new {here}"));
        rig.other().rename("e/f", "e/g").rename("d/c", "e/f").rename("e/g", "d/c");
        if step > 1 {
            rig.other().delete(&format!("new {}", step - 2));
        }
        rig.disk().write("theirs", format!("there {step}"));
        rig.mounted().kill_at(operation, step);
        killed += usize::from(rig.sync_until_killed());
        rig.mounted().spare();
        rig.remount();
        // A version that was just being replaced may show up as a copy: nothing proves any more what
        // it was.
        let run = rig.sync_to_rest();
        assert!([0, 3].contains(&run.exit) && run.ops.is_empty(), "{operation:?} {step}: {run}");
        assert_eq!((run.summary().failed, run.summary().skipped), (0, 0), "{run}");
        assert_eq!(rig.disk().text("a"), format!("a {here}"), "{operation:?} {step}");
        assert_eq!(rig.disk().text("d/b"), format!("b {here}"), "{operation:?} {step}");
        assert_eq!(rig.other().text("theirs"), format!("there {step}"));
        rig.pair().assert_equal();
        rig.pair().assert_no_leftovers();
    }
    assert!(killed > 1, "{killed} runs were killed");
}

fn killed_at_a_rename(rig: &mut Rig) {
    killed_at_every(rig, Operation::Rename);
}

on_either_side!(
    a_run_killed_at_a_rename_loses_nothing_after_a_remount,
    Habits { numbers: Numbers::FirstLookUp, ..Habits::default() },
    killed_at_a_rename
);
on_either_side!(
    a_run_over_ssh_killed_at_a_rename_loses_nothing_after_a_remount,
    Habits::sshfs(),
    killed_at_a_rename
);
on_either_side!(
    long a_run_killed_at_a_removal_loses_nothing_after_a_remount,
    Habits::sshfs(),
    |rig| {
        killed_at_every(rig, Operation::Remove);
    }
);
