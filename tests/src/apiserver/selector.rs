//! What a list is restricted to: labels and the few fields that the agent and kube-proxy select by.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

/// Of an object, what it can be selected by.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Marks {
    pub(super) labels: BTreeMap<String, String>,
    pub(super) name: String,
    /// Of a pod.
    pub(super) phase: String,
    /// Of a Service.
    pub(super) cluster_ip: String,
}

/// Conditions, all of which have to hold.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Selector(Vec<Condition>);

#[derive(Clone, PartialEq, Eq, Debug)]
enum Condition {
    Has(String),
    Lacks(String),
    Label(String, String),
    Name(String),
    NotName(String),
    NotPhase(String),
    NotClusterIp(String),
}

impl Selector {
    /// Reads `labelSelector` and `fieldSelector`.
    ///
    /// # Errors
    /// A condition that nobody knows here.
    pub(super) fn parse(labels: &str, fields: &str) -> Result<Self> {
        let parts = |text: &str| -> Vec<String> {
            text.split(',').filter(|part| !part.is_empty()).map(str::to_owned).collect()
        };
        let label = |part: String| match (part.strip_prefix('!'), part.split_once('=')) {
            (Some(key), _) => Condition::Lacks(key.to_owned()),
            (None, Some((key, value))) => Condition::Label(key.to_owned(), value.to_owned()),
            (None, None) => Condition::Has(part),
        };
        let mut conditions: Vec<Condition> = parts(labels).into_iter().map(label).collect();
        for part in parts(fields) {
            let condition = match part.split_once('=') {
                Some(("metadata.name!", value)) => Condition::NotName(value.to_owned()),
                Some(("metadata.name", value)) => Condition::Name(value.to_owned()),
                Some(("status.phase!", value)) => Condition::NotPhase(value.to_owned()),
                Some(("spec.clusterIP!", value)) => Condition::NotClusterIp(value.to_owned()),
                _ => bail!("field selector {part}"),
            };
            conditions.push(condition);
        }
        Ok(Self(conditions))
    }

    /// Whether the object is in the list.
    pub(super) fn takes(&self, marks: &Marks) -> bool {
        self.0.iter().all(|condition| match condition {
            Condition::Has(key) => marks.labels.contains_key(key),
            Condition::Lacks(key) => !marks.labels.contains_key(key),
            Condition::Label(key, value) => marks.labels.get(key) == Some(value),
            Condition::Name(name) => marks.name == *name,
            Condition::NotName(name) => marks.name != *name,
            Condition::NotPhase(phase) => marks.phase != *phase,
            Condition::NotClusterIp(ip) => marks.cluster_ip != *ip,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_in_a_list_if_every_condition_holds() {
        let marks = Marks {
            labels: [("a".to_owned(), "1".to_owned())].into(),
            name: "n1".to_owned(),
            phase: "Running".to_owned(),
            cluster_ip: "None".to_owned(),
        };
        let takes = |labels: &str, fields: &str| Selector::parse(labels, fields).unwrap().takes(&marks);
        assert!(takes("", ""));
        assert!(takes("a,a=1,!b", "metadata.name=n1,status.phase!=Failed"));
        for (labels, fields) in [
            ("!a", ""),
            ("a=2", ""),
            ("b", ""),
            ("", "metadata.name!=n1"),
            ("", "metadata.name=n2"),
            ("", "status.phase!=Running"),
            ("", "spec.clusterIP!=None"),
        ] {
            assert!(!takes(labels, fields), "{labels} {fields}");
        }
        assert!(Selector::parse("", "spec.nodeName=n1").is_err());
    }
}
