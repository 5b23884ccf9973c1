//! What a worker tells the API server.

use std::time::Duration;

use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
};

use super::{
    status::{self, View},
    worker::Worker,
};

/// A request to an API server that is not there should not hold up SIGTERM for long.
const REQUEST: Duration = Duration::from_secs(2);

impl Worker {
    /// Patches the status if it has changed; what fails is tried again at the next tick.
    pub(super) async fn report(&mut self) {
        let view = View {
            pod: &self.pod,
            ip: self.address,
            host: self.shared.settings.address,
            started: self.started,
            runs: &self.runs,
            readiness: self.readiness,
            is_over: self.is_over(),
        };
        let patch = status::patch(&view, &mut self.transitions, Timestamp::now());
        if self.is_deleted || self.reported.as_ref() == Some(&patch) {
            return;
        }
        let (api, name) = (self.api(), self.pod.metadata.name.clone().unwrap_or_default());
        let (parameters, body) = (PatchParams::default(), Patch::Strategic(&patch));
        match tokio::time::timeout(REQUEST, api.patch_status(&name, &parameters, &body)).await {
            Ok(Ok(_)) => self.reported = Some(patch),
            // It is gone, or another pod has its name.
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => {
                self.reported = Some(patch);
            }
            Ok(Err(kube::Error::Api(status))) if status.code < 500 && status.code != 429 => {
                eprintln!(
                    "{}: the API server refuses its status: {}",
                    self.name(),
                    status.message
                );
                self.reported = Some(patch);
            }
            Ok(Err(_)) | Err(_) => {}
        }
    }

    /// The kubelet's last word: the object goes now, unless finalizers hold it.
    pub(super) async fn delete(&self) -> bool {
        let preconditions = Preconditions {
            uid: self.pod.metadata.uid.clone(),
            resource_version: None,
        };
        let now = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(preconditions),
            ..DeleteParams::default()
        };
        let (api, name) = (self.api(), self.pod.metadata.name.clone().unwrap_or_default());
        let request = api.delete(&name, &now);
        matches!(
            tokio::time::timeout(REQUEST, request).await,
            Ok(Ok(_) | Err(kube::Error::Api(_)))
        )
    }

    fn api(&self) -> Api<Pod> {
        let namespace = self.pod.metadata.namespace.as_deref().unwrap_or("default");
        Api::namespaced(self.shared.client.clone(), namespace)
    }
}
