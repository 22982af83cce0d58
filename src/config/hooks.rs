//! `[hooks]`: which program is run, or which address is called, when something happens.
//!
//! Only reads and shows; running them is the daemon's part.

use std::time::Duration;

use toml::Value;
use toml::de::DeTable;
use url::Url;

use super::fields::Fields;
use super::units::Span;
use crate::daemon::hooks::{Hook, Occasion, Target};

/// The hooks of one pair, or of all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookSet {
    /// In the order of `Occasion::ALL`; `None` where nobody is told.
    targets: [Option<Target>; Occasion::ALL.len()],
    /// A hook that takes longer is ended.
    pub timeout: Duration,
}

impl Default for HookSet {
    fn default() -> HookSet {
        HookSet { targets: Default::default(), timeout: Duration::from_secs(30) }
    }
}

impl HookSet {
    /// The keys of a table, on top of what holds without it.
    pub(super) fn read(mut fields: Fields<'_, '_>, defaults: HookSet) -> HookSet {
        let mut set = defaults;
        for (target, on) in set.targets.iter_mut().zip(Occasion::ALL) {
            if let Some(chosen) = fields.hook(on.word()) {
                *target = chosen;
            }
        }
        set.timeout = fields.span("timeout", 1).unwrap_or(set.timeout);
        fields.finish();
        set
    }

    /// What the daemon is to do.
    pub fn hooks(&self) -> Vec<Hook> {
        let targets = self.targets.iter().zip(Occasion::ALL);
        let hook = |(target, on): (&Option<Target>, Occasion)| {
            Some(Hook { on, target: target.clone()?, limit: self.timeout })
        };
        targets.filter_map(hook).collect()
    }

    /// Keys and values that make this set of any other. What may be a secret is left out.
    pub(super) fn rows(&self) -> Vec<(&'static str, Value)> {
        let targets = self.targets.iter().zip(Occasion::ALL);
        let mut rows: Vec<(&str, Value)> =
            targets.map(|(target, on)| (on.word(), shown(target.as_ref()))).collect();
        rows.push(("timeout", Value::String(Span(self.timeout).to_string())));
        rows
    }
}

/// Arguments and the path of an address may hold what lets others in.
fn shown(target: Option<&Target>) -> Value {
    match target {
        None => Value::String("off".to_owned()),
        Some(Target::Webhook(url)) => {
            let mut shown = url.clone();
            let _ = shown.set_username("");
            let _ = shown.set_password(None);
            let bare = shown.path() == "/" && shown.query().is_none();
            shown.set_query(None);
            shown.set_fragment(None);
            shown.set_path(if bare { "" } else { "redacted" });
            Value::String(shown.into())
        }
        Some(Target::Command(argv)) => {
            let program = argv.first().cloned().unwrap_or_default();
            let rest = (argv.len() > 1).then(|| "(redacted)".to_owned());
            Value::Array(std::iter::once(program).chain(rest).map(Value::String).collect())
        }
    }
}

/// The table of the hooks, if there is one, on top of the defaults.
pub(super) fn of_table(
    table: Option<(&DeTable<'_>, std::ops::Range<usize>)>,
    title: &str,
    defaults: &HookSet,
    problems: &mut Vec<super::Problem>,
) -> HookSet {
    match table {
        Some((table, at)) => {
            let fields = Fields::new(table, title.to_owned(), at, problems);
            HookSet::read(fields, defaults.clone())
        }
        None => defaults.clone(),
    }
}

/// An address that JSON can be posted to.
pub(super) fn webhook(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    (url.has_host() && matches!(url.scheme(), "http" | "https")).then_some(url)
}
