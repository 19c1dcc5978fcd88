//! Messages of etcd's client API, of its raft log, of its peer protocol and of its files.
//!
//! The modules bear the names of etcd's protobuf packages. Everything in them is made at build time
//! from the files in `proto/`; `bytes` fields are [`bytes::Bytes`], so decoding from `Bytes` copies
//! no payload. The feature `client` adds tonic client stubs.

macro_rules! package {
    ($(#[$doc:meta])* $module:ident, $name:literal) => {
        $(#[$doc])*
        #[allow(clippy::all, clippy::unwrap_used, missing_docs)]
        pub mod $module {
            include!(concat!(env!("OUT_DIR"), "/", $name, ".rs"));
        }
    };
}

package!(/// Keys, values, events.
    mvccpb, "mvccpb");
package!(/// Users, roles, permissions.
    authpb, "authpb");
package!(/// The client API and the requests in the log.
    etcdserverpb, "etcdserverpb");
package!(/// Replicated changes of membership attributes and versions.
    membershippb, "membershippb");
package!(/// Leases on disk and between members.
    leasepb, "leasepb");
package!(/// The Lock service.
    v3lockpb, "v3lockpb");
package!(/// The Election service.
    v3electionpb, "v3electionpb");
package!(/// Raft messages and entries.
    raftpb, "raftpb");
package!(/// Records of the write-ahead log.
    walpb, "walpb");
package!(/// The envelope of `.snap` files.
    snappb, "snappb");
package!(/// gRPC health.
    healthpb, "grpc.health.v1");
