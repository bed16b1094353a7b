//! Messages on their way from librdkafka's queue into a batch.
//!
//! `rd_kafka_consume_batch_queue` counts messages and knows nothing of bytes. So how many are asked for at a time follows the
//! size of those that came last, and what goes beyond a batch waits here for the next one: the byte limit holds to one record,
//! whatever comes. Only the poller's thread uses it, and whatever takes a partition's messages out of librdkafka's queue (a
//! seek, an unassignment) must take them out of here, too.

use rdkafka::bindings as rd;

use crate::partition::TopicPartition;
use crate::source::FillLimit;
use crate::source::kafka::message::{Message, size_bytes, topic_is};
use crate::source::kafka::queue::Queue;

/// The most messages of one call. Beyond that a call costs next to nothing per message.
const MOST_MESSAGES: usize = 512;
/// The largest message expected before one was seen.
const UNSEEN_BYTES: usize = 64 * 1024;

/// How many messages to ask for: so many of the largest seen lately as fit.
#[derive(Debug)]
struct Chunk {
    largest_bytes: usize,
}

impl Chunk {
    /// For at most so many messages and about so many bytes.
    fn next(&self, messages: usize, bytes: usize) -> usize {
        let fitting = bytes / self.largest_bytes;
        fitting.clamp(1, MOST_MESSAGES).min(messages)
    }

    /// Notes the largest message of a call. A larger one counts at once, smaller ones little by little.
    fn saw(&mut self, largest_bytes: usize) {
        self.largest_bytes = largest_bytes.max(self.largest_bytes / 2).max(1);
    }
}

/// Messages taken from librdkafka; each is alive and ours until it is dropped in here.
pub(super) struct Taken {
    messages: Vec<Message>,
    /// Those before it are gone.
    next: usize,
    chunk: Chunk,
}

// SAFETY: librdkafka's messages belong to no thread; these are owned by this value alone.
unsafe impl Send for Taken {}

impl Taken {
    pub(super) fn new() -> Taken {
        Taken {
            messages: Vec::new(),
            next: 0,
            chunk: Chunk {
                largest_bytes: UNSEEN_BYTES,
            },
        }
    }

    /// Takes from `queue`, without waiting, until there is enough for a batch of `limit`. Gives how many of the messages here
    /// the batch takes, and the bytes of their keys and values: at most one message goes beyond the limit.
    pub(super) fn gather(&mut self, queue: &Queue, limit: FillLimit) -> (usize, usize) {
        self.messages.drain(..self.next);
        self.next = 0;
        let (mut count, mut bytes) = (0, 0);
        loop {
            let waiting = self.messages[count..].iter();
            for &message in waiting.take(limit.records - count) {
                if bytes >= limit.bytes {
                    break;
                }
                // SAFETY: alive, see the struct.
                bytes += unsafe { size_bytes(message) };
                count += 1;
            }
            if count >= limit.records || bytes >= limit.bytes {
                return (count, bytes);
            }
            let asked = self.chunk.next(limit.records - count, limit.bytes - bytes);
            if self.take(queue, asked) == 0 {
                return (count, bytes);
            }
        }
    }

    fn take(&mut self, queue: &Queue, most: usize) -> usize {
        if queue.is_empty() {
            return 0;
        }
        self.messages.reserve(most);
        let have = self.messages.len();
        // SAFETY: there is room for `most` pointers behind `have`, and exactly the number returned is written.
        unsafe {
            let got = rd::rd_kafka_consume_batch_queue(
                queue.as_ptr(),
                0,
                self.messages.as_mut_ptr().add(have),
                most,
            );
            let got = usize::try_from(got).unwrap_or(0).min(most);
            self.messages.set_len(have + got);
        }
        let new = self.messages[have..].iter();
        // SAFETY: alive, see the struct.
        if let Some(largest) = new.map(|&message| unsafe { size_bytes(message) }).max() {
            self.chunk.saw(largest);
        }
        self.messages.len() - have
    }

    /// True when no message waits here.
    pub(super) fn is_empty(&self) -> bool {
        self.next >= self.messages.len()
    }

    /// The next message, alive until the next call of any other function.
    pub(super) fn front(&self) -> Option<Message> {
        self.messages.get(self.next).copied()
    }

    pub(super) fn drop_front(&mut self) {
        if let Some(message) = self.front() {
            self.next += 1;
            // SAFETY: alive until here, and out of reach from now on.
            unsafe { rd::rd_kafka_message_destroy(message) };
        }
    }

    /// Drops what waits of a partition.
    pub(super) fn forget(&mut self, partition: &TopicPartition) {
        self.messages.drain(..self.next);
        self.next = 0;
        self.messages.retain(|&message| {
            // SAFETY: alive, see the struct; destroyed only when it goes.
            unsafe {
                let stays = !topic_is(message, partition);
                if !stays {
                    rd::rd_kafka_message_destroy(message);
                }
                stays
            }
        });
    }

    /// Drops everything that waits.
    pub(super) fn clear(&mut self) {
        while self.front().is_some() {
            self.drop_front();
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Asks for messages of these sizes as `gather` does for one batch after another; gives how many calls that takes and the
    /// most bytes that ever lie beyond a batch.
    fn take_all(sizes: &[usize], limit: FillLimit) -> (usize, usize) {
        let mut chunk = Chunk {
            largest_bytes: UNSEEN_BYTES,
        };
        let (mut taken, mut done, mut calls, mut most_beyond) = (0, 0, 0, 0);
        while done < sizes.len() {
            let (mut count, mut bytes) = (0, 0);
            loop {
                while done + count < taken && count < limit.records && bytes < limit.bytes {
                    bytes += sizes[done + count];
                    count += 1;
                }
                if count >= limit.records || bytes >= limit.bytes || taken == sizes.len() {
                    break;
                }
                let asked = chunk.next(limit.records - count, limit.bytes - bytes);
                let new = &sizes[taken..sizes.len().min(taken + asked)];
                chunk.saw(new.iter().copied().max().unwrap_or(0));
                taken += new.len();
                calls += 1;
            }
            done += count;
            most_beyond = most_beyond.max(sizes[done..taken].iter().sum());
        }
        (calls, most_beyond)
    }

    const LIMIT: FillLimit = FillLimit {
        records: 4096,
        bytes: 1 << 20,
    };

    #[test]
    fn small_records_are_taken_by_the_hundreds() {
        let (calls, _) = take_all(&[100; 200_000], LIMIT);
        assert!(calls <= 200_000 / MOST_MESSAGES + 60, "{calls} calls");
    }

    #[test]
    fn of_large_records_little_is_taken_beyond_a_batch() {
        const LARGE: usize = 1_000_000;
        let beyond = take_all(&[LARGE; 500], LIMIT).1;
        assert!(
            beyond <= 16 * LARGE,
            "{beyond}: nothing was known of the first ones"
        );
        let (_, beyond) = take_all(&[vec![10_000; 1_000], vec![LARGE; 100]].concat(), LIMIT);
        assert!(beyond <= 110 * LARGE);
    }

    proptest! {
        /// Once the largest size was seen, at most one message lies beyond a batch.
        #[test]
        fn a_steady_stream_leaves_nothing_behind(size in 1usize..3_000_000, count in 1usize..300) {
            let mut sizes = vec![size; count];
            sizes.insert(0, size);
            let (_, beyond) = take_all(&sizes, LIMIT);
            let unseen = LIMIT.bytes / UNSEEN_BYTES;
            prop_assert!(beyond <= unseen * size);
            if size <= UNSEEN_BYTES {
                prop_assert!(beyond <= size, "{beyond} bytes of {size} each");
            }
        }
    }
}
