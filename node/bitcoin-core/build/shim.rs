//! Compiles the shim: the C++ between Rust and Bitcoin Core. As Core, once for all profiles.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::core::{self, Core};
use crate::source::Source;

const UNITS: [&str; 3] = ["lifecycle", "mining", "chain"];
const HEADERS: [&str; 3] = ["seam.h", "internal.h", "compat.h"];

const FLAGS: [&str; 7] =
    ["-std=c++20", "-O2", "-g1", "-fPIC", "-Wall", "-Wextra", "-fstack-protector-strong"];

/// The directory with `libseam_shim.a`.
pub(crate) fn build(source: &Source, core: &Core, manifest_dir: &Path) -> Result<PathBuf, String> {
    let shim = manifest_dir.join("shim");
    let names =
        HEADERS.map(str::to_owned).into_iter().chain(UNITS.map(|unit| format!("{unit}.cpp")));
    let texts = names
        .map(|name| {
            fs::read_to_string(shim.join(&name)).map_err(|error| format!("{name}: {error}"))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let mut parts: Vec<&str> = texts.iter().map(String::as_str).collect();
    parts.extend(FLAGS);
    let dir = core.dir.join(format!("shim-{}", crate::hash(&parts)));
    let library = dir.join("libseam_shim.a");
    if library.is_file() {
        return Ok(dir);
    }
    let _lock = core::lock(core)?;
    if !library.is_file() {
        fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        compile(source, core, &shim, &dir, &library)?;
    }
    Ok(dir)
}

fn compile(
    source: &Source,
    core: &Core,
    shim: &Path,
    dir: &Path,
    library: &Path,
) -> Result<(), String> {
    let object = |unit: &str| dir.join(format!("{unit}.o"));
    let children = UNITS
        .map(|unit| start(source, core, &shim.join(format!("{unit}.cpp")), &object(unit)))
        .into_iter()
        .collect::<Result<Vec<_>, _>>()?;
    for child in children {
        let output = child.wait_with_output().map_err(|error| error.to_string())?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            eprint!("{text}");
            let first = text.lines().find(|line| line.contains("error")).unwrap_or("see below");
            return Err(format!("the Bitcoin Core shim does not compile: {first}"));
        }
    }
    // Written aside and renamed: an interrupted build leaves no half library.
    let aside = dir.join("libseam_shim.a.new");
    let _ = fs::remove_file(&aside);
    let status = Command::new(env::var_os("AR").unwrap_or_else(|| "ar".into()))
        .arg("crs")
        .arg(&aside)
        .args(UNITS.map(object))
        .status()
        .map_err(|error| format!("cannot run ar: {error}"))?;
    if !status.success() {
        return Err(format!("ar failed: {status}"));
    }
    fs::rename(&aside, library).map_err(|error| format!("{}: {error}", library.display()))
}

fn start(source: &Source, core: &Core, unit: &Path, object: &Path) -> Result<Child, String> {
    let compiler = env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
    let tree = source.dir.join("src");
    Command::new(&compiler)
        .args(FLAGS)
        .arg("-I")
        .arg(&core.include_dir)
        // System headers to the compiler: their warnings are not about the shim.
        .arg("-isystem")
        .arg(&tree)
        .arg("-isystem")
        .arg(tree.join("univalue/include"))
        .arg("-c")
        .arg(unit)
        .arg("-o")
        .arg(object)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot run {compiler}: {error}"))
}
