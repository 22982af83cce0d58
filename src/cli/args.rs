//! The command tree and its help texts. Nothing here runs anything.

use std::path::PathBuf;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum, ValueHint};

use crate::config::units::{Size, Span};
use crate::daemon::control::Keep;
use crate::plan::BrakeLimit;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default())
    .placeholder(AnsiColor::Cyan.on_default());

const EXIT_CODES: &str = "\
Exit codes: 0 in sync, 1 some items failed, 2 usage, 3 conflicts or skipped items remain,
4 held by a safety guard, 5 remote unavailable, 6 another instance owns the pair, 7 fatal,
8 stopped at --max-transfer, 10 stopped at --max-duration, 77 login needed,
78 configuration invalid, 130 interrupted.";

/// What `--wait` without a time stands for.
const FOREVER: &str = "3650d";

/// Keeps a folder and a cloud drive equal, in both directions, and never loses a byte.
#[derive(Debug, Parser)]
#[command(name = "foldsync", version, styles = STYLES, after_help = EXIT_CODES)]
#[command(propagate_version = false, subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// The configuration file
    #[arg(long, global = true, value_name = "FILE", env = "FOLDSYNC_CONFIG", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// Where databases and credentials are kept
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub state_dir: Option<PathBuf>,
    /// Log more: -v what is done, -vv why
    #[arg(short, long, global = true, action = ArgAction::Count, conflicts_with = "quiet")]
    pub verbose: u8,
    /// Print only results and errors
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// How logs are written to standard error
    #[arg(long, global = true, value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Never ask anything, even on a terminal
    #[arg(long, global = true)]
    pub no_input: bool,
    /// When to use colours (NO_COLOR is honoured)
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t = ColorWhen::Auto)]
    pub color: ColorWhen,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ColorWhen {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make both sides equal, and keep them so; with --once, end then
    #[command(after_help = "\
Examples:
  foldsync sync                             keep all pairs in sync, as `foldsync daemon` does
  foldsync sync --once docs                 the pair `docs` of sync.toml
  foldsync sync --once -n                   only show what would be done
  foldsync sync --once --local ~/Documents --remote dir:/mnt/nas/Documents
                                            without any configuration")]
    Sync(SyncArgs),
    /// Keep pairs in sync until stopped: what a service runs
    Daemon(DaemonArgs),
    /// Show what a sync would do and why, and change nothing
    #[command(after_help = "\
Examples:
  foldsync plan docs
  foldsync plan --json | jq .op")]
    Plan(PlanArgs),
    /// Show how the pairs are doing, or one path
    #[command(after_help = "\
Examples:
  foldsync status                           all pairs
  foldsync status ~/Documents/report.docx   one file
  foldsync status --check                   the exit code alone, for monitoring")]
    Status(StatusArgs),
    /// Have the daemon leave a pair alone, also after a restart
    #[command(after_help = "\
Examples:
  foldsync pause                            all pairs, until `foldsync resume`
  foldsync pause docs --for 2h")]
    Pause {
        #[command(flatten)]
        pairs: DaemonPairs,
        /// Go on by itself after that time, such as 30m
        #[arg(long = "for", value_name = "DUR")]
        span: Option<Span>,
    },
    /// End a pause
    Resume(DaemonPairs),
    /// Have the daemon sync now; returns when the pair is in sync or cannot get further
    Flush(DaemonPairs),
    /// Have the daemon look at everything on both sides
    Rescan {
        #[command(flatten)]
        pairs: DaemonPairs,
        /// Read every local file instead of believing its time and size
        #[arg(long)]
        deep: bool,
    },
    /// End the daemon
    Stop,
    /// Have the daemon read its configuration again
    ///
    /// Pairs that are as before go on; their hooks, the level of the log and the place of the socket
    /// change under them. If the new configuration is invalid, the old one stays in force. SIGHUP does
    /// the same.
    Reload,
    /// Files that both sides changed, of which both versions were kept
    #[command(subcommand)]
    Conflicts(ConflictsCommand),
    /// Deletions and edits that a safety guard holds back until you say so
    #[command(subcommand)]
    Held(HeldCommand),
    /// Local copies of what a sync removed or replaced
    #[command(subcommand)]
    Trash(TrashCommand),
    /// What happened
    History(HistoryArgs),
    /// Why a path is, or is not, in sync
    Explain(ExplainArgs),
    /// Compare both sides by content and report differences
    Verify(VerifyArgs),
    /// List a folder of a remote
    #[command(after_help = "\
Examples:
  foldsync ls nas:/photos
  foldsync ls dir:/mnt/nas --json")]
    Ls(LsArgs),
    /// How much room a remote has
    About(AboutArgs),
    /// Make a link by which others can fetch a file or folder
    Share(ShareArgs),
    /// Log in to a remote, and see or end a login
    #[command(subcommand)]
    Auth(AuthCommand),
    /// Check the configuration and this computer, and say what to do
    Doctor(DoctorArgs),
    /// Check or show the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Write a commented configuration to start from
    Init,
    /// Print the completion script of a shell
    #[command(after_help = "\
Example:
  foldsync completions bash > ~/.local/share/bash-completion/completions/foldsync")]
    Completions { shell: clap_complete::Shell },
    /// Print the manual page
    #[command(after_help = "\
Example:
  foldsync man | man -l -")]
    Man,
}

impl Command {
    /// Whether it stays and keeps pairs in sync: its log is set up from the configuration.
    pub fn is_daemon(&self) -> bool {
        matches!(self, Command::Daemon(_))
            || matches!(self, Command::Sync(args) if !args.is_one_run())
    }
}

/// Which pairs a command is about.
#[derive(Clone, Debug, Default, Args)]
pub struct AdHoc {
    /// A local folder, for use without a configuration
    #[arg(long, value_name = "DIR", requires = "remote", value_hint = ValueHint::DirPath)]
    pub local: Option<PathBuf>,
    /// The other side of --local: dir:PATH, or NAME:/PATH of a configured remote
    #[arg(long, value_name = "REMOTE", requires = "local")]
    pub remote: Option<String>,
    /// Which way changes go with --local: two-way, mirror-up, mirror-down, backup-up, backup-down
    #[arg(long, requires = "local", value_parser = mode, value_name = "MODE")]
    pub mode: Option<crate::plan::Mode>,
    /// Who wins with --local if both sides changed: keep-both, newer, older, larger, local, remote
    #[arg(long, requires = "local", value_parser = conflict_policy, value_name = "POLICY")]
    pub conflict: Option<crate::plan::ConflictPolicy>,
}

#[derive(Debug, Args)]
pub struct SyncArgs {
    /// Names of pairs; all, if none is given
    #[arg(value_name = "PAIR", conflicts_with = "local")]
    pub pairs: Vec<String>,
    /// Sync until both sides are equal or nothing more can be done, then exit
    #[arg(long)]
    pub once: bool,
    /// Show what would be done and change nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Show what moves, how fast, and for how long, on standard error: live on a terminal, a line a
    /// minute elsewhere, as JSON with --log-format json
    #[arg(short = 'P', long)]
    pub progress: bool,
    /// One JSON object for each operation, and a summary as the last line
    #[arg(long)]
    pub json: bool,
    /// How many deletions go through without a person: N, N%, or N%,N
    #[arg(long, value_name = "LIMIT")]
    pub max_delete: Option<BrakeLimit>,
    /// Stop after that many bytes, such as 10G
    #[arg(long, value_name = "SIZE")]
    pub max_transfer: Option<Size>,
    /// Stop after that time, such as 30m
    #[arg(long, value_name = "DUR")]
    pub max_duration: Option<Span>,
    /// Lift the guards against mass deletions and edits for this run
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub ad_hoc: AdHoc,
}

#[derive(Debug, Args)]
pub struct DaemonArgs {
    /// Names of pairs; all, if none is given
    #[arg(value_name = "PAIR", conflicts_with = "local")]
    pub pairs: Vec<String>,
    /// Show on standard error what moves
    #[arg(short = 'P', long)]
    pub progress: bool,
    #[command(flatten)]
    pub ad_hoc: AdHoc,
}

#[derive(Debug, Args)]
pub struct DaemonPairs {
    /// Names of pairs; all that the daemon keeps, if none is given
    #[arg(value_name = "PAIR")]
    pub pairs: Vec<String>,
}

#[derive(Debug, Args)]
pub struct PlanArgs {
    /// Name of a pair; all, if none is given
    #[arg(value_name = "PAIR", conflicts_with = "local")]
    pub pair: Option<String>,
    /// One JSON object for each operation
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub ad_hoc: AdHoc,
}

#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Name of a pair, or a path in a pair's local folder; all pairs, if none is given
    #[arg(value_name = "PAIR or PATH")]
    pub target: Option<String>,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
    /// Exit with the code that a sync would have left, and print one line
    #[arg(long)]
    pub check: bool,
    /// Show it again whenever something changes; on a terminal, live
    #[arg(long, conflicts_with_all = ["wait", "check"])]
    pub watch: bool,
    /// Look at everything first, wait until the pairs are in sync or cannot get further, but no
    /// longer than DUR, and exit with the code of that
    #[arg(long, value_name = "DUR", num_args = 0..=1, require_equals = true, default_missing_value = FOREVER)]
    pub wait: Option<Span>,
    #[command(flatten)]
    pub ad_hoc: AdHoc,
}

impl SyncArgs {
    /// Without these flags it is what a service runs.
    pub fn is_one_run(&self) -> bool {
        self.once || self.dry_run
    }
}

/// A pair for commands that are about one thing in it.
#[derive(Clone, Debug, Default, Args)]
pub struct OnePair {
    /// Name of the pair, where several are configured
    #[arg(long, value_name = "PAIR", conflicts_with = "local")]
    pub pair: Option<String>,
    #[command(flatten)]
    pub ad_hoc: AdHoc,
}

#[derive(Debug, Subcommand)]
pub enum ConflictsCommand {
    /// List open conflicts
    List(ListArgs),
    /// Show one conflict: both files, their sizes and times
    Show {
        /// Number from `conflicts list`
        id: i64,
        #[command(flatten)]
        pair: OnePair,
    },
    /// Decide which version stays; the other one goes to the trash
    #[command(after_help = "\
Example:
  foldsync conflicts resolve 3 --keep local")]
    Resolve {
        /// Number from `conflicts list`
        id: i64,
        /// The version to keep under the original name
        #[arg(long, value_enum)]
        keep: Keep,
        #[command(flatten)]
        pair: OnePair,
    },
}

#[derive(Debug, Args)]
pub struct ListArgs {
    /// Name of a pair; all, if none is given
    #[arg(value_name = "PAIR", conflicts_with = "local")]
    pub pair: Option<String>,
    /// One JSON object for each line
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub ad_hoc: AdHoc,
}

#[derive(Debug, Subcommand)]
pub enum HeldCommand {
    /// List what is held
    List(ListArgs),
    /// Show every file that one held set would delete or replace
    Show {
        /// Number from `held list`
        id: i64,
        #[command(flatten)]
        pair: OnePair,
    },
    /// Let the next sync carry out exactly this set, once
    Approve {
        /// Number from `held list`
        id: i64,
        #[command(flatten)]
        pair: OnePair,
    },
    /// Let the next sync bring the files back instead
    Reject {
        /// Number from `held list`
        id: i64,
        #[command(flatten)]
        pair: OnePair,
    },
}

#[derive(Debug, Subcommand)]
pub enum TrashCommand {
    /// List what can be brought back
    List(ListArgs),
    /// Bring something back to where it was, or elsewhere; never replaces anything
    #[command(after_help = "\
Examples:
  foldsync trash restore report.docx              the newest version of that path
  foldsync trash restore 20261121-081500/report.docx --to old-report.docx")]
    Restore {
        /// A path in the pair, or an item as `trash list` shows it
        item: String,
        /// Another path in the pair to restore to
        #[arg(long, value_name = "PATH")]
        to: Option<String>,
        #[command(flatten)]
        pair: OnePair,
    },
    /// Delete what is in the trash, for good
    Empty {
        /// Name of a pair; all, if none is given
        #[arg(value_name = "PAIR", conflicts_with = "local")]
        pair: Option<String>,
        /// Only what has been there longer, such as 30d
        #[arg(long, value_name = "DUR")]
        older_than: Option<Span>,
        #[command(flatten)]
        ad_hoc: AdHoc,
    },
}

#[derive(Debug, Args)]
pub struct HistoryArgs {
    /// Only this file or folder: a path in a pair, or on this computer
    pub path: Option<String>,
    /// Only the last while, such as 1h or 7d
    #[arg(long, value_name = "DUR")]
    pub since: Option<Span>,
    /// At most that many lines of each pair
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub limit: u32,
    /// One JSON object for each line
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub pair: OnePair,
}

#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// A path in a pair, or on this computer
    pub path: String,
    #[command(flatten)]
    pub pair: OnePair,
}

#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Name of a pair; all, if none is given
    #[arg(value_name = "PAIR", conflicts_with = "local")]
    pub pair: Option<String>,
    /// One JSON object for each difference
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub ad_hoc: AdHoc,
}

#[derive(Debug, Args)]
pub struct LsArgs {
    /// NAME:/PATH or dir:PATH
    pub remote: String,
    /// One JSON object for each entry
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct AboutArgs {
    /// NAME, or dir:PATH
    pub remote: String,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct ShareArgs {
    /// A path in a pair's local folder, or NAME:/PATH
    pub path: String,
}

#[derive(Debug, Subcommand)]
pub enum AuthCommand {
    /// Log in
    #[command(after_help = "\
Examples:
  foldsync auth login top                   shows a code to enter on any device
  foldsync auth login top --browser         opens a browser on this computer
  foldsync auth login top --token-stdin < token.json

The login is kept in a file that only you can read. Whatever is found first is used: FOLDSYNC_TOP_TOKEN
in the environment, the systemd credential foldsync-top-token, the remote's token_command, the desktop's
keyring, that file. Each holds a bare token or a JSON object with access_token, refresh_token and
expires_in. To put it into the keyring of a Linux desktop:

  secret-tool store --label foldsync service foldsync remote top < token.json

The keyring is asked where there is a session bus and secret-tool (on macOS: security), for at most three
seconds. A pair that the service has renewed since is kept in the file, whatever it began with.")]
    Login(LoginArgs),
    /// Whether there is a login, and where it comes from
    Status { remote: String },
    /// Forget the login on this computer
    Logout { remote: String },
}

#[derive(Debug, Args)]
pub struct LoginArgs {
    /// A remote of sync.toml
    pub remote: String,
    /// Show a code and a link; approve on any device
    #[arg(long, group = "way")]
    pub device: bool,
    /// Open a browser on this computer
    #[arg(long, group = "way")]
    pub browser: bool,
    /// Read the password from one line of standard input
    #[arg(long, group = "way")]
    pub password_stdin: bool,
    /// Read the token from one line of standard input
    #[arg(long, group = "way")]
    pub token_stdin: bool,
}

#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Look at this remote only: tries out in a scratch folder what the service does not document,
    /// and keeps what it finds for later syncs
    pub remote: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Report everything that is wrong; exits with 78 if anything is
    Check,
    /// Print the effective configuration, with defaults and without secrets
    Show,
}

fn mode(text: &str) -> Result<crate::plan::Mode, String> {
    word(&crate::config::MODES, text)
}

fn conflict_policy(text: &str) -> Result<crate::plan::ConflictPolicy, String> {
    word(&crate::config::CONFLICT_POLICIES, text)
}

fn word<T: Copy>(table: &[(&'static str, T)], text: &str) -> Result<T, String> {
    let found = table.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
    found.ok_or_else(|| {
        format!("allowed: {}", crate::config::problem::one_of(table.iter().map(|(word, _)| *word)))
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_tree_has_no_contradictions() {
        super::Cli::command().debug_assert();
    }
}
