//! Leases: grant, revoke, keep alive, time to live, list.

use lease::LeaseId;
use proto::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest,
    LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse, LeaseStatus, LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse,
};
use server::LeaseKeys;

use super::{OnLearner, Services};
use crate::grpc::{Call, Code, Inbound, Message, Outbound, Router, Status};

const SERVICE: &str = "etcdserverpb.Lease";

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
    unary!("LeaseGrant", lease_grant);
    unary!("LeaseRevoke", lease_revoke);
    unary!("LeaseTimeToLive", lease_time_to_live);
    unary!("LeaseLeases", lease_leases);
    let services = services.clone();
    router.bidi_stream(SERVICE, "LeaseKeepAlive", move |call, inbound, out| {
        let services = services.clone();
        async move { services.lease_keep_alive(call, inbound, out).await }
    });
}

impl Services {
    async fn lease_grant(&self, call: Call, request: LeaseGrantRequest) -> Result<Message, Status> {
        self.admit_unary(&call, OnLearner::Refused)?;
        let (id, ttl) = self.server.lease_grant(LeaseId::from_wire(request.id), request.ttl).await?;
        let header = Some(self.header_now().to_proto());
        Ok(Message::encode(&LeaseGrantResponse { header, id: id.0, ttl, error: String::new() }))
    }

    async fn lease_revoke(&self, call: Call, request: LeaseRevokeRequest) -> Result<Message, Status> {
        self.admit_unary(&call, OnLearner::Refused)?;
        let revision = self.server.lease_revoke(LeaseId(request.id)).await?;
        Ok(Message::encode(&LeaseRevokeResponse { header: Some(self.header(revision).to_proto()) }))
    }

    async fn lease_time_to_live(
        &self,
        call: Call,
        request: LeaseTimeToLiveRequest,
    ) -> Result<Message, Status> {
        self.admit_unary(&call, OnLearner::Refused)?;
        let keys = if request.keys { LeaseKeys::Listed } else { LeaseKeys::Omitted };
        let times = self.server.lease_times(LeaseId(request.id), keys).await?;
        let header = Some(self.header_now().to_proto());
        let response = match times {
            Some(times) => LeaseTimeToLiveResponse {
                header,
                id: request.id,
                ttl: times.remaining_secs,
                granted_ttl: times.granted_secs,
                keys: times.keys,
            },
            // Compat: no error for a lease that is not there.
            None => LeaseTimeToLiveResponse { header, id: request.id, ttl: -1, ..Default::default() },
        };
        Ok(Message::encode(&response))
    }

    async fn lease_leases(&self, call: Call, _: LeaseLeasesRequest) -> Result<Message, Status> {
        self.admit_unary(&call, OnLearner::Refused)?;
        let leases = self.server.leases().into_iter().map(|id| LeaseStatus { id: id.0 }).collect();
        Ok(Message::encode(&LeaseLeasesResponse { header: Some(self.header_now().to_proto()), leases }))
    }

    async fn lease_keep_alive(&self, call: Call, inbound: Inbound, out: Outbound) -> Result<(), Status> {
        let wish = self.admit_stream(&call, OnLearner::Refused)?;
        tokio::select! {
            outcome = self.renew_all(inbound, &out) => outcome,
            status = self.must_end(wish) => Err(status),
        }
    }

    async fn renew_all(&self, mut inbound: Inbound, out: &Outbound) -> Result<(), Status> {
        let failures = &self.metrics.stream_failures;
        let count = |status: &Status| {
            if status.code != Code::Canceled {
                failures.with_label_values(&["receive", "lease-keepalive"]).inc();
            }
        };
        while let Some(request) = inbound.next::<LeaseKeepAliveRequest>().await.inspect_err(count)? {
            // Compat: the header is from before the renewal.
            let header = Some(self.header_now().to_proto());
            // A lease that is not there, or no longer, has no time left.
            let ttl = self.server.lease_renew(LeaseId(request.id)).await?.unwrap_or(0);
            out.send(Message::encode(&LeaseKeepAliveResponse { header, id: request.id, ttl })).await?;
        }
        Ok(())
    }
}
