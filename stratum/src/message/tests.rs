use proptest::prelude::*;

use super::*;

fn call(line: &str) -> Call<'_> {
    match Incoming::parse(line.as_bytes()) {
        Ok(Incoming::Request(request)) => request.call,
        other => panic!("{line}: {other:?}"),
    }
}

fn error(line: &[u8]) -> (String, ParseErrorKind) {
    let error = Incoming::parse(line).unwrap_err();
    (error.id.as_json().to_owned(), error.kind)
}

#[test]
fn submit_reads_into_numbers() {
    let line = r#"{"params":["a.b","1f","0011223344556677","6553f100","0000002a","1fffe000"],"id":4,"method":"mining.submit"}"#;
    assert!(plain_submit(line.as_bytes()).is_some(), "the fast path takes it");
    let Call::Submit(submit) = call(line) else { panic!() };
    assert_eq!(
        submit,
        Submit {
            user: Cow::Borrowed("a.b"),
            job: JobId(0x1f),
            nonce2: Nonce2::new(&[0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77]).unwrap(),
            ntime: 0x6553_f100,
            nonce: 42,
            version_bits: Some(0x1fff_e000),
        }
    );
    assert!(matches!(submit.user, Cow::Borrowed(_)));
}

#[test]
fn ids_of_any_type_are_echoed_exactly() {
    for id in
        ["0", "-1", "1.50", "1e3", "\"x\"", "\"\\u0041\"", "null", "true", "[1, 2]", "{\"a\": 1}"]
    {
        for method in ["mining.ping", "mining.submit", "nonsense"] {
            let line = format!(
                "{{\"id\": {id} , \"method\": \"{method}\", \"params\": [\"u\",\"1\",\"00\",\"1\",\"2\"]}}"
            );
            let Ok(Incoming::Request(request)) = Incoming::parse(line.as_bytes()) else {
                panic!("{line}")
            };
            assert_eq!(request.id.as_json(), id);
            assert_eq!(IdBuf::from(request.id).as_id().as_json(), id);
        }
    }
    let Ok(Incoming::Request(request)) = Incoming::parse(br#"{"method":"mining.ping"}"#) else {
        panic!()
    };
    assert!(request.id.is_null());
}

#[test]
fn endless_id_is_not_kept() {
    let line = format!("{{\"id\":\"{}\",\"method\":\"mining.ping\"}}", "x".repeat(600));
    assert_eq!(error(line.as_bytes()), ("null".to_owned(), ParseErrorKind::NotRequest));
}

#[test]
fn bad_lines_have_their_kind_and_id() {
    use ParseErrorKind::{ForeignJob, NotJson, NotRequest, Params};
    let deep = format!("{{\"id\":1,\"method\":\"mining.ping\",\"params\":{}", "[".repeat(16_000));
    let closed = format!("{deep}{}}}", "]".repeat(16_000));
    for (line, id, kind) in [
        ("", "null", NotJson),
        ("hello", "null", NotJson),
        ("[1,\"mining.ping\",[]]", "null", NotJson),
        ("{\"id\":1", "null", NotJson),
        ("{\"id\":1,\"method\":\"mining.ping\"} x", "null", NotJson),
        ("{\"id\":1,\"id\":2,\"method\":\"mining.ping\"}", "null", NotJson),
        (&deep, "null", NotJson),
        ("{}", "null", NotRequest),
        ("{\"id\":7}", "7", NotRequest),
        ("{\"id\":7,\"method\":5}", "7", NotRequest),
        ("{\"id\":7,\"method\":\"mining.authorize\",\"params\":[]}", "7", Params),
        ("{\"id\":7,\"method\":\"mining.authorize\",\"params\":[5,\"x\"]}", "7", Params),
        ("{\"id\":7,\"method\":\"mining.authorize\",\"params\":{\"user\":1}}", "7", Params),
        (
            "{\"id\":7,\"method\":\"mining.configure\",\"params\":[\"version-rolling\"]}",
            "7",
            Params,
        ),
        ("{\"id\":7,\"method\":\"mining.suggest_difficulty\",\"params\":[0]}", "7", Params),
        ("{\"id\":7,\"method\":\"mining.suggest_difficulty\",\"params\":[-1]}", "7", Params),
        ("{\"id\":7,\"method\":\"mining.suggest_difficulty\",\"params\":[1e999]}", "7", Params),
        ("{\"id\":7,\"method\":\"mining.suggest_difficulty\",\"params\":[\"x\"]}", "7", Params),
        ("{\"id\":7,\"method\":\"mining.suggest_target\",\"params\":[\"0\"]}", "7", Params),
        (
            "{\"id\":7,\"method\":\"mining.submit\",\"params\":[\"u\",\"1\",\"00\",\"1\"]}",
            "7",
            Params,
        ),
        (
            "{\"id\":7,\"method\":\"mining.submit\",\"params\":[\"u\",\"1\",\"0\",\"1\",\"2\"]}",
            "7",
            Params,
        ),
        (
            "{\"id\":7,\"method\":\"mining.submit\",\"params\":[\"u\",\"1\",\"00\",\"zz\",\"2\"]}",
            "7",
            Params,
        ),
        (
            "{\"id\":7,\"method\":\"mining.submit\",\"params\":[\"u\",\"1\",\"00\",\"1\",\"100000000\"]}",
            "7",
            Params,
        ),
        (
            "{\"id\":7,\"method\":\"mining.submit\",\"params\":[\"u\",1,\"00\",\"1\",\"2\"]}",
            "7",
            Params,
        ),
        (
            "{\"id\":7,\"method\":\"mining.submit\",\"params\":[\"u\",\"17000:1\",\"00\",\"1\",\"2\"]}",
            "7",
            ForeignJob,
        ),
        ("{\"id\":7,\"method\":\"mining.submit\"}", "7", Params),
    ] {
        assert_eq!(error(line.as_bytes()), (id.to_owned(), kind), "{:.80}", line);
    }
    assert_eq!(error(b"{\"id\":1,\"method\":\"\xff\"}").1, NotJson);
    // Deep nesting costs nothing even where nobody looks into it.
    assert!(matches!(
        Incoming::parse(closed.as_bytes()),
        Ok(Incoming::Request(_)) | Err(ParseError { kind: NotJson, .. })
    ));
}

#[test]
fn every_method_of_the_pool_is_known() {
    let long = "f".repeat(64);
    for (method, params, expected) in [
        ("mining.subscribe", "[]".to_owned(), Call::Subscribe { agent: "".into(), sid: None }),
        (
            "mining.subscribe",
            "[\"a\", null, \"host\", 3333]".to_owned(),
            Call::Subscribe { agent: "a".into(), sid: None },
        ),
        (
            "mining.subscribe",
            "[\"a\", \"s\"]".to_owned(),
            Call::Subscribe { agent: "a".into(), sid: Some("s".into()) },
        ),
        (
            "mining.subscribe",
            "[\"a\", 5]".to_owned(),
            Call::Subscribe { agent: "a".into(), sid: None },
        ),
        (
            "mining.authorize",
            "[\"u\"]".to_owned(),
            Call::Authorize { user: "u".into(), password: "".into() },
        ),
        ("mining.extranonce.subscribe", "[]".to_owned(), Call::ExtranonceSubscribe),
        (
            "mining.suggest_difficulty",
            "[0.5]".to_owned(),
            Call::SuggestDifficulty(Difficulty::new(0.5).unwrap()),
        ),
        (
            "mining.suggest_difficulty",
            "[\"512\"]".to_owned(),
            Call::SuggestDifficulty(Difficulty::new(512.0).unwrap()),
        ),
        ("mining.suggest_target", format!("[\"{long}\"]"), Call::SuggestTarget(Target::MAX)),
        ("mining.get_transactions", "[\"AB\"]".to_owned(), Call::GetTransactions(JobId(0xab))),
        ("mining.ping", "[]".to_owned(), Call::Ping),
        ("pong", "[]".to_owned(), Call::Pong),
        ("mining.multi_version", "[1]".to_owned(), Call::MultiVersion),
        (
            "mining.authorize_admin",
            "[\"p\"]".to_owned(),
            Call::AuthorizeAdmin { password: "p".into() },
        ),
        (
            "mining.add_user",
            "[\"u\", \"p\"]".to_owned(),
            Call::AddUser { user: "u".into(), password: "p".into() },
        ),
        ("mining.fancy", "{}".to_owned(), Call::Unknown { method: "mining.fancy".into() }),
    ] {
        let line = format!("{{\"id\":1,\"method\":\"{method}\",\"params\":{params}}}");
        assert_eq!(call(&line), expected);
    }
}

#[test]
fn answers_to_our_own_requests_are_no_requests() {
    let parse = |line: &'static str| Incoming::parse(line.as_bytes());
    assert_eq!(
        parse(r#"{"id": 9, "result": "cpuminer/2.5.1", "error": null}"#),
        Ok(Incoming::Response(Response {
            id: Id::from_json("9").unwrap(),
            result: Some("\"cpuminer/2.5.1\""),
            error: None,
        }))
    );
    assert!(matches!(
        parse(r#"{"id": 9, "result": null, "error": [20, "no", null]}"#),
        Ok(Incoming::Response(Response { error: Some(_), .. }))
    ));
}

/// Text that is likely to be nearly a request.
fn nearly_json() -> impl Strategy<Value = String> {
    let token = prop_oneof![
        Just("{"),
        Just("}"),
        Just("["),
        Just("]"),
        Just(","),
        Just(":"),
        Just("\""),
        Just("\\"),
        Just("\"id\""),
        Just("\"method\""),
        Just("\"params\""),
        Just("\"result\""),
        Just("\"error\""),
        Just("\"mining.submit\""),
        Just("\"mining.configure\""),
        Just("\"version-rolling\""),
        Just("1"),
        Just("-"),
        Just("0"),
        Just(".5"),
        Just("1e400"),
        Just("null"),
        Just("true"),
        Just(" "),
        Just("\"00\""),
        Just("\"u\""),
        Just("\u{0}"),
        Just("é"),
        Just("\\u0000"),
        Just("\\ud800"),
    ];
    proptest::collection::vec(token, 0..40).prop_map(|tokens| tokens.concat())
}

/// A well-formed submit, whose parts may be wrong.
fn submit_line() -> impl Strategy<Value = String> {
    let param = prop_oneof![
        4 => "\"[0-9a-fA-F]{0,17}\"",
        1 => "\"(0x)?[0-9a-z.:]{0,10}\"",
        1 => Just("null".to_owned()),
        1 => Just("5".to_owned()),
        1 => Just("\"\\u0030\"".to_owned()),
    ];
    let id = prop_oneof![
        Just("4".to_owned()),
        Just("-0".to_owned()),
        Just("01".to_owned()),
        Just("1.5".to_owned()),
        Just("\"a\"".to_owned()),
        Just("null".to_owned()),
        Just("[]".to_owned()),
        Just("12345678901234567890123".to_owned()),
        Just("t".to_owned()),
    ];
    (proptest::collection::vec(param, 0..8), id, 0usize..6, "[ \t]{0,2}").prop_map(
        |(params, id, order, space)| {
            let mut parts = [
                format!("\"id\":{space}{id}"),
                "\"method\":\"mining.submit\"".to_owned(),
                format!("\"params\"{space}:[{}]", params.join(&format!(",{space}"))),
            ];
            parts.rotate_left(order % 3);
            if order >= 3 {
                parts.swap(0, 1);
            }
            format!("{space}{{{}}}{space}", parts.join(&format!("{space},")))
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn fast_and_thorough_parsing_agree(line in prop_oneof![submit_line(), nearly_json()]) {
        if plain_submit(line.as_bytes()).is_some() {
            prop_assert_eq!(Incoming::parse(line.as_bytes()), parse_any(line.as_bytes()));
        }
    }

    #[test]
    fn any_line_parses_or_fails_cleanly(line in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Incoming::parse(&line);
    }

    #[test]
    fn any_nearly_valid_line_parses_or_fails_cleanly(line in nearly_json()) {
        let _ = Incoming::parse(line.as_bytes());
    }

    #[test]
    fn what_parses_is_json(line in prop_oneof![submit_line(), nearly_json()]) {
        if Incoming::parse(line.as_bytes()).is_ok() {
            prop_assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok_and(|v| v.is_object())
                // Numbers beyond f64 are JSON by its grammar, but not to serde_json's values.
                || line.contains("1e400") || line.contains("\\ud800"));
        }
    }
}
