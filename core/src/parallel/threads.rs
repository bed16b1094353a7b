//! The threads that run Rust handlers, and what they do for each other.
//!
//! A thread takes as much at a time as its handler is quick: one record, some of different keys ([`Desk`]), or, of a handler that takes
//! no longer than looking after a record would, a [`Stretch`]. Who has nothing to do helps those who hang.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::parallel::ProcessOptions;
use crate::parallel::desk::{Desk, MOST_AT_ONCE};
use crate::parallel::dispatcher::{Dispatcher, Outcome, WATCH};
use crate::parallel::parts::Works;
use crate::parallel::process::HandlerError;
use crate::parallel::stretch::{End, Hand, LONGEST, Progress, Stretch};
use crate::record::Record;

/// A handler that is this quick gets many records at a time; a slow one gets one, so that none waits behind another for long.
const TURN: Duration = Duration::from_micros(200);
/// A stretch ends early after so long. Longer than a turn: a thread may have lost its processor for a moment.
const LONG_TURN: Duration = Duration::from_micros(800);
/// The clock is read once in so many records.
const CLOCK_EVERY: usize = 16;
/// A handler that takes longer than this gets no stretches: of one partition they are handled by one thread at a time, which would then be
/// slower than several threads that look after each record.
const VERY_QUICK: Duration = Duration::from_nanos(1_500);
/// How long handlers take is told from so many records at a time.
const LOT: usize = 64;
/// A thread that has nothing to do looks so often whether another hangs with records in its hand.
const LOOK: Duration = Duration::from_millis(250);

pub(super) type Handler = dyn Fn(&Record<'_>) -> Result<Outcome, HandlerError> + Send + Sync;

/// What one thread has in hand, for the others.
#[derive(Debug, Default)]
struct Place {
    desk: Desk,
    progress: Progress,
}

/// How long handlers took lately, in all threads: in nanoseconds per record, of some lots.
#[derive(Debug)]
struct Lately {
    lots: [AtomicU64; 8],
    next: AtomicUsize,
}

impl Lately {
    fn note(&self, each: Duration) {
        let place = self.next.fetch_add(1, Ordering::Relaxed) % self.lots.len();
        let nanos = u64::try_from(each.as_nanos()).unwrap_or(u64::MAX);
        self.lots[place].store(nanos, Ordering::Relaxed);
    }

    /// The quickest lot: the others may have waited for a processor.
    fn each(&self) -> Duration {
        let lots = self.lots.iter().map(|lot| lot.load(Ordering::Relaxed));
        Duration::from_nanos(lots.min().unwrap_or(u64::MAX))
    }
}

/// How quick the handler is, as one thread sees it.
#[derive(Debug, Default)]
struct Pace {
    slowest: Option<Duration>,
    lot: (Duration, usize),
}

impl Pace {
    fn note(&mut self, took: Duration, count: usize, lately: &Lately) {
        // A slow one is remembered for a while: few should wait behind the next.
        let before = self.slowest.unwrap_or_default() / 2;
        self.slowest = Some(before.max(took / count.max(1) as u32));
        self.lot = (self.lot.0 + took, self.lot.1 + count);
        if self.lot.1 >= LOT {
            lately.note(self.lot.0 / self.lot.1 as u32);
            self.lot = (Duration::ZERO, 0);
        }
    }

    /// How many single records to take at a time.
    fn most(&self, at_once: usize) -> usize {
        self.slowest
            .map_or(1, |slowest| in_a_turn(slowest, at_once))
    }
}

fn in_a_turn(each: Duration, most: usize) -> usize {
    let count = TURN.as_nanos() / each.as_nanos().max(1);
    usize::try_from(count).unwrap_or(most).clamp(1, most)
}

/// See the module.
#[derive(Debug)]
pub(super) struct Crew {
    places: Box<[Place]>,
    lately: Lately,
    /// The most single records that a thread takes.
    at_once: usize,
    has_stretches: bool,
}

impl Crew {
    pub(super) fn new(options: &ProcessOptions) -> Crew {
        // A thread may have several records of a quick handler, of which one is being handled. Not where each is timed or counted.
        let is_paced = options.attempt_timeout.is_some()
            || options.min_in_flight.is_some()
            || options.rate_limit.is_some();
        Crew {
            places: (0..options.max_in_flight)
                .map(|_| Place::default())
                .collect(),
            lately: Lately {
                lots: [const { AtomicU64::new(u64::MAX) }; 8],
                next: AtomicUsize::new(0),
            },
            at_once: if is_paced { 1 } else { MOST_AT_ONCE },
            // A transaction knows each of its records.
            has_stretches: !is_paced && options.exactly_once.is_none(),
        }
    }

    /// With a handler that is known to be very quick.
    #[cfg(test)]
    pub(super) fn quick(options: &ProcessOptions) -> Crew {
        let crew = Crew::new(options);
        crew.lately.note(Duration::from_nanos(1));
        crew
    }

    pub(super) fn has_stretches(&self) -> bool {
        self.has_stretches
    }

    /// The most records that a thread has in hand.
    pub(super) fn most_of_each(&self) -> usize {
        match self.has_stretches {
            true => self.at_once.max(LONGEST),
            false => self.at_once,
        }
    }

    /// How long a stretch is to be, if handlers are quick enough.
    fn rows(&self) -> Option<usize> {
        let each = self.lately.each();
        (self.has_stretches && each < VERY_QUICK).then(|| in_a_turn(each, LONGEST))
    }

    /// A thread's life.
    pub(super) fn work(&self, mine: usize, dispatcher: &Dispatcher, handler: &Handler) {
        let mut pace = Pace::default();
        let mut outcomes = Vec::new();
        let mut hand = Hand::default();
        // Hands of one record hold nobody up. The more threads, the less often each of them looks.
        let look = (self.at_once > 1).then(|| LOOK * (1 + self.places.len() / 8) as u32);
        // Whoever waits for the end is told the error.
        while let Ok(true) =
            dispatcher.take_hand(&mut hand, pace.most(self.at_once), self.rows(), look)
        {
            let began = Instant::now();
            let place = &self.places[mine];
            let count = match hand.stretch.take() {
                Some(stretch) => {
                    place.progress.begin(&stretch);
                    handle_stretch(&stretch, &place.progress, began, dispatcher, handler)
                }
                None if hand.works.is_empty() => {
                    self.help(dispatcher, handler);
                    continue;
                }
                None => {
                    handle_works(&hand.works, &place.desk, dispatcher, handler, &mut outcomes);
                    dispatcher.settle(outcomes.drain(..));
                    hand.works.len()
                }
            };
            pace.note(began.elapsed(), count, &self.lately);
        }
        for place in &self.places {
            let (unbegun, done) = place.desk.give_up();
            let unbegun = unbegun
                .into_iter()
                .map(|ticket| (ticket, Outcome::Unfinished));
            let done = done.into_iter().map(|ticket| (ticket, Outcome::Done));
            dispatcher.settle(unbegun.chain(done));
            take_rest(&place.progress, Duration::ZERO, dispatcher);
        }
    }

    /// There is nothing to take: what threads that hang have not come to, and not told.
    fn help(&self, dispatcher: &Dispatcher, handler: &Handler) {
        for Place { desk, progress } in &self.places {
            loop {
                let found = desk.help();
                if !found.done.is_empty() {
                    dispatcher.settle(found.done.into_iter().map(|ticket| (ticket, Outcome::Done)));
                }
                let Some(work) = found.work else {
                    break;
                };
                let record = work.batch.get(work.row);
                let record = record.filter(|_| !dispatcher.is_stopping());
                dispatcher.settle([(work.ticket, handle_if_any(handler, record))]);
            }
            // What is left of a stretch can be taken then.
            take_rest(progress, WATCH, dispatcher);
        }
    }
}

fn take_rest(progress: &Progress, age: Duration, dispatcher: &Dispatcher) {
    progress.take_rest(age, |stretch, done, is_running| {
        dispatcher.end_stretch_of_other(stretch, done, is_running)
    });
}

/// Handles single records; what is to be said of them is left in `outcomes`.
fn handle_works(
    works: &Works,
    desk: &Desk,
    dispatcher: &Dispatcher,
    handler: &Handler,
    outcomes: &mut Vec<(super::Ticket, Outcome)>,
) {
    let count = works.len();
    if count == 1 {
        // A record whose turn comes after the stop is not begun.
        outcomes.extend(works.iter().map(|(ticket, record)| {
            let record = record.filter(|_| !dispatcher.is_stopping());
            (ticket, handle_if_any(handler, record))
        }));
        return;
    }
    desk.lay_down(works);
    while let Some(index) = desk.claim(count) {
        let Some((ticket, record)) = works.at(index) else {
            break;
        };
        let record = record.filter(|_| !dispatcher.is_stopping());
        match handle_if_any(handler, record) {
            Outcome::Done => desk.note_done(index),
            // At once: whoever helps does not know of it.
            outcome => dispatcher.settle([(ticket, outcome)]),
        }
    }
    desk.clear(|index| {
        let ticket = works.at(index).map(|(ticket, _)| ticket);
        outcomes.extend(ticket.map(|ticket| (ticket, Outcome::Done)));
    });
}

/// Handles a stretch that has been begun, and ends it; gives how many of its records were handled.
fn handle_stretch(
    stretch: &Stretch,
    progress: &Progress,
    began: Instant,
    dispatcher: &Dispatcher,
    handler: &Handler,
) -> usize {
    let mut done = 0;
    let mut last = None;
    'rows: for piece in stretch.pieces() {
        for record in piece.records.iter() {
            // What comes after the stop, or too late, is not begun. At first often, for a handler that has become slow.
            let is_late = || began.elapsed() > LONG_TURN;
            let looks = done % CLOCK_EVERY == 0 || done < 4;
            if dispatcher.is_stopping() || (looks && done > 0 && is_late()) || !progress.next() {
                break 'rows;
            }
            match handle(handler, &record) {
                Outcome::Done => done += 1,
                outcome => {
                    last = Some(outcome);
                    break 'rows;
                }
            }
        }
    }
    let handled = done + usize::from(last.is_some());
    match progress.end() {
        End::Own => dispatcher.end_stretch(stretch, done, last),
        End::Taken(Some(ticket)) => {
            dispatcher.settle([(ticket, last.unwrap_or(Outcome::Done))]);
        }
        End::Taken(None) => {}
    }
    handled.max(1)
}

fn handle_if_any(handler: &Handler, record: Option<Record<'_>>) -> Outcome {
    record.map_or(Outcome::Unfinished, |record| handle(handler, &record))
}

fn handle(handler: &Handler, record: &Record<'_>) -> Outcome {
    match catch_unwind(AssertUnwindSafe(|| handler(record))) {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(error)) => error.into(),
        Err(panic) => panicked(panic.as_ref()),
    }
}

/// What becomes of a record whose handler has panicked.
pub(super) fn panicked(panic: &(dyn Any + Send)) -> Outcome {
    HandlerError::retriable(panic_text(panic))
        .kind("panic")
        .into()
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_string())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a text".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_very_quick_handlers_that_are_neither_timed_nor_counted_get_stretches() {
        let mut options = ProcessOptions {
            max_in_flight: 2,
            ..ProcessOptions::default()
        };
        let crew = Crew::new(&options);
        assert_eq!(crew.rows(), None, "nothing is known of it");
        let mut pace = Pace::default();
        pace.note(VERY_QUICK * LOT as u32, LOT, &crew.lately);
        assert_eq!(crew.rows(), None, "too slow");
        pace.note(Duration::from_nanos(400), LOT - 1, &crew.lately);
        assert_eq!(crew.rows(), None, "of too few records");
        pace.note(Duration::from_nanos(400), 1, &crew.lately);
        assert_eq!(crew.rows(), Some(LONGEST));
        // A lot that was held up changes nothing, many do.
        pace.note(Duration::from_millis(5), LOT, &crew.lately);
        assert_eq!(crew.rows(), Some(LONGEST));
        for _ in 0..8 {
            pace.note(Duration::from_millis(5), LOT, &crew.lately);
        }
        assert_eq!(crew.rows(), None);
        pace.note(Duration::from_nanos(1_000) * LOT as u32, LOT, &crew.lately);
        assert_eq!(crew.rows(), Some(200), "no longer than a turn");

        options.rate_limit = Some(1e9);
        let crew = Crew::quick(&options);
        assert_eq!((crew.rows(), crew.most_of_each()), (None, 1));
    }

    #[test]
    fn a_slow_record_is_remembered_for_a_while() {
        let crew = Crew::new(&ProcessOptions::default());
        let mut pace = Pace::default();
        assert_eq!(pace.most(256), 1, "nothing is known of it");
        pace.note(Duration::from_nanos(500), 1, &crew.lately);
        assert_eq!(pace.most(256), 256);
        pace.note(Duration::from_millis(1), 1, &crew.lately);
        let most: Vec<usize> = std::iter::repeat_with(|| {
            pace.note(Duration::from_nanos(500), 1, &crew.lately);
            pace.most(256)
        })
        .take(5)
        .collect();
        assert_eq!(most, [1, 1, 1, 3, 6]);
    }
}
