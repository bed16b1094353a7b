//! Consumers over a scripted cluster, stepped by the test in virtual time.
//!
//! Everything runs on the test's thread: the poller by [`World::run_us`], the application by calls with a timeout of
//! zero. The world tells the cluster what was handed out and finished, so that the cluster can judge every commit, and
//! checks after each step what must hold all the time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use crate::batch::RecordBatch;
use crate::clock::{Clock, TestClock};
use crate::consumer::{Consumer, Parts, RebalanceListener};
use crate::error::Result;
use crate::partition::{Generation, Offset, TopicPartition};
use crate::poller::{Command, Next, Poller, Settings};
use crate::queue::Waker;
use crate::record::OwnedRecord;
use crate::source::CommitOffset;
use crate::source::Protocol;
use crate::source::lookup::Reset;
use crate::source::scripted::{ClusterHandle, FORBIDDEN, ScriptedSource};

pub(super) const MS: u64 = 1_000;
pub(super) const SECOND: u64 = 1_000_000;

/// What a world is made of.
#[derive(Debug, Clone)]
pub(super) struct Setup {
    pub(super) protocol: Protocol,
    pub(super) reset: Reset,
    pub(super) auto_commit: bool,
    pub(super) listening: bool,
    pub(super) gate_bytes: usize,
    pub(super) batch_bytes: usize,
    pub(super) partitions: i32,
    pub(super) commit_interval_us: u64,
    pub(super) max_poll_interval_us: u64,
    pub(super) drain_us: u64,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup {
            protocol: Protocol::Cooperative,
            reset: Reset::Beginning,
            auto_commit: true,
            listening: false,
            gate_bytes: 1 << 20,
            batch_bytes: 1 << 16,
            partitions: 2,
            commit_interval_us: SECOND,
            max_poll_interval_us: 10 * SECOND,
            drain_us: 200 * MS,
        }
    }
}

/// Notes callbacks.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) assigned: BTreeSet<TopicPartition>,
    pub(super) calls: Vec<String>,
}

struct Listener(Arc<Mutex<Told>>);

impl RebalanceListener for Listener {
    fn on_assign(&self, partitions: &[TopicPartition]) -> Result<()> {
        let mut told = self.0.lock();
        told.assigned.extend(partitions.iter().cloned());
        told.calls.push(format!("assign {}", partitions.len()));
        Ok(())
    }

    fn on_revoke(&self, partitions: &[TopicPartition]) -> Result<()> {
        let mut told = self.0.lock();
        told.assigned.retain(|held| !partitions.contains(held));
        told.calls.push(format!("revoke {}", partitions.len()));
        Ok(())
    }

    fn on_lost(&self, partitions: &[TopicPartition]) -> Result<()> {
        let mut told = self.0.lock();
        told.assigned.retain(|held| !partitions.contains(held));
        told.calls.push(format!("lost {}", partitions.len()));
        Ok(())
    }
}

/// A record that the application holds.
pub(super) type Held = (TopicPartition, Generation, i64);

/// A leased batch and its rows that are not acknowledged yet.
pub(super) struct Lease {
    pub(super) batch: RecordBatch,
    pub(super) rows: Vec<usize>,
}

/// Next-to-commit offsets by partition and generation.
type Positions = Vec<(TopicPartition, Generation, i64)>;

/// A consumer, its poller and its application.
pub(super) struct App {
    // Before the consumer: closing a consumer waits for a poller that is still there.
    pub(super) poller: Poller<ScriptedSource>,
    pub(super) consumer: Consumer,
    pub(super) me: usize,
    pub(super) in_hand: Vec<Held>,
    pub(super) leases: Vec<Lease>,
    pub(super) told: Arc<Mutex<Told>>,
    /// The last time it certainly showed a sign of life, and the last time it may have.
    pub(super) acted_us: u64,
    pub(super) may_have_acted_us: u64,
    pub(super) subscribed: bool,
    pub(super) was_evicted: bool,
    pub(super) done: bool,
    /// What was finished when, per partition held; to bound what a crash repeats.
    pub(super) history: VecDeque<(u64, Positions)>,
}

pub(super) struct World {
    pub(super) setup: Setup,
    pub(super) clock: Arc<TestClock>,
    pub(super) cluster: ClusterHandle,
    pub(super) apps: Vec<App>,
    /// Commits and look-ups always went well so far.
    pub(super) healthy: bool,
    pub(super) evictions: u64,
    pub(super) peak_gate_bytes: usize,
}

pub(super) fn tp(partition: i32) -> TopicPartition {
    TopicPartition::new("t", partition)
}

impl World {
    pub(super) fn new(setup: Setup) -> World {
        let clock = Arc::new(TestClock::new());
        let cluster = ClusterHandle::new(clock.clone(), setup.reset, setup.protocol);
        for partition in 0..setup.partitions {
            cluster.lock().produce(&tp(partition), 0, 0, 0);
        }
        World {
            setup,
            clock,
            cluster,
            apps: Vec::new(),
            healthy: true,
            evictions: 0,
            peak_gate_bytes: 0,
        }
    }

    /// A world with one consumer that has been given every partition, each with `records` records.
    pub(super) fn reading(setup: Setup, records: i64) -> World {
        let mut world = World::new(setup);
        for partition in 0..world.setup.partitions {
            world.cluster.lock().produce(&tp(partition), 0, records, 10);
        }
        world.start_app();
        world.subscribe(0);
        world.everything_to(0);
        world.run_us(0);
        world
    }

    pub(super) fn now_us(&self) -> u64 {
        self.clock.now_us()
    }

    /// A new process; gives its index.
    pub(super) fn start_app(&mut self) -> usize {
        let app = self.new_app();
        self.apps.push(app);
        self.apps.len() - 1
    }

    fn new_app(&self) -> App {
        let waker = Arc::new(Waker::default());
        let source = self.cluster.join(&waker);
        let me = source.me;
        let clock: Arc<dyn Clock> = self.clock.clone();
        let (consumer, poller) = Consumer::with_source(
            source,
            Parts {
                options: crate::notice::ConsumerOptions::default(),
                settings: Settings {
                    auto_commit: self.setup.auto_commit,
                    auto_commit_interval_us: self.setup.commit_interval_us,
                    max_poll_interval_us: self.setup.max_poll_interval_us,
                    drain_us: self.setup.drain_us,
                    batch_bytes: self.setup.batch_bytes,
                },
                gate_bytes: self.setup.gate_bytes,
                max_poll_records: usize::MAX,
                group_id: Some("g".into()),
                clock,
                waker,
                client: Weak::new(),
            },
        );
        if !self.setup.auto_commit {
            self.cluster.lock().members[me].commits_allowed = Some(0);
        }
        let now_us = self.now_us();
        App {
            poller,
            consumer,
            me,
            in_hand: Vec::new(),
            leases: Vec::new(),
            told: Arc::default(),
            acted_us: now_us,
            may_have_acted_us: now_us,
            subscribed: false,
            was_evicted: false,
            done: false,
            history: VecDeque::new(),
        }
    }

    /// The process dies and another one is started in its place.
    pub(super) fn crash(&mut self, index: usize) {
        self.check_repeats(index);
        self.cluster.lock().crash(self.apps[index].me);
        let fresh = self.new_app();
        let dead = std::mem::replace(&mut self.apps[index], fresh);
        let (old, new) = (dead.me, self.apps[index].me);
        drop(dead);
        self.hand_over(old, new);
    }

    fn hand_over(&mut self, old: usize, new: usize) {
        for owner in self.cluster.lock().target.values_mut() {
            if *owner == old {
                *owner = new;
            }
        }
    }

    pub(super) fn everything_to(&mut self, index: usize) {
        let me = self.apps[index].me;
        let target = (0..self.setup.partitions).map(|p| (tp(p), me)).collect();
        self.cluster.lock().rebalance(target);
    }

    pub(super) fn give_to(&mut self, owners: &[usize]) {
        let target: BTreeMap<_, _> = (0..self.setup.partitions)
            .zip(owners.iter().cycle())
            .map(|(partition, owner)| (tp(partition), self.apps[*owner].me))
            .collect();
        self.cluster.lock().rebalance(target);
    }

    // ---- commands: what Consumer's calls send, without waiting for the answer ----

    fn send<T>(
        &mut self,
        index: usize,
        command: impl FnOnce(Sender<Result<T>>) -> Command,
    ) -> Receiver<Result<T>> {
        let (reply, answer) = bounded(1);
        let app = &mut self.apps[index];
        app.consumer
            .commands
            .send(command(reply))
            .expect("the poller is there");
        answer
    }

    pub(super) fn subscribe(&mut self, index: usize) {
        let listening = self.setup.listening;
        let app = &mut self.apps[index];
        if listening {
            *app.consumer.listener.lock() = Some(Arc::new(Listener(Arc::clone(&app.told))));
        }
        app.consumer.shared.set_subscribed(true);
        app.subscribed = true;
        self.acts(index, true);
        self.send(index, |reply| Command::Subscribe {
            topics: vec!["t".into()],
            listening,
            reply,
        });
    }

    pub(super) fn unsubscribe(&mut self, index: usize) {
        self.apps[index].consumer.shared.set_subscribed(false);
        self.apps[index].subscribed = false;
        self.send(index, |reply| Command::Unsubscribe { reply });
    }

    pub(super) fn seek(
        &mut self,
        index: usize,
        partition: i32,
        to: Offset,
    ) -> Receiver<Result<()>> {
        self.acts(index, false);
        let answer = self.send(index, |reply| Command::Seek {
            partition: tp(partition),
            to,
            reply,
        });
        self.step();
        answer
    }

    pub(super) fn set_paused(&mut self, index: usize, partition: i32, paused: bool) -> bool {
        let answer = self.send(index, |reply| Command::SetPaused {
            partitions: vec![tp(partition)],
            paused,
            reply,
        });
        self.step();
        answer.try_recv().is_ok_and(|result| result.is_ok())
    }

    /// `commit()`; the answer comes when the cluster gives it.
    pub(super) fn commit(&mut self, index: usize) -> Receiver<Result<Vec<CommitOffset>>> {
        self.finish_in_hand(index);
        let me = self.apps[index].me;
        let allowed = !self.setup.auto_commit;
        if allowed {
            self.cluster.lock().members[me].commits_allowed = Some(1);
        }
        let answer = self.send(index, |reply| Command::Commit {
            offsets: None,
            reply: Some(reply),
        });
        self.step();
        if allowed {
            self.cluster.lock().members[me].commits_allowed = Some(0);
        }
        answer
    }

    pub(super) fn close(&mut self, index: usize, timeout_us: u64) -> Receiver<Result<()>> {
        let deadline_us = self.now_us() + timeout_us;
        self.apps[index].subscribed = false;
        self.send(index, |reply| Command::Close { deadline_us, reply })
    }

    // ---- the application ----

    fn acts(&mut self, index: usize, certainly: bool) {
        let now_us = self.now_us();
        let app = &mut self.apps[index];
        app.may_have_acted_us = now_us;
        if certainly {
            app.acted_us = now_us;
        }
    }

    /// Tells the cluster that what `poll` and `next_batch` handed out is finished, as the next call of either means.
    fn finishes(&mut self, index: usize) {
        let app = &mut self.apps[index];
        let mut cluster = self.cluster.lock();
        for (partition, generation, offset) in app.in_hand.drain(..) {
            cluster.was_finished(app.me, &partition, generation, offset);
        }
    }

    pub(super) fn finish_in_hand(&mut self, index: usize) {
        let effective = !self.apps[index].in_hand.is_empty();
        self.finishes(index);
        if effective {
            self.acts(index, false);
        }
        let consumer = &self.apps[index].consumer;
        consumer.hand().finish(&consumer.shared.stats);
    }

    pub(super) fn handed(&mut self, index: usize, batch: &RecordBatch) -> Vec<Held> {
        let app = &self.apps[index];
        let mut cluster = self.cluster.lock();
        let told = app.told.lock();
        let listening = self.setup.listening;
        batch
            .iter()
            .map(|record| {
                cluster.was_handed(app.me, &record);
                let partition = tp(record.partition());
                if listening && !told.assigned.contains(&partition) {
                    cluster
                        .violations
                        .push(format!("{partition} was handed out before on_assign"));
                }
                (partition, record.generation(), record.offset())
            })
            .collect()
    }

    pub(super) fn poll(&mut self, index: usize) -> Option<OwnedRecord> {
        self.finishes(index);
        self.acts(index, true);
        let record = self.apps[index].consumer.poll(Some(Duration::ZERO));
        let record = self.taken(record)?;
        let batch = record.batch().slice(record.row()..record.row() + 1);
        self.apps[index].in_hand = self.handed(index, &batch);
        Some(record)
    }

    pub(super) fn next_batch(&mut self, index: usize, most: usize) -> Option<RecordBatch> {
        self.finishes(index);
        self.acts(index, true);
        let batch = self.apps[index]
            .consumer
            .next_batch(Some(Duration::ZERO), Some(most));
        let batch = self.taken(batch)?;
        self.apps[index].in_hand = self.handed(index, &batch);
        Some(batch)
    }

    /// No call fails, unless the story made something go wrong that only the application can mend.
    fn taken<T>(&mut self, taken: Result<Option<T>>) -> Option<T> {
        taken.unwrap_or_else(|error| {
            let code = error.kafka_code().map(|code| code.number());
            if self.healthy || code != Some(FORBIDDEN) {
                let violations = &mut self.cluster.lock().violations;
                violations.push(format!("failed: {error}"));
            }
            None
        })
    }

    /// Leases up to `most` records; false when there are none.
    pub(super) fn lease(&mut self, index: usize, most: usize) -> bool {
        self.finishes(index);
        self.acts(index, true);
        let batch = self.apps[index]
            .consumer
            .lease_batch(Some(Duration::ZERO), Some(most));
        let Some(batch) = self.taken(batch) else {
            return false;
        };
        self.handed(index, &batch);
        let rows = (0..batch.len()).collect();
        self.apps[index].leases.push(Lease { batch, rows });
        true
    }

    /// The application could not pass on what it was handed last.
    pub(super) fn put_back(&mut self, index: usize) {
        let app = &mut self.apps[index];
        app.consumer.put_back(None);
        let mut cluster = self.cluster.lock();
        for (partition, generation, offset) in app.in_hand.drain(..) {
            cluster.was_put_back(app.me, &partition, generation, offset);
        }
    }

    pub(super) fn lease_and_put_back(&mut self, index: usize, most: usize) {
        if !self.lease(index, most) {
            return;
        }
        let app = &mut self.apps[index];
        if let Some(lease) = app.leases.pop() {
            app.consumer.put_back(Some(&lease.batch));
            let mut cluster = self.cluster.lock();
            for record in &lease.batch {
                let partition = tp(record.partition());
                cluster.was_put_back(app.me, &partition, record.generation(), record.offset());
            }
        }
    }

    /// Another thread of the application finishes one leased record, picked by `pick`; false when none is leased.
    pub(super) fn acknowledge_one(&mut self, index: usize, pick: usize) -> bool {
        let app = &mut self.apps[index];
        if app.leases.is_empty() {
            return false;
        }
        let which = pick % app.leases.len();
        let lease = &mut app.leases[which];
        let row = lease.rows.swap_remove(pick / 7 % lease.rows.len());
        let batch = lease.batch.clone();
        if lease.rows.is_empty() {
            app.leases.swap_remove(which);
        }
        let me = app.me;
        if let Some(record) = batch.get(row) {
            let partition = tp(record.partition());
            self.cluster
                .lock()
                .was_finished(me, &partition, record.generation(), record.offset());
        }
        let live = !batch.is_stale(row);
        let _ = batch.acknowledge_rows(row..row + 1);
        self.acts(index, live);
        true
    }

    /// Gives back what is leased of partitions that are being taken away.
    pub(super) fn release_stale(&mut self, index: usize) {
        for lease in &mut self.apps[index].leases {
            let batch = &lease.batch;
            lease.rows.retain(|&row| {
                if batch.is_stale(row) {
                    batch.release_rows(row..row + 1).expect("its own rows");
                }
                !batch.is_stale(row)
            });
        }
        self.apps[index]
            .leases
            .retain(|lease| !lease.rows.is_empty());
    }

    // ---- time ----

    /// Lets every poller do what it can at once; gives how long the first of them would wait then.
    pub(super) fn step(&mut self) -> u64 {
        /// A poller that always has more to do does not get on.
        const MOST_STEPS: usize = 10_000;
        let mut park_us = u64::MAX;
        for app in &mut self.apps {
            for round in 0.. {
                if app.done {
                    break;
                }
                assert!(round < MOST_STEPS, "the poller goes round and round");
                // By turns as its own thread does, and as an application that drives it.
                let briefly = round % 2 == (self.clock.now_us() % 2) as usize;
                let next = match briefly {
                    true => app.poller.step_briefly(),
                    false => app.poller.step(),
                };
                match next {
                    Next::Again => {}
                    Next::Park(wait) => {
                        park_us = park_us.min(wait.as_micros() as u64);
                        break;
                    }
                    Next::Done => app.done = true,
                }
            }
        }
        self.check();
        park_us
    }

    /// Lets virtual time pass; pollers are stepped when they would wake.
    pub(super) fn run_us(&mut self, us: u64) {
        let end_us = self.now_us() + us;
        loop {
            let mut wait_us = self.step();
            // What one poller did may be news for another, or for itself.
            loop {
                let news = self.cluster.lock().news;
                wait_us = wait_us.min(self.step());
                if self.cluster.lock().news == news {
                    break;
                }
            }
            let now_us = self.now_us();
            let left_us = end_us - now_us;
            if left_us == 0 {
                return;
            }
            if let Some(due_us) = self.cluster.lock().next_due_us() {
                wait_us = wait_us.min(due_us.saturating_sub(now_us));
            }
            let wait_us = wait_us.clamp(1, left_us);
            self.clock.advance(Duration::from_micros(wait_us));
        }
    }
}

/// Counts cases over the runs of one property.
#[derive(Default)]
pub(super) struct Tally(AtomicUsize);

impl Tally {
    pub(super) const fn new() -> Tally {
        Tally(AtomicUsize::new(0))
    }

    pub(super) fn add(&self, count: usize) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}
