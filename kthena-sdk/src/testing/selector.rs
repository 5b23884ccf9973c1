//! Which objects a list or a watch is about.

use serde_json::Value;

use super::refusal::Refusal;
use super::request::Request;
use super::store::Place;

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub(super) struct Filter {
    group: String,
    resource: String,
    namespace: Option<String>,
    labels: Vec<Term>,
    fields: Vec<Term>,
}

/// A condition on a label or field.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Term {
    key: String,
    test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    Exists,
    Missing,
    In(Vec<String>),
    NotIn(Vec<String>),
}

impl Filter {
    pub(super) fn of(request: &Request) -> Result<Self, Refusal> {
        let terms = |parameter| {
            let terms = split(request.parameter(parameter).unwrap_or_default());
            terms.into_iter().map(Term::parse).collect::<Result<Vec<_>, _>>()
        };
        Ok(Self {
            group: request.group.clone(),
            resource: request.resource.clone(),
            namespace: request.namespace.clone(),
            labels: terms("labelSelector")?,
            fields: terms("fieldSelector")?,
        })
    }

    pub(super) fn takes(&self, place: &Place, object: &Value) -> bool {
        let is_here = place.group == self.group
            && place.resource == self.resource
            && self
                .namespace
                .as_ref()
                .is_none_or(|namespace| *namespace == place.namespace);
        let labels = &object["metadata"]["labels"];
        is_here
            && self
                .labels
                .iter()
                .all(|term| term.holds(labels.get(&term.key).and_then(Value::as_str)))
            && self.fields.iter().all(|term| {
                let path = format!("/{}", term.key.replace('.', "/"));
                let value = object.pointer(&path).map(|value| match value {
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                });
                // What is not there is empty, to a field selector.
                term.holds(Some(value.as_deref().unwrap_or_default()))
            })
    }
}

/// Terms are separated by commas, and so are values in brackets.
fn split(selector: &str) -> Vec<&str> {
    let mut depth = 0;
    let mut terms = Vec::new();
    let mut start = 0;
    for (at, byte) in selector.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' => depth -= 1,
            b',' if depth == 0 => {
                terms.push(&selector[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    terms.push(&selector[start..]);
    terms.retain(|term| !term.trim().is_empty());
    terms
}

impl Term {
    fn parse(text: &str) -> Result<Self, Refusal> {
        let text = text.trim();
        let one = |value: &str| vec![value.trim().to_owned()];
        let (key, test) = if let Some((key, value)) = text.split_once("!=") {
            (key, Test::NotIn(one(value)))
        } else if let Some((key, value)) = text.split_once("==") {
            (key, Test::In(one(value)))
        } else if let Some((key, value)) = text.split_once('=') {
            (key, Test::In(one(value)))
        } else if let Some((head, values)) = text.split_once('(') {
            let values = values.trim_end_matches(')').split(',');
            let values = values.map(|value| value.trim().to_owned()).collect();
            match head.trim().rsplit_once(' ') {
                Some((key, "in")) => (key, Test::In(values)),
                Some((key, "notin")) => (key, Test::NotIn(values)),
                _ => return Err(Refusal::bad_request(format!("cannot read the selector {text:?}"))),
            }
        } else if let Some(key) = text.strip_prefix('!') {
            (key, Test::Missing)
        } else {
            (text, Test::Exists)
        };
        let key = key.trim().to_owned();
        if key.is_empty() || key.contains(char::is_whitespace) {
            return Err(Refusal::bad_request(format!("cannot read the selector {text:?}")));
        }
        Ok(Self { key, test })
    }

    fn holds(&self, value: Option<&str>) -> bool {
        let is_among = |values: &[String]| value.is_some_and(|value| values.iter().any(|it| it == value));
        match &self.test {
            Test::Exists => value.is_some(),
            Test::Missing => value.is_none(),
            Test::In(values) => is_among(values),
            Test::NotIn(values) => !is_among(values),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn takes(labels: &str, fields: &str) -> bool {
        let terms = |text| split(text).into_iter().map(Term::parse).collect::<Result<_, _>>();
        let filter = Filter {
            resource: "pods".to_owned(),
            labels: terms(labels).unwrap(),
            fields: terms(fields).unwrap(),
            ..Filter::default()
        };
        let object = json!({
            "metadata": { "name": "x", "labels": { "app": "a", "tier": "front" } },
            "spec": { "nodeName": "n", "priority": 3 },
        });
        let place = Place {
            resource: "pods".to_owned(),
            ..Place::default()
        };
        filter.takes(&place, &object)
    }

    #[test]
    fn labels_are_compared_as_kubectl_does() {
        for (selector, expected) in [
            ("", true),
            ("app", true),
            ("!app", false),
            ("!other", true),
            ("app=a", true),
            ("app==a,tier=front", true),
            ("app=a,tier=back", false),
            ("app!=a", false),
            ("other!=a", true),
            ("app in (a, b),tier notin (back)", true),
            ("app in (b,c)", false),
        ] {
            assert_eq!(takes(selector, ""), expected, "{selector}");
        }
    }

    #[test]
    fn fields_that_are_not_there_are_empty() {
        for (selector, expected) in [
            ("metadata.name=x", true),
            ("metadata.name=y", false),
            ("spec.nodeName!=", true),
            ("status.phase!=Failed", true),
            ("status.phase=", true),
            ("spec.priority=3", true),
        ] {
            assert_eq!(takes("", selector), expected, "{selector}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["a within (b)", "=b", "a b"] {
            assert!(Term::parse(text).is_err(), "{text}");
        }
    }
}
