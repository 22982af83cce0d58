//! `auth login/status/logout`.

use std::io::{BufRead as _, IsTerminal as _};

use super::args::{AuthCommand, LoginArgs};
use super::connect::connect;
use super::context::Context;
use super::remotes::failed;
use crate::clock::{Clock, SystemClock};
use crate::config::{RemoteConfig, RemoteKind};
use crate::exit::{Exit, Failure};
use crate::remote::RemoteError;
use crate::remote::auth::{
    Credentials, Granted, Origin, TerminalPrompt, browser_login, device_login, read_token,
};
use crate::remote::disktop::connect::Connection;
use crate::text::printable;

pub(super) fn run(command: &AuthCommand, context: &Context) -> Result<Exit, Failure> {
    match command {
        AuthCommand::Login(args) => login(args, context),
        AuthCommand::Status { remote } => status(remote, context),
        AuthCommand::Logout { remote } => logout(remote, context),
    }
}

fn login(args: &LoginArgs, context: &Context) -> Result<Exit, Failure> {
    let connection = connection(&args.remote, context)?;
    let granted = if args.token_stdin {
        let mut line = String::new();
        std::io::stdin()
            .lock()
            .read_line(&mut line)
            .map_err(|error| Failure::usage(format!("read the token: {error}")))?;
        read_token(&line).map_err(|error| failed(&error))?
    } else if args.password_stdin {
        return Err(Failure::usage("this remote has no passwords: use --device or --browser"));
    } else {
        super::runtime()?.block_on(ask(args, &connection, context)).map_err(|e| failed(&e))?
    };
    let vault = &connection.sources.vault;
    let known = vault.load().map_err(|error| failed(&error))?.unwrap_or_default();
    let credentials = Credentials {
        client_secret: known.client_secret,
        ..granted.credentials(SystemClock.now())
    };
    vault.store(&credentials).map_err(|error| failed(&error))?;
    context.out.line(format!("{}: logged in", printable(&args.remote)));
    tell_what_comes_first(&connection, context)?;
    Ok(Exit::InSync)
}

/// A credential from elsewhere would be used instead of the new login.
fn tell_what_comes_first(connection: &Connection, context: &Context) -> Result<(), Failure> {
    // What fails here fails at the next use, which says more about it.
    if let Ok(found) = super::runtime()?.block_on(connection.sources.find(&SystemClock))
        && found.origin != Origin::File
    {
        let origin = found.origin.describe();
        context
            .out
            .line(format!("      but the {origin} comes first: remove it to use this login"));
    }
    Ok(())
}

async fn ask(
    args: &LoginArgs,
    connection: &Connection,
    context: &Context,
) -> Result<Granted, RemoteError> {
    let open_browser = std::io::stdout().is_terminal() && !context.global.no_input;
    let mut prompt = TerminalPrompt { out: std::io::stderr(), open_browser };
    if args.browser {
        browser_login(&connection.http, &connection.app, &mut prompt).await
    } else {
        device_login(&connection.http, &connection.app, &mut prompt).await
    }
}

fn status(name: &str, context: &Context) -> Result<Exit, Failure> {
    let connection = connection(name, context)?;
    let clock = SystemClock;
    let found = super::runtime()?
        .block_on(connection.sources.find(&clock))
        .map_err(|error| failed(&error))?;
    let shown = printable(name);
    if found.credentials.access_token.is_none() && found.credentials.refresh_token.is_none() {
        let message = format!("{shown}: not logged in. Log in: foldsync auth login {shown}");
        return Err(Failure::new(Exit::LoginNeeded, message));
    }
    let expires = match found.credentials.expires_s {
        Some(at) if at <= clock.now().seconds() => ", to be renewed at the next use".to_owned(),
        Some(at) => {
            format!(", valid until {}", crate::clock::Timestamp::from_seconds(at).rfc3339())
        }
        None => String::new(),
    };
    context.out.line(format!("{shown}: logged in ({}{expires})", found.origin.describe()));
    Ok(Exit::InSync)
}

fn logout(name: &str, context: &Context) -> Result<Exit, Failure> {
    let connection = connection(name, context)?;
    connection.sources.vault.forget().map_err(|error| failed(&error))?;
    context.out.line(format!("{}: logged out on this computer", printable(name)));
    Ok(Exit::InSync)
}

fn connection(name: &str, context: &Context) -> Result<Connection, Failure> {
    let config = table(name, context)?;
    if let RemoteKind::Dir { .. } = config.kind {
        return Err(Failure::usage(format!("{}: a folder needs no login", printable(name))));
    }
    connect(name, &config, &context.state_dir()?).map_err(|error| error.failure(name))
}

fn table(name: &str, context: &Context) -> Result<RemoteConfig, Failure> {
    context.config()?.remotes.get(name).cloned().ok_or_else(|| {
        Failure::usage(format!("there is no remote `{}` in the configuration", printable(name)))
    })
}
