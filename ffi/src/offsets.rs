//! A consumer's offsets and positions: assign, seek, pause, commit, and the questions about them.

use std::ffi::c_char;

use tidegate::{Offset, Result, TopicPartition, TopicPartitionOffset};

use crate::consumer::{reader, tg_consumer};
use crate::error::tg_status;
use crate::guard;
use crate::handle;
use crate::input;
use crate::partitions::{
    List, TG_OFFSET_NONE, array_in, bare_array_in, offset_in, partition_in, tg_partitions,
    tg_topic_partition,
};

/// Gives a list to C.
unsafe fn give(place: *mut *mut tg_partitions, list: List) -> Result<()> {
    input::check_place("partitions", place)?;
    let made = handle::make(list)?;
    // SAFETY: checked above, and writable by the callers' contracts.
    unsafe { input::put("partitions", place, made) }
}

/// Reads these partitions from their offsets (0 or more, or a TG_OFFSET_ number) without joining a group; replaces what was assigned.
/// A count of 0 stops reading. Any thread.
///
/// @return TG_ERROR_ARGUMENT for NULL, a freed consumer, a negative partition, an offset that is none, and a consumer that is subscribed.
///
/// # Safety
///
/// `partitions` leads to `count` elements with NUL-terminated topics.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tg_consumer_assign(
    consumer: *mut tg_consumer,
    partitions: *const tg_topic_partition,
    count: usize,
) -> tg_status {
    guard::call(|| {
        let reader = reader(consumer)?;
        // SAFETY: by contract.
        let rows = unsafe { array_in(partitions, count)? };
        let starts: Vec<(TopicPartition, Offset)> = rows
            .into_iter()
            .map(|(partition, offset)| Ok((partition, offset_in("offset", offset)?)))
            .collect::<Result<_>>()?;
        reader.consumer.assign(&starts)
    })
}

/// The partitions that this consumer reads, without offsets. tg_partitions_free() ends the list. Any thread.
///
/// @return TG_ERROR_ARGUMENT for NULL and a freed consumer.
///
/// # Safety
///
/// `partitions` is NULL or the address of a variable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tg_consumer_assignment(
    consumer: *const tg_consumer,
    partitions: *mut *mut tg_partitions,
) -> tg_status {
    guard::call(|| {
        let assigned = reader(consumer)?.consumer.assignment();
        // SAFETY: by contract.
        unsafe { give(partitions, List::of_partitions(&assigned)) }
    })
}

/// Goes on from another place in an assigned partition. Records fetched before are not handed out any more, and acknowledging them
/// changes nothing. Any thread.
///
/// @return TG_ERROR_NOT_ASSIGNED; TG_ERROR_ARGUMENT for NULL, a freed consumer, and an offset that is none.
///
/// # Safety
///
/// `topic` is NULL or ends with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tg_consumer_seek(
    consumer: *mut tg_consumer,
    topic: *const c_char,
    partition: i32,
    offset: i64,
) -> tg_status {
    guard::call(|| {
        let reader = reader(consumer)?;
        // SAFETY: by contract.
        let partition = unsafe { partition_in(topic, partition)? };
        reader
            .consumer
            .seek(&partition, offset_in("offset", offset)?)
    })
}

/// Hands out nothing more of these partitions until tg_consumer_resume(). What is fetched already is kept. Any thread.
///
/// @return TG_ERROR_NOT_ASSIGNED; TG_ERROR_ARGUMENT for NULL and a freed consumer.
///
/// # Safety
///
/// As of tg_consumer_assign().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tg_consumer_pause(
    consumer: *mut tg_consumer,
    partitions: *const tg_topic_partition,
    count: usize,
) -> tg_status {
    guard::call(|| {
        let reader = reader(consumer)?;
        // SAFETY: by contract.
        reader
            .consumer
            .pause(&unsafe { bare_array_in(partitions, count)? })
    })
}

/// Hands out records of these partitions again. Any thread.
///
/// @return TG_ERROR_NOT_ASSIGNED; TG_ERROR_ARGUMENT for NULL and a freed consumer.
///
/// # Safety
///
/// As of tg_consumer_assign().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tg_consumer_resume(
    consumer: *mut tg_consumer,
    partitions: *const tg_topic_partition,
    count: usize,
) -> tg_status {
    guard::call(|| {
        let reader = reader(consumer)?;
        // SAFETY: by contract.
        reader
            .consumer
            .resume(&unsafe { bare_array_in(partitions, count)? })
    })
}

/// The partitions that are paused, without offsets. tg_partitions_free() ends the list. Any thread.
///
/// @return TG_ERROR_ARGUMENT for NULL and a freed consumer.
///
/// # Safety
///
/// `partitions` is NULL or the address of a variable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tg_consumer_paused(
    consumer: *const tg_consumer,
    partitions: *mut *mut tg_partitions,
) -> tg_status {
    guard::call(|| {
        let paused = reader(consumer)?.consumer.paused();
        // SAFETY: by contract.
        unsafe { give(partitions, List::of_partitions(&paused)) }
    })
}

/// Commits everything that is finished and everything that was handed out and not leased, and waits for the broker's answer. Any
/// thread.
///
/// @param committed NULL, or where a list of what was committed goes (empty when nothing new is finished); tg_partitions_free() ends it.
/// @return TG_ERROR_TIMED_OUT; TG_ERROR_KAFKA when the broker refuses (what was finished stays to be committed); TG_ERROR_ARGUMENT for a
///         NULL or freed consumer, a negative time, and a configuration without `group.id`.
///
/// # Safety
///
/// `committed` is NULL or the address of a variable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tg_consumer_commit(
    consumer: *mut tg_consumer,
    timeout_ms: i64,
    committed: *mut *mut tg_partitions,
) -> tg_status {
    guard::call(|| {
        let reader = reader(consumer)?;
        let offsets = reader
            .consumer
            .commit(input::duration("timeout_ms", timeout_ms)?)?;
        if committed.is_null() {
            return Ok(());
        }
        // SAFETY: by contract.
        unsafe { give(committed, List::of_offsets(&offsets)) }
    })
}

/// As tg_consumer_commit(), without waiting; a failure is logged, and what was finished is committed again later. Any thread.
///
/// @return TG_ERROR_ARGUMENT for NULL, a freed consumer, and a configuration without `group.id`.
#[unsafe(no_mangle)]
pub extern "C" fn tg_consumer_commit_async(consumer: *mut tg_consumer) -> tg_status {
    guard::call(|| reader(consumer)?.consumer.commit_async())
}

/// Commits these offsets, each that of the record to be read next, whatever is finished, and waits for the broker's answer. Any thread.
///
/// @return as tg_consumer_commit(); TG_ERROR_ARGUMENT also for a count of 0 and a negative offset.
///
/// # Safety
///
/// As of tg_consumer_assign().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tg_consumer_commit_offsets(
    consumer: *mut tg_consumer,
    partitions: *const tg_topic_partition,
    count: usize,
    timeout_ms: i64,
) -> tg_status {
    guard::call(|| {
        let reader = reader(consumer)?;
        let timeout = input::duration("timeout_ms", timeout_ms)?;
        // SAFETY: by contract.
        let rows = unsafe { array_in(partitions, count)? };
        let offsets: Vec<TopicPartitionOffset> = rows
            .into_iter()
            .map(|(partition, offset)| {
                TopicPartitionOffset::new(partition.topic, partition.partition, Offset::At(offset))
            })
            .collect();
        reader.consumer.commit_offsets(&offsets, Some(timeout))
    })
}

/// The offset of the record that is handed out next; TG_OFFSET_NONE while it is not known, because the partition starts at a logical
/// offset and nothing has arrived yet. Asks nobody. Any thread.
///
/// @return TG_ERROR_NOT_ASSIGNED; TG_ERROR_ARGUMENT for NULL and a freed consumer.
///
/// # Safety
///
/// `topic` is NULL or ends with a NUL; `offset` is NULL or the address of a variable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tg_consumer_position(
    consumer: *const tg_consumer,
    topic: *const c_char,
    partition: i32,
    offset: *mut i64,
) -> tg_status {
    guard::call(|| {
        let reader = reader(consumer)?;
        // SAFETY: by contract.
        let partition = unsafe { partition_in(topic, partition)? };
        let position = reader.consumer.position(&partition)?;
        // SAFETY: by contract.
        unsafe { input::put("offset", offset, position.unwrap_or(TG_OFFSET_NONE)) }
    })
}

/// What the group has committed for these partitions, TG_OFFSET_NONE for nothing. Asks the broker. tg_partitions_free() ends the list.
/// Any thread.
///
/// @return TG_ERROR_KAFKA when the broker cannot be asked in time or refuses; TG_ERROR_ARGUMENT for NULL, a freed consumer, a negative
///         time, and a configuration without `group.id`.
///
/// # Safety
///
/// As of tg_consumer_assign(); `committed` is NULL or the address of a variable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tg_consumer_committed(
    consumer: *const tg_consumer,
    partitions: *const tg_topic_partition,
    count: usize,
    timeout_ms: i64,
    committed: *mut *mut tg_partitions,
) -> tg_status {
    guard::call(|| {
        let reader = reader(consumer)?;
        let timeout = input::duration("timeout_ms", timeout_ms)?;
        // SAFETY: by contract.
        let wanted = unsafe { bare_array_in(partitions, count)? };
        let found = reader.consumer.committed(&wanted, timeout)?;
        let list = List::new(
            found
                .iter()
                .map(|(p, offset)| (&*p.topic, p.partition, offset.unwrap_or(TG_OFFSET_NONE))),
        );
        // SAFETY: by contract.
        unsafe { give(committed, list) }
    })
}

/// The low and the high watermark: the offsets of the first record and of the next one to be written. Any thread.
///
/// @param timeout_ms how long to wait for the broker's answer; 0 asks nobody and tells what the latest fetch reported.
/// @return TG_NOTHING when nobody was asked and no fetch has reported yet; TG_ERROR_KAFKA when the broker cannot be asked in time or
///         knows no such partition; TG_ERROR_ARGUMENT for NULL, a freed consumer, and a negative time.
///
/// # Safety
///
/// `topic` is NULL or ends with a NUL; `low` and `high` are NULL or addresses of variables.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tg_consumer_watermarks(
    consumer: *const tg_consumer,
    topic: *const c_char,
    partition: i32,
    timeout_ms: i64,
    low: *mut i64,
    high: *mut i64,
) -> tg_status {
    guard::status(|| {
        let reader = reader(consumer)?;
        input::check_place("low", low)?;
        input::check_place("high", high)?;
        // SAFETY: by contract.
        let partition = unsafe { partition_in(topic, partition)? };
        let timeout = input::duration("timeout_ms", timeout_ms)?;
        let found = if timeout.is_zero() {
            reader.consumer.cached_watermarks(&partition)
        } else {
            Some(reader.consumer.watermarks(&partition, timeout)?)
        };
        let Some((first, next)) = found else {
            return Ok(tg_status::TG_NOTHING);
        };
        // SAFETY: checked above, and writable by contract.
        unsafe {
            input::put("low", low, first)?;
            input::put("high", high, next)?;
        }
        Ok(tg_status::TG_OK)
    })
}

/// How many records lie between the position and the high watermark. Asks nobody. Any thread.
///
/// @return TG_NOTHING while either is unknown; TG_ERROR_NOT_ASSIGNED; TG_ERROR_ARGUMENT for NULL and a freed consumer.
///
/// # Safety
///
/// `topic` is NULL or ends with a NUL; `lag` is NULL or the address of a variable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tg_consumer_lag(
    consumer: *const tg_consumer,
    topic: *const c_char,
    partition: i32,
    lag: *mut i64,
) -> tg_status {
    guard::status(|| {
        let reader = reader(consumer)?;
        input::check_place("lag", lag)?;
        // SAFETY: by contract.
        let partition = unsafe { partition_in(topic, partition)? };
        let Some(records) = reader.consumer.lag(&partition)? else {
            return Ok(tg_status::TG_NOTHING);
        };
        // SAFETY: checked above, and writable by contract.
        unsafe { input::put("lag", lag, records)? };
        Ok(tg_status::TG_OK)
    })
}

/// The first offset at or after each time: `offset` of the elements is in milliseconds since 1970, and in the list it is the offset, or
/// TG_OFFSET_END where there is no such record. Asks the broker. tg_partitions_free() ends the list. Any thread.
///
/// @return TG_ERROR_KAFKA when the broker cannot be asked in time; TG_ERROR_ARGUMENT for NULL, a freed consumer, and a negative time.
///
/// # Safety
///
/// As of tg_consumer_assign(); `offsets` is NULL or the address of a variable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tg_consumer_offsets_for_times(
    consumer: *const tg_consumer,
    times: *const tg_topic_partition,
    count: usize,
    timeout_ms: i64,
    offsets: *mut *mut tg_partitions,
) -> tg_status {
    guard::call(|| {
        let reader = reader(consumer)?;
        let timeout = input::duration("timeout_ms", timeout_ms)?;
        // SAFETY: by contract.
        let times = unsafe { array_in(times, count)? };
        let found = reader.consumer.offsets_for_times(&times, timeout)?;
        // SAFETY: by contract.
        unsafe { give(offsets, List::of_offsets(&found)) }
    })
}
