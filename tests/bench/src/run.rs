//! One run: everything side by side, then the report.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::bed::{Bed, Running};
use crate::machine;
use crate::measure::{Settings, latency, reload, streams, throughput};
use crate::report::Report;
use crate::subject::{Peers, Product, Subject};

/// Files that a proxy with so many streams opens: a client, an engine, and some to spare.
const FILES_BESIDES: u64 = 1000;

/// How to run.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The kthena-proxy to measure.
    #[arg(long)]
    proxy: PathBuf,
    /// Where everything that was measured goes, as JSON.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// How much to measure.
    #[arg(long, value_enum, default_value_t)]
    extent: Extent,
    /// Compare with these too, and install what is missing from their registries into the cache; without names, with all.
    #[arg(long, value_enum, value_delimiter = ',', num_args = 0.., require_equals = true, value_name = "PEER")]
    peers: Option<Vec<Product>>,
    /// Fail if kthena-proxy misses a target.
    #[arg(long)]
    check: bool,
    /// How often each figure is taken.
    #[arg(long)]
    rounds: Option<usize>,
    /// How long each takes, in seconds.
    #[arg(long)]
    seconds: Option<f64>,
    /// Streams that are open at once when memory is measured.
    #[arg(long)]
    streams: Option<usize>,
    /// Parts to run.
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["throughput", "latency", "streams", "reload"])]
    parts: Vec<Part>,
}

/// A part of the bench.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// CPU time per request and requests a second.
    Throughput,
    /// Added latency of one request at a time.
    Latency,
    /// Memory for each open stream.
    Streams,
    /// Changes of routes and endpoints under load.
    Reload,
}

/// How much to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum Extent {
    /// What the README shows.
    #[default]
    Full,
    /// What shows whether a change was worth it.
    Quick,
    /// A few seconds in all: shows that everything works, its figures say nothing.
    Smoke,
}

impl Args {
    fn settings(&self) -> Settings {
        let usual = self.extent.settings();
        Settings {
            rounds: self.rounds.unwrap_or(usual.rounds),
            seconds: self.seconds.unwrap_or(usual.seconds),
            streams: self.streams.unwrap_or(usual.streams),
            ..usual
        }
    }

    fn peers(&self) -> &[Product] {
        match self.peers.as_deref() {
            None => &[],
            Some([]) => &Product::PEERS,
            Some(some) => some,
        }
    }
}

impl Extent {
    fn settings(self) -> Settings {
        let full = Settings {
            rounds: 7,
            seconds: 2.0,
            connections: 16,
            streams: 5000,
            stream_rounds: 3,
            changes: 100,
            reload_rate: 1000,
        };
        match self {
            Self::Full => full,
            Self::Quick => Settings {
                rounds: 3,
                seconds: 1.0,
                streams: 2000,
                stream_rounds: 1,
                ..full
            },
            Self::Smoke => Settings {
                rounds: 1,
                seconds: 0.2,
                connections: 4,
                streams: 100,
                stream_rounds: 1,
                changes: 5,
                reload_rate: 100,
            },
        }
    }
}

/// Measures all parts, prints the tables and writes the report.
pub(crate) async fn run(args: &Args) -> Result<()> {
    let settings = args.settings();
    let files = machine::raise_open_files()?;
    let needed = settings.streams as u64 * 2 + FILES_BESIDES;
    if files < needed {
        bail!(
            "{needed} files have to be open at once, the limit is {files}: raise it, or ask for fewer --streams"
        );
    }
    let mut peers = Peers::find(args.peers());
    // Programs run in folders of their own.
    let proxy = args.proxy.canonicalize();
    let proxy = proxy.with_context(|| format!("finding {}", args.proxy.display()))?;
    let bed = Bed::start(proxy).await?;
    machine::pin(bed.cores.load)?;
    peers.prepare(&bed).await;
    let wants = |part| args.parts.contains(&part);
    let mut report = Report {
        build: if cfg!(debug_assertions) {
            "Debug"
        } else {
            "Release"
        },
        processor: machine::processor(),
        cores: bed.cores.count(),
        settings,
        throughput: Vec::new(),
        direct: Vec::new(),
        latency: Vec::new(),
        streams: Vec::new(),
        reload: None,
        left_out: Vec::new(),
        targets: Vec::new(),
    };

    let all = start(&bed, &mut peers).await?;
    if wants(Part::Throughput) {
        report.throughput = throughput::run(&all, &report.settings).await?;
    }
    if wants(Part::Latency) {
        (report.direct, report.latency) = latency::run(&bed, &all, &report.settings).await?;
    }
    let subjects: Vec<Subject> = all.into_iter().map(|(subject, _ends)| subject).collect();
    if wants(Part::Streams) {
        report.streams = streams::run(&bed, &peers, &subjects, &report.settings).await?;
    }
    if wants(Part::Reload) {
        report.reload = Some(reload::run(&bed, &report.settings).await?);
    }
    report.left_out = peers
        .left_out
        .iter()
        .map(|(product, reason)| (product.name(), reason.clone()))
        .collect();
    report.judge();
    println!("{}", report.markdown());
    if let Some(path) = &args.out {
        report.write(path)?;
        eprintln!("written to {}", path.display());
    }
    let missed: Vec<_> = report
        .missed()
        .iter()
        .map(|target| target.what.as_str())
        .collect();
    if args.check && !missed.is_empty() {
        bail!("missed: {}", missed.join("; "));
    }
    Ok(())
}

/// All proxies, running side by side. A peer that does not start is left out.
async fn start(bed: &Bed, peers: &mut Peers) -> Result<Vec<(Subject, Running)>> {
    let mut all = Vec::new();
    for subject in peers.subjects() {
        match subject.start(bed, peers).await {
            Ok(running) => all.push((subject, running)),
            Err(error) if [Product::Bare, Product::Kthena].contains(&subject.product) => {
                return Err(error).context("without it there is nothing to compare");
            }
            Err(error) => {
                let text = format!("{error:#}");
                eprintln!("{text}");
                // What a program says last is why it ended; the whole of it is on the terminal.
                let [first, last] = [text.lines().next(), text.trim_end().lines().next_back()];
                let reason = [first, last].into_iter().flatten().map(str::trim);
                peers
                    .left_out
                    .push((subject.product, reason.collect::<Vec<_>>().join(" … ")));
            }
        }
    }
    Ok(all)
}
