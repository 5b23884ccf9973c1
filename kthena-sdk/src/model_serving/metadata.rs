//! Labels of what a ModelServing owns.
//!
//! ```
//! use kthena_sdk::api::ModelServing;
//! use kthena_sdk::model_serving::metadata::{of_group, of_instance, of_serving, selector};
//!
//! let serving = ModelServing::new("llama", Default::default());
//! assert_eq!(selector(&of_serving(&serving)), "modelserving.volcano.sh/name=llama");
//! assert!(selector(&of_group(&serving, 0)).contains("group-name=llama-0"));
//! assert!(selector(&of_instance(&serving, 0, "decode", 1)).contains("role-id=decode-1"));
//! ```

use std::collections::BTreeMap;

use kthena_api::ModelServing;
use kthena_api::labels;
use kthena_api::name::{Serving, role_instance};

/// Labels by key.
pub type Labels = BTreeMap<String, String>;

/// Labels of everything that belongs to a ModelServing.
pub fn of_serving(serving: &ModelServing) -> Labels {
    let name = serving.metadata.name.clone().unwrap_or_default();
    Labels::from([(labels::MODEL_SERVING_NAME.into(), name)])
}

/// Labels of everything that belongs to a ServingGroup.
pub fn of_group(serving: &ModelServing, group: u32) -> Labels {
    let mut all = of_serving(serving);
    let name = serving.metadata.name.as_deref().unwrap_or_default();
    all.insert(labels::GROUP_NAME.into(), Serving(name).group(group));
    all
}

/// Labels of everything that belongs to an instance of a role.
pub fn of_instance(serving: &ModelServing, group: u32, role: &str, instance: u32) -> Labels {
    let mut all = of_group(serving, group);
    all.insert(labels::ROLE.into(), role.into());
    all.insert(labels::ROLE_ID.into(), role_instance(role, instance));
    all
}

/// A label selector as `kubectl get -l` takes it, terms in the order of their text.
pub fn selector(labels: &Labels) -> String {
    let mut terms: Vec<String> = labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    terms.sort_unstable();
    terms.join(",")
}

/// The ordinal at the end of a name and what is before it: `("llama-0-decode", 3)` for `llama-0-decode-3`.
///
/// ```
/// use kthena_sdk::model_serving::metadata::ordinal;
///
/// assert_eq!(ordinal("vllm-sample-0"), Some(("vllm-sample", 0)));
/// assert_eq!(ordinal("vllm"), None);
/// assert_eq!(ordinal("a-99999999999"), None, "no ordinal is that large");
/// ```
pub fn ordinal(name: &str) -> Option<(&str, u32)> {
    let (parent, digits) = name.rsplit_once('-')?;
    let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let number = digits
        .parse()
        .ok()
        .filter(|number| i32::try_from(*number).is_ok());
    is_number.then_some(())?;
    Some((parent, number?))
}
