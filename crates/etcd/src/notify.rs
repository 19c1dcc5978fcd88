//! Telling systemd that the member is ready, by one datagram to `NOTIFY_SOCKET`.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use crate::go_value::io_text;
use crate::log;
use crate::logging::Level;

pub fn ready() {
    log!(Level::Info, "notifying init daemon");
    match send(std::env::var_os("NOTIFY_SOCKET").as_deref(), b"READY=1") {
        Ok(()) => log!(Level::Info, "successfully notified init daemon"),
        Err(error) => {
            let error = io_text(&error);
            log!(Level::Error, "failed to notify systemd for readiness", "error" => error);
        }
    }
}

/// Nothing is sent when nobody asked; `@name` is a socket in the abstract namespace.
fn send(socket: Option<&OsStr>, message: &[u8]) -> io::Result<()> {
    let Some(name) = socket.filter(|name| !name.is_empty()) else { return Ok(()) };
    let address = match name.as_bytes().split_first() {
        Some((b'@', name)) => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(name)?,
    };
    UnixDatagram::unbound()?.send_to_addr(message, &address).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_arrives_at_the_named_socket() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("bound");
        send(Some(path.as_os_str()), b"READY=1").expect("sent");
        let mut buffer = [0; 16];
        let len = socket.recv(&mut buffer).expect("received");
        assert_eq!(&buffer[..len], b"READY=1");
        assert!(send(None, b"READY=1").is_ok());
        assert!(send(Some(OsStr::new("/nonexistent/socket")), b"READY=1").is_err());
    }
}
