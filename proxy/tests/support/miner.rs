//! A miner of lines.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{
    AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, ReadHalf, WriteHalf,
};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::DEADLINE;

/// Anything a miner's bytes can go over.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

pub struct Miner {
    read: BufReader<ReadHalf<Box<dyn Duplex>>>,
    write: WriteHalf<Box<dyn Duplex>>,
    pub extranonce1: String,
    pub sid: String,
}

impl Miner {
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("the proxy listens");
        stream.set_nodelay(true).expect("a socket");
        Self::over(Box::new(stream))
    }

    pub fn over(stream: Box<dyn Duplex>) -> Self {
        let (read, write) = tokio::io::split(stream);
        Self { read: BufReader::new(read), write, extranonce1: String::new(), sid: String::new() }
    }

    /// Connects, subscribes and logs in.
    pub async fn working(address: SocketAddr) -> Self {
        let mut miner = Self::connect(address).await;
        miner.subscribe(None).await;
        miner.authorize().await;
        miner
    }

    pub async fn send(&mut self, line: &str) {
        self.write.write_all(format!("{line}\n").as_bytes()).await.expect("connected");
    }

    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        self.write.write_all(bytes).await.expect("connected");
    }

    /// The next line, as it came.
    pub async fn text(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = timeout(DEADLINE, self.read.read_line(&mut line)).await;
        match read.expect("a line in time") {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(line.trim_end().to_owned()),
        }
    }

    pub async fn line(&mut self) -> Option<Value> {
        let text = self.text().await?;
        Some(serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
    }

    /// The next answer; what comes before it is work.
    pub async fn answer(&mut self) -> Value {
        loop {
            let line = self.line().await.expect("still connected");
            if line.get("method").is_none() {
                return line;
            }
        }
    }

    /// The next `mining.notify`.
    pub async fn job(&mut self) -> Value {
        loop {
            let line = self.line().await.expect("still connected");
            if line["method"] == "mining.notify" {
                return line["params"].clone();
            }
        }
    }

    pub async fn subscribe(&mut self, sid: Option<&str>) {
        let sid = sid.map(|sid| format!(",\"{sid}\"")).unwrap_or_default();
        self.send(&format!(
            "{{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[\"test\"{sid}]}}"
        ))
        .await;
        let answer = self.answer().await;
        assert_eq!(answer["id"], 1, "{answer}");
        self.extranonce1 = answer["result"][1].as_str().expect("extranonce1").to_owned();
        self.sid = answer["result"][0][0][1].as_str().expect("sid").to_owned();
    }

    pub async fn authorize(&mut self) {
        self.send("{\"id\":2,\"method\":\"mining.authorize\",\"params\":[\"u\",\"x\"]}").await;
        let answer = self.answer().await;
        assert_eq!((&answer["id"], &answer["result"]), (&2.into(), &true.into()), "{answer}");
    }

    pub fn submit_line(id: u64, nonce: u64) -> String {
        format!(
            "{{\"id\":{id},\"method\":\"mining.submit\",\"params\":[\"u\",\"1\",\"0000000000000000\",\"65000000\",\"{nonce:08x}\"]}}"
        )
    }

    pub async fn submit(&mut self, id: u64, nonce: u64) {
        self.send(&Self::submit_line(id, nonce)).await;
    }

    /// Submits, and waits for the answer `true`.
    pub async fn mine(&mut self, nonce: u64) {
        self.submit(nonce, nonce).await;
        let answer = self.answer().await;
        assert_eq!((&answer["id"], &answer["result"]), (&nonce.into(), &true.into()), "{answer}");
    }

    /// Whether the connection ends without another line.
    pub async fn is_closed(&mut self) -> bool {
        self.text().await.is_none()
    }
}
