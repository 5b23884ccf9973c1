//! The limits on the speed of scaling that apply where none are given.

use serde::Serialize;

use super::Addition;
use crate::autoscaling_policy::{
    AutoscalingPolicy, Behavior, PanicPolicy, ScaleUp, SelectPolicy, StablePolicy,
};
use crate::duration::Duration;

const BEHAVIOR: &str = "/spec/behavior";

fn scale_down() -> StablePolicy {
    stable_policy(0, "5m0s")
}

fn scale_up() -> ScaleUp {
    ScaleUp {
        stable_policy: Some(scale_up_stable()),
        panic_policy: Some(panic_policy()),
    }
}

fn scale_up_stable() -> StablePolicy {
    stable_policy(4, "0s")
}

fn stable_policy(instances: i32, window: &str) -> StablePolicy {
    StablePolicy {
        instances: Some(instances),
        percent: Some(100),
        period: Some(Duration::new("1m0s")),
        select_policy: Some(SelectPolicy::Or),
        stabilization_window: Some(Duration::new(window)),
    }
}

/// Panic mode is off: it lasts no time.
fn panic_policy() -> PanicPolicy {
    PanicPolicy {
        percent: Some(0),
        period: Duration::new("0s"),
        panic_threshold_percent: Some(200),
        panic_mode_hold: Some(Duration::new("0s")),
    }
}

fn behavior() -> Behavior {
    Behavior {
        scale_down: Some(scale_down()),
        scale_up: Some(scale_up()),
    }
}

fn is_empty(policy: Option<&StablePolicy>) -> bool {
    policy.is_none_or(|policy| *policy == StablePolicy::default())
}

/// Whether nothing is set but perhaps a period of zero, which the field cannot do without.
fn is_empty_panic(policy: Option<&PanicPolicy>) -> bool {
    policy.is_none_or(|policy| {
        let PanicPolicy {
            percent,
            period,
            panic_threshold_percent,
            panic_mode_hold,
        } = policy;
        percent.is_none()
            && panic_threshold_percent.is_none()
            && panic_mode_hold.is_none()
            && period.nanos().is_ok_and(|nanos| nanos == 0)
    })
}

fn is_empty_scale_up(scale_up: Option<&ScaleUp>) -> bool {
    scale_up.is_none_or(|up| is_empty(up.stable_policy.as_ref()) && is_empty_panic(up.panic_policy.as_ref()))
}

fn is_empty_behavior(behavior: Option<&Behavior>) -> bool {
    behavior.is_none_or(|it| is_empty(it.scale_down.as_ref()) && is_empty_scale_up(it.scale_up.as_ref()))
}

pub(super) fn additions(policy: &AutoscalingPolicy) -> Vec<Addition> {
    let mut additions = Vec::new();
    let Some(given) = policy
        .spec
        .behavior
        .as_ref()
        .filter(|it| !is_empty_behavior(Some(it)))
    else {
        add(&mut additions, BEHAVIOR, behavior());
        return additions;
    };
    add_stable(
        &mut additions,
        "/scaleDown",
        given.scale_down.as_ref(),
        scale_down(),
        "5m",
    );
    let Some(up) = given.scale_up.as_ref().filter(|it| !is_empty_scale_up(Some(it))) else {
        add(&mut additions, &format!("{BEHAVIOR}/scaleUp"), scale_up());
        return additions;
    };
    add_stable(
        &mut additions,
        "/scaleUp/stablePolicy",
        up.stable_policy.as_ref(),
        scale_up_stable(),
        "0s",
    );
    if is_empty_panic(up.panic_policy.as_ref()) {
        add(
            &mut additions,
            &format!("{BEHAVIOR}/scaleUp/panicPolicy"),
            panic_policy(),
        );
    }
    additions
}

fn add(additions: &mut Vec<Addition>, path: &str, value: impl Serialize) {
    // Plain data of this crate always serialises.
    let value = serde_json::to_value(value).unwrap_or_default();
    additions.push(Addition {
        path: path.to_owned(),
        value,
    });
}

fn add_stable(
    additions: &mut Vec<Addition>,
    path: &str,
    given: Option<&StablePolicy>,
    whole: StablePolicy,
    window: &str,
) {
    let path = format!("{BEHAVIOR}{path}");
    match given.filter(|given| !is_empty(Some(given))) {
        None => add(additions, &path, whole),
        Some(given) if given.stabilization_window.is_none() => {
            add(additions, &format!("{path}/stabilizationWindow"), window);
        }
        Some(_) => {}
    }
}

pub(super) fn complete(policy: &mut AutoscalingPolicy) {
    if is_empty_behavior(policy.spec.behavior.as_ref()) {
        policy.spec.behavior = Some(behavior());
        return;
    }
    let given = policy.spec.behavior.get_or_insert_default();
    complete_stable(&mut given.scale_down, scale_down(), "5m");
    if is_empty_scale_up(given.scale_up.as_ref()) {
        given.scale_up = Some(scale_up());
        return;
    }
    let up = given.scale_up.get_or_insert_default();
    complete_stable(&mut up.stable_policy, scale_up_stable(), "0s");
    if is_empty_panic(up.panic_policy.as_ref()) {
        up.panic_policy = Some(panic_policy());
    }
}

fn complete_stable(given: &mut Option<StablePolicy>, whole: StablePolicy, window: &str) {
    if is_empty(given.as_ref()) {
        *given = Some(whole);
    } else if let Some(given) = given {
        given
            .stabilization_window
            .get_or_insert_with(|| Duration::new(window));
    }
}

#[cfg(test)]
mod tests;
