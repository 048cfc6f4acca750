//! A miner's socket: plain or TLS, written to from whoever has something for it, never waited for.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::task::{Context, Poll};

use rustls::ServerConnection;
use tokio::net::tcp::OwnedWriteHalf;

/// The writing side of a miner's connection, and the TLS state of both.
#[derive(Debug)]
pub(crate) struct Wire {
    /// `None` once nothing more will be written.
    socket: Option<OwnedWriteHalf>,
    tls: Option<Box<ServerConnection>>,
    /// Bytes, encrypted if need be, that the socket has not taken.
    backlog: Vec<u8>,
}

/// More capacity than this is given back when the backlog is gone.
const KEEP: usize = 512;

/// Bytes are decrypted in pieces of this size.
const PIECE: usize = 4096;

impl Wire {
    pub(crate) fn new(socket: OwnedWriteHalf, tls: Option<Box<ServerConnection>>) -> Self {
        Self { socket: Some(socket), tls, backlog: Vec::new() }
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Where the miner connected to.
    pub(crate) fn local_addr(&self) -> Option<SocketAddr> {
        self.socket.as_ref()?.local_addr().ok()
    }

    /// Sends, or keeps what the socket does not take now.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            tls.writer().write_all(bytes)?;
            return self.flush_tls();
        }
        let taken = if self.backlog.is_empty() { self.try_write(bytes)? } else { 0 };
        self.backlog.extend_from_slice(&bytes[taken..]);
        Ok(())
    }

    /// Tries to send the backlog. After `Ok(true)` there is none.
    pub(crate) fn push(&mut self) -> io::Result<bool> {
        let backlog = std::mem::take(&mut self.backlog);
        let result = self.try_write(&backlog);
        self.backlog = backlog;
        let taken = result?;
        if taken == self.backlog.len() {
            self.backlog.clear();
            if self.backlog.capacity() > KEEP {
                self.backlog = Vec::new();
            }
            return Ok(true);
        }
        self.backlog.drain(..taken);
        Ok(false)
    }

    /// Arranges for a wake-up when the socket takes bytes again.
    pub(crate) fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.socket {
            Some(socket) => socket.as_ref().poll_write_ready(cx),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    /// Bytes that wait.
    pub(crate) fn backlog(&self) -> usize {
        self.backlog.len()
    }

    /// Decrypts what was read from the socket to the end of `plain`. Answers of the TLS handshake
    /// leave at once.
    pub(crate) fn decrypt(&mut self, mut raw: &[u8], plain: &mut Vec<u8>) -> io::Result<()> {
        while !raw.is_empty() {
            let Some(tls) = &mut self.tls else {
                plain.extend_from_slice(raw);
                return Ok(());
            };
            tls.read_tls(&mut raw)?;
            let processed = tls.process_new_packets();
            // Also what says why it failed.
            self.flush_tls()?;
            processed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            let mut piece = [0; PIECE];
            while let Some(tls) = &mut self.tls {
                match tls.reader().read(&mut piece) {
                    Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                    Ok(length) => plain.extend_from_slice(&piece[..length]),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Whether a TLS handshake is still under way.
    pub(crate) fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    /// Sends the end of the stream: nothing is written after it.
    pub(crate) fn finish(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            let _ = self.flush_tls();
        }
        // Dropping it shuts the direction down.
        self.socket = None;
        self.backlog = Vec::new();
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.socket.is_none()
    }

    pub(crate) fn memory(&self) -> usize {
        self.backlog.capacity()
    }

    fn flush_tls(&mut self) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            while tls.wants_write() {
                tls.write_tls(&mut self.backlog)?;
            }
        }
        if self.backlog.is_empty() { Ok(()) } else { self.push().map(drop) }
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(socket) = &self.socket else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let mut taken = 0;
        while taken < bytes.len() {
            match socket.try_write(&bytes[taken..]) {
                Ok(length) => taken += length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(taken)
    }
}
