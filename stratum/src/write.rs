//! Every line a server or a miner sends, appended to a buffer the caller keeps.
//!
//! Each function appends exactly one line with its `\n` and cannot fail.

use serde::Serialize;

use crate::difficulty::Difficulty;
use crate::digits;
use crate::job::{JobData, Nonce2};
use crate::message::Id;
use crate::reject::Reject;
use crate::sid::{Extranonce1, Sid};

/// Formats into the buffer. Writing to a `Vec` cannot fail.
macro_rules! push {
    ($out:expr, $($format:tt)*) => {{
        use std::io::Write as _;
        let _ = write!($out, $($format)*);
    }};
}

/// An answer with any JSON value as result.
pub fn result(out: &mut Vec<u8>, id: Id<'_>, value: &(impl Serialize + ?Sized)) {
    answer(out, id, |out| json(out, value));
}

/// An answer `true` or `false`.
pub fn result_bool(out: &mut Vec<u8>, id: Id<'_>, value: bool) {
    answer(out, id, |out| out.extend_from_slice(if value { b"true" } else { b"false" }));
}

/// The answer to `mining.subscribe`: subscriptions by sid, extranonce1, length of nonce2.
pub fn subscribed(out: &mut Vec<u8>, id: Id<'_>, sid: &Sid, nonce2_len: u8) {
    answer(out, id, |out| {
        push!(
            out,
            "[[[\"mining.notify\",\"{sid}\"],[\"mining.set_difficulty\",\"{sid}\"]],\"{}\",{nonce2_len}]",
            sid.extranonce1()
        );
    });
}

/// A refusal: `[code, "message", null]` as error.
pub fn reject(out: &mut Vec<u8>, id: Id<'_>, reject: &Reject) {
    push!(out, "{{\"id\":{},\"result\":null,\"error\":[{},", id.as_json(), reject.code());
    json(out, reject.message());
    out.extend_from_slice(b",null]}\n");
}

/// The answer to `mining.ping`.
pub fn pong(out: &mut Vec<u8>, id: Id<'_>) {
    answer(out, id, |out| out.extend_from_slice(b"\"pong\""));
}

/// The answer to `mining.get_transactions`: txids as people read them (reversed).
pub fn transactions<'a>(
    out: &mut Vec<u8>,
    id: Id<'_>,
    txids: impl IntoIterator<Item = &'a [u8; 32]>,
) {
    answer(out, id, |out| {
        out.push(b'[');
        for (index, txid) in txids.into_iter().enumerate() {
            out.extend_from_slice(if index > 0 { b",\"" } else { b"\"" });
            let mut reversed = *txid;
            reversed.reverse();
            digits::push(out, &reversed);
            out.push(b'"');
        }
        out.push(b']');
    });
}

/// `mining.notify`. The previous hash goes out as stratum wants it: the bytes of the header
/// with each group of four reversed.
pub fn notify(out: &mut Vec<u8>, job: &JobData, clean: bool) {
    push!(out, "{{\"id\":null,\"method\":\"mining.notify\",\"params\":[\"{}\",\"", job.id);
    digits::push(out, &swap_words(&job.prev_hash));
    out.extend_from_slice(b"\",\"");
    digits::push(out, &job.coinbase1);
    out.extend_from_slice(b"\",\"");
    digits::push(out, &job.coinbase2);
    out.extend_from_slice(b"\",[");
    for (index, hash) in job.merkle_branch.iter().enumerate() {
        out.extend_from_slice(if index > 0 { b",\"" } else { b"\"" });
        digits::push(out, hash);
        out.push(b'"');
    }
    push!(
        out,
        "],\"{:08x}\",\"{:08x}\",\"{:08x}\",{clean}]}}\n",
        job.version,
        job.nbits,
        job.ntime
    );
}

/// `mining.set_difficulty`, the number in its shortest exact form.
pub fn set_difficulty(out: &mut Vec<u8>, difficulty: Difficulty) {
    push!(out, "{{\"id\":null,\"method\":\"mining.set_difficulty\",\"params\":[{difficulty}]}}\n");
}

/// `mining.set_version_mask` (BIP 310).
pub fn set_version_mask(out: &mut Vec<u8>, mask: u32) {
    push!(
        out,
        "{{\"id\":null,\"method\":\"mining.set_version_mask\",\"params\":[\"{mask:08x}\"]}}\n"
    );
}

/// `mining.set_extranonce`. Several miners ignore it: never change what they were given.
pub fn set_extranonce(out: &mut Vec<u8>, extranonce1: Extranonce1, nonce2_len: u8) {
    push!(
        out,
        "{{\"id\":null,\"method\":\"mining.set_extranonce\",\"params\":[\"{extranonce1}\",{nonce2_len}]}}\n"
    );
}

/// `client.reconnect`: to `host` and `port` after `wait_secs`. Several miners ignore one without
/// host and port, and some want the port as a number.
pub fn reconnect(out: &mut Vec<u8>, endpoint: Option<(&str, u16)>, wait_secs: u32) {
    out.extend_from_slice(b"{\"id\":null,\"method\":\"client.reconnect\",\"params\":[");
    if let Some((host, port)) = endpoint {
        json(out, host);
        push!(out, ",{port},{wait_secs}");
    }
    out.extend_from_slice(b"]}\n");
}

/// `client.show_message`.
pub fn show_message(out: &mut Vec<u8>, message: &str) {
    out.extend_from_slice(b"{\"id\":null,\"method\":\"client.show_message\",\"params\":[");
    json(out, message);
    out.extend_from_slice(b"]}\n");
}

/// `client.get_version`, a request that the miner answers.
pub fn get_version(out: &mut Vec<u8>, id: u64) {
    push!(out, "{{\"id\":{id},\"method\":\"client.get_version\",\"params\":[]}}\n");
}

/// `mining.ping` from the server, a request that the miner answers.
pub fn ping(out: &mut Vec<u8>, id: u64) {
    push!(out, "{{\"id\":{id},\"method\":\"mining.ping\",\"params\":[]}}\n");
}

/// What an HTTP client on the stratum port is told, as bcoin-stratum does: a whole response
/// with the `X-Stratum` header. The connection is closed after it.
pub fn http_redirect(out: &mut Vec<u8>, host: &str, port: u16) {
    const BODY: &str = "{\"error\":null,\"result\":false,\"id\":0}";
    push!(
        out,
        "HTTP/1.1 200 OK\r\nX-Stratum: stratum+tcp://{host}:{port}\r\nConnection: Close\r\n\
         Content-Type: application/json; charset=utf-8\r\nContent-Length: {}\r\n\r\n{BODY}",
        BODY.len()
    );
}

/// A miner's `mining.configure` for version rolling.
pub fn configure(out: &mut Vec<u8>, id: u64, mask: u32, min_bit_count: u8) {
    push!(
        out,
        "{{\"id\":{id},\"method\":\"mining.configure\",\"params\":[[\"version-rolling\"],\
         {{\"version-rolling.mask\":\"{mask:08x}\",\"version-rolling.min-bit-count\":{min_bit_count}}}]}}\n"
    );
}

/// A miner's `mining.subscribe`, with the sid of a session to resume.
pub fn subscribe(out: &mut Vec<u8>, id: u64, agent: &str, sid: Option<&str>) {
    push!(out, "{{\"id\":{id},\"method\":\"mining.subscribe\",\"params\":[");
    json(out, agent);
    if let Some(sid) = sid {
        out.push(b',');
        json(out, sid);
    }
    out.extend_from_slice(b"]}\n");
}

/// A miner's `mining.authorize`.
pub fn authorize(out: &mut Vec<u8>, id: u64, user: &str, password: &str) {
    push!(out, "{{\"id\":{id},\"method\":\"mining.authorize\",\"params\":[");
    json(out, user);
    out.push(b',');
    json(out, password);
    out.extend_from_slice(b"]}\n");
}

/// A miner's `mining.suggest_difficulty`.
pub fn suggest_difficulty(out: &mut Vec<u8>, id: u64, difficulty: Difficulty) {
    push!(
        out,
        "{{\"id\":{id},\"method\":\"mining.suggest_difficulty\",\"params\":[{difficulty}]}}\n"
    );
}

/// A miner's request of any method, with parameters of any shape.
pub fn request(out: &mut Vec<u8>, id: u64, method: &str, params: &(impl Serialize + ?Sized)) {
    push!(out, "{{\"id\":{id},\"method\":");
    json(out, method);
    out.extend_from_slice(b",\"params\":");
    json(out, params);
    out.extend_from_slice(b"}\n");
}

/// The parameters of a miner's [`submit`].
#[derive(Debug, Clone, Copy)]
pub struct SubmitParams<'a> {
    /// User, with worker.
    pub user: &'a str,
    /// Job id, as the server wrote it.
    pub job: &'a str,
    /// The miner's part of the extranonce.
    pub nonce2: Nonce2,
    /// Seconds since 1970.
    pub ntime: u32,
    /// Header nonce.
    pub nonce: u32,
    /// Version bits (BIP 310), where version rolling was negotiated.
    pub version_bits: Option<u32>,
}

/// A miner's `mining.submit`. Formats no faster than needed for a miner but without any
/// allocation: the load generator sends tens of thousands a second.
pub fn submit(out: &mut Vec<u8>, id: u64, params: &SubmitParams<'_>) {
    out.extend_from_slice(b"{\"id\":");
    decimal(out, id);
    out.extend_from_slice(b",\"method\":\"mining.submit\",\"params\":[");
    plain_json(out, params.user);
    out.push(b',');
    plain_json(out, params.job);
    out.extend_from_slice(b",\"");
    digits::push(out, params.nonce2.as_bytes());
    out.extend_from_slice(b"\",\"");
    digits::push(out, &params.ntime.to_be_bytes());
    out.extend_from_slice(b"\",\"");
    digits::push(out, &params.nonce.to_be_bytes());
    out.push(b'"');
    if let Some(bits) = params.version_bits {
        out.extend_from_slice(b",\"");
        digits::push(out, &bits.to_be_bytes());
        out.push(b'"');
    }
    out.extend_from_slice(b"]}\n");
}

/// Reverses the bytes of each group of four, as `mining.notify` has the previous hash. Its own
/// inverse.
pub fn swap_words(hash: &[u8; 32]) -> [u8; 32] {
    let mut swapped = *hash;
    swapped.chunks_exact_mut(4).for_each(<[u8]>::reverse);
    swapped
}

fn answer(out: &mut Vec<u8>, id: Id<'_>, value: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(b"{\"id\":");
    out.extend_from_slice(id.as_json().as_bytes());
    out.extend_from_slice(b",\"result\":");
    value(out);
    out.extend_from_slice(b",\"error\":null}\n");
}

/// Any value as JSON. One that cannot be written (a map with keys that are no strings) becomes
/// `null`, so that a line always is JSON.
fn json(out: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    let start = out.len();
    if serde_json::to_writer(&mut *out, value).is_err() {
        out.truncate(start);
        out.extend_from_slice(b"null");
    }
}

/// A string that most likely needs no escapes.
fn plain_json(out: &mut Vec<u8>, text: &str) {
    if text.bytes().all(|byte| (0x20..0x7f).contains(&byte) && byte != b'"' && byte != b'\\') {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        json(out, text);
    }
}

fn decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut from = digits.len();
    loop {
        from -= 1;
        digits[from] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[from..]);
}
