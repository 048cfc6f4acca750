//! The operator's port: health, metrics, status, drain, and the status page.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequest, Request, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use parking_lot::Mutex;
use seam_cluster::logging::Filter;
use seam_cluster::pulse::{LIFETIME_SECONDS, Pulse};
use seam_cluster::scrape::Usage;
use serde::Deserialize;
use serde_json::{Value, json};
use subtle::ConstantTimeEq;
use tokio::net::TcpListener;

use crate::config;
use crate::drain;
use crate::fault::{Code, Fault};
use crate::hub::Hub;
use crate::metrics::labels;
use crate::session::Phase;

/// Seconds between two samples of `/v1/history`, and how many are kept: an hour.
const SAMPLE_SECONDS: u64 = 10;
const SAMPLES: usize = 360;

/// Nothing from elsewhere, nothing inline.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     connect-src 'self'; img-src data:; frame-ancestors 'none'";

/// The bearer token for what changes something. It does not print.
#[derive(Clone)]
pub struct Token(Option<Arc<str>>);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Token {
    fn allows(&self, headers: &HeaderMap) -> bool {
        let given = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "));
        match (&self.0, given) {
            (Some(token), Some(given)) => bool::from(token.as_bytes().ct_eq(given.as_bytes())),
            _ => false,
        }
    }
}

/// Reads the token from its file, else from `SEAM_ADMIN_TOKEN`. Without one nothing can be changed.
///
/// # Errors
/// [`Fault`] if a file is named and has none.
pub fn token(config: &config::Admin) -> Result<Token, Fault> {
    let file = &config.token_file;
    let text = if file.as_os_str().is_empty() {
        std::env::var("SEAM_ADMIN_TOKEN").unwrap_or_default()
    } else {
        let text = std::fs::read_to_string(file)
            .map_err(|error| Fault::new(Code::Secret, format!("{}: {error}", file.display())))?;
        if text.trim().is_empty() {
            return Err(Fault::new(Code::Secret, format!("{} is empty", file.display())));
        }
        text
    };
    let text = text.trim();
    Ok(Token((!text.is_empty()).then(|| text.into())))
}

#[derive(Clone)]
struct Admin {
    hub: Arc<Hub>,
    token: Token,
    filter: Filter,
    history: Arc<Mutex<VecDeque<Value>>>,
}

/// Answers the operator for as long as it is polled.
pub(crate) async fn serve(hub: Arc<Hub>, listener: TcpListener, token: Token, filter: Filter) {
    let admin = Admin { hub, token, filter, history: Arc::default() };
    let sampler = sample(admin.clone());
    let served = axum::serve(listener, router(admin));
    tokio::select! {
        result = served => if let Err(error) = result {
            tracing::error!(%error, "admin port");
        },
        () = sampler => {}
    }
}

fn router(admin: Admin) -> Router {
    let page = |kind, text| move || async move { page(kind, text) };
    let html = include_str!("../../web/status/index.html");
    let css = include_str!("../../web/status/status.css");
    let js = include_str!("../../web/status/status.js");
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/openapi.json", get(openapi))
        .route(
            "/v1/status",
            get(|State(admin): State<Admin>| async move { Json(status(&admin.hub)) }),
        )
        .route("/v1/history", get(history))
        .route("/v1/drain", post(start_drain))
        .route("/v1/undrain", post(end_drain))
        .route("/v1/log", post(set_log_filter))
        .route("/", get(page("text/html; charset=utf-8", html)))
        .route("/status", get(page("text/html; charset=utf-8", html)))
        .route("/status.css", get(page("text/css", css)))
        .route("/status.js", get(page("text/javascript", js)))
        .fallback(|| async { problem(StatusCode::NOT_FOUND, "no such path") })
        .method_not_allowed_fallback(|| async {
            problem(StatusCode::METHOD_NOT_ALLOWED, "method not allowed")
        })
        .layer(middleware::from_fn_with_state(admin.clone(), count))
        .with_state(admin)
}

async fn count(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let class = match response.status().as_u16() {
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        _ => "5xx",
    };
    admin.hub.metrics.admin_requests.get_or_create(&labels([("code", class)])).inc();
    response
}

async fn readyz(State(admin): State<Admin>) -> Response {
    let missing = not_ready(&admin.hub);
    if missing.is_empty() {
        return "ready\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", missing.join(", ")))
        .into_response()
}

async fn metrics(State(admin): State<Admin>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], admin.hub.metrics.render()).into_response()
}

async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], include_str!("openapi.json")).into_response()
}

async fn history(State(admin): State<Admin>) -> Json<Value> {
    let samples: Vec<Value> = admin.history.lock().iter().cloned().collect();
    Json(json!({ "interval": SAMPLE_SECONDS, "samples": samples }))
}

async fn start_drain(State(admin): State<Admin>, headers: HeaderMap) -> Response {
    if !admin.token.allows(&headers) {
        return unauthorized();
    }
    if admin.hub.start_drain() {
        tokio::spawn(drain::run(Arc::clone(&admin.hub)));
    }
    (StatusCode::ACCEPTED, Json(json!({ "draining": true }))).into_response()
}

async fn end_drain(State(admin): State<Admin>, headers: HeaderMap) -> Response {
    if !admin.token.allows(&headers) {
        return unauthorized();
    }
    admin.hub.end_drain();
    Json(json!({ "draining": false })).into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogFilter {
    filter: String,
}

async fn set_log_filter(State(admin): State<Admin>, request: Request) -> Response {
    // Who has no token learns nothing, not even what is wrong with the body.
    if !admin.token.allows(request.headers()) {
        return unauthorized();
    }
    match Json::<LogFilter>::from_request(request, &()).await {
        Err(rejection) => problem(rejection.status(), &rejection.body_text()),
        Ok(Json(LogFilter { filter })) => match admin.filter.set(&filter) {
            Err(why) => problem(StatusCode::BAD_REQUEST, &why),
            Ok(()) => Json(json!({ "filter": filter })).into_response(),
        },
    }
}

fn unauthorized() -> Response {
    let mut response = problem(StatusCode::UNAUTHORIZED, "the bearer token is missing or wrong");
    response
        .headers_mut()
        .insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
    response
}

fn problem(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({ "error": message }))).into_response()
}

fn page(kind: &'static str, text: &'static str) -> Response<Body> {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-cache"),
        (HeaderName::from_static("x-content-type-options"), "nosniff"),
    ];
    (headers, text).into_response()
}

fn not_ready(hub: &Hub) -> Vec<&'static str> {
    let mut missing = Vec::new();
    if hub.view().ring.is_empty() {
        missing.push("node");
    }
    if hub.is_stopping() {
        missing.push("serving");
    }
    missing
}

/// The document of `docs/status-json.md`, as a proxy knows it.
fn status(hub: &Hub) -> Value {
    let view = hub.view();
    let heard: BTreeMap<Arc<str>, (Pulse, f64)> = hub
        .nodes()
        .iter()
        .filter_map(|(name, node)| Some((Arc::clone(name), node.uplink.as_ref()?.pulse()?)))
        .collect();
    let cluster = cluster(&heard);
    let nodes: Vec<Value> = hub
        .nodes()
        .iter()
        .map(|(name, node)| {
            let (pulse, age) = heard.get(name).map(|(pulse, age)| (pulse, age)).unzip();
            let fresh = pulse.filter(|_| age.is_some_and(|age| *age <= LIFETIME_SECONDS));
            let unknown = ["unknown".to_owned()];
            json!({
                "name": &**name,
                "role": if cluster.leader.as_deref() == Some(name) { "leader" } else { "unknown" },
                "up": node.uplink.is_some(),
                "ready": node.ready,
                "not_ready": match (node.ready, fresh) {
                    (true, _) => &[][..],
                    (false, Some(pulse)) => &pulse.not_ready,
                    (false, None) => &unknown,
                },
                "draining": node.draining,
                "sessions": node.uplink.as_ref().map_or(0, |uplink| uplink.count()),
                "hashrate": fresh.map(|pulse| pulse.hashrate),
                "ring": view.ring.ratio(name),
                "height": pulse.map(|pulse| pulse.height),
                "tip": pulse.map(|pulse| pulse.tip.as_deref()),
                "lag": null,
                "age": age,
            })
        })
        .collect();
    let up = nodes.iter().filter(|node| node["ready"] == true).count();
    let not_ready = not_ready(hub);
    let held = hub.sessions().iter().filter(|session| session.lock().phase == Phase::Held).count();
    let sessions = hub.session_count();
    let quorum = (!view.ring.is_empty()).then_some(true);
    let needed = nodes.len() / 2 + 1;
    let margin = up as i64 - needed as i64;
    let because = if nodes.is_empty() {
        "no node is known yet".to_owned()
    } else {
        format!("{up} of {} nodes are ready, seen from here; {needed} are a quorum", nodes.len())
    };
    let moves = |result| hub.metrics.moves_with(result);
    json!({
        "format": 1,
        "kind": "proxy",
        "name": hub.config.name,
        "version": env!("CARGO_PKG_VERSION"),
        "time": now(),
        "started": Usage::read().started,
        "chain": null,
        "ready": not_ready.is_empty(),
        "not_ready": not_ready,
        "draining": hub.is_stopping(),
        "cluster_id": hub.cluster(),
        "leader": cluster.leader,
        "term": null,
        "quorum": quorum,
        "voters": nodes.len(),
        "voters_up": up,
        "margin": margin,
        "can_lose_one": margin >= 1 && cluster.can_lose_one,
        "because": because,
        "ledger": null,
        "nodes": nodes,
        "proxies": [{
            "name": hub.config.name, "up": true, "ready": not_ready.is_empty(),
            "draining": hub.is_stopping(), "sessions": sessions, "held": held,
        }],
        "bitcoin": null,
        "sessions": sessions,
        "hashrate": null,
        "shares": null,
        "round": null,
        "blocks": [],
        "moves": {
            "moved": moves("moved"), "recoverable": moves("recoverable"), "lost": moves("lost"),
        },
        "drains": hub.drains(),
    })
}

/// What the nodes' newest words say about the cluster: the leader's own where there is one.
fn cluster(heard: &BTreeMap<Arc<str>, (Pulse, f64)>) -> Pulse {
    let fresh = heard.iter().filter(|(_, (pulse, age))| pulse.quorum && *age <= LIFETIME_SECONDS);
    let best = fresh.max_by_key(|(name, (pulse, _))| pulse.leader.as_deref() == Some(&***name));
    best.map(|(_, (pulse, _))| pulse.clone()).unwrap_or_default()
}

async fn sample(admin: Admin) {
    loop {
        {
            let mut history = admin.history.lock();
            if history.len() == SAMPLES {
                history.pop_front();
            }
            history.push_back(json!([now(), admin.hub.session_count(), null, null, null]));
        }
        tokio::time::sleep(Duration::from_secs(SAMPLE_SECONDS)).await;
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
