//! Members and the cluster as a whole.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State as Shared};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use seam_cluster::MemberRole;
use seam_cluster::ledger::State;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Failure, ledger};
use crate::node::Node;

pub(super) async fn init(Shared(node): Shared<Arc<Node>>) -> Result<Json<Value>, Failure> {
    let id = ledger(&node)?.init().await?;
    Ok(Json(json!({"cluster_id": id})))
}

pub(super) async fn restore(
    Shared(node): Shared<Arc<Node>>,
    body: Bytes,
) -> Result<Json<Value>, Failure> {
    let cluster = ledger(&node)?;
    let backup = body.clone();
    // A large ledger takes seconds to read.
    let read = tokio::task::spawn_blocking(move || State::read_from(&mut &backup[..]));
    let saved = read
        .await
        .map_err(|error| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?
        .map_err(|error| Failure::new(StatusCode::CONFLICT, error.to_string()))?;
    cluster.restore(body).await?;
    let ledger = json!({"index": saved.applied(), "hash": hex::encode(saved.digest())});
    Ok(Json(json!({"restored": true, "ledger": ledger})))
}

pub(super) async fn backup(Shared(node): Shared<Arc<Node>>) -> Result<Response, Failure> {
    let snapshot = ledger(&node)?.backup().await?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], snapshot).into_response())
}

pub(super) async fn members(Shared(node): Shared<Arc<Node>>) -> Result<Json<Value>, Failure> {
    ledger(&node)?;
    let view = node.view().unwrap_or_default();
    let members: Vec<Value> = view
        .members
        .iter()
        .map(|member| {
            json!({
                "name": member.name,
                "id": member.id,
                "role": role(view.leader == Some(member.id), member.voter),
                "address": member.address,
                "up": member.reachable,
                "lag": member.lag,
                "reads_format": member.reads,
            })
        })
        .collect();
    let format = view.format;
    Ok(Json(json!({"cluster_id": view.cluster_id, "format": format, "members": members})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewMember {
    name: String,
}

pub(super) async fn add_member(
    Shared(node): Shared<Arc<Node>>,
    body: Result<Json<NewMember>, JsonRejection>,
) -> Result<Json<Value>, Failure> {
    let Json(NewMember { name }) = body.map_err(Failure::json)?;
    if name.is_empty() {
        return Err(Failure::bad("a member has a name"));
    }
    let joined = ledger(&node)?.add_member(&name);
    let id = tokio::time::timeout(JOIN_PATIENCE, joined).await.map_err(|_| {
        let why = format!("{name:?} does not vote yet: start it with a member among its seeds");
        Failure::new(StatusCode::CONFLICT, why)
    })??;
    Ok(Json(json!({"name": name, "id": id})))
}

pub(super) async fn remove_member(
    Shared(node): Shared<Arc<Node>>,
    Path(name): Path<String>,
) -> Result<Json<Value>, Failure> {
    let known =
        node.view().is_some_and(|view| view.members.iter().any(|member| member.name == name));
    let cluster = ledger(&node)?;
    if !known && !cluster.read(|state| state.members().by_name(&name).is_some()) {
        return Err(Failure::new(StatusCode::NOT_FOUND, format!("there is no member {name:?}")));
    }
    cluster.remove_member(&name).await?;
    Ok(Json(json!({"removed": name})))
}

/// As the status document names it.
pub(super) fn role(leads: bool, votes: bool) -> &'static str {
    match (leads, votes) {
        (true, _) => MemberRole::Leader.name(),
        (false, true) => MemberRole::Follower.name(),
        (false, false) => MemberRole::Learner.name(),
    }
}

/// How long an answer waits for a member to join; who asks may ask again.
const JOIN_PATIENCE: Duration = Duration::from_secs(8);
