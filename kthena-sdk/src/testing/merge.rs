//! Server-side apply, as far as it is played: by values, without owners of fields.

use serde_json::Value;

/// Removes what was applied before and is not any more.
pub(super) fn drop_left_out(object: &mut Value, before: &Value, now: &Value) {
    let (Some(object), Some(before)) = (object.as_object_mut(), before.as_object()) else {
        return;
    };
    for (key, before) in before {
        match now.get(key) {
            None => drop(object.remove(key)),
            Some(now) => {
                if let Some(member) = object.get_mut(key) {
                    drop_left_out(member, before, now);
                }
            }
        }
    }
}

/// Puts in what is applied. Lists are replaced.
pub(super) fn apply(object: &mut Value, applied: &Value) {
    match (object, applied) {
        (Value::Object(object), Value::Object(applied)) => {
            for (key, value) in applied {
                apply(object.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (object, applied) => object.clone_from(applied),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_left_out_goes_and_what_others_wrote_stays() {
        let before = json!({ "spec": { "a": 1, "b": { "c": 1 } }, "list": [1, 2] });
        let now = json!({ "spec": { "b": { "d": 2 } }, "list": [3] });
        let mut object = json!({ "spec": { "a": 1, "b": { "c": 1, "x": 0 }, "y": 0 }, "list": [1, 2] });
        drop_left_out(&mut object, &before, &now);
        apply(&mut object, &now);
        assert_eq!(
            object,
            json!({ "spec": { "b": { "x": 0, "d": 2 }, "y": 0 }, "list": [3] })
        );
    }
}
