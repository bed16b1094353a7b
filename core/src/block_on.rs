//! Waiting for a future on a plain thread, with a deadline and without a runtime.
//!
//! L0; any thread. Only for futures whose wake-ups come from threads of their own (librdkafka's, the delivery thread).

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// A longer wait is cut to this and goes round the loop.
const FAR: Duration = Duration::from_secs(24 * 3600);

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The future's output, or `None` when it had none within `timeout`.
pub(crate) fn block_on<F: Future>(future: F, timeout: Duration) -> Option<F::Output> {
    let started = Instant::now();
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        let left = timeout.saturating_sub(started.elapsed());
        if left.is_zero() {
            return None;
        }
        thread::park_timeout(left.min(FAR));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_channel::oneshot;

    #[test]
    fn it_waits_for_another_thread_and_no_longer_than_asked() {
        let (sender, mut receiver) = oneshot::channel();
        assert!(block_on(&mut receiver, Duration::from_millis(20)).is_none());
        let other = thread::spawn(move || sender.send(7));
        assert_eq!(block_on(receiver, Duration::from_secs(60)), Some(Ok(7)));
        other.join().unwrap().unwrap();
    }
}
