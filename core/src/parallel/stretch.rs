//! Stretches: rows that lie one after the other in their partitions, handed out together and handled in that order by one thread.
//!
//! For handlers that are quicker than looking after each of their records would be. A partition whose rows are handed out so is *lent*:
//! nothing else of it that is in order is handed out until the stretch has ended, so every key stays in order without anybody looking at
//! keys. What a stretch costs beside the handlers is counted per stretch: it is taken, finished and acknowledged as ranges of rows. Only
//! a record that was not just done gets a ticket and a shard of its key (see [`State`](super::state::State)), and the rows behind
//! it are given back.
//!
//! [`Progress`] is where a thread is in its stretch, for others: nothing waits behind a handler that hangs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::batch::RecordBatch;
use crate::parallel::parts::{Ticket, Works};

/// The most rows of a stretch.
pub(super) const LONGEST: usize = 1024;
/// So many are begun when nobody is to begin one any more.
const BEYOND: usize = usize::MAX / 2;

/// Rows of one partition and one batch.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(super) lane: u32,
    pub(super) batch: u32,
    /// Where the rows begin in that batch.
    pub(super) first: u32,
    /// Nothing else but these rows.
    pub(super) records: RecordBatch,
    /// The first piece of a partition that is lent with this stretch.
    pub(super) lends: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Stretch {
    pieces: Vec<Piece>,
    count: usize,
    began_us: u64,
}

impl Stretch {
    pub(super) fn new(began_us: u64) -> Stretch {
        Stretch {
            pieces: Vec::new(),
            count: 0,
            began_us,
        }
    }

    pub(super) fn push(&mut self, piece: Piece) {
        self.count += piece.records.len();
        self.pieces.push(piece);
    }

    /// From this piece on they are of one partition, which is lent.
    pub(super) fn lend(&mut self, piece: usize) {
        if let Some(piece) = self.pieces.get_mut(piece) {
            piece.lends = true;
        }
    }

    /// In the order in which they are handled.
    pub(super) fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// How many rows.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// When it was handed out.
    pub(super) fn began_us(&self) -> u64 {
        self.began_us
    }
}

/// What a thread has taken: single records, or a stretch.
#[derive(Debug, Default)]
pub(crate) struct Hand {
    pub(super) works: Works,
    pub(super) stretch: Option<Arc<Stretch>>,
}

impl Hand {
    pub(super) fn clear(&mut self) {
        self.works.clear();
        self.stretch = None;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.works.is_empty() && self.stretch.is_none()
    }
}

/// How a stretch ended for its thread.
#[derive(Debug)]
pub(super) enum End {
    /// The thread has to end it.
    Own,
    /// Somebody has ended it, while the thread was in the record of this ticket.
    Taken(Option<Ticket>),
}

#[derive(Debug, Default)]
enum Laid {
    #[default]
    Nothing,
    Stretch(Arc<Stretch>, Instant),
    Taken(Option<Ticket>),
}

/// See the module. On a line of the processor's cache that no other thread writes to.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Progress {
    /// How many rows were begun; all but the last of them are done.
    begun: AtomicUsize,
    laid: Mutex<Laid>,
}

impl Progress {
    /// The thread begins a stretch.
    pub(super) fn begin(&self, stretch: &Arc<Stretch>) {
        let mut laid = self.laid.lock();
        self.begun.store(0, Ordering::Release);
        *laid = Laid::Stretch(Arc::clone(stretch), Instant::now());
    }

    /// The thread has done all rows before, and may begin the next one: false when somebody has taken the rest.
    pub(super) fn next(&self) -> bool {
        self.begun.fetch_add(1, Ordering::AcqRel) < BEYOND
    }

    /// The thread has come to the end of it, or goes no further.
    pub(super) fn end(&self) -> End {
        match std::mem::take(&mut *self.laid.lock()) {
            Laid::Taken(ticket) => End::Taken(ticket),
            Laid::Nothing | Laid::Stretch(..) => End::Own,
        }
    }

    /// Takes the rest of a stretch that was begun `age` ago or earlier away from its thread. `take` hears how many rows are done and
    /// whether the thread is in the one after those, and gives the ticket for that; true when there was something to take.
    pub(super) fn take_rest(
        &self,
        age: Duration,
        take: impl FnOnce(&Stretch, usize, bool) -> Option<Ticket>,
    ) -> bool {
        let mut laid = self.laid.lock();
        let Laid::Stretch(stretch, began) = &*laid else {
            return false;
        };
        if began.elapsed() < age {
            return false;
        }
        let begun = self.begun.swap(BEYOND, Ordering::AcqRel);
        // The last one may be done already: then its thread is about to hear of the ticket, and says so.
        let ticket = take(stretch, begun.saturating_sub(1), begun > 0);
        *laid = Laid::Taken(ticket);
        true
    }
}
