use super::*;

const CHAT: Subject<'_> = Subject {
    path: "/v1/chat/completions",
    phase: Phase::Decode,
    model: Some("m"),
};

fn hits(rule: Rule, requests: usize) -> Vec<bool> {
    let faults = Faults::default();
    faults.add(rule);
    (0..requests).map(|_| !faults.strike(&CHAT).is_empty()).collect()
}

#[test]
fn a_rule_hits_only_what_it_names() {
    let rule = || Rule::new(Fault::Hang);
    for (rule, hit) in [
        (rule(), true),
        (rule().path("/v1/chat/completions"), true),
        (rule().path("/v1/*"), true),
        (rule().path("/v1/completions"), false),
        (rule().phase(Phase::Decode).model("m"), true),
        (rule().phase(Phase::Prefill), false),
        (rule().model("other"), false),
    ] {
        assert_eq!(hits(rule.clone(), 1), [hit], "{rule:?}");
    }
}

#[test]
fn skip_and_times_count_requests() {
    assert_eq!(
        hits(Rule::new(Fault::Hang).skip(1).times(2), 5),
        [false, true, true, false, false]
    );
}

#[test]
fn refusal_is_for_connections_and_not_for_requests() {
    let faults = Faults::default();
    faults.add(Rule::new(Fault::Refuse).times(1));
    assert!(faults.strike(&CHAT).is_empty());
    assert!(faults.refuses() && !faults.refuses());
    assert_eq!(faults.hits(), 1);
}

#[test]
fn rules_are_written_as_json() {
    let json = r#"{"fault":{"type":"delay","by":"200ms"},"path":"/v1/*","times":1}"#;
    let rule: Rule = serde_json::from_str(json).unwrap();
    assert_eq!(
        rule,
        Rule::new(Fault::Delay {
            by: Duration::from_millis(200)
        })
        .path("/v1/*")
        .times(1)
    );
    let plain: Rule = serde_json::from_str(r#"{"fault":{"type":"reset_before_head"}}"#).unwrap();
    assert_eq!(plain, Rule::new(Fault::ResetBeforeHead));
    assert!(serde_json::from_str::<Rule>(r#"{"fault":{"type":"nonsense"}}"#).is_err());
}
