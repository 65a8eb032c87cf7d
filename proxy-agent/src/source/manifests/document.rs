//! Text of one file → objects, and the problems of what could not be read. Knows no file system.

use std::fmt;

use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::serde::Deserialize;
use k8s_openapi::serde::de::DeserializeOwned;
use serde_json::Value;

use crate::source::{Key, Kind, Object};

/// How a file is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Syntax {
    /// `.yaml`, `.yml`: documents divided by `---`.
    Yaml,
    /// `.json`: values one after the other.
    Json,
}

/// What was found in one file.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// Objects in the order of the file.
    pub(super) objects: Vec<(Key, Object)>,
    /// What could not be read.
    pub(super) problems: Vec<DocumentProblem>,
    /// Names of the NetworkPolicies among it.
    pub(super) undecoded: Vec<Key>,
}

/// Something in a file that could not be read: where it is, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DocumentProblem {
    /// Number of the document in the file, from 1.
    pub(super) document: usize,
    /// Number of the item in a List, from 1.
    pub(super) item: Option<usize>,
    /// The object, as far as it could be made out.
    pub(super) object: Option<String>,
    /// Path of the field, such as `spec.ports[0].port`.
    pub(super) field: Option<String>,
    /// What is wrong with it.
    pub(super) cause: String,
}

impl fmt::Display for DocumentProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { document, item, object, field, cause } = self;
        write!(f, "document {document}")?;
        if let Some(item) = item {
            write!(f, ", item {item}")?;
        }
        if let Some(object) = object {
            write!(f, ", {object}")?;
        }
        if let Some(field) = field {
            write!(f, ", {field}")?;
        }
        write!(f, ": {cause}")
    }
}

/// Reads every object of a file. One bad document does not stop the others, except that nothing can be read
/// behind a syntax error.
pub(super) fn read(text: &str, syntax: Syntax) -> Contents {
    let mut contents = Contents::default();
    let mut document = 0;
    let mut take = |value: Result<Value, String>| {
        document += 1;
        match value {
            Ok(value) => contents.document(document, value),
            Err(cause) => contents.problem(Place { document, item: None }, None, None, cause),
        }
    };
    match syntax {
        Syntax::Yaml => {
            let mut before = None;
            for part in serde_norway::Deserializer::from_str(text) {
                let value = Value::deserialize(part).map_err(|error| error.to_string());
                let error = value.as_ref().err().cloned();
                // Behind a syntax error the parser yields that error, with its line and column, for ever.
                if error.is_some() && error == before {
                    break;
                }
                take(value);
                before = error;
            }
        }
        Syntax::Json => {
            for part in serde_json::Deserializer::from_str(text).into_iter() {
                take(part.map_err(|error: serde_json::Error| error.to_string()));
            }
        }
    }
    contents
}

/// Where in the file.
#[derive(Clone, Copy)]
struct Place {
    document: usize,
    item: Option<usize>,
}

impl Contents {
    fn problem(&mut self, at: Place, object: Option<String>, field: Option<String>, cause: String) {
        let Place { document, item } = at;
        self.problems.push(DocumentProblem { document, item, object, field, cause });
    }

    fn document(&mut self, document: usize, value: Value) {
        let place = Place { document, item: None };
        match value {
            // An empty document: text between two `---`, or only comments.
            Value::Null => {}
            Value::Object(mut map) => match list_of(&map) {
                Some(kind) => {
                    let api_version = text(&map, "apiVersion").unwrap_or_default().to_owned();
                    let items = match map.remove("items") {
                        Some(Value::Array(items)) => items,
                        Some(_) | None => Vec::new(),
                    };
                    for (index, mut item) in items.into_iter().enumerate() {
                        let place = Place { document, item: Some(index + 1) };
                        // Items of a ServiceList need not repeat what the list says.
                        if let (Value::Object(item), false) = (&mut item, kind.is_empty()) {
                            item.entry("kind").or_insert_with(|| kind.clone().into());
                            item.entry("apiVersion").or_insert_with(|| api_version.clone().into());
                        }
                        self.object(place, item);
                    }
                }
                None => self.object(place, Value::Object(map)),
            },
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                self.object(place, value)
            }
        }
    }

    fn object(&mut self, place: Place, value: Value) {
        let Value::Object(map) = &value else {
            return self.problem(place, None, None, "not a Kubernetes object: no kind, no apiVersion".into());
        };
        let Some(kind_name) = text(map, "kind") else {
            return self.problem(place, name_of(&value, "object"), Some("kind".into()), "missing".into());
        };
        let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.name() == kind_name) else {
            tracing::debug!(kind = kind_name, document = place.document, "not a kind that is read");
            return;
        };
        let label = name_of(&value, kind.name());
        let version = text(map, "apiVersion");
        let policy =
            (kind == Kind::NetworkPolicy && may_be_meant(version)).then(|| policy_of(&value)).flatten();
        match version {
            Some(version) if version == kind.api_version() => {}
            version => {
                let version = version.unwrap_or("none");
                let cause = format!("{version:?} is not read, write {:?}", kind.api_version());
                self.undecoded.extend(policy);
                return self.problem(place, label, Some("apiVersion".into()), cause);
            }
        }
        match decode(kind, value) {
            Ok(object) => match object.key() {
                Some(key) => self.objects.push((key, object)),
                None => self.problem(place, label, Some("metadata.name".into()), "missing".into()),
            },
            Err((field, cause)) => {
                self.undecoded.extend(policy);
                self.problem(place, label, field, cause);
            }
        }
    }
}

/// Kind of the items if the document is a list: empty for a `List`, `Service` for a `ServiceList`.
fn list_of(map: &serde_json::Map<String, Value>) -> Option<String> {
    let kind = text(map, "kind")?.strip_suffix("List")?;
    map.contains_key("items").then(|| kind.to_owned())
}

fn text<'a>(map: &'a serde_json::Map<String, Value>, field: &str) -> Option<&'a str> {
    map.get(field).and_then(Value::as_str)
}

/// `Service default/web`, as far as the metadata tells.
fn name_of(value: &Value, kind: &str) -> Option<String> {
    let metadata = value.get("metadata")?;
    let name = metadata.get("name")?.as_str()?.escape_debug();
    match metadata.get("namespace").and_then(Value::as_str) {
        Some(namespace) => Some(format!("{kind} {}/{name}", namespace.escape_debug())),
        None => Some(format!("{kind} {name}")),
    }
}

/// A NetworkPolicy of this version is one of Kubernetes, of whatever time, or says nothing of whose it is. One of another group
/// is of another kind, though that has the same name: it is for somebody else.
fn may_be_meant(version: Option<&str>) -> bool {
    let group = version.map_or("", |version| version.rsplit_once('/').map_or("", |(group, _)| group));
    ["", "networking.k8s.io", "extensions"].contains(&group)
}

/// Whose policy it is, as far as the metadata tells.
fn policy_of(value: &Value) -> Option<Key> {
    let text = |name: &str| value.get("metadata")?.get(name)?.as_str();
    let metadata = ObjectMeta {
        name: text("name").map(str::to_owned),
        namespace: text("namespace").map(str::to_owned),
        ..ObjectMeta::default()
    };
    let policy = NetworkPolicy { metadata, ..NetworkPolicy::default() };
    Object::NetworkPolicy(Box::new(policy)).key()
}

fn decode(kind: Kind, value: Value) -> Result<Object, (Option<String>, String)> {
    Ok(match kind {
        Kind::Service => Object::Service(typed(value)?),
        Kind::EndpointSlice => Object::EndpointSlice(typed(value)?),
        Kind::Node => Object::Node(typed(value)?),
        Kind::Namespace => Object::Namespace(typed(value)?),
        Kind::Pod => Object::Pod(typed(value)?),
        Kind::ServiceCidr => Object::ServiceCidr(typed(value)?),
        Kind::NetworkPolicy => Object::NetworkPolicy(typed(value)?),
        Kind::ClusterNetworkPolicy => Object::ClusterNetworkPolicy(typed(value)?),
    })
}

fn typed<T: DeserializeOwned>(value: Value) -> Result<Box<T>, (Option<String>, String)> {
    serde_path_to_error::deserialize(value).map(Box::new).map_err(|error| {
        let path = error.path().to_string();
        (Some(path).filter(|path| path != "."), error.into_inner().to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(contents: &Contents) -> Vec<String> {
        contents.objects.iter().map(|(key, _)| key.to_string()).collect()
    }

    fn problems(contents: &Contents) -> Vec<String> {
        contents.problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn documents_lists_and_typed_lists_all_give_their_objects() {
        let text = "
# a comment only
---
apiVersion: v1
kind: Service
metadata: {name: web}
---
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Node, metadata: {name: n1, namespace: ignored}}
- {apiVersion: apps/v1, kind: Deployment, metadata: {name: not-read}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSliceList
items:
- {addressType: IPv4, endpoints: [], metadata: {name: web-1, namespace: shop}}
";
        let contents = read(text, Syntax::Yaml);
        assert_eq!(keys(&contents), ["Service default/web", "Node n1", "EndpointSlice shop/web-1"]);
        assert_eq!(problems(&contents), [""; 0]);
    }

    #[test]
    fn json_values_may_follow_each_other() {
        let text = r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"a"}}
                      {"apiVersion":"v1","kind":"Service","metadata":{"name":"b"}}"#;
        assert_eq!(keys(&read(text, Syntax::Json)), ["Service default/a", "Service default/b"]);
    }

    #[test]
    fn a_bad_document_is_named_with_object_and_field_and_the_others_are_read() {
        let text = "
apiVersion: v1
kind: Service
metadata: {name: bad, namespace: shop}
spec: {ports: [{port: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: good}
---
[1, 2]
---
apiVersion: discovery.k8s.io/v1beta1
kind: EndpointSlice
metadata: {name: old}
---
apiVersion: v1
kind: Service
spec: {}
";
        let contents = read(text, Syntax::Yaml);
        assert_eq!(keys(&contents), ["Service default/good"]);
        assert_eq!(
            problems(&contents),
            [
                "document 1, Service shop/bad, spec.ports[0].port: invalid type: string \"http\", expected i32",
                "document 3: not a Kubernetes object: no kind, no apiVersion",
                "document 4, EndpointSlice old, apiVersion: \"discovery.k8s.io/v1beta1\" is not read, \
                 write \"discovery.k8s.io/v1\"",
                "document 5, metadata.name: missing",
            ]
        );
    }

    #[test]
    fn a_syntax_error_keeps_what_was_read_before_it() {
        let text = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\n---\nkind: [unclosed\n---\nkind: x\n";
        let contents = read(text, Syntax::Yaml);
        assert_eq!(keys(&contents), ["Service default/a"]);
        let [problem] = &contents.problems[..] else { panic!("{:?}", contents.problems) };
        assert_eq!(problem.document, 2);
    }
}
