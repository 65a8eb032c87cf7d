//! Label selectors (item 17).

use std::collections::BTreeMap;
use std::fmt;

use super::digest::Encoder;
use crate::fact::{Name, Operator, Requirement, Selector};

type Labels = BTreeMap<Name, Name>;

impl Selector {
    /// Everything that it asks for holds.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.expressions.iter().all(|expression| expression.matches(labels))
    }

    /// It asks for nothing.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.expressions.is_empty()
    }

    pub(super) fn encode(&self, into: &mut Encoder) {
        into.count(self.labels.len());
        for (key, value) in &self.labels {
            into.text(key).text(value);
        }
        into.count(self.expressions.len());
        for Requirement { key, operator } in &self.expressions {
            into.text(key);
            match operator {
                Operator::In(values) => into.tag(1).texts(values),
                Operator::NotIn(values) => into.tag(2).texts(values),
                Operator::Exists => into.tag(3),
                Operator::DoesNotExist => into.tag(4),
            };
        }
    }
}

impl Requirement {
    fn matches(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        match &self.operator {
            Operator::In(values) => value.is_some_and(|value| values.contains(value)),
            // It also holds where the label is missing.
            Operator::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

impl Encoder {
    fn texts<'a>(
        &mut self,
        texts: impl IntoIterator<Item = &'a Name, IntoIter: ExactSizeIterator>,
    ) -> &mut Self {
        let texts = texts.into_iter();
        self.count(texts.len());
        for text in texts {
            self.text(text);
        }
        self
    }
}

/// As `kubectl -l` takes it.
impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let labels = self.labels.iter().map(|(key, value)| format!("{key}={value}"));
        let all: Vec<_> = labels.chain(self.expressions.iter().map(ToString::to_string)).collect();
        f.write_str(&if all.is_empty() { "all".to_owned() } else { all.join(",") })
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        let list = |values: &std::collections::BTreeSet<Name>| {
            values.iter().map(|value| &**value).collect::<Vec<_>>().join(",")
        };
        match &self.operator {
            Operator::In(values) => write!(f, "{key} in ({})", list(values)),
            Operator::NotIn(values) => write!(f, "{key} notin ({})", list(values)),
            Operator::Exists => write!(f, "{key}"),
            Operator::DoesNotExist => write!(f, "!{key}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(list: &[(&str, &str)]) -> Labels {
        list.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
    }

    fn asks(key: &str, operator: Operator) -> Selector {
        Selector { labels: [].into(), expressions: vec![Requirement { key: key.into(), operator }] }
    }

    #[test]
    fn item_17_every_operator_asks_what_the_api_says() {
        let (web, db, none) = (labels(&[("app", "web")]), labels(&[("app", "db")]), labels(&[]));
        let values = || ["web".into(), "dns".into()].into();
        let table = [
            (Selector::default(), [true, true, true], "all"),
            (Selector { labels: web.clone(), expressions: vec![] }, [true, false, false], "app=web"),
            (asks("app", Operator::In(values())), [true, false, false], "app in (dns,web)"),
            (asks("app", Operator::NotIn(values())), [false, true, true], "app notin (dns,web)"),
            (asks("app", Operator::Exists), [true, true, false], "app"),
            (asks("app", Operator::DoesNotExist), [false, false, true], "!app"),
            (asks("app", Operator::In([].into())), [false, false, false], "app in ()"),
        ];
        for (selector, expected, text) in table {
            assert_eq!([&web, &db, &none].map(|labels| selector.matches(labels)), expected, "{selector}");
            assert_eq!(selector.to_string(), text);
        }
    }

    #[test]
    fn item_17_labels_and_expressions_must_all_hold() {
        let selector = Selector { labels: labels(&[("app", "web")]), ..asks("tier", Operator::Exists) };
        assert!(selector.matches(&labels(&[("app", "web"), ("tier", "x")])));
        assert!(!selector.matches(&labels(&[("app", "web")])));
        assert!(!selector.matches(&labels(&[("tier", "x")])));
    }
}
