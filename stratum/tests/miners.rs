//! Lines as real miners send them, family by family, from the message order of their sources.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use seam_stratum::{Call, Difficulty, Incoming, JobId, Nonce2, Submit};

fn calls(lines: &[&'static str]) -> Vec<Call<'static>> {
    lines
        .iter()
        .map(|line| match Incoming::parse(line.as_bytes()) {
            Ok(Incoming::Request(request)) => request.call,
            other => panic!("{line}: {other:?}"),
        })
        .collect()
}

fn subscribe(agent: &'static str) -> Call<'static> {
    Call::Subscribe { agent: agent.into(), sid: None }
}

fn authorize(user: &'static str, password: &'static str) -> Call<'static> {
    Call::Authorize { user: user.into(), password: password.into() }
}

fn submit(nonce2: &str, version_bits: Option<u32>) -> Call<'static> {
    Call::Submit(Submit {
        user: "alice.rig".into(),
        job: JobId(0x300_0009),
        nonce2: Nonce2::parse(nonce2).unwrap(),
        ntime: 0x6553_f100,
        nonce: 0x0a0b_0c0d,
        version_bits,
    })
}

/// What a `mining.configure` asks for: mask and minimum bit count.
fn rolling(call: &Call<'_>) -> (u32, u8) {
    let Call::Configure(request) = call else { panic!("{call:?}") };
    let rolling = request.version_rolling.unwrap();
    (rolling.mask, rolling.min_bit_count)
}

#[test]
fn cgminer_subscribes_resumes_and_submits() {
    let calls = calls(&[
        r#"{"id": 0, "method": "mining.subscribe", "params": ["cgminer/4.11.1"]}"#,
        r#"{"id": 1, "method": "mining.subscribe", "params": ["cgminer/4.11.1", "000000075f0e1d2c3b4a5968"]}"#,
        r#"{"id": 2, "method": "mining.authorize", "params": ["alice.rig", "x"]}"#,
        r#"{"id": 3, "method": "mining.extranonce.subscribe", "params": []}"#,
        r#"{"params": ["alice.rig", "3000009", "0000000000000001", "6553f100", "0a0b0c0d"], "id": 5, "method": "mining.submit"}"#,
    ]);
    assert_eq!(calls[0], subscribe("cgminer/4.11.1"));
    assert_eq!(
        calls[1],
        Call::Subscribe {
            agent: "cgminer/4.11.1".into(),
            sid: Some("000000075f0e1d2c3b4a5968".into())
        }
    );
    assert_eq!(calls[2], authorize("alice.rig", "x"));
    assert_eq!(calls[3], Call::ExtranonceSubscribe);
    assert_eq!(calls[4], submit("0000000000000001", None));
}

#[test]
fn bmminer_configures_first_and_submits_version_bits() {
    let calls = calls(&[
        r#"{"id": 0, "method": "mining.configure", "params": [["version-rolling"], {"version-rolling.min-bit-count": 2, "version-rolling.mask": "1fffe000"}]}"#,
        r#"{"id": 1, "method": "mining.subscribe", "params": ["bmminer/2.0.0/Antminer S19/12345"]}"#,
        r#"{"params": ["alice.rig", "3000009", "00000001", "6553f100", "0a0b0c0d", "00c00000"], "id": 9, "method": "mining.submit"}"#,
    ]);
    assert_eq!(rolling(&calls[0]), (0x1fff_e000, 2));
    assert_eq!(calls[1], subscribe("bmminer/2.0.0/Antminer S19/12345"));
    assert_eq!(calls[2], submit("00000001", Some(0x00c0_0000)));
}

#[test]
fn braiins_os_names_its_endpoint_in_subscribe() {
    let calls = calls(&[
        r#"{"id":0,"method":"mining.configure","params":[["version-rolling"],{"version-rolling.mask":"1fffe000","version-rolling.min-bit-count":16}]}"#,
        r#"{"id":1,"method":"mining.subscribe","params":["bosminer-plus-am1-s9/0.9.0",null,"pool.example.com","3333"]}"#,
        r#"{"id":2,"method":"mining.authorize","params":["alice.rig",""]}"#,
        r#"{"id":3,"method":"mining.submit","params":["alice.rig","3000009","0000000000000001","6553f100","0a0b0c0d","1fffe000"]}"#,
    ]);
    assert_eq!(rolling(&calls[0]), (0x1fff_e000, 16));
    assert_eq!(calls[1], subscribe("bosminer-plus-am1-s9/0.9.0"));
    assert_eq!(calls[2], authorize("alice.rig", ""));
    assert_eq!(calls[3], submit("0000000000000001", Some(0x1fff_e000)));
}

#[test]
fn whatsminer_sends_more_spaces_and_a_null_password() {
    let calls = calls(&[
        r#"{"id": 1, "method": "mining.subscribe", "params": ["whatsminer/v1.1"]}"#,
        r#"{ "id" : 2 , "method" : "mining.authorize" , "params" : [ "alice.rig" , null ] }"#,
        r#"{"id": 3, "method": "mining.configure", "params": [["version-rolling"], {"version-rolling.mask": "ffffffff"}]}"#,
        r#"{"params": ["alice.rig", "03000009", "0000000000000001", "6553F100", "0A0B0C0D", "20000"], "id": 5, "method": "mining.submit"}"#,
    ]);
    assert_eq!(calls[0], subscribe("whatsminer/v1.1"));
    assert_eq!(calls[1], authorize("alice.rig", ""));
    assert_eq!(rolling(&calls[2]), (u32::MAX, 0));
    assert_eq!(calls[3], submit("0000000000000001", Some(0x2_0000)));
}

#[test]
fn esp_miner_suggests_a_difficulty_and_answers_pings_with_a_method() {
    let calls = calls(&[
        r#"{"id": 1, "method": "mining.configure", "params": [["version-rolling"], {"version-rolling.mask": "ffffffff"}]}"#,
        r#"{"id": 2, "method": "mining.subscribe", "params": ["bitaxe/BM1370/v2.6.0"]}"#,
        r#"{"id": 3, "method": "mining.authorize", "params": ["alice.rig", "x"]}"#,
        r#"{"id": 4, "method": "mining.suggest_difficulty", "params": [1000]}"#,
        r#"{"id": 5, "method": "mining.submit", "params": ["alice.rig", "3000009", "01000000", "6553f100", "0a0b0c0d", "0000e000"]}"#,
        r#"{"id": 6, "method": "pong", "params": []}"#,
    ]);
    assert_eq!(rolling(&calls[0]), (u32::MAX, 0));
    assert_eq!(calls[1], subscribe("bitaxe/BM1370/v2.6.0"));
    assert_eq!(calls[3], Call::SuggestDifficulty(Difficulty::new(1000.0).unwrap()));
    assert_eq!(calls[4], submit("01000000", Some(0xe000)));
    assert_eq!(calls[5], Call::Pong);
}

#[test]
fn cpuminer_repeats_its_id_and_answers_get_version() {
    let calls = calls(&[
        r#"{"id": 1, "method": "mining.subscribe", "params": ["cpuminer/2.5.1"]}"#,
        r#"{"id": 2, "method": "mining.authorize", "params": ["alice.rig", "x,d=1e-9"]}"#,
        r#"{"method": "mining.submit", "params": ["alice.rig", "3000009", "00000001", "6553f100", "0a0b0c0d"], "id":4}"#,
        r#"{"method": "mining.submit", "params": ["alice.rig", "3000009", "00000002", "6553f100", "0a0b0c0d"], "id":4}"#,
    ]);
    assert_eq!(calls[0], subscribe("cpuminer/2.5.1"));
    assert_eq!(calls[1], authorize("alice.rig", "x,d=1e-9"));
    assert_eq!(calls[2], submit("00000001", None));
    assert_eq!(calls[3], submit("00000002", None));

    let line = r#"{"error": null, "id": 77, "result": "cpuminer/2.5.1"}"#;
    let Ok(Incoming::Response(response)) = Incoming::parse(line.as_bytes()) else { panic!() };
    assert_eq!(response.id.as_u64(), Some(77));
    assert_eq!(response.result, Some("\"cpuminer/2.5.1\""));
}

#[test]
fn nicehash_asks_for_a_minimum_difficulty() {
    let calls = calls(&[
        r#"{"id":1,"method":"mining.subscribe","params":["NiceHash/1.0.0"]}"#,
        r#"{"id":2,"method":"mining.extranonce.subscribe","params":[]}"#,
        r#"{"id":3,"method":"mining.configure","params":[["minimum-difficulty","version-rolling"],{"minimum-difficulty.value":500000,"version-rolling.mask":"1fffe000","version-rolling.min-bit-count":2}]}"#,
        r#"{"jsonrpc":"2.0","id":4,"method":"mining.authorize","params":["alice.rig","d=500000"]}"#,
        r#"{"jsonrpc":"2.0","id":5,"method":"mining.submit","params":["alice.rig","3000009","0000000000000001","6553f100","0a0b0c0d","00006000"]}"#,
    ]);
    assert_eq!(calls[0], subscribe("NiceHash/1.0.0"));
    assert_eq!(calls[1], Call::ExtranonceSubscribe);
    assert_eq!(rolling(&calls[2]), (0x1fff_e000, 2));
    let Call::Configure(request) = &calls[2] else { panic!() };
    assert_eq!(request.minimum_difficulty, Some(Difficulty::new(500_000.0).ok()));
    assert_eq!(calls[3], authorize("alice.rig", "d=500000"));
    assert_eq!(calls[4], submit("0000000000000001", Some(0x6000)));
}
