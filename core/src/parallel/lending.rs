//! The dispatcher's side of stretches: see [`Stretch`].

use std::time::Duration;

use crate::error::Result;
use crate::parallel::dispatcher::{Dispatcher, Outcome};
use crate::parallel::engine::Effects;
use crate::parallel::parts::Ticket;
use crate::parallel::stretch::{Hand, Stretch};

impl Dispatcher {
    /// As [`Dispatcher::take_into`], into `hand`: a stretch of up to `rows`, or up to `most` single records. Whoever gets nothing is to
    /// help with what others have.
    pub(super) fn take_hand(
        &self,
        hand: &mut Hand,
        most: usize,
        rows: Option<usize>,
        timeout: Option<Duration>,
    ) -> Result<bool> {
        hand.clear();
        self.await_work(timeout, true, &mut |state, now_us| {
            state.take_hand(most, rows, now_us, hand);
            !hand.is_empty()
        })
    }

    /// A stretch has ended after its first `done` rows, all of which are done, and `last` is what became of the one after them.
    pub(super) fn end_stretch(&self, stretch: &Stretch, done: usize, last: Option<Outcome>) {
        let mut effects = Effects::default();
        let mut state = self.state.lock();
        let (is_running, goes_on) = (last.is_some(), !self.is_stopping());
        let ticket = state.end_stretch(stretch, done, is_running, goes_on, &mut effects);
        if let (Some(ticket), Some(outcome)) = (ticket, last) {
            state.settle([(ticket, outcome)], self.clock.now_us(), &mut effects);
        }
        self.consumer().shared().note_answers();
        // Nobody is woken: who has ended a stretch takes the next one, and wakes others if something is left.
        self.after(state, effects);
    }

    /// Somebody else has taken the rest of a stretch: as [`Dispatcher::end_stretch`], with the ticket of the record that its thread is in.
    pub(super) fn end_stretch_of_other(
        &self,
        stretch: &Stretch,
        done: usize,
        is_running: bool,
    ) -> Option<Ticket> {
        let mut effects = Effects::default();
        let mut state = self.state.lock();
        let goes_on = !self.is_stopping();
        let ticket = state.end_stretch(stretch, done, is_running, goes_on, &mut effects);
        self.consumer().shared().note_answers();
        self.work.notify_one();
        self.after(state, effects);
        ticket
    }
}
