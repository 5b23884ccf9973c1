//! The proxies under test. Adding one is a variant, a file, and its arms here.

mod kthena;
mod nginx;
mod python;
mod reference;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use clap::ValueEnum;
use kthena_tests::reserve::Port;
use serde::Serialize;

pub(crate) use self::kthena::{Manifest, group, start_with};
use self::reference::Reference;
use crate::bed::{Bed, Running, itself};

/// A program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Product {
    /// pingora-proxy as its documentation shows it, built into the bench: the measure for all others.
    #[value(skip)]
    Bare,
    /// kthena-proxy.
    #[value(skip)]
    Kthena,
    /// nginx, as it is or from Debian's package.
    Nginx,
    /// vllm-router from PyPI.
    VllmRouter,
    /// The SGLang model gateway from PyPI.
    SglangGateway,
    /// The Kthena router written in Go, from its Go module.
    Reference,
}

/// What it is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Mode {
    Plain,
    /// Prefill and decode on different engines.
    Split,
}

/// A program in one use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub(crate) struct Subject {
    pub product: Product,
    pub mode: Mode,
}

/// Programs that are compared with, and what they need meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    found: Vec<(Product, PathBuf)>,
    /// Which were asked for but are not there, and why.
    pub left_out: Vec<(Product, String)>,
    reference: Option<Reference>,
}

impl Product {
    pub(crate) const PEERS: [Self; 4] = [
        Self::Nginx,
        Self::VllmRouter,
        Self::SglangGateway,
        Self::Reference,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare pingora",
            Self::Kthena => "kthena-proxy",
            Self::Nginx => "nginx",
            Self::VllmRouter => "vllm-router",
            Self::SglangGateway => "SGLang gateway",
            Self::Reference => "Kthena router (Go)",
        }
    }

    fn modes(self) -> &'static [Mode] {
        match self {
            Self::Bare | Self::Nginx => &[Mode::Plain],
            _ => &[Mode::Plain, Mode::Split],
        }
    }

    fn installed(self) -> Result<Option<PathBuf>> {
        match self {
            Self::Bare | Self::Kthena => Ok(None),
            Self::Nginx => nginx::installed(),
            Self::VllmRouter => python::VLLM_ROUTER.installed(),
            Self::SglangGateway => python::SGLANG_GATEWAY.installed(),
            Self::Reference => reference::installed(),
        }
    }

    fn install(self) -> Result<PathBuf> {
        match self {
            Self::Bare | Self::Kthena => itself(),
            Self::Nginx => nginx::install(),
            Self::VllmRouter => python::VLLM_ROUTER.install(),
            Self::SglangGateway => python::SGLANG_GATEWAY.install(),
            Self::Reference => reference::install(),
        }
    }
}

impl Subject {
    pub(crate) const BARE: Self = Self::plain(Product::Bare);
    pub(crate) const OURS: Self = Self::plain(Product::Kthena);
    pub(crate) const OURS_SPLIT: Self = Self {
        product: Product::Kthena,
        mode: Mode::Split,
    };

    const fn plain(product: Product) -> Self {
        Self {
            product,
            mode: Mode::Plain,
        }
    }

    pub(crate) fn name(self) -> String {
        match self.mode {
            Mode::Plain => self.product.name().to_owned(),
            Mode::Split => format!("{}, PD", self.product.name()),
        }
    }

    /// Starts it in front of the engines.
    pub(crate) async fn start(self, bed: &Bed, peers: &Peers) -> Result<Running> {
        let program = || peers.program(self.product);
        let running = match self.product {
            Product::Bare => bare(bed).await,
            Product::Kthena => kthena::start(bed, self.mode).await,
            Product::Nginx => nginx::start(bed, program()?).await,
            Product::VllmRouter => python::VLLM_ROUTER.start(bed, program()?, self.mode).await,
            Product::SglangGateway => python::SGLANG_GATEWAY.start(bed, program()?, self.mode).await,
            Product::Reference => {
                let reference = peers
                    .reference
                    .as_ref()
                    .context("its control plane is not there")?;
                reference.start(bed, program()?, self.mode).await
            }
        };
        running.with_context(|| format!("starting {}", self.name()))
    }
}

impl Peers {
    /// Those that are installed, after installing what is missing. What cannot be installed is left out.
    pub(crate) fn find(wanted: &[Product]) -> Self {
        let mut peers = Self::default();
        for product in Product::PEERS {
            if !wanted.contains(&product) {
                continue;
            }
            let found = product.installed().and_then(|found| match found {
                Some(path) => Ok(path),
                None => product.install(),
            });
            match found {
                Ok(path) => peers.found.push((product, path)),
                Err(error) => peers
                    .left_out
                    .push((product, format!("not installed: {error:#}"))),
            }
        }
        peers
    }

    /// All uses of all programs, bare pingora first.
    pub(crate) fn subjects(&self) -> Vec<Subject> {
        let peers = self.found.iter().map(|(product, _)| *product);
        [Product::Bare, Product::Kthena]
            .into_iter()
            .chain(peers)
            .flat_map(|product| {
                product
                    .modes()
                    .iter()
                    .map(move |mode| Subject { product, mode: *mode })
            })
            .collect()
    }

    /// Starts what peers need besides engines.
    pub(crate) async fn prepare(&mut self, bed: &Bed) {
        if self
            .found
            .iter()
            .any(|(product, _)| *product == Product::Reference)
        {
            match Reference::prepare(bed).await {
                Ok(reference) => self.reference = Some(reference),
                Err(error) => {
                    self.found.retain(|(found, _)| *found != Product::Reference);
                    self.left_out.push((Product::Reference, format!("{error:#}")));
                }
            }
        }
    }

    fn program(&self, product: Product) -> Result<&PathBuf> {
        let found = self.found.iter().find(|(found, _)| *found == product);
        Ok(&found
            .with_context(|| format!("{} is not installed", product.name()))?
            .1)
    }
}

async fn bare(bed: &Bed) -> Result<Running> {
    let port = Port::reserve()?;
    let mut command = Command::new(itself()?);
    command
        .args([
            "bare",
            "--listen",
            &format!("{}:{}", Ipv4Addr::LOCALHOST, port.number()),
        ])
        .args(["--upstream", &bed.engine(0).to_string()]);
    let folder = bed.folder("bare")?;
    bed.serve("bare pingora", &mut command, &folder, vec![port], "bench")
        .await
}
