//! What is done above a committed offset, as text for the commit's metadata: the successor of a consumer that died need not do it
//! again.
//!
//! L1; pure functions, any thread. The text says itself what it is: `tgmap1:` (magic and version), then, in base64 for URLs without
//! padding: one byte for the form, the committed offset that it belongs to (*base*), the leader epoch that the records were written
//! under at the latest, the body, and a CRC-32 of all that. Numbers are LEB128. Of three forms the shortest is taken:
//! - `gaps`: how far the map reaches, then the offsets that are not done, each as the distance from the one before;
//! - `runs`: how many are not done, how many are, and so on in turn;
//! - `bits`: a bit per offset from the base on, lowest first.
//!
//! What is not such a text, or is damaged, is an error and never a wrong map: whoever reads it ignores it, and replays.

use std::fmt;
use std::ops::Range;

#[path = "offset_map/text.rs"]
mod text;

use text::{base64, crc32, push_varint, unbase64, varint, varint_length};

/// What every map's text begins with: magic and version.
const PREFIX: &str = "tgmap1:";
/// What a map of any version begins with.
const MAGIC: &str = "tgmap";
/// Longer texts are none of ours: no broker is configured for that.
pub const LONGEST_MAP_BYTES: usize = 65_536;
const CRC_BYTES: usize = 4;

const GAPS: u8 = 1;
const RUNS: u8 = 2;
const BITS: u8 = 3;

/// Offsets that are done above a committed one.
///
/// ```
/// use tidegate::parallel::OffsetMap;
///
/// // What `process()` leaves as metadata of a committed offset; 7 itself is not done.
/// # let text = OffsetMap::from_done(7, None, [8..1_000]).encode(4096).unwrap_or_default();
/// let map = OffsetMap::decode(&text)?;
/// assert_eq!((map.base(), map.count(), map.end()), (7, 992, 1_000));
/// assert!(map.contains(999) && !map.contains(7));
/// # Ok::<(), tidegate::parallel::OffsetMapError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetMap {
    base: i64,
    leader_epoch: Option<i32>,
    done: Vec<Range<i64>>,
}

/// Why a text is no map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OffsetMapError {
    /// It is something else: another program's metadata.
    Foreign,
    /// It is a map of another version of Tidegate.
    Version,
    /// It was a map; this is what is wrong with it.
    Damaged(&'static str),
}

impl fmt::Display for OffsetMapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OffsetMapError::Foreign => f.write_str("this is no offset map of Tidegate"),
            OffsetMapError::Version => {
                f.write_str("this offset map was written by another version of Tidegate")
            }
            OffsetMapError::Damaged(what) => write!(f, "this offset map is damaged: {what}"),
        }
    }
}

impl std::error::Error for OffsetMapError {}

impl OffsetMap {
    /// The map of `done` ranges above `base`, in any order; what lies at or below the base is left out.
    #[must_use]
    pub fn from_done(
        base: i64,
        leader_epoch: Option<i32>,
        done: impl IntoIterator<Item = Range<i64>>,
    ) -> OffsetMap {
        let base = base.max(0);
        let mut ranges: Vec<Range<i64>> = done
            .into_iter()
            .map(|range| range.start.max(base + 1)..range.end)
            .filter(|range| range.start < range.end)
            .collect();
        ranges.sort_by_key(|range| range.start);
        let mut joined: Vec<Range<i64>> = Vec::with_capacity(ranges.len());
        for range in ranges {
            match joined.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => joined.push(range),
            }
        }
        OffsetMap {
            base,
            leader_epoch: leader_epoch.filter(|epoch| *epoch >= 0),
            done: joined,
        }
    }

    /// The committed offset that the map belongs to: the first record that is not done.
    #[must_use]
    pub fn base(&self) -> i64 {
        self.base
    }

    /// The latest leader epoch that a record of the map may have been written under: one of a later epoch is another record, of a
    /// log that was truncated. `None` when the broker did not say.
    #[must_use]
    pub fn leader_epoch(&self) -> Option<i32> {
        self.leader_epoch
    }

    /// What is done, in order; no two ranges touch.
    #[must_use]
    pub fn done(&self) -> &[Range<i64>] {
        &self.done
    }

    /// How many offsets are done.
    #[must_use]
    pub fn count(&self) -> i64 {
        self.done.iter().map(|range| range.end - range.start).sum()
    }

    /// Behind the last offset that is done; the base when there is none.
    #[must_use]
    pub fn end(&self) -> i64 {
        self.done.last().map_or(self.base, |range| range.end)
    }

    /// True when this offset is done.
    #[must_use]
    pub fn contains(&self, offset: i64) -> bool {
        let index = self.done.partition_point(|range| range.end <= offset);
        self.done
            .get(index)
            .is_some_and(|range| range.start <= offset)
    }

    /// The shortest text that says all this; `None` when it is longer than `limit_bytes`, or nothing is done.
    #[must_use]
    pub fn encode(&self, limit_bytes: usize) -> Option<String> {
        if self.done.is_empty() {
            return None;
        }
        let (form, body_bytes) = self.shortest();
        if text_bytes(self.head_bytes() + body_bytes) > limit_bytes.min(LONGEST_MAP_BYTES) {
            return None;
        }
        let mut bytes = Vec::with_capacity(self.head_bytes() + body_bytes + CRC_BYTES);
        bytes.push(form);
        push_varint(&mut bytes, self.base as u64);
        push_varint(&mut bytes, self.epoch_number());
        match form {
            GAPS => self.push_gaps(&mut bytes),
            RUNS => self.push_runs(&mut bytes),
            _ => self.push_bits(&mut bytes),
        }
        let crc = crc32(&[PREFIX.as_bytes(), &bytes]);
        bytes.extend_from_slice(&crc.to_le_bytes());
        let mut text = String::with_capacity(text_bytes(bytes.len()));
        text.push_str(PREFIX);
        base64(&bytes, &mut text);
        Some(text)
    }

    /// How long the text of [`OffsetMap::encode`] is.
    #[must_use]
    pub fn encoded_bytes(&self) -> usize {
        if self.done.is_empty() {
            return 0;
        }
        text_bytes(self.head_bytes() + self.shortest().1)
    }

    /// Reads a text of [`OffsetMap::encode`].
    ///
    /// # Errors
    ///
    /// [`OffsetMapError`] for anything else.
    pub fn decode(text: &str) -> Result<OffsetMap, OffsetMapError> {
        use OffsetMapError::{Damaged, Foreign, Version};
        let Some(coded) = text.strip_prefix(PREFIX) else {
            return Err(match text.starts_with(MAGIC) {
                true => Version,
                false => Foreign,
            });
        };
        if text.len() > LONGEST_MAP_BYTES {
            return Err(Damaged("it is too long"));
        }
        let bytes = unbase64(coded).ok_or(Damaged("it is not base64"))?;
        let Some((bytes, crc)) = bytes.split_last_chunk::<CRC_BYTES>() else {
            return Err(Damaged("its end is missing"));
        };
        if crc32(&[PREFIX.as_bytes(), bytes]) != u32::from_le_bytes(*crc) {
            return Err(Damaged("its checksum is wrong"));
        }
        read(bytes).ok_or(Damaged("it contradicts itself"))
    }

    fn epoch_number(&self) -> u64 {
        self.leader_epoch.map_or(0, |epoch| epoch as u64 + 1)
    }

    fn head_bytes(&self) -> usize {
        1 + varint_length(self.base as u64) + varint_length(self.epoch_number())
    }

    /// What is not done and what is, in turn: the lengths of both, from the base on.
    fn turns(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let mut from = self.base;
        self.done.iter().map(move |range| {
            let lengths = (
                (range.start - from) as u64,
                (range.end - range.start) as u64,
            );
            from = range.end;
            lengths
        })
    }

    /// The shortest form, and how long its body is.
    fn shortest(&self) -> (u8, usize) {
        let span = (self.end() - self.base) as u64;
        let (mut runs, mut gaps, mut before) = (0_usize, varint_length(span), 0);
        for (open, done) in self.turns() {
            runs += varint_length(open) + varint_length(done);
            // The first of them tells the distance, the others follow at once.
            gaps = gaps.saturating_add(varint_length(before) + (open - 1) as usize);
            before = done;
        }
        let bits = usize::try_from(span.div_ceil(8)).unwrap_or(usize::MAX);
        [(GAPS, gaps), (RUNS, runs), (BITS, bits)]
            .into_iter()
            .min_by_key(|(_, bytes)| *bytes)
            .unwrap_or((RUNS, runs))
    }

    fn push_gaps(&self, bytes: &mut Vec<u8>) {
        push_varint(bytes, (self.end() - self.base) as u64);
        let mut before = 0;
        for (open, done) in self.turns() {
            push_varint(bytes, before);
            bytes.extend((1..open).map(|_| 0));
            before = done;
        }
    }

    fn push_runs(&self, bytes: &mut Vec<u8>) {
        for (open, done) in self.turns() {
            push_varint(bytes, open);
            push_varint(bytes, done);
        }
    }

    fn push_bits(&self, bytes: &mut Vec<u8>) {
        let first = bytes.len();
        let span = (self.end() - self.base) as usize;
        bytes.resize(first + span.div_ceil(8), 0);
        for range in &self.done {
            for bit in range.start - self.base..range.end - self.base {
                bytes[first + bit as usize / 8] |= 1 << (bit % 8);
            }
        }
    }
}

/// How long the text of so many bytes is, without the checksum's.
fn text_bytes(bytes: usize) -> usize {
    PREFIX.len() + ((bytes + CRC_BYTES) * 4).div_ceil(3)
}

/// The map of checked bytes; `None` when they make none.
fn read(mut bytes: &[u8]) -> Option<OffsetMap> {
    let (&form, rest) = bytes.split_first()?;
    bytes = rest;
    let base = i64::try_from(varint(&mut bytes)?).ok()?;
    let leader_epoch = match varint(&mut bytes)? {
        0 => None,
        number => Some(i32::try_from(number - 1).ok()?),
    };
    let mut done: Vec<Range<i64>> = Vec::new();
    let on = |from: i64, by: u64| from.checked_add(i64::try_from(by).ok()?);
    match form {
        GAPS => {
            let end = on(base, varint(&mut bytes)?)?;
            let mut from = base;
            while !bytes.is_empty() {
                let open = on(from, varint(&mut bytes)?)?;
                if from < open {
                    done.push(from..open);
                }
                from = on(open, 1)?;
            }
            if from >= end {
                return None;
            }
            done.push(from..end);
        }
        RUNS => {
            let mut from = base;
            while !bytes.is_empty() {
                let start = on(from, varint(&mut bytes)?)?;
                from = on(start, varint(&mut bytes)?)?;
                done.push(start..from);
            }
        }
        BITS => {
            for (index, byte) in bytes.iter().enumerate() {
                let first = on(base, index as u64 * 8)?;
                let set = (0..8).filter(|bit| byte & (1 << bit) != 0);
                for offset in set.map_while(|bit| on(first, bit)) {
                    match done.last_mut() {
                        Some(last) if last.end == offset => last.end = on(offset, 1)?,
                        _ => done.push(offset..on(offset, 1)?),
                    }
                }
            }
        }
        _ => return None,
    }
    // The base is what is not done, and every range holds something and touches no other.
    let in_order = done.windows(2).all(|pair| pair[0].end < pair[1].start)
        && done.iter().all(|range| range.start < range.end);
    (in_order && done.first()?.start > base).then_some(OffsetMap {
        base,
        leader_epoch,
        done,
    })
}

#[cfg(test)]
#[path = "offset_map/tests.rs"]
mod tests;
