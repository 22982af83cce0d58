//! `verify`: reads both sides to the end and reports every difference. Changes nothing.

use std::collections::BTreeMap;

use futures_util::StreamExt as _;
use serde::Serialize;

use super::args::VerifyArgs;
use super::context::{Context, Pair};
use super::interrupt::Interrupt;
use super::remotes::{failed, list};
use crate::exit::{Exit, Failure};
use crate::local::FsError;
use crate::local::ignore::Rules;
use crate::pair::Sides;
use crate::remote::{Locator, Remote, RemoteError};
use crate::text::{Paint, counted, printable, size};
use crate::tree::path::CONTROL_DIR;
use crate::tree::{ContentHash, Entry, Hasher, Kind, RelPath};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Difference {
    OnlyLocal,
    OnlyRemote,
    /// A file on one side, a folder on the other.
    Kind,
    Size,
    Content,
    /// One of the two could not be read.
    Unreadable,
}

impl Difference {
    fn words(self) -> &'static str {
        match self {
            Difference::OnlyLocal => "only local",
            Difference::OnlyRemote => "only on the remote",
            Difference::Kind => "a file on one side, a folder on the other",
            Difference::Size => "different sizes",
            Difference::Content => "different contents",
            Difference::Unreadable => "could not be read",
        }
    }
}

#[derive(Serialize)]
struct Line<'a> {
    pair: &'a str,
    path: &'a str,
    difference: Difference,
    error: Option<String>,
}

pub(super) fn run(args: &VerifyArgs, context: &Context) -> Result<Exit, Failure> {
    let names: Vec<String> = args.pair.iter().cloned().collect();
    let pairs = context.pairs(&names, &args.ad_hoc)?;
    super::runtime()?.block_on(async {
        let interrupt = Interrupt::listen()
            .map_err(|error| Failure::fatal(format!("listen to signals: {error}")))?;
        let mut exit = Exit::InSync;
        for pair in &pairs {
            let check = Check::new(pair, context, args.json)?;
            tokio::select! {
                code = check.run() => exit = exit.or_worse(code?),
                () = interrupt.wait() => return Ok(Exit::Interrupted),
            }
        }
        Ok(exit)
    })
}

/// One pair being compared.
struct Check<'a> {
    pair: &'a Pair,
    sides: Sides,
    context: &'a Context,
    json: bool,
    rules: Rules,
    files: u64,
    bytes: u64,
    differences: u64,
}

impl<'a> Check<'a> {
    fn new(pair: &'a Pair, context: &'a Context, json: bool) -> Result<Check<'a>, Failure> {
        Ok(Check {
            pair,
            sides: pair.sides()?,
            context,
            json,
            rules: Rules::new(&pair.config.ignore),
            files: 0,
            bytes: 0,
            differences: 0,
        })
    }

    async fn run(mut self) -> Result<Exit, Failure> {
        let mut pending = vec![(RelPath::root(), Locator::root())];
        while let Some((dir, locator)) = pending.pop() {
            for (path, locator) in self.folder(&dir, &locator).await?.into_iter().rev() {
                pending.push((path, locator));
            }
        }
        if !self.json {
            let verdict = match self.differences {
                0 => self.context.out.paint(Paint::Good, "the same on both sides"),
                n => self.context.out.paint(Paint::Bad, &counted(n, "difference")),
            };
            let read = format!("{}, {}", counted(self.files, "file"), size(self.bytes));
            self.context.out.line(format!("{}: {verdict} — compared {read}", self.pair.name()));
        }
        Ok(if self.differences == 0 { Exit::InSync } else { Exit::SomeFailed })
    }

    /// Compares one folder; the folders in it that both sides have are still to be compared.
    async fn folder(
        &mut self,
        dir: &RelPath,
        locator: &Locator,
    ) -> Result<Vec<(RelPath, Locator)>, Failure> {
        let listing = self.sides.local.list(dir).await.map_err(|e| self.pair.failed(&e))?;
        if let Some(text) = &listing.ignore_file {
            self.rules.set_folder(dir, text);
        }
        let remote = list(&*self.sides.remote, locator).await.map_err(|e| failed(&e))?;
        let mut names: BTreeMap<_, (Option<Entry>, Option<Entry>)> = BTreeMap::new();
        for entry in listing.entries {
            let name = entry.name.clone();
            names.entry(name).or_default().0 = Some(entry);
        }
        for entry in remote {
            let name = entry.name.clone();
            names.entry(name).or_default().1 = Some(entry);
        }
        // What is left out on one side is not missing on the other.
        let left_out: Vec<String> = listing.skipped.into_iter().map(|item| item.name).collect();
        let mut folders = Vec::new();
        for (name, sides) in names {
            let path = dir.join(&name);
            let kind = sides.0.as_ref().or(sides.1.as_ref()).map_or(Kind::File, |entry| entry.kind);
            // The control folder of another pair is synced on no side.
            let is_control = kind == Kind::Dir && name.as_str() == CONTROL_DIR;
            let ours = left_out.iter().any(|left| left == name.as_str())
                || name.is_internal()
                || is_control;
            if ours || self.rules.is_ignored(&path, kind).is_some() {
                continue;
            }
            match sides {
                (Some(local), Some(remote)) => {
                    let target = below(locator, &remote, &path);
                    match self.both(&path, &local, &remote, &target).await {
                        Ok(None) if local.kind == Kind::Dir => folders.push((path, target)),
                        Ok(None) => {}
                        Ok(Some(difference)) => self.report(&path, difference, None),
                        Err(error) => self.report(&path, Difference::Unreadable, Some(error)),
                    }
                }
                (Some(_), None) => self.report(&path, Difference::OnlyLocal, None),
                (None, _) => self.report(&path, Difference::OnlyRemote, None),
            }
        }
        Ok(folders)
    }

    async fn both(
        &mut self,
        path: &RelPath,
        local: &Entry,
        remote: &Entry,
        target: &Locator,
    ) -> Result<Option<Difference>, String> {
        match (local.kind, remote.kind) {
            (Kind::Dir, Kind::Dir) => return Ok(None),
            (Kind::File, Kind::File) => {}
            (Kind::File, Kind::Dir) | (Kind::Dir, Kind::File) => return Ok(Some(Difference::Kind)),
        }
        self.files += 1;
        if local.size != remote.size {
            return Ok(Some(Difference::Size));
        }
        self.bytes += local.size;
        let algo = self.sides.remote.capabilities().pair_hash();
        let stamp = local.stamp();
        let here = self.sides.local.hash(path, &stamp, algo).await;
        let here = here.map_err(|error: FsError| error.to_string())?;
        let there = match remote.hash.filter(|hash| hash.algo() == algo) {
            Some(hash) => hash,
            None => {
                let read = read(&*self.sides.remote, target, remote, Hasher::new(algo)).await;
                read.map_err(|error| error.to_string())?
            }
        };
        Ok((here != there).then_some(Difference::Content))
    }

    fn report(&mut self, path: &RelPath, difference: Difference, error: Option<String>) {
        self.differences += 1;
        let out = &self.context.out;
        if self.json {
            let pair = &self.pair.config.name;
            out.json(&Line { pair, path: path.as_str(), difference, error });
            return;
        }
        let why = error.map(|error| format!(": {}", printable(&error))).unwrap_or_default();
        let words = out.paint(Paint::Notice, difference.words());
        out.line(format!("≠ {}  {words}{why}", printable(path.as_str())));
    }
}

fn below(parent: &Locator, entry: &Entry, path: &RelPath) -> Locator {
    Locator {
        id: Some(entry.item.clone()),
        path: path.clone(),
        parent_id: parent.id.clone(),
        kind: entry.kind,
    }
}

async fn read(
    remote: &dyn Remote,
    target: &Locator,
    entry: &Entry,
    mut hasher: Hasher,
) -> Result<ContentHash, RemoteError> {
    let mut download = remote.download(target, &entry.stamp(), 0).await?;
    while let Some(chunk) = download.bytes.next().await {
        hasher.update(&chunk?);
    }
    Ok(hasher.finish())
}
