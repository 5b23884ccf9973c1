//! What the controller manager may do, part by part. The chart's roles are generated from this: `cargo xtask codegen`.

use kthena_sdk::rbac::Rights;
use kthena_sdk::webhook::keeper;
use kthena_sdk::{leader, leader_worker_set, model_serving};

/// The name of the Lease; Kthena's controller manager stands for the same one.
pub const LEASE: &str = "lease.kthena.controller-manager";
/// The Secret with the webhooks' certificate, unless `--cert-secret-name` says otherwise.
pub const SECRET: &str = "kthena-controller-manager-webhook-certs";
/// The ValidatingWebhookConfiguration that calls the webhooks, as Kthena's chart names it.
pub const VALIDATING: &str = "kthena-controller-manager-validating-webhook";
/// The MutatingWebhookConfiguration that calls the webhooks, as Kthena's chart names it.
pub const MUTATING: &str = "kthena-controller-manager-mutating-webhook";

/// A part of the controller manager that talks to the API server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// The controllers of ModelServings and of LeaderWorkerSets: `--controllers` with `modelserving`.
    ModelServing,
    /// `--leader-elect`.
    Election,
    /// `--enable-webhook`.
    Webhooks {
        /// `--cert-secret-name`.
        secret: String,
    },
}

impl Part {
    /// All parts, as they are called by default.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let secret = SECRET.to_owned();
        vec![Self::ModelServing, Self::Election, Self::Webhooks { secret }]
    }

    /// What it asks of the API server.
    ///
    /// ```
    /// use kthena_controller::rbac::Part;
    /// use kthena_sdk::rbac::Rights;
    ///
    /// let rights: Rights = [Part::ModelServing, Part::Election].iter().map(Part::rights).collect();
    /// assert_eq!(rights.rules_own()[0].resource, "leases");
    /// ```
    #[must_use]
    pub fn rights(&self) -> Rights {
        match self {
            Self::ModelServing => {
                model_serving::controller::rights().and(leader_worker_set::controller::rights())
            }
            Self::Election => leader::rights(LEASE),
            Self::Webhooks { secret } => keeper::rights(secret, [VALIDATING], [MUTATING]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_brings_what_is_its_own() {
        let groups = |part: &Part| {
            let rights = part.rights();
            let of =
                |rules: &[kthena_sdk::rbac::Rule]| rules.iter().map(|rule| rule.resource.clone()).collect();
            let (everywhere, own): (Vec<String>, Vec<String>) =
                (of(rights.rules_everywhere()), of(rights.rules_own()));
            (everywhere, own)
        };
        let [serving, election, webhooks] = &Part::all()[..] else {
            panic!("there are three");
        };
        let (everywhere, own) = groups(serving);
        assert!(
            everywhere.contains(&"pods".to_owned()) && own.is_empty(),
            "{everywhere:?}"
        );
        assert_eq!(groups(election), (vec![], vec!["leases".to_owned(); 2]));
        let configurations = ["mutatingwebhookconfigurations", "validatingwebhookconfigurations"];
        assert_eq!(
            groups(webhooks),
            (
                configurations.map(str::to_owned).to_vec(),
                vec!["secrets".to_owned(); 2]
            )
        );
    }
}
