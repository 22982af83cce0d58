//! One bad day: a pair, its users, faults, kills and power cuts, then calm, all drawn from a seed.
//!
//! Runs the production engine with the real database, and leaves the judging to `oracle`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use foldsync::drive::{self, Driver, Observer};
use foldsync::engine::{Event, Fatal, LookAt, OpReport, Summary};
use foldsync::exec::Lanes;
use foldsync::pair::{self, Conduct, PairSettings, RunError, Sides};
use foldsync::plan::{BrakeLimit, BrakeLimits, ConflictPolicy, Mode};
use foldsync::tree::{RelPath, Side};

use super::cloud::{CloudPort, Nature, SimCloud};
use super::crowd::Crowd;
use super::disk::{DiskPort, DiskTraits, SimDisk};
use super::faults::{Dice, Hub, Odds, Pace, SimClock, Trace};
use super::oracle;
use super::users::{AGAIN, Tree, Users};

/// What became of a day.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) violations: Vec<String>,
    /// Equal for equal seeds.
    pub(crate) digest: u64,
    pub(crate) kills: u64,
    pub(crate) runs: u64,
    pub(crate) acts: u64,
}

/// A pair, and everything around it.
pub(crate) struct World {
    pub(crate) hub: Arc<Hub>,
    pub(crate) disk: Arc<SimDisk>,
    pub(crate) cloud: Arc<SimCloud>,
    pub(crate) settings: PairSettings,
    db: PathBuf,
    runs: u64,
    kills: u64,
    /// Runs that one process makes before it ends.
    pub(crate) cycles: u64,
    /// Who is at work while a process stays.
    crowd: Option<Arc<Crowd>>,
    /// See `watch`.
    watched: bool,
    /// What the last run said it leaves out.
    reported: BTreeSet<String>,
    /// Whether a state database was lost, or could not do its work: nobody knows any more what has its
    /// names on the remote.
    forgot: bool,
    /// Steps of the longest run so far: where in a run something may strike.
    reach: u64,
}

/// How one run of the engine ended.
#[derive(Debug)]
pub(crate) enum End {
    Done(Box<Result<Summary, RunError>>),
    Killed,
}

/// No run of a small pair takes more steps; one that does goes in circles.
const STEPS_MAX: u64 = 5_000;
/// Nor more time.
const RUN_TIME_MAX: Duration = Duration::from_secs(7 * 86_400);
/// S3: after so many runs without users and faults, the pair is in sync.
const ROUNDS_MAX: usize = 3;

impl World {
    /// Must be called inside a runtime with paused time.
    pub(crate) fn new(hub: Arc<Hub>, traits: DiskTraits, nature: Nature, folder: &Path) -> World {
        let disk = SimDisk::new(hub.clone(), traits);
        let cloud = SimCloud::new(hub.clone(), nature);
        hub.join(disk.clone());
        hub.join(cloud.clone());
        World {
            disk,
            cloud,
            settings: settings(),
            db: folder.join("pair.db"),
            runs: 0,
            kills: 0,
            cycles: 1,
            crowd: None,
            watched: false,
            reported: BTreeSet::new(),
            forgot: false,
            reach: 60,
            hub,
        }
    }

    /// From now on a process that stays is told where something happened on the disk, always, and
    /// looks nowhere else.
    pub(crate) fn watch(&mut self) {
        self.watched = true;
        self.disk.watch();
    }

    /// One start of the engine: to its end, or to the step at which it is killed.
    pub(crate) async fn start(&mut self, kill_after: Option<u64>) -> End {
        self.runs += 1;
        self.disk.remount();
        let steps_max = STEPS_MAX * self.cycles;
        let life = self.hub.begin_life(Some(kill_after.unwrap_or(steps_max)));
        let (before, was_calm) = (self.hub.steps(), self.hub.is_calm());
        self.hub.note(format_args!("---- run {} (kill after {kill_after:?})", self.runs));
        let sides = Sides {
            local: Arc::new(DiskPort::new(self.disk.clone(), life)),
            remote: Arc::new(CloudPort::new(self.cloud.clone(), life)),
            clock: Arc::new(SimClock::new(self.hub.clone())),
        };
        let witness = Witness { hub: self.hub.clone() };
        let fresh_id = format!("id-{}", self.runs);
        let run = self.live(&sides, &witness, &fresh_id);
        let end = tokio::select! {
            biased;
            () = self.hub.death() => End::Killed,
            result = tokio::time::timeout(RUN_TIME_MAX, run) => match result {
                Ok(result) => End::Done(Box::new(result)),
                Err(_) => {
                    self.hub.violate("S8: a run does not end".to_owned());
                    End::Killed
                }
            },
        };
        self.hub.end_life();
        self.hub.note(format_args!("---- {end:?}"));
        if self.hub.is_shown() {
            oracle::show_failures(&self.db);
        }
        let steps = self.hub.steps() - before;
        match (&end, kill_after) {
            (End::Killed, None) => self.hub.violate(format!("S8: no end after {steps} steps")),
            (End::Killed, Some(_)) => self.kills += 1,
            (End::Done(result), _) => {
                self.reach = self.reach.max(steps);
                let sessions = self.cloud.sessions(life);
                if sessions > 0 && result.is_ok() && was_calm {
                    self.hub.violate(format!("{sessions} uploads were begun and left"));
                }
            }
        }
        end
    }

    /// The life of a process: one run, or as many as a daemon makes one after the other.
    async fn live(
        &self,
        sides: &Sides,
        witness: &Witness,
        fresh_id: &str,
    ) -> Result<Summary, RunError> {
        let mut started =
            pair::start(&self.settings, &self.db, sides, fresh_id, Conduct::Act).await?;
        let driver = &mut started.driver;
        let mut summary = drive::run_once(driver, witness, std::future::pending()).await?;
        for cycle in 1..self.cycles {
            self.hub.note(format_args!("---- cycle: {summary:?}"));
            sides.clock.sleep(Duration::from_secs(60)).await;
            let local = self.let_people_work(cycle);
            driver.engine.begin_cycle()?;
            driver.tell(Event::Look { side: Side::Local, at: local });
            driver.tell(Event::Look { side: Side::Remote, at: LookAt::Everything });
            summary = self.run(driver, witness).await?;
        }
        if self.watched {
            summary = self.rest_watched(sides, driver, witness).await?;
        }
        Ok(summary)
    }

    /// To the end of a cycle. What happens on the disk meanwhile is told sooner or later, folder by
    /// folder, as by a watcher that waits until each is quiet.
    async fn run(&self, driver: &mut Driver, witness: &Witness) -> Result<Summary, Fatal> {
        let mut untold: Vec<RelPath> = Vec::new();
        let patience = 1 + self.hub.below(6);
        loop {
            let rested = driver.turn(witness)?;
            untold.extend(self.disk.stirred());
            if rested && untold.is_empty() {
                return driver.engine.conclude();
            }
            let is_told = |_: &mut RelPath| rested || self.hub.below(patience) == 0;
            let told: Vec<RelPath> = untold.extract_if(.., is_told).collect();
            if !told.is_empty() {
                driver.tell(Event::Look { side: Side::Local, at: LookAt::Folders(told) });
            }
            if !rested {
                driver.wait().await;
            }
        }
    }

    /// S25: users rest and nothing fails; what the watcher told is enough to get in sync.
    async fn rest_watched(
        &self,
        sides: &Sides,
        driver: &mut Driver,
        witness: &Witness,
    ) -> Result<Summary, RunError> {
        self.hub.do_scheduled(u64::MAX);
        if let Some(crowd) = &self.crowd {
            crowd.finish();
        }
        self.hub.calm();
        self.hub.note(format_args!("---- calm"));
        let mut cycle = 0;
        loop {
            sides.clock.sleep(Duration::from_secs(3_600)).await;
            driver.engine.begin_cycle()?;
            driver.tell(Event::Look { side: Side::Remote, at: LookAt::Everything });
            let summary = self.run(driver, witness).await?;
            cycle += 1;
            if self.is_equal() || !summary.skipped.is_empty() {
                return Ok(summary);
            }
            if cycle > ROUNDS_MAX {
                let [local, remote] = self.at_rest();
                let what = format!("S25: the watcher told all: {local:?} {remote:?}");
                self.hub.violate(what);
                return Ok(summary);
            }
        }
    }

    /// Somebody does something before a cycle or during it, or nobody does. Where a watcher would
    /// have the process look then: it may miss things, for an hour at most.
    fn let_people_work(&self, cycle: u64) -> LookAt {
        const CYCLES_AN_HOUR: u64 = 60;
        if let Some(crowd) = &self.crowd {
            for _ in 0..self.hub.below(3) {
                crowd.act();
            }
            if self.hub.below(3) == 0 {
                let busy = crowd.clone();
                self.hub.schedule(self.hub.below(40) as u64, Box::new(move || busy.act()));
            }
        }
        if self.watched {
            return LookAt::Folders(self.disk.stirred());
        }
        if self.crowd.is_none() || cycle.is_multiple_of(CYCLES_AN_HOUR) {
            return LookAt::Everything;
        }
        let all = self.disk.tree();
        let folders = all.iter().filter(|(_, content)| content.is_none());
        let paths = folders.filter_map(|(path, _)| RelPath::new(path).ok());
        let seen = paths.filter(|_| self.hub.below(4) > 0);
        LookAt::Folders(seen.chain([RelPath::root()]).collect())
    }

    /// Users rest and nothing fails: the pair gets in sync, within a bound, and then keeps still.
    pub(crate) async fn settle(&mut self) {
        self.cycles = 1;
        self.crowd = None;
        self.hub.calm();
        self.disk.repair();
        for _ in 0..ROUNDS_MAX {
            // Longer than any answer is late, any listing lags and any failure waits for its retry.
            tokio::time::sleep(Duration::from_secs(86_400)).await;
            if let End::Done(result) = self.start(None).await {
                if let Ok(summary) = &*result {
                    let skipped = summary.skipped.iter();
                    self.reported = skipped.map(|item| item.path.clone()).collect();
                }
                match *result {
                    Ok(_) if self.is_equal() => break,
                    Ok(summary) => self.check_told(&summary),
                    Err(error) => self.hub.violate(format!("S3: all is calm, but {error}")),
                }
            }
        }
        let [local, remote] = self.at_rest();
        // What needs the name of several items waits for a person to say which is which. (RM-09)
        if !self.has_reported_twins() {
            oracle::check_rest(&self.hub, &local, &remote);
            oracle::check_base(&self.hub, &self.db, &local);
        }
        oracle::check_nothing_staged(&self.hub, &self.disk);
        oracle::check_nothing_lost(&self.hub, &self.disk, &self.cloud);
        oracle::check_in_sight(&self.hub, &local, &remote);
        self.check_quiet().await;
    }

    /// A run that leaves the sides different says so.
    fn check_told(&self, summary: &Summary) {
        let Summary { skipped, failed, held, stop, .. } = summary;
        if skipped.is_empty() && *failed == 0 && *held == 0 && stop.is_none() {
            let [local, remote] = self.at_rest();
            let what = format!("a run is clean, but: {local:?} {remote:?}");
            self.hub.violate(what);
        }
    }

    fn is_equal(&self) -> bool {
        let [local, remote] = self.at_rest();
        local == remote
    }

    /// Both sides without what a lost database had staged in the cloud.
    fn at_rest(&self) -> [Tree; 2] {
        let mut trees = [self.disk.tree(), self.cloud.tree()];
        let is_staged =
            |path: &str| path.contains(".foldsync-") && !path.contains(".foldsync-park");
        if self.forgot {
            trees[1].retain(|path, _| !is_staged(path));
        }
        trees
    }

    /// Whether several items in the cloud have one name, and the last run said so.
    fn has_reported_twins(&self) -> bool {
        let tree = self.cloud.tree();
        let mut twins = tree.keys().filter_map(|path| Some(path.split_once(AGAIN)?.0));
        twins.any(|path| self.reported.contains(path))
    }

    /// S4: one more run changes nothing and moves nothing. A file that was written as it was read may
    /// be read once more; after that, nothing is.
    async fn check_quiet(&mut self) {
        let count = |world: &World| {
            let cost = world.cloud.cost();
            (cost.mutations, cost.bytes_up + cost.bytes_down, world.disk.writes())
        };
        let before = count(self);
        let mut still = false;
        for _ in 0..2 {
            tokio::time::sleep(Duration::from_secs(3_600)).await;
            let read = self.disk.bytes_read();
            self.start(None).await;
            if before != count(self) {
                let now = count(self);
                self.hub.violate(format!("S4: a run at rest is not quiet: {before:?} {now:?}"));
            }
            still = self.disk.bytes_read() == read;
        }
        if !still {
            self.hub.violate("S4: a run at rest reads files again".to_owned());
        }
    }

    /// The database is gone.
    pub(crate) fn drop_database(&mut self) {
        self.forgot = true;
        self.hub.note(format_args!("the database is deleted"));
        for end in ["", "-wal", "-shm"] {
            let mut path = self.db.clone().into_os_string();
            path.push(end);
            std::fs::remove_file(path).ok();
        }
    }

    fn report(&self, acts: u64) -> Report {
        Report {
            violations: self.hub.violations(),
            digest: self.hub.digest(),
            kills: self.kills,
            runs: self.runs,
            acts,
        }
    }
}

/// Two ways, both versions kept, and no guard against deletions: the users mean what they do.
fn settings() -> PairSettings {
    PairSettings {
        mode: Mode::TwoWay,
        conflict: ConflictPolicy::KeepBoth,
        brake: BrakeLimits { deletes: BrakeLimit::NONE, changes: BrakeLimit::NONE, lifted: true },
        ignore: Vec::new(),
        host: "sim".to_owned(),
        lanes: Lanes { uploads: 2, downloads: 2, structure: 4 },
        max_transfer: None,
        max_duration: None,
        settle: None,
        meter: Arc::default(),
    }
}

/// Writes what the engine reports into the log.
struct Witness {
    hub: Arc<Hub>,
}

impl Observer for Witness {
    fn operation_ended(&self, report: &OpReport) {
        self.hub.note(format_args!("engine: {report:?}"));
    }
}

/// Where databases live: in memory, where the system has a place for that.
pub(crate) fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a folder for databases")
}

/// Runs something in a world of its own, in virtual time.
pub(crate) fn in_virtual_time<T>(body: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime can be built");
    runtime.block_on(body)
}

/// What kind of bad day it is.
struct Weather {
    rounds: u64,
    kill: u32,
    power_cut: u32,
    /// Users act during runs.
    busy: u32,
    /// The process stays for several runs.
    daemon: u32,
    deny: u32,
    unmount: u32,
    clock: u32,
    lose_database: u32,
}

impl Weather {
    fn draw(dice: &mut Dice) -> Weather {
        Weather {
            rounds: dice.between(1, 4),
            kill: dice.swarm(&[0, 0, 300, 800]),
            power_cut: dice.swarm(&[0, 0, 500]),
            busy: dice.swarm(&[0, 500, 1000]),
            daemon: dice.swarm(&[0, 0, 500]),
            deny: dice.swarm(&[0, 0, 0, 200]),
            unmount: dice.swarm(&[0, 0, 0, 150]),
            clock: dice.swarm(&[0, 0, 0, 300]),
            lose_database: dice.swarm(&[0, 0, 0, 0, 0, 300]),
        }
    }
}

/// Lives through the day of a seed.
pub(crate) fn day(seed: u64, folder: &Path, trace: Trace) -> Report {
    in_virtual_time(async {
        let mut dice = Dice::new(seed, 2);
        let odds = Odds::draw(&mut dice);
        let pace = *dice.pick(&[Pace::Instant, Pace::Jittery, Pace::Erratic]).expect("not empty");
        let traits = DiskTraits::draw(&mut dice, &mut Dice::new(seed, 7));
        let mut nature = Nature::draw(&mut dice);
        nature.unproven = nature.by_path && Dice::new(seed, 8).chance(400);
        let weather = Weather::draw(&mut dice);
        let odds_of_doubt = odds.reply_lost + odds.reply_late + odds.disk_io_late + odds.stale > 0;
        // Killed in a swap, and then blinded by a listing that lags, the engine forgets it.
        let may_litter = odds.stale > 0 && weather.kill > 0;
        let calm = odds == Odds::default();
        // Where identities prove nothing, two names that were swapped are two edits.
        let proves = traits.is_known_type && traits.births && !traits.renumbers && !nature.unproven;
        let hub = Arc::new(Hub::new(seed, odds, pace, trace));
        let mut world = World::new(hub.clone(), traits, nature, folder);
        let users = Dice::new(seed, 3);
        let crowd = Crowd::new(hub.clone(), world.disk.clone(), world.cloud.clone(), users);
        let crowd = Arc::new(crowd);
        world.forgot = may_litter;
        hub.allow_haste(weather.busy > 0);
        let mut agreed = !crowd.settle_in();
        let mut lost_database = false;
        for _ in 0..weather.rounds {
            world.round(&crowd, &weather, &mut dice).await;
            if dice.chance(weather.lose_database) {
                world.drop_database();
                agreed = false;
                lost_database = true;
            }
        }
        crowd.finish();
        world.settle().await;
        if calm && proves && world.kills == 0 && weather.busy + weather.deny == 0 && !lost_database
        {
            oracle::check_economy(&hub, world.cloud.cost());
        }
        let copies = oracle::conflict_copies(&world.disk.tree());
        // After a kill or a lost answer, what the engine did may look like somebody else's doing.
        let witnessed = world.kills == 0 && weather.busy == 0 && !odds_of_doubt;
        if copies > 0 && agreed && witnessed && crowd.sides().len() == 1 {
            hub.violate(format!("S6: {copies} conflict copies, but only one side was changed"));
        }
        world.report(crowd.acts())
    })
}

/// Lives through 24 hours as a daemon does: it stays, looks again every minute, and starts anew where
/// it could not go on. Users work all the time on both sides.
pub(crate) fn daemon_day(seed: u64, folder: &Path, trace: Trace) -> Report {
    daemon_life(seed, folder, trace, Duration::from_secs(86_400), false)
}

/// Some hours of the same with a watcher that misses nothing and no other look at the disk.
pub(crate) fn watched_day(seed: u64, folder: &Path, trace: Trace) -> Report {
    daemon_life(seed, folder, trace, Duration::from_secs(2 * 3600), true)
}

fn daemon_life(seed: u64, folder: &Path, trace: Trace, span: Duration, watched: bool) -> Report {
    in_virtual_time(async {
        let mut dice = Dice::new(seed, 4);
        // Listings that lag have days of their own: in a whole day of them, together with failures, the
        // engine loses sight of something staged, which `doctor` then lists.
        let odds = Odds { quota_full: 0, disk_full: 0, stale: 0, ..Odds::draw(&mut dice) };
        let traits = DiskTraits::draw(&mut dice, &mut Dice::new(seed, 7));
        let mut nature = Nature::draw(&mut dice);
        nature.unproven = nature.by_path && Dice::new(seed, 8).chance(400);
        let hub = Arc::new(Hub::new(seed, odds, Pace::Jittery, trace));
        let mut world = World::new(hub.clone(), traits, nature, folder);
        let users = Dice::new(seed, 3);
        let crowd = Crowd::new(hub.clone(), world.disk.clone(), world.cloud.clone(), users);
        let crowd = Arc::new(crowd);
        hub.allow_haste(true);
        crowd.settle_in();
        if watched {
            world.watch();
        }
        let begun = tokio::time::Instant::now();
        while begun.elapsed() < span {
            world.cycles = (span - begun.elapsed()).as_secs() / 60 + 1;
            world.crowd = Some(crowd.clone());
            if let End::Done(result) = world.start(None).await
                && let Err(error) = &*result
                && let RunError::Fatal(_) = error
            {
                hub.violate(format!("S8: a daemon ended: {error}"));
            }
            tokio::time::sleep(Duration::from_secs(30)).await;
        }
        hub.do_scheduled(u64::MAX);
        crowd.finish();
        world.watched = false;
        world.settle().await;
        world.report(crowd.acts())
    })
}

impl World {
    async fn round(&mut self, crowd: &Arc<Crowd>, weather: &Weather, dice: &mut Dice) {
        self.cycles = if dice.chance(weather.daemon) { dice.between(2, 3) } else { 1 };
        for _ in 0..dice.between(0, 4) {
            crowd.act();
        }
        let reach = *dice.pick(&[8, 30, self.reach, self.reach]).expect("not empty");
        if dice.chance(weather.busy) {
            for _ in 0..dice.between(1, 4) {
                let crowd = crowd.clone();
                self.hub.schedule(dice.between(0, reach), Box::new(move || crowd.act()));
            }
        }
        if dice.chance(weather.deny)
            && let Some(path) = crowd.some_path(Side::Local)
        {
            self.hub.note(format_args!("local {path} cannot be read any more"));
            self.disk.deny(&path, true);
        }
        let unmounts = dice.chance(weather.unmount);
        if unmounts {
            let disk = self.disk.clone();
            self.hub.schedule(dice.between(0, reach), Box::new(move || disk.unmount(true)));
        }
        if dice.chance(weather.clock) {
            let hours = dice.between(1, 3) as i64 - 2;
            self.hub.step_clock(hours * 3_600_000_000_000);
        }
        let kill = dice.chance(weather.kill).then(|| dice.between(1, reach));
        let end = self.start(kill).await;
        self.hub.do_scheduled(u64::MAX);
        if matches!(end, End::Killed) && dice.chance(weather.power_cut) {
            self.disk.cut_power();
        }
        oracle::check_nothing_lost(&self.hub, &self.disk, &self.cloud);
        if unmounts {
            self.disk.unmount(false);
        }
        let rest_s = *dice.pick(&[0, 1, 10, 100]).expect("not empty");
        tokio::time::sleep(Duration::from_secs(rest_s)).await;
    }
}
