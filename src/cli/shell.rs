//! `completions` and `man`, both made from the command tree.

use clap::CommandFactory;

use super::args::Cli;
use super::out::Out;
use crate::exit::{Exit, Failure};

pub(super) fn completions(shell: clap_complete::Shell, out: &Out) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "foldsync", &mut script);
    out.write(&script);
    Ok(Exit::InSync)
}

/// One page for everything: the program first, then each command.
pub(super) fn man(out: &Out) -> Result<Exit, Failure> {
    let mut command = Cli::command();
    command.build();
    let failed = |error: std::io::Error| Failure::fatal(format!("write the manual page: {error}"));
    let mut page = Vec::new();
    let program = clap_mangen::Man::new(command.clone()).section("1");
    program.render(&mut page).map_err(failed)?;
    page.extend_from_slice(b".SH COMMANDS\n");
    for sub in
        command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help")
    {
        describe(sub, &mut page).map_err(failed)?;
    }
    out.write(&page);
    Ok(Exit::InSync)
}

fn describe(command: &clap::Command, page: &mut Vec<u8>) -> std::io::Result<()> {
    let mut inner: Vec<_> =
        command.get_subcommands().filter(|sub| sub.get_name() != "help").collect();
    if inner.is_empty() {
        inner.push(command);
    }
    for leaf in inner {
        let man = clap_mangen::Man::new(leaf.clone());
        let name = leaf.get_bin_name().unwrap_or(leaf.get_name());
        let about = leaf.get_about().map(ToString::to_string).unwrap_or_default();
        page.extend_from_slice(format!(".SS \"{name}\"\n{about}\n.PP\n").as_bytes());
        let mut section = Vec::new();
        man.render_options_section(&mut section)?;
        // The options are part of this command's text, not a chapter of their own.
        let text = String::from_utf8_lossy(&section).replace(".SH OPTIONS\n", "");
        page.extend_from_slice(text.as_bytes());
    }
    Ok(())
}
