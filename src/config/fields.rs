//! One table of the file, key by key: types, ranges, words, and what nobody asked for.

use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{is_secret, nearest, one_of};
use super::units::Span;
use super::{Problem, TokenCommand};
use crate::daemon::hooks::Target;
use crate::plan::BrakeLimit;

type Value<'d> = &'d Spanned<DeValue<'d>>;

/// The keys of one table. Unknown keys are reported by `finish`.
pub(super) struct Fields<'d, 'p> {
    table: &'d DeTable<'d>,
    /// As in the file: `[limits]`; empty for the file itself.
    title: String,
    /// Where the table begins.
    pub(super) at: Range<usize>,
    known: Vec<&'static str>,
    problems: &'p mut Vec<Problem>,
}

impl<'d, 'p> Fields<'d, 'p> {
    pub(super) fn new(
        table: &'d DeTable<'d>,
        title: String,
        at: Range<usize>,
        problems: &'p mut Vec<Problem>,
    ) -> Fields<'d, 'p> {
        Fields { table, title, at, known: Vec::new(), problems }
    }

    pub(super) fn problem(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    fn value(&mut self, key: &'static str) -> Option<Value<'d>> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        self.table.get(key)
    }

    fn wrong_type(&mut self, key: &str, wanted: &str, value: Value<'_>) {
        let found = value.get_ref().type_str();
        let message = format!("`{key}` must be {wanted}, not {} {found}", article(found));
        self.problem(Problem::error(value.span(), message));
    }

    pub(super) fn wrong_word(&mut self, key: &str, word: &str, at: Range<usize>, allowed: &[&str]) {
        let near = nearest(word, allowed.iter().copied());
        let near = near.map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
        let help = format!("{near}allowed: {}", one_of(allowed.iter().copied()));
        self.problem(Problem::error(at, format!("`{word}` is not a value of `{key}`")).help(help));
    }

    pub(super) fn require(&mut self, key: &'static str) {
        if !self.table.contains_key(key) {
            let message = format!("{} needs `{key}`", self.title);
            self.problem(Problem::error(self.at.clone(), message));
        }
    }

    pub(super) fn text(&mut self, key: &'static str) -> Option<(String, Range<usize>)> {
        let value = self.value(key)?;
        match value.get_ref().as_str() {
            Some(text) => Some((text.to_owned(), value.span())),
            None => {
                self.wrong_type(key, "text in quotes", value);
                None
            }
        }
    }

    pub(super) fn plain(&mut self, key: &'static str) -> Option<String> {
        self.text(key).map(|(text, _)| text)
    }

    pub(super) fn required_text(&mut self, key: &'static str) -> Option<(String, Range<usize>)> {
        self.require(key);
        let (text, at) = self.text(key)?;
        if text.is_empty() {
            self.problem(Problem::error(at, format!("`{key}` is empty")));
            return None;
        }
        Some((text, at))
    }

    /// Text that a type reads, with that type's own words when it cannot.
    pub(super) fn parsed<T: FromStr<Err = String>>(&mut self, key: &'static str) -> Option<T> {
        let (text, at) = self.text(key)?;
        match text.parse() {
            Ok(value) => Some(value),
            Err(message) => {
                self.problem(Problem::error(at, format!("`{key}`: {message}")));
                None
            }
        }
    }

    pub(super) fn span(&mut self, key: &'static str, seconds_min: u64) -> Option<Duration> {
        let at = self.value(key)?.span();
        let Span(duration) = self.parsed(key)?;
        let min = Duration::from_secs(seconds_min);
        if duration < min {
            let message = format!("`{key}` must be at least {}", Span(min));
            self.problem(Problem::error(at, message));
            return None;
        }
        Some(duration)
    }

    /// Text, or a bare number for the number alone.
    pub(super) fn brake_limit(&mut self, key: &'static str) -> Option<BrakeLimit> {
        if self.value(key)?.get_ref().is_integer() {
            let count = u64::try_from(self.integer(key, 0..=i64::MAX)?).ok();
            return Some(BrakeLimit { share_percent: None, count });
        }
        self.parsed(key)
    }

    /// The same, or `off`: `Some(None)`.
    pub(super) fn brake_limit_or_off(&mut self, key: &'static str) -> Option<Option<BrakeLimit>> {
        if self.is_off(key)? {
            return Some(None);
        }
        self.brake_limit(key).map(Some)
    }

    fn is_off(&mut self, key: &'static str) -> Option<bool> {
        Some(self.value(key)?.get_ref().as_str() == Some("off"))
    }

    pub(super) fn word<T: Clone>(
        &mut self,
        key: &'static str,
        table: &[(&'static str, T)],
    ) -> Option<T> {
        let (text, at) = self.text(key)?;
        if let Some((_, value)) = table.iter().find(|(word, _)| *word == text) {
            return Some(value.clone());
        }
        let words: Vec<&str> = table.iter().map(|(word, _)| *word).collect();
        self.wrong_word(key, &text, at, &words);
        None
    }

    pub(super) fn boolean(&mut self, key: &'static str) -> Option<bool> {
        let value = self.value(key)?;
        let read = value.get_ref().as_bool();
        if read.is_none() {
            self.wrong_type(key, "true or false", value);
        }
        read
    }

    pub(super) fn integer(&mut self, key: &'static str, range: RangeInclusive<i64>) -> Option<i64> {
        let value = self.value(key)?;
        let Some(integer) = value.get_ref().as_integer() else {
            self.wrong_type(key, "a whole number", value);
            return None;
        };
        match i64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) if range.contains(&number) => Some(number),
            _ => {
                let allowed = match *range.end() {
                    i64::MAX => format!("must be at least {}", range.start()),
                    end => format!("must be from {} to {end}", range.start()),
                };
                self.problem(Problem::error(value.span(), format!("`{key}` {allowed}")));
                None
            }
        }
    }

    pub(super) fn required_integer(&mut self, key: &'static str) -> Option<i64> {
        self.require(key);
        self.integer(key, 0..=i64::MAX)
    }

    pub(super) fn count(&mut self, key: &'static str, range: RangeInclusive<i64>) -> Option<usize> {
        self.integer(key, range).and_then(|number| usize::try_from(number).ok())
    }

    /// A number of things per second.
    pub(super) fn rate(&mut self, key: &'static str) -> Option<f64> {
        let value = self.value(key)?;
        let number = match value.get_ref() {
            DeValue::Integer(whole) => whole.as_str().parse::<f64>().ok(),
            DeValue::Float(float) => float.as_str().parse::<f64>().ok(),
            DeValue::String(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => {
                self.wrong_type(key, "a number, such as 4 or 0.66", value);
                return None;
            }
        };
        let sane = number.filter(|rate| (0.001..=10_000.0).contains(rate));
        if sane.is_none() {
            let message = format!("`{key}` must be from 0.001 to 10000");
            self.problem(Problem::error(value.span(), message));
        }
        sane
    }

    pub(super) fn texts(&mut self, key: &'static str) -> Option<Vec<String>> {
        let value = self.value(key)?;
        let Some(items) = value.get_ref().as_array() else {
            self.wrong_type(key, "a list of texts, such as [\"*.tmp\"]", value);
            return None;
        };
        let mut texts = Vec::new();
        for item in items.iter() {
            match item.get_ref().as_str() {
                Some(text) => texts.push(text.to_owned()),
                None => self.wrong_type(key, "a list of texts", item),
            }
        }
        Some(texts)
    }

    /// A shell line, or a list of the program and its arguments.
    pub(super) fn token_command(&mut self, key: &'static str) -> Option<TokenCommand> {
        if self.value(key)?.get_ref().is_array() {
            return self.texts(key).map(TokenCommand::Argv);
        }
        self.plain(key).map(TokenCommand::Shell)
    }

    /// A list of a program and its arguments, the address of a webhook, or `off`: `Some(None)`.
    pub(super) fn hook(&mut self, key: &'static str) -> Option<Option<Target>> {
        const FORM: &str = "write [\"PROGRAM\", \"ARGUMENT\"], \"https://HOST/PATH\" or \"off\"";
        let value = self.value(key)?;
        if value.get_ref().is_array() {
            let argv = self.texts(key)?;
            if argv.first().is_none_or(String::is_empty) {
                let message = format!("`{key}` names no program");
                self.problem(Problem::error(value.span(), message).help(FORM));
                return None;
            }
            return Some(Some(Target::Command(argv)));
        }
        let (text, at) = self.text(key)?;
        if text == "off" {
            return Some(None);
        }
        let url = super::hooks::webhook(&text);
        if url.is_none() {
            let message = format!("`{key}` is neither a command nor an address");
            self.problem(Problem::error(at, message).help(FORM));
        }
        Some(Some(Target::Webhook(url?)))
    }

    /// A duration of at least `seconds_min`, or `off`: `Some(None)`.
    pub(super) fn span_or_off(
        &mut self,
        key: &'static str,
        seconds_min: u64,
    ) -> Option<Option<Duration>> {
        if self.is_off(key)? {
            return Some(None);
        }
        self.span(key, seconds_min).map(Some)
    }

    /// An absolute path, or one below `~`.
    pub(super) fn path(
        &mut self,
        key: &'static str,
        home: Option<&Path>,
    ) -> Option<(PathBuf, Range<usize>)> {
        let (text, at) = self.text(key)?;
        match super::locate::expand(&text, home) {
            Ok(path) => Some((path, at)),
            Err(message) => {
                self.problem(Problem::error(at, format!("`{key}`: {message}")));
                None
            }
        }
    }

    /// The address of a service. Empty when there is none or it cannot be used.
    pub(super) fn url(
        &mut self,
        key: &'static str,
        default: Option<&str>,
        allow_insecure: bool,
    ) -> String {
        if default.is_none() {
            self.require(key);
        }
        let given = self.optional_url(key, allow_insecure);
        given.or(default.map(str::to_owned)).unwrap_or_default()
    }

    pub(super) fn optional_url(
        &mut self,
        key: &'static str,
        allow_insecure: bool,
    ) -> Option<String> {
        let (text, at) = self.text(key)?;
        let url = url::Url::parse(&text).ok().filter(|url| url.has_host());
        let Some(url) = url.filter(|url| matches!(url.scheme(), "http" | "https")) else {
            let message = format!("`{key}`: `{text}` is not an address");
            self.problem(
                Problem::error(at, message).help("write https://HOST or http://HOST:PORT"),
            );
            return None;
        };
        if !url.username().is_empty() || url.password().is_some() {
            self.problem(Problem::error(at, format!("`{key}` must not contain a login")));
            return None;
        }
        // SE-12: everybody on the way can read plain HTTP.
        if url.scheme() == "http" && !allow_insecure && !is_this_computer(&url) {
            let message =
                format!("`{key}` is not encrypted: the login and all files can be read on the way");
            self.problem(
                Problem::warning(at, message).help("use https, or say allow_insecure = true"),
            );
        }
        Some(text.trim_end_matches('/').to_owned())
    }

    pub(super) fn table(&mut self, key: &'static str) -> Option<(&'d DeTable<'d>, Range<usize>)> {
        let value = self.value(key)?;
        let table = value.get_ref().as_table();
        if table.is_none() {
            self.wrong_type(key, &format!("a table: [{key}]"), value);
        }
        table.map(|table| (table, value.span()))
    }

    /// An array of tables; nothing if there is none.
    pub(super) fn tables(&mut self, key: &'static str) -> Vec<(&'d DeTable<'d>, Range<usize>)> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let Some(items) = value.get_ref().as_array() else {
            self.wrong_type(
                key,
                &format!("a list of tables, each beginning with [[{key}]]"),
                value,
            );
            return Vec::new();
        };
        let mut tables = Vec::new();
        for item in items.iter() {
            match item.get_ref().as_table() {
                Some(table) => tables.push((table, item.span())),
                None => self.wrong_type(
                    key,
                    &format!("a list of tables, each beginning with [[{key}]]"),
                    item,
                ),
            }
        }
        tables
    }

    /// Reports every key that nobody asked for.
    pub(super) fn finish(self) -> &'p mut Vec<Problem> {
        for key in self.table.keys() {
            let name: &str = key.get_ref();
            if self.known.contains(&name) {
                continue;
            }
            let place = match self.title.as_str() {
                "" => String::new(),
                title => format!(" in {title}"),
            };
            let problem = Problem::error(key.span(), format!("unknown key `{name}`{place}"));
            self.problems.push(match nearest(name, self.known.iter().copied()) {
                Some(near) => problem.help(format!("did you mean `{near}`?")),
                None if is_secret(name) => problem.help(
                    "secrets do not live in this file: use the environment, token_command or `foldsync auth login`",
                ),
                None => problem.help(format!("allowed: {}", one_of(self.known.iter().copied()))),
            });
        }
        self.problems
    }
}

fn article(word: &str) -> &'static str {
    if word.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" }
}

fn is_this_computer(url: &url::Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}
