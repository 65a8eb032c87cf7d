//! LabelSelector → fact (item 17). What cannot be read makes the whole selector unreadable: without that part it would
//! select more than it should.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use proxy_model::fact::{Operator, Requirement, Selector};

use super::namespace::labels;
use super::{Closed, Fault, Report};

/// A selector; `None` if a part of it could not be read, which `report` has been told then, and what follows from it.
pub(super) fn selector(
    object: &LabelSelector,
    path: &str,
    follows: Closed,
    report: &mut Report<'_>,
) -> Option<Selector> {
    let all = object.match_expressions.iter().flatten().enumerate();
    let read = |(index, one)| {
        let path = || format!("{path}.matchExpressions[{index}].operator");
        report.keep(path, requirement(one, follows))
    };
    let expressions: Vec<Option<Requirement>> = all.map(read).collect();
    let expressions = expressions.into_iter().collect::<Option<_>>()?;
    Some(Selector { labels: labels(object.match_labels.iter().flatten()), expressions })
}

fn requirement(object: &LabelSelectorRequirement, follows: Closed) -> Result<Requirement, Fault> {
    let values: BTreeSet<_> = object.values.iter().flatten().map(|value| value.as_str().into()).collect();
    let operator = match (object.operator.as_str(), values.is_empty()) {
        ("In", false) => Operator::In(values),
        ("NotIn", false) => Operator::NotIn(values),
        ("Exists", true) => Operator::Exists,
        ("DoesNotExist", true) => Operator::DoesNotExist,
        ("In" | "NotIn", true) => return Err(follows.fault(format!("{} without values", object.operator))),
        ("Exists" | "DoesNotExist", false) => {
            return Err(follows.fault(format!("{} with values", object.operator)));
        }
        (other, _) => {
            return Err(follows.fault(format!("{other:?} is not In, NotIn, Exists or DoesNotExist")));
        }
    };
    Ok(Requirement { key: object.key.as_str().into(), operator })
}
