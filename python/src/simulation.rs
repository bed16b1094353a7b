//! `_Simulation`: core's simulation of a group's member, for tests of handlers in virtual time. Private: `tidegate.testing` puts a face on it.

use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use tidegate::parallel::{LogRecord, Outcome, Simulation as Core, Ticket};

use crate::dispatcher::{Options, seconds, shown};
use crate::errors::OrRaise;
use crate::record::Record;

/// A record that is in the dead-letter topic: partition, offset, kind of error, its text, attempts.
type Letter = (i32, i64, String, String, u32);

/// A member of a group and its broker in virtual time, without threads: everything happens when a method says so.
#[pyclass(name = "_Simulation", module = "tidegate._core")]
pub(crate) struct Simulation {
    core: Core,
}

#[pymethods]
impl Simulation {
    /// Takes the options of `_Dispatcher` as keywords; `dead_letters`: what fails for good goes to a dead-letter topic.
    #[new]
    #[pyo3(signature = (*, topic=None, dead_letters=false, **options))]
    fn new(
        py: Python<'_>,
        topic: Option<&str>,
        dead_letters: bool,
        options: Option<Options>,
    ) -> PyResult<Simulation> {
        let options = options.unwrap_or_default().core();
        let mut core = Core::new(options, dead_letters).or_raise(py)?;
        if let Some(topic) = topic {
            core = core.with_topic(topic).or_raise(py)?;
        }
        Ok(Simulation { core })
    }

    /// Appends a record; gives its offset.
    #[pyo3(signature = (partition, key=None, value=None, headers=None, timestamp_ms=None))]
    fn produce(
        &mut self,
        partition: i32,
        key: Option<Vec<u8>>,
        value: Option<Vec<u8>>,
        headers: Option<Vec<(String, Option<Vec<u8>>)>>,
        timestamp_ms: Option<i64>,
    ) -> i64 {
        let record = LogRecord {
            key,
            value,
            headers: headers.unwrap_or_default(),
            timestamp_ms,
        };
        self.core.append(partition, record)
    }

    fn assign(&mut self, py: Python<'_>, partitions: Vec<i32>) -> PyResult<()> {
        self.core.assign(&partitions).or_raise(py)
    }

    fn begin_revoke(&mut self, partitions: Vec<i32>) {
        self.core.begin_revoke(&partitions);
    }

    fn is_drained(&self, partitions: Vec<i32>) -> bool {
        self.core.is_drained(&partitions)
    }

    fn end_revoke(&mut self, partitions: Vec<i32>) {
        self.core.end_revoke(&partitions);
    }

    fn lose(&mut self, partitions: Vec<i32>) {
        self.core.lose(&partitions);
    }

    /// The process dies, and another one begins with nothing assigned.
    fn crash(&mut self) {
        self.core.crash();
    }

    fn advance(&mut self, by: f64) -> PyResult<()> {
        self.core.advance(seconds(by)?);
        Ok(())
    }

    /// Seconds until time alone makes something happen.
    fn next_due(&self) -> Option<f64> {
        self.core.next_due().map(|due: Duration| due.as_secs_f64())
    }

    #[getter]
    fn now(&self) -> f64 {
        self.core.now().as_secs_f64()
    }

    /// Takes in what there is room for; gives how many records.
    fn fetch(&mut self) -> usize {
        self.core.fetch()
    }

    /// Fetches, and hands out up to `most` records as (ticket, attempts before, Record).
    fn take<'py>(&mut self, py: Python<'py>, most: usize) -> PyResult<Bound<'py, PyList>> {
        let list = PyList::empty(py);
        for work in self.core.take(most) {
            let Some(record) = work.batch.get_owned(work.row) else {
                continue;
            };
            let ticket = work.ticket.to_bits();
            list.append((ticket, work.attempts, Py::new(py, Record::new(record))?))?;
        }
        Ok(list)
    }

    fn settle(&mut self, tickets: Vec<u64>) {
        self.answer(tickets, &Outcome::Done);
    }

    fn give_back(&mut self, tickets: Vec<u64>) {
        self.answer(tickets, &Outcome::Unfinished);
    }

    #[pyo3(signature = (ticket, kind, text, is_retriable, retry_after=None))]
    fn fail(
        &mut self,
        ticket: u64,
        kind: String,
        text: String,
        is_retriable: bool,
        retry_after: Option<f64>,
    ) -> PyResult<()> {
        let after = retry_after.map(seconds).transpose()?;
        self.answer(
            vec![ticket],
            &Outcome::failed(kind, text, is_retriable, after),
        );
        Ok(())
    }

    /// Ends the processing with an error text.
    fn end_with(&mut self, text: String) {
        self.core.fail(tidegate::Error::Listener { context: text });
    }

    /// Gives back what waits and hands out nothing more.
    fn stop(&mut self) {
        self.core.stop();
    }

    /// Says what a record costs, for `rate_limit`.
    fn charge(&mut self, ticket: u64, cost: f64) -> PyResult<()> {
        if !(cost.is_finite() && cost >= 0.0) {
            return Err(PyValueError::new_err(format!("{cost} is no cost")));
        }
        self.core.charge(Ticket::from_bits(ticket), cost);
        Ok(())
    }

    /// Commits what is done; False while the broker does not answer.
    fn commit(&mut self) -> bool {
        self.core.commit()
    }

    fn set_commit_outage(&mut self, outage: bool) {
        self.core.set_commit_outage(outage);
    }

    /// The broker takes commits, and its answers are lost.
    fn set_answers_lost(&mut self, lost: bool) {
        self.core.set_answers_lost(lost);
    }

    /// The offset that the group has committed of a partition, and its metadata.
    fn committed(&self, partition: i32) -> Option<(i64, Option<String>)> {
        let (offset, metadata) = self.core.committed(partition)?;
        Some((offset, metadata.map(str::to_string)))
    }

    #[pyo3(signature = (partition, offset, metadata=None))]
    fn set_committed(&mut self, partition: i32, offset: i64, metadata: Option<&str>) {
        self.core.set_committed(partition, offset, metadata);
    }

    fn hold_dead_letters(&mut self, hold: bool) {
        self.core.hold_dead_letters(hold);
    }

    /// Of what a copy was to go to the dead-letter topic.
    fn letters_begun(&self) -> Vec<(i32, i64)> {
        self.core.letters_begun().to_vec()
    }

    /// What the dead-letter topic has confirmed.
    fn dead_letters(&self) -> Vec<Letter> {
        let letters = self.core.dead_letters().iter();
        letters
            .map(|letter| {
                (
                    letter.partition,
                    letter.offset,
                    letter.kind.clone(),
                    letter.text.clone(),
                    letter.attempts,
                )
            })
            .collect()
    }

    fn ledger<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        shown(py, self.core.ledger())
    }

    #[getter]
    fn in_flight_limit(&self) -> usize {
        self.core.in_flight_limit()
    }

    #[getter]
    fn maps_left_out(&self) -> u64 {
        self.core.maps_left_out()
    }

    /// What has ended the processing, as text.
    #[getter]
    fn failure(&self) -> Option<String> {
        self.core.failure().map(ToString::to_string)
    }

    /// What the log would say.
    #[getter]
    fn lines(&self) -> Vec<String> {
        self.core.lines().to_vec()
    }
}

impl Simulation {
    fn answer(&mut self, tickets: Vec<u64>, outcome: &Outcome) {
        let tickets = tickets.into_iter().map(Ticket::from_bits);
        self.core
            .settle(tickets.map(|ticket| (ticket, outcome.clone())));
    }
}
