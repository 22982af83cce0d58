//! FK: links, special files, permissions, times, and files that change under the program.

use std::fs::OpenOptions;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};

use super::pair::tree::fingerprint;
use super::pair::{BIG, Pair, until_met};

// FK-01
#[test]
fn a_link_is_neither_followed_nor_replaced() {
    let pair = Pair::synced(&["a"]);
    pair.local().symlink("a", "s");
    let run = pair.sync().exits(0);
    assert!(run.ops.is_empty(), "{run}");
    pair.remote().write("s", "remote");
    pair.sync().exits(3);
    assert_eq!(pair.local().tree().lines(), ["a=a 0", "s@a"]);
    assert_eq!(pair.remote().text("s"), "remote");
    pair.assert_quiet(3);
}

// FK-02
#[test]
fn a_link_to_a_folder_outside_is_no_way_out() {
    let pair = Pair::synced(&["a"]);
    let outside = outside(&pair);
    pair.local().symlink(&outside, "ext");
    pair.sync().exits(0);
    pair.remote().write("ext/f", "remote f").write("ext/g", "remote g");
    pair.sync().exits(3);
    assert_eq!(std::fs::read_to_string(outside.join("f")).unwrap(), "outside");
    assert!(!outside.join("g").exists());
    assert_eq!(pair.remote().text("ext/g"), "remote g");
    pair.assert_quiet(3);
}

// FK-02
#[test]
fn followed_links_upload_their_target_and_are_never_written_through() {
    let pair = Pair::configured("symlinks = \"follow\"");
    let outside = outside(&pair);
    pair.local().write("a", "1").symlink(outside.join("f"), "linked");
    pair.local().note(b"outside");
    pair.sync();
    assert_eq!(pair.remote().text("linked"), "outside");
    pair.remote().write("linked", "from the remote");
    pair.sync();
    assert_eq!(std::fs::read_to_string(outside.join("f")).unwrap(), "outside");
}

fn outside(pair: &Pair) -> std::path::PathBuf {
    let outside = pair.path("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("f"), "outside").unwrap();
    outside
}

// FK-01 FK-04
#[test]
fn special_files_are_left_alone_and_reported() {
    let pair = Pair::new();
    pair.local().write("a", "1").fifo("pipe");
    pair.remote().fifo("other");
    let run = pair.sync().exits(3);
    assert_eq!(run.summary().skipped, 2, "{run}");
    assert_eq!(pair.local().tree().lines(), ["a=1", "pipe!"]);
    assert_eq!(pair.remote().tree().lines(), ["a=1", "other!"]);
    pair.assert_quiet(3);
}

// FK-05
#[test]
fn hard_links_are_two_files_with_one_content() {
    let pair = Pair::new();
    pair.local().write("a", "1").hard_link("a", "b");
    pair.sync().exits(0);
    pair.assert_both(&["a=1", "b=1"]);
    pair.local().write("a", "22");
    pair.local().note(b"22");
    pair.sync().exits(0);
    pair.assert_both(&["a=22", "b=22"]);
    pair.remote().write("b", "333");
    pair.sync().exits(0);
    pair.settled(&["a=22", "b=333"]);
}

// FK-06
#[test]
fn a_sparse_file_arrives_whole() {
    let pair = Pair::new();
    pair.local().write("sparse", "");
    let mut file = OpenOptions::new().write(true).open(pair.local().path("sparse")).unwrap();
    file.seek(SeekFrom::Start(32 << 20)).unwrap();
    file.write_all(b"end").unwrap();
    drop(file);
    pair.local().note(&pair.local().read("sparse"));
    pair.sync().exits(0);
    assert_eq!(pair.remote().read("sparse").len(), (32 << 20) + 3);
    pair.assert_equal();
    pair.assert_quiet(0);
}

// FK-07
#[test]
fn empty_files_go_both_ways_and_can_grow_and_shrink() {
    let pair = Pair::new();
    pair.local().write("z", "");
    pair.remote().write("y", "");
    pair.sync().exits(0);
    pair.assert_both(&["y=", "z="]);
    pair.local().write("z", "12345");
    pair.remote().write("y", "12");
    pair.sync().exits(0);
    pair.local().write("z", "");
    pair.remote().write("y", "");
    pair.sync().exits(0);
    pair.settled(&["y=", "z="]);
}

// FK-09
#[test]
fn an_unreadable_file_is_reported_kept_and_heals() {
    let pair = Pair::new().unprivileged();
    pair.local().write("a", "0").write("b", "b");
    pair.sync().exits(0);
    pair.local().write("a", "1").chmod("a", 0o000);
    for _ in 0..2 {
        let run = pair.sync();
        assert!([1, 3].contains(&run.exit), "{run}");
        assert_eq!(pair.remote().text("a"), "0");
    }
    pair.local().chmod("a", 0o644);
    pair.sync().exits(0);
    pair.settled(&["a=1", "b=b"]);
}

// FK-10 S16
#[test]
fn an_unreadable_folder_is_not_an_empty_one() {
    for turn in 0..2 {
        let pair = Pair::new().unprivileged();
        for number in 0..30 {
            pair.local().write(&format!("d/f{number}"), format!("{number}"));
        }
        pair.local().write("e/x", "x");
        pair.sync().exits(0);
        let sides = pair.both();
        let (closed, open) = (&sides[turn], &sides[1 - turn]);
        closed.chmod("d", 0o000);
        open.write("d/f1", "edited").write("e/x", "edited too");
        let run = pair.sync().exits(1);
        assert!(run.paths("delete").is_empty() && run.paths("rmdir").is_empty(), "{run}");
        assert_eq!(closed.text("e/x"), "edited too", "the rest goes on");
        assert_eq!(open.tree().files().len(), 31);
        closed.chmod("d", 0o755);
        pair.sync().exits(0);
        assert_eq!(closed.text("d/f1"), "edited");
        pair.assert_equal();
        pair.assert_quiet(0);
    }
}

// FK-11
#[test]
fn nothing_changes_in_a_read_only_folder_until_it_is_writable() {
    let pair = Pair::new().unprivileged();
    pair.local().write("d/x", "x").write("d/y", "y").write("e/z", "z");
    pair.sync().exits(0);
    pair.local().chmod("d", 0o555);
    pair.remote().write("d/n", "n").write("d/x", "x2").delete("d/y").write("e/z", "z2");
    let run = pair.sync().exits(1);
    assert_eq!(run.summary().failed, 3, "{run}");
    let local = ["d/", "d/x=x", "d/y=y", "e/", "e/z=z2"];
    assert_eq!(pair.local().tree().lines(), local);
    assert_eq!(pair.local().mode("d"), 0o555);
    pair.local().chmod("d", 0o755);
    pair.sync().exits(0);
    pair.settled(&["d/", "d/n=n", "d/x=x2", "e/", "e/z=z2"]);
}

// FK-12 FK-23
#[test]
fn a_replaced_file_keeps_its_mode() {
    let pair = Pair::synced(&["ro", "run.sh"]);
    pair.local().chmod("ro", 0o444).chmod("run.sh", 0o750);
    pair.remote().write("ro", "2").write("run.sh", "3");
    pair.sync().exits(0);
    assert_eq!(pair.local().mode("ro"), 0o444);
    assert_eq!(pair.local().mode("run.sh"), 0o750);
    pair.settled(&["ro=2", "run.sh=3"]);
}

// FK-12
#[test]
fn a_read_only_file_can_be_deleted_by_the_other_side() {
    let pair = Pair::new().unprivileged();
    pair.local().write("ro", "1").chmod("ro", 0o444).write("b", "2");
    pair.sync().exits(0);
    pair.remote().delete("ro");
    pair.sync().exits(0);
    assert_eq!(pair.local().trash(), [("ro".to_owned(), "1".to_owned())]);
    pair.settled(&["b=2"]);
}

// FK-23
#[test]
fn setuid_bits_are_not_put_on_what_comes_from_elsewhere() {
    let pair = Pair::new();
    pair.remote().write("tool", "1").chmod("tool", 0o4755);
    pair.sync().exits(0);
    assert_eq!(pair.local().mode("tool") & 0o7111, 0, "no special bits, not executable");
    pair.local().chmod("tool", 0o4755);
    pair.remote().write("tool", "22");
    pair.sync().exits(0);
    assert_eq!(pair.local().mode("tool") & 0o7000, 0);
    pair.settled(&["tool=22"]);
}

// FK-13
#[test]
fn a_file_that_changes_while_it_is_uploaded_is_uploaded_as_it_is_in_the_end() {
    until_met(|| {
        let pair = Pair::new();
        pair.local().write("a", vec![b'a'; BIG]);
        let under_way = || !pair.remote().has("a");
        let act = || {
            let mut file = OpenOptions::new().write(true).open(pair.local().path("a")).unwrap();
            file.seek(SeekFrom::Start(BIG as u64 / 2)).unwrap();
            file.write_all(b"changed in the middle").unwrap();
            drop(file);
            pair.local().note(&pair.local().read("a"));
            pair.local().give_up(&[b'a'; BIG]);
        };
        pair.sync_while(&pair.remote(), under_way, act)?;
        pair.sync().exits(0);
        assert!(pair.remote().read("a").windows(7).any(|window| window == b"changed"));
        pair.assert_equal();
        pair.assert_quiet(0);
        Some(())
    });
}

// FK-13
#[test]
fn a_file_that_grows_while_it_is_uploaded_is_uploaded_whole() {
    until_met(|| {
        let pair = Pair::new();
        pair.local().write("a", vec![b'a'; BIG]);
        let under_way = || !pair.remote().has("a");
        let act = || {
            let mut file = OpenOptions::new().append(true).open(pair.local().path("a")).unwrap();
            file.write_all(b"more").unwrap();
            drop(file);
            pair.local().note(&pair.local().read("a"));
            pair.local().give_up(&[b'a'; BIG]);
        };
        pair.sync_while(&pair.remote(), under_way, act)?;
        pair.sync().exits(0);
        assert_eq!(pair.remote().read("a").len(), BIG + 4);
        pair.assert_equal();
        pair.assert_quiet(0);
        Some(())
    });
}

// FK-15
#[test]
fn what_editors_do_to_save_is_an_edit() {
    let pair = Pair::new();
    let names = ["in-place", "vim", "vim-copy", "gedit", "office", "sed", "safe"];
    for name in names {
        pair.local().write(name, format!("{name} 0"));
    }
    pair.sync().exits(0);
    let side = pair.local();
    side.write("in-place", "").write("in-place", "in-place 1");
    side.rename("vim", "vim~").write("vim", "vim 1").delete("vim~");
    side.write("vim-copy~", "vim-copy 0").write("vim-copy", "vim-copy 1").delete("vim-copy~");
    side.write(".goutputstream-X", "gedit 1").rename(".goutputstream-X", "gedit");
    side.write("~$office", "lock").write("A1.tmp", "office 1").rename("office", "B2.tmp");
    side.rename("A1.tmp", "office").delete("B2.tmp").delete("~$office");
    side.replace("sed", "sed 1");
    side.mkdir("safe.sb").write("safe.sb/safe", "safe 1").rename("safe.sb/safe", "safe");
    side.delete("safe.sb");
    let run = pair.sync().exits(0);
    assert_eq!(run.summary().uploaded, names.len() as u64, "one upload for each: {run}");
    assert!(run.paths("delete").is_empty() && run.paths("conflict").is_empty(), "{run}");
    let lines: Vec<String> = names.iter().map(|name| format!("{name}={name} 1")).collect();
    pair.settled(&lines.iter().map(String::as_str).collect::<Vec<_>>());
}

// FK-15
#[test]
fn a_run_in_the_middle_of_a_save_does_no_harm() {
    let pair = Pair::synced(&["doc", "b"]);
    pair.local().rename("doc", "doc~");
    pair.sync().exits(0);
    pair.local().write("doc", "doc 1");
    pair.sync().exits(0);
    pair.local().delete("doc~");
    pair.sync().exits(0);
    pair.settled(&["b=b 0", "doc=doc 1"]);
}

// FK-17
#[test]
fn older_times_with_other_content_are_an_edit() {
    let pair = Pair::synced(&["a", "b"]);
    pair.local().write("a", "restored").touch("a", 978_307_200);
    pair.remote().replace("b", "restored b").touch("b", 978_307_200);
    pair.sync().exits(0);
    pair.settled(&["a=restored", "b=restored b"]);
}

// FK-18
#[test]
fn the_same_size_and_the_same_time_do_not_hide_an_edit() {
    for turn in 0..2 {
        let pair = Pair::new();
        pair.local().write("a", "AAAA").touch("a", 1_600_000_000);
        pair.sync().exits(0);
        let side = &pair.both()[turn];
        side.write("a", "BBBB").touch("a", 1_600_000_000);
        pair.sync().exits(0);
        pair.settled(&["a=BBBB"]);
    }
}

// FK-18: within the tick of the scan.
#[test]
fn edits_of_one_size_right_after_a_run_are_found() {
    let pair = Pair::new();
    pair.local().write("a", "00").write("b", "00");
    pair.sync().exits(0);
    for turn in 10..30 {
        pair.local().write("a", format!("{turn}"));
        pair.remote().write("b", format!("{turn}"));
        pair.sync();
    }
    pair.settled(&["a=29", "b=29"]);
}

// FK-19
#[test]
fn absurd_times_do_not_matter() {
    let pair = Pair::new();
    for (name, seconds) in
        [("zero", 0), ("before", -1), ("far", 4_294_967_296), ("old", -2_000_000_000)]
    {
        pair.local().write(name, name).touch(name, seconds);
        pair.remote()
            .write(&format!("r-{name}"), format!("r-{name}"))
            .touch(&format!("r-{name}"), seconds);
    }
    pair.sync().exits(0);
    pair.assert_equal();
    pair.assert_quiet(0);
}

// FK-22
#[test]
fn a_database_in_use_is_whole_on_the_other_side_once_it_is_quiet() {
    let pair = Pair::synced(&["a"]);
    let path = pair.local().path("x.db");
    let app = rusqlite::Connection::open(&path).unwrap();
    app.pragma_update(None, "journal_mode", "wal").unwrap();
    app.execute_batch("CREATE TABLE t (x)").unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let app = app;
            while !over.load(Ordering::Relaxed) {
                app.execute("INSERT INTO t VALUES (hex(randomblob(2000)))", []).unwrap();
            }
        });
        for _ in 0..5 {
            let run = pair.run_unchecked(&["sync", "--once", "--json"]);
            assert!([0, 1].contains(&run.exit), "{run}");
        }
        over.store(true, Ordering::Relaxed);
        writer.join().unwrap();
    });
    pair.local().note(&pair.local().read("x.db"));
    pair.sync().exits(0);
    pair.assert_both(&["a=a 0", &format!("x.db={}", fingerprint(&pair.local().read("x.db")))]);
    pair.assert_quiet(0);
}

// FK-24
#[test]
fn a_read_only_disk_is_one_clear_trouble_and_nothing_is_lost() {
    for name in ["local", "remote"] {
        let Some(mut pair) = Pair::on_small_disk(name, 4096) else { return };
        let place = pair.path(name);
        pair.local().write("a", "0").write("b", "0b").write("d/c", "0c");
        pair.sync().exits(0);
        let other = if name == "local" { pair.remote() } else { pair.local() };
        other.write("a", "1").delete("b").write("n", "2");
        pair.mounts().run(&format!("mount -o bind,remount,ro {}", place.display()));
        let run = pair.sync();
        assert!([1, 5, 7].contains(&run.exit), "{run}");
        pair.mounts().run(&format!("mount -o bind,remount,rw {}", place.display()));
        pair.sync().exits(0);
        pair.settled(&["a=1", "d/", "d/c=0c", "n=2"]);
    }
}

// FK-25
#[test]
fn what_is_written_through_an_old_descriptor_is_in_the_trash() {
    let pair = Pair::synced(&["a"]);
    let mut held = OpenOptions::new().append(true).open(pair.local().path("a")).unwrap();
    pair.remote().write("a", "2");
    pair.sync().exits(0);
    held.write_all(b" and more").unwrap();
    drop(held);
    pair.local().note(b"a 0 and more");
    pair.local().give_up(b"a 0");
    assert_eq!(pair.local().trash(), [("a".to_owned(), "a 0 and more".to_owned())]);
    pair.settled(&["a=2"]);
}

// FK-26
#[test]
fn a_mount_over_a_synced_folder_is_not_a_deletion() {
    let Some(mut pair) = Pair::on_small_disk("local", 4096) else { return };
    let usb = pair.path("local").join("usb");
    pair.local().write("a", "1");
    for number in 0..20 {
        pair.local().write(&format!("usb/f{number}"), format!("{number}"));
    }
    pair.sync().exits(0);
    let before = pair.remote().tree();
    pair.mounts().run(&format!("mount -t tmpfs tmpfs {}", usb.display()));
    for _ in 0..2 {
        let run = pair.run_unchecked(&["sync", "--once", "--json"]).exits(3);
        assert!(run.ops.is_empty(), "{run}");
    }
    assert_eq!(pair.remote().tree(), before);
    pair.mounts().run(&format!("umount {}", usb.display()));
    pair.assert_equal();
    pair.assert_quiet(0);
}

// FK-26
#[test]
fn a_nested_mount_is_not_synced_and_its_going_away_deletes_nothing() {
    let Some(mut pair) = Pair::on_small_disk("local", 4096) else { return };
    let usb = pair.path("local").join("usb");
    pair.local().write("a", "1").mkdir("usb");
    pair.mounts().run(&format!("mount -t tmpfs tmpfs {}", usb.display()));
    std::fs::write(pair.local().path("usb/f"), "on the stick").unwrap();
    let run = pair.run_unchecked(&["sync", "--once", "--json"]).exits(3);
    assert_eq!(run.summary().skipped, 1, "{run}");
    assert_eq!(pair.remote().tree().lines(), ["a=1"]);
    pair.mounts().run(&format!("umount {}", usb.display()));
    pair.sync().exits(0);
    pair.settled(&["a=1", "usb/"]);
}
