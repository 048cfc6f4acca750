//! Either end of a link: the greeting, received frames in batches, heartbeats.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadHalf};
use tokio::time::{Instant, MissedTickBehavior};

use super::frame::{self, FrameError, NodeHello, ProxyHello, ToNode, ToProxy};
use super::queue::{Sender, queue};

/// What is read at once.
const READ: usize = 64 << 10;

/// How heartbeats are kept.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Between two pings of ours.
    pub ping: Duration,
    /// Silence after which the other end is taken for dead.
    pub silence: Duration,
    /// For the greeting.
    pub greeting: Duration,
}

impl Default for Timing {
    /// Finds a silent peer in at most 1.5 s.
    fn default() -> Self {
        Self {
            ping: Duration::from_millis(300),
            silence: Duration::from_millis(1200),
            greeting: Duration::from_secs(3),
        }
    }
}

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The stream failed.
    #[error("link: {0}")]
    Io(#[from] io::Error),
    /// The other end closed it.
    #[error("link closed by the other end")]
    Closed,
    /// This end closed it, or the other end stopped reading.
    #[error("link closed here")]
    ClosedHere,
    /// Nothing was heard for so long.
    #[error("link silent for {0:?}")]
    Silent(Duration),
    /// The other end sent what this one does not understand.
    #[error("link: {0}")]
    Frame(#[from] FrameError),
    /// The greeting was no greeting.
    #[error("link: no greeting")]
    NoGreeting,
    /// The two ends have no version in common.
    #[error("link: versions {0:?} here and {1:?} there have none in common")]
    Version((u16, u16), (u16, u16)),
    /// The other end belongs to another cluster.
    #[error("link: cluster {there} there, {here} here")]
    OtherCluster {
        /// Ours.
        here: String,
        /// Theirs.
        there: String,
    },
}

/// The receiving half of one end; the sending half is its [`Sender`].
///
/// Dropping it ends the link.
#[derive(Debug)]
pub struct Connection<S> {
    stream: ReadHalf<S>,
    sender: Sender,
    timing: Timing,
    /// Received bytes; the first `used` of them have been handed out.
    received: Vec<u8>,
    used: usize,
    heard: Instant,
    /// When the next ping is due.
    tick: tokio::time::Interval,
    /// The last time the clock was looked at: a jump means that *we* were stopped.
    looked: Instant,
    ping: &'static [u8],
}

/// Opens a link from a proxy's end.
///
/// # Errors
/// [`LinkError`] if the other end is no node of the same cluster that speaks a common version.
pub async fn connect<S>(
    stream: S,
    hello: &ProxyHello,
    timing: Timing,
) -> Result<(Connection<S>, Sender, NodeHello), LinkError>
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let mut connection = Connection::start(stream, timing, PROXY_PING);
    connection.sender.send(&ToNode::Hello(hello.clone()));
    let greeting = connection.greeting(|frame| match ToProxy::decode(frame)? {
        ToProxy::Hello(hello) => Ok(hello),
        _ => Err(LinkError::NoGreeting),
    });
    let theirs = greeting.await?;
    let (oldest, newest) = hello.versions;
    if !(oldest..=newest).contains(&theirs.version) {
        return Err(LinkError::Version(hello.versions, (theirs.version, theirs.version)));
    }
    same_cluster(hello.cluster.as_deref(), theirs.cluster.as_deref())?;
    let sender = connection.sender.clone();
    Ok((connection, sender, theirs))
}

/// Answers a link at a node's end. `name` and `cluster` are the node's own.
///
/// # Errors
/// [`LinkError`] if the other end is no proxy of the same cluster that speaks a common version.
pub async fn accept<S>(
    stream: S,
    name: &str,
    cluster: Option<&str>,
    timing: Timing,
) -> Result<(Connection<S>, Sender, ProxyHello), LinkError>
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let mut connection = Connection::start(stream, timing, NODE_PING);
    let greeting = connection.greeting(|frame| match ToNode::decode(frame)? {
        ToNode::Hello(hello) => Ok(hello),
        _ => Err(LinkError::NoGreeting),
    });
    let theirs = greeting.await?;
    let version = frame::VERSIONS.1.min(theirs.versions.1);
    // The proxy judges the cluster too, from this answer: so it gets one even if it is wrong.
    connection.sender.send(&ToProxy::Hello(NodeHello {
        version,
        name: name.to_owned(),
        cluster: cluster.map(str::to_owned),
    }));
    if version < frame::VERSIONS.0.max(theirs.versions.0) {
        return Err(LinkError::Version(frame::VERSIONS, theirs.versions));
    }
    same_cluster(cluster, theirs.cluster.as_deref())?;
    let sender = connection.sender.clone();
    Ok((connection, sender, theirs))
}

impl<S: AsyncRead + AsyncWrite + Send + 'static> Connection<S> {
    fn start(stream: S, timing: Timing, ping: &'static [u8]) -> Self {
        let (read, write) = tokio::io::split(stream);
        let (sender, writer) = queue();
        tokio::spawn(async move {
            // The reading half sees the same failure and reports it.
            let _ = writer.run(write).await;
        });
        let mut tick = tokio::time::interval(timing.ping);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let now = Instant::now();
        Self {
            stream: read,
            sender,
            timing,
            received: Vec::new(),
            used: 0,
            heard: now,
            tick,
            looked: now,
            ping,
        }
    }

    /// Waits for at least one whole frame, and gives all that are there. Sends heartbeats
    /// meanwhile. May be dropped and called again without losing anything.
    ///
    /// # Errors
    /// [`LinkError`] when the link is over.
    pub async fn batch(&mut self) -> Result<Batch<'_>, LinkError> {
        self.received.drain(..self.used);
        self.used = 0;
        while frame::split(&self.received)?.is_none() {
            self.fill().await?;
        }
        Ok(Batch { received: &self.received, used: &mut self.used })
    }

    async fn fill(&mut self) -> Result<(), LinkError> {
        self.received.reserve(READ);
        loop {
            tokio::select! {
                biased;
                read = self.stream.read_buf(&mut self.received) => {
                    let length = read?;
                    if length == 0 {
                        return Err(LinkError::Closed);
                    }
                    self.sender.received(length);
                    self.heard = Instant::now();
                    // A stream that always has more would never let the tick come up.
                    if self.heard - self.looked > self.timing.ping {
                        self.beat(self.heard)?;
                    }
                    return Ok(());
                }
                now = self.tick.tick() => self.beat(now)?,
                () = self.sender.closed() => return Err(LinkError::ClosedHere),
            }
        }
    }

    fn beat(&mut self, due: Instant) -> Result<(), LinkError> {
        let now = Instant::now().max(due);
        if now - self.looked > 2 * self.timing.ping {
            // We did not run (a stopped process, a starved machine), so the silence is ours: the
            // other end gets one more interval to be heard.
            self.heard = self.heard.max(now - self.timing.silence + 2 * self.timing.ping);
        }
        self.looked = now;
        let silence = now - self.heard;
        if silence >= self.timing.silence {
            return Err(LinkError::Silent(silence));
        }
        self.sender.send_with(|to| to.extend_from_slice(self.ping));
        Ok(())
    }

    async fn greeting<T>(
        &mut self,
        read: impl FnOnce(&[u8]) -> Result<T, LinkError>,
    ) -> Result<T, LinkError> {
        let deadline = self.timing.greeting;
        let first = async {
            loop {
                if let Some(extent) = frame::split(&self.received)? {
                    self.used = extent.end;
                    return read(&self.received[extent]);
                }
                self.received.reserve(READ);
                if self.stream.read_buf(&mut self.received).await? == 0 {
                    return Err(LinkError::Closed);
                }
            }
        };
        let greeting =
            tokio::time::timeout(deadline, first).await.unwrap_or(Err(LinkError::NoGreeting))?;
        self.heard = Instant::now();
        self.looked = self.heard;
        Ok(greeting)
    }
}

impl<S> Drop for Connection<S> {
    fn drop(&mut self) {
        self.sender.close();
    }
}

/// The frames of one read.
#[derive(Debug)]
pub struct Batch<'a> {
    received: &'a [u8],
    used: &'a mut usize,
}

impl<'a> Batch<'a> {
    /// The next frame, to be decoded by the end that understands it; `None` when this read's whole
    /// frames are used up.
    ///
    /// # Errors
    /// [`LinkError::Frame`] if the stream cannot be followed any further.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<&'a [u8]>, LinkError> {
        let rest = &self.received[*self.used..];
        let Some(extent) = frame::split(rest)? else {
            return Ok(None);
        };
        *self.used += extent.end;
        Ok(Some(&rest[extent]))
    }
}

fn same_cluster(here: Option<&str>, there: Option<&str>) -> Result<(), LinkError> {
    match (here, there) {
        (Some(here), Some(there)) if here != there => {
            Err(LinkError::OtherCluster { here: here.to_owned(), there: there.to_owned() })
        }
        _ => Ok(()),
    }
}

/// Both ends' ping is the same frame: its length, and its kind alone.
const PROXY_PING: &[u8] = &[1, 0, 0, 0, 2];
const NODE_PING: &[u8] = PROXY_PING;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::frame::{Encode, MAX_FRAME, VERSIONS};

    fn hello(cluster: Option<&str>) -> ProxyHello {
        ProxyHello {
            versions: VERSIONS,
            name: "proxy-0".into(),
            cluster: cluster.map(str::to_owned),
        }
    }

    async fn pair(
        proxy: Option<&str>,
        node: Option<&str>,
    ) -> (
        Result<(Connection<tokio::io::DuplexStream>, Sender, NodeHello), LinkError>,
        Result<(Connection<tokio::io::DuplexStream>, Sender, ProxyHello), LinkError>,
    ) {
        let (near, far) = tokio::io::duplex(1 << 16);
        let hello = hello(proxy);
        tokio::join!(
            connect(near, &hello, Timing::default()),
            accept(far, "node-0", node, Timing::default()),
        )
    }

    #[test]
    fn ping_is_the_ping_frame() {
        let mut bytes = Vec::new();
        ToNode::Ping.encode_frame(&mut bytes);
        assert_eq!(bytes, PROXY_PING);
        bytes.clear();
        ToProxy::Ping.encode_frame(&mut bytes);
        assert_eq!(bytes, NODE_PING);
    }

    #[tokio::test]
    async fn ends_greet_and_exchange_frames() {
        let (proxy, node) = pair(None, Some("c1")).await;
        let (mut proxy, to_node, greeting) = proxy.expect("greeted");
        let (mut node, to_proxy, theirs) = node.expect("greeted");
        assert_eq!(greeting.cluster.as_deref(), Some("c1"));
        assert_eq!(theirs.name, "proxy-0");
        to_node.send(&ToNode::Lines { session: 7, replay: true, bytes: b"a\n" });
        to_node.send(&ToNode::RangeWanted);
        let mut frames = Vec::new();
        while frames.len() < 2 {
            let mut batch = node.batch().await.expect("alive");
            while let Some(frame) = batch.next().expect("sound") {
                match ToNode::decode(frame).expect("sound") {
                    ToNode::Ping => {}
                    ToNode::Lines { session, replay, bytes } => {
                        assert_eq!((session, replay, bytes), (7, true, &b"a\n"[..]));
                        frames.push("lines");
                    }
                    ToNode::RangeWanted => frames.push("range"),
                    other => panic!("{other:?}"),
                }
            }
        }
        assert_eq!(frames, ["lines", "range"]);
        drop(to_proxy);
        drop(node);
        loop {
            match proxy.batch().await {
                Ok(mut batch) => while batch.next().expect("sound").is_some() {},
                Err(error) => {
                    assert!(matches!(error, LinkError::Closed | LinkError::Io(_)), "{error}");
                    break;
                }
            }
        }
    }

    #[tokio::test]
    async fn another_cluster_is_refused_by_both_ends() {
        let (proxy, node) = pair(Some("c1"), Some("c2")).await;
        assert!(matches!(proxy, Err(LinkError::OtherCluster { .. })));
        assert!(matches!(node, Err(LinkError::OtherCluster { .. })));
    }

    #[tokio::test]
    async fn versions_without_overlap_are_refused() {
        let (near, far) = tokio::io::duplex(1 << 16);
        let mut hello = hello(None);
        hello.versions = (VERSIONS.1 + 1, VERSIONS.1 + 2);
        let (proxy, node) = tokio::join!(
            connect(near, &hello, Timing::default()),
            accept(far, "node-0", None, Timing::default()),
        );
        assert!(matches!(proxy, Err(LinkError::Version(..))));
        assert!(matches!(node, Err(LinkError::Version(..))));
    }

    #[tokio::test(start_paused = true)]
    async fn silent_peer_is_found_within_one_and_a_half_seconds() {
        let (proxy, node) = pair(None, None).await;
        let (mut proxy, ..) = proxy.expect("greeted");
        // Its task never runs again, but its socket stays open.
        let _silent = node.expect("greeted");
        let start = Instant::now();
        let end = loop {
            match proxy.batch().await {
                Ok(mut batch) => while batch.next().expect("sound").is_some() {},
                Err(error) => break error,
            }
        };
        assert!(matches!(end, LinkError::Silent(_)), "{end}");
        assert!(start.elapsed() <= Duration::from_millis(1500), "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn idle_link_stays_up() {
        let (proxy, node) = pair(None, None).await;
        let (mut proxy, ..) = proxy.expect("greeted");
        let (mut node, ..) = node.expect("greeted");
        let both = async {
            loop {
                let ended = tokio::select! {
                    end = proxy.batch() => end.map(|mut b| while let Ok(Some(_)) = b.next() {}),
                    end = node.batch() => end.map(|mut b| while let Ok(Some(_)) = b.next() {}),
                };
                ended.expect("alive");
            }
        };
        assert!(tokio::time::timeout(Duration::from_secs(30), both).await.is_err());
    }

    #[tokio::test]
    async fn oversized_frame_ends_the_link() {
        use tokio::io::AsyncWriteExt;
        let (mut near, far) = tokio::io::duplex(1 << 16);
        let mut bytes = Vec::new();
        ToNode::Hello(hello(None)).encode_frame(&mut bytes);
        bytes.extend_from_slice(&(MAX_FRAME as u32 + 1).to_le_bytes());
        near.write_all(&bytes).await.expect("room");
        let (mut node, ..) = accept(far, "n", None, Timing::default()).await.expect("greeted");
        assert!(matches!(node.batch().await, Err(LinkError::Frame(FrameError::Length(_)))));
    }
}
