//! Cluster: who the members are, and who joins, leaves, moves or votes.

use membership::MemberId;
use proto::etcdserverpb::{
    Member, MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse, MemberPromoteRequest,
    MemberPromoteResponse, MemberRemoveRequest, MemberRemoveResponse, MemberUpdateRequest,
    MemberUpdateResponse, ResponseHeader,
};
use server::{JoinAs, ReadMode};

use super::wire::Header;
use super::{OnLearner, Services};
use crate::grpc::{Call, Message, Router, Status};

const SERVICE: &str = "etcdserverpb.Cluster";

pub(super) fn register(services: &Services, router: &mut Router) {
    macro_rules! unary {
        ($name:literal, $method:ident) => {
            let services = services.clone();
            router.unary(SERVICE, $name, move |call, request| {
                let services = services.clone();
                async move { services.$method(call, request).await }
            });
        };
    }
    unary!("MemberAdd", member_add);
    unary!("MemberRemove", member_remove);
    unary!("MemberUpdate", member_update);
    unary!("MemberList", member_list);
    unary!("MemberPromote", member_promote);
}

impl Services {
    async fn member_add(&self, call: Call, request: MemberAddRequest) -> Result<Message, Status> {
        self.admit_unary(&call, OnLearner::Refused)?;
        let join_as = if request.is_learner { JoinAs::Learner } else { JoinAs::Voter };
        let (member, members) = self.server.member_add(&request.peer_ur_ls, join_as).await?;
        Ok(Message::encode(&MemberAddResponse {
            header: self.cluster_header(),
            member: Some(wire(member)),
            members: wires(members),
        }))
    }

    async fn member_remove(&self, call: Call, request: MemberRemoveRequest) -> Result<Message, Status> {
        self.admit_unary(&call, OnLearner::Refused)?;
        let members = self.server.member_remove(MemberId(request.id)).await?;
        let (header, members) = (self.cluster_header(), wires(members));
        Ok(Message::encode(&MemberRemoveResponse { header, members }))
    }

    async fn member_update(&self, call: Call, request: MemberUpdateRequest) -> Result<Message, Status> {
        self.admit_unary(&call, OnLearner::Refused)?;
        let members = self.server.member_update(MemberId(request.id), &request.peer_ur_ls).await?;
        let (header, members) = (self.cluster_header(), wires(members));
        Ok(Message::encode(&MemberUpdateResponse { header, members }))
    }

    async fn member_promote(&self, call: Call, request: MemberPromoteRequest) -> Result<Message, Status> {
        self.admit_unary(&call, OnLearner::Refused)?;
        let members = self.server.member_promote(MemberId(request.id)).await?;
        let (header, members) = (self.cluster_header(), wires(members));
        Ok(Message::encode(&MemberPromoteResponse { header, members }))
    }

    async fn member_list(&self, call: Call, request: MemberListRequest) -> Result<Message, Status> {
        self.admit_unary(&call, OnLearner::Refused)?;
        let mode = if request.linearizable { ReadMode::Linearizable } else { ReadMode::Serializable };
        let members = self.server.members(mode).await?;
        let (header, members) = (self.cluster_header(), wires(members));
        Ok(Message::encode(&MemberListResponse { header, members }))
    }

    /// Compat: answers of this service name no revision.
    fn cluster_header(&self) -> Option<ResponseHeader> {
        Some(Header { revision: 0, ..self.header_now() }.to_proto())
    }
}

/// By id, as etcd lists them.
fn wires(mut members: Vec<membership::Member>) -> Vec<Member> {
    members.sort_by_key(|member| member.id);
    members.into_iter().map(wire).collect()
}

fn wire(member: membership::Member) -> Member {
    Member {
        id: member.id.0,
        name: member.attributes.name,
        peer_ur_ls: member.peer_urls,
        client_ur_ls: member.attributes.client_urls,
        is_learner: member.is_learner,
    }
}
