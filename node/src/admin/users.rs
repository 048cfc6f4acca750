//! Users.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use seam_cluster::Cluster;
use seam_cluster::ledger::UserId;
use seam_cluster::users_file::{self, Export};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Failure, ledger};
use crate::node::Node;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewUser {
    name: String,
    password: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewPassword {
    password: String,
}

pub(super) async fn list(State(node): State<Arc<Node>>) -> Result<Json<Value>, Failure> {
    let users = ledger(&node)?.read(|state| state.users().clone());
    let users: Vec<Value> = users
        .iter()
        .map(|(id, user)| json!({"id": id.0, "name": user.name, "disabled": user.disabled}))
        .collect();
    Ok(Json(json!({"users": users})))
}

pub(super) async fn add(
    State(node): State<Arc<Node>>,
    body: Result<Json<NewUser>, JsonRejection>,
) -> Result<Response, Failure> {
    let Json(NewUser { name, password }) = body.map_err(Failure::json)?;
    seam_cluster::ledger::check_name(&name).map_err(|error| Failure::bad(error.to_string()))?;
    check_password(&password)?;
    let id = ledger(&node)?.add_user(&name, &password).await?;
    Ok((StatusCode::CREATED, Json(json!({"id": id.0, "name": name}))).into_response())
}

pub(super) async fn import(
    State(node): State<Arc<Node>>,
    body: Bytes,
) -> Result<Json<Value>, Failure> {
    let users = users_file::parse(&body).map_err(|error| Failure::bad(error.to_string()))?;
    if users.is_empty() {
        return Err(Failure::bad("there are no users in it"));
    }
    let cluster = ledger(&node)?;
    let (mut imported, mut kept) = (0u64, 0u64);
    for batch in users_file::batches(users) {
        let (added, there) = cluster.import_users(batch).await?;
        imported += u64::from(added);
        kept += u64::from(there);
    }
    Ok(Json(json!({"imported": imported, "kept": kept})))
}

pub(super) async fn export(State(node): State<Arc<Node>>) -> Result<Response, Failure> {
    let users = ledger(&node)?.read(|state| state.users().clone());
    let (text, _left_out) = users_file::export(&users, Export::All);
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], text).into_response())
}

pub(super) async fn disable(
    State(node): State<Arc<Node>>,
    Path(name): Path<String>,
) -> Result<Json<Value>, Failure> {
    set_disabled(&node, &name, true).await
}

pub(super) async fn enable(
    State(node): State<Arc<Node>>,
    Path(name): Path<String>,
) -> Result<Json<Value>, Failure> {
    set_disabled(&node, &name, false).await
}

async fn set_disabled(node: &Node, name: &str, disabled: bool) -> Result<Json<Value>, Failure> {
    let cluster = ledger(node)?;
    cluster.set_user_disabled(id_of(cluster, name)?, disabled).await?;
    Ok(Json(json!({"name": name, "disabled": disabled})))
}

pub(super) async fn password(
    State(node): State<Arc<Node>>,
    Path(name): Path<String>,
    body: Result<Json<NewPassword>, JsonRejection>,
) -> Result<Json<Value>, Failure> {
    let Json(NewPassword { password }) = body.map_err(Failure::json)?;
    check_password(&password)?;
    let cluster = ledger(&node)?;
    cluster.set_password(id_of(cluster, &name)?, &password).await?;
    Ok(Json(json!({"name": name})))
}

fn id_of(cluster: &Cluster, name: &str) -> Result<UserId, Failure> {
    cluster
        .read(|state| state.users().id(name))
        .ok_or_else(|| Failure::not_found(format!("there is no user {name:?}")))
}

fn check_password(password: &str) -> Result<(), Failure> {
    match (1..=MAX_PASSWORD).contains(&password.chars().count()) {
        true => Ok(()),
        false => Err(Failure::bad("a password has 1 to 256 characters")),
    }
}

/// Characters of a password; the ledger takes four bytes of each.
const MAX_PASSWORD: usize = 256;
