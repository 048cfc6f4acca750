//! One socket with its buffers, driven by readiness.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

use seam_stratum::LineScanner;
use socket2::{Domain, Protocol, Socket, Type};

/// The longest line a server may send: a notify with large coinbase and full branch fits.
const MAX_SERVER_LINE: usize = 256 * 1024;

/// The receive buffer of a session that will stop reading, in bytes: small, so that the server
/// notices soon.
const SLOW_RECEIVE_BUFFER: usize = 4096;

/// A connection that is opening or open.
pub(crate) struct Connection {
    stream: TcpStream,
    /// Bytes of an unfinished line.
    rest: Vec<u8>,
    scanner: LineScanner,
}

/// Bytes to send, and how many of them are sent.
#[derive(Default)]
pub(crate) struct Outgoing {
    pub(crate) bytes: Vec<u8>,
    sent: usize,
}

impl Outgoing {
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.sent = 0;
    }

    /// Bytes that wait.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.sent
    }
}

/// What reading came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Input {
    /// All that was there.
    Drained,
    /// The server closed, or sent what cannot be read.
    Closed,
}

impl Connection {
    /// Begins to connect; the socket is writable when it has.
    pub(crate) fn open(to: SocketAddr, slow: bool) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if slow {
            socket.set_recv_buffer_size(SLOW_RECEIVE_BUFFER)?;
        }
        match socket.connect(&to.into()) {
            Ok(()) => {}
            Err(error)
                if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
            Err(error) => return Err(error),
        }
        Ok(Self {
            stream: socket.into(),
            rest: Vec::new(),
            scanner: LineScanner::new(MAX_SERVER_LINE),
        })
    }

    /// Whether connecting failed.
    pub(crate) fn connect_error(&self) -> Option<io::Error> {
        self.stream.take_error().unwrap_or_else(Some)
    }

    /// Reads what there is and calls `line` with each whole line.
    pub(crate) fn read(&mut self, scratch: &mut [u8], mut line: impl FnMut(&[u8])) -> Input {
        loop {
            let len = match self.stream.read(scratch) {
                Ok(0) => return Input::Closed,
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Input::Drained,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return Input::Closed,
            };
            if self.lines(&scratch[..len], &mut line).is_err() {
                return Input::Closed;
            }
            if len < scratch.len() {
                return Input::Drained;
            }
        }
    }

    /// Writes what can be written. `Ok(true)` when all is out.
    pub(crate) fn flush(&mut self, out: &mut Outgoing) -> io::Result<bool> {
        while out.sent < out.bytes.len() {
            match self.stream.write(&out.bytes[out.sent..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(len) => out.sent += len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        out.clear();
        Ok(true)
    }

    fn lines(&mut self, received: &[u8], line: &mut impl FnMut(&[u8])) -> Result<(), ()> {
        // Most reads are whole lines: they are taken where they are.
        let mut joined = std::mem::take(&mut self.rest);
        let mut bytes = received;
        if !joined.is_empty() {
            joined.extend_from_slice(received);
            bytes = &joined;
        }
        let mut at = 0;
        loop {
            match self.scanner.next(&bytes[at..]) {
                Ok(Some(found)) => {
                    line(found.line);
                    at += found.consumed;
                }
                Ok(None) => break,
                Err(_) => return Err(()),
            }
        }
        self.rest = bytes[at..].to_vec();
        Ok(())
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
