use proptest::prelude::*;

use super::*;

fn through(stream: &[u8], pieces: impl Iterator<Item = usize>) -> (Vec<u8>, bool) {
    let mut hide = HideUsage::default();
    let (mut out, mut at, mut only_whole_events) = (Vec::new(), 0, true);
    for size in pieces {
        let end = (at + size).min(stream.len());
        let part = hide.push(Bytes::copy_from_slice(&stream[at..end]));
        only_whole_events &= part.is_empty() || last_event_end(&part) == part.len() || part.ends_with(b"\r");
        out.extend_from_slice(&part);
        at = end;
    }
    out.extend_from_slice(&hide.push(Bytes::copy_from_slice(&stream[at..])));
    out.extend_from_slice(&hide.finish());
    (out, only_whole_events)
}

fn check(stream: &str, expected: &str) {
    for size in 1..=stream.len() {
        let (out, _) = through(stream.as_bytes(), std::iter::repeat_n(size, stream.len() / size));
        assert_eq!(String::from_utf8(out).unwrap(), expected, "pieces of {size}");
    }
}

const USAGE: &str =
    "data: {\"id\":\"x\",\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}\n\n";

#[test]
fn the_usage_event_goes_and_all_others_stay() {
    let (a, b, done) = (
        "data: {\"choices\":[{\"text\":\"a\"}]}\n\n",
        ": ping\n\n",
        "data: [DONE]\n\n",
    );
    check(&format!("{a}{b}{USAGE}{done}"), &format!("{a}{b}{done}"));
    check(&format!("{USAGE}{a}"), a);
    check(USAGE, "");
    check(
        "data: {\"usage\":{\"prompt_tokens\":3}}\n\ndata: [DONE]\n\n",
        "data: [DONE]\n\n",
    );
}

#[test]
fn other_line_ends_are_events_too() {
    let crlf = |s: &str| s.replace('\n', "\r\n");
    let stream = format!(
        "{}{}{}",
        crlf("data: a\n\n"),
        crlf(USAGE),
        crlf("data: [DONE]\n\n")
    );
    check(&stream, &crlf("data: a\n\ndata: [DONE]\n\n"));
}

#[test]
fn an_event_without_choices_that_is_no_usage_stays() {
    for event in [
        "data: {\"choices\":[],\"usage\":null}\n\n",
        "data: {\"choices\":[],\"error\":{\"message\":\"x\"}}\n\n",
        "data: {\"choices\":[],\"prompt_filter_results\":[]}\n\n",
        "data: {\"choices\":[{\"delta\":{\"content\":\"\\\"choices\\\":[]\"}}],\"usage\":{\"prompt_tokens\":1}}\n\n",
        "event: x\ndata: {\"choices\":[],\"usage\":{}}\n\n",
        "data: \"choices\":[] not json\n\n",
    ] {
        check(event, event);
    }
}

#[test]
fn an_unfinished_event_at_the_end_passes() {
    check("data: a\n\ndata: {\"choi", "data: a\n\ndata: {\"choi");
}

#[test]
fn an_endless_event_does_not_wait_forever() {
    let long = format!("data: {}", "x".repeat(3 * LONGEST));
    let mut hide = HideUsage::default();
    let first = hide.push(Bytes::from(long.clone()));
    assert_eq!(first.len(), long.len());
    assert_eq!(hide.push(Bytes::from_static(b"y")), "y");
    assert_eq!(
        hide.push(Bytes::from(format!("z\n\n{USAGE}data: a\n\n"))),
        "z\n\ndata: a\n\n"
    );
}

proptest! {
    #[test]
    fn splits_never_matter(
        events in prop::collection::vec(
            prop_oneof![Just(USAGE.to_owned()), "data: [a-z]{0,9}\n\n", "event: [a-z]{1,3}\ndata: b\n\n", ": c\n\n", "id: 1\n\n"],
            0..8,
        ),
        end in prop_oneof![Just("\n"), Just("\r\n")],
        sizes in prop::collection::vec(1..40_usize, 0..40),
    ) {
        let stream = events.concat().replace('\n', end);
        let expected = events.iter().filter(|e| *e != USAGE).cloned().collect::<String>().replace('\n', end);
        let (out, whole) = through(stream.as_bytes(), sizes.into_iter());
        prop_assert_eq!(String::from_utf8(out).unwrap(), expected);
        prop_assert!(whole, "an event was cut");
    }
}
