//! Ports of the loopback for servers of a test, which may start again on the same one.
//!
//! A port that the kernel chose (`bind` to 0) belongs to nobody once it is let go: the next connection of any
//! process may get it as its own end before the server is there. So these lie below the kernel's own range (from
//! 32768 on Linux, 49152 elsewhere), and each process that asks holds a block of them until it ends.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Mutex, PoisonError};

/// Below the kernel's, above the known ports of etcd and Kubernetes; five digits, as in what tools print.
const FIRST: u16 = 20_000;
const BLOCKS: u16 = 50;
/// The first port of a block is never given: who listens there has the block.
const BLOCK_LEN: u16 = 200;

/// So many ports, each another one, where nobody listens. Of the last 199, none is given twice.
pub fn free(count: usize) -> io::Result<Vec<u16>> {
    static BLOCK: Mutex<Option<Block>> = Mutex::new(None);
    let mut block = BLOCK.lock().unwrap_or_else(PoisonError::into_inner);
    if block.is_none() {
        *block = Some(Block::take()?);
    }
    let block = block.as_mut().expect("taken above");
    (0..count).map(|_| block.next()).collect()
}

/// As [`free`], for a fixed number.
pub fn free_array<const N: usize>() -> io::Result<[u16; N]> {
    let ports = free(N)?;
    Ok(std::array::from_fn(|n| ports[n]))
}

struct Block {
    held: TcpListener,
    /// From the block's start.
    last: u16,
}

impl Block {
    /// Begins its search at the process's own place, so that processes seldom meet.
    fn take() -> io::Result<Block> {
        let start =
            u16::try_from(std::process::id() % u32::from(BLOCKS)).expect("below the number of blocks");
        (0..BLOCKS)
            .map(|n| FIRST + (start + n) % BLOCKS * BLOCK_LEN)
            .find_map(|port| listen(port).ok())
            .map(|held| Block { held, last: 0 })
            .ok_or_else(|| io::Error::other("every block of ports for tests is taken; end what runs beside"))
    }

    fn next(&mut self) -> io::Result<u16> {
        let first = self.held.local_addr()?.port();
        for _ in 1..BLOCK_LEN {
            self.last = self.last % (BLOCK_LEN - 1) + 1;
            if listen(first + self.last).is_ok() {
                return Ok(first + self.last);
            }
        }
        Err(io::Error::other(format!(
            "somebody listens on each port from {first} to {}",
            first + BLOCK_LEN - 1
        )))
    }
}

fn listen(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ports_differ_and_have_no_listener() {
        let mut given = HashSet::new();
        for port in free(100).unwrap().into_iter().chain(free_array::<50>().unwrap()) {
            assert!(given.insert(port), "{port} twice");
            listen(port).unwrap();
        }
    }

    #[test]
    fn two_holders_have_two_blocks() {
        let (mut one, mut other) = (Block::take().unwrap(), Block::take().unwrap());
        let all = |block: &mut Block| -> HashSet<u16> { (0..500).map(|_| block.next().unwrap()).collect() };
        assert!(all(&mut one).is_disjoint(&all(&mut other)));
    }

    #[test]
    fn a_port_in_use_is_passed_over() {
        let mut block = Block::take().unwrap();
        let port = block.next().unwrap();
        let _used = listen(port).unwrap();
        assert!((0..500).all(|_| block.next().unwrap() != port));
    }
}
