//! What `tidegate._json` needs to know of a text before it trusts orjson's reading of it.

use pyo3::prelude::*;

/// Integers that orjson rounds have at least this many digits (-9223372036854775809 has 19).
const LONG: usize = 19;

/// True when `data` has 19 or more ASCII digits in a row. A fast no: one byte in 19 is looked at until a digit turns up.
///
/// Raises:
///     TypeError: `data` is not bytes.
#[pyfunction]
#[pyo3(name = "_has_long_number")]
pub(crate) fn has_long_number(data: &[u8]) -> bool {
    // 19 digits in a row have exactly one byte under any lattice of that width.
    let mut at = LONG - 1;
    while at < data.len() {
        if data[at].is_ascii_digit() {
            let before = data[..at]
                .iter()
                .rev()
                .take_while(|byte| byte.is_ascii_digit())
                .count();
            let after = data[at..]
                .iter()
                .take_while(|byte| byte.is_ascii_digit())
                .count();
            if before + after >= LONG {
                return true;
            }
        }
        at += LONG;
    }
    false
}
