//! Handles: what C holds is not an address but a key into a table, so that a handle that was freed, freed twice, or never
//! was one is an error and never a read of somebody else's memory.
//!
//! The table is lock-free and each slot counts its generations: a key is right only for the very object that it was made for.
//! A call holds a reference of its own, so an object freed by another thread meanwhile ends when the last call returns.

use std::ptr;
use std::sync::Arc;

use sharded_slab::Slab;
use tidegate::{Error, Result};

/// Bits that say what kind of object a handle is for.
const TAG_BITS: u32 = 4;

/// How a key is laid out: 2^26 objects made per thread, and the rest of the bits for generations.
#[derive(Debug)]
pub(crate) struct Keys;

impl sharded_slab::Config for Keys {
    const RESERVED_BITS: usize = TAG_BITS as usize;
    const MAX_PAGES: usize = 20;
}

/// A table of one kind of object.
pub(crate) type Table<T> = Slab<Arc<T>, Keys>;

/// An object that C holds a handle of.
pub(crate) trait Object: Sized + Send + Sync + 'static {
    /// The opaque C type.
    type Handle;
    /// The argument's name in errors.
    const NAME: &'static str;
    /// What tells its handles from other kinds; 1 to 15.
    const TAG: usize;

    fn table() -> &'static Table<Self>;
}

/// Says which table an object is in.
macro_rules! object {
    ($object:ty, $handle:ident, $name:literal, $tag:literal) => {
        impl $crate::handle::Object for $object {
            type Handle = $handle;
            const NAME: &'static str = $name;
            const TAG: usize = $tag;

            fn table() -> &'static $crate::handle::Table<Self> {
                static TABLE: std::sync::LazyLock<$crate::handle::Table<$object>> =
                    std::sync::LazyLock::new(sharded_slab::Slab::new_with_config);
                &TABLE
            }
        }
    };
}
pub(crate) use object;

/// A handle for a new object.
pub(crate) fn make<T: Object>(object: T) -> Result<*mut T::Handle> {
    let Some(key) = T::table().insert(Arc::new(object)) else {
        return Err(Error::Argument {
            argument: T::NAME,
            problem: "this thread has made too many that are not freed".into(),
            remedy: "free what is not used any more".into(),
        });
    };
    Ok(ptr::without_provenance_mut((key << TAG_BITS) | T::TAG))
}

/// The object of a handle.
pub(crate) fn get<T: Object>(handle: *const T::Handle) -> Result<Arc<T>> {
    T::table()
        .get(key::<T>(handle)?)
        .map(|object| Arc::clone(&object))
        .ok_or_else(freed::<T>)
}

/// Takes the object away from its handle, which is of no more use; NULL gives nothing.
pub(crate) fn take<T: Object>(handle: *mut T::Handle) -> Result<Option<Arc<T>>> {
    if handle.is_null() {
        return Ok(None);
    }
    match T::table().take(key::<T>(handle)?) {
        Some(object) => Ok(Some(object)),
        None => Err(freed::<T>()),
    }
}

fn key<T: Object>(handle: *const T::Handle) -> Result<usize> {
    let number = handle.addr();
    if number == 0 {
        return Err(Error::Argument {
            argument: T::NAME,
            problem: "the handle is NULL".into(),
            remedy: format!("pass what tg_{}_new() or its like gave", T::NAME),
        });
    }
    if number & ((1 << TAG_BITS) - 1) != T::TAG {
        return Err(Error::Argument {
            argument: T::NAME,
            problem: format!("{number:#x} is no handle of this kind"),
            remedy: "pass the handle itself, not its address and no other kind".into(),
        });
    }
    Ok(number >> TAG_BITS)
}

fn freed<T: Object>() -> Error {
    Error::Argument {
        argument: T::NAME,
        problem: "the handle was freed already".into(),
        remedy: "free it once, after its last use".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct tg_probe;

    struct Probe(u32);

    object!(Probe, tg_probe, "probe", 15);

    fn argument(result: Result<Arc<Probe>>) -> String {
        match result {
            Err(error) => error.to_string(),
            Ok(probe) => panic!("found {}", probe.0),
        }
    }

    #[test]
    fn a_handle_is_good_until_it_is_freed_and_never_again() {
        let first = make(Probe(1)).unwrap();
        assert_eq!(get::<Probe>(first).unwrap().0, 1);
        assert_eq!(take::<Probe>(first).unwrap().unwrap().0, 1);
        assert!(argument(get::<Probe>(first)).contains("freed already"));
        assert!(take::<Probe>(first).is_err());
        // The slot is used again; the old handle still is none.
        for number in 2..5_000 {
            let next = make(Probe(number)).unwrap();
            assert_ne!(next, first);
            assert!(take::<Probe>(first).is_err());
            assert_eq!(take::<Probe>(next).unwrap().unwrap().0, number);
        }
    }

    #[test]
    fn what_is_no_handle_is_told() {
        assert!(argument(get::<Probe>(ptr::null())).contains("NULL"));
        assert!(take::<Probe>(ptr::null_mut()).unwrap().is_none());
        for number in [1_usize, 16, 1 << 40, usize::MAX, usize::MAX & !0xF] {
            let handle = ptr::without_provenance_mut::<tg_probe>(number);
            assert!(get::<Probe>(handle).is_err(), "{number:#x}");
            assert!(take::<Probe>(handle).is_err(), "{number:#x}");
        }
    }

    #[test]
    fn of_two_threads_that_free_one_handle_one_is_told() {
        for number in 0..500 {
            let handle = make(Probe(number)).unwrap().addr();
            let freed = std::thread::scope(|scope| {
                let free = || take::<Probe>(ptr::without_provenance_mut(handle)).is_ok();
                let (one, two) = (scope.spawn(free), scope.spawn(free));
                u32::from(one.join().unwrap()) + u32::from(two.join().unwrap())
            });
            assert_eq!(freed, 1);
        }
    }
}
