//! Programs that run to their end and are asked for nothing but what they print.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// What a program prints. If it fails, the error has all of its output.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("running {command:?}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    ensure!(
        output.status.success(),
        "{command:?} failed ({})\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    Ok(text(&output.stdout))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_tells_what_was_printed() {
        let script = |text: &str| output(Command::new("sh").args(["-c", text]));
        assert_eq!(script("echo fine; echo aside >&2").unwrap(), "fine\n");
        let error = script("echo half; echo the reason >&2; exit 3")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("half") && error.contains("the reason") && error.contains('3'),
            "{error}"
        );
        let missing = output(&mut Command::new("/no/such/program")).unwrap_err();
        assert!(format!("{missing:#}").contains("/no/such/program"), "{missing:#}");
    }
}
