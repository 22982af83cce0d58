//! One operation on the disk fails with an input/output error. The run says so; the next one goes on,
//! and nothing is lost or taken for deleted.

use crate::habits::{Habits, Operation};
use crate::rig::{Rig, Role};

fn begin(rig: &Rig) {
    for path in ["a", "d/b", "d/c", "e/f", "gone", "tree/x"] {
        rig.other().write(path, format!("{path} 0"));
    }
    rig.sync().exits(0);
}

fn edit(rig: &Rig) {
    rig.other()
        .write("a", "edited here")
        .write("new", "new here")
        .rename("d/b", "e/b")
        .delete("gone")
        .write("made/in", "in a new folder");
    rig.disk().write("d/c", "edited there").write("theirs", "new there").delete("tree");
}

const EDITED: [&str; 10] = [
    "a=edited here",
    "d/",
    "d/c=edited there",
    "e/",
    "e/b=d/b 0",
    "e/f=e/f 0",
    "made/",
    "made/in=in a new folder",
    "new=new here",
    "theirs=new there",
];

/// The nth operation of this kind fails in a run that has everything to do.
fn fails_once(role: Role, operation: Operation, nth: usize) {
    crate::rig::run(role, Habits::default(), |rig| {
        begin(rig);
        edit(rig);
        rig.mounted().fail(operation, nth);
        let run = rig.sync();
        let mut deleted = [run.paths("delete"), run.paths("rmdir")].concat();
        deleted.retain(|path| !path.starts_with("tree") && *path != "gone");
        assert_eq!(deleted, Vec::<&str>::new(), "{operation:?} {nth}: only what users deleted");
        // However the first one ended, the error is over.
        let run = rig.sync_to_rest();
        assert_eq!(run.exit, 0, "{operation:?} {nth}: {run}");
        assert!(run.ops.is_empty(), "it comes to rest: {run}");
        rig.pair().assert_both(&EDITED);
    });
}

macro_rules! errors {
    ($($name:ident: $operation:ident $nth:literal;)*) => {
        $(
            mod $name {
                use super::*;

                #[test]
                fn as_the_remote() {
                    fails_once(Role::Remote, Operation::$operation, $nth);
                }

                #[test]
                fn as_the_local_root() {
                    fails_once(Role::Local, Operation::$operation, $nth);
                }
            }
        )*
    };
}

errors! {
    an_error_when_a_file_is_made: Create 0;
    an_error_when_a_folder_is_made: MakeDir 0;
    an_error_when_a_file_is_opened: Open 3;
    an_error_when_a_file_is_written: Write 0;
    an_error_when_the_next_file_is_written: Write 2;
    an_error_when_a_file_is_flushed: Fsync 0;
    an_error_when_attributes_are_set: SetAttributes 0;
    an_error_when_something_is_renamed: Rename 0;
    an_error_when_the_next_is_renamed: Rename 2;
    an_error_when_something_is_removed: Remove 0;
    an_error_when_a_folder_is_read: ReadDir 2;
}

/// Every listing of a run fails at some point in it, and no file that was not seen is gone.
#[test]
fn a_folder_that_cannot_be_read_is_not_empty() {
    for role in [Role::Remote, Role::Local] {
        for nth in [0, 2, 4] {
            crate::rig::run(role, Habits::default(), |rig| {
                begin(rig);
                rig.mounted().fail(Operation::ReadDir, nth);
                let run = rig.sync();
                assert!(run.ops.is_empty(), "nothing was changed by anybody: {run}");
                rig.sync().exits(0);
                rig.pair().assert_equal();
            });
        }
    }
}
