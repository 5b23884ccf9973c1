//! A namespace of one test's own.

use std::{fmt::Debug, path::Path};

use anyhow::{Context, Result};
use k8s_openapi::{NamespaceResourceScope, api::core::v1, serde::de::DeserializeOwned};
use kube::{
    Api, Client, Resource,
    api::{DynamicObject, PostParams},
};

use super::{Identity, apply, documents, documents_at};
use crate::wait;

/// A fresh namespace; it goes with its cluster.
#[derive(Debug, Clone)]
pub struct Namespace {
    name: String,
    admin: Identity,
}

impl Namespace {
    pub(super) async fn create(admin: Identity, name: &str) -> Result<Self> {
        let namespaces: Api<v1::Namespace> = Api::all(admin.client().await?);
        let mut namespace = v1::Namespace::default();
        namespace.metadata.name = Some(name.to_owned());
        let created = namespaces.create(&PostParams::default(), &namespace).await;
        created.with_context(|| format!("creating namespace {name}"))?;
        Ok(Self {
            name: name.to_owned(),
            admin,
        })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The cluster's administrator.
    pub fn admin(&self) -> &Identity {
        &self.admin
    }

    /// The administrator's client, for the current runtime.
    pub async fn client(&self) -> Result<Client> {
        self.admin.client().await
    }

    /// Objects of one kind in this namespace.
    pub async fn api<K>(&self) -> Result<Api<K>>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Ok(Api::namespaced(self.client().await?, &self.name))
    }

    /// Applies all objects of a YAML text to this namespace, unless they name another.
    pub async fn apply(&self, yaml: &str) -> Result<Vec<DynamicObject>> {
        apply::apply(&self.client().await?, &self.name, documents(yaml)?).await
    }

    /// Applies a YAML file, or all of a folder.
    pub async fn apply_path(&self, path: impl AsRef<Path>) -> Result<Vec<DynamicObject>> {
        apply::apply(&self.client().await?, &self.name, documents_at(path.as_ref())?).await
    }

    /// Waits until the object is there and `accept` takes it, and hands it over.
    pub async fn until<K>(&self, name: &str, what: &str, accept: impl Fn(&K) -> bool) -> Result<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let api = self.api::<K>().await?;
        let look = || async { api.get_opt(name).await.context("looking at the object") };
        let taken = |object: &Option<K>| object.as_ref().is_some_and(&accept);
        let found = wait::until_value(&format!("{what} ({}/{name})", self.name), look, taken).await?;
        Ok(found.expect("only a present object is taken"))
    }

    /// Waits until the object is gone.
    pub async fn until_gone<K>(&self, name: &str) -> Result<()>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let api = self.api::<K>().await?;
        let look = || async { api.get_opt(name).await.context("looking for the object") };
        let what = format!("{}/{name} to be gone", self.name);
        wait::until_value(&what, look, Option::is_none).await.map(drop)
    }
}
