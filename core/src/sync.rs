//! The primitives that the model checker must see: `std` and `parking_lot` in every build, `loom` under `--cfg loom`.
//!
//! Only what [`crate::tracker`] and [`crate::level`] need is here; the rest of the engine hands data over through channels.

#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{
    AtomicBool, AtomicI32, AtomicI64, AtomicU8, AtomicU64, AtomicUsize, Ordering, fence,
};

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{
    AtomicBool, AtomicI32, AtomicI64, AtomicU8, AtomicU64, AtomicUsize, Ordering, fence,
};

/// A mutex whose `lock` gives the guard, whatever stands behind it.
#[derive(Debug)]
pub(crate) struct Mutex<T>(
    #[cfg(not(loom))] parking_lot::Mutex<T>,
    #[cfg(loom)] loom::sync::Mutex<T>,
);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Mutex<T> {
        #[cfg(not(loom))]
        return Mutex(parking_lot::Mutex::new(value));
        #[cfg(loom)]
        return Mutex(loom::sync::Mutex::new(value));
    }

    #[cfg(not(loom))]
    pub(crate) fn lock(&self) -> parking_lot::MutexGuard<'_, T> {
        self.0.lock()
    }

    #[cfg(loom)]
    pub(crate) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
        match self.0.lock() {
            Ok(guard) => guard,
            Err(poisoned) => poisoned.into_inner(),
        }
    }
}

/// To be called between a `SeqCst` write and a `SeqCst` read that must not both miss the other thread's pair. The two
/// accesses alone guarantee that; loom takes them for `AcqRel` and needs the fence to know.
#[inline]
pub(crate) fn sequential() {
    #[cfg(loom)]
    fence(Ordering::SeqCst);
}
