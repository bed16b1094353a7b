//! Records sent to the broker itself, past librdkafka.
//!
//! librdkafka makes an object of each record, and moves it through four queues; with records of 100 bytes that is most of what sending
//! them costs. Here a record is written once, into the batch that goes to the broker ([`records`]), and the report of a whole batch is
//! one number and one offset. librdkafka keeps everything else: metadata, security, idempotence, transactions, retries, timeouts,
//! and every topic that is not worth the trouble.
//!
//! A topic begins with librdkafka, always. After enough records have been delivered that way, and if all its partitions have leaders
//! that can be reached, it is *taken over*: from then on records go into a [`topic::Book`], and once librdkafka has reported all it had,
//! [`lane`]s send them. Anything unusual and the topic goes *back*: what is not confirmed goes to librdkafka in order, then everything new.
//! So a lane needs to know nothing but how to send, and what cannot be sent is treated as ever.
//!
//! The delivery thread runs [`Direct::serve`], which carries all of that out; any thread sends, through a topic's [`Route`].

mod account;
mod choice;
mod lane;
mod protocol;
mod records;
mod reporting;
mod route;
mod settings;
mod topic;
mod way_back;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc;

use parking_lot::Mutex;
use rdkafka::error::RDKafkaErrorCode;

use super::{Refused, Reports};
use crate::error::KafkaCode;
use crate::events::ClientEvent;
use crate::log::{self, Level};
use crate::wire::cluster::Cluster;
use crate::wire::link::Link;
pub(crate) use account::Call;
use account::{Account, Done, Fate};
use lane::Lane;
use records::Batch;
use reporting::report_failed;
pub(crate) use route::Route;
pub(crate) use settings::Settings;
pub(crate) use topic::{Appended, Book, Now, Row};

use super::ProducerRecord;
use super::Token;

/// A topic that could not be sent to directly, or went back, is not looked at again before.
const AGAIN_US: u64 = 5_000_000;
/// How often librdkafka is asked to send at once what it still has.
const HURRY_EVERY_US: u64 = 10_000;

/// Librdkafka's side of a producer.
pub(crate) trait Native {
    /// The way of a topic's records, if it has one.
    fn route(&self, topic: &str) -> Option<Arc<Route>>;
    /// Takes a record.
    fn enqueue(&self, record: &ProducerRecord<'_>, token: Token) -> Result<(), Refused>;
    /// What waits there goes out now. Takes a moment, in which nothing else of it is served.
    fn hurry(&self);
}

/// Who leads a topic's partitions, or that nobody knows.
type Answer = (Box<str>, Option<Cluster>);

/// Records that librdkafka would not take: topic, partition, token, why.
type GivenUp = Vec<(Box<str>, i32, Token, KafkaCode)>;

/// Where a topic is that is not simply with librdkafka.
enum Stage {
    /// It is being asked who leads.
    Asked,
    /// Its lanes connect.
    Connecting {
        route: Arc<Route>,
        leaders: Vec<(Arc<Lane>, i32)>,
    },
    Open {
        route: Arc<Route>,
        book: Arc<Book>,
        /// The batch that librdkafka is taking: partition, records taken, bytes read.
        going_back: Option<(usize, Batch, u32, usize)>,
        /// When to see whether there are more partitions.
        look_us: u64,
        /// Librdkafka has so long to report what it had.
        waits_until_us: u64,
    },
}

struct Director {
    answers: mpsc::Receiver<Answer>,
    stages: HashMap<Box<str>, Stage>,
    not_before_us: HashMap<Box<str>, u64>,
    /// Something is under way that is looked at each time.
    is_moving: bool,
    next_look_us: u64,
    /// Librdkafka is not asked to hurry again before.
    next_hurry_us: u64,
}

/// See the module.
pub(crate) struct Direct {
    settings: Arc<Settings>,
    account: Arc<Account>,
    director: Mutex<Director>,
    lanes: Mutex<Vec<Arc<Lane>>>,
    books: Mutex<Vec<Arc<Book>>>,
    answers: mpsc::Sender<Answer>,
}

impl Direct {
    /// `call` has [`Direct::serve`] called; any thread calls it.
    pub(crate) fn new(settings: Settings, call: Box<dyn Fn(Call) + Send + Sync>) -> Direct {
        let (sender, receiver) = mpsc::channel();
        let account = Account::new(settings.most_records, settings.most_bytes, call);
        Direct {
            settings: Arc::new(settings),
            account: Arc::new(account),
            director: Mutex::new(Director {
                answers: receiver,
                stages: HashMap::new(),
                not_before_us: HashMap::new(),
                is_moving: false,
                next_look_us: u64::MAX,
                next_hurry_us: 0,
            }),
            lanes: Mutex::default(),
            books: Mutex::default(),
            answers: sender,
        }
    }

    /// The time of a call that sends.
    pub(crate) fn now(&self) -> Now {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Now {
            us: self.account.now_us(),
            timestamp_ms: since.map_or(0, |since| {
                i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
            }),
        }
    }

    /// How many topics are sent to from here.
    pub(crate) fn topics(&self) -> usize {
        let books = self.books.lock();
        books.iter().filter(|book| book.is_sending()).count()
    }

    /// Librdkafka has reported records of a topic, of which it delivered so many since it has the topic.
    pub(crate) fn consider(&self, topic: &str, delivered: u64) {
        if delivered < self.settings.after_records {
            return;
        }
        let mut director = self.director.lock();
        let now_us = self.account.now_us();
        let is_early = director
            .not_before_us
            .get(topic)
            .is_some_and(|not_before_us| now_us < *not_before_us);
        if is_early || director.stages.contains_key(topic) {
            return;
        }
        if self.ask(topic) {
            director.stages.insert(topic.into(), Stage::Asked);
        } else {
            director
                .not_before_us
                .insert(topic.into(), now_us + AGAIN_US);
        }
    }

    /// Asks who leads, on a thread of its own.
    fn ask(&self, topic: &str) -> bool {
        let (settings, account) = (Arc::clone(&self.settings), Arc::clone(&self.account));
        let (sender, topic) = (self.answers.clone(), Box::<str>::from(topic));
        let spawned = std::thread::Builder::new()
            .name("tidegate-leaders".into())
            .spawn(move || {
                let cluster = who_leads(&settings, &topic);
                // Nobody hears it when the producer is gone.
                let _ = sender.send((topic, cluster));
                account.tell();
            });
        spawned.is_ok()
    }

    /// What is queued goes out now instead of after `linger.ms`.
    pub(crate) fn hurry(&self) {
        if self.account.records() > 0 {
            for lane in &*self.lanes.lock() {
                lane.hurry();
            }
        }
    }

    /// Gives up what waits here, or is on its way; each record is reported as failed.
    pub(crate) fn purge(&self, queued: bool, in_flight: bool) {
        if queued {
            let code = crate::kafka_code::from_rdkafka(RDKafkaErrorCode::PurgeQueue);
            let mut done = Vec::new();
            for book in &*self.books.lock() {
                for index in 0..book.partitions() {
                    while let Some(batch) = book.take_back(index) {
                        done.push(Done {
                            at_us: self.account.now_us(),
                            book: Arc::clone(book),
                            index,
                            batch,
                            fate: Fate::GivenUp(code),
                        });
                    }
                }
            }
            self.account.settle(done);
        }
        if in_flight {
            let code = crate::kafka_code::from_rdkafka(RDKafkaErrorCode::PurgeInflight);
            for lane in &*self.lanes.lock() {
                lane.give_up_flight(code);
            }
        }
    }

    /// Reports what is done, and moves topics here and back. The delivery thread, often.
    pub(crate) fn serve(&self, reports: &dyn Reports, native: &dyn Native) {
        let is_news = self.account.take_news();
        if is_news {
            for done in self.account.take_done() {
                self.report(done, reports);
            }
            for throttle in self.account.take_throttles() {
                if reports.wants_throttles() {
                    let _ = reports.event(ClientEvent::Throttle {
                        broker: throttle.broker,
                        broker_id: throttle.node,
                        throttle_ms: throttle.throttle_ms,
                    });
                }
            }
        }
        let mut given_up = Vec::new();
        {
            let mut director = self.director.lock();
            let is_time = self.account.now_us() >= director.next_look_us;
            if !(is_news || director.is_moving || is_time) {
                return;
            }
            self.direct(&mut director, native, &mut given_up);
        }
        // Applications hear of it: under no lock.
        for (topic, partition, token, code) in given_up {
            report_failed(reports, &topic, partition, token, code);
        }
    }

    fn direct(&self, director: &mut Director, native: &dyn Native, given_up: &mut GivenUp) {
        let now_us = self.account.now_us();
        while let Ok((topic, cluster)) = director.answers.try_recv() {
            self.heard(director, &topic, cluster, native, now_us);
        }
        director.is_moving = false;
        director.next_look_us = u64::MAX;
        let topics: Vec<Box<str>> = director.stages.keys().cloned().collect();
        for topic in topics {
            let Some(stage) = director.stages.remove(&topic) else {
                continue;
            };
            match self.advance(stage, &topic, now_us, director, native, given_up) {
                Some(stage) => {
                    director.stages.insert(topic, stage);
                }
                None => {
                    director
                        .not_before_us
                        .insert(topic, now_us.saturating_add(AGAIN_US));
                }
            }
        }
        let mut lanes = self.lanes.lock();
        let is_wanted = |lane: &Arc<Lane>| {
            !lane.is_over()
                && director.stages.values().any(|stage| match stage {
                    Stage::Asked => false,
                    Stage::Connecting { leaders, .. } => {
                        leaders.iter().any(|(leader, _)| Arc::ptr_eq(leader, lane))
                    }
                    Stage::Open { book, .. } => {
                        (0..book.partitions()).any(|index| Arc::ptr_eq(book.lane(index), lane))
                    }
                })
        };
        lanes.retain(|lane| {
            let keep = is_wanted(lane);
            if !keep {
                lane.stop();
            }
            keep
        });
    }

    /// Somebody has said who leads a topic.
    fn heard(
        &self,
        director: &mut Director,
        topic: &str,
        cluster: Option<Cluster>,
        native: &dyn Native,
        now_us: u64,
    ) {
        match director.stages.get_mut(topic) {
            Some(Stage::Asked) => {
                director.stages.remove(topic);
                let leaders = cluster.and_then(|cluster| self.lanes_for(&cluster));
                match (leaders, native.route(topic)) {
                    (Some(leaders), Some(route)) => {
                        let stage = Stage::Connecting { route, leaders };
                        director.stages.insert(topic.into(), stage);
                    }
                    _ => {
                        director
                            .not_before_us
                            .insert(topic.into(), now_us + AGAIN_US);
                    }
                }
            }
            Some(Stage::Open { book, look_us, .. }) => {
                *look_us = now_us.saturating_add(self.settings.refresh_us);
                let is_same = cluster.is_none_or(|cluster| {
                    cluster.leaderless > 0 || cluster.leaders.len() == book.partitions()
                });
                if !is_same {
                    say(format_args!("topic '{topic}' has other partitions now"));
                    book.go_back();
                }
            }
            _ => {}
        }
    }

    /// The lanes of a topic's leaders, begun where there are none; `None` when not all its partitions can be reached.
    fn lanes_for(&self, cluster: &Cluster) -> Option<Vec<(Arc<Lane>, i32)>> {
        if cluster.leaderless > 0 || cluster.leaders.is_empty() {
            return None;
        }
        let mut lanes = self.lanes.lock();
        let mut leaders: Vec<_> = cluster.leaders.iter().collect();
        leaders.sort_by_key(|leader| leader.partition);
        let mut found = Vec::with_capacity(leaders.len());
        for (number, leader) in leaders.into_iter().enumerate() {
            if usize::try_from(leader.partition) != Ok(number) {
                return None;
            }
            let node = cluster.nodes.iter().find(|node| node.id == leader.node)?;
            let known = lanes
                .iter()
                .find(|lane| lane.node == *node && !lane.is_over());
            let lane = match known {
                Some(lane) => Arc::clone(lane),
                None => {
                    let lane = Lane::start(node, &self.settings, &self.account).ok()?;
                    lanes.push(Arc::clone(&lane));
                    lane
                }
            };
            found.push((lane, leader.epoch));
        }
        Some(found)
    }

    /// Looks after one topic; `None` when it is librdkafka's again.
    fn advance(
        &self,
        stage: Stage,
        topic: &str,
        now_us: u64,
        director: &mut Director,
        native: &dyn Native,
        given_up: &mut GivenUp,
    ) -> Option<Stage> {
        match stage {
            Stage::Asked => Some(Stage::Asked),
            Stage::Connecting { route, leaders } => {
                if leaders.iter().any(|(lane, _)| lane.is_over()) {
                    return None;
                }
                if !leaders.iter().all(|(lane, _)| lane.is_ready()) {
                    return Some(Stage::Connecting { route, leaders });
                }
                let book = Book::new(topic, leaders, &self.settings, &self.account, now_us)?;
                let book = Arc::new(book);
                self.books.lock().push(Arc::clone(&book));
                self.take_over(&book);
                route.open(&book);
                say(format_args!("topic '{topic}' is sent to directly"));
                director.is_moving = true;
                Some(Stage::Open {
                    route,
                    book,
                    going_back: None,
                    look_us: now_us.saturating_add(self.settings.refresh_us),
                    waits_until_us: now_us.saturating_add(self.settings.wait_us()),
                })
            }
            Stage::Open {
                route,
                book,
                mut going_back,
                mut look_us,
                waits_until_us,
            } => {
                if book.is_returning() {
                    if self.hand_back(&route, &book, &mut going_back, native, given_up) {
                        say(format_args!("topic '{topic}' is librdkafka's again"));
                        return None;
                    }
                    director.is_moving = true;
                } else if book.is_waiting() {
                    // Its last batches would wait for others until linger.ms is over, and longer when nothing wakes their thread.
                    match route.outstanding() {
                        0 => book.start(),
                        // Its time to deliver what waits here does not run before it has it.
                        _ if now_us >= waits_until_us => book.go_back(),
                        _ if now_us >= director.next_hurry_us => {
                            native.hurry();
                            director.next_hurry_us = now_us.saturating_add(HURRY_EVERY_US);
                        }
                        _ => {}
                    }
                    director.is_moving = true;
                } else if now_us >= look_us {
                    look_us = now_us.saturating_add(self.settings.refresh_us);
                    self.ask(topic);
                }
                director.next_look_us = director.next_look_us.min(look_us);
                Some(Stage::Open {
                    route,
                    book,
                    going_back,
                    look_us,
                    waits_until_us,
                })
            }
        }
    }

    fn take_over(&self, book: &Arc<Book>) {
        for lane in &*self.lanes.lock() {
            let indexes: Vec<_> = (0..book.partitions())
                .filter(|index| Arc::ptr_eq(book.lane(*index), lane))
                .collect();
            lane.take_over(book, &indexes);
            // It may have ended before it took them.
            if lane.is_over() && !indexes.is_empty() {
                book.go_back();
            }
        }
    }
}

impl Drop for Direct {
    fn drop(&mut self) {
        for lane in self.lanes.get_mut() {
            lane.stop();
        }
    }
}

/// Asks the servers of the configuration, one after the other.
fn who_leads(settings: &Settings, topic: &str) -> Option<Cluster> {
    settings.servers.iter().find_map(|(host, port)| {
        let mut link = Link::connect(host, *port, &settings.client_id, settings.answer_timeout);
        let link = link.as_mut().ok()?;
        link.agree(&[crate::wire::cluster::METADATA]).ok()?;
        link.cluster([topic].into_iter()).ok()
    })
}

fn say(what: std::fmt::Arguments<'_>) {
    log::emit(Level::Debug, log::TIDEGATE, what);
}

#[cfg(test)]
mod tests;
