//! `lws-standard-labels`: the labels by which a LeaderWorkerSet's own controller marks pods.

use kthena_api::labels;
use serde_json::Value;
use sha1::{Digest, Sha1};

use super::super::pod::Place;
use super::{BoxError, Plugin};

/// Its name.
pub(super) const NAME: &str = labels::LWS_PLUGIN;

/// The kind of the owner whose name the labels carry.
const OWNER: &str = "LeaderWorkerSet";

struct LwsStandardLabels;

/// Makes the plugin. It has no settings.
pub(super) fn new(settings: &Value) -> Result<Box<dyn Plugin>, BoxError> {
    let is_empty = settings.is_null() || settings.as_object().is_some_and(serde_json::Map::is_empty);
    if !is_empty {
        return Err("this plugin has no settings".into());
    }
    Ok(Box::new(LwsStandardLabels))
}

impl Plugin for LwsStandardLabels {
    fn on_pod_create(&self, place: &Place<'_>, pod: &mut Value) -> Result<(), BoxError> {
        let owners = place.serving.metadata.owner_references.iter().flatten();
        let Some(owner) = owners.into_iter().find(|owner| owner.kind == OWNER) else {
            return Ok(());
        };
        let key = Sha1::digest(format!("{}-{}", owner.name, place.group));
        let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        let labels = &mut pod["metadata"]["labels"];
        labels[labels::LWS_NAME] = owner.name.clone().into();
        labels[labels::LWS_GROUP_INDEX] = place.group.to_string().into();
        labels[labels::LWS_WORKER_INDEX] = place.index.to_string().into();
        labels[labels::LWS_GROUP_KEY] = key.into();
        Ok(())
    }
}
