//! What is written into a Lease, and what follows from what stands there.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;

use super::Config;

/// What a candidate does next.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    /// Makes the Lease, as its holder.
    Create(Lease),
    /// Takes the Lease.
    Replace(Lease),
    /// Nothing: somebody leads.
    Wait,
}

/// Who holds a Lease.
pub(super) fn holder(lease: &Lease) -> Option<&str> {
    let holder = lease.spec.as_ref()?.holder_identity.as_deref();
    holder.filter(|holder| !holder.is_empty())
}

/// What a candidate does about a Lease that has been as it is for so long.
pub(super) fn candidacy(lease: Option<&Lease>, unchanged: Duration, config: &Config, now: Timestamp) -> Step {
    let Some(lease) = lease else {
        return Step::Create(new(config, now));
    };
    let spec = lease.spec.clone().unwrap_or_default();
    // What its holder was promised, which may be another version of this program.
    let valid = spec
        .lease_duration_seconds
        .and_then(|seconds| u64::try_from(seconds).ok());
    let valid = valid.map_or(config.duration, Duration::from_secs);
    if holder(lease).is_some_and(|holder| holder != config.identity) && unchanged < valid {
        return Step::Wait;
    }
    let mut taken = lease.clone();
    taken.spec = Some(LeaseSpec {
        acquire_time: Some(MicroTime(now)),
        lease_transitions: Some(spec.lease_transitions.unwrap_or(0).saturating_add(1)),
        ..held(spec, config, now)
    });
    Step::Replace(taken)
}

/// A Lease that is held from now on.
pub(super) fn new(config: &Config, now: Timestamp) -> Lease {
    Lease {
        metadata: ObjectMeta {
            name: Some(config.name.clone()),
            namespace: Some(config.namespace.clone()),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            acquire_time: Some(MicroTime(now)),
            lease_transitions: Some(0),
            ..held(LeaseSpec::default(), config, now)
        }),
    }
}

/// The Lease, held on.
pub(super) fn renewed(lease: &Lease, config: &Config, now: Timestamp) -> Lease {
    let mut lease = lease.clone();
    lease.spec = Some(held(lease.spec.unwrap_or_default(), config, now));
    lease
}

/// The Lease without a holder. Its duration is short, for candidates who look at nothing else.
pub(super) fn released(lease: &Lease, now: Timestamp) -> Lease {
    let mut lease = lease.clone();
    lease.spec = Some(LeaseSpec {
        holder_identity: None,
        lease_duration_seconds: Some(1),
        renew_time: Some(MicroTime(now)),
        ..lease.spec.unwrap_or_default()
    });
    lease
}

fn held(spec: LeaseSpec, config: &Config, now: Timestamp) -> LeaseSpec {
    let seconds = config.duration.as_secs() + u64::from(config.duration.subsec_nanos() > 0);
    LeaseSpec {
        holder_identity: Some(config.identity.clone()),
        lease_duration_seconds: Some(i32::try_from(seconds).unwrap_or(i32::MAX).max(1)),
        renew_time: Some(MicroTime(now)),
        ..spec
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config::new("ns", "lease", "me")
    }

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn lease(holder: Option<&str>, seconds: Option<i32>) -> Lease {
        Lease {
            metadata: ObjectMeta {
                resource_version: Some("7".into()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: holder.map(str::to_owned),
                lease_duration_seconds: seconds,
                lease_transitions: Some(3),
                ..LeaseSpec::default()
            }),
        }
    }

    #[test]
    fn a_lease_is_taken_when_it_is_free_or_was_not_renewed_for_its_duration() {
        for (holder, seconds, unchanged, taken) in [
            (None, Some(15), 0, true),
            (Some(""), Some(15), 0, true),
            (Some("other"), Some(15), 0, false),
            (Some("other"), Some(15), 14, false),
            (Some("other"), Some(15), 15, true),
            // What stands in the lease counts, not what we would write.
            (Some("other"), Some(60), 59, false),
            (Some("other"), Some(1), 1, true),
            (Some("other"), None, 14, false),
            (Some("other"), None, 15, true),
            (Some("other"), Some(-1), 14, false),
            (Some("me"), Some(15), 0, true),
        ] {
            let lease = lease(holder, seconds);
            let step = candidacy(Some(&lease), Duration::from_secs(unchanged), &config(), now());
            let told = format!("{holder:?} {seconds:?} after {unchanged} s: {step:?}");
            let Step::Replace(next) = step else {
                assert!(!taken, "{told}");
                continue;
            };
            let spec = next.spec.unwrap();
            assert!(taken && spec.holder_identity.as_deref() == Some("me"), "{told}");
            assert_eq!(
                (spec.lease_duration_seconds, spec.lease_transitions),
                (Some(15), Some(4))
            );
            assert_eq!(
                (spec.acquire_time, spec.renew_time),
                (Some(MicroTime(now())), Some(MicroTime(now())))
            );
            assert_eq!(
                next.metadata.resource_version.as_deref(),
                Some("7"),
                "or two could take it"
            );
        }
    }

    #[test]
    fn a_lease_that_is_not_there_is_made_and_one_without_content_is_taken() {
        let Step::Create(made) = candidacy(None, Duration::ZERO, &config(), now()) else {
            panic!("it is made");
        };
        assert_eq!(
            (made.metadata.name.as_deref(), holder(&made)),
            (Some("lease"), Some("me"))
        );
        let step = candidacy(Some(&Lease::default()), Duration::ZERO, &config(), now());
        assert!(matches!(step, Step::Replace(_)), "{step:?}");
    }

    #[test]
    fn who_renews_keeps_the_rest_and_who_releases_leaves_no_holder() {
        let held = lease(Some("me"), Some(15));
        let spec = renewed(&held, &config(), now()).spec.unwrap();
        assert_eq!((spec.lease_transitions, spec.acquire_time), (Some(3), None));
        assert_eq!(spec.renew_time, Some(MicroTime(now())));
        let free = released(&held, now());
        assert_eq!(
            (holder(&free), free.metadata.resource_version.as_deref()),
            (None, Some("7"))
        );
        assert_eq!(free.spec.unwrap().lease_transitions, Some(3));
    }
}
