//! Which partition a record goes to: librdkafka's partitioners, so that a topic's keys stay where they are when it is sent to
//! directly.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::partitioner;

/// librdkafka's `partitioner`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Partitioner {
    Random,
    Consistent,
    ConsistentRandom,
    Murmur2,
    Murmur2Random,
    Fnv1a,
    Fnv1aRandom,
}

impl Partitioner {
    /// By its name in the configuration.
    pub(super) fn named(name: &str) -> Option<Partitioner> {
        Some(match name {
            "random" => Partitioner::Random,
            "consistent" => Partitioner::Consistent,
            "consistent_random" => Partitioner::ConsistentRandom,
            "murmur2" => Partitioner::Murmur2,
            "murmur2_random" => Partitioner::Murmur2Random,
            "fnv1a" => Partitioner::Fnv1a,
            "fnv1a_random" => Partitioner::Fnv1aRandom,
            _ => return None,
        })
    }
}

/// The partition for any key of a topic.
#[derive(Debug)]
pub(super) struct Choice {
    partitioner: Partitioner,
    partitions: NonZeroU32,
    /// How long records without a key stay with one partition; 0 for no time.
    sticky_us: u64,
    sticky: AtomicU32,
    sticky_until_us: AtomicU64,
    dice: AtomicU64,
}

impl Choice {
    pub(super) fn new(
        partitioner: Partitioner,
        partitions: NonZeroU32,
        sticky_us: u64,
        seed: u64,
    ) -> Choice {
        Choice {
            partitioner,
            partitions,
            sticky_us,
            sticky: AtomicU32::new(0),
            sticky_until_us: AtomicU64::new(0),
            dice: AtomicU64::new(seed),
        }
    }

    #[inline]
    pub(super) fn partition(&self, key: Option<&[u8]>, now_us: u64) -> u32 {
        use Partitioner as P;
        let some = key.unwrap_or(&[]);
        match self.partitioner {
            P::ConsistentRandom if some.is_empty() => self.any(true, now_us),
            P::Murmur2Random | P::Fnv1aRandom if key.is_none() => self.any(true, now_us),
            P::Random => self.any(key.is_none(), now_us),
            P::Consistent | P::ConsistentRandom => partitioner::consistent(some, self.partitions),
            P::Murmur2 | P::Murmur2Random => partitioner::murmur2(some, self.partitions),
            P::Fnv1a | P::Fnv1aRandom => partitioner::fnv1a(some, self.partitions),
        }
    }

    fn any(&self, may_stick: bool, now_us: u64) -> u32 {
        if !may_stick || self.sticky_us == 0 {
            return self.roll();
        }
        if now_us >= self.sticky_until_us.load(Ordering::Relaxed) {
            self.sticky_until_us
                .store(now_us + self.sticky_us, Ordering::Relaxed);
            self.sticky.store(self.roll(), Ordering::Relaxed);
        }
        self.sticky.load(Ordering::Relaxed)
    }

    /// Evenly enough: splitmix64.
    fn roll(&self) -> u32 {
        let mut dice = self
            .dice
            .fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        dice = (dice ^ dice >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        dice = (dice ^ dice >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((dice ^ dice >> 31) % u64::from(self.partitions.get())) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(partitioner: Partitioner, sticky_us: u64) -> Choice {
        Choice::new(
            partitioner,
            NonZeroU32::new(7).expect("seven"),
            sticky_us,
            1,
        )
    }

    #[test]
    fn a_key_stays_where_librdkafka_puts_it() {
        let seven = NonZeroU32::new(7).expect("seven");
        let by_name = |name| choice(Partitioner::named(name).expect("known"), 10);
        for key in [&b"a"[..], b"camera-7", b"\0\xff"] {
            for name in ["consistent", "consistent_random"] {
                let expected = partitioner::consistent(key, seven);
                assert_eq!(by_name(name).partition(Some(key), 0), expected);
            }
            for name in ["murmur2", "murmur2_random"] {
                let expected = partitioner::murmur2(key, seven);
                assert_eq!(by_name(name).partition(Some(key), 0), expected);
            }
            for name in ["fnv1a", "fnv1a_random"] {
                let expected = partitioner::fnv1a(key, seven);
                assert_eq!(by_name(name).partition(Some(key), 0), expected);
            }
        }
        // As if the key were empty.
        for (name, hash) in [
            (
                "consistent",
                partitioner::consistent as fn(&[u8], NonZeroU32) -> u32,
            ),
            ("murmur2", partitioner::murmur2),
            ("fnv1a", partitioner::fnv1a),
        ] {
            assert_eq!(by_name(name).partition(None, 0), hash(b"", seven), "{name}");
        }
        assert!(Partitioner::named("another").is_none());
    }

    #[test]
    fn without_a_key_a_partition_is_kept_for_a_while_and_all_have_their_turn() {
        let sticky = choice(Partitioner::ConsistentRandom, 10);
        let mut seen = [0; 7];
        for round in 0..700 {
            let first = sticky.partition(None, round * 10);
            for us in 1..10 {
                assert_eq!(sticky.partition(Some(b""), round * 10 + us), first);
            }
            seen[first as usize] += 1;
        }
        assert!(
            seen.iter().all(|count| (50..150).contains(count)),
            "{seen:?}"
        );
        let restless = choice(Partitioner::Murmur2Random, 0);
        let rolls: Vec<_> = (0..20).map(|_| restless.partition(None, 0)).collect();
        assert!(rolls.iter().any(|roll| *roll != rolls[0]), "{rolls:?}");
    }
}
