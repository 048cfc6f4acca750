//! What a miner sends: a line, parsed into a typed request.
//!
//! Parsing borrows from the line. `mining.submit` goes through a scanner that allocates nothing;
//! everything else, and any submit that is not plain JSON, through `serde_json`.

mod id;
mod params;

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

pub use self::id::{Id, IdBuf};
pub(crate) use self::params::{Params, text};
use crate::configure;
use crate::difficulty::{Difficulty, Target};
use crate::digits;
use crate::job::{JobId, Nonce2};
use crate::reject::Reject;
use crate::scan::Scanner;

/// The most parameters any method may have.
const MAX_PARAMS: usize = 64;

/// A line from a miner.
#[derive(Debug, Clone, PartialEq)]
pub enum Incoming<'a> {
    /// It wants something.
    Request(Request<'a>),
    /// It answers something we asked (`client.get_version`, a ping).
    Response(Response<'a>),
}

/// A request, and the id its answer has to echo.
#[derive(Debug, Clone, PartialEq)]
pub struct Request<'a> {
    /// Echoed exactly. [`Id::NULL`] where it was absent.
    pub id: Id<'a>,
    /// What is wanted.
    pub call: Call<'a>,
}

/// An answer to a request of ours.
#[derive(Debug, Clone, PartialEq)]
pub struct Response<'a> {
    /// The id we sent.
    pub id: Id<'a>,
    /// The JSON text of `result`, where it is there and not `null`.
    pub result: Option<&'a str>,
    /// The JSON text of `error`, where it is there and not `null`.
    pub error: Option<&'a str>,
}

/// The methods of a miner.
#[derive(Debug, Clone, PartialEq)]
pub enum Call<'a> {
    /// `mining.configure` (BIP 310).
    Configure(configure::Request),
    /// `mining.subscribe`.
    Subscribe {
        /// Name and version of the miner's software; empty where it sent none.
        agent: Cow<'a, str>,
        /// The session id to resume, as sent: see [`crate::sid::Sid::verify`].
        sid: Option<Cow<'a, str>>,
    },
    /// `mining.authorize`.
    Authorize {
        /// As sent: see [`crate::login::split_worker`].
        user: Cow<'a, str>,
        /// As sent: see [`crate::login::Password::parse`]. Empty where it sent none.
        password: Cow<'a, str>,
    },
    /// `mining.submit`.
    Submit(Submit<'a>),
    /// `mining.extranonce.subscribe` (NiceHash).
    ExtranonceSubscribe,
    /// `mining.suggest_difficulty`.
    SuggestDifficulty(Difficulty),
    /// `mining.suggest_target`.
    SuggestTarget(Target),
    /// `mining.get_transactions`.
    GetTransactions(JobId),
    /// `mining.ping`.
    Ping,
    /// `pong`, which ESP-Miner sends as a method of its own in answer to a ping. Wants no answer.
    Pong,
    /// `mining.multi_version`: whether the miner may roll versions by itself (before BIP 310).
    MultiVersion,
    /// `mining.authorize_admin` (bcoin-stratum).
    AuthorizeAdmin {
        /// The pool's admin password.
        password: Cow<'a, str>,
    },
    /// `mining.add_user` (bcoin-stratum).
    AddUser {
        /// The new user's name.
        user: Cow<'a, str>,
        /// And password, in the clear.
        password: Cow<'a, str>,
    },
    /// Any other method.
    Unknown {
        /// Its name.
        method: Cow<'a, str>,
    },
}

/// The parameters of `mining.submit`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submit<'a> {
    /// The user, with worker, as sent.
    pub user: Cow<'a, str>,
    /// The job.
    pub job: JobId,
    /// The miner's part of the extranonce. Its length is checked against the job's by
    /// [`crate::share::verify`].
    pub nonce2: Nonce2,
    /// Seconds since 1970.
    pub ntime: u32,
    /// The header nonce.
    pub nonce: u32,
    /// The sixth parameter (BIP 310), where there was one.
    pub version_bits: Option<u32>,
}

/// A line that is no request, with the id to answer it by.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind}")]
pub struct ParseError<'a> {
    /// [`Id::NULL`] where none could be read.
    pub id: Id<'a>,
    /// What is wrong.
    pub kind: ParseErrorKind,
}

/// What is wrong with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseErrorKind {
    /// Not a JSON object in UTF-8.
    #[error("not a JSON object")]
    NotJson,
    /// A JSON object, but neither a request nor a response.
    #[error("not a JSON-RPC message")]
    NotRequest,
    /// Parameters that are missing, of the wrong type or out of range.
    #[error("invalid parameters")]
    Params,
    /// A job id that cannot be one of ours.
    #[error("job id of another pool")]
    ForeignJob,
}

impl ParseErrorKind {
    /// How to answer it.
    pub fn reject(self) -> Reject {
        match self {
            Self::NotJson | Self::NotRequest => Reject::INVALID_MESSAGE,
            Self::Params => Reject::INVALID_PARAMS,
            Self::ForeignJob => Reject::JobNotFound,
        }
    }
}

impl<'a> Incoming<'a> {
    /// Parses one line, without its line end.
    ///
    /// # Errors
    /// With the id and the kind, from which [`ParseErrorKind::reject`] makes the answer. Time and
    /// memory are linear in the length of the line, whatever is in it.
    pub fn parse(line: &'a [u8]) -> Result<Self, ParseError<'a>> {
        match plain_submit(line) {
            Some((id, params)) => match submit(params.map(|param| param.map(Cow::Borrowed))) {
                Ok(submit) => Ok(Self::Request(Request { id, call: Call::Submit(submit) })),
                Err(kind) => Err(ParseError { id, kind }),
            },
            None => parse_any(line),
        }
    }
}

/// The raw parts of a message, of either side.
#[derive(Deserialize)]
pub(crate) struct Envelope<'a> {
    #[serde(borrow, default)]
    pub(crate) id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(crate) method: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(crate) params: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(crate) result: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(crate) error: Option<&'a RawValue>,
}

impl<'a> Envelope<'a> {
    pub(crate) fn parse(line: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(line).ok()?;
        // serde would also read a struct from an array.
        if !text.trim_start().starts_with('{') {
            return None;
        }
        serde_json::from_str(text).ok()
    }
}

fn parse_any(line: &[u8]) -> Result<Incoming<'_>, ParseError<'_>> {
    let no_id = |kind| ParseError { id: Id::NULL, kind };
    let envelope = Envelope::parse(line).ok_or(no_id(ParseErrorKind::NotJson))?;
    let id = match envelope.id {
        None => Id::NULL,
        Some(raw) => Id::from_json(raw.get()).ok_or(no_id(ParseErrorKind::NotRequest))?,
    };
    let failed = |kind| ParseError { id, kind };

    let Some(method) = envelope.method else {
        if envelope.result.is_none() && envelope.error.is_none() {
            return Err(failed(ParseErrorKind::NotRequest));
        }
        return Ok(Incoming::Response(Response {
            id,
            result: envelope.result.map(RawValue::get),
            error: envelope.error.map(RawValue::get),
        }));
    };
    let method = text(method).ok_or(failed(ParseErrorKind::NotRequest))?;
    let params =
        Params::parse(envelope.params, MAX_PARAMS).ok_or(failed(ParseErrorKind::Params))?;
    call(method, &params).map(|call| Incoming::Request(Request { id, call })).map_err(failed)
}

fn call<'a>(method: Cow<'a, str>, params: &Params<'a>) -> Result<Call<'a>, ParseErrorKind> {
    const BAD: ParseErrorKind = ParseErrorKind::Params;
    Ok(match &*method {
        "mining.submit" => {
            let [mut user, mut job, mut nonce2, mut ntime, mut nonce, mut bits] =
                [const { None }; 6];
            let slots = [&mut user, &mut job, &mut nonce2, &mut ntime, &mut nonce, &mut bits];
            for (index, slot) in slots.into_iter().enumerate() {
                *slot = params.optional_text(index).ok_or(BAD)?;
            }
            Call::Submit(submit([user, job, nonce2, ntime, nonce, bits])?)
        }
        "mining.configure" => {
            Call::Configure(configure::Request::parse(params.raw(0), params.raw(1)).ok_or(BAD)?)
        }
        "mining.subscribe" => Call::Subscribe {
            agent: params.optional_text(0).ok_or(BAD)?.unwrap_or_default(),
            // Whatever stands here that is no sid gives a fresh session, never an error.
            sid: params.optional_text(1).flatten(),
        },
        "mining.authorize" => Call::Authorize {
            user: params.text(0).ok_or(BAD)?,
            password: params.optional_text(1).ok_or(BAD)?.unwrap_or_default(),
        },
        "mining.extranonce.subscribe" => Call::ExtranonceSubscribe,
        "mining.suggest_difficulty" => Call::SuggestDifficulty(params.difficulty(0).ok_or(BAD)?),
        "mining.suggest_target" => {
            let name = params.text(0).ok_or(BAD)?;
            Call::SuggestTarget(Target::parse_hex(&name).ok_or(BAD)?)
        }
        "mining.get_transactions" => {
            let name = params.text(0).ok_or(ParseErrorKind::ForeignJob)?;
            Call::GetTransactions(JobId::parse(&name).ok_or(ParseErrorKind::ForeignJob)?)
        }
        "mining.ping" => Call::Ping,
        "pong" | "mining.pong" => Call::Pong,
        "mining.multi_version" => Call::MultiVersion,
        "mining.authorize_admin" => Call::AuthorizeAdmin { password: params.text(0).ok_or(BAD)? },
        "mining.add_user" => {
            Call::AddUser { user: params.text(0).ok_or(BAD)?, password: params.text(1).ok_or(BAD)? }
        }
        _ => Call::Unknown { method },
    })
}

/// Reads the texts of a submit. Both ways of parsing end here.
fn submit(params: [Option<Cow<'_, str>>; 6]) -> Result<Submit<'_>, ParseErrorKind> {
    const BAD: ParseErrorKind = ParseErrorKind::Params;
    let [user, job, nonce2, ntime, nonce, bits] = params;
    let hex = |text: &Cow<'_, str>| digits::number_u32(text).ok_or(BAD);
    let job = job.ok_or(BAD)?;
    Ok(Submit {
        user: user.ok_or(BAD)?,
        nonce2: nonce2.and_then(|text| Nonce2::parse(&text)).ok_or(BAD)?,
        ntime: hex(&ntime.ok_or(BAD)?)?,
        nonce: hex(&nonce.ok_or(BAD)?)?,
        version_bits: bits.as_ref().map(hex).transpose()?,
        job: JobId::parse(&job).ok_or(ParseErrorKind::ForeignJob)?,
    })
}

/// A submit in plain JSON, its keys in any order, each once, and no others.
fn plain_submit(line: &[u8]) -> Option<(Id<'_>, [Option<&str>; 6])> {
    let mut scan = Scanner::new(line);
    let (mut id, mut params, mut is_submit) = (None, None, false);
    scan.expect(b'{')?;
    loop {
        let key = scan.string()?;
        scan.expect(b':')?;
        match key {
            "method" if !is_submit => {
                is_submit = scan.string()? == "mining.submit";
                if !is_submit {
                    return None;
                }
            }
            "id" if id.is_none() => id = Some(Id::from_json(scan.scalar()?)?),
            "params" if params.is_none() => {
                let mut texts = [None; 6];
                scan.expect(b'[')?;
                for (index, slot) in texts.iter_mut().enumerate() {
                    if index > 0 && !scan.take(b',') {
                        break;
                    }
                    *slot = Some(scan.string()?);
                }
                scan.expect(b']')?;
                params = Some(texts);
            }
            _ => return None,
        }
        if !scan.take(b',') {
            break;
        }
    }
    scan.expect(b'}')?;
    scan.end()?;
    if !is_submit {
        return None;
    }
    Some((id.unwrap_or(Id::NULL), params?))
}

#[cfg(test)]
mod tests;
