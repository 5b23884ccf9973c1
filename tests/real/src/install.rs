//! Installing vLLM for the CPU, and making the model that it serves.
//!
//! Everything lies in the cache outside the checkout, under names made of what decides about it: other pins, another Python or
//! another model file is another folder. `vllm/README.md` tells why the recipe is as it is.

mod python;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use kthena_tests::{cache, command::output, setting};

/// What installs the packages; `pip` would take several times as long.
const UV: &str = "uv==0.13.8";
const REQUIREMENTS: &str = include_str!("../vllm/requirements.txt");
const PLUGIN: &str = include_str!("../vllm/addons/kthena_addons.py");
const MODEL: &str = include_str!("../vllm/model.py");

/// What the `vllm` command looks for: the CPU build is called differently.
const METADATA: &str = "Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n";
/// How vLLM finds the plugin.
const ENTRY_POINT: &str = "[vllm.general_plugins]\nkthena_addons = kthena_addons:load\n";

/// Libraries that Mooncake wants from the system, by the names it wants them under. NIXL brings all of them along.
const BORROWED: [(&str, &str); 3] = [
    ("libibverbs.so.1", "libibverbs-"),
    ("libnuma.so.1", "libnuma-"),
    ("libcurl.so.4", "libcurl-"),
];

/// An installed vLLM and a model to serve.
#[derive(Debug, Clone)]
pub(crate) struct Vllm {
    environment: PathBuf,
    libraries: PathBuf,
    models: PathBuf,
}

impl Vllm {
    /// The recipe's vLLM; installed first if the cache does not have it.
    pub(crate) fn install() -> Result<Self> {
        let python = python::find()?;
        let recipe = [UV, REQUIREMENTS, PLUGIN, METADATA, ENTRY_POINT].map(str::as_bytes);
        let key = cache::key(&[&[python.tag.as_bytes()], &recipe[..]].concat());
        let environment = cache::dir()?.join(format!("engines/vllm-{key}"));
        // Paths inside an environment are absolute, so it is made where it stays and marked when complete.
        cache::make(&environment.join("complete"), |mark| {
            let uv = uv()?;
            eprintln!("installing vLLM (once, about 6 GB; {})", environment.display());
            packages(&uv, &python.path, &environment)?;
            addons(&environment)?;
            fs::write(mark, "").context("marking the environment as complete")
        })?;
        let libraries =
            only_child(&environment.join("venv/lib"), "python3.")?.join("site-packages/nixl_cu13.libs");
        let models = model(&environment, &key)?;
        Ok(Self {
            environment,
            libraries,
            models,
        })
    }

    /// `vllm` with everything in its environment that does not depend on the engine.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(self.environment.join("venv/bin/python"));
        let search = format!(
            "{}:{}",
            self.environment.join("lib").display(),
            self.libraries.display()
        );
        command
            .args(["-m", "vllm.entrypoints.cli.main"])
            .current_dir(&self.models)
            .env("PYTHONPATH", self.environment.join("addons"))
            // Without byte code every start would compile vLLM and torch again.
            .env_remove("PYTHONDONTWRITEBYTECODE")
            .env("PYTHONHASHSEED", "0")
            .env("LD_LIBRARY_PATH", search)
            // Nothing is downloaded and nobody is told.
            .envs([
                ("HF_HUB_OFFLINE", "1"),
                ("VLLM_NO_USAGE_STATS", "1"),
                ("DO_NOT_TRACK", "1"),
            ])
            // One thread for each engine, on whatever core is free: a thread bound to a core starves when others work there.
            .envs([("OMP_NUM_THREADS", "1"), ("VLLM_CPU_OMP_THREADS_BIND", "nobind")]);
        command
    }
}

/// The installer, in an environment of its own.
fn uv() -> Result<PathBuf> {
    let dir = cache::dir()?.join(format!("engines/{}", UV.replace("==", "-")));
    Ok(cache::venv(&dir, UV, UV)?.join("uv"))
}

fn packages(uv: &Path, python: &Path, environment: &Path) -> Result<()> {
    fs::create_dir_all(environment).with_context(|| format!("creating {}", environment.display()))?;
    let (venv, pins) = (environment.join("venv"), environment.join("requirements.txt"));
    fs::write(&pins, REQUIREMENTS).context("writing the pins")?;
    run(Command::new(uv)
        .args(["venv", "--quiet", "--clear", "--python"])
        .args([python, &venv]))?;
    let mut install = Command::new(uv);
    install.args([
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--only-binary",
        ":all:",
        "--python",
    ]);
    run(install
        .arg(venv.join("bin/python"))
        .arg("--requirement")
        .arg(&pins))
}

/// What we add lies beside the environment, which stays as its packages made it.
fn addons(environment: &Path) -> Result<()> {
    let addons = environment.join("addons");
    let plugin = addons.join("kthena_addons-1.dist-info");
    let vllm = addons.join("vllm-0.32.0+cpu.dist-info");
    let library = environment.join("lib");
    for dir in [&plugin, &vllm, &library] {
        fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
    }
    for (path, text) in [
        (addons.join("kthena_addons.py"), PLUGIN),
        (
            plugin.join("METADATA"),
            "Metadata-Version: 2.1\nName: kthena_addons\nVersion: 1\n",
        ),
        (plugin.join("entry_points.txt"), ENTRY_POINT),
        (vllm.join("METADATA"), METADATA),
    ] {
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    let nixl = only_child(&environment.join("venv/lib"), "python3.")?.join("site-packages/nixl_cu13.libs");
    for (wanted, prefix) in BORROWED {
        let link = library.join(wanted);
        if link.symlink_metadata().is_err() {
            std::os::unix::fs::symlink(only_child(&nixl, prefix)?, &link)
                .with_context(|| format!("linking {}", link.display()))?;
        }
    }
    Ok(())
}

/// The folder with the models `tiny` and `tiny-lora`.
fn model(environment: &Path, environment_key: &str) -> Result<PathBuf> {
    let corpus = setting::checkout().join("LICENSE");
    let text = fs::read(&corpus).with_context(|| format!("reading {}", corpus.display()))?;
    let key = cache::key(&[environment_key.as_bytes(), MODEL.as_bytes(), &text]);
    let dir = cache::dir()?.join(format!("engines/models-{key}"));
    cache::make(&dir, |unfinished| {
        eprintln!("making the model (once; {})", dir.display());
        fs::create_dir_all(unfinished).context("creating the models' folder")?;
        let program = unfinished.join("model.py");
        fs::write(&program, MODEL).context("writing the model's program")?;
        run(Command::new(environment.join("venv/bin/python"))
            .current_dir(unfinished)
            .arg(&program)
            .args([corpus.as_os_str(), "tiny".as_ref(), "tiny-lora".as_ref()]))
    })?;
    Ok(dir)
}

/// The one entry of a folder whose name begins so.
fn only_child(dir: &Path, prefix: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))?;
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(prefix))
        })
        .collect();
    ensure!(
        found.len() == 1,
        "{} has {} entries {prefix}*, not one",
        dir.display(),
        found.len()
    );
    Ok(found.remove(0))
}

fn run(command: &mut Command) -> Result<()> {
    output(command.env_remove("PYTHONPATH")).map(drop)
}
