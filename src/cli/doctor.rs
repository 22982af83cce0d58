//! `doctor`: what on this computer will keep a sync from working well, and what to do about it.
//!
//! Looks at the configuration, the folders and their disks, the limits and the clock. Writes nothing but
//! one probe file in the state folder, and trials in the control folder of each root, which it
//! removes.

mod remote;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::args::DoctorArgs;
use super::connect::is_available;
use super::context::{Context, shown};
use super::out::Out;
use crate::config::{Config, Invalid, RemoteConfig, Severity, check};
use crate::exit::{Exit, Failure};
use crate::local::LocalFs as _;
use crate::local::os::{OsFs, OsOptions};
use crate::text::{Paint, count, counted, printable, size};

/// How a check went.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Fine,
    /// It works, but not as well as it could.
    Notice,
    Bad,
}

/// Prints each finding and remembers the worst.
struct Report<'a> {
    out: &'a Out,
    exit: Exit,
}

impl Report<'_> {
    fn say(&mut self, verdict: Verdict, text: &str, advice: &str) {
        let (word, paint) = match verdict {
            Verdict::Fine => ("ok  ", Paint::Good),
            Verdict::Notice => ("warn", Paint::Notice),
            Verdict::Bad => ("FAIL", Paint::Bad),
        };
        self.out.line(format!("{}  {text}", self.out.paint(paint, word)));
        if !advice.is_empty() && verdict != Verdict::Fine {
            self.out.line(format!("      {advice}"));
        }
        if verdict == Verdict::Bad {
            self.exit = self.exit.or_worse(Exit::Fatal);
        }
    }

    fn fine(&mut self, text: &str) {
        self.say(Verdict::Fine, text, "");
    }
}

pub(super) fn run(args: &DoctorArgs, context: &Context) -> Result<Exit, Failure> {
    let mut report = Report { out: &context.out, exit: Exit::InSync };
    let config = configuration(context, &mut report);
    if let (Some(wanted), Some(config)) = (&args.remote, &config) {
        let wanted = wanted.trim_end_matches(':');
        let Some(remote) = config.remotes.get(wanted) else {
            return Err(Failure::usage(format!("there is no remote `{}`", printable(wanted))));
        };
        look_at_remote(wanted, remote, &mut report);
        if let crate::config::RemoteKind::Disktop { .. } = remote.kind {
            remote::measure(wanted, remote, context, &mut report)?;
        }
        return Ok(report.exit);
    }
    state_folder(context, &mut report);
    let config = config.unwrap_or_default();
    for (name, remote) in &config.remotes {
        look_at_remote(name, remote, &mut report);
    }
    for pair in &config.pairs {
        look_at_folder(
            &format!("local folder of `{}`", printable(&pair.name)),
            &pair.local,
            &mut report,
        );
        if let Some(path) = check::dir_of(&config, &pair.remote) {
            look_at_folder(
                &format!("remote folder of `{}`", printable(&pair.name)),
                &path,
                &mut report,
            );
        }
    }
    let roots: Vec<PathBuf> = config.pairs.iter().map(|pair| pair.local.clone()).collect();
    watches(&roots, &mut report);
    open_files(&mut report);
    Ok(report.exit)
}

fn configuration(context: &Context, report: &mut Report<'_>) -> Option<Config> {
    let path = match context.config_path() {
        Ok(path) => path,
        Err(failure) => {
            report.say(Verdict::Notice, &failure.message, "");
            return None;
        }
    };
    let (config, mut problems) = match Config::open(&path, context.places.home.as_deref()) {
        Ok(opened) => opened,
        Err(Invalid(lines)) => {
            report.say(Verdict::Bad, &lines.join("\n"), "");
            report.exit = report.exit.or_worse(Exit::BadConfig);
            return None;
        }
    };
    problems.extend(check::overlaps(&config, context.state_dir().ok().as_deref()));
    if problems.is_empty() {
        report.fine(&format!("configuration {}", shown(&path)));
        return Some(config);
    }
    for problem in &problems {
        let verdict = match problem.severity {
            Severity::Error => Verdict::Bad,
            Severity::Warning => Verdict::Notice,
        };
        report.say(verdict, &config.source.show(problem), "");
    }
    if problems.iter().any(|problem| problem.severity == Severity::Error) {
        report.exit = report.exit.or_worse(Exit::BadConfig);
    }
    Some(config)
}

fn state_folder(context: &Context, report: &mut Report<'_>) {
    let dir = match context.state_dir() {
        Ok(dir) => dir,
        Err(failure) => return report.say(Verdict::Bad, &failure.message, ""),
    };
    let name = format!("state folder {}", shown(&dir));
    let found = match std::fs::metadata(&dir) {
        Ok(found) => found,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return report.fine(&format!("{name}: not there yet, the first sync makes it"));
        }
        Err(error) => return report.say(Verdict::Bad, &format!("{name}: {error}"), ""),
    };
    let mode = found.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let advice = format!("credentials will be here; run: chmod 700 {}", shown(&dir));
        report.say(Verdict::Bad, &format!("{name} is open to others (mode {mode:o})"), &advice);
    }
    match probe_clock(&dir) {
        Ok(skew_s) if skew_s > 2 => {
            let text =
                format!("{name}: its disk's clock differs from this computer's by {skew_s} s");
            report.say(
                Verdict::Bad,
                &text,
                "changes may be missed; set both clocks, for example by NTP",
            );
        }
        Ok(_) => report.fine(&format!("{name} is writable, and its disk keeps the same time")),
        Err(error) => {
            let advice = "foldsync needs to write here; change the owner or use --state-dir";
            report.say(Verdict::Bad, &format!("{name}: {error}"), advice);
        }
    }
    let year_2026 = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_767_225_600);
    if SystemTime::now() < year_2026 {
        let advice = "services refuse requests with a wrong time, and conflict copies get wrong names; set the clock";
        report.say(Verdict::Bad, "this computer's clock is in the past", advice);
    }
}

/// Seconds between the clock of a folder's disk and ours.
fn probe_clock(dir: &Path) -> std::io::Result<u64> {
    let path = dir.join(format!(".probe-{}", std::process::id()));
    let written =
        std::fs::write(&path, b"probe").and_then(|()| std::fs::metadata(&path)?.modified());
    let now = SystemTime::now();
    std::fs::remove_file(&path)?;
    let written = written?;
    let apart = now.duration_since(written).or_else(|_| written.duration_since(now));
    Ok(apart.map_or(0, |apart| apart.as_secs()))
}

fn look_at_remote(name: &str, remote: &RemoteConfig, report: &mut Report<'_>) {
    let text = format!("remote `{}` ({})", printable(name), remote.kind.word());
    if !is_available(&remote.kind) {
        let advice = "this build has no adapter for it; pairs that use it cannot be synced";
        return report.say(Verdict::Notice, &format!("{text} is not available"), advice);
    }
    if let crate::config::RemoteKind::Dir { path } = &remote.kind {
        look_at_folder(&text, path, report);
    }
}

fn look_at_folder(what: &str, path: &Path, report: &mut Report<'_>) {
    use rustix::fs::{Access, access, statvfs};
    let name = format!("{what}: {}", shown(path));
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => return report.say(Verdict::Bad, &format!("{name} is not a folder"), ""),
        Err(error) => {
            let advice = "mount the disk, or make the folder if it is to be new";
            return report.say(Verdict::Bad, &format!("{name}: {error}"), advice);
        }
    }
    if access(path, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK).is_err() {
        let advice = "foldsync must read and write here; change the owner or the mode";
        return report.say(Verdict::Bad, &format!("{name} is not writable"), advice);
    }
    let free = statvfs(path).map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize)).ok();
    match free {
        Some(free) if free < 1 << 30 => {
            let advice = "downloads stop when the disk is full; make room";
            report.say(Verdict::Notice, &format!("{name} has {} left", size(free)), advice);
        }
        Some(free) => report.fine(&format!("{name}, {} free", size(free))),
        None => report.fine(&name),
    }
    tell_disk(path, report);
}

/// What the disk of a folder is like, with what follows from it.
fn tell_disk(path: &Path, report: &mut Report<'_>) {
    let measured = OsFs::open(path, OsOptions::default()).map_err(|error| error.to_string());
    let measured = measured.and_then(|disk| {
        let runtime = super::runtime().map_err(|failure| failure.message)?;
        runtime.block_on(disk.measure(None, true)).map_err(|error| error.to_string())
    });
    match measured {
        Ok(Some(facts)) => {
            for finding in facts.findings() {
                let verdict = if finding.is_notice { Verdict::Notice } else { Verdict::Fine };
                report.say(verdict, &format!("  {}", finding.text), "");
            }
        }
        Ok(None) => report.fine("  its disk is measured by the first sync"),
        Err(error) => report.say(Verdict::Notice, &format!("  its disk: {error}"), ""),
    }
}

/// Folders are counted up to here; more is more than any default limit.
const FOLDERS_MAX: u64 = 2_000_000;

fn watches(roots: &[PathBuf], report: &mut Report<'_>) {
    let limit = |name: &str| -> Option<u64> {
        std::fs::read_to_string(format!("/proc/sys/fs/inotify/{name}")).ok()?.trim().parse().ok()
    };
    let (Some(watches), Some(instances)) = (limit("max_user_watches"), limit("max_user_instances"))
    else {
        return report.say(Verdict::Notice, "the inotify limits cannot be read", "");
    };
    let folders: u64 = roots.iter().map(|root| count_folders(root)).sum();
    let text = format!(
        "inotify: {} to watch, {} allowed in all",
        counted(folders, "folder"),
        count(watches)
    );
    // Other programs of this user share the limit.
    if folders.saturating_mul(10) / 9 >= watches {
        let wanted = (folders * 2).next_power_of_two();
        let advice = format!(
            "changes would be found by polling only; run: sysctl fs.inotify.max_user_watches={wanted}"
        );
        report.say(Verdict::Notice, &text, &advice);
    } else {
        report.fine(&text);
    }
    if instances < 16 {
        let advice = "run: sysctl fs.inotify.max_user_instances=128";
        report.say(
            Verdict::Notice,
            &format!("inotify: only {instances} instances for each user"),
            advice,
        );
    }
}

fn count_folders(root: &Path) -> u64 {
    let mut pending = vec![root.to_owned()];
    let mut folders = 0;
    while let Some(dir) = pending.pop() {
        folders += 1;
        if folders >= FOLDERS_MAX {
            break;
        }
        let Ok(items) = std::fs::read_dir(&dir) else { continue };
        // `file_type` does not follow links.
        let below = items.flatten().filter(|item| item.file_type().is_ok_and(|kind| kind.is_dir()));
        pending.extend(below.map(|item| item.path()));
    }
    folders
}

fn open_files(report: &mut Report<'_>) {
    use rustix::process::{Resource, getrlimit};
    let Some(limit) = getrlimit(Resource::Nofile).current else { return };
    if limit < 256 {
        let text = format!("only {limit} files may be open at once");
        report.say(Verdict::Notice, &text, "run: ulimit -n 1024");
    }
}
