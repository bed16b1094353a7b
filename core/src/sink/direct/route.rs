//! Which way a topic's records go: into its book, or to librdkafka.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{RwLock, RwLockReadGuard};

use super::topic::Book;

/// Always true: while a [`Route::enter`]ed way is held it does not change, so that no record of a thread overtakes an earlier one on
/// the other way.
#[derive(Default)]
pub(crate) struct Route {
    book: RwLock<Option<Arc<Book>>>,
    /// Records that librdkafka took and has not reported.
    outstanding: AtomicUsize,
    /// Records that it has reported since it has the topic.
    reported: AtomicUsize,
}

impl Route {
    /// The book, or librdkafka, for as long as the guard is held.
    pub(crate) fn enter(&self) -> RwLockReadGuard<'_, Option<Arc<Book>>> {
        self.book.read()
    }

    /// Librdkafka takes so many records. Before it does.
    pub(crate) fn begin(&self, records: usize) {
        self.outstanding.fetch_add(records, Ordering::SeqCst);
    }

    /// It has not taken so many of them.
    pub(crate) fn withdraw(&self, records: usize) {
        self.outstanding.fetch_sub(records, Ordering::SeqCst);
    }

    /// It has reported so many; how many it has reported since it has the topic.
    pub(crate) fn reported(&self, records: usize) -> u64 {
        let _ = self
            .outstanding
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |outstanding| {
                Some(outstanding.saturating_sub(records))
            });
        (self.reported.fetch_add(records, Ordering::Relaxed) + records) as u64
    }

    /// What librdkafka has not reported.
    pub(crate) fn outstanding(&self) -> usize {
        self.outstanding.load(Ordering::SeqCst)
    }

    pub(super) fn open(&self, book: &Arc<Book>) {
        *self.book.write() = Some(Arc::clone(book));
    }

    /// Everything goes to librdkafka again, if `is_empty` says so while nobody sends.
    pub(super) fn close(&self, is_empty: impl FnOnce() -> bool) -> bool {
        let mut book = self.book.write();
        if !is_empty() {
            return false;
        }
        *book = None;
        self.reported.store(0, Ordering::Relaxed);
        true
    }
}
