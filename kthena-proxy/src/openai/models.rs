//! `GET /v1/models` and `GET /v1/models/{model}`.

use bytes::Bytes;
use serde::Serialize;

use crate::cluster::snapshot::Snapshot;
use crate::failure::{Failure, Kind};

#[derive(Serialize)]
struct List<'a> {
    object: &'static str,
    data: Vec<Model<'a>>,
}

#[derive(Serialize)]
struct Model<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    owned_by: &'static str,
}

impl<'a> Model<'a> {
    fn new(id: &'a str) -> Self {
        Self {
            id,
            object: "model",
            created: 0,
            owned_by: "kthena",
        }
    }
}

/// The list of models, made once for each snapshot.
pub fn list<'a>(names: impl Iterator<Item = &'a str>) -> Bytes {
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    let data = names.into_iter().map(Model::new).collect();
    serde_json::to_vec(&List { object: "list", data })
        .unwrap_or_default()
        .into()
}

/// The answer to a path below `/v1/models`; `None` for other paths.
#[must_use]
pub fn answer(path: &str, snapshot: &Snapshot) -> Option<Result<Bytes, Failure>> {
    let rest = path.strip_prefix("/v1/models")?;
    match rest.strip_prefix('/') {
        None if rest.is_empty() => Some(Ok(snapshot.model_list.clone())),
        None => None,
        Some("") => Some(Ok(snapshot.model_list.clone())),
        Some(name) => {
            let name = percent_decoded(name);
            Some(if snapshot.knows(&name) {
                Ok(serde_json::to_vec(&Model::new(&name)).unwrap_or_default().into())
            } else {
                Err(Failure::new(
                    Kind::RouteNotFound,
                    format!("route not found: no ModelRoute serves model {name:?}"),
                ))
            })
        }
    }
}

/// Undoes percent-encoding: model names hold slashes, which some clients encode in paths.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let hex = |digit: Option<&u8>| digit.and_then(|digit| (*digit as char).to_digit(16));
        match (byte, hex(after.first()), hex(after.get(1))) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = &after[2..];
            }
            _ => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_and_never_null() {
        assert_eq!(list([].into_iter()), r#"{"object":"list","data":[]}"#);
        assert_eq!(
            list(["m", "lora1"].into_iter()),
            r#"{"object":"list","data":[{"id":"lora1","object":"model","created":0,"owned_by":"kthena"},{"id":"m","object":"model","created":0,"owned_by":"kthena"}]}"#
        );
    }

    #[test]
    fn one_model_is_found_by_its_name_encoded_or_not() {
        let mut snapshot = Snapshot {
            model_list: list(["a/b"].into_iter()),
            ..Snapshot::default()
        };
        snapshot.models.insert("a/b".into(), Vec::new());
        for path in ["/v1/models/a/b", "/v1/models/a%2Fb"] {
            let body = answer(path, &snapshot).unwrap().unwrap();
            assert!(body.starts_with(br#"{"id":"a/b","object":"model""#));
        }
        assert_eq!(
            answer("/v1/models", &snapshot).unwrap().unwrap(),
            snapshot.model_list
        );
        assert_eq!(
            answer("/v1/models/x", &snapshot)
                .unwrap()
                .unwrap_err()
                .kind
                .status(),
            404
        );
        assert!(answer("/v1/modelsx", &snapshot).is_none());
    }
}
