//! One machine in place of a Kubernetes cluster: names, ports, disks and secrets for pods.
//!
//! A pod's own network and file system are played by translation: wherever its manifest, its
//! settings or its commands name an address or a mounted directory, the processes are given what
//! stands for it here. Nothing else is changed.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::manifest::{PodSpec, Source};

/// Below what the kernel gives to outgoing connections, so that none of those sits on a port of ours.
const PORTS: std::ops::Range<u16> = 12_000..32_000;

/// Nodes that the manifests' seeds name.
const SEEDS: usize = 7;

/// Where pods live.
pub(crate) struct Host {
    dir: TempDir,
    ports: BTreeMap<(String, u16), u16>,
    /// Services by the address that pods know, and where they are here.
    services: Vec<(String, String)>,
    /// Claims on the ports against other tests; see `ctl/src/dev/layout.rs`, which makes the same.
    _claims: Vec<UdpSocket>,
}

impl Host {
    /// With ports for these pods, and for the nodes that there may be.
    pub(crate) fn new(
        node: &PodSpec,
        others: &[(&str, &PodSpec)],
        services: Vec<(String, String)>,
    ) -> Self {
        let nodes: Vec<String> = (0..SEEDS).map(|number| format!("seam-node-{number}")).collect();
        let pods = nodes.iter().map(|name| (name.as_str(), node)).chain(others.iter().copied());
        let wanted = pods.flat_map(|(name, spec)| {
            spec.ports.values().map(|port| (name.to_owned(), *port)).collect::<Vec<_>>()
        });
        let (mut claims, mut taken) = (Vec::new(), HashSet::new());
        let ports = wanted.map(|key| (key, claim(&mut claims, &mut taken))).collect();
        let dir = tempfile::Builder::new().prefix("seam-pods-").tempdir().unwrap();
        Self { dir, ports, services, _claims: claims }
    }

    /// Where everything is.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Leaves the files behind, for whoever looks into a failure.
    pub(crate) fn keep(&mut self) -> PathBuf {
        self.dir.disable_cleanup(true);
        self.dir().to_owned()
    }

    /// Where a pod's port is.
    pub(crate) fn address(&self, pod: &str, port: u16) -> String {
        let own = self.ports.get(&(pod.to_owned(), port));
        format!("127.0.0.1:{}", own.unwrap_or_else(|| panic!("{pod} has no port {port}")))
    }

    /// Makes the Secrets of so many nodes, with the script that operators use.
    pub(crate) fn make_secrets(&self, nodes: usize) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/k8s/make-secrets");
        let output = Command::new(&script)
            .arg(self.dir().join("made"))
            .args(["--namespace", "seam-dev", "--nodes", &nodes.to_string()])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        // Its own layout: a line for the name, then one for each key.
        let text = String::from_utf8(output.stdout).unwrap();
        for document in text.split("---\n").filter(|document| !document.is_empty()) {
            let field = |key| document.lines().find_map(|line| line.strip_prefix(key)).unwrap();
            let dir = self.secret(field("  name: "));
            fs::create_dir_all(&dir).unwrap();
            let (_, data) = document.split_once("\ndata:\n").unwrap();
            for line in data.lines() {
                let (key, value) = line.trim().split_once(": ").unwrap();
                write_private(&dir.join(key), &decode_base64(value));
            }
        }
    }

    /// A pod's disk.
    pub(crate) fn volume(&self, pod: &str) -> PathBuf {
        self.dir().join("volumes").join(format!("data-{pod}"))
    }

    /// Makes what a pod sees: mounted files, and a `seamctl` that knows the names of this cluster.
    pub(crate) fn prepare(&self, pod: &str, spec: &PodSpec) {
        for mount in &spec.mounts {
            let here = self.mounted(pod, &mount.path, &mount.source);
            fs::create_dir_all(&here).unwrap();
            match &mount.source {
                Source::Files(files) => {
                    for (name, content) in files {
                        fs::write(here.join(name), self.translate(pod, spec, content)).unwrap();
                    }
                }
                Source::Secret(name) => {
                    for file in fs::read_dir(self.secret(name)).unwrap() {
                        let file = file.unwrap();
                        let content = fs::read(file.path()).unwrap();
                        write_private(&here.join(file.file_name()), &content);
                    }
                }
                Source::Claim | Source::Empty => {}
            }
        }
        let bin = self.bin(pod);
        fs::create_dir_all(&bin).unwrap();
        let rules: Vec<String> = self
            .addresses(pod, spec)
            .iter()
            .map(|(from, to)| format!("-e 's/{}/{to}/g'", from.replace('.', "\\.")))
            .collect();
        let script = format!(
            "#!/bin/sh\n# Names that a pod knows, as addresses of this machine.\nfor word; do\n  shift\n  \
             set -- \"$@\" \"$(printf %s \"$word\" | sed {})\"\ndone\nexec '{}' \"$@\"\n",
            rules.join(" "),
            seam_integration::program("seamctl").display()
        );
        let path = bin.join("seamctl");
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A command as the pod's container would run it.
    pub(crate) fn command(&self, pod: &str, spec: &PodSpec, words: &[String]) -> Command {
        let (program, arguments) = words.split_first().unwrap();
        let program = match program.as_str() {
            "seam-node" | "seam-proxy" => seam_integration::program(program),
            "seamctl" => self.bin(pod).join("seamctl"),
            other => PathBuf::from(other),
        };
        let mut command = Command::new(program);
        command
            .args(arguments.iter().map(|word| self.translate(pod, spec, word)))
            .env_clear()
            .env("PATH", format!("{}:/usr/bin:/bin", self.bin(pod).display()));
        let mut known = vec![("metadata.name".to_owned(), pod.to_owned())];
        for (name, value) in &spec.env {
            let mut value = value.clone();
            for (variable, content) in &known {
                value = value.replace(&format!("$({variable})"), content);
            }
            known.push((name.clone(), value.clone()));
            command.env(name, self.translate(pod, spec, &value));
        }
        command
    }

    /// A pod's log, of all its processes.
    pub(crate) fn log(&self, pod: &str) -> PathBuf {
        self.dir().join("logs").join(pod)
    }

    fn translate(&self, pod: &str, spec: &PodSpec, text: &str) -> String {
        let mut text = text.to_owned();
        for (from, to) in self.addresses(pod, spec) {
            text = text.replace(&from, &to);
        }
        for mount in spec.mounts.iter().filter(|mount| mount.path != "/tmp") {
            let here = self.mounted(pod, &mount.path, &mount.source);
            text = text.replace(&mount.path, here.to_str().unwrap());
        }
        text
    }

    /// What stands for which address, seen from a pod.
    fn addresses(&self, pod: &str, spec: &PodSpec) -> Vec<(String, String)> {
        let of_nodes = self.ports.iter().filter(|((name, _), _)| name.starts_with("seam-node-"));
        let mut known: Vec<(String, String)> = of_nodes
            .map(|((name, port), own)| {
                (format!("{name}.seam-node:{port}"), format!("127.0.0.1:{own}"))
            })
            .collect();
        known.extend(self.services.iter().cloned());
        for port in spec.ports.values() {
            let own = self.address(pod, *port);
            known.push((format!("0.0.0.0:{port}"), own.clone()));
            known.push((format!("127.0.0.1:{port}"), own));
        }
        known
    }

    fn mounted(&self, pod: &str, path: &str, source: &Source) -> PathBuf {
        match source {
            Source::Claim => self.volume(pod),
            _ => self.dir().join("pods").join(pod).join(path.trim_start_matches('/')),
        }
    }

    fn secret(&self, name: &str) -> PathBuf {
        self.dir().join("secrets").join(name)
    }

    fn bin(&self, pod: &str) -> PathBuf {
        self.dir().join("pods").join(pod).join("bin")
    }
}

fn claim(claims: &mut Vec<UdpSocket>, taken: &mut HashSet<u16>) -> u16 {
    let span = u32::from(PORTS.end - PORTS.start);
    let start = std::process::id().wrapping_mul(2_654_435_761) % span;
    for step in 0..span {
        let port = PORTS.start + ((start + step) % span) as u16;
        if taken.contains(&port) {
            continue;
        }
        let address = (Ipv4Addr::LOCALHOST, port);
        if let (Ok(socket), Ok(_)) = (UdpSocket::bind(address), TcpListener::bind(address)) {
            claims.push(socket);
            taken.insert(port);
            return port;
        }
    }
    panic!("no free port");
}

fn write_private(path: &Path, content: &[u8]) {
    // Written anew beside it and moved: what reads it while it is renewed sees one or the other.
    let part = path.with_extension("part");
    fs::write(&part, content).unwrap();
    fs::set_permissions(&part, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(&part, path).unwrap();
}

fn decode_base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bits, mut count, mut bytes) = (0u32, 0, Vec::new());
    for byte in text.bytes().filter(|byte| *byte != b'=') {
        let digit = DIGITS.iter().position(|digit| *digit == byte).unwrap();
        bits = bits << 6 | u32::try_from(digit).unwrap();
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}
