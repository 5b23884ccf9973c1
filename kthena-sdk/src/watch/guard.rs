//! An object that may fail to decode without its neighbours. kube's own guard goes by way of a generic value, which costs several
//! times as much as the object itself. It reads the text in place, so it needs the text: an event's type has to come before its object, as every
//! API server writes it.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::{DynamicResourceScope, PartialObjectMeta, Resource};
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// An object, or what is known of one that cannot be decoded.
#[derive(Debug, Clone)]
pub(super) struct Guarded<K>(pub(super) Result<K, Invalid>);

/// An object that cannot be decoded.
#[derive(Debug, Clone)]
pub(super) struct Invalid {
    /// Its metadata, which can.
    pub(super) metadata: ObjectMeta,
    /// What is wrong with it.
    pub(super) error: String,
}

impl<'de, K: Resource + DeserializeOwned> Deserialize<'de> for Guarded<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <&RawValue>::deserialize(deserializer)?;
        let object = serde_json::from_str(text.get()).map(Ok).or_else(|error| {
            let part: PartialObjectMeta<K> = serde_json::from_str(text.get()).map_err(Error::custom)?;
            Ok(Err(Invalid {
                metadata: part.metadata,
                error: error.to_string(),
            }))
        });
        object.map(Self)
    }
}

impl<K: Resource> Resource for Guarded<K> {
    type DynamicType = K::DynamicType;
    // Of either scope: an API of it has the namespace, or none, of an API of the object's own.
    type Scope = DynamicResourceScope;

    fn kind(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(dynamic)
    }

    fn group(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::group(dynamic)
    }

    fn version(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::version(dynamic)
    }

    fn plural(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(dynamic)
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.as_ref().map_or_else(|invalid| &invalid.metadata, K::meta)
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0
            .as_mut()
            .map_or_else(|invalid| &mut invalid.metadata, K::meta_mut)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use kube::core::{ObjectList, WatchEvent};

    use super::*;

    const GOOD: &str = r#"{"metadata":{"name":"good","resourceVersion":"7"},"spec":{"containers":[]}}"#;
    const BAD: &str = r#"{"metadata":{"name":"bad","namespace":"ns"},"spec":{"containers":"none"}}"#;

    #[test]
    fn one_bad_object_leaves_the_others_of_a_list_alone() {
        let text = format!(
            r#"{{"kind":"PodList","apiVersion":"v1","metadata":{{"resourceVersion":"9"}},"items":[{GOOD},{BAD}]}}"#
        );
        let list: ObjectList<Guarded<Pod>> = serde_json::from_slice(text.as_bytes()).unwrap();
        let [good, bad] = &list.items[..] else {
            panic!("{list:?}")
        };
        assert_eq!(good.meta().name.as_deref(), Some("good"));
        assert!(good.0.is_ok(), "{good:?}");
        assert_eq!(bad.meta().namespace.as_deref(), Some("ns"));
        let error = &bad.0.as_ref().unwrap_err().error;
        assert!(error.contains("none"), "{error}");
    }

    #[test]
    fn an_event_of_a_watch_holds_a_good_object_or_a_bad_one() {
        for text in [
            format!(r#"{{"type":"MODIFIED","object":{GOOD}}}"#),
            format!(r#"{{"type":"MODIFIED","object":{BAD}}}"#),
        ] {
            let event: WatchEvent<Guarded<Pod>> = serde_json::from_str(&text).unwrap();
            let WatchEvent::Modified(object) = event else {
                panic!("{text}")
            };
            assert_eq!(object.0.is_ok(), text.contains("good"), "{text}");
        }
    }

    #[test]
    fn what_has_no_metadata_is_no_object() {
        serde_json::from_str::<Guarded<Pod>>(r#"{"metadata":"none"}"#).unwrap_err();
    }
}
