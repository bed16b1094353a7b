//! librdkafka's texts and arrays as ours. Everything is copied, or lives as long as what it was read from.

use std::ffi::{CStr, c_char, c_int};
use std::slice;

/// A text; empty for NULL.
///
/// # Safety
///
/// NULL, or NUL-terminated and alive.
pub(crate) unsafe fn text(text: *const c_char) -> String {
    // SAFETY: by contract.
    unsafe { maybe(text) }.unwrap_or_default()
}

/// A text, or `None` for NULL.
///
/// # Safety
///
/// As [`text`].
pub(crate) unsafe fn maybe(text: *const c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: by contract.
    Some(
        unsafe { CStr::from_ptr(text) }
            .to_string_lossy()
            .into_owned(),
    )
}

/// An array of librdkafka's; empty for NULL.
///
/// # Safety
///
/// NULL, or so many elements that live as long as `'a`.
pub(crate) unsafe fn array<'a, T>(first: *const T, count: usize) -> &'a [T] {
    if first.is_null() || count == 0 {
        return &[];
    }
    // SAFETY: by contract.
    unsafe { slice::from_raw_parts(first, count) }
}

/// As [`array`], with librdkafka's other kind of count.
///
/// # Safety
///
/// As [`array`].
pub(crate) unsafe fn counted<'a, T>(first: *const T, count: c_int) -> &'a [T] {
    // SAFETY: by contract.
    unsafe { array(first, usize::try_from(count).unwrap_or(0)) }
}
