//! Kafka's wire format: the primitive types that requests are written with and answers are read by.
//!
//! For what goes past librdkafka: partitions read ([`crate::source::direct`]) and topics written ([`crate::sink::direct`]) directly.
//! [`link`] is a connection to a broker, [`cluster`] are the requests that both need.
//!
//! Reading never trusts a length: everything is checked against what is left, and what does not fit is [`Malformed`].

use std::fmt;

pub(crate) mod cluster;
pub(crate) mod link;

/// An answer that is not what the protocol says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

const CUT_OFF: Malformed = Malformed("it ends too early");

/// Writes one request, its size in front.
pub(crate) struct Encoder(Vec<u8>);

impl Encoder {
    /// Begins a request of this kind and version, with a header of version 2 (the one with tagged fields).
    pub(crate) fn request(kind: (i16, i16), correlation: i32, client_id: &str) -> Encoder {
        let mut request = Encoder::old_request(kind, correlation, client_id);
        request.no_tags();
        request
    }

    /// Begins a request with a header of version 1.
    pub(crate) fn old_request(
        (key, version): (i16, i16),
        correlation: i32,
        client_id: &str,
    ) -> Encoder {
        let mut request = Encoder(vec![0; 4]);
        request.i16(key);
        request.i16(version);
        request.i32(correlation);
        // The client's name is of the old kind in every version of the header. It was checked when it was configured.
        request.i16(i16::try_from(client_id.len()).unwrap_or(0));
        if i16::try_from(client_id.len()).is_ok() {
            request.0.extend_from_slice(client_id.as_bytes());
        }
        request
    }

    pub(crate) fn i8(&mut self, value: i8) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn i16(&mut self, value: i16) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn i32(&mut self, value: i32) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn i64(&mut self, value: i64) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn uuid(&mut self, value: Uuid) {
        self.0.extend_from_slice(&value);
    }

    pub(crate) fn bool(&mut self, value: bool) {
        self.i8(i8::from(value));
    }

    fn uvarint(&mut self, mut value: usize) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// The length of an array, before its elements.
    pub(crate) fn count(&mut self, count: usize) {
        self.uvarint(count + 1);
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.uvarint(text.len() + 1);
        self.0.extend_from_slice(text.as_bytes());
    }

    /// Text that is not there.
    pub(crate) fn no_text(&mut self) {
        self.uvarint(0);
    }

    /// The length of bytes that are sent behind this request's own.
    pub(crate) fn bytes_follow(&mut self, length: usize) {
        self.uvarint(length + 1);
    }

    pub(crate) fn no_tags(&mut self) {
        self.0.push(0);
    }

    /// How many bytes were written, the size among them.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The bytes to send.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.finish_with(0)
    }

    /// The bytes to send, of a request of which `elsewhere` bytes more are sent between these.
    pub(crate) fn finish_with(mut self, elsewhere: usize) -> Vec<u8> {
        let size = i32::try_from(self.0.len() - 4 + elsewhere).unwrap_or(i32::MAX);
        self.0[..4].copy_from_slice(&size.to_be_bytes());
        self.0
    }
}

/// Names a topic for ever: one that is made anew under the same name has another.
pub(crate) type Uuid = [u8; 16];

/// Reads an answer from its start to its end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Decoder<'a>(&'a [u8]);

impl<'a> Decoder<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Decoder<'a> {
        Decoder(bytes)
    }

    /// How many bytes are left.
    pub(crate) fn left(&self) -> usize {
        self.0.len()
    }

    #[inline]
    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(CUT_OFF)?;
        self.0 = rest;
        Ok(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(CUT_OFF)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(crate) fn i8(&mut self) -> Result<i8, Malformed> {
        Ok(i8::from_be_bytes(self.array()?))
    }

    pub(crate) fn i16(&mut self) -> Result<i16, Malformed> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    pub(crate) fn i32(&mut self) -> Result<i32, Malformed> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    pub(crate) fn i64(&mut self) -> Result<i64, Malformed> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    pub(crate) fn uuid(&mut self) -> Result<Uuid, Malformed> {
        self.array()
    }

    /// Seven bits a byte, the lowest first.
    #[inline]
    pub(crate) fn uvarint(&mut self) -> Result<u64, Malformed> {
        // Nearly all numbers of a record take one byte or two.
        match *self.0 {
            [a, ref rest @ ..] if a < 0x80 => {
                self.0 = rest;
                Ok(u64::from(a))
            }
            [a, b, ref rest @ ..] if b < 0x80 => {
                self.0 = rest;
                Ok(u64::from(a & 0x7f) | u64::from(b) << 7)
            }
            _ => self.long_uvarint(),
        }
    }

    #[cold]
    fn long_uvarint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed("a number takes more than ten bytes"))
    }

    /// A signed number, zigzag.
    #[inline]
    pub(crate) fn varint(&mut self) -> Result<i64, Malformed> {
        let value = self.uvarint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// The length of an array; a null one has no elements.
    pub(crate) fn count(&mut self) -> Result<usize, Malformed> {
        let count = self.uvarint()?.saturating_sub(1);
        // An element takes a byte at least, so that nobody reserves room for what cannot be there.
        match usize::try_from(count) {
            Ok(count) if count <= self.0.len() => Ok(count),
            _ => Err(CUT_OFF),
        }
    }

    /// Bytes with their length in front; `None` for null.
    pub(crate) fn bytes(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        match self.uvarint()? {
            0 => Ok(None),
            length => {
                let length = usize::try_from(length - 1).map_err(|_| CUT_OFF)?;
                self.take(length).map(Some)
            }
        }
    }

    /// Text; null is empty.
    pub(crate) fn text(&mut self) -> Result<&'a str, Malformed> {
        let bytes = self.bytes()?.unwrap_or(&[]);
        std::str::from_utf8(bytes).map_err(|_| Malformed("a name is no UTF-8"))
    }

    pub(crate) fn skip_tags(&mut self) -> Result<(), Malformed> {
        for _ in 0..self.uvarint()? {
            self.uvarint()?;
            let length = usize::try_from(self.uvarint()?).map_err(|_| CUT_OFF)?;
            self.take(length)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A request's bytes behind size and header.
    fn body(request: Encoder, header_bytes: usize) -> Vec<u8> {
        let bytes = request.finish();
        assert_eq!(
            i32::from_be_bytes(bytes[..4].try_into().expect("four")) as usize,
            bytes.len() - 4
        );
        bytes[4 + header_bytes..].to_vec()
    }

    #[test]
    fn a_request_begins_with_its_size_and_header() {
        let bytes = Encoder::request((18, 3), 7, "me").finish();
        assert_eq!(bytes, b"\0\0\0\x0d\0\x12\0\x03\0\0\0\x07\0\x02me\0");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(number in any::<i64>(), text in ".{0,300}", count in 0usize..200) {
            let mut request = Encoder::request((1, 1), 1, "");
            request.i64(number);
            request.text(&text);
            request.count(count);
            request.0.extend(vec![0; count]);
            let body = body(request, 11);
            let mut read = Decoder::new(&body);
            prop_assert_eq!(read.i64(), Ok(number));
            prop_assert_eq!(read.text(), Ok(text.as_str()));
            prop_assert_eq!(read.count(), Ok(count));
        }

        #[test]
        fn varints_of_any_length(value in any::<u64>(), shift in 0u32..64) {
            let value = value >> shift;
            let mut bytes = Encoder(Vec::new());
            let mut rest = value;
            while rest >= 0x80 {
                bytes.0.push(rest as u8 | 0x80);
                rest >>= 7;
            }
            bytes.0.push(rest as u8);
            prop_assert_eq!(Decoder::new(&bytes.0).uvarint(), Ok(value));
            let signed = (value >> 1) as i64 ^ -((value & 1) as i64);
            prop_assert_eq!(Decoder::new(&bytes.0).varint(), Ok(signed));
            for end in 0..bytes.0.len() {
                prop_assert!(Decoder::new(&bytes.0[..end]).uvarint().is_err());
            }
        }

        #[test]
        fn whatever_the_bytes_reading_ends(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut read = Decoder::new(&bytes);
            while read.text().is_ok() && read.count().is_ok() && read.skip_tags().is_ok() && !read.0.is_empty() {}
        }
    }
}
