//! Handlers run by the library, many records at once: threads of ours take records from core's dispatcher and call C with a task each.
//!
//! Threads: `workers` of them, "tidegate-task-N", that only call handlers; rebalance callbacks run on the dispatcher's intake thread. Always
//! true: a task is made for each record that was taken, so that nothing is dropped without an answer; C's user data lives until the last
//! of the threads has ended; no wait for a handler is without bound.

use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tidegate::parallel::{Ledger, Outcome, Work, Works};
use tidegate::{Consumer, Dispatcher, Error, Result};

use crate::consumer::{reader, tg_consumer};
use crate::error::tg_status;
use crate::guard;
use crate::handle::{self, object};
use crate::input;
use crate::listener::tg_free_callback;
use crate::process_options::tg_process_options;
use crate::record::tg_record;
use crate::task::{Task, Turn, tg_task};

/// tg_process_free() waits so long for what handlers have.
const FREE_DRAIN: Duration = Duration::from_secs(5);
/// A handler that has answered has so long to return at least.
const LEAST_RETURN: Duration = Duration::from_millis(100);
/// A handler that is this quick gets many records in a turn; a slow one gets one, so that none waits behind another.
const TURN: Duration = Duration::from_micros(200);
/// The most records in a turn.
const MOST_AT_ONCE: usize = 256;

/// Called with each record, on a thread of the library's, by several at once. The record is in the callback's hands until `task` is
/// answered, here or later, on any thread: see tg_task. The record's pointers are good until then; `record` itself ends with the call.
/// The handler may call everything of the library. It must return: tg_process_stop() waits for it as long as it may, and a thread whose
/// handler has been quick has taken up to 256 records, which wait for it, with the answers given in that hand, when it hangs (not with
/// `attempt_timeout_ms`, `min_in_flight` or `rate_limit`: then each record is taken for itself). Nothing may be thrown out of it.
pub type tg_task_handler = Option<
    unsafe extern "C" fn(task: *mut tg_task, record: *const tg_record, user_data: *mut c_void),
>;

/// As tg_task_handler, with `count` records that are handled together; each task is answered for itself (tg_tasks_done() answers many).
/// Both arrays end with the call.
pub type tg_tasks_handler = Option<
    unsafe extern "C" fn(
        tasks: *const *mut tg_task,
        records: *const tg_record,
        count: usize,
        user_data: *mut c_void,
    ),
>;

/// Records of a consumer being handled; made by tg_process_start(). In a forked child everything but the free function answers
/// TG_ERROR_FORKED.
pub struct tg_process {
    _private: [u8; 0],
}

/// Why a processing is over.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum tg_process_end {
    /// It is not.
    TG_PROCESS_RUNS = 0,
    /// tg_process_stop() or tg_process_free().
    TG_PROCESS_STOPPED = 1,
    /// The consumer was closed or freed.
    TG_PROCESS_CONSUMER_CLOSED = 2,
    /// An error, which tg_process_wait() and tg_process_stop() tell: a record that failed for good (TG_ERROR_CALLBACK), a fatal error, a
    /// rebalance callback that failed.
    TG_PROCESS_FAILED = 3,
}

/// What became of every record: `received` is the sum of the next nine.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct tg_ledger {
    /// Received for handling.
    pub received: u64,
    /// Handled, or skipped as TG_ON_FAILURE_SKIP says, and acknowledged.
    pub done: u64,
    /// Confirmed by the dead-letter topic and acknowledged.
    pub dead_lettered: u64,
    /// Done before this assignment, as the committed offset's map says: not handled again.
    pub skipped: u64,
    /// Given back because their partition was revoked, lost or sought before they were done, or answered too late for it.
    pub stale: u64,
    /// Given back unfinished.
    pub returned: u64,
    /// Waiting for a handler now.
    pub queued: u64,
    /// Tasks without an answer now.
    pub in_flight: u64,
    /// Waiting for their next attempt now.
    pub retry_wait: u64,
    /// On their way to the dead-letter topic now.
    pub dead_letters_pending: u64,
    /// Beside the account: attempts that have run over their time, all in all.
    pub timed_out: u64,
    /// Beside the account: those of them whose task has no answer yet.
    pub overdue: u64,
    /// Records in no state: not 0 means a defect.
    pub missing: i64,
}

impl From<Ledger> for tg_ledger {
    fn from(ledger: Ledger) -> tg_ledger {
        tg_ledger {
            received: ledger.received,
            done: ledger.done,
            dead_lettered: ledger.dead_lettered,
            skipped: ledger.skipped,
            stale: ledger.stale,
            returned: ledger.returned,
            queued: ledger.queued,
            in_flight: ledger.in_flight,
            retry_wait: ledger.retry_wait,
            dead_letters_pending: ledger.dead_letters_pending,
            timed_out: ledger.timed_out,
            overdue: ledger.overdue,
            missing: ledger.missing(),
        }
    }
}

/// How a processing does.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct tg_process_report {
    /// What became of every record.
    pub ledger: tg_ledger,
    /// How many records may be in flight now: `max_in_flight`, unless `min_in_flight` has it adapted.
    pub in_flight_limit: usize,
    /// Threads that are in a handler now. Once it is over and this is 0 no handler is called any more.
    pub handlers_running: usize,
    /// Why it is over, if it is.
    pub end: tg_process_end,
    /// No task is without an answer, and every dead letter is confirmed.
    pub is_drained: bool,
}

/// What to call, and what ends with it.
struct Handler {
    call: Call,
    user_data: *mut c_void,
    free: tg_free_callback,
    /// The library has taken `user_data` over.
    accepted: AtomicBool,
}

#[derive(Clone, Copy)]
enum Call {
    Each(unsafe extern "C" fn(*mut tg_task, *const tg_record, *mut c_void)),
    Many(unsafe extern "C" fn(*const *mut tg_task, *const tg_record, usize, *mut c_void)),
}

// SAFETY: the caller has promised that `user_data` may be used on any thread.
unsafe impl Send for Handler {}
// SAFETY: as above, on several at once.
unsafe impl Sync for Handler {}

impl Drop for Handler {
    fn drop(&mut self) {
        if let Some(free) = self.free
            && self.accepted.load(Ordering::Acquire)
        {
            // SAFETY: C's function with its own user data, called once.
            let _ = guard::contain(|| unsafe { free(self.user_data) });
        }
    }
}

/// The threads that call handlers.
#[derive(Default)]
struct Crew {
    counts: Mutex<Counts>,
    changed: Condvar,
}

#[derive(Default, Clone, Copy)]
struct Counts {
    /// Threads that live.
    alive: usize,
    /// Of them, in a handler.
    busy: usize,
}

thread_local! {
    /// The crew that this thread belongs to.
    static CREW: std::cell::RefCell<Weak<Crew>> = const { std::cell::RefCell::new(Weak::new()) };
}

impl Crew {
    fn counts(&self) -> Counts {
        *self.counts.lock()
    }

    fn note(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.counts.lock());
        self.changed.notify_all();
    }

    /// Waits until all have ended, but for the thread that asks.
    fn wait(&self, deadline: Instant) {
        let own = CREW.with_borrow(|crew| std::ptr::eq(crew.as_ptr(), self));
        let mut counts = self.counts.lock();
        while counts.alive > usize::from(own) {
            if self.changed.wait_until(&mut counts, deadline).timed_out() {
                return;
            }
        }
    }
}

/// What a [`tg_process`] stands for.
pub(crate) struct Process {
    dispatcher: Arc<Dispatcher>,
    crew: Arc<Crew>,
    /// The end, once somebody has asked to stop.
    end: AtomicU8,
}

object!(Process, tg_process, "process", 12);

impl Process {
    fn end(&self) -> tg_process_end {
        match self.dispatcher.wait(Some(Duration::ZERO)) {
            Err(_) => tg_process_end::TG_PROCESS_FAILED,
            Ok(false) => tg_process_end::TG_PROCESS_RUNS,
            Ok(true) if self.end.load(Ordering::Acquire) != 0 => tg_process_end::TG_PROCESS_STOPPED,
            Ok(true) => tg_process_end::TG_PROCESS_CONSUMER_CLOSED,
        }
    }

    fn report(&self) -> tg_process_report {
        let ledger = self.dispatcher.ledger();
        tg_process_report {
            ledger: ledger.into(),
            in_flight_limit: self.dispatcher.in_flight_limit(),
            handlers_running: self.crew.counts().busy,
            end: self.end(),
            is_drained: ledger.in_flight + ledger.dead_letters_pending == 0,
        }
    }

    fn stop(&self, drain: Duration) {
        let deadline = Instant::now() + drain;
        if self.end() == tg_process_end::TG_PROCESS_RUNS {
            self.end
                .store(tg_process_end::TG_PROCESS_STOPPED as u8, Ordering::Release);
        }
        // What this thread's handler has answered before it stops all of it.
        Turn::flush();
        self.dispatcher.stop(drain);
        self.crew.wait(deadline.max(Instant::now() + LEAST_RETURN));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.dispatcher.is_stopping() {
            self.dispatcher.stop(Duration::ZERO);
        }
    }
}

/// A thread's life, from the moment that there is a dispatcher.
fn work(gate: &Receiver<Arc<Dispatcher>>, crew: &Arc<Crew>, handler: &Handler, at_once: usize) {
    let Ok(dispatcher) = gate.recv() else {
        return;
    };
    CREW.set(Arc::downgrade(crew));
    Turn::begin(&dispatcher);
    let mut works = Works::default();
    let (mut most, mut slowest) = (1, Duration::ZERO);
    // Whoever waits for the end is told the error.
    while let Ok(true) = dispatcher.take_into(&mut works, most, None) {
        let began = Instant::now();
        match handler.call {
            Call::Each(_) => {
                for work in works.owned() {
                    hand(&dispatcher, crew, handler, [work]);
                    if began.elapsed() > TURN {
                        Turn::flush();
                    }
                }
            }
            Call::Many(_) => hand(&dispatcher, crew, handler, works.owned()),
        }
        Turn::flush();
        // A slow one is remembered for a while: none should wait behind the next.
        slowest = (slowest / 2).max(began.elapsed() / works.len().max(1) as u32);
        most = usize::try_from(TURN.as_nanos() / slowest.as_nanos().max(1))
            .unwrap_or(MOST_AT_ONCE)
            .clamp(1, at_once);
    }
    Turn::end();
}

/// Makes tasks and calls the handler with them.
fn hand(
    dispatcher: &Arc<Dispatcher>,
    crew: &Crew,
    handler: &Handler,
    works: impl IntoIterator<Item = Work>,
) {
    let mut handles = Vec::new();
    let mut records = Vec::new();
    for work in works {
        let ticket = work.ticket;
        // A record whose turn comes after the stop is not begun.
        if dispatcher.is_stopping() {
            crate::task::settle(dispatcher, ticket, Outcome::Unfinished);
            continue;
        }
        let task = Task::new(dispatcher, work);
        let made = task
            .record()
            .and_then(|record| Ok((handle::make(task)?, record)));
        match made {
            Ok((handle, record)) => {
                handles.push(handle);
                records.push(record);
            }
            // Too many without an answer: nothing can be handed out any more.
            Err(error) => {
                crate::task::settle(dispatcher, ticket, Outcome::Unfinished);
                dispatcher.fail(error);
            }
        }
    }
    if handles.is_empty() {
        return;
    }
    crew.note(|counts| counts.busy += 1);
    let (tasks, rows, count) = (handles.as_ptr(), records.as_ptr(), handles.len());
    let user_data = handler.user_data;
    // SAFETY: C's function with its own user data, handles, and records whose pointers live in the tasks.
    let _ = guard::contain(|| unsafe {
        match handler.call {
            Call::Each(call) => call(*tasks, rows, user_data),
            Call::Many(call) => call(tasks, rows, count, user_data),
        }
    });
    crew.note(|counts| counts.busy -= 1);
}

/// Starts the threads, which wait, then the dispatcher, and lets them go.
fn start(
    consumer: &Arc<Consumer>,
    options: &tg_process_options,
    core: tidegate::ProcessOptions,
    handler: Handler,
) -> Result<Process> {
    let crew = Arc::new(Crew::default());
    let handler = Arc::new(handler);
    let at_once = if options.is_paced() { 1 } else { MOST_AT_ONCE };
    let mut gates = Vec::new();
    for number in 0..options.workers()? {
        let (gate, opens) = channel();
        let (own_crew, own_handler) = (Arc::clone(&crew), Arc::clone(&handler));
        let body = move || {
            let _ = guard::contain(|| work(&opens, &own_crew, &own_handler, at_once));
            // Before it is told: who waits for the threads may end the user data's memory.
            drop(own_handler);
            own_crew.note(|counts| counts.alive -= 1);
        };
        crew.note(|counts| counts.alive += 1);
        std::thread::Builder::new()
            .name(format!("tidegate-task-{number}"))
            .spawn(body)
            .map_err(|error| {
                input::refused(
                    "workers",
                    format!("thread {number} cannot be started: {error}"),
                    "use fewer",
                )
            })?;
        gates.push(gate);
    }
    // On an error the gates are dropped, and the threads end.
    let dispatcher = Dispatcher::start(Arc::clone(consumer), core)?;
    handler.accepted.store(true, Ordering::Release);
    for gate in gates {
        let _ = gate.send(Arc::clone(&dispatcher));
    }
    Ok(Process {
        dispatcher,
        crew,
        end: AtomicU8::new(0),
    })
}

/// What both starts share.
///
/// # Safety
///
/// As of tg_process_start().
unsafe fn begin(
    consumer: *mut tg_consumer,
    options: *const tg_process_options,
    call: Option<Call>,
    user_data: *mut c_void,
    free_user_data: tg_free_callback,
    process: *mut *mut tg_process,
) -> Result<()> {
    let reader = reader(consumer)?;
    // Before any lock or thread.
    reader.consumer.in_its_process()?;
    input::check_place("process", process)?;
    let Some(call) = call else {
        return Err(input::refused("handler", "it is NULL", "pass a function"));
    };
    let options = if options.is_null() {
        tg_process_options::defaults()
    } else {
        input::check_place("options", options)?;
        // SAFETY: not NULL, aligned, and initialised by contract.
        unsafe { *options }
    };
    if options.batch_size > 1 && matches!(call, Call::Each(_)) {
        return Err(input::refused(
            "batch_size",
            "this handler gets one record at a time",
            "use tg_process_start_batches(), or a batch_size of 1",
        ));
    }
    let mut processing = reader.processing.lock();
    if processing
        .upgrade()
        .is_some_and(|other| !other.is_stopping())
    {
        return Err(Error::ConcurrentUse { what: "consumer" });
    }
    // SAFETY: by contract.
    let core = unsafe { options.core(&reader)? };
    let handler = Handler {
        call,
        user_data,
        free: free_user_data,
        accepted: AtomicBool::new(false),
    };
    let started = start(&reader.consumer, &options, core, handler)?;
    *processing = Arc::downgrade(&started.dispatcher);
    drop(processing);
    let made = handle::make(started)?;
    // SAFETY: checked above, and writable by contract.
    unsafe { input::put("process", process, made) }
}

/// Handles the consumer's records on threads of the library: many at once, in order by key, by partition or not at all, with retries and dead
/// letters, and with commits that never pass a record without an answer. Runs in the background until tg_process_stop(), until the consumer
/// is closed, or until an error; tg_process_free() ends it. The consumer must be subscribed or assigned, now or later, and must not be polled
/// by anybody else meanwhile; its rebalance callbacks run on a thread of the library's. When partitions are revoked, records that wait are
/// given back, and those in flight have `tidegate.revoke.drain.ms` to be answered. Any thread.
///
/// @param options NULL for tg_process_default_options().
/// @param free_user_data called once when no handler needs `user_data` any more, on any thread, while or after the processing is freed; may
///        be NULL.
/// @return TG_ERROR_ARGUMENT for NULL, a freed consumer or producer, and options that cannot be or contradict each other, with the option as
///         the argument; TG_ERROR_CONCURRENT_USE while it is being processed already; TG_ERROR_CLOSED; TG_ERROR_FORKED; as tg_producer_new()
///         for the dead letters. Whatever the error, `free_user_data` is not called.
///
/// # Safety
///
/// `handler` and `free_user_data` may be called with `user_data` on any thread, `handler` on several at once; `options` is NULL or valid during
/// the call; `process` is NULL or the address of a variable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tg_process_start(
    consumer: *mut tg_consumer,
    options: *const tg_process_options,
    handler: tg_task_handler,
    user_data: *mut c_void,
    free_user_data: tg_free_callback,
    process: *mut *mut tg_process,
) -> tg_status {
    let call = handler.map(Call::Each);
    // SAFETY: by contract.
    guard::call(|| unsafe { begin(consumer, options, call, user_data, free_user_data, process) })
}

/// As tg_process_start(), with `batch_size` records at a time, or fewer when `batch_timeout_ms` is over. Those of one key follow each other
/// in order.
///
/// @return as tg_process_start().
///
/// # Safety
///
/// As of tg_process_start().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tg_process_start_batches(
    consumer: *mut tg_consumer,
    options: *const tg_process_options,
    handler: tg_tasks_handler,
    user_data: *mut c_void,
    free_user_data: tg_free_callback,
    process: *mut *mut tg_process,
) -> tg_status {
    let call = handler.map(Call::Many);
    // SAFETY: by contract.
    guard::call(|| unsafe { begin(consumer, options, call, user_data, free_user_data, process) })
}

fn process(process: *const tg_process) -> Result<Arc<Process>> {
    let process = handle::get::<Process>(process)?;
    process.dispatcher.consumer().in_its_process()?;
    Ok(process)
}

/// How it does. Any thread.
///
/// @return TG_ERROR_ARGUMENT for NULL and a freed processing; TG_ERROR_FORKED.
///
/// # Safety
///
/// `report` is NULL or the address of a variable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tg_process_progress(
    process: *const tg_process,
    report: *mut tg_process_report,
) -> tg_status {
    guard::call(|| {
        let process = self::process(process)?;
        input::check_place("report", report)?;
        // SAFETY: checked above, and writable by contract.
        unsafe { input::put("report", report, process.report()) }
    })
}

/// Waits until it is over: stopped, by a closed consumer, or by an error. Handlers may still have records then: tg_process_stop() waits for
/// them. Any thread.
///
/// @param timeout_ms 0 or more, or TG_FOREVER.
/// @return TG_OK when it is over, TG_NOTHING when the time is; what ended it, if that was an error: TG_ERROR_CALLBACK for a record that
///         failed for good; TG_ERROR_ARGUMENT for NULL, a freed processing, and another negative time; TG_ERROR_FORKED.
#[unsafe(no_mangle)]
pub extern "C" fn tg_process_wait(process: *mut tg_process, timeout_ms: i64) -> tg_status {
    guard::status(|| {
        let process = self::process(process)?;
        let timeout = input::timeout("timeout_ms", timeout_ms)?;
        Ok(match process.dispatcher.wait(timeout)? {
            true => tg_status::TG_OK,
            false => tg_status::TG_NOTHING,
        })
    })
}

/// Begins no other record, gives back what waits, waits for tasks in flight and for handlers to return, and commits what is done (with
/// `enable.auto.commit`). Returns within `drain_ms` and a second for the commit, whatever handlers do; a task that is answered later still
/// counts while its consumer is open. The consumer stays open. Stopping again waits again. Any thread; a handler that calls it has answered its
/// own task before, or waits for itself until the time is over.
///
/// @param drain_ms 0 or more.
/// @param report NULL, or where the report goes, also with an error that had ended it before.
/// @return TG_OK also when not everything was drained: see the report. What had ended it before, if that was an error; TG_ERROR_ARGUMENT for
///         NULL, a freed processing, and a negative time; TG_ERROR_FORKED.
///
/// # Safety
///
/// `report` is NULL or the address of a variable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tg_process_stop(
    process: *mut tg_process,
    drain_ms: i64,
    report: *mut tg_process_report,
) -> tg_status {
    guard::call(|| {
        let process = self::process(process)?;
        let drain = input::duration("drain_ms", drain_ms)?;
        if !report.is_null() {
            input::check_place("report", report)?;
        }
        process.stop(drain.min(Duration::from_secs(86_400)));
        if !report.is_null() {
            // SAFETY: checked above, and writable by contract.
            unsafe { input::put("report", report, process.report())? };
        }
        process.dispatcher.wait(Some(Duration::ZERO)).map(drop)
    })
}

/// Ends a processing; one that was not stopped is stopped, for at most five seconds. Tasks without an answer stay good. NULL does nothing;
/// freeing twice is TG_ERROR_ARGUMENT. Any thread, also a handler.
#[unsafe(no_mangle)]
pub extern "C" fn tg_process_free(process: *mut tg_process) -> tg_status {
    guard::call(|| {
        let Some(process) = handle::take::<Process>(process)? else {
            return Ok(());
        };
        if process.dispatcher.consumer().in_its_process().is_err() {
            // In a forked child there is nothing to end; its locks are as the parent's threads had them, and stay so.
            std::mem::forget(process);
            return Ok(());
        }
        if process.end() == tg_process_end::TG_PROCESS_RUNS {
            process.stop(FREE_DRAIN);
        }
        Ok(())
    })
}
