//! `sync --once`, `sync --dry-run` and `plan`.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::args::{AdHoc, PlanArgs, SyncArgs};
use super::context::{Context, Pair};
use super::daemon::first_status;
use super::interrupt::Interrupt;
use super::lines::{self, Sums, Tense};
use super::out::{Out, say};
use super::progress::{Progress, Run, Showing};
use super::runner::{Extras, exit_of};
use super::screen::above;
use super::steer::{flush_all, keeper_of, of_pairs};
use crate::daemon::client::Client;
use crate::daemon::status::check_line;
use crate::drive::Observer;
use crate::engine::report::OpResult;
use crate::engine::{Engine, OpReport, Summary};
use crate::exec::meter::Meter;
use crate::exit::{Exit, Failure};
use crate::pair::Conduct;
use crate::text::printable;

/// How many items a run names that are left out by rule; `status --json` names them all.
const NOTES_MAX: usize = 10;

/// How a run is shown.
#[derive(Clone, Copy)]
struct Show {
    json: bool,
    progress: bool,
    /// Only errors and the end.
    quiet: bool,
}

pub(super) fn sync(args: &SyncArgs, context: &Context) -> Result<Exit, Failure> {
    if !args.is_one_run() {
        let of_one_run = args.json
            || args.force
            || args.max_delete.is_some()
            || args.max_transfer.is_some()
            || args.max_duration.is_some();
        if of_one_run {
            return Err(Failure::usage(
                "--json, --force and the --max-… flags are for one run: add --once",
            ));
        }
        return super::daemon::run(&args.pairs, &args.ad_hoc, args.progress, context);
    }
    let extras = Extras {
        max_delete: args.max_delete,
        max_transfer: args.max_transfer.map(|size| size.0),
        max_duration: args.max_duration.map(|span| span.0),
        force: args.force,
    };
    let show = Show { json: args.json, progress: args.progress, quiet: context.global.quiet };
    let conduct = if args.dry_run { Conduct::Pretend } else { Conduct::Act };
    run(&args.pairs, &args.ad_hoc, &extras, conduct, show, context)
}

pub(super) fn plan(args: &PlanArgs, context: &Context) -> Result<Exit, Failure> {
    let names: Vec<String> = args.pair.iter().cloned().collect();
    let show = Show { json: args.json, progress: false, quiet: context.global.quiet };
    run(&names, &args.ad_hoc, &Extras::default(), Conduct::Pretend, show, context)
}

fn run(
    names: &[String],
    ad_hoc: &AdHoc,
    extras: &Extras,
    conduct: Conduct,
    show: Show,
    context: &Context,
) -> Result<Exit, Failure> {
    let pairs = context.pairs(names, ad_hoc)?;
    let runtime = super::runtime()?;
    runtime.block_on(async {
        let interrupt = Interrupt::listen()
            .map_err(|error| Failure::fatal(format!("listen to signals: {error}")))?;
        let begun = Instant::now();
        let mut sums = Sums::default();
        let mut exit = Exit::InSync;
        for pair in &pairs {
            let kept = match conduct {
                Conduct::Act => {
                    flush_kept(pair, extras, show, context, &interrupt, &mut sums).await
                }
                Conduct::Pretend => Ok(None),
            };
            let ran = match kept {
                Ok(Some(exit)) => Ok(exit),
                Ok(None) => {
                    run_pair(pair, extras, conduct, show, context, &interrupt, &mut sums).await
                }
                Err(failure) => Err(failure),
            };
            // One pair that cannot run is no reason to leave the others behind.
            match ran {
                Ok(code) => exit = exit.or_worse(code),
                Err(failure) => {
                    context.out.flush();
                    say(format!("foldsync: {}", failure.message));
                    exit = exit.or_worse(failure.exit);
                }
            }
            if interrupt.is_set() {
                exit = exit.or_worse(Exit::Interrupted);
                break;
            }
        }
        if show.json {
            sums.print_json(&context.out, exit, begun.elapsed());
        }
        Ok(exit)
    })
}

/// Asks the daemon that keeps the pair to sync it now, instead of working beside it. (CR-16)
async fn flush_kept(
    pair: &Pair,
    extras: &Extras,
    show: Show,
    context: &Context,
    interrupt: &Interrupt,
    sums: &mut Sums,
) -> Result<Option<Exit>, Failure> {
    let Some(client) = keeper_of(pair, context).await? else { return Ok(None) };
    if extras.are_any() {
        let message = format!(
            "{}: the daemon keeps this pair, and takes no --force or --max-… flag: end it first (foldsync stop)",
            pair.name()
        );
        return Err(Failure::new(Exit::Busy, message));
    }
    let names = [pair.config.name.clone()];
    let exit = tokio::select! {
        exit = flush_all(&client, &names) => exit?,
        () = interrupt.wait() => return Ok(Some(Exit::Interrupted)),
        never = show_kept(&client, &names, context), if show.progress => match never {},
    };
    let status = of_pairs(client.status().await?, &names);
    for pair in &status.pairs {
        sums.add(
            &Summary {
                conflicts: pair.conflicts,
                failed: pair.failed_total,
                held: pair.held.iter().map(|held| held.count.max(1)).sum(),
                ..Summary::default()
            },
            0,
        );
    }
    if !show.json {
        context.out.line(format!("{} (by the daemon)", check_line(&status)));
    }
    Ok(Some(exit))
}

/// Shows what the daemon says of its pairs.
async fn show_kept(client: &Client, names: &[String], context: &Context) -> Infallible {
    let progress = Progress::new(&context.global);
    loop {
        tokio::time::sleep(progress.every()).await;
        // A daemon that does not answer is for the flush to tell.
        if let Ok(status) = client.status().await {
            progress.show(&of_pairs(status, names).pairs);
        }
    }
}

async fn run_pair(
    pair: &Pair,
    extras: &Extras,
    conduct: Conduct,
    show: Show,
    context: &Context,
    interrupt: &Interrupt,
    sums: &mut Sums,
) -> Result<Exit, Failure> {
    let begun = Instant::now();
    let out = &context.out;
    let tense = match conduct {
        Conduct::Act => Tense::Done,
        Conduct::Pretend => Tense::Planned,
    };
    let meter = Arc::default();
    let observer = Watcher::new(pair, tense, show, &meter, context);
    let showing = show.progress.then(|| {
        let run = Arc::clone(&observer.run);
        Showing::start(Progress::new(&context.global), move || vec![run.read()])
    });
    let ran = pair.run(extras, conduct, &observer, &meter, interrupt).await;
    drop(showing);
    observer.finish();
    let report = ran?;
    if let Some(path) = &report.set_aside {
        say(format!(
            "foldsync: {}: the state database was damaged and is kept as {}; both sides were merged",
            pair.name(),
            super::context::shown(path)
        ));
    }
    for item in report.summary.notes.iter().take(NOTES_MAX) {
        let (path, reason) = (printable(&item.path), printable(&item.reason));
        say(format!("foldsync: {}: {path} is left out: {reason}", pair.name()));
    }
    if let Some(notice) = &report.notice {
        say(format!("foldsync: {}: {notice}", pair.name()));
    }
    sums.add(&report.summary, report.requests);
    if !show.json {
        lines::summary_text(out, pair, &report.summary, tense, begun.elapsed());
    }
    out.flush();
    Ok(exit_of(&report.summary))
}

/// Prints operations as they end, or keeps those of a plan to print them in order.
struct Watcher {
    pair: String,
    tense: Tense,
    show: Show,
    out: Out,
    run: Arc<Run>,
    planned: Mutex<Vec<OpReport>>,
}

impl Watcher {
    fn new(
        pair: &Pair,
        tense: Tense,
        show: Show,
        meter: &Arc<Meter>,
        context: &Context,
    ) -> Watcher {
        Watcher {
            pair: pair.config.name.clone(),
            tense,
            show,
            out: context.out.clone(),
            run: Arc::new(Run::new(first_status(pair), Arc::clone(meter))),
            planned: Mutex::default(),
        }
    }

    fn print(&self, report: &OpReport) {
        let failed = report.result == OpResult::Failed;
        if self.show.json {
            above(|| lines::op_json(&self.out, &self.pair, report, self.tense));
        } else if !self.show.quiet || failed {
            let line = lines::op_text(&self.out, report);
            above(|| {
                self.out.line(&line);
                self.out.flush();
            });
        }
    }

    /// A plan is printed sorted, so that two plans can be compared.
    fn finish(&self) {
        let mut planned = std::mem::take(&mut *self.lock());
        planned.sort_by(|a, b| (&a.path, a.op.as_str()).cmp(&(&b.path, b.op.as_str())));
        planned.iter().for_each(|report| self.print(report));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<OpReport>> {
        self.planned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Watcher {
    fn operation_ended(&self, report: &OpReport) {
        log(&self.pair, report, self.tense);
        self.run.ended(report);
        if !report.op.is_visible() && report.result != OpResult::Failed {
            return;
        }
        match self.tense {
            Tense::Done => self.print(report),
            Tense::Planned => self.lock().push(report.clone()),
        }
    }

    fn turned(&self, engine: &Engine) {
        if self.show.progress {
            self.run.ask(engine);
        }
    }
}

fn log(pair: &str, report: &OpReport, tense: Tense) {
    let (op, path) = (report.op.as_str(), printable(&report.path));
    match (&report.error, tense) {
        (_, Tense::Planned) => {}
        (Some(error), Tense::Done) => {
            let error = printable(error);
            tracing::warn!(pair, op, object = path, error, "operation failed");
        }
        // A means to an end is not what somebody wants to know.
        (None, Tense::Done) if !report.op.is_visible() => {
            tracing::debug!(pair, op, object = path, "operation done");
        }
        (None, Tense::Done) => {
            let size = report.bytes;
            tracing::info!(pair, op, object = path, size, "operation done");
        }
    }
}
