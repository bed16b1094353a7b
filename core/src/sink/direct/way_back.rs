//! The way back: what is not confirmed goes to librdkafka, in order, and then the topic is its again.
//!
//! The delivery thread.

use std::sync::Arc;

use super::records::Batch;
use super::route::Route;
use super::{Book, Direct, GivenUp, Native};
use crate::sink::Refused;

/// Librdkafka takes so many records of a topic that returns before its reports are looked at again.
const BACK_AT_ONCE: usize = 2000;

impl Direct {
    /// Gives a topic's records to librdkafka, in order, as many as it takes; true when that was all, and the topic is its again.
    pub(super) fn hand_back(
        &self,
        route: &Route,
        book: &Arc<Book>,
        going_back: &mut Option<(usize, Batch, u32, usize)>,
        native: &dyn Native,
        given_up: &mut GivenUp,
    ) -> bool {
        // A batch behind one that failed may still be confirmed.
        if !book.is_quiet() {
            return false;
        }
        let mut left = BACK_AT_ONCE;
        loop {
            let (index, batch, from, at) = match going_back.take() {
                Some(under_way) => under_way,
                None => {
                    let mut parts = 0..book.partitions();
                    let next = parts.find_map(|index| Some((index, book.take_back(index)?, 0, 0)));
                    match next {
                        Some(next) => next,
                        None => break,
                    }
                }
            };
            let partition = i32::try_from(index).unwrap_or(-1);
            let mut records = batch.records(from, at);
            let (mut taken, mut taken_at) = (from, at);
            let mut is_full = false;
            while let Some(record) = records.next() {
                match native.enqueue(&record.to_send(book.name(), partition), record.token) {
                    Ok(()) => {}
                    Err(Refused::Full) => {
                        is_full = true;
                        break;
                    }
                    Err(Refused::Failed(error)) => {
                        let code = error
                            .kafka_code()
                            .unwrap_or_else(|| crate::kafka_code::from_number(-1));
                        given_up.push((book.name().into(), partition, record.token, code));
                    }
                }
                taken += 1;
                taken_at = records.at();
                left = left.saturating_sub(1);
            }
            if is_full {
                *going_back = Some((index, batch, taken, taken_at));
                return false;
            }
            self.account
                .remove(batch.count as usize, batch.payload_bytes);
            self.account.give_back(batch.bytes);
            if left == 0 {
                return false;
            }
        }
        if !route.close(|| book.is_empty()) {
            return false;
        }
        for lane in &*self.lanes.lock() {
            lane.forget(book);
        }
        self.books.lock().retain(|other| !Arc::ptr_eq(other, book));
        true
    }
}
