//! Throttling: what librdkafka says of requests that a broker held back because of a quota, with unsafe FFI.
//!
//! It tells that to a callback of its configuration only, which runs on the thread that serves the client's queue (the poller, the
//! delivery thread, an admin client's thread), and rust-rdkafka's clients have no place for one.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rdkafka::ClientContext;
use rdkafka::bindings as rd;
use rdkafka::client::Client;

/// A context that hears of it.
pub(crate) trait Throttled {
    /// `throttle_ms` is 0 once, when the broker does so no longer.
    fn throttled(&self, broker: String, broker_id: i32, throttle_ms: i32);
}

/// From here on the client's context hears of it. To be called once, before anything is asked of the client.
pub(crate) fn listen<C: ClientContext + Throttled>(client: &Client<C>) {
    // SAFETY: the client is alive, and so is its configuration. librdkafka calls that read-only once the client is made; this
    // writes one aligned pointer in it, which librdkafka reads when an answer has come, so it finds either NULL, as it was, or the
    // whole pointer. Nothing else of the configuration is touched.
    unsafe {
        let configuration = rd::rd_kafka_conf(client.native_ptr()).cast_mut();
        rd::rd_kafka_conf_set_throttle_cb(configuration, Some(heard::<C>));
    }
}

/// librdkafka's callback.
unsafe extern "C" fn heard<C: ClientContext + Throttled>(
    _client: *mut rd::rd_kafka_t,
    broker: *const c_char,
    broker_id: i32,
    throttle_ms: c_int,
    opaque: *mut c_void,
) {
    if broker.is_null() || opaque.is_null() {
        return;
    }
    // SAFETY: rust-rdkafka makes a client's context its opaque, and keeps it as long as the client, which serves its queue here; the
    // name is a C string for as long as this call.
    let (context, broker) = unsafe { (&*opaque.cast::<C>(), CStr::from_ptr(broker)) };
    let broker = broker.to_string_lossy().into_owned();
    // Nothing may unwind into librdkafka.
    let _ = catch_unwind(AssertUnwindSafe(|| {
        context.throttled(broker, broker_id, throttle_ms);
    }));
}
