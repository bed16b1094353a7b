//! Which partition a key belongs to, as Kafka's clients agree on it.
//!
//! L0; any thread, nothing is kept. The same numbers as librdkafka's partitioners of these names and, for [`murmur2`], as the Java
//! client's default one: a program that looks for the partition of a key before it sends must find the one the producer takes.

/// The partition of `key` by the Java client's murmur2; librdkafka's `partitioner=murmur2`.
///
/// ```
/// use std::num::NonZeroU32;
///
/// let partitions = NonZeroU32::new(7).unwrap();
/// assert_eq!(tidegate::partitioner::murmur2(b"abc", partitions), 4);
/// ```
#[must_use]
pub fn murmur2(key: &[u8], partitions: std::num::NonZeroU32) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const MULTIPLIER: u32 = 0x5bd1_e995;
    const SHIFT: u32 = 24;
    /// Java's numbers have a sign; the partitioner takes it away.
    const POSITIVE: u32 = 0x7fff_ffff;
    // The length enters as Java's int.
    #[expect(clippy::cast_possible_truncation)]
    let mut hash = SEED ^ (key.len() as u32);
    let mut words = key.chunks_exact(4);
    for word in &mut words {
        let mut part = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        part = part.wrapping_mul(MULTIPLIER);
        part ^= part >> SHIFT;
        part = part.wrapping_mul(MULTIPLIER);
        hash = hash.wrapping_mul(MULTIPLIER) ^ part;
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        for (place, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * place);
        }
        hash = hash.wrapping_mul(MULTIPLIER);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(MULTIPLIER);
    hash ^= hash >> 15;
    (hash & POSITIVE) % partitions
}

/// The partition of `key` by CRC-32; librdkafka's `partitioner=consistent`, and its default for records with a key.
#[must_use]
pub fn consistent(key: &[u8], partitions: std::num::NonZeroU32) -> u32 {
    /// The reflected polynomial of IEEE 802.3.
    const POLYNOMIAL: u32 = 0xedb8_8320;
    const TABLE: [u32; 256] = {
        let mut table = [0_u32; 256];
        let mut byte = 0_usize;
        while byte < table.len() {
            #[expect(clippy::cast_possible_truncation)]
            let mut value = byte as u32;
            let mut bit = 0;
            while bit < 8 {
                value = if value & 1 == 1 {
                    (value >> 1) ^ POLYNOMIAL
                } else {
                    value >> 1
                };
                bit += 1;
            }
            table[byte] = value;
            byte += 1;
        }
        table
    };
    let crc = key.iter().fold(u32::MAX, |crc, byte| {
        TABLE[usize::from(crc.to_le_bytes()[0] ^ byte)] ^ (crc >> 8)
    });
    !crc % partitions
}

/// The partition of `key` by FNV-1a; librdkafka's `partitioner=fnv1a`, which is Sarama's default.
#[must_use]
pub fn fnv1a(key: &[u8], partitions: std::num::NonZeroU32) -> u32 {
    const START: u32 = 0x811c_9dc5;
    const PRIME: u32 = 0x0100_0193;
    let hash = key.iter().fold(START, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(PRIME)
    });
    // Sarama's hash has a sign.
    let hash = hash.cast_signed();
    hash.unsigned_abs() % partitions
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU32;

    #[test]
    fn the_numbers_are_those_of_the_other_clients() {
        let seven = NonZeroU32::new(7).unwrap();
        assert_eq!(murmur2(b"abc", seven), 4);
        assert_eq!(murmur2(b"", seven), 2);
        assert_eq!(consistent(b"abc", seven), 5);
        assert_eq!(consistent(b"", seven), 0);
        assert_eq!(fnv1a(b"abc", seven), 5);
    }

    #[test]
    fn crc32_is_the_common_one() {
        let whole = NonZeroU32::MAX;
        // The check value of CRC-32/ISO-HDLC.
        assert_eq!(consistent(b"123456789", whole), 0xcbf4_3926);
    }
}
