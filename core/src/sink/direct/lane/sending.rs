//! How a lane's batches go out: by its sender, or at once by the thread that sends a record while nothing else is on its way.
//!
//! A request goes out in three steps: its batches are taken, it is written, it is in flight. From the first to the last of them
//! `State::is_taken` keeps others away, so that batches of a partition are written in order. A thread of the application never waits
//! here: what it cannot write at once it leaves to the sender.

use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Lane, Request, Sent, State, fail};
use crate::sink::direct::protocol::{self, Place, Produce};
use crate::wire::link::{Broken, Outgoing};

/// A request takes batches until it has so many bytes.
const REQUEST_BYTES: usize = 4 * 1024 * 1024;
const NEVER: u64 = u64::MAX;

/// A request of which so many bytes are written.
pub(super) struct Begun {
    number: i32,
    request: Produce,
    pub(super) batches: Vec<Sent>,
    written: usize,
}

impl Lane {
    /// The sender's life.
    pub(super) fn send_all(&self) -> Result<(), Broken> {
        while let Some(mut begun) = self.next_request() {
            let written = match self.outgoing.lock().as_mut() {
                Some(outgoing) => begun.write(outgoing),
                None => Ok(()),
            };
            match written {
                Ok(()) => self.fly(begun),
                Err(broken) => {
                    fail(begun.batches);
                    return Err(broken);
                }
            }
        }
        Ok(())
    }

    /// Waits until something is due and may be sent. `None` when the lane ends.
    fn next_request(&self) -> Option<Begun> {
        let mut state = self.state.lock();
        loop {
            if self.stopping.load(Ordering::SeqCst) || self.is_over() {
                return None;
            }
            if let Some(begun) = state.begun.take() {
                return Some(begun);
            }
            let now_us = self.account.now_us();
            state.wakes_us = NEVER;
            if state.is_taken {
                state.is_wanted = true;
            } else if self.flight.lock().len() < self.settings.max_in_flight {
                if now_us >= state.quiet_until_us {
                    let batches = self.take_due(&mut state, now_us);
                    if !batches.is_empty() {
                        state.is_taken = true;
                        drop(state);
                        return self.begin(batches);
                    }
                    // Nothing has grown.
                    state.hurry = false;
                } else {
                    state.wakes_us = state.quiet_until_us;
                }
            }
            match state.wakes_us.checked_sub(now_us) {
                _ if state.wakes_us == NEVER => self.changed.wait(&mut state),
                Some(left_us) if left_us > 0 => {
                    let left = Duration::from_micros(left_us);
                    self.changed.wait_for(&mut state, left);
                }
                _ => {}
            }
        }
    }

    fn take_due(&self, state: &mut State, now_us: u64) -> Vec<Sent> {
        let mut batches = Vec::new();
        let mut bytes = 0;
        let count = state.parts.len();
        if count == 0 {
            return batches;
        }
        state.first = (state.first + 1) % count;
        for at in (state.first..count).chain(0..state.first) {
            let (book, index) = &state.parts[at];
            if bytes >= REQUEST_BYTES {
                break;
            }
            match book.take_due(*index, now_us, state.hurry) {
                Ok(batch) => {
                    bytes += batch.bytes.len();
                    batches.push(Sent {
                        book: Arc::clone(book),
                        index: *index,
                        batch: Some(batch),
                    });
                }
                Err(due_us) => state.wakes_us = state.wakes_us.min(due_us),
            }
        }
        // Those of a topic stand together in a request.
        batches.sort_by(|a, b| (a.book.name(), a.index).cmp(&(b.book.name(), b.index)));
        batches
    }

    /// Makes the request; None when there is no connection any more.
    fn begin(&self, mut batches: Vec<Sent>) -> Option<Begun> {
        for batch in batches.iter_mut().filter_map(|sent| sent.batch.as_mut()) {
            batch.seal();
        }
        let mut outgoing = self.outgoing.lock();
        let Some(outgoing) = outgoing.as_mut() else {
            fail(batches);
            return None;
        };
        let (number, client_id) = outgoing.next();
        let request = protocol::produce(
            number,
            client_id,
            self.settings.acks,
            self.settings.request_timeout_ms,
            &places(&batches),
        );
        Some(Begun {
            number,
            request,
            batches,
            written: 0,
        })
    }

    /// A request that is written is in flight from here on; others may go out.
    fn fly(&self, begun: Begun) {
        let Begun {
            number, batches, ..
        } = begun;
        let sent_us = self.account.now_us();
        let mut flight = self.flight.lock();
        if flight.over {
            drop(flight);
            fail(batches);
        } else {
            flight.requests.push_back(Request {
                number,
                sent_us,
                batches,
            });
            self.asked.notify_one();
            drop(flight);
        }
        let mut state = self.state.lock();
        state.is_taken = false;
        if std::mem::take(&mut state.is_wanted) {
            state.wakes_us = 0;
            self.changed.notify_one();
        }
    }

    /// Sends what is due on the calling thread, without waiting, if nothing is on its way. False when the sender is to see to it.
    pub(in crate::sink::direct) fn send_at_once(&self) -> bool {
        let Some(mut state) = self.state.try_lock() else {
            return false;
        };
        let now_us = self.account.now_us();
        let is_free = self.is_ready()
            && !self.is_over()
            && !self.stopping.load(Ordering::SeqCst)
            && !state.is_taken
            && now_us >= state.quiet_until_us
            && self.flight.lock().len() == 0;
        if !is_free || !Outgoing::CAN_TRY {
            return false;
        }
        let batches = self.take_due(&mut state, now_us);
        if batches.is_empty() {
            return false;
        }
        state.is_taken = true;
        drop(state);
        let Some(mut begun) = self.begin(batches) else {
            self.end("there is no connection");
            return true;
        };
        let tried = match self.outgoing.lock().as_mut() {
            Some(outgoing) => begun.try_write(outgoing),
            None => Ok(false),
        };
        match tried {
            Ok(true) => self.fly(begun),
            Ok(false) => {
                let mut state = self.state.lock();
                if self.is_over() {
                    // Nobody takes it any more.
                    drop(state);
                    fail(begun.batches);
                } else {
                    state.begun = Some(begun);
                    state.wakes_us = 0;
                    self.changed.notify_one();
                }
            }
            Err(broken) => {
                fail(begun.batches);
                self.end(&broken.to_string());
            }
        }
        true
    }
}

fn places(batches: &[Sent]) -> Vec<Place<'_>> {
    fn place(sent: &Sent) -> Option<Place<'_>> {
        Some(Place {
            topic: sent.book.name(),
            partition: i32::try_from(sent.index).ok()?,
            bytes: &sent.batch.as_ref()?.bytes,
        })
    }
    batches.iter().filter_map(place).collect()
}

impl Begun {
    /// Writes what is left of it.
    fn write(&mut self, outgoing: &mut Outgoing) -> Result<(), Broken> {
        let places = places(&self.batches);
        let mut parts = self.request.parts(&places);
        let mut left = &mut parts[..];
        IoSlice::advance_slices(&mut left, self.written);
        outgoing.write(left)
    }

    /// Writes what the connection takes without waiting; true when that was all.
    fn try_write(&mut self, outgoing: &mut Outgoing) -> Result<bool, Broken> {
        let places = places(&self.batches);
        let parts = self.request.parts(&places);
        self.written = outgoing.try_write(&parts)?;
        Ok(self.written == parts.iter().map(|part| part.len()).sum::<usize>())
    }
}
