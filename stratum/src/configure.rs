//! `mining.configure`: BIP 310, negotiated the same on a node and on a proxy.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::difficulty::Difficulty;
use crate::digits;
use crate::job::VERSION_ROLLING_MASK;
use crate::message::Id;
use crate::write;

/// The most extensions a miner may ask for: BIP 310 knows four.
const MAX_EXTENSIONS: usize = 32;

/// What a miner asks for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Request {
    /// `version-rolling`.
    pub version_rolling: Option<VersionRolling>,
    /// `minimum-difficulty`: asked for, and the value if it could be read.
    pub minimum_difficulty: Option<Option<Difficulty>>,
    /// `subscribe-extranonce`.
    pub subscribe_extranonce: bool,
    /// `info`.
    pub info: Option<Info>,
    /// Extensions by other names, each of which is answered `false`.
    pub unknown: Vec<String>,
}

/// Parameters of `version-rolling`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VersionRolling {
    /// Bits the miner can change; all where it does not say.
    pub mask: u32,
    /// Bits it needs to work at full speed. By the BIP a pool that grants fewer keeps the miner.
    pub min_bit_count: u8,
}

/// Parameters of `info`, all optional.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Info {
    /// URL of the miner's pool software connection.
    pub connection_url: Option<String>,
    /// Manufacturer's name for the hardware.
    pub hw_version: Option<String>,
    /// Software version.
    pub sw_version: Option<String>,
    /// Unique id of the hardware.
    pub hw_id: Option<String>,
}

/// What the pool grants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Bits that may be rolled, 0 for none. [`VERSION_ROLLING_MASK`] by default.
    pub version_mask: u32,
    /// Whether a miner may set a minimum difficulty.
    pub minimum_difficulty: bool,
    /// Whether `mining.set_extranonce` may be used on a connection.
    pub subscribe_extranonce: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            version_mask: VERSION_ROLLING_MASK,
            minimum_difficulty: true,
            subscribe_extranonce: true,
        }
    }
}

/// What came of it: the session's settings, and the answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The bits the session may roll, if it asked for any: those both sides have.
    pub version_mask: Option<u32>,
    /// Whether the mask has fewer bits than the miner needs for full speed.
    pub too_few_bits: bool,
    /// The minimum difficulty the session asked for and got.
    pub minimum_difficulty: Option<Difficulty>,
    /// Whether the session may be sent `mining.set_extranonce`.
    pub subscribe_extranonce: bool,
    answer: Map<String, Value>,
}

impl Outcome {
    /// Appends the answer as a line. By cgminer's expectation nothing may go out before it.
    pub fn write(&self, out: &mut Vec<u8>, id: Id<'_>) {
        write::result(out, id, &self.answer);
    }
}

impl Request {
    /// Reads the list of extensions and their parameters. Parameters of the wrong type are as
    /// good as absent; `None` for a list that is none.
    pub(crate) fn parse(names: Option<&RawValue>, params: Option<&RawValue>) -> Option<Self> {
        let names: Vec<Cow<'_, str>> = serde_json::from_str(names?.get()).ok()?;
        if names.len() > MAX_EXTENSIONS {
            return None;
        }
        let params: Map<String, Value> = match params {
            None => Map::new(),
            Some(raw) if raw.get() == "null" => Map::new(),
            Some(raw) => serde_json::from_str(raw.get()).ok()?,
        };
        let text = |key: &str| params.get(key).and_then(Value::as_str).map(str::to_owned);

        let mut request = Self::default();
        for name in names {
            match &*name {
                "version-rolling" => {
                    request.version_rolling = Some(VersionRolling {
                        mask: params
                            .get("version-rolling.mask")
                            .and_then(number_or_hex)
                            .unwrap_or(u32::MAX),
                        min_bit_count: params
                            .get("version-rolling.min-bit-count")
                            .and_then(number_or_hex)
                            .map_or(0, |bits| bits.min(32) as u8),
                    });
                }
                "minimum-difficulty" => {
                    let value = params.get("minimum-difficulty.value").and_then(Value::as_f64);
                    request.minimum_difficulty =
                        Some(value.and_then(|value| Difficulty::new(value).ok()));
                }
                "subscribe-extranonce" => request.subscribe_extranonce = true,
                "info" => {
                    request.info = Some(Info {
                        connection_url: text("info.connection-url"),
                        hw_version: text("info.hw-version"),
                        sw_version: text("info.sw-version"),
                        hw_id: text("info.hw-id"),
                    });
                }
                _ => request.unknown.push(name.into_owned()),
            }
        }
        Some(request)
    }

    /// Grants what `policy` allows. Every extension that was asked for is answered.
    pub fn negotiate(&self, policy: &Policy) -> Outcome {
        let mut answer = Map::new();
        let mut grant = |name: &str, granted: bool| {
            answer.insert(name.to_owned(), Value::Bool(granted));
            granted
        };
        for name in &self.unknown {
            grant(name, false);
        }
        let minimum_difficulty = self
            .minimum_difficulty
            .filter(|value| {
                grant("minimum-difficulty", policy.minimum_difficulty && value.is_some())
            })
            .flatten();
        let subscribe_extranonce =
            self.subscribe_extranonce && grant("subscribe-extranonce", policy.subscribe_extranonce);
        if self.info.is_some() {
            grant("info", true);
        }
        let version_mask = self
            .version_rolling
            .map(|asked| asked.mask & policy.version_mask)
            .filter(|mask| grant("version-rolling", *mask != 0));
        if let Some(mask) = version_mask {
            answer.insert("version-rolling.mask".to_owned(), Value::from(format!("{mask:08x}")));
        }
        let too_few_bits = match (self.version_rolling, version_mask) {
            (Some(asked), mask) => mask.unwrap_or(0).count_ones() < u32::from(asked.min_bit_count),
            (None, _) => false,
        };
        Outcome { version_mask, too_few_bits, minimum_difficulty, subscribe_extranonce, answer }
    }
}

/// The BIP writes masks as hexadecimal strings and counts as numbers; miners mix both.
fn number_or_hex(value: &Value) -> Option<u32> {
    match value {
        Value::Number(number) => u32::try_from(number.as_u64()?).ok(),
        Value::String(text) => digits::number_u32(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Call, Incoming};

    fn parse(line: &str) -> Request {
        match Incoming::parse(line.as_bytes()) {
            Ok(Incoming::Request(request)) => match request.call {
                Call::Configure(request) => request,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    fn answer(outcome: &Outcome) -> Value {
        let mut out = Vec::new();
        outcome.write(&mut out, Id::NULL);
        serde_json::from_slice::<Value>(&out).unwrap()["result"].clone()
    }

    const ALL: &str = r#"{"method":"mining.configure","id":1,"params":[["minimum-difficulty",
        "version-rolling","subscribe-extranonce","info","fancy"],{"minimum-difficulty.value":2048,
        "version-rolling.mask":"1fffe000","version-rolling.min-bit-count":2,"info.hw-id":"a"}]}"#;

    #[test]
    fn every_requested_extension_is_answered() {
        let outcome =
            parse(ALL).negotiate(&Policy { version_mask: 0x1800_0000, ..Policy::default() });
        assert_eq!(outcome.version_mask, Some(0x1800_0000));
        assert_eq!(outcome.minimum_difficulty.unwrap().value(), 2048.0);
        assert!(outcome.subscribe_extranonce && !outcome.too_few_bits);
        assert_eq!(
            answer(&outcome),
            serde_json::json!({
                "version-rolling": true, "version-rolling.mask": "18000000",
                "minimum-difficulty": true, "subscribe-extranonce": true, "info": true,
                "fancy": false,
            })
        );
    }

    #[test]
    fn refused_extensions_are_answered_false() {
        let nothing =
            Policy { version_mask: 0, minimum_difficulty: false, subscribe_extranonce: false };
        let outcome = parse(ALL).negotiate(&nothing);
        assert_eq!(outcome.version_mask, None);
        assert_eq!(outcome.minimum_difficulty, None);
        assert!(!outcome.subscribe_extranonce && outcome.too_few_bits);
        assert_eq!(
            answer(&outcome),
            serde_json::json!({
                "version-rolling": false, "minimum-difficulty": false,
                "subscribe-extranonce": false, "info": true, "fancy": false,
            })
        );
    }

    #[test]
    fn what_was_not_asked_for_is_not_answered() {
        let request = parse(r#"{"method":"mining.configure","id":1,"params":[[],{}]}"#);
        assert_eq!(answer(&request.negotiate(&Policy::default())), serde_json::json!({}));
    }

    #[test]
    fn mask_may_be_missing_or_prefixed() {
        let request = parse(r#"{"method":"mining.configure","params":[["version-rolling"]]}"#);
        assert_eq!(request.negotiate(&Policy::default()).version_mask, Some(VERSION_ROLLING_MASK));
        let request = parse(
            r#"{"method":"mining.configure","params":[["version-rolling"],{"version-rolling.mask":"0x00c00000"}]}"#,
        );
        assert_eq!(request.negotiate(&Policy::default()).version_mask, Some(0x00c0_0000));
    }
}
