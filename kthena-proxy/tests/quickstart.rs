//! The quickstart command, as a user runs it.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

struct Quickstart {
    child: Child,
    lines: BufReader<ChildStdout>,
    /// The commands that it says to try.
    commands: Vec<String>,
}

impl Quickstart {
    fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_kthena-proxy"))
            .args(["quickstart", "--port=0", "--metrics-port=0", "--debug-port=0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut commands = Vec::new();
        let mut line = String::new();
        while !line.starts_with("Ctrl-C") {
            line.clear();
            assert!(
                lines.read_line(&mut line).expect("text") > 0,
                "it ended after {commands:?}"
            );
            if line.starts_with("curl ") {
                commands.push(line.trim().to_owned());
            }
        }
        Self {
            child,
            lines,
            commands,
        }
    }

    fn interrupt(&self) {
        let status = Command::new("kill")
            .args(["-INT", &self.child.id().to_string()])
            .status();
        assert!(status.expect("kill").success());
    }

    fn ends(mut self) -> std::process::ExitStatus {
        let mut rest = String::new();
        self.lines.read_to_string(&mut rest).expect("text");
        self.child.wait().expect("an exit status")
    }
}

fn shell(command: &str) -> Command {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", &format!("exec {command}")])
        .stderr(Stdio::null());
    shell
}

fn output(command: &str) -> String {
    let output = shell(command).output().expect("curl is installed");
    assert!(output.status.success(), "{command}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn it_answers_by_prefill_and_decode_and_ends_when_its_answers_have() {
    let quickstart = Quickstart::start();
    let [chat, prefill, decode] = &quickstart.commands[..] else {
        panic!("{:?}", quickstart.commands)
    };
    let answer = output(chat);
    let events: Vec<&str> = answer.split("\n\n").filter(|event| !event.is_empty()).collect();
    assert!(
        events.len() > 3 && events.iter().all(|event| event.starts_with("data: ")),
        "{answer}"
    );
    assert_eq!(events.last(), Some(&"data: [DONE]"));
    for (command, phase) in [(prefill, "prefill"), (decode, "decode")] {
        let stats: Value = serde_json::from_str(&output(command)).expect("JSON");
        for part in ["plain", "prefill", "decode"] {
            let expected = u64::from(part == phase);
            assert_eq!(stats[part]["received"], expected, "{part} of {stats}");
        }
        assert_eq!(stats["decode_recomputed"], 0);
    }

    // A request that is in progress when Ctrl-C comes is answered to its end.
    let mut slow = shell(chat)
        .stdout(Stdio::piped())
        .spawn()
        .expect("curl is installed");
    let mut stream = BufReader::new(slow.stdout.take().expect("it is piped"));
    let mut text = String::new();
    stream.read_line(&mut text).expect("text");
    quickstart.interrupt();
    stream.read_to_string(&mut text).expect("text");
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    assert!(slow.wait().expect("an exit status").success());
    assert!(quickstart.ends().success());
}

#[test]
fn idle_it_ends_at_once() {
    let quickstart = Quickstart::start();
    quickstart.interrupt();
    let (ended, end) = std::sync::mpsc::channel();
    std::thread::spawn(move || ended.send(quickstart.ends()));
    let status = end
        .recv_timeout(Duration::from_secs(10))
        .expect("an end, long before the drain timeout of 30 s");
    assert!(status.success());
}
