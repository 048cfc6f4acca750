//! The PROXY protocol's header, versions 1 and 2, as load balancers send it before anything else.

use std::net::IpAddr;

use ppp::{PartialResult, v1, v2};

/// What the first bytes of a balancer's connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Header {
    /// Not all of it is there.
    Incomplete,
    /// No header.
    Invalid,
    /// A header of so many bytes. Without a source the balancer speaks for itself.
    Done {
        /// The miner's address.
        source: Option<IpAddr>,
        /// Its length.
        consumed: usize,
    },
}

/// The longest header that is read: 16 bytes and the extensions of version 2.
const MAX_HEADER: usize = 2048;

/// How version 1 begins and ends, and the longest that it can be.
const TEXT: &[u8] = b"PROXY ";
const END_OF_TEXT: &[u8] = b"\r\n";
const MAX_TEXT: usize = 107;

/// Looks at the first bytes of a connection.
pub(crate) fn parse(bytes: &[u8]) -> Header {
    // A text header is its first line. The parser takes half a number for a wrong one, and is
    // content with other endings.
    if bytes.starts_with(TEXT) || TEXT.starts_with(bytes) {
        return match memchr::memmem::find(bytes, END_OF_TEXT) {
            Some(end) => parse_text(&bytes[..end + END_OF_TEXT.len()]),
            None if bytes.len() < MAX_TEXT => Header::Incomplete,
            None => Header::Invalid,
        };
    }
    match v2::Header::try_from(bytes) {
        Ok(header) => {
            let source = match (header.command, header.addresses) {
                (v2::Command::Local, _) => None,
                (_, v2::Addresses::IPv4(addresses)) => Some(IpAddr::V4(addresses.source_address)),
                (_, v2::Addresses::IPv6(addresses)) => Some(IpAddr::V6(addresses.source_address)),
                (_, v2::Addresses::Unspecified | v2::Addresses::Unix(_)) => None,
            };
            Header::Done { source, consumed: header.len() }
        }
        Err(error) if error.is_incomplete() && bytes.len() < MAX_HEADER => Header::Incomplete,
        Err(_) => Header::Invalid,
    }
}

/// A whole line of version 1, with its end.
fn parse_text(line: &[u8]) -> Header {
    match v1::Header::try_from(line) {
        Ok(header) if header.header.len() == line.len() => {
            let source = match header.addresses {
                v1::Addresses::Tcp4(addresses) => Some(IpAddr::V4(addresses.source_address)),
                v1::Addresses::Tcp6(addresses) => Some(IpAddr::V6(addresses.source_address)),
                v1::Addresses::Unknown => None,
            };
            Header::Done { source, consumed: line.len() }
        }
        _ => Header::Invalid,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x0a\0\0\x07\x7f\0\0\x01\x10\0\x0d\x05";

    #[test]
    fn both_versions_say_the_miner_s_address() {
        let text = b"PROXY TCP4 10.0.0.7 127.0.0.1 4000 3333\r\n{\"id\":1}\n";
        let source = Some("10.0.0.7".parse().unwrap());
        assert_eq!(parse(text), Header::Done { source, consumed: 41 });
        let mut bytes = V2.to_vec();
        bytes.extend_from_slice(b"{}\n");
        assert_eq!(parse(&bytes), Header::Done { source, consumed: V2.len() });
    }

    #[test]
    fn balancer_may_speak_for_itself() {
        let text = b"PROXY UNKNOWN\r\n";
        assert_eq!(parse(text), Header::Done { source: None, consumed: text.len() });
        let mut local = V2.to_vec();
        local[12] = 0x20;
        assert_eq!(parse(&local), Header::Done { source: None, consumed: V2.len() });
    }

    #[test]
    fn header_may_come_byte_by_byte() {
        for whole in [V2, b"PROXY TCP4 10.0.0.7 127.0.0.1 4000 3333\r\n"] {
            for length in 0..whole.len() {
                assert_eq!(parse(&whole[..length]), Header::Incomplete, "{length} of {whole:?}");
            }
        }
    }

    #[test]
    fn header_may_be_followed_by_tls() {
        let mut bytes = b"PROXY TCP6 ::7 ::1 4000 3333\r\n".to_vec();
        let consumed = bytes.len();
        bytes.extend_from_slice(&[0x16, 3, 1, 2, 0, 1, 0xff, 0xfe, 0x80]);
        let source = Some("::7".parse().unwrap());
        assert_eq!(parse(&bytes), Header::Done { source, consumed });
    }

    #[test]
    fn anything_else_is_refused() {
        assert_eq!(parse(b"{\"id\":1,\"method\":\"mining.subscribe\"}\n"), Header::Invalid);
        assert_eq!(parse(b"GET / HTTP/1.1\r\n"), Header::Invalid);
    }

    #[test]
    fn text_ends_with_both_bytes_of_its_end() {
        assert_eq!(parse(b"PROXY UNKNOWN \n\r?"), Header::Incomplete);
        assert_eq!(parse(b"PROXY UNKNOWN \n\r?\r\n"), Header::Invalid);
        assert_eq!(parse(&[TEXT, &[b'?'; MAX_TEXT]].concat()), Header::Invalid);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
            let mut after = V2[..13].to_vec();
            after.extend_from_slice(&bytes);
            let _ = parse(&after);
        }
    }
}
