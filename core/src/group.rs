//! Who a consumer is in its group, as a transactional producer has to say it to commit for that consumer.
//!
//! L0; plain data, any thread.

use std::fmt;

/// What librdkafka's form begins with; then comes the generation, in the machine's own order of bytes.
const MAGIC: &[u8] = b"CGMDv2:";

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

    /// The generation of the group; negative while the consumer is no member, or of no group that assigns. `None` when these are no
    /// bytes of librdkafka's.
    pub(crate) fn generation(&self) -> Option<i32> {
        let number = self.0.strip_prefix(MAGIC)?.first_chunk::<4>()?;
        Some(i32::from_ne_bytes(*number))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generation_is_read_from_librdkafkas_form() {
        let with = |number: i32| {
            let bytes = [MAGIC, &number.to_ne_bytes(), b"group\0member\0\x01"].concat();
            GroupMetadata::from_bytes(&bytes).generation()
        };
        assert_eq!((with(7), with(-1)), (Some(7), Some(-1)));
        assert_eq!(GroupMetadata::from_bytes(b"CGMDv2:").generation(), None);
        assert_eq!(GroupMetadata::from_bytes(b"nonsense").generation(), None);
    }
}
