//! The letters of an offset map: numbers of few bytes, base64, and a checksum.

/// Base64 for URLs.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// CRC-32 as in zip and Ethernet, reflected.
const POLYNOMIAL: u32 = 0xEDB8_8320;
const NO_DIGIT: u8 = 0xFF;

const DIGITS: [u8; 256] = {
    let mut digits = [NO_DIGIT; 256];
    let mut value = 0;
    while value < ALPHABET.len() {
        digits[ALPHABET[value] as usize] = value as u8;
        value += 1;
    }
    digits
};

const CRC: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < table.len() {
        let mut rest = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            rest = (rest >> 1) ^ (POLYNOMIAL & (rest & 1).wrapping_neg());
            bit += 1;
        }
        table[byte] = rest;
        byte += 1;
    }
    table
};

/// The checksum of these bytes, one part behind the other.
pub(super) fn crc32(parts: &[&[u8]]) -> u32 {
    let bytes = parts.iter().flat_map(|part| part.iter());
    !bytes.fold(u32::MAX, |rest, byte| {
        (rest >> 8) ^ CRC[((rest ^ u32::from(*byte)) & 0xFF) as usize]
    })
}

/// Appends the letters of `bytes`.
pub(super) fn base64(bytes: &[u8], text: &mut String) {
    for chunk in bytes.chunks(3) {
        let at = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let triple = at(0) << 16 | at(1) << 8 | at(2);
        for letter in 0..=chunk.len() {
            let digit = (triple >> (18 - 6 * letter)) & 0x3F;
            text.push(ALPHABET[digit as usize] as char);
        }
    }
}

/// The bytes of letters; `None` when these are none.
pub(super) fn unbase64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    for chunk in text.as_bytes().chunks(4) {
        if chunk.len() == 1 {
            return None;
        }
        let mut triple = 0_u32;
        for (place, letter) in chunk.iter().enumerate() {
            let digit = DIGITS[*letter as usize];
            if digit == NO_DIGIT {
                return None;
            }
            triple |= u32::from(digit) << (18 - 6 * place);
        }
        let triple = triple.to_be_bytes();
        // The first of the four is empty.
        let (whole, rest) = triple[1..].split_at(chunk.len() - 1);
        if rest.iter().any(|byte| *byte != 0) {
            return None;
        }
        bytes.extend_from_slice(whole);
    }
    Some(bytes)
}

pub(super) fn push_varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

pub(super) fn varint_length(number: u64) -> usize {
    let bits = (u64::BITS - number.leading_zeros()).max(1);
    bits.div_ceil(7) as usize
}

/// Takes a number off the front; `None` when there is none, or it is too large.
pub(super) fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for place in 0..10 {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let part = u64::from(byte & 0x7F);
        if place == 9 && part > 1 {
            return None;
        }
        number |= part << (7 * place);
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}
