use super::*;

fn args(flags: &[&str]) -> Result<Args, String> {
    let all = std::iter::once("kthena-controller").chain(flags.iter().copied());
    Args::try_parse_from(all).map_err(|error| error.to_string())
}

#[test]
fn defaults_are_the_published_ones() {
    let args = args(&[]).unwrap();
    assert_eq!((args.kubeconfig(), args.master()), (None, None));
    assert_eq!((args.workers, args.controllers.as_str()), (5, "*"));
    assert_eq!((args.leader_elect, args.enable_webhook), (false, true));
    assert_eq!((args.port, args.debug_port, args.verbosity), (8443, 0, 0));
    assert_eq!(args.webhook_timeout(), Some(Duration::from_secs(30)));
    assert_eq!(args.autoscaling_sync_period_seconds, 15);
    assert_eq!(args.cert_secret_name, "kthena-controller-manager-webhook-certs");
    assert_eq!(args.service_name, "kthena-controller-manager-webhook");
    assert_eq!(args.kube_api_pace(), None);
    assert_eq!(args.metrics_bind_address, Listen(all_interfaces(8080).to_vec()));
}

#[test]
fn flags_are_written_as_pflag_takes_them() {
    for (flags, leads, verbosity) in [
        (&["--leader-elect"][..], true, 0),
        (&["--leader-elect=true", "-v=2"], true, 2),
        (&["--leader-elect=T", "-v", "2"], true, 2),
        (&["--leader-elect=false", "-v2"], false, 2),
        (&["--leader-elect=0", "--v=4"], false, 4),
        (&["--v", "4", "--leader-elect=1"], true, 4),
        // The last one counts.
        (
            &["--leader-elect", "--leader-elect=false", "--v=1", "--v=5"],
            false,
            5,
        ),
    ] {
        let args = args(flags).unwrap();
        assert_eq!(
            (args.leader_elect, args.verbosity),
            (leads, verbosity),
            "{flags:?}"
        );
    }
    for list in ["--controllers=-modelbooster,*", "--controllers=+modelserving"] {
        assert_eq!(args(&[list]).unwrap().controllers, list[14..]);
    }
    let spaced = args(&[
        "--controllers",
        "-modelbooster,*",
        "--kubeconfig",
        "",
        "--master=",
    ])
    .unwrap();
    assert_eq!(
        (spaced.controllers.as_str(), spaced.kubeconfig(), spaced.master()),
        ("-modelbooster,*", None, None)
    );
}

#[test]
fn flags_of_klog_are_accepted_and_those_without_effect_named() {
    let harmless = args(&[
        "--logtostderr=true",
        "--alsologtostderr",
        "--alsologtostderrthreshold=INFO",
        "--stderrthreshold=INFO",
        "--legacy_stderr_threshold_behavior=false",
        "--log_file_max_size=1800",
        "--one_output",
        "--skip_log_headers",
        "--log_dir=",
        "--log_backtrace_at=:0",
        "--add_dir_header=false",
    ]);
    assert_eq!(harmless.unwrap().without_effect(), [""; 0]);
    let asked = args(&[
        "--logtostderr=false",
        "--log_file=/x",
        "--vmodule=a=1",
        "--skip_headers",
    ]);
    assert_eq!(
        asked.unwrap().without_effect(),
        ["--vmodule", "--logtostderr=false", "--log_file", "--skip_headers"]
    );
}

#[test]
fn the_api_server_is_spared_as_told() {
    for (flags, expected) in [
        (&["--kube-api-qps=20", "--kube-api-burst=40"][..], (20.0, 40)),
        (&["--kube-api-qps=2.5"], (2.5, 10)),
        (&["--kube-api-burst=50"], (5.0, 50)),
    ] {
        let pace = args(flags).unwrap().kube_api_pace().unwrap();
        assert_eq!((pace.rate, pace.burst), expected, "{flags:?}");
    }
}

#[test]
fn one_listens_where_told() {
    let at = |text: &str| {
        args(&[&format!("--metrics-bind-address={text}")]).map(|args| args.metrics_bind_address.0)
    };
    assert_eq!(at("0").unwrap(), []);
    assert_eq!(at("").unwrap(), []);
    assert_eq!(at(":9090").unwrap(), all_interfaces(9090));
    assert_eq!(at("127.0.0.1:9090").unwrap(), ["127.0.0.1:9090".parse().unwrap()]);
    assert_eq!(at("[::1]:9090").unwrap(), ["[::1]:9090".parse().unwrap()]);
}

#[test]
fn what_cannot_be_is_refused() {
    for flags in [
        &["--leader-elect=maybe"][..],
        // As a value of its own it would be ignored by pflag, which nobody means.
        &["--leader-elect", "false"],
        &["--port=0"],
        &["--port=70000"],
        &["--workers=0"],
        &["--debug-port=70000"],
        &["--webhook-timeout=-1"],
        &["--metrics-bind-address=8080"],
        &["--metrics-bind-address=:x"],
        &["-leader-elect"],
        &["--nope"],
        &["modelserving"],
    ] {
        assert!(args(flags).is_err(), "{flags:?}");
    }
}

#[test]
fn all_flags_are_told_with_their_values() {
    let given = ["kthena-controller", "--leader-elect", "-v=2", "--workers=7"];
    let text = text(&Args::command().get_matches_from(given));
    for flag in [
        "--leader-elect=true",
        "--v=2",
        "--workers=7",
        "--port=8443",
        "--controllers=*",
        "--kubeconfig=",
    ] {
        assert!(text.split(' ').any(|it| it == flag), "{flag} in {text}");
    }
}
