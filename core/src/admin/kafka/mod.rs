//! librdkafka's admin requests, with unsafe FFI: rust-rdkafka wraps a third of them.
//!
//! One handle, one queue, one thread per [`Client`] ("tidegate-admin"): every request's answer comes to the queue, and the thread hands
//! it to whoever asked, by the number that travels as the request's opaque. The same thread reads the handle's log lines and errors,
//! woken through the queue when there are some. Always true: what a request was given is freed when the call returns (librdkafka copies
//! it); an event is freed after the last look at it; queues are given back before the handle.

mod configs;
mod groups;
mod read;
mod security;
mod topics;

use std::collections::{BTreeMap, HashMap};
use std::ffi::{CString, c_char, c_int};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::bindings as rd;

use super::WHAT;
use super::answer::{Answer, Giver, pair};
use super::types::AdminOptions;
use super::watcher::Watcher;

use crate::config::IsolationLevel;
use crate::error::{Error, Result};
use crate::native::millis;
use crate::sink::Sink;
use crate::sink::kafka::KafkaSink;
use crate::token::TokenSource;

/// A look at the main queue this often at least, should a wake-up be missed.
const LOOK_EVERY_MS: c_int = 1000;
/// Room for librdkafka's sentence about an option.
const SENTENCE: usize = 512;

type Finish = Box<dyn FnOnce(Result<&Event>) + Send>;

/// An answer of librdkafka's, until it is given back.
pub(super) struct Event(*mut rd::rd_kafka_event_t);

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: given by librdkafka, not NULL, and given back once: here.
        unsafe { rd::rd_kafka_event_destroy(self.0) };
    }
}

/// The queue that answers come to, one reference.
#[derive(Clone, Copy)]
struct Answers(*mut rd::rd_kafka_queue_t);

// SAFETY: librdkafka's queues may be used by any thread.
unsafe impl Send for Answers {}
// SAFETY: as above, by several at once.
unsafe impl Sync for Answers {}

impl Answers {
    /// Ends the wait for an answer.
    fn wake(self) {
        // SAFETY: the queue lives: `Client` takes away what calls this before it gives the queue back.
        unsafe { rd::rd_kafka_queue_yield(self.0) };
    }
}

/// librdkafka's handle and the requests that are under way.
pub(super) struct Client {
    answers: Answers,
    pub(super) sink: KafkaSink,
    under_way: Mutex<HashMap<usize, Finish>>,
    next: AtomicUsize,
    ending: AtomicBool,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.sink.when_rung(None);
        // SAFETY: the reference is ours, nothing wakes the queue any more, and the handle still lives.
        unsafe { rd::rd_kafka_queue_destroy(self.answers.0) };
    }
}

impl Client {
    pub(super) fn new(
        properties: &BTreeMap<String, String>,
        watcher: Arc<Watcher>,
        tokens: Option<&TokenSource>,
    ) -> Result<Client> {
        let sink = KafkaSink::new(properties, watcher, tokens, None)?;
        let handle = sink.native();
        // SAFETY: the handle lives.
        let answers = Answers(unsafe { rd::rd_kafka_queue_new(handle) });
        // The main queue has something: wakes the thread, which waits at the other one.
        sink.when_rung(Some(Box::new(move || answers.wake())));
        Ok(Client {
            answers,
            sink,
            under_way: Mutex::default(),
            // 0 is NULL, which no request has.
            next: AtomicUsize::new(1),
            ending: AtomicBool::new(false),
        })
    }

    fn handle(&self) -> *mut rd::rd_kafka_t {
        self.sink.native()
    }

    /// The life of the thread.
    pub(super) fn serve(&self) {
        // What came before the wake-up was set wakes nobody.
        self.sink.poll(Duration::ZERO);
        while !self.ending.load(Ordering::SeqCst) {
            // SAFETY: the queue is ours.
            let event = unsafe { rd::rd_kafka_queue_poll(self.answers.0, LOOK_EVERY_MS) };
            if !event.is_null() {
                self.finish(&Event(event));
            }
            self.sink.poll(Duration::ZERO);
        }
        let left: Vec<Finish> = self.under_way.lock().drain().map(|(_, f)| f).collect();
        for finish in left {
            finish(Err(Error::Closed { what: WHAT }));
        }
    }

    /// Reads log lines and errors on this thread as well: whoever takes an event tells it.
    pub(super) fn look(&self, timeout: Duration) {
        self.sink.poll(timeout);
    }

    fn finish(&self, event: &Event) {
        // SAFETY: the event is alive.
        let number = unsafe { rd::rd_kafka_event_opaque(event.0) }.addr();
        let Some(finish) = self.under_way.lock().remove(&number) else {
            return;
        };
        // SAFETY: the event is alive; so is its text until it is given back.
        let (code, reason) = unsafe {
            let code = rd::rd_kafka_event_error(event.0);
            (code, read::text(rd::rd_kafka_event_error_string(event.0)))
        };
        match read::error(code, reason) {
            Some(error) => finish(Err(error)),
            None => finish(Ok(event)),
        }
    }

    /// Ends the thread after what it is doing.
    pub(super) fn end(&self) {
        self.ending.store(true, Ordering::SeqCst);
        // SAFETY: the queue is ours.
        unsafe { rd::rd_kafka_queue_yield(self.answers.0) };
    }

    /// Makes a request: `call` gets the handle, the options and the queue for the answer, `read` its event, of the kind asked for.
    fn ask<T: Send + 'static>(
        &self,
        what: &'static str,
        kind: rd::rd_kafka_admin_op_t,
        options: &AdminOptions,
        call: impl FnOnce(
            *mut rd::rd_kafka_t,
            *const rd::rd_kafka_AdminOptions_t,
            *mut rd::rd_kafka_queue_t,
        ),
        read: unsafe fn(*mut rd::rd_kafka_event_t) -> T,
    ) -> Result<Answer<T>> {
        let native = Options::new(self.handle(), kind, options)?;
        let (giver, answer): (Giver<T>, _) = pair(what);
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let finish: Finish = Box::new(move |event| {
            // SAFETY: the event answers the request of this number, so it is of the kind that `read` is for; it lives.
            giver.give(event.map(|event| unsafe { read(event.0) }));
        });
        self.under_way.lock().insert(number, finish);
        // SAFETY: the options are alive; librdkafka never looks behind the opaque.
        unsafe {
            rd::rd_kafka_AdminOptions_set_opaque(native.0, ptr::without_provenance_mut(number));
        }
        call(self.handle(), native.0, self.answers.0);
        Ok(answer)
    }
}

/// librdkafka's options of one request.
struct Options(*mut rd::rd_kafka_AdminOptions_t);

impl Drop for Options {
    fn drop(&mut self) {
        // SAFETY: ours, given back once: here.
        unsafe { rd::rd_kafka_AdminOptions_destroy(self.0) };
    }
}

impl Options {
    fn new(
        handle: *mut rd::rd_kafka_t,
        kind: rd::rd_kafka_admin_op_t,
        options: &AdminOptions,
    ) -> Result<Options> {
        // SAFETY: the handle lives.
        let native = Options(unsafe { rd::rd_kafka_AdminOptions_new(handle, kind) });
        let raw = native.0;
        // SAFETY: (all the calls below) the options are alive, and each array is as long as it is said to be.
        unsafe {
            if let Some(timeout) = options.request_timeout {
                native.set("request_timeout", |text, size| {
                    rd::rd_kafka_AdminOptions_set_request_timeout(raw, millis(timeout), text, size)
                })?;
            }
            if let Some(timeout) = options.operation_timeout {
                native.set("operation_timeout", |text, size| {
                    rd::rd_kafka_AdminOptions_set_operation_timeout(
                        raw,
                        millis(timeout),
                        text,
                        size,
                    )
                })?;
            }
            if options.validate_only {
                native.set("validate_only", |text, size| {
                    rd::rd_kafka_AdminOptions_set_validate_only(raw, 1, text, size)
                })?;
            }
            if let Some(broker) = options.broker {
                native.set("broker", |text, size| {
                    rd::rd_kafka_AdminOptions_set_broker(raw, broker, text, size)
                })?;
            }
            if options.require_stable {
                let error = rd::rd_kafka_AdminOptions_set_require_stable_offsets(raw, 1);
                refused("require_stable", error)?;
            }
            if options.authorized_operations {
                let error = rd::rd_kafka_AdminOptions_set_include_authorized_operations(raw, 1);
                refused("authorized_operations", error)?;
            }
            if !options.states.is_empty() {
                let states: Vec<_> = options.states.iter().map(|s| read::state(*s)).collect();
                let error = rd::rd_kafka_AdminOptions_set_match_consumer_group_states(
                    raw,
                    states.as_ptr(),
                    states.len(),
                );
                refused("states", error)?;
            }
            if !options.types.is_empty() {
                let types: Vec<_> = options.types.iter().map(|t| read::kind(*t)).collect();
                let error = rd::rd_kafka_AdminOptions_set_match_consumer_group_types(
                    raw,
                    types.as_ptr(),
                    types.len(),
                );
                refused("types", error)?;
            }
            if let Some(isolation) = options.isolation {
                let level = match isolation {
                    IsolationLevel::ReadUncommitted => {
                        rd::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_UNCOMMITTED
                    }
                    IsolationLevel::ReadCommitted => {
                        rd::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_COMMITTED
                    }
                };
                refused(
                    "isolation",
                    rd::rd_kafka_AdminOptions_set_isolation_level(raw, level),
                )?;
            }
        }
        Ok(native)
    }

    fn set(
        &self,
        name: &'static str,
        call: impl FnOnce(*mut c_char, usize) -> rd::rd_kafka_resp_err_t,
    ) -> Result<()> {
        let (code, said) = sentence(call);
        if code == rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Ok(());
        }
        Err(Error::argument(name, said, "see the limits of this option"))
    }
}

/// Runs a call that says in a buffer what is wrong.
fn sentence<T>(call: impl FnOnce(*mut c_char, usize) -> T) -> (T, String) {
    let mut text: [c_char; SENTENCE] = [0; SENTENCE];
    let result = call(text.as_mut_ptr(), text.len());
    // SAFETY: librdkafka ends what it wrote with a NUL; if it wrote nothing, the first byte is one.
    (result, unsafe { read::text(text.as_ptr()) })
}

/// The error that a call gave, which is given back.
///
/// # Safety
///
/// NULL, or an error that is the caller's.
unsafe fn refused(name: &'static str, error: *mut rd::rd_kafka_error_t) -> Result<()> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: by contract; it is given back once.
    let said = unsafe {
        let said = read::text(rd::rd_kafka_error_string(error));
        rd::rd_kafka_error_destroy(error);
        said
    };
    Err(Error::argument(name, said, "see the limits of this option"))
}

/// A text for librdkafka.
fn c_text(argument: &'static str, text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| {
        Error::argument(
            argument,
            format!("{text:?} holds a NUL character"),
            "remove it",
        )
    })
}

/// The pointer of a text that may be missing.
fn or_null(text: Option<&CString>) -> *const c_char {
    text.map_or(ptr::null(), |text| text.as_ptr())
}

/// Objects that a request is made of; each is given back.
struct Natives<T> {
    items: Vec<*mut T>,
    destroy: unsafe extern "C" fn(*mut T),
}

impl<T> Natives<T> {
    fn new(destroy: unsafe extern "C" fn(*mut T)) -> Natives<T> {
        Natives {
            items: Vec::new(),
            destroy,
        }
    }

    /// Keeps an object; NULL is the error that `said` is about.
    fn push(&mut self, argument: &'static str, item: *mut T, said: &str) -> Result<*mut T> {
        if item.is_null() {
            let said = if said.is_empty() {
                "librdkafka refused it".to_string()
            } else {
                said.to_string()
            };
            return Err(Error::argument(argument, said, "correct it"));
        }
        self.items.push(item);
        Ok(item)
    }

    fn pointer(&mut self) -> *mut *mut T {
        self.items.as_mut_ptr()
    }
}

impl<T> Drop for Natives<T> {
    fn drop(&mut self) {
        for item in &self.items {
            // SAFETY: not NULL, ours, of the kind that `destroy` is for, and given back once.
            unsafe { (self.destroy)(*item) };
        }
    }
}
