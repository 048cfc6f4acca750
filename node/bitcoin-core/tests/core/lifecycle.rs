//! Starting, failing to start, stopping.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use seam_bitcoin_core::{BITCOIND, BlockHash, Chain, Core, Error, Stop};
use tempfile::TempDir;
use tracing::field::{Field, Visit};
use tracing::span;
use tracing::{Event, Metadata, Subscriber};

use crate::support::{Bitcoind, DEADLINE, Wallet, mine, options, start};

#[test]
fn core_starts_reports_and_stops() {
    let (core, dir) = start();
    let status = core.status().unwrap();
    assert_eq!((status.tip.height, status.headers_height), (0, 0));
    assert_eq!(status.chain, Chain::Regtest);
    assert!(status.initial_block_download);
    assert_eq!((status.peers_inbound, status.peers_outbound), (0, 0));
    let genesis = "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206";
    assert_eq!(status.tip.hash.to_string(), genesis);
    assert_eq!(core.wait_for_shutdown_request(Duration::ZERO), None);

    assert_eq!(core.stop(), Ok(()));
    assert_eq!(core.stop(), Ok(()), "stopping twice is stopping");
    assert_eq!(core.status(), Err(Error::Stopping));
    assert!(log_of(dir.path()).contains("Shutdown done"));
    // The directory is free, although this process goes on.
    Bitcoind::start(dir.path()).stop();
}

#[test]
fn dropping_the_last_clone_stops_core() {
    let (core, dir) = start();
    drop(core.clone());
    assert!(core.status().is_ok());
    drop(core);
    assert!(log_of(dir.path()).contains("Shutdown done"));
}

#[test]
fn a_second_core_in_one_process_is_refused() {
    let (core, dir) = start();
    let again = Core::start(&options(dir.path(), &[]));
    assert_eq!(again.map(drop), Err(Error::AlreadyStarted));
    core.stop().unwrap();
    let again = Core::start(&options(dir.path(), &[]));
    assert_eq!(again.map(drop), Err(Error::AlreadyStarted));
}

#[test]
fn signal_handlers_stay_as_they_were() {
    let before = signals();
    let (core, _dir) = start();
    assert_eq!(signals(), before);
    core.stop().unwrap();
    assert_eq!(signals(), before);
}

/// Which signals the process catches and ignores, from the kernel.
fn signals() -> Vec<String> {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let lines =
        status.lines().filter(|line| line.starts_with("SigCgt") || line.starts_with("SigIgn"));
    lines.map(str::to_owned).collect()
}

#[test]
fn an_unknown_option_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let error = Core::start(&options(dir.path(), &["-nosuchoption=1"])).map(drop).unwrap_err();
    assert!(matches!(&error, Error::BadOption(text) if text.contains("nosuchoption")), "{error}");
}

#[test]
fn an_impossible_value_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let error = Core::start(&options(dir.path(), &["-prune=100"])).map(drop).unwrap_err();
    assert!(matches!(&error, Error::BadOption(text) if text.contains("Prune")), "{error}");
}

#[test]
fn a_bad_bitcoin_conf_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("bitcoin.conf"), "this is no option\n").unwrap();
    let error = Core::start(&options(dir.path(), &[])).map(drop).unwrap_err();
    assert!(matches!(&error, Error::BadOption(text) if text.contains("line 1")), "{error}");
}

#[test]
fn bitcoin_conf_is_read_and_extra_options_win() {
    let dir = tempfile::tempdir().unwrap();
    let conf = "[regtest]\nuacomment=fromconf\nmaxconnections=7\n";
    fs::write(dir.path().join("bitcoin.conf"), conf).unwrap();
    let core = Core::start(&options(dir.path(), &["-maxconnections=9"])).unwrap();
    core.stop().unwrap();
    let log = log_of(dir.path());
    assert!(log.contains(r#"[regtest] uacomment="fromconf""#));
    assert!(log.contains("Using at most 9 automatic connections"));
}

#[test]
fn an_unwritable_directory_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    File::create(&file).unwrap();
    let error = Core::start(&options(&file.join("data"), &[])).map(drop).unwrap_err();
    assert!(matches!(error, Error::DataDirectory(_)), "{error}");
}

#[test]
fn a_data_directory_in_use_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let bitcoind = Bitcoind::start(dir.path());
    let error = Core::start(&options(dir.path(), &[])).map(drop).unwrap_err();
    assert!(matches!(&error, Error::DataDirectory(text) if text.contains("lock")), "{error}");
    bitcoind.stop();
}

#[test]
fn a_corrupted_block_database_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    Bitcoind::start(dir.path()).stop();
    for entry in fs::read_dir(dir.path().join("regtest/blocks/index")).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with("MANIFEST") {
            fs::write(path, [0xff; 100]).unwrap();
        }
    }
    let error = Core::start(&options(dir.path(), &[])).map(drop).unwrap_err();
    assert!(matches!(&error, Error::Start(text) if text.contains("-reindex")), "{error}");
}

#[test]
fn a_port_in_use_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let bind = format!("-bind={}", taken.local_addr().unwrap());
    let error = Core::start(&options(dir.path(), &["-listen=1", &bind])).map(drop).unwrap_err();
    assert!(matches!(&error, Error::Start(text) if text.contains("Unable to bind")), "{error}");
}

#[test]
fn a_stop_before_the_start_prevents_it() {
    let dir = tempfile::tempdir().unwrap();
    Stop::default().request();
    let result = Core::start(&options(dir.path(), &[]));
    assert_eq!(result.map(drop), Err(Error::Stopping));
}

/// The moments of a start that its log names.
macro_rules! a_stop_during_the_start_ends_it {
    ($($name:ident: $text:literal,)*) => {
        mod a_stop_during_the_start_ends_it {
            $(#[test]
            fn $name() {
                super::stop_during_start($text);
            })*
        }
    };
}

a_stop_during_the_start_ends_it! {
    while_addresses_are_loaded: "Loading P2P addresses",
    while_the_block_index_is_loaded: "Loading block index",
    when_the_first_block_is_connected: "UpdateTip",
    while_the_network_is_started: "Starting network threads",
    at_its_end: "Done loading",
}

fn stop_during_start(text: &'static str) {
    tracing::subscriber::set_global_default(StopAt(text)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let result = Core::start(&options(dir.path(), &[]));
    assert_eq!(result.map(drop), Err(Error::Stopping));
    assert!(log_of(dir.path()).contains("Shutdown done"));
    // What is left on disk is whole.
    Bitcoind::start(dir.path()).stop();
}

/// Requests a stop when Core's log has a certain text: the moment cannot be missed.
struct StopAt(&'static str);

impl Subscriber for StopAt {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "bitcoin"
    }
    fn event(&self, event: &Event<'_>) {
        struct Text(String);
        impl Visit for Text {
            fn record_debug(&mut self, _: &Field, value: &dyn std::fmt::Debug) {
                self.0.push_str(&format!("{value:?}"));
            }
        }
        let mut text = Text(String::new());
        event.record(&mut text);
        if text.0.contains(self.0) {
            Stop::default().request();
        }
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[test]
fn a_stop_ends_pending_waits() {
    let (core, _dir) = start();
    let tip = core.status().unwrap().tip.hash;
    // A fresh tip: on regtest an old one would end the wait for a template.
    mine(&core, &Wallet::new().segwit_script());
    let template = core.template(&Default::default()).unwrap();
    assert_ne!(template.previous, tip);
    let long = Duration::from_secs(3600);

    let (started, has_started) = mpsc::channel();
    let wait = |run: fn(&Core, &seam_bitcoin_core::Template, Duration) -> Option<Error>| {
        let (core, template, started) = (core.clone(), template.clone(), started.clone());
        thread::spawn(move || {
            started.send(()).unwrap();
            run(&core, &template, long)
        })
    };
    let waits = [
        wait(|core, template, long| core.wait_for_tip(template.previous, long).err()),
        wait(|core, template, long| core.wait_for_template(template, None, long).err()),
        wait(|core, template, long| core.wait_for_template(template, Some(1), long).err()),
    ];
    for _ in &waits {
        has_started.recv_timeout(DEADLINE).unwrap();
    }
    core.stop().unwrap();
    for wait in waits {
        assert_eq!(wait.join().unwrap(), Some(Error::Stopping));
    }
    assert_eq!(template.transactions().unwrap(), [], "a template outlives Core");
}

#[test]
fn a_request_ends_waits_and_is_seen() {
    let (core, _dir) = start();
    let tip = core.status().unwrap().tip.hash;
    let waiting = core.clone();
    let wait = thread::spawn(move || waiting.wait_for_tip(tip, Duration::from_secs(3600)));
    Stop::default().request();
    assert_eq!(wait.join().unwrap(), Err(Error::Stopping));
    let shutdown = core.wait_for_shutdown_request(DEADLINE).unwrap();
    assert_eq!(shutdown.error, None);
    core.stop().unwrap();
}

#[test]
fn core_stopping_by_itself_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    let core = Core::start(&options(dir.path(), &["-stopatheight=2"])).unwrap();
    let script = Wallet::new().segwit_script();
    mine(&core, &script);
    assert_eq!(core.wait_for_shutdown_request(Duration::ZERO), None);
    mine(&core, &script);
    assert!(core.wait_for_shutdown_request(DEADLINE).is_some());
    let waited = core.wait_for_tip(BlockHash::default(), Duration::from_secs(3600));
    assert_eq!(waited, Err(Error::Stopping));
    core.stop().unwrap();
}

/// A small disk that can be filled; `None` where the test may not mount one.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount(megabytes: u32) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "tmpfs"])
            .arg(dir.path())
            .status()
            .ok()?;
        if !status.success() {
            eprintln!("SKIPPED: this test has to mount a small disk, and may not");
            return None;
        }
        Some(Self(dir))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, as files may be open when a test has failed.
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_at_the_start_is_an_error() {
    let Some(disk) = SmallDisk::mount(40) else { return };
    let error = Core::start(&options(disk.0.path(), &[])).map(drop).unwrap_err();
    assert!(matches!(&error, Error::Start(text) if text.contains("isk space")), "{error}");
}

#[test]
fn a_disk_that_fills_up_makes_core_stop_with_an_error() {
    let Some(disk) = SmallDisk::mount(200) else { return };
    // Block files grow in small steps with this option, so that few blocks are enough.
    let core = Core::start(&options(disk.0.path(), &["-fastprune"])).unwrap();
    let script = Wallet::new().segwit_script();
    mine(&core, &script);

    let mut filler = File::create(disk.0.path().join("filler")).unwrap();
    while filler.write_all(&[0xaa; 1 << 16]).is_ok() {}
    // A block whose file cannot grow is not stored, and Core wants to stop.
    let shutdown = loop {
        let template = core.template(&Default::default());
        if let Some(shutdown) = core.wait_for_shutdown_request(Duration::ZERO) {
            break shutdown;
        }
        let template = template.unwrap();
        let block = crate::support::solve(
            &template,
            crate::support::coinbase(&template, &script, &[0; 90]),
        );
        let coinbase = bitcoin::consensus::serialize(&block.txdata[0]);
        let header = block.header;
        // The verdict depends on where Core met the end of the disk.
        let _ = core.submit_solution(
            &template,
            header.version.to_consensus(),
            header.time,
            header.nonce,
            &coinbase,
        );
    };
    let error = shutdown.error.expect("a reason");
    assert!(error.contains("isk space"), "{error}");
    assert!(matches!(core.stop(), Err(Error::Failed(text)) if text.contains("isk space")));
}

#[test]
fn core_is_built_outside_of_any_profile() {
    let built = Path::new(BITCOIND).parent().and_then(Path::parent).unwrap();
    assert!(built.join("done").is_file());
    let profile = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    for profile in [profile.join("debug"), profile.join("release")] {
        assert!(!built.starts_with(&profile), "{} is in a profile", built.display());
    }
}

fn log_of(data_dir: &Path) -> String {
    fs::read_to_string(data_dir.join("regtest/debug.log")).unwrap()
}
