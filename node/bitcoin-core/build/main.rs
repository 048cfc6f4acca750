//! Builds Bitcoin Core's static libraries and the shim around them, and links both.
//!
//! Core is compiled once per checkout, whatever the cargo profile: see `core.rs`. What can be set:
//! `SEAM_BITCOIN_SOURCE` (another source tree), `SEAM_BITCOIN_BUILD_DIR` (another place for the
//! build), `CXX` (another compiler).

mod core;
mod progress;
mod shim;
mod source;

use std::env;
use std::path::PathBuf;
use std::process::exit;

fn main() {
    if let Err(message) = run() {
        println!("cargo::error={message}");
        exit(1);
    }
}

fn run() -> Result<(), String> {
    for path in ["build", "shim", "cmake", "Cargo.toml"] {
        println!("cargo::rerun-if-changed={path}");
    }
    for variable in ["SEAM_BITCOIN_SOURCE", "SEAM_BITCOIN_BUILD_DIR", "CXX"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    let manifest_dir = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);

    let source = source::find(&manifest_dir)?;
    if source.is_other_tree {
        println!("cargo::rerun-if-changed={}", source.dir.join("src").display());
    }
    let core = core::build(&source, &manifest_dir)?;
    // Removing the build makes cargo run this again.
    println!("cargo::rerun-if-changed={}", core.stamp.display());
    let shim = shim::build(&source, &core, &manifest_dir)?;

    println!("cargo::rustc-link-search=native={}", shim.display());
    println!("cargo::rustc-link-search=native={}", core.lib_dir.display());
    // Not bundled: the libraries are large, and would be copied into every profile's rlib.
    println!("cargo::rustc-link-lib=static:-bundle=seam_shim");
    println!("cargo::rustc-link-lib=static:-bundle={}", core::LIBRARY);
    println!("cargo::rustc-link-lib=dylib=stdc++");
    if source.needs_libevent {
        println!("cargo::rustc-link-lib=dylib=event");
        println!("cargo::rustc-link-lib=dylib=event_pthreads");
    }

    println!("cargo::rustc-env=SEAM_BITCOIND={}", core.bin_dir.join("bitcoind").display());
    println!("cargo::rustc-env=SEAM_BITCOIN_CLI={}", core.bin_dir.join("bitcoin-cli").display());
    Ok(())
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|_| format!("{name} is not set: build with cargo"))
}

/// FNV-1a, for names of directories: it has to be the same for ever, not hard to collide.
fn hash(parts: &[&str]) -> String {
    let mut value = 0xcbf2_9ce4_8422_2325_u64;
    for part in parts {
        for byte in part.bytes().chain([0]) {
            value = (value ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    format!("{value:016x}")
}
