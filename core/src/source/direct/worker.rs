//! The thread of a lane: asks for records, unpacks what comes, and gives back what it cannot read.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::MutexGuard;

use super::lane::{Item, LOOK_AGAIN, Shared, State, Ticket};
use super::protocol::{self, FetchFrom, Fetched};
use super::records::{self, Rows};
use crate::partition::TopicPartition;
use crate::tracker::PartitionCell;
use crate::wire::Malformed;
use crate::wire::cluster::{FETCH, METADATA};
use crate::wire::link::{Broken, KEPT_BYTES, Link};

/// An answer up to this size is unpacked, which takes microseconds, before more is asked for.
const LITTLE_BYTES: usize = 16 * 1024;

/// A request under way: where each partition was asked from, under which ticket.
struct Asked {
    cares: Vec<(Ticket, Arc<PartitionCell>, FetchFrom)>,
}

/// A part of an answer that is to be unpacked.
struct Part<'a> {
    ticket: Ticket,
    cell: Arc<PartitionCell>,
    from: i64,
    fetched: Fetched<'a>,
    /// What is told behind its records.
    then: Option<Item>,
}

/// The lane's thread.
pub(super) struct Worker {
    node: i32,
    shared: Arc<Shared>,
    /// Where compressed records are unpacked to.
    scratch: Vec<u8>,
}

impl Worker {
    pub(super) fn new(node: i32, shared: Arc<Shared>) -> Worker {
        Worker {
            node,
            shared,
            scratch: Vec::new(),
        }
    }

    pub(super) fn run(mut self, host: &str, port: u16) {
        let why = match self.serve(host, port) {
            Ok(()) => "the lane has ended".to_string(),
            Err(broken) => broken.to_string(),
        };
        let mut guard = self.shared.state.lock();
        let state = &mut *guard;
        state.over = true;
        state.stream = None;
        for (ticket, _) in std::mem::take(&mut state.proposals) {
            self.shared.tell(state, Item::Declined { ticket });
        }
        for care in std::mem::take(&mut state.cares) {
            let back = Item::Back {
                ticket: care.ticket,
                offset: care.from.offset,
                leader_epoch: care.epoch,
                why: why.clone(),
                is_unreadable: false,
            };
            self.shared.tell(state, back);
        }
        drop(guard);
        self.shared.waker.wake();
    }

    fn serve(&mut self, host: &str, port: u16) -> Result<(), Broken> {
        let settings = self.shared.settings.clone();
        let mut link = Link::connect(host, port, &settings.client_id, settings.answer_timeout)?;
        {
            // Before the first wait for an answer.
            let mut state = self.shared.state.lock();
            if state.stop {
                return Ok(());
            }
            state.stream = Some(link.handle()?);
        }
        link.agree(&[FETCH, METADATA])?;
        let mut under_way: Option<Asked> = None;
        loop {
            let asked = match under_way.take() {
                Some(asked) => asked,
                None => match self.next_request(&mut link)? {
                    Some(asked) => asked,
                    None => return Ok(()),
                },
            };
            let (answer, correlation) = link.answer()?;
            let throttle = self.answered(&mut link, asked, &answer, correlation, &mut under_way)?;
            link.keep(answer);
            if throttle > Duration::ZERO {
                self.wait_out(throttle);
            }
        }
    }

    /// Answers proposals, waits until there is something to fetch and room for it, and asks. `None` when the lane ends.
    fn next_request(&self, link: &mut Link) -> Result<Option<Asked>, Broken> {
        loop {
            let mut state = self.shared.state.lock();
            if state.stop {
                return Ok(None);
            }
            if !state.proposals.is_empty() {
                let proposals = std::mem::take(&mut state.proposals);
                drop(state);
                if let Err(broken) = self.look_at(link, &proposals) {
                    // They are declined with the lane's end.
                    self.shared.state.lock().proposals.extend(proposals);
                    return Err(broken);
                }
                continue;
            }
            if let Some((asked, max_bytes)) = self.prepare(&mut state, 0) {
                drop(state);
                self.ask(link, &asked, max_bytes)?;
                return Ok(Some(asked));
            }
            self.shared.changed.wait_for(&mut state, LOOK_AGAIN);
        }
    }

    /// Finds out whether this broker leads the partitions proposed.
    fn look_at(
        &self,
        link: &mut Link,
        proposals: &[(Ticket, TopicPartition)],
    ) -> Result<(), Broken> {
        let mut topics: Vec<&str> = proposals.iter().map(|(_, p)| &*p.topic).collect();
        topics.sort_unstable();
        topics.dedup();
        let leaders = link.cluster(topics.into_iter())?.leaders;
        let mut state = self.shared.state.lock();
        for (ticket, partition) in proposals {
            let leader = leaders.iter().find(|leader| {
                leader.node == self.node
                    && leader.topic_id != [0; 16]
                    && leader.topic == *partition.topic
                    && leader.partition == partition.partition
            });
            let item = match leader {
                Some(leader) => Item::Ready {
                    ticket: *ticket,
                    topic_id: leader.topic_id,
                    leader_epoch: leader.epoch,
                },
                None => Item::Declined { ticket: *ticket },
            };
            self.shared.tell(&mut state, item);
        }
        Ok(())
    }

    /// The next request, if there are partitions to fetch and room for what they bring.
    fn prepare(
        &self,
        state: &mut MutexGuard<'_, State>,
        unpacked_bytes: usize,
    ) -> Option<(Asked, i32)> {
        let max_bytes = self.shared.room(state, unpacked_bytes)?;
        let count = state.cares.len();
        if count == 0 {
            return None;
        }
        state.first = (state.first + 1) % count;
        let first = state.first;
        let in_turn = state.cares[first..].iter().chain(&state.cares[..first]);
        let cares: Vec<_> = in_turn
            .filter(|care| !care.paused)
            .map(|care| (care.ticket, Arc::clone(&care.cell), care.from))
            .collect();
        (!cares.is_empty()).then_some((Asked { cares }, max_bytes))
    }

    fn ask(&self, link: &mut Link, asked: &Asked, max_bytes: i32) -> Result<(), Broken> {
        let partitions: Vec<FetchFrom> = asked.cares.iter().map(|(_, _, from)| *from).collect();
        let options = &self.shared.settings.fetch;
        link.outgoing.send(|correlation, client_id| {
            protocol::fetch(correlation, client_id, options, max_bytes, &partitions)
        })?;
        Ok(())
    }

    /// Takes an answer in: notes where to go on, asks for more if there is room, unpacks. Gives how long the broker wants to be
    /// left alone.
    fn answered(
        &mut self,
        link: &mut Link,
        asked: Asked,
        answer: &[u8],
        correlation: i32,
        under_way: &mut Option<Asked>,
    ) -> Result<Duration, Broken> {
        let answered = protocol::fetched(answer, correlation)?;
        let throttle = Duration::from_millis(u64::try_from(answered.throttle_ms).unwrap_or(0));
        if answered.error != 0 && answered.partitions.is_empty() {
            return Err(Broken::Malformed(Malformed(
                "the broker refuses to be fetched from",
            )));
        }
        let mut parts = Vec::with_capacity(answered.partitions.len());
        let mut state = self.shared.state.lock();
        for fetched in answered.partitions {
            if let Some(part) = self.note(&mut state, &asked, answered.error, fetched) {
                parts.push(part);
            }
        }
        // A few records are not to wait until more is asked for; of many the next ones come while these are unpacked.
        let is_little = answer.len() <= LITTLE_BYTES;
        if is_little {
            drop(state);
            self.unpack(std::mem::take(&mut parts));
            state = self.shared.state.lock();
        }
        let may_ask = throttle.is_zero() && state.proposals.is_empty() && !state.stop;
        let next = if may_ask {
            self.prepare(&mut state, if is_little { 0 } else { answer.len() })
        } else {
            None
        };
        drop(state);
        if let Some((next, max_bytes)) = next {
            // Also when this fails, what has come is delivered first.
            match self.ask(link, &next, max_bytes) {
                Ok(()) => *under_way = Some(next),
                Err(broken) => {
                    self.unpack(parts);
                    return Err(broken);
                }
            }
        }
        self.unpack(parts);
        Ok(throttle)
    }

    /// Notes what an answer says of a partition. `None` when there is nothing to do for it.
    fn note<'a>(
        &self,
        state: &mut State,
        asked: &Asked,
        error_of_all: i16,
        fetched: Fetched<'a>,
    ) -> Option<Part<'a>> {
        let (ticket, cell, from) = asked.cares.iter().find(|(_, _, from)| {
            from.topic_id == fetched.topic_id && from.partition == fetched.partition
        })?;
        let index = state.cares.iter().position(|care| care.ticket == *ticket)?;
        let care = &mut state.cares[index];
        let error = match (fetched.error, error_of_all) {
            (0, error) | (error, _) => error,
        };
        let scanned = if error == 0 && fetched.preferred_replica >= 0 && fetched.records.is_empty()
        {
            Err((
                false,
                "the broker wants another one to be asked".to_string(),
            ))
        } else if error == 0 {
            records::scan(fetched.records, from.offset).map_err(|why| (true, why.to_string()))
        } else {
            let code = crate::kafka_code::from_number(i32::from(error));
            Err((false, code.to_string()))
        };
        match scanned {
            Err((is_unreadable, why)) => {
                // Nothing of this answer is taken.
                let epoch = care.epoch;
                state.cares.remove(index);
                let back = Item::Back {
                    ticket: *ticket,
                    offset: from.offset,
                    leader_epoch: epoch,
                    why,
                    is_unreadable,
                };
                self.shared.tell(state, back);
                None
            }
            Ok(next) => {
                care.from.offset = next;
                let topic_partition = cell.topic_partition();
                self.shared.watermarks.set(
                    topic_partition,
                    fetched.log_start,
                    fetched.high_watermark,
                );
                let end = if self.shared.settings.fetch.read_committed {
                    fetched.last_stable_offset
                } else {
                    fetched.high_watermark
                };
                let at_end = self.shared.settings.partition_eof && next >= end;
                let is_news = fetched.records.is_empty() && care.end_told != Some(next);
                let then = (at_end && is_news).then(|| {
                    care.end_told = Some(next);
                    Item::End {
                        ticket: *ticket,
                        offset: next,
                        high_watermark: fetched.high_watermark,
                    }
                });
                (then.is_some() || !fetched.records.is_empty()).then(|| Part {
                    ticket: *ticket,
                    cell: Arc::clone(cell),
                    from: from.offset,
                    fetched,
                    then,
                })
            }
        }
    }

    /// Turns records into batches and hands each over when it is full.
    fn unpack(&mut self, parts: Vec<Part<'_>>) {
        if parts.is_empty() {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let mut give = |batch| {
            shared.tell(&mut shared.state.lock(), Item::Batch(batch));
        };
        let bytes = parts.iter().map(|part| part.fetched.records.len()).sum();
        let mut rows = Rows::new(shared.settings.batch, bytes, &mut give);
        for part in parts {
            let unpacked = records::unpack(
                &part.cell,
                part.from,
                part.fetched.records,
                &part.fetched.aborted,
                &mut self.scratch,
                &mut rows,
            );
            match unpacked {
                Ok(epoch) => {
                    let mut state = self.shared.state.lock();
                    let mut cares = state.cares.iter_mut();
                    if let Some(care) = cares.find(|care| care.ticket == part.ticket) {
                        care.epoch = if epoch >= 0 { epoch } else { care.epoch };
                    }
                }
                Err(stopped) => {
                    rows.finish();
                    let mut state = self.shared.state.lock();
                    let index = state.cares.iter().position(|c| c.ticket == part.ticket);
                    if let Some(index) = index {
                        let care = state.cares.remove(index);
                        let back = Item::Back {
                            ticket: care.ticket,
                            offset: stopped.at,
                            leader_epoch: match stopped.leader_epoch {
                                -1 => care.epoch,
                                epoch => epoch,
                            },
                            why: stopped.why.to_string(),
                            is_unreadable: true,
                        };
                        self.shared.tell(&mut state, back);
                    }
                }
            }
            if let Some(then) = part.then {
                rows.finish();
                self.shared.tell(&mut self.shared.state.lock(), then);
            }
        }
        rows.finish();
        if self.scratch.capacity() > KEPT_BYTES {
            self.scratch = Vec::new();
        }
    }

    /// The broker's quota is used up: it would not answer before.
    fn wait_out(&self, throttle: Duration) {
        let until = Instant::now() + throttle;
        let mut state = self.shared.state.lock();
        while !state.stop && Instant::now() < until {
            self.shared.changed.wait_until(&mut state, until);
        }
    }
}
