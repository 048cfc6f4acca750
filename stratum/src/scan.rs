//! A strict scanner for the plain JSON that miners and pools send thousands of times a second.
//!
//! It gives up (`None`) at anything that is not plain: escapes, bytes outside ASCII, numbers
//! other than integers. What it gives up on is read by `serde_json`; what it accepts,
//! `serde_json` would have read the same.

/// Bytes that plain text in a string does not have: the quote, the backslash, and all that is
/// not printable ASCII.
static ENDS_STRING: [bool; 256] = {
    let mut ends = [true; 256];
    let mut byte = 0x20;
    while byte < 0x7f {
        ends[byte] = byte == b'"' as usize || byte == b'\\' as usize;
        byte += 1;
    }
    ends
};

/// A position in a line.
pub(crate) struct Scanner<'a> {
    line: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(line: &'a [u8]) -> Self {
        Self { line, at: 0 }
    }

    /// The next byte that is no white space, without taking it.
    pub(crate) fn peek(&mut self) -> Option<u8> {
        while let Some(byte) = self.line.get(self.at) {
            if !matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
                return Some(*byte);
            }
            self.at += 1;
        }
        None
    }

    /// Takes `byte` (after white space), or gives up.
    pub(crate) fn expect(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    /// Takes `byte` if it is next.
    pub(crate) fn take(&mut self, byte: u8) -> bool {
        self.expect(byte).is_some()
    }

    /// Nothing but white space follows.
    pub(crate) fn end(&mut self) -> Option<()> {
        self.peek().is_none().then_some(())
    }

    /// A string without escapes, printable ASCII only.
    pub(crate) fn string(&mut self) -> Option<&'a str> {
        self.expect(b'"')?;
        let rest = &self.line[self.at..];
        let len = rest.iter().position(|byte| ENDS_STRING[usize::from(*byte)])?;
        if rest[len] != b'"' {
            return None;
        }
        self.at += len + 1;
        core::str::from_utf8(&rest[..len]).ok()
    }

    /// A plain value as it stands: a string, an integer, `true`, `false` or `null`.
    pub(crate) fn scalar(&mut self) -> Option<&'a str> {
        let first = self.peek()?;
        let from = self.at;
        match first {
            b'"' => {
                self.string()?;
            }
            b't' => self.word(b"true")?,
            b'f' => self.word(b"false")?,
            b'n' => self.word(b"null")?,
            _ => self.integer()?,
        }
        core::str::from_utf8(&self.line[from..self.at]).ok()
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        self.line[self.at..].starts_with(word).then(|| self.at += word.len())
    }

    /// An integer of at most 18 digits; a digit sequence that goes on as a float is not one.
    fn integer(&mut self) -> Option<()> {
        let rest = &self.line[self.at..];
        let sign = usize::from(rest.first() == Some(&b'-'));
        let digits = rest[sign..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let leading_zero = rest.get(sign) == Some(&b'0') && digits > 1;
        let goes_on = matches!(rest.get(sign + digits), Some(b'.' | b'e' | b'E'));
        if digits == 0 || digits > 18 || leading_zero || goes_on {
            return None;
        }
        self.at += sign + digits;
        Some(())
    }
}
