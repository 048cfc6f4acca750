//! From a connection's first bytes to the request that says where its session belongs, and the
//! cutting of lines after that.

use std::sync::Arc;

use seam_stratum::message::{Call, Incoming, Request};
use seam_stratum::{Sid, line, write};

use crate::header::{self, Header};
use crate::hub::Hub;
use crate::limits::score;
use crate::metrics::{Ended, labels};
use crate::session::{Inner, Phase, Session};

/// Takes what was read from the miner's socket.
pub(crate) fn received(hub: &Hub, session: &Arc<Session>, inner: &mut Inner, raw: &[u8]) {
    let mut raw = raw;
    let whole;
    if inner.phase == Phase::Header {
        if inner.partial.is_empty() {
            whole = raw.to_vec();
        } else {
            let mut bytes = std::mem::take(&mut inner.partial);
            bytes.extend_from_slice(raw);
            whole = bytes;
        }
        match header::parse(&whole) {
            Header::Incomplete => {
                inner.partial = whole;
                return;
            }
            Header::Invalid => {
                hub.metrics.limit_hit("proxy_header");
                hub.addresses.offend(inner.peer, score::HEADER);
                return session.end(hub, inner, Ended::Error);
            }
            Header::Done { source, consumed } => {
                let peer = source.unwrap_or(inner.peer);
                let Some(place) = hub.addresses.admit(peer) else {
                    return session.end(hub, inner, Ended::Limit);
                };
                inner.identify(peer, place);
                inner.phase = Phase::Opening;
                raw = &whole[consumed..];
            }
        }
    }
    if !inner.tls {
        return lines(hub, session, inner, raw);
    }
    let handshaking = inner.wire.is_handshaking();
    let mut plain = Vec::new();
    let result = inner.wire.decrypt(raw, &mut plain);
    if handshaking && (result.is_err() || !inner.wire.is_handshaking()) {
        let result = if result.is_ok() { "done" } else { "failed" };
        let labels = labels([("listener", "stratum"), ("result", result)]);
        hub.metrics.tls_handshakes.get_or_create(&labels).inc();
    }
    if !plain.is_empty() {
        lines(hub, session, inner, &plain);
    }
    if let Err(error) = result {
        tracing::debug!(session = session.id, %error, "TLS");
        let closed = error.kind() == std::io::ErrorKind::UnexpectedEof;
        session.end(hub, inner, if closed { Ended::Miner } else { Ended::Error });
    }
}

/// Cuts lines. What is whole goes on, the rest waits.
fn lines(hub: &Hub, session: &Arc<Session>, inner: &mut Inner, bytes: &[u8]) {
    let joined;
    let buffer = if inner.partial.is_empty() {
        bytes
    } else {
        let mut partial = std::mem::take(&mut inner.partial);
        partial.extend_from_slice(bytes);
        joined = partial;
        &joined
    };
    let limit = hub.config.limits.line_length;
    let end = memchr::memrchr(b'\n', buffer).map_or(0, |at| at + 1);
    let (whole, tail) = buffer.split_at(end);
    if tail.len() > limit + 1 || whole.split(|byte| *byte == b'\n').any(|l| l.len() > limit + 1) {
        return session.too_long(hub, inner);
    }
    let mut rest = whole;
    if inner.phase == Phase::Opening {
        match line::Opening::detect(buffer) {
            line::Opening::Http => return http(hub, session, inner),
            // As bfgminer opens: no offence.
            line::Opening::Tls => return session.end(hub, inner, Ended::Error),
            line::Opening::Unknown | line::Opening::Stratum => {}
        }
        rest = open(hub, session, inner, whole);
    }
    if !rest.is_empty() {
        session.forward(hub, inner, rest);
    }
    if inner.phase != Phase::Closing {
        inner.partial.extend_from_slice(tail);
    }
}

/// Answers what needs no node, and stops at the line that does: the session then is held.
fn open<'a>(hub: &Hub, session: &Arc<Session>, inner: &mut Inner, lines: &'a [u8]) -> &'a [u8] {
    let mut rest = lines;
    while let Some(end) = memchr::memchr(b'\n', rest) {
        let line = rest[..end].trim_ascii_end();
        match Incoming::parse(line) {
            _ if line.is_empty() => {}
            Ok(Incoming::Request(Request { id, call: Call::Configure(request) })) => {
                let outcome = request.negotiate(&hub.policy);
                let configured = &mut inner.configured;
                configured.version_mask = outcome.version_mask.or(configured.version_mask);
                configured.minimum_difficulty =
                    outcome.minimum_difficulty.or(configured.minimum_difficulty);
                configured.subscribe_extranonce |= outcome.subscribe_extranonce;
                let mut answer = Vec::new();
                outcome.write(&mut answer, id);
                session.send(hub, inner, &answer);
                if inner.phase == Phase::Closing {
                    return &[];
                }
            }
            Ok(Incoming::Request(Request {
                call: Call::Subscribe { sid: Some(sid), .. }, ..
            })) => {
                // Whether its tag is right is judged where the key is known.
                inner.wanted = Sid::parse(&sid);
                inner.enter(Phase::Held);
                return rest;
            }
            _ => {
                inner.enter(Phase::Held);
                return rest;
            }
        }
        rest = &rest[end + 1..];
    }
    rest
}

fn http(hub: &Hub, session: &Arc<Session>, inner: &mut Inner) {
    let mut answer = Vec::new();
    match (hub.config.public(), inner.wire.local_addr()) {
        (Some((host, port)), _) => write::http_redirect(&mut answer, host, port),
        (None, Some(local)) => {
            let host = local.ip().to_canonical().to_string();
            write::http_redirect(&mut answer, &host, local.port());
        }
        (None, None) => {}
    }
    session.send(hub, inner, &answer);
    session.end(hub, inner, Ended::Limit);
}
