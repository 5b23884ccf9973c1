//! The quickstart command, as a user runs it.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

/// Killed when dropped, so that a test that fails leaves nothing behind.
struct Running(Child);

struct Quickstart {
    program: Running,
    lines: BufReader<ChildStdout>,
    /// The commands that it says to try.
    commands: Vec<String>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Quickstart {
    fn start() -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_kthena-proxy"))
            .args(["quickstart", "--port=0", "--metrics-port=0", "--debug-port=0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
        let mut program = Running(child);
        let mut lines = BufReader::new(program.0.stdout.take().expect("it is piped"));
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
            program,
            lines,
            commands,
        }
    }

    fn interrupt(&self) {
        let status = Command::new("kill")
            .args(["-INT", &self.program.0.id().to_string()])
            .status();
        assert!(status.expect("kill").success());
    }

    fn ends(self, within: Duration) -> std::process::ExitStatus {
        let Self {
            mut program,
            mut lines,
            ..
        } = self;
        // What it says ends when it does.
        let (ended, end) = std::sync::mpsc::channel();
        std::thread::spawn(move || ended.send(lines.read_to_string(&mut String::new())));
        end.recv_timeout(within).expect("an end in time").expect("text");
        program.0.wait().expect("an exit status")
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
    assert!(quickstart.ends(Duration::from_secs(60)).success());
}

#[test]
fn idle_it_ends_at_once() {
    let quickstart = Quickstart::start();
    quickstart.interrupt();
    // Long before the drain timeout of 30 s.
    assert!(quickstart.ends(Duration::from_secs(10)).success());
}
