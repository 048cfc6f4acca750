//! The operator's HTTP port.

mod cluster;
mod rounds;
mod status;
mod users;

use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use seam_cluster::{ChangeError, Cluster, MemberError};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::drain;
use crate::node::Node;

/// All routes of `node`.
pub fn router(node: Arc<Node>) -> Router {
    let changes = Router::new()
        .route("/v1/cluster/init", post(cluster::init))
        .route(
            "/v1/cluster/restore",
            post(cluster::restore).layer(DefaultBodyLimit::max(MAX_BACKUP)),
        )
        .route("/v1/members", post(cluster::add_member))
        .route("/v1/members/{name}", delete(cluster::remove_member))
        .route("/v1/users", post(users::add))
        .route("/v1/users/import", post(users::import).layer(DefaultBodyLimit::max(MAX_IMPORT)))
        .route("/v1/users/{name}/disable", post(users::disable))
        .route("/v1/users/{name}/password", post(users::password))
        .route("/v1/users/{name}/enable", post(users::enable))
        .route("/v1/users/export", get(users::export))
        .route("/v1/backup", get(cluster::backup))
        .route("/v1/drain", post(begin_drain))
        .route("/v1/undrain", post(undrain))
        .route("/v1/log", post(set_log_filter))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&node), require_token));
    Router::new()
        .route("/healthz", get(health))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/openapi.json", get(openapi))
        .route("/", get(page))
        .route("/status", get(page))
        .route("/status.css", get(stylesheet))
        .route("/status.js", get(script))
        .route("/v1/status", get(status::status))
        .route("/v1/history", get(status::history))
        .route("/v1/members", get(cluster::members))
        .route("/v1/blocks", get(rounds::blocks))
        .route("/v1/rounds", get(rounds::rounds))
        .route("/v1/rounds/{height}", get(rounds::round))
        .route("/v1/payouts", get(rounds::payouts))
        .route("/v1/users", get(users::list))
        .merge(changes)
        .fallback(not_found)
        .method_not_allowed_fallback(not_allowed)
        .layer(middleware::from_fn_with_state(Arc::clone(&node), count))
        .with_state(node)
}

/// A refusal: its status, and `{"error": "…"}`.
#[derive(Debug)]
pub(crate) struct Failure(StatusCode, String);

impl Failure {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self(status, message.into())
    }

    fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// A body that is not what it should be.
    fn json(rejection: JsonRejection) -> Self {
        Self::new(rejection.status(), rejection.body_text())
    }

    fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.0, Json(json!({"error": self.1}))).into_response()
    }
}

impl From<ChangeError> for Failure {
    fn from(error: ChangeError) -> Self {
        let status = match &error {
            ChangeError::Refused(_) => StatusCode::CONFLICT,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, error.to_string())
    }
}

impl From<MemberError> for Failure {
    fn from(error: MemberError) -> Self {
        let status = match &error {
            MemberError::Refused(_) => StatusCode::CONFLICT,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, error.to_string())
    }
}

/// The ledger, where it runs.
fn ledger(node: &Node) -> Result<&Cluster, Failure> {
    node.cluster.get().ok_or_else(|| {
        Failure::new(StatusCode::SERVICE_UNAVAILABLE, "the node is starting: no ledger yet")
    })
}

async fn health(State(node): State<Arc<Node>>) -> Response {
    if node.has_failed() {
        return (StatusCode::SERVICE_UNAVAILABLE, "failed\n").into_response();
    }
    "ok\n".into_response()
}

async fn ready(State(node): State<Arc<Node>>) -> Response {
    let missing = node.missing();
    if missing.is_empty() {
        return Json(json!({"ready": true, "not_ready": missing})).into_response();
    }
    let body = Json(json!({"ready": false, "not_ready": missing}));
    (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
}

async fn metrics(State(node): State<Arc<Node>>) -> Response {
    ([(header::CONTENT_TYPE, OPEN_METRICS)], node.metrics.render()).into_response()
}

async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], include_str!("admin/openapi.json"))
        .into_response()
}

async fn page() -> Response {
    file("text/html; charset=utf-8", include_str!("../../web/status/index.html"))
}

async fn stylesheet() -> Response {
    file("text/css; charset=utf-8", include_str!("../../web/status/status.css"))
}

async fn script() -> Response {
    file("text/javascript; charset=utf-8", include_str!("../../web/status/status.js"))
}

/// A file of the status page.
fn file(kind: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-cache"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, text).into_response()
}

async fn begin_drain(State(node): State<Arc<Node>>) -> Response {
    node.begin_drain();
    tokio::spawn(drain::give_up_leadership(node));
    Json(json!({"draining": true})).into_response()
}

async fn undrain(State(node): State<Arc<Node>>) -> Response {
    node.undrain();
    Json(json!({"draining": false})).into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogFilter {
    filter: String,
}

async fn set_log_filter(
    State(node): State<Arc<Node>>,
    body: Result<Json<LogFilter>, JsonRejection>,
) -> Result<Json<Value>, Failure> {
    let Json(LogFilter { filter }) = body.map_err(Failure::json)?;
    node.filter.set(&filter).map_err(Failure::bad)?;
    Ok(Json(json!({"filter": filter})))
}

async fn not_found() -> Failure {
    Failure::not_found("there is nothing here; see /openapi.json")
}

async fn not_allowed() -> Failure {
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, "not with this method; see /openapi.json")
}

/// Lets through who has the token.
async fn require_token(State(node): State<Arc<Node>>, request: Request, next: Next) -> Response {
    let given = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "));
    let Some(token) = &node.token else {
        let why = "no admin token is configured: nothing can be changed over HTTP";
        return Failure::new(StatusCode::FORBIDDEN, why).into_response();
    };
    if given.is_some_and(|given| token.is(given)) {
        return next.run(request).await;
    }
    let mut refusal =
        Failure::new(StatusCode::UNAUTHORIZED, "this needs the admin token").into_response();
    let challenge = header::HeaderValue::from_static("Bearer");
    refusal.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    refusal
}

async fn count(State(node): State<Arc<Node>>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let class = match response.status().as_u16() {
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        _ => "5xx",
    };
    node.metrics.admin_requests.get_or_create(&[("code", class)]).inc();
    response
}

/// Bytes of a ledger that is restored; one of four million users has 1 GB.
const MAX_BACKUP: usize = 2 << 30;

/// Bytes of a users file that is imported.
const MAX_IMPORT: usize = 256 << 20;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Nothing from elsewhere, nothing inline.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     connect-src 'self'; img-src data:; frame-ancestors 'none'";
