//! The Go programs of the bed, built on demand from pinned modules and cached outside the checkout.
//!
//! Each product has a small module of its own under `tests/tools/`, since their pins contradict each other. The cache
//! folder's name carries a hash of `go.mod`, `go.sum` and the build recipe: a changed pin builds anew, an unchanged one
//! never does, also from another checkout. A test that needs etcd alone builds etcd alone.
//!
//! | Tool | Cold build, CPU minutes |
//! |---|---|
//! | etcd | 1 |
//! | the four Kubernetes programs | 6 |
//! | KWOK | 2 |
//! | Volcano, both programs | 3 |
//! | helm | 1.5 |
//! | the Go reference, both programs | 3 |

mod build;

use std::path::PathBuf;

use anyhow::Result;

/// A Go module under `tests/tools/`.
#[derive(Debug)]
struct Product {
    name: &'static str,
    /// The module that the product's name and version belong to.
    module: &'static str,
    /// Text variables set while linking: what the programs say about themselves.
    variables: &'static [(&'static str, &'static str)],
    /// Folders of that module which are kept beside the programs, as (path there, name here).
    assets: &'static [(&'static str, &'static str)],
}

/// One program of a product.
#[derive(Debug, Clone, Copy)]
pub struct Tool {
    pub name: &'static str,
    product: &'static Product,
    package: &'static str,
    group: Group,
}

/// When a tool is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// The tests use it.
    Tests,
    /// Benchmarks and takeover tests compare with it; built when they run.
    Reference,
}

const ETCD: &Product = &Product {
    name: "etcd",
    module: "go.etcd.io/etcd/server/v3",
    variables: &[],
    assets: &[],
};
const KUBERNETES: &Product = &Product {
    name: "kubernetes",
    module: "k8s.io/kubernetes",
    // helm compares a chart's `kubeVersion` with what the server says; a test holds these to go.mod.
    variables: &[
        ("k8s.io/component-base/version.gitVersion", "v1.34.2"),
        ("k8s.io/component-base/version.gitMajor", "1"),
        ("k8s.io/component-base/version.gitMinor", "34"),
    ],
    assets: &[],
};
const KWOK: &Product = &Product {
    name: "kwok",
    module: "sigs.k8s.io/kwok",
    variables: &[],
    assets: &[("kustomize/stage", "stage"), ("kustomize/crd/bases", "crd")],
};
const VOLCANO: &Product = &Product {
    name: "volcano",
    module: "volcano.sh/volcano",
    variables: &[],
    assets: &[
        ("config/crd/volcano/bases", "crd"),
        ("config/crd/jobflow/bases", "crd"),
    ],
};
const HELM: &Product = &Product {
    name: "helm",
    module: "helm.sh/helm/v3",
    variables: &[],
    assets: &[],
};
const REFERENCE: &Product = &Product {
    name: "reference",
    module: "github.com/volcano-sh/kthena",
    variables: &[],
    assets: &[("charts", "charts")],
};

const fn tool(name: &'static str, product: &'static Product, package: &'static str) -> Tool {
    Tool {
        name,
        product,
        package,
        group: Group::Tests,
    }
}

/// Every tool there is; the order is the order of need.
pub const ALL: &[Tool] = &[
    tool("etcd", ETCD, "go.etcd.io/etcd/server/v3"),
    tool(
        "kube-apiserver",
        KUBERNETES,
        "k8s.io/kubernetes/cmd/kube-apiserver",
    ),
    tool(
        "kube-controller-manager",
        KUBERNETES,
        "k8s.io/kubernetes/cmd/kube-controller-manager",
    ),
    tool(
        "kube-scheduler",
        KUBERNETES,
        "k8s.io/kubernetes/cmd/kube-scheduler",
    ),
    tool("kubectl", KUBERNETES, "k8s.io/kubernetes/cmd/kubectl"),
    tool("kwok", KWOK, "sigs.k8s.io/kwok/cmd/kwok"),
    tool("volcano-scheduler", VOLCANO, "volcano.sh/volcano/cmd/scheduler"),
    tool(
        "volcano-controller-manager",
        VOLCANO,
        "volcano.sh/volcano/cmd/controller-manager",
    ),
    tool("helm", HELM, "helm.sh/helm/v3/cmd/helm"),
    Tool {
        group: Group::Reference,
        ..tool(
            "kthena-router",
            REFERENCE,
            "github.com/volcano-sh/kthena/cmd/kthena-router",
        )
    },
    Tool {
        group: Group::Reference,
        ..tool(
            "kthena-controller-manager",
            REFERENCE,
            "github.com/volcano-sh/kthena/cmd/kthena-controller-manager",
        )
    },
];

impl Tool {
    /// Whether the tests or only the comparisons need it.
    pub fn group(&self) -> Group {
        self.group
    }

    /// The program if it has been built already.
    pub fn installed(&self) -> Result<Option<PathBuf>> {
        build::installed(self)
    }

    /// The built program, and whether this call had to build it.
    pub fn ensure(&self) -> Result<Ensured> {
        build::ensure(self)
    }
}

/// A tool that is there.
#[derive(Debug)]
pub struct Ensured {
    pub path: PathBuf,
    pub freshly_built: bool,
}

/// The store behind the API server.
pub fn etcd() -> Result<PathBuf> {
    named("etcd")
}

pub fn kube_apiserver() -> Result<PathBuf> {
    named("kube-apiserver")
}

pub fn kube_controller_manager() -> Result<PathBuf> {
    named("kube-controller-manager")
}

pub fn kube_scheduler() -> Result<PathBuf> {
    named("kube-scheduler")
}

pub fn kubectl() -> Result<PathBuf> {
    named("kubectl")
}

/// Plays nodes and pods that nobody talks to.
pub fn kwok() -> Result<PathBuf> {
    named("kwok")
}

/// KWOK's stages (`fast`, `node`, `pod`), as kustomize folders.
pub fn kwok_stages() -> Result<PathBuf> {
    build::asset(KWOK, "stage")
}

/// KWOK's own CRDs, one file each.
pub fn kwok_crds() -> Result<PathBuf> {
    build::asset(KWOK, "crd")
}

pub fn volcano_scheduler() -> Result<PathBuf> {
    named("volcano-scheduler")
}

pub fn volcano_controller_manager() -> Result<PathBuf> {
    named("volcano-controller-manager")
}

/// The CRDs of Volcano and of its job flows, one file each.
pub fn volcano_crds() -> Result<PathBuf> {
    build::asset(VOLCANO, "crd")
}

pub fn helm() -> Result<PathBuf> {
    named("helm")
}

/// The router written in Go: the peer in benchmarks and takeover tests.
pub fn reference_router() -> Result<PathBuf> {
    named("kthena-router")
}

/// The controller manager written in Go.
pub fn reference_controller_manager() -> Result<PathBuf> {
    named("kthena-controller-manager")
}

/// The charts of the Go version, with its CRDs.
pub fn reference_charts() -> Result<PathBuf> {
    build::asset(REFERENCE, "charts")
}

fn named(name: &str) -> Result<PathBuf> {
    let tool = ALL
        .iter()
        .find(|tool| tool.name == name)
        .expect("the callers above name entries of ALL");
    Ok(tool.ensure()?.path)
}
