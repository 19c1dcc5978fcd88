//! A probe as a kubelet makes it: any status from 200 to 399 in time is a success.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};

use crate::pod::Probe;

/// What came back, or why nothing did.
pub fn ask(probe: &Probe) -> Result<(), String> {
    let answer = get(probe).map_err(|error| error.to_string())?;
    let status = answer.split_whitespace().nth(1).and_then(|status| status.parse::<u16>().ok());
    match status {
        Some(200..=399) => Ok(()),
        _ => Err(answer),
    }
}

fn get(probe: &Probe) -> std::io::Result<String> {
    let Probe { host, port, path, timeout, .. } = probe;
    let address = (host.as_str(), *port).to_socket_addrs()?.next();
    let address = address.ok_or(std::io::ErrorKind::AddrNotAvailable)?;
    let mut stream = TcpStream::connect_timeout(&address, *timeout)?;
    stream.set_read_timeout(Some(*timeout))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUser-Agent: kube-probe/1.37\r\nAccept: */*\r\n\
         Connection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
