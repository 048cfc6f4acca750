//! The Service that miners connect to: one address, whichever pods are behind it.

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

/// Two threads copy each connection; they need next to nothing.
const STACK: usize = 128 << 10;

/// Forwards connections, as kube-proxy does: a connection stays where it is until one of its ends
/// closes it, and new ones go to the endpoints of the moment, in turn.
pub(crate) struct Service {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    endpoints: Mutex<Vec<String>>,
    turn: AtomicUsize,
    stop: AtomicBool,
}

impl Service {
    /// Without endpoints.
    pub(crate) fn open() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let seen = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if seen.stop.load(Ordering::Relaxed) {
                    return;
                }
                // Who cannot be served is closed, and tries again.
                if let Ok(client) = stream
                    && let Some(endpoint) = seen.next()
                {
                    let _ = forward(client, &endpoint);
                }
            }
        });
        Self { address, shared, thread: Some(thread) }
    }

    /// Where it is.
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// Who gets the next connections.
    pub(crate) fn goes_to(&self, endpoints: Vec<String>) {
        *self.shared.endpoints.lock().unwrap() = endpoints;
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // Wakes the thread.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn next(&self) -> Option<String> {
        let endpoints = self.endpoints.lock().unwrap();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        endpoints.get(turn.checked_rem(endpoints.len())?).cloned()
    }
}

fn forward(client: TcpStream, endpoint: &str) -> io::Result<()> {
    let server = TcpStream::connect(endpoint)?;
    for end in [&client, &server] {
        end.set_nodelay(true)?;
    }
    copy(client.try_clone()?, server.try_clone()?)?;
    copy(server, client)
}

/// Copies what comes until there is no more, then says so to the other end.
fn copy(mut from: TcpStream, mut to: TcpStream) -> io::Result<()> {
    let copied = move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    };
    thread::Builder::new().stack_size(STACK).spawn(copied).map(drop)
}
