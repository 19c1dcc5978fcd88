//! The Go side: a child process that gets frames of commands and answers frames of traces.

use std::collections::VecDeque;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::trace::take_number;

/// Longest answer that we take, in bytes.
const FRAME_MAX: u32 = 1 << 30;

pub struct Peer {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Peer {
    pub fn start(program: &Path) -> io::Result<Peer> {
        let mut child = Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let missing = || io::Error::other("the child has no pipes");
        let input = child.stdin.take().ok_or_else(missing)?;
        let output = child.stdout.take().ok_or_else(missing)?;
        Ok(Peer { child, input, output: BufReader::with_capacity(1 << 16, output) })
    }

    /// Does not wait for the answer. The child takes a few frames before it has answered the first, so two
    /// may be under way.
    pub fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        let length = u32::try_from(frame.len()).map_err(io::Error::other)?;
        self.input.write_all(&length.to_le_bytes())?;
        self.input.write_all(frame)
    }

    /// The traces of the oldest frame that is not answered yet.
    pub fn receive(&mut self) -> io::Result<VecDeque<Vec<u8>>> {
        let mut length = [0; 4];
        self.output.read_exact(&mut length)?;
        let length = u32::from_le_bytes(length);
        if length > FRAME_MAX {
            return Err(io::Error::other(format!("a frame of {length} bytes")));
        }
        let mut frame = vec![0; length as usize];
        self.output.read_exact(&mut frame)?;
        split(&frame).ok_or_else(|| io::Error::other("a frame ends early"))
    }
}

fn split(frame: &[u8]) -> Option<VecDeque<Vec<u8>>> {
    let mut traces = VecDeque::new();
    let mut rest = frame;
    while !rest.is_empty() {
        let (length, tail) = take_number(rest)?;
        let (trace, tail) = tail.split_at_checked(usize::try_from(length).ok()?)?;
        traces.push_back(trace.to_vec());
        rest = tail;
    }
    Some(traces)
}

impl Drop for Peer {
    /// It may be waiting for us to read answers that nobody wants any more.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
