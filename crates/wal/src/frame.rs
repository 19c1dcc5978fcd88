//! Frames: how a record lies in a segment.
//!
//! ```text
//! u64 little-endian length field | record | 0 to 7 zero bytes, so that the next frame starts at a multiple of 8
//! ```
//! The low 56 bits of the field are the record's length; with padding, the top byte is `0x80 | padding`.
//! As frames are aligned to 8, no length field ever straddles two sectors: it is written whole or not at all.

use crate::error::Damage;

pub(crate) const FRAME_ALIGN: usize = 8;
pub(crate) const LENGTH_BYTES: usize = 8;

/// The unit in which a device tears writes.
pub(crate) const SECTOR_BYTES: u64 = 512;

/// The length field and the padding for a record of that many bytes.
pub(crate) fn length_field(record_bytes: usize) -> (u64, usize) {
    let pad = record_bytes.next_multiple_of(FRAME_ALIGN) - record_bytes;
    let flag = if pad == 0 { 0 } else { (0x80 | pad as u64) << 56 };
    (record_bytes as u64 | flag, pad)
}

/// Record bytes and padding of a length field other than 0, which ends a segment.
pub(crate) fn read_length_field(field: u64) -> Result<(u64, u64), Damage> {
    let record_bytes = field & !(0xff << 56);
    let pad = match (field >> 56) as u8 {
        0 => 0,
        flag @ 0x81..=0x87 => u64::from(flag & 0x7),
        _ => return Err(Damage::Length { field }),
    };
    // Compat: etcd's reader does not demand alignment, its writer never leaves it out.
    if record_bytes == 0 || !(record_bytes + pad).is_multiple_of(FRAME_ALIGN as u64) {
        return Err(Damage::Length { field });
    }
    Ok((record_bytes, pad))
}

/// True when a part of `bytes` that fills, or shares with others, one sector is all zero: the sector was
/// never written. `offset` is where `bytes` begin in the file.
pub(crate) fn lost_a_sector(bytes: &[u8], offset: u64) -> bool {
    let mut rest = bytes;
    let mut at = offset;
    while !rest.is_empty() {
        let until_next = (SECTOR_BYTES - at % SECTOR_BYTES) as usize;
        let (part, behind) = rest.split_at(until_next.min(rest.len()));
        if part.iter().all(|&byte| byte == 0) {
            return true;
        }
        at += part.len() as u64;
        rest = behind;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_fields_read_back_and_align() {
        for record_bytes in 1..100_usize {
            let (field, pad) = length_field(record_bytes);
            assert_eq!((record_bytes + pad) % FRAME_ALIGN, 0);
            assert_eq!(read_length_field(field).unwrap(), (record_bytes as u64, pad as u64));
        }
        assert_eq!(length_field(8), (8, 0));
        assert_eq!(length_field(5), (0x8300_0000_0000_0005, 3));
    }

    #[test]
    fn length_fields_that_nobody_writes_are_refused() {
        for field in
            [0x8000_0000_0000_0008, 0x0100_0000_0000_0008, 0x8300_0000_0000_0006, 7, 0x8800_0000_0000_0000]
        {
            assert_eq!(read_length_field(field), Err(Damage::Length { field }), "{field:#x}");
        }
    }

    #[test]
    fn a_lost_sector_is_one_whose_part_is_all_zero() {
        let mut bytes = vec![1; 1024];
        assert!(!lost_a_sector(&bytes, 0));
        bytes[512..].fill(0);
        assert!(lost_a_sector(&bytes, 0));
        bytes[924..].fill(1);
        assert!(!lost_a_sector(&bytes, 100), "412 + 512 + 100 bytes: the second part begins with ones");
        assert!(lost_a_sector(&[0, 0, 1, 1], 510));
        assert!(!lost_a_sector(&[0, 0, 1, 1], 512));
        assert!(!lost_a_sector(&[], 0));
    }
}
