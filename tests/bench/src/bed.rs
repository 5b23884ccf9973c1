//! What surrounds the proxies under test: cores, a folder, mock engines, and a way to start programs and see them answer.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use bytes::BytesMut;
use kthena_tests::process::Process;
use kthena_tests::reserve::Port;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;

use crate::answer;
use crate::load::connect;
use crate::machine::{Cores, Group};
use crate::request::{Answer, Chat};

/// Engines that the mock plays, each at an address of its own and all at one port, as pods are.
pub(crate) const ENGINES: u8 = 6;

/// Where everything of a run lives.
#[derive(Debug)]
pub(crate) struct Bed {
    pub cores: Cores,
    /// The release build of the proxy.
    pub proxy: PathBuf,
    engine_port: Port,
    _engines: Process,
    /// Declared last: programs end before their files go.
    dir: TempDir,
}

/// A proxy that answers.
#[derive(Debug)]
pub(crate) struct Running {
    pub address: SocketAddr,
    pub model: &'static str,
    pub process: Process,
    #[expect(dead_code, reason = "their locks matter: no other program takes them")]
    ports: Vec<Port>,
}

impl Bed {
    /// Starts the engines.
    pub(crate) async fn start(proxy: PathBuf) -> Result<Self> {
        let cores = Cores::find()?;
        let dir = tempfile::Builder::new().prefix("kthena-bench-").tempdir()?;
        let engine_port = Port::reserve()?;
        let mut command = Command::new(itself()?);
        command.arg("mock");
        for number in 0..ENGINES {
            let address = engine(&engine_port, number);
            command.arg("--listen").arg(address.to_string());
        }
        let start = || Process::start("mock engines", &mut command, dir.path().join("engines.log"));
        let mut engines = cores.on(cores.engine, start)?;
        let probe = chat(Answer::Json);
        until_answers(&mut engines, engine(&engine_port, 0), &probe).await?;
        Ok(Self {
            cores,
            proxy,
            engine_port,
            _engines: engines,
            dir,
        })
    }

    pub(crate) fn engine(&self, number: u8) -> SocketAddr {
        engine(&self.engine_port, number)
    }

    /// A fresh folder of this run.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf> {
        let name = format!("{name}-");
        let folder = tempfile::Builder::new().prefix(&name).tempdir_in(self.dir.path());
        Ok(folder.context("making a folder")?.keep())
    }

    /// Starts a proxy on the core of proxies and waits until it answers a chat.
    ///
    /// The first of the ports is where it listens; its access log goes to the file where its output goes.
    pub(crate) async fn serve(
        &self,
        name: &str,
        command: &mut Command,
        folder: &Path,
        ports: Vec<Port>,
        model: &'static str,
    ) -> Result<Running> {
        let first = ports.first().context("a proxy listens somewhere")?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, first.number()));
        let start = || Process::start(name, command.current_dir(folder), folder.join("output.log"));
        let mut process = self.cores.on(self.cores.proxy, start)?;
        let probe = Chat {
            model,
            ..chat(Answer::Json)
        };
        until_answers(&mut process, address, &probe).await?;
        Ok(Running {
            address,
            model,
            process,
            ports,
        })
    }
}

impl Running {
    pub(crate) fn group(&self) -> Group {
        Group(self.process.id())
    }
}

/// This program: it is the mock engine and bare pingora as well.
pub(crate) fn itself() -> Result<PathBuf> {
    std::env::current_exe().context("finding this program")
}

/// A small request.
pub(crate) fn chat(answer: Answer) -> Chat<'static> {
    Chat {
        model: "bench",
        prompt: 1024,
        answer,
        user: None,
    }
}

fn engine(port: &Port, number: u8) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(127, 0, 0, 1 + number), port.number()))
}

/// Waits for the answer to a chat, or for the program's end.
async fn until_answers(process: &mut Process, address: SocketAddr, chat: &Chat<'_>) -> Result<()> {
    let request = chat.bytes(address);
    let what = format!("{} to answer", process.name());
    let answers = || async {
        let mut socket = connect(address).await?;
        socket.write_all(&request).await?;
        answer::read(&mut socket, &mut BytesMut::new(), chat.answer).await?;
        Ok(Some(()))
    };
    process.until(&what, answers).await
}
