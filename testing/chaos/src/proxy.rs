//! A stand-in for each member's peer address, which can hold back, slow down and stop what passes.
//!
//! Members dial the stand-in of another member; who dials is told by the address it comes from. Each
//! direction of each pair has a rule of its own. What is held back is not lost: a member sees what it sees
//! of a network that drops packets and comes back.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::Instant;

use crate::failure::{During, Outcome};
use crate::namespace::{PEER_PORT, address, proxy_address, slot_of};

/// Bytes that are passed on in one piece.
const PIECE_BYTES: usize = 16 << 10;
/// Pieces on their way in one direction of a connection, 1 MiB. Full: no more is read, as on a full link.
const PIECES_MAX: usize = 64;
/// Connections to one member. Full: new ones wait in the listener's queue.
const CONNECTIONS_MAX: usize = 512;

/// What happens to bytes on their way from one member to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    Pass,
    /// Each piece comes this much later, and up to a half more; order is kept.
    Late(Duration),
    /// At most so much in a second.
    Narrow {
        bytes_per_sec: u64,
    },
    Hold,
}

type Rules = BTreeMap<(usize, usize), Rule>;

pub struct Proxy {
    rules: watch::Sender<Rules>,
}

impl Proxy {
    /// Listens for all slots. The tasks end with the runtime.
    pub async fn start(slots: usize) -> Outcome<Proxy> {
        let rules = watch::Sender::new(Rules::new());
        for to in 0..slots {
            let listener = TcpListener::bind((proxy_address(to), PEER_PORT)).await;
            tokio::spawn(serve(listener.during("listen for peers")?, to, rules.subscribe()));
        }
        Ok(Proxy { rules })
    }

    pub fn set(&self, from: usize, to: usize, rule: Rule) {
        self.rules.send_modify(|rules| {
            rules.insert((from, to), rule);
        });
    }

    pub fn clear(&self) {
        self.rules.send_modify(BTreeMap::clear);
    }
}

async fn serve(listener: TcpListener, to: usize, rules: watch::Receiver<Rules>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        // A connection that ended before we took it is no matter.
        let Ok((stream, peer)) = listener.accept().await else { continue };
        let rules = rules.clone();
        tokio::spawn(async move {
            if let Some(from) = slot(peer) {
                connect(stream, from, to, rules).await;
            }
            drop(place);
        });
    }
}

fn slot(peer: SocketAddr) -> Option<usize> {
    match peer.ip() {
        IpAddr::V4(address) => slot_of(address),
        IpAddr::V6(_) => None,
    }
}

async fn connect(near: TcpStream, from: usize, to: usize, rules: watch::Receiver<Rules>) {
    let there = Direction { from, to, rules: rules.clone() };
    let back = Direction { from: to, to: from, rules };
    // A connection is set up by packets in both directions.
    there.clone().open().await;
    back.clone().open().await;
    let Ok(far) = TcpStream::connect((address(to), PEER_PORT)).await else { return };
    for stream in [&near, &far] {
        if stream.set_nodelay(true).is_err() {
            return;
        }
    }
    let (near_reader, near_writer) = near.into_split();
    let (far_reader, far_writer) = far.into_split();
    // Either end closes both: HTTP/1.1 and raft streams have no use for half a connection.
    tokio::select! {
        () = pump(near_reader, far_writer, there) => {}
        () = pump(far_reader, near_writer, back) => {}
    }
}

#[derive(Clone)]
struct Direction {
    from: usize,
    to: usize,
    rules: watch::Receiver<Rules>,
}

impl Direction {
    fn rule(&self) -> Rule {
        self.rules.borrow().get(&(self.from, self.to)).copied().unwrap_or(Rule::Pass)
    }

    /// Waits until something passes at all.
    async fn open(mut self) {
        while self.rule() == Rule::Hold {
            if self.rules.changed().await.is_err() {
                return;
            }
        }
    }
}

async fn pump(mut reader: OwnedReadHalf, mut writer: OwnedWriteHalf, direction: Direction) {
    let (sender, mut pieces) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES_MAX);
    let late = direction.clone();
    let read = async move {
        let mut buffer = vec![0; PIECE_BYTES];
        let mut due = Instant::now();
        while let Ok(count @ 1..) = reader.read(&mut buffer).await {
            // Never before the piece ahead of it.
            due = due.max(Instant::now() + delay(late.rule(), count));
            if sender.send((due, buffer[..count].to_vec())).await.is_err() {
                return;
            }
        }
    };
    let write = async move {
        while let Some((due, piece)) = pieces.recv().await {
            tokio::time::sleep_until(due).await;
            direction.clone().open().await;
            if writer.write_all(&piece).await.is_err() {
                return;
            }
        }
        // Best effort: the other end may be gone.
        let _closed = writer.shutdown().await;
    };
    tokio::join!(read, write);
}

fn delay(rule: Rule, bytes: usize) -> Duration {
    match rule {
        Rule::Pass | Rule::Hold => Duration::ZERO,
        // The size of a piece is as good as a die.
        Rule::Late(delay) => delay + delay.mul_f64((bytes % 51) as f64 / 100.0),
        Rule::Narrow { bytes_per_sec } => Duration::from_secs_f64(bytes as f64 / bytes_per_sec.max(1) as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_follow_the_rule() {
        let late = Duration::from_millis(100);
        assert_eq!(delay(Rule::Pass, 100), Duration::ZERO);
        assert!((late..=late * 3 / 2).contains(&delay(Rule::Late(late), 1 << 14)));
        assert_eq!(delay(Rule::Narrow { bytes_per_sec: 1000 }, 500), Duration::from_millis(500));
    }
}
