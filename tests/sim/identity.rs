//! Disks whose inode numbers prove nothing: made up at each mount, given to something else, or copied
//! with the whole disk. Nobody's files may be mixed up, and a mere remount is no change.

use super::cloud::Nature;
use super::disk::DiskTraits;
use super::scenarios::{
    Setting, Story, at_each_step_in, directory, mkdir, remove, rename, story_in, write,
};
use super::users::Users as _;
use super::world::End;

/// A share, a copied disk of a type that is trusted, one without birth times, and a share as remote.
fn settings() -> Vec<Setting> {
    let remote = Nature { unproven: true, ..directory().nature };
    let with = |traits| Setting { traits, ..directory() };
    let plain = directory().traits;
    vec![
        with(DiskTraits { read_max: 2, ..DiskTraits::SHARE }),
        with(DiskTraits { renumbers: true, ..plain.clone() }),
        with(DiskTraits { births: false, reuses_inodes: true, ..plain.clone() }),
        with(DiskTraits { read_max: 2, grain_ns: 1_000_000_000, ..DiskTraits::SHARE }),
        Setting { nature: remote.clone(), traits: plain },
        Setting { nature: remote, traits: DiskTraits { read_max: 2, ..DiskTraits::SHARE } },
    ]
}

fn everywhere(base: &[(&str, &str)], tell: impl AsyncFn(&mut Story)) {
    for setting in settings() {
        story_in(&setting, base, &tell);
    }
}

/// Mutating requests, content bytes on the wire, and changes of the local disk.
fn done(s: &Story) -> (u64, u64, u64) {
    (s.world.cloud.cost().mutations, s.moved(), s.world.disk.writes())
}

const BASE: [(&str, &str); 6] =
    [("a", "1"), ("b", "2"), ("d/a", "one"), ("d/b", "two"), ("d/e/f", "xxx"), ("g/f", "yyy")];

#[test]
fn a_thousand_remounts_change_nothing() {
    for setting in settings() {
        story_in(&setting, &BASE, async |s| {
            let before = done(s);
            for _ in 0..56 {
                s.run().await;
            }
            assert_eq!(done(s), before);
            s.expect(&[
                ("a", "1"),
                ("b", "2"),
                ("d", "/"),
                ("d/a", "one"),
                ("d/b", "two"),
                ("d/e", "/"),
                ("d/e/f", "xxx"),
                ("g", "/"),
                ("g/f", "yyy"),
            ]);
        });
    }
}

#[test]
fn an_edit_between_two_remounts_costs_its_own_bytes() {
    everywhere(&BASE, async |s| {
        let before = s.moved();
        s.local(write("d/a", "1111"));
        s.remote(write("g/f", "2222"));
        s.settle().await;
        assert_eq!(s.moved() - before, 8);
        assert_eq!(s.world.disk.tree(), s.world.cloud.tree());
    });
}

#[test]
fn a_renamed_file_is_moved_and_not_sent() {
    everywhere(&BASE, async |s| {
        let before = s.world.cloud.cost().bytes_up;
        s.local_all([rename("d/a", "g/a"), rename("b", "c")]);
        s.settle().await;
        assert_eq!(s.world.cloud.cost().bytes_up, before);
        assert_eq!(s.world.disk.tree(), s.world.cloud.tree());
    });
}

#[test]
fn a_renamed_folder_is_moved_with_all_that_is_in_it() {
    everywhere(&BASE, async |s| {
        let before = s.world.cloud.cost();
        s.local(rename("d", "g/h"));
        s.settle().await;
        let after = s.world.cloud.cost();
        assert_eq!((after.bytes_up, after.mutations), (before.bytes_up, before.mutations + 1));
        assert_eq!(s.world.disk.tree(), s.world.cloud.tree());
    });
}

#[test]
fn a_folder_that_the_other_side_renamed_is_moved_here() {
    everywhere(&BASE, async |s| {
        let before = s.world.disk.writes();
        s.remote(rename("d", "g/h"));
        s.settle().await;
        assert_eq!(s.world.disk.writes(), before + 1);
        assert_eq!(s.world.disk.tree(), s.world.cloud.tree());
    });
}

#[test]
fn two_files_that_swap_their_names_swap_their_contents() {
    everywhere(&BASE, async |s| {
        s.local_all([rename("d/a", "t"), rename("d/b", "d/a"), rename("t", "d/b")]);
        s.settle().await;
        assert_eq!(s.world.disk.tree(), s.world.cloud.tree());
        let tree = s.world.cloud.tree();
        let text = |path: &str| tree[path].clone().map(|bytes| bytes.to_vec());
        assert_eq!((text("d/a"), text("d/b")), (Some(b"two".to_vec()), Some(b"one".to_vec())));
    });
}

#[test]
fn a_new_folder_is_new_also_with_the_number_of_a_removed_one() {
    // MV-24, and a file that the other side has not seen yet
    everywhere(&BASE, async |s| {
        s.local_all([remove("d/a"), remove("d/b"), remove("d/e/f"), remove("d/e"), remove("d")]);
        s.local_all([mkdir("new"), mkdir("newer")]);
        s.remote(write("d/mine", "latest words"));
        s.settle().await;
        assert_eq!(s.world.disk.tree(), s.world.cloud.tree());
        assert!(s.world.disk.tree().contains_key("d/mine"));
        assert!(s.world.disk.tree().contains_key("newer"));
    });
}

#[test]
fn a_kill_at_any_step_between_remounts_mixes_nothing_up() {
    for setting in settings() {
        at_each_step_in(&setting, 30, &BASE, async |s, step| {
            s.local_all([rename("d", "h"), write("a", "edited"), rename("g/f", "d2")]);
            s.remote(write("b", "theirs"));
            s.killed_after(step * 2).await;
            s.local(write("h/b", "again"));
            s.settle().await;
            assert_eq!(s.world.disk.tree(), s.world.cloud.tree());
        });
    }
}

#[test]
fn a_service_that_forgets_what_it_made_makes_no_run_endless() {
    for unproven in [true, false] {
        let nature = Nature { unproven, loses_folders: true, ..directory().nature };
        story_in(&Setting { nature, ..directory() }, &[("z", "0")], async |s| {
            for folder in ["a", "b"] {
                (0..12).for_each(|file| s.local(write(&format!("{folder}/f{file}"), "1")));
            }
            let End::Done(result) = s.world.start(None).await else { panic!("it does not end") };
            let summary = result.unwrap();
            assert!(summary.failed >= 2, "both folders: {summary:?}");
            let made = s.world.cloud.cost().mutations;
            assert!(made <= 26 * 9, "each of 26 things nine times at most, not {made} requests");
        });
    }
}
