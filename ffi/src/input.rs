//! What C hands in: texts, bytes, arrays, times and places for results.

use std::ffi::{CStr, c_char};
use std::time::Duration;

use tidegate::{Error, Result};

/// Waits without a limit, where a function's comment allows that.
pub const TG_FOREVER: i64 = -1;

pub(crate) fn refused(argument: &'static str, problem: impl Into<String>, remedy: &str) -> Error {
    Error::Argument {
        argument,
        problem: problem.into(),
        remedy: remedy.into(),
    }
}

/// A NUL-terminated UTF-8 text.
///
/// # Safety
///
/// `text` is NULL or ends with a NUL, and stays as it is for `'a`.
pub(crate) unsafe fn text<'a>(argument: &'static str, text: *const c_char) -> Result<&'a str> {
    if text.is_null() {
        return Err(refused(
            argument,
            "it is NULL",
            "pass a NUL-terminated text",
        ));
    }
    // SAFETY: not NULL, and NUL-terminated by contract.
    unsafe { CStr::from_ptr(text) }
        .to_str()
        .map_err(|_| refused(argument, "the text is not UTF-8", "pass UTF-8"))
}

/// An array; NULL only with a length of 0.
///
/// # Safety
///
/// `start` is NULL or leads to `length` initialised elements that stay as they are for `'a`.
pub(crate) unsafe fn slice<'a, T>(
    argument: &'static str,
    start: *const T,
    length: usize,
) -> Result<&'a [T]> {
    if length == 0 {
        return Ok(&[]);
    }
    if start.is_null() {
        return Err(refused(
            argument,
            format!("it is NULL with a count of {length}"),
            "pass the array, or a count of 0",
        ));
    }
    if !start.is_aligned() || length > isize::MAX as usize / size_of::<T>().max(1) {
        return Err(refused(
            argument,
            format!("no array of {length} elements can lie there"),
            "pass the array and the number of its elements",
        ));
    }
    // SAFETY: not NULL, aligned, not longer than an object can be, and initialised by contract.
    Ok(unsafe { std::slice::from_raw_parts(start, length) })
}

/// Where a result goes.
///
/// # Safety
///
/// `place` is NULL or leads to memory for a `T` that nobody else uses during the call.
pub(crate) unsafe fn put<T>(argument: &'static str, place: *mut T, value: T) -> Result<()> {
    check_place(argument, place)?;
    // SAFETY: not NULL, aligned, and writable by contract; what was there before needs no drop, it is C's.
    unsafe { place.write(value) };
    Ok(())
}

/// Looks at a result's place before the work that makes the result is done.
pub(crate) fn check_place<T>(argument: &'static str, place: *const T) -> Result<()> {
    if place.is_null() || !place.is_aligned() {
        return Err(refused(
            argument,
            "it is NULL or not aligned",
            "pass the address of a variable for the result",
        ));
    }
    Ok(())
}

/// A bounded wait.
pub(crate) fn duration(argument: &'static str, timeout_ms: i64) -> Result<Duration> {
    u64::try_from(timeout_ms)
        .map(Duration::from_millis)
        .map_err(|_| {
            refused(
                argument,
                format!("{timeout_ms} ms is negative"),
                "use 0 or more milliseconds",
            )
        })
}

/// A wait that may be without a limit (TG_FOREVER).
pub(crate) fn timeout(argument: &'static str, timeout_ms: i64) -> Result<Option<Duration>> {
    if timeout_ms == TG_FOREVER {
        return Ok(None);
    }
    u64::try_from(timeout_ms)
        .map(|ms| Some(Duration::from_millis(ms)))
        .map_err(|_| {
            refused(
                argument,
                format!("{timeout_ms} ms is negative"),
                "use 0 or more milliseconds, or TG_FOREVER",
            )
        })
}
