//! Handlers run by the library, on the thread that calls it.

use std::ffi::{c_int, c_void};
use std::sync::Arc;

use tidegate::{Error, Result};

use crate::batch::{self, Batch, tg_batch};
use crate::consumer::{Reader, reader, tg_consumer};
use crate::error::tg_status;
use crate::guard;
use crate::handle;
use crate::input;
use crate::record::tg_record;

/// Called with each record; it and what it points to end with the call.
///
/// @return 0 when the record is finished; another number stops, and the record is handed out again.
pub type tg_record_handler =
    Option<unsafe extern "C" fn(record: *const tg_record, user_data: *mut c_void) -> c_int>;

/// Called with each batch, which is the library's and ends with the call; tg_batch_slice() keeps rows of it.
///
/// @return 0 when all of its records are finished; another number stops, and the batch is handed out again.
pub type tg_batch_handler =
    Option<unsafe extern "C" fn(batch: *const tg_batch, user_data: *mut c_void) -> c_int>;

/// Hands out until the consumer is woken or closed, or `step` fails. `step` answers false when there was nothing to give.
fn run(
    consumer: *mut tg_consumer,
    mut step: impl FnMut(&Arc<Reader>) -> Result<bool>,
) -> Result<()> {
    let reader = reader(consumer)?;
    let mut handled = false;
    loop {
        match step(&reader) {
            Ok(true) => handled = true,
            Ok(false) => {
                reader.nothing()?;
                return Ok(());
            }
            // Closed meanwhile: that is how it is told to end.
            Err(Error::Closed { .. }) if handled => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

fn missing(callback: bool) -> Result<()> {
    if callback {
        return Ok(());
    }
    Err(input::refused("handler", "it is NULL", "pass a function"))
}

/// What a handler's answer means; one that is not 0 puts back what it was given.
fn answered(
    reader: &Reader,
    code: c_int,
    what: &str,
    first: &tidegate::Record<'_>,
) -> Result<bool> {
    if code == 0 {
        return Ok(true);
    }
    reader.consumer.put_back(None);
    Err(Error::Listener {
        context: format!(
            "the handler answered {code} for {what} {} [{}] @{}, which is handed out again",
            first.topic(),
            first.partition(),
            first.offset()
        ),
    })
}

/// Calls the handler with one record after the other, on this thread, until the consumer is woken or closed. A record is finished when the
/// handler has answered 0 and the next one is asked for, also by another call; a commit in the handler includes the record in it.
/// This is a polling call, and so it runs the rebalance callbacks. The handler may call everything of the library; polling this
/// consumer in it finishes its record, as everywhere, and closing it leaves its record uncommitted (tg_consumer_wake() does not).
///
/// @return TG_OK after tg_consumer_wake(), tg_consumer_close() and tg_consumer_free(), whoever called it. TG_ERROR_CALLBACK when the handler
///         answered something else than 0 (the text says what and for which record; calling again hands that record out again) and when
///         a rebalance callback did; TG_ERROR_CONCURRENT_USE; TG_ERROR_CLOSED when it was closed before; TG_ERROR_KAFKA as of
///         tg_consumer_poll(); TG_ERROR_ARGUMENT for NULL and a freed consumer.
///
/// # Safety
///
/// `handler` may be called with `user_data`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tg_consumer_run(
    consumer: *mut tg_consumer,
    handler: tg_record_handler,
    user_data: *mut c_void,
) -> tg_status {
    guard::call(|| {
        missing(handler.is_some())?;
        run(consumer, |reader| {
            let (Some(next), Some(handler)) = (reader.consumer.poll(None)?, handler) else {
                return Ok(false);
            };
            let record = next.as_record();
            let given = tg_record::of(&record);
            // SAFETY: C's function with its own user data, and a record that lives through the call.
            let code = unsafe { handler(&raw const given, user_data) };
            answered(reader, code, "record", &record)
        })
    })
}

/// As tg_consumer_run(), with a batch at a time.
///
/// @param max_records the most records of a batch, 0 for no limit; never more than `max.poll.records`.
/// @return as tg_consumer_run().
///
/// # Safety
///
/// As of tg_consumer_run().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tg_consumer_run_batches(
    consumer: *mut tg_consumer,
    max_records: usize,
    handler: tg_batch_handler,
    user_data: *mut c_void,
) -> tg_status {
    guard::call(|| {
        missing(handler.is_some())?;
        let limit = (max_records > 0).then_some(max_records);
        run(consumer, |reader| {
            let (Some(next), Some(handler)) = (reader.consumer.next_batch(None, limit)?, handler)
            else {
                return Ok(false);
            };
            let given = batch::make(next.clone())?;
            // SAFETY: C's function with its own user data, and a batch that lives through the call.
            let code = unsafe { handler(given, user_data) };
            // Freed in the handler all the same: that is its affair.
            let _ = handle::take::<Batch>(given);
            match next.get(0) {
                Some(first) => answered(reader, code, "the batch from", &first),
                None => Ok(true),
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use std::ptr;

    use super::*;
    use crate::batch::{tg_batch_count, tg_batch_free};
    use crate::consumer::{
        tg_consumer_close, tg_consumer_free, tg_consumer_poll, tg_consumer_wake,
    };
    use crate::offsets::tg_consumer_position;
    use crate::producer::{tg_producer_flush, tg_producer_free, tg_producer_send};
    use crate::testing::{
        TestBroker, WAIT_MS, again, in_child, last_error, record, wrong_argument,
    };
    use tg_status::{
        TG_ERROR_ARGUMENT, TG_ERROR_CALLBACK, TG_ERROR_CLOSED, TG_ERROR_CONCURRENT_USE,
        TG_ERROR_FORKED, TG_OK,
    };

    const RECORDS: i64 = 5;

    fn loaded() -> TestBroker {
        let broker = TestBroker::new(&[(c"t", 1)]);
        let producer = broker.producer(&[]);
        for _ in 0..RECORDS {
            // SAFETY: a record whose pointers lead to constants.
            let sent = unsafe { tg_producer_send(producer, &record(c"t", "v"), ptr::null()) };
            assert_eq!(sent, TG_OK);
        }
        assert_eq!(tg_producer_flush(producer, WAIT_MS), TG_OK);
        tg_producer_free(producer);
        broker
    }

    /// What a handler is told to do, and what it saw.
    struct Plan {
        consumer: *mut tg_consumer,
        seen: Vec<i64>,
        batches: usize,
        /// Fails at this offset, once.
        fail_at: Option<i64>,
        /// What to do after the last record.
        last: fn(*mut tg_consumer) -> tg_status,
        told: Option<tg_status>,
    }

    impl Plan {
        fn new(consumer: *mut tg_consumer) -> Plan {
            Plan {
                consumer,
                seen: Vec::new(),
                batches: 0,
                fail_at: None,
                last: |consumer| tg_consumer_wake(consumer),
                told: None,
            }
        }

        fn handle(&mut self, offset: i64) -> c_int {
            self.seen.push(offset);
            if self.fail_at == Some(offset) {
                self.fail_at = None;
                return 42;
            }
            if offset == RECORDS - 1 {
                self.told = Some((self.last)(self.consumer));
            }
            0
        }

        fn run(&mut self) -> tg_status {
            // SAFETY: the handler's plan, which outlives the call.
            unsafe { tg_consumer_run(self.consumer, Some(each), ptr::from_mut(self).cast()) }
        }

        fn run_batches(&mut self, most: usize) -> tg_status {
            let user_data = ptr::from_mut(self).cast();
            // SAFETY: as above.
            unsafe { tg_consumer_run_batches(self.consumer, most, Some(many), user_data) }
        }
    }

    unsafe extern "C" fn each(record: *const tg_record, user_data: *mut c_void) -> c_int {
        // SAFETY: what `Plan::run` passed, and a record that lives through the call.
        unsafe { (*user_data.cast::<Plan>()).handle((*record).offset) }
    }

    unsafe extern "C" fn many(batch: *const tg_batch, user_data: *mut c_void) -> c_int {
        // SAFETY: as above.
        let plan = unsafe { &mut *user_data.cast::<Plan>() };
        plan.batches += 1;
        let records = batch::records(batch).unwrap();
        assert_eq!(tg_batch_count(batch), records.len());
        records
            .offsets()
            .iter()
            .map(|offset| plan.handle(*offset))
            .find(|answer| *answer != 0)
            .unwrap_or(0)
    }

    fn position(consumer: *mut tg_consumer) -> i64 {
        let mut offset = -7;
        // SAFETY: a C text, and the address of a variable.
        unsafe { tg_consumer_position(consumer, c"t".as_ptr(), 0, &raw mut offset) };
        offset
    }

    #[test]
    fn every_record_is_handled_until_it_is_woken() {
        let broker = loaded();
        let consumer = broker.consumer(c"t");
        let mut plan = Plan::new(consumer);
        assert_eq!(plan.run(), TG_OK, "{}", last_error());
        assert_eq!(plan.seen, [0, 1, 2, 3, 4]);
        assert_eq!(position(consumer), RECORDS);
        tg_consumer_free(consumer);
    }

    #[test]
    fn a_record_that_failed_is_handed_out_again() {
        let broker = loaded();
        let consumer = broker.consumer(c"t");
        let mut plan = Plan::new(consumer);
        plan.fail_at = Some(2);
        assert_eq!(plan.run(), TG_ERROR_CALLBACK);
        assert!(
            last_error().contains("answered 42 for record t [0] @2"),
            "{}",
            last_error()
        );
        assert_eq!(plan.seen, [0, 1, 2]);
        assert_eq!(plan.run(), TG_OK, "{}", last_error());
        assert_eq!(plan.seen, [0, 1, 2, 2, 3, 4]);
        tg_consumer_free(consumer);
    }

    #[test]
    fn batches_are_handled_and_handed_out_again_too() {
        let broker = loaded();
        let consumer = broker.consumer(c"t");
        let mut plan = Plan::new(consumer);
        plan.fail_at = Some(3);
        assert_eq!(plan.run_batches(2), TG_ERROR_CALLBACK);
        assert!(
            last_error().contains("42 for the batch from t [0] @2"),
            "{}",
            last_error()
        );
        assert_eq!((plan.seen.as_slice(), plan.batches), (&[0, 1, 2, 3][..], 2));
        assert_eq!(plan.run_batches(2), TG_OK, "{}", last_error());
        assert_eq!(plan.seen, [0, 1, 2, 3, 2, 3, 4]);
        tg_consumer_free(consumer);
    }

    #[test]
    fn the_handler_may_close_and_free_the_consumer() {
        let broker = loaded();
        let consumer = broker.consumer(c"t");
        let mut plan = Plan::new(consumer);
        plan.last = |consumer| tg_consumer_close(consumer, WAIT_MS);
        assert_eq!(plan.run(), TG_OK, "{}", last_error());
        assert_eq!((plan.seen.len(), plan.told), (5, Some(TG_OK)));
        assert_eq!(plan.run(), TG_ERROR_CLOSED);
        tg_consumer_free(consumer);

        let consumer = broker.consumer(c"t");
        let mut plan = Plan::new(consumer);
        plan.last = |consumer| tg_consumer_free(consumer);
        assert_eq!(plan.run_batches(0), TG_OK, "{}", last_error());
        assert_eq!((plan.seen.len(), plan.told), (5, Some(TG_OK)));
        assert_eq!(plan.run(), TG_ERROR_ARGUMENT);
    }

    #[test]
    fn another_thread_may_not_poll_meanwhile_and_may_end_it() {
        let broker = TestBroker::new(&[(c"t", 1)]);
        let consumer = broker.consumer(c"t").addr();
        std::thread::scope(|scope| {
            let running = scope.spawn(move || Plan::new(again(consumer)).run());
            let mut place = std::mem::MaybeUninit::uninit();
            // Polls until the other one does; it may find this one polling instead.
            // SAFETY: the place for a record.
            while unsafe { tg_consumer_poll(again(consumer), 0, place.as_mut_ptr()) }
                != TG_ERROR_CONCURRENT_USE
            {
                if running.is_finished() {
                    break;
                }
            }
            tg_consumer_close(again(consumer), WAIT_MS);
            let told = running.join().unwrap();
            assert!(matches!(told, TG_OK | TG_ERROR_CONCURRENT_USE), "{told:?}");
        });
        tg_consumer_free(again(consumer));
    }

    #[test]
    fn bad_input_is_told() {
        let broker = TestBroker::new(&[(c"t", 1)]);
        let consumer = broker.consumer(c"t");
        let none = ptr::null_mut();
        // SAFETY: NULL.
        unsafe {
            assert_eq!(tg_consumer_run(consumer, None, none), TG_ERROR_ARGUMENT);
            assert_eq!(wrong_argument(), "handler");
            assert_eq!(
                tg_consumer_run_batches(consumer, 0, None, none),
                TG_ERROR_ARGUMENT
            );
            assert_eq!(
                tg_consumer_run(none.cast(), Some(each), none),
                TG_ERROR_ARGUMENT
            );
            assert_eq!(wrong_argument(), "consumer");
        }
        assert!(in_child(|| Plan::new(consumer).run() == TG_ERROR_FORKED));
        tg_consumer_free(consumer);
    }

    unsafe extern "C" fn frees_the_batch(batch: *const tg_batch, user_data: *mut c_void) -> c_int {
        // SAFETY: the consumer that the test passed.
        let consumer = unsafe { *user_data.cast::<*mut tg_consumer>() };
        assert_eq!(tg_batch_free(batch.cast_mut()), TG_OK);
        tg_consumer_wake(consumer);
        0
    }

    #[test]
    fn a_batch_freed_by_its_handler_does_no_harm() {
        let broker = loaded();
        let mut consumer = broker.consumer(c"t");
        // SAFETY: the handler's consumer, which outlives the call.
        let told = unsafe {
            let user_data = (&raw mut consumer).cast();
            tg_consumer_run_batches(consumer, 0, Some(frees_the_batch), user_data)
        };
        assert_eq!(told, TG_OK, "{}", last_error());
        tg_consumer_free(consumer);
    }
}
