//! Tasks: a record that a handler has got, to be answered once, from any thread.
//!
//! The handle is the right to answer: an answer takes the object out of its table, so a second one finds nothing. What the record's
//! pointers lead to lives in the task and ends with that. On a thread of the library's that is in a handler, answers are collected
//! ([`Turn`]) and handed to the dispatcher together.

use std::cell::RefCell;
use std::ffi::{CStr, c_char};
use std::sync::Arc;
use std::time::Duration;

use tidegate::parallel::{Outcome, Ticket, Work};
use tidegate::{Dispatcher, Error, Result};

use crate::error::tg_status;
use crate::guard;
use crate::handle::{self, Object, object};
use crate::input;
use crate::record::tg_record;

/// A record that a handler has got: exactly one of tg_task_done(), tg_task_retry(), tg_task_fail() and tg_task_give_back() answers it, in the
/// handler or later, on any thread, and ends the task. Any other use after that, and a second answer, is TG_ERROR_ARGUMENT.
///
/// A task that is never answered stays in flight: its record is not committed and neither is what follows it in its partition, its key (or
/// partition) waits, it takes one of `max_in_flight` places, and after a restart the record comes again. With `attempt_timeout_ms` the
/// attempt fails then ("TimedOut": the record is tried again, or ends as `on_failure` says), and the key and the place stay taken until the
/// task is answered all the same, whose answer is thrown away.
pub struct tg_task {
    _private: [u8; 0],
}

/// What a [`tg_task`] stands for.
pub(crate) struct Task {
    dispatcher: Arc<Dispatcher>,
    work: Work,
}

object!(Task, tg_task, "task", 13);

impl Task {
    pub(crate) fn new(dispatcher: &Arc<Dispatcher>, work: Work) -> Task {
        Task {
            dispatcher: Arc::clone(dispatcher),
            work,
        }
    }

    /// The record; what it points to lives as long as the task.
    pub(crate) fn record(&self) -> Result<tg_record> {
        let record = self.work.batch.get(self.work.row);
        let record = record.ok_or_else(|| {
            input::refused("task", "its record is not there", "report this defect")
        })?;
        Ok(tg_record::of(&record))
    }
}

thread_local! {
    /// What the handlers of this thread have answered so far.
    static TURN: RefCell<Option<Turn>> = const { RefCell::new(None) };
}

/// A library's thread that has taken some records and calls the handler with one after the other.
pub(crate) struct Turn {
    dispatcher: Arc<Dispatcher>,
    outcomes: Vec<(Ticket, Outcome)>,
}

impl Turn {
    /// This thread collects answers from here on, until it ends.
    pub(crate) fn begin(dispatcher: &Arc<Dispatcher>) {
        let turn = Turn {
            dispatcher: Arc::clone(dispatcher),
            outcomes: Vec::new(),
        };
        TURN.set(Some(turn));
    }

    /// Hands over what was collected.
    pub(crate) fn flush() {
        let taken = TURN.with_borrow_mut(|turn| {
            let turn = turn.as_mut().filter(|turn| !turn.outcomes.is_empty())?;
            let outcomes = std::mem::take(&mut turn.outcomes);
            Some((Arc::clone(&turn.dispatcher), outcomes))
        });
        // Not while it is borrowed: a line for the log calls C, which may answer another task here.
        if let Some((dispatcher, mut outcomes)) = taken {
            dispatcher.settle(outcomes.drain(..));
            TURN.with_borrow_mut(|turn| {
                if let Some(turn) = turn.as_mut().filter(|turn| turn.outcomes.is_empty()) {
                    // Its memory again.
                    turn.outcomes = outcomes;
                }
            });
        }
    }

    pub(crate) fn end() {
        Turn::flush();
        TURN.set(None);
    }
}

/// Hands an answer on: to this thread's turn, or to the dispatcher at once.
pub(crate) fn settle(dispatcher: &Arc<Dispatcher>, ticket: Ticket, outcome: Outcome) {
    let mut answer = Some((ticket, outcome));
    // A thread that is ending has no turn.
    let _ = TURN.try_with(|turn| {
        if let Some(turn) = turn.borrow_mut().as_mut()
            && Arc::ptr_eq(&turn.dispatcher, dispatcher)
        {
            turn.outcomes.extend(answer.take());
        }
    });
    if answer.is_some() {
        dispatcher.settle(answer);
    }
}

/// A task that may be looked at.
fn open(task: *const tg_task) -> Result<Arc<Task>> {
    let task = handle::get::<Task>(task).map_err(answered)?;
    task.dispatcher.consumer().in_its_process()?;
    Ok(task)
}

/// The one that answers takes the task. In a forked child the task stays, and its record is the parent's.
fn taken(task: *mut tg_task) -> Result<Arc<Task>> {
    open(task)?;
    let taken = handle::take::<Task>(task).map_err(answered)?;
    // NULL was told by `open`.
    taken.ok_or_else(|| input::refused(Task::NAME, "it is NULL", "pass what the handler was given"))
}

/// The handle's error in a task's words.
fn answered(error: Error) -> Error {
    match error {
        Error::Argument { problem, .. } if problem.contains("freed") => input::refused(
            Task::NAME,
            "it was answered already",
            "answer each task once, and do not use it after that",
        ),
        Error::Argument { problem, .. } if problem.contains("NULL") => {
            input::refused(Task::NAME, problem, "pass what the handler was given")
        }
        error => error,
    }
}

fn answer(task: *mut tg_task, outcome: Outcome) -> Result<()> {
    let task = taken(task)?;
    settle(&task.dispatcher, task.work.ticket, outcome);
    Ok(())
}

/// A text for people, which may be NULL: an answer is not lost over a byte in it that is no UTF-8.
///
/// # Safety
///
/// `text` is NULL or ends with a NUL.
unsafe fn told(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: not NULL, and NUL-terminated by contract.
    unsafe { CStr::from_ptr(text) }
        .to_string_lossy()
        .into_owned()
}

/// The record. Its pointers are good until the task is answered. Any thread.
///
/// @return TG_ERROR_ARGUMENT for NULL and an answered task; TG_ERROR_FORKED.
///
/// # Safety
///
/// `record` is NULL or the address of a variable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tg_task_record(task: *const tg_task, record: *mut tg_record) -> tg_status {
    guard::call(|| {
        let task = open(task)?;
        // SAFETY: by contract.
        unsafe { input::put("record", record, task.record()?) }
    })
}

/// Which attempt this is: 1 for the first. 0 for NULL and an answered task. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn tg_task_attempt(task: *const tg_task) -> u32 {
    guard::value(0, || Ok(open(task)?.work.attempts.saturating_add(1)))
}

/// True when the record's partition was revoked, lost or sought since: whoever owns it now handles the record, and the answer, which is
/// still due, changes nothing. Also true for NULL and an answered task. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn tg_task_is_stale(task: *const tg_task) -> bool {
    guard::value(true, || {
        let task = open(task)?;
        Ok(task.work.batch.is_stale(task.work.row))
    })
}

/// Says what the record costs, for `rate_limit` of tg_process_options; it costs 1 until then. Before the answer. Any thread.
///
/// @return TG_ERROR_ARGUMENT for NULL, an answered task, and a cost that is negative or no number; TG_ERROR_FORKED.
#[unsafe(no_mangle)]
pub extern "C" fn tg_task_charge(task: *mut tg_task, cost: f64) -> tg_status {
    guard::call(|| {
        let task = open(task)?;
        if !(cost.is_finite() && cost >= 0.0) {
            return Err(input::refused(
                "cost",
                format!("{cost} is no cost"),
                "use a number of 0 or more",
            ));
        }
        task.dispatcher.charge([(task.work.ticket, cost)]);
        Ok(())
    })
}

/// Answers: the record is handled. Any thread; given in a handler, the answer counts when the handler has returned.
///
/// @return TG_ERROR_ARGUMENT for NULL and an answered task; TG_ERROR_FORKED. A task whose partition is gone (tg_task_is_stale()) or whose
///         consumer is closed is TG_OK: the record is not committed here, and comes again.
#[unsafe(no_mangle)]
pub extern "C" fn tg_task_done(task: *mut tg_task) -> tg_status {
    guard::call(|| answer(task, Outcome::Done))
}

/// Answers all of these tasks, as tg_task_done() does, at a smaller cost. Any thread.
///
/// @return TG_ERROR_ARGUMENT for NULL, and when one or more of them are NULL or were answered: the others are answered all the same, and the
///         error is that of the first one; TG_ERROR_FORKED.
///
/// # Safety
///
/// `tasks` is NULL or leads to `count` handles.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tg_tasks_done(tasks: *const *mut tg_task, count: usize) -> tg_status {
    guard::call(|| {
        input::check_place("tasks", tasks)?;
        // SAFETY: by contract.
        let tasks = unsafe { input::slice("tasks", tasks, count)? };
        let mut first = Ok(());
        // Those of one processing together; nearly always that is all of them.
        let mut own: Option<Arc<Dispatcher>> = None;
        let mut done = Vec::with_capacity(tasks.len());
        for task in tasks {
            match taken(*task) {
                Ok(task) => {
                    let answer = (task.work.ticket, Outcome::Done);
                    if Arc::ptr_eq(
                        own.get_or_insert_with(|| task.dispatcher.clone()),
                        &task.dispatcher,
                    ) {
                        done.push(answer);
                    } else {
                        settle(&task.dispatcher, answer.0, answer.1);
                    }
                }
                Err(error) => first = first.and(Err(error)),
            }
        }
        if let Some(dispatcher) = own {
            dispatcher.settle(done);
        }
        first
    })
}

/// Answers: the attempt failed, and another one is worth it. The record comes to the handler again after the pause that the options say,
/// unless this was attempt number `max_attempts`: then it has failed for good, as with tg_task_fail(). Any thread; as tg_task_done() in a
/// handler.
///
/// @param after_ms not before so many milliseconds, whatever the options say (a server's Retry-After); 0 or more.
/// @param kind what kind of error, such as "Timeout", for logs and dead letters; NULL for none.
/// @param reason what went wrong; NULL for nothing. Beyond 1000 characters it is cut, and bytes that are no UTF-8 are replaced.
/// @return TG_ERROR_ARGUMENT for NULL, an answered task, and a negative time, with which the task still waits for its answer;
///         TG_ERROR_FORKED.
///
/// # Safety
///
/// The texts are NULL or end with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tg_task_retry(
    task: *mut tg_task,
    after_ms: i64,
    kind: *const c_char,
    reason: *const c_char,
) -> tg_status {
    guard::call(|| {
        open(task)?;
        let after = input::duration("after_ms", after_ms)?;
        // SAFETY: by contract.
        let (kind, reason) = unsafe { (told(kind), told(reason)) };
        let after = (after > Duration::ZERO).then_some(after);
        answer(task, Outcome::failed(kind, reason, true, after))
    })
}

/// Answers: the record has failed for good, and `on_failure` says what becomes of it: processing ends with this error, or the record is
/// skipped, or a copy goes to the dead-letter topic. Any thread; as tg_task_done() in a handler.
///
/// @param kind as of tg_task_retry().
/// @param reason as of tg_task_retry().
/// @return TG_ERROR_ARGUMENT for NULL and an answered task; TG_ERROR_FORKED.
///
/// # Safety
///
/// The texts are NULL or end with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tg_task_fail(
    task: *mut tg_task,
    kind: *const c_char,
    reason: *const c_char,
) -> tg_status {
    guard::call(|| {
        // SAFETY: by contract.
        let (kind, reason) = unsafe { (told(kind), told(reason)) };
        answer(task, Outcome::failed(kind, reason, false, None))
    })
}

/// Answers: neither done nor failed, because the program is ending. The record is not committed and comes again after a restart, or to the
/// partition's next owner; until then what is in order behind it waits, and counts as queued. Any thread; as tg_task_done() in a handler.
///
/// @return TG_ERROR_ARGUMENT for NULL and an answered task; TG_ERROR_FORKED.
#[unsafe(no_mangle)]
pub extern "C" fn tg_task_give_back(task: *mut tg_task) -> tg_status {
    guard::call(|| answer(task, Outcome::Unfinished))
}
