//! The callbacks of a `tidegate.confluent.Consumer`, and what they raised.
//!
//! All run on the thread that polls or closes, inside that call; what one raises comes out of it as it was raised.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use parking_lot::Mutex;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyWeakrefReference;
use tidegate::{Error, Offset, PartitionReply, RebalanceListener, TopicPartition};

use super::consumer::Consumer;
use super::parts;
use crate::lifecycle::with_python;

/// The functions that an application gave.
#[derive(Default)]
pub(crate) struct Functions {
    pub(crate) on_assign: Option<Py<PyAny>>,
    pub(crate) on_revoke: Option<Py<PyAny>>,
    pub(crate) on_lost: Option<Py<PyAny>>,
    pub(crate) on_commit: Option<Py<PyAny>>,
    pub(crate) error: Option<Py<PyAny>>,
    pub(crate) stats: Option<Py<PyAny>>,
    pub(crate) throttle: Option<Py<PyAny>>,
    pub(crate) oauth: Option<Py<PyAny>>,
    pub(crate) logger: Option<Py<PyAny>>,
}

/// Which rebalance callback runs, for the calls in it that mean the rebalance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Inside {
    Nothing = 0,
    Assign = 1,
    Revoke = 2,
}

/// What `on_assign` did before it assigned, and whether it has.
#[derive(Default)]
struct Assigning {
    /// Where a commit says that partitions begin.
    committed: Vec<(TopicPartition, i64)>,
    has_assigned: bool,
}

/// The functions of one consumer, and what one of them raised.
pub(crate) struct Callbacks {
    functions: Mutex<Functions>,
    raised: Mutex<Option<PyErr>>,
    inside: AtomicU8,
    assigning: Mutex<Assigning>,
    /// The Python object, which the callbacks get.
    consumer: Py<PyWeakrefReference>,
}

impl Callbacks {
    pub(crate) fn new(functions: Functions, consumer: Py<PyWeakrefReference>) -> Callbacks {
        Callbacks {
            functions: Mutex::new(functions),
            raised: Mutex::new(None),
            inside: AtomicU8::new(Inside::Nothing as u8),
            assigning: Mutex::default(),
            consumer,
        }
    }

    /// Sets the three of a subscription.
    pub(crate) fn set_rebalance(&self, new: [Option<Py<PyAny>>; 3]) {
        let [assign, revoke, lost] = new;
        let old = {
            let mut functions = self.functions.lock();
            [
                std::mem::replace(&mut functions.on_assign, assign),
                std::mem::replace(&mut functions.on_revoke, revoke),
                std::mem::replace(&mut functions.on_lost, lost),
            ]
        };
        // Outside of the lock: that may run Python code.
        drop(old);
    }

    /// The function that `choose` finds.
    pub(crate) fn get(
        &self,
        py: Python<'_>,
        choose: impl Fn(&Functions) -> Option<&Py<PyAny>>,
    ) -> Option<Py<PyAny>> {
        choose(&self.functions.lock()).map(|function| function.clone_ref(py))
    }

    pub(crate) fn inside(&self) -> Inside {
        match self.inside.load(Ordering::SeqCst) {
            1 => Inside::Assign,
            2 => Inside::Revoke,
            _ => Inside::Nothing,
        }
    }

    /// `on_assign` runs and has not assigned yet: for librdkafka nothing is assigned, and it will ask where to begin.
    pub(crate) fn is_before_assign(&self) -> bool {
        self.inside() == Inside::Assign && !self.assigning.lock().has_assigned
    }

    /// A commit while that is so says where to begin.
    pub(crate) fn note_commit(&self, offsets: &[PartitionReply]) {
        if self.is_before_assign() {
            let offsets = offsets.iter().filter(|offset| offset.offset >= 0);
            let starts = offsets.map(|offset| (offset.topic_partition(), offset.offset));
            self.assigning.lock().committed.extend(starts);
        }
    }

    /// A seek after it says otherwise.
    pub(crate) fn note_seek(&self, partition: &TopicPartition) {
        if self.is_before_assign() {
            let mut assigning = self.assigning.lock();
            assigning.committed.retain(|(name, _)| name != partition);
        }
    }

    /// `on_assign` assigns now: where a commit in it says that partitions begin, the newest last.
    pub(crate) fn begin_assign(&self) -> Vec<(TopicPartition, i64)> {
        let mut assigning = self.assigning.lock();
        assigning.has_assigned = true;
        std::mem::take(&mut assigning.committed)
    }

    /// What a callback raised and nobody has been told.
    pub(crate) fn take_raised(&self) -> Option<PyErr> {
        self.raised.lock().take()
    }

    pub(crate) fn clear(&self) {
        let functions = std::mem::take(&mut *self.functions.lock());
        drop(functions);
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        // The collector may run while another thread holds the lock; what is not visited is not collected.
        if let Some(functions) = self.functions.try_lock() {
            visit.call(&functions.on_assign)?;
            visit.call(&functions.on_revoke)?;
            visit.call(&functions.on_lost)?;
            visit.call(&functions.on_commit)?;
            visit.call(&functions.error)?;
            visit.call(&functions.stats)?;
            visit.call(&functions.throttle)?;
            visit.call(&functions.oauth)?;
            visit.call(&functions.logger)?;
        }
        Ok(())
    }

    fn rebalance(
        &self,
        name: &str,
        inside: Inside,
        partitions: &[TopicPartition],
        choose: impl Fn(&Functions) -> Option<&Py<PyAny>>,
    ) -> tidegate::Result<()> {
        let outcome = with_python(|py| {
            let Some(function) = self.get(py, choose) else {
                return Ok(());
            };
            let Some(consumer) = self.consumer.bind(py).upgrade() else {
                // Being collected: nobody is there to be told.
                return Ok(());
            };
            self.inside.store(inside as u8, Ordering::SeqCst);
            *self.assigning.lock() = Assigning::default();
            let called = parts::list_of_names(py, partitions)
                .and_then(|list| function.call1(py, (&consumer, list)))
                .and_then(|_| match self.is_before_assign() {
                    true => begin_where_committed(py, &consumer, partitions, &self.begin_assign()),
                    false => Ok(()),
                });
            self.inside.store(Inside::Nothing as u8, Ordering::SeqCst);
            called.map_err(|raised| {
                let context = format!("{name} failed: {raised}");
                *self.raised.lock() = Some(raised);
                Error::Listener { context }
            })
        });
        // When the interpreter is going there is nobody to call.
        outcome.unwrap_or(Ok(()))
    }
}

/// A callback that has committed and not assigned: librdkafka would look where to begin now.
fn begin_where_committed(
    py: Python<'_>,
    consumer: &Bound<'_, PyAny>,
    partitions: &[TopicPartition],
    committed: &[(TopicPartition, i64)],
) -> PyResult<()> {
    let starts: Vec<_> = partitions
        .iter()
        .filter_map(|partition| {
            let newest = committed.iter().rev().find(|(name, _)| name == partition)?;
            Some((partition.clone(), Offset::At(newest.1)))
        })
        .collect();
    match starts.is_empty() {
        true => Ok(()),
        false => consumer.cast::<Consumer>()?.get().begin_at(py, &starts),
    }
}

/// What the engine calls.
pub(crate) struct Listener(pub(crate) Arc<Callbacks>);

impl RebalanceListener for Listener {
    fn on_assign(&self, partitions: &[TopicPartition]) -> tidegate::Result<()> {
        self.0
            .rebalance("on_assign", Inside::Assign, partitions, |functions| {
                functions.on_assign.as_ref()
            })
    }

    fn on_revoke(&self, partitions: &[TopicPartition]) -> tidegate::Result<()> {
        self.0
            .rebalance("on_revoke", Inside::Revoke, partitions, |functions| {
                functions.on_revoke.as_ref()
            })
    }

    fn on_lost(&self, partitions: &[TopicPartition]) -> tidegate::Result<()> {
        self.0
            .rebalance("on_lost", Inside::Revoke, partitions, |functions| {
                functions.on_lost.as_ref().or(functions.on_revoke.as_ref())
            })
    }
}
