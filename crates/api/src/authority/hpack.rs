//! An HPACK decoder that sees every field once, keeps the dynamic table in step with the sender's,
//! and writes each block again as literals that touch no table. Source: RFC 7541.

use std::collections::VecDeque;

use super::huffman;

/// The table size that we (through h2's default SETTINGS) let the peer use. The peer's own
/// SETTINGS_HEADER_TABLE_SIZE is about the other direction and does not matter here.
const TABLE_SIZE_MAX: usize = 4096;
/// What an entry counts above its octets.
const ENTRY_OVERHEAD: usize = 32;
/// A decoded block larger than this ends the connection: a few octets can index one long entry many times over.
const DECODED_SIZE_MAX: usize = 4 << 20;
/// What stands in for an authority that cannot be mended.
const FALLBACK_AUTHORITY: &[u8] = b"localhost";
const AUTHORITY: &[u8] = b":authority";

/// A block that breaks RFC 7541: the connection is over.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadBlock(pub(super) &'static str);

struct Entry {
    /// Name and value, one after the other.
    text: Box<[u8]>,
    name_len: usize,
    bad_authority: bool,
}

impl Entry {
    fn size(&self) -> usize {
        self.text.len() + ENTRY_OVERHEAD
    }
}

/// Whether a block needs mending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Authorities {
    Valid,
    Bad,
}

#[derive(Default)]
pub(super) struct Decoder {
    /// Newest first.
    table: VecDeque<Entry>,
    table_size: usize,
    /// None: [`TABLE_SIZE_MAX`], as at the start.
    table_limit: Option<usize>,
    name: Vec<u8>,
    value: Vec<u8>,
}

impl Decoder {
    /// Reads one whole header block. `literals` is overwritten with the same fields as literals
    /// without indexing, every bad authority replaced by a good one.
    pub(super) fn decode(&mut self, block: &[u8], literals: &mut Vec<u8>) -> Result<Authorities, BadBlock> {
        literals.clear();
        let mut found = Authorities::Valid;
        let mut rest = block;
        let mut fields = 0usize;
        while let Some(&first) = rest.first() {
            if literals.len() > DECODED_SIZE_MAX {
                return Err(BadBlock("header block too large"));
            }
            let bad = match first {
                0x80..=0xff => self.indexed(take_integer(&mut rest, 7)?, literals)?,
                0x40..=0x7f => self.literal(&mut rest, 6, Keep::Indexed, literals)?,
                0x20..=0x3f => {
                    if fields > 0 {
                        return Err(BadBlock("table size update behind a field"));
                    }
                    let limit = take_integer(&mut rest, 5)?;
                    if limit > TABLE_SIZE_MAX {
                        return Err(BadBlock("table size update above the limit"));
                    }
                    self.table_limit = Some(limit);
                    self.evict(limit);
                    continue;
                }
                0x10..=0x1f => self.literal(&mut rest, 4, Keep::Never, literals)?,
                0x00..=0x0f => self.literal(&mut rest, 4, Keep::Plain, literals)?,
            };
            fields += 1;
            if bad {
                found = Authorities::Bad;
            }
        }
        Ok(found)
    }

    fn indexed(&mut self, index: usize, literals: &mut Vec<u8>) -> Result<bool, BadBlock> {
        if let Some((name, value)) = index.checked_sub(1).and_then(|i| STATIC.get(i)) {
            let bad = *name == AUTHORITY; // the static table's authority is empty
            write_literal(Keep::Plain, name, if bad { FALLBACK_AUTHORITY } else { value }, literals);
            return Ok(bad);
        }
        let entry = self.dynamic(index)?;
        let (name, value) = entry.text.split_at(entry.name_len);
        if entry.bad_authority {
            write_literal(Keep::Plain, name, &mend(value), literals);
        } else {
            write_literal(Keep::Plain, name, value, literals);
        }
        Ok(entry.bad_authority)
    }

    fn literal(
        &mut self,
        rest: &mut &[u8],
        prefix: u32,
        keep: Keep,
        literals: &mut Vec<u8>,
    ) -> Result<bool, BadBlock> {
        let index = take_integer(rest, prefix)?;
        let mut name = std::mem::take(&mut self.name);
        let mut value = std::mem::take(&mut self.value);
        name.clear();
        value.clear();
        if index == 0 {
            take_string(rest, &mut name)?;
        } else {
            name.extend_from_slice(self.name_at(index)?);
        }
        take_string(rest, &mut value)?;

        let bad = name == AUTHORITY && !is_valid(&value);
        if bad {
            write_literal(keep, &name, &mend(&value), literals);
        } else {
            write_literal(keep, &name, &value, literals);
        }
        if let Keep::Indexed = keep {
            self.insert(&name, &value, bad);
        }
        self.name = name;
        self.value = value;
        Ok(bad)
    }

    fn name_at(&self, index: usize) -> Result<&[u8], BadBlock> {
        match index.checked_sub(1).and_then(|i| STATIC.get(i)) {
            Some((name, _)) => Ok(name),
            None => self.dynamic(index).map(|entry| &entry.text[..entry.name_len]),
        }
    }

    fn dynamic(&self, index: usize) -> Result<&Entry, BadBlock> {
        index
            .checked_sub(STATIC.len() + 1)
            .and_then(|i| self.table.get(i))
            .ok_or(BadBlock("index beyond the table"))
    }

    fn insert(&mut self, name: &[u8], value: &[u8], bad_authority: bool) {
        let limit = self.table_limit.unwrap_or(TABLE_SIZE_MAX);
        let size = name.len() + value.len() + ENTRY_OVERHEAD;
        // An entry larger than the table empties it and is not an error.
        self.evict(limit.saturating_sub(size));
        if size <= limit {
            let text = [name, value].concat().into_boxed_slice();
            self.table.push_front(Entry { text, name_len: name.len(), bad_authority });
            self.table_size += size;
        }
    }

    fn evict(&mut self, limit: usize) {
        while self.table_size > limit {
            let Some(oldest) = self.table.pop_back() else { break };
            self.table_size -= oldest.size();
        }
    }
}

/// What a literal says about tables.
#[derive(Clone, Copy)]
enum Keep {
    Indexed,
    Plain,
    /// A secret: no table on the way may hold it.
    Never,
}

/// The very check h2 makes before it resets the stream.
fn is_valid(authority: &[u8]) -> bool {
    http::uri::Authority::try_from(authority).is_ok()
}

/// The first `host:port` in what an old client takes for an authority: `http://a:2379` or
/// `#initially=[http://a:2379;http://b:2379]`.
/// Compat: clients before 3.4.29, and 3.5.0, send these; grpc-go serves them.
fn mend(value: &[u8]) -> Vec<u8> {
    let from = value.windows(3).position(|w| w == b"://").map_or(0, |at| at + 3);
    let candidate = value[from..].split(|b| b";,/]".contains(b)).next().unwrap_or_default();
    if !candidate.is_empty() && is_valid(candidate) {
        candidate.to_vec()
    } else {
        FALLBACK_AUTHORITY.to_vec()
    }
}

fn take_integer(rest: &mut &[u8], prefix: u32) -> Result<usize, BadBlock> {
    const CUT: BadBlock = BadBlock("integer cut off");
    let (&first, mut tail) = rest.split_first().ok_or(CUT)?;
    let mask = (1usize << prefix) - 1;
    let mut value = usize::from(first) & mask;
    if value == mask {
        let mut shift = 0;
        loop {
            let (&byte, after) = tail.split_first().ok_or(CUT)?;
            tail = after;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
            shift += 7;
            if shift > 21 {
                return Err(BadBlock("integer too long"));
            }
        }
    }
    *rest = tail;
    Ok(value)
}

fn take_string(rest: &mut &[u8], out: &mut Vec<u8>) -> Result<(), BadBlock> {
    let huffman = rest.first().is_some_and(|b| b & 0x80 != 0);
    let length = take_integer(rest, 7)?;
    let (text, tail) = rest.split_at_checked(length).ok_or(BadBlock("string cut off"))?;
    *rest = tail;
    if huffman {
        huffman::decode(text, out).map_err(|_| BadBlock("bad Huffman code"))
    } else {
        out.extend_from_slice(text);
        Ok(())
    }
}

fn write_literal(keep: Keep, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.push(if let Keep::Never = keep { 0x10 } else { 0x00 });
    write_string(name, out);
    write_string(value, out);
}

fn write_string(text: &[u8], out: &mut Vec<u8>) {
    let mut length = text.len();
    if length < 0x7f {
        out.push(length as u8);
    } else {
        out.push(0x7f);
        length -= 0x7f;
        while length >= 0x80 {
            out.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        out.push(length as u8);
    }
    out.extend_from_slice(text);
}

/// RFC 7541, appendix A. Entry 1 is the first.
#[rustfmt::skip]
const STATIC: [(&[u8], &[u8]); 61] = [
    (b":authority", b""), (b":method", b"GET"), (b":method", b"POST"), (b":path", b"/"),
    (b":path", b"/index.html"), (b":scheme", b"http"), (b":scheme", b"https"), (b":status", b"200"),
    (b":status", b"204"), (b":status", b"206"), (b":status", b"304"), (b":status", b"400"),
    (b":status", b"404"), (b":status", b"500"), (b"accept-charset", b""),
    (b"accept-encoding", b"gzip, deflate"), (b"accept-language", b""), (b"accept-ranges", b""),
    (b"accept", b""), (b"access-control-allow-origin", b""), (b"age", b""), (b"allow", b""),
    (b"authorization", b""), (b"cache-control", b""), (b"content-disposition", b""),
    (b"content-encoding", b""), (b"content-language", b""), (b"content-length", b""),
    (b"content-location", b""), (b"content-range", b""), (b"content-type", b""), (b"cookie", b""),
    (b"date", b""), (b"etag", b""), (b"expect", b""), (b"expires", b""), (b"from", b""), (b"host", b""),
    (b"if-match", b""), (b"if-modified-since", b""), (b"if-none-match", b""), (b"if-range", b""),
    (b"if-unmodified-since", b""), (b"last-modified", b""), (b"link", b""), (b"location", b""),
    (b"max-forwards", b""), (b"proxy-authenticate", b""), (b"proxy-authorization", b""), (b"range", b""),
    (b"referer", b""), (b"refresh", b""), (b"retry-after", b""), (b"server", b""), (b"set-cookie", b""),
    (b"strict-transport-security", b""), (b"transfer-encoding", b""), (b"user-agent", b""), (b"vary", b""),
    (b"via", b""), (b"www-authenticate", b""),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(literals: &[u8]) -> Vec<(String, String)> {
        // Read back with a fresh decoder's primitives: literals only.
        let mut rest = literals;
        let mut found = Vec::new();
        while !rest.is_empty() {
            assert!(matches!(rest[0], 0x00 | 0x10));
            rest = &rest[1..];
            let (mut name, mut value) = (Vec::new(), Vec::new());
            take_string(&mut rest, &mut name).unwrap();
            take_string(&mut rest, &mut value).unwrap();
            found.push((String::from_utf8(name).unwrap(), String::from_utf8(value).unwrap()));
        }
        found
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn the_request_examples_of_the_rfc() {
        // C.4: three requests with Huffman coding on one connection.
        let blocks: [&[u8]; 3] = [
            &[
                0x82, 0x86, 0x84, 0x41, 0x8c, 0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90,
                0xf4, 0xff,
            ],
            &[0x82, 0x86, 0x84, 0xbe, 0x58, 0x86, 0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf],
            &[
                0x82, 0x87, 0x85, 0xbf, 0x40, 0x88, 0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xa9, 0x7d, 0x7f, 0x89,
                0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xb8, 0xe8, 0xb4, 0xbf,
            ],
        ];
        let mut decoder = Decoder::default();
        let mut out = Vec::new();
        let mut last = Vec::new();
        for block in blocks {
            assert_eq!(decoder.decode(block, &mut out), Ok(Authorities::Valid));
            last = fields(&out);
        }
        assert_eq!(
            last,
            [
                pair(":method", "GET"),
                pair(":scheme", "https"),
                pair(":path", "/index.html"),
                pair(":authority", "www.example.com"),
                pair("custom-key", "custom-value"),
            ]
        );
        assert_eq!((decoder.table.len(), decoder.table_size), (3, 164));
    }

    fn with_authority(value: &[u8]) -> Vec<u8> {
        let mut block = vec![0x41];
        write_string(value, &mut block);
        block
    }

    #[test]
    fn bad_authorities_are_mended_also_from_the_table() {
        for (sent, mended) in [
            ("http://127.0.0.1:12399", "127.0.0.1:12399"),
            ("#initially=[http://a:2379;http://b:2379]", "a:2379"),
            ("#initially=[]", "localhost"),
            ("", "localhost"),
            ("https://[::1]:2379", "localhost"),
        ] {
            let mut decoder = Decoder::default();
            let mut out = Vec::new();
            assert_eq!(decoder.decode(&with_authority(sent.as_bytes()), &mut out), Ok(Authorities::Bad));
            assert_eq!(fields(&out), [pair(":authority", mended)]);
            assert_eq!(decoder.decode(&[0xbe], &mut out), Ok(Authorities::Bad), "indexed");
            assert_eq!(fields(&out), [pair(":authority", mended)]);
        }
    }

    #[test]
    fn the_table_forgets_the_oldest() {
        let mut decoder = Decoder::default();
        let mut out = Vec::new();
        // Size update to 64: room for one entry.
        let mut block = vec![0x3f, 0x21];
        block.extend(with_authority(b"a:1"));
        decoder.decode(&block, &mut out).unwrap();
        decoder.decode(&with_authority(b"b:1"), &mut out).unwrap();
        decoder.decode(&[0xbe], &mut out).unwrap();
        assert_eq!(fields(&out), [pair(":authority", "b:1")]);
        assert!(decoder.decode(&[0xbf], &mut out).is_err());
        // Larger than the table: everything goes.
        decoder.decode(&with_authority(&[b'x'; 40]), &mut out).unwrap();
        assert_eq!((decoder.table.len(), decoder.table_size), (0, 0));
    }

    #[test]
    fn broken_blocks() {
        for block in [
            &[0x80][..],
            &[0xbe],
            &[0x41],
            &[0x41, 0x05, b'a'],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            &[0x3f, 0xe2, 0x1f],
            &[0x82, 0x20],
            &[0x41, 0x81, 0x00],
        ] {
            assert!(Decoder::default().decode(block, &mut Vec::new()).is_err(), "{block:x?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_panic_on_any_block(blocks in proptest::collection::vec(proptest::collection::vec(0u8.., 0..64), 0..8)) {
            let mut decoder = Decoder::default();
            let mut out = Vec::new();
            for block in blocks {
                if decoder.decode(&block, &mut out).is_err() {
                    break;
                }
                proptest::prop_assert!(decoder.table_size <= TABLE_SIZE_MAX);
            }
        }
    }
}
