//! The log lines of this crate and of librdkafka, and where they go.
//!
//! L0; any thread. Without a sink the lines are `tracing` events with the targets `tidegate` and `librdkafka`. A face that has
//! its own logging (Python's loguru or logging, a C callback) installs one sink for the process with [`set_sink`].
//!
//! Always true: a line's text is passed as data and never formatted again, so braces and percent signs in it are harmless; the
//! sink runs under no lock of ours; a panic of the sink ends at `emit` and never reaches the thread that logged.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use parking_lot::RwLock;
use rdkafka::config::RDKafkaLogLevel;

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Level {
    /// Something failed, and somebody has to know.
    Error = 1,
    /// Something is wrong and is being worked around.
    Warn = 2,
    /// Something that happens rarely: start, assignment, close.
    Info = 3,
    /// For looking for the cause of a problem.
    Debug = 4,
    /// Everything.
    Trace = 5,
}

impl Level {
    /// The level's name in capitals: `ERROR`, `WARN`, `INFO`, `DEBUG`, `TRACE`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Level::Error => "ERROR",
            Level::Warn => "WARN",
            Level::Info => "INFO",
            Level::Debug => "DEBUG",
            Level::Trace => "TRACE",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The target of this crate's own lines.
pub const TIDEGATE: &str = "tidegate";
/// The target of librdkafka's lines.
pub const LIBRDKAFKA: &str = "librdkafka";

/// A receiver of lines: level, target, message.
pub type LogSink = Box<dyn Fn(Level, &str, &str) + Send + Sync>;

static SINK: RwLock<Option<Arc<LogSink>>> = RwLock::new(None);
/// The least important level the sink is given.
static SINK_LEVEL: AtomicU8 = AtomicU8::new(Level::Debug as u8);

/// Sends every line to `sink(level, target, message)` from now on, instead of to `tracing`. Replaces an earlier sink.
///
/// The sink is called on whichever thread logs, also on several at once. It may log itself and may call [`set_sink`]. A panic in
/// it is swallowed: logging must not end the thread that serves Kafka.
///
/// ```
/// use tidegate::log::{self, Level};
///
/// log::set_sink(Box::new(|level, target, message| {
///     if level <= Level::Warn {
///         println!("{level} {target}: {message}");
///     }
/// }));
/// log::clear_sink();
/// ```
pub fn set_sink(sink: LogSink) {
    replace_sink(Some(Arc::new(sink)));
}

/// Sends the lines to `tracing` again. A line that is being written on another thread may still reach the old sink.
pub fn clear_sink() {
    replace_sink(None);
}

fn replace_sink(sink: Option<Arc<LogSink>>) {
    let before = std::mem::replace(&mut *SINK.write(), sink);
    // Its end is foreign code, which may log: not under the lock.
    drop(before);
}

/// The least important level that reaches the sink; [`Level::Debug`] unless set.
pub fn set_sink_level(level: Level) {
    SINK_LEVEL.store(level as u8, Ordering::Relaxed);
}

/// True when a line of this level would go anywhere; for work that only a log line needs.
pub(crate) fn enabled(level: Level) -> bool {
    if SINK.read().is_some() {
        return level as u8 <= SINK_LEVEL.load(Ordering::Relaxed);
    }
    let level = match level {
        Level::Error => tracing::Level::ERROR,
        Level::Warn => tracing::Level::WARN,
        Level::Info => tracing::Level::INFO,
        Level::Debug => tracing::Level::DEBUG,
        Level::Trace => tracing::Level::TRACE,
    };
    level <= tracing::level_filters::LevelFilter::current()
}

/// Logs one line.
pub(crate) fn emit(level: Level, target: &'static str, message: fmt::Arguments<'_>) {
    // Out of the lock before the sink runs: it may log, and it may take long.
    let sink = SINK.read().clone();
    match sink {
        Some(sink) => {
            if level as u8 <= SINK_LEVEL.load(Ordering::Relaxed) {
                let text = message.to_string();
                let _ = catch_unwind(AssertUnwindSafe(|| sink(level, target, &text)));
            }
        }
        None => {
            // A subscriber is foreign code too.
            let _ = catch_unwind(AssertUnwindSafe(|| trace(level, target, message)));
        }
    }
}

/// One of our own lines, as a warning.
/// A warning of a face that stands on this crate.
pub fn warning(message: &str) {
    warn(format_args!("{message}"));
}

pub(crate) fn warn(message: fmt::Arguments<'_>) {
    emit(Level::Warn, TIDEGATE, message);
}

/// One of our own lines, for information.
pub(crate) fn info(message: fmt::Arguments<'_>) {
    emit(Level::Info, TIDEGATE, message);
}

/// `tracing` wants its target and level as constants.
fn trace(level: Level, target: &'static str, message: fmt::Arguments<'_>) {
    macro_rules! at {
        ($target:expr) => {
            match level {
                Level::Error => tracing::error!(target: $target, "{message}"),
                Level::Warn => tracing::warn!(target: $target, "{message}"),
                Level::Info => tracing::info!(target: $target, "{message}"),
                Level::Debug => tracing::debug!(target: $target, "{message}"),
                Level::Trace => tracing::trace!(target: $target, "{message}"),
            }
        };
    }
    if target == LIBRDKAFKA {
        at!("librdkafka");
    } else {
        at!("tidegate");
    }
}

/// librdkafka's eight levels (syslog's) as ours.
pub(crate) fn level_of(level: RDKafkaLogLevel) -> Level {
    match level {
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Error => Level::Error,
        RDKafkaLogLevel::Warning => Level::Warn,
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => Level::Info,
        RDKafkaLogLevel::Debug => Level::Debug,
    }
}

/// One of librdkafka's own lines: `facility` is its word for the kind of event, such as `FAIL` or `REQTMOUT`.
pub(crate) fn emit_librdkafka(level: RDKafkaLogLevel, facility: &str, message: &str) {
    emit(
        level_of(level),
        LIBRDKAFKA,
        format_args!("{facility}: {message}"),
    );
}

/// The level librdkafka is told to log at: the property `log_level`, else debug when `debug` contexts are asked for, else info.
///
/// rust-rdkafka sets the level from its own configuration after librdkafka has read the property, so it has to be carried over.
pub(crate) fn librdkafka_level(log_level: Option<&str>, debug: Option<&str>) -> RDKafkaLogLevel {
    if let Some(level) = log_level.and_then(|text| text.trim().parse::<i64>().ok()) {
        return match level {
            ..=0 => RDKafkaLogLevel::Emerg,
            1 => RDKafkaLogLevel::Alert,
            2 => RDKafkaLogLevel::Critical,
            3 => RDKafkaLogLevel::Error,
            4 => RDKafkaLogLevel::Warning,
            5 => RDKafkaLogLevel::Notice,
            6 => RDKafkaLogLevel::Info,
            _ => RDKafkaLogLevel::Debug,
        };
    }
    if debug.is_some_and(|contexts| !contexts.trim().is_empty()) {
        return RDKafkaLogLevel::Debug;
    }
    RDKafkaLogLevel::Info
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use parking_lot::{Mutex, MutexGuard};

    /// The sink belongs to the process; tests that install one take turns.
    static TURN: Mutex<()> = Mutex::new(());

    type Lines = Arc<Mutex<Vec<(Level, String, String)>>>;

    /// Collects the process's lines while it lives.
    pub(crate) struct Captured {
        pub(crate) lines: Lines,
        _turn: MutexGuard<'static, ()>,
    }

    impl Captured {
        pub(crate) fn start() -> Captured {
            let turn = TURN.lock();
            let lines = Lines::default();
            let into = Arc::clone(&lines);
            set_sink(Box::new(move |level, target, message| {
                into.lock().push((level, target.into(), message.into()));
            }));
            Captured { lines, _turn: turn }
        }

        pub(crate) fn has(&self, level: Level, part: &str) -> bool {
            self.lines
                .lock()
                .iter()
                .any(|(at, _, text)| *at == level && text.contains(part))
        }
    }

    impl Drop for Captured {
        fn drop(&mut self) {
            clear_sink();
        }
    }

    #[test]
    fn braces_and_percent_signs_arrive_as_they_are() {
        let captured = Captured::start();
        let text = "KafkaError{code=_TIMED_OUT,val=-185} 100% {0} {} %s %n {{";
        emit(Level::Warn, TIDEGATE, format_args!("{text}"));
        emit_librdkafka(RDKafkaLogLevel::Error, "FAIL", text);
        assert!(captured.has(Level::Warn, text));
        let lines = captured.lines.lock();
        assert!(lines.contains(&(Level::Error, "librdkafka".into(), format!("FAIL: {text}"))));
    }

    #[test]
    fn a_panic_of_the_sink_stays_in_it() {
        let _turn = TURN.lock();
        set_sink(Box::new(|_, _, message| {
            if message.contains("boom") {
                panic!("the sink is broken");
            }
        }));
        emit(Level::Info, TIDEGATE, format_args!("boom"));
        emit(Level::Info, TIDEGATE, format_args!("after"));
        clear_sink();
    }

    #[test]
    fn a_sink_may_log_and_replace_itself() {
        let captured = Captured::start();
        let into = Arc::clone(&captured.lines);
        set_sink(Box::new(move |_, _, message| {
            let into = Arc::clone(&into);
            set_sink(Box::new(move |level, target, message| {
                into.lock().push((level, target.into(), message.into()));
            }));
            emit(Level::Info, TIDEGATE, format_args!("inner of {message}"));
        }));
        emit(Level::Info, TIDEGATE, format_args!("outer"));
        assert!(captured.has(Level::Info, "inner of outer"));
    }

    #[test]
    fn the_sinks_level_is_honoured() {
        let captured = Captured::start();
        set_sink_level(Level::Warn);
        assert!(enabled(Level::Warn) && !enabled(Level::Info));
        emit(Level::Info, TIDEGATE, format_args!("quiet please"));
        set_sink_level(Level::Debug);
        assert!(!captured.has(Level::Info, "quiet please"));
        emit(Level::Debug, TIDEGATE, format_args!("heard"));
        assert!(captured.has(Level::Debug, "heard"));
    }

    #[test]
    fn librdkafkas_levels() {
        let shown = |log_level, debug| level_of(librdkafka_level(log_level, debug));
        assert_eq!(shown(None, None), Level::Info);
        assert_eq!(shown(None, Some("cgrp,fetch")), Level::Debug);
        assert_eq!(shown(Some("4"), Some("cgrp")), Level::Warn);
        assert_eq!(shown(Some("3"), None), Level::Error);
        assert_eq!(shown(Some("7"), None), Level::Debug);
        assert_eq!(shown(None, Some(" ")), Level::Info);
    }
}
