//! `verify`: reads both sides to the end and reports every difference. Changes nothing.

use std::collections::BTreeMap;

use futures_util::StreamExt as _;
use serde::Serialize;

use super::args::VerifyArgs;
use super::context::{Context, Pair};
use super::interrupt::Interrupt;
use super::remotes::failed;
use crate::exit::{Exit, Failure};
use crate::local::facts::DiskFacts;
use crate::local::ignore::Rules;
use crate::local::{FsError, Listing, SkipReason};
use crate::pair::{self, Sides};
use crate::remote::{Locator, Remote, RemoteError, list_all};
use crate::text::{Paint, counted, printable, size};
use crate::tree::names::NameRules;
use crate::tree::path::CONTROL_DIR;
use crate::tree::{self, ContentHash, Entry, Hasher, InternalName, Kind, Name, RelPath};

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
    /// It cannot be synced as it is, and no rule says that it is not to be.
    LeftOut,
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
            Difference::LeftOut => "cannot be synced",
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

/// What counts of a folder on one side.
struct Side {
    entries: BTreeMap<Name, Entry>,
    /// By the name that people see.
    skipped: BTreeMap<String, SkipReason>,
    /// Nothing at all is in it.
    is_empty: bool,
}

/// One pair being compared.
struct Check<'a> {
    pair: &'a Pair,
    sides: Sides,
    context: &'a Context,
    json: bool,
    rules: Rules,
    /// Whether a disk of the pair takes the Unicode forms of a name for one.
    forms_alike: bool,
    files: u64,
    bytes: u64,
    differences: u64,
}

impl<'a> Check<'a> {
    fn new(pair: &'a Pair, context: &'a Context, json: bool) -> Result<Check<'a>, Failure> {
        let store = pair.records()?;
        let disks = tree::Side::BOTH.map(|side| pair::known_disk(store.as_ref()?, side));
        let takes_forms_for_one = |facts: &DiskFacts| facts.names().takes_forms_for_one();
        Ok(Check {
            pair,
            forms_alike: disks.iter().flatten().any(takes_forms_for_one),
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

    async fn local(&mut self, dir: &RelPath) -> Result<Side, Failure> {
        let listing = self.sides.local.list(dir).await.map_err(|e| self.pair.failed(&e))?;
        if let Some(text) = &listing.ignore_file {
            self.rules.set_folder(dir, text);
        }
        Ok(self.side(dir, listing, false))
    }

    async fn remote(&self, dir: &RelPath, locator: &Locator) -> Result<Side, Failure> {
        let listing = list_all(&*self.sides.remote, locator).await.map_err(|e| failed(&e))?;
        let capabilities = self.sides.remote.capabilities();
        Ok(self.side(dir, listing, capabilities.swaps_names()))
    }

    /// The name by which both sides know an item: where a disk takes the Unicode forms of a name for
    /// one, or stores another form, the composed one.
    fn known_name(&self, name: &Name) -> Name {
        let composed = self.forms_alike.then(|| Name::new(&NameRules::composed(name)));
        composed.and_then(Result::ok).unwrap_or_else(|| name.clone())
    }

    /// What counts of a listing: neither what the rules ignore nor what is on its way.
    fn side(&self, dir: &RelPath, listing: Listing, swaps_names: bool) -> Side {
        let is_empty = listing.entries.is_empty() && listing.skipped.is_empty();
        let mut side = Side { entries: BTreeMap::new(), skipped: BTreeMap::new(), is_empty };
        for entry in listing.entries {
            let internal = entry.name.internal().is_some_and(InternalName::is_in_transit);
            if self.rules.is_ignored(&dir.join(&entry.name), entry.kind).is_some()
                || (internal && swaps_names)
            {
                continue;
            }
            let is_control = entry.kind == Kind::Dir && entry.name.as_str() == CONTROL_DIR;
            if internal {
                side.skipped.insert(entry.name.as_str().to_owned(), SkipReason::Reserved);
            } else if is_control {
                side.skipped.insert(CONTROL_DIR.to_owned(), SkipReason::ControlFolder);
            } else {
                side.entries.insert(self.known_name(&entry.name), entry);
            }
        }
        for item in listing.skipped {
            let ignored = Name::new(&item.name)
                .is_ok_and(|name| self.rules.is_ignored(&dir.join(&name), Kind::File).is_some());
            if !ignored {
                side.skipped.insert(item.name, item.reason);
            }
        }
        side
    }

    /// Compares one folder; the folders in it that both sides have are still to be compared.
    async fn folder(
        &mut self,
        dir: &RelPath,
        locator: &Locator,
    ) -> Result<Vec<(RelPath, Locator)>, Failure> {
        let (mut local, remote) = (self.local(dir).await?, self.remote(dir, locator).await?);
        use tree::Side::{Local, Remote};
        for (one, other, where_other) in [(&local, &remote, Remote), (&remote, &local, Local)] {
            let is_kept = self.is_kept_by_mode(where_other);
            for (name, reason) in &one.skipped {
                let is_masked = !is_kept && other.entries.contains_key(name.as_str());
                if is_masked || !reason.is_by_rule() {
                    let shown = if dir.is_root() { name.clone() } else { format!("{dir}/{name}") };
                    self.report(&shown, Difference::LeftOut, Some(reason.word().to_owned()));
                }
            }
        }
        let mut names: BTreeMap<Name, (Option<Entry>, Option<Entry>)> = BTreeMap::new();
        // What is left out on one side is not missing on the other.
        for (name, entry) in std::mem::take(&mut local.entries) {
            if !remote.skipped.contains_key(name.as_str()) {
                names.entry(name).or_default().0 = Some(entry);
            }
        }
        for (name, entry) in remote.entries {
            if !local.skipped.contains_key(name.as_str()) {
                names.entry(name).or_default().1 = Some(entry);
            }
        }
        let mut folders = Vec::new();
        for (name, sides) in names {
            let own_name = sides.0.as_ref().or(sides.1.as_ref()).map_or(&name, |entry| &entry.name);
            let path = dir.join(own_name);
            match sides {
                (Some(local), Some(remote)) => {
                    let target = below(locator, &remote);
                    match self.both(&path, &local, &remote, &target).await {
                        Ok(None) if local.kind == Kind::Dir => folders.push((path, target)),
                        Ok(None) => {}
                        Ok(Some(difference)) => self.report(path.as_str(), difference, None),
                        Err(error) => {
                            self.report(path.as_str(), Difference::Unreadable, Some(error));
                        }
                    }
                }
                (Some(entry), None) => self.only(&path, &entry, None).await?,
                (None, Some(entry)) => {
                    let target = below(locator, &entry);
                    self.only(&path, &entry, Some(target)).await?;
                }
                (None, None) => {}
            }
        }
        Ok(folders)
    }

    /// A backup keeps what its source has no more.
    fn is_kept_by_mode(&self, side: tree::Side) -> bool {
        let mode = self.pair.config.mode;
        !mode.deletes() && mode.source() == Some(side.other())
    }

    /// What only one side has; `target` addresses it on the remote.
    async fn only(
        &mut self,
        path: &RelPath,
        entry: &Entry,
        target: Option<Locator>,
    ) -> Result<(), Failure> {
        let (side, difference) = match target {
            None => (tree::Side::Local, Difference::OnlyLocal),
            Some(_) => (tree::Side::Remote, Difference::OnlyRemote),
        };
        let is_kept_by_mode = self.is_kept_by_mode(side);
        let is_dir = entry.kind == Kind::Dir;
        if is_kept_by_mode && is_dir {
            return self.report_left_out_below(path, target).await;
        }
        let is_by_rule = is_kept_by_mode || (is_dir && self.is_rest(path, target).await?);
        if !is_by_rule {
            self.report(path.as_str(), difference, None);
        }
        Ok(())
    }

    /// In a folder that only one side has, and rightly so.
    async fn report_left_out_below(
        &mut self,
        path: &RelPath,
        target: Option<Locator>,
    ) -> Result<(), Failure> {
        let mut pending = vec![(path.clone(), target)];
        while let Some((path, target)) = pending.pop() {
            let side = self.one_side(&path, target.as_ref()).await?;
            for (name, reason) in side.skipped.iter().filter(|(_, reason)| !reason.is_by_rule()) {
                let shown = format!("{path}/{name}");
                self.report(&shown, Difference::LeftOut, Some(reason.word().to_owned()));
            }
            let folders = side.entries.into_values().filter(|entry| entry.kind == Kind::Dir);
            pending.extend(folders.map(|entry| inside(&path, target.as_ref(), &entry)));
        }
        Ok(())
    }

    /// A folder on the remote, or the local one where nothing addresses it there.
    async fn one_side(
        &mut self,
        path: &RelPath,
        target: Option<&Locator>,
    ) -> Result<Side, Failure> {
        match target {
            None => self.local(path).await,
            Some(target) => self.remote(path, target).await,
        }
    }

    /// Whether a folder holds something, and only what is left out by the rules: the other side
    /// deleted it, and it is kept for that.
    async fn is_rest(&mut self, path: &RelPath, target: Option<Locator>) -> Result<bool, Failure> {
        let mut pending = vec![(path.clone(), target)];
        while let Some((path, target)) = pending.pop() {
            let side = self.one_side(&path, target.as_ref()).await?;
            let counts = side.entries.values().any(|entry| entry.kind == Kind::File)
                || side.skipped.values().any(|reason| !reason.is_by_rule());
            if side.is_empty || counts {
                return Ok(false);
            }
            let folders = side.entries.into_values();
            pending.extend(folders.map(|entry| inside(&path, target.as_ref(), &entry)));
        }
        Ok(true)
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

    fn report(&mut self, path: &str, difference: Difference, error: Option<String>) {
        self.differences += 1;
        let out = &self.context.out;
        if self.json {
            let pair = &self.pair.config.name;
            out.json(&Line { pair, path, difference, error });
            return;
        }
        let why = error.map(|error| format!(": {}", printable(&error))).unwrap_or_default();
        let words = out.paint(Paint::Notice, difference.words());
        out.line(format!("≠ {}  {words}{why}", printable(path)));
    }
}

fn inside(dir: &RelPath, target: Option<&Locator>, entry: &Entry) -> (RelPath, Option<Locator>) {
    let path = dir.join(&entry.name);
    let target = target.map(|above| below(above, entry));
    (path, target)
}

fn below(parent: &Locator, entry: &Entry) -> Locator {
    Locator {
        id: Some(entry.item.clone()),
        // A disk may know it under another spelling than the other side.
        path: parent.path.join(&entry.name),
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
