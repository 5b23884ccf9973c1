//! Other users of the cluster, for tests about what they may do.

use anyhow::{Context, Result};
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
};
use kube::{Api, api::PostParams};

use super::{
    Cluster,
    identity::{Credential, Identity},
};

impl Cluster {
    /// A user known by a client certificate, who may do nothing until a binding says otherwise.
    pub fn user(&self, name: &str, group: Option<&str>) -> Result<Identity> {
        let file = format!("user-{}", name.replace([':', '/'], "-"));
        let pair = self.0.authority.client(&file, name, group)?;
        Identity::write(
            &self.0.dir,
            name,
            &self.0.endpoint,
            &Credential::Certificate(&pair),
        )
    }

    /// A service account with a token, as a pod would have it. The account is created where it is missing.
    pub async fn service_account(&self, namespace: &str, name: &str) -> Result<Identity> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client().await?, namespace);
        if accounts
            .get_opt(name)
            .await
            .context("looking for the service account")?
            .is_none()
        {
            let mut account = ServiceAccount::default();
            account.metadata.name = Some(name.to_owned());
            let created = accounts.create(&PostParams::default(), &account).await;
            created.with_context(|| format!("creating service account {namespace}/{name}"))?;
        }
        let request = TokenRequest {
            spec: TokenRequestSpec {
                expiration_seconds: Some(24 * 3600),
                ..TokenRequestSpec::default()
            },
            ..TokenRequest::default()
        };
        let answer = accounts
            .create_token_request(name, &PostParams::default(), &request)
            .await;
        let answer = answer.with_context(|| format!("asking for a token of {namespace}/{name}"))?;
        let token = answer
            .status
            .context("the API server answered without a token")?
            .token;
        let user = format!("system:serviceaccount:{namespace}:{name}");
        Identity::write(&self.0.dir, &user, &self.0.endpoint, &Credential::Token(&token))
    }
}
