//! Record batches that were compressed by their producer.

use std::io::{Cursor, Read};

use crate::wire::Malformed;

/// A batch that grows beyond this is left to librdkafka, whose own limits then decide.
const LARGEST_BYTES: usize = 512 * 1024 * 1024;

/// The Java client's snappy comes in blocks behind this (and two version numbers); librdkafka's is one raw block.
const XERIAL_MAGIC: &[u8] = b"\x82SNAPPY\0";
const XERIAL_HEADER_BYTES: usize = 16;

const TOO_LARGE: Malformed = Malformed("a compressed batch grows beyond 512 MiB");
const DAMAGED: Malformed = Malformed("a compressed batch is damaged");

/// Appends what `data` holds to `out`. `kind` is the three bits of a batch's attributes, and not 0.
pub(super) fn decompress(kind: i16, data: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    match kind {
        1 => read(flate2::read::MultiGzDecoder::new(data), out),
        2 => snappy(data, out),
        3 => read(lz4_flex::frame::FrameDecoder::new(data), out),
        4 => read(
            zstd::stream::read::Decoder::with_buffer(Cursor::new(data)).map_err(|_| DAMAGED)?,
            out,
        ),
        _ => Err(Malformed("a batch is compressed in an unknown way")),
    }
}

fn read(decoder: impl Read, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let before = out.len();
    decoder
        .take(LARGEST_BYTES as u64 + 1)
        .read_to_end(out)
        .map_err(|_| DAMAGED)?;
    if out.len() - before > LARGEST_BYTES {
        return Err(TOO_LARGE);
    }
    Ok(())
}

fn snappy(data: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    if !data.starts_with(XERIAL_MAGIC) {
        return snappy_block(data, out);
    }
    let mut rest = data.get(XERIAL_HEADER_BYTES..).ok_or(DAMAGED)?;
    while let Some((size, behind)) = rest.split_first_chunk::<4>() {
        let size = usize::try_from(u32::from_be_bytes(*size)).map_err(|_| DAMAGED)?;
        let (block, behind) = behind.split_at_checked(size).ok_or(DAMAGED)?;
        snappy_block(block, out)?;
        rest = behind;
    }
    if rest.is_empty() {
        Ok(())
    } else {
        Err(DAMAGED)
    }
}

fn snappy_block(block: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    let size = snap::raw::decompress_len(block).map_err(|_| DAMAGED)?;
    let before = out.len();
    // A block says its size before its content proves it: 64 is beyond what snappy can reach.
    if size > LARGEST_BYTES - before.min(LARGEST_BYTES) || size / 64 > block.len() {
        return Err(TOO_LARGE);
    }
    out.resize(before + size, 0);
    let written = snap::raw::Decoder::new()
        .decompress(block, &mut out[before..])
        .map_err(|_| DAMAGED)?;
    out.truncate(before + written);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    fn all_kinds(data: &[u8]) -> Vec<(i16, Vec<u8>)> {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(data).expect("written");
        let block = |data: &[u8]| {
            snap::raw::Encoder::new()
                .compress_vec(data)
                .expect("compressed")
        };
        let mut xerial = [XERIAL_MAGIC, &[0, 0, 0, 1, 0, 0, 0, 1]].concat();
        for part in data.chunks(100) {
            let part = block(part);
            xerial.extend((part.len() as u32).to_be_bytes());
            xerial.extend(part);
        }
        let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
        lz4.write_all(data).expect("written");
        vec![
            (1, gzip.finish().expect("finished")),
            (2, block(data)),
            (2, xerial),
            (3, lz4.finish().expect("finished")),
            (4, zstd::encode_all(data, 1).expect("compressed")),
        ]
    }

    proptest! {
        #[test]
        fn every_kind_comes_back(data in prop::collection::vec(0u8..4, 0..2000)) {
            for (kind, compressed) in all_kinds(&data) {
                let mut out = b"before".to_vec();
                prop_assert_eq!(decompress(kind, &compressed, &mut out), Ok(()), "{}", kind);
                prop_assert_eq!(&out[6..], &data[..]);
            }
        }

        #[test]
        fn what_is_damaged_is_refused_or_read_but_ends(
            data in prop::collection::vec(0u8..4, 1..500), at in any::<prop::sample::Index>(), flip in 1u8..
        ) {
            for (kind, mut compressed) in all_kinds(&data) {
                let at = at.index(compressed.len());
                compressed[at] ^= flip;
                let _ = decompress(kind, &compressed, &mut Vec::new());
                compressed.truncate(at);
                let _ = decompress(kind, &compressed, &mut Vec::new());
            }
        }
    }
}
