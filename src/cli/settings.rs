//! `config check`, `config show` and `init`.

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};

use super::args::ConfigCommand;
use super::connect::is_available;
use super::context::{Context, shown};
use super::out::say;
use crate::config::{Config, Problem, Severity, check};
use crate::exit::{Exit, Failure};
use crate::text::counted;

const EXAMPLE: &str = include_str!("../../sync.toml.example");

pub(super) fn run(command: &ConfigCommand, context: &Context) -> Result<Exit, Failure> {
    match command {
        ConfigCommand::Check => check_all(context),
        ConfigCommand::Show => {
            context.out.write(context.config()?.to_toml().as_bytes());
            Ok(Exit::InSync)
        }
    }
}

/// Everything that is wrong, in the order of the file.
fn check_all(context: &Context) -> Result<Exit, Failure> {
    let path = context.config_path()?;
    let (config, mut problems) = Config::open(&path, context.places.home.as_deref())?;
    let state_dir = context.state_dir().ok();
    problems.extend(check::overlaps(&config, state_dir.as_deref()));
    problems.extend(check::missing(&config));
    problems.extend(unavailable(&config));
    problems.sort_by_key(|problem| problem.at.as_ref().map(|at| at.start));
    for problem in &problems {
        say(config.source.show(problem));
    }
    let errors = problems.iter().filter(|problem| problem.severity == Severity::Error).count();
    if errors > 0 {
        let count = counted(errors as u64, "problem");
        return Err(Failure::config(format!("{}: {count}", shown(&path))));
    }
    context.out.line(format!(
        "{}: ok, {}, {}",
        shown(&path),
        counted(config.pairs.len() as u64, "pair"),
        counted(config.remotes.len() as u64, "remote")
    ));
    Ok(Exit::InSync)
}

fn unavailable(config: &Config) -> Vec<Problem> {
    let missing = config.remotes.values().filter(|remote| !is_available(&remote.kind));
    missing
        .map(|remote| {
            let message =
                format!("remotes of kind `{}` are not available in this build", remote.kind.word());
            Problem::warning(remote.at.clone(), message)
        })
        .collect()
}

/// Writes the commented example where the configuration belongs. Never replaces a file.
pub(super) fn init(context: &Context) -> Result<Exit, Failure> {
    let path = match &context.global.config {
        Some(path) => path.clone(),
        None => context.places.user_config().ok_or_else(|| {
            Failure::config(
                "no place for the configuration: set HOME or XDG_CONFIG_HOME, or use --config FILE",
            )
        })?,
    };
    let failed = |error: std::io::Error| Failure::fatal(format!("write {}: {error}", shown(&path)));
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    }
    let opened = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    let mut file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(Failure::usage(format!(
                "{} exists already; it was left as it is",
                shown(&path)
            )));
        }
        Err(error) => return Err(failed(error)),
    };
    file.write_all(EXAMPLE.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    context.out.line(format!("wrote {}", shown(&path)));
    context.out.line("edit it, then try: foldsync config check && foldsync plan");
    Ok(Exit::InSync)
}
