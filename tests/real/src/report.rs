//! What came out, as a table.

use std::{fmt, time::Duration};

use crate::{compare::Agreement, question::Expected};

/// What came of one question.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) question: &'static str,
    pub(crate) requests: usize,
    pub(crate) expected: Expected,
    pub(crate) took: Duration,
    pub(crate) outcome: Outcome,
}

#[derive(Debug)]
pub(crate) enum Outcome {
    Passed {
        agreement: Agreement,
        /// Prompt tokens whose cache decode got from prefill.
        transferred: f64,
    },
    Failed(String),
}

impl Row {
    pub(crate) fn passed(&self) -> bool {
        matches!(self.outcome, Outcome::Passed { .. })
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "  {:<48} {:>2} {:>6.2} s  ",
            self.question,
            self.requests,
            self.took.as_secs_f64()
        )?;
        match &self.outcome {
            Outcome::Passed {
                agreement,
                transferred,
            } => {
                match agreement {
                    Agreement::Whole => write!(f, "{:<24}", "equal")?,
                    Agreement::Events(count) => write!(f, "{:<24}", format!("{count} equal events"))?,
                    Agreement::Joined(count) => write!(f, "{:<24}", format!("equal in {count} events"))?,
                }
                match self.expected {
                    Expected::HandedOver => write!(f, "{transferred:>6} tokens handed over"),
                    Expected::Alone(_) => write!(f, "exception: decode alone"),
                    Expected::Refused(_) => write!(f, "exception: refused"),
                }
            }
            Outcome::Failed(reason) => write!(f, "FAILED: {reason}"),
        }
    }
}

/// One line for the end, and one for each exception.
pub(crate) fn summary(name: &str, rows: &[Row]) -> String {
    let passed = rows.iter().filter(|row| row.passed()).count();
    let exceptions: Vec<&Row> = rows
        .iter()
        .filter(|row| row.expected.exception().is_some())
        .collect();
    let mut text = format!(
        "{name}: {passed} of {} questions passed, {} with the cache handed over, {} exceptions",
        rows.len(),
        rows.iter()
            .filter(|row| row.passed() && row.expected.exception().is_none())
            .count(),
        exceptions.len()
    );
    for row in exceptions {
        text.push_str(&format!(
            "\n    not handed over: {}: {}",
            row.question,
            row.expected.exception().unwrap_or_default()
        ));
    }
    for row in rows.iter().filter(|row| !row.passed()) {
        text.push_str(&format!("\n{row}"));
    }
    text
}
