//! The gRPC side: health, reflection and request metrics around a component's services.

mod messages;
mod metrics;

use std::collections::HashMap;

use prost::Message;
use prost_types::FileDescriptorSet;
use tokio::sync::watch;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::{Error, Kind, Result, Services};

pub use messages::MAX_REQUEST_BYTES;
pub(crate) use messages::MessagesLayer;
pub(crate) use metrics::GrpcMetricsLayer;

/// Adds `grpc.health.v1.Health` and both versions of server reflection.
pub(crate) fn with_health_and_reflection(services: Services) -> Result<(Routes, HealthReporter)> {
    let (reporter, health) = tonic_health::server::health_reporter();
    let builder = || {
        let all = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
        services
            .descriptors
            .iter()
            .fold(all, |builder, set| builder.register_encoded_file_descriptor_set(set))
    };
    let failed = |e: tonic_reflection::server::Error| {
        Error::caused(Kind::Internal, "start grpc reflection", e)
    };
    let reflection = builder().build_v1().map_err(failed)?;
    let older_reflection = builder().build_v1alpha().map_err(failed)?;
    let services =
        services.routes.add_service(health).add_service(reflection).add_service(older_reflection);
    Ok((services, reporter))
}

/// Keeps the health service in step with the readiness signal, until the signal's owner is gone.
pub(crate) async fn follow_readiness(reporter: HealthReporter, mut ready: watch::Receiver<bool>) {
    loop {
        let status = if *ready.borrow_and_update() {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        reporter.set_service_status("", status).await;
        if ready.changed().await.is_err() {
            return;
        }
    }
}

/// Every method by its path `/service/method`, and whether it streams its answer.
pub(crate) fn methods(descriptors: &[&'static [u8]]) -> Result<HashMap<String, bool>> {
    let mut methods = HashMap::new();
    for set in descriptors {
        let set = FileDescriptorSet::decode(*set)
            .map_err(|e| Error::caused(Kind::Internal, "read grpc descriptors", e))?;
        for file in &set.file {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    methods.insert(path, method.server_streaming());
                }
            }
        }
    }
    Ok(methods)
}
