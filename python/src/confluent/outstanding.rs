//! What a producer remembers of the records whose reports somebody waits for.
//!
//! Attached threads. A record's place in here is the number that travels through the engine. Always true: no Python code runs under
//! the lock, so what is taken out is dropped by the caller.

use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyString;

/// What a report is made of, beside what the broker says: the very objects that were produced.
pub(super) struct Entry {
    pub(super) topic: Py<PyString>,
    pub(super) callback: Py<PyAny>,
    pub(super) key: Option<Py<PyAny>>,
    pub(super) value: Option<Py<PyAny>>,
}

#[derive(Default)]
struct Places {
    entries: Vec<Option<Entry>>,
    free: Vec<usize>,
}

/// The records on their way.
#[derive(Default)]
pub(super) struct Outstanding(Mutex<Places>);

impl Outstanding {
    /// Remembers a record; gives it back when there are `most` already.
    pub(super) fn insert(&self, entry: Entry, most: usize) -> Result<usize, Entry> {
        let mut places = self.0.lock();
        if places.entries.len() - places.free.len() >= most {
            return Err(entry);
        }
        if let Some(place) = places.free.pop() {
            places.entries[place] = Some(entry);
            return Ok(place);
        }
        places.entries.push(Some(entry));
        Ok(places.entries.len() - 1)
    }

    pub(super) fn take(&self, place: usize) -> Option<Entry> {
        let mut places = self.0.lock();
        let entry = places.entries.get_mut(place)?.take()?;
        places.free.push(place);
        Some(entry)
    }

    /// All that is left, when nothing will be told of it any more.
    pub(super) fn take_all(&self) -> Vec<Entry> {
        let mut places = self.0.lock();
        places.free.clear();
        std::mem::take(&mut places.entries)
            .into_iter()
            .flatten()
            .collect()
    }
}
