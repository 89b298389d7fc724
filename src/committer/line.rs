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

    /// As many as there is room for, first come first; everybody if the queue is empty, so that somebody
    /// comes by again as long as anybody stands here.
    pub(super) fn take(&mut self, room: usize) -> Vec<Waker> {
        let first = std::iter::from_fn(|| self.wakers.pop_first());
        first.take(room).map(|(_, waker)| waker).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stand(line: &mut Line, place: &mut Option<u64>) -> Result<()> {
        line.stand(place, Waker::noop().clone(), 2).map(drop)
    }

    #[test]
    fn a_place_is_kept_and_the_line_is_bounded() {
        let mut line = Line::default();
        let (mut first, mut second, mut third) = (None, None, None);
        stand(&mut line, &mut first).unwrap();
        stand(&mut line, &mut second).unwrap();
        stand(&mut line, &mut first).unwrap();
        assert!(first < second);
        let refused = stand(&mut line, &mut third);
        assert!(matches!(refused, Err(Error::Overloaded)) && third.is_none());
        assert!(line.leave(first.unwrap()).is_some());
        stand(&mut line, &mut third).unwrap();
        assert!(third > second);
    }

    #[test]
    fn those_who_came_first_are_woken_and_come_back_to_their_place() {
        let mut line = Line::default();
        let (mut first, mut second) = (None, None);
        stand(&mut line, &mut first).unwrap();
        stand(&mut line, &mut second).unwrap();
        assert_eq!(line.take(1).len(), 1);
        assert!(line.leave(first.unwrap()).is_none());
        stand(&mut line, &mut first).unwrap();
        assert!(first < second);
        assert_eq!((line.take(9).len(), line.is_empty()), (2, true));
    }
}
