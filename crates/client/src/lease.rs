//! Leases, but for keeping them alive.

use proto::etcdserverpb::*;

use crate::call::calls;

calls! {
    // Compat: client/v3/retry.go (3.7.3) repeats grants and revokes; a grant with id 0 may thereby leave
    // a second lease behind, which ends by itself.
    lease_grant(LeaseGrantRequest) -> LeaseGrantResponse: "/etcdserverpb.Lease/LeaseGrant", Harmless;
    lease_revoke(LeaseRevokeRequest) -> LeaseRevokeResponse: "/etcdserverpb.Lease/LeaseRevoke", Harmless;
    lease_time_to_live(LeaseTimeToLiveRequest) -> LeaseTimeToLiveResponse:
        "/etcdserverpb.Lease/LeaseTimeToLive", Harmless;
    lease_leases(LeaseLeasesRequest) -> LeaseLeasesResponse: "/etcdserverpb.Lease/LeaseLeases", Harmless;
}
