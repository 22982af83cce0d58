//! A configuration as TOML text: every effective value, no secret. What it writes reads the same.

use std::fmt::Write as _;

use toml::Value;

use super::units::{Size, Span};
use super::{
    CONFLICT_POLICIES, Config, Limits, MODES, PairConfig, RemoteConfig, RemoteKind, TokenCommand,
    UPLOAD_MODES, word_of,
};

pub(super) fn show(config: &Config) -> String {
    let mut out = Table::new("[daemon]");
    out.text("log", &config.daemon.log);
    if let Some(socket) = &config.daemon.socket {
        out.text("socket", &socket.to_string_lossy());
    }
    let alert = config.daemon.alert_after.map(|after| Span(after).to_string());
    out.text("alert_after", &alert.unwrap_or_else(|| "off".to_owned()));
    out.text("low_space", &Size(config.daemon.low_space).to_string());
    out.title("[limits]");
    limits(&mut out, &config.limits);
    out.title("[hooks]");
    config.hooks.rows().into_iter().for_each(|(key, value)| out.value(key, value));
    for (name, remote) in &config.remotes {
        out.title(&format!("[remotes.{name}]"));
        remote_table(&mut out, remote);
        out.title(&format!("[remotes.{name}.limits]"));
        limits(&mut out, &remote.limits);
    }
    for pair in &config.pairs {
        out.title("[[pair]]");
        pair_table(&mut out, pair);
        if pair.hooks != config.hooks {
            out.title("[pair.hooks]");
            pair.hooks.rows().into_iter().for_each(|(key, value)| out.value(key, value));
        }
    }
    out.0
}

struct Table(String);

impl Table {
    fn new(title: &str) -> Table {
        Table(format!("{title}\n"))
    }

    fn title(&mut self, title: &str) {
        let _ = write!(self.0, "\n{title}\n");
    }

    fn value(&mut self, key: &str, value: Value) {
        let _ = writeln!(self.0, "{key} = {value}");
    }

    fn text(&mut self, key: &str, text: &str) {
        self.value(key, Value::String(text.to_owned()));
    }

    fn optional(&mut self, key: &str, text: Option<&String>) {
        if let Some(text) = text {
            self.text(key, text);
        }
    }

    fn texts(&mut self, key: &str, texts: &[String]) {
        self.value(key, Value::Array(texts.iter().cloned().map(Value::String).collect()));
    }
}

fn limits(out: &mut Table, limits: &Limits) {
    out.text("upload", &limits.upload.to_string());
    out.text("download", &limits.download.to_string());
    out.value("requests_per_second", Value::Float(limits.requests_per_second));
    let whole = |number: usize| Value::Integer(i64::try_from(number).unwrap_or(i64::MAX));
    out.value("parallel_uploads", whole(limits.parallel_uploads));
    out.value("parallel_downloads", whole(limits.parallel_downloads));
}

fn remote_table(out: &mut Table, remote: &RemoteConfig) {
    out.text("kind", remote.kind.word());
    match &remote.kind {
        RemoteKind::Disktop { base_url, client_id, client_secret } => {
            out.text("base_url", base_url);
            out.optional("client_id", client_id.as_ref());
            if client_secret.is_some() {
                out.text("client_secret", "(redacted)");
            }
        }
        RemoteKind::Gokuai { base_url, client_id, username, mount_id } => {
            out.text("base_url", base_url);
            out.optional("client_id", client_id.as_ref());
            out.optional("username", username.as_ref());
            out.value("mount_id", Value::Integer(*mount_id));
        }
        RemoteKind::Ctfile { base_url } => out.text("base_url", base_url),
        RemoteKind::Tuchuang { base_url, user, upload_mode, storage_base } => {
            out.text("base_url", base_url);
            out.text("user", user);
            out.text("upload_mode", word_of(&UPLOAD_MODES, upload_mode));
            out.optional("storage_base", storage_base.as_ref());
        }
        RemoteKind::Dir { path } => out.text("path", &path.to_string_lossy()),
    }
    if remote.allow_insecure {
        out.value("allow_insecure", Value::Boolean(true));
    }
    match &remote.token_command {
        // The command may hold what it should only fetch.
        Some(TokenCommand::Shell(_) | TokenCommand::Argv(_)) => {
            out.text("token_command", "(redacted)")
        }
        None => {}
    }
}

fn pair_table(out: &mut Table, pair: &PairConfig) {
    out.text("name", &pair.name);
    out.text("local", &pair.local.to_string_lossy());
    out.text("remote", &pair.remote.to_string());
    out.text("mode", word_of(&MODES, &pair.mode));
    out.text("poll_interval", &Span(pair.poll_interval).to_string());
    out.text("poll_interval_max", &Span(pair.poll_interval_max).to_string());
    out.text("sweep_interval", &Span(pair.sweep_interval).to_string());
    out.text("settle", &Span(pair.settle).to_string());
    out.texts("ignore", &pair.ignore);
    out.text("conflict", word_of(&CONFLICT_POLICIES, &pair.conflict));
    out.text("max_delete", &pair.max_delete.to_string());
    let off = || "off".to_owned();
    out.text("max_change", &pair.max_change.map_or_else(off, |limit| limit.to_string()));
    out.text("trash_keep", &Span(pair.trash_keep).to_string());
    out.text("symlinks", if pair.symlinks_follow { "follow" } else { "skip" });
}
