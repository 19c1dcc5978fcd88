//! What etcdctl, the benches and the tests dial members with.
//!
//! A [`Client`] holds one HTTP/2 connection for each endpoint and gives each call to the next ready
//! one. A call waits for a connection until its deadline; a read that a member could not serve is
//! sent again, a write only when it surely never left (see [`retry`]). All calls take and return the
//! wire's own messages: a client adds addressing, deadlines and repetition, and no second vocabulary.
//!
//! Longer conversations have helpers of their own: [`Watcher`] resumes over lost connections,
//! [`KeepAlive`] renews a lease in time, [`SnapshotStream`] reads a snapshot.
//!
//! ```no_run
//! # async fn example() -> Result<(), client::Error> {
//! let client = client::Client::new(client::Config::to(["http://127.0.0.1:2379"]))?;
//! let put = proto::etcdserverpb::PutRequest { key: "a".into(), value: "1".into(), ..Default::default() };
//! client.put(put).await?;
//! # Ok(()) }
//! ```

mod auth;
mod call;
mod cluster;
mod config;
mod connect;
mod endpoint;
mod error;
mod keep_alive;
mod kv;
mod lease;
mod maintenance;
mod pool;
pub mod retry;
mod tls;
mod transport;
mod watch;

pub use call::{Client, Warning};
pub use config::Config;
pub use endpoint::{Address, Endpoint};
pub use error::{Error, code_name};
pub use keep_alive::KeepAlive;
pub use kv::prefix_end;
pub use maintenance::SnapshotStream;
pub use tls::Tls;
pub use transport::Transport;
pub use watch::Watcher;
