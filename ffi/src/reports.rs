//! Delivery reports: to a callback on the delivery thread, or waiting until the program asks for them.

use std::collections::VecDeque;
use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tidegate::{DeliveryReport, Error, ReportCallback, Result};

use crate::error::{ErrorText, tg_error, tg_status};
use crate::guard;
use crate::input;
use crate::producer::{sender, tg_producer};
use crate::record::tg_bytes;

/// So many polled reports of a producer may be asked for and not yet read; the sends beyond are refused with TG_ERROR_ARGUMENT.
pub const TG_MAX_UNREAD_REPORTS: usize = 1_000_000;

/// What became of a record that was accepted.
#[repr(C)]
#[derive(Debug)]
pub struct tg_delivery_report {
    /// The topic's name, UTF-8; empty when the producer ended before librdkafka told what became of the record.
    pub topic: tg_bytes,
    /// The partition; -1 when the record failed before it had one.
    pub partition: i32,
    /// TG_OK when it was delivered.
    pub status: tg_status,
    /// Its offset; -1 when it was not delivered, and with `acks=0`, where the broker does not tell.
    pub offset: i64,
    /// Its timestamp in milliseconds since 1970; -1 when there is none.
    pub timestamp_ms: i64,
    /// Microseconds from the call to the report.
    pub latency_us: u64,
    /// Why it was not delivered; NULL when it was.
    pub error: *const tg_error,
    /// tg_on_delivery.user_data of the call that sent it.
    pub opaque: *mut c_void,
}

/// Called once with what became of a record, on the producer's delivery thread and under no lock. Every other report waits for it, so it
/// should be short. It may send, close and free (both return at once and are done when it has returned), and call everything else but
/// tg_producer_flush() of this producer, which answers TG_ERROR_ARGUMENT. The report and its texts end with the call.
pub type tg_delivery_callback =
    Option<unsafe extern "C" fn(report: *const tg_delivery_report, user_data: *mut c_void)>;

/// Who hears what becomes of a record.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct tg_on_delivery {
    /// What to call; NULL lets the report wait for tg_producer_next_report().
    pub callback: tg_delivery_callback,
    /// Given to the callback, and in tg_delivery_report.opaque. Neither used nor freed when the send is refused.
    pub user_data: *mut c_void,
}

/// C's callback with its data.
struct Target(tg_on_delivery);

// SAFETY: the caller has promised that `user_data` may be used on the delivery thread.
unsafe impl Send for Target {}

impl Target {
    fn tell(self, report: &DeliveryReport<'_>) {
        let Some(callback) = self.0.callback else {
            return;
        };
        let error = report.outcome.as_ref().err().map(ErrorText::new);
        let told = tg_delivery_report {
            topic: tg_bytes::of(Some(report.topic.as_bytes())),
            partition: report.partition,
            status: status(error.as_ref()),
            offset: report.offset,
            timestamp_ms: report.timestamp_ms.unwrap_or(-1),
            latency_us: report.latency_us,
            error: pointer(error.as_ref()),
            opaque: self.0.user_data,
        };
        // SAFETY: C's function with its own user data, and a report that lives through the call.
        let _ = guard::contain(|| unsafe { callback(&raw const told, self.0.user_data) });
    }
}

fn status(error: Option<&ErrorText>) -> tg_status {
    error.map_or(tg_status::TG_OK, |error| error.as_c().status)
}

fn pointer(error: Option<&ErrorText>) -> *const tg_error {
    error.map_or(ptr::null(), |error| ptr::from_ref(error.as_c()))
}

/// A report that waits to be read.
struct Unread {
    topic: Arc<str>,
    partition: i32,
    offset: i64,
    timestamp_ms: Option<i64>,
    latency_us: u64,
    error: Option<Error>,
    opaque: *mut c_void,
}

// SAFETY: `opaque` is only handed back.
unsafe impl Send for Unread {}

/// The report that was read last: its texts stay good until the next one.
struct Read {
    topic: Arc<str>,
    error: Option<ErrorText>,
}

// SAFETY: the pointers of the error's form lead into texts of its own, which are immutable and go where it goes.
unsafe impl Send for Read {}

#[derive(Default)]
struct State {
    unread: VecDeque<Unread>,
    read: Option<Read>,
    /// One text for all reports of a topic in a row.
    topic: Arc<str>,
    /// The producer was closed: nothing is waited for any more than what is on its way.
    closed: bool,
    /// The producer was freed: nothing is given any more.
    freed: bool,
}

/// The reports of one producer that wait to be read.
pub(crate) struct Reports {
    state: Mutex<State>,
    changed: Condvar,
    /// Asked for and not yet read.
    asked: AtomicUsize,
    /// The process that made it: in a forked child nobody would ever end a wait.
    process: u32,
}

/// A report asked for: arrives, or ends with the record that was refused.
struct Asked {
    reports: Arc<Reports>,
    opaque: *mut c_void,
    arrived: bool,
}

// SAFETY: `opaque` is only handed back.
unsafe impl Send for Asked {}

impl Asked {
    fn arrive(mut self, report: &DeliveryReport<'_>) {
        self.arrived = true;
        let mut state = self.reports.state.lock();
        if *state.topic != *report.topic {
            state.topic = Arc::from(report.topic);
        }
        let topic = Arc::clone(&state.topic);
        state.unread.push_back(Unread {
            topic,
            partition: report.partition,
            offset: report.offset,
            timestamp_ms: report.timestamp_ms,
            latency_us: report.latency_us,
            error: report.outcome.as_ref().err().cloned(),
            opaque: self.opaque,
        });
        drop(state);
        self.reports.changed.notify_one();
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if !self.arrived {
            self.reports.asked.fetch_sub(1, Ordering::SeqCst);
            // A reader of a closed producer may wait for this very one.
            drop(self.reports.state.lock());
            self.reports.changed.notify_all();
        }
    }
}

impl Reports {
    pub(crate) fn new() -> Reports {
        Reports {
            state: Mutex::default(),
            changed: Condvar::new(),
            asked: AtomicUsize::new(0),
            process: std::process::id(),
        }
    }

    /// What core calls for a record sent with `on_delivery`.
    pub(crate) fn callback(
        reports: &Arc<Reports>,
        on_delivery: tg_on_delivery,
    ) -> Result<ReportCallback> {
        if on_delivery.callback.is_some() {
            let target = Target(on_delivery);
            return Ok(Box::new(move |report| target.tell(report)));
        }
        if reports.asked.fetch_add(1, Ordering::SeqCst) >= TG_MAX_UNREAD_REPORTS {
            reports.asked.fetch_sub(1, Ordering::SeqCst);
            return Err(input::refused(
                "on_delivery",
                format!("{TG_MAX_UNREAD_REPORTS} delivery reports are asked for and not read"),
                "read them with tg_producer_next_report()",
            ));
        }
        let asked = Asked {
            reports: Arc::clone(reports),
            opaque: on_delivery.user_data,
            arrived: false,
        };
        Ok(Box::new(move |report| asked.arrive(report)))
    }

    /// The producer was closed: who waits here gets what comes still, and then nothing.
    pub(crate) fn close(&self) {
        self.end(|state| state.closed = true);
    }

    /// The producer was freed: who waits here gets nothing.
    pub(crate) fn free(&self) {
        self.end(|state| state.freed = true);
    }

    fn end(&self, note: impl FnOnce(&mut State)) {
        if std::process::id() == self.process {
            note(&mut self.state.lock());
            self.changed.notify_all();
        }
    }

    fn next(&self, timeout: Option<Duration>) -> Result<Option<tg_delivery_report>> {
        if std::process::id() != self.process {
            return Err(Error::Forked { what: "producer" });
        }
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut state = self.state.lock();
        loop {
            if state.freed {
                return Ok(None);
            }
            if let Some(next) = state.unread.pop_front() {
                self.asked.fetch_sub(1, Ordering::SeqCst);
                return Ok(Some(state.read(next)));
            }
            if state.closed && self.asked.load(Ordering::SeqCst) == 0 {
                return Ok(None);
            }
            match deadline {
                Some(deadline) => {
                    if self.changed.wait_until(&mut state, deadline).timed_out()
                        && state.unread.is_empty()
                    {
                        return Ok(None);
                    }
                }
                None => self.changed.wait(&mut state),
            }
        }
    }
}

impl State {
    fn read(&mut self, next: Unread) -> tg_delivery_report {
        let read = self.read.insert(Read {
            topic: next.topic,
            error: next.error.as_ref().map(ErrorText::new),
        });
        tg_delivery_report {
            topic: tg_bytes::of(Some(read.topic.as_bytes())),
            partition: next.partition,
            status: status(read.error.as_ref()),
            offset: next.offset,
            timestamp_ms: next.timestamp_ms.unwrap_or(-1),
            latency_us: next.latency_us,
            error: pointer(read.error.as_ref()),
            opaque: next.opaque,
        }
    }
}

/// The next report of a record that was sent with a tg_on_delivery without a callback, in the order in which the reports came. At most
/// TG_MAX_UNREAD_REPORTS wait. Also after tg_producer_close(), which leaves none out. Any thread, but the texts of a report end with the
/// next call, also another thread's.
///
/// @param timeout_ms 0 or more; TG_FOREVER waits until there is a report or the producer is closed.
/// @param report is filled on TG_OK; its texts are good until the next call of this function and tg_producer_free().
/// @return TG_NOTHING when the time is over, and when the producer was closed and every report was read; TG_ERROR_FORKED;
///         TG_ERROR_ARGUMENT for NULL, a freed producer, and another negative time.
///
/// # Safety
///
/// `report` is NULL or the address of a variable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tg_producer_next_report(
    producer: *mut tg_producer,
    timeout_ms: i64,
    report: *mut tg_delivery_report,
) -> tg_status {
    guard::status(|| {
        let sender = sender(producer)?;
        input::check_place("report", report)?;
        let timeout = input::timeout("timeout_ms", timeout_ms)?;
        let Some(next) = sender.reports.next(timeout)? else {
            return Ok(tg_status::TG_NOTHING);
        };
        // SAFETY: checked above, and writable by contract.
        unsafe { input::put("report", report, next)? };
        Ok(tg_status::TG_OK)
    })
}

#[cfg(test)]
mod tests {
    use std::mem::MaybeUninit;
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;
    use crate::broker::{TG_ALL_BROKERS, tg_broker_down};
    use crate::input::TG_FOREVER;
    use crate::producer::{
        tg_producer_close, tg_producer_flush, tg_producer_free, tg_producer_purge,
        tg_producer_record, tg_producer_send, tg_producer_try_send,
    };
    use crate::testing::{
        TestBroker, WAIT_MS, again, in_child, last_error, record, slice, text, wrong_argument,
    };
    use tg_status::{
        TG_ERROR_ARGUMENT, TG_ERROR_CLOSED, TG_ERROR_FORKED, TG_ERROR_KAFKA, TG_NOTHING, TG_OK,
    };

    fn asked(number: usize) -> tg_on_delivery {
        tg_on_delivery {
            callback: None,
            user_data: ptr::without_provenance_mut(number),
        }
    }

    fn send(
        producer: *mut tg_producer,
        record: &tg_producer_record,
        on_delivery: tg_on_delivery,
    ) -> tg_status {
        // SAFETY: a record whose pointers lead to constants.
        unsafe { tg_producer_send(producer, record, &raw const on_delivery) }
    }

    fn next(producer: *mut tg_producer, timeout_ms: i64) -> Result<tg_delivery_report, tg_status> {
        let mut report = MaybeUninit::uninit();
        // SAFETY: the place for a report, which TG_OK says is filled.
        unsafe {
            match tg_producer_next_report(producer, timeout_ms, report.as_mut_ptr()) {
                TG_OK => Ok(report.assume_init()),
                other => Err(other),
            }
        }
    }

    #[test]
    fn polled_reports_tell_what_became_of_each_record() {
        let broker = TestBroker::new(&[(c"t", 2), (c"u", 1)]);
        let producer = broker.producer(&[]);
        for number in 1..=3 {
            let record = tg_producer_record {
                partition: 1,
                ..record(c"t", "v")
            };
            assert_eq!(
                send(producer, &record, asked(number)),
                TG_OK,
                "{}",
                last_error()
            );
        }
        // Nobody asked for this one's.
        // SAFETY: a record whose pointers lead to constants.
        unsafe { tg_producer_send(producer, &record(c"u", "v"), ptr::null()) };
        for number in 1..=3_u8 {
            let report = next(producer, WAIT_MS).unwrap();
            assert_eq!((slice(report.topic), report.partition), (&b"t"[..], 1));
            assert_eq!(report.offset, i64::from(number) - 1);
            assert_eq!(
                (report.status, report.opaque.addr()),
                (TG_OK, usize::from(number))
            );
            assert!(report.error.is_null() && report.timestamp_ms > 0 && report.latency_us > 0);
        }
        assert_eq!(next(producer, 0).unwrap_err(), TG_NOTHING);
        assert_eq!(tg_producer_free(producer), TG_OK);
    }

    #[test]
    fn a_record_that_failed_says_why_and_where() {
        let broker = TestBroker::new(&[(c"t", 1)]);
        assert_eq!(tg_broker_down(broker.0, TG_ALL_BROKERS), TG_OK);
        let producer = broker.producer(&[]);
        assert_eq!(send(producer, &record(c"t", "v"), asked(7)), TG_OK);
        assert_eq!(next(producer, 1).unwrap_err(), TG_NOTHING);
        assert_eq!(tg_producer_purge(producer), TG_OK);
        let report = next(producer, WAIT_MS).unwrap();
        assert_eq!((report.status, report.offset), (TG_ERROR_KAFKA, -1));
        assert_eq!((slice(report.topic), report.opaque.addr()), (&b"t"[..], 7));
        // SAFETY: valid until the next call.
        let error = unsafe { &*report.error };
        assert_eq!(text(error.kafka_name), "_PURGE_QUEUE");
        assert!(text(error.message).contains("'t'"));
        assert_eq!(tg_producer_free(producer), TG_OK);
    }

    #[test]
    fn close_leaves_no_report_out_and_ends_who_waits() {
        let broker = TestBroker::new(&[(c"t", 1)]);
        let producer = broker.producer(&[]).addr();
        let read = std::thread::scope(|scope| {
            let reader = scope.spawn(move || {
                let mut read = 0;
                while next(again(producer), TG_FOREVER).is_ok() {
                    read += 1;
                }
                read
            });
            for number in 0..500 {
                assert_eq!(
                    send(again(producer), &record(c"t", "v"), asked(number)),
                    TG_OK
                );
            }
            assert_eq!(
                tg_producer_close(again(producer), WAIT_MS),
                TG_OK,
                "{}",
                last_error()
            );
            reader.join().unwrap()
        });
        assert_eq!(read, 500);
        let producer = again(producer);
        assert_eq!(next(producer, TG_FOREVER).unwrap_err(), TG_NOTHING);
        assert_eq!(
            send(producer, &record(c"t", "v"), asked(0)),
            TG_ERROR_CLOSED
        );
        assert_eq!(
            next(producer, TG_FOREVER).unwrap_err(),
            TG_NOTHING,
            "a refused one has none"
        );
        assert_eq!(tg_producer_free(producer), TG_OK);
        assert_eq!(next(producer, 0).unwrap_err(), TG_ERROR_ARGUMENT);
    }

    #[test]
    fn whoever_waits_or_comes_to_wait_is_ended() {
        for end in [Reports::free, Reports::close] {
            let reports = Reports::new();
            std::thread::scope(|scope| {
                let reader = scope.spawn(|| {
                    let started = Instant::now();
                    let told = reports.next(Some(Duration::from_secs(20)));
                    matches!(told, Ok(None)) && started.elapsed() < Duration::from_secs(10)
                });
                end(&reports);
                assert!(reader.join().unwrap());
            });
        }
    }

    #[test]
    fn free_ends_who_waits() {
        let broker = TestBroker::new(&[]);
        let producer = broker.producer(&[]).addr();
        std::thread::scope(|scope| {
            let reader = scope.spawn(move || next(again(producer), TG_FOREVER).unwrap_err());
            assert_eq!(tg_producer_free(again(producer)), TG_OK);
            // Freed before it waited, or while it did.
            let told = reader.join().unwrap();
            assert!(matches!(told, TG_NOTHING | TG_ERROR_ARGUMENT), "{told:?}");
        });
    }

    #[test]
    fn unread_reports_are_bounded() {
        let reports = Arc::new(Reports::new());
        let kept: Vec<_> = (0..TG_MAX_UNREAD_REPORTS)
            .map(|number| Reports::callback(&reports, asked(number)).unwrap())
            .collect();
        let refused = Reports::callback(&reports, asked(0)).err().unwrap();
        assert!(
            refused.to_string().contains("tg_producer_next_report"),
            "{refused}"
        );
        drop(kept);
        assert!(
            Reports::callback(&reports, asked(0)).is_ok(),
            "what was refused does not count"
        );
    }

    #[test]
    fn bad_input_is_told() {
        let broker = TestBroker::new(&[]);
        let producer = broker.producer(&[]);
        assert_eq!(next(producer, -2).unwrap_err(), TG_ERROR_ARGUMENT);
        assert_eq!(wrong_argument(), "timeout_ms");
        assert_eq!(next(ptr::null_mut(), 0).unwrap_err(), TG_ERROR_ARGUMENT);
        // SAFETY: NULL.
        let null = unsafe { tg_producer_next_report(producer, 0, ptr::null_mut()) };
        assert_eq!(null, TG_ERROR_ARGUMENT);
        assert_eq!(wrong_argument(), "report");
        tg_producer_free(producer);
    }

    #[test]
    fn a_forked_child_does_not_wait_for_ever() {
        let broker = TestBroker::new(&[]);
        let producer = broker.producer(&[]);
        assert!(in_child(|| {
            matches!(next(producer, TG_FOREVER), Err(TG_ERROR_FORKED))
                && tg_producer_free(producer) == TG_OK
        }));
        tg_producer_free(producer);
    }

    /// What a callback needs and tells; freed by the test.
    struct Told {
        producer: *mut tg_producer,
        tell: Sender<(tg_status, tg_status)>,
    }

    fn told(producer: *mut tg_producer) -> (*mut c_void, Receiver<(tg_status, tg_status)>) {
        let (tell, heard) = channel();
        (
            Box::into_raw(Box::new(Told { producer, tell })).cast(),
            heard,
        )
    }

    /// Calls `body` with what [`told`] made, and tells its answer and the report's status.
    unsafe fn tell(
        report: *const tg_delivery_report,
        user_data: *mut c_void,
        body: impl FnOnce(*mut tg_producer) -> tg_status,
    ) {
        // SAFETY: as [`told`] made it, for one call.
        let told = unsafe { Box::from_raw(user_data.cast::<Told>()) };
        // SAFETY: valid during the call.
        let status = unsafe { (*report).status };
        let _ = told.tell.send((body(told.producer), status));
    }

    fn call_back(
        broker: &TestBroker,
        callback: unsafe extern "C" fn(*const tg_delivery_report, *mut c_void),
    ) -> (*mut tg_producer, (tg_status, tg_status)) {
        let producer = broker.producer(&[]);
        let (user_data, heard) = told(producer);
        let on_delivery = tg_on_delivery {
            callback: Some(callback),
            user_data,
        };
        assert_eq!(send(producer, &record(c"t", "v"), on_delivery), TG_OK);
        let wait = std::time::Duration::from_millis(WAIT_MS.unsigned_abs());
        (producer, heard.recv_timeout(wait).unwrap())
    }

    unsafe extern "C" fn sends(report: *const tg_delivery_report, user_data: *mut c_void) {
        // SAFETY: as called by the library.
        unsafe {
            tell(report, user_data, |producer| {
                tg_producer_try_send(producer, &record(c"t", "again"), ptr::null())
            });
        }
    }

    unsafe extern "C" fn flushes(report: *const tg_delivery_report, user_data: *mut c_void) {
        // SAFETY: as called by the library.
        unsafe {
            tell(report, user_data, |producer| {
                tg_producer_flush(producer, WAIT_MS)
            })
        };
    }

    unsafe extern "C" fn closes(report: *const tg_delivery_report, user_data: *mut c_void) {
        // SAFETY: as called by the library.
        unsafe {
            tell(report, user_data, |producer| {
                tg_producer_close(producer, WAIT_MS)
            })
        };
    }

    unsafe extern "C" fn frees(report: *const tg_delivery_report, user_data: *mut c_void) {
        // SAFETY: as called by the library.
        unsafe { tell(report, user_data, |producer| tg_producer_free(producer)) };
    }

    #[test]
    fn a_callback_may_call_the_library() {
        let broker = TestBroker::new(&[(c"t", 1)]);
        let (producer, told) = call_back(&broker, sends);
        assert_eq!(told, (TG_OK, TG_OK));
        assert_eq!(tg_producer_flush(producer, WAIT_MS), TG_OK);
        tg_producer_free(producer);

        let (producer, told) = call_back(&broker, flushes);
        assert_eq!(told, (TG_ERROR_ARGUMENT, TG_OK), "it would wait for itself");
        assert_eq!(tg_producer_flush(producer, WAIT_MS), TG_OK);
        tg_producer_free(producer);

        let (producer, told) = call_back(&broker, closes);
        assert_eq!(told, (TG_OK, TG_OK));
        assert_eq!(
            send(producer, &record(c"t", "v"), asked(0)),
            TG_ERROR_CLOSED
        );
        assert_eq!(tg_producer_free(producer), TG_OK);

        let (producer, told) = call_back(&broker, frees);
        assert_eq!(told, (TG_OK, TG_OK));
        assert_eq!(tg_producer_free(producer), TG_ERROR_ARGUMENT);
    }

    #[test]
    fn a_callback_hears_of_a_record_that_is_given_up() {
        let broker = TestBroker::new(&[(c"t", 1)]);
        assert_eq!(tg_broker_down(broker.0, TG_ALL_BROKERS), TG_OK);
        let producer = broker.producer(&[]);
        let (user_data, heard) = told(producer);
        let on_delivery = tg_on_delivery {
            callback: Some(flushes),
            user_data,
        };
        assert_eq!(send(producer, &record(c"t", "v"), on_delivery), TG_OK);
        tg_producer_close(producer, 0);
        assert_eq!(heard.try_recv().unwrap().1, TG_ERROR_KAFKA);
        tg_producer_free(producer);
    }
}
