//! `doctor REMOTE`: tries out what the service does not document, keeps what was found, and says what
//! follows from it. Lists what earlier runs left on the service, and removes none of it.

use super::{Report, Verdict};
use crate::cli::connect::connect;
use crate::cli::context::{Context, shown};
use crate::config::RemoteConfig;
use crate::exit::Failure;
use crate::remote::FormRule;
use crate::remote::disktop::Measured;
use crate::remote::disktop::leftovers::{Leftover, LeftoverKind};
use crate::remote::disktop::measure::{Findings, PagesFound, SameNameFound};
use crate::text::{printable, size};
use crate::tree::RelPath;

/// Signed links and tokens stop working with a clock that is further off.
const SKEW_MAX_S: u64 = 60;
/// The longest name that any local file system holds, in characters.
const LOCAL_CHARS_MAX: usize = 255;

pub(super) fn measure(
    name: &str,
    remote: &RemoteConfig,
    context: &Context,
    report: &mut Report<'_>,
) -> Result<(), Failure> {
    let state_dir = context.state_dir()?;
    let connection = connect(name, remote, &state_dir).map_err(|error| error.failure(name))?;
    let disktop = connection.open(RelPath::root(), Measured::NOTHING);
    let failed = |error| crate::cli::remotes::failed(&error);
    let runtime = crate::cli::runtime()?;
    let found = runtime.block_on(disktop.measure()).map_err(failed)?;
    found.store(&state_dir, name).map_err(|error| {
        Failure::fatal(format!("keep what was measured in {}: {error}", shown(&state_dir)))
    })?;
    tell_names(&found, report);
    tell_content(&found, report);
    let leftovers = runtime.block_on(disktop.leftovers()).map_err(failed)?;
    tell_leftovers(&leftovers, report);
    Ok(())
}

fn tell_names(found: &Findings, report: &mut Report<'_>) {
    report.fine(match found.same_name {
        SameNameFound::Replaces => "an upload replaces a file of the same name: edits are sent so",
        SameNameFound::AutoRenames => {
            "an upload of a taken name gets another name: edits are swapped in"
        }
        SameNameFound::Rejects => "an upload of a taken name is refused: edits are swapped in",
        SameNameFound::Duplicates => {
            "an upload of a taken name makes a second file of that name: edits are swapped in"
        }
    });
    report.fine(match found.ignores_case {
        true => "names that differ only in case are one name there: one of such a pair is held",
        false => "names that differ only in case are two names there",
    });
    report.fine(match found.forms {
        FormRule::Apart => "names that differ only in their Unicode form are two names there",
        FormRule::Alike => {
            "names that differ only in their Unicode form are one name there: the second of such a \
             pair is not uploaded"
        }
        FormRule::Respelled => {
            "names are kept in another Unicode form than they were written: files get that form \
             here too, and the second of two that differ only in it is not uploaded"
        }
    });
    tell_lengths(found, report);
    let controls = found.forbidden.contains('\n');
    let mut refused: Vec<String> =
        found.forbidden.chars().filter(|c| !c.is_control()).map(String::from).collect();
    refused.extend(controls.then(|| "control characters".to_owned()));
    refused
        .extend((!found.trailing_dot_or_space).then(|| "a dot or a space at the end".to_owned()));
    if refused.is_empty() {
        report.fine("names may have any character");
    } else {
        let text = format!("files whose names have one of these are held: {}", refused.join("  "));
        report.say(Verdict::Notice, &text, "rename them, or leave them on this computer");
    }
}

fn tell_lengths(found: &Findings, report: &mut Report<'_>) {
    let (chars, bytes) = (found.name_chars_max, found.name_bytes_max);
    if chars >= LOCAL_CHARS_MAX && bytes >= LOCAL_CHARS_MAX {
        return report.fine(&format!("names may have {chars} characters, up to {bytes} bytes"));
    }
    let text =
        format!("files whose names have more than {chars} characters or {bytes} bytes are held");
    report.say(Verdict::Notice, &text, "give them shorter names");
}

fn tell_content(found: &Findings, report: &mut Report<'_>) {
    report.fine(match found.id_survives_move {
        true => "an item keeps its identity when it is renamed",
        false => "an item gets another identity when it is renamed: moves are looked at afterwards",
    });
    report.fine(match found.pages {
        PagesFound::Exact => "the pages of a listing hold what was asked for, and each item once",
        PagesFound::OtherSize => {
            "the pages of a listing hold another number of items than was asked for: looking at \
             large folders takes more requests"
        }
        PagesFound::Repeating => {
            "the pages of a listing repeat items or lack some: folders are read until nothing can \
             be missing, which takes more requests"
        }
    });
    report.fine(match found.ranged_download {
        true => "a download can begin in the middle",
        false => "a download always begins at the start: one that broke off is fetched anew",
    });
    match found.clock_skew_s {
        Some(skew) if skew.unsigned_abs() > SKEW_MAX_S => {
            let text = format!("this computer's clock is {skew} s away from the service's");
            report.say(Verdict::Notice, &text, "set the clock; links and logins depend on it");
        }
        Some(_) => report.fine("the clock agrees with the service's"),
        None => {}
    }
}

fn tell_leftovers(leftovers: &[Leftover], report: &mut Report<'_>) {
    for leftover in leftovers {
        let bytes = leftover.size.map_or_else(String::new, |bytes| format!(" ({})", size(bytes)));
        let text = format!("left on the service: {}{bytes}", printable(&leftover.path));
        let what = match leftover.kind {
            LeftoverKind::New => "a new version that did not get its name",
            LeftoverKind::Old => "an old version that had made room for a new one",
            LeftoverKind::Parked => "a file on its way to another place",
        };
        report.say(Verdict::Notice, &text, what);
    }
    if !leftovers.is_empty() {
        report.out.line(
            "      a sync finishes what it had begun: sync every pair of this remote first. What is \
             still listed\n      then is known to no state database: look into it, and rename or \
             delete it by hand",
        );
    }
}
