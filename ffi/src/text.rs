//! Texts that the library makes: statistics and the like.

use std::ffi::CString;

use crate::error::{c_text, tg_status};
use crate::guard;
use crate::handle::{self, object};
use crate::record::tg_bytes;
use tidegate::Result;

/// A text that the library made; tg_text_free() ends it.
pub struct tg_text {
    _private: [u8; 0],
}

pub(crate) struct Text(CString);

object!(Text, tg_text, "text", 5);

pub(crate) fn make(text: &str) -> Result<*mut tg_text> {
    handle::make(Text(c_text(text)))
}

/// The text, UTF-8, with a NUL behind its last byte; valid until it is freed. `data` is NULL for NULL and a freed text. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn tg_text_data(text: *const tg_text) -> tg_bytes {
    guard::value(tg_bytes::of(None), || {
        Ok(tg_bytes::of(Some(handle::get::<Text>(text)?.0.as_bytes())))
    })
}

/// Ends a text. NULL does nothing; freeing twice is TG_ERROR_ARGUMENT. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn tg_text_free(text: *mut tg_text) -> tg_status {
    guard::call(|| handle::take::<Text>(text).map(drop))
}
