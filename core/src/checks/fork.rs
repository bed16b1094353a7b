//! Use after `fork()`: a child has none of librdkafka's threads.
//!
//! The system is asked once to count the forks of this process; asking it for the process's number at each record instead cost a
//! third of a microsecond, as much as half of what sending the record costs (2026-11-23). Always true: the count differs from
//! a guard's in a child of the process that made the guard, and in no other.

use crate::error::{Error, Result};

/// Remembers which process made a handle: librdkafka's threads do not exist in a forked child, where every wait for
/// them would be for ever.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ForkGuard {
    generation: u64,
}

impl ForkGuard {
    pub(crate) fn new() -> ForkGuard {
        ForkGuard {
            generation: sys::generation(),
        }
    }

    /// True in a child forked after the handle was made.
    pub(crate) fn is_forked(self) -> bool {
        sys::generation() != self.generation
    }

    pub(crate) fn check(self, what: &'static str) -> Result<()> {
        if self.is_forked() {
            return Err(Error::Forked { what });
        }
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn of_another_process() -> ForkGuard {
        ForkGuard {
            generation: sys::generation().wrapping_add(1),
        }
    }
}

#[cfg(unix)]
mod sys {
    use std::ffi::c_int;
    use std::sync::Once;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    static FORKS: AtomicU64 = AtomicU64::new(0);
    static COUNTED: Once = Once::new();
    static NOT_COUNTED: AtomicBool = AtomicBool::new(false);

    type Handler = Option<extern "C" fn()>;

    unsafe extern "C" {
        fn pthread_atfork(prepare: Handler, parent: Handler, child: Handler) -> c_int;
    }

    extern "C" fn in_child() {
        FORKS.fetch_add(1, Ordering::Relaxed);
    }

    /// Differs between a process and its forked children.
    pub(super) fn generation() -> u64 {
        COUNTED.call_once(|| {
            // SAFETY: the handler only adds to an atomic, which a child may do; it lives as long as this library, with which the
            // system forgets it.
            let failed = unsafe { pthread_atfork(None, None, Some(in_child)) } != 0;
            NOT_COUNTED.store(failed, Ordering::Relaxed);
        });
        if NOT_COUNTED.load(Ordering::Relaxed) {
            return u64::from(std::process::id());
        }
        FORKS.load(Ordering::Relaxed)
    }
}

#[cfg(not(unix))]
mod sys {
    /// Nothing forks here.
    pub(super) fn generation() -> u64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_of_another_process_is_refused() {
        assert!(ForkGuard::new().check("producer").is_ok());
        assert!(matches!(
            ForkGuard::of_another_process().check("producer"),
            Err(Error::Forked { what: "producer" })
        ));
    }
}
