//! What a request will come back with: wait for it, await it, or have a function called.
//!
//! Any thread. Always true: an answer is given exactly once, by the admin client's thread, at the latest when the client ends; a function
//! handed to [`Answer::then`] runs there, or at once when the answer is there already, and never under a lock.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::checks;
use crate::error::{Error, Result};

type Callback<T> = Box<dyn FnOnce(Result<T>) + Send>;

enum State<T> {
    Waiting(Option<Waker>),
    Then(Callback<T>),
    There(Result<T>),
    Taken,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

/// The answer to a request that is under way: a future, or [`Answer::wait`] for it.
#[must_use = "the request is on its way; wait for this to know what became of it"]
pub struct Answer<T> {
    shared: Arc<Shared<T>>,
    what: &'static str,
}

impl<T> fmt::Debug for Answer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Answer({})", self.what)
    }
}

/// Gives the answer.
pub(super) struct Giver<T>(Arc<Shared<T>>);

/// An answer and what gives it.
pub(super) fn pair<T>(what: &'static str) -> (Giver<T>, Answer<T>) {
    let shared = Arc::new(Shared {
        state: Mutex::new(State::Waiting(None)),
        changed: Condvar::new(),
    });
    (Giver(Arc::clone(&shared)), Answer { shared, what })
}

impl<T> Giver<T> {
    pub(super) fn give(self, result: Result<T>) {
        let mut state = self.0.state.lock();
        match std::mem::replace(&mut *state, State::Taken) {
            State::Then(callback) => {
                drop(state);
                callback(result);
            }
            State::Waiting(waker) => {
                *state = State::There(result);
                drop(state);
                self.0.changed.notify_all();
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
            State::There(_) | State::Taken => {}
        }
    }
}

impl<T> Answer<T> {
    /// Waits for the answer on this thread.
    ///
    /// # Errors
    /// [`Error::TimedOut`] when it did not come in time (the request goes on); otherwise what the request failed with.
    pub fn wait(self, timeout: Duration) -> Result<T> {
        let deadline = Instant::now().checked_add(timeout);
        let mut state = self.shared.state.lock();
        loop {
            match std::mem::replace(&mut *state, State::Taken) {
                State::There(result) => return result,
                other => *state = other,
            }
            let late = match deadline {
                Some(deadline) => self
                    .shared
                    .changed
                    .wait_until(&mut state, deadline)
                    .timed_out(),
                None => {
                    self.shared.changed.wait(&mut state);
                    false
                }
            };
            if late && !matches!(*state, State::There(_)) {
                return Err(Error::TimedOut {
                    what: self.what.to_string(),
                    timeout_ms: checks::millis(timeout),
                });
            }
        }
    }

    /// Has `callback` called with the answer: on the admin client's thread, which waits for it, or at once when it is there.
    pub fn then(self, callback: impl FnOnce(Result<T>) + Send + 'static) {
        let mut state = self.shared.state.lock();
        match std::mem::replace(&mut *state, State::Taken) {
            State::There(result) => {
                drop(state);
                callback(result);
            }
            _ => *state = State::Then(Box::new(callback)),
        }
    }
}

impl<T> Future for Answer<T> {
    type Output = Result<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.shared.state.lock();
        match std::mem::replace(&mut *state, State::Taken) {
            State::There(result) => Poll::Ready(result),
            _ => {
                *state = State::Waiting(Some(context.waker().clone()));
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block_on::block_on;

    #[test]
    fn an_answer_is_waited_for_awaited_or_handed_on() {
        let (giver, answer) = pair::<u8>("a");
        giver.give(Ok(1));
        assert_eq!(answer.wait(Duration::ZERO).unwrap(), 1);

        let (giver, answer) = pair::<u8>("b");
        let giving = std::thread::spawn(move || giver.give(Ok(2)));
        assert_eq!(
            block_on(answer, Duration::from_secs(20)).unwrap().unwrap(),
            2
        );
        giving.join().unwrap();

        let (giver, answer) = pair::<u8>("c");
        let (sender, receiver) = crossbeam_channel::bounded(1);
        answer.then(move |result| sender.send(result.unwrap()).unwrap());
        giver.give(Ok(3));
        assert_eq!(receiver.try_recv(), Ok(3));
    }

    #[test]
    fn an_answer_that_does_not_come_is_an_error_in_time() {
        let (_giver, answer) = pair::<u8>("listing groups");
        let error = answer.wait(Duration::from_millis(5)).unwrap_err();
        assert!(
            matches!(error, Error::TimedOut { .. }) && error.to_string().contains("listing groups")
        );
    }
}
