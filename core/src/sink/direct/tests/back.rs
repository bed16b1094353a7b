//! A topic's way back to librdkafka, step by step, with a librdkafka that is a list.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::lane::Lane;
use super::super::topic::Row;
use super::super::{Appended, Book, Direct, GivenUp, Native, Route, Settings, Stage};
use crate::error::Error;
use crate::sink::{ProducerRecord, Refused, Token};
use crate::wire::cluster::Node;

const PARTITIONS: usize = 2;

/// Takes so many records, and then no more until it is given room again.
struct List {
    room: Cell<usize>,
    taken: RefCell<Vec<(i32, u32, Token)>>,
}

impl Native for List {
    fn route(&self, _topic: &str) -> Option<Arc<Route>> {
        None
    }

    fn enqueue(&self, record: &ProducerRecord<'_>, token: Token) -> Result<(), Refused> {
        let value = record
            .value
            .and_then(|value| std::str::from_utf8(value).ok());
        let number: u32 = value
            .and_then(|value| value.parse().ok())
            .expect("a number");
        if number == REFUSED {
            let code = crate::kafka_code::from_number(10);
            let context = "too large".into();
            return Err(Refused::Failed(Error::Kafka { code, context }));
        }
        let Some(left) = self.room.get().checked_sub(1) else {
            return Err(Refused::Full);
        };
        self.room.set(left);
        let partition = record.partition.expect("a partition");
        self.taken.borrow_mut().push((partition, number, token));
        Ok(())
    }

    fn hurry(&self) {}
}

const REFUSED: u32 = 13;

struct Scene {
    direct: Direct,
    book: Arc<Book>,
    route: Arc<Route>,
    sent: u32,
}

impl Scene {
    fn new() -> Scene {
        let scene = Scene::waiting();
        scene.book.start();
        scene
    }

    /// Librdkafka has not reported all it had.
    fn waiting() -> Scene {
        let properties = BTreeMap::from([
            ("bootstrap.servers".to_string(), "127.0.0.1:1".to_string()),
            ("batch.num.messages".to_string(), "3".to_string()),
        ]);
        let settings = Settings::of(&properties, 1).expect("direct");
        let direct = Direct::new(settings, Box::new(|_| {}));
        // Nobody listens there: this lane never sends.
        let node = Node {
            id: 1,
            host: "127.0.0.1".into(),
            port: 1,
        };
        let lane = Lane::start(&node, &direct.settings, &direct.account).expect("a lane");
        let leaders = vec![(lane, 0); PARTITIONS];
        let book = Book::new("t", leaders, &direct.settings, &direct.account, 1);
        let book = Arc::new(book.expect("a book"));
        let route = Arc::new(Route::default());
        route.open(&book);
        Scene {
            direct,
            book,
            route,
            sent: 0,
        }
    }

    /// Each number to each partition.
    fn send(&mut self, count: u32) {
        for number in self.sent..self.sent + count {
            let value = number.to_string();
            for partition in 0..PARTITIONS {
                let row = Row {
                    key: None,
                    value: Some(value.as_bytes()),
                    partition: i32::try_from(partition).ok(),
                    token: number as Token,
                };
                let now = self.direct.now();
                let outcome = self.book.append_rows([row].into_iter(), now, 0);
                assert_eq!(outcome, (1, Appended::Yes));
            }
        }
        self.sent += count;
    }

    fn hand_back(
        &self,
        list: &List,
        under_way: &mut Option<(usize, super::super::Batch, u32, usize)>,
    ) -> (bool, GivenUp) {
        let mut given_up = Vec::new();
        let (route, book) = (&self.route, &self.book);
        let is_over = self
            .direct
            .hand_back(route, book, under_way, list, &mut given_up);
        (is_over, given_up)
    }
}

#[test]
fn what_failed_comes_first_then_what_waited_then_what_grew() {
    let mut scene = Scene::new();
    scene.send(11);
    // Batches of 3, 3 and 3 are ready, two numbers grow.
    let first = scene.book.take_due(0, u64::MAX, false).expect("due");
    let second = scene.book.take_due(0, u64::MAX, false).expect("due");
    scene.book.failed(0, second);
    scene.book.go_back();
    let list = List {
        room: Cell::new(usize::MAX),
        taken: RefCell::default(),
    };
    // The first one is still on its way: what comes of it decides what comes first.
    assert!(!scene.hand_back(&list, &mut None).0);
    assert!(list.taken.borrow().is_empty());
    assert!(
        scene.book.take_due(1, u64::MAX, true).is_err(),
        "nothing more is sent"
    );
    scene.book.failed(0, first);
    // What is sent meanwhile comes behind it.
    scene.send(2);
    let (is_over, given_up) = scene.hand_back(&list, &mut None);
    assert!(is_over && given_up.is_empty());
    for partition in 0..PARTITIONS {
        let taken = list.taken.borrow();
        let of = taken.iter().filter(|(of, _, _)| *of == partition as i32);
        let numbers: Vec<_> = of.map(|(_, number, token)| (*number, *token)).collect();
        let expected: Vec<_> = (0..13).map(|number| (number, number as Token)).collect();
        assert_eq!(numbers, expected, "partition {partition}");
    }
    assert!(
        scene.route.enter().is_none(),
        "everything goes to librdkafka"
    );
    assert_eq!(scene.direct.account.records(), 0);
}

#[test]
fn a_full_librdkafka_gets_the_rest_later_and_nothing_twice() {
    let mut scene = Scene::new();
    scene.send(20);
    scene.book.go_back();
    let list = List {
        room: Cell::new(0),
        taken: RefCell::default(),
    };
    let mut under_way = None;
    let mut given_up = Vec::new();
    for turn in 0.. {
        assert!(turn < 100);
        list.room.set(2);
        let (is_over, more) = scene.hand_back(&list, &mut under_way);
        given_up.extend(more);
        if is_over {
            break;
        }
    }
    let taken = list.taken.borrow();
    for partition in 0..PARTITIONS {
        let of = taken.iter().filter(|(of, _, _)| *of == partition as i32);
        let numbers: Vec<_> = of.map(|(_, number, _)| *number).collect();
        let expected: Vec<_> = (0..20).filter(|number| *number != REFUSED).collect();
        assert_eq!(numbers, expected);
    }
    // What librdkafka does not take is told, and holds nothing up.
    let given_up: Vec<_> = given_up
        .iter()
        .map(|(_, partition, token, code)| (*partition, *token, code.name()))
        .collect();
    assert_eq!(
        given_up,
        [
            (0, REFUSED as Token, "MSG_SIZE_TOO_LARGE"),
            (1, REFUSED as Token, "MSG_SIZE_TOO_LARGE")
        ]
    );
    assert_eq!(scene.direct.account.records(), 0);
}

#[test]
fn the_way_does_not_change_while_something_is_there() {
    let mut scene = Scene::new();
    scene.send(1);
    assert!(!scene.route.close(|| scene.book.is_empty()));
    assert!(scene.route.enter().is_some());
}

#[test]
fn records_do_not_wait_for_librdkafka_for_ever() {
    let scene = Scene::waiting();
    scene.route.begin(1);
    let list = List {
        room: Cell::new(usize::MAX),
        taken: RefCell::default(),
    };
    let mut director = scene.direct.director.lock();
    let mut look = |now_us| {
        let stage = Stage::Open {
            route: Arc::clone(&scene.route),
            book: Arc::clone(&scene.book),
            going_back: None,
            look_us: u64::MAX,
            waits_until_us: 100,
        };
        let given_up = &mut Vec::new();
        let direct = &scene.direct;
        direct.advance(stage, "t", now_us, &mut director, &list, given_up)
    };
    assert!(look(99).is_some());
    assert!(scene.book.is_waiting());
    assert!(look(100).is_some());
    assert!(scene.book.is_returning());
    assert!(look(101).is_none(), "it is librdkafka's again");
    assert!(scene.route.enter().is_none());
}
