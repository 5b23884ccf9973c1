//! The simulator as a program.

use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::client::{COMPLETIONS, completion, decode, exchange, get, post, prefill};

struct Program {
    child: Child,
    ready: Value,
}

impl Program {
    /// Starts the program and waits for the line that says where it is.
    async fn start(args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_kthena-sim"))
            .args([
                "--listen",
                "127.0.0.1:0",
                "--prefill-tokens-per-second",
                "0",
                "--decode-tokens-per-second",
                "0",
            ])
            .args(args)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap();
        Self { child, ready }
    }

    fn address(&self, name: &str) -> std::net::SocketAddr {
        self.ready[name].as_str().unwrap().parse().unwrap()
    }
}

#[tokio::test]
async fn sigterm_ends_the_program_in_order() {
    let mut program = Program::start(&["--model", "m", "--model", "alias", "--eos", "never"]).await;
    let listen = program.address("listen");
    assert_eq!(get(listen, "/v1/models").await.json()["data"][1]["id"], "alias");
    let config = get(listen, "/sim/config").await.json();
    assert_eq!(
        (&config["eos"], &config["lease"]),
        (&Value::from("never"), &Value::from("30s"))
    );
    let pid = program.child.id().unwrap().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .await
            .unwrap()
            .success()
    );
    assert!(program.child.wait().await.unwrap().success());
    assert!(exchange(listen, b"").await.is_err());
}

#[tokio::test]
async fn programs_hand_over_to_each_other() {
    let p = Program::start(&["--role", "prefill", "--connector", "nixl"]).await;
    let d = Program::start(&["--role", "decode", "--connector", "nixl"]).await;
    let body = completion("between processes");
    let params = prefill(p.address("listen"), COMPLETIONS, &body).await;
    let answer = decode(d.address("listen"), COMPLETIONS, &body, &params).await;
    assert_eq!(answer.status, 200);
    let stats = get(d.address("listen"), "/sim/stats").await.json();
    assert_eq!(
        (&stats["kv"]["transfers_in"], &stats["decode_recomputed"]),
        (&Value::from(1), &Value::from(0))
    );
}

#[tokio::test]
async fn programs_share_a_store_by_its_address() {
    let common = ["--connector", "lmcache", "--block-size", "4"];
    let p = Program::start(
        &[
            &common[..],
            &["--role", "prefill", "--store-listen", "127.0.0.1:0"],
        ]
        .concat(),
    )
    .await;
    let address = format!("tcp://{}", p.address("store"));
    let d = Program::start(&[&common[..], &["--role", "decode", "--store", &address]].concat()).await;
    let body = completion("the story of a king and his horse in the dark wood");
    post(p.address("listen"), COMPLETIONS, &body).await;
    post(d.address("listen"), COMPLETIONS, &body).await;
    let stats = get(d.address("listen"), "/sim/stats").await.json();
    assert_eq!(stats["decode_recomputed"], 0);
    let other = completion("a prompt that nobody has prefilled before this one came");
    post(d.address("listen"), COMPLETIONS, &other).await;
    assert_eq!(
        get(d.address("listen"), "/sim/stats").await.json()["decode_recomputed"],
        1
    );
}
