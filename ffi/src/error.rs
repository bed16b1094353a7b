//! Statuses, and the last error of each thread.

use std::any::Any;
use std::cell::RefCell;
use std::ffi::{CString, c_char};
use std::ptr;

use tidegate::{Error, Severity};

/// What a function answers. 0 is success, 1 is "nothing came in time", everything from 100 on is an error: the numbers are
/// those of the other languages' faces and are never reused.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum tg_status {
    /// It worked.
    TG_OK = 0,
    /// No error, and nothing to give: the time is over, or the wait was ended by tg_consumer_wake() or a close.
    TG_NOTHING = 1,
    /// The configuration has problems; tg_last_error() lists all of them.
    TG_ERROR_CONFIG = 100,
    /// An argument that cannot be used: NULL, a freed handle, a negative number, ...
    TG_ERROR_ARGUMENT = 101,
    /// The handle was closed.
    TG_ERROR_CLOSED = 200,
    /// Another thread is polling this consumer.
    TG_ERROR_CONCURRENT_USE = 201,
    /// The handle was made before fork() and is used in the child.
    TG_ERROR_FORKED = 202,
    /// A bounded wait ran out.
    TG_ERROR_TIMED_OUT = 300,
    /// The producer's queue stayed full; the record was not accepted.
    TG_ERROR_QUEUE_FULL = 301,
    /// The partition is not assigned to this consumer.
    TG_ERROR_NOT_ASSIGNED = 400,
    /// The records belong to an earlier assignment of their partition.
    TG_ERROR_STALE = 401,
    /// librdkafka or the broker refused: see tg_error.kafka_code.
    TG_ERROR_KAFKA = 500,
    /// A callback of the application failed.
    TG_ERROR_CALLBACK = 600,
    /// A defect of the library, caught before it could harm the caller. Please report its text.
    TG_ERROR_INTERNAL = 700,
}

impl tg_status {
    const ERRORS: [tg_status; 12] = {
        use tg_status::*;
        [
            TG_ERROR_CONFIG,
            TG_ERROR_ARGUMENT,
            TG_ERROR_CLOSED,
            TG_ERROR_CONCURRENT_USE,
            TG_ERROR_FORKED,
            TG_ERROR_TIMED_OUT,
            TG_ERROR_QUEUE_FULL,
            TG_ERROR_NOT_ASSIGNED,
            TG_ERROR_STALE,
            TG_ERROR_KAFKA,
            TG_ERROR_CALLBACK,
            TG_ERROR_INTERNAL,
        ]
    };

    pub(crate) fn of(error: &Error) -> tg_status {
        let number = error.code().number();
        Self::ERRORS
            .into_iter()
            .find(|status| *status as u32 == number)
            .unwrap_or(tg_status::TG_ERROR_INTERNAL)
    }
}

/// One problem of a configuration. The texts live as long as what they were read from.
#[repr(C)]
#[derive(Debug)]
pub struct tg_config_problem {
    /// The property, as it was written.
    pub property: *const c_char,
    /// Its value, as it was written; secrets are replaced.
    pub value: *const c_char,
    /// What is wrong.
    pub reason: *const c_char,
    /// What to write instead.
    pub remedy: *const c_char,
    /// True for a problem that keeps a client from starting, false for a warning.
    pub is_error: bool,
}

/// An error, whole. All texts are UTF-8 and end with a NUL.
#[repr(C)]
#[derive(Debug)]
pub struct tg_error {
    /// What kind of error.
    pub status: tg_status,
    /// Kafka's own code as librdkafka numbers it (negative: librdkafka's own); 0 where there is none.
    pub kafka_code: i32,
    /// The same call may succeed later without a change.
    pub is_retriable: bool,
    /// The handle is of no more use: close it and make a new one.
    pub is_fatal: bool,
    /// Kafka's name of the code, such as "_TIMED_OUT"; NULL where there is none.
    pub kafka_name: *const c_char,
    /// The argument that was wrong, or the first wrong property of a configuration; NULL where there is none.
    pub argument: *const c_char,
    /// What went wrong and what to do instead; never NULL.
    pub message: *const c_char,
    /// Every problem of a configuration; `problem_count` of them.
    pub problems: *const tg_config_problem,
    /// How many problems.
    pub problem_count: usize,
}

/// Problems of a configuration and the texts that they point to.
#[derive(Default)]
pub(crate) struct Problems {
    pub(crate) rows: Vec<tg_config_problem>,
    _texts: Vec<CString>,
}

// SAFETY: the pointers of the rows lead into the texts, which are immutable and go where the rows go.
unsafe impl Send for Problems {}
// SAFETY: as above; nothing is changed after it was made.
unsafe impl Sync for Problems {}

impl Problems {
    pub(crate) fn new<'p>(
        problems: impl IntoIterator<Item = &'p tidegate::ConfigProblem>,
    ) -> Problems {
        let mut texts = Vec::new();
        let mut keep = |text: &str| {
            let text = c_text(text);
            let start = text.as_ptr();
            texts.push(text);
            start
        };
        let rows = problems
            .into_iter()
            .map(|problem| tg_config_problem {
                property: keep(&problem.property),
                value: keep(&problem.value),
                reason: keep(&problem.reason),
                remedy: keep(&problem.remedy),
                is_error: problem.severity == Severity::Error,
            })
            .collect();
        Problems {
            rows,
            _texts: texts,
        }
    }
}

/// An error and everything that its C form points to.
pub(crate) struct ErrorText {
    form: tg_error,
    _texts: [Option<CString>; 3],
    _problems: Problems,
}

impl ErrorText {
    pub(crate) fn new(error: &Error) -> ErrorText {
        let kafka = error.kafka_code();
        let (argument, problems) = match error {
            Error::Argument { argument, .. } => (Some(*argument), Problems::default()),
            Error::Config(problems) => (
                problems.0.first().map(|first| first.property.as_str()),
                Problems::new(&problems.0),
            ),
            _ => (None, Problems::default()),
        };
        let mut made = ErrorText::plain(tg_status::of(error), &error.to_string(), problems);
        made.form.kafka_code = kafka.map_or(0, |code| code.number());
        made.form.is_retriable = error.is_retriable();
        made.form.is_fatal = error.is_fatal();
        let texts = [kafka.map(|code| code.name()), argument].map(|text| text.map(c_text));
        [made.form.kafka_name, made.form.argument] = texts
            .each_ref()
            .map(|text| text.as_ref().map_or(ptr::null(), |text| text.as_ptr()));
        let [kafka_name, argument] = texts;
        made._texts[1] = kafka_name;
        made._texts[2] = argument;
        made
    }

    fn plain(status: tg_status, message: &str, problems: Problems) -> ErrorText {
        let message = c_text(message);
        ErrorText {
            form: tg_error {
                status,
                kafka_code: 0,
                is_retriable: false,
                is_fatal: false,
                kafka_name: ptr::null(),
                argument: ptr::null(),
                message: message.as_ptr(),
                problems: problems.rows.as_ptr(),
                problem_count: problems.rows.len(),
            },
            _texts: [Some(message), None, None],
            _problems: problems,
        }
    }

    /// The C form; valid while `self` lives.
    pub(crate) fn as_c(&self) -> &tg_error {
        &self.form
    }
}

/// A text for C; nothing of it behind a NUL.
pub(crate) fn c_text(text: &str) -> CString {
    let until_nul = text.split('\0').next().unwrap_or_default();
    CString::new(until_nul).unwrap_or_default()
}

thread_local! {
    static LAST: RefCell<Option<Box<ErrorText>>> = const { RefCell::new(None) };
}

/// Keeps the error for tg_last_error() and gives its status.
pub(crate) fn remember(error: &Error) -> tg_status {
    keep(ErrorText::new(error))
}

/// As [`remember`], for what a panic carried.
pub(crate) fn remember_panic(payload: &(dyn Any + Send)) -> tg_status {
    let said = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no text");
    let message = format!("a defect of the library, please report it: {said}");
    keep(ErrorText::plain(
        tg_status::TG_ERROR_INTERNAL,
        &message,
        Problems::default(),
    ))
}

fn keep(text: ErrorText) -> tg_status {
    let status = text.form.status;
    // A thread that is ending has no place to keep it; the status is told all the same.
    let _ = LAST.try_with(|last| *last.borrow_mut() = Some(Box::new(text)));
    status
}

/// The error of the call of this thread that failed last, or NULL when none has. It is valid until the next call of this
/// thread that fails, or tg_clear_error(); a call that succeeds leaves it alone. Cannot fail.
#[unsafe(no_mangle)]
pub extern "C" fn tg_last_error() -> *const tg_error {
    LAST.try_with(|last| {
        last.borrow()
            .as_ref()
            .map_or(ptr::null(), |text| ptr::from_ref(text.as_c()))
    })
    .unwrap_or(ptr::null())
}

/// Forgets the error of this thread. Cannot fail.
#[unsafe(no_mangle)]
pub extern "C" fn tg_clear_error() {
    let _ = LAST.try_with(|last| *last.borrow_mut() = None);
}

/// The name of a status, such as "ARGUMENT"; static, "UNKNOWN" for a number that is none. Any thread; cannot fail.
#[unsafe(no_mangle)]
pub extern "C" fn tg_status_name(status: i32) -> *const c_char {
    let name = match status {
        0 => c"OK",
        1 => c"NOTHING",
        100 => c"CONFIG",
        101 => c"ARGUMENT",
        200 => c"CLOSED",
        201 => c"CONCURRENT_USE",
        202 => c"FORKED",
        300 => c"TIMED_OUT",
        301 => c"QUEUE_FULL",
        400 => c"NOT_ASSIGNED",
        401 => c"STALE",
        500 => c"KAFKA",
        600 => c"CALLBACK",
        700 => c"INTERNAL",
        _ => c"UNKNOWN",
    };
    name.as_ptr()
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use tidegate::{Config, Consumer, ErrorCode};

    use super::*;

    fn text(pointer: *const c_char) -> String {
        assert!(!pointer.is_null());
        // SAFETY: the texts of an error end with a NUL.
        unsafe { CStr::from_ptr(pointer) }
            .to_str()
            .unwrap()
            .to_string()
    }

    #[test]
    fn every_code_of_the_core_has_its_status() {
        for code in ErrorCode::ALL {
            let status = tg_status::ERRORS
                .into_iter()
                .find(|status| *status as u32 == code.number());
            let status = status.unwrap_or_else(|| panic!("no status {}", code.number()));
            let name = text(tg_status_name(status as i32));
            let expected = if code.name() == "LISTENER" {
                "CALLBACK"
            } else {
                code.name()
            };
            assert_eq!(name, expected);
        }
        for status in tg_status::ERRORS {
            assert_ne!(text(tg_status_name(status as i32)), "UNKNOWN");
        }
        assert_eq!(text(tg_status_name(12345)), "UNKNOWN");
    }

    #[test]
    fn a_configurations_problems_are_all_told() {
        let config = Config::new()
            .with("group.id", "g")
            .with("bootstrap.servers", "localhost:1")
            .with("max.poll.recrods", 5)
            .with("session.timeout.ms", "soon");
        let error = Consumer::new(&config).unwrap_err();
        assert_eq!(remember(&error), tg_status::TG_ERROR_CONFIG);
        // SAFETY: just remembered, and this thread does not fail in between.
        let told = unsafe { &*tg_last_error() };
        assert_eq!(told.problem_count, 2);
        assert_eq!(text(told.argument), "max.poll.recrods");
        assert!(told.kafka_name.is_null());
        assert!(text(told.message).contains("session.timeout.ms"));
        // SAFETY: two problems, as counted above.
        let problems = unsafe { std::slice::from_raw_parts(told.problems, 2) };
        assert_eq!(text(problems[1].property), "session.timeout.ms");
        assert_eq!(text(problems[1].value), "soon");
        assert!(problems[0].is_error && !text(problems[0].remedy).is_empty());
        tg_clear_error();
        assert!(tg_last_error().is_null());
    }

    #[test]
    fn a_panic_becomes_an_error() {
        let status = crate::guard::call(|| panic!("the {} is broken", "gate"));
        assert_eq!(status, tg_status::TG_ERROR_INTERNAL);
        // SAFETY: just remembered.
        let told = unsafe { &*tg_last_error() };
        assert!(text(told.message).contains("the gate is broken"));
        assert_eq!(crate::guard::value(7, || panic!("no")), 7);
    }

    #[test]
    fn errors_are_each_threads_own() {
        tg_clear_error();
        std::thread::spawn(|| {
            remember(&Error::Closed { what: "consumer" });
            assert!(!tg_last_error().is_null());
        })
        .join()
        .unwrap();
        assert!(tg_last_error().is_null());
    }
}
