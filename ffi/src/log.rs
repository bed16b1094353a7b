//! The log lines of the library and of librdkafka.

use std::ffi::{CString, c_char, c_void};

use tidegate::Result;
use tidegate::log::{self, Level};

use crate::error::{c_text, tg_status};
use crate::guard;
use crate::input;
use crate::listener::tg_free_callback;

/// How much a log line matters.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum tg_log_level {
    /// Something failed, and somebody has to know.
    TG_LOG_ERROR = 1,
    /// Something is wrong and is being worked around.
    TG_LOG_WARN = 2,
    /// Something that happens rarely: start, assignment, close.
    TG_LOG_INFO = 3,
    /// For looking for the cause of a problem.
    TG_LOG_DEBUG = 4,
    /// Everything.
    TG_LOG_TRACE = 5,
}

impl From<Level> for tg_log_level {
    fn from(level: Level) -> tg_log_level {
        match level {
            Level::Error => tg_log_level::TG_LOG_ERROR,
            Level::Warn => tg_log_level::TG_LOG_WARN,
            Level::Info => tg_log_level::TG_LOG_INFO,
            Level::Debug => tg_log_level::TG_LOG_DEBUG,
            Level::Trace => tg_log_level::TG_LOG_TRACE,
        }
    }
}

fn level(number: i32) -> Result<Level> {
    Ok(match number {
        1 => Level::Error,
        2 => Level::Warn,
        3 => Level::Info,
        4 => Level::Debug,
        5 => Level::Trace,
        _ => {
            return Err(input::refused(
                "level",
                format!("there is no level {number}"),
                "use one of the TG_LOG_ numbers",
            ));
        }
    })
}

/// Called with each log line, on whichever thread logs, also on several at once, under no lock. It may call the library, this function's
/// own setter included. What it logs itself by that comes back to it: it must not log without end.
///
/// @param target "tidegate" or "librdkafka"; NUL-terminated and valid during the call, as is the message.
/// @param message the line, UTF-8, without a line feed at its end.
pub type tg_log_callback = Option<
    unsafe extern "C" fn(
        level: tg_log_level,
        target: *const c_char,
        message: *const c_char,
        user_data: *mut c_void,
    ),
>;

/// What C gave, for as long as lines may come.
struct Sink {
    callback: tg_log_callback,
    user_data: *mut c_void,
    free: tg_free_callback,
}

// SAFETY: the caller has promised that `user_data` may be used on whichever thread logs.
unsafe impl Send for Sink {}
// SAFETY: as above, on several at once.
unsafe impl Sync for Sink {}

impl Sink {
    fn line(&self, level: Level, target: &str, message: &str) {
        let Some(callback) = self.callback else {
            return;
        };
        let (target, message): (CString, CString) = (c_text(target), c_text(message));
        // SAFETY: C's function with its own user data, and texts that live through the call. Core contains a panic.
        unsafe {
            callback(
                level.into(),
                target.as_ptr(),
                message.as_ptr(),
                self.user_data,
            )
        };
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if let Some(free) = self.free {
            let user_data = self.user_data;
            // SAFETY: C's function with its own user data, called once: this is the only drop.
            let _ = guard::contain(|| unsafe { free(user_data) });
        }
    }
}

/// Sends the log lines of the whole process to a callback from now on; without one they go nowhere. A callback that was set before is
/// replaced; a line that another thread is writing may still reach it, and `free_user_data` is called when that is done. Any thread.
///
/// @param level the least important tg_log_level to be told of.
/// @param callback NULL ends it; the other arguments are not looked at then.
/// @param user_data given to the callback.
/// @param free_user_data called once when the callback was replaced or ended; may be NULL.
/// @return TG_ERROR_ARGUMENT for an unknown level; then `free_user_data` is not called.
///
/// # Safety
///
/// `callback` and `free_user_data` may be called with `user_data` on any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tg_set_log_callback(
    level: i32,
    callback: tg_log_callback,
    user_data: *mut c_void,
    free_user_data: tg_free_callback,
) -> tg_status {
    guard::call(|| {
        if callback.is_none() {
            log::clear_sink();
            return Ok(());
        }
        let level = self::level(level)?;
        let sink = Sink {
            callback,
            user_data,
            free: free_user_data,
        };
        log::set_sink_level(level);
        log::set_sink(Box::new(move |level, target, message| {
            sink.line(level, target, message);
        }));
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use std::ptr;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use parking_lot::Mutex;

    use super::*;
    use crate::testing::{TestBroker, text, wrong_argument};
    use tg_status::{TG_ERROR_ARGUMENT, TG_OK};

    /// The callback is the process's: its tests take turns. Lines of other tests come in between.
    static TURN: Mutex<()> = Mutex::new(());

    #[derive(Default)]
    struct Heard {
        lines: Mutex<Vec<(tg_log_level, String, String)>>,
        freed: AtomicUsize,
    }

    unsafe extern "C" fn keep(
        level: tg_log_level,
        target: *const c_char,
        message: *const c_char,
        user_data: *mut c_void,
    ) {
        // SAFETY: a `Heard` that is never freed.
        let heard = unsafe { &*user_data.cast::<Heard>() };
        heard
            .lines
            .lock()
            .push((level, text(target), text(message)));
    }

    unsafe extern "C" fn freed(user_data: *mut c_void) {
        // SAFETY: as above.
        unsafe { &*user_data.cast::<Heard>() }
            .freed
            .fetch_add(1, Ordering::SeqCst);
    }

    /// Replaces itself from within, and makes the library log.
    unsafe extern "C" fn replace(
        level: tg_log_level,
        target: *const c_char,
        message: *const c_char,
        user_data: *mut c_void,
    ) {
        // SAFETY: as above.
        unsafe {
            keep(level, target, message, user_data);
            assert_eq!(tg_set_log_callback(5, Some(keep), user_data, None), TG_OK);
        }
        a_line();
    }

    /// What frees the user data makes the library log: not under a lock.
    unsafe extern "C" fn freed_loudly(user_data: *mut c_void) {
        a_line();
        // SAFETY: as above.
        unsafe { freed(user_data) };
    }

    /// A warning of the library, from this thread.
    fn a_line() {
        let broker = TestBroker::new(&[]);
        let producer = broker.producer(&[
            (c"compression.gzip.level", c"9"),
            (c"compression.type", c"lz4"),
        ]);
        crate::producer::tg_producer_free(producer);
    }

    fn heard() -> &'static Heard {
        Box::leak(Box::default())
    }

    fn set(level: i32, callback: tg_log_callback, heard: &'static Heard) -> tg_status {
        let user_data = ptr::from_ref(heard).cast_mut().cast();
        // SAFETY: functions that take a `Heard`, which is never freed.
        unsafe { tg_set_log_callback(level, callback, user_data, Some(freed)) }
    }

    fn clear() {
        // SAFETY: NULL ends it.
        let status = unsafe { tg_set_log_callback(0, None, ptr::null_mut(), None) };
        assert_eq!(status, TG_OK);
    }

    #[test]
    fn lines_arrive_until_it_is_ended() {
        let _turn = TURN.lock();
        let first = heard();
        assert_eq!(set(4, Some(keep), first), TG_OK);
        a_line();
        assert!(!first.lines.lock().is_empty());
        let second = heard();
        assert_eq!(set(1, Some(keep), second), TG_OK);
        assert_eq!(first.freed.load(Ordering::SeqCst), 1);
        a_line();
        let louder =
            |(level, _, _): &(tg_log_level, String, String)| *level == tg_log_level::TG_LOG_ERROR;
        assert!(second.lines.lock().iter().all(louder));
        clear();
        assert_eq!(second.freed.load(Ordering::SeqCst), 1);
        clear();
    }

    #[test]
    fn it_may_replace_itself_and_make_the_library_log() {
        let _turn = TURN.lock();
        let heard = heard();
        assert_eq!(set(5, Some(replace), heard), TG_OK);
        a_line();
        assert!(heard.lines.lock().len() > 1);
        clear();
        let user_data = ptr::from_ref(heard).cast_mut().cast();
        // SAFETY: functions that take a `Heard`, which is never freed.
        unsafe { tg_set_log_callback(5, Some(keep), user_data, Some(freed_loudly)) };
        clear();
        assert_eq!(heard.freed.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn an_unknown_level_is_told() {
        for level in [0, -1, 6] {
            let heard = heard();
            assert_eq!(set(level, Some(keep), heard), TG_ERROR_ARGUMENT);
            assert_eq!(wrong_argument(), "level");
            assert_eq!(heard.freed.load(Ordering::SeqCst), 0);
        }
    }
}
