//! The standard gRPC health service. The empty name is the whole member; no other is known.

use std::collections::HashMap;

use proto::healthpb::health_check_response::ServingStatus;
use proto::healthpb::{HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse};

use super::{OnLearner, Services};
use crate::connection::stopped;
use crate::error::RequestError;
use crate::grpc::{Call, Message, Outbound, Router, Status};

const SERVICE: &str = "grpc.health.v1.Health";

pub(super) fn register(services: &Services, router: &mut Router) {
    let check = services.clone();
    router.unary(SERVICE, "Check", move |call, request| {
        let services = check.clone();
        async move { services.health_check(call, request).await }
    });
    let list = services.clone();
    router.unary(SERVICE, "List", move |call, _: HealthListRequest| {
        let services = list.clone();
        async move { services.health_list(call).await }
    });
    let watch = services.clone();
    router.server_stream(SERVICE, "Watch", move |call, request, out| {
        let services = watch.clone();
        async move { services.health_watch(call, request, out).await }
    });
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status as i32 }
}

impl Services {
    fn serving(&self) -> ServingStatus {
        if *self.stop.borrow() { ServingStatus::NotServing } else { ServingStatus::Serving }
    }

    async fn health_check(&self, call: Call, request: HealthCheckRequest) -> Result<Message, Status> {
        self.admit_unary(&call, OnLearner::Refused)?;
        if !request.service.is_empty() {
            return Err(RequestError::UnknownHealthService.into());
        }
        Ok(Message::encode(&response(self.serving())))
    }

    async fn health_list(&self, call: Call) -> Result<Message, Status> {
        self.admit_unary(&call, OnLearner::Refused)?;
        let statuses = HashMap::from([(String::new(), response(self.serving()))]);
        Ok(Message::encode(&HealthListResponse { statuses }))
    }

    async fn health_watch(
        &self,
        call: Call,
        request: HealthCheckRequest,
        out: Outbound,
    ) -> Result<(), Status> {
        let wish = self.admit_stream(&call, OnLearner::Refused)?;
        let known = request.service.is_empty();
        let status = if known { self.serving() } else { ServingStatus::ServiceUnknown };
        out.send(Message::encode(&response(status))).await?;
        tokio::select! {
            biased;
            () = stopped(self.stop.clone()) => {
                if known && status != ServingStatus::NotServing {
                    out.send(Message::encode(&response(ServingStatus::NotServing))).await?;
                }
                Err(server::Error::Stopped.into())
            }
            status = self.must_end(wish) => Err(status),
        }
    }
}
