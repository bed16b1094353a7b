//! Rebalance callbacks: Python functions behind the engine's listener.
//!
//! The engine runs them on the thread that polls or closes. What one raises is kept here, and comes out of that very call
//! as it was raised.

use std::sync::Arc;

use parking_lot::Mutex;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use tidegate::{Error, RebalanceListener, TopicPartition};

use crate::errors::raise;
use crate::lifecycle::with_python;
use crate::partition;

/// The three functions.
#[derive(Default)]
pub(crate) struct Functions {
    pub(crate) on_assign: Option<Py<PyAny>>,
    pub(crate) on_revoke: Option<Py<PyAny>>,
    pub(crate) on_lost: Option<Py<PyAny>>,
}

impl Functions {
    pub(crate) fn any(&self) -> bool {
        self.on_assign.is_some() || self.on_revoke.is_some() || self.on_lost.is_some()
    }
}

/// The functions of one consumer, and what one of them raised.
#[derive(Default)]
pub(crate) struct Callbacks {
    functions: Mutex<Functions>,
    raised: Mutex<Option<PyErr>>,
}

impl Callbacks {
    pub(crate) fn set(&self, functions: Functions) {
        // Dropped outside of the lock: that may run Python code.
        drop(std::mem::replace(&mut *self.functions.lock(), functions));
    }

    /// The exception for an error of a polling call: the callback's own, where it was one.
    pub(crate) fn raise(&self, py: Python<'_>, error: &Error) -> PyErr {
        if matches!(error, Error::Listener { .. })
            && let Some(raised) = self.take_raised()
        {
            return raised;
        }
        raise(py, error)
    }

    /// What a callback raised and nobody has been told.
    pub(crate) fn take_raised(&self) -> Option<PyErr> {
        self.raised.lock().take()
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        // The collector may run while another thread holds the lock; what is not visited is not collected.
        if let Some(functions) = self.functions.try_lock() {
            visit.call(&functions.on_assign)?;
            visit.call(&functions.on_revoke)?;
            visit.call(&functions.on_lost)?;
        }
        Ok(())
    }
}

/// What the engine calls.
pub(crate) struct Listener(pub(crate) Arc<Callbacks>);

impl Listener {
    fn call(
        &self,
        name: &str,
        partitions: &[TopicPartition],
        choose: impl Fn(&Functions) -> Option<&Py<PyAny>>,
    ) -> tidegate::Result<()> {
        let outcome = with_python(|py| {
            let function = choose(&self.0.functions.lock()).map(|function| function.clone_ref(py));
            let Some(function) = function else {
                return Ok(());
            };
            let called = partition::list(py, partitions.iter().cloned())
                .and_then(|list| function.call1(py, (list,)));
            called.map(drop).map_err(|raised| {
                let context = format!("{name} failed: {raised}");
                *self.0.raised.lock() = Some(raised);
                Error::Listener { context }
            })
        });
        // When the interpreter is going there is nobody to call.
        outcome.unwrap_or(Ok(()))
    }
}

impl RebalanceListener for Listener {
    fn on_assign(&self, partitions: &[TopicPartition]) -> tidegate::Result<()> {
        self.call("on_assign", partitions, |functions| {
            functions.on_assign.as_ref()
        })
    }

    fn on_revoke(&self, partitions: &[TopicPartition]) -> tidegate::Result<()> {
        self.call("on_revoke", partitions, |functions| {
            functions.on_revoke.as_ref()
        })
    }

    fn on_lost(&self, partitions: &[TopicPartition]) -> tidegate::Result<()> {
        self.call("on_lost", partitions, |functions| {
            functions.on_lost.as_ref().or(functions.on_revoke.as_ref())
        })
    }
}
