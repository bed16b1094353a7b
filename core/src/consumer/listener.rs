//! What an application hears of rebalances.

use crate::error::Result;
use crate::partition::TopicPartition;

/// Hears of rebalances, on the thread that polls (or closes) the consumer.
///
/// An error comes out of that call as [`Error::Listener`]; the rebalance goes on. The callbacks may call the consumer,
/// except its polling calls, which answer [`Error::ConcurrentUse`].
///
/// [`Error::Listener`]: crate::Error::Listener
/// [`Error::ConcurrentUse`]: crate::Error::ConcurrentUse
pub trait RebalanceListener: Send + Sync {
    /// These partitions were added. Seeking in here takes effect before any record of them is handed out.
    ///
    /// # Errors
    ///
    /// Whatever the application wants to come out of its poll.
    fn on_assign(&self, partitions: &[TopicPartition]) -> Result<()> {
        let _ = partitions;
        Ok(())
    }

    /// These partitions are about to be taken away; committing for them still works. What is finished is committed
    /// after this returns (with `enable.auto.commit`).
    ///
    /// # Errors
    ///
    /// Whatever the application wants to come out of its poll.
    fn on_revoke(&self, partitions: &[TopicPartition]) -> Result<()> {
        let _ = partitions;
        Ok(())
    }

    /// These partitions are gone, and may have a new owner; commits for them fail.
    ///
    /// # Errors
    ///
    /// Whatever the application wants to come out of its poll.
    fn on_lost(&self, partitions: &[TopicPartition]) -> Result<()> {
        let _ = partitions;
        Ok(())
    }

    /// The end of a partition was fetched (only with `enable.partition.eof`); `offset` is the next one to be written.
    /// Records before it may still wait to be handed out.
    ///
    /// # Errors
    ///
    /// Whatever the application wants to come out of its poll.
    fn on_partition_eof(&self, partition: &TopicPartition, offset: i64) -> Result<()> {
        let _ = (partition, offset);
        Ok(())
    }
}
