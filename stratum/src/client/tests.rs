use proptest::prelude::*;

use super::*;
use crate::job::Nonce2;
use crate::message::{Call, Incoming, Submit};
use crate::reject::Reject;
use crate::sid::{Extranonce1, Sid, SidKey};
use crate::write::{self, SubmitParams};

fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    assert_eq!(out.pop(), Some(b'\n'));
    assert!(!out.contains(&b'\n'), "one line each");
    out
}

fn id(json: &str) -> Id<'_> {
    Id::from_json(json).unwrap()
}

#[test]
fn server_lines_read_back_as_what_was_written() {
    let line = written(|out| write::result_bool(out, id("4"), true));
    assert_eq!(line, br#"{"id":4,"result":true,"error":null}"#);
    let FromServer::Answer(answer) = FromServer::parse(&line).unwrap() else { panic!() };
    assert!(answer.is_true());
    assert_eq!(answer.id.as_u64(), Some(4));

    let line = written(|out| write::reject(out, id("\"x\""), &Reject::HighHash));
    assert_eq!(line, br#"{"id":"x","result":null,"error":[23,"high-hash",null]}"#);
    let FromServer::Answer(answer) = FromServer::parse(&line).unwrap() else { panic!() };
    assert_eq!(answer.result, Err(RpcError { code: 23, message: "high-hash".into() }));

    let sid = Sid::mint(&SidKey([1; 32]), Extranonce1(0xab));
    let line = written(|out| write::subscribed(out, id("1"), &sid, 8));
    let FromServer::Answer(answer) = FromServer::parse(&line).unwrap() else { panic!() };
    assert_eq!(
        Subscribed::parse(answer.result.unwrap()),
        Ok(Subscribed {
            sid: Some(sid.to_string()),
            extranonce1: vec![0, 0, 0, 0xab],
            nonce2_len: 8
        })
    );

    let d = Difficulty::new(1e-9).unwrap();
    for (line, expected) in [
        (written(|out| write::set_difficulty(out, d)), FromServer::SetDifficulty(d)),
        (
            written(|out| write::set_version_mask(out, 0x1fff_e000)),
            FromServer::SetVersionMask(0x1fff_e000),
        ),
        (
            written(|out| write::set_extranonce(out, Extranonce1(1), 4)),
            FromServer::SetExtranonce { extranonce1: vec![0, 0, 0, 1], nonce2_len: 4 },
        ),
        (
            written(|out| write::reconnect(out, Some(("pool.example", 3333)), 2)),
            FromServer::Reconnect {
                host: Some("pool.example".into()),
                port: Some(3333),
                wait_secs: 2,
            },
        ),
        (
            written(|out| write::reconnect(out, None, 0)),
            FromServer::Reconnect { host: None, port: None, wait_secs: 0 },
        ),
        (
            written(|out| write::show_message(out, "a \"b\"\n")),
            FromServer::ShowMessage("a \"b\"\n".into()),
        ),
        (written(|out| write::get_version(out, 7)), FromServer::GetVersion(id("7"))),
        (written(|out| write::ping(out, 8)), FromServer::Ping(id("8"))),
    ] {
        assert_eq!(FromServer::parse(&line), Ok(expected), "{}", String::from_utf8_lossy(&line));
    }
}

#[test]
fn miner_lines_read_back_as_what_was_written() {
    let read = |line: &[u8]| match Incoming::parse(line).unwrap() {
        Incoming::Request(request) => format!("{:?} {:?}", request.id, request.call),
        Incoming::Response(response) => format!("{response:?}"),
    };
    for (line, expected) in [
        (
            written(|out| write::subscribe(out, 1, "me/1", Some("ab"))),
            "1 Subscribe { agent: \"me/1\", sid: Some(\"ab\") }",
        ),
        (
            written(|out| write::subscribe(out, 1, "me/1", None)),
            "1 Subscribe { agent: \"me/1\", sid: None }",
        ),
        (
            written(|out| write::authorize(out, 2, "u\"", "p\\")),
            "2 Authorize { user: \"u\\\"\", password: \"p\\\\\" }",
        ),
        (
            written(|out| write::suggest_difficulty(out, 3, Difficulty::ONE)),
            "3 SuggestDifficulty(1)",
        ),
        (written(|out| write::request(out, 4, "mining.ping", &[(); 0])), "4 Ping"),
    ] {
        assert_eq!(read(&line), expected);
    }
    let line = written(|out| write::configure(out, 5, 0x1fff_e000, 2));
    assert!(read(&line).contains("mask: 536862720, min_bit_count: 2"), "{}", read(&line));
}

#[test]
fn granted_mask_is_read_and_a_refusal_is_none() {
    let mask = |text| configured_mask(text);
    assert_eq!(
        mask(r#"{"version-rolling":true,"version-rolling.mask":"18000000"}"#),
        Some(0x1800_0000)
    );
    assert_eq!(mask(r#"{"version-rolling":false,"version-rolling.mask":"18000000"}"#), None);
    assert_eq!(mask(r#"{"version-rolling":"no"}"#), None);
    assert_eq!(mask("{}"), None);
}

#[test]
fn subscriptions_of_other_servers_are_understood() {
    let parse = |text| Subscribed::parse(text).map(|answer| answer.sid);
    // ckpool: one pair in the list; older servers: the pair itself; some: difficulty first.
    assert_eq!(parse(r#"[[["mining.notify","5e"]],"0a",8]"#), Ok(Some("5e".to_owned())));
    assert_eq!(parse(r#"[["mining.notify","5e"],"0a",4]"#), Ok(Some("5e".to_owned())));
    assert_eq!(
        parse(r#"[[["mining.set_difficulty","1"],["mining.notify","2"]],"0a",4]"#),
        Ok(Some("2".to_owned()))
    );
    assert_eq!(parse(r#"[null,"0a",4]"#), Ok(None));
    assert_eq!(parse(r#"[[],"0",4]"#), Err(NotStratum));
    assert_eq!(parse("true"), Err(NotStratum));
}

#[test]
fn errors_of_other_servers_are_understood() {
    let parse = |line: &'static str| match FromServer::parse(line.as_bytes()) {
        Ok(FromServer::Answer(answer)) => {
            answer.result.map_err(|e| (e.code, e.message.into_owned()))
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(
        parse(r#"{"id":1,"result":null,"error":{"code":21,"message":"Job not found"}}"#),
        Err((21, "Job not found".to_owned()))
    );
    assert_eq!(parse(r#"{"id":1,"result":false,"error":"nope"}"#), Err((0, "nope".to_owned())));
    assert_eq!(parse(r#"{"id":1,"result":false,"error":null}"#), Ok("false"));
    assert_eq!(parse(r#"{"id":1,"result":false,"error":[]}"#), Err((0, "[]".to_owned())));
}

proptest! {
    #[test]
    fn submit_reads_back_as_what_was_written(
        number: u64, user in ".{0,20}", job: u64, nonce2 in proptest::collection::vec(any::<u8>(), 0..=8),
        ntime: u32, nonce: u32, bits: Option<u32>,
    ) {
        let nonce2 = Nonce2::new(&nonce2).unwrap();
        let job = crate::job::JobId(job);
        let line = written(|out| write::submit(out, number, &SubmitParams {
            user: &user, job: &job.to_string(), nonce2, ntime, nonce, version_bits: bits,
        }));
        let Ok(Incoming::Request(request)) = Incoming::parse(&line) else { panic!() };
        prop_assert_eq!(request.id.as_u64(), Some(number));
        prop_assert_eq!(request.call, Call::Submit(Submit {
            user: user.into(), job, nonce2, ntime, nonce, version_bits: bits,
        }));
    }

    #[test]
    fn fast_and_thorough_parsing_of_answers_agree(
        id in "-?[0-9]{1,20}|\"[a-z]{0,3}\"|null|1\\.5",
        result in "true|false|null|7|\"x\"|\\[\\]",
        error in "null|\\[20,\"a\",null\\]|true",
    ) {
        let line = format!("{{\"id\": {id},\"error\":{error},\"result\":{result} }}");
        if let Some(answer) = plain_answer(line.as_bytes()) {
            prop_assert_eq!(Some(FromServer::Answer(answer)), parse_any(line.as_bytes()));
        } else {
            let _ = FromServer::parse(line.as_bytes());
        }
    }

    #[test]
    fn any_server_line_parses_or_fails_cleanly(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        method in "mining\\.(notify|set_difficulty|set_extranonce|set_version_mask)|client\\.(reconnect|show_message)",
        params in "[\\[\\]0-9a-f\",{}:. -]{0,60}",
    ) {
        let _ = FromServer::parse(&bytes);
        let _ = FromServer::parse(format!("{{\"method\":\"{method}\",\"params\":[{params}]}}").as_bytes());
        let _ = FromServer::parse(format!("{{\"method\":\"{method}\",\"params\":{params}}}").as_bytes());
        let _ = Subscribed::parse(&params);
        let _ = configured_mask(&params);
    }
}
