//! The shell that cleans up after the test process.

use std::{
    io::Write,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    sync::LazyLock,
};

use parking_lot::Mutex;

/// Reads `+ PID`, `- PID` and `d DIR` lines; at the end of input kills the groups and removes the folders that are left.
const SCRIPT: &str = r#"
trap '' HUP INT TERM
pids=' '
dirs=''
newline='
'
while read -r verb subject; do
    case $verb in
        +) pids="$pids$subject " ;;
        -) case $pids in *" $subject "*) pids="${pids%%" $subject "*} ${pids#*" $subject "}" ;; esac ;;
        d) dirs="$dirs$subject$newline" ;;
    esac
done
for pid in $pids; do kill -9 "-$pid" 2>/dev/null; done
printf '%s' "$dirs" | while read -r dir; do
    case $dir in */kthena-*) rm -rf "$dir" || { sleep 1; rm -rf "$dir"; } ;; esac
done
"#;

static WATCHDOG: LazyLock<Mutex<Child>> = LazyLock::new(|| {
    let child = Command::new("sh")
        .args(["-c", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .expect("a shell can be started");
    Mutex::new(child)
});

pub(super) fn watch(pid: u32) {
    tell(&format!("+ {pid}\n"));
}

pub(super) fn forget(pid: u32) {
    tell(&format!("- {pid}\n"));
}

/// Has a folder of ours removed after the test process, when nobody writes to it any more.
pub fn remove_at_exit(dir: &Path) {
    tell(&format!("d {}\n", dir.display()));
}

fn tell(line: &str) {
    let mut watchdog = WATCHDOG.lock();
    let pipe = watchdog.stdin.as_mut().expect("the watchdog's input is a pipe");
    pipe.write_all(line.as_bytes())
        .expect("the watchdog reads as long as we live");
}
