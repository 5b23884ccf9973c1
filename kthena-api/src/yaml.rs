//! YAML as kubectl reads it. Behind the feature `yaml`.

use serde_json::Value;

use crate::schema::integral_numbers;

/// A text is not YAML; says why, and in which line.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct InvalidYaml(Box<dyn std::error::Error + Send + Sync>);

/// Reads the documents of a YAML text as JSON, the way kubectl does: `0777` is octal, `yes` is a boolean, `10.0` is the
/// integer 10. Empty documents are left out.
///
/// ```
/// let documents = kthena_api::yaml::read("mode: 0777\n---\n# nothing\n---\nsize: 10.0")?;
/// assert_eq!(documents, [serde_json::json!({ "mode": 511 }), serde_json::json!({ "size": 10 })]);
/// # Ok::<(), kthena_api::yaml::InvalidYaml>(())
/// ```
pub fn read(text: &str) -> Result<Vec<Value>, InvalidYaml> {
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    let mut documents: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options)
        .map_err(|error| InvalidYaml(error.to_string().into()))?;
    documents.retain(|document| !document.is_null());
    documents.iter_mut().for_each(integral_numbers);
    Ok(documents)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn scalars_mean_what_they_mean_to_kubectl() {
        let text = "[0644, 644, '0644', 0x10, 1.0, 1.5, 1e3, yes, 'yes', off, ~, null, '', 405b, 2.x]";
        let expected = json!([
            420, 644, "0644", 16, 1, 1.5, 1000, true, "yes", false, null, null, "", "405b", "2.x"
        ]);
        assert_eq!(read(text).unwrap(), [expected]);
    }

    #[test]
    fn documents_without_content_are_left_out() {
        assert_eq!(
            read("---\n---\n# a remark\n---\na: b\n---\n").unwrap(),
            [json!({ "a": "b" })]
        );
        assert_eq!(read("").unwrap(), [json!(null); 0]);
    }

    #[test]
    fn anchors_stand_for_what_they_name() {
        assert_eq!(
            read("a: &x { b: c }\nd: *x").unwrap(),
            [json!({ "a": { "b": "c" }, "d": { "b": "c" } })]
        );
    }

    #[test]
    fn an_error_says_where() {
        let error = read("a: b\nc: [").unwrap_err().to_string();
        assert!(error.contains("line"), "{error}");
        assert!(read("a: b\na: c").is_err(), "no key occurs twice");
    }
}
