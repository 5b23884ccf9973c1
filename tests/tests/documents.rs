//! Every command that a page tells its readers to type is run, as it stands there but for ports.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use kthena_tests::{
    cluster::Cluster, command::output, controller::Controller, process::Process, proxy::Proxy, reserve::Port,
    wait,
};

/// Pages with commands.
const PAGES: [&str; 3] = [
    "README.md",
    "examples/quickstart/README.md",
    "examples/operator/README.md",
];

/// Commands that something else runs: this test would have to run itself, install gigabytes, or take ten minutes (the benches have
/// smoke tests); the operator has tests of its own.
const RUN_ELSEWHERE: [&str; 6] = [
    "cargo run -p chat-operator",
    "cargo test -p chat-operator",
    "cargo xtask test",
    "cargo xtask test --real-engines",
    "cargo xtask bench --peers",
    "cargo xtask bench controller",
];

fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().expect("it is in the workspace").to_owned()
}

/// The commands of a page: what stands in `sh` blocks, and after the prompt in `console` blocks, lines joined where they go on.
fn commands(page: &str) -> Result<Vec<String>> {
    let text = fs::read_to_string(root().join(page)).with_context(|| page.to_owned())?;
    let text = text.replace("\\\n", " ");
    let (mut block, mut commands) = (None, Vec::new());
    for line in text.lines() {
        match (block, line.strip_prefix("```")) {
            (None, Some(language)) => block = Some(language),
            (Some(_), Some(_)) => block = None,
            (Some("sh"), None) if !line.trim().is_empty() => commands.push(line.to_owned()),
            (Some("console"), None) => commands.extend(line.strip_prefix("$ ").map(str::to_owned)),
            _ => {}
        }
    }
    Ok(commands)
}

#[tokio::test]
async fn every_documented_command_works() -> Result<()> {
    for page in PAGES {
        let commands = commands(page)?;
        ensure!(!commands.is_empty(), "{page} has no commands any more");
        for (at, command) in commands.iter().enumerate() {
            let words: Vec<&str> = command.split_whitespace().collect();
            let run = match words[..] {
                _ if RUN_ELSEWHERE.contains(&command.as_str()) => Ok(()),
                [
                    "cargo",
                    "run",
                    "--release",
                    "-p",
                    program,
                    "--",
                    ref arguments @ ..,
                ] => {
                    // What it asks to try comes next.
                    let next = commands.get(at + 1).context("the page says what to try")?;
                    quickstart(program, arguments, next).await
                }
                ["curl", ..] => Ok(()),
                ["kubectl", ref arguments @ ..] => kubectl(arguments).await,
                ["helm", ref arguments @ ..] => helm(arguments).await,
                ["kthena-proxy", ref arguments @ ..] => proxy(arguments).await,
                ["kthena-controller", ref arguments @ ..] => {
                    let next = commands.get(at + 1).context("the page says what to look at")?;
                    controller(arguments, next).await
                }
                _ => bail!("{page}: nobody runs {command:?}"),
            };
            run.with_context(|| format!("{page}: {command}"))?;
        }
    }
    Ok(())
}

async fn kubectl(arguments: &[&str]) -> Result<()> {
    let cluster = Cluster::shared().await?;
    let run = || async {
        match output(cluster.kubectl()?.current_dir(root()).args(arguments)) {
            Ok(_) => Ok(Some(())),
            // A definition that was made a moment ago is not served at once; a reader takes longer to type.
            Err(error) if format!("{error:#}").contains("no matches for kind") => Ok(None),
            Err(error) => Err(error),
        }
    };
    wait::until("kubectl to find the kind", run).await
}

async fn helm(arguments: &[&str]) -> Result<()> {
    let cluster = Cluster::shared().await?;
    output(cluster.helm()?.current_dir(root()).args(arguments)).map(drop)
}

async fn proxy(arguments: &[&str]) -> Result<()> {
    let cluster = Cluster::shared().await?;
    let space = cluster.namespace("documents").await?;
    let mut builder = Proxy::builder(&Proxy::account(cluster, &space).await?);
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        if word.ends_with("port") {
            words.next(); // which may be taken here
            continue;
        }
        let path = root().join(word);
        let word = match *word {
            // A folder of the reader's own.
            "./objects" => root().join("examples/quickstart").display().to_string(),
            _ if path.is_dir() => path.display().to_string(),
            word => word.to_owned(),
        };
        builder = builder.argument(word);
    }
    builder.start().await?.until_ready().await
}

async fn controller(arguments: &[&str], curl: &str) -> Result<()> {
    let cluster = Cluster::builder().start().await?;
    let space = cluster.namespace("documents").await?;
    let account = Controller::account(&cluster, &space).await?;
    let port = Port::reserve()?;
    // Another port than the usual one, and the namespace that a pod would find in its files.
    let here = [
        format!("--port={}", port.number()),
        format!("--pod-namespace={}", space.name()),
    ];
    let here = here.iter().map(String::as_str);
    let arguments: Vec<&str> = arguments.iter().copied().chain(here).collect();
    let controller = Controller::with(&account, "documents", &arguments).await?;
    controller.until_ready("ok").await?;
    for url in curl.split_whitespace().filter(|word| word.contains("://")) {
        let (_, path) = url.split_once(":8080").context("the port is the usual one")?;
        let answer = controller.health(path).await?;
        ensure!(answer.status == 200, "{path}: {}", answer.text());
    }
    Ok(())
}

async fn quickstart(program: &str, arguments: &[&str], curl: &str) -> Result<()> {
    let program = kthena_tests::cargo::binary(program)?;
    let ports = [Port::reserve()?, Port::reserve()?, Port::reserve()?];
    let [port, metrics, debug] = ports.each_ref().map(Port::number);
    let folder = tempfile::tempdir()?;
    let mut command = Command::new(program);
    command.args(arguments).args([
        format!("--port={port}"),
        format!("--metrics-port={metrics}"),
        format!("--debug-port={debug}"),
    ]);
    let log = folder.path().join("log");
    let mut started = Process::start("quickstart", &mut command, &log)?;
    let says = || async { Ok(fs::read_to_string(&log)?.contains("Ctrl-C").then_some(())) };
    started.until("it to say what to try", says).await?;
    let curl = curl.replace(":8080/", &format!(":{port}/"));
    ensure!(
        fs::read_to_string(&log)?.contains("curl -N http"),
        "it says what to try"
    );
    let output =
        tokio::task::spawn_blocking(move || Command::new("sh").args(["-c", &curl]).output()).await??;
    let answer = String::from_utf8(output.stdout)?;
    ensure!(
        answer.starts_with("data: {") && answer.ends_with("data: [DONE]\n\n"),
        "{answer}"
    );
    Ok(())
}
