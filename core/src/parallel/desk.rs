//! What a handler's thread has taken, for others to take over: nothing waits behind a handler that hangs, and what was done before it
//! is told.
//!
//! A thread of a quick handler takes many records at a time. Each of them is claimed by one thread: by the owner without a lock, one
//! after the other, or by a helper under the desk's lock, which the owner takes once per hand. All records of a hand are of different
//! keys (see [`State::take`](super::state::State::take)), so any thread may handle any of them at any time.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::parallel::parts::{Ticket, Work, Works};

/// The most records of a hand.
pub(super) const MOST_AT_ONCE: usize = 256;
/// A hand that is older hangs in one of its records: the handler was quick a moment ago.
const HANGS: Duration = Duration::from_millis(50);
const BITS: usize = u64::BITS as usize;

/// See the module. Each on lines of the processor's cache that no other thread writes to.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Desk {
    /// The next record that nobody has begun.
    next: AtomicUsize,
    /// Which records the owner has done that nobody has told, a bit each.
    done: [AtomicU64; MOST_AT_ONCE / BITS],
    hand: Mutex<Option<Hand>>,
}

/// For helpers, who get their own handles of what they take over.
#[derive(Debug)]
struct Hand {
    works: Works,
    began: Instant,
}

/// What a helper has found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// To be handled by the helper.
    pub(super) work: Option<Work>,
    /// Done by the owner, to be told by the helper.
    pub(super) done: Vec<Ticket>,
}

impl Desk {
    /// The owner lays down what it has taken, at most [`MOST_AT_ONCE`] records.
    pub(super) fn lay_down(&self, works: &Works) {
        let mut hand = self.hand.lock();
        let mut laid = hand.take().map_or_else(Works::default, |hand| hand.works);
        laid.copy_from(works);
        self.next.store(0, Ordering::Release);
        *hand = Some(Hand {
            works: laid,
            began: Instant::now(),
        });
    }

    /// The next record of a hand of `count`, for who calls alone.
    pub(super) fn claim(&self, count: usize) -> Option<usize> {
        let next = self.next.fetch_add(1, Ordering::AcqRel);
        (next < count).then_some(next)
    }

    /// The owner has done a record.
    pub(super) fn note_done(&self, index: usize) {
        self.done[index / BITS].fetch_or(1 << (index % BITS), Ordering::AcqRel);
    }

    /// Calls `each` with the place of every record that is done and was not told.
    fn told(&self, mut each: impl FnMut(usize)) {
        for (word, bits) in self.done.iter().enumerate() {
            let mut bits = bits.swap(0, Ordering::AcqRel);
            while bits != 0 {
                each(word * BITS + bits.trailing_zeros() as usize);
                bits &= bits - 1;
            }
        }
    }

    /// The owner has come to the end of its hand `works`: the places of what it has to tell.
    pub(super) fn clear(&self, each: impl FnMut(usize)) {
        let mut hand = self.hand.lock();
        self.told(each);
        if let Some(hand) = hand.as_mut() {
            hand.works.clear();
        }
    }

    /// What somebody who has nothing to do may do for the owner, if that hangs.
    pub(super) fn help(&self) -> Found {
        let mut found = Found::default();
        if let Some(hand) = self.hand.lock().as_ref()
            && hand.began.elapsed() >= HANGS
        {
            found.done = self.all_done(hand);
            found.work = self.claim_owned(hand);
        }
        found
    }

    /// It is over: what nobody has begun, and what was done and not told.
    pub(super) fn give_up(&self) -> (Vec<Ticket>, Vec<Ticket>) {
        let hand = self.hand.lock();
        let Some(hand) = hand.as_ref() else {
            return (Vec::new(), Vec::new());
        };
        let unbegun = std::iter::from_fn(|| self.claim_owned(hand));
        (
            unbegun.map(|work| work.ticket).collect(),
            self.all_done(hand),
        )
    }

    fn all_done(&self, hand: &Hand) -> Vec<Ticket> {
        let mut done = Vec::new();
        self.told(|index| done.extend(hand.works.owned_at(index).map(|work| work.ticket)));
        done
    }

    fn claim_owned(&self, hand: &Hand) -> Option<Work> {
        // Not beyond the end again and again: the number would not end either.
        let is_left = self.next.load(Ordering::Acquire) < hand.works.len();
        let index = is_left.then(|| self.claim(hand.works.len())).flatten()?;
        hand.works.owned_at(index)
    }
}
