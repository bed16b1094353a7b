//! What C says about how records are handled, as core wants it.

use std::ffi::c_char;
use std::time::Duration;

use tidegate::parallel::OnLimit;
use tidegate::{OnFailure, Order, ProcessOptions, Result};

use crate::consumer::Reader;
use crate::error::tg_status;
use crate::guard;
use crate::input;
use crate::producer::{sender, tg_producer};

/// The most threads that call handlers.
const MOST_WORKERS: usize = 1024;
/// So many when nothing is said, and there may be as many records in flight.
const WORKERS: usize = 16;

/// What is handled one after the other, in the order of its offsets.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum tg_order {
    /// The records of one partition that have the same key. Records without a key have no order.
    TG_ORDER_BY_KEY = 0,
    /// The records of one partition.
    TG_ORDER_BY_PARTITION = 1,
    /// Nothing: any records side by side.
    TG_ORDER_NONE = 2,
}

/// What becomes of a record that has failed for good.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum tg_on_failure {
    /// Processing ends with the error; the record is not committed and comes again after a restart.
    TG_ON_FAILURE_STOP = 0,
    /// It is logged, counted as done, and committed: lost on purpose.
    TG_ON_FAILURE_SKIP = 1,
    /// A copy goes to `dead_letter_topic`, with the reason in headers `tidegate.dlq.*`; it is finished when the broker has confirmed the copy.
    TG_ON_FAILURE_DEAD_LETTER = 2,
}

/// What happens when more would go to the dead-letter topic than `dead_letter_limit`.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum tg_on_limit {
    /// Processing ends with an error; the record comes again after a restart.
    TG_ON_LIMIT_STOP = 0,
    /// Nothing more of the record's partition is handed out until it is assigned again; the record is the first to come then.
    TG_ON_LIMIT_PAUSE_PARTITION = 1,
}

/// How records are handled. tg_process_default_options() fills it in; change what you like then.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct tg_process_options {
    /// How many threads of the library call the handler, up to 1024; 0: as many as `max_in_flight`, and not more than 16. A handler that
    /// answers before it returns is run so many times at once; one that leaves the answer to others needs few.
    pub workers: usize,
    /// The most records that were given to handlers and not answered; 16 by default.
    pub max_in_flight: usize,
    /// Adapts that number between this and `max_in_flight`: more while answers stay quick, fewer when they become slow or fail. 0: fixed.
    pub min_in_flight: usize,
    /// The most records that wait for a handler; 10000.
    pub max_queued: usize,
    /// The most bytes of batches that have unfinished records; 64 MiB.
    pub max_bytes: usize,
    /// A tg_order; by key.
    pub order: i32,
    /// A tg_on_failure; stop. TG_ON_FAILURE_DEAD_LETTER needs `dead_letter_topic`, and nothing else takes one.
    pub on_failure: i32,
    /// Where copies of failed records go; not a topic that is consumed. NULL.
    pub dead_letter_topic: *const c_char,
    /// Who sends the copies; it must be open as long as the processing runs. NULL: a producer of its own, with `acks=all`.
    pub dead_letter_producer: *mut tg_producer,
    /// The most records that may go there, TG_NO_LIMIT for any number.
    pub dead_letter_limit: u64,
    /// A tg_on_limit; stop.
    pub on_limit: i32,
    /// How often a record is with a handler before it has failed for good; 1. 0: until it succeeds.
    pub max_attempts: u32,
    /// The pause before the second attempt, doubled for each further one, and varied by a quarter; 100 ms.
    pub backoff_ms: i64,
    /// The longest of these pauses; 30 s.
    pub max_backoff_ms: i64,
    /// What a handler may take for one attempt; 0: any time. After that the attempt has failed ("TimedOut"); its key goes on when the task
    /// is answered all the same, and that answer is thrown away.
    pub attempt_timeout_ms: i64,
    /// Records begun per second, or what they cost (tg_task_charge()); 0: no limit.
    pub rate_limit: f64,
    /// How many records tg_process_start_batches() gives at a time; 1.
    pub batch_size: usize,
    /// The longest that a record waits for others to be handled with; 100 ms.
    pub batch_timeout_ms: i64,
    /// The most bytes of metadata that a commit carries about what is done beyond the committed offset, so that a restart does not repeat it;
    /// 4096, the broker's default `offset.metadata.max.bytes`. 0: none.
    pub offset_map_bytes: usize,
    /// All records of a batch are of one partition.
    pub batch_of_one_partition: bool,
    /// Lets the others of its key (or partition) go on while a record waits for its next attempt: it loses its place in the order.
    pub park_retries: bool,
    /// `after_ms` of tg_task_retry() holds up all records, not only its own.
    pub retry_after_holds_all: bool,
}

/// Any number, where a field says so.
pub const TG_NO_LIMIT: u64 = u64::MAX;

impl tg_process_options {
    pub(crate) fn defaults() -> tg_process_options {
        let core = ProcessOptions::default();
        let ms = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        tg_process_options {
            workers: 0,
            max_in_flight: core.max_in_flight,
            min_in_flight: core.min_in_flight.unwrap_or(0),
            max_queued: core.max_queued,
            max_bytes: core.max_bytes,
            order: tg_order::TG_ORDER_BY_KEY as i32,
            on_failure: tg_on_failure::TG_ON_FAILURE_STOP as i32,
            dead_letter_topic: std::ptr::null(),
            dead_letter_producer: std::ptr::null_mut(),
            dead_letter_limit: core.dead_letter_limit.unwrap_or(TG_NO_LIMIT),
            on_limit: tg_on_limit::TG_ON_LIMIT_STOP as i32,
            max_attempts: core.max_attempts.unwrap_or(0),
            backoff_ms: ms(core.backoff),
            max_backoff_ms: ms(core.max_backoff),
            attempt_timeout_ms: core.attempt_timeout.map_or(0, ms),
            rate_limit: core.rate_limit.unwrap_or(0.0),
            batch_size: core.batch_size,
            batch_timeout_ms: ms(core.batch_timeout),
            offset_map_bytes: core.offset_map_bytes,
            batch_of_one_partition: core.batch_of_one_partition,
            park_retries: core.park_retries,
            retry_after_holds_all: core.retry_after_holds_all,
        }
    }

    /// How many threads call the handler.
    pub(crate) fn workers(&self) -> Result<usize> {
        match self.workers {
            0 => Ok(self.max_in_flight.min(WORKERS)),
            more if more > MOST_WORKERS => Err(input::refused(
                "workers",
                format!("{more} threads are too many"),
                "use up to 1024, and tasks that are answered later for more records at once",
            )),
            workers => Ok(workers.min(self.max_in_flight)),
        }
    }

    /// True where what is with a handler is timed or counted: then each record is taken when its handler is called, and not before.
    pub(crate) fn is_paced(&self) -> bool {
        self.attempt_timeout_ms != 0 || self.min_in_flight != 0 || self.rate_limit != 0.0
    }

    /// As core has it; what is contradictory in core's eyes is core's to say.
    ///
    /// # Safety
    ///
    /// `dead_letter_topic` is NULL or ends with a NUL.
    pub(crate) unsafe fn core(&self, reader: &Reader) -> Result<ProcessOptions> {
        let mut core = ProcessOptions::default();
        core.order = match self.order {
            0 => Order::Key,
            1 => Order::Partition,
            2 => Order::None,
            other => return Err(no_such("order", other, "a tg_order")),
        };
        core.on_limit = match self.on_limit {
            0 => OnLimit::Stop,
            1 => OnLimit::PausePartition,
            other => return Err(no_such("on_limit", other, "a tg_on_limit")),
        };
        core.max_in_flight = self.max_in_flight;
        core.min_in_flight = (self.min_in_flight > 0).then_some(self.min_in_flight);
        core.max_queued = self.max_queued;
        core.max_bytes = self.max_bytes;
        core.max_attempts = (self.max_attempts > 0).then_some(self.max_attempts);
        core.backoff = input::duration("backoff_ms", self.backoff_ms)?;
        core.max_backoff = input::duration("max_backoff_ms", self.max_backoff_ms)?;
        let attempt = input::duration("attempt_timeout_ms", self.attempt_timeout_ms)?;
        core.attempt_timeout = (attempt > Duration::ZERO).then_some(attempt);
        core.rate_limit = (self.rate_limit != 0.0).then_some(self.rate_limit);
        core.batch_size = self.batch_size;
        core.batch_timeout = input::duration("batch_timeout_ms", self.batch_timeout_ms)?;
        core.batch_of_one_partition = self.batch_of_one_partition;
        core.offset_map_bytes = self.offset_map_bytes;
        core.park_retries = self.park_retries;
        core.retry_after_holds_all = self.retry_after_holds_all;
        core.dead_letter_limit =
            (self.dead_letter_limit != TG_NO_LIMIT).then_some(self.dead_letter_limit);
        if self.park_retries && (self.max_attempts == 1 || core.order == Order::None) {
            return Err(input::refused(
                "park_retries",
                "with max_attempts 1 there is no other attempt, and with TG_ORDER_NONE nothing waits for it",
                "set max_attempts and an order, or leave it out",
            ));
        }
        // Last: it may make a producer.
        // SAFETY: by contract.
        core.on_failure = unsafe { self.on_failure(reader)? };
        Ok(core)
    }

    /// # Safety
    ///
    /// As of [`tg_process_options::core`].
    unsafe fn on_failure(&self, reader: &Reader) -> Result<OnFailure> {
        let topic = self.dead_letter_topic;
        match (self.on_failure, topic.is_null()) {
            (0, true) => return Ok(OnFailure::Stop),
            (1, true) => return Ok(OnFailure::Skip),
            (0 | 1, false) => {
                return Err(input::refused(
                    "dead_letter_topic",
                    "on_failure sends nothing there",
                    "set on_failure to TG_ON_FAILURE_DEAD_LETTER, or leave the topic out",
                ));
            }
            (2, _) => {}
            (other, _) => return Err(no_such("on_failure", other, "a tg_on_failure")),
        }
        // SAFETY: by contract.
        let topic = unsafe { input::text("dead_letter_topic", topic)? };
        let is_consumed = |name: &String| name == topic;
        let assigned = reader.consumer.assignment();
        if reader.consumer.subscription().iter().any(is_consumed)
            || assigned.iter().any(|partition| &*partition.topic == topic)
        {
            return Err(input::refused(
                "dead_letter_topic",
                format!("'{topic}' is consumed: a record that fails would come back for ever"),
                "name another topic",
            ));
        }
        if self.dead_letter_producer.is_null() {
            return OnFailure::dead_letter_topic(&reader.consumer, topic);
        }
        Ok(OnFailure::DeadLetter {
            producer: sender(self.dead_letter_producer)?.producer.clone(),
            topic: topic.to_string(),
        })
    }
}

fn no_such(argument: &'static str, number: i32, what: &str) -> tidegate::Error {
    input::refused(
        argument,
        format!("{number} is not {what}"),
        "use one of its names",
    )
}

/// Fills in what is used when nothing is said. Cannot fail but for NULL. Any thread.
///
/// @return TG_ERROR_ARGUMENT for NULL.
///
/// # Safety
///
/// `options` is NULL or the address of a variable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tg_process_default_options(options: *mut tg_process_options) -> tg_status {
    // SAFETY: by contract.
    guard::call(|| unsafe { input::put("options", options, tg_process_options::defaults()) })
}
