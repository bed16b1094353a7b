//! Rebalance callbacks of C.

use std::ffi::{c_int, c_void};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tidegate::{Error, RebalanceListener, Result, TopicPartition};

use crate::consumer::tg_consumer;
use crate::guard;
use crate::partitions::{List, TG_OFFSET_NONE, tg_topic_partition};

/// Called with partitions; they are the library's and end with the call. A result other than 0 makes the polling call fail with
/// TG_ERROR_CALLBACK; the rebalance goes on.
pub type tg_partitions_callback = Option<
    unsafe extern "C" fn(
        consumer: *mut tg_consumer,
        partitions: *const tg_topic_partition,
        count: usize,
        user_data: *mut c_void,
    ) -> c_int,
>;

/// Called once when the library needs `user_data` no more.
pub type tg_free_callback = Option<unsafe extern "C" fn(user_data: *mut c_void)>;

/// What to call at rebalances; each may be NULL. They run on the thread that polls or closes the consumer, never under a lock, and may
/// call the library, except for this consumer's polling calls, which answer TG_ERROR_CONCURRENT_USE.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct tg_rebalance_callbacks {
    /// Partitions were added. A seek in here takes effect before any record of them is handed out.
    pub on_assign: tg_partitions_callback,
    /// Partitions are about to be taken away; commits for them still work.
    pub on_revoke: tg_partitions_callback,
    /// Partitions are gone, and may have a new owner; commits for them fail.
    pub on_lost: tg_partitions_callback,
    /// The end of a partition was fetched (only with `enable.partition.eof`); the offset is that of the next record to be written.
    pub on_partition_eof: tg_partitions_callback,
    /// Given to each callback.
    pub user_data: *mut c_void,
    /// Called when the callbacks were replaced or the consumer has ended; may be NULL.
    pub free_user_data: tg_free_callback,
}

/// Who ends C's user data: nobody while the library has only been offered it, the library once it has accepted it.
pub(crate) struct Custody {
    user_data: *mut c_void,
    free: tg_free_callback,
    state: AtomicU8,
}

const OFFERED: u8 = 0;
const ACCEPTED: u8 = 1;
const DROPPED: u8 = 2;

// SAFETY: the caller has promised that `user_data` may be used on whichever thread polls.
unsafe impl Send for Custody {}
// SAFETY: as above; `end` is called once.
unsafe impl Sync for Custody {}

impl Custody {
    /// The offer was taken. The callbacks may have been replaced already by then.
    pub(crate) fn accept(&self) {
        if self.state.swap(ACCEPTED, Ordering::AcqRel) == DROPPED {
            self.end();
        }
    }

    /// The callbacks are gone: refused, or of no more use.
    fn drop_callbacks(&self) {
        if self.state.swap(DROPPED, Ordering::AcqRel) == ACCEPTED {
            self.end();
        }
    }

    fn end(&self) {
        if let Some(free) = self.free {
            let user_data = self.user_data;
            // SAFETY: C's function with its own user data, called once: one of accept and drop_callbacks comes second.
            let _ = guard::contain(|| unsafe { free(user_data) });
        }
    }
}

/// What C gave, for as long as the consumer needs it.
pub(crate) struct Callbacks {
    table: tg_rebalance_callbacks,
    consumer: *mut tg_consumer,
    custody: Arc<Custody>,
}

// SAFETY: the caller has promised that `user_data` may be used on whichever thread polls; the handle is only a number.
unsafe impl Send for Callbacks {}
// SAFETY: as above; the library makes one call at a time.
unsafe impl Sync for Callbacks {}

impl Callbacks {
    /// The callbacks, and what to accept when the consumer has taken them.
    pub(crate) fn offer(
        consumer: *mut tg_consumer,
        table: tg_rebalance_callbacks,
    ) -> (Callbacks, Arc<Custody>) {
        let custody = Arc::new(Custody {
            user_data: table.user_data,
            free: table.free_user_data,
            state: AtomicU8::new(OFFERED),
        });
        let callbacks = Callbacks {
            table,
            consumer,
            custody: Arc::clone(&custody),
        };
        (callbacks, custody)
    }

    fn tell(&self, what: &str, callback: tg_partitions_callback, list: &List) -> Result<()> {
        let Some(callback) = callback else {
            return Ok(());
        };
        let rows = list.rows();
        // SAFETY: C's function, with its own user data and rows that live through the call.
        let code = unsafe {
            callback(
                self.consumer,
                rows.as_ptr(),
                rows.len(),
                self.table.user_data,
            )
        };
        if code == 0 {
            return Ok(());
        }
        Err(Error::Listener {
            context: format!("{what} answered {code}"),
        })
    }
}

impl RebalanceListener for Callbacks {
    fn on_assign(&self, partitions: &[TopicPartition]) -> Result<()> {
        let list = List::of_partitions(partitions);
        self.tell("on_assign", self.table.on_assign, &list)
    }

    fn on_revoke(&self, partitions: &[TopicPartition]) -> Result<()> {
        let list = List::of_partitions(partitions);
        self.tell("on_revoke", self.table.on_revoke, &list)
    }

    fn on_lost(&self, partitions: &[TopicPartition]) -> Result<()> {
        let list = List::of_partitions(partitions);
        self.tell("on_lost", self.table.on_lost, &list)
    }

    fn on_partition_eof(&self, partition: &TopicPartition, offset: i64) -> Result<()> {
        debug_assert_ne!(offset, TG_OFFSET_NONE);
        let list = List::new([(&*partition.topic, partition.partition, offset)]);
        self.tell("on_partition_eof", self.table.on_partition_eof, &list)
    }
}

impl Drop for Callbacks {
    fn drop(&mut self) {
        self.custody.drop_callbacks();
    }
}
