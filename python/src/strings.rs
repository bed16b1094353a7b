//! Topic names as Python strings, made once per thread and topic instead of once per record.

use std::cell::RefCell;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyString;

/// Topics remembered per thread; the ones used last are kept.
const REMEMBERED: usize = 64;

thread_local! {
    static TOPICS: RefCell<Vec<(Arc<str>, Py<PyString>)>> = const { RefCell::new(Vec::new()) };
}

/// The name as a Python string. Names are told apart by address first: the engine shares one allocation per partition.
#[inline]
pub(crate) fn topic(py: Python<'_>, name: &Arc<str>) -> Py<PyString> {
    let known = TOPICS.try_with(|topics| {
        let topics = topics.try_borrow().ok()?;
        let found = topics.iter().find(|(known, _)| Arc::ptr_eq(known, name))?;
        Some(found.1.clone_ref(py))
    });
    match known {
        Ok(Some(text)) => text,
        _ => remember(py, name),
    }
}

#[cold]
fn remember(py: Python<'_>, name: &Arc<str>) -> Py<PyString> {
    let text = PyString::intern(py, name).unbind();
    let _ = TOPICS.try_with(|topics| {
        if let Ok(mut topics) = topics.try_borrow_mut() {
            topics.insert(0, (Arc::clone(name), text.clone_ref(py)));
            topics.truncate(REMEMBERED);
        }
    });
    text
}
