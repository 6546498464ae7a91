//! What chunks are packed with: blosc (of the first kind, <https://github.com/Blosc/c-blosc/blob/main/README_CHUNK_FORMAT.rst>)
//! with LZ4, Zstandard, zlib, Snappy or `BloscLZ` inside, and the first three alone; a checksum behind a chunk of Zarr 3
//! (CRC-32C) is checked.

use std::io::Read;

use super::blosclz;

/// One step of unpacking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Codec {
    Blosc,
    Zstd,
    Gzip,
    Zlib,
    /// LZ4 behind its length, as numcodecs has it.
    Lz4,
    Crc32c,
}

impl Codec {
    pub(super) fn by_name(name: &str) -> Option<Self> {
        Some(match name {
            "blosc" | "numcodecs.blosc" => Self::Blosc,
            "zstd" | "numcodecs.zstd" => Self::Zstd,
            "gzip" | "numcodecs.gzip" => Self::Gzip,
            "zlib" | "numcodecs.zlib" => Self::Zlib,
            "lz4" | "numcodecs.lz4" => Self::Lz4,
            "crc32c" => Self::Crc32c,
            _ => return None,
        })
    }
}

/// Unpacks a chunk that has to come out at so many bytes; no step gives more.
pub(super) fn decode(codecs: &[Codec], bytes: Vec<u8>, expected: usize) -> Result<Vec<u8>, String> {
    let mut bytes = bytes;
    for codec in codecs.iter().rev() {
        // A step before the last may give a packed form that is a little longer than what is in it.
        let limit = expected + expected / 64 + 1024;
        bytes = match codec {
            Codec::Blosc => blosc(&bytes, limit)?,
            Codec::Zstd => zstd(&bytes, limit)?,
            Codec::Gzip => read(flate2::read::MultiGzDecoder::new(bytes.as_slice()), limit)?,
            Codec::Zlib => read(flate2::read::ZlibDecoder::new(bytes.as_slice()), limit)?,
            Codec::Lz4 => {
                let (length, packed) = bytes.split_first_chunk::<4>().ok_or("it is cut short")?;
                let length = u32::from_le_bytes(*length) as usize;
                lz4(packed, length.min(limit))?
            }
            Codec::Crc32c => without_checksum(bytes)?,
        };
    }
    if bytes.len() == expected {
        return Ok(bytes);
    }
    Err(format!("{} bytes, where its shape needs {expected}", bytes.len()))
}

/// Bytes without the checksum behind them, which has to be theirs.
pub(super) fn without_checksum(mut bytes: Vec<u8>) -> Result<Vec<u8>, String> {
    let length = bytes.len().checked_sub(4).ok_or("it is cut short")?;
    let found = bytes.split_off(length);
    if crc32c(&bytes).to_le_bytes() == *found {
        return Ok(bytes);
    }
    Err("its checksum (CRC-32C) is another: it is damaged. Copy it again".to_owned())
}

/// CRC-32C (Castagnoli), reflected: <https://www.rfc-editor.org/rfc/rfc3720#section-12.1>.
fn crc32c(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut byte = 0;
        while byte < 256 {
            let mut remainder = byte as u32;
            let mut bit = 0;
            while bit < 8 {
                let carry = if remainder & 1 == 1 { POLYNOMIAL } else { 0 };
                remainder = (remainder >> 1) ^ carry;
                bit += 1;
            }
            table[byte] = remainder;
            byte += 1;
        }
        table
    };
    !bytes
        .iter()
        .fold(!0, |crc, &byte| TABLE[usize::from(crc as u8 ^ byte)] ^ (crc >> 8))
}

fn read(decoder: impl Read, limit: usize) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = decoder.take(limit as u64).read_to_end(&mut bytes);
    read.map_err(|error| format!("it cannot be unpacked: {error}"))?;
    Ok(bytes)
}

fn zstd(packed: &[u8], limit: usize) -> Result<Vec<u8>, String> {
    let decoder = ruzstd::decoding::StreamingDecoder::new(packed);
    read(
        decoder.map_err(|error| format!("it is no Zstandard: {error}"))?,
        limit,
    )
}

/// LZ4 gives no more than 255 bytes for one, so that a length which is a lie is found before memory is taken for it.
fn lz4(packed: &[u8], length: usize) -> Result<Vec<u8>, String> {
    if length / 255 > packed.len() {
        return Err(format!("{} bytes of LZ4 cannot be {length}", packed.len()));
    }
    let mut bytes = vec![0; length];
    match lz4_flex::block::decompress_into(packed, &mut bytes) {
        Ok(written) if written == length => Ok(bytes),
        Ok(written) => Err(format!("LZ4 gave {written} bytes of {length}")),
        Err(error) => Err(format!("it is no LZ4: {error}")),
    }
}

/// Snappy says its length first, which has to be the one that blosc says.
fn snappy(packed: &[u8], length: usize) -> Result<Vec<u8>, String> {
    let wrong = |error: snap::Error| format!("it is no Snappy: {error}");
    match snap::raw::decompress_len(packed).map_err(wrong)? {
        own if own == length => snap::raw::Decoder::new().decompress_vec(packed).map_err(wrong),
        own => Err(format!("Snappy promises {own} bytes of {length}")),
    }
}

/// The head of a blosc chunk.
struct Head {
    shuffle: Shuffle,
    is_copied: bool,
    is_unsplit: bool,
    compressor: u8,
    width: usize,
    bytes: usize,
    block: usize,
}

/// How the bytes of words were put apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shuffle {
    None,
    Bytes,
    Bits,
}

const HEAD_BYTES: usize = 16;

impl Head {
    fn parse(chunk: &[u8]) -> Result<Self, String> {
        let head = chunk.get(..HEAD_BYTES).ok_or("a blosc chunk is cut short")?;
        let word =
            |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]) as usize;
        let flags = head[2];
        if head[0] > 2 {
            return Err(format!("blosc's format {} is not known here", head[0]));
        }
        Ok(Self {
            shuffle: match flags & 5 {
                0 => Shuffle::None,
                4 => Shuffle::Bits,
                _ => Shuffle::Bytes,
            },
            is_copied: flags & 2 != 0,
            is_unsplit: flags & 16 != 0,
            compressor: flags >> 5,
            width: usize::from(head[3]).max(1),
            bytes: word(4),
            block: word(8),
        })
    }
}

fn blosc(chunk: &[u8], limit: usize) -> Result<Vec<u8>, String> {
    const SMALLEST_STREAM: usize = 128;
    const MOST_STREAMS: usize = 16;
    let head = Head::parse(chunk)?;
    if head.bytes > limit {
        return Err(format!(
            "blosc promises {} bytes, more than the chunk has",
            head.bytes
        ));
    }
    if head.bytes == 0 {
        return Ok(Vec::new());
    }
    if head.is_copied {
        let copied = chunk.get(HEAD_BYTES..HEAD_BYTES + head.bytes);
        return copied
            .map(<[u8]>::to_vec)
            .ok_or_else(|| "a blosc chunk is cut short".to_owned());
    }
    if head.block == 0 {
        return Err("blosc's blocks have no bytes".to_owned());
    }
    let blocks = head.bytes.div_ceil(head.block);
    let word = |at: usize| -> Result<usize, String> {
        let bytes = chunk.get(at..at + 4).ok_or("a blosc chunk is cut short")?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize)
    };
    // The table of blocks has to be there before memory is taken for what it tells.
    if chunk.len() < HEAD_BYTES + blocks * 4 {
        return Err("a blosc chunk is cut short".to_owned());
    }
    let mut bytes = Vec::new();
    for index in 0..blocks {
        let length = head.block.min(head.bytes - index * head.block);
        let is_whole = length == head.block;
        let is_split = !head.is_unsplit
            && is_whole
            && head.width <= MOST_STREAMS
            && head.block / head.width >= SMALLEST_STREAM;
        let streams = if is_split { head.width } else { 1 };
        let mut at = word(HEAD_BYTES + 4 * index)?;
        let mut block = Vec::new();
        for _ in 0..streams {
            let size = length / streams;
            let packed_size = word(at)?;
            let end = at.checked_add(4).and_then(|start| start.checked_add(packed_size));
            let packed = end
                .and_then(|end| chunk.get(at + 4..end))
                .ok_or("a blosc block is cut short")?;
            at += 4 + packed_size;
            let stream = if packed_size == size {
                packed.to_vec()
            } else {
                unpack(head.compressor, packed, size)?
            };
            if stream.len() != size {
                return Err(format!("a blosc block gave {} bytes of {size}", stream.len()));
            }
            block.extend(stream);
        }
        if block.len() != length {
            return Err(format!("a blosc block gave {} bytes of {length}", block.len()));
        }
        bytes.extend(match head.shuffle {
            Shuffle::Bytes => unshuffled(&block, head.width),
            Shuffle::Bits => bit_unshuffled(&block, head.width),
            Shuffle::None => block,
        });
    }
    Ok(bytes)
}

fn unpack(compressor: u8, packed: &[u8], size: usize) -> Result<Vec<u8>, String> {
    match compressor {
        1 => lz4(packed, size),
        3 => read(flate2::read::ZlibDecoder::new(packed), size),
        4 => zstd(packed, size),
        0 => blosclz::unpack(packed, size),
        2 => snappy(packed, size),
        other => Err(format!("blosc has no compressor {other}")),
    }
}

/// First bytes of all words, then the second ones, … put back in order.
fn unshuffled(block: &[u8], width: usize) -> Vec<u8> {
    let words = block.len() / width;
    let mut bytes = Vec::with_capacity(block.len());
    for word in 0..words {
        bytes.extend((0..width).map(|byte| block[byte * words + word]));
    }
    bytes.extend(&block[words * width..]);
    bytes
}

/// The same for bits; blosc leaves what is no multiple of eight words as it is.
fn bit_unshuffled(block: &[u8], width: usize) -> Vec<u8> {
    let words = block.len() / width;
    if !words.is_multiple_of(8) {
        return block.to_vec();
    }
    let row = words / 8;
    let mut bytes = vec![0; block.len()];
    for bit in 0..width * 8 {
        for word in 0..words {
            let value = block[bit * row + word / 8] >> (word % 8) & 1;
            bytes[word * width + bit / 8] |= value << (bit % 8);
        }
    }
    bytes[words * width..].copy_from_slice(&block[words * width..]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shuffles_are_undone() {
        assert_eq!(unshuffled(&[1, 3, 2, 4, 9], 2), [1, 2, 3, 4, 9]);
        // Eight words of a byte: bit plane 0 has the lowest bits of all.
        let words = [1, 0, 3, 0, 0, 0, 0, 128];
        let planes = [0b0000_0101, 0b0000_0100, 0, 0, 0, 0, 0, 0b1000_0000];
        assert_eq!(bit_unshuffled(&planes, 1), words);
        assert_eq!(bit_unshuffled(&[1, 2, 3], 1), [1, 2, 3]);
    }

    #[test]
    fn lies_about_lengths_are_found() {
        let mut chunk = vec![2, 1, 1, 4];
        for word in [1_u32 << 30, 1 << 18, 16] {
            chunk.extend(word.to_le_bytes());
        }
        assert!(decode(&[Codec::Blosc], chunk.clone(), 1 << 30).is_err());
        assert!(decode(&[Codec::Blosc], chunk, 100).is_err());
        assert!(decode(&[Codec::Lz4], vec![255, 255, 255, 0, 1], 1 << 24).is_err());
        assert!(decode(&[], vec![1, 2], 3).is_err());
        assert_eq!(decode(&[], vec![1, 2, 3], 3).unwrap(), [1, 2, 3]);
    }

    #[test]
    fn checksums_are_held_against_their_bytes() {
        // The test vectors of RFC 3720, appendix B.4.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        let mut chunk = b"123456789".to_vec();
        chunk.extend(0xe306_9283_u32.to_le_bytes());
        assert_eq!(decode(&[Codec::Crc32c], chunk.clone(), 9).unwrap(), b"123456789");
        chunk[0] ^= 1;
        assert!(
            decode(&[Codec::Crc32c], chunk, 9)
                .unwrap_err()
                .contains("checksum")
        );
    }
}
