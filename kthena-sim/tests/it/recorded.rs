//! The simulator against the recorded bytes of a real engine.
//!
//! The recordings are not part of this repository. `KTHENA_SHARED` names the directory that has them as
//! `recordings/vllm`; without it these tests pass without looking. What they have shown is kept in words in
//! `shapes.rs`, which always runs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kthena_sim::{Config, Connector, Engine, Eos, Handle, Role};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{Answer, SOON, pair};
use tree::Tree;

pub(crate) mod tree;

/// How long an exchange that has no answer is waited for.
const NO_ANSWER: Duration = Duration::from_millis(300);

/// The recordings, if they are here.
pub(crate) fn recordings() -> Option<PathBuf> {
    let shared = std::env::var_os("KTHENA_SHARED")?;
    let path = PathBuf::from(shared).join("recordings/vllm");
    path.is_dir().then_some(path)
}

/// An engine like the recorded ones.
fn tiny() -> Config {
    Config {
        model: vec!["tiny".into()],
        max_model_len: 2048,
        max_num_seqs: 8,
        block_size: 32,
        num_blocks: 1024,
        eos: Eos::Never,
        connect_timeout: Duration::from_millis(200),
        death: Duration::from_secs(5),
        ..Config::instant()
    }
}

/// One recorded exchange.
struct Exchange {
    name: String,
    request: Vec<u8>,
    response: Vec<u8>,
}

impl Exchange {
    fn load(directory: &Path, name: &str) -> Option<Self> {
        let read = |suffix: &str| std::fs::read(directory.join(format!("{name}.{suffix}.http"))).ok();
        Some(Self {
            name: name.to_owned(),
            request: read("request")?,
            response: read("response")?,
        })
    }

    /// All exchanges of a directory, by name.
    fn all(directory: &Path) -> Vec<Self> {
        let mut names: Vec<String> = std::fs::read_dir(directory)
            .unwrap()
            .filter_map(|entry| {
                Some(
                    entry
                        .ok()?
                        .file_name()
                        .to_str()?
                        .strip_suffix(".request.http")?
                        .to_owned(),
                )
            })
            .collect();
        names.sort();
        names
            .iter()
            .filter_map(|name| Self::load(directory, name))
            .collect()
    }

    /// The request with another body.
    fn with_body(&self, body: &Value) -> Vec<u8> {
        let end = self.request.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(self.request[..end].to_vec()).unwrap();
        let body = body.to_string();
        let lines =
            head.split("\r\n").map(
                |line| match line.to_ascii_lowercase().starts_with("content-length") {
                    true => format!("Content-Length: {}", body.len()),
                    false => line.to_owned(),
                },
            );
        format!("{}\r\n\r\n{body}", lines.collect::<Vec<_>>().join("\r\n")).into_bytes()
    }

    fn body(&self) -> Option<Value> {
        let end = self.request.windows(4).position(|w| w == b"\r\n\r\n")?;
        serde_json::from_slice(&self.request[end + 4..]).ok()
    }
}

/// Sends a request and reads until its answer is whole, as it says itself.
async fn replay(to: &Handle, request: &[u8], patience: Duration) -> Vec<u8> {
    let mut stream = TcpStream::connect(to.addr()).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    let closes = String::from_utf8_lossy(request)
        .to_ascii_lowercase()
        .contains("connection: close");
    let read = async {
        if closes {
            drop(stream.read_to_end(&mut answer).await);
            return;
        }
        while Answer::parse(&answer).is_none_or(|answer| !answer.complete) {
            if stream.read_buf(&mut answer).await.unwrap_or(0) == 0 {
                return;
            }
        }
    };
    drop(tokio::time::timeout(patience, read).await);
    answer
}

/// What differs between two answers, in one text each.
fn differences(recorded: &[u8], ours: &[u8]) -> Vec<String> {
    let (recorded, ours) = match (Answer::parse(recorded), Answer::parse(ours)) {
        (None, None) => return Vec::new(),
        (Some(recorded), Some(ours)) => (recorded, ours),
        (recorded, ours) => return vec![format!("answered: {} and {}", recorded.is_some(), ours.is_some())],
    };
    let mut all = Vec::new();
    if recorded.status != ours.status {
        all.push(format!(
            "status {} became {}: {}",
            recorded.status,
            ours.status,
            ours.text()
        ));
        return all;
    }
    let heads = |answer: &Answer| -> Vec<String> {
        let shown = answer.headers.iter().map(|(name, value)| match name.as_str() {
            "date" | "content-length" => name.clone(),
            _ => format!("{name}: {value}"),
        });
        shown.collect()
    };
    if heads(&recorded) != heads(&ours) {
        all.push(format!(
            "headers {:?} became {:?}",
            heads(&recorded),
            heads(&ours)
        ));
    }
    if recorded
        .header("content-type")
        .is_some_and(|media_type| media_type.starts_with("text/event-stream"))
    {
        let (recorded, ours) = (tree::events(&recorded.text()), tree::events(&ours.text()));
        let (recorded, ours) = (tree::distinct(recorded), tree::distinct(ours));
        if recorded.len() != ours.len() {
            all.push(format!(
                "{} kinds of events became {}: {ours:?}",
                recorded.len(),
                ours.len()
            ));
        }
        for (number, (recorded, ours)) in recorded.iter().zip(&ours).enumerate() {
            if recorded.name != ours.name {
                all.push(format!(
                    "event {number}: {:?} became {:?}",
                    recorded.name, ours.name
                ));
            }
            recorded
                .data
                .compare(&ours.data, &format!("event {number}"), &mut all);
        }
    } else {
        Tree::parse(&recorded.text()).compare(&Tree::parse(&ours.text()), "body", &mut all);
    }
    all
}

/// Fails with everything that differs.
fn report(found: Vec<(String, Vec<String>)>) {
    let found: Vec<_> = found
        .into_iter()
        .filter(|(_, differences)| !differences.is_empty())
        .collect();
    let mut text = String::new();
    for (name, differences) in &found {
        text.push_str(&format!("\n{name}\n  {}", differences.join("\n  ")));
    }
    assert!(found.is_empty(), "{} exchanges differ:{text}", found.len());
}

#[tokio::test]
async fn a_plain_engine_answers_as_recorded() {
    let Some(recordings) = recordings() else { return };
    let engine = Engine::start(Config {
        lora: vec!["tiny-lora".into()],
        ..tiny()
    })
    .await
    .unwrap();
    let mut found = Vec::new();
    for exchange in Exchange::all(&recordings.join("single")) {
        if exchange.name == "client-abort-stream" {
            continue;
        }
        let ours = replay(&engine, &exchange.request, SOON).await;
        found.push((exchange.name, differences(&exchange.response, &ours)));
    }
    assert!(found.len() > 40);
    report(found);
}

/// The hand-over parameters of a decode request, with our own prefill's values where the recorded request
/// had the recorded prefill's.
fn transplant(wanted: &Value, recorded: &Value, ours: &Value) -> Value {
    let Some(wanted) = wanted.as_object() else {
        return wanted.clone();
    };
    let pick = |(name, value): (&String, &Value)| {
        let same = recorded.get(name) == Some(value);
        (
            name.clone(),
            if same { ours[name].clone() } else { value.clone() },
        )
    };
    Value::Object(wanted.iter().map(pick).collect())
}

/// Replays the exchanges of one directory on a pair, in the order of their names.
async fn replay_pair(
    directory: &Path,
    tag: &str,
    single: &Handle,
    p: &Handle,
    d: &Handle,
) -> Vec<(String, Vec<String>)> {
    let (mut recorded_params, mut our_params) = (Value::Null, Value::Null);
    let mut found = Vec::new();
    for exchange in Exchange::all(directory) {
        let (engine, prefills) = match exchange.name.as_str() {
            name if name.starts_with("0-") => (single, false),
            name if name.ends_with("prefill") => (p, true),
            _ => (d, false),
        };
        let request = match exchange.body() {
            Some(mut body) if !prefills && body.get("kv_transfer_params").is_some() => {
                let wanted = transplant(&body["kv_transfer_params"], &recorded_params, &our_params);
                body["kv_transfer_params"] = wanted;
                exchange.with_body(&body)
            }
            _ => exchange.request.clone(),
        };
        let patience = if exchange.response.is_empty() {
            NO_ANSWER
        } else {
            SOON
        };
        let ours = replay(engine, &request, patience).await;
        if prefills {
            let params =
                |raw: &[u8]| Answer::parse(raw).and_then(|a| serde_json::from_slice::<Value>(&a.body).ok());
            recorded_params = params(&exchange.response).unwrap_or_default()["kv_transfer_params"].clone();
            our_params = params(&ours).unwrap_or_default()["kv_transfer_params"].clone();
        }
        found.push((
            format!("{tag}/{}", exchange.name),
            differences(&exchange.response, &ours),
        ));
    }
    found
}

#[tokio::test]
async fn a_nixl_pair_answers_as_recorded() {
    let Some(recordings) = recordings() else { return };
    let single = Engine::start(tiny()).await.unwrap();
    let (p, d) = pair(tiny(), Connector::Nixl).await;
    // The recorded engine put a whole answer into one event once.
    let bundling = Config {
        tokens_per_event: 12,
        ..tiny()
    };
    let bundling = Engine::start(bundling.paired(Role::Decode, Connector::Nixl))
        .await
        .unwrap();
    let mut found = Vec::new();
    // The order in which they were recorded matters to the caches; the last one kills the engine.
    for tag in [
        "completion",
        "completion-stream",
        "chat",
        "chat-stream",
        "short-prompt",
        "chat-n2",
        "batch-prompts",
        "client-sends-cache-salt",
        "params-used-twice",
        "prefix-already-on-decode",
        "no-params-to-decode",
        "prefill-streamed",
        "prefill-keeps-stream-options",
        "prefill-keeps-min-tokens",
        "extra-fields-dropped",
        "prefill-host-unreachable",
        "remote-request-id-missing",
    ] {
        let d = if tag == "completion-stream" { &bundling } else { &d };
        found.extend(replay_pair(&recordings.join("pd-nixl").join(tag), tag, &single, &p, d).await);
    }
    // The one thing that we do otherwise, on purpose: the real engine cannot tell that parameters were used.
    let (deliberate, found): (Vec<_>, Vec<_>) = found
        .into_iter()
        .partition(|(name, _)| name.contains("decode-again"));
    assert!(
        deliberate
            .iter()
            .all(|(_, differences)| differences[0].contains("status 200 became 500"))
    );
    assert_eq!(deliberate.len(), 2);
    assert!(found.len() > 40);
    report(found);
}

#[tokio::test]
async fn a_mooncake_pair_answers_as_recorded() {
    let Some(recordings) = recordings() else { return };
    let single = Engine::start(tiny()).await.unwrap();
    let (p, d) = pair(tiny(), Connector::Mooncake).await;
    let bootstrap = p.side_channel_addr().unwrap();
    let query = Exchange::load(&recordings.join("pd-mooncake"), "bootstrap-query").unwrap();
    let ours = crate::client::exchange(bootstrap, &query.request).await.unwrap();
    let mut found = vec![("bootstrap-query".to_owned(), differences(&query.response, &ours))];
    for tag in ["sequential", "concurrent", "chat-stream", "decode-first"] {
        let directory = recordings.join("pd-mooncake").join(tag);
        let load = |name: &str| Exchange::load(&directory, name).unwrap();
        let (reference, prefill, decode) = (
            load("0-reference-single-engine"),
            load("1-prefill"),
            load("2-decode"),
        );
        let mut body = decode.body().unwrap();
        body["kv_transfer_params"]["remote_bootstrap_addr"] = format!("http://{bootstrap}").into();
        body["kv_transfer_params"]["remote_engine_id"] = p.engine_id().into();
        let request = decode.with_body(&body);
        let (ours_p, ours_d) = match tag {
            "sequential" => (
                replay(&p, &prefill.request, SOON).await,
                replay(&d, &request, SOON).await,
            ),
            _ => {
                let (ours_d, ours_p) =
                    tokio::join!(replay(&d, &request, SOON), replay(&p, &prefill.request, SOON));
                (ours_p, ours_d)
            }
        };
        let ours = replay(&single, &reference.request, SOON).await;
        assert_eq!(
            Answer::parse(&ours).unwrap().said(),
            Answer::parse(&ours_d).unwrap().said(),
            "{tag}"
        );
        found.push((format!("{tag}/0"), differences(&reference.response, &ours)));
        found.push((format!("{tag}/1"), differences(&prefill.response, &ours_p)));
        found.push((format!("{tag}/2"), differences(&decode.response, &ours_d)));
    }
    report(found);
}

#[tokio::test]
async fn what_vllm_router_sends_is_answered_as_recorded() {
    let Some(recordings) = recordings() else { return };
    let single = Engine::start(tiny()).await.unwrap();
    let (p, d) = pair(tiny(), Connector::Nixl).await;
    report(
        replay_pair(
            &recordings.join("vllm-router-nixl"),
            "vllm-router-nixl",
            &single,
            &p,
            &d,
        )
        .await,
    );
}

#[tokio::test]
async fn metrics_have_the_recorded_names_types_and_labels() {
    let Some(recordings) = recordings() else { return };
    let single = Engine::start(Config {
        lora: vec!["tiny-lora".into()],
        ..tiny()
    })
    .await
    .unwrap();
    let (p, d) = pair(tiny(), Connector::Nixl).await;
    for (file, engine) in [
        ("metrics.txt", &single),
        ("metrics-prefill.txt", &p),
        ("metrics-decode.txt", &d),
    ] {
        let recorded = std::fs::read_to_string(recordings.join(file)).unwrap();
        let mut recorded = crate::metrics::families(&recorded, "vllm:");
        let page = crate::client::get(engine.addr(), "/metrics").await.text();
        let mut ours = crate::metrics::families(&page, "vllm:");
        // We show some of the many labels of this one.
        let (theirs, own) = (
            recorded.remove("vllm:cache_config_info"),
            ours.remove("vllm:cache_config_info"),
        );
        assert!(own.unwrap().1.is_subset(&theirs.unwrap().1));
        // A family without series shows nothing but its type.
        recorded.retain(|_, (_, labels)| !labels.is_empty());
        for (name, family) in &recorded {
            assert_eq!(ours.get(name), Some(family), "{file}: {name}");
        }
        let more: Vec<_> = ours.keys().filter(|name| !recorded.contains_key(*name)).collect();
        assert!(more.is_empty(), "{file}: {more:?}");
    }
}
