//! Objects decoded one by one, so that one that does not have the shape of its kind is only itself lost. Twice the work of
//! decoding a list as a whole: done only once a list or an event could not be decoded. Knows nothing of what an object means.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::serde::de::{Deserialize, DeserializeOwned, Deserializer};
use kube::Resource;
use kube::runtime::watcher;
use serde_json::Value;

/// An object, or what is wrong with it.
#[derive(Clone, Debug)]
pub(super) struct Lenient<K> {
    metadata: ObjectMeta,
    pub(super) object: Result<K, Misshapen>,
}

/// What cannot be decoded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Misshapen {
    /// Path of the field, such as `spec.ports[0].port`.
    pub(super) field: String,
    /// What stands there, and what should.
    pub(super) error: String,
}

impl<'de, K: DeserializeOwned> Deserialize<'de> for Lenient<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let object = serde_path_to_error::deserialize(&value)
            .map_err(|error| Misshapen { field: error.path().to_string(), error: error.inner().to_string() });
        Ok(Self { metadata: metadata(&value), object })
    }
}

/// What the watch itself needs, wherever it has its shape: the rest may be what is wrong.
fn metadata(value: &Value) -> ObjectMeta {
    let text = |name: &str| value.get("metadata")?.get(name)?.as_str().map(str::to_owned);
    ObjectMeta {
        name: text("name"),
        namespace: text("namespace"),
        resource_version: text("resourceVersion"),
        ..ObjectMeta::default()
    }
}

impl<K: Resource> Resource for Lenient<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dt: &K::DynamicType) -> Cow<'_, str> {
        K::kind(dt)
    }

    fn group(dt: &K::DynamicType) -> Cow<'_, str> {
        K::group(dt)
    }

    fn version(dt: &K::DynamicType) -> Cow<'_, str> {
        K::version(dt)
    }

    fn plural(dt: &K::DynamicType) -> Cow<'_, str> {
        K::plural(dt)
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// Whether a watch failed because something that it brought has not the shape of the kind.
pub(super) fn is_misshapen(error: &watcher::Error) -> bool {
    let cause = match error {
        watcher::Error::InitialListFailed(cause)
        | watcher::Error::WatchStartFailed(cause)
        | watcher::Error::WatchFailed(cause) => cause,
        watcher::Error::WatchError(_) | watcher::Error::NoResourceVersion => return false,
    };
    if let kube::Error::SerdeError(error) = cause {
        return error.is_data();
    }
    // The library takes a line that is no event for a Status, of which every field may be missing.
    matches!(cause, kube::Error::Api(status) if status.code == 0 && status.status.is_none())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Service;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_misshapen_has_a_name_a_version_and_the_field_that_is_wrong() {
        let text = json!({"metadata": {"name": "a", "namespace": "b", "resourceVersion": "7", "labels": {"x": "y"}},
            "spec": {"ports": [{"port": 80}, {"port": "eighty"}]}});
        let lenient: Lenient<Service> = serde_json::from_value(text.clone()).unwrap();
        let wanted = Misshapen {
            field: "spec.ports[1].port".into(),
            error: "invalid type: string \"eighty\", expected i32".into(),
        };
        assert_eq!(lenient.object, Err(wanted));
        let metadata = lenient.meta();
        let named = [&metadata.name, &metadata.namespace, &metadata.resource_version];
        assert_eq!(named.map(Option::as_deref), [Some("a"), Some("b"), Some("7")]);
    }

    #[test]
    fn what_has_its_shape_is_the_object_and_what_has_no_shape_at_all_is_nobody() {
        let good: Lenient<Service> = serde_json::from_value(json!({"metadata": {"name": "a"}})).unwrap();
        assert_eq!(good.object.unwrap().metadata.name.as_deref(), Some("a"));
        let metadata_is_wrong: Lenient<Service> =
            serde_json::from_value(json!({"metadata": {"name": "a", "labels": 5}})).unwrap();
        assert_eq!(metadata_is_wrong.metadata.name.as_deref(), Some("a"));
        assert_eq!(metadata_is_wrong.object.unwrap_err().field, "metadata.labels");
        let none: Lenient<Service> = serde_json::from_value(json!(["no object"])).unwrap();
        assert_eq!(none.metadata.name, None);
        assert!(none.object.is_err());
    }
}
