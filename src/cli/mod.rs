//! The command line: from arguments to an exit code.
//!
//! Commands print results to standard output and everything else to standard error. They hold no
//! sync logic of their own: the engine runs the pairs.

pub mod args;
mod auth;
mod conflicts;
mod connect;
mod context;
mod daemon;
mod doctor;
mod held;
mod history;
mod interrupt;
mod last_run;
mod lines;
mod logs;
pub mod out;
mod path_state;
mod progress;
mod remotes;
mod runner;
mod screen;
mod settings;
mod shell;
mod status;
mod steer;
mod sync;
mod trash;
mod verify;

use std::ffi::OsString;

use clap::Parser as _;
use clap::error::ErrorKind;

use crate::config::locate::Places;
use crate::exit::{Exit, Failure};
use args::{Cli, Command};
use context::Context;
use out::{Out, say};

/// Runs one command line, program name first.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    if !cli.command.is_daemon() {
        logs::start(&cli.global, None);
    }
    let out = Out::new(cli.global.color);
    let context = Context { global: cli.global, places: Places::from_environment(), out };
    let ended = dispatch(&cli.command, &context);
    let mut exit = match ended {
        Ok(exit) => exit,
        Err(failure) => {
            context.out.flush();
            say(format!("foldsync: {}", failure.message));
            failure.exit
        }
    };
    if let Err(error) = context.out.finish() {
        say(format!("foldsync: write to standard output: {error}"));
        exit = exit.or_worse(Exit::Fatal);
    }
    exit
}

fn dispatch(command: &Command, context: &Context) -> Result<Exit, Failure> {
    match command {
        Command::Sync(args) => sync::sync(args, context),
        Command::Daemon(args) => daemon::run(&args.pairs, &args.ad_hoc, args.progress, context),
        Command::Pause { pairs, span } => steer::pause(pairs, *span, context),
        Command::Resume(pairs) => steer::resume(pairs, context),
        Command::Flush(pairs) => steer::flush(pairs, context),
        Command::Rescan { pairs, deep } => steer::rescan(pairs, *deep, context),
        Command::Stop => steer::stop(context),
        Command::Reload => steer::reload(context),
        Command::Plan(args) => sync::plan(args, context),
        Command::Status(args) => status::run(args, context),
        Command::Conflicts(command) => conflicts::run(command, context),
        Command::Trash(command) => trash::run(command, context),
        Command::Held(command) => held::run(command, context),
        Command::History(args) => history::run(args, context),
        Command::Explain(args) => path_state::explain(args, context),
        Command::Verify(args) => verify::run(args, context),
        Command::Ls(args) => remotes::ls(args, context),
        Command::About(args) => remotes::about(args, context),
        Command::Share(args) => remotes::share(args, context),
        Command::Auth(command) => auth::run(command, context),
        Command::Config(command) => settings::run(command, context),
        Command::Doctor(args) => doctor::run(args, context),
        Command::Init => settings::init(context),
        Command::Completions { shell } => shell::completions(*shell, &context.out),
        Command::Man => shell::man(&context.out),
    }
}

/// For commands that touch the sides of a pair.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let built = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    built.map_err(|error| Failure::fatal(format!("start the runtime: {error}")))
}

/// Prints help, version or what is wrong with the command line.
fn usage(error: &clap::Error) -> Exit {
    // A closed pipe is no reason to complain.
    let _ = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::InSync,
        _ => Exit::Usage,
    }
}
