//! `BloscLZ`, blosc's own packing: a relative of `FastLZ`'s second level (<https://github.com/ariya/FastLZ>).
//!
//! A byte below 32 says how many bytes follow as they are, less one. Any other begins a repetition: its upper three bits
//! are the length less two, and 7 says that bytes to be added follow, up to and with one that is not 255; its lower five
//! bits and the next byte are the distance less one. Where these thirteen bits are all set, two more bytes, the high
//! one first, are added to the distance. The first byte's upper bits mean nothing.

/// The distance from which on it takes two more bytes.
const FAR: usize = (31 << 8) + 255;

/// Unpacks what has to come out at so many bytes.
pub(super) fn unpack(packed: &[u8], size: usize) -> Result<Vec<u8>, String> {
    const CUT: &str = "BloscLZ is cut short";
    let mut bytes = Vec::new();
    let mut rest = packed;
    let mut next = packed.first().map(|first| first & 31);
    while let Some(control) = next.map(usize::from) {
        rest = &rest[1..];
        if control < 32 {
            let (run, behind) = rest.split_at_checked(control + 1).ok_or(CUT)?;
            room(&bytes, run.len(), size)?;
            bytes.extend_from_slice(run);
            rest = behind;
        } else {
            let mut byte = || {
                let (&first, behind) = rest.split_first().ok_or(CUT)?;
                rest = behind;
                Ok::<_, String>(usize::from(first))
            };
            let mut length = (control >> 5) + 2;
            if control >> 5 == 7 {
                loop {
                    let more = byte()?;
                    length += more;
                    if more != 255 {
                        break;
                    }
                }
            }
            let mut distance = ((control & 31) << 8) + byte()?;
            if distance == FAR {
                distance += (byte()? << 8) + byte()?;
            }
            room(&bytes, length, size)?;
            let start = bytes.len().checked_sub(distance + 1);
            let start = start.ok_or("BloscLZ repeats what was not there")?;
            // Byte by byte: what is repeated may overlap what is being written.
            for at in start..start + length {
                bytes.push(bytes[at]);
            }
        }
        next = rest.first().copied();
    }
    Ok(bytes)
}

fn room(bytes: &[u8], more: usize, size: usize) -> Result<(), String> {
    if bytes.len() + more > size {
        return Err(format!("BloscLZ gives more than {size} bytes"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_and_repetitions_are_told_apart() {
        // Three bytes as they are; then 4 of the distance 3, overlapping; then 10 (7 + 2 + 1) of the distance 1.
        let packed = [2, b'a', b'b', b'c', 2 << 5, 2, 7 << 5, 1, 0];
        let expected = b"abcabcaaaaaaaaaaa";
        assert_eq!(unpack(&packed, 17).unwrap(), expected);
        assert!(unpack(&packed, 16).is_err());
        for length in 1..packed.len() {
            // Cut short it is an error or less, never more.
            if let Ok(bytes) = unpack(&packed[..length], 17) {
                assert!(bytes.len() < 17);
            }
        }
        assert!(unpack(&[0, b'a', 1 << 5, 1], 9).is_err());
    }
}
