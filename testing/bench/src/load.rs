//! A closed loop: each client sends its next request when it has the answer to the last.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

use crate::Failure;
use crate::histogram::Histogram;
use crate::http2::{Connection, Event, Keep};

/// No answer within this time means that a server hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// The connections to one server or several, with all their clients on one thread.
pub struct Pool {
    pub connections: Vec<Connection>,
}

/// What a closed loop saw.
#[derive(Clone, Default)]
pub struct Slice {
    pub ops: u64,
    pub seconds: f64,
    pub bytes: u64,
    pub latencies: Histogram,
}

/// What the clients ask.
pub trait Work {
    /// Writes the next request of a client and names its method.
    fn request(&mut self, client: usize, message: &mut Vec<u8>) -> &'static str;

    const KEEP: Keep = Keep::Nothing;

    /// Sees an answer, where [`Work::KEEP`] asks for it.
    fn answer(&mut self, _client: usize, _message: &[u8]) {}
}

impl Pool {
    pub fn open(address: SocketAddr, count: usize) -> Result<Pool, Failure> {
        Pool::open_all(&[address], count)
    }

    /// So many connections to each of several members, in turns: clients are spread over all of them.
    pub fn open_all(addresses: &[SocketAddr], each: usize) -> Result<Pool, Failure> {
        let addresses = addresses.iter().cycle().take(addresses.len() * each);
        let connections = addresses.map(|address| Connection::open(*address)).collect::<Result<_, _>>()?;
        Ok(Pool { connections })
    }

    /// Waits until something can be read, then hands all of it out. The closure gets the connection.
    pub fn turn(&mut self, mut on: impl FnMut(&mut Connection, Event<'_>)) -> Result<(), Failure> {
        for connection in &mut self.connections {
            connection.flush()?;
        }
        let ready: Vec<bool> = {
            let mut polled: Vec<PollFd<'_>> =
                self.connections.iter().map(|connection| PollFd::new(connection, PollFlags::IN)).collect();
            let patience = PATIENCE.try_into().map_err(|_| Failure("a long time".to_owned()))?;
            if poll(&mut polled, Some(&patience))? == 0 {
                return Err(Failure(format!("no answer within {PATIENCE:?}")));
            }
            polled.iter().map(|polled| !polled.revents().is_empty()).collect()
        };
        for (connection, ready) in self.connections.iter_mut().zip(ready) {
            if ready {
                connection.receive(&mut on)?;
                connection.flush()?;
            }
        }
        Ok(())
    }

    /// `ops` requests by `clients` clients, spread evenly over the connections.
    pub fn run(&mut self, clients: usize, ops: u64, work: &mut impl Work) -> Result<Slice, Failure> {
        let mut started = 0;
        self.run_while(clients, work, |_| {
            started += 1;
            started <= ops
        })
    }

    /// Requests by `clients` clients, each of them as long as `more` says so.
    pub fn run_while<W: Work>(
        &mut self,
        clients: usize,
        work: &mut W,
        mut more: impl FnMut(Instant) -> bool,
    ) -> Result<Slice, Failure> {
        let mut slice = Slice::default();
        let mut message = Vec::new();
        let begun = Instant::now();
        let mut running = 0;
        let count = self.connections.len();
        for client in 0..clients {
            if more(begun) {
                message.clear();
                let path = work.request(client, &mut message);
                self.connections[client % count].start(client, path, &message, W::KEEP, true);
                running += 1;
            }
        }
        while running > 0 {
            self.turn(|connection, event| match event {
                Event::Message { client, message } => work.answer(client, message),
                Event::End { client, started, bytes } => {
                    let now = Instant::now();
                    slice.ops += 1;
                    slice.bytes += bytes;
                    slice.latencies.record(now - started);
                    if more(now) {
                        message.clear();
                        let path = work.request(client, &mut message);
                        connection.start(client, path, &message, W::KEEP, true);
                    } else {
                        running -= 1;
                    }
                }
            })?;
        }
        slice.seconds = begun.elapsed().as_secs_f64();
        Ok(slice)
    }
}

impl Slice {
    pub fn add(&mut self, other: &Slice) {
        self.ops += other.ops;
        self.seconds += other.seconds;
        self.bytes += other.bytes;
        self.latencies.add(&other.latencies);
    }
}
