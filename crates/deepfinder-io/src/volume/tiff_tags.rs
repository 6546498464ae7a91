//! The tags of a TIFF file, gone over before the crate reads them: it takes 32 bytes for each value that a tag promises,
//! up to 256 MiB, whether they are in the file or not.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use crate::{IoError, Result};

/// Refuses tags with more values than the file has bytes for. What is damaged otherwise is left to the crate.
pub(super) fn check(path: &Path) -> Result<()> {
    let file = File::open(path).map_err(IoError::file("read", path))?;
    let found = file.metadata().map_err(IoError::file("read", path))?.len();
    match greedy_tag(BufReader::new(file), found) {
        Ok(Some((tag, values, needed))) => Err(IoError::Truncated {
            path: path.to_owned(),
            promised: format!("its tag {tag} promises {values} values"),
            needed,
            found,
        }),
        Ok(None) | Err(_) => Ok(()),
    }
}

/// The first tag whose values do not fit into so many bytes: its number, their number, and the bytes they need.
fn greedy_tag(file: impl Read + Seek, length: u64) -> io::Result<Option<(u64, u64, u128)>> {
    let mut tags = Tags::open(file)?;
    let mut seen = HashSet::new();
    let mut directory = tags.address()?;
    while directory != 0 && seen.insert(directory) {
        tags.file.seek(SeekFrom::Start(directory))?;
        let entries = tags.number(if tags.is_big { 8 } else { 2 })?;
        for _ in 0..entries {
            let (tag, kind) = (tags.number(2)?, tags.number(2)?);
            let (values, _) = (tags.address()?, tags.address()?);
            let needed = u128::from(values) * width(kind);
            if needed > length.into() {
                return Ok(Some((tag, values, needed)));
            }
        }
        directory = tags.address()?;
    }
    Ok(None)
}

/// Bytes of a value; those of unknown types are none.
const fn width(kind: u64) -> u128 {
    match kind {
        1 | 2 | 6 | 7 => 1,
        3 | 8 => 2,
        4 | 9 | 11 | 13 => 4,
        5 | 10 | 12 | 16..=18 => 8,
        _ => 0,
    }
}

struct Tags<F> {
    file: F,
    is_big_endian: bool,
    /// Whether addresses and counts have eight bytes (`BigTIFF`) and not four.
    is_big: bool,
}

impl<F: Read + Seek> Tags<F> {
    fn open(mut file: F) -> io::Result<Self> {
        let mut order = [0; 2];
        file.read_exact(&mut order)?;
        let mut tags = Self {
            file,
            is_big_endian: &order == b"MM",
            is_big: false,
        };
        tags.is_big = tags.number(2)? == 43;
        if tags.is_big {
            // The width of addresses, and a zero.
            tags.number(4)?;
        }
        Ok(tags)
    }

    fn address(&mut self) -> io::Result<u64> {
        self.number(if self.is_big { 8 } else { 4 })
    }

    /// A number of so many bytes.
    fn number(&mut self, width: usize) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.file.read_exact(&mut bytes[..width])?;
        if self.is_big_endian {
            bytes[..width].reverse();
        }
        Ok(u64::from_le_bytes(bytes))
    }
}
