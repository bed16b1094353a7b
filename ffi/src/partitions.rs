//! Partitions and offsets, going in as arrays and coming out as lists.

use std::ffi::{CString, c_char};
use std::sync::Arc;

use tidegate::{Offset, Result, TopicPartition, TopicPartitionOffset};

use crate::error::c_text;
use crate::guard;
use crate::handle::{self, object};
use crate::input;

/// The first record that is there.
pub const TG_OFFSET_BEGINNING: i64 = -2;
/// Behind the last record.
pub const TG_OFFSET_END: i64 = -1;
/// Where the group has committed, or where `auto.offset.reset` leads.
pub const TG_OFFSET_STORED: i64 = -1000;
/// No offset.
pub const TG_OFFSET_NONE: i64 = -1001;
/// `TG_OFFSET_TAIL_BASE - n`: n records before the end.
pub const TG_OFFSET_TAIL_BASE: i64 = -2000;

/// A partition and, where that has a meaning, an offset: always that of the record to be read *next*.
#[repr(C)]
#[derive(Debug)]
pub struct tg_topic_partition {
    /// The topic, NUL-terminated.
    pub topic: *const c_char,
    /// The partition, 0 or more.
    pub partition: i32,
    /// An offset (0 or more), or one of the TG_OFFSET_ numbers.
    pub offset: i64,
}

/// A list of partitions that the library made; tg_partitions_free() ends it.
pub struct tg_partitions {
    _private: [u8; 0],
}

/// What a [`tg_partitions`] stands for.
pub(crate) struct List {
    rows: Vec<tg_topic_partition>,
    _topics: Vec<CString>,
}

object!(List, tg_partitions, "partitions", 1);

// SAFETY: the pointers of the rows lead into the topics, which are immutable and go where the rows go.
unsafe impl Send for List {}
// SAFETY: as above; nothing is changed after it was made.
unsafe impl Sync for List {}

impl List {
    pub(crate) fn new<'t>(partitions: impl IntoIterator<Item = (&'t str, i32, i64)>) -> List {
        let mut topics: Vec<CString> = Vec::new();
        let rows = partitions
            .into_iter()
            .map(|(topic, partition, offset)| {
                // Lists come sorted by topic: one text for all of its partitions.
                if topics
                    .last()
                    .is_none_or(|last| last.as_bytes() != topic.as_bytes())
                {
                    topics.push(c_text(topic));
                }
                tg_topic_partition {
                    topic: topics.last().map_or(std::ptr::null(), |last| last.as_ptr()),
                    partition,
                    offset,
                }
            })
            .collect();
        List {
            rows,
            _topics: topics,
        }
    }

    pub(crate) fn of_partitions(partitions: &[TopicPartition]) -> List {
        List::new(
            partitions
                .iter()
                .map(|p| (&*p.topic, p.partition, TG_OFFSET_NONE)),
        )
    }

    pub(crate) fn of_offsets(offsets: &[TopicPartitionOffset]) -> List {
        List::new(
            offsets
                .iter()
                .map(|o| (&*o.topic, o.partition, offset_out(o.offset))),
        )
    }

    pub(crate) fn rows(&self) -> &[tg_topic_partition] {
        &self.rows
    }
}

pub(crate) fn offset_out(offset: Offset) -> i64 {
    match offset {
        Offset::Beginning => TG_OFFSET_BEGINNING,
        Offset::End => TG_OFFSET_END,
        Offset::Stored => TG_OFFSET_STORED,
        Offset::At(number) => number,
        Offset::Tail(count) => TG_OFFSET_TAIL_BASE.saturating_sub(count),
    }
}

pub(crate) fn offset_in(argument: &'static str, offset: i64) -> Result<Offset> {
    match offset {
        0.. => Ok(Offset::At(offset)),
        TG_OFFSET_BEGINNING => Ok(Offset::Beginning),
        TG_OFFSET_END => Ok(Offset::End),
        TG_OFFSET_STORED => Ok(Offset::Stored),
        i64::MIN..=TG_OFFSET_TAIL_BASE => {
            Ok(Offset::Tail(TG_OFFSET_TAIL_BASE - offset.max(-i64::MAX)))
        }
        _ => Err(input::refused(
            argument,
            format!("{offset} is no offset"),
            "use 0 or more, or one of the TG_OFFSET_ numbers",
        )),
    }
}

/// One partition.
///
/// # Safety
///
/// As [`input::text`].
pub(crate) unsafe fn partition_in(topic: *const c_char, partition: i32) -> Result<TopicPartition> {
    // SAFETY: by contract.
    let topic = unsafe { input::text("topic", topic)? };
    Ok(TopicPartition::new(topic, partition))
}

/// An array of partitions with their offsets.
///
/// # Safety
///
/// As [`input::slice`], and each topic as [`input::text`].
pub(crate) unsafe fn array_in(
    partitions: *const tg_topic_partition,
    count: usize,
) -> Result<Vec<(TopicPartition, i64)>> {
    // SAFETY: by contract.
    let rows = unsafe { input::slice("partitions", partitions, count)? };
    let mut topic: Option<Arc<str>> = None;
    rows.iter()
        .map(|row| {
            // SAFETY: by contract.
            let name = unsafe { input::text("topic", row.topic)? };
            let shared = match &topic {
                Some(shared) if **shared == *name => Arc::clone(shared),
                _ => Arc::clone(topic.insert(Arc::from(name))),
            };
            Ok((TopicPartition::new(shared, row.partition), row.offset))
        })
        .collect()
}

/// As [`array_in`], without the offsets.
///
/// # Safety
///
/// As [`array_in`].
pub(crate) unsafe fn bare_array_in(
    partitions: *const tg_topic_partition,
    count: usize,
) -> Result<Vec<TopicPartition>> {
    // SAFETY: by contract.
    let rows = unsafe { array_in(partitions, count)? };
    Ok(rows.into_iter().map(|(partition, _)| partition).collect())
}

/// How many partitions are in the list; 0 for NULL and a freed list. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn tg_partitions_count(partitions: *const tg_partitions) -> usize {
    guard::value(0, || Ok(handle::get::<List>(partitions)?.rows.len()))
}

/// The list as an array of tg_partitions_count() elements, valid until it is freed; NULL for NULL, a freed list and an empty
/// one. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn tg_partitions_data(
    partitions: *const tg_partitions,
) -> *const tg_topic_partition {
    guard::value(std::ptr::null(), || {
        let list = handle::get::<List>(partitions)?;
        Ok(if list.rows.is_empty() {
            std::ptr::null()
        } else {
            list.rows.as_ptr()
        })
    })
}

/// Ends a list. NULL does nothing; freeing twice is TG_ERROR_ARGUMENT. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn tg_partitions_free(partitions: *mut tg_partitions) -> crate::error::tg_status {
    guard::call(|| handle::take::<List>(partitions).map(drop))
}
