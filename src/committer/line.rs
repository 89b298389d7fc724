//! The tasks that wait for room in the queue.

use std::collections::BTreeMap;
use std::task::Waker;

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

    /// Whether a task may stand here: it does already, or there are not `most` yet.
    pub(super) fn takes(&self, place: Option<u64>, most: usize) -> bool {
        let stands = place.is_some_and(|place| self.wakers.contains_key(&place));
        stands || self.wakers.len() < most
    }

    /// Stands in line, at the place the task has if it has one. Gives the waker that was there, to be
    /// dropped where no mutex is held.
    pub(super) fn stand(&mut self, place: &mut Option<u64>, waker: Waker) -> Option<Waker> {
        let at = *place.get_or_insert_with(|| {
            self.last_place += 1;
            self.last_place
        });
        self.wakers.insert(at, waker)
    }

    /// Leaves the line. Gives the waker back.
    pub(super) fn leave(&mut self, place: u64) -> Option<Waker> {
        self.wakers.remove(&place)
    }

    /// As many as there is room for, first come first. No more stand here than an empty queue has room for:
    /// so as long as anybody does, a command is in the queue, after which this is called again.
    pub(super) fn take(&mut self, room: usize) -> Vec<Waker> {
        let first = std::iter::from_fn(|| self.wakers.pop_first());
        first.take(room).map(|(_, waker)| waker).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stand(line: &mut Line, place: &mut Option<u64>) -> bool {
        let takes = line.takes(*place, 2);
        if takes {
            drop(line.stand(place, Waker::noop().clone()));
        }
        takes
    }

    #[test]
    fn a_place_is_kept_and_the_line_is_bounded() {
        let mut line = Line::default();
        let (mut first, mut second, mut third) = (None, None, None);
        assert!(stand(&mut line, &mut first));
        assert!(stand(&mut line, &mut second));
        assert!(stand(&mut line, &mut first));
        assert!(first < second);
        assert!(!stand(&mut line, &mut third) && third.is_none());
        assert!(line.leave(first.unwrap()).is_some());
        assert!(stand(&mut line, &mut third));
        assert!(third > second);
    }

    #[test]
    fn those_who_came_first_are_woken_and_come_back_to_their_place() {
        let mut line = Line::default();
        let (mut first, mut second) = (None, None);
        assert!(stand(&mut line, &mut first));
        assert!(stand(&mut line, &mut second));
        assert_eq!(line.take(1).len(), 1);
        assert!(line.leave(first.unwrap()).is_none());
        assert!(stand(&mut line, &mut first));
        assert!(first < second);
        assert_eq!((line.take(9).len(), line.is_empty()), (2, true));
    }
}
