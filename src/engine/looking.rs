//! When a side is looked at, and what the answers to its questions mean.

use super::look::{Extent, Look};
use super::{Command, Engine, Fatal, ListError, Problem};
use crate::local::Listing;
use crate::tree::{NodeId, Side};

impl Engine {
    pub(super) fn look_around(&mut self, commands: &mut Vec<Command>) {
        for side in Side::BOTH {
            self.start_look(side);
            if let Some(look) = self.looks[side as usize].take() {
                commands.extend(self.advance_look(look));
            }
        }
        // The end of one look may be the begin of the next, also on the other side.
        for side in Side::BOTH {
            self.start_look(side);
            self.hand_out_listings(side, commands);
        }
    }

    fn start_look(&mut self, side: Side) {
        if self.looks[side as usize].is_some() || self.stop.is_some() {
            return;
        }
        let local_first = side == Side::Local || self.looked[Side::Local as usize];
        if !self.looked[side as usize] {
            // The ignore rules come from the local side, so it is looked at first.
            if local_first {
                self.look_at_all(side);
            }
        } else if self.looked != [true, true] {
            // The first look at the other side comes first.
        } else if std::mem::take(&mut self.full_look_wanted[side as usize]) {
            self.look_at_all(side);
        } else if !self.dirty[side as usize].is_empty() || !self.stirred[side as usize].is_empty() {
            let mut dirs = std::mem::take(&mut self.dirty[side as usize]);
            dirs.retain(|dir| self.trees.has(side, *dir));
            let stirred = std::mem::take(&mut self.stirred[side as usize]);
            dirs.extend(stirred.iter().map(|path| self.nearest_folder(side, path)));
            if dirs.is_empty() {
                self.plan_wanted = true;
                return;
            }
            self.looks[side as usize] = Some(Look::new(side, Extent::Some, self.now, dirs));
        }
    }

    fn look_at_all(&mut self, side: Side) {
        self.dirty[side as usize].clear();
        self.stirred[side as usize].clear();
        self.looks[side as usize] = Some(Look::new(side, Extent::Full, self.now, [NodeId::ROOT]));
    }

    fn hand_out_listings(&mut self, side: Side, commands: &mut Vec<Command>) {
        /// Enough to keep disks and connections busy, few enough to keep memory flat.
        const LISTINGS_MAX: usize = 16;
        let Some(mut look) = self.looks[side as usize].take() else { return };
        while look.in_flight() < LISTINGS_MAX {
            let Some(dir) = look.next_to_list(self.now) else { break };
            let target = self.locator_in_look(&look, dir);
            commands.push(Command::List { side, dir, target });
        }
        self.looks[side as usize] = Some(look);
    }

    pub(super) fn take_listing(
        &mut self,
        side: Side,
        dir: NodeId,
        result: Result<Listing, ListError>,
    ) -> Result<(), Fatal> {
        let Some(mut look) = self.looks[side as usize].take() else { return Ok(()) };
        match result {
            Ok(listing) => {
                if !listing.unsteady {
                    self.listing_attempts.remove(&(side, dir));
                }
                self.listed(look, dir, listing);
                return Ok(());
            }
            Err(ListError::RootLost(message)) => return Err(Fatal::RootLost { side, message }),
            Err(ListError::Auth(message)) => return Err(Fatal::Auth { message }),
            Err(ListError::Gone) if dir == NodeId::ROOT => {
                let message = "the folder does not exist any more".to_owned();
                return Err(Fatal::RootLost { side, message });
            }
            Err(ListError::Gone) if look.seen.contains(&dir) || look.placed.contains_key(&dir) => {
                look.listed(dir);
                look.torn = true;
            }
            Err(ListError::Gone) => {
                look.listed(dir);
                look.missing.insert(dir);
                look.gone.insert(dir);
                // It may only have another name now: its parent's listing tells.
                if let Some(facet) = self.trees.facet(side, dir) {
                    look.want(facet.at().parent);
                }
            }
            Err(ListError::Transient(message)) => {
                look.listed(dir);
                self.retry_listing(&mut look, dir, message)?;
            }
            Err(ListError::Denied(message)) => {
                look.listed(dir);
                self.blind.insert((side, dir), Problem::Unlisted(message));
            }
        }
        self.looks[side as usize] = Some(look);
        Ok(())
    }

    pub(super) fn take_confirmation(
        &mut self,
        side: Side,
        node: NodeId,
        result: Result<bool, ListError>,
    ) {
        let Some(look) = self.looks[side as usize].as_mut() else { return };
        look.confirming.remove(&node);
        match result {
            Ok(false) | Err(ListError::Gone) => {
                look.confirmed.insert(node);
            }
            // The listing was older than the item, or late: it is where it was. (RM-08, RM-11)
            Ok(true) => {
                look.late.insert(node);
            }
            // Nobody can tell: nothing is concluded. The next look sees.
            Err(
                ListError::RootLost(_)
                | ListError::Auth(_)
                | ListError::Transient(_)
                | ListError::Denied(_),
            ) => {
                let message = "its absence could not be confirmed".to_owned();
                self.blind.insert((side, node), Problem::Unlisted(message));
            }
        }
    }
}
