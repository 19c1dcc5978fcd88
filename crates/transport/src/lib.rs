//! Sockets and TLS, for whoever listens: clients and members alike.
//!
//! [`listen`] binds what URLs name, as Go's `net.Listen` would; [`tls`] makes rustls configurations of flags and
//! files, which are read again when they change; [`Security`] tells plain from TLS on one port. The name is
//! etcd's (`client/pkg/transport`).

mod accept;
pub mod dns;
pub mod listen;
pub mod tls;
mod url;

pub use accept::{Prefixed, Raw, Rejected, Secured, Security};
pub use listen::{Acceptor, BoundSocket, Connects, Stream};
pub use url::{ListenUrl, ListenUrlError, Scheme, SocketOptions};
