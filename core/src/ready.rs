//! Tells an application that waits elsewhere, in an event loop, that a polling call would give something.
//!
//! L0; any thread. Whoever leaves something for the application raises, whoever polled and found nothing arms. No call is
//! lost: the one arms and *then* looks once more, the other leaves something and *then* raises. Both are read-modify-writes
//! of one flag, so that whichever comes second sees what was done before the first. Raising costs one of them while nothing
//! is armed; a batch is raised once, a record never.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::sync::{AtomicBool, Mutex, Ordering};

/// What an application wants called.
pub(crate) type Notify = Arc<dyn Fn() + Send + Sync>;

/// See the module.
pub(crate) struct Ready {
    /// The application was not told since it found nothing.
    armed: AtomicBool,
    notify: Mutex<Option<Notify>>,
}

impl Ready {
    /// Armed, with nothing to call.
    pub(crate) fn new() -> Ready {
        Ready {
            armed: AtomicBool::new(true),
            notify: Mutex::new(None),
        }
    }

    /// What to call from now on. To be followed by [`Ready::arm`] and a look.
    pub(crate) fn set(&self, notify: Option<Notify>) {
        let before = std::mem::replace(&mut *self.notify.lock(), notify);
        // Whatever its end does happens without the lock.
        drop(before);
    }

    /// The next [`Ready::raise`] calls. To be followed by a look at whatever is raised for.
    pub(crate) fn arm(&self) {
        self.armed.swap(true, Ordering::SeqCst);
    }

    /// True when a [`Ready::raise`] would call something.
    pub(crate) fn is_awaited(&self) -> bool {
        self.armed.load(Ordering::SeqCst) && self.notify.lock().is_some()
    }

    /// Calls, once after each [`Ready::arm`]; no lock is held meanwhile. False when what was called panicked.
    #[must_use]
    pub(crate) fn raise(&self) -> bool {
        if !self.armed.swap(false, Ordering::AcqRel) {
            return true;
        }
        let Some(notify) = self.notify.lock().clone() else {
            return true;
        };
        // This may be the last reference to a closure that was replaced meanwhile: its end is caught as well.
        catch_unwind(AssertUnwindSafe(move || notify())).is_ok()
    }
}
