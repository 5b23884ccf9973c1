//! Flags of klog. Logs go to stderr here; flags about anything else are accepted, since deployments may give them.

use super::go_bool;

/// Flags of klog but `-v`.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Accepted for compatibility")]
pub(super) struct Klog {
    #[arg(long, hide = true)]
    vmodule: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go_bool)]
    logtostderr: Option<bool>,
    #[arg(long = "log_dir", hide = true)]
    log_dir: Option<String>,
    #[arg(long = "log_file", hide = true)]
    log_file: Option<String>,
    #[arg(long = "log_backtrace_at", hide = true)]
    log_backtrace_at: Option<String>,
    #[arg(long = "add_dir_header", hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go_bool)]
    add_dir_header: Option<bool>,
    #[arg(long = "skip_headers", hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go_bool)]
    skip_headers: Option<bool>,

    // About files, of which there are none, or thresholds for stderr, where everything goes.
    #[arg(long = "log_file_max_size", hide = true)]
    log_file_max_size: Option<String>,
    #[arg(long = "one_output", hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go_bool)]
    one_output: Option<bool>,
    #[arg(long = "skip_log_headers", hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go_bool)]
    skip_log_headers: Option<bool>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go_bool)]
    alsologtostderr: Option<bool>,
    #[arg(long, hide = true)]
    alsologtostderrthreshold: Option<String>,
    #[arg(long, hide = true)]
    stderrthreshold: Option<String>,
    #[arg(long = "legacy_stderr_threshold_behavior", hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go_bool)]
    legacy_stderr_threshold_behavior: Option<bool>,
}

impl Klog {
    /// Flags that ask for what is not done.
    pub(super) fn without_effect(&self) -> Vec<&'static str> {
        let is_given = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        let all = [
            ("--vmodule", is_given(&self.vmodule)),
            ("--logtostderr=false", self.logtostderr == Some(false)),
            ("--log_dir", is_given(&self.log_dir)),
            ("--log_file", is_given(&self.log_file)),
            (
                "--log_backtrace_at",
                is_given(&self.log_backtrace_at) && self.log_backtrace_at.as_deref() != Some(":0"),
            ),
            ("--add_dir_header", self.add_dir_header == Some(true)),
            ("--skip_headers", self.skip_headers == Some(true)),
        ];
        let given = all.into_iter().filter(|(_, is_given)| *is_given);
        given.map(|(flag, _)| flag).collect()
    }
}
