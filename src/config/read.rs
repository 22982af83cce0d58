//! From TOML text to a `Config`, noting every problem with its place instead of stopping at the first.
//!
//! A key is known because somebody asked for it: what nobody asked for is an unknown key.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::fields::Fields;
use super::hooks;
use super::problem::nearest;
use super::units::Size;
use super::{
    CONFLICT_POLICIES, Config, Daemon, HookSet, Limits, MODES, PairConfig, PairSpans, Problem,
    REMOTE_KINDS, RemoteConfig, RemoteKind, RemoteSpec, Secret, Source, UPLOAD_MODES, UploadMode,
};

pub(super) fn read(source: Source, home: Option<&Path>) -> (Config, Vec<Problem>) {
    let mut problems = Vec::new();
    let (document, errors) = DeTable::parse_recoverable(&source.text);
    for error in errors {
        let end = source.text.len();
        problems.push(Problem::error(error.span().unwrap_or(end..end), error.message()));
    }
    if !problems.is_empty() {
        // What was recovered from broken text would only make more noise.
        drop(document);
        return (Config { source, ..Config::default() }, problems);
    }
    let mut config = Config::default();
    let mut top = Fields::new(document.get_ref(), String::new(), 0..0, &mut problems);
    let daemon = top.table("daemon");
    let limits = top.table("limits");
    let hooks = top.table("hooks");
    let remotes = top.table("remotes");
    let pairs = top.tables("pair");
    top.finish();
    // Also those that turn out to be broken: one mistake, one message.
    let defined: Vec<&str> = remotes
        .iter()
        .flat_map(|(table, _)| table.keys())
        .map(|key| key.get_ref().as_ref())
        .collect();

    if let Some((table, at)) = daemon {
        config.daemon = read_daemon(Fields::new(table, "[daemon]".into(), at, &mut problems), home);
    }
    if let Some((table, at)) = limits {
        let fields = Fields::new(table, "[limits]".into(), at, &mut problems);
        config.limits = read_limits(fields, Limits::default());
    }
    config.hooks = hooks::of_table(hooks, "[hooks]", &config.hooks, &mut problems);
    if let Some((table, _)) = remotes {
        config.remotes = read_remotes(table, &config.limits, home, &mut problems);
    }
    for (table, at) in pairs {
        let fields = Fields::new(table, "[[pair]]".into(), at, &mut problems);
        config.pairs.extend(read_pair(fields, &defined, &config.hooks, home));
    }
    repeated_names(&config.pairs, &mut problems);
    problems.sort_by_key(|problem| problem.at.as_ref().map(|at| at.start));
    drop(document);
    config.source = source;
    (config, problems)
}

fn repeated_names(pairs: &[PairConfig], problems: &mut Vec<Problem>) {
    for (i, pair) in pairs.iter().enumerate() {
        // The name is a file name in the state folder, where case may not tell two files apart.
        let same = |other: &&PairConfig| other.name.to_lowercase() == pair.name.to_lowercase();
        if !pair.name.is_empty() && pairs[..i].iter().any(|other| same(&other)) {
            let message = format!("a second pair is named `{}`", pair.name);
            problems.push(
                Problem::error(pair.spans.name.clone(), message)
                    .help("each pair needs a name of its own"),
            );
        }
    }
}

fn read_daemon(mut fields: Fields<'_, '_>, home: Option<&Path>) -> Daemon {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let mut daemon = Daemon::default();
    if let Some((level, at)) = fields.text("log") {
        if LEVELS.contains(&level.as_str()) {
            daemon.log = level;
        } else {
            fields.wrong_word("log", &level, at, &LEVELS);
        }
    }
    daemon.socket = fields.path("socket", home).map(|(path, _)| path);
    daemon.alert_after = fields.span_or_off("alert_after", 1).unwrap_or(daemon.alert_after);
    daemon.low_space = fields.parsed("low_space").map_or(daemon.low_space, |Size(bytes)| bytes);
    fields.finish();
    daemon
}

fn read_limits(mut fields: Fields<'_, '_>, defaults: Limits) -> Limits {
    let limits = Limits {
        upload: fields.parsed("upload").unwrap_or(defaults.upload),
        download: fields.parsed("download").unwrap_or(defaults.download),
        requests_per_second: fields
            .rate("requests_per_second")
            .unwrap_or(defaults.requests_per_second),
        parallel_uploads: fields
            .count("parallel_uploads", 1..=32)
            .unwrap_or(defaults.parallel_uploads),
        parallel_downloads: fields
            .count("parallel_downloads", 1..=32)
            .unwrap_or(defaults.parallel_downloads),
    };
    fields.finish();
    limits
}

fn read_remotes(
    table: &DeTable<'_>,
    limits: &Limits,
    home: Option<&Path>,
    problems: &mut Vec<Problem>,
) -> BTreeMap<String, RemoteConfig> {
    let mut remotes = BTreeMap::new();
    for (key, value) in table.iter() {
        let name = key.get_ref().to_string();
        let Some(table) = value.get_ref().as_table() else {
            let message = format!("`remotes.{name}` must be a table");
            problems.push(
                Problem::error(key.span(), message)
                    .help(format!("write [remotes.{name}] on a line of its own")),
            );
            continue;
        };
        // The name becomes part of an environment variable.
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.is_empty() || !name.chars().all(plain) {
            let message = format!("`{name}` cannot be the name of a remote");
            problems
                .push(Problem::error(key.span(), message).help("use letters, digits, `-` and `_`"));
        } else if name == "dir" {
            let message = "`dir` cannot be the name of a remote";
            problems.push(
                Problem::error(key.span(), message)
                    .help("`dir:PATH` already means a folder of this computer"),
            );
        }
        let fields = Fields::new(table, format!("[remotes.{name}]"), key.span(), problems);
        if let Some(remote) = read_remote(fields, &name, limits, home) {
            remotes.insert(name, remote);
        }
    }
    remotes
}

fn read_remote(
    mut fields: Fields<'_, '_>,
    name: &str,
    defaults: &Limits,
    home: Option<&Path>,
) -> Option<RemoteConfig> {
    let at = fields.at.clone();
    // Without a kind nobody can tell which keys are unknown.
    let (kind, kind_at) = fields.required_text("kind")?;
    let token_command = fields.token_command("token_command");
    let allow_insecure = fields.boolean("allow_insecure").unwrap_or(false);
    let own_limits = fields.table("limits");
    let kind = match kind.as_str() {
        "disktop" => Some(RemoteKind::Disktop {
            base_url: fields.url("base_url", Some("https://openapi.disk.top"), allow_insecure),
            client_id: fields.plain("client_id"),
            client_secret: fields.plain("client_secret").map(Secret),
        }),
        "gokuai" => Some(RemoteKind::Gokuai {
            base_url: fields.url("base_url", Some("https://yk3.gokuai.com"), allow_insecure),
            client_id: fields.plain("client_id"),
            username: fields.plain("username"),
            mount_id: fields.required_integer("mount_id").unwrap_or(0),
        }),
        "ctfile" => Some(RemoteKind::Ctfile {
            base_url: fields.url("base_url", Some("https://rest.ctfile.com"), allow_insecure),
        }),
        "tuchuang" => Some(RemoteKind::Tuchuang {
            base_url: fields.url("base_url", None, allow_insecure),
            user: fields.required_text("user").map(|(user, _)| user).unwrap_or_default(),
            upload_mode: fields.word("upload_mode", &UPLOAD_MODES).unwrap_or(UploadMode::Auto),
            storage_base: fields.optional_url("storage_base", true),
        }),
        "dir" => {
            fields.require("path");
            let path = fields.path("path", home).map(|(path, _)| path);
            path.map(|path| RemoteKind::Dir { path })
        }
        other => {
            fields.wrong_word("kind", other, kind_at, &REMOTE_KINDS);
            return None;
        }
    };
    let problems = fields.finish();
    let limits = match own_limits {
        Some((table, at)) => {
            let fields = Fields::new(table, format!("[remotes.{name}.limits]"), at, problems);
            read_limits(fields, defaults.clone())
        }
        None => defaults.clone(),
    };
    Some(RemoteConfig { kind: kind?, limits, token_command, allow_insecure, at })
}

fn read_pair(
    mut fields: Fields<'_, '_>,
    defined: &[&str],
    hooks: &HookSet,
    home: Option<&Path>,
) -> Option<PairConfig> {
    let name = fields.required_text("name");
    fields.require("local");
    let local = fields.path("local", home);
    let remote = fields.required_text("remote");
    if let Some((name, at)) = &name {
        check_pair_name(&mut fields, name, at.clone());
    }
    let (name, name_at) = name.unwrap_or_default();
    let (local, local_at) = local.unwrap_or_default();
    let (remote, remote_at) = remote.unwrap_or_default();
    let spec = read_spec(&mut fields, &remote, remote_at.clone(), defined, home);

    let fallback = RemoteSpec::Dir(PathBuf::new());
    let usable = spec.is_some() && !name.is_empty() && !local.as_os_str().is_empty();
    let mut pair = PairConfig::new(name, local, spec.unwrap_or(fallback));
    pair.spans = PairSpans { name: name_at, local: local_at, remote: remote_at };
    pair.mode = fields.word("mode", &MODES).unwrap_or(pair.mode);
    pair.conflict = fields.word("conflict", &CONFLICT_POLICIES).unwrap_or(pair.conflict);
    pair.poll_interval = fields.span("poll_interval", 1).unwrap_or(pair.poll_interval);
    pair.poll_interval_max = fields.span("poll_interval_max", 1).unwrap_or(pair.poll_interval_max);
    pair.sweep_interval = fields.span("sweep_interval", 1).unwrap_or(pair.sweep_interval);
    pair.settle = fields.span("settle", 0).unwrap_or(pair.settle);
    pair.trash_keep = fields.span("trash_keep", 0).unwrap_or(pair.trash_keep);
    pair.ignore = fields.texts("ignore").unwrap_or_default();
    pair.max_delete = fields.brake_limit("max_delete").unwrap_or(pair.max_delete);
    pair.max_change = fields.brake_limit_or_off("max_change").unwrap_or(pair.max_change);
    pair.symlinks_follow =
        fields.word("symlinks", &[("skip", false), ("follow", true)]).unwrap_or(false);
    let own_hooks = fields.table("hooks");
    let problems = fields.finish();
    pair.hooks = hooks::of_table(own_hooks, "[pair.hooks]", hooks, problems);
    usable.then_some(pair)
}

/// A pair's name is a file name in the state folder and a segment of a URL.
fn check_pair_name(fields: &mut Fields<'_, '_>, name: &str, at: Range<usize>) {
    let bad = |c: char| c.is_control() || "/\\:".contains(c);
    if name.is_empty() || name.len() > 64 || name.starts_with(['.', '-']) || name.chars().any(bad) {
        let help = "use up to 64 bytes without `/`, `\\` and `:`, not beginning with `.` or `-`";
        fields.problem(
            Problem::error(at, format!("`{name}` cannot be the name of a pair")).help(help),
        );
    }
}

fn read_spec(
    fields: &mut Fields<'_, '_>,
    text: &str,
    at: Range<usize>,
    defined: &[&str],
    home: Option<&Path>,
) -> Option<RemoteSpec> {
    if text.is_empty() {
        return None;
    }
    let spec = match RemoteSpec::parse(text, |path| super::locate::expand(path, home)) {
        Ok(spec) => spec,
        Err(message) => {
            fields.problem(Problem::error(at, message));
            return None;
        }
    };
    if let RemoteSpec::Named { remote, .. } = &spec
        && !defined.contains(&remote.as_str())
    {
        let problem = Problem::error(at, format!("there is no remote `{remote}`"));
        let help = match nearest(remote, defined.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("define it as [remotes.{remote}]"),
        };
        fields.problem(problem.help(help));
        return None;
    }
    Some(spec)
}
