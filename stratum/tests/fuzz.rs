//! Damaged lines, sids and logins.

use seam_fuzz::{Bounds, fuzz, kind};
use seam_stratum::client::{FromServer, Subscribed, configured_mask};
use seam_stratum::line::{MAX_LINE, Opening};
use seam_stratum::login::{Password, split_worker};
use seam_stratum::message::Incoming;
use seam_stratum::{Extranonce1, LineScanner, Sid, SidKey};

const WORDS: [&[u8]; 24] = [
    b"\n",
    b"\r\n",
    b"{\"id\":",
    b"\"method\":",
    b"\"params\":[",
    b"null",
    b"\"mining.submit\"",
    b"\"mining.subscribe\"",
    b"\"mining.authorize\"",
    b"\"mining.configure\"",
    b"\"version-rolling\"",
    b"\"minimum-difficulty\"",
    b"\"mining.suggest_difficulty\"",
    b"\"mining.notify\"",
    b"[[[[[[[[",
    b"{\"\":{\"\":",
    b"1e309",
    b"-0.0",
    b"\\u0000",
    b"\\ud800",
    b"\xff",
    b"d=",
    b"GET / HTTP/1.1",
    b"\x16\x03\x01",
];

#[test]
fn fuzz_stratum_lines() {
    // A stream of lines, in pieces, as a connection reads them.
    fuzz("stratum_lines", Bounds::of(MAX_LINE + 4_096, 16), &WORDS, |input| {
        let mut scanner = LineScanner::default();
        let (mut start, mut end) = (0, 0);
        let mut kinds: Vec<Result<Option<u64>, u64>> = Vec::new();
        let opening = Opening::detect(&input[..input.len().min(8)]);
        while end < input.len() {
            end = (end + 997).min(input.len());
            loop {
                match scanner.next(&input[start..end]) {
                    Ok(Some(found)) => {
                        assert!(found.line.len() <= MAX_LINE);
                        assert!(!found.line.contains(&b'\n'));
                        start += found.consumed;
                        let kind = match Incoming::parse(found.line) {
                            Ok(Incoming::Request(request)) => Ok(Some(kind(&request.call))),
                            Ok(_) => Ok(None),
                            Err(error) => Err(kind(&error.kind)),
                        };
                        if kinds.len() < 3 {
                            kinds.push(kind);
                        }
                    }
                    Ok(None) => break,
                    Err(_) => return (opening as u8, kinds, "too long"),
                }
            }
        }
        (opening as u8, kinds, "end")
    });
}

#[test]
fn fuzz_stratum_answers() {
    fuzz("stratum_answers", Bounds::of(MAX_LINE, 64), &WORDS, |input| {
        let text = std::str::from_utf8(input).unwrap_or_default();
        let message = FromServer::parse(input);
        (
            message.as_ref().map(kind).map_err(|_| ()),
            Subscribed::parse(text).is_ok(),
            configured_mask(text).is_some(),
        )
    });
}

#[test]
fn fuzz_sid() {
    let key = SidKey([8; 32]);
    fuzz("sid", Bounds::of(1_024, 8), &[b"0", b"f", b",d=1e9,", b"."], |input| {
        let text = String::from_utf8_lossy(input);
        if let Some(extranonce1) = Sid::verify(&key, &text) {
            // Whoever has it got it from us.
            assert_eq!(Sid::mint(&key, extranonce1).to_string(), text.to_lowercase());
        }
        let sid = Sid::parse(&text);
        if let Some(sid) = sid {
            assert_eq!(sid.to_string(), text.to_lowercase());
        }
        let password = Password::parse(&text);
        let (user, worker) = split_worker(&text);
        assert!(user.len() + worker.len() <= text.len() && password.password.len() <= text.len());
        (
            sid.is_some(),
            Sid::verify(&key, &text).is_some(),
            Extranonce1::parse(&text).is_some(),
            password.difficulty.is_some(),
            worker.is_empty(),
        )
    });
}
