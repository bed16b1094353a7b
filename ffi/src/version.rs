//! Which library this is.

use std::ffi::c_char;

/// Grows by one whenever a program compiled against an older header would go wrong. A program checks at its start that
/// `tg_abi_version() == TG_ABI_VERSION`.
pub const TG_ABI_VERSION: u32 = 0;

/// The ABI version of the library that runs, as a symbol for tools that do not call it; see TG_ABI_VERSION.
#[unsafe(no_mangle)]
pub static tg_abi: u32 = TG_ABI_VERSION;

/// The ABI version of the library that runs. Any thread; cannot fail.
#[unsafe(no_mangle)]
pub extern "C" fn tg_abi_version() -> u32 {
    TG_ABI_VERSION
}

/// The library's version, such as "0.1.0"; static. Any thread; cannot fail.
#[unsafe(no_mangle)]
pub extern "C" fn tg_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// The version of the librdkafka inside, such as "2.12.1"; static. Any thread; cannot fail.
#[unsafe(no_mangle)]
pub extern "C" fn tg_librdkafka_version() -> *const c_char {
    use std::ffi::CString;
    use std::sync::LazyLock;

    static VERSION: LazyLock<CString> =
        LazyLock::new(|| CString::new(tidegate::librdkafka_version()).unwrap_or_default());
    VERSION.as_ptr()
}
