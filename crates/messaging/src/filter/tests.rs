//! Filters as tables: what they match, how they print, what is said of wrong ones.

use proptest::prelude::*;

use super::*;

fn order() -> Context {
    let mut context = Context::default();
    context.set("BTS.ReceivePortName", "orders");
    context.set("FILE.ReceivedFileName", "o'1\".xml");
    context.set("Baton.BodyBytes", 5);
    context.0.insert("Test".into(), Value::Boolean(true));
    context
}

#[test]
fn what_matches() {
    for (text, wanted) in [
        ("true", true),
        ("false", false),
        ("!false", true),
        ("BTS.ReceivePortName == \"orders\"", true),
        ("BTS.ReceivePortName == 'orders'", true),
        ("'orders' == BTS.ReceivePortName", true),
        ("BTS.ReceivePortName == \"ORDERS\"", false),
        ("BTS.ReceivePortName != \"invoices\"", true),
        ("BTS.ReceivePortName!=\"orders\"", false),
        ("FILE.ReceivedFileName == 'o\\'1\".xml'", true),
        ("Baton.BodyBytes == 5", true),
        ("Baton.BodyBytes == -5", false),
        ("Baton.BodyBytes == \"5\"", false),
        ("Baton.BodyBytes != \"5\"", true),
        ("Test == true", true),
        ("Test == false", false),
        ("has(Test)", true),
        ("exists ( Test )", true),
        ("has(Nothing)", false),
        ("!has(Nothing)", true),
        ("has(Test) && Baton.BodyBytes == 5", true),
        ("false && true || true", true),
        ("false && (true || true)", false),
        ("true || false && false", true),
        ("!(Test == true)", false),
        ("has == 'x' || true", true),
    ] {
        let filter = Filter::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(filter.matches(&order()), wanted, "{text}");
    }
}

#[test]
fn a_missing_property_matches_no_comparison() {
    for (text, wanted) in [
        ("A == 'x'", false),
        ("A != 'x'", false),
        ("!(A == 'x')", false),
        ("!(A != 'x')", false),
        ("A == 'x' || true", true),
        ("true || A == 'x'", true),
        ("A == 'x' && true", false),
        ("!(A == 'x' && false)", true),
        ("!has(A) || A != 'x'", true),
    ] {
        let filter = Filter::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(filter.matches(&Context::default()), wanted, "{text}");
    }
}

#[test]
fn the_canonical_form() {
    for (text, canonical) in [
        (" true ", "true"),
        ("(((true)))", "true"),
        ("'x'==A.B", "A.B == \"x\""),
        ("exists(A)", "has(A)"),
        ("!(has(A))", "!has(A)"),
        ("! ! true", "!!true"),
        ("!(A=='x')", "!(A == \"x\")"),
        ("a==1&&(b==2&&c==3)", "a == 1 && b == 2 && c == 3"),
        ("a==1&&(b==2||c==3)", "a == 1 && (b == 2 || c == 3)"),
        ("(a==1&&b==2)||c==3", "a == 1 && b == 2 || c == 3"),
        ("!(a==1||b==2)", "!(a == 1 || b == 2)"),
        ("A == '\\x41\\u00e4\\t\\x01\\U0001F600'", "A == \"Aä\\t\\u0001😀\""),
        ("A == -9223372036854775808", "A == -9223372036854775808"),
    ] {
        let filter = Filter::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(filter.to_string(), canonical, "{text}");
        assert_eq!(Filter::parse(canonical).as_ref(), Ok(&filter), "{canonical}");
    }
}

#[test]
fn what_is_said_of_wrong_ones() {
    for (text, at, what, help) in [
        ("", 0, "empty", "`true`"),
        ("  ", 2, "empty", "`true`"),
        ("A", 0, "compared with nothing", "has(A)"),
        ("A = 'x'", 2, "`=`", "`==`"),
        ("A < 5", 2, "not known", "`!=`"),
        ("A == B", 0, "two properties", "\"B\""),
        ("'a' == 'b'", 0, "two values", "without quotes"),
        ("A == 'x", 5, "does not end", "close it with '"),
        ("A == 'x\ny'", 7, "a line ends", "\\n"),
        ("A == '\\q'", 6, "escape", "\\\\"),
        ("A == '\\ud800'", 6, "escape", "\\\\"),
        ("A == '\\x4", 6, "escape", "\\\\"),
        ("A == 1.5", 5, "1.5 is not a whole number", "42"),
        ("A == 0x10", 5, "0x10 is not a whole number", "42"),
        ("A == 9223372036854775808", 5, "not a whole number", "42"),
        ("A == -", 5, "not a whole number", "42"),
        ("A == ", 5, "ends too early", "property"),
        ("A == 'x' &&", 11, "ends too early", "property"),
        ("A == 'x' AND true", 9, "joined", "`&&`"),
        ("A == 'x' | true", 9, "joined", "`||`"),
        ("A == 1 == 2", 7, "comparison is compared", "`&&`"),
        ("true true", 5, "ends before this", "`||`"),
        ("(true", 0, "not closed", "`)`"),
        ("true)", 4, "closes nothing", "take it out"),
        ("has('A')", 4, "presence of a value", "without quotes"),
        ("has(A", 0, "not closed", "`)`"),
        ("A..B == 1", 0, "no property name", "single dots"),
        ("A.1 == 1", 0, "no property name", "single dots"),
        ("ä == 1", 0, "'ä' does not fit", "quotes"),
        ("5", 0, "a value alone", "compare"),
    ] {
        let error = Filter::parse(text).expect_err(text);
        assert_eq!(error.at, at, "{text}: {error}");
        assert!(error.what.contains(what), "{text}: {error}");
        assert!(error.help.contains(help), "{text}: {error}");
    }
}

#[test]
fn depth_and_length_have_limits() {
    let nested = |depth| format!("{}true{}", "(".repeat(depth), ")".repeat(depth));
    assert!(Filter::parse(&nested(DEPTH_MAX)).is_ok());
    assert_eq!(Filter::parse(&nested(DEPTH_MAX + 1)).expect_err("too deep").at, DEPTH_MAX);
    assert!(Filter::parse(&format!("{}true", "!".repeat(DEPTH_MAX + 1))).is_err());
    let siblings = vec!["!(true)"; 500].join(" && ");
    assert!(Filter::parse(&siblings).is_ok(), "depth is not length");
    assert!(Filter::parse(&" ".repeat(SOURCE_BYTES_MAX + 1)).is_err());
}

fn predicates() -> impl Strategy<Value = Predicate> {
    let name = "[A-Za-z_][A-Za-z0-9_]{0,4}(\\.[A-Za-z_]{1,4}){0,2}"
        .prop_filter("reserved", |name| !matches!(name.as_str(), "true" | "false"));
    let value = prop_oneof![
        any::<bool>().prop_map(Value::Boolean),
        any::<i64>().prop_map(Value::Integer),
        any::<String>().prop_map(Value::Text),
    ];
    let leaf = prop_oneof![
        any::<bool>().prop_map(Predicate::Constant),
        name.clone().prop_map(Predicate::Has),
        (name.clone(), value.clone()).prop_map(|(name, value)| Predicate::Equal(name, value)),
        (name, value).prop_map(|(name, value)| Predicate::NotEqual(name, value)),
    ];
    leaf.prop_recursive(5, 24, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|inner| Predicate::Not(Box::new(inner))),
            prop::collection::vec(inner.clone(), 2..4).prop_map(Predicate::all),
            prop::collection::vec(inner, 2..4).prop_map(Predicate::any),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_printed_parses_to_the_same(root in predicates()) {
        let filter = Filter { root };
        let text = filter.to_string();
        prop_assume!(text.len() <= SOURCE_BYTES_MAX);
        prop_assert_eq!(Filter::parse(&text), Ok(filter), "{}", text);
    }

    #[test]
    fn no_text_panics(text in any::<String>()) {
        let _ = Filter::parse(&text);
    }

    #[test]
    fn no_text_of_its_own_letters_panics(text in "[a-c.'\"()!=&|\\\\xuU0-9 ä\n-]{0,60}") {
        if let Err(error) = Filter::parse(&text) {
            prop_assert!(text.is_char_boundary(error.at), "{}", error);
        }
    }
}
