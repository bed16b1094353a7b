//! A lane: one connection to one broker, over which the batches of its partitions go out, several requests in flight.
//!
//! Two threads: the sender takes what is due and writes, the receiver reads the answers. Whatever is out of the ordinary (an error of
//! the broker, a lost connection, an answer that cannot be read) sends the topic concerned back to librdkafka, with everything that
//! was not confirmed, and librdkafka deals with it as it always does: retries, new leaders, timeouts, and errors are its own. As with
//! librdkafka, a request whose answer is lost may have been carried out; without `enable.idempotence` such records come twice.
//!
//! Always true: each batch that was taken from a topic is given back to it as failed, or settled, also when the connection ends. Locks
//! are taken in this order: a lane's state, its flight, a partition's.

use std::collections::VecDeque;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::Settings;
use super::account::{Account, Done, Fate, Throttle};
use super::protocol::{self, Place};
use super::records::Batch;
use super::topic::Book;
use crate::error::KafkaCode;
use crate::kafka_code;
use crate::log::{self, Level};
use crate::wire::Malformed;
use crate::wire::cluster::{METADATA, Node, PRODUCE};
use crate::wire::link::{Broken, Incoming, Link, Outgoing};

/// A request takes batches until it has so many bytes.
const REQUEST_BYTES: usize = 4 * 1024 * 1024;
const NEVER: u64 = u64::MAX;

/// A batch in a request. It is taken out when it was given up meanwhile.
struct Sent {
    book: Arc<Book>,
    index: usize,
    batch: Option<Batch>,
}

struct Request {
    number: i32,
    batches: Vec<Sent>,
}

#[derive(Default)]
struct Flight {
    requests: VecDeque<Request>,
    over: bool,
}

#[derive(Default)]
struct State {
    parts: Vec<(Arc<Book>, usize)>,
    /// Which of `parts` is looked at first.
    first: usize,
    /// What grows is sent now.
    hurry: bool,
    /// The sender looks again at this time, if nobody wakes it before.
    wakes_us: u64,
    /// The broker wants to be left alone until then.
    quiet_until_us: u64,
    /// To end what the threads wait for.
    stream: Option<TcpStream>,
}

/// See the module.
pub(super) struct Lane {
    pub(super) node: Node,
    settings: Arc<Settings>,
    account: Arc<Account>,
    state: Mutex<State>,
    changed: Condvar,
    flight: Mutex<Flight>,
    asked: Condvar,
    ready: AtomicBool,
    stopping: AtomicBool,
    over: AtomicBool,
}

impl Lane {
    pub(super) fn start(
        node: &Node,
        settings: &Arc<Settings>,
        account: &Arc<Account>,
    ) -> std::io::Result<Arc<Lane>> {
        let lane = Arc::new(Lane {
            node: node.clone(),
            settings: Arc::clone(settings),
            account: Arc::clone(account),
            state: Mutex::default(),
            changed: Condvar::new(),
            flight: Mutex::default(),
            asked: Condvar::new(),
            ready: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            over: AtomicBool::new(false),
        });
        let runs = Arc::clone(&lane);
        std::thread::Builder::new()
            .name(format!("tidegate-send-{}", node.id))
            .spawn(move || {
                let why = match runs.run() {
                    Ok(()) => "the lane has ended".to_string(),
                    Err(broken) => broken.to_string(),
                };
                runs.end(&why);
            })?;
        Ok(lane)
    }

    /// True when batches can be sent.
    pub(super) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::SeqCst)
    }

    /// True when none can be sent any more.
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    /// Takes over the partitions of this topic that it leads.
    pub(super) fn take_over(&self, book: &Arc<Book>, indexes: &[usize]) {
        let mut state = self.state.lock();
        for index in indexes {
            state.parts.push((Arc::clone(book), *index));
        }
    }

    /// Has no part in this topic any more.
    pub(super) fn forget(&self, book: &Arc<Book>) {
        let mut state = self.state.lock();
        state.parts.retain(|(other, _)| !Arc::ptr_eq(other, book));
    }

    /// Something is due at this time.
    pub(super) fn poke(&self, due_us: u64) {
        let mut state = self.state.lock();
        if due_us < state.wakes_us {
            state.wakes_us = due_us;
            self.changed.notify_one();
        }
    }

    /// What grows is sent now.
    pub(super) fn hurry(&self) {
        let mut state = self.state.lock();
        if !state.hurry && !state.parts.is_empty() {
            state.hurry = true;
            state.wakes_us = 0;
            self.changed.notify_one();
        }
    }

    pub(super) fn stop(&self) {
        let mut state = self.state.lock();
        self.stopping.store(true, Ordering::SeqCst);
        state.wakes_us = 0;
        if let Some(stream) = &state.stream {
            let _ = stream.shutdown(Shutdown::Both);
        }
        self.changed.notify_one();
        drop(state);
        // Under the lock, so that it does not come between the receiver's look and its wait.
        let _flight = self.flight.lock();
        self.asked.notify_one();
    }

    /// Takes the batches in flight away, each of which counts as failed with this code; their answers are not heard.
    pub(super) fn give_up_flight(&self, code: KafkaCode) {
        let mut done = Vec::new();
        for sent in self
            .flight
            .lock()
            .requests
            .iter_mut()
            .flat_map(|request| &mut request.batches)
        {
            if let Some(batch) = sent.batch.take() {
                done.push(Done {
                    book: Arc::clone(&sent.book),
                    index: sent.index,
                    batch,
                    fate: Fate::GivenUp(code),
                });
            }
        }
        for done in &done {
            done.book.answered(done.index);
        }
        self.account.settle(done);
    }

    fn run(self: &Arc<Lane>) -> Result<(), Broken> {
        let settings = &self.settings;
        let mut link = Link::connect(
            &self.node.host,
            self.node.port,
            &settings.client_id,
            settings.answer_timeout,
        )?;
        {
            let mut state = self.state.lock();
            if self.stopping.load(Ordering::SeqCst) {
                return Ok(());
            }
            state.stream = Some(link.handle()?);
        }
        link.agree(&[PRODUCE, METADATA])?;
        let Link {
            mut outgoing,
            incoming,
        } = link;
        let receives = Arc::clone(self);
        std::thread::Builder::new()
            .name(format!("tidegate-acks-{}", self.node.id))
            .spawn(move || {
                let why = match receives.receive(incoming) {
                    Ok(()) => "the lane has ended".to_string(),
                    Err(broken) => broken.to_string(),
                };
                receives.end(&why);
            })?;
        self.ready.store(true, Ordering::SeqCst);
        self.account.tell();
        while let Some(batches) = self.next_request() {
            self.send(&mut outgoing, batches)?;
        }
        Ok(())
    }

    /// Waits until something is due and may be sent. `None` when the lane ends.
    fn next_request(&self) -> Option<Vec<Sent>> {
        let mut state = self.state.lock();
        loop {
            if self.stopping.load(Ordering::SeqCst) || self.is_over() {
                return None;
            }
            let now_us = self.account.now_us();
            state.wakes_us = NEVER;
            if self.flight.lock().requests.len() < self.settings.max_in_flight {
                if now_us >= state.quiet_until_us {
                    let batches = self.take_due(&mut state, now_us);
                    if !batches.is_empty() {
                        return Some(batches);
                    }
                    // Nothing has grown.
                    state.hurry = false;
                } else {
                    state.wakes_us = state.quiet_until_us;
                }
            }
            match state.wakes_us.checked_sub(now_us) {
                _ if state.wakes_us == NEVER => self.changed.wait(&mut state),
                Some(left_us) if left_us > 0 => {
                    let left = Duration::from_micros(left_us);
                    self.changed.wait_for(&mut state, left);
                }
                _ => {}
            }
        }
    }

    fn take_due(&self, state: &mut State, now_us: u64) -> Vec<Sent> {
        let mut batches = Vec::new();
        let mut bytes = 0;
        let count = state.parts.len();
        if count == 0 {
            return batches;
        }
        state.first = (state.first + 1) % count;
        for at in (state.first..count).chain(0..state.first) {
            let (book, index) = &state.parts[at];
            if bytes >= REQUEST_BYTES {
                break;
            }
            match book.take_due(*index, now_us, state.hurry) {
                Ok(batch) => {
                    bytes += batch.bytes.len();
                    batches.push(Sent {
                        book: Arc::clone(book),
                        index: *index,
                        batch: Some(batch),
                    });
                }
                Err(due_us) => state.wakes_us = state.wakes_us.min(due_us),
            }
        }
        // Those of a topic stand together in a request.
        batches.sort_by(|a, b| (a.book.name(), a.index).cmp(&(b.book.name(), b.index)));
        batches
    }

    fn send(&self, outgoing: &mut Outgoing, mut batches: Vec<Sent>) -> Result<(), Broken> {
        for batch in batches.iter_mut().filter_map(|sent| sent.batch.as_mut()) {
            batch.seal();
        }
        let places: Vec<Place<'_>> = batches
            .iter()
            .filter_map(|sent| {
                Some(Place {
                    topic: sent.book.name(),
                    partition: i32::try_from(sent.index).ok()?,
                    bytes: &sent.batch.as_ref()?.bytes,
                })
            })
            .collect();
        let (number, client_id) = outgoing.next();
        let request = protocol::produce(
            number,
            client_id,
            self.settings.acks,
            self.settings.request_timeout_ms,
            &places,
        );
        let written = outgoing.write(&mut request.parts(&places));
        drop(places);
        let mut flight = self.flight.lock();
        if written.is_ok() && !flight.over {
            flight.requests.push_back(Request { number, batches });
            self.asked.notify_one();
            return Ok(());
        }
        drop(flight);
        fail(batches);
        written
    }

    /// The receiver: reads answers until the lane ends.
    fn receive(&self, mut incoming: Incoming) -> Result<(), Broken> {
        loop {
            {
                let mut flight = self.flight.lock();
                while flight.requests.is_empty() {
                    if flight.over || self.stopping.load(Ordering::SeqCst) {
                        return Ok(());
                    }
                    self.asked.wait(&mut flight);
                }
            }
            let answer = incoming.receive()?;
            let Some(request) = self.flight.lock().requests.pop_front() else {
                return Ok(());
            };
            let read = protocol::produced(answer, request.number);
            match read {
                Ok((produced, throttle_ms)) => self.answered(request, &produced, throttle_ms),
                Err(why) => {
                    fail(request.batches);
                    return Err(why.into());
                }
            }
        }
    }

    fn answered(&self, request: Request, produced: &[protocol::Produced], throttle_ms: i32) {
        let mut done = Vec::with_capacity(request.batches.len());
        for Sent { book, index, batch } in request.batches {
            let Some(batch) = batch else {
                continue;
            };
            let found = produced
                .iter()
                .find(|one| one.partition as usize == index && one.topic == book.name());
            match found {
                Some(one) if one.error == 0 => {
                    book.answered(index);
                    let fate = Fate::Delivered {
                        base_offset: one.base_offset,
                        log_append_time_ms: one.log_append_time_ms,
                    };
                    done.push(Done {
                        book,
                        index,
                        batch,
                        fate,
                    });
                }
                other => {
                    let why = match other {
                        Some(one) => kafka_code::from_number(i32::from(one.error)).to_string(),
                        None => Malformed("an answer says nothing of it").to_string(),
                    };
                    say(format_args!(
                        "{} [{index}] cannot be sent to directly: {why}",
                        book.name()
                    ));
                    book.failed(index, batch);
                    book.go_back();
                }
            }
        }
        self.account.settle(done);
        let mut state = self.state.lock();
        if throttle_ms > 0 {
            let throttle_us = u64::from(throttle_ms.unsigned_abs()) * 1000;
            state.quiet_until_us = self.account.now_us() + throttle_us;
            self.account.throttled(Throttle {
                broker: format!("{}:{}/{}", self.node.host, self.node.port, self.node.id),
                node: self.node.id,
                throttle_ms,
            });
        }
        // A request may go out again.
        state.wakes_us = 0;
        self.changed.notify_one();
    }

    /// The lane is of no use any more. Called by both threads.
    fn end(&self, why: &str) {
        let requests = {
            let mut flight = self.flight.lock();
            flight.over = true;
            self.over.store(true, Ordering::SeqCst);
            self.asked.notify_one();
            std::mem::take(&mut flight.requests)
        };
        for request in requests {
            fail(request.batches);
        }
        let mut state = self.state.lock();
        if let Some(stream) = state.stream.take() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        let parts = std::mem::take(&mut state.parts);
        self.changed.notify_one();
        drop(state);
        if !parts.is_empty() && !self.stopping.load(Ordering::SeqCst) {
            let node = &self.node;
            say(format_args!(
                "nothing more is sent directly to broker {} ({}:{}): {why}",
                node.id, node.host, node.port
            ));
        }
        for (book, _) in parts {
            book.go_back();
        }
        self.account.tell();
    }
}

/// They go back to their topics, and those to librdkafka.
fn fail(batches: Vec<Sent>) {
    for Sent { book, index, batch } in batches {
        if let Some(batch) = batch {
            book.failed(index, batch);
            book.go_back();
        }
    }
}

fn say(what: std::fmt::Arguments<'_>) {
    log::emit(Level::Debug, log::TIDEGATE, what);
}
