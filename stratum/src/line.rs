//! Lines in a byte stream, bounded, found in the caller's buffer.

/// The longest line a peer may send, in bytes without its line end.
pub const MAX_LINE: usize = 16 * 1024;

/// Finds lines at the front of a growing buffer. It owns no bytes and allocates nothing: it only
/// remembers how far it has looked, so that a line that arrives byte by byte costs no more than
/// one that arrives at once.
///
/// ```
/// # use seam_stratum::line::LineScanner;
/// let mut scanner = LineScanner::default();
/// let received = b"{\"id\":1}\r\n{\"id\"";
/// let found = scanner.next(received).unwrap().unwrap();
/// assert_eq!(found.line, b"{\"id\":1}");
/// assert_eq!(scanner.next(&received[found.consumed..]), Ok(None));
/// ```
#[derive(Debug, Clone)]
pub struct LineScanner {
    limit: usize,
    scanned: usize,
}

impl Default for LineScanner {
    fn default() -> Self {
        Self::new(MAX_LINE)
    }
}

impl LineScanner {
    /// A scanner for lines of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { limit, scanned: 0 }
    }

    /// The first line in `buffer`, or `None` until its end has arrived.
    ///
    /// After `Some`, call again with the bytes behind `consumed`; after `None`, with the same
    /// bytes and what arrived since. The line comes without its `\n`, and without a `\r` before
    /// it; it may be empty, which means nothing.
    ///
    /// # Errors
    /// [`TooLong`] as soon as more than `limit` bytes came without a line end: the stream cannot be
    /// followed any further.
    pub fn next<'a>(&mut self, buffer: &'a [u8]) -> Result<Option<Found<'a>>, TooLong> {
        // One byte of line end beyond the limit, and a carriage return.
        let window = buffer.len().min(self.limit + 2);
        let from = self.scanned.min(window);
        let Some(end) = memchr::memchr(b'\n', &buffer[from..window]) else {
            self.scanned = window;
            let open = buffer[..window].strip_suffix(b"\r").unwrap_or(&buffer[..window]);
            return if open.len() > self.limit { Err(TooLong) } else { Ok(None) };
        };
        let end = from + end;
        let line = buffer[..end].strip_suffix(b"\r").unwrap_or(&buffer[..end]);
        if line.len() > self.limit {
            return Err(TooLong);
        }
        self.scanned = 0;
        Ok(Some(Found { line, consumed: end + 1 }))
    }
}

/// A line, and how many bytes of the buffer it used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found<'a> {
    /// The line without its end.
    pub line: &'a [u8],
    /// The bytes to drop from the front of the buffer: the line and its end.
    pub consumed: usize,
}

/// More bytes without a line end than a line may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("line too long")]
pub struct TooLong;

/// What a client that just connected speaks, told from its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// Not enough bytes to tell.
    Unknown,
    /// Anything that is neither of the others.
    Stratum,
    /// An HTTP request: to be answered with [`crate::write::http_redirect`].
    Http,
    /// A TLS ClientHello. bfgminer opens so on a plain port and then tries again: to be closed,
    /// without any offence.
    Tls,
}

impl Opening {
    /// Looks at the first bytes received. Eight are always enough.
    pub fn detect(first: &[u8]) -> Self {
        const METHODS: [&[u8]; 9] = [
            b"GET ",
            b"POST ",
            b"HEAD ",
            b"PUT ",
            b"OPTIONS ",
            b"DELETE ",
            b"TRACE ",
            b"PATCH ",
            b"CONNECT ",
        ];
        // A TLS record: content type 22 (handshake), major version 3.
        const TLS: &[u8] = &[0x16, 0x03];

        let starts = |prefix: &[u8]| first.starts_with(prefix);
        let may_start = |prefix: &[u8]| prefix.starts_with(first);
        if starts(TLS) {
            Self::Tls
        } else if METHODS.iter().any(|method| starts(method)) {
            Self::Http
        } else if may_start(TLS) || METHODS.iter().any(|method| may_start(method)) {
            Self::Unknown
        } else {
            Self::Stratum
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_of_exactly_the_limit_passes_and_one_more_byte_fails() {
        for end in ["\n", "\r\n"] {
            let fits = format!("{}{end}", "x".repeat(8));
            assert_eq!(
                LineScanner::new(8).next(fits.as_bytes()).map(|f| f.map(|f| f.line.len())),
                Ok(Some(8))
            );
            let long = format!("{}{end}", "x".repeat(9));
            assert_eq!(LineScanner::new(8).next(long.as_bytes()), Err(TooLong));
        }
    }

    #[test]
    fn endless_line_fails_at_the_limit_not_later() {
        let mut scanner = LineScanner::new(8);
        assert_eq!(scanner.next(b"12345678"), Ok(None));
        assert_eq!(scanner.next(b"123456789"), Err(TooLong));
    }

    #[test]
    fn openings_are_told_apart_by_their_first_bytes() {
        assert_eq!(Opening::detect(b""), Opening::Unknown);
        assert_eq!(Opening::detect(b"{"), Opening::Stratum);
        assert_eq!(Opening::detect(b"GE"), Opening::Unknown);
        assert_eq!(Opening::detect(b"GET / HTTP/1.1\r\n"), Opening::Http);
        assert_eq!(Opening::detect(b"GETA"), Opening::Stratum);
        assert_eq!(Opening::detect(&[0x16]), Opening::Unknown);
        assert_eq!(Opening::detect(&[0x16, 3, 1, 2]), Opening::Tls);
        assert_eq!(Opening::detect(b"OPTIONS "), Opening::Http);
    }
}
