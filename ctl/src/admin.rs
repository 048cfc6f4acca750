//! The admin HTTP interface of nodes and proxies, as a client.

use std::io::{self, Read};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use ureq::http::{Method, Request, Response};
use ureq::{Agent, AsSendBody, Body};

use crate::cli::is_host_and_port;
use crate::cluster_file::ClusterFile;
use crate::failure::Failure;

/// Long enough for a name look-up and a lost packet, short enough to try the next address.
const CONNECT: Duration = Duration::from_secs(3);
/// A change waits for a quorum; the server gives up before this.
const ANSWER: Duration = Duration::from_secs(30);
/// A backup of a large ledger takes its time.
const TRANSFER: Duration = Duration::from_secs(3600);
/// The most of an answer that is kept in memory: the export of a million users is below it.
const ANSWER_LIMIT: u64 = 512 << 20;
/// The most of an error text that is shown.
const ERROR_LIMIT: u64 = 4096;

/// Is this one of the pool's nodes, or a proxy?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A node.
    Node,
    /// A proxy.
    Proxy,
    /// Given by address only.
    Unknown,
}

/// One admin address.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    /// The member's name, where the cluster file tells it.
    pub(crate) name: Option<String>,
    /// `host:port`.
    pub(crate) address: String,
    /// Node or proxy.
    pub(crate) kind: Kind,
}

/// Admin addresses and the token for them.
#[derive(Debug)]
pub(crate) struct Admin {
    endpoints: Vec<Endpoint>,
    token: Option<String>,
    agent: Agent,
}

/// What goes with a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Payload<'a> {
    /// Nothing.
    None,
    /// A JSON document.
    Json(&'a Value),
    /// Bytes as they are, with their media type.
    Bytes(&'static str, &'a [u8]),
}

/// Why a request to one address brought no result.
enum Trouble {
    /// It was never sent: another address may be tried.
    NotSent(String),
    /// It may have been acted on, or not.
    Unknown(String),
    /// The other side answered and refused; with its HTTP status.
    Refused(u16, String),
}

impl Admin {
    /// All of a local cluster.
    pub(crate) fn of_cluster(file: &ClusterFile, token: String) -> Self {
        let nodes = file.nodes.iter().map(|node| Endpoint {
            name: Some(node.name.clone()),
            address: node.admin.clone(),
            kind: Kind::Node,
        });
        let proxies = file.proxies.iter().map(|proxy| Endpoint {
            name: Some(proxy.name.clone()),
            address: proxy.admin.clone(),
            kind: Kind::Proxy,
        });
        Self { endpoints: nodes.chain(proxies).collect(), token: Some(token), agent: agent() }
    }

    /// What was named on the command line.
    pub(crate) fn of_addresses(addresses: &[String], token: Option<String>) -> Self {
        let endpoints = addresses
            .iter()
            .map(|address| Endpoint { name: None, address: address.clone(), kind: Kind::Unknown })
            .collect();
        Self { endpoints, token, agent: agent() }
    }

    /// Every address, in order.
    pub(crate) fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// Where a command goes that one node has to be given, and no other.
    pub(crate) fn first_endpoint(&self) -> Result<&Endpoint, Failure> {
        self.endpoints
            .first()
            .ok_or_else(|| Failure::Usage("the cluster file names no node".to_owned()))
    }

    /// The address that a command on one member goes to.
    pub(crate) fn endpoint(&self, name: Option<&str>) -> Result<&Endpoint, Failure> {
        match (name, self.endpoints.as_slice()) {
            (None, [only]) => Ok(only),
            (None, _) => Err(Failure::Usage("which one? Give its name".to_owned())),
            (Some(name), all) => {
                // An address alone does not tell a name: one address is what the caller means.
                let named = all.iter().find(|endpoint| endpoint.name.as_deref() == Some(name));
                match (named, all) {
                    (Some(endpoint), _) => Ok(endpoint),
                    (None, [only]) if only.name.is_none() => Ok(only),
                    _ => Err(Failure::Usage(format!("the cluster file knows no {name:?}"))),
                }
            }
        }
    }

    /// Reads JSON from the first address that has an answer.
    pub(crate) fn get(&self, path: &str) -> Result<Value, Failure> {
        self.first(Method::GET, path, Payload::None, ANSWER).and_then(json)
    }

    /// Reads JSON from one address.
    pub(crate) fn get_at(&self, endpoint: &Endpoint, path: &str) -> Result<Value, Failure> {
        self.once(endpoint, Method::GET, path, Payload::None, ANSWER)
            .map_err(Failure::from)
            .and_then(json)
    }

    /// The HTTP status that one address answers with.
    pub(crate) fn status_at(&self, endpoint: &Endpoint, path: &str) -> Result<u16, Failure> {
        match self.once(endpoint, Method::GET, path, Payload::None, ANSWER) {
            Ok(response) => Ok(response.status().as_u16()),
            Err(Trouble::Refused(status, _)) => Ok(status),
            Err(trouble) => Err(trouble.into()),
        }
    }

    /// Reads a document of any size from the first address that has it.
    pub(crate) fn download(&self, path: &str) -> Result<impl Read, Failure> {
        let response = self.first(Method::GET, path, Payload::None, TRANSFER)?;
        Ok(response.into_body().into_with_config().limit(u64::MAX).reader())
    }

    /// Changes something, through the first address that can be reached.
    pub(crate) fn change(
        &self,
        method: Method,
        path: &str,
        payload: Payload<'_>,
    ) -> Result<Value, Failure> {
        self.first(method, path, payload, ANSWER).and_then(json)
    }

    /// Changes something at one address.
    pub(crate) fn change_at(
        &self,
        endpoint: &Endpoint,
        method: Method,
        path: &str,
        payload: Payload<'_>,
    ) -> Result<Value, Failure> {
        self.once(endpoint, method, path, payload, TRANSFER).map_err(Failure::from).and_then(json)
    }

    /// Tries the addresses in turn. A request that may have been acted on is sent again only where that is
    /// harmless, that is, where it only reads.
    fn first(
        &self,
        method: Method,
        path: &str,
        payload: Payload<'_>,
        patience: Duration,
    ) -> Result<Response<Body>, Failure> {
        let mut last = Trouble::NotSent("no node is named".to_owned());
        for endpoint in self.endpoints.iter().filter(|endpoint| endpoint.kind != Kind::Proxy) {
            last = match self.once(endpoint, method.clone(), path, payload, patience) {
                Ok(response) => return Ok(response),
                Err(trouble) => trouble,
            };
            let again = match &last {
                Trouble::NotSent(_) => true,
                Trouble::Unknown(_) => method == Method::GET,
                Trouble::Refused(status, _) => method == Method::GET && *status == 503,
            };
            if !again {
                break;
            }
        }
        Err(last.into())
    }

    fn send<B: AsSendBody>(
        &self,
        request: Request<B>,
        patience: Duration,
    ) -> Result<Response<Body>, ureq::Error> {
        self.agent.run(self.agent.configure_request(request).timeout_global(Some(patience)).build())
    }

    fn once(
        &self,
        endpoint: &Endpoint,
        method: Method,
        path: &str,
        payload: Payload<'_>,
        patience: Duration,
    ) -> Result<Response<Body>, Trouble> {
        let address = &endpoint.address;
        if !is_host_and_port(address) {
            return Err(Trouble::NotSent(format!("{address}: not HOST:PORT")));
        }
        let mut request = Request::builder().method(method).uri(format!("http://{address}{path}"));
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let json;
        let (kind, bytes): (_, &[u8]) = match payload {
            Payload::None => (None, &[]),
            Payload::Json(value) => {
                json = value.to_string();
                (Some("application/json"), json.as_bytes())
            }
            Payload::Bytes(kind, bytes) => (Some(kind), bytes),
        };
        let unusable = |error: ureq::http::Error| Trouble::NotSent(format!("{address}: {error}"));
        let answer = match kind {
            None => self.send(request.body(()).map_err(unusable)?, patience),
            Some(kind) => {
                let request = request.header("content-type", kind).body(bytes).map_err(unusable)?;
                self.send(request, patience)
            }
        };
        let response = answer.map_err(|error| trouble(address, &error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let text = error_text(response);
        let text = if text.is_empty() { status.to_string() } else { text };
        Err(Trouble::Refused(status.as_u16(), format!("{address}: {text}")))
    }
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::NotSent(text) => Self::Unreachable(text),
            Trouble::Unknown(text) => {
                Self::Unreachable(format!("{text} (it may have been done, or not)"))
            }
            Trouble::Refused(_, text) => Self::Refused(text),
        }
    }
}

/// Percent-encodes one path segment or query value.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

/// The rows of an answer that is either a list or an object with a list under `key`.
pub(crate) fn rows(answer: &Value, key: &str) -> Vec<Value> {
    answer.as_array().or_else(|| answer[key].as_array()).cloned().unwrap_or_default()
}

fn agent() -> Agent {
    Agent::config_builder()
        .http_status_as_error(false)
        .timeout_connect(Some(CONNECT))
        .max_redirects(0)
        // The admin interface is asked directly, whatever the environment says about proxies.
        .proxy(None)
        .user_agent(concat!("seamctl/", env!("CARGO_PKG_VERSION")))
        .build()
        .new_agent()
}

fn trouble(address: &str, error: &ureq::Error) -> Trouble {
    let text = format!("{address}: {error}");
    match error {
        ureq::Error::ConnectionFailed
        | ureq::Error::HostNotFound
        | ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => {
            Trouble::NotSent(text)
        }
        ureq::Error::Io(io) if io.kind() == io::ErrorKind::ConnectionRefused => {
            Trouble::NotSent(text)
        }
        _ => Trouble::Unknown(text),
    }
}

/// The message in an error answer: `{"error": "…"}` or plain text.
fn error_text(response: Response<Body>) -> String {
    #[derive(Deserialize)]
    struct ErrorBody {
        error: String,
    }

    let text = response
        .into_body()
        .into_with_config()
        .limit(ERROR_LIMIT)
        .lossy_utf8(true)
        .read_to_string()
        .unwrap_or_default();
    match serde_json::from_str::<ErrorBody>(&text) {
        Ok(body) => body.error,
        Err(_) => text.trim().to_owned(),
    }
}

fn json(response: Response<Body>) -> Result<Value, Failure> {
    let text = response
        .into_body()
        .into_with_config()
        .limit(ANSWER_LIMIT)
        .read_to_string()
        .map_err(|error| Failure::Unreachable(format!("the answer broke off: {error}")))?;
    if text.trim().is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_str(&text)
        .map_err(|error| Failure::Refused(format!("the answer is not JSON: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_place_in_the_path() {
        assert_eq!(escape("a/../b?c#d e"), "a%2F..%2Fb%3Fc%23d%20e");
    }

    #[test]
    fn address_that_nobody_listens_on_is_unreachable() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let admin = Admin::of_addresses(&[address], None);
        assert!(matches!(admin.get("/v1/status"), Err(Failure::Unreachable(_))));
    }
}
