//! Handles of librdkafka's queues.

use std::ffi::c_void;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use rdkafka::bindings as rd;
use rdkafka::consumer::Consumer as _;

use crate::error::{Error, Result};
use crate::kafka_code;
use crate::queue::Waker;
use crate::source::kafka::context::Client;

/// A queue handle that must be destroyed.
pub(super) struct Queue {
    handle: NonNull<rd::rd_kafka_queue_t>,
    /// What the queue's wake-up callback points to.
    _waker: Arc<Waker>,
}

// SAFETY: librdkafka's queues may be used from any thread; the handle is owned by this value alone.
unsafe impl Send for Queue {}

impl Queue {
    /// A new queue of `client` that wakes `waker` whenever it turns non-empty.
    pub(super) fn new(client: &Client, waker: &Arc<Waker>) -> Result<Queue> {
        // SAFETY: the client is alive during the call. The queue keeps librdkafka's instance data alive by itself, and
        // `KafkaSource` destroys it before the client.
        let handle = unsafe { rd::rd_kafka_queue_new(client.client().native_ptr()) };
        let handle = NonNull::new(handle).ok_or_else(out_of_memory)?;
        let queue = Queue {
            handle,
            _waker: Arc::clone(waker),
        };
        // SAFETY: the waker that `opaque` points to is kept alive by `_waker`, and `drop` takes the callback away under
        // the queue's own lock before it lets go of it.
        unsafe {
            rd::rd_kafka_queue_cb_event_enable(
                handle.as_ptr(),
                Some(wake),
                Arc::as_ptr(waker).cast_mut().cast::<c_void>(),
            );
        }
        Ok(queue)
    }

    /// The queue that `client` polls, which wakes `waker` already.
    pub(super) fn of_consumer(client: &Client, waker: &Arc<Waker>) -> Result<Queue> {
        // SAFETY: the client is alive; the handle returned is ours to destroy.
        let handle = unsafe { rd::rd_kafka_queue_get_consumer(client.client().native_ptr()) };
        Ok(Queue {
            handle: NonNull::new(handle).ok_or_else(out_of_memory)?,
            _waker: Arc::clone(waker),
        })
    }

    /// True when there is nothing to take just now: a look that costs a fraction of an attempt to take something.
    pub(super) fn is_empty(&self) -> bool {
        // SAFETY: the handle is alive.
        unsafe { rd::rd_kafka_queue_length(self.as_ptr()) == 0 }
    }

    pub(super) fn as_ptr(&self) -> *mut rd::rd_kafka_queue_t {
        self.handle.as_ptr()
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: the handle is alive until the second call; the first one stops further callbacks.
        unsafe {
            rd::rd_kafka_queue_cb_event_enable(self.as_ptr(), None, ptr::null_mut());
            rd::rd_kafka_queue_destroy(self.as_ptr());
        }
    }
}

/// Called by librdkafka's threads, with the queue locked: must not call librdkafka.
unsafe extern "C" fn wake(_client: *mut rd::rd_kafka_t, opaque: *mut c_void) {
    // SAFETY: `opaque` is the waker that `Queue::new` passed, kept alive by the queue.
    let waker = unsafe { &*opaque.cast::<Waker>() };
    waker.wake();
}

fn out_of_memory() -> Error {
    Error::Kafka {
        code: kafka_code::from_number(rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__FAIL as i32),
        context: "librdkafka gave no queue".into(),
    }
}
