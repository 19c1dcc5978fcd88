//! All that etcdctl prints, before it has a format.

use std::time::Duration;

use proto::etcdserverpb::*;

/// An answer, with what the person asked for where the answer does not repeat it.
pub enum Answer<'a> {
    Get(&'a RangeResponse),
    Put(&'a PutResponse),
    Delete(&'a DeleteRangeResponse),
    Txn(&'a TxnResponse),
    Watch(&'a WatchResponse),
    LeaseGrant(&'a LeaseGrantResponse),
    LeaseRevoke { id: i64, response: &'a LeaseRevokeResponse },
    LeaseKeepAlive(&'a LeaseKeepAliveResponse),
    LeaseTimeToLive { response: &'a LeaseTimeToLiveResponse, keys: bool },
    LeaseList(&'a LeaseLeasesResponse),
    MemberList(&'a MemberListResponse),
    MemberAdd(&'a MemberAddResponse),
    MemberRemove { id: u64, response: &'a MemberRemoveResponse },
    MemberUpdate { id: u64, response: &'a MemberUpdateResponse },
    MemberPromote { id: u64, response: &'a MemberPromoteResponse },
    Alarm(&'a AlarmResponse),
    EndpointHealth(&'a [Health]),
    EndpointStatus(&'a [(String, StatusResponse)]),
    EndpointHashKv(&'a [(String, HashKvResponse)]),
    MoveLeader { from: u64, to: u64, response: &'a MoveLeaderResponse },
    Downgrade { action: &'static str, response: &'a DowngradeResponse },
}

/// How one endpoint does.
#[derive(Clone, Debug)]
pub struct Health {
    pub endpoint: String,
    pub healthy: bool,
    /// `None`: it was not even asked.
    pub took: Option<Duration>,
    /// Empty: nothing to complain of.
    pub error: String,
}

impl Health {
    pub fn took(&self) -> String {
        self.took.map(golang::duration::format).unwrap_or_default()
    }
}
