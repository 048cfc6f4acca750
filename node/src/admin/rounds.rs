//! Rounds, blocks, and what they are worth to whom.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use seam_cluster::ledger::{Credit, Round, State as Ledger, UserId, Users};
use seam_cluster::payout::{Fee, Payout, PayoutError};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Failure, ledger};
use crate::node::Node;

pub(super) async fn blocks(State(node): State<Arc<Node>>) -> Result<Json<Value>, Failure> {
    let ledger = ledger(&node)?.read(Ledger::clone);
    let rounds = ledger.rounds().closed().take(MAX_LISTED);
    let blocks: Vec<Value> = rounds.map(|round| block(round, ledger.users())).collect();
    Ok(Json(json!({"blocks": blocks})))
}

pub(super) async fn rounds(State(node): State<Arc<Node>>) -> Result<Json<Value>, Failure> {
    let ledger = ledger(&node)?.read(Ledger::clone);
    let current = ledger.rounds().current();
    let total = current.table.total();
    let past: Vec<Value> = ledger
        .rounds()
        .closed()
        .take(MAX_LISTED)
        .map(|round| past(round, ledger.users()))
        .collect();
    Ok(Json(json!({
        "current": {
            "shares": total.shares,
            "work": total.work.to_string(),
            "users": credits(current.table.iter(), ledger.users()),
        },
        "past": past,
    })))
}

pub(super) async fn round(
    State(node): State<Arc<Node>>,
    height: Result<Path<u32>, PathRejection>,
) -> Result<Json<Value>, Failure> {
    let Path(height) = height.map_err(|error| Failure::bad(error.body_text()))?;
    let ledger = ledger(&node)?.read(Ledger::clone);
    let round = best(&ledger, height)?;
    Ok(Json(past(round, ledger.users())))
}

#[derive(Deserialize)]
pub(super) struct PayoutQuery {
    height: u32,
    #[serde(default)]
    fee: Option<String>,
}

pub(super) async fn payouts(
    State(node): State<Arc<Node>>,
    query: Result<Query<PayoutQuery>, QueryRejection>,
) -> Result<Json<Value>, Failure> {
    let Query(PayoutQuery { height, fee }) =
        query.map_err(|error| Failure::bad(error.body_text()))?;
    let fee: Fee = fee
        .as_deref()
        .unwrap_or("0")
        .parse()
        .map_err(|error: PayoutError| Failure::bad(error.to_string()))?;
    let ledger = ledger(&node)?.read(Ledger::clone);
    let round = best(&ledger, height)?;
    let payout = Payout::of(round, ledger.users(), fee)
        .map_err(|error| Failure::new(StatusCode::CONFLICT, error.to_string()))?;
    let value = serde_json::to_value(&payout)
        .map_err(|error| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    Ok(Json(value))
}

/// One block, as the status document and `/v1/blocks` have it.
pub(super) fn block(round: &Round, users: &Users) -> Value {
    json!({
        "height": round.block.height,
        "hash": round.block.hash.to_string(),
        "time": round.block.time,
        "status": round.status.as_str(),
        "node": round.block.node,
        "user": name(round.block.user, users),
        "reward": round.block.reward,
        "shares": round.total.shares,
        "work": round.total.work.to_string(),
    })
}

/// The round at that height that counts: of several, one that is not orphaned.
fn best(ledger: &Ledger, height: u32) -> Result<&Round, Failure> {
    let mut at: Vec<&Round> = ledger.rounds().at_height(height).map(AsRef::as_ref).collect();
    at.sort_by_key(|round| round.status.is_orphaned());
    at.first().copied().ok_or_else(|| Failure::not_found(format!("no block of ours at {height}")))
}

fn past(round: &Round, users: &Users) -> Value {
    let credits = match &round.detail {
        Some(detail) => credits(detail.iter(), users),
        None => Value::Null,
    };
    json!({
        "height": round.block.height,
        "hash": round.block.hash.to_string(),
        "status": round.status.as_str(),
        "shares": round.total.shares,
        "work": round.total.work.to_string(),
        "users": credits,
    })
}

fn credits(credits: impl Iterator<Item = (UserId, Credit)>, users: &Users) -> Value {
    let credits: Map<String, Value> = credits
        .map(|(user, credit)| {
            let value = json!({"shares": credit.shares, "work": credit.work.to_string()});
            (name(user, users), value)
        })
        .collect();
    Value::Object(credits)
}

fn name(user: UserId, users: &Users) -> String {
    users.by_id(user).map_or_else(|| format!("#{user}"), |user| user.name.to_string())
}

/// Rounds in one answer; older ones are asked for by their height.
const MAX_LISTED: usize = 1_000;
