//! What an event loop waits for: a file descriptor that is readable while there is something to poll, or an event on Windows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tidegate::{Consumer, Result};

use sys::Signal;

/// Watches one consumer.
pub(crate) struct Ready {
    level: Arc<Level>,
}

/// The descriptor and whether it is readable.
struct Level {
    signal: Signal,
    raised: AtomicBool,
}

impl Level {
    fn raise(&self) {
        // Readable already: no need to tell the kernel again.
        if !self.raised.swap(true, Ordering::SeqCst) {
            self.signal.raise();
        }
    }
}

impl Ready {
    /// Begins to watch; readable at once when something waits.
    pub(crate) fn watch(consumer: &Consumer) -> Result<Ready> {
        let level = Arc::new(Level {
            signal: Signal::new()?,
            raised: AtomicBool::new(false),
        });
        let raise = Arc::clone(&level);
        consumer.set_ready_callback(Some(Box::new(move || raise.raise())));
        Ok(Ready { level })
    }

    pub(crate) fn raw(&self) -> isize {
        self.level.signal.raw()
    }

    /// A polling call has found nothing: unreadable from here on, unless something has come meanwhile.
    ///
    /// The order matters. What came between that call and here was told and is now untold, so it is looked for again; what
    /// comes after the look is told by the callback, which looking has armed.
    pub(crate) fn nothing_found(&self, consumer: &Consumer) -> Result<()> {
        if self.level.raised.load(Ordering::SeqCst) {
            self.level.signal.reset();
            self.level.raised.store(false, Ordering::SeqCst);
            if consumer.wait_ready(Some(Duration::ZERO), 1)? {
                self.level.raise();
            }
        }
        Ok(())
    }
}

#[cfg(target_os = "linux")]
mod sys {
    use std::os::fd::{AsRawFd, OwnedFd};

    use rustix::event::{EventfdFlags, eventfd};
    use tidegate::{Error, Result};

    /// An eventfd.
    pub(super) struct Signal(OwnedFd);

    impl Signal {
        pub(super) fn new() -> Result<Signal> {
            eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
                .map(Signal)
                .map_err(|error| Error::Argument {
                    argument: "consumer",
                    problem: format!("no file descriptor can be made: {error}"),
                    remedy: "close descriptors, or raise the limit of open files".into(),
                })
        }

        /// Both cannot fail but by the counter's edge, where the descriptor is as wanted already.
        pub(super) fn raise(&self) {
            let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
        }

        pub(super) fn reset(&self) {
            let _ = rustix::io::read(&self.0, &mut [0_u8; 8]);
        }

        pub(super) fn raw(&self) -> isize {
            self.0.as_raw_fd() as isize
        }
    }
}

#[cfg(windows)]
mod sys {
    use std::ffi::c_void;
    use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
    use std::ptr;

    use tidegate::{Error, Result};

    #[link(name = "kernel32")]
    unsafe extern "system" {
        fn CreateEventW(
            attributes: *const c_void,
            manual_reset: i32,
            initial_state: i32,
            name: *const u16,
        ) -> *mut c_void;
        fn SetEvent(event: *mut c_void) -> i32;
        fn ResetEvent(event: *mut c_void) -> i32;
    }

    /// An event that stays signalled until it is reset, for WaitForMultipleObjects and its like.
    pub(super) struct Signal(OwnedHandle);

    impl Signal {
        pub(super) fn new() -> Result<Signal> {
            // SAFETY: no attributes and no name; reset by hand, and not signalled.
            let event = unsafe { CreateEventW(ptr::null(), 1, 0, ptr::null()) };
            if event.is_null() {
                return Err(Error::Argument {
                    argument: "consumer",
                    problem: format!("no event can be made: {}", std::io::Error::last_os_error()),
                    remedy: "close handles".into(),
                });
            }
            // SAFETY: not NULL, ours, and closed by nobody else.
            Ok(Signal(unsafe { OwnedHandle::from_raw_handle(event) }))
        }

        /// Both fail for handles that are none, which this is not.
        pub(super) fn raise(&self) {
            // SAFETY: an event that lives as long as `self`.
            unsafe { SetEvent(self.0.as_raw_handle()) };
        }

        pub(super) fn reset(&self) {
            // SAFETY: as above.
            unsafe { ResetEvent(self.0.as_raw_handle()) };
        }

        pub(super) fn raw(&self) -> isize {
            self.0.as_raw_handle() as isize
        }
    }
}

#[cfg(not(any(target_os = "linux", windows)))]
mod sys {
    use tidegate::{Error, Result};

    /// Not there yet on this system.
    pub(super) struct Signal(std::convert::Infallible);

    impl Signal {
        pub(super) fn new() -> Result<Signal> {
            Err(Error::Argument {
                argument: "consumer",
                problem: "an event loop cannot watch a consumer on this system yet".into(),
                remedy: "poll from a thread".into(),
            })
        }

        pub(super) fn raise(&self) {
            match self.0 {}
        }

        pub(super) fn reset(&self) {
            match self.0 {}
        }

        pub(super) fn raw(&self) -> isize {
            match self.0 {}
        }
    }
}
