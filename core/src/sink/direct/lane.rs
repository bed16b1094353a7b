//! A lane: one connection to one broker, over which the batches of its partitions go out, several requests in flight.
//!
//! Two threads: the sender takes what is due and writes ([`sending`]), the receiver reads the answers. Whatever is out of the ordinary (an error of
//! the broker, a lost connection, an answer that cannot be read) sends the topic concerned back to librdkafka, with everything that
//! was not confirmed, and librdkafka deals with it as it always does: retries, new leaders, timeouts, and errors are its own. As with
//! librdkafka, a request whose answer is lost may have been carried out; without `enable.idempotence` such records come twice.
//!
//! Always true: each batch that was taken from a topic is given back to it as failed, or settled, also when the connection ends. Locks
//! are taken in this order: a lane's state, its flight, a partition's.

mod sending;

use std::collections::VecDeque;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::Settings;
use super::account::{Account, Done, Fate, Throttle};
use super::protocol;
use super::records::Batch;
use super::topic::Book;
use crate::error::KafkaCode;
use crate::kafka_code;
use crate::log::{self, Level};
use crate::wire::Malformed;
use crate::wire::cluster::{METADATA, Node, PRODUCE};
use crate::wire::link::{Broken, Incoming, Link, Outgoing};
use sending::Begun;

/// A batch in a request. It is taken out when it was given up meanwhile.
struct Sent {
    book: Arc<Book>,
    index: usize,
    batch: Option<Batch>,
}

struct Request {
    number: i32,
    sent_us: u64,
    batches: Vec<Sent>,
}

#[derive(Default)]
struct Flight {
    requests: VecDeque<Request>,
    /// The answer to one more is being looked at. Until that is done it may yet have failed, and nothing may overtake it.
    is_answering: bool,
    over: bool,
}

impl Flight {
    fn len(&self) -> usize {
        self.requests.len() + usize::from(self.is_answering)
    }
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
    /// Batches are taken and not in flight yet: nobody else may take any, or they would overtake these.
    is_taken: bool,
    /// The sender waits for the end of that.
    is_wanted: bool,
    /// What another thread began to send, for the sender to go on with.
    begun: Option<Begun>,
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
    /// There from the moment at which the lane is ready. Whoever has taken batches uses it.
    outgoing: Mutex<Option<Outgoing>>,
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
            outgoing: Mutex::default(),
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
        let at_us = self.account.now_us();
        for sent in self
            .flight
            .lock()
            .requests
            .iter_mut()
            .flat_map(|request| &mut request.batches)
        {
            if let Some(batch) = sent.batch.take() {
                done.push(Done {
                    at_us,
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
        link.set_send_buffer(settings.send_buffer_bytes)?;
        link.agree(&[PRODUCE, METADATA])?;
        let Link { outgoing, incoming } = link;
        *self.outgoing.lock() = Some(outgoing);
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
        self.send_all()
    }

    /// The receiver: reads answers until the lane ends.
    fn receive(&self, mut incoming: Incoming) -> Result<(), Broken> {
        loop {
            let answer = incoming.receive_patiently(|| self.patience())?;
            let request = {
                let mut flight = self.flight.lock();
                // An answer may be here before whoever has sent the request has said so.
                while flight.requests.is_empty() {
                    if flight.over || self.stopping.load(Ordering::SeqCst) {
                        return Ok(());
                    }
                    self.asked.wait(&mut flight);
                }
                let Some(request) = flight.requests.pop_front() else {
                    return Ok(());
                };
                flight.is_answering = true;
                request
            };
            let read = protocol::produced(answer, request.number);
            match read {
                Ok((produced, throttle_ms)) => self.answered(request, &produced, throttle_ms),
                Err(why) => {
                    fail(request.batches);
                    return Err(why.into());
                }
            }
            let was_full = {
                let mut flight = self.flight.lock();
                let was_full = flight.len() >= self.settings.max_in_flight;
                flight.is_answering = false;
                was_full
            };
            if was_full {
                // A request may go out again.
                let mut state = self.state.lock();
                state.wakes_us = 0;
                self.changed.notify_one();
            }
        }
    }

    /// How long the oldest request may still take, or the next one; none when an answer is overdue.
    fn patience(&self) -> Option<Duration> {
        let longest = self.settings.answer_timeout;
        let flight = self.flight.lock();
        let Some(oldest) = flight.requests.front() else {
            return Some(longest);
        };
        let waited_us = self.account.now_us().saturating_sub(oldest.sent_us);
        longest
            .checked_sub(Duration::from_micros(waited_us))
            .filter(|left| !left.is_zero())
    }

    fn answered(&self, request: Request, produced: &[protocol::Produced], throttle_ms: i32) {
        let mut done = Vec::with_capacity(request.batches.len());
        let at_us = self.account.now_us();
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
                        at_us,
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
        if throttle_ms > 0 {
            let throttle_us = u64::from(throttle_ms.unsigned_abs()) * 1000;
            self.state.lock().quiet_until_us = at_us + throttle_us;
            self.account.throttled(Throttle {
                broker: format!("{}:{}/{}", self.node.host, self.node.port, self.node.id),
                node: self.node.id,
                throttle_ms,
            });
        }
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
        let begun = state.begun.take();
        self.changed.notify_one();
        drop(state);
        if let Some(begun) = begun {
            fail(begun.batches);
        }
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
