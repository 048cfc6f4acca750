//! Admin HTTP, as anyone may send it.

use serde_json::Value;

/// An answer: status, headers as text, body.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) text: String,
}

/// Sends a request; `body` with its media type. Panics if nobody answers.
pub(crate) fn send(
    method: &str,
    url: &str,
    token: Option<&str>,
    body: Option<(&str, &[u8])>,
) -> Reply {
    let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
    let mut request = ureq::http::Request::builder().method(method).uri(url);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let answer = match body {
        None => agent.run(request.body(()).unwrap()),
        Some((kind, bytes)) => agent.run(request.header("content-type", kind).body(bytes).unwrap()),
    };
    let answer = answer.unwrap_or_else(|error| panic!("{method} {url}: {error}"));
    let status = answer.status().as_u16();
    let mut text = format!("{:?}\n", answer.headers());
    let body = answer.into_body().into_with_config().lossy_utf8(true).read_to_string();
    text.push_str(&body.unwrap());
    Reply { status, text }
}

/// Reads JSON; panics unless it comes with 200.
pub(crate) fn get(url: &str) -> Value {
    let mut answer = ureq::get(url).call().unwrap_or_else(|error| panic!("{url}: {error}"));
    answer.body_mut().read_json().unwrap()
}
