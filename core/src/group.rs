//! Who a consumer is in its group, as a transactional producer has to say it to commit for that consumer.
//!
//! L0; plain data, any thread.

use std::fmt;

/// A consumer's membership of its group at one moment: group, generation, member and instance.
///
/// [`Consumer::group_metadata`](crate::Consumer::group_metadata) gives it,
/// [`Producer::send_offsets_to_transaction`](crate::Producer::send_offsets_to_transaction) takes it, and the broker refuses
/// one of an earlier generation. It is librdkafka's own form, so that it can travel between processes and bindings.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct GroupMetadata(Box<[u8]>);

impl GroupMetadata {
    /// From the bytes that [`GroupMetadata::as_bytes`] gave, here or in another binding of librdkafka. They are looked at when
    /// they are used.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> GroupMetadata {
        GroupMetadata(bytes.into())
    }

    /// librdkafka's form of it.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for GroupMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GroupMetadata({} bytes)", self.0.len())
    }
}
