//! kthena-proxy with objects from files, otherwise as it comes: access log and metrics are on.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use kthena_tests::reserve::Port;

use super::Mode;
use crate::bed::{Bed, Running};

/// A ModelServer and the ModelRoute to it, as YAML.
#[derive(Debug, Clone, Default)]
pub(crate) struct Manifest {
    pub model: &'static str,
    /// Engines with the labels that make pairs of them; none for plain engines.
    pub endpoints: Vec<(SocketAddr, Option<Pair>)>,
    /// Written into the rule's name, so that a change of the route is one.
    pub revision: usize,
}

/// The place of an engine in a prefill/decode group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pair {
    pub group: u8,
    pub role: &'static str,
}

/// Engines for prefill and decode that belong together.
pub(crate) fn group(number: u8, prefill: SocketAddr, decode: SocketAddr) -> [(SocketAddr, Option<Pair>); 2] {
    let pair = |role| Some(Pair { group: number, role });
    [(prefill, pair("prefill")), (decode, pair("decode"))]
}

impl Manifest {
    pub(crate) fn yaml(&self) -> String {
        let model = self.model;
        let mut yaml = format!(
            "apiVersion: networking.serving.volcano.sh/v1alpha1\nkind: ModelRoute\nmetadata: {{name: {model}}}\n\
             spec:\n  modelName: {model}\n  rules:\n  - name: rule-{}\n    targetModels: [{{modelServerName: {model}}}]\n---\n\
             apiVersion: networking.serving.volcano.sh/v1alpha1\nkind: ModelServer\nmetadata: {{name: {model}}}\n\
             spec:\n  inferenceEngine: vLLM\n  model: {model}\n  workloadPort: {{port: 8000}}\n",
            self.revision
        );
        if self.endpoints.iter().any(|(_, pair)| pair.is_some()) {
            yaml += "  kvConnector: {type: nixl}\n  workloadSelector:\n    pdGroup:\n      groupKey: group\n      \
                     prefillLabels: {role: prefill}\n      decodeLabels: {role: decode}\n";
        }
        yaml += "  endpoints:\n";
        for (address, pair) in &self.endpoints {
            let labels = pair.map_or_else(String::new, |Pair { group, role }| {
                format!(", labels: {{group: \"{group}\", role: {role}}}")
            });
            // Writing to a string cannot fail.
            let _ok = writeln!(
                yaml,
                "  - {{address: {}, port: {}{labels}}}",
                address.ip(),
                address.port()
            );
        }
        yaml
    }

    /// Puts the file into the folder in one step, as ConfigMaps and careful editors do.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        let unfinished = folder.join(format!(".{}.unfinished", self.model));
        std::fs::write(&unfinished, self.yaml()).context("writing a manifest")?;
        let path = folder.join(format!("{}.yaml", self.model));
        std::fs::rename(&unfinished, &path).with_context(|| format!("writing {}", path.display()))
    }
}

pub(super) async fn start(bed: &Bed, mode: Mode) -> Result<Running> {
    let endpoints = match mode {
        Mode::Plain => vec![(bed.engine(0), None)],
        Mode::Split => group(0, bed.engine(1), bed.engine(2)).to_vec(),
    };
    let manifest = Manifest {
        model: "bench",
        endpoints,
        revision: 0,
    };
    let folder = bed.folder("kthena")?;
    start_with(bed, &folder, &[manifest]).await
}

/// Starts it with these objects in the folder `objects` of its own folder; the first model is probed.
pub(crate) async fn start_with(bed: &Bed, folder: &Path, manifests: &[Manifest]) -> Result<Running> {
    let objects = folder.join("objects");
    std::fs::create_dir_all(&objects).context("making the folder of objects")?;
    for manifest in manifests {
        manifest.write(&objects)?;
    }
    let ports = vec![Port::reserve()?, Port::reserve()?, Port::reserve()?];
    let [port, metrics, debug] = [0, 1, 2].map(|n: usize| ports[n].number().to_string());
    let mut command = Command::new(&bed.proxy);
    command
        .args([
            "--port",
            &port,
            "--metrics-port",
            &metrics,
            "--debug-port",
            &debug,
        ])
        .args(["--resource-source", "file", "--resource-dir"])
        .arg(objects);
    let model = manifests.first().context("there is a model")?.model;
    bed.serve("kthena-proxy", &mut command, folder, ports, model)
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_labelled_and_plain_engines_are_not() {
        let address = |n| SocketAddr::from(([127, 0, 0, n], 8000));
        let manifest = |endpoints| Manifest {
            model: "m",
            endpoints,
            revision: 3,
        };
        let plain = manifest(vec![(address(1), None)]).yaml();
        assert!(plain.contains("  - {address: 127.0.0.1, port: 8000}\n") && plain.contains("rule-3"));
        assert!(!plain.contains("kvConnector"));
        let split = manifest(group(4, address(1), address(2)).to_vec()).yaml();
        assert!(split.contains("kvConnector: {type: nixl}"));
        assert!(
            split.contains("  - {address: 127.0.0.2, port: 8000, labels: {group: \"4\", role: decode}}\n")
        );
    }
}
