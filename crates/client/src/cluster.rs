//! Members.

use proto::etcdserverpb::*;

use crate::call::calls;

calls! {
    member_list(MemberListRequest) -> MemberListResponse: "/etcdserverpb.Cluster/MemberList", Harmless;
    member_add(MemberAddRequest) -> MemberAddResponse: "/etcdserverpb.Cluster/MemberAdd", OnlyUnsent;
    member_remove(MemberRemoveRequest) -> MemberRemoveResponse: "/etcdserverpb.Cluster/MemberRemove", OnlyUnsent;
    member_update(MemberUpdateRequest) -> MemberUpdateResponse: "/etcdserverpb.Cluster/MemberUpdate", OnlyUnsent;
    member_promote(MemberPromoteRequest) -> MemberPromoteResponse:
        "/etcdserverpb.Cluster/MemberPromote", OnlyUnsent;
}
