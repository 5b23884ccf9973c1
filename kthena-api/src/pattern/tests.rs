use proptest::prelude::*;

use super::*;

#[track_caller]
fn matches(pattern: &str, yes: &[&str], no: &[&str]) {
    let regex = compile(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
    for text in yes {
        assert!(regex.is_match(text), "{pattern} matches {text:?}");
    }
    for text in no {
        assert!(!regex.is_match(text), "{pattern} does not match {text:?}");
    }
}

#[test]
fn the_search_is_unanchored() {
    matches("pro", ["pro", "a prompt"].as_slice(), &["PRO"]);
    matches("^pro$", &["pro"], &["a pro", "pro\n"]);
    matches("", &["", "x"], &[]);
}

#[test]
fn perl_classes_are_ascii() {
    matches(r"^\d+$", &["42"], &["٤٢"]);
    matches(r"^\w+$", &["a_1"], &["ü"]);
    matches(r"^\W$", &["ü"], &["u"]);
    matches(r"^\s$", &["\t", "\u{c}"], &["\u{b}", "\u{a0}"]);
    matches(r"^[\d.]+$", &["1.5"], &["١"]);
    matches(r"^[\D]$", &["x"], &["1"]);
    matches(r"^[^\D]$", &["1"], &["x"]);
    matches(r"\bü", &["aü"], &["ü"]);
    matches(r"a\Bb", &["ab"], &[]);
}

#[test]
fn literal_text_and_escapes() {
    matches(r"^\Qa.b*\E+$", &["a.b**"], &["a.b", "axb*"]);
    matches(r"\Q[", &["["], &["Q"]);
    matches(r"^\101\x42\x{43}\0$", &["ABC\0"], &[]);
    matches(r"^\<\>\-\_\ $", &["<>-_ "], &[]);
    matches(r"^\p{^Greek}\pL\P{Lu}$", &["aaa"], &["αaa", "aaA"]);
    matches("^gpt-4#x &&~$", &["gpt-4#x &&~"], &[]);
}

#[test]
fn brackets_hold_characters_not_sets() {
    matches("^[a&&b]+$", &["a&b"], &["c"]);
    matches("^[[a]$", &["[", "a"], &["b"]);
    matches("^[]a]+$", &["]a"], &["b"]);
    matches("^[^]a]$", &["b"], &["]", "a"]);
    matches("^[+--]$", &[",", "-", "+"], &["."]);
    matches("^[a-]$", &["a", "-"], &["b"]);
    matches("^[[:alpha:][:^alpha:]]$", &["a", "1"], &[]);
    matches("^[[:alpha]$", &["[", ":", "a"], &["b"]);
    matches(r"^[\]\-\\]$", &["]", "-", "\\"], &["a"]);
}

#[test]
fn braces_are_counts_only_where_they_are_well_formed() {
    matches("^a{2,3}$", &["aa", "aaa"], &["a", "aaaa"]);
    matches("^a{,2}$", &["a{,2}"], &["aa"]);
    matches("^a{x$", &["a{x"], &[]);
    matches("^a{02}$", &["a{02}"], &["aa"]);
    matches("^{$", &["{"], &[]);
}

#[test]
fn groups_and_flags() {
    matches("^(?P<name>a)(?<other>b)(?:c)(?i)D(?)$", &["abcd"], &["Abcd"]);
    matches("^(?i:A)b$", &["ab"], &["aB"]);
    matches("^(?s-i:.)$", &["\n"], &[]);
    matches("^a(?i)+b$", &["ab", "aaB"], &["b", "Ab"]);
}

#[test]
fn what_go_refuses_is_refused() {
    for pattern in [
        "(?=a)",
        "(?!a)",
        "(?<=a)",
        "(?<!a)",
        r"(a)\1",
        r"\8",
        "(",
        ")",
        "a)",
        "[",
        "[a",
        "[z-a]",
        "[a--]",
        "a**",
        "a+*",
        "a???",
        "*",
        "|*",
        "(*)",
        "a{1001}",
        "a{3,2}",
        "a{2000000000000}",
        r"\",
        r"\C",
        r"\Z",
        r"\E",
        r"[\b]",
        r"[a-\d]",
        "(?x)a",
        "(?u)a",
        "(?-)a",
        "(?P<a>b)(?P<a>c)",
        "(?P<>b)",
        "(?P=a)",
        "(?P<a",
        "(?i",
        r"\xZZ",
        r"\x{110000}",
        r"\p{Nonsense}",
        r"\pé",
        r"\p",
        r"\x{",
        "[[:nonsense:]]",
        r"\y",
    ] {
        assert!(compile(pattern).is_err(), "{pattern}");
    }
}

#[test]
fn a_refusal_says_what_is_wrong() {
    assert_eq!(
        compile("a**").unwrap_err().to_string(),
        "invalid nested repetition operator: *"
    );
    assert_eq!(compile("(a").unwrap_err().to_string(), "unclosed group");
    assert_eq!(
        compile(r"(\pL{1000}){1000}").unwrap_err(),
        InvalidPattern::TooLarge
    );
}

#[test]
fn the_first_condition_that_is_set_counts() {
    let condition = |exact: Option<&str>, prefix: Option<&str>, regex: Option<&str>| StringMatch {
        exact: exact.map(str::to_owned),
        prefix: prefix.map(str::to_owned),
        regex: regex.map(str::to_owned),
    };
    let check = |condition: StringMatch, text: &str| condition.matcher().unwrap().matches(text);
    assert!(
        check(condition(None, None, None), ""),
        "nothing asked, anything matches"
    );
    assert!(check(condition(Some("a"), Some("b"), Some("c")), "a"));
    assert!(!check(condition(Some("a"), Some("b"), Some("c")), "b"));
    assert!(check(condition(None, Some("b"), Some("c")), "bc"));
    assert!(!check(condition(None, Some("b"), Some("c")), "c"));
    assert!(
        check(condition(Some(""), None, None), ""),
        "a missing header is an empty text"
    );
    assert!(!check(condition(Some(""), None, None), "a"));
    assert!(
        condition(Some("a"), None, Some("(")).matcher().is_ok(),
        "the broken expression is never asked"
    );
    assert!(condition(None, None, Some("(")).matcher().is_err());
}

proptest! {
    #[test]
    fn any_text_is_handled(pattern: String) {
        let _ = compile(&pattern);
    }

    #[test]
    fn text_made_of_syntax_is_handled(pattern in r"([\[\](){}*+?|^$\\.a1,:<>PpQEdxi-]|\\[QEdwsbBpPx0-9]){0,12}") {
        let _ = compile(&pattern);
    }

    #[test]
    fn quoted_text_matches_itself(text: String) {
        prop_assume!(!text.contains(r"\E"));
        let regex = compile(&format!(r"^\Q{text}\E$")).expect("quoted text is an expression");
        prop_assert!(regex.is_match(&text));
    }
}
