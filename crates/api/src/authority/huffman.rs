//! HPACK's Huffman code, decoding only. Source: RFC 7541, appendix B.
//!
//! The code is canonical (codes of one length are consecutive and follow the symbols' order), so the
//! lengths say everything and the tables are computed at compile time.

/// Code length of each symbol in bits; the last is EOS.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7,
    7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21,
    23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24,
    21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

const LENGTH_MAX: usize = 30;
const EOS: u16 = 256;

struct Tables {
    /// Symbols by (length, symbol).
    symbols: [u16; 257],
    /// First code of each length, and how many there are, and where they begin in `symbols`.
    first: [u32; LENGTH_MAX + 1],
    count: [u32; LENGTH_MAX + 1],
    offset: [u32; LENGTH_MAX + 1],
}

const TABLES: Tables = build();

const fn build() -> Tables {
    let mut tables = Tables {
        symbols: [0; 257],
        first: [0; LENGTH_MAX + 1],
        count: [0; LENGTH_MAX + 1],
        offset: [0; LENGTH_MAX + 1],
    };
    let mut placed = 0;
    let mut code = 0u32;
    let mut length = 1;
    while length <= LENGTH_MAX {
        code <<= 1;
        tables.first[length] = code;
        tables.offset[length] = placed as u32;
        let mut symbol = 0;
        while symbol < 257 {
            if LENGTHS[symbol] as usize == length {
                tables.symbols[placed] = symbol as u16;
                tables.count[length] += 1;
                placed += 1;
                code += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    tables
}

/// A string that no encoder makes: a code of EOS, or padding that is long or not all ones.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadHuffman;

/// Appends the decoded text of `input` to `out`.
pub(super) fn decode(input: &[u8], out: &mut Vec<u8>) -> Result<(), BadHuffman> {
    let mut bits = 0u64; // the lowest `held` bits are not decoded yet
    let mut held = 0usize;
    let mut input = input.iter();
    loop {
        while held <= 48 {
            let Some(byte) = input.next() else { break };
            bits = bits << 8 | u64::from(*byte);
            held += 8;
        }
        let Some((symbol, length)) = next_symbol(bits, held) else { break };
        if symbol == EOS {
            return Err(BadHuffman);
        }
        out.push(symbol as u8);
        held -= length;
        bits &= (1 << held) - 1;
    }
    // What is left is padding: the beginning of EOS, which is all ones, and less than a byte.
    let padding_is_ones = bits == (1 << held) - 1;
    if held < 8 && padding_is_ones && input.as_slice().is_empty() { Ok(()) } else { Err(BadHuffman) }
}

#[inline]
fn next_symbol(bits: u64, held: usize) -> Option<(u16, usize)> {
    for length in 5..=LENGTH_MAX.min(held) {
        let code = (bits >> (held - length)) as u32;
        let index = code.wrapping_sub(TABLES.first[length]);
        if index < TABLES.count[length] {
            return Some((TABLES.symbols[(TABLES.offset[length] + index) as usize], length));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_rfc() {
        let cases: [(&[u8], &str); 4] = [
            (&[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff], "www.example.com"),
            (&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf], "no-cache"),
            (&[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xb8, 0xe8, 0xb4, 0xbf], "custom-value"),
            (&[], ""),
        ];
        for (input, text) in cases {
            let mut out = Vec::new();
            decode(input, &mut out).unwrap();
            assert_eq!(out, text.as_bytes());
        }
    }

    #[test]
    fn bad_padding() {
        for input in [&[0xff, 0xff, 0xff, 0xff][..], &[0xff], &[0x18], &[0xff, 0xff, 0xff, 0xfc]] {
            assert_eq!(decode(input, &mut Vec::new()), Err(BadHuffman), "{input:x?}");
        }
    }
}
