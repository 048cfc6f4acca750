//! Compiles Bitcoin Core, once: every profile, feature set and cargo command finds the same build.
//!
//! A build is a directory `<where>/<key>`, the key a hash of source and options, with `lib`, `bin`,
//! `include`, `build.log` and, when it is whole, `done`. A lock file beside it lets one cargo build
//! while others wait. An interrupted build goes on where it stopped.

use std::env;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use crate::progress::Progress;
use crate::source::Source;

const OPTIONS: [&str; 15] = [
    "-DCMAKE_BUILD_TYPE=Release",
    "-DCMAKE_POSITION_INDEPENDENT_CODE=ON",
    "-DBUILD_DAEMON=ON",
    "-DBUILD_CLI=ON",
    "-DBUILD_BITCOIN_BIN=OFF",
    "-DBUILD_KERNEL_LIB=OFF",
    "-DBUILD_TESTS=OFF",
    "-DBUILD_BENCH=OFF",
    "-DBUILD_TX=OFF",
    "-DBUILD_UTIL=OFF",
    "-DENABLE_WALLET=OFF",
    "-DENABLE_EXTERNAL_SIGNER=OFF",
    "-DENABLE_IPC=OFF",
    "-DWITH_EMBEDDED_ASMAP=OFF",
    "-DINSTALL_MAN=OFF",
];

/// Sources compiled as one: six halves the time; more makes single files too long for few cores.
const UNITY_OPTIONS: [&str; 2] = ["-DCMAKE_UNITY_BUILD=ON", "-DCMAKE_UNITY_BUILD_BATCH_SIZE=6"];

/// The largest of the compilations needs about this much.
const MEMORY_PER_JOB: u64 = 1_500_000_000;

/// The static libraries that make up a node.
const PARTS: [&str; 11] = [
    "bitcoin_node",
    "bitcoin_common",
    "bitcoin_consensus",
    "bitcoin_util",
    "bitcoin_clientversion",
    "bitcoin_crypto",
    "secp256k1",
    "leveldb",
    "crc32c",
    "minisketch",
    "univalue",
];

/// What they are merged into.
pub(crate) const LIBRARY: &str = "seam_bitcoin_core_all";

const INSTALL: &str = "apt-get install -y cmake make g++ libboost-dev";

pub(crate) struct Core {
    pub(crate) lib_dir: PathBuf,
    pub(crate) bin_dir: PathBuf,
    pub(crate) include_dir: PathBuf,
    pub(crate) stamp: PathBuf,
    /// Everything belonging to this build; the shim's builds are in it too.
    pub(crate) dir: PathBuf,
}

pub(crate) fn build(source: &Source, manifest_dir: &Path) -> Result<Core, String> {
    let unity_file = manifest_dir.join("cmake/unity.cmake");
    let unity = fs::read_to_string(&unity_file).map_err(|error| at(&unity_file, &error))?;
    let mut parts = vec![source.identity.as_str(), unity.as_str()];
    parts.extend(OPTIONS);
    parts.extend(UNITY_OPTIONS);
    let compiler = env::var("CXX").unwrap_or_default();
    parts.push(&compiler);

    let place = env::var_os("SEAM_BITCOIN_BUILD_DIR")
        .map_or_else(|| source.target_dir.join("bitcoin-core"), PathBuf::from);
    let dir = place.join(crate::hash(&parts));
    let core = Core {
        lib_dir: dir.join("lib"),
        bin_dir: dir.join("bin"),
        include_dir: dir.join("include"),
        stamp: dir.join("done"),
        dir,
    };
    if core.stamp.is_file() {
        return Ok(core);
    }
    fs::create_dir_all(&core.dir).map_err(|error| at(&core.dir, &error))?;
    let _lock = lock(&core)?;
    // Another cargo may have built it while this one waited for the lock.
    if !core.stamp.is_file() {
        check_tools(source)?;
        compile(source, &core, &unity_file)?;
    }
    Ok(core)
}

/// Held until dropped; the kernel drops it if the process dies.
pub(crate) fn lock(core: &Core) -> Result<File, String> {
    let path = core.dir.join("lock");
    let file = File::create(&path).map_err(|error| at(&path, &error))?;
    file.lock().map_err(|error| at(&path, &error))?;
    Ok(file)
}

fn compile(source: &Source, core: &Core, unity_file: &Path) -> Result<(), String> {
    let log = core.dir.join("build.log");
    let failed = |error: String| {
        format!("Bitcoin Core could not be built: {error}; see the end of {}", log.display())
    };
    let mut progress = Progress::new(&log)?;
    let minutes = if source.is_other_tree { "20" } else { "5 to 10" };
    progress.say(&format!(
        "compiling {}, once: {minutes} minutes on two cores, less with ccache; log in {}",
        source.name,
        log.display()
    ));

    let tree = core.dir.join("build");
    let mut configure = Command::new("cmake");
    configure.arg("-S").arg(&source.dir).arg("-B").arg(&tree).args(OPTIONS);
    if !source.is_other_tree {
        // Which sources collide in a unity build is known for the pinned ones only.
        configure
            .args(UNITY_OPTIONS)
            .arg(format!("-DCMAKE_PROJECT_INCLUDE={}", unity_file.display()));
    }
    progress.run(&mut configure).map_err(failed)?;

    let mut build = Command::new("cmake");
    build.arg("--build").arg(&tree);
    limit_jobs(&mut build);
    progress.run(&mut build).map_err(failed)?;

    install(&tree, core).map_err(failed)?;
    progress.say("done");
    Ok(())
}

/// Shares cargo's job slots with the Rust compiler, unless memory allows fewer jobs than that.
fn limit_jobs(build: &mut Command) {
    let cores: u64 = env::var("NUM_JOBS").ok().and_then(|jobs| jobs.parse().ok()).unwrap_or(1);
    let jobs = available_memory().map_or(cores, |memory| cores.min(memory / MEMORY_PER_JOB).max(1));
    match env::var_os("CARGO_MAKEFLAGS") {
        Some(flags) if jobs == cores => build.env("MAKEFLAGS", flags),
        _ => build.env_remove("MAKEFLAGS").arg(format!("-j{jobs}")),
    };
}

fn available_memory() -> Option<u64> {
    let info = fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// Keeps what is linked and run, and lets the objects go: they are ten times as large.
fn install(tree: &Path, core: &Core) -> Result<(), String> {
    for dir in [&core.lib_dir, &core.bin_dir, &core.include_dir] {
        fs::create_dir_all(dir).map_err(|error| at(dir, &error))?;
    }
    merge(tree, core)?;
    for program in ["bitcoind", "bitcoin-cli"] {
        copy(tree, program, &core.bin_dir)?;
    }
    copy(tree, "bitcoin-build-config.h", &core.include_dir)?;

    let mut stamp = File::create(&core.stamp).map_err(|error| at(&core.stamp, &error))?;
    writeln!(stamp, "Bitcoin Core is built.").map_err(|error| at(&core.stamp, &error))?;
    // Cargo reruns a build script for files younger than its last run, and this one is written
    // during that run: make it old.
    stamp
        .set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1))
        .map_err(|error| at(&core.stamp, &error))?;
    fs::remove_dir_all(tree).map_err(|error| at(tree, &error))
}

/// Makes one archive of all: there is no order to keep then, and no name to share. (The package
/// `secp256k1-sys` has a `libsecp256k1.a`, too, which the linker would find first.)
fn merge(tree: &Path, core: &Core) -> Result<(), String> {
    let mut script = format!("CREATE lib{LIBRARY}.a\n");
    for part in PARTS {
        let name = format!("lib{part}.a");
        copy(tree, &name, &core.lib_dir)?;
        script.push_str(&format!("ADDLIB {name}\n"));
    }
    script.push_str("SAVE\nEND\n");
    let mut ar = Command::new(env::var_os("AR").unwrap_or_else(|| "ar".into()))
        .arg("-M")
        .current_dir(&core.lib_dir)
        .stdin(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot run ar: {error}"))?;
    let mut pipe = ar.stdin.take().ok_or("no pipe to ar")?;
    pipe.write_all(script.as_bytes()).map_err(|error| error.to_string())?;
    drop(pipe);
    let status = ar.wait().map_err(|error| error.to_string())?;
    if !status.success() {
        return Err(format!("ar failed: {status}"));
    }
    for part in PARTS {
        let path = core.lib_dir.join(format!("lib{part}.a"));
        fs::remove_file(&path).map_err(|error| at(&path, &error))?;
    }
    Ok(())
}

/// Copies the one file of that name below `tree`; releases differ in where they put it.
fn copy(tree: &Path, name: &str, to: &Path) -> Result<(), String> {
    let from = find(tree, name)?.ok_or_else(|| format!("the build made no {name}"))?;
    fs::copy(&from, to.join(name)).map(drop).map_err(|error| at(&from, &error))
}

fn find(dir: &Path, name: &str) -> Result<Option<PathBuf>, String> {
    let mut below = Vec::new();
    for entry in fs::read_dir(dir).map_err(|error| at(dir, &error))? {
        let path = entry.map_err(|error| at(dir, &error))?.path();
        if path.is_dir() {
            below.push(path);
        } else if path.file_name().is_some_and(|found| found == name) {
            return Ok(Some(path));
        }
    }
    for dir in below {
        if let Some(path) = find(&dir, name)? {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// Says in one line what is missing; CMake would take a page.
fn check_tools(source: &Source) -> Result<(), String> {
    let mut missing = Vec::new();
    let generator = if env::var_os("CMAKE_GENERATOR").is_some() { None } else { Some("make") };
    for tool in ["cmake"].into_iter().chain(generator) {
        if !runs(Command::new(tool).arg("--version")) {
            missing.push(tool);
        }
    }
    let compiler = env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
    if !compiles(&compiler, "#include <concepts>\n#include <span>\n#include <source_location>\n") {
        missing.push("a C++20 compiler (g++ 12 or clang 17)");
    } else if !compiles(&compiler, "#include <boost/multi_index_container.hpp>\n") {
        missing.push("the Boost headers");
    }
    if source.needs_libevent && !compiles(&compiler, "#include <event2/event.h>\n") {
        missing.push("libevent");
    }
    if missing.is_empty() {
        return Ok(());
    }
    let libevent = if source.needs_libevent { " pkg-config libevent-dev" } else { "" };
    Err(format!("Bitcoin Core needs {}: {INSTALL}{libevent}", missing.join(" and ")))
}

fn runs(command: &mut Command) -> bool {
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn compiles(compiler: &str, program: &str) -> bool {
    let child = Command::new(compiler)
        .args(["-std=c++20", "-fsyntax-only", "-x", "c++", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = child else { return false };
    let written =
        child.stdin.take().is_some_and(|mut pipe| pipe.write_all(program.as_bytes()).is_ok());
    child.wait().is_ok_and(|status| written && status.success())
}

fn at(path: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}", path.display())
}
