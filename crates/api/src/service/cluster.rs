//! Cluster: who the members are. Changing them comes with replication; until then those methods are not there.

use proto::etcdserverpb::{Member, MemberListRequest, MemberListResponse};
use server::ReadMode;

use super::wire::Header;
use super::{OnLearner, Services};
use crate::grpc::{Call, Message, Router, Status};

pub(super) fn register(services: &Services, router: &mut Router) {
    let services = services.clone();
    router.unary("etcdserverpb.Cluster", "MemberList", move |call, request| {
        let services = services.clone();
        async move { services.member_list(call, request).await }
    });
}

impl Services {
    async fn member_list(&self, call: Call, request: MemberListRequest) -> Result<Message, Status> {
        self.admit_unary(&call, OnLearner::Refused)?;
        let mode = if request.linearizable { ReadMode::Linearizable } else { ReadMode::Serializable };
        let mut members = self.server.members(mode).await?;
        members.sort_by_key(|member| member.id);
        // Compat: answers of this service name no revision.
        let header = Header { revision: 0, ..self.header_now() };
        let members = members
            .into_iter()
            .map(|member| Member {
                id: member.id.0,
                name: member.attributes.name,
                peer_ur_ls: member.peer_urls,
                client_ur_ls: member.attributes.client_urls,
                is_learner: member.is_learner,
            })
            .collect();
        Ok(Message::encode(&MemberListResponse { header: Some(header.to_proto()), members }))
    }
}
