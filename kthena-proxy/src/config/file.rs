//! The configuration file: `scheduler` and `auth`, as the chart's ConfigMap has them.
//!
//! This version has one way to choose engines and no authentication, so the file is read for what it must not be silent about.

use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Where the chart mounts it.
pub const PATH: &str = "/etc/config/routerConfiguration.yaml";

/// Plugins that this version has.
const KNOWN: [&str; 1] = ["least-request"];

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is there and cannot be read.
    #[error("cannot read {}", .0.display())]
    Read(PathBuf, #[source] std::io::Error),
    /// It is no YAML, or not of this shape.
    #[error("{} is no router configuration: {reason}", .path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// It asks for authentication. To serve without would let everybody in.
    #[error("{}: auth.jwksUri is not supported by this version", .0.display())]
    Auth(PathBuf),
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct File {
    scheduler: Scheduler,
    auth: Auth,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Scheduler {
    plugins: Plugins,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Plugins {
    filter: Filters,
    score: Scores,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Filters {
    enabled: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Scores {
    enabled: Vec<Score>,
}

#[derive(Debug, Deserialize)]
struct Score {
    name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Auth {
    jwks_uri: String,
}

/// Reads the file, if there is one, and warns of plugins that it names and this version lacks.
pub fn check(path: &Path) -> Result<(), Error> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::Read(path.to_owned(), error)),
    };
    for plugin in missing_plugins(path, &text)? {
        tracing::warn!(
            plugin,
            "this version has no such scheduler plugin; engines are chosen by least requests"
        );
    }
    Ok(())
}

fn missing_plugins(path: &Path, text: &str) -> Result<Vec<String>, Error> {
    let parse = |reason: String| Error::Parse {
        path: path.to_owned(),
        reason,
    };
    let documents = kthena_api::yaml::read(text).map_err(|error| parse(error.to_string()))?;
    let document = documents.into_iter().next().unwrap_or_default();
    if document.is_array() {
        return Err(parse("it is a list".to_owned())); // which serde would take for the members in their order
    }
    let file: Option<File> = serde_json::from_value(document).map_err(|error| parse(error.to_string()))?;
    let file = file.unwrap_or_default();
    if !file.auth.jwks_uri.is_empty() {
        return Err(Error::Auth(path.to_owned()));
    }
    let scores = file
        .scheduler
        .plugins
        .score
        .enabled
        .into_iter()
        .map(|score| score.name);
    let named = file.scheduler.plugins.filter.enabled.into_iter().chain(scores);
    let mut missing: Vec<String> = named.filter(|name| !KNOWN.contains(&name.as_str())).collect();
    missing.sort_unstable();
    missing.dedup();
    Ok(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<String>, Error> {
        missing_plugins(Path::new("/x.yaml"), text)
    }

    #[test]
    fn plugins_that_are_not_there_are_named() {
        let chart = "
scheduler:
  pluginConfig:
  - {name: least-request, args: {maxWaitingRequests: 10}}
  plugins:
    Filter: {enabled: [least-request], disabled: [lora-affinity]}
    Score:
      enabled:
      - {name: least-request, weight: 1}
      - {name: prefix-cache, weight: 1}
      - {name: gpu-usage}
      disabled: []
auth: {issuer: '', audiences: [], jwksUri: ''}
";
        assert_eq!(read(chart).unwrap(), ["gpu-usage", "prefix-cache"]);
        assert!(read("").unwrap().is_empty());
        assert!(read("scheduler: {}").unwrap().is_empty());
    }

    #[test]
    fn authentication_is_not_left_out_silently() {
        assert!(matches!(
            read("auth: {jwksUri: 'https://x/keys'}"),
            Err(Error::Auth(_))
        ));
    }

    #[test]
    fn what_is_no_configuration_is_refused() {
        for text in [
            "{",
            "[]",
            "scheduler: 7",
            "scheduler: {plugins: {Filter: {enabled: 7}}}",
        ] {
            assert!(matches!(read(text), Err(Error::Parse { .. })), "{text}");
        }
    }

    #[test]
    fn it_may_be_missing() {
        assert!(check(Path::new("/nowhere/at/all.yaml")).is_ok());
    }
}
