//! Links to every node, kept up: who is asked for the members, one task a node, and what its
//! frames do to sessions.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use seam_cluster::link::frame::{NodeState, ProxyHello, ToNode, ToProxy, VERSIONS};
use seam_cluster::link::{Connection, LinkError, Timing, connect};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::dial::{Dial, DialError, Stream};
use crate::hub::Hub;
use crate::metrics::labels;
use crate::uplink::Uplink;

/// The waits between two attempts to reach a node: doubled from the first to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// How long a connection to a node may take to come up.
const DIAL: Duration = Duration::from_secs(2);

/// While no node is linked the seeds are asked this often.
const ASK_SEEDS: Duration = Duration::from_millis(500);

/// How often nodes hear how many sessions this proxy has.
const STATS: Duration = Duration::from_secs(1);

/// Sessions that get a job before others have their turn on this thread.
const FAN_OUT: usize = 128;

/// Keeps a link to each member up, for as long as it is polled.
pub(crate) async fn keep(hub: Arc<Hub>, dial: Arc<dyn Dial>, timing: Timing) {
    let mut tasks = JoinSet::new();
    let mut running: HashMap<Arc<str>, tokio::task::AbortHandle> = HashMap::new();
    tasks.spawn(ask_seeds(Arc::clone(&hub), Arc::clone(&dial), timing));
    tasks.spawn(tell_stats(Arc::clone(&hub)));
    loop {
        for (name, node) in hub.nodes() {
            let alive = running.get(&name).is_some_and(|task| !task.is_finished());
            if !alive && node.member {
                let link =
                    keep_link(Arc::clone(&hub), Arc::clone(&dial), Arc::clone(&name), timing);
                running.insert(name, tasks.spawn(link));
            }
        }
        tokio::select! {
            () = hub.members_changed.notified() => {}
            Some(ended) = tasks.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "link task failed");
                }
            }
        }
    }
}

/// While nobody is linked, asks the configured nodes who is in the cluster.
async fn ask_seeds(hub: Arc<Hub>, dial: Arc<dyn Dial>, timing: Timing) {
    loop {
        if hub.nodes().values().all(|node| node.uplink.is_none()) {
            for seed in &hub.config.cluster.seeds {
                match timeout(DIAL + timing.greeting, ask(&hub, &*dial, seed, timing)).await {
                    Ok(Ok(state)) => {
                        hub.learn_members(&state.members);
                        if !state.members.is_empty() {
                            break;
                        }
                    }
                    Ok(Err(error)) => tracing::debug!(seed, %error, "seed"),
                    Err(_) => tracing::debug!(seed, "seed does not answer"),
                }
            }
        }
        sleep(ASK_SEEDS).await;
    }
}

async fn ask(
    hub: &Hub,
    dial: &dyn Dial,
    seed: &str,
    timing: Timing,
) -> Result<NodeState, LinkFailure> {
    let stream = dial.dial(seed, None).await?;
    let (mut connection, _sender, hello) = connect(stream, &greeting(hub), timing).await?;
    hub.learn_cluster(hello.cluster.as_deref());
    loop {
        let mut batch = connection.batch().await?;
        while let Some(frame) = batch.next()? {
            if let ToProxy::State(state) = ToProxy::decode(frame).map_err(LinkError::from)? {
                return Ok(state);
            }
        }
    }
}

async fn tell_stats(hub: Arc<Hub>) {
    loop {
        sleep(STATS).await;
        let sessions = u32::try_from(hub.session_count()).unwrap_or(u32::MAX);
        for uplink in hub.nodes().into_values().filter_map(|node| node.uplink) {
            uplink.sender.send(&ToNode::Stats { sessions });
        }
    }
}

/// Keeps the link to one node up until it is a member no longer.
async fn keep_link(hub: Arc<Hub>, dial: Arc<dyn Dial>, name: Arc<str>, timing: Timing) {
    let mut backoff = BACKOFF.0;
    let mut said = false;
    loop {
        let Some(node) = hub.nodes().remove(&name).filter(|node| node.member) else {
            hub.forget_node(&name);
            return;
        };
        let opened = timeout(DIAL, dial.dial(&node.address, Some(&name)))
            .await
            .unwrap_or(Err(DialError::Timeout));
        let opened = match opened {
            Ok(stream) => connect(stream, &greeting(&hub), timing).await.map_err(Into::into),
            Err(error) => Err(LinkFailure::Dial(error)),
        };
        let failure = match opened {
            Ok((connection, sender, hello)) => {
                hub.learn_cluster(hello.cluster.as_deref());
                tracing::info!(node = %name, address = node.address, "link up");
                (backoff, said) = (BACKOFF.0, false);
                let uplink = Uplink::new(Arc::clone(&name), sender);
                let _down = Down { hub: &hub, uplink: &uplink };
                hub.link_up(&uplink);
                serve(&hub, &uplink, connection).await.into()
            }
            Err(failure) => failure,
        };
        let reason = failure.reason();
        let labels = labels([("node", &name), ("reason", reason)]);
        hub.metrics.link_losses.get_or_create(&labels).inc();
        if said {
            tracing::debug!(node = %name, reason, error = %failure, "no link");
        } else {
            tracing::warn!(node = %name, reason, error = %failure, "no link");
            said = true;
        }
        sleep(backoff).await;
        backoff = (backoff * 2).min(BACKOFF.1);
    }
}

/// Takes the sessions elsewhere when the link is over, whatever ended it.
struct Down<'a> {
    hub: &'a Arc<Hub>,
    uplink: &'a Arc<Uplink>,
}

impl Drop for Down<'_> {
    fn drop(&mut self) {
        self.hub.link_down(self.uplink);
    }
}

/// Carries out what a node sends until the link ends, and says why it did.
async fn serve(hub: &Arc<Hub>, uplink: &Arc<Uplink>, connection: Connection<Stream>) -> LinkError {
    let mut connection = connection;
    loop {
        match connection.batch().await {
            Err(error) => return error,
            Ok(mut batch) => loop {
                match batch.next() {
                    Ok(None) => break,
                    Ok(Some(frame)) => {
                        if let Err(error) = take(hub, uplink, frame).await {
                            return error;
                        }
                    }
                    Err(error) => return error,
                }
            },
        }
        uplink.unblock();
    }
}

async fn take(hub: &Arc<Hub>, uplink: &Arc<Uplink>, frame: &[u8]) -> Result<(), LinkError> {
    match ToProxy::decode(frame)? {
        ToProxy::Out { session: number, settled, ticket, bytes } => {
            if let Some(session) = uplink.get(number) {
                session.deliver(hub, (uplink, number), settled, ticket, bytes);
            }
        }
        ToProxy::Notify { bytes } => fan_out(hub, uplink, bytes).await,
        ToProxy::Wants { session: number, on } => {
            if let Some(session) = uplink.get(number) {
                session.set_wants((uplink, number), on);
            }
        }
        ToProxy::Closed { session: number, why } => {
            if let Some(session) = uplink.get(number) {
                uplink.remove(number);
                session.closed_by_node(hub, (uplink, number), why);
            }
        }
        ToProxy::State(state) => hub.node_state(uplink, state),
        ToProxy::Range { first, count } => hub.range_came(first, count),
        ToProxy::Pulse { bytes } => uplink.heard(bytes),
        ToProxy::Hello(_) | ToProxy::Ping | ToProxy::NoRange => {}
    }
    Ok(())
}

async fn fan_out(hub: &Arc<Hub>, uplink: &Arc<Uplink>, bytes: &[u8]) {
    let began = Instant::now();
    let mut sent = 0;
    for chunk in uplink.sessions().chunks(FAN_OUT) {
        sent += chunk.iter().filter(|session| session.notify(hub, uplink, bytes)).count();
        tokio::task::yield_now().await;
    }
    if sent > 0 {
        hub.metrics.notify_sent.inc_by(sent as u64);
        hub.metrics.notify_fanout_seconds.observe(began.elapsed().as_secs_f64());
    }
}

fn greeting(hub: &Hub) -> ProxyHello {
    ProxyHello { versions: VERSIONS, name: hub.config.name.clone(), cluster: hub.cluster() }
}

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
enum LinkFailure {
    #[error("{0}")]
    Dial(#[from] DialError),
    #[error("{0}")]
    Link(#[from] LinkError),
}

impl LinkFailure {
    /// The label of `seam_proxy_link_losses_total`.
    fn reason(&self) -> &'static str {
        match self {
            Self::Dial(_) => "refused",
            Self::Link(LinkError::Silent(_)) => "silent",
            Self::Link(LinkError::Closed | LinkError::ClosedHere) => "closed",
            Self::Link(LinkError::Io(_)) => "reset",
            Self::Link(_) => "protocol",
        }
    }
}
