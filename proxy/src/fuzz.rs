//! Damaged PROXY headers and configurations.

use seam_fuzz::{Bounds, fuzz};

use crate::config::Config;
use crate::header::{Header, parse};

#[test]
fn fuzz_proxy_header() {
    let words: [&[u8]; 8] = [
        b"PROXY ",
        b"TCP4 ",
        b"TCP6 ",
        b"UNKNOWN",
        b"\r\n",
        b"\r\n\r\n\0\r\nQUIT\n",
        b"255.255.255.255",
        b"ffff:f",
    ];
    fuzz("proxy_header", Bounds::of(4_096, 4), &words, |input| match parse(input) {
        Header::Incomplete => {
            // Nobody can make us wait for ever: at this length it is decided.
            assert!(input.len() < 2_048);
            (0, false)
        }
        Header::Invalid => (1, false),
        Header::Done { source, consumed } => {
            assert!(consumed <= input.len());
            // What follows the header changes nothing.
            assert_eq!(parse(&input[..consumed]), Header::Done { source, consumed });
            (2, source.is_some())
        }
    });
}

#[test]
fn fuzz_proxy_config() {
    let words: [&[u8]; 6] = [b"[stratum]\n", b"[limits]\n", b" = ", b"[[", b"\"\"\"", b"{a={a="];
    fuzz("proxy_config", Bounds::of(8_192, 256), &words, |input| {
        let text = String::from_utf8_lossy(input);
        let environment = [("SEAM_STRATUM_LISTEN".to_owned(), text.to_string())];
        let overlaid = Config::parse("", environment).map_err(|fault| fault.code as u8);
        (Config::parse(&text, []).map_err(|fault| fault.code as u8).err(), overlaid.err())
    });
}
