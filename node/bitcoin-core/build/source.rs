//! Where Bitcoin Core's source is: in a package that `Cargo.lock` pins and checksums, or in the
//! tree that `SEAM_BITCOIN_SOURCE` names.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::UNIX_EPOCH;

use serde_json::Value;

/// The package that ships the source. It is a dependency for no platform, so cargo downloads and
/// verifies it, and never compiles it.
const PACKAGE: &str = "libbitcoinkernel-sys";

pub(crate) struct Source {
    /// The directory with Bitcoin Core's `CMakeLists.txt`.
    pub(crate) dir: PathBuf,
    /// Changes when the source does.
    pub(crate) identity: String,
    /// How a person would call it.
    pub(crate) name: String,
    /// Named by `SEAM_BITCOIN_SOURCE`, so not the tree this crate is tested with.
    pub(crate) is_other_tree: bool,
    /// Its HTTP server stands on libevent, as in release 31.
    pub(crate) needs_libevent: bool,
    /// Cargo's target directory for the workspace.
    pub(crate) target_dir: PathBuf,
}

pub(crate) fn find(manifest_dir: &Path) -> Result<Source, String> {
    let metadata = cargo_metadata(manifest_dir)?;
    let target_dir = PathBuf::from(text(&metadata["target_directory"])?);
    if let Some(dir) = env::var_os("SEAM_BITCOIN_SOURCE") {
        let dir = PathBuf::from(dir);
        return other_tree(&dir, target_dir)
            .map_err(|error| format!("SEAM_BITCOIN_SOURCE={}: {error}", dir.display()));
    }
    let package = metadata["packages"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|package| package["name"] == PACKAGE)
        .ok_or_else(|| format!("{PACKAGE} is not among this workspace's packages"))?;
    let manifest = PathBuf::from(text(&package["manifest_path"])?);
    let version = text(&package["version"])?;
    Ok(Source {
        dir: manifest.with_file_name("bitcoin"),
        identity: format!("{PACKAGE} {version}"),
        name: format!("the source in {PACKAGE} {version}"),
        is_other_tree: false,
        needs_libevent: false,
        target_dir,
    })
}

fn cargo_metadata(manifest_dir: &Path) -> Result<Value, String> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--locked", "--manifest-path"])
        .arg(manifest_dir.join("Cargo.toml"))
        .output()
        .map_err(|error| format!("cannot run cargo metadata: {error}"))?;
    if !output.status.success() {
        let problem = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
        return Err(format!("cargo metadata failed: {problem}"));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| format!("cargo metadata: {error}"))
}

fn text(value: &Value) -> Result<&str, String> {
    value.as_str().ok_or_else(|| "cargo metadata has an unexpected form".to_owned())
}

fn other_tree(dir: &Path, target_dir: PathBuf) -> Result<Source, String> {
    let dir = dir.canonicalize().map_err(|error| error.to_string())?;
    if !dir.join("src/bitcoind.cpp").is_file() {
        return Err("this is not a Bitcoin Core source tree (no src/bitcoind.cpp)".to_owned());
    }
    let mut files = vec![fingerprint(&dir.join("CMakeLists.txt"))?];
    for part in ["src", "cmake"] {
        list(&dir.join(part), &mut files)?;
    }
    files.sort();
    let parts: Vec<&str> = files.iter().map(String::as_str).collect();
    Ok(Source {
        identity: crate::hash(&parts),
        name: format!("{}", dir.display()),
        needs_libevent: fs::read_to_string(dir.join("CMakeLists.txt"))
            .is_ok_and(|text| text.contains("find_package(Libevent")),
        dir,
        is_other_tree: true,
        target_dir,
    })
}

fn list(dir: &Path, files: &mut Vec<String>) -> Result<(), String> {
    let entries = fs::read_dir(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    for entry in entries {
        let path = entry.map_err(|error| error.to_string())?.path();
        if path.is_dir() {
            list(&path, files)?;
        } else {
            files.push(fingerprint(&path)?);
        }
    }
    Ok(())
}

/// What tells one version of a file from another without reading it.
fn fingerprint(path: &Path) -> Result<String, String> {
    let metadata = fs::metadata(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let modified = metadata
        .modified()
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
        .unwrap_or_default();
    Ok(format!("{} {} {}", path.display(), metadata.len(), modified.as_nanos()))
}
