//! The stage without its socket.

use super::frames::{ENHANCE_YOUR_CALM, Scanner};

/// What became of all octets of a client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Mended {
    /// What HTTP/2 is given; an unfinished end is missing.
    Passed(Vec<u8>),
    /// A header block that no one takes.
    TooLarge,
    Refused,
}

impl Mended {
    /// The octets arrive in pieces of so many.
    pub(crate) fn of(client: &[u8], piece_bytes: usize) -> Mended {
        let mut scanner = Scanner::new();
        let (mut out, mut held) = (Vec::new(), Vec::new());
        for piece in client.chunks(piece_bytes) {
            held.extend_from_slice(piece);
            let mut mended = Vec::new();
            match scanner.scan(&held, &mut mended) {
                Ok(done) => {
                    out.extend_from_slice(&held[..done.passed]);
                    out.append(&mut mended);
                    held.drain(..done.consumed);
                }
                Err(why) if why.code == ENHANCE_YOUR_CALM => return Mended::TooLarge,
                Err(_) => return Mended::Refused,
            }
        }
        Mended::Passed(out)
    }
}
