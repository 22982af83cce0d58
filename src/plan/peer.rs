//! Decisions that two ends make alike. Where the remote is the local root of another pair, that pair
//! sees the same conflict with the sides exchanged, and decides at the same time.
//!
//! So nothing here depends on which side is called local, or on node ids, but only on what both ends
//! see: kinds, modification times, contents and paths. Plans nothing.

use std::cmp::Reverse;

use crate::tree::{ContentHash, Facet, Kind, NodeId, Side, Trees};

use super::target::Target;

const SECOND_NS: i64 = 1_000_000_000;

/// The side whose content keeps the name: the later one, else the one with the greater hash. `Err`:
/// the content of that side has to be read first.
pub(super) fn content(local: &Facet, remote: &Facet) -> Result<Side, Side> {
    let times = [local, remote].map(|facet| facet.rev.modified_ns());
    let [ours, theirs] = comparable(times);
    if ours != theirs {
        return Ok(if ours > theirs { Side::Local } else { Side::Remote });
    }
    let hash = |facet: &Facet| facet.content().digest().map(|digest| digest.hash);
    let ours = hash(local).ok_or(Side::Local)?;
    let theirs = hash(remote).ok_or(Side::Remote)?;
    Ok(if ours > theirs { Side::Local } else { Side::Remote })
}

/// A mount may show whole seconds of a time that the other end knows better: then whole seconds are
/// all that both ends see.
fn comparable<const N: usize>(times: [Option<i64>; N]) -> [Option<i64>; N] {
    let is_coarse = is_any_coarse(times.iter().copied());
    times.map(|time| time.map(|ns| if is_coarse { ns.div_euclid(SECOND_NS) } else { ns }))
}

fn is_any_coarse(mut times: impl Iterator<Item = Option<i64>>) -> bool {
    times.any(|time| time.is_some_and(|ns| ns % SECOND_NS == 0))
}

/// The side whose place an item that both sides moved gets: the greater path.
pub(super) fn place(trees: &Trees, id: NodeId) -> Side {
    let path = |side| {
        let at = trees.facet(side, id)?.at();
        Some(trees.path(side, at.parent)?.join(&at.name).as_str().to_owned())
    };
    if path(Side::Local) > path(Side::Remote) { Side::Local } else { Side::Remote }
}

/// The side whose places count where folders were moved into one another.
pub(super) fn side_of_cycles(target: &Target<'_>, cycles: &[Vec<NodeId>]) -> Option<Side> {
    let trees = target.trees;
    let at = |side, id| trees.facet(side, id).map(Facet::at);
    let nodes = cycles.iter().flatten().copied();
    let moved = nodes.filter(|id| {
        let (local, remote) = (at(Side::Local, *id), at(Side::Remote, *id));
        local.is_some() && remote.is_some() && local != remote
    });
    let first = moved.min_by_key(|id| trees.display_path(*id).as_str().to_owned())?;
    Some(place(trees, first))
}

/// What a claim to a name is judged by. The lowest has the name.
type Right = (bool, Reverse<Option<i64>>, Reverse<Option<ContentHash>>, Reverse<String>, NodeId);

/// The claimants of a name, the one that keeps it first: a folder before a file, then the later one,
/// then the greater hash. `Err`: these contents have to be read first.
pub(super) fn by_right(
    target: &Target<'_>,
    nodes: &[NodeId],
) -> Result<Vec<NodeId>, Vec<(NodeId, Side)>> {
    let coarse = is_any_coarse(nodes.iter().map(|id| modified(target, *id)));
    let mut rights: Vec<Right> = nodes.iter().map(|id| right(target, *id, coarse)).collect();
    rights.sort_unstable();
    let tied: Vec<&Right> = rights
        .iter()
        .filter(|right| right.0 && (right.0, right.1) == (rights[0].0, rights[0].1))
        .collect();
    if tied.len() > 1 && tied.iter().any(|right| right.2.0.is_none()) {
        let unread = tied.iter().filter(|right| right.2.0.is_none()).map(|right| right.4);
        return Err(unread.filter_map(|id| Some((id, claimants(target, id).first()?.0))).collect());
    }
    Ok(rights.into_iter().map(|right| right.4).collect())
}

fn right(target: &Target<'_>, id: NodeId, coarse: bool) -> Right {
    let is_file = target.trees.kind(id) == Kind::File;
    let time = modified(target, id).filter(|_| is_file);
    let time = time.map(|ns| if coarse { ns.div_euclid(SECOND_NS) } else { ns });
    let digest = |(_, facet): &(Side, &Facet)| facet.content().digest();
    let hash = claimants(target, id).iter().find_map(digest).map(|digest| digest.hash);
    let known_as = target.trees.display_path(id).as_str().to_owned();
    (is_file, Reverse(time), Reverse(hash), Reverse(known_as), id)
}

fn modified(target: &Target<'_>, id: NodeId) -> Option<i64> {
    if target.trees.kind(id) == Kind::Dir {
        return None;
    }
    claimants(target, id).iter().filter_map(|(_, facet)| facet.rev.modified_ns()).max()
}

/// The item on the sides on which it has the name already; on all if it has it on none.
fn claimants<'a>(target: &Target<'a>, id: NodeId) -> Vec<(Side, &'a Facet)> {
    let trees = target.trees;
    let facets = || Side::BOTH.into_iter().filter_map(|s| Some((s, trees.facet(s, id)?)));
    let has_it = |facet: &Facet| target.goal(id).is_some_and(|goal| goal.at == *facet.at());
    let there: Vec<_> = facets().filter(|(_, facet)| has_it(facet)).collect();
    if there.is_empty() { facets().collect() } else { there }
}
