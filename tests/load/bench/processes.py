"""What is measured: local clusters and HAProxy, and what their processes use."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PROGRAMS = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
# Cheap shares: about four hashes each, so that the generator costs little. Far from the chain's
# difficulty, so that no share is a block.
DIFFICULTY = "1e-9"
# A file system of memory: a sync there does nothing.
MEMORY = Path("/dev/shm")
READY_SECONDS = 120
TICKS = os.sysconf("SC_CLK_TCK")


def wait(what: str, condition, seconds: float = READY_SECONDS, step: float = 0.05):
    """Waits for a condition with a deadline and returns what it returned."""
    until = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > until:
            raise TimeoutError(f"waited {seconds} s for {what}")
        time.sleep(step)
    return value


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass
class Usage:
    """CPU seconds and resident bytes of some processes, summed."""

    cpu: float
    resident: int

    @classmethod
    def of(cls, pids: list[int]) -> Usage:
        cpu, resident = 0.0, 0
        for pid in pids:
            with open(f"/proc/{pid}/stat") as stat:
                fields = stat.read().rsplit(")", 1)[1].split()
            cpu += (int(fields[11]) + int(fields[12])) / TICKS
            with open(f"/proc/{pid}/status") as status:
                anonymous = next(line for line in status if line.startswith("RssAnon:"))
            resident += int(anonymous.split()[1]) * 1024
        return cls(cpu, resident)


@dataclass
class Server:
    """Something that miners connect to. `pids`: who serves them, by role."""

    name: str
    address: str
    pids: dict[str, list[int]] = field(default_factory=dict)

    def usage(self) -> dict[str, Usage]:
        return {role: Usage.of(pids) for role, pids in self.pids.items()}


class Cluster:
    """A cluster on the development signet, started as a developer starts it. A context manager."""

    def __init__(self, nodes: int, proxies: int = 0, *, chain: str = "devnet", parent: Path | None = None) -> None:
        self.nodes, self.proxies, self.chain, self.parent = nodes, proxies, chain, parent
        self.haproxies: list[subprocess.Popen] = []
        self.refused = ""

    def __enter__(self) -> Cluster:
        self.directory = tempfile.TemporaryDirectory(prefix="seam-bench-", dir=self.parent)
        self.path = Path(self.directory.name)
        many = "limits.per_address=100000"
        self.up = subprocess.Popen(
            [PROGRAMS / "seamctl", "dev", "up", "--dir", self.path, "--chain", self.chain, "--rpc",
             "--nodes", str(self.nodes), "--proxies", str(self.proxies), "--authorization", "open",
             "--start-difficulty", DIFFICULTY, "--set", many, "--set-proxy", many,
             "--set", f"difficulty.maximum={DIFFICULTY}"],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)
        try:
            wait("the cluster", self._is_up)
        except BaseException:
            self.__exit__()
            raise
        self.file = self.path / "cluster.json"
        self.members = json.loads(self.file.read_text())
        return self

    def _is_up(self) -> bool:
        if self.up.poll() is not None:
            raise RuntimeError(f"seamctl dev up ended: {self.up.stderr.read().decode()}")
        return (self.path / "cluster.json").exists()

    def __exit__(self, *_) -> None:
        for haproxy in self.haproxies:
            haproxy.terminate()
            haproxy.wait()
        self.up.send_signal(signal.SIGTERM)
        try:
            self.up.wait(90)
        except subprocess.TimeoutExpired:
            os.killpg(self.up.pid, signal.SIGKILL)
            self.up.wait()
        self.directory.cleanup()

    def ctl(self, *words: str) -> dict:
        command = [PROGRAMS / "seamctl", "--json", "--cluster", self.file, *words]
        return json.loads(subprocess.run(command, check=True, capture_output=True, timeout=120).stdout)

    def node_pids(self) -> list[int]:
        return [node["pid"] for node in self.members["nodes"]]

    def direct(self, name: str) -> Server:
        """Miners connected to the nodes themselves, in turn."""
        addresses = ",".join(node["stratum"] for node in self.members["nodes"])
        return Server(name, addresses, {"node": self.node_pids()})

    def proxied(self, name: str) -> Server:
        """Miners connected to the proxies, in turn."""
        addresses = ",".join(proxy["stratum"] for proxy in self.members["proxies"])
        pids = [proxy["pid"] for proxy in self.members["proxies"]]
        return Server(name, addresses, {"node": self.node_pids(), "proxy": pids})

    def behind_haproxy(self, name: str) -> Server:
        """Miners connected to HAProxy in front of the nodes."""
        port = free_port()
        servers = "\n".join(f"  server n{i} {node['stratum']}" for i, node in enumerate(self.members["nodes"]))
        config = self.path / f"haproxy-{port}.cfg"
        config.write_text(
            "global\n  maxconn 9900\n"
            "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n"
            f"frontend miners\n  bind 127.0.0.1:{port} backlog 8192\n  default_backend nodes\n"
            f"backend nodes\n  balance source\n{servers}\n")
        haproxy = subprocess.Popen(["/usr/sbin/haproxy", "-db", "-q", "-f", config])
        self.haproxies.append(haproxy)
        wait("HAProxy", lambda: accepts(port))
        return Server(name, f"127.0.0.1:{port}", {"node": self.node_pids(), "proxy": [haproxy.pid]})

    def rpc(self, method: str, *params):
        """Bitcoin Core's RPC of the first node."""
        node = json.loads((self.path / "dev.json").read_text())["nodes"][0]
        cookie = next(Path(self.members["nodes"][0]["data_dir"]).glob("bitcoin/**/.cookie")).read_text()
        user, password = cookie.split(":")
        request = urllib.request.Request(
            f"http://127.0.0.1:{node['rpc']}/",
            json.dumps({"id": 1, "method": method, "params": params}).encode())
        passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        passwords.add_password(None, request.full_url, user, password)
        opener = urllib.request.build_opener(urllib.request.HTTPBasicAuthHandler(passwords))
        with opener.open(request, timeout=60) as answer:
            return json.load(answer)["result"]

    def new_tip(self) -> None:
        """A block that none of our miners found."""
        self.rpc("generatetodescriptor", 1, "raw(51)", 100_000_000)

    def other_tip(self) -> None:
        """The chain changes its mind about its newest block, or changes it back: a new tip without mining."""
        if self.refused:
            self.rpc("reconsiderblock", self.refused)
            self.refused = ""
        else:
            self.refused = self.rpc("getbestblockhash")
            self.rpc("invalidateblock", self.refused)

    def leader(self) -> str:
        return wait("a leader", lambda: self.ctl("status")["leader"])

    def all_ready(self) -> bool:
        return all(node["ready"] for node in self.ctl("status")["nodes"])


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


class Load:
    """A run of the load generator."""

    def __init__(self, server: Server, sessions: int, *, rate: float | str = 0, ramp: float = 1.0, seconds: float = 8,
                 window: int = 8, options: tuple[str, ...] = ()) -> None:
        self.report_file = tempfile.NamedTemporaryFile(prefix="seam-bench-", suffix=".json")
        urls = [word for address in server.address.split(",") for word in ("--url", address)]
        self.process = subprocess.Popen(
            [PROGRAMS / "seam-load", *urls, "--sessions", str(sessions), "--rate", str(rate), "--ramp", str(ramp),
             "--for", str(seconds), "--window", str(window), "--difficulty", DIFFICULTY,
             "--json", self.report_file.name, *options],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.limit = ramp + seconds + 60

    def join(self) -> dict:
        output, _ = self.process.communicate(timeout=self.limit)
        if self.process.returncode != 0:
            raise RuntimeError(f"seam-load: {output.decode()}")
        return json.loads(Path(self.report_file.name).read_text())

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def connections(pid: int) -> int:
    """Open files of a process, which are its connections and a few more."""
    return len(os.listdir(f"/proc/{pid}/fd"))
