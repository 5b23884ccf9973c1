//! Objects from a folder.

use std::path::Path;
use std::time::Duration;

use kthena_proxy::server::SourceConfig;
use serde_json::Value;

use crate::bed::{Bed, eventually, eventually_ok, plain, plain_server, route};
use crate::client;

async fn bed(folder: &Path) -> Bed {
    let folder = folder.to_owned();
    Bed::with(|config| {
        config.source = SourceConfig::Files {
            folder,
            period: Duration::from_millis(50),
        }
    })
    .await
}

fn write(folder: &Path, name: &str, objects: &[Value]) {
    let text: String = objects.iter().map(|object| format!("---\n{object}\n")).collect();
    put(folder, name, &text);
}

/// As kubectl, editors and kubelets do: a whole file appears at once.
fn put(folder: &Path, name: &str, text: &str) {
    let temporary = folder.join(format!(".{name}"));
    std::fs::write(&temporary, text).expect("a writable folder");
    std::fs::rename(&temporary, folder.join(name)).expect("the same folder");
}

async fn becomes(bed: &Bed, status: u16) {
    eventually_ok(&status.to_string(), async || {
        let answer = bed.chat("x", false).await;
        if answer.status == status {
            Ok(())
        } else {
            Err(format!("{} {}", answer.status, answer.text()))
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_come_change_and_go_with_their_files() {
    let (folder, engine, other) = (
        tempfile::tempdir().expect("a folder"),
        plain().await,
        plain().await,
    );
    let bed = bed(folder.path()).await;
    eventually("readiness", || bed.proxy.readiness.is_ready()).await;
    becomes(&bed, 404).await;
    write(folder.path(), "route.yaml", &[route()]);
    write(folder.path(), "server.yaml", &[plain_server(&[&engine])]);
    becomes(&bed, 200).await;
    write(folder.path(), "server.yaml", &[plain_server(&[&other])]);
    eventually("the other engine", || {
        bed.proxy.view.snapshot.load().servers["default/s"]
            .pool
            .endpoints()
            .any(|e| e.address().to_string() == other.addr().to_string())
    })
    .await;
    assert_eq!(bed.chat("x", false).await.status, 200);
    assert!(!other.all_requests().is_empty());
    std::fs::remove_file(folder.path().join("server.yaml")).expect("it is there");
    becomes(&bed, 404).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_file_keeps_its_last_good_state_and_says_so() {
    let (folder, engine) = (tempfile::tempdir().expect("a folder"), plain().await);
    write(folder.path(), "all.yaml", &[route(), plain_server(&[&engine])]);
    let bed = bed(folder.path()).await;
    becomes(&bed, 200).await;
    let mut unknown = plain_server(&[&engine]);
    unknown["spec"]["inferenceEngin"] = "vLLM".into();
    let mut wrong = plain_server(&[&engine]);
    wrong["spec"]["inferenceEngine"] = "TGI".into();
    let texts = [
        "a: [".to_owned(),
        format!("---\n{unknown}"),
        format!("---\n{wrong}"),
        "kind: x".to_owned(),
    ];
    for text in texts {
        put(folder.path(), "all.yaml", &text);
        eventually_ok(&text, async || {
            let answer = client::get(bed.address(), "/readyz").await.json();
            match answer["detail"][0].as_str() {
                Some(detail) if detail.contains("all.yaml") => Ok(()),
                _ => Err(answer.to_string()),
            }
        })
        .await;
        assert_eq!(bed.chat("x", false).await.status, 200, "{text}");
        bed.counts("kthena_router_config_broken{source=\"file\"}", 1.0)
            .await;
        write(folder.path(), "all.yaml", &[route(), plain_server(&[&engine])]);
        bed.counts("kthena_router_config_broken{source=\"file\"}", 0.0)
            .await;
    }
    assert!(
        bed.metric("kthena_router_config_errors_total{source=\"file\"}")
            .await
            >= 4.0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_may_hold_a_whole_deployment() {
    let (folder, engine) = (tempfile::tempdir().expect("a folder"), plain().await);
    let list =
        serde_json::json!({"apiVersion": "v1", "kind": "List", "items": [route(), plain_server(&[&engine])]});
    let other = serde_json::json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}});
    write(folder.path(), "all.json", &[list]);
    write(folder.path(), "other.yml", &[other]);
    put(folder.path(), "README.md", "not: [yaml");
    let bed = bed(folder.path()).await;
    becomes(&bed, 200).await;
}
