use proptest::prelude::*;

use super::*;

#[track_caller]
fn check(text: &str, nanos: i64, canonical: &str) {
    assert_eq!(Duration::new(text).nanos(), Ok(nanos), "{text}");
    assert_eq!(Duration::from_nanos(nanos).as_str(), canonical);
}

#[test]
fn go_syntax_is_read_and_written() {
    check("300ms", 300_000_000, "300ms");
    check("60s", 60_000_000_000, "1m0s");
    check("1h30m", 5_400_000_000_000, "1h30m0s");
    check("-1s", -1_000_000_000, "-1s");
    check("+1.5s", 1_500_000_000, "1.5s");
    check("0", 0, "0s");
    check("-0", 0, "0s");
    check("0s", 0, "0s");
    check("1.s", 1_000_000_000, "1s");
    check(".5ms", 500_000, "500µs");
    check("1us2ns", 1_002, "1.002µs");
    check("1µs", 1_000, "1µs");
    check("30m0.001s", 1_800_001_000_000, "30m0.001s");
    check("2562047h47m16.854775807s", i64::MAX, "2562047h47m16.854775807s");
    check("-2562047h47m16.854775808s", i64::MIN, "-2562047h47m16.854775808s");
    check("0.0000000000000000001h", 0, "0s");
}

#[test]
fn other_texts_are_refused_with_a_reason() {
    for text in ["", "-", "s", ".s", " 1s", "1s ", "1,5s", "banana", "--1s"] {
        assert!(Duration::new(text).nanos().is_err(), "{text:?}");
    }
    assert_eq!(
        Duration::new("30").nanos(),
        Err(InvalidDuration::MissingUnit("30".into()))
    );
    assert_eq!(
        Duration::new("1d").nanos(),
        Err(InvalidDuration::UnknownUnit {
            text: "1d".into(),
            unit: "d".into()
        })
    );
    for text in ["2562048h", "9223372036854775808ns", "99999999999999999999999ns"] {
        assert_eq!(
            Duration::new(text).nanos(),
            Err(InvalidDuration::OutOfRange(text.into()))
        );
    }
}

#[test]
fn negative_durations_have_no_std_form() {
    assert_eq!(
        Duration::new("-1s").to_std(),
        Err(InvalidDuration::Negative("-1s".into()))
    );
}

#[test]
fn the_written_text_survives_a_round_trip() {
    for text in ["60s", "banana", ""] {
        let json = serde_json::to_string(text).unwrap();
        let read: Duration = serde_json::from_str(&json).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), json);
    }
}

proptest! {
    #[test]
    fn canonical_text_reads_back_as_the_same_value(nanos: i64) {
        prop_assert_eq!(Duration::from_nanos(nanos).nanos(), Ok(nanos));
    }

    #[test]
    fn any_text_is_handled(text: String) {
        let _ = Duration::new(text).nanos();
    }

    #[test]
    fn near_misses_are_handled(text in "[-+]?[0-9.]{0,30}(ns|us|µs|ms|s|m|h|d)?[0-9.]{0,4}") {
        let _ = Duration::new(text).nanos();
    }
}
