//! The tasks that wait for room in the queue.

use std::collections::BTreeMap;
use std::task::Waker;

use crate::error::{Error, Result};

/// Tasks that wait for room, in the order they came, and at most so many as there may be commands.
#[derive(Debug, Default)]
pub(super) struct Line {
    wakers: BTreeMap<u64, Waker>,
    last_place: u64,
}

impl Line {
    pub(super) fn is_empty(&self) -> bool {
        self.wakers.is_empty()
    }

    /// Stands in line, at the place the task has if it has one. Gives the waker that was there, to be
    /// dropped where no mutex is held.
    ///
    /// # Errors
    /// `Overloaded` if there are `most` already.
    pub(super) fn stand(
        &mut self,
        place: &mut Option<u64>,
        waker: Waker,
        most: usize,
    ) -> Result<Option<Waker>> {
        let is_new = place.is_none_or(|place| !self.wakers.contains_key(&place));
        if is_new && self.wakers.len() >= most {
            return Err(Error::Overloaded);
        }
        let at = *place.get_or_insert_with(|| {
            self.last_place += 1;
            self.last_place
        });
        Ok(self.wakers.insert(at, waker))
    }

    /// Leaves the line. Gives the waker back.
    pub(super) fn leave(&mut self, place: u64) -> Option<Waker> {
        self.wakers.remove(&place)
    }

    /// Everybody, first come first.
    pub(super) fn take(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.wakers).into_values().collect()
    }
}
