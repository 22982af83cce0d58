//! `status`: how the pairs are doing, from the daemon, or without one as far as the state databases
//! tell; people are told then that it is what the last run recorded.

mod live;
mod recorded;

use super::args::StatusArgs;
use super::context::{Context, locate};
use super::out::{Out, say};
use super::path_state::{self, View};
use crate::clock::{Clock as _, SystemClock};
use crate::daemon::status::{self, DaemonStatus};
use crate::exit::{Exit, Failure};
use crate::text::Paint;

pub(super) fn run(args: &StatusArgs, context: &Context) -> Result<Exit, Failure> {
    let pairs = context.pairs(&[], &args.ad_hoc)?;
    let (pairs, path) = match &args.target {
        None => (pairs, None),
        Some(target) => match pairs.iter().find(|pair| pair.config.name == *target) {
            Some(pair) => (vec![pair.clone()], None),
            None => {
                let (pair, path) = locate(&pairs, target)?;
                (vec![pair], Some(path))
            }
        },
    };
    let runtime = super::runtime()?;
    let live = runtime.block_on(live::find(&pairs, context))?;
    if let (Some(path), [pair]) = (&path, pairs.as_slice()) {
        let view = runtime.block_on(path_state::view(pair, path))?;
        print_path(&context.out, &view, args.json);
        let otherwise = if live.is_some() { Exit::InSync } else { Exit::Busy };
        return Ok(if args.check { view.state.exit() } else { otherwise });
    }
    if let Some(live) = live {
        return runtime.block_on(live.show(args, context));
    }
    let (status, exit) = recorded::read(&pairs)?;
    print(&status, args, context);
    if !args.check && !args.json && !context.global.quiet {
        say("no daemon is running: this is what the last sync recorded");
    }
    // The contract: 6 tells that nobody keeps the pairs in sync; `--check` asks for their state.
    Ok(if args.check { exit } else { Exit::Busy })
}

fn print(status: &DaemonStatus, args: &StatusArgs, context: &Context) {
    let out = &context.out;
    if args.json {
        out.json(status);
    } else if args.check {
        out.line(status::check_line(status));
    } else {
        out.write(text(status, context).as_bytes());
    }
    out.flush();
}

fn text(status: &DaemonStatus, context: &Context) -> String {
    let paint = |paint: Paint, text: &str| context.out.paint(paint, text);
    let home = context.places.home.as_deref();
    status::text(status, &status::View { now: SystemClock.now(), home, paint: &paint })
}

fn print_path(out: &Out, view: &View, json: bool) {
    if json {
        out.json(view);
    } else {
        out.line(format!(
            "{}  {}",
            out.paint(view.state.paint(), view.state.word()),
            view.headline()
        ));
    }
}
