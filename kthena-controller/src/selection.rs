//! Which controllers run: `--controllers`.

/// The controllers there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Controller {
    /// ModelServings, and LeaderWorkerSets in front of them.
    ModelServing,
    /// ModelBoosters.
    ModelBooster,
    /// AutoscalingPolicies.
    Autoscaler,
}

/// A controller was asked for by name that this version does not have.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("--controllers names {0}, which is not part of this version")]
pub(crate) struct Missing(&'static str);

impl Controller {
    const ALL: [Self; 3] = [Self::ModelServing, Self::ModelBooster, Self::Autoscaler];

    /// As flags, metrics and logs call it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::ModelServing => "modelserving",
            Self::ModelBooster => "modelbooster",
            Self::Autoscaler => "autoscaler",
        }
    }

    const fn is_there(self) -> bool {
        matches!(self, Self::ModelServing)
    }
}

/// The controllers to run by a list.
///
/// # Errors
///
/// Where the list names one that this version does not have: to leave it out would be to do something else than was asked for.
pub(crate) fn chosen(list: &str) -> Result<Vec<Controller>, Missing> {
    let named = |controller: Controller| {
        let mut entries = list.split(',').map(str::trim);
        entries.any(|entry| entry.strip_prefix('+').unwrap_or(entry) == controller.name())
    };
    let (there, missing): (Vec<_>, Vec<_>) = enabled(list).into_iter().partition(|it| it.is_there());
    for controller in missing {
        if named(controller) {
            return Err(Missing(controller.name()));
        }
        tracing::info!(controller = controller.name(), "this version does not have it");
    }
    Ok(there)
}

/// The controllers that a list enables: `name` or `+name` turns one on, `-name` off, the first mention counts; `*` turns on all that are not
/// mentioned. A list that enables none enables all.
fn enabled(list: &str) -> Vec<Controller> {
    let entries: Vec<&str> = list
        .split(',')
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
        .collect();
    let is_enabled = |controller: &Controller| {
        let name = controller.name();
        let mention = entries.iter().find_map(|entry| match entry.strip_prefix('-') {
            Some(off) => (off == name).then_some(false),
            None => (entry.strip_prefix('+').unwrap_or(entry) == name).then_some(true),
        });
        mention.unwrap_or_else(|| entries.contains(&"*"))
    };
    let some: Vec<Controller> = Controller::ALL.into_iter().filter(is_enabled).collect();
    if some.is_empty() {
        if !entries.is_empty() {
            tracing::warn!(
                controllers = list,
                "the list enables no controller, so all are enabled"
            );
        }
        return Controller::ALL.to_vec();
    }
    some
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_mean_what_they_mean_in_kthena() {
        use Controller::{Autoscaler, ModelBooster, ModelServing};
        let all = &[ModelServing, ModelBooster, Autoscaler][..];
        for (list, expected) in [
            ("*", all),
            ("", all),
            (",,", all),
            ("invalid", all),
            ("*modelserving", all),
            ("*,modelserving", all),
            ("modelserving", &[ModelServing]),
            (" modelserving ", &[ModelServing]),
            ("modelserving,invalid", &[ModelServing]),
            ("modelserving,modelserving", &[ModelServing]),
            ("modelserving,modelbooster", &[ModelServing, ModelBooster]),
            ("*,-modelserving", &[ModelBooster, Autoscaler]),
            ("-modelserving,*", &[ModelBooster, Autoscaler]),
            ("-modelserving", all),
            ("+modelserving,-modelserving", &[ModelServing]),
            ("-modelserving,+modelserving", all),
        ] {
            assert_eq!(enabled(list), expected, "{list:?}");
        }
    }

    #[test]
    fn what_is_not_there_cannot_be_asked_for_by_name() {
        let serving = Ok(vec![Controller::ModelServing]);
        for (list, expected) in [
            ("*", &serving),
            ("", &serving),
            ("modelserving", &serving),
            ("*,-modelbooster,-autoscaler", &serving),
            ("*,-modelserving", &Ok(Vec::new())),
            ("-modelbooster", &serving),
            ("modelserving,modelbooster", &Err(Missing("modelbooster"))),
            ("*, +autoscaler", &Err(Missing("autoscaler"))),
            ("-autoscaler,autoscaler,*", &serving),
        ] {
            assert_eq!(&chosen(list), expected, "{list:?}");
        }
    }
}
