//! As much of a JSON-RPC client as the comparison needs, over a connection that stays open.

use std::cell::RefCell;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;

pub(crate) struct Rpc {
    stream: RefCell<BufReader<TcpStream>>,
    authorization: String,
}

impl Rpc {
    pub(crate) fn new(port: u16, data_dir: &Path) -> Self {
        let cookie = fs::read(data_dir.join("regtest/.cookie")).unwrap();
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: RefCell::new(BufReader::new(stream)), authorization: base64(&cookie) }
    }

    /// The whole answer, as text. It is not parsed: that favours the RPC.
    pub(crate) fn call(&self, method: &str, parameters: &str) -> String {
        let body = format!("{{\"id\":1,\"method\":\"{method}\",\"params\":{parameters}}}");
        let request = format!(
            "POST / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.authorization,
            body.len()
        );
        let mut stream = self.stream.borrow_mut();
        stream.get_mut().write_all(request.as_bytes()).unwrap();
        let mut length = 0;
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).unwrap();
            let line = line.trim().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line.is_empty() {
                break;
            }
        }
        let mut answer = vec![0; length];
        stream.read_exact(&mut answer).unwrap();
        String::from_utf8(answer).unwrap()
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let mut three = [0; 3];
        three[..chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        for index in 0..4 {
            let digit = (bits >> (18 - 6 * index)) & 63;
            let present = index <= chunk.len();
            text.push(if present { char::from(DIGITS[digit as usize]) } else { '=' });
        }
    }
    text
}
