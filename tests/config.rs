//! What sync.toml may say, and what each mistake in it is answered with.

#![allow(clippy::unwrap_used, reason = "what builds a test may fail it")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use foldsync::config::units::{MAX_DELETE, Rate};
use foldsync::config::{Config, Problem, RemoteKind, RemoteSpec, Severity, TokenCommand, check};
use foldsync::plan::{BrakeLimit, ConflictPolicy, Mode};
use foldsync::tree::RelPath;
use tempfile::TempDir;

const HOME: &str = "/home/ann";

fn read(text: &str) -> (Config, Vec<Problem>) {
    Config::from_text(Path::new("sync.toml"), text, Some(Path::new(HOME)))
}

fn good(text: &str) -> Config {
    let (config, problems) = read(text);
    let shown: Vec<String> = problems.iter().map(|p| config.source.show(p)).collect();
    assert!(problems.is_empty(), "{}", shown.join("\n"));
    config
}

/// Everything that is said about a text, one after the other.
fn said(text: &str) -> String {
    let (config, problems) = read(text);
    assert!(!problems.is_empty(), "nothing is wrong with {text:?}");
    problems.iter().map(|p| config.source.show(p)).collect::<Vec<_>>().join("\n")
}

fn assert_said(text: &str, wanted: &[&str]) {
    let said = said(text);
    for words in wanted {
        assert!(said.contains(words), "{words:?} is not in:\n{said}");
    }
}

const CONTRACT: &str = r#"
[daemon]
log = "info"
socket = "/run/user/1000/foldsync/control.sock"

[limits]
upload = "off"
download = "08:00,512K 23:00,off"
requests_per_second = 4
parallel_uploads = 2
parallel_downloads = 2

[remotes.top]
kind = "disktop"
base_url = "https://openapi.disk.top"
client_id = "abc"
client_secret = "hunter2"

[remotes.work]
kind = "gokuai"
base_url = "https://yk3.gokuai.com"
client_id = "abc"
username = "ann"
mount_id = 1234

[remotes.ct]
kind = "ctfile"
base_url = "https://rest.ctfile.com"

[remotes.pics]
kind = "tuchuang"
base_url = "http://127.0.0.1:8081"
user = "milo"
upload_mode = "auto"
storage_base = "http://127.0.0.1:9000"
token_command = "pass show pics"

[remotes.nas]
kind = "dir"
path = "/mnt/nas"

[remotes.ct.limits]
requests_per_second = 0.66

[[pair]]
name = "docs"
local = "~/Documents"
remote = "top:/Documents"
mode = "two-way"
poll_interval = "60s"
settle = "2s"
ignore = ["*.tmp"]
conflict = "keep-both"
max_delete = "25%"
trash_keep = "30d"
symlinks = "skip"
"#;

#[test]
fn every_key_of_the_contract_is_read() {
    let config = good(CONTRACT);
    assert_eq!(config.daemon.socket, Some(PathBuf::from("/run/user/1000/foldsync/control.sock")));
    assert_ne!(config.limits.download.rate_at(12 * 60), Rate::Unlimited);
    assert_eq!(config.limits.upload.rate_at(12 * 60), Rate::Unlimited);
    assert_eq!(config.remotes.len(), 5);
    assert_eq!(config.remotes["ct"].limits.requests_per_second, 0.66);
    assert_eq!(config.remotes["top"].limits.requests_per_second, 4.0);
    assert_eq!(
        config.remotes["pics"].token_command,
        Some(TokenCommand::Shell("pass show pics".into()))
    );
    assert_eq!(config.remotes["nas"].kind, RemoteKind::Dir { path: "/mnt/nas".into() });
    let pair = &config.pairs[0];
    assert_eq!(pair.local, PathBuf::from("/home/ann/Documents"));
    let path = RelPath::new("Documents").unwrap();
    assert_eq!(pair.remote, RemoteSpec::Named { remote: "top".into(), path });
    assert_eq!((pair.mode, pair.conflict), (Mode::TwoWay, ConflictPolicy::KeepBoth));
    assert_eq!(pair.poll_interval, Duration::from_secs(60));
    assert_eq!(pair.trash_keep, Duration::from_secs(30 * 24 * 3600));
    assert_eq!(pair.max_delete, MAX_DELETE);
    assert_eq!(pair.ignore, ["*.tmp"]);
    assert!(!pair.symlinks_follow);
}

#[test]
fn what_is_left_out_has_the_default_of_the_contract() {
    let config = good("[[pair]]\nname = \"a\"\nlocal = \"/a\"\nremote = \"dir:/b\"\n");
    let pair = &config.pairs[0];
    assert_eq!(pair.mode, Mode::TwoWay);
    assert_eq!(pair.settle, Duration::from_secs(2));
    assert_eq!(pair.max_delete, BrakeLimit { share_percent: Some(25), count: Some(1000) });
    assert_eq!(pair.max_change, None);
    assert_eq!(pair.remote, RemoteSpec::Dir("/b".into()));
    assert_eq!(config.daemon.log, "info");
    assert_eq!(config.limits.parallel_uploads, 2);
}

#[test]
fn the_shipped_example_is_valid() {
    let text = include_str!("../sync.toml.example");
    let config = good(text);
    assert_eq!(config.pairs.len(), 1);
}

#[test]
fn the_examples_commented_out_tables_are_valid_too() {
    let text = include_str!("../sync.toml.example");
    let open = |line: &str| match line.strip_prefix("# ") {
        Some(rest) if rest.starts_with('[') || rest.contains(" = ") => rest.to_owned(),
        _ => line.to_owned(),
    };
    let text: Vec<String> = text.lines().map(open).collect();
    let text = text.join("\n").replace("http://…", "http://127.0.0.1:9000");
    let config = good(&text);
    assert_eq!(config.remotes.len(), 5);
}

#[test]
fn what_config_show_prints_is_valid_and_means_the_same() {
    let config = good(CONTRACT);
    let shown = config.to_toml();
    assert!(!shown.contains("hunter2") && !shown.contains("pass show"), "{shown}");
    let again = good(&shown);
    assert_eq!(again.limits, config.limits);
    assert_eq!(again.daemon, config.daemon);
    assert_eq!(again.to_toml(), shown);
    let mut pairs = again.pairs;
    pairs[0].spans = config.pairs[0].spans.clone();
    assert_eq!(pairs, config.pairs);
}

const HOOKS: &str = r#"
[daemon]
alert_after = "off"
[hooks]
on_conflict = ["notify-send", "--urgency=hunter2", "conflict"]
on_error = "https://ann:hunter2@push.example.org/hunter2?token=hunter2"
after_cycle = "http://127.0.0.1:8080"
timeout = "5s"
[[pair]]
name = "docs"
local = "/a"
remote = "dir:/b"
[pair.hooks]
on_error = "off"
on_hold = ["true"]
[[pair]]
name = "pics"
local = "/c"
remote = "dir:/d"
"#;

#[test]
fn a_pair_has_the_hooks_of_the_file_with_its_own_on_top() {
    let config = good(HOOKS);
    let words = |name: &str| {
        let hooks = config.pair(name).unwrap().hooks.hooks();
        assert!(hooks.iter().all(|hook| hook.limit == Duration::from_secs(5)));
        hooks.iter().map(|hook| hook.on.word()).collect::<Vec<_>>()
    };
    assert_eq!(words("docs"), ["on_conflict", "on_hold", "after_cycle"]);
    assert_eq!(words("pics"), ["on_conflict", "on_error", "after_cycle"]);
    assert_eq!(config.daemon.alert_after, None);
    let silence = good("[daemon]\nalert_after = \"90m\"\n").daemon.alert_after;
    assert_eq!(silence, Some(Duration::from_secs(90 * 60)));
    assert_eq!(good("").daemon.alert_after, Some(Duration::from_secs(26 * 3600)));
}

// SE-06
#[test]
fn the_secrets_of_hooks_are_shown_nowhere() {
    let config = good(HOOKS);
    let shown = config.to_toml();
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(!format!("{:?} {:?}", config.hooks, config.pairs).contains("hunter2"));
    assert!(shown.contains("push.example.org") && shown.contains("notify-send"), "{shown}");
    assert_eq!(good(&shown).to_toml(), shown);
    let said = said("[hooks]\non_error = \"htps://push.example.org/hunter2\"\n");
    assert!(!said.contains("hunter2") && said.contains("sync.toml:2:"), "{said}");
}

#[test]
fn a_hook_that_cannot_be_one_is_said() {
    let neither = &["neither a command nor an address", "or \"off\""];
    assert_said("[hooks]\non_error = \"notify-send failed\"\n", neither);
    assert_said("[hooks]\non_error = \"ftp://example.org/\"\n", neither);
    assert_said("[hooks]\non_error = []\n", &["`on_error` names no program"]);
    assert_said("[hooks]\non_error = 3\n", &["`on_error` must be text in quotes"]);
    assert_said("[hooks]\non_eror = \"off\"\n", &["in [hooks]", "did you mean `on_error`?"]);
    assert_said("[hooks]\ntimeout = \"10ms\"\n", &["`timeout` must be at least 1s"]);
    assert_said("[daemon]\nalert_after = \"of\"\n", &["`alert_after`", "not a duration"]);
    let pair = "[[pair]]\nname = \"a\"\nlocal = \"/a\"\nremote = \"dir:/b\"\n";
    assert_said(&format!("{pair}pol_interval = \"5s\"\n"), &["did you mean `poll_interval`?"]);
    let own = format!("{pair}hooks = {{ on_holt = \"off\" }}\n");
    assert_said(&own, &["in [pair.hooks]", "did you mean `on_hold`?"]);
}

#[test]
fn secrets_are_not_in_debug_output() {
    // SE-06
    assert!(!format!("{:?}", good(CONTRACT).remotes).contains("hunter2"));
}

// ---- one mistake, one message --------------------------------------------------------------------

#[test]
fn an_unknown_key_is_shown_at_its_place_with_what_was_probably_meant() {
    let text = "[[pair]]\nname = \"a\"\nlocal = \"/a\"\nremote = \"dir:/b\"\nmoed = \"two-way\"\n";
    assert_eq!(
        said(text),
        "sync.toml:5:1: error: unknown key `moed` in [[pair]]\n 5 | moed = \"two-way\"\n   | ^^^^ did you mean `mode`?"
    );
}

#[test]
fn an_unknown_key_that_resembles_nothing_is_answered_with_what_is_allowed() {
    assert_said(
        "[daemon]\nfrequency = 3\n",
        &[
            "unknown key `frequency` in [daemon]",
            "allowed: `log`, `socket`, `alert_after` or `low_space`",
        ],
    );
}

#[test]
fn an_unknown_table_is_an_unknown_key() {
    assert_said("[limit]\nupload = \"off\"\n", &["unknown key `limit`", "did you mean `limits`?"]);
    assert_said(
        "[remotes.n]\nkind = \"dir\"\npath = \"/n\"\n[remotes.n.limit]\n",
        &["unknown key `limit` in [remotes.n]", "did you mean `limits`?"],
    );
}

#[test]
fn all_mistakes_are_reported_at_once_in_the_order_of_the_file() {
    let text = "[daemon]\nlgo = \"info\"\n[limits]\nupload = \"fast\"\n[[pair]]\nname = \"a\"\nlocal = \"a\"\nremote = \"dir:/b\"\nmode = \"both\"\n";
    let said = said(text);
    let places: Vec<usize> = ["`lgo`", "`fast`", "absolute", "`both`"]
        .iter()
        .map(|words| said.find(words).unwrap_or_else(|| panic!("{words} is not in:\n{said}")))
        .collect();
    assert!(places.is_sorted(), "{said}");
}

#[test]
fn broken_toml_is_shown_with_its_line() {
    assert_said("[daemon]\nlog = \n", &["sync.toml:2:", "error:", "log ="]);
    assert_said("[daemon]\nlog = \"info\"\nlog = \"warn\"\n", &["sync.toml:3:1", "duplicate key"]);
}

#[test]
fn a_wrong_word_is_answered_with_the_words_that_are_allowed() {
    let pair = "[[pair]]\nname = \"a\"\nlocal = \"/a\"\nremote = \"dir:/b\"\n";
    assert_said(
        &format!("{pair}mode = \"mirror\"\n"),
        &[
            "`mirror` is not a value of `mode`",
            "`two-way`, `mirror-up`, `mirror-down`, `backup-up` or `backup-down`",
        ],
    );
    assert_said(
        &format!("{pair}conflict = \"keepboth\"\n"),
        &["did you mean `keep-both`?", "`newer`"],
    );
    assert_said(&format!("{pair}symlinks = \"copy\"\n"), &["`skip` or `follow`"]);
    assert_said("[daemon]\nlog = \"loud\"\n", &["`loud` is not a value of `log`", "`debug`"]);
}

#[test]
fn an_unknown_kind_of_remote_is_answered_with_the_kinds() {
    assert_said(
        "[remotes.x]\nkind = \"dropbox\"\n",
        &[
            "sync.toml:2:8",
            "`dropbox` is not a value of `kind`",
            "`disktop`, `gokuai`, `ctfile`, `tuchuang` or `dir`",
        ],
    );
    assert_said("[remotes.x]\npath = \"/x\"\n", &["[remotes.x] needs `kind`"]);
}

#[test]
fn a_broken_remote_is_not_also_reported_by_the_pairs_that_use_it() {
    let text = "[remotes.x]\nkind = \"dropbox\"\n[[pair]]\nname = \"a\"\nlocal = \"/a\"\nremote = \"x:/\"\n";
    assert_eq!(read(text).1.len(), 1);
}

#[test]
fn each_kind_names_what_it_needs() {
    assert_said("[remotes.x]\nkind = \"dir\"\n", &["[remotes.x] needs `path`"]);
    assert_said("[remotes.x]\nkind = \"gokuai\"\n", &["[remotes.x] needs `mount_id`"]);
    assert_said("[remotes.x]\nkind = \"tuchuang\"\n", &["needs `base_url`", "needs `user`"]);
    assert_said(
        "[[pair]]\nmode = \"two-way\"\n",
        &["[[pair]] needs `name`", "needs `local`", "needs `remote`"],
    );
}

#[test]
fn a_value_of_the_wrong_type_is_answered_with_the_right_one() {
    assert_said("[daemon]\nlog = 3\n", &["`log` must be text in quotes, not an integer"]);
    assert_said("[limits]\nrequests_per_second = \"4\"\n", &["must be a number", "not a string"]);
    assert_said("[limits]\nparallel_uploads = 1.5\n", &["must be a whole number, not a float"]);
    assert_said("pair = 3\n", &["`pair` must be a list of tables, each beginning with [[pair]]"]);
    assert_said("[remotes]\nx = \"dir\"\n", &["`remotes.x` must be a table", "[remotes.x]"]);
    assert_said(
        "[[pair]]\nname = \"a\"\nlocal = \"/a\"\nremote = \"dir:/b\"\nignore = \"*.tmp\"\n",
        &["`ignore` must be a list of texts"],
    );
}

#[test]
fn numbers_outside_of_their_range_are_refused() {
    assert_said("[limits]\nparallel_uploads = 0\n", &["`parallel_uploads` must be from 1 to 32"]);
    assert_said("[limits]\nrequests_per_second = 0\n", &["must be from 0.001 to 10000"]);
    assert_said("[limits]\nrequests_per_second = nan\n", &["must be from 0.001 to 10000"]);
}

#[test]
fn values_in_quotes_are_answered_with_their_grammar() {
    let pair = "[[pair]]\nname = \"a\"\nlocal = \"/a\"\nremote = \"dir:/b\"\n";
    assert_said(
        &format!("{pair}settle = \"2\"\n"),
        &["`settle`: `2` is not a duration", "30s, 5m or 30d"],
    );
    assert_said(
        &format!("{pair}poll_interval = \"0s\"\n"),
        &["`poll_interval` must be at least 1s"],
    );
    assert_said(&format!("{pair}max_delete = \"lots\"\n"), &["`max_delete`", "25%"]);
    assert_said(
        "[limits]\nupload = \"08:00,512Q 23:00,off\"\n",
        &["`upload`", "`512Q` is not a rate"],
    );
    assert_said("[limits]\nupload = \"1M:2M\"\n", &["upload and download have a key each"]);
}

#[test]
fn a_number_of_deletions_may_stand_without_quotes() {
    let pair = "[[pair]]\nname = \"a\"\nlocal = \"/a\"\nremote = \"dir:/b\"\n";
    let config = good(&format!("{pair}max_delete = 500\n"));
    assert_eq!(config.pairs[0].max_delete, BrakeLimit { share_percent: None, count: Some(500) });
}

#[test]
fn a_mass_of_edits_is_held_from_a_share_or_a_number_on_or_not_at_all() {
    let pair = "[[pair]]\nname = \"a\"\nlocal = \"/a\"\nremote = \"dir:/b\"\n";
    let limit = |text: &str| good(&format!("{pair}max_change = {text}\n")).pairs[0].max_change;
    let expected = BrakeLimit { share_percent: Some(30), count: Some(500) };
    assert_eq!(limit("\"30%,500\""), Some(expected));
    assert_eq!(limit("500"), Some(BrakeLimit { share_percent: None, count: Some(500) }));
    assert_eq!(limit("\"off\""), None);
    assert_said(&format!("{pair}max_change = \"some\"\n"), &["`max_change`", "25%"]);
}

#[test]
fn paths_that_depend_on_who_calls_are_refused() {
    let with =
        |local: &str| format!("[[pair]]\nname = \"a\"\nlocal = \"{local}\"\nremote = \"dir:/b\"\n");
    assert_said(&with("docs"), &["`local`: `docs` is not an absolute path"]);
    assert_said(&with("~bob/x"), &["only your own `~` is known"]);
    assert_said(&with("/a/../b"), &["contains `..`"]);
    let (_, problems) = Config::from_text(Path::new("s"), &with("~/x"), None);
    assert!(problems[0].message.contains("HOME is not set"), "{problems:?}");
}

#[test]
fn a_remote_that_is_not_defined_is_answered_with_the_nearest_that_is() {
    let text = "[remotes.nas]\nkind = \"dir\"\npath = \"/n\"\n[[pair]]\nname = \"a\"\nlocal = \"/a\"\nremote = \"nsa:/x\"\n";
    assert_said(text, &["sync.toml:7:10", "there is no remote `nsa`", "did you mean `nas`?"]);
    let text = "[[pair]]\nname = \"a\"\nlocal = \"/a\"\nremote = \"cloud:/x\"\n";
    assert_said(text, &["there is no remote `cloud`", "define it as [remotes.cloud]"]);
}

#[test]
fn a_remote_that_is_only_a_path_is_answered_with_the_two_forms() {
    let text = "[[pair]]\nname = \"a\"\nlocal = \"/a\"\nremote = \"/mnt/x\"\n";
    assert_said(text, &["`/mnt/x` is not a remote", "NAME:/PATH", "dir:PATH"]);
    let text = "[remotes.n]\nkind = \"dir\"\npath = \"/n\"\n[[pair]]\nname = \"a\"\nlocal = \"/a\"\nremote = \"n:/x/../y\"\n";
    assert_said(text, &["is not a path on a remote"]);
}

#[test]
fn names_that_could_not_be_files_or_variables_are_refused() {
    let pair =
        |name: &str| format!("[[pair]]\nname = \"{name}\"\nlocal = \"/a\"\nremote = \"dir:/b\"\n");
    for name in ["../x", "a/b", ".hidden", "-n", "a\\u0007b"] {
        assert_said(&pair(name), &["cannot be the name of a pair"]);
    }
    good(&pair("照片"));
    assert_said(
        "[remotes.\"a b\"]\nkind = \"dir\"\npath = \"/n\"\n",
        &["cannot be the name of a remote"],
    );
    assert_said(
        "[remotes.dir]\nkind = \"dir\"\npath = \"/n\"\n",
        &["`dir` cannot be the name of a remote"],
    );
}

#[test]
fn two_pairs_of_one_name_are_refused_also_if_only_case_differs() {
    let text = "[[pair]]\nname = \"docs\"\nlocal = \"/a\"\nremote = \"dir:/b\"\n[[pair]]\nname = \"Docs\"\nlocal = \"/c\"\nremote = \"dir:/d\"\n";
    assert_said(text, &["sync.toml:6:8", "a second pair is named `Docs`"]);
}

#[test]
fn a_secret_in_the_file_is_refused_and_not_repeated() {
    // SE-06
    let text = "[remotes.x]\nkind = \"tuchuang\"\nbase_url = \"https://x.test\"\nuser = \"milo\"\npassword = \"hunter2\"\n";
    let said = said(text);
    assert!(said.contains("unknown key `password`"), "{said}");
    assert!(said.contains("secrets do not live in this file"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
}

#[test]
fn plain_http_to_another_computer_is_warned_of_unless_it_is_wanted() {
    // SE-12
    let table =
        "[remotes.x]\nkind = \"tuchuang\"\nuser = \"milo\"\nbase_url = \"http://pics.test\"\n";
    let (_, problems) = read(table);
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].severity, Severity::Warning);
    good(&format!("{table}allow_insecure = true\n"));
    good("[remotes.x]\nkind = \"tuchuang\"\nuser = \"milo\"\nbase_url = \"http://localhost:1\"\n");
}

#[test]
fn an_address_that_is_none_is_refused() {
    for url in ["pics.test", "ftp://pics.test", "https://", "file:///etc/passwd"] {
        assert_said(
            &format!("[remotes.x]\nkind = \"ctfile\"\nbase_url = \"{url}\"\n"),
            &["is not an address"],
        );
    }
    assert_said(
        "[remotes.x]\nkind = \"ctfile\"\nbase_url = \"https://u:p@x.test\"\n",
        &["must not contain a login"],
    );
}

#[test]
fn a_name_with_control_characters_cannot_write_to_the_terminal() {
    // SE-24
    let text = "[daemon]\n\"\\u001b[31mlog\" = \"info\"\n";
    let said = said(text);
    assert!(!said.contains('\u{1b}') && said.contains("\\u{1b}"), "{said:?}");
}

#[test]
fn a_file_that_is_not_there_or_not_text_says_so() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("sync.toml");
    let error = Config::load(&path, None).unwrap_err().to_string();
    assert!(
        error.contains("cannot read the configuration") && error.contains("sync.toml"),
        "{error}"
    );
    std::fs::write(&path, b"[daemon]\nlog = \"\xff\"\n").unwrap();
    let error = Config::load(&path, None).unwrap_err().to_string();
    assert!(error.contains("sync.toml:2: the configuration is not UTF-8 text"), "{error}");
}

// ---- across the file and the disk ----------------------------------------------------------------

struct Disk(TempDir);

impl Disk {
    fn new(folders: &[&str]) -> Disk {
        let disk = Disk(TempDir::new().unwrap());
        for folder in folders {
            std::fs::create_dir_all(disk.path(folder)).unwrap();
        }
        disk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A pair for each (local, remote folder).
    fn pairs(&self, pairs: &[(&str, &str)]) -> Config {
        let tables = pairs.iter().enumerate().map(|(i, (local, remote))| {
            let (local, remote) = (self.path(local), self.path(remote));
            format!(
                "[[pair]]\nname = \"p{i}\"\nlocal = {local:?}\nremote = \"dir:{}\"\n",
                remote.display()
            )
        });
        good(&tables.collect::<String>())
    }

    fn overlaps(&self, pairs: &[(&str, &str)]) -> String {
        let config = self.pairs(pairs);
        let problems = check::overlaps(&config, Some(&self.path("state")));
        problems.iter().map(|p| config.source.show(p)).collect::<Vec<_>>().join("\n")
    }
}

#[test]
fn folders_apart_do_not_overlap_also_if_one_name_begins_like_the_other() {
    let disk = Disk::new(&["a", "ab", "r", "rr"]);
    assert_eq!(disk.overlaps(&[("a", "r"), ("ab", "rr")]), "");
}

#[test]
fn a_local_folder_in_another_pairs_is_refused() {
    // CR-23
    let disk = Disk::new(&["a/sub", "r", "s"]);
    let said = disk.overlaps(&[("a", "r"), ("a/sub", "s")]);
    assert!(
        said.contains("the local folder of pair `p1` is inside the local folder of pair `p0`"),
        "{said}"
    );
}

#[test]
fn a_remote_folder_in_its_own_local_folder_is_refused_and_the_reverse() {
    // CR-23
    let disk = Disk::new(&["a/r", "b/l"]);
    let said = disk.overlaps(&[("a", "a/r")]);
    assert!(said.contains("the remote folder of pair `p0` is inside the local folder"), "{said}");
    let said = disk.overlaps(&[("b/l", "b")]);
    assert!(said.contains("the remote folder of pair `p0` contains the local folder"), "{said}");
}

#[test]
fn a_link_does_not_hide_an_overlap() {
    // CR-23
    let disk = Disk::new(&["a/sub", "r", "s"]);
    std::os::unix::fs::symlink(disk.path("a/sub"), disk.path("link")).unwrap();
    let said = disk.overlaps(&[("a", "r"), ("link", "s")]);
    assert!(said.contains("is inside"), "{said}");
}

#[test]
fn a_folder_that_does_not_exist_yet_can_overlap() {
    let disk = Disk::new(&["a"]);
    let said = disk.overlaps(&[("a", "a/new/remote")]);
    assert!(said.contains("is inside"), "{said}");
}

#[test]
fn the_state_folder_in_a_root_is_refused_and_the_reverse() {
    // CR-22
    let disk = Disk::new(&["state/l", "r"]);
    let said = disk.overlaps(&[("state/l", "r")]);
    assert!(
        said.contains("the state folder") && said.contains("contains the local folder"),
        "{said}"
    );
    let config = disk.pairs(&[("state/l", "r")]);
    let problems = check::overlaps(&config, Some(&disk.path("r/inner")));
    assert_eq!(problems.len(), 1);
    assert!(problems[0].message.contains("is inside the remote folder"), "{problems:?}");
}

#[test]
fn two_pairs_of_one_cloud_folder_are_refused() {
    // CR-23
    let text = "[remotes.ct]\nkind = \"ctfile\"\n[[pair]]\nname = \"a\"\nlocal = \"/a\"\nremote = \"ct:/x\"\n[[pair]]\nname = \"b\"\nlocal = \"/b\"\nremote = \"ct:/x/y\"\n[[pair]]\nname = \"c\"\nlocal = \"/c\"\nremote = \"ct:/xy\"\n";
    let problems = check::overlaps(&good(text), None);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(
        problems[0]
            .message
            .contains("the remote folder of pair `b` is inside the remote folder of pair `a`")
    );
}

#[test]
fn folders_that_are_missing_or_are_none_are_named() {
    let disk = Disk::new(&["a"]);
    std::fs::write(disk.path("file"), "x").unwrap();
    let config = disk.pairs(&[("gone", "file")]);
    let problems = check::missing(&config);
    assert!(problems[0].message.contains("does not exist"), "{problems:?}");
    assert!(problems[0].help.as_ref().unwrap().contains("mkdir -p"));
    assert!(problems[1].message.contains("is not a folder"), "{problems:?}");
}
