//! The miner's side: a line from a server → a typed message; work → headers.

mod work;

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

pub use self::work::{HeaderHasher, Work};
use crate::difficulty::Difficulty;
use crate::digits;
use crate::message::{Envelope, Id, Params, text as raw_text};
use crate::scan::Scanner;
use crate::write::swap_words;

/// The longest extranonce1 any pool may give, in bytes.
const MAX_EXTRANONCE1: usize = 32;

/// A line from a server.
#[derive(Debug, Clone, PartialEq)]
pub enum FromServer<'a> {
    /// It answers a request.
    Answer(Answer<'a>),
    /// `mining.notify`.
    Notify(Box<Notify<'a>>),
    /// `mining.set_difficulty`: for the jobs after it.
    SetDifficulty(Difficulty),
    /// `mining.set_version_mask` (BIP 310).
    SetVersionMask(u32),
    /// `mining.set_extranonce`.
    SetExtranonce {
        /// The new extranonce1.
        extranonce1: Vec<u8>,
        /// Bytes of nonce2.
        nonce2_len: u8,
    },
    /// `client.reconnect`.
    Reconnect {
        /// Where to, if it says.
        host: Option<Cow<'a, str>>,
        /// Port, if it says.
        port: Option<u16>,
        /// Seconds to wait first.
        wait_secs: u32,
    },
    /// `client.show_message`.
    ShowMessage(Cow<'a, str>),
    /// `client.get_version`: wants an answer.
    GetVersion(Id<'a>),
    /// `mining.ping` or `client.ping`: wants an answer.
    Ping(Id<'a>),
    /// Any other method.
    Unknown {
        /// Its id.
        id: Id<'a>,
        /// Its name.
        method: Cow<'a, str>,
    },
}

/// A server's answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer<'a> {
    /// The id of the request.
    pub id: Id<'a>,
    /// The JSON text of `result` (`null` where absent), or the error.
    pub result: Result<&'a str, RpcError<'a>>,
}

impl Answer<'_> {
    /// Whether the result is exactly `true`.
    pub fn is_true(&self) -> bool {
        self.result.as_ref().is_ok_and(|result| *result == "true")
    }
}

/// The error of an answer, whatever its form: `[code, "message", …]`, `{"code":…,"message":…}`
/// or anything else, which is then the message, with code 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RpcError<'a> {
    /// See [`crate::reject::Reject::code`].
    pub code: i64,
    /// The words.
    pub message: Cow<'a, str>,
}

/// `mining.notify` as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notify<'a> {
    /// Any text.
    pub job_id: Cow<'a, str>,
    /// Hash of the previous block, in the order inside headers.
    pub prev_hash: [u8; 32],
    /// Coinbase before the extranonces.
    pub coinbase1: Vec<u8>,
    /// Coinbase behind them.
    pub coinbase2: Vec<u8>,
    /// Merkle branch of the coinbase.
    pub merkle_branch: Vec<[u8; 32]>,
    /// Header version.
    pub version: u32,
    /// Compact network target.
    pub nbits: u32,
    /// Seconds since 1970.
    pub ntime: u32,
    /// Whether older work is worth nothing.
    pub clean: bool,
}

/// The result of `mining.subscribe`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribed {
    /// The subscription id to resume with, where the server gave one.
    pub sid: Option<String>,
    /// The session's extranonce1.
    pub extranonce1: Vec<u8>,
    /// Bytes of nonce2.
    pub nonce2_len: u8,
}

/// A line that is no message of a stratum server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a message of a stratum server")]
pub struct NotStratum;

impl<'a> FromServer<'a> {
    /// Parses one line, without its line end.
    pub fn parse(line: &'a [u8]) -> Result<Self, NotStratum> {
        match plain_answer(line) {
            Some(answer) => Ok(Self::Answer(answer)),
            None => parse_any(line).ok_or(NotStratum),
        }
    }
}

impl Subscribed {
    /// Reads the JSON text of the result of `mining.subscribe`.
    pub fn parse(result: &str) -> Result<Self, NotStratum> {
        let Ok(Value::Array(parts)) = serde_json::from_str(result) else {
            return Err(NotStratum);
        };
        let [subscriptions, extranonce1, nonce2_len, ..] = &parts[..] else {
            return Err(NotStratum);
        };
        let (extranonce1, nonce2_len) = extranonce(extranonce1, nonce2_len).ok_or(NotStratum)?;
        Ok(Self { sid: sid(subscriptions), extranonce1, nonce2_len })
    }
}

/// The version-rolling mask in the JSON text of the result of `mining.configure`: `None` where
/// version rolling was not granted.
pub fn configured_mask(result: &str) -> Option<u32> {
    let map: Map<String, Value> = serde_json::from_str(result).ok()?;
    let granted = map.get("version-rolling")?.as_bool()?;
    let mask = digits::number_u32(map.get("version-rolling.mask")?.as_str()?)?;
    granted.then_some(mask)
}

/// `{"id":4,"result":true,"error":null}`, in any order: nearly all that a server sends.
fn plain_answer(line: &[u8]) -> Option<Answer<'_>> {
    let mut scan = Scanner::new(line);
    let (mut id, mut result, mut error) = (None, None, None);
    scan.expect(b'{')?;
    loop {
        let slot = match scan.string()? {
            "id" => &mut id,
            "result" => &mut result,
            "error" => &mut error,
            _ => return None,
        };
        scan.expect(b':')?;
        if slot.replace(scan.scalar()?).is_some() {
            return None;
        }
        if !scan.take(b',') {
            break;
        }
    }
    scan.expect(b'}')?;
    scan.end()?;
    if error.is_some_and(|error| error != "null") {
        return None;
    }
    Some(Answer { id: Id::from_json(id?)?, result: Ok(result?) })
}

fn parse_any(line: &[u8]) -> Option<FromServer<'_>> {
    let envelope = Envelope::parse(line)?;
    let id = envelope.id.map_or(Some(Id::NULL), |raw| Id::from_json(raw.get()))?;
    let Some(method) = envelope.method else {
        let result = match envelope.error {
            Some(error) => Err(rpc_error(error)),
            None => Ok(envelope.result.map_or("null", RawValue::get)),
        };
        return Some(FromServer::Answer(Answer { id, result }));
    };
    let method = raw_text(method)?;
    if method == "mining.notify" {
        return notify(envelope.params?).map(|notify| FromServer::Notify(Box::new(notify)));
    }
    let params = Params::parse(envelope.params, 64)?;
    Some(match &*method {
        "mining.set_difficulty" => FromServer::SetDifficulty(params.difficulty(0)?),
        "mining.set_version_mask" => {
            FromServer::SetVersionMask(digits::number_u32(&params.text(0)?)?)
        }
        "mining.set_extranonce" => {
            let value = |index| serde_json::from_str(params.raw(index)?.get()).ok();
            let (extranonce1, nonce2_len) = extranonce(&value(0)?, &value(1)?)?;
            FromServer::SetExtranonce { extranonce1, nonce2_len }
        }
        "client.reconnect" => FromServer::Reconnect {
            host: params.optional_text(0).flatten(),
            port: params.number(1).and_then(|port| u16::try_from(port).ok()),
            wait_secs: params.number(2).and_then(|secs| u32::try_from(secs).ok()).unwrap_or(0),
        },
        "client.show_message" => FromServer::ShowMessage(params.text(0)?),
        "client.get_version" => FromServer::GetVersion(id),
        "mining.ping" | "client.ping" => FromServer::Ping(id),
        _ => FromServer::Unknown { id, method },
    })
}

fn notify(params: &RawValue) -> Option<Notify<'_>> {
    #[derive(Deserialize)]
    struct Params<'a>(
        #[serde(borrow)] Cow<'a, str>,
        Cow<'a, str>,
        Cow<'a, str>,
        Cow<'a, str>,
        Vec<Cow<'a, str>>,
        Cow<'a, str>,
        Cow<'a, str>,
        Cow<'a, str>,
        bool,
    );

    let Params(job_id, prev_hash, coinbase1, coinbase2, branch, version, nbits, ntime, clean) =
        serde_json::from_str(params.get()).ok()?;
    Some(Notify {
        job_id,
        prev_hash: swap_words(&hash(&prev_hash)?),
        coinbase1: hex::decode(&*coinbase1).ok()?,
        coinbase2: hex::decode(&*coinbase2).ok()?,
        merkle_branch: branch.iter().map(|text| hash(text)).collect::<Option<_>>()?,
        version: digits::number_u32(&version)?,
        nbits: digits::number_u32(&nbits)?,
        ntime: digits::number_u32(&ntime)?,
        clean,
    })
}

fn hash(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    digits::bytes(text, &mut bytes)?;
    Some(bytes)
}

fn extranonce(extranonce1: &Value, nonce2_len: &Value) -> Option<(Vec<u8>, u8)> {
    let bytes = hex::decode(extranonce1.as_str()?).ok()?;
    let len = u8::try_from(nonce2_len.as_u64()?).ok()?;
    (bytes.len() <= MAX_EXTRANONCE1).then_some((bytes, len))
}

/// The id of the `mining.notify` subscription in either form servers use: a list of pairs, or one
/// pair.
fn sid(subscriptions: &Value) -> Option<String> {
    fn of_pair(pair: &Value) -> Option<&str> {
        let [name, id] = &pair.as_array()?[..] else { return None };
        (name.as_str()? == "mining.notify").then_some(id.as_str()?)
    }

    of_pair(subscriptions)
        .or_else(|| subscriptions.as_array()?.iter().find_map(of_pair))
        .map(str::to_owned)
}

fn rpc_error(raw: &RawValue) -> RpcError<'_> {
    #[derive(Deserialize)]
    struct Object<'a> {
        code: i64,
        #[serde(borrow)]
        message: Cow<'a, str>,
    }

    let array = || {
        let params = Params::parse(Some(raw), 64)?;
        let code = serde_json::from_str(params.raw(0)?.get()).ok()?;
        Some(RpcError { code, message: params.text(1)? })
    };
    let object = || {
        let Object { code, message } = serde_json::from_str(raw.get()).ok()?;
        Some(RpcError { code, message })
    };
    let plain = || RpcError { code: 0, message: raw_text(raw).unwrap_or(Cow::Borrowed(raw.get())) };
    match raw.get().as_bytes().first() {
        Some(b'[') => array().unwrap_or_else(plain),
        Some(b'{') => object().unwrap_or_else(plain),
        _ => plain(),
    }
}

#[cfg(test)]
mod tests;
