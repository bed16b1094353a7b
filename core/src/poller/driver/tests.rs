use std::collections::VecDeque;
use std::sync::atomic::AtomicUsize;
use std::thread::{self, ThreadId};

use super::*;
use crate::clock::SystemClock;

const LONG: Duration = Duration::from_secs(60);

/// A poller that takes what the world left, and tells who drove it.
#[derive(Default)]
struct World {
    arrivals: Mutex<usize>,
    taken: AtomicUsize,
    steps: Mutex<Vec<ThreadId>>,
    /// What the next steps give; afterwards they park for long.
    script: Mutex<VecDeque<Next>>,
    panics: AtomicBool,
    cleared_by: Mutex<Option<ThreadId>>,
}

struct Stub(Arc<World>);

impl Driven for Stub {
    fn step(&mut self) -> Next {
        self.0.steps.lock().push(thread::current().id());
        assert!(!self.0.panics.load(Ordering::SeqCst), "as the test wants");
        let arrived = std::mem::take(&mut *self.0.arrivals.lock());
        self.0.taken.fetch_add(arrived, Ordering::SeqCst);
        let next = self.0.script.lock().pop_front();
        next.unwrap_or(Next::Park(LONG))
    }

    fn step_briefly(&mut self) -> Next {
        self.step()
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        *self.0.cleared_by.lock() = Some(thread::current().id());
    }
}

struct Driving {
    world: Arc<World>,
    waker: Arc<Waker>,
    driver: Arc<Driver>,
    home: Option<thread::JoinHandle<()>>,
}

impl Driving {
    /// A poller, and its thread once it sleeps.
    fn new() -> Driving {
        let world = Arc::new(World::default());
        let waker = Arc::new(Waker::default());
        let stub = Box::new(Stub(Arc::clone(&world)));
        let clock = Arc::new(SystemClock::new());
        let driver = Arc::new(Driver::new(stub, Arc::clone(&waker), clock));
        let home = thread::spawn({
            let driver = Arc::clone(&driver);
            move || driver.run()
        });
        let driving = Driving {
            world,
            waker,
            driver,
            home: Some(home),
        };
        driving.steps_at_home(1);
        driving
    }

    fn home_id(&self) -> ThreadId {
        self.home.as_ref().expect("runs").thread().id()
    }

    fn count(&self, by: ThreadId) -> usize {
        self.world
            .steps
            .lock()
            .iter()
            .filter(|id| **id == by)
            .count()
    }

    /// Waits until the poller's thread has made so many steps, and left the last one.
    fn steps_at_home(&self, least: usize) {
        let end = Instant::now() + LONG;
        while self.count(self.home_id()) < least {
            assert!(Instant::now() < end, "the poller's thread was not woken");
            thread::yield_now();
        }
        drop(self.driver.driven.lock());
    }

    fn arrive(&self) {
        *self.world.arrivals.lock() += 1;
        self.waker.wake();
    }

    fn taken(&self) -> usize {
        self.world.taken.load(Ordering::SeqCst)
    }

    fn end(mut self) -> ThreadId {
        self.world.script.lock().push_back(Next::Done);
        let home = self.home.take().expect("runs");
        while !home.is_finished() {
            self.waker.wake();
            thread::yield_now();
        }
        home.join().expect("no panic");
        self.world.cleared_by.lock().expect("cleared away")
    }
}

/// The time limit of a wait here is only there to fail.
fn drive(driving: &Driving, taken: usize) {
    let started = Instant::now();
    while driving.taken() < taken {
        assert!(started.elapsed() < LONG, "a wake-up was lost");
        driving.driver.drive(LONG, || driving.taken() >= taken);
    }
}

#[test]
fn what_comes_while_the_application_waits_wakes_it_and_not_the_pollers_thread() {
    let driving = Driving::new();
    let home = driving.home_id();
    let at_home = driving.count(home);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            drive(&driving, 1);
            thread::current().id()
        });
        while driving.count(waiting.thread().id()) == 0 {
            thread::yield_now();
        }
        driving.arrive();
        let application = waiting.join().expect("no panic");
        assert!(driving.count(application) >= 1);
    });
    assert_eq!(driving.taken(), 1);
    assert_eq!(driving.count(home), at_home, "it slept on");
    driving.end();
}

#[test]
fn what_comes_after_the_application_left_wakes_the_pollers_thread() {
    let driving = Driving::new();
    assert!(driving.driver.drive(Duration::ZERO, || false));
    driving.arrive();
    let end = Instant::now() + LONG;
    while driving.taken() < 1 {
        assert!(Instant::now() < end, "the wake-up was lost");
        thread::yield_now();
    }
    driving.end();
}

#[test]
fn the_pollers_thread_does_what_is_left() {
    for left in [Next::Again, Next::Park(Duration::from_millis(1))] {
        let driving = Driving::new();
        let before = driving.count(driving.home_id());
        driving.world.script.lock().push_back(left);
        assert!(driving.driver.drive(Duration::ZERO, || false));
        driving.steps_at_home(before + 1);
        driving.end();
    }
}

#[test]
fn a_thread_that_missed_its_turn_gets_it_when_the_application_leaves() {
    let driving = Driving::new();
    let before = driving.count(driving.home_id());
    let home = driving.home.as_ref().expect("runs").thread().clone();
    driving.driver.drive(LONG, || {
        home.unpark();
        let end = Instant::now() + LONG;
        while !driving.driver.missed.load(Ordering::SeqCst) {
            assert!(Instant::now() < end, "it does not try");
            thread::yield_now();
        }
        true
    });
    driving.steps_at_home(before + 1);
    driving.end();
}

#[test]
fn the_end_is_on_the_pollers_thread_whoever_drove() {
    let driving = Driving::new();
    let home = driving.home_id();
    driving.world.script.lock().push_back(Next::Done);
    assert!(driving.driver.drive(LONG, || false));
    assert!(!driving.driver.drive(LONG, || false), "it has ended");
    assert_eq!(driving.end(), home);
}

#[test]
fn a_panic_while_the_application_drives_is_its_own_and_ends_the_poller_on_its_thread() {
    let driving = Driving::new();
    let home = driving.home_id();
    driving.world.panics.store(true, Ordering::SeqCst);
    let panicking = std::panic::AssertUnwindSafe(|| driving.driver.drive(LONG, || false));
    assert!(std::panic::catch_unwind(panicking).is_err());
    assert!(!driving.driver.drive(LONG, || false), "it has ended");
    assert_eq!(driving.end(), home);
}

#[test]
fn no_wake_up_is_lost_between_the_two() {
    const ROUNDS: usize = 20_000;
    let driving = Driving::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..ROUNDS {
                // One at a time, at any moment of the other's coming and going.
                while driving.taken() < round {
                    std::hint::spin_loop();
                }
                for _ in 0..round % 50 {
                    std::hint::spin_loop();
                }
                driving.arrive();
            }
        });
        let mut looked = 0;
        while driving.taken() < ROUNDS {
            let seen = driving.taken();
            if looked % 3 == 0 {
                // Somewhere else: the poller's thread is to see to it.
                let end = Instant::now() + LONG;
                while driving.taken() == seen && seen < ROUNDS {
                    assert!(Instant::now() < end, "a wake-up was lost at home");
                    thread::yield_now();
                }
            } else {
                drive(&driving, (seen + 1).min(ROUNDS));
            }
            looked += 1;
        }
    });
    driving.end();
}
