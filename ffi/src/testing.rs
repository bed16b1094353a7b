//! What the tests of several files share: clients of an embedded broker, errors as text, and forked children.

use std::ffi::{CStr, CString, c_char, c_int, c_uint};
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::broker::{
    tg_broker, tg_broker_bootstrap_servers, tg_broker_create_topic, tg_broker_free, tg_broker_new,
};
use crate::config::{tg_config, tg_config_free, tg_config_new, tg_config_set};
use crate::consumer::{tg_consumer, tg_consumer_new, tg_consumer_subscribe};
use crate::error::{tg_last_error, tg_status};
use crate::producer::{
    TG_PARTITION_ANY, TG_TIMESTAMP_NOW, tg_producer, tg_producer_new, tg_producer_record,
};
use crate::record::tg_bytes;

pub(crate) const WAIT_MS: i64 = 20_000;

/// A broker that ends with the test.
pub(crate) struct TestBroker(pub(crate) *mut tg_broker);

impl TestBroker {
    pub(crate) fn new(topics: &[(&CStr, i32)]) -> TestBroker {
        let mut broker = ptr::null_mut();
        // SAFETY: the addresses of variables, and C texts.
        unsafe {
            assert_eq!(tg_broker_new(1, &raw mut broker), tg_status::TG_OK);
            for (name, partitions) in topics {
                let created = tg_broker_create_topic(broker, name.as_ptr(), *partitions);
                assert_eq!(created, tg_status::TG_OK, "{}", last_error());
            }
        }
        TestBroker(broker)
    }

    pub(crate) fn config(&self, settings: &[(&CStr, &CStr)]) -> *mut tg_config {
        let mut config = ptr::null_mut();
        // SAFETY: the addresses of variables, and C texts.
        unsafe {
            assert_eq!(tg_config_new(&raw mut config), tg_status::TG_OK);
            let servers = tg_broker_bootstrap_servers(self.0);
            tg_config_set(config, c"bootstrap.servers".as_ptr(), servers);
            for (name, value) in settings {
                tg_config_set(config, name.as_ptr(), value.as_ptr());
            }
        }
        config
    }

    pub(crate) fn producer(&self, settings: &[(&CStr, &CStr)]) -> *mut tg_producer {
        let config = self.config(settings);
        let mut producer = ptr::null_mut();
        // SAFETY: the address of a variable.
        let status = unsafe { tg_producer_new(config, &raw mut producer) };
        assert_eq!(status, tg_status::TG_OK, "{}", last_error());
        tg_config_free(config);
        producer
    }

    /// A consumer of one topic from its beginning, in a group of its own: the embedded broker is slow to let another one in.
    pub(crate) fn consumer(&self, topic: &CStr) -> *mut tg_consumer {
        static GROUPS: AtomicUsize = AtomicUsize::new(0);
        let group = format!("g{}", GROUPS.fetch_add(1, Ordering::SeqCst));
        let group = CString::new(group).unwrap();
        let config = self.config(&[
            (c"group.id", &group),
            (c"auto.offset.reset", c"earliest"),
            (c"enable.auto.commit", c"false"),
        ]);
        let mut consumer = ptr::null_mut();
        let topics = [topic.as_ptr()];
        // SAFETY: the address of a variable, and an array of one C text.
        unsafe {
            let status = tg_consumer_new(config, &raw mut consumer);
            assert_eq!(status, tg_status::TG_OK, "{}", last_error());
            let status = tg_consumer_subscribe(consumer, topics.as_ptr(), 1, ptr::null());
            assert_eq!(status, tg_status::TG_OK, "{}", last_error());
        }
        tg_config_free(config);
        consumer
    }
}

impl Drop for TestBroker {
    fn drop(&mut self) {
        tg_broker_free(self.0);
    }
}

pub(crate) fn bytes(text: &str) -> tg_bytes {
    tg_bytes::of(Some(text.as_bytes()))
}

pub(crate) fn record(topic: &CStr, value: &'static str) -> tg_producer_record {
    tg_producer_record {
        topic: topic.as_ptr(),
        partition: TG_PARTITION_ANY,
        key: tg_bytes::of(None),
        value: bytes(value),
        headers: ptr::null(),
        header_count: 0,
        timestamp_ms: TG_TIMESTAMP_NOW,
    }
}

/// What C reads at a pointer of the library's.
pub(crate) fn slice<'a>(bytes: tg_bytes) -> &'a [u8] {
    assert!(!bytes.data.is_null());
    // SAFETY: the library's bytes, which the test keeps alive.
    unsafe { std::slice::from_raw_parts(bytes.data, bytes.length) }
}

pub(crate) fn text(pointer: *const c_char) -> String {
    assert!(!pointer.is_null());
    // SAFETY: the library's texts end with a NUL.
    unsafe { CStr::from_ptr(pointer) }
        .to_string_lossy()
        .into_owned()
}

/// This thread's last error.
pub(crate) fn last_error() -> String {
    // SAFETY: NULL or valid until this thread's next failing call.
    match unsafe { tg_last_error().as_ref() } {
        None => "no error".to_string(),
        Some(error) => text(error.message),
    }
}

/// The argument that this thread's last error names.
pub(crate) fn wrong_argument() -> String {
    // SAFETY: as above.
    unsafe { tg_last_error().as_ref() }.map_or_else(String::new, |error| text(error.argument))
}

/// The same handle again, for another thread: a raw pointer may not go there by itself.
pub(crate) fn again<H>(address: usize) -> *mut H {
    ptr::without_provenance_mut(address)
}

/// Runs `body` in a forked child; true when it answered true there. One that hangs is ended by the system.
pub(crate) fn in_child(body: impl FnOnce() -> bool) -> bool {
    unsafe extern "C" {
        fn fork() -> c_int;
        fn waitpid(child: c_int, status: *mut c_int, options: c_int) -> c_int;
        fn alarm(seconds: c_uint) -> c_uint;
        fn _exit(status: c_int) -> !;
    }
    // SAFETY: the child is one thread, touches only what `body` does and ends without running this process's exit handlers.
    unsafe {
        let child = fork();
        if child == 0 {
            alarm(30);
            let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
            _exit(c_int::from(!ended.unwrap_or(false)));
        }
        assert!(child > 0);
        let mut status = -1;
        assert_eq!(waitpid(child, &raw mut status, 0), child);
        status == 0
    }
}
