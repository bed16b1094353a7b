//! The wall between C and Rust: errors become a status and the thread's last error, panics too.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tidegate::Result;

use crate::error::{self, tg_status};

/// Runs the body of an exported function that may have nothing to give.
pub(crate) fn status(body: impl FnOnce() -> Result<tg_status>) -> tg_status {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(status)) => status,
        Ok(Err(error)) => error::remember(&error),
        Err(payload) => error::remember_panic(payload.as_ref()),
    }
}

/// Runs the body of an exported function that either succeeds or fails.
pub(crate) fn call(body: impl FnOnce() -> Result<()>) -> tg_status {
    status(|| body().map(|()| tg_status::TG_OK))
}

/// Runs the body of an exported function that gives a value, and `otherwise` when it fails.
pub(crate) fn value<T>(otherwise: T, body: impl FnOnce() -> Result<T>) -> T {
    let mut given = None;
    let status = call(|| {
        given = Some(body()?);
        Ok(())
    });
    match given {
        Some(value) if status == tg_status::TG_OK => value,
        _ => otherwise,
    }
}

/// Runs C's callback, or anything else whose panic must not reach the engine's threads.
pub(crate) fn contain<T>(body: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(body)).ok()
}
