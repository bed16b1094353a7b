//! The part of the stories that is told in stretches.

use std::sync::Arc;

use super::super::super::*;
use super::{Busy, World};
use crate::parallel::stretch::Stretch;

/// A stretch with a handler.
#[derive(Debug)]
pub(in crate::parallel::tests) struct Lent {
    pub(super) stretch: Arc<Stretch>,
    pub(in crate::parallel::tests) rows: Vec<Busy>,
}

impl World {
    /// With stretches, for which records may be neither timed nor counted.
    pub(in crate::parallel::tests) fn quick(options: ProcessOptions) -> World {
        let mut world = World::new(ProcessOptions {
            batch_size: 1,
            attempt_timeout: None,
            min_in_flight: None,
            rate_limit: None,
            ..options
        });
        world.is_quick = true;
        world.simulation.hand_out_stretches();
        world
    }

    pub(super) fn take_quick(&mut self, most: usize, rows: usize) -> usize {
        if !self.is_quick {
            return self.take(most);
        }
        let hand = self.simulation.take_quick(most, rows);
        self.calls += 1;
        let mut count = hand.works.len();
        for work in hand.works.owned() {
            let busy = self.begin(work.ticket, &work.batch, work.row);
            self.busy.push(busy);
        }
        if let Some(stretch) = hand.stretch {
            assert_eq!(count, 0);
            count = stretch.len();
            assert!((1..=rows).contains(&count));
            self.lent.push(Lent {
                stretch: Arc::clone(&stretch),
                rows: Vec::new(),
            });
            for piece in stretch.pieces() {
                for row in 0..piece.records.len() {
                    let busy = self.begin(Ticket::from_bits(u64::MAX), &piece.records, row);
                    self.lent.last_mut().expect("pushed").rows.push(busy);
                }
            }
        }
        self.check_limit();
        count
    }

    pub(super) fn end_stretch(&mut self, index: usize, done: usize, is_running: bool) {
        if self.lent.is_empty() {
            return;
        }
        let Lent { stretch, rows } = self.lent.remove(index % self.lent.len());
        let done = done % (rows.len() + 1);
        let is_running = is_running && done < rows.len();
        let before = self.simulation.ledger();
        let ticket = self.simulation.end_stretch(&stretch, done, is_running);
        let after = self.simulation.ledger();
        let (counted, stale): (Vec<&Busy>, Vec<&Busy>) =
            rows[..done].iter().partition(|busy| self.is_current(busy));
        assert_eq!(
            (after.done - before.done, after.stale - before.stale),
            (counted.len() as u64, stale.len() as u64),
            "{rows:?}"
        );
        let places = counted.iter().map(|busy| (busy.partition, busy.offset));
        self.done.extend(places.collect::<Vec<_>>());
        self.rows[0] += done;
        self.rows[1] += rows.len() - done;
        assert_eq!(ticket.is_some(), is_running);
        if let Some(ticket) = ticket {
            let busy = rows[done].clone();
            self.busy.push(Busy { ticket, ..busy });
        }
    }
}
