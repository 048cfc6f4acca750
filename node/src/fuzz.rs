//! Damaged configurations.

use seam_fuzz::{Bounds, fuzz};

use crate::config::Config;

#[test]
fn fuzz_node_config() {
    let words: [&[u8]; 8] = [
        b"[bitcoin]\n",
        b"[limits]\n",
        b" = ",
        b"[[",
        b"\"\"\"",
        b"{a={a=",
        b"1e400",
        b"options = [\"-prune=550\"]",
    ];
    fuzz("node_config", Bounds::of(8_192, 256), &words, |input| {
        let text = String::from_utf8_lossy(input);
        let environment = [("SEAM_POOL_ADDRESS".to_owned(), text.to_string())];
        let overlaid = Config::parse("", environment).map_err(|fault| fault.code as u8);
        (Config::parse(&text, []).map_err(|fault| fault.code as u8).err(), overlaid.err())
    });
}
